//! The parts of a store that can be well or not each for itself: all of it, or of a cluster a
//! sixteenth of its slots each. A node has at least one of them nearly to itself, so its loss is
//! a row of failures there, whatever the other nodes answer meanwhile.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::address::Servers;
use super::breaker::Breaker;

pub struct Parts(Vec<Part>);

#[derive(Default)]
pub struct Part {
    pub breaker: Breaker,
    /// When it last took a write, in milliseconds.
    wrote: AtomicU64,
}

const OF_CLUSTER: u16 = 16;
const SLOTS: u16 = 16384;

/// For each part of a cluster, what makes a key be in it.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let tag = |part| (0..u32::from(u16::MAX)).map(|n| format!("{{{n}}}")).find(|tag| index(tag) == part);
    (0..usize::from(OF_CLUSTER)).filter_map(tag).collect()
});

impl Parts {
    pub fn of(servers: &Servers) -> Self {
        let count = if matches!(servers, Servers::Cluster(_)) { OF_CLUSTER } else { 1 };
        Parts((0..count).map(|_| Part::default()).collect())
    }

    /// The part that has this key.
    pub fn with(&self, key: &str) -> &Part {
        match &*self.0 {
            [all] => all,
            parts => &parts[index(key)],
        }
    }

    pub fn any_open(&self) -> bool {
        self.0.iter().any(|part| part.breaker.is_open())
    }

    pub fn all_open(&self) -> bool {
        self.0.iter().all(|part| part.breaker.is_open())
    }

    /// Of each part that took no write for so long, or of all, the end of a key that is in it.
    pub fn unproven(&self, now: Duration, since: Duration, all: bool) -> impl Iterator<Item = &str> {
        let whole = self.0.len() == 1;
        self.0.iter().enumerate().filter_map(move |(n, part)| {
            let wrote = Duration::from_millis(part.wrote.load(Ordering::Relaxed));
            let unproven = all || part.breaker.is_open() || now.saturating_sub(wrote) >= since;
            unproven.then(|| if whole { "" } else { &TAGS[n] })
        })
    }
}

impl Part {
    pub fn wrote(&self, now: Duration) {
        self.wrote.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.breaker.succeeded();
    }
}

fn index(key: &str) -> usize {
    usize::from(slot(key) / (SLOTS / OF_CLUSTER))
}

/// As a cluster finds the node of a key: by what stands in its first braces.
pub fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let tag = tag.map(|(tag, _)| tag).filter(|tag| !tag.is_empty()).unwrap_or(key);
    crc16::State::<crc16::XMODEM>::calculate(tag.as_bytes()) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redis::Address;

    fn parts(address: &str) -> Parts {
        Parts::of(&address.parse::<Address>().unwrap().servers)
    }

    #[test]
    fn each_part_of_a_cluster_is_asked_with_a_key_of_its_own() {
        let cluster = parts("redis+cluster://a");
        let asked: Vec<_> = cluster.unproven(Duration::ZERO, Duration::ZERO, false).collect();
        assert_eq!(asked.len(), 16);
        for (n, tag) in asked.iter().enumerate() {
            assert!(
                std::ptr::eq(cluster.with(&format!("shop:probe{tag}")), &raw const cluster.0[n]),
                "{tag}"
            );
        }
        assert_eq!(
            parts("redis://a").unproven(Duration::ZERO, Duration::ZERO, false).collect::<Vec<_>>(),
            [""]
        );
    }

    /// From the specification of clusters: the slot of 123456789 is 0x31c3.
    #[test]
    fn a_key_is_in_the_part_of_its_slot() {
        for key in ["123456789", "x{123456789}y", "{123456789}{other}"] {
            assert_eq!(index(key), 0x31c3 / 1024, "{key}");
        }
        assert_eq!(index("{}123456789"), index("{}123456789"), "empty braces are part of a key");
    }

    #[test]
    fn what_was_written_lately_is_proven() {
        let parts = parts("redis://a");
        let (second, later) = (Duration::from_secs(1), Duration::from_secs(100));
        parts.with("a").wrote(later);
        assert_eq!(parts.unproven(later, second, false).count(), 0);
        assert_eq!(parts.unproven(later + second, second, false).count(), 1);
        assert_eq!(parts.unproven(later, second, true).count(), 1);
    }
}
