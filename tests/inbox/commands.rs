//! `hookgate inbox`: what an operator sees of the inbox and does with it.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::delivery::with_inbox;
use crate::support::gate::{Run, hookgate, run, same};
use crate::support::{Answer, App, Builder, Dir, Gate, Request, Signer, until};

fn controlled(app: &App, state: &Dir) -> Builder {
    let route = "inbox: { on: failure, retry: { first: 50ms, max: 100ms } }";
    with_inbox(app, state, route).with("control-socket", state.join("control").display())
}

fn inbox(state: &Dir, args: &[&str]) -> Run {
    let socket = format!("--control-socket={}", state.join("control").display());
    let mut command = hookgate(&["inbox"]);
    run(command.args(args).arg(socket))
}

fn listed(state: &Dir, args: &[&str]) -> Vec<Value> {
    let run = inbox(state, &[&["list", "-o", "json"], args].concat());
    assert_eq!(run.code, Some(0), "{}", run.err);
    run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn count(gate: &Gate, state: &str) -> f64 {
    gate.metrics().sum("hookgate_inbox_events", &[("state", state)])
}

/// Events that the application gave a final answer to, so that they are dead.
fn dead(gate: &Gate, number: usize) -> Vec<Request> {
    let events: Vec<_> = (0..number).map(|_| Signer::github().event()).collect();
    for event in &events {
        assert_eq!(gate.send(event).status, 202);
    }
    until("they are dead", || (count(gate, "dead") - f64::from(u32::try_from(number).unwrap())).abs() < 0.5);
    events
}

/// First 500, so that it is stored, and then 422, until it is mended.
fn ailing() -> (App, crate::support::Latch) {
    let mended = crate::support::Latch::default();
    let is_mended = mended.clone();
    let app = App::new(move |_, request| match (is_mended.is_open(), request.header("Hookgate-Attempt")) {
        (true, _) => Answer::ok(),
        (false, None) => Answer::status(500),
        (false, Some(_)) => Answer::status(422),
    });
    (app, mended)
}

#[test]
fn a_list_has_one_object_a_line_with_the_names_that_scripts_rely_on() {
    let (state, mut app) = (Dir::new(), App::ok());
    let gate = controlled(&app, &state).start();
    app.stop();
    let event = Signer::github().event();
    let stored = gate.send(&event);
    assert_eq!(stored.status, 202);
    let key = gate.decision(&stored)["hookgate.idempotency_key"].clone();
    let records = listed(&state, &[]);
    let [record] = &*records else { panic!("{records:?}") };
    let mut names: Vec<_> = record.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    let mut expected = [
        "key",
        "route",
        "tenant",
        "state",
        "event_id",
        "event_type",
        "received_at",
        "attempts",
        "next_attempt_at",
        "last_outcome",
        "bytes",
    ];
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!((&record["key"], &record["route"], &record["state"]), (&key, &"one".into(), &"stored".into()));
    assert_eq!((&record["tenant"], &record["last_outcome"]), (&Value::Null, &"unreachable".into()));
    assert!(record["attempts"].as_u64().unwrap() >= 1 && record["bytes"].as_u64().unwrap() > 500);
    for time in ["received_at", "next_attempt_at"] {
        assert!(record[time].as_str().unwrap().ends_with('Z'), "{record}");
    }
    for (args, found) in [
        (&["--route", "one"][..], 1),
        (&["--route", "other"], 0),
        (&["--state", "stored"], 1),
        (&["--state", "dead"], 0),
        (&["--event", key.as_str().unwrap()], 1),
        (&["--event", record["event_id"].as_str().unwrap()], 1),
        (&["--event", "nobody"], 0),
        (&["--since", "1h"], 1),
        (&["--since", "2999-01-01T00:00:00Z"], 0),
    ] {
        assert_eq!(listed(&state, args).len(), found, "{args:?}");
    }
    let report: Value = serde_json::from_str(&gate.ops("/report").text()).unwrap();
    let told = &report["routes"][0]["inbox"];
    assert_eq!((&told["stored"], &told["dead"]), (&1.into(), &0.into()), "{report}");
    let page = gate.ops("/").text();
    assert!(page.contains("Inbox: 1 stored") && page.contains("Next attempt: "), "the page tells of it");
    let text = inbox(&state, &["list"]);
    assert!(text.out.contains("unreachable") && text.out.contains("stored"), "{}", text.out);
    let shown = inbox(&state, &["show", "--route", "one"]);
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    assert!(
        shown.out.contains("POST /webhooks HTTP/1.1") && shown.out.contains("user.created"),
        "{}",
        shown.out
    );
}

#[test]
fn what_is_dead_is_replayed_at_the_rate_that_is_asked_for() {
    let (state, (app, mended)) = (Dir::new(), ailing());
    let gate = controlled(&app, &state).start();
    let events = dead(&gate, 9);
    let page = gate.ops("/").text();
    assert!(page.contains("last answer") && page.contains(">422</td>"), "the page tells why: {page}");
    mended.open();
    let started = Instant::now();
    let before = app.seen();
    let replayed = inbox(&state, &["replay", "--state", "dead", "--rate", "8/s"]);
    assert_eq!(
        (replayed.code, replayed.out.trim()),
        (Some(0), "9 events are due now, at 8/1s"),
        "{}",
        replayed.err
    );
    assert_eq!(gate.send(&events[8]).said(), (200, "Already processed".to_owned()), "it is stored again");
    app.wait_for(before + 9);
    assert!(started.elapsed() >= Duration::from_millis(990), "{:?}", started.elapsed());
    until("all are taken", || same(count(&gate, "stored") + count(&gate, "dead"), 0.0));
    let line = gate.log.find("the order", |line| line["event.name"] == "hookgate.inbox.order");
    assert_eq!((&line["hookgate.inbox.order"], &line["hookgate.inbox.count"]), (&"replay".into(), &9.into()));
    assert_eq!(line["hookgate.inbox.selection"], "state dead");
}

#[test]
fn what_is_dropped_is_gone_and_delivered_if_it_comes_again() {
    let (state, mut app) = (Dir::new(), App::ok());
    let gate = controlled(&app, &state).start();
    app.stop();
    let (event, other) = (Signer::github().event(), Signer::github().event());
    for event in [&event, &other] {
        assert_eq!(gate.send(event).status, 202);
    }
    let key = listed(&state, &[])[0]["key"].as_str().unwrap().to_owned();
    let all = inbox(&state, &["drop"]);
    assert_eq!(all.code, Some(2), "nobody drops all without saying so: {}", all.err);
    let dropped = inbox(&state, &["drop", "--event", &key]);
    assert_eq!((dropped.code, dropped.out.trim()), (Some(0), "1 event is dropped"));
    let again = inbox(&state, &["drop", "--event", &key]);
    assert_eq!(again.code, Some(1), "{}", again.out);
    app.start();
    app.wait_for(1);
    assert_eq!(app.only_request().body, other.body);
    assert_eq!(gate.send(&event).said(), (200, "app".to_owned()), "the gate has forgotten it");
}

#[test]
fn a_paused_route_holds_back_until_it_is_resumed_also_over_a_restart() {
    let (state, mut app) = (Dir::new(), App::ok());
    {
        let gate = controlled(&app, &state).start();
        let paused = inbox(&state, &["pause", "--route", "one"]);
        assert_eq!(paused.code, Some(0), "{}", paused.err);
        assert_eq!(inbox(&state, &["pause", "--route", "nobody"]).code, Some(1));
        app.stop();
        assert_eq!(gate.send(&Signer::github().event()).status, 202);
    }
    app.start();
    let gate = controlled(&app, &state).start();
    assert_eq!(gate.send(&Signer::github().event()).status, 200, "live deliveries go on");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(app.seen(), 1);
    assert!(
        gate.ops("/").text().contains("Held back by an operator"),
        "the page tells who looks why nothing goes"
    );
    assert_eq!(inbox(&state, &["resume", "--route", "one"]).out.trim(), "route one: 1 stored event goes on");
    app.wait_for(2);
    assert!(!gate.ops("/").text().contains("Held back"));
}

#[test]
fn a_gate_without_an_inbox_or_no_gate_at_all_is_told() {
    let (state, app) = (Dir::new(), App::ok());
    let absent = inbox(&state, &["list"]);
    assert_eq!(absent.code, Some(1));
    assert!(absent.err.contains("--control-socket"), "{}", absent.err);
    let _gate = Gate::before(&app).with("control-socket", state.join("control").display()).start();
    let without = inbox(&state, &["list"]);
    assert_eq!(without.code, Some(1));
    assert!(without.err.contains("state_dir"), "{}", without.err);
}

#[test]
fn an_event_that_the_inbox_delivered_is_forgotten_over_a_restart_too() {
    let (state, mut app) = (Dir::new(), App::ok());
    let event = Signer::github().event();
    let socket = format!("--control-socket={}", state.join("control").display());
    {
        let gate = controlled(&app, &state).start();
        app.stop();
        let stored = gate.send(&event);
        assert_eq!(stored.status, 202);
        let key = gate.decision(&stored)["hookgate.idempotency_key"].as_str().unwrap().to_owned();
        let held = run(hookgate(&["forget", "--key", &key]).arg(&socket));
        assert!(held.code == Some(1) && held.err.contains("inbox"), "{}", held.err);
        app.start();
        app.wait_for(1);
        until("it is settled", || same(count(&gate, "stored"), 0.0));
        let forgotten = run(hookgate(&["forget", "--key", &key]).arg(&socket));
        assert_eq!(forgotten.code, Some(0), "{}", forgotten.err);
    }
    let gate = controlled(&app, &state).start();
    assert_eq!(gate.send(&event).said(), (200, "app".to_owned()));
}
