//! What the session takes off a connection, other parsers read in the same way: httparse, and llhttp
//! as Node has it, in a process that is asked.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hookgate::proxy::framing::BodyFraming;
use hookgate::proxy::session::{Piece, Session};
use serde::Deserialize;

use super::block_on;
use super::request::wire;

/// The first request of a connection.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    method: String,
    target: Vec<u8>,
    lines: Vec<(Vec<u8>, Vec<u8>)>,
    pub body: Vec<u8>,
}

/// Accepted by us means read alike by all.
pub fn head(data: &[u8]) {
    let Some((ours, framing)) = ours(data) else { return };
    let data = data.strip_prefix(b"\r\n").unwrap_or(data);
    assert_eq!(by_httparse(data, &ours.body, framing), ours, "httparse");
    match by_llhttp(data) {
        Llhttp::Read(theirs) => assert_eq!(theirs, ours, "llhttp"),
        Llhttp::Unknown(method) => assert_eq!(method, ours.method), // it knows a list of methods
        // A tab is white space behind a value (RFC 9110, section 5.6.3), also where llhttp knows none.
        Llhttp::Refused(_) if data.windows(3).any(|w| w == b"\t\r\n") => {}
        Llhttp::Refused(why) => panic!("llhttp refuses it: {why}: {ours:?}"),
    }
}

/// What the session takes first.
pub fn ours(data: &[u8]) -> Option<(Message, BodyFraming)> {
    let mut session = Session::new(Box::new(wire(data.to_vec())));
    let limit = Duration::from_secs(5);
    block_on(async {
        let mut read = None;
        session.read_head(&mut read, limit, limit, || false).await;
        let head = read?.ok()?;
        let mut body = Vec::new();
        loop {
            match session.piece().ok()? {
                Piece::Came(piece) => body.extend_from_slice(&piece),
                Piece::Wait => session.fill().await.ok()?,
                Piece::End => break,
            }
        }
        let lines = head.headers().iter().map(|(name, value)| (name.to_vec(), value.to_vec()));
        let message = Message {
            method: head.method.to_string(),
            target: head.target().to_vec(),
            lines: lines.collect(),
            body,
        };
        Some((message, head.body))
    })
}

fn by_httparse(data: &[u8], body: &[u8], framing: BodyFraming) -> Message {
    let mut slots = [httparse::EMPTY_HEADER; 200];
    let mut request = httparse::Request::new(&mut slots);
    let head = request.parse(data).expect("a head").unwrap();
    let rest = &data[head..];
    let header = |name: &str| request.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
    let read = match framing {
        BodyFraming::Length(length) => {
            let told = header("content-length").map_or(Ok(0), |h| String::from_utf8_lossy(h.value).parse());
            assert_eq!(told, Ok(length));
            rest[..usize::try_from(length).unwrap()].to_vec()
        }
        BodyFraming::Chunked => unchunked(rest).expect("chunks"),
    };
    assert_eq!(read, body);
    Message {
        method: request.method.unwrap().to_owned(),
        target: path(request.path.unwrap().as_bytes()),
        lines: request.headers.iter().map(|h| (h.name.into(), h.value.trim_ascii().into())).collect(),
        body: read,
    }
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let httparse::Status::Complete((at, size)) = httparse::parse_chunk_size(rest).ok()? {
        let end = at + usize::try_from(size).ok()?;
        body.extend_from_slice(rest.get(at..end)?);
        if size == 0 {
            return Some(body);
        }
        rest = rest[end..].strip_prefix(b"\r\n")?;
    }
    None
}

/// What is behind the authority, if the target names one.
fn path(target: &[u8]) -> Vec<u8> {
    let authority = target.windows(3).position(|w| w == b"://").filter(|_| !target.starts_with(b"/"));
    let start = authority.map_or(0, |at| at + 3);
    target[start + target[start..].iter().position(|b| *b == b'/').unwrap()..].to_vec()
}

enum Llhttp {
    Read(Message),
    Refused(String),
    /// The method.
    Unknown(String),
}

/// Text in which every character is a byte.
#[derive(Deserialize)]
struct Told {
    known: bool,
    error: Option<String>,
    method: String,
    url: String,
    headers: Vec<String>,
    body: String,
}

fn by_llhttp(data: &[u8]) -> Llhttp {
    static NODE: OnceLock<Mutex<Node>> = OnceLock::new();
    let mut node =
        NODE.get_or_init(|| Mutex::new(Node::start())).lock().unwrap_or_else(PoisonError::into_inner);
    let told = node.ask(data);
    let bytes = |text: &str| text.chars().map(|c| u8::try_from(c).unwrap()).collect::<Vec<_>>();
    match told.error {
        Some(_) if !told.known => {
            Llhttp::Unknown(String::from_utf8_lossy(data.split(|b| *b == b' ').next().unwrap()).into_owned())
        }
        Some(error) => Llhttp::Refused(error),
        None => Llhttp::Read(Message {
            method: told.method,
            target: path(&bytes(&told.url)),
            lines: told
                .headers
                .chunks(2)
                .map(|line| (bytes(&line[0]), bytes(&line[1]).trim_ascii().to_vec()))
                .collect(),
            body: bytes(&told.body),
        }),
    }
}

struct Node {
    _child: Child,
    asks: ChildStdin,
    tells: BufReader<ChildStdout>,
}

impl Node {
    fn start() -> Self {
        let mut child = Command::new("node")
            .args(["-e", include_str!("llhttp.js")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is needed: it has llhttp");
        let (asks, tells) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Node { _child: child, asks, tells: BufReader::new(tells) }
    }

    fn ask(&mut self, data: &[u8]) -> Told {
        self.asks.write_all(&u32::try_from(data.len()).unwrap().to_le_bytes()).unwrap();
        self.asks.write_all(data).unwrap();
        self.asks.flush().unwrap();
        let mut line = String::new();
        self.tells.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }
}
