//! A gate with an inbox between a sender and an application that is away, slow, broken or overwhelmed.

use std::time::{Duration, Instant};

use crate::support::gate::{hookgate, run, same};
use crate::support::{Answer, App, Builder, Dir, Gate, Latch, Signer, eventually, until};

/// A gate with its state in a folder that outlives it.
pub fn with_inbox(app: &App, state: &Dir, route: &str) -> Builder {
    let state = state.path().display();
    let yaml = format!(
        "
state_dir: {state}/state
routes:
  - {{ name: one, path: /webhooks, provider: github, secrets: [{{ file: DIR/key-1 }}], {route} }}
"
    );
    Gate::before(app).config(&yaml)
}

const SOON: &str = "retry: { first: 50ms, max: 200ms }";

#[test]
fn what_the_application_fails_on_is_stored_and_delivered_when_it_is_back() {
    let (state, mut app) = (Dir::new(), App::ok());
    let gate = with_inbox(&app, &state, &format!("inbox: {{ on: failure, {SOON} }}")).start();
    let healthy = gate.send(&Signer::github().event());
    assert_eq!((healthy.status, healthy.text()), (200, "app".to_owned()), "its own answer");
    app.stop();
    let event = Signer::github().event();
    let stored = gate.send(&event);
    assert_eq!(stored.said(), (202, String::new()));
    let line = gate.decision(&stored);
    assert_eq!((&line["hookgate.verdict"], &line["hookgate.reason"]), (&"stored".into(), &"stored".into()));
    let metrics = gate.metrics();
    assert!(same(
        metrics.sum("hookgate_inbox_stored_total", &[("route", "one"), ("cause", "unreachable")]),
        1.0
    ));
    assert!(same(metrics.sum("hookgate_inbox_events", &[("route", "one"), ("state", "stored")]), 1.0));
    assert!(metrics.value("hookgate_inbox_bytes") > 500.0);
    let copy = gate.send(&event);
    assert_eq!(copy.said(), (200, "Already processed".to_owned()), "it is known while it is stored");
    app.start();
    app.wait_for(2);
    let late = &app.requests()[1];
    assert_eq!(late.body, event.body);
    assert!(late.header("Hookgate-Attempt").unwrap().parse::<u32>().unwrap() >= 2, "the live one counts");
    assert!(late.header("Hookgate-Received-At").unwrap().ends_with('Z'));
    for name in [
        "Hookgate-Verdict",
        "Hookgate-Route",
        "Hookgate-Key-Id",
        "Hookgate-Idempotency-Key",
        "X-Forwarded-For",
    ] {
        assert!(late.header(name).is_some(), "{name}");
    }
    assert_eq!(late.header("X-Hub-Signature-256"), event.headers.get("X-Hub-Signature-256"));
    until("it is not stored any more", || {
        same(gate.metrics().sum("hookgate_inbox_events", &[("state", "stored")]), 0.0)
    });
    assert_eq!(gate.send(&event).said(), (200, "Already processed".to_owned()), "it was delivered");
    assert_eq!(app.seen(), 2, "once");
    let line = gate.log.find("the attempt", |line| {
        line["event.name"] == "hookgate.attempt" && line["hookgate.attempt.outcome"] == "200"
    });
    assert_eq!(line["hookgate.route"], "one");
}

#[test]
fn each_way_to_fail_is_stored_and_every_other_answer_is_passed_on() {
    let rows = [
        ("status", Answer::status(500)),
        ("status", Answer::status(503)),
        ("status", Answer::status(429)),
        ("broken", Answer::reset()),
        ("broken", Answer::raw("HTTP/1.1 nonsense\r\n\r\n").then_close()),
        ("broken", Answer::raw("HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\nno").then_close()),
        ("slow", Answer::never()),
    ];
    for (cause, answer) in rows {
        let (state, app) = (Dir::new(), App::script([answer, Answer::ok()]));
        let route = format!("inbox: {{ on: failure, answer_within: 300ms, {SOON} }}");
        let gate = with_inbox(&app, &state, &route).with("upstream-timeout", "1s").start();
        assert_eq!(gate.send(&Signer::github().event()).status, 202, "{cause}");
        assert!(same(gate.metrics().sum("hookgate_inbox_stored_total", &[("cause", cause)]), 1.0), "{cause}");
        app.wait_for(2);
        until("it was taken", || same(gate.metrics().sum("hookgate_inbox_events", &[]), 0.0));
    }
    for status in [201, 204, 301, 400, 401, 404, 410, 422] {
        let (state, app) = (Dir::new(), App::always(Answer::status(status)));
        let gate = with_inbox(&app, &state, &format!("inbox: {{ on: failure, {SOON} }}")).start();
        assert_eq!(gate.send(&Signer::github().event()).status, status, "it is an answer");
        assert!(same(gate.metrics().sum("hookgate_inbox_stored_total", &[]), 0.0));
    }
}

#[test]
fn an_answer_that_comes_late_settles_what_was_stored() {
    let latch = Latch::default();
    let (state, app) = (Dir::new(), App::script([Answer::ok().when(&latch), Answer::status(500)]));
    let gate =
        with_inbox(&app, &state, &format!("inbox: {{ on: failure, answer_within: 200ms, {SOON} }}")).start();
    let event = Signer::github().event();
    let started = Instant::now();
    assert_eq!(gate.send(&event).status, 202);
    assert!(started.elapsed() < Duration::from_secs(5), "its sender does not wait for the application");
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(app.seen(), 1, "nobody else tries it while it is with the application");
    latch.open();
    until("it is settled", || same(gate.metrics().sum("hookgate_inbox_events", &[]), 0.0));
    assert_eq!(gate.send(&event).said(), (200, "Already processed".to_owned()));
    assert_eq!(app.seen(), 1);
}

#[test]
fn always_stores_before_the_application_is_asked_and_answers_as_the_route_says() {
    let latch = Latch::default();
    let (state, app) = (Dir::new(), App::always(Answer::ok().when(&latch)));
    let route = format!("inbox: {{ on: always, ack: {{ status: 201, text: Taken }}, {SOON} }}");
    let gate = with_inbox(&app, &state, &route).start();
    assert_eq!(gate.send(&Signer::github().event()).said(), (201, "Taken".to_owned()));
    app.wait_for(1);
    assert_eq!(app.only_request().header("Hookgate-Attempt"), Some("1"));
    assert_eq!(gate.send(&Signer::github().event()).status, 201, "nobody waits for the application");
    latch.open();
    app.wait_for(2);
    assert_eq!(
        gate.send(&Signer::github().event().tampered()).status,
        401,
        "what is not proved is not stored"
    );
    assert!(same(gate.metrics().sum("hookgate_inbox_stored_total", &[]), 2.0));
}

#[test]
fn what_is_given_up_is_told_and_a_redelivery_of_it_is_delivered() {
    let (state, app) = (Dir::new(), App::script([Answer::status(500), Answer::status(422), Answer::ok()]));
    let gate = with_inbox(&app, &state, &format!("inbox: {{ on: failure, {SOON} }}")).start();
    let event = Signer::github().event();
    assert_eq!(gate.send(&event).status, 202);
    until("it is dead", || {
        same(gate.metrics().sum("hookgate_inbox_events", &[("route", "one"), ("state", "dead")]), 1.0)
    });
    assert!(same(gate.metrics().sum("hookgate_inbox_dead_total", &[("route", "one")]), 1.0));
    let again = gate.send(&event);
    assert_eq!((again.status, again.text()), (200, "app".to_owned()), "the application has answered");
    assert_eq!(app.seen(), 3);
    until("nobody needs the dead one any more", || {
        same(gate.metrics().sum("hookgate_inbox_events", &[]), 0.0)
    });
    assert_eq!(gate.send(&event).said(), (200, "Already processed".to_owned()));
}

#[test]
fn an_event_is_given_up_when_its_time_is_over() {
    let (state, app) = (Dir::new(), App::always(Answer::status(503)));
    let route = "inbox: { on: failure, retry: { first: 50ms, max: 100ms, give_up: 1s } }";
    let gate = with_inbox(&app, &state, route).start();
    assert_eq!(gate.send(&Signer::github().event()).status, 202);
    until("it is dead", || same(gate.metrics().sum("hookgate_inbox_events", &[("state", "dead")]), 1.0));
    assert!(app.seen() >= 2);
}

#[test]
fn what_the_application_asks_for_is_obeyed() {
    let wait = "HTTP/1.1 503 Busy\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n";
    let (state, app) = (Dir::new(), App::script([Answer::raw(wait), Answer::ok()]));
    let gate = with_inbox(&app, &state, &format!("inbox: {{ on: failure, {SOON} }}")).start();
    let started = Instant::now();
    assert_eq!(gate.send(&Signer::github().event()).status, 202);
    app.wait_for(2);
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
}

#[test]
fn over_the_limit_what_is_proved_is_stored_and_shaped_and_the_rest_is_refused() {
    let (state, app) = (Dir::new(), App::ok());
    let route = format!("rate_limit: 4/1s, inbox: {{ on: failure, {SOON} }}");
    let gate = with_inbox(&app, &state, &route).without("rate-limit").start();
    let started = Instant::now();
    let statuses: Vec<_> = (0..10).map(|_| gate.send(&Signer::github().event()).status).collect();
    assert_eq!(statuses[..4], [200; 4]);
    assert!(
        statuses[4..].contains(&202) && statuses.iter().all(|status| matches!(status, 200 | 202)),
        "{statuses:?}"
    );
    let stored = statuses.iter().filter(|status| **status == 202).count();
    let metrics = gate.metrics();
    let counted = metrics.sum("hookgate_inbox_stored_total", &[("cause", "rate_limited")]);
    assert!(same(counted, f64::from(u32::try_from(stored).unwrap())));
    for forged in
        [Signer::github().event().tampered(), Signer::github().event().without("X-Hub-Signature-256")]
    {
        // The burst is over by now, unless the machine was slow.
        let refused = gate.send(&forged);
        assert!(matches!(refused.status, 429 | 401), "{}", refused.status);
    }
    app.wait_for(10);
    assert!(started.elapsed() >= Duration::from_millis(1200), "not all at once: {:?}", started.elapsed());
}

#[test]
fn over_the_limit_a_forgery_is_refused_for_the_limit() {
    let (state, app) = (Dir::new(), App::ok());
    let route = format!("rate_limit: 2/1h, inbox: {{ on: failure, {SOON} }}");
    let gate = with_inbox(&app, &state, &route).without("rate-limit").start();
    for _ in 0..2 {
        assert_eq!(gate.send(&Signer::github().event()).status, 200);
    }
    for forged in
        [Signer::github().event().tampered(), Signer::github().event().without("X-Hub-Signature-256")]
    {
        let refused = gate.send(&forged);
        assert_eq!(refused.said(), (429, "Too many webhook requests".to_owned()));
        assert!(refused.header("Retry-After").is_some());
        assert_eq!(gate.reason(&refused), "rate_limited");
    }
    assert_eq!(gate.send(&Signer::github().event()).status, 202);
    assert_eq!(app.seen(), 2);
}

#[test]
fn a_restart_takes_up_what_is_stored_and_remembers_what_was_delivered() {
    let (state, mut app) = (Dir::new(), App::ok());
    let route = format!("inbox: {{ on: failure, {SOON} }}");
    let delivered = Signer::github().event();
    let late = Signer::github().event();
    {
        let gate = with_inbox(&app, &state, &route).start();
        assert_eq!(gate.send(&delivered).status, 200);
        app.stop();
        assert_eq!(gate.send(&late).status, 202);
        gate.signal("TERM");
        assert!(gate.ended().success());
        gate.log.find("what is left", |line| {
            line["event.name"] == "hookgate.inbox" && line["body"].as_str().unwrap().contains("1 events stay")
        });
    }
    app.start();
    let gate = with_inbox(&app, &state, &route).start();
    app.wait_for(2);
    assert_eq!(app.requests()[1].body, late.body);
    for event in [&delivered, &late] {
        until("both are known", || gate.send(event).said() == (200, "Already processed".to_owned()));
    }
    assert_eq!(app.seen(), 2);
    drop(gate);
    let gate = with_inbox(&app, &state, &route).start();
    for event in [&delivered, &late] {
        assert_eq!(gate.send(event).said(), (200, "Already processed".to_owned()), "over another start too");
    }
}

#[test]
fn events_of_a_route_that_is_gone_are_parked() {
    let (state, mut app) = (Dir::new(), App::ok());
    let route = format!("inbox: {{ on: failure, {SOON} }}");
    {
        let gate = with_inbox(&app, &state, &route).start();
        app.stop();
        assert_eq!(gate.send(&Signer::github().event()).status, 202);
    }
    app.start();
    {
        let other = format!(
            "
state_dir: {}/state
routes: [{{ name: other, path: /other, provider: github, secrets: [{{ file: DIR/key-1 }}] }}]
",
            state.path().display()
        );
        let gate = Gate::before(&app).config(&other).start();
        gate.log.find("that is told", |line| {
            line["event.name"] == "hookgate.inbox"
                && line["body"].as_str().unwrap().contains("not configured: one")
        });
        assert!(same(gate.metrics().value("hookgate_inbox_parked"), 1.0));
        assert_eq!(app.seen(), 0);
    }
    let _gate = with_inbox(&app, &state, &route).start();
    app.wait_for(1);
}

#[test]
fn a_full_inbox_says_so_to_who_comes_again_and_delivers_for_who_does_not() {
    for (provider, signer, expected) in
        [("github", Signer::github(), 200), ("standard-webhooks", Signer::standard_webhooks(), 503)]
    {
        let (state, app) = (Dir::new(), App::ok());
        let yaml = format!(
            "
state_dir: {}/state
inbox: {{ max_bytes: 1MiB }}
routes:
  - {{ name: one, path: /webhooks, provider: {provider}, max_body: 2MiB, secrets: [{{ file: DIR/key-1 }}], inbox: {{ on: always }} }}
",
            state.path().display()
        );
        let gate = Gate::before(&app).config(&yaml).start();
        let large = serde_json::json!({ "text": "x".repeat(1_200_000) }).to_string();
        let answer = gate.send(&signer.sign(large.as_bytes()));
        assert_eq!(answer.status, expected, "{provider}");
        assert!(same(gate.metrics().sum("hookgate_inbox_refused_total", &[("cause", "full")]), 1.0));
        assert_eq!(app.seen(), usize::from(expected == 200));
        if expected == 503 {
            assert!(answer.header("Retry-After").is_some());
            assert_eq!(gate.send(&signer.event()).status, 202, "a smaller one has room");
        }
    }
}

#[test]
fn one_event_asks_while_the_application_is_away_and_the_backlog_follows() {
    let (state, mut app) = (Dir::new(), App::ok());
    let gate = with_inbox(&app, &state, &format!("inbox: {{ on: failure, {SOON} }}"))
        .with("upstream-connect-timeout", "50ms")
        .start();
    app.stop();
    let events: Vec<_> = (0..200).map(|_| Signer::github().event()).collect();
    for event in &events {
        assert_eq!(gate.send(event).status, 202);
    }
    let attempts = gate.metrics().sum("hookgate_inbox_attempts_total", &[]);
    assert!(attempts < 60.0, "{attempts} attempts while nobody was there");
    app.start();
    app.wait_for(200);
    until("all are taken", || same(gate.metrics().sum("hookgate_inbox_events", &[]), 0.0));
    let mut bodies: Vec<_> = app.requests().into_iter().map(|request| request.body).collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!((bodies.len(), app.seen()), (200, 200), "each once");
}

#[test]
fn a_healthy_application_costs_the_database_nothing() {
    let (state, app) = (Dir::new(), App::ok());
    let gate = with_inbox(&app, &state, &format!("inbox: {{ on: failure, {SOON} }}")).start();
    let writes = || gate.metrics().value("hookgate_inbox_write_seconds_count");
    let log = || std::fs::metadata(state.join("state/inbox.db-wal")).map_or(0, |log| log.len());
    let (before, bytes) = (writes(), log());
    let mut sender = gate.connect();
    for _ in 0..300 {
        assert_eq!(sender.exchange(&Signer::github().event()).status, 200);
    }
    // Housekeeping looks once in a while.
    assert!(writes() - before < 10.0, "{} commits", writes() - before);
    assert_eq!(log(), bytes, "and writes nothing");
}

#[test]
fn the_files_are_for_the_gate_alone() {
    use std::os::unix::fs::PermissionsExt;

    let (state, app) = (Dir::new(), App::ok());
    let gate = with_inbox(&app, &state, "inbox: { on: always }").start();
    assert_eq!(gate.send(&Signer::github().event()).status, 202);
    let folder = state.join("state");
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        files += 1;
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
    }
    assert!(files >= 4, "the database, its log, the lock and what was delivered");
    let second = with_inbox(&app, &state, "inbox: { on: always }");
    let mut command = second.command("run");
    let second = run(&mut command);
    assert_eq!(second.code, Some(1));
    assert!(second.err.contains("another process uses it"), "{}", second.err);
}

#[test]
fn what_is_sealed_cannot_be_read_from_the_disk() {
    let (state, mut app) = (Dir::new(), App::ok());
    let key = state.write("seal", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n");
    let yaml = format!(
        "
state_dir: {}/state
inbox: {{ encryption_key_file: {} }}
routes:
  - {{ name: one, path: /webhooks, provider: github, secrets: [{{ file: DIR/key-1 }}], inbox: {{ on: failure, {SOON} }} }}
",
        state.path().display(),
        key.display()
    );
    let gate = Gate::before(&app).config(&yaml).start();
    app.stop();
    let event = Signer::github().sign(br#"{"secret":"card number"}"#);
    assert_eq!(gate.send(&event).status, 202);
    for name in ["inbox.db", "inbox.db-wal"] {
        let bytes = std::fs::read(state.join("state").join(name)).unwrap();
        assert!(!bytes.windows(11).any(|part| part == b"card number"), "{name}");
    }
    app.start();
    app.wait_for(1);
    assert_eq!(app.only_request().body, event.body);
    let newer = "101112131415161718191a1b1c1d1e1f000102030405060708090a0b0c0d0e0f\n";
    state.write("seal", format!("{newer}{}", std::fs::read_to_string(&key).unwrap()));
    gate.signal("HUP");
    gate.log.find("the rotation", |line| {
        line["body"] == "reloaded: inbox.encryption_key_file: its content changed"
    });
    assert!(same(gate.metrics().value("hookgate_restart_pending"), 0.0), "it is in effect");
}

#[test]
fn copies_that_wait_for_one_that_is_stored_are_told_that_it_is_known() {
    let latch = Latch::default();
    let (state, app) = (Dir::new(), App::script([Answer::status(503).when(&latch), Answer::ok()]));
    let gate = with_inbox(&app, &state, &format!("inbox: {{ on: failure, {SOON} }}")).start();
    let event = Signer::github().event();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| gate.send(&event).status);
        app.wait_for(1);
        let copy = scope.spawn(|| gate.send(&event).said());
        std::thread::sleep(Duration::from_millis(100));
        latch.open();
        assert_eq!(first.join().unwrap(), 202);
        assert_eq!(copy.join().unwrap(), (200, "Already processed".to_owned()));
    });
    app.wait_for(2);
    let done = eventually("it is taken", || {
        same(gate.metrics().sum("hookgate_inbox_events", &[]), 0.0).then(|| app.seen())
    });
    assert_eq!(done, 2, "the live attempt, and one from the inbox");
}

/// The gate knows what this sender wants to read, so it can say it for the application.
#[test]
fn a_sender_that_wants_to_read_a_sentence_reads_it_of_a_stored_event_and_of_its_copy() {
    let (state, mut app) = (Dir::new(), App::ok());
    let yaml = format!(
        "
state_dir: {}/state
routes:
  - {{ name: one, path: /webhooks, provider: dropbox-sign, secrets: [{{ file: DIR/key-1 }}], inbox: {{ on: failure }} }}
",
        state.path().display()
    );
    let gate = Gate::before(&app).config(&yaml).start();
    app.stop();
    let url = format!("http://{}/webhooks", gate.address());
    let mut command = hookgate(&["send", &url, "--provider", "dropbox-sign", "--repeat", "2"]);
    let sent = run(command.arg("--secret-file").arg(gate.dir.join("key-1")));
    assert_eq!(sent.code, Some(0), "{}", sent.err);
    assert_eq!(sent.out.lines().collect::<Vec<_>>(), ["200 Hello API Event Received"; 2]);
    assert!(same(gate.metrics().sum("hookgate_inbox_events", &[("state", "stored")]), 1.0));
}
