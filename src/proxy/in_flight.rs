//! Counts what is under way, so that a shutdown can wait for it and for nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::deadline;

/// Requests and deliveries under way, and how far a shutdown has come.
pub struct InFlight {
    count: AtomicUsize,
    draining: AtomicBool,
    closing: AtomicBool,
    idle: Notify,
}

/// One thing that is under way; dropping it ends that.
pub struct Guard(Arc<InFlight>);

impl InFlight {
    pub fn new() -> Arc<Self> {
        Arc::new(InFlight {
            count: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            idle: Notify::new(),
        })
    }

    pub fn enter(self: &Arc<Self>) -> Guard {
        self.count.fetch_add(1, Ordering::AcqRel);
        Guard(Arc::clone(self))
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// From now on connections are closed after the request they serve.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// From now on connections that serve no request are closed.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        deadline::look();
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Returns when nothing is under way.
    pub async fn idle(&self) {
        loop {
            let notified = self.idle.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            notified.await;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 && self.0.is_draining() {
            self.0.idle.notify_waiters();
        }
    }
}
