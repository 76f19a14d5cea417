//! One question: how it is recognised in a head or in a signed body, and what value comes with it.

use std::borrow::Cow;

use http::Method;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::answer::{Answer, Unanswerable};
use crate::gate::delivery::Head;
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

    /// The value, if the body is this question.
    pub(super) fn value_in<'b>(&self, body: &'b [u8]) -> Option<Result<Cow<'b, str>, Unanswerable>> {
        let pointers: Vec<&Pointer> = self
            .places()
            .filter_map(|place| match place {
                Source::Json(pointer) => Some(pointer),
                _ => None,
            })
            .collect();
        // A body in which they stand twice is no question; what it is, others judge.
        let mut found = json::pick(body, &pointers).ok()?;
        let fits = |((_, literal), scalar): (&(Source, Literal), &Option<Scalar<'_>>)| match (literal, scalar)
        {
            (Literal::Text(wanted), Some(Scalar::Text(text))) => wanted == text,
            (Literal::Integer(wanted), Some(Scalar::Integer(n))) => i128::from(*wanted) == *n,
            _ => false,
        };
        if found.len() < self.when.len() || !self.when.iter().zip(&found).all(fits) {
            return None;
        }
        match (&self.value, found.pop().flatten()) {
            (None, _) => Some(Ok(Cow::Borrowed(""))),
            (Some(_), Some(Scalar::Text(text))) => Some(Ok(text)),
            // An answer that does not tell the value does not miss it: the value tells the question
            // apart from events, as the id of Discord's PING does.
            (Some(_), None) if !self.answer.tells_value() => None,
            (Some(_), _) => Some(Err(Unanswerable)),
        }
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
