-- Changes one event outside of an attempt.
-- ARGV[3..]: its number, what happens, of which states, the time, when it is due.
local id, happens, from = ARGV[3], ARGV[4], state(ARGV[3])
if not from or not string.find(ARGV[5], from, 1, true) then
  return answer('-')
end
local all, found = redis.call('HGET', named, id) or '', fields('received', 'lease', 'keep')
if happens == 'remove' then
  move(id)
  forget_names(id)
  redis.call('DEL', record, sealed)
elseif happens == 'aside' then
  move(id, 'damaged', server)
  redis.pcall('HSET', record, 'lease', '', 'outcome', 'damaged')
elseif happens == 'replay' then
  if not found then
    return answer('-')
  end
  if from == 'dead' then
    move(id, 'stored', found[2])
    redis.call('HSET', record, 'lease', '', 'outcome', 'replayed', 'since', ARGV[6])
    set_due(id, at(ARGV[7]))
  elseif found[3] == '' then
    -- One that is under way is left to its attempt.
    redis.call('HSET', record, 'since', ARGV[6])
    set_due(id, at(ARGV[7]))
  end
elseif happens == 'heal' then
  if not found or found[3] ~= '' then
    return answer('-')
  end
  set_due(id, at(ARGV[7]))
elseif happens == 'look' then
  return answer('=', all)
end
return answer('+', all, found and found[4])
