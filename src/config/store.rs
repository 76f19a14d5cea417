//! The replay memory: how long and how much is remembered, and where: in this process, in a file
//! beside it, or in a store that several gates share.

#![allow(clippy::doc_markdown, reason = "doc comments are the help text, which shows no backticks")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::EnumValueParser;
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::Origin;
use super::application::Exchange;
use super::loader::Loader;
use super::located::{Located, overlay, read_by};
use super::units::{Span, UpstreamUrl, display_as_value};
use crate::gate::filter::replay::{ReplayPolicy, WindowTooShort};
use crate::store::redis::{Address, Settings, password};

overlay! {
    #[derive(Clone, Debug, Default, Args, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    pub struct Replay {
        /// How long a delivered event is remembered [default: 24h]
        #[arg(long = "replay-window", value_name = "DURATION")]
        pub window: Option<Located<Span>>,

        /// How many events are remembered [default: 1000000]
        #[arg(long = "replay-capacity", value_name = "N")]
        pub capacity: Option<Located<usize>>,

        /// Where events are remembered: memory, or for several gates redis://HOST:PORT, rediss:// (TLS),
        /// redis+cluster://HOST:PORT,… or redis+sentinel://HOST:PORT,…/MASTER [default: memory]
        #[arg(long = "replay-store", value_name = "URL", help_heading = "Shared store")]
        pub store: Option<Located<String>>,

        /// What all keys in the store begin with: one for each application, the same for its replicas;
        /// required with a store
        #[arg(long = "replay-store-prefix", value_name = "TEXT", help_heading = "Shared store")]
        pub prefix: Option<Located<String>>,

        /// File with the store's password; read again at each connection
        #[arg(long = "replay-store-password-file", value_name = "PATH", help_heading = "Shared store")]
        pub password_file: Option<Located<PathBuf>>,

        /// Authorities of the store's certificate (PEM) [default: the system's]
        #[arg(long = "replay-store-ca-file", value_name = "PATH", help_heading = "Shared store")]
        pub ca_file: Option<Located<PathBuf>>,

        /// How long the store may take to answer [default: 200ms]
        #[arg(long = "replay-store-timeout", value_name = "DURATION", help_heading = "Shared store")]
        pub timeout: Option<Located<Span>>,

        /// While it does not: refuse answers 503; local remembers in this process alone [default: refuse]
        #[arg(long, value_name = "WHAT", help_heading = "Shared store")]
        pub on_store_error: Option<Located<OnStoreError>>,

        /// Stay ready while the shared store is away: the pod keeps its Services for its other duties, and events are
        /// answered as --on-store-error says
        #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
              help_heading = "Shared store")]
        pub ready_without_store: Option<Located<bool>>,

        /// Keep the memory of events in this file, so that a restart forgets none [default: no file]
        #[arg(long = "replay-file", value_name = "PATH")]
        pub file: Option<Located<PathBuf>>,
    }
}

/// What a gate does while its shared store does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OnStoreError {
    /// Answers 503: an event is lost if its provider does not send it again.
    Refuse,
    /// Remembers events by itself for the time: another gate may deliver them again.
    Local,
}
display_as_value!(OnStoreError);
read_by!(EnumValueParser<Self>: OnStoreError);

/// The store that gates share, and what happens while it does not answer.
pub struct Sharing {
    /// `None` if each gate remembers by itself.
    pub store: Option<Settings>,
    pub on_error: OnStoreError,
    /// Whether a gate is ready while the store is away.
    pub ready_without: bool,
}

const WINDOW: Duration = Duration::from_secs(24 * 3600);
const TIMEOUT: Duration = Duration::from_millis(200);
/// A lease is five seconds longer than a delivery, of which reserving and settling take two calls.
const LONGEST: Duration = Duration::from_secs(2);

impl Replay {
    pub fn sharing(&self, loader: &mut Loader, upstream: &UpstreamUrl) -> Sharing {
        let store = self.shared_store(loader, upstream);
        let on_error =
            loader.pick("replay.on_store_error", self.on_store_error.as_ref(), OnStoreError::Refuse);
        let ready_without =
            loader.pick("replay.ready_without_store", self.ready_without_store.as_ref(), false);
        Sharing { store, on_error, ready_without }
    }

    pub fn capacity(&self, loader: &mut Loader) -> usize {
        let capacity = loader.pick("replay.capacity", self.capacity.as_ref(), 1_000_000);
        if capacity == 0 {
            loader.problem("replay.capacity", "0 would remember nothing: name at least 1");
        }
        capacity
    }

    /// Where the replay memory outlives the process.
    pub fn file(&self, loader: &mut Loader, shared: bool) -> Option<PathBuf> {
        if let Some(file) = self.file.as_ref().filter(|_| shared) {
            let message =
                "keeps the memory of one gate, and a shared store needs none: leave one of them out";
            loader.located_problem("replay.file", file, message);
        }
        if let Some(file) = self.file.as_ref().filter(|file| is_no_file(&file.value)) {
            let message = format!("{} is no regular file: name one", file.value.display());
            loader.located_problem("replay.file", file, message);
        }
        loader.file_to_make("replay.file", self.file.as_ref())
    }

    /// How long events are remembered on routes that have no window of their own.
    pub fn window(&self) -> Duration {
        self.window.as_ref().map_or(WINDOW, |window| window.value.0)
    }

    /// An event is remembered for longer than it stays fresh under any route's tolerances.
    pub fn policy(&self, loader: &mut Loader, tolerances: Duration, exchange: &Exchange) -> ReplayPolicy {
        let Exchange { timeout, connect_timeout, .. } = *exchange;
        let longest = connect_timeout + exchange.call_limit();
        let policy = |window| ReplayPolicy::new(window, tolerances, longest, connect_timeout + timeout);
        let window = loader.pick("replay.window", self.window.as_ref(), Span(self.window()));
        match policy(window.0) {
            Ok(policy) => policy,
            Err(short) => {
                let message = too_short(window, short);
                match &self.window {
                    Some(window) => loader.located_problem("replay.window", window, message),
                    None => loader.problem("replay.window", message),
                }
                policy(short.needed).expect("as long as is needed")
            }
        }
    }

    fn shared_store(&self, loader: &mut Loader, upstream: &UpstreamUrl) -> Option<Settings> {
        let Some(store) = self.store.as_ref().filter(|store| store.value != "memory") else {
            let origin = self.store.as_ref().map_or(Origin::Default, |store| store.origin);
            loader.setting("replay.store", "memory", origin);
            return None;
        };
        let address = match store.value.parse::<Address>() {
            Ok(address) => address,
            Err(message) => {
                loader.located_problem("replay.store", store, message);
                return None;
            }
        };
        loader.given("replay.store", &address, store);
        let prefix = of_application(&self.prefix(loader, store), upstream);
        let password_file = self.password_file(loader);
        let ca_file = self.ca_file(loader, &address);
        let timeout = self.timeout(loader);
        Some(Settings { address, prefix, password_file, ca_file, timeout })
    }

    /// Without a default: two applications that did not think of it would share their events.
    fn prefix(&self, loader: &mut Loader, store: &Located<String>) -> String {
        let Some(prefix) = &self.prefix else {
            let message = "replay.prefix (--replay-store-prefix) is missing: name the application, such as shop:, \
                           so that no other one's events are taken for its own";
            loader.located_problem("replay.store", store, message);
            return String::new();
        };
        loader.given("replay.prefix", &prefix.value, prefix);
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '{' | '}');
        if prefix.value.is_empty() || prefix.value.len() > 64 || !prefix.value.chars().all(plain) {
            // Braces would decide on which node of a cluster a key is.
            loader.located_problem(
                "replay.prefix",
                prefix,
                "is no prefix: write up to 64 plain characters without braces, such as shop:",
            );
        }
        prefix.value.clone()
    }

    /// It is read again at each connection, so that a rotated password needs no restart.
    fn password_file(&self, loader: &mut Loader) -> Option<PathBuf> {
        let file = self.password_file.as_ref()?;
        let bytes = loader.read("replay.password_file", file)?;
        if let Err(message) = password(&bytes) {
            let message = format!("{}: {message}", file.value.display());
            loader.located_problem("replay.password_file", file, message);
        }
        loader.given("replay.password_file", file.value.display(), file);
        Some(file.value.clone())
    }

    fn ca_file(&self, loader: &mut Loader, address: &Address) -> Option<PathBuf> {
        use rustls_pki_types::pem::PemObject;

        let file = self.ca_file.as_ref()?;
        let pem = loader.read("replay.ca_file", file)?;
        let shown = file.value.display();
        let certificates = rustls_pki_types::CertificateDer::pem_slice_iter(&pem);
        if !certificates.collect::<Result<Vec<_>, _>>().is_ok_and(|list| !list.is_empty()) {
            loader.located_problem(
                "replay.ca_file",
                file,
                format!("{shown} holds no certificate: name a PEM file with the store's authorities"),
            );
        } else if !address.tls {
            loader.notice(format!("{shown} is not used: only a rediss:// store shows a certificate"));
        }
        loader.given("replay.ca_file", shown, file);
        Some(file.value.clone())
    }

    fn timeout(&self, loader: &mut Loader) -> Duration {
        let Span(value) = loader.pick("replay.timeout", self.timeout.as_ref(), Span(TIMEOUT));
        if let Some(timeout) = self.timeout.as_ref().filter(|_| value.is_zero() || value > LONGEST) {
            let message = format!(
                "{} is out of range: write at least 1ms and at most {}",
                timeout.value,
                Span(LONGEST)
            );
            loader.located_problem("replay.timeout", timeout, message);
        }
        value
    }
}

/// What is wrong with a window that forgets what is still fresh.
pub fn too_short(window: Span, short: WindowTooShort) -> String {
    format!(
        "{window} is too short: an event that is still fresh would be forgotten; write at least {} (past and \
         future tolerance, plus 60s)",
        Span(short.needed)
    )
}

/// What keys begin with in the store: the prefix, and a digest of where the application listens.
/// With the route's name, which is in each key, that is what replicas have in common whatever is
/// rotated or rolled out, and it keeps most applications apart that were given one prefix.
fn of_application(prefix: &str, upstream: &UpstreamUrl) -> String {
    let digest = Sha256::digest(upstream.to_string());
    format!("{prefix}{}:", data_encoding::HEXLOWER.encode(&digest[..8]))
}

/// A FIFO, a device or the like. Folders are told of elsewhere.
fn is_no_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|there| !there.is_file() && !there.is_dir())
}
