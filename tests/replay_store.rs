//! The contract of every replay store, written once and run against each of them.

#![allow(clippy::unwrap_used)]

#[path = "support/pure.rs"]
mod pure;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hookgate::clock::Now;
use hookgate::gate::answer::Reason;
use hookgate::gate::filter::freshness::Fresh;
use hookgate::gate::filter::replay::{ReplayPolicy, WINDOW_MARGIN};
use hookgate::store::{Claim, Memory, Outcome, ReplayStore, Reservation, Swept, Unavailable, Waiting};
use pure::{NOW, Provider};
use tokio::runtime::Builder;
use tokio::sync::Barrier;
use tokio::task::{JoinSet, yield_now};

/// One test for each claim, against the stores that `$open` makes.
macro_rules! contract {
    ($store:ident, $open:path) => {
        contract! { $store, $open:
            the_first_copy_leads_and_the_others_follow,
            a_delivered_event_is_done_until_the_window_is_over,
            a_failed_event_is_free_again,
            a_lease_that_ended_holds_nothing,
            a_late_token_has_no_power,
            followers_are_told_how_the_delivery_ended,
            a_wait_that_is_over_before_the_delivery_says_nothing,
            dropping_a_claim_releases_its_event,
            a_full_store_refuses_what_is_new_and_forgets_nothing,
            a_sweep_forgets_what_has_expired_and_nothing_else,
            under_pressure_only_what_would_be_stale_is_forgotten,
            one_of_many_racing_copies_leads,
            a_leader_that_fails_hands_over_to_one,
        }
    };
    ($store:ident, $open:path: $($claim:ident,)*) => {
        mod $store {
            $(#[test]
            fn $claim() {
                super::$claim($open);
            })*
        }
    };
}

contract!(memory, super::open_memory);

fn open_memory(terms: Terms) -> ReplayStore {
    let policy = ReplayPolicy::new(WINDOW, TOLERANCES, terms.exchange, terms.exchange).unwrap();
    ReplayStore::Memory(Memory::new(policy, STALE_AFTER, terms.capacity))
}

type Open = fn(Terms) -> ReplayStore;

/// What the claims vary.
#[derive(Clone, Copy)]
struct Terms {
    /// How long a delivery may take: followers wait as long, and the lease is five seconds longer.
    exchange: Duration,
    capacity: usize,
}

const TERMS: Terms = Terms { exchange: Duration::from_secs(10), capacity: 1000 };
const LEASE: u64 = 15;
const WINDOW: Duration = Duration::from_secs(3600);
const TOLERANCES: Duration = Duration::from_secs(600);
/// When a signed time refuses a replay by itself.
const STALE_AFTER: Duration = TOLERANCES.saturating_add(WINDOW_MARGIN);
const FAILED: Outcome = Outcome::Failed { reason: Reason::UpstreamFailed, status: 500 };

fn the_first_copy_leads_and_the_others_follow(open: Open) {
    let (store, event, other) = (open(TERMS), timed("event"), timed("other"));
    let _claim = lead(&store, &event, 0);
    assert_eq!(found(&store, &event, 0), Found::Follow);
    assert_eq!(found(&store, &event, LEASE - 1), Found::Follow);
    assert_eq!(found(&store, &other, 0), Found::Lead, "another event is none of its business");
}

fn a_delivered_event_is_done_until_the_window_is_over(open: Open) {
    for event in [timed("event"), untimed("event")] {
        let store = open(TERMS);
        lead(&store, &event, 0).settle(Outcome::Delivered, at(1));
        let over = 1 + WINDOW.as_secs();
        assert_eq!(found(&store, &event, 1), Found::Done);
        assert_eq!(found(&store, &event, over - 1), Found::Done);
        assert_eq!(found(&store, &event, over), Found::Lead, "the window is over");
    }
}

fn a_failed_event_is_free_again(open: Open) {
    let (store, event) = (open(TERMS), timed("event"));
    for attempt in 0..3 {
        lead(&store, &event, attempt).settle(FAILED, at(attempt));
        assert_eq!(store.entries(), 0, "nothing is remembered of a failure");
    }
}

fn a_lease_that_ended_holds_nothing(open: Open) {
    let (store, event) = (open(TERMS), timed("event"));
    let _lost = lead(&store, &event, 0);
    let _claim = lead(&store, &event, LEASE);
    assert_eq!(found(&store, &event, LEASE), Found::Follow, "the second lease has begun");
}

fn a_late_token_has_no_power(open: Open) {
    for late_outcome in [Outcome::Delivered, FAILED] {
        let (store, event) = (open(TERMS), timed("event"));
        let late = lead(&store, &event, 0);
        let claim = lead(&store, &event, LEASE);
        late.settle(late_outcome, at(LEASE));
        assert_eq!(found(&store, &event, LEASE), Found::Follow, "{late_outcome:?} settles nothing");
        claim.settle(Outcome::Delivered, at(LEASE));

        let (store, event) = (open(TERMS), timed("event"));
        let late = lead(&store, &event, 0);
        lead(&store, &event, LEASE).settle(Outcome::Delivered, at(LEASE));
        late.settle(late_outcome, at(LEASE));
        assert_eq!(found(&store, &event, LEASE), Found::Done, "{late_outcome:?} undoes nothing");
    }
}

fn followers_are_told_how_the_delivery_ended(open: Open) {
    let unavailable = Outcome::Failed { reason: Reason::UpstreamFailed, status: 503 };
    let timeout = Outcome::Failed { reason: Reason::UpstreamTimeout, status: 504 };
    for outcome in [Outcome::Delivered, unavailable, timeout] {
        let (store, event) = (open(TERMS), timed("event"));
        let claim = lead(&store, &event, 0);
        let followers = [(); 3].map(|()| follow(&store, &event, 0));
        claim.settle(outcome, at(1));
        for follower in followers {
            assert_eq!(told(follower), Some(outcome));
        }
    }
}

fn a_wait_that_is_over_before_the_delivery_says_nothing(open: Open) {
    let (store, event) = (open(Terms { exchange: Duration::ZERO, ..TERMS }), timed("event"));
    let claim = lead(&store, &event, 0);
    assert_eq!(told(follow(&store, &event, 0)), None);
    claim.settle(Outcome::Delivered, at(0));
}

fn dropping_a_claim_releases_its_event(open: Open) {
    let (store, event) = (open(TERMS), timed("event"));
    let claim = lead(&store, &event, 0);
    let follower = follow(&store, &event, 0);
    drop(claim);
    let unknown = Outcome::Failed { reason: Reason::UpstreamFailed, status: 502 };
    assert_eq!(told(follower), Some(unknown), "followers do not wait for nothing");
    assert_eq!(found(&store, &event, 0), Found::Lead, "lost would be worse than twice");
}

fn a_full_store_refuses_what_is_new_and_forgets_nothing(open: Open) {
    let store = open(Terms { capacity: 2, ..TERMS });
    let (done, held, new) = (timed("done"), timed("held"), timed("new"));
    lead(&store, &done, 0).settle(Outcome::Delivered, at(0));
    assert!(store.is_usable());
    let claim = lead(&store, &held, 0);

    assert!(!store.is_usable());
    assert_eq!(found(&store, &new, 0), Found::Unavailable);
    assert_eq!(found(&store, &done, 0), Found::Done);
    assert_eq!(found(&store, &held, 0), Found::Follow);
    assert_eq!(store.entries(), 2);

    claim.settle(FAILED, at(0));
    assert_eq!(found(&store, &new, 0), Found::Lead, "a release makes room");
}

fn a_sweep_forgets_what_has_expired_and_nothing_else(open: Open) {
    let (store, over) = (open(TERMS), WINDOW.as_secs());
    let (early, late, held) = (timed("early"), timed("late"), timed("held"));
    lead(&store, &early, 0).settle(Outcome::Delivered, at(0));
    lead(&store, &late, 1).settle(Outcome::Delivered, at(1));
    let _claim = lead(&store, &held, over - 1);

    assert_eq!(store.sweep(at(over - 1)), Swept::default(), "nothing has expired yet");
    assert_eq!(store.sweep(at(over)), Swept { expired: 1, capacity: 0 });
    assert_eq!(store.entries(), 2);
    assert_eq!(found(&store, &late, over), Found::Done);
    assert_eq!(found(&store, &held, over), Found::Follow);
}

fn under_pressure_only_what_would_be_stale_is_forgotten(open: Open) {
    let stale = STALE_AFTER.as_secs();
    let (signed, unsigned, held) = (timed("signed"), untimed("unsigned"), timed("held"));
    for (capacity, forgotten) in [(1000, 0), (3, 1)] {
        let store = open(Terms { capacity, ..TERMS });
        lead(&store, &signed, 0).settle(Outcome::Delivered, at(0));
        lead(&store, &unsigned, 0).settle(Outcome::Delivered, at(0));
        let _claim = lead(&store, &held, stale - 1);

        assert_eq!(store.sweep(at(stale - 1)), Swept::default(), "a replay of any would still be fresh");
        assert_eq!(store.sweep(at(stale)), Swept { expired: 0, capacity: forgotten }, "of {capacity}");
        assert_eq!(store.entries(), 3 - forgotten);
        assert_eq!(found(&store, &unsigned, stale), Found::Done, "nothing else would refuse its replay");
        assert_eq!(found(&store, &held, stale), Found::Follow, "it is under way");
    }
}

fn one_of_many_racing_copies_leads(open: Open) {
    let leads = races(&open(TERMS), 0);
    assert!(leads.iter().all(|leads| *leads == 1), "deliveries of each event: {leads:?}");
}

fn a_leader_that_fails_hands_over_to_one(open: Open) {
    let leads = races(&open(TERMS), 3);
    assert!(leads.iter().all(|leads| *leads == 4), "three failures, so four deliveries of each: {leads:?}");
}

const COPIES: usize = 64;
const ROUNDS: usize = 300;

/// In each round, sends copies of one event at once. Its first deliveries fail, as many as
/// `failures`. Gives the number of deliveries that were tried in each round.
fn races(store: &ReplayStore, failures: usize) -> Vec<usize> {
    let runtime = Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    let leads = (0..ROUNDS).map(|round| {
        let race = Race {
            store: store.clone(),
            event: timed(&round.to_string()),
            start: Barrier::new(COPIES),
            leads: AtomicUsize::new(0),
            failures,
            pace: round % 10,
        };
        runtime.block_on(race.run())
    });
    let leads = leads.collect();
    assert_eq!(store.entries(), ROUNDS, "each event is remembered once");
    leads
}

struct Race {
    store: ReplayStore,
    event: Fresh,
    start: Barrier,
    leads: AtomicUsize,
    failures: usize,
    /// How often a delivery lets others run before it ends: from nobody follows to everybody does.
    pace: usize,
}

impl Race {
    async fn run(self) -> usize {
        let race = Arc::new(self);
        let mut copies = JoinSet::new();
        for _ in 0..COPIES {
            let race = Arc::clone(&race);
            copies.spawn(async move { race.copy().await });
        }
        copies.join_all().await;
        race.leads.load(Ordering::SeqCst)
    }

    /// One copy and its retries, until the event is delivered by it or by another.
    async fn copy(&self) {
        self.start.wait().await;
        loop {
            match reserve(&self.store, &self.event, 0).unwrap() {
                Reservation::Lead(claim) => {
                    let delivered = self.leads.fetch_add(1, Ordering::SeqCst) >= self.failures;
                    for _ in 0..self.pace {
                        yield_now().await;
                    }
                    claim.settle(if delivered { Outcome::Delivered } else { FAILED }, at(0));
                    if delivered {
                        return;
                    }
                }
                Reservation::Follow(waiting) => match waiting.outcome().await {
                    Some(Outcome::Delivered) => return,
                    Some(FAILED) if self.failures > 0 => {}
                    told => panic!("a follower was told {told:?}"),
                },
                Reservation::Done => return,
            }
        }
    }
}

/// What a copy finds. A lead that it is given is dropped, which releases the event.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Lead,
    Follow,
    Done,
    Unavailable,
}

fn found(store: &ReplayStore, event: &Fresh, seconds: u64) -> Found {
    match reserve(store, event, seconds) {
        Ok(Reservation::Lead(_)) => Found::Lead,
        Ok(Reservation::Follow(_)) => Found::Follow,
        Ok(Reservation::Done) => Found::Done,
        Err(Unavailable) => Found::Unavailable,
    }
}

fn lead(store: &ReplayStore, event: &Fresh, seconds: u64) -> Claim {
    match reserve(store, event, seconds) {
        Ok(Reservation::Lead(claim)) => claim,
        _ => panic!("at {seconds} s nobody holds the event, and there is room"),
    }
}

fn follow(store: &ReplayStore, event: &Fresh, seconds: u64) -> Waiting {
    match reserve(store, event, seconds) {
        Ok(Reservation::Follow(waiting)) => waiting,
        _ => panic!("at {seconds} s the event is held"),
    }
}

fn reserve(store: &ReplayStore, event: &Fresh, seconds: u64) -> Result<Reservation, Unavailable> {
    store.reserve(event, at(seconds))
}

fn told(follower: Waiting) -> Option<Outcome> {
    Builder::new_current_thread().enable_time().build().unwrap().block_on(follower.outcome())
}

fn at(seconds: u64) -> Now {
    Now::at(NOW, seconds)
}

fn timed(id: &str) -> Fresh {
    Provider::timed().fresh(id)
}

fn untimed(id: &str) -> Fresh {
    Provider::untimed().fresh(id)
}
