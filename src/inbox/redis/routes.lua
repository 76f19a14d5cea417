-- The routes that have had something stored; with one more.
-- KEYS: the routes. ARGV: a word to tell this answer by, a route or nothing.
if ARGV[2] ~= '' and redis.call('SADD', KEYS[1], ARGV[2]) == 1 then
  return { ARGV[1] .. '+', unpack(redis.call('SMEMBERS', KEYS[1])) }
end
return { ARGV[1] .. '=', unpack(redis.call('SMEMBERS', KEYS[1])) }
