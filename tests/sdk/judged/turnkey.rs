//! Turnkey: Ed25519 over headers and body.

use data_encoding::{BASE64, HEXLOWER};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::{b64, changed, judge, rewritten, row, stripped};
use crate::host::{KeyHost, Reply, set};
use crate::published::node;
use crate::support::{App, sender};

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
    let with = |name: &str, change: &dyn Fn(&str) -> String| changed(good(), name, change);
    let without = |name: &str| stripped(good(), name);
    let body = |change: &dyn Fn(&str) -> String| rewritten(good(), change);
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
