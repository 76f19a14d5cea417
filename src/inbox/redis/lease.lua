-- Counts an attempt, and gives the event to it for a time.
-- ARGV[3..]: its number, until when it is held, how long the lease lasts, and when a missing key is looked for
-- again; the keys that are known.
local id, held = ARGV[3], tonumber(ARGV[4])
local score = tonumber(redis.call('ZSCORE', due, id) or '-1')
local found = fields('lease', 'by', 'attempts', 'keep', 'received', 'since', 'sum')
local bytes = redis.pcall('GET', sealed)
if score < 0 or state(id) ~= 'stored' then
  return answer('-')
end
local again = found and found[2] == word
if score ~= held and not again then
  -- The hold was over, and another gate has it.
  return answer('-')
end
if not found or type(bytes) ~= 'string' then
  move(id, 'damaged', server)
  return answer('!', redis.call('HGET', named, id))
end
if found[3] ~= '' and not string.find(ARGV[7], found[3], 1, true) then
  set_due(id, at(ARGV[6]))
  redis.call('HSET', record, 'outcome', 'key_missing ' .. found[3])
  return answer('?')
end
if not again then
  set_due(id, at(ARGV[5]))
  local counted = redis.pcall('HINCRBY', record, 'attempts', 1)
  if type(counted) == 'table' then
    move(id, 'damaged', server)
    return answer('!', redis.call('HGET', named, id))
  end
  found[4] = tostring(counted)
  if counted >= 3 then
    -- What is under way at each crash may be what causes them: it waits longer each time.
    set_due(id, string.format('%.0f', at(ARGV[5]) + 1000 * 2 ^ math.min(counted - 3, 11)))
  end
  redis.call('HSET', record, 'lease', word)
end
return answer('+', redis.call('HGET', named, id), bytes, unpack(found))
