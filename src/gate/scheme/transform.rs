//! What a template does to a value before it is signed: `{body|sha256hex}`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::gate::parse::Unreadable;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// The 32 bytes of its SHA-256.
    Sha256,
    /// Its SHA-256 in lower-case hexadecimal.
    Sha256Hex,
    /// Its SHA-256 in base64 with padding.
    Sha256Base64,
    /// Its SHA-256 in base64url without padding.
    Sha256Base64url,
    /// In base64url without padding.
    Base64url,
    /// As a JSON string, quotes and all. What is not UTF-8 cannot be written so.
    Json,
    /// As it stands, ten digits: a Unix time in seconds, between 2001 and 2286.
    Unix,
    /// ASCII letters in lower case.
    Lower,
    /// Percent-escapes of `: / ? @ ! $ ' ( ) * , ;` undone, as `HubSpot` does to a URL.
    Unescape,
    /// Path and query with another layer of percent-escapes, the query with two, as Contentful does.
    EscapeTarget,
}

const NAMES: [(Transform, &str); 10] = [
    (Transform::Sha256, "sha256"),
    (Transform::Sha256Hex, "sha256hex"),
    (Transform::Sha256Base64, "sha256base64"),
    (Transform::Sha256Base64url, "sha256base64url"),
    (Transform::Base64url, "base64url"),
    (Transform::Json, "json"),
    (Transform::Unix, "unix"),
    (Transform::Lower, "lower"),
    (Transform::Unescape, "unescape"),
    (Transform::EscapeTarget, "escape_target"),
];

impl Transform {
    /// Whether another value is written in another way.
    pub const fn keeps_all(self) -> bool {
        match self {
            Transform::Lower | Transform::Unescape | Transform::EscapeTarget => false,
            Transform::Base64url | Transform::Json | Transform::Unix => true,
            _ => self.is_digest(),
        }
    }

    /// Whether what is written shows by itself where it ends, whatever stands beside it.
    pub const fn shows_its_end(self) -> bool {
        matches!(self, Transform::Json | Transform::Unix) || self.is_digest()
    }

    const fn is_digest(self) -> bool {
        matches!(
            self,
            Transform::Sha256 | Transform::Sha256Hex | Transform::Sha256Base64 | Transform::Sha256Base64url
        )
    }

    pub fn apply(self, value: &[u8]) -> Result<Cow<'_, [u8]>, Unreadable> {
        let sha256 = || Sha256::digest(value);
        Ok(Cow::Owned(match self {
            Transform::Sha256 => sha256().to_vec(),
            Transform::Sha256Hex => HEXLOWER.encode(&sha256()).into_bytes(),
            Transform::Sha256Base64 => data_encoding::BASE64.encode(&sha256()).into_bytes(),
            Transform::Sha256Base64url => data_encoding::BASE64URL_NOPAD.encode(&sha256()).into_bytes(),
            Transform::Base64url => data_encoding::BASE64URL_NOPAD.encode(value).into_bytes(),
            Transform::Json => {
                let text = std::str::from_utf8(value).map_err(|_| Unreadable)?;
                serde_json::to_vec(text).map_err(|_| Unreadable)?
            }
            Transform::Unix => match value {
                [b'1'..=b'9', rest @ ..] if rest.len() == 9 && rest.iter().all(u8::is_ascii_digit) => {
                    return Ok(Cow::Borrowed(value));
                }
                _ => return Err(Unreadable),
            },
            Transform::Lower => value.to_ascii_lowercase(),
            Transform::Unescape => unescape(value),
            Transform::EscapeTarget => escape_target(value),
        }))
    }
}

fn unescape(url: &[u8]) -> Vec<u8> {
    const PLAIN: &[u8] = b":/?@!$'()*,;";
    let mut out = Vec::with_capacity(url.len());
    let mut rest = url;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%').then(|| crate::gate::parse::form::hex_byte(after)).flatten();
        match escaped.filter(|escaped| PLAIN.contains(escaped)) {
            Some(plain) => {
                out.push(plain);
                rest = &after[2..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

/// The query as a component, then all of it as a URI (ECMA-262, `encodeURIComponent` and `encodeURI`).
fn escape_target(target: &[u8]) -> Vec<u8> {
    const COMPONENT: &[u8] = b"-_.!~*'()";
    const URI: &[u8] = b"-_.!~*'();,/?:@&=+$#";
    let escape = |text: &[u8], plain: &[u8]| -> Vec<u8> {
        let one = |byte: &u8| match byte {
            b if b.is_ascii_alphanumeric() || plain.contains(b) => vec![*b],
            b => format!("%{b:02X}").into_bytes(),
        };
        text.iter().flat_map(one).collect()
    };
    let mut parts = target.splitn(2, |b| *b == b'?');
    let path = parts.next().unwrap_or_default();
    match parts.next().filter(|query| !query.is_empty()) {
        None => escape(path, URI),
        Some(query) => escape(&[path, b"?", &escape(query, COMPONENT)].concat(), URI),
    }
}

impl FromStr for Transform {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = NAMES.iter().find(|(_, known)| *known == name);
        known.map(|(transform, _)| *transform).ok_or_else(|| {
            let names: Vec<_> = NAMES.iter().map(|(_, name)| *name).collect();
            format!("\"{name}\" is no transform: write one of {}", names.join(", "))
        })
    }
}

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(transform, _)| transform == self).map_or("", |(_, name)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transforms_do_what_their_names_say() {
        let said = |transform: &str, value: &str| {
            let transform: Transform = transform.parse().unwrap();
            String::from_utf8_lossy(&transform.apply(value.as_bytes()).unwrap()).into_owned()
        };
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(said("sha256hex", "abc"), abc);
        assert_eq!(said("sha256base64", "abc"), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
        assert_eq!(said("sha256base64url", "abc"), "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0");
        assert_eq!(Transform::Sha256.apply(b"abc").unwrap().len(), 32);
        assert_eq!(said("json", "a\"\n"), r#""a\"\n""#);
        assert_eq!(Transform::Json.apply(b"\xff"), Err(Unreadable));
        assert_eq!(said("unix", "1700000000"), "1700000000");
        for other in ["", "170000000", "17000000000", "0700000000", "+700000000", "170000000a"] {
            assert_eq!(Transform::Unix.apply(other.as_bytes()), Err(Unreadable), "{other}");
        }
        assert_eq!(said("lower", "AbC"), "abc");
        assert_eq!(said("unescape", "/a%3Fb%2f%20%zz%2"), "/a?b/%20%zz%2");
        assert_eq!(said("escape_target", "/p%20q?x=1"), "/p%2520q?x%253D1");
        assert_eq!(said("escape_target", "/p?"), "/p");
        for (transform, name) in NAMES {
            assert_eq!((transform.to_string().as_str(), name.parse()), (name, Ok(transform)));
        }
    }
}
