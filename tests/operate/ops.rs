//! The ops listener: probes, version and metrics, read-only and apart from the traffic.

use std::time::{Duration, Instant};

use crate::support::gate::{hookgate, run};
use crate::support::{self, App, Gate, Sender, Signer, until};

#[test]
fn probes_answer_while_all_is_well() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    for (target, body) in [
        ("/livez", "ok\n"),
        ("/startupz", "ok\n"),
        ("/readyz", "ok\n"),
        ("/startupz?verbose", "[ok] started\nok\n"),
        (
            "/readyz?verbose",
            "[ok] started\n[ok] clock believable\n[ok] not draining\n[ok] replay store usable\nok\n",
        ),
    ] {
        let answer = gate.ops(target);
        assert_eq!((answer.status, answer.text().as_str()), (200, body), "{target}");
    }
}

#[test]
fn readiness_never_asks_the_application() {
    let mut app = App::ok();
    let gate = Gate::before(&app).start();
    app.assert_untouched("probes");
    app.stop();
    for target in ["/livez", "/startupz", "/readyz"] {
        assert_eq!(gate.ops(target).status, 200, "{target} while the application is down");
    }
}

#[test]
fn a_full_replay_memory_is_not_ready_and_refuses() {
    let app = App::ok();
    let gate = Gate::before(&app).with("replay-capacity", 1).start();
    assert_eq!(gate.send(&Signer::github().event()).status, 200);
    let answer = gate.send(&Signer::github().event());
    assert_eq!((answer.status, answer.text().as_str()), (503, "Try again"));
    assert!(answer.header("Retry-After").is_some());
    assert_eq!(gate.reason(&answer), "store_unavailable");
    let ready = gate.ops("/readyz?verbose");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("[no] replay store usable"), "{}", ready.text());
    assert_eq!(gate.ops("/livez").status, 200, "a restart would not help");
    assert_eq!(app.seen(), 1);
}

#[test]
fn the_version_is_json() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    let answer = gate.ops("/version");
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    let version: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    for key in ["revision", "pingora", "rustc"] {
        assert!(version[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {version}");
    }
}

#[test]
fn it_is_read_only_and_knows_what_it_does_not_have() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    for target in ["/healthz", "/index.html", "/livez/", "/debug", "/metrics/x"] {
        assert_eq!(gate.ops(target).status, 404, "{target}");
    }
    for method in ["POST", "PUT", "DELETE"] {
        let mut sender = Sender::connect(gate.ops_address());
        sender.send(format!("{method} /readyz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"));
        let answer = sender.response();
        assert_eq!((answer.status, answer.header("Allow")), (405, Some("GET, HEAD")), "{method}");
    }
}

#[test]
fn a_head_request_gets_the_head_alone() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    let mut sender = Sender::connect(gate.ops_address());
    sender.send("HEAD /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let came = String::from_utf8(sender.rest()).unwrap();
    assert!(came.starts_with("HTTP/1.1 200 OK\r\n") && came.ends_with("\r\n\r\n"), "{came}");
}

#[test]
fn the_traffic_port_does_not_serve_it_and_it_does_not_serve_traffic() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    for target in ["/livez", "/startupz", "/readyz", "/metrics", "/version"] {
        let answer = support::gate::get(gate.address(), target);
        assert_eq!(answer.status, 404, "{target}");
    }
    let answer = Sender::connect(gate.ops_address()).exchange(&Signer::github().event());
    assert_eq!(answer.status, 405);
    app.assert_untouched("no traffic");
}

#[test]
fn probes_and_scrapes_are_not_logged() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    for target in ["/livez", "/metrics", "/nothing"] {
        gate.ops(target);
    }
    let answer = gate.send(&Signer::github().event());
    gate.decision(&answer); // the log is written in order
    assert_eq!(gate.log.count(|line| line["event.name"] == "hookgate.decision"), 1, "{}", gate.log.text());
}

#[test]
fn healthcheck_asks_for_a_container_without_a_shell() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    let address = gate.ops_address().to_string();
    let ask = |args: &[&str]| run(hookgate(&["healthcheck"]).args(args)).code;
    assert_eq!(ask(&["--ops-listen", &address]), Some(0));
    assert_eq!(ask(&["/livez", "--ops-listen", &address]), Some(0));
    assert_eq!(ask(&["/nothing", "--ops-listen", &address]), Some(1));
    let from_environment = run(hookgate(&["healthcheck"]).env("HOOKGATE_OPS_LISTEN", &address));
    assert_eq!(from_environment.code, Some(0), "the probe needs no arguments beside the gate's own");
    let any = format!("0.0.0.0:{}", gate.ops_address().port());
    assert_eq!(ask(&["--ops-listen", &any]), Some(0), "the address as the gate was given it");
    drop(gate);
    let gone = run(hookgate(&["healthcheck"]).args(["--ops-listen", &address]));
    assert_eq!(gone.code, Some(1));
    assert!(gone.err.contains(&address), "{}", gone.err);
}

// Who keeps the listener busy, or asks it under a name that is not its own

/// Silent connections from one address, one byte now and then on the half of them.
fn besiege(gate: &Gate, from: &str, count: usize) -> Vec<Sender> {
    let connect = |n: usize| {
        let mut sender = Sender::connect_from(from, gate.ops_address());
        if n.is_multiple_of(2) {
            sender.send("G");
        }
        sender
    };
    (0..count).map(connect).collect()
}

fn status_from(gate: &Gate, from: &str, head: &str) -> u16 {
    let mut sender = Sender::connect_from(from, gate.ops_address());
    sender.send(head);
    sender.response().status
}

const PROBE: &str = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[test]
fn silent_connections_keep_no_probe_out() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    for (what, places) in [
        ("from another address", vec![("127.0.0.2", 64)]),
        ("from the probe's own", vec![("127.0.0.1", 64)]),
        ("from many", (10..30).map(|_| ("", 8)).collect()),
    ] {
        let held: Vec<_> = places
            .iter()
            .enumerate()
            .map(|(n, (from, count))| {
                let from = if from.is_empty() { format!("127.0.2.{}", n + 1) } else { (*from).to_owned() };
                besiege(&gate, &from, *count)
            })
            .collect();
        for _ in 0..20 {
            assert_eq!(status_from(&gate, "127.0.0.1", PROBE), 200, "{what}");
        }
        drop(held);
    }
}

#[test]
fn a_head_that_trickles_to_the_ops_listener_is_cut_off_after_two_seconds() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    let started = Instant::now();
    let mut sender = Sender::connect(gate.ops_address());
    for byte in PROBE.as_bytes().chunks(1) {
        if started.elapsed() > Duration::from_secs(3) {
            break;
        }
        sender.send(byte);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(sender.rest().is_empty(), "closed without a word");
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
}

#[test]
fn an_idle_connection_to_the_ops_listener_is_closed_after_five_seconds() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    let mut sender = Sender::connect(gate.ops_address());
    sender.send(PROBE.replace("Connection: close\r\n", ""));
    assert_eq!(sender.response().status, 200);
    let idle = Instant::now();
    std::thread::sleep(Duration::from_secs(3));
    sender.send(PROBE.replace("Connection: close\r\n", ""));
    assert_eq!(sender.response().status, 200, "a scraper comes again on its connection");
    assert!(sender.rest().is_empty());
    assert!(
        (Duration::from_secs(7)..Duration::from_secs(20)).contains(&idle.elapsed()),
        "{:?}",
        idle.elapsed()
    );
}

/// It asks on and on, and takes in nothing.
#[test]
fn a_reader_that_never_reads_does_not_hold_the_ops_listener() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    let mut deaf: Vec<_> = (0..8).map(|_| Sender::connect_from("127.0.0.2", gate.ops_address())).collect();
    let ask = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(500);
    for sender in &mut deaf {
        sender.send(&ask);
    }
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(status_from(&gate, "127.0.0.1", PROBE), 200, "from elsewhere at once");
    until("the address to be served again", || status_from(&gate, "127.0.0.2", PROBE) == 200);
}

#[test]
fn the_ops_listener_answers_to_addresses_localhost_and_its_names_only() {
    let app = App::ok();
    let gate = Gate::before(&app).with("ops-host", "gate.example,other.internal").start();
    let ask = |host: &str| {
        let head = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        status_from(&gate, "127.0.0.1", &head)
    };
    for host in [
        "10.1.2.3",
        "10.1.2.3:17090",
        "[fd00::1]:17090",
        "[::1]",
        "localhost",
        "LocalHost:8080",
        "localhost.",
        "gate.example",
        "GATE.example:17090",
        "gate.example.",
        "other.internal",
    ] {
        assert_eq!(ask(host), 200, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:17090",
        "gate.example.evil.example",
        "xgate.example",
        "example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "1.2.3.4.5",
        "[::1].evil.example",
        "localhost:80:evil.example",
        "a",
    ] {
        assert_eq!(ask(host), 421, "{host}");
    }
    let without = |version: &str| format!("GET /livez HTTP/{version}\r\nConnection: close\r\n\r\n");
    assert_eq!(status_from(&gate, "127.0.0.1", &without("1.0")), 200, "an old client names no host");
    assert_eq!(
        status_from(&gate, "127.0.0.1", &without("1.1")),
        400,
        "HTTP/1.1 has to (RFC 9112, section 3.2)"
    );
}
