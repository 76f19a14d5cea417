//! From text to types: flags over environment over file over the provider's preset
//! over defaults.
//!
//! [`Config::load`] collects every problem and names its place, key and remedy. It
//! reads files and builds values; it opens no socket and changes nothing, so that
//! `check`, start and reload are the same act.

pub mod provider;
pub mod raw;
pub mod secret;
pub mod units;

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde_saphyr::Spanned;
use sha2::{Digest, Sha256};

use self::provider::NamedSecret;
use self::raw::{LogFormat, LogLevel};
use self::secret::Secret;
use self::units::{ByteSize, Cidr, Rate, Span, UpstreamUrl};
use crate::cli::{Given, RunArgs};
use crate::gate::answer::StatusOverrides;
use crate::gate::chain::{Mode, PathPattern, Policy, Route};
use crate::gate::delivery::TrustedProxies;
use crate::gate::filter::https::Https;
use crate::gate::filter::ip_allowlist::IpAllowlist;
use crate::gate::filter::rate_limit::{Quota, RateLimit};
use crate::gate::filter::replay::{ReplayPolicy, WINDOW_MARGIN};
use crate::gate::filter::signature::Signature;
use crate::tls::TlsMaterial;

/// Everything a run needs, checked.
pub struct Config {
    /// Fixed until a restart.
    pub startup: Startup,
    /// Swapped whole by a reload.
    pub policy: Policy,
    /// Certificates, swapped by a reload.
    pub tls: Option<TlsMaterial>,
    /// Each value in effect and where it came from; secrets by id only.
    pub settings: Vec<Setting>,
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
    pub upstream: UpstreamUrl,
    pub upstream_timeout: Duration,
    pub upstream_connect_timeout: Duration,
    pub max_buffered: usize,
    pub max_connections: usize,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
    pub replay: ReplayPolicy,
    /// How long an event of any route can be fresh, with a margin.
    pub stale_after: Duration,
    pub replay_capacity: usize,
    pub shutdown_delay: Duration,
    pub shutdown_timeout: Duration,
    pub reload_interval: Duration,
    pub threads: usize,
    pub log_format: LogFormat,
    pub log_level: LogLevel,
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
        match config {
            Some(config) if loader.problems.is_empty() => Ok(Config {
                settings: loader.settings,
                notices: loader.notices,
                fingerprint: loader.digest.finalize().into(),
                startup: config.startup,
                policy: config.policy,
                tls: config.tls,
            }),
            Some(_) | None => Err(Problems(loader.problems)),
        }
    }
}

/// What [`Loader::config`] builds, still without what the loader has gathered.
struct Built {
    startup: Startup,
    policy: Policy,
    tls: Option<TlsMaterial>,
}

/// Reads, chooses between origins, and gathers problems on the way.
struct Loader<'g> {
    given: &'g Given,
    problems: Vec<Problem>,
    settings: Vec<Setting>,
    notices: Vec<String>,
    digest: Sha256,
}

impl<'g> Loader<'g> {
    fn new(given: &'g Given) -> Self {
        Loader {
            given,
            problems: Vec::new(),
            settings: Vec::new(),
            notices: Vec::new(),
            digest: Sha256::new(),
        }
    }

    /// The configuration file, or an empty one if none was named.
    fn file(&mut self) -> Option<raw::File> {
        let Some(path) = &self.given.args.config else { return Some(raw::File::default()) };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                self.problem(None, "--config", format!("cannot read {}: {error}", path.display()));
                return None;
            }
        };
        self.digest.update(&text);
        match serde_saphyr::from_str::<Option<raw::File>>(&text) {
            Ok(file) => Some(file.unwrap_or_default()),
            Err(error) => {
                let place = error.location().map(|at| Place {
                    file: path.clone(),
                    line: at.line(),
                    column: at.column(),
                });
                self.problems.push(Problem { place, key: String::new(), message: yaml_message(&error) });
                None
            }
        }
    }

    fn config(&mut self, file: raw::File) -> Built {
        // Taken apart completely: a flag that is not handled here does not compile.
        let RunArgs {
            config: _,
            listen,
            listen_tls,
            tls_cert_file,
            tls_key_file,
            tls_client_ca_file,
            ops_listen,
            upstream,
            upstream_timeout,
            upstream_connect_timeout,
            provider,
            path,
            secret_file,
            allow_ip,
            allow_ip_file,
            trusted_proxy,
            insecure_allow_http,
            insecure_short_secret,
            tolerance,
            future_tolerance,
            replay_window,
            replay_capacity,
            replay_store,
            rate_limit,
            mode,
            max_body,
            max_buffered,
            max_connections,
            header_timeout,
            body_timeout,
            idle_timeout,
            shutdown_delay,
            shutdown_timeout,
            reload_interval,
            threads,
            log_format,
            log_level,
        } = self.given.args.clone();

        let listen = self.list("listen", "listen", listen, file.listen, &[default_listen(17080)]);
        let listen_tls = self.list("listen_tls", "listen_tls", listen_tls, file.listen_tls, &[]);
        let ops_listen =
            self.pick("ops_listen", "ops_listen", ops_listen, file.ops_listen, default_listen(17090));
        if listen.is_empty() && listen_tls.is_empty() {
            self.problem(None, "listen", "nothing to listen on: name an address in listen or listen_tls");
        }
        let tls = self.tls(
            !listen_tls.is_empty(),
            self.at("tls_cert_file", tls_cert_file, file.tls_cert_file),
            self.at("tls_key_file", tls_key_file, file.tls_key_file),
            self.at("tls_client_ca_file", tls_client_ca_file, file.tls_client_ca_file),
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
            self.problem(None, "limits.max_connections", "0 would let nobody in: name at least 1");
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
            self.problem(None, "threads", "0 threads do no work: leave it out to follow the CPU quota");
        }
        let log_format = self.pick("log_format", "log_format", log_format, file.log_format, LogFormat::Auto);
        let log_level = self.pick("log_level", "log_level", log_level, file.log_level, LogLevel::Info);

        let for_all = ForAll {
            https: if allow_http { Https::Optional } else { Https::Required },
            short_secret,
            tolerance,
            future_tolerance,
            rate_limit,
            mode,
            max_body,
            default_max_body: limits.max_body,
            max_buffered,
        };
        let only = OnlyRoute { provider, path, secret_file, allow_ip, allow_ip_file };
        let routes = self.routes(file.routes, &for_all, only);
        let policy = Policy {
            routes,
            trusted_proxies: TrustedProxies::new(proxies.into_iter().map(|c| c.0).collect()),
        };

        let store = self.at("replay_store", replay_store, file.replay.store);
        self.replay_store(store);
        let capacity =
            self.pick("replay.capacity", "replay_capacity", replay_capacity, file.replay.capacity, 1_000_000);
        if capacity == 0 {
            self.problem(None, "replay.capacity", "0 would remember nothing: name at least 1");
        }
        let window = self.at("replay_window", replay_window, file.replay.window);
        let exchange = upstream_connect_timeout + upstream_timeout;
        let tolerances =
            policy.routes.iter().filter_map(|route| route.freshness_window()).max().unwrap_or_default();
        let replay = self.replay_policy(window, tolerances, exchange);

        Built {
            startup: Startup {
                listen,
                listen_tls,
                ops_listen,
                upstream,
                upstream_timeout,
                upstream_connect_timeout,
                max_buffered: max_buffered.0,
                max_connections,
                header_timeout,
                body_timeout,
                idle_timeout,
                replay,
                stale_after: tolerances + WINDOW_MARGIN,
                replay_capacity: capacity,
                shutdown_delay,
                shutdown_timeout,
                reload_interval,
                threads,
                log_format,
                log_level,
            },
            policy,
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
        let read = |loader: &mut Self, what: &str, path: &Option<Located<PathBuf>>| match path {
            Some(path) => loader.read(path),
            None => {
                loader.problem(None, what, format!("listen_tls needs it: name the file in {what}"));
                None
            }
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
                    crate::tls::Part::Certificate => cert,
                    crate::tls::Part::Key => key,
                    crate::tls::Part::ClientCa => client_ca,
                };
                let culprit = culprit?;
                self.located_problem(&culprit, format!("{}: {}", culprit.value.display(), error.message));
                None
            }
        }
    }

    fn replay_store(&mut self, store: Option<Located<String>>) {
        match store {
            None => self.setting("replay.store", "memory", Origin::Default),
            Some(store) if store.value == "memory" => self.setting("replay.store", "memory", store.origin),
            Some(store) => {
                // The URL may hold a password: it is not repeated.
                self.located_problem(&store, "is no store of this build: write memory".to_owned());
            }
        }
    }

    fn replay_policy(
        &mut self,
        window: Option<Located<Span>>,
        tolerances: Duration,
        exchange: Duration,
    ) -> ReplayPolicy {
        let default = Duration::from_secs(24 * 3600);
        let chosen = window.as_ref().map_or(default, |w| w.value.0);
        let origin = window.as_ref().map_or(Origin::Default, |w| w.origin);
        self.setting("replay.window", Span(chosen), origin);
        match ReplayPolicy::new(chosen, tolerances, exchange) {
            Ok(policy) => policy,
            Err(short) => {
                let message = format!(
                    "{} is too short: an event that is still fresh would be forgotten; write at least {} \
                     (past and future tolerance, plus 60s)",
                    Span(chosen),
                    Span(short.needed)
                );
                match &window {
                    Some(window) => self.located_problem(window, message),
                    None => self.problem(None, "replay.window", message),
                }
                ReplayPolicy::new(short.needed, tolerances, exchange).expect("as long as is needed")
            }
        }
    }

    fn routes(&mut self, raw: Vec<Spanned<raw::Route>>, all: &ForAll, only: OnlyRoute) -> Vec<Arc<Route>> {
        let from_file = !raw.is_empty();
        let mut raw: Vec<_> = if from_file {
            raw.into_iter().map(|route| route.value).collect()
        } else {
            vec![raw::Route { name: Some("default".to_owned()), ..raw::Route::default() }]
        };
        if let [route] = raw.as_mut_slice() {
            self.apply_flags(route, only);
        } else {
            for flag in only.given() {
                self.problem(
                    None,
                    &format!("--{flag}"),
                    format!(
                        "speaks of the only route, but the file has {}: set it in the file's routes",
                        raw.len()
                    ),
                );
            }
        }
        let built: Vec<_> =
            raw.iter().enumerate().filter_map(|(n, route)| self.route(n, route, raw.len(), all)).collect();
        self.check_routes(&built);
        built.into_iter().map(Arc::new).collect()
    }

    /// Lowers the flags of the single route into the words of the file.
    fn apply_flags(&mut self, route: &mut raw::Route, only: OnlyRoute) {
        let OnlyRoute { provider, path, secret_file, allow_ip, allow_ip_file } = only;
        if let Some(provider) = provider {
            route.provider = Some(flag_value(provider));
            route.scheme = None;
        }
        if let Some(path) = path {
            route.path = Some(flag_value(path));
        }
        if let Some(files) = secret_file {
            route.secrets = files
                .into_iter()
                .map(|file| raw::SecretSource { id: None, file: flag_value(file) })
                .collect();
        }
        if allow_ip.is_some() {
            route.allow_ips = allow_ip;
        }
        if let Some(file) = allow_ip_file {
            route.allow_ip_file = Some(flag_value(file));
        }
    }

    fn route(&mut self, index: usize, raw: &raw::Route, count: usize, all: &ForAll) -> Option<Route> {
        let key = |name: &str| format!("routes[{index}].{name}");
        let before = self.problems.len();

        let (provider, preset, schemes) = self.provider(index, raw)?;
        let name = raw.name.clone().unwrap_or_else(|| provider.clone());
        if !is_name(&name) {
            self.problem(
                None,
                &key("name"),
                format!("\"{name}\" is no name: write letters, digits, '.', '_' and '-'"),
            );
        }
        let path = match &raw.path {
            Some(path) => self.located_key(&key("path"), "path", path),
            None => Located::default(key("path"), "/webhooks".to_owned()),
        };
        let pattern = match path.value.parse::<PathPattern>() {
            Ok(pattern) => Some(pattern),
            Err(message) => {
                self.located_problem(&path, message);
                None
            }
        };
        self.setting(&key("name"), &name, if raw.name.is_some() { Origin::File } else { Origin::Default });
        self.setting(&path.key.clone(), &path.value, path.origin);

        let tolerance = all.tolerance.or(raw.tolerance).map(|s| s.0);
        let future = all.future_tolerance.or(raw.future_tolerance).map(|s| s.0);
        let mut recipes = Vec::new();
        for (n, scheme) in schemes.iter().enumerate() {
            match provider::compile(scheme, tolerance, future) {
                Ok(recipe) => recipes.push(recipe),
                Err(fault) => {
                    let at = if raw.scheme.is_some() { "scheme".to_owned() } else { format!("schemes[{n}]") };
                    let place = raw.scheme.as_ref().and_then(|s| self.place(s.referenced));
                    self.problem(place, &key(&format!("{at}.{}", fault.key)), fault.message);
                }
            }
        }
        for recipe in &recipes {
            if let Some(rule) = &recipe.timestamp {
                let origin = |flag: &str, all: bool, raw: bool| match (all, raw) {
                    (true, _) => self.given.origin(flag),
                    (false, true) => Origin::File,
                    (false, false) => Origin::Provider,
                };
                let past = origin("tolerance", all.tolerance.is_some(), raw.tolerance.is_some());
                let ahead = origin(
                    "future_tolerance",
                    all.future_tolerance.is_some(),
                    raw.future_tolerance.is_some(),
                );
                self.setting(&key("tolerance"), Span(rule.tolerance), past);
                self.setting(&key("future_tolerance"), Span(rule.future_tolerance), ahead);
                break;
            }
        }

        let secrets = self.secrets(index, raw, count);
        let signature = self.signature(index, &provider, recipes, &secrets, all.short_secret);
        let allowlist = self.allowlist(index, raw, preset.as_ref());
        let rate_limit = self.rate_limit(index, raw, preset.as_ref(), all);
        let max_body = self.max_body(index, raw, preset.as_ref(), all);
        let mode = self.mode(index, raw, all);
        if mode == Mode::Observe {
            self.notice(format!("route {name} only observes: it forwards what it would refuse"));
        }
        let status = self.status(index, raw, preset.as_ref());

        let headers = signature.as_ref()?.schemes().iter().flat_map(|s| s.recipe().headers()).collect();
        (self.problems.len() == before).then_some(())?;
        Some(Route {
            name: name.into(),
            provider: provider.into(),
            path: pattern?,
            methods: vec![http::Method::POST],
            https: all.https,
            allowlist,
            rate_limit,
            max_body,
            signature: signature?,
            mode,
            status,
            headers,
        })
    }

    /// The provider's name, its preset if it has one, and its schemes.
    fn provider(
        &mut self,
        index: usize,
        raw: &raw::Route,
    ) -> Option<(String, Option<raw::Preset>, Vec<raw::Scheme>)> {
        let key = format!("routes[{index}].provider");
        match (&raw.provider, &raw.scheme) {
            (Some(provider), Some(_)) => {
                let at = self.located_key(&key, "provider", provider);
                self.located_problem(&at, "a route has a provider or a scheme: leave one out".to_owned());
                None
            }
            (None, Some(scheme)) => {
                self.setting(&format!("routes[{index}].scheme"), "custom", Origin::File);
                Some(("custom".to_owned(), None, vec![scheme.value.clone()]))
            }
            (provider, None) => {
                let at = match provider {
                    Some(provider) => self.located_key(&key, "provider", provider),
                    None => Located::default(key, "scalekit".to_owned()),
                };
                let Some(preset) = provider::preset(&at.value) else {
                    let names: Vec<_> = provider::PRESETS.iter().map(|(name, _)| *name).collect();
                    let message = match closest(&at.value, &names) {
                        Some(name) => format!("\"{}\" is no preset: did you mean {name}?", at.value),
                        None => format!("\"{}\" is no preset: write one of {}", at.value, names.join(", ")),
                    };
                    self.located_problem(&at, message);
                    return None;
                };
                if preset.evidence == raw::Evidence::Unconfirmed {
                    self.notice(format!(
                        "the preset {} is unconfirmed: try it with a real delivery",
                        at.value
                    ));
                }
                self.setting(&at.key.clone(), &at.value, at.origin);
                let schemes = preset.schemes.clone();
                Some((at.value, Some(preset), schemes))
            }
        }
    }

    fn secrets(&mut self, index: usize, raw: &raw::Route, count: usize) -> Vec<NamedSecret> {
        let key = format!("routes[{index}].secrets");
        let mut secrets = Vec::new();
        let mut ids = HashSet::new();
        for (n, source) in raw.secrets.iter().enumerate() {
            let file = self.located_key(&format!("{key}[{n}].file"), "secret_file", &source.file);
            let id = source.id.clone().unwrap_or_else(|| {
                file.value
                    .file_name()
                    .map_or_else(|| n.to_string(), |name| name.to_string_lossy().into_owned())
            });
            if !ids.insert(id.clone()) {
                self.located_problem(
                    &file,
                    format!("the key id {id} is used twice: give each secret its own id"),
                );
                continue;
            }
            let Some(bytes) = self.read(&file) else { continue };
            let (secret, newline) = Secret::from_bytes(bytes);
            if secret.is_empty() {
                let message =
                    format!("{} is empty: put the provider's signing secret into it", file.value.display());
                self.located_problem(&file, message);
                continue;
            }
            if newline {
                self.notice(format!(
                    "{}: the newline at its end is not part of the secret",
                    file.value.display()
                ));
            }
            self.setting(&format!("{key}[{n}]"), format!("{id} ({})", file.value.display()), file.origin);
            secrets.push(NamedSecret { id: id.into(), secret });
        }
        if raw.secrets.is_empty() {
            match &self.given.secret {
                Some(secret) if count == 1 => {
                    self.digest.update(secret.expose());
                    self.setting(&key, "env (HOOKGATE_SECRET)", Origin::Env);
                    self.notice("HOOKGATE_SECRET is for trials: a file can be rotated and is not shown by the process list");
                    secrets.push(NamedSecret { id: "env".into(), secret: secret.clone() });
                }
                Some(_) | None => {
                    let remedy = "no secret: give --secret-file, or secrets in the route, or HOOKGATE_SECRET for a trial";
                    self.problem(None, &key, remedy);
                }
            }
        }
        secrets
    }

    /// The recipes that have a key. One that no secret fits is left out, and said.
    fn signature(
        &mut self,
        index: usize,
        provider: &str,
        recipes: Vec<crate::gate::scheme::Recipe>,
        secrets: &[NamedSecret],
        short_allowed: bool,
    ) -> Option<Signature> {
        if recipes.is_empty() || secrets.is_empty() {
            return None; // said already
        }
        let mut schemes = Vec::new();
        let mut reasons = Vec::new();
        for recipe in recipes {
            let header = recipe.signature.headers[0].clone();
            let (scheme, unfit) = provider::keyed(recipe, secrets, short_allowed);
            for (id, error) in unfit {
                reasons.push(format!("{provider}'s {header}: key {id} does not fit: {error}"));
            }
            if !scheme.keys().is_empty() {
                schemes.push(scheme);
            }
        }
        if schemes.is_empty() {
            let short = reasons.iter().any(|r| r.contains("fewer than"));
            let remedy =
                if short { "; use a longer one, or --insecure-short-secret for a trial" } else { "" };
            self.problem(
                None,
                &format!("routes[{index}].secrets"),
                format!("no key is usable: {}{remedy}", reasons.join("; ")),
            );
            return None;
        }
        reasons
            .into_iter()
            .for_each(|reason| self.notice(format!("{reason}; this form is left out for that key")));
        Some(Signature::new(schemes))
    }

    fn allowlist(&mut self, index: usize, raw: &raw::Route, preset: Option<&raw::Preset>) -> IpAllowlist {
        let key = format!("routes[{index}].allow_ips");
        let mut networks: Option<Vec<IpNet>> =
            raw.allow_ips.as_ref().map(|list| list.iter().map(|c| c.0).collect());
        let mut origin = self.given.origins.get("allow_ip").copied().unwrap_or(Origin::File);
        if let Some(file) = &raw.allow_ip_file {
            let file = self.located_key(&format!("routes[{index}].allow_ip_file"), "allow_ip_file", file);
            origin = file.origin;
            networks.get_or_insert_default().extend(self.networks_of(&file));
        }
        let from_preset =
            || preset.and_then(|p| p.allow_ips.as_ref()).map(|list| list.iter().map(|c| c.0).collect());
        let (networks, origin) = match networks {
            Some(networks) => (Some(networks), origin),
            None => (from_preset(), Origin::Provider),
        };
        match networks {
            Some(networks) => {
                if networks.is_empty() {
                    self.notice(format!("{key} is empty: nobody may send"));
                }
                self.setting(&key, join(&networks), origin);
                IpAllowlist::networks(&networks)
            }
            None => {
                self.setting(&key, "any", Origin::Default);
                IpAllowlist::Any
            }
        }
    }

    fn networks_of(&mut self, file: &Located<PathBuf>) -> Vec<IpNet> {
        let Some(bytes) = self.read(file) else { return Vec::new() };
        let text = String::from_utf8_lossy(&bytes);
        let mut networks = Vec::new();
        for (line, text) in (1u64..).zip(text.lines()) {
            let text = text.split('#').next().unwrap_or_default().trim();
            match text.parse::<Cidr>() {
                _ if text.is_empty() => {}
                Ok(network) => networks.push(network.0),
                Err(message) => {
                    let place = Place { file: file.value.clone(), line, column: 1 };
                    self.problem(Some(place), &file.key, message);
                }
            }
        }
        networks
    }

    fn rate_limit(
        &mut self,
        index: usize,
        raw: &raw::Route,
        preset: Option<&raw::Preset>,
        all: &ForAll,
    ) -> Option<RateLimit> {
        let default = Rate::Limit { count: 100, period: Duration::from_secs(60) };
        let provider = preset.and_then(|p| p.rate_limit);
        let rate = self.route_value(index, "rate_limit", all.rate_limit, raw.rate_limit, provider, default);
        match rate {
            Rate::Off => None,
            Rate::Limit { count, period } => match Quota::new(count, period) {
                Some(quota) => Some(RateLimit::new(quota)),
                None => {
                    self.problem(
                        None,
                        &format!("routes[{index}].rate_limit"),
                        format!("{rate} is out of range"),
                    );
                    None
                }
            },
        }
    }

    fn max_body(
        &mut self,
        index: usize,
        raw: &raw::Route,
        preset: Option<&raw::Preset>,
        all: &ForAll,
    ) -> usize {
        let provider = preset.and_then(|p| p.max_body);
        let default = all.default_max_body.unwrap_or(ByteSize(1 << 20));
        let size = self.route_value(index, "max_body", all.max_body, raw.max_body, provider, default);
        if size > all.max_buffered {
            let key = format!("routes[{index}].max_body");
            let message = format!(
                "{size} is more than limits.max_buffered ({}): raise that or lower this",
                all.max_buffered
            );
            self.problem(None, &key, message);
        }
        size.0
    }

    fn mode(&mut self, index: usize, raw: &raw::Route, all: &ForAll) -> Mode {
        match self.route_value(index, "mode", all.mode, raw.mode, None, raw::Mode::Enforce) {
            raw::Mode::Enforce => Mode::Enforce,
            raw::Mode::Observe => Mode::Observe,
        }
    }

    fn status(&mut self, index: usize, raw: &raw::Route, preset: Option<&raw::Preset>) -> StatusOverrides {
        let provider = preset.map(|p| p.status).unwrap_or_default();
        let status = StatusOverrides {
            signature: raw.status.signature.or(provider.signature),
            timestamp: raw.status.timestamp.or(provider.timestamp),
            duplicate: raw.status.duplicate.or(provider.duplicate),
        };
        for (name, status, range, why) in [
            (
                "signature",
                status.signature,
                400..600,
                "a refusal is a 4xx or 5xx, and 410 makes providers delete the endpoint",
            ),
            (
                "timestamp",
                status.timestamp,
                400..600,
                "a refusal is a 4xx or 5xx, and 410 makes providers delete the endpoint",
            ),
            (
                "duplicate",
                status.duplicate,
                200..300,
                "a duplicate was processed: anything but 2xx makes the provider send it again",
            ),
        ] {
            if let Some(status) = status.filter(|s| !range.contains(s) || *s == 410) {
                self.problem(
                    None,
                    &format!("routes[{index}].status.{name}"),
                    format!("{status} cannot be used: {why}"),
                );
            }
        }
        status
    }

    fn check_routes(&mut self, routes: &[Route]) {
        let mut names = HashSet::new();
        let mut paths = HashSet::new();
        for (index, route) in routes.iter().enumerate() {
            if !names.insert(route.name.to_string()) {
                let message = format!("\"{}\" names two routes: give each its own name", route.name);
                self.problem(None, &format!("routes[{index}].name"), message);
            }
            if !paths.insert(route.path.to_string()) {
                let message = format!("\"{}\" is the path of two routes: give each its own", route.path);
                self.problem(None, &format!("routes[{index}].path"), message);
            }
        }
    }

    // How values are chosen, and problems gathered.

    /// Flag or environment, else file, else default.
    fn pick<T: fmt::Display>(
        &mut self,
        key: &str,
        flag: &str,
        given: Option<T>,
        file: Option<T>,
        default: T,
    ) -> T {
        let (value, origin) = match (given, file) {
            (Some(value), _) => (value, self.given.origin(flag)),
            (None, Some(value)) => (value, Origin::File),
            (None, None) => (default, Origin::Default),
        };
        self.setting(key, &value, origin);
        value
    }

    fn list<T: fmt::Display + Clone>(
        &mut self,
        key: &str,
        flag: &str,
        given: Option<Vec<T>>,
        file: Option<Vec<T>>,
        default: &[T],
    ) -> Vec<T> {
        let (value, origin) = match (given, file) {
            (Some(value), _) => (value, self.given.origin(flag)),
            (None, Some(value)) => (value, Origin::File),
            (None, None) => (default.to_vec(), Origin::Default),
        };
        self.setting(key, join(&value), origin);
        value
    }

    fn span_or_zero(
        &mut self,
        key: &str,
        given: Option<Span>,
        file: Option<Span>,
        default: &str,
    ) -> Duration {
        self.pick(key, key, given, file, default.parse().expect("a constant")).0
    }

    fn span(&mut self, key: &str, given: Option<Span>, file: Option<Span>, default: &str) -> Duration {
        let span = self.span_or_zero(key, given, file, default);
        if span.is_zero() {
            self.problem(None, key, "0 would let nothing finish: write for example 10s");
        }
        span
    }

    /// Flag or environment, else route, else provider, else default.
    fn route_value<T: fmt::Display + Copy>(
        &mut self,
        index: usize,
        name: &str,
        given: Option<T>,
        route: Option<T>,
        provider: Option<T>,
        default: T,
    ) -> T {
        let chosen = [
            (given, self.given.origin(name)),
            (route, Origin::File),
            (provider, Origin::Provider),
            (Some(default), Origin::Default),
        ];
        let found = chosen.into_iter().find_map(|(value, origin)| value.map(|v| (v, origin)));
        let (value, origin) = found.unwrap_or((default, Origin::Default));
        self.setting(&format!("routes[{index}].{name}"), value, origin);
        value
    }

    /// A value of the flags or of the file, with its place.
    fn at<T>(&self, flag: &str, given: Option<T>, file: Option<Spanned<T>>) -> Option<Located<T>> {
        match (given, file) {
            (Some(value), _) => {
                Some(Located { key: flag.to_owned(), value, origin: self.given.origin(flag), place: None })
            }
            (None, Some(at)) => {
                let place = self.place(at.referenced);
                Some(Located { key: flag.to_owned(), value: at.value, origin: Origin::File, place })
            }
            (None, None) => None,
        }
    }

    /// A value of a route. One that a flag was lowered into has no place in the file.
    fn located_key<T: Clone>(&self, key: &str, flag: &str, at: &Spanned<T>) -> Located<T> {
        let place = self.place(at.referenced);
        let origin = if place.is_some() { Origin::File } else { self.given.origin(flag) };
        Located { key: key.to_owned(), value: at.value.clone(), origin, place }
    }

    fn place(&self, at: serde_saphyr::Location) -> Option<Place> {
        let file = self.given.args.config.clone().filter(|_| at.line() > 0)?;
        Some(Place { file, line: at.line(), column: at.column() })
    }

    /// Reads a file that the configuration names, and remembers its content for the fingerprint.
    fn read(&mut self, path: &Located<PathBuf>) -> Option<Vec<u8>> {
        match std::fs::read(&path.value) {
            Ok(bytes) => {
                self.digest.update((bytes.len() as u64).to_be_bytes());
                self.digest.update(&bytes);
                Some(bytes)
            }
            Err(error) => {
                let message =
                    format!("cannot read {}: {error}; {}", path.value.display(), remedy(&error, &path.value));
                self.located_problem(path, message);
                None
            }
        }
    }

    fn setting(&mut self, key: &str, value: impl fmt::Display, origin: Origin) {
        self.settings.push(Setting { key: key.to_owned(), value: value.to_string(), origin });
    }

    fn notice(&mut self, text: impl Into<String>) {
        self.notices.push(text.into());
    }

    fn problem(&mut self, place: Option<Place>, key: &str, message: impl Into<String>) {
        self.problems.push(Problem { place, key: key.to_owned(), message: message.into() });
    }

    fn located_problem<T>(&mut self, at: &Located<T>, message: String) {
        self.problem(at.place.clone(), &at.key, message);
    }
}

/// What flags say of every route, and what routes fall back to.
struct ForAll {
    https: Https,
    short_secret: bool,
    tolerance: Option<Span>,
    future_tolerance: Option<Span>,
    rate_limit: Option<Rate>,
    mode: Option<raw::Mode>,
    max_body: Option<ByteSize>,
    default_max_body: Option<ByteSize>,
    max_buffered: ByteSize,
}

/// What flags say of the only route there is.
struct OnlyRoute {
    provider: Option<String>,
    path: Option<String>,
    secret_file: Option<Vec<PathBuf>>,
    allow_ip: Option<Vec<Cidr>>,
    allow_ip_file: Option<PathBuf>,
}

impl OnlyRoute {
    fn given(&self) -> impl Iterator<Item = &'static str> {
        [
            ("provider", self.provider.is_some()),
            ("path", self.path.is_some()),
            ("secret-file", self.secret_file.is_some()),
            ("allow-ip", self.allow_ip.is_some()),
            ("allow-ip-file", self.allow_ip_file.is_some()),
        ]
        .into_iter()
        .filter_map(|(flag, given)| given.then_some(flag))
    }
}

/// A value, its key, and where it came from.
struct Located<T> {
    key: String,
    value: T,
    origin: Origin,
    place: Option<Place>,
}

impl<T> Located<T> {
    fn default(key: String, value: T) -> Self {
        Located { key, value, origin: Origin::Default, place: None }
    }
}

/// A flag's value in the words of the file: it stands nowhere in it.
fn flag_value<T>(value: T) -> Spanned<T> {
    Spanned::new(value, serde_saphyr::Location::UNKNOWN, serde_saphyr::Location::UNKNOWN)
}

fn default_listen(port: u16) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], port))
}

fn join<T: fmt::Display>(values: &[T]) -> String {
    if values.is_empty() {
        return "none".to_owned();
    }
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.len() <= 64 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain)
}

fn remedy(error: &std::io::Error, path: &Path) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => "mount the file or correct the path",
        std::io::ErrorKind::PermissionDenied => "let the user that hookgate runs as read it",
        _ if path.is_dir() => "it is a folder: name the file in it",
        _ => "make it a readable file",
    }
}

/// The reader's message without its own mention of the place, with a hint for a misspelt key.
fn yaml_message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default();
    let message = match text.find(" at line ") {
        Some(at) => &text[..at],
        None => text,
    };
    let quoted = message.split('`').nth(1).or_else(|| message.split('\'').nth(1));
    match quoted.filter(|_| message.contains("unknown")) {
        Some(unknown) => {
            let words: Vec<_> =
                message.split(['`', '\'', ',', ' ']).filter(|w| !w.is_empty() && *w != unknown).collect();
            closest(unknown, &words)
                .map_or_else(|| message.to_owned(), |hint| format!("{message}; did you mean {hint}?"))
        }
        None => message.to_owned(),
    }
}

/// The candidate that differs in the fewest letters, if it is few.
fn closest<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let scored = candidates.iter().map(|candidate| (distance(word, candidate), *candidate));
    scored.min().filter(|(d, candidate)| *d <= candidate.len() / 3).map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
