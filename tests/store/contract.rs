//! The contract of every replay store, written once and run against each of them.
//!
//! Time is the test's: the embedded store is told what time it is, and for Redis, which
//! decides by its own clock, every expiry is taken off its keys and kept here.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hookgate::clock::Now;
use hookgate::gate::filter::freshness::{self, Fresh};
use hookgate::gate::filter::replay::{Forgotten, ReplayPolicy, WINDOW_MARGIN};
use hookgate::gate::filter::signature::Signature;
use hookgate::gate::reason::Reason;
use hookgate::gate::scheme::Recipe;
use hookgate::gate::scheme::sign::Unsigned;
use hookgate::store::redis::Settings;
use hookgate::store::{Claim, Memory, Outcome, Redis, ReplayStore, Reservation, Swept, Unavailable, Waiting};
use redis::Commands;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Barrier;
use tokio::task::{JoinSet, yield_now};

use crate::pure::{self, NOW, Provider};
use crate::redis_server;

/// One test for each claim, against the stores that `$open` makes, where they can be made.
macro_rules! contract {
    ($store:ident, $open:path, $possible:expr; $($more:ident),*) => {
        contract! { $store, $open, $possible =>
            the_first_copy_leads_and_the_others_follow,
            a_delivered_event_is_done_until_the_window_is_over,
            a_window_of_its_own_counts_whatever_that_of_the_others_is,
            a_failed_event_is_free_again,
            a_lease_that_ended_holds_nothing,
            a_late_token_has_no_power,
            followers_are_told_how_the_delivery_ended,
            a_wait_that_is_over_before_the_delivery_says_nothing,
            dropping_a_claim_releases_its_event,
            one_of_many_racing_copies_leads,
            a_leader_that_fails_hands_over_to_one,
            what_an_operator_lets_go_leads_again,
            an_event_with_two_names_is_held_by_both_or_by_none,
            $($more,)*
        }
    };
    ($store:ident, $open:path, $possible:expr => $($claim:ident,)*) => {
        mod $store {
            $(#[test]
            fn $claim() {
                if $possible {
                    super::$claim($open);
                }
            })*
        }
    };
}

contract! { in_memory, super::World::embedded, true;
    a_full_store_refuses_what_is_new_and_forgets_nothing,
    a_sweep_forgets_what_has_expired_and_nothing_else,
    under_pressure_only_what_would_be_stale_is_forgotten
}

contract! { in_redis, super::World::shared, super::redis_server::installed();
    the_clocks_of_gates_decide_nothing,
    what_was_delivered_is_done_although_the_store_forgot,
    a_follower_whose_leader_vanished_is_told_nothing,
    what_others_left_under_our_key_is_never_taken_for_a_state,
    what_the_inbox_has_is_done_for_its_copies,
    forgotten_scripts_are_sent_again
}

type Open = fn(Terms) -> World;

/// Done becomes absent; what is held goes on.
fn what_an_operator_lets_go_leads_again(open: Open) {
    let (world, event) = (open(TERMS), timed("event"));
    let key = event.authentic().identity().unwrap().told();
    let forget = |seconds| {
        let forgotten = world.at(seconds, |now| world.runtime.block_on(world.store.forget(key, now)));
        forgotten.unwrap()
    };
    assert_eq!(forget(0), Forgotten::Nothing);
    let claim = world.lead(&event, 0);
    assert_eq!(forget(0), Forgotten::Held);
    world.settle(claim, Outcome::Delivered, 1);
    assert_eq!(world.found(&event, 1), Found::Done);
    assert_eq!(forget(1), Forgotten::Done);
    assert_eq!(world.found(&event, 1), Found::Lead);
}

/// A provider that signs in two forms, and names an event by a header in one and by the body in the
/// other: a delivery under the first has both names, one under the second the body's.
fn an_event_with_two_names_is_held_by_both_or_by_none(open: Open) {
    let provider = TwoForms::new();
    for (header, body) in [("a", "b"), ("b", "a"), ("one", "two"), ("two", "one")] {
        let world = open(TERMS);
        let (first, second) = (|h, b| provider.first(h, b), |b| provider.second(b));
        let claim = world.lead(&first(header, body), 0);
        assert_eq!(world.found(&second(body), 0), Found::Follow, "the second form");
        assert_eq!(world.found(&first("other", body), 0), Found::Follow, "another header");
        assert_eq!(world.found(&first(header, "other"), 0), Found::Follow, "another body");
        for free in [first("other", "other"), second("other")] {
            let claim = world.lead(&free, 0);
            world.settle(claim, FAILED, 0);
        }
        world.settle(claim, FAILED, 1);
        let claim = world.lead(&second(body), 1);
        assert_eq!(world.found(&first(header, body), 1), Found::Follow);
        world.settle(claim, FAILED, 1);
        let claim = world.lead(&first(header, body), 1);
        world.settle(claim, Outcome::Delivered, 2);
        for done in [first(header, body), second(body), first("other", body), first(header, "other")] {
            assert_eq!(world.found(&done, 3), Found::Done);
        }
        let claim = world.lead(&first("other", "other"), 3);
        world.settle(claim, FAILED, 3);
    }
}

struct TwoForms {
    recipes: [Recipe; 2],
    signature: Signature,
}

impl TwoForms {
    const KEY: &'static [u8] = b"sixteen bytes or more";

    fn new() -> Self {
        let recipes = [
            "{ algorithm: hmac-sha256, signature: { from: 'header:x-first', encoding: hex },
               content: '{header:x-id}.{body}', id: 'header:x-id' }",
            "{ algorithm: hmac-sha256, signature: { from: 'header:x-second', encoding: hex },
               content: '{body}', id: 'json:/id' }",
        ]
        .map(pure::recipe);
        let schemes =
            recipes.each_ref().map(|recipe| pure::signature(recipe, &[Self::KEY]).schemes()[0].clone());
        TwoForms { recipes, signature: Signature::new(schemes.to_vec()) }
    }

    fn first(&self, header: &str, body: &str) -> Fresh {
        self.sent(0, header, body)
    }

    fn second(&self, body: &str) -> Fresh {
        self.sent(1, "no header", body)
    }

    fn sent(&self, form: usize, header: &str, body: &str) -> Fresh {
        let recipe = &self.recipes[form];
        let body = format!(r#"{{"id":"{body}"}}"#);
        let unsigned = Unsigned { id: header, time_ms: NOW * 1000, body: body.as_bytes() };
        let signed = recipe.sign(&recipe.signer(Self::KEY).unwrap(), unsigned).unwrap();
        let authentic = pure::Delivery::sent(signed).judged_by(&self.signature).unwrap();
        freshness::check(authentic, Now::at(NOW, 0)).unwrap()
    }
}

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
/// Of routes that have one, shorter and longer.
const OWN_WINDOWS: [Duration; 2] = [Duration::from_secs(700), Duration::from_secs(86_400)];
const TOLERANCES: Duration = Duration::from_secs(600);
/// When a signed time refuses a replay by itself.
const STALE_AFTER: Duration = TOLERANCES.saturating_add(WINDOW_MARGIN);
const FAILED: Outcome = Outcome::Failed { reason: Reason::UpstreamFailed, status: 500 };

/// A store, and time that passes only when a test says so.
struct World {
    store: ReplayStore,
    runtime: Runtime,
    server: Option<RefCell<StillClock>>,
    /// How many races are run: a round with Redis takes as long as its followers' pauses.
    rounds: usize,
}

impl World {
    fn embedded(terms: Terms) -> Self {
        let store = ReplayStore::Memory(Memory::new(policy(terms), STALE_AFTER, terms.capacity));
        World { store, runtime: runtime(), server: None, rounds: 300 }
    }

    fn shared(terms: Terms) -> Self {
        let server = redis_server::Server::start().unwrap();
        let runtime = runtime();
        let store = gate(&server, terms);
        let server = Some(RefCell::new(StillClock::of(server, terms)));
        World { store, runtime, server, rounds: 40 }
    }

    fn reserve(&self, event: &Fresh, seconds: u64) -> Result<Reservation, Unavailable> {
        self.at(seconds, |now| self.runtime.block_on(self.store.reserve(event, now)))
    }

    fn settle(&self, claim: Claim, outcome: Outcome, seconds: u64) {
        self.at(seconds, |now| self.runtime.block_on(claim.settle(outcome, now)));
    }

    fn lead(&self, event: &Fresh, seconds: u64) -> Claim {
        match self.reserve(event, seconds) {
            Ok(Reservation::Lead(claim)) => claim,
            _ => panic!(
                "at {seconds} s nobody holds the event, and there is room: {:?}",
                self.store.health().map(|health| health.borrow().clone())
            ),
        }
    }

    fn follow(&self, event: &Fresh, seconds: u64) -> Waiting {
        match self.reserve(event, seconds) {
            Ok(Reservation::Follow(waiting)) => waiting,
            _ => panic!("at {seconds} s the event is held"),
        }
    }

    /// What a copy finds. A lead that it is given fails, which releases the event.
    fn found(&self, event: &Fresh, seconds: u64) -> Found {
        match self.reserve(event, seconds) {
            Ok(Reservation::Lead(claim)) => {
                self.settle(claim, FAILED, seconds);
                Found::Lead
            }
            Ok(Reservation::Follow(_)) => Found::Follow,
            Ok(Reservation::Done) => Found::Done,
            Err(Unavailable) => Found::Unavailable,
        }
    }

    /// What a panic does.
    fn abandon(&self, claim: Claim) {
        let _runtime = self.runtime.enter();
        drop(claim);
    }

    /// Runs one command in Redis.
    fn redis(&self, words: &[&str]) {
        self.server.as_ref().unwrap().borrow().server.run::<()>(words);
    }

    fn told(&self, follower: Waiting) -> Option<Outcome> {
        self.runtime.block_on(follower.outcome())
    }

    fn sweep(&self, seconds: u64) -> Swept {
        self.store.sweep(at(seconds))
    }

    /// How many events are held or done.
    fn events(&self) -> usize {
        match &self.server {
            None => self.store.entries(),
            Some(server) => server.borrow_mut().keys().iter().filter(|key| key.ends_with('}')).count(),
        }
    }

    /// Does something at that time, which never goes back.
    fn at<T>(&self, seconds: u64, what: impl FnOnce(Now) -> T) -> T {
        if let Some(server) = &self.server {
            server.borrow_mut().advance(seconds);
        }
        let result = what(at(seconds));
        if let Some(server) = &self.server {
            server.borrow_mut().hold();
        }
        result
    }
}

/// What a copy finds.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Lead,
    Follow,
    Done,
    Unavailable,
}

fn policy(terms: Terms) -> ReplayPolicy {
    ReplayPolicy::new(WINDOW, TOLERANCES, terms.exchange, terms.exchange).unwrap()
}

/// The store of one gate. A slow machine must not look like a slow Redis here.
fn gate(server: &redis_server::Server, terms: Terms) -> ReplayStore {
    let settings = Settings {
        address: server.url().parse().unwrap(),
        prefix: "test:".to_owned(),
        password_file: None,
        ca_file: None,
        timeout: Duration::from_secs(30),
    };
    ReplayStore::Redis(Redis::new(settings, policy(terms), None))
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap()
}

/// A Redis whose keys expire when the test's time says so.
struct StillClock {
    connection: redis::Connection,
    now: u64,
    /// When keys expire, in the test's time.
    expiries: HashMap<String, u64>,
    /// The times for which keys are kept, shortest first. Time that really passed between the
    /// writing of a key and the look at it is made up for by these.
    spans: [u64; 5],
    server: redis_server::Server,
}

/// What PTTL says of a key that is not there, and of one without an expiry.
const GONE: i64 = -2;
const WITHOUT: i64 = -1;

impl StillClock {
    fn of(server: redis_server::Server, terms: Terms) -> Self {
        let exchange = terms.exchange.as_secs();
        let [shorter, longer] = OWN_WINDOWS.map(|own| own.as_secs());
        let spans = [exchange + 1, exchange + 5, shorter, WINDOW.as_secs(), longer];
        StillClock { connection: server.connect(), now: 0, expiries: HashMap::new(), spans, server }
    }

    fn keys(&mut self) -> Vec<String> {
        self.connection.keys("test:*").unwrap()
    }

    /// Takes the expiries off the keys.
    fn hold(&mut self) {
        for key in self.keys() {
            let left: i64 = self.connection.pttl(&key).unwrap();
            match left {
                GONE => {}
                WITHOUT => assert!(self.expiries.contains_key(&key), "{key} would be kept for ever"),
                left => {
                    let left = u64::try_from(left).unwrap();
                    let span = self.spans.iter().find(|span| **span * 1000 >= left);
                    let span = span.unwrap_or_else(|| panic!("{key} is kept for {left} ms"));
                    self.expiries.insert(key.clone(), self.now + span);
                    () = self.connection.persist(&key).unwrap();
                }
            }
        }
    }

    fn advance(&mut self, now: u64) {
        self.now = now;
        for key in self.keys() {
            if self.expiries.get(&key).is_some_and(|expiry| *expiry <= now) {
                () = self.connection.del(&key).unwrap();
            }
        }
    }
}

fn the_first_copy_leads_and_the_others_follow(open: Open) {
    let (world, event, other) = (open(TERMS), timed("event"), timed("other"));
    let _claim = world.lead(&event, 0);
    assert_eq!(world.found(&event, 0), Found::Follow);
    assert_eq!(world.found(&event, LEASE - 1), Found::Follow);
    assert_eq!(world.found(&other, 0), Found::Lead, "another event is none of its business");
}

fn a_delivered_event_is_done_until_the_window_is_over(open: Open) {
    for event in [timed("event"), untimed("event")] {
        let world = open(TERMS);
        world.settle(world.lead(&event, 0), Outcome::Delivered, 1);
        let over = 1 + WINDOW.as_secs();
        assert_eq!(world.found(&event, 1), Found::Done);
        assert_eq!(world.found(&event, over - 1), Found::Done);
        assert_eq!(world.found(&event, over), Found::Lead, "the window is over");
    }
}

fn a_window_of_its_own_counts_whatever_that_of_the_others_is(open: Open) {
    for own in OWN_WINDOWS {
        let (world, other) = (open(TERMS), timed("other"));
        let mut provider = Provider::timed();
        provider.signature = provider.signature.remembered(Some(own));
        let event = provider.fresh("event");
        world.settle(world.lead(&event, 0), Outcome::Delivered, 1);
        world.settle(world.lead(&other, 1), Outcome::Delivered, 1);
        let over = 1 + own.as_secs();
        let others = |now: u64| if now < 1 + WINDOW.as_secs() { Found::Done } else { Found::Lead };
        for now in [over - 1, over] {
            let expected = if now < over { Found::Done } else { Found::Lead };
            assert_eq!(world.found(&event, now), expected, "{own:?} at {now} s");
            assert_eq!(world.found(&other, now), others(now), "another route's, {own:?} at {now} s");
        }
    }
}

fn a_failed_event_is_free_again(open: Open) {
    let (world, event) = (open(TERMS), timed("event"));
    for attempt in 0..3 {
        world.settle(world.lead(&event, attempt), FAILED, attempt);
        assert_eq!(world.events(), 0, "nothing is remembered of a failure");
    }
}

fn a_lease_that_ended_holds_nothing(open: Open) {
    let (world, event) = (open(TERMS), timed("event"));
    let _lost = world.lead(&event, 0);
    let _claim = world.lead(&event, LEASE);
    assert_eq!(world.found(&event, LEASE), Found::Follow, "the second lease has begun");
}

fn a_late_token_has_no_power(open: Open) {
    for late_outcome in [Outcome::Delivered, FAILED] {
        let (world, event) = (open(TERMS), timed("event"));
        let late = world.lead(&event, 0);
        let claim = world.lead(&event, LEASE);
        world.settle(late, late_outcome, LEASE);
        assert_eq!(world.found(&event, LEASE), Found::Follow, "{late_outcome:?} settles nothing");
        world.settle(claim, Outcome::Delivered, LEASE);

        let (world, event) = (open(TERMS), timed("event"));
        let late = world.lead(&event, 0);
        world.settle(world.lead(&event, LEASE), Outcome::Delivered, LEASE);
        world.settle(late, late_outcome, LEASE);
        assert_eq!(world.found(&event, LEASE), Found::Done, "{late_outcome:?} undoes nothing");
    }
}

fn followers_are_told_how_the_delivery_ended(open: Open) {
    let unavailable = Outcome::Failed { reason: Reason::UpstreamFailed, status: 503 };
    let timeout = Outcome::Failed { reason: Reason::UpstreamTimeout, status: 504 };
    for outcome in [Outcome::Delivered, unavailable, timeout] {
        let (world, event) = (open(TERMS), timed("event"));
        let claim = world.lead(&event, 0);
        let followers = [(); 3].map(|()| world.follow(&event, 0));
        world.settle(claim, outcome, 1);
        for follower in followers {
            assert_eq!(world.told(follower), Some(outcome));
        }
    }
}

fn a_wait_that_is_over_before_the_delivery_says_nothing(open: Open) {
    let (world, event) = (open(Terms { exchange: Duration::ZERO, ..TERMS }), timed("event"));
    let claim = world.lead(&event, 0);
    assert_eq!(world.told(world.follow(&event, 0)), None);
    world.settle(claim, Outcome::Delivered, 0);
}

fn dropping_a_claim_releases_its_event(open: Open) {
    let (world, event) = (open(TERMS), timed("event"));
    let claim = world.lead(&event, 0);
    let follower = world.follow(&event, 0);
    world.abandon(claim);
    let unknown = Outcome::Failed { reason: Reason::UpstreamFailed, status: 502 };
    assert_eq!(world.told(follower), Some(unknown), "followers do not wait for nothing");
    assert_eq!(world.found(&event, 0), Found::Lead, "lost would be worse than twice");
}

fn a_full_store_refuses_what_is_new_and_forgets_nothing(open: Open) {
    let world = open(Terms { capacity: 2, ..TERMS });
    let (done, held, new) = (timed("done"), timed("held"), timed("new"));
    world.settle(world.lead(&done, 0), Outcome::Delivered, 0);
    assert!(world.store.is_usable());
    let claim = world.lead(&held, 0);

    assert!(!world.store.is_usable());
    assert_eq!(world.found(&new, 0), Found::Unavailable);
    assert_eq!(world.found(&done, 0), Found::Done);
    assert_eq!(world.found(&held, 0), Found::Follow);
    assert_eq!(world.events(), 2);

    world.settle(claim, FAILED, 0);
    assert_eq!(world.found(&new, 0), Found::Lead, "a release makes room");
}

fn a_sweep_forgets_what_has_expired_and_nothing_else(open: Open) {
    let (world, over) = (open(TERMS), WINDOW.as_secs());
    let (early, late, held) = (timed("early"), timed("late"), timed("held"));
    world.settle(world.lead(&early, 0), Outcome::Delivered, 0);
    world.settle(world.lead(&late, 1), Outcome::Delivered, 1);
    let _claim = world.lead(&held, over - 1);

    assert_eq!(world.sweep(over - 1), Swept::default(), "nothing has expired yet");
    assert_eq!(world.sweep(over), Swept { expired: 1, capacity: 0 });
    assert_eq!(world.events(), 2);
    assert_eq!(world.found(&late, over), Found::Done);
    assert_eq!(world.found(&held, over), Found::Follow);
}

fn under_pressure_only_what_would_be_stale_is_forgotten(open: Open) {
    let stale = STALE_AFTER.as_secs();
    let (signed, unsigned, held) = (timed("signed"), untimed("unsigned"), timed("held"));
    for (capacity, forgotten) in [(1000, 0), (3, 1)] {
        let world = open(Terms { capacity, ..TERMS });
        world.settle(world.lead(&signed, 0), Outcome::Delivered, 0);
        world.settle(world.lead(&unsigned, 0), Outcome::Delivered, 0);
        let _claim = world.lead(&held, stale - 1);

        assert_eq!(world.sweep(stale - 1), Swept::default(), "a replay of any would still be fresh");
        assert_eq!(world.sweep(stale), Swept { expired: 0, capacity: forgotten }, "of {capacity}");
        assert_eq!(world.events(), 3 - forgotten);
        assert_eq!(world.found(&unsigned, stale), Found::Done, "nothing else would refuse its replay");
        assert_eq!(world.found(&held, stale), Found::Follow, "it is under way");
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

fn the_clocks_of_gates_decide_nothing(open: Open) {
    let (world, event) = (open(TERMS), timed("event"));
    let other = gate(&world.server.as_ref().unwrap().borrow().server, TERMS);
    let days_ahead = Now::at(NOW + 1_000_000, 1_000_000);
    let reserve = || world.runtime.block_on(other.reserve(&event, days_ahead)).unwrap();

    let claim = world.lead(&event, 0);
    assert!(matches!(reserve(), Reservation::Follow(_)), "the lease is the server's");
    world.settle(claim, Outcome::Delivered, 0);
    assert!(matches!(reserve(), Reservation::Done), "the window is the server's");
}

fn what_was_delivered_is_done_although_the_store_forgot(open: Open) {
    let (world, event) = (open(TERMS), timed("event"));
    for (outcome, then) in [(Outcome::Delivered, Found::Done), (FAILED, Found::Lead)] {
        let claim = world.lead(&event, 0);
        world.redis(&["FLUSHALL"]);
        world.settle(claim, outcome, 0);
        assert_eq!(world.found(&event, 0), then, "{outcome:?}");
        world.redis(&["FLUSHALL"]);
    }
}

fn a_follower_whose_leader_vanished_is_told_nothing(open: Open) {
    let (world, event) = (open(TERMS), timed("event"));
    let _claim = world.lead(&event, 0);
    let follower = world.follow(&event, 0);
    world.redis(&["FLUSHALL"]);
    assert_eq!(world.told(follower), None);

    let late = world.lead(&event, 0);
    let follower = world.follow(&event, 0);
    world.redis(&["FLUSHALL"]);
    let _next = world.lead(&event, 0);
    assert_eq!(world.told(follower), None, "another's outcome is not its leader's");
    world.settle(late, Outcome::Delivered, 0);
}

fn what_others_left_under_our_key_is_never_taken_for_a_state(open: Open) {
    let (world, event) = (open(TERMS), timed("event"));
    let claim = world.lead(&event, 0);
    let key = format!("test:{{{}}}", event.authentic().identity().unwrap().told());
    let (follower, late) = (world.follow(&event, 0), world.follow(&event, 0));
    for value in [
        "",
        "x",
        "D",
        "done",
        "+",
        "=d",
        "h",
        "hx",
        "h0123456789abcde",
        "h0123456789ABCDEF",
        "h0123456789abcdef0",
        "s",
        "s0123456789abcdef",
        "s0123456789abcdef0123456789aX",
        "s0123456789abcdef0123456789abc",
    ] {
        world.redis(&["SET", &key, value, "PX", "1000"]);
        assert_eq!(world.found(&event, 0), Found::Unavailable, "{value:?}");
    }
    for words in [["LPUSH", &key, "d"], ["SADD", &key, "d"]] {
        world.redis(&["DEL", &key]);
        world.redis(&words);
        world.redis(&["PEXPIRE", &key, "1000"]);
        assert_eq!(world.found(&event, 0), Found::Unavailable, "{words:?}");
    }
    assert_eq!(world.told(follower), None);
    world.settle(claim, Outcome::Delivered, 0);
    assert_eq!(world.told(late), None, "what could not be settled is not told");
    assert_eq!(world.found(&event, 0), Found::Unavailable, "what is not ours is left alone");
    world.redis(&["DEL", &key]);
    assert_eq!(world.found(&event, 0), Found::Lead);
}

/// Whoever held it has put it there: he and those who wait for him learn of no other outcome, and his
/// settling changes nothing of what the inbox says.
fn what_the_inbox_has_is_done_for_its_copies(open: Open) {
    let (world, event) = (open(TERMS), timed("event"));
    let name = event.authentic().identity().unwrap().told();
    let key = format!("test:{{{name}}}");
    let forget = || world.at(0, |now| world.runtime.block_on(world.store.forget(name, now))).unwrap();
    let claim = world.lead(&event, 0);
    let (follower, late) = (world.follow(&event, 0), world.follow(&event, 0));
    let mark = format!("s{}", "0123456789ab".repeat(2) + "cdef");
    world.redis(&["SET", &key, &mark, "PX", "100000"]);
    assert_eq!(world.found(&event, 0), Found::Done);
    assert_eq!(world.told(follower), Some(Outcome::Delivered), "its sender has nothing to repeat");
    world.settle(claim, Outcome::Stored, 0);
    assert_eq!(world.told(late), Some(Outcome::Delivered));
    assert_eq!(world.found(&event, 0), Found::Done);
    assert_eq!(forget(), Forgotten::Held, "the inbox delivers it, whoever forgets it");
    // The inbox gave it up before its holder came to say how it went: it is not done.
    let (other, released) = (timed("other"), Outcome::Stored);
    let claim = world.lead(&other, 0);
    world.redis(&["DEL", &format!("test:{{{}}}", other.authentic().identity().unwrap().told())]);
    world.settle(claim, released, 0);
    assert_eq!(world.found(&other, 0), Found::Lead);
}

fn forgotten_scripts_are_sent_again(open: Open) {
    let (world, event) = (open(TERMS), timed("event"));
    let forget = || world.redis(&["SCRIPT", "FLUSH"]);
    forget();
    let claim = world.lead(&event, 0);
    forget();
    let follower = world.follow(&event, 0);
    forget();
    world.settle(claim, FAILED, 0);
    forget();
    assert_eq!(world.told(follower), Some(FAILED));
    forget();
    assert_eq!(world.found(&event, 0), Found::Lead);
}

const COPIES: usize = 64;

/// In each round, sends copies of one event at once. Its first deliveries fail, as many as
/// `failures`. Gives the number of deliveries that were tried in each round.
fn races(world: &World, failures: usize) -> Vec<usize> {
    let leads = (0..world.rounds).map(|round| {
        let race = Race {
            store: world.store.clone(),
            event: timed(&round.to_string()),
            start: Barrier::new(COPIES),
            leads: AtomicUsize::new(0),
            failures,
            pace: round % 10,
        };
        world.runtime.block_on(race.run())
    });
    let leads = leads.collect();
    assert_eq!(world.events(), world.rounds, "each event is remembered once");
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
            match self.store.reserve(&self.event, at(0)).await.unwrap() {
                Reservation::Lead(claim) => {
                    let delivered = self.leads.fetch_add(1, Ordering::SeqCst) >= self.failures;
                    for _ in 0..self.pace {
                        yield_now().await;
                    }
                    claim.settle(if delivered { Outcome::Delivered } else { FAILED }, at(0)).await;
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

fn at(seconds: u64) -> Now {
    Now::at(NOW, seconds)
}

fn timed(id: &str) -> Fresh {
    Provider::timed().fresh(id)
}

/// A replay of it stays good for ever.
fn untimed(id: &str) -> Fresh {
    Provider::new(
        "{ algorithm: hmac-sha256, signature: { from: 'header:x-signature', encoding: hex },
           content: '{header:x-id}.{body}', id: 'header:x-id' }",
    )
    .fresh(id)
}
