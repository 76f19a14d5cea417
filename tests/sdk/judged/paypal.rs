//! `PayPal`: RSA over a checksum, with a certificate whose address comes along.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde_json::json;

use super::{changed, judge, rewritten, row, stripped};
use crate::host::{KeyHost, Reply, Signer};
use crate::published::python;
use crate::support::{App, sender};
use hookgate::clock::to_rfc3339;

#[test]
fn of_deliveries_of_paypal_the_gate_takes_what_paypals_sdk_takes() {
    const LIVE: &str = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77";
    const NAME: &str = "messageverificationcerts.paypal.com";
    const WEBHOOK: &str = "1JE4291016473214C";
    let (Some(python), Some(host)) = (python(), KeyHost::new()) else { return };
    let (signer, pem) = Signer::certified(&host.authority, "paypal", NAME);
    let (strange, _) = Signer::certified(&host.authority, "strange", NAME);
    // Of the same key.
    let certified = |file: &str, name: &str, more: &str| {
        host.authority.openssl(&format!(
            "req -x509 -key paypal.key -out {file}.crt -days 30 -subj /CN={name} -addext subjectAltName=DNS:{name}{more}"
        ));
        std::fs::read_to_string(host.authority.root().with_file_name(format!("{file}.crt"))).unwrap()
    };
    let other = certified("other", "www.paypal.com", "");
    let foreign = certified("foreign", "messageverificationcerts.example.com", "");
    let matters = certified("matters", NAME, " -addext 1.2.3.4=critical,DER:0500");
    let mut certificates = BTreeMap::new();
    let mut publish = |url: &str, pem: &str| {
        host.publish(url, Reply::Document(pem.to_owned()));
        certificates.insert(url.to_owned(), pem.to_owned());
        url.to_owned()
    };
    let live = publish(LIVE, &pem);
    let of_other_host = publish(&LIVE.replace("fa77", "fa78"), &other);
    let of_nobody = publish(&LIVE.replace("fa77", "fa79"), &foreign);
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
    let with = |name: &str, change: &dyn Fn(&str) -> String| changed(good(), name, change);
    let without = |name: &str| stripped(good(), name);
    let body = |change: &dyn Fn(&str) -> String| rewritten(good(), change);
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
            with("sig", &|tag| format!("{} {}", &tag[..4], &tag[4..])),
            "signature_malformed",
        )
        .stricter("RFC 4648, section 3.3: what is not of the alphabet is refused"),
        row("a certificate of nobody there", at(&LIVE.replace("fa77", "fa80")), "signature_mismatch").alone(),
        row("a certificate of another's name", at(&of_nobody), "signature_mismatch").alone(),
        row("a certificate with something unknown that matters", at(&matters), "store_unavailable").alone(),
        row("a certificate of another of its hosts", at(&of_other_host), "signature_mismatch")
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
