//! The window around the *signed* time. It reads the time out of the proof, so a
//! time that nobody signed cannot be believed by accident.

use crate::clock::Now;
use crate::gate::answer::Reason;
use crate::gate::filter::signature::Authentic;

/// An authentic delivery within its window. Judged when the body is complete, so a
/// sender cannot stretch the window by sending slowly.
#[derive(Clone, Debug)]
pub struct Fresh(Authentic);

impl Fresh {
    pub fn authentic(&self) -> &Authentic {
        &self.0
    }
}

pub fn check(authentic: Authentic, now: Now) -> Result<Fresh, Reason> {
    let Some(signed) = authentic.signed_at() else {
        return Ok(Fresh(authentic)); // the provider signs no time: the replay window is all there is
    };
    let Some(ms) = signed.ms else { return Err(Reason::TimestampMissing) };
    // Both in whole seconds, as most providers sign them: an event that is exactly
    // as old as the tolerance is not yet too old.
    let age = now.wall_ms.div_euclid(1000).saturating_sub(ms.div_euclid(1000));
    if age.saturating_mul(1000) > signed.tolerance_ms {
        return Err(Reason::TimestampStale);
    }
    if age.saturating_neg().saturating_mul(1000) > signed.future_tolerance_ms {
        return Err(Reason::TimestampFuture);
    }
    Ok(Fresh(authentic))
}
