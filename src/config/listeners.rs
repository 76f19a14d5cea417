//! Where the gate listens, and with which certificates.

#![allow(clippy::doc_markdown, reason = "doc comments are the help text, which shows no backticks")]

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Origin;
use super::certificates::{Part, TlsMaterial};
use super::list;
use super::loader::{Loader, join};
use super::located::{Located, overlay};
use super::units::HostName;

overlay! {
    #[derive(Clone, Debug, Default, Args, Deserialize, JsonSchema)]
    #[command(next_help_heading = "Listeners")]
    #[serde(default)]
    pub struct Listeners {
        /// Address for plain HTTP; repeatable [default: 0.0.0.0:17080]
        #[arg(long, value_name = "ADDR", value_delimiter = ',')]
        #[schemars(with = "Option<Vec<String>>")]
        #[serde(deserialize_with = "list::of_any")]
        pub listen: Option<Vec<Located<SocketAddr>>>,

        /// Address for HTTPS; repeatable
        #[arg(long, value_name = "ADDR", value_delimiter = ',')]
        #[schemars(with = "Option<Vec<String>>")]
        #[serde(deserialize_with = "list::of_any")]
        pub listen_tls: Option<Vec<Located<SocketAddr>>>,

        /// Certificate chain (PEM), leaf first; reloaded on change
        #[arg(long, value_name = "PATH")]
        pub tls_cert_file: Option<Located<PathBuf>>,

        /// Private key (PEM); reloaded on change
        #[arg(long, value_name = "PATH")]
        pub tls_key_file: Option<Located<PathBuf>>,

        /// Demand a client certificate signed by one of these authorities (PEM); the plain listener asks for none, so
        /// name it in --listen or close it (listen: [] in the file)
        #[arg(long, value_name = "PATH")]
        pub tls_client_ca_file: Option<Located<PathBuf>>,

        /// Address for health and metrics [default: 0.0.0.0:17090]
        #[arg(long, value_name = "ADDR")]
        #[schemars(with = "Option<String>")]
        pub ops_listen: Option<Located<SocketAddr>>,

        /// Host name under which health and metrics may be asked, beside addresses and localhost; repeatable
        #[arg(long = "ops-host", value_name = "NAME", value_delimiter = ',')]
        #[serde(deserialize_with = "list::of_any")]
        pub ops_hosts: Option<Vec<Located<HostName>>>,
    }
}

/// Where the gate listens.
#[derive(Clone, Debug, PartialEq)]
pub struct Sockets {
    pub listen: Vec<SocketAddr>,
    pub listen_tls: Vec<SocketAddr>,
    pub ops_listen: SocketAddr,
    /// Names under which the ops listener may be asked.
    pub ops_hosts: Vec<HostName>,
}

impl Listeners {
    pub fn sockets(&self, loader: &mut Loader) -> Sockets {
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        let sockets = Sockets {
            listen: loader.list("listen", self.listen.as_ref(), &[any(17080)]),
            listen_tls: loader.list("listen_tls", self.listen_tls.as_ref(), &[]),
            ops_listen: loader.pick("ops_listen", self.ops_listen.as_ref(), any(17090)),
            ops_hosts: loader.list("ops_hosts", self.ops_hosts.as_ref(), &[]),
        };
        if sockets.listen.is_empty() && sockets.listen_tls.is_empty() {
            loader.problem("listen", "nothing to listen on: name an address in listen or listen_tls");
        }
        sockets
    }

    pub fn tls(&self, loader: &mut Loader) -> Option<TlsMaterial> {
        let files = [
            ("tls_cert_file", &self.tls_cert_file),
            ("tls_key_file", &self.tls_key_file),
            ("tls_client_ca_file", &self.tls_client_ca_file),
        ];
        if !self.wants_tls() {
            if files.iter().any(|(_, file)| file.is_some()) {
                loader.notice("certificates are given, but nothing listens for HTTPS: set listen_tls");
            }
            return None;
        }
        let [cert, key, client_ca] = files;
        let cert_pem = required(loader, cert);
        let key_pem = required(loader, key);
        let ca_pem = match client_ca {
            (key, Some(path)) => Some(loader.read(key, path)?),
            (_, None) => None,
        };
        match TlsMaterial::new(&cert_pem?, &key_pem?, ca_pem.as_deref()) {
            Ok(material) => {
                for (key, file) in files {
                    if let Some(file) = file {
                        loader.given(key, file.value.display(), file);
                    }
                }
                Some(material)
            }
            Err(error) => {
                let (key, file) = match error.part {
                    Part::Certificate => cert,
                    Part::Key => key,
                    Part::ClientCa => client_ca,
                };
                let file = file.as_ref()?;
                loader.located_problem(key, file, format!("{}: {}", file.value.display(), error.message));
                None
            }
        }
    }

    /// Client certificates may be demanded, and a plain listener asks for none. One that is open
    /// only because nobody thought of it is refused.
    pub fn way_past_certificates(&self, loader: &mut Loader, plain: &[SocketAddr], allow_http: bool) {
        let Some(demanded_by) = &self.tls_client_ca_file else { return };
        if !self.wants_tls() || plain.is_empty() {
            return;
        }
        let open = format!("the plain listener {} asks for no client certificate", join(plain));
        if loader.origin_of("listen") == Some(Origin::Default) && !allow_http {
            let remedy = "write listen: [] in the file to close it, or name it in listen to keep it";
            loader.located_problem("tls_client_ca_file", demanded_by, format!("{open}: {remedy}"));
        } else {
            loader.notice(format!(
                "{open}, only tls_client_ca_file's listener does: write listen: [] in the file if nobody needs it"
            ));
        }
    }

    fn wants_tls(&self) -> bool {
        self.listen_tls.as_ref().is_some_and(|addresses| !addresses.is_empty())
    }
}

fn required(loader: &mut Loader, (key, file): (&str, &Option<Located<PathBuf>>)) -> Option<Vec<u8>> {
    if file.is_none() {
        loader.problem(key, format!("listen_tls needs it: name the file in {key}"));
    }
    loader.read(key, file.as_ref()?)
}
