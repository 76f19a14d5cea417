//! `hookgate report`: what a running gate would have refused, check by check, and whether
//! a route can enforce.

use std::time::Duration;

use serde_json::Value;

use crate::support::gate::{hookgate, run};
use crate::support::{self, Answer, App, Builder, Gate, Signer, until};

fn observing(app: &App) -> Builder {
    Gate::before(app).with("provider", "stripe").with("mode", "observe")
}

fn text(gate: &Gate) -> String {
    let address = gate.ops_address().to_string();
    let told = run(hookgate(&["report"]).args(["--ops-listen", &address]));
    assert_eq!(told.code, Some(0), "{}", told.err);
    told.out
}

fn json(gate: &Gate) -> Value {
    let address = gate.ops_address().to_string();
    let told = run(hookgate(&["report", "-o", "json"]).args(["--ops-listen", &address]));
    assert_eq!(told.code, Some(0), "{}", told.err);
    serde_json::from_str(&told.out).unwrap()
}

fn check<'v>(report: &'v Value, name: &str) -> &'v Value {
    report["routes"][0]["checks"].as_array().unwrap().iter().find(|c| c["check"] == name).unwrap()
}

/// Sends, and waits until it is counted.
fn send(gate: &Gate, request: &support::Request) {
    let answer = gate.send(request);
    gate.decision(&answer);
}

#[test]
fn how_long_the_sender_goes_on_is_told_beside_what_failed() {
    let app = App::script([Answer::status(500), Answer::status(500), Answer::ok(), Answer::status(503)]);
    let gate = Gate::before(&app).with("provider", "dub").start();
    let stops = "the provider stops sending after 20 failures in a row, with mails at 5, 10 and 15";
    let told = || json(&gate)["routes"][0]["sender"].as_str().unwrap().to_owned();
    assert_eq!(told(), stops);
    let dub = Signer::new("dub", 0, support::sender::SECRET);
    for failing in [1, 2, 0, 1] {
        send(&gate, &dub.event());
        let told = told();
        let expected = if failing == 0 {
            stops.to_owned()
        } else {
            format!("{stops}; failed in a row by now: {failing} of 20, for ")
        };
        assert!(told.starts_with(&expected) && (failing > 0 || told == stops), "{told}");
    }
    // What a forger sends is none of the provider's.
    send(&gate, &dub.event().tampered());
    assert!(told().contains("by now: 1 of 20"), "{}", told());
    assert!(text(&gate).contains(stops));

    let checked = run(&mut Gate::before(&app).with("provider", "dub").command("check"));
    assert!(checked.out.contains(&format!("note: route default: {stops}")), "{}", checked.out);
}

#[test]
fn that_a_sender_does_not_repeat_is_told_beside_what_failed() {
    let app = App::script([Answer::status(500)]);
    let gate = Gate::before(&app).start();
    send(&gate, &Signer::github().event());
    let told = "the provider does not repeat what fails: of those that came, 1 is lost";
    assert!(text(&gate).contains(told), "{}", text(&gate));
    assert_eq!(json(&gate)["routes"][0]["sender"], told);
}

#[test]
fn a_genuine_event_that_the_gate_refuses_counts_for_its_sender_and_a_forged_one_does_not() {
    let app = App::ok();
    let gate = Gate::before(&app).with("provider", "elevenlabs").start();
    let told = || json(&gate)["routes"][0]["sender"].as_str().unwrap().to_owned();
    let sender = Signer::new("elevenlabs", 0, support::sender::SECRET);
    let stale = |times: u64| sender.event_aged(Duration::from_secs(3600 * times));
    send(&gate, &stale(1));
    send(&gate, &stale(2));
    send(&gate, &stale(3).tampered());
    assert!(told().contains("failed in a row by now: 2 of 10"), "{}", told());
    send(&gate, &sender.event());
    assert!(!told().contains("failed in a row"), "{}", told());
    assert_eq!(app.seen(), 1);
}

#[test]
fn a_route_can_enforce_once_all_that_came_would_have_passed() {
    let app = App::ok();
    let gate = observing(&app).start();
    let told = json(&gate);
    assert_eq!(told["routes"][0]["safe_to_enforce"], false);
    assert_eq!(told["routes"][0]["verdict"], "not safe to enforce yet: nothing has been seen");

    let event = Signer::stripe().event();
    send(&gate, &event);
    send(&gate, &event);
    let told = json(&gate);
    let route = &told["routes"][0];
    assert_eq!(
        (&route["seen"], &route["accepted"], &route["would_refuse"]),
        (&2.into(), &2.into(), &0.into()),
        "{route}"
    );
    assert_eq!(route["safe_to_enforce"], true);
    let verdict = route["verdict"].as_str().unwrap();
    assert!(verdict.starts_with("safe to enforce: none of 2 deliveries"), "{verdict}");
    assert!(verdict.ends_with("duplicates that the gate would have answered itself: 1"), "{verdict}");
    assert_eq!(check(&told, "replay")["would_refuse"], 1);
    assert_eq!(check(&told, "replay")["reasons"][0]["reason"], "duplicate");
}

#[test]
fn every_check_that_objects_is_counted_and_dated() {
    let app = App::ok();
    let gate = observing(&app).without("insecure-allow-http").start();
    let signer = Signer::stripe();
    let stale = signer.event_aged(Duration::from_secs(600));
    for _ in 0..3 {
        send(&gate, &stale.clone().with("X-Forwarded-Proto", "https"));
    }
    send(&gate, &signer.event().tampered());
    let told = json(&gate);
    let route = &told["routes"][0];
    assert_eq!((&route["seen"], &route["would_refuse"]), (&4.into(), &4.into()));
    assert_eq!(check(&told, "https")["would_refuse"], 4, "nobody in front is believed");
    assert_eq!(check(&told, "freshness")["would_refuse"], 3);
    assert_eq!(check(&told, "signature")["would_refuse"], 1);
    assert_eq!(check(&told, "address")["in_force"], false);
    let objection = &check(&told, "freshness")["reasons"][0];
    assert_eq!((&objection["reason"], &objection["refused"]), (&"timestamp_stale".into(), &0.into()));
    for when in ["first", "last"] {
        let at = objection[when].as_str().unwrap();
        assert!(route["since"].as_str().unwrap() <= at && at <= told["at"].as_str().unwrap(), "{at}");
    }
    assert_eq!(route["safe_to_enforce"], false);

    let text = text(&gate);
    assert!(text.contains("default  /webhooks  stripe  observes since 2"), "{text}");
    assert!(text.contains("not safe to enforce: 4 of 4 deliveries would have been refused: "), "{text}");
    for words in ["https_required 4 times (last ", "timestamp_stale 3 times", "signature_mismatch once"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(text.contains("at most 5m old, 5m ahead"), "{text}");
}

#[test]
fn a_route_that_enforces_tells_what_it_refused() {
    let app = App::ok();
    let config = "
routes:
  - { name: one, path: /one, provider: github, secrets: [{ id: a, file: DIR/key-1 }], allow_ips: ['127.0.0.0/8'] }
  - { name: two, path: /two, provider: github, secrets: [{ id: b, file: DIR/key-1 }], mode: observe }
";
    let gate = Gate::before(&app).config(config).with("insecure-allow-http", "true").start();
    send(&gate, &Signer::github().event().to("/one"));
    send(&gate, &Signer::github().event().tampered().to("/one"));
    let told = json(&gate);
    let one = &told["routes"][0];
    assert_eq!(
        (&one["seen"], &one["accepted"], &one["refused"], &one["would_refuse"]),
        (&2.into(), &1.into(), &1.into(), &0.into())
    );
    assert_eq!((&one["safe_to_enforce"], &one["verdict"]), (&Value::Null, &"it enforces".into()));
    assert_eq!(check(&told, "signature")["refused"], 1);
    assert_eq!(told["routes"][1]["seen"], 0, "each route is told apart");

    let address = gate.ops_address().to_string();
    let only = |name: &str| run(&mut hookgate(&["report", "--ops-listen", &address, "--route", name]));
    let two = only("two");
    assert!(two.out.starts_with("two  /two") && !two.out.contains("/one"), "{}", two.out);
    let none = only("three");
    assert_eq!((none.code, none.err.trim()), (Some(1), "there is no route three; there is one, two"));
    assert!(!text(&gate).contains(gate.dir.path().to_str().unwrap()), "no paths of secrets");
}

#[test]
fn a_reload_forgets_nothing_and_the_mode_is_that_of_now() {
    let app = App::ok();
    let config = "
routes:
  - { name: one, path: /webhooks, provider: github, secrets: [{ file: DIR/key-1 }], mode: observe }
";
    let gate = Gate::before(&app).config(config).start();
    send(&gate, &Signer::github().event().tampered());
    let before = json(&gate);
    let enforce =
        config.replace("DIR", gate.dir.path().to_str().unwrap()).replace("mode: observe", "mode: enforce");
    gate.dir.write("hookgate.yaml", enforce);
    gate.signal("HUP");
    until("the reload", || json(&gate)["routes"][0]["mode"] == "enforce");
    let after = json(&gate);
    for key in ["seen", "would_refuse", "since"] {
        assert_eq!(after["routes"][0][key], before["routes"][0][key], "{key}");
    }
}

#[test]
fn where_there_is_no_gate_it_says_so() {
    let app = App::ok();
    let other = app.url().trim_start_matches("http://").to_owned();
    let told = run(&mut hookgate(&["report", "--ops-listen", &other]));
    assert_eq!(told.code, Some(1));
    assert!(told.err.contains(&other), "{}", told.err);
}
