//! How much of a route reaches the application at once, and how fast. A delivery waits for its turn; one
//! that would have to wait longer than its sender does gives up, and its sender is told when to come again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pingora_timeout::{sleep, timeout};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock;
use crate::gate::filter::rate_limit::Quota;
use crate::gate::route::Deliver;
use crate::lock::lock;

/// Where the deliveries of a route wait.
pub struct Lane {
    /// As many as may be with the application.
    places: Option<Arc<Semaphore>>,
    pace: Option<Pace>,
    wait: Duration,
    waiting: AtomicUsize,
}

/// The permission to call the application, until it is dropped.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "is held")] Option<OwnedSemaphorePermit>);

/// There was no turn in time. When there may be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy {
    pub retry_after: Duration,
}

/// At least; the application needs a moment for what is before.
const SOON: Duration = Duration::from_secs(1);

impl Lane {
    /// `None` where nothing is bounded.
    pub fn new(deliver: Deliver) -> Option<Self> {
        if !deliver.is_bounded() {
            return None;
        }
        let Deliver { max_concurrent, rate, wait } = deliver;
        let places =
            max_concurrent.map(|most| Arc::new(Semaphore::new(most.get().min(Semaphore::MAX_PERMITS))));
        let pace = rate.map(|quota| Pace { quota, arrival: Mutex::new(0) });
        Some(Lane { places, pace, wait, waiting: AtomicUsize::new(0) })
    }

    /// Waits for a turn: first come, first served.
    pub async fn turn(&self) -> Result<Turn, Busy> {
        let _waiting = Waiting::new(&self.waiting);
        let started = std::time::Instant::now();
        if let Some(pace) = &self.pace {
            let early = pace.enter(self.wait)?;
            if !early.is_zero() {
                sleep(early).await;
            }
        }
        let Some(places) = &self.places else { return Ok(Turn(None)) };
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Ok(Turn(Some(place)));
        }
        let left = self.wait.saturating_sub(started.elapsed());
        match timeout(left, Arc::clone(places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(Turn(Some(place))),
            Ok(Err(_)) | Err(_) => Err(Busy { retry_after: SOON }),
        }
    }

    /// How many deliveries could have their turn at once; none while others wait.
    pub fn spare(&self) -> usize {
        if self.waiting() > 0 {
            return 0;
        }
        let places = self.places.as_ref().map_or(usize::MAX, |places| places.available_permits());
        if self.pace.is_some() { places.min(1) } else { places }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// Deliveries in a time.
struct Pace {
    quota: Quota,
    /// When the next one is due, in nanoseconds of the steady clock.
    arrival: Mutex<u64>,
}

impl Pace {
    /// How long the delivery has to wait; it has its turn then, unless that is too long.
    fn enter(&self, longest: Duration) -> Result<Duration, Busy> {
        let now = u64::try_from(clock::now().mono.as_nanos()).unwrap_or(u64::MAX);
        let mut arrival = lock(&self.arrival);
        let early = self.quota.step(*arrival, now).err().unwrap_or_default();
        if early > longest {
            return Err(Busy { retry_after: early.max(SOON) });
        }
        let then = now.saturating_add(u64::try_from(early.as_nanos()).unwrap_or(u64::MAX));
        if let Ok(next) = self.quota.step(*arrival, then) {
            *arrival = next;
        }
        Ok(early)
    }
}

/// One that waits, however that ends.
struct Waiting<'w>(&'w AtomicUsize);

impl<'w> Waiting<'w> {
    fn new(count: &'w AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
