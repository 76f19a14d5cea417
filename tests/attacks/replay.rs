//! Section 2.4: the same event again, and every way in which a delivery can end.

use std::thread::sleep;
use std::time::Duration;

use super::fixture::*;
use crate::support::gate::{run, same};
use crate::support::sender::{now_ms, unique};
use crate::support::{Answer, Latch};

static GATE: Shared = Shared::new(Fixture::new);

#[test]
fn a69_a_second_delivery_is_a_duplicate() {
    let gate = GATE.enter();
    for hook in [standard(), github(), stripe(), slack(), shopify()] {
        let event = hook.event();
        gate.delivers(hook.header(), &event);
        gate.remembers(hook.header(), &event);
        gate.remembers(hook.header(), &event);
    }
}

/// Scaled down: 20 rounds instead of 1,000.
#[test]
fn a70_of_many_copies_at_once_one_is_delivered() {
    const COPIES: usize = 64;
    let gate = GATE.enter();
    let mut senders: Vec<_> = (0..COPIES).map(|_| gate.gate.connect()).collect();
    for round in 0..20 {
        let event = github().event();
        let seen = gate.app.seen();
        for sender in &mut senders {
            sender.send(event.bytes());
        }
        let answers: Vec<_> = senders.iter_mut().map(|sender| sender.response().said()).collect();
        assert!(answers.iter().all(|(status, _)| *status == 200), "round {round}: {answers:?}");
        let from_app = answers.iter().filter(|(_, text)| text == "app").count();
        assert_eq!((from_app, gate.app.seen() - seen), (1, 1), "round {round}");
    }
}

#[test]
fn a71_a_forgery_cannot_use_an_id_up() {
    let gate = GATE.enter();
    for hook in [standard(), github(), stripe(), slack()] {
        let event = hook.event();
        gate.refuses("forged", &event, event.clone().tampered().bytes(), MISMATCH);
    }
    let id = unique("msg");
    let forged =
        Hook::new("standard-webhooks", "/hooks/std", "whsec_c29tZWJvZHkgZWxzZSdzIGtleSwgbm90IG91cnM=");
    gate.expect("another's key", forged.sign_at(now_ms(), &id, b"{}").bytes(), MISMATCH);
    gate.delivers("the id's owner", &standard().sign_at(now_ms(), &id, b"{}"));
}

/// The application fails once; the sender's retry is delivered.
fn released_after(status: u16) {
    let gate = GATE.enter();
    gate.plan([Answer::status(status)]);
    let event = github().event();
    gate.expect("the failure", event.bytes(), Verdict::answered(status));
    gate.delivers("the retry", &event);
    gate.remembers("the retry", &event);
}

#[test]
fn a72_an_event_that_the_application_failed_on_is_delivered_again() {
    for status in [500, 502, 503, 599] {
        released_after(status);
    }
}

#[test]
fn a73_an_event_that_the_application_refused_is_delivered_again() {
    for status in [400, 401, 404, 409, 429, 302] {
        released_after(status);
    }
}

#[test]
fn a74_an_application_that_is_down_has_seen_nothing() {
    let mut fixture = Fixture::with(|builder| builder.with("upstream-connect-timeout", "200ms"));
    let event = github().event();
    fixture.app.stop();
    let answer = fixture.gate.send(&event);
    assert_eq!(answer.said(), (503, "Processing failed".to_owned()));
    assert!(answer.header("Retry-After").is_some());
    assert_eq!(fixture.gate.reason(&answer), UNREACHABLE.reason);
    fixture.app.start();
    fixture.wait_for_in_flight(0);
    fixture.delivers("up again", &event);
    assert_eq!(fixture.app.seen(), 1);
}

#[test]
fn a75_a_reset_after_the_request_leaves_the_outcome_open() {
    let gate = GATE.enter();
    gate.plan([Answer::reset()]);
    let event = github().event();
    gate.expect("reset", event.bytes(), FAILED);
    gate.delivers("the retry", &event);
}

#[test]
fn a76_a_call_outlives_its_senders_patience_and_the_retry_joins_it() {
    let fixture = Fixture::with(|builder| builder.with("upstream-timeout", "2s"));
    let latch = Latch::default();
    fixture.plan([Answer::ok().when(&latch)]);
    let event = github().event();
    fixture.expect("the slow call", event.bytes(), TIMED_OUT);
    let mut retry = fixture.begin(&event);
    fixture.wait_for_in_flight(2); // the call and the retry
    latch.open();
    assert_eq!(retry.response().said(), (200, DUPLICATE.text.to_owned()));
    assert_eq!(fixture.app.seen(), 1);
}

#[test]
fn a77_who_follows_a_failing_delivery_is_told_that_it_failed() {
    let gate = GATE.enter();
    for (failure, status) in [(Answer::status(500), 500), (Answer::status(400), 400), (Answer::reset(), 502)]
    {
        let latch = Latch::default();
        gate.plan([failure.when(&latch)]);
        let event = github().event();
        let seen = gate.app.seen();
        let mut senders = [gate.begin(&event), gate.begin(&event)];
        gate.wait_for_in_flight(3);
        latch.open();
        assert_eq!(senders.each_mut().map(|sender| sender.response().status), [status; 2]);
        assert_eq!(gate.app.seen() - seen, 1);
        gate.wait_for_in_flight(0);
        gate.delivers("the retry", &event);
    }
}

#[test]
fn a78_who_has_waited_long_enough_is_told_to_try_again() {
    // A copy waits as long as the first sender does; the call itself may take twice that.
    let fixture = Fixture::with(|builder| {
        builder.with("upstream-timeout", "2s").with("upstream-connect-timeout", "100ms")
    });
    let latch = Latch::default();
    fixture.plan([Answer::ok().when(&latch)]);
    let event = github().event();
    let mut leader = fixture.begin(&event);
    fixture.app.wait_for(1);
    let copy = fixture.gate.send(&event);
    assert_eq!(copy.said(), (503, IN_FLIGHT.text.to_owned()));
    assert_eq!(fixture.gate.reason(&copy), IN_FLIGHT.reason);
    assert!(copy.header("Retry-After").is_some());
    assert_eq!(leader.response().status, 504);
    latch.open();
    assert_eq!(fixture.app.seen(), 1);
}

#[test]
fn a79_a_sender_that_leaves_does_not_stop_its_delivery() {
    let gate = GATE.enter();
    let latch = Latch::default();
    gate.plan([Answer::ok().when(&latch)]);
    let event = github().event();
    let seen = gate.app.seen();
    let sender = gate.begin(&event);
    gate.app.wait_for(seen + 1);
    drop(sender);
    latch.open();
    gate.wait_for_in_flight(0);
    gate.remembers("the sender that left", &event);
    assert_eq!(gate.app.seen() - seen, 1);
}

#[test]
fn a80_a_sender_that_has_said_all_gets_its_answer() {
    let gate = GATE.enter();
    gate.plan([Answer::ok().after(Duration::from_millis(200))]);
    let event = github().event();
    let mut sender = gate.begin(&event);
    sender.half_close();
    assert_eq!(sender.response().said(), (200, "app".to_owned()));
    gate.wait_for_in_flight(0);
    gate.remembers("half closed", &event);
}

/// The memory dies with the process: the event is delivered twice, never lost. The key by
/// which the application can tell is the same both times.
#[test]
fn a81_killed_before_the_commit_the_event_is_delivered_again() {
    let fixture = Fixture::new();
    fixture.plan([Answer::never()]);
    let event = github().event();
    let mut sender = fixture.begin(&event);
    fixture.app.wait_for(1);
    fixture.gate.signal("KILL");
    fixture.gate.ended();
    assert!(sender.try_response().is_err());
    let restarted = builder(&fixture.app.url(), ROUTES).start();
    assert_eq!(restarted.send(&event).said(), (200, "app".to_owned()));
    let keys: Vec<_> = fixture
        .app
        .requests()
        .iter()
        .map(|seen| seen.header("Hookgate-Idempotency-Key").unwrap().to_owned())
        .collect();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1]);
}

#[test]
fn a82_killed_before_the_call_the_event_is_delivered_once() {
    let fixture = Fixture::new();
    let event = github().event();
    let mut sender = fixture.gate.connect();
    sender.send(event.head(&format!("Content-Length: {}\r\n", event.body.len())));
    sender.send(&event.body[..10]);
    fixture.wait_for_in_flight(1);
    fixture.gate.signal("KILL");
    fixture.gate.ended();
    let restarted = builder(&fixture.app.url(), ROUTES).start();
    assert_eq!(restarted.send(&event).said(), (200, "app".to_owned()));
    assert_eq!(fixture.app.only_request().body, event.body);
}

/// A lease is the longest that a call can take and five seconds. Here the call ends first,
/// and with it the lease; that an old token has no power is tested with the store.
#[test]
fn a83_a_call_ends_before_its_lease_does() {
    let fixture = Fixture::with(|builder| {
        builder.with("upstream-timeout", "500ms").with("upstream-connect-timeout", "100ms")
    });
    fixture.plan([Answer::never()]);
    let event = github().event();
    fixture.expect("the call that never ends", event.bytes(), TIMED_OUT);
    fixture.wait_for_in_flight(0); // the call was given up after a second
    fixture.delivers("the retry", &event);
    fixture.remembers("the retry", &event);
}

/// Scaled down: a table of 50 instead of a million.
#[test]
fn a88_a_full_memory_refuses_what_is_new_and_forgets_nothing() {
    const CAPACITY: usize = 50;
    let fixture = Fixture::with(|builder| builder.with("replay-capacity", CAPACITY));
    let events: Vec<_> = (0..CAPACITY).map(|n| [github(), standard()][n % 2].event()).collect();
    let mut sender = fixture.gate.connect();
    for event in &events {
        assert_eq!(sender.exchange(event).status, 200);
    }
    let surplus = standard().event();
    fixture.expect("one more", surplus.bytes(), STORE_FULL);
    fixture.expect("and again", surplus.bytes(), STORE_FULL);
    for event in [&events[0], &events[1], &events[CAPACITY - 1]] {
        fixture.remembers("being full", event);
    }
    assert!(same(fixture.gate.metrics().value("hookgate_replay_entries"), 50.0));
    // What cannot be remembered was not reserved either, and a forgery changes nothing.
    fixture.expect("a forgery", standard().event().tampered().bytes(), MISMATCH);
    assert_eq!(fixture.app.seen(), CAPACITY);
}

#[test]
fn a90_a_memory_that_is_shorter_than_the_tolerance_is_no_start() {
    for (window, code) in [("10m", 78), ("659s", 78), ("660s", 0)] {
        let run =
            run(&mut builder("http://127.0.0.1:1", ROUTES).with("replay-window", window).command("check"));
        assert_eq!(run.code, Some(code), "{window}: {}", run.err);
        assert_eq!(run.err.contains("too short"), code == 78, "{}", run.err);
    }
}

/// Scaled down: a tolerance of a second, because no memory may be shorter than a minute.
/// Once the time is stale it does not matter whether the event is still remembered.
#[test]
fn a91_a_signed_time_refuses_a_replay_for_ever() {
    let routes = ROUTES.replace("provider: stripe,", "provider: stripe, tolerance: 2s,");
    let fixture = Fixture::configured(&routes, |builder| builder);
    let event = stripe().event();
    fixture.delivers("fresh", &event);
    sleep(Duration::from_millis(3500));
    fixture.expect("stale", event.bytes(), STALE);
}

#[test]
#[ignore = "waits for the shortest window there is: a minute"]
fn a92_without_a_signed_time_a_replay_is_stopped_for_the_window_only() {
    let routes = "routes: [{ name: gh, path: /hooks/gh, provider: github, secrets: [{ file: DIR/github }] }]";
    let fixture = Fixture::configured(routes, |builder| builder.with("replay-window", "60s"));
    let event = github().event();
    fixture.delivers("first", &event);
    fixture.remembers("first", &event);
    sleep(Duration::from_secs(63));
    fixture.delivers("after the window", &event);
}

#[test]
fn a93_the_same_id_on_two_routes_is_two_events() {
    let gate = GATE.enter();
    let id = unique("evt");
    let body = format!(r#"{{"id":"{id}","event_id":"{id}"}}"#);
    let events = [standard(), stripe(), slack()].map(|hook| hook.sign_at(now_ms(), &id, body.as_bytes()));
    for event in &events {
        gate.delivers(&event.target, event);
    }
    for event in &events {
        gate.remembers(&event.target, event);
    }
}

/// The memory is each replica's own: a replay to another one is delivered, and says by its
/// key that it is one.
#[test]
fn a94_each_replica_remembers_for_itself() {
    let fixture = Fixture::new();
    let replica = builder(&fixture.app.url(), ROUTES).start();
    let event = standard().event();
    let key = "Hookgate-Idempotency-Key";
    let first = fixture.delivers("one replica", &event);
    assert_eq!(replica.send(&event).said(), (200, "app".to_owned()));
    assert_eq!(fixture.app.requests()[1].header(key), first.header(key));
    fixture.remembers("one replica", &event);
    assert_eq!(replica.send(&event).said(), (200, "Already processed".to_owned()));
}

/// The catalogue lets ids with line ends and of ten KiB through to the digest; the gate
/// refuses them, because they go into a header as well.
#[test]
fn a95_an_id_reaches_the_memory_as_a_digest_only() {
    let gate = GATE.enter();
    for id in ["*", "?", "a b", "../../x", "{hookgate}:1", "'; DROP TABLE events", "$(id)"] {
        let event = stripe().sign(format!(r#"{{"id":"{id} {}"}}"#, unique("evt")));
        let key = gate.delivers(id, &event).header("Hookgate-Idempotency-Key").unwrap().to_owned();
        assert!(key.len() == 32 && key.bytes().all(|b| b.is_ascii_hexdigit()), "{key}");
        gate.remembers(id, &event);
    }
    let long = "x".repeat(10 * 1024);
    for id in [r"a\r\nSET x 1\r\n", r"a\u0000b", r"a\u001b[31m", long.as_str()] {
        gate.expect(&id[..id.len().min(20)], stripe().sign(format!(r#"{{"id":"{id}"}}"#)).bytes(), AMBIGUOUS);
    }
}

/// There is no command that forgets one key: a redelivery on purpose is a duplicate like
/// any other until the window is over or the gate is started anew.
#[test]
fn a96_a_redelivery_on_purpose_is_a_duplicate() {
    let gate = GATE.enter();
    let event = github().event();
    gate.delivers("first", &event);
    let seen = gate.app.seen();
    for _ in 0..3 {
        gate.remembers("redelivered by hand", &event);
    }
    assert_eq!(gate.app.seen(), seen);
}
