//! How the application is shown that an event came through the gate.

use super::words::SecretSource;
use super::{Endpoint, NAME, is_name};
use crate::config::located::Located;
use crate::config::provider::{self, NamedSecret};
use crate::config::scheme;
use crate::config::secret::Secret;
use crate::gate::resign::{Manner, Resign};
use crate::gate::scheme::Recipe;
use crate::gate::scheme::algorithm::KeyedMac;
use crate::gate::scheme::key::{KeyError, MIN_KEY_LEN};

/// The word for the provider's own way and secret.
const SAME: &str = "same";

impl Endpoint<'_> {
    /// As the route says; `recipes` are the provider's.
    pub(super) fn resign(&mut self, name: &str, recipes: &[Recipe]) -> Option<Resign> {
        let words = self.raw.resign.as_ref()?;
        let (key, manner) = (self.key("resign.as"), &words.manner);
        self.loader.given(&key, &manner.value, manner);
        if manner.value == SAME {
            if let Some(secret) = words.secrets.first() {
                let message =
                    "as: same signs with the route's own secrets: leave these out, or name a preset";
                self.loader.located_problem(&self.key("resign.secrets"), &secret.file, message);
            }
            return self.same(name, recipes, manner);
        }
        let Some(preset) = provider::preset(&manner.value) else {
            let message = format!("{}, or same", provider::unknown(&manner.value));
            self.loader.located_problem(&key, manner, message);
            return None;
        };
        let compiled = preset.schemes.iter().map(|words| scheme::compile(words, None, None));
        let schemes: Vec<_> = compiled.filter_map(Result::ok).collect();
        let judged: Vec<_> = schemes.iter().map(|recipe| (recipe, recipe.can_be_signed_anew())).collect();
        let Some((recipe, _)) = judged.iter().find(|(_, judged)| judged.is_ok()) else {
            let why = judged.iter().find_map(|(_, judged)| judged.err()).unwrap_or("it signs nothing");
            let message = format!(
                "the gate cannot sign as {}: {why}; write standard-webhooks, or another symmetric preset",
                manner.value
            );
            self.loader.located_problem(&key, manner, message);
            return None;
        };
        let recipe = (*recipe).clone();
        let keys = self.keys_to_sign(&recipe, &words.secrets, manner)?;
        Some(Resign::As(Box::new(Manner::new(&schemes, recipe, keys))))
    }

    /// The provider's own way: every scheme of the route shows its signature in a place of its own, so that it
    /// is clear which one an event came under, and one of them can be renewed at least.
    fn same(&mut self, name: &str, recipes: &[Recipe], manner: &Located<String>) -> Option<Resign> {
        let key = self.key("resign.as");
        let mut refuse = |message: String| {
            self.loader.located_problem(&key, manner, message);
            None
        };
        let fixed: Vec<_> = recipes.iter().filter_map(|recipe| recipe.can_be_renewed().err()).collect();
        if let (Some(why), true) = (fixed.first(), fixed.len() == recipes.len()) {
            return refuse(format!(
                "the provider's signature cannot be renewed: {why}; write as: standard-webhooks with a secret, \
                 or leave it out"
            ));
        }
        let places: Vec<_> = recipes.iter().flat_map(|recipe| &recipe.signature.from).collect();
        let shared = places.iter().enumerate().any(|(n, place)| places[..n].contains(place));
        if recipes.len() > 1 && (shared || recipes.iter().any(|recipe| !recipe.when.is_empty())) {
            return refuse(
                "the provider signs in several ways that only the signature itself tells apart: write \
                 as: standard-webhooks with a secret"
                    .to_owned(),
            );
        }
        if let Some(why) = fixed.first() {
            self.loader.notice(format!(
                "route {name}: some of the provider's signatures stay as they came, for {why}"
            ));
        }
        Some(Resign::Same)
    }

    fn keys_to_sign(
        &mut self,
        recipe: &Recipe,
        sources: &[SecretSource],
        manner: &Located<String>,
    ) -> Option<Vec<KeyedMac>> {
        if sources.is_empty() {
            let message = "no secret to sign with: write secrets: [{ file: … }] beside it, newest first; the \
                           application gets the same";
            self.loader.located_problem(&self.key("resign.secrets"), manner, message);
            return None;
        }
        let mut keys = Vec::new();
        for (n, source) in sources.iter().enumerate() {
            let key = self.key(&format!("resign.secrets[{n}].file"));
            let Some(secret) = self.secret_to_sign(&key, &source.file) else { continue };
            let shown = format!("{} ({})", source.file.value.display(), secret.fingerprint());
            let shown = match &source.id {
                Some(id) => format!("{} {shown}", id.value),
                None => shown,
            };
            self.loader.given(&self.key(&format!("resign.secrets[{n}]")), shown, &source.file);
            if let Some(id) = source.id.as_ref().filter(|id| !is_name(&id.value)) {
                let message = format!("{:?} is no name: write {NAME}", id.value);
                self.loader.located_problem(&self.key(&format!("resign.secrets[{n}].id")), id, message);
            }
            if secret.is_unseen() {
                continue;
            }
            let named = NamedSecret { id: "".into(), secret, not_after_ms: None };
            match self.key_to_sign(recipe, &named.secret) {
                Ok(signer) => keys.push(signer),
                Err(error) => {
                    let message = format!("{}: {error}", source.file.value.display());
                    self.loader.located_problem(&key, &source.file, message);
                }
            }
        }
        Some(keys)
    }

    fn key_to_sign(&self, recipe: &Recipe, secret: &Secret) -> Result<KeyedMac, KeyError> {
        let length = recipe.key.decode(secret.expose())?.len();
        if length < MIN_KEY_LEN && !self.all.short_secret {
            return Err(KeyError::Short(length));
        }
        recipe.signer(secret.expose())
    }

    /// The gate does not start without it: the application would refuse every event.
    fn secret_to_sign(&mut self, key: &str, file: &Located<std::path::PathBuf>) -> Option<Secret> {
        match self.loader.try_read(key, file) {
            Ok(Some(bytes)) => self.secret_of(key, file, bytes),
            Ok(None) => self.loader.unseen_secret(&file.value),
            Err(problem) => {
                let message = format!("{}: the application would not know its events", problem.message);
                self.loader.located_problem(key, file, message);
                None
            }
        }
    }
}
