//! What a route passes on without a proof cannot be taken for what has one.

use super::fixture::*;
use crate::support::{Answer, Request};

/// `web` takes what no other route has, and nothing that could be read as theirs: with `/Nowhere`, the request
/// that the fixture sends behind each of these has no route.
const ROUTES: &str = "
routes:
  - { name: gh, path: /hooks/gh, provider: github, secrets: [{ file: DIR/github }] }
  - { name: folder, path: /in/*, provider: github, secrets: [{ file: DIR/github }] }
  - { name: nowhere, path: /Nowhere, provider: github, secrets: [{ file: DIR/github }] }
  - { name: web, path: /*, pass: true, max_body: 64KiB }
  - { name: near, path: /near, pass: true, allow_ips: [127.0.0.1/32], rate_limit: 2/1h }
";

static GATE: Shared = Shared::new(|| Fixture::configured(ROUTES, |builder| builder.without("rate-limit")));

fn to(target: &str) -> Request {
    bare(target, &[], b"{}")
}

#[test]
fn no_spelling_of_a_path_that_is_verified_passes() {
    let gate = GATE.enter();
    for target in [
        "/hooks/gh",
        "/hooks/gh/",
        "/hooks/gh?x",
        "/hooks/gh/?x",
        "/HOOKS/GH",
        "/Hooks/gh",
        "/hooks/gh.json",
        "/hooks/gh.",
        "/hooks/gh/new",
        "/hooks/%67h",
        "/hooks/%47H",
        "/%68ooks/gh/",
        "/hooks//gh",
        "//hooks/gh",
        "/./hooks/gh",
        "/x/../hooks/gh",
        "/x/%2e%2e/hooks/gh",
        "/hooks/gh;x",
        "/hooks;x/gh",
        "/hooks/gh%2f",
        "/hooks%2fgh",
        "/hooks%5cgh",
        "/hooks/gh%00",
        "/hooks/gh%20",
        "/hooks/gh%09",
        "/hooks/gh%3fx",
        "/hooks/gh%23",
        "/hooks/gh%25",
        "/hooks/gh%2",
        "/hooks/gh+",
        "/hooks/gh:x",
        "/hooks/gh%C2%A0",
        "/hooks/gh%CC%81",
        "/hooks/gh%FF",
        "/in",
        "/in/",
        "/in/x",
        "/IN/x",
        "/In",
        "/%69n/x",
        "/in.json",
        "/in/../in/x",
    ] {
        for bytes in [to(target).bytes(), github().event().tampered().to(target).bytes()] {
            let seen = gate.app.seen();
            let answer = {
                let mut sender = gate.gate.connect();
                sender.send(&bytes);
                sender.response()
            };
            assert!(matches!(answer.status, 400 | 401 | 404), "{target}: {}", answer.status);
            assert_eq!(gate.app.seen(), seen, "{target}");
        }
    }
    for target in
        ["/", "/hooks", "/hooks/ghost", "/hooks/gh-docs", "/hooks/g", "/inside", "/index.html", "/%C3%A9"]
    {
        gate.expect(target, to(target).bytes(), DELIVERED);
        assert_eq!(
            gate.app.requests().pop().unwrap().headers.all("Hookgate-Verdict"),
            ["observed"],
            "{target}"
        );
    }
    // What is verified is so beside it.
    let seen = gate.delivers("an event", &github().event());
    assert_eq!(seen.headers.all("Hookgate-Verdict"), ["accepted"]);
}

#[test]
fn the_application_can_tell_what_nobody_verified() {
    let gate = GATE.enter();
    let forged = [
        "Hookgate-Verdict",
        "hookgate_verdict",
        "HOOKGATE.VERDICT",
        "Hookgate-Reason",
        "Hookgate-Route",
        "Hookgate-Provider",
        "Hookgate-Key-Id",
        "Hookgate_Key_Id",
        "Hookgate-Assurance",
        "Hookgate-Event-Id",
        "Hookgate-Event-Type",
        "Hookgate-Event-Time",
        "Hookgate-Idempotency-Key",
        "Hookgate-Attempt",
        "Hookgate-Request-Id",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "X-Forwarded-For",
    ];
    // Signed for another route: here it is not looked at.
    let event = github().event().to("/elsewhere").with("Cookie", "a=b").with("Authorization", "Basic YTpi");
    let event = forged.iter().fold(event, |event, name| event.with(name, "accepted"));
    let seen = gate.delivers("forged headers", &event);
    let ours = |name: &str| seen.headers.all(name);
    assert_eq!(ours("Hookgate-Verdict"), ["observed"]);
    assert_eq!((ours("Hookgate-Route"), ours("Hookgate-Provider")), (vec!["web"], vec!["none"]));
    let gates = seen.headers.0.iter().map(|(name, _)| name.to_lowercase());
    let mut gates: Vec<_> =
        gates.filter(|name| name.replace(['_', '.'], "-").starts_with("hookgate-")).collect();
    gates.sort();
    assert_eq!(gates, ["hookgate-provider", "hookgate-request-id", "hookgate-route", "hookgate-verdict"]);
    assert!(!seen.headers.0.iter().any(|(_, value)| value == "accepted"), "{:?}", seen.headers);
    assert_eq!((ours("Cookie"), ours("Authorization")), (vec!["a=b"], vec!["Basic YTpi"]));
}

#[test]
fn every_method_passes_and_is_counted_as_what_it_is() {
    let gate = GATE.enter();
    let count = |reason: &str| {
        let labels = [("route", "web"), ("provider", "none"), ("verdict", "observed"), ("reason", reason)];
        gate.gate.metrics().sum("hookgate_requests_total", &labels)
    };
    let before = (count("accepted"), count("upstream_status"));
    for method in ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
        let bytes = String::from_utf8(to("/page?q=1").bytes()).unwrap().replacen("POST", method, 1);
        let answer = gate.expect(method, bytes, DELIVERED);
        assert_eq!(gate.app.requests().pop().unwrap().line, format!("{method} /page?q=1 HTTP/1.1"));
        let line = gate.gate.decision(&answer);
        assert_eq!((&line["severity_text"], &line["hookgate.verdict"]), (&"INFO".into(), &"observed".into()));
        assert!(line["hookgate.observed"].is_null() && line["hookgate.key_id"].is_null(), "{line}");
    }
    // The answer to HEAD has a length and no body: the next one on both connections is in its place.
    gate.plan([Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")]);
    let mut sender = gate.gate.connect();
    sender.send(
        "HEAD /page HTTP/1.1\r\nHost: a\r\n\r\nGET /page HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    let answers = String::from_utf8(sender.rest()).unwrap();
    assert!(
        answers.contains("Content-Length: 5\r\n") || answers.contains("content-length: 5\r\n"),
        "{answers}"
    );
    assert!(answers.matches("HTTP/1.1 200").count() >= 1, "{answers}");
    gate.plan([Answer::status(404), Answer::status(500)]);
    gate.expect("not there", to("/gone").bytes(), Verdict { status: 404, ..Verdict::answered(404) });
    let answer =
        gate.expect("broken", to("/broken").bytes(), Verdict { status: 500, ..Verdict::answered(500) });
    assert_eq!(gate.gate.decision(&answer)["severity_text"], "INFO", "it is no event that was lost");
    assert!(count("accepted") - before.0 >= 7.0, "{} {}", count("accepted"), before.0);
    assert!((count("upstream_status") - before.1 - 2.0).abs() < 0.1);
    let metrics = gate.gate.metrics();
    let accepted = [("route", "web"), ("verdict", "accepted")];
    assert!(metrics.sum("hookgate_requests_total", &accepted) < 0.1);
    assert!(metrics.sum("hookgate_last_accepted_timestamp_seconds", &[("route", "web")]) < 0.1);
}

#[test]
fn what_passes_keeps_the_limits() {
    let gate = GATE.enter();
    let large = bare("/page", &[], &vec![b'a'; 64 * 1024 + 1]);
    gate.expect("a long body", large.head("Content-Length: 65537\r\n"), TOO_LARGE);
    gate.expect(
        "another protocol",
        to("/page").with("Connection", "Upgrade").with("Upgrade", "websocket").bytes(),
        FRAMING,
    );
    gate.expect_from("127.0.0.2", "a stranger", to("/near").bytes(), DENIED);
    for verdict in [DELIVERED, DELIVERED, LIMITED] {
        gate.expect("the third in an hour", to("/near").bytes(), verdict);
    }
    for _ in 0..101 {
        gate.expect("as often as it likes", to("/page").bytes(), DELIVERED);
    }
    let plain = Fixture::configured(ROUTES, |builder| builder.without("insecure-allow-http"));
    plain.expect("in the clear", to("/page").bytes(), INSECURE);
}
