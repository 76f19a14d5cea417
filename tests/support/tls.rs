//! Certificates made on the spot with the `openssl` command, and TLS clients that believe
//! in them.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::gate::program;
use crate::support::{App, Builder, Dir, Gate, LIMIT, Sender};

pub const NAME: &str = "hooks.example";

/// An authority that signs what a test needs.
pub struct Authority {
    dir: Dir,
}

/// A certificate and its key, as files.
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// `None`, and said aloud, where there is no openssl.
    pub fn new() -> Option<Self> {
        if program("openssl").is_none() {
            eprintln!("SKIPPED: openssl is not on PATH");
            return None;
        }
        let authority = Authority { dir: Dir::new() };
        authority
            .openssl(&format!("req -x509 {NEW_KEY} -keyout ca.key -out ca.pem -days 30 -subj /CN=authority"));
        Some(authority)
    }

    pub fn openssl(&self, args: &str) {
        let output =
            Command::new("openssl").args(args.split(' ')).current_dir(self.dir.path()).output().unwrap();
        assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A negative number of days makes one that has expired.
    pub fn issue(&self, name: &str, days: i32) -> Pair {
        self.issue_for(name, days, &format!("DNS:{NAME},DNS:localhost"))
    }

    /// For servers under these names and addresses.
    pub fn issue_for(&self, name: &str, days: i32, servers: &str) -> Pair {
        self.dir.write("extensions", format!("subjectAltName={servers}\n"));
        self.openssl(&format!("req -new {NEW_KEY} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} -extfile extensions -out {name}.pem"
        ));
        Pair { cert: self.dir.join(&format!("{name}.pem")), key: self.dir.join(&format!("{name}.key")) }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A client that trusts this authority alone.
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion], own: Option<&Pair>) -> ClientConfig {
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

pub fn certificate(path: &PathBuf) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// A gate whose certificate stands in its own directory, where a test can replace it.
pub fn gate(app: &App, pair: &Pair) -> Builder {
    let builder = Gate::before(app).without("insecure-allow-http").with("listen-tls", "127.0.0.1:0");
    install(builder.dir(), pair);
    let (cert, key) = (builder.dir().join("tls.pem"), builder.dir().join("tls.key"));
    builder.with("tls-cert-file", cert.display()).with("tls-key-file", key.display())
}

pub fn install(dir: &Dir, pair: &Pair) {
    dir.write("tls.pem", std::fs::read(&pair.cert).unwrap());
    dir.write("tls.key", std::fs::read(&pair.key).unwrap());
}

/// A handshake, and the connection with the certificate that the gate showed.
pub fn connect(gate: &Gate, client: ClientConfig) -> std::io::Result<(Sender, CertificateDer<'static>)> {
    over(TcpStream::connect(gate.tls_address())?, client)
}

/// The same on a connection that is there.
pub fn over(
    mut socket: TcpStream,
    client: ClientConfig,
) -> std::io::Result<(Sender, CertificateDer<'static>)> {
    socket.set_read_timeout(Some(LIMIT))?;
    let mut tls = ClientConnection::new(Arc::new(client), NAME.try_into().unwrap()).unwrap();
    tls.complete_io(&mut socket)?;
    let shown = tls.peer_certificates().unwrap()[0].clone().into_owned();
    let raw = socket.try_clone()?;
    Ok((Sender::over(Box::new(StreamOwned::new(tls, socket)), raw), shown))
}
