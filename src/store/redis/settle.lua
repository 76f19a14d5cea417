-- Our delivery has ended: the event becomes done, or absent again. A holder whose lease
-- was lost has no power over the next one; over an event that nobody holds it has, because
-- what was delivered was delivered. How it ended is kept for those who wait, unless they
-- see it by the event.
-- KEYS: the event, the outcome.
-- ARGV: our token, the window in ms if it was delivered and 0 if not, the outcome or
-- nothing, for how many ms it is kept. The answer is + only if something was written.
local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'table' then
  return ARGV[1] .. '!'
end
local ours = stored == 'h' .. ARGV[1]
if ARGV[2] ~= '0' and (ours or not stored) then
  redis.call('SET', KEYS[1], 'd', 'PX', ARGV[2])
  return ARGV[1] .. '+'
end
if ours then
  redis.call('DEL', KEYS[1])
end
if ARGV[3] == '' then
  return ARGV[1] .. '-'
end
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
return ARGV[1] .. '+'
