-- What does a field of a hash hold that others keep? It is only read, and whatever is wrong with it is
-- the hash's own trouble, not the store's.
-- KEYS: the hash. ARGV: a word to tell this answer by, the field.
local value = redis.pcall('HGET', KEYS[1], ARGV[2])
if type(value) == 'string' then
  return ARGV[1] .. '=' .. value
end
if type(value) == 'table' then
  return ARGV[1] .. '!' .. (value.err or 'no value')
end
return ARGV[1] .. '-'
