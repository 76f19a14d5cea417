//! What a store costs that gates share: many gates with one Redis, and with a cluster of three.
//! `cargo bench --bench replay_store` prints the constants of the table in k8s/README.md.
//!
//! Gates are simulated by their stores: each has its own connection and some deliveries under
//! way, all in this process, over loopback. What the store spends is read from the server's own
//! account of its CPU time, so it holds on a busy machine too; the latency does not.

#[allow(dead_code, reason = "a part of it")]
#[path = "../tests/support/pure.rs"]
mod pure;
#[allow(dead_code, clippy::unwrap_used, reason = "a part of it")]
#[path = "../tests/support/redis.rs"]
mod redis_server;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hookgate::clock;
use hookgate::gate::filter::freshness::Fresh;
use hookgate::gate::filter::replay::ReplayPolicy;
use hookgate::store::redis::Settings;
use hookgate::store::{Outcome, Redis, ReplayStore, Reservation};
use pure::{Provider, fresh};
use redis_server::{Cluster, Server};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// Remembered, for the memory that they take.
const REMEMBERED: usize = 1_000_000;

/// What is simulated.
#[derive(Clone, Copy)]
struct Load {
    gates: usize,
    /// Under way at once, at each gate.
    deliveries: usize,
    events: usize,
    /// Events a second over all gates; as many as possible if absent.
    rate: Option<u32>,
}

fn main() {
    let Some(server) = Server::start() else { return };
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let events = Arc::new(events(40_000));
    let one = std::slice::from_ref(&server);

    println!("{:<30} {:>9} {:>15} {:>8} {:>8}", "", "events/s", "store µs/event", "p50 µs", "p99 µs");
    let paced = |rate| Load { gates: 4, deliveries: 4, events: 5000, rate: Some(rate) };
    for (label, load) in [("4 gates, paced", paced(100)), ("4 gates, paced", paced(1000))] {
        measure(label, &runtime, &server.url(), one, &events, load);
    }
    for (gates, deliveries) in [(1, 1), (1, 16), (4, 16), (16, 16), (64, 4)] {
        let label = format!("{gates} gates × {deliveries} deliveries");
        let load = Load { gates, deliveries, events: events.len(), rate: None };
        measure(&label, &runtime, &server.url(), one, &events, load);
    }
    let bytes = memory(&server);
    drop(server);
    if let Some(cluster) = Cluster::start() {
        let load = Load { gates: 4, deliveries: 16, events: events.len(), rate: None };
        measure("a cluster of 3, 4 gates × 16", &runtime, &cluster.url(), &cluster.0, &events, load);
    }
    println!("\n{bytes} bytes of the store's memory for each of {REMEMBERED} remembered events");
}

/// Each an event of its own: one delivery on many routes.
fn events(count: usize) -> Vec<Fresh> {
    let provider = Provider::timed();
    let delivery = provider.delivery("event", b"{}");
    (0..count).map(|n| fresh(delivery.judged_on(&n.to_string(), &provider.signature))).collect()
}

fn gate(url: &str) -> ReplayStore {
    let seconds = Duration::from_secs;
    let policy =
        ReplayPolicy::new(seconds(86_400), seconds(600), seconds(21), seconds(11)).expect("a sane window");
    let settings = Settings {
        address: url.parse().expect("a store's URL"),
        prefix: "shop:0123456789abcdef:".to_owned(),
        password_file: None,
        ca_file: None,
        timeout: seconds(10),
    };
    ReplayStore::Redis(Redis::new(settings, policy, None))
}

/// Reserves and settles every event once, and prints what that took.
fn measure(
    label: &str,
    runtime: &Runtime,
    url: &str,
    servers: &[Server],
    events: &Arc<Vec<Fresh>>,
    load: Load,
) {
    let workers = load.gates * load.deliveries;
    for server in servers {
        server.run::<()>(&["FLUSHALL"]);
    }
    let next = Arc::new(AtomicUsize::new(0));
    let (mut took, elapsed, spent) = runtime.block_on(async {
        let stores: Vec<_> = (0..load.gates).map(|_| gate(url)).collect();
        for store in &stores {
            store.probe().await; // connects
        }
        let before = cpu(servers);
        let started = Instant::now();
        let mut running = JoinSet::new();
        for n in 0..workers {
            let (store, events, next) =
                (stores[n % load.gates].clone(), Arc::clone(events), Arc::clone(&next));
            let pause =
                load.rate.map(|rate| Duration::from_secs(1) * u32::try_from(workers).expect("few") / rate);
            running.spawn(async move {
                let mut took = Vec::new();
                let mut beat = pause.map(tokio::time::interval);
                while let Some(event) = events[..load.events].get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(beat) = &mut beat {
                        beat.tick().await;
                    }
                    let started = Instant::now();
                    match store.reserve(event, clock::now()).await {
                        Ok(Reservation::Lead(claim)) => claim.settle(Outcome::Delivered, clock::now()).await,
                        Ok(_) | Err(_) => panic!("the event is new and the store is there"),
                    }
                    took.push(started.elapsed());
                }
                took
            });
        }
        let took: Vec<_> = running.join_all().await.concat();
        (took, started.elapsed(), cpu(servers).saturating_sub(before))
    });
    assert_eq!(took.len(), load.events);
    took.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let count = load.events as f64;
    let micros = spent.as_secs_f64() * 1e6 / count;
    println!(
        "{label:<30} {:>9.0} {micros:>15.1} {:>8} {:>8}",
        count / elapsed.as_secs_f64(),
        took[load.events / 2].as_micros(),
        took[load.events * 99 / 100].as_micros()
    );
}

/// The CPU time that servers say they have used.
fn cpu(servers: &[Server]) -> Duration {
    let used = |server: &Server, what: &str| -> f64 {
        let info = server.run::<String>(&["INFO", "cpu"]);
        let line = info.lines().find_map(|line| line.strip_prefix(what)).expect("INFO tells the CPU time");
        line.trim().parse().expect("seconds")
    };
    let seconds = servers.iter().map(|s| used(s, "used_cpu_user:") + used(s, "used_cpu_sys:")).sum();
    Duration::from_secs_f64(seconds)
}

/// Bytes of the server's memory for each remembered event. It remembers one that a gate has
/// settled, and copies of its key under other digests, because a million deliveries take long.
fn memory(server: &Server) -> u64 {
    let mut connection = server.connect();
    let keys: Vec<String> = redis::cmd("KEYS").arg("hookgate:{*}").query(&mut connection).expect("keys");
    let template = keys.first().expect("an event that was settled").clone();
    let (value, left): (String, u64) = (server.run(&["GET", &template]), server.run(&["PTTL", &template]));
    server.run::<()>(&["FLUSHALL"]);
    let used = || -> u64 {
        let info = server.run::<String>(&["INFO", "memory"]);
        let line =
            info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("INFO tells the memory");
        line.trim().parse().expect("bytes")
    };
    let before = used();
    let digits = template.find('{').expect("a hash tag") + 1;
    for first in (0..REMEMBERED).step_by(1000) {
        let mut batch = redis::pipe();
        for n in first..first + 1000 {
            let mut key = template.clone();
            key.replace_range(digits..digits + 32, &format!("{n:032x}"));
            batch.cmd("SET").arg(key).arg(&value).arg("PX").arg(left).ignore();
        }
        () = batch.query(&mut connection).expect("the server takes them");
    }
    (used() - before) / REMEMBERED as u64
}
