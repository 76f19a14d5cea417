//! Deliveries whose keys are published, and what was changed in them, judged by the gate and by the provider's own
//! SDK: both must say the same of each, or the row names what makes the gate stricter. Neither fetches anything from
//! a provider: `host` publishes what the SDK is given.

use std::collections::BTreeMap;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::Sdks;
use crate::host::{KeyHost, Reply, Signer, set};
use crate::published::{node, python, reason};
use crate::support::{App, Builder, Gate, sender};
use crate::tls::Authority;
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
    let random = SystemRandom::new();
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
    host.authority.openssl(&format!(
        "req -x509 -key paypal.key -out matters.crt -days 30 -subj /CN={NAME} -addext subjectAltName=DNS:{NAME} -addext 1.2.3.4=critical,DER:0500"
    ));
    let matters = std::fs::read_to_string(host.authority.root().with_file_name("matters.crt")).unwrap();
    let mut certificates = BTreeMap::new();
    let mut publish = |url: &str, pem: &str| {
        host.publish(url, Reply::Document(pem.to_owned()));
        certificates.insert(url.to_owned(), pem.to_owned());
        url.to_owned()
    };
    let live = publish(LIVE, &pem);
    let of_other_host = publish(&LIVE.replace("fa77", "fa78"), &other_pem);
    let of_nobody = publish(&LIVE.replace("fa77", "fa79"), &foreign_pem);
    let matters = publish(&LIVE.replace("fa77", "fa7a"), &matters);
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
        row("a certificate with something unknown that matters", at(&matters), "store_unavailable").alone(),
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
    let roots = ["paypal", "other", "foreign", "matters"].map(at_root);
    let given = json!({ "certificates": certificates, "roots": roots, "webhook_id": WEBHOOK });
    judge(python, "paypalrestsdk", "paypal", given, &start, &rows);
}

/// What openssl signs, where ring does not.
fn signed_by_openssl(authority: &Authority, key: &str, digest: &str, text: &str) -> Vec<u8> {
    let at = |name: &str| authority.root().with_file_name(name);
    std::fs::write(at("text"), text).unwrap();
    authority.openssl(&format!("dgst -{digest} -sign {key}.key -out signature text"));
    std::fs::read(at("signature")).unwrap()
}

#[test]
fn of_deliveries_of_ebay_the_gate_takes_what_ebays_sdk_takes() {
    const IDS: [&str; 2] = ["9936261a-7d7b-4621-a0f1-964a3ac2b1b5", "9936261a-7d7b-4621-a0f1-964a3ac2b1b6"];
    const API: &str = "https://api.ebay.com";
    let (Some(node), Some(host)) = (node(), KeyHost::new()) else { return };
    let token = r#"{"access_token":"t","expires_in":7200,"token_type":"Application Access Token"}"#;
    host.publish(&format!("{API}/identity/v1/oauth2/token"), Reply::Document(token.to_owned()));
    let mut keys = BTreeMap::new();
    for (file, id) in ["ebay", "second"].iter().zip(IDS) {
        host.authority
            .openssl(&format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {file}.key"));
        host.authority.openssl(&format!("pkey -in {file}.key -pubout -out {file}.pem"));
        let pem =
            std::fs::read_to_string(host.authority.root().with_file_name(format!("{file}.pem"))).unwrap();
        let key = json!({ "key": pem.replace('\n', ""), "algorithm": "ECDSA", "digest": "SHA1" });
        let url = format!("{API}/commerce/notification/v1/public_key/{id}");
        host.publish(&url, Reply::Document(key.to_string()));
        keys.insert(id, key);
    }
    let app = App::ok();
    let route = "routes:\n  - { name: ebay, path: /ebay, provider: ebay, environment: production, credentials: { client_id: DIR/id, client_secret: DIR/id } }\n";
    let start = || {
        let builder = host.before(&app.url(), route);
        builder.dir().write("id", "an-id");
        builder.start()
    };

    let body = || {
        json!({
            "metadata": { "topic": "MARKETPLACE_ACCOUNT_DELETION", "schemaVersion": "1.0", "deprecated": false },
            "notification": { "notificationId": sender::unique("n"), "publishAttemptCount": 1, "data": { "username": "ünïcode" } },
        })
        .to_string()
    };
    let sent = |header: &str, body: String| (vec![("x-ebay-signature", header.to_owned())], body);
    let header = |id: &str, signature: &[u8]| json!({ "alg": "ecdsa", "kid": id, "signature": BASE64.encode(signature), "digest": "SHA1" });
    let signed_by = |key: &str, digest: &str, id: &str| {
        let body = body();
        let signature = signed_by_openssl(&host.authority, key, digest, &body);
        sent(&BASE64.encode(header(id, &signature).to_string().as_bytes()), body)
    };
    let good = || signed_by("ebay", "sha1", IDS[0]);
    let changed = |change: &dyn Fn(&str) -> String| {
        let (headers, body) = good();
        (headers, change(&body))
    };
    let shown = |(headers, _): &Delivery| -> Value {
        serde_json::from_slice(&BASE64.decode(headers[0].1.as_bytes()).unwrap()).unwrap()
    };
    let said = |change: &dyn Fn(&mut Value)| {
        let good = good();
        let mut said = shown(&good);
        change(&mut said);
        sent(&BASE64.encode(said.to_string().as_bytes()), good.1)
    };
    let tag = |change: &dyn Fn(&str) -> String| {
        said(&|said| said["signature"] = change(said["signature"].as_str().unwrap()).into())
    };
    // Some are of a length that needs none.
    let without_padding = std::iter::repeat_with(|| tag(&|tag| tag.trim_end_matches('=').to_owned()))
        .find(|delivery| !shown(delivery)["signature"].as_str().unwrap().len().is_multiple_of(4))
        .unwrap();
    let source = "eBay writes the body so that it is what was signed, and the bytes are compared";
    let rows = [
        row("a delivery", good(), "accepted"),
        row("the other key", signed_by("second", "sha1", IDS[1]), "accepted").alone(),
        row("no padding", without_padding, "signature_malformed").stricter("RFC 4648, section 3.2"),
        row("another name of the algorithm", said(&|said| said["alg"] = "none".into()), "accepted"),
        row("another body", changed(&|body| body.replace("ünïcode", "unicode")), "signature_mismatch"),
        row("one more member", changed(&|body| body.replacen('{', "{\"a\":1,", 1)), "signature_mismatch"),
        row("one more byte", changed(&|body| format!("{body}\n")), "signature_mismatch").stricter(source),
        row("the body written anew", changed(&|body| body.replace(':', ": ")), "signature_mismatch")
            .stricter(source),
        row(
            "a member twice",
            changed(&|body| body.replacen('{', "{\"metadata\":{},", 1)),
            "signature_mismatch",
        )
        .stricter(source),
        row("no body", changed(&|_| String::new()), "signature_mismatch"),
        row("another key under its name", signed_by("second", "sha1", IDS[0]), "signature_mismatch"),
        row("another key's name", signed_by("ebay", "sha1", IDS[1]), "signature_mismatch").alone(),
        row(
            "a key that is not there",
            signed_by("ebay", "sha1", &IDS[0].replace('5', "6")),
            "signature_mismatch",
        )
        .alone(),
        row("a key elsewhere", signed_by("ebay", "sha1", &format!("../{}", IDS[0])), "signature_mismatch"),
        row("a longer digest", signed_by("ebay", "sha256", IDS[0]), "signature_mismatch"),
        row("half a signature", tag(&|tag| tag[..tag.len() / 2].to_owned()), "signature_mismatch"),
        row("no signature", said(&|said| said["signature"] = Value::Null), "signature_malformed"),
        row("no key", said(&|said| said["kid"] = Value::Null), "signature_mismatch"),
        row("a header that is no JSON", sent("bm8=", body()), "signature_malformed"),
        row("a header that is no base64", sent("{}", body()), "signature_malformed"),
        row("no header", (Vec::new(), body()), "signature_missing"),
    ];
    judge(node, "event-notification-nodejs-sdk", "ebay", json!({ "keys": keys }), &start, &rows);
}

#[test]
fn of_requests_of_alexa_the_gate_takes_what_alexas_sdk_takes() {
    const CHAIN: &str = "https://s3.amazonaws.com/echo.api/echo-api-cert-12.pem";
    const SKILL: &str = "amzn1.ask.skill.75c997b8-610f-4eb4-bf2e-95810e15fba2";
    const NAME: &str = "echo-api.amazon.com";
    let (Some(python), Some(host)) = (python(), KeyHost::new()) else { return };
    let authority = &host.authority;
    let root = std::fs::read_to_string(authority.root()).unwrap();
    let issued = |file: &str, name: &str, days: i32| {
        let more = if file == "matters" { "1.2.3.4=critical,DER:0500\n" } else { "" };
        let extensions = format!("subjectAltName=DNS:{name}\nkeyUsage=digitalSignature\n{more}");
        std::fs::write(authority.root().with_file_name("extensions"), extensions).unwrap();
        authority.openssl(&format!("req -new -key alexa.key -out {file}.csr -subj /CN={name}"));
        authority.openssl(&format!(
            "x509 -req -in {file}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} -extfile extensions -out {file}.crt"
        ));
        std::fs::read_to_string(authority.root().with_file_name(format!("{file}.crt"))).unwrap() + &root
    };
    let (signer, of_itself) = Signer::certified(authority, "alexa", NAME);
    let (strange, _) = Signer::certified(authority, "strange", NAME);
    let chain = issued("leaf", NAME, 30);
    let mut certificates = BTreeMap::new();
    let mut publish = |from: &str, to: &str, chain: &str| {
        let url = CHAIN.replace(from, to);
        host.publish(&url, Reply::Document(chain.to_owned()));
        certificates.insert(url.clone(), chain.to_owned());
        url
    };
    let there = publish("", "", &chain);
    let of_another = publish("12", "13", &issued("another", "www.amazon.com", 30));
    let ended = publish("12", "14", &issued("ended", NAME, -1));
    let matters = publish("12", "17", &issued("matters", NAME, 30));
    let of_itself = publish("12", "15", &of_itself);
    let dotted = publish("echo.api/", "echo.api/../echo.api/", &chain);
    let with_port = publish(".com/", ".com:443/", &chain);
    let other_port = publish(".com/", ".com:563/", &chain);
    let in_capitals = publish("s3.", "S3.", &chain);
    let other_folder = publish("echo.api", "EcHo.aPi", &chain);
    let other_host = publish("amazonaws.com", "amazonaws.example", &chain);
    let in_clear = publish("https", "http", &chain);
    let app = App::ok();
    let route =
        format!("routes:\n  - {{ name: alexa, path: /alexa, provider: alexa, application_id: {SKILL} }}\n");
    let start = || host.before(&app.url(), &route).start();

    let now = sender::now_ms();
    let request = |kind: &str, skill: &str, time: i64| {
        json!({
            "version": "1.0",
            "context": { "System": { "application": { "applicationId": skill }, "user": { "userId": "ünïcode" } } },
            "request": { "type": kind, "requestId": sender::unique("request"), "timestamp": to_rfc3339(time), "locale": "en-US" },
        })
    };
    let signed_by = |signer: &Signer, url: &str, request: Value| {
        let body = request.to_string();
        let signature = BASE64.encode(&signer.sign(body.as_bytes()));
        (vec![("signaturecertchainurl", url.to_owned()), ("signature-256", signature)], body)
    };
    let launch = |time: i64| request("LaunchRequest", SKILL, time);
    let at = |url: &str| signed_by(&signer, url, launch(now));
    let signed = |request: Value| signed_by(&signer, &there, request);
    let good = || at(&there);
    let changed = |change: &dyn Fn(&str) -> String| {
        let (headers, body) = good();
        (headers, change(&body))
    };
    let with = |name: &str, change: &dyn Fn(&str) -> Option<String>| {
        let (mut headers, body) = good();
        headers.retain_mut(|(known, value)| {
            *known != name || change(value).map(|changed| *value = changed).is_some()
        });
        (headers, body)
    };
    let timeless = {
        let mut request = launch(now);
        request["request"].as_object_mut().unwrap().remove("timestamp");
        signed(request)
    };
    let older = {
        let body = launch(now).to_string();
        let signature = BASE64.encode(&signed_by_openssl(authority, "alexa", "sha1", &body));
        (vec![("signaturecertchainurl", there.clone()), ("signature", signature)], body)
    };
    // What is no certificate of Amazon's is none at all: there may be one later, and the sender is told to come again.
    let rows = [
        row("a request", good(), "accepted"),
        row("two minutes old", signed(launch(now - 120_000)), "accepted"),
        row("two minutes ahead", signed(launch(now + 120_000)), "accepted"),
        row("another body", changed(&|body| body.replace("en-US", "en-GB")), "signature_mismatch"),
        row("one more byte", changed(&|body| format!("{body}\n")), "signature_mismatch"),
        row("the body written anew", changed(&|body| body.replace(':', ": ")), "signature_mismatch"),
        row("another key", signed_by(&strange, &there, launch(now)), "signature_mismatch"),
        row(
            "for another skill",
            signed(request("LaunchRequest", &SKILL.replace('7', "8"), now)),
            "signature_mismatch",
        ),
        row("three minutes old", signed(launch(now - 180_000)), "timestamp_stale"),
        row("three minutes ahead", signed(launch(now + 180_000)), "timestamp_future"),
        row(
            "an event of ten minutes ago",
            signed(request("AlexaSkillEvent.SkillEnabled", SKILL, now - 600_000)),
            "timestamp_stale",
        )
        .stricter(
            "the page on hosting a skill demands 150 seconds; a route for events sets its own tolerance",
        ),
        row("no time", timeless, "timestamp_missing"),
        row("the older signature alone", older, "signature_missing"),
        row(
            "half a signature",
            with("signature-256", &|tag| Some(tag[..172].to_owned())),
            "signature_mismatch",
        ),
        row("no base64", with("signature-256", &|_| Some("!".to_owned())), "signature_malformed"),
        row("no signature", with("signature-256", &|_| None), "signature_missing"),
        row("no certificate", with("signaturecertchainurl", &|_| None), "signature_mismatch"),
        row("a certificate of another's name", at(&of_another), "store_unavailable").alone(),
        row("a certificate that has ended", at(&ended), "store_unavailable").alone(),
        row("a certificate with something unknown that matters", at(&matters), "store_unavailable").alone(),
        row("a certificate of itself", at(&of_itself), "store_unavailable").alone(),
        row("a certificate that is not there", at(&CHAIN.replace("12", "16")), "signature_mismatch").alone(),
        row("the port of TLS", at(&with_port), "accepted").alone(),
        row("another port", at(&other_port), "signature_mismatch"),
        row("its host in capitals", at(&in_capitals), "accepted").alone(),
        row("a way that leads back", at(&dotted), "signature_mismatch")
            .stricter("no address with dots is asked"),
        row("another folder", at(&other_folder), "signature_mismatch"),
        row("another host", at(&other_host), "signature_mismatch"),
        row("without TLS", at(&in_clear), "signature_mismatch"),
    ];
    let given = json!({ "certificates": certificates, "root": root, "skill_id": SKILL });
    judge(python, "ask-sdk-webservice-support", "alexa", given, &start, &rows);
}

/// Of version 1, with SHA-1: it knows no other.
#[test]
fn of_messages_of_sns_the_gate_takes_what_validatesns_takes() {
    const CERTIFICATE: &str =
        "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem";
    let (Some(python), Some(host)) = (python(), KeyHost::new()) else { return };
    let (_, pem) = Signer::certified(&host.authority, "sns", "sns.amazonaws.com");
    Signer::certified(&host.authority, "strange", "sns.amazonaws.com");
    host.publish(CERTIFICATE, Reply::Document(pem.clone()));
    let app = App::ok();
    let route = "routes:\n  - { name: sns, path: /sns, provider: aws-sns, topic_arns: ['arn:aws:sns:us-east-1:123456789012:bounces'] }\n";
    let start = || host.before(&app.url(), route).start();

    let now = sender::now_ms();
    let message = |time: i64| {
        json!({
            "Type": "Notification", "MessageId": sender::unique("id"), "Message": "{\"a\":\"line\\nbreak \u{1f600}\"}",
            "TopicArn": "arn:aws:sns:us-east-1:123456789012:bounces", "Subject": "ünïcode", "Timestamp": to_rfc3339(time),
            "SignatureVersion": "1", "SigningCertURL": CERTIFICATE,
        })
    };
    let signed_by = |key: &str, digest: &str, mut message: Value| {
        let mut content = String::new();
        for name in
            ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
        {
            if let Some(value) = message[name].as_str() {
                content.extend([name, "\n", value, "\n"]);
            }
        }
        message["Signature"] =
            BASE64.encode(&signed_by_openssl(&host.authority, key, digest, &content)).into();
        message
    };
    let sent = |message: Value| (Vec::new(), message.to_string());
    let good = || signed_by("sns", "sha1", message(now));
    let before = |change: &dyn Fn(&mut Value)| {
        let mut message = message(now);
        change(&mut message);
        sent(signed_by("sns", "sha1", message))
    };
    let with = |name: &str, value: &str| {
        let mut message = good();
        message[name] = value.into();
        sent(message)
    };
    let without = |name: &str| {
        let mut message = good();
        message.as_object_mut().unwrap().remove(name);
        sent(message)
    };
    let at = |time: i64| sent(signed_by("sns", "sha1", message(time)));
    let rows = [
        row("a notification", sent(good()), "accepted"),
        row("without a subject", before(&|m| _ = m.as_object_mut().unwrap().remove("Subject")), "accepted"),
        row("fifty minutes old", at(now - 3_000_000), "accepted"),
        row("another address to unsubscribe", with("UnsubscribeURL", "https://other.example/"), "accepted"),
        row(
            "a link that a notification has not",
            with("SubscribeURL", "https://other.example/"),
            "signature_mismatch",
        )
        .stricter("what is there of the fields that are signed is compared"),
        row(
            "the end of a subscription",
            before(&|m| {
                m["Type"] = "UnsubscribeConfirmation".into();
                m["Token"] = "t".into();
                m["SubscribeURL"] = "https://sns.us-east-1.amazonaws.com/".into();
                m.as_object_mut().unwrap().remove("Subject");
            }),
            "accepted",
        ),
        row("two hours old", at(now - 7_200_000), "timestamp_stale"),
        row("of tomorrow", at(now + 86_400_000), "timestamp_future")
            .stricter("a time of tomorrow would be good for a day"),
        row("another time", with("Timestamp", &to_rfc3339(now - 1000)), "signature_mismatch"),
        row("a time that is none", before(&|m| m["Timestamp"] = "now".into()), "timestamp_missing"),
        row("no time", without("Timestamp"), "signature_mismatch"),
        row("another message", with("Message", "x"), "signature_mismatch"),
        row("another id", with("MessageId", "x"), "signature_mismatch"),
        row("another subject", with("Subject", "x"), "signature_mismatch"),
        row("the subject taken away", without("Subject"), "signature_mismatch"),
        row(
            "another topic",
            with("TopicArn", "arn:aws:sns:us-east-1:123456789012:others"),
            "signature_mismatch",
        ),
        row(
            "another topic, signed",
            before(&|m| m["TopicArn"] = "arn:aws:sns:us-east-1:666666666666:bounces".into()),
            "signature_mismatch",
        )
        .stricter("anybody has messages signed for a topic of his own"),
        row("another type", with("Type", "SubscriptionConfirmation"), "signature_mismatch"),
        row("another type, signed", before(&|m| m["Type"] = "Else".into()), "signature_mismatch"),
        row("the newer version, of the older digest", with("SignatureVersion", "2"), "signature_mismatch"),
        row("an unknown version", with("SignatureVersion", "3"), "signature_mismatch"),
        row("no version", without("SignatureVersion"), "signature_mismatch"),
        row("the newer digest", sent(signed_by("sns", "sha256", message(now))), "signature_mismatch"),
        row("another key", sent(signed_by("strange", "sha1", message(now))), "signature_mismatch"),
        row("no signature", without("Signature"), "signature_missing"),
        row("no certificate", without("SigningCertURL"), "signature_mismatch"),
        row(
            "a certificate without TLS",
            with("SigningCertURL", &CERTIFICATE.replace("https", "http")),
            "signature_mismatch",
        ),
        row(
            "a certificate at another host",
            with("SigningCertURL", &CERTIFICATE.replace(".com", ".com.evil.example")),
            "signature_mismatch",
        ),
        row(
            "a certificate of another region",
            with("SigningCertURL", &CERTIFICATE.replace("us-east-1", "eu-west-1")),
            "signature_mismatch",
        )
        .stricter("a topic's messages are signed in its own region"),
        row(
            "an answer in place of a file",
            with("SigningCertURL", "https://sns.us-east-1.amazonaws.com/?x=.pem"),
            "signature_mismatch",
        )
        .stricter("a certificate has a name of one form"),
    ];
    judge(python, "validatesns", "sns", json!({ "certificate": pem }), &start, &rows);
}

/// A certificate of a request that there is, with these extensions; in base64 of DER.
fn certified(
    authority: &Authority,
    request: &str,
    file: &str,
    issuer: &str,
    days: i32,
    extensions: &str,
) -> String {
    let at = |name: String| authority.root().with_file_name(name);
    let identifiers = "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
    std::fs::write(at("extensions".to_owned()), format!("{identifiers}{extensions}")).unwrap();
    authority.openssl(&format!(
        "x509 -req -in {request}.csr -CA {issuer}.crt -CAkey {issuer}.key -CAcreateserial -days {days} -extfile extensions -out {file}.crt"
    ));
    base64_of(&std::fs::read_to_string(at(format!("{file}.crt"))).unwrap())
}

fn base64_of(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with('-')).collect()
}

/// A gate has Apple's own root pinned: here the words of the preset stand in the route, under a root of the test's.
#[test]
fn of_notifications_of_apple_the_gate_takes_what_apples_library_takes() {
    const BUNDLE: &str = "com.example.app";
    const LEAF: &str = "basicConstraints=critical,CA:false\nkeyUsage=critical,digitalSignature\n1.2.840.113635.100.6.11.1=DER:0500\n";
    const ISSUER: &str = "basicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n1.2.840.113635.100.6.2.1=DER:0500\n";
    let (Some(python), Some(authority)) = (python(), Authority::new()) else { return };
    let at = |name: &str| authority.root().with_file_name(name);
    let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for root in ["root", "stranger"] {
        authority.openssl(&format!(
            "req -x509 {new_key} -keyout {root}.key -out {root}.crt -days 30 -subj /CN=root -addext keyUsage=critical,keyCertSign,cRLSign"
        ));
    }
    for name in ["issuer", "leaf", "other"] {
        authority.openssl(&format!("req -new {new_key} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
    }
    let root_pem = std::fs::read_to_string(at("root.crt")).unwrap();
    let root = base64_of(&root_pem);
    let of = |request: &str, file: &str, issuer: &str, extensions: &str| {
        certified(&authority, request, file, issuer, 30, extensions)
    };
    let issuer = of("issuer", "issuer", "root", ISSUER);
    let leaf = of("leaf", "leaf", "issuer", LEAF);
    let without = |extensions: &str, word: &str| -> String {
        extensions.lines().filter(|line| !line.starts_with(word)).map(|line| format!("{line}\n")).collect()
    };
    let unmarked = of("leaf", "unmarked", "issuer", &without(LEAF, "1.2"));
    let critical = of("leaf", "critical", "issuer", &format!("{LEAF}1.2.3.4=critical,DER:0500\n"));
    let no_signer = of("leaf", "no_signer", "issuer", &LEAF.replace("digitalSignature", "keyAgreement"));
    let marked = of("leaf", "marked", "issuer", &LEAF.replace("=DER", "=critical,DER"));
    let ended = certified(&authority, "leaf", "ended", "issuer", -1, LEAF);
    let of_root = of("leaf", "of_root", "root", LEAF);
    // Other certificates for the same issuer, so that what it has signed is still its own.
    let unmarked_issuer = of("issuer", "unmarked_issuer", "root", &without(ISSUER, "1.2"));
    let no_authority = of(
        "issuer",
        "no_authority",
        "root",
        &ISSUER.replace("CA:true,pathlen:0", "CA:false").replace("keyCertSign,cRLSign", "digitalSignature"),
    );
    let no_usage = of("issuer", "no_usage", "root", &ISSUER.replace("keyCertSign,", ""));
    let critical_issuer =
        of("issuer", "critical_issuer", "root", &format!("{ISSUER}1.2.3.4=critical,DER:0500\n"));
    let ended_issuer = certified(&authority, "issuer", "ended_issuer", "root", -1, ISSUER);
    let strange_issuer = of("issuer", "strange_issuer", "stranger", ISSUER);
    let strange_root = base64_of(&std::fs::read_to_string(at("stranger.crt")).unwrap());

    let preset = std::fs::read_to_string("conf/providers/apple-app-store.yaml").unwrap();
    let (_, scheme) = preset.split_once("schemes:\n  - ").unwrap();
    let (before, block) = scheme.split_once("-----BEGIN").unwrap();
    let (_, after) = block.split_once("END CERTIFICATE-----\n").unwrap();
    let pem = root_pem.trim_end().replace('\n', "\n          ");
    let scheme = format!("{before}{pem}\n{after}").replace("\n    ", "\n      ");
    let scheme = scheme.replace("{route:bundle_id}", BUNDLE).replace("{route:environment}", "Production");
    let yaml = format!("routes:\n  - name: apple\n    path: /apple\n    scheme:\n      {scheme}");
    let app = App::ok();
    let start = || {
        let builder = Builder::new(&app.url()).without("provider").without("secret-file");
        builder.with_file("config", "hookgate.yaml", &yaml).start()
    };

    let signer = |name: &str| {
        let file = PrivateKeyDer::from_pem_file(at(&format!("{name}.key"))).unwrap();
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, file.secret_der(), &random);
        Signer::P256(Box::new(pair.unwrap()))
    };
    let (key, other) = (signer("leaf"), signer("other"));
    let now = sender::now_ms();
    let told = |within: &str| {
        json!({
            "notificationType": "DID_RENEW", "notificationUUID": sender::unique("n"), "version": "2.0", "signedDate": now,
            within: { "bundleId": BUNDLE, "environment": "Production", "appAppleId": 1, "bundleVersion": "ünïcode" },
        })
    };
    let with = |place: &str, value: Value| {
        let mut told = told("data");
        *told.pointer_mut(place).unwrap() = value;
        told
    };
    let token = |key: &Signer, header: &Value, told: &Value| {
        let text = format!("{}.{}", b64(header.to_string()), b64(told.to_string()));
        format!("{text}.{}", b64(key.sign(text.as_bytes())))
    };
    let sent = |token: String| (Vec::new(), json!({ "signedPayload": token }).to_string());
    let header = |chain: &[&String]| json!({ "alg": "ES256", "x5c": chain });
    let full = header(&[&leaf, &issuer, &root]);
    let says = |told: Value| sent(token(&key, &full, &told));
    let shows = |chain: &[&String]| sent(token(&key, &header(chain), &told("data")));
    let reshaped = |change: &dyn Fn([&str; 3]) -> String| {
        let good = token(&key, &full, &told("data"));
        let mut parts = good.split('.');
        sent(change([(); 3].map(|()| parts.next().unwrap())))
    };
    let headed = |name: &str, value: Value| {
        let mut header = full.clone();
        header[name] = value;
        sent(token(&key, &header, &told("data")))
    };
    let purchase = {
        let mut told = told("externalPurchaseToken");
        told["externalPurchaseToken"]["externalPurchaseId"] = "purchase".into();
        told["externalPurchaseToken"].as_object_mut().unwrap().remove("environment");
        told
    };
    let rows = [
        row("a notification", says(told("data")), "accepted"),
        row("a summary", says(told("summary")), "accepted"),
        row("one of the app", says(told("appData")), "accepted"),
        row("the root of others in the token", shows(&[&leaf, &issuer, &strange_root]), "accepted"),
        row("a purchase elsewhere", says(purchase), "signature_mismatch")
            .stricter("it names no environment, which the route demands"),
        row("another app", says(with("/data/bundleId", json!("com.example.other"))), "signature_mismatch"),
        row("no app", says(with("/data/bundleId", Value::Null)), "signature_mismatch"),
        row("the sandbox", says(with("/data/environment", json!("Sandbox"))), "signature_mismatch"),
        row("no environment", says(with("/data/environment", Value::Null)), "signature_mismatch"),
        row(
            "of the application's own tests",
            says(with("/data/environment", json!("Xcode"))),
            "signature_mismatch",
        ),
        row(
            "nothing told",
            says(json!({ "notificationUUID": "n", "signedDate": now })),
            "signature_mismatch",
        ),
        row(
            "another payload",
            reshaped(&|[head, _, tag]| format!("{head}.{}.{tag}", b64(told("data").to_string()))),
            "signature_mismatch",
        ),
        row("another key", sent(token(&other, &full, &told("data"))), "signature_mismatch"),
        row(
            "no signature in it",
            reshaped(&|[head, told, _]| format!("{head}.{told}.")),
            "signature_malformed",
        ),
        row(
            "a signature cut short",
            reshaped(&|[head, told, tag]| format!("{head}.{told}.{}", &tag[4..])),
            "signature_malformed",
        ),
        row("two parts", reshaped(&|[head, told, _]| format!("{head}.{told}")), "signature_malformed"),
        row("no algorithm", headed("alg", json!("none")), "signature_malformed"),
        row("another algorithm", headed("alg", json!("ES384")), "signature_malformed"),
        row("a secret's", headed("alg", json!("HS256")), "signature_malformed"),
        row("no chain", headed("x5c", Value::Null), "signature_mismatch"),
        row("a chain that is no list", headed("x5c", json!(leaf)), "signature_mismatch"),
        row("a chain of two", shows(&[&leaf, &issuer]), "signature_mismatch"),
        row("a chain of four", shows(&[&leaf, &issuer, &root, &root]), "signature_mismatch"),
        row("a chain of one", shows(&[&leaf]), "signature_mismatch"),
        row("a chain in another order", shows(&[&issuer, &leaf, &root]), "signature_mismatch"),
        row("a chain to another root", shows(&[&leaf, &strange_issuer, &strange_root]), "signature_mismatch"),
        row(
            "an issuer of another root beside ours",
            shows(&[&leaf, &strange_issuer, &root]),
            "signature_mismatch",
        ),
        row("a leaf of the root itself", shows(&[&of_root, &issuer, &root]), "signature_mismatch"),
        row("a leaf for something else", shows(&[&unmarked, &issuer, &root]), "signature_mismatch"),
        row("an issuer for something else", shows(&[&leaf, &unmarked_issuer, &root]), "signature_mismatch"),
        row("an issuer that is no authority", shows(&[&leaf, &no_authority, &root]), "signature_mismatch"),
        row("an issuer that signs no certificates", shows(&[&leaf, &no_usage, &root]), "signature_mismatch"),
        row("a mark that matters", shows(&[&marked, &issuer, &root]), "signature_mismatch"),
        row(
            "a leaf whose key is not for signatures",
            shows(&[&no_signer, &issuer, &root]),
            "signature_mismatch",
        )
        .stricter("RFC 5280, section 4.2.1.3"),
        row("a leaf that has ended", shows(&[&ended, &issuer, &root]), "signature_mismatch"),
        row("an issuer that has ended", shows(&[&leaf, &ended_issuer, &root]), "signature_mismatch"),
        row(
            "a leaf with something unknown that matters",
            shows(&[&critical, &issuer, &root]),
            "signature_mismatch",
        ),
        row(
            "an issuer with something unknown that matters",
            shows(&[&leaf, &critical_issuer, &root]),
            "signature_mismatch",
        ),
        row("no token", (Vec::new(), "{}".to_owned()), "signature_missing"),
    ];
    let given = json!({ "root": root, "environment": "Production", "bundle_id": BUNDLE, "app_id": 1 });
    judge(python, "app-store-server-library", "apple", given, &start, &rows);
}
