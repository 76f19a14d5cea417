//! The signature over the raw bytes: every active key, constant time, no early exit.

use std::borrow::Cow;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::gate::answer::Reason;
use crate::gate::delivery::Head;
use crate::gate::filter::replay::ReplayKey;
use crate::gate::scheme::algorithm::Tag;
use crate::gate::scheme::json::{self, Pointer, Scalar};
use crate::gate::scheme::source::Source;
use crate::gate::scheme::timestamp::TimestampRule;
use crate::gate::scheme::{Key, Recipe, is_plain};

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
    pointers: Vec<Pointer>,
}

impl Scheme {
    pub fn new(recipe: Recipe, keys: Vec<Key>) -> Self {
        Scheme { pointers: recipe.pointers(), recipe, keys }
    }

    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    pub fn keys(&self) -> &[Key] {
        &self.keys
    }
}

/// Well-formed tags, and which scheme they claim to be of.
#[derive(Debug)]
pub struct Presented {
    scheme: usize,
    tags: Vec<Tag>,
}

/// Proof that a key of the route signed exactly these bytes. Only [`Signature::verify`]
/// makes one, and everything in it that decides something was covered by the signature.
#[derive(Clone, Debug)]
pub struct Authentic {
    key_id: Arc<str>,
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
}

impl Authentic {
    pub fn key_id(&self) -> &Arc<str> {
        &self.key_id
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

    /// What the head presents. No fall-back: a sender that presents the newer form
    /// badly is not judged by the older one.
    pub fn presented(&self, head: &Head<'_>) -> Result<Presented, Reason> {
        let scheme = self.schemes.iter().position(|s| s.recipe.is_present(head));
        let scheme = scheme.ok_or(Reason::SignatureMissing)?;
        let tags = self.schemes[scheme].recipe.presented(head)?;
        Ok(Presented { scheme, tags })
    }

    pub fn verify(
        &self,
        presented: &Presented,
        route: &str,
        head: &Head<'_>,
        body: &[u8],
    ) -> Result<Authentic, Reason> {
        let scheme = &self.schemes[presented.scheme];
        let key = scheme.matching_key(&presented.tags, head, body).ok_or(Reason::SignatureMismatch)?;
        scheme.read_signed(key, route, head, body)
    }
}

impl Scheme {
    /// The key that made one of the tags. Every key meets every tag, and which of them
    /// match does not show in the time taken.
    fn matching_key(&self, tags: &[Tag], head: &Head<'_>, body: &[u8]) -> Option<&Key> {
        const NONE: u32 = u32::MAX;
        let mut matched = NONE;
        for (n, key) in (0u32..).zip(&self.keys) {
            let mut mac = key.mac.clone();
            self.recipe.content(head, body, |bytes| mac.update(bytes));
            let expected = mac.finish();
            for tag in tags {
                matched.conditional_assign(&n, expected.as_bytes().ct_eq(tag.as_bytes()));
            }
        }
        self.keys.get(usize::try_from(matched).ok()?)
    }

    /// Reads time, id and type out of what the signature covers.
    fn read_signed(&self, key: &Key, route: &str, head: &Head<'_>, body: &[u8]) -> Result<Authentic, Reason> {
        let mut values = Values::new(self, head, body);
        let signed_at = match &self.recipe.timestamp {
            None => None,
            Some(rule) => Some(SignedTime {
                ms: values.time(rule)?,
                tolerance_ms: millis(rule.tolerance),
                future_tolerance_ms: millis(rule.future_tolerance),
            }),
        };

        // An id that nobody signed could be changed at will: it names the event for people, and
        // must not even keep a signed one from telling whether it was seen before.
        let mut event_id = None;
        let mut signed_id = None;
        for source in &self.recipe.id {
            let Some(id) = values.id(source)? else { continue };
            event_id.get_or_insert_with(|| id.clone().into_owned());
            if self.recipe.content.covers(source) {
                signed_id = Some(id);
                break;
            }
        }
        let mut digest = self.identity(route);
        match signed_id {
            Some(id) => {
                digest.update(b"id\0");
                digest.update(id.as_bytes());
            }
            None => {
                digest.update(b"content\0");
                self.recipe.content(head, body, |bytes| digest.update(bytes));
            }
        }
        Ok(Authentic {
            key_id: Arc::clone(&key.id),
            signed_at,
            replay_key: ReplayKey::from_digest(&digest.finalize().into()),
            event_id,
            event_type: self.recipe.event_type.iter().find_map(|source| values.text(source)),
        })
    }

    /// The same id on two routes, or under two schemes, is two events. A scheme is known by its
    /// header and not by its place, which changes when a reload leaves another scheme out.
    fn identity(&self, route: &str) -> Sha256 {
        let mut digest = Sha256::new();
        for name in [route, self.recipe.signature.headers[0].as_str()] {
            digest.update((name.len() as u64).to_be_bytes());
            digest.update(name);
        }
        digest
    }
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The values that a recipe reads. The body is parsed once, and only if something in it is asked for.
struct Values<'v, 'b> {
    scheme: &'v Scheme,
    head: &'v Head<'v>,
    body: &'b [u8],
    picked: Option<Result<Vec<Option<Scalar<'b>>>, json::Malformed>>,
}

impl<'v, 'b> Values<'v, 'b> {
    fn new(scheme: &'v Scheme, head: &'v Head<'v>, body: &'b [u8]) -> Self {
        Values { scheme, head, body, picked: None }
    }

    fn json(&mut self, pointer: &Pointer) -> Result<Option<&Scalar<'b>>, Reason> {
        let (body, pointers) = (self.body, &self.scheme.pointers);
        let picked = self.picked.get_or_insert_with(|| json::pick(body, pointers));
        let values = picked.as_ref().map_err(|_| Reason::BodyMalformed)?;
        let index = pointers.iter().position(|p| p == pointer);
        Ok(index.and_then(|n| values[n].as_ref()))
    }

    fn header(&self, source: &Source) -> Result<Option<&'v str>, Reason> {
        let value = self.scheme.recipe.value(source, self.head)?;
        Ok(value.filter(|v| is_plain(v)).and_then(|v| std::str::from_utf8(v).ok()))
    }

    fn time(&mut self, rule: &TimestampRule) -> Result<Option<i64>, Reason> {
        for source in &rule.from {
            let time = match source {
                Source::Json(pointer) => match self.json(pointer)? {
                    None => continue,
                    Some(Scalar::Text(text)) => rule.unit.parse(text.as_bytes()),
                    Some(Scalar::Integer(n)) => rule.unit.from_integer(*n),
                    Some(Scalar::Other) => None,
                },
                Source::Header(_) | Source::Field(_) => match self.header(source)? {
                    None => continue,
                    Some(text) => rule.unit.parse(text.as_bytes()),
                },
            };
            return Ok(time);
        }
        Ok(None)
    }

    /// An id must be text of a sane length; anything else under its name is refused,
    /// because the application might take it for an id all the same.
    fn id(&mut self, source: &Source) -> Result<Option<Cow<'v, str>>, Reason> {
        match source {
            Source::Json(pointer) => match self.json(pointer)? {
                None => Ok(None),
                Some(Scalar::Text(text)) if is_plain(text.as_bytes()) => {
                    Ok(Some(Cow::Owned(text.to_string())))
                }
                Some(_) => Err(Reason::BodyMalformed),
            },
            Source::Header(_) | Source::Field(_) => Ok(self.header(source)?.map(Cow::Borrowed)),
        }
    }

    fn text(&mut self, source: &Source) -> Option<String> {
        match source {
            Source::Json(pointer) => match self.json(pointer).ok()?? {
                Scalar::Text(text) if is_plain(text.as_bytes()) => Some(text.to_string()),
                Scalar::Text(_) | Scalar::Integer(_) | Scalar::Other => None,
            },
            Source::Header(_) | Source::Field(_) => self.header(source).ok()?.map(str::to_owned),
        }
    }
}
