//! What newcomers get wrong in their first hour, and what they are told. Every answer names what is
//! wrong and what to write instead, so that it cures the mistake without a look at the documentation.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One mistake: the variables, the arguments, and what the answer must hold.
struct Mistake {
    name: &'static str,
    set: &'static [(&'static str, &'static str)],
    args: &'static [&'static str],
    code: i32,
    told: &'static [&'static str],
}

const fn flags(
    name: &'static str,
    args: &'static [&'static str],
    code: i32,
    told: &'static [&'static str],
) -> Mistake {
    Mistake { name, set: &[], args, code, told }
}

const GITHUB: [&str; 5] = ["check", "--provider", "github", "--secret-file", "secret"];

/// Added to a command that is right.
const FLAGS: &[(&str, &[&str], i32, &[&str])] = &[
    ("an address without a port's host", &["--listen", "17080"], 2, &["--listen", "0.0.0.0:17080"]),
    ("a host name to listen on", &["--listen", "localhost:17080"], 2, &["--listen", "0.0.0.0:17080"]),
    ("a port for the ops listener", &["--ops-listen", "17090"], 2, &["--ops-listen", "0.0.0.0:17080"]),
    (
        "an upstream without a scheme",
        &["--upstream", "localhost:3000"],
        2,
        &["localhost:3000", "http://127.0.0.1:8080"],
    ),
    ("an upstream without a host", &["--upstream", "http://"], 2, &["http://127.0.0.1:8080"]),
    ("a network that is too long", &["--allow-ip", "10.0.0.0/33"], 2, &["10.0.0.0/33", "192.0.2.0/24"]),
    ("a host name for a network", &["--allow-ip", "github.com"], 2, &["github.com", "192.0.2.0/24"]),
    ("any proxy", &["--trusted-proxy", "any"], 2, &["--trusted-proxy", "192.0.2.0/24"]),
    ("a size in words", &["--max-body", "1MBB"], 2, &["--max-body", "1MiB"]),
    ("a duration without a unit", &["--tolerance", "5"], 2, &["no unit", "5m"]),
    ("a rate without a period", &["--rate-limit", "100"], 2, &["100/1m"]),
    ("a number in words", &["--threads", "auto"], 2, &["--threads", "whole number"]),
    ("a path without a slash", &["--path", "webhooks"], 78, &["path", "write /webhooks"]),
    ("a misspelt mode", &["--mode", "enfroce"], 2, &["'enforce'"]),
    ("another program's log level", &["--log-level", "warning"], 2, &["'warn'"]),
    ("a secret on the command line", &["--secret", "x"], 2, &["--secret-file"]),
    ("a misspelt flag", &["--lisen", "0.0.0.0:1"], 2, &["--listen"]),
    ("no replay window", &["--replay-window", "0s"], 78, &["--replay-window", "write at least"]),
    (
        "a shared store without a prefix",
        &["--replay-store", "redis://127.0.0.1"],
        78,
        &["--replay-store-prefix"],
    ),
    ("TLS without a certificate", &["--listen-tls", "127.0.0.1:0"], 78, &["tls_cert_file", "tls_key_file"]),
    ("a URL in one word", &["--public-url", "foo"], 78, &["--public-url", "https://example.com/hooks"]),
];

const COMMANDS: &[Mistake] = &[
    flags("nothing at all", &[], 78, &["no secret", "hookgate demo", "--secret-file", "hookgate run --help"]),
    flags(
        "the command behind its flags",
        &["-c", "x.yaml", "check"],
        2,
        &["the command comes first: hookgate check"],
    ),
    flags("an unknown command", &["serve"], 2, &["serve", "--help"]),
    flags(
        "no secret",
        &["check", "--provider", "github"],
        78,
        &["secrets", "--secret-file", "HOOKGATE_SECRET"],
    ),
    flags(
        "a misspelt provider",
        &["check", "--provider", "gihtub", "--secret-file", "secret"],
        78,
        &["did you mean github?"],
    ),
    flags(
        "a secret file that is not there",
        &["check", "--secret-file", "nowhere"],
        78,
        &["nowhere", "mount the file or correct the path"],
    ),
    flags(
        "an empty secret file",
        &["check", "--secret-file", "empty"],
        78,
        &["empty is empty", "signing secret"],
    ),
    flags(
        "a short secret",
        &["check", "--provider", "github", "--secret-file", "short"],
        78,
        &["fewer than 16", "--insecure-short-secret"],
    ),
    flags(
        "a URL that is signed and not named",
        &["check", "--provider", "twilio", "--secret-file", "secret"],
        78,
        &["public_url", "https://"],
    ),
    flags("a configuration file that is not there", &["check", "-c", "nowhere.yaml"], 78, &["nowhere.yaml"]),
    flags("nothing to sign with", &["sign", "--body", "empty"], 2, &["--secret-file", "HOOKGATE_SECRET"]),
    flags("a word to send to", &["send", "foo", "--secret-file", "secret"], 2, &["\"foo\"", "https://"]),
    flags(
        "authorities that are none",
        &["send", "https://127.0.0.1:1/", "--ca-file", "empty", "--secret-file", "secret"],
        78,
        &["empty", "BEGIN CERTIFICATE"],
    ),
    flags(
        "a captured request that is not there",
        &["verify", "nowhere", "--secret-file", "secret"],
        1,
        &["nowhere"],
    ),
    flags("a misspelt preset to look at", &["providers", "gihub"], 2, &["did you mean github?"]),
    flags("an event of no route", &["forget", "--event", "x"], 2, &["--route", "--control-socket"]),
    Mistake {
        name: "a misspelt variable",
        set: &[("HOOKGATE_PROVIDR", "github")],
        args: &["check", "--secret-file", "secret"],
        code: 78,
        told: &["HOOKGATE_PROVIDR", "did you mean HOOKGATE_PROVIDER?"],
    },
    Mistake {
        name: "a variable of another name",
        set: &[("HOOKGATE_TRUSTED_PROXYS", "::1")],
        args: &["check", "--secret-file", "secret"],
        code: 78,
        told: &["HOOKGATE_TRUSTED_PROXYS", "did you mean HOOKGATE_TRUSTED_PROXY?"],
    },
    Mistake {
        name: "a bad value of a variable",
        set: &[("HOOKGATE_MAX_BODY", "1x")],
        args: &["check", "--secret-file", "secret"],
        code: 2,
        told: &["1MiB", "HOOKGATE_MAX_BODY"],
    },
    Mistake {
        name: "a list in a variable, twice",
        set: &[("HOOKGATE_ALLOW_IP", "::1"), ("HOOKGATE_ALLOW_IPS", "::1")],
        args: &["check", "--secret-file", "secret"],
        code: 78,
        told: &["HOOKGATE_ALLOW_IP", "HOOKGATE_ALLOW_IPS", "keep one"],
    },
];

const ROUTE: &str =
    "routes:\n  - name: g\n    path: /g\n    provider: github\n    secrets: [{ file: secret }]\n";

/// What stands before the route, and behind it.
const FILES: &[(&str, &str, &str, &[&str])] = &[
    ("a port to listen on", "listen: 17080\n", "", &["f.yaml:1:9", "0.0.0.0:17080"]),
    ("threads in words", "threads: auto\n", "", &["f.yaml:1:10", "whole number"]),
    (
        "a singular that is a plural",
        "",
        "    allow_ip: [10.0.0.0/8]\n",
        &["f.yaml:6:5", "did you mean allow_ips?"],
    ),
    ("a duration without a unit", "", "    tolerance: 300\n", &["f.yaml:6:16", "300s"]),
    (
        "a word that a route does not have",
        "",
        "    verbs: [POST]\n",
        &["f.yaml:6:5", "unknown field `verbs`"],
    ),
    ("a misspelt mode", "", "    mode: enforced\n", &["f.yaml:6:11", "did you mean enforce?"]),
    ("a misspelt limit", "limits: { max_bodi: 1MiB }\n", "", &["f.yaml:1:11", "did you mean max_body?"]),
    (
        "two routes of a name",
        "",
        "  - name: g\n    path: /h\n    secrets: [{ file: secret }]\n",
        &["f.yaml:6:5", "give each its own name"],
    ),
    (
        "two routes of a path",
        "",
        "  - name: h\n    path: /g\n    secrets: [{ file: secret }]\n",
        &["f.yaml:7:5", "give each its own"],
    ),
    (
        "an upstream without a scheme",
        "upstream: localhost:3000\n",
        "",
        &["f.yaml:1:11", "http://127.0.0.1:8080"],
    ),
    (
        "a store without a prefix",
        "replay: { store: 'redis://127.0.0.1' }\n",
        "",
        &["f.yaml:1:18", "replay.prefix"],
    ),
    ("a word for keys", "replay: off\n", "", &["f.yaml:1:9", "keys are wanted here"]),
    ("a route key at the top", "allow_ips: [\"::1\"]\n", "", &["f.yaml:1:1", "unknown field `allow_ips`"]),
    ("a network that is none", "", "    allow_ips: everyone\n", &["f.yaml:6:16", "192.0.2.0/24"]),
];

/// Whole files.
const WHOLE: &[(&str, &str, &[&str])] = &[
    ("an empty file", "", &["the file holds no routes", "routes:", "--secret-file"]),
    ("a bracket that is not closed", "listen: [\n", &["f.yaml:1:9", "unclosed bracket '['"]),
    ("no routes", "routes: []\n", &["the file holds no routes"]),
    ("a misspelt routes", "route:\n  - name: g\n", &["f.yaml:1:1", "did you mean routes?"]),
    ("a route without secrets", "routes:\n  - name: g\n    path: /g\n", &["f.yaml:2:5", "secrets"]),
    (
        "a path without a slash",
        "routes:\n  - path: g\n    secrets: [{ file: secret }]\n",
        &["f.yaml:2:11", "write /g"],
    ),
    ("a secret in one word", "routes:\n  - path: /g\n    secrets: [secret]\n", &["f.yaml:3:15", "{ file: "]),
    ("routes that are no list", "routes:\n  name: g\n", &["f.yaml:2:3", "a list is wanted here"]),
];

/// What looks like a mistake and is meant well is taken.
const TAKEN: &[(&str, &str, &str)] = &[
    ("an address that is no list", "listen: 127.0.0.1:17080\n", ""),
    ("an address of version 6 that is no list", "listen: '[::1]:17080'\n", ""),
    ("a proxy that is no list", "trusted_proxies: 10.0.0.0/8\n", ""),
    ("a network that is no list", "", "    allow_ips: 10.0.0.0/8\n"),
    ("rate_limit: off", "", "    rate_limit: off\n"),
    ("failure_limit: off", "", "    failure_limit: off\n"),
    ("proxy_protocol: off", "proxy_protocol: off\n", ""),
];

#[test]
fn every_mistake_is_told_its_cure() {
    let folder = folder("mistakes");
    let mut cured = 0;
    let mut uncured = Vec::new();
    let mut judge = |name: &str, (code, said): (i32, String), wanted: i32, told: &[&str]| {
        if code == wanted && told.iter().all(|what| said.contains(what)) {
            cured += 1;
        } else {
            uncured.push(format!("{name}: exit {code} (wanted {wanted}), wanted {told:?} in\n{said}"));
        }
    };
    for Mistake { name, set, args, code, told } in COMMANDS {
        judge(name, hookgate(&folder, set, args), *code, told);
    }
    for (name, args, code, told) in FLAGS {
        judge(name, hookgate(&folder, &[], &[&GITHUB[..], args].concat()), *code, told);
    }
    for (name, before, behind, told) in FILES {
        judge(name, checked(&folder, &format!("{before}{ROUTE}{behind}")), 78, told);
    }
    for (name, text, told) in WHOLE {
        judge(name, checked(&folder, text), 78, told);
    }
    assert!(uncured.is_empty(), "{}", uncured.join("\n\n"));
    assert!(cured >= 54, "{cured}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_is_meant_well_is_taken() {
    let folder = folder("taken");
    for (name, before, behind) in TAKEN {
        let (code, said) = checked(&folder, &format!("{before}{ROUTE}{behind}"));
        assert_eq!(code, 0, "{name}: {said}");
    }
    let one = ROUTE.replace("[{ file: secret }]", "{ file: secret }");
    assert_eq!(checked(&folder, &one).0, 0, "a secret that is no list");
    for (set, shown) in [
        (&[("HOOKGATE_ALLOW_IPS", "10.0.0.0/8, 192.0.2.0/24")][..], "10.0.0.0/8, 192.0.2.0/24"),
        (&[("HOOKGATE_TRUSTED_PROXIES", "10.0.0.0/8")], "10.0.0.0/8"),
        (&[("HOOKGATE_MAX_BODY", "")], "ok: "),
        (&[("HOOKGATE_PORT", "tcp://10.0.0.1:80"), ("HOOKGATE_SERVICE_HOST", "10.0.0.1")], "ok: "),
    ] {
        let (code, said) = hookgate(&folder, set, &GITHUB);
        assert!(code == 0 && said.contains(shown), "{set:?}: {said}");
    }
    fs::remove_dir_all(folder).unwrap();
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("hookgate-newcomer-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for (file, text) in [("secret", "a secret of some length"), ("empty", ""), ("short", "short")] {
        fs::write(folder.join(file), text).unwrap();
    }
    folder
}

fn checked(folder: &Path, text: &str) -> (i32, String) {
    fs::write(folder.join("f.yaml"), text).unwrap();
    hookgate(folder, &[], &["check", "-c", "f.yaml"])
}

/// The exit code, and everything that is said. Nothing of this process's own variables counts.
fn hookgate(folder: &Path, set: &[(&str, &str)], args: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookgate"));
    let output =
        command.env_clear().envs(set.iter().copied()).args(args).current_dir(folder).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}
