//! Whatever the recipe: what the sender signed is accepted, and nothing else is.

use std::time::Duration;

use hookgate::clock::Now;
use hookgate::config::raw::{SchemeWords, SignatureFormat, SignatureSource, Timestamp, Url};
use hookgate::config::scheme::compile;
use hookgate::gate::filter::freshness;
use hookgate::gate::filter::replay::ReplayKey;
use hookgate::gate::filter::signature::{Authentic, Signature};
use hookgate::gate::parse::form::Form;
use hookgate::gate::reason::Reason;
use hookgate::gate::scheme::Recipe;
use hookgate::gate::scheme::algorithm::{Algorithm, Encoding};
use hookgate::gate::scheme::key::KeyRule;
use hookgate::gate::scheme::reading::Reading;
use hookgate::gate::scheme::sign::Unsigned;
use hookgate::gate::scheme::timestamp::{TimeUnit, TimestampRule};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::kept;
use crate::pure::{Delivery, NOW, recipe, signature};

proptest! {
    #![proptest_config(kept())]

    #[test]
    fn what_was_signed_is_accepted(event in event(), key in key()) {
        let authentic = event.signed_with(&key).judged_by(&signature(&event.recipe, &[&key])).unwrap();
        prop_assert_eq!(authentic.signed_at().map(|signed| signed.ms), event.signed_time().map(Some));
        prop_assert_eq!(authentic.event_id().map(|id| &*id.text), event.signed_id());
    }

    #[test]
    fn one_flipped_bit_is_refused(event in event(), key in key(), part: Index, bit: Index) {
        let genuine = event.signed_with(&key);
        if let Some(flipped) = with_one_bit_flipped(&genuine, part, bit) {
            let judged = flipped.judged_by(&signature(&event.recipe, &[&key]));
            prop_assert!(judged.is_err() || event.says_the_same(&genuine, &flipped), "{:?}", flipped);
        }
    }

    #[test]
    fn a_missing_header_is_noticed(event in event(), key in key()) {
        let genuine = event.signed_with(&key);
        for name in genuine.headers.keys() {
            let mut lacking = genuine.clone();
            lacking.headers.remove(name);
            let judged = lacking.judged_by(&signature(&event.recipe, &[&key]));
            prop_assert_eq!(judged.unwrap_err(), Reason::SignatureMissing, "without {}", name);
        }
    }

    #[test]
    fn another_key_is_refused(event in event(), [key, other] in two_keys()) {
        let judged = event.signed_with(&key).judged_by(&signature(&event.recipe, &[&other]));
        prop_assert_eq!(judged.unwrap_err(), Reason::SignatureMismatch);
    }

    #[test]
    fn while_keys_rotate_either_is_accepted_and_named(event in event(), keys in two_keys()) {
        let either = signature(&event.recipe, &[&keys[0], &keys[1]]);
        for (n, key) in keys.iter().enumerate() {
            let authentic = event.signed_with(key).judged_by(&either).unwrap();
            prop_assert_eq!(authentic.key_id().parse(), Ok(n));
        }
    }

    #[test]
    fn a_signed_id_makes_the_event_without_one_the_content_does(event in event(), key in key()) {
        let later = Event { time_ms: event.time_ms + 60_000, ..event.clone() };
        let same = event.signed_id().is_some() || event.signed_time().is_none();
        let check = signature(&event.recipe, &[&key]);
        let [first, second] = [event, later].map(|event| replay_key(&event.signed_with(&key), &check));
        prop_assert_eq!(first == second, same);
    }

    #[test]
    fn on_another_route_it_is_another_event(event in event(), key in key(), other in "[a-z]*") {
        let (delivery, check) = (event.signed_with(&key), signature(&event.recipe, &[&key]));
        let on = |route| delivery.judged_on(route, &check).unwrap().identity().unwrap().told();
        prop_assert_eq!(on("here") == on(&other), other == "here");
    }

    /// Otherwise a replay with another unsigned id, or with one at all, would be another event.
    #[test]
    fn an_id_that_nobody_signed_decides_nothing(event in event(), key in key()) {
        let mut recipe = event.recipe.clone();
        recipe.id.insert(0, "header:x-unsigned".parse().unwrap());
        let check = signature(&recipe, &[&key]);
        let with = Event { recipe, ..event }.signed_with(&key);
        let mut without = with.clone();
        without.headers.remove("x-unsigned");
        prop_assert_eq!(replay_key(&with, &check), replay_key(&without, &check));
    }

    /// Otherwise a reload that adds or drops a form of signing would let each event through again.
    #[test]
    fn an_event_stays_the_same_whatever_else_the_route_accepts(event in event(), key in key()) {
        let recipes = [&event.recipe, &plain("x-other", "{body}")];
        let [own, other] = recipes.map(|recipe| signature(recipe, &[&key]));
        let both = Signature::new([other.schemes(), own.schemes()].concat());
        let delivery = event.signed_with(&key);
        let names = |check: &Signature| delivery.judged_by(check).unwrap().identity().unwrap().names().to_vec();
        let known = names(&both);
        prop_assert!(names(&own).iter().all(|name| known.contains(name)), "it may have another name as well");
    }

    /// Otherwise whoever sees a delivery could move bytes between its body and what else is signed.
    #[test]
    fn one_signature_fits_one_delivery(content in "[ab.]{1,12}", template in select(TEMPLATES)) {
        let fitting = content.match_indices('.').filter(|(dot, _)| {
            let (left, right) = (&content.as_bytes()[..*dot], &content.as_bytes()[dot + 1..]);
            let (value, body) = if template.ends_with("{body}") { (left, right) } else { (right, left) };
            judged_with(value, body, &plain("x-signature", template)).is_ok()
        });
        prop_assert!(fitting.count() <= 1);
    }

    /// Some providers put nothing between the time and the body.
    #[test]
    fn a_time_that_touches_the_body_tells_where_it_ends(
        (time_ms, unit) in (0..YEAR_MS, unit()).prop_map(|(ms, unit)| (NOW * 1000 + ms, unit)),
        body in "[0-9Z:.+ -]{0,9}",
        body_first: bool,
    ) {
        let template = if body_first { "{body}{header:x-value}" } else { "{header:x-value}{body}" };
        let (from, five) = (vec!["header:x-value".parse().unwrap()], Duration::from_secs(300));
        let rule = TimestampRule { from, unit, expires: None, optional: false, tolerance: five, future_tolerance: five };
        let time_alone = plain("x-signature", "{header:x-value}.{body}");
        let recipe = Recipe { timestamp: Some(rule), content: template.parse().unwrap(), ..time_alone };
        let time = unit.format(time_ms);
        let content = if body_first { body + &time } else { time + &body };
        let fresh = (0..=content.len()).filter(|end| {
            let (left, right) = content.as_bytes().split_at(*end);
            let (value, body) = if body_first { (right, left) } else { (left, right) };
            let authentic = judged_with(value, body, &recipe);
            authentic.and_then(|authentic| freshness::check(authentic, Now::at(time_ms / 1000, 0))).is_ok()
        });
        prop_assert_eq!(fresh.count(), 1, "{:?}", content);
    }

    /// Visible ASCII of a sane length, even if a provider signs something else.
    #[test]
    fn a_signed_value_is_plain_text(
        value in prop_oneof![vec(any::<u8>(), 0..4), vec(b'!'..=b'~', 0..300)],
        template in select(TEMPLATES),
    ) {
        let plain_text = value.iter().all(|b| (b' '..=b'~').contains(b) && *b != b'.');
        let sane = plain_text && (1..=256).contains(&value.len());
        prop_assert_eq!(judged_with(&value, b"{}", &plain("x-signature", template)).is_ok(), sane);
    }
}

const TEMPLATES: &[&str] = &["{header:x-value}.{body}", "{body}.{header:x-value}"];
const YEAR_MS: i64 = 365 * 24 * 3600 * 1000;

/// What is made of a delivery that a provider has signed with this value in a header, whatever
/// the value is.
fn judged_with(value: &[u8], body: &[u8], recipe: &Recipe) -> Result<Authentic, Reason> {
    const KEY: &[u8] = b"a key like any other";
    let mut delivery = Delivery::new(HeaderMap::new(), body);
    let value = HeaderValue::from_bytes(value).map_err(|_| Reason::FramingInvalid)?;
    delivery.headers.insert("x-value", value);
    let mut mac = recipe.algorithm.keyed(KEY).unwrap();
    let head = delivery.head();
    let reading = Reading::new(recipe, &head, body);
    let usual = reading.variants().next().unwrap();
    reading.signed(usual, &[], |bytes| mac.update(bytes)).unwrap();
    let tag = recipe.signature.encoding.encode(mac.finish());
    delivery.headers.insert("x-signature", tag.parse().unwrap());
    delivery.judged_by(&signature(recipe, &[KEY]))
}

fn plain(header: &str, content: &str) -> Recipe {
    let signature = format!("{{ from: 'header:{header}', encoding: hex }}");
    recipe(&format!("{{ algorithm: hmac-sha256, signature: {signature}, content: '{content}' }}"))
}

fn replay_key(delivery: &Delivery, check: &Signature) -> ReplayKey {
    delivery.judged_by(check).unwrap().identity().unwrap().told()
}

/// A way of signing, and something to sign.
#[derive(Clone, Debug)]
struct Event {
    recipe: Recipe,
    id: String,
    time_ms: i64,
    rest: Vec<u8>,
}

impl Event {
    fn signed_with(&self, key: &[u8]) -> Delivery {
        let (id, time_ms, body) = (&*self.id, self.time_ms, self.body());
        let key = self.recipe.algorithm.keyed(key).unwrap();
        Delivery::sent(self.recipe.sign(&key, Unsigned { id, time_ms, body: &body }).unwrap())
    }

    /// JSON, if the recipe reads from it.
    fn body(&self) -> Vec<u8> {
        if self.recipe.pointers().is_empty() {
            return self.rest.clone();
        }
        let unit = self.recipe.timestamp.as_ref().map_or(TimeUnit::S, |rule| rule.unit);
        let time = match unit {
            TimeUnit::S | TimeUnit::Ms => unit.format(self.time_ms),
            TimeUnit::Rfc3339 | TimeUnit::Rfc3339Zoned | TimeUnit::HttpDate => {
                format!("\"{}\"", unit.format(self.time_ms))
            }
        };
        format!(r#"{{"id":"{}","time":{time},"rest":{:?}}}"#, self.id, self.rest).into_bytes()
    }

    /// As exact as its unit.
    fn signed_time(&self) -> Option<i64> {
        let unit = self.recipe.timestamp.as_ref()?.unit;
        unit.parse(unit.format(self.time_ms).as_bytes())
    }

    fn signed_id(&self) -> Option<&str> {
        (!self.recipe.id.is_empty()).then_some(&self.id)
    }

    /// Hexadecimal says the same in either case, in a tag and in the escapes of a query; nothing
    /// else does.
    fn says_the_same(&self, genuine: &Delivery, flipped: &Delivery) -> bool {
        if genuine.query != flipped.query {
            let decoded = |delivery: &Delivery| -> Vec<(Vec<u8>, Vec<u8>)> {
                let form = Form::parse(delivery.query.as_deref().unwrap_or_default().as_bytes()).unwrap();
                let pairs = form.pairs().unwrap();
                pairs.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
            };
            return decoded(genuine) == decoded(flipped);
        }
        let tag = |delivery: &Delivery| delivery.headers["x-signature"].as_bytes().to_ascii_lowercase();
        let is_signature = genuine.headers["x-signature"] != flipped.headers["x-signature"];
        self.recipe.signature.encoding == Encoding::Hex && is_signature && tag(genuine) == tag(flipped)
    }
}

/// Flips a bit of a header's value, of the query or of the body. `None` if that makes what none
/// of them may hold, or if there is nothing to flip.
fn with_one_bit_flipped(delivery: &Delivery, part: Index, bit: Index) -> Option<Delivery> {
    let mut flipped = delivery.clone();
    let names: Vec<&HeaderName> = delivery.headers.keys().collect();
    match names.get(part.index(names.len() + 2)) {
        None if part.index(names.len() + 2) == names.len() => {
            let mut query = delivery.query.clone()?.into_bytes();
            flip(&mut query, bit);
            flipped.query = Some(String::from_utf8(query).ok()?);
        }
        Some(name) => {
            let mut value = delivery.headers[*name].as_bytes().to_vec();
            flip(&mut value, bit);
            flipped.headers.insert(*name, HeaderValue::from_bytes(&value).ok()?);
        }
        None if delivery.body.is_empty() => return None,
        None => flip(&mut flipped.body, bit),
    }
    Some(flipped)
}

fn flip(bytes: &mut [u8], bit: Index) {
    let bit = bit.index(bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
}

/// No zeros, because RFC 2104 fills a short key up with them: with and without is one key.
fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(1u8.., 16..80)
}

fn two_keys() -> impl Strategy<Value = [Vec<u8>; 2]> {
    [key(), key()].prop_filter("two different keys", |[one, other]| one != other)
}

fn event() -> impl Strategy<Value = Event> {
    const YEAR_9999: i64 = 253_370_764_800_000;
    let recipe = scheme().prop_map(|raw| compile(&raw, None, None).unwrap());
    (recipe, "[A-Za-z0-9_-]{1,40}", 0..YEAR_9999, vec(any::<u8>(), 0..100))
        .prop_map(|(recipe, id, time_ms, rest)| Event { recipe, id, time_ms, rest })
}

/// Every algorithm, encoding and form; the id and the time in every place that a recipe can name.
fn scheme() -> impl Strategy<Value = SchemeWords> {
    let algorithm = select(vec![
        Algorithm::HmacSha1,
        Algorithm::HmacSha256,
        Algorithm::HmacSha384,
        Algorithm::HmacSha512,
    ]);
    let id = option::of(select(vec!["header:x-id", "kv:id", "json:/id", "query:id"]));
    let time = option::of(select(vec!["header:x-time", "kv:t", "json:/time", "query:t"]));
    let order = Just([0, 1, 2]).prop_shuffle();
    // Nothing that can stand in an id or a time: such values are refused.
    let separator = select(vec!["|", "\n", "~|"]);
    (algorithm, signature_source(), id, time, unit(), order, separator)
        .prop_filter("only a header of fields has kv", |(_, signature, id, time, ..)| {
            let kv = [id, time].into_iter().flatten().any(|source| source.starts_with("kv:"));
            !kv || signature.format == SignatureFormat::Kv
        })
        .prop_map(|(algorithm, signature, id, time, unit, order, separator)| SchemeWords {
            given: Vec::new(),
            claims: std::collections::BTreeMap::new(),
            keys: None,
            algorithm,
            key: KeyRule::default(),
            signature,
            content: vec![content(id, time, order, separator)],
            also: vec![],
            when: vec![],
            payload: None,
            signs_body: None,
            assurance: None,
            url: Url::default(),
            timestamp: time.map(|time| Timestamp {
                from: vec![time.to_owned()],
                unit,
                expires: None,
                optional: false,
                tolerance: None,
                future_tolerance: None,
            }),
            id: id.map(str::to_owned).into_iter().collect(),
            distinct: vec![],
            event_type: vec![],
            action: vec![],
        })
}

fn unit() -> impl Strategy<Value = TimeUnit> {
    select(vec![TimeUnit::S, TimeUnit::Ms, TimeUnit::Rfc3339, TimeUnit::HttpDate])
}

fn signature_source() -> impl Strategy<Value = SignatureSource> {
    let plain = (select(vec!["", "sha256=", "v1,"]), option::of(select(vec![" ", ";"])))
        .prop_map(|(prefix, split)| (SignatureFormat::Plain, prefix, split, vec![]));
    let fields = select(vec![";", "&"])
        .prop_map(|split| (SignatureFormat::Kv, "", Some(split), vec!["v1".to_owned()]));
    let encoding = select(vec![Encoding::Hex, Encoding::Base64, Encoding::Base64url]);
    (prop_oneof![plain, fields], encoding).prop_map(|((format, prefix, split, keys), encoding)| {
        SignatureSource {
            from: vec!["header:x-signature".to_owned()],
            format,
            prefix: prefix.to_owned(),
            split: split.map(str::to_owned),
            assign: '=',
            keys,
            written: None,
            encoding: Some(encoding),
        }
    })
}

/// A template of the body and of what does not stand in it.
fn content(id: Option<&str>, time: Option<&str>, order: [usize; 3], separator: &str) -> String {
    let parts = [Some("body"), id, time];
    let signed = order.iter().filter_map(|n| parts[*n]).filter(|part| !part.starts_with("json:"));
    signed.map(|part| format!("{{{part}}}")).collect::<Vec<_>>().join(separator)
}

#[test]
fn a_type_is_told_if_it_is_short_plain_text() {
    let recipe = recipe(
        "{ algorithm: hmac-sha256, signature: { from: 'header:x-signature', encoding: hex }, content: '{body}',
           id: 'json:/id', type: ['json:/type', 'header:x-type'] }",
    );
    let key = recipe.algorithm.keyed(b"a key").unwrap();
    let signature = signature(&recipe, &[b"a key"]);
    let long = "x".repeat(257);
    for (body, expected) in [
        (r#"{"type":"a.b"}"#.to_owned(), Some("a.b")),
        (r#"{"type":5}"#.to_owned(), Some("of the header")),
        (r#"{"type":"a\nb"}"#.to_owned(), Some("of the header")),
        (format!(r#"{{"type":"{long}"}}"#), Some("of the header")),
        ("{}".to_owned(), Some("of the header")),
        ("not json".to_owned(), Some("of the header")),
    ] {
        let unsigned = Unsigned { id: "", time_ms: 0, body: body.as_bytes() };
        let mut delivery = Delivery::sent(recipe.sign(&key, unsigned).unwrap());
        delivery.headers.insert("x-type", HeaderValue::from_static("of the header"));
        let authentic = delivery.judged_by(&signature).unwrap();
        assert_eq!(authentic.event_type().map(|name| &*name.text), expected, "{body}");
        delivery.headers.remove("x-type");
        let without = delivery.judged_by(&signature).unwrap();
        assert_eq!(
            without.event_type().map(|name| &*name.text),
            expected.filter(|told| *told == "a.b"),
            "{body}"
        );
    }
}

#[test]
fn an_id_that_is_no_short_plain_text_is_refused() {
    let recipe = recipe(
        "{ algorithm: hmac-sha256, signature: { from: 'header:x-signature', encoding: hex }, content: '{body}',
           id: 'json:/id' }",
    );
    let key = recipe.algorithm.keyed(b"a key").unwrap();
    let signature = signature(&recipe, &[b"a key"]);
    for id in
        [r#""a\nb""#.to_owned(), "5.5".to_owned(), r#""""#.to_owned(), format!("\"{}\"", "x".repeat(257))]
    {
        let body = format!("{{\"id\":{id}}}");
        let unsigned = Unsigned { id: "", time_ms: 0, body: body.as_bytes() };
        let delivery = Delivery::sent(recipe.sign(&key, unsigned).unwrap());
        assert_eq!(delivery.judged_by(&signature).unwrap_err(), Reason::BodyMalformed, "{body}");
    }
}
