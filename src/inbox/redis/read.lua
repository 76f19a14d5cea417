-- One record.
-- ARGV[3..]: its number, whether its bytes are meant as well.
local id = ARGV[3]
local is = state(id)
if not is then
  return answer('-')
end
local score = redis.call('ZSCORE', due, id)
local found = fields('tenant', 'event_id', 'event_type', 'received', 'attempts', 'outcome', 'since', 'by', 'sum', 'keep')
  or { nothing }
local bytes = ARGV[4] == '1' and redis.pcall('GET', sealed) or nothing
if type(bytes) == 'table' then
  bytes = nothing
end
local all = redis.call('HGET', named, id)
return answer('=', is, score and told(score) or nothing, all or nothing, bytes, unpack(found))
