//! How a start fails: with the right exit code, a message that names the remedy, and
//! nothing half started.

use std::net::TcpListener;
use std::process::Command;

use crate::support::gate::{Run, hookgate, run};
use crate::support::{self, App, Builder, Gate, Signer};

fn started(builder: &Builder) -> Run {
    run(&mut builder.command("run"))
}

fn builder() -> Builder {
    Builder::new("http://127.0.0.1:1")
}

#[test]
fn a_taken_port_is_told_with_the_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for flag in ["listen", "ops-listen"] {
        let run = started(&builder().with(flag, address));
        assert_eq!(run.code, Some(1), "{flag}: {}", run.err);
        assert!(run.err.contains(&address.to_string()), "{}", run.err);
        assert!(run.err.contains("another process has the port"), "{}", run.err);
        assert!(!run.out.contains("hookgate.ready"), "{}", run.out);
    }
}

#[test]
fn bad_flags_are_no_configuration() {
    for args in [
        &["--no-such-flag"][..],
        &["run", "--listen", "nowhere"],
        &["--tolerance", "5"],
        &["--rate-limit", "many"],
        &["--max-body", "-1"],
        &["--allow-ip", "10.0.0.1/8"],
        &["--secret", "on the command line"],
        &["no-such-command"],
    ] {
        let run = run(&mut hookgate(args));
        assert_eq!(run.code, Some(2), "{args:?}: {}{}", run.out, run.err);
        assert!(!run.err.is_empty(), "{args:?}");
    }
}

#[test]
fn an_invalid_configuration_is_refused_with_place_and_key() {
    let route = |more: &str| {
        format!("routes:\n  - name: a\n    provider: github\n    secrets: [{{ file: DIR/key-1 }}]\n{more}")
    };
    for (what, builder, says) in [
        ("no secret", builder().without("secret-file"), &["no secret", "--secret-file"][..]),
        ("no such file", builder().with("secret-file", "/nowhere/key"), &["/nowhere/key"]),
        ("an empty secret", builder().with_file("secret-file", "empty", "\n"), &["empty"]),
        (
            "a short secret",
            builder().with_file("secret-file", "short", "0123456789"),
            &["16", "--insecure-short-secret"],
        ),
        ("an unknown provider", builder().with("provider", "gihub"), &["gihub", "github"]),
        (
            "a short memory",
            builder().with("provider", "stripe").with("replay-window", "5m"),
            &["replay", "too short"],
        ),
        ("an unknown key", builder().config(&route("    colour: blue\n")), &["hookgate.yaml:5:", "colour"]),
        ("a bad value", builder().config("max_connections: x\n"), &["hookgate.yaml:1:"]),
        (
            "two routes of one path",
            builder().config(
                &(route("") + "  - name: b\n    provider: github\n    secrets: [{ file: DIR/key-1 }]\n"),
            ),
            &["/webhooks", "path of two routes"],
        ),
        (
            "TLS without files",
            builder().with("listen-tls", "127.0.0.1:0"),
            &["tls_cert_file", "tls_key_file"],
        ),
        (
            "no such configuration",
            builder().with("config", "/nowhere/hookgate.yaml"),
            &["/nowhere/hookgate.yaml"],
        ),
    ] {
        for command in ["run", "check"] {
            let run = run(&mut builder.command(command));
            assert_eq!(run.code, Some(78), "{what}, {command}: {}{}", run.out, run.err);
            for text in says {
                assert!(run.err.contains(text), "{what}, {command}: \"{text}\" is not in {}", run.err);
            }
        }
    }
}

/// A FIFO without a writer: whoever opens it in the usual way waits for ever.
#[test]
fn nothing_that_is_named_makes_a_start_wait() {
    for flag in [
        "config",
        "secret-file",
        "allow-ip-file",
        "handshake-token-file",
        "tls-cert-file",
        "tls-key-file",
        "tls-client-ca-file",
        "replay-file",
        "replay-store-password-file",
        "replay-store-ca-file",
    ] {
        let builder = match flag.split('-').next().unwrap() {
            "tls" => builder()
                .with("listen-tls", "127.0.0.1:0")
                .with("tls-cert-file", "tests/config/authority.pem")
                .with("tls-key-file", "tests/config/secret"),
            "replay" if flag != "replay-file" => {
                builder().with("replay-store", "redis://127.0.0.1:1").with("replay-store-prefix", "shop:")
            }
            "handshake" => builder().with("provider", "meta"),
            _ => builder(),
        };
        let fifo = builder.dir().join("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let builder = builder.with(flag, fifo.display());
        for command in ["check", "run"] {
            let ended = run(&mut builder.command(command));
            assert_eq!(ended.code, Some(78), "{command} --{flag}: {}", ended.err);
            assert!(ended.err.contains("no regular file"), "{command} --{flag}: {}", ended.err);
        }
    }
    let standard_input = run(&mut builder().with("config", "-").command("check"));
    assert_eq!(standard_input.code, Some(78));
    assert!(standard_input.err.contains("standard input comes once: name a file"), "{}", standard_input.err);
}

#[test]
fn check_and_run_agree_on_what_is_valid() {
    let app = App::ok();
    let builder = Gate::before(&app);
    let check = run(&mut builder.command("check"));
    assert_eq!(check.code, Some(0), "{}", check.err);
    assert!(check.out.contains("provider") && check.out.contains("[flag]"), "{}", check.out);
    assert!(!check.out.contains(support::sender::SECRET), "secrets are not shown");
    let json = run(builder.command("check").args(["-o", "json"]));
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["valid"], true);
    let gate = builder.start();
    assert_eq!(gate.send(&Signer::github().event()).status, 200);
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let file = "limits: { max_connections: 11 }\nheader_timeout: 11s\nbody_timeout: 11s\n\
                routes:\n  - provider: github\n    secrets: [{ file: DIR/key-1 }]\n";
    let builder = builder().config(file).with("body-timeout", "13s").without("idle-timeout");
    let mut check = builder.command("check");
    check.env("HOOKGATE_HEADER_TIMEOUT", "12s").env("HOOKGATE_BODY_TIMEOUT", "12s");
    let out = run(&mut check).out;
    for (key, value, origin) in [
        ("limits.max_connections", "11", "file"),
        ("header_timeout", "12s", "environment"),
        ("body_timeout", "13s", "flag"),
        ("idle_timeout", "30s", "default"),
    ] {
        let line = out.lines().find(|line| line.starts_with(&format!("{key} "))).unwrap();
        assert!(line.contains(value) && line.ends_with(&format!("[{origin}]")), "{line}");
    }
}

#[test]
fn the_trial_secret_comes_from_the_environment_alone() {
    let builder = builder().without("secret-file");
    let run = run(builder.command("check").env("HOOKGATE_SECRET", "a secret of enough bytes"));
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(!run.out.contains("of enough bytes"), "{}", run.out);
}
