//! The window around the *signed* time. It reads the time out of the proof, so a
//! time that nobody signed cannot be believed by accident.

use crate::clock::{Doubt, Now};
use crate::gate::filter::signature::{Authentic, SignedTime};
use crate::gate::reason::Reason;

/// An authentic delivery within its window. Judged when the body is complete, so a
/// sender cannot stretch the window by sending slowly.
#[derive(Clone, Debug)]
pub struct Fresh(Authentic);

impl Fresh {
    pub fn authentic(&self) -> &Authentic {
        &self.0
    }

    pub fn into_authentic(self) -> Authentic {
        self.0
    }
}

pub fn check(authentic: Authentic, now: Now) -> Result<Fresh, Reason> {
    if let Some(signed) = authentic.signed_at() {
        // Without a signed time the replay window is all there is.
        judge_in_doubt(signed, now)?;
    }
    Ok(Fresh(authentic))
}

/// A clock that cannot be believed decides nothing: where it matters which clock is right,
/// the sender is asked to try again.
fn judge_in_doubt(signed: SignedTime, now: Now) -> Result<(), Reason> {
    match now.doubt {
        Doubt::None => judge(signed, now.wall_ms),
        Doubt::Unset => Err(Reason::Overloaded),
        Doubt::Jumped { otherwise_ms } => {
            let (one, other) = (judge(signed, now.wall_ms), judge(signed, otherwise_ms));
            if one == other { one } else { Err(Reason::Overloaded) }
        }
    }
}

fn judge(signed: SignedTime, wall_ms: i64) -> Result<(), Reason> {
    let Some(ms) = signed.ms else { return Err(Reason::TimestampMissing) };
    // Both in whole seconds, as most providers sign them: an event that is exactly
    // as old as the tolerance is not yet too old.
    let age = wall_ms.div_euclid(1000).saturating_sub(ms.div_euclid(1000));
    let expired =
        signed.expires_ms.is_some_and(|until| wall_ms > until.saturating_add(signed.future_tolerance_ms));
    if age.saturating_mul(1000) > signed.tolerance_ms || expired {
        return Err(Reason::TimestampStale);
    }
    if age.saturating_neg().saturating_mul(1000) > signed.future_tolerance_ms {
        return Err(Reason::TimestampFuture);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn signed_at(ms: Option<i64>) -> SignedTime {
        SignedTime { ms, tolerance_ms: 300_000, future_tolerance_ms: 60_000, expires_ms: None }
    }

    fn judged(signed: i64, now: Now) -> Result<(), Reason> {
        judge_in_doubt(signed_at(Some(signed * 1000)), now)
    }

    #[test]
    fn the_window_is_bounded_on_both_sides() {
        for (signed, expected) in [
            (NOW, Ok(())),
            (NOW - 300, Ok(())),
            (NOW - 301, Err(Reason::TimestampStale)),
            (NOW + 60, Ok(())),
            (NOW + 61, Err(Reason::TimestampFuture)),
            (0, Err(Reason::TimestampStale)),
            (i64::MAX / 1000, Err(Reason::TimestampFuture)),
        ] {
            assert_eq!(judged(signed, Now::at(NOW, 0)), expected, "{signed}");
        }
    }

    #[test]
    fn a_body_without_a_time_has_none() {
        assert_eq!(judge_in_doubt(signed_at(None), Now::at(NOW, 0)), Err(Reason::TimestampMissing));
    }

    #[test]
    fn what_the_sender_calls_expired_is_stale() {
        let until = |at: i64| SignedTime { expires_ms: Some(at * 1000), ..signed_at(Some(NOW * 1000)) };
        assert_eq!(judge_in_doubt(until(NOW), Now::at(NOW + 60, 0)), Ok(()), "a clock may differ a little");
        assert_eq!(judge_in_doubt(until(NOW), Now::at(NOW + 61, 0)), Err(Reason::TimestampStale));
        assert_eq!(judge_in_doubt(until(NOW + 9000), Now::at(NOW + 301, 0)), Err(Reason::TimestampStale));
    }

    #[test]
    fn a_clock_that_jumped_revives_nothing() {
        // The wall clock was set back by ten minutes: what was stale looks fresh.
        let set_back = Now { doubt: Doubt::Jumped { otherwise_ms: (NOW + 600) * 1000 }, ..Now::at(NOW, 0) };
        assert_eq!(judged(NOW - 100, set_back), Err(Reason::Overloaded));
        assert_eq!(judged(NOW - 1000, set_back), Err(Reason::TimestampStale), "stale by either clock");
        let a_little = Now { doubt: Doubt::Jumped { otherwise_ms: (NOW + 5) * 1000 }, ..Now::at(NOW, 0) };
        assert_eq!(judged(NOW, a_little), Ok(()), "fresh by either clock");
        assert_eq!(judged(NOW, Now { doubt: Doubt::Unset, ..Now::at(NOW, 0) }), Err(Reason::Overloaded));
    }
}
