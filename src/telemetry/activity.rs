//! What is remembered of deliveries for people: what became of a route's since the start and
//! in the last minutes, and the last decisions of all. Bounded, kept over reloads, and one
//! short lock for each.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Record;
use crate::clock::Now;
use crate::gate::reason::{Reason, Verdict};
use crate::lock::lock;

/// One route's deliveries.
pub struct Activity {
    /// When the counting began.
    pub since_ms: i64,
    counts: Mutex<Counts>,
}

/// What became of a route's deliveries, as it stood at one moment.
#[derive(Clone)]
pub struct Counts {
    /// How deliveries ended, by the place of the reason in [`Reason::ALL`]: what went through
    /// on an observing route was accepted.
    pub ended: [Tally; Reason::ALL.len()],
    /// What an observing route would have refused deliveries for; one delivery can have several.
    pub objections: [Tally; Reason::ALL.len()],
    /// Deliveries of which an observing route would have lost something.
    pub unsafe_to_refuse: u64,
    /// Deliveries that passed every check.
    pub clean: Tally,
    /// Genuine deliveries that failed since one was taken, or that the gate could not take: their sender counts both.
    pub failing: Tally,
    minutes: [Minute; MINUTES],
}

/// How often, and when first and last, in wall time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub count: u64,
    pub first_ms: i64,
    pub last_ms: i64,
}

impl Tally {
    pub(super) fn add(&mut self, wall_ms: i64) {
        if self.count == 0 {
            self.first_ms = wall_ms;
        }
        self.last_ms = wall_ms;
        self.count += 1;
    }
}

/// So many minutes are told apart.
pub const MINUTES: usize = 15;

/// What ended within one minute of the monotonic clock.
#[derive(Clone, Copy)]
struct Minute {
    number: u64,
    plain: [u32; Reason::ALL.len()],
    observed: [u32; Reason::ALL.len()],
}

impl Minute {
    const fn begun(number: u64) -> Self {
        Minute { number, plain: [0; Reason::ALL.len()], observed: [0; Reason::ALL.len()] }
    }
}

fn minute(now: Now) -> u64 {
    now.mono.as_secs() / 60
}

impl Activity {
    pub fn new(now: Now) -> Self {
        let counts = Counts {
            ended: [Tally::default(); Reason::ALL.len()],
            objections: [Tally::default(); Reason::ALL.len()],
            unsafe_to_refuse: 0,
            clean: Tally::default(),
            failing: Tally::default(),
            minutes: [Minute::begun(0); MINUTES],
        };
        Activity { since_ms: now.wall_ms, counts: Mutex::new(counts) }
    }

    /// A delivery has ended.
    pub fn add(&self, record: &Record, verdict: Verdict, reason: Reason, now: Now) {
        self.count(record.reason, record.proof.is_some(), &record.observed, (verdict, reason), now);
    }

    fn count(&self, ended: Reason, proven: bool, observed: &[Reason], told: (Verdict, Reason), now: Now) {
        let mut counts = lock(&self.counts);
        counts.ended[ended.index()].add(now.wall_ms);
        for objection in observed {
            counts.objections[objection.index()].add(now.wall_ms);
        }
        if observed.iter().any(|reason| loses_something(*reason)) {
            counts.unsafe_to_refuse += 1;
        } else if ended.verdict() == Verdict::Accepted && told != (Verdict::Observed, Reason::Accepted) {
            counts.clean.add(now.wall_ms);
        }
        match ended.verdict() {
            Verdict::Accepted | Verdict::Stored => counts.failing = Tally::default(),
            Verdict::Failed => counts.failing.add(now.wall_ms),
            Verdict::Refused if proven => counts.failing.add(now.wall_ms),
            Verdict::Answered | Verdict::Observed | Verdict::Refused => {}
        }
        let number = minute(now);
        let bucket = &mut counts.minutes[place(number)];
        if bucket.number != number {
            *bucket = Minute::begun(number);
        }
        let (verdict, reason) = told;
        let of = if verdict == Verdict::Observed { &mut bucket.observed } else { &mut bucket.plain };
        of[reason.index()] = of[reason.index()].saturating_add(1);
    }

    pub fn counts(&self) -> Counts {
        lock(&self.counts).clone()
    }
}

/// Whether refusing for this reason would have kept something from the application: a
/// duplicate it has had, an event that the route does not take is not wanted, and a handshake the gate
/// can answer.
pub const fn loses_something(reason: Reason) -> bool {
    !matches!(reason, Reason::Duplicate | Reason::Filtered | Reason::Handshake)
}

impl Counts {
    /// All deliveries of the route.
    pub fn seen(&self) -> u64 {
        self.ended.iter().map(|tally| tally.count).sum()
    }

    /// The last minutes, oldest first: how often each verdict and reason came.
    pub fn last_minutes(&self, now: Now) -> [Vec<(Verdict, Reason, u32)>; MINUTES] {
        let current = minute(now);
        std::array::from_fn(|n| {
            let ago = (MINUTES - 1 - n) as u64;
            let Some(number) = current.checked_sub(ago) else { return Vec::new() };
            let bucket = &self.minutes[place(number)];
            if bucket.number != number {
                return Vec::new();
            }
            let plain = Reason::ALL.iter().zip(bucket.plain).map(|(r, count)| (r.verdict(), *r, count));
            let observed =
                Reason::ALL.iter().zip(bucket.observed).map(|(r, count)| (Verdict::Observed, *r, count));
            plain.chain(observed).filter(|(.., count)| *count > 0).collect()
        })
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number % MINUTES as u64).unwrap_or_default()
}

/// The last decisions, whatever their route.
#[derive(Default)]
pub struct Recent(Mutex<VecDeque<Decision>>);

/// So many decisions are remembered.
pub const DECISIONS: usize = 50;

/// What may be told of a decision: nothing of its body, its signature or its query.
#[derive(Clone, Debug)]
pub struct Decision {
    pub wall_ms: i64,
    pub route: Option<Arc<str>>,
    pub verdict: Verdict,
    pub reason: Reason,
    pub status: u16,
    pub took: Duration,
    pub key_id: Option<Arc<str>>,
    /// The event's id, if that was signed or came with what was. Its [beginning](Decision::event) is told.
    pub event_id: Option<Arc<str>>,
}

/// So many characters of an event's id are told.
const ID_SHOWN: usize = 16;

impl Recent {
    pub fn add(&self, record: &Record, verdict: Verdict, reason: Reason, took: Duration) {
        let proof = record.proof.as_ref();
        let decision = Decision {
            wall_ms: record.arrived.wall_ms,
            route: record.route.as_ref().map(|(route, _)| Arc::clone(&route.name)),
            verdict,
            reason,
            status: record.status,
            took,
            key_id: proof.map(|proof| Arc::clone(&proof.key_id)),
            event_id: proof.and_then(|proof| proof.event_id.clone()),
        };
        let mut decisions = lock(&self.0);
        if decisions.len() == DECISIONS {
            decisions.pop_front();
        }
        decisions.push_back(decision);
    }

    /// Newest first.
    pub fn decisions(&self) -> Vec<Decision> {
        lock(&self.0).iter().rev().cloned().collect()
    }
}

impl Decision {
    /// The beginning of the event's id; empty if there is none.
    pub fn event(&self) -> Cow<'_, str> {
        self.event_id.as_deref().map(shortened).unwrap_or_default()
    }
}

fn shortened(id: &str) -> Cow<'_, str> {
    match id.char_indices().nth(ID_SHOWN) {
        Some((end, _)) => format!("{}…", &id[..end]).into(),
        None => id.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: u64) -> Now {
        Now::at(1_800_000_000, minute * 60)
    }

    #[test]
    fn minutes_are_told_apart_and_forgotten() {
        let activity = Activity::new(at(0));
        let refused = (Verdict::Refused, Reason::SignatureMismatch);
        activity.count(Reason::SignatureMismatch, false, &[], refused, at(100));
        activity.count(Reason::SignatureMismatch, false, &[], refused, at(100));
        let stale = (Verdict::Observed, Reason::TimestampStale);
        activity.count(Reason::Accepted, true, &[Reason::TimestampStale], stale, at(103));
        let of = |now| activity.counts().last_minutes(at(now));
        let minutes = of(103);
        assert_eq!(minutes[MINUTES - 1], [(Verdict::Observed, Reason::TimestampStale, 1)]);
        assert_eq!(minutes[MINUTES - 4], [(Verdict::Refused, Reason::SignatureMismatch, 2)]);
        assert_eq!(minutes.iter().flatten().count(), 2);
        assert_eq!(of(114)[0], [(Verdict::Refused, Reason::SignatureMismatch, 2)]);
        assert_eq!(of(115).iter().flatten().count(), 1, "a quarter of an hour has passed");
        activity.count(Reason::Accepted, true, &[], (Verdict::Accepted, Reason::Accepted), at(115));
        assert_eq!(
            of(115)[MINUTES - 1],
            [(Verdict::Accepted, Reason::Accepted, 1)],
            "the place is used anew"
        );
        assert_eq!(of(3).iter().flatten().count(), 0, "before the first quarter of an hour");
        assert_eq!(activity.counts().seen(), 4);
    }

    #[test]
    fn what_would_have_been_lost_is_told_from_what_would_not() {
        let activity = Activity::new(at(0));
        let observed = |reason| (Verdict::Observed, reason);
        activity.count(Reason::Accepted, true, &[Reason::Duplicate], observed(Reason::Duplicate), at(1));
        let both = [Reason::HttpsRequired, Reason::SignatureMissing];
        activity.count(Reason::Accepted, false, &both, observed(Reason::HttpsRequired), at(2));
        let counts = activity.counts();
        assert_eq!((counts.seen(), counts.clean.count, counts.unsafe_to_refuse), (2, 1, 1));
        for reason in [Reason::Duplicate, Reason::HttpsRequired, Reason::SignatureMissing] {
            assert_eq!(counts.objections[reason.index()].count, 1, "{reason}");
        }
    }

    #[test]
    fn an_id_is_cut_between_characters() {
        assert_eq!(&*shortened("evt_1"), "evt_1");
        assert_eq!(&*shortened(&"ü".repeat(16)), "ü".repeat(16));
        assert_eq!(&*shortened(&"ü".repeat(17)), format!("{}…", "ü".repeat(16)));
    }
}
