//! What one endpoint demands: the words of a route, over its provider's preset, compiled.

mod binding;
mod deliver;
mod events;
mod handshakes;
mod inbox;
mod pass;
mod resign;
mod sender;
mod senders;
mod signing;
mod tenants;
mod values;
pub mod words;

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

pub use self::tenants::{TenantSecrets, Where};
use self::words::RouteWords;
use super::application::{Application, Exchange};
use super::checks;
use super::inbox::StateDir;
use super::keys::Published;
use super::loader::{Loader, join};
use super::located::Located;
use super::provider::{self, NamedSecret};
use super::secret::Secret;
use super::units::{ByteSize, Rate, UpstreamUrl};
use super::{Origin, raw};
use crate::gate::filter::failure_budget::FailureBudget;
use crate::gate::filter::https::Https;
use crate::gate::route::{Awaited, Mode, PathPattern, Route};
use crate::gate::tenant::TenantPlace;
use crate::inbox::{Policy, When};

const A_HUNDRED_A_MINUTE: Rate = Rate::Limit { count: 100, period: Duration::from_secs(60) };

/// A route, and the secrets that its keys were made of; for diagnosis.
pub struct KeyedRoute {
    pub route: Route,
    pub secrets: Vec<NamedSecret>,
    pub inbox: Policy,
    /// Where its keys are looked up for each delivery; then it has no secrets.
    pub elsewhere: Option<Elsewhere>,
}

/// Where keys are looked up that are not files of the route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// Where the provider publishes them.
    Published(Published),
    Tenants(TenantSecrets),
}

impl KeyedRoute {
    /// Who, where, with which keys, how, and where it leads.
    pub fn in_words(&self, upstream: &UpstreamUrl) -> String {
        let KeyedRoute { route, secrets, elsewhere, .. } = self;
        let prints: Vec<_> = secrets.iter().map(|key| key.secret.fingerprint()).collect();
        let keys = match prints.len() {
            0 if let Some(Elsewhere::Tenants(tenants)) = elsewhere => {
                format!("keys of each tenant in {}", tenants.place)
            }
            0 if elsewhere.is_some() => "keys that are fetched".to_owned(),
            0 => "no key".to_owned(),
            1 => format!("1 key ({})", prints[0]),
            n => format!("{n} keys ({})", prints.join(", ")),
        };
        let awaited: Vec<_> = route.awaits.iter().map(|awaited| &*awaited.key).collect();
        let awaits =
            if awaited.is_empty() { String::new() } else { format!(", awaits {}", awaited.join(", ")) };
        let mode = match route.mode {
            Mode::Enforce => "enforce",
            Mode::Observe => "observe",
            Mode::Pass => "pass",
        };
        let methods = if route.methods.is_empty() { "*".to_owned() } else { join(&route.methods) };
        let (name, path) = (&route.name, &route.path);
        format!("{name}  {methods} {path}  {keys}{awaits}  {mode}  → {upstream}")
    }
}

/// What counts for every route.
pub struct ForAll<'c> {
    pub https: Https,
    pub short_secret: bool,
    /// Whether a route whose secret is missing stops the others.
    pub strict: bool,
    /// Whether there is a store that gates share.
    pub may_share: bool,
    /// How often files are looked at again.
    pub reload_interval: Duration,
    /// Where what is stored outlives the process.
    pub state: Option<&'c StateDir>,
    pub max_buffered: ByteSize,
    /// How long events are remembered where neither route nor provider says.
    pub replay_window: Duration,
    pub application: &'c Application,
    pub exchange: &'c Exchange,
    /// Largest body where neither route nor provider says.
    pub max_body: ByteSize,
    pub trial_secret: Option<&'c Secret>,
}

impl Loader {
    /// The routes of the file; without any, the one that the flags describe.
    pub fn routes(
        &mut self,
        mut raw: Vec<Located<RouteWords>>,
        all: &ForAll,
        flags: &RouteWords,
    ) -> Vec<KeyedRoute> {
        if raw.is_empty() {
            let name = Some(Located::new("default".to_owned(), Origin::Default));
            raw = vec![Located::new(RouteWords { name, ..RouteWords::default() }, Origin::Default)];
        }
        let count = raw.len();
        if count > 1 {
            for name in flags.of_one_route() {
                let message = format!(
                    "speaks of the only route, but the file has {count}: set it in the file's routes"
                );
                self.problem_at(None, &name, message);
            }
        }
        let mut routes = Vec::new();
        for (index, Located { value, .. }) in raw.into_iter().enumerate() {
            let raw = &flags.of_file(value);
            let mut endpoint = Endpoint {
                loader: self,
                index,
                raw,
                preset: None,
                all,
                awaits: Vec::new(),
                looks_keys_up: false,
            };
            routes.extend(endpoint.build(count == 1));
        }
        // Where nothing else could go on, the gate does not start: whoever started it sees it at once.
        let judges = |keyed: &KeyedRoute| !keyed.route.signature.awaits_keys();
        if all.strict || self.is_for_elsewhere() || count == 1 || !routes.iter().any(judges) {
            self.demand_the_missing();
        }
        self.tell_apart(&routes);
        self.keep_apart(&routes);
        self.warn_of_shared(&routes);
        routes
    }

    fn tell_apart(&mut self, routes: &[KeyedRoute]) {
        let mut names = HashSet::new();
        let mut paths = HashSet::new();
        for (index, KeyedRoute { route, .. }) in routes.iter().enumerate() {
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
    fn warn_of_shared(&mut self, routes: &[KeyedRoute]) {
        let mut uses: Vec<(&NamedSecret, Vec<&str>)> = Vec::new();
        for KeyedRoute { route, secrets, .. } in routes {
            for secret in secrets {
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
struct Endpoint<'e> {
    loader: &'e mut Loader,
    index: usize,
    raw: &'e RouteWords,
    preset: Option<raw::Preset>,
    all: &'e ForAll<'e>,
    /// Secrets that are not there.
    awaits: Vec<Awaited>,
    /// Whether its schemes hold no keys of their own.
    looks_keys_up: bool,
}

impl Endpoint<'_> {
    fn build(&mut self, only: bool) -> Option<KeyedRoute> {
        if self.raw.passes() {
            return self.passing();
        }
        let before = self.loader.problems();
        let (provider, mut schemes) = self.provider()?;
        let name = self.name(&provider);
        self.remember_unshown();
        let path = self.path();
        let fetches = self.fetches(&schemes);
        if !fetches {
            self.with_files(&mut schemes);
        }
        let parameters = self.parameters(&mut schemes);
        let mut recipes = self.recipes(&schemes, &parameters);
        self.public_url(path.as_ref(), &mut recipes);
        self.assurance(&name, &recipes);
        let of_tenants = self.tenant_secrets().map(Elsewhere::Tenants);
        self.looks_keys_up = of_tenants.is_some();
        let tenant = self.tenant(path.as_ref(), &recipes);
        let elsewhere = if fetches {
            self.looks_keys_up = true;
            Some(Elsewhere::Published(self.fetched_keys(&provider, &schemes, &recipes, &parameters)))
        } else {
            of_tenants
        };
        self.tell_of_fetches(&name, &recipes);
        let secrets = if self.looks_keys_up { Vec::new() } else { self.secrets(only) };
        let handshakes = self.handshakes(&provider, &recipes, &secrets, &parameters);
        let rotation = self.rotation(&name, &secrets);
        let identity = self.identity(&name, &recipes);
        let methods = self.methods();
        let resign = self.resign(&name, &recipes);
        self.tell_of_stamps(&name, &recipes);
        let signature = self.signature(&provider, recipes, &secrets);
        let signature = signature.map(|signature| {
            let window = self.window(&name, identity, &signature);
            self.events(signature.identified(identity).remembered(window))
        });
        let signature =
            signature.map(|s| if secrets.is_empty() && !self.looks_keys_up { s.awaiting_keys() } else { s });
        let allowlist = self.allowlist();
        let rate_limit = self.rate_limit();
        let failure_budget = self.failure_budget();
        let failure_budget = match &tenant {
            Some(place) if !place.is_in_body() => failure_budget.map(FailureBudget::of_tenants),
            Some(_) | None => failure_budget,
        };
        let max_body = self.max_body();
        let mode = self.mode(&name);
        let expect_every = self.expect_every();
        let answers = self.answers();
        let patience = self.patience(&name);
        let deliver = self.deliver(patience);
        let inbox = self.inbox(&name, mode, &answers);
        self.tell_of_sender(&name, inbox.on);
        let stops = self.stops(&name);
        let never_repeated = !self.repeats() && inbox.on == When::Never;
        if self.loader.problems() > before {
            return None;
        }
        let signature = signature?;
        let route = Route {
            headers: (signature.every_scheme().flat_map(|s| s.recipe().headers()))
                .chain(handshakes.headers())
                .chain(tenant.as_ref().and_then(TenantPlace::header).cloned())
                .collect(),
            name: name.into(),
            provider: provider.into(),
            path: path?,
            tenant,
            methods,
            https: self.all.https,
            allowlist,
            rate_limit,
            failure_budget,
            max_body,
            signature,
            rotation,
            looks_keys_up: elsewhere.is_some(),
            handshakes,
            mode,
            expect_every,
            answers,
            patience,
            never_repeated,
            stops,
            deliver,
            stores: inbox.on != When::Never,
            resign,
            awaits: std::mem::take(&mut self.awaits),
        };
        Some(KeyedRoute { route, secrets, inbox, elsewhere })
    }

    /// What `check` shows as one word, or not at all.
    fn remember_unshown(&mut self) {
        let RouteWords { scheme, handshake, status, .. } = self.raw;
        let said = [
            ("scheme", scheme.as_ref().map(|words| format!("{:?}", words.value))),
            ("handshake", handshake.as_ref().map(|words| format!("{:?}", words.value))),
            ("status", status.as_ref().map(|words| format!("{words:?}"))),
        ];
        for (name, words) in said {
            if let Some(words) = words {
                self.loader.content(&self.key(name), words.as_bytes());
            }
        }
    }

    fn key(&self, name: &str) -> String {
        format!("routes[{}].{name}", self.index)
    }

    /// A problem of this route: of the flag if the value came from there, else where the file has the key, or the
    /// route that lacks it.
    fn problem(&mut self, name: &str, message: impl Into<String>) {
        self.loader.problem(&self.key(name), message);
    }

    /// Flag or environment, else route, else provider, else default.
    fn value<T: fmt::Display + Copy>(
        &mut self,
        name: &str,
        given: Option<&Located<T>>,
        provider: Option<T>,
        default: T,
    ) -> T {
        let provider = provider.map(|value| Located::new(value, Origin::Provider));
        self.loader.pick(&self.key(name), given.or(provider.as_ref()), default)
    }

    /// The provider's name, and its schemes or the route's own.
    fn provider(&mut self) -> Option<(String, Vec<raw::SchemeWords>)> {
        let raw = self.raw;
        match (&raw.provider, &raw.scheme) {
            (Some(provider), Some(_)) => {
                let message = "a route has a provider or a scheme: leave one out";
                self.loader.located_problem(&self.key("provider"), provider, message);
                None
            }
            (None, Some(scheme)) => {
                self.loader.given(&self.key("scheme"), "custom", scheme);
                Some(("custom".to_owned(), vec![scheme.value.clone()]))
            }
            (provider, None) => {
                let default = || Located::new("scalekit".to_owned(), Origin::Default);
                let at = provider.clone().unwrap_or_else(default);
                let key = self.key("provider");
                let Some(preset) = provider::preset(&at.value) else {
                    self.loader.located_problem(&key, &at, provider::unknown(&at.value));
                    return None;
                };
                if preset.evidence == raw::Evidence::Unconfirmed {
                    self.loader.notice(format!(
                        "the preset {} is unconfirmed: try it with a real delivery",
                        at.value
                    ));
                }
                self.loader.given(&key, &at.value, &at);
                let schemes = preset.schemes.clone();
                self.preset = Some(preset);
                Some((at.value, schemes))
            }
        }
    }

    fn name(&mut self, provider: &str) -> String {
        let name = self.raw.name.clone();
        let name = name.unwrap_or_else(|| Located::new(provider.to_owned(), Origin::Default));
        if !is_name(&name.value) {
            self.problem("name", format!("{:?} is no name: write {NAME}", name.value));
        }
        self.loader.given(&self.key("name"), &name.value, &name);
        name.value
    }

    fn path(&mut self) -> Option<PathPattern> {
        let default = || Located::new("/webhooks".to_owned(), Origin::Default);
        let (key, path) = (self.key("path"), self.raw.path.clone().unwrap_or_else(default));
        self.loader.given(&key, &path.value, &path);
        match path.value.parse() {
            Ok(pattern) => Some(pattern),
            Err(message) => {
                self.loader.located_problem::<String>(&key, &path, message);
                None
            }
        }
    }

    fn max_body(&mut self) -> usize {
        let provider = self.preset.as_ref().and_then(|p| p.max_body);
        let size = self.value("max_body", self.raw.max_body.as_ref(), provider, self.all.max_body);
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
        match self.value("mode", self.raw.mode.as_ref(), None, checks::Mode::Enforce) {
            checks::Mode::Enforce => Mode::Enforce,
            checks::Mode::Observe => {
                self.loader.notice(format!("route {name} only observes: it forwards what it would refuse"));
                Mode::Observe
            }
        }
    }

    fn expect_every(&mut self) -> Option<Duration> {
        let (key, every) = (self.key("expect_every"), self.raw.expect_every.as_ref()?);
        let span = every.value;
        if span.0 < Duration::from_secs(1) {
            let message = format!(
                "{span} would always be silence: write at least 1s, or leave it out to expect nothing"
            );
            self.loader.located_problem(&key, every, message);
        }
        self.loader.given(&key, span, every);
        Some(span.0)
    }
}

const NAME: &str = "up to 64 letters, digits, '.', '_' and '-', a letter or digit first";

/// Names become metric labels and header values.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.len() <= 64 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain)
}
