//! A store that is there and does not do what it should: it refuses to write, knows us no more,
//! is slow, or is a cluster that moves or loses parts. Nothing of it is silent, and nothing lasts
//! once the store is well again.

use std::time::{Duration, Instant};
use std::{fs, thread};

use super::{delivered, duplicate, unavailable, with_store, with_store_at};
use crate::redis_server::{Cluster, Relay, Server};
use crate::support::gate::{run_within, same};
use crate::support::{App, Gate, Signer, until};

/// The longest that a gate may go on refusing after its store is well again.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// Between two events: more often than a gate looks after its store.
const STEADY: Duration = Duration::from_millis(100);

/// Three events tell that the store is of no use, in every place that tells it.
fn shows(gate: &Gate, what: &str, says: &str) {
    for _ in 0..3 {
        assert_eq!(gate.send(&Signer::github().event()).said(), unavailable(), "{what}");
    }
    assert!(same(gate.metrics().value("hookgate_replay_store_up"), 0.0), "{what}");
    let ready = gate.ops("/readyz?verbose");
    assert_eq!(ready.status, 503, "{what}");
    let text = ready.text();
    assert!(
        text.contains("[no] replay store usable: verified events are answered 503: routes "),
        "{what}: {text}"
    );
    gate.log.find(what, |line| told(line, says));
    assert!(gate.metrics().sum("hookgate_replay_store_failures_total", &[]) > 2.5, "{what}");
    // Also while events keep coming, and are read about.
    for _ in 0..10 {
        assert_ne!(gate.send(&Signer::github().event()).status, 200, "{what}");
        thread::sleep(STEADY);
    }
    assert!(same(gate.metrics().value("hookgate_replay_store_up"), 0.0), "{what}: it stays so");
}

fn told(line: &serde_json::Value, says: &str) -> bool {
    line["event.name"] == "hookgate.store" && line["body"].as_str().unwrap().contains(says)
}

/// The store is well: events get through soon, and stay so.
fn mends(gate: &Gate, what: &str) {
    let well = Instant::now();
    while gate.send(&Signer::github().event()).said() != delivered() {
        assert!(well.elapsed() < AFTERWARDS, "{what}: still refused");
        thread::sleep(STEADY);
    }
    until("the gate to say so", || same(gate.metrics().value("hookgate_replay_store_up"), 1.0));
    assert!(well.elapsed() < AFTERWARDS, "{what}: it lasted {:?}", well.elapsed());
    assert_eq!(gate.ops("/readyz").status, 200, "{what}");
    for _ in 0..5 {
        let event = Signer::github().event();
        assert_eq!(gate.send(&event).said(), delivered(), "{what}");
        assert_eq!(gate.send(&event).said(), duplicate(), "{what}");
    }
}

/// A fault, as commands that make it and end it, and what the store says of it.
struct Fault {
    makes: &'static [&'static str],
    ends: &'static [&'static str],
    says: &'static str,
}

const FAULTS: [Fault; 5] = [
    Fault { makes: &["CONFIG SET maxmemory 1"], ends: &["CONFIG SET maxmemory 0"], says: "OOM" },
    Fault {
        makes: &["CONFIG SET min-replicas-to-write 1"],
        ends: &["CONFIG SET min-replicas-to-write 0"],
        says: "NOREPLICAS",
    },
    Fault { makes: &["REPLICAOF 127.0.0.1 1"], ends: &["REPLICAOF NO ONE"], says: "READONLY" },
    Fault {
        makes: &["ACL SETUSER default -set"],
        ends: &["ACL SETUSER default +set"],
        says: "can't run this command",
    },
    Fault {
        makes: &["ACL SETUSER default -evalsha -eval"],
        ends: &["ACL SETUSER default +evalsha +eval"],
        says: "NOPERM",
    },
];

#[test]
fn a_store_that_refuses_is_seen_within_three_events_and_used_again_when_it_does_not() {
    for Fault { makes, ends, says } in FAULTS {
        let Some(server) = Server::start() else { return };
        let app = App::ok();
        let gate = with_store(&app, &server).start();
        assert_eq!(gate.send(&Signer::github().event()).said(), delivered());
        command(&server, makes);
        shows(&gate, says, says);
        assert_eq!(app.seen(), 1, "{says}: nothing was delivered meanwhile");
        command(&server, ends);
        mends(&gate, says);
    }
}

fn command(server: &Server, commands: &[&str]) {
    for command in commands {
        server.run::<()>(&command.split(' ').collect::<Vec<_>>());
    }
}

#[test]
fn a_store_that_cannot_save_to_its_disk_is_seen_and_used_again() {
    let Some(server) = Server::start() else { return };
    let app = App::ok();
    let gate = with_store(&app, &server).start();
    let (blocked, failed) = (server.dir().join("dump.rdb"), "rdb_last_bgsave_status:err");
    fs::create_dir(&blocked).unwrap();
    server.run::<()>(&["CONFIG", "SET", "save", "3600 1"]);
    server.run::<()>(&["BGSAVE"]);
    until("the store to fail to save", || server.tells("persistence", failed));
    shows(&gate, "MISCONF", "MISCONF");
    fs::remove_dir(&blocked).unwrap();
    server.run::<()>(&["BGSAVE"]);
    until("the store to save", || !server.tells("persistence", failed));
    mends(&gate, "MISCONF");
}

#[test]
fn a_store_that_knows_us_no_more_is_seen_and_used_again() {
    let Some(server) = Server::start() else { return };
    let app = App::ok();
    let gate = with_store(&app, &server).start();
    let mut admin = server.connect();
    let mut admin = |words: &[&str]| {
        () = redis::cmd(words[0]).arg(&words[1..]).query(&mut admin).unwrap();
    };
    admin(&["CONFIG", "SET", "requirepass", "another"]);
    admin(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    shows(&gate, "NOAUTH", "uthenticat");
    admin(&["CONFIG", "SET", "requirepass", ""]);
    mends(&gate, "NOAUTH");
}

#[test]
fn a_store_that_still_reads_its_disk_is_seen_and_used_when_it_has() {
    let slow = "--key-load-delay 100000 --loading-process-events-interval-bytes 1024 --rdbcompression no";
    let Some(mut server) = Server::start_with(&slow.split(' ').collect::<Vec<_>>()) else { return };
    for n in 0..60 {
        server.run::<()>(&["SET", &format!("key:{n}"), &"x".repeat(2000)]);
    }
    server.run::<()>(&["SAVE"]);
    let app = App::ok();
    let gate = with_store(&app, &server).start();
    server.revive();
    shows(&gate, "LOADING", "LOADING");
    until("the store to have read it", || server.tells("persistence", "\nloading:0"));
    mends(&gate, "LOADING");
}

/// The old primary lives on as a replica, connections to it stay, and the name leads to the new one.
#[test]
fn after_a_failover_whose_name_moved_events_go_on_at_the_new_primary() {
    let (Some(old), Some(new)) = (Server::start(), Server::start()) else { return };
    let relay = Relay::start(old.port(), |_| Duration::ZERO);
    let app = App::ok();
    let gate = with_store_at(&app, &relay.url()).with("replay-store-timeout", "2s").start();
    assert_eq!(gate.send(&Signer::github().event()).said(), delivered());
    old.run::<()>(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]);
    relay.lead_to(new.port());
    for n in 0..10 {
        assert_eq!(gate.send(&Signer::github().event()).said(), delivered(), "event {n}");
    }
    assert!(new.run::<usize>(&["DBSIZE"]) > 9, "they are in the new one");
}

#[test]
fn an_event_that_meets_a_cut_connection_is_asked_for_once_more() {
    let Some(server) = Server::start() else { return };
    let app = App::ok();
    let gate = with_store(&app, &server).with("replay-store-timeout", "2s").start();
    for n in 0..20 {
        let event = Signer::github().event();
        assert_eq!(gate.send(&event).said(), delivered(), "event {n}");
        server.run::<()>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        assert_eq!(gate.send(&event).said(), duplicate(), "copy {n}");
    }
    assert_eq!(app.seen(), 20);
}

#[test]
fn a_gate_on_its_own_says_so_and_delivers_whatever_the_store_refuses() {
    let Some(server) = Server::start() else { return };
    let app = App::ok();
    let gate = with_store(&app, &server).with("on-store-error", "local").start();
    server.run::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    for _ in 0..3 {
        let event = Signer::github().event();
        assert_eq!(gate.send(&event).said(), delivered());
        assert_eq!(gate.send(&event).said(), duplicate());
    }
    assert!(same(gate.metrics().value("hookgate_replay_store_up"), 0.0));
    gate.log.find("that it is alone", |line| told(line, "this gate is on its own"));
    let ready = gate.ops("/readyz?verbose");
    assert_eq!(ready.status, 200);
    assert!(ready.text().contains("[ok] replay store usable: the store is away, and this gate remembers"));
    server.run::<()>(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    mends(&gate, "NOREPLICAS");
}

#[test]
fn a_pod_with_other_duties_may_stay_ready_while_events_are_refused() {
    let Some(mut server) = Server::start() else { return };
    let app = App::ok();
    let gate = with_store(&app, &server).with("ready-without-store", "true").start();
    server.kill();
    gate.wait_for_metric("hookgate_replay_store_up", 0.0);
    assert_eq!(gate.send(&Signer::github().event()).said(), unavailable());
    let ready = gate.ops("/readyz?verbose");
    assert_eq!(ready.status, 200);
    let text = ready.text();
    assert!(text.contains("[no] replay store usable: verified events are answered 503: routes "), "{text}");
    assert!(text.contains("ready_without_store"), "{text}");
    assert!(same(gate.metrics().value("hookgate_ready"), 1.0));
}

#[test]
fn a_store_that_is_late_now_and_then_costs_those_events_and_is_told() {
    let Some(server) = Server::start() else { return };
    let late = |n: usize| Duration::from_millis(if n.is_multiple_of(7) { 300 } else { 0 });
    let relay = Relay::start(server.port(), late);
    let app = App::ok();
    let gate = with_store_at(&app, &relay.url()).start();
    let mut refused = 0;
    for _ in 0..60 {
        let event = Signer::github().event();
        let first = Instant::now();
        while gate.send(&event).status != 200 {
            refused += 1;
            assert!(first.elapsed() < AFTERWARDS, "it does not get through");
            thread::sleep(STEADY);
        }
    }
    assert!(refused > 0, "it was not late at all");
    assert_eq!(app.seen(), 60, "each was delivered once");
    let labels = [("cause", "timeout")];
    until("the failures to be counted", || {
        gate.metrics().sum("hookgate_replay_store_failures_total", &labels) > 0.5
    });
    gate.log.find("the failures", |line| told(line, "no answer within"));
}

#[test]
fn slots_of_a_cluster_move_under_load_and_no_event_is_lost_or_delivered_twice() {
    let Some(cluster) = Cluster::start() else { return };
    let app = App::ok();
    let gate = with_store(&app, &cluster.0[0]).with("replay-store", cluster.url()).start();
    let ids: Vec<String> = cluster.0.iter().map(|node| node.run(&["CLUSTER", "MYID"])).collect();
    let address = format!("127.0.0.1:{}", cluster.0[0].port());
    let (from, to) = (ids[0].clone(), ids[1].clone());
    let moving = thread::spawn(move || {
        let mut tool = std::process::Command::new("redis-cli");
        tool.args(["--cluster", "reshard", &address, "--cluster-from", &from, "--cluster-to", &to]);
        tool.args(["--cluster-slots", "2000", "--cluster-yes"]);
        run_within(Duration::from_secs(60), &mut tool)
    });
    let (mut events, mut refused) = (0, 0);
    while !moving.is_finished() || events < 100 {
        let event = Signer::github().event();
        while gate.send(&event).status == 503 {
            refused += 1;
            assert!(refused < 50, "{refused} refusals, after {events} events");
            thread::sleep(STEADY);
        }
        assert_eq!(gate.send(&event).said(), duplicate(), "event {events}");
        events += 1;
    }
    moving.join().unwrap();
    assert_eq!(app.seen(), events, "each was delivered once");
    assert!(refused * 20 < events, "{refused} refusals of {events} events");
    mends(&gate, "the slots have moved");
}

#[test]
fn a_node_of_a_cluster_that_is_lost_is_seen_and_used_again_when_it_is_back() {
    let Some(mut cluster) = Cluster::start_with(&["--cluster-require-full-coverage", "no"]) else { return };
    let app = App::ok();
    let gate = with_store(&app, &cluster.0[0]).with("replay-store", cluster.url()).start();
    for round in 0..2 {
        if round == 0 {
            cluster.0[2].kill();
        } else {
            cluster.0[2].signal("STOP");
        }
        // Most events still get through, and the loss shows all the same, without any event.
        until("the loss to show", || same(gate.metrics().value("hookgate_replay_store_up"), 0.0));
        let statuses: Vec<_> = (0..30).map(|_| gate.send(&Signer::github().event()).status).collect();
        assert!(statuses.contains(&200) && statuses.contains(&503), "{statuses:?}");
        assert!(same(gate.metrics().value("hookgate_replay_store_up"), 0.0), "the others do not hide it");
        gate.log.find("the loss", |line| told(line, "the replay store does"));
        if round == 0 {
            cluster.0[2].revive();
        } else {
            cluster.0[2].signal("CONT");
        }
        until("the cluster to have it back", || cluster.is_whole());
        mends(&gate, "the node is back");
        let all: Vec<_> = (0..30).map(|_| gate.send(&Signer::github().event()).status).collect();
        assert_eq!(all, [200; 30], "all parts are well");
    }
}
