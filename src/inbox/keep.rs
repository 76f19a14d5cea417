//! How long a name is remembered, as the engines write it: 0 until it is stale, 1 for the whole window, from 2
//! on a window of its own in milliseconds.

use std::time::Duration;

use crate::clock;
use crate::gate::filter::replay::Keep;

pub(super) const OWN_WINDOW: i64 = 2;

pub(super) fn keep_of(number: i64) -> Keep {
    match number {
        0 => Keep::UntilStale,
        own if own >= OWN_WINDOW => Keep::For(Duration::from_millis(own.unsigned_abs())),
        _ => Keep::WholeWindow,
    }
}

pub(super) fn keep_to(keep: Keep) -> i64 {
    match keep {
        Keep::UntilStale => 0,
        Keep::WholeWindow => 1,
        Keep::For(own) => clock::millis(own).max(OWN_WINDOW),
    }
}
