//! The facts about one delivery: what the head says, and who the sender is once
//! the proxies in front have been believed or not.

use std::fmt;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use ipnet::IpNet;
use sha2::{Digest, Sha256};

use super::parse::Unreadable;
use super::parse::form::Form;
use super::parse::forwarded::{self, Element};

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
    /// Whose deliveries the limits count this one with: the client's, or the client's for one tenant.
    pub counted_as: Client,
    /// The tenant that the delivery names, on a route that has some. Nothing proves it.
    pub tenant: Option<&'r str>,
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
        let client = Client::Unknown;
        Head {
            method,
            path,
            query,
            headers,
            client,
            counted_as: client,
            tenant: None,
            secure: true,
            content_length: None,
        }
    }

    /// The parameters of the query; none if there is no query.
    pub fn query(&self) -> Result<Form<'r>, Unreadable> {
        self.query.map_or(Ok(Form::default()), Form::parse)
    }

    /// The value of a header that must not be ambiguous: `Err` if it came more than once.
    pub fn single(&self, name: &HeaderName) -> Result<Option<&'r [u8]>, Unreadable> {
        self.headers.single(name.as_str())
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

impl Line {
    fn is(self, name: &str, raw: &[u8]) -> bool {
        usize::from(self.name.1 - self.name.0) == name.len() // nearly always tells
            && slice(raw, self.name).eq_ignore_ascii_case(name.as_bytes())
    }
}

impl<'r> Headers<'r> {
    /// The first of that name. A look-up in a list that a loop walks is quicker than one through
    /// [`Headers::get_all`].
    pub fn get(self, name: &str) -> Option<&'r [u8]> {
        match self {
            Headers::Read(raw, lines) => {
                lines.iter().find(|line| line.is(name, raw)).map(|line| slice(raw, line.value))
            }
            Headers::Made(map) => map.get(name).map(HeaderValue::as_bytes),
        }
    }

    pub fn contains_key(self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The only one of that name; `Err` if there are several.
    pub fn single(self, name: &str) -> Result<Option<&'r [u8]>, Unreadable> {
        match self {
            Headers::Read(raw, lines) => {
                let mut only = None;
                for line in lines {
                    if line.is(name, raw) && only.replace(slice(raw, line.value)).is_some() {
                        return Err(Unreadable);
                    }
                }
                Ok(only)
            }
            Headers::Made(map) => {
                let mut values = map.get_all(name).iter();
                let first = values.next();
                if values.next().is_some() { Err(Unreadable) } else { Ok(first.map(HeaderValue::as_bytes)) }
            }
        }
    }

    pub fn get_all(self, name: &str) -> impl DoubleEndedIterator<Item = &'r [u8]> {
        let (raw, lines, made) = match self {
            Headers::Read(raw, lines) => (raw, lines, None),
            Headers::Made(map) => (&[][..], &[][..], Some(map)),
        };
        let read =
            lines.iter().filter(move |line| line.is(name, raw)).map(move |line| slice(raw, line.value));
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

    /// How long they are as text, about.
    pub fn size(self) -> usize {
        match self {
            Headers::Read(raw, _) => raw.len(),
            Headers::Made(map) => map.len() * 64,
        }
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

impl Client {
    /// What stands for the deliveries of this client for one tenant where clients are counted: a network
    /// that is drawn from both, as good as never another one.
    #[must_use]
    pub fn of_tenant(self, tenant: &str) -> Client {
        let address = match self {
            Client::Known(IpAddr::V4(v4)) => v4.to_ipv6_mapped().octets(),
            // What one customer gets is one client.
            Client::Known(IpAddr::V6(v6)) => (v6.to_bits() & !u128::from(u64::MAX)).to_be_bytes(),
            Client::Unknown => [0; 16],
        };
        let digest = Sha256::new().chain_update(address).chain_update(tenant).finalize();
        let mut network = [0; 16];
        network[..8].copy_from_slice(&digest[..8]);
        Client::Known(IpAddr::from(network))
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Client::Known(ip) => ip.fmt(f),
            Client::Unknown => f.write_str("unknown"),
        }
    }
}

/// Who opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The other end of the socket, or whom it named with the PROXY protocol.
    pub address: IpAddr,
    /// The other end of the socket, where it named somebody else.
    pub relay: Option<IpAddr>,
    pub tls: bool,
}

/// The proxies whose word counts. Nobody, unless configured.
#[derive(Clone, Debug)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    header: AddressHeader,
    balancers: Vec<IpNet>,
}

/// Where a trusted proxy names the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressHeader {
    /// A list to which each proxy appends the address that it saw.
    Chain(&'static str),
    /// RFC 7239: a list to which each proxy appends what it saw, and the only header that is read.
    Forwarded,
    /// One address, set by the first proxy and kept by the others.
    Single(&'static str),
}

/// More hops than any real chain has; a longer list is not walked.
const MAX_HOPS: usize = 50;
/// No list has so many elements: which hop wrote which of them is not known.
const UNKNOWN: usize = usize::MAX;

impl TrustedProxies {
    pub fn new(networks: Vec<IpNet>, header: AddressHeader) -> Self {
        TrustedProxies { networks, header, balancers: Vec::new() }
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// These pass bytes on and name the sender with the PROXY protocol. What they pass on, headers of
    /// proxies also, is the sender's own word.
    #[must_use]
    pub fn and_balancers(self, balancers: Vec<IpNet>) -> Self {
        TrustedProxies { balancers, ..self }
    }

    /// Whether what it says in headers counts.
    pub fn trusts(&self, address: IpAddr) -> bool {
        contains(&self.networks, address)
    }

    /// Whether it may name the sender with the PROXY protocol.
    pub fn may_relay(&self, address: IpAddr) -> bool {
        self.trusts(address) || contains(&self.balancers, address)
    }

    /// Where a trusted proxy says how the sender spoke to it.
    pub fn scheme_header(&self) -> &'static str {
        match self.header {
            AddressHeader::Chain(_) | AddressHeader::Single(_) => "x-forwarded-proto",
            AddressHeader::Forwarded => "forwarded",
        }
    }

    /// Where a trusted proxy names the sender.
    pub fn address_header(&self) -> &'static str {
        match self.header {
            AddressHeader::Chain(name) | AddressHeader::Single(name) => name,
            AddressHeader::Forwarded => "forwarded",
        }
    }

    /// Whether the list of addresses that the peer sent along was believed.
    pub fn believes_list(&self, peer: IpAddr) -> bool {
        self.header != AddressHeader::Forwarded && self.trusts(peer)
    }

    /// Who sent this, and did they use HTTPS?
    ///
    /// Lists are walked from the right, because each proxy appends what it saw: the first
    /// address that is not a trusted proxy is the sender. What stands further left was written
    /// by the sender and proves nothing. The scheme is what the proxy said that saw this sender.
    pub fn resolve(&self, peer: Peer, headers: Headers<'_>) -> (Client, bool) {
        let address = peer.address.to_canonical();
        if self.networks.is_empty() {
            return (Client::Known(address), peer.tls);
        }
        let named_by_proxy = self.trusts(address);
        // Whom a balancer named sent it, and that it came over HTTPS may the balancer say as well.
        if !named_by_proxy && !peer.relay.is_some_and(|relay| self.trusts(relay)) {
            return (Client::Known(address), peer.tls);
        }
        let walked = |hops: &mut dyn Iterator<Item = Option<IpAddr>>| {
            if named_by_proxy { self.walk(address, hops) } else { (Client::Known(address), 1) }
        };
        let (client, https) = match self.header {
            AddressHeader::Chain(name) => {
                let (client, hops) = walked(&mut elements(headers, name).map(forwarded::node));
                (client, is_https_at(hops, headers))
            }
            AddressHeader::Forwarded => {
                let hops = saw(headers);
                let (client, hop) = walked(&mut hops.iter().map(|saw| saw.as_ref().ok()?.address()));
                let saw_sender = hops.get(hop - 1).and_then(|saw| saw.as_ref().ok());
                (client, saw_sender.is_some_and(Element::is_https))
            }
            AddressHeader::Single(name) if named_by_proxy => {
                (single(name, address, headers), is_https_at(UNKNOWN, headers))
            }
            AddressHeader::Single(_) => (Client::Known(address), is_https_at(1, headers)),
        };
        (client, peer.tls || https)
    }

    /// Whom the hops name, told from the nearest on, and which of them saw the sender: the first
    /// is 1, also if there is no list.
    fn walk(&self, peer: IpAddr, hops: &mut dyn Iterator<Item = Option<IpAddr>>) -> (Client, usize) {
        let mut client = peer;
        let mut last = 1;
        for (n, hop) in hops.enumerate() {
            last = n + 1;
            let Some(address) = hop.filter(|_| n < MAX_HOPS) else {
                return (Client::Unknown, last);
            };
            client = address;
            if !self.trusts(client) {
                break;
            }
        }
        (Client::Known(client), last)
    }
}

/// The only value of a header; twice, or no address, makes the sender unknown.
fn single(name: &str, peer: IpAddr, headers: Headers<'_>) -> Client {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (None, _) => Client::Known(peer),
        (Some(value), None) => forwarded::node(value.trim_ascii()).map_or(Client::Unknown, Client::Known),
        (Some(_), Some(_)) => Client::Unknown,
    }
}

/// Whether that hop said HTTPS, the nearest being 1. If the list holds fewer words than that, it is not known
/// which hops are silent, and all of them must say so: the last word may be of any of them.
fn is_https_at(hop: usize, headers: Headers<'_>) -> bool {
    let mut all = None;
    for (n, proto) in elements(headers, "x-forwarded-proto").enumerate() {
        let https = proto.eq_ignore_ascii_case(b"https");
        if n + 1 == hop {
            return https;
        }
        all = Some(https && all != Some(false));
    }
    all == Some(true)
}

/// What each hop saw, the nearest first. Of a line that cannot be read nothing is known, not even how many
/// hops it stands for.
fn saw(headers: Headers<'_>) -> Vec<Result<Element, Unreadable>> {
    let mut hops = Vec::new();
    for line in headers.get_all("forwarded").rev() {
        match forwarded::elements(line) {
            Ok(elements) => hops.extend(elements.into_iter().rev().map(Ok)),
            Err(unreadable) => hops.push(Err(unreadable)),
        }
    }
    hops
}

/// The elements of a list, the last first, without empty ones (RFC 9110, section 5.6.1.2).
fn elements<'h>(headers: Headers<'h>, name: &str) -> impl Iterator<Item = &'h [u8]> {
    let elements = headers.get_all(name).rev().flat_map(|line| line.rsplit(|b| *b == b','));
    elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
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
        let peer = Peer { address: peer.parse().unwrap(), relay: None, tls: false };
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
            (&[("x-forwarded-for", "203.0.113.1:51008, 10.1.1.1:443")], "203.0.113.1"),
            (&[("x-forwarded-for", "198.51.100.7, [2001:db8::1]:51008")], "2001:db8::1"),
            (&[("x-forwarded-for", " , 203.0.113.1,, 10.1.1.1 ,")], "203.0.113.1"),
            (&[("x-forwarded-for", "203.0.113.1"), ("x-forwarded-for", "")], "203.0.113.1"),
            (&[("x-forwarded-for", ",")], "10.0.0.1"),
            (&[], "10.0.0.1"),
        ];
        for (lines, expected) in cases {
            assert_eq!(client("10.0.0.1", lines), *expected, "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_address_at_the_deciding_place_makes_the_sender_unknown() {
        for junk in ["unknown", "192.0.2.1:", "[2001:db8::1", "[192.0.2.1]:80", "fe80::1%eth0", "x, 10.1.1.1"]
        {
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
            let peer = Peer { address: peer.parse().unwrap(), relay: None, tls: false };
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

    /// Whom proxies that speak `Forwarded` name, and whether they say HTTPS.
    fn forwarded(lines: &[(&'static str, &'static str)]) -> (String, bool) {
        let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()], AddressHeader::Forwarded);
        let peer = Peer { address: "10.0.0.1".parse().unwrap(), relay: None, tls: false };
        let (client, https) = proxies.resolve(peer, Headers::Made(&headers(lines)));
        (client.to_string(), https)
    }

    #[test]
    fn forwarded_is_walked_from_the_right_and_its_proto_is_of_the_hop_that_saw_the_sender() {
        for (lines, client, https) in [
            (&["for=203.0.113.1;proto=https"][..], "203.0.113.1", true),
            (&["for=\"203.0.113.1:51008\";proto=http"], "203.0.113.1", false),
            (&["for=203.0.113.1"], "203.0.113.1", false),
            (&["for=203.0.113.1;proto=https, for=198.51.100.7"], "198.51.100.7", false),
            (&["for=203.0.113.1;proto=http, for=198.51.100.7;proto=https"], "198.51.100.7", true),
            // TLS ends at the first of two proxies.
            (&["for=203.0.113.1;proto=https, for=10.1.1.1;proto=http"], "203.0.113.1", true),
            (&["for=203.0.113.1;proto=http, for=10.1.1.1;proto=https"], "203.0.113.1", false),
            (&["for=203.0.113.1;proto=https", "for=10.1.1.1;proto=http"], "203.0.113.1", true),
            // The sender's own lines and quotes stand further left.
            (&["for=\"203.0.113.1", "for=198.51.100.7;proto=https"], "198.51.100.7", true),
            (&["for=\"203.0.113.1, for=198.51.100.7;proto=https"], "unknown", false),
            (&["for=203.0.113.1;proto=https, proto=https"], "unknown", true),
            (&["for=203.0.113.1;proto=https, for=unknown;proto=http"], "unknown", false),
            (&["for=203.0.113.1, for=_hidden;proto=https"], "unknown", true),
            (&["for=203.0.113.1;proto=https, ,"], "203.0.113.1", true),
            (&[""], "10.0.0.1", false),
            (&[], "10.0.0.1", false),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
            assert_eq!(forwarded(&lines), (client.to_owned(), https), "{lines:?}");
        }
        let both = [
            ("forwarded", "for=198.51.100.7"),
            ("x-forwarded-for", "203.0.113.1"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(forwarded(&both), ("198.51.100.7".to_owned(), false), "no other header is read");
        assert_eq!(forwarded(&both[1..]), ("10.0.0.1".to_owned(), false), "nor in its absence");
        assert_eq!(
            client("10.0.0.1", &[("forwarded", "for=203.0.113.1")]),
            "10.0.0.1",
            "unless it is asked for"
        );
    }

    /// What such a peer says is believed.
    fn secure(peer: Peer, lines: &[(&'static str, &'static str)]) -> bool {
        proxies().resolve(peer, Headers::Made(&headers(lines))).1
    }

    fn peer(address: &str) -> Peer {
        Peer { address: address.parse().unwrap(), relay: None, tls: false }
    }

    #[test]
    fn https_is_believed_from_tls_or_from_a_trusted_proxy_only() {
        let said = [("x-forwarded-proto", "https")];
        assert!(secure(Peer { tls: true, ..peer("192.0.2.9") }, &[]));
        assert!(secure(Peer { tls: true, ..peer("10.0.0.1") }, &[("x-forwarded-proto", "http")]));
        assert!(!secure(peer("192.0.2.9"), &said));
        assert!(secure(peer("10.0.0.1"), &said));
        assert!(!secure(peer("10.0.0.1"), &[]));
        assert!(!secure(peer("10.0.0.1"), &[("forwarded", "for=203.0.113.1;proto=https")]));
    }

    #[test]
    fn of_a_list_of_schemes_the_hop_counts_that_saw_the_sender() {
        let one = "198.51.100.9, 203.0.113.1";
        let two = "198.51.100.9, 203.0.113.1, 10.1.1.1";
        for (hops, said, https) in [
            ("", "https", true),
            ("", "https, http", false),
            ("", "http, https", true),
            (one, "HTTPS", true),
            (one, "https, http", false),
            (one, "http, https", true),
            (one, "https,", true),
            (one, ", https , ,", true),
            (one, "https, httpss", false),
            (one, "", false),
            (one, ",", false),
            (two, "https, http", true),
            (two, "http, https", false),
            (two, "https, http, https", false),
            (two, "http, https, http", true),
            // One of two set it, and the other kept it.
            (two, "https", true),
            (two, "http", false),
            ("203.0.113.1, 10.1.1.1, 10.2.2.2", "https, http", false),
            ("203.0.113.1, 10.1.1.1, 10.2.2.2", "https, https", true),
            // A hop that hides the sender says how it came nevertheless.
            ("203.0.113.1, unknown, 10.1.1.1", "https, https, http", true),
            ("203.0.113.1, unknown, 10.1.1.1", "https, http, https", false),
        ] {
            let lines = [("x-forwarded-for", hops), ("x-forwarded-proto", said)];
            assert_eq!(secure(peer("10.0.0.1"), &lines), https, "{hops:?} {said:?}");
        }
        let lines = [("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")];
        assert!(!secure(peer("10.0.0.1"), &lines), "several lines are one list");
        // Where one address is named and no chain, it is not known whose word is whose.
        let single = TrustedProxies::new(proxies().networks, AddressHeader::Single("x-real-ip"));
        for (said, https) in
            [("https", true), ("https, https", true), ("http, https", false), ("https, http", false)]
        {
            let lines = headers(&[("x-real-ip", "203.0.113.1"), ("x-forwarded-proto", said)]);
            assert_eq!(single.resolve(peer("10.0.0.1"), Headers::Made(&lines)).1, https, "{said}");
        }
    }

    #[test]
    fn a_balancer_names_the_sender_before_the_first_byte_and_the_scheme_in_a_header() {
        let named = |sender: &str, by: &str| Peer { relay: Some(by.parse().unwrap()), ..peer(sender) };
        let proxies = proxies().and_balancers(vec!["172.16.0.0/12".parse().unwrap()]);
        let lines = [("x-forwarded-for", "203.0.113.1"), ("x-forwarded-proto", "http, https")];
        for (peer, client, https) in [
            // Each from its own trust: the address from the preamble, the scheme from the header.
            (named("192.0.2.9", "10.0.0.1"), "192.0.2.9", true),
            // What passes a balancer as it came is the sender's own.
            (named("192.0.2.9", "172.16.0.1"), "192.0.2.9", false),
            (named("192.0.2.9", "198.51.100.9"), "192.0.2.9", false),
            // A proxy behind it is believed as if it were here.
            (named("10.0.0.5", "172.16.0.1"), "203.0.113.1", true),
            (named("10.0.0.5", "10.0.0.1"), "203.0.113.1", true),
            (peer("172.16.0.1"), "172.16.0.1", false),
        ] {
            let (found, secure) = proxies.resolve(peer, Headers::Made(&headers(&lines)));
            assert_eq!((found.to_string().as_str(), secure), (client, https), "{peer:?}");
        }
        assert!(
            proxies.may_relay("172.16.0.1".parse().unwrap())
                && !proxies.trusts("172.16.0.1".parse().unwrap())
        );
        for header in [AddressHeader::Forwarded, AddressHeader::Single("x-real-ip")] {
            let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()], header);
            let lines = [
                ("forwarded", "for=203.0.113.1;proto=http, for=198.51.100.9;proto=https"),
                ("x-real-ip", "203.0.113.1"),
                ("x-forwarded-proto", "http, https"),
            ];
            let (found, secure) =
                proxies.resolve(named("192.0.2.9", "10.0.0.1"), Headers::Made(&headers(&lines)));
            assert_eq!((found.to_string().as_str(), secure), ("192.0.2.9", true), "{header:?}");
        }
    }
}
