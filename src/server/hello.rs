//! What a sender offered in a TLS handshake that failed, for people who look for the reason. It
//! is read for the log alone: the handshake itself is rustls's, and says nothing of the kind.

use std::fmt;

use rustls::{CipherSuite, ProtocolVersion};

/// The offer of a client: the first message of a handshake.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hello {
    pub versions: Vec<ProtocolVersion>,
    pub ciphers: Vec<CipherSuite>,
    /// The name it asks for, as it may stand in a log.
    pub name: Option<String>,
}

/// More than this is not told of a list, or of a name.
const MOST_NAMED: usize = 6;
const LONGEST_NAME: usize = 64;
/// More of a handshake is not kept: an offer with the keys of new algorithms has about 2 KiB.
pub const KEPT: usize = 4096;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const SUPPORTED_VERSIONS: u16 = 43;

impl Hello {
    /// `None` if the bytes do not begin with a whole offer.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let message = message(bytes)?;
        let mut rest = Reader(&message);
        let version = rest.u16()?;
        rest.take(32)?; // random
        rest.short()?; // session
        let ciphers = rest.long()?;
        rest.short()?; // compressions
        let mut hello = Hello {
            versions: vec![version.into()],
            ciphers: pairs(ciphers).map(CipherSuite::from).filter(|c| !is_grease(u16::from(*c))).collect(),
            name: None,
        };
        if rest.0.is_empty() {
            return Some(hello); // before extensions were invented
        }
        let mut extensions = Reader(rest.long()?);
        while !extensions.0.is_empty() {
            let (kind, content) = (extensions.u16()?, Reader(extensions.long()?));
            match kind {
                SERVER_NAME => hello.name = name(content),
                SUPPORTED_VERSIONS => {
                    let versions = pairs({ content }.short()?).filter(|v| !is_grease(*v));
                    hello.versions = versions.map(ProtocolVersion::from).collect();
                }
                _ => {}
            }
        }
        Some(hello)
    }

    /// Whether it offers no version that is spoken here.
    pub fn is_outdated(&self) -> bool {
        !self.versions.iter().any(|v| matches!(v, ProtocolVersion::TLSv1_2 | ProtocolVersion::TLSv1_3))
    }
}

impl fmt::Display for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions: Vec<_> = self.versions.iter().map(|v| named(v.as_str(), u16::from(*v))).collect();
        let ciphers: Vec<_> = self.ciphers.iter().map(|c| named(c.as_str(), u16::from(*c))).collect();
        write!(f, "it offers {} with {}", list(&versions), list(&ciphers))?;
        match &self.name {
            Some(name) => write!(f, " for \"{name}\""),
            None => f.write_str(" for no name"),
        }
    }
}

/// The first message of the handshake, out of its records.
fn message(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut records = Reader(bytes);
    let mut message = Vec::new();
    loop {
        let (kind, _version, content) = (records.take(1)?[0], records.u16()?, records.long()?);
        if kind != HANDSHAKE {
            return None;
        }
        message.extend_from_slice(content);
        if let [CLIENT_HELLO, a, b, c, rest @ ..] = message.as_slice() {
            let length = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).ok()?;
            if let Some(whole) = rest.get(..length) {
                return Some(whole.to_vec());
            }
        } else if message.len() >= 4 {
            return None;
        }
    }
}

fn name(content: Reader<'_>) -> Option<String> {
    let mut names = Reader({ content }.long()?);
    let (_kind, name) = (names.take(1)?, names.long()?);
    Some(tame(name))
}

/// A stranger's words: only what can stand in a line of a terminal, and not much of it.
pub fn tame(words: &[u8]) -> String {
    let shown = words.iter().take(LONGEST_NAME).map(|b| match b {
        b'"' | b'\\' => '?',
        0x21..=0x7e => char::from(*b),
        _ => '?',
    });
    let end = if words.len() > LONGEST_NAME { "…" } else { "" };
    shown.chain(end.chars()).collect()
}

fn named(name: Option<&str>, number: u16) -> String {
    name.map_or_else(|| format!("{number:#06x}"), str::to_owned)
}

fn list(all: &[String]) -> String {
    if all.is_empty() {
        return "nothing".to_owned();
    }
    let shown = all[..all.len().min(MOST_NAMED)].join(", ");
    if all.len() > MOST_NAMED { format!("{shown} and {} more", all.len() - MOST_NAMED) } else { shown }
}

/// A value that means nothing (RFC 8701).
fn is_grease(value: u16) -> bool {
    let [high, low] = value.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}

fn pairs(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
}

/// What has not been read yet.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
    }

    /// What a length of one byte announces.
    fn short(&mut self) -> Option<&'b [u8]> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    /// What a length of two bytes announces.
    fn long(&mut self) -> Option<&'b [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// What a client of rustls says first.
    fn offer(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let mut client =
            rustls::ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn an_offer_is_told_as_its_sender_made_it() {
        let hello = Hello::parse(&offer("hooks.example")).unwrap();
        assert_eq!(hello.name.as_deref(), Some("hooks.example"));
        assert_eq!(hello.versions, [ProtocolVersion::TLSv1_3, ProtocolVersion::TLSv1_2]);
        let text = hello.to_string();
        assert!(text.starts_with("it offers TLSv1_3, TLSv1_2 with TLS13_AES_256_GCM_SHA384,"), "{text}");
        assert!(text.ends_with(" more for \"hooks.example\""), "{text}");
    }

    #[test]
    fn an_offer_may_come_in_several_records_and_must_be_whole() {
        let whole = offer("hooks.example");
        let (first, second) = whole[5..].split_at(100);
        let record = |part: &[u8]| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[HANDSHAKE, 3, 1], length.as_slice(), part].concat()
        };
        let split = [record(first), record(second)].concat();
        assert_eq!(Hello::parse(&split), Hello::parse(&whole));
        for end in 0..whole.len() {
            assert_eq!(Hello::parse(&whole[..end]), None, "{end} bytes");
        }
        assert_eq!(Hello::parse(b"GET / HTTP/1.1\r\n\r\n"), None);
    }

    #[test]
    fn whatever_a_byte_is_nothing_goes_wrong_and_nothing_wild_is_told() {
        let whole = offer("hooks.example");
        for place in 0..whole.len() {
            for byte in [0, 1, b'"', b'\n', 0x1b, 0x7f, 0xff] {
                let mut bent = whole.clone();
                bent[place] = byte;
                let text = Hello::parse(&bent).map_or_else(String::new, |hello| hello.to_string());
                assert!(!text.contains(|c: char| c.is_control()) && text.len() < 500, "{text:?}");
            }
        }
    }

    #[test]
    fn a_strangers_words_are_tamed() {
        assert_eq!(tame(b"a\x1b[31m\"b\r\n\xff"), "a?[31m?b???");
        assert_eq!(tame(&[b'x'; 300]), format!("{}…", "x".repeat(64)));
    }
}
