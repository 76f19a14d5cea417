//! The catalogue of providers, and the secrets that fit what a provider does.

use std::sync::Arc;

use http::Method;

use super::Fault;
use super::handshake::{self, RawAnswer};
use super::loader::closest;
use super::raw;
use super::secret::Secret;
use crate::gate::filter::signature::Scheme;
use crate::gate::handshake::{AnsweredBy, Handshakes};
use crate::gate::rotation::{KeyLife, Rotation};
use crate::gate::scheme::algorithm::{Algorithm, KeyedMac};
use crate::gate::scheme::key::{KeyError, MIN_KEY_LEN};
use crate::gate::scheme::{Key, Recipe, Verifier};

/// The built-in catalogue: name and YAML text, sorted by name.
pub const PRESETS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/presets.rs"));

/// The preset of that name.
pub fn preset(name: &str) -> Option<raw::Preset> {
    let (_, text) = PRESETS.iter().find(|(preset, _)| *preset == name)?;
    Some(parse(text).expect("the catalogue is tested: every preset in it parses"))
}

/// How methods are written.
pub const METHODS: &str = "write methods such as POST, PUT or GET, in capitals as HTTP has them";

/// The methods that are named so; POST if none is.
pub fn methods(named: &[String]) -> Result<Vec<Method>, String> {
    let mut methods = Vec::new();
    for name in named {
        let known = name.bytes().all(|b| b.is_ascii_uppercase()) && name != "CONNECT";
        match name.parse() {
            Ok(method) if known && methods.contains(&method) => {}
            Ok(method) if known => methods.push(method),
            Ok(_) | Err(_) => {
                return Err(format!("\"{name}\" is no method to send an event with: {METHODS}"));
            }
        }
    }
    Ok(if methods.is_empty() { vec![Method::POST] } else { methods })
}

/// What to say of a name that is no preset's.
pub fn unknown(name: &str) -> String {
    let names: Vec<_> = PRESETS.iter().map(|(name, _)| *name).collect();
    match closest(name, &names) {
        Some(close) => format!("\"{name}\" is no preset: did you mean {close}?"),
        None => format!("\"{name}\" is no preset: write one of {}", names.join(", ")),
    }
}

fn parse(text: &str) -> Result<raw::Preset, serde_saphyr::Error> {
    serde_saphyr::from_str(text)
}

/// A secret with the id that stands for it.
#[derive(Clone, Debug)]
pub struct NamedSecret {
    pub id: Arc<str>,
    pub secret: Secret,
    /// Milliseconds since the epoch.
    pub not_after_ms: Option<i64>,
}

/// The keys that a provider's questions are answered with; `recipe` is its first one.
pub fn answering(recipe: Option<&Recipe>, secrets: &[NamedSecret]) -> Vec<(Arc<str>, KeyedMac)> {
    let decoded = |NamedSecret { id, secret, .. }: &NamedSecret| {
        let key = recipe?.key.decode(secret.expose()).ok()?;
        Some((Arc::clone(id), Algorithm::HmacSha256.keyed(&key)?))
    };
    secrets.iter().filter_map(decoded).collect()
}

/// The questions of a preset that the gate answers without being told anything.
pub fn handshakes(preset: &raw::Preset, keys: Vec<(Arc<str>, KeyedMac)>) -> Result<Handshakes, Fault> {
    let mut list = Vec::new();
    for raw in preset.handshake.iter().filter(|raw| raw.answer != RawAnswer::Application && !raw.visits()) {
        list.extend(handshake::compile(raw, handshake::OfRoute::default())?);
    }
    Ok(Handshakes::new(list, keys, AnsweredBy::Gate))
}

/// How long each of them is good for.
pub fn rotation(secrets: &[NamedSecret]) -> Rotation {
    let life = |s: &NamedSecret| KeyLife { id: Arc::clone(&s.id), not_after_ms: s.not_after_ms };
    Rotation::new(secrets.iter().map(life).collect())
}

/// A recipe with the secrets that fit it, and why the others do not.
pub fn keyed(
    recipe: Recipe,
    secrets: &[NamedSecret],
    short_allowed: bool,
) -> (Scheme, Vec<(Arc<str>, KeyError)>) {
    let (keys, unfit) = keys(&recipe, secrets, short_allowed);
    (Scheme::new(recipe, keys), unfit)
}

/// The keys that secrets are under a recipe, and why others are none.
pub fn keys(
    recipe: &Recipe,
    secrets: &[NamedSecret],
    short_allowed: bool,
) -> (Vec<Key>, Vec<(Arc<str>, KeyError)>) {
    let mut keys = Vec::new();
    let mut unfit = Vec::new();
    for NamedSecret { id, secret, .. } in secrets.iter().filter(|named| !named.secret.is_unseen()) {
        match verifier(recipe, secret, short_allowed) {
            Ok(verifier) => keys.push(Key { id: Arc::clone(id), verifier }),
            Err(error) => unfit.push((Arc::clone(id), error)),
        }
    }
    (keys, unfit)
}

fn verifier(recipe: &Recipe, secret: &Secret, short_allowed: bool) -> Result<Verifier, KeyError> {
    let key = recipe.key.decode(secret.expose())?;
    if key.len() < MIN_KEY_LEN && !short_allowed {
        return Err(KeyError::Short(key.len()));
    }
    Verifier::new(recipe.algorithm, &key)
}

#[cfg(test)]
mod tests {
    use super::super::scheme::compile;
    use super::*;
    use crate::config::scheme::check_choice;
    use crate::gate::filter::replay::outlasts;
    use crate::gate::identity::Rule;
    use std::time::Duration;

    #[test]
    fn every_preset_parses_and_compiles() {
        for (name, text) in PRESETS {
            let preset = parse(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(!preset.schemes.is_empty(), "{name} holds no scheme");
            for scheme in &preset.schemes {
                compile(scheme, None, None).unwrap_or_else(|e| panic!("{name}: {}: {}", e.key, e.message));
            }
        }
    }

    #[test]
    fn no_preset_forgets_what_its_sender_may_still_send() {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        for (name, text) in PRESETS {
            let preset = parse(text).unwrap();
            if preset.identity.as_ref().is_some_and(|identity| identity.by == Rule::None) {
                continue; // it remembers nothing
            }
            let window = preset.replay.window.as_ref().map_or(DAY, |window| window.value.0);
            assert!(window >= DAY, "{name}: the common window is longer");
            for scheme in &preset.schemes {
                let recipe = compile(scheme, None, None).unwrap();
                let fresh = recipe.timestamp.map(|rule| rule.tolerance + rule.future_tolerance);
                assert_eq!(outlasts(window, fresh.unwrap_or_default()), Ok(()), "{name}");
            }
        }
    }

    #[test]
    fn of_several_schemes_it_is_clear_which_one_judges() {
        for (name, text) in PRESETS {
            let schemes = parse(text).unwrap().schemes;
            let recipes: Vec<_> = schemes.iter().map(|scheme| compile(scheme, None, None).unwrap()).collect();
            assert_eq!(check_choice(&recipes), Ok(()), "{name}");
            let says = text.contains("\n# Which scheme: ");
            assert_eq!(says, schemes.len() > 1, "{name} has {} schemes", schemes.len());
        }
    }
}
