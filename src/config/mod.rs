//! From text to types: flags over environment over file over the provider's preset
//! over defaults.
//!
//! [`Config::load`] collects every problem and names its place, key and remedy. It
//! reads files and builds values; it opens no socket and changes nothing, so that
//! `check`, start and reload are the same act.

pub mod application;
pub mod certificates;
pub mod changes;
pub mod checks;
pub mod file;
pub mod flags;
pub mod handshake;
pub mod inbox;
pub mod keys;
pub mod limits;
mod list;
pub mod listeners;
mod loader;
pub mod located;
pub mod memory;
mod outline;
pub mod pod;
pub mod process;
pub mod provider;
pub mod raw;
pub mod route;
pub mod scheme;
pub mod secret;
mod startup;
pub mod store;
pub mod units;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use self::loader::closest;

use self::certificates::TlsMaterial;
use self::checks::ProxyProtocol;
use self::file::File;
use self::flags::Given;
use self::inbox::StateDir;
use self::listeners::Sockets;
use self::loader::{Gathered, Loader};
use self::process::Lifecycle;
use self::route::KeyedRoute;
use self::startup::Built;
use self::store::OnStoreError;
use self::units::UpstreamUrl;
use crate::gate::delivery::TrustedProxies;
use crate::gate::filter::replay::ReplayPolicy;
use crate::inbox::seal::Keys;
use crate::inbox::{Bounds, shelf};
use crate::store::redis;

/// Everything a run needs, checked.
pub struct Config {
    /// Fixed until a restart.
    pub startup: Startup,
    /// Swapped whole by a reload, with who may speak for a sender.
    pub routes: Vec<KeyedRoute>,
    pub trusted_proxies: TrustedProxies,
    /// Certificates, swapped by a reload.
    pub tls: Option<TlsMaterial>,
    /// What seals the inbox, swapped by a reload.
    pub inbox_keys: Arc<Keys>,
    /// Each value in effect and where it came from; secrets by id only.
    pub settings: Vec<Setting>,
    /// Digests of what is in effect and not shown, by their keys.
    pub contents: Vec<(String, Print)>,
    /// The lists of addresses that were read.
    pub address_files: Vec<AddressFile>,
    /// What the operator should know, though it is no error.
    pub notices: Vec<String>,
    /// Changes when anything that was read has changed.
    pub fingerprint: Print,
}

/// A SHA-256.
pub type Print = [u8; 32];

/// What cannot change while running: sockets, sizes, time-outs.
#[derive(Clone, Debug, PartialEq)]
pub struct Startup {
    pub sockets: Sockets,
    pub proxy_protocol: ProxyProtocol,
    pub upstream: UpstreamUrl,
    pub upstream_connect_timeout: Duration,
    pub timeouts: Timeouts,
    pub max_buffered: usize,
    pub max_connections: usize,
    pub max_connections_per_address: usize,
    pub replay: ReplayPolicy,
    /// How long an event of any route can be fresh, with a margin.
    pub stale_after: Duration,
    pub replay_capacity: usize,
    /// How the store is reached that gates share; `None` if each remembers by itself.
    pub shared_store: Option<redis::Settings>,
    pub on_store_error: OnStoreError,
    /// Whether the gate is ready while the shared store is away.
    pub ready_without_store: bool,
    /// Where the replay memory outlives the process.
    pub replay_file: Option<PathBuf>,
    /// Where everything else outlives it.
    pub state_dir: Option<StateDir>,
    /// How much the inbox may hold.
    pub inbox_bounds: Bounds,
    /// How much is kept of what was refused; `None` if nothing is.
    pub shelf_bounds: Option<shelf::Bounds>,
    /// Where an operator reaches the gate.
    pub control_socket: Option<PathBuf>,
    /// How keys are fetched that providers publish.
    pub keys: keys::Settings,
    pub lifecycle: Lifecycle,
}

/// How long each part of a request may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timeouts {
    pub header: Duration,
    pub body: Duration,
    pub idle: Duration,
    /// How long a sender waits for the application.
    pub upstream: Duration,
    /// How long the application may take all in all. Its real outcome decides, and a repeat of
    /// the event joins.
    pub call: Duration,
}

/// A file with addresses, and how many networks it held, adjacent ones taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressFile {
    /// The key that names it.
    pub key: String,
    pub path: PathBuf,
    pub networks: usize,
}

/// Where a value came from; the later one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    Provider,
    File,
    Env,
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Default => "default",
            Origin::Provider => "provider",
            Origin::File => "file",
            Origin::Env => "environment",
            Origin::Flag => "flag",
        })
    }
}

/// One line of the effective configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub key: String,
    pub value: String,
    pub origin: Origin,
}

/// Words that cannot be compiled: the key within them, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    pub key: &'static str,
    pub message: String,
}

impl Fault {
    pub fn new(key: &'static str, message: impl Into<String>) -> Self {
        Fault { key, message: message.into() }
    }
}

/// One thing that is wrong: where, which key, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub place: Option<Place>,
    pub key: String,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: PathBuf,
    pub line: u64,
    pub column: u64,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Place { file, line, column }) = &self.place {
            write!(f, "{}:{line}:{column}: ", file.display())?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// All that is wrong, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl Config {
    pub fn load(given: &Given) -> Result<Config, Problems> {
        let mut loader = Loader::new(given.args.config.as_ref(), given.pod.as_ref());
        let built = File::load(&mut loader).map(|file| loader.config(given, file));
        let Gathered { settings, contents, notices, address_files, fingerprint } = loader.finish()?;
        let Built { startup, routes, trusted_proxies, tls, inbox_keys } =
            built.expect("what is wrong was told");
        Ok(Config {
            startup,
            routes,
            trusted_proxies,
            tls,
            inbox_keys,
            settings,
            contents,
            address_files,
            notices,
            fingerprint,
        })
    }

    /// A line for each route: who, where, with which keys, how, and where it leads.
    pub fn routes_in_words(&self) -> impl Iterator<Item = String> {
        self.routes.iter().map(|keyed| keyed.in_words(&self.startup.upstream))
    }

    /// What each secret that is not there means.
    pub fn awaits(&self) -> impl Iterator<Item = String> {
        let routes = self.routes.iter().map(|keyed| &keyed.route);
        routes.flat_map(|route| {
            let serves = !route.signature.awaits_keys();
            route.awaits.iter().map(move |awaited| awaited.in_words(&route.name, serves))
        })
    }
}
