//! Which verified events reach the application: what tells two of them apart, and which of them the
//! route takes.

use serde_json::json;

use crate::support::gate::{hookgate, run, same};
use crate::support::sender::{SECRET, unique};
use crate::support::{Answer, App, Builder, Gate, Request, Signer};

fn route(rest: &str) -> String {
    format!("routes:\n  - {{ name: r, path: /webhooks, secrets: [{{ file: DIR/key-1 }}], {rest} }}\n")
}

fn gate_before(app: &App, rest: &str) -> Gate {
    Builder::new(&app.url()).config(&route(rest)).start()
}

/// The reason and the verdict of each request, one after the other.
fn ended(gate: &Gate, requests: &[Request]) -> Vec<(String, String)> {
    let told = |request: &Request| {
        let decision = gate.decision(&gate.send(request));
        let text = |key: &str| decision[key].as_str().unwrap().to_owned();
        (text("hookgate.reason"), text("hookgate.verdict"))
    };
    requests.iter().map(told).collect()
}

fn pair(reason: &str, verdict: &str) -> (String, String) {
    (reason.to_owned(), verdict.to_owned())
}

fn accepted() -> (String, String) {
    pair("accepted", "accepted")
}

fn duplicate() -> (String, String) {
    pair("duplicate", "answered")
}

fn signed(preset: &str, body: &str) -> Request {
    Signer::new(preset, 0, SECRET).sign(body)
}

#[test]
fn equal_bytes_are_one_event_unless_the_route_goes_by_the_delivery_id() {
    let first = signed("github", "{\"zen\":1}").without("X-GitHub-Delivery");
    let other = |id: &str| first.clone().with("X-GitHub-Delivery", id);
    for (identity, second, third) in [
        ("signed", duplicate(), duplicate()),
        ("delivery", accepted(), duplicate()),
        ("none", accepted(), accepted()),
    ] {
        let app = App::ok();
        let gate = gate_before(&app, &format!("provider: github, identity: {identity}"));
        let all = ended(&gate, &[other("a"), other("b"), other("b")]);
        assert_eq!(all, [accepted(), second, third], "{identity}");
        let keys: Vec<_> = app.requests();
        let told = keys.iter().filter(|seen| seen.header("Hookgate-Idempotency-Key").is_some()).count();
        assert_eq!(told, if identity == "none" { 0 } else { keys.len() }, "{identity}");
    }
}

#[test]
fn a_delivery_id_that_is_left_out_makes_no_second_event_of_a_known_one() {
    let app = App::ok();
    let gate = gate_before(&app, "provider: github, identity: delivery");
    let bare = signed("github", "{\"zen\":2}").without("X-GitHub-Delivery");
    let ended = ended(&gate, &[bare.clone(), bare.clone(), bare.clone().with("x-github-delivery", "a")]);
    assert_eq!(ended, [accepted(), duplicate(), accepted()]);
    let twice = bare.with("X-GitHub-Delivery", "a").with("X-GitHub-Delivery", "b");
    assert_eq!(gate.send(&twice).status, 401, "which one it is, nobody knows");
}

#[test]
fn a_preset_knows_what_its_events_need_and_a_route_may_decide_otherwise() {
    let body = "{\"list_folder\":{\"accounts\":[\"dbid:1\"]}}";
    for (rest, second) in [("", accepted()), (", identity: signed", duplicate())] {
        let app = App::ok();
        let gate = gate_before(&app, &format!("provider: dropbox{rest}"));
        let one = signed("dropbox", body);
        assert_eq!(ended(&gate, &[one.clone(), one]), [accepted(), second], "{rest}");
    }
}

/// Bodies that their senders' pages show for two events, with where the sender says which delivery it is.
#[test]
fn two_events_of_a_sender_that_are_the_same_bytes_are_both_delivered() {
    let push = "{\"ref\":\"refs/heads/main\",\"before\":\"1\",\"after\":\"2\"}";
    let account = "<updated_account_notification><account><account_code>1</account_code></account></updated_account_notification>";
    for (preset, scheme, body, told_apart_by) in [
        ("bitbucket", 0, push, Some("X-Request-UUID")),
        (
            "clickup",
            0,
            "{\"event\":\"folderUpdated\",\"folder_id\":\"96772212\",\"webhook_id\":\"7fa3\"}",
            None,
        ),
        ("convoy", 0, "{}", Some("X-Convoy-Idempotency-Key")),
        ("convoy", 1, "{}", Some("X-Convoy-Idempotency-Key")),
        ("convoy-base64", 0, "{}", Some("X-Convoy-Idempotency-Key")),
        ("gitlab-token", 0, push, Some("Idempotency-Key")),
        ("hookdeck", 0, "{}", Some("x-hookdeck-eventid")),
        ("recharge", 0, "{\"charge\":{\"id\":1}}", None),
        ("recharge-legacy", 0, "{\"charge\":{\"id\":1}}", None),
        ("recurly-classic", 0, account, None),
        ("sentry", 0, "{\"action\":\"resolved\",\"data\":{\"issue\":{\"id\":\"1\"}}}", Some("Request-ID")),
        ("shopify", 0, "{\"id\":1}", Some("X-Shopify-Webhook-Id")),
        ("storyblok", 0, "{\"action\":\"published\",\"story_id\":1}", None),
        ("woocommerce", 0, "{\"id\":1}", Some("X-WC-Webhook-Delivery-ID")),
    ] {
        let app = App::ok();
        let gate = gate_before(&app, &format!("provider: {preset}"));
        let sent = Signer::new(preset, scheme, SECRET).sign(body);
        let under = |id: &str| match told_apart_by {
            Some(header) => sent.clone().without(header).with(header, id),
            None => sent.clone(),
        };
        let again = if told_apart_by.is_some() { duplicate() } else { accepted() };
        let all = ended(&gate, &[under("a"), under("b"), under("b")]);
        assert_eq!(all, [accepted(), accepted(), again], "{preset}");
    }
}

#[test]
fn a_retry_that_counts_its_attempts_in_the_body_is_known_where_the_event_has_an_id() {
    for (preset, first, second) in [
        (
            "heroku",
            json!({ "id": 1, "webhook_metadata": { "attempt": { "id": 1 } } }),
            json!({ "id": 1, "n": 2 }),
        ),
        (
            "intercom",
            json!({ "id": "notif_1", "delivery_attempts": 1 }),
            json!({ "id": "notif_1", "delivery_attempts": 2 }),
        ),
        ("notion", json!({ "id": "a", "attempt_number": 1 }), json!({ "id": "a", "attempt_number": 2 })),
        ("mux", json!({ "id": "a", "attempts": [] }), json!({ "id": "a", "attempts": [1] })),
    ] {
        let app = App::ok();
        let gate = gate_before(&app, &format!("provider: {preset}"));
        let of = |body: &serde_json::Value| signed(preset, &body.to_string());
        assert_eq!(ended(&gate, &[of(&first), of(&second)]), [accepted(), duplicate()], "{preset}");
    }
    // Intercom's ping has no id.
    let app = App::ok();
    let gate = gate_before(&app, "provider: intercom");
    let ping = |n: u8| signed("intercom", &json!({ "id": null, "topic": "ping", "n": n }).to_string());
    assert_eq!(ended(&gate, &[ping(1), ping(2), ping(1)]), [accepted(), accepted(), duplicate()]);
}

#[test]
fn one_event_in_two_versions_of_an_interface_is_two_deliveries() {
    let app = App::ok();
    let gate = gate_before(&app, "provider: stripe");
    let id = unique("evt");
    let of = |version: &str| {
        signed("stripe", &json!({ "id": id, "api_version": version, "type": "x" }).to_string())
    };
    let all = ended(&gate, &[of("2024-04-10"), of("2025-01-01"), of("2024-04-10"), of("2025-01-01")]);
    assert_eq!(all, [accepted(), accepted(), duplicate(), duplicate()]);
}

#[test]
fn integers_are_ids_and_null_is_none() {
    let scheme = "scheme: { algorithm: hmac-sha256, signature: { from: 'header:X-Hub-Signature-256', prefix: 'sha256=', \
                  encoding: hex }, content: '{body}', id: ['json:/id', 'json:/other'] }";
    let app = App::ok();
    let gate = gate_before(&app, scheme);
    let of = |body: &str| signed("github", body);
    let all = ended(
        &gate,
        &[
            of("{\"id\":7,\"n\":1}"),
            of("{\"id\":7,\"n\":2}"),
            of("{\"id\":8,\"n\":2}"),
            of("{\"id\":null,\"other\":\"a\",\"n\":3}"),
            of("{\"id\":null,\"other\":\"a\",\"n\":4}"),
            of("{\"id\":null,\"n\":4}"),
            of("\u{feff}{\"id\":9,\"n\":4}"),
            of("{\"id\":9}"),
            of("{\"id\":1.5}"),
        ],
    );
    let bad = pair("body_malformed", "refused");
    let expected = [
        accepted(),
        duplicate(),
        accepted(),
        accepted(),
        duplicate(),
        accepted(),
        accepted(),
        duplicate(),
        bad,
    ];
    assert_eq!(all, expected);
    let ids: Vec<_> =
        app.requests().iter().map(|r| r.header("Hookgate-Event-Id").map(str::to_owned)).collect();
    let some = |id: &str| Some(id.to_owned());
    assert_eq!(ids, [some("7"), some("8"), some("a"), None, some("9")]);
}

#[test]
fn events_that_are_not_wanted_are_answered_and_not_remembered() {
    let events = "events: { take: [push, 'pull_request.*'], drop: ['*.labeled'], when: [{ 'json:/ref': [refs/heads/main, \
                  'refs/tags/*'] }] }";
    let app = App::ok();
    let gate = gate_before(&app, &format!("provider: github, {events}"));
    let of = |kind: &str, body: &str| {
        signed("github", &format!("{{\"n\":\"{}\",{body}}}", unique("n"))).with("X-GitHub-Event", kind)
    };
    let filtered = || pair("filtered", "answered");
    let wanted = [
        (of("push", "\"ref\":\"refs/heads/main\""), true),
        (of("push", "\"ref\":\"refs/tags/v1\""), true),
        (of("push", "\"ref\":\"refs/heads/other\""), false),
        (of("pull_request", "\"action\":\"opened\""), true),
        (of("pull_request", "\"action\":\"labeled\""), false),
        (of("issues", "\"action\":\"opened\""), false),
    ];
    for (n, (request, taken)) in wanted.iter().enumerate() {
        let expected = if *taken { accepted() } else { filtered() };
        assert_eq!(ended(&gate, std::slice::from_ref(request)), [expected], "{n}");
    }
    assert_eq!(app.seen(), 3);
    let unwanted = &wanted[2].0;
    let answer = gate.send(unwanted);
    assert_eq!(answer.said(), (202, String::new()));
    assert_eq!(gate.reason(&answer), "filtered", "no copy of it is a duplicate");
    assert!(same(gate.metrics().requests("filtered"), 4.0));
    let forged = unwanted.clone().tampered();
    assert_eq!(gate.send(&forged).status, 401, "who has no key learns nothing of the choice");
}

#[test]
fn an_observing_route_forwards_what_it_would_not_take() {
    let app = App::ok();
    let gate = gate_before(&app, "provider: github, mode: observe, events: { drop: [ping] }");
    let ping = signed("github", &unique("ping")).with("X-GitHub-Event", "ping");
    assert_eq!(ended(&gate, &[ping]), [pair("filtered", "observed")]);
    assert_eq!(app.only_request().header("Hookgate-Verdict"), Some("observed"));
}

#[test]
fn only_a_2xx_of_the_application_is_accepted() {
    let statuses = [500, 404, 302, 204];
    let app = App::script(statuses.map(Answer::status));
    let gate = Gate::before(&app).start();
    let event = Signer::github().event();
    for status in statuses {
        let answer = gate.send(&event);
        assert_eq!(answer.status, status);
        let decision = gate.decision(&answer);
        let (reason, verdict, severity) = match status {
            500 => ("upstream_status", "failed", "ERROR"),
            404 | 302 => ("upstream_status", "failed", "WARN"),
            _ => ("accepted", "accepted", "INFO"),
        };
        assert_eq!(decision["hookgate.reason"], reason, "{status}");
        assert_eq!(decision["hookgate.verdict"], verdict, "{status}");
        assert_eq!(decision["severity_text"], severity, "{status}");
        let accepted = gate.metrics().value("hookgate_last_accepted_timestamp_seconds{route=\"default\"}");
        assert_eq!(accepted > 0.0, status == 204, "{status}");
    }
    let copy = gate.decision(&gate.send(&event));
    assert_eq!((&copy["hookgate.verdict"], &copy["severity_text"]), (&json!("answered"), &json!("INFO")));
}

#[test]
fn a_route_takes_the_methods_that_it_names() {
    let app = App::ok();
    let gate = gate_before(&app, "provider: github, methods: [PUT, POST]");
    for (method, status) in [("POST", 200), ("PUT", 200), ("PATCH", 405), ("GET", 405)] {
        let request = Signer::github().event();
        let bytes = [
            format!("{method} /webhooks HTTP/1.1\r\nHost: gate\r\n{}", lines(&request)).into_bytes(),
            format!("Content-Length: {}\r\n\r\n", request.body.len()).into_bytes(),
            request.body.clone(),
        ];
        let mut sender = gate.connect();
        sender.send(bytes.concat());
        assert_eq!(sender.response().status, status, "{method}");
    }
}

fn lines(request: &Request) -> String {
    request.headers.0.iter().fold(String::new(), |lines, (name, value)| lines + name + ": " + value + "\r\n")
}

#[test]
fn a_copy_by_content_under_another_delivery_id_is_told_and_can_be_let_through_by_that_id() {
    let app = App::ok();
    let builder = Gate::before(&app);
    let socket = builder.dir().path().join("control");
    let gate = builder.with("control-socket", socket.display()).start();
    let of = |id: &str| {
        signed("github", "{\"inputs\":{}}").without("x-github-delivery").with("X-GitHub-Delivery", id)
    };
    let count = || gate.metrics().value("hookgate_duplicates_of_other_deliveries_total{route=\"default\"}");

    assert_eq!(ended(&gate, &[of("a"), of("a")]), [accepted(), duplicate()]);
    assert!(same(count(), 0.0), "the same delivery once more");
    let key = gate.decision(&gate.send(&of("b")))["hookgate.idempotency_key"].as_str().unwrap().to_owned();
    assert_eq!(Some(&*key), app.only_request().header("Hookgate-Idempotency-Key"));
    assert!(same(count(), 1.0));
    let hint = gate.log.find("the hint", |line| line["event.name"] == "hookgate.hints");
    assert!(hint["hookgate.hints"].as_str().unwrap().contains("identity: delivery"), "{hint}");

    let forget = |id: &str| {
        let socket = format!("--control-socket={}", socket.display());
        run(hookgate(&["forget", "--route", "default", "--event", id]).arg(socket)).code
    };
    assert_eq!(forget("never-seen"), Some(1));
    assert_eq!(forget("a"), Some(0));
    assert_eq!(ended(&gate, &[of("a"), of("a")]), [accepted(), duplicate()]);
}
