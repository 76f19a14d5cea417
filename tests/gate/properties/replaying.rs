//! The replay memory beside a model of it: between two leads of an event stands a failed
//! delivery or the end of its time. The bare transitions and the embedded store are both
//! held to the model.

use std::collections::HashMap;
use std::time::Duration;

use hookgate::clock::Now;
use hookgate::gate::filter::freshness::Fresh;
use hookgate::gate::filter::replay::{Entry, Found, HolderId, Keep, ReplayPolicy};
use hookgate::gate::reason::Reason;
use hookgate::store::{Claim, Memory, Outcome, ReplayStore, Reservation, Unavailable};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestCaseResult;

use super::kept;
use crate::pure::{NOW, Provider, at_once};

proptest! {
    #![proptest_config(kept())]

    #[test]
    fn the_transitions_are_those_of_the_model(steps in steps()) {
        compare(&mut Transitions::default(), &steps)?;
    }

    #[test]
    fn the_embedded_store_remembers_what_the_model_does(steps in steps()) {
        compare(&mut Embedded::new(), &steps)?;
    }

    /// The model counts whole seconds, and so do entries: they round up.
    #[test]
    fn nothing_is_forgotten_early_nor_a_second_too_late(now in any_time(), lease in any_time()) {
        let (_, entry) = Entry::reserve(None, 1, now, lease);
        let end = now + lease;
        prop_assert!(!entry.expired(end.saturating_sub(Duration::from_nanos(1))) || end.is_zero());
        prop_assert!(entry.expired(end + Duration::from_secs(1)));
    }
}

/// What can happen.
#[derive(Clone, Copy, Debug)]
enum Step {
    Reserve {
        event: usize,
    },
    /// One of the deliveries that are under way ends, be its lease over or not.
    Settle {
        which: Index,
        delivered: bool,
    },
    Wait {
        seconds: u64,
    },
    Sweep,
}

/// Few, so that copies meet.
const EVENTS: usize = 3;
const LEASE: u64 = 5;
const WINDOW: u64 = 60;

fn compare(memory: &mut impl Remembers, steps: &[Step]) -> TestCaseResult {
    let mut model = Model::default();
    let mut in_flight = vec![];
    let (mut leads, mut now) = (0, 0);
    for step in steps {
        match *step {
            Step::Reserve { event } => {
                leads += 1;
                let expected = model.reserve(event, leads, now);
                prop_assert_eq!(memory.reserve(event, leads, now), expected, "at {} s", now);
                if expected == Seen::Lead {
                    in_flight.push((event, leads));
                }
            }
            Step::Settle { which, delivered } if !in_flight.is_empty() => {
                let (event, lead) = in_flight.swap_remove(which.index(in_flight.len()));
                model.settle(event, lead, delivered, now);
                memory.settle(event, lead, delivered, now);
            }
            Step::Settle { .. } => {}
            Step::Wait { seconds } => now += seconds,
            Step::Sweep => {
                model.sweep(now);
                memory.sweep(now);
            }
        }
        prop_assert_eq!(memory.entries(), model.entries(), "remembered at {} s", now);
    }
    Ok(())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..EVENTS).prop_map(|event| Step::Reserve { event }),
        3 => any::<(Index, bool)>().prop_map(|(which, delivered)| Step::Settle { which, delivered }),
        2 => prop_oneof![0..=LEASE + 1, WINDOW - 1..=WINDOW].prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Sweep),
    ];
    vec(step, 0..60)
}

fn any_time() -> impl Strategy<Value = Duration> {
    (0u64..1_000_000, 0u32..1_000_000_000).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

/// A replay memory, with a number for each lead and whole seconds for time.
trait Remembers {
    fn reserve(&mut self, event: usize, lead: HolderId, now: u64) -> Seen;
    fn settle(&mut self, event: usize, lead: HolderId, delivered: bool, now: u64);
    fn sweep(&mut self, now: u64);
    fn entries(&self) -> usize;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Lead,
    Follow,
    Done,
}

/// The simplest memory that keeps the contract: what is known of each event, and until when.
#[derive(Default)]
struct Model(HashMap<usize, (Known, u64)>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    HeldBy(HolderId),
    Done,
}

impl Remembers for Model {
    fn reserve(&mut self, event: usize, lead: HolderId, now: u64) -> Seen {
        match self.0.get(&event) {
            Some((Known::HeldBy(_), until)) if now < *until => Seen::Follow,
            Some((Known::Done, until)) if now < *until => Seen::Done,
            Some(_) | None => {
                self.0.insert(event, (Known::HeldBy(lead), now + LEASE));
                Seen::Lead
            }
        }
    }

    fn settle(&mut self, event: usize, lead: HolderId, delivered: bool, now: u64) {
        let held = self.0.get(&event).is_some_and(|(known, _)| *known == Known::HeldBy(lead));
        if held && delivered {
            self.0.insert(event, (Known::Done, now + WINDOW));
        } else if held {
            self.0.remove(&event);
        }
    }

    fn sweep(&mut self, now: u64) {
        self.0.retain(|_, (_, until)| now < *until);
    }

    fn entries(&self) -> usize {
        self.0.len()
    }
}

/// The pure transitions, on a map.
#[derive(Default)]
struct Transitions(HashMap<usize, Entry>);

impl Remembers for Transitions {
    fn reserve(&mut self, event: usize, lead: HolderId, now: u64) -> Seen {
        let stored = self.0.get(&event).copied();
        let (found, entry) = Entry::reserve(stored, lead, seconds(now), seconds(LEASE));
        self.0.insert(event, entry);
        match found {
            Found::Lead => Seen::Lead,
            Found::Follow(_) => Seen::Follow,
            Found::Done => Seen::Done,
        }
    }

    fn settle(&mut self, event: usize, lead: HolderId, delivered: bool, now: u64) {
        let delivered = delivered.then_some(Keep::UntilStale);
        let stored = self.0.remove(&event);
        let entry = Entry::settle(stored, lead, delivered, seconds(now), seconds(WINDOW));
        self.0.extend(entry.map(|entry| (event, entry)));
    }

    fn sweep(&mut self, now: u64) {
        self.0.retain(|_, entry| !entry.expired(seconds(now)));
    }

    fn entries(&self) -> usize {
        self.0.len()
    }
}

/// The embedded store, with the claims that it gave.
struct Embedded {
    store: ReplayStore,
    events: Vec<Fresh>,
    claims: HashMap<HolderId, Claim>,
}

impl Embedded {
    fn new() -> Self {
        let exchange = seconds(0); // the lease is five seconds longer
        let policy = ReplayPolicy::new(seconds(WINDOW), seconds(0), exchange, exchange).unwrap();
        let provider = Provider::timed();
        Embedded {
            store: ReplayStore::Memory(Memory::new(policy, seconds(WINDOW), 1000)),
            events: (0..EVENTS).map(|event| provider.fresh(&event.to_string())).collect(),
            claims: HashMap::new(),
        }
    }
}

impl Remembers for Embedded {
    fn reserve(&mut self, event: usize, lead: HolderId, now: u64) -> Seen {
        match at_once(self.store.reserve(&self.events[event], Now::at(NOW, now))) {
            Ok(Reservation::Lead(claim)) => {
                self.claims.insert(lead, claim);
                Seen::Lead
            }
            Ok(Reservation::Follow(_)) => Seen::Follow,
            Ok(Reservation::Done) => Seen::Done,
            Err(Unavailable) => panic!("there is room for {EVENTS} events"),
        }
    }

    fn settle(&mut self, _: usize, lead: HolderId, delivered: bool, now: u64) {
        let failed = Outcome::Failed { reason: Reason::UpstreamFailed, status: 500 };
        let claim = self.claims.remove(&lead).unwrap();
        at_once(claim.settle(if delivered { Outcome::Delivered } else { failed }, Now::at(NOW, now)));
    }

    fn sweep(&mut self, now: u64) {
        self.store.sweep(Now::at(NOW, now));
    }

    fn entries(&self) -> usize {
        self.store.entries()
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
