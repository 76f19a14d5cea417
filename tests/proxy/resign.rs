//! The signature that the application gets from the gate.

use crate::support::app::Received;
use crate::support::sender::{now_ms, other_secret};
use crate::support::{App, Builder, Gate, Signer};

const APP_KEYS: [&str; 2] =
    ["whsec_dGhlIG5ld2VzdCBvZiB0aGUgdHdvIGtleXM=", "whsec_dGhlIG9sZGVyIG9uZSBvZiB0aGUgdHdv"];

fn gate(app: &App, route: &str) -> Gate {
    let builder = Gate::before(app).config(&format!(
        "
routes:
  - {{ name: one, path: /webhooks, secrets: [{{ id: a, file: DIR/key-1 }}], {route} }}
"
    ));
    for (name, key) in ["new", "old"].iter().zip(APP_KEYS) {
        builder.dir().write(name, key);
    }
    builder.start()
}

const ANEW: &str = "resign: { as: standard-webhooks, secrets: [{ file: DIR/new }, { file: DIR/old }] }";

/// What the signature of Standard Webhooks must be.
fn expected(key: &str, received: &Received) -> String {
    let header = |name| received.header(name).unwrap();
    let content = format!(
        "{}.{}.{}",
        header("webhook-id"),
        header("webhook-timestamp"),
        String::from_utf8_lossy(&received.body)
    );
    format!("v1,{}", Signer::new("standard-webhooks", 0, key).tag(&content))
}

#[test]
fn the_application_gets_a_signature_with_every_key_and_the_events_own_name() {
    let app = App::ok();
    let gate = gate(&app, &format!("provider: github, {ANEW}"));
    let event = Signer::github().event();
    // A stranger's word in the places where the gate's stands.
    let event = event
        .with("Webhook-Signature", "v1,c3RyYW5nZXI=")
        .with("webhook-timestamp", "1")
        .with("WEBHOOK-ID", "another");
    assert_eq!(gate.send(&event).status, 200);
    let received = app.only_request();
    let signatures = APP_KEYS.map(|key| expected(key, &received)).join(" ");
    assert_eq!(received.headers.all("webhook-signature"), [signatures]);
    assert_eq!(received.headers.all("webhook-id"), received.headers.all("hookgate-idempotency-key"));
    let time: i64 = received.header("webhook-timestamp").unwrap().parse().unwrap();
    assert!((now_ms() / 1000 - time).abs() < 60, "signed now, not {time}");
    assert_eq!(received.header("x-hub-signature-256"), event.headers.get("x-hub-signature-256"), "stays");
}

#[test]
fn as_the_same_it_is_the_providers_signature_with_a_fresh_time() {
    let app = App::ok();
    let gate = gate(&app, "provider: stripe, tolerance: 3h, resign: { as: same }");
    let event = Signer::stripe().event_at(now_ms() - 7_200_000);
    assert_eq!(gate.send(&event).status, 200);
    let received = app.only_request();
    let signature = received.header("stripe-signature").unwrap();
    let time = signature.strip_prefix("t=").and_then(|rest| rest.split(',').next()).unwrap();
    let seconds: i64 = time.parse().unwrap();
    assert!((now_ms() / 1000 - seconds).abs() < 60, "{signature}");
    let content = format!("{time}.{}", String::from_utf8_lossy(&received.body));
    let tag = Signer::stripe().tag(&content);
    assert_eq!(signature, format!("t={time},v1={tag}"));
    assert_eq!(received.headers.all("stripe-signature").len(), 1);
}

#[test]
fn nothing_is_signed_that_was_not_accepted_and_no_look_alike_survives() {
    let app = App::ok();
    let gate = gate(&app, &format!("provider: github, mode: observe, {ANEW}"));
    let forged = Signer::new("github", 0, &other_secret())
        .event()
        .with("webhook-signature", "v1,c3RyYW5nZXI=")
        .with("webhook-timestamp", "1");
    assert_eq!(gate.send(&forged).status, 200);
    let received = app.only_request();
    assert_eq!(received.header("hookgate-verdict"), Some("observed"));
    assert_eq!(received.header("webhook-signature"), None);
    assert_eq!(received.header("webhook-timestamp"), None);
}

#[test]
fn what_the_sender_writes_and_nobody_signs_stays_as_it_is() {
    let app = App::ok();
    let gate = gate(&app, "provider: stripe, resign: { as: github, secrets: [{ file: DIR/new }] }");
    let event = Signer::stripe().event().with("X-GitHub-Delivery", "of the sender");
    assert_eq!(gate.send(&event).status, 200);
    let received = app.only_request();
    assert_eq!(received.header("x-github-delivery"), Some("of the sender"));
    let tag = Signer::new("github", 0, APP_KEYS[0]).tag(&String::from_utf8_lossy(&received.body));
    assert_eq!(received.headers.all("x-hub-signature-256"), [format!("sha256={tag}")]);
}

#[test]
fn what_cannot_be_signed_is_refused_at_load_with_the_remedy() {
    for (route, says) in [
        ("provider: github, resign: { as: same }", "signs no time"),
        ("provider: stripe, resign: { as: same, secrets: [{ file: DIR/new }] }", "leave these out"),
        (
            "provider: stripe, resign: { as: twilio, secrets: [{ file: DIR/new }] }",
            "the gate cannot sign as twilio",
        ),
        ("provider: stripe, resign: { as: discord, secrets: [{ file: DIR/new }] }", "half that it keeps"),
        ("provider: stripe, resign: { as: nobody, secrets: [{ file: DIR/new }] }", "is no preset"),
        ("provider: stripe, resign: { as: standard-webhooks }", "no secret to sign with"),
        (
            "provider: stripe, resign: { as: standard-webhooks, secrets: [{ file: DIR/away }] }",
            "would not know its events",
        ),
        ("provider: stripe, resign: { as: standard-webhooks, secrets: [{ file: DIR/short }] }", "fewer than"),
    ] {
        let app = App::ok();
        let builder: Builder = Gate::before(&app).config(&format!(
            "routes:\n  - {{ name: one, path: /webhooks, secrets: [{{ id: a, file: DIR/key-1 }}], {route} }}\n"
        ));
        builder.dir().write("new", APP_KEYS[0]);
        builder.dir().write("short", "c2hvcnQ=");
        let run = crate::support::gate::run(&mut builder.command("check"));
        assert_eq!(run.code, Some(78), "{route}: {}", run.out);
        assert!(run.err.contains(says) && run.err.contains("resign."), "{route}: {}", run.err);
    }
}
