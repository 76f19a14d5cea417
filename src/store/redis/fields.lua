-- A part of what a hash holds that others keep, for who counts it. It is only read.
-- KEYS: the hash. ARGV: a word to tell this answer by, where the part begins.
-- The answer: where the next part begins, then names and values in turn, each with its length before it.
local part = redis.pcall('HSCAN', KEYS[1], ARGV[2], 'COUNT', 1000)
if part.err then
  return ARGV[1] .. '!' .. part.err
end
local told = { ARGV[1], '=', #part[1], ':', part[1] }
for _, text in ipairs(part[2]) do
  told[#told + 1] = #text .. ':' .. text
end
return table.concat(told)
