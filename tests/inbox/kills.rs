//! A process that is killed while it writes: what it acknowledged is there when it is started again.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hookgate::inbox::{Attempted, Id, Selection};

use crate::fixture::{Folder, ROUTE, event, key, open};
use crate::rng::{Rng, given};

const LEASE: Duration = Duration::from_secs(15);

/// This test, in a process of its own.
pub fn child(folder: &Path, first: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "kills::the_process_that_is_killed",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("HOOKGATE_TEST_FOLDER", folder)
        .env("HOOKGATE_TEST_FIRST", first.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// Stores, delivers and gives up events, and tells each that was acknowledged and each that was settled.
#[test]
#[ignore = "started by others"]
#[expect(clippy::disallowed_methods, reason = "the process that starts it tells it where")]
fn the_process_that_is_killed() {
    let Some(folder) = std::env::var_os("HOOKGATE_TEST_FOLDER") else { return };
    let first = given("HOOKGATE_TEST_FIRST").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (inbox, ..) = open(Path::new(&folder));
        let tell = |line: String| {
            let mut out = std::io::stdout().lock();
            _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        };
        tell("\nopen\n".to_owned());
        let mut senders = tokio::task::JoinSet::new();
        for sender in 0..8 {
            let inbox = inbox.clone();
            senders.spawn(async move {
                for number in (first + sender..first + 4000).step_by(8) {
                    if inbox.store(event(number)).await.is_ok() {
                        tell(format!("stored {number}\n"));
                    }
                }
            });
        }
        senders.spawn(async move {
            for round in 0..4000_u32 {
                for due in inbox.claim(ROUTE, 0, LEASE, 4).await.unwrap_or_default() {
                    // What an application that takes two of three would have been asked.
                    let number = u64::from_be_bytes(due.key.as_bytes()[8..].try_into().unwrap());
                    tell(format!("asked {number}\n"));
                    let came_to = match round % 3 {
                        0 => Attempted::Dead { outcome: "410".into() },
                        _ => Attempted::Done,
                    };
                    if inbox.settle(due.id, due.attempt, came_to, 0).await == Ok(true) {
                        tell(format!("settled {number}\n"));
                    }
                }
            }
        });
        senders.join_all().await;
    });
}

/// What the process told before it died.
#[derive(Default)]
pub struct Told {
    pub stored: BTreeSet<u64>,
    pub asked: BTreeSet<u64>,
    pub settled: BTreeSet<u64>,
}

impl Told {
    /// A line, if it came whole.
    pub fn hear(&mut self, line: &str) {
        let Some((word, number)) = line.split_once(' ') else { return };
        let Ok(number) = number.parse() else { return };
        match word {
            "stored" => _ = self.stored.insert(number),
            "asked" => _ = self.asked.insert(number),
            "settled" => _ = self.settled.insert(number),
            _ => {}
        }
    }
}

/// What was acknowledged is stored, dead or was delivered; what was settled is not stored again.
pub fn nothing_is_lost(folder: &Folder, told: &Told, what: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (inbox, opened, names) = open(&folder.0);
    assert_eq!(opened.salvaged, None, "{what}: nothing is damaged");
    let mut there = BTreeSet::new();
    let mut after = Id::default();
    loop {
        let (listed, next) = runtime.block_on(inbox.list(Selection::default(), after)).unwrap();
        there.extend(listed.iter().map(|record| record.key));
        let Some(next) = next else { break };
        after = next;
    }
    let names: BTreeSet<_> = names.into_iter().map(|(name, _)| name).collect();
    for number in &told.stored {
        let is_kept = there.contains(&key(*number)) || names.contains(&key(*number));
        assert!(is_kept, "{what}: {number} was acknowledged and is lost");
        let was_asked = told.asked.contains(number);
        assert!(
            there.contains(&key(*number)) || was_asked,
            "{what}: {number} is gone and was never delivered"
        );
    }
    assert_eq!(inbox.totals().set_aside, 0, "{what}");
}

#[test]
fn what_was_acknowledged_is_there_after_every_kill() {
    let kills = given("HOOKGATE_TEST_KILLS").unwrap_or(12);
    let mut rng = Rng::new(given("HOOKGATE_TEST_SEED").unwrap_or(15));
    let folder = Folder::new();
    let mut told = Told::default();
    for kill in 0..kills {
        let mut process = child(&folder.0, kill * 4000).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut after = None;
        while let Some(Ok(line)) = lines.next() {
            told.hear(&line);
            if line == "open" {
                after = Some(rng.within(1..600));
            }
            if let Some(left) = &mut after {
                *left -= 1;
                if *left == 0 {
                    process.kill().unwrap();
                    break;
                }
            }
        }
        // What it had told when it died was acknowledged as well.
        while let Some(Ok(line)) = lines.next() {
            told.hear(&line);
        }
        process.wait().unwrap();
        nothing_is_lost(&folder, &told, &format!("kill {kill}"));
    }
    assert!(told.stored.len() as u64 > kills * 20, "much was stored: {}", told.stored.len());
}
