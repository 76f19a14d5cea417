//! Random histories: whatever senders, the courier, operators and restarts do to the same few events, every
//! engine holds what the table of states says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hookgate::inbox::database::Kept;
use hookgate::inbox::state::{Happens, State};
use hookgate::inbox::{Attempted, Due, Id, Inbox};

use crate::fixture::{Folder, ROUTE, World, all, event, key, open, said_of};
use crate::rng::{Rng, given};

const EVENTS: usize = 8;
const LEASE: Duration = Duration::from_secs(15);
const LEASE_MS: i64 = 15_000;

/// What the table says there is of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    id: Id,
    state: State,
    attempts: u32,
    due_ms: i64,
    leased: bool,
}

/// An attempt that somebody believes to be his.
struct Out {
    number: u64,
    due: Due,
}

#[test]
fn every_history_follows_the_table() {
    let seed = given("HOOKGATE_TEST_SEED").unwrap_or(15);
    let runs = given("HOOKGATE_TEST_RUNS").unwrap_or(40);
    for run in 0..runs {
        let seed = seed.wrapping_add(run);
        for world in World::each() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(history(&world, Rng::new(seed), seed));
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one arm for each thing that can happen")]
async fn history(world: &World, mut rng: Rng, seed: u64) {
    let mut inbox = world.open();
    let mut table = BTreeMap::<u64, Record>::new();
    let mut done = BTreeSet::new();
    let mut out = Vec::<Out>::new();
    let (mut now, mut ids) = (1_000_000_i64, BTreeSet::new());
    for step in 0..120 {
        now += i64::try_from(rng.below(4000)).unwrap();
        let number = u64::try_from(rng.below(EVENTS)).unwrap();
        let at = format!("seed {seed}, step {step}, event {number}");
        let before = table.get(&number).copied();
        match rng.below(13) {
            0..4 => {
                let mut event = event(number);
                event.due_ms = now;
                let stored = inbox.store(event).await.unwrap();
                let is_stored = before.is_some_and(|record| record.state == State::Stored);
                // The store of a fleet has the replay memory as well.
                let is_copy = is_stored || world.is_shared() && done.contains(&number);
                assert_eq!(stored.copy, is_copy, "{at}: only a copy of a stored event is one");
                if !is_copy {
                    let listed = all(&inbox).await;
                    let id = listed.iter().find(|record| record.key == key(number)).unwrap().id;
                    assert!(ids.insert(id), "{at}: a record has a number of its own");
                    let state = State::after(before.map(|record| record.state), Happens::Store).unwrap();
                    table.insert(number, Record { id, state, attempts: 0, due_ms: now, leased: false });
                } else if !is_stored && before.is_some() {
                    // A dead one makes room before it shows that it is done.
                    table.remove(&number);
                }
            }
            4..7 => {
                let most = 1 + rng.below(3);
                let claimed = inbox.claim(ROUTE, now, LEASE, most).await.unwrap();
                let mut expected: Vec<u64> = (table.iter())
                    .filter(|(_, record)| record.state == State::Stored && record.due_ms <= now)
                    .map(|(number, _)| *number)
                    .collect();
                expected.sort_by_key(|number| table[number].due_ms);
                assert_eq!(claimed.len(), expected.len().min(most), "{at}: what is due is claimed");
                for due in claimed {
                    let number = (0..EVENTS as u64).find(|number| key(*number) == due.key).unwrap();
                    let record = table.get_mut(&number).unwrap();
                    assert!(record.due_ms <= now, "{at}: {number} is not due");
                    record.attempts += 1;
                    record.leased = true;
                    record.due_ms = now + LEASE_MS;
                    if world.is_shared() {
                        // It has no start at which that could be judged.
                        record.due_ms += longer(record.attempts);
                    }
                    assert_eq!((due.id, due.attempt), (record.id, record.attempts), "{at}");
                    assert_eq!((&due.head, &due.body), (&event(number).head, &event(number).body), "{at}");
                    out.push(Out { number, due });
                }
            }
            7..10 if !out.is_empty() => {
                // Settled now, or kept to be settled late, after the lease or after a restart.
                let Out { number, due } = out.swap_remove(rng.below(out.len()));
                let record = table.get(&number).copied();
                let is_ours = record.is_some_and(|record| {
                    record.id == due.id
                        && record.attempts == due.attempt
                        && record.leased
                        && record.state == State::Stored
                });
                let later = now + i64::try_from(rng.below(9000)).unwrap();
                let (came_to, happens) = match rng.below(3) {
                    0 => (Attempted::Done, Happens::Done),
                    1 => (Attempted::Later { due_ms: later, outcome: "503".into() }, Happens::Later),
                    _ => (Attempted::Dead { outcome: "410".into() }, Happens::GivenUp),
                };
                let settled = inbox.settle(due.id, due.attempt, came_to, now).await.unwrap();
                assert_eq!(settled, is_ours, "{at}: only the last attempt decides of {number}");
                if is_ours {
                    match State::after(Some(State::Stored), happens) {
                        Some(state) => {
                            let record = table.get_mut(&number).unwrap();
                            (record.state, record.leased) = (state, false);
                            if happens == Happens::Later {
                                record.due_ms = later;
                            }
                        }
                        None => {
                            table.remove(&number);
                            done.insert(number);
                        }
                    }
                }
            }
            10 => {
                let Some(Record { id, state, leased, .. }) = before else { continue };
                let replayed = inbox.replay(id, now, now + 7).await.unwrap();
                assert_eq!(replayed.unwrap(), [key(number)], "{at}: its names are told");
                let record = table.get_mut(&number).unwrap();
                record.state = State::after(Some(state), Happens::Replay).unwrap();
                if !leased {
                    record.due_ms = now + 7;
                }
            }
            11 => match rng.below(2) {
                0 => {
                    let Some(Record { id, .. }) = before else { continue };
                    assert_eq!(inbox.discard(id).await.unwrap().unwrap(), [key(number)], "{at}");
                    table.remove(&number);
                }
                _ => {
                    inbox.overtaken(&[key(number)]).await.unwrap();
                    if let Some(record) = before
                        && State::after(Some(record.state), Happens::Overtaken).is_none()
                    {
                        table.remove(&number);
                    }
                }
            },
            _ => {
                drop(inbox);
                inbox = match world {
                    World::Embedded(folder) => restart(folder, &mut table, &done, &at),
                    // Another gate: what is under way at others is not touched.
                    World::Shared(server) => {
                        for number in 0..EVENTS as u64 {
                            let says = said_of(server, key(number));
                            let is_stored = table.get(&number).is_some_and(|r| r.state == State::Stored);
                            assert_eq!(says.starts_with('s'), is_stored, "{at}: {number} is {says:?}");
                            assert_eq!(says == "d", !is_stored && done.contains(&number), "{at}: {number}");
                        }
                        world.open()
                    }
                };
            }
        }
        let listed = all(&inbox).await;
        let found: BTreeMap<Id, (State, u32)> =
            listed.iter().map(|record| (record.id, (record.state, record.attempts))).collect();
        let expected: BTreeMap<Id, (State, u32)> =
            table.values().map(|record| (record.id, (record.state, record.attempts))).collect();
        assert_eq!(found, expected, "{at}");
        let depth = inbox.depths().get(ROUTE).copied().unwrap_or_default();
        let count = |state| table.values().filter(|record| record.state == state).count() as u64;
        assert_eq!((depth.stored, depth.dead), (count(State::Stored), count(State::Dead)), "{at}");
        let bytes: u64 = table.keys().map(|number| event(*number).size()).sum();
        assert_eq!((depth.bytes, inbox.bytes()), (bytes, bytes), "{at}");
        let oldest = table.iter().filter(|(_, record)| record.state == State::Stored);
        let oldest = oldest.map(|(number, _)| event(*number).received_ms).min();
        assert_eq!(depth.oldest_ms, oldest, "{at}");
    }
}

/// What is under way is due at once, and the copies of what is stored or done are known.
fn restart(folder: &Folder, table: &mut BTreeMap<u64, Record>, done: &BTreeSet<u64>, at: &str) -> Inbox {
    let (inbox, opened, names) = open(&folder.0);
    let leased = table.values().filter(|record| record.leased).count();
    assert_eq!(opened.interrupted, leased as u64, "{at}: attempts are counted over a restart");
    for record in table.values_mut().filter(|record| record.leased) {
        let again = longer(record.attempts);
        (record.leased, record.due_ms) = (false, again);
    }
    for number in 0..EVENTS as u64 {
        let is =
            |wanted: fn(&Kept) -> bool| names.iter().any(|(name, kept)| *name == key(number) && wanted(kept));
        let is_stored = is(|kept| matches!(kept, Kept::Stored(_)));
        let expected = table.get(&number).is_some_and(|record| record.state == State::Stored);
        assert_eq!(is_stored, expected, "{at}: a copy of {number} is known while it is stored");
        let is_done = is(|kept| matches!(kept, Kept::Done { .. }));
        assert_eq!(is_done, done.contains(&number), "{at}: what was delivered is remembered");
    }
    inbox
}

/// What is under way at each crash waits longer each time.
fn longer(attempts: u32) -> i64 {
    attempts.checked_sub(3).map_or(0, |more| 1000 << more.min(11))
}
