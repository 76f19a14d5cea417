//! What the gate forwards is read alike by servers that share no code: one request, the
//! same method, target, length and bytes. A peer that is not installed is skipped aloud.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::support::{self, Builder, Dir, Request, Signer};

const NODE: &str = r"
const http = require('http'), crypto = require('crypto');
let seen = 0;
http.createServer((request, response) => {
  const pieces = [];
  request.on('data', piece => pieces.push(piece)).on('end', () => {
    const body = Buffer.concat(pieces);
    const digest = crypto.createHash('sha256').update(body).digest('hex');
    response.end([++seen, request.method, request.url, body.length, digest].join(' '));
  });
}).listen(0, '127.0.0.1', function () { console.log(this.address().port); });
";

const PYTHON: &str = r"
import hashlib, http.server
class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    seen = 0
    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        Echo.seen += 1
        answer = f'{Echo.seen} {self.command} {self.path} {len(body)} {hashlib.sha256(body).hexdigest()}'.encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Echo)
print(server.server_port, flush=True)
server.serve_forever()
";

const UVICORN: &str = r#"
import hashlib, socket, uvicorn
seen = 0
async def echo(scope, receive, send):
    global seen
    if scope['type'] != 'http': return
    body, more = b'', True
    while more:
        piece = await receive()
        body += piece.get('body', b''); more = piece.get('more_body', False)
    seen += 1
    target = scope['raw_path'].decode() + ('?' + scope['query_string'].decode() if scope['query_string'] else '')
    answer = f'{seen} {scope["method"]} {target} {len(body)} {hashlib.sha256(body).hexdigest()}'
    await send({'type': 'http.response.start', 'status': 200, 'headers': []})
    await send({'type': 'http.response.body', 'body': answer.encode()})
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(echo, log_level='critical', lifespan='off')).run(sockets=[listener])
"#;

/// A server of another make.
struct Peer {
    child: Child,
    port: u16,
    /// Whether it tells the digest of the body.
    hashes: bool,
    _dir: Option<Dir>,
}

impl Peer {
    /// Starts a program that prints the port that it listens on.
    fn script(program: &str, args: &[&str]) -> Option<Peer> {
        let mut child =
            Command::new(program).args(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        match line.trim().parse() {
            Ok(port) => Some(Peer { child, port, hashes: true, _dir: None }),
            Err(_) => {
                _ = child.wait();
                None
            }
        }
    }

    fn nginx() -> Option<Peer> {
        let dir = Dir::new();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr;\n\
             events {{}}\n\
             http {{ access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f;\n\
             uwsgi_temp_path u; scgi_temp_path s; client_max_body_size 2m;\n\
             server {{ listen 127.0.0.1:{port};\n\
             location / {{ return 200 \"$connection_requests $request_method $request_uri $content_length\"; }} }} }}\n"
        );
        let config = dir.write("nginx.conf", &config);
        let child = Command::new("nginx")
            .args(["-p", dir.path().to_str()?, "-c", config.to_str()?])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        support::until("nginx", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(Peer { child, port, hashes: false, _dir: Some(dir) })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

static LONG: [u8; 65_537] = [b'a'; 65_537];

/// Requests that the gate takes, plain and peculiar.
fn corpus(signer: &Signer) -> Vec<(Request, bool)> {
    let targets = ["/hooks", "/hooks?a=1&b=%2F..%2f", "/hooks;v=1/x", "/hooks/%C3%A9?q=a+b", "/a%20b"];
    let bodies: [&[u8]; 6] = [b"", b"x", b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n", b"\x00\xff\r\n", &LONG, b"{}"];
    let mut corpus = Vec::new();
    for target in targets {
        for body in bodies {
            for chunked in [false, true] {
                let body = [body, target.as_bytes(), &[u8::from(chunked)]].concat();
                let request = signer.sign(body).to(target).with("X-Empty", "");
                let request = request.with("X-Twice", "1").with("X-Twice", "2").with("Content_Type", "odd");
                corpus.push((request, chunked));
            }
        }
    }
    corpus
}

fn chunked_bytes(request: &Request) -> Vec<u8> {
    let head = request.head("Transfer-Encoding: chunked\r\n");
    [head.as_bytes(), &request.chunks(1 + request.body.len() / 3)].concat()
}

/// What is read in different ways is taken where it is the route's whole path, and below no prefix.
const ROUTES: &str = r#"
routes:
  - { name: all, path: "/*", provider: github, secrets: [{ file: DIR/key-1 }] }
  - { name: parameter, path: "/hooks;v=1/x", provider: github, secrets: [{ file: DIR/key-1 }] }
  - { name: space, path: "/a%20b", provider: github, secrets: [{ file: DIR/key-1 }] }
"#;

fn agrees(name: &str, peer: Option<Peer>) {
    let Some(peer) = peer else {
        eprintln!("SKIPPED: {name} is not installed");
        return;
    };
    let signer = Signer::github();
    let gate = Builder::new(&format!("http://127.0.0.1:{}", peer.port)).config(ROUTES).start();
    for (n, (request, chunked)) in corpus(&signer).into_iter().enumerate() {
        let mut sender = gate.connect();
        sender.send(if chunked { chunked_bytes(&request) } else { request.bytes() });
        let answer = sender.response();
        let text = answer.text();
        assert_eq!(answer.status, 200, "{name}: {} {text}", request.target);
        let told: Vec<_> = text.split(' ').collect();
        let length = request.body.len().to_string();
        assert_eq!(told[1..4], ["POST", &request.target, &length], "{name}");
        if peer.hashes {
            assert_eq!(told[0], (n + 1).to_string(), "{name} saw one request for each that was sent");
            assert_eq!(told[4], HEXLOWER.encode(&Sha256::digest(&request.body)), "{name}");
        }
    }
}

#[test]
fn node_agrees() {
    agrees("node", Peer::script("node", &["-e", NODE]));
}

#[test]
fn python_agrees() {
    agrees("python3", Peer::script("python3", &["-c", PYTHON]));
}

#[test]
fn uvicorn_agrees() {
    agrees("uvicorn", Peer::script("python3", &["-c", UVICORN]));
}

#[test]
fn nginx_agrees() {
    agrees("nginx", Peer::nginx());
}
