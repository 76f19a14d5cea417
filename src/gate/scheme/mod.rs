//! How a provider signs, as data. A [`Recipe`] is compiled from a preset or from
//! the user's own words; nothing in it is decided by a request.

pub mod algorithm;
pub mod content;
pub mod form;
pub mod json;
pub mod jws;
pub mod key;
mod multipart;
pub mod public_key;
pub mod reading;
pub mod sign;
pub mod source;
pub mod timestamp;
pub mod transform;
pub mod url;

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderName;
use subtle::{Choice, ConstantTimeEq};

use self::algorithm::{Algorithm, Encoding, KeyedMac, Tag};
use self::content::{Content, Piece};
use self::form::Form;
use self::json::Pointer;
use self::jws::Token;
use self::key::{KeyError, KeyRule};
use self::public_key::PublicKey;
use self::reading::Reading;
use self::source::Source;
use self::timestamp::TimestampRule;
use self::url::{PublicUrl, SignedQuery};
use super::answer::Reason;
use super::delivery::Head;

/// One way of signing. Fields are in the words of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    pub algorithm: Algorithm,
    pub key: KeyRule,
    pub signature: SignatureRule,
    pub content: Content,
    /// What must hold besides the signature.
    pub also: Vec<Equality>,
    /// Sources without which a delivery is not signed in this way.
    pub when: Vec<Source>,
    /// The field of a form or multipart body that holds the JSON.
    pub payload: Option<Payload>,
    /// The URL that the provider was given; only where the content holds it.
    pub url: Option<PublicUrl>,
    pub url_rule: UrlRule,
    pub timestamp: Option<TimestampRule>,
    /// Where the event's id stands; the first that is present names the event.
    pub id: Vec<Source>,
    /// Where the event's type stands. For people and routing; decides nothing.
    pub event_type: Vec<Source>,
}

/// Where signatures stand and how they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureRule {
    /// The places that may carry a signature; each may come once.
    pub from: Vec<Source>,
    pub format: SignatureFormat,
    pub encoding: Encoding,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureFormat {
    /// The whole value, or each element of a list, is `prefix` and a tag.
    Plain { prefix: Vec<u8>, split: Option<Separators> },
    /// `name=value` fields; those named in `keys` are tags.
    Fields { split: Separators, assign: Assign, keys: FieldNames },
    /// A signed token (RFC 7515) behind `prefix`.
    Token { prefix: Vec<u8>, payload: TokenPayload },
}

/// Bytes of which each one parts two elements.
pub type Separators = Vec<u8>;

/// How a field gets its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assign {
    /// It stands before this byte.
    Before(u8),
    /// It is the field's place in the list, counted from 0.
    Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldNames {
    Any,
    These(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenPayload {
    /// In the token.
    Inside,
    /// The content, which the token leaves out (RFC 7515, appendix F).
    Detached,
}

/// Where the JSON is when it is not the body itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    Form(String),
    Multipart(String),
}

/// `source == template`, such as `query:bodySHA256 == {body|sha256hex}`. What is absent is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Equality {
    pub source: Source,
    pub content: Content,
}

/// In which form the URL is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UrlRule {
    pub query: SignedQuery,
    /// Some senders write the default port out, some leave it out: both are tried.
    pub either_port: bool,
}

/// More entries than any rotation needs; a longer list is refused, to bound the work.
const MAX_ENTRIES: usize = 16;
/// No provider's signature header comes near this.
const MAX_HEADER: usize = 4096;
/// Headers that a sender may say it signed.
const MAX_LISTED: usize = 32;
/// Ids and other signed header values.
const MAX_VALUE: usize = 256;

/// A key, ready to verify under one recipe.
#[derive(Clone)]
pub struct Key {
    pub id: Arc<str>,
    pub verifier: Verifier,
}

/// What tells whether a signature is genuine.
#[derive(Clone)]
pub enum Verifier {
    /// The sender shares the key.
    Mac(Box<KeyedMac>),
    /// The sender keeps the other half of it.
    Public(PublicKey),
}

impl Verifier {
    pub fn new(algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError> {
        match algorithm.keyed(key) {
            Some(mac) => Ok(Verifier::Mac(Box::new(mac))),
            None => PublicKey::new(algorithm, key).map(Verifier::Public),
        }
    }

    /// Whether one of the tags was made with the key. For a shared key the time taken tells nothing.
    pub fn made_any(&self, tags: &[Tag], reading: &Reading<'_>) -> Choice {
        match self {
            Verifier::Mac(keyed) => {
                let mut mac = (**keyed).clone();
                reading.content(keyed.secret(), |bytes| mac.update(bytes));
                let expected = mac.finish();
                let matches = tags.iter().map(|tag| expected.as_bytes().ct_eq(tag.as_bytes()));
                matches.fold(Choice::from(0), |any, one| any | one)
            }
            Verifier::Public(key) => {
                let mut message = Vec::new();
                reading.content(&[], |bytes| message.extend_from_slice(bytes));
                Choice::from(u8::from(tags.iter().any(|tag| key.verifies(&message, tag))))
            }
        }
    }
}

impl Recipe {
    /// The same for a provider that was given this URL; as it was if there is none.
    #[must_use]
    pub fn at(mut self, url: Option<&PublicUrl>) -> Self {
        self.url = url.cloned().or(self.url);
        self
    }

    /// Whether the sender uses this recipe at all: a place for its signature is there. A body is
    /// not looked into yet, so a recipe whose signature stands there is used if nothing speaks against it.
    pub fn is_present(&self, head: &Head<'_>) -> bool {
        let is_there = |source: &Source| match source {
            Source::Header(name) => head.headers.contains_key(name),
            Source::Query(name) => {
                head.query.and_then(Form::parse).is_some_and(|query| query.single(name) != Ok(None))
            }
            Source::Json(_) | Source::Form(_) => true,
            Source::Field(_) | Source::Claim(_) => false,
        };
        self.signature.from.iter().any(is_there) && self.when.iter().all(is_there)
    }

    /// The tags that the sender presents, if they are well formed and everything in the head
    /// that the signature must cover is there. Judged before the body is read; `None` if it is
    /// the body that holds the tags.
    pub fn presented(&self, head: &Head<'_>) -> Result<Option<Vec<Tag>>, Reason> {
        let mut found = Tags::default();
        for source in self.signature.from.iter().filter(|source| !source.is_in_body()) {
            let Some(value) = self.value(source, head)? else { continue };
            self.take_tags(&value, &mut found)?;
        }
        let in_body = self.signature.from.iter().any(Source::is_in_body);
        if in_body && !found.any {
            self.check_signed_values(head)?;
            return Ok(None);
        }
        // A value that must be signed and is not there says more than a tag that is none.
        if found.any {
            self.check_signed_values(head)?;
        }
        found.into_tags().map(Some)
    }

    /// Adds what one place holds. Elements that are no tag of ours (other versions, junk put there
    /// to keep receivers honest) are passed over; they never count as a match.
    fn take_tags(&self, value: &[u8], found: &mut Tags) -> Result<(), Reason> {
        if value.len() > MAX_HEADER {
            return Err(Reason::SignatureMalformed);
        }
        found.any |= !value.is_empty();
        let mut take = |entry: &[u8]| {
            found.entries += 1;
            if found.entries > MAX_ENTRIES {
                return Err(Reason::SignatureMalformed);
            }
            found.of_kind.extend(self.signature.encoding.decode(entry, self.algorithm));
            Ok(())
        };
        match &self.signature.format {
            SignatureFormat::Plain { prefix, split: None } => {
                value.strip_prefix(prefix.as_slice()).map_or(Ok(()), take)
            }
            SignatureFormat::Plain { prefix, split: Some(split) } => {
                let mut entries = value.split(|b| split.contains(b));
                entries.try_for_each(|entry| take(entry.strip_prefix(prefix.as_slice()).unwrap_or_default()))
            }
            SignatureFormat::Fields { split, assign, keys } => fields(value, split, *assign)
                .try_for_each(|(name, value)| take(if keys.contain(&name) { value } else { &[] })),
            SignatureFormat::Token { .. } => match self.token_in(value) {
                Some(token) => take(token.signature),
                None => Ok(()),
            },
        }
    }

    fn check_signed_values(&self, head: &Head<'_>) -> Result<(), Reason> {
        for (n, source, required) in self.content.values() {
            if source.is_in_body() {
                continue;
            }
            let Some(value) = self.value(source, head)? else {
                if required {
                    return Err(Reason::SignatureMissing);
                }
                continue;
            };
            if !self.is_unambiguous(n, source, &value) {
                return Err(Reason::SignatureMalformed);
            }
        }
        if self.lists_all(head) { Ok(()) } else { Err(Reason::SignatureMalformed) }
    }

    /// Where the sender says which headers it signed: whether those that decide something are among them.
    fn lists_all(&self, head: &Head<'_>) -> bool {
        let mut lists = self.content.pieces().filter(|piece| piece.lists_headers()).peekable();
        if lists.peek().is_none() {
            return true;
        }
        let listed: Vec<_> = lists.flat_map(|piece| self.listed(piece, head)).collect();
        let times = self.timestamp.iter().flat_map(|rule| &rule.from);
        times.chain(&self.id).all(|source| match source {
            Source::Header(name) => {
                !head.headers.contains_key(name)
                    || listed.iter().any(|l| l.eq_ignore_ascii_case(name.as_str()))
            }
            _ => true,
        })
    }

    /// The names in a list of signed headers, as the sender writes them.
    pub fn listed(&self, piece: &Piece, head: &Head<'_>) -> Vec<String> {
        let list = match piece {
            Piece::ListedHeaders(name) => {
                let list = head.single(name).ok().flatten();
                list.map(|list| String::from_utf8_lossy(list).into_owned())
            }
            Piece::TokenHeaders(parameter) => self.token(head).and_then(|token| token.list(parameter)),
            _ => None,
        };
        let list = list.unwrap_or_default();
        list.split(',')
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .take(MAX_LISTED)
            .collect()
    }

    /// Whether the value of segment `n` ends where it seems to.
    fn is_unambiguous(&self, n: usize, source: &Source, value: &[u8]) -> bool {
        let separator = self.content.separator(n);
        let rule = self.timestamp.as_ref().filter(|rule| rule.from.contains(source));
        let cut =
            |separator: u8| value.iter().enumerate().filter(move |(_, b)| **b == separator).map(|(n, _)| n);
        is_plain(value)
            && match (rule.map(|rule| rule.unit), separator) {
                (None, None) => true,
                (None, Some(separator)) => !value.contains(&separator),
                (Some(unit), None) => unit.parse(value).is_some() && unit.shows_its_end(value),
                // A time may contain the separator, if what stands before that is no time.
                (Some(unit), Some(separator)) => {
                    unit.parse(value).is_some() && cut(separator).all(|n| unit.parse(&value[..n]).is_none())
                }
            }
    }

    /// The value of a header, signature field or query parameter; `Ok(None)` if it is absent or elsewhere.
    pub fn value<'r>(&self, source: &Source, head: &Head<'r>) -> Result<Option<Cow<'r, [u8]>>, Reason> {
        match source {
            Source::Header(name) => {
                let value = head.single(name).map_err(|_| Reason::SignatureMalformed)?;
                Ok(value.map(Cow::Borrowed))
            }
            Source::Field(name) => Ok(self.field(name, head)?.map(Cow::Borrowed)),
            Source::Query(name) => {
                let Some(query) = head.query.and_then(Form::parse) else { return Ok(None) };
                let value = query.single(name).map_err(|_| Reason::SignatureMalformed)?;
                Ok(value.map(|value| Cow::Owned(value.to_vec())))
            }
            Source::Json(_) | Source::Form(_) | Source::Claim(_) => Ok(None),
        }
    }

    /// A field of the signature header that must not be ambiguous, not even to a reader that
    /// passes over white space.
    fn field<'r>(&self, name: &str, head: &Head<'r>) -> Result<Option<&'r [u8]>, Reason> {
        let SignatureFormat::Fields { split, assign, .. } = &self.signature.format else { return Ok(None) };
        let mut found = None;
        for header in self.signature_headers() {
            let Ok(Some(header)) = head.single(header) else { continue };
            for (key, value) in fields(header, split, *assign) {
                if key.as_ref().trim_ascii() != name.as_bytes() {
                    continue;
                }
                // Where whole sets stand side by side, each with its separator, all say the same.
                let sets = split.len() > 1;
                let other = found.replace(value).is_some_and(|before| !sets || before != value);
                if *key != *name.as_bytes() || other {
                    return Err(Reason::SignatureMalformed);
                }
            }
        }
        Ok(found)
    }

    /// The token in a value, if it is signed as the recipe demands.
    fn token_in<'v>(&self, value: &'v [u8]) -> Option<Token<'v>> {
        let SignatureFormat::Token { prefix, payload } = &self.signature.format else { return None };
        let token = Token::parse(value.strip_prefix(prefix.as_slice())?)?;
        let fits = token.payload.is_empty() == (*payload == TokenPayload::Detached);
        (fits && token.is_of(self.algorithm)).then_some(token)
    }

    /// The token that the head shows.
    pub fn token<'r>(&self, head: &Head<'r>) -> Option<Token<'r>> {
        let value = self.signature_headers().find_map(|name| head.single(name).ok().flatten())?;
        self.token_in(value)
    }

    pub fn signature_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.signature.from.iter().filter_map(|source| match source {
            Source::Header(name) => Some(name),
            _ => None,
        })
    }

    /// Whether a signature vouches for the value of `source`.
    pub fn covers(&self, source: &Source) -> bool {
        self.algorithm == Algorithm::Token
            || self.content.covers(source)
            || (source.is_in_body() && self.covers_body())
    }

    /// Whether a signature vouches for every byte of the body.
    pub fn covers_body(&self) -> bool {
        let by_equality =
            |equality: &Equality| equality.content.covers_body() && self.content.covers(&equality.source);
        self.content.covers_body() || self.also.iter().any(by_equality)
    }

    /// Whether an id from there tells events apart. Where signed values stand side by side with
    /// nothing between them, bytes could move from one to the other: then only the whole content does.
    pub fn identifies(&self, source: &Source) -> bool {
        let whole = |piece: &Piece| matches!(piece, Piece::Body | Piece::Token);
        self.covers(source) && (self.algorithm == Algorithm::Token || self.content.pieces().any(whole))
    }

    /// How much a delivery under this recipe proves.
    pub fn assurance(&self) -> Assurance {
        match self.algorithm {
            Algorithm::Token => Assurance::Authenticated,
            _ if self.covers_body() => Assurance::Verified,
            _ => Assurance::Partial,
        }
    }

    /// Whether the URL that the provider was given must be known.
    pub fn needs_url(&self) -> bool {
        let contents = self.also.iter().map(|equality| &equality.content);
        contents
            .chain([&self.content])
            .flat_map(Content::pieces)
            .any(|piece| matches!(piece, Piece::Url | Piece::UrlWithoutQuery))
    }

    /// The pointers that this recipe reads from JSON, in the body or in its payload.
    pub fn pointers(&self) -> Vec<Pointer> {
        self.sources()
            .filter_map(|source| match source {
                Source::Json(pointer) => Some(pointer.clone()),
                _ => None,
            })
            .collect()
    }

    /// The claims that this recipe reads from its token.
    pub fn claims(&self) -> Vec<Pointer> {
        self.sources()
            .filter_map(|source| match source {
                Source::Claim(pointer) => Some(pointer.clone()),
                _ => None,
            })
            .collect()
    }

    /// The headers that mean something to this recipe.
    pub fn headers(&self) -> Vec<HeaderName> {
        let lists = self.content.pieces().filter_map(|piece| match piece {
            Piece::ListedHeaders(list) => Some(list.clone()),
            _ => None,
        });
        self.sources()
            .filter_map(|source| match source {
                Source::Header(name) => Some(name.clone()),
                _ => None,
            })
            .chain(lists)
            .collect()
    }

    /// Everything that this recipe reads.
    fn sources(&self) -> impl Iterator<Item = &Source> {
        let times = self.timestamp.iter().flat_map(|rule| rule.from.iter().chain(&rule.expires));
        let equal = self.also.iter().flat_map(|equality| {
            [&equality.source].into_iter().chain(equality.content.values().map(|(_, source, _)| source))
        });
        self.signature
            .from
            .iter()
            .chain(self.content.values().map(|(_, source, _)| source))
            .chain(equal)
            .chain(&self.when)
            .chain(&self.id)
            .chain(&self.event_type)
            .chain(times)
    }
}

/// What is known of a delivery that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assurance {
    /// Its sender signed every byte of the body.
    Verified,
    /// Its sender signed some values; the rest of the body could have been changed on the way.
    Partial,
    /// Its sender showed a secret that is the same every time, and signed nothing.
    Authenticated,
}

impl Assurance {
    pub const fn label(self) -> &'static str {
        match self {
            Assurance::Verified => "verified",
            Assurance::Partial => "partial",
            Assurance::Authenticated => "authenticated",
        }
    }
}

/// What was found where signatures stand.
#[derive(Default)]
struct Tags {
    /// Whether there was anything at all.
    any: bool,
    entries: usize,
    of_kind: Vec<Tag>,
}

impl Tags {
    fn into_tags(self) -> Result<Vec<Tag>, Reason> {
        match self {
            Tags { any: false, .. } => Err(Reason::SignatureMissing),
            Tags { of_kind, .. } if of_kind.is_empty() => Err(Reason::SignatureMalformed),
            Tags { of_kind, .. } => Ok(of_kind),
        }
    }
}

impl FieldNames {
    fn contain(&self, name: &[u8]) -> bool {
        match self {
            FieldNames::Any => true,
            FieldNames::These(names) => names.iter().any(|known| known.as_bytes() == name),
        }
    }
}

/// The named fields of a header; one space after the separator is allowed.
fn fields<'h, 's>(
    header: &'h [u8],
    split: &'s [u8],
    assign: Assign,
) -> impl Iterator<Item = (Cow<'h, [u8]>, &'h [u8])> + use<'h, 's> {
    header.split(move |b| split.contains(b)).enumerate().filter_map(move |(place, field)| {
        let field = field.strip_prefix(b" ").unwrap_or(field);
        match assign {
            Assign::Place => Some((Cow::Owned(place.to_string().into_bytes()), field)),
            Assign::Before(byte) => {
                let at = field.iter().position(|b| *b == byte)?;
                Some((Cow::Borrowed(&field[..at]), &field[at + 1..]))
            }
        }
    })
}

/// Visible ASCII of a sane length: what may be signed, logged and sent on as an id.
pub fn is_plain(value: &[u8]) -> bool {
    !value.is_empty() && value.len() <= MAX_VALUE && value.iter().all(|b| matches!(b, 0x20..=0x7e))
}
