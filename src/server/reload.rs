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
use crate::config::flags::Given;
use crate::config::{AddressFile, Config, Problem, Problems, Startup};
use crate::gate::filter::ip_allowlist::is_cut_short;
use crate::proxy::Sidecar;
use crate::proxy::live::Live;
use crate::telemetry::Telemetry;
use crate::telemetry::event::Event;
use crate::telemetry::metrics::ReloadSource;

/// Watches what the configuration was made of.
pub struct Reloader {
    pub given: Given,
    pub startup: Startup,
    pub fingerprint: [u8; 32],
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
                    self.swap(config, &telemetry);
                    telemetry.metrics.reloaded(source, true, clock::now().wall_ms);
                    telemetry.tell(Event::Reloaded);
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
            }
        }
    }

    fn compatible(&self, config: Config, source: ReloadSource) -> Result<Config, Problems> {
        let cut = self.cut_short(&config);
        if !cut.is_empty() && source == ReloadSource::File {
            return Err(Problems(cut));
        }
        // A replay memory that was made for shorter tolerances would forget events that the new
        // ones still take.
        if config.startup.stale_after <= self.startup.stale_after {
            return Ok(config);
        }
        let message = "a longer tolerance needs a replay memory that is made for it: restart to change it";
        Err(Problems(vec![Problem { place: None, key: "tolerance".to_owned(), message: message.to_owned() }]))
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
        if config.startup != self.startup {
            telemetry.tell(Event::RestartNeeded);
        }
        let routes = self.sidecar.live.load().remembered_by(config.routes);
        self.sidecar.live.store(Arc::new(Live::new(routes, config.trusted_proxies, telemetry)));
        if let (Some(tls), Some(acceptor)) = (&config.tls, &self.acceptor) {
            acceptor.store(Arc::new(listener::acceptor(tls)));
            for address in &self.startup.sockets.listen_tls {
                telemetry.metrics.certificate_expires(&address.to_string(), tls.not_after());
            }
        }
        self.fingerprint = config.fingerprint;
        self.address_files = config.address_files;
    }
}
