// Tells what Node made of a request. The path is resolved as browsers and file systems do.
const http = require('http');
const path = require('path');

http.createServer((request, response) => {
  let seen;
  try {
    seen = path.posix.normalize(decodeURIComponent(new URL(request.url, 'http://app').pathname));
  } catch {
    response.writeHead(400).end();
    return;
  }
  const parts = seen.split('/');
  const lines = [`handler=${parts.length > 2 ? parts[1] : 'other'}`];
  lines.push(`method=${request.method}`, `url=${request.url}`);
  for (const name of Object.keys(request.headers).sort()) {
    lines.push(`${name}=${JSON.stringify(request.headers[name])}`);
  }
  request.resume().on('end', () => response.end(lines.join('\n')));
}).listen(Number(process.argv[2]), '127.0.0.1');
