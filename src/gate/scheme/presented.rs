//! What the head presents: the tags, if they are well formed, and the values beside them
//! that the signature must cover. Judged before a byte of the body is read.

use std::borrow::Cow;

use http::HeaderName;

use super::algorithm::Tag;
use super::content::{Content, Piece};
use super::reading::is_form;
use super::source::Source;
use super::{Assign, FieldNames, Recipe, SignatureFormat, TokenPayload, is_plain};
use crate::gate::delivery::Head;
use crate::gate::parse::Unreadable;
use crate::gate::parse::jws::{PayloadForm, Token};
use crate::gate::reason::Reason;

/// More entries than any rotation needs; a longer list is refused, to bound the work.
const MAX_ENTRIES: usize = 16;
/// No provider's signature header comes near this.
const MAX_HEADER: usize = 4096;
/// Headers that a sender may say it signed; a longer list is refused.
const MAX_LISTED: usize = 32;

/// Tags in the place of signatures.
#[derive(Debug)]
pub enum Shown {
    Tags(Vec<Tag>),
    /// It is the body that holds them.
    InBody,
    /// Nothing there is a tag of this recipe.
    Nothing(Reason),
}

impl Recipe {
    /// Whether the sender uses this recipe at all: a place for its signature is there. A body is
    /// not looked into yet, so a recipe whose signature stands there is used if nothing speaks against it.
    pub fn is_present(&self, head: &Head<'_>) -> Result<bool, Unreadable> {
        let is_there = |source: &Source| match source {
            Source::Header(name) | Source::HeaderJson(name, _) => {
                Ok(head.headers.contains_key(name.as_str()))
            }
            Source::Query(name) => Ok(head.query()?.single(name)?.is_some()),
            Source::Json(_)
            | Source::Inner(..)
            | Source::Each(..)
            | Source::Form(_)
            | Source::Multipart(_)
            | Source::Body => Ok(head.content_length != Some(0)),
            Source::Field(_) | Source::Claim(_) | Source::Token(_) => Ok(false),
        };
        for source in &self.when {
            let holds = match source {
                // No body is needed to know that it is a form.
                Source::Form(_) => is_form(head)?,
                _ => is_there(source)?,
            };
            if !holds {
                return Ok(false);
            }
        }
        for source in &self.signature.from {
            if is_there(source)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What the sender presents under this recipe; an objection if something in the head that the
    /// signature must cover is not there. Judged before the body is read.
    pub fn presented(&self, head: &Head<'_>) -> Result<Shown, Reason> {
        let mut found = Tags::default();
        for source in self.signature.from.iter().filter(|source| !source.is_in_body()) {
            let Some(value) = self.value(source, head).map_err(Reason::from)? else { continue };
            if value.len() > MAX_HEADER {
                return Err(Reason::SignatureMalformed);
            }
            self.take_tags(&value, &mut found)?;
        }
        let in_body = !found.any && self.signature.from.iter().any(Source::is_in_body);
        // A value that must be signed and is not there says more than a tag that is none.
        if in_body || found.any {
            match self.check_signed_values(head) {
                // Without a tag of this kind the delivery is not of this recipe, whatever it lacks.
                Err(reason) if !in_body && found.of_kind.is_empty() => return Ok(Shown::Nothing(reason)),
                checked => checked?,
            }
        }
        if in_body {
            return Ok(Shown::InBody);
        }
        Ok(found.into_tags().map_or_else(Shown::Nothing, Shown::Tags))
    }

    /// Adds what one place holds. Elements that are no tag of ours (other versions, junk put there
    /// to keep receivers honest) are passed over; they never count as a match.
    pub(super) fn take_tags(&self, value: &[u8], found: &mut Tags) -> Result<(), Reason> {
        found.any |= !value.is_empty();
        let mut take = |entry: &[u8]| {
            found.entries += 1;
            if found.entries > MAX_ENTRIES {
                return Err(Reason::SignatureMalformed);
            }
            // No tag ends in a comma: it belongs to the list, as in `v1,AbC=, v1,DeF=`.
            let tag = |entry| self.signature.encoding.decode(entry, self.algorithm);
            if let Some(tag) = tag(entry).or_else(|| tag(entry.strip_suffix(b",")?)) {
                if found.of_kind.is_empty() {
                    found.of_kind = Vec::with_capacity(1); // nearly always there is one
                }
                found.of_kind.push(tag);
            }
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
        for content in self.contents() {
            for (n, source, required) in content.values().filter(|(_, source, _)| !source.is_in_body()) {
                let Some(value) = self.value(source, head).map_err(Reason::from)? else {
                    if required {
                        return Err(Reason::SignatureMissing);
                    }
                    continue;
                };
                if !self.is_unambiguous(content, n, source, &value) {
                    return Err(Reason::SignatureMalformed);
                }
            }
        }
        if self.lists_all(head).map_err(Reason::from)? { Ok(()) } else { Err(Reason::SignatureMalformed) }
    }

    /// Where the sender says which headers it signed: whether those that decide something are among them.
    fn lists_all(&self, head: &Head<'_>) -> Result<bool, Unreadable> {
        let Some(listed) = self.listed(head)? else { return Ok(true) };
        let times = self.timestamp.iter().flat_map(|rule| &rule.from);
        let equal = self.also.iter().map(|equality| &equality.source);
        Ok(times.chain(&self.id).chain(equal).all(|source| match source {
            Source::Header(name) => !head.headers.contains_key(name.as_str()) || listed.contains(name),
            _ => true,
        }))
    }

    /// Whether the signature of this delivery vouches for the value of `source`.
    pub fn vouches_for(&self, source: &Source, head: &Head<'_>) -> Result<bool, Unreadable> {
        Ok(self.covers(source)
            && match (source, self.listed(head)?) {
                (Source::Header(name), Some(listed)) => self.content.keeps(source) || listed.contains(name),
                _ => true,
            })
    }

    /// The headers that the sender says it signed; `None` where it does not say so.
    fn listed(&self, head: &Head<'_>) -> Result<Option<Vec<HeaderName>>, Unreadable> {
        let mut lists = self.content.pieces().filter(|piece| piece.lists_headers()).peekable();
        if lists.peek().is_none() {
            return Ok(None);
        }
        let mut listed = Vec::new();
        for piece in lists {
            for name in self.listed_as_written(piece, head)? {
                listed.push(name.parse().map_err(|_| Unreadable)?);
            }
        }
        Ok(Some(listed))
    }

    /// The names in such a list, as the sender writes them.
    pub fn listed_as_written(&self, piece: &Piece, head: &Head<'_>) -> Result<Vec<String>, Unreadable> {
        let text = |list: Option<&[u8]>| {
            std::str::from_utf8(list.unwrap_or_default()).map(str::to_owned).map_err(|_| Unreadable)
        };
        let (list, between) = match piece {
            Piece::ListedHeaders(name) => (text(head.single(name)?)?, ','),
            Piece::FieldHeaders(field) => (text(self.field(field, head)?)?, ' '),
            Piece::TokenHeaders(parameter) => (self.token(head)?.list(parameter)?, ','),
            _ => (String::new(), ','),
        };
        let names = list.split(between).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        let names: Vec<_> = names.collect();
        if names.len() > MAX_LISTED { Err(Unreadable) } else { Ok(names) }
    }

    /// Whether the value of segment `n` ends where it seems to.
    pub(super) fn is_unambiguous(&self, content: &Content, n: usize, source: &Source, value: &[u8]) -> bool {
        let separator = content.separator(n);
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
    pub fn value<'r>(&self, source: &Source, head: &Head<'r>) -> Result<Option<Cow<'r, [u8]>>, Unreadable> {
        match source {
            Source::Field(name) => Ok(self.field(name, head)?.map(Cow::Borrowed)),
            _ => source.in_head(head),
        }
    }

    /// A field of the signature header that must not be ambiguous, not even to a reader that
    /// passes over white space.
    fn field<'r>(&self, name: &str, head: &Head<'r>) -> Result<Option<&'r [u8]>, Unreadable> {
        let SignatureFormat::Fields { split, assign, .. } = &self.signature.format else { return Ok(None) };
        let mut found = None;
        for header in self.signature_headers() {
            let Some(header) = head.single(header)? else { continue };
            for (key, value) in fields(header, split, *assign) {
                if key.as_ref().trim_ascii() != name.as_bytes() {
                    continue;
                }
                // Where whole sets stand side by side, each with its separator, all say the same.
                let sets = split.len() > 1;
                let other = found.replace(value).is_some_and(|before| !sets || before != value);
                if *key != *name.as_bytes() || other {
                    return Err(Unreadable);
                }
            }
        }
        Ok(found)
    }

    /// The token in a value, if it is signed as the recipe demands.
    pub(super) fn token_in<'v>(&self, value: &'v [u8]) -> Option<Token<'v>> {
        let SignatureFormat::Token { prefix, payload } = &self.signature.format else { return None };
        let token = Token::parse(value.strip_prefix(prefix.as_slice())?)?;
        let fits = token.payload.is_empty() == (*payload != TokenPayload::Inside);
        let form = if *payload == TokenPayload::Plain { PayloadForm::Plain } else { PayloadForm::Encoded };
        // It is not asked which algorithm to use. A header that cannot be read names none of ours.
        let ours =
            token.algorithm().is_ok_and(|(name, of)| self.algorithm.of_token() == Some(&*name) && of == form);
        (fits && ours).then_some(token)
    }

    /// The token that the head shows. Who asks needs one: that there is none is no answer.
    pub fn token<'r>(&self, head: &Head<'r>) -> Result<Token<'r>, Unreadable> {
        for name in self.signature_headers() {
            if let Some(value) = head.single(name)? {
                return self.token_in(value).ok_or(Unreadable);
            }
        }
        Err(Unreadable)
    }

    pub fn signature_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.signature.from.iter().filter_map(Source::header)
    }
}

/// What was found where signatures stand.
#[derive(Default)]
pub(super) struct Tags {
    /// Whether there was anything at all.
    any: bool,
    entries: usize,
    of_kind: Vec<Tag>,
}

impl Tags {
    pub(super) fn into_tags(self) -> Result<Vec<Tag>, Reason> {
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
