# Tells what Puma made of a request. The path is resolved as file systems do.
run(lambda do |env|
  env['rack.input']&.read
  parts = File.expand_path(env['PATH_INFO'], '/').split('/')
  handler = parts.length > 2 || env['PATH_INFO'].end_with?('/') ? parts[1] : 'other'
  seen = env.select { |_, value| value.is_a?(String) }.sort
  answer = (["handler=#{handler}"] + seen.map { |name, value| "#{name}=#{value.inspect}" }).join("\n")
  [200, { 'content-length' => answer.bytesize.to_s }, [answer]]
end)
