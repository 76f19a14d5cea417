-- What needs care: events that are due too far away, and those that have been dead for the longest time.
-- ARGV[3..]: the time, the furthest that an attempt can be away, how many.
-- Every stored event is due some time, whatever others did to our keys.
local healed = redis.call('ZCARD', due) < redis.call('ZCARD', live)
if healed then
  for _, id in ipairs(redis.call('ZRANGE', live, 0, -1)) do
    redis.call('ZADD', due, 'NX', at(ARGV[3]), id)
  end
end
local far = redis.call('ZRANGEBYSCORE', due, '(' .. at(ARGV[4]), '+inf', 'LIMIT', 0, ARGV[5])
local parts = { tostring(#far), unpack(far) }
local oldest = redis.call('ZRANGE', dead, 0, ARGV[5] - 1, 'WITHSCORES')
for n = 1, #oldest, 2 do
  table.insert(parts, oldest[n])
  table.insert(parts, told(oldest[n + 1]))
end
return answer(healed and '+' or '=', unpack(parts))
