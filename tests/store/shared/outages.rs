//! A store that is not there, goes, comes back empty, hangs, or is something else: nothing is
//! lost, nothing is taken for delivered that was not, and the gate goes on by itself.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use super::{delivered, duplicate, key_of_event, launch, unavailable, with_store, with_store_at};
use crate::redis_server::{Server, free_port, installed};
use crate::support::gate::same;
use crate::support::{Answer, App, Latch, Signer, until};

#[test]
fn a_gate_starts_without_its_store_and_is_ready_when_it_comes() {
    if !installed() {
        return;
    }
    let app = App::ok();
    let port = free_port();
    let gate = launch(with_store_at(&app, &format!("redis://127.0.0.1:{port}")));
    let said = gate.log.find("the store's absence", |line| line["event.name"] == "hookgate.store");
    assert!(said["body"].as_str().unwrap().contains("does not answer: events are answered 503"), "{said}");
    assert!(gate.ops("/readyz?verbose").text().contains("[no] replay store usable"));
    assert!(same(gate.metrics().value("hookgate_replay_store_up"), 0.0));
    let event = Signer::github().event();
    let answer = gate.send(&event);
    assert_eq!(answer.said(), unavailable());
    assert!(answer.header("Retry-After").is_some());
    assert_eq!(gate.reason(&answer), "store_unavailable");
    app.assert_untouched("an event that could not be reserved");

    let _server = Server::start_on(port, &[]).expect("nobody else took the port");
    until("readiness", || gate.ops("/readyz").status == 200);
    assert_eq!(gate.send(&event).said(), delivered());
    assert_eq!(gate.send(&event).said(), duplicate());
    assert!(same(gate.metrics().value("hookgate_replay_store_up"), 1.0));
}

#[test]
fn a_store_that_restarts_is_found_again() {
    let Some(mut server) = Server::start() else { return };
    let app = App::ok();
    let gate = with_store(&app, &server).start();
    for _ in 0..3 {
        assert_eq!(gate.send(&Signer::github().event()).said(), delivered());
        server.restart();
        until("the store to be back", || gate.send(&Signer::github().event()).status == 200);
    }
}

#[test]
fn a_store_that_hangs_costs_a_deadline_and_then_nothing_stays_held() {
    let Some(server) = Server::start() else { return };
    let app = App::ok();
    let gate = with_store(&app, &server).with("replay-store-timeout", "200ms").start();
    let event = Signer::github().event();
    server.signal("STOP");
    for _ in 0..5 {
        let answer = gate.send(&event);
        assert_eq!(answer.said(), unavailable(), "it hangs still, so nobody waited for it");
    }
    app.assert_untouched("an event that could not be reserved");
    server.signal("CONT");
    // Its reservation was made after all, by a gate that had given up: it was let go of.
    until("the event to be delivered", || gate.send(&event).said() == delivered());
    assert_eq!(app.seen(), 1);
}

#[test]
fn a_store_that_lost_everything_costs_one_more_delivery_at_most() {
    let Some(server) = Server::start() else { return };
    let latch = Latch::default();
    let app = App::always(Answer::ok().when(&latch));
    let gates = [with_store(&app, &server).start(), with_store(&app, &server).start()];
    let event = Signer::github().event();
    thread::scope(|scope| {
        let first = scope.spawn(|| gates[0].send(&event));
        app.wait_for(1);
        server.run::<()>(&["FLUSHALL"]); // as after a failover to a replica that was behind
        let second = scope.spawn(|| gates[1].send(&event));
        app.wait_for(2);
        latch.open();
        assert_eq!(first.join().unwrap().said(), delivered());
        assert_eq!(second.join().unwrap().said(), delivered());
    });
    for gate in &gates {
        assert_eq!(gate.send(&event).said(), duplicate());
    }
    assert_eq!(app.seen(), 2, "one more than without the loss");
}

#[test]
fn what_was_delivered_while_the_store_was_away_is_remembered_once_it_is_back() {
    let Some(mut server) = Server::start() else { return };
    let latch = Latch::default();
    let app = App::always(Answer::ok().when(&latch));
    let gate = with_store(&app, &server).start();
    let event = Signer::github().event();
    thread::scope(|scope| {
        let sender = scope.spawn(|| gate.send(&event));
        app.wait_for(1);
        server.kill();
        latch.open();
        assert_eq!(sender.join().unwrap().said(), delivered(), "the sender is told the truth at once");
    });
    server.restart();
    let key = key_of_event(&app);
    until("the event to be done", || server.run::<Option<String>>(&["GET", &key]).as_deref() == Some("d"));
    assert_eq!(gate.send(&event).said(), duplicate());
    assert_eq!(app.seen(), 1);
}

#[test]
fn a_gate_may_remember_by_itself_while_its_store_is_away() {
    let Some(mut server) = Server::start() else { return };
    let app = App::ok();
    let gate = with_store(&app, &server).with("on-store-error", "local").start();
    assert_eq!(gate.send(&Signer::github().event()).said(), delivered());
    server.kill();
    let event = Signer::github().event();
    assert_eq!(gate.send(&event).said(), delivered());
    assert_eq!(gate.send(&event).said(), duplicate());
    gate.wait_for_metric("hookgate_replay_store_up", 0.0);
    assert!(same(gate.metrics().value("hookgate_replay_entries"), 1.0));
    assert_eq!(gate.ops("/readyz").status, 200, "it is usable all the same");
    for _ in 0..5 {
        assert_eq!(gate.send(&Signer::github().event()).said(), delivered());
    }

    server.restart();
    gate.wait_for_metric("hookgate_replay_store_up", 1.0);
    assert_eq!(gate.send(&event).said(), duplicate(), "what it took on by itself it sees through");
    let before = server.run::<usize>(&["DBSIZE"]);
    assert_eq!(gate.send(&Signer::github().event()).said(), delivered());
    assert!(server.run::<usize>(&["DBSIZE"]) > before, "new events are in the store again");
    let told = |word: &'static str| {
        gate.log.count(|line| {
            line["event.name"] == "hookgate.store" && line["body"].as_str().unwrap().contains(word)
        })
    };
    until("the return to be told", || told("the replay store answers") == 2);
    assert_eq!(told("in this process alone"), 1, "once for each change");
}

#[test]
fn a_key_of_another_type_puts_off_its_event_and_no_other() {
    let Some(server) = Server::start() else { return };
    let app = App::ok();
    let gate = with_store(&app, &server).start();
    let event = Signer::github().event();
    gate.send(&event);
    let key = key_of_event(&app);
    server.run::<()>(&["DEL", &key]);
    server.run::<()>(&["LPUSH", &key, "d"]);
    for _ in 0..5 {
        assert_eq!(gate.send(&event).said(), unavailable());
    }
    assert_eq!(gate.send(&Signer::github().event()).said(), delivered(), "the store is fine");
    assert_eq!(gate.ops("/readyz").status, 200);
}

#[test]
fn a_store_that_takes_no_writes_is_not_usable() {
    let Some(server) = Server::start() else { return };
    let app = App::ok();
    let gate = with_store(&app, &server).start();
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]); // with the default policy, noeviction
    let event = Signer::github().event();
    assert_eq!(gate.send(&event).said(), unavailable());
    until("the gate to see it", || gate.ops("/readyz").status == 503);
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    until("readiness", || gate.ops("/readyz").status == 200);
    assert_eq!(gate.send(&event).said(), delivered());
}

#[test]
fn whatever_answers_instead_of_a_store_is_never_believed() {
    let nested = "*1\r\n".repeat(100_000);
    for nonsense in [
        "+OK\r\n",
        "+lead\r\n",
        "$1\r\n+\r\n",
        "$2\r\n=d\r\n",
        "$1\r\nd\r\n",
        "$-1\r\n",
        ":1\r\n",
        "*0\r\n",
        "*1\r\n$2\r\n=d\r\n",
        "-NOSCRIPT no\r\n",
        "-MOVED 1 127.0.0.1:1\r\n",
        "-ERR\r\n",
        "$536870912\r\n",
        "$99999999999999999999\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "\0\u{1}\u{2}\r\n",
        &nested,
        "",
    ] {
        let app = App::ok();
        let port = babble(nonsense.as_bytes().to_vec());
        let gate = launch(with_store_at(&app, &format!("redis://127.0.0.1:{port}")));
        let shown = &nonsense[..nonsense.len().min(40)];
        for _ in 0..2 {
            let answer = gate.send(&Signer::github().event());
            assert_eq!(answer.said(), unavailable(), "{shown:?}");
        }
        app.assert_untouched(shown);
        assert_eq!(gate.ops("/readyz").status, 503, "{shown:?}");
        assert!(same(gate.metrics().value("hookgate_panics_total"), 0.0), "{shown:?}");
    }
}

/// Says the same to whatever is said to it, and closes if there is nothing to say.
fn babble(nonsense: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let nonsense = nonsense.clone();
            thread::spawn(move || {
                let (mut stream, mut heard) = (stream, [0; 4096]);
                while stream.read(&mut heard).is_ok_and(|read| read > 0)
                    && !nonsense.is_empty()
                    && stream.write_all(&nonsense).is_ok()
                {}
            });
        }
    });
    port
}
