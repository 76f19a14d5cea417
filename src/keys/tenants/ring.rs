//! From secrets to keys that judge; and secrets that nobody has, by which a delivery for an unknown tenant
//! is judged with the same work.

use std::slice;
use std::sync::Arc;

use data_encoding::{BASE64, BASE64_NOPAD, HEXLOWER};
use ring::rand::{SecureRandom, SystemRandom};
use smallvec::SmallVec;

use crate::config::provider::{self, NamedSecret, rotation};
use crate::config::secret::Secret;
use crate::gate::filter::signature::Scheme;
use crate::gate::keys::KeyRing;
use crate::gate::route::Route;
use crate::gate::scheme::Recipe;
use crate::gate::scheme::key::KeyDecoding;

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

/// So many bytes, as keys usually have.
const USUAL: usize = 32;

/// Secrets that are like those in number, length and form, and that nobody has. Without an example they are
/// as secrets usually are.
pub fn decoys(recipes: &[Recipe], like: &[NamedSecret]) -> Vec<NamedSecret> {
    let decoy = |id: Arc<str>, like: Option<&NamedSecret>| NamedSecret {
        id,
        secret: Secret::exact(&decoy(recipes, like)),
        not_after_ms: like.and_then(|like| like.not_after_ms),
    };
    if like.is_empty() {
        return vec![decoy("0".into(), None)];
    }
    like.iter().map(|secret| decoy(Arc::clone(&secret.id), Some(secret))).collect()
}

fn decoy(recipes: &[Recipe], like: Option<&NamedSecret>) -> Vec<u8> {
    // What is base64 or hex to one scheme is text to another as well.
    let strictness = |recipe: &&Recipe| match recipe.key.decode {
        KeyDecoding::Utf8 | KeyDecoding::Nfkd => 0,
        KeyDecoding::Base64 => 1,
        KeyDecoding::Hex => 2,
        KeyDecoding::Spki => 3,
    };
    let fits = |recipe: &&Recipe, like| !provider::keys(recipe, slice::from_ref(like), true).0.is_empty();
    let used = |recipe: &&Recipe| like.is_none_or(|like| fits(recipe, like));
    let recipe = recipes.iter().filter(used).max_by_key(strictness);
    match (recipe.and_then(|recipe| recipe.algorithm.nobodys()), like) {
        (None, Some(like)) => redrawn(recipes, like.secret.expose()),
        (nobodys, _) => {
            let bytes = nobodys.unwrap_or_else(|| random(USUAL));
            let text = match recipe.map(|recipe| recipe.key.decode).unwrap_or_default() {
                KeyDecoding::Utf8 | KeyDecoding::Nfkd => BASE64_NOPAD.encode(&bytes),
                KeyDecoding::Hex => HEXLOWER.encode(&bytes),
                KeyDecoding::Spki | KeyDecoding::Base64 => BASE64.encode(&bytes),
            };
            text.into_bytes()
        }
    }
}

/// The same text with other characters: each of the same kind, so that it is a key of the same length to the
/// schemes to which the text is one, and none to the others.
fn redrawn(recipes: &[Recipe], like: &[u8]) -> Vec<u8> {
    const KINDS: [&[u8]; 6] =
        [b"0123456789", b"abcdef", b"ghijklmnopqrstuvwxyz", b"ABCDEF", b"GHIJKLMNOPQRSTUVWXYZ", b"+/"];
    // At the end of base64 most characters stand for bits that are not there.
    const LAST: &[u8] = b"AQgw";
    const TRIES: usize = 32;
    let lengths = |text: &[u8]| {
        let length = |recipe: &Recipe| recipe.key.decode(text).ok().map(|key| key.len());
        recipes.iter().map(length).collect::<SmallVec<[_; 4]>>()
    };
    let wanted = lengths(like);
    let prefixes = recipes.iter().flat_map(|recipe| &recipe.key.strip).map(String::as_bytes);
    let from = prefixes.filter(|prefix| like.starts_with(prefix)).map(<[u8]>::len).max().unwrap_or_default();
    let last = like.iter().rposition(|byte| *byte != b'=').unwrap_or_default();
    let draw = |is_last: bool, byte: u8, chance: u8| {
        let Some(kind) = KINDS.iter().find(|kind| kind.contains(&byte)) else { return byte };
        let kind = if is_last { LAST } else { kind };
        kind[usize::from(chance) % kind.len()]
    };
    let mut text = Vec::new();
    for ends in [false, true].repeat(TRIES) {
        let drawn = like.iter().zip(random(like.len())).enumerate();
        text = drawn
            .map(|(n, (byte, chance))| if n < from { *byte } else { draw(ends && n == last, *byte, chance) })
            .collect();
        if lengths(&text) == wanted && text != like {
            break;
        }
    }
    text
}

fn random(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    // Where the system has no randomness, zeros do: what a decoy signs is refused whatever it is.
    _ = SystemRandom::new().fill(&mut bytes);
    bytes
}
