-- Numbers of events of one state behind a place, each with what it is ordered by and its names.
-- ARGV[3..]: the state, what the last one was ordered by, the beginning of its number, how many.
local set, after, last, most = sets[ARGV[3]], tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])

-- By bytes: how texts are compared depends on the server's language.
local function is_behind(id)
  for n = 1, #last do
    local ours, its = string.byte(last, n), string.byte(id, n)
    if ours ~= its then
      return its > ours
    end
  end
  return false
end

local parts, from = {}, 0
repeat
  local found = redis.call('ZRANGEBYSCORE', set, ARGV[4], '+inf', 'WITHSCORES', 'LIMIT', from, most)
  for n = 1, #found, 2 do
    if tonumber(found[n + 1]) > after or is_behind(found[n]) then
      table.insert(parts, found[n])
      table.insert(parts, found[n + 1])
      table.insert(parts, redis.call('HGET', named, found[n]) or nothing)
    end
  end
  from = from + most
until #found < 2 * most or #parts > 0
return answer('=', unpack(parts))
