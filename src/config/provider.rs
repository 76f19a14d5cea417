//! From the words of a preset, or of the user's own `scheme:`, to a compiled recipe.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::loader::closest;
use super::raw;
use super::secret::Secret;
use crate::gate::filter::signature::Scheme;
use crate::gate::scheme::key::{KeyError, MIN_KEY_LEN};
use crate::gate::scheme::source::Source;
use crate::gate::scheme::timestamp::TimestampRule;
use crate::gate::scheme::{Key, Recipe, SignatureFormat, SignatureRule, json};

/// The built-in catalogue: name and YAML text, sorted by name.
pub const PRESETS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/presets.rs"));

/// The tolerance of a scheme that names none.
pub const DEFAULT_TOLERANCE: Duration = Duration::from_secs(300);

/// The preset of that name.
pub fn preset(name: &str) -> Option<raw::Preset> {
    let (_, text) = PRESETS.iter().find(|(preset, _)| *preset == name)?;
    Some(parse(text).expect("the catalogue is tested: every preset in it parses"))
}

/// What to say of a name that is no preset's.
pub fn unknown(name: &str) -> String {
    let names: Vec<_> = PRESETS.iter().map(|(name, _)| *name).collect();
    match closest(name, &names) {
        Some(close) => format!("\"{name}\" is no preset: did you mean {close}?"),
        None => format!("\"{name}\" is no preset: write one of {}", names.join(", ")),
    }
}

fn parse(text: &str) -> Result<raw::Preset, serde_saphyr::Error> {
    serde_saphyr::from_str(text)
}

/// A scheme that cannot be compiled: the key within it, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    pub key: &'static str,
    pub message: String,
}

impl Fault {
    fn new(key: &'static str, message: impl Into<String>) -> Self {
        Fault { key, message: message.into() }
    }
}

/// Compiles a scheme. Tolerances of the route replace those of the scheme.
pub fn compile(
    raw: &raw::Scheme,
    tolerance: Option<Duration>,
    future: Option<Duration>,
) -> Result<Recipe, Fault> {
    let content = raw.content.parse().map_err(|e: String| Fault::new("content", e))?;
    let recipe = Recipe {
        algorithm: raw.algorithm,
        key: raw.key.clone(),
        signature: signature(&raw.signature)?,
        content,
        timestamp: raw.timestamp.as_ref().map(|t| timestamp(t, tolerance, future)).transpose()?,
        id: sources("id", &raw.id)?,
        event_type: sources("type", &raw.event_type)?,
    };
    check(&recipe)?;
    Ok(recipe)
}

fn signature(raw: &raw::SignatureSource) -> Result<SignatureRule, Fault> {
    let mut headers = Vec::<HeaderName>::new();
    for source in sources("signature.from", &raw.from)? {
        match source {
            Source::Header(name) => headers.push(name),
            Source::Field(_) | Source::Json(_) => {
                return Err(Fault::new(
                    "signature.from",
                    "a signature stands in a header: write header:Name",
                ));
            }
        }
    }
    if headers.is_empty() {
        return Err(Fault::new("signature.from", "name the header of the signature: write header:Name"));
    }
    let split = raw.split.as_deref().map(separator).transpose()?;
    let format = match raw.format {
        raw::SignatureFormat::Plain => {
            SignatureFormat::Plain { prefix: raw.prefix.clone().into_bytes(), split }
        }
        raw::SignatureFormat::Kv if raw.keys.is_empty() => {
            return Err(Fault::new(
                "signature.keys",
                "format: kv needs the fields that hold tags, such as [v1]",
            ));
        }
        raw::SignatureFormat::Kv => {
            SignatureFormat::Fields { split: split.unwrap_or(b','), keys: raw.keys.clone() }
        }
    };
    Ok(SignatureRule { headers, format, encoding: raw.encoding })
}

fn separator(text: &str) -> Result<u8, Fault> {
    match text.as_bytes() {
        [byte] => Ok(*byte),
        _ => Err(Fault::new("signature.split", format!("\"{text}\" is not one character"))),
    }
}

fn timestamp(
    raw: &raw::Timestamp,
    tolerance: Option<Duration>,
    future: Option<Duration>,
) -> Result<TimestampRule, Fault> {
    let own = |span: Option<super::units::Span>| span.map_or(DEFAULT_TOLERANCE, |span| span.0);
    Ok(TimestampRule {
        from: sources("timestamp.from", &raw.from)?,
        unit: raw.unit,
        tolerance: tolerance.unwrap_or_else(|| own(raw.tolerance)),
        future_tolerance: future.unwrap_or_else(|| own(raw.future_tolerance)),
    })
}

fn sources(key: &'static str, raw: &[String]) -> Result<Vec<Source>, Fault> {
    raw.iter().map(|text| text.parse().map_err(|e: String| Fault::new(key, e))).collect()
}

/// What each part may demand of the others.
fn check(recipe: &Recipe) -> Result<(), Fault> {
    if let Some(rule) = &recipe.timestamp {
        if rule.from.is_empty() {
            return Err(Fault::new(
                "timestamp.from",
                "name where the time stands: header:Name, kv:field or json:/pointer",
            ));
        }
        if let Some(source) = rule.from.iter().find(|source| !recipe.content.covers(source)) {
            return Err(Fault::new(
                "timestamp.from",
                format!(
                    "{source} is not signed, so anyone could change it: put it into content, or leave timestamp out"
                ),
            ));
        }
    }
    let fields = matches!(recipe.signature.format, SignatureFormat::Fields { .. });
    let named = recipe
        .content
        .segments()
        .iter()
        .any(|s| matches!(s, crate::gate::scheme::content::Segment::Field(_)));
    if named && !fields {
        return Err(Fault::new(
            "content",
            "{kv:…} is a field of the signature header: set signature.format to kv",
        ));
    }
    if recipe.pointers().len() > json::MAX_POINTERS {
        return Err(Fault::new(
            "id",
            format!("at most {} values can be read from a body", json::MAX_POINTERS),
        ));
    }
    Ok(())
}

/// A secret with the id that stands for it.
#[derive(Clone, Debug)]
pub struct NamedSecret {
    pub id: Arc<str>,
    pub secret: Secret,
}

/// A recipe with the secrets that fit it, and why the others do not.
pub fn keyed(
    recipe: Recipe,
    secrets: &[NamedSecret],
    short_allowed: bool,
) -> (Scheme, Vec<(Arc<str>, KeyError)>) {
    let mut keys = Vec::new();
    let mut unfit = Vec::new();
    for NamedSecret { id, secret } in secrets {
        match recipe.key.decode(secret.expose()) {
            Ok(key) if key.len() < MIN_KEY_LEN && !short_allowed => {
                unfit.push((Arc::clone(id), KeyError::Short(key.len())));
            }
            Ok(key) => keys.push(Key { id: Arc::clone(id), mac: recipe.algorithm.keyed(&key) }),
            Err(error) => unfit.push((Arc::clone(id), error)),
        }
    }
    (Scheme::new(recipe, keys), unfit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_parses_and_compiles() {
        for (name, text) in PRESETS {
            let preset = parse(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(!preset.schemes.is_empty(), "{name} holds no scheme");
            for scheme in &preset.schemes {
                compile(scheme, None, None).unwrap_or_else(|e| panic!("{name}: {}: {}", e.key, e.message));
            }
        }
    }

    fn compiled(yaml: &str) -> Result<Recipe, Fault> {
        compile(&serde_saphyr::from_str(yaml).unwrap(), None, None)
    }

    #[test]
    fn a_scheme_that_would_prove_nothing_is_refused_with_the_remedy() {
        let base = |content: &str, rest: &str| {
            format!(
                "algorithm: hmac-sha256\nsignature: {{ from: 'header:X-Sig', encoding: hex }}\ncontent: '{content}'\n{rest}\n"
            )
        };
        assert!(compiled(&base("{body}", "")).is_ok());
        for (yaml, key, says) in [
            (base("{header:X-T}", ""), "content", "does not sign the body"),
            (base("{body}", "timestamp: { from: 'header:X-T', unit: s }"), "timestamp.from", "is not signed"),
            (base("{kv:t}.{body}", ""), "content", "set signature.format to kv"),
            (base("{body}", "id: 'jsn:/id'"), "id", "names no source"),
            (base("{body}", "id: 'json:id'"), "id", "starts with '/'"),
        ] {
            let fault = compiled(&yaml).unwrap_err();
            assert!(fault.key == key && fault.message.contains(says), "{fault:?}");
        }
    }
}
