//! The provider's side: requests signed as providers sign them, and a raw HTTP/1.1
//! client that sends whatever it is told, in whatever pieces.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use data_encoding::BASE64;
use hookgate::clock::to_rfc3339;
use hookgate::config::provider;
use hookgate::config::scheme::compile;
use hookgate::gate::scheme::Recipe;
use hookgate::gate::scheme::algorithm::KeyedMac;
use hookgate::gate::scheme::sign::{Unsigned, lines};
use socket2::{Domain, Socket, Type};

use super::{Head, Headers, LIMIT};

/// What the secret file of a gate holds. Standard Webhooks takes the base64 in it, the
/// others its text.
pub const SECRET: &str = "whsec_YSBrZXkgdGhhdCBvcGVucyBub3RoaW5nIGVsc2U=";

/// The path that the only route of a gate has.
pub const PATH: &str = "/webhooks";

/// Signs as one provider does.
pub struct Signer {
    pub recipe: Recipe,
    key: KeyedMac,
}

impl Signer {
    /// The scheme with that number of a preset, and a secret.
    pub fn new(preset: &str, scheme: usize, secret: &str) -> Self {
        let preset = provider::preset(preset).unwrap();
        let recipe = compile(&preset.schemes[scheme], None, None).unwrap();
        let key = recipe.signer(secret.as_bytes()).unwrap();
        Signer { recipe, key }
    }

    pub fn github() -> Self {
        Signer::new("github", 0, SECRET)
    }

    pub fn stripe() -> Self {
        Signer::new("stripe", 0, SECRET)
    }

    pub fn standard_webhooks() -> Self {
        Signer::new("standard-webhooks", 0, SECRET)
    }

    /// Scalekit's documented form, with the time inside the body.
    pub fn scalekit() -> Self {
        Signer::new("scalekit", 1, SECRET)
    }

    /// The name of the header that holds the signature.
    pub fn header(&self) -> &str {
        self.recipe.signature_headers().next().unwrap().as_str()
    }

    /// The code over exactly these bytes, for contents that no provider would sign.
    pub fn tag(&self, content: &str) -> String {
        let mut mac = self.key.clone();
        mac.update(content.as_bytes());
        self.recipe.signature.encoding.encode(mac.finish())
    }

    /// Signs a body now.
    pub fn sign(&self, body: impl AsRef<[u8]>) -> Request {
        self.sign_at(now_ms(), &unique("evt"), body.as_ref())
    }

    pub fn sign_at(&self, time_ms: i64, id: &str, body: &[u8]) -> Request {
        let signed = self.recipe.sign(&self.key, Unsigned { id, time_ms, body }).unwrap();
        let headers =
            lines(&signed.headers).map(|(name, value)| (name.to_string(), value.to_owned())).collect();
        Request { target: PATH.to_owned(), headers: Headers(headers), body: signed.body }
    }

    /// An event that nobody has sent before.
    pub fn event(&self) -> Request {
        self.event_aged(Duration::ZERO)
    }

    /// The same, made and signed some time ago.
    pub fn event_aged(&self, age: Duration) -> Request {
        self.event_at(now_ms() - i64::try_from(age.as_millis()).unwrap())
    }

    pub fn event_at(&self, time_ms: i64) -> Request {
        let id = unique("evt");
        let body = serde_json::json!({
            "id": id, "type": "user.created", "created": to_rfc3339(time_ms),
            "webhookTimestamp": time_ms, "signedAt": (time_ms / 1000).to_string(), "data": { "n": 1 },
        });
        self.sign_at(time_ms, &id, body.to_string().as_bytes())
    }
}

pub fn now_ms() -> i64 {
    hookgate::clock::now().wall_ms
}

/// A name that no other test uses.
pub fn unique(what: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("{what}_{}_{}_{}", std::process::id(), now_ms(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A POST that is yet to be sent.
#[derive(Clone)]
pub struct Request {
    pub target: String,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Request {
    #[must_use]
    pub fn to(mut self, target: &str) -> Self {
        target.clone_into(&mut self.target);
        self
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.0.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.0.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self
    }

    /// Somebody changed the body on the way.
    #[must_use]
    pub fn tampered(mut self) -> Self {
        match self.body.iter_mut().rfind(|byte| byte.is_ascii_digit()) {
            Some(digit) => *digit ^= 1,
            None => self.body.push(b' '),
        }
        self
    }

    /// The request line and the headers, with those given, and the empty line.
    pub fn head(&self, framing: &str) -> String {
        let mut head = format!("POST {} HTTP/1.1\r\nHost: hooks.example\r\n{framing}", self.target);
        for (name, value) in &self.headers.0 {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        head + "\r\n"
    }

    /// The whole request, its length declared.
    pub fn bytes(&self) -> Vec<u8> {
        let head = self.head(&format!("Content-Length: {}\r\n", self.body.len()));
        [head.as_bytes(), &self.body].concat()
    }

    /// The body in chunks of that size.
    pub fn chunks(&self, size: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len() + 64);
        for chunk in self.body.chunks(size) {
            out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"0\r\n\r\n");
        out
    }
}

/// An answer as the sender read it.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub line: String,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// Status and text, to be compared with the contract.
    pub fn said(&self) -> (u16, String) {
        (self.status, self.text())
    }
}

/// Anything that bytes go over.
pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// One connection to the gate.
pub struct Sender {
    stream: Box<dyn Stream>,
    /// The same socket, for what only a socket can do.
    socket: TcpStream,
    /// Read, but not yet part of an answer.
    buffer: Vec<u8>,
}

impl Sender {
    pub fn connect(address: SocketAddr) -> Self {
        Sender::on(TcpStream::connect(address).unwrap())
    }

    /// From one of the loopback network's other addresses.
    pub fn connect_from(source: &str, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let source: IpAddr = source.parse().unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        Sender::on(socket.into())
    }

    fn on(socket: TcpStream) -> Self {
        let stream = socket.try_clone().unwrap();
        Sender::over(Box::new(stream), socket)
    }

    /// Over something that wraps the socket, such as TLS.
    pub fn over(stream: Box<dyn Stream>, socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.set_write_timeout(Some(LIMIT)).unwrap();
        socket.set_nodelay(true).unwrap();
        Sender { stream, socket, buffer: Vec::new() }
    }

    /// Sends bytes. The gate may have answered and closed already, which is no fault.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        _ = self.stream.write_all(bytes.as_ref()).and_then(|()| self.stream.flush());
    }

    /// Says that nothing more will come. The gate may have ended the connection already.
    pub fn half_close(&self) {
        _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Sends one request and reads its answer.
    pub fn exchange(&mut self, request: &Request) -> Response {
        self.send(request.bytes());
        self.response()
    }

    /// Reads one answer; an interim one counts.
    pub fn response(&mut self) -> Response {
        self.try_response().expect("an answer")
    }

    /// Reads one answer, or the error or the end that came instead.
    pub fn try_response(&mut self) -> io::Result<Response> {
        loop {
            if let Some(head) = Head::parse(&self.buffer) {
                return self.finish(head);
            }
            self.fill()?;
        }
    }

    fn finish(&mut self, head: Head) -> io::Result<Response> {
        self.buffer.drain(..head.length);
        let status: u16 = head.line.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap();
        let length = match head.headers.get("content-length") {
            _ if matches!(status, 100..200 | 204 | 304) => 0,
            Some(length) => length.parse().unwrap(),
            None => panic!("an answer without Content-Length: {}", head.line),
        };
        while self.buffer.len() < length {
            self.fill()?;
        }
        let body = self.buffer.drain(..length).collect();
        Ok(Response { status, line: head.line, headers: head.headers, body })
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.buffer.extend_from_slice(&piece[..read]);
                Ok(())
            }
        }
    }

    /// Waits for the gate to close the connection, and gives what came before that.
    pub fn rest(&mut self) -> Vec<u8> {
        loop {
            match self.fill() {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    panic!("the gate does not close the connection")
                }
                Err(_) => return std::mem::take(&mut self.buffer),
            }
        }
    }

    /// Whether nothing comes for a moment: used only to show that an answer is *not* given
    /// early, so a slow machine can hide a fault but cannot invent one.
    pub fn is_silent(&mut self) -> bool {
        let moment = Duration::from_millis(100);
        self.socket.set_read_timeout(Some(moment)).unwrap();
        let silent =
            self.buffer.is_empty() && self.fill().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        self.socket.set_read_timeout(Some(LIMIT)).unwrap();
        silent
    }
}

/// A secret that opens nothing here.
pub fn other_secret() -> String {
    format!("whsec_{}", BASE64.encode(b"somebody else's key, 32 bytes!!!"))
}
