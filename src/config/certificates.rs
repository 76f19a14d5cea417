//! Certificates: checked completely before they are used, swapped whole on reload.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// What an HTTPS listener needs, proven to work together.
pub struct TlsMaterial {
    config: Arc<ServerConfig>,
    not_after: i64,
}

/// Which file is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Certificate,
    Key,
    ClientCa,
}

#[derive(Debug)]
pub struct TlsError {
    pub part: Part,
    pub message: String,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl TlsMaterial {
    /// From PEM: the chain with the leaf first, its key, and the authorities for client
    /// certificates if those are demanded. TLS 1.2 and 1.3, HTTP/1.1 only.
    pub fn new(cert: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Result<Self, TlsError> {
        let fault = |part, message: &str| TlsError { part, message: message.to_owned() };
        let chain = certificates(cert)
            .ok_or_else(|| fault(Part::Certificate, "holds no certificate: write a PEM chain, leaf first"))?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| fault(Part::Key, "holds no private key: write one in PEM"))?;
        let not_after = x509_parser::parse_x509_certificate(&chain[0])
            .map_err(|_| fault(Part::Certificate, "the first certificate cannot be read"))?
            .1
            .validity()
            .not_after
            .timestamp();

        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| fault(Part::Certificate, &e.to_string()))?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let roots =
                    roots(pem).ok_or_else(|| fault(Part::ClientCa, "holds no certificate authority"))?;
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|e| fault(Part::ClientCa, &e.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|e| TlsError {
            part: Part::Key,
            message: format!("does not go with the certificate: {e}"),
        })?;
        // Senders keep their sessions, so that any number of them can resume one. Whoever has seen the
        // traffic of TLS 1.2 could read it with the keys of these tickets: they change every six hours,
        // never leave the process, and end with these certificates.
        config.ticketer =
            ring::Ticketer::new().map_err(|e| fault(Part::Certificate, &format!("no random keys: {e}")))?;
        Ok(TlsMaterial { config: Arc::new(config), not_after })
    }

    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// When the leaf expires, in seconds since the epoch.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }
}

fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    chain.ok().filter(|chain| !chain.is_empty())
}

fn roots(pem: &[u8]) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).ok()?;
    }
    Some(roots)
}
