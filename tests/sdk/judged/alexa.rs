//! Alexa: RSA over the body, with a chain whose address comes along.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::{judge, rewritten, row, signed_by_openssl};
use crate::host::{KeyHost, Reply, Signer};
use crate::published::python;
use crate::support::{App, sender};
use hookgate::clock::to_rfc3339;

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
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
    let sent = |request: Value| signed_by(&signer, &there, request);
    let good = || at(&there);
    let changed = |change: &dyn Fn(&str) -> String| rewritten(good(), change);
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
        sent(request)
    };
    let older = {
        let body = launch(now).to_string();
        let signature = BASE64.encode(&signed_by_openssl(authority, "alexa", "sha1", &body));
        (vec![("signaturecertchainurl", there.clone()), ("signature", signature)], body)
    };
    // What is no certificate of Amazon's is none at all: there may be one later, and the sender is told to come again.
    let rows = [
        row("a request", good(), "accepted"),
        row("two minutes old", sent(launch(now - 120_000)), "accepted"),
        row("two minutes ahead", sent(launch(now + 120_000)), "accepted"),
        row("another body", changed(&|body| body.replace("en-US", "en-GB")), "signature_mismatch"),
        row("one more byte", changed(&|body| format!("{body}\n")), "signature_mismatch"),
        row("the body written anew", changed(&|body| body.replace(':', ": ")), "signature_mismatch"),
        row("another key", signed_by(&strange, &there, launch(now)), "signature_mismatch"),
        row(
            "for another skill",
            sent(request("LaunchRequest", &SKILL.replace('7', "8"), now)),
            "signature_mismatch",
        ),
        row("three minutes old", sent(launch(now - 180_000)), "timestamp_stale"),
        row("three minutes ahead", sent(launch(now + 180_000)), "timestamp_future"),
        row(
            "an event of ten minutes ago",
            sent(request("AlexaSkillEvent.SkillEnabled", SKILL, now - 600_000)),
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
