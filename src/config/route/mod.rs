//! What one endpoint demands: the words of a route, over its provider's preset, compiled.

mod handshakes;
mod senders;
mod signing;

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_saphyr::Spanned;

use super::handshake;
use super::loader::{Loader, Located, flag_value};
use super::provider::{self, NamedSecret};
use super::units::{ByteSize, Rate, Senders, Span};
use super::{Origin, Place, raw};
use crate::gate::filter::https::Https;
use crate::gate::reason::StatusOverrides;
use crate::gate::route::{Mode, PathPattern, Route};

const A_HUNDRED_A_MINUTE: Rate = Rate::Limit { count: 100, period: Duration::from_secs(60) };

/// What flags say of every route, and what routes fall back to.
pub struct ForAll {
    pub https: Https,
    pub short_secret: bool,
    pub tolerance: Option<Span>,
    pub future_tolerance: Option<Span>,
    pub rate_limit: Option<Rate>,
    /// Whether there is a store that gates share.
    pub may_share: bool,
    pub failure_limit: Option<Rate>,
    pub mode: Option<raw::Mode>,
    pub max_body: Option<ByteSize>,
    /// `limits.max_body`: for routes that set none and whose provider sets none.
    pub default_max_body: Option<ByteSize>,
    pub max_buffered: ByteSize,
}

/// What flags say of the only route there is.
pub struct OnlyRoute {
    pub provider: Option<String>,
    pub path: Option<String>,
    pub public_url: Option<String>,
    pub secret_file: Option<Vec<PathBuf>>,
    pub allow_ip: Option<Vec<Senders>>,
    pub allow_ip_file: Option<PathBuf>,
    pub handshake: Option<handshake::Mode>,
    pub handshake_token_file: Option<PathBuf>,
    pub expect_every: Option<Span>,
}

impl OnlyRoute {
    /// Lowers the flags into the words of the file, so that there is one checker and not two.
    fn apply(self, route: &mut raw::Route) {
        if let Some(provider) = self.provider {
            route.provider = Some(flag_value(provider));
            route.scheme = None;
        }
        if let Some(path) = self.path {
            route.path = Some(flag_value(path));
        }
        if let Some(url) = self.public_url {
            route.public_url = Some(flag_value(url));
        }
        if let Some(files) = self.secret_file {
            let source = |file| raw::SecretSource { id: None, file: flag_value(file), not_after: None };
            route.secrets = files.into_iter().map(source).collect();
        }
        if self.allow_ip.is_some() {
            route.allow_ips = self.allow_ip;
        }
        if let Some(file) = self.allow_ip_file {
            route.allow_ip_file = Some(flag_value(file));
        }
        if let Some(mode) = self.handshake {
            route.handshake = Some(flag_value(handshake::Words::Mode(mode)));
        }
        if let Some(file) = self.handshake_token_file {
            route.handshake_token_file = Some(flag_value(file));
        }
        if let Some(span) = self.expect_every {
            route.expect_every = Some(flag_value(span));
        }
    }

    fn given(&self) -> impl Iterator<Item = &'static str> {
        [
            ("provider", self.provider.is_some()),
            ("path", self.path.is_some()),
            ("public-url", self.public_url.is_some()),
            ("secret-file", self.secret_file.is_some()),
            ("allow-ip", self.allow_ip.is_some()),
            ("allow-ip-file", self.allow_ip_file.is_some()),
            ("handshake", self.handshake.is_some()),
            ("handshake-token-file", self.handshake_token_file.is_some()),
            ("expect-every", self.expect_every.is_some()),
        ]
        .into_iter()
        .filter_map(|(flag, given)| given.then_some(flag))
    }
}

impl Loader<'_> {
    /// The routes of the file; without any, the one that the flags describe.
    /// With each its secrets.
    pub fn routes(
        &mut self,
        mut raw: Vec<Spanned<raw::Route>>,
        all: &ForAll,
        only: OnlyRoute,
    ) -> (Vec<Arc<Route>>, Vec<Vec<NamedSecret>>) {
        if raw.is_empty() {
            raw = vec![flag_value(raw::Route { name: Some("default".to_owned()), ..raw::Route::default() })];
        }
        let count = raw.len();
        if let [route] = raw.as_mut_slice() {
            only.apply(&mut route.value);
        } else {
            for flag in only.given() {
                let message = format!(
                    "speaks of the only route, but the file has {count}: set it in the file's routes"
                );
                self.problem_at(None, &format!("--{flag}"), message);
            }
        }
        let (mut routes, mut secrets) = (Vec::new(), Vec::new());
        for (index, raw) in raw.iter().enumerate() {
            let place = self.place(raw.referenced);
            let mut endpoint = Endpoint { loader: self, index, place, raw: &raw.value, preset: None, all };
            if let Some((route, its_secrets)) = endpoint.build(count == 1) {
                routes.push(route);
                secrets.push(its_secrets);
            }
        }
        self.tell_apart(&routes);
        self.warn_of_shared(&routes, &secrets);
        (routes.into_iter().map(Arc::new).collect(), secrets)
    }

    fn tell_apart(&mut self, routes: &[Route]) {
        let mut names = HashSet::new();
        let mut paths = HashSet::new();
        for (index, route) in routes.iter().enumerate() {
            if !names.insert(&route.name) {
                let message = format!("\"{}\" names two routes: give each its own name", route.name);
                self.problem(&format!("routes[{index}].name"), message);
            }
            if !paths.insert(route.path.to_string()) {
                let message = format!("\"{}\" is the path of two routes: give each its own", route.path);
                self.problem(&format!("routes[{index}].path"), message);
            }
        }
    }

    /// A secret on several routes makes what is signed for one good for the others.
    fn warn_of_shared(&mut self, routes: &[Route], secrets: &[Vec<NamedSecret>]) {
        let mut uses: Vec<(&NamedSecret, Vec<&str>)> = Vec::new();
        for (route, own) in routes.iter().zip(secrets) {
            for secret in own {
                match uses.iter_mut().find(|(known, _)| known.secret == secret.secret) {
                    Some((_, names)) if names.contains(&&*route.name) => {}
                    Some((_, names)) => names.push(&route.name),
                    None => uses.push((secret, vec![&route.name])),
                }
            }
        }
        for (secret, names) in uses.iter().filter(|(_, names)| names.len() > 1) {
            self.notice(format!(
                "routes {} share a secret (key {}): whoever signs for one signs for all; give each its own",
                names.join(", "),
                secret.id
            ));
        }
    }
}

/// One route under construction.
struct Endpoint<'e, 'g> {
    loader: &'e mut Loader<'g>,
    index: usize,
    place: Option<Place>,
    raw: &'e raw::Route,
    preset: Option<raw::Preset>,
    all: &'e ForAll,
}

impl Endpoint<'_, '_> {
    fn build(&mut self, only: bool) -> Option<(Route, Vec<NamedSecret>)> {
        let before = self.loader.problems();
        let (provider, schemes) = self.provider()?;
        let name = self.name(&provider);
        let path = self.path();
        let mut recipes = self.recipes(&schemes);
        self.public_url(path.as_ref(), &mut recipes);
        self.assurance(&name, &recipes);
        let secrets = self.secrets(only);
        let handshakes = self.handshakes(&provider, &recipes, &secrets);
        let rotation = self.rotation(&name, &secrets);
        let signature = self.signature(&provider, recipes, &secrets);
        let allowlist = self.allowlist();
        let rate_limit = self.rate_limit();
        let failure_budget = self.failure_budget();
        let max_body = self.max_body();
        let mode = self.mode(&name);
        let expect_every = self.expect_every();
        let status = self.status();
        if self.loader.problems() > before {
            return None;
        }
        let signature = signature?;
        let route = Route {
            headers: (signature.schemes().iter().flat_map(|s| s.recipe().headers()))
                .chain(handshakes.headers())
                .collect(),
            name: name.into(),
            provider: provider.into(),
            path: path?,
            methods: self.methods(),
            https: self.all.https,
            allowlist,
            rate_limit,
            failure_budget,
            max_body,
            signature,
            rotation,
            handshakes,
            mode,
            expect_every,
            status,
        };
        Some((route, secrets))
    }

    fn key(&self, name: &str) -> String {
        format!("routes[{}].{name}", self.index)
    }

    /// A problem of this route, at its place in the file unless a better one is known.
    fn problem(&mut self, name: &str, message: impl Into<String>) {
        let (place, key) = (self.place.clone(), self.key(name));
        self.loader.problem_at(place, &key, message);
    }

    /// Flag or environment, else route, else provider, else default.
    fn value<T: fmt::Display + Copy>(
        &mut self,
        name: &str,
        given: Option<T>,
        route: Option<T>,
        provider: Option<T>,
        default: T,
    ) -> T {
        let (value, origin) = match (given, route, provider) {
            (Some(value), ..) => (value, self.loader.given.origin(name)),
            (None, Some(value), _) => (value, Origin::File),
            (None, None, Some(value)) => (value, Origin::Provider),
            (None, None, None) => (default, Origin::Default),
        };
        self.loader.setting(&self.key(name), value, origin);
        value
    }

    /// The provider's name, and its schemes or the route's own.
    fn provider(&mut self) -> Option<(String, Vec<raw::Scheme>)> {
        let raw = self.raw;
        match (&raw.provider, &raw.scheme) {
            (Some(provider), Some(_)) => {
                let at = self.loader.located(&self.key("provider"), "provider", provider);
                self.loader.located_problem(&at, "a route has a provider or a scheme: leave one out");
                None
            }
            (None, Some(scheme)) => {
                self.loader.setting(&self.key("scheme"), "custom", Origin::File);
                Some(("custom".to_owned(), vec![scheme.value.clone()]))
            }
            (provider, None) => {
                let at = match provider {
                    Some(provider) => self.loader.located(&self.key("provider"), "provider", provider),
                    None => Located::default(self.key("provider"), "scalekit".to_owned()),
                };
                let Some(preset) = provider::preset(&at.value) else {
                    self.loader.located_problem(&at, provider::unknown(&at.value));
                    return None;
                };
                if preset.evidence == raw::Evidence::Unconfirmed {
                    self.loader.notice(format!(
                        "the preset {} is unconfirmed: try it with a real delivery",
                        at.value
                    ));
                }
                self.loader.setting(&at.key, &at.value, at.origin);
                let schemes = preset.schemes.clone();
                self.preset = Some(preset);
                Some((at.value, schemes))
            }
        }
    }

    fn name(&mut self, provider: &str) -> String {
        let name = self.raw.name.clone().unwrap_or_else(|| provider.to_owned());
        let origin =
            if self.raw.name.is_some() && self.place.is_some() { Origin::File } else { Origin::Default };
        if !is_name(&name) {
            self.problem("name", format!("{name:?} is no name: write {NAME}"));
        }
        self.loader.setting(&self.key("name"), &name, origin);
        name
    }

    fn path(&mut self) -> Option<PathPattern> {
        let path = match &self.raw.path {
            Some(path) => self.loader.located(&self.key("path"), "path", path),
            None => Located::default(self.key("path"), "/webhooks".to_owned()),
        };
        self.loader.setting(&path.key, &path.value, path.origin);
        match path.value.parse() {
            Ok(pattern) => Some(pattern),
            Err(message) => {
                self.loader.located_problem::<String>(&path, message);
                None
            }
        }
    }

    fn max_body(&mut self) -> usize {
        let provider = self.preset.as_ref().and_then(|p| p.max_body);
        let default = self.all.default_max_body.unwrap_or(ByteSize(1 << 20));
        let size = self.value("max_body", self.all.max_body, self.raw.max_body, provider, default);
        let most = self.all.max_buffered;
        if size > most {
            self.problem(
                "max_body",
                format!("{size} is more than limits.max_buffered ({most}): raise that or lower this"),
            );
        }
        size.0
    }

    fn mode(&mut self, name: &str) -> Mode {
        match self.value("mode", self.all.mode, self.raw.mode, None, raw::Mode::Enforce) {
            raw::Mode::Enforce => Mode::Enforce,
            raw::Mode::Observe => {
                self.loader.notice(format!("route {name} only observes: it forwards what it would refuse"));
                Mode::Observe
            }
        }
    }

    fn expect_every(&mut self) -> Option<Duration> {
        let raw = self.raw.expect_every.as_ref()?;
        let span = self.loader.located(&self.key("expect_every"), "expect_every", raw);
        if span.value.0 < Duration::from_secs(1) {
            let message = format!(
                "{} would always be silence: write at least 1s, or leave it out to expect nothing",
                span.value
            );
            self.loader.located_problem(&span, message);
        }
        self.loader.setting(&span.key, span.value, span.origin);
        Some(span.value.0)
    }

    fn status(&mut self) -> StatusOverrides {
        const REFUSAL: &str = "a refusal is a 4xx or 5xx, and 410 makes providers delete the endpoint";
        const DUPLICATE: &str =
            "a duplicate was processed: anything but 2xx makes the provider send it again";

        let provider = self.preset.as_ref().map(|p| p.status).unwrap_or_default();
        let own = self.raw.status;
        let status = StatusOverrides {
            signature: own.signature.or(provider.signature),
            timestamp: own.timestamp.or(provider.timestamp),
            duplicate: own.duplicate.or(provider.duplicate),
        };
        for (name, status, range, why) in [
            ("signature", status.signature, 400..600, REFUSAL),
            ("timestamp", status.timestamp, 400..600, REFUSAL),
            ("duplicate", status.duplicate, 200..300, DUPLICATE),
        ] {
            if let Some(status) = status.filter(|s| !range.contains(s) || *s == 410) {
                self.problem(&format!("status.{name}"), format!("{status} cannot be used: {why}"));
            }
        }
        status
    }
}

const NAME: &str = "up to 64 letters, digits, '.', '_' and '-', a letter or digit first";

/// Names become metric labels and header values.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.len() <= 64 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain)
}
