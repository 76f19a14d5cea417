-- Stores an event, unless one of its names has one already.
-- ARGV[3..]: its number, the room for this route, when it is due, when it was received, its names, head
-- and body as they are sealed, and the fields of the record.
local id, room, names_given = ARGV[3], tonumber(ARGV[4]), ARGV[7]
if state(id) then
  -- We were not heard the first time.
  return answer('+', id)
end
for first = 1, #names_given, 16 do
  local found = redis.call('HGET', names, string.sub(names_given, first, first + 15))
  local there = found and state(found)
  if there == 'stored' then
    return answer('=', found)
  elseif there then
    -- It gave that one up: it makes room first.
    return answer('~', found)
  end
end
if bytes_of('stored') + bytes_of('dead') + bytes_of('damaged') + size(id) > room then
  return answer('#')
end
-- The first write of all takes memory, so that a store that is full takes nothing of it.
redis.call('HSET', record, unpack(ARGV, 9))
redis.call('SET', sealed, ARGV[8])
redis.call('ZADD', live, ARGV[6], id)
redis.call('ZADD', due, at(ARGV[5]), id)
redis.call('HINCRBY', counts, 'stored', size(id))
redis.call('HSET', named, id, names_given)
for first = 1, #names_given, 16 do
  redis.call('HSET', names, string.sub(names_given, first, first + 15), id)
end
return answer('+', id)
