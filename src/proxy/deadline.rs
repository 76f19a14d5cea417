//! Deadlines that hardly ever pass. A timer of the runtime is a box, a lock and a walk through a tree
//! for each of them, set and taken back with every request. Here a deadline is a number in its
//! connection's memory, and one thread looks at all of them ten times a second: they pass up to two
//! tenths of a second late, and cost next to nothing.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, Weak};
use std::task::Poll;
use std::time::Duration;

use atomic_waker::AtomicWaker;

use crate::lock::lock;

/// A place for one deadline at a time.
pub struct Deadline {
    /// The tick at which somebody is woken.
    due: AtomicU64,
    waker: AtomicWaker,
}

/// The time is over.
#[derive(Debug, PartialEq, Eq)]
pub struct Elapsed;

const TICK: Duration = Duration::from_millis(100);
const NEVER: u64 = u64::MAX;

impl Deadline {
    pub fn new() -> Arc<Self> {
        let deadline = Arc::new(Deadline { due: AtomicU64::new(NEVER), waker: AtomicWaker::new() });
        TICKER.add(Arc::downgrade(&deadline));
        deadline
    }

    /// Waits for this, but not longer than that, and not if `ends` when it is [looked at](look). What is
    /// waited for stays where it is pinned: moved into here, it would be there twice.
    pub async fn within<T>(
        &self,
        limit: Duration,
        mut future: Pin<&mut impl Future<Output = T>>,
        ends: impl Fn() -> bool,
    ) -> Result<T, Elapsed> {
        let mut due = NEVER;
        poll_fn(|cx| {
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                self.due.store(NEVER, Ordering::Relaxed);
                return Poll::Ready(Ok(value));
            }
            self.waker.register(cx.waker());
            if due == NEVER {
                due = tick() + ticks(limit);
                self.due.store(due, Ordering::Release);
            }
            if tick() >= due || ends() { Poll::Ready(Err(Elapsed)) } else { Poll::Pending }
        })
        .await
    }
}

/// Tenths of a second since some time.
pub fn tick() -> u64 {
    TICKER.now.load(Ordering::Acquire)
}

/// The present tick has begun already.
pub fn ticks(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis().div_ceil(TICK.as_millis())).unwrap_or(NEVER / 2) + 1
}

/// Wakes everybody who waits, so that they see that something has changed.
pub fn look() {
    TICKER.wake(|_| true);
}

static TICKER: LazyLock<Ticker> = LazyLock::new(|| {
    // Without it no deadline would pass. It is made with the first connection.
    std::thread::Builder::new().name("deadlines".into()).spawn(|| TICKER.run()).expect("a thread");
    Ticker { now: AtomicU64::new(0), deadlines: Mutex::default(), some: Condvar::new() }
});

struct Ticker {
    now: AtomicU64,
    deadlines: Mutex<Vec<Weak<Deadline>>>,
    some: Condvar,
}

impl Ticker {
    fn add(&self, deadline: Weak<Deadline>) {
        let mut deadlines = lock(&self.deadlines);
        // It sleeps for as long as there is none; to wake it is a system call.
        if deadlines.is_empty() {
            self.some.notify_one();
        }
        deadlines.push(deadline);
    }

    fn run(&self) {
        loop {
            let deadlines = lock(&self.deadlines);
            drop(self.some.wait_while(deadlines, |deadlines| deadlines.is_empty()));
            std::thread::sleep(TICK);
            let now = self.now.fetch_add(1, Ordering::AcqRel) + 1;
            self.wake(|due| due <= now);
        }
    }

    fn wake(&self, due: impl Fn(u64) -> bool) {
        let mut deadlines = lock(&self.deadlines);
        deadlines.retain(|deadline| {
            let Some(deadline) = deadline.upgrade() else { return false };
            if due(deadline.due.load(Ordering::Acquire)) {
                deadline.waker.wake();
            }
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn what_takes_too_long_ends_and_nothing_else_does() {
        let deadline = Deadline::new();
        let never = || false;
        let short = Duration::from_millis(50);
        assert_eq!(deadline.within(short, pin!(std::future::ready(1)), never).await, Ok(1));
        assert_eq!(deadline.within(short, pin!(std::future::pending::<()>()), never).await, Err(Elapsed));
        let soon = pin!(tokio::time::sleep(Duration::from_millis(300)));
        assert_eq!(deadline.within(Duration::from_secs(60), soon, never).await, Ok(()));
    }

    #[tokio::test]
    async fn who_waits_can_be_told_to_look() {
        let told = Arc::new(AtomicU64::new(0));
        let sees = Arc::clone(&told);
        let waits = tokio::spawn(async move {
            let ends = || sees.load(Ordering::Relaxed) > 0;
            let forever = pin!(std::future::pending::<()>());
            Deadline::new().within(Duration::from_secs(60), forever, ends).await
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        told.store(1, Ordering::Relaxed);
        look();
        assert_eq!(waits.await.unwrap(), Err(Elapsed));
    }
}
