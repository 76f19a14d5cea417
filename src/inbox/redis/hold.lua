-- Takes the first events that are due, for as long as it takes to lease each of them: no other gate is told of
-- them meanwhile.
-- ARGV[3..]: the time, until when they are held, how many.
if redis.call('EXISTS', paused) == 1 then
  return answer('-', nothing)
end
local until_then = at(ARGV[4])
local found = redis.call('ZRANGEBYSCORE', due, '-inf', at(ARGV[3]), 'LIMIT', 0, ARGV[5])
for _, id in ipairs(found) do
  set_due(id, until_then)
  if #id ~= 14 then
    -- No gate wrote that.
    redis.call('ZREM', due, id)
  end
end
return answer(#found > 0 and '+' or '-', until_then, unpack(found))
