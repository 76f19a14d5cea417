//! Handshakes: what some providers ask before they send events, or now and then between
//! them, to see that the endpoint is meant to receive them. The gate answers, so that the
//! application need not, and never forwards such a question unless it is told to.
//!
//! A *signed* question is a delivery like any other and is answered once its signature and
//! its time hold. An *unsigned* one proves nothing; what it makes the gate say is bounded:
//! a short value of harmless characters is sent back, as plain text or inside JSON.
//!
//! Some providers want that value sent back under the key that also signs events (Zoom, X and
//! `LinkedIn`). Whoever asks then holds a signature over a text of their own choice.
//! [`Handshakes::could_have_signed`] is why that opens nothing: the gate signs only what
//! consists of token characters, and takes no event that does.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::delivery::Head;
use super::parse::Unreadable;
use super::parse::json::{self, Pointer, Scalar};
use super::scheme::algorithm::{Encoding, KeyedMac};

/// The handshakes of one route.
#[derive(Clone, Default)]
pub struct Handshakes {
    list: Vec<Handshake>,
    /// The keys that answers are made with, newest first.
    keys: Vec<(Arc<str>, KeyedMac)>,
    answered_by: AnsweredBy,
}

/// Who answers. Whoever it is, and even if nobody does, a body that an answer may have signed
/// is no event: the provider asks the same of other endpoints with the same key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnsweredBy {
    #[default]
    Gate,
    Application,
    Nobody,
}

/// One question and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    pub asked: Asked,
    /// What must stand where for it to be this question.
    pub when: Vec<(Place, Literal)>,
    /// Where the asker proves that it knows the token that the operator gave to the provider.
    pub token: Option<(Place, Token)>,
    /// What is sent back.
    pub value: Option<Place>,
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

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Header(HeaderName),
    /// A parameter of the query.
    Query(String),
    Json(Pointer),
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Empty,
    /// The value as plain text.
    Text,
    /// The value in this header.
    Header(HeaderName),
    /// A flat JSON object.
    Json(Vec<(String, Part)>),
}

/// A member of the JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Integer(i64),
    Text(Vec<Piece>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Literal(String),
    /// The value.
    Value,
    /// HMAC-SHA256 of the value under a key of the route.
    Hmac(Encoding),
}

/// What the gate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeReply {
    pub media: Option<Media>,
    pub header: Option<(HeaderName, HeaderValue)>,
    pub body: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    Text,
    Json,
}

impl Media {
    pub const fn name(self) -> &'static str {
        match self {
            Media::Text => "text/plain",
            Media::Json => "application/json",
        }
    }
}

/// It is a question of the provider's, but its token is wrong, or what it wants sent back is
/// not what the provider sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswerable;

/// The longest value that is sent back; the longest known is Microsoft's, of some 200.
const MAX_VALUE: usize = 512;
/// No question is longer; a body that is need not be looked into.
const MAX_QUESTION: usize = 16 * 1024;

/// Characters of tokens: random text, hexadecimal, base64 in either alphabet, UUIDs. None of
/// them can begin a JSON object, an array or a string, or an XML document.
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=')
}

/// What may be sent back as it came: nothing that a browser or a shell gives a meaning to.
const fn is_harmless_byte(byte: u8) -> bool {
    is_token_byte(byte) || matches!(byte, b' ' | b':' | b',' | b'@')
}

impl Handshakes {
    pub fn new(list: Vec<Handshake>, keys: Vec<(Arc<str>, KeyedMac)>, answered_by: AnsweredBy) -> Self {
        Handshakes { list, keys, answered_by }
    }

    /// Whether the provider asks nothing, or nobody answers.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() || self.answered_by == AnsweredBy::Nobody
    }

    /// Whether the application is to answer this one. A HEAD asks for nothing but a status.
    pub fn forwards(&self, handshake: &Handshake) -> bool {
        self.answered_by == AnsweredBy::Application && handshake.asked != Asked::Bare(Method::HEAD)
    }

    /// The unsigned question that the head asks. What carries a signature is judged by that.
    pub fn bare(&self, head: &Head<'_>, carries_signature: impl FnOnce() -> bool) -> Option<&Handshake> {
        let answered = self.answered_by != AnsweredBy::Nobody;
        let mut asked = self.list.iter().filter(|handshake| {
            answered
                && handshake.asked == Asked::Bare(head.method.clone())
                && handshake.value.as_ref().is_none_or(|place| place.is_there(head))
                && handshake.when.iter().all(|(place, literal)| {
                    let text = place.in_head(head);
                    text.is_some_and(|text| literal.is(&text))
                })
        });
        asked.next().filter(|_| *head.method != Method::POST || !carries_signature())
    }

    /// What the gate says to it.
    pub fn answer_bare(
        &self,
        handshake: &Handshake,
        head: &Head<'_>,
        usable: impl Fn(&str) -> bool,
    ) -> Result<HandshakeReply, Unanswerable> {
        if let Some((place, token)) = &handshake.token {
            let given = place.in_head(head).ok_or(Unanswerable)?;
            token.check(&given)?;
        }
        let value = match &handshake.value {
            None => None,
            Some(place) => Some(place.in_head(head).ok_or(Unanswerable)?),
        };
        let key = self.keys.iter().find(|(id, _)| usable(id)).map(|(_, key)| key);
        handshake.answer.compose(value.as_deref().unwrap_or_default(), key)
    }

    /// What the gate says to a delivery that a key of the route signed, if it is a question.
    pub fn answer_signed(&self, body: &[u8], key_id: &str) -> Option<Result<HandshakeReply, Unanswerable>> {
        if self.answered_by != AnsweredBy::Gate || body.len() > MAX_QUESTION {
            return None;
        }
        self.list.iter().filter(|handshake| handshake.asked == Asked::Signed).find_map(|handshake| {
            let value = handshake.value_in(body)?;
            let key = self.keys.iter().find(|(id, _)| **id == *key_id).map(|(_, key)| key);
            Some(value.and_then(|value| handshake.answer.compose(value.as_bytes(), key)))
        })
    }

    /// Whether a signature over this body may be one that the gate itself has given away as the
    /// answer to a question. What is signed contains the body as it is (the configuration sees to
    /// that), so if the body holds anything but token characters, or more of them than any value,
    /// it is not.
    pub fn could_have_signed(&self, body: &[u8]) -> bool {
        body.len() <= MAX_VALUE
            && body.iter().all(|byte| is_token_byte(*byte))
            && self.list.iter().any(|handshake| handshake.answer.signs())
    }

    /// The headers that mean something to these questions.
    pub fn headers(&self) -> impl Iterator<Item = HeaderName> {
        self.list.iter().flat_map(Handshake::places).filter_map(|place| match place {
            Place::Header(name) => Some(name.clone()),
            Place::Query(_) | Place::Json(_) => None,
        })
    }
}

impl Handshake {
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        let token = self.token.as_ref().map(|(place, _)| place);
        self.when.iter().map(|(place, _)| place).chain(token).chain(&self.value)
    }

    /// The value, if the body is this question.
    fn value_in<'b>(&self, body: &'b [u8]) -> Option<Result<Cow<'b, str>, Unanswerable>> {
        let pointers: Vec<&Pointer> = self
            .places()
            .filter_map(|place| match place {
                Place::Json(pointer) => Some(pointer),
                Place::Header(_) | Place::Query(_) => None,
            })
            .collect();
        // A body in which they stand twice is no question; what it is, others judge.
        let mut found = json::pick(body, &pointers).ok()?;
        let fits = |((_, literal), scalar): (&(Place, Literal), &Option<Scalar<'_>>)| match (literal, scalar)
        {
            (Literal::Text(wanted), Some(Scalar::Text(text))) => wanted == text,
            (Literal::Integer(wanted), Some(Scalar::Integer(n))) => wanted == n,
            _ => false,
        };
        if found.len() < self.when.len() || !self.when.iter().zip(&found).all(fits) {
            return None;
        }
        match (&self.value, found.pop().flatten()) {
            (None, _) => Some(Ok(Cow::Borrowed(""))),
            (Some(_), Some(Scalar::Text(text))) => Some(Ok(text)),
            (Some(_), _) => Some(Err(Unanswerable)),
        }
    }
}

impl Place {
    fn is_there(&self, head: &Head<'_>) -> bool {
        match self {
            Place::Header(name) => head.headers.contains_key(name.as_str()),
            // What cannot be read may be there: it is asked, and refused.
            Place::Query(name) => parameter(head, name) != Ok(None),
            Place::Json(_) => false,
        }
    }

    /// The value, if it stands there exactly once. Nothing is answered without it, so what cannot
    /// be read is as useless here as what is not there.
    fn in_head<'r>(&self, head: &Head<'r>) -> Option<Cow<'r, [u8]>> {
        match self {
            Place::Header(name) => head.single(name).ok()?.map(Cow::Borrowed),
            Place::Query(name) => parameter(head, name).ok()?,
            Place::Json(_) => None,
        }
    }
}

fn parameter<'r>(head: &Head<'r>, name: &str) -> Result<Option<Cow<'r, [u8]>>, Unreadable> {
    head.query()?.single(name)
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

impl Answer {
    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        let members: &[(String, Part)] = match self {
            Answer::Json(members) => members,
            Answer::Empty | Answer::Text | Answer::Header(_) => &[],
        };
        members.iter().flat_map(|(_, part)| match part {
            Part::Text(pieces) => pieces.as_slice(),
            Part::Integer(_) => &[],
        })
    }

    /// Whether it gives a signature away.
    pub fn signs(&self) -> bool {
        self.pieces().any(|piece| matches!(piece, Piece::Hmac(_)))
    }

    /// Whether it says anything of the value.
    pub fn tells_value(&self) -> bool {
        matches!(self, Answer::Text | Answer::Header(_))
            || self.pieces().any(|piece| !matches!(piece, Piece::Literal(_)))
    }

    fn compose(&self, value: &[u8], key: Option<&KeyedMac>) -> Result<HandshakeReply, Unanswerable> {
        let value = if self.tells_value() { self.bounded(value)? } else { "" };
        let (media, header, body) = match self {
            Answer::Empty => (None, None, String::new()),
            Answer::Text => (Some(Media::Text), None, value.to_owned()),
            Answer::Header(name) => {
                let value = HeaderValue::from_str(value).map_err(|_| Unanswerable)?;
                (None, Some((name.clone(), value)), String::new())
            }
            Answer::Json(members) => {
                let mut object = serde_json::Map::new();
                for (name, part) in members {
                    let told = match part {
                        Part::Integer(n) => (*n).into(),
                        Part::Text(pieces) => text(pieces, value, key)?.into(),
                    };
                    object.insert(name.clone(), told);
                }
                (Some(Media::Json), None, serde_json::Value::Object(object).to_string())
            }
        };
        Ok(HandshakeReply { media, header, body })
    }

    /// The value, if it may be sent back in this answer.
    fn bounded<'v>(&self, value: &'v [u8]) -> Result<&'v str, Unanswerable> {
        let allowed = if self.signs() { is_token_byte } else { is_harmless_byte };
        let plain = (1..=MAX_VALUE).contains(&value.len()) && value.iter().all(|byte| allowed(*byte));
        std::str::from_utf8(value).ok().filter(|_| plain).ok_or(Unanswerable)
    }
}

fn text(pieces: &[Piece], value: &str, key: Option<&KeyedMac>) -> Result<String, Unanswerable> {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => text.push_str(literal),
            Piece::Value => text.push_str(value),
            Piece::Hmac(encoding) => {
                let mut mac = key.ok_or(Unanswerable)?.clone();
                mac.update(value.as_bytes());
                text.push_str(&encoding.encode(mac.finish()));
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::scheme::algorithm::Algorithm;
    use http::HeaderMap;

    const KEY: &[u8] = b"a key of sixteen bytes or more";

    fn keyed() -> Vec<(Arc<str>, KeyedMac)> {
        vec![("new".into(), Algorithm::HmacSha256.keyed(KEY).unwrap())]
    }

    fn hmac(text: &str) -> String {
        let mut mac = Algorithm::HmacSha256.keyed(KEY).unwrap();
        mac.update(text.as_bytes());
        Encoding::Hex.encode(mac.finish())
    }

    fn get(value: &str, answer: Answer) -> Handshake {
        Handshake {
            asked: Asked::Bare(Method::GET),
            when: Vec::new(),
            token: None,
            value: Some(Place::Query(value.to_owned())),
            answer,
        }
    }

    fn signing() -> Answer {
        Answer::Json(vec![
            ("plain".into(), Part::Text(vec![Piece::Value])),
            ("tag".into(), Part::Text(vec![Piece::Literal("v=".into()), Piece::Hmac(Encoding::Hex)])),
            ("n".into(), Part::Integer(1)),
        ])
    }

    fn head<'h>(method: &'h Method, query: &'h str, headers: &'h HeaderMap) -> Head<'h> {
        Head::offline(method, (b"/", Some(query.as_bytes())), headers)
    }

    fn ask(
        handshake: &Handshake,
        method: &Method,
        query: &str,
    ) -> Option<Result<HandshakeReply, Unanswerable>> {
        let headers = HeaderMap::new();
        let head = head(method, query, &headers);
        let handshakes = Handshakes::new(vec![handshake.clone()], keyed(), AnsweredBy::Gate);
        let found = handshakes.bare(&head, || false)?;
        Some(handshakes.answer_bare(found, &head, |_| true))
    }

    fn said(handshake: &Handshake, query: &str) -> Option<Result<String, Unanswerable>> {
        ask(handshake, &Method::GET, query).map(|answer| answer.map(|said| said.body))
    }

    #[test]
    fn a_value_is_sent_back_as_it_was_meant() {
        let echo = get("challenge", Answer::Text);
        for (query, value) in [
            ("challenge=abc-123", "abc-123"),
            ("x=1&challenge=abc", "abc"),
            ("challenge=a%20b+c%3A", "a b c:"),
            ("ch%61llenge=abc", "abc"),
        ] {
            assert_eq!(said(&echo, query), Some(Ok(value.to_owned())), "{query}");
        }
        for other in ["", "x=1", "Challenge=abc", "challeng=a", "xchallenge=abc"] {
            assert_eq!(said(&echo, other), None, "{other} asks nothing");
        }
        assert_eq!(ask(&echo, &Method::POST, "challenge=abc"), None, "another method asks nothing");
    }

    #[test]
    fn nothing_that_means_something_to_others_is_sent_back() {
        let echo = get("challenge", Answer::Text);
        for bad in [
            "challenge=",
            "challenge",
            "challenge=a&challenge=b",
            "challenge=%3Cscript%3E",
            "challenge=a%22b",
            "challenge=a%0d%0ab",
            "challenge=%00",
            "challenge=%C3%BC",
            "challenge=%",
            "challenge=%7B%7D",
        ] {
            assert_eq!(said(&echo, bad), Some(Err(Unanswerable)), "{bad}");
        }
        let long = format!("challenge={}", "a".repeat(MAX_VALUE));
        assert!(matches!(said(&echo, &long), Some(Ok(_))));
        assert_eq!(said(&echo, &format!("{long}a")), Some(Err(Unanswerable)));
    }

    #[test]
    fn a_token_must_be_the_operators() {
        let handshake = Handshake {
            when: vec![(Place::Query("mode".into()), Literal::Text("subscribe".into()))],
            token: Some((Place::Query("token".into()), Token::new(b"open sesame"))),
            ..get("challenge", Answer::Text)
        };
        let right = "mode=subscribe&token=open+sesame&challenge=1158201444";
        assert_eq!(said(&handshake, right), Some(Ok("1158201444".to_owned())));
        for wrong in [
            "mode=subscribe&token=open&challenge=1",
            "mode=subscribe&challenge=1",
            "mode=subscribe&token=&challenge=1",
            "mode=subscribe&token=open+sesame&token=open+sesame&challenge=1",
        ] {
            assert_eq!(said(&handshake, wrong), Some(Err(Unanswerable)), "{wrong}");
        }
        for other in ["mode=unsubscribe&token=open+sesame&challenge=1", "token=open+sesame&challenge=1"] {
            assert_eq!(said(&handshake, other), None, "{other}");
        }
    }

    #[test]
    fn a_value_is_signed_only_if_it_is_a_token() {
        let crc = get("crc", signing());
        let told: serde_json::Value =
            serde_json::from_str(&said(&crc, "crc=NTE3ZjU4%2BYg%3D%3D").unwrap().unwrap()).unwrap();
        let tag = hmac("NTE3ZjU4+Yg==");
        assert_eq!(told, serde_json::json!({ "plain": "NTE3ZjU4+Yg==", "tag": format!("v={tag}"), "n": 1 }));
        for bad in ["crc=%7B%7D", "crc=%5B%5D", "crc=%22a%22", "crc=a+b", "crc=a:b", "crc=1,2", "crc=%3Cx%3E"]
        {
            assert_eq!(said(&crc, bad), Some(Err(Unanswerable)), "{bad}");
        }
    }

    /// For every text of up to two bytes, and some longer ones: if the gate would sign it for
    /// whoever asks, it takes no event with that body.
    #[test]
    fn what_the_gate_signs_for_strangers_is_no_event() {
        let answer = signing();
        let handshakes = Handshakes::new(vec![get("crc", answer.clone())], keyed(), AnsweredBy::Gate);
        let mut texts: Vec<Vec<u8>> = (0..=255u8).map(|a| vec![a]).collect();
        texts.extend((0..=u16::MAX).map(|ab| ab.to_be_bytes().to_vec()));
        texts.extend([vec![], vec![b'a'; MAX_VALUE], vec![b'a'; MAX_VALUE + 1]]);
        let mut signed = 0;
        for text in &texts {
            if answer.bounded(text).is_ok() {
                signed += 1;
                assert!(handshakes.could_have_signed(text), "{text:?}");
            }
        }
        assert!(signed > 69 * 69, "{signed} were signed");
        for event in [&b"{}"[..], b"[]", b"{\"id\":\"a\"}", b"<x/>", b"a b", b"payload=%7B%7D&x=1"] {
            assert!(!handshakes.could_have_signed(event), "{event:?} is an event");
        }
        let echoing = Handshakes::new(vec![get("challenge", Answer::Text)], keyed(), AnsweredBy::Gate);
        assert!(!echoing.could_have_signed(b"abc"), "who signs nothing gives nothing away");
    }

    #[test]
    fn a_signed_question_is_recognised_in_the_body() {
        let slack = Handshake {
            asked: Asked::Signed,
            when: vec![(Place::Json("/type".parse().unwrap()), Literal::Text("url_verification".into()))],
            token: None,
            value: Some(Place::Json("/challenge".parse().unwrap())),
            answer: Answer::Text,
        };
        let ping = Handshake {
            when: vec![(Place::Json("/type".parse().unwrap()), Literal::Integer(1))],
            value: None,
            answer: Answer::Json(vec![("type".into(), Part::Integer(1))]),
            ..slack.clone()
        };
        let handshakes = Handshakes::new(vec![slack, ping], keyed(), AnsweredBy::Gate);
        let ask = |body: &str| {
            handshakes.answer_signed(body.as_bytes(), "new").map(|answer| answer.map(|said| said.body))
        };
        assert_eq!(ask(r#"{"type":"url_verification","challenge":"3eZb"}"#), Some(Ok("3eZb".to_owned())));
        assert_eq!(ask(r#"{"type":1}"#), Some(Ok(r#"{"type":1}"#.to_owned())));
        for unanswerable in [
            r#"{"type":"url_verification"}"#,
            r#"{"type":"url_verification","challenge":5}"#,
            r#"{"type":"url_verification","challenge":"<b>"}"#,
        ] {
            assert_eq!(ask(unanswerable), Some(Err(Unanswerable)), "{unanswerable}");
        }
        for event in [
            r#"{"type":"event_callback","challenge":"3eZb"}"#,
            r#"{"event":{"type":"url_verification"},"challenge":"3eZb"}"#,
            r#"{"type":"1"}"#,
            r#"{"type":"url_verification","type":"x","challenge":"3eZb"}"#,
            "type=url_verification",
            "",
        ] {
            assert_eq!(ask(event), None, "{event}");
        }
        for other in [AnsweredBy::Application, AnsweredBy::Nobody] {
            let handshakes = Handshakes { answered_by: other, ..handshakes.clone() };
            assert!(handshakes.answer_signed(br#"{"type":1}"#, "new").is_none());
        }
    }

    #[test]
    fn a_key_that_may_not_be_used_signs_no_answer() {
        let crc = get("crc", signing());
        let headers = HeaderMap::new();
        let head = head(&Method::GET, "crc=abc", &headers);
        let mut keys = keyed();
        keys.insert(
            0,
            ("ended".into(), Algorithm::HmacSha256.keyed(b"another key, ended yesterday").unwrap()),
        );
        let handshakes = Handshakes::new(vec![crc.clone()], keys, AnsweredBy::Gate);
        let answer = handshakes.answer_bare(&crc, &head, |id| id != "ended").unwrap();
        assert!(answer.body.contains(&hmac("abc")));
        assert_eq!(handshakes.answer_bare(&crc, &head, |_| false), Err(Unanswerable));
    }
}
