//! Deliveries whose keys are published, and what was changed in them, judged by the gate and by the provider's own
//! SDK: both must say the same of each, or the row names what makes the gate stricter. Neither fetches anything from
//! a provider: `host` publishes what the SDK is given.

use std::collections::BTreeMap;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use crate::Sdks;
use crate::host::{KeyHost, Reply, Signer, set};
use crate::published::{node, python, reason};
use crate::support::{App, Gate, sender};
use hookgate::clock::to_rfc3339;

/// What the gate says of a delivery. The SDK takes it too, or refuses it too, unless the gate is stricter.
struct Row {
    what: &'static str,
    headers: BTreeMap<String, String>,
    body: String,
    expected: &'static str,
    stricter: Option<&'static str>,
    /// It has a gate of its own: of one source a gate fetches once a minute what deliveries cause.
    alone: bool,
}

/// Headers and a body.
type Delivery = (Vec<(&'static str, String)>, String);

fn row(what: &'static str, (headers, body): Delivery, expected: &'static str) -> Row {
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Row { what, headers, body, expected, stricter: None, alone: false }
}

impl Row {
    /// The SDK takes this, and the gate does not: by what source.
    fn stricter(self, source: &'static str) -> Self {
        Row { stricter: Some(source), ..self }
    }

    fn alone(self) -> Self {
        Row { alone: true, ..self }
    }
}

fn judge(sdks: &Sdks, sdk: &str, judge: &str, mut given: Value, start: &dyn Fn() -> Gate, rows: &[Row]) {
    let deliveries = rows.iter().map(|row| json!({ "headers": row.headers, "body": row.body }));
    given["deliveries"] = deliveries.collect();
    let theirs: Vec<bool> = serde_json::from_str(&sdks.run("judged", &[judge], &given.to_string())).unwrap();
    assert_eq!(theirs.len(), rows.len());
    let (gate, mut wrong) = (start(), Vec::new());
    for (row, theirs) in rows.iter().zip(&theirs) {
        let own = row.alone.then(start);
        let ours = reason(own.as_ref().unwrap_or(&gate), judge, &row.headers, &row.body);
        let alike = *theirs == (ours == "accepted" || row.stricter.is_some());
        if ours != row.expected || !alike || (row.stricter.is_some() && ours == "accepted") {
            wrong.push(format!("{}: {ours}, not {}; taken by {sdk}: {theirs}", row.what, row.expected));
        }
    }
    assert!(wrong.is_empty(), "{judge}\n{}", wrong.join("\n"));
    let stricter: Vec<_> = rows.iter().filter(|row| row.stricter.is_some()).map(|row| row.what).collect();
    println!("{} deliveries, judged by {sdk}; the gate is stricter on: {}", rows.len(), stricter.join(", "));
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64URL_NOPAD.encode(bytes.as_ref())
}

/// RS512 of the same key.
fn sha512(signer: &Signer, text: &str) -> Vec<u8> {
    let Signer::Rsa(pair) = signer else { unreachable!("an RSA key") };
    let mut signature = vec![0; pair.public().modulus_len()];
    let random = ring::rand::SystemRandom::new();
    pair.sign(&ring::signature::RSA_PKCS1_SHA512, &random, text.as_bytes(), &mut signature).unwrap();
    signature
}

#[test]
fn of_deliveries_of_saleor_the_gate_takes_what_saleors_sdk_takes() {
    let (Some(node), Some(host)) = (node(), KeyHost::new()) else { return };
    let (signer, certificate) = Signer::certified(&host.authority, "saleor", "saleor");
    let (strange, _) = Signer::certified(&host.authority, "strange", "saleor");
    let keys = set(&[signer.jwk("s1"), Signer::p256().jwk("s2")]);
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
    let signed = |header: &Value| signed_by(&signer, header, body());
    let changed = |change: &dyn Fn(&str) -> String| {
        let (headers, body) = signed(&header());
        (headers, change(&body))
    };
    let reshaped = |change: &dyn Fn(&str, &str) -> String| {
        let (headers, body) = signed(&header());
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
        row("a delivery", signed(&header()), "accepted"),
        row("a header that says more", signed(&with("typ", json!("JWT"))), "accepted"),
        row("another body", changed(&|body| body.replace("order", "Order")), "signature_mismatch"),
        row("one more byte", changed(&|body| format!("{body}\n")), "signature_mismatch"),
        row("the body written anew", changed(&|body| body.replace(':', ": ")), "signature_mismatch"),
        row("no body", changed(&|_| String::new()), "signature_mismatch"),
        row("another key under its name", signed_by(&strange, &header(), body()), "signature_mismatch"),
        row("a key that nobody publishes", signed(&with("kid", json!("s3"))), "signature_mismatch"),
        // Of two that fit the SDK takes none, and the gate tries each: RFC 7515, section 4.1.4, leaves that open.
        row("no name of a key, of which one fits", signed(&without("kid")), "accepted"),
        row("a key of another kind", signed(&with("kid", json!("s2"))), "signature_mismatch"),
        row("a name that is no text", signed(&with("kid", json!(1))), "signature_mismatch")
            .stricter("RFC 7515, section 4.1.4: it is a string"),
        row("a longer digest", digest_512, "signature_malformed")
            .stricter("the documentation of Saleor names RS256 alone"),
        row("another algorithm's name", signed(&with("alg", json!("RS512"))), "signature_malformed"),
        row("no algorithm", signed(&with("alg", json!("none"))), "signature_malformed"),
        row("the certificate as a secret", hmac, "signature_malformed"),
        row("the body in base64", encoded, "signature_malformed"),
        row("nothing says that the body is as it is", signed(&without("b64")), "signature_malformed"),
        row("what says so is not said to matter", signed(&without("crit")), "signature_malformed")
            .stricter("RFC 7797, section 6: it must be listed"),
        row("something unknown matters", signed(&with("crit", json!(["b64", "x"]))), "signature_malformed"),
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

#[test]
fn of_deliveries_of_turnkey_the_gate_takes_what_turnkeys_sdk_takes() {
    let (Some(node), Some(host)) = (node(), KeyHost::new()) else { return };
    let pair = |seed: u8| Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let (key, strange) = (pair(1), pair(2));
    let jwk = |kid: &str, key: &Ed25519KeyPair| {
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "x": b64(key.public_key()) })
            .to_string()
    };
    let document = set(&[jwk("t1", &key), jwk("t2", &pair(3))]);
    host.publish("https://api.turnkey.com/public/v1/discovery/webhooks/jwks", Reply::Document(document));
    let app = App::ok();
    let route = "routes:\n  - { name: turnkey, path: /turnkey, provider: turnkey }\n";
    let start = || host.before(&app.url(), route).start();

    let now = sender::now_ms();
    let signed_by = |key: &Ed25519KeyPair, kid: &str, time: &str| {
        let (id, body) =
            (sender::unique("evt"), json!({ "type": "ACTIVITY", "note": "ünïcode" }).to_string());
        let signature = key.sign(format!("v1.ed25519.{kid}.{time}.{id}.{body}").as_bytes());
        let headers = vec![
            ("x-turnkey-timestamp", time.to_owned()),
            ("x-turnkey-event-id", id),
            ("x-turnkey-signature-key-id", kid.to_owned()),
            ("x-turnkey-signature-algorithm", "ed25519".to_owned()),
            ("x-turnkey-signature-version", "v1".to_owned()),
            ("x-turnkey-signature", HEXLOWER.encode(signature.as_ref())),
        ];
        (headers, body)
    };
    let at = |time: i64| signed_by(&key, "t1", &time.to_string());
    let good = || at(now);
    let with = |name: &str, change: &dyn Fn(&str) -> String| {
        let (mut headers, body) = good();
        let header = headers.iter_mut().find(|(known, _)| known.ends_with(name)).unwrap();
        header.1 = change(&header.1);
        (headers, body)
    };
    let without = |name: &str| {
        let (mut headers, body) = good();
        headers.retain(|(known, _)| *known != name);
        (headers, body)
    };
    let body = |change: &dyn Fn(&str) -> String| {
        let (headers, body) = good();
        (headers, change(&body))
    };
    let rows = [
        row("a delivery", good(), "accepted"),
        row("four minutes old", at(now - 240_000), "accepted"),
        row("four minutes ahead", at(now + 240_000), "accepted"),
        row("capital letters", with("signature", &str::to_uppercase), "accepted"),
        row("another body", body(&|body| body.replace("ACTIVITY", "BALANCE")), "signature_mismatch"),
        row("one more byte", body(&|body| format!("{body}\n")), "signature_mismatch"),
        row("the body written anew", body(&|body| body.replace(':', ": ")), "signature_mismatch"),
        row("six minutes old", at(now - 360_000), "timestamp_stale"),
        row("six minutes ahead", at(now + 360_000), "timestamp_future"),
        row("another time", with("timestamp", &|_| (now + 1).to_string()), "signature_mismatch"),
        row("a time of seconds", at(now / 1000), "timestamp_stale"),
        row("a time that is none", signed_by(&key, "t1", "now"), "signature_malformed"),
        row("a time with a sign", signed_by(&key, "t1", &format!("+{now}")), "signature_malformed"),
        row("a time with a fraction", signed_by(&key, "t1", &format!("{now}.0")), "signature_malformed"),
        row("another id", with("event-id", &|_| sender::unique("other")), "signature_mismatch"),
        row("another key of the set", with("key-id", &|_| "t2".to_owned()), "signature_mismatch"),
        row("a key that nobody publishes", signed_by(&strange, "t3", &now.to_string()), "signature_mismatch"),
        row("another key under its name", signed_by(&strange, "t1", &now.to_string()), "signature_mismatch"),
        row("another version", with("version", &|_| "v2".to_owned()), "signature_mismatch"),
        row("another algorithm", with("algorithm", &|_| "none".to_owned()), "signature_mismatch"),
        row("its name in capitals", with("algorithm", &str::to_uppercase), "signature_mismatch"),
        row("half a signature", with("signature", &|tag| tag[..64].to_owned()), "signature_malformed"),
        row("one more letter", with("signature", &|tag| format!("{tag}0")), "signature_malformed"),
        row("no hex", with("signature", &|tag| tag.replace(['a', 'b', 'c'], "g")), "signature_malformed"),
        row(
            "in base64",
            with("signature", &|tag| BASE64.encode(&HEXLOWER.decode(tag.as_bytes()).unwrap())),
            "signature_malformed",
        ),
        row("no time", without("x-turnkey-timestamp"), "signature_missing"),
        row("no id", without("x-turnkey-event-id"), "signature_missing"),
        row("no key", without("x-turnkey-signature-key-id"), "signature_missing"),
        row("no algorithm", without("x-turnkey-signature-algorithm"), "signature_mismatch"),
        row("no version", without("x-turnkey-signature-version"), "signature_mismatch"),
        row("no signature", without("x-turnkey-signature"), "signature_missing"),
    ];
    let keys = [("t1", &key), ("t2", &pair(3))]
        .map(|(id, key)| json!({ "keyId": id, "publicKey": HEXLOWER.encode(key.public_key().as_ref()), "algorithm": "ed25519" }));
    judge(node, "@turnkey/crypto", "turnkey", json!({ "keys": keys }), &start, &rows);
}

#[test]
fn of_deliveries_of_paypal_the_gate_takes_what_paypals_sdk_takes() {
    const LIVE: &str = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77";
    const NAME: &str = "messageverificationcerts.paypal.com";
    const WEBHOOK: &str = "1JE4291016473214C";
    let (Some(python), Some(host)) = (python(), KeyHost::new()) else { return };
    let certified = |file: &str, name: &str| Signer::certified(&host.authority, file, name);
    let (signer, pem) = certified("paypal", NAME);
    let (strange, _) = certified("strange", NAME);
    let (other, other_pem) = certified("other", "www.paypal.com");
    let (foreign, foreign_pem) = certified("foreign", "messageverificationcerts.example.com");
    let mut certificates = BTreeMap::new();
    let mut publish = |url: &str, pem: &str| {
        host.publish(url, Reply::Document(pem.to_owned()));
        certificates.insert(url.to_owned(), pem.to_owned());
        url.to_owned()
    };
    let live = publish(LIVE, &pem);
    let of_other_host = publish(&LIVE.replace("fa77", "fa78"), &other_pem);
    let of_nobody = publish(&LIVE.replace("fa77", "fa79"), &foreign_pem);
    let sandbox = publish(&LIVE.replace("api.", "api.sandbox."), &pem);
    let elsewhere = publish(&LIVE.replace("paypal.com", "paypal.example"), &pem);
    let in_clear = publish(&LIVE.replace("https", "http"), &pem);
    let with_more = publish(&format!("{LIVE}?x=1"), &pem);
    let app = App::ok();
    let route =
        format!("routes:\n  - {{ name: paypal, path: /paypal, provider: paypal, webhook_id: {WEBHOOK} }}\n");
    let start = || host.before(&app.url(), &route).start();

    let now = to_rfc3339(sender::now_ms());
    let checksum = |body: &str| crc32fast::hash(body.as_bytes());
    let signed_by = |signer: &Signer, webhook: &str, url: &str| {
        let (id, body) = (
            sender::unique("transmission"),
            json!({ "id": sender::unique("WH"), "event_type": "PAYMENT", "note": "ünïcode" }).to_string(),
        );
        let text = format!("{id}|{now}|{webhook}|{}", checksum(&body));
        let headers = vec![
            ("paypal-transmission-id", id),
            ("paypal-transmission-time", now.clone()),
            ("paypal-transmission-sig", BASE64.encode(&signer.sign(text.as_bytes()))),
            ("paypal-cert-url", url.to_owned()),
            ("paypal-auth-algo", "SHA256withRSA".to_owned()),
        ];
        (headers, body)
    };
    let at = |url: &str| signed_by(&signer, WEBHOOK, url);
    let good = || at(&live);
    let with = |name: &str, change: &dyn Fn(&str) -> String| {
        let (mut headers, body) = good();
        let header = headers.iter_mut().find(|(known, _)| known.ends_with(name)).unwrap();
        header.1 = change(&header.1);
        (headers, body)
    };
    let without = |name: &str| {
        let (mut headers, body) = good();
        headers.retain(|(known, _)| !known.ends_with(name));
        (headers, body)
    };
    let body = |change: &dyn Fn(&str) -> String| {
        let (headers, body) = good();
        (headers, change(&body))
    };
    let rows = [
        row("a delivery", good(), "accepted"),
        row("another body", body(&|body| body.replace("PAYMENT", "payment")), "signature_mismatch"),
        row("one more byte", body(&|body| format!("{body}\n")), "signature_mismatch"),
        row("another transmission", with("-id", &|_| sender::unique("other")), "signature_mismatch"),
        row("another time", with("-time", &|_| to_rfc3339(sender::now_ms() + 5000)), "signature_mismatch"),
        row("for another webhook", signed_by(&signer, "WEBHOOK_ID", &live), "signature_mismatch"),
        row("another key", signed_by(&strange, WEBHOOK, &live), "signature_mismatch"),
        row("another algorithm", with("algo", &|_| "SHA512withRSA".to_owned()), "signature_mismatch"),
        row("the older digest's name", with("algo", &|_| "SHA1withRSA".to_owned()), "signature_mismatch"),
        row("half a signature", with("sig", &|tag| tag[..172].to_owned()), "signature_mismatch"),
        row(
            "a space in the signature",
            with("sig", &|tag| tag.replacen('A', " A", 1)),
            "signature_malformed",
        )
        .stricter("RFC 4648, section 3.3: what is not of the alphabet is refused"),
        row("a certificate of nobody there", at(&LIVE.replace("fa77", "fa80")), "signature_mismatch").alone(),
        row(
            "a certificate of another's name",
            signed_by(&foreign, WEBHOOK, &of_nobody),
            "signature_mismatch",
        )
        .alone(),
        row(
            "a certificate of another of its hosts",
            signed_by(&other, WEBHOOK, &of_other_host),
            "signature_mismatch",
        )
        .alone()
        .stricter("the certificate that signs deliveries has a name of its own"),
        row("a certificate at another host", at(&elsewhere), "signature_mismatch")
            .stricter("PayPal publishes its certificates at two addresses"),
        row("a certificate without TLS", at(&in_clear), "signature_mismatch").stricter("the same"),
        row("more behind its address", at(&with_more), "signature_mismatch").stricter("the same"),
        row("a live certificate at the sandbox", at(&sandbox), "signature_mismatch")
            .stricter("the name of the sandbox's is another"),
        row("no transmission", without("transmission-id"), "signature_missing"),
        row("no time", without("-time"), "signature_missing"),
        row("no signature", without("-sig"), "signature_missing"),
        row("no certificate", without("-url"), "signature_mismatch"),
        row("no algorithm", without("-algo"), "signature_mismatch"),
    ];
    let at_root = |file: &str| host.authority.root().with_file_name(format!("{file}.crt"));
    let roots = ["paypal", "other", "foreign"].map(at_root);
    let given = json!({ "certificates": certificates, "roots": roots, "webhook_id": WEBHOOK });
    judge(python, "paypalrestsdk", "paypal", given, &start, &rows);
}
