//! Schemes of random words, as users might write them for their own senders.

use std::fmt::Write as _;

use hookgate::config::raw;
use hookgate::config::scheme::{check_choice, compile};
use http::Method;

use crate::rng::Rng;
use crate::senders::Sender;

impl Sender {
    /// Of one or two schemes that a configuration may hold.
    pub fn random(rng: &mut Rng) -> Self {
        loop {
            let words: Vec<_> = (0..if rng.chance(30) { 2 } else { 1 }).map(|_| random_words(rng)).collect();
            let compiled = words.iter().map(|words| {
                let raw: raw::SchemeWords = serde_saphyr::from_str(words).ok()?;
                compile(&raw, None, None).ok()
            });
            let Some(recipes) = compiled.collect::<Option<Vec<_>>>() else { continue };
            if check_choice(&recipes).is_ok() {
                return Sender::new(words.join("\n"), recipes, vec![Method::POST, Method::GET, Method::PUT]);
            }
        }
    }
}

const PIECES: &[&str] = &[
    "{body}",
    "{body}",
    "{body}",
    "{body|sha256hex}",
    "{body|json}",
    "{header:x-a}",
    "{header:x-b}",
    "{header:x-time}",
    "{header:x-a|lower}",
    "{header:x-b|json}",
    "{kv:t}",
    "{kv:i}",
    "{query:q}",
    "{query:r|lower}",
    "{json:/j}",
    "{json:/k}",
    "{form:f}",
    "{form:g}",
    "{method}",
    "{url}",
    "{url|unescape}",
    "{url_without_query}",
    "{path}",
    "{path|escape_target}",
    "{form_sorted}",
    "{query_sorted}",
    "{raw_query_sorted}",
    "{parameters}",
    "{listed_headers:x-listed}",
    "{[a:]header:x-c[;]}",
    "{[]query:s[.]}",
    "{[b=]query:q[&]}",
    "{[.]header:x-d[]}",
    "{[]body|sha256hex[]}",
];
const TEXT: &[&str] = &["", "", ".", ".", ":", "\\n", "\\n", "&", ";", "v0:", "a:"];

/// What senders do more often than chance does.
const USUAL: &[&str] = &[
    "{header:x-a}.{body}",
    "{header:x-a}.{header:x-time}.{body}",
    "{body}:{header:x-b}",
    "{kv:t}.{body}",
    "{header:x-a};{query:q}:{body}",
];

const TOKEN_ALSO: &[&str] = &[
    "also: 'claim:hash == {body|sha256hex}'",
    "also: 'claim:hash == {[]body|sha256hex[]}'",
    "also: 'claim:hash == {form_sorted}'",
    "also: 'claim:hash == {body|lower}'",
];
const ALSO: &[&str] = &[
    "also: 'query:hash == {body|sha256hex}'",
    "also: 'header:x-a == {body|sha256hex}'",
    "also: 'header:x-b == {[]form_sorted|sha256hex[]}'",
    "also: 'header:x-a == {header:x-b}{body|sha256hex}'",
];
/// What else a scheme may say, and in how many of a hundred it does.
const LINES: &[(usize, &[&str])] = &[
    (20, &["payload: 'form:f'", "payload: 'multipart:json'"]),
    (
        60,
        &[
            "id: 'header:x-a'",
            "id: ['header:x-u', 'json:/id']",
            "id: 'json:/id'",
            "id: 'form:f'",
            "id: 'query:q'",
            "id: 'kv:i'",
            "id: 'claim:jti'",
            "id: ['json:/id', 'header:x-b']",
        ],
    ),
    (
        40,
        &[
            "timestamp: { from: 'header:x-time', unit: s }",
            "timestamp: { from: 'kv:t', unit: ms }",
            "timestamp: { from: ['json:/time'], unit: rfc3339 }",
            "timestamp: { from: 'claim:iat', unit: s, expires: 'claim:exp' }",
            "timestamp: { from: 'header:x-time', unit: rfc3339 }",
        ],
    ),
    (30, &["signs_body: false"]),
    (40, &["assurance: partial"]),
    (
        60,
        &[
            "url: { query: as-received }",
            "url: { query: as-received, either_port: true }",
            "url: { either_port: true }",
        ],
    ),
    (10, &["when: 'query:hash'", "when: 'header:x-w'"]),
    (20, &["type: ['header:x-u', 'json:/type']"]),
];

fn random_words(rng: &mut Rng) -> String {
    let algorithm = *rng.pick(&["hmac-sha256", "hmac-sha256", "hmac-sha1", "digest-sha256"]);
    let from = *rng.pick(&[
        "'header:x-sig'",
        "'header:x-sig'",
        "'header:x-sig'",
        "'query:sig'",
        "'json:/sig'",
        "'form:sig'",
        "['header:x-sig', 'header:x-sig2']",
        "['query:sig', 'form:sig']",
    ]);
    let encoding = *rng.pick(&["encoding: hex", "encoding: base64"]);
    let format = match rng.below(10) {
        0..5 => *rng.pick(&["", "prefix: 'v1,', split: ' ', ", "prefix: 'sha256=', "]),
        5..8 => *rng.pick(&["format: kv, keys: [v1], ", "format: kv, split: ', ', keys: [v1], "]),
        8 => "format: jwt",
        _ => "format: jws-detached",
    };
    let is_token = format.starts_with("format: j");
    let encoding = if is_token { "" } else { encoding };
    let mut words = format!("algorithm: {algorithm}\nsignature: {{ from: {from}, {format}{encoding} }}\n");
    if format != "format: jwt" {
        writeln!(words, "content: [{}]", random_contents(algorithm.starts_with("digest"), rng)).unwrap();
    }
    let also = if format == "format: jwt" { (80, TOKEN_ALSO) } else { (25, ALSO) };
    for (percent, lines) in [also].iter().chain(LINES) {
        if rng.chance(*percent) {
            writeln!(words, "{}", rng.pick(lines)).unwrap();
        }
    }
    words
}

/// A template, and perhaps a second one that differs a little.
fn random_contents(has_secret: bool, rng: &mut Rng) -> String {
    let mut template = (*rng.pick(TEXT)).to_owned();
    for _ in 0..rng.within(1..4) {
        template += *rng.pick(PIECES);
        template += *rng.pick(TEXT);
    }
    if rng.chance(25) {
        (*rng.pick(USUAL)).clone_into(&mut template);
    }
    match (has_secret, rng.chance(50)) {
        (true, true) => template.insert_str(0, "{secret}"),
        (true, false) => template += "{secret}",
        (false, _) => {}
    }
    let mut contents = format!("\"{template}\"");
    if rng.chance(25) {
        let (old, new) = (*rng.pick(&[".", "}", "\\n"]), *rng.pick(&[":", "}:", "}\\n", "}."]));
        write!(contents, ", \"{}\"", template.replacen(old, new, 1)).unwrap();
    }
    contents
}
