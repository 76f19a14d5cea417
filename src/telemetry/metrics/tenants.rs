//! What is counted of the look-ups of tenants' secrets, for each route that has some. No label ever holds a
//! tenant.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, Registry};

use super::register::{counters, gauges};

use crate::lock::lock;

/// How a look-up ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    Found,
    Unknown,
    /// Nobody could say.
    Failed,
}

impl Lookup {
    const ALL: [Lookup; 3] = [Lookup::Found, Lookup::Unknown, Lookup::Failed];

    const fn label(self) -> &'static str {
        match self {
            Lookup::Found => "found",
            Lookup::Unknown => "unknown",
            Lookup::Failed => "failed",
        }
    }
}

pub(super) struct Tenants {
    lookups: IntCounterVec,
    stale: IntCounterVec,
    cached: GaugeVec,
    up: GaugeVec,
    known: Mutex<HashSet<Box<str>>>,
}

/// The handles of one route.
pub struct TenantMetrics {
    lookups: [IntCounter; Lookup::ALL.len()],
    stale: IntCounter,
    cached: Gauge,
    up: Gauge,
}

impl Tenants {
    pub fn new(r: &Registry) -> Self {
        Tenants {
            lookups: counters(
                r,
                "hookgate_tenant_lookups_total",
                "Look-ups of tenants' secrets, by how they ended.",
                &["route", "result"],
            ),
            stale: counters(
                r,
                "hookgate_tenant_stale_keys_total",
                "Deliveries that were judged by remembered keys because the secrets could not be looked up.",
                &["route"],
            ),
            cached: gauges(r, "hookgate_tenants_cached", "Tenants whose secrets are remembered.", &["route"]),
            up: gauges(
                r,
                "hookgate_tenant_source_up",
                "1 if the secrets of tenants can be looked up.",
                &["route"],
            ),
            known: Mutex::default(),
        }
    }

    pub fn one(&self, route: &str) -> Arc<TenantMetrics> {
        lock(&self.known).insert(route.into());
        let up = self.up.with_label_values(&[route]);
        up.set(1.0);
        Arc::new(TenantMetrics {
            lookups: Lookup::ALL.map(|result| self.lookups.with_label_values(&[route, result.label()])),
            stale: self.stale.with_label_values(&[route]),
            cached: self.cached.with_label_values(&[route]),
            up,
        })
    }

    /// Of routes that are gone, or have tenants no more, what could be taken for their present state goes too.
    pub fn keep_only<'n>(&self, routes: impl Iterator<Item = &'n str>) {
        let routes: Vec<_> = routes.collect();
        lock(&self.known).retain(|name| {
            let stays = routes.contains(&&**name);
            if !stays {
                for state in [&self.cached, &self.up] {
                    _ = state.remove_label_values(&[name]);
                }
            }
            stays
        });
    }
}

impl TenantMetrics {
    pub fn looked_up(&self, how: Lookup) {
        self.lookups[how as usize].inc();
    }

    pub fn served_stale(&self) {
        self.stale.inc();
    }

    pub fn set(&self, cached: usize, is_up: bool) {
        #[expect(clippy::cast_precision_loss, reason = "some millions at most")]
        self.cached.set(cached as f64);
        self.up.set(f64::from(u8::from(is_up)));
    }
}
