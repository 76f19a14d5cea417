//! The words for handshakes, in a preset and in a route, and what they are compiled to.

use std::collections::BTreeMap;
use std::fmt;

use clap::builder::{EnumValueParser, MapValueParser, TypedValueParser};
use http::Method;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use schemars::JsonSchema;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Fault;
use super::located::FlagValue;
use super::raw::{AddressWords, one_or_many_addresses};
use super::secret::Secret;
use crate::gate::fetched::address::Address;
use crate::gate::fetched::parameters::{Parameters, is_name};
use crate::gate::handshake::{Answer, Asked, Handshake, Kind, Literal, Part, Piece, Registered, Token};
use crate::gate::parse::url::PublicUrl;
use crate::gate::scheme::algorithm::Encoding;
use crate::gate::scheme::source::Source;

/// What a route does with the handshakes of its provider, or its own.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(untagged)]
pub enum Words {
    Mode(Mode),
    Own(Vec<Raw>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, clap::ValueEnum)]
#[schemars(rename_all = "lowercase")]
pub enum Mode {
    /// The gate answers.
    Answer,
    /// The application does.
    Forward,
    /// The gate answers, and visits an address of the provider's to confirm what its operator wants delivered.
    Confirm,
    /// They are refused like any other request without a signature.
    #[value(aliases = ["no", "false"])]
    Off,
}

/// A question of a provider's and the answer to it.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// It comes as a delivery whose signature holds.
    #[serde(default)]
    pub signed: bool,
    /// Of a question that is not signed.
    pub method: Option<Ask>,
    /// What must stand where: `json:/pointer` if it is signed; else `query:name`, `header:Name`, and of a
    /// POST `form:name` or `json:/pointer`.
    #[serde(default)]
    pub when: BTreeMap<String, Scalar>,
    /// Where the token stands that the operator gave to the provider.
    pub token: Option<String>,
    /// Where the value stands that is sent back.
    pub value: Option<String>,
    /// What is sent back.
    pub answer: RawAnswer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Ask {
    Get,
    Head,
    Options,
    Post,
}

#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawAnswer {
    /// Nothing but 200.
    Empty,
    /// Nothing but this status.
    Status(u16),
    /// What only the application can tell: it gets the question, marked as observed.
    Application,
    /// The value as plain text.
    Text,
    /// The value in the header that it came in.
    Header,
    /// The value in this header.
    #[serde(rename = "as_header")]
    AsHeader(String),
    /// A flat object; `{value}`, `{hmac:hex}` and `{hmac:base64}` in it are filled in, and `{digest:hex}`: the SHA-256 of
    /// the value, the token that the operator gave to the provider, and `public_url`.
    Json(BTreeMap<String, Scalar>),
    /// Nothing but 200, once the gate has asked for this address, with the value in its hole, such as `{word}`. Of
    /// several, the first that is for the route.
    Visit(
        #[serde(deserialize_with = "one_or_many_addresses")]
        #[schemars(with = "Vec<AddressWords>")]
        Vec<AddressWords>,
    ),
}

/// What stands for the digest of value, token and URL in an answer.
const DIGEST: &str = "digest:hex";

impl Raw {
    /// Whether the token that the operator gave to the provider is in the answer.
    pub fn digests(&self) -> bool {
        let holds = |part: &Scalar| matches!(part, Scalar::Text(text) if text.contains(DIGEST));
        matches!(&self.answer, RawAnswer::Json(members) if members.values().any(holds))
    }

    /// Whether the gate visits an address to answer it.
    pub fn visits(&self) -> bool {
        matches!(self.answer, RawAnswer::Visit(_))
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Scalar {
    Integer(i64),
    Text(String),
}

/// As a flag it is a mode.
impl FlagValue for Words {
    type Parser = MapValueParser<EnumValueParser<Mode>, fn(Mode) -> Words>;

    fn parser() -> Self::Parser {
        EnumValueParser::new().map(Words::Mode)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Answer => "answer",
            Mode::Forward => "forward",
            Mode::Confirm => "confirm",
            Mode::Off => "off",
        })
    }
}

/// By hand, so that a fault is told as what it is and at its place.
impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("answer, confirm, forward, off, or a list of handshakes")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Words, E> {
                clap::ValueEnum::from_str(word, true).map(Words::Mode).map_err(|_| {
                    E::custom(format!(
                        "\"{word}\" is no way to treat handshakes: write answer, confirm, forward or off"
                    ))
                })
            }

            /// `off` without quotes is a boolean in YAML.
            fn visit_bool<E: serde::de::Error>(self, on: bool) -> Result<Words, E> {
                self.visit_str(if on { "on" } else { "off" })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Words, A::Error> {
                let mut list = Vec::new();
                while let Some(handshake) = seq.next_element()? {
                    list.push(handshake);
                }
                Ok(Words::Own(list))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// What a route has for its questions.
#[derive(Clone, Copy, Default)]
pub struct OfRoute<'r> {
    /// What the operator gave to the provider.
    pub token: Option<&'r Secret>,
    /// Under which URL the provider knows the endpoint.
    pub url: Option<&'r PublicUrl>,
}

/// Compiles one on a route that says this of itself: once for each value of the route's that it names, as in
/// `"{route:topic_arns}"`. Nothing, if it asks for a token, and the operator has given none.
pub fn compile_on(raw: &Raw, of: OfRoute<'_>, route: &Parameters) -> Result<Vec<Handshake>, Fault> {
    let mut compiled = Vec::new();
    for route in each(raw, route) {
        compiled.extend(compile(&filled(raw, &route), of)?);
    }
    Ok(compiled)
}

/// The route with one of its values, for each of those that a question names.
fn each(raw: &Raw, route: &Parameters) -> Vec<Parameters> {
    let named = raw.when.values().find_map(|literal| match literal {
        Scalar::Text(text) => text.strip_prefix('{')?.strip_suffix('}').filter(|name| is_name(name)),
        Scalar::Integer(_) => None,
    });
    let Some(name) = named else { return vec![route.clone()] };
    let values = route.values(name).unwrap_or_default();
    values.into_iter().filter_map(|value| route.only(name, &[value])).collect()
}

fn filled(raw: &Raw, route: &Parameters) -> Raw {
    let text = |text: &String| route.fill(text).pop().unwrap_or_default();
    let mut filled = raw.clone();
    for literal in filled.when.values_mut() {
        if let Scalar::Text(said) = literal {
            *said = text(said);
        }
    }
    if let RawAnswer::Visit(addresses) = &mut filled.answer {
        let is_for =
            |words: &AddressWords| words.of.as_ref().is_none_or(|of| route.only(of, &words.is).is_some());
        let first = addresses.iter().find(|words| is_for(words));
        *addresses =
            first.map(|words| AddressWords { url: text(&words.url), ..words.clone() }).into_iter().collect();
    }
    filled
}

/// Compiles one. `Ok(None)`: it asks for a token, and the operator has given none.
pub fn compile(raw: &Raw, of: OfRoute<'_>) -> Result<Option<Handshake>, Fault> {
    if raw.digests() && of.token.is_none() {
        return Ok(None);
    }
    let asked = match (raw.signed, raw.method) {
        (true, None) => Asked::Signed,
        (true, Some(_)) => {
            return Err(fault("what is signed is a delivery: leave method out"));
        }
        (false, Some(Ask::Get)) => Asked::Bare(Method::GET),
        (false, Some(Ask::Head)) => Asked::Bare(Method::HEAD),
        (false, Some(Ask::Options)) => Asked::Bare(Method::OPTIONS),
        (false, Some(Ask::Post)) => posted(raw)?.map_or(Asked::Bare(Method::POST), Asked::Posted),
        (false, None) => {
            return Err(fault("how is it asked? write signed: true, or method: GET, HEAD, OPTIONS or POST"));
        }
    };
    let token_or_when = |text: &str| place(text, &asked);
    // What is sent back decides nothing, so of a signed question it need not be signed.
    let value_place = |text: &str| match (&asked, text.parse()) {
        (Asked::Signed, Ok(source @ Source::Header(_))) if !raw.when.is_empty() => Ok(source),
        _ => place(text, &asked),
    };
    let mut when = Vec::new();
    for (at, literal) in &raw.when {
        when.push((token_or_when(at)?, literal.compile()));
    }
    let value = raw.value.as_deref().map(value_place).transpose()?;
    let answer = answer(&raw.answer, value.as_ref(), of)?;
    if !raw.signed && raw.visits() {
        return Err(fault("nothing is visited because a stranger says so: write signed: true"));
    }
    if raw.signed && answer == Answer::Application {
        return Err(fault("what is signed reaches the application anyway: leave this one out"));
    }
    if answer.tells_value() && value.is_none() {
        return Err(fault(
            "the answer tells a value: say where that stands, for example value: \"query:challenge\"",
        ));
    }
    if when.is_empty() && value.is_none() && !matches!(asked, Asked::Bare(Method::GET | Method::HEAD)) {
        return Err(fault(
            "every delivery would be taken for it: say what tells it apart with when or value",
        ));
    }
    let token = match (&raw.token, of.token) {
        (None, _) => None,
        (Some(_), _) if raw.signed => {
            return Err(fault("the signature is the proof: leave token out"));
        }
        (Some(at), token) => {
            let at = token_or_when(at)?;
            let Some(token) = token else { return Ok(None) };
            Some((at, Token::new(token.expose())))
        }
    };
    Ok(Some(Handshake { asked, when, token, value, answer }))
}

fn fault(message: impl Into<String>) -> Fault {
    Fault::new("handshake", message)
}

/// Of what kind the body has to be that asks it; `None` if the head asks it.
fn posted(raw: &Raw) -> Result<Option<Kind>, Fault> {
    let mut kind = None;
    for text in raw.when.keys().chain(&raw.token).chain(&raw.value) {
        let of = match text.parse() {
            Ok(Source::Form(_)) => Kind::Form,
            Ok(Source::Json(_)) => Kind::Json,
            Ok(_) | Err(_) => continue,
        };
        if kind.replace(of).is_some_and(|other| other != of) {
            return Err(fault("no body is a form and JSON at once: write form:name or json:/pointer"));
        }
    }
    Ok(kind)
}

/// Only what is signed may make a delivery a question: otherwise anybody on the way could keep
/// an event from the application. What is not signed is a question only without a signature.
fn place(text: &str, asked: &Asked) -> Result<Source, Fault> {
    let remedy = match (asked, text.parse()) {
        (Asked::Signed, Ok(source @ Source::Json(_)))
        | (Asked::Bare(_), Ok(source @ (Source::Query(_) | Source::Header(_))))
        | (
            Asked::Posted(_),
            Ok(source @ (Source::Query(_) | Source::Header(_) | Source::Form(_) | Source::Json(_))),
        ) => return Ok(source),
        (Asked::Posted(_), _) => {
            "is not in such a body: write form:name, json:/pointer, query:name or header:Name"
        }
        (Asked::Signed, _) => "is not in the signed body: write json:/pointer",
        (Asked::Bare(_), _) => "is not in the head: write query:name or header:Name",
    };
    Err(fault(format!("\"{text}\" {remedy}")))
}

fn answer(raw: &RawAnswer, value: Option<&Source>, of: OfRoute<'_>) -> Result<Answer, Fault> {
    Ok(match raw {
        RawAnswer::Empty => Answer::Status(200),
        RawAnswer::Status(status @ 200..300) => Answer::Status(*status),
        RawAnswer::Status(_) => {
            return Err(fault("the answer says that all is well: write a status from 200 to 299"));
        }
        RawAnswer::Application => Answer::Application,
        RawAnswer::Text => Answer::Text,
        RawAnswer::Header => match value {
            Some(Source::Header(name)) => Answer::Header(name.clone()),
            _ => return Err(fault("answer: header sends a header back: write value: \"header:Name\"")),
        },
        RawAnswer::AsHeader(name) => match name.parse() {
            Ok(name) if ![CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING].contains(&name) => {
                Answer::Header(name)
            }
            Ok(_) | Err(_) => return Err(fault(format!("\"{name}\" is no header to answer with"))),
        },
        RawAnswer::Visit(addresses) => {
            let url = addresses.first().map(|words| &*words.url).unwrap_or_default();
            let address: Address = url.parse().map_err(|e: String| fault(e))?;
            if address.holes() != 1 {
                return Err(fault(format!(
                    "\"{url}\" has no hole for the value: write {{word}} where it stands"
                )));
            }
            Answer::Visit(address)
        }
        RawAnswer::Json(members) => {
            let part = |(name, part): (&String, &Scalar)| match part {
                Scalar::Integer(n) => Ok((name.clone(), Part::Integer(*n))),
                Scalar::Text(text) => Ok((name.clone(), Part::Text(pieces(text, of)?))),
            };
            Answer::Json(members.iter().map(part).collect::<Result<_, Fault>>()?)
        }
    })
}

fn pieces(template: &str, of: OfRoute<'_>) -> Result<Vec<Piece>, Fault> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((literal, after)) = rest.split_once('{') {
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.to_owned()));
        }
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        pieces.push(match name {
            "value" => Piece::Value,
            "hmac:hex" => Piece::Hmac(Encoding::Hex),
            "hmac:base64" => Piece::Hmac(Encoding::Base64),
            DIGEST => {
                let url = of.url.ok_or_else(|| {
                    fault("the answer holds the URL that the provider was given: write public_url: https://…")
                })?;
                let token = of.token.map(Secret::expose).unwrap_or_default();
                Piece::Digest(Encoding::Hex, Registered::new(token, url))
            }
            other => {
                let message = format!(
                    "{{{other}}} is unknown: use {{value}}, {{hmac:hex}}, {{hmac:base64}} or {{{DIGEST}}}"
                );
                return Err(fault(message));
            }
        });
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    Ok(pieces)
}

impl Scalar {
    fn compile(&self) -> Literal {
        match self {
            Scalar::Integer(n) => Literal::Integer(*n),
            Scalar::Text(text) => Literal::Text(text.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::provider::{PRESETS, preset};

    fn compiled(yaml: &str) -> Result<Option<Handshake>, Fault> {
        compile(&serde_saphyr::from_str(yaml).unwrap(), OfRoute::default())
    }

    #[test]
    fn the_handshakes_of_every_preset_compile() {
        let token = Secret::from_bytes(b"a token".to_vec()).0;
        let mut count = 0;
        for (name, _) in PRESETS {
            for raw in preset(name).unwrap().handshake {
                count += 1;
                let mut route = Parameters::default();
                route.set("topic_arns", vec!["arn:aws:sns:eu-west-1:123456789012:a".to_owned()]);
                let url = "https://hooks.example/hook".parse().unwrap();
                let of = OfRoute { token: Some(&token), url: Some(&url) };
                let handshakes =
                    compile_on(&raw, of, &route).unwrap_or_else(|f| panic!("{name}: {}", f.message));
                assert_eq!(handshakes.len(), 1, "{name}");
            }
        }
        assert!(count >= 10, "{count}");
    }

    #[test]
    fn a_token_that_nobody_gave_leaves_the_handshake_out() {
        let asks = "{ method: GET, token: 'query:t', value: 'query:c', answer: text }";
        assert_eq!(compiled(asks), Ok(None));
    }

    #[test]
    fn what_would_open_something_or_never_happen_is_refused_with_the_remedy() {
        for (yaml, says) in [
            ("{ answer: empty }", "how is it asked?"),
            ("{ signed: true, method: POST, answer: empty }", "leave method out"),
            ("{ signed: true, answer: empty }", "every delivery would be taken"),
            ("{ method: POST, answer: empty }", "every delivery would be taken"),
            ("{ method: GET, answer: text }", "say where that stands"),
            ("{ method: GET, answer: { json: { a: '{value}' } } }", "say where that stands"),
            ("{ method: GET, value: 'json:/a', answer: text }", "not in the head"),
            ("{ signed: true, value: 'header:X', answer: text }", "not in the signed body"),
            ("{ signed: true, when: { 'header:X': a }, answer: empty }", "not in the signed body"),
            ("{ method: GET, value: 'query:', answer: text }", "not in the head"),
            ("{ method: GET, value: 'query:a', answer: header }", "value: \"header:Name\""),
            ("{ method: OPTIONS, answer: { as_header: X-Y } }", "say where that stands"),
            (
                "{ method: OPTIONS, value: 'header:A', answer: { as_header: 'X Y' } }",
                "no header to answer with",
            ),
            (
                "{ method: OPTIONS, value: 'header:A', answer: { as_header: Content-Length } }",
                "no header to answer with",
            ),
            (
                "{ method: GET, value: 'query:a', answer: { json: { a: '{hmac:sha1}' } } }",
                "{hmac:sha1} is unknown",
            ),
            ("{ signed: true, value: 'json:/a', token: 'json:/b', answer: text }", "leave token out"),
            (
                "{ method: POST, when: { 'form:a': 1 }, value: 'json:/b', answer: text }",
                "a form and JSON at once",
            ),
            (
                "{ method: POST, when: { 'form:a': 1 }, value: 'multipart:b', answer: text }",
                "not in such a body",
            ),
            ("{ method: HEAD, value: 'form:a', answer: empty }", "not in the head"),
            ("{ signed: true, value: 'header:X', answer: text }", "not in the signed body"),
            ("{ method: GET, answer: { status: 301 } }", "from 200 to 299"),
            (
                "{ method: GET, value: 'query:a', answer: { visit: 'https://a.example/{word}' } }",
                "write signed: true",
            ),
            (
                "{ signed: true, when: { 'json:/a': 1 }, value: 'json:/b', answer: { visit: 'https://a.example/b' } }",
                "no hole for the value",
            ),
            (
                "{ signed: true, when: { 'json:/a': 1 }, value: 'json:/b', answer: { visit: 'http://a.example/{word}' } }",
                "over HTTPS only",
            ),
            (
                "{ signed: true, when: { 'json:/a': 1 }, answer: { visit: 'https://a.example/{word}' } }",
                "say where that stands",
            ),
            (
                "{ signed: true, when: { 'json:/a': 1 }, answer: application }",
                "reaches the application anyway",
            ),
        ] {
            let fault = compiled(yaml).unwrap_err();
            assert!(fault.message.contains(says), "{yaml}: {}", fault.message);
        }
    }
}
