//! `hookgate forget`: an operator lets an event be delivered again, through a socket that only
//! the gate's user can open.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::redis_server::Server;
use crate::support::gate::{Builder, Run, hookgate, run};
use crate::support::{Answer, App, Dir, Gate, Latch, Signer, until};

const ROUTES: &str = "
routes:
  - { name: pay, path: /pay, provider: standard-webhooks, secrets: [{ id: a, file: DIR/key-1 }] }
  - { name: code, path: /code, provider: github, secrets: [{ id: a, file: DIR/key-1 }] }
";

fn socket(folder: &Dir) -> PathBuf {
    folder.join("control")
}

fn controlled(app: &App, folder: &Dir) -> Builder {
    Gate::before(app).config(ROUTES).with("control-socket", socket(folder).display())
}

fn forget(folder: &Dir, flags: &[&str]) -> Run {
    let socket = format!("--control-socket={}", socket(folder).display());
    run(hookgate(&["forget", &socket]).args(flags))
}

/// One conversation without the command.
fn ask(path: &Path, line: &str) -> Value {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(line.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with('\n'), "{answer:?} is one line");
    serde_json::from_str(&answer).unwrap()
}

#[test]
fn an_event_that_is_forgotten_is_delivered_again() {
    let folder = Dir::new();
    let app = App::ok();
    let gate = controlled(&app, &folder).with("replay-file", folder.join("replay").display()).start();
    let mode = fs::metadata(socket(&folder)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for the gate's user only");

    let signer = Signer::standard_webhooks();
    let (event, other) = (signer.event().to("/pay"), signer.event().to("/pay"));
    let id = event.headers.get("webhook-id").unwrap().to_owned();
    for event in [&event, &other] {
        assert_eq!(gate.send(event).said(), (200, "app".to_owned()));
        assert_eq!(gate.send(event).text(), "Already processed");
    }
    let forgotten = forget(&folder, &["--event", &id, "--route", "pay"]);
    assert_eq!(forgotten.code, Some(0), "{}", forgotten.err);
    assert!(forgotten.out.starts_with("forgotten"), "{}", forgotten.out);
    let audit = gate.log.find("the audit line", |line| line["event.name"] == "hookgate.forget");
    assert_eq!(
        [&audit["hookgate.route"], &audit["hookgate.event.id"], &audit["hookgate.forget.outcome"]],
        ["pay", id.as_str(), "forgotten"]
    );
    assert!(audit["user.id"].is_u64(), "{audit}");

    // It stays forgotten over a restart, and only this one is.
    gate.signal("TERM");
    assert_eq!(gate.ended().code(), Some(0));
    let gate = controlled(&app, &folder).with("replay-file", folder.join("replay").display()).start();
    assert_eq!(gate.send(&event).said(), (200, "app".to_owned()));
    assert_eq!(gate.send(&event).text(), "Already processed", "once, not for ever");
    assert_eq!(gate.send(&other).text(), "Already processed");
    assert_eq!(app.seen(), 3);
}

#[test]
fn an_event_without_a_signed_id_is_named_by_its_key() {
    let folder = Dir::new();
    let app = App::ok();
    let gate = controlled(&app, &folder).start();
    let event = Signer::github().event().to("/code");
    assert_eq!(gate.send(&event).status, 200);
    let key = app.only_request().header("Hookgate-Idempotency-Key").unwrap().to_owned();

    let refused = forget(&folder, &["--event", "evt_1", "--route", "code"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("name the event by --key"), "{}", refused.err);
    assert_eq!(gate.send(&event).text(), "Already processed");
    assert_eq!(forget(&folder, &["--key", &key.to_uppercase()]).code, Some(0));
    let audit = gate.log.find("the audit line", |line| line["hookgate.forget.outcome"] == "forgotten");
    assert_eq!(audit["hookgate.event.key"], key.as_str());
    assert_eq!(gate.send(&event).text(), "app");
}

#[test]
fn what_is_not_there_or_under_way_is_said_to_be() {
    let folder = Dir::new();
    let latch = Latch::default();
    let app = App::always(Answer::ok().when(&latch));
    let gate = controlled(&app, &folder).start();
    let unknown = forget(&folder, &["--event", "evt_unknown", "--route", "pay"]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("does not remember such an event"), "{}", unknown.err);

    let elsewhere = forget(&folder, &["--event", "evt_1", "--route", "nowhere"]);
    assert_eq!(elsewhere.code, Some(1));
    assert!(elsewhere.err.contains("the routes are: pay, code"), "{}", elsewhere.err);

    let event = Signer::standard_webhooks().event().to("/pay");
    let id = event.headers.get("webhook-id").unwrap().to_owned();
    let mut sender = gate.connect();
    sender.send(event.bytes());
    app.wait_for(1);
    let held = forget(&folder, &["--event", &id, "--route", "pay"]);
    assert_eq!(held.code, Some(1));
    assert!(held.err.contains("is being delivered at this moment"), "{}", held.err);
    latch.open();
    assert_eq!(sender.response().status, 200);
    assert_eq!(gate.send(&event).text(), "Already processed", "the delivery was not disturbed");
    for outcome in ["not_found", "refused", "held"] {
        gate.log.find(outcome, |line| line["hookgate.forget.outcome"] == outcome);
    }
}

#[test]
fn bad_flags_and_no_gate_are_told_apart() {
    let folder = Dir::new();
    for flags in [
        &["--event", "evt_1"][..],
        &["--route", "pay"],
        &[],
        &["--key", "no hex"],
        &["--key", "00000000000000000000000000000000", "--event", "evt_1", "--route", "pay"],
    ] {
        assert_eq!(forget(&folder, flags).code, Some(2), "{flags:?}");
    }
    let nobody = forget(&folder, &["--event", "evt_1", "--route", "pay"]);
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.err.contains("no gate answers on"), "{}", nobody.err);
}

#[test]
fn the_socket_takes_no_nonsense_and_survives_it() {
    let folder = Dir::new();
    let app = App::ok();
    let gate = controlled(&app, &folder).start();
    let path = socket(&folder);
    let long = "x".repeat(10_000);
    for line in ["\n", "{}\n", "no json\n", "{\"forget\":{}}\n", "{\"forget\":{\"key\":\"00\",\"x\":1}}\n"] {
        assert_eq!(ask(&path, line)["outcome"], "refused", "{line}");
    }
    assert_eq!(ask(&path, "{\"forget\":{\"key\":\"00\"}}\n")["message"], "a key is 32 hex digits");
    let event = json!({ "forget": { "route": "pay", "event": "\u{1b}[31m" } });
    assert_eq!(ask(&path, &format!("{event}\n"))["outcome"], "refused");
    let mut endless = UnixStream::connect(&path).unwrap();
    _ = endless.write_all(long.as_bytes());
    let mut silent: Vec<_> = (0..20).map(|_| UnixStream::connect(&path)).collect();
    silent.clear();
    let unknown = json!({ "forget": { "route": "pay", "event": "evt_1" } });
    assert_eq!(ask(&path, &format!("{unknown}\n")), json!({ "outcome": "not_found" }));
    assert_eq!(gate.ops("/readyz").status, 200);
}

#[test]
fn a_socket_that_was_left_behind_makes_room_and_others_do_not() {
    let folder = Dir::new();
    let path = socket(&folder);
    let app = App::ok();
    let gate = controlled(&app, &folder).start();
    let second = run(&mut controlled(&app, &folder).command("run"));
    assert_eq!(second.code, Some(1));
    assert!(second.err.contains("another process has it"), "{}", second.err);
    gate.signal("KILL");
    gate.ended();
    assert!(path.exists(), "a killed gate leaves it");

    let gate = controlled(&app, &folder).start();
    assert_eq!(forget(&folder, &["--event", "evt_1", "--route", "pay"]).code, Some(1));
    gate.signal("TERM");
    gate.ended();
    until("the socket to go with its gate", || !path.exists());

    fs::write(&path, "a file").unwrap();
    let refused = run(&mut controlled(&app, &folder).command("run"));
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("something else is there"), "{}", refused.err);
    fs::remove_file(&path).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    drop(controlled(&app, &folder).start());
}

#[test]
fn what_gates_share_is_forgotten_by_all_of_them() {
    let Some(mut server) = Server::start() else { return };
    let folder = Dir::new();
    let app = App::ok();
    let sharing = |builder: Builder| {
        builder
            .with("replay-store", server.url())
            .with("replay-store-prefix", "shop:")
            .with("replay-store-timeout", "2s")
            .start()
    };
    let first = sharing(controlled(&app, &folder));
    let second = sharing(Gate::before(&app).config(ROUTES));
    let event = Signer::standard_webhooks().event().to("/pay");
    let id = event.headers.get("webhook-id").unwrap().to_owned();
    let flags = ["--event", &id, "--route", "pay"];
    assert_eq!(second.send(&event).text(), "app");
    assert_eq!(first.send(&event).text(), "Already processed");
    assert_eq!(forget(&folder, &flags).code, Some(0));
    assert_eq!(forget(&folder, &flags).code, Some(1), "it is forgotten already");
    assert_eq!(second.send(&event).text(), "app");
    assert_eq!(first.send(&event).text(), "Already processed");

    server.kill();
    let nobody = forget(&folder, &flags);
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.err.contains("the replay store does not answer"), "{}", nobody.err);
}
