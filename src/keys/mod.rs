//! Keys that are not files of a route: they are looked up for each delivery, in one awaited step after the
//! body was read, and handed to [`Route::authenticate`] as a value. A route with files of its own has no
//! [`KeySource`] and skips the step.

use std::sync::Arc;

use crate::config::route::Elsewhere;
use crate::gate::delivery::Head;
use crate::gate::keys::Keys;
use crate::gate::route::Route;
use crate::store::ReplayStore;

/// Where the keys of one route are looked up: a closed set.
pub enum KeySource {}

impl KeySource {
    /// The keys that judge this delivery. Nothing of it is proven yet: what it says may only choose among
    /// keys that the operator trusts for this route.
    #[expect(clippy::unused_async, reason = "a source waits")]
    pub async fn look_up(&self, _route: &Route, _head: &Head<'_>, _body: &[u8]) -> Keys {
        match *self {}
    }
}

/// What sources need, and what they keep over a reload.
pub struct Rooms {
    _store: ReplayStore,
}

impl Rooms {
    /// `store` is what gates share, if they do.
    pub fn new(store: ReplayStore) -> Self {
        Rooms { _store: store }
    }

    /// The source of a route. What a reload did not change goes on with what it remembers.
    pub fn source(&self, _route: &Route, elsewhere: &Elsewhere) -> Arc<KeySource> {
        match *elsewhere {}
    }
}
