//! What one endpoint demands: the words of a route, over its provider's preset, compiled.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde_saphyr::Spanned;

use super::handshake;
use super::loader::{Loader, Located, flag_value, join};
use super::provider::{self, NamedSecret};
use super::secret::Secret;
use super::units::{ByteSize, Cidr, Rate, Senders, Span};
use super::{AddressFile, Origin, Place, raw, scheme};
use crate::clock;
use crate::gate::answer::StatusOverrides;
use crate::gate::chain::{Mode, PathPattern, Route};
use crate::gate::filter::failure_budget::FailureBudget;
use crate::gate::filter::https::Https;
use crate::gate::filter::ip_allowlist::IpAllowlist;
use crate::gate::filter::rate_limit::{Quota, RateLimit};
use crate::gate::filter::signature::Signature;
use crate::gate::handshake::{AnsweredBy, Handshakes};
use crate::gate::rotation::{Advice, DAY_MS, Rotation};
use crate::gate::scheme::algorithm::Algorithm;
use crate::gate::scheme::content::{Piece, Segment};
use crate::gate::scheme::url::PublicUrl;
use crate::gate::scheme::{Assurance, Recipe};

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
            self.problem("name", format!("\"{name}\" is no name: write letters, digits, '.', '_' and '-'"));
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

    fn recipes(&mut self, schemes: &[raw::Scheme]) -> Vec<Recipe> {
        let tolerance = self.all.tolerance.or(self.raw.tolerance).map(|s| s.0);
        let future = self.all.future_tolerance.or(self.raw.future_tolerance).map(|s| s.0);
        let mut recipes = Vec::new();
        for scheme in schemes {
            match scheme::compile(scheme, tolerance, future) {
                Ok(recipe) => recipes.push(recipe),
                Err(fault) => {
                    let place = self.raw.scheme.as_ref().and_then(|s| self.loader.place(s.referenced));
                    self.loader.problem_at(place, &self.key(&format!("scheme.{}", fault.key)), fault.message);
                }
            }
        }
        if let Some(rule) = recipes.iter().find_map(|recipe| recipe.timestamp.as_ref()) {
            let all = self.all;
            let (past, ahead) = (Some(Span(rule.tolerance)), Some(Span(rule.future_tolerance)));
            let default = Span(scheme::DEFAULT_TOLERANCE);
            self.value("tolerance", all.tolerance, self.raw.tolerance, past, default);
            self.value("future_tolerance", all.future_tolerance, self.raw.future_tolerance, ahead, default);
        }
        recipes
    }

    /// What the provider was given, if it signs that.
    fn public_url(&mut self, path: Option<&PathPattern>, recipes: &mut [Recipe]) {
        let Some(raw) = &self.raw.public_url else {
            if recipes.iter().any(Recipe::needs_url) {
                let remedy = "this provider signs the URL that it was given: write public_url: https://…";
                self.problem("public_url", remedy);
            }
            return;
        };
        let text = self.loader.located(&self.key("public_url"), "public_url", raw);
        self.loader.setting(&text.key, &text.value, text.origin);
        let url: PublicUrl = match text.value.parse() {
            Ok(url) => url,
            Err(message) => return self.loader.located_problem(&text, message),
        };
        if !url.has_path() && matches!(path, Some(PathPattern::Prefix(_))) {
            let message =
                "names no path, and the route has many: write the whole URL, or a route for each path";
            self.loader.located_problem(&text, message);
        }
        for recipe in recipes {
            *recipe = recipe.clone().at(Some(&url));
        }
    }

    /// What passes on this route may prove less than its user thinks.
    fn assurance(&mut self, name: &str, recipes: &[Recipe]) {
        let any = |assurance| recipes.iter().any(|recipe| recipe.assurance() == assurance);
        if any(Assurance::Partial) {
            self.loader.notice(format!(
                "route {name}: the provider signs a part of each delivery only: the rest of the body could be changed on the way"
            ));
        }
        if any(Assurance::Authenticated) {
            self.loader.notice(format!(
                "route {name}: the provider signs nothing: a secret that is the same every time authenticates the sender, and nothing verifies what it sent"
            ));
        }
    }

    fn methods(&self) -> Vec<http::Method> {
        let named = self.preset.iter().flat_map(|preset| &preset.methods);
        let methods: Vec<_> = named.filter_map(|name| name.parse().ok()).collect();
        if methods.is_empty() { vec![http::Method::POST] } else { methods }
    }

    fn secrets(&mut self, only: bool) -> Vec<NamedSecret> {
        if self.raw.secrets.is_empty() {
            return self.trial_secret(only).into_iter().collect();
        }
        let mut secrets = Vec::<NamedSecret>::new();
        for (n, source) in self.raw.secrets.iter().enumerate() {
            let file =
                self.loader.located(&self.key(&format!("secrets[{n}].file")), "secret_file", &source.file);
            let file_name = || file.value.file_name().map(|name| name.to_string_lossy().into_owned());
            let id = source.id.clone().or_else(file_name).unwrap_or_else(|| n.to_string());
            if secrets.iter().any(|known| *known.id == *id) {
                let message = format!("the key id {id} is used twice: give each secret its own id");
                self.loader.located_problem(&file, message);
            } else if let Some(secret) = self.read_secret(&file) {
                let mut shown = format!("{id} ({})", file.value.display());
                if let Some(end) = source.not_after {
                    shown = format!("{shown} until {end}");
                }
                self.loader.setting(&self.key(&format!("secrets[{n}]")), shown, file.origin);
                let not_after_ms = source.not_after.map(|end| end.ms);
                secrets.push(NamedSecret { id: id.into(), secret, not_after_ms });
            }
        }
        secrets
    }

    fn read_secret(&mut self, file: &Located<PathBuf>) -> Option<Secret> {
        let (secret, newline) = Secret::from_bytes(self.loader.read(file)?);
        let shown = file.value.display();
        if secret.is_empty() {
            let message = format!("{shown} is empty: put the provider's signing secret into it");
            self.loader.located_problem(file, message);
            return None;
        }
        if newline {
            self.loader.notice(format!("{shown}: the newline at its end is not part of the secret"));
        }
        Some(secret)
    }

    fn trial_secret(&mut self, only: bool) -> Option<NamedSecret> {
        let Some(secret) = self.loader.given.secret.clone().filter(|_| only) else {
            let remedy =
                "no secret: give --secret-file, or secrets in the route, or HOOKGATE_SECRET for a trial";
            self.problem("secrets", remedy);
            return None;
        };
        self.loader.digest(secret.expose());
        self.loader.setting(&self.key("secrets[0]"), "env (HOOKGATE_SECRET)", Origin::Env);
        self.loader.notice(
            "HOOKGATE_SECRET is for trials: a file can be rotated, and its content is not in the environment",
        );
        Some(NamedSecret { id: "env".into(), secret, not_after_ms: None })
    }

    /// How long each secret is good for. That one has ended is no error: the gate must start
    /// today with what it ran with yesterday, and other routes have nothing to do with it.
    fn rotation(&mut self, route: &str, secrets: &[NamedSecret]) -> Rotation {
        let rotation = provider::rotation(secrets);
        let now = clock::now();
        for key in rotation.keys() {
            if let Some(advice) = Advice::of_end(key, now) {
                self.loader.notice(advice.text(route, &key.id));
            }
        }
        if !secrets.is_empty() && rotation.keys().iter().all(|key| key.has_ended(now)) {
            let message = format!(
                "route {route}: every secret has passed its not_after: nothing is accepted; add the provider's current one"
            );
            self.loader.notice(message);
        }
        rotation
    }

    /// The recipes that have a key. One that no secret fits is left out, and said.
    fn signature(
        &mut self,
        provider: &str,
        recipes: Vec<Recipe>,
        secrets: &[NamedSecret],
    ) -> Option<Signature> {
        if recipes.is_empty() || secrets.is_empty() {
            return None; // said already
        }
        let mut schemes = Vec::new();
        let mut unfit = Vec::new();
        for recipe in recipes {
            let place = recipe.signature.from[0].to_string();
            let place = place.strip_prefix("header:").unwrap_or(&place);
            let (scheme, errors) = provider::keyed(recipe, secrets, self.all.short_secret);
            unfit.extend(
                errors.iter().map(|(id, e)| format!("{provider}'s {place} cannot use the secret {id}: {e}")),
            );
            if !scheme.keys().is_empty() {
                schemes.push(scheme);
            }
        }
        if schemes.is_empty() {
            let short = unfit.iter().any(|text| text.contains("fewer than"));
            let remedy = if short {
                "use a longer one, or --insecure-short-secret for a trial"
            } else {
                "store it as the provider shows it"
            };
            self.problem("secrets", format!("{}; {remedy}", unfit.join("; ")));
            return None;
        }
        for text in unfit {
            self.loader.notice(format!("{text}; that form is left out for it"));
        }
        Some(Signature::new(schemes))
    }

    /// The provider's handshakes, or the route's own, and who answers them.
    fn handshakes(&mut self, provider: &str, recipes: &[Recipe], secrets: &[NamedSecret]) -> Handshakes {
        let words = self.raw.handshake.as_ref();
        let at = words.map(|words| self.loader.located(&self.key("handshake"), "handshake", words));
        let of_provider = self.preset.as_ref().map(|p| p.handshake.clone()).unwrap_or_default();
        let (mut list, mode) = match words.map(|words| &words.value) {
            None => (of_provider, handshake::Mode::Answer),
            Some(handshake::Words::Mode(mode)) => (of_provider, *mode),
            Some(handshake::Words::Own(list)) => (list.clone(), handshake::Mode::Answer),
        };
        if let (Some(at), true) = (&at, list.is_empty()) {
            let message = format!("{provider} has no handshake: leave it out, or list the route's own");
            self.loader.located_problem(at, message);
        }
        if mode != handshake::Mode::Answer {
            // Whoever answers, compares the token.
            for raw in &mut list {
                raw.token = None;
            }
        }
        let token = self.handshake_token(list.iter().any(|raw| raw.token.is_some()), provider);
        let mut handshakes = Vec::new();
        for raw in &list {
            match (handshake::compile(raw, token.as_ref()), &at) {
                (Ok(handshake), _) => handshakes.extend(handshake),
                (Err(fault), Some(at)) => self.loader.located_problem(at, fault.message),
                (Err(fault), None) => self.problem("handshake", fault.message),
            }
        }
        if !list.is_empty() {
            let origin = at.map_or(Origin::Provider, |at| at.origin);
            self.loader.setting(&self.key("handshake"), mode, origin);
        }
        let plain = |recipe: &Recipe| {
            let holds_body = |s: &Segment| matches!(s, Segment::Piece(Piece::Body, None));
            !recipe.algorithm.is_public() && recipe.content.segments().iter().any(holds_body)
        };
        if handshakes.iter().any(|handshake| handshake.answer.signs()) && !recipes.iter().all(plain) {
            let message = "whoever asks would get signatures that are good for events: {hmac:…} needs a \
                           shared secret, and a content that holds {body} as it is";
            self.problem("handshake", message);
        }
        let decoded = |NamedSecret { id, secret, .. }: &NamedSecret| {
            let key = recipes.first()?.key.decode(secret.expose()).ok()?;
            Some((Arc::clone(id), Algorithm::HmacSha256.keyed(&key)?))
        };
        let answered_by = match mode {
            handshake::Mode::Answer => AnsweredBy::Gate,
            handshake::Mode::Forward => AnsweredBy::Application,
            handshake::Mode::Off => AnsweredBy::Nobody,
        };
        Handshakes::new(handshakes, secrets.iter().filter_map(decoded).collect(), answered_by)
    }

    fn handshake_token(&mut self, wanted: bool, provider: &str) -> Option<Secret> {
        let key = self.key("handshake_token_file");
        match &self.raw.handshake_token_file {
            Some(file) => {
                let file = self.loader.located(&key, "handshake_token_file", file);
                if !wanted {
                    let message = format!("the gate asks {provider} for no token: leave it out");
                    self.loader.located_problem(&file, message);
                }
                let token = self.read_secret(&file)?;
                self.loader.setting(&key, file.value.display(), file.origin);
                Some(token)
            }
            None => {
                if wanted {
                    let message = format!(
                        "{provider} sets a subscription up with a token: name its file in {key} to have that answered"
                    );
                    self.loader.notice(message);
                }
                None
            }
        }
    }

    fn allowlist(&mut self) -> IpAllowlist {
        let plain = |list: &Vec<Cidr>| list.iter().map(|c| c.0).collect::<Vec<IpNet>>();
        let raw = self.raw;
        let mut networks = raw.allow_ips.as_ref().map(|senders| self.senders(senders));
        let mut origin = self.loader.given.origins.get("allow_ip").copied().unwrap_or(Origin::File);
        if let Some(file) = &self.raw.allow_ip_file {
            let file = self.loader.located(&self.key("allow_ip_file"), "allow_ip_file", file);
            origin = file.origin;
            networks.get_or_insert_default().extend(self.networks_of(&file));
        }
        if networks.is_none() {
            networks = self.preset.as_ref().and_then(|p| p.allow_ips.as_ref()).map(plain);
            origin = Origin::Provider;
        }
        let key = self.key("allow_ips");
        let Some(networks) = networks else {
            self.loader.setting(&key, "any", Origin::Default);
            return IpAllowlist::Any;
        };
        if networks.is_empty() {
            self.loader.notice(format!("{key} is empty: nobody may send"));
        }
        self.loader.setting(&key, join(&networks), origin);
        IpAllowlist::networks(&networks)
    }

    fn senders(&mut self, senders: &[Senders]) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for sender in senders {
            match sender {
                Senders::Network(network) => networks.push(network.0),
                Senders::Published => networks.extend(self.published()),
            }
        }
        networks
    }

    /// The addresses that the provider publishes, as the preset knows them.
    fn published(&mut self) -> Vec<IpNet> {
        let plain = |list: &[Cidr]| list.iter().map(|c| c.0).collect::<Vec<IpNet>>();
        let preset = self.preset.as_ref();
        let dated = preset.and_then(|p| p.published_ips.clone());
        if let Some(raw::PublishedIps { as_of, source, networks }) = dated {
            let days = (clock::now().wall_ms - as_of.ms).max(0) / DAY_MS;
            let (date, key) = (as_of.to_string(), self.key("allow_ips"));
            let date = date.split('T').next().unwrap_or_default();
            self.loader.notice(format!(
                "{key}: the published addresses are of {date}, {days} days old: compare them with {source}"
            ));
            return plain(&networks);
        }
        if let Some(demanded) = preset.and_then(|p| p.allow_ips.as_ref()) {
            return plain(demanded);
        }
        self.problem(
            "allow_ips",
            "the preset holds no published addresses: name networks, or a file in allow_ip_file",
        );
        Vec::new()
    }

    fn networks_of(&mut self, file: &Located<PathBuf>) -> Vec<IpNet> {
        let Some(bytes) = self.loader.read(file) else { return Vec::new() };
        let mut networks = Vec::new();
        for (line, text) in (1u64..).zip(String::from_utf8_lossy(&bytes).lines()) {
            let text = text.split('#').next().unwrap_or_default().trim();
            match text.parse::<Cidr>() {
                _ if text.is_empty() => {}
                Ok(network) => networks.push(network.0),
                Err(message) => {
                    let place = Place { file: file.value.clone(), line, column: 1 };
                    self.loader.problem_at(Some(place), &file.key, message);
                }
            }
        }
        let count = IpNet::aggregate(&networks).len();
        if count == 0 {
            self.loader.notice(format!("{}: {} holds no network", file.key, file.value.display()));
        }
        self.loader.setting(&file.key, format!("{} ({count} networks)", file.value.display()), file.origin);
        self.loader.address_file(AddressFile {
            key: file.key.clone(),
            path: file.value.clone(),
            networks: count,
        });
        networks
    }

    fn rate_limit(&mut self) -> Option<RateLimit> {
        let provider = self.preset.as_ref().and_then(|p| p.rate_limit);
        let own = self.raw.rate_limit;
        let rate = self.value(
            "rate_limit",
            self.all.rate_limit,
            own.and_then(|own| own.limit),
            provider,
            A_HUNDRED_A_MINUTE,
        );
        let shared = own.is_some_and(|own| own.shared);
        if shared {
            self.loader.setting(&self.key("rate_limit.shared"), shared, Origin::File);
        }
        if shared && !self.all.may_share {
            let remedy = "gates share a limit through their replay store: set replay.store to a redis:// URL";
            self.problem("rate_limit.shared", remedy);
        }
        Some(RateLimit::new(self.quota("rate_limit", rate)?).shared(shared))
    }

    fn failure_budget(&mut self) -> Option<FailureBudget> {
        let rate = self.value(
            "failure_limit",
            self.all.failure_limit,
            self.raw.failure_limit,
            None,
            A_HUNDRED_A_MINUTE,
        );
        let lane = Quota::new(10, Duration::from_secs(1))?;
        Some(FailureBudget::new(self.quota("failure_limit", rate)?, lane))
    }

    fn quota(&mut self, name: &str, rate: Rate) -> Option<Quota> {
        let Rate::Limit { count, period } = rate else { return None };
        let quota = Quota::new(count, period);
        if quota.is_none() {
            self.problem(name, format!("{rate} is out of range: name a shorter period"));
        }
        quota
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

/// Names become metric labels and header values.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.len() <= 64 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain)
}
