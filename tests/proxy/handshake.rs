//! Handshakes: what providers ask before they send events is answered by the gate, in their
//! words; the application sees nothing of it, and nobody gains anything by asking.

use std::fmt::Write as _;

use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use hookgate::config::handshake::Ask;
use hookgate::config::provider::{PRESETS, preset};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::gate::same;
use crate::support::sender::{PATH, SECRET, other_secret};
use crate::support::{self, App, Builder, Gate, Request, Response, Signer};

const TOKEN: &str = "a token that only Meta and we know";

fn gate(app: &App, provider: &str) -> Gate {
    before(app, provider).start()
}

fn before(app: &App, provider: &str) -> Builder {
    Gate::before(app).with("provider", provider)
}

/// A request without a body.
fn ask(gate: &Gate, method: &str, query: &str, headers: &[(&str, &str)]) -> Response {
    let mut head = format!("{method} {PATH}{query} HTTP/1.1\r\nHost: hooks.example\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    let mut sender = gate.connect();
    sender.send(head + "\r\n");
    sender.response()
}

fn get(gate: &Gate, query: &str) -> Response {
    ask(gate, "GET", query, &[])
}

fn hmac(text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn as_json(answer: &Response) -> Value {
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    serde_json::from_slice(&answer.body).unwrap()
}

fn assert_is_handshake(gate: &Gate, answer: &Response) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
    let line = gate.decision(answer);
    assert_eq!(
        (&line["hookgate.verdict"], &line["hookgate.reason"]),
        (&json!("answered"), &json!("handshake"))
    );
    assert_eq!(line["severity_text"], "INFO");
}

#[test]
fn slack_is_answered_once_its_signature_holds() {
    let app = App::ok();
    let gate = gate(&app, "slack");
    let signer = Signer::new("slack", 0, SECRET);
    let question = json!({ "token": "x", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P", "type": "url_verification" });
    let asked = signer.sign(question.to_string());
    for again in [false, true] {
        let answer = gate.send(&asked);
        assert_is_handshake(&gate, &answer);
        assert_eq!(answer.header("Content-Type"), Some("text/plain"));
        assert_eq!(answer.text(), question["challenge"].as_str().unwrap(), "asked again: {again}");
    }
    let line = gate.decision(&gate.send(&asked));
    assert_eq!(line["hookgate.key_id"], "key-1", "the key that signed it");

    let forged = gate.send(&Signer::new("slack", 0, &other_secret()).sign(question.to_string()));
    assert_eq!((forged.status, gate.reason(&forged)), (401, "signature_mismatch".to_owned()));
    let unsigned = Request { headers: support::Headers::default(), ..asked };
    assert_eq!(gate.reason(&gate.send(&unsigned)), "signature_missing");
    let old = signer.sign_at(support::sender::now_ms() - 3_600_000, "x", question.to_string().as_bytes());
    assert_eq!(gate.reason(&gate.send(&old)), "timestamp_stale");
    for bad in [
        json!({ "type": "url_verification" }),
        json!({ "type": "url_verification", "challenge": "<script>" }),
    ] {
        let answer = gate.send(&signer.sign(bad.to_string()));
        assert_eq!((answer.status, gate.reason(&answer)), (403, "handshake_refused".to_owned()));
    }
    app.assert_untouched("a handshake is the gate's");
    let event = json!({ "type": "event_callback", "event_id": "Ev1", "challenge": "abc" });
    assert_eq!(gate.send(&signer.sign(event.to_string())).text(), "app", "an event is the application's");
}

#[test]
fn zoom_is_answered_with_the_key_that_signed() {
    let app = App::ok();
    let builder = before(&app, "zoom");
    let newer = builder.dir().write("key-0", other_secret());
    let old = builder.dir().join("key-1");
    let gate = builder.with("secret-file", newer.display()).and("secret-file", old.display()).start();
    let question = json!({
        "payload": { "plainToken": "qgg8vlvZRS6UYooatFL8Aw" }, "event_ts": 1_654_503_849_680_i64,
        "event": "endpoint.url_validation",
    });
    let answer = gate.send(&Signer::new("zoom", 0, SECRET).sign(question.to_string()));
    assert_is_handshake(&gate, &answer);
    let token = "qgg8vlvZRS6UYooatFL8Aw";
    assert_eq!(
        as_json(&answer),
        json!({ "plainToken": token, "encryptedToken": HEXLOWER.encode(&hmac(token)) })
    );
    app.assert_untouched("a handshake is the gate's");
}

#[test]
fn twitch_is_answered_by_what_it_signed_and_not_by_a_header() {
    let app = App::ok();
    let gate = gate(&app, "twitch");
    let signer = Signer::new("twitch", 0, SECRET);
    let pending = json!({
        "challenge": "pogchamp-kappa-360noscope-vohiyo",
        "subscription": { "status": "webhook_callback_verification_pending", "type": "channel.follow" },
    });
    let answer = gate.send(&signer.sign(pending.to_string()));
    assert_is_handshake(&gate, &answer);
    assert_eq!(answer.text(), "pogchamp-kappa-360noscope-vohiyo");
    app.assert_untouched("a handshake is the gate's");
    let event =
        json!({ "challenge": "x", "subscription": { "status": "enabled", "type": "channel.follow" } });
    let disguised =
        signer.sign(event.to_string()).with("Twitch-Eventsub-Message-Type", "webhook_callback_verification");
    assert_eq!(gate.send(&disguised).text(), "app", "a header that nobody signed keeps no event back");
}

#[test]
fn meta_is_answered_if_it_knows_the_token() {
    let app = App::ok();
    let gate = before(&app, "meta").with_file("handshake-token-file", "token", &format!("{TOKEN}\n")).start();
    let token = TOKEN.replace(' ', "%20");
    let right = get(&gate, &format!("?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={token}"));
    assert_is_handshake(&gate, &right);
    assert_eq!(right.text(), "1158201444");
    for wrong in [
        "?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=guess".to_owned(),
        "?hub.mode=subscribe&hub.challenge=1158201444".to_owned(),
        format!("?hub.mode=subscribe&hub.challenge=%3Cb%3E&hub.verify_token={token}"),
        format!("?hub.mode=subscribe&hub.challenge=1&hub.challenge=2&hub.verify_token={token}"),
    ] {
        let answer = get(&gate, &wrong);
        assert_eq!(answer.said(), (403, "Forbidden".to_owned()), "{wrong}");
        assert_eq!(gate.reason(&answer), "handshake_refused", "{wrong}");
    }
    for other in ["", "?hub.mode=unsubscribe&hub.challenge=1", "?hub.challenge=1"] {
        let answer = get(&gate, other);
        assert_eq!((answer.status, answer.header("Allow")), (405, Some("POST")), "{other}");
    }
    app.assert_untouched("a handshake is the gate's");
    assert!(!gate.log.text().contains(TOKEN), "the token is told to nobody");
    assert!(!gate.log.text().contains("1158201444"), "nor is the query");
}

#[test]
fn without_a_token_meta_is_refused_and_the_operator_told() {
    let app = App::ok();
    let gate = gate(&app, "meta");
    let answer = get(&gate, "?hub.mode=subscribe&hub.challenge=1&hub.verify_token=");
    assert_eq!(gate.reason(&answer), "method_not_allowed");
    gate.log.find("the notice", |line| {
        line["event.name"] == "hookgate.notice"
            && line["body"].as_str().is_some_and(|body| body.contains("handshake_token_file"))
    });
}

#[test]
fn who_guesses_tokens_is_slowed_down() {
    let app = App::ok();
    let gate = before(&app, "meta")
        .with_file("handshake-token-file", "token", TOKEN)
        .with("failure-limit", "3/1h")
        .start();
    let guess = "?hub.mode=subscribe&hub.challenge=1&hub.verify_token=guess";
    let reasons: Vec<_> = (0..40).map(|_| gate.reason(&get(&gate, guess))).collect();
    assert_eq!(reasons[..3], ["handshake_refused"; 3]);
    assert!(reasons.iter().any(|reason| reason == "rate_limited"), "{reasons:?}");
}

#[test]
fn x_and_linkedin_are_answered_under_the_secret() {
    for (provider, query, expected) in [
        (
            "x-twitter",
            "?crc_token=9b4507b3-9040-4669-9ca3-6b94edb50553&nonce=abc",
            json!({ "response_token": format!("sha256={}", BASE64.encode(&hmac("9b4507b3-9040-4669-9ca3-6b94edb50553"))) }),
        ),
        (
            "linkedin",
            "?challengeCode=890e4665-4dfe-4ab1-b689-ed553bceeed0",
            json!({
                "challengeCode": "890e4665-4dfe-4ab1-b689-ed553bceeed0",
                "challengeResponse": HEXLOWER.encode(&hmac("890e4665-4dfe-4ab1-b689-ed553bceeed0")),
            }),
        ),
    ] {
        let app = App::ok();
        let gate = gate(&app, provider);
        let answer = get(&gate, query);
        assert_is_handshake(&gate, &answer);
        assert_eq!(as_json(&answer), expected, "{provider}");
        let accepted = gate.metrics().value("hookgate_last_accepted_timestamp_seconds{route=\"default\"}");
        assert!(same(accepted, 0.0), "{provider}: a handshake is no event");
        app.assert_untouched("a handshake is the gate's");
    }
}

/// The answer to X's check is a signature over a text that the asker chose. It must open nothing.
#[test]
fn what_the_gate_signs_for_strangers_is_taken_as_no_event() {
    let app = App::ok();
    let gate = gate(&app, "x-twitter");
    for token in ["abc", "1", "true", "null", "12345", "eyJpZCI6ImEifQ==", "a=b", &"a".repeat(512)] {
        let answer = get(&gate, &format!("?crc_token={}", token.replace('=', "%3D")));
        let tag = as_json(&answer)["response_token"].as_str().unwrap().to_owned();
        let stolen = Signer::new("x-twitter", 0, &other_secret()).sign(token);
        let stolen =
            stolen.without("x-twitter-webhooks-signature").with("x-twitter-webhooks-signature", &tag);
        let answer = gate.send(&stolen);
        assert_eq!((answer.status, gate.reason(&answer)), (401, "signature_mismatch".to_owned()), "{token}");
    }
    for body in ["{}", "[]", "{\"id\":1}", "\"a\"", "a b", "a&b", "<x>", " ", ""] {
        let mut query = "?crc_token=".to_owned();
        for byte in body.bytes() {
            write!(query, "%{byte:02x}").unwrap();
        }
        let answer = get(&gate, &query);
        assert_eq!(gate.reason(&answer), "handshake_refused", "{body} is signed for nobody");
    }
    app.assert_untouched("no signature of the gate's own opens it");
    let event = Signer::new("x-twitter", 0, SECRET).event();
    assert_eq!(gate.send(&event).text(), "app", "what X signs is delivered");

    // Nobody answers here, but another endpoint with the same key may.
    let off = before(&app, "x-twitter").with("handshake", "off").start();
    assert_eq!(off.reason(&get(&off, "?crc_token=abc")), "method_not_allowed");
    assert_eq!(off.reason(&off.send(&Signer::new("x-twitter", 0, SECRET).sign("abc"))), "signature_mismatch");
}

#[test]
fn a_challenge_is_sent_back_as_text() {
    for (provider, query, headers) in [
        ("dropbox", "?challenge=abc-123", &[][..]),
        ("nylas", "?challenge=abc-123", &[]),
        ("worldline", "", &[("X-GCS-Webhooks-Endpoint-Verification", "abc-123")]),
    ] {
        let app = App::ok();
        let gate = gate(&app, provider);
        let answer = ask(&gate, "GET", query, headers);
        assert_is_handshake(&gate, &answer);
        assert_eq!(
            (answer.header("Content-Type"), answer.text()),
            (Some("text/plain"), "abc-123".to_owned())
        );
        app.assert_untouched("a handshake is the gate's");
    }
    let app = App::ok();
    let gate = gate(&app, "dropbox");
    for bad in [
        "?challenge=%3Cscript%3Ealert(1)%3C/script%3E",
        "?challenge=a%0D%0ASet-Cookie:x",
        "?challenge=",
        "?challenge=a&challenge=b",
    ] {
        let answer = get(&gate, bad);
        assert_eq!(answer.said(), (403, "Forbidden".to_owned()), "{bad}");
    }
    assert_eq!(get(&gate, "?other=1").status, 405);
}

#[test]
fn asana_gets_its_header_back_and_a_delivery_stays_one() {
    let app = App::ok();
    let gate = gate(&app, "asana");
    let secret = "b537207f20cbfa02357cf448134da559e8bd39d61597dcd5631b8012eae53e81";
    let mut sender = gate.connect();
    for body in ["", "{}"] {
        // On one connection: what the gate did not read must not be taken for a request.
        sender.send(format!(
            "POST {PATH} HTTP/1.1\r\nHost: h\r\nX-Hook-Secret: {secret}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let answer = sender.response();
        assert_is_handshake(&gate, &answer);
        assert_eq!((answer.header("X-Hook-Secret"), answer.text()), (Some(secret), String::new()));
    }
    app.assert_untouched("a handshake is the gate's");
    assert!(!gate.log.text().contains(secret), "a secret is told to nobody");
    let event = Signer::new("asana", 0, SECRET).event().with("X-Hook-Secret", "abc");
    assert_eq!(gate.send(&event).text(), "app", "what carries a signature is judged by it");
    let forged = Signer::new("asana", 0, &other_secret()).event().with("X-Hook-Secret", "abc");
    assert_eq!(gate.send(&forged).status, 401);
}

#[test]
fn a_head_is_told_that_the_endpoint_is_there() {
    for provider in ["intercom", "mandrill", "trello"] {
        let app = App::ok();
        let gate = before(&app, provider).with("public-url", "https://hooks.example").start();
        let mut sender = gate.connect();
        for _ in 0..2 {
            sender.send(format!("HEAD {PATH} HTTP/1.1\r\nHost: h\r\n\r\n"));
            assert_is_handshake(&gate, &sender.response());
        }
        assert_eq!(get(&gate, "").status, 405);
        app.assert_untouched("a handshake is the gate's");
    }
}

#[test]
fn okta_and_microsoft_are_answered_before_they_show_a_credential() {
    let app = App::ok();
    let okta = gate(&app, "okta");
    let answer = ask(&okta, "GET", "", &[("X-Okta-Verification-Challenge", "abc-123")]);
    assert_is_handshake(&okta, &answer);
    assert_eq!(as_json(&answer), json!({ "verification": "abc-123" }));

    let microsoft = gate(&app, "microsoft-graph");
    let query = "?validationToken=Validation%3A+Testing+client+application+Request-Id%3A+522a8e7e";
    let answer = ask(&microsoft, "POST", query, &[("Content-Length", "0")]);
    assert_is_handshake(&microsoft, &answer);
    assert_eq!(answer.text(), "Validation: Testing client application Request-Id: 522a8e7e");
    app.assert_untouched("a handshake is the gate's");
}

#[test]
fn discord_is_answered_if_it_signed_and_refused_with_401_if_not() {
    let app = App::ok();
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let key = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
    let gate = before(&app, "discord")
        .with_file("secret-file", "discord", &HEXLOWER.encode(key.public_key().as_ref()))
        .start();
    let signed = |body: &str| {
        let signature = HEXLOWER.encode(key.sign(format!("1700000000{body}").as_bytes()).as_ref());
        let headers = [("X-Signature-Timestamp", "1700000000"), ("X-Signature-Ed25519", &signature)];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Request { target: PATH.to_owned(), headers: support::Headers(headers), body: body.into() }
    };
    let ping = signed(r#"{"id":"1","type":1}"#);
    let answer = gate.send(&ping);
    assert_is_handshake(&gate, &answer);
    assert_eq!(as_json(&answer), json!({ "type": 1 }));
    assert_eq!(gate.send(&ping.tampered()).status, 401, "Discord looks whether it is refused");
    app.assert_untouched("a handshake is the gate's");
    let ping = signed(r#"{"version":1,"application_id":"1234","type":0}"#);
    let answer = gate.send(&ping);
    assert_eq!((answer.status, answer.text()), (204, String::new()), "the PING of webhook events");
    assert_eq!(answer.header("Content-Length"), None);
    assert_eq!(gate.reason(&answer), "handshake");
    assert_eq!(gate.send(&ping.tampered()).status, 401);
    app.assert_untouched("a handshake is the gate's");
    let event =
        signed(r#"{"version":1,"application_id":"1234","type":1,"event":{"type":"APPLICATION_AUTHORIZED"}}"#);
    assert_eq!(gate.send(&event).text(), "app", "a webhook event says type 1 as well");
    let command = signed(r#"{"id":"2","type":2}"#);
    assert_eq!(gate.send(&command).text(), "app");
    assert_eq!(gate.send(&command).said(), (204, String::new()), "a known one");
}

/// A POST that nobody has signed.
fn unsigned(media: &str, body: &str) -> Request {
    let request =
        Request { target: PATH.to_owned(), headers: support::Headers::default(), body: body.into() };
    request.with("Content-Type", media)
}

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json; charset=utf-8";

/// Provider, kind and body of a question that comes unsigned in a body, and the answer.
const POSTED: [(&str, &str, &str, &str); 4] = [
    ("woocommerce", FORM, "webhook_id=17", ""),
    ("slack", FORM, "ssl_check=1&token=xxx", ""),
    (
        "lark",
        JSON,
        r#"{"challenge":"ajls384kdjx98XX","token":"xxxxxx","type":"url_verification"}"#,
        r#"{"challenge":"ajls384kdjx98XX"}"#,
    ),
    (
        "monday",
        JSON,
        r#"{"challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}"#,
        r#"{"challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}"#,
    ),
];

fn before_posted(app: &App, provider: &str) -> Builder {
    before(app, provider).with("public-url", "https://hooks.example")
}

#[test]
fn a_question_in_an_unsigned_body_is_answered() {
    for (provider, media, body, expected) in POSTED {
        let app = App::ok();
        let gate = before_posted(&app, provider).start();
        for again in [false, true] {
            let answer = gate.send(&unsigned(media, body));
            assert_is_handshake(&gate, &answer);
            assert_eq!(answer.text(), expected, "{provider}, asked again: {again}");
        }
        app.assert_untouched("a handshake is the gate's");
        assert_eq!(gate.metrics().requests("handshake").to_string(), "2", "{provider}");
    }
}

#[test]
fn an_unsigned_body_that_is_no_question_is_as_unsigned_as_before() {
    let long = format!("webhook_id=1&x={}", "a".repeat(4096));
    for (provider, media, body) in [
        ("woocommerce", FORM, "webhook=1"),
        ("woocommerce", FORM, "webhook_id=1&webhook_id=2"),
        ("woocommerce", FORM, "webhook_id=%zz"),
        ("woocommerce", FORM, ""),
        ("woocommerce", FORM, &long),
        ("woocommerce", JSON, "webhook_id=1"),
        ("woocommerce", "text/plain", "webhook_id=1"),
        ("woocommerce", JSON, r#"{"webhook_id":1}"#),
        ("slack", FORM, "ssl_check=0"),
        ("slack", FORM, "ssl_check=1&ssl_check=1"),
        ("slack", FORM, "command=%2Fweather&text=ssl_check"),
        ("slack", JSON, r#"{"type":"url_verification","challenge":"abc"}"#),
        ("lark", JSON, r#"{"challenge":"abc","type":"event_callback"}"#),
        ("lark", JSON, r#"{"encrypt":"P37w+VIimMgPEO1RBhJ6Rg=="}"#),
        ("lark", JSON, r#"{"type":"url_verification","type":"x","challenge":"abc"}"#),
        ("monday", JSON, r#"{"event":{"challenge":"abc"}}"#),
        ("monday", JSON, r#"[{"challenge":"abc"}]"#),
        ("monday", JSON, r#"{"challenge":"abc""#),
        ("github", FORM, "webhook_id=1"),
        ("notion", JSON, r#"{"verification_token":"secret_abc"}"#),
    ] {
        let app = App::ok();
        let gate = before_posted(&app, provider).with("rate-limit", "off").start();
        let answer = gate.send(&unsigned(media, body));
        assert_eq!(
            (answer.said(), gate.reason(&answer)),
            ((401, "Unauthorized".to_owned()), "signature_missing".to_owned()),
            "{provider} {body}"
        );
        app.assert_untouched("nobody signed it");
    }
    // Whose length is not told is not read.
    let app = App::ok();
    let gate = gate(&app, "woocommerce");
    let mut sender = gate.connect();
    sender.send(format!(
        "POST {PATH} HTTP/1.1\r\nHost: h\r\nContent-Type: {FORM}\r\nTransfer-Encoding: chunked\r\n\r\nc\r\nwebhook_id=1\r\n0\r\n\r\n"
    ));
    assert_eq!(gate.reason(&sender.response()), "signature_missing");
    app.assert_untouched("nobody signed it");
}

#[test]
fn nothing_harmful_is_sent_back_from_an_unsigned_body() {
    let long = format!(r#"{{"challenge":"{}"}}"#, "a".repeat(513));
    for body in [
        r#"{"challenge":"<script>"}"#,
        r#"{"challenge":"a\r\nb"}"#,
        r#"{"challenge":""}"#,
        r#"{"challenge":"\u00fc"}"#,
        &long,
    ] {
        let app = App::ok();
        let gate = before_posted(&app, "monday").start();
        let answer = gate.send(&unsigned(JSON, body));
        assert_eq!(answer.said(), (403, "Forbidden".to_owned()), "{body}");
        assert_eq!(gate.reason(&answer), "handshake_refused", "{body}");
        app.assert_untouched("it is no event");
    }
    let app = App::ok();
    let gate = before_posted(&app, "monday").with("failure-limit", "3/1h").start();
    let bad = unsigned(JSON, r#"{"challenge":"<b>"}"#);
    let reasons: Vec<_> = (0..40).map(|_| gate.reason(&gate.send(&bad))).collect();
    assert_eq!(reasons[..3], ["handshake_refused"; 3]);
    assert!(reasons.iter().any(|reason| reason == "rate_limited"), "{reasons:?}");
}

/// Whatever a provider signs is a delivery, even if its body is the question to the letter.
#[test]
fn a_signed_event_is_never_taken_for_an_unsigned_question() {
    let asked = |provider: &str| {
        let preset = preset(provider).unwrap();
        preset.handshake.into_iter().any(|raw| !raw.signed && raw.method == Some(Ask::Post))
    };
    let events = [
        ("woocommerce", FORM, "webhook_id=17", None),
        ("slack", FORM, "ssl_check=1&token=xxx", None),
        ("lark", JSON, r#"{"challenge":"abc","type":"url_verification"}"#, None),
        ("notion", JSON, r#"{"verification_token":"secret_abc"}"#, None),
        ("bitbucket-server", JSON, r#"{"test":true}"#, Some(("X-Event-Key", "diagnostics:ping"))),
        ("asana", JSON, "{}", Some(("X-Hook-Secret", "abc"))),
    ];
    for (provider, _) in PRESETS {
        // Microsoft writes its question into the query, and its credential into the body; monday's token is
        // in the next test.
        let elsewhere = ["microsoft-graph", "microsoft-graph-rich", "monday"].contains(provider);
        let known = elsewhere || events.iter().any(|(known, ..)| known == provider);
        assert_eq!(asked(provider), known, "{provider}");
    }
    for (provider, media, body, more) in events {
        let app = App::ok();
        let gate = before_posted(&app, provider).with("handshake", "answer").start();
        let dressed = |request: Request| {
            more.iter().fold(request.with("Content-Type", media), |all, (name, value)| all.with(name, value))
        };
        let forged = gate.send(&dressed(Signer::new(provider, 0, &other_secret()).sign(body)));
        assert_eq!(
            (forged.status, gate.reason(&forged)),
            (401, "signature_mismatch".to_owned()),
            "{provider}"
        );
        app.assert_untouched("its signature does not hold");
        let answer = gate.send(&dressed(Signer::new(provider, 0, SECRET).sign(body)));
        assert_eq!(answer.text(), "app", "{provider}");
    }
}

/// What looks like a question that comes signed and is an event: all of them are the application's.
#[test]
fn a_signed_event_is_never_taken_for_a_signed_question() {
    let events: [(&str, &str); 9] = [
        ("slack", r#"{"type":"event_callback","challenge":"abc","event":{"type":"url_verification"}}"#),
        ("slack", r#"{"challenge":"abc"}"#),
        ("zoom", r#"{"event":"meeting.started","payload":{"plainToken":"abc"}}"#),
        ("zoom", r#"{"payload":{"event":"endpoint.url_validation","plainToken":"abc"}}"#),
        ("twitch", r#"{"challenge":"abc","subscription":{"status":"enabled"}}"#),
        ("twitch", r#"{"challenge":"abc","event":{"status":"webhook_callback_verification_pending"}}"#),
        ("front", r#"{"type":"inbound_received","payload":{"type":"sync"}}"#),
        ("front", r#"{"type":"sync","authorization":{"id":"cmp_abc"}}"#),
        ("front", r#"{"payload":{"type":"sync"}}"#),
    ];
    for (provider, _) in PRESETS {
        // Discord signs with a key of its own, Event Grid and SNS with published ones: their events are in their tests.
        let elsewhere = ["discord", "azure-event-grid", "aws-sns"].contains(provider);
        let known = elsewhere || events.iter().any(|(known, _)| known == provider);
        assert_eq!(preset(provider).unwrap().handshake.iter().any(|raw| raw.signed), known, "{provider}");
    }
    for (provider, body) in events {
        let app = App::ok();
        let gate = gate(&app, provider);
        let mut event = Signer::new(provider, 0, SECRET).sign(body);
        if body.contains("inbound_received") {
            event = event.with("X-Front-Challenge", "abc");
        }
        assert_eq!(gate.send(&event).text(), "app", "{provider} {body}");
    }
}

#[test]
fn a_token_that_is_none_makes_no_question_of_a_delivery() {
    let app = App::ok();
    let gate = before_posted(&app, "monday").start();
    let answer = gate.send(&unsigned(JSON, r#"{"challenge":"abc"}"#).with("Authorization", "a.b.c"));
    assert_eq!(answer.status, 401);
    app.assert_untouched("it shows a token, so that decides");
}

#[test]
fn what_only_the_application_can_answer_is_forwarded_if_the_operator_says_so() {
    for (provider, body) in [
        ("lark", r#"{"encrypt":"P37w+VIimMgPEO1RBhJ6RtKl7nbyzmIbEG1pReEzghk="}"#),
        ("lark", r#"{"challenge":"abc","token":"x","type":"url_verification"}"#),
        ("notion", r#"{"verification_token":"secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl"}"#),
    ] {
        let app = App::ok();
        let gate = before(&app, provider).with("handshake", "forward").start();
        let answer = gate.send(&unsigned(JSON, body));
        assert_eq!(answer.text(), "app", "{provider}");
        let request = app.only_request();
        assert_eq!(request.body, body.as_bytes());
        assert_eq!(request.header("Hookgate-Verdict"), Some("observed"));
        assert_eq!(request.header("Hookgate-Reason"), Some("handshake"));
        assert_eq!((request.header("Hookgate-Key-Id"), request.header("Hookgate-Event-Id")), (None, None));
        let line = gate.decision(&answer);
        assert_eq!(line["hookgate.verdict"], "observed", "{provider}");
        let event = gate.send(&unsigned(JSON, r#"{"event":{"id":"1"}}"#));
        assert_eq!(gate.reason(&event), "signature_missing", "{provider}");
        assert_eq!(app.seen(), 1);
    }
    // Who has not said so is told.
    let app = App::ok();
    let told = gate(&app, "lark");
    told.log.find("the notice", |line| {
        line["event.name"] == "hookgate.notice"
            && line["body"].as_str().is_some_and(|body| body.contains("handshake: forward"))
    });
}

#[test]
fn an_observing_route_answers_what_is_asked_and_passes_on_the_rest() {
    let app = App::ok();
    let gate = before(&app, "woocommerce").with("mode", "observe").start();
    assert_is_handshake(&gate, &gate.send(&unsigned(FORM, "webhook_id=1")));
    app.assert_untouched("a handshake is the gate's");
    let answer = gate.send(&unsigned(FORM, "other=1"));
    assert_eq!((answer.text(), gate.reason(&answer)), ("app".to_owned(), "signature_missing".to_owned()));
    assert_eq!(app.only_request().header("Hookgate-Verdict"), Some("observed"));
}

#[test]
fn bitbucket_tests_its_connection_without_a_signature() {
    let app = App::ok();
    let gate = gate(&app, "bitbucket-server");
    let ping = unsigned(JSON, r#"{"test":true}"#);
    assert_is_handshake(&gate, &gate.send(&ping.clone().with("X-Event-Key", "diagnostics:ping")));
    let push = gate.send(&ping.with("X-Event-Key", "repo:refs_changed"));
    assert_eq!(gate.reason(&push), "signature_missing");
    app.assert_untouched("a handshake is the gate's");
}

#[test]
fn front_gets_the_challenge_of_the_header_back_once_the_signature_holds() {
    let app = App::ok();
    let gate = gate(&app, "front");
    let signer = Signer::new("front", 0, SECRET);
    let sync = json!({ "type": "sync", "authorization": { "id": "cmp_abc" } }).to_string();
    let answer = gate.send(&signer.sign(&sync).with("X-Front-Challenge", "abc123"));
    assert_is_handshake(&gate, &answer);
    assert_eq!(as_json(&answer), json!({ "challenge": "abc123" }));
    let forged = Signer::new("front", 0, &other_secret()).sign(&sync).with("X-Front-Challenge", "abc123");
    assert_eq!(gate.send(&forged).status, 401);
    let harmful = gate.send(&signer.sign(&sync).with("X-Front-Challenge", "<b>"));
    assert_eq!(gate.reason(&harmful), "handshake_refused");
    app.assert_untouched("a handshake is the gate's");
    let event = json!({ "type": "inbound_received", "payload": { "id": "1" } }).to_string();
    let event = signer.sign(event).with("X-Front-Challenge", "abc123");
    assert_eq!(gate.send(&event).text(), "app", "a header that nobody signed keeps no event back");
}

#[test]
fn the_checks_of_the_sender_come_first() {
    let app = App::ok();
    let query = "?crc_token=abc";
    let outside = before(&app, "x-twitter").with("allow-ip", "192.0.2.0/24").start();
    assert_eq!(outside.reason(&get(&outside, query)), "address_denied");
    let plain = before(&app, "x-twitter").without("insecure-allow-http").start();
    assert_eq!(plain.reason(&get(&plain, query)), "https_required");
    let busy = before(&app, "x-twitter").with("rate-limit", "1/1h").start();
    assert_eq!(busy.reason(&get(&busy, query)), "handshake");
    assert_eq!(busy.reason(&get(&busy, query)), "rate_limited");
    let ping = unsigned(FORM, "webhook_id=1");
    let outside = before(&app, "woocommerce").with("allow-ip", "192.0.2.0/24").start();
    assert_eq!(outside.reason(&outside.send(&ping)), "address_denied");
    let plain = before(&app, "woocommerce").without("insecure-allow-http").start();
    assert_eq!(plain.reason(&plain.send(&ping)), "https_required");
    let busy = before(&app, "woocommerce").with("rate-limit", "1/1h").start();
    assert_eq!(busy.reason(&busy.send(&ping)), "handshake");
    assert_eq!(busy.reason(&busy.send(&ping)), "rate_limited");
    let off = before(&app, "woocommerce").with("handshake", "off").start();
    assert_eq!(off.reason(&off.send(&ping)), "signature_missing");
    app.assert_untouched("a handshake is the gate's");
}

#[test]
fn the_application_answers_if_it_is_to() {
    let app = App::ok();
    let gate = before(&app, "x-twitter").with("handshake", "forward").start();
    let answer = get(&gate, "?crc_token=abc");
    assert_eq!(answer.text(), "app");
    let request = app.only_request();
    assert_eq!(request.line, format!("GET {PATH}?crc_token=abc HTTP/1.1"));
    assert_eq!(request.header("Hookgate-Verdict"), Some("observed"), "nothing proves where it comes from");
    assert_eq!(request.header("Hookgate-Reason"), Some("handshake"));
    assert_eq!((request.header("Hookgate-Key-Id"), request.header("Hookgate-Idempotency-Key")), (None, None));
    let line = gate.decision(&answer);
    assert_eq!(
        (&line["hookgate.verdict"], &line["hookgate.reason"]),
        (&json!("observed"), &json!("handshake"))
    );
    assert_eq!(get(&gate, "?other=abc").status, 405, "other GETs stay out");

    let app = App::ok();
    let gate = before(&app, "slack").with("handshake", "forward").start();
    let question = json!({ "type": "url_verification", "challenge": "abc" });
    assert_eq!(gate.send(&Signer::new("slack", 0, SECRET).sign(question.to_string())).text(), "app");
    assert_eq!(app.only_request().header("Hookgate-Verdict"), Some("accepted"), "its signature holds");
}

#[test]
fn an_observing_route_answers_as_well() {
    let app = App::ok();
    let gate = before(&app, "slack").with("mode", "observe").start();
    let question = json!({ "type": "url_verification", "challenge": "abc" });
    let answer = gate.send(&Signer::new("slack", 0, SECRET).sign(question.to_string()));
    assert_is_handshake(&gate, &answer);
    app.assert_untouched("a handshake is the gate's");
    // What nobody has signed is no question to the gate; it is only observed.
    assert_eq!(gate.send(&Signer::new("slack", 0, &other_secret()).sign(question.to_string())).text(), "app");
}

#[test]
fn a_route_can_have_handshakes_of_its_own() {
    let app = App::ok();
    let config = "
routes:
  - name: graph
    scheme:
      algorithm: hmac-sha256
      signature: { from: 'header:X-Signature', encoding: hex }
      content: '{body}'
    handshake:
      - { method: POST, value: 'query:validationToken', answer: text }
      - { signed: true, when: { 'json:/type': 1 }, answer: { json: { type: 1 } } }
    secrets: [{ id: a, file: DIR/key-1 }]
";
    let gate = Gate::before(&app).config(config).start();
    let token =
        "Validation%3a+Testing+client+application+reachability+for+subscription+Request-Id%3a+522a8e7e";
    let answer = ask(&gate, "POST", &format!("?validationToken={token}"), &[("Content-Length", "0")]);
    assert_is_handshake(&gate, &answer);
    let decoded = "Validation: Testing client application reachability for subscription Request-Id: 522a8e7e";
    assert_eq!(answer.text(), decoded);
    let body = "{\"type\":1}";
    let tag = HEXLOWER.encode(&hmac(body));
    let ping = Request { target: PATH.to_owned(), headers: support::Headers::default(), body: body.into() };
    let answer = gate.send(&ping.clone().with("X-Signature", &tag));
    assert_is_handshake(&gate, &answer);
    assert_eq!(as_json(&answer), json!({ "type": 1 }));
    let answer = gate.send(&ping.with("X-Signature", &HEXLOWER.encode(&hmac("{}"))));
    assert_eq!(answer.status, 401, "a ping with a bad signature is refused, as Discord tries");
    app.assert_untouched("a handshake is the gate's");
}

#[test]
fn a_method_that_the_route_does_not_take_is_answered_with_those_that_it_takes() {
    let app = App::ok();
    for (provider, methods) in [("github", "POST"), ("hubspot-v2", "POST, GET")] {
        let gate = before(&app, provider).with("public-url", "https://hooks.example").start();
        let answer = ask(&gate, "PUT", "", &[]);
        assert_eq!((answer.status, answer.header("Allow")), (405, Some(methods)), "{provider}");
    }
}
