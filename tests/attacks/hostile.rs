//! Besides the catalogue, over real sockets: signatures in forms that are almost right,
//! times that are almost numbers, bodies that name two events, and senders that take
//! their time.

use std::time::Duration;

use crate::support::gate::same;
use crate::support::sender::{SECRET, now_ms, other_secret, unique};
use crate::support::{self, App, Gate, Request, Sender, Signer};

/// A POST with these headers and this body.
fn request(headers: &[(&str, &str)], body: &str) -> Request {
    let empty = Signer::github().event();
    let bare = Request { headers: support::Headers::default(), body: body.as_bytes().to_vec(), ..empty };
    headers.iter().fold(bare, |request, (name, value)| request.with(name, value))
}

fn unauthorized(gate: &Gate, app: &App, what: &str, request: &Request) {
    let answer = gate.send(request);
    assert_eq!((answer.status, answer.text().as_str()), (401, "Unauthorized"), "{what}");
    assert!(gate.reason(&answer).starts_with("signature_"), "{what}: {}", gate.reason(&answer));
    app.assert_untouched(what);
}

#[test]
fn a_hex_signature_is_right_or_wrong() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    let signer = Signer::github();
    let body = unique("body");
    let tag = signer.tag(&body);
    let name = "X-Hub-Signature-256";
    let spaced = format!("sha256={} {}", &tag[..32], &tag[32..]);
    let wide: String = tag.chars().map(|c| if c == '0' { '\u{ff10}' } else { c }).collect();
    for (what, name, value) in [
        ("no digits", name, "sha256=".to_owned()),
        ("two digits less", name, format!("sha256={}", &tag[..62])),
        ("two digits more", name, format!("sha256={tag}00")),
        ("a space inside", name, spaced),
        ("a quote around", name, format!("\"sha256={tag}\"")),
        ("full-width digits", name, format!("sha256={wide}\u{ff10}")),
        ("no prefix", name, tag.clone()),
        ("another algorithm's name", name, format!("sha512={tag}")),
        ("no algorithm", name, format!("none={tag}")),
        ("a list where there is none", name, format!("sha256={tag},sha256={tag}")),
        ("the older header", "X-Hub-Signature", format!("sha1={}", &tag[..40])),
        ("an underscore", "X_Hub_Signature_256", format!("sha256={tag}")),
        ("a cookie", "Cookie", format!("{name}=sha256={tag}")),
    ] {
        unauthorized(&gate, &app, what, &request(&[(name, &value)], &body));
    }
    let in_query = request(&[], &body).to(&format!("/webhooks?{name}=sha256={tag}"));
    unauthorized(&gate, &app, "in the query", &in_query);
    let good = format!("sha256={tag}");
    for other in ["sha256=00", &good] {
        let twice = request(&[(name, &good), (name, other)], &body);
        unauthorized(&gate, &app, "two signatures", &twice);
    }
    for (what, name, value) in [
        ("upper case", name, format!("sha256={}", tag.to_uppercase())),
        ("a name in any case", "x-HUB-signature-256", format!("sha256={tag}")),
    ] {
        assert_eq!(gate.send(&request(&[(name, &value)], &body)).status, 200, "{what}");
    }
    assert_eq!(app.seen(), 1, "both are the same event");
}

#[test]
fn a_list_of_signatures_holds_if_one_of_few_does() {
    let app = App::ok();
    let gate = Gate::before(&app).with("provider", "standard-webhooks").start();
    let signer = Signer::standard_webhooks();
    let time = (now_ms() / 1000).to_string();
    let id = unique("msg");
    let tag = signer.tag(&format!("{id}.{time}.{{}}"));
    let bad = Signer::new("standard-webhooks", 0, &other_secret()).tag(&format!("{id}.{time}.{{}}"));
    let send = |signature: &str| {
        request(&[("webhook-id", &id), ("webhook-timestamp", &time), ("webhook-signature", signature)], "{}")
    };
    for (what, signature) in [
        ("too many", format!("{}v1,{tag}", format!("v1,{bad} ").repeat(16))),
        ("too long", format!("v1,{} v1,{tag}", "A".repeat(4100))),
        ("another version", format!("v1a,{tag}")),
        ("no version", tag.clone()),
        ("unpadded", format!("v1,{}", tag.trim_end_matches('='))),
        ("another alphabet", format!("v1,{}", tag.replace('+', "-").replace('/', "_").replace('=', "-"))),
        ("all wrong", format!("v1,{bad} v1,{bad}")),
    ] {
        unauthorized(&gate, &app, what, &send(&signature));
    }
    for (what, signature, text) in [
        ("the last of several", format!("v1,{bad} v1a,xyz v1,{tag}"), "app"),
        ("the first of several", format!("v1,{tag} v1,{bad}"), "Already processed"),
    ] {
        assert_eq!(gate.send(&send(&signature)).text(), text, "{what}");
    }
}

#[test]
fn signed_header_values_are_plain_and_unambiguous() {
    let app = App::ok();
    let gate = Gate::before(&app).with("provider", "standard-webhooks").start();
    let signer = Signer::standard_webhooks();
    let now = now_ms() / 1000;
    let sign = |id: &str, time: &str| {
        let signature = format!("v1,{}", signer.tag(&format!("{id}.{time}.{{}}")));
        request(&[("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", &signature)], "{}")
    };
    for time in [
        String::new(),
        format!("{now}000"), // milliseconds
        format!("-{now}"),
        format!("+{now}"),
        format!("{now}.5"),
        format!("0{now}"),
        format!("0x{now:x}"),
        "1e9".to_owned(),
        "9223372036854775808".to_owned(),
        "18446744073709551616".to_owned(),
        "9".repeat(40),
        "2026-11-23T20:00:00Z".to_owned(),
        "soon".to_owned(),
    ] {
        unauthorized(&gate, &app, &format!("time {time:?}"), &sign("msg_time", &time));
    }
    let time = now.to_string();
    for id in ["", "a.1", &"x".repeat(300), &"x".repeat(10_000), "ümlaut"] {
        unauthorized(&gate, &app, &format!("id {id:.20?}"), &sign(id, &time));
    }
    let good = sign("msg_good", &time);
    for (what, request) in [
        ("no time", good.clone().without("webhook-timestamp")),
        ("no id", good.clone().without("webhook-id")),
        ("two times", good.clone().with("webhook-timestamp", &time)),
        ("two ids", good.clone().with("webhook-id", "msg_good")),
        (
            "another time",
            good.clone().without("webhook-timestamp").with("webhook-timestamp", &(now - 1).to_string()),
        ),
        ("another id", good.clone().without("webhook-id").with("webhook-id", "msg_other")),
    ] {
        unauthorized(&gate, &app, what, &request);
    }
    assert_eq!(gate.send(&good).status, 200);
}

#[test]
fn stripes_fields_decide_only_if_each_is_there_once() {
    let app = App::ok();
    let gate = Gate::before(&app).with("provider", "stripe").start();
    let signer = Signer::stripe();
    let now = now_ms() / 1000;
    let body = format!("{{\"id\":\"{}\"}}", unique("evt"));
    let tag = signer.tag(&format!("{now}.{body}"));
    for (what, signature) in [
        ("only the old field", format!("t={now},v0={tag}")),
        ("two times", format!("t={now},t={},v1={tag}", now - 9999)),
        ("no time", format!("v1={tag}")),
        ("no signature", format!("t={now}")),
        ("another time", format!("t={},v1={tag}", now - 1)),
        ("without names", format!("{now},{tag}")),
    ] {
        unauthorized(&gate, &app, what, &request(&[("Stripe-Signature", &signature)], &body));
    }
    let both = format!("t={now},v1={},v1={tag},v0=00", "0".repeat(64));
    assert_eq!(gate.send(&request(&[("Stripe-Signature", &both)], &body)).status, 200);
}

#[test]
fn time_is_bounded_on_both_sides_and_judged_after_the_signature() {
    let app = App::ok();
    let gate = Gate::before(&app).with("provider", "stripe").start();
    let signer = Signer::stripe();
    for (seconds, reason) in [(-302, "timestamp_stale"), (360, "timestamp_future")] {
        let event = signer.event_at(now_ms() + seconds * 1000);
        let answer = gate.send(&event);
        assert_eq!((answer.status, answer.text().as_str()), (400, "Event too old"), "{reason}");
        assert_eq!(gate.reason(&answer), reason);
        unauthorized(&gate, &app, "stale and forged tells a forger nothing", &event.tampered());
    }
    app.assert_untouched("outside the window");
    for seconds in [-240, 240] {
        assert_eq!(gate.send(&signer.event_at(now_ms() + seconds * 1000)).status, 200, "{seconds}");
    }
}

#[test]
fn a_signed_body_without_its_time_is_too_old() {
    let app = App::ok();
    let gate = Gate::before(&app).with("provider", "scalekit").with("allow-ip", "127.0.0.0/8").start();
    let answer = gate.send(&Signer::scalekit().sign(r#"{"id":"evt_1","type":"t"}"#));
    assert_eq!((answer.status, answer.text().as_str()), (400, "Event too old"));
    assert_eq!(gate.reason(&answer), "timestamp_missing");
    app.assert_untouched("no time");
}

#[test]
fn a_body_that_names_two_events_names_none() {
    let app = App::ok();
    let gate = Gate::before(&app).with("provider", "stripe").start();
    let signer = Signer::stripe();
    for body in [
        r#"{"id":"a","id":"b"}"#,
        r#"{"id":"a","\u0069d":"b"}"#,
        r#"{"id":{"x":1}}"#,
        r#"{"id":["a"]}"#,
        r#"{"id":true}"#,
        r#"{"id":"a"} trailing"#,
        r#"{"id":"a""#,
        r#"{"id":NaN}"#,
        "\u{feff}{\"id\":\"a\"",
    ] {
        let answer = gate.send(&signer.sign(body));
        assert_eq!((answer.status, answer.text().as_str()), (400, "Bad request"), "{body}");
        assert_eq!(gate.reason(&answer), "body_malformed", "{body}");
    }
    let deep = format!("{{\"id\":\"a\",\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(gate.send(&signer.sign(deep)).status, 200 | 400), "deep nesting is survived");
    let before = app.seen();
    assert_eq!(gate.send(&signer.sign(r#"{"id":"evt_escaped"}"#)).text(), "app");
    assert_eq!(gate.send(&signer.sign(r#"{ "\u0069d" : "evt_\u0065scaped" }"#)).text(), "Already processed");
    assert_eq!(gate.send(&signer.sign("no JSON at all")).text(), "app", "its digest is its identity");
    assert_eq!(gate.send(&signer.sign(r#"{"no":"id"}"#)).text(), "app");
    assert_eq!(app.seen() - before, 3);
    assert!(same(gate.metrics().value("hookgate_panics_total"), 0.0));
}

#[test]
fn routes_share_neither_secrets_nor_events() {
    let app = App::ok();
    let builder = Gate::before(&app);
    builder.dir().write("key-2", other_secret());
    let gate = builder
        .config(
            "routes:
  - { name: one, path: /one, provider: github, secrets: [{ file: DIR/key-1 }] }
  - { name: same, path: /same, provider: github, secrets: [{ file: DIR/key-1 }] }
  - { name: other, path: /other, provider: github, secrets: [{ file: DIR/key-2 }] }
  - { name: below, path: /below/*, provider: github, secrets: [{ file: DIR/key-1 }] }
",
        )
        .start();
    let event = Signer::github().event();
    for (path, status, text) in [
        ("/one", 200, "app"),
        ("/same", 200, "app"),
        ("/one", 200, "Already processed"),
        ("/other", 401, "Unauthorized"),
        ("/below/a/b", 200, "app"),
        ("/below/../one", 404, "Not found"),
        ("/below/%2e%2e/one", 404, "Not found"),
        ("/below//one", 404, "Not found"),
    ] {
        let answer = gate.send(&event.clone().to(path));
        assert_eq!((answer.status, answer.text().as_str()), (status, text), "{path}");
    }
    let routes: Vec<_> =
        app.requests().iter().map(|seen| seen.header("Hookgate-Route").unwrap().to_owned()).collect();
    assert_eq!(routes, ["one", "same", "below"]);
}

#[test]
fn during_a_rotation_both_secrets_hold_and_the_application_learns_which() {
    let app = App::ok();
    let builder = Gate::before(&app);
    let old = builder.dir().write("2026-10", other_secret());
    let gate = builder.and("secret-file", old.display()).start();
    for (secret, id) in [(SECRET.to_owned(), "key-1"), (other_secret(), "2026-10")] {
        let answer = gate.send(&Signer::new("github", 0, &secret).event());
        assert_eq!(answer.status, 200, "{id}");
        assert_eq!(app.requests().last().unwrap().header("Hookgate-Key-Id"), Some(id));
        gate.decision(&answer);
        assert!(same(gate.metrics().sum("hookgate_key_matches_total", &[("key_id", id)]), 1.0), "{id}");
    }
    let stranger = Signer::new("github", 0, "a third key that is long enough");
    assert_eq!(gate.send(&stranger.event()).status, 401);
}

#[test]
fn a_route_may_answer_in_other_statuses() {
    let app = App::ok();
    let gate = Gate::before(&app)
        .config(
            "routes:
  - name: a
    provider: stripe
    secrets: [{ file: DIR/key-1 }]
    status: { signature: 403, timestamp: 422, duplicate: 208 }
",
        )
        .start();
    let signer = Signer::stripe();
    let event = signer.event();
    for (request, status, text) in [
        (event.clone(), 200, "app"),
        (event.clone(), 208, "Already processed"),
        (event.tampered(), 403, "Unauthorized"),
        (signer.event_aged(Duration::from_secs(600)), 422, "Event too old"),
    ] {
        let answer = gate.send(&request);
        assert_eq!((answer.status, answer.text().as_str()), (status, text));
    }
}

// Senders that take their time

#[test]
fn a_head_that_trickles_is_cut_off_after_its_total_time() {
    let app = App::ok();
    let gate = Gate::before(&app).with("header-timeout", "1s").start();
    let bytes = Signer::github().event().bytes();
    let mut slow = gate.connect();
    // Each byte comes well within any time-out for one read.
    for byte in bytes.chunks(1).take(15) {
        slow.send(byte);
        std::thread::sleep(Duration::from_millis(100));
    }
    slow.rest();
    let mut silent = gate.connect();
    silent.rest();
    app.assert_untouched("no head");
    gate.wait_for_metric("hookgate_connections", 0.0);
}

#[test]
fn a_connection_that_nobody_uses_is_closed() {
    let app = App::ok();
    let gate = Gate::before(&app).with("idle-timeout", "1s").with("header-timeout", "1s").start();
    let mut sender = gate.connect();
    for _ in 0..2 {
        assert_eq!(sender.exchange(&Signer::github().event()).status, 200);
    }
    assert!(sender.rest().is_empty());
}

#[test]
fn http_1_0_is_served_and_closed() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    let old =
        |request: &Request| String::from_utf8(request.bytes()).unwrap().replacen("HTTP/1.1", "HTTP/1.0", 1);
    let mut sender: Sender = gate.connect();
    let event = Signer::github().event();
    sender.send(old(&event));
    let answer = sender.response();
    assert_eq!((answer.status, answer.text().as_str()), (200, "app"));
    sender.rest();
    assert_eq!(app.only_request().line, "POST /webhooks HTTP/1.1");

    let mut sender = gate.connect();
    let event = Signer::github().event();
    let chunked = event.head("Transfer-Encoding: chunked\r\n").replacen("HTTP/1.1", "HTTP/1.0", 1);
    sender.send(chunked);
    sender.send(event.chunks(10));
    assert_eq!(sender.response().status, 400);
    assert_eq!(app.seen(), 1);
}
