//! What is remembered of tenants: the secrets of those that there are, and the names of some that there are
//! not. Both lie in one table, so that the time to find one tells nothing of which it is. They are bounded apart
//! from each other, so that a flood of names drives no tenant out, and the least used make room. A tenant takes some 150 bytes: its secrets lie packed, and become keys when they are used.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use lru::LruCache;
use zeroize::Zeroizing;

use crate::config::provider::NamedSecret;
use crate::config::secret::Secret;
use crate::lock::lock;

/// Parts that are locked for themselves.
const SHARDS: usize = 16;
/// Names that are known to be no tenant's, in all parts together.
const UNKNOWN: usize = 16_384;

pub struct Cache {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    /// In each part.
    most: usize,
}

struct Shard {
    entries: LruCache<u64, Entry>,
    /// How many of them are tenants.
    known: usize,
    /// The others, oldest first; some may be gone.
    unknown: VecDeque<u64>,
}

struct Entry {
    is_known: bool,
    /// When it was looked up, in seconds of the monotonic clock.
    at: u32,
    packed: Zeroizing<Box<[u8]>>,
}

/// What is remembered of one name.
pub struct Remembered {
    /// Whether there is such a tenant. If not, its secrets stand for some that nobody knows.
    pub is_known: bool,
    pub age: Duration,
    /// When it was looked up, in seconds of the monotonic clock.
    pub at: u32,
    packed: Zeroizing<Vec<u8>>,
}

impl Cache {
    pub fn new(max: usize) -> Self {
        let shard = || Shard { entries: LruCache::unbounded(), known: 0, unknown: VecDeque::new() };
        Cache {
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::new(shard())),
            most: max.div_ceil(SHARDS),
        }
    }

    /// What is remembered of the name.
    pub fn get(&self, name: &str, now: Duration) -> Option<Remembered> {
        let (hash, mut shard) = self.shard(name);
        let Entry { is_known, at, packed } = shard.entries.get(&hash)?;
        let (is_known, at, packed) = (*is_known, *at, Zeroizing::new(packed.to_vec()));
        let age = Duration::from_secs(u64::from(seconds(now).saturating_sub(at)));
        drop(shard);
        (name_in(&packed) == name.as_bytes()).then_some(Remembered { is_known, age, at, packed })
    }

    /// There is such a tenant, with these secrets; or there is none, and these stand for some.
    pub fn put(&self, name: &str, secrets: &[NamedSecret], is_known: bool, now: Duration) {
        let entry = Entry { is_known, at: seconds(now), packed: pack(name, secrets) };
        let (hash, mut shard) = self.shard(name);
        let Shard { entries, known, unknown } = &mut *shard;
        let before = entries.put(hash, entry).map(|before| before.is_known);
        *known -= usize::from(before == Some(true));
        if !is_known {
            if before != Some(false) {
                unknown.push_back(hash);
            }
            if unknown.len() > UNKNOWN / SHARDS
                && let Some(oldest) = unknown.pop_front()
                && entries.peek(&oldest).is_some_and(|entry| !entry.is_known)
            {
                entries.pop(&oldest);
            }
            return;
        }
        *known += 1;
        while *known > self.most
            && let Some((_, gone)) = entries.pop_lru()
        {
            *known -= usize::from(gone.is_known);
        }
    }

    /// How many tenants are remembered.
    pub fn tenants(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).known).sum()
    }

    /// The same of names that are none.
    #[cfg(test)]
    fn unknown(&self) -> usize {
        let names =
            |shard: &Mutex<Shard>| lock(shard).entries.iter().filter(|(_, entry)| !entry.is_known).count();
        self.shards.iter().map(names).sum()
    }

    fn shard(&self, name: &str) -> (u64, MutexGuard<'_, Shard>) {
        let hash = self.hasher.hash_one(name);
        let n = usize::try_from(hash % SHARDS as u64).unwrap_or_default();
        (hash, lock(&self.shards[n]))
    }
}

impl Remembered {
    pub fn secrets(&self) -> Vec<NamedSecret> {
        unpack(&self.packed)
    }
}

fn seconds(now: Duration) -> u32 {
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}

/// The name, then id, end and text of each secret, with their lengths.
fn pack(name: &str, secrets: &[NamedSecret]) -> Zeroizing<Box<[u8]>> {
    let of_secrets = secrets.iter().map(|s| s.id.len() + s.secret.expose().len() + 24).sum::<usize>();
    let mut packed = Zeroizing::new(Vec::with_capacity(name.len() + 8 + of_secrets));
    push(&mut packed, name.as_bytes());
    for NamedSecret { id, secret, not_after_ms } in secrets {
        push(&mut packed, id.as_bytes());
        match not_after_ms {
            Some(ms) => push(&mut packed, &ms.to_be_bytes()),
            None => push(&mut packed, &[]),
        }
        push(&mut packed, secret.expose());
    }
    // A copy of the right size, so that the one with room to spare is wiped and not left behind.
    Zeroizing::new(packed.as_slice().into())
}

/// A length in one byte if it is short, else in four behind a mark.
fn push(packed: &mut Vec<u8>, bytes: &[u8]) {
    const LONG: u8 = u8::MAX;
    match u8::try_from(bytes.len()) {
        Ok(short) if short < LONG => packed.push(short),
        _ => {
            packed.push(LONG);
            packed.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or_default().to_be_bytes());
        }
    }
    packed.extend_from_slice(bytes);
}

fn take<'p>(packed: &mut &'p [u8]) -> Option<&'p [u8]> {
    let (length, rest) = match packed {
        [u8::MAX, a, b, c, d, rest @ ..] => {
            (usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).ok()?, rest)
        }
        [short, rest @ ..] => (usize::from(*short), rest),
        [] => return None,
    };
    let (taken, rest) = rest.split_at_checked(length)?;
    *packed = rest;
    Some(taken)
}

fn name_in(mut packed: &[u8]) -> &[u8] {
    take(&mut packed).unwrap_or_default()
}

fn unpack(mut packed: &[u8]) -> Vec<NamedSecret> {
    let mut secrets = Vec::with_capacity(1);
    _ = take(&mut packed);
    while let (Some(id), Some(end), Some(text)) = (take(&mut packed), take(&mut packed), take(&mut packed)) {
        secrets.push(NamedSecret {
            id: String::from_utf8_lossy(id).into(),
            secret: Secret::exact(text),
            not_after_ms: end.try_into().ok().map(i64::from_be_bytes),
        });
    }
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(id: &str, text: &[u8], not_after_ms: Option<i64>) -> NamedSecret {
        NamedSecret { id: id.into(), secret: Secret::exact(text), not_after_ms }
    }

    fn told(remembered: &Remembered) -> Vec<(String, Vec<u8>, Option<i64>)> {
        let of = |s: NamedSecret| (s.id.to_string(), s.secret.expose().to_vec(), s.not_after_ms);
        remembered.secrets().into_iter().map(of).collect()
    }

    #[test]
    fn secrets_come_back_as_they_were_put() {
        let cache = Cache::new(10);
        let long = vec![b'x'; 5000];
        let secrets = [
            secret("new", b"a", None),
            secret("", b"", Some(-1)),
            secret("old", &long, Some(1_800_000_000_000)),
        ];
        cache.put("acme", &secrets, true, Duration::from_secs(5));
        let found = cache.get("acme", Duration::from_secs(12)).unwrap();
        assert_eq!((found.is_known, found.age), (true, Duration::from_secs(7)));
        assert_eq!(
            told(&found),
            [
                ("new".to_owned(), b"a".to_vec(), None),
                (String::new(), Vec::new(), Some(-1)),
                ("old".to_owned(), long, Some(1_800_000_000_000))
            ]
        );
        for edge in [253, 254, 255, 256] {
            cache.put("acme", &[secret("k", &vec![7; edge], None)], true, Duration::ZERO);
            let found = cache.get("acme", Duration::ZERO).unwrap();
            assert_eq!(told(&found), [("k".to_owned(), vec![7; edge], None)], "{edge}");
        }
        assert!(cache.get("acm", Duration::ZERO).is_none());
    }

    #[test]
    fn a_flood_of_names_is_bounded_and_drives_no_tenant_out() {
        let cache = Cache::new(160);
        for n in 0..100 {
            cache.put(&format!("tenant{n}"), &[secret("k", b"secret", None)], true, Duration::ZERO);
        }
        let known = cache.tenants();
        assert!(known > 90, "parts are filled by chance: {known}");
        for n in 0..200_000 {
            cache.put(&format!("flood{n}"), &[], false, Duration::ZERO);
        }
        assert_eq!((cache.tenants(), cache.unknown()), (known, UNKNOWN));
        for n in 0..10_000 {
            cache.put(&format!("more{n}"), &[], true, Duration::ZERO);
        }
        assert_eq!(cache.tenants(), 160);
        assert!(cache.unknown() <= UNKNOWN);
        for n in 0..200_000 {
            cache.put(&format!("flood{n}"), &[], false, Duration::ZERO);
        }
        assert_eq!(cache.tenants(), 160, "names make room for names");
        assert!(cache.unknown() <= UNKNOWN);
    }

    #[test]
    fn a_name_is_a_tenant_or_none() {
        let cache = Cache::new(16);
        for is_known in [true, false, true] {
            cache.put("acme", &[secret("k", b"s", None)], is_known, Duration::ZERO);
            assert_eq!(cache.get("acme", Duration::ZERO).unwrap().is_known, is_known);
            assert_eq!(cache.tenants() + cache.unknown(), 1);
        }
    }
}
