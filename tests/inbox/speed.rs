//! How fast the inbox is: run by hand, with `--ignored --nocapture`, for `benches/README.md`.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hookgate::inbox::Inbox;

use crate::delivery::with_inbox;
use crate::fixture::{Folder, ROUTE, World, event, open};
use crate::redis_server::Server;
use crate::support::gate::same;
use crate::support::{App, Dir, Gate, Signer};

fn sized(number: u64) -> hookgate::inbox::Event {
    hookgate::inbox::Event { body: Bytes::from(vec![b'x'; 1024]), ..event(number) }
}

/// Rate, median and 99th percentile of `senders` that each wait for their event.
async fn many(inbox: &Inbox, senders: u64, each: u64) -> (f64, Duration, Duration) {
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for sender in 0..senders {
        let inbox = inbox.clone();
        tasks.spawn(async move {
            let mut took = Vec::new();
            for number in 0..each {
                let begun = Instant::now();
                _ = inbox.store(sized(senders * 1_000_000 + sender * each + number)).await.unwrap();
                took.push(begun.elapsed());
            }
            took
        });
    }
    let mut took: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    took.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = took.len() as f64 / started.elapsed().as_secs_f64();
    (rate, took[took.len() / 2], took[took.len() * 99 / 100])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute; run by hand"]
async fn the_rate_of_always_beside_one_sync_after_the_other() {
    let folder = Folder::new();
    let (inbox, ..) = open(&folder.0);
    let path = folder.0.join("plain");
    let mut plain = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    let (started, mut syncs) = (Instant::now(), 0_u32);
    let mut took = Vec::new();
    while started.elapsed() < Duration::from_secs(3) {
        let begun = Instant::now();
        plain.write_all(&[b'x'; 1024]).unwrap();
        plain.sync_data().unwrap();
        took.push(begun.elapsed());
        syncs += 1;
    }
    took.sort_unstable();
    let alone = f64::from(syncs) / started.elapsed().as_secs_f64();
    println!(
        "one sync after the other: {alone:.0}/s, p50 {:?}, p99 {:?}",
        took[took.len() / 2],
        took[took.len() * 99 / 100]
    );
    let shared = Server::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).map(World::Shared);
    let shared = shared.map(|world| ("a shared store that syncs each write", world.open(), world));
    let engines =
        [("a folder", &inbox)].into_iter().chain(shared.iter().map(|(what, inbox, _)| (*what, inbox)));
    for (what, inbox) in engines {
        for (senders, each) in [(1, 500), (32, 300), (128, 150)] {
            let (rate, median, most) = many(inbox, senders, each).await;
            let times = rate / alone;
            println!(
                "{what}, {senders} senders: {rate:.0}/s ({times:.1} times), p50 {median:?}, p99 {most:?}"
            );
        }
    }
}

#[test]
#[ignore = "takes a minute; run by hand"]
fn live_deliveries_beside_a_backlog_that_drains() {
    const BACKLOG: usize = 20_000;
    let (state, mut app) = (Dir::new(), App::ok());
    let route = "rate_limit: off, inbox: { on: failure, retry: { first: 1s, max: 5s } }";
    // An application that is away is tried for as long before an event is stored.
    let gate = with_inbox(&app, &state, route).with("upstream-connect-timeout", "20ms").start();
    let stored = |gate: &Gate| gate.metrics().sum("hookgate_inbox_events", &[("state", "stored")]);
    let live = |until: &dyn Fn(usize) -> bool| {
        let mut took = Vec::new();
        while !until(took.len()) {
            let begun = Instant::now();
            assert_eq!(gate.send(&Signer::github().event()).status, 200);
            took.push(begun.elapsed());
            std::thread::sleep(Duration::from_millis(2));
        }
        took.sort_unstable();
        (took.len(), took[took.len() / 2], took[took.len() * 99 / 100])
    };
    let quiet = live(&|sent| sent == 3000);
    app.stop();
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                for _ in 0..BACKLOG / 32 {
                    assert_eq!(gate.send(&Signer::github().event()).status, 202);
                }
            });
        }
    });
    app.start();
    app.wait_for(3001);
    let started = Instant::now();
    let draining = live(&|sent| sent % 50 == 49 && same(stored(&gate), 0.0));
    println!(
        "(deliveries, p50, p99) alone: {quiet:?}; beside {BACKLOG} that drain in {:?}: {draining:?}",
        started.elapsed()
    );
    assert_eq!(app.seen(), quiet.0 + BACKLOG + draining.0, "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes a million events; run by hand"]
async fn a_start_with_a_million_stored_events() {
    let folder = Folder::new();
    let (inbox, ..) = open(&folder.0);
    let each = 1000;
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for sender in 0..1000_u64 {
        let inbox = inbox.clone();
        tasks.spawn(async move {
            for number in 0..each {
                let mut event = sized(sender * each + number);
                event.body = event.body.slice(..256);
                _ = inbox.store(event).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    println!("a million stored in {:?}", started.elapsed());
    drop(inbox);
    std::thread::sleep(Duration::from_secs(1));
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/statm").unwrap();
        status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    let before = resident();
    let started = Instant::now();
    let mut known = 0_u64;
    let settings = hookgate::inbox::database::Settings {
        folder: folder.0.clone(),
        bounds: crate::fixture::ROOMY,
        keys: std::sync::Arc::default(),
        wrote: Box::new(|_, _| ()),
    };
    let (inbox, opened) = Inbox::open(settings, 0, &mut |_, _| known += 1).unwrap();
    let due = inbox.claim(ROUTE, i64::MAX - 1, Duration::from_secs(1), 1).await.unwrap();
    println!(
        "first event in hand after {:?}; {} stored, {known} names, {} bytes of memory an event",
        started.elapsed(),
        opened.stored,
        resident().saturating_sub(before) / known
    );
    assert_eq!((due.len(), known), (1, 1_000_000));
}
