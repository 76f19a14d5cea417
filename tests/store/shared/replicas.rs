//! What gates with one store do together: one delivery, one truth, one limit.

use std::thread;

use super::{PREFIX, delivered, duplicate, key_of_event, with_store};
use crate::redis_server::Server;
use crate::support::sender::other_secret;
use crate::support::{Answer, App, Gate, Latch, Request, Response, Signer, until};

const GATES: usize = 4;
const COPIES: usize = 64;

#[test]
fn of_64_copies_over_4_gates_one_is_delivered_and_every_sender_is_told_so() {
    let Some(server) = Server::start() else { return };
    let latch = Latch::default();
    let app = App::always(Answer::ok().when(&latch));
    let answers = race(&server, &app, &latch);
    assert_eq!(app.seen(), 1, "one delivery");
    let said: Vec<_> = answers.iter().map(Response::said).collect();
    assert_eq!(said.iter().filter(|said| **said == delivered()).count(), 1, "{said:?}");
    assert_eq!(said.iter().filter(|said| **said == duplicate()).count(), COPIES - 1, "{said:?}");
}

#[test]
fn when_the_delivery_fails_every_sender_is_told_its_status() {
    let Some(server) = Server::start() else { return };
    for (answer, status) in [(Answer::status(422), 422), (Answer::reset(), 502)] {
        let latch = Latch::default();
        let app = App::always(answer.when(&latch));
        let answers = race(&server, &app, &latch);
        assert_eq!(app.seen(), 1, "one delivery");
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [status; COPIES]);
    }
}

/// Sends copies of one event over all gates at once, and lets the application answer when all of
/// them are under way.
fn race(server: &Server, app: &App, latch: &Latch) -> Vec<Response> {
    let gates: Vec<_> = (0..GATES).map(|_| with_store(app, server).start()).collect();
    let event = Signer::github().event();
    thread::scope(|scope| {
        let senders: Vec<_> = (0..COPIES)
            .map(|n| {
                scope.spawn({
                    let (gate, event) = (&gates[n % GATES], &event);
                    move || gate.send(event)
                })
            })
            .collect();
        until("all copies to be under way", || {
            let in_flight: f64 = gates.iter().map(|g| g.metrics().value("hookgate_requests_in_flight")).sum();
            in_flight > 64.5 // each request, and the delivery
        });
        latch.open();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    })
}

#[test]
fn an_event_is_a_duplicate_at_every_gate_of_its_application_and_at_no_other() {
    let Some(server) = Server::start() else { return };
    let (app, other_app) = (App::ok(), App::ok());
    let gates = [with_store(&app, &server).start(), with_store(&app, &server).start()];
    let other = with_store(&other_app, &server).start();
    let apart = with_store(&app, &server).with("replay-store-prefix", "other:").start();
    let event = Signer::github().event();
    assert_eq!(gates[0].send(&event).said(), delivered());
    for gate in &gates {
        assert_eq!(gate.send(&event).said(), duplicate());
    }
    assert_eq!(other.send(&event).said(), delivered(), "its application listens elsewhere");
    assert_eq!(apart.send(&event).said(), delivered(), "its prefix is another");
    assert_eq!((app.seen(), other_app.seen()), (2, 1));
}

/// Else a rollout or a rotation would forget what was delivered.
#[test]
fn another_secret_and_another_path_leave_the_memory_as_it_is() {
    let Some(server) = Server::start() else { return };
    let app = App::ok();
    let event = Signer::github().event();
    assert_eq!(with_store(&app, &server).start().send(&event).said(), delivered());
    let rotated = with_store(&app, &server);
    let newer = rotated.dir().write("key-2", other_secret());
    let older = rotated.dir().join("key-1");
    let rotated = rotated
        .with("secret-file", newer.display())
        .and("secret-file", older.display())
        .with("path", "/hooks/*")
        .with("tolerance", "10m")
        .start();
    assert_eq!(rotated.send(&event.to("/hooks/moved")).said(), duplicate());
}

#[test]
fn what_a_store_holds_says_nothing_of_events_and_expires() {
    let Some(server) = Server::start() else { return };
    let app = App::ok();
    let gate = with_store(&app, &server).with("replay-window", "1h").start();
    gate.send(&Signer::github().event());
    let keys = server.run::<Vec<String>>(&["KEYS", "*"]);
    assert!(keys.iter().all(|key| key.starts_with(PREFIX)), "{keys:?}");
    let key = &*key_of_event(&app);
    assert_eq!(server.run::<String>(&["GET", key]), "d");
    let left = server.run::<u64>(&["TTL", key]);
    assert!((3500..=3600).contains(&left), "{left} s of an hour");
}

#[test]
fn a_store_keeps_each_event_for_the_window_of_its_route() {
    const ROUTES: &str = "
routes:
  - { name: quick, path: /quick, provider: github, secrets: [{ file: DIR/key-1 }], replay: { window: 5m } }
  - { name: slow, path: /slow, provider: github, secrets: [{ file: DIR/key-1 }], replay: { window: 90d } }
  - { name: usual, path: /usual, provider: github, secrets: [{ file: DIR/key-1 }] }
";
    let Some(server) = Server::start() else { return };
    let app = App::ok();
    let gate = with_store(&app, &server).config(ROUTES).with("replay-window", "1h").start();
    for path in ["/quick", "/slow", "/usual"] {
        assert_eq!(gate.send(&Signer::github().event().to(path)).status, 200);
    }
    let mut kept: Vec<u64> =
        server.run::<Vec<String>>(&["KEYS", "*"]).iter().map(|key| server.run(&["TTL", key])).collect();
    kept.sort_unstable();
    for (left, window) in kept.iter().zip([300, 3600, 90 * 86_400]) {
        assert!((window - 100..=window).contains(left), "{kept:?}");
    }
    assert_eq!(kept.len(), 3);
}

const SHARED: &str = "
routes:
  - name: shared
    path: /shared
    provider: github
    secrets: [{ file: DIR/key-1 }]
    rate_limit: { limit: 5/1h, shared: true }
  - name: own
    path: /own
    provider: github
    secrets: [{ file: DIR/key-1 }]
    rate_limit: 5/1h
  - name: watching
    path: /watching
    provider: github
    secrets: [{ file: DIR/key-1 }]
    rate_limit: { limit: 5/1h, shared: true }
    mode: observe
  - name: stored
    path: /stored
    provider: github
    secrets: [{ file: DIR/key-1 }]
    rate_limit: { limit: 5/1h, shared: true }
    inbox: { on: failure }
";

fn limited(app: &App, server: &Server) -> Gate {
    with_store(app, server).config(SHARED).without("rate-limit").with("on-store-error", "local").start()
}

#[test]
fn a_shared_limit_counts_what_all_gates_let_through() {
    let Some(server) = Server::start() else { return };
    let app = App::ok();
    let gates = [limited(&app, &server), limited(&app, &server)];
    let send = |n: usize, path: &str| gates[n % 2].send(&Signer::github().event().to(path));
    for n in 0..5 {
        assert_eq!(send(n, "/shared").said(), delivered(), "{n}");
    }
    for gate in &gates {
        let refused = gate.send(&Signer::github().event().to("/shared"));
        assert_eq!(refused.status, 429, "it has let through three at most by itself");
        let wait: u64 = refused.header("Retry-After").unwrap().parse().unwrap();
        assert!((1..=720).contains(&wait), "one more every twelve minutes, not in {wait} s");
        assert_eq!(gate.reason(&refused), "rate_limited");
    }
    for n in 0..10 {
        assert_eq!(send(n, "/own").said(), delivered(), "five at each gate");
    }
    for n in 0..6 {
        assert_eq!(send(n, "/watching").said(), delivered(), "an observing route only says so");
    }
    let observed =
        gates[1].metrics().sum("hookgate_requests_total", &[("route", "watching"), ("verdict", "observed")]);
    assert!((observed - 1.0).abs() < f64::EPSILON, "the sixth");
}

#[test]
fn over_a_shared_limit_what_is_proved_is_stored_where_there_is_an_inbox_and_the_rest_is_refused() {
    let Some(server) = Server::start() else { return };
    let app = App::ok();
    let gates = [limited(&app, &server), limited(&app, &server)];
    let send = |n: usize, request: Request| gates[n % 2].send(&request.to("/stored"));
    for n in 0..5 {
        assert_eq!(send(n, Signer::github().event()).status, 200, "{n}");
    }
    for (n, gate) in gates.iter().enumerate() {
        assert_eq!(
            send(n, Signer::github().event()).status,
            202,
            "it has let through three at most by itself"
        );
        let refused = send(n, Signer::github().event().tampered());
        assert_eq!((refused.status, &*gate.reason(&refused)), (429, "rate_limited"));
        assert!(refused.header("Retry-After").is_some());
    }
    assert_eq!(app.seen(), 5);
}

#[test]
fn without_its_store_each_gate_limits_by_itself() {
    let Some(mut server) = Server::start() else { return };
    let app = App::ok();
    let gate = limited(&app, &server);
    server.kill();
    for n in 0..5 {
        assert_eq!(gate.send(&Signer::github().event().to("/shared")).said(), delivered(), "{n}");
    }
    assert_eq!(gate.send(&Signer::github().event().to("/shared")).status, 429);
}
