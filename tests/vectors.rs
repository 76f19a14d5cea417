//! What providers and their SDKs have signed, judged by the built-in presets.
//!
//! `vectors/PROVIDER.json` holds data only: `secret`, `headers` and `body` as they were
//! published, the time `now` in seconds (null where no time is signed), and what to `expect`:
//! `accepted`, or the reason for which it is refused.

#![allow(clippy::unwrap_used)]

#[path = "support/pure.rs"]
mod pure;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hookgate::clock::Now;
use hookgate::config::provider::{NamedSecret, PRESETS, compile, keyed, preset};
use hookgate::config::raw::Evidence;
use hookgate::config::secret::Secret;
use hookgate::gate::answer::Reason;
use hookgate::gate::filter::freshness;
use hookgate::gate::filter::signature::Signature;
use http::HeaderMap;
use pure::Delivery;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vector {
    id: String,
    secret: String,
    headers: BTreeMap<String, String>,
    body: String,
    now: Option<i64>,
    expect: String,
    origin: String,
}

#[test]
fn presets_judge_as_the_providers_do() {
    for (provider, vector) in all() {
        let said = vector.judged_by(provider, vector.body.as_bytes());
        assert_eq!(said.label(), vector.expect, "{provider}: {}", vector.id);
    }
}

#[test]
fn what_was_accepted_is_refused_with_one_more_byte() {
    for (provider, vector) in all().filter(|(_, vector)| vector.is_accepted()) {
        let said = vector.judged_by(provider, format!("{} ", vector.body).as_bytes());
        assert_eq!(said, Reason::SignatureMismatch, "{provider}: {}", vector.id);
    }
}

#[test]
fn every_preset_accepts_something_real() {
    for (provider, _) in PRESETS {
        assert!(of(provider).iter().any(Vector::is_accepted), "{provider} has no vector that is accepted");
    }
}

#[test]
fn the_evidence_that_a_preset_claims_is_here() {
    for (provider, _) in PRESETS {
        let needed = match preset(provider).unwrap().evidence {
            Evidence::Published => "published",
            Evidence::Sdk => "sdk-signed",
            Evidence::Documented | Evidence::Unconfirmed => continue,
        };
        let found = of(provider).iter().any(|vector| vector.is_accepted() && vector.origin == needed);
        assert!(found, "{provider} says it is proven, but no accepted vector is {needed}");
    }
}

fn all() -> impl Iterator<Item = (&'static str, Vector)> {
    PRESETS.iter().flat_map(|(provider, _)| of(provider).into_iter().map(move |vector| (*provider, vector)))
}

fn of(provider: &str) -> Vec<Vector> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/vectors/{provider}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

impl Vector {
    fn is_accepted(&self) -> bool {
        self.expect == Reason::Accepted.label()
    }

    fn judged_by(&self, provider: &str, body: &[u8]) -> Reason {
        // Where no time is signed, any time will do.
        let now = Now::at(self.now.unwrap_or(0), 0);
        let authentic = Delivery::new(self.headers(), body).judged_by(&self.signature(provider));
        match authentic.and_then(|authentic| freshness::check(authentic, now)) {
            Ok(_) => Reason::Accepted,
            Err(reason) => reason,
        }
    }

    fn headers(&self) -> HeaderMap {
        self.headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    /// The preset with this vector's secret, as a route would have it.
    fn signature(&self, provider: &str) -> Signature {
        let (secret, _) = Secret::from_bytes(self.secret.clone().into_bytes());
        let secrets = [NamedSecret { id: "published".into(), secret }];
        let schemes = preset(provider).unwrap().schemes;
        // Published secrets are short.
        let scheme = |raw| keyed(compile(raw, None, None).unwrap(), &secrets, true).0;
        Signature::new(schemes.iter().map(scheme).filter(|scheme| !scheme.keys().is_empty()).collect())
    }
}
