//! The codes and signatures that providers use, keyed once per secret and cloned per
//! request, and the text forms in which they travel.

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};
use smallvec::SmallVec;
use zeroize::Zeroizing;

/// Which code a recipe demands. Never taken from the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// RFC 2104 with MD5; for providers that offer nothing newer.
    HmacMd5,
    /// RFC 2104 with SHA-1; for providers that offer nothing newer.
    HmacSha1,
    /// RFC 2104 with SHA-256.
    HmacSha256,
    /// RFC 2104 with SHA-384.
    HmacSha384,
    /// RFC 2104 with SHA-512.
    HmacSha512,
    /// MD5 over a content that holds `{secret}`; no provider should do this.
    DigestMd5,
    /// SHA-1 over a content that holds `{secret}`; no provider should do this.
    DigestSha1,
    /// SHA-256 over a content that holds `{secret}`; weaker than an HMAC.
    DigestSha256,
    /// RFC 8032, with the provider's public key.
    Ed25519,
    /// FIPS 186-5 over P-256 with SHA-1, signature in DER; for providers that offer nothing newer.
    EcdsaP256Sha1,
    /// FIPS 186-5 over P-256 with SHA-256, signature in DER.
    EcdsaP256Sha256,
    /// The same, signature as two numbers of 32 bytes (RFC 7518, ES256).
    EcdsaP256Sha256Fixed,
    /// FIPS 186-5 over P-521 with SHA-512, signature as two numbers of 66 bytes (RFC 7518, ES512).
    EcdsaP521Sha512,
    /// RFC 8017 PKCS #1 v1.5 with SHA-1, keys from 1024 bits; for providers that offer nothing newer.
    RsaSha1,
    /// RFC 8017 PKCS #1 v1.5 with SHA-256, keys from 2048 bits.
    RsaSha256,
    /// RFC 8017 PKCS #1 v1.5 with SHA-512, keys from 2048 bits.
    RsaSha512,
    /// Nothing is signed: the sender shows the secret itself, and whoever sees one delivery has it.
    Token,
}

impl Algorithm {
    /// Length of a tag in bytes, where there is only one.
    pub const fn tag_len(self) -> Option<usize> {
        match self {
            Algorithm::HmacMd5 | Algorithm::DigestMd5 => Some(16),
            Algorithm::HmacSha1 | Algorithm::DigestSha1 => Some(20),
            Algorithm::HmacSha256 | Algorithm::DigestSha256 => Some(32),
            Algorithm::HmacSha384 => Some(48),
            Algorithm::HmacSha512 | Algorithm::Ed25519 | Algorithm::EcdsaP256Sha256Fixed => Some(64),
            Algorithm::EcdsaP521Sha512 => Some(132),
            Algorithm::EcdsaP256Sha1
            | Algorithm::EcdsaP256Sha256
            | Algorithm::RsaSha1
            | Algorithm::RsaSha256
            | Algorithm::RsaSha512
            | Algorithm::Token => None,
        }
    }

    /// The name that RFC 7518 gives the algorithm, if a token can be signed with it.
    pub const fn of_token(self) -> Option<&'static str> {
        match self {
            Algorithm::HmacSha256 => Some("HS256"),
            Algorithm::HmacSha384 => Some("HS384"),
            Algorithm::HmacSha512 => Some("HS512"),
            Algorithm::RsaSha256 => Some("RS256"),
            Algorithm::RsaSha512 => Some("RS512"),
            Algorithm::EcdsaP256Sha256Fixed => Some("ES256"),
            Algorithm::EcdsaP521Sha512 => Some("ES512"),
            Algorithm::Ed25519 => Some("EdDSA"),
            _ => None,
        }
    }

    /// Whether a published key that says by this name what it is for is for it (RFC 7517, section 4.4).
    pub fn is_called(self, name: &str) -> bool {
        match self {
            // RFC 9864 gives it a name of its own.
            Algorithm::Ed25519 => matches!(name, "EdDSA" | "Ed25519"),
            Algorithm::EcdsaP256Sha256 => name == "ES256",
            _ => self.of_token() == Some(name),
        }
    }

    /// Whether the secret is hashed together with the content, instead of keying a code.
    pub const fn is_digest(self) -> bool {
        matches!(self, Algorithm::DigestMd5 | Algorithm::DigestSha1 | Algorithm::DigestSha256)
    }

    /// Whether the gate holds a public key, with which nothing can be signed.
    pub const fn is_public(self) -> bool {
        matches!(
            self,
            Algorithm::Ed25519
                | Algorithm::EcdsaP256Sha1
                | Algorithm::EcdsaP256Sha256
                | Algorithm::EcdsaP256Sha256Fixed
                | Algorithm::EcdsaP521Sha512
                | Algorithm::RsaSha1
                | Algorithm::RsaSha256
                | Algorithm::RsaSha512
        )
    }

    /// A public key of the kind whose other half was thrown away when it was drawn; `None` where keys are
    /// shared.
    pub fn nobodys(self) -> Option<Vec<u8>> {
        let text: &[u8] = match self {
            Algorithm::Ed25519 => b"5eER3Er5kmrgDhow5BRRtZ08enn3A077oGY+of04TN0=",
            Algorithm::EcdsaP256Sha256 => {
                b"BNblK41cjRzo0Uq88uQpb9GXzKxVL/o6bjIzbNlszleRFAoXmsbKOqfdm8W13N0Nv20AFOhFue0cCIqXSZyEj4k="
            }
            Algorithm::EcdsaP521Sha512 => {
                b"BADfUhE0iZkDssJ3TJk+hPSPBExtsTedQ3ZcfuKjb5o3fgXjCbXrVNXwor68A7vE7F9Xp+vKd6q8NzCjYGziO0XaPgAFh9pp\
                  ws5MIe6bUppjnKNFjssUN5OxO2nO0gfhgNedUXrjbshoKmgUlmHYnl7bVdqHE1TbRmVkxrIB7Ar7HT34iw=="
            }
            Algorithm::RsaSha1 | Algorithm::RsaSha256 | Algorithm::RsaSha512 => {
                b"MIIBCgKCAQEAqFVA30Vzam6USbYZ0S9JFUuj4sK+3axWCJyZ5GwExkVuWxba9SibnX3H5sEKiZJ+G5SJM/X9UFxqEnaSECaJ\
                  uNteJs5M4sON2BZQfAcueH5ewAG9xtohRJSmFgwxpIcGrBT9cPW81akYvT6WEqHcqcLNC2g+eh/JOLGXMCKlyI2jSxEJ/gOk\
                  t3jSuXT1aLeIzSwqViN0/O0/7fniqL5GKjyXm7nxEj5Bqir8gKMed3S9O4U57gkdUYgV2mPXUJBCV27paUYdVU9lqF7EA8K5\
                  6T1OrjO5irSpmyTxZ00ZkaUajrEjQoQVDI3bUgrRbIBVXT+4fM4c2kJp0k0mDr6nUQIDAQAB"
            }
            _ => return None,
        };
        BASE64.decode(text).ok()
    }

    /// A code that holds the key; `None` where the key is a public one.
    pub fn keyed(self, key: &[u8]) -> Option<KeyedMac> {
        const ANY: &str = "HMAC takes a key of any length (RFC 2104, section 3)";
        let secret = || Zeroizing::new(key.to_vec());
        Some(match self {
            Algorithm::HmacMd5 => KeyedMac::Md5(Hmac::new_from_slice(key).expect(ANY)),
            Algorithm::HmacSha1 => KeyedMac::Sha1(Hmac::new_from_slice(key).expect(ANY)),
            Algorithm::HmacSha256 => KeyedMac::Sha256(Hmac::new_from_slice(key).expect(ANY)),
            Algorithm::HmacSha384 => KeyedMac::Sha384(Hmac::new_from_slice(key).expect(ANY)),
            Algorithm::HmacSha512 => KeyedMac::Sha512(Hmac::new_from_slice(key).expect(ANY)),
            Algorithm::DigestMd5 => KeyedMac::Digest(AnyDigest::Md5(Md5::new()), secret()),
            Algorithm::DigestSha1 => KeyedMac::Digest(AnyDigest::Sha1(Sha1::new()), secret()),
            Algorithm::DigestSha256 => KeyedMac::Digest(AnyDigest::Sha256(Sha256::new()), secret()),
            Algorithm::Token => KeyedMac::Token(secret()),
            Algorithm::Ed25519
            | Algorithm::EcdsaP256Sha1
            | Algorithm::EcdsaP256Sha256
            | Algorithm::EcdsaP256Sha256Fixed
            | Algorithm::EcdsaP521Sha512
            | Algorithm::RsaSha1
            | Algorithm::RsaSha256
            | Algorithm::RsaSha512 => return None,
        })
    }
}

/// A code with its key absorbed. Cloning it starts a new message.
#[derive(Clone)]
pub enum KeyedMac {
    Md5(Hmac<Md5>),
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
    /// The content says where the secret goes.
    Digest(AnyDigest, Zeroizing<Vec<u8>>),
    /// The secret is shown as it is.
    Token(Zeroizing<Vec<u8>>),
}

#[derive(Clone)]
pub enum AnyDigest {
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl KeyedMac {
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            KeyedMac::Md5(mac) => mac.update(bytes),
            KeyedMac::Sha1(mac) => mac.update(bytes),
            KeyedMac::Sha256(mac) => mac.update(bytes),
            KeyedMac::Sha384(mac) => mac.update(bytes),
            KeyedMac::Sha512(mac) => mac.update(bytes),
            KeyedMac::Digest(AnyDigest::Md5(digest), _) => Digest::update(digest, bytes),
            KeyedMac::Digest(AnyDigest::Sha1(digest), _) => Digest::update(digest, bytes),
            KeyedMac::Digest(AnyDigest::Sha256(digest), _) => Digest::update(digest, bytes),
            KeyedMac::Token(_) => {}
        }
    }

    pub fn finish(self) -> Tag {
        match self {
            KeyedMac::Md5(mac) => Tag::new(&mac.finalize().into_bytes()),
            KeyedMac::Sha1(mac) => Tag::new(&mac.finalize().into_bytes()),
            KeyedMac::Sha256(mac) => Tag::new(&mac.finalize().into_bytes()),
            KeyedMac::Sha384(mac) => Tag::new(&mac.finalize().into_bytes()),
            KeyedMac::Sha512(mac) => Tag::new(&mac.finalize().into_bytes()),
            KeyedMac::Digest(AnyDigest::Md5(digest), _) => Tag::new(&digest.finalize()),
            KeyedMac::Digest(AnyDigest::Sha1(digest), _) => Tag::new(&digest.finalize()),
            KeyedMac::Digest(AnyDigest::Sha256(digest), _) => Tag::new(&digest.finalize()),
            KeyedMac::Token(secret) => Tag::of_token(&secret),
        }
    }

    /// What `{secret}` stands for in the content; nothing where the key is absorbed.
    pub fn secret(&self) -> &[u8] {
        match self {
            KeyedMac::Digest(_, secret) | KeyedMac::Token(secret) => secret,
            _ => &[],
        }
    }
}

/// A tag: either computed here or presented by a sender. Inline, but for long public-key signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(SmallVec<[u8; 64]>);

impl Tag {
    pub fn new(tag: &[u8]) -> Self {
        Tag(SmallVec::from_slice(tag))
    }

    /// Credentials are compared by their digests, so that their length does not show.
    fn of_token(token: &[u8]) -> Self {
        Tag::new(&Sha256::digest(token))
    }

    /// The bytes, if a tag of the algorithm has so many.
    fn of(bytes: SmallVec<[u8; 64]>, algorithm: Algorithm) -> Option<Self> {
        match algorithm.tag_len() {
            None if bytes.is_empty() => None,
            None if algorithm == Algorithm::Token => Some(Tag::of_token(&bytes)),
            Some(wanted) if bytes.len() != wanted => None,
            None | Some(_) => Some(Tag(bytes)),
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Tag {
    fn as_ref(&self) -> &[u8] {
        &self.0
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
    /// As it stands; for tokens.
    Text,
}

impl Encoding {
    /// The tag in `text`, if it is exactly one tag of `algorithm`.
    pub fn decode(self, text: &[u8], algorithm: Algorithm) -> Option<Tag> {
        let codec = match self {
            Encoding::Hex if algorithm.tag_len().is_some_and(|len| text.len() != 2 * len) => return None,
            Encoding::Hex => return hex(text).and_then(|bytes| Tag::of(bytes, algorithm)),
            Encoding::Base64 => BASE64,
            Encoding::Base64url => BASE64URL_NOPAD,
            Encoding::Text if text.is_empty() || algorithm != Algorithm::Token => return None,
            Encoding::Text => return Some(Tag::of_token(text)),
        };
        let room = codec.decode_len(text.len()).ok()?;
        if algorithm.tag_len().is_some_and(|len| room > len + 2) {
            return None;
        }
        let mut bytes = SmallVec::from_elem(0, room);
        let len = codec.decode_mut(text, &mut bytes).ok()?;
        bytes.truncate(len);
        // Base64 with padding in its middle would be the same tag, written longer.
        if codec.encode_len(len) != text.len() {
            return None;
        }
        Tag::of(bytes, algorithm)
    }

    pub fn encode(self, tag: impl AsRef<[u8]>) -> String {
        let tag = tag.as_ref();
        match self {
            Encoding::Hex => HEXLOWER.encode(tag),
            Encoding::Base64 => BASE64.encode(tag),
            Encoding::Base64url => BASE64URL_NOPAD.encode(tag),
            Encoding::Text => String::from_utf8_lossy(tag).into_owned(),
        }
    }
}

/// In letters of either case.
fn hex(text: &[u8]) -> Option<SmallVec<[u8; 64]>> {
    let mut bytes = SmallVec::from_elem(0, text.len() / 2);
    faster_hex::hex_decode(text, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(algorithm: Algorithm, key: &[u8], message: &[u8]) -> String {
        let mut mac = algorithm.keyed(key).unwrap();
        mac.update(message);
        Encoding::Hex.encode(mac.finish())
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

    // RFC 1321, appendix A.5; FIPS 180-2, appendices A.1 and B.1.
    #[test]
    fn digests_hash_the_secret_where_the_content_has_it() {
        assert_eq!(hex(Algorithm::DigestMd5, b"", b"abc"), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(hex(Algorithm::DigestSha1, b"", b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(
            hex(Algorithm::DigestSha256, b"", b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(Algorithm::DigestSha1.keyed(b"key").unwrap().secret(), b"key");
        assert_eq!(Algorithm::HmacSha1.keyed(b"key").unwrap().secret(), b"");
    }

    #[test]
    fn a_token_is_compared_whole() {
        let token = |encoding: Encoding, text: &str| encoding.decode(text.as_bytes(), Algorithm::Token);
        let expected = Algorithm::Token.keyed(b"opensesame").unwrap().finish();
        assert_eq!(token(Encoding::Text, "opensesame"), Some(expected.clone()));
        assert_eq!(token(Encoding::Base64, "b3BlbnNlc2FtZQ=="), Some(expected.clone()));
        assert_ne!(token(Encoding::Text, "opensesam"), Some(expected));
        assert_eq!(token(Encoding::Text, ""), None);
        assert_eq!(Encoding::Text.decode(b"x", Algorithm::HmacSha256), None);
    }

    #[test]
    fn decoding_is_strict() {
        let mut mac = Algorithm::HmacSha256.keyed(b"k").unwrap();
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
        let halves = tag.as_bytes().chunks(16).map(|half| BASE64.encode(half)).collect::<String>();
        assert!(!takes(Encoding::Base64, &halves), "padding in the middle");
        assert!(!takes(Encoding::Hex, &"a".repeat(10_000)), "no length is too long to refuse");
    }
}
