-- An operator lets an event be delivered again. One that is held stays held, be it by a delivery or by the
-- inbox.
-- KEYS: the event. ARGV: a word to tell this answer by.
local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'table' then
  return ARGV[1] .. '!'
end
if stored == 'd' then
  redis.call('DEL', KEYS[1])
  return ARGV[1] .. '=d'
end
if stored then
  return ARGV[1] .. '=h'
end
return ARGV[1] .. '-'
