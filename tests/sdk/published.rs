//! Keys that are published: what a library that is not ours signs gets through, with the key that is published and
//! no other; of messages of SNS the gate takes what Amazon's own validator takes, and of tokens of Google what Google's
//! own library takes.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use hookgate::clock::to_rfc3339;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Sdks;
use crate::host::{KeyHost, Reply, Signer};
use crate::support::{App, Gate, Headers, Request, sender};

#[derive(Deserialize)]
struct Delivery {
    provider: String,
    url: String,
    document: String,
    body: String,
    good: BTreeMap<String, String>,
    strange: BTreeMap<String, String>,
    other: BTreeMap<String, String>,
}

const ROUTES: &str = "routes:
  - { name: google-pubsub, path: /google-pubsub, provider: google-pubsub, audience: 'https://gate.example/google-pubsub',
      service_account: push@p.iam.gserviceaccount.com }
  - { name: plaid, path: /plaid, provider: plaid, environment: production, credentials: { client_id: DIR/key-1, secret: DIR/key-1 } }
  - { name: saleor, path: /saleor, provider: saleor, api_url: 'https://api.github.com/graphql/' }
  - { name: kinde, path: /kinde, provider: kinde, issuer: 'https://example.kinde.com' }
  - { name: google-risc, path: /google-risc, provider: google-risc, client_id: 1.apps.googleusercontent.com }
  - { name: azure-event-grid, path: /azure-event-grid, provider: azure-event-grid, audience: 'api://us', tenant_id: 72f988bf-86f1-41af-91ab-2d7cd011db47 }
  - { name: bot-framework, path: /bot-framework, provider: bot-framework, application_id: 5b2d3b1c-8a55-4c1f-9d0e-0b9d2f5f3c11 }
  - { name: constant-contact, path: /constant-contact, provider: constant-contact }
  - { name: travis-ci, path: /travis-ci, provider: travis-ci }
  - { name: truelayer, path: /truelayer, provider: truelayer, environment: production }
  - { name: microsoft-graph-rich, path: /microsoft-graph-rich, provider: microsoft-graph-rich,
      application_id: 5b2d3b1c-8a55-4c1f-9d0e-0b9d2f5f3c11, tenant_id: 72f988bf-86f1-41af-91ab-2d7cd011db47 }
  - { name: fireblocks-v2, path: /fireblocks-v2, provider: fireblocks-v2, environment: us }
  - { name: sns, path: /sns, provider: aws-sns, topic_arns: ['arn:aws:sns:us-east-1:123456789012:bounces'] }
  - name: issuer
    path: /issuer
    scheme:
      algorithm: ed25519
      signature: { from: 'header:Authorization', prefix: 'Bearer ', format: jwt }
      also: 'claim:digest == {body|sha256hex}'
      keys: { jwks: 'https://issuer.example/jwks' }
      claims: { iss: 'https://issuer.example', aud: 'https://gate.example/' }
      timestamp: { from: 'claim:iat', unit: s, expires: 'claim:exp', tolerance: 1h }
";

pub fn node() -> Option<&'static Sdks> {
    Sdks::installed().find(|sdks| sdks.extension == "mjs")
}

pub fn python() -> Option<&'static Sdks> {
    Sdks::installed().find(|sdks| sdks.extension == "py")
}

pub fn reason(gate: &Gate, route: &str, headers: &BTreeMap<String, String>, body: &str) -> String {
    // Where the body is the token, that is all there is.
    let body = headers.get("token").map_or(body, String::as_str);
    let headers = headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let request =
        Request { target: format!("/{route}"), headers: Headers(headers), body: body.as_bytes().to_vec() };
    gate.reason(&gate.send(&request))
}

#[test]
fn what_is_signed_with_a_published_key_gets_through_and_nothing_else() {
    let Some(host) = KeyHost::new() else { return };
    let mut deliveries = Vec::<Delivery>::new();
    for (sdks, count) in [(node(), 12), (python(), 1)] {
        let Some(sdks) = sdks else { continue };
        let said = sdks.run("published", &["sign", &(sender::now_ms() / 1000).to_string()], "");
        let signed: Vec<Delivery> = serde_json::from_str(&said).unwrap();
        assert_eq!(signed.len(), count, "{}", sdks.extension);
        deliveries.extend(signed);
    }
    for delivery in &deliveries {
        host.publish(&delivery.url, Reply::Document(delivery.document.clone()));
    }
    let app = App::ok();
    let gate = host.before(&app.url(), ROUTES).start();
    for Delivery { provider, body, good, strange, other, .. } in &deliveries {
        let before = app.seen();
        for (what, wrong) in
            [("a key that is not published", strange), ("something else that was signed", other)]
        {
            let said = reason(&gate, provider, wrong, body);
            assert!(said.starts_with("signature_"), "{provider}: {what} is {said}");
        }
        assert_eq!(app.seen(), before, "{provider}");
        assert_eq!(reason(&gate, provider, good, body), "accepted", "{provider}");
        // Graph repeats what is the same, and nobody could tell.
        let again = if provider == "microsoft-graph-rich" { "accepted" } else { "duplicate" };
        assert_eq!(reason(&gate, provider, good, body), again, "{provider}");
    }
    println!("{} deliveries, signed by jose and truelayer-signing", deliveries.len());
}

const CERTIFICATE: &str =
    "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem";

fn message() -> Value {
    json!({
        "Type": "Notification", "MessageId": sender::unique("id"), "TopicArn": "arn:aws:sns:us-east-1:123456789012:bounces",
        "Subject": "ünïcode", "Message": "{\"a\":\"line\\nbreak \u{1f600}\"}", "Timestamp": to_rfc3339(sender::now_ms()),
        "SignatureVersion": "2", "SigningCertURL": CERTIFICATE,
        "UnsubscribeURL": "https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe",
    })
}

fn signed(signer: &Signer, mut message: Value, change: impl FnOnce(&mut Value)) -> Value {
    change(&mut message);
    let confirms = message["Type"] != "Notification";
    let keys: &[&str] = if confirms {
        &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    } else {
        &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    };
    let mut content = String::new();
    for key in keys {
        if let Some(value) = message[*key].as_str() {
            content.extend([key, "\n", value, "\n"]);
        }
    }
    message["Signature"] = BASE64.encode(&signer.sign(content.as_bytes())).into();
    message
}

#[test]
fn of_messages_of_sns_the_gate_takes_what_amazons_validator_takes() {
    let (Some(node), Some(host)) = (node(), KeyHost::new()) else { return };
    let (signer, pem) = Signer::certified(&host.authority, "sns", "sns.amazonaws.com");
    let (strange, _) = Signer::certified(&host.authority, "strange", "sns.amazonaws.com");
    host.publish(CERTIFICATE, Reply::Document(pem.clone()));
    let after = |key: &str, value: &str| {
        let mut message = signed(&signer, message(), |_| {});
        message[key] = value.into();
        message
    };
    let without = |key: &str| {
        let mut message = signed(&signer, message(), |_| {});
        message.as_object_mut().unwrap().remove(key);
        message
    };
    let messages = [
        ("a notification", signed(&signer, message(), |_| {})),
        (
            "without a subject",
            signed(&signer, message(), |m| _ = m.as_object_mut().unwrap().remove("Subject")),
        ),
        ("another subject", after("Subject", "x")),
        ("the subject taken away", without("Subject")),
        ("another message", after("Message", "x")),
        ("another id", after("MessageId", "x")),
        ("another time", after("Timestamp", &to_rfc3339(sender::now_ms() + 1000))),
        ("another version", after("SignatureVersion", "1")),
        ("an unknown version", after("SignatureVersion", "3")),
        ("no signature", without("Signature")),
        ("no certificate", without("SigningCertURL")),
        ("another host", after("SigningCertURL", &CERTIFICATE.replace("amazonaws.com", "amazonaws.example"))),
        ("no TLS", after("SigningCertURL", &CERTIFICATE.replace("https", "http"))),
        ("another signer", signed(&strange, message(), |_| {})),
        ("another link", after("UnsubscribeURL", "https://other.example/")),
    ];
    let asked: Vec<_> =
        messages.iter().map(|(_, message)| json!({ "message": message, "certificate": pem })).collect();
    let said = node.run("published", &["judge"], &json!(asked).to_string());
    let theirs: Vec<bool> = serde_json::from_str(&said).unwrap();
    let app = App::ok();
    let gate = host.before(&app.url(), ROUTES).start();
    let ours: Vec<_> = messages
        .iter()
        .map(|(_, message)| reason(&gate, "sns", &BTreeMap::new(), &message.to_string()))
        .collect();
    let names = messages.iter().map(|(name, _)| *name);
    let told: Vec<_> = names.zip(theirs.iter().zip(&ours)).collect();
    assert!(told.iter().all(|(_, (theirs, ours))| **theirs == (*ours == "accepted")), "{told:#?}");
    assert_eq!(theirs.iter().filter(|taken| **taken).count(), 3, "{told:#?}");
    println!("{} messages, judged by sns-validator", told.len());
}

const GOOGLE: &str = "https://www.googleapis.com/oauth2/v3/certs";

#[test]
fn of_tokens_of_google_the_gate_takes_what_googles_library_takes() {
    let (Some(python), Some(host)) = (python(), KeyHost::new()) else { return };
    let (signer, certificate) = Signer::certified(&host.authority, "google", "federated-signon");
    let (strange, _) = Signer::certified(&host.authority, "strange", "federated-signon");
    let keys = format!("{{\"keys\":[{}]}}", signer.jwk("g1"));
    host.publish(GOOGLE, Reply::Document(keys.clone()));
    let now = sender::now_ms() / 1000;
    let audience = "https://gate.example/google-pubsub";
    let claims = |change: &[(&str, Value)]| {
        let mut claims = json!({
            "iss": "https://accounts.google.com", "aud": audience, "email": "push@p.iam.gserviceaccount.com",
            "email_verified": true, "iat": now, "exp": now + 3600, "sub": "1",
        });
        for (key, value) in change {
            claims[*key] = value.clone();
        }
        claims
    };
    let token = |change: &[(&str, Value)]| signer.token("g1", &claims(change));
    let b64 = |text: &str| data_encoding::BASE64URL_NOPAD.encode(text.as_bytes());
    let good = token(&[]);
    let parts: Vec<&str> = good.split('.').collect();
    let payload = b64(&claims(&[("sub", json!("2"))]).to_string());
    let hmac = {
        let text = format!("{}.{}", b64(r#"{"alg":"HS256","kid":"g1","typ":"JWT"}"#), parts[1]);
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, certificate.as_bytes());
        let tag = ring::hmac::sign(&key, text.as_bytes());
        format!("{text}.{}", data_encoding::BASE64URL_NOPAD.encode(tag.as_ref()))
    };
    let tokens = [
        ("a token", good.clone()),
        ("the issuer in its other form", token(&[("iss", json!("accounts.google.com"))])),
        ("one of several audiences", token(&[("aud", json!(["https://other.example/", audience]))])),
        ("another audience", token(&[("aud", json!("https://other.example/"))])),
        ("an audience that begins alike", token(&[("aud", json!(format!("{audience}/")))])),
        ("no audience", token(&[("aud", Value::Null)])),
        ("another issuer", token(&[("iss", json!("https://accounts.google.com.evil.example"))])),
        ("no issuer", token(&[("iss", Value::Null)])),
        ("one that has ended", token(&[("iat", json!(now - 3700)), ("exp", json!(now - 120))])),
        ("one of tomorrow", token(&[("iat", json!(now + 86_400)), ("exp", json!(now + 90_000))])),
        ("another key", strange.token("g1", &claims(&[]))),
        ("a key that nobody publishes", strange.token("g2", &claims(&[]))),
        ("another payload", format!("{}.{payload}.{}", parts[0], parts[2])),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("no algorithm", format!("{}.{}.", b64(r#"{"alg":"none","kid":"g1"}"#), parts[1])),
        ("the certificate as a secret", hmac),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
    ];
    let asked = json!({
        "tokens": tokens.iter().map(|(_, token)| token).collect::<Vec<_>>(), "audience": audience,
        "certificates": { "g1": certificate }, "keys": serde_json::from_str::<Value>(&keys).unwrap(),
    });
    let said = python.run("published", &["judge"], &asked.to_string());
    let theirs: BTreeMap<String, Vec<bool>> = serde_json::from_str(&said).unwrap();
    let app = App::ok();
    let gate = host.before(&app.url(), ROUTES).start();
    let ours = tokens.iter().map(|(_, token)| {
        let body = json!({ "message": { "messageId": sender::unique("m"), "data": "e30=" } }).to_string();
        let headers = BTreeMap::from([("authorization".to_owned(), format!("Bearer {token}"))]);
        reason(&gate, "google-pubsub", &headers, &body)
    });
    let ours: Vec<_> = ours.collect();
    assert_eq!(theirs.len(), 2);
    for (judge, theirs) in &theirs {
        for ((name, _), (theirs, ours)) in tokens.iter().zip(theirs.iter().zip(&ours)) {
            // Google itself writes one audience; RFC 7519, section 4.1.3, lets it be a list, as PyJWT reads it.
            let of_google = judge == "google" && *name == "one of several audiences";
            assert_eq!(*theirs, ours == "accepted" && !of_google, "{judge}: {name} is {ours}");
        }
        assert!(theirs.iter().filter(|taken| **taken).count() >= 2, "{judge}: {theirs:?}");
    }
    println!("{} tokens, judged by google-auth and PyJWT", tokens.len());
}
