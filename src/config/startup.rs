//! The whole, from its headings: the flags of each over its keys in the file, in the order in which
//! `check` shows them.

use std::sync::Arc;

use super::Startup;
use super::certificates::TlsMaterial;
use super::file::File;
use super::flags::{Given, RunArgs};
use super::inbox::StateDir;
use super::loader::Loader;
use super::located::Overlay;
use super::route::{Elsewhere, ForAll, KeyedRoute};
use crate::gate::delivery::TrustedProxies;
use crate::gate::filter::https::Https;
use crate::gate::filter::replay::WINDOW_MARGIN;
use crate::inbox::seal::Keys;

/// A configuration, still without what the loader has gathered on the way.
pub struct Built {
    pub startup: Startup,
    pub routes: Vec<KeyedRoute>,
    pub trusted_proxies: TrustedProxies,
    pub tls: Option<TlsMaterial>,
    pub inbox_keys: Arc<Keys>,
}

impl Loader {
    pub fn config(&mut self, given: &Given, file: File) -> Built {
        // Taken apart completely: a heading that is not handled here does not compile.
        let RunArgs { config: _, listeners, application, route, checks, limits, state, process } =
            given.args.clone();
        let listeners = listeners.over(file.listeners);
        let checks = checks.over(file.checks);
        let limits = limits.over(file.limits);
        let state = state.over(file.state);
        let process = process.over(file.process);

        let sockets = listeners.sockets(self);
        let tls = listeners.tls(self);
        let application = application.over(file.application);
        let exchange = application.exchange(self);
        let trust = checks.trust(self);
        listeners.way_past_certificates(self, &sockets.listen, trust.allow_http);
        let behind_proxy = !trust.proxies.is_empty();
        if !trust.allow_http && !behind_proxy && sockets.listen_tls.is_empty() {
            self.notice(
                "nothing can arrive: HTTPS is required, nothing listens for it (listen_tls), and no proxy is trusted \
                 to say that it was used (trusted_proxies): every request is answered 403; for a trial over plain \
                 HTTP there is insecure_allow_http",
            );
        }
        let held = limits.limits.held(self);
        let timeouts = limits.timeouts(self, &exchange);
        if behind_proxy {
            timeouts.beside_balancers(self);
        }
        let lifecycle = process.lifecycle(self);
        let sharing = checks.replay.sharing(self, &exchange.upstream);
        let inbox_bounds = state.bounds(self);
        let state_dir = state.folder(self);
        let shelf_bounds = state.shelf(self);
        let only_inbox = sharing.store.is_some() && shelf_bounds.is_none();
        if let Some(StateDir { path }) = state_dir.as_ref().filter(|_| only_inbox) {
            let path = path.display();
            self.notice(format!(
                "state_dir: with a shared store the inbox is in that store: what is stored in {path} waits there for a \
                 start without replay.store"
            ));
        }
        let inbox_keys = state.keys(self, sharing.store.is_some());
        let for_all = ForAll {
            https: if trust.allow_http { Https::Optional } else { Https::Required },
            short_secret: trust.short_secret,
            strict: process.strict_start(self),
            may_share: sharing.store.is_some(),
            state: state_dir.as_ref(),
            reload_interval: lifecycle.reload_interval,
            max_buffered: held.max_buffered,
            application: &application,
            exchange: &exchange,
            replay_window: checks.replay.window(),
            max_body: limits.limits.max_body(),
            trial_secret: given.secret.as_ref(),
        };
        let routes = self.routes(file.routes.routes, &for_all, &route);
        let replay_capacity = checks.replay.capacity(self);
        let replay_file = checks.replay.file(self, sharing.store.is_some());
        let control_socket = process.control_socket(self);
        let tolerances =
            routes.iter().filter_map(|keyed| keyed.route.fresh_within_window()).max().unwrap_or_default();
        let replay = checks.replay.policy(self, tolerances, &exchange);
        let fetched = routes.iter().any(|keyed| matches!(keyed.elsewhere, Some(Elsewhere::Published(_))));
        let visits = routes.iter().any(|keyed| keyed.route.handshakes.visit());
        checks.keys.let_visit(self, visits);
        let keys = checks.keys.settings(self, fetched, state_dir.as_ref().map(|state| &*state.path));
        let startup = Startup {
            sockets,
            proxy_protocol: trust.proxy_protocol,
            upstream: exchange.upstream,
            upstream_connect_timeout: exchange.connect_timeout,
            timeouts,
            max_buffered: held.max_buffered.0,
            max_connections: held.max_connections,
            max_connections_per_address: held.max_connections_per_address,
            replay,
            stale_after: tolerances + WINDOW_MARGIN,
            replay_capacity,
            shared_store: sharing.store,
            on_store_error: sharing.on_error,
            ready_without_store: sharing.ready_without,
            replay_file,
            state_dir,
            inbox_bounds,
            shelf_bounds,
            control_socket,
            keys,
            lifecycle,
        };
        Built { startup, routes, trusted_proxies: trust.proxies, tls, inbox_keys }
    }
}
