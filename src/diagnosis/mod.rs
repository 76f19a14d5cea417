//! Why a signature does not hold: near misses, tried one at a time over the same bytes.
//!
//! Each finding is one plain sentence with the remedy, for the operator. It is never
//! shown to a sender, and nothing here decides anything.

mod json;
mod secret;
pub mod task;
pub mod trust;

use http::HeaderName;

use crate::clock::Now;
use crate::config::provider::{NamedSecret, PRESETS, preset};
use crate::config::scheme::compile;
use crate::gate::delivery::Head;
use crate::gate::parse::url::PublicUrl;
use crate::gate::scheme::algorithm::{Algorithm, Encoding};
use crate::gate::scheme::key::{KeyDecoding, KeyRule};
use crate::gate::scheme::presented::Shown;
use crate::gate::scheme::reading::Reading;
use crate::gate::scheme::source::Source;
use crate::gate::scheme::timestamp::TimeUnit;
use crate::gate::scheme::{Recipe, SignatureFormat, Verifier};

/// Headers that are tried as places of a signature.
const MOST_HEADERS: usize = 40;

/// A delivery whose signature did not hold, and what it was judged by.
#[derive(Clone, Copy)]
pub struct Case<'c> {
    pub provider: &'c str,
    pub recipes: &'c [Recipe],
    pub secrets: &'c [NamedSecret],
    /// What other routes of the same gate are judged by.
    pub others: &'c [Other<'c>],
    pub head: &'c Head<'c>,
    pub body: &'c [u8],
    pub now: Now,
}

/// Another route, whose secret may have been meant.
#[derive(Clone, Copy)]
pub struct Other<'c> {
    pub route: &'c str,
    pub recipes: &'c [Recipe],
    pub secrets: &'c [NamedSecret],
}

/// What would have made the signature hold.
pub fn hints(case: &Case<'_>) -> Vec<String> {
    let mut hints = Vec::new();
    for recipe in case.recipes {
        for NamedSecret { id, secret, not_after_ms } in case.secrets {
            let secret = secret.expose();
            let key = recipe.key.decode(secret);
            if recipe.is_present(case.head) == Ok(false) {
                hints.extend(key.ok().and_then(|key| other_place(case, recipe, &key)));
                continue;
            }
            let ended = not_after_ms.is_some_and(|end| case.now.wall_ms > end);
            if ended && key.as_ref().is_ok_and(|key| holds(recipe, key, case.head, case.body)) {
                hints.push(format!("secret {id}: signed it, but its not_after has passed"));
                continue;
            }
            hints.extend(other_key(case, recipe, secret).map(|hint| format!("secret {id}: {hint}")));
            if let Ok(key) = key {
                hints.extend(other_body(case, recipe, &key));
                hints.extend(other_recipe(case, recipe, &key));
                hints.extend(other_place(case, recipe, &key));
                hints.extend(other_url(case, recipe, &key));
            }
        }
    }
    let more = [other_route, other_preset, missing_header, missing_value, no_tag];
    for look in more {
        if hints.is_empty() {
            hints.extend(look(case));
        }
    }
    if hints.is_empty() {
        hints.extend(case.secrets.iter().map(|secret| no_reading(case, secret)));
    }
    hints
}

/// What is to be said of a secret when nothing that was tried makes the signature hold.
fn no_reading(case: &Case<'_>, NamedSecret { id, secret, .. }: &NamedSecret) -> String {
    let print = format!("{}, {} bytes", secret.fingerprint(), secret.expose().len());
    let mut unusable = case.recipes.iter().map(|recipe| recipe.key.decode(secret.expose()).err());
    match unusable.next() {
        Some(Some(error)) if unusable.all(|error| error.is_some()) => {
            format!("key {id} ({print}) cannot be used: {error}; store it as the provider shows it")
        }
        _ => format!(
            "no reading of key {id} ({print}) fits: it is another secret, or the request is forged or was changed; \
             compare it with the one that the provider shows"
        ),
    }
}

/// The place of the signature is there, and what stands in it is no signature.
fn no_tag(case: &Case<'_>) -> Option<String> {
    let malformed = |recipe: &&Recipe| {
        recipe.is_present(case.head) == Ok(true)
            && match recipe.presented(case.head) {
                Ok(Shown::Tags(_)) => false,
                Ok(Shown::InBody) => Reading::new(recipe, case.head, case.body).tags().is_err(),
                Ok(Shown::Nothing(_)) | Err(_) => true,
            }
    };
    let recipe = case.recipes.iter().find(malformed)?;
    let place = recipe.signature.from.first()?;
    let name = ALGORITHMS.iter().find(|(algorithm, _)| *algorithm == recipe.algorithm).map(|(_, name)| *name);
    let what = name.map_or_else(|| "signature".to_owned(), |name| format!("{name} signature"));
    Some(format!(
        "{place} is there, but what it holds is no {what} as {} writes it: was it cut, changed or sent twice?",
        case.provider
    ))
}

/// A value in the head that is signed, and is not there.
fn missing_value(case: &Case<'_>) -> Option<String> {
    let present = case.recipes.iter().filter(|recipe| recipe.is_present(case.head) == Ok(true));
    for recipe in present {
        let values =
            recipe.content.values().filter(|(_, source, required)| *required && !source.is_in_body());
        for (_, source, _) in values {
            if recipe.value(source, case.head) == Ok(None) {
                return Some(format!("{} signs {source}, and that is not there", case.provider));
            }
        }
    }
    None
}

/// Whether a tag that the sender presents is the right one under this recipe and key.
fn holds(recipe: &Recipe, key: &[u8], head: &Head<'_>, body: &[u8]) -> bool {
    let (Ok(presented), Ok(verifier)) = (recipe.presented(head), Verifier::new(recipe.algorithm, key)) else {
        return false;
    };
    let reading = Reading::new(recipe, head, body);
    let tags = match presented {
        Shown::Tags(tags) => tags,
        Shown::InBody => reading.tags().unwrap_or_default(),
        Shown::Nothing(_) => return false,
    };
    let made = |variant| verifier.made_any(&tags, &reading, variant).is_ok_and(bool::from);
    reading.check().is_ok() && reading.variants().any(made) && reading.holds_besides() == Ok(true)
}

/// The secret, read in another way.
fn other_key(case: &Case<'_>, recipe: &Recipe, text: &[u8]) -> Option<String> {
    let fits = |rule: &KeyRule, text: &[u8]| {
        rule.decode(text).is_ok_and(|key| holds(recipe, &key, case.head, case.body))
    };
    let mended = secret::readings(text, &recipe.key.strip);
    if let Some((_, hint)) = mended.into_iter().find(|(text, _)| fits(&recipe.key, text)) {
        return Some(hint);
    }
    let rule = |decode| KeyRule { decode, ..recipe.key.clone() };
    let ways = [
        (
            KeyRule::default(),
            "is used as text by the sender, prefix and all: the key needs decode: utf8 and no strip",
        ),
        (
            rule(KeyDecoding::Utf8),
            "is used as text by the sender, without its prefix: the key needs decode: utf8",
        ),
        (
            rule(KeyDecoding::Base64),
            "is base64 to the sender: store it decoded (what stands under data: of a Kubernetes Secret is base64 \
             already), or give an own scheme's key decode: base64",
        ),
        (
            rule(KeyDecoding::Hex),
            "is hexadecimal to the sender: store it decoded, or give an own scheme's key decode: hex",
        ),
    ];
    ways.into_iter().find_map(|(rule, hint)| fits(&rule, text).then(|| hint.to_owned()))
}

/// A secret of another route of this gate, or what that route takes.
fn other_route(case: &Case<'_>) -> Option<String> {
    for other in case.others {
        for NamedSecret { id, secret, .. } in other.secrets {
            let fits = |recipe: &Recipe| {
                recipe.key.decode(secret.expose()).is_ok_and(|key| holds(recipe, &key, case.head, case.body))
            };
            if case.recipes.iter().any(fits) {
                return Some(format!(
                    "the secret {id} of the route {} fits: this route has another one; are the two swapped?",
                    other.route
                ));
            }
            if other.recipes.iter().any(fits) {
                return Some(format!(
                    "it is signed for the route {} (secret {id}): the provider sends it to the wrong path",
                    other.route
                ));
            }
        }
    }
    None
}

/// The body, as it was before something in between changed it.
fn other_body(case: &Case<'_>, recipe: &Recipe, key: &[u8]) -> Option<String> {
    type Change = fn(&[u8]) -> Option<Vec<u8>>;
    const BOM: &[u8] = b"\xef\xbb\xbf";
    let changes: [(Change, &str); 8] = [
        (
            without_newline,
            "a newline was added to the end of the body: send the file as it is (curl --data-binary)",
        ),
        (|body| Some([body, b"\n"].concat()), "a newline was taken off the end of the body"),
        (|body| Some([body, b"\r\n"].concat()), "a line end (CR LF) was taken off the end of the body"),
        (with_crlf, "line ends were changed from CR LF to LF"),
        (with_lf, "line ends were changed from LF to CR LF"),
        (|body| Some([BOM, body].concat()), "a byte order mark was taken off the front of the body"),
        (
            |body| body.strip_prefix(BOM).map(<[u8]>::to_vec),
            "a byte order mark was put in front of the body: send the file without it",
        ),
        (
            decompressed,
            "the body arrives compressed, but the sender signs it uncompressed: this needs its own scheme",
        ),
    ];
    let fits = |body: &[u8]| body != case.body && holds(recipe, key, case.head, body);
    let is_it = |change: &Change| change(case.body).is_some_and(|body| fits(&body));
    if let Some((_, hint)) = changes.iter().find(|(change, _)| is_it(change)) {
        return Some((*hint).to_owned());
    }
    let how = json::spellings(case.body).find(|(body, _)| fits(body)).map(|(_, how)| how)?;
    Some(format!("the JSON was re-serialised, the sender signs it {how}: pass the body on untouched"))
}

/// The recipe, with one word changed.
fn other_recipe(case: &Case<'_>, recipe: &Recipe, key: &[u8]) -> Option<String> {
    const ENCODINGS: [(Encoding, &str); 3] =
        [(Encoding::Hex, "hex"), (Encoding::Base64, "base64"), (Encoding::Base64url, "base64url")];
    const PREFIXES: [&str; 9] =
        ["", "sha256=", "sha1=", "sha512=", "v1=", "v0=", "v1,", "hmac-sha256 ", "Bearer "];

    let written = match &recipe.signature.format {
        SignatureFormat::Plain { prefix, split: None } => Some(prefix),
        _ => None,
    };
    let alike =
        ALGORITHMS.iter().filter(|(algorithm, _)| algorithm.is_public() == recipe.algorithm.is_public());
    for (algorithm, algorithm_name) in alike {
        for (encoding, encoding_name) in ENCODINGS {
            let mut other = Recipe { algorithm: *algorithm, ..recipe.clone() };
            other.signature.encoding = encoding;
            if holds(&other, key, case.head, case.body) {
                return Some(format!(
                    "the sender signs with {algorithm_name}, encoded as {encoding_name}: the scheme must say so"
                ));
            }
            for prefix in PREFIXES.iter().filter(|prefix| written.is_some_and(|w| w != prefix.as_bytes())) {
                other.signature.format =
                    SignatureFormat::Plain { prefix: prefix.as_bytes().into(), split: None };
                if holds(&other, key, case.head, case.body) {
                    return Some(format!(
                        "the sender signs with {algorithm_name}, encoded as {encoding_name}, and writes \"{prefix}\" \
                         before it: the scheme must say so (signature.prefix)"
                    ));
                }
            }
        }
    }
    let rule = recipe.timestamp.as_ref()?;
    for (unit, name) in [
        (TimeUnit::S, "s"),
        (TimeUnit::Ms, "ms"),
        (TimeUnit::Rfc3339, "rfc3339"),
        (TimeUnit::HttpDate, "http-date"),
    ] {
        let mut other = recipe.clone();
        other.timestamp = Some(crate::gate::scheme::timestamp::TimestampRule { unit, ..rule.clone() });
        if unit != rule.unit && holds(&other, key, case.head, case.body) {
            return Some(format!(
                "the sender writes the time in another unit: timestamp.unit must be {name}"
            ));
        }
    }
    None
}

const ALGORITHMS: [(Algorithm, &str); 11] = [
    (Algorithm::HmacSha1, "hmac-sha1"),
    (Algorithm::HmacSha256, "hmac-sha256"),
    (Algorithm::HmacSha384, "hmac-sha384"),
    (Algorithm::HmacSha512, "hmac-sha512"),
    (Algorithm::HmacMd5, "hmac-md5"),
    (Algorithm::Ed25519, "ed25519"),
    (Algorithm::EcdsaP256Sha256, "ecdsa-p256-sha256"),
    (Algorithm::EcdsaP521Sha512, "ecdsa-p521-sha512"),
    (Algorithm::RsaSha256, "rsa-sha256"),
    (Algorithm::RsaSha1, "rsa-sha1"),
    (Algorithm::RsaSha512, "rsa-sha512"),
];

/// The signature, where another scheme of the provider or no scheme at all looks for it.
fn other_place(case: &Case<'_>, recipe: &Recipe, key: &[u8]) -> Option<String> {
    let place = recipe.signature.from.first()?;
    if holds(recipe, key, case.head, case.body) {
        let first = case.recipes.iter().find(|recipe| recipe.is_present(case.head) == Ok(true))?;
        let decides = first.signature.from.first().filter(|first| *first != place)?;
        return Some(format!("the signature in {place} holds, but {decides} is there too and decides alone"));
    }
    let known = |name: &HeaderName| recipe.signature_headers().any(|known| known == name);
    let names = case.head.headers.iter().filter_map(|(name, _)| HeaderName::from_bytes(name).ok());
    names.filter(|name| !known(name)).take(MOST_HEADERS).find_map(|name| {
        let mut other = recipe.clone();
        other.signature.from = vec![Source::Header(name.clone())];
        let found = holds(&other, key, case.head, case.body);
        found.then(|| {
            format!("the signature stands in the header {name}: signature.from must be header:{name}")
        })
    })
}

/// The URL, as the provider may have been given it.
fn other_url(case: &Case<'_>, recipe: &Recipe, key: &[u8]) -> Option<String> {
    if !recipe.needs_url() {
        return None;
    }
    let host =
        case.head.single(&http::header::HOST).ok().flatten().and_then(|host| std::str::from_utf8(host).ok());
    let path = std::str::from_utf8(case.head.path).ok()?;
    let query = case.head.query.and_then(|query| std::str::from_utf8(query).ok());
    let received = host.map(|host| format!("https://{host}{path}"));
    let given = recipe.url.as_ref().map(ToString::to_string);
    let given = given.iter().map(|url| url.split('?').next().unwrap_or(url).to_owned());
    let with_path = |url: String| if url.matches('/').count() < 3 { url + path } else { url };
    let bare = given.map(with_path).chain(received).flat_map(|url| {
        let slashed = url.strip_suffix('/').map_or(format!("{url}/"), str::to_owned);
        [url, slashed]
    });
    let either = bare.flat_map(|url| {
        let other = match url.split_once("://") {
            Some(("https", rest)) => format!("http://{rest}"),
            Some((_, rest)) => format!("https://{rest}"),
            None => url.clone(),
        };
        [url, other]
    });
    let candidates =
        either.flat_map(|url| [query.map(|query| format!("{url}?{query}")), Some(url)]).flatten();
    for url in candidates.filter_map(|url| url.parse::<PublicUrl>().ok()) {
        for url in [url.with_other_port(), url] {
            let head = Head { query: case.head.query.filter(|_| url.query().is_some()), ..*case.head };
            if holds(&recipe.clone().at(Some(&url)), key, &head, case.body) {
                return Some(format!("the provider signs another URL: public_url must be {url}"));
            }
        }
    }
    None
}

/// A preset under which the signature holds.
fn other_preset(case: &Case<'_>) -> Option<String> {
    let url = case.recipes.iter().find_map(|recipe| recipe.url.as_ref());
    for (name, _) in PRESETS.iter().filter(|(name, _)| *name != case.provider) {
        for scheme in preset(name)?.schemes {
            let Ok(recipe) = compile(&scheme, None, None) else { continue };
            let recipe = recipe.at(url);
            for NamedSecret { secret, .. } in case.secrets {
                let Ok(key) = recipe.key.decode(secret.expose()) else { continue };
                if holds(&recipe, &key, case.head, case.body) {
                    return Some(format!(
                        "the signature holds as one of the provider {name}: use that preset"
                    ));
                }
            }
        }
    }
    None
}

/// The sender does not use the headers of this provider.
fn missing_header(case: &Case<'_>) -> Option<String> {
    if case.recipes.iter().any(|recipe| recipe.is_present(case.head) != Ok(false)) {
        return None;
    }
    let wanted: Vec<_> =
        case.recipes.iter().flat_map(Recipe::signature_headers).map(ToString::to_string).collect();
    Some(format!("none of the headers that {} signs with is there: {}", case.provider, wanted.join(", ")))
}

fn without_newline(body: &[u8]) -> Option<Vec<u8>> {
    let body = body.strip_suffix(b"\n")?;
    Some(body.strip_suffix(b"\r").unwrap_or(body).to_vec())
}

fn with_crlf(body: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(body).ok()?;
    text.contains('\n').then(|| text.replace("\r\n", "\n").replace('\n', "\r\n").into_bytes())
}

fn with_lf(body: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(body).ok()?;
    text.contains("\r\n").then(|| text.replace("\r\n", "\n").into_bytes())
}

/// What gzip or zlib hold, up to a bound.
fn decompressed(body: &[u8]) -> Option<Vec<u8>> {
    use std::io::Read;
    const MOST: u64 = 8 << 20;
    let mut plain = Vec::new();
    let gzip = flate2::read::GzDecoder::new(body).take(MOST).read_to_end(&mut plain).is_ok();
    if !gzip {
        plain.clear();
        flate2::read::ZlibDecoder::new(body).take(MOST).read_to_end(&mut plain).ok()?;
    }
    Some(plain)
}
