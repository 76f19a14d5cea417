//! Keys that are not files of a route: they are looked up for each delivery, in one awaited step after the
//! body was read, and handed to [`Route::verify`] as a value. A route with files of its own has no
//! [`KeySource`] and skips the step.

pub mod address;
pub mod copy;
pub mod fetch;
mod kept;
pub mod published;
pub mod tenants;
pub mod told;
mod visit;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use self::published::{Library, Source};
use self::tenants::Tenants;
use self::told::Whence;
use self::visit::Visits;
use crate::config::keys::Settings;
use crate::config::provider::NamedSecret;
use crate::config::route::Elsewhere;
use crate::gate::delivery::Head;
use crate::gate::handshake::HandshakeReply;
use crate::gate::keys::Keys;
use crate::gate::reason::Reason;
use crate::gate::route::Route;
use crate::lock::lock;
use crate::store::ReplayStore;
use crate::telemetry::Telemetry;
use crate::telemetry::event::Event;

/// Where the keys of one route are looked up: a closed set.
pub enum KeySource {
    /// Where the provider publishes them.
    Published(Source),
    Tenants(Arc<Tenants>),
}

impl KeySource {
    /// The keys that judge this delivery. Nothing of it is proven yet: what it says may only choose among
    /// keys that the operator trusts for this route.
    pub async fn look_up(&self, route: &Route, head: &Head<'_>, body: &[u8]) -> Keys {
        match self {
            KeySource::Published(source) => source.look_up(route, head, body).await,
            KeySource::Tenants(tenants) => tenants.look_up(route, head.tenant).await,
        }
    }

    /// The keys of a tenant, for what it has proven before; `None` if keys are not a tenant's.
    pub async fn of_tenant(&self, route: &Route, tenant: Option<&str>) -> Option<Keys> {
        match self {
            KeySource::Published(_) => None,
            KeySource::Tenants(tenants) => Some(tenants.look_up(route, Some(tenant?)).await),
        }
    }

    /// Newer keys than those, after none of them has signed the delivery; `None` if those were looked up
    /// lately. A published key is fetched when a delivery names one that is not known, and never because a
    /// signature does not hold.
    pub async fn newer(&self, route: &Route, head: &Head<'_>) -> Option<Keys> {
        match self {
            KeySource::Published(_) => None,
            KeySource::Tenants(tenants) => tenants.newer(route, head.tenant?).await,
        }
    }

    /// The secrets that judged this delivery, for diagnosis; and what is to be said if there are none.
    pub fn told(&self, head: &Head<'_>) -> (Vec<NamedSecret>, Option<String>) {
        match self {
            KeySource::Published(_) => (Vec::new(), None),
            KeySource::Tenants(tenants) => tenants.told(head.tenant),
        }
    }

    /// What an operator is told of them.
    pub fn shown(&self, tenant: Option<&str>) -> Whence {
        match self {
            KeySource::Published(source) => source.shown(),
            KeySource::Tenants(tenants) => tenants.shown(tenant),
        }
    }

    /// What has changed since this was last asked.
    pub fn news(&self, tell: impl FnOnce(Event<'_>)) {
        match self {
            KeySource::Published(_) => {}
            KeySource::Tenants(tenants) => tenants.news(tell),
        }
    }

    /// Whether it would be made anew as it is.
    fn is_as(&self, route: &Route, elsewhere: &Elsewhere) -> bool {
        match (self, elsewhere) {
            (KeySource::Tenants(tenants), Elsewhere::Tenants(from)) => tenants.is_as(route, from),
            // What it has fetched is kept in the library.
            (KeySource::Published(_), _) | (KeySource::Tenants(_), Elsewhere::Published(_)) => false,
        }
    }

    /// Whatever was looked up is looked up again before it is used: an operator says so.
    pub fn forget_age(&self) {
        match self {
            KeySource::Published(source) => source.forget_age(),
            KeySource::Tenants(tenants) => tenants.forget_age(),
        }
    }
}

/// What sources need, and those that there are.
pub struct Rooms {
    store: ReplayStore,
    library: Arc<Library>,
    telemetry: Arc<Telemetry>,
    visits: Visits,
    made: Mutex<HashMap<Arc<str>, Weak<KeySource>>>,
}

impl Rooms {
    /// `store` is what gates share, if they do.
    pub fn new(store: ReplayStore, settings: Settings, telemetry: &Arc<Telemetry>) -> Self {
        let library = Library::new(settings, Arc::clone(telemetry));
        Rooms {
            store,
            library,
            telemetry: Arc::clone(telemetry),
            visits: Visits::default(),
            made: Mutex::default(),
        }
    }

    /// The source of a route. One that a reload did not change goes on with what it remembers.
    pub fn source(&self, route: &Route, elsewhere: Elsewhere) -> Arc<KeySource> {
        // A map is whole after a panic: each of its entries is put in one step.
        let mut made = lock(&self.made);
        made.retain(|_, source| source.strong_count() > 0);
        if let Some(before) =
            made.get(&route.name).and_then(Weak::upgrade).filter(|b| b.is_as(route, &elsewhere))
        {
            return before;
        }
        let metrics = &self.telemetry.metrics;
        let source = Arc::new(match elsewhere {
            Elsewhere::Published(published) => {
                metrics.fetches_keys(&published.source, published::results());
                KeySource::Published(self.library.source(route, &published))
            }
            Elsewhere::Tenants(from) => {
                let counters = metrics.tenants(&route.name);
                KeySource::Tenants(Arc::new(Tenants::new(route, from, self.store.clone(), counters)))
            }
        });
        made.insert(Arc::clone(&route.name), Arc::downgrade(&source));
        source
    }

    /// The series of a route for whose provider addresses are visited, all at zero.
    pub fn expect_visits(&self, route: &Route) {
        if route.handshakes.visit() {
            self.telemetry.metrics.confirms(&route.provider, visit::results());
        }
    }

    /// Does what has to be done before a handshake is answered.
    pub async fn prepare(&self, said: &HandshakeReply, route: &Route) -> Result<(), Reason> {
        match &said.visit {
            Some(visit) => self.visits.make(visit, route, self.library.fetcher(), &self.telemetry).await,
            None => Ok(()),
        }
    }

    /// Renews what ends soon; called once a second.
    pub fn renew(&self) {
        self.library.renew();
    }
}
