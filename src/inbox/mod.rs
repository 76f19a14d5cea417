//! The inbox: events that are proved and were acknowledged, and that the application has not taken yet.
//!
//! The contract, for every engine:
//! - [`Stored`] is the proof that an event will outlive a crash. Only an engine makes one, after the
//!   durable write, and it is the only thing besides the application's answer that may become a 2xx.
//! - How an event changes is decided in [`state`]. A stored event and the names by which copies of it are
//!   known are written in one transaction; so are its delivery and what is remembered of that.
//! - An attempt is counted before it is made, so that one which takes the process down counts as well.
//! - An event that the inbox gave up is *dead*, not done: when its sender repeats it, it is delivered.
//! - An inbox that is full or cannot write says so, and takes nothing.

pub mod breaker;
pub mod database;
mod engine;
mod id;
mod keep;
pub mod redis;
pub mod retry;
pub mod seal;
pub mod shelf;
pub mod state;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

pub use self::engine::Inbox;
pub use self::id::Id;
use self::retry::Retry;
use self::state::State;
use crate::gate::filter::replay::{Keep, ReplayKey};

/// What is stored of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What the application is told as the event's idempotency key; the first of its names.
    pub key: ReplayKey,
    /// Every name by which a copy of it is known, `key` among them.
    pub names: SmallVec<[ReplayKey; 1]>,
    pub keep: Keep,
    pub route: Arc<str>,
    pub tenant: Option<Arc<str>>,
    pub event_id: Option<Box<str>>,
    pub event_type: Option<Box<str>>,
    /// Milliseconds since the epoch.
    pub received_ms: i64,
    /// Attempts that were made before it was stored.
    pub attempts: u32,
    /// What the last of them came to.
    pub last_outcome: Option<Box<str>>,
    /// When the next attempt is due.
    pub due_ms: i64,
    /// The last of the attempts is still under way, and settles the event by its number until it is due.
    pub leased: bool,
    /// The request as the application is to get it: its head, and its body.
    pub head: Bytes,
    pub body: Bytes,
}

/// The event outlives a crash. Nobody but an engine makes one.
#[must_use = "it is the proof for an answer of 2xx"]
#[derive(Debug)]
#[expect(clippy::manual_non_exhaustive, reason = "nobody else in this crate makes one either")]
pub struct Stored {
    pub id: Id,
    /// It was there before: this is a copy.
    pub copy: bool,
    _durable: (),
}

/// Why an event was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The inbox holds as much as it may, or the disk has too little room left.
    Full,
    /// It cannot write, or is told more than it can write.
    Unavailable,
}

/// An event whose next attempt is due, and was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub id: Id,
    pub key: ReplayKey,
    pub names: SmallVec<[ReplayKey; 1]>,
    pub keep: Keep,
    /// Which attempt this is; the first is 1.
    pub attempt: u32,
    pub received_ms: i64,
    /// From when the time is counted after which it is given up.
    pub since_ms: i64,
    pub head: Bytes,
    pub body: Bytes,
}

/// What one attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempted {
    /// The application said 2xx.
    Done,
    /// It did not, and is asked again then.
    Later { due_ms: i64, outcome: Box<str> },
    /// It did not, and is not asked any more.
    Dead { outcome: Box<str> },
}

/// A record as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub id: Id,
    pub key: ReplayKey,
    pub route: String,
    pub tenant: Option<String>,
    pub state: State,
    pub event_id: Option<String>,
    pub event_type: Option<String>,
    pub received_ms: i64,
    pub attempts: u32,
    /// `None` where no attempt will be made.
    pub next_attempt_ms: Option<i64>,
    pub last_outcome: Option<String>,
    pub bytes: u64,
}

/// Which records an operator means; every condition that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub route: Option<String>,
    pub state: Option<State>,
    /// The event's id as its sender tells it, or its key in hex.
    pub event: Option<String>,
    /// Received at or after this time.
    pub since_ms: Option<i64>,
}

/// How much there is of one route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    pub stored: u64,
    pub dead: u64,
    pub damaged: u64,
    pub bytes: u64,
    /// When the oldest of the stored ones was received.
    pub oldest_ms: Option<i64>,
}

/// When a route stores, and how it delivers what it stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub on: When,
    /// How long the application has before its event is stored.
    pub answer_within: Duration,
    pub retry: Retry,
    /// Its sender comes again if it is told to.
    pub repeats: bool,
}

/// Why an event was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The route stores each.
    Always,
    /// The application's answer was none.
    Broken,
    /// Too much of the route waited for the application.
    Busy,
    /// Its client was over the limit.
    RateLimited,
    /// The application took longer than its sender waits.
    Slow,
    /// The application said 429 or 5xx.
    Status,
    /// The application was not there.
    Unreachable,
}

impl Cause {
    pub const ALL: [Cause; 7] = [
        Cause::Always,
        Cause::Broken,
        Cause::Busy,
        Cause::RateLimited,
        Cause::Slow,
        Cause::Status,
        Cause::Unreachable,
    ];

    pub const fn label(self) -> &'static str {
        match self {
            Cause::Always => "always",
            Cause::Broken => "broken",
            Cause::Busy => "busy",
            Cause::RateLimited => "rate_limited",
            Cause::Slow => "slow",
            Cause::Status => "status",
            Cause::Unreachable => "unreachable",
        }
    }
}

/// Drawn evenly from the whole range, for waits that are not to be alike.
pub fn chance() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u8)
}

/// When a route stores what is proved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    #[default]
    Never,
    /// If the application does not take it, or not in time.
    Failure,
    /// Before the application is asked.
    Always,
}

/// How much an inbox may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Heads, bodies, and [`OVERHEAD`] for each event.
    pub max_bytes: u64,
    /// What must be left of the disk.
    pub min_free: u64,
    /// How long dead events are kept; they take at most a quarter of the room.
    pub keep_dead_ms: i64,
}

/// What a record takes beside head and body. It also bounds how many there can be.
pub const OVERHEAD: u64 = 512;

impl Event {
    /// What it takes of the inbox's room.
    pub fn size(&self) -> u64 {
        (self.head.len() + self.body.len()) as u64 + OVERHEAD
    }
}

impl Refusal {
    pub const ALL: [Refusal; 2] = [Refusal::Full, Refusal::Unavailable];

    pub const fn label(self) -> &'static str {
        match self {
            Refusal::Full => "full",
            Refusal::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Full => "the inbox is full",
            Refusal::Unavailable => "the inbox cannot write",
        })
    }
}

impl std::error::Error for Refusal {}
