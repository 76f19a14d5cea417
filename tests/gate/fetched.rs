//! What providers have signed whose keys are published: `fetched.json` holds each delivery with what lies at
//! the addresses of its keys, judged by the built-in presets as a route would have them. A delivery that names
//! an address which is not pinned needs nothing: nothing would be dialled.

use std::collections::BTreeMap;
use std::sync::Arc;

use hookgate::clock::Now;
use hookgate::config::provider::preset;
use hookgate::config::raw;
use hookgate::config::scheme::compile_on;
use hookgate::gate::delivery::split_target;
use hookgate::gate::fetched::document::Document;
use hookgate::gate::fetched::parameters::Parameters;
use hookgate::gate::fetched::{KeyPlace, KeySource, Need};
use hookgate::gate::filter::freshness;
use hookgate::gate::filter::signature::{Scheme, Signature};
use hookgate::gate::keys::{KeyRing, Keys};
use hookgate::gate::reason::Reason;
use serde::Deserialize;
use serde_json::Value;

use crate::pure::Delivery;

#[derive(Clone, Deserialize)]
pub struct Vector {
    id: String,
    provider: String,
    pub origin: String,
    #[serde(default = "post")]
    method: String,
    url: String,
    headers: BTreeMap<String, String>,
    body: Option<String>,
    body_base64: Option<String>,
    config: BTreeMap<String, Value>,
    keys: BTreeMap<String, String>,
    now: Option<i64>,
    expect: String,
}

fn post() -> String {
    "POST".to_owned()
}

#[test]
fn presets_judge_as_the_providers_do() {
    let mut wrong = Vec::new();
    let mut judged = 0;
    for vector in all() {
        let Some(schemes) = vector.schemes() else { continue };
        judged += 1;
        let said = vector.judged_by(&schemes);
        let taken = matches!(&*vector.expect, "accept" | "accept-signature");
        if vector.expect != "policy" && (said == Ok(())) != taken {
            wrong.push(format!("{}: {said:?}, not {}", vector.id, vector.expect));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(judged > 70, "{judged}");
}

#[test]
fn what_was_accepted_is_refused_with_one_more_byte() {
    for mut vector in all().into_iter().filter(|vector| vector.expect == "accept") {
        let Some(schemes) = vector.schemes() else { continue };
        let bearer = schemes.iter().all(|raw| {
            raw.signs_body == Some(raw::SignsBody::No) && raw.signature.format == raw::SignatureFormat::Jwt
        });
        if bearer || vector.body().is_empty() {
            continue;
        }
        let mut body = vector.body();
        body.push(b'0');
        vector.body_base64 = Some(data_encoding::BASE64.encode(&body));
        assert_ne!(vector.judged_by(&schemes), Ok(()), "{}", vector.id);
    }
}

/// Nothing that a forger writes into the place of an address gets anything dialled that is not pinned.
#[test]
fn an_address_that_is_not_pinned_needs_nothing() {
    let named = all().into_iter().filter(|vector| vector.keys.is_empty() && vector.expect == "reject");
    let mut looked = 0;
    for vector in named {
        let Some(schemes) = vector.schemes() else { continue };
        looked += 1;
        assert_eq!(vector.needs(&schemes), 0, "{}", vector.id);
    }
    assert!(looked > 10, "{looked}");
}

pub fn all() -> Vec<Vector> {
    serde_json::from_str(include_str!("fetched.json")).expect("the vectors")
}

impl Vector {
    /// Whether it shows that the preset takes what its provider signs.
    pub fn accepts(&self, preset: &str) -> bool {
        self.expect == "accept" && self.preset() == Some(preset)
    }

    /// The preset that judges it; `None` where there is none.
    fn preset(&self) -> Option<&str> {
        match &*self.provider {
            "sns" => Some("aws-sns"),
            "admob-ssv" => Some("admob"),
            "neon" => Some("neon-auth"),
            // Short keys are refused whoever publishes them; there is no preset.
            "alibaba-mns" | "generic-jwt" => None,
            // Their chain led to a root that nobody believes any more, and the older header is not taken.
            "alexa" if self.expect == "accept-signature" => None,
            other => Some(other),
        }
    }

    fn schemes(&self) -> Option<Vec<raw::SchemeWords>> {
        if let Some(name) = self.preset() {
            let preset = preset(name);
            return Some(preset.unwrap_or_else(|| panic!("{name} is no preset")).schemes);
        }
        match &*self.provider {
            "generic-jwt" => Some(vec![self.own_scheme()]),
            "alexa" => Some(vec![
                serde_saphyr::from_str(
                    "{ algorithm: rsa-sha1, signature: { from: 'header:Signature', encoding: base64 }, content: '{body}',
                       keys: { named_by: 'header:SignatureCertChainUrl', url: 'https://s3.amazonaws.com/echo.api/{path}' } }",
                )
                .unwrap(),
            ]),
            _ => None,
        }
    }

    /// As a route would write it for an issuer of its own.
    fn own_scheme(&self) -> raw::SchemeWords {
        let algorithm = match &self.config["algorithms"][0] {
            Value::String(name) if name == "RS256" => "rsa-sha256",
            _ => "ed25519",
        };
        let (place, issuer) =
            (if algorithm == "rsa-sha256" { "x509" } else { "jwks" }, &self.config["issuer"]);
        let audience =
            self.config.get("audience").map(|audience| format!(", aud: {audience}")).unwrap_or_default();
        let ends = if self.config.contains_key("expiry") {
            ""
        } else {
            "timestamp: { from: 'claim:iat', unit: s, expires: 'claim:exp', tolerance: 1d, future_tolerance: 1m }"
        };
        let yaml = format!(
            "algorithm: {algorithm}\nsignature: {{ from: 'header:Authorization', prefix: 'Bearer ', format: jwt }}\n\
             signs_body: false\nkeys: {{ jwks: 'https://issuer.example/{place}' }}\nclaims: {{ iss: {issuer}{audience} }}\n{ends}"
        );
        serde_saphyr::from_str(&yaml).unwrap_or_else(|e| panic!("{e}\n{yaml}"))
    }

    fn body(&self) -> Vec<u8> {
        match (&self.body, &self.body_base64) {
            (_, Some(base64)) => data_encoding::BASE64.decode(base64.as_bytes()).unwrap(),
            (Some(text), None) => text.clone().into_bytes(),
            (None, None) => Vec::new(),
        }
    }

    /// What a route says of itself.
    fn parameters(&self) -> Parameters {
        let mut route = Parameters::default();
        for (name, value) in &self.config {
            let values = match value {
                Value::Array(list) => list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
                Value::String(text) => vec![text.clone()],
                other => vec![other.to_string()],
            };
            route.set(name, values);
        }
        match &*self.provider {
            "fal" => route.set("user_id", vec!["google-oauth2|0".to_owned()]),
            "fireblocks-v2" => route.set("environment", vec!["us".to_owned()]),
            "truelayer" => route.set("environment", vec!["production".to_owned()]),
            "neon" => route.set(
                "auth_url",
                vec!["https://ep-example.neonauth.us-east-1.aws.neon.tech/neondb/auth".to_owned()],
            ),
            "alexa" => route.set(
                "application_id",
                vec!["amzn1.ask.skill.75c997b8-610f-4eb4-bf2e-95810e15fba2".to_owned()],
            ),
            _ => {}
        }
        route
    }

    fn signature(&self, schemes: &[raw::SchemeWords]) -> Signature {
        let route = self.parameters();
        let scheme = |raw: &raw::SchemeWords| {
            let mut recipe =
                compile_on(raw, None, None, &route).unwrap_or_else(|e| panic!("{}: {}", self.id, e.message));
            // Test notifications of Apple's SDK have a root of their own.
            if let (Some(KeyPlace { source: KeySource::Token(rule), .. }), Some(root)) =
                (&mut recipe.keys, self.keys.get("root"))
            {
                rule.roots = hookgate::gate::fetched::certificate::blocks(root.as_bytes()).unwrap();
            }
            Scheme::new(recipe, Vec::new())
        };
        Signature::new(schemes.iter().map(scheme).collect())
    }

    fn delivery(&self) -> Delivery {
        let headers =
            self.headers.iter().map(|(n, v)| (n.parse::<http::HeaderName>().unwrap(), v.parse().unwrap()));
        let mut delivery = Delivery::new(headers.collect(), &self.body());
        delivery.method = self.method.parse().unwrap();
        delivery.content_length = Some(delivery.body.len() as u64);
        let target = self.url.splitn(4, '/').nth(3).map_or("/".to_owned(), |target| format!("/{target}"));
        let (path, query) = split_target(target.as_bytes());
        let text = |part: &[u8]| String::from_utf8(part.to_vec()).unwrap();
        (delivery.path, delivery.query) = (text(path), query.map(text));
        delivery
    }

    fn needs(&self, schemes: &[raw::SchemeWords]) -> usize {
        let (signature, delivery) = (self.signature(schemes), self.delivery());
        let head = delivery.head();
        let Ok(presented) = signature.presented(&head) else { return 0 };
        signature.needs(&presented, &head, &delivery.body).len()
    }

    /// As the gate does it, with what lies at each address.
    fn judged_by(&self, schemes: &[raw::SchemeWords]) -> Result<(), Reason> {
        let (signature, delivery) = (self.signature(schemes), self.delivery());
        let head = delivery.head();
        let now = self.now.unwrap_or(0) * 1000;
        let presented = signature.presented(&head)?;
        let mut ring = KeyRing { schemes: vec![Vec::new(); schemes.len()], ..KeyRing::default() };
        for (n, need) in signature.needs(&presented, &head, &delivery.body) {
            let recipe = signature.schemes()[n].recipe();
            match need {
                Need::Chain(chain) => ring.schemes[n] = signature.of_chain(n, &chain, now),
                Need::Documents(wanted) => {
                    for wanted in wanted {
                        let Some(text) = self.keys.get(wanted.document()) else { continue };
                        let form = &recipe.keys.as_ref().unwrap().form;
                        let Some(document) = Document::read(text.as_bytes(), form) else { continue };
                        ring.schemes[n].extend(wanted.choose(&document, recipe.algorithm, now));
                    }
                }
            }
        }
        let keys = Keys::Found(Arc::new(ring));
        let authentic = signature.verify_by(&keys, &presented, "route", &head, &delivery.body, |_| true)?;
        // Where no time is given, any will do.
        match self.now {
            Some(now) => freshness::check(authentic, Now::at(now, 0)).map(drop),
            None => Ok(()),
        }
    }
}
