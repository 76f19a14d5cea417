//! What has become of the last deliveries of each tenant, for who asks about one. Bounded: those with proven
//! deliveries apart from names that nobody has proven, which a flood of them could not drive out.

use std::sync::{Arc, Mutex};

use lru::LruCache;

use super::Record;
use super::activity::Tally;
use crate::clock::Now;
use crate::gate::reason::{Reason, Verdict};
use crate::lock::lock;

/// So many tenants, of all routes together.
const PROVEN: usize = 16_384;
const NAMED: usize = 1_024;

type Name = (Arc<str>, Box<str>);

/// How deliveries ended, each way once.
pub type Ends = Vec<(Verdict, Reason, Tally)>;

pub struct Tenants(Mutex<Known>);

struct Known {
    proven: LruCache<Name, Ends>,
    named: LruCache<Name, Ends>,
}

impl Default for Tenants {
    fn default() -> Self {
        Tenants(Mutex::new(Known { proven: LruCache::unbounded(), named: LruCache::unbounded() }))
    }
}

impl Tenants {
    /// A delivery has ended. One that names no tenant is not looked at.
    pub(super) fn add(&self, record: &Record, verdict: Verdict, reason: Reason, now: Now) {
        let (Some(tenant), Some((route, _))) = (&record.tenant, &record.route) else { return };
        let name = (Arc::clone(&route.name), tenant.clone());
        let mut known = lock(&self.0);
        let Known { proven, named } = &mut *known;
        if record.proof.is_some() && !proven.contains(&name) {
            let before = named.pop(&name).unwrap_or_default();
            proven.put(name.clone(), before);
            if proven.len() > PROVEN {
                proven.pop_lru();
            }
        }
        // Both are looked at for every name, so that the time which this takes does not tell where it is: the next
        // delivery of the same sender may wait for it.
        let (in_proven, in_named) = (proven.get_mut(&name), named.get_mut(&name));
        if let Some(ends) = in_proven.or(in_named) {
            return add(ends, verdict, reason, now);
        }
        add(named.get_or_insert_mut(name, Ends::new), verdict, reason, now);
        if named.len() > NAMED {
            named.pop_lru();
        }
    }

    /// What is known of a tenant of that route.
    pub fn of(&self, route: &Arc<str>, tenant: &str) -> Ends {
        let known = lock(&self.0);
        let name = (Arc::clone(route), tenant.into());
        known.proven.peek(&name).or(known.named.peek(&name)).cloned().unwrap_or_default()
    }
}

fn add(ends: &mut Ends, verdict: Verdict, reason: Reason, now: Now) {
    match ends.iter_mut().find(|(v, r, _)| (*v, *r) == (verdict, reason)) {
        Some((.., tally)) => tally.add(now.wall_ms),
        None => {
            let mut tally = Tally::default();
            tally.add(now.wall_ms);
            ends.push((verdict, reason, tally));
        }
    }
}
