//! The end: not ready at once, still accepting for a while, then only what is under
//! way, and out as soon as that is done.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::gate::{get, same};
use crate::support::{Answer, App, Builder, Gate, Latch, Sender, Signer, eventually, until};

/// Longer than a test waits for anything: a gate that sat it out would fail the test.
const TOO_LONG: &str = "300s";

#[test]
fn a_termination_under_load_fails_no_request() {
    let latch = Latch::default();
    let (slow, is_slow) = (latch.clone(), Arc::new(AtomicBool::new(false)));
    let holds = Arc::clone(&is_slow);
    let app = App::new(move |_, _| {
        if holds.load(Ordering::Relaxed) {
            Answer::ok().when(&slow)
        } else {
            Answer::ok().after(Duration::from_millis(5))
        }
    });
    let gate = Gate::before(&app).with("shutdown-delay", "4s").with("shutdown-timeout", TOO_LONG).start();

    // Some senders keep their connection while the gate lets them, one makes a new one each time.
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let senders: Vec<_> = (0..4)
        .map(|n| {
            let (stop, sent, address) = (Arc::clone(&stop), Arc::clone(&sent), gate.address());
            std::thread::spawn(move || {
                let mut sender = Sender::connect(address);
                while !stop.load(Ordering::Relaxed) {
                    let answer = sender.exchange(&Signer::github().event());
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    sent.fetch_add(1, Ordering::Relaxed);
                    if n == 0 || answer.header("Connection") == Some("close") {
                        sender = Sender::connect(address);
                    }
                }
            })
        })
        .collect();
    until("load", || sent.load(Ordering::Relaxed) > 20);

    gate.signal("TERM");
    until("readiness to end", || gate.ops("/readyz").status == 503);
    let at_term = sent.load(Ordering::Relaxed);
    assert_eq!(gate.ops("/livez").status, 200, "it is alive");
    assert!(gate.ops("/readyz?verbose").text().contains("[no] not draining"));
    assert!(same(gate.metrics().value("hookgate_draining"), 1.0));
    assert!(same(gate.metrics().value("hookgate_ready"), 0.0));
    until("new requests to be served during the delay", || sent.load(Ordering::Relaxed) > at_term + 10);
    stop.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.join().unwrap();
    }

    // A call that is longer than the delay.
    is_slow.store(true, Ordering::Relaxed);
    let event = Signer::github().event();
    let mut sender = gate.connect();
    sender.send(event.bytes());
    app.wait_for(sent.load(Ordering::Relaxed) + 1);
    until("the listener to close", || TcpStream::connect(gate.address()).is_err());
    assert!(gate.is_running(), "a delivery is under way");
    latch.open();
    let answer = sender.response();
    assert_eq!((answer.status, answer.text().as_str()), (200, "app"));
    assert_eq!(gate.ended().code(), Some(0));
    assert!(gate.log.text().contains("nothing was cut"), "{}", gate.log.text());
    assert_eq!(app.seen(), sent.load(Ordering::Relaxed) + 1);
}

#[test]
fn an_idle_gate_ends_at_once() {
    let app = App::ok();
    let gate = Gate::before(&app).with("shutdown-timeout", TOO_LONG).start();
    let mut used = gate.connect();
    assert_eq!(used.exchange(&Signer::github().event()).status, 200);
    let mut fresh = gate.connect();
    gate.wait_for_metric("hookgate_connections", 2.0);
    gate.signal("TERM");
    assert_eq!(gate.ended().code(), Some(0), "connections without a request hold nobody up");
    assert!(used.rest().is_empty() && fresh.rest().is_empty());
}

#[test]
fn a_connection_is_told_that_the_end_is_near() {
    let app = App::ok();
    let gate = Gate::before(&app).with("shutdown-delay", TOO_LONG).start();
    let mut sender = gate.connect();
    assert_eq!(sender.exchange(&Signer::github().event()).header("Connection"), Some("keep-alive"));
    gate.signal("TERM");
    gate.log.find("the drain", |line| line["event.name"] == "hookgate.drain");
    let last = sender.exchange(&Signer::github().event());
    assert_eq!((last.status, last.header("Connection")), (200, Some("close")));
    assert!(sender.rest().is_empty());
    let refused = gate.send(&Signer::github().event().tampered());
    assert_eq!((refused.status, refused.header("Connection")), (401, Some("close")));
}

#[test]
fn a_delivery_whose_sender_has_gone_is_waited_for() {
    let latch = Latch::default();
    let app = App::always(Answer::ok().when(&latch));
    let gate = Gate::before(&app).with("shutdown-timeout", TOO_LONG).start();
    let mut sender = gate.connect();
    sender.send(Signer::github().event().bytes());
    app.wait_for(1);
    drop(sender);
    gate.signal("TERM");
    until("the listener to close", || TcpStream::connect(gate.address()).is_err());
    assert!(gate.is_running(), "a delivery is under way");
    latch.open();
    assert_eq!(gate.ended().code(), Some(0));
    assert!(gate.log.text().contains("nothing was cut"), "{}", gate.log.text());
}

#[test]
fn a_call_that_its_sender_no_longer_waits_for_is_waited_for() {
    let latch = Latch::default();
    let app = App::always(Answer::ok().when(&latch));
    let gate = Gate::before(&app).with("upstream-timeout", "4s").with("shutdown-timeout", TOO_LONG).start();
    assert_eq!(gate.send(&Signer::github().event()).status, 504);
    gate.signal("TERM");
    until("the listener to close", || TcpStream::connect(gate.address()).is_err());
    // Time for a gate that believes itself idle to be gone.
    std::thread::sleep(Duration::from_millis(300));
    assert!(gate.is_running(), "the call is under way");
    latch.open();
    assert_eq!(gate.ended().code(), Some(0));
    assert!(gate.log.text().contains("nothing was cut"), "{}", gate.log.text());
}

#[test]
fn an_application_that_never_answers_is_not_waited_for_for_ever() {
    let app = App::always(Answer::never());
    let gate = Gate::before(&app).with("upstream-timeout", "100s").with("shutdown-timeout", "1s").start();
    let mut sender = gate.connect();
    sender.send(Signer::github().event().bytes());
    app.wait_for(1);
    gate.signal("TERM");
    gate.ended();
    let said = gate.log.find("the end", |line| line["event.name"] == "hookgate.stop");
    assert_eq!(said["severity_text"], "ERROR", "{said}");
}

#[test]
fn a_second_termination_ends_it_fast() {
    let app = App::always(Answer::never());
    let gate = Gate::before(&app)
        .with("upstream-timeout", "100s")
        .with("shutdown-delay", TOO_LONG)
        .with("shutdown-timeout", TOO_LONG)
        .start();
    let mut sender = gate.connect();
    sender.send(Signer::github().event().bytes());
    app.wait_for(1);
    gate.signal("TERM");
    gate.log.find("the drain", |line| line["event.name"] == "hookgate.drain");
    gate.signal("TERM");
    assert_eq!(gate.ended().code(), Some(143));
}

#[test]
fn an_interrupt_drains_without_the_delay() {
    let latch = Latch::default();
    let app = App::always(Answer::ok().when(&latch));
    let gate = Gate::before(&app).with("shutdown-delay", TOO_LONG).with("shutdown-timeout", TOO_LONG).start();
    let mut sender = gate.connect();
    sender.send(Signer::github().event().bytes());
    app.wait_for(1);
    gate.signal("INT");
    until("the listener to close", || TcpStream::connect(gate.address()).is_err());
    latch.open();
    assert_eq!(sender.response().status, 200);
    assert_eq!(gate.ended().code(), Some(0));
}

/// More lines than a pipe holds.
const MORE_THAN_A_PIPE: usize = 400;

/// A gate that is ready, and its log, of which nothing is read from then on.
fn unread(builder: Builder) -> (Gate, BufReader<ChildStdout>) {
    let command = builder.command("run");
    let (gate, unread) = builder.launch_read_by(command, |line| !line.contains("hookgate.ready"));
    (gate, unread.recv().unwrap())
}

/// Makes it write so many lines.
fn fill(gate: &Gate) {
    let mut sender = gate.connect();
    for _ in 0..MORE_THAN_A_PIPE {
        assert_eq!(sender.exchange(&Signer::github().event()).status, 200);
    }
}

#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let app = App::ok();
    let (gate, unread) = unread(Gate::before(&app).with("shutdown-timeout", "1s"));
    fill(&gate);
    let asked = Instant::now();
    gate.signal("TERM");
    assert_eq!(gate.ended().code(), Some(0), "no delivery was cut");
    assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
    drop(unread);
}

#[test]
fn a_slow_reader_of_the_log_gets_all_of_it_within_the_shutdown_timeout() {
    let app = App::ok();
    let (gate, unread) = unread(Gate::before(&app).with("shutdown-timeout", TOO_LONG));
    fill(&gate);
    gate.signal("TERM");
    until("the listener to close", || TcpStream::connect(gate.address()).is_err());
    let lines: Vec<String> = unread.lines().map(Result::unwrap).collect();
    let decisions = lines.iter().filter(|line| line.contains("hookgate.decision"));
    assert_eq!(decisions.count(), MORE_THAN_A_PIPE);
    assert!(lines.last().unwrap().contains("hookgate.stop"), "{lines:?}");
    assert_eq!(gate.ended().code(), Some(0));
}

#[test]
fn lines_that_nobody_can_have_any_more_are_counted() {
    let app = App::ok();
    let (gate, unread) = unread(Gate::before(&app));
    assert!(same(gate.metrics().value("hookgate_log_events_dropped_total"), 0.0));
    drop(unread); // EPIPE from now on
    for _ in 0..5 {
        assert_eq!(gate.send(&Signer::github().event()).status, 200, "deliveries go on");
    }
    gate.wait_for_metric("hookgate_log_events_dropped_total", 5.0);
    gate.signal("TERM");
    assert_eq!(gate.ended().code(), Some(0));
}

/// A gate of which nothing is known but its process.
struct Process(Child);

impl Process {
    fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    fn ended(&mut self) -> ExitStatus {
        eventually("the end of the gate", || self.0.try_wait().unwrap())
    }

    /// Whether none of SIGHUP, SIGINT and SIGTERM does what it does to a program that knows nothing.
    fn handles_signals(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        [1, 2, 15].iter().all(|signal| caught >> (signal - 1) & 1 == 1)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn lines_that_find_no_room_are_counted() {
    let app = App::ok();
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [traffic, ops] = listeners.map(|listener| listener.local_addr().unwrap());
    let builder = Gate::before(&app).with("listen", traffic).with("ops-listen", ops);
    let full = File::options().write(true).open("/dev/full").unwrap(); // ENOSPC
    let mut gate = Process(builder.command("run").stdout(full).spawn().unwrap());
    until("the ops listener", || TcpStream::connect(ops).is_ok());
    until("readiness", || get(ops, "/readyz").status == 200);
    let dropped = || {
        let metrics = get(ops, "/metrics").text();
        let value = metrics.lines().find_map(|line| line.strip_prefix("hookgate_log_events_dropped_total "));
        value.unwrap().parse::<u32>().unwrap()
    };
    let mut before = 0;
    until("the lines of the start to be lost", || {
        let seen = std::mem::replace(&mut before, dropped());
        before > 0 && before == seen
    });
    assert_eq!(Sender::connect(traffic).exchange(&Signer::github().event()).status, 200);
    until("one more", || dropped() == before + 1);
    gate.signal("TERM");
    assert_eq!(gate.ended().code(), Some(0));
}

/// So many take a while to read.
const NETWORKS: usize = 200_000;

#[test]
fn who_stops_or_reloads_it_while_it_reads_its_configuration_is_heard() {
    let app = App::ok();
    let network = |n: usize| format!("10.{}.{}.{}\n", n >> 16, n >> 8 & 255, n & 255);
    let networks = (0..NETWORKS).map(network).collect::<Vec<_>>().concat();
    for signal in ["TERM", "INT", "HUP"] {
        let builder = Gate::before(&app).with_file("allow-ip-file", "networks", &networks);
        let mut gate = Process(builder.command("run").stdout(Stdio::piped()).spawn().unwrap());
        until("it to handle signals", || gate.handles_signals());
        gate.signal(signal);
        let output = BufReader::new(gate.0.stdout.take().unwrap());
        let mut lines = output.lines().map(Result::unwrap);
        if signal == "HUP" {
            let reload = lines.find(|line| line.contains("hookgate.reload")).unwrap();
            assert!(reload.contains("reloaded"), "{reload}");
        } else {
            assert_eq!(gate.ended().code(), Some(0), "SIG{signal}: nothing was served, nothing is cut");
            assert_eq!(lines.next(), None, "it was not begun");
        }
    }
}
