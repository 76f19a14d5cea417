//! Connections that end before a request: each leaves a trace, none leaves a flood.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::gate::{run_within, same};
use crate::support::{App, Gate, Sender, Signer, until};
use crate::tls::{self, Authority, NAME};

fn dropped(gate: &Gate, reason: &str) -> f64 {
    gate.metrics().sum("hookgate_connections_dropped_total", &[("reason", reason)])
}

/// It is counted under this reason, and the log says so much of it.
fn told(gate: &Gate, reason: &str, says: &[&str]) {
    until(reason, || dropped(gate, reason) > 0.5);
    gate.log.find(reason, |line| {
        let body = line["body"].as_str().unwrap_or_default();
        line["event.name"] == "hookgate.connection"
            && body.contains("127.0.0.1:")
            && says.iter().all(|part| body.contains(part))
    });
}

/// What openssl says in a handshake with these arguments. How it ends is for the gate to tell.
fn handshake(gate: &Gate, args: &str) {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-connect", &gate.tls_address().to_string()]).args(args.split(' '));
    _ = run_within(Duration::from_secs(20), client.stdin(Stdio::null()));
}

#[test]
fn every_series_is_there_from_the_start() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    let metrics = gate.metrics();
    for reason in [
        "address_full",
        "full",
        "gave_way",
        "head_incomplete",
        "head_timeout",
        "no_descriptor",
        "nothing_sent",
        "proxy_malformed",
        "proxy_missing",
        "proxy_untrusted",
        "tls_alert",
        "tls_certificate_missing",
        "tls_certificate_refused",
        "tls_cipher",
        "tls_closed",
        "tls_malformed",
        "tls_plain_http",
        "tls_timeout",
        "tls_version",
    ] {
        let series =
            format!("hookgate_connections_dropped_total{{listener=\"127.0.0.1:0\",reason=\"{reason}\"}}");
        assert!(same(metrics.value(&series), 0.0), "{series}");
    }
}

#[test]
fn a_handshake_that_fails_is_told_with_what_the_sender_offered() {
    let Some(authority) = Authority::new() else { return };
    let app = App::ok();
    let pair = authority.issue("gate", 30);
    let gate = tls::gate(&app, &pair).start();
    for (args, reason, says) in [
        (
            "-tls1_1 -cipher ALL:@SECLEVEL=0 -servername old.example",
            "tls_version",
            &["TLSv1_1", "\"old.example\""],
        ),
        (
            "-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA -servername cbc.example",
            "tls_cipher",
            &["TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "TLSv1_2"],
        ),
    ] as [(&str, &str, &[&str]); 2]
    {
        handshake(&gate, args);
        told(&gate, reason, says);
    }
    let stranger = Authority::new().unwrap().client(rustls::ALL_VERSIONS, None);
    assert!(tls::connect(&gate, stranger).is_err());
    told(&gate, "tls_alert", &["may not believe our certificate", &format!("\"{NAME}\"")]);

    Sender::connect(gate.tls_address()).send("POST /webhooks HTTP/1.1\r\nHost: a\r\n\r\n");
    told(&gate, "tls_plain_http", &["it speaks plain HTTP"]);
    Sender::connect(gate.tls_address()).send("SSH-2.0-client\r\n");
    told(&gate, "tls_malformed", &["no valid TLS"]);
    let mut half = Sender::connect(gate.tls_address());
    half.send([22, 3, 1, 0, 200, 1]);
    drop(half);
    told(&gate, "tls_closed", &["left in the midst"]);
}

#[test]
fn a_sender_without_its_certificate_is_told_from_one_with_a_wrong_one() {
    let (Some(authority), Some(other)) = (Authority::new(), Authority::new()) else { return };
    let app = App::ok();
    let gate = tls::gate(&app, &authority.issue("gate", 30))
        .with("tls-client-ca-file", authority.root().display())
        .start();
    let client = |own: Option<&tls::Pair>| {
        // With TLS 1.3 a client learns of it at its first reading.
        let connected = tls::connect(&gate, authority.client(rustls::ALL_VERSIONS, own));
        _ = connected.map(|(mut sender, _)| sender.rest());
    };
    client(None);
    told(&gate, "tls_certificate_missing", &["tls_client_ca_file"]);
    client(Some(&other.issue("stranger", 30)));
    told(&gate, "tls_certificate_refused", &["does not hold", "invalid peer certificate"]);
}

#[test]
fn odd_names_are_no_warning_each_and_cannot_write_into_the_log() {
    let Some(authority) = Authority::new() else { return };
    let app = App::ok();
    let gate = tls::gate(&app, &authority.issue("gate", 30)).start();
    for n in 0..20 {
        handshake(&gate, &format!("-tls1_1 -cipher ALL:@SECLEVEL=0 -servername \u{1b}[31m\"{n}\r\n_"));
        if n == 0 {
            told(&gate, "tls_malformed", &["\"?[31m?0??_\""]);
        }
    }
    assert!(dropped(&gate, "tls_malformed") > 19.5, "each is counted");
    let lines = gate.log.count(|line| line["severity_text"] == "WARN");
    assert!(lines <= 5, "{lines} lines of 20");
    assert!(!gate.log.text().contains('\u{1b}'));
}

#[test]
fn what_a_balancer_leaves_out_or_garbles_is_told() {
    let app = App::ok();
    let gate =
        Gate::before(&app).with("trusted-proxy", "127.0.0.1/32").with("proxy-protocol", "required").start();
    gate.connect().send(Signer::github().event().bytes());
    told(&gate, "proxy_missing", &["no PROXY preamble"]);
    gate.connect().send("PROXY TCP4 nonsense\r\n");
    told(&gate, "proxy_malformed", &["malformed"]);
    Sender::connect_from("127.0.0.2", gate.address()).send("PROXY TCP4 192.0.2.1 10.0.0.1 1 443\r\n");
    until("the stranger", || dropped(&gate, "proxy_untrusted") > 0.5);
}

#[test]
fn a_head_that_does_not_end_is_told_and_silence_is_only_counted() {
    let app = App::ok();
    let gate = Gate::before(&app).with("header-timeout", "300ms").start();
    let mut slow = gate.connect();
    slow.send("POST /webhooks HTTP/1.1\r\nHost:");
    told(&gate, "head_timeout", &["header_timeout"]);
    let mut gone = gate.connect();
    gone.send("POST /webhooks HTTP/1.1\r\nHost:");
    drop(gone);
    told(&gate, "head_incomplete", &["in the midst"]);
    drop(gate.connect());
    until("the silent one", || dropped(&gate, "nothing_sent") > 0.5);
    let reasons = ["head_timeout", "head_incomplete", "nothing_sent"];
    let before = reasons.map(|reason| dropped(&gate, reason));

    // None of these ended before a request.
    let mut served = gate.connect();
    assert_eq!(served.exchange(&Signer::github().event()).status, 200);
    drop(served);
    let mut refused = gate.connect();
    refused.send("nonsense\r\n\r\n");
    assert!(refused.rest().starts_with(b"HTTP/1.1 400"));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(reasons.map(|reason| dropped(&gate, reason)).map(f64::to_bits), before.map(f64::to_bits));
    let silent =
        gate.log.count(|line| line["body"].as_str().is_some_and(|body| body.contains("nothing was sent")));
    assert_eq!(silent, 0);
    drop(slow);
}

#[test]
fn who_is_too_many_is_told() {
    let app = App::ok();
    let gate = Gate::before(&app).with("max-connections-per-address", "2").start();
    let mut held: Vec<_> = (0..3).map(|_| gate.connect()).collect();
    told(&gate, "address_full", &["max_connections_per_address"]);
    assert!(held.pop().unwrap().rest().starts_with(b"HTTP/1.1 503"));
}

#[test]
fn both_families_may_have_one_port() {
    let app = App::ok();
    for pair in [["0.0.0.0", "[::]"], ["[::]", "0.0.0.0"]] {
        let port = std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        let listens = pair.map(|host| format!("{host}:{port}"));
        let gate = Gate::before(&app).with("listen", &listens[0]).and("listen", &listens[1]).start();
        for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
            let mut sender = Sender::connect(address.parse().unwrap());
            assert_eq!(sender.exchange(&Signer::github().event()).status, 200, "{address}");
        }
        drop(gate);
    }
}
