//! How providers sign: what decides whether a delivery is genuine.

use std::sync::OnceLock;

use data_encoding::{BASE64, BASE64_NOPAD, HEXLOWER};
use hookgate::config::provider::{PRESETS, preset};
use hookgate::config::scheme::compile;
use hookgate::gate::delivery::Head;
use hookgate::gate::filter::signature::{Scheme, Signature};
use hookgate::gate::parse::json::{Pointer, Scalar, pick};
use hookgate::gate::scheme::content::{Content, Piece, Segment};
use hookgate::gate::scheme::key::{KeyDecoding, KeyRule};
use hookgate::gate::scheme::source::Source;
use hookgate::gate::scheme::timestamp::TimeUnit;
use hookgate::gate::scheme::{Assign, Key, Recipe, SignatureFormat, Verifier};
use http::{HeaderMap, Method};
use serde::de::IgnoredAny;

use super::head_and_body;
use super::second_opinion::picked;

/// What every preset's key is here; the corpus holds deliveries that it signed.
const KEY: &[u8] = b"a key for the fuzzers alone";

/// Whatever stands in the headers, a preset accepts only what its key has signed, as another
/// reader of the same head sees it.
pub fn signature(data: &[u8]) {
    static SIGNATURES: OnceLock<Vec<Signature>> = OnceLock::new();
    let signatures = SIGNATURES.get_or_init(|| recipes().into_iter().filter_map(only).collect());
    let (headers, body) = head_and_body(data);
    let head = Head::offline(&Method::POST, (b"/", None), &headers);
    for signature in signatures {
        let recipe = signature.schemes()[0].recipe();
        let Ok(presented) = signature.presented(&head) else { continue };
        if signature.verify(&presented, "fuzz", &head, body, |_| true).is_ok() {
            let signed = is_signed(recipe, &headers, body);
            assert!(signed != Some(false), "{recipe:?} takes what nobody signed");
        }
    }
}

fn recipes() -> Vec<Recipe> {
    let schemes = PRESETS.iter().flat_map(|(name, _)| preset(name).unwrap().schemes);
    schemes.map(|scheme| compile(&scheme, None, None).unwrap()).collect()
}

/// `None` where the key is a public one.
fn only(recipe: Recipe) -> Option<Signature> {
    let verifier = Verifier::new(recipe.algorithm, KEY).ok()?;
    let key = Key { id: "fuzz".into(), verifier };
    Some(Signature::new(vec![Scheme::new(recipe, vec![key])]))
}

/// Whether a signature header holds the tag of what the head and the body say. `None` where more
/// than headers and the body as it came is signed, which this reader does not know.
fn is_signed(recipe: &Recipe, headers: &HeaderMap, body: &[u8]) -> Option<bool> {
    let mut mac = recipe.algorithm.keyed(KEY)?;
    for segment in recipe.content.segments() {
        match segment {
            Segment::Literal(text) => mac.update(text),
            Segment::Piece(Piece::Body, None) => mac.update(body),
            Segment::Piece(Piece::Value(Source::Header(name)), None) => {
                mac.update(sole(headers, name.as_str()).unwrap_or_default());
            }
            Segment::Piece(Piece::Value(Source::Field(name)), None) => {
                mac.update(field(recipe, headers, name)?);
            }
            Segment::Piece(..) | Segment::Optional { .. } => return None,
        }
    }
    if recipe.content.is_empty() || recipe.algorithm.is_digest() {
        return None;
    }
    let tag = recipe.signature.encoding.encode(mac.finish().as_bytes()).to_ascii_lowercase();
    Some(recipe.signature_headers().any(|name| {
        let value = sole(headers, name.as_str()).unwrap_or_default().to_ascii_lowercase();
        value.windows(tag.len()).any(|window| window == tag.as_bytes())
    }))
}

/// The only value of a header.
fn sole<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?;
    assert!(all.next().is_none(), "{name} decides and is there twice");
    Some(first.as_bytes())
}

/// The only field of that name, for a reader that passes over white space.
fn field<'h>(recipe: &Recipe, headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let SignatureFormat::Fields { split, assign: Assign::Before(assign), .. } = &recipe.signature.format
    else {
        return None;
    };
    let header = recipe.signature_headers().find_map(|header| sole(headers, header.as_str()))?;
    let mut found = header.split(|b| split.contains(b)).filter_map(|field| {
        let at = field.iter().position(|b| b == assign)?;
        (field[..at].trim_ascii() == name.as_bytes()).then_some(&field[at + 1..])
    });
    let first = found.next()?;
    assert!(found.next().is_none(), "{name} decides and is there twice");
    Some(first)
}

/// What is picked out of a body is what any parser finds there, and what is refused is refused by another
/// one as well.
pub fn json(data: &[u8]) {
    const POINTERS: [&str; 5] = ["/id", "/data/0/id", "/data", "/a~1b/~0", "/"];
    let pointers = POINTERS.map(|pointer| pointer.parse::<Pointer>().unwrap());
    for some in [&[][..], &pointers.each_ref()] {
        assert_eq!(pick(data, some), picked(data, some));
    }
    let Ok(found) = pick(data, &pointers.each_ref()) else { return };
    let data = data.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(data);
    if !matches!(data.trim_ascii_start().first(), Some(b'{' | b'[')) {
        return assert!(found.iter().all(Option::is_none));
    }
    assert!(is_json(data));
    // A tree of values has limits of its own, on depth and on numbers.
    let Ok(tree) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    for (pointer, found) in POINTERS.iter().zip(found) {
        match (found, tree.pointer(pointer)) {
            (None, None | Some(serde_json::Value::Null)) => {}
            (Some(Scalar::Text(text)), Some(value)) => assert_eq!(value.as_str(), Some(&*text)),
            (Some(Scalar::Integer(n)), Some(value)) => assert_eq!(integer(value), Some(n)),
            (Some(Scalar::Bool(b)), Some(value)) => assert_eq!(value.as_bool(), Some(b)),
            (Some(Scalar::Other), Some(value)) => {
                assert!(!value.is_string() && !value.is_boolean() && integer(value).is_none());
            }
            (found, value) => panic!("{pointer}: {found:?}, but it is {value:?}"),
        }
    }
}

fn integer(value: &serde_json::Value) -> Option<i128> {
    value.as_i64().map(i128::from).or(value.as_u64().map(i128::from))
}

fn is_json(data: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(data).is_ok()
}

/// A time is written in one way or reads back the same, and shows where it ends.
pub fn timestamp(data: &[u8]) {
    const DAY: u64 = 24 * 3600 * 1000;
    for unit in [TimeUnit::S, TimeUnit::Ms, TimeUnit::Rfc3339, TimeUnit::HttpDate] {
        let Some(time) = unit.parse(data) else { continue };
        let written = unit.format(time);
        assert_eq!(unit.parse(written.as_bytes()), Some(time), "{written}");
        if matches!(unit, TimeUnit::S | TimeUnit::Ms) {
            assert_eq!(written.as_bytes(), data);
        }
        // After 2001, where numbers have all their digits.
        if time < 1_000_000_000_000 || !unit.shows_its_end(data) {
            continue;
        }
        let shorter = (0..data.len()).map(|end| data[..end].to_vec());
        let longer = (0..=u8::MAX).map(|byte| [data, &[byte]].concat());
        for other in shorter.chain(longer) {
            let near = unit.parse(&other).is_some_and(|other| other.abs_diff(time) < DAY);
            assert!(
                !near || !unit.shows_its_end(&other),
                "{unit:?}: {:?} is nearly the same time",
                String::from_utf8_lossy(&other)
            );
        }
    }
}

/// A template that compiles reads back from what is printed, and a byte that parts two values in
/// it stands in its text.
pub fn content(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(content) = text.parse::<Content>() else { return };
    assert_eq!(content.to_string().parse::<Content>().as_ref(), Ok(&content));
    for (n, segment) in content.segments().iter().enumerate() {
        if let Some(separator) = content.separator(n).filter(|_| !matches!(segment, Segment::Literal(_))) {
            assert!(text.as_bytes().contains(&separator));
        }
    }
}

/// A secret that decodes is written in the one way that gives these bytes.
pub fn key(data: &[u8]) {
    let text = data.strip_prefix(b"whsec_").unwrap_or(data);
    for decode in [KeyDecoding::Utf8, KeyDecoding::Base64, KeyDecoding::Hex] {
        let Ok(key) = rule(decode).decode(data) else { continue };
        assert!(!key.is_empty());
        match decode {
            KeyDecoding::Utf8 => assert_eq!(*key, text),
            KeyDecoding::Base64 if text.ends_with(b"=") => assert_eq!(BASE64.encode(&key).as_bytes(), text),
            KeyDecoding::Base64 => {
                let nopad = BASE64_NOPAD.encode(&key);
                assert_eq!(nopad.as_bytes(), text);
            }
            KeyDecoding::Spki | KeyDecoding::Nfkd => unreachable!("not asked for"),
            KeyDecoding::Hex => assert_eq!(HEXLOWER.encode(&key).as_bytes(), text.to_ascii_lowercase()),
        }
    }
}

fn rule(decode: KeyDecoding) -> KeyRule {
    KeyRule { strip: vec!["whsec_".to_owned()], decode, ..KeyRule::default() }
}
