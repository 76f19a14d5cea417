//! One complete exchange with the application: connect, send, read the whole answer.
//!
//! The head and the verified body leave in one write on a stream of our own; a request
//! is sent once and never again, because a POST that broke may have been processed.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderValue;
use pingora::http::ResponseHeader;
use pingora_timeout::{sleep, timeout};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::budget::Share;
use crate::config::units::UpstreamUrl;

/// The application, and idle connections to it.
pub struct Upstream {
    url: UpstreamUrl,
    connect_timeout: Duration,
    idle: Mutex<Vec<(Connection, Instant)>>,
}

/// The application's whole answer.
#[derive(Debug)]
pub struct Reply {
    pub header: Box<ResponseHeader>,
    pub body: Bytes,
    /// What it holds until it is written, together with what it took to get it.
    pub share: Option<Share>,
}

/// Why there is no answer to pass on.
#[derive(Debug)]
pub enum Undelivered {
    /// The application saw nothing.
    Unreachable,
    /// It may have seen the request; whether it processed it is not known. That holds as well for
    /// a kept connection whose end was on its way when the request left: a reset looks the same
    /// whether the application closed before it read or after.
    Broken,
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
const MAX_INTERIM: usize = 8;
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
        while let Some(connection) = self.take_idle() {
            match self.exchange_on(connection, head, body, limit, share).await {
                // Not a byte was taken: the application had closed it, another one will do.
                Err(Undelivered::Unreachable) => {}
                outcome => return outcome,
            }
        }
        self.exchange_on(self.connect().await?, head, body, limit, share).await
    }

    async fn exchange_on(
        &self,
        mut connection: Connection,
        head: &[u8],
        body: &[u8],
        limit: Duration,
        share: &mut Share,
    ) -> Result<Reply, Undelivered> {
        let mut said = None;
        let exchange = async {
            connection.write(head, body).await?;
            let head = connection.read_final_head().await?;
            said = Some(head.header.status.as_u16());
            connection.read_body(head, Room { share, taken: SHORT_REPLY }).await
        };
        let ended = timeout(limit, exchange).await.unwrap_or(Err(Undelivered::TimedOut));
        // Whatever goes wrong after the head takes nothing back of what the head said.
        let (reply, reusable) = ended.map_err(|fault| match said {
            Some(status) => Undelivered::Cut { status },
            None => fault,
        })?;
        if reusable {
            self.put_back(connection);
        }
        Ok(reply)
    }

    /// A new connection, tried for as long as the connect time-out allows.
    async fn connect(&self) -> Result<Connection, Undelivered> {
        let attempts = async {
            loop {
                match Stream::connect(&self.url).await {
                    Ok(stream) => return Connection::new(stream),
                    Err(_) => sleep(CONNECT_STEP).await,
                }
            }
        };
        timeout(self.connect_timeout, attempts).await.map_err(|_| Undelivered::Unreachable)
    }

    /// The most recently used connection that is still open.
    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle();
        while let Some((connection, since)) = idle.pop() {
            if since.elapsed() < IDLE && connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    fn put_back(&self, connection: Connection) {
        let mut idle = self.idle();
        if idle.len() < MAX_IDLE {
            idle.push((connection, Instant::now()));
        }
    }

    /// Closes connections that have been idle for too long.
    pub fn prune(&self) {
        self.idle().retain(|(_, since)| since.elapsed() < IDLE);
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(Connection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    async fn connect(url: &UpstreamUrl) -> io::Result<Self> {
        match url {
            UpstreamUrl::Tcp { host, port } => {
                let stream = match host.parse::<IpAddr>() {
                    Ok(address) => TcpStream::connect((address, *port)).await?,
                    Err(_) => TcpStream::connect((host.as_str(), *port)).await?,
                };
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            UpstreamUrl::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
        }
    }

    async fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write_vectored(slices).await,
            Stream::Unix(stream) => stream.write_vectored(slices).await,
        }
    }

    async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read_buf(buffer).await,
            Stream::Unix(stream) => stream.read_buf(buffer).await,
        }
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
}

impl Connection {
    fn new(stream: Stream) -> Self {
        Connection { stream, buffer: BytesMut::new() }
    }

    /// Nothing to read, not even the end: the connection can be used.
    fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let read = match &self.stream {
            Stream::Tcp(stream) => stream.try_read(&mut byte),
            Stream::Unix(stream) => stream.try_read(&mut byte),
        };
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Fails only if not a byte was taken. A write that breaks off later is left to the
    /// reading side: the application may have answered early and closed.
    async fn write(&mut self, mut head: &[u8], mut body: &[u8]) -> Result<(), Undelivered> {
        let mut untouched = true;
        while !head.is_empty() || !body.is_empty() {
            let slices = [IoSlice::new(head), IoSlice::new(body)];
            match self.stream.write(&slices).await {
                Ok(0) | Err(_) if untouched => return Err(Undelivered::Unreachable),
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

    /// The head of the answer. Interim answers in front of it say nothing about the event.
    async fn read_final_head(&mut self) -> Result<ReplyHead, Undelivered> {
        for _ in 0..=MAX_INTERIM {
            let head = self.read_head().await?;
            match head.header.status.as_u16() {
                101 => return Err(Undelivered::Broken), // nobody asked to switch protocols
                ..200 => {}
                _ => return Ok(head),
            }
        }
        Err(Undelivered::Broken)
    }

    async fn read_head(&mut self) -> Result<ReplyHead, Undelivered> {
        loop {
            if !self.buffer.is_empty() {
                if let Some(head) = ReplyHead::parse(&mut self.buffer)? {
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
        let ReplyHead { mut header, framing, mut reusable } = head;
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
            header
                .insert_header(http::header::CONTENT_LENGTH, body.len())
                .map_err(|_| Undelivered::Broken)?;
        }
        Ok((Reply { header, body, share: None }, reusable))
    }

    async fn read_chunks(&mut self, mut room: Room<'_>) -> Result<Bytes, Undelivered> {
        let mut body = BytesMut::new();
        loop {
            let size = self.read_line().await?;
            let size = chunk_size(&size).ok_or(Undelivered::Broken)?;
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
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
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
        match self.stream.read(&mut self.buffer).await {
            Ok(read) => Ok(read > 0),
            Err(_) => Err(Undelivered::Broken),
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
    header: Box<ResponseHeader>,
    framing: Framing,
    reusable: bool,
}

impl ReplyHead {
    /// Takes a head off the buffer; `Ok(None)` if it is not complete. Hop-by-hop headers
    /// (RFC 9110, section 7.6.1) end here.
    fn parse(buffer: &mut BytesMut) -> Result<Option<Self>, Undelivered> {
        let mut slots = [httparse::EMPTY_HEADER; MAX_REPLY_HEADERS];
        let mut parsed = httparse::Response::new(&mut slots);
        let length = match parsed.parse(buffer) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Undelivered::Broken),
        };
        let status = parsed.code.unwrap_or_default();
        let mut header =
            ResponseHeader::build(status, Some(parsed.headers.len() + 3)).map_err(|_| Undelivered::Broken)?;
        if let Some(reason) = parsed.reason {
            header.set_reason_phrase(Some(reason)).map_err(|_| Undelivered::Broken)?;
        }
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
            } else if !is_hop_by_hop(line.name) && !connection.names(line.name) {
                let value = HeaderValue::from_bytes(line.value).map_err(|_| Undelivered::Broken)?;
                header.append_header(line.name.to_owned(), value).map_err(|_| Undelivered::Broken)?;
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
        Ok(Some(ReplyHead { header: Box::new(header), framing, reusable }))
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

fn is_hop_by_hop(name: &str) -> bool {
    const HOP_BY_HOP: [&str; 7] =
        ["connection", "keep-alive", "proxy-authenticate", "proxy-connection", "te", "trailer", "upgrade"];
    HOP_BY_HOP.iter().any(|hop| name.eq_ignore_ascii_case(hop))
}

fn length_value(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii();
    let digits = !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}

/// The size of a chunk; extensions are passed over.
fn chunk_size(line: &[u8]) -> Option<usize> {
    let digits = line.split(|b| *b == b';').next()?.trim_ascii_end();
    let hex = !digits.is_empty() && digits.len() <= 8 && digits.iter().all(u8::is_ascii_hexdigit);
    hex.then(|| usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str) -> Result<Option<ReplyHead>, Undelivered> {
        ReplyHead::parse(&mut BytesMut::from(head))
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
        let names: Vec<_> =
            parsed.header.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(names, [("set-cookie", "a"), ("set-cookie", "b")]);
        assert_eq!(parsed.header.get_reason_phrase(), Some("Fine"));
    }

    #[test]
    fn chunk_sizes_are_plain_hex() {
        assert_eq!(chunk_size(b"1f;ext=1"), Some(31));
        assert_eq!(chunk_size(b"0"), Some(0));
        for bad in ["", "0x3", "-1", "g", "123456789", "+1"] {
            assert_eq!(chunk_size(bad.as_bytes()), None, "{bad}");
        }
    }
}
