//! What `check` and the start tell of a configuration that is valid and will not work.

use std::fs;

use hookgate::config::flags::Given;
use hookgate::config::{Config, provider};

use crate::files::flags;

struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hookgate-told-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn notices(given: &Given) -> Vec<String> {
    Config::load(given).unwrap_or_else(|problems| panic!("{problems}")).notices
}

/// The notices of a gate for GitHub with these flags.
fn told(args: &[&str]) -> String {
    notices(&flags(&[&["--secret-file=tests/config/secret", "--provider=github"], args].concat())).join("\n")
}

#[test]
fn what_cannot_arrive_or_does_not_fit_what_stands_in_front_is_told() {
    const PROXY: &str = "--trusted-proxy=10.0.0.0/8";
    for (says, args, silent) in [
        ("nothing can arrive", &[][..], &[PROXY][..]),
        ("nothing can arrive", &[], &["--insecure-allow-http"]),
        ("idle_timeout: 30s is no longer than the 60s", &[PROXY], &[PROXY, "--idle-timeout=75s"]),
        ("idle_timeout: 1m is no longer", &[PROXY, "--idle-timeout=1m"], &["--insecure-allow-http"]),
        ("upstream_timeout: nginx", &[PROXY, "--upstream-timeout=60s"], &[PROXY, "--upstream-timeout=59s"]),
        ("what is over rate_limit is answered 429", &["--rate-limit=10/1m"], &["--rate-limit=off"]),
        ("--tolerance has no effect", &["--tolerance=5m"], &["--provider=stripe", "--tolerance=5m"]),
        ("--future-tolerance has no effect", &["--future-tolerance=5m"], &[]),
    ] {
        let with = told(args);
        assert!(with.contains(says), "{args:?}: {with}");
        let without = if silent.contains(&"--provider=stripe") {
            notices(&flags(&[&["--secret-file=tests/config/secret"], silent].concat())).join("\n")
        } else {
            told(silent)
        };
        assert!(!without.contains(says), "{silent:?}: {without}");
    }
}

#[test]
fn a_secret_that_is_something_else_is_told() {
    let folder = Folder::new("secrets");
    let file = folder.0.join("key");
    let told = |provider: &str, secret: &[u8]| {
        fs::write(&file, secret).unwrap();
        let file = format!("--secret-file={}", file.display());
        let told = notices(&flags(&[&file, &format!("--provider={provider}"), "--insecure-allow-http"]));
        let shown = String::from_utf8_lossy(secret);
        assert!(!told.iter().any(|notice| notice.contains(shown.trim())), "{told:?}");
        told.join("\n")
    };
    let utf16: Vec<u8> = "a secret of length\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (provider, secret, says) in [
        ("stripe", &b"sk_live_0123456789abcdef"[..], "begins with sk_live_, as Stripe's API keys do"),
        ("github", b"ghp_0123456789abcdefghij", "begins with ghp_, as GitHub's API keys do"),
        ("github", b"\xef\xbb\xbfa secret of length", "byte order mark"),
        ("github", &utf16, "UTF-16"),
        ("github", b"\"a secret of length\"\n", "quotes"),
        ("github", b"GITHUB_WEBHOOK_SECRET=0123456789abcdef", "KEY=VALUE"),
        ("github", b" a secret of length\n", "white space"),
    ] {
        let told = told(provider, secret);
        assert!(told.contains(says) && told.contains("/key: "), "{says}: {told}");
    }
    for (provider, secret) in [
        ("stripe", &b"whsec_0123456789abcdef"[..]),
        ("github", b"sk_live_0123456789abcdef"),
        ("paystack", b"sk_live_0123456789abcdef"),
    ] {
        let told = told(provider, secret);
        assert!(!told.contains("/key: "), "{provider}: {told}");
    }
}

/// A secret that the provider or its SDK signed with is none of these.
#[test]
fn no_secret_of_a_vector_looks_like_an_api_key() {
    let mut looked_at = 0;
    for (name, _) in provider::PRESETS {
        let api_keys = provider::preset(name).unwrap().api_keys;
        let Ok(vectors) = fs::read_to_string(format!("tests/vectors/{name}.json")) else { continue };
        let vectors: serde_json::Value = serde_json::from_str(&vectors).unwrap();
        for vector in vectors.as_array().unwrap() {
            let secret = vector["secret"].as_str().unwrap_or_default();
            assert!(!api_keys.iter().any(|prefix| secret.starts_with(prefix)), "{name}: {secret}");
            looked_at += usize::from(!api_keys.is_empty());
        }
    }
    assert!(looked_at > 10, "{looked_at} vectors of presets that know their API keys");
}

#[test]
fn each_route_has_a_line() {
    let config = Config::load(&flags(&["--config=tests/config/good/secret-missing.yaml"]));
    let lines: Vec<_> = config.unwrap_or_else(|problems| panic!("{problems}")).routes_in_words().collect();
    assert_eq!(lines.len(), 2);
    let print = lines[0].split("(sha256 ").nth(1).and_then(|rest| rest.split("…)").next()).unwrap();
    assert!(print.len() == 4 && print.bytes().all(|b| b.is_ascii_hexdigit()), "{}", lines[0]);
    let expected =
        format!("github  POST /hooks/github  1 key (sha256 {print}…)  enforce  → http://127.0.0.1:8080");
    assert_eq!(lines[0], expected);
    assert_eq!(
        lines[1],
        "partner  POST /hooks/partner  no key, awaits nowhere  enforce  → http://127.0.0.1:8080"
    );
}
