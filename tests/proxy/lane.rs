//! How much of a route reaches the application at once, and how fast.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::gate::same;
use crate::support::{Answer, App, Gate, Latch, Signer, until};

fn waiting(gate: &Gate) -> f64 {
    gate.metrics().value("hookgate_deliveries_waiting{route=\"default\"}")
}

#[test]
fn no_more_deliveries_than_that_are_with_the_application_at_once() {
    let latch = Latch::default();
    let app = App::always(Answer::ok().when(&latch));
    // GitHub repeats nothing: its deliveries wait as long as can be.
    let gate = Gate::before(&app).with("provider", "github").with("max-concurrent", 2).start();
    let statuses = thread::scope(|scope| {
        let sends: Vec<_> =
            (0..5).map(|_| scope.spawn(|| gate.send(&Signer::github().event()).status)).collect();
        until("three of five wait", || same(waiting(&gate), 3.0));
        assert_eq!(app.seen(), 2, "and two are with the application");
        latch.open();
        sends.into_iter().map(|send| send.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(statuses, [200; 5], "each had its turn");
    assert!(same(waiting(&gate), 0.0));
}

#[test]
fn who_comes_again_is_told_when_and_the_event_gets_through_then() {
    let latch = Latch::default();
    let app = App::always(Answer::ok().when(&latch));
    let gate = Gate::before(&app).with("provider", "standard-webhooks").with("max-concurrent", 1).start();
    let (first, second) = (Signer::standard_webhooks().event(), Signer::standard_webhooks().event());
    thread::scope(|scope| {
        let held = scope.spawn(|| gate.send(&first).status);
        app.wait_for(1);
        let refused = gate.send(&second);
        assert_eq!((refused.status, refused.text()), (503, "Try again".to_owned()));
        assert_eq!(refused.header("Retry-After"), Some("1"));
        let line = gate.decision(&refused);
        assert_eq!(
            (&line["hookgate.reason"], &line["hookgate.verdict"]),
            (&"overloaded".into(), &"refused".into())
        );
        assert_eq!(line.get("hookgate.duration.upstream_ms"), None, "the application was not called");
        latch.open();
        assert_eq!(held.join().unwrap(), 200);
    });
    assert_eq!(app.seen(), 1);
    assert_eq!(gate.send(&second).status, 200, "what was turned away is not remembered");
}

#[test]
fn deliveries_come_no_faster_than_that_and_none_is_lost() {
    let app = App::ok();
    let gate = Gate::before(&app)
        .config(
            "
routes:
  - { name: one, path: /webhooks, provider: github, deliver: { rate: 4/1s }, secrets: [{ file: DIR/key-1 }] }
",
        )
        .start();
    let started = Instant::now();
    thread::scope(|scope| {
        let sends: Vec<_> =
            (0..8).map(|_| scope.spawn(|| gate.send(&Signer::github().event()).status)).collect();
        for send in sends {
            assert_eq!(send.join().unwrap(), 200);
        }
    });
    // Four at once, and then one in each quarter of a second.
    assert!(started.elapsed() >= Duration::from_millis(950), "{:?}", started.elapsed());
    assert_eq!(app.seen(), 8);
}

#[test]
fn a_reload_that_changes_something_else_lets_no_more_through() {
    let latch = Latch::default();
    let app = App::always(Answer::ok().when(&latch));
    let route = |max_body: &str| {
        format!(
            "
routes:
  - {{ name: one, path: /webhooks, provider: github, deliver: {{ max_concurrent: 1 }}, max_body: {max_body},
      secrets: [{{ file: DIR/key-1 }}] }}
"
        )
    };
    let gate = Gate::before(&app).config(&route("1MiB")).start();
    thread::scope(|scope| {
        let first = scope.spawn(|| gate.send(&Signer::github().event()).status);
        app.wait_for(1);
        let yaml = route("2MiB").replace("DIR", gate.dir.path().to_str().unwrap());
        gate.dir.write("hookgate.yaml", yaml);
        gate.signal("HUP");
        gate.wait_for_metric("hookgate_reloads_total{result=\"success\",source=\"signal\"}", 1.0);
        let second = scope.spawn(|| gate.send(&Signer::github().event()).status);
        until("the second waits", || {
            same(gate.metrics().value("hookgate_deliveries_waiting{route=\"one\"}"), 1.0)
        });
        assert_eq!(app.seen(), 1);
        latch.open();
        assert_eq!((first.join().unwrap(), second.join().unwrap()), (200, 200));
    });
}
