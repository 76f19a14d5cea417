-- What an attempt came to, if it is the last one and nothing has happened to its event since.
-- ARGV[3..]: its number, the attempt, what it came to, a time, the outcome.
local id, came_to = ARGV[3], ARGV[5]
local found = fields('attempts', 'lease', 'keep')
if not found or state(id) ~= 'stored' or found[2] ~= ARGV[4] or found[3] == '' then
  return answer('-')
end
local all = redis.call('HGET', named, id) or ''
if came_to == 'done' then
  move(id)
  forget_names(id)
  redis.call('DEL', record, sealed)
elseif came_to == 'later' then
  set_due(id, at(ARGV[6]))
  redis.call('HSET', record, 'lease', '', 'outcome', ARGV[7])
elseif came_to == 'dead' then
  move(id, 'dead', at(ARGV[6]))
  redis.call('HSET', record, 'lease', '', 'outcome', ARGV[7])
else
  return answer('=', all)
end
return answer('+', all, found[4])
