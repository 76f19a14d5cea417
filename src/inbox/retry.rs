//! When a stored event is tried again: exponential back-off with full jitter, and at least as long as the
//! application asks for. Time and chance are arguments.

use std::time::Duration;

use crate::clock::millis;

/// How long an application is asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The longest first wait.
    pub first: Duration,
    /// The longest wait at all.
    pub max: Duration,
    /// How long after an event was received it is given up.
    pub give_up: Duration,
    /// Statuses that will not change: the event is given up at once.
    pub dead_on: Vec<u16>,
}

impl Default for Retry {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Retry {
            first: Duration::from_secs(1),
            max: HOUR,
            give_up: 24 * HOUR,
            dead_on: vec![400, 404, 410, 422],
        }
    }
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    At(i64),
    Dead,
}

/// No wait is shorter, so that an application which fails at once is not asked in a loop.
const LEAST: Duration = Duration::from_millis(50);

impl Retry {
    /// The attempt with this number, counted from 1, has just failed. `chance` is drawn evenly from the whole
    /// range of its type; `asked` is what the application's `Retry-After` says.
    pub fn next(
        &self,
        attempt: u32,
        status: Option<u16>,
        asked: Option<Duration>,
        since_ms: i64,
        now_ms: i64,
        chance: u64,
    ) -> Next {
        if status.is_some_and(|status| self.dead_on.contains(&status)) {
            return Next::Dead;
        }
        let end_ms = since_ms.saturating_add(millis(self.give_up));
        if now_ms >= end_ms {
            return Next::Dead;
        }
        let doublings = attempt.saturating_sub(1).min(31);
        let longest = self.first.saturating_mul(1 << doublings).min(self.max);
        let drawn = longest.mul_f64(fraction(chance)).max(LEAST.min(longest));
        // Who asks for longer than we wait at all does not get the event lost by it: the last attempt
        // is made when time is up.
        let wait = drawn.max(asked.unwrap_or_default());
        Next::At(now_ms.saturating_add(millis(wait)).min(end_ms))
    }
}

/// From 0 to just under 1.
#[expect(clippy::cast_precision_loss, reason = "53 bits of chance are enough")]
pub(super) fn fraction(chance: u64) -> f64 {
    (chance >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: fn() -> Retry = || Retry {
        first: Duration::from_secs(1),
        max: Duration::from_secs(3600),
        give_up: Duration::from_secs(24 * 3600),
        dead_on: vec![410],
    };

    fn wait(attempt: u32, asked: Option<u64>, chance: u64) -> i64 {
        match RETRY().next(attempt, Some(503), asked.map(Duration::from_secs), 0, 0, chance) {
            Next::At(at) => at,
            Next::Dead => panic!("it is early"),
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_are_drawn_evenly_below() {
        let rows =
            [(1, 1_000), (2, 2_000), (5, 16_000), (12, 2_048_000), (13, 3_600_000), (u32::MAX, 3_600_000)];
        for (attempt, longest) in rows {
            assert!((longest - 1..=longest).contains(&wait(attempt, None, u64::MAX)), "{attempt}");
            assert!(
                (longest / 2 - 1..=longest / 2).contains(&wait(attempt, None, u64::MAX / 2)),
                "{attempt}"
            );
            assert_eq!(wait(attempt, None, 0), 50, "{attempt}: never at once");
        }
    }

    #[test]
    fn what_the_application_asks_for_is_the_least() {
        assert_eq!(wait(1, Some(30), 0), 30_000);
        assert!(wait(12, Some(1), u64::MAX) > 2_000_000);
    }

    #[test]
    fn an_event_is_given_up_when_its_time_is_over_or_its_status_is_final() {
        let day = 24 * 3600 * 1000;
        let next = |status, asked, now_ms| RETRY().next(9, status, asked, 0, now_ms, 7);
        assert_eq!(next(Some(410), None, 0), Next::Dead);
        assert_eq!(next(Some(404), None, day), Next::Dead);
        assert_eq!(next(None, Some(Duration::from_secs(60)), day - 1), Next::At(day), "one last attempt");
    }
}
