-- Holds the route's events back, or lets them go on.
-- ARGV[3]: which, or nothing to be told only.
if ARGV[3] == 'on' then
  redis.call('SET', paused, '1')
  return answer('+')
elseif ARGV[3] == 'off' then
  redis.call('DEL', paused)
  return answer('+')
end
return answer('=', tostring(redis.call('EXISTS', paused)))
