//! Tells the operator what would have made a signature hold: off the way of the request,
//! a few times a minute, and never to the sender.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::clock::{self, Now};
use crate::config::provider::NamedSecret;
use crate::diagnosis::{Case, Other, hints};
use crate::gate::delivery::{Client, Head, split_target};
use crate::gate::filter::rate_limit::{Quota, RateLimit};
use crate::gate::route::Route;
use crate::gate::scheme::Recipe;
use crate::telemetry::{RequestId, Telemetry};

/// A delivery whose signature does not hold, kept for a closer look.
pub struct Suspect {
    pub route: Arc<Route>,
    pub secrets: Arc<[NamedSecret]>,
    /// What was found without them, and explains it.
    pub found: Option<String>,
    /// The other routes, with their secrets.
    pub others: Vec<(Arc<Route>, Arc<[NamedSecret]>)>,
    pub method: Method,
    /// Path and query.
    pub target: Bytes,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub id: RequestId,
}

/// How often anything is diagnosed at all.
pub struct Diagnosis {
    limit: Option<RateLimit>,
    /// Of what is said of senders and the proxies between: that costs no time, only lines.
    of_senders: Option<RateLimit>,
}

const A_MINUTE: Duration = Duration::from_secs(60);
const MOST_A_MINUTE: u32 = 6;
/// Trying a dozen changes on a larger body would take noticeable time.
pub const MAX_BODY: usize = 256 * 1024;

impl Diagnosis {
    pub fn new() -> Self {
        let limit = || Quota::new(MOST_A_MINUTE, A_MINUTE).map(RateLimit::new);
        Diagnosis { limit: limit(), of_senders: limit() }
    }

    /// Whether there is time for one more.
    pub fn has_time(&self, now: Now) -> bool {
        self.limit.as_ref().is_some_and(|limit| limit.check(Client::Unknown, now).is_ok())
    }

    /// Whether one more may be told of its sender.
    pub fn has_line(&self, now: Now) -> bool {
        self.of_senders.as_ref().is_some_and(|limit| limit.check(Client::Unknown, now).is_ok())
    }
}

impl Default for Diagnosis {
    fn default() -> Self {
        Self::new()
    }
}

impl Suspect {
    /// Looks closer in a thread for such work, and tells the log.
    pub fn diagnose(self, telemetry: Arc<Telemetry>) {
        tokio::task::spawn_blocking(move || {
            // Also if it is found already: what runs beside the answer is to tell nothing of it.
            let hints = self.hints();
            let found = self.found.map_or(hints, |found| vec![found]);
            if !found.is_empty() {
                telemetry.log.hints(&self.route.name, self.id, &found);
            }
        });
    }

    fn hints(&self) -> Vec<String> {
        let recipes = recipes_of(&self.route);
        let of_others: Vec<_> = self.others.iter().map(|(route, _)| recipes_of(route)).collect();
        let others: Vec<_> = self
            .others
            .iter()
            .zip(&of_others)
            .map(|((route, secrets), recipes)| Other { route: &route.name, recipes, secrets })
            .collect();
        let head = Head::offline(&self.method, split_target(&self.target), &self.headers);
        hints(&Case {
            provider: &self.route.provider,
            recipes: &recipes,
            secrets: &self.secrets,
            others: &others,
            head: &head,
            body: &self.body,
            now: clock::now(),
        })
    }
}

/// What a route takes.
pub fn recipes_of(route: &Route) -> Vec<Recipe> {
    route.signature.schemes().iter().map(|scheme| scheme.recipe().clone()).collect()
}
