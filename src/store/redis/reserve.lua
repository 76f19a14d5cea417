-- An event that is absent becomes held by us. Tells what was found. Asked once more by who did
-- not hear the answer, it is held by us already.
-- KEYS: the event. ARGV: our token, the lease in ms.
local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'table' then
  return ARGV[1] .. '!'
end
if stored and stored ~= 'h' .. ARGV[1] then
  return ARGV[1] .. '=' .. stored
end
redis.call('SET', KEYS[1], 'h' .. ARGV[1], 'PX', ARGV[2])
return ARGV[1] .. '+'
