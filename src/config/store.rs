//! The store that several gates share: where it is, and how it is reached.

use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::Origin;
use super::loader::{Loader, Located};
use super::units::{Span, UpstreamUrl};
use crate::store::redis::{Address, Settings, password};

/// What flags and file say of it.
pub struct SharedStore {
    pub store: Option<Located<String>>,
    pub prefix: Option<Located<String>>,
    pub password_file: Option<Located<PathBuf>>,
    pub ca_file: Option<Located<PathBuf>>,
    pub timeout: Option<Located<Span>>,
}

const TIMEOUT: Duration = Duration::from_millis(200);
/// A lease is five seconds longer than a delivery, of which reserving and settling take two calls.
const LONGEST: Duration = Duration::from_secs(2);

impl Loader<'_> {
    /// `None` if every gate remembers by itself.
    pub fn shared_store(&mut self, given: &SharedStore, upstream: &UpstreamUrl) -> Option<Settings> {
        let Some(store) = given.store.as_ref().filter(|store| store.value != "memory") else {
            let origin = given.store.as_ref().map_or(Origin::Default, |store| store.origin);
            self.setting("replay.store", "memory", origin);
            return None;
        };
        let address = match store.value.parse::<Address>() {
            Ok(address) => address,
            Err(message) => {
                self.located_problem(store, message);
                return None;
            }
        };
        self.setting("replay.store", &address, store.origin);
        let prefix = of_application(&self.prefix(given.prefix.as_ref(), store), upstream);
        let password_file = given.password_file.as_ref().and_then(|file| self.password_file(file));
        let ca_file = given.ca_file.as_ref().and_then(|file| self.ca_file(file, &address));
        let timeout = self.timeout(given.timeout.as_ref());
        Some(Settings { address, prefix, password_file, ca_file, timeout })
    }

    /// Without a default: two applications that did not think of it would share their events.
    fn prefix(&mut self, prefix: Option<&Located<String>>, store: &Located<String>) -> String {
        let Some(prefix) = prefix else {
            let message = "replay.prefix (--replay-store-prefix) is missing: name the application, such as shop:, \
                           so that no other one's events are taken for its own";
            self.located_problem(store, message);
            return String::new();
        };
        self.setting("replay.prefix", &prefix.value, prefix.origin);
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '{' | '}');
        if prefix.value.is_empty() || prefix.value.len() > 64 || !prefix.value.chars().all(plain) {
            // Braces would decide on which node of a cluster a key is.
            self.located_problem(
                prefix,
                "is no prefix: write up to 64 plain characters without braces, such as shop:",
            );
        }
        prefix.value.clone()
    }

    /// It is read again at each connection, so that a rotated password needs no restart.
    fn password_file(&mut self, file: &Located<PathBuf>) -> Option<PathBuf> {
        let bytes = self.read(file)?;
        if let Err(message) = password(&bytes) {
            self.located_problem(file, format!("{}: {message}", file.value.display()));
        }
        self.setting("replay.password_file", file.value.display(), file.origin);
        Some(file.value.clone())
    }

    fn ca_file(&mut self, file: &Located<PathBuf>, address: &Address) -> Option<PathBuf> {
        use rustls_pki_types::pem::PemObject;

        let pem = self.read(file)?;
        let shown = file.value.display();
        let certificates = rustls_pki_types::CertificateDer::pem_slice_iter(&pem);
        if !certificates.collect::<Result<Vec<_>, _>>().is_ok_and(|list| !list.is_empty()) {
            self.located_problem(
                file,
                format!("{shown} holds no certificate: name a PEM file with the store's authorities"),
            );
        } else if !address.tls {
            self.notice(format!("{shown} is not used: only a rediss:// store shows a certificate"));
        }
        self.setting("replay.ca_file", shown, file.origin);
        Some(file.value.clone())
    }

    fn timeout(&mut self, timeout: Option<&Located<Span>>) -> Duration {
        let value = timeout.map_or(TIMEOUT, |timeout| timeout.value.0);
        self.setting(
            "replay.timeout",
            Span(value),
            timeout.map_or(Origin::Default, |timeout| timeout.origin),
        );
        if let Some(timeout) = timeout.filter(|_| value.is_zero() || value > LONGEST) {
            let message = format!(
                "{} is out of range: write at least 1ms and at most {}",
                timeout.value,
                Span(LONGEST)
            );
            self.located_problem(timeout, message);
        }
        value
    }
}

/// What keys begin with in the store: the prefix, and a digest of where the application listens.
/// With the route's name, which is in each key, that is what replicas have in common whatever is
/// rotated or rolled out, and it keeps most applications apart that were given one prefix.
fn of_application(prefix: &str, upstream: &UpstreamUrl) -> String {
    let digest = Sha256::digest(upstream.to_string());
    format!("{prefix}{}:", data_encoding::HEXLOWER.encode(&digest[..8]))
}
