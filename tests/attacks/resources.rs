//! Section 2.6: senders and applications that take more than their share. Numbers are scaled
//! down so that the suite stays quick; each row says how far.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::fixture::*;
use crate::support::gate::same;
use crate::support::{Answer, App, Latch, Request, Sender, until};
use crate::tls::{self, Authority};

static GATE: Shared = Shared::new(Fixture::new);

/// Loopback addresses: the attacker's and another's.
const ATTACKER: &str = "127.0.0.2";
const OTHER: &str = "127.0.0.3";

const STEP: Duration = Duration::from_millis(100);

/// Sends a byte now and then, for somewhat longer than it may, and waits for the end.
fn drip(sender: &mut Sender, bytes: &[u8], allowed: Duration) -> Duration {
    let started = Instant::now();
    let mut bytes = bytes.chunks(1);
    while started.elapsed() < allowed + 4 * STEP {
        sender.send(bytes.next().unwrap());
        sleep(STEP);
    }
    assert!(sender.rest().is_empty(), "closed without a word");
    started.elapsed()
}

fn resident(fixture: &Fixture) -> f64 {
    fixture.gate.metrics().value("process_resident_memory_bytes")
}

/// What was needed for a moment, also by whoever diagnoses in the background, is given back.
fn settles_within(fixture: &Fixture, before: f64, bytes: u32) {
    until(&format!("{before} bytes to have grown by less than {bytes}"), || {
        resident(fixture) - before < f64::from(bytes)
    });
}

/// Scaled down: a second instead of ten, a byte every tenth of it.
#[test]
fn a113_a_head_that_trickles_is_cut_off_after_its_total_time() {
    let fixture = Fixture::with(|builder| builder.with("header-timeout", "1s"));
    let event = github().event();
    let took = drip(&mut fixture.gate.connect(), &event.bytes(), Duration::from_secs(1));
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert_eq!(fixture.app.seen(), 0);
    assert!(same(fixture.gate.metrics().sum("hookgate_requests_total", &[]), 0.0), "it was no request");
    fixture.delivers("genuine after all", &event);
}

/// Scaled down: a second to be idle and one for the head.
#[test]
fn a114_a_second_head_has_its_time_as_well() {
    let fixture = Fixture::with(|builder| builder.with("header-timeout", "1s").with("idle-timeout", "1s"));
    let mut sender = fixture.gate.connect();
    assert_eq!(sender.exchange(&github().event()).status, 200);
    let event = github().event();
    let took = drip(&mut sender, &event.bytes(), Duration::from_secs(2));
    assert!(took < Duration::from_secs(7), "{took:?}");
    assert_eq!(fixture.app.seen(), 1);
    fixture.delivers("genuine after all", &event);
}

/// Scaled down: a second instead of fifteen.
#[test]
fn a115_a_body_that_trickles_is_given_up_after_its_total_time() {
    let fixture = Fixture::with(|builder| builder.with("body-timeout", "1s"));
    let event = github().event();
    let before = fixture.look();
    let mut sender = fixture.gate.connect();
    sender.send(event.head(&format!("Content-Length: {}\r\n", event.body.len())));
    for byte in event.body.chunks(1).take(14) {
        sender.send(byte);
        sleep(STEP);
    }
    fixture.judge(&mut sender, "a trickle", &before, BODY_TIMEOUT);
    fixture.delivers("genuine after all", &event);
}

/// Scaled down: 300 connections instead of 5,000, and two seconds instead of ten.
#[test]
fn a116_silent_connections_keep_nobody_else_out() {
    const MOST: usize = 300;
    let fixture = Fixture::with(|builder| {
        builder
            .with("header-timeout", "2s")
            .with("max-connections", MOST + 20)
            .with("max-connections-per-address", MOST)
    });
    let connect = || Sender::connect_from(ATTACKER, fixture.gate.address());
    let silent: Vec<_> = (0..MOST).map(|_| connect()).collect();
    fixture.gate.wait_for_metric("hookgate_connections", 300.0);
    let before = fixture.look();
    fixture.judge(&mut connect(), "one more", &before, OVERLOADED.closing());
    fixture.delivers("from another address", &github().event());
    fixture.gate.wait_for_metric("hookgate_connections", 0.0);
    drop(silent);
    fixture.expect_from(ATTACKER, "the same address afterwards", github().event().bytes(), DELIVERED);
}

#[test]
fn a117_a_handshake_that_is_never_finished_is_cut_off() {
    let Some(authority) = Authority::new() else { return };
    let app = App::ok();
    let gate = tls::gate(&app, &authority.issue("gate", 30)).start();
    let started = Instant::now();
    let begin = |start: &[u8]| {
        let mut sender = Sender::connect(gate.tls_address());
        sender.send(start);
        sender
    };
    for mut sender in [begin(b""), begin(&[0x16]), begin(&[0x16, 3, 1, 2, 0, 1, 0, 1])] {
        assert!(sender.rest().is_empty());
    }
    let took = started.elapsed();
    assert!((9..20).contains(&took.as_secs()), "{took:?}");
    gate.wait_for_metric("hookgate_connections", 0.0);
    app.assert_untouched("no handshake");
}

/// The kernel takes some megabytes off the gate's hands, so it is asked until it is stuck.
#[test]
fn a118_an_answer_that_nobody_reads_is_given_up() {
    let fixture = Fixture::with(|builder| builder.with("idle-timeout", "300s"));
    // Shorter than what the gate gathers before it sends, so that it has nothing left to write
    // and still cannot be rid of it.
    let long = "x".repeat(32 << 10);
    let answer = Answer::raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{long}", long.len()));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&fixture.gate.address().into()).unwrap();
    let mut deaf = TcpStream::from(socket);
    let in_flight = || !same(fixture.gate.metrics().value("hookgate_requests_in_flight"), 0.0);
    let (mut event, mut started);
    let mut asked = 0;
    loop {
        asked += 1;
        assert!(asked < 500, "the kernel takes everything");
        fixture.plan([answer.clone()]);
        event = github().event();
        started = Instant::now();
        deaf.write_all(&event.bytes()).unwrap();
        fixture.app.wait_for(asked);
        while in_flight() && started.elapsed() < Duration::from_secs(2) {
            sleep(STEP);
        }
        if in_flight() {
            break;
        }
    }
    // The application was done long before.
    fixture.expect("the event again", event.bytes(), DUPLICATE);
    until("the end of the connection", || same(fixture.gate.metrics().value("hookgate_connections"), 0.0));
    let took = started.elapsed();
    assert!((9..25).contains(&took.as_secs()), "{took:?}");
}

#[test]
fn a119_a_length_beyond_the_limit_is_refused_before_a_byte_is_read() {
    let gate = GATE.enter();
    let event = github().event();
    for length in ["1048577", "10000000000", "999999999999999999"] {
        gate.expect(length, event.head(&format!("Content-Length: {length}\r\n")), TOO_LARGE);
    }
    gate.delivers("genuine after all", &event);
}

/// Scaled down: two megabytes instead of ten gigabytes.
#[test]
fn a120_chunks_without_end_are_stopped_at_the_limit() {
    let gate = GATE.enter();
    let event = github().sign(vec![b'x'; 2 << 20]);
    let before = resident(&gate);
    for size in [1000, 70_000, 2 << 20] {
        let head = event.head("Transfer-Encoding: chunked\r\n").into_bytes();
        gate.expect_cut(&format!("chunks of {size}"), [head, event.chunks(size)].concat(), TOO_LARGE);
    }
    gate.gate.wait_for_metric("hookgate_buffered_body_bytes", 0.0);
    settles_within(&gate, before, 16 << 20);
}

/// Scaled down: a budget of two megabytes and six bodies of one, instead of 64 and 1,000.
#[test]
fn a121_all_bodies_together_have_a_limit() {
    const MEBIBYTE: u32 = 1 << 20;
    let fixture = Fixture::with(|builder| builder.with("max-buffered", "2MiB"));
    let events: Vec<_> = (0..6).map(|n| github().sign(vec![b'a' + n; MEBIBYTE as usize])).collect();
    let mut senders = Vec::new();
    let almost = |event: &Request| {
        let bytes = event.bytes();
        bytes[..bytes.len() - 1].to_vec()
    };
    let (held, surplus) = events.split_at(2);
    for (n, event) in (1..).zip(held) {
        let mut sender = fixture.gate.connect();
        sender.send(almost(event));
        fixture.gate.wait_for_metric("hookgate_buffered_body_bytes", f64::from(n * (MEBIBYTE - 1)));
        senders.push(sender);
    }
    for event in surplus {
        let before = fixture.look();
        let mut sender = fixture.gate.connect();
        sender.send(almost(event));
        fixture.judge(&mut sender, "one too many", &before, OVERLOADED.closing());
    }
    for (event, mut sender) in held.iter().zip(senders) {
        fixture.expect_on(&mut sender, "one that was held", &event.body[event.body.len() - 1..], DELIVERED);
    }
    fixture.gate.wait_for_metric("hookgate_buffered_body_bytes", 0.0);
    fixture.delivers("a refused one", &surplus[0]);
}

/// Scaled down: 64 KiB instead of 1 MiB.
#[test]
fn a122_one_byte_a_chunk_is_slow_and_right() {
    let gate = GATE.enter();
    let event = standard().sign(vec![b'x'; 64 << 10]);
    let head = event.head("Transfer-Encoding: chunked\r\n").into_bytes();
    gate.expect("one byte a chunk", [head, event.chunks(1)].concat(), DELIVERED);
    assert!(gate.app.requests().pop().unwrap().body == event.body);
}

/// A gate that verifies twenty forgeries an hour for each address, and then ten a second for
/// all such addresses together.
fn budgeted() -> Fixture {
    Fixture::with(|builder| builder.with("failure-limit", "20/1h"))
}

/// Forgeries until the address has spent its budget and the lane of all is full.
fn flood(fixture: &Fixture) {
    let mut sender = Sender::connect_from(ATTACKER, fixture.gate.address());
    let forged = github().event().tampered();
    for n in 1..500 {
        let answer = sender.exchange(&forged);
        match answer.said() {
            (401, text) if text == MISMATCH.text => {}
            (429, text) if text == LIMITED.text && answer.header("Retry-After").is_some() => {
                assert!(n > 20, "forgery {n} is within the budget");
                return;
            }
            other => panic!("forgery {n}: {other:?}"),
        }
    }
    panic!("the budget is never spent");
}

/// Scaled down: up to 500 forgeries instead of a million.
#[test]
fn a123_a_flood_of_forgeries_costs_its_address_the_budget() {
    let fixture = budgeted();
    flood(&fixture);
    fixture.wait_for_in_flight(0);
    fixture.expect_from(OTHER, "a forgery from elsewhere", github().event().tampered().bytes(), MISMATCH);
    fixture.expect_from(OTHER, "genuine from elsewhere", github().event().bytes(), DELIVERED);
    assert_eq!(fixture.app.seen(), 1);
}

/// Scaled down: 1,000 addresses instead of a million.
#[test]
fn a124_forgeries_from_many_addresses_take_constant_memory() {
    let fixture =
        Fixture::with(|builder| builder.with("failure-limit", "5/1m").with("trusted-proxy", "127.0.0.1/32"));
    let forged = github().event().tampered();
    let mut sender = fixture.gate.connect();
    let mut send = |n: usize| {
        let address = format!("203.{}.{}.1", n / 256, n % 256);
        assert_eq!(
            sender.exchange(&forged.clone().with("X-Forwarded-For", &address)).status,
            401,
            "{address}"
        );
    };
    (0..100).for_each(&mut send);
    let before = resident(&fixture);
    (100..1100).for_each(&mut send);
    settles_within(&fixture, before, 4 << 20);
    assert_eq!(fixture.app.seen(), 0);
}

#[test]
fn a125_who_shares_an_address_with_a_flood_is_slowed_and_not_cut_off() {
    let fixture = budgeted();
    let event = github().event();
    // Genuine deliveries cost nothing of the budget.
    for _ in 0..30 {
        let mut sender = Sender::connect_from(ATTACKER, fixture.gate.address());
        assert_eq!(sender.exchange(&github().event()).status, 200);
    }
    flood(&fixture);
    let before = fixture.app.seen();
    until("a place in the lane", || {
        let answer = Sender::connect_from(ATTACKER, fixture.gate.address()).exchange(&event);
        let limited = answer.status == 429 && answer.header("Retry-After").is_some();
        assert!(limited || answer.status == 200, "{}", answer.status);
        answer.status == 200
    });
    assert_eq!(fixture.app.seen() - before, 1);
}

#[test]
fn a126_who_sends_too_much_is_told_when_to_come_back() {
    let routes = ROUTES.replacen("max_body: 1MiB,", "max_body: 1MiB, rate_limit: 3/1h,", 1);
    let fixture = Fixture::configured(&routes, |builder| builder.without("rate-limit"));
    for n in 0..3 {
        fixture.delivers(&format!("number {n}"), &github().event());
    }
    let event = github().event();
    fixture.expect("number four", event.bytes(), LIMITED);
    fixture.expect("a forgery is not even looked at", event.clone().tampered().bytes(), LIMITED);
    fixture.delivers("another route", &stripe().event());
    // The event was not reserved: from another address it is the first.
    fixture.expect_from(OTHER, "another address", event.bytes(), DELIVERED);
}

#[test]
fn a127_a_head_has_a_limit_in_lines_and_in_bytes() {
    let gate = GATE.enter();
    let (event, length) = (github().event(), |n: usize| "x".repeat(n));
    let lines = |n: usize| (0..n).fold(event.clone(), |event, n| event.with(&format!("X-{n}"), "x"));
    let own = event.headers.0.len() + 2; // Host and Content-Length
    // The rest is not read: the gate does not know where the body would begin.
    gate.expect("101 lines", lines(101 - own).bytes(), HEAD_TOO_LARGE.closing());
    gate.expect(
        "one value of 32 KiB",
        event.clone().with("X", &length(32 << 10)).bytes(),
        HEAD_TOO_LARGE.closing(),
    );
    let many = (0..33).fold(event.clone(), |event, n| event.with(&format!("X-{n}"), &length(1000)));
    gate.expect("33 KiB in values", many.bytes(), HEAD_TOO_LARGE.closing());
    gate.expect(
        "a long path",
        event.clone().to(&format!("/{}", length(33 << 10))).bytes(),
        HEAD_TOO_LARGE.closing(),
    );
    gate.expect("300 lines", lines(300).bytes(), HEAD_TOO_LARGE.closing());
    gate.expect("100 lines", lines(100 - own).bytes(), DELIVERED);
}

#[test]
fn a128_http_2_is_not_spoken() {
    let gate = GATE.enter();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    gate.expect("prior knowledge", preface, FRAMING);
}

/// The process may hold 40 descriptors; 80 connections are asked for.
#[test]
fn a129_without_descriptors_the_gate_waits_for_better_times() {
    let fixture = Fixture::new();
    let limit = ["--pid", &fixture.gate.id().to_string(), "--nofile=40:40"];
    let Ok(limited) = Command::new("prlimit").args(limit).status() else {
        eprintln!("SKIPPED: prlimit is not on PATH");
        return;
    };
    assert!(limited.success());
    let storm: Vec<_> = (0..80).map(|_| fixture.gate.connect()).collect();
    sleep(Duration::from_millis(500));
    assert!(fixture.gate.is_running());
    drop(storm);
    fixture.gate.wait_for_metric("hookgate_connections", 0.0);
    fixture.delivers("after the storm", &github().event());
}

/// Scaled down: 300 paths and hosts instead of 100,000.
#[test]
fn a130_unknown_paths_and_hosts_make_no_series() {
    let gate = GATE.enter();
    let series = || gate.gate.metrics().0.into_keys().collect::<Vec<_>>();
    let before = series();
    let mut sender = gate.gate.connect();
    for n in 0..300 {
        sender.send(format!("POST /x{n} HTTP/1.1\r\nHost: h{n}.example\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(sender.response().status, 404);
    }
    assert_eq!(series(), before);
}

/// Scaled down: the endless answer is cut at two megabytes. A success that is too long to
/// pass on was a success all the same: the sender reads 502, and its retry is a duplicate.
#[test]
fn a131_an_answer_has_a_limit() {
    let gate = GATE.enter();
    let head = "HTTP/1.1 200 OK\r\n";
    let long = "x".repeat(2 << 20);
    for (what, answer) in [
        ("a gigabyte is announced", format!("{head}Content-Length: 1000000000\r\n\r\n{long}")),
        (
            "chunks",
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n", long.len()),
        ),
        ("until the end", format!("{head}\r\n{long}")),
    ] {
        let event = github().event();
        gate.plan([Answer::raw(answer).then_close()]);
        gate.expect(what, event.bytes(), FAILED);
        gate.remembers(what, &event);
    }
    for (what, answer) in [
        ("interim answers without end", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000)),
        ("a head without end", format!("{head}{}", "X: y\r\n".repeat(20_000))),
    ] {
        let event = github().event();
        gate.plan([Answer::raw(answer).then_close()]);
        gate.expect(what, event.bytes(), FAILED);
        gate.delivers("the retry", &event);
    }
    drop(gate);

    let fixture = Fixture::with(|builder| builder.with("upstream-timeout", "1s"));
    let latch = Latch::default();
    fixture.plan([Answer::raw(head).then(Answer::raw("Content-Length: 0\r\n\r\n").when(&latch))]);
    fixture.expect("a head that trickles", github().event().bytes(), TIMED_OUT);
    latch.open();
    assert!(same(fixture.gate.metrics().requests("upstream_timeout"), 1.0));
}
