//! eBay: ECDSA with SHA-1, with a key that a header names.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::{Delivery, judge, rewritten, row, signed_by_openssl};
use crate::host::{KeyHost, Reply};
use crate::published::node;
use crate::support::{App, sender};

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
    let changed = |change: &dyn Fn(&str) -> String| rewritten(good(), change);
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
            signed_by("ebay", "sha1", &IDS[0].replace('5', "7")),
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
