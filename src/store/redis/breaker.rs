//! Stops asking a store that does not answer: after a few failures in a row calls fail at
//! once, and one call in each pause tries whether it is back.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

#[derive(Debug, Default)]
pub struct Breaker {
    /// In a row.
    failures: AtomicU32,
    /// When the next call may try, in milliseconds.
    next_try: AtomicU64,
}

/// So many failures in a row are no accident.
const TOLERATED: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

impl Breaker {
    /// Whether a call may go out at `now`. The one that tries a store that is down closes the
    /// way behind it, so it need not report: a call that is given up blocks nothing.
    pub fn lets_through(&self, now: Duration) -> bool {
        if !self.is_open() {
            return true;
        }
        let next = self.next_try.load(Ordering::Relaxed);
        millis(now) >= next
            && self
                .next_try
                .compare_exchange(next, millis(now + PAUSE), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    pub fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    pub fn failed(&self, now: Duration) {
        // The time first: whoever sees the breaker open must see when it lets through.
        self.next_try.store(millis(now + PAUSE), Ordering::Relaxed);
        let more = |failures: u32| Some(failures.saturating_add(1));
        _ = self.failures.fetch_update(Ordering::Release, Ordering::Relaxed, more);
    }

    pub fn is_open(&self) -> bool {
        self.failures.load(Ordering::Acquire) >= TOLERATED
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn after_failures_in_a_row_one_call_in_each_pause_goes_out() {
        let breaker = Breaker::default();
        for _ in 1..TOLERATED {
            breaker.failed(at(0));
        }
        assert!(breaker.lets_through(at(0)), "not yet");
        breaker.failed(at(10));
        assert!(!breaker.lets_through(at(10)));
        assert!(!breaker.lets_through(at(1009)));
        assert!(breaker.lets_through(at(1010)), "one tries");
        assert!(!breaker.lets_through(at(1010)), "the others wait for it");
        assert!(breaker.lets_through(at(2010)), "it was given up; the next tries");
        breaker.failed(at(2100));
        assert!(!breaker.lets_through(at(3099)));
        breaker.succeeded();
        assert!(breaker.lets_through(at(2100)));
    }

    #[test]
    fn a_success_between_failures_forgives_them() {
        let breaker = Breaker::default();
        for _ in 0..10 {
            breaker.failed(at(0));
            breaker.succeeded();
        }
        assert!(breaker.lets_through(at(0)));
    }
}
