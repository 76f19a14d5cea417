//! Keys that are not files of a route: they are looked up for each delivery, in one awaited step after the
//! body was read, and handed to [`Route::authenticate`] as a value. A route with files of its own has no
//! [`KeySource`] and skips the step.

pub mod address;
pub mod fetch;
pub mod published;

use std::sync::Arc;

use self::published::{Library, Source};
use crate::config::keys::Settings;
use crate::config::route::Elsewhere;
use crate::gate::delivery::Head;
use crate::gate::keys::Keys;
use crate::gate::route::Route;
use crate::store::ReplayStore;
use crate::telemetry::Telemetry;

/// Where the keys of one route are looked up: a closed set.
pub enum KeySource {
    /// Where the provider publishes them.
    Published(Source),
}

impl KeySource {
    /// The keys that judge this delivery. Nothing of it is proven yet: what it says may only choose among
    /// keys that the operator trusts for this route.
    pub async fn look_up(&self, route: &Route, head: &Head<'_>, body: &[u8]) -> Keys {
        match self {
            KeySource::Published(source) => source.look_up(route, head, body).await,
        }
    }
}

/// What sources need, and what they keep over a reload.
pub struct Rooms {
    _store: ReplayStore,
    library: Arc<Library>,
    telemetry: Arc<Telemetry>,
}

impl Rooms {
    /// `store` is what gates share, if they do.
    pub fn new(store: ReplayStore, settings: Settings, telemetry: &Arc<Telemetry>) -> Self {
        let library = Library::new(settings, Arc::clone(telemetry));
        Rooms { _store: store, library, telemetry: Arc::clone(telemetry) }
    }

    /// The source of a route. What a reload did not change goes on with what it remembers.
    pub fn source(&self, route: &Route, elsewhere: &Elsewhere) -> Arc<KeySource> {
        Arc::new(match elsewhere {
            Elsewhere::Published(published) => {
                self.telemetry.metrics.fetches_keys(&published.source, published::results());
                KeySource::Published(self.library.source(route, published))
            }
        })
    }

    /// Renews what ends soon; called once a second.
    pub fn renew(&self) {
        self.library.renew();
    }
}
