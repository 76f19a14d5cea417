//! The only reader of time. Everything else is handed a [`Now`], so that the
//! gate's judgement is a function of its inputs and tests need not sleep.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks, taken together.
///
/// `wall` judges freshness, because a sender's timestamp is wall time. `mono`
/// measures everything that is remembered (leases, windows, rates), because the
/// wall clock may be set back and an event must not be forgotten or revived by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the Unix epoch.
    pub wall_ms: i64,
    /// Time since the process first asked; never goes back.
    pub mono: Duration,
}

/// Reads both clocks.
#[expect(clippy::disallowed_methods, reason = "this module owns the clocks")]
pub fn now() -> Now {
    Now {
        wall_ms: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
        mono: mono(),
    }
}

/// How long ago that was.
pub fn since(then: Now) -> Duration {
    mono().saturating_sub(then.mono)
}

fn mono() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

impl Now {
    /// A reading for tests: `wall` in seconds since the epoch, `mono` in seconds since start.
    pub const fn at(wall: i64, mono: u64) -> Self {
        Now { wall_ms: wall * 1000, mono: Duration::from_secs(mono) }
    }
}
