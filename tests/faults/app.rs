//! The application: it reads requests as they are, answers in many ways, and writes
//! down what it saw and said.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::history::{Call, Entry, Event};
use crate::rng::Rng;
use crate::support::{Head, lock};
use crate::wire::{Diary, Wire, reset};

/// The events by the digest of the bytes that were signed.
#[derive(Clone, Default)]
pub struct Signed(Arc<Mutex<HashMap<[u8; 32], Event>>>);

impl Signed {
    /// A new event.
    pub fn add(&self, body: &[u8]) -> Event {
        let mut events = lock(&self.0);
        let event = events.len();
        assert!(events.insert(Sha256::digest(body).into(), event).is_none(), "bodies differ");
        event
    }

    fn find(&self, body: &[u8]) -> Option<Event> {
        lock(&self.0).get::<[u8; 32]>(&Sha256::digest(body).into()).copied()
    }
}

/// How the application feels about the next request.
#[derive(Clone)]
pub struct Mood(Arc<Mutex<(Rng, bool)>>);

enum Reaction {
    Answer { status: u16, after: Duration, form: Form },
    Close,
    Reset,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Length,
    Chunked,
    UntilClosed,
    Interim,
}

impl Mood {
    pub fn good() -> Self {
        Mood(Arc::new(Mutex::new((Rng::new(0), false))))
    }

    pub fn begin(&self, rng: Rng) {
        *lock(&self.0) = (rng, true);
    }

    pub fn calm(&self) {
        lock(&self.0).1 = false;
    }

    fn next(&self) -> Reaction {
        let (rng, moody) = &mut *lock(&self.0);
        if !*moody {
            return Reaction::Answer { status: 200, after: Duration::ZERO, form: Form::Length };
        }
        match rng.below(100) {
            0..6 => return Reaction::Close,
            6..12 => return Reaction::Reset,
            _ => {}
        }
        let status = *rng.pick(&[200, 200, 200, 201, 204, 299, 300, 404, 500, 503]);
        // Some answers come when the sender has been told of a time-out, some when the gate
        // itself has given the call up.
        let after = *rng.pick(&[0, 0, 0, 5, 30, 130, 200, 300]);
        let form = *rng.pick(&[Form::Length, Form::Length, Form::Chunked, Form::UntilClosed, Form::Interim]);
        Reaction::Answer { status, after: Duration::from_millis(after), form }
    }
}

/// Behind the wire, which knows which connection is whose.
pub struct App {
    pub signed: Signed,
    pub mood: Mood,
    pub diary: Diary,
    pub wire: Wire,
}

impl App {
    pub async fn serve(self, listener: TcpListener) {
        let app = Arc::new(self);
        while let Ok((stream, peer)) = listener.accept().await {
            let app = Arc::clone(&app);
            tokio::spawn(async move { app.connection(stream, peer).await });
        }
    }

    /// One connection. `None` ends it.
    async fn connection(&self, mut stream: TcpStream, peer: SocketAddr) -> Option<()> {
        let mut buffer = Vec::new();
        for turn in 1.. {
            let body = read_request(&mut stream, &mut buffer).await?;
            // Without a link the wire has broken: nothing that is said here would be heard.
            let call = Call { link: self.wire.link(peer)?.id, turn };
            self.diary.note(Entry::Arrived { call, event: self.signed.find(&body) });
            match self.mood.next() {
                Reaction::Answer { status, after, form } => {
                    sleep(after).await;
                    let answer = form.write(status);
                    // Nobody but the gate knows whether it saw the end of the connection, too.
                    let said = answer.len() + usize::from(form == Form::UntilClosed);
                    let end = self.wire.link(peer).map_or(u64::MAX, |link| link.says(said));
                    self.diary.note(Entry::Said { call, status, end });
                    stream.write_all(&answer).await.ok()?;
                    if form == Form::UntilClosed {
                        return None;
                    }
                }
                Reaction::Close => return None,
                Reaction::Reset => {
                    reset(&stream);
                    return None;
                }
            }
        }
        None
    }
}

impl Form {
    fn write(self, status: u16) -> Vec<u8> {
        let line = format!("HTTP/1.1 {status} Said\r\n");
        let text = match (status, self) {
            (204, _) => format!("{line}\r\n"),
            (_, Form::Length) => format!("{line}Content-Length: 3\r\n\r\napp"),
            (_, Form::Chunked) => {
                format!("{line}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\npp\r\n0\r\n\r\n")
            }
            (_, Form::UntilClosed) => format!("{line}\r\napp"),
            (_, Form::Interim) => {
                format!("HTTP/1.1 103 Early Hints\r\n\r\n{line}Content-Length: 3\r\n\r\napp")
            }
        };
        text.into_bytes()
    }
}

/// The body of the next request; `None` at the end of the connection.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(head) = Head::parse(buffer) {
            let length: usize = head.headers.get("content-length")?.parse().ok()?;
            if buffer.len() >= head.length + length {
                let body = buffer[head.length..head.length + length].to_vec();
                buffer.drain(..head.length + length);
                return Some(body);
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}
