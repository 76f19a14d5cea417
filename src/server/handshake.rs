//! Why a TLS handshake failed, in the words of the closed list, and what the sender had offered.

use std::io;
use std::time::Duration;

use rustls::{AlertDescription, Error, PeerIncompatible};

use super::hello::{Hello, tame};
use crate::telemetry::dropped::Drop as Why;

/// How long a TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// `None` if the time was over. `said` is what the sender said.
pub fn why(error: Option<&pingora::Error>, said: &[u8]) -> (Why, Option<String>) {
    let offered = || Hello::parse(said).map(|hello| hello.to_string());
    let Some(error) = error else {
        return (if said.is_empty() { Why::Nothing } else { Why::TlsTimeout }, offered());
    };
    let cause = error.root_cause().downcast_ref::<io::Error>();
    let of_tls = cause.and_then(|e| e.get_ref()).and_then(|e| e.downcast_ref::<Error>());
    let Some(of_tls) = of_tls else {
        return (if said.is_empty() { Why::Nothing } else { Why::TlsClosed }, offered());
    };
    let why = match of_tls {
        Error::AlertReceived(AlertDescription::CloseNotify | AlertDescription::UserCanceled) => Why::TlsClosed,
        Error::AlertReceived(_) => Why::TlsAlert,
        Error::NoCertificatesPresented => Why::TlsCertificateMissing,
        Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_) => Why::TlsCertificateRefused,
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => Why::TlsVersion,
        Error::PeerIncompatible(_) => Why::TlsCipher,
        _ if is_http(said) => Why::TlsPlainHttp,
        _ => Why::TlsMalformed,
    };
    let reason = of_tls.to_string();
    let more = match (why, offered()) {
        (Why::TlsPlainHttp, _) => None,
        (_, Some(offered)) => Some(format!("{}; {offered}", tame_reason(&reason))),
        (_, None) => Some(tame_reason(&reason)),
    };
    (why, more)
}

/// A method, a space and a path.
fn is_http(said: &[u8]) -> bool {
    let method = said.iter().take_while(|b| b.is_ascii_uppercase()).count();
    (3..=8).contains(&method) && said.get(method..method + 2).is_some_and(|rest| matches!(rest, b" /" | b" *" | b" h"))
}

/// The library's words, which may quote the sender's.
fn tame_reason(reason: &str) -> String {
    reason.split_whitespace().map(|word| tame(word.as_bytes())).take(30).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_known_by_its_first_words() {
        for said in ["GET / HTTP/1.1\r\n", "POST /hooks", "OPTIONS * HTTP/1.1", "POST http://a/ HTTP/1.1"] {
            assert!(is_http(said.as_bytes()), "{said}");
        }
        for said in ["", "GET", "GET  /", "get / HTTP/1.1", "\u{16}\u{3}\u{1}", "SSH-2.0-x", "PROPFINDERS /"] {
            assert!(!is_http(said.as_bytes()), "{said}");
        }
    }
}
