//! From text to types: flags over environment over file over the provider's preset
//! over defaults.
//!
//! [`Config::load`] collects every problem and names its place, key and remedy. It
//! reads files and builds values; it opens no socket and changes nothing, so that
//! `check`, start and reload are the same act.

pub mod certificates;
pub mod flags;
pub mod handshake;
mod loader;
pub mod memory;
mod outline;
pub mod provider;
pub mod raw;
mod route;
pub mod scheme;
pub mod secret;
mod shared_store;
mod startup;
pub mod units;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use self::loader::Loader;
use self::provider::NamedSecret;
use self::raw::{LogFormat, LogLevel, OnStoreError, ProxyProtocol};
use self::units::UpstreamUrl;
use crate::config::certificates::TlsMaterial;
use crate::config::flags::Given;
use crate::gate::filter::replay::ReplayPolicy;
use crate::gate::route::Policy;
use crate::store::redis;

/// Everything a run needs, checked.
pub struct Config {
    /// Fixed until a restart.
    pub startup: Startup,
    /// Swapped whole by a reload.
    pub policy: Policy,
    /// The secrets of each route, in the order of the policy's routes; for diagnosis.
    pub secrets: Vec<Vec<NamedSecret>>,
    /// Certificates, swapped by a reload.
    pub tls: Option<TlsMaterial>,
    /// Each value in effect and where it came from; secrets by id only.
    pub settings: Vec<Setting>,
    /// The lists of addresses that were read.
    pub address_files: Vec<AddressFile>,
    /// What the operator should know, though it is no error.
    pub notices: Vec<String>,
    /// Changes when anything that was read has changed.
    pub fingerprint: [u8; 32],
}

/// What cannot change while running: sockets, sizes, time-outs.
#[derive(Clone, Debug, PartialEq)]
pub struct Startup {
    pub listen: Vec<SocketAddr>,
    pub listen_tls: Vec<SocketAddr>,
    pub ops_listen: SocketAddr,
    /// Names under which the ops listener may be asked.
    pub ops_hosts: Vec<units::HostName>,
    pub proxy_protocol: ProxyProtocol,
    pub upstream: UpstreamUrl,
    /// How long a sender waits for the application.
    pub upstream_timeout: Duration,
    /// How long the application may go on after that. Its real outcome decides, and the
    /// provider's retry joins.
    pub call_limit: Duration,
    pub upstream_connect_timeout: Duration,
    pub max_buffered: usize,
    pub max_connections: usize,
    pub max_connections_per_address: usize,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
    pub replay: ReplayPolicy,
    /// How long an event of any route can be fresh, with a margin.
    pub stale_after: Duration,
    pub replay_capacity: usize,
    /// How the store is reached that gates share; `None` if each remembers by itself.
    pub shared_store: Option<redis::Settings>,
    pub on_store_error: OnStoreError,
    /// Where the replay memory outlives the process.
    pub replay_file: Option<PathBuf>,
    /// Where an operator reaches the gate.
    pub control_socket: Option<PathBuf>,
    pub shutdown_delay: Duration,
    pub shutdown_timeout: Duration,
    pub reload_interval: Duration,
    pub threads: usize,
    /// Who takes a span for each delivery.
    #[cfg(feature = "otel")]
    pub otlp_endpoint: Option<units::OtlpEndpoint>,
    pub log_format: LogFormat,
    pub log_level: LogLevel,
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
        let mut loader = Loader::new(given);
        let file = loader.file();
        let config = file.map(|file| loader.config(file));
        loader.finish(config)
    }
}
