//! Gates of a fleet with one store, between a sender and an application that is away.

use std::time::Duration;

use serde_json::Value;

use crate::redis_server::Server;
use crate::support::gate::{hookgate, run, same};
use crate::support::{App, Builder, Gate, Signer, until};

/// A gate of the fleet.
fn fleet(app: &App, server: &Server, on: &str) -> Builder {
    let yaml = format!(
        "
replay: {{ store: \"{}\", prefix: \"shop:\", timeout: 2s }}
routes:
  - name: one
    path: /webhooks
    provider: github
    secrets: [{{ file: DIR/key-1 }}]
    inbox: {{ on: {on}, retry: {{ first: 50ms, max: 200ms }} }}
",
        server.url()
    );
    Gate::before(app).config(&yaml)
}

fn stored(gate: &Gate) -> f64 {
    gate.metrics().sum("hookgate_inbox_events", &[("state", "stored")])
}

#[test]
fn what_one_gate_stored_another_delivers_when_the_first_is_gone() {
    let Some(server) = Server::start() else { return };
    let mut app = App::ok();
    let first = fleet(&app, &server, "failure").start();
    let other = fleet(&app, &server, "failure").start();
    app.stop();
    let events: Vec<_> = (0..5).map(|_| Signer::github().event()).collect();
    for event in &events {
        assert_eq!(first.send(event).said(), (202, String::new()));
        assert_eq!(other.send(event).said(), (200, "Already processed".to_owned()), "every gate knows it");
    }
    until("the other gate to see them", || same(stored(&other), 5.0));
    drop(first);
    app.start();
    app.wait_for(5);
    until("nothing is stored any more", || same(stored(&other), 0.0));
    for event in &events {
        assert_eq!(other.send(event).said(), (200, "Already processed".to_owned()), "it was delivered");
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(app.seen(), 5, "each once");
    let bodies: std::collections::BTreeSet<_> =
        app.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, events.iter().map(|event| event.body.clone()).collect());
}

#[test]
fn an_event_goes_once_to_the_application_while_nobody_dies() {
    let Some(server) = Server::start() else { return };
    let app = App::ok();
    let gates = [fleet(&app, &server, "always").start(), fleet(&app, &server, "always").start()];
    for n in 0..60 {
        let event = Signer::github().event();
        assert_eq!(gates[n % 2].send(&event).status, 202);
        assert_eq!(gates[(n + 1) % 2].send(&event).status, 200);
    }
    app.wait_for(60);
    until("all are delivered", || gates.iter().all(|gate| same(stored(gate), 0.0)));
    assert_eq!(app.seen(), 60);
}

#[test]
fn a_start_says_how_durable_an_event_is_and_a_store_that_is_away_takes_none() {
    let Some(mut server) = Server::start() else { return };
    let app = App::ok();
    let gate = fleet(&app, &server, "always").start();
    let line = gate.log.find("how durable", |line| {
        line["event.name"] == "hookgate.inbox" && line["body"].as_str().unwrap().contains("shared store")
    });
    assert!(line["body"].as_str().unwrap().contains("set appendonly to yes"), "{line}");
    assert_eq!(gate.send(&Signer::github().event()).status, 202);
    app.wait_for(1);
    server.kill();
    assert_eq!(gate.send(&Signer::github().event()).status, 503, "nobody is told that it was taken");
    gate.log.find("the trouble", |line| {
        line["event.name"] == "hookgate.inbox" && line["body"].as_str().unwrap().contains("cannot write")
    });
}

#[test]
fn check_asks_the_store_how_durable_an_event_is_there_and_names_the_remedy() {
    let Some(mut server) = Server::start() else { return };
    let app = App::ok();
    let gate = fleet(&app, &server, "failure").start();
    let file = gate.dir.join("hookgate.yaml");
    let told = || {
        let checked = run(hookgate(&["check", "-o", "json", "-c"]).arg(&file));
        assert_eq!(checked.code, Some(0), "{}", checked.err);
        let checked: Value = serde_json::from_str(&checked.out).unwrap();
        let notices = checked["notices"].as_array().unwrap().iter().map(|notice| notice.as_str().unwrap());
        let of_store: Vec<_> = notices.filter(|notice| notice.contains("the shared store")).collect();
        assert_eq!(of_store.len(), 1, "{of_store:?}");
        of_store[0].to_owned()
    };
    let set = |name: &str, value: &str| server.run::<()>(&["CONFIG", "SET", name, value]);
    assert!(told().ends_with("(appendonly no, and no save): set appendonly to yes"), "{}", told());
    set("save", "3600 1");
    assert!(told().ends_with("until its next snapshot (appendonly no): set appendonly to yes"), "{}", told());
    set("maxmemory-policy", "allkeys-lru");
    assert!(told().ends_with("(maxmemory-policy): set it to noeviction"), "{}", told());
    set("maxmemory-policy", "noeviction");
    set("appendonly", "yes");
    set("appendfsync", "always");
    assert!(
        told().ends_with("on the server's disk before the sender is told (appendfsync always)"),
        "{}",
        told()
    );
    // Without the right to ask for its settings, what it tells of itself is believed.
    set("appendonly", "no");
    server.run::<()>(&["ACL", "SETUSER", "default", "-config"]);
    assert!(told().contains("appendonly no"), "{}", told());
    server.kill();
    assert!(told().contains("cannot be asked from here"), "{}", told());
}
