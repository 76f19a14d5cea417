-- The event of a name, if it is dead or damaged.
-- ARGV[3]: the name.
local id = redis.call('HGET', names, ARGV[3])
local is = id and state(id)
if is == 'dead' or is == 'damaged' then
  return answer('=', id)
end
return answer('-')
