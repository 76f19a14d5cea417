//! Deliveries whose keys are published, changed at a place and in a way that is drawn: they are refused, or they
//! are the same event and say the same. And tokens that a forger signs himself in all the ways that a careless
//! judge would believe.
//!
//! `HOOKGATE_MUTATIONS=1000000 cargo test --test gate forged -- --nocapture` makes a long search of it, and
//! `HOOKGATE_MUTATION_SEED` repeats one.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::BASE64URL_NOPAD;
use hookgate::gate::filter::signature::{Authentic, Scheme};
use hookgate::gate::scheme::Assurance;
use http::{HeaderName, HeaderValue};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use ring::{digest, hmac};
use serde_json::{Value, json};

use crate::fetched::{Judge, Vector, all};
use crate::pure::Delivery;
use crate::rng::{Rng, given};

/// What may be written in another way and still be the same: whose, in which header.
const SAME: &[(&str, &str)] = &[
    // The second of two signatures; one that is good is enough.
    ("adobe-io-events", "x-adobe-digital-signature-1"),
    ("adobe-io-events", "x-adobe-digital-signature-2"),
    // The key that only the second one needs.
    ("adobe-io-events", "x-adobe-public-key1-path"),
    ("adobe-io-events", "x-adobe-public-key2-path"),
    // Nobody signs it.
    ("saleor", "saleor-event"),
    // Hexadecimal in letters of either case.
    ("fal", "x-fal-webhook-signature"),
    ("turnkey", "x-turnkey-signature"),
    // Base64 with and without its padding.
    ("ebay", "x-ebay-signature"),
];

/// The fields of a message of SNS that are signed.
const FIELDS: [&str; 8] =
    ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"];

fn begin(what: &str, usual: usize) -> (usize, Rng) {
    let count = given("HOOKGATE_MUTATIONS").map_or(usual, |n| usize::try_from(n).unwrap());
    let seed = given("HOOKGATE_MUTATION_SEED").unwrap_or(17);
    println!("{what}: HOOKGATE_MUTATION_SEED={seed} HOOKGATE_MUTATIONS={count}");
    (count, Rng::new(seed))
}

struct Accepted {
    vector: Vector,
    judge: Judge,
    delivery: Delivery,
    authentic: Authentic,
    /// Headers that mean something.
    headers: Vec<HeaderName>,
    covers_body: bool,
}

fn accepted() -> Vec<Accepted> {
    let mut accepted = Vec::new();
    for vector in all().into_iter().filter(|vector| vector.expect == "accept") {
        let Some(schemes) = vector.schemes() else { continue };
        let (judge, delivery) = (vector.judge(&schemes), vector.delivery());
        let authentic = judge.judge(&delivery).unwrap_or_else(|reason| panic!("{}: {reason:?}", vector.id));
        let recipes: Vec<_> = judge.signature.schemes().iter().map(Scheme::recipe).collect();
        let named: BTreeSet<_> =
            recipes.iter().flat_map(|r| r.headers()).map(|name| name.to_string()).collect();
        let headers = delivery.headers.keys().filter(|name| named.contains(name.as_str())).cloned().collect();
        let covers_body = recipes.iter().all(|r| r.covers_body() && !r.body_is_token());
        accepted.push(Accepted { vector, judge, delivery, authentic, headers, covers_body });
    }
    accepted
}

/// Another text, near the one that is given.
fn changed(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let at = rng.below(out.len().max(1)).min(out.len());
    match rng.below(8) {
        _ if out.is_empty() => out.push(rng.byte()),
        0 => out[at] ^= 1 << rng.below(8),
        1 => out[at] = rng.byte(),
        2 => out[at] = *rng.pick(b"A0a./+-_= \n{}\"\\:,"),
        3 => out.insert(at, *rng.pick(b"A0a./+-_= \n{}\"\\:,")),
        4 => _ = out.remove(at),
        5 => out.truncate(at),
        6 => {
            let part = out[at..].to_vec();
            out.extend(part);
        }
        _ => {
            let other = rng.below(out.len());
            out.swap(at, other);
        }
    }
    out
}

#[test]
fn what_was_accepted_and_is_changed_is_refused_or_says_the_same() {
    let (count, mut rng) = begin("changed", 6000);
    let accepted = accepted();
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    let mut refused = 0;
    for _ in 0..count {
        let one = rng.pick(&accepted);
        let mut delivery = one.delivery.clone();
        let mut header = None;
        match (rng.below(3), delivery.query.clone()) {
            (0, Some(query)) => {
                let Ok(text) = String::from_utf8(changed(query.as_bytes(), &mut rng)) else { continue };
                delivery.query = Some(text);
            }
            (0 | 1, _) if !one.headers.is_empty() => {
                let name = rng.pick(&one.headers);
                let text = changed(delivery.headers[name].as_bytes(), &mut rng);
                let Ok(value) = HeaderValue::from_bytes(&text) else { continue };
                delivery.headers.insert(name.clone(), value);
                header = Some(name.as_str());
            }
            _ => delivery.body = changed(&delivery.body, &mut rng),
        }
        match one.judge.judge(&delivery) {
            Err(_) => refused += 1,
            Ok(authentic) => {
                let told = says_the_same(one, &delivery, &authentic, header);
                let id = &one.vector.id;
                let told = told.unwrap_or_else(|why| panic!("{id}: {why}: {delivery:?}"));
                *taken.entry(format!("{}: {told}", one.vector.provider)).or_default() += 1;
            }
        }
    }
    println!("{refused} refused, and the same as before: {taken:?}");
    assert!(refused > count / 2);
}

/// What was changed without a difference.
fn says_the_same<'d>(
    one: &Accepted,
    delivery: &'d Delivery,
    authentic: &Authentic,
    header: Option<&'d str>,
) -> Result<&'d str, &'static str> {
    let Accepted { vector, delivery: before, authentic: as_before, covers_body, .. } = one;
    // Whoever only shows who calls signs nothing of it.
    if as_before.assurance() == Assurance::Authenticated && header.is_none() {
        return Ok("what a bearer token does not bind");
    }
    if authentic.identity() != as_before.identity() {
        return Err("another event");
    }
    if *covers_body && delivery.body != before.body {
        return Err("another body");
    }
    if let Some(name) = header.filter(|name| delivery.headers[*name] != before.headers[*name]) {
        let values = [delivery, before].map(|one| one.headers[name].as_bytes());
        // Of an address the letters of the host are of either case (RFC 3986, section 3.2.2); another path would
        // name another key.
        let same_host = name == "paypal-cert-url" && values[0].eq_ignore_ascii_case(values[1]);
        let known = same_host || SAME.contains(&(&*vector.provider, name));
        return if known { Ok(name) } else { Err("another header") };
    }
    let field = |delivery: &Delivery, name: &str| {
        // What nobody signs need not be text.
        let body: Value = serde_json::from_str(&String::from_utf8_lossy(&delivery.body)).unwrap_or_default();
        body[name].clone()
    };
    let fields: &[&str] = match &*vector.provider {
        "sns" => &FIELDS,
        "apple-app-store" => &["signedPayload"],
        _ => &[],
    };
    match fields.iter().all(|name| field(delivery, name) == field(before, name)) {
        true if delivery.query != before.query => Err("another query"),
        true => Ok("what nobody signs"),
        false => Err("another value that is signed"),
    }
}

/// A token in its parts, and the header that holds it.
fn token(delivery: &Delivery) -> Option<(HeaderName, String, [String; 3])> {
    delivery.headers.iter().find_map(|(name, value)| {
        let text = value.to_str().ok()?;
        let (prefix, token) = text.rsplit_once(' ').map_or(("", text), |(word, token)| (word, token));
        let parts: Vec<_> = token.split('.').map(str::to_owned).collect();
        let parts: [String; 3] = parts.try_into().ok()?;
        BASE64URL_NOPAD.decode(parts[0].as_bytes()).ok().filter(|header| header.starts_with(b"{"))?;
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix} ") };
        Some((name.clone(), prefix, parts))
    })
}

/// Whatever a token says of how it is to be judged, and whoever has signed it: only the published key counts.
#[test]
fn a_token_that_a_forger_signs_is_refused_whatever_it_says_of_itself() {
    let (count, mut rng) = begin("forged", 3000);
    let tokens: Vec<_> =
        accepted().into_iter().filter_map(|one| token(&one.delivery).map(|token| (one, token))).collect();
    let providers: BTreeSet<_> = tokens.iter().map(|(one, _)| one.vector.provider.clone()).collect();
    assert!(providers.len() >= 5, "{providers:?}");
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let forger = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let point = forger.public_key().as_ref();
    let jwk = json!({ "kty": "EC", "crv": "P-256", "x": BASE64URL_NOPAD.encode(&point[1..33]), "y": BASE64URL_NOPAD.encode(&point[33..]) });
    for _ in 0..count {
        let (one, (name, prefix, [header, payload, signature])) = rng.pick(&tokens);
        let mut said: Value =
            serde_json::from_slice(&BASE64URL_NOPAD.decode(header.as_bytes()).unwrap()).unwrap();
        let algorithms = ["none", "None", "HS256", "HS512", "ES256", "RS256", "ES512", "EdDSA", "RS1", ""];
        match rng.below(9) {
            0 => said["jwk"] = jwk.clone(),
            1 => said["jku"] = "https://evil.example/jwks".into(),
            2 => said["x5u"] = "https://evil.example/x".into(),
            3 => {
                let kids = &["", "../../etc/passwd", "0", "\u{0}", "https://evil.example/k"];
                said["kid"] = (*rng.pick(kids)).into();
            }
            4 => said["crit"] = json!(["exp"]),
            5 => said["b64"] = (!said["b64"].as_bool().unwrap_or(true)).into(),
            6 => _ = said.as_object_mut().unwrap().remove("kid"),
            7 => said["x5c"] = json!([BASE64URL_NOPAD.encode(point)]),
            _ => {}
        }
        if rng.chance(60) {
            said["alg"] = (*rng.pick(&algorithms)).into();
        }
        let mut claims: Value =
            serde_json::from_slice(&BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap()).unwrap_or_default();
        let other = rng.chance(50) && claims.is_object();
        if other {
            claims["iat"] = (claims["iat"].as_i64().unwrap_or_default() + 1).into();
        }
        let payload =
            if other { BASE64URL_NOPAD.encode(claims.to_string().as_bytes()) } else { payload.clone() };
        let first = BASE64URL_NOPAD.encode(said.to_string().as_bytes());
        let signed = format!("{first}.{payload}");
        let document = rng.pick(&one.vector.keys.values().collect::<Vec<_>>()).as_bytes();
        let made = match rng.below(5) {
            0 => Vec::new(),
            1 => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, document), signed.as_bytes()).as_ref().to_vec()
            }
            2 => digest::digest(&digest::SHA256, signed.as_bytes()).as_ref().to_vec(),
            3 => vec![0; 64],
            _ => forger.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
        };
        let made = if rng.chance(15) { signature.clone() } else { BASE64URL_NOPAD.encode(&made) };
        let mut delivery = one.delivery.clone();
        let text = format!("{prefix}{signed}.{made}");
        if made == *signature && first == *header && payload == one_payload(one) {
            continue;
        }
        delivery.headers.insert(name, HeaderValue::from_str(&text).unwrap());
        assert!(one.judge.judge(&delivery).is_err(), "{}: {text}", one.vector.id);
    }
}

fn one_payload(one: &Accepted) -> String {
    token(&one.delivery).map(|(_, _, [_, payload, _])| payload).unwrap_or_default()
}
