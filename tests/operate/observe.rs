//! A route that only observes: it forwards what it would refuse, says so to the
//! application and to the operator, and still protects itself.

use std::time::Duration;

use crate::support::{self, Answer, App, Builder, Gate, Signer};

fn observing(app: &App) -> Builder {
    Gate::before(app).with("provider", "stripe").with("mode", "observe")
}

#[test]
fn what_would_be_refused_is_forwarded_and_marked() {
    let app = App::ok();
    let gate = observing(&app).start();
    let signer = Signer::stripe();
    let event = signer.event();
    let again = signer.event();
    assert_eq!(gate.send(&again).status, 200);
    let mut seen = 1;
    for (request, reason) in [
        (event.clone().without("stripe-signature"), "signature_missing"),
        (
            event.clone().without("stripe-signature").with("Stripe-Signature", "t=1,v1=zz"),
            "signature_malformed",
        ),
        (event.clone().tampered(), "signature_mismatch"),
        (signer.event_aged(Duration::from_secs(600)), "timestamp_stale"),
        (again, "duplicate"),
    ] {
        let answer = gate.send(&request);
        assert_eq!((answer.status, answer.text().as_str()), (200, "app"), "{reason}");
        seen += 1;
        let requests = app.requests();
        assert_eq!(requests.len(), seen, "{reason}");
        let request_seen = requests.last().unwrap();
        assert_eq!(request_seen.body, request.body, "{reason}");
        assert_eq!(request_seen.header("Hookgate-Verdict"), Some("observed"), "{reason}");
        assert_eq!(request_seen.header("Hookgate-Reason"), Some(reason));
        let line = gate.decision(&answer);
        assert_eq!(
            (&line["hookgate.verdict"], &line["hookgate.reason"]),
            (&"observed".into(), &reason.into())
        );
        let counted =
            gate.metrics().sum("hookgate_requests_total", &[("verdict", "observed"), ("reason", reason)]);
        assert!(support::gate::same(counted, 1.0), "{reason} is counted {counted} times");
    }
}

#[test]
fn what_would_pass_passes_as_ever() {
    let app = App::ok();
    let gate = observing(&app).start();
    let answer = gate.send(&Signer::stripe().event().with("Hookgate-Reason", "forged"));
    assert_eq!(answer.status, 200);
    let seen = app.only_request();
    assert_eq!(seen.header("Hookgate-Verdict"), Some("accepted"));
    assert_eq!(seen.header("Hookgate-Reason"), None);
    assert_eq!(seen.header("Hookgate-Key-Id"), Some("key-1"));
    assert_eq!(gate.decision(&answer)["hookgate.verdict"], "accepted");
}

#[test]
fn nothing_is_claimed_of_what_was_not_proven() {
    let app = App::ok();
    let gate = observing(&app).start();
    gate.send(&Signer::stripe().event().tampered());
    let seen = app.only_request();
    for name in ["Key-Id", "Event-Id", "Event-Type", "Event-Time", "Idempotency-Key"] {
        assert_eq!(seen.header(&format!("Hookgate-{name}")), None, "{name}");
    }
}

#[test]
fn the_first_objection_is_the_reason_and_all_are_logged() {
    let app = App::ok();
    let gate = observing(&app)
        .without("insecure-allow-http")
        .with("allow-ip", "192.0.2.0/24")
        .with("rate-limit", "1/1h")
        .start();
    let event = Signer::stripe().event().tampered();
    gate.send(&event);
    let answer = gate.send(&event);
    assert_eq!(app.requests()[1].header("Hookgate-Reason"), Some("https_required"));
    let line = gate.decision(&answer);
    assert_eq!(line["hookgate.reason"], "https_required");
    let all = "https_required address_denied rate_limited signature_mismatch";
    assert_eq!(line["hookgate.observed"], all);
}

#[test]
fn the_limits_that_protect_the_gate_stay() {
    let app = App::ok();
    let gate = observing(&app).with("max-body", "1KiB").start();
    let event = Signer::stripe().event();
    for (what, request, status) in [
        ("no route", event.clone().to("/elsewhere"), 404),
        ("too large", Signer::stripe().sign(vec![b'x'; 1025]), 413),
        ("framing", event.clone().with("Transfer-Encoding", "chunked"), 400),
    ] {
        assert_eq!(gate.send(&request).status, status, "{what}");
    }
    app.assert_untouched("limits");
}

#[test]
fn an_application_that_fails_is_seen_to_fail() {
    let app = App::script([Answer::status(500), Answer::raw("").then_close()]);
    let gate = observing(&app).start();
    let event = Signer::stripe().event().tampered();
    assert_eq!(gate.send(&event).status, 500, "the application's own answer");
    let broken = gate.send(&event);
    assert_eq!(broken.status, 502);
    assert_eq!(gate.reason(&broken), "upstream_failed");
}
