//! The shelf: requests that the gate refused, kept for an operator who wants to see one, or to have it delivered
//! once a key that signed it is there.
//!
//! Strangers write on it, so it is no part of the inbox: a database of its own beside that, a thread of its own,
//! which nobody waits for, and no promise. What comes faster than it is written, more than one client's part, or
//! more than there is room for is dropped and counted. Of what is there leaves who takes [the most](share).

mod database;
mod share;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use self::database::{Order, Writer};
use super::Refusal;
use super::database::Fault;
use super::seal::{Keys, Unreadable};
use crate::clock::Now;
use crate::gate::delivery::Client;
use crate::gate::filter::rate_limit::{Quota, RateLimit};
use crate::gate::filter::replay::ReplayKey;
use crate::gate::reason::Reason;
use crate::lock::lock;

/// What waits to be written, at most.
const QUEUE: usize = 256;
/// Places behind it for operators, whom no flood keeps waiting.
const ORDERS: usize = 32;
/// What a record takes beside head and body.
const OVERHEAD: u64 = 512;
/// One client gets this part of the places in a minute, or so many of few; more while there is room for all.
const PART_OF_A_CLIENT: usize = 2;
const LEAST_OF_A_CLIENT: usize = 20;
const A_MINUTE: Duration = Duration::from_secs(60);
/// One request takes no more than this part of the room, and so does what waits to be written.
const PART_OF_ONE: u64 = 4;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub requests: usize,
    pub bytes: u64,
}

/// What was refused.
pub struct Refused {
    pub id: ReplayKey,
    pub route: Arc<str>,
    pub reason: Reason,
    pub facts: Facts,
    /// Without credentials.
    pub head: Vec<u8>,
    pub body: Bytes,
}

/// What is known of a request beside what it says. Sealed together with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub received_ms: i64,
    /// Whether the clock could be believed then.
    pub is_time_certain: bool,
    pub peer: IpAddr,
    pub client: Option<IpAddr>,
    pub secure: bool,
    pub tenant: Option<String>,
    pub held: Held,
}

/// How much of a request is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// All that judges it, and all that the application would get.
    Whole,
    /// Its head: it was refused by that, and its body had not come yet.
    Head,
    /// What would judge it is a secret, which is not written down.
    Withheld,
}

impl Held {
    pub const fn label(self) -> &'static str {
        match self {
            Held::Whole => "whole",
            Held::Head => "head",
            Held::Withheld => "withheld",
        }
    }
}

/// A record as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub id: ReplayKey,
    pub route: String,
    pub tenant: Option<String>,
    pub reason: String,
    pub client: Option<String>,
    pub received_ms: i64,
    pub held: String,
    pub bytes: u64,
}

/// One that was read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub id: ReplayKey,
    pub facts: Facts,
    pub head: Bytes,
    pub body: Bytes,
}

/// Why a request is not kept, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// Its client has had its part of this minute.
    Client,
    /// It was kept for as long as one is.
    Expired,
    /// More came than is written.
    Queue,
    /// Others needed the room.
    Room,
    /// It is too large for the shelf.
    Size,
    /// The disk did not take it.
    Unwritten,
}

impl Drop {
    pub const ALL: [Drop; 6] =
        [Drop::Client, Drop::Expired, Drop::Queue, Drop::Room, Drop::Size, Drop::Unwritten];

    pub const fn label(self) -> &'static str {
        match self {
            Drop::Client => "client",
            Drop::Expired => "expired",
            Drop::Queue => "queue",
            Drop::Room => "room",
            Drop::Size => "size",
            Drop::Unwritten => "unwritten",
        }
    }
}

/// What the thread tells of, for logs and metrics.
#[derive(Clone, Copy, Debug)]
pub enum Told<'t> {
    Kept { route: &'t str, reason: &'t str },
    Dropped { route: &'t str, why: Drop },
    Trouble { message: &'t str },
    Mended,
}

/// Told of what becomes of requests after they were handed over.
pub type Observer = Box<dyn Fn(Told<'_>) + Send>;

/// Where it lies, and how much it may hold.
pub struct Settings {
    /// A folder for the gate alone, which is made if it is not there.
    pub folder: PathBuf,
    pub bounds: Bounds,
    pub keys: Arc<Keys>,
    pub tell: Observer,
}

/// What was found at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    pub kept: usize,
    /// The database was damaged, and is there now.
    pub aside: Option<PathBuf>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub requests: usize,
    pub bytes: u64,
}

/// Which records an operator means; every condition that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub id: Option<ReplayKey>,
    pub route: Option<String>,
    pub reason: Option<String>,
    /// Received at or after this time.
    pub since_ms: Option<i64>,
}

/// Cloning shares it.
#[derive(Clone)]
pub struct Shelf {
    orders: SyncSender<Order>,
    shared: Arc<Shared>,
    bounds: Bounds,
    newcomers: Option<RateLimit>,
}

/// Between the handle and the thread.
#[derive(Default)]
struct Shared {
    totals: Mutex<Totals>,
    /// Requests that wait to be written.
    queued: AtomicUsize,
    /// What they take.
    waiting: AtomicU64,
}

impl Shared {
    /// Whether one more may wait: it is counted then.
    fn joins(&self, size: u64, most: u64) -> bool {
        let queued = self.queued.fetch_add(1, Ordering::Relaxed);
        let waiting = self.waiting.fetch_add(size, Ordering::Relaxed);
        let joins = queued < QUEUE && (waiting + size <= most || waiting == 0);
        if !joins {
            self.left(1, size);
        }
        joins
    }

    fn left(&self, count: usize, size: u64) {
        self.queued.fetch_sub(count, Ordering::Relaxed);
        self.waiting.fetch_sub(size, Ordering::Relaxed);
    }
}

impl Shelf {
    /// The reasons for which a request is kept: those that another key, another list of addresses, another
    /// setting or a look at it may set right. What came whole and was not refused is no such request, nor is a
    /// question, nor what could not be read.
    pub const REASONS: [Reason; 10] = [
        Reason::AddressDenied,
        Reason::BodyMalformed,
        Reason::HttpsRequired,
        Reason::RateLimited,
        Reason::SignatureMalformed,
        Reason::SignatureMismatch,
        Reason::SignatureMissing,
        Reason::TimestampFuture,
        Reason::TimestampMissing,
        Reason::TimestampStale,
    ];

    /// Opens the database and starts the thread.
    pub fn open(settings: Settings, now_ms: i64) -> Result<(Shelf, Opened), Fault> {
        let bounds = settings.bounds;
        let shared = Arc::new(Shared::default());
        let (orders, queue) = std::sync::mpsc::sync_channel(QUEUE + ORDERS);
        let (writer, opened) = Writer::open(settings, queue, Arc::clone(&shared), now_ms)?;
        let thread = std::thread::Builder::new().name("shelf".to_owned());
        thread.spawn(move || writer.run()).map_err(Fault::Io)?;
        let part = bounds.requests.div_ceil(PART_OF_A_CLIENT).max(LEAST_OF_A_CLIENT);
        let part = u32::try_from(part).unwrap_or(u32::MAX);
        let newcomers = Quota::new(part, A_MINUTE).map(RateLimit::new);
        Ok((Shelf { orders, shared, bounds, newcomers }, opened))
    }

    /// Whether a request that was refused for this reason has a place here.
    pub fn takes(reason: Reason) -> bool {
        Shelf::REASONS.contains(&reason)
    }

    /// Whether the client may have one more request of that size kept.
    pub fn has_room(&self, client: Client, size: usize, now: Now) -> Result<(), Drop> {
        if size as u64 + OVERHEAD > self.largest() {
            return Err(Drop::Size);
        }
        match &self.newcomers {
            Some(newcomers)
                if newcomers.check(client, now).is_err() && !self.has_free_places(size as u64) =>
            {
                Err(Drop::Client)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether nobody has to leave for one more of that size, when all that waits is written.
    fn has_free_places(&self, size: u64) -> bool {
        let Totals { requests, bytes } = self.totals();
        let queued = self.shared.queued.load(Ordering::Relaxed);
        let waiting = self.shared.waiting.load(Ordering::Relaxed);
        requests + queued < self.bounds.requests && bytes + waiting + size + OVERHEAD <= self.bounds.bytes
    }

    /// Hands a request over to be written, which nobody waits for.
    pub fn keep(&self, refused: Refused) -> Result<(), Drop> {
        let size = refused.size();
        if !self.shared.joins(size, self.largest()) {
            return Err(Drop::Queue);
        }
        self.orders.try_send(Order::Keep(Box::new(refused))).map_err(|_| {
            self.shared.left(1, size);
            Drop::Queue
        })
    }

    /// Waits until what was handed over before is written.
    pub async fn written(&self) {
        _ = self.order(|_| Ok(())).await;
    }

    fn largest(&self) -> u64 {
        self.bounds.bytes / PART_OF_ONE
    }

    /// The records that are meant, in the order in which they came.
    pub async fn list(&self, selection: Selection) -> Result<Vec<Listed>, Refusal> {
        self.order(move |tables| tables.list(&selection)).await
    }

    /// One record; `None` if there is none of that id.
    pub async fn read(&self, id: ReplayKey) -> Result<Option<(Listed, Result<Kept, Unreadable>)>, Refusal> {
        self.order(move |tables| tables.read(id)).await
    }

    /// It needs nobody any more. Whether it was there.
    pub async fn remove(&self, id: ReplayKey) -> Result<bool, Refusal> {
        self.order(move |tables| tables.remove(id)).await
    }

    /// Seals what comes from now on with other keys.
    pub async fn set_keys(&self, keys: Arc<Keys>) -> Result<(), Refusal> {
        self.order(move |tables| {
            tables.keys = keys;
            Ok(())
        })
        .await
    }

    pub fn totals(&self) -> Totals {
        *lock(&self.shared.totals)
    }

    async fn order<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut database::Tables) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        let order = Order::Do(Box::new(move |tables| {
            // Who asked may have gone.
            _ = reply.send(work(tables).map_err(|_| Refusal::Unavailable));
        }));
        match self.orders.try_send(order) {
            Ok(()) => answer.await.unwrap_or(Err(Refusal::Unavailable)),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Refusal::Unavailable),
        }
    }
}

impl Refused {
    fn size(&self) -> u64 {
        (self.head.len() + self.body.len()) as u64 + OVERHEAD
    }
}
