//! The message authentication codes that providers use, keyed once per secret
//! and cloned per request, and the text forms in which they travel.

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

/// Which code a recipe demands. Never taken from the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// RFC 2104 with SHA-1; for providers that offer nothing newer.
    HmacSha1,
    /// RFC 2104 with SHA-256.
    HmacSha256,
    /// RFC 2104 with SHA-384.
    HmacSha384,
    /// RFC 2104 with SHA-512.
    HmacSha512,
}

impl Algorithm {
    /// Length of a tag in bytes.
    pub const fn tag_len(self) -> usize {
        match self {
            Algorithm::HmacSha1 => 20,
            Algorithm::HmacSha256 => 32,
            Algorithm::HmacSha384 => 48,
            Algorithm::HmacSha512 => 64,
        }
    }

    /// A code that holds the key schedule; the key itself is not kept.
    pub fn keyed(self, key: &[u8]) -> KeyedMac {
        const ANY: &str = "HMAC takes a key of any length (RFC 2104, section 3)";
        match self {
            Algorithm::HmacSha1 => KeyedMac::Sha1(Hmac::new_from_slice(key).expect(ANY)),
            Algorithm::HmacSha256 => KeyedMac::Sha256(Hmac::new_from_slice(key).expect(ANY)),
            Algorithm::HmacSha384 => KeyedMac::Sha384(Hmac::new_from_slice(key).expect(ANY)),
            Algorithm::HmacSha512 => KeyedMac::Sha512(Hmac::new_from_slice(key).expect(ANY)),
        }
    }
}

/// An HMAC with its key absorbed. Cloning it starts a new message.
#[derive(Clone)]
pub enum KeyedMac {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

impl KeyedMac {
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            KeyedMac::Sha1(mac) => mac.update(bytes),
            KeyedMac::Sha256(mac) => mac.update(bytes),
            KeyedMac::Sha384(mac) => mac.update(bytes),
            KeyedMac::Sha512(mac) => mac.update(bytes),
        }
    }

    pub fn finish(self) -> Tag {
        match self {
            KeyedMac::Sha1(mac) => Tag::new(&mac.finalize().into_bytes()),
            KeyedMac::Sha256(mac) => Tag::new(&mac.finalize().into_bytes()),
            KeyedMac::Sha384(mac) => Tag::new(&mac.finalize().into_bytes()),
            KeyedMac::Sha512(mac) => Tag::new(&mac.finalize().into_bytes()),
        }
    }
}

/// The longest tag: HMAC-SHA512.
const MAX_TAG: usize = 64;

/// A tag, inline: either computed here or presented by a sender.
#[derive(Clone, Copy, Debug)]
pub struct Tag {
    bytes: [u8; MAX_TAG],
    len: u8,
}

impl Tag {
    fn new(tag: &[u8]) -> Self {
        let mut bytes = [0; MAX_TAG];
        bytes[..tag.len()].copy_from_slice(tag);
        Tag { bytes, len: u8::try_from(tag.len()).expect("a tag has at most 64 bytes") }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// How a tag is written in a header. Decoding is strict: the right length, the
/// right alphabet, no white space, no stray trailing bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Hexadecimal in either case (RFC 4648, section 8).
    Hex,
    /// Base64 with padding (RFC 4648, section 4).
    Base64,
    /// Base64url without padding (RFC 4648, section 5).
    Base64url,
}

impl Encoding {
    /// The tag in `text`, if it is exactly one tag of `algorithm`.
    pub fn decode(self, text: &[u8], algorithm: Algorithm) -> Option<Tag> {
        let codec = match self {
            Encoding::Hex => HEXLOWER_PERMISSIVE,
            Encoding::Base64 => BASE64,
            Encoding::Base64url => BASE64URL_NOPAD,
        };
        let mut bytes = [0; MAX_TAG + 2];
        let room = codec.decode_len(text.len()).ok().filter(|n| *n <= bytes.len())?;
        let len = codec.decode_mut(text, &mut bytes[..room]).ok()?;
        (len == algorithm.tag_len()).then(|| Tag::new(&bytes[..len]))
    }

    pub fn encode(self, tag: &Tag) -> String {
        match self {
            Encoding::Hex => HEXLOWER.encode(tag.as_bytes()),
            Encoding::Base64 => BASE64.encode(tag.as_bytes()),
            Encoding::Base64url => BASE64URL_NOPAD.encode(tag.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(algorithm: Algorithm, key: &[u8], message: &[u8]) -> String {
        let mut mac = algorithm.keyed(key);
        mac.update(message);
        Encoding::Hex.encode(&mac.finish())
    }

    // RFC 4231, section 4.3 (test case 2), and RFC 2202 test case 2 for SHA-1.
    #[test]
    fn codes_agree_with_the_rfcs() {
        let (key, message) = (b"Jefe", b"what do ya want for nothing?");
        assert_eq!(hex(Algorithm::HmacSha1, key, message), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        assert_eq!(
            hex(Algorithm::HmacSha256, key, message),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(Algorithm::HmacSha384, key, message),
            "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649"
        );
        assert_eq!(
            hex(Algorithm::HmacSha512, key, message),
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
        );
    }

    #[test]
    fn decoding_is_strict() {
        let mut mac = Algorithm::HmacSha256.keyed(b"k");
        mac.update(b"m");
        let tag = mac.finish();
        let hex = Encoding::Hex.encode(&tag);
        let b64 = Encoding::Base64.encode(&tag);
        let takes = |e: Encoding, t: &str| e.decode(t.as_bytes(), Algorithm::HmacSha256).is_some();

        assert!(takes(Encoding::Hex, &hex));
        assert!(takes(Encoding::Hex, &hex.to_uppercase()));
        assert!(takes(Encoding::Base64, &b64));
        assert!(takes(Encoding::Base64url, &Encoding::Base64url.encode(&tag)));

        for bad in [
            String::new(),
            hex[..62].to_string(),
            format!("{hex}00"),
            format!(" {hex}"),
            format!("{} {}", &hex[..32], &hex[32..]),
            hex.replace(&hex[..1], "\u{ff10}"),
        ] {
            assert!(!takes(Encoding::Hex, &bad), "{bad:?}");
        }
        assert!(!takes(Encoding::Base64, b64.trim_end_matches('=')), "padding is required");
        assert!(!takes(Encoding::Base64url, &b64), "padding is refused in base64url");
        // The last character of 32 bytes in base64 carries two unused bits: they must be zero.
        let last = b64.as_bytes()[b64.len() - 2];
        let stray = format!("{}{}=", &b64[..b64.len() - 2], char::from(last + 1));
        assert!(!takes(Encoding::Base64, &stray), "non-zero trailing bits");
        assert!(!takes(Encoding::Hex, &"a".repeat(10_000)), "no length is too long to refuse");
    }
}
