//! The replay memory: which events are under way and which are done.
//!
//! The contract, for every store:
//! - `reserve` and `settle` behave like the transitions in
//!   [`gate::filter::replay`](crate::gate::filter::replay), atomically for each key.
//! - A [`Claim`] is the right, and the duty, to deliver an event once. Settling it
//!   tells the followers. Dropping it unsettled releases the event: at least once.
//! - A store that is full refuses new events rather than forgetting one whose replay
//!   nothing else would stop.

pub mod memory;

use std::time::Duration;

use crate::clock::Now;
use crate::gate::answer::Reason;
use crate::gate::filter::freshness::Fresh;
use crate::gate::filter::replay::{Keep, ReplayKey, Token};
pub use memory::Memory;

/// The closed set of stores.
#[derive(Clone)]
pub enum ReplayStore {
    Memory(Memory),
}

/// What a delivery may do about its event.
pub enum Reservation {
    /// Deliver it, then settle.
    Lead(Claim),
    /// Somebody does: wait for the outcome.
    Follow(Waiting),
    /// It was delivered.
    Done,
}

/// How a delivery ended, as followers need to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The application said 2xx.
    Delivered,
    /// It did not. The status is what the leader's sender was told.
    Failed { reason: Reason, status: u16 },
}

/// The store cannot say: it is full, or out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

impl ReplayStore {
    /// Asks for the event of a delivery that is proven genuine and fresh.
    pub fn reserve(&self, fresh: &Fresh, now: Now) -> Result<Reservation, Unavailable> {
        let authentic = fresh.authentic();
        let keep = match authentic.signed_at() {
            Some(_) => Keep::UntilStale,
            None => Keep::WholeWindow,
        };
        match self {
            ReplayStore::Memory(memory) => memory.reserve(authentic.replay_key(), keep, now),
        }
    }

    /// Forgets what has expired, and under pressure what may be forgotten early.
    pub fn sweep(&self, now: Now) -> Swept {
        match self {
            ReplayStore::Memory(memory) => memory.sweep(now),
        }
    }

    pub fn entries(&self) -> usize {
        match self {
            ReplayStore::Memory(memory) => memory.entries(),
        }
    }

    pub fn capacity(&self) -> usize {
        match self {
            ReplayStore::Memory(memory) => memory.capacity(),
        }
    }

    /// Whether a new event could be reserved now.
    pub fn is_usable(&self) -> bool {
        match self {
            ReplayStore::Memory(memory) => memory.entries() < memory.capacity(),
        }
    }
}

/// How many entries a sweep removed, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub expired: usize,
    pub capacity: usize,
}

/// The right to deliver an event once. Moved into the exchange, consumed by `settle`.
#[must_use = "an unsettled claim releases its event"]
pub struct Claim {
    memory: Memory,
    key: ReplayKey,
    token: Token,
    keep: Keep,
    settled: bool,
}

impl Claim {
    /// Commits on delivery, releases on anything else, and tells whoever waits.
    pub fn settle(mut self, outcome: Outcome, now: Now) {
        self.settled = true;
        self.memory.settle(self.key, self.token, self.keep, outcome, now);
    }
}

impl Drop for Claim {
    /// Reached by a panic or an abandoned exchange: the outcome is unknown, so the
    /// event is released and the provider's retry gets through.
    fn drop(&mut self) {
        if !self.settled {
            let reason = Reason::UpstreamFailed;
            let outcome = Outcome::Failed { reason, status: reason.status() };
            self.memory.settle(self.key, self.token, self.keep, outcome, crate::clock::now());
        }
    }
}

/// A copy that waits for the delivery of its event.
pub struct Waiting {
    outcome: tokio::sync::watch::Receiver<Option<Outcome>>,
    wait: Duration,
}

impl Waiting {
    /// The outcome, or `None` if it is still open when the wait is over.
    pub async fn outcome(mut self) -> Option<Outcome> {
        let open = self.outcome.wait_for(Option::is_some);
        match tokio::time::timeout(self.wait, open).await {
            Ok(Ok(outcome)) => *outcome,
            Ok(Err(_)) | Err(_) => None,
        }
    }
}
