//! A signature of the gate's own making, for an application that checks one itself: it learns that the
//! event came through the gate, and does not find it too old if it comes late.

use http::{HeaderMap, HeaderName};

use super::filter::signature::{Scheme, Signature};
use super::keys::Keys;
use super::scheme::Recipe;
use super::scheme::algorithm::KeyedMac;
use super::scheme::sign::Unsigned;
use super::scheme::source::Source;

/// How the events of a route are signed for the application.
#[derive(Clone)]
pub enum Resign {
    /// In the way of a preset, with keys that gate and application share, newest first.
    As(Box<Manner>),
    /// As they were, with the provider's own secret and a fresh time.
    Same,
}

/// A way of signing, and the keys for it.
#[derive(Clone)]
pub struct Manner {
    recipe: Recipe,
    keys: Vec<KeyedMac>,
    /// The headers in which somebody could show a signature of this kind.
    replaced: Vec<HeaderName>,
}

/// An accepted event on its way to the application.
#[derive(Clone, Copy)]
pub struct Outgoing<'o> {
    /// What makes it one event: the application's key against doing a thing twice.
    pub id: &'o str,
    /// The key under which it was accepted.
    pub key_id: &'o str,
    pub time_ms: i64,
    pub body: &'o [u8],
}

impl Manner {
    /// `schemes` are all that the preset knows: signatures under each of them are the gate's alone to show.
    pub fn new(schemes: &[Recipe], recipe: Recipe, keys: Vec<KeyedMac>) -> Self {
        let replaced = schemes.iter().flat_map(written).cloned().collect();
        Manner { recipe, keys, replaced }
    }
}

impl Resign {
    /// The sender's headers that end here, in whatever spelling.
    pub fn replaced(&self) -> &[HeaderName] {
        match self {
            Resign::As(manner) => &manner.replaced,
            Resign::Same => &[],
        }
    }

    /// The headers that are set instead of those that came with the event. None if its signature stays:
    /// as the same where nothing of it ages.
    pub fn headers(
        &self,
        signature: &Signature,
        keys: &Keys,
        came: &HeaderMap,
        event: Outgoing<'_>,
    ) -> HeaderMap {
        match self {
            Resign::As(manner) => manner.sign(came, event),
            Resign::Same => same(signature, keys, came, event).unwrap_or_default(),
        }
    }
}

impl Manner {
    fn sign(&self, came: &HeaderMap, event: Outgoing<'_>) -> HeaderMap {
        let Outgoing { id, time_ms, body, .. } = event;
        let signed = self.recipe.sign_with(&self.keys, Unsigned { id, time_ms, body });
        let mut headers = signed.map(|signed| signed.headers).unwrap_or_default();
        // What nobody signs is the sender's to say.
        for name in came.keys().filter(|name| !self.replaced.contains(name)) {
            if !self.recipe.covers(&Source::Header(name.clone())) {
                headers.remove(name);
            }
        }
        headers
    }
}

/// The headers of the scheme that the event came under, signed again with the same key.
fn same(signature: &Signature, keys: &Keys, came: &HeaderMap, event: Outgoing<'_>) -> Option<HeaderMap> {
    let is_shown = |(_, scheme): &(usize, &Scheme)| {
        scheme.recipe().signature_headers().any(|place| came.contains_key(place))
    };
    // The first whose signature is there has judged the event: what stands for another one proves nothing.
    let (n, scheme) = signature.schemes().iter().enumerate().find(is_shown)?;
    let recipe = scheme.recipe();
    recipe.can_be_renewed().ok()?;
    if keys.are_decoys() {
        return None; // its tenant is gone, and nobody has these
    }
    let read = recipe.headers();
    let sent = came.iter().filter(|(name, _)| read.contains(name));
    let sent = sent.map(|(name, value)| (name.clone(), value.clone())).collect();
    // A key that has been taken away since is replaced by the newest.
    let keys = keys.of(n, scheme);
    let key = keys.iter().find(|key| *key.id == *event.key_id).or(keys.first())?;
    let headers = recipe.renew(key.verifier.shared()?, sent, event.time_ms, event.body)?.headers;
    let anew = written(recipe).filter_map(|name| Some((name.clone(), headers.get(name)?.clone())));
    Some(anew.collect())
}

/// The headers in which a signature of this kind and its time stand.
fn written(recipe: &Recipe) -> impl Iterator<Item = &HeaderName> {
    let times = recipe.timestamp.iter().flat_map(|rule| &rule.from);
    recipe.signature_headers().chain(times.filter_map(Source::header))
}
