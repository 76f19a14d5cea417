//! The HTTPS listener: who is served, with which certificate, and what happens when the
//! files change. Certificates are made on the spot with the `openssl` command.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use support::gate::{program, same};
use support::{App, Builder, Dir, Gate, LIMIT, Sender, Signer, until};

const NAME: &str = "hooks.example";

/// An authority that signs what a test needs.
struct Authority {
    dir: Dir,
}

/// A certificate and its key, as files.
struct Pair {
    cert: PathBuf,
    key: PathBuf,
}

impl Authority {
    /// `None`, and said aloud, where there is no openssl.
    fn new() -> Option<Self> {
        if program("openssl").is_none() {
            eprintln!("SKIPPED: openssl is not on PATH");
            return None;
        }
        let authority = Authority { dir: Dir::new() };
        authority
            .openssl(&format!("req -x509 {NEW_KEY} -keyout ca.key -out ca.pem -days 30 -subj /CN=authority"));
        Some(authority)
    }

    fn openssl(&self, args: &str) {
        let output =
            Command::new("openssl").args(args.split(' ')).current_dir(self.dir.path()).output().unwrap();
        assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn issue(&self, name: &str, days: u32) -> Pair {
        self.dir.write("extensions", format!("subjectAltName=DNS:{NAME}\n"));
        self.openssl(&format!("req -new {NEW_KEY} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} -extfile extensions -out {name}.pem"
        ));
        Pair { cert: self.dir.join(&format!("{name}.pem")), key: self.dir.join(&format!("{name}.key")) }
    }

    fn root(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A client that trusts this authority alone.
    fn client(&self, versions: &[&'static SupportedProtocolVersion], own: Option<&Pair>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&self.root())).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        match own {
            None => builder.with_no_client_auth(),
            Some(Pair { cert, key }) => {
                let key = PrivateKeyDer::from_pem_file(key).unwrap();
                builder.with_client_auth_cert(vec![certificate(cert)], key).unwrap()
            }
        }
    }
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

fn certificate(path: &PathBuf) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// A gate whose certificate stands in its own directory, where a test can replace it.
fn gate(app: &App, pair: &Pair) -> Builder {
    let builder = Gate::before(app).without("insecure-allow-http").with("listen-tls", "127.0.0.1:0");
    install(builder.dir(), pair);
    let (cert, key) = (builder.dir().join("tls.pem"), builder.dir().join("tls.key"));
    builder.with("tls-cert-file", cert.display()).with("tls-key-file", key.display())
}

fn install(dir: &Dir, pair: &Pair) {
    dir.write("tls.pem", std::fs::read(&pair.cert).unwrap());
    dir.write("tls.key", std::fs::read(&pair.key).unwrap());
}

/// A handshake, and the connection with the certificate that the gate showed.
fn connect(gate: &Gate, client: ClientConfig) -> std::io::Result<(Sender, CertificateDer<'static>)> {
    let mut socket = TcpStream::connect(gate.tls_address())?;
    socket.set_read_timeout(Some(LIMIT))?;
    let mut tls = ClientConnection::new(Arc::new(client), NAME.try_into().unwrap()).unwrap();
    tls.complete_io(&mut socket)?;
    let shown = tls.peer_certificates().unwrap()[0].clone().into_owned();
    let raw = socket.try_clone()?;
    Ok((Sender::over(Box::new(StreamOwned::new(tls, socket)), raw), shown))
}

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
    let run = support::gate::run(&mut gate(&app, &mismatched).command("run"));
    assert_eq!(run.code, Some(78), "{}", run.err);
    assert!(run.err.contains("tls.key") && run.err.contains("certificate"), "{}", run.err);
}
