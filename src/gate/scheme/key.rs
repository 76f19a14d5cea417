//! From the text of a secret to the bytes of a key.

use std::fmt;

use data_encoding::{BASE64, BASE64_NOPAD, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// What a provider means by the secret that it shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeyRule {
    /// Prefixes of which the first that fits is removed, such as `whsec_`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strip: Vec<String>,
    /// How the rest becomes bytes.
    pub decode: KeyDecoding,
    /// What is made of these bytes before they become the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub derive: Option<KeyDerivation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyDerivation {
    /// Their SHA-1, 20 bytes.
    Sha1,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyDecoding {
    /// The text's bytes as they stand.
    #[default]
    Utf8,
    /// The text in Unicode's form NFKD (UAX 15).
    Nfkd,
    /// Base64 (RFC 4648, section 4), with or without padding.
    Base64,
    /// Hexadecimal in either case.
    Hex,
    /// A public key: PEM, or the base64 of its DER.
    Spki,
}

impl KeyRule {
    pub fn decode(&self, secret: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let text =
            self.strip.iter().find_map(|prefix| secret.strip_prefix(prefix.as_bytes())).unwrap_or(secret);
        let key = match self.decode {
            KeyDecoding::Utf8 => Ok(text.to_vec()),
            KeyDecoding::Nfkd => nfkd(text).ok_or(KeyError::NotText),
            KeyDecoding::Base64 => BASE64_NOPAD.decode(unpadded(text)).map_err(|_| KeyError::NotBase64),
            KeyDecoding::Hex => HEXLOWER_PERMISSIVE.decode(text).map_err(|_| KeyError::NotHex),
            KeyDecoding::Spki => spki(text).ok_or(KeyError::NotPublic),
        };
        let key = Zeroizing::new(key?);
        match self.derive {
            _ if key.is_empty() => Err(KeyError::Empty),
            None => Ok(key),
            Some(KeyDerivation::Sha1) => Ok(Zeroizing::new(Sha1::digest(&key).to_vec())),
        }
    }
}

fn nfkd(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    // A character becomes at most eighteen: room for all, so that no copy of the secret is left behind.
    let mut form = String::with_capacity(18 * text.len());
    form.extend(text.nfkd());
    Some(form.into_bytes())
}

/// The DER in a PEM block (RFC 7468, section 13), or in bare base64 on one line or many.
pub fn spki(text: &[u8]) -> Option<Vec<u8>> {
    let lines = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let text = lines.collect::<Vec<_>>().concat();
    let bare = match text.strip_prefix(b"-----BEGINPUBLICKEY-----") {
        Some(rest) => rest.strip_suffix(b"-----ENDPUBLICKEY-----")?,
        None => &text,
    };
    BASE64.decode(bare).ok()
}

/// Base64 without the padding that makes it a multiple of four.
fn unpadded(text: &[u8]) -> &[u8] {
    match text {
        [bare @ .., b'=', b'='] | [bare @ .., b'='] if text.len().is_multiple_of(4) => bare,
        bare => bare,
    }
}

/// Why a secret is no key. Says nothing of the secret itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    Empty,
    NotBase64,
    NotHex,
    NotText,
    /// Not the kind of public key that the algorithm needs.
    NotPublic,
    /// The gate has only the provider's public key, so only the provider can sign.
    NothingToSignWith,
    /// Fewer bytes than [`MIN_KEY_LEN`], and short keys are not allowed.
    Short(usize),
}

/// Shorter keys can be guessed offline from a single delivery.
pub const MIN_KEY_LEN: usize = 16;

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Empty => f.write_str("the secret holds no key bytes"),
            KeyError::NotBase64 => f.write_str("the secret is not base64"),
            KeyError::NotText => f.write_str("the secret is not text in UTF-8"),
            KeyError::NotHex => f.write_str("the secret is not hexadecimal"),
            KeyError::NotPublic => f.write_str("the secret is no public key of the kind that is needed"),
            KeyError::NothingToSignWith => {
                f.write_str("only the provider can sign: its private key is its own")
            }
            KeyError::Short(len) => write!(f, "the key has {len} bytes, fewer than {MIN_KEY_LEN}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_another_unicode_form_is_the_same_key() {
        let rule = KeyRule { decode: KeyDecoding::Nfkd, ..KeyRule::default() };
        let key = |secret: &str| rule.decode(secret.as_bytes()).unwrap().to_vec();
        // What Python's unicodedata.normalize("NFKD", …) makes of them.
        for (secret, form) in
            [("plain", "plain"), ("é", "e\u{301}"), ("ﬁ①", "fi1"), ("각", "\u{1100}\u{1161}\u{11a8}")]
        {
            assert_eq!(key(secret), form.as_bytes(), "{secret}");
        }
        assert_eq!(rule.decode(b"\xff"), Err(KeyError::NotText));
    }

    #[test]
    fn secrets_become_keys_as_the_provider_means_them() {
        let whsec = KeyRule { strip: vec!["whsec_".into()], decode: KeyDecoding::Base64, derive: None };
        assert_eq!(whsec.decode(b"whsec_AAEC").unwrap().as_slice(), [0, 1, 2]);
        assert_eq!(whsec.decode(b"AAEC").unwrap().as_slice(), [0, 1, 2]);
        assert_eq!(whsec.decode(b"whsec_AAECAw").unwrap().as_slice(), [0, 1, 2, 3], "no padding");
        assert_eq!(whsec.decode(b"whsec_").unwrap_err(), KeyError::Empty);
        assert_eq!(whsec.decode(b"whsec_!").unwrap_err(), KeyError::NotBase64);
        for bad in ["AAECAw=", "AAEC====", "AA==AAEC", "AAECAx==", "AAECAw==\n"] {
            assert_eq!(whsec.decode(bad.as_bytes()).unwrap_err(), KeyError::NotBase64, "{bad:?}");
        }
        assert_eq!(whsec.decode(b"AAECAw==").unwrap().as_slice(), [0, 1, 2, 3]);
        assert_eq!(KeyError::Short(3).to_string(), "the key has 3 bytes, fewer than 16");
        assert_eq!(KeyRule::default().decode(b"whsec_x").unwrap().as_slice(), b"whsec_x");
        let hex = KeyRule { decode: KeyDecoding::Hex, ..KeyRule::default() };
        assert_eq!(hex.decode(b"00fF").unwrap().as_slice(), [0, 255]);
        assert_eq!(hex.decode(b"0g").unwrap_err(), KeyError::NotHex);
        let spki = KeyRule { decode: KeyDecoding::Spki, ..KeyRule::default() };
        let pem = b"-----BEGIN PUBLIC KEY-----\nAAEC\nAwQF\n-----END PUBLIC KEY-----\n";
        assert_eq!(spki.decode(pem).unwrap().as_slice(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(spki.decode(b"AAECAwQF").unwrap().as_slice(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(spki.decode(b"-----BEGIN PRIVATE KEY-----").unwrap_err(), KeyError::NotPublic);
        // FIPS 180-2, appendix A.1.
        let sha1 = KeyRule { derive: Some(KeyDerivation::Sha1), ..KeyRule::default() };
        assert_eq!(sha1.decode(b"abc").unwrap()[..4], [0xa9, 0x99, 0x3e, 0x36]);
    }
}
