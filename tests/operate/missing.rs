//! A secret that is not there stops its own route, and nothing else: it is alarmed until it comes.

use std::fs;

use crate::support::gate::{Run, run, same};
use crate::support::sender::{SECRET, other_secret};
use crate::support::{App, Builder, Gate, Response, Signer, until};

const TWO_ROUTES: &str = "routes:
  - { name: one, path: /one, provider: github, secrets: [{ file: DIR/key-1 }] }
  - { name: two, path: /two, provider: stripe, secrets: [{ file: DIR/late }] }
";
const MISSING: &str = "hookgate_secrets_missing{route=\"two\"}";

fn send(gate: &Gate, path: &str) -> Response {
    let signer = if path == "/two" { Signer::new("stripe", 0, &other_secret()) } else { Signer::github() };
    gate.send(&signer.event().to(path))
}

fn check(builder: &Builder, flags: &[&str]) -> Run {
    run(builder.command("check").args(flags))
}

#[test]
fn the_other_routes_serve_and_it_answers_503_until_its_secret_comes() {
    let app = App::ok();
    let gate = Gate::before(&app).config(TWO_ROUTES).with("reload-interval", "50ms").start();
    let answer = send(&gate, "/two");
    assert_eq!((answer.status, answer.text().as_str()), (503, "Try again"));
    assert!(answer.header("Retry-After").is_some());
    assert_eq!(gate.reason(&answer), "overloaded");
    app.assert_untouched("a delivery that nobody can judge");
    assert_eq!(send(&gate, "/one").status, 200);
    let alarm = gate.log.find("the alarm", |line| line["event.name"] == "hookgate.secret");
    assert_eq!(alarm["severity_text"], "ERROR");
    let told = alarm["body"].as_str().unwrap();
    for part in ["route two", "the secret late is missing", "answers 503", "No such file", "mount the file"] {
        assert!(told.contains(part), "{told}");
    }
    assert!(same(gate.metrics().value(MISSING), 1.0));
    assert!(same(gate.metrics().value("hookgate_secrets_missing{route=\"one\"}"), 0.0));
    let ready = gate.ops("/readyz?verbose");
    assert_eq!(ready.status, 200, "the other route serves");
    assert!(ready.text().contains("route two: the secret late is missing"), "{}", ready.text());
    let route =
        gate.log.find("its line", |line| line["body"].as_str().is_some_and(|b| b.starts_with("two  ")));
    assert!(route["body"].as_str().unwrap().contains("POST /two  no key, awaits late  enforce  → http://"));

    gate.dir.write("late", other_secret());
    until("the secret", || send(&gate, "/two").status == 200);
    assert!(same(gate.metrics().value(MISSING), 0.0));
    assert!(!gate.ops("/readyz?verbose").text().contains("missing"));
    gate.log.find("what the reload brought", |line| {
        line["body"].as_str().is_some_and(|body| {
            body.starts_with("reloaded: route two: key late: ")
                && body.contains("missing) → late (")
                && body.contains("sha256 ")
        })
    });
}

#[test]
fn a_secret_that_was_there_and_is_gone_changes_nothing() {
    let app = App::ok();
    let gate = Gate::before(&app).config(TWO_ROUTES);
    gate.dir().write("late", other_secret());
    let gate = gate.with("reload-interval", "50ms").start();
    assert_eq!(send(&gate, "/two").status, 200);
    fs::remove_file(gate.dir.join("late")).unwrap();
    until("the failed reload", || same(gate.metrics().value("hookgate_last_reload_successful"), 0.0));
    assert_eq!(send(&gate, "/two").status, 200, "the last good state stays");
    let ready = gate.ops("/readyz?verbose");
    assert_eq!(ready.status, 200);
    assert!(ready.text().contains("the last reload failed"), "{}", ready.text());
    gate.log.find("which secret", |line| {
        line["body"].as_str().is_some_and(|body| body.contains("route two: the secret late"))
    });
    gate.dir.write("late", other_secret());
    until("the recovery", || !gate.ops("/readyz?verbose").text().contains("failed"));
}

/// Of two keys the one that is there goes on judging.
#[test]
fn a_route_with_another_key_serves_by_that() {
    let app = App::ok();
    let two_keys = "routes:
  - { name: one, path: /one, provider: github, secrets: [{ file: DIR/late }, { file: DIR/key-1 }] }
  - { name: two, path: /two, provider: stripe, secrets: [{ file: DIR/key-1 }] }
";
    let gate = Gate::before(&app).config(two_keys).start();
    assert_eq!(send(&gate, "/one").status, 200);
    let late = Signer::new("github", 0, &other_secret());
    assert_eq!(gate.send(&late.event().to("/one")).status, 401, "nothing that is not proved passes");
    assert!(same(gate.metrics().value("hookgate_secrets_missing{route=\"one\"}"), 1.0));
    gate.log.find("the alarm", |line| {
        line["body"]
            .as_str()
            .is_some_and(|body| body.contains("the secret late is missing: what needs it is refused"))
    });
    gate.dir.write("late", other_secret());
    gate.signal("HUP");
    until("the secret", || gate.send(&late.event().to("/one")).status == 200);
}

#[test]
fn check_says_so_and_a_strict_start_does_not_begin() {
    let builder = Builder::new("http://127.0.0.1:1").config(TWO_ROUTES);
    let lenient = check(&builder, &[]);
    assert_eq!(lenient.code, Some(0), "{}", lenient.err);
    assert!(lenient.out.contains("note: route two: the secret late is missing"), "{}", lenient.out);
    assert!(lenient.out.ends_with("valid, but a secret is missing\n"), "{}", lenient.out);
    for command in ["check", "run"] {
        let strict = run(builder.command(command).arg("--strict-start"));
        assert_eq!(strict.code, Some(78), "{command}: {}", strict.out);
        assert!(strict.err.contains("hookgate.yaml:3:") && strict.err.contains("late"), "{}", strict.err);
    }
    fs::remove_file(builder.dir().join("key-1")).unwrap();
    let nothing = check(&builder, &[]);
    assert_eq!(nothing.code, Some(78), "nothing could be served: {}", nothing.out);
    assert!(nothing.err.contains("key-1") && nothing.err.contains("late"), "{}", nothing.err);
    assert!(!nothing.err.contains(SECRET));
}
