//! What is remembered of an event, and how it changes: absent → held → done.
//!
//! Pure transitions; every store behaves like them. An event is *held* while one
//! delivery of it is under way, and *done* once the application has said 2xx.
//! Anything else makes it absent again, so that a repeat of it gets through:
//! lost is worse than twice.

use std::fmt;
use std::time::Duration;

/// What makes two deliveries the same event: 128 bits of a SHA-256 over the route and
/// an identity that the signature covers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplayKey([u8; 16]);

impl ReplayKey {
    pub fn from_digest(digest: &[u8; 32]) -> Self {
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        ReplayKey(key)
    }

    /// One that was made before.
    pub fn from_bytes(key: [u8; 16]) -> Self {
        ReplayKey(key)
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ReplayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ReplayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How long things are remembered. One fallible constructor, so that no window can be
/// too short and no lease can end while the application still works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayPolicy {
    window: Duration,
    lease: Duration,
    wait: Duration,
}

/// What the window must exceed the tolerances by: clocks differ, deliveries take time.
pub const WINDOW_MARGIN: Duration = Duration::from_secs(60);
/// What a lease exceeds the longest possible exchange by.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

impl ReplayPolicy {
    /// `tolerances` is past plus future tolerance, the longest of any route: an event
    /// that could still be fresh must not be forgotten. `exchange` is the longest that a
    /// delivery can take, `wait` how long a copy waits for it.
    pub fn new(
        window: Duration,
        tolerances: Duration,
        exchange: Duration,
        wait: Duration,
    ) -> Result<Self, WindowTooShort> {
        outlasts(window, tolerances)?;
        Ok(ReplayPolicy { window, lease: exchange + LEASE_MARGIN, wait })
    }

    /// How long a done event is remembered.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// How long a delivery may hold an event.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// How long a copy waits for the delivery that is under way.
    pub fn wait(&self) -> Duration {
        self.wait
    }
}

/// Whether what is remembered for the window is remembered for longer than it can be fresh.
pub fn outlasts(window: Duration, tolerances: Duration) -> Result<(), WindowTooShort> {
    let needed = tolerances + WINDOW_MARGIN;
    if window < needed { Err(WindowTooShort { needed }) } else { Ok(()) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowTooShort {
    pub needed: Duration,
}

/// Names one holding of an event, so that a late holder has no power over a later one.
/// None of the [marks](is_mark) for what is done.
pub type HolderId = u32;

/// How long a delivered event is remembered, also when memory runs short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// For the window; its signed time refuses a replay once the tolerance has passed, so it may be
    /// forgotten after that.
    UntilStale,
    /// For the window: nothing but this memory refuses a replay.
    WholeWindow,
    /// For as long as its route says, whatever the window is.
    For(Duration),
}

impl Keep {
    /// For how long, where the window is that long.
    pub fn span(self, window: Duration) -> Duration {
        match self {
            Keep::UntilStale | Keep::WholeWindow => window,
            Keep::For(own) => own,
        }
    }
}

const DONE_UNTIL_STALE: HolderId = 0;
const DONE_WHOLE_WINDOW: HolderId = HolderId::MAX;
const DONE_FOR: HolderId = HolderId::MAX - 1;
/// The end of what has none.
const FOR_GOOD: u32 = u32::MAX;

/// Whether the number stands for what is done, and for nobody who holds an event.
pub fn is_mark(holder: HolderId) -> bool {
    matches!(holder, DONE_UNTIL_STALE | DONE_WHOLE_WINDOW | DONE_FOR)
}

/// What is remembered of one event, in eight bytes. Times are whole seconds since
/// the process started, rounded up: remembering a second too long is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    until: u32,
    /// The holder, or one of the marks for done.
    holder: HolderId,
}

/// What `reserve` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing: the caller holds the event now.
    Lead,
    /// Another delivery holds it.
    Follow(HolderId),
    /// It was delivered.
    Done,
}

/// What `forget` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// A delivered event, which may be delivered again now.
    Done,
    /// A delivery under way, which goes on.
    Held,
    Nothing,
}

impl Entry {
    /// An event that was delivered, as it was written down elsewhere.
    pub fn done(keep: Keep, until: Duration) -> Entry {
        let holder = match keep {
            Keep::UntilStale => DONE_UNTIL_STALE,
            Keep::WholeWindow => DONE_WHOLE_WINDOW,
            Keep::For(_) => DONE_FOR,
        };
        Entry { until: seconds(until), holder }
    }

    /// An event that is in the inbox: a copy of it is answered as one of a delivered event, for as long as it is
    /// there.
    pub fn stored() -> Entry {
        Entry { until: FOR_GOOD, holder: DONE_WHOLE_WINDOW }
    }

    pub fn is_stored(&self) -> bool {
        *self == Entry::stored()
    }

    /// How an event that was delivered is kept, and since when; `None` while it is held or stored. Of a
    /// window of its own only the rest is known: it is kept for that from now on.
    pub fn kept(&self, now: Duration, window: Duration) -> Option<(Keep, Duration)> {
        let until = Duration::from_secs(u64::from(self.until));
        let age = (now + window).saturating_sub(until);
        match self.holder {
            _ if self.is_stored() => None,
            DONE_UNTIL_STALE => Some((Keep::UntilStale, age)),
            DONE_WHOLE_WINDOW => Some((Keep::WholeWindow, age)),
            DONE_FOR => Some((Keep::For(until.saturating_sub(now)), Duration::ZERO)),
            _ => None,
        }
    }

    /// An operator wants the event to be delivered again. The second value is what is stored after.
    pub fn forget(stored: Option<Entry>, now: Duration) -> (Forgotten, Option<Entry>) {
        match stored {
            Some(entry) if entry.expired(now) => (Forgotten::Nothing, None),
            Some(entry) if !is_mark(entry.holder) || entry.is_stored() => (Forgotten::Held, stored),
            Some(_) => (Forgotten::Done, None),
            None => (Forgotten::Nothing, None),
        }
    }

    /// The caller `holder` asks for the event. The second value is what is stored after.
    pub fn reserve(
        stored: Option<Entry>,
        holder: HolderId,
        now: Duration,
        lease: Duration,
    ) -> (Found, Entry) {
        match stored {
            Some(entry) if !entry.expired(now) && is_mark(entry.holder) => (Found::Done, entry),
            Some(entry) if !entry.expired(now) => (Found::Follow(entry.holder), entry),
            Some(_) | None => (Found::Lead, Entry { until: seconds(now + lease), holder }),
        }
    }

    /// The holder's delivery has ended: `delivered` if the application said 2xx.
    /// `None` is stored as nothing.
    pub fn settle(
        stored: Option<Entry>,
        holder: HolderId,
        delivered: Option<Keep>,
        now: Duration,
        window: Duration,
    ) -> Option<Entry> {
        match stored {
            Some(entry) if entry.holder == holder => {
                let keep = delivered?;
                Some(Entry::done(keep, now + keep.span(window)))
            }
            other => other,
        }
    }

    pub fn expired(&self, now: Duration) -> bool {
        self.until != FOR_GOOD && u64::from(self.until) <= now.as_secs()
    }

    /// Whether forgetting the event now lets no replay through: it was settled so long
    /// ago, given the window it was settled with, that its signed time is stale.
    pub fn dispensable(&self, now: Duration, window: Duration, stale_after: Duration) -> bool {
        self.holder == DONE_UNTIL_STALE
            && now + window >= Duration::from_secs(u64::from(self.until)) + stale_after
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs() + u64::from(time.subsec_nanos() > 0)).unwrap_or(FOR_GOOD).min(FOR_GOOD - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(15);
    const WINDOW: Duration = Duration::from_secs(3600);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn held(holder: HolderId) -> Entry {
        Entry::reserve(None, holder, at(0), LEASE).1
    }

    fn done() -> Entry {
        Entry::settle(Some(held(1)), 1, Some(Keep::UntilStale), at(0), WINDOW).unwrap()
    }

    #[test]
    fn the_table_of_transitions_holds() {
        let reserve = |stored, now| Entry::reserve(stored, 9, at(now), LEASE).0;
        assert_eq!(reserve(None, 0), Found::Lead);
        assert_eq!(reserve(Some(held(1)), 1), Found::Follow(1));
        assert_eq!(reserve(Some(held(1)), 15), Found::Lead, "a lease that ended holds nothing");
        assert_eq!(reserve(Some(done()), 3599), Found::Done);
        assert_eq!(reserve(Some(done()), 3600), Found::Lead, "the window is over");
    }

    #[test]
    fn only_the_holder_settles() {
        let settle = |stored, holder, delivered| Entry::settle(stored, holder, delivered, at(1), WINDOW);
        let kept = Some(Keep::UntilStale);
        assert_eq!(settle(Some(held(1)), 1, None), None, "a failed delivery is forgotten");
        assert_eq!(settle(Some(held(2)), 1, kept), Some(held(2)), "a late holder has no power");
        assert_eq!(settle(Some(held(2)), 1, None), Some(held(2)));
        assert_eq!(settle(Some(done()), 1, None), Some(done()), "done stays done");
        assert_eq!(settle(None, 1, kept), None);
    }

    #[test]
    fn only_what_would_be_stale_may_be_forgotten_early() {
        let stale_after = at(660);
        assert!(!done().dispensable(at(659), WINDOW, stale_after));
        assert!(done().dispensable(at(660), WINDOW, stale_after));
        let untimed = Entry::settle(Some(held(1)), 1, Some(Keep::WholeWindow), at(0), WINDOW).unwrap();
        assert_eq!(Entry::reserve(Some(untimed), 9, at(1), LEASE).0, Found::Done);
        assert!(!untimed.dispensable(at(3599), WINDOW, stale_after), "no time is signed");
        assert!(!held(1).dispensable(at(3599), WINDOW, stale_after), "it is under way");
        for own in [at(700), at(7200)] {
            let own = Entry::settle(Some(held(1)), 1, Some(Keep::For(own)), at(0), WINDOW).unwrap();
            assert!(!own.dispensable(at(699), WINDOW, stale_after), "its route asked for all of it");
        }
    }

    #[test]
    fn a_window_of_its_own_is_longer_or_shorter_than_the_others() {
        for own in [1, 60, 3599, 3600, 3601, 100_000] {
            let entry = Entry::settle(Some(held(1)), 1, Some(Keep::For(at(own))), at(7), WINDOW).unwrap();
            assert_eq!(Entry::reserve(Some(entry), 9, at(7 + own - 1), LEASE).0, Found::Done, "{own}");
            assert_eq!(Entry::reserve(Some(entry), 9, at(7 + own), LEASE).0, Found::Lead, "{own}");
            assert_eq!(Entry::forget(Some(entry), at(7)).0, Forgotten::Done, "{own}");
        }
    }

    #[test]
    fn a_window_that_forgets_too_soon_cannot_be_made() {
        let tolerances = at(600);
        let made = |window| ReplayPolicy::new(at(window), tolerances, at(21), at(11));
        assert_eq!(made(659), Err(WindowTooShort { needed: at(660) }));
        let policy = made(660).unwrap();
        assert!(policy.lease() > at(21), "a lease outlives the longest exchange");
        assert_eq!((policy.window(), policy.wait()), (at(660), at(11)));
    }

    #[test]
    fn a_key_is_shown_in_hex() {
        let mut digest = [0xab; 32];
        digest[15] = 0x01;
        let key = ReplayKey::from_digest(&digest);
        assert_eq!(key.to_string(), "ababababababababababababababab01");
        assert_eq!(format!("{key:?}"), key.to_string());
        assert_eq!(*key.as_bytes(), digest[..16]);
    }

    #[test]
    fn only_what_is_done_can_be_forgotten_on_purpose() {
        assert_eq!(Entry::forget(Some(done()), at(1)), (Forgotten::Done, None));
        assert_eq!(Entry::forget(Some(done()), at(3600)), (Forgotten::Nothing, None), "it has expired");
        assert_eq!(Entry::forget(Some(held(1)), at(1)), (Forgotten::Held, Some(held(1))), "it goes on");
        assert_eq!(Entry::forget(None, at(1)), (Forgotten::Nothing, None));
    }

    #[test]
    fn what_is_done_can_be_written_down_and_read_again() {
        for keep in [Keep::UntilStale, Keep::WholeWindow] {
            let entry = Entry::done(keep, at(3700));
            assert_eq!(entry.kept(at(400), WINDOW), Some((keep, at(300))));
            assert_eq!(Entry::reserve(Some(entry), 9, at(3699), LEASE).0, Found::Done);
        }
        let own = Entry::done(Keep::For(at(9000)), at(9100));
        assert_eq!(own.kept(at(400), WINDOW), Some((Keep::For(at(8700)), at(0))), "the rest");
        assert_eq!(held(1).kept(at(1), WINDOW), None);
    }

    #[test]
    fn what_is_stored_is_known_for_as_long_as_it_is() {
        let stored = Entry::stored();
        let late = Duration::from_secs(u64::from(u32::MAX) * 2);
        assert_eq!(Entry::reserve(Some(stored), 9, late, LEASE), (Found::Done, stored));
        assert_eq!(Entry::forget(Some(stored), late), (Forgotten::Held, Some(stored)), "the inbox has it");
        assert_eq!(stored.kept(late, WINDOW), None, "it is not done");
        assert!(!stored.dispensable(late, WINDOW, at(660)));
        assert!(!Entry::done(Keep::WholeWindow, late).is_stored());
    }

    #[test]
    fn an_entry_is_eight_bytes() {
        assert_eq!(size_of::<Entry>(), 8);
        assert_eq!(size_of::<(ReplayKey, Entry)>(), 24);
    }
}
