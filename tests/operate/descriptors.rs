//! Open files: a gate takes what it may have, keeps a reserve, and says when they run short.

use std::process::Command;

use super::support::gate::program;
use super::support::{App, Builder, Gate, Sender, Signer};

/// A gate that may have so many open files, and as many as the hard limit if it asks for it; some
/// of them are taken already.
fn limited(builder: Builder, soft: u32, hard: u32, taken: u32) -> Option<Gate> {
    if program("prlimit").is_none() {
        eprintln!("SKIPPED: prlimit is not on PATH");
        return None;
    }
    let gate = builder.command("run");
    let take = (10..10 + taken).map(|n| format!("exec {n}</dev/null; ")).collect::<Vec<_>>().concat();
    let mut command = Command::new("prlimit");
    command
        .arg(format!("--nofile={soft}:{hard}"))
        .args(["bash", "-c"])
        .arg(format!("{take} exec \"$@\""))
        .arg("bash");
    command.arg(gate.get_program()).args(gate.get_args());
    for (name, value) in gate.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Some(builder.start_as(command))
}

/// Silent connections, from as many addresses as are needed.
fn crowd(gate: &Gate, size: usize) -> Vec<Sender> {
    (0..size).map(|n| Sender::connect_from(&format!("127.0.{}.1", n / 100 + 1), gate.address())).collect()
}

/// Probes answer, and who is inside is served.
fn serves(gate: &Gate, inside: &mut Sender) {
    for _ in 0..3 {
        assert_eq!(gate.ops("/livez").status, 200);
        assert_eq!(gate.ops("/readyz").status, 200);
    }
    assert_eq!(inside.exchange(&Signer::github().event()).status, 200);
}

#[test]
fn the_soft_limit_is_raised_to_the_hard_one() {
    let app = App::ok();
    let Some(gate) = limited(Gate::before(&app), 256, 4096, 0) else { return };
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gate.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("4096"), "{files}");
    let mut crowd = crowd(&gate, 400);
    serves(&gate, &mut crowd[399]);
    assert_eq!(gate.log.count(|line| line["event.name"] == "hookgate.connection"), 0);
}

#[test]
fn connections_leave_a_reserve_and_the_start_says_how_many_there_may_be() {
    let app = App::ok();
    let Some(gate) = limited(Gate::before(&app), 256, 320, 0) else { return };
    let said = gate.log.find("the notice", |line| {
        line["event.name"] == "hookgate.notice" && line["body"].as_str().unwrap().contains("open files")
    });
    let body = said["body"].as_str().unwrap();
    for part in ["limits.max_connections is 4096", "may have 320 open files", "80 connections"] {
        assert!(body.contains(part), "{body}");
    }
    let _crowd = crowd(&gate, 300);
    serves(&gate, &mut Sender::connect_from("127.0.9.1", gate.address()));
    assert!(gate.metrics().sum("hookgate_connections", &[]) < 80.5);
}

#[test]
fn running_out_is_told_once_and_probes_go_on() {
    let app = App::ok();
    let Some(gate) = limited(Gate::before(&app), 320, 320, 220) else { return };
    let held = crowd(&gate, 120);
    let dropped = || gate.metrics().sum("hookgate_connections_dropped_total", &[("reason", "no_descriptor")]);
    super::support::until("the last ones to be turned away", || dropped() > 10.0);
    for _ in 0..5 {
        assert_eq!(gate.ops("/livez").status, 200);
    }
    let short = |line: &serde_json::Value| {
        line["event.name"] == "hookgate.connection"
            && line["body"].as_str().unwrap().contains("open files run short")
    };
    gate.log.find("what is short", short);
    assert_eq!(gate.log.count(short), 1, "one line, not one for each");
    drop(held);
    super::support::until("room", || gate.send(&Signer::github().event()).status == 200);
}
