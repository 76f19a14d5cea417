//! Who the sender is: the PROXY protocol, and what trusted proxies forward.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hookgate::gate::delivery::{AddressHeader, Client, Headers, Peer, TrustedProxies};
use hookgate::server::proxy_protocol::{self, ProxyProtocol, Refused};
use http::HeaderValue;
use tokio::io::{AsyncRead, ReadBuf};

use super::{block_on, head_and_body};

/// The sender and what is left for HTTP, however the bytes arrive; nothing is lost, and a sender
/// is named only where the preamble names one.
pub fn proxy_protocol(data: &[u8]) {
    let required = preamble(data, ProxyProtocol::Required, usize::MAX);
    assert_eq!(required, preamble(data, ProxyProtocol::Required, 1), "byte by byte");
    let optional = preamble(data, ProxyProtocol::Optional, usize::MAX);
    match required {
        Ok((sender, rest)) => {
            assert!(data.ends_with(&rest));
            assert_eq!(optional, Ok((sender, rest.clone())));
            assert_eq!(sender.map(|sender| sender.ip()), named(data), "what the bytes say");
            if let Some(sender) = sender {
                let again = [line(sender).as_bytes(), &rest].concat();
                let again = preamble(&again, ProxyProtocol::Required, usize::MAX);
                assert_eq!(again, Ok((Some(sender), rest)), "written anew");
            }
        }
        Err(refused) => assert!(optional == Err(refused) || optional == Ok((None, data.to_vec()))),
    }
}

type Read = Result<(Option<SocketAddr>, Vec<u8>), Refused>;

fn preamble(data: &[u8], mode: ProxyProtocol, step: usize) -> Read {
    let mut stream = Steps { data, step };
    let read = block_on(proxy_protocol::read(&mut stream, mode, Duration::from_secs(5)))?;
    Ok((read.sender, [&read.ahead, stream.data].concat()))
}

/// Gives at most so many bytes at once.
struct Steps<'d> {
    data: &'d [u8],
    step: usize,
}

impl AsyncRead for Steps<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (now, later) = self.data.split_at(self.data.len().min(self.step).min(buffer.remaining()));
        buffer.put_slice(now);
        self.data = later;
        Poll::Ready(Ok(()))
    }
}

/// The source address by the protocol's own description, read with nothing of the gate's.
fn named(preamble: &[u8]) -> Option<IpAddr> {
    if let Some(line) = preamble.strip_prefix(b"PROXY TCP") {
        let line = line.split(|b| *b == b'\r').next()?;
        return std::str::from_utf8(line).ok()?.split(' ').nth(1)?.parse().ok();
    }
    match (preamble.get(12)?, preamble.get(13)? >> 4) {
        (0x21, 1) => Some(IpAddr::from(<[u8; 4]>::try_from(preamble.get(16..20)?).ok()?)),
        (0x21, 2) => Some(IpAddr::from(<[u8; 16]>::try_from(preamble.get(16..32)?).ok()?)),
        _ => None,
    }
}

fn line(sender: SocketAddr) -> String {
    let (family, ip, port) = (if sender.is_ipv4() { 4 } else { 6 }, sender.ip(), sender.port());
    format!("PROXY TCP{family} {ip} {ip} {port} 443\r\n")
}

/// An untrusted peer names nobody, a trusted one whom it appended last, and what the sender wrote
/// itself decides nothing.
pub fn forwarded(data: &[u8]) {
    let (mut headers, _) = head_and_body(data);
    let networks = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap()).to_vec();
    let chain = TrustedProxies::new(networks.clone(), AddressHeader::Chain("x-forwarded-for"));
    let single = TrustedProxies::new(networks.clone(), AddressHeader::Single("x-real-ip"));
    let stranger = Peer { address: "192.0.2.9".parse().unwrap(), relay: None, tls: false };
    let proxy = Peer { address: "10.0.0.1".parse().unwrap(), relay: None, tls: false };

    let forwarded = TrustedProxies::new(networks.clone(), AddressHeader::Forwarded);
    for proxies in [&chain, &single, &forwarded] {
        assert_eq!(
            proxies.resolve(stranger, Headers::Made(&headers)),
            (Client::Known(stranger.address), false)
        );
    }
    let protos = joined(&headers, "x-forwarded-proto");
    let list = joined(&headers, "x-forwarded-for");
    let (client, hops) = expected(&chain, list.as_deref(), proxy.address);
    assert_eq!(
        chain.resolve(proxy, Headers::Made(&headers)),
        (client, expected_https(protos.as_deref(), hops))
    );
    match single.resolve(proxy, Headers::Made(&headers)).0 {
        Client::Known(address) if address == proxy.address => {}
        Client::Known(address) => {
            let [only] = headers.get_all("x-real-ip").iter().collect::<Vec<_>>()[..] else {
                panic!("{address} out of several")
            };
            assert_eq!(address_in(only.as_bytes()), Some(address));
        }
        Client::Unknown => assert!(headers.contains_key("x-real-ip")),
    }
    // The proxy saw this sender: nothing before it counts.
    headers.append("x-forwarded-for", HeaderValue::from_static("203.0.113.7"));
    assert_eq!(
        chain.resolve(proxy, Headers::Made(&headers)).0,
        Client::Known("203.0.113.7".parse().unwrap())
    );
    headers.append("forwarded", HeaderValue::from_static("for=203.0.113.7;proto=https"));
    let named = (Client::Known("203.0.113.7".parse().unwrap()), true);
    assert_eq!(forwarded.resolve(proxy, Headers::Made(&headers)), named);
    // Or behind the sender's own words in one line: it reads as before, or not at all.
    let own = joined(&headers, "forwarded").unwrap_or_default();
    headers.insert("forwarded", HeaderValue::from_bytes(&own).unwrap());
    let found = forwarded.resolve(proxy, Headers::Made(&headers));
    assert!(found == named || found == (Client::Unknown, false), "{found:?}");
}

/// All lines of a header as the one line that they stand for (RFC 9110, section 5.3).
fn joined(headers: &http::HeaderMap, name: &str) -> Option<Vec<u8>> {
    let lines: Vec<_> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    (!lines.is_empty()).then(|| lines.join(&b','))
}

/// What a list says, without empty elements.
fn said(list: Option<&[u8]>) -> Vec<&[u8]> {
    let elements = list.unwrap_or_default().split(|b| *b == b',').map(<[u8]>::trim_ascii);
    elements.filter(|element| !element.is_empty()).collect()
}

/// The first address from the right that is no proxy's, if all up to there are addresses; and which hop
/// saw it.
fn expected(proxies: &TrustedProxies, list: Option<&[u8]>, peer: IpAddr) -> (Client, usize) {
    const MAX_HOPS: usize = 50;
    let mut sender = peer;
    let hops = said(list);
    for (n, hop) in hops.iter().rev().enumerate() {
        match address_in(hop) {
            Some(address) if n < MAX_HOPS => sender = address,
            _ => return (Client::Unknown, n + 1),
        }
        if !proxies.trusts(sender) {
            return (Client::Known(sender), n + 1);
        }
    }
    (Client::Known(sender), hops.len().max(1))
}

/// The word of the hop that saw the sender; where fewer have spoken, all of them.
fn expected_https(protos: Option<&[u8]>, hop: usize) -> bool {
    let protos = said(protos);
    let counts = match protos.len().checked_sub(hop) {
        Some(at) => &protos[at..=at],
        None => &protos[..],
    };
    !counts.is_empty() && counts.iter().all(|proto| proto.eq_ignore_ascii_case(b"https"))
}

/// An address, with a port or not; of version 6 in brackets or not.
fn address_in(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let port = |port: &str| match port.strip_prefix('_') {
        Some(name) => {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        }
        None => !port.is_empty() && port.len() < 6 && port.chars().all(|c| c.is_ascii_digit()),
    };
    let bare = match text.rsplit_once(':') {
        Some((address, tail)) if port(tail) && (address.ends_with(']') || !address.contains(':')) => address,
        _ => text,
    };
    let address: IpAddr = match bare.strip_prefix('[').and_then(|bare| bare.strip_suffix(']')) {
        Some(address) => IpAddr::V6(address.parse().ok()?),
        None if bare == text || !bare.contains(':') => bare.parse().ok()?,
        None => return None,
    };
    Some(address.to_canonical())
}
