//! The replay memory: which events are under way and which are done.
//!
//! The contract, for every store:
//! - `reserve` and `settle` behave like the transitions in
//!   [`gate::filter::replay`](crate::gate::filter::replay), atomically for each key.
//! - An event with several names is held by all of them or by none: a copy that finds one taken lets
//!   go of the others. They are asked for in one order, so no two copies wait for each other.
//! - A [`Claim`] is the right, and the duty, to deliver an event once. Settling it
//!   tells the followers. Dropping it unsettled releases the event: at least once.
//! - A store that is full refuses new events rather than forgetting one whose replay
//!   nothing else would stop.

pub mod deliveries;
pub mod journal;
pub mod memory;
pub mod redis;

use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::watch;

pub use self::redis::{Cause, Failures, Health, Redis, Trouble};
use crate::clock::Now;
use crate::gate::filter::freshness::Fresh;
use crate::gate::filter::rate_limit::SharedCell;
use crate::gate::filter::replay::{Forgotten, HolderId, Keep, ReplayKey};
use crate::gate::reason::Reason;
pub use memory::Memory;

/// The closed set of stores.
#[derive(Clone)]
pub enum ReplayStore {
    Memory(Memory),
    Redis(Redis),
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
    /// It did not, and the event is durable in the inbox, which will deliver it.
    Stored,
    /// It did not. The status is what the leader's sender was told.
    Failed { reason: Reason, status: u16 },
}

impl Outcome {
    /// It ended with this answer of ours.
    const fn failed(reason: Reason) -> Self {
        Outcome::Failed { reason, status: reason.status() }
    }
}

/// The store cannot say: it is full, or out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

impl ReplayStore {
    /// Asks for the event of a delivery that is proven genuine and fresh. Where nothing tells the
    /// route's events apart, each delivery leads.
    pub async fn reserve(&self, fresh: &Fresh, now: Now) -> Result<Reservation, Unavailable> {
        let authentic = fresh.authentic();
        let keep = authentic.keep();
        let mut claim = Claim { keep, held: SmallVec::new() };
        for key in authentic.names() {
            let found = match self {
                ReplayStore::Memory(memory) => memory.reserve(*key, now),
                // On the heap, here and below, so that every other delivery's future stays small.
                ReplayStore::Redis(redis) => Box::pin(redis.reserve(*key, keep, now)).await,
            };
            let taken = match found {
                Ok(Found::Lead(holder)) => {
                    claim.held.push((*key, holder));
                    continue;
                }
                Ok(Found::Follow(way)) => Ok(Reservation::Follow(Waiting(way))),
                Ok(Found::Done) => Ok(Reservation::Done),
                Err(Unavailable) => Err(Unavailable),
            };
            // Nothing was delivered under the names that are held already.
            Box::pin(claim.settle(Outcome::failed(Reason::InFlight), now)).await;
            return taken;
        }
        Ok(Reservation::Lead(claim))
    }

    /// Asks a rate limit that gates share how much too early a request comes. `None` if it is
    /// in time, or if nobody can say: then each gate's own limit is all there is.
    pub async fn excess(&self, cell: &SharedCell) -> Option<Duration> {
        match self {
            ReplayStore::Memory(_) => None,
            ReplayStore::Redis(redis) => Box::pin(redis.excess(cell)).await,
        }
    }

    /// The value of a field in a hash of a store that gates share; `None` if it is not there.
    pub async fn field(&self, hash: &str, name: &str) -> Result<Option<Vec<u8>>, String> {
        match self {
            ReplayStore::Memory(_) => Err("gates share no store".to_owned()),
            ReplayStore::Redis(redis) => redis.field(hash, name).await,
        }
    }

    /// A part of the fields of such a hash, with their values, from where the part before it ended, at first "0";
    /// and where the next one begins, "0" if there is none. A field may come twice.
    pub async fn fields(&self, hash: &str, at: &str) -> Result<(String, Vec<(Vec<u8>, Vec<u8>)>), String> {
        match self {
            ReplayStore::Memory(_) => Err("gates share no store".to_owned()),
            ReplayStore::Redis(redis) => redis.fields(hash, at).await,
        }
    }

    /// Lets an event that was delivered be delivered again, because an operator says so. One
    /// that is being delivered is not touched.
    pub async fn forget(&self, key: ReplayKey, now: Now) -> Result<Forgotten, Unavailable> {
        match self {
            ReplayStore::Memory(memory) => Ok(memory.forget(key, now)),
            ReplayStore::Redis(redis) => redis.forget(key, now).await,
        }
    }

    /// The inbox has the event: its copies are answered as those of a delivered one.
    pub fn stored(&self, names: &[ReplayKey], now: Now) {
        if let ReplayStore::Memory(memory) = self {
            for name in names {
                memory.stored(*name, now);
            }
        }
    }

    /// What the inbox has delivered before the start, so many milliseconds ago.
    pub fn restore_done(&self, name: ReplayKey, keep: Keep, age_ms: i64) {
        if let ReplayStore::Memory(memory) = self {
            memory.restore_done(name, keep, Duration::from_millis(u64::try_from(age_ms).unwrap_or_default()));
        }
    }

    /// What was in the inbox is there no more: the application has it, or else the next copy is delivered.
    pub fn left_inbox(&self, names: &[ReplayKey], delivered: Option<Keep>, now: Now) {
        if let ReplayStore::Memory(memory) = self {
            for name in names {
                memory.left_inbox(*name, delivered, now);
            }
        }
    }

    /// Writes down what must outlive the process; `false` if that failed.
    pub fn close(&self) -> bool {
        match self {
            ReplayStore::Memory(memory) => memory.close(),
            ReplayStore::Redis(_) => true,
        }
    }

    /// Forgets what has expired, and under pressure what may be forgotten early.
    pub fn sweep(&self, now: Now) -> Swept {
        match self {
            ReplayStore::Memory(memory) => memory.sweep(now),
            ReplayStore::Redis(redis) => redis.sweep(now),
        }
    }

    /// The memory of this process: all there is, or what takes a shared store's place.
    pub fn memory(&self) -> Option<&Memory> {
        match self {
            ReplayStore::Memory(memory) => Some(memory),
            ReplayStore::Redis(redis) => redis.fallback(),
        }
    }

    /// What this process remembers by itself.
    pub fn entries(&self) -> usize {
        self.memory().map_or(0, Memory::entries)
    }

    pub fn capacity(&self) -> usize {
        self.memory().map_or(0, Memory::capacity)
    }

    /// Whether the store answers.
    pub fn is_up(&self) -> bool {
        match self {
            ReplayStore::Memory(_) => true,
            ReplayStore::Redis(redis) => redis.is_up(),
        }
    }

    /// Whether a new event could be reserved now.
    pub fn is_usable(&self) -> bool {
        match self {
            ReplayStore::Memory(memory) => memory.entries() < memory.capacity(),
            ReplayStore::Redis(redis) => redis.is_usable(),
        }
    }

    /// Asks a store outside the process whether it is there.
    pub async fn probe(&self) {
        match self {
            ReplayStore::Memory(_) => {}
            ReplayStore::Redis(redis) => redis.probe().await,
        }
    }

    /// The calls of a store outside the process that failed since this was last asked.
    pub fn failures(&self) -> Failures {
        match self {
            ReplayStore::Memory(_) => Failures::default(),
            ReplayStore::Redis(redis) => redis.failures(),
        }
    }

    /// What is known of a store outside the process.
    pub fn health(&self) -> Option<watch::Receiver<Health>> {
        match self {
            ReplayStore::Memory(_) => None,
            ReplayStore::Redis(redis) => Some(redis.health()),
        }
    }
}

/// How many entries a sweep removed, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub expired: usize,
    pub capacity: usize,
}

/// What one name of an event was found to be.
enum Found {
    /// It is ours now.
    Lead(Holder),
    /// Another delivery has it.
    Follow(Way),
    Done,
}

/// The right to deliver an event once. Moved into the exchange, consumed by `settle`.
#[must_use = "an unsettled claim releases its event"]
pub struct Claim {
    keep: Keep,
    /// Each of the event's names; none once it is settled.
    held: SmallVec<[(ReplayKey, Holder); 1]>,
}

enum Holder {
    Memory(Memory, HolderId),
    /// The same, while a shared store was away.
    Fallback(Memory, HolderId),
    /// On the heap, so that every other claim is small.
    Redis(Box<redis::Holding>),
}

impl Claim {
    /// Commits on delivery, releases on anything else, and tells whoever waits.
    pub async fn settle(mut self, outcome: Outcome, now: Now) {
        while let Some((key, holder)) = self.held.pop() {
            match holder {
                Holder::Memory(memory, id) => memory.settle(key, id, self.keep, outcome, now),
                Holder::Fallback(memory, id) => {
                    memory.settle(key, id, self.keep, outcome, now);
                    // That the inbox has it, the store itself says, which is there again.
                    memory.left_inbox(key, None, now);
                }
                Holder::Redis(holding) => Box::pin(holding.settle(outcome)).await,
            }
        }
    }
}

impl Drop for Claim {
    /// Reached by a panic or an abandoned exchange: the outcome is unknown, so the
    /// event is released and a repeat of it gets through.
    fn drop(&mut self) {
        let unknown = Outcome::failed(Reason::UpstreamFailed);
        for (key, holder) in self.held.drain(..) {
            match holder {
                Holder::Memory(memory, id) | Holder::Fallback(memory, id) => {
                    memory.settle(key, id, self.keep, unknown, crate::clock::now());
                }
                Holder::Redis(holding) => holding.settle_in_background(Some(unknown)),
            }
        }
    }
}

/// A copy that waits for the delivery of its event.
pub struct Waiting(Way);

/// How it learns of the outcome.
enum Way {
    Told { outcome: watch::Receiver<Option<Outcome>>, wait: Duration },
    Asking(redis::Following),
}

impl Waiting {
    /// The outcome, or `None` if it is still open when the wait is over.
    pub async fn outcome(self) -> Option<Outcome> {
        match self.0 {
            Way::Told { mut outcome, wait } => {
                let open = outcome.wait_for(Option::is_some);
                match tokio::time::timeout(wait, open).await {
                    Ok(Ok(outcome)) => *outcome,
                    Ok(Err(_)) | Err(_) => None,
                }
            }
            Way::Asking(following) => Box::pin(following.outcome()).await,
        }
    }
}
