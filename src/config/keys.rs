//! How keys are fetched that providers publish.

#![allow(clippy::doc_markdown, reason = "doc comments are the help text, which shows no backticks")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use schemars::JsonSchema;
use serde::Deserialize;

use super::loader::Loader;
use super::located::{Located, overlay};
use super::secret::Secret;

overlay! {
    #[derive(Clone, Debug, Default, Args, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    pub struct FetchedKeys {
        /// File with the certificates of authorities that the hosts of published keys may have theirs from
        /// [default: the system's, else those that browsers believe]
        #[arg(id = "keys_ca_file", long = "keys-ca-file", value_name = "PATH", help_heading = "Published keys")]
        pub ca_file: Option<Located<PathBuf>>,

        /// Proxy through which published keys are fetched, by CONNECT: http://HOST:PORT; it resolves the names
        /// [default: none]
        #[arg(id = "keys_proxy", long = "keys-proxy", value_name = "URL", help_heading = "Published keys")]
        pub proxy: Option<Located<String>>,

        /// Directory with a copy of what is published: then nothing is fetched
        /// [default: none]
        #[arg(id = "keys_dir", long = "keys-dir", value_name = "PATH", help_heading = "Published keys")]
        pub dir: Option<Located<PathBuf>>,

        /// Fetch keys also where a name resolves to a private address
        #[arg(id = "keys_allow_private", long = "keys-allow-private", num_args = 0..=1, require_equals = true, default_missing_value = "true",
              value_name = "BOOL", help_heading = "Published keys")]
        pub allow_private: Option<Located<bool>>,
    }
}

/// How keys are fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Certificates in DER, if not those of the system.
    pub roots: Option<Arc<[Vec<u8>]>>,
    /// Host and port.
    pub proxy: Option<(String, u16)>,
    pub dir: Option<PathBuf>,
    /// Where what was fetched outlives the process.
    pub kept: Option<PathBuf>,
    pub allow_private: bool,
}

/// What the request for a key carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Plain,
    Bearer(Secret),
    /// A body with `{id}` for the key's id, and `{NAME}` for each credential.
    Post {
        template: String,
        credentials: Vec<(String, Secret)>,
    },
    /// A token that is had for these (RFC 6749, section 4.4).
    Oauth {
        url: String,
        scope: String,
        id: Secret,
        secret: Secret,
    },
}

/// Where the keys of a route are published, and how they are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The provider, for whoever counts.
    pub source: Arc<str>,
    /// Of each scheme.
    pub requests: Vec<Arc<Request>>,
}

impl FetchedKeys {
    /// Whoever mounts a copy has no way out, and `visits` need one.
    pub fn let_visit(&self, loader: &mut Loader, visits: bool) {
        if let Some(dir) = self.dir.as_ref().filter(|_| visits) {
            let message = "a gate that fetches nothing confirms nothing: leave handshake: confirm out, and confirm the \
                           subscription yourself";
            loader.located_problem("keys.dir", dir, message);
        }
    }

    /// `needed` if a route has keys that are fetched; `state` is the folder of what outlives the process.
    pub fn settings(&self, loader: &mut Loader, needed: bool, state: Option<&Path>) -> Settings {
        let dir = self.dir.as_ref();
        if let Some(dir) = dir {
            loader.given("keys.dir", dir.value.display(), dir);
            if needed && !loader.is_for_elsewhere() && !dir.value.is_dir() {
                let message =
                    format!("{} is no directory: make it, with a file for each address", dir.value.display());
                loader.located_problem("keys.dir", dir, message);
            }
        }
        let allow_private = loader.pick("keys.allow_private", self.allow_private.as_ref(), false);
        let proxy = self.proxy.as_ref().and_then(|given| proxy(loader, given));
        let roots = self.ca_file.as_ref().map(|file| {
            loader.given("keys.ca_file", file.value.display(), file);
            authorities(loader, file).into()
        });
        let dir = dir.map(|dir| dir.value.clone());
        let kept = state.filter(|_| dir.is_none()).map(|state| state.join("keys"));
        Settings { roots, proxy, dir, kept, allow_private }
    }
}

fn authorities(loader: &mut Loader, file: &Located<PathBuf>) -> Vec<Vec<u8>> {
    let Some(pem) = loader.read("keys.ca_file", file) else { return Vec::new() };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() && found.iter().all(|one| is_certificate(one)) => {
            found.into_iter().map(|one| one.to_vec()).collect()
        }
        _ if loader.is_for_elsewhere() => Vec::new(),
        _ => {
            let message = format!("{} holds no certificates in PEM", file.value.display());
            loader.located_problem("keys.ca_file", file, message);
            Vec::new()
        }
    }
}

fn is_certificate(der: &[u8]) -> bool {
    use x509_parser::prelude::{FromDer, X509Certificate};
    X509Certificate::from_der(der).is_ok()
}

fn proxy(loader: &mut Loader, given: &Located<String>) -> Option<(String, u16)> {
    let parts = || {
        let rest = given.value.strip_prefix("http://")?;
        let (host, port) = rest.strip_suffix('/').unwrap_or(rest).rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let plain = !host.is_empty() && !host.contains(['/', '@', '?', '#', ' ']);
        Some((host.to_owned(), port.parse().ok().filter(|port| *port > 0 && plain)?))
    };
    let proxy = parts();
    match &proxy {
        Some((host, port)) => loader.setting("keys.proxy", format!("http://{host}:{port}"), given.origin),
        None => {
            let message = "is no proxy: write http://HOST:PORT, without a user and without a path";
            loader.located_problem("keys.proxy", given, message);
        }
    }
    proxy
}
