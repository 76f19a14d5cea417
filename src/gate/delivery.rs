//! The facts about one delivery: what the head says, and who the sender is once
//! the proxies in front have been believed or not.

use std::fmt;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use ipnet::IpNet;

use super::parse::Unreadable;
use super::parse::form::Form;

/// Everything known before the body is read. Borrowed: looking costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct Head<'r> {
    pub method: &'r Method,
    /// The path exactly as it was sent, without the query.
    pub path: &'r [u8],
    /// What follows the first `?`, as it was sent.
    pub query: Option<&'r [u8]>,
    pub headers: Headers<'r>,
    pub client: Client,
    /// Whether the sender spoke HTTPS, to us or to a trusted proxy.
    pub secure: bool,
    /// The declared length; `None` for a chunked body.
    pub content_length: Option<u64>,
}

impl<'r> Head<'r> {
    /// A head that came over no wire: who sent it is not known, and how long its body was said to
    /// be neither.
    pub fn offline(
        method: &'r Method,
        (path, query): (&'r [u8], Option<&'r [u8]>),
        headers: &'r HeaderMap,
    ) -> Self {
        let headers = Headers::Made(headers);
        Head { method, path, query, headers, client: Client::Unknown, secure: true, content_length: None }
    }

    /// The parameters of the query; none if there is no query.
    pub fn query(&self) -> Result<Form<'r>, Unreadable> {
        self.query.map_or(Ok(Form::default()), Form::parse)
    }

    /// The value of a header that must not be ambiguous: `Err` if it came more than once.
    pub fn single(&self, name: &HeaderName) -> Result<Option<&'r [u8]>, Unreadable> {
        let mut values = self.headers.get_all(name.as_str());
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => Ok(Some(value)),
            (Some(_), Some(_)) => Err(Unreadable),
        }
    }
}

/// The header lines of a request, in their order.
#[derive(Clone, Copy, Debug)]
pub enum Headers<'r> {
    /// As they stand in the bytes of the head.
    Read(&'r [u8], &'r [Line]),
    /// Of a request that came over no wire.
    Made(&'r HeaderMap),
}

/// Where a header line stands in a head. No head is longer than such a number tells.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub name: (u16, u16),
    pub value: (u16, u16),
}

impl<'r> Headers<'r> {
    pub fn get(self, name: &str) -> Option<&'r [u8]> {
        self.get_all(name).next()
    }

    pub fn contains_key(self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn get_all(self, name: &str) -> impl DoubleEndedIterator<Item = &'r [u8]> {
        let (raw, lines, made) = match self {
            Headers::Read(raw, lines) => (raw, lines, None),
            Headers::Made(map) => (&[][..], &[][..], Some(map)),
        };
        let is = move |line: &&Line| {
            usize::from(line.name.1 - line.name.0) == name.len() // nearly always tells
                && slice(raw, line.name).eq_ignore_ascii_case(name.as_bytes())
        };
        let read = lines.iter().filter(is).map(move |line| slice(raw, line.value));
        let made = made.into_iter().flat_map(move |map| map.get_all(name));
        read.chain(made.map(HeaderValue::as_bytes))
    }

    /// Name and value of each line, as they were sent.
    pub fn iter(self) -> impl Iterator<Item = (&'r [u8], &'r [u8])> {
        let (raw, lines, made) = match self {
            Headers::Read(raw, lines) => (raw, lines, None),
            Headers::Made(map) => (&[][..], &[][..], Some(map)),
        };
        let read = lines.iter().map(move |line| (slice(raw, line.name), slice(raw, line.value)));
        let made = made.into_iter().flatten();
        read.chain(made.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())))
    }

    /// The same, made: for who keeps it longer than the head is there.
    pub fn to_map(self) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in self.iter() {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                map.append(name, value);
            }
        }
        map
    }
}

fn slice(raw: &[u8], (start, end): (u16, u16)) -> &[u8] {
    &raw[usize::from(start)..usize::from(end)]
}

/// The path and the query of a request's target.
pub fn split_target(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match target.iter().position(|b| *b == b'?') {
        Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
        None => (target, None),
    }
}

/// The sender's address, after trusted proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    Known(IpAddr),
    /// A trusted proxy named something that is no address.
    Unknown,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Client::Known(ip) => ip.fmt(f),
            Client::Unknown => f.write_str("unknown"),
        }
    }
}

/// The other end of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub address: IpAddr,
    pub tls: bool,
}

/// The proxies whose forwarding headers count. Nobody, unless configured.
#[derive(Clone, Debug)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    header: AddressHeader,
}

/// Where a trusted proxy names the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressHeader {
    /// A list to which each proxy appends the address that it saw.
    Chain(&'static str),
    /// One address, set by the first proxy and kept by the others.
    Single(&'static str),
}

/// More hops than any real chain has; a longer list is not walked.
const MAX_HOPS: usize = 50;

impl TrustedProxies {
    pub fn new(networks: Vec<IpNet>, header: AddressHeader) -> Self {
        TrustedProxies { networks, header }
    }

    pub fn trusts(&self, address: IpAddr) -> bool {
        contains(&self.networks, address)
    }

    /// Where a trusted proxy names the sender.
    pub fn address_header(&self) -> &'static str {
        match self.header {
            AddressHeader::Chain(name) | AddressHeader::Single(name) => name,
        }
    }

    /// Who sent this, and did they use HTTPS?
    ///
    /// The forwarded list is walked from the right, because each proxy appends the
    /// address it saw: the first address that is not a trusted proxy is the sender.
    /// What stands further left was written by the sender and proves nothing.
    pub fn resolve(&self, peer: Peer, headers: Headers<'_>) -> (Client, bool) {
        let peer_address = peer.address.to_canonical();
        if self.networks.is_empty() || !self.trusts(peer_address) {
            return (Client::Known(peer_address), peer.tls);
        }
        let client = match self.header {
            AddressHeader::Chain(name) => self.walk(name, peer_address, headers),
            AddressHeader::Single(name) => single(name, peer_address, headers),
        };
        (client, peer.tls || forwarded_https(headers))
    }

    fn walk(&self, name: &str, peer: IpAddr, headers: Headers<'_>) -> Client {
        let mut client = peer;
        let hops = headers.get_all(name).rev().flat_map(|line| line.rsplit(|b| *b == b','));
        for (n, hop) in hops.enumerate() {
            let Some(address) = parse_address(hop).filter(|_| n < MAX_HOPS) else {
                return Client::Unknown;
            };
            client = address;
            if !self.trusts(client) {
                break;
            }
        }
        Client::Known(client)
    }
}

/// The only value of a header; twice, or no address, makes the sender unknown.
fn single(name: &str, peer: IpAddr, headers: Headers<'_>) -> Client {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (None, _) => Client::Known(peer),
        (Some(value), None) => parse_address(value).map_or(Client::Unknown, Client::Known),
        (Some(_), Some(_)) => Client::Unknown,
    }
}

/// A single `https`, or a list in which every hop says so.
fn forwarded_https(headers: Headers<'_>) -> bool {
    let mut said = headers
        .get_all("x-forwarded-proto")
        .flat_map(|line| line.split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .peekable();
    said.peek().is_some() && said.all(|proto| proto.eq_ignore_ascii_case(b"https"))
}

/// A bare address. Ports, brackets, zones and words are not addresses.
fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// Whether one of the networks holds the address. Mapped IPv6 (`::ffff:192.0.2.1`)
/// is IPv4 in disguise and is judged as that.
pub fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|net| net.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn proxies() -> TrustedProxies {
        TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()], AddressHeader::Chain("x-forwarded-for"))
    }

    fn client(peer: &str, lines: &[(&'static str, &'static str)]) -> String {
        let peer = Peer { address: peer.parse().unwrap(), tls: false };
        proxies().resolve(peer, Headers::Made(&headers(lines))).0.to_string()
    }

    #[test]
    fn an_untrusted_peer_cannot_name_another_sender() {
        assert_eq!(client("192.0.2.9", &[("x-forwarded-for", "203.0.113.1")]), "192.0.2.9");
    }

    #[test]
    fn the_first_untrusted_address_from_the_right_is_the_sender() {
        let cases: &[(&[(&'static str, &'static str)], &str)] = &[
            (&[("x-forwarded-for", "203.0.113.1")], "203.0.113.1"),
            (&[("x-forwarded-for", "203.0.113.1, 198.51.100.7")], "198.51.100.7"),
            (&[("x-forwarded-for", "203.0.113.1, 198.51.100.7, 10.1.1.1")], "198.51.100.7"),
            (&[("x-forwarded-for", "203.0.113.1"), ("x-forwarded-for", "198.51.100.7")], "198.51.100.7"),
            (&[("x-forwarded-for", "10.9.9.9, 10.1.1.1")], "10.9.9.9"),
            (&[], "10.0.0.1"),
        ];
        for (lines, expected) in cases {
            assert_eq!(client("10.0.0.1", lines), *expected, "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_address_at_the_deciding_place_makes_the_sender_unknown() {
        for junk in ["unknown", "192.0.2.1:80", "[2001:db8::1]:80", "fe80::1%eth0", "", "203.0.113.1,"] {
            let line: &'static str = Box::leak(junk.to_string().into_boxed_str());
            assert_eq!(client("10.0.0.1", &[("x-forwarded-for", line)]), "unknown", "{junk:?}");
        }
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", "junk, 203.0.113.1")]), "203.0.113.1");
    }

    #[test]
    fn a_header_with_one_address_is_taken_as_it_is_or_not_at_all() {
        let proxies = TrustedProxies::new(
            vec!["10.0.0.0/8".parse().unwrap()],
            AddressHeader::Single("cf-connecting-ip"),
        );
        let client = |peer: &str, lines: &[(&'static str, &'static str)]| {
            let peer = Peer { address: peer.parse().unwrap(), tls: false };
            proxies.resolve(peer, Headers::Made(&headers(lines))).0.to_string()
        };
        let named = ("cf-connecting-ip", "203.0.113.1");
        assert_eq!(client("10.0.0.1", &[named]), "203.0.113.1");
        assert_eq!(client("192.0.2.9", &[named]), "192.0.2.9", "an untrusted peer names nobody");
        assert_eq!(
            client("10.0.0.1", &[("x-forwarded-for", "203.0.113.1")]),
            "10.0.0.1",
            "another header is not read"
        );
        assert_eq!(client("10.0.0.1", &[named, named]), "unknown");
        assert_eq!(client("10.0.0.1", &[("cf-connecting-ip", "a, b")]), "unknown");
    }

    #[test]
    fn an_endless_chain_is_not_walked() {
        let long: &'static str = Box::leak(vec!["10.0.0.2"; 1000].join(",").into_boxed_str());
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", long)]), "unknown");
    }

    #[test]
    fn mapped_addresses_are_plain_before_they_are_compared() {
        let rule = ["192.0.2.0/24".parse().unwrap()];
        assert!(contains(&rule, "::ffff:192.0.2.1".parse().unwrap()));
        assert_eq!(client("::ffff:10.0.0.1", &[("x-forwarded-for", "::ffff:203.0.113.1")]), "203.0.113.1");
    }

    #[test]
    fn https_is_believed_from_tls_or_from_a_trusted_proxy_only() {
        let secure = |peer: &str, tls, lines: &[(&'static str, &'static str)]| {
            let peer = Peer { address: peer.parse().unwrap(), tls };
            proxies().resolve(peer, Headers::Made(&headers(lines))).1
        };
        assert!(secure("192.0.2.9", true, &[]));
        assert!(!secure("192.0.2.9", false, &[("x-forwarded-proto", "https")]));
        assert!(secure("10.0.0.1", false, &[("x-forwarded-proto", "https")]));
        assert!(!secure("10.0.0.1", false, &[("x-forwarded-proto", "https,http")]));
        assert!(!secure("10.0.0.1", false, &[]));
    }
}
