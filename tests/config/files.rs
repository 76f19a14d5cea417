//! Configuration files: good ones load, and each bad one has one fault, whose place, key
//! and remedy are named in the comment on its first line.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use hookgate::config::flags::{Given, RunArgs};
use hookgate::config::raw::{Preset, SchemeWords, ValueForm};
use hookgate::config::secret::Secret;
use hookgate::config::{Config, Origin, Problem, Problems, provider};
use hookgate::gate::scheme::algorithm::Algorithm;
use hookgate::gate::scheme::key::KeyDecoding;
use serde_json::Value;

fn load(path: &Path) -> Result<Config, Problems> {
    Config::load(&Given::flags(RunArgs { config: Some(path.to_owned().into()), ..RunArgs::default() }))
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder} holds files");
    files
}

#[test]
fn good_files_load() {
    for file in files("tests/config/good") {
        if let Err(problems) = load(&file) {
            panic!("{}: {problems}", file.display());
        }
    }
}

#[test]
fn the_examples_load_once_their_secrets_are_mounted() {
    let settings = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "yaml");
    for file in files("conf/examples").into_iter().filter(settings) {
        let text = std::fs::read_to_string(&file).unwrap();
        let mounted: String =
            text.split("/etc/hookgate/secrets/").collect::<Vec<_>>().join("tests/config/secrets/");
        let copy = std::env::temp_dir().join(format!("hookgate-example-{}.yaml", std::process::id()));
        std::fs::write(&copy, mounted).unwrap();
        if let Err(problems) = load(&copy) {
            panic!("{}: {problems}", file.display());
        }
        std::fs::remove_file(&copy).unwrap();
    }
}

#[test]
fn each_bad_file_is_told_its_fault() {
    let mut wrong = Vec::new();
    for file in files("tests/config/bad") {
        let text = std::fs::read_to_string(&file).unwrap();
        let expected = text.lines().next().unwrap().strip_prefix("# ").unwrap();
        let problems = load(&file).err().unwrap_or_else(|| panic!("{} loads", file.display()));
        let first = problems.0[0].to_string();
        let place = format!("{}:", file.display());
        let told = first.strip_prefix(&place).unwrap_or(&first);
        let fits = if expected.starts_with(|c: char| c.is_ascii_digit()) {
            told.starts_with(expected)
        } else {
            told.contains(expected)
        };
        if let [_, second, ..] = &problems.0[..] {
            wrong.push(format!("{}: one fault, and this is told as well: {second}", file.display()));
        }
        if !fits {
            wrong.push(format!("{}:\n  told     {first}\n  expected {expected}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every key that the file can have, by its path, as the schema has them.
fn keys_of(schema: &Value, of: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(name) = of["$ref"].as_str() {
        return keys_of(schema, schema.pointer(&name[1..]).unwrap(), path, found);
    }
    for one in of["anyOf"].as_array().into_iter().flatten() {
        keys_of(schema, one, path, found);
    }
    if of["items"].is_object() {
        keys_of(schema, &of["items"], &format!("{path}[0]"), found);
    }
    for (key, of) in of["properties"].as_object().into_iter().flatten() {
        let dot = if path.is_empty() { "" } else { "." };
        let path = format!("{path}{dot}{key}");
        keys_of(schema, of, &path, found);
        found.push(path);
    }
}

/// The file that holds nothing but this.
fn file_with(path: &str, value: &Value) -> Value {
    let Some(at) = path.rfind(['.', '[']) else { return serde_json::json!({ path: value }) };
    let (above, last) = (&path[..at], &path[at + 1..]);
    let part =
        if path.ends_with(']') { serde_json::json!([value]) } else { serde_json::json!({ last: value }) };
    file_with(above, &part)
}

#[test]
fn whatever_key_has_a_value_of_another_kind_is_named_with_a_remedy() {
    let schema = serde_json::to_value(schemars::schema_for!(hookgate::config::file::File)).unwrap();
    let mut keys = Vec::new();
    keys_of(&schema, &schema, "", &mut keys);
    assert!(keys.len() > 150 && keys.iter().any(|key| key == "routes[0].inbox.retry.first"), "{keys:?}");
    let file = std::env::temp_dir().join(format!("hookgate-kinds-{}.yaml", std::process::id()));
    let mut wrong = Vec::new();
    for key in &keys {
        std::fs::write(&file, file_with(key, &serde_json::json!([[[]]])).to_string()).unwrap();
        let Err(problems) = load(&file) else {
            wrong.push(format!("{key}: loads"));
            continue;
        };
        // Of a part that lacks another key as well, one of the two is told.
        let of_key = |problem: &&Problem| {
            let lacks = problem.message.starts_with("missing field") && key.starts_with(&problem.key);
            problem.place.is_some() && (problem.key.starts_with(key.as_str()) || lacks)
        };
        match problems.0.iter().find(of_key) {
            None => wrong.push(format!("{key}: {problems}")),
            Some(problem) if !REMEDIES.iter().any(|word| problem.message.contains(word)) => {
                wrong.push(format!("{key} without a remedy: {}", problem.message));
            }
            Some(_) => {}
        }
    }
    std::fs::remove_file(file).unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is said to somebody who shall write something else.
const REMEDIES: [&str; 4] = ["write", "such as", "expected", "leave"];

#[test]
fn a_window_of_a_route_is_shown_with_its_origin_and_frees_the_others() {
    let of = |text: &str| {
        let file = std::env::temp_dir().join(format!("hookgate-window-{}.yaml", std::process::id()));
        std::fs::write(&file, text).unwrap();
        let config = load(&file).unwrap_or_else(|problems| panic!("{text}: {problems}"));
        std::fs::remove_file(file).unwrap();
        config
    };
    let shown = |lines: &str| {
        let secrets = "secrets: [{ file: tests/config/secret }]";
        of(&format!("routes:\n  - {{ provider: stripe, path: /a, {secrets}, {lines} }}\n"))
    };
    let own = shown("replay: { window: 90d }, tolerance: 48h");
    assert_eq!(setting(&own, "routes[0].replay.window"), ("2160h".to_owned(), Origin::File));
    assert_eq!(setting(&own, "replay.window"), ("24h".to_owned(), Origin::Default), "it need not be as long");
    let useless = shown("replay: { window: 2h }, identity: none");
    assert!(
        useless.notices.iter().any(|n| n.contains("replay.window has no effect")),
        "{:?}",
        useless.notices
    );
    // What is never remembered cannot be forgotten too early.
    shown("tolerance: 48h, identity: none");
    shown("replay: { window: 2m }, tolerance: 48h, identity: none");
    let of_provider = "routes: [{ provider: tiktok, path: /a, secrets: [{ file: tests/config/secret }] }]";
    for (common, own) in
        [("", Some(("73h".to_owned(), Origin::Provider))), ("replay: { window: 30d }\n", None)]
    {
        let config = of(&format!("{common}{of_provider}"));
        let own_of = config.settings.iter().find(|setting| setting.key == "routes[0].replay.window");
        assert_eq!(own_of.map(|own| (own.value.clone(), own.origin)), own, "{common}");
    }
    let none = shown("identity: signed");
    assert!(none.settings.iter().all(|setting| setting.key != "routes[0].replay.window"));
}

#[test]
fn a_sender_that_does_not_say_how_it_signs_retries_is_told_of() {
    for (provider, tolerance, told) in [
        ("workos", "", true),
        ("workos", ", tolerance: 73h, replay: { window: 80h }", false),
        ("stripe", "", false),
        ("github", "", false),
    ] {
        let file = std::env::temp_dir().join(format!("hookgate-stamps-{}.yaml", std::process::id()));
        let secrets = "secrets: [{ file: tests/config/secret }]";
        std::fs::write(
            &file,
            format!("routes: [{{ provider: {provider}, path: /a, {secrets}{tolerance} }}]\n"),
        )
        .unwrap();
        let config = load(&file).unwrap_or_else(|problems| panic!("{problems}"));
        std::fs::remove_file(file).unwrap();
        let notice =
            config.notices.iter().any(|notice| notice.contains("whether a retry is signed with a new time"));
        assert_eq!(notice, told, "{provider}{tolerance}: {:?}", config.notices);
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let file = "listen_tls: ['127.0.0.1:0']\ntls_cert_file: tests/config/secret\nreplay: { window: 1s }\n";
    let problems = loaded(file, &[]).err().unwrap();
    assert_eq!(problems.0.len(), 2, "no certificate's key, and a window that is too short: {problems}");
}

pub fn flags(args: &[&str]) -> Given {
    use clap::Parser;
    let args = ["hookgate", "run"].iter().chain(args);
    let hookgate::cli::Command::Run(args) = hookgate::cli::Cli::try_parse_from(args).unwrap().command else {
        unreachable!("run was asked for")
    };
    Given::flags(*args)
}

fn setting(config: &Config, key: &str) -> (String, Origin) {
    let setting = config.settings.iter().find(|s| s.key == key).unwrap_or_else(|| panic!("{key} is shown"));
    (setting.value.clone(), setting.origin)
}

#[test]
fn flags_win_over_the_file_and_the_file_over_the_preset() {
    let config = Config::load(&flags(&[
        "--config=tests/config/good/contract.yaml",
        "--replay-window=48h",
        "--rate-limit=5/s",
    ]))
    .unwrap_or_else(|problems| panic!("{problems}"));
    for (key, value, origin) in [
        ("replay.window", "48h", Origin::Flag),
        ("routes[0].rate_limit", "5/1s", Origin::Flag),
        ("routes[0].max_body", "25MiB", Origin::Provider),
        ("routes[1].max_body", "1MiB", Origin::Default),
        ("limits.max_buffered", "64MiB", Origin::File),
        ("header_timeout", "10s", Origin::Default),
    ] {
        assert_eq!(setting(&config, key), (value.to_owned(), origin), "{key}");
    }
}

#[test]
fn flags_of_the_only_route_are_refused_where_there_are_several() {
    let given = flags(&["--config=tests/config/good/contract.yaml", "--path=/other"]);
    let problems = Config::load(&given).err().unwrap();
    assert_eq!(problems.0[0].key, "--path");
}

#[test]
fn a_run_with_flags_alone_is_a_file_with_one_route() {
    let config =
        Config::load(&flags(&["--secret-file=tests/config/secret", "--provider=github", "--max-body=2MiB"]))
            .unwrap_or_else(|problems| panic!("{problems}"));
    let route = &config.routes[0].route;
    assert_eq!((&*route.name, &*route.provider, route.max_body), ("default", "github", 2 << 20));
    assert_eq!(setting(&config, "routes[0].secrets[0]").1, Origin::Flag);
}

#[test]
fn a_secret_that_one_form_cannot_use_leaves_that_form_out_and_says_so() {
    let trial = |secret: &str| {
        let given = Given { secret: Some(Secret::from_bytes(secret.into()).0), ..Given::default() };
        Config::load(&given)
    };
    let config = trial("not base64, but long enough").unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.routes[0].route.signature.schemes().len(), 1, "Standard Webhooks needs base64");
    assert!(config.notices.iter().any(|n| n.contains("webhook-signature")), "{:?}", config.notices);
    assert!(trial("short!").is_err(), "no form can use it");
    assert_eq!(trial("").err().unwrap().0[0].key, "HOOKGATE_SECRET", "an empty secret is none");
}

/// With flags alone, or with the words of the file before them.
fn loaded(file: &str, args: &[&str]) -> Result<Config, Problems> {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("hookgate-loaded-{}-{count}.yaml", std::process::id()));
    std::fs::write(&path, file).unwrap();
    let config = format!("--config={}", path.display());
    let secret = "--secret-file=tests/config/secret";
    let loaded = Config::load(&flags(&[&[config.as_str(), secret, "--provider=slack"], args].concat()));
    std::fs::remove_file(&path).unwrap();
    loaded
}

#[test]
fn off_is_written_as_people_write_it() {
    for off in ["off", "no", "false", "Off", "NO", "False", "\"off\"", "'no'", "\"false\""] {
        for (file, key, shown) in [
            (format!("routes: [{{ rate_limit: {off} }}]"), "routes[0].rate_limit", "off"),
            (format!("routes: [{{ rate_limit: {{ limit: {off} }} }}]"), "routes[0].rate_limit", "off"),
            (format!("routes: [{{ failure_limit: {off} }}]"), "routes[0].failure_limit", "off"),
            (format!("routes: [{{ handshake: {off} }}]"), "routes[0].handshake", "off"),
            (format!("proxy_protocol: {off}"), "proxy_protocol", "off"),
            (format!("insecure_allow_http: {off}"), "insecure_allow_http", "false"),
        ] {
            let config = loaded(&file, &[]).unwrap_or_else(|problems| panic!("{file}: {problems}"));
            assert_eq!(setting(&config, key), (shown.to_owned(), Origin::File), "{file}");
        }
    }
    for flag in ["rate-limit", "failure-limit", "handshake", "proxy-protocol", "insecure-allow-http"] {
        for off in ["off", "no", "false", "Off"] {
            loaded("", &[&format!("--{flag}={off}")]).unwrap_or_else(|problems| panic!("{problems}"));
        }
    }
    for on in ["on", "true", "yes"] {
        let problems = loaded(&format!("routes: [{{ rate_limit: {on} }}]"), &[]).err().unwrap();
        assert!(problems.to_string().contains("is no rate: write for example"), "{problems}");
    }
}

#[test]
fn who_could_speak_for_others_is_told() {
    let told = |args: &[&str]| loaded("", args).unwrap_or_else(|problems| panic!("{problems}")).notices;
    let says = |notices: &[String], what: &str| notices.iter().any(|notice| notice.contains(what));
    for wide in ["0.0.0.0/0", "::/0", "0.0.0.0/1", "::ffff:0:0/96"] {
        let notices = told(&["--trusted-proxy=10.0.0.0/8", &format!("--trusted-proxy={wide}")]);
        assert!(says(&notices, "holds public addresses"), "{wide}: {notices:?}");
    }
    assert!(!says(&told(&["--trusted-proxy=10.0.0.0/8,fc00::/7"]), "holds public addresses"));
    assert!(says(&told(&["--proxy-protocol=optional"]), "senders can write it themselves"));
    let required = told(&["--proxy-protocol=required", "--trusted-proxy=10.0.0.0/8"]);
    assert!(!says(&required, "senders can write it themselves"), "{required:?}");
    assert!(says(&required, "passes on what senders write"), "{required:?}");
    let own = told(&["--proxy-protocol=required", "--proxy-protocol-from=10.0.0.0/8"]);
    assert!(!says(&own, "passes on what senders write"), "{own:?}");
    let wide = told(&["--proxy-protocol=required", "--proxy-protocol-from=0.0.0.0/0"]);
    assert!(says(&wide, "proxy_protocol_from: 0.0.0.0/0 holds public addresses"), "{wide:?}");
}

#[test]
fn nothing_that_is_shown_holds_a_secret() {
    let config = load(Path::new("tests/config/good/contract.yaml")).unwrap_or_else(|p| panic!("{p}"));
    let secret = std::fs::read_to_string("tests/config/secret").unwrap();
    let shown = format!("{:?} {:?} {:?}", config.settings, config.notices, config.startup);
    assert!(!shown.contains(&secret) && !shown.contains("MfKQ9r8G"));
}

#[test]
fn a_secret_on_two_routes_is_warned_of_by_their_names() {
    let folder = std::env::temp_dir().join(format!("hookgate-shared-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let notices = |secrets: [&str; 3]| {
        let mut yaml = "routes:\n".to_owned();
        for (n, secret) in secrets.iter().enumerate() {
            let file = folder.join(format!("key-{n}"));
            std::fs::write(&file, format!("{secret} of some length\n")).unwrap();
            let name = ["first", "second", "third"][n];
            writeln!(
                yaml,
                "  - {{ name: {name}, path: /{name}, provider: github, \
                 secrets: [{{ id: id-{n}, file: {} }}] }}",
                file.display()
            )
            .unwrap();
        }
        let path = folder.join("hookgate.yaml");
        std::fs::write(&path, yaml).unwrap();
        load(&path).unwrap_or_else(|problems| panic!("{problems}")).notices
    };
    let shared = |notices: Vec<String>| notices.into_iter().find(|n| n.contains("share a secret"));
    assert_eq!(shared(notices(["one", "two", "three"])), None);
    let said = shared(notices(["same", "two", "same"])).unwrap();
    assert!(said.contains("routes first, third share a secret (key id-0)"), "{said}");
    assert!(!said.contains("same of"), "{said}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_fingerprint_follows_the_content_of_every_file() {
    let folder = std::env::temp_dir().join(format!("hookgate-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let secret = folder.join("secret");
    let print = |text: &str| {
        std::fs::write(&secret, text).unwrap();
        let given = flags(&["--provider=github", &format!("--secret-file={}", secret.display())]);
        Config::load(&given).unwrap_or_else(|p| panic!("{p}")).fingerprint
    };
    assert_eq!(print("one secret of a length"), print("one secret of a length"));
    assert_ne!(print("one secret of a length"), print("two secrets of a length"));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_schema_knows_the_keys_of_the_good_files() {
    let schema = schemars::schema_for!(hookgate::config::file::File).to_value().to_string();
    for key in [
        "routes",
        "allow_ip_file",
        "insecure_allow_http",
        "max_buffered",
        "future_tolerance",
        "strip",
        "handshake",
        "handshake_token_file",
        "not_after",
        "signed",
        "answer",
    ] {
        assert!(schema.contains(&format!("\"{key}\"")), "{key}");
    }
}

/// What an editor shows beside a key, and the only reference that is always at hand.
#[test]
fn every_key_of_the_schema_is_described() {
    let schema = schemars::schema_for!(hookgate::config::file::File).to_value();
    let mut structs = vec![("the file", &schema)];
    structs.extend(schema["$defs"].as_object().unwrap().iter().map(|(name, of)| (name.as_str(), of)));
    let mut nameless = Vec::new();
    let mut keys = 0;
    for (name, of) in structs {
        for (key, value) in of["properties"].as_object().into_iter().flatten() {
            keys += 1;
            if value["description"].as_str().is_none_or(|text| text.len() < 10) {
                nameless.push(format!("{key} of {name}"));
            }
        }
    }
    assert!(nameless.is_empty(), "without a sentence: {}", nameless.join(", "));
    assert!(keys > 80, "{keys} keys were looked at");
}

#[test]
fn every_preset_is_a_route_that_loads() {
    let folder = std::env::temp_dir().join(format!("hookgate-keys-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, _) in provider::PRESETS {
        let preset = provider::preset(name).unwrap();
        if preset.schemes[0].keys.is_some() {
            loads_with_its_examples(&folder, name, &preset);
            continue;
        }
        let file = folder.join(name);
        std::fs::write(&file, fitting_secret(&preset.schemes[0])).unwrap();
        let secret = format!("--secret-file={}", file.display());
        let given =
            flags(&[&secret, &format!("--provider={name}"), "--public-url=https://example.com/hooks"]);
        if let Err(problems) = Config::load(&given) {
            panic!("{name}: {problems}");
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A route whose keys are fetched, with what its preset gives as examples of what it needs.
fn loads_with_its_examples(folder: &Path, name: &str, preset: &Preset) {
    let mut route = format!("routes:\n  - name: {name}\n    path: /hooks\n    provider: {name}\n");
    for (key, need) in &preset.needs {
        let example = match need.form {
            Some(ValueForm::File) => {
                need.example.replace("/etc/hookgate/", &format!("{}/", folder.display()))
            }
            _ => format!("\"{}\"", need.example),
        };
        for path in example.split([' ', ',']).filter(|word| word.starts_with('/')) {
            std::fs::write(path, "a-credential").unwrap();
        }
        writeln!(route, "    {key}: {example}").unwrap();
    }
    let file = folder.join(format!("{name}.yaml"));
    std::fs::write(&file, &route).unwrap();
    match Config::load(&flags(&[&format!("--config={}", file.display())])) {
        Err(problems) => panic!("{name}: {problems}\n{route}"),
        Ok(config) => assert!(config.routes[0].elsewhere.is_some(), "{name}: {route}"),
    }
}

/// A secret of the kind that the scheme wants.
fn fitting_secret(scheme: &SchemeWords) -> String {
    let file = match scheme.algorithm {
        Algorithm::Ed25519 => "ed25519.pem",
        Algorithm::EcdsaP256Sha256 => "ecdsa-p256.pem",
        Algorithm::EcdsaP521Sha512 => "ecdsa-p521.pem",
        Algorithm::RsaSha1 | Algorithm::RsaSha256 | Algorithm::RsaSha512 => "rsa-2048.pem",
        // Text, hexadecimal and base64 at once.
        _ => return std::fs::read_to_string("tests/config/anykey").unwrap(),
    };
    let pem = std::fs::read_to_string(format!("tests/config/public/{file}")).unwrap();
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    match scheme.key.decode {
        KeyDecoding::Hex => HEXLOWER.encode(&BASE64.decode(base64.as_bytes()).unwrap()),
        KeyDecoding::Base64 => base64,
        KeyDecoding::Spki | KeyDecoding::Utf8 | KeyDecoding::Nfkd => pem,
    }
}

/// A value, and the flags beside it.
type Wrong = (&'static str, &'static [&'static str]);

/// For each flag a value that can be read and is wrong, and what else must be said for that;
/// `None` where every value that can be read is right.
const WRONG: &[(&str, Option<Wrong>)] = &[
    ("config", Some(("tests/config/nothing", &[]))),
    ("listen", None),
    ("listen-tls", None),
    ("tls-cert-file", Some(("tests/config/nothing", TLS))),
    ("tls-key-file", Some(("tests/config/secret", TLS))),
    ("tls-client-ca-file", Some(("tests/config/nothing", TLS))),
    ("ops-listen", None),
    ("ops-host", None),
    ("upstream", None),
    ("upstream-timeout", Some(("0s", &[]))),
    ("upstream-connect-timeout", Some(("0s", &[]))),
    ("provider", Some(("nobody", &[]))),
    ("path", Some(("relative", &[]))),
    ("public-url", Some(("nowhere", &[]))),
    ("secret-file", Some(("tests/config/short", &[]))),
    ("handshake", Some(("off", &["--provider=github"]))),
    ("handshake-token-file", Some(("tests/config/secret", &["--provider=github"]))),
    ("expect-every", Some(("1ms", &[]))),
    ("allow-ip", Some(("published", &["--provider=slack"]))),
    ("allow-ip-file", Some(("tests/config/nothing", &[]))),
    ("tolerance", None),
    ("future-tolerance", None),
    ("rate-limit", None),
    ("failure-limit", None),
    ("mode", None),
    ("max-body", Some(("1GiB", &[]))),
    ("max-concurrent", Some(("0", &[]))),
    ("trusted-proxy", None),
    ("real-ip-header", None),
    ("proxy-protocol", Some(("required", &[]))),
    ("proxy-protocol-from", Some(("10.0.0.0/8", &[]))),
    ("insecure-allow-http", None),
    ("ready-without-store", None),
    ("insecure-short-secret", None),
    ("replay-window", Some(("1s", &[]))),
    ("replay-capacity", Some(("0", &[]))),
    ("replay-store", Some(("redis://127.0.0.1:1", &[]))),
    ("replay-store-prefix", Some(("{braces}", STORE))),
    ("replay-store-password-file", Some(("tests/config/empty", SHARED))),
    ("replay-store-ca-file", Some(("tests/config/secret", SHARED))),
    ("replay-store-timeout", Some(("1m", SHARED))),
    ("on-store-error", None),
    ("ready-without-store", None),
    ("replay-file", Some(("tests/config", &[]))),
    ("keys-ca-file", Some(("tests/config/secret", &[]))),
    ("keys-proxy", Some(("socks5://127.0.0.1:1", &[]))),
    ("keys-dir", None),
    ("keys-allow-private", None),
    ("state-dir", Some(("tests/config/secret", &[]))),
    ("inbox", Some(("always", &["--provider=github"]))),
    ("max-buffered", None),
    ("max-connections", Some(("0", &[]))),
    ("max-connections-per-address", Some(("0", &[]))),
    ("header-timeout", Some(("0s", &[]))),
    ("body-timeout", Some(("0s", &[]))),
    ("idle-timeout", Some(("0s", &[]))),
    ("control-socket", Some(("tests/config", &[]))),
    ("strict-start", None),
    ("shutdown-delay", None),
    ("shutdown-timeout", None),
    ("reload-interval", None),
    ("threads", Some(("0", &[]))),
    ("otlp-endpoint", None),
    ("log-format", None),
    ("log-level", None),
];
const TLS: &[&str] = &[
    "--listen-tls=127.0.0.1:0",
    "--tls-cert-file=tests/config/authority.pem",
    "--tls-key-file=tests/config/nothing",
];
const STORE: &[&str] = &["--replay-store=redis://127.0.0.1:1"];
const SHARED: &[&str] = &["--replay-store=redis://127.0.0.1:1", "--replay-store-prefix=shop:"];

/// What is wrong, by its names, as `check` tells it.
fn wrong_keys(flags: &[String], variable: Option<(&str, &str)>) -> Vec<String> {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_hookgate"))
        .args(["check", "-o", "json"])
        .args(flags)
        .envs(variable)
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(78),
        "{flags:?} {variable:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = told["problems"].as_array().unwrap();
    problems.iter().map(|problem| problem["key"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_is_wrong_is_named_as_it_was_given() {
    let command = hookgate::cli::command();
    let run = command.find_subcommand("run").unwrap();
    let flags: Vec<_> = run.get_arguments().filter_map(clap::Arg::get_long).collect();
    for flag in flags.iter().filter(|flag| **flag != "help") {
        assert!(WRONG.iter().any(|(known, _)| known == flag), "WRONG speaks of --{flag}");
    }
    for (flag, wrong) in WRONG {
        let Some((value, others)) = wrong.as_ref().filter(|_| flags.contains(flag)) else { continue };
        let same = format!("--{flag}=");
        let mut others: Vec<_> =
            others.iter().filter(|o| !o.starts_with(&same)).map(ToString::to_string).collect();
        if *flag != "secret-file" {
            others.push("--secret-file=tests/config/secret".to_owned());
        }
        let variable = format!("HOOKGATE_{}", flag.replace('-', "_").to_uppercase());
        let named = wrong_keys(&others, Some((&variable, value)));
        assert!(named.contains(&variable), "{variable}={value}: {named:?}");
        others.push(format!("{same}{value}"));
        let named = wrong_keys(&others, None);
        assert!(named.iter().any(|name| *name == format!("--{flag}")), "--{flag}={value}: {named:?}");
        for name in named.iter().filter_map(|name| name.strip_prefix("--")) {
            assert!(flags.contains(&name), "there is no --{name}");
        }
    }
}
