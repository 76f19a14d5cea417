//! What is fixed until a restart: sockets, sizes, time-outs; and the assembly of the whole.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::loader::{Loader, Located, join};
use super::provider::NamedSecret;
use super::raw::{self, LogFormat, LogLevel, OnStoreError, ProxyProtocol, RealIpHeader};
use super::route::{ForAll, OnlyRoute};
use super::shared_store::SharedStore;
use super::units::{ByteSize, Cidr, Span, UpstreamUrl};
use super::{Origin, Startup};
use crate::config::certificates::{Part, TlsMaterial};
use crate::config::flags::RunArgs;
use crate::gate::delivery::{AddressHeader, TrustedProxies};
use crate::gate::filter::https::Https;
use crate::gate::filter::replay::{ReplayPolicy, WINDOW_MARGIN, WindowTooShort};
use crate::gate::route::Policy;

/// A configuration, still without what the loader has gathered on the way.
pub struct Built {
    pub startup: Startup,
    pub policy: Policy,
    pub secrets: Vec<Vec<NamedSecret>>,
    pub tls: Option<TlsMaterial>,
}

/// Connections of one address that is no trusted proxy: sixteen addresses fill the default of
/// `max_connections`. A sender opens a connection for each event at worst, and an application
/// that takes a second for each then still gets 256 events a second of it.
const MOST_OF_ONE_ADDRESS: usize = 256;
/// What the system allows, minus what stands behind it while the socket is made.
const LONGEST_SOCKET: usize = 100;

impl Loader<'_> {
    #[expect(clippy::too_many_lines, reason = "one line for each flag, in the order of the help")]
    pub fn config(&mut self, file: raw::File) -> Built {
        // Taken apart completely: a flag that is not handled here does not compile.
        let RunArgs {
            config: _,
            listen,
            listen_tls,
            tls_cert_file,
            tls_key_file,
            tls_client_ca_file,
            ops_listen,
            ops_host,
            upstream,
            upstream_timeout,
            upstream_connect_timeout,
            provider,
            path,
            secret_file,
            allow_ip,
            allow_ip_file,
            public_url,
            handshake,
            handshake_token_file,
            expect_every,
            trusted_proxy,
            real_ip_header,
            proxy_protocol,
            insecure_allow_http,
            insecure_short_secret,
            tolerance,
            future_tolerance,
            replay_window,
            replay_capacity,
            replay_store,
            replay_store_prefix,
            replay_store_password_file,
            replay_store_ca_file,
            replay_store_timeout,
            on_store_error,
            replay_file,
            rate_limit,
            failure_limit,
            mode,
            max_body,
            max_buffered,
            max_connections,
            max_connections_per_address,
            header_timeout,
            body_timeout,
            idle_timeout,
            control_socket,
            shutdown_delay,
            shutdown_timeout,
            reload_interval,
            threads,
            #[cfg(feature = "otel")]
            otlp_endpoint,
            log_format,
            log_level,
        } = self.given.args.clone();

        let listen = self.list("listen", "listen", listen, file.listen, &[default_listen(17080)]);
        let listen_tls = self.list("listen_tls", "listen_tls", listen_tls, file.listen_tls, &[]);
        let ops_listen =
            self.pick("ops_listen", "ops_listen", ops_listen, file.ops_listen, default_listen(17090));
        let ops_hosts = self.list("ops_hosts", "ops_host", ops_host, file.ops_hosts, &[]);
        if listen.is_empty() && listen_tls.is_empty() {
            self.problem("listen", "nothing to listen on: name an address in listen or listen_tls");
        }
        let client_ca = self.at("tls_client_ca_file", tls_client_ca_file, file.tls_client_ca_file);
        let demanded_by = client_ca.clone().filter(|_| !listen_tls.is_empty());
        let tls = self.tls(
            !listen_tls.is_empty(),
            self.at("tls_cert_file", tls_cert_file, file.tls_cert_file),
            self.at("tls_key_file", tls_key_file, file.tls_key_file),
            client_ca,
        );

        let default_upstream = UpstreamUrl::Tcp { host: "127.0.0.1".into(), port: 8080 };
        let upstream = self.pick("upstream", "upstream", upstream, file.upstream, default_upstream);
        let upstream_timeout = self.span("upstream_timeout", upstream_timeout, file.upstream_timeout, "10s");
        let upstream_connect_timeout = self.span(
            "upstream_connect_timeout",
            upstream_connect_timeout,
            file.upstream_connect_timeout,
            "1s",
        );

        let proxies = self.list("trusted_proxies", "trusted_proxy", trusted_proxy, file.trusted_proxies, &[]);
        let real_ip_header = self.pick(
            "real_ip_header",
            "real_ip_header",
            real_ip_header,
            file.real_ip_header,
            RealIpHeader::XForwardedFor,
        );
        let proxy_protocol = self.pick(
            "proxy_protocol",
            "proxy_protocol",
            proxy_protocol,
            file.proxy_protocol,
            ProxyProtocol::Off,
        );
        if proxies.is_empty() && proxy_protocol == ProxyProtocol::Required {
            self.problem(
                "proxy_protocol",
                "is believed from trusted proxies only: name them in trusted_proxies",
            );
        }
        self.warn_of_trust(&proxies, proxy_protocol);
        let networks = proxies.into_iter().map(|c| c.0).collect();
        let address_header = match real_ip_header {
            RealIpHeader::XForwardedFor => AddressHeader::Chain("x-forwarded-for"),
            RealIpHeader::XRealIp => AddressHeader::Single("x-real-ip"),
            RealIpHeader::CfConnectingIp => AddressHeader::Single("cf-connecting-ip"),
            RealIpHeader::TrueClientIp => AddressHeader::Single("true-client-ip"),
        };
        let allow_http = self.pick(
            "insecure_allow_http",
            "insecure_allow_http",
            insecure_allow_http,
            file.insecure_allow_http,
            false,
        );
        let short_secret = self.pick(
            "insecure_short_secret",
            "insecure_short_secret",
            insecure_short_secret,
            file.insecure_short_secret,
            false,
        );
        if allow_http {
            self.notice("insecure_allow_http is on: events are taken over plain HTTP");
        }
        if let Some(demanded_by) = demanded_by.filter(|_| !listen.is_empty()) {
            self.way_past_certificates(&demanded_by, &listen, allow_http);
        }

        let limits = file.limits;
        let max_buffered = self.pick(
            "limits.max_buffered",
            "max_buffered",
            max_buffered,
            limits.max_buffered,
            ByteSize(64 << 20),
        );
        let max_connections = self.pick(
            "limits.max_connections",
            "max_connections",
            max_connections,
            limits.max_connections,
            4096,
        );
        if max_connections == 0 {
            self.problem("limits.max_connections", "0 would let nobody in: name at least 1");
        }
        let max_connections_per_address = self.pick(
            "limits.max_connections_per_address",
            "max_connections_per_address",
            max_connections_per_address,
            limits.max_connections_per_address,
            max_connections.min(MOST_OF_ONE_ADDRESS),
        );
        if max_connections_per_address == 0 {
            self.problem("limits.max_connections_per_address", "0 would let nobody in: name at least 1");
        }
        let header_timeout = self.span("header_timeout", header_timeout, file.header_timeout, "10s");
        let body_timeout = self.span("body_timeout", body_timeout, file.body_timeout, "15s");
        let idle_timeout = self.span("idle_timeout", idle_timeout, file.idle_timeout, "30s");
        let shutdown_delay = self.span_or_zero("shutdown_delay", shutdown_delay, file.shutdown_delay, "5s");
        let shutdown_timeout =
            self.span_or_zero("shutdown_timeout", shutdown_timeout, file.shutdown_timeout, "20s");
        let reload_interval =
            self.span_or_zero("reload_interval", reload_interval, file.reload_interval, "10s");
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.pick("threads", "threads", threads, file.threads, cores);
        if threads == 0 {
            self.problem("threads", "0 threads do no work: leave it out to follow the CPU quota");
        }
        #[cfg(feature = "otel")]
        let otlp_endpoint = otlp_endpoint.map(|url| (url, self.given.origin("otlp_endpoint")));
        #[cfg(feature = "otel")]
        let otlp_endpoint = otlp_endpoint.or(file.otlp_endpoint.map(|url| (url, Origin::File)));
        #[cfg(feature = "otel")]
        if let Some((url, origin)) = &otlp_endpoint {
            self.setting("otlp_endpoint", url, *origin);
        }
        let log_format = self.pick("log_format", "log_format", log_format, file.log_format, LogFormat::Auto);
        let log_level = self.pick("log_level", "log_level", log_level, file.log_level, LogLevel::Info);

        let shared_store = SharedStore {
            store: self.at("replay_store", replay_store, file.replay.store),
            prefix: self.at("replay_store_prefix", replay_store_prefix, file.replay.prefix),
            password_file: self.at(
                "replay_store_password_file",
                replay_store_password_file,
                file.replay.password_file,
            ),
            ca_file: self.at("replay_store_ca_file", replay_store_ca_file, file.replay.ca_file),
            timeout: self.at("replay_store_timeout", replay_store_timeout, file.replay.timeout),
        };
        let shared_store = self.shared_store(&shared_store, &upstream);
        let on_store_error = self.pick(
            "replay.on_store_error",
            "on_store_error",
            on_store_error,
            file.replay.on_store_error,
            OnStoreError::Refuse,
        );

        let for_all = ForAll {
            https: if allow_http { Https::Optional } else { Https::Required },
            short_secret,
            tolerance,
            future_tolerance,
            rate_limit,
            may_share: shared_store.is_some(),
            failure_limit,
            mode,
            max_body,
            default_max_body: limits.max_body,
            max_buffered,
        };
        let only = OnlyRoute {
            provider,
            path,
            public_url,
            secret_file,
            allow_ip,
            allow_ip_file,
            handshake,
            handshake_token_file,
            expect_every,
        };
        let (routes, secrets) = self.routes(file.routes, &for_all, only);
        let policy = Policy { routes, trusted_proxies: TrustedProxies::new(networks, address_header) };

        let capacity =
            self.pick("replay.capacity", "replay_capacity", replay_capacity, file.replay.capacity, 1_000_000);
        if capacity == 0 {
            self.problem("replay.capacity", "0 would remember nothing: name at least 1");
        }
        let replay_file = self.at("replay_file", replay_file, file.replay.file);
        if let Some(replay_file) = replay_file.as_ref().filter(|_| shared_store.is_some()) {
            self.located_problem(
                replay_file,
                "keeps the memory of one gate, and a shared store needs none: leave one of them out",
            );
        }
        if let Some(file) = replay_file.as_ref().filter(|file| is_no_file(&file.value)) {
            self.located_problem(file, format!("{} is no regular file: name one", file.value.display()));
        }
        let replay_file = self.file_to_make("replay.file", replay_file);
        let control_socket = self.at("control_socket", control_socket, file.control_socket);
        let control_socket = self.control_socket(control_socket);
        let window = self.at("replay_window", replay_window, file.replay.window);
        let call_limit = upstream_timeout.saturating_mul(2);
        let exchange = upstream_connect_timeout + call_limit;
        let wait = upstream_connect_timeout + upstream_timeout;
        let tolerances =
            policy.routes.iter().filter_map(|route| route.freshness_window()).max().unwrap_or_default();
        let replay = self
            .replay_policy(window.as_ref(), |window| ReplayPolicy::new(window, tolerances, exchange, wait));

        Built {
            startup: Startup {
                listen,
                listen_tls,
                ops_listen,
                ops_hosts,
                proxy_protocol,
                upstream,
                upstream_timeout,
                call_limit,
                upstream_connect_timeout,
                max_buffered: max_buffered.0,
                max_connections,
                max_connections_per_address,
                header_timeout,
                body_timeout,
                idle_timeout,
                replay,
                stale_after: tolerances + WINDOW_MARGIN,
                replay_capacity: capacity,
                shared_store,
                on_store_error,
                replay_file,
                control_socket,
                shutdown_delay,
                shutdown_timeout,
                reload_interval,
                threads,
                #[cfg(feature = "otel")]
                otlp_endpoint: otlp_endpoint.map(|(url, _)| url),
                log_format,
                log_level,
            },
            policy,
            secrets,
            tls,
        }
    }

    fn tls(
        &mut self,
        wanted: bool,
        cert: Option<Located<PathBuf>>,
        key: Option<Located<PathBuf>>,
        client_ca: Option<Located<PathBuf>>,
    ) -> Option<TlsMaterial> {
        if !wanted {
            if cert.is_some() || key.is_some() || client_ca.is_some() {
                self.notice("certificates are given, but nothing listens for HTTPS: set listen_tls");
            }
            return None;
        }
        let read = |loader: &mut Self, what: &str, path: &Option<Located<PathBuf>>| {
            if path.is_none() {
                loader.problem(what, format!("listen_tls needs it: name the file in {what}"));
            }
            loader.read(path.as_ref()?)
        };
        let cert_pem = read(self, "tls_cert_file", &cert);
        let key_pem = read(self, "tls_key_file", &key);
        let ca_pem = match &client_ca {
            Some(path) => Some(self.read(path)?),
            None => None,
        };
        let (cert_pem, key_pem) = (cert_pem?, key_pem?);
        match TlsMaterial::new(&cert_pem, &key_pem, ca_pem.as_deref()) {
            Ok(material) => {
                for file in [cert, key, client_ca].into_iter().flatten() {
                    self.setting(&file.key, file.value.display(), file.origin);
                }
                Some(material)
            }
            Err(error) => {
                let culprit = match error.part {
                    Part::Certificate => cert,
                    Part::Key => key,
                    Part::ClientCa => client_ca,
                };
                let culprit = culprit?;
                self.located_problem(&culprit, format!("{}: {}", culprit.value.display(), error.message));
                None
            }
        }
    }

    /// Client certificates are demanded, and a plain listener asks for none. One that is open only
    /// because nobody thought of it is refused.
    fn way_past_certificates(
        &mut self,
        demanded_by: &Located<PathBuf>,
        plain: &[SocketAddr],
        allow_http: bool,
    ) {
        let open = format!("the plain listener {} asks for no client certificate", join(plain));
        if self.origin_of("listen") == Some(Origin::Default) && !allow_http {
            let remedy = "write listen: [] in the file to close it, or name it in listen to keep it";
            self.located_problem(demanded_by, format!("{open}: {remedy}"));
        } else {
            self.notice(format!(
                "{open}, only tls_client_ca_file's listener does: write listen: [] in the file if nobody needs it"
            ));
        }
    }

    /// Senders must not be able to speak for others.
    fn warn_of_trust(&mut self, proxies: &[Cidr], proxy_protocol: ProxyProtocol) {
        for proxy in proxies.iter().filter(|proxy| proxy.holds_strangers()) {
            self.notice(format!(
                "trusted_proxies: {proxy} holds public addresses: whoever sends from there can claim any address and HTTPS; name the proxies' own networks"
            ));
        }
        if proxy_protocol == ProxyProtocol::Optional {
            self.notice(
                "proxy_protocol is optional: behind a balancer that adds no line, senders can write it themselves and claim any address; write required where one is added, else off",
            );
        }
    }

    /// A path at which the gate makes a file: its folder must be there.
    fn file_to_make(&mut self, key: &str, path: Option<Located<PathBuf>>) -> Option<PathBuf> {
        let Some(path) = path else {
            self.setting(key, "none", Origin::Default);
            return None;
        };
        self.setting(key, path.value.display(), path.origin);
        let folder = path.value.parent().filter(|folder| !folder.as_os_str().is_empty());
        if path.value.file_name().is_none() || path.value.is_dir() {
            self.located_problem(
                &path,
                format!("{} names no file: write its name too", path.value.display()),
            );
        } else if folder.is_some_and(|folder| !folder.is_dir()) {
            let message =
                format!("{}: there is no such folder: mount it or correct the path", path.value.display());
            self.located_problem(&path, message);
        }
        Some(path.value)
    }

    fn control_socket(&mut self, path: Option<Located<PathBuf>>) -> Option<PathBuf> {
        if let Some(path) = path.as_ref().filter(|path| path.value.as_os_str().len() > LONGEST_SOCKET) {
            let message = format!("is longer than the {LONGEST_SOCKET} bytes that a socket's path may have");
            self.located_problem(path, message);
        }
        self.file_to_make("control_socket", path)
    }

    fn replay_policy(
        &mut self,
        window: Option<&Located<Span>>,
        policy: impl Fn(Duration) -> Result<ReplayPolicy, WindowTooShort>,
    ) -> ReplayPolicy {
        let default = Duration::from_secs(24 * 3600);
        let chosen = window.map_or(default, |w| w.value.0);
        let origin = window.map_or(Origin::Default, |w| w.origin);
        self.setting("replay.window", Span(chosen), origin);
        match policy(chosen) {
            Ok(policy) => policy,
            Err(short) => {
                let message = format!(
                    "{} is too short: an event that is still fresh would be forgotten; write at least {} \
                     (past and future tolerance, plus 60s)",
                    Span(chosen),
                    Span(short.needed)
                );
                match window {
                    Some(window) => self.located_problem(window, message),
                    None => self.problem("replay.window", message),
                }
                policy(short.needed).expect("as long as is needed")
            }
        }
    }
}

/// A FIFO, a device or the like. Folders are told of elsewhere.
fn is_no_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|there| !there.is_file() && !there.is_dir())
}

fn default_listen(port: u16) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], port))
}
