//! Lists of addresses: those that providers publish are used where a route asks for them, and
//! a file that is read again cannot lose most of its networks without a word.

use std::fmt::Write as _;

use crate::support::gate::{run, same};
use crate::support::{self, App, Builder, Gate, Request, Sender, Signer, until};

/// So many networks that do not merge; the first is that of the tests.
fn list(networks: usize) -> String {
    let mut text = "127.0.0.0/8\n".to_owned();
    for n in 1..networks {
        writeln!(text, "198.51.{n}.0/25").unwrap();
    }
    text
}

fn before(app: &App) -> Builder {
    let builder = Gate::before(app).with("reload-interval", "50ms");
    builder.with_file("allow-ip-file", "addresses", &list(20))
}

fn reloads(gate: &Gate, result: &str) -> f64 {
    gate.metrics().sum("hookgate_reloads_total", &[("result", result)])
}

fn is_successful(gate: &Gate) -> bool {
    same(gate.metrics().value("hookgate_last_reload_successful"), 1.0)
}

fn status(gate: &Gate) -> u16 {
    gate.send(&Signer::github().event()).status
}

fn complaints(gate: &Gate) -> usize {
    gate.log.count(|line| line["event.name"] == "hookgate.reload" && line["severity_text"] == "ERROR")
}

#[test]
fn a_list_that_is_cut_short_is_not_taken_but_the_former_one_stays() {
    let app = App::ok();
    let gate = before(&app).start();
    assert_eq!(status(&gate), 200);
    // Each would keep the sender out.
    let half = "192.0.2.0/24\n198.51.1.0/25\n198.51.2.0/25\n";
    for (n, cut) in ["", half, "# an export that failed\n"].into_iter().enumerate() {
        gate.dir.write("addresses", cut);
        until("the complaint", || complaints(&gate) == n + 1);
        assert!(!is_successful(&gate), "{cut:?}");
        assert_eq!(status(&gate), 200, "{cut:?}: the former list stays");
    }
    let complaint = gate.log.find("the complaint", |line| {
        line["body"].as_str().is_some_and(|body| body.contains("held 20 networks and holds 3"))
    });
    assert!(complaint["body"].as_str().unwrap().contains("send SIGHUP or restart"), "{complaint}");
    assert!(same(reloads(&gate, "success"), 0.0));

    gate.dir.write("addresses", list(20));
    until("the recovery", || is_successful(&gate));
    assert_eq!(status(&gate), 200);
}

#[test]
fn who_sends_a_signal_means_it() {
    let app = App::ok();
    let gate = before(&app).start();
    gate.dir.write("addresses", "192.0.2.0/24\n");
    until("the complaint", || !is_successful(&gate));
    gate.signal("HUP");
    until("the short list", || status(&gate) == 403);
    until("the success", || is_successful(&gate));
    gate.dir.write("addresses", "127.0.0.0/8\n");
    until("a list of the same length", || status(&gate) == 200);
}

#[test]
fn a_list_may_shrink_a_little_grow_and_be_written_otherwise() {
    let app = App::ok();
    let gate = before(&app).start();
    // Two halves of each network are no more networks than the whole ones.
    let halves = list(19).replace(".0/25\n", ".0/26\n") + &list(19).replace(".0/25\n", ".64/26\n");
    for (n, text) in (1_u8..).zip([list(11), list(40), list(20), halves, list(17)]) {
        gate.dir.write("addresses", text);
        until("the reload", || same(reloads(&gate, "success"), f64::from(n)));
        assert_eq!(status(&gate), 200);
    }
    assert!(same(reloads(&gate, "failure"), 0.0));
}

#[test]
fn check_tells_how_long_and_how_old_lists_are() {
    let app = App::ok();
    let checked = run(&mut before(&app).with("allow-ip", "published").command("check"));
    assert_eq!(checked.code, Some(0), "{}", checked.err);
    assert!(checked.out.contains("(20 networks)"), "{}", checked.out);
    let note =
        checked.out.lines().find(|line| line.contains("published addresses are of 2026-10-08")).unwrap();
    let days: i64 = note.split(' ').find_map(|word| word.parse().ok()).unwrap();
    let age = (support::sender::now_ms() - 1_791_503_999_999) / 86_400_000;
    assert!((age - 1..=age + 1).contains(&days), "{note}: {age}");
    assert!(note.contains("api.github.com/meta"), "{note}");

    let empty = run(&mut Gate::before(&app).with_file("allow-ip-file", "none", "").command("check"));
    assert!(empty.out.contains("holds no network") && empty.out.contains("nobody may send"), "{}", empty.out);
}

#[test]
fn published_addresses_are_demanded_where_a_route_asks_for_them() {
    let app = App::ok();
    // Behind a trusted proxy, the sender is whom that names.
    let builder = Gate::before(&app).with("trusted-proxy", "127.0.0.0/8");
    let gate = builder.with("allow-ip", "published").and("allow-ip", "203.0.113.0/24").start();
    let from = |address: &str| -> Request { Signer::github().event().with("X-Forwarded-For", address) };
    for (address, status) in [
        ("192.30.252.1", 200),
        ("9.234.98.161", 200),
        ("2a0a:a440::1", 200),
        ("203.0.113.9", 200),
        ("9.234.98.192", 403),
        ("198.51.100.1", 403),
    ] {
        assert_eq!(gate.send(&from(address)).status, status, "{address}");
    }
    let open = Gate::before(&app).start();
    let elsewhere = Sender::connect_from("127.0.0.9", open.address()).exchange(&Signer::github().event());
    assert_eq!(elsewhere.status, 200, "without being asked, a list that may be old keeps nobody out");
}
