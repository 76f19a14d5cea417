//! The first promise of the project, row by row: what a sender is told, and what the
//! application sees. The gate runs as its users run it, with Scalekit's own addresses
//! and limits, behind a proxy that ends TLS.

use std::time::Duration;

use crate::support::sender::other_secret;
use crate::support::{self, Answer, App, Builder, Gate, Request, Response, Signer};

/// One of Scalekit's addresses, and one that is not.
const SCALEKIT: &str = "52.206.68.10";
const STRANGER: &str = "203.0.113.9";

fn gate(app: &App) -> Builder {
    Gate::before(app)
        .with("provider", "scalekit")
        .with("trusted-proxy", "127.0.0.1/32")
        .without("insecure-allow-http")
        .without("rate-limit")
}

/// As the proxy in front passes it on.
fn via_proxy(request: &Request, client: &str) -> Request {
    request.clone().with("X-Forwarded-For", client).with("X-Forwarded-Proto", "https")
}

fn send(gate: &Gate, request: &Request) -> Response {
    gate.send(&via_proxy(request, SCALEKIT))
}

fn said(status: u16, text: &str) -> (u16, String) {
    (status, text.to_owned())
}

#[test]
fn a_valid_event_is_delivered_and_the_application_answers() {
    for signer in [Signer::scalekit(), Signer::new("scalekit", 0, support::sender::SECRET)] {
        let app =
            App::always(Answer::raw("HTTP/1.1 202 Taken\r\nContent-Length: 5\r\nX-App: yes\r\n\r\nhello"));
        let gate = gate(&app).start();
        let event = signer.event();
        let answer = send(&gate, &event);
        assert_eq!(answer.said(), said(202, "hello"), "{}", signer.header());
        assert_eq!(answer.header("X-App"), Some("yes"));
        let seen = app.only_request();
        assert_eq!((seen.line.as_str(), &seen.body), ("POST /webhooks HTTP/1.1", &event.body));
        assert_eq!(seen.header(signer.header()), event.headers.get(signer.header()));
    }
}

#[test]
fn a_bad_or_missing_signature_is_unauthorized() {
    let app = App::ok();
    let gate = gate(&app).start();
    let signer = Signer::scalekit();
    let forger = Signer::new("scalekit", 1, &other_secret());
    let event = signer.event();
    let with = |value: &str| event.clone().without(signer.header()).with(signer.header(), value);
    let good = event.headers.get(signer.header()).unwrap();
    for (what, request, reason) in [
        ("no signature", event.clone().without(signer.header()), "signature_missing"),
        ("an empty one", with(""), "signature_missing"),
        ("another key", forger.event(), "signature_mismatch"),
        ("another body", event.clone().tampered(), "signature_mismatch"),
        ("another event's", with(signer.event().headers.get(signer.header()).unwrap()), "signature_mismatch"),
        ("cut short", with(&good[..good.len() - 2]), "signature_malformed"),
        ("without its prefix", with(good.trim_start_matches("sha256=")), "signature_malformed"),
        ("not hex", with(&format!("sha256={}", "g".repeat(64))), "signature_malformed"),
        ("twice", event.clone().with(signer.header(), good), "signature_malformed"),
    ] {
        let answer = send(&gate, &request);
        assert_eq!(answer.said(), said(401, "Unauthorized"), "{what}");
        assert_eq!(gate.reason(&answer), reason, "{what}");
    }
    app.assert_untouched("forged");
    assert_eq!(send(&gate, &event).status, 200, "a forgery does not use up the event");
}

#[test]
fn another_address_is_forbidden() {
    let app = App::ok();
    let gate = gate(&app).start();
    let event = Signer::scalekit().event();
    let answer = gate.send(&via_proxy(&event, STRANGER));
    assert_eq!(answer.said(), said(403, "Forbidden"));
    assert_eq!(gate.reason(&answer), "address_denied");
    app.assert_untouched("from a stranger");
    assert_eq!(send(&gate, &event).status, 200);
}

#[test]
fn an_event_older_than_five_minutes_is_too_old() {
    let app = App::ok();
    let gate = gate(&app).start();
    let signer = Signer::scalekit();
    let answer = send(&gate, &signer.event_aged(Duration::from_secs(301)));
    assert_eq!(answer.said(), said(400, "Event too old"));
    assert_eq!(gate.reason(&answer), "timestamp_stale");
    app.assert_untouched("stale");
    // A minute is room enough for a machine that is very slow.
    assert_eq!(send(&gate, &signer.event_aged(Duration::from_secs(240))).status, 200);
    assert_eq!(app.seen(), 1);
}

#[test]
fn a_repeated_event_is_already_processed() {
    let app = App::ok();
    let gate = gate(&app).start();
    let event = Signer::scalekit().event();
    assert_eq!(send(&gate, &event).said(), said(200, "app"));
    for _ in 0..3 {
        let answer = send(&gate, &event);
        assert_eq!(answer.said(), said(200, "Already processed"));
        assert_eq!(gate.reason(&answer), "duplicate");
    }
    assert_eq!(app.only_request().body, event.body);
}

/// The limit refills evenly, so that a slow machine may get a few more through: what is
/// exact is that a hundred pass, and that nothing above a hundred and the refill does.
#[test]
fn the_hundred_and_first_in_a_minute_is_too_many() {
    let app = App::ok();
    let gate = gate(&app).start();
    let signer = Signer::scalekit();
    let mut sender = gate.connect();
    let started = std::time::Instant::now();
    let mut passed = 0;
    let refused = loop {
        let event = via_proxy(&signer.event(), SCALEKIT);
        let answer = sender.exchange(&event);
        if answer.status == 429 {
            break answer;
        }
        assert_eq!(answer.status, 200);
        passed += 1;
        let refilled = started.elapsed().as_millis() / 600;
        assert!(passed <= 100 + refilled, "{passed} passed in {:?}", started.elapsed());
    };
    assert!(passed >= 100, "only {passed} passed");
    assert_eq!(refused.said(), said(429, "Too many webhook requests"));
    assert_eq!(gate.reason(&refused), "rate_limited");
    let wait: u64 = refused.header("Retry-After").expect("says when to come back").parse().unwrap();
    assert!((1..=60).contains(&wait), "Retry-After: {wait}");
    assert_eq!(app.seen() as u128, passed, "the application saw what passed and nothing else");
    let other = gate.send(&via_proxy(&signer.event(), "54.236.1.1"));
    assert_eq!(other.status, 200, "another sender has its own limit");
}

#[test]
fn the_applications_failure_is_passed_on_and_the_retry_is_delivered() {
    let app = App::script([Answer::status(500), Answer::ok()]);
    let gate = gate(&app).start();
    let event = Signer::scalekit().event();
    for (answer, text) in [(500, "app"), (200, "app"), (200, "Already processed")] {
        assert_eq!(send(&gate, &event).said(), said(answer, text));
    }
    let bodies: Vec<_> = app.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, [event.body.clone(), event.body]);
}

#[test]
fn plain_http_is_forbidden_unless_it_is_allowed() {
    let app = App::ok();
    let strict = gate(&app).start();
    let event = Signer::scalekit().event().with("X-Forwarded-For", SCALEKIT);
    for request in [event.clone(), event.clone().with("X-Forwarded-Proto", "http")] {
        let answer = strict.send(&request);
        assert_eq!(answer.said(), said(403, "Forbidden"));
        assert_eq!(answer.header("Location"), None, "never a redirect");
        assert_eq!(strict.reason(&answer), "https_required");
    }
    app.assert_untouched("over plain HTTP");
    let lax = gate(&app).with("insecure-allow-http", true).start();
    assert_eq!(lax.send(&event).status, 200);
}
