//! Deliveries whose keys are published, and what was changed in them, judged by the gate and by the provider's own
//! SDK: both must say the same of each, or the row names what makes the gate stricter. Neither fetches anything from
//! a provider: `host` publishes what the SDK is given.

mod alexa;
mod apple;
mod ebay;
mod paypal;
mod saleor;
mod sns;
mod turnkey;

use std::collections::BTreeMap;

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::Sdks;
use crate::published::reason;
use crate::support::Gate;
use crate::tls::Authority;

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

/// With another value of the header whose name ends so.
fn changed((mut headers, body): Delivery, name: &str, change: &dyn Fn(&str) -> String) -> Delivery {
    let header = headers.iter_mut().find(|(known, _)| known.ends_with(name)).unwrap();
    header.1 = change(&header.1);
    (headers, body)
}

/// With another body.
fn rewritten((headers, body): Delivery, change: &dyn Fn(&str) -> String) -> Delivery {
    (headers, change(&body))
}

/// Without the header whose name ends so.
fn stripped((mut headers, body): Delivery, name: &str) -> Delivery {
    headers.retain(|(known, _)| !known.ends_with(name));
    (headers, body)
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

/// What openssl signs, where ring does not.
fn signed_by_openssl(authority: &Authority, key: &str, digest: &str, text: &str) -> Vec<u8> {
    let at = |name: &str| authority.root().with_file_name(name);
    std::fs::write(at("text"), text).unwrap();
    authority.openssl(&format!("dgst -{digest} -sign {key}.key -out signature text"));
    std::fs::read(at("signature")).unwrap()
}
