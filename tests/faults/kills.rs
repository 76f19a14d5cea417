//! Gates that keep their memory in a file are killed at random points under load. Whatever the
//! moment: what is in the file is a duplicate afterwards, what is not there is delivered again,
//! nothing is refused that the application did not say 2xx for, and the file needs no repair.
//!
//! `HOOKGATE_KILLS=1000 cargo test --test faults kills -- --nocapture` makes a long search of it,
//! and `HOOKGATE_KILL_SEED` repeats the decisions of a run whose seed was printed.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hookgate::clock;
use hookgate::gate::filter::replay::{Keep, ReplayKey};
use hookgate::store::journal::record::Record;
use hookgate::store::journal::{Kept, ReplayFile, inspect};

use crate::ALONE;
use crate::rng::{Rng, given};
use crate::support::gate::Builder;
use crate::support::{self, Answer, App, Dir, Gate, Request, Signer, lock};

const KILLS: u64 = 15;
const KILLS_OF_A_FILE: u64 = 25;
const SENDERS: usize = 3;
/// How many appearances of something new in the file lie between an answer and the certainty that
/// its event is there: one write may be under way when the answer comes, and a large one may show
/// in two pieces.
const CERTAIN: usize = 4;
/// What is asked about again long after.
const SAMPLE: usize = 8;

/// What the application knows of an event, by its body.
#[derive(Clone, Default)]
struct Known {
    key: String,
    said_yes: bool,
}

type Ledger = Arc<Mutex<HashMap<Vec<u8>, Known>>>;

/// An event that was sent, and when the answer 200 came, if it did.
struct Sent {
    event: Request,
    answered: Option<Instant>,
}

#[derive(Default)]
struct Tally {
    kills: u64,
    at_start: u64,
    events: usize,
    certain: usize,
    lost: Vec<Duration>,
}

#[test]
fn no_kill_makes_the_gate_forget_what_is_written_or_remember_what_was_not_delivered() {
    let _alone = lock(&ALONE);
    let kills = given("HOOKGATE_KILLS").unwrap_or(KILLS);
    let seed = given("HOOKGATE_KILL_SEED").unwrap_or_else(|| clock::now().wall_ms.unsigned_abs());
    println!("HOOKGATE_KILL_SEED={seed} HOOKGATE_KILLS={kills}");
    let mut rng = Rng::new(seed);
    let (mut tally, started) = (Tally::default(), Instant::now());
    while tally.kills < kills {
        // A new file from time to time: reading an old one takes longer and longer.
        let most = kills.min(tally.kills + KILLS_OF_A_FILE);
        search(most, &mut rng, &mut tally);
    }
    report(&mut tally, started.elapsed());
    assert!(tally.certain > 0, "no event was ever old enough to be certain of");
}

/// Kills gates with one file until so many have been killed in all.
fn search(kills: u64, rng: &mut Rng, tally: &mut Tally) {
    let ledger = Ledger::default();
    let app = application(&ledger);
    let folder = Dir::new();
    let path = folder.join("replay");
    let mut sent: Vec<Sent> = Vec::new();
    let mut grown: Vec<Instant> = Vec::new();
    let mut old: Vec<Request> = Vec::new();

    while tally.kills < kills {
        let before = keys(&path);
        if rng.chance(30) {
            kill_at_start(&app, &path, rng);
            tally.kills += 1;
            tally.at_start += 1;
            assert_eq!(keys(&path), before, "a start that is cut off changes nothing");
        }
        let gate = keeping(&app, &path).start();
        for event in &old {
            assert_eq!(gate.send(event).text(), "Already processed", "after many a kill");
        }
        old.extend(check(&gate, &ledger, &before, &sent, &grown, tally));
        while old.len() > SAMPLE {
            old.swap_remove(rng.below(old.len()));
        }
        wait_until_written(&path, &ledger, &old);

        (sent, grown) = kill_under_load(&gate, &path, rng);
        tally.kills += 1;
    }
    let gate = keeping(&app, &path).start();
    check(&gate, &ledger, &keys(&path), &sent, &grown, tally);
}

fn report(tally: &mut Tally, took: Duration) {
    tally.lost.sort();
    let Tally { kills, at_start, events, certain, lost } = tally;
    println!(
        "{kills} kills ({at_start} during a start), {events} events in {took:.0?}; {certain} were certainly in \
         the file and none of them was forgotten; {} were answered and forgotten, the oldest {:.0?} before its kill \
         (median {:.0?})",
        lost.len(),
        lost.last().copied().unwrap_or_default(),
        lost.get(lost.len() / 2).copied().unwrap_or_default(),
    );
}

/// Says no to one of six, and writes down what it says before it does.
fn application(ledger: &Ledger) -> App {
    let ledger = Arc::clone(ledger);
    App::new(move |n, received| {
        let yes = n % 6 != 5;
        let mut ledger = lock(&ledger);
        let known = ledger.entry(received.body.clone()).or_default();
        received.header("Hookgate-Idempotency-Key").unwrap().clone_into(&mut known.key);
        known.said_yes |= yes;
        if yes { Answer::ok() } else { Answer::status(500) }
    })
}

fn keeping(app: &App, path: &Path) -> Builder {
    Gate::before(app).with("replay-file", path.display())
}

/// What the file remembers, which must be readable at any time.
fn keys(path: &Path) -> HashSet<String> {
    let mut keys = HashSet::new();
    let judged = inspect(path, &clock::stamp(), |kept| match kept {
        Kept::Done { key, age, .. } if age < Duration::from_secs(24 * 3600) => {
            _ = keys.insert(key.to_string());
        }
        Kept::Done { .. } => {}
        Kept::Forgotten(key) => _ = keys.remove(&key.to_string()),
    });
    judged.unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
    keys
}

/// Gives the start something to do, if there is a file yet, and cuts it off.
fn kill_at_start(app: &App, path: &Path, rng: &mut Rng) {
    if path.exists() {
        let stamp = clock::stamp();
        let (mut file, _) = ReplayFile::open(path, &stamp, |_| ()).unwrap();
        let expired = Record::Done {
            key: ReplayKey::from_bytes([0; 16]),
            keep: Keep::WholeWindow,
            uptime_ms: stamp.uptime_ms - 2 * 24 * 3_600_000,
        };
        if file.records() > 0 {
            file.append(&vec![expired; 10_000]).unwrap();
        }
    }
    let builder = keeping(app, path);
    let mut child = builder.command("run").stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_micros(rng.below(60_000) as u64));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Asks about every event of the round that ended in a kill, and gives those that are delivered now.
fn check(
    gate: &Gate,
    ledger: &Ledger,
    in_file: &HashSet<String>,
    sent: &[Sent],
    grown: &[Instant],
    tally: &mut Tally,
) -> Vec<Request> {
    let mut delivered = Vec::new();
    let killed = grown.last().copied();
    let certain = grown.len().checked_sub(2 + CERTAIN).map(|n| grown[n]);
    let mut sender = gate.connect();
    for Sent { event, answered } in sent {
        tally.events += 1;
        let known = lock(ledger).get(&event.body).cloned();
        let answer = sender.exchange(event);
        let duplicate = answer.text() == "Already processed";
        if answer.status == 200 {
            delivered.push(event.clone());
        }
        let Some(known) = known else {
            assert!(!duplicate, "the application has never seen it");
            continue;
        };
        assert!(!duplicate || known.said_yes, "{}: refused, but never taken", known.key);
        assert_eq!(duplicate, in_file.contains(&known.key), "{}: the file decides", known.key);
        let Some(answered) = answered else { continue };
        if certain.is_some_and(|certain| *answered < certain) {
            tally.certain += 1;
            assert!(duplicate, "{}: answered long before the kill, and forgotten", known.key);
        }
        if !duplicate {
            tally.lost.push(killed.unwrap() - *answered);
        }
    }
    delivered
}

/// Until the file holds what was asked about, so that no kill can be blamed for it.
fn wait_until_written(path: &Path, ledger: &Ledger, events: &[Request]) {
    let wanted: Vec<_> = events.iter().map(|event| lock(ledger)[&event.body].key.clone()).collect();
    support::until("the file to hold what is known", || {
        let keys = keys(path);
        wanted.iter().all(|key| keys.contains(key))
    });
}

/// Sends until the gate is dead. Tells what was sent, when the file was seen to grow, and last of
/// all when the gate was killed.
fn kill_under_load(gate: &Gate, path: &Path, rng: &mut Rng) -> (Vec<Sent>, Vec<Instant>) {
    let connections: Vec<_> = (0..SENDERS).map(|_| gate.connect()).collect();
    let senders: Vec<_> = connections
        .into_iter()
        .map(|mut sender| {
            std::thread::spawn(move || {
                let signer = Signer::github();
                let mut sent = Vec::new();
                loop {
                    let event = signer.event();
                    sender.send(event.bytes());
                    let Ok(answer) = sender.try_response() else {
                        sent.push(Sent { event, answered: None });
                        return sent;
                    };
                    let answered = (answer.status == 200).then(Instant::now);
                    sent.push(Sent { event, answered });
                    std::thread::sleep(Duration::from_millis(1)); // the other side has work too
                }
            })
        })
        .collect();
    let over = Arc::new(AtomicBool::new(false));
    let observer = std::thread::spawn({
        let (over, path) = (Arc::clone(&over), path.to_owned());
        move || {
            let (mut grown, mut length) = (Vec::new(), 0);
            while !over.load(Ordering::Relaxed) {
                let seen = Instant::now();
                let now = fs::metadata(&path).map_or(0, |file| file.len());
                if now != length {
                    grown.push(seen);
                    length = now;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            grown
        }
    });
    std::thread::sleep(Duration::from_micros(rng.within(1000..400_000) as u64));
    let killed = Instant::now();
    gate.signal("KILL");
    gate.ended();
    over.store(true, Ordering::Relaxed);
    let sent = senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();
    let mut grown = observer.join().unwrap();
    grown.retain(|at| *at < killed);
    grown.push(killed);
    (sent, grown)
}
