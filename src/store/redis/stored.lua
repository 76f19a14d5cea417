-- The inbox has an event, or has it no more: what its name says from now on.
-- KEYS: the event.
-- ARGV: a word to tell this answer by, the mark of the inbox's record, what is meant, for how many ms it is
-- remembered.
-- `takes`: who holds the event puts it into the inbox. `has`: it is there, which whoever holds the event, or
-- has delivered it, need not know. `delivered`: it was there, and the application has it. `leaves`: it is
-- there no more, and a copy is to be delivered.
local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'table' then
  return ARGV[1] .. '!'
end
local meant = ARGV[3]
local marked = stored and #stored == 29 and string.sub(stored, 1, 1) == 's'
local ours = stored == ARGV[2]
if meant == 'takes' and stored ~= 'd' or meant == 'has' and (marked or not stored) then
  -- It is not known for a shorter time by being said again.
  local left = ours and redis.call('PTTL', KEYS[1]) or 0
  redis.call('SET', KEYS[1], ARGV[2], 'PX', math.max(left, tonumber(ARGV[4])))
  return ARGV[1] .. '+'
end
if meant == 'delivered' and (ours or not stored) then
  redis.call('SET', KEYS[1], 'd', 'PX', ARGV[4])
  return ARGV[1] .. '+'
end
if meant == 'leaves' and ours then
  redis.call('DEL', KEYS[1])
  return ARGV[1] .. '+'
end
return ARGV[1] .. '=' .. (stored or '')
