//! A route that tenants share, with an inbox: whose events they are while they are stored, and with whose keys
//! they are signed when they are delivered.

use std::fs::{create_dir_all, remove_file, write};
use std::os::unix::fs::symlink;
use std::time::Duration;

use serde_json::Value;

use crate::support::app::Received;
use crate::support::gate::{Run, hookgate, run};
use crate::support::sender::now_ms;
use crate::support::{App, Builder, Dir, Gate, Request, Signer, until};

const TENANTS: [&str; 2] = ["acme", "globex"];

fn secret(tenant: &str) -> String {
    format!("whsec_the secret of {tenant}, which nobody else has")
}

/// A gate with both tenants, and with these settings of the route.
fn gate(app: &App, state: &Dir, provider: &str, route: &str) -> Builder {
    let at = state.path().display();
    let builder = Gate::before(app)
        .config(&format!(
            "
state_dir: {at}/state
routes:
  - name: shared
    path: /hooks/{{tenant}}
    provider: {provider}
    secrets: {{ dir: {at}/tenants, cache: 1s, negative: 1s }}
    inbox: {{ on: failure, retry: {{ first: 50ms, max: 200ms }} }}
    {route}
"
        ))
        .with("control-socket", state.join("control").display());
    create_dir_all(state.join("tenants")).unwrap();
    for tenant in TENANTS {
        write(state.join("tenants").join(tenant), secret(tenant)).unwrap();
    }
    builder
}

fn inbox(state: &Dir, args: &[&str]) -> Run {
    let socket = format!("--control-socket={}", state.join("control").display());
    run(hookgate(&["inbox"]).args(args).arg(socket))
}

fn listed(state: &Dir, args: &[&str]) -> Vec<Value> {
    let run = inbox(state, &[&["list", "-o", "json"], args].concat());
    assert_eq!(run.code, Some(0), "{}", run.err);
    run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The same body and the same delivery id for each tenant, signed with its own secret.
fn same_event() -> [Request; 2] {
    TENANTS.map(|tenant| {
        let signer = Signer::new("github", 0, &secret(tenant));
        let body = br#"{"action":"opened","id":7}"#;
        signer.sign_at(now_ms(), "one-id-for-both", body).to(&format!("/hooks/{tenant}"))
    })
}

#[test]
fn the_same_event_of_two_tenants_is_stored_as_two_and_an_operator_tells_them_apart() {
    let (state, mut app) = (Dir::new(), App::ok());
    let gate = gate(&app, &state, "github", "").start();
    app.stop();
    let events = same_event();
    for event in &events {
        assert_eq!(gate.send(event).status, 202);
        assert_eq!(gate.send(event).said(), (200, "Already processed".to_owned()), "it is stored");
    }
    let foreign = events[0].clone().to("/hooks/globex");
    assert_eq!(gate.send(&foreign).status, 401, "what acme signed is not globex's");
    let mut stored = listed(&state, &[]);
    stored.sort_by_key(|record| record["tenant"].to_string());
    assert_eq!(stored.iter().map(|record| &record["tenant"]).collect::<Vec<_>>(), ["acme", "globex"]);
    assert_ne!(stored[0]["key"], stored[1]["key"]);
    for tenant in TENANTS {
        let records = listed(&state, &["--tenant", tenant]);
        assert_eq!(records.iter().map(|record| &record["tenant"]).collect::<Vec<_>>(), [tenant]);
    }
    assert!(listed(&state, &["--tenant", "initech"]).is_empty());
    let text = inbox(&state, &["list"]).out;
    assert!(text.contains("of acme") && text.contains("of globex"), "{text}");
    let shown = inbox(&state, &["show", "--tenant", "globex"]);
    assert!(shown.out.contains("Hookgate-Tenant: globex"), "{} {}", shown.out, shown.err);

    let dropped = inbox(&state, &["drop", "--tenant", "acme"]);
    assert_eq!((dropped.code, dropped.out.trim()), (Some(0), "1 event is dropped"), "{}", dropped.err);
    let order = gate.log.find("the order", |line| line["event.name"] == "hookgate.inbox.order");
    assert_eq!(order["hookgate.inbox.selection"], "tenant acme");
    assert_eq!(
        gate.send(&events[1]).said(),
        (200, "Already processed".to_owned()),
        "globex's is still there"
    );
    assert_eq!(gate.send(&events[0]).status, 202, "acme's was dropped, so it is stored again");

    app.start();
    app.wait_for(2);
    let late = app.requests();
    let mut whose: Vec<_> = late.iter().map(|late| late.header("Hookgate-Tenant").unwrap()).collect();
    whose.sort_unstable();
    assert_eq!(whose, TENANTS);
    let [a, b] = [0, 1].map(|n: usize| late[n].header("Hookgate-Idempotency-Key").unwrap().to_owned());
    assert_ne!(a, b, "an application that goes by the key does both");
    assert_eq!(app.seen(), 2);
}

/// Whether the event is signed now, with the secret of its tenant and of nobody else.
fn signed_anew(received: &Received) {
    let tenant = received.header("Hookgate-Tenant").unwrap();
    let signature = received.header("Stripe-Signature").unwrap();
    let time = signature.strip_prefix("t=").and_then(|rest| rest.split(',').next()).unwrap();
    assert!((now_ms() / 1000 - time.parse::<i64>().unwrap()).abs() < 60, "{signature}");
    let content = format!("{time}.{}", String::from_utf8_lossy(&received.body));
    let tag = Signer::new("stripe", 0, &secret(tenant)).tag(&content);
    assert_eq!(signature, format!("t={time},v1={tag}"), "{tenant}");
}

#[test]
fn an_event_is_signed_anew_with_the_secret_of_its_own_tenant_at_once_and_late() {
    let (state, mut app) = (Dir::new(), App::ok());
    let gate = gate(&app, &state, "stripe", "tolerance: 3h\n    resign: { as: same }").start();
    let old = |tenant: &str| {
        let event = Signer::new("stripe", 0, &secret(tenant)).event_at(now_ms() - 7_200_000);
        event.to(&format!("/hooks/{tenant}"))
    };
    for tenant in TENANTS {
        assert_eq!(gate.send(&old(tenant)).status, 200);
    }
    app.stop();
    for tenant in TENANTS {
        assert_eq!(gate.send(&old(tenant)).status, 202);
    }
    app.start();
    app.wait_for(4);
    app.requests().iter().for_each(signed_anew);
}

#[test]
fn what_cannot_be_signed_anew_yet_waits_and_is_not_given_to_the_application_as_it_was() {
    let (state, mut app) = (Dir::new(), App::ok());
    let route = "tolerance: 3h\n    resign: { as: same }";
    let start = |app: &App| gate(app, &state, "stripe", route);
    let gate = start(&app).start();
    app.stop();
    let event = Signer::new("stripe", 0, &secret("acme")).event_at(now_ms() - 7_200_000).to("/hooks/acme");
    assert_eq!(gate.send(&event).status, 202);
    drop(gate);
    // After a restart nothing is remembered, and what is there cannot be read.
    let again = start(&app);
    let file = state.join("tenants").join("acme");
    remove_file(&file).unwrap();
    symlink("/etc/hostname", &file).unwrap();
    app.start();
    let gate = again.start();
    until("attempts without keys", || {
        listed(&state, &[]).first().is_some_and(|record| record["last_outcome"] == "no keys")
    });
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(app.seen(), 0, "its signature is two hours old");
    remove_file(&file).unwrap();
    write(&file, secret("acme")).unwrap();
    app.wait_for(1);
    signed_anew(&app.requests()[0]);
    drop(gate);
}
