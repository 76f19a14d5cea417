//! The ops listener: probes, version and metrics, read-only and apart from the traffic.

#![allow(clippy::unwrap_used)]

mod support;

use support::gate::{hookgate, run};
use support::{App, Gate, Sender, Signer};

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
        sender.send(format!("{method} /readyz HTTP/1.1\r\nHost: gate\r\nContent-Length: 0\r\n\r\n"));
        let answer = sender.response();
        assert_eq!((answer.status, answer.header("Allow")), (405, Some("GET, HEAD")), "{method}");
    }
}

#[test]
fn a_head_request_gets_the_head_alone() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    let mut sender = Sender::connect(gate.ops_address());
    sender.send("HEAD /livez HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n");
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
