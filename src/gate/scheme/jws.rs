//! Signed tokens in compact form (RFC 7515, section 7.1; RFC 7519 for their claims).

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

use super::Unreadable;
use super::algorithm::Algorithm;

/// `header.payload.signature`, still encoded. The payload is empty if it is detached
/// (RFC 7515, appendix F).
#[derive(Clone, Copy, Debug)]
pub struct Token<'t> {
    pub header: &'t [u8],
    pub payload: &'t [u8],
    pub signature: &'t [u8],
    /// Header and payload with the dot between them.
    pub signed: &'t [u8],
}

/// What decides of a token's header.
#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Extensions that must be understood (RFC 7515, section 4.1.11): none are.
    crit: Option<serde::de::IgnoredAny>,
}

impl<'t> Token<'t> {
    pub fn parse(text: &'t [u8]) -> Option<Self> {
        let mut parts = text.split(|b| *b == b'.');
        let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
        let signed = &text[..header.len() + 1 + payload.len()];
        (parts.next().is_none() && !header.is_empty() && !signature.is_empty()).then_some(Token {
            header,
            payload,
            signature,
            signed,
        })
    }

    /// Whether the token names the algorithm that the recipe demands. It is not asked which one to use.
    pub fn is_of(&self, algorithm: Algorithm) -> bool {
        let header = decoded(self.header).and_then(|header| {
            let header = std::str::from_utf8(&header).map_err(|_| Unreadable)?;
            serde_json::from_str::<Header>(header).map_err(|_| Unreadable)
        });
        // A header that cannot be read names no algorithm: its token is none of ours.
        header.is_ok_and(|header| Some(header.alg.as_str()) == name(algorithm) && header.crit.is_none())
    }

    /// A list of header names in the token's own header, written with commas between them; empty
    /// if the token has none.
    pub fn list(&self, parameter: &str) -> Result<String, Unreadable> {
        let header: serde_json::Value =
            serde_json::from_slice(&decoded(self.header)?).map_err(|_| Unreadable)?;
        match header.get(parameter) {
            None => Ok(String::new()),
            Some(list) => list.as_str().map(str::to_owned).ok_or(Unreadable),
        }
    }
}

/// The bytes that base64url without padding writes.
pub fn decoded(part: &[u8]) -> Result<Vec<u8>, Unreadable> {
    BASE64URL_NOPAD.decode(part).map_err(|_| Unreadable)
}

pub fn encoded(part: &[u8]) -> String {
    BASE64URL_NOPAD.encode(part)
}

/// The name that RFC 7518 gives the algorithm, if a token can be signed with it.
pub fn name(algorithm: Algorithm) -> Option<&'static str> {
    match algorithm {
        Algorithm::HmacSha256 => Some("HS256"),
        Algorithm::HmacSha384 => Some("HS384"),
        Algorithm::HmacSha512 => Some("HS512"),
        Algorithm::RsaSha256 => Some("RS256"),
        Algorithm::RsaSha512 => Some("RS512"),
        Algorithm::EcdsaP521Sha512 => Some("ES512"),
        Algorithm::Ed25519 => Some("EdDSA"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_hs256(header: &str) -> bool {
        let text = format!("{}.e30.c2ln", encoded(header.as_bytes()));
        Token::parse(text.as_bytes()).unwrap().is_of(Algorithm::HmacSha256)
    }

    #[test]
    fn a_token_has_three_parts() {
        let token = Token::parse(b"a.b.c").unwrap();
        assert_eq!((token.header, token.payload, token.signature), (&b"a"[..], &b"b"[..], &b"c"[..]));
        assert_eq!(token.signed, b"a.b");
        assert_eq!(Token::parse(b"a..c").unwrap().signed, b"a.");
        for bad in ["", "a", "a.b", "a.b.", ".b.c", "a.b.c.d"] {
            assert!(Token::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_token_does_not_choose_its_algorithm() {
        assert!(is_hs256(r#"{"typ":"JWT","alg":"HS256"}"#));
        for bad in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"None"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"typ":"JWT"}"#,
            r#"{"alg":"HS256","crit":["exp"]}"#,
            r#"{"alg":"none","alg":"HS256"}"#,
            "no JSON",
        ] {
            assert!(!is_hs256(bad), "{bad}");
        }
    }
}
