//! How a provider signs, as data. A [`Recipe`] is compiled from a preset or from
//! the user's own words; nothing in it is decided by a request.

pub mod algorithm;
pub mod content;
pub mod json;
pub mod key;
pub mod sign;
pub mod source;
pub mod timestamp;

use std::sync::Arc;

use http::HeaderName;

use self::algorithm::{Algorithm, Encoding, KeyedMac, Tag};
use self::content::{Content, Segment};
use self::json::Pointer;
use self::key::KeyRule;
use self::source::Source;
use self::timestamp::{TimeUnit, TimestampRule};
use super::answer::Reason;
use super::delivery::Head;

/// One way of signing. Fields are in the words of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    pub algorithm: Algorithm,
    pub key: KeyRule,
    pub signature: SignatureRule,
    pub content: Content,
    pub timestamp: Option<TimestampRule>,
    /// Where the event's id stands; the first that is present names the event.
    pub id: Vec<Source>,
    /// Where the event's type stands. For people and routing; decides nothing.
    pub event_type: Vec<Source>,
}

/// Where signatures stand and how they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureRule {
    /// The headers that may carry a signature; each may come once.
    pub headers: Vec<HeaderName>,
    pub format: SignatureFormat,
    pub encoding: Encoding,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureFormat {
    /// The whole header, or each element of a list, is `prefix` and a tag.
    Plain { prefix: Vec<u8>, split: Option<u8> },
    /// `name=value` fields; those named in `keys` are tags.
    Fields { split: u8, keys: Vec<String> },
}

/// More entries than any rotation needs; a longer list is refused, to bound the work.
const MAX_ENTRIES: usize = 16;
/// No provider's signature header comes near this.
const MAX_HEADER: usize = 4096;
/// Ids and other signed header values.
const MAX_VALUE: usize = 256;

/// A key, ready to verify under one recipe.
#[derive(Clone)]
pub struct Key {
    pub id: Arc<str>,
    pub mac: KeyedMac,
}

impl Recipe {
    /// Whether the sender uses this recipe at all: one of its signature headers is there.
    pub fn is_present(&self, head: &Head<'_>) -> bool {
        self.signature.headers.iter().any(|name| head.headers.contains_key(name))
    }

    /// The tags that the sender presents, if they are well formed and everything
    /// that the signature must cover is there. Judged before the body is read.
    pub fn presented(&self, head: &Head<'_>) -> Result<Vec<Tag>, Reason> {
        let mut tags = Vec::with_capacity(1);
        let mut entries = 0;
        let mut empty = true;
        for name in &self.signature.headers {
            let Some(value) = head.single(name).map_err(|_| Reason::SignatureMalformed)? else {
                continue;
            };
            if value.len() > MAX_HEADER {
                return Err(Reason::SignatureMalformed);
            }
            empty &= value.is_empty();
            for entry in self.signature.format.entries(value) {
                entries += 1;
                if entries > MAX_ENTRIES {
                    return Err(Reason::SignatureMalformed);
                }
                // Elements that are no tag of ours (other versions, junk put there to keep
                // receivers honest) are passed over; they never count as a match.
                tags.extend(self.signature.encoding.decode(entry, self.algorithm));
            }
        }
        if empty {
            return Err(Reason::SignatureMissing);
        }
        self.check_signed_values(head)?;
        if tags.is_empty() { Err(Reason::SignatureMalformed) } else { Ok(tags) }
    }

    fn check_signed_values(&self, head: &Head<'_>) -> Result<(), Reason> {
        for (n, segment) in self.content.segments().iter().enumerate() {
            let Some(source) = segment.source() else { continue };
            let value = self.value(&source, head)?.ok_or(Reason::SignatureMissing)?;
            let separator = self.content.separator(n);
            if !is_plain(value) || separator.is_some_and(|b| value.contains(&b)) {
                return Err(Reason::SignatureMalformed);
            }
            let rule = self.timestamp.as_ref().filter(|rule| rule.from.contains(&source));
            let is_time = |unit: TimeUnit| {
                unit.parse(value).is_some() && (separator.is_some() || unit.shows_its_end(value))
            };
            if !rule.is_none_or(|rule| is_time(rule.unit)) {
                return Err(Reason::SignatureMalformed);
            }
        }
        Ok(())
    }

    /// The value of a header or signature field; `Ok(None)` if it is absent or in the body.
    pub fn value<'r>(&self, source: &Source, head: &Head<'r>) -> Result<Option<&'r [u8]>, Reason> {
        match source {
            Source::Header(name) => head.single(name).map_err(|_| Reason::SignatureMalformed),
            Source::Field(name) => self.field(name, head),
            Source::Json(_) => Ok(None),
        }
    }

    /// A field of the signature header that must not be ambiguous, not even to a reader that
    /// passes over white space.
    fn field<'r>(&self, name: &str, head: &Head<'r>) -> Result<Option<&'r [u8]>, Reason> {
        let SignatureFormat::Fields { split, .. } = self.signature.format else { return Ok(None) };
        let mut found = None;
        for header in &self.signature.headers {
            let Ok(Some(header)) = head.single(header) else { continue };
            for (key, value) in fields(header, split) {
                let name = name.as_bytes();
                if key.trim_ascii() == name && (key != name || found.replace(value).is_some()) {
                    return Err(Reason::SignatureMalformed);
                }
            }
        }
        Ok(found)
    }

    /// Passes the signed content to `sink`, piece by piece.
    pub fn content(&self, head: &Head<'_>, body: &[u8], mut sink: impl FnMut(&[u8])) {
        for segment in self.content.segments() {
            match segment {
                Segment::Literal(text) => sink(text),
                Segment::Body => sink(body),
                Segment::Header(name) => sink(head.single(name).ok().flatten().unwrap_or_default()),
                Segment::Field(name) => sink(self.field(name, head).ok().flatten().unwrap_or_default()),
            }
        }
    }

    /// The pointers that this recipe reads from a body.
    pub fn pointers(&self) -> Vec<Pointer> {
        let times = self.timestamp.iter().flat_map(|rule| &rule.from);
        let sources = self.id.iter().chain(&self.event_type).chain(times);
        sources
            .filter_map(|source| match source {
                Source::Json(pointer) => Some(pointer.clone()),
                Source::Header(_) | Source::Field(_) => None,
            })
            .collect()
    }

    /// The headers that mean something to this recipe.
    pub fn headers(&self) -> Vec<HeaderName> {
        let times = self.timestamp.iter().flat_map(|rule| &rule.from);
        let named = self.id.iter().chain(&self.event_type).chain(times).filter_map(|s| match s {
            Source::Header(name) => Some(name.clone()),
            Source::Field(_) | Source::Json(_) => None,
        });
        let signed = self.content.segments().iter().filter_map(|s| match s {
            Segment::Header(name) => Some(name.clone()),
            Segment::Literal(_) | Segment::Body | Segment::Field(_) => None,
        });
        self.signature.headers.iter().cloned().chain(named).chain(signed).collect()
    }
}

impl Segment {
    fn source(&self) -> Option<Source> {
        match self {
            Segment::Header(name) => Some(Source::Header(name.clone())),
            Segment::Field(name) => Some(Source::Field(name.clone())),
            Segment::Literal(_) | Segment::Body => None,
        }
    }
}

impl SignatureFormat {
    /// The encoded tags in a header value, without their prefix.
    fn entries<'f, 'v>(&'f self, value: &'v [u8]) -> Box<dyn Iterator<Item = &'v [u8]> + 'f>
    where
        'v: 'f,
    {
        match self {
            SignatureFormat::Plain { prefix, split: None } => {
                Box::new(value.strip_prefix(prefix.as_slice()).into_iter())
            }
            SignatureFormat::Plain { prefix, split: Some(split) } => Box::new(
                value
                    .split(move |b| b == split)
                    .map(|entry| entry.strip_prefix(prefix.as_slice()).unwrap_or_default()),
            ),
            SignatureFormat::Fields { split, keys } => {
                Box::new(fields(value, *split).map(|(key, value)| {
                    if keys.iter().any(|k| k.as_bytes() == key) { value } else { &[][..] }
                }))
            }
        }
    }
}

/// The `name=value` fields of a header; one space after the separator is allowed.
fn fields(header: &[u8], split: u8) -> impl Iterator<Item = (&[u8], &[u8])> {
    header.split(move |b| *b == split).filter_map(|field| {
        let field = field.strip_prefix(b" ").unwrap_or(field);
        let assign = field.iter().position(|b| *b == b'=')?;
        Some((&field[..assign], &field[assign + 1..]))
    })
}

/// Visible ASCII of a sane length: what may be signed, logged and sent on as an id.
pub fn is_plain(value: &[u8]) -> bool {
    !value.is_empty() && value.len() <= MAX_VALUE && value.iter().all(|b| matches!(b, 0x20..=0x7e))
}
