//! What providers and their SDKs have signed, judged by the built-in presets.
//!
//! `vectors/PROVIDER.json` holds data only: `secret`, `headers` and `body` as they were
//! published, the time `now` in seconds (null where no time is signed), `method` and `url` where
//! they are signed, and what to `expect`: `accepted`, or the reason for which it is refused. `origin`
//! tells who made the signature: the provider (`published`), its SDK (`sdk-signed`), or another
//! project's tests (`third-party`). What was made from the documented fields alone (`computed`) shows
//! the form, and proves nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hookgate::clock::Now;
use hookgate::config::provider::{NamedSecret, PRESETS, keyed, preset};
use hookgate::config::raw::{self, Evidence};
use hookgate::config::scheme::compile;
use hookgate::config::secret::Secret;
use hookgate::gate::delivery::split_target;
use hookgate::gate::filter::freshness;
use hookgate::gate::filter::signature::{Scheme, Signature};
use hookgate::gate::parse::url::PublicUrl;
use hookgate::gate::reason::Reason;
use hookgate::gate::scheme::sign::Unsigned;
use hookgate::gate::scheme::source::Source;
use hookgate::gate::scheme::{Assurance, Key, Recipe, Verifier};
use http::HeaderMap;
use serde::Deserialize;

use crate::pure::{Delivery, NOW};

#[derive(Deserialize)]
struct Vector {
    id: String,
    secret: String,
    headers: BTreeMap<String, String>,
    body: String,
    now: Option<i64>,
    #[serde(default = "post")]
    method: String,
    url: Option<String>,
    expect: String,
    origin: String,
}

fn post() -> String {
    "POST".to_owned()
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
        // Some providers sign a few values of the body only; their presets say so.
        if !covers_body(provider) {
            continue;
        }
        let said = vector.judged_by(provider, format!("{}0", vector.body).as_bytes());
        assert!(said.is_signature() || said == Reason::BodyMalformed, "{provider}: {}: {said:?}", vector.id);
    }
}

/// Few providers publish a delivery. Every preset is at least at one with our own signer,
/// in each of its schemes.
#[test]
fn every_scheme_accepts_what_it_would_sign_itself() {
    for (provider, _) in PRESETS {
        let raw = preset(provider).unwrap().schemes;
        let mut recipes: Vec<_> = raw.iter().map(|raw| compile(raw, None, None).unwrap()).collect();
        recipes.retain(|recipe| !recipe.algorithm.is_public());
        for recipe in &mut recipes {
            recipe.url = Some("https://example.com/hooks".parse().unwrap());
        }
        let keyed = |recipe: &Recipe| {
            let key = Key { id: "own".into(), verifier: Verifier::new(recipe.algorithm, KEY).unwrap() };
            Scheme::new(recipe.clone(), vec![key])
        };
        let signature = Signature::new(recipes.iter().map(keyed).collect());
        for (n, recipe) in recipes.iter().enumerate() {
            let mut delivery = signed_by(recipe);
            assert_eq!(judged(&delivery, &signature, NOW), Reason::Accepted, "{provider}, scheme {n}");
            if recipe.assurance != Assurance::Verified {
                continue;
            }
            delivery.body[0] ^= 1;
            let said = judged(&delivery, &signature, NOW);
            assert!(said.is_signature(), "{provider}, scheme {n}: {said:?}");
        }
    }
}

const KEY: &[u8] = b"a key that opens nothing else";

/// A delivery as the sender makes it, with the time in its body where the recipe looks for it there.
fn signed_by(recipe: &Recipe) -> Delivery {
    let mut body = serde_json::Map::from_iter([("note".to_owned(), "a test".into())]);
    for (rule, source) in recipe.timestamp.iter().flat_map(|rule| rule.from.iter().map(move |s| (rule, s))) {
        if let Source::Json(pointer) = source {
            let name = pointer.to_string().trim_start_matches('/').to_owned();
            let time = rule.unit.format(NOW * 1000);
            body.insert(name, serde_json::from_str(&time).unwrap_or(time.into()));
        }
    }
    let body = serde_json::Value::Object(body).to_string();
    let unsigned = Unsigned { id: "evt_1", time_ms: NOW * 1000, body: body.as_bytes() };
    let key = recipe.algorithm.keyed(KEY).unwrap();
    Delivery::sent(recipe.sign(&key, unsigned).unwrap())
}

#[test]
fn every_vector_has_its_preset() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(preset(name).is_some(), "{name} is no preset");
    }
}

/// A preset is as well proven as its best vector; without one it rests on what was read.
/// A signature in another project's tests (`third-party`) is no proof of what the provider does.
#[test]
fn evidence_and_vectors_agree() {
    for (provider, text) in PRESETS {
        let accepted: Vec<_> = of(provider).into_iter().filter(Vector::is_accepted).collect();
        let fetched: Vec<_> =
            crate::fetched::all().into_iter().filter(|vector| vector.accepts(provider)).collect();
        let any = |origin: &str| {
            accepted.iter().any(|vector| vector.origin == origin)
                || fetched.iter().any(|vector| vector.origin == origin)
        };
        let evidence = preset(provider).unwrap().evidence;
        let agrees = match evidence {
            Evidence::Published => any("published"),
            Evidence::Sdk => any("sdk-signed") && !any("published"),
            Evidence::Documented | Evidence::Unconfirmed => !any("sdk-signed") && !any("published"),
        };
        assert!(agrees, "{provider} says {evidence:?}, but its vectors say otherwise");
        assert!(text.starts_with('#'), "{provider} does not say what it rests on");
    }
}

fn judged(delivery: &Delivery, signature: &Signature, now: i64) -> Reason {
    let authentic = delivery.judged_by(signature);
    match authentic.and_then(|authentic| freshness::check(authentic, Now::at(now, 0))) {
        Ok(_) => Reason::Accepted,
        Err(reason) => reason,
    }
}

fn covers_body(provider: &str) -> bool {
    preset(provider)
        .unwrap()
        .schemes
        .iter()
        .all(|raw| compile(raw, None, None).unwrap().assurance == Assurance::Verified)
}

fn all() -> impl Iterator<Item = (&'static str, Vector)> {
    PRESETS.iter().flat_map(|(provider, _)| of(provider).into_iter().map(move |vector| (*provider, vector)))
}

/// Nothing where neither the provider nor its SDK has published or signed anything.
fn of(provider: &str) -> Vec<Vector> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/vectors/{provider}.json"));
    if !path.exists() {
        return Vec::new();
    }
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

impl Vector {
    fn is_accepted(&self) -> bool {
        self.expect == Reason::Accepted.label()
    }

    fn judged_by(&self, provider: &str, body: &[u8]) -> Reason {
        let mut delivery = Delivery::new(self.headers(), body);
        delivery.method = self.method.parse().unwrap();
        if let Some(url) = &self.url {
            let target = url.splitn(4, '/').nth(3).map_or("/".to_owned(), |target| format!("/{target}"));
            let (path, query) = split_target(target.as_bytes());
            let text = |part: &[u8]| String::from_utf8(part.to_vec()).unwrap();
            (delivery.path, delivery.query) = (text(path), query.map(text));
        }
        // Where no time is signed, any time will do.
        judged(&delivery, &self.signature(provider), self.now.unwrap_or(0))
    }

    /// As on a route whose `public_url` is what the provider was given.
    fn recipe(&self, raw: &raw::SchemeWords) -> Recipe {
        let url: Option<PublicUrl> = self.url.as_ref().map(|url| url.parse().unwrap());
        compile(raw, None, None).unwrap().at(url.as_ref())
    }

    fn headers(&self) -> HeaderMap {
        self.headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    /// The preset with this vector's secret, as a route would have it.
    fn signature(&self, provider: &str) -> Signature {
        let (secret, _) = Secret::from_bytes(self.secret.clone().into_bytes());
        let secrets = [NamedSecret { id: "published".into(), secret, not_after_ms: None }];
        let schemes = preset(provider).unwrap().schemes;
        // Published secrets are short.
        let scheme = |raw| keyed(self.recipe(raw), &secrets, true).0;
        Signature::new(schemes.iter().map(scheme).filter(|scheme| !scheme.keys().is_empty()).collect())
    }
}
