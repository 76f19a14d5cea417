//! Signed tokens in compact form (RFC 7515, section 7.1; RFC 7519 for their claims). Whether a token
//! is genuine is not asked here.

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

use super::Unreadable;

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

    /// The algorithm that the token names. Extensions that must be understood are not.
    pub fn algorithm(&self) -> Result<String, Unreadable> {
        let header = decoded(self.header)?;
        let header = std::str::from_utf8(&header).map_err(|_| Unreadable)?;
        let header: Header = serde_json::from_str(header).map_err(|_| Unreadable)?;
        if header.crit.is_none() { Ok(header.alg) } else { Err(Unreadable) }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn algorithm(header: &str) -> Result<String, Unreadable> {
        let text = format!("{}.e30.c2ln", encoded(header.as_bytes()));
        Token::parse(text.as_bytes()).unwrap().algorithm()
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
    fn a_token_names_one_algorithm() {
        for name in ["HS256", "hs256", "none"] {
            assert_eq!(algorithm(&format!(r#"{{"typ":"JWT","alg":"{name}"}}"#)), Ok(name.to_owned()));
        }
        for bad in [
            r#"{"typ":"JWT"}"#,
            r#"{"alg":"HS256","crit":["exp"]}"#,
            r#"{"alg":"none","alg":"HS256"}"#,
            r#"{"alg":256}"#,
            "no JSON",
        ] {
            assert_eq!(algorithm(bad), Err(Unreadable), "{bad}");
        }
    }
}
