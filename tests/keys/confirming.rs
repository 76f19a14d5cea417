//! A subscription is confirmed by the gate where a route says so, at an address of the gate's own making; and
//! whatever forgers and strangers do, nothing is visited.

use serde_json::{Value, json};

use super::delivered::{CERTIFICATE, reason, request, resign, sns};
use super::host::{KeyHost, Reply, Signer};
use crate::support::gate::same;
use crate::support::sender::{now_ms, unique};
use crate::support::{self, App, Builder, Gate, Request};
use hookgate::clock::to_rfc3339;

const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:bounces";
const ELSEWHERE: &str = "arn:aws:sns:eu-west-1:123456789012:bounces";

fn routes(more: &str) -> String {
    format!(
        "routes:\n  - {{ name: r, path: /hook, provider: aws-sns, topic_arns: ['{TOPIC}', '{ELSEWHERE}']{more} }}\n"
    )
}

/// A request to confirm a subscription, signed; `change` is made before that.
fn asks(signer: &Signer, token: &str, change: &[(&str, &str)]) -> Value {
    let mut message = json!({
        "Type": "SubscriptionConfirmation", "MessageId": unique("id"), "TopicArn": TOPIC, "Token": token,
        "Message": "You have chosen to subscribe", "SubscribeURL": "https://evil.example/", "SignatureVersion": "2",
        "Timestamp": to_rfc3339(now_ms()), "SigningCertURL": CERTIFICATE,
    });
    for (key, value) in change {
        message[*key] = (*value).into();
    }
    resign(signer, &mut message);
    message
}

fn sent(message: &Value) -> Request {
    request(&message.to_string(), &[("Content-Type", "text/plain")])
}

fn visit(topic: &str, token: &str) -> String {
    let region = topic.split(':').nth(3).unwrap();
    format!("https://sns.{region}.amazonaws.com/?Action=ConfirmSubscription&TopicArn={topic}&Token={token}")
}

fn confirmations(gate: &Gate, result: &str) -> f64 {
    let series = format!("hookgate_confirmations_total{{result=\"{result}\",source=\"aws-sns\"}}");
    gate.metrics().value(&series)
}

#[test]
fn a_subscription_is_confirmed_once_at_an_address_of_the_gates_own() {
    let Some(host) = KeyHost::new() else { return };
    let signer = sns(&host);
    let app = App::ok();
    let gate = host.before(&app.url(), &routes(", handshake: confirm")).start();
    assert!(same(confirmations(&gate, "success"), 0.0), "the series is there before anything happens");

    let (token, other) = ("a1".repeat(128), "b2".repeat(128));
    host.publish(&visit(TOPIC, &token), Reply::Document("<ConfirmSubscriptionResponse/>".into()));
    let asked = sent(&asks(&signer, &token, &[]));
    let answer = gate.send(&asked);
    assert_eq!((answer.said(), gate.reason(&answer)), ((200, String::new()), "handshake".to_owned()));
    assert_eq!(reason(&gate, &asked), "handshake", "a copy is answered alike");
    assert_eq!(host.asked(&visit(TOPIC, &token)), 1, "and causes no other visit");

    // Not there, then there: the sender learns the first, and comes again.
    let elsewhere = sent(&asks(&signer, &other, &[("TopicArn", ELSEWHERE)]));
    let refused = gate.send(&elsewhere);
    assert_eq!((refused.status, gate.reason(&refused).as_str()), (503, "store_unavailable"));
    assert!(refused.header("Retry-After").is_some());
    assert_eq!(host.asked(&visit(ELSEWHERE, &other)), 1);
    host.publish(&visit(ELSEWHERE, &other), Reply::Document(String::new()));
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(reason(&gate, &elsewhere), "handshake");

    assert!(same(confirmations(&gate, "success"), 2.0) && same(confirmations(&gate, "status"), 1.0));
    let told = |line: &Value| {
        line["event.name"] == "hookgate.confirmation" && line.to_string().contains("&Token={word}")
    };
    assert_eq!(gate.log.count(told), 3, "{}", gate.log.text());
    assert!(!gate.log.text().contains(&token), "a token is good for whoever has it");
    app.assert_untouched("the gate confirms");
}

/// Each is refused for its reason, or reaches the application as an event; none has anything visited.
#[test]
fn nothing_is_visited_for_a_forger_a_stranger_or_a_harmful_token() {
    let Some(host) = KeyHost::new() else { return };
    let signer = sns(&host);
    let (forger, _) = Signer::certified(&host.authority, "forger", "sns.amazonaws.com");
    let app = App::ok();
    let gate = host.before(&app.url(), &routes(", handshake: confirm, rate_limit: off")).start();
    let token = "a1".repeat(128);
    let changed = |change: &[(&str, &str)]| asks(&signer, &token, change);
    let unsigned = |key: &str, value: &str| {
        let mut message = changed(&[]);
        message[key] = value.into();
        message
    };
    let cert = |host: &str| CERTIFICATE.replace("sns.us-east-1.amazonaws.com", host);
    let long = "a".repeat(513);
    let mut rows = vec![
        ("signed by somebody else", asks(&forger, &token, &[]), "signature_mismatch"),
        ("another token than the signed one", unsigned("Token", "c3"), "signature_mismatch"),
        ("another topic than the signed one", unsigned("TopicArn", ELSEWHERE), "signature_mismatch"),
        (
            "a topic of the forger's own, signed by Amazon",
            changed(&[("TopicArn", "arn:aws:sns:us-east-1:666666666666:bounces")]),
            "signature_mismatch",
        ),
        (
            "two topics in one",
            changed(&[("TopicArn", "arn:aws:sns:us-east-1:123456789012:bounces&x=1")]),
            "signature_mismatch",
        ),
        (
            "the host of a region without a topic",
            changed(&[("SigningCertURL", &cert("sns.us-west-2.amazonaws.com"))]),
            "signature_mismatch",
        ),
        (
            "a host that looks like one",
            changed(&[("SigningCertURL", &cert("sns.us-east-1.amazonaws.com.evil.example"))]),
            "signature_mismatch",
        ),
        ("yesterday", changed(&[("Timestamp", &to_rfc3339(now_ms() - 24 * 3_600_000))]), "timestamp_stale"),
        ("the end of a subscription", changed(&[("Type", "UnsubscribeConfirmation")]), "accepted"),
        ("an event that holds a token", changed(&[("Type", "Notification")]), "accepted"),
    ];
    let mut without = changed(&[]);
    without["Token"] = Value::Null;
    resign(&signer, &mut without);
    rows.push(("no token", without, "handshake_refused"));
    rows.push(("a token that is empty, and so is not signed", asks(&signer, "", &[]), "signature_mismatch"));
    for harmful in [
        "a&Action=DeleteTopic",
        "a&TopicArn=arn:aws:sns:us-east-1:666666666666:x",
        "a#",
        "a%26b",
        "../",
        "a/b",
        "a b",
        "@evil.example",
        "ä",
        &long,
    ] {
        rows.push(("a harmful token", asks(&signer, harmful, &[]), "handshake_refused"));
    }
    for harmful in ["a\r\nHost: evil.example", "a\nb"] {
        rows.push(("a token of two lines", asks(&signer, harmful, &[]), "signature_malformed"));
    }
    for (what, message, expected) in rows {
        assert_eq!(reason(&gate, &sent(&message)), expected, "{what}: {message}");
    }
    let asked: Vec<_> = host.said().into_iter().filter(|said| said.contains("ConfirmSubscription")).collect();
    assert_eq!(asked, [""; 0]);
    assert_eq!(host.asked_in_all(), 1, "nothing but the certificate was asked for");
    assert_eq!(app.seen(), 2);
}

#[test]
fn nothing_is_visited_unless_the_route_says_so() {
    let Some(host) = KeyHost::new() else { return };
    let signer = sns(&host);
    let app = App::ok();
    for more in ["", ", handshake: forward", ", handshake: off"] {
        let gate = host.before(&app.url(), &routes(more)).start();
        let asked = sent(&asks(&signer, &"a1".repeat(128), &[]));
        assert_eq!(reason(&gate, &asked), "accepted", "{more}");
        let seen = app.requests().pop().unwrap();
        assert_eq!(seen.header("Hookgate-Event-Type"), Some("SubscriptionConfirmation"), "{more}");
        assert_eq!(host.asked(CERTIFICATE), host.asked_in_all(), "{more}");
    }
}

/// What resolves to an address of somebody's own is no address of a provider's.
#[test]
fn a_private_address_is_not_visited_unless_that_is_allowed() {
    let Some(host) = KeyHost::new() else { return };
    let url = "https://localhost/confirm/a1";
    host.publish(url, Reply::Document(String::new()));
    let question = support::Signer::github().sign(br#"{"Type":"Ask","Token":"a1"}"#);
    let app = App::ok();
    for (allowed, status, visits) in [(false, 503, 0), (true, 200, 1)] {
        let route = format!(
            "keys: {{ ca_file: CA, allow_private: {allowed} }}
routes:
  - name: r
    path: /webhooks
    provider: github
    secrets: [{{ file: DIR/key-1 }}]
    handshake: [{{ signed: true, when: {{ 'json:/Type': Ask }}, value: 'json:/Token', answer: {{ visit: '{}' }} }}]
",
            format_args!("https://localhost:{}/confirm/{{word}}", host.address().port())
        );
        let gate = host.gate(&app.url(), &route).start();
        assert_eq!(gate.send(&question).status, status, "{allowed}");
        assert_eq!(host.asked(url), visits, "{allowed}");
    }
    app.assert_untouched("the gate confirms");
}

#[test]
fn what_would_confirm_nothing_is_told() {
    for (head, route, says) in [
        (
            "",
            format!("provider: aws-sns, topic_arns: ['{TOPIC}'], handshake: answer"),
            "write handshake: confirm",
        ),
        (
            "",
            "provider: slack, secrets: [{ file: DIR/key-1 }], handshake: confirm".to_owned(),
            "has nothing confirmed",
        ),
        (
            "keys: { dir: DIR }\n",
            format!("provider: aws-sns, topic_arns: ['{TOPIC}'], handshake: confirm"),
            "leave handshake: confirm out",
        ),
    ] {
        let yaml = format!("{head}routes:\n  - {{ name: r, path: /hook, {route} }}\n");
        let output = Builder::new("http://127.0.0.1:1").config(&yaml).command("check").output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(78), "{route}: {said}");
        assert!(said.contains(says), "{route}: {said}");
    }
}
