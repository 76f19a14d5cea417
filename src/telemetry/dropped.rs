//! Connections that ended before a request was there: every one is counted, and of each kind
//! one in a while is told, so that a scanner does not fill the log.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Telemetry;
use super::event::Event;
use crate::clock::{self, Now};
use crate::lock::lock;

/// Why a connection ended before HTTP. A closed list: the metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// Its address has as many connections as one may have.
    AddressFull,
    /// There are as many connections as there may be.
    Full,
    /// It was idle when another sender needed its place.
    GaveWay,
    /// The sender left in the midst of a request's head.
    HeadIncomplete,
    /// The request's head did not come in time.
    HeadTimeout,
    /// Open files run short.
    NoDescriptor,
    /// Nothing at all was sent.
    Nothing,
    /// A PROXY preamble that is none.
    ProxyMalformed,
    /// No PROXY preamble, where one is required.
    ProxyMissing,
    /// A peer that may not send a PROXY preamble, where one is required.
    ProxyUntrusted,
    /// The sender objects, for example to our certificate.
    TlsAlert,
    /// The sender shows no certificate, and one is demanded.
    TlsCertificateMissing,
    /// The sender's certificate does not hold.
    TlsCertificateRefused,
    /// No cipher or key exchange in common.
    TlsCipher,
    /// The sender left in the midst of the handshake.
    TlsClosed,
    /// What came is no TLS, or breaks its rules.
    TlsMalformed,
    /// A plain HTTP request on a port for TLS.
    TlsPlainHttp,
    /// The handshake did not end in time.
    TlsTimeout,
    /// No version of TLS in common.
    TlsVersion,
}

impl Drop {
    pub const ALL: [Drop; 19] = [
        Drop::AddressFull,
        Drop::Full,
        Drop::GaveWay,
        Drop::HeadIncomplete,
        Drop::HeadTimeout,
        Drop::NoDescriptor,
        Drop::Nothing,
        Drop::ProxyMalformed,
        Drop::ProxyMissing,
        Drop::ProxyUntrusted,
        Drop::TlsAlert,
        Drop::TlsCertificateMissing,
        Drop::TlsCertificateRefused,
        Drop::TlsCipher,
        Drop::TlsClosed,
        Drop::TlsMalformed,
        Drop::TlsPlainHttp,
        Drop::TlsTimeout,
        Drop::TlsVersion,
    ];

    pub const fn label(self) -> &'static str {
        match self {
            Drop::AddressFull => "address_full",
            Drop::Full => "full",
            Drop::GaveWay => "gave_way",
            Drop::HeadIncomplete => "head_incomplete",
            Drop::HeadTimeout => "head_timeout",
            Drop::NoDescriptor => "no_descriptor",
            Drop::Nothing => "nothing_sent",
            Drop::ProxyMalformed => "proxy_malformed",
            Drop::ProxyMissing => "proxy_missing",
            Drop::ProxyUntrusted => "proxy_untrusted",
            Drop::TlsAlert => "tls_alert",
            Drop::TlsCertificateMissing => "tls_certificate_missing",
            Drop::TlsCertificateRefused => "tls_certificate_refused",
            Drop::TlsCipher => "tls_cipher",
            Drop::TlsClosed => "tls_closed",
            Drop::TlsMalformed => "tls_malformed",
            Drop::TlsPlainHttp => "tls_plain_http",
            Drop::TlsTimeout => "tls_timeout",
            Drop::TlsVersion => "tls_version",
        }
    }

    /// What it means, and what helps.
    const fn text(self) -> &'static str {
        match self {
            Drop::AddressFull => "its address has as many as limits.max_connections_per_address allows",
            Drop::Full => "all places are taken: limits.max_connections",
            Drop::GaveWay => "it was idle, and another sender needed its place",
            Drop::HeadIncomplete => "the sender left in the midst of a request's head",
            Drop::HeadTimeout => "the head of its request was not complete within header_timeout",
            Drop::NoDescriptor => {
                "open files run short: raise their limit (ulimit -Hn, LimitNOFILE) or lower limits.max_connections"
            }
            Drop::Nothing => "nothing was sent",
            Drop::ProxyMalformed => "its PROXY preamble is malformed",
            Drop::ProxyMissing => "it has no PROXY preamble, and proxy_protocol requires one",
            Drop::ProxyUntrusted => {
                "proxy_protocol requires a preamble, and this peer is not in trusted_proxies"
            }
            Drop::TlsAlert => "the sender broke the TLS handshake off: it may not believe our certificate",
            Drop::TlsCertificateMissing => "it shows no certificate, and tls_client_ca_file demands one",
            Drop::TlsCertificateRefused => "its certificate does not hold under tls_client_ca_file",
            Drop::TlsCipher => "it has no cipher or key exchange in common with us",
            Drop::TlsClosed => "the sender left in the midst of the TLS handshake",
            Drop::TlsMalformed => "what it sent is no valid TLS",
            Drop::TlsPlainHttp => "it speaks plain HTTP, and this port is for TLS",
            Drop::TlsTimeout => "the TLS handshake did not end in time",
            Drop::TlsVersion => "it has no version of TLS in common with us: 1.2 and 1.3 are spoken here",
        }
    }
}

/// Where the ends of one listener's connections are told.
pub struct DroppedAt {
    listener: String,
    telemetry: Arc<Telemetry>,
    sampled: Sampled,
    /// When it was last told that none can be accepted.
    starved: Mutex<Option<Duration>>,
}

impl DroppedAt {
    /// `listener` is its address as configured.
    pub fn new(listener: String, telemetry: &Arc<Telemetry>) -> Self {
        telemetry.metrics.listens(&listener);
        let telemetry = Arc::clone(telemetry);
        DroppedAt { listener, telemetry, sampled: Sampled::default(), starved: Mutex::default() }
    }

    /// `more` is what is known beside the kind.
    pub fn dropped(&self, drop: Drop, peer: SocketAddr, more: Option<&str>) {
        self.telemetry.metrics.dropped(&self.listener, drop);
        if let Some(message) = self.sampled.line(&self.listener, drop, peer, more, clock::now()) {
            self.telemetry.tell(Event::Dropped(&message));
        }
    }

    /// A connection waits, because it could not be accepted.
    pub fn starved(&self, error: &io::Error) {
        self.telemetry.metrics.starved(&self.listener);
        let now = clock::now().mono;
        let mut last = lock(&self.starved);
        if last.is_none_or(|last| now.saturating_sub(last) >= ONE_IN) {
            *last = Some(now);
            self.telemetry.tell(Event::Starved { listener: &self.listener, error });
        }
    }
}

/// When each kind was last told, and how many came since, for one listener.
#[derive(Default)]
struct Sampled(Mutex<[(Option<Duration>, u64); Drop::ALL.len()]>);

/// Of each kind, one in so long is told.
const ONE_IN: Duration = Duration::from_secs(10);

impl Sampled {
    /// What to tell of this one, if anything. `more` is what is known beside the kind.
    fn line(
        &self,
        listener: &str,
        drop: Drop,
        peer: SocketAddr,
        more: Option<&str>,
        now: Now,
    ) -> Option<String> {
        if drop == Drop::Nothing {
            return None; // health checks of balancers do so all day
        }
        let mut kinds = lock(&self.0);
        let (last, untold) = &mut kinds[drop as usize];
        if last.is_some_and(|last| now.mono.saturating_sub(last) < ONE_IN) {
            *untold += 1;
            return None;
        }
        *last = Some(now.mono);
        let untold = std::mem::take(untold);
        let mut line =
            format!("a connection from {peer} to {listener} ended before a request: {}", drop.text());
        if let Some(part) = more {
            line += "; ";
            line += part;
        }
        if untold > 0 {
            _ = write!(line, "; {untold} more of the kind were not told");
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn of_each_kind_one_in_a_while_is_told_with_the_number_of_the_others() {
        let (sampled, peer) = (Sampled::default(), "192.0.2.1:4711".parse().unwrap());
        let start = clock::now();
        let line = |drop, after: u64| {
            let now = Now { mono: start.mono + Duration::from_secs(after), ..start };
            sampled.line("0.0.0.0:443", drop, peer, Some("it offers nothing"), now)
        };
        let first = line(Drop::TlsVersion, 0).unwrap();
        assert!(
            first.contains("from 192.0.2.1:4711 to 0.0.0.0:443") && first.ends_with("nothing"),
            "{first}"
        );
        assert_eq!(line(Drop::TlsVersion, 1), None);
        assert_eq!(line(Drop::TlsVersion, 9), None);
        assert!(line(Drop::TlsCipher, 9).is_some(), "another kind");
        assert!(line(Drop::TlsVersion, 10).unwrap().ends_with("; 2 more of the kind were not told"));
        assert_eq!(line(Drop::Nothing, 100), None);
    }

    #[test]
    fn the_list_is_in_the_order_of_its_numbers_and_its_labels() {
        for (n, drop) in Drop::ALL.into_iter().enumerate() {
            assert_eq!(drop as usize, n);
        }
        assert!(Drop::ALL.windows(2).all(|pair| pair[0].label() < pair[1].label()));
    }
}
