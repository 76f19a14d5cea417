//! The replay file: a restart forgets nothing that was delivered, and remembers nothing that
//! was not. What no restart may change is tried with real gates; what the format promises, in
//! src/store/journal/file.rs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hookgate::clock;
use hookgate::gate::filter::replay::{Keep, ReplayKey};
use hookgate::store::journal::record::Record;
use hookgate::store::journal::{Kept, ReplayFile, inspect};

use crate::support::gate::{Builder, run, same};
use crate::support::{self, Answer, App, Dir, Gate, Signer, until};

const WINDOW: Duration = Duration::from_secs(24 * 3600);

/// A gate whose memory outlives it in `folder`.
fn keeping(app: &App, folder: &Dir) -> Builder {
    Gate::before(app).with("replay-file", file(folder).display())
}

fn file(folder: &Dir) -> PathBuf {
    folder.join("replay")
}

/// The keys that a file holds, in its order.
fn held(path: &Path) -> Vec<ReplayKey> {
    let mut keys = Vec::new();
    inspect(path, &clock::stamp(), |kept| match kept {
        // What is settled while a file is made anew stands in it twice.
        Kept::Done { key, .. } if keys.contains(&key) => {}
        Kept::Done { key, .. } => keys.push(key),
        Kept::Forgotten(key) => keys.retain(|known| *known != key),
    })
    .unwrap();
    keys
}

/// Writes a file as a gate would have, with events of such ages.
fn write(path: &Path, events: &[(u32, Duration)]) {
    let stamp = clock::stamp();
    let records = events.iter().map(|(n, age)| {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&n.to_be_bytes());
        let uptime_ms = stamp.uptime_ms - i64::try_from(age.as_millis()).unwrap();
        Record::Done { key: ReplayKey::from_bytes(key), keep: Keep::WholeWindow, uptime_ms }
    });
    let (mut file, _) = ReplayFile::open(path, &stamp, |_| ()).unwrap();
    file.renew(&stamp, records).unwrap();
}

/// Ends it as Kubernetes does.
fn stop(gate: &Gate) {
    gate.signal("TERM");
    assert_eq!(gate.ended().code(), Some(0));
}

#[test]
fn a_restart_forgets_no_delivery_and_remembers_no_failure() {
    let folder = Dir::new();
    let app = App::script([Answer::ok(), Answer::status(500), Answer::ok()]);
    let (taken, failed) = (Signer::github().event(), Signer::github().event());
    let gate = keeping(&app, &folder).start();
    assert_eq!(gate.send(&taken).status, 200);
    assert_eq!(gate.send(&failed).status, 500);
    stop(&gate);
    let mode = fs::metadata(file(&folder)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for the gate's user only");

    let gate = keeping(&app, &folder).start();
    gate.log.find("what was read", |line| {
        line["event.name"] == "hookgate.replay_file"
            && line["body"].as_str().unwrap().contains("1 delivered events are remembered")
    });
    assert!(same(gate.metrics().value("hookgate_replay_entries"), 1.0));
    assert_eq!(gate.send(&taken).said(), (200, "Already processed".to_owned()));
    assert_eq!(app.seen(), 2);
    assert_eq!(gate.send(&failed).said(), (200, "app".to_owned()), "the provider's retry gets through");

    // And once more: what was remembered is remembered on.
    stop(&gate);
    let gate = keeping(&app, &folder).start();
    for event in [&taken, &failed] {
        assert_eq!(gate.reason(&gate.send(event)), "duplicate");
    }
    assert!(same(gate.metrics().value("hookgate_replay_file_errors_total"), 0.0));
}

#[test]
fn what_has_expired_is_neither_remembered_nor_kept() {
    let folder = Dir::new();
    let old = (0..10_000).map(|n| (n, WINDOW + Duration::from_secs(60)));
    let recent = (10_000..10_003).map(|n| (n, WINDOW * 99 / 100));
    write(&file(&folder), &old.chain(recent).collect::<Vec<_>>());
    let before = fs::metadata(file(&folder)).unwrap().len();
    let app = App::ok();
    let gate = keeping(&app, &folder).start();
    assert!(same(gate.metrics().value("hookgate_replay_entries"), 3.0));
    stop(&gate);
    assert_eq!(held(&file(&folder)).len(), 3);
    let after = fs::metadata(file(&folder)).unwrap().len();
    assert!(after < before / 100, "made anew, it has {after} bytes instead of {before}");
}

#[test]
fn a_window_that_is_changed_holds_for_what_is_in_the_file() {
    let folder = Dir::new();
    let hours = |n: u64| Duration::from_secs(n * 3600);
    write(&file(&folder), &[(1, hours(1)), (3, hours(3)), (30, hours(30))]);
    let app = App::ok();
    for (window, remembered) in [("2h", "1 delivered"), ("4h", "2 delivered"), ("48h", "3 delivered")] {
        let checked = run(&mut keeping(&app, &folder).with("replay-window", window).command("check"));
        assert!(checked.out.contains(remembered), "{window}: {}", checked.out);
    }
}

/// A window of its own stands in the file, so no other one changes it; the day of the others does not end it.
#[test]
fn a_route_s_own_window_outlives_a_restart() {
    const ROUTES: &str = "
routes:
  - { name: quick, path: /quick, provider: github, secrets: [{ file: DIR/key-1 }], replay: { window: 2m } }
  - { name: slow, path: /slow, provider: github, secrets: [{ file: DIR/key-1 }], replay: { window: 90d } }
  - { name: usual, path: /usual, provider: github, secrets: [{ file: DIR/key-1 }] }
";
    let folder = Dir::new();
    let app = App::ok();
    let gate = || keeping(&app, &folder).without("path").config(ROUTES);
    let started = gate().start();
    let events = ["/quick", "/slow", "/usual"].map(|path| Signer::github().event().to(path));
    for event in &events {
        assert_eq!(started.send(event).status, 200);
    }
    let long_ago = |seconds: u64| {
        let mut bytes = fs::read(file(&folder)).unwrap();
        let earlier = i64::try_from(seconds * 1000).unwrap();
        for record in bytes[32..].as_chunks_mut::<32>().0 {
            if let Some(Record::Done { key, keep, uptime_ms }) = Record::decode(record) {
                *record = Record::Done { key, keep, uptime_ms: uptime_ms - earlier }.encode();
            }
        }
        fs::write(file(&folder), bytes).unwrap();
    };
    stop(&started);
    // Once more, and it is made anew: the rest of a window is written as it is.
    stop(&gate().start());
    for (passed, remembered) in [(0, 3), (121, 2), (86_400, 1), (88 * 86_400, 1)] {
        long_ago(passed);
        let checked = run(&mut gate().with("replay-window", "24h").command("check"));
        let told = format!("{remembered} delivered events are remembered");
        assert!(checked.out.contains(&told), "after {passed} s more: {}", checked.out);
    }
    let gate = gate().start();
    let reasons = events.each_ref().map(|event| gate.reason(&gate.send(event)));
    assert_eq!(reasons, ["accepted", "duplicate", "accepted"]);
}

#[test]
fn a_file_that_is_mostly_expired_is_made_anew_while_the_gate_runs() {
    let folder = Dir::new();
    let expired: Vec<_> = (0..4090).map(|n| (n, WINDOW * 2)).collect();
    write(&file(&folder), &expired);
    let records = || fs::metadata(file(&folder)).unwrap().len() / 32 - 1;
    let app = App::ok();
    let gate = keeping(&app, &folder).start();
    assert!(records() > 4090, "so few records are not worth it, yet");
    let mut sender = gate.connect();
    let events: Vec<_> = (0..10).map(|_| Signer::github().event()).collect();
    for event in &events {
        assert_eq!(sender.exchange(event).status, 200);
    }
    until("the file to be made anew", || records() < 100);
    let late = Signer::github().event();
    assert_eq!(sender.exchange(&late).status, 200);
    drop(sender);
    stop(&gate);
    assert_eq!(held(&file(&folder)).len(), events.len() + 1);
    let gate = keeping(&app, &folder).start();
    assert!(events.iter().chain([&late]).all(|event| gate.reason(&gate.send(event)) == "duplicate"));
}

#[test]
fn a_torn_end_is_cut_and_said() {
    let folder = Dir::new();
    let app = App::ok();
    let event = Signer::github().event();
    let gate = keeping(&app, &folder).start();
    assert_eq!(gate.send(&event).status, 200);
    stop(&gate);
    let mut bytes = fs::read(file(&folder)).unwrap();
    bytes.extend([7; 45]);
    fs::write(file(&folder), &bytes).unwrap();

    let checked = run(&mut keeping(&app, &folder).command("check"));
    assert_eq!(checked.code, Some(0), "{}", checked.err);
    assert!(checked.out.contains("the last 45 bytes are no whole records"), "{}", checked.out);
    let gate = keeping(&app, &folder).start();
    let said = gate.log.find("the cut", |line| line["event.name"] == "hookgate.replay_file");
    assert_eq!(said["severity_text"], "WARN");
    assert!(said["body"].as_str().unwrap().contains("the last 45 bytes are no whole records"), "{said}");
    assert_eq!(gate.reason(&gate.send(&event)), "duplicate");
}

#[test]
fn a_file_that_cannot_be_believed_is_refused_with_a_remedy() {
    let folder = Dir::new();
    let app = App::ok();
    write(&file(&folder), &(0..100).map(|n| (n, Duration::ZERO)).collect::<Vec<_>>());
    let whole = fs::read(file(&folder)).unwrap();
    let mut damaged = whole.clone();
    damaged[32 * 50 + 9] ^= 1;
    for (bytes, capacity, told) in [
        (
            damaged,
            1000,
            "is damaged at byte 1600, with good records behind: restore it, or move the file away",
        ),
        (b"port: 8080\n".to_vec(), 1000, "is something else than a replay file: name another path"),
        (
            whole.clone(),
            99,
            "holds 100 events that must not be forgotten, and replay.capacity is 99: raise it",
        ),
    ] {
        fs::write(file(&folder), &bytes).unwrap();
        for command in ["run", "check"] {
            let builder = keeping(&app, &folder).with("replay-capacity", capacity);
            let ended = run(&mut builder.command(command));
            assert_eq!(ended.code, Some(78), "{command}: {}", ended.err);
            let place = format!("replay.file: {}: ", file(&folder).display());
            assert!(ended.err.contains(&place) && ended.err.contains(told), "{command}: {}", ended.err);
        }
        assert_eq!(fs::read(file(&folder)).unwrap(), bytes, "it is left as it is");
    }
    fs::write(file(&folder), &whole).unwrap();
    let checked = run(&mut keeping(&app, &folder).command("check"));
    assert!(checked.out.contains("100 delivered events are remembered"), "{}", checked.out);
}

#[test]
fn two_gates_do_not_share_a_file() {
    let folder = Dir::new();
    let app = App::ok();
    let gate = keeping(&app, &folder).start();
    let second = run(&mut keeping(&app, &folder).command("run"));
    assert_eq!(second.code, Some(1));
    assert!(second.err.contains("another process uses it: stop that one"), "{}", second.err);
    assert!(gate.is_running());
    let checked = run(&mut keeping(&app, &folder).command("check"));
    assert_eq!(checked.code, Some(0), "looking is free: {}", checked.err);
}

#[test]
fn a_reload_does_not_touch_it() {
    let folder = Dir::new();
    let app = App::ok();
    let event = Signer::github().event();
    let gate = keeping(&app, &folder).start();
    assert_eq!(gate.send(&event).status, 200);
    gate.signal("HUP");
    gate.log.find("the reload", |line| line["event.name"] == "hookgate.reload");
    assert_eq!(gate.reason(&gate.send(&event)), "duplicate");
    let other = Signer::github().event();
    assert_eq!(gate.send(&other).status, 200);
    stop(&gate);
    assert_eq!(held(&file(&folder)).len(), 2);
}

/// The gate runs under a limit on the size of its files, and the file is at that limit.
#[test]
fn a_full_disk_stops_no_delivery_and_is_healed() {
    let folder = Dir::new();
    let path = file(&folder);
    let app = App::ok();
    let builder = keeping(&app, &folder);
    // A block of sh has 512 bytes: sixteen records, of which header and marks take some.
    let plain = builder.command("run");
    let mut limited = Command::new("sh");
    limited.env_clear().args(["-c", "trap '' XFSZ; ulimit -S -f 1; exec \"$@\"", "sh"]);
    limited.arg(plain.get_program()).args(plain.get_args());
    let gate = builder.start_as(limited);
    let events: Vec<_> = (0..40).map(|_| Signer::github().event()).collect();
    let mut sender = gate.connect();
    for event in &events {
        assert_eq!(sender.exchange(event).status, 200, "requests go on");
    }
    until("the fault to be counted", || gate.metrics().value("hookgate_replay_file_errors_total") > 1.0);
    assert!(events.iter().all(|event| sender.exchange(event).text().starts_with("Already")));
    let told = |line: &serde_json::Value| {
        line["event.name"] == "hookgate.replay_file" && line["severity_text"] == "ERROR"
    };
    let line = gate.log.find("the fault in the log", told);
    assert!(line["body"].as_str().unwrap().contains("requests go on"), "{line}");
    assert_eq!(gate.log.count(told), 1, "it is said once");
    assert_eq!(gate.ops("/readyz").status, 200);
    assert!(held(&path).len() < events.len());

    // There is room again.
    let pid = gate.id().to_string();
    let Some(prlimit) = support::gate::program("prlimit") else {
        eprintln!("SKIPPED: prlimit is not on PATH");
        return;
    };
    let raised = Command::new(prlimit).args(["--fsize=unlimited:unlimited", "--pid", &pid]).status().unwrap();
    assert!(raised.success(), "the limit was a soft one");
    gate.log.find("the repair", |line| {
        line["body"].as_str().is_some_and(|b| b.contains("holds everything again"))
    });
    assert_eq!(held(&path).len(), events.len(), "what was missed is there now");
}
