//! One complete exchange with the application: connect, send, read the whole answer.
//!
//! The head and the verified body leave in one write on a stream of our own; a request
//! is sent once and never again, because a POST that broke may have been processed. The answer may
//! come before the whole request was taken.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use pingora_timeout::{sleep, timeout};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host, tcp, unix};

use super::deadline::{self, Deadline};
use super::framing;
use super::lane::Busy;
use super::respond::REQUEST_ID;
use crate::budget::Share;
use crate::config::units::UpstreamUrl;
use crate::lock::lock;
use crate::telemetry::log::digits;

/// The application, and idle connections to it.
pub struct Upstream {
    url: UpstreamUrl,
    connect_timeout: Duration,
    idle: Mutex<Vec<Connection>>,
}

/// The application's whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// Its status line and the headers that are passed on, each with its line's end.
    pub head: Vec<u8>,
    pub body: Bytes,
    /// What it holds until it is written, together with what it took to get it.
    pub share: Option<Share>,
}

/// Why there is no answer to pass on.
#[derive(Debug)]
pub enum Undelivered {
    /// It was not called: too much of the route waits for it.
    Waited(Busy),
    /// It was not called: nobody can say by which keys the application would believe the event.
    Unsigned,
    /// The application saw nothing. Where it was looked for last, and what came of that.
    Unreachable(Option<(String, io::Error)>),
    /// It may have seen the request; whether it processed it is not known. That holds as well for
    /// a kept connection whose end was on its way when the request left: a reset looks the same
    /// whether the application closed before it read or after.
    Broken,
    /// The same, because the connection failed.
    Lost(io::Error),
    /// It saw the request and did not answer in time.
    TimedOut,
    /// It answered with that status. What came after the head cannot be passed on: it is cut,
    /// wrongly framed, too long or too late.
    Cut { status: u16 },
}

/// Shorter than the keep-alive of common application servers, so that we let go first.
const IDLE: Duration = Duration::from_secs(1);
const MAX_IDLE: usize = 128;
/// Between two attempts to connect to an application that is just restarting.
const CONNECT_STEP: Duration = Duration::from_millis(25);
const MAX_REPLY_BODY: usize = 1 << 20;
/// A shorter answer is part of what every delivery takes.
const SHORT_REPLY: usize = 8 * 1024;
const MAX_REPLY_HEAD: usize = 64 * 1024;
const MAX_REPLY_HEADERS: usize = 128;
const MAX_TRAILERS: usize = 64;

impl Upstream {
    pub fn new(url: UpstreamUrl, connect_timeout: Duration) -> Self {
        Upstream { url, connect_timeout, idle: Mutex::default() }
    }

    pub fn url(&self) -> &UpstreamUrl {
        &self.url
    }

    /// Sends the head and the body, and reads the answer, a long one within `share`. `limit`
    /// bounds everything after the connection is there.
    pub async fn exchange(
        &self,
        head: &[u8],
        body: &[u8],
        limit: Duration,
        share: &mut Share,
    ) -> Result<Reply, Undelivered> {
        loop {
            let (mut connection, is_new) = match self.take_idle() {
                Some(idle) => (idle, false),
                None => (Box::pin(self.connect()).await?, true),
            };
            match connection.exchange(head, body, limit, share).await {
                // Not a byte was taken: the application had closed it, another one will do.
                Err(Undelivered::Unreachable(_)) if !is_new => {}
                Err(undelivered) => return Err(undelivered),
                Ok((reply, reusable)) => {
                    if reusable {
                        self.put_back(connection);
                    }
                    return Ok(reply);
                }
            }
        }
    }

    /// A new connection, tried for as long as the connect time-out allows.
    async fn connect(&self) -> Result<Connection, Undelivered> {
        let mut last = None;
        let attempts = async {
            loop {
                match self.connect_once(&mut last).await {
                    Some(stream) => return Connection::new(stream),
                    None => sleep(CONNECT_STEP).await,
                }
            }
        };
        let connected = timeout(self.connect_timeout, attempts).await.ok();
        connected.ok_or(Undelivered::Unreachable(last))
    }

    /// Tries all addresses of the name, as it is resolved now, in turn; each gets its part of the
    /// time, as one of them may swallow what is sent to it. `last` is told why one did not answer.
    async fn connect_once(&self, last: &mut Option<(String, io::Error)>) -> Option<Stream> {
        let (host, port) = match &self.url {
            UpstreamUrl::Unix(path) => {
                let connected = UnixStream::connect(path).await;
                return connected
                    .map(Stream::Unix)
                    .map_err(|e| *last = Some((path.display().to_string(), e)))
                    .ok();
            }
            UpstreamUrl::Tcp { host, port } => (host.as_str(), *port),
        };
        let addresses: Vec<SocketAddr> = match lookup_host((host, port)).await {
            Ok(addresses) => addresses.collect(),
            Err(error) => {
                *last = Some((self.url.authority(), error));
                return None;
            }
        };
        let each = self.connect_timeout / u32::try_from(addresses.len()).unwrap_or(1).max(1);
        for address in addresses {
            let connected = timeout(each, TcpStream::connect(address)).await;
            match connected.unwrap_or(Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => {
                    _ = stream.set_nodelay(true); // fails only on a connection that is gone
                    return Some(Stream::Tcp(stream));
                }
                Err(error) => *last = Some((address.to_string(), error)),
            }
        }
        None
    }

    /// The most recently used connection that is still open.
    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle();
        while let Some(connection) = idle.pop() {
            if connection.is_young() && connection.stream.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    fn put_back(&self, mut connection: Connection) {
        connection.since = deadline::tick();
        let mut idle = self.idle();
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }

    /// Closes connections that have been idle for too long.
    pub fn prune(&self) {
        self.idle().retain(Connection::is_young);
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        lock(&self.idle)
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        match self {
            Stream::Tcp(stream) => {
                let (reader, writer) = stream.split();
                (Reader::Tcp(reader), Writer::Tcp(writer))
            }
            Stream::Unix(stream) => {
                let (reader, writer) = stream.split();
                (Reader::Unix(reader), Writer::Unix(writer))
            }
        }
    }

    /// Nothing to read, not even the end: the connection can be used.
    fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let read = match self {
            Stream::Tcp(stream) => stream.try_read(&mut byte),
            Stream::Unix(stream) => stream.try_read(&mut byte),
        };
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

enum Reader<'s> {
    Tcp(tcp::ReadHalf<'s>),
    Unix(unix::ReadHalf<'s>),
}

enum Writer<'s> {
    Tcp(tcp::WriteHalf<'s>),
    Unix(unix::WriteHalf<'s>),
}

impl Writer<'_> {
    /// Fails only if not a byte was taken. A write that breaks off later is left to the
    /// reading side: the application may have answered early and closed.
    async fn write(&mut self, mut head: &[u8], mut body: &[u8]) -> Result<(), Undelivered> {
        let mut untouched = true;
        while !head.is_empty() || !body.is_empty() {
            let slices = [IoSlice::new(head), IoSlice::new(body)];
            let written = match self {
                Writer::Tcp(writer) => writer.write_vectored(&slices).await,
                Writer::Unix(writer) => writer.write_vectored(&slices).await,
            };
            match written {
                Ok(0) | Err(_) if untouched => return Err(Undelivered::Unreachable(None)),
                Ok(0) | Err(_) => break,
                Ok(mut written) => {
                    untouched = false;
                    let of_head = written.min(head.len());
                    head.advance(of_head);
                    written -= of_head;
                    body.advance(written);
                }
            }
        }
        Ok(())
    }
}

/// What an answer may hold.
struct Room<'s> {
    share: &'s mut Share,
    taken: usize,
}

impl Room<'_> {
    /// A body is there twice while it is read, and while it is written.
    async fn for_body(&mut self, length: usize) -> Result<(), Undelivered> {
        if 2 * length > self.taken {
            let more = (2 * length).next_power_of_two() - self.taken;
            self.share.take_room(more).await.map_err(|_| Undelivered::Broken)?;
            self.taken += more;
        }
        Ok(())
    }
}

/// A stream to the application and what was read from it.
struct Connection {
    stream: Stream,
    buffer: BytesMut,
    /// For its calls.
    deadline: Arc<Deadline>,
    /// Idle since this tick.
    since: u64,
}

impl Connection {
    fn new(stream: Stream) -> Self {
        Connection { stream, buffer: BytesMut::new(), deadline: Deadline::new(), since: 0 }
    }

    /// The answer, and whether the connection can be used again.
    async fn exchange(
        &mut self,
        head: &[u8],
        body: &[u8],
        limit: Duration,
        share: &mut Share,
    ) -> Result<(Reply, bool), Undelivered> {
        let mut said = None;
        let Connection { stream, buffer, deadline, .. } = self;
        let ended = {
            let exchange = pin!(async {
                let (reader, mut writer) = stream.split();
                let mut answer = Answer { reader, buffer };
                let mut reading = pin!(async {
                    let mut reply = answer.read_final_head().await?;
                    if head.starts_with(b"HEAD ") {
                        reply.without_body();
                    }
                    said = Some(reply.status);
                    answer.read_body(reply, Room { share, taken: SHORT_REPLY }).await
                });
                tokio::select! {
                    biased;
                    written = writer.write(head, body) => written?,
                    // It has heard enough. What it did not take is in the way of another request.
                    early = &mut reading => return early.map(|(reply, _)| (reply, false)),
                }
                reading.await
            });
            deadline.within(limit, exchange, || false).await.unwrap_or(Err(Undelivered::TimedOut))
        };
        // Whatever goes wrong after the head takes nothing back of what the head said.
        ended.map_err(|fault| match said {
            Some(status) => Undelivered::Cut { status },
            None => fault,
        })
    }

    fn is_young(&self) -> bool {
        deadline::tick() < self.since + deadline::ticks(IDLE)
    }
}

/// What comes from the application, and what was read of it.
struct Answer<'c> {
    reader: Reader<'c>,
    buffer: &'c mut BytesMut,
}

impl Answer<'_> {
    /// The head of the answer. Interim answers in front of it, however many, say nothing about the
    /// event.
    async fn read_final_head(&mut self) -> Result<ReplyHead, Undelivered> {
        loop {
            let head = self.read_head().await?;
            match head.status {
                101 => return Err(Undelivered::Broken), // nobody asked to switch protocols
                ..200 => {}
                _ => return Ok(head),
            }
        }
    }

    async fn read_head(&mut self) -> Result<ReplyHead, Undelivered> {
        loop {
            if !self.buffer.is_empty() {
                if let Some(head) = ReplyHead::take(self.buffer)? {
                    return Ok(head);
                }
                if self.buffer.len() > MAX_REPLY_HEAD {
                    return Err(Undelivered::Broken);
                }
            }
            self.fill().await?;
        }
    }

    /// The whole answer, and whether the connection may be used again.
    async fn read_body(&mut self, head: ReplyHead, mut room: Room<'_>) -> Result<(Reply, bool), Undelivered> {
        let ReplyHead { status, mut head, framing, mut reusable } = head;
        let body = match framing {
            Framing::Empty => Bytes::new(),
            Framing::Length(length) => {
                let length = usize::try_from(length)
                    .ok()
                    .filter(|l| *l <= MAX_REPLY_BODY)
                    .ok_or(Undelivered::Broken)?;
                room.for_body(length).await?;
                self.buffer.reserve(length.saturating_sub(self.buffer.len()));
                while self.buffer.len() < length {
                    self.fill().await?;
                }
                self.buffer.split_to(length).freeze()
            }
            Framing::Chunked => self.read_chunks(room).await?,
            Framing::UntilClosed => {
                reusable = false;
                while self.buffer.len() <= MAX_REPLY_BODY && self.fill_or_end().await? {
                    room.for_body(self.buffer.len()).await?;
                }
                if self.buffer.len() > MAX_REPLY_BODY {
                    return Err(Undelivered::Broken);
                }
                self.buffer.split().freeze()
            }
        };
        reusable &= self.buffer.is_empty();
        if framing != Framing::Empty {
            super::respond::length(&mut head, body.len());
        }
        Ok((Reply { status, head, body, share: None }, reusable))
    }

    async fn read_chunks(&mut self, mut room: Room<'_>) -> Result<Bytes, Undelivered> {
        let mut body = BytesMut::new();
        loop {
            let size = self.read_line().await?;
            let size = framing::chunk_size(&size).map_err(|_| Undelivered::Broken)?;
            let size = usize::try_from(size).map_err(|_| Undelivered::Broken)?;
            if body.len() + size > MAX_REPLY_BODY {
                return Err(Undelivered::Broken);
            }
            if size == 0 {
                break;
            }
            room.for_body(body.len() + size).await?;
            while self.buffer.len() < size + 2 {
                self.fill().await?;
            }
            body.extend_from_slice(&self.buffer[..size]);
            self.buffer.advance(size);
            if !self.buffer.starts_with(b"\r\n") {
                return Err(Undelivered::Broken);
            }
            self.buffer.advance(2);
        }
        for _ in 0..=MAX_TRAILERS {
            if self.read_line().await?.is_empty() {
                return Ok(body.freeze()); // trailers are dropped
            }
        }
        Err(Undelivered::Broken)
    }

    async fn read_line(&mut self) -> Result<Bytes, Undelivered> {
        const MAX_LINE: usize = 8192;
        loop {
            if let Some(line) = framing::line(self.buffer).map_err(|_| Undelivered::Broken)? {
                let end = line.len();
                let line = self.buffer.split_to(end).freeze();
                self.buffer.advance(2);
                return Ok(line);
            }
            if self.buffer.len() > MAX_LINE {
                return Err(Undelivered::Broken);
            }
            self.fill().await?;
        }
    }

    /// Reads more; the end of the stream is an error here.
    async fn fill(&mut self) -> Result<(), Undelivered> {
        if self.fill_or_end().await? { Ok(()) } else { Err(Undelivered::Broken) }
    }

    async fn fill_or_end(&mut self) -> Result<bool, Undelivered> {
        const STEP: usize = 4096;
        self.buffer.reserve(STEP);
        let read = match &mut self.reader {
            Reader::Tcp(reader) => reader.read_buf(self.buffer).await,
            Reader::Unix(reader) => reader.read_buf(self.buffer).await,
        };
        match read {
            Ok(read) => Ok(read > 0),
            Err(error) => Err(Undelivered::Lost(error)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Empty,
    Length(u64),
    Chunked,
    UntilClosed,
}

struct ReplyHead {
    status: u16,
    head: Vec<u8>,
    framing: Framing,
    reusable: bool,
}

impl ReplyHead {
    /// Takes a head off the buffer; `Ok(None)` if it is not complete. Hop-by-hop headers
    /// (RFC 9110, section 7.6.1) end here, and so does what is said to the sender by us.
    fn take(buffer: &mut BytesMut) -> Result<Option<Self>, Undelivered> {
        let mut slots = [const { MaybeUninit::uninit() }; MAX_REPLY_HEADERS];
        let mut parsed = httparse::Response::new(&mut []);
        let mut config = httparse::ParserConfig::default();
        config.allow_spaces_after_header_name_in_responses(true); // and removed (RFC 9112, section 5.1)
        let length = match config.parse_response_with_uninit_headers(&mut parsed, buffer, &mut slots) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Undelivered::Broken),
        };
        let status = parsed.code.filter(|code| (100..1000).contains(code)).ok_or(Undelivered::Broken)?;
        let mut head = Vec::with_capacity(length + 160); // and what we add
        head.extend_from_slice(b"HTTP/1.1 ");
        digits(&mut head, status.into());
        head.push(b' ');
        head.extend_from_slice(parsed.reason.unwrap_or_default().as_bytes());
        head.extend_from_slice(b"\r\n");
        let mut connection = ConnectionHeader::default();
        for line in parsed.headers.iter().filter(|h| h.name.eq_ignore_ascii_case("connection")) {
            connection.read(line.value);
        }
        let (mut declared, mut chunked) = (None, false);
        for line in parsed.headers.iter() {
            if line.name.eq_ignore_ascii_case("content-length") {
                let value = length_value(line.value).ok_or(Undelivered::Broken)?;
                if declared.replace(value).is_some_and(|before| before != value) {
                    return Err(Undelivered::Broken);
                }
            } else if line.name.eq_ignore_ascii_case("transfer-encoding") {
                if chunked || !line.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(Undelivered::Broken);
                }
                chunked = true;
            } else if !ends_here(line.name) && !connection.names(line.name) {
                super::respond::line(&mut head, line.name, line.value);
            }
        }
        let framing = match (status, declared, chunked) {
            (..200 | 204 | 304, _, _) => Framing::Empty,
            (_, Some(_), true) => return Err(Undelivered::Broken),
            (_, None, true) => Framing::Chunked,
            (_, Some(length), false) => Framing::Length(length),
            (_, None, false) => Framing::UntilClosed,
        };
        let reusable = match parsed.version {
            Some(1) => !connection.close,
            _ => connection.keep_alive,
        };
        buffer.advance(length);
        Ok(Some(ReplyHead { status, head, framing, reusable }))
    }
}

impl ReplyHead {
    /// The answer to HEAD tells a length, and nothing follows (RFC 9110, section 9.3.2).
    fn without_body(&mut self) {
        if let Framing::Length(length) = self.framing
            && let Ok(length) = usize::try_from(length)
        {
            super::respond::length(&mut self.head, length);
        }
        self.framing = Framing::Empty;
    }
}

/// What the application's `Connection` header says.
#[derive(Default)]
struct ConnectionHeader {
    close: bool,
    keep_alive: bool,
    named: Vec<String>,
}

impl ConnectionHeader {
    fn read(&mut self, value: &[u8]) {
        for token in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if let Ok(name) = std::str::from_utf8(token) {
                self.named.push(name.to_owned());
            }
        }
    }

    fn names(&self, header: &str) -> bool {
        self.named.iter().any(|name| name.eq_ignore_ascii_case(header))
    }
}

fn ends_here(name: &str) -> bool {
    const HOP_BY_HOP: [&str; 7] =
        ["connection", "keep-alive", "proxy-authenticate", "proxy-connection", "te", "trailer", "upgrade"];
    const OURS: [&str; 2] = ["date", REQUEST_ID];
    HOP_BY_HOP.iter().chain(&OURS).any(|known| name.eq_ignore_ascii_case(known))
}

fn length_value(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii();
    let digits = !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str) -> Result<Option<ReplyHead>, Undelivered> {
        ReplyHead::take(&mut BytesMut::from(head))
    }

    #[test]
    fn framing_follows_rfc_9112() {
        let framing = |head: &str| parse(head).unwrap().unwrap().framing;
        assert_eq!(framing("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), Framing::Length(5));
        assert_eq!(framing("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), Framing::Chunked);
        assert_eq!(framing("HTTP/1.1 200 OK\r\n\r\n"), Framing::UntilClosed);
        assert_eq!(framing("HTTP/1.1 204 No Content\r\n\r\n"), Framing::Empty);
        assert_eq!(framing("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"), Framing::Empty);
        assert!(parse("HTTP/1.1 200 OK\r\nContent-Le").unwrap().is_none());
        for garbage in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
            "nonsense\r\n\r\n",
        ] {
            assert!(matches!(parse(garbage), Err(Undelivered::Broken)), "{garbage:?}");
        }
    }

    #[test]
    fn hop_by_hop_headers_end_here() {
        let head = "HTTP/1.1 200 Fine\r\nConnection: X-Secret, close\r\nX-Secret: 1\r\nKeep-Alive: 5\r\n\
                    Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n";
        let parsed = parse(head).unwrap().unwrap();
        assert!(!parsed.reusable);
        let head = String::from_utf8(parsed.head).unwrap();
        assert_eq!(head, "HTTP/1.1 200 Fine\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n");
    }
}
