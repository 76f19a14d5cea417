//! The inbox of a fleet: several gates, and what may become of their store.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use hookgate::clock;
use hookgate::gate::filter::replay::Keep;
use hookgate::inbox::redis::durable::{Disk, Durability};
use hookgate::inbox::state::State;
use hookgate::inbox::{Attempted, Bounds, Due, Event, Id, Inbox, Refusal, Selection};
use smallvec::smallvec;
use tokio::time::sleep;

use crate::fixture::{Folder, PREFIX, ROOMY, ROUTE, all, at, at_with, event, key, said_of};
use crate::redis_server::{Cluster, Relay, Server};

const LEASE: Duration = Duration::from_secs(15);
const WAIT: Duration = Duration::from_secs(30);

fn gate(server: &Server) -> Inbox {
    at(&server.url(), ROOMY, &[])
}

async fn durability(inbox: &Inbox) -> Durability {
    inbox.durability().await.unwrap().unwrap()
}

fn now() -> i64 {
    clock::now().wall_ms
}

/// One that is due at once.
fn fresh(number: u64) -> Event {
    Event { due_ms: now(), ..event(number) }
}

fn number(due: &Due) -> u64 {
    u64::from_be_bytes(due.key.as_bytes()[8..].try_into().unwrap())
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < WAIT, "{what}: not within {WAIT:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Everything that is due, until there is nothing any more.
async fn deliver_all(inbox: &Inbox, most: usize) -> Vec<u64> {
    let mut delivered = Vec::new();
    loop {
        let claimed = inbox.claim(ROUTE, now(), LEASE, most).await.unwrap();
        if claimed.is_empty() {
            return delivered;
        }
        for due in claimed {
            delivered.push(number(&due));
            assert!(inbox.settle(due.id, due.attempt, Attempted::Done, now()).await.unwrap());
        }
    }
}

#[tokio::test]
async fn any_gate_delivers_what_another_stored() {
    let Some(server) = Server::start() else { return };
    let (one, other) = (gate(&server), gate(&server));
    let stored = one.store(fresh(1)).await.unwrap();
    assert!(!stored.copy);
    assert!(said_of(&server, key(1)).starts_with('s'), "a copy of it is known at every gate");
    assert!(other.store(fresh(1)).await.unwrap().copy);
    let due = other.claim(ROUTE, now(), LEASE, 9).await.unwrap().remove(0);
    assert_eq!((due.attempt, &due.body, &due.head), (1, &event(1).body, &event(1).head));
    assert_eq!((&*due.names, due.keep), (&[key(1)][..], event(1).keep));
    assert!(one.claim(ROUTE, now(), LEASE, 9).await.unwrap().is_empty(), "it is leased");
    assert!(other.settle(due.id, due.attempt, Attempted::Done, now()).await.unwrap());
    assert_eq!(said_of(&server, key(1)), "d");
    until("the other gate to know", async || one.depths()[ROUTE].stored == 0).await;
    let left: Vec<String> = server.run(&["KEYS", "*"]);
    let events = left.iter().filter(|name| name.contains(":event:")).count();
    assert_eq!((events, left.iter().all(|name| name.starts_with(PREFIX))), (0, true), "{left:?}");
    for set in ["due", "live", "dead", "damaged", "names", "named"] {
        assert_eq!(server.run::<u64>(&["EXISTS", &format!("{PREFIX}{{inbox:{ROUTE}}}:{set}")]), 0, "{set}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_nobody_dies_each_event_is_delivered_once() {
    const EVENTS: u64 = 400;
    for gates in [2, 4] {
        let Some(server) = Server::start() else { return };
        let first = Arc::new(gate(&server));
        let mut storing = tokio::task::JoinSet::new();
        for part in 0..8 {
            let inbox = Arc::clone(&first);
            storing.spawn(async move {
                for number in (part..EVENTS).step_by(8) {
                    _ = inbox.store(fresh(number)).await.unwrap();
                }
            });
        }
        let mut claiming = tokio::task::JoinSet::new();
        for _ in 0..gates {
            let inbox = gate(&server);
            claiming.spawn(async move {
                let mut all = Vec::new();
                let mut empty = 0;
                while empty < 20 {
                    let delivered = deliver_all(&inbox, 7).await;
                    empty = if delivered.is_empty() { empty + 1 } else { 0 };
                    all.extend(delivered);
                    sleep(Duration::from_millis(20)).await;
                }
                all
            });
        }
        storing.join_all().await;
        let shares = claiming.join_all().await;
        assert!(shares.iter().filter(|share| !share.is_empty()).count() > 1, "they share the work");
        let mut times = BTreeMap::<u64, u32>::new();
        shares.into_iter().flatten().for_each(|number| *times.entry(number).or_default() += 1);
        let wrong: Vec<_> = times.iter().filter(|(_, times)| **times != 1).collect();
        assert_eq!((times.len() as u64, wrong), (EVENTS, vec![]), "{gates} gates");
    }
}

#[tokio::test]
async fn an_attempt_whose_gate_died_is_made_again_when_its_lease_is_over_and_was_counted() {
    let Some(server) = Server::start() else { return };
    let (dies, other) = (gate(&server), gate(&server));
    _ = dies.store(fresh(1)).await.unwrap();
    let lease = Duration::from_millis(400);
    let lost = dies.claim(ROUTE, now(), lease, 1).await.unwrap().remove(0);
    assert!(other.claim(ROUTE, now(), lease, 1).await.unwrap().is_empty());
    let mut again = Vec::new();
    until("the lease to end", async || {
        again = other.claim(ROUTE, now(), LEASE, 1).await.unwrap();
        !again.is_empty()
    })
    .await;
    assert_eq!(again[0].attempt, 2);
    let late = dies.settle(lost.id, lost.attempt, Attempted::Done, now()).await.unwrap();
    assert!(!late, "a stale attempt decides nothing");
    let stale = Attempted::Dead { outcome: "410".into() };
    assert!(!dies.settle(lost.id, lost.attempt, stale, now()).await.unwrap());
    assert!(said_of(&server, key(1)).starts_with('s'), "nor does it free the name");
    assert!(other.settle(again[0].id, 2, Attempted::Done, now()).await.unwrap());
}

/// A server whose clock is an hour ahead. `None`, and said aloud, where it cannot be made.
fn ahead() -> Option<Server> {
    let library = std::env::temp_dir().join(format!("hookgate-clock-{}.so", std::process::id()));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/inbox/clock.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
    if !built.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: there is no C compiler");
        return None;
    }
    Server::start_before(&library)
}

#[tokio::test]
async fn the_clocks_of_gates_decide_nothing() {
    let Some(server) = ahead() else { return };
    let time: Vec<i64> = server.run(&["TIME"]);
    assert!(time[0] * 1000 > now() + 3_500_000, "it is ahead");
    let (one, other) = (gate(&server), gate(&server));
    _ = one.store(Event { due_ms: now() + 400, ..fresh(1) }).await.unwrap();
    let next = one.next_due(ROUTE).await.unwrap().unwrap();
    assert!((next - now() - 400).abs() < 1000, "told in the time of the gate that asks");
    assert!(one.claim(ROUTE, now(), LEASE, 9).await.unwrap().is_empty(), "it is not due yet");
    let mut due = Vec::new();
    until("it to be due", async || {
        due = one.claim(ROUTE, now(), LEASE, 9).await.unwrap();
        !due.is_empty()
    })
    .await;
    let set = format!("{PREFIX}{{inbox:{ROUTE}}}:due");
    let end = "return redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]";
    let until_ms: i64 = server.run::<String>(&["EVAL", end, "1", &set]).parse().unwrap();
    assert!((until_ms - now() - 3_600_000 - 15_000).abs() < 2000, "leased by the server's clock");
    assert!(other.claim(ROUTE, now(), LEASE, 9).await.unwrap().is_empty());
    let later = Attempted::Later { due_ms: now() + 60_000, outcome: "503".into() };
    assert!(one.settle(due[0].id, 1, later, now()).await.unwrap());
    let next = other.next_due(ROUTE).await.unwrap().unwrap();
    assert!((next - now() - 60_000).abs() < 1000);
    other.tidy(now(), Duration::ZERO, Duration::from_secs(3600)).await.unwrap();
    assert!(other.claim(ROUTE, now(), LEASE, 9).await.unwrap().is_empty(), "a minute is not too far away");
}

/// It was held, and hears of that when the hold is over: another gate has leased it by then.
#[tokio::test]
async fn a_gate_that_hears_late_of_what_it_holds_leaves_it_to_the_next() {
    let Some(server) = Server::start() else { return };
    let slow = Arc::new(AtomicI64::new(0));
    let pause = Arc::clone(&slow);
    let relay = Relay::start(server.port(), move |_| {
        Duration::from_millis(pause.swap(0, Ordering::SeqCst).try_into().unwrap())
    });
    let (late, other) = (at(&relay.url(), ROOMY, &[]), gate(&server));
    // The server knows the script from now on: the first answer is that of the hold.
    assert_eq!(late.claim(ROUTE, now(), LEASE, 9).await.unwrap(), []);
    _ = late.store(fresh(1)).await.unwrap();
    let begun = Instant::now();
    slow.store(6_500, Ordering::SeqCst);
    let hears_late = tokio::spawn(async move { late.claim(ROUTE, now(), LEASE, 9).await.unwrap() });
    let mut due = Vec::new();
    until("the hold to end", async || {
        sleep(Duration::from_millis(200)).await;
        due = other.claim(ROUTE, now(), LEASE, 9).await.unwrap();
        !due.is_empty()
    })
    .await;
    assert!(begun.elapsed() > Duration::from_secs(4), "it was held");
    assert!(!hears_late.is_finished(), "it has not heard of it yet");
    assert_eq!(hears_late.await.unwrap(), []);
    assert!(other.settle(due[0].id, due[0].attempt, Attempted::Done, now()).await.unwrap());
}

#[tokio::test]
async fn what_waits_for_long_is_known_for_as_long() {
    let Some(server) = Server::start() else { return };
    let inbox = gate(&server);
    for number in 0..300 {
        _ = inbox.store(fresh(number)).await.unwrap();
        // The window is nearly over, or a crash left it unsaid.
        let name = format!("{PREFIX}{{{}}}", key(number));
        let words: &[&str] = if number % 2 == 0 { &["PEXPIRE", &name, "1000"] } else { &["DEL", &name] };
        server.run::<i64>(words);
    }
    for _ in 0..3 {
        inbox.tidy(now(), Duration::ZERO, Duration::from_secs(3600)).await.unwrap();
    }
    for number in 0..300 {
        let left: i64 = server.run(&["PTTL", &format!("{PREFIX}{{{}}}", key(number))]);
        assert!(left > 3_600_000, "{number}: {left}");
    }
}

/// What is delivered or stored is known for the window of its route, where that has one of its own.
#[tokio::test]
async fn an_event_of_a_route_with_a_window_of_its_own_is_known_for_that_long() {
    let Some(server) = Server::start() else { return };
    let inbox = gate(&server);
    let week = Keep::For(Duration::from_secs(7 * 24 * 3600));
    _ = inbox.store(Event { keep: week, ..fresh(1) }).await.unwrap();
    let left = || (server.run::<i64>(&["TTL", &format!("{PREFIX}{{{}}}", key(1))]) + 60) / 3600;
    assert_eq!(left(), 168, "a week");
    inbox.tidy(now(), Duration::ZERO, Duration::from_secs(3600)).await.unwrap();
    assert_eq!(left(), 168, "it is not shortened by being said again");
    let due = inbox.claim(ROUTE, now(), LEASE, 9).await.unwrap().remove(0);
    assert_eq!(due.keep, week);
    assert!(inbox.settle(due.id, due.attempt, Attempted::Done, now()).await.unwrap());
    assert_eq!((said_of(&server, key(1)), left()), ("d".to_owned(), 168));
}

/// As k8s/README.md says it.
#[tokio::test]
async fn the_rights_that_are_told_are_enough_and_without_them_a_gate_that_stores_nothing_is_well() {
    let Some(server) = Server::start() else { return };
    let narrow = "on >secret ~shop:* +eval +evalsha +get +set +del +time";
    let more = "+exists +pttl +sadd +smembers +hset +hget +hmget +hdel +hincrby +zadd +zrem +zscore +zcard +zrange \
                +zrangebyscore +info +config|get";
    let page = std::fs::read_to_string("k8s/README.md").unwrap();
    assert!(page.contains(narrow.strip_prefix("on >secret ").unwrap()) && page.contains(more));
    let grant = |rights: &str| {
        server.run::<()>(&format!("ACL SETUSER gate {rights}").split(' ').collect::<Vec<_>>());
    };
    let folder = Folder::new();
    std::fs::create_dir(&folder.0).unwrap();
    let password = folder.0.join("password");
    std::fs::write(&password, "secret").unwrap();
    let url = server.url().replace("redis://", "redis://gate@");
    grant(narrow);
    let inbox = at_with(&url, ROOMY, &[], Some(password.clone()));
    assert!(!inbox.is_wanted(false).await);
    assert!(inbox.is_usable() && inbox.totals().trouble.is_none(), "it does not mind");
    assert_eq!(inbox.store(fresh(1)).await.err(), Some(Refusal::Unavailable));
    grant(more);
    let inbox = at_with(&url, ROOMY, &[], Some(password));
    assert!(!inbox.is_wanted(false).await && inbox.is_wanted(true).await);
    for number in 0..9 {
        _ = inbox.store(fresh(number)).await.unwrap();
    }
    let due = inbox.claim(ROUTE, now(), LEASE, 1).await.unwrap().remove(0);
    assert!(inbox.settle(due.id, 1, Attempted::Dead { outcome: "410".into() }, now()).await.unwrap());
    inbox.overtaken(&[due.key]).await.unwrap();
    assert_eq!(deliver_all(&inbox, 9).await.len(), 8);
    inbox.tidy(now(), Duration::ZERO, Duration::from_secs(3600)).await.unwrap();
    inbox.pause(ROUTE, true).await.unwrap();
    assert_eq!(inbox.paused().await.unwrap(), [ROUTE]);
    assert_eq!(all(&inbox).await, []);
    assert_eq!(durability(&inbox).await.disk, Disk::Never);
    let later = gate(&server);
    assert!(later.is_wanted(false).await, "somebody has stored");
}

#[tokio::test]
async fn routes_are_bounded_together_and_are_known_to_a_gate_that_comes_later() {
    let Some(server) = Server::start() else { return };
    let bounds = Bounds { max_bytes: event(1).size() * 2 + 20, ..ROOMY };
    let inbox = at(&server.url(), bounds, &[]);
    _ = inbox.store(fresh(1)).await.unwrap();
    _ = inbox.store(Event { route: "other".into(), ..fresh(91) }).await.unwrap();
    let refused = inbox.store(Event { route: "other".into(), ..fresh(181) }).await;
    assert_eq!(refused.err(), Some(Refusal::Full));
    assert!(inbox.is_full() && inbox.is_usable());
    // The store forgets which routes there are, as after a failover.
    server.run::<i64>(&["DEL", &format!("{PREFIX}{{inbox}}:routes")]);
    until("it to be told again", async || {
        server.run::<u64>(&["EXISTS", &format!("{PREFIX}{{inbox}}:routes")]) == 1
    })
    .await;
    let later = at(&server.url(), bounds, &[]);
    later.tidy(now(), Duration::ZERO, Duration::from_secs(3600)).await.unwrap();
    assert_eq!(later.depths().values().map(|depth| depth.stored).sum::<u64>(), 2);
    assert_eq!(later.store(fresh(181)).await.err(), Some(Refusal::Full));
}

/// Each way in which a gate can end between two steps, made with what it would have left behind.
#[tokio::test]
async fn a_gate_that_dies_between_two_steps_loses_nothing() {
    let Some(server) = Server::start() else { return };
    let inbox = gate(&server);
    let name = |number| format!("{PREFIX}{{{}}}", key(number));
    let held = "h0123456789abcdef";

    // The record is there, and its name still says that a delivery holds it: the sender was told nothing.
    _ = inbox.store(fresh(1)).await.unwrap();
    server.run::<()>(&["SET", &name(1), held]);
    assert!(inbox.store(fresh(1)).await.unwrap().copy, "the sender comes again: it is there");
    assert!(said_of(&server, key(1)).starts_with('s'), "and now its name says so");
    server.run::<()>(&["DEL", &name(1)]);
    let due = inbox.claim(ROUTE, now(), LEASE, 1).await.unwrap().remove(0);
    assert!(said_of(&server, key(1)).starts_with('s'), "an attempt says so as well");

    // The record is gone, and its name does not say that it was delivered: its copies are known all the same.
    let said = said_of(&server, key(1));
    assert!(inbox.settle(due.id, due.attempt, Attempted::Done, now()).await.unwrap());
    server.run::<()>(&["SET", &name(1), &said]);
    assert!(!inbox.settle(due.id, due.attempt, Attempted::Done, now()).await.unwrap());

    // Its name is free, and it is not dead yet: it is attempted again, and its name is taken again.
    _ = inbox.store(fresh(2)).await.unwrap();
    let lost = inbox.claim(ROUTE, now(), Duration::from_millis(1), 1).await.unwrap().remove(0);
    server.run::<()>(&["DEL", &name(2)]);
    sleep(Duration::from_millis(10)).await;
    let due = inbox.claim(ROUTE, now(), LEASE, 1).await.unwrap().remove(0);
    assert_eq!((due.id, due.attempt), (lost.id, 2));
    assert!(said_of(&server, key(2)).starts_with('s'));

    // It is held for a lease that nobody takes: it is due again when the hold is over.
    let dead = Attempted::Dead { outcome: "410".into() };
    assert!(inbox.settle(due.id, due.attempt, dead, now()).await.unwrap());
    assert_eq!(said_of(&server, key(2)), "", "a copy of what is dead is delivered");
    _ = inbox.store(fresh(3)).await.unwrap();
    let soon = (now() + 300).to_string();
    let due_key = format!("{PREFIX}{{inbox:{ROUTE}}}:due");
    let move_due = "return redis.call('ZADD', KEYS[1], ARGV[1], redis.call('ZRANGE', KEYS[1], 0, 0)[1])";
    server.run::<i64>(&["EVAL", move_due, "1", &due_key, &soon]);
    assert!(inbox.claim(ROUTE, now(), LEASE, 9).await.unwrap().is_empty());
    until("the hold to end", async || !inbox.claim(ROUTE, now(), LEASE, 9).await.unwrap().is_empty()).await;

    // Replayed, and its name does not say so: the attempt does.
    let listed = all(&inbox).await;
    let dead = listed.iter().find(|record| record.state == State::Dead).unwrap();
    assert_eq!(inbox.replay(dead.id, now(), now()).await.unwrap(), Some(vec![key(2)]));
    server.run::<()>(&["DEL", &name(2)]);
    assert_eq!(inbox.claim(ROUTE, now(), LEASE, 9).await.unwrap().len(), 1);
    assert!(said_of(&server, key(2)).starts_with('s'));
}

/// What was meant for an earlier record changes nothing of a later one of the same name.
#[tokio::test]
async fn what_comes_late_for_one_record_leaves_the_next_alone() {
    let Some(server) = Server::start() else { return };
    let inbox = gate(&server);
    let first = inbox.store(fresh(1)).await.unwrap().id;
    let due = inbox.claim(ROUTE, now(), LEASE, 1).await.unwrap().remove(0);
    assert_eq!(inbox.discard(first).await.unwrap(), Some(vec![key(1)]));
    assert_eq!(said_of(&server, key(1)), "", "what was dropped may come again");
    let second = inbox.store(fresh(1)).await.unwrap();
    assert!(!second.copy && second.id != first);
    let again = inbox.claim(ROUTE, now(), LEASE, 1).await.unwrap().remove(0);
    assert_eq!((due.attempt, again.attempt), (1, 1));
    for came_to in [Attempted::Done, Attempted::Dead { outcome: "410".into() }] {
        assert!(!inbox.settle(first, 1, came_to, now()).await.unwrap());
    }
    assert_eq!(inbox.discard(first).await.unwrap(), None);
    assert!(said_of(&server, key(1)).starts_with('s'));
    assert!(inbox.settle(second.id, 1, Attempted::Done, now()).await.unwrap());
}

#[tokio::test]
async fn an_event_that_was_delivered_while_it_was_stored_is_a_copy() {
    let Some(server) = Server::start() else { return };
    let inbox = gate(&server);
    server.run::<()>(&["SET", &format!("{PREFIX}{{{}}}", key(1)), "d"]);
    assert!(inbox.store(fresh(1)).await.unwrap().copy);
    assert_eq!((inbox.depths()[ROUTE].stored, inbox.bytes()), (0, 0));
    assert_eq!(said_of(&server, key(1)), "d");
}

#[tokio::test]
async fn an_event_without_names_and_one_with_several_are_each_one_event() {
    let Some(server) = Server::start() else { return };
    let inbox = gate(&server);
    // A route that remembers nothing: two deliveries are two events.
    for _ in 0..2 {
        let stored = inbox.store(Event { names: smallvec![], ..fresh(1) }).await.unwrap();
        assert!(!stored.copy);
    }
    assert_eq!(deliver_all(&inbox, 9).await, [1, 1]);
    assert_eq!(said_of(&server, key(1)), "");
    let several = Event { names: smallvec![key(2), key(100)], ..fresh(2) };
    _ = inbox.store(several).await.unwrap();
    for name in [key(2), key(100)] {
        assert!(said_of(&server, name).starts_with('s'));
    }
    let copy = Event { names: smallvec![key(100)], key: key(100), ..fresh(3) };
    assert!(inbox.store(copy).await.unwrap().copy);
    assert_eq!(deliver_all(&inbox, 9).await, [2]);
    for name in [key(2), key(100)] {
        assert_eq!(said_of(&server, name), "d");
    }
}

#[tokio::test]
async fn a_store_that_is_away_takes_nothing_and_is_found_again() {
    let Some(mut server) = Server::start_with(&["--appendonly", "yes", "--appendfsync", "always"]) else {
        return;
    };
    let inbox = gate(&server);
    _ = inbox.store(fresh(1)).await.unwrap();
    assert_eq!(durability(&inbox).await.disk, Disk::Always);
    server.kill();
    let asked = Instant::now();
    assert_eq!(inbox.store(fresh(2)).await.err(), Some(Refusal::Unavailable));
    assert_eq!(inbox.claim(ROUTE, now(), LEASE, 1).await.err(), Some(Refusal::Unavailable));
    assert_eq!(inbox.next_due(ROUTE).await.err(), Some(Refusal::Unavailable));
    assert!(asked.elapsed() < Duration::from_secs(15), "nobody waits for long");
    until("the gate to say so", async || !inbox.is_usable() && inbox.totals().trouble.is_some()).await;
    server.revive();
    until("the gate to find it", async || inbox.store(fresh(2)).await.is_ok()).await;
    until("the gate to say so", async || inbox.is_usable() && inbox.totals().trouble.is_none()).await;
    let mut delivered = deliver_all(&inbox, 9).await;
    delivered.sort_unstable();
    assert_eq!(delivered, [1, 2], "what was acknowledged outlived the crash");
}

/// A server that syncs each second, and dies with what came since.
#[tokio::test]
async fn a_store_that_loses_its_last_moments_leaves_a_whole_inbox() {
    let Some(mut server) = Server::start_with(&["--appendonly", "yes", "--appendfsync", "no"]) else {
        return;
    };
    let inbox = gate(&server);
    let mut acknowledged = BTreeSet::new();
    for number in 0..40 {
        _ = inbox.store(fresh(number)).await.unwrap();
        acknowledged.insert(number);
    }
    let file = server.dir().join("appendonlydir");
    let log = std::fs::read_dir(&file).unwrap().map(|entry| entry.unwrap().path());
    let log = log.into_iter().find(|path| path.to_string_lossy().ends_with(".incr.aof")).unwrap();
    server.kill();
    let whole = std::fs::read(&log).unwrap();
    for lost in [1, 700, whole.len() / 2, whole.len() * 9 / 10] {
        server.kill();
        std::fs::write(&log, &whole[..whole.len() - lost]).unwrap();
        server.revive();
        let inbox = gate(&server);
        until("it to have read its disk", async || inbox.next_due(ROUTE).await.is_ok()).await;
        let listed = all(&inbox).await;
        let depth = inbox.depths()[ROUTE];
        assert_eq!(depth.stored, listed.len() as u64, "{lost}: index and records agree");
        let delivered = deliver_all(&inbox, 50).await;
        let times: BTreeSet<_> = delivered.iter().copied().collect();
        assert_eq!((times.len(), delivered.len()), (listed.len(), listed.len()), "{lost}: each once");
        assert!(times.is_subset(&acknowledged));
        assert_eq!((inbox.bytes(), inbox.totals().set_aside), (0, 0), "{lost}");
        // What was lost is taken again when it comes again.
        let gone = acknowledged.iter().find(|number| !times.contains(*number));
        if let Some(gone) = gone {
            server.run::<()>(&["DEL", &format!("{PREFIX}{{{}}}", key(*gone))]);
            assert!(!inbox.store(fresh(*gone)).await.unwrap().copy);
        }
    }
}

#[tokio::test]
async fn damage_is_set_aside_and_counted_and_the_rest_goes_on() {
    let Some(server) = Server::start() else { return };
    let inbox = gate(&server);
    let mut ids = Vec::new();
    for number in 1..=6 {
        ids.push(inbox.store(fresh(number)).await.unwrap().id);
    }
    let record = |id: Id| {
        let hex = id.to_string();
        format!("{PREFIX}{{inbox:{ROUTE}}}:event:{}", &hex[4..])
    };
    server.run::<()>(&["SET", &record(ids[0]).replace(":event:", ":sealed:"), "something else"]);
    server.run::<()>(&["DEL", &record(ids[1])]);
    server.run::<()>(&["SET", &record(ids[2]), "text"]);
    server.run::<()>(&["HSET", &record(ids[3]), "attempts", "many"]);
    server.run::<()>(&["ZADD", &format!("{PREFIX}{{inbox:{ROUTE}}}:due"), "0", "stranger"]);
    let claimed = inbox.claim(ROUTE, now(), LEASE, 9).await.unwrap();
    assert_eq!(claimed.iter().map(number).collect::<BTreeSet<_>>(), BTreeSet::from([5, 6]));
    let depth = inbox.depths()[ROUTE];
    assert_eq!((inbox.totals().set_aside, depth.damaged, depth.stored), (4, 4, 2));
    let damaged = Selection { state: Some(State::Damaged), ..Selection::default() };
    let mut listed = Vec::new();
    let mut after = Id::default();
    loop {
        let (part, next) = inbox.list(damaged.clone(), after).await.unwrap();
        listed.extend(part);
        let Some(next) = next else { break };
        after = next;
    }
    assert_eq!(listed.len(), 4, "also what cannot be read is listed");
    for number in 1..=4 {
        assert_eq!(said_of(&server, key(number)), "", "its sender's copy is taken");
    }
    assert!(!inbox.store(fresh(1)).await.unwrap().copy);
    assert_eq!(inbox.depths()[ROUTE].damaged, 3, "it takes its place");
    for record in listed.iter().filter(|record| record.key != key(1)) {
        assert_eq!(inbox.discard(record.id).await.unwrap().unwrap().len(), 1);
    }
    assert_eq!(inbox.depths()[ROUTE].damaged, 0);
    let sizes: u64 = [1, 5, 6].into_iter().map(|number| event(number).size()).sum();
    assert_eq!(inbox.bytes(), sizes, "what cannot be read is counted out as well");
}

#[tokio::test]
async fn what_lost_its_due_time_gets_another() {
    let Some(server) = Server::start() else { return };
    let inbox = gate(&server);
    for number in 0..30 {
        _ = inbox.store(fresh(number)).await.unwrap();
    }
    server.run::<()>(&["DEL", &format!("{PREFIX}{{inbox:{ROUTE}}}:due")]);
    assert!(inbox.claim(ROUTE, now(), LEASE, 99).await.unwrap().is_empty());
    inbox.tidy(now(), Duration::ZERO, Duration::from_secs(3600)).await.unwrap();
    assert_eq!(deliver_all(&inbox, 99).await.len(), 30);
}

#[tokio::test]
async fn a_list_goes_on_where_it_ended_although_events_come_and_go() {
    let Some(server) = Server::start() else { return };
    let inbox = gate(&server);
    for number in 0..500 {
        // Many of the same moment.
        _ = inbox
            .store(Event { received_ms: 1000 + i64::try_from(number / 300).unwrap(), ..fresh(number) })
            .await;
    }
    _ = inbox.store(Event { route: "other".into(), ..fresh(900) }).await.unwrap();
    let (mut after, mut seen, mut parts) = (Id::default(), BTreeSet::new(), 0);
    loop {
        let (listed, next) = inbox.list(Selection::default(), after).await.unwrap();
        for record in listed {
            assert!(seen.insert(record.id), "told once");
            assert!(inbox.discard(record.id).await.unwrap().is_some());
        }
        parts += 1;
        let Some(next) = next else { break };
        after = next;
    }
    assert_eq!(seen.len(), 501);
    assert!(parts >= 4, "{parts}");
    assert_eq!(inbox.bytes(), 0);
}

#[tokio::test]
async fn a_fleet_on_a_cluster_of_three_stores_and_delivers() {
    let Some(cluster) = Cluster::start() else { return };
    let (one, other) = (at(&cluster.url(), ROOMY, &[]), at(&cluster.url(), ROOMY, &[]));
    for number in 0..60 {
        let route = ["github", "stripe", "shopify"][usize::try_from(number % 3).unwrap()];
        let several = Event { names: smallvec![key(number), key(1000 + number)], ..fresh(number) };
        _ = one.store(Event { route: route.into(), ..several }).await.unwrap();
    }
    let mut delivered = BTreeSet::new();
    for route in ["github", "stripe", "shopify"] {
        loop {
            let claimed = other.claim(route, now(), LEASE, 7).await.unwrap();
            if claimed.is_empty() {
                break;
            }
            for due in claimed {
                assert!(delivered.insert(number(&due)));
                assert!(other.settle(due.id, due.attempt, Attempted::Done, now()).await.unwrap());
            }
        }
    }
    assert_eq!(delivered.len(), 60);
    assert!(one.durability().await.is_ok_and(|told| told.is_some()), "one node tells");
}

#[tokio::test]
async fn after_a_failover_the_new_master_has_what_was_stored() {
    let Some(master) = Server::start() else { return };
    let port = master.port().to_string();
    let Some(replica) = Server::start_with(&["--replicaof", "127.0.0.1", &port]) else { return };
    let relay = Relay::start(master.port(), |_| Duration::ZERO);
    let inbox = at(&relay.url(), ROOMY, &[]);
    until("the replica to follow", async || replica.tells("replication", "master_link_status:up")).await;
    _ = inbox.store(fresh(1)).await.unwrap();
    assert!(durability(&inbox).await.to_string().contains("a failover can lose"));
    let (master_offset, copied) = ("master_repl_offset:", "slave_repl_offset:");
    until("the replica to have it", async || {
        let offset = |server: &Server, name: &str| {
            let info: String = server.run(&["INFO", "replication"]);
            info.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned)).unwrap()
        };
        offset(&master, master_offset) == offset(&replica, copied)
    })
    .await;
    drop(master);
    replica.run::<()>(&["REPLICAOF", "NO", "ONE"]);
    relay.lead_to(replica.port());
    until("the gate to be there", async || inbox.claim(ROUTE, now(), LEASE, 0).await.is_ok()).await;
    assert!(inbox.store(fresh(1)).await.unwrap().copy);
    assert_eq!(deliver_all(&inbox, 9).await, [1]);
}

#[tokio::test]
async fn a_full_server_takes_nothing_and_gives_what_it_has() {
    let Some(server) = Server::start() else { return };
    let inbox = gate(&server);
    for number in 0..20 {
        _ = inbox.store(fresh(number)).await.unwrap();
    }
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(inbox.store(fresh(99)).await.err(), Some(Refusal::Unavailable));
    let keys: Vec<String> = server.run(&["KEYS", "*:event:*"]);
    assert_eq!(keys.len(), 20, "nothing of it is there");
    let mut delivered = BTreeSet::new();
    until("the backlog to be delivered", async || {
        for due in inbox.claim(ROUTE, now(), LEASE, 9).await.unwrap_or_default() {
            delivered.insert(number(&due));
            _ = inbox.settle(due.id, due.attempt, Attempted::Done, now()).await;
        }
        delivered.len() == 20
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_disk_can_be_waited_for_it_is_and_many_wait_together() {
    let every = ["--appendonly", "yes", "--appendfsync", "everysec"];
    let Some(server) = Server::start_with(&every) else { return };
    let inbox = Arc::new(gate(&server));
    let can_wait = durability(&inbox).await.disk == Disk::Waited;
    let started = Instant::now();
    let mut storing = tokio::task::JoinSet::new();
    for number in 0..200 {
        let inbox = Arc::clone(&inbox);
        storing.spawn(async move { inbox.store(fresh(number)).await.unwrap().copy });
    }
    assert!(storing.join_all().await.iter().all(|copy| !copy));
    let took = started.elapsed();
    if !can_wait {
        assert_eq!(durability(&inbox).await.disk, Disk::Second);
        eprintln!("SKIPPED: this redis-server cannot be waited for (it is older than 7.2)");
        return;
    }
    let info: String = server.run(&["INFO", "commandstats"]);
    let waits = info.lines().find_map(|line| line.strip_prefix("cmdstat_waitaof:calls=")).unwrap();
    let waits: u32 = waits.split(',').next().unwrap().parse().unwrap();
    assert!((1..=10).contains(&waits), "{waits} waits for 200 events in {took:?}");
    // It is told that its disk takes nothing more: then nobody is told that an event was taken.
    server.run::<()>(&["CONFIG", "SET", "appendfsync", "no"]);
    assert_eq!(inbox.store(fresh(900)).await.err(), Some(Refusal::Unavailable));
    assert!(said_of(&server, key(900)).is_empty(), "so a copy of it is not turned away");
}

/// What a gate has come to when its way to the store is cut for good, at every place of what it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_is_cut_off_anywhere_loses_nothing_and_holds_up_no_copy() {
    let Some(server) = Server::start() else { return };
    let other = gate(&server);
    // Also what is told once only: the scripts are known, and the route is.
    _ = other.store(fresh(0)).await.unwrap();
    assert_eq!(deliver_all(&other, 9).await, [0]);
    let (mut number, mut acknowledged, mut unsettled) = (1, 0, 0);
    // Where in an exchange it is cut depends on the machine as well.
    for _ in 0..4 {
        for direction in [Direction::Asks, Direction::Answers] {
            for passed in 0..26 {
                for ending in 0..5 {
                    let relay = Cut::start(server.port(), direction, passed);
                    let inbox = at(&relay.url(), ROOMY, &[]);
                    let lived = live(&inbox, number, ending).await;
                    relay.close();
                    drop(inbox);
                    let what = format!("event {number}: {direction:?}, cut after {passed}, {lived:?}");
                    let listed = all(&other).await;
                    let record = listed.iter().find(|record| record.key == key(number));
                    let says = said_of(&server, key(number));
                    let is_stored = record.is_some_and(|record| record.state == State::Stored);
                    // Nothing that was acknowledged is lost, unless the application has it or an operator dropped it.
                    assert!(
                        !lived.acknowledged || record.is_some() || lived.asked || lived.dropped,
                        "{what}"
                    );
                    // A name that turns copies away has an event that will be delivered, or was.
                    assert!(!says.starts_with('s') || is_stored || lived.asked, "{what}: {says}");
                    assert!(says != "d" || lived.asked, "{what}: {says}");
                    if lived.dead {
                        assert_eq!(says, "", "{what}: a copy of what is dead is delivered");
                    }
                    acknowledged += u32::from(lived.acknowledged);
                    unsettled += u32::from(is_stored && lived.asked);
                    if let Some(record) = record {
                        assert!(record.attempts >= u32::from(lived.claimed), "{what}: it was counted");
                        // Whoever is there brings it to its end, when its lease or its hold is over.
                        other.discard(record.id).await.unwrap();
                    }
                    assert_eq!(
                        said_of(&server, key(number)).starts_with('s'),
                        says.starts_with('s') && record.is_none()
                    );
                    number += 1;
                }
            }
        }
        if unsettled > 0 {
            break;
        }
    }
    assert!(
        acknowledged > 50 && unsettled > 0,
        "{acknowledged} acknowledged, {unsettled} asked and not settled"
    );
    assert_eq!(other.bytes(), 0, "what is counted is what is there");
}

/// How far a gate came.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that can have happened")]
struct Lived {
    acknowledged: bool,
    claimed: bool,
    /// The application was asked, and took it.
    asked: bool,
    dead: bool,
    dropped: bool,
}

async fn live(inbox: &Inbox, number: u64, ending: u32) -> Lived {
    let mut lived = Lived::default();
    let Ok(stored) = inbox.store(fresh(number)).await else { return lived };
    lived.acknowledged = true;
    if ending == 4 {
        lived.dropped = true;
        _ = inbox.discard(stored.id).await;
        return lived;
    }
    let Ok(mut claimed) = inbox.claim(ROUTE, now(), LEASE, 9).await else { return lived };
    let Some(due) = claimed.pop() else { return lived };
    lived.claimed = true;
    let dead = Attempted::Dead { outcome: "410".into() };
    let later = Attempted::Later { due_ms: now() + 60_000, outcome: "503".into() };
    lived.asked = ending == 0;
    let came_to = [Attempted::Done, later, dead.clone(), dead][ending as usize].clone();
    let settled = inbox.settle(due.id, due.attempt, came_to, now()).await;
    lived.dead = ending >= 2 && settled.is_ok();
    if ending == 3 && settled.is_ok() && inbox.replay(due.id, now(), now()).await.is_ok() {
        lived.dead = false;
    }
    lived
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Asks,
    Answers,
}

/// A way to the store on which so many pieces pass one way, and nothing ever after.
struct Cut {
    port: u16,
    left: Arc<AtomicI64>,
}

impl Cut {
    fn start(to: u16, direction: Direction, passed: i64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let cut = Cut { port: listener.local_addr().unwrap().port(), left: Arc::new(AtomicI64::new(passed)) };
        let left = Arc::clone(&cut.left);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if left.load(Ordering::SeqCst) <= 0 && direction == Direction::Answers {
                    return;
                }
                let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else { return };
                for (from, into, way) in [(&near, &far, Direction::Asks), (&far, &near, Direction::Answers)] {
                    let (from, into) = (from.try_clone().unwrap(), into.try_clone().unwrap());
                    let left = Arc::clone(&left);
                    std::thread::spawn(move || pass(from, into, (way == direction).then_some(&*left)));
                }
            }
        });
        cut
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn close(&self) {
        self.left.store(0, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut into: TcpStream, left: Option<&AtomicI64>) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        let is_over = left.is_some_and(|left| left.fetch_sub(1, Ordering::SeqCst) <= 0);
        if read == 0 || is_over || into.write_all(&buffer[..read]).is_err() {
            _ = (from.shutdown(Shutdown::Both), into.shutdown(Shutdown::Both));
            return;
        }
    }
}
