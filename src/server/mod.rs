//! Assembles a server from a configuration: binds, serves, and ends without losing a
//! delivery. Several servers can live in one process; the demo and the tests do that.

pub mod descriptors;
pub mod handshake;
pub mod hello;
mod housekeeping;
pub mod listener;
pub mod proxy_protocol;
pub mod reload;
mod start;

use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::apps::ServerApp;
use pingora::listeners::tls::Acceptor;
use pingora::server::ShutdownWatch;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::housekeeping::{housekeeping, watch_inbox, watch_store};
pub use self::start::{BindError, StartError};
use self::start::{bind, shelf, state, store};
use crate::budget::Budget;
use crate::clock;
use crate::config::changes::Snapshot;
use crate::config::flags::Given;
use crate::config::process::Lifecycle;
use crate::config::{Config, Startup};
use crate::diagnosis::task::Diagnosis;
use crate::inbox::Inbox;
use crate::inbox::shelf::Shelf;
use crate::keys::Rooms;
use crate::ops::Ops;
use crate::ops::control;
use crate::proxy::Sidecar;
use crate::proxy::courier::{self, Breakers};
use crate::proxy::in_flight::InFlight;
use crate::proxy::live::Live;
use crate::proxy::upstream::Upstream;
use crate::server::listener::{Connections, Listener, Trust};
use crate::server::proxy_protocol::ProxyProtocol;
use crate::server::reload::Reloader;
use crate::store::ReplayStore;
use crate::store::deliveries::Deliveries;
use crate::telemetry::Telemetry;
use crate::telemetry::dropped::DroppedAt;
use crate::telemetry::event::Event;

/// A server whose sockets are bound: nobody can take its ports any more.
pub struct Server {
    config: Config,
    given: Given,
    telemetry: Arc<Telemetry>,
    plain: Vec<TcpListener>,
    tls: Vec<TcpListener>,
    ops: TcpListener,
    control: Option<control::Socket>,
    store: ReplayStore,
    inbox: Option<Inbox>,
    shelf: Option<Shelf>,
    hangup: Option<Signal>,
}

/// How a server is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Keep accepting for the delay, then drain.
    Gracefully,
    /// Drain at once.
    WithoutDelay,
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Nothing was under way any more.
    Idle,
    /// Out of time: deliveries were cut.
    Cut,
}

/// Connections to the ops listener: probes and a few scrapers.
const OPS_CONNECTIONS: usize = 64;
/// Of one address, so that no neighbour can starve the probes.
const OPS_CONNECTIONS_PER_ADDRESS: usize = 8;

impl Server {
    /// Binds every address of the configuration, and takes its files.
    pub fn bind(config: Config, given: Given, telemetry: Arc<Telemetry>) -> Result<Self, StartError> {
        let sockets = &config.startup.sockets;
        let named: Vec<_> = [&*sockets.listen, &sockets.listen_tls, &[sockets.ops_listen]].concat();
        let all = |addresses: &[SocketAddr], what| {
            addresses.iter().map(|a| bind(*a, what, &named)).collect::<Result<_, _>>()
        };
        let control = |path: &PathBuf| {
            control::Socket::bind(path).map_err(|error| StartError::Control(path.clone(), error))
        };
        let startup = &config.startup;
        let store = store(startup, &telemetry)?;
        let inbox = state(startup, &config.inbox_keys, &store, &telemetry)?;
        let shelf = shelf(startup, &config.inbox_keys, &telemetry)?;
        Ok(Server {
            plain: all(&startup.sockets.listen, "listen")?,
            tls: all(&startup.sockets.listen_tls, "listen_tls")?,
            ops: bind(startup.sockets.ops_listen, "ops_listen", &named)?,
            control: startup.control_socket.as_ref().map(control).transpose()?,
            store,
            inbox,
            shelf,
            config,
            given,
            telemetry,
            hangup: None,
        })
    }

    /// Reloads at what was caught before there was a server, and whatever follows.
    #[must_use]
    pub fn reloading_on(self, hangup: Signal) -> Self {
        Server { hangup: Some(hangup), ..self }
    }

    /// The addresses for plain HTTP as bound, with real ports.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.plain.iter().filter_map(|l| l.local_addr().ok()).collect()
    }

    pub fn tls_addresses(&self) -> Vec<SocketAddr> {
        self.tls.iter().filter_map(|l| l.local_addr().ok()).collect()
    }

    pub fn ops_address(&self) -> Option<SocketAddr> {
        self.ops.local_addr().ok()
    }

    /// Serves until `stop` resolves, then ends: not ready, still accepting for the delay,
    /// then no new connections, then idle or out of time.
    pub async fn run(self, stop: impl Future<Output = Stop>) -> Ended {
        let running = self.serve();
        running.drain(stop.await).await
    }

    /// Assembles what is behind the sockets, and opens them.
    fn serve(self) -> Running {
        let Server { config, given, telemetry, plain, tls, ops, control, store, inbox, shelf, hangup } = self;
        let snapshot = Snapshot::of(&config);
        let startup = config.startup;
        let rooms = Rooms::new(store.clone(), startup.keys.clone(), &telemetry);
        let live = Live::new(config.routes, config.trusted_proxies, &telemetry, &rooms);
        let sidecar = sidecar(&startup, live, (store, inbox, shelf), rooms, &telemetry);
        telemetry.metrics.loaded(clock::now().wall_ms);
        let acceptor = config.tls.as_ref().map(|tls| {
            for address in &startup.sockets.listen_tls {
                telemetry.metrics.certificate_expires(&address.to_string(), tls.not_after());
            }
            Arc::new(ArcSwap::from_pointee(listener::acceptor(tls)))
        });

        let (close, closing) = watch::channel(false);
        let (close_ops, closing_ops) = watch::channel(false);
        let listeners = Listeners::new(&startup, &sidecar);
        for (socket, address) in plain.into_iter().zip(&startup.sockets.listen) {
            listeners.open(socket, address, None, closing.clone());
        }
        for (socket, address) in tls.into_iter().zip(&startup.sockets.listen_tls) {
            listeners.open(socket, address, acceptor.clone(), closing.clone());
        }
        let started = Arc::new(AtomicBool::new(false));
        let connections = listeners.connections.clone();
        let answers = Ops::new(
            Arc::clone(&sidecar),
            Arc::clone(&started),
            &startup,
            Box::new(move || connections.open()),
        );
        open_ops(ops, answers, closing_ops);
        if let Some(control) = control {
            tokio::spawn(control.serve(Arc::clone(&sidecar), close.subscribe()));
        }
        started.store(true, Ordering::Release);

        let reloader = Reloader {
            given,
            startup: startup.clone(),
            at_start: snapshot.clone(),
            in_effect: snapshot,
            fingerprint: config.fingerprint,
            address_files: config.address_files,
            sidecar: Arc::clone(&sidecar),
            acceptor,
            complaint: None,
        };
        let helpers = [
            tokio::spawn(housekeeping(Arc::clone(&sidecar))),
            tokio::spawn(watch_store(Arc::clone(&sidecar), startup.on_store_error)),
            tokio::spawn(reloader.run(hangup)),
            tokio::spawn(watch_inbox(Arc::clone(&sidecar), startup.replay.window())),
        ];
        if let Some(inbox) = sidecar.inbox.clone() {
            tokio::spawn(courier::run(Arc::clone(&sidecar), inbox));
        }
        telemetry.tell(Event::Ready);
        Running { sidecar, lifecycle: startup.lifecycle, helpers, close, close_ops }
    }
}

/// A server that serves.
struct Running {
    sidecar: Arc<Sidecar>,
    lifecycle: Lifecycle,
    helpers: [JoinHandle<()>; 4],
    close: watch::Sender<bool>,
    close_ops: watch::Sender<bool>,
}

impl Running {
    async fn drain(self, how: Stop) -> Ended {
        let Running { sidecar, lifecycle, helpers, close, close_ops } = self;
        let telemetry = &sidecar.telemetry;
        telemetry.tell(Event::Drain);
        sidecar.in_flight.drain();
        if how == Stop::Gracefully {
            tokio::time::sleep(lifecycle.shutdown_delay).await;
        }
        _ = close.send(true);
        sidecar.in_flight.close();
        let drained = tokio::time::timeout(lifecycle.shutdown_timeout, sidecar.in_flight.idle()).await;
        helpers.iter().for_each(JoinHandle::abort);
        let store = sidecar.store.clone();
        if !tokio::task::spawn_blocking(move || store.close()).await.unwrap_or(false) {
            telemetry.tell(Event::ReplayFileIncomplete);
        }
        if let Some(inbox) = &sidecar.inbox {
            let depths = inbox.depths();
            let stored = depths.values().map(|depth| depth.stored).sum();
            let dead = depths.values().map(|depth| depth.dead).sum();
            telemetry.tell(Event::InboxLeft { stored, dead });
        }
        _ = close_ops.send(true);
        match drained {
            Ok(()) => {
                telemetry.tell(Event::Idle);
                Ended::Idle
            }
            Err(_) => {
                telemetry.tell(Event::Cut);
                Ended::Cut
            }
        }
    }
}

/// The application behind every traffic listener.
pub fn sidecar(
    startup: &Startup,
    live: Live,
    (store, inbox, shelf): (ReplayStore, Option<Inbox>, Option<Shelf>),
    rooms: Rooms,
    telemetry: &Arc<Telemetry>,
) -> Arc<Sidecar> {
    Arc::new(Sidecar {
        live: ArcSwap::from_pointee(live),
        unapplied: ArcSwap::default(),
        store,
        inbox,
        shelf,
        breakers: Breakers::default(),
        deliveries: Deliveries::default(),
        upstream: Arc::new(Upstream::new(startup.upstream.clone(), startup.upstream_connect_timeout)),
        budget: Budget::new(startup.max_buffered),
        telemetry: Arc::clone(telemetry),
        timeouts: startup.timeouts,
        replay_window: startup.replay.window(),
        in_flight: InFlight::new(),
        diagnosis: Diagnosis::new(),
        rooms,
    })
}

/// What the traffic listeners share.
struct Listeners {
    sidecar: Arc<Sidecar>,
    connections: Connections,
    trust: Trust,
    first_of_the_last: Option<RawFd>,
}

impl Listeners {
    fn new(startup: &Startup, sidecar: &Arc<Sidecar>) -> Self {
        let may_have = descriptors::raise();
        let most = connections(startup, may_have, &sidecar.telemetry);
        let per_address = startup.max_connections_per_address;
        let trusting = Arc::clone(sidecar);
        Listeners {
            sidecar: Arc::clone(sidecar),
            connections: Connections::new(most, per_address),
            trust: Trust {
                trusts: Arc::new(move |peer| trusting.live.load().trusted_proxies.may_relay(peer)),
                proxy_protocol: startup.proxy_protocol,
                patience: startup.timeouts.header,
            },
            first_of_the_last: descriptors::first_of_the_last(may_have),
        }
    }

    fn open(
        &self,
        socket: TcpListener,
        address: &SocketAddr,
        tls: Option<Arc<ArcSwap<Acceptor>>>,
        shutdown: ShutdownWatch,
    ) {
        let ends = Arc::new(DroppedAt::new(address.to_string(), &self.sidecar.telemetry));
        spawn_listener(Listener {
            socket,
            tls,
            app: Arc::clone(&self.sidecar),
            connections: self.connections.clone(),
            budget: Arc::clone(&self.sidecar.budget),
            trust: self.trust.clone(),
            shutdown,
            full: {
                let sidecar = Arc::clone(&self.sidecar);
                Arc::new(move |peer| sidecar.refuse_connection(peer))
            },
            dropped: {
                let ends = Arc::clone(&ends);
                Arc::new(move |why, peer, more| ends.dropped(why, peer, more))
            },
            first_of_the_last: self.first_of_the_last,
            starved: Arc::new(move |error| ends.starved(error)),
        });
    }
}

/// How many connections of senders there may be: no more than there are open files for.
fn connections(startup: &Startup, may_have: Option<u64>, telemetry: &Telemetry) -> usize {
    let asked = startup.max_connections;
    let most = descriptors::connections(asked, may_have);
    if let Some(may_have) = may_have.filter(|_| most < asked) {
        telemetry.tell(Event::FewFiles { asked, may_have, most });
    }
    most
}

/// Nobody in front of the ops listener is believed, and what it refuses is not told.
fn open_ops(socket: TcpListener, ops: Ops, shutdown: ShutdownWatch) {
    spawn_listener(Listener {
        socket,
        tls: None,
        app: Arc::new(ops),
        connections: Connections::new(OPS_CONNECTIONS, OPS_CONNECTIONS_PER_ADDRESS).renewing(),
        budget: Budget::new(0),
        trust: Trust {
            trusts: Arc::new(|_| false),
            proxy_protocol: ProxyProtocol::Off,
            patience: Duration::ZERO,
        },
        shutdown,
        full: Arc::new(|_| Vec::new()),
        dropped: Arc::new(|_, _, _| ()),
        first_of_the_last: None,
        starved: Arc::new(|_| ()),
    });
}

fn spawn_listener<A: ServerApp + Send + Sync + 'static>(listener: Listener<A>) {
    tokio::spawn(listener.serve());
}
