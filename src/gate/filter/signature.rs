//! The signature over the raw bytes: every active key, constant time, no early exit.

use std::borrow::Cow;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use subtle::ConditionallySelectable;

use crate::gate::answer::Reason;
use crate::gate::delivery::Head;
use crate::gate::filter::replay::ReplayKey;
use crate::gate::scheme::algorithm::Tag;
use crate::gate::scheme::reading::Reading;
use crate::gate::scheme::source::Source;
use crate::gate::scheme::{Assurance, Key, Recipe};

/// What a route demands: the recipes of its provider, each with the keys that fit it.
#[derive(Clone)]
pub struct Signature {
    schemes: Vec<Scheme>,
}

/// One recipe and its keys.
#[derive(Clone)]
pub struct Scheme {
    recipe: Recipe,
    keys: Vec<Key>,
}

impl Scheme {
    pub fn new(recipe: Recipe, keys: Vec<Key>) -> Self {
        Scheme { recipe, keys }
    }

    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    pub fn keys(&self) -> &[Key] {
        &self.keys
    }
}

/// Well-formed tags, and the schemes whose they may be.
#[derive(Debug)]
pub struct Presented {
    candidates: SmallVec<[Candidate; 1]>,
}

#[derive(Debug)]
struct Candidate {
    scheme: usize,
    /// `None` if the body holds them.
    tags: Option<Vec<Tag>>,
}

/// Proof that a key of the route signed exactly these bytes. Only [`Signature::verify`]
/// makes one, and everything in it that decides something was covered by the signature.
#[derive(Clone, Debug)]
pub struct Authentic {
    key_id: Arc<str>,
    assurance: Assurance,
    signed_at: Option<SignedTime>,
    replay_key: ReplayKey,
    event_id: Option<String>,
    event_type: Option<String>,
}

/// The time that the signature covers, with the tolerance of its recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedTime {
    /// Milliseconds since the epoch; `None` if the signed body holds no time.
    pub ms: Option<i64>,
    pub tolerance_ms: i64,
    pub future_tolerance_ms: i64,
    /// Until when the sender says that it is good.
    pub expires_ms: Option<i64>,
}

impl Authentic {
    pub fn key_id(&self) -> &Arc<str> {
        &self.key_id
    }

    pub fn assurance(&self) -> Assurance {
        self.assurance
    }

    /// `None` if the provider signs no time.
    pub fn signed_at(&self) -> Option<SignedTime> {
        self.signed_at
    }

    pub fn replay_key(&self) -> ReplayKey {
        self.replay_key
    }

    pub fn event_id(&self) -> Option<&str> {
        self.event_id.as_deref()
    }

    pub fn event_type(&self) -> Option<&str> {
        self.event_type.as_deref()
    }
}

impl Signature {
    /// `schemes` in the order of the preset: the first whose header is present decides alone.
    pub fn new(schemes: Vec<Scheme>) -> Self {
        Signature { schemes }
    }

    pub fn schemes(&self) -> &[Scheme] {
        &self.schemes
    }

    /// The keys that an event with this signed id has under the schemes that go by one.
    pub fn keys_of(&self, route: &str, id: &str) -> Vec<ReplayKey> {
        let mut keys: Vec<_> = self.schemes.iter().filter_map(|scheme| scheme.key_of(route, id)).collect();
        keys.dedup();
        keys
    }

    /// Whether the head carries a signature of any of the schemes.
    pub fn is_present(&self, head: &Head<'_>) -> bool {
        self.schemes.iter().any(|scheme| scheme.recipe.is_present(head))
    }

    /// What the head presents. No fall-back: a sender that presents the newer form
    /// badly is not judged by the older one. Only schemes that read the same place as the
    /// first that is present stand beside it.
    pub fn presented(&self, head: &Head<'_>) -> Result<Presented, Reason> {
        let mut present = self.schemes.iter().enumerate().filter(|(_, s)| s.recipe.is_present(head));
        let (scheme, first) = present.next().ok_or(Reason::SignatureMissing)?;
        let judged = first.recipe.presented(head);
        let place = &first.recipe.signature.from;
        let beside = self.schemes.iter().enumerate().skip(scheme + 1);
        let beside = beside.filter(|(_, s)| s.recipe.signature.from == *place && s.recipe.is_present(head));
        let beside = beside.filter_map(|(scheme, other)| {
            Some(Candidate { scheme, tags: other.recipe.presented(head).ok()? })
        });
        let mut candidates = SmallVec::new();
        let fault = judged.map(|tags| candidates.push(Candidate { scheme, tags })).err();
        candidates.extend(beside);
        match fault {
            Some(reason) if candidates.is_empty() => Err(reason),
            Some(_) | None => Ok(Presented { candidates }),
        }
    }

    /// Only keys that are `usable` are tried; which are does not depend on the request.
    pub fn verify(
        &self,
        presented: &Presented,
        route: &str,
        head: &Head<'_>,
        body: &[u8],
        usable: impl Fn(&str) -> bool,
    ) -> Result<Authentic, Reason> {
        let mut first = None;
        for candidate in &presented.candidates {
            let tags = candidate.tags.as_deref();
            match self.schemes[candidate.scheme].verify(tags, route, head, body, &usable) {
                Err(reason) if reason.is_signature() => _ = first.get_or_insert(reason),
                // A signature that holds decides, whatever is wrong with what it covers.
                judged => return judged,
            }
        }
        Err(first.unwrap_or(Reason::SignatureMismatch))
    }
}

impl Scheme {
    fn verify(
        &self,
        tags: Option<&[Tag]>,
        route: &str,
        head: &Head<'_>,
        body: &[u8],
        usable: &impl Fn(&str) -> bool,
    ) -> Result<Authentic, Reason> {
        let reading = Reading::new(&self.recipe, head, body);
        let in_body = if tags.is_none() { reading.tags()? } else { Vec::new() };
        reading.check()?;
        let key = self.matching_key(tags.unwrap_or(&in_body), &reading, usable);
        let key = key.ok_or(Reason::SignatureMismatch)?;
        self.read_signed(key, route, &reading)
    }

    /// The key that made one of the tags. Every key meets every tag, and which of them
    /// match does not show in the time taken.
    fn matching_key(
        &self,
        tags: &[Tag],
        reading: &Reading<'_>,
        usable: &impl Fn(&str) -> bool,
    ) -> Option<&Key> {
        const NONE: u32 = u32::MAX;
        let mut matched = NONE;
        let other_port = reading.with_other_port();
        for reading in [Some(reading), other_port.as_ref()].into_iter().flatten() {
            for (n, key) in (0u32..).zip(&self.keys).filter(|(_, key)| usable(&key.id)) {
                matched.conditional_assign(&n, key.verifier.made_any(tags, reading));
            }
        }
        self.keys.get(usize::try_from(matched).ok()?)
    }

    /// Reads time, id and type out of what the signature covers.
    fn read_signed(&self, key: &Key, route: &str, reading: &Reading<'_>) -> Result<Authentic, Reason> {
        let recipe = &self.recipe;
        let signed_at = match &recipe.timestamp {
            None => None,
            Some(rule) => Some(SignedTime {
                ms: reading.time(rule)?,
                tolerance_ms: millis(rule.tolerance),
                future_tolerance_ms: millis(rule.future_tolerance),
                expires_ms: reading.expiry(rule)?,
            }),
        };

        // An id that nobody signed could be changed at will: it names the event for people, and
        // must not even keep a signed one from telling whether it was seen before.
        let mut event_id = None;
        let mut signed_id = None;
        for source in &recipe.id {
            let Some(id) = reading.id(source)? else { continue };
            event_id.get_or_insert_with(|| id.clone());
            if recipe.identifies(source) {
                signed_id = Some(id);
                break;
            }
        }
        let replay_key = match signed_id {
            Some(id) => self.key_by_id(route, &id),
            None => {
                let mut digest = self.identity(route);
                digest.update(b"content\0");
                reading.identity(|bytes| digest.update(bytes));
                ReplayKey::from_digest(&digest.finalize().into())
            }
        };
        Ok(Authentic {
            key_id: Arc::clone(&key.id),
            assurance: recipe.assurance(),
            signed_at,
            replay_key,
            event_id,
            event_type: recipe.event_type.iter().find_map(|source| reading.text(source)),
        })
    }

    /// The key of the event with this signed id; `None` if the scheme tells events apart by content.
    fn key_of(&self, route: &str, id: &str) -> Option<ReplayKey> {
        let by_id = self.recipe.id.iter().any(|source| self.recipe.identifies(source));
        by_id.then(|| self.key_by_id(route, id))
    }

    fn key_by_id(&self, route: &str, id: &str) -> ReplayKey {
        let mut digest = self.identity(route);
        digest.update(b"id\0");
        digest.update(id.as_bytes());
        ReplayKey::from_digest(&digest.finalize().into())
    }

    /// The same id on two routes, or under two schemes, is two events. A scheme is known by where its
    /// signature stands and not by its number, which changes when a reload leaves another scheme out.
    fn identity(&self, route: &str) -> Sha256 {
        let mut digest = Sha256::new();
        let place = match &self.recipe.signature.from[0] {
            Source::Header(name) => Cow::Borrowed(name.as_str()),
            source => Cow::Owned(source.to_string()),
        };
        for name in [route, &*place] {
            digest.update((name.len() as u64).to_be_bytes());
            digest.update(name);
        }
        digest
    }
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
