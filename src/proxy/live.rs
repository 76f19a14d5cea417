//! What a reload swaps whole: the routes, each with all that belongs to it, and who may speak for a
//! sender. A delivery keeps the one that it started with.

use std::borrow::Borrow;
use std::sync::Arc;

use crate::config::provider::NamedSecret;
use crate::gate::delivery::TrustedProxies;
use crate::gate::reason::Reason;
use crate::gate::route::{self, Policy, Route};
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
}

impl Borrow<Route> for Endpoint {
    fn borrow(&self) -> &Route {
        &self.route
    }
}

impl Live {
    /// `secrets` are in the order of the policy's routes.
    pub fn new(policy: Policy, secrets: Vec<Vec<NamedSecret>>, telemetry: &Telemetry) -> Self {
        let metrics = telemetry.metrics.routes(&policy.routes);
        let belonging = metrics.into_iter().zip(secrets);
        let endpoints = policy.routes.into_iter().zip(belonging);
        let endpoint = |(route, (metrics, secrets)): (_, (_, Vec<_>))| Endpoint {
            route,
            metrics,
            secrets: secrets.into(),
        };
        Live { endpoints: endpoints.map(endpoint).collect(), trusted_proxies: policy.trusted_proxies }
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

    /// Each route and what is counted of it.
    pub fn routes(&self) -> impl Iterator<Item = (&Route, &RouteMetrics)> {
        self.endpoints.iter().map(|endpoint| (&*endpoint.route, &*endpoint.metrics))
    }
}
