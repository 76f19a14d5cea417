//! From secrets to keys that judge; and secrets that nobody has, by which a delivery for an unknown tenant
//! is judged with the same work.

use std::sync::Arc;

use data_encoding::{BASE64, BASE64_NOPAD, HEXLOWER};
use ring::rand::{SecureRandom, SystemRandom};

use crate::config::provider::{self, NamedSecret, rotation};
use crate::config::secret::Secret;
use crate::gate::filter::signature::Scheme;
use crate::gate::keys::KeyRing;
use crate::gate::route::Route;
use crate::gate::scheme::Recipe;
use crate::gate::scheme::key::{KeyDecoding, KeyRule};

/// The keys that secrets are under the schemes of a route.
pub fn ring(
    route: &Route,
    tenant: Option<Arc<str>>,
    secrets: &[NamedSecret],
    short_allowed: bool,
) -> KeyRing {
    let mut recipes = route.signature.schemes().iter().map(Scheme::recipe);
    let schemes = recipes.clone().map(|recipe| provider::keys(recipe, secrets, short_allowed).0).collect();
    let first = recipes.next().filter(|_| route.handshakes.sign());
    let answering = provider::answering(first, secrets);
    KeyRing { schemes, rotation: rotation(secrets), is_decoy: tenant.is_none(), tenant, answering }
}

pub fn recipes(route: &Route) -> Vec<Recipe> {
    route.signature.schemes().iter().map(|scheme| scheme.recipe().clone()).collect()
}

/// As long as secrets usually are.
const USUAL: usize = 32;

/// Secrets that are like those in number, length and form, and that nobody has. Without an example they are
/// as secrets usually are.
pub fn decoys(recipes: &[Recipe], like: &[NamedSecret]) -> Vec<NamedSecret> {
    let decoy = |id: Arc<str>, text: Option<&[u8]>, not_after_ms| NamedSecret {
        id,
        secret: Secret::exact(&decoy(recipes, text)),
        not_after_ms,
    };
    if like.is_empty() {
        return vec![decoy("0".into(), None, None)];
    }
    like.iter().map(|s| decoy(Arc::clone(&s.id), Some(s.secret.expose()), s.not_after_ms)).collect()
}

fn decoy(recipes: &[Recipe], like: Option<&[u8]>) -> Vec<u8> {
    // What is base64 or hex to one scheme is text to another as well.
    let strictness = |rule: &KeyRule| match rule.decode {
        KeyDecoding::Utf8 | KeyDecoding::Nfkd => 0,
        KeyDecoding::Base64 => 1,
        KeyDecoding::Hex => 2,
        KeyDecoding::Spki => 3,
    };
    let Some(recipe) = recipes.iter().max_by_key(|recipe| strictness(&recipe.key)) else { return Vec::new() };
    let rule = &recipe.key;
    let prefixes = recipes.iter().flat_map(|recipe| &recipe.key.strip).map(String::as_bytes);
    let prefix =
        prefixes.filter(|prefix| like.is_some_and(|like| like.starts_with(prefix))).max_by_key(|p| p.len());
    let prefix = prefix.unwrap_or_default();
    let rest = like.map(|like| &like[prefix.len()..]);
    let bytes = |count| recipe.algorithm.nobodys().unwrap_or_else(|| random(count));
    let text = match rule.decode {
        KeyDecoding::Utf8 | KeyDecoding::Nfkd => {
            let mut text = BASE64_NOPAD.encode(&random(rest.map_or(USUAL, <[u8]>::len)));
            text.truncate(rest.map_or(USUAL, <[u8]>::len));
            text
        }
        KeyDecoding::Hex => HEXLOWER.encode(&bytes(rest.map_or(USUAL, |rest| rest.len().div_ceil(2)))),
        KeyDecoding::Spki => BASE64.encode(&bytes(USUAL)),
        KeyDecoding::Base64 => {
            let bare =
                rest.map(|rest| rest.trim_ascii_end().split(|b| *b == b'=').next().unwrap_or_default().len());
            let encoded = bytes(bare.map_or(USUAL, |bare| bare * 3 / 4));
            match rest {
                Some(rest) if !rest.ends_with(b"=") => BASE64_NOPAD.encode(&encoded),
                Some(_) | None => BASE64.encode(&encoded),
            }
        }
    };
    [prefix, text.as_bytes()].concat()
}

fn random(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    // Where the system has no randomness, zeros do: what a decoy signs is refused whatever it is.
    _ = SystemRandom::new().fill(&mut bytes);
    bytes
}
