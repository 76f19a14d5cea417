//! What released versions left behind, under this one: upgrade/ has of each a configuration, a replay file and what
//! stood in a shared store, written by upgrade/sample. An event that was delivered before is a duplicate; the
//! application is not asked, and there is none.

use std::fs;
use std::path::PathBuf;

use crate::redis_server::Server;
use crate::support::gate::{Builder, hookgate, run};
use crate::support::{Dir, Gate, Request, Signer};

const SECRET: &str = "a-secret-of-the-upgrade-samples";
const EVENT: &str = r#"{"action":"an event that was delivered before the upgrade"}"#;

/// The folder of each version.
fn samples() -> Vec<PathBuf> {
    let entries = fs::read_dir("tests/deploy/upgrade").unwrap().map(|entry| entry.unwrap().path());
    let folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    assert!(!folders.is_empty());
    folders
}

fn event() -> Request {
    Signer::new("github", 0, SECRET).sign(EVENT).to("/hooks/github")
}

/// A gate of this version with the sample's configuration.
fn gate(sample: &std::path::Path, dir: &Dir, flags: &[(&str, String)]) -> Gate {
    let secret = dir.write("github", SECRET);
    let mut command =
        hookgate(&["run", "--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0", "--log-format=json"]);
    command.arg("--config").arg(sample.join("hookgate.yaml")).arg("--secret-file").arg(secret);
    command.args(flags.iter().map(|(name, value)| format!("--{name}={value}")));
    Builder::new("http://127.0.0.1:9").start_as(command)
}

#[test]
fn a_configuration_of_a_released_version_is_valid() {
    for sample in samples() {
        let dir = Dir::new();
        let secret = dir.write("github", SECRET);
        let mut check = hookgate(&["check"]);
        check.arg("--config").arg(sample.join("hookgate.yaml")).arg("--secret-file").arg(secret);
        let done = run(&mut check);
        assert_eq!(done.code, Some(0), "{}: {}", sample.display(), done.err);
    }
}

#[test]
fn a_replay_file_of_a_released_version_is_remembered() {
    for sample in samples() {
        let dir = Dir::new();
        fs::copy(sample.join("replay"), dir.join("replay")).unwrap();
        let gate = gate(&sample, &dir, &[("replay-file", dir.join("replay").display().to_string())]);
        assert_eq!(gate.send(&event()).said(), (200, "Already processed".to_owned()), "{}", sample.display());
        let another = Signer::new("github", 0, SECRET).sign(r#"{"action":"new"}"#).to("/hooks/github");
        assert_eq!(
            gate.send(&another).status,
            503,
            "a new event is delivered, and nobody is there to take it"
        );
    }
}

/// Keys and values are the same, so that both versions work on one store during a roll-out.
#[test]
fn a_shared_store_of_a_released_version_is_remembered() {
    for sample in samples() {
        let Some(store) = Server::start() else {
            eprintln!("SKIPPED: redis-server is not on PATH");
            return;
        };
        for line in fs::read_to_string(sample.join("store")).unwrap().lines() {
            let (key, value) = line.split_once(' ').unwrap();
            let _: () = store.run(&["SET", key, value]);
        }
        let flags = [("replay-store", store.url()), ("replay-store-prefix", "upgrade:".to_owned())];
        let gate = gate(&sample, &Dir::new(), &flags);
        assert_eq!(gate.send(&event()).said(), (200, "Already processed".to_owned()), "{}", sample.display());
    }
}
