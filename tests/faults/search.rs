//! Thousands of short runs in which everything fails that can: the wire to the senders, the
//! wire to the application, the application, and the gate itself. Whatever happens, no event
//! is lost, and none is delivered twice by a gate that remembers it.
//!
//! `HOOKGATE_FAULT_RUNS=10000 cargo test --test faults search -- --nocapture` makes a long search of
//! it, and `HOOKGATE_FAULT_SEED` repeats the decisions of a run whose seed was printed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::ALONE;
use crate::history::{Entry, violations};
use crate::rng::given;
use crate::support::lock;
use crate::world::{Tally, World};

const RUNS: u64 = 40;
/// Side by side: a run mostly waits.
const WORLDS: u8 = 8;
/// A process grows old, and what it logs is kept here.
const RUNS_OF_A_WORLD: usize = 250;

#[test]
fn no_fault_loses_an_event_or_delivers_it_twice() {
    let _alone = lock(&ALONE);
    let runs = given("HOOKGATE_FAULT_RUNS").unwrap_or(RUNS);
    let seed = given("HOOKGATE_FAULT_SEED").unwrap_or_else(|| hookgate::clock::now().wall_ms.unsigned_abs());
    println!("HOOKGATE_FAULT_SEED={seed} HOOKGATE_FAULT_RUNS={runs}");
    let search = Search {
        tally: Arc::default(),
        first: seed,
        next: AtomicU64::new(0),
        runs,
        failed: std::sync::Mutex::default(),
    };
    let search = Arc::new(search);
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let worlds: Vec<_> =
            (0..WORLDS).map(|number| tokio::spawn(Arc::clone(&search).explore(number))).collect();
        for world in worlds {
            world.await.unwrap();
        }
    });
    let failed = lock(&search.failed);
    println!("{} in {:.0?}: {} violations", search.tally, started.elapsed(), failed.len());
    assert!(runs < RUNS || search.tally.injected.total() > runs, "runs without faults prove nothing");
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

/// Runs with seeds that follow each other, and what was found.
struct Search {
    tally: Arc<Tally>,
    first: u64,
    next: AtomicU64,
    runs: u64,
    failed: std::sync::Mutex<Vec<String>>,
}

impl Search {
    /// Takes one seed after the other.
    async fn explore(self: Arc<Self>, number: u8) {
        while self.next.load(Ordering::Relaxed) < self.runs {
            let mut world = World::new(number, Arc::clone(&self.tally)).await;
            for _ in 0..RUNS_OF_A_WORLD {
                let run = self.next.fetch_add(1, Ordering::Relaxed);
                if run >= self.runs {
                    return;
                }
                let seed = self.first.wrapping_add(run);
                self.judge(seed, &world.run(seed).await);
                if run % 1000 == 999 {
                    println!("{}", self.tally);
                }
            }
        }
    }

    fn judge(&self, seed: u64, history: &[Entry]) {
        let found = violations(history);
        if found.is_empty() {
            return;
        }
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        let history: Vec<_> = history.iter().map(|entry| format!("    {entry:?}")).collect();
        let report = format!("HOOKGATE_FAULT_SEED={seed}: {}\n{}", found.join("; "), history.join("\n"));
        println!("{report}");
        lock(&self.failed).push(report);
    }
}
