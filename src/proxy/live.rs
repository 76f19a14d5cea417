//! What a reload swaps whole: the routes, each with all that belongs to it, and who may speak for a
//! sender. A delivery keeps the one that it started with.

use std::borrow::Borrow;
use std::sync::Arc;

use super::lane::Lane;
use super::spill::Shaped;
use crate::config::provider::NamedSecret;
use crate::config::route::KeyedRoute;
use crate::gate::delivery::TrustedProxies;
use crate::gate::reason::Reason;
use crate::gate::route::{self, Route};
use crate::inbox::Policy;
use crate::keys::{KeySource, Rooms};
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::RouteMetrics;

pub struct Live {
    pub endpoints: Vec<Endpoint>,
    pub trusted_proxies: TrustedProxies,
}

/// A route, what is counted of it, and its secrets.
pub struct Endpoint {
    pub route: Arc<Route>,
    pub metrics: Arc<RouteMetrics>,
    /// For diagnosis.
    pub secrets: Arc<[NamedSecret]>,
    /// Where its deliveries wait for their turn, if they have to.
    pub lane: Option<Arc<Lane>>,
    /// When it stores, and how it delivers what it stored.
    pub policy: Arc<Policy>,
    pub shaped: Arc<Shaped>,
    /// Where its keys are looked up, if it holds none itself.
    pub keys: Option<Arc<KeySource>>,
}

/// What was configured and is not in effect.
#[derive(Debug, Default)]
pub struct Unapplied {
    /// What needs a restart: the keys, and the same in words.
    pub keys: Vec<String>,
    pub changes: String,
    /// The last reload failed.
    pub failed: bool,
}

impl Borrow<Route> for Endpoint {
    fn borrow(&self) -> &Route {
        &self.route
    }
}

impl Live {
    pub fn new(
        routes: Vec<KeyedRoute>,
        trusted_proxies: TrustedProxies,
        telemetry: &Telemetry,
        rooms: &Rooms,
    ) -> Self {
        telemetry.metrics.keep_only(routes.iter().map(|keyed| &*keyed.route.name));
        let tenants = routes.iter().filter(|keyed| keyed.route.tenant.is_some());
        telemetry.metrics.keep_tenants_of(tenants.map(|keyed| &*keyed.route.name));
        for keyed in &routes {
            rooms.expect_visits(&keyed.route);
        }
        let endpoint = |KeyedRoute { route, secrets, elsewhere, inbox }| Endpoint {
            metrics: telemetry.metrics.route(&route),
            lane: Lane::new(route.deliver).map(Arc::new),
            keys: elsewhere.map(|elsewhere| rooms.source(&route, elsewhere)),
            route: Arc::new(route),
            secrets: secrets.into(),
            policy: Arc::new(inbox),
            shaped: Arc::default(),
        };
        Live { endpoints: routes.into_iter().map(endpoint).collect(), trusted_proxies }
    }

    /// What was configured anew, with what the limiters of the routes here remember.
    pub fn remembered_by(&self, routes: Vec<KeyedRoute>) -> Vec<KeyedRoute> {
        let adopting = |keyed: KeyedRoute| {
            let before = self.endpoints.iter().find(|before| before.route.name == keyed.route.name);
            match before {
                None => keyed,
                Some(before) => KeyedRoute { route: keyed.route.adopting(&before.route), ..keyed },
            }
        };
        routes.into_iter().map(adopting).collect()
    }

    /// The same, with the lanes that deliveries wait in already, where those are as wide as before.
    #[must_use]
    pub fn in_lanes_of(mut self, before: &Live) -> Self {
        for endpoint in &mut self.endpoints {
            let old = before.endpoints.iter().find(|old| old.route.name == endpoint.route.name);
            if let Some(old) = old {
                endpoint.shaped = Arc::clone(&old.shaped);
            }
            if let Some(old) = old.filter(|old| old.route.deliver == endpoint.route.deliver) {
                endpoint.lane.clone_from(&old.lane);
            }
        }
        self
    }

    /// Where a raw path leads.
    pub fn endpoint(&self, path: &[u8]) -> Result<&Endpoint, Reason> {
        route::of_path(&self.endpoints, path)
    }

    /// Every other route, with its secrets.
    pub fn others(&self, than: &Arc<Route>) -> Vec<(Arc<Route>, Arc<[NamedSecret]>)> {
        let others = self.endpoints.iter().filter(|endpoint| !Arc::ptr_eq(&endpoint.route, than));
        others.map(|other| (Arc::clone(&other.route), Arc::clone(&other.secrets))).collect()
    }

    /// What is said to who names another route.
    pub fn no_such_route(&self) -> String {
        let names: Vec<&str> = self.routes().map(|(route, _)| &*route.name).collect();
        format!("there is no such route; the routes are: {}", names.join(", "))
    }

    /// Each route and what is counted of it.
    pub fn routes(&self) -> impl Iterator<Item = (&Route, &RouteMetrics)> {
        self.endpoints.iter().map(|endpoint| (&*endpoint.route, &*endpoint.metrics))
    }
}
