//! What "durable" means in the store that is there. Where the server can be waited for until its disk has what
//! was written (`WAITAOF`, from Redis 7.2 and in Valkey), it is, before a sender is told; else an event is as
//! durable as the server's settings make it, and [`Durability`] says how much that is.
//!
//! Who waits has everybody behind him on the same connection wait as well. So one waits for all: while one wait
//! is under way the next events gather, and the next wait is for all of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use crate::inbox::Refusal;
use crate::lock::lock;
use crate::store::redis::address::Servers;
use crate::store::redis::durability::{Synced, sync};
pub use crate::store::redis::{Disk, Durability};
use crate::store::redis::{Link, Settings};

/// The longest wait for a disk.
const WAIT: Duration = Duration::from_secs(3);
/// For so long a server's settings are taken to be what they were.
const KNOWN_FOR: Duration = Duration::from_secs(60);

pub(super) struct Durable {
    settings: Settings,
    known: Mutex<Option<(Durability, Instant)>>,
    /// One for each server that there may be: of a cluster one for each route, which is on one of its nodes.
    lanes: Mutex<HashMap<Box<str>, Arc<Lane>>>,
}

/// Waits for one server, on a connection of its own.
struct Lane {
    link: Arc<Link>,
    /// How many have asked, and how many of them are served.
    asked: AtomicU64,
    served: tokio::sync::Mutex<u64>,
}

impl Durable {
    pub fn new(settings: Settings) -> Self {
        Durable { settings, known: Mutex::default(), lanes: Mutex::default() }
    }

    fn lane(&self, route: &str) -> Arc<Lane> {
        let name = match &self.settings.address.servers {
            Servers::Cluster(_) => route,
            Servers::One(_) | Servers::Sentinel { .. } => "",
        };
        let mut lanes = lock(&self.lanes);
        if let Some(lane) = lanes.get(name) {
            return Arc::clone(lane);
        }
        let lane = Lane {
            link: Link::new(self.settings.clone()),
            asked: AtomicU64::new(0),
            served: tokio::sync::Mutex::default(),
        };
        Arc::clone(lanes.entry(name.into()).or_insert(Arc::new(lane)))
    }

    fn known(&self) -> Option<Durability> {
        let known = lock(&self.known);
        known.filter(|(_, since)| since.elapsed() < KNOWN_FOR).map(|(durability, _)| durability)
    }

    fn learn(&self, durability: Durability) {
        *lock(&self.known) = Some((durability, Instant::now()));
    }
}

impl Shared {
    /// What the server tells of itself, as of the last minute.
    pub(super) async fn durability(&self) -> Result<Durability, Refusal> {
        if let Some(known) = self.durable.known() {
            return Ok(known);
        }
        let durability = self.redis.durability().await?;
        self.durable.learn(durability);
        Ok(durability)
    }

    /// Waits for what was written of this route to be as durable as the server makes it.
    pub(super) async fn make_durable(&self, route: &str) -> Result<(), Refusal> {
        let mut durability = self.durability().await?;
        if durability.disk != Disk::Waited {
            return Ok(());
        }
        let lane = self.durable.lane(route);
        let ours = lane.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut served = lane.served.lock().await;
        if *served >= ours {
            return Ok(());
        }
        // All who have asked by now have written before.
        let asked = lane.asked.load(Ordering::SeqCst);
        let key = format!("{}{{inbox:{route}}}:synced", self.durable.settings.prefix);
        match sync(&lane.link, &key, WAIT).await? {
            Synced::Yes => *served = asked,
            Synced::No => return Err(Refusal::Unavailable),
            Synced::NotOffered => {
                durability.disk = Disk::Unknown;
                self.durable.learn(durability);
            }
        }
        Ok(())
    }
}
