//! A route that expects events says when none is accepted, in its metric and in its log.

use crate::support::gate::{run, same};
use crate::support::{App, Gate, Signer, until};

const SERIES: &str = "hookgate_silence_seconds{route=\"default\"}";

fn told(gate: &Gate, words: &str) -> usize {
    gate.log.count(|line| {
        line["event.name"] == "hookgate.silence"
            && line["body"].as_str().is_some_and(|body| body.contains(words))
    })
}

#[test]
fn silence_is_measured_and_told_once() {
    let app = App::ok();
    let gate = Gate::before(&app).with("expect-every", "1s").start();
    let silent = || gate.metrics().value(SERIES);
    until("silence", || silent() > 1.0);
    until("the log", || told(&gate, "no event accepted for") == 1);
    assert_eq!(gate.send(&Signer::github().event().tampered()).status, 401);
    let before = silent();
    until("the next look", || silent() > before);
    assert_eq!(gate.send(&Signer::github().event()).status, 200);
    until("the end", || told(&gate, "the silence is over") == 1);
    assert_eq!(told(&gate, "no event accepted for"), 1, "{}", gate.log.text());
    assert_eq!(told(&gate, "nothing came"), 1, "the refused one came later");
    until("the next silence", || told(&gate, "no event accepted for") == 2);
}

#[test]
fn only_routes_that_expect_something_can_be_silent() {
    let app = App::ok();
    let config = "
routes:
  - { name: one, path: /one, provider: github, secrets: [{ file: DIR/key-1 }], expect_every: 1h }
  - { name: two, path: /two, provider: github, secrets: [{ file: DIR/key-1 }] }
";
    let gate = Gate::before(&app).config(config).start();
    let series = || -> Vec<_> {
        gate.metrics().0.into_keys().filter(|series| series.contains("_silence_")).collect::<Vec<_>>()
    };
    assert_eq!(series(), ["hookgate_silence_seconds{route=\"one\"}"], "from the start");
    assert!(same(gate.metrics().value("hookgate_silence_seconds{route=\"one\"}"), 0.0));
    let swapped = config
        .replace("DIR", gate.dir.path().to_str().unwrap())
        .replace(", expect_every: 1h", "")
        .replace("path: /two", "expect_every: 2h, path: /two");
    gate.dir.write("hookgate.yaml", swapped);
    gate.signal("HUP");
    until("the reload", || series() == ["hookgate_silence_seconds{route=\"two\"}"]);
}

#[test]
fn the_flag_speaks_of_the_only_route_and_check_shows_it() {
    let app = App::ok();
    let checked = run(&mut Gate::before(&app).with("expect-every", "90m").command("check"));
    assert_eq!(checked.code, Some(0), "{}", checked.err);
    assert!(checked.out.lines().any(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        words == ["routes[0].expect_every", "90m", "[flag]"]
    }));
    let refused = run(&mut Gate::before(&app).with("expect-every", "0s").command("check"));
    assert_eq!(refused.code, Some(78));
    assert!(refused.err.contains("write at least 1s"), "{}", refused.err);
}
