//! The delivery ids that providers gave to events lately, where these ids are not signed and so do not tell
//! the events apart. With them a copy under another id can be told of, and an operator can name an event by
//! the id that the provider shows. Bounded: the oldest make room.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::gate::filter::replay::ReplayKey;
use crate::gate::identity::Scope;
use crate::lock::lock;

/// About 2 MiB.
const CAPACITY: usize = 16 * 1024;

#[derive(Debug, Default)]
pub struct Deliveries {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_key: HashMap<ReplayKey, Delivery>,
    /// Oldest first.
    order: VecDeque<ReplayKey>,
}

#[derive(Debug)]
struct Delivery {
    route: Arc<str>,
    tenant: Option<Arc<str>>,
    id: Box<str>,
}

impl Deliveries {
    /// An event is being delivered, and its sender calls the delivery so.
    pub fn add(&self, route: &Arc<str>, tenant: Option<&Arc<str>>, key: ReplayKey, id: &str) {
        let delivery = Delivery { route: Arc::clone(route), tenant: tenant.cloned(), id: id.into() };
        let mut known = self.known();
        if known.by_key.insert(key, delivery).is_none() {
            known.order.push_back(key);
            if known.order.len() > CAPACITY
                && let Some(oldest) = known.order.pop_front()
            {
                known.by_key.remove(&oldest);
            }
        }
    }

    /// Whether the event came before under another id than this one.
    pub fn had_another(&self, key: ReplayKey, id: &str) -> bool {
        self.known().by_key.get(&key).is_some_and(|delivery| &*delivery.id != id)
    }

    /// The event that was delivered under this id last.
    pub fn key_of(&self, Scope { route, tenant }: Scope<'_>, id: &str) -> Option<ReplayKey> {
        let known = self.known();
        let is_it = |delivery: &Delivery| {
            &*delivery.id == id && &*delivery.route == route && delivery.tenant.as_deref() == tenant
        };
        known.order.iter().rev().find(|key| known.by_key.get(key).is_some_and(is_it)).copied()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(route: &str) -> Scope<'_> {
        Scope { route, tenant: None }
    }

    fn key(n: usize) -> ReplayKey {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
        ReplayKey::from_bytes(bytes)
    }

    #[test]
    fn an_event_is_found_by_the_id_of_its_delivery() {
        let deliveries = Deliveries::default();
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        deliveries.add(&one, None, key(1), "a");
        deliveries.add(&other, None, key(2), "a");
        deliveries.add(&one, None, key(3), "b");
        assert_eq!(deliveries.key_of(of("one"), "a"), Some(key(1)));
        assert_eq!(deliveries.key_of(of("other"), "a"), Some(key(2)));
        assert_eq!(deliveries.key_of(of("other"), "b"), None);
        assert!(deliveries.had_another(key(1), "c"));
        assert!(!deliveries.had_another(key(1), "a"), "a copy of the same delivery");
        assert!(!deliveries.had_another(key(9), "a"), "nothing is known");
        deliveries.add(&one, None, key(1), "c");
        assert_eq!(deliveries.key_of(of("one"), "c"), Some(key(1)), "the last id counts");
        assert_eq!(deliveries.key_of(of("one"), "a"), None);
    }

    #[test]
    fn the_oldest_make_room() {
        let deliveries = Deliveries::default();
        let route: Arc<str> = "r".into();
        for n in 0..CAPACITY + 10 {
            deliveries.add(&route, None, key(n), &n.to_string());
        }
        assert_eq!(deliveries.key_of(of("r"), "9"), None);
        assert_eq!(deliveries.key_of(of("r"), "10"), Some(key(10)));
        let known = deliveries.known();
        assert_eq!((known.order.len(), known.by_key.len()), (CAPACITY, CAPACITY));
    }
}
