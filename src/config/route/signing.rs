//! How the deliveries of a route are signed, and with which secrets.

use std::path::PathBuf;

use super::{Endpoint, NAME, is_name};
use crate::clock;
use crate::config::loader::join;
use crate::config::located::Located;
use crate::config::provider::{self, NamedSecret};
use crate::config::secret::Secret;
use crate::config::units::{Span, distinct};
use crate::config::{Origin, raw, scheme};
use crate::gate::fetched::parameters::Parameters;
use crate::gate::filter::signature::{Scheme, Signature};
use crate::gate::parse::url::PublicUrl;
use crate::gate::rotation::{Advice, Rotation};
use crate::gate::route::{Awaited, PathPattern};
use crate::gate::scheme::{Assurance, Recipe};

impl Endpoint<'_> {
    pub(super) fn recipes(&mut self, schemes: &[raw::SchemeWords], route: &Parameters) -> Vec<Recipe> {
        let (past, ahead) = (self.raw.tolerance.as_ref(), self.raw.future_tolerance.as_ref());
        let (tolerance, future) = (past.map(|span| span.value.0), ahead.map(|span| span.value.0));
        let mut recipes = Vec::new();
        for scheme in schemes {
            match scheme::compile_on(scheme, tolerance, future, route) {
                Ok(recipe) => recipes.push(recipe),
                Err(fault) => {
                    let place = self.raw.scheme.as_ref().and_then(|s| self.loader.place(s.at));
                    self.loader.problem_at(place, &self.key(&format!("scheme.{}", fault.key)), fault.message);
                }
            }
        }
        if let Err(fault) = scheme::check_choice(&recipes) {
            self.problem(&format!("scheme.{}", fault.key), fault.message);
        }
        let rules: Vec<_> = recipes.iter().filter_map(|recipe| recipe.timestamp.as_ref()).collect();
        if rules.is_empty() && !recipes.is_empty() {
            for (name, given) in [("tolerance", past), ("future_tolerance", ahead)] {
                if let Some(given) = given {
                    let key = given.given_as.as_deref().map_or_else(|| self.key(name), str::to_owned);
                    self.loader.notice(format!(
                        "{key} has no effect: this provider signs no time, so nobody can tell how old an event is; \
                         the replay memory alone keeps an old one out"
                    ));
                }
            }
        } else {
            for (name, given, shown) in [
                ("tolerance", past, distinct(rules.iter().map(|rule| Span(rule.tolerance)))),
                ("future_tolerance", ahead, distinct(rules.iter().map(|rule| Span(rule.future_tolerance)))),
            ] {
                let shown = join(&shown);
                match given {
                    Some(given) => self.loader.given(&self.key(name), shown, given),
                    None => self.loader.setting(&self.key(name), shown, Origin::Provider),
                }
            }
        }
        recipes
    }

    /// What the provider was given, if it signs that.
    pub(super) fn public_url(&mut self, path: Option<&PathPattern>, recipes: &mut [Recipe]) {
        let Some(raw) = &self.raw.public_url else {
            if recipes.iter().any(Recipe::needs_url) {
                let remedy = "this provider signs the URL that it was given: write public_url: https://…";
                self.problem("public_url", remedy);
            }
            return;
        };
        let key = self.key("public_url");
        self.loader.given(&key, &raw.value, raw);
        let url: PublicUrl = match raw.value.parse() {
            Ok(url) => url,
            Err(message) => return self.loader.located_problem(&key, raw, message),
        };
        if url.has_path() && matches!(path, Some(PathPattern::Tenant(..))) {
            let message = "names one path, and each tenant has its own: leave out all behind the host, as in https://example.com";
            self.loader.located_problem(&key, raw, message);
        }
        if !url.has_path() && matches!(path, Some(PathPattern::Prefix(_))) {
            let message =
                "names no path, and the route has many: write the whole URL, or a route for each path";
            self.loader.located_problem(&key, raw, message);
        }
        for recipe in recipes {
            recipe.url = Some(url.clone());
        }
    }

    /// What passes on this route may prove less than its user thinks.
    pub(super) fn assurance(&mut self, name: &str, recipes: &[Recipe]) {
        let any = |assurance| recipes.iter().any(|recipe| recipe.assurance == assurance);
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

    /// The route's own, else the provider's, else POST.
    pub(super) fn methods(&mut self) -> Vec<http::Method> {
        let key = self.key("methods");
        let of_provider = self.preset.as_ref().map(|preset| preset.methods.clone()).unwrap_or_default();
        let own = self.raw.methods.as_ref();
        let methods = provider::methods(own.map_or(&of_provider, |own| &own.value.0));
        match (&methods, own) {
            (_, Some(own)) if own.value.0.is_empty() => {
                self.loader.located_problem(&key, own, format!("is empty: {}", provider::METHODS));
            }
            (Ok(methods), Some(own)) => self.loader.setting(&key, join(methods), own.origin),
            (Err(message), Some(own)) => self.loader.located_problem(&key, own, message.as_str()),
            (Err(message), None) => self.problem("methods", message.as_str()),
            (Ok(_), None) => {}
        }
        methods.unwrap_or_default()
    }

    pub(super) fn secrets(&mut self, only: bool) -> Vec<NamedSecret> {
        let sources = self.raw.secrets.as_deref().unwrap_or_default();
        if sources.is_empty() {
            return self.trial_secret(only).into_iter().collect();
        }
        let mut secrets = Vec::<NamedSecret>::new();
        for (n, source) in sources.iter().enumerate() {
            let key = self.key(&format!("secrets[{n}].file"));
            let Some(file) = &source.file else {
                self.problem(
                    &format!("secrets[{n}].file"),
                    "is missing: name the file that holds the secret",
                );
                continue;
            };
            let file_name = || file.value.file_name().map(|name| name.to_string_lossy().into_owned());
            let id = source.id.clone().or_else(file_name).unwrap_or_else(|| n.to_string());
            if !is_name(&id) {
                let (key, message) = match source.id {
                    Some(_) => ("id", format!("{id:?} is no name: write {NAME}")),
                    None => {
                        let remedy = "rename the file, or write id: beside it in the file's routes";
                        ("file", format!("the file's name {id:?} is no key id: {remedy}, with {NAME}"))
                    }
                };
                let key = self.key(&format!("secrets[{n}].{key}"));
                self.loader.located_problem(&key, file, message);
            } else if secrets.iter().any(|known| *known.id == *id) {
                let message = format!("the key id {id} is used twice: give each secret its own id");
                self.loader.located_problem(&key, file, message);
            } else if let Some(secret) = self.read_secret(&key, &id, file) {
                let mut shown = format!("{id} ({}, {})", file.value.display(), secret.fingerprint());
                if let Some(end) = source.not_after {
                    shown = format!("{shown} until {end}");
                }
                self.loader.given(&self.key(&format!("secrets[{n}]")), shown, file);
                self.tell_of_text(file, &secret);
                let not_after_ms = source.not_after.map(|end| end.ms);
                secrets.push(NamedSecret { id: id.into(), secret, not_after_ms });
            } else if self.awaits.iter().any(|awaited| *awaited.key == *id) {
                let shown = format!("{id} ({}, missing)", file.value.display());
                self.loader.given(&self.key(&format!("secrets[{n}]")), shown, file);
            }
        }
        secrets
    }

    /// A text that may not be what was meant.
    fn tell_of_text(&mut self, file: &Located<PathBuf>, secret: &Secret) {
        let shown = file.value.display();
        if let Some(oddity) = secret.oddity() {
            self.loader.notice(format!("{shown}: the secret {oddity}"));
        }
        let preset = self.preset.as_ref();
        let of_api = preset.and_then(|preset| {
            let prefix = preset.api_keys.iter().find(|p| secret.expose().starts_with(p.as_bytes()))?;
            Some((&preset.title, prefix))
        });
        if let Some((title, prefix)) = of_api {
            self.loader.notice(format!(
                "{shown}: begins with {prefix}, as {title}'s API keys do: events are signed with another secret, which \
                 {title} shows beside the webhook"
            ));
        }
    }

    pub(super) fn read_secret(&mut self, key: &str, id: &str, file: &Located<PathBuf>) -> Option<Secret> {
        let bytes = match self.loader.try_read(key, file) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return self.loader.unseen_secret(&file.value),
            Err(problem) => {
                self.awaits.push(Awaited { key: id.into(), why: problem.message.as_str().into() });
                self.loader.missing(problem);
                return None;
            }
        };
        self.secret_of(key, file, bytes)
    }

    /// The secret that a file holds.
    pub(super) fn secret_of(&mut self, key: &str, file: &Located<PathBuf>, bytes: Vec<u8>) -> Option<Secret> {
        let (secret, newline) = Secret::from_bytes(bytes);
        let shown = file.value.display();
        if secret.is_empty() {
            let message = format!("{shown} is empty: put the provider's signing secret into it");
            self.loader.located_problem(key, file, message);
            return None;
        }
        if newline {
            self.loader.notice(format!("{shown}: the newline at its end is not part of the secret"));
        }
        Some(secret)
    }

    pub(super) fn trial_secret(&mut self, only: bool) -> Option<NamedSecret> {
        let Some(secret) = self.all.trial_secret.filter(|_| only).cloned() else {
            let remedy = if only && self.raw.provider.is_none() && self.loader.has_file() {
                "no secret: the file holds no routes; write them there (routes: with name, path, provider and \
                 secrets), or give --provider and --secret-file"
            } else {
                "no secret: give --secret-file, or secrets in the route, or HOOKGATE_SECRET for a trial"
            };
            self.problem("secrets", remedy);
            return None;
        };
        self.loader.digest(secret.expose());
        let given = Located { given_as: Some("HOOKGATE_SECRET".into()), ..Located::new((), Origin::Env) };
        self.loader.given(&self.key("secrets[0]"), "env (HOOKGATE_SECRET)", &given);
        self.loader.notice(
            "HOOKGATE_SECRET is for trials: a file can be rotated, and its content is not in the environment",
        );
        Some(NamedSecret { id: "env".into(), secret, not_after_ms: None })
    }

    /// How long each secret is good for. That one has ended is no error: the gate must start
    /// today with what it ran with yesterday, and other routes have nothing to do with it.
    pub(super) fn rotation(&mut self, route: &str, secrets: &[NamedSecret]) -> Rotation {
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
    pub(super) fn signature(
        &mut self,
        provider: &str,
        recipes: Vec<Recipe>,
        secrets: &[NamedSecret],
    ) -> Option<Signature> {
        if secrets.is_empty() && (!self.awaits.is_empty() || self.looks_keys_up) {
            let unkeyed = |recipe| Scheme::new(recipe, Vec::new());
            return Some(Signature::new(recipes.into_iter().map(unkeyed).collect()));
        }
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
            if !scheme.keys().is_empty() || secrets.iter().any(|named| named.secret.is_unseen()) {
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
            let message = format!("{}; {remedy}", unfit.join("; "));
            match self.loader.given_as(&self.key("secrets[0]")) {
                Some(flag) => self.loader.problem_at(None, &flag, message),
                None => self.problem("secrets", message),
            }
            return None;
        }
        for text in unfit {
            self.loader.notice(format!("{text}; that form is left out for it"));
        }
        Some(Signature::new(schemes))
    }
}
