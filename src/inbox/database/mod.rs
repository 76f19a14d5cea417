//! The embedded engine: one `SQLite` database, which a thread of its own reads and writes.
//!
//! Orders are gathered while a commit is on its way to the disk, and the next commit takes all of them: a
//! lone event waits for one commit, many wait for one together. Nothing is answered before the commit that
//! it was part of is durable (`synchronous=FULL`). Where one order of a commit fails, each is tried alone, so
//! that it takes no other with it.

mod open;
mod tables;
mod writer;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

pub use self::open::{Fault, Kept, Opened, Salvaged, make};
pub(in crate::inbox) use self::open::{connect, hold, is_damage};
use self::tables::Tables;
use self::writer::{Order, Shared, Writer};
use super::seal::Keys;
use super::{Attempted, Bounds, Depth, Due, Event, Id, Listed, Refusal, Selection, Stored};
use crate::clock;
use crate::gate::filter::replay::ReplayKey;
use crate::lock::lock;

/// What waits to be written, at most.
const QUEUE: usize = 8192;

/// Cloning shares it.
#[derive(Clone)]
pub struct Inbox {
    orders: SyncSender<Order>,
    shared: Arc<Shared>,
    max_bytes: u64,
}

/// Told how long each commit took, and whether it is durable.
pub type Observer = Box<dyn Fn(Duration, bool) + Send>;

/// Where it lies, and how much it may hold.
pub struct Settings {
    /// A folder for it alone, which is made if it is not there.
    pub folder: PathBuf,
    pub bounds: Bounds,
    pub keys: Arc<Keys>,
    pub wrote: Observer,
}

/// What the owner of an inbox is told, for logs and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Durable commits, and how long they took together.
    pub commits: u64,
    pub commit_time: Duration,
    /// Orders that failed, since the start.
    pub failed: u64,
    /// Records that cannot be read, since the start.
    pub set_aside: u64,
    /// Dead events that were dropped because there was no room or time left for them.
    pub dead_dropped: u64,
    /// Whether the last commit was written.
    pub writes: bool,
    /// Why it was not.
    pub trouble: Option<String>,
}

impl Inbox {
    /// Opens the database, tells `kept` of each event that a copy must not be delivered of, and starts the
    /// thread. Attempts that were under way when the process ended are due at once; they were counted.
    pub fn open(
        settings: Settings,
        now_ms: i64,
        kept: &mut dyn FnMut(ReplayKey, Kept),
    ) -> Result<(Inbox, Opened), Fault> {
        let Settings { folder, bounds, keys, wrote } = settings;
        let (tables, lock, opened) = open::open(folder, bounds, keys, now_ms, kept)?;
        let shared = Arc::new(Shared::new(&tables));
        let (orders, queue) = std::sync::mpsc::sync_channel(QUEUE);
        let writer = Writer::new(tables, lock, queue, Arc::clone(&shared), wrote);
        let thread = std::thread::Builder::new().name("inbox".to_owned());
        thread.spawn(move || writer.run()).map_err(Fault::Io)?;
        Ok((Inbox { orders, shared, max_bytes: bounds.max_bytes }, opened))
    }

    /// Has the disk confirm the event. Only then may its sender be told that it was taken.
    pub async fn store(&self, event: Event) -> Result<Stored, Refusal> {
        let stored = self.order(move |tables| tables.store(&event)).await?;
        self.shared
            .is_full
            .store(stored.as_ref().is_err_and(|refusal| *refusal == Refusal::Full), Ordering::Relaxed);
        let stored = stored?;
        self.shared.wake.notify_one();
        Ok(stored)
    }

    /// Up to so many of the route's events whose attempt is due. Each attempt is counted, and the event is
    /// nobody else's until it is settled or `lease` has passed.
    pub async fn claim(
        &self,
        route: &str,
        now_ms: i64,
        lease: Duration,
        most: usize,
    ) -> Result<Vec<Due>, Refusal> {
        let route = route.to_owned();
        let lease_ms = clock::millis(lease);
        self.order(move |tables| tables.claim(&route, now_ms, lease_ms, most)).await
    }

    /// What an attempt came to. `false` if the event was claimed again or dropped meanwhile: then this
    /// attempt decides nothing.
    pub async fn settle(
        &self,
        id: Id,
        attempt: u32,
        came_to: Attempted,
        now_ms: i64,
    ) -> Result<bool, Refusal> {
        let id = row(id);
        let settled = self.order(move |tables| tables.settle(id, attempt, &came_to, now_ms)).await;
        self.shared.wake.notify_one();
        settled
    }

    /// A copy was delivered past the inbox: a dead event of that name needs nobody any more.
    pub async fn overtaken(&self, names: &[ReplayKey]) -> Result<(), Refusal> {
        if !self.shared.has_dead.load(Ordering::Relaxed) {
            return Ok(());
        }
        let names = names.to_vec();
        self.order(move |tables| tables.overtaken(&names)).await
    }

    /// A copy of what was delivered from the inbox may be delivered again.
    pub async fn forget(&self, name: ReplayKey) -> Result<(), Refusal> {
        self.order(move |tables| tables.forget(name)).await
    }

    /// When the next attempt of the route is due.
    pub async fn next_due(&self, route: &str) -> Result<Option<i64>, Refusal> {
        let route = route.to_owned();
        self.order(move |tables| tables.next_due(&route)).await
    }

    /// The records that are meant, a part at a time: those behind `after`, and where the next part begins.
    pub async fn list(&self, selection: Selection, after: Id) -> Result<(Vec<Listed>, Option<Id>), Refusal> {
        let after = row(after);
        self.order(move |tables| tables.list(&selection, after)).await
    }

    /// Head and body of one record; `None` if there is none of that id, or it cannot be read.
    pub async fn show(&self, id: Id) -> Result<Option<(Listed, Option<Due>)>, Refusal> {
        let id = row(id);
        self.order(move |tables| tables.show(id)).await
    }

    /// Makes one event due at that time, also if it is dead; the names by which its copies are known
    /// from now on. `None` if there is none, or it cannot be read.
    pub async fn replay(&self, id: Id, now_ms: i64, due_ms: i64) -> Result<Option<Vec<ReplayKey>>, Refusal> {
        let id = row(id);
        let replayed = self.order(move |tables| tables.replay(id, now_ms, due_ms)).await;
        self.shared.wake.notify_one();
        replayed
    }

    /// Forgets one event; the names by which its copies were known. `None` if there is none.
    pub async fn discard(&self, id: Id) -> Result<Option<Vec<ReplayKey>>, Refusal> {
        let id = row(id);
        self.order(move |tables| tables.discard(id)).await
    }

    /// Holds a route's events back, or lets them go on; over restarts.
    pub async fn pause(&self, route: &str, is_paused: bool) -> Result<(), Refusal> {
        let route = route.to_owned();
        let done = self.order(move |tables| tables.pause(&route, is_paused)).await;
        self.shared.wake.notify_one();
        done
    }

    pub async fn paused(&self) -> Result<Vec<String>, Refusal> {
        self.order(Tables::paused).await
    }

    /// Forgets what has been kept for long enough, and heals due times after a jump of the clock: none is
    /// further away than the longest wait.
    pub async fn tidy(&self, now_ms: i64, window: Duration, longest: Duration) -> Result<(), Refusal> {
        let (window, longest) = (clock::millis(window), clock::millis(longest));
        self.order(move |tables| tables.tidy(now_ms, window, longest)).await
    }

    /// Seals what comes from now on with other keys.
    pub async fn set_keys(&self, keys: Arc<Keys>) -> Result<(), Refusal> {
        self.order(move |tables| {
            tables.keys = Arc::clone(&keys);
            Ok(())
        })
        .await
    }

    /// How much there is, by route.
    pub fn depths(&self) -> BTreeMap<String, Depth> {
        lock(&self.shared.depths).clone()
    }

    /// What it holds, in bytes.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    pub fn totals(&self) -> Totals {
        lock(&self.shared.totals).clone()
    }

    /// Told when there may be something due earlier than was known.
    pub fn wake(&self) -> &Notify {
        &self.shared.wake
    }

    /// Whether the last event that came had no room.
    pub fn is_full(&self) -> bool {
        self.shared.is_full.load(Ordering::Relaxed)
    }

    /// Whether an event could be stored now.
    pub fn is_usable(&self) -> bool {
        self.totals().writes
    }

    async fn order<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Tables) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        match self.orders.try_send(writer::order(work, reply)) {
            Ok(()) => answer.await.unwrap_or(Err(Refusal::Unavailable)),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Refusal::Unavailable),
        }
    }
}

/// The row of an id; no row if it is of another engine.
fn row(id: Id) -> i64 {
    i64::try_from(id.0).unwrap_or(i64::MAX)
}

impl Shared {
    fn new(tables: &Tables) -> Self {
        Shared {
            depths: Mutex::new(tables.depths().clone()),
            bytes: AtomicU64::new(tables.bytes()),
            is_full: AtomicBool::new(false),
            has_dead: AtomicBool::new(tables.has_dead()),
            totals: Mutex::new(Totals { writes: true, ..Totals::default() }),
            wake: Notify::new(),
        }
    }
}
