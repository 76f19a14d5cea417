//! Secrets of tenants in a hash of the store that gates share.

use std::time::Duration;

use crate::redis_server::Server;
use crate::support::gate::run;
use crate::support::{App, Builder, Gate, Request, Signer, until};

const ROUTES: &str = "
routes:
  - name: github
    path: /hooks/{tenant}
    provider: github
    secrets: { store: \"tenants:github\", cache: 1s, negative: 1s }
";

fn gate(app: &App, redis: &Server) -> Builder {
    Gate::before(app).config(ROUTES).with("replay-store", redis.url()).with("replay-store-prefix", "test:")
}

fn secret(of: &str) -> String {
    format!("the secret of {of}, which nobody else has")
}

fn event(tenant: &str, of: &str) -> Request {
    Signer::new("github", 0, &secret(of)).event().to(&format!("/hooks/{tenant}"))
}

#[test]
fn a_field_of_the_hash_is_the_secret_of_its_tenant() {
    let Some(redis) = Server::start() else { return };
    let app = App::ok();
    let both = format!(
        r#"{{"secrets":[{{"id":"new","secret":"{}"}},{{"id":"old","secret":"{}"}}]}}"#,
        secret("new"),
        secret("old")
    );
    redis.run::<i64>(&[
        "HSET",
        "tenants:github",
        "acme",
        &secret("acme"),
        "globex",
        &both,
        "broken",
        "{oops",
    ]);
    let gate = gate(&app, &redis).start();
    let told = |tenant: &str, of: &str| {
        let answer = gate.send(&event(tenant, of));
        (answer.status, gate.reason(&answer))
    };
    assert_eq!(told("acme", "acme").0, 200);
    assert_eq!(told("globex", "new").0, 200);
    assert_eq!(told("globex", "old").0, 200);
    assert_eq!(app.requests().pop().unwrap().header("Hookgate-Key-Id"), Some("old"));
    for (tenant, of) in [("acme", "globex"), ("globex", "acme"), ("initech", "acme")] {
        assert_eq!(told(tenant, of), (401, "signature_mismatch".to_owned()), "{tenant}");
    }
    assert_eq!(
        told("broken", "acme"),
        (503, "store_unavailable".to_owned()),
        "what cannot be read is not absent"
    );
    redis.run::<i64>(&["HDEL", "tenants:github", "acme"]);
    until("the tenant to go", || gate.send(&event("acme", "acme")).status == 401);
    redis.run::<i64>(&["HSET", "tenants:github", "acme", &secret("acme, newer")]);
    until("the new secret", || gate.send(&event("acme", "acme, newer")).status == 200);
}

#[test]
fn a_hash_that_is_none_is_told_and_leaves_the_store_up() {
    let Some(redis) = Server::start() else { return };
    let app = App::ok();
    redis.run::<String>(&["SET", "tenants:github", "no hash"]);
    let gate = gate(&app, &redis).start();
    for _ in 0..5 {
        assert_eq!(gate.send(&event("acme", "acme")).status, 503);
    }
    gate.log.find("why", |line| {
        line["event.name"] == "hookgate.tenants" && line["body"].as_str().unwrap().contains("WRONGTYPE")
    });
    assert_eq!(gate.ops("/readyz").status, 200, "events are remembered all the same");
}

#[test]
fn known_tenants_go_on_without_the_store_as_far_as_events_can_be_remembered() {
    let Some(mut redis) = Server::start() else { return };
    let app = App::ok();
    redis.run::<i64>(&["HSET", "tenants:github", "acme", &secret("acme")]);
    let gate = gate(&app, &redis).with("on-store-error", "local").start();
    assert_eq!(gate.send(&event("acme", "acme")).status, 200);
    redis.kill();
    std::thread::sleep(Duration::from_millis(2100)); // older than the cache
    for _ in 0..5 {
        assert_eq!(gate.send(&event("acme", "acme")).status, 200);
        assert_eq!(gate.send(&event("globex", "globex")).status, 503);
    }
}

/// What `hookgate check` prints, which is not to refuse the configuration for what it finds there.
fn checked(gate: &Builder) -> String {
    let told = run(&mut gate.command("check"));
    assert_eq!(told.code, Some(0), "{}", told.err);
    told.out
}

#[test]
fn check_counts_the_tenants_of_a_hash_and_names_those_whose_secrets_cannot_be_used() {
    let Some(mut redis) = Server::start() else { return };
    let app = App::ok();
    let gate = gate(&app, &redis);
    let none = checked(&gate);
    assert!(none.contains("route github: 0 tenants in the store's hash tenants:github"), "{none}");
    // More than come in one part.
    for n in 0..2500 {
        let name = format!("tenant{n:04}");
        redis.run::<i64>(&["HSET", "tenants:github", &name, &secret(&name)]);
    }
    for (name, value) in [
        ("globex", "short"),
        ("bad name", "a secret that is long enough"),
        ("..data", "a secret that is long enough"),
        ("broken", "{oops"),
        ("empty", ""),
        ("twin", &*secret("tenant0007")),
    ] {
        redis.run::<i64>(&["HSET", "tenants:github", name, value]);
    }
    let told = checked(&gate);
    for says in [
        "route github: 2502 tenants in the store's hash tenants:github (globex, tenant0000, tenant0001, …)",
        "globex: the secret globex cannot be used: the key has 5 bytes",
        "\"bad name\" can be no tenant",
        "\"..data\" can be no tenant",
        "broken in tenants:github: what it answers is not",
        "empty is empty",
        "tenant0007 and twin share a secret",
    ] {
        assert!(told.contains(says), "{says}: {told}");
    }
    assert!(!told.contains("nobody else has") && !told.contains("oops"), "no secret is told: {told}");
    redis.run::<i64>(&["DEL", "tenants:github"]);
    redis.run::<String>(&["SET", "tenants:github", "no hash"]);
    let told = checked(&gate);
    assert!(told.contains("tenants cannot be looked up from here: the store: WRONGTYPE"), "{told}");
    redis.kill();
    let told = checked(&gate);
    assert!(told.contains("tenants cannot be looked up from here: the store does not answer: "), "{told}");
}
