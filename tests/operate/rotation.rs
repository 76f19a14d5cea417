//! Rotation: a key ceases to be valid when the configuration says so and not before, and
//! operators can see which keys are in use.

use hookgate::clock::to_rfc3339;

use crate::support::gate::{run, same};
use crate::support::sender::{SECRET, now_ms, other_secret};
use crate::support::{self, App, Builder, Gate, Signer, until};

/// A newer key without an end, and the usual one that ends at that moment.
fn before(app: &App, provider: &str, not_after: &str) -> Builder {
    let builder = Gate::before(app);
    builder.dir().write("key-0", other_secret());
    builder.config(&config(provider, not_after))
}

fn config(provider: &str, not_after: &str) -> String {
    format!(
        "
routes:
  - name: a
    path: /webhooks
    provider: {provider}
    secrets:
      - {{ id: new, file: DIR/key-0 }}
      - {{ id: old, file: DIR/key-1, not_after: {not_after} }}
"
    )
}

fn old(gate: &Gate) -> support::Response {
    gate.send(&Signer::github().event())
}

fn new(gate: &Gate) -> support::Response {
    gate.send(&Signer::new("github", 0, &other_secret()).event())
}

#[test]
fn a_key_that_has_ended_is_as_good_as_absent() {
    let app = App::ok();
    let gate = before(&app, "github", "2026-01-31").start();
    assert_eq!(new(&gate).status, 200);
    let refused = old(&gate);
    assert_eq!(refused.said(), (401, "Unauthorized".to_owned()));
    let id = refused.header("Hookgate-Request-Id").unwrap();
    let line = gate.log.find("the decision", |line| {
        line["event.name"] == "hookgate.decision" && line["hookgate.request_id"] == id
    });
    assert_eq!(line["hookgate.reason"], "signature_mismatch");
    assert!(line["hookgate.key_id"].is_null());
    let hint = gate.log.find("the hint", |line| line["event.name"] == "hookgate.hints");
    assert!(
        hint["hookgate.hints"].as_str().unwrap().contains("secret old: signed it, but its not_after"),
        "{hint}"
    );
    gate.log.find("the notice", |line| {
        line["severity_text"] == "WARN"
            && line["body"].as_str().is_some_and(|b| b.contains("the secret old has passed"))
    });
    let metrics = gate.metrics();
    let series = |name: &str, key: &str| format!("hookgate_key_{name}{{key_id=\"{key}\",route=\"a\"}}");
    assert!(same(metrics.value(&series("matches_total", "old")), 0.0));
    assert!(same(metrics.value(&series("last_match_timestamp_seconds", "old")), 0.0));
    assert!(same(metrics.value(&series("matches_total", "new")), 1.0));
    assert!(metrics.value(&series("last_match_timestamp_seconds", "new")) > 1_767_225_600.0);
    assert!((metrics.value(&series("not_after_timestamp_seconds", "old")) - 1_769_903_999.999).abs() < 0.001);
    assert_eq!(app.seen(), 1);
}

/// Stripe signs with both keys while they rotate.
#[test]
fn a_delivery_under_both_keys_is_taken_under_the_one_that_is_left() {
    let app = App::ok();
    let gate = before(&app, "stripe", "2026-01-31").start();
    let (time, body) = (now_ms(), b"{\"id\":\"evt_1\"}");
    let signed = |secret: &str| {
        let request = Signer::new("stripe", 0, secret).sign_at(time, "x", body);
        let header = request.headers.get("stripe-signature").unwrap().to_owned();
        (request, header)
    };
    let ((request, old), (_, new)) = (signed(SECRET), signed(&other_secret()));
    let both = format!("{old},{}", new.split_once(',').unwrap().1);
    let answer = gate.send(&request.without("stripe-signature").with("stripe-signature", &both));
    assert_eq!(answer.status, 200);
    assert_eq!(gate.decision(&answer)["hookgate.key_id"], "new");
}

#[test]
fn a_key_ends_while_the_gate_runs() {
    let app = App::ok();
    let end = to_rfc3339(now_ms() + 1500);
    let gate = before(&app, "github", &end).start();
    until("the end of the key", || old(&gate).status == 401);
    assert!(now_ms() > chrono_ms(&end), "it was good until then");
    assert_eq!(new(&gate).status, 200);
}

fn chrono_ms(text: &str) -> i64 {
    hookgate::gate::scheme::timestamp::TimeUnit::Rfc3339.parse(text.as_bytes()).unwrap()
}

#[test]
fn a_reload_can_give_a_key_more_time_and_forgets_no_match() {
    let app = App::ok();
    let gate = before(&app, "github", "2026-01-31").start();
    assert_eq!((new(&gate).status, old(&gate).status), (200, 401));
    let matched = |gate: &Gate| {
        gate.metrics().value("hookgate_key_last_match_timestamp_seconds{key_id=\"new\",route=\"a\"}")
    };
    let before = matched(&gate);
    let longer = config("github", "2999-01-31").replace("DIR", gate.dir.path().to_str().unwrap());
    gate.dir.write("hookgate.yaml", longer);
    gate.signal("HUP");
    until("more time", || old(&gate).status == 200);
    assert!(same(matched(&gate), before), "what was seen stays known");
}

#[test]
fn a_gate_whose_keys_have_all_ended_runs_refuses_and_says_so() {
    let app = App::ok();
    let config = "
routes:
  - { name: a, path: /webhooks, provider: github, secrets: [{ id: old, file: DIR/key-1, not_after: 2026-01-31 }] }
  - { name: b, path: /other, provider: github, secrets: [{ id: b, file: DIR/key-1 }] }
";
    let gate = Gate::before(&app).config(config).start();
    assert_eq!(old(&gate).status, 401);
    app.assert_untouched("no key is left");
    gate.log.find("the notice", |line| {
        line["body"]
            .as_str()
            .is_some_and(|body| body.contains("route a: every secret has passed its not_after"))
    });
    assert_eq!(gate.send(&Signer::github().event().to("/other")).status, 200, "another route is not touched");
}

#[test]
fn check_warns_of_what_ends_within_a_week() {
    let app = App::ok();
    for (days, said) in [(-1, "has passed its not_after"), (0, "within a day"), (3, "in 3 days"), (8, "")] {
        let end = to_rfc3339(now_ms() + days * 86_400_000 + 3_600_000);
        let checked = run(&mut before(&app, "github", &end).command("check"));
        assert_eq!(checked.code, Some(0), "{}", checked.err);
        let notes: Vec<_> = checked.out.lines().filter(|line| line.contains("the secret old")).collect();
        assert_eq!(notes.len(), usize::from(!said.is_empty()), "{}", checked.out);
        assert!(notes.iter().all(|note| note.contains(said)), "{notes:?}");
        assert!(checked.out.contains(&format!("until {end}")), "{}", checked.out);
    }
}

#[test]
fn a_handshake_is_signed_with_no_key_that_has_ended() {
    let app = App::ok();
    let config = "
routes:
  - { name: a, path: /webhooks, provider: x-twitter, secrets: [{ id: old, file: DIR/key-1, not_after: 2026-01-31 }] }
";
    let gate = Gate::before(&app).config(config).start();
    let mut sender = gate.connect();
    sender.send("GET /webhooks?crc_token=abc HTTP/1.1\r\nHost: h\r\n\r\n");
    let answer = sender.response();
    assert_eq!((answer.status, gate.reason(&answer)), (403, "handshake_refused".to_owned()));
}
