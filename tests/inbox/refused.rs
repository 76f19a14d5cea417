//! `hookgate refused`: what a gate keeps of what it refuses, and what an operator makes of it.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::redis_server::Server;
use crate::support::gate::{Run, hookgate, run, same};
use crate::support::sender::{SECRET, other_secret};
use crate::support::{Answer, App, Builder, Dir, Gate, Request, Response, Sender, Signer, until};

/// A gate with one key, which is not that of [`early`]'s sender, and a shelf.
fn before(app: &App, state: &Dir, shelf: &str, route: &str) -> Builder {
    let builder = Gate::before(app).with("control-socket", state.join("control").display());
    builder.dir().write("key-0", other_secret());
    builder.config(&config(state, shelf, "", route))
}

fn config(state: &Dir, shelf: &str, secrets: &str, route: &str) -> String {
    format!(
        "
state_dir: {}/state
refused: {shelf}
routes:
  - {{ name: one, path: /webhooks, provider: github, secrets: [{{ file: DIR/key-0 }}{secrets}], {route} }}
",
        state.path().display()
    )
}

/// The key of the sender is there again.
fn add_key(gate: &Gate, state: &Dir, shelf: &str, route: &str) {
    configure(gate, &config(state, shelf, ", { file: DIR/key-1 }", route));
}

fn configure(gate: &Gate, yaml: &str) {
    let reloads = || gate.metrics().sum("hookgate_reloads_total", &[("result", "success")]);
    let before = reloads();
    gate.dir.write("hookgate.yaml", yaml.replace("DIR", gate.dir.path().to_str().unwrap()));
    gate.signal("HUP");
    until("the reload", || reloads() > before + 0.5);
}

/// An event that is signed with a key that the gate does not have.
fn early() -> Request {
    Signer::github().event()
}

fn id_of(response: &Response) -> String {
    response.header("Hookgate-Request-Id").unwrap().to_owned()
}

fn refused(state: &Dir, args: &[&str]) -> Run {
    let socket = format!("--control-socket={}", state.join("control").display());
    let mut command = hookgate(&["refused"]);
    run(command.args(args).arg(socket))
}

fn listed(state: &Dir, args: &[&str]) -> Vec<Value> {
    let run = refused(state, &[&["list", "-o", "json"], args].concat());
    assert_eq!(run.code, Some(0), "{}", run.err);
    run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What each of them comes to, and the exit code.
fn judged(state: &Dir, what: &str, args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let run = refused(state, &[&[what, "-o", "json"], args].concat());
    let lines = run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(run.err.is_empty(), "{}", run.err);
    (run.code, lines)
}

fn only(state: &Dir, what: &str, id: &str) -> (Option<i32>, Value) {
    let (code, mut all) = judged(state, what, &[id]);
    assert_eq!(all.len(), 1);
    (code, all.remove(0))
}

/// What is kept is written behind the answer.
fn wait_for(gate: &Gate, kept: f64) {
    gate.wait_for_metric("hookgate_refused_requests", kept);
}

const SHELF: &str = "{ keep: 20 }";

#[test]
fn a_key_that_was_rotated_too_early_costs_no_event() {
    let (state, app) = (Dir::new(), App::ok());
    let gate = before(&app, &state, SHELF, "").start();
    let event = early().with("X-GitHub-Event", "push").with("Cookie", "a=b");
    let answer = gate.send(&event);
    assert_eq!(answer.said(), (401, "Unauthorized".to_owned()));
    let id = id_of(&answer);
    wait_for(&gate, 1.0);

    let records = listed(&state, &[]);
    let [record] = &*records else { panic!("{records:?}") };
    let mut names: Vec<_> = record.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["bytes", "client", "held", "id", "reason", "received_at", "route", "tenant"]);
    assert_eq!(
        (&record["id"], &record["route"], &record["reason"], &record["held"], &record["client"]),
        (
            &id.as_str().into(),
            &"one".into(),
            &"signature_mismatch".into(),
            &"whole".into(),
            &"127.0.0.1".into()
        )
    );
    for (args, found) in [
        (&["--route", "one"][..], 1),
        (&["--route", "other"], 0),
        (&["--reason", "signature_mismatch"], 1),
        (&["--reason", "timestamp_stale"], 0),
        (&["--since", "1h"], 1),
        (&["--since", "2999-01-01T00:00:00Z"], 0),
    ] {
        assert_eq!(listed(&state, args).len(), found, "{args:?}");
    }
    assert!(refused(&state, &["list"]).out.contains(&id));

    let (code, found) = only(&state, "verify", &id);
    assert_eq!(
        (code, &found["reason"], &found["verdict"]),
        (Some(1), &"signature_mismatch".into(), &"refused".into())
    );
    let (code, found) = only(&state, "deliver", &id);
    assert_eq!(
        (code, &found["reason"]),
        (Some(1), &"signature_mismatch".into()),
        "not while it does not verify"
    );
    app.assert_untouched("nothing verified");
    wait_for(&gate, 1.0);

    add_key(&gate, &state, SHELF, "");
    let (code, found) = only(&state, "verify", &id);
    assert_eq!((code, &found["reason"], &found["key_id"]), (Some(0), &"accepted".into(), &"key-1".into()));
    app.assert_untouched("verify delivers nothing");
    let (code, found) = only(&state, "deliver", &id);
    assert_eq!((code, &found["reason"]), (Some(0), &"accepted".into()), "{found}");

    let delivered = app.only_request();
    assert_eq!(delivered.body, event.body);
    assert_eq!(delivered.header("Hookgate-Verdict"), Some("accepted"));
    assert_eq!(delivered.header("Hookgate-Key-Id"), Some("key-1"));
    assert_eq!(delivered.header("X-GitHub-Event"), Some("push"));
    assert_eq!(delivered.header("X-Hub-Signature-256"), event.headers.get("X-Hub-Signature-256"));
    assert_eq!(delivered.header("Cookie"), None, "what was blanked does not come back");
    let received = record["received_at"].as_str();
    assert_eq!(delivered.header("Hookgate-Received-At"), received);
    assert_eq!(found["key"].as_str(), delivered.header("Hookgate-Idempotency-Key"));
    wait_for(&gate, 0.0);
    assert_eq!(
        gate.send(&event).said(),
        (200, "Already processed".to_owned()),
        "it is an event like any other"
    );
    assert_eq!(refused(&state, &["deliver", &id]).code, Some(1), "it is not there any more");
    assert_eq!(app.seen(), 1);

    let line = gate.log.find("the order", |line| {
        line["event.name"] == "hookgate.refused.order" && line["hookgate.refused.outcome"] == "accepted"
    });
    assert_eq!(
        (&line["hookgate.request_id"], &line["hookgate.key_id"]),
        (&id.as_str().into(), &"key-1".into())
    );
    let metrics = gate.metrics();
    let kept =
        metrics.sum("hookgate_refused_kept_total", &[("route", "one"), ("reason", "signature_mismatch")]);
    assert!(same(kept, 1.0));
    assert!(same(metrics.sum("hookgate_refused_deliveries_total", &[("outcome", "accepted")]), 1.0));
    assert!(same(metrics.requests("accepted"), 0.0), "no sender came");
}

#[test]
fn what_is_kept_is_what_verify_reads() {
    let (state, app) = (Dir::new(), App::ok());
    let gate = before(&app, &state, SHELF, "").start();
    let event = early();
    let mut sender = gate.connect();
    sender.send(event.head("Transfer-Encoding: chunked\r\n"));
    sender.send(event.chunks(7));
    let id = id_of(&sender.response());
    wait_for(&gate, 1.0);
    let raw = refused(&state, &["show", &id, "--raw"]);
    assert_eq!((raw.code, raw.err.as_str()), (Some(0), ""));
    let file = state.write("captured", &raw.out);
    for (key, code) in [("key-0", 1), ("key-1", 0)] {
        let secret = format!("--secret-file={}", gate.dir.join(key).display());
        let mut verify = hookgate(&["verify", file.to_str().unwrap(), "--provider=github", "-o", "json"]);
        let said = run(verify.arg(&secret).stdin(Stdio::null()));
        assert_eq!(said.code, Some(code), "{key}: {}{}", said.out, said.err);
    }
    add_key(&gate, &state, SHELF, "");
    assert_eq!(only(&state, "deliver", &id).1["reason"], "accepted");
    assert_eq!(app.only_request().body, event.body);
}

/// Old requests that somebody has captured are refused whatever keys come: their time is judged as of when they
/// came, and they were stale then.
#[test]
fn what_was_stale_when_it_came_stays_so_and_what_was_fresh_does_not_age() {
    let (state, app) = (Dir::new(), App::ok());
    let yaml = |keys: &str| config(&state, SHELF, keys, "").replace("github", "stripe");
    let gate = before(&app, &state, SHELF, "").config(&yaml("")).start();
    let [old, fresh] = [Duration::from_secs(900), Duration::from_secs(297)].map(|age| {
        let request = Signer::stripe().event_aged(age);
        id_of(&gate.send(&request))
    });
    wait_for(&gate, 2.0);
    configure(&gate, &yaml(", { file: DIR/key-1 }"));
    let known = id_of(&gate.send(&Signer::stripe().event_aged(Duration::from_secs(900))));
    wait_for(&gate, 3.0);
    // By now what was just fresh would be stale.
    std::thread::sleep(Duration::from_millis(4500));
    for (id, reason) in [(&old, "timestamp_stale"), (&known, "timestamp_stale"), (&fresh, "accepted")] {
        assert_eq!(only(&state, "verify", id).1["reason"], reason);
        assert_eq!(only(&state, "deliver", id).1["reason"], reason);
    }
    assert_eq!(app.seen(), 1);
    assert_eq!(listed(&state, &["--reason", "timestamp_stale"]).len(), 1);
    assert_eq!(
        listed(&state, &["--reason", "signature_mismatch"]).len(),
        1,
        "it is still there to be looked at"
    );
}

#[test]
fn a_copy_is_delivered_once_whoever_comes_first() {
    let (state, app) = (Dir::new(), App::ok());
    let gate = before(&app, &state, SHELF, "").start();
    let event = early();
    let ids: Vec<_> = (0..4).map(|_| id_of(&gate.send(&event))).collect();
    wait_for(&gate, 4.0);
    add_key(&gate, &state, SHELF, "");
    // The sender comes again, and so does an operator, several times.
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let orders: Vec<_> = ids.iter().map(|id| scope.spawn(|| only(&state, "deliver", id).1)).collect();
        let live = scope.spawn(|| gate.send(&event).status);
        assert_eq!(live.join().unwrap(), 200);
        orders.into_iter().map(|order| order.join().unwrap()).collect()
    });
    assert_eq!(app.seen(), 1, "{outcomes:?}");
    for id in listed(&state, &[]).iter().map(|record| record["id"].as_str().unwrap()) {
        assert_eq!(only(&state, "deliver", id).1["reason"], "duplicate", "those that met another one");
    }
    assert_eq!((app.seen(), listed(&state, &[]).len()), (1, 0));
}

#[test]
fn an_application_that_is_away_leaves_it_on_the_shelf_or_in_the_inbox() {
    for (route, (verdict, reason), left) in [
        ("", ("failed", "upstream_unreachable"), 1),
        ("inbox: { on: failure, retry: { first: 50ms, max: 100ms } }", ("stored", "stored"), 0),
    ] {
        let (state, mut app) = (Dir::new(), App::ok());
        let gate = before(&app, &state, SHELF, route).start();
        let event = early();
        let id = id_of(&gate.send(&event));
        wait_for(&gate, 1.0);
        add_key(&gate, &state, SHELF, route);
        app.stop();
        let (code, found) = only(&state, "deliver", &id);
        assert_eq!(code, Some(i32::from(left == 1)), "{found}");
        assert_eq!((&found["verdict"], &found["reason"]), (&verdict.into(), &reason.into()), "{found}");
        assert_eq!(listed(&state, &[]).len(), left);
        app.start();
        if left == 1 {
            assert!(found["message"].as_str().unwrap().contains("unreachable"), "{found}");
            assert_eq!(only(&state, "deliver", &id).1["reason"], "accepted", "it was released");
        }
        app.wait_for(1);
        let late = app.only_request();
        assert_eq!((&late.body, late.header("Hookgate-Received-At").is_some()), (&event.body, true));
    }
}

#[test]
fn beyond_the_reach_of_the_memory_an_operator_has_to_say_that_twice_does_no_harm() {
    let (state, app) = (Dir::new(), App::ok());
    let route = "replay: { window: 61s }";
    let gate = before(&app, &state, SHELF, route).start();
    let event = early();
    let id = id_of(&gate.send(&event));
    wait_for(&gate, 1.0);
    drop(gate);
    // An hour passes.
    age(&state, 3600 * 1000);
    let gate = before(&app, &state, SHELF, route).start();
    add_key(&gate, &state, SHELF, route);
    assert_eq!(only(&state, "verify", &id).1["reason"], "accepted");
    let (code, found) = only(&state, "deliver", &id);
    assert_eq!(code, Some(1));
    assert!(found["message"].as_str().unwrap().contains("--may-be-twice"), "{found}");
    app.assert_untouched("nobody said so");
    let (code, told) = judged(&state, "deliver", &["--may-be-twice", &id]);
    assert_eq!((code, &told[0]["reason"]), (Some(0), &"accepted".into()));
    assert_eq!(app.seen(), 1);
}

/// What is kept unsealed has its time beside its head; it is written anew, with its checksum.
fn age(state: &Dir, by_ms: i64) {
    let database = rusqlite::Connection::open(state.join("state/refused.db")).unwrap();
    let (number, bytes): (i64, Vec<u8>) = database
        .query_row("SELECT number, bytes FROM refused", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    let text = String::from_utf8(bytes[4..].to_vec()).unwrap();
    let (facts, rest) = text.split_once('\n').unwrap();
    let mut facts: Value = serde_json::from_str(facts).unwrap();
    let received = facts["received_ms"].as_i64().unwrap() - by_ms;
    facts["received_ms"] = received.into();
    let length = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
    let facts_length = text.len() - rest.len();
    let head_rest = length - facts_length;
    let head = [facts.to_string().as_bytes(), b"\n", &rest.as_bytes()[..head_rest]].concat();
    let mut new = u32::try_from(head.len()).unwrap().to_be_bytes().to_vec();
    new.extend_from_slice(&head);
    new.extend_from_slice(&rest.as_bytes()[head_rest..]);
    database
        .execute(
            "UPDATE refused SET bytes = ?2, checksum = ?3, received_ms = ?4 WHERE number = ?1",
            rusqlite::params![number, new, crc32fast::hash(&new), received],
        )
        .unwrap();
}

#[test]
fn a_flood_pushes_out_itself_and_is_counted() {
    let (state, app) = (Dir::new(), App::ok());
    let gate = before(&app, &state, SHELF, "").start();
    let wanted: Vec<_> = (0..5).map(|_| id_of(&gate.send(&early()))).collect();
    wait_for(&gate, 5.0);
    // Forgeries of one address, and more than its part.
    let flood = |source: &str, number: usize, request: &dyn Fn() -> Request| {
        let mut sender = Sender::connect_from(source, gate.address());
        for _ in 0..number {
            assert_eq!(sender.exchange(&request()).status, 401);
        }
    };
    let forged = || early().tampered();
    for last in 2..12 {
        flood(&format!("127.0.0.{last}"), 40, &forged);
    }
    // What shows nothing at all is refused for another reason.
    flood("127.0.0.50", 10, &|| early().without("X-Hub-Signature-256"));
    let dropped = |cause: &str| {
        gate.metrics().sum("hookgate_refused_dropped_total", &[("route", "one"), ("cause", cause)])
    };
    let kept = || gate.metrics().sum("hookgate_refused_kept_total", &[("route", "one")]);
    until("all are kept or counted", || same(kept() + dropped("client") + dropped("queue"), 415.0));
    wait_for(&gate, 20.0);
    assert!(dropped("client") >= 50.0, "one client has its part of a minute: {}", dropped("client"));
    assert!(same(dropped("room"), kept() - 20.0));
    let left = listed(&state, &[]);
    let number = |reason: &str| left.iter().filter(|record| record["reason"] == reason).count();
    assert_eq!(
        (number("signature_mismatch"), number("signature_missing")),
        (10, 10),
        "each reason has its share"
    );
    let still: Vec<_> =
        wanted.iter().filter(|id| left.iter().any(|record| record["id"] == id.as_str())).collect();
    assert!(!still.is_empty(), "of one reason each client has its share: {left:?}");
    add_key(&gate, &state, SHELF, "");
    assert_eq!(only(&state, "deliver", still[0]).1["reason"], "accepted");
    let (code, all) = judged(&state, "verify", &["--reason", "signature_mismatch"]);
    assert_eq!(code, Some(1), "forgeries do not verify: {all:?}");
}

#[test]
fn one_client_has_all_the_places_that_nobody_else_needs_and_of_few_the_last() {
    let keep = |shelf: &str, number: u8| {
        let (state, app) = (Dir::new(), App::ok());
        let gate = before(&app, &state, shelf, "rate_limit: off").start();
        let sent: Vec<_> = (0..number).map(|_| id_of(&gate.send(&early()))).collect();
        let metrics = || gate.metrics();
        until("all are kept or counted", || {
            let dropped = metrics().sum("hookgate_refused_dropped_total", &[("cause", "client")]);
            same(metrics().sum("hookgate_refused_kept_total", &[]) + dropped, f64::from(number))
        });
        let kept: Vec<_> =
            listed(&state, &[]).iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect();
        (sent, kept)
    };
    let (sent, kept) = keep("{ keep: 60 }", 60);
    assert_eq!(sent, kept, "there is room for all of them");
    let (sent, kept) = keep("{ keep: 3 }", 8);
    assert_eq!(sent[5..], kept, "of few places the last ones have them");
}

#[test]
fn no_more_is_kept_than_there_is_room_for_and_nothing_too_large() {
    let (state, app) = (Dir::new(), App::ok());
    let shelf = "{ keep: 50, max_bytes: 64KiB }";
    let gate = before(&app, &state, shelf, "").start();
    let sized = |size: usize| gate.send(&Signer::new("github", 0, SECRET).sign(vec![b'x'; size]));
    assert_eq!(sized(20_000).status, 401);
    let dropped = |cause: &str| gate.metrics().sum("hookgate_refused_dropped_total", &[("cause", cause)]);
    until("it is counted", || same(dropped("size"), 1.0));
    for _ in 0..12 {
        assert_eq!(sized(10_000).status, 401);
        std::thread::sleep(Duration::from_millis(20));
    }
    until("what came is written", || {
        same(gate.metrics().sum("hookgate_refused_kept_total", &[]) + dropped("queue"), 12.0)
    });
    let bytes = gate.metrics().value("hookgate_refused_bytes");
    assert!(bytes <= 65_536.0 && bytes > 40_000.0, "{bytes}");
    assert!(dropped("room") >= 1.0);
}

#[test]
fn what_is_kept_is_for_its_owner_alone_outlives_a_restart_and_is_sealed_if_there_is_a_key() {
    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
    let (state, app) = (Dir::new(), App::ok());
    let sealed = |yaml: String| {
        yaml + &format!("inbox: {{ encryption_key_file: {} }}\n", state.join("seal").display())
    };
    let gate = |seal: bool| {
        let builder = before(&app, &state, SHELF, "");
        let yaml = config(&state, SHELF, ", { file: DIR/key-1 }", "");
        if seal { builder.config(&sealed(yaml)) } else { builder.config(&yaml) }
    };
    let body = br#"{"a":"a text that nobody else writes"}"#;
    let request = Signer::new("github", 0, &other("a third key that nobody has")).sign(body);
    let mark = b"a text that nobody else writes";
    let written = || {
        let files =
            ["refused.db", "refused.db-wal"].map(|file| std::fs::read(state.join("state").join(file)));
        files.into_iter().flatten().any(|file| file.windows(mark.len()).any(|part| part == mark))
    };
    state.write("seal", KEY);
    {
        let gate = gate(true).start();
        let id = id_of(&gate.send(&request));
        wait_for(&gate, 1.0);
        assert!(refused(&state, &["show", &id]).out.contains("a text that nobody else writes"));
        for file in std::fs::read_dir(state.join("state")).unwrap().map(Result::unwrap) {
            let mode = file.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{:?} {mode:o}", file.path());
        }
    }
    assert!(!written(), "it is sealed");
    {
        let gate = gate(false).start();
        let id = listed(&state, &[])[0]["id"].as_str().unwrap().to_owned();
        wait_for(&gate, 1.0);
        for what in ["verify", "deliver"] {
            let found = only(&state, what, &id).1;
            assert!(found["message"].as_str().unwrap().contains("encryption_key_file"), "{found}");
        }
        let plain = id_of(&gate.send(&request));
        wait_for(&gate, 2.0);
        assert_ne!(plain, id);
    }
    assert!(written(), "it is not");
    let gate = gate(true).start();
    assert_eq!(listed(&state, &[]).len(), 2);
    let (code, all) = judged(&state, "verify", &["--route", "one"]);
    assert_eq!(code, Some(1));
    assert!(all.iter().all(|one| one["reason"] == "signature_mismatch"), "both are read: {all:?}");
    gate.log.find("what is kept", |line| line["body"] == "2 refused requests are kept");
}

fn other(text: &str) -> String {
    format!("whsec_{}", data_encoding::BASE64.encode(text.as_bytes()))
}

#[test]
fn a_damaged_record_is_told_and_a_damaged_database_is_put_aside() {
    let (state, app) = (Dir::new(), App::ok());
    let start = || before(&app, &state, SHELF, "").start();
    let ids: Vec<_> = {
        let gate = start();
        let ids = (0..2).map(|_| id_of(&gate.send(&early()))).collect();
        wait_for(&gate, 2.0);
        ids
    };
    let file = state.join("state/refused.db");
    let database = rusqlite::Connection::open(&file).unwrap();
    database
        .execute(
            "UPDATE refused SET bytes = CAST(bytes || x'00' AS BLOB) WHERE number = (SELECT min(number) FROM refused)",
            [],
        )
        .unwrap();
    drop(database);
    {
        let gate = start();
        let damaged = only(&state, "verify", &ids[0]).1;
        assert!(damaged["message"].as_str().unwrap().contains("damaged"), "{damaged}");
        assert_eq!(refused(&state, &["show", &ids[0]]).code, Some(1));
        add_key(&gate, &state, SHELF, "");
        assert_eq!(only(&state, "deliver", &ids[1]).1["reason"], "accepted", "the rest goes on");
    }
    std::fs::write(&file, vec![7; 8192]).unwrap();
    _ = std::fs::remove_file(state.join("state/refused.db-wal"));
    let gate = start();
    gate.log.find("the damage", |line| {
        line["event.name"] == "hookgate.refused" && line["body"].as_str().unwrap().contains("refused.damaged")
    });
    assert!(listed(&state, &[]).is_empty());
    gate.send(&early());
    wait_for(&gate, 1.0);
}

#[test]
fn a_shelf_that_cannot_be_written_is_told_and_costs_no_answer() {
    let (state, app) = (Dir::new(), App::ok());
    let gate = before(&app, &state, SHELF, "").start();
    // The table goes: whatever is written fails.
    let accepted = Signer::new("github", 0, &other_secret());
    assert_eq!(gate.send(&accepted.event()).status, 200);
    drop(gate);
    let database = rusqlite::Connection::open(state.join("state/refused.db")).unwrap();
    database
        .execute_batch("CREATE TRIGGER no BEFORE INSERT ON refused BEGIN SELECT raise(ABORT, 'no'); END")
        .unwrap();
    drop(database);
    let gate = before(&app, &state, SHELF, "").start();
    for _ in 0..3 {
        assert_eq!(gate.send(&early()).said(), (401, "Unauthorized".to_owned()));
    }
    gate.log.find("the trouble", |line| {
        line["event.name"] == "hookgate.refused" && line["severity_text"] == "ERROR"
    });
    let dropped = || gate.metrics().sum("hookgate_refused_dropped_total", &[("cause", "unwritten")]);
    until("they are counted", || same(dropped(), 3.0));
    assert_eq!(gate.send(&accepted.event()).status, 200);
}

#[test]
fn secrets_that_are_shown_are_nowhere_and_signatures_in_such_headers_on_no_screen() {
    let (state, app) = (Dir::new(), App::ok());
    let socket = state.join("control");
    let yaml = format!(
        "
state_dir: {}/state
refused: {SHELF}
routes:
  - {{ name: token, path: /token, secrets: [{{ file: DIR/key-0 }}], scheme: {{ algorithm: token,
      signature: {{ from: [\"header:X-Shown\", \"query:pass\"] }} }} }}
  - {{ name: body, path: /body, secrets: [{{ file: DIR/key-0 }}], scheme: {{ algorithm: token,
      signature: {{ from: \"json:/secret\" }} }} }}
  - {{ name: signs, path: /signs, secrets: [{{ file: DIR/key-0 }}], scheme: {{ algorithm: hmac-sha256, content: \"{{body}}\",
      signature: {{ from: \"header:Authorization\", prefix: \"HMAC \", encoding: hex }} }} }}
",
        state.path().display()
    );
    let builder = Gate::before(&app).with("control-socket", socket.display());
    builder.dir().write("key-0", other_secret());
    let gate = builder.config(&yaml).start();
    let plain = |target: &str| Request {
        target: target.to_owned(),
        headers: crate::support::Headers(vec![("X-Api-Key".into(), "SHOWN-1".into())]),
        body: br#"{"secret":"SHOWN-2","id":"x"}"#.to_vec(),
    };
    let tag = "ab".repeat(32);
    let ids = [
        plain("/token").with("X-Shown", "SHOWN-3"),
        plain("/token?pass=SHOWN-4"),
        plain("/body"),
        plain("/signs?token=SHOWN-5").with("Authorization", &format!("HMAC {tag}")),
    ]
    .map(|request| id_of(&gate.send(&request)));
    wait_for(&gate, 4.0);
    for id in &ids[..3] {
        let found = only(&state, "verify", id).1;
        assert!(found["message"].as_str().unwrap().contains("not written down"), "{found}");
        assert_eq!(only(&state, "deliver", id).0, Some(1));
    }
    assert_eq!(only(&state, "verify", &ids[3]).1["reason"], "signature_mismatch");
    let shown = refused(&state, &["show", &ids[3]]).out;
    assert!(shown.contains("Authorization: [blanked]") && !shown.contains(&tag), "{shown}");
    assert!(refused(&state, &["show", &ids[3], "--raw"]).out.contains(&tag), "what verify reads has it");
    for id in &ids {
        for args in [&["show", id.as_str()][..], &["show", id, "-o", "json"], &["show", id, "--raw"]] {
            let out = refused(&state, args).out;
            // A body is kept as it came, unless the secret is in it.
            assert_eq!(out.contains("SHOWN-2"), *id != ids[2] && !args.contains(&"json"), "{out}");
            for secret in ["SHOWN-1", "SHOWN-3", "SHOWN-4", "SHOWN-5"] {
                assert!(!out.contains(secret), "{secret}: {out}");
            }
        }
    }
    drop(gate);
    let files = ["refused.db", "refused.db-wal"].map(|file| std::fs::read(state.join("state").join(file)));
    let text: Vec<_> = files.into_iter().flatten().flatten().collect();
    let text = String::from_utf8_lossy(&text);
    for secret in ["SHOWN-1", "SHOWN-3", "SHOWN-4", "SHOWN-5"] {
        assert!(!text.contains(secret), "{secret} is written");
    }
}

#[test]
fn what_is_refused_by_its_head_is_kept_with_the_body_that_came_along() {
    let (state, app) = (Dir::new(), App::ok());
    let route = "allow_ips: [192.0.2.0/24]";
    let gate = before(&app, &state, SHELF, route).start();
    let event = Signer::new("github", 0, &other_secret()).event();
    let whole = gate.send(&event);
    assert_eq!((gate.reason(&whole).as_str(), whole.status), ("address_denied", 403));
    let mut slow = gate.connect();
    slow.send(event.head(&format!("Content-Length: {}\r\n", event.body.len())));
    let head_only = slow.response();
    let large = gate.send(&event.clone().with("X-Padding", "x"));
    let mut asks = gate.connect();
    asks.send(event.head(&format!("Content-Length: {}\r\nExpect: 100-continue\r\n", event.body.len())));
    let asked = asks.response();
    wait_for(&gate, 4.0);
    let held = |answer: &Response| {
        let all = listed(&state, &[]);
        let one = all.iter().find(|record| record["id"] == id_of(answer).as_str()).unwrap();
        one["held"].as_str().unwrap().to_owned()
    };
    for (answer, expected) in [(&whole, "whole"), (&head_only, "head"), (&large, "whole"), (&asked, "head")] {
        assert_eq!(held(answer), expected);
    }
    assert_eq!(only(&state, "verify", &id_of(&whole)).1["reason"], "address_denied");
    assert!(
        only(&state, "verify", &id_of(&head_only)).1["message"].as_str().unwrap().contains("only its head")
    );
    configure(&gate, &config(&state, SHELF, "", "allow_ips: [127.0.0.0/8]"));
    assert_eq!(only(&state, "deliver", &id_of(&whole)).1["reason"], "accepted");
    assert_eq!(only(&state, "deliver", &id_of(&large)).1["reason"], "duplicate");
    assert_eq!(app.only_request().body, event.body);
}

#[test]
fn what_needs_nobody_is_not_kept() {
    let (state, app) = (Dir::new(), App::script([Answer::ok(), Answer::status(500), Answer::ok()]));
    let gate = before(&app, &state, SHELF, "max_body: 1KiB").start();
    let genuine = Signer::new("github", 0, &other_secret());
    let event = genuine.event();
    for (request, status) in [
        (event.clone(), 200),
        (event, 200),
        (genuine.event(), 500),
        (genuine.sign(vec![b'x'; 2000]), 413),
        (genuine.event().to("/elsewhere"), 404),
    ] {
        assert_eq!(gate.send(&request).status, status);
    }
    gate.send(&early());
    wait_for(&gate, 1.0);
    assert_eq!(listed(&state, &[])[0]["reason"], "signature_mismatch");
}

#[test]
fn a_gate_without_a_shelf_and_an_order_without_a_meaning_are_told() {
    let (state, app) = (Dir::new(), App::ok());
    {
        let _gate = Gate::before(&app).with("control-socket", state.join("control").display()).start();
        let without = refused(&state, &["list"]);
        assert!(without.code == Some(1) && without.err.contains("refused"), "{}", without.err);
    }
    assert!(refused(&state, &["list"]).err.contains("--control-socket"));
    let _gate = before(&app, &state, SHELF, "").start();
    for (args, code, word) in [
        (&["verify"][..], 2, "which requests"),
        (&["deliver"], 2, "which requests"),
        (&["deliver", "x", "--route", "one"], 2, "not by both"),
        (&["deliver", "--route", "one"], 1, "nothing like that"),
        (&["list", "--reason", "accepted"], 1, "signature_mismatch"),
        (&["show", "no-id"], 1, "32 hex digits"),
        (&["show", "00000000000000000000000000000000"], 1, "not on the shelf"),
    ] {
        let said = refused(&state, args);
        assert!(said.code == Some(code) && said.err.contains(word), "{args:?}: {:?} {}", said.code, said.err);
    }
}

#[test]
fn beside_a_shared_store_each_gate_keeps_its_own_and_an_event_is_one_for_all() {
    let Some(server) = Server::start() else { return };
    let (state, other_state, app) = (Dir::new(), Dir::new(), App::ok());
    let start = |state: &Dir, keys: &str| {
        let builder = Gate::before(&app).with("control-socket", state.join("control").display());
        builder.dir().write("key-0", other_secret());
        let store = format!("replay: {{ store: \"{}\", prefix: \"shop:\" }}\n", server.url());
        builder.config(&(config(state, SHELF, keys, "") + &store)).start()
    };
    let gate = start(&state, "");
    let event = early();
    let id = id_of(&gate.send(&event));
    wait_for(&gate, 1.0);
    drop(gate);
    let both = ", { file: DIR/key-1 }";
    let (_gate, other) = (start(&state, both), start(&other_state, both));
    assert!(listed(&other_state, &[]).is_empty());
    assert_eq!(only(&state, "deliver", &id).1["reason"], "accepted");
    assert_eq!(other.send(&event).said(), (200, "Already processed".to_owned()));
    assert_eq!(app.seen(), 1);
}
