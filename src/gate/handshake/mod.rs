//! Handshakes: what some providers ask before they send events, or now and then between
//! them, to see that the endpoint is meant to receive them. The gate answers, so that the
//! application need not, and never forwards such a question unless it is told to.
//!
//! A *signed* question is a delivery like any other and is answered once its signature and
//! its time hold. An *unsigned* one proves nothing; what it makes the gate say is bounded:
//! a short value of harmless characters is sent back, as plain text or inside JSON. Most are known
//! by their head. Where a provider writes the question into the body, that is looked at before any
//! proof, if it is unsigned, of the right kind and short; what then is no question is refused.
//!
//! Some providers want that value sent back under the key that also signs events (Zoom, X and
//! `LinkedIn`). Whoever asks then holds a signature over a text of their own choice.
//! [`Handshakes::could_have_signed`] is why that opens nothing: the gate signs only what
//! consists of token characters, and takes no event that does.

mod answer;
mod question;

use std::sync::Arc;

use http::{HeaderName, Method};

pub use self::answer::{Answer, HandshakeReply, Media, Part, Piece, Registered, Unanswerable, Visit};
use self::answer::{MAX_VALUE, is_token_byte};
pub use self::question::{Asked, Handshake, Kind, Literal, Token};
use super::delivery::Head;
use super::scheme::algorithm::KeyedMac;
use super::scheme::source::Source;

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

/// No question is longer; a body that is need not be looked into.
const MAX_QUESTION: usize = 16 * 1024;
/// The longest body that is looked into though nothing proves where it comes from.
const MAX_POSTED: u64 = 4 * 1024;

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
        let application =
            self.answered_by == AnsweredBy::Application || handshake.answer == Answer::Application;
        application && handshake.asked != Asked::Bare(Method::HEAD)
    }

    /// The unsigned question that the head asks. What carries a signature is judged by that.
    pub fn bare(&self, head: &Head<'_>, carries_signature: impl FnOnce() -> bool) -> Option<&Handshake> {
        let answered = self.answered_by != AnsweredBy::Nobody;
        let mut asked = self.list.iter().filter(|handshake| answered && handshake.is_asked_by(head));
        asked.next().filter(|_| *head.method != Method::POST || !carries_signature())
    }

    /// Whether a body may be looked into to see if it is a question, as far as the head tells. Asked
    /// only of what is unsigned.
    pub fn may_be_posted(&self, head: &Head<'_>) -> bool {
        self.answered_by != AnsweredBy::Nobody
            && head.content_length.is_some_and(|length| (1..=MAX_POSTED).contains(&length))
            && self.list.iter().any(|handshake| handshake.may_be_posted(head))
    }

    /// The question that such a body is.
    pub fn posted(&self, head: &Head<'_>, body: &[u8]) -> Option<&Handshake> {
        self.list
            .iter()
            .find(|handshake| handshake.may_be_posted(head) && handshake.value_in(head, body).is_some())
    }

    /// What the gate says to it, with the key that it may use.
    pub fn answer_posted(
        &self,
        handshake: &Handshake,
        head: &Head<'_>,
        body: &[u8],
        key: Option<&KeyedMac>,
    ) -> Result<HandshakeReply, Unanswerable> {
        let value = handshake.value_in(head, body).unwrap_or(Err(Unanswerable))?;
        handshake.answer.compose(&value, head.path, key)
    }

    /// What becomes of a request whose whole body is at hand as a question that nobody signed: the gate's
    /// answer to it, or `None` if it is the application's to give. `None` outside if it asks nothing.
    pub fn answer_unsigned(
        &self,
        head: &Head<'_>,
        body: &[u8],
        carries_signature: impl Fn() -> bool,
    ) -> Option<Option<Result<HandshakeReply, Unanswerable>>> {
        let key = self.keys.first().map(|(_, key)| key);
        if let Some(question) = self.bare(head, &carries_signature) {
            return Some((!self.forwards(question)).then(|| self.answer_bare(question, head, key)));
        }
        if carries_signature() || !self.may_be_posted(head) {
            return None;
        }
        let question = self.posted(head, body)?;
        Some((!self.forwards(question)).then(|| self.answer_posted(question, head, body, key)))
    }

    /// The keys of the route that answers are made with, newest first.
    pub fn keys(&self) -> &[(Arc<str>, KeyedMac)] {
        &self.keys
    }

    /// Whether an answer can hold a signature.
    pub fn sign(&self) -> bool {
        self.answered_by == AnsweredBy::Gate && self.list.iter().any(|handshake| handshake.answer.signs())
    }

    /// Whether the gate may have to visit an address before it answers.
    pub fn visit(&self) -> bool {
        self.answered_by == AnsweredBy::Gate
            && self.list.iter().any(|handshake| matches!(handshake.answer, Answer::Visit(_)))
    }

    /// What the gate says to it, with the key that it may use.
    pub fn answer_bare(
        &self,
        handshake: &Handshake,
        head: &Head<'_>,
        key: Option<&KeyedMac>,
    ) -> Result<HandshakeReply, Unanswerable> {
        let value = handshake.value_in_head(head)?;
        handshake.answer.compose(&value, head.path, key)
    }

    /// What the gate says to a delivery that this key signed, if it is a question.
    pub fn answer_signed<'k>(
        &self,
        head: &Head<'_>,
        body: &[u8],
        key: impl Fn() -> Option<&'k KeyedMac>,
    ) -> Option<Result<HandshakeReply, Unanswerable>> {
        if self.answered_by != AnsweredBy::Gate || body.len() > MAX_QUESTION {
            return None;
        }
        self.list.iter().filter(|handshake| handshake.asked == Asked::Signed).find_map(|handshake| {
            let value = handshake.value_in(head, body)?;
            Some(value.and_then(|value| handshake.answer.compose(&value, head.path, key())))
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
            Source::Header(name) => Some(name.clone()),
            _ => None,
        })
    }
}

/// The key that an answer is made with, of those that may be used.
pub fn newest(keys: &[(Arc<str>, KeyedMac)], usable: impl Fn(&str) -> bool) -> Option<&KeyedMac> {
    keys.iter().find(|(id, _)| usable(id)).map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::scheme::algorithm::{Algorithm, Encoding};
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
            value: Some(Source::Query(value.to_owned())),
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
        Some(handshakes.answer_bare(found, &head, newest(handshakes.keys(), |_| true)))
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
            when: vec![(Source::Query("mode".into()), Literal::Text("subscribe".into()))],
            token: Some((Source::Query("token".into()), Token::new(b"open sesame"))),
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
            when: vec![(Source::Json("/type".parse().unwrap()), Literal::Text("url_verification".into()))],
            token: None,
            value: Some(Source::Json("/challenge".parse().unwrap())),
            answer: Answer::Text,
        };
        let ping = Handshake {
            when: vec![(Source::Json("/type".parse().unwrap()), Literal::Integer(1))],
            value: Some(Source::Json("/id".parse().unwrap())),
            answer: Answer::Json(vec![("type".into(), Part::Integer(1))]),
            ..slack.clone()
        };
        let handshakes = Handshakes::new(vec![slack, ping], keyed(), AnsweredBy::Gate);
        let ask = |body: &str| {
            let headers = HeaderMap::new();
            let head = head(&Method::POST, "", &headers);
            let answer =
                handshakes.answer_signed(&head, body.as_bytes(), || newest(handshakes.keys(), |_| true));
            answer.map(|answer| answer.map(|said| said.body))
        };
        assert_eq!(ask(r#"{"type":"url_verification","challenge":"3eZb"}"#), Some(Ok("3eZb".to_owned())));
        assert_eq!(ask(r#"{"type":1,"id":"9"}"#), Some(Ok(r#"{"type":1}"#.to_owned())));
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
            r#"{"type":"1","id":"9"}"#,
            r#"{"type":1,"event":{"id":"9"}}"#,
            r#"{"type":"url_verification","type":"x","challenge":"3eZb"}"#,
            "type=url_verification",
            "",
        ] {
            assert_eq!(ask(event), None, "{event}");
        }
        for other in [AnsweredBy::Application, AnsweredBy::Nobody] {
            let handshakes = Handshakes { answered_by: other, ..handshakes.clone() };
            let headers = HeaderMap::new();
            let head = head(&Method::POST, "", &headers);
            assert!(handshakes.answer_signed(&head, br#"{"type":1,"id":"9"}"#, || None).is_none());
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
        let answer = |usable: &dyn Fn(&str) -> bool| {
            handshakes.answer_bare(&crc, &head, newest(handshakes.keys(), usable))
        };
        assert!(answer(&|id| id != "ended").unwrap().body.contains(&hmac("abc")));
        assert_eq!(answer(&|_| false), Err(Unanswerable));
    }
}
