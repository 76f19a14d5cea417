//! Signatures and signed values in other places than a header: URL, query, form, JSON, token.
//! What is signed there is covered to the last byte, and what can be read in two ways is refused.

use hookgate::clock::Now;
use hookgate::config::scheme::compile;
use hookgate::gate::filter::freshness;
use hookgate::gate::filter::replay::ReplayKey;
use hookgate::gate::filter::signature::{Authentic, Signature};
use hookgate::gate::parse::jws;
use hookgate::gate::reason::Reason;
use hookgate::gate::scheme::sign::Unsigned;
use hookgate::gate::scheme::{Assurance, Recipe};
use http::{HeaderValue, header};

use crate::pure::{Delivery, NOW, recipe, signature};

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
        self.judge(one).unwrap().identity().unwrap().told()
            == self.judge(other).unwrap().identity().unwrap().told()
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
    let words =
        format!("{IN_HEADER}, content: '{{url}}{{body}}', url: {{ query: as-received }}, assurance: partial");
    let pair = Pair::hmac(&words);
    assert_eq!(pair.recipe.assurance, Assurance::Partial, "the query could begin with the body");
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
    // The same fields in another spelling have the same signature. They were not delivered yet as they
    // stand, so nothing answers for them but the application.
    assert!(!pair.takes_for_one(&genuine, &with_body("a=1+2&b=2")));
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
/// other is another form with the same signature. The genuine one must not pass for a copy of it.
#[test]
fn forms_that_share_a_signature_are_told_apart_and_prove_less() {
    let pair = Pair::hmac(&format!("{IN_HEADER}, content: '{{url}}{{form_sorted}}', id: 'form:id'"));
    let genuine = form(pair.send("id=1&to=2"));
    let moved = Delivery { body: b"id=1t&o=2".to_vec(), ..genuine.clone() };
    assert_eq!(pair.judge(&genuine).unwrap().assurance(), Assurance::Partial);
    assert!(pair.judge(&moved).is_err() || !pair.takes_for_one(&genuine, &moved));
    let glued = Delivery { body: b"id=1to2".to_vec(), ..genuine.clone() };
    assert!(!pair.takes_for_one(&genuine, &glued));
}

#[test]
fn a_digest_in_the_query_covers_the_body() {
    let words = format!(
        "{IN_HEADER}, content: '{{url}}', url: {{ query: as-received }},
         when: 'query:bodySHA256', also: 'query:bodySHA256 == {{body|sha256hex}}'"
    );
    let pair = Pair::hmac(&words);
    assert_eq!(pair.recipe.assurance, Assurance::Verified);
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
    assert_eq!(
        (authentic.event_id().map(|id| &*id.text), authentic.assurance()),
        (Some("evt_1"), Assurance::Partial)
    );
    let text = String::from_utf8(genuine.body.clone()).unwrap();
    let with =
        |from: &str, to: &str| Delivery { body: text.replace(from, to).into_bytes(), ..genuine.clone() };
    let other = with(r#""a":1"#, r#""a":2"#);
    assert!(!pair.takes_for_one(&genuine, &other), "nobody signed that part, so the genuine one may follow");
    assert_eq!(pair.reason(&with("evt_1", "evt_2")), Reason::SignatureMismatch);
    let twice = with(r#""n":"evt_1""#, r#""n":"evt_1","n":"evt_1""#);
    assert_eq!(pair.reason(&twice), Reason::SignatureMalformed);
    assert_eq!(pair.reason(&with(r#""tag":"#, r#""gat":"#)), Reason::SignatureMissing);
    assert_eq!(pair.reason(&with(r#""sig":"#, r#""sig":[],"x":"#)), Reason::SignatureMissing);
    assert_eq!(pair.reason(&Delivery { body: b"sig".to_vec(), ..genuine.clone() }), Reason::SignatureMissing);
    assert_eq!(pair.reason(&with("}", "")), Reason::SignatureMalformed);
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
         content: '{json:/time}.{json:/type}', signs_body: false, type: 'json:/type'",
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
    assert_eq!(pair.judge(&whole).unwrap().event_type().map(|name| &*name.text), Some("signed"));
    let twice = wrapped(&[part("json", &json), part("json", "{}")].concat());
    assert_eq!(pair.reason(&twice), Reason::SignatureMalformed);
    let elsewhere = wrapped(&part("more", &json));
    assert_eq!(pair.reason(&elsewhere), Reason::SignatureMissing);
}

#[test]
fn an_absent_value_takes_its_text_with_it() {
    let words = format!(
        "{IN_HEADER}, content: '{{[id:]query:data.id|lower[;]}}{{[request-id:]header:x-request-id[;]}}{{body}}',
         url: {{ query: as-received }}, assurance: partial"
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
    assert_eq!(
        (authentic.event_id().map(|id| &*id.text), authentic.assurance()),
        (Some("evt_1"), Assurance::Verified)
    );
    let tampered = Delivery { body: b"[]".to_vec(), ..genuine.clone() };
    assert_eq!(pair.reason(&tampered), Reason::SignatureMismatch);
    // Some senders write the digest in another form: either will do.
    let either = Pair::hmac(
        "signature: { from: 'header:authorization', prefix: 'Bearer ', format: jwt },
         also: 'claim:payload_hash == {body|sha256base64} or {body|sha256hex}'",
    );
    assert_eq!(either.reason(&genuine), Reason::Accepted);
    assert_eq!(either.reason(&either.send("{}")), Reason::Accepted, "the other form");
    assert_eq!(either.reason(&tampered), Reason::SignatureMismatch);

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
        (HS256, "{no JSON".to_owned(), Reason::BodyMalformed),
        (
            HS256,
            claims(NOW, NOW + 60, "somebody").replace(r#""exp":"#, r#""exp":"never","e":"#),
            Reason::BodyMalformed,
        ),
        (r#"{"alg":"none"}"#, claims(NOW, NOW + 60, "somebody"), Reason::SignatureMalformed),
        (r#"{"alg":"HS512"}"#, claims(NOW, NOW + 60, "somebody"), Reason::SignatureMalformed),
        (r#"{"alg":"HS256","crit":["b64"]}"#, claims(NOW, NOW + 60, "somebody"), Reason::SignatureMalformed),
    ] {
        let said = pair.reason(&with_token(&genuine, header, &claims));
        assert_eq!(said, expected, "{header} {claims}");
    }
    let doubled = claims(NOW, NOW + 60, "somebody").replace(r#""jti""#, r#""iss":"other","jti""#);
    assert_eq!(pair.reason(&with_token(&genuine, HS256, &doubled)), Reason::BodyMalformed);
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
fn what_cannot_be_read_is_not_absent() {
    let many = |pair: &str| format!("{pair}{}", "&z=".repeat(1024));
    // A form that is signed by its fields, and one that has too many to be read.
    let fields = Pair::hmac(&format!("{IN_HEADER}, content: '{{url}}{{form_sorted}}'"));
    let genuine = form(fields.send(""));
    assert_eq!(fields.reason(&genuine), Reason::Accepted);
    for body in [many("a=1"), "a=%zz".to_owned(), "%=1".to_owned()] {
        let forged = Delivery { body: body.into_bytes(), ..genuine.clone() };
        assert_eq!(fields.reason(&forged), Reason::SignatureMalformed);
    }
    let mut two_types = Delivery { body: b"a=1".to_vec(), ..genuine };
    two_types.headers.append(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    assert_eq!(fields.reason(&two_types), Reason::SignatureMalformed, "which of them is it?");

    // A query whose parameters are signed, or tell how the delivery is signed.
    for words in [
        "signature: { from: 'query:sig', encoding: hex }, content: '{parameters}'",
        "signature: { from: 'header:x-signature', encoding: hex }, content: '{query_sorted}.{body}',
         assurance: partial, url: { query: as-received }",
        "signature: { from: 'header:x-signature', encoding: hex }, when: 'query:b', content: '{body}',
         also: 'query:b == {body|sha256hex}'",
        "signature: { from: 'header:x-signature', encoding: hex }, content: '{body}', id: 'query:id'",
    ] {
        let pair = Pair::hmac(words);
        let genuine = pair.send("");
        assert_eq!(pair.reason(&genuine), Reason::Accepted, "{words}");
        let query = genuine.query.clone().map(|query| query + "&").unwrap_or_default();
        let forged = Delivery { query: Some(many(&format!("{query}a=1"))), ..genuine };
        let reason = pair.reason(&forged);
        let refused = matches!(reason, Reason::SignatureMalformed | Reason::BodyMalformed);
        assert!(refused, "{words}: {reason}");
    }

    // Lists of signed headers.
    let listed = Pair::hmac(&format!("{IN_HEADER}, content: '{{listed_headers:x-signed}}\n{{body}}'"));
    let genuine = listed.send("{}");
    assert_eq!(listed.reason(&genuine), Reason::Accepted);
    for list in ["x-a,".repeat(33), "x-signed,a b".to_owned(), "x-signed,\u{e9}".to_owned()] {
        let mut other = genuine.clone();
        other.headers.insert("x-signed", HeaderValue::from_bytes(list.as_bytes()).unwrap());
        assert_eq!(listed.reason(&other), Reason::SignatureMalformed, "{list}");
    }
    // JSON in a field of the body, from which the id is read.
    for payload in ["form:payload", "multipart:payload"] {
        let words = format!("{IN_HEADER}, content: '{{body}}', payload: '{payload}', id: 'json:/id'");
        let pair = Pair::hmac(&words);
        let kind = if payload.starts_with('f') {
            "application/x-www-form-urlencoded"
        } else {
            "multipart/form-data"
        };
        let mut genuine = pair.send("payload={}&payload={}");
        genuine.headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
        assert_eq!(pair.reason(&genuine), Reason::BodyMalformed, "{payload}");
    }
}

#[test]
fn an_id_that_is_found_by_an_unsigned_content_type_names_no_event() {
    let words = |payload: &str, id: &str| {
        format!("{IN_HEADER}, content: '{{body}}', payload: '{payload}', id: '{id}'")
    };
    let body = "payload=%7B%22id%22%3A%22evt_1%22%7D&id=evt_1";
    for (payload, id) in [("form:payload", "json:/id"), ("form:payload", "form:id")] {
        let pair = Pair::hmac(&words(payload, id));
        let genuine = form(pair.send(body));
        let told = pair.judge(&genuine).unwrap();
        assert_eq!(told.event_id().map(|id| &*id.text), Some("evt_1"));
        for other in ["text/plain", "application/json", "application/x-www-form-urlencoded;v=2"] {
            let mut other_type = genuine.clone();
            other_type.headers.insert(header::CONTENT_TYPE, other.parse().unwrap());
            assert!(pair.takes_for_one(&genuine, &other_type), "{id} as {other}");
        }
    }
    let signed = "content: '{header:content-type}.{body}', payload: 'form:payload', id: 'json:/id'";
    let pair = Pair::hmac(&format!("{IN_HEADER}, {signed}"));
    assert!(pair.recipe.identifies(&pair.recipe.id[0]), "the Content-Type is signed as well");
}

#[test]
fn what_continues_a_digest_is_refused_and_the_digest_proves_less() {
    let pair = Pair::new(
        "algorithm: digest-sha256, signature: { from: 'header:x-signature', encoding: hex },
         content: '{secret}{body}'",
    );
    let genuine = pair.send("text");
    assert_eq!(pair.judge(&genuine).unwrap().assurance(), Assurance::Partial);
    for body in [&b"text\x80\0\0"[..], b"a\0b", b"\xff"] {
        let mut mac = pair.recipe.signer(KEY).unwrap();
        mac.update(KEY);
        mac.update(body);
        let mut padded = Delivery { body: body.to_vec(), ..genuine.clone() };
        padded
            .headers
            .insert("x-signature", pair.recipe.signature.encoding.encode(mac.finish()).parse().unwrap());
        assert_eq!(pair.reason(&padded), Reason::SignatureMalformed, "{body:?}");
    }
    // What continues it is refused, so its id names the event all the same, whenever it was signed.
    let retried = Pair::new(
        "algorithm: digest-sha256, signature: { from: 'header:x-signature', encoding: hex },
         content: '{header:x-time|unix}{secret}{body}', id: 'json:/id'",
    );
    let key = retried.recipe.signer(KEY).unwrap();
    let sent_at = |seconds: i64| {
        let unsigned = Unsigned { id: "", time_ms: seconds * 1000, body: br#"{"id":"evt_1"}"# };
        Delivery::sent(retried.recipe.sign(&key, unsigned).unwrap())
    };
    assert!(retried.takes_for_one(&sent_at(NOW), &sent_at(NOW + 60)));
    let behind = Pair::new(
        "algorithm: digest-sha256, signature: { from: 'header:x-signature', encoding: hex },
         content: '{body}{secret}'",
    );
    assert_eq!(behind.judge(&behind.send("text")).unwrap().assurance(), Assurance::Verified);
}

#[test]
fn one_scheme_judges_a_delivery_and_what_must_hold_besides_is_final() {
    let digest = Pair::hmac(&format!(
        "{IN_HEADER}, content: '{{url}}', url: {{ query: as-received }}, when: 'query:bodySHA256',
         also: 'query:bodySHA256 == {{body|sha256hex}}'"
    ));
    let fields = Pair::hmac(&format!(
        "{IN_HEADER}, content: '{{url}}{{form_sorted}}', url: {{ query: as-received }}, assurance: partial"
    ));
    let scheme = |pair: &Pair| signature(&pair.recipe, &[KEY]).schemes()[0].clone();
    let gate = Signature::new([&digest, &fields].map(scheme).to_vec());
    let genuine = digest.send("{}");
    assert!(genuine.judged_by(&gate).is_ok());
    // Without a body the other scheme signs the same content.
    let empty = Delivery { body: Vec::new(), ..genuine };
    assert_eq!(empty.judged_by(&gate).unwrap_err(), Reason::SignatureMismatch);
}

#[test]
fn an_event_without_an_id_meets_itself_under_another_scheme() {
    let nonce =
        Pair::hmac("signature: { from: 'header:x-new', encoding: hex }, content: '{header:x-nonce}.{body}'");
    let plain = Pair::hmac("signature: { from: 'header:x-old', encoding: hex }, content: '{body}'");
    let scheme = |pair: &Pair| signature(&pair.recipe, &[KEY]).schemes()[0].clone();
    let gate = Signature::new([&nonce, &plain].map(scheme).to_vec());
    let names = |sender: &Pair, body: &str| {
        sender.send(body).judged_by(&gate).unwrap().identity().unwrap().names().to_vec()
    };
    let meet = |one: &[ReplayKey], other: &[ReplayKey]| one.iter().any(|name| other.contains(name));
    assert!(meet(&names(&nonce, "{}"), &names(&plain, "{}")));
    assert!(!meet(&names(&nonce, "{}"), &names(&plain, "[]")), "another body is another event");
    assert_eq!(names(&plain, "{}").len(), 1, "nobody signed a nonce here");
}

#[test]
fn of_several_tags_in_one_place_the_first_kind_decides() {
    let kind = |algorithm: &str, prefix: &str| {
        let place = format!(
            "signature: {{ from: 'header:x-signature', split: ',', prefix: '{prefix}', encoding: hex }}"
        );
        Pair::new(&format!("algorithm: {algorithm}, {place}, content: '{{body}}'"))
    };
    let (newer, older) = (kind("hmac-sha256", "sha256="), kind("hmac-sha1", "sha1="));
    let scheme = |pair: &Pair| signature(&pair.recipe, &[KEY]).schemes()[0].clone();
    let gate = Signature::new([&newer, &older].map(scheme).to_vec());
    let genuine = older.send("{}");
    assert!(genuine.judged_by(&gate).is_ok(), "the older kind alone");
    let mut both = genuine;
    let tag = both.headers["x-signature"].to_str().unwrap().to_owned();
    both.headers.insert("x-signature", format!("{tag},sha256={}", "0".repeat(64)).parse().unwrap());
    assert_eq!(both.judged_by(&gate).unwrap_err(), Reason::SignatureMismatch);
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

/// Found by `laws`, as everything below. A value that may be absent could be the start of the body as well.
#[test]
fn what_may_be_absent_has_to_show_that_it_is() {
    let says = |content: &str| {
        let words = format!("{{ algorithm: hmac-sha256, {IN_HEADER}, content: '{content}' }}");
        compile(&serde_saphyr::from_str(&words).unwrap(), None, None).map_err(|fault| fault.message)
    };
    for open in ["{[a:]header:x-a[;]}{body}", "{[a:]header:x-a[;]}a={body}", "{body}{[a]header:x-a[;]}"] {
        let message = says(open).unwrap_err();
        assert!(message.contains("leaves open where {header:x-a} ends"), "{message}");
    }
    assert!(says("{[a:]header:x-a[;]}b:{body}").is_ok(), "what stands there instead begins in another way");
}

#[test]
fn a_value_is_parted_in_each_form_of_the_content() {
    let words = format!("{IN_HEADER}, content: ['{{header:x-a}}.{{body}}', '{{header:x-a}}:{{body}}']");
    let pair = Pair::hmac(&words);
    assert_eq!(pair.recipe.assurance, Assurance::Partial, "one form can be signed like another one");
    let mut delivery = pair.send("z");
    delivery.headers.insert("x-a", HeaderValue::from_static("x:y"));
    assert_eq!(pair.reason(&delivery), Reason::SignatureMalformed, "x and y:z would be signed alike");
}

#[test]
fn a_value_in_the_body_ends_where_it_seems_to() {
    let pair = Pair::hmac(&format!("{IN_HEADER}, content: '{{json:/a}}.{{body}}'"));
    assert_eq!(pair.reason(&pair.send(r#"{"a":"x"}"#)), Reason::Accepted);
    let moved = pair.send(r#"{"a":".x"}"#);
    assert_eq!(pair.reason(&moved), Reason::SignatureMalformed, "another body could be signed like it");
}

#[test]
fn what_a_signed_value_is_equal_to_is_held_to_the_same_rules() {
    let with = |also: &str| {
        Pair::hmac(&format!("{IN_HEADER}, content: '{{header:x-hash}}', also: 'header:x-hash == {also}'"))
    };
    let form_digest = with("{form_sorted|sha256hex}");
    assert_eq!(form_digest.recipe.assurance, Assurance::Partial, "two forms may be glued to one text");
    let empty = form_digest.send("");
    assert_eq!(form_digest.reason(&empty), Reason::Accepted);
    let mut text = Delivery { body: b"anything".to_vec(), ..empty };
    text.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    assert_eq!(form_digest.reason(&text), Reason::SignatureMalformed, "it is no empty form");

    let words = format!(
        "{{ algorithm: hmac-sha256, {IN_HEADER}, content: '{{header:x-a}}', also: 'header:x-a == {{body|lower}}' }}"
    );
    let fault = compile(&serde_saphyr::from_str(&words).unwrap(), None, None).unwrap_err();
    assert!(fault.message.contains("two bodies are signed alike"), "{}", fault.message);
}

#[test]
fn a_digest_in_a_header_that_is_not_listed_binds_nothing() {
    let words = format!(
        "{IN_HEADER}, content: '{{listed_headers:x-signed}}', also: 'header:digest == {{body|sha256hex}}', type: 'header:x-type'"
    );
    let pair = Pair::hmac(&words);
    let signed_with = |list: &'static str| {
        let mut delivery = pair.send("{}");
        let digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        delivery.headers.insert("digest", HeaderValue::from_static(digest));
        delivery.headers.insert("x-type", HeaderValue::from_static("a.b"));
        delivery.headers.insert("x-signed", HeaderValue::from_static(list));
        let mut key = pair.recipe.signer(KEY).unwrap();
        let lines =
            list.split(',').map(|name| format!("{name}:{}", delivery.headers[name].to_str().unwrap()));
        key.update(lines.collect::<Vec<_>>().join(";").as_bytes());
        let tag = data_encoding::HEXLOWER.encode(key.finish().as_bytes());
        delivery.headers.insert("x-signature", tag.parse().unwrap());
        delivery
    };
    assert_eq!(pair.reason(&signed_with("x-type")), Reason::SignatureMalformed);
    let judged = pair.judge(&signed_with("digest")).unwrap();
    assert!(!judged.event_type().unwrap().signed, "anybody could have written the type");
    let judged = pair.judge(&signed_with("digest,x-type")).unwrap();
    assert!(judged.event_type().unwrap().signed);
}

#[test]
fn an_id_beside_an_open_body_does_not_make_another_body_a_copy() {
    let pair = Pair::hmac(
        "signature: { from: 'header:authorization', format: jwt }, signs_body: false, id: 'claim:jti'",
    );
    let genuine = pair.send("{}");
    let other = Delivery { body: b"[]".to_vec(), ..genuine.clone() };
    assert!(!pair.takes_for_one(&genuine, &other), "the genuine one was not delivered yet");
    assert!(pair.takes_for_one(&genuine, &genuine.clone()));
}

#[test]
fn queries_that_are_signed_alike_are_told_apart() {
    let words = "signature: { from: 'query:sig', encoding: hex }, content: '{parameters}'";
    let pair = Pair::hmac(words);
    let mut genuine = pair.send("");
    let signed_query = |query: &str| {
        let mut key = pair.recipe.signer(KEY).unwrap();
        key.update(b"&a=1_2");
        format!("{query}&sig={}", data_encoding::HEXLOWER.encode(key.finish().as_bytes()))
    };
    genuine.query = Some(signed_query("a=1_2"));
    let with = |query: &str| Delivery { query: Some(signed_query(query)), ..genuine.clone() };
    assert!(!pair.takes_for_one(&genuine, &with("a=1%262")), "another value");
    assert!(pair.takes_for_one(&genuine, &with("%61=1_2")), "the same one, escaped");
}

#[test]
fn an_id_in_a_form_names_no_event_because_some_headers_are_listed() {
    let words = format!("{IN_HEADER}, content: '{{listed_headers:x-signed}}\n{{body}}', id: 'form:id'");
    let pair = Pair::hmac(&words);
    assert!(!pair.recipe.identifies(&pair.recipe.id[0]), "the Content-Type need not be among them");
}
