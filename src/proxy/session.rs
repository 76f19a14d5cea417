//! One connection of a sender: heads in, bodies in, answers out, HTTP/1 and nothing else, on
//! Pingora's stream. A body is read only when it is asked for. What cannot be read in one way ends
//! the connection. A connection that waits holds no buffer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Method};
use pingora::protocols::Stream;
use pingora_timeout::tokio_timeout;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

use super::deadline::{self, Deadline};
use super::framing::{self, BodyFraming, RequestHead, Unread};
use crate::budget::{Intake, SHORT_HEAD};
use crate::clock;
use crate::gate::delivery::Peer;
use crate::gate::reason::Reason;

/// How much is read at once, unless it goes where it belongs.
pub const BUFFER: usize = 8 * 1024;
/// How long a sender may take to read its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a sender that is told to close may go on sending: who closes before that resets the
/// connection, and takes the answer with it.
const LINGER: Duration = Duration::from_secs(1);
/// How long the end may take. What a sender does not read cannot be flushed; without a limit it
/// would hold its connection for ever.
const FINISH: Duration = Duration::from_secs(1);
/// A shorter answer leaves with its head.
const SHORT_ANSWER: usize = 16 * 1024;
/// Of the lines between chunks, and of a section of trailers.
const MAX_CHUNK_LINE: usize = 8 * 1024;

pub struct Session {
    stream: Stream,
    /// Read and not taken yet.
    buffer: BytesMut,
    body: Body,
    asks_first: bool,
    persists: bool,
    /// The answer to HEAD is a head: more would be taken for the next answer.
    headless: bool,
    /// How many heads were read.
    heads: u64,
    /// How long a sender may take to read its answer.
    write_limit: Duration,
    /// How long it may go on sending when it is told to close.
    linger: Duration,
    peer: Option<Peer>,
    intake: Option<Arc<Intake>>,
    deadline: Arc<Deadline>,
}

/// What the listener knows of a connection, beside what Pingora asks for.
pub struct Carried {
    pub intake: Arc<Intake>,
    /// The other end of the socket, where it named another sender.
    pub relay: Option<IpAddr>,
}

/// What is still to come of a request's body.
#[derive(Clone, Copy)]
enum Body {
    Plain(u64),
    /// So much of a chunk.
    Chunk(u64),
    /// The end of a chunk's data.
    ChunkEnd,
    /// The line with a chunk's size.
    Size,
    /// So many bytes of trailers were read.
    Trailers(usize),
}

/// What is there of a body without waiting.
pub enum Piece {
    Came(Bytes),
    Wait,
    End,
}

impl Session {
    pub fn new(stream: Stream) -> Self {
        let socket = stream.get_socket_digest();
        let address =
            socket.as_ref().and_then(|socket| Some(socket.peer_addr()?.as_inet()?.ip().to_canonical()));
        let tls = stream.get_ssl_digest().is_some();
        let carrier = stream.get_proxy_digest();
        let known = carrier.as_ref().and_then(|c| c.user_data.as_ref()?.downcast_ref::<Carried>());
        let relay = known.and_then(|known| known.relay);
        let peer = address.map(|address| Peer { address, relay, tls });
        let intake = known.map(|known| Arc::clone(&known.intake));
        Session {
            stream,
            buffer: BytesMut::new(),
            body: Body::Plain(0),
            asks_first: false,
            persists: true,
            headless: false,
            heads: 0,
            write_limit: WRITE_TIMEOUT,
            linger: LINGER,
            peer,
            intake,
            deadline: Deadline::new(),
        }
    }

    /// The other end of the connection; `None` if it has no address.
    pub fn peer(&self) -> Option<Peer> {
        self.peer
    }

    /// For what is waited for on behalf of this sender.
    pub fn deadline(&self) -> Arc<Deadline> {
        Arc::clone(&self.deadline)
    }

    /// Whoever goes on with the head has charged it.
    pub fn release_head(&self) {
        if let Some(intake) = &self.intake {
            intake.release();
        }
    }

    /// The next head, within a time that begins with the connection, or with the first byte after
    /// an idle time. It is left `None` if there is none: the sender has gone or was too slow, or it `ends`.
    /// It goes to where it is to be at once, because it is large to be handed from one to the next.
    pub async fn read_head(
        &mut self,
        read: &mut Option<Result<RequestHead, Unread>>,
        idle: Duration,
        limit: Duration,
        ends: impl Fn() -> bool,
    ) {
        let deadline = self.deadline();
        if let Some(intake) = &self.intake {
            intake.begin();
        }
        // One empty line in front is passed over (RFC 9112, section 2.2), also behind a body.
        let mut skipped = self.skip_empty_line();
        let mut there = true;
        if self.heads > 0 && self.buffer.is_empty() {
            self.buffer = BytesMut::new(); // what was split off it is there as long as it is
            there = matches!(deadline.within(idle, pin!(self.fill()), &ends).await, Ok(Ok(())));
        }
        if there {
            _ = deadline.within(limit, pin!(self.head(&mut skipped, read)), &ends).await;
        }
        if read.is_none() {
            let fault = self.intake.as_ref().and_then(|intake| intake.fault());
            *read = fault.map(|reason| Err(reason.into()));
        }
        match read {
            Some(Ok(head)) => self.begin(head),
            Some(Err(unread)) => {
                self.body = Body::Plain(u64::MAX); // whatever follows
                self.headless = unread.method == Some(Method::HEAD);
            }
            None => self.buffer.clear(),
        }
    }

    /// A head that is no HTTP is refused as soon as that shows; else it is looked at again when
    /// another line of it is complete, so that one that comes in drops costs no more.
    async fn head(&mut self, skipped: &mut bool, read: &mut Option<Result<RequestHead, Unread>>) {
        let mut look = !self.buffer.is_empty();
        loop {
            if !*skipped {
                *skipped = self.skip_empty_line();
                look |= *skipped;
            }
            if look && !self.buffer.is_empty() && *self.buffer != b"\r"[..] {
                *read = RequestHead::take(&mut self.buffer).transpose();
                if read.is_some() {
                    return;
                }
            }
            let before = self.buffer.len();
            if self.fill().await.is_err() {
                return;
            }
            let came = &self.buffer[before..];
            look = before < 2 || came.contains(&b'\n') || self.buffer.len() > framing::MAX_HEAD;
        }
    }

    fn skip_empty_line(&mut self) -> bool {
        let is_there = self.buffer.starts_with(b"\r\n");
        self.buffer.advance(if is_there { 2 } else { 0 });
        is_there
    }

    fn begin(&mut self, head: &RequestHead) {
        if let Some(intake) = &self.intake {
            intake.end();
        }
        self.heads += 1;
        self.body = match head.body {
            BodyFraming::Length(length) => Body::Plain(length),
            BodyFraming::Chunked => Body::Size,
        };
        self.asks_first = head.asks_first;
        self.persists = head.persists;
        self.headless = head.method == Method::HEAD;
    }

    /// Whether the sender waits to be asked for the body.
    pub fn waits(&self) -> bool {
        self.asks_first
    }

    /// `100 Continue`, if that is waited for.
    pub async fn ask_for_body(&mut self) -> Result<(), Reason> {
        if !std::mem::take(&mut self.asks_first) {
            return Ok(());
        }
        let said = self.write(b"HTTP/1.1 100 Continue\r\n\r\n", b"").await;
        said.map_err(|_| Reason::FramingInvalid)
    }

    pub fn is_body_done(&self) -> bool {
        matches!(self.body, Body::Plain(0))
    }

    /// What is there of the body.
    pub fn piece(&mut self) -> Result<Piece, Reason> {
        loop {
            match self.body {
                Body::Plain(0) => return Ok(Piece::End),
                Body::Chunk(0) => self.body = Body::ChunkEnd,
                Body::Plain(left) | Body::Chunk(left) => {
                    let there = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
                    if there == 0 {
                        return Ok(Piece::Wait);
                    }
                    self.took(there);
                    return Ok(Piece::Came(self.buffer.split_to(there).freeze()));
                }
                Body::ChunkEnd | Body::Size | Body::Trailers(_) => {
                    let Some(line) = framing::line(&self.buffer)? else {
                        let fits = self.buffer.len() <= MAX_CHUNK_LINE;
                        return if fits { Ok(Piece::Wait) } else { Err(Reason::FramingInvalid) };
                    };
                    self.body = self.body.after(line)?;
                    self.buffer.advance(line.len() + 2);
                }
            }
        }
    }

    fn took(&mut self, bytes: usize) {
        if let Body::Plain(left) | Body::Chunk(left) = &mut self.body {
            *left = left.saturating_sub(bytes as u64);
        }
    }

    /// Reads more of anything. The end of the stream is an error: something is still to come.
    pub async fn fill(&mut self) -> io::Result<()> {
        // Of what a connection may hold without being asked, no more is read than that.
        let most = if self.is_body_done() { SHORT_HEAD } else { BUFFER };
        let Session { stream, buffer, .. } = self;
        let came = poll_fn(|cx| {
            let mut room = [MaybeUninit::uninit(); BUFFER];
            let mut read = ReadBuf::uninit(&mut room[..most]);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
            if buffer.capacity() == 0 {
                *buffer = read.filled().into();
            } else {
                buffer.extend_from_slice(read.filled());
            }
            Poll::Ready(io::Result::Ok(read.filled().len()))
        });
        if came.await? > 0 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Reads more of a body of known length to where it belongs, when [`Session::piece`] has none.
    pub async fn fill_block(&mut self, block: &mut BytesMut) -> io::Result<usize> {
        let Body::Plain(left) = self.body else { return Err(io::ErrorKind::InvalidInput.into()) };
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(block.capacity() - block.len());
        let came = self.stream.read_buf(&mut block.limit(most)).await?;
        self.took(came);
        if came > 0 { Ok(came) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Takes in what has come of a body that nobody wants, if it is not much.
    pub async fn take_what_is_there(&mut self) {
        const AT_ONCE: Duration = Duration::from_millis(1);
        const MOST: u64 = 64 * 1024;
        if self.asks_first || self.linger.is_zero() || matches!(self.body, Body::Plain(0 | MOST..)) {
            return;
        }
        let take = async {
            let mut taken = 0;
            while taken < MOST {
                match self.piece() {
                    Ok(Piece::Came(piece)) => taken += piece.len() as u64,
                    Ok(Piece::Wait) if self.fill().await.is_ok() => {}
                    _ => return,
                }
            }
        };
        _ = tokio_timeout(AT_ONCE, take).await;
    }

    /// The answer must leave soon, and the sender gets no time to end.
    pub fn hurry(&mut self) {
        (self.write_limit, self.linger) = (FINISH, Duration::ZERO);
        self.persists = false;
    }

    /// The connection ends with this request.
    pub fn close(&mut self) {
        self.persists = false;
    }

    /// Whether another request can follow: nothing is left of this one, and nothing came behind it
    /// but, perhaps, an empty line.
    pub fn persists(&self) -> bool {
        self.persists && self.is_body_done() && b"\r\n".starts_with(&self.buffer)
    }

    /// Answers with this status line and these headers, to which date and connection are added.
    pub async fn answer(&mut self, mut head: Vec<u8>, body: &[u8]) {
        self.persists = self.persists();
        head.extend_from_slice(b"Date: ");
        head.extend_from_slice(&date());
        let connection = if self.persists { "keep-alive" } else { "close" };
        head.extend_from_slice(b"\r\nConnection: ");
        head.extend_from_slice(connection.as_bytes());
        head.extend_from_slice(b"\r\n\r\n");
        let mut body = if self.headless { &[] } else { body };
        if body.len() <= SHORT_ANSWER {
            head.extend_from_slice(body);
            body = &[];
        }
        // If the sender has gone, there is nobody to tell. Nearly always there is room for all of it
        // at once: this kind of timer costs nothing then.
        let limit = self.write_limit;
        let written = tokio_timeout(limit, pin!(self.write(&head, body))).await;
        self.persists &= matches!(written, Ok(Ok(())));
    }

    async fn write(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        self.stream.write_all(head).await?;
        self.stream.write_all(body).await?;
        self.stream.flush().await
    }

    /// Ends the connection, and lets a sender that is still sending read its answer.
    pub async fn end(&mut self) {
        let unread = !self.is_body_done() || !self.buffer.is_empty();
        let is_plain = self.peer.is_some_and(|peer| !peer.tls);
        if is_plain && !unread {
            return; // to be closed says the same, and needs no call of its own
        }
        let ended = tokio_timeout(FINISH, self.stream.shutdown()).await;
        if unread && ended.is_ok() {
            let linger = self.linger;
            let drain = async {
                while self.fill().await.is_ok() {
                    self.buffer.clear();
                }
            };
            _ = tokio_timeout(linger, drain).await;
        }
    }
}

/// The `Date` of an answer, written anew with each tick.
fn date() -> Bytes {
    thread_local! {
        static WRITTEN: RefCell<(u64, Bytes)> = const { RefCell::new((u64::MAX, Bytes::new())) };
    }
    WRITTEN.with_borrow_mut(|(tick, date)| {
        if *tick != deadline::tick() {
            *tick = deadline::tick();
            *date = clock::http_date().into();
        }
        date.clone()
    })
}

impl Body {
    /// What comes after a line that is no data.
    fn after(self, line: &[u8]) -> Result<Body, Reason> {
        match self {
            Body::ChunkEnd if line.is_empty() => Ok(Body::Size),
            Body::Size => Ok(match framing::chunk_size(line)? {
                0 => Body::Trailers(0),
                size => Body::Chunk(size),
            }),
            Body::Trailers(_) if line.is_empty() => Ok(Body::Plain(0)),
            // They are passed over. None may say anew where the body ends.
            Body::Trailers(before) if before + line.len() <= MAX_CHUNK_LINE => {
                let colon = line.iter().position(|b| *b == b':').ok_or(Reason::FramingInvalid)?;
                let frames = |name: HeaderName| [CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name);
                let fine = HeaderName::from_bytes(&line[..colon]).is_ok_and(|name| !frames(name))
                    && HeaderValue::from_bytes(&line[colon + 1..]).is_ok();
                if fine { Ok(Body::Trailers(before + line.len())) } else { Err(Reason::FramingInvalid) }
            }
            _ => Err(Reason::FramingInvalid),
        }
    }
}

impl From<Reason> for Unread {
    fn from(reason: Reason) -> Self {
        Unread { reason, method: None, path: Bytes::new() }
    }
}
