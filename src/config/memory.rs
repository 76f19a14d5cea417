//! How much memory the process takes at most under a configuration. The constants are rounded
//! up from what was measured; the attacks in `tests/memory` hold the sum.

use std::fmt;

use super::Startup;
use super::route::{Elsewhere, KeyedRoute};
use super::store::OnStoreError;
use crate::budget::Budget;

/// The program, its threads, the log that waits to be written, the ops listener's connections.
const BASE: usize = 24 << 20;
/// The addresses that a route's limits remember.
const ROUTE: usize = 8 << 20;
/// A tenant that is remembered; and all the names that are known to be none.
const TENANT: usize = 256;
const NO_TENANTS: usize = 4 << 20;
/// A connection with a short request.
const CONNECTION: usize = 28 << 10;
/// The same with TLS, and a record that is being read.
const TLS_CONNECTION: usize = 64 << 10;
/// An event that is remembered.
const EVENT: usize = 64;

/// The bound, and of what it is the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    pub base: usize,
    pub routes: usize,
    pub connections: usize,
    pub buffered: usize,
    pub replay: usize,
}

impl Bound {
    pub fn of(startup: &Startup, routes: &[KeyedRoute]) -> Self {
        let tenants = routes.iter().map(|keyed| match &keyed.elsewhere {
            Some(Elsewhere::Tenants(from)) => TENANT.saturating_mul(from.max).saturating_add(NO_TENANTS),
            Some(Elsewhere::Published(_)) | None => 0,
        });
        let connection = if startup.sockets.listen_tls.is_empty() { CONNECTION } else { TLS_CONNECTION };
        // A shared store remembers elsewhere, and in this process only while it is away.
        let remembers = startup.shared_store.is_none() || startup.on_store_error == OnStoreError::Local;
        let buffered = Budget::most(startup.max_buffered);
        let events = if remembers { startup.replay_capacity } else { 0 };
        Bound {
            base: BASE,
            routes: tenants.fold(ROUTE.saturating_mul(routes.len()), usize::saturating_add),
            connections: connection.saturating_mul(startup.max_connections),
            buffered: buffered.saturating_add(buffered / 8), // what is lost between blocks
            replay: EVENT.saturating_mul(events),
        }
    }

    /// In bytes.
    pub fn total(&self) -> usize {
        [self.routes, self.connections, self.buffered, self.replay]
            .into_iter()
            .fold(self.base, usize::saturating_add)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: usize| bytes.div_ceil(1 << 20);
        write!(
            f,
            "at most {} MiB: {} for the program, {} for limits and tenants of routes, {} for connections, {} for bodies and \
             what surrounds them, {} for the replay memory",
            mib(self.total()),
            mib(self.base),
            mib(self.routes),
            mib(self.connections),
            mib(self.buffered),
            mib(self.replay)
        )
    }
}
