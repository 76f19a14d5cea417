-- wrk script: sends each request of a file once (each after its length in four bytes, least
-- significant first), and prints one line of JSON. Arguments: the file, and how many milliseconds
-- each connection waits before it sends the next one.
local requests, sent, wait = {}, 0, 0

function init(args)
  wait = tonumber(args[2] or 0)
  local file = assert(io.open(args[1], 'rb'))
  for length in function() return file:read(4) end do
    local a, b, c, d = length:byte(1, 4)
    requests[#requests + 1] = file:read(a + b * 0x100 + c * 0x10000 + d * 0x1000000)
  end
  file:close()
end

function request()
  sent = sent % #requests + 1 -- whoever started the run checks that it never starts over
  return requests[sent]
end

function delay()
  return wait
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    '{"answers":%d,"seconds":%f,"refused":%d,"broken":%d,"p50":%f,"p99":%f}',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
