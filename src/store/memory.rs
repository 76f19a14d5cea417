//! The embedded store: a sharded map of sixteen-byte keys and eight-byte entries.
//!
//! The map's entry lock makes each transition atomic; it is never held across an
//! await. Followers meet in a second, small map, which is only ever locked inside
//! the first one's lock (reserve) or alone (settle), so the two cannot deadlock.

use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;
use foldhash::fast::RandomState;
use tokio::sync::watch;

use super::journal::{self, Delivered, Fault, Journal, Judged, Kept, ReplayFile, Reporter};
use super::{Holder, Outcome, Swept, Unavailable, Way};
use crate::clock::{self, Now, Stamp};
use crate::gate::filter::replay::{
    Entry, Forgotten, Found, HolderId, Keep, ReplayKey, ReplayPolicy, is_mark,
};

/// Cloning shares the memory.
#[derive(Clone)]
pub struct Memory {
    inner: Arc<Inner>,
}

struct Inner {
    policy: ReplayPolicy,
    /// The longest time for which any route's deliveries stay fresh, plus a margin.
    stale_after: Duration,
    capacity: usize,
    /// The keys are digests, so the hash need not spread them; its seed is drawn at the start.
    entries: DashMap<ReplayKey, Entry, RandomState>,
    /// Kept beside the map, whose own count visits every shard.
    len: AtomicUsize,
    followers: DashMap<HolderId, watch::Sender<Option<Outcome>>>,
    last_holder: AtomicU32,
    /// Where it is kept over a restart, if anywhere. Told inside the entry's lock, so that the
    /// file tells of an event in the order of what happened to it.
    journal: OnceLock<Journal>,
}

/// Enough that sweeping one shard delays nobody noticeably, few enough that an empty
/// memory is small.
const SHARDS: usize = 64;
/// The memory is copied for its file in so many parts, so that a copy is small.
const PARTS: u8 = 16;
/// Above this part of the capacity, sweeps also forget what may be forgotten early.
const PRESSURE: f64 = 0.9;

impl Memory {
    pub fn new(policy: ReplayPolicy, stale_after: Duration, capacity: usize) -> Self {
        Memory {
            inner: Arc::new(Inner {
                policy,
                stale_after,
                capacity,
                entries: DashMap::with_hasher_and_shard_amount(RandomState::default(), SHARDS),
                len: AtomicUsize::new(0),
                followers: DashMap::with_shard_amount(2),
                last_holder: AtomicU32::new(0),
                journal: OnceLock::new(),
            }),
        }
    }

    /// Remembers what a file holds, and keeps the file up to date from now on.
    pub fn keep_in(&self, path: &Path, report: Reporter) -> Result<Judged, Fault> {
        let stamp = clock::stamp();
        let (file, judged) = ReplayFile::open(path, &stamp, |kept| self.restore(kept, &stamp))?;
        self.fits(stamp.now)?;
        let memory = Arc::downgrade(&self.inner);
        let snapshot = move || {
            let (memory, now) = (memory.upgrade()?, clock::now());
            let delivered = (0..PARTS).flat_map(move |part| memory.delivered(part, now));
            Some(Box::new(delivered) as Delivered)
        };
        let journal = Journal::start(file, self.entries(), Box::new(snapshot), report)?;
        _ = self.inner.journal.set(journal);
        Ok(judged)
    }

    /// Remembers what a file holds, and leaves the file alone.
    pub fn peek(&self, path: &Path) -> Result<Judged, Fault> {
        let stamp = clock::stamp();
        let judged = journal::inspect(path, &stamp, |kept| self.restore(kept, &stamp))?;
        self.fits(stamp.now)?;
        Ok(judged)
    }

    fn restore(&self, kept: Kept, stamp: &Stamp) {
        let memory = &*self.inner;
        let (key, entry) = match kept {
            Kept::Done { key, keep, age } => {
                let span = keep.span(memory.policy.window());
                let until = (stamp.now.mono + span).saturating_sub(age);
                (key, Some(Entry::done(keep, until)).filter(|entry| !entry.expired(stamp.now.mono)))
            }
            Kept::Forgotten(key) => (key, None),
        };
        let before = match entry {
            Some(entry) => memory.entries.insert(key, entry).is_some(),
            None => memory.entries.remove(&key).is_some(),
        };
        match (before, entry.is_some()) {
            (false, true) => _ = memory.len.fetch_add(1, Ordering::Relaxed),
            (true, false) => _ = memory.len.fetch_sub(1, Ordering::Relaxed),
            (true, true) | (false, false) => {}
        }
    }

    /// A file may hold what was forgotten early, or come from a gate that remembered more.
    fn fits(&self, now: Now) -> Result<(), Fault> {
        if self.entries() > self.capacity() {
            self.sweep(now);
        }
        match (self.entries(), self.capacity()) {
            (events, capacity) if events > capacity => Err(Fault::TooMany { events, capacity }),
            _ => Ok(()),
        }
    }

    /// Has the file, if there is one, written to its end; `false` if the disk does not take it.
    pub(super) fn close(&self) -> bool {
        self.inner.journal.get().is_none_or(Journal::close)
    }

    pub(super) fn reserve(&self, key: ReplayKey, now: Now) -> Result<super::Found, Unavailable> {
        let memory = &*self.inner;
        let holder = memory.next_holder();
        let lease = memory.policy.lease();
        match memory.entries.entry(key) {
            Slot::Occupied(mut slot) => {
                let (found, entry) = Entry::reserve(Some(*slot.get()), holder, now.mono, lease);
                slot.insert(entry);
                // Still inside the entry's lock: the holder cannot settle before we listen.
                Ok(self.found(found, holder))
            }
            Slot::Vacant(slot) => {
                if memory.len.fetch_add(1, Ordering::Relaxed) >= memory.capacity {
                    memory.len.fetch_sub(1, Ordering::Relaxed);
                    return Err(Unavailable);
                }
                let (found, entry) = Entry::reserve(None, holder, now.mono, lease);
                slot.insert(entry);
                Ok(self.found(found, holder))
            }
        }
    }

    fn found(&self, found: Found, holder: HolderId) -> super::Found {
        match found {
            Found::Lead => super::Found::Lead(Holder::Memory(self.clone(), holder)),
            Found::Follow(holder) => super::Found::Follow(self.follow(holder)),
            Found::Done => super::Found::Done,
        }
    }

    fn follow(&self, holder: HolderId) -> Way {
        let sender = self.inner.followers.entry(holder).or_insert_with(|| watch::channel(None).0);
        Way::Told { outcome: sender.subscribe(), wait: self.inner.policy.wait() }
    }

    pub(super) fn settle(&self, key: ReplayKey, holder: HolderId, keep: Keep, outcome: Outcome, now: Now) {
        let memory = &*self.inner;
        let delivered = (outcome == Outcome::Delivered).then_some(keep);
        if let Slot::Occupied(mut slot) = memory.entries.entry(key) {
            let stored = Some(*slot.get());
            match Entry::settle(stored, holder, delivered, now.mono, memory.policy.window()) {
                None if outcome == Outcome::Stored => {
                    // The inbox bounds how many there are.
                    slot.insert(Entry::stored());
                    memory.len.fetch_sub(1, Ordering::Relaxed);
                }
                Some(entry) => {
                    slot.insert(entry);
                    if let (Some(journal), Some(keep), true) =
                        (memory.journal.get(), delivered, stored != Some(entry))
                    {
                        journal.done(key, keep, now.mono);
                    }
                }
                None => {
                    slot.remove();
                    memory.len.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
        if let Some((_, followers)) = memory.followers.remove(&holder) {
            followers.send_replace(Some(outcome));
        }
    }

    /// The inbox has it, unless it is under way or done here.
    pub(super) fn stored(&self, key: ReplayKey, now: Now) {
        match self.inner.entries.entry(key) {
            Slot::Occupied(mut slot) if slot.get().expired(now.mono) => {
                slot.insert(Entry::stored());
                self.inner.len.fetch_sub(1, Ordering::Relaxed);
            }
            Slot::Occupied(_) => {}
            Slot::Vacant(slot) => _ = slot.insert(Entry::stored()),
        }
    }

    /// The inbox has it no more.
    pub(super) fn left_inbox(&self, key: ReplayKey, delivered: Option<Keep>, now: Now) {
        let memory = &*self.inner;
        let Slot::Occupied(mut slot) = memory.entries.entry(key) else { return };
        match delivered {
            _ if !slot.get().is_stored() => {}
            Some(keep) => {
                slot.insert(Entry::done(keep, now.mono + keep.span(memory.policy.window())));
                memory.len.fetch_add(1, Ordering::Relaxed);
            }
            None => _ = slot.remove(),
        }
    }

    /// What the inbox remembers of an event that it delivered, so long ago.
    pub fn restore_done(&self, key: ReplayKey, keep: Keep, age: Duration) {
        self.restore(Kept::Done { key, keep, age }, &clock::stamp());
    }

    /// Lets an event be delivered again.
    pub(super) fn forget(&self, key: ReplayKey, now: Now) -> Forgotten {
        let memory = &*self.inner;
        let Slot::Occupied(slot) = memory.entries.entry(key) else { return Forgotten::Nothing };
        let (found, left) = Entry::forget(Some(*slot.get()), now.mono);
        if left.is_none() {
            if let Some(journal) = memory.journal.get() {
                journal.forgotten(key);
            }
            slot.remove();
            memory.len.fetch_sub(1, Ordering::Relaxed);
        }
        found
    }

    pub(super) fn sweep(&self, now: Now) -> Swept {
        let memory = &*self.inner;
        let mut swept = Swept::default();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a threshold"
        )]
        let pressed = self.entries() >= (memory.capacity as f64 * PRESSURE) as usize;
        memory.entries.retain(|_, entry| {
            if entry.expired(now.mono) {
                swept.expired += 1;
                return false;
            }
            let forget = pressed && entry.dispensable(now.mono, memory.policy.window(), memory.stale_after);
            swept.capacity += usize::from(forget);
            !forget
        });
        memory.len.fetch_sub(swept.expired + swept.capacity, Ordering::Relaxed);
        swept
    }

    /// Whether the event is held or done.
    pub(super) fn knows(&self, key: ReplayKey, now: Now) -> bool {
        self.inner.entries.get(&key).is_some_and(|entry| !entry.expired(now.mono))
    }

    pub fn entries(&self) -> usize {
        self.inner.len.load(Ordering::Relaxed)
    }

    pub fn capacity(&self) -> usize {
        self.inner.capacity
    }
}

impl Inner {
    /// The delivered events of one part of the keys, each with its age.
    fn delivered(&self, part: u8, now: Now) -> Vec<(ReplayKey, Keep, Duration)> {
        let of_part = self.entries.iter().filter(|entry| entry.key().as_bytes()[0] % PARTS == part);
        let delivered = of_part.filter_map(|entry| {
            let live = Some(entry.value()).filter(|entry| !entry.expired(now.mono))?;
            let (keep, age) = live.kept(now.mono, self.policy.window())?;
            Some((*entry.key(), keep, age))
        });
        delivered.collect()
    }

    /// Never one of the marks for done.
    fn next_holder(&self) -> HolderId {
        loop {
            let holder = self.last_holder.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            if !is_mark(holder) {
                return holder;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(capacity: usize) -> Memory {
        let seconds = Duration::from_secs;
        let policy = ReplayPolicy::new(seconds(3600), seconds(600), seconds(21), seconds(11)).unwrap();
        Memory::new(policy, seconds(660), capacity)
    }

    fn deliver(memory: &Memory, number: u8, now: Now) {
        let key = ReplayKey::from_digest(&[number; 32]);
        let Ok(super::super::Found::Lead(Holder::Memory(_, id))) = memory.reserve(key, now) else {
            panic!("{number} is new")
        };
        memory.settle(key, id, Keep::UntilStale, Outcome::Delivered, now);
    }

    #[test]
    fn no_holder_is_a_mark_for_done() {
        let memory = memory(1);
        memory.inner.last_holder.store(HolderId::MAX - 3, Ordering::Relaxed);
        let holders = [(); 3].map(|()| memory.inner.next_holder());
        assert_eq!(holders, [HolderId::MAX - 2, 1, 2]);
    }

    #[test]
    fn pressure_begins_at_nine_tenths() {
        let memory = memory(10);
        for number in 0..8 {
            deliver(&memory, number, Now::at(0, 0));
        }
        assert_eq!(memory.sweep(Now::at(0, 660)), Swept::default(), "eight of ten");
        deliver(&memory, 8, Now::at(0, 1));
        assert_eq!(
            memory.sweep(Now::at(0, 660)),
            Swept { expired: 0, capacity: 8 },
            "the ninth may be fresh"
        );
        assert_eq!((memory.entries(), memory.capacity()), (1, 10));
        assert_eq!(memory.sweep(Now::at(0, 3601)), Swept { expired: 1, capacity: 0 });
        assert_eq!(memory.entries(), 0);
    }
}
