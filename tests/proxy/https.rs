//! The HTTPS listener: who is served, with which certificate, and what happens when the
//! files change. Certificates are made on the spot with the `openssl` command.

use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};

use crate::support::gate::{hookgate, run, same};
use crate::support::{App, Gate, Request, Sender, Signer, until};
use crate::tls::{Authority, NAME, Pair, certificate, connect, gate, install};

#[test]
fn https_is_served_in_both_versions_and_plain_http_beside_it_is_not_enough() {
    let Some(authority) = Authority::new() else { return };
    let app = App::ok();
    let gate = gate(&app, &authority.issue("first", 30)).start();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (mut sender, _) = connect(&gate, authority.client(&[version], None)).unwrap();
        for _ in 0..2 {
            let answer = sender.exchange(&Signer::github().event());
            assert_eq!((answer.status, answer.text().as_str()), (200, "app"), "{version:?}");
        }
    }
    assert_eq!(app.requests()[0].header("X-Forwarded-Proto"), Some("https"));
    let plain = gate.send(&Signer::github().event());
    assert_eq!((plain.status, plain.text().as_str()), (403, "Forbidden"));
    assert_eq!(gate.reason(&plain), "https_required");
    assert_eq!(app.seen(), 4);
}

/// Most senders open a connection for each event, and a handshake is what costs most of that.
#[test]
fn a_sender_that_comes_again_resumes_its_session_however_many_came_between() {
    let Some(authority) = Authority::new() else { return };
    let app = App::ok();
    let gate = gate(&app, &authority.issue("first", 30)).start();
    let client = |version| Arc::new(authority.client(&[version], None));
    let delivered = |client: &Arc<ClientConfig>| deliver(&gate, client, &Signer::github().event());
    let [old, new] = [&rustls::version::TLS12, &rustls::version::TLS13].map(client);
    assert_eq!([&old, &new].map(delivered), [HandshakeKind::Full; 2]);
    for _ in 0..150 {
        let other = client(&rustls::version::TLS13);
        assert_eq!(delivered(&other), HandshakeKind::Full);
    }
    assert_eq!([&old, &new].map(delivered), [HandshakeKind::Resumed; 2]);
    assert_eq!([&old, &new].map(delivered), [HandshakeKind::Resumed; 2], "and again");
}

#[test]
fn the_gate_does_not_speak_plain_http_on_the_https_port() {
    let Some(authority) = Authority::new() else { return };
    let app = App::ok();
    let gate = gate(&app, &authority.issue("first", 30)).start();
    let mut sender = Sender::connect(gate.tls_address());
    sender.send(Signer::github().event().bytes());
    let came = sender.rest();
    assert!(!came.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&came));
    app.assert_untouched("no handshake");
}

/// `hookgate send` over HTTPS: it believes the authority that it is given, and no other; without its word
/// nothing is sent.
#[test]
fn what_is_sent_by_hand_over_https_arrives_where_the_certificate_is_believed() {
    let (Some(authority), Some(other)) = (Authority::new(), Authority::new()) else { return };
    let app = App::ok();
    let gate = gate(&app, &authority.issue("first", 30)).start();
    let send = |host: &str, root: PathBuf, more: &[&str]| {
        let url = format!("https://{host}:{}/webhooks", gate.tls_address().port());
        let mut command = hookgate(&["send", &url, "--provider", "github"]);
        command.args(["--ca-file", root.to_str().unwrap()]).args(more);
        run(command.args(["--secret-file", gate.dir.join("key-1").to_str().unwrap()]))
    };
    let taken = send("localhost", authority.root(), &["--repeat", "2"]);
    assert_eq!(taken.code, Some(0), "{}", taken.err);
    assert!(taken.out.contains("200") && taken.out.contains("Already processed"), "{}", taken.out);
    assert_eq!(app.only_request().header("X-Forwarded-Proto"), Some("https"));
    for (what, host, root) in
        [("another authority", "localhost", other.root()), ("another name", "127.0.0.1", authority.root())]
    {
        let refused = send(host, root, &[]);
        assert_eq!(refused.code, Some(1), "{what}: {}", refused.out);
        assert!(refused.err.contains("certificate"), "{what}: {}", refused.err);
    }
    assert_eq!(app.seen(), 1, "nothing was sent to whom nobody vouches for");
}

#[test]
fn a_client_certificate_is_demanded_where_it_is_configured() {
    let (Some(authority), Some(other)) = (Authority::new(), Authority::new()) else { return };
    let app = App::ok();
    let gate = gate(&app, &authority.issue("first", 30))
        .with("tls-client-ca-file", authority.root().display())
        .start();
    let (good, strange) = (authority.issue("partner", 30), other.issue("partner", 30));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (what, own) in [("none", None), ("another authority's", Some(&strange))] {
            // Under TLS 1.3 a client learns only after its handshake that it was refused.
            let refused = connect(&gate, authority.client(&[version], own)).and_then(|(mut sender, _)| {
                sender.send(Signer::github().event().bytes());
                sender.try_response()
            });
            assert!(refused.is_err(), "{what}, {version:?}: {refused:?}");
        }
    }
    app.assert_untouched("no certificate");
    let (mut sender, _) = connect(&gate, authority.client(rustls::ALL_VERSIONS, Some(&good))).unwrap();
    assert_eq!(sender.exchange(&Signer::github().event()).status, 200);
}

#[test]
fn a_way_past_the_client_certificate_is_refused_or_told() {
    let Some(authority) = Authority::new() else { return };
    let (app, pair) = (App::ok(), authority.issue("first", 30));
    let demanding = || gate(&app, &pair).with("tls-client-ca-file", authority.root().display());
    let refused = run(&mut demanding().without("listen").command("check"));
    assert_eq!(refused.code, Some(78), "{}", refused.err);
    let said = "the plain listener 0.0.0.0:17080 asks for no client certificate: write listen: []";
    assert!(refused.err.contains(said), "{}", refused.err);
    for open in [demanding(), demanding().without("listen").with("insecure-allow-http", "true")] {
        let taken = run(&mut open.command("check"));
        assert_eq!(taken.code, Some(0), "{}", taken.err);
        assert!(taken.out.contains("asks for no client certificate, only"), "{}", taken.out);
    }
    let closed = demanding().without("listen").with_file("config", "closed.yaml", "listen: []\n");
    let taken = run(&mut closed.command("check"));
    assert_eq!(taken.code, Some(0), "{}", taken.err);
    assert!(!taken.out.contains("asks for no client certificate"), "{}", taken.out);
}

#[test]
fn a_renewed_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let Some(authority) = Authority::new() else { return };
    let app = App::ok();
    let (first, second) = (authority.issue("first", 30), authority.issue("second", 60));
    let gate = gate(&app, &first).with("reload-interval", "50ms").start();
    let expires = || gate.metrics().sum("hookgate_certificate_not_after_timestamp_seconds", &[]);
    let client = || authority.client(rustls::ALL_VERSIONS, None);
    let (mut old, shown) = connect(&gate, client()).unwrap();
    assert_eq!(shown, certificate(&first.cert));
    let before = expires();
    assert!(before > 0.0);

    install(&gate.dir, &second);
    until("the new certificate", || connect(&gate, client()).unwrap().1 == certificate(&second.cert));
    let longer = expires() - before;
    assert!((29.0..31.0).contains(&(longer / 86_400.0)), "{longer} seconds longer");
    assert_eq!(old.exchange(&Signer::github().event()).status, 200, "an open connection goes on");
}

#[test]
fn a_broken_renewal_keeps_the_last_good_certificate() {
    let Some(authority) = Authority::new() else { return };
    let app = App::ok();
    let (first, second) = (authority.issue("first", 30), authority.issue("second", 30));
    let read = |path: &PathBuf| std::fs::read(path).unwrap();
    let gate = gate(&app, &first).start();
    for (what, file, content) in [
        ("an empty certificate", "tls.pem", Vec::new()),
        ("rubbish", "tls.pem", b"-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n".to_vec()),
        ("another key", "tls.key", read(&second.key)),
        ("another certificate", "tls.pem", read(&second.cert)),
        ("a certificate for a key", "tls.key", read(&first.cert)),
    ] {
        let failures = || gate.metrics().sum("hookgate_reloads_total", &[("result", "failure")]);
        let before = failures();
        gate.dir.write(file, content);
        gate.signal("HUP");
        until(what, || failures() > before);
        assert!(same(gate.metrics().value("hookgate_last_reload_successful"), 0.0), "{what}");
        let (mut sender, shown) = connect(&gate, authority.client(rustls::ALL_VERSIONS, None)).unwrap();
        assert_eq!(shown, certificate(&first.cert), "{what}");
        assert_eq!(sender.exchange(&Signer::github().event()).status, 200, "{what}");
        install(&gate.dir, &first);
    }
    install(&gate.dir, &second);
    gate.signal("HUP");
    until("the recovery", || same(gate.metrics().value("hookgate_last_reload_successful"), 1.0));
    let (_, shown) = connect(&gate, authority.client(rustls::ALL_VERSIONS, None)).unwrap();
    assert_eq!(shown, certificate(&second.cert));
}

#[test]
fn a_broken_certificate_is_no_start() {
    let Some(authority) = Authority::new() else { return };
    let app = App::ok();
    let (first, second) = (authority.issue("first", 30), authority.issue("second", 30));
    let mismatched = Pair { cert: first.cert, key: second.key };
    let run = run(&mut gate(&app, &mismatched).command("run"));
    assert_eq!(run.code, Some(78), "{}", run.err);
    assert!(run.err.contains("tls.key") && run.err.contains("certificate"), "{}", run.err);
}

/// Delivers something on a connection of its own; tells how the handshake went.
fn deliver(gate: &Gate, client: &Arc<ClientConfig>, request: &Request) -> HandshakeKind {
    let mut socket = TcpStream::connect(gate.tls_address()).unwrap();
    let mut tls = ClientConnection::new(Arc::clone(client), NAME.try_into().unwrap()).unwrap();
    tls.complete_io(&mut socket).unwrap();
    let kind = tls.handshake_kind().unwrap();
    let raw = socket.try_clone().unwrap();
    let mut sender = Sender::over(Box::new(StreamOwned::new(tls, socket)), raw);
    assert_eq!(sender.exchange(request).status, 200);
    kind
}
