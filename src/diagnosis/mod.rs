//! Why a signature does not hold: near misses, tried one at a time over the same bytes.
//!
//! Each finding is one plain sentence with the remedy, for the operator. It is never
//! shown to a sender, and nothing here decides anything.

pub mod task;

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
use crate::gate::scheme::{Recipe, Verifier};

/// Headers that are tried as places of a signature.
const MOST_HEADERS: usize = 40;

/// A delivery whose signature did not hold, and what it was judged by.
#[derive(Clone, Copy)]
pub struct Case<'c> {
    pub provider: &'c str,
    pub recipes: &'c [Recipe],
    pub secrets: &'c [NamedSecret],
    pub head: &'c Head<'c>,
    pub body: &'c [u8],
    pub now: Now,
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
    if hints.is_empty() {
        hints.extend(other_preset(case));
    }
    if hints.is_empty() {
        hints.extend(missing_header(case));
    }
    hints
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
fn other_key(case: &Case<'_>, recipe: &Recipe, secret: &[u8]) -> Option<String> {
    let rule = |decode| KeyRule { decode, ..recipe.key.clone() };
    let text = KeyRule::default();
    let ways = [
        (secret.trim_ascii(), recipe.key.clone(), "has white space around it: remove that from the file"),
        (
            secret,
            text,
            "is used as text by the sender, prefix and all: the key needs decode: utf8 and no strip",
        ),
        (
            secret,
            rule(KeyDecoding::Utf8),
            "is used as text by the sender, without its prefix: the key needs decode: utf8",
        ),
        (secret, rule(KeyDecoding::Base64), "is base64 to the sender: the key needs decode: base64"),
        (secret, rule(KeyDecoding::Hex), "is hexadecimal to the sender: the key needs decode: hex"),
    ];
    ways.into_iter().find_map(|(secret, rule, hint)| {
        let key = rule.decode(secret).ok()?;
        holds(recipe, &key, case.head, case.body).then(|| hint.to_owned())
    })
}

/// The body, as it was before something in between changed it.
fn other_body(case: &Case<'_>, recipe: &Recipe, key: &[u8]) -> Option<String> {
    type Change = fn(&[u8]) -> Option<Vec<u8>>;
    let changes: [(Change, &str); 10] = [
        (
            without_newline,
            "a newline was added to the end of the body: send the file as it is (curl --data-binary)",
        ),
        (|body| Some([body, b"\n"].concat()), "a newline was taken off the end of the body"),
        (with_crlf, "line ends were changed from CR LF to LF"),
        (with_lf, "line ends were changed from LF to CR LF"),
        (
            |body| json::reformat(body, json::Style::Compact),
            "the JSON was re-formatted, the sender signs it without spaces: pass the body on untouched",
        ),
        (
            |body| json::reformat(body, json::Style::Spaced),
            "the JSON was re-formatted, the sender signs it with a space after ':' and ',': pass the body on untouched",
        ),
        (
            |body| json::reformat(body, json::Style::Pretty),
            "the JSON was re-formatted, the sender signs it indented: pass the body on untouched",
        ),
        (
            json::sorted,
            "the JSON was re-serialised, the sender signs it with sorted keys: pass the body on untouched",
        ),
        (
            json::escaped,
            "the JSON was re-serialised, the sender signs it with \\u escapes: pass the body on untouched",
        ),
        (
            decompressed,
            "the body arrives compressed, but the sender signs it uncompressed: this needs its own scheme",
        ),
    ];
    let fits = |change: &Change| change(case.body).is_some_and(|body| holds(recipe, key, case.head, &body));
    changes.iter().find(|(change, _)| fits(change)).map(|(_, hint)| (*hint).to_owned())
}

/// The recipe, with one word changed.
fn other_recipe(case: &Case<'_>, recipe: &Recipe, key: &[u8]) -> Option<String> {
    const ALGORITHMS: [(Algorithm, &str); 4] = [
        (Algorithm::HmacSha1, "hmac-sha1"),
        (Algorithm::HmacSha256, "hmac-sha256"),
        (Algorithm::HmacSha384, "hmac-sha384"),
        (Algorithm::HmacSha512, "hmac-sha512"),
    ];
    const ENCODINGS: [(Encoding, &str); 3] =
        [(Encoding::Hex, "hex"), (Encoding::Base64, "base64"), (Encoding::Base64url, "base64url")];

    for (algorithm, algorithm_name) in ALGORITHMS {
        for (encoding, encoding_name) in ENCODINGS {
            let mut other = Recipe { algorithm, ..recipe.clone() };
            other.signature.encoding = encoding;
            if holds(&other, key, case.head, case.body) {
                return Some(format!(
                    "the sender signs with {algorithm_name}, encoded as {encoding_name}: the scheme must say so"
                ));
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

/// JSON as other programs write it.
mod json {
    use std::fmt::Write;

    #[derive(Clone, Copy, PartialEq, Eq)]
    pub enum Style {
        Compact,
        /// A space after `:` and `,`.
        Spaced,
        /// Two spaces a level.
        Pretty,
    }

    /// The same tokens in the same order, with other white space between them.
    pub fn reformat(body: &[u8], style: Style) -> Option<Vec<u8>> {
        serde_json::from_slice::<serde::de::IgnoredAny>(body).ok()?;
        let mut out = Vec::with_capacity(body.len() * 2);
        let mut level = 0usize;
        let mut raw = body.iter().copied();
        let mut previous = 0;
        while let Some(byte) = raw.next() {
            match byte {
                b'"' => {
                    first_in_line(&mut out, previous, level, style);
                    out.push(byte);
                    let mut escaped = false;
                    for inner in raw.by_ref() {
                        out.push(inner);
                        if inner == b'"' && !escaped {
                            break;
                        }
                        escaped = inner == b'\\' && !escaped;
                    }
                }
                b if b.is_ascii_whitespace() => continue,
                b'{' | b'[' => {
                    first_in_line(&mut out, previous, level, style);
                    out.push(byte);
                    level += 1;
                }
                b'}' | b']' => {
                    level = level.saturating_sub(1);
                    if style == Style::Pretty && !matches!(previous, b'{' | b'[') {
                        new_line(&mut out, level);
                    }
                    out.push(byte);
                }
                b',' => {
                    out.push(byte);
                    match style {
                        Style::Compact => {}
                        Style::Spaced => out.push(b' '),
                        Style::Pretty => new_line(&mut out, level),
                    }
                }
                b':' => {
                    out.push(byte);
                    if style != Style::Compact {
                        out.push(b' ');
                    }
                }
                _ => {
                    first_in_line(&mut out, previous, level, style);
                    out.push(byte);
                }
            }
            previous = byte;
        }
        Some(out)
    }

    /// The first value of an object or array has a line of its own.
    fn first_in_line(out: &mut Vec<u8>, previous: u8, level: usize, style: Style) {
        if style == Style::Pretty && matches!(previous, b'{' | b'[') {
            new_line(out, level);
        }
    }

    fn new_line(out: &mut Vec<u8>, level: usize) {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', level * 2));
    }

    pub fn sorted(body: &[u8]) -> Option<Vec<u8>> {
        let value: serde_json::Value = serde_json::from_slice(body).ok()?;
        serde_json::to_vec(&value).ok()
    }

    /// Everything beyond ASCII as `\u` escapes.
    pub fn escaped(body: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(body).ok().filter(|text| !text.is_ascii())?;
        let mut out = String::with_capacity(text.len() * 2);
        for c in text.chars() {
            if c.is_ascii() {
                out.push(c);
            } else {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
        Some(out.into_bytes())
    }
}
