//! What an operator asks of the keys of routes, over the [control socket](super::control).

use serde::{Deserialize, Serialize};

use crate::keys::told::{RouteKeys, Whence, named};
use crate::proxy::Sidecar;
use crate::proxy::live::Endpoint;

/// What is asked: of which route, if not of all, and of which tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    pub route: Option<String>,
    pub tenant: Option<String>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Answer {
    Listed { routes: Vec<RouteKeys> },
    Refused { message: String },
}

pub fn answer(sidecar: &Sidecar, request: &Request) -> Answer {
    let live = sidecar.live.load();
    let meant =
        |endpoint: &&Endpoint| request.route.as_ref().is_none_or(|name| **name == *endpoint.route.name);
    let routes: Vec<_> =
        live.endpoints.iter().filter(meant).map(|endpoint| told(endpoint, request)).collect();
    if routes.is_empty() {
        return Answer::Refused { message: live.no_such_route() };
    }
    Answer::Listed { routes }
}

fn told(endpoint: &Endpoint, request: &Request) -> RouteKeys {
    let Endpoint { route, secrets, keys, .. } = endpoint;
    let from = match keys {
        Some(source) => source.shown(request.tenant.as_deref()),
        None => Whence::Files { files: named(secrets) },
    };
    RouteKeys { route: route.name.to_string(), provider: route.provider.to_string(), from }
}
