//! A gate between a faulty wire to its senders and a faulty wire to its application, and
//! what happens to them in one run.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::app::{App, Mood, Signed};
use crate::history::{Entry, Event, is_success};
use crate::rng::Rng;
use crate::support::{Builder, Gate, Head, LIMIT, Request, Signer};
use crate::wire::{Diary, Injected, Mouth, Side, Wire};

/// What all runs together came to.
#[derive(Default)]
pub struct Tally {
    pub runs: AtomicU64,
    pub requests: AtomicU64,
    pub events: AtomicU64,
    pub calls: AtomicU64,
    pub kills: AtomicU64,
    pub drains: AtomicU64,
    pub stops: AtomicU64,
    pub injected: Arc<Injected>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        write!(
            f,
            "{} runs, {} events, {} requests, {} calls of the application; the gate killed {} times and \
             drained {} times, the application stopped {} times; {}",
            of(&self.runs),
            of(&self.events),
            of(&self.requests),
            of(&self.calls),
            of(&self.kills),
            of(&self.drains),
            of(&self.stops),
            self.injected,
        )
    }
}

pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Short, so that every time-out is met in a run.
const UPSTREAM_TIMEOUT: &str = "120ms";
const CONNECT_TIMEOUT: &str = "60ms";
/// Longer than the gate lets a sender wait.
const PATIENCE: Duration = Duration::from_millis(600);

pub struct World {
    /// Where only this world listens, so that a port can be given up and taken again.
    host: Ipv4Addr,
    preset: &'static str,
    threads: usize,
    gate: Gate,
    life: usize,
    senders: Wire,
    entrance: Mouth,
    application: Wire,
    /// Closed while the application is stopped.
    upstream: Option<Mouth>,
    signed: Signed,
    mood: Mood,
    diary: Diary,
    tally: Arc<Tally>,
}

impl World {
    pub async fn new(number: u8, tally: Arc<Tally>) -> Self {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let host = Ipv4Addr::new(127, 64 | (high & 0x3f), low, number + 1);
        let any = SocketAddr::from((host, 0));
        let (diary, signed, mood) = (Diary::default(), Signed::default(), Mood::good());
        let listener = TcpListener::bind(any).await.unwrap();
        let place = listener.local_addr().unwrap();
        let application = Wire::new(Side::Application, place, diary.clone(), Arc::clone(&tally.injected));
        let app = App {
            signed: signed.clone(),
            mood: mood.clone(),
            diary: diary.clone(),
            wire: application.clone(),
        };
        tokio::spawn(app.serve(listener));
        let upstream = application.listen(any, 0).await;
        let preset = ["github", "standard-webhooks", "stripe"][usize::from(number) % 3];
        let threads = 1 + usize::from(number) % 2;
        let gate = start(preset, threads, upstream.address).await;
        let senders = Wire::new(Side::Sender, gate.address(), diary.clone(), Arc::clone(&tally.injected));
        let entrance = senders.listen(any, 0).await;
        World {
            host,
            preset,
            threads,
            gate,
            life: 0,
            senders,
            entrance,
            application,
            upstream: Some(upstream),
            signed,
            mood,
            diary,
            tally,
        }
    }

    /// One run. What happens in it is decided by the seed; when exactly, by the machine.
    pub async fn run(&mut self, seed: u64) -> Vec<Entry> {
        let mut rng = Rng::new(seed);
        self.diary.take();
        self.senders.begin(rng.fork());
        self.application.begin(rng.fork());
        self.mood.begin(rng.fork());
        let (calm, calms) = tokio::sync::watch::channel(None);
        let signer = Signer::new(self.preset, 0, crate::support::sender::SECRET);
        let mut copies = Vec::new();
        for _ in 0..rng.within(1..5) {
            let request = event(&signer, &mut rng);
            let event = self.signed.add(&request.body);
            count(&self.tally.events);
            for _ in 0..rng.within(1..5) {
                let copy = Copy {
                    event,
                    request: request.clone(),
                    gate: self.entrance.address,
                    rng: rng.fork(),
                    diary: self.diary.clone(),
                    tally: Arc::clone(&self.tally),
                    calm: calms.clone(),
                };
                copies.push(tokio::spawn(copy.deliver()));
            }
        }
        for _ in 0..rng.within(1..4) {
            sleep(Duration::from_millis(rng.below(120) as u64)).await;
            match rng.below(100) {
                0..15 => self.restart("KILL").await,
                15..20 => self.restart("TERM").await,
                20..45 => self.stop_application(Duration::from_millis(rng.below(120) as u64)).await,
                _ => {}
            }
        }
        self.mood.calm();
        self.senders.calm();
        self.application.calm();
        calm.send_replace(Some(Instant::now()));
        for copy in copies {
            copy.await.unwrap();
        }
        count(&self.tally.runs);
        let history = self.diary.take();
        let issued = history.iter().filter(|entry| matches!(entry, Entry::Issued { .. })).count();
        self.tally.calls.fetch_add(issued as u64, Ordering::Relaxed);
        history
    }

    /// Ends the gate with that signal, at once or when it is drained, and starts another one
    /// that remembers nothing.
    async fn restart(&mut self, signal: &'static str) {
        count(if signal == "KILL" { &self.tally.kills } else { &self.tally.drains });
        self.gate.signal(signal);
        self.life += 1;
        let upstream = self.application.listen(SocketAddr::from((self.host, 0)), self.life).await;
        let gate = start(self.preset, self.threads, upstream.address).await;
        self.senders.lead_to(gate.address());
        let old = std::mem::replace(&mut self.gate, gate);
        tokio::task::spawn_blocking(move || old.ended()).await.unwrap();
        self.upstream = Some(upstream);
    }

    /// Stops the application and starts it again.
    async fn stop_application(&mut self, after: Duration) {
        count(&self.tally.stops);
        let Some(mouth) = self.upstream.take() else { return };
        let address = mouth.address;
        mouth.close().await;
        self.application.end_all();
        sleep(after).await;
        self.upstream = Some(self.application.listen(address, self.life).await);
    }
}

async fn start(preset: &'static str, threads: usize, upstream: SocketAddr) -> Gate {
    let gate = Builder::new(&format!("http://{upstream}"))
        .with("provider", preset)
        .with("threads", threads)
        .with("upstream-timeout", UPSTREAM_TIMEOUT)
        .with("upstream-connect-timeout", CONNECT_TIMEOUT)
        .with("header-timeout", "500ms")
        .with("body-timeout", "300ms")
        .with("idle-timeout", "1s")
        .with("failure-limit", "off")
        .with("shutdown-timeout", "2s");
    tokio::task::spawn_blocking(move || gate.start()).await.unwrap()
}

/// An event with a body of any length.
fn event(signer: &Signer, rng: &mut Rng) -> Request {
    let id = crate::support::sender::unique("evt");
    let length = *rng.pick(&[0, 10, 500, 5000, 90_000]);
    let padding: String = (0..rng.below(length + 1)).map(|_| char::from(b'a' + rng.byte() % 26)).collect();
    let body = format!(r#"{{"id":"{id}","type":"run","data":"{padding}"}}"#);
    signer.sign_at(crate::support::sender::now_ms(), &id, body.as_bytes())
}

/// One sender that tries until it is told 2xx.
struct Copy {
    event: Event,
    request: Request,
    gate: SocketAddr,
    rng: Rng,
    diary: Diary,
    tally: Arc<Tally>,
    /// When the last fault was over.
    calm: tokio::sync::watch::Receiver<Option<Instant>>,
}

impl Copy {
    async fn deliver(mut self) {
        let mut kept = None;
        loop {
            count(&self.tally.requests);
            let connection = kept.take();
            let tried = timeout(PATIENCE, self.attempt(connection)).await;
            if let Ok(Some((status, connection))) = tried {
                self.diary.note(Entry::Answered { event: self.event, status });
                if is_success(status) {
                    return;
                }
                kept = Some(connection).filter(|_| self.rng.chance(50));
            }
            if self.calm.borrow().is_some_and(|since| since.elapsed() > LIMIT) {
                return self.diary.note(Entry::Lost { event: self.event });
            }
            sleep(Duration::from_millis(self.rng.below(25) as u64)).await;
        }
    }

    /// One request. `None` if no answer could be read.
    async fn attempt(&mut self, kept: Option<TcpStream>) -> Option<(u16, TcpStream)> {
        let mut stream = match kept {
            Some(stream) => stream,
            None => TcpStream::connect(self.gate).await.ok()?,
        };
        let bytes = if self.rng.chance(70) {
            self.request.bytes()
        } else {
            let head = self.request.head("Transfer-Encoding: chunked\r\n");
            [head.into_bytes(), self.request.chunks(1 + self.rng.below(4000))].concat()
        };
        // An answer may come before the request has been sent.
        _ = stream.write_all(&bytes).await;
        let status = read_answer(&mut stream).await?;
        Some((status, stream))
    }
}

/// The status of a complete answer.
async fn read_answer(stream: &mut TcpStream) -> Option<u16> {
    let mut buffer = Vec::new();
    loop {
        if let Some(head) = Head::parse(&buffer) {
            let status = head.line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
            let length: usize = match head.headers.all("content-length")[..] {
                [] => 0,
                [length] => length.parse().ok()?,
                _ => return None,
            };
            if buffer.len() == head.length + length {
                return Some(status);
            }
        }
        if stream.read_buf(&mut buffer).await.ok()? == 0 {
            return None;
        }
    }
}
