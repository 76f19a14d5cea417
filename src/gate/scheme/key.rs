//! From the text of a secret to the bytes of a key.

use std::fmt;

use data_encoding::{BASE64, BASE64_NOPAD, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};
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
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyDecoding {
    /// The text's bytes as they stand.
    #[default]
    Utf8,
    /// Base64 (RFC 4648, section 4), with or without padding.
    Base64,
    /// Hexadecimal in either case.
    Hex,
}

impl KeyRule {
    pub fn decode(&self, secret: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let text =
            self.strip.iter().find_map(|prefix| secret.strip_prefix(prefix.as_bytes())).unwrap_or(secret);
        let key = match self.decode {
            KeyDecoding::Utf8 => Ok(text.to_vec()),
            KeyDecoding::Base64 => {
                BASE64.decode(text).or_else(|_| BASE64_NOPAD.decode(text)).map_err(|_| KeyError::NotBase64)
            }
            KeyDecoding::Hex => HEXLOWER_PERMISSIVE.decode(text).map_err(|_| KeyError::NotHex),
        };
        match key?.as_slice() {
            [] => Err(KeyError::Empty),
            key => Ok(Zeroizing::new(key.to_vec())),
        }
    }
}

/// Why a secret is no key. Says nothing of the secret itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    Empty,
    NotBase64,
    NotHex,
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
            KeyError::NotHex => f.write_str("the secret is not hexadecimal"),
            KeyError::Short(len) => write!(f, "the key has {len} bytes, fewer than {MIN_KEY_LEN}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_become_keys_as_the_provider_means_them() {
        let whsec = KeyRule { strip: vec!["whsec_".into()], decode: KeyDecoding::Base64 };
        assert_eq!(whsec.decode(b"whsec_AAEC").unwrap().as_slice(), [0, 1, 2]);
        assert_eq!(whsec.decode(b"AAEC").unwrap().as_slice(), [0, 1, 2]);
        assert_eq!(whsec.decode(b"whsec_AAECAw").unwrap().as_slice(), [0, 1, 2, 3], "no padding");
        assert_eq!(whsec.decode(b"whsec_").unwrap_err(), KeyError::Empty);
        assert_eq!(whsec.decode(b"whsec_!").unwrap_err(), KeyError::NotBase64);
        assert_eq!(KeyRule::default().decode(b"whsec_x").unwrap().as_slice(), b"whsec_x");
        let hex = KeyRule { strip: vec![], decode: KeyDecoding::Hex };
        assert_eq!(hex.decode(b"00fF").unwrap().as_slice(), [0, 255]);
        assert_eq!(hex.decode(b"0g").unwrap_err(), KeyError::NotHex);
    }
}
