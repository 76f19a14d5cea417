-- What every script of the inbox begins with. All keys of one route are in one slot of a cluster, so each step
-- is one transaction over all that is known of its events.
-- KEYS: due (stored events by when their attempt is due), live (the same by when they were received), dead and
-- damaged (by since when they are), names (the event of a name), named (the names of an event), counts (bytes
-- by state), paused, and for most scripts the record of one event, and its head and body as they are sealed: small
-- fields take half of the memory that they take beside a large one.
-- ARGV: a word to tell this answer by, the gate's clock in ms, and what the script says.
local due, live, dead, damaged, names, named, counts, paused, record, sealed = unpack(KEYS)
local word, nothing = ARGV[1], ''
local sets = { stored = live, dead = dead, damaged = damaged }

-- Times are kept by the server's clock, so that gates whose clocks differ agree who has an event for how long.
-- Who differs by less than a second is right.
local clock = redis.call('TIME')
local server = clock[1] * 1000 + math.floor(clock[2] / 1000)
local skew = server - ARGV[2]
if math.abs(skew) < 1000 then
  skew = 0
end

local function at(time)
  return string.format('%.0f', tonumber(time) + skew)
end

local function told(time)
  return string.format('%.0f', tonumber(time) - skew)
end

-- The end of an event's number says how many bytes it takes, so that no record need be read to count.
local function size(id)
  local a, b, c, d = string.byte(id, 11, 14)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

local function state(id)
  for name, set in pairs(sets) do
    if redis.call('ZSCORE', set, id) then
      return name
    end
  end
end

-- What frees memory comes before what takes some: after its first write a script may go on in a store that is
-- full.
local function move(id, to, since)
  local from = state(id)
  redis.call('ZREM', due, id)
  if from then
    redis.call('ZREM', sets[from], id)
    redis.call('HINCRBY', counts, from, -size(id))
  end
  if to then
    redis.call('ZADD', sets[to], since, id)
    redis.call('HINCRBY', counts, to, size(id))
  end
end

local function set_due(id, time)
  redis.call('ZREM', due, id)
  redis.call('ZADD', due, time, id)
end

local function forget_names(id)
  local all = redis.call('HGET', named, id) or ''
  for first = 1, #all, 16 do
    local name = string.sub(all, first, first + 15)
    if redis.call('HGET', names, name) == id then
      redis.call('HDEL', names, name)
    end
  end
  redis.call('HDEL', named, id)
  return all
end

local function bytes_of(name)
  local set, count = sets[name], redis.call('HGET', counts, name) or '0'
  -- What others may have taken away from under us is not counted for ever.
  if count ~= '0' and redis.call('ZCARD', set) == 0 then
    redis.call('HDEL', counts, name)
    return '0'
  end
  return count
end

-- Every answer tells how much there is.
local function answer(status, ...)
  local oldest = redis.call('ZRANGE', live, 0, 0, 'WITHSCORES')[2] or nothing
  local next = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2]
  if redis.call('EXISTS', paused) == 1 then
    next = nil
  end
  local parts = { word .. status }
  for _, name in ipairs({ 'stored', 'dead', 'damaged' }) do
    table.insert(parts, tostring(redis.call('ZCARD', sets[name])))
    table.insert(parts, bytes_of(name))
  end
  table.insert(parts, oldest)
  table.insert(parts, next and told(next) or nothing)
  for _, part in ipairs({ ... }) do
    table.insert(parts, part or nothing)
  end
  return parts
end

-- What stands in the record; nothing if it is no record.
local function fields(...)
  local found = redis.pcall('HMGET', record, 'key', ...)
  if found.err or not found[1] then
    return nil
  end
  for n = 1, #found do
    found[n] = found[n] or nothing
  end
  return found
end

