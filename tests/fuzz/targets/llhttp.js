// Tells how llhttp, in its strict mode, reads the first request of each input that comes: four bytes
// with its length, and the input. An answer is a line of JSON in which every character is a byte.
const { HTTPParser, methods } = require('_http_common');

function read(input) {
  const told = { method: '', url: '', headers: [], body: '' };
  let complete = false;
  let body = false; // what comes as headers then is trailers
  const parser = new HTTPParser();
  parser.initialize(HTTPParser.REQUEST, {}, 1 << 20);
  parser[HTTPParser.kOnHeaders | 0] = (headers, url) => {
    if (body) return;
    told.headers.push(...headers);
    told.url += url;
  };
  parser[HTTPParser.kOnHeadersComplete | 0] = (major, minor, headers, method, url) => {
    if (body) return;
    body = true;
    told.method = methods[method];
    told.headers.push(...(headers || []));
    told.url += url || '';
  };
  parser[HTTPParser.kOnBody | 0] = (piece) => {
    if (!complete) told.body += piece.toString('latin1');
  };
  parser[HTTPParser.kOnMessageComplete | 0] = () => {
    complete = true;
  };
  const outcome = parser.execute(input);
  told.known = methods.includes(input.toString('latin1').split(' ', 1)[0]);
  if (!complete) told.error = outcome instanceof Error ? `${outcome.code} ${outcome.reason}` : 'incomplete';
  return told;
}

let waiting = Buffer.alloc(0);
process.stdin.on('data', (data) => {
  waiting = Buffer.concat([waiting, data]);
  while (waiting.length >= 4 && waiting.length >= 4 + waiting.readUInt32LE()) {
    const length = waiting.readUInt32LE();
    process.stdout.write(JSON.stringify(read(waiting.subarray(4, 4 + length))) + '\n');
    waiting = waiting.subarray(4 + length);
  }
});
