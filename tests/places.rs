//! Signatures and signed values in other places than a header: URL, query, form, JSON, token.
//! What is signed there is covered to the last byte, and what can be read in two ways is refused.

#![allow(clippy::unwrap_used)]

#[path = "support/pure.rs"]
mod pure;

use hookgate::clock::Now;
use hookgate::gate::answer::Reason;
use hookgate::gate::filter::freshness;
use hookgate::gate::filter::signature::{Authentic, Signature};
use hookgate::gate::scheme::sign::Unsigned;
use hookgate::gate::scheme::{Assurance, Recipe, jws};
use http::{HeaderValue, header};
use pure::{Delivery, NOW, recipe, signature};

const KEY: &[u8] = b"a key that opens nothing else";
const URL: &str = "https://example.com/hooks";
const IN_HEADER: &str = "signature: { from: 'header:x-signature', encoding: hex }";

/// A sender and the gate that shares its key.
struct Pair {
    recipe: Recipe,
    gate: Signature,
}

impl Pair {
    fn new(words: &str) -> Self {
        let recipe = recipe(&format!("{{ {words} }}")).at(Some(&URL.parse().unwrap()));
        Pair { gate: signature(&recipe, &[KEY]), recipe }
    }

    fn hmac(words: &str) -> Self {
        Pair::new(&format!("algorithm: hmac-sha256, {words}"))
    }

    fn send(&self, body: &str) -> Delivery {
        let key = self.recipe.signer(KEY).unwrap();
        let unsigned = Unsigned { id: "evt_1", time_ms: NOW * 1000, body: body.as_bytes() };
        let sent = Delivery::sent(self.recipe.sign(&key, unsigned).unwrap());
        Delivery { path: "/hooks".to_owned(), ..sent }
    }

    fn judge(&self, delivery: &Delivery) -> Result<Authentic, Reason> {
        delivery.judged_by(&self.gate)
    }

    fn reason(&self, delivery: &Delivery) -> Reason {
        match self.judge(delivery).and_then(|a| freshness::check(a, Now::at(NOW, 0))) {
            Ok(_) => Reason::Accepted,
            Err(reason) => reason,
        }
    }

    /// Both are accepted, and one is the other come again.
    fn takes_for_one(&self, one: &Delivery, other: &Delivery) -> bool {
        self.judge(one).unwrap().replay_key() == self.judge(other).unwrap().replay_key()
    }
}

fn form(mut delivery: Delivery) -> Delivery {
    let media = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
    delivery.headers.insert(header::CONTENT_TYPE, media);
    delivery
}

#[test]
fn the_url_that_was_given_is_signed_whatever_arrives() {
    let pair = Pair::hmac(&format!("{IN_HEADER}, content: '{{url}}{{body}}'"));
    let genuine = pair.send("{}");
    assert_eq!(pair.reason(&genuine), Reason::Accepted);
    // Behind an ingress that rewrites paths.
    assert_eq!(pair.reason(&Delivery { path: "/inner".to_owned(), ..genuine.clone() }), Reason::Accepted);
    let with_query = Delivery { query: Some("admin=1".to_owned()), ..genuine.clone() };
    assert_eq!(pair.reason(&with_query), Reason::SignatureMismatch, "nobody signed that query");
    let with_mark = Delivery { query: Some(String::new()), ..genuine };
    assert_eq!(pair.reason(&with_mark), Reason::SignatureMismatch);
}

#[test]
fn a_query_that_is_signed_as_received_cannot_be_changed() {
    let words = format!("{IN_HEADER}, content: '{{url}}{{body}}', url: {{ query: as-received }}");
    let pair = Pair::hmac(&words);
    let genuine = pair.send("{}");
    assert_eq!(pair.reason(&genuine), Reason::Accepted);
    for query in ["", "a", "a=1&b=2"] {
        let changed = Delivery { query: Some(query.to_owned()), ..genuine.clone() };
        assert_eq!(pair.reason(&changed), Reason::SignatureMismatch, "{query}");
    }
}

#[test]
fn the_method_is_signed_where_the_content_has_it() {
    let pair = Pair::hmac(&format!("{IN_HEADER}, content: '{{method}}\n{{path}}\n{{body}}'"));
    let genuine = pair.send("{}");
    assert_eq!(pair.reason(&genuine), Reason::Accepted);
    let put = Delivery { method: http::Method::PUT, ..genuine };
    assert_eq!(pair.reason(&put), Reason::SignatureMismatch);
}

#[test]
fn a_form_is_signed_by_its_fields_and_only_as_a_form() {
    let pair = Pair::hmac(&format!("{IN_HEADER}, content: '{{url}}{{form_sorted}}'"));
    let genuine = form(pair.send("b=2&a=1%202"));
    assert_eq!(pair.reason(&genuine), Reason::Accepted);
    let with_body = |body: &str| Delivery { body: body.into(), ..genuine.clone() };
    // The same fields in another spelling are the same event.
    assert!(pair.takes_for_one(&genuine, &with_body("a=1+2&b=2")));
    for other in ["b=2&a=1", "b=2&a=1%203", "a=1+2", "b=2&a=1%202&c=", "%ff=&b=2&a=1%202"] {
        assert_eq!(pair.reason(&with_body(other)), Reason::SignatureMismatch, "{other}");
    }
    // A reader of JSON would see other things in these bytes than a reader of forms.
    let mut json = genuine.clone();
    json.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    assert_eq!(pair.reason(&json), Reason::SignatureMalformed);
    json.headers.remove(header::CONTENT_TYPE);
    assert_eq!(pair.reason(&json), Reason::SignatureMalformed);
}

/// Names and values stand side by side with nothing between them: what moves from one to the
/// other is another form with the same signature. It must at least not be another event.
#[test]
fn forms_that_share_a_signature_are_one_event() {
    let pair = Pair::hmac(&format!("{IN_HEADER}, content: '{{url}}{{form_sorted}}', id: 'form:id'"));
    let genuine = form(pair.send("id=1&to=2"));
    let moved = Delivery { body: b"id=1t&o=2".to_vec(), ..genuine.clone() };
    assert!(pair.judge(&moved).is_err() || pair.takes_for_one(&genuine, &moved));
    let glued = Delivery { body: b"id=1to2".to_vec(), ..genuine.clone() };
    assert!(pair.takes_for_one(&genuine, &glued));
}

#[test]
fn a_digest_in_the_query_covers_the_body() {
    let words = format!(
        "{IN_HEADER}, content: '{{url}}', url: {{ query: as-received }},
         when: 'query:bodySHA256', also: 'query:bodySHA256 == {{body|sha256hex}}'"
    );
    let pair = Pair::hmac(&words);
    assert_eq!(pair.recipe.assurance(), Assurance::Verified);
    let genuine = pair.send("{}");
    assert_eq!(pair.reason(&genuine), Reason::Accepted);
    let tampered = Delivery { body: b"[]".to_vec(), ..genuine.clone() };
    assert_eq!(pair.reason(&tampered), Reason::SignatureMismatch);
    let query = genuine.query.clone().unwrap();
    let twice = Delivery { query: Some(format!("{query}&{query}")), ..genuine.clone() };
    assert_eq!(pair.reason(&twice), Reason::SignatureMalformed);
    assert_eq!(pair.reason(&Delivery { query: None, ..genuine }), Reason::SignatureMissing);
}

#[test]
fn a_signature_may_stand_in_json() {
    let pair = Pair::hmac(
        "signature: { from: 'json:/sig/tag', encoding: hex }, content: '{json:/sig/t}.{json:/sig/n}',
         signs_body: false, id: 'json:/sig/n',
         timestamp: { from: 'json:/sig/t', unit: s, tolerance: 5m, future_tolerance: 5m }",
    );
    let genuine = pair.send(r#"{"event":{"a":1}}"#);
    assert_eq!(pair.reason(&genuine), Reason::Accepted);
    let authentic = pair.judge(&genuine).unwrap();
    assert_eq!((authentic.event_id(), authentic.assurance()), (Some("evt_1"), Assurance::Partial));
    let text = String::from_utf8(genuine.body.clone()).unwrap();
    let with =
        |from: &str, to: &str| Delivery { body: text.replace(from, to).into_bytes(), ..genuine.clone() };
    assert!(pair.takes_for_one(&genuine, &with(r#""a":1"#, r#""a":2"#)), "nobody signed that part");
    assert_eq!(pair.reason(&with("evt_1", "evt_2")), Reason::SignatureMismatch);
    assert_eq!(pair.reason(&with(r#""n":"evt_1""#, r#""n":"evt_1","n":"evt_1""#)), Reason::BodyMalformed);
    assert_eq!(pair.reason(&with(r#""tag":"#, r#""gat":"#)), Reason::SignatureMissing);
    assert_eq!(pair.reason(&with(r#""sig":"#, r#""sig":[],"x":"#)), Reason::SignatureMissing);
    assert_eq!(pair.reason(&Delivery { body: b"sig".to_vec(), ..genuine.clone() }), Reason::SignatureMissing);
    assert_eq!(pair.reason(&with("}", "")), Reason::BodyMalformed);
}

#[test]
fn a_signature_may_stand_in_a_form() {
    let pair = Pair::hmac(
        "signature: { from: 'form:sig', encoding: hex, format: kv, split: '&', assign: '|', keys: ['*'] },
         content: '{form:payload}', signs_body: false",
    );
    let genuine = form(pair.send("payload=e30%3D"));
    assert_eq!(pair.reason(&genuine), Reason::Accepted);
    let text = String::from_utf8(genuine.body.clone()).unwrap();
    let with = |body: String| Delivery { body: body.into_bytes(), ..genuine.clone() };
    assert_eq!(pair.reason(&with(text.replace("e30", "e31"))), Reason::SignatureMismatch);
    assert_eq!(pair.reason(&with(format!("{text}&payload=other"))), Reason::SignatureMalformed);
    assert_eq!(pair.reason(&with(format!("{text}&sig=k|00"))), Reason::SignatureMalformed);
    assert_eq!(pair.reason(&with("payload=e30".to_owned())), Reason::SignatureMissing);
}

#[test]
fn json_in_a_multipart_field_is_read_there() {
    let pair = Pair::hmac(
        "payload: 'multipart:json', signature: { from: 'json:/hash', encoding: hex },
         content: '{json:/time}{json:/type}', signs_body: false, type: 'json:/type'",
    );
    let genuine = pair.send(r#"{"time":"1","type":"signed"}"#);
    assert_eq!(pair.reason(&genuine), Reason::Accepted, "as the body itself");
    let json = String::from_utf8(genuine.body.clone()).unwrap();
    let part = |name: &str, text: &str| {
        format!("--x\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
    };
    let wrapped = |parts: &str| {
        let mut delivery = Delivery { body: format!("{parts}--x--\r\n").into_bytes(), ..genuine.clone() };
        let media = HeaderValue::from_static("multipart/form-data; boundary=x");
        delivery.headers.insert(header::CONTENT_TYPE, media);
        delivery
    };
    let whole = wrapped(&[part("json", &json), part("more", "y")].concat());
    assert_eq!(pair.judge(&whole).unwrap().event_type(), Some("signed"));
    let twice = wrapped(&[part("json", &json), part("json", "{}")].concat());
    assert_eq!(pair.reason(&twice), Reason::SignatureMissing);
}

#[test]
fn an_absent_value_takes_its_text_with_it() {
    let words = format!(
        "{IN_HEADER}, content: '{{[id:]query:data.id|lower[;]}}{{[request-id:]header:x-request-id[;]}}{{body}}',
         url: {{ query: as-received }}"
    );
    let pair = Pair::hmac(&words);
    let without = pair.send("{}");
    assert_eq!(pair.reason(&without), Reason::Accepted);
    let key = pair.recipe.signer(KEY).unwrap();
    let mut mac = key;
    mac.update(b"id:abc;{}");
    let mut with = without.clone();
    with.query = Some("data.id=ABC&type=payment".to_owned());
    let tag = data_encoding::HEXLOWER.encode(mac.finish().as_bytes());
    with.headers.insert("x-signature", tag.parse().unwrap());
    assert_eq!(pair.reason(&with), Reason::Accepted);
    with.query = Some("data.id=ABD".to_owned());
    assert_eq!(pair.reason(&with), Reason::SignatureMismatch);
}

#[test]
fn a_list_of_signed_headers_must_name_those_that_decide() {
    let words = format!(
        "{IN_HEADER}, content: '{{listed_headers:x-signed}}\n{{body}}',
         timestamp: {{ from: 'header:x-time', unit: s, tolerance: 5m, future_tolerance: 5m }}"
    );
    let pair = Pair::hmac(&words);
    let genuine = pair.send("{}");
    assert_eq!(pair.reason(&genuine), Reason::Accepted);
    let mut stale = genuine.clone();
    stale.headers.insert("x-time", HeaderValue::from_static("1600000000"));
    assert_eq!(pair.reason(&stale), Reason::SignatureMismatch);
    // A sender that does not sign the time could be repeated with another one.
    let mut key = pair.recipe.signer(KEY).unwrap();
    key.update(b"x-signed:x-signed\n{}");
    let mut unlisted = genuine;
    unlisted.headers.insert("x-signed", HeaderValue::from_static("x-signed"));
    let tag = data_encoding::HEXLOWER.encode(key.finish().as_bytes());
    unlisted.headers.insert("x-signature", tag.parse().unwrap());
    assert_eq!(pair.reason(&unlisted), Reason::SignatureMalformed);
}

const HS256: &str = r#"{"alg":"HS256"}"#;

fn jwt() -> Pair {
    Pair::hmac(
        "signature: { from: 'header:authorization', prefix: 'Bearer ', format: jwt },
         also: ['claim:payload_hash == {body|sha256hex}', 'claim:iss == somebody'],
         timestamp: { from: 'claim:nbf', expires: 'claim:exp', unit: s, tolerance: 5m, future_tolerance: 1m },
         id: 'claim:jti'",
    )
}

/// A token with these claims, signed with this header.
fn with_token(delivery: &Delivery, header: &str, claims: &str) -> Delivery {
    let signed = format!("{}.{}", jws::encoded(header.as_bytes()), jws::encoded(claims.as_bytes()));
    let mut mac = jwt().recipe.signer(KEY).unwrap();
    mac.update(signed.as_bytes());
    let token = format!("Bearer {signed}.{}", jws::encoded(mac.finish().as_bytes()));
    let mut delivery = delivery.clone();
    delivery.headers.insert(header::AUTHORIZATION, token.parse().unwrap());
    delivery
}

#[test]
fn a_token_binds_the_body_through_its_claims() {
    let pair = jwt();
    let genuine = pair.send("{}");
    assert_eq!(pair.reason(&genuine), Reason::Accepted);
    let authentic = pair.judge(&genuine).unwrap();
    assert_eq!((authentic.event_id(), authentic.assurance()), (Some("evt_1"), Assurance::Verified));
    let tampered = Delivery { body: b"[]".to_vec(), ..genuine.clone() };
    assert_eq!(pair.reason(&tampered), Reason::SignatureMismatch);

    let hash = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"; // of {}
    let claims = |nbf: i64, exp: i64, iss: &str| {
        format!(r#"{{"payload_hash":"{hash}","iss":"{iss}","nbf":{nbf},"exp":{exp},"jti":"j"}}"#)
    };
    for (header, claims, expected) in [
        (HS256, claims(NOW, NOW + 60, "somebody"), Reason::Accepted),
        (HS256, claims(NOW, NOW + 60, "somebody else"), Reason::SignatureMismatch),
        (HS256, claims(NOW - 200, NOW - 100, "somebody"), Reason::TimestampStale),
        (HS256, claims(NOW - 301, NOW + 900, "somebody"), Reason::TimestampStale),
        (HS256, claims(NOW + 61, NOW + 900, "somebody"), Reason::TimestampFuture),
        (HS256, "{}".to_owned(), Reason::SignatureMismatch),
        (HS256, "no JSON".to_owned(), Reason::SignatureMismatch),
        (r#"{"alg":"none"}"#, claims(NOW, NOW + 60, "somebody"), Reason::SignatureMalformed),
        (r#"{"alg":"HS512"}"#, claims(NOW, NOW + 60, "somebody"), Reason::SignatureMalformed),
        (r#"{"alg":"HS256","crit":["b64"]}"#, claims(NOW, NOW + 60, "somebody"), Reason::SignatureMalformed),
    ] {
        let said = pair.reason(&with_token(&genuine, header, &claims));
        assert_eq!(said, expected, "{header} {claims}");
    }
    let doubled = claims(NOW, NOW + 60, "somebody").replace(r#""jti""#, r#""iss":"other","jti""#);
    assert_eq!(pair.reason(&with_token(&genuine, HS256, &doubled)), Reason::SignatureMismatch);
}

#[test]
fn a_credential_authenticates_its_sender_and_nothing_more() {
    let pair = Pair::new("algorithm: token, signature: { from: 'header:x-token' }, id: 'header:x-id'");
    let genuine = pair.send("{}");
    assert_eq!(pair.reason(&genuine), Reason::Accepted);
    assert_eq!(pair.judge(&genuine).unwrap().assurance(), Assurance::Authenticated);
    let with = |token: &str| {
        let mut delivery = genuine.clone();
        delivery.headers.insert("x-token", token.parse().unwrap());
        pair.reason(&delivery)
    };
    assert_eq!(with("a key that opens nothing els"), Reason::SignatureMismatch);
    assert_eq!(with("A key that opens nothing else"), Reason::SignatureMismatch);
    assert_eq!(with(""), Reason::SignatureMissing);
    let mut none = genuine.clone();
    none.headers.remove("x-token");
    assert_eq!(pair.reason(&none), Reason::SignatureMissing);

    let basic = Pair::new(
        "algorithm: token, signature: { from: 'header:authorization', prefix: 'Basic ', encoding: base64 }",
    );
    assert_eq!(basic.reason(&basic.send("{}")), Reason::Accepted);
    assert!(!basic.takes_for_one(&basic.send("{}"), &basic.send("[]")), "the body tells events apart");
}

#[test]
fn schemes_that_read_one_place_stand_side_by_side() {
    let one = Pair::hmac(&format!("{IN_HEADER}, content: '{{body}}'")).recipe;
    let other = Pair::new(&format!("algorithm: hmac-sha512, {IN_HEADER}, content: '{{body}}'")).recipe;
    let elsewhere =
        Pair::hmac("signature: { from: 'header:x-old', encoding: hex }, content: '{body}'").recipe;
    let scheme = |recipe: &Recipe| signature(recipe, &[KEY]).schemes()[0].clone();
    let gate = Signature::new([&one, &other, &elsewhere].map(scheme).to_vec());
    for recipe in [&one, &other, &elsewhere] {
        let sender = Pair { recipe: recipe.clone(), gate: gate.clone() };
        assert_eq!(sender.reason(&sender.send("{}")), Reason::Accepted);
    }
    // A bad signature in the first place is not made good by a good one in another place.
    let sender = Pair { recipe: elsewhere, gate };
    let mut both = sender.send("{}");
    both.headers.insert("x-signature", HeaderValue::from_static("00"));
    assert_eq!(sender.reason(&both), Reason::SignatureMalformed);
    both.headers.insert("x-signature", "0".repeat(64).parse().unwrap());
    assert_eq!(sender.reason(&both), Reason::SignatureMismatch);
}

#[test]
fn a_repeated_field_is_one_value_only_if_it_says_the_same() {
    let pair = Pair::hmac(
        "signature: { from: 'header:x-signature', format: kv, split: ', ', keys: [v1], encoding: hex },
         content: '{kv:t}.{body}'",
    );
    let genuine = pair.send("{}");
    let sent = genuine.headers["x-signature"].to_str().unwrap().to_owned();
    let with = |value: String| {
        let mut delivery = genuine.clone();
        delivery.headers.insert("x-signature", value.parse().unwrap());
        pair.reason(&delivery)
    };
    assert_eq!(with(format!("{} {sent}", sent.replace("v1=", "v1=00"))), Reason::Accepted);
    assert_eq!(with(format!("t=evt_2 {sent}")), Reason::SignatureMalformed);
}
