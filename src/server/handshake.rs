//! Why a TLS handshake failed, in the words of the closed list, and what the sender had offered.
//!
//! Pingora hands on only the words of rustls, not its error. They are compared with what rustls says
//! of the errors that are meant, so that another wording would be found by the compiler or a test.

use std::time::Duration;

use rustls::{Error, PeerIncompatible};

use super::hello::{Hello, tame};
use crate::telemetry::dropped::Drop as Why;

/// How long a TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

const NO_VERSION: [PeerIncompatible; 5] = [
    PeerIncompatible::ServerDoesNotSupportTls12Or13,
    PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
    PeerIncompatible::SupportedVersionsExtensionRequired,
    PeerIncompatible::Tls12NotOffered,
    PeerIncompatible::Tls12NotOfferedOrEnabled,
];
/// What these errors begin with, whatever the peer has done.
const INCOMPATIBLE: &str = "peer is incompatible: ";
const ALERT: &str = "received fatal alert: ";
const CERTIFICATE: &str = "invalid peer certificate: ";
/// What stands in front of rustls's words.
const PREFIX: &str = "tls connect error: ";

/// `None` if the time was over. `said` is what the sender said.
pub fn why(error: Option<&pingora::Error>, said: &[u8]) -> (Why, Option<String>) {
    let told = error.map(ToString::to_string);
    if said.is_empty() {
        return (Why::Nothing, None);
    }
    let words = told.as_deref().map(|told| told.rsplit_once(PREFIX).map_or(told, |(_, words)| words).trim());
    let hello = Hello::parse(said);
    let why = match words.map_or(Why::TlsTimeout, |words| kind(words, said)) {
        // Rustls may object first to what old versions do not have.
        Why::TlsCipher if hello.as_ref().is_some_and(Hello::is_outdated) => Why::TlsVersion,
        why => why,
    };
    let words = words.filter(|_| !matches!(why, Why::TlsPlainHttp | Why::TlsClosed)).map(tame_words);
    let offered = hello.map(|hello| hello.to_string());
    let parts: Vec<_> = words.into_iter().chain(offered).collect();
    (why, (!parts.is_empty()).then(|| parts.join("; ")))
}

fn kind(words: &str, said: &[u8]) -> Why {
    if NO_VERSION.into_iter().any(|kind| words.contains(&Error::PeerIncompatible(kind).to_string())) {
        Why::TlsVersion
    } else if words.contains(INCOMPATIBLE) {
        Why::TlsCipher
    } else if words.contains(&Error::NoCertificatesPresented.to_string()) {
        Why::TlsCertificateMissing
    } else if words.contains(CERTIFICATE) {
        Why::TlsCertificateRefused
    } else if words.contains(ALERT) {
        Why::TlsAlert
    } else if is_http(said) {
        Why::TlsPlainHttp
    } else if words.starts_with("received ") || words.starts_with("peer ") {
        Why::TlsMalformed
    } else {
        Why::TlsClosed // an error of the connection
    }
}

/// A method, a space and a path.
fn is_http(said: &[u8]) -> bool {
    let method = said.iter().take_while(|b| b.is_ascii_uppercase()).count();
    (3..=8).contains(&method)
        && said.get(method..method + 2).is_some_and(|rest| matches!(rest, b" /" | b" *" | b" h"))
}

/// The library's words, which may quote the sender's.
fn tame_words(words: &str) -> String {
    words.split_whitespace().map(|word| tame(word.as_bytes())).take(30).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, CertificateError, InvalidMessage};

    use super::*;

    #[test]
    fn each_error_of_rustls_has_its_kind() {
        for (error, why) in [
            (Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled), Why::TlsVersion),
            (Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), Why::TlsCipher),
            (Error::PeerIncompatible(PeerIncompatible::NoKxGroupsInCommon), Why::TlsCipher),
            (Error::NoCertificatesPresented, Why::TlsCertificateMissing),
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), Why::TlsCertificateRefused),
            (Error::AlertReceived(AlertDescription::UnknownCA), Why::TlsAlert),
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), Why::TlsMalformed),
            (Error::PeerSentOversizedRecord, Why::TlsMalformed),
        ] {
            assert_eq!(kind(&error.to_string(), &[22]), why, "{error}");
        }
        assert_eq!(kind("tls handshake eof", &[22]), Why::TlsClosed);
        assert_eq!(kind("Connection reset by peer (os error 104)", &[22]), Why::TlsClosed);
    }

    #[test]
    fn plain_http_is_known_by_its_first_words() {
        for said in ["GET / HTTP/1.1\r\n", "POST /hooks", "OPTIONS * HTTP/1.1", "POST http://a/ HTTP/1.1"] {
            assert!(is_http(said.as_bytes()), "{said}");
        }
        for said in ["", "GET", "GET  /", "get / HTTP/1.1", "\u{16}\u{3}\u{1}", "SSH-2.0-x", "PROPFINDERS /"]
        {
            assert!(!is_http(said.as_bytes()), "{said}");
        }
    }
}
