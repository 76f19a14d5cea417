//! Real servers behind a real gate: no header of a sender makes one of them see another value of
//! ours, another path or another method, and no path that a prefix route takes reaches a handler
//! outside of the prefix. A server that is not installed is skipped aloud.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, unused_imports, reason = "a part of it; `attacks` shows what nobody uses")]
#[path = "../support/mod.rs"]
mod support;

// What a sender tries.
mod attacks;
// What is forwarded is read alike by servers that share no code.
mod differential;
// How each server is started.
mod server;

use std::sync::atomic::{AtomicUsize, Ordering};

use attacks::{FORGED, MARKS, NAMES, WORDS, alike, climbs};
use server::Server;
use support::{Builder, Gate, Request, Response, Sender, Signer};

#[test]
fn gunicorn_sees_what_the_gate_saw() {
    judge(Server::gunicorn());
}

#[test]
fn uvicorn_sees_what_the_gate_saw() {
    judge(Server::uvicorn());
}

#[test]
fn waitress_sees_what_the_gate_saw() {
    judge(Server::waitress());
}

#[test]
fn puma_sees_what_the_gate_saw() {
    judge(Server::puma());
}

#[test]
fn node_sees_what_the_gate_saw() {
    judge(Server::node());
}

#[test]
fn php_sees_what_the_gate_saw() {
    judge(Server::php());
}

#[test]
fn php_under_lighttpd_sees_what_the_gate_saw() {
    judge(Server::lighttpd_php());
}

#[test]
fn cgi_under_lighttpd_sees_what_the_gate_saw() {
    judge(Server::lighttpd_cgi());
}

#[test]
fn cgi_under_apache_sees_what_the_gate_saw() {
    judge(Server::apache());
}

#[test]
fn nginx_sees_what_the_gate_saw() {
    judge(Server::nginx());
}

#[test]
fn tomcat_sees_what_the_gate_saw() {
    judge(Server::tomcat());
}

fn judge(server: Option<Server>) {
    let Some(server) = server else { return };
    let gate = Builder::new(&server.url()).with("path", "/hooks/*").start();
    headers(&server, &gate);
    paths(&gate);
}

/// An event that nobody has sent before, as long as every other.
fn event() -> Request {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    Signer::github().sign(format!("{{\"n\":{count:06}}}")).to("/hooks/x")
}

fn headers(server: &Server, gate: &Gate) {
    let plain = view(&gate.send(&event()));
    assert!(
        plain.contains("hookgate") || plain.contains("HOOKGATE"),
        "the application tells it all: {plain}"
    );
    let mut straight = Sender::connect(server.address());
    straight.send(event().with("Hookgate-Verdict", FORGED).with("Connection", "close").bytes());
    let told = straight.rest();
    assert!(String::from_utf8_lossy(&told).contains(FORGED), "what is not stopped is seen");

    let words = WORDS.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    for lines in MARKS.chars().map(alike).chain([words]) {
        // Of two values some servers keep the first, others the last.
        for first in [true, false] {
            let answer = gate.send(&among(event(), &lines, first));
            let seen = view(&answer);
            assert_eq!(seen, plain, "{lines:?}, first: {first}");
            assert!(!answer.text().contains(FORGED), "{lines:?}, first: {first}: {}", answer.text());
        }
    }
}

/// With these headers before or behind its own.
fn among(mut event: Request, lines: &[(String, &'static str)], first: bool) -> Request {
    let lines = lines.iter().map(|(name, value)| (name.clone(), (*value).to_owned()));
    let at = if first { 0 } else { event.headers.0.len() };
    event.headers.0.splice(at..at, lines);
    event
}

/// What the application told, without the values that no two events share.
fn view(answer: &Response) -> String {
    const OWN: [&str; 11] = [
        "hookgate-request-id",
        "hookgate-idempotency-key",
        "hookgate-event-id",
        "hookgate-unsigned-event-id",
        "hookgate-event-time",
        "x-github-delivery",
        "x-hub-signature-256",
        "traceparent",
        "remote-port",
        "request-time",
        "request-time-float",
    ];
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 200, "{text}");
    let lines = text.lines().map(|line| {
        let name = line.split('=').next().unwrap();
        let plain = name.to_lowercase().replace('_', "-");
        let own = OWN.contains(&plain.strip_prefix("http-").unwrap_or(&plain));
        if own { name.to_owned() } else { line.to_owned() }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn paths(gate: &Gate) {
    for name in NAMES {
        let answer = gate.send(&event().to(&format!("/hooks/{name}")));
        assert_ne!(gate.reason(&answer), "route_unmatched", "{name} is plain");
        assert!(stays(&answer), "{name} is below the prefix");
    }
    for climb in climbs() {
        let answer = gate.send(&event().to(&format!("/hooks/{climb}")));
        assert!(stays(&answer), "{climb} leads out: {}", String::from_utf8_lossy(&answer.body));
    }
}

/// Whether the handler below the prefix answered, or none.
fn stays(answer: &Response) -> bool {
    answer.status != 200 || answer.body.starts_with(b"handler=hooks\n")
}
