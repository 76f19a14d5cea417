-- How did the delivery end that we wait for? Both keys are read at one moment, so that an
-- outcome is never overlooked between them.
-- KEYS: the event, the outcome. ARGV: a word to tell this answer by, the holder's token.
local outcome = redis.pcall('GET', KEYS[2])
if type(outcome) == 'string' then
  return ARGV[1] .. '=' .. outcome
end
local stored = redis.pcall('GET', KEYS[1])
if stored == 'h' .. ARGV[2] then
  return ARGV[1] .. '?'
end
if stored == 'd' or type(stored) == 'string' and #stored == 29 and string.sub(stored, 1, 1) == 's' then
  return ARGV[1] .. '=delivered'
end
return ARGV[1] .. '-'
