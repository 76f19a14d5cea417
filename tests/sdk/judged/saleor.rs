//! Saleor: detached tokens over the body as it is.

use ring::rand::SystemRandom;
use serde_json::{Value, json};

use super::{b64, judge, rewritten, row};
use crate::host::{KeyHost, Reply, Signer, set};
use crate::published::node;
use crate::support::{App, sender};

/// RS512 of the same key.
fn sha512(signer: &Signer, text: &str) -> Vec<u8> {
    let Signer::Rsa(pair) = signer else { unreachable!("an RSA key") };
    let mut signature = vec![0; pair.public().modulus_len()];
    let random = SystemRandom::new();
    pair.sign(&ring::signature::RSA_PKCS1_SHA512, &random, text.as_bytes(), &mut signature).unwrap();
    signature
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn of_deliveries_of_saleor_the_gate_takes_what_saleors_sdk_takes() {
    let (Some(node), Some(host)) = (node(), KeyHost::new()) else { return };
    let (signer, certificate) = Signer::certified(&host.authority, "saleor", "saleor");
    let (strange, _) = Signer::certified(&host.authority, "strange", "saleor");
    // The same key once more, each time for something else.
    let for_else = |kid: &str, change: &dyn Fn(&mut Value)| {
        let mut key = serde_json::from_str(&signer.jwk(kid)).unwrap();
        change(&mut key);
        key.to_string()
    };
    let keys = set(&[
        signer.jwk("s1"),
        Signer::p256().jwk("s2"),
        for_else("to-encrypt", &|key| key["use"] = json!("enc")),
        for_else("to-sign", &|key| key["key_ops"] = json!(["sign"])),
        for_else("longer", &|key| key["alg"] = json!("RS512")),
        for_else("of-no-kind", &|key| key["kty"] = json!("oct")),
    ]);
    host.publish("https://api.github.com/.well-known/jwks.json", Reply::Document(keys.clone()));
    let app = App::ok();
    let route = "routes:\n  - { name: saleor, path: /saleor, provider: saleor, api_url: 'https://api.github.com/graphql/' }\n";
    let start = || host.before(&app.url(), route).start();

    let body = || json!({ "id": sender::unique("order"), "note": "ünïcode \u{1f600}" }).to_string();
    let header = || json!({ "alg": "RS256", "kid": "s1", "b64": false, "crit": ["b64"] });
    let with = |key: &str, value: Value| {
        let mut header = header();
        header[key] = value;
        header
    };
    let without = |key: &str| {
        let mut header = header();
        header.as_object_mut().unwrap().remove(key);
        header
    };
    let sent = |signature: String, body: String| (vec![("saleor-signature", signature)], body);
    let signed_by = |signer: &Signer, header: &Value, body: String| {
        let first = b64(header.to_string());
        let signature = signer.sign(format!("{first}.{body}").as_bytes());
        sent(format!("{first}..{}", b64(signature)), body)
    };
    let under = |header: &Value| signed_by(&signer, header, body());
    let changed = |change: &dyn Fn(&str) -> String| rewritten(under(&header()), change);
    let reshaped = |change: &dyn Fn(&str, &str) -> String| {
        let (headers, body) = under(&header());
        let (first, signature) = headers[0].1.split_once("..").unwrap();
        sent(change(first, signature), body)
    };
    let digest_512 = {
        let (first, body) = (b64(with("alg", json!("RS512")).to_string()), body());
        let signature = sha512(&signer, &format!("{first}.{body}"));
        sent(format!("{first}..{}", b64(signature)), body)
    };
    let hmac = {
        let (first, body) = (b64(with("alg", json!("HS256")).to_string()), body());
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, certificate.as_bytes());
        let tag = ring::hmac::sign(&key, format!("{first}.{body}").as_bytes());
        sent(format!("{first}..{}", b64(tag)), body)
    };
    let encoded = {
        let (first, body) = (b64(without("b64").to_string()), body());
        let signature = signer.sign(format!("{first}.{}", b64(&body)).as_bytes());
        sent(format!("{first}..{}", b64(signature)), body)
    };
    let rows = [
        row("a delivery", under(&header()), "accepted"),
        row("a header that says more", under(&with("typ", json!("JWT"))), "accepted"),
        row("another body", changed(&|body| body.replace("order", "Order")), "signature_mismatch"),
        row("one more byte", changed(&|body| format!("{body}\n")), "signature_mismatch"),
        row("the body written anew", changed(&|body| body.replace(':', ": ")), "signature_mismatch"),
        row("no body", changed(&|_| String::new()), "signature_mismatch"),
        row("another key under its name", signed_by(&strange, &header(), body()), "signature_mismatch"),
        row("a key that nobody publishes", under(&with("kid", json!("s3"))), "signature_mismatch"),
        // Of two that fit the SDK takes none, and the gate tries each: RFC 7515, section 4.1.4, leaves that open.
        row("no name of a key, of which one fits", under(&without("kid")), "accepted"),
        row("a key of another kind", under(&with("kid", json!("s2"))), "signature_mismatch"),
        row("a name that is no text", under(&with("kid", json!(1))), "signature_mismatch")
            .stricter("RFC 7515, section 4.1.4: it is a string"),
        row("a key for encryption", under(&with("kid", json!("to-encrypt"))), "signature_mismatch"),
        row("a key for other operations", under(&with("kid", json!("to-sign"))), "signature_mismatch"),
        row("a key for another algorithm", under(&with("kid", json!("longer"))), "signature_mismatch"),
        row("a key of no such kind", under(&with("kid", json!("of-no-kind"))), "signature_mismatch"),
        row("a longer digest", digest_512, "signature_malformed")
            .stricter("the documentation of Saleor names RS256 alone"),
        row("another algorithm's name", under(&with("alg", json!("RS512"))), "signature_malformed"),
        row("no algorithm", under(&with("alg", json!("none"))), "signature_malformed"),
        row("the certificate as a secret", hmac, "signature_malformed"),
        row("the body in base64", encoded, "signature_malformed"),
        row("nothing says that the body is as it is", under(&without("b64")), "signature_malformed"),
        row("what says so is not said to matter", under(&without("crit")), "signature_malformed")
            .stricter("RFC 7797, section 6: it must be listed"),
        row("something unknown matters", under(&with("crit", json!(["b64", "x"]))), "signature_malformed"),
        row(
            "another header",
            reshaped(&|_, signature| format!("{}..{signature}", b64(with("kid", json!("s2")).to_string()))),
            "signature_mismatch",
        ),
        row(
            "a body within",
            reshaped(&|first, signature| format!("{first}.e30.{signature}")),
            "signature_malformed",
        )
        .stricter("RFC 7515, appendix F: the payload's place is empty"),
        row("two parts", reshaped(&|first, signature| format!("{first}.{signature}")), "signature_malformed"),
        row("no signature in it", reshaped(&|first, _| format!("{first}..")), "signature_malformed"),
        row(
            "a signature cut short",
            reshaped(&|first, signature| format!("{first}..{}", &signature[4..])),
            "signature_mismatch",
        ),
        row("nothing signed", (Vec::new(), body()), "signature_missing"),
    ];
    let given = json!({ "keys": serde_json::from_str::<Value>(&keys).unwrap() });
    judge(node, "@saleor/app-sdk", "saleor", given, &start, &rows);
}
