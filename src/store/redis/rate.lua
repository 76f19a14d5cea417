-- One request under a limit that gates share: the generic cell rate algorithm, by the
-- server's clock. What is stored is the theoretical arrival time of the next request.
-- KEYS: the client's cell. ARGV: a word to tell this answer by, the time that a request
-- uses up and the time that may be used up in advance, both in microseconds.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'table' then
  return ARGV[1] .. '!'
end
local arrival = math.max(tonumber(stored or 0) or 0, now) + ARGV[2]
local early = arrival - now - ARGV[3]
if early > 0 then
  return ARGV[1] .. '=' .. string.format('%.0f', early)
end
redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000))
return ARGV[1] .. '+'
