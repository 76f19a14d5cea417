//! Memory is what it is said to be: whatever senders hold open, the process stays below what
//! `hookgate check` tells for its configuration, and who has a genuine event gets through.
//! The connections are as many as the defaults allow; each attack has a gate of its own,
//! and takes so many descriptors that no other test may run in this process.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, unused_imports, reason = "a part of it; `attacks` shows what nobody uses")]
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "the same")]
#[path = "../support/tls.rs"]
mod tls;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use support::{App, Builder, Gate, Sender, Signer, until};
use tls::Authority;

/// Of one address; the rate limit that a preset may have is not far from it.
const OF_ONE_ADDRESS: usize = 95;
const MIB: u64 = 1 << 20;

/// One at a time: each of them takes what a machine can give.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

struct Siege {
    gate: Gate,
    app: App,
    bound: u64,
    idle: u64,
    held: Vec<TcpStream>,
}

impl Siege {
    /// A gate with the limits that it has by default.
    fn of(app: App, builder: Builder) -> Self {
        let output = builder.command("check").args(["-o", "json"]).output().unwrap();
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let bound = told["memory"]["most"].as_u64().unwrap_or_else(|| panic!("{told:#}"));
        let gate = builder.start();
        let idle = resident(&gate);
        Siege { gate, app, bound, idle, held: Vec::new() }
    }

    fn new() -> Self {
        let app = App::ok();
        let builder = Gate::before(&app).with("idle-timeout", "30s");
        Siege::of(app, builder)
    }

    fn hold(&mut self, count: usize, bytes: &[u8]) {
        for n in 0..count {
            let mut stream = connect_from(attacker(n), self.gate.address());
            stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
            _ = stream.write_all(bytes); // some are turned away at once
            self.held.push(stream);
        }
    }

    /// While all is held, an event from elsewhere is delivered.
    fn lets_events_through(&self, what: &str) {
        for size in [100, 20_000, 200_000] {
            let event = Signer::github().sign(vec![b'x'; size]);
            let mut sender = Sender::connect_from("127.0.0.9", self.gate.address());
            assert_eq!(sender.exchange(&event).status, 200, "{what}: {size} bytes");
        }
        assert_eq!(self.app.seen(), 3, "{what}");
    }

    fn stays_within(&self, what: &str, bound: u64) {
        let peak = peak(&self.gate);
        eprintln!(
            "{what}: {} MiB idle, {} MiB at most, told {} MiB",
            self.idle / MIB,
            peak / MIB,
            bound / MIB
        );
        assert!(peak < bound, "{what}: {} MiB, told {} MiB", peak / MIB, bound / MIB);
    }

    fn ends(mut self, what: &str) {
        self.held.clear();
        until(&format!("{what} to be over"), || {
            let metrics = self.gate.metrics();
            metrics.value("hookgate_connections") + metrics.value("hookgate_buffered_body_bytes") < 1.0
        });
    }
}

/// The address of the attacker's connection with that number.
fn attacker(n: usize) -> [u8; 4] {
    [127, 0, 1, u8::try_from(1 + n / OF_ONE_ADDRESS).unwrap()]
}

fn connect_from(source: [u8; 4], gate: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None);
    let socket = socket.expect("ten thousand descriptors are needed: raise `ulimit -n`");
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&gate.into()).unwrap();
    socket.into()
}

/// From /proc/PID/status, in bytes.
fn status(gate: &Gate, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", gate.id())).unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

fn resident(gate: &Gate) -> u64 {
    status(gate, "VmRSS:")
}

/// The most that was ever resident.
fn peak(gate: &Gate) -> u64 {
    status(gate, "VmHWM:")
}

/// A head that every check lets through to the body: any tag will do until the body is there.
fn head(path: &str, fill: &str, framing: &str) -> String {
    let tag = "a".repeat(64);
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nX-Hub-Signature-256: sha256={tag}\r\n{fill}{framing}\r\n\r\n")
}

const CHUNKED: &str = "Transfer-Encoding: chunked";

/// Lines of the given length, as many as make 30 KiB.
fn long_head(line: usize) -> String {
    (0..30_000 / line)
        .fold(String::new(), |lines, n| lines + &format!("X-{n:02}: {}\r\n", "b".repeat(line - 8)))
}

fn attack(what: &str, bytes: &str) {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut siege = Siege::new();
    siege.hold(4000, bytes.as_bytes());
    siege.lets_events_through(what);
    siege.stays_within(what, siege.bound);
    siege.ends(what);
}

#[test]
fn a_byte_of_a_chunk_on_every_connection() {
    attack("a byte of a chunk", &(head("/webhooks", "", CHUNKED) + "1\r\na\r\n"));
}

#[test]
fn a_byte_of_a_chunk_behind_a_head_of_30_kib() {
    attack("a byte of a chunk, long heads", &(head("/webhooks", &long_head(3000), CHUNKED) + "1\r\na\r\n"));
}

#[test]
fn a_byte_of_a_chunk_behind_a_head_of_many_lines() {
    attack("a byte of a chunk, many lines", &(head("/webhooks", &long_head(330), CHUNKED) + "1\r\na\r\n"));
}

#[test]
fn a_body_that_is_announced_and_stays_away() {
    attack("announced bodies", &head("/webhooks", "", "Content-Length: 1000000"));
}

#[test]
fn a_body_of_16_kib_that_is_announced_as_a_megabyte() {
    attack(
        "16 KiB of a megabyte",
        &(head("/webhooks", "", "Content-Length: 1000000") + &"a".repeat(16 << 10)),
    );
}

#[test]
fn a_head_of_30_kib_that_does_not_end() {
    attack("heads without end", &head("/webhooks", &long_head(3000), "X: y").replace("\r\n\r\n", "\r\n"));
}

/// Pingora's own limit is a megabyte.
#[test]
fn a_head_of_900_kib_that_does_not_end() {
    attack("long heads without end", &("GET / HTTP/1.1\r\n".to_owned() + &long_head(3000).repeat(30)));
}

/// What is refused by its head may go on sending for a moment, so that it reads its answer.
#[test]
fn a_refused_request_that_goes_on_sending() {
    attack("refused bodies", &(head("/elsewhere", "", CHUNKED) + "1\r\na\r\n"));
}

/// The budget of 64 MiB, a quarter more for what surrounds bodies, a mebibyte, an eighth of that
/// for the allocator, 200 connections, and what the program takes to serve.
const BODIES: u64 = (64 + 16 + 1) * 9 / 8 * MIB + 200 * (28 << 10) + 8 * MIB;

#[test]
fn half_of_200_bodies_of_a_megabyte() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let what = "200 half bodies";
    let mut siege = Siege::new();
    let half = head("/webhooks", "", "Content-Length: 1000000") + &"a".repeat(500_000);
    siege.hold(200, half.as_bytes());
    siege.lets_events_through(what);
    siege.stays_within(what, siege.idle + BODIES);
    siege.ends(what);
}

#[test]
fn chunks_that_grow_to_a_megabyte() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let what = "growing chunks";
    let mut siege = Siege::new();
    let piece = format!("1000\r\n{}\r\n", "a".repeat(0x1000));
    siege.hold(200, (head("/webhooks", "", CHUNKED) + &piece.repeat(200)).as_bytes());
    siege.lets_events_through(what);
    siege.stays_within(what, siege.idle + BODIES);
    siege.ends(what);
}

#[test]
fn a_byte_of_a_chunk_over_tls() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(authority) = Authority::new() else { return };
    let what = "a byte of a chunk over TLS";
    let app = App::ok();
    let builder = tls::gate(&app, &authority.issue("gate", 30));
    let siege = Siege::of(app, builder);
    let client = authority.client(&[&rustls::version::TLS13], None);
    let bytes = head("/webhooks", &long_head(3000), CHUNKED) + "1\r\na\r\n";
    let held: Vec<_> = (0..2500)
        .map(|n| {
            let socket = connect_from(attacker(n), siege.gate.tls_address());
            let mut connection = tls::over(socket, client.clone());
            if let Ok((sender, _)) = &mut connection {
                sender.send(&bytes);
            }
            connection
        })
        .collect();
    siege.stays_within(what, siege.bound);
    let event = Signer::github().event();
    let socket = connect_from([127, 0, 0, 9], siege.gate.tls_address());
    assert_eq!(tls::over(socket, client).unwrap().0.exchange(&event).status, 200);
    drop(held);
    siege.ends(what);
}

/// One address has no more of the connections than its part, unless it speaks for others.
#[test]
fn one_address_has_256_connections_and_a_trusted_proxy_all() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let app = App::ok();
    let gate = Gate::before(&app).start();
    let connect = |gate: &Gate| Sender::connect_from("127.0.0.2", gate.address());
    let held: Vec<_> = (0..256).map(|_| connect(&gate)).collect();
    gate.wait_for_metric("hookgate_connections", 256.0);
    assert_eq!(connect(&gate).response().status, 503);
    assert_eq!(
        Sender::connect_from("127.0.0.3", gate.address()).exchange(&Signer::github().event()).status,
        200
    );
    drop(held);
    let gate = Gate::before(&app).with("trusted-proxy", "127.0.0.2/32").start();
    let _held: Vec<_> = (0..400).map(|_| connect(&gate)).collect();
    gate.wait_for_metric("hookgate_connections", 400.0);
    assert_eq!(connect(&gate).exchange(&Signer::github().event()).status, 200);
}
