//! How much of a route's backlog the application gets at once. While it fails, one event in a while asks
//! whether it is back; then it gets one, two, four at once. Time and chance are arguments.

use std::time::Duration;

use crate::clock;

/// Of one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// How many may be under way.
    width: usize,
    under_way: usize,
    /// Failures in a row, of the application and not of one event.
    failures: u32,
    /// Nothing is tried before, in milliseconds.
    closed_until: i64,
}

/// How many events may be tried now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    For(usize),
    /// None before that time.
    NoneUntil(i64),
    /// None before one that is under way has ended.
    Full,
}

/// So many of a route are under way at most: live deliveries have the rest of the application.
pub const WIDEST: usize = 16;
/// The longest first wait, and the longest one.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

impl Default for Breaker {
    fn default() -> Self {
        Breaker { width: 1, under_way: 0, failures: 0, closed_until: 0 }
    }
}

impl Breaker {
    pub fn room(&self, now_ms: i64) -> Room {
        match self.width.saturating_sub(self.under_way) {
            _ if now_ms < self.closed_until => Room::NoneUntil(self.closed_until),
            0 => Room::Full,
            free => Room::For(free),
        }
    }

    pub fn begins(&mut self) {
        self.under_way += 1;
    }

    /// The application answered, whatever it said of the event.
    pub fn is_there(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
        self.failures = 0;
        self.closed_until = 0;
        self.width = (self.width * 2).min(WIDEST);
    }

    /// It is away, broken or overloaded; it may have asked to be left alone for a time.
    pub fn failed(&mut self, now_ms: i64, asked: Option<Duration>, chance: u64) {
        self.under_way = self.under_way.saturating_sub(1);
        self.width = 1;
        self.failures = self.failures.saturating_add(1);
        let longest = FIRST.saturating_mul(1 << (self.failures - 1).min(16)).min(LONGEST);
        // Drawn from the upper half: gates that saw the same fault do not ask together.
        let wait = (longest / 2 + longest.mul_f64(super::retry::fraction(chance)) / 2)
            .max(asked.unwrap_or_default());
        let until = now_ms.saturating_add(clock::millis(wait));
        self.closed_until = self.closed_until.max(until);
    }

    /// An operator wants it to be tried now.
    pub fn opens(&mut self) {
        self.closed_until = 0;
    }

    /// Whether the application is taken to be away.
    pub fn is_away(&self) -> bool {
        self.failures > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_asks_while_the_application_is_away_and_more_follow_by_and_by() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.room(0), Room::For(1), "after a start too");
        breaker.begins();
        assert_eq!(breaker.room(0), Room::Full);
        breaker.failed(0, None, u64::MAX);
        assert!(matches!(breaker.room(0), Room::NoneUntil(499 | 500)), "{breaker:?}");
        for (failures, longest) in [(2, 1000), (3, 2000), (9, 30_000), (40, 30_000)] {
            let mut breaker = Breaker { failures: failures - 1, ..Breaker::default() };
            breaker.begins();
            breaker.failed(0, None, 0);
            assert_eq!(breaker.room(0), Room::NoneUntil(longest / 2));
            assert_eq!(breaker.room(longest / 2), Room::For(1));
        }
        for width in [2, 4, 8, 16, 16] {
            breaker.begins();
            breaker.is_there();
            assert_eq!(breaker.room(0), Room::For(width));
        }
    }

    #[test]
    fn what_the_application_asks_for_is_the_least() {
        let mut breaker = Breaker::default();
        breaker.begins();
        breaker.failed(0, Some(Duration::from_secs(90)), 0);
        assert_eq!(breaker.room(0), Room::NoneUntil(90_000));
        breaker.opens();
        assert_eq!(breaker.room(0), Room::For(1));
    }
}
