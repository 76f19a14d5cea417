//! Why a sender is not who it seems to be: what a proxy in front said, and why it was not believed.

use std::net::IpAddr;

use crate::gate::delivery::{Headers, TrustedProxies};
use crate::gate::reason::Reason;

/// What is to be said of a delivery that was refused for how, or from where, it came.
pub fn hint(reason: Reason, peer: IpAddr, proxies: &TrustedProxies, headers: Headers<'_>) -> Option<String> {
    let name = match reason {
        Reason::HttpsRequired => proxies.scheme_header(),
        Reason::AddressDenied => proxies.address_header(),
        _ => return None,
    };
    let said = headers.get(name).map(|value| format!("{name}: {}", value.escape_ascii()));
    Some(match (said, proxies.trusts(peer)) {
        (Some(said), false) => format!(
            "{said} came from {peer}, which trusted_proxies does not hold, and was not believed: if that is your proxy, add it"
        ),
        (Some(said), true) if reason == Reason::HttpsRequired => {
            format!("{said} came from the trusted proxy {peer}: its side towards the sender has to say https")
        }
        (Some(said), true) => {
            format!("{said} came from the trusted proxy {peer}, and allow_ips does not hold that sender")
        }
        (None, true) => format!("the trusted proxy {peer} sent no {name}: let it set that header"),
        (None, false) if reason == Reason::HttpsRequired => format!(
            "{peer} spoke plain HTTP: use listen_tls, or a proxy that trusted_proxies holds and that sends {name}: https"
        ),
        (None, false) => format!("allow_ips does not hold {peer}, which sent this itself"),
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::gate::delivery::AddressHeader;

    #[test]
    fn the_header_and_the_peer_that_it_came_from_are_named() {
        let proxies =
            TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()], AddressHeader::Chain("x-forwarded-for"));
        let told = |reason, peer: &str, line: Option<(&'static str, &'static str)>| {
            let mut headers = HeaderMap::new();
            if let Some((name, value)) = line {
                headers.insert(name, value.parse().unwrap());
            }
            hint(reason, peer.parse().unwrap(), &proxies, Headers::Made(&headers)).unwrap()
        };
        let proto = Some(("x-forwarded-proto", "https"));
        let chain = Some(("x-forwarded-for", "203.0.113.9"));
        for (told, says) in [
            (
                told(Reason::HttpsRequired, "192.0.2.1", proto),
                "x-forwarded-proto: https came from 192.0.2.1, which trusted_proxies does not hold",
            ),
            (told(Reason::HttpsRequired, "192.0.2.1", None), "192.0.2.1 spoke plain HTTP"),
            (
                told(Reason::HttpsRequired, "10.0.0.1", None),
                "trusted proxy 10.0.0.1 sent no x-forwarded-proto",
            ),
            (
                told(Reason::AddressDenied, "192.0.2.1", chain),
                "x-forwarded-for: 203.0.113.9 came from 192.0.2.1, which trusted_proxies does not hold",
            ),
            (told(Reason::AddressDenied, "10.0.0.1", chain), "allow_ips does not hold that sender"),
            (told(Reason::AddressDenied, "192.0.2.1", None), "allow_ips does not hold 192.0.2.1"),
        ] {
            assert!(told.contains(says), "{told}");
        }
    }
}
