//! Deliveries as providers send them reach the application, and what is nearly one does not.

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::host::{KeyHost, Reply, Signer, set};
use crate::support::gate::same;
use crate::support::sender::{now_ms, unique};
use crate::support::{App, Builder, Gate, Headers, Request};
use hookgate::clock::to_rfc3339;

const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:bounces";
pub const CERTIFICATE: &str =
    "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem";
const GOOGLE: &str = "https://www.googleapis.com/oauth2/v3/certs";

pub fn request(body: &str, headers: &[(&str, &str)]) -> Request {
    let mut request =
        Request { target: "/hook".to_owned(), headers: Headers(Vec::new()), body: body.as_bytes().to_vec() };
    for (name, value) in headers {
        request = request.with(name, value);
    }
    request
}

/// A notification of SNS, signed.
pub fn notification(signer: &Signer, topic: &str, url: &str) -> Value {
    let mut message = json!({
        "Type": "Notification", "MessageId": unique("id"), "TopicArn": topic, "Subject": "a subject",
        "Message": "{\"notificationType\":\"Bounce\"}", "Timestamp": to_rfc3339(now_ms()), "SignatureVersion": "2",
        "SigningCertURL": url, "UnsubscribeURL": "https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe",
    });
    resign(signer, &mut message);
    message
}

pub fn resign(signer: &Signer, message: &mut Value) {
    let mut content = String::new();
    for key in ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"] {
        if let Some(value) = message[key].as_str() {
            content.extend([key, "\n", value, "\n"]);
        }
    }
    message["Signature"] = BASE64.encode(&signer.sign(content.as_bytes())).into();
}

pub fn sns(host: &KeyHost) -> Signer {
    let (signer, pem) = Signer::certified(&host.authority, "sns", "sns.amazonaws.com");
    host.publish(CERTIFICATE, Reply::Document(pem));
    signer
}

pub fn sns_route() -> String {
    format!("routes:\n  - {{ name: r, path: /hook, provider: aws-sns, topic_arns: ['{TOPIC}'] }}\n")
}

/// The reason for each request.
pub fn reason(gate: &Gate, request: &Request) -> String {
    gate.reason(&gate.send(request))
}

#[test]
fn sns_notifications_reach_the_application_and_what_is_nearly_one_does_not() {
    let Some(host) = KeyHost::new() else { return };
    let signer = sns(&host);
    let app = App::ok();
    let gate = host.before(&app.url(), &sns_route()).start();
    let good = notification(&signer, TOPIC, CERTIFICATE);
    let send =
        |message: &Value| reason(&gate, &request(&message.to_string(), &[("Content-Type", "text/plain")]));

    assert_eq!(send(&good), "accepted");
    let seen = app.requests().pop().unwrap();
    assert_eq!(seen.header("Hookgate-Event-Type"), Some("Bounce"), "the type is that of the message within");
    assert_eq!(seen.header("Hookgate-Event-Id"), good["MessageId"].as_str());
    assert_eq!(seen.header("Hookgate-Assurance"), Some("partial"));
    assert_eq!(send(&good), "duplicate");

    // The same event, with another unsigned part.
    let mut again = good.clone();
    again["UnsubscribeURL"] = "https://evil.example/".into();
    assert_eq!(send(&again), "duplicate");

    let change = |key: &str, value: &str| {
        let mut message = notification(&signer, TOPIC, CERTIFICATE);
        message[key] = value.into();
        message
    };
    let resigned = |key: &str, value: &str| {
        let mut message = change(key, value);
        resign(&signer, &mut message);
        message
    };
    for (what, message) in [
        ("another message", change("Message", "x")),
        ("another version", change("SignatureVersion", "3")),
        ("the older version", change("SignatureVersion", "1")),
        ("another topic, signed", resigned("TopicArn", "arn:aws:sns:us-east-1:666666666666:bounces")),
        ("another type, signed", resigned("Type", "Else")),
        ("a line break in the id, signed", resigned("MessageId", "a\nb")),
        ("a subject that was not signed", change("SubscribeURL", "https://evil.example/")),
    ] {
        let said = send(&message);
        assert!(said.starts_with("signature_"), "{what}: {said}");
    }
    assert_eq!(send(&resigned("Timestamp", &to_rfc3339(now_ms() - 2 * 3_600_000))), "timestamp_stale");
    assert_eq!(host.asked_in_all(), 1, "the certificate was fetched once");
    assert_eq!(app.requests().len(), 1);
}

pub fn claims() -> Value {
    let now = now_ms() / 1000;
    json!({ "iss": "https://accounts.google.com", "aud": "https://gate.example/hook", "email": "push@p.iam.gserviceaccount.com",
            "email_verified": true, "iat": now, "exp": now + 3600, "sub": "1" })
}

pub fn pubsub_route() -> &'static str {
    "routes:\n  - { name: r, path: /hook, provider: google-pubsub, audience: 'https://gate.example/hook',\n      service_account: push@p.iam.gserviceaccount.com }\n"
}

pub fn pushed(token: &str) -> Request {
    let body =
        json!({ "message": { "messageId": unique("m"), "data": "e30=" }, "subscription": "s" }).to_string();
    request(&body, &[("Authorization", &format!("Bearer {token}"))])
}

#[test]
fn a_token_of_google_is_believed_for_its_audience_and_account_alone() {
    let Some(host) = KeyHost::new() else { return };
    let (signer, _) = Signer::certified(&host.authority, "google", "x");
    let (other, _) = Signer::certified(&host.authority, "other", "x");
    host.publish(GOOGLE, Reply::Kept(set(&[signer.jwk("g1")]), 7200));
    let app = App::ok();
    let gate = host.before(&app.url(), pubsub_route()).start();
    let good = pushed(&signer.token("g1", &claims()));
    assert_eq!(reason(&gate, &good), "accepted");
    let seen = app.requests().pop().unwrap();
    assert_eq!(seen.header("Hookgate-Assurance"), Some("authenticated"));
    assert_eq!(reason(&gate, &good), "duplicate", "the message's id decides");
    let renewed = Request { headers: pushed(&signer.token("g1", &json!({ "jti": "2", "iss": claims()["iss"], "aud": claims()["aud"], "email": claims()["email"], "email_verified": true, "iat": claims()["iat"], "exp": claims()["exp"] }))).headers, ..good.clone() };
    assert_eq!(reason(&gate, &renewed), "duplicate", "another token makes no other message of it");

    let with = |key: &str, value: Value| {
        let mut claims = claims();
        claims[key] = value;
        pushed(&signer.token("g1", &claims))
    };
    assert_eq!(
        reason(&gate, &with("aud", json!(["x", "https://gate.example/hook"]))),
        "accepted",
        "one of a list"
    );
    for (what, request) in [
        ("another audience", with("aud", json!("https://other.example/hook"))),
        ("a list without it", with("aud", json!(["x"]))),
        ("no audience", with("aud", Value::Null)),
        ("another account", with("email", json!("push@evil.iam.gserviceaccount.com"))),
        ("an address that was not verified", with("email_verified", json!(false))),
        ("another issuer", with("iss", json!("https://evil.example"))),
        ("another key", pushed(&other.token("g1", &claims()))),
        ("no token", request("{}", &[])),
        ("no name of ours", request("{}", &[("Authorization", "Basic YTpi")])),
    ] {
        let said = reason(&gate, &request);
        assert!(said.starts_with("signature_"), "{what}: {said}");
    }
    let now = now_ms() / 1000;
    let matches = "hookgate_key_matches_total{key_id=\"g1\",route=\"r\"}";
    assert!(same(gate.metrics().value(matches), 4.0), "{}", gate.metrics().value(matches));
    assert_eq!(reason(&gate, &with("exp", json!(now - 120))), "timestamp_stale");
    assert_eq!(reason(&gate, &with("iat", json!(now + 600))), "timestamp_future");
    assert_eq!(host.asked(GOOGLE), 1);
}

#[test]
fn event_grid_is_told_what_it_asks_by_its_token_alone_and_its_events_are_no_questions() {
    const DIRECTORY: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
    const VALIDATION: &str = "Microsoft.EventGrid.SubscriptionValidationEvent";
    let Some(host) = KeyHost::new() else { return };
    let (signer, _) = Signer::certified(&host.authority, "entra", "x");
    let (other, _) = Signer::certified(&host.authority, "other", "x");
    let keys = format!("https://login.microsoftonline.com/{DIRECTORY}/discovery/v2.0/keys");
    host.publish(&keys, Reply::Document(set(&[signer.jwk("e1")])));
    let app = App::ok();
    let routes = format!(
        "routes:\n  - {{ name: r, path: /hook, provider: azure-event-grid, audience: 'api://us', tenant_id: {DIRECTORY} }}\n"
    );
    let gate = host.before(&app.url(), &routes).start();
    let now = now_ms() / 1000;
    let claims = json!({
        "iss": format!("https://sts.windows.net/{DIRECTORY}/"), "aud": "api://us",
        "appid": "4962773b-9cdb-44cf-a8bf-237846a00ab7", "iat": now, "exp": now + 3600,
    });
    let event = |kind: &str, code: &str| {
        json!([{ "id": unique("e"), "eventType": kind, "data": { "validationCode": code } }]).to_string()
    };
    let carries = |signer: &Signer, body: &str| {
        request(body, &[("Authorization", &format!("Bearer {}", signer.token("e1", &claims)))])
    };
    let question = event(VALIDATION, "512d38b6");
    let answer = gate.send(&carries(&signer, &question));
    assert_eq!(answer.said(), (200, "{\"validationResponse\":\"512d38b6\"}".to_owned()));
    assert_eq!(reason(&gate, &carries(&other, &question)), "signature_mismatch");
    assert_eq!(reason(&gate, &request(&question, &[])), "signature_missing");
    let asked = |origin: &str| {
        let mut sender = gate.connect();
        sender.send(format!("OPTIONS /hook HTTP/1.1\r\nHost: a\r\nWebHook-Request-Origin: {origin}\r\n\r\n"));
        sender.response()
    };
    let allowed = asked("eventgrid.azure.net");
    assert_eq!(
        (allowed.status, allowed.header("WebHook-Allowed-Origin")),
        (200, Some("eventgrid.azure.net"))
    );
    assert_eq!(
        (asked("evil.example").status, asked("evil.example").header("WebHook-Allowed-Origin")),
        (405, None)
    );
    app.assert_untouched("questions are the gate's");
    assert_eq!(
        reason(&gate, &carries(&signer, &event("Microsoft.Storage.BlobCreated", "512d38b6"))),
        "accepted"
    );
    assert_eq!(app.seen(), 1);
}

/// The code, the token, the endpoint and the answer are those of the test of eBay's SDK for .NET,
/// EventNotificationControllerTest.cs.
#[test]
fn ebay_is_told_the_digest_of_what_it_asks_with_and_what_was_registered() {
    const TOKEN: &str = "71745723-d031-455c-bfa5-f90d11b4f20a";
    let code = "a8628072-3d33-45ee-9004-bee86830a22d";
    let gate = |app: &App, more: &str| {
        let route = "provider: ebay, environment: production, credentials: { client_id: DIR/id, client_secret: DIR/id }";
        let yaml = format!("routes:\n  - {{ name: r, path: /hook, {route}{more} }}\n");
        let builder = Builder::new(&app.url()).config(&yaml);
        builder.dir().write("id", "an-id");
        builder.dir().write("token", format!("{TOKEN}\n"));
        builder
    };
    let asked = |gate: &Gate, query: &str| {
        let mut sender = gate.connect();
        sender.send(format!("GET /hook{query} HTTP/1.1\r\nHost: a\r\n\r\n"));
        sender.response()
    };
    let app = App::ok();
    let registered = ", handshake_token_file: DIR/token, public_url: 'http://www.testendpoint.com/webhook'";
    let answers = gate(&app, registered).start();
    let answer = asked(&answers, &format!("?challenge_code={code}"));
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("application/json")));
    assert_eq!(
        answer.text(),
        "{\"challengeResponse\":\"ca527df75caa230092d7e90484071e8f05d63068f1317973d6a3a42593734bbb\"}"
    );
    for (query, status) in [
        ("?challenge_code=", 403),
        ("?challenge_code=a&challenge_code=b", 403),
        ("?challenge_code=%0a", 403),
        ("", 405),
    ] {
        assert_eq!(asked(&answers, query).status, status, "{query}");
    }
    assert!(!answers.log.text().contains(TOKEN), "the token is told to nobody");
    app.assert_untouched("the gate answers");

    let without = gate(&app, "").start();
    assert_eq!(asked(&without, &format!("?challenge_code={code}")).status, 405);
    without.log.find("the notice", |line| {
        line.to_string().contains("name its file in routes[0].handshake_token_file")
    });

    let forwards = gate(&app, ", handshake: forward").start();
    assert_eq!(asked(&forwards, &format!("?challenge_code={code}")).text(), "app");
    assert_eq!(app.requests().pop().unwrap().header("Hookgate-Reason"), Some("handshake"));

    let output = gate(&app, ", handshake_token_file: DIR/token").command("check").output().unwrap();
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.code() == Some(78) && told.contains("write public_url: https://"), "{told}");
}

#[test]
fn any_issuer_can_be_a_scheme_of_the_routes_own() {
    let Some(host) = KeyHost::new() else { return };
    let signer = Signer::p256();
    host.publish(
        "https://issuer.example/jwks.json",
        Reply::Document(set(&[signer.jwk("a"), "{\"kty\":\"odd\"}".into()])),
    );
    let app = App::ok();
    let routes = "routes:
  - name: r
    path: /hook
    scheme:
      algorithm: ecdsa-p256-sha256-fixed
      signature: { from: 'header:X-Token', format: jwt }
      also: 'claim:digest == {body|sha256hex}'
      keys: { jwks: 'https://issuer.example/jwks.json' }
      claims: { iss: 'https://issuer.example', aud: us }
      timestamp: { from: 'claim:iat', unit: s, tolerance: 5m }
      id: 'json:/id'
";
    let gate = host.before(&app.url(), routes).start();
    let body = format!("{{\"id\":\"{}\"}}", unique("e"));
    let digest =
        data_encoding::HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, body.as_bytes()).as_ref());
    let claims =
        json!({ "iss": "https://issuer.example", "aud": "us", "iat": now_ms() / 1000, "digest": digest });
    let token = signer.token("a", &claims);
    assert_eq!(reason(&gate, &request(&body, &[("X-Token", &token)])), "accepted");
    assert_eq!(app.requests()[0].header("Hookgate-Assurance"), Some("verified"));
    assert_eq!(reason(&gate, &request("{}", &[("X-Token", &token)])), "signature_mismatch");
}

/// Notifications of Microsoft Graph with resource data: a list of tokens, of which every one must hold.
#[test]
fn of_the_tokens_of_graph_every_one_must_hold() {
    const APP: &str = "5b2d3b1c-8a55-4c1f-9d0e-0b9d2f5f3c11";
    const TENANTS: [&str; 2] =
        ["72f988bf-86f1-41af-91ab-2d7cd011db47", "0b9d2f5f-8a55-4c1f-9d0e-5b2d3b1c3c11"];
    let Some(host) = KeyHost::new() else { return };
    let (signer, _) = Signer::certified(&host.authority, "entra", "x");
    let (other, _) = Signer::certified(&host.authority, "other", "x");
    let keys = "https://login.microsoftonline.com/common/discovery/keys";
    host.publish(keys, Reply::Document(set(&[signer.jwk("e1"), signer.jwk("e2")])));
    let app = App::ok();
    let routes = format!(
        "routes:\n  - {{ name: r, path: /hook, provider: microsoft-graph-rich, application_id: {APP}, tenant_id: [{}] }}\n",
        TENANTS.join(", ")
    );
    let gate = host.before(&app.url(), &routes).start();
    let now = now_ms() / 1000;
    let claims = |change: &[(&str, Value)]| {
        let mut claims = json!({
            "iss": format!("https://sts.windows.net/{}/", TENANTS[0]), "aud": APP,
            "appid": "0bf30f3b-4a52-48df-9a82-234910c4a086", "iat": now, "exp": now + 3600, "jti": unique("j"),
        });
        for (key, value) in change {
            claims[*key] = value.clone();
        }
        claims
    };
    let token = |kid: &str, change: &[(&str, Value)]| signer.token(kid, &claims(change));
    let good = || token("e1", &[]);
    let second = token(
        "e2",
        &[
            ("iss", json!(format!("https://login.microsoftonline.com/{}/v2.0", TENANTS[1]))),
            ("appid", Value::Null),
            ("azp", json!("0bf30f3b-4a52-48df-9a82-234910c4a086")),
        ],
    );
    let body = |tokens: Value| {
        json!({ "value": [{ "changeType": "created", "encryptedContent": {} }], "validationTokens": tokens })
            .to_string()
    };
    let send = |body: &str| reason(&gate, &request(body, &[("Content-Type", "application/json")]));

    assert_eq!(send(&body(json!([good()]))), "accepted");
    assert_eq!(send(&body(json!([good(), second]))), "accepted", "two of different forms and keys");
    assert_eq!(send(&body(json!([second, second, second]))), "accepted", "one that comes several times");
    let seen = app.requests().pop().unwrap();
    assert_eq!(seen.header("Hookgate-Assurance"), Some("authenticated"));
    let before = app.seen();

    let bad = |change: &[(&str, Value)]| json!([good(), token("e1", change)]);
    let twice = body(json!([good()])).replacen('{', &format!("{{\"validationTokens\":[\"{second}\"],"), 1);
    for (what, body, expected) in [
        ("no list", json!({ "value": [] }).to_string(), "signature_missing"),
        ("an empty list", body(json!([])), "signature_missing"),
        ("no list but a token", body(json!(good())), "signature_malformed"),
        ("none", body(Value::Null), "signature_malformed"),
        ("something else among them", body(json!([good(), 1])), "signature_malformed"),
        ("a text that is no token", body(json!([good(), "x"])), "signature_mismatch"),
        ("two lists", twice, "signature_malformed"),
        (
            "more than anybody has",
            body(json!((0..17).map(|_| good()).collect::<Vec<_>>())),
            "signature_malformed",
        ),
        ("one of another key", body(json!([good(), other.token("e1", &claims(&[]))])), "signature_mismatch"),
        (
            "one of another key, first",
            body(json!([other.token("e1", &claims(&[])), good()])),
            "signature_mismatch",
        ),
        ("one for another app", body(bad(&[("aud", json!("x"))])), "signature_mismatch"),
        (
            "one of another directory",
            body(bad(&[("iss", json!("https://sts.windows.net/x/"))])),
            "signature_mismatch",
        ),
        ("one of another caller", body(bad(&[("appid", json!(APP))])), "signature_mismatch"),
        ("one of two callers", body(bad(&[("azp", json!(APP))])), "signature_mismatch"),
        ("one that has ended", body(bad(&[("exp", json!(now - 600))])), "timestamp_stale"),
        ("one that does not end", body(bad(&[("exp", Value::Null)])), "timestamp_missing"),
        (
            "one of tomorrow",
            body(bad(&[("iat", json!(now + 86_400)), ("exp", json!(now + 90_000))])),
            "timestamp_future",
        ),
        ("a token in the header alone", "{}".to_owned(), "signature_missing"),
    ] {
        assert_eq!(send(&body), expected, "{what}");
    }
    assert_eq!(app.seen(), before);
    assert_eq!(host.asked(keys), 1);
    let unknown = body(json!([good(), other.token("e3", &claims(&[]))]));
    assert_eq!(send(&unknown), "signature_mismatch", "its key was looked for, and is not there");
    assert_eq!(host.asked(keys), 2);
}

/// Those without resource data show a text that was agreed upon, each of them.
#[test]
fn each_notification_of_graph_shows_what_was_agreed_upon() {
    let app = App::ok();
    let plain = Builder::new(&app.url())
        .config("routes:\n  - { name: r, path: /hook, provider: microsoft-graph, secrets: [{ file: DIR/key-1 }] }\n")
        .start();
    let state = crate::support::sender::SECRET;
    let shows = |states: &[Value]| {
        let all: Vec<_> =
            states.iter().map(|state| json!({ "changeType": "updated", "clientState": state })).collect();
        reason(
            &plain,
            &request(&json!({ "value": all }).to_string(), &[("Content-Type", "application/json")]),
        )
    };
    assert_eq!(shows(&[json!(state), json!(state)]), "accepted");
    for (states, expected) in [
        (&[json!(state), json!("another")][..], "signature_mismatch"),
        (&[json!("another"), json!(state)], "signature_mismatch"),
        (&[json!(state), Value::Null], "signature_malformed"),
        (&[], "signature_missing"),
    ] {
        assert_eq!(shows(states), expected, "{states:?}");
    }
}

#[test]
fn tpay_signs_with_a_certificate_at_one_address_of_its_environment() {
    const ADDRESS: &str = "https://secure.tpay.com/x509/notifications-jws.pem";
    let Some(host) = KeyHost::new() else { return };
    let (signer, pem) = Signer::certified(&host.authority, "tpay", "notification-jws");
    let (other, _) = Signer::certified(&host.authority, "other", "notification-jws");
    host.publish(ADDRESS, Reply::Document(pem));
    let app = App::ok();
    let gate = host
        .before(
            &app.url(),
            "routes:\n  - { name: r, path: /hook, provider: tpay, environment: production }\n",
        )
        .start();
    let b64 = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
    let body = format!("id=1010&tr_id=TR-{}&tr_status=TRUE", unique("t"));
    let token = |signer: &Signer, header: Value, body: &str| {
        let header = b64(header.to_string().as_bytes());
        let signature = signer.sign(format!("{header}.{}", b64(body.as_bytes())).as_bytes());
        format!("{header}..{}", b64(&signature))
    };
    let sent = |shown: &str, body: &str| {
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        gate.send(&request(body, &[form, ("X-JWS-Signature", shown)]))
    };
    let good = token(&signer, json!({ "alg": "RS256", "x5u": ADDRESS }), &body);
    assert_eq!(sent(&good, &body).text(), "app");
    assert_eq!(app.requests()[0].header("Hookgate-Assurance"), Some("verified"));
    assert_eq!(sent(&good, &body).said(), (200, "TRUE".to_owned()), "as Tpay wants to read it");
    for (what, shown, body) in [
        ("another body", good.clone(), "id=1010&tr_id=TR-1&tr_status=TRUE&x=1"),
        ("another key", token(&other, json!({ "alg": "RS256", "x5u": ADDRESS }), &body), &body),
        (
            "the other environment",
            token(
                &signer,
                json!({ "alg": "RS256", "x5u": ADDRESS.replace("secure.", "secure.sandbox.") }),
                &body,
            ),
            &body,
        ),
        (
            "a host that begins alike",
            token(
                &signer,
                json!({ "alg": "RS256", "x5u": ADDRESS.replace(".com", ".com.evil.example") }),
                &body,
            ),
            &body,
        ),
        ("no address", token(&signer, json!({ "alg": "RS256" }), &body), &body),
        ("another algorithm", token(&signer, json!({ "alg": "none", "x5u": ADDRESS }), &body), &body),
    ] {
        let answer = sent(&shown, body);
        assert!(answer.status == 401, "{what}: {}", answer.status);
    }
    assert_eq!(host.asked_in_all(), 1);
    assert_eq!(app.seen(), 1);
}

/// The key of the merchant's platform; openssl signs, over what the provider's SDK for Go verifies.
#[test]
fn wechat_pay_signs_time_nonce_and_body_with_the_key_that_the_platform_shows() {
    let Some(authority) = crate::tls::Authority::new() else { return };
    let at = |name: &str| authority.root().with_file_name(name);
    for id in ["PUB_KEY_ID_01", "PUB_KEY_ID_02", "other"] {
        authority.openssl(&format!("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out {id}.key"));
        authority.openssl(&format!("pkey -in {id}.key -pubout -out {id}.pem"));
    }
    let signed = |id: &str, text: &str| {
        std::fs::write(at("text"), text).unwrap();
        authority.openssl(&format!("dgst -sha256 -sign {id}.key -out signature text"));
        BASE64.encode(&std::fs::read(at("signature")).unwrap())
    };
    let app = App::ok();
    let files = ["PUB_KEY_ID_02", "PUB_KEY_ID_01"]
        .map(|id| format!("{{ file: {} }}", at(&format!("{id}.pem")).display()));
    let route = format!(
        "routes:\n  - {{ name: r, path: /hook, provider: wechat-pay, secrets: [{}] }}\n",
        files.join(", ")
    );
    let gate = Builder::new(&app.url()).config(&route).start();
    let send = |id: &str, body: &str, time: i64, change: &dyn Fn(Request) -> Request| {
        let (time, nonce) = (time.to_string(), unique("n"));
        let signature = signed(id, &format!("{time}\n{nonce}\n{body}\n"));
        let headers = [
            ("Wechatpay-Timestamp", &*time),
            ("Wechatpay-Nonce", &*nonce),
            ("Wechatpay-Signature", &*signature),
            ("Wechatpay-Serial", id),
        ];
        reason(&gate, &change(request(body, &headers)))
    };
    let (now, same) = (now_ms() / 1000, |request: Request| request);
    let body =
        || format!("{{\"id\":\"{}\",\"event_type\":\"TRANSACTION.SUCCESS\",\"resource\":{{}}}}", unique("w"));
    for id in ["PUB_KEY_ID_01", "PUB_KEY_ID_02"] {
        assert_eq!(send(id, &body(), now, &same), "accepted", "{id}");
        let seen = app.requests().pop().unwrap();
        assert_eq!(seen.header("Hookgate-Event-Type"), Some("TRANSACTION.SUCCESS"));
        assert_eq!(seen.header("Hookgate-Key-Id"), Some(&*format!("{id}.pem")));
        assert_eq!(seen.header("Hookgate-Assurance"), Some("verified"));
    }
    let twice = body();
    assert_eq!(send("PUB_KEY_ID_02", &twice, now, &same), "accepted");
    assert_eq!(
        send("PUB_KEY_ID_01", &twice, now, &same),
        "duplicate",
        "the id decides, whatever time and nonce"
    );
    assert_eq!(send("other", &body(), now, &same), "signature_mismatch");
    assert_eq!(send("PUB_KEY_ID_01", &body(), now - 600, &same), "timestamp_stale");
    assert_eq!(send("PUB_KEY_ID_01", &body(), now + 600, &same), "timestamp_future");
    for header in ["Wechatpay-Timestamp", "Wechatpay-Nonce", "Wechatpay-Signature"] {
        let without = |request: Request| request.without(header);
        assert_eq!(send("PUB_KEY_ID_01", &body(), now, &without), "signature_missing", "{header}");
    }
    for (header, value) in [("Wechatpay-Nonce", "another"), ("Wechatpay-Timestamp", &*(now + 1).to_string())]
    {
        let other = |request: Request| request.without(header).with(header, value);
        assert_eq!(send("PUB_KEY_ID_01", &body(), now, &other), "signature_mismatch", "{header}");
    }
    let more = |request: Request| Request { body: [&request.body[..], b"\n"].concat(), ..request };
    assert_eq!(send("PUB_KEY_ID_01", &body(), now, &more), "signature_mismatch");
}
