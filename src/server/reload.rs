//! Reload: what was read at start is read again, from time to time and on SIGHUP, and
//! swapped in whole if all of it is good. If anything is wrong, nothing changes, and
//! that is said once.
//!
//! Files are compared by content, because a Kubernetes volume is updated by swapping a
//! symbolic link, which a watch on the file itself does not see.

use std::sync::Arc;

use super::listener;
use arc_swap::ArcSwap;
use pingora::listeners::tls::Acceptor;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::clock;
use crate::config::changes::{self, Change, Snapshot};
use crate::config::flags::Given;
use crate::config::route::KeyedRoute;
use crate::config::{AddressFile, Config, Print, Problem, Problems, Startup};
use crate::gate::filter::ip_allowlist::is_cut_short;
use crate::gate::filter::replay::WINDOW_MARGIN;
use crate::gate::route::Route;
use crate::proxy::Sidecar;
use crate::proxy::live::{Live, Unapplied};
use crate::telemetry::Telemetry;
use crate::telemetry::event::Event;
use crate::telemetry::metrics::ReloadSource;

/// Watches what the configuration was made of.
pub struct Reloader {
    pub given: Given,
    pub startup: Startup,
    /// What a restart would change is what differs from this.
    pub at_start: Snapshot,
    /// As it was read last.
    pub in_effect: Snapshot,
    pub fingerprint: Print,
    /// As they are in effect.
    pub address_files: Vec<AddressFile>,
    pub sidecar: Arc<Sidecar>,
    pub acceptor: Option<Arc<ArcSwap<Acceptor>>>,
    /// What was last complained about.
    pub complaint: Option<String>,
}

impl Reloader {
    /// Runs until the server stops. `hangup` is SIGHUP, if somebody listened to it before.
    pub async fn run(mut self, hangup: Option<Signal>) {
        let Ok(mut hangup) = hangup.map_or_else(|| signal(SignalKind::hangup()), Ok) else { return };
        loop {
            let interval = self.startup.lifecycle.reload_interval;
            let source = tokio::select! {
                () = tokio::time::sleep(interval), if !interval.is_zero() => ReloadSource::File,
                _ = hangup.recv() => ReloadSource::Signal,
            };
            let given = self.given.clone();
            // Reading files blocks; requests must not wait for a slow volume.
            if let Ok(loaded) = tokio::task::spawn_blocking(move || Config::load(&given)).await {
                self.apply(source, loaded);
            }
        }
    }

    fn apply(&mut self, source: ReloadSource, loaded: Result<Config, Problems>) {
        let telemetry = Arc::clone(&self.sidecar.telemetry);
        match loaded.and_then(|config| self.compatible(config, source)) {
            Ok(config) => {
                let changed = config.fingerprint != self.fingerprint;
                if changed || source == ReloadSource::Signal || self.complaint.is_some() {
                    telemetry.metrics.reloaded(source, true, clock::now().wall_ms);
                    self.swap(config, &telemetry);
                }
                if source == ReloadSource::Signal {
                    for keys in self.sidecar.live.load().endpoints.iter().filter_map(|e| e.keys.as_ref()) {
                        keys.forget_age();
                    }
                }
                self.complaint = None;
            }
            Err(problems) => {
                let complaint = problems.to_string();
                if self.complaint.as_ref() != Some(&complaint) || source == ReloadSource::Signal {
                    telemetry.metrics.reloaded(source, false, clock::now().wall_ms);
                    telemetry.tell(Event::ReloadFailed { problems: &complaint });
                }
                self.complaint = Some(complaint);
                let Unapplied { keys, changes, .. } = &**self.sidecar.unapplied.load();
                let unapplied = Unapplied { keys: keys.clone(), changes: changes.clone(), failed: true };
                self.sidecar.unapplied.store(Arc::new(unapplied));
            }
        }
    }

    fn compatible(&self, config: Config, source: ReloadSource) -> Result<Config, Problems> {
        let cut = self.cut_short(&config);
        if !cut.is_empty() && source == ReloadSource::File {
            return Err(Problems(cut));
        }
        let lost = self.lost_secrets(&config);
        if !lost.is_empty() {
            return Err(Problems(lost));
        }
        let longer: Vec<_> = config.routes.iter().filter(|keyed| self.forgets(&keyed.route)).collect();
        if longer.is_empty() {
            return Ok(config);
        }
        let problem = |KeyedRoute { route, .. }: &KeyedRoute| Problem {
            place: None,
            key: format!("route {}: tolerance", route.name),
            message:
                "a longer tolerance, its own or its provider's, needs a replay memory that is made for it: \
                      restart to change it"
                    .to_owned(),
        };
        Err(Problems(longer.into_iter().map(problem).collect()))
    }

    /// Whether events of this route that were delivered before, or will be, are forgotten while it takes
    /// them for fresh: the memory was made for shorter tolerances.
    fn forgets(&self, route: &Route) -> bool {
        let live = self.sidecar.live.load();
        let before = live.endpoints.iter().map(|endpoint| &endpoint.route).find(|b| b.name == route.name);
        let kept = |route: &Route| route.signature.window().unwrap_or(self.startup.stale_after);
        let kept = before.map_or(kept(route), |before| kept(before).min(kept(route)));
        route.remembers() && route.freshness_window().unwrap_or_default() + WINDOW_MARGIN > kept
    }

    /// Secrets that are missing on routes that are in force: what these accept, they go on accepting.
    /// A route that is new waits, as it would after a restart.
    fn lost_secrets(&self, config: &Config) -> Vec<Problem> {
        let live = self.sidecar.live.load();
        let mut lost = Vec::new();
        for KeyedRoute { route, .. } in &config.routes {
            let before = live.endpoints.iter().map(|endpoint| &endpoint.route).find(|b| b.name == route.name);
            let Some(before) = before.filter(|before| !before.signature.awaits_keys()) else { continue };
            for awaited in &route.awaits {
                if !before.awaits.iter().any(|known| known.key == awaited.key) {
                    let key = format!("route {}: the secret {}", route.name, awaited.key);
                    lost.push(Problem { place: None, key, message: awaited.why.to_string() });
                }
            }
        }
        lost
    }

    /// Lists of addresses that have lost most of what they held. Nobody looks when a file
    /// changes; who sends a signal does.
    fn cut_short(&self, config: &Config) -> Vec<Problem> {
        let before = |file: &AddressFile| {
            self.address_files.iter().find(|before| (&before.key, &before.path) == (&file.key, &file.path))
        };
        let problem = |file: &AddressFile| {
            let (held, holds) = (before(file)?.networks, file.networks);
            let path = file.path.display();
            let message = format!(
                "{path} held {held} networks and holds {holds}: the former list stays; if it is meant so, send SIGHUP or restart"
            );
            let problem = Problem { place: None, key: file.key.clone(), message };
            is_cut_short(held, holds).then_some(problem)
        };
        config.address_files.iter().filter_map(problem).collect()
    }

    fn swap(&mut self, config: Config, telemetry: &Telemetry) {
        let now = Snapshot::of(&config);
        let (live, pending) = (self.in_effect.changes(&now), self.at_start.changes(&now));
        let live = changes::in_words(live.iter().filter(|change| change.is_live()));
        let pending: Vec<_> = pending.into_iter().filter(|change| !change.is_live()).collect();
        let unapplied = Unapplied {
            keys: pending.iter().map(Change::key).collect(),
            changes: changes::in_words(&pending),
            failed: false,
        };
        let before = self.sidecar.live.load();
        let routes = before.remembered_by(config.routes);
        let now_live = Live::new(routes, config.trusted_proxies, telemetry, &self.sidecar.rooms);
        self.sidecar.live.store(Arc::new(now_live.in_lanes_of(&before)));
        if let Some(inbox) = self.sidecar.inbox.clone() {
            let keys = Arc::clone(&config.inbox_keys);
            tokio::spawn(async move {
                _ = inbox.set_keys(keys).await;
                inbox.wake().notify_one();
            });
        }
        if let Some(shelf) = self.sidecar.shelf.clone() {
            let keys = Arc::clone(&config.inbox_keys);
            tokio::spawn(async move { _ = shelf.set_keys(keys).await });
        }
        if let (Some(tls), Some(acceptor)) = (&config.tls, &self.acceptor) {
            acceptor.store(Arc::new(listener::acceptor(tls)));
            for address in &self.startup.sockets.listen_tls {
                telemetry.metrics.certificate_expires(&address.to_string(), tls.not_after());
            }
        }
        telemetry.tell(Event::Reloaded { changes: &live });
        if !unapplied.keys.is_empty() {
            telemetry.tell(Event::RestartNeeded { changes: &unapplied.changes });
        }
        self.sidecar.unapplied.store(Arc::new(unapplied));
        self.in_effect = now;
        self.fingerprint = config.fingerprint;
        self.address_files = config.address_files;
    }
}
