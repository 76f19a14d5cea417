//! One question: how it is recognised in a head or in a body, and what value comes with it.

use std::borrow::Cow;

use http::Method;
use http::header::CONTENT_TYPE;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::answer::{Answer, Unanswerable};
use crate::gate::delivery::Head;
use crate::gate::parse::Unreadable;
use crate::gate::parse::form::Form;
use crate::gate::parse::json::{self, Pointer, Scalar};
use crate::gate::scheme::source::Source;

/// One question and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    pub asked: Asked,
    /// What must stand where for it to be this question.
    pub when: Vec<(Source, Literal)>,
    /// Where the asker proves that it knows the token that the operator gave to the provider.
    pub token: Option<(Source, Token)>,
    /// What is sent back.
    pub value: Option<Source>,
    pub answer: Answer,
}

/// How a question comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// As a delivery whose signature holds.
    Signed,
    /// As a bare request, recognised by its head.
    Bare(Method),
    /// As an unsigned POST, recognised by its body.
    Posted(Kind),
}

/// Of what kind the body of an unsigned question is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Form,
    Json,
}

/// A value that is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    Text(String),
    Integer(i64),
}

/// The token is kept as its digest: it can be compared, in constant time, but not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Handshake {
    pub fn places(&self) -> impl Iterator<Item = &Source> {
        let token = self.token.as_ref().map(|(place, _)| place);
        self.when.iter().map(|(place, _)| place).chain(token).chain(&self.value)
    }

    /// Whether a head asks it without a signature.
    pub(super) fn is_asked_by(&self, head: &Head<'_>) -> bool {
        self.asked == Asked::Bare(head.method.clone())
            && self.value.as_ref().is_none_or(|place| is_there(place, head))
            && self.when.iter().all(|(place, literal)| {
                let text = in_head(place, head);
                text.is_some_and(|text| literal.is(&text))
            })
    }

    /// The value in the head that asks it, if the token is the operator's.
    pub(super) fn value_in_head<'r>(&self, head: &Head<'r>) -> Result<Cow<'r, [u8]>, Unanswerable> {
        if let Some((place, token)) = &self.token {
            token.check(&in_head(place, head).ok_or(Unanswerable)?)?;
        }
        match &self.value {
            None => Ok(Cow::Borrowed(b"")),
            Some(place) => in_head(place, head).ok_or(Unanswerable),
        }
    }

    /// Whether the head leaves it to the body, an unsigned one, to tell if it is asked.
    pub(super) fn may_be_posted(&self, head: &Head<'_>) -> bool {
        let Asked::Posted(kind) = self.asked else { return false };
        *head.method == Method::POST && kind.is_of(head)
    }

    /// The value, if head and body are this question, and if the token is the operator's.
    pub(super) fn value_in<'r>(
        &self,
        head: &Head<'r>,
        body: &'r [u8],
    ) -> Option<Result<Cow<'r, [u8]>, Unanswerable>> {
        // Where something stands twice, or cannot be read, there is no question; what it is, others judge.
        let mut values = self.held(head, body).ok()?.into_iter();
        let fits = |(_, literal): &(Source, Literal)| {
            values.next().flatten().is_some_and(|value| literal.is_held(&value))
        };
        if !self.when.iter().all(fits) {
            return None;
        }
        if let Some((_, token)) = &self.token {
            let given = values.next().flatten().and_then(Held::into_text).unwrap_or_default();
            if token.check(&given).is_err() {
                return Some(Err(Unanswerable));
            }
        }
        if self.value.is_none() {
            return Some(Ok(Cow::Borrowed(b"")));
        }
        match values.next().flatten() {
            // The value is part of what tells the question apart from events, as the id of Discord's PING.
            None if self.when.is_empty() || !self.answer.tells_value() || self.has_value_in_head() => None,
            value => Some(value.and_then(Held::into_text).ok_or(Unanswerable)),
        }
    }

    fn has_value_in_head(&self) -> bool {
        matches!(self.value, Some(Source::Header(_) | Source::Query(_)))
    }

    /// What stands in the places, in their order.
    fn held<'r>(&self, head: &Head<'r>, body: &'r [u8]) -> Result<Vec<Option<Held<'r>>>, Unreadable> {
        let form = match self.asked {
            Asked::Posted(Kind::Form) => Form::parse(body)?,
            Asked::Posted(Kind::Json) | Asked::Signed | Asked::Bare(_) => Form::default(),
        };
        let pointers: Vec<&Pointer> = self.places().filter_map(Source::pointer).collect();
        let picked = if pointers.is_empty() { Ok(Vec::new()) } else { json::pick(body, &pointers) };
        let mut picked = picked.map_err(|_| Unreadable)?.into_iter();
        let mut of = |place: &Source| {
            Ok(match place {
                Source::Json(_) => picked.next().flatten().map(Held::Json),
                Source::Form(name) => form.single(name)?.map(Held::Text),
                _ => place.in_head(head)?.map(Held::Text),
            })
        };
        self.places().map(&mut of).collect()
    }
}

/// A value of a head, a form or a JSON body.
enum Held<'r> {
    Text(Cow<'r, [u8]>),
    Json(Scalar<'r>),
}

impl<'r> Held<'r> {
    /// `None` if it is none.
    fn into_text(self) -> Option<Cow<'r, [u8]>> {
        match self {
            Held::Text(text) => Some(text),
            Held::Json(Scalar::Text(Cow::Borrowed(text))) => Some(Cow::Borrowed(text.as_bytes())),
            Held::Json(Scalar::Text(Cow::Owned(text))) => Some(Cow::Owned(text.into_bytes())),
            Held::Json(Scalar::Integer(_) | Scalar::Bool(_) | Scalar::Other) => None,
        }
    }
}

impl Kind {
    /// Whether the head says that the body is of this kind.
    fn is_of(self, head: &Head<'_>) -> bool {
        let Ok(Some(said)) = head.single(&CONTENT_TYPE) else { return false };
        let end = said.iter().position(|b| *b == b';').unwrap_or(said.len());
        said[..end].trim_ascii().eq_ignore_ascii_case(match self {
            Kind::Form => b"application/x-www-form-urlencoded",
            Kind::Json => b"application/json",
        })
    }
}

/// What cannot be read may be there: it is asked, and refused.
fn is_there(place: &Source, head: &Head<'_>) -> bool {
    place.in_head(head) != Ok(None)
}

/// The value, if it stands there exactly once. Nothing is answered without it, so what cannot
/// be read is as useless here as what is not there.
fn in_head<'r>(place: &Source, head: &Head<'r>) -> Option<Cow<'r, [u8]>> {
    place.in_head(head).ok()?
}

impl Literal {
    fn is_held(&self, value: &Held<'_>) -> bool {
        match (self, value) {
            (_, Held::Text(text)) => self.is(text),
            (Literal::Text(wanted), Held::Json(Scalar::Text(text))) => wanted == text,
            (Literal::Integer(wanted), Held::Json(Scalar::Integer(n))) => i128::from(*wanted) == *n,
            (Literal::Text(_) | Literal::Integer(_), Held::Json(_)) => false,
        }
    }

    fn is(&self, text: &[u8]) -> bool {
        match self {
            Literal::Text(wanted) => wanted.as_bytes() == text,
            Literal::Integer(wanted) => wanted.to_string().as_bytes() == text,
        }
    }
}

impl Token {
    pub fn new(text: &[u8]) -> Self {
        Token(Sha256::digest(text).into())
    }

    fn check(&self, given: &[u8]) -> Result<(), Unanswerable> {
        let right: bool = Sha256::digest(given).ct_eq(&self.0).into();
        if right { Ok(()) } else { Err(Unanswerable) }
    }
}
