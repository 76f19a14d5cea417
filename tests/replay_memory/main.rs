//! What a million remembered events cost: the embedded store's memory, counted by the allocator.
//! It counts the whole process, so no other test may run in it.

#[allow(dead_code, reason = "a part of it; `gate` shows what nobody uses")]
#[path = "../support/pure.rs"]
mod pure;

use std::alloc::System;
use std::thread;
use std::time::Duration;

use cap::Cap;
use hookgate::clock::Now;
use hookgate::gate::filter::replay::ReplayPolicy;
use hookgate::store::{Memory, Outcome, ReplayStore, Reservation};
use pure::{NOW, Provider, at_once, fresh};

/// Counts live bytes; its limit is never reached.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// The default capacity.
const EVENTS: usize = 1_000_000;
const MOST_BYTES: usize = 64;

#[test]
fn a_remembered_event_costs_at_most_64_bytes() {
    let seconds = Duration::from_secs;
    let policy =
        ReplayPolicy::new(seconds(86_400), seconds(600), seconds(20), seconds(10)).expect("a sane window");

    let before = ALLOCATOR.allocated();
    let store = ReplayStore::Memory(Memory::new(policy, seconds(660), EVENTS));
    fill(&store);
    let bytes = (ALLOCATOR.allocated() - before).div_ceil(EVENTS);

    assert_eq!(store.entries(), EVENTS);
    println!("{bytes} bytes of live memory for each of {EVENTS} events");
    assert!(bytes <= MOST_BYTES, "{bytes} bytes for each event, more than {MOST_BYTES}");
}

/// Remembers [`EVENTS`] deliveries as done. Proofs are slow to make without optimisation,
/// so it signs once, takes that for another event on each route, and shares the work.
fn fill(store: &ReplayStore) {
    const WORKERS: usize = 4;
    let now = Now::at(NOW, 0);
    let provider = Provider::timed();
    let delivery = provider.delivery("event", b"{}");
    let work = |first: usize| {
        for n in (first..EVENTS).step_by(WORKERS) {
            match at_once(store.reserve(&fresh(delivery.judged_on(&n.to_string(), &provider.signature)), now))
            {
                Ok(Reservation::Lead(claim)) => at_once(claim.settle(Outcome::Delivered, now)),
                _ => panic!("event {n} is new, and there is room for it"),
            }
        }
    };
    thread::scope(|scope| {
        for first in 0..WORKERS {
            scope.spawn(move || work(first));
        }
    });
}
