//! Signed tokens in compact form (RFC 7515, section 7.1; RFC 7519 for their claims). Whether a token
//! is genuine is not asked here.

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

use super::Unreadable;
use super::json::{self, Pointer, Scalar};

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

/// In which form a payload that stands elsewhere is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadForm {
    /// In base64url.
    Encoded,
    /// As it is (RFC 7797).
    Plain,
}

/// What decides of a token's header.
#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Extensions that must be understood (RFC 7515, section 4.1.11): none are but `b64`.
    crit: Option<Vec<String>>,
    /// Whether the payload is signed in base64url (RFC 7797).
    b64: Option<bool>,
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
    pub fn algorithm(&self) -> Result<(String, PayloadForm), Unreadable> {
        let header = decoded(self.header)?;
        let header = std::str::from_utf8(&header).map_err(|_| Unreadable)?;
        let header: Header = serde_json::from_str(header).map_err(|_| Unreadable)?;
        match (header.crit.as_deref(), header.b64) {
            (None, None | Some(true)) => Ok((header.alg, PayloadForm::Encoded)),
            (Some([b64]), Some(false)) if b64 == "b64" => Ok((header.alg, PayloadForm::Plain)),
            _ => Err(Unreadable),
        }
    }

    /// A text in the token's own header; `None` if it is not there. A name that comes twice is refused.
    pub fn parameter(&self, name: &str) -> Result<Option<String>, Unreadable> {
        let header = decoded(self.header)?;
        let at = json::pick(&header, &[&Pointer::key(name)]).map_err(|_| Unreadable)?;
        match at.into_iter().next().flatten() {
            None => Ok(None),
            Some(Scalar::Text(text)) => Ok(Some(text.into_owned())),
            Some(_) => Err(Unreadable),
        }
    }

    /// The certificates in its header (RFC 7515, section 4.1.6), in base64.
    pub fn certificates(&self) -> Result<Vec<String>, Unreadable> {
        #[derive(Deserialize)]
        struct Chain {
            x5c: Vec<String>,
        }
        let chain: Chain = serde_json::from_slice(&decoded(self.header)?).map_err(|_| Unreadable)?;
        Ok(chain.x5c)
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

    fn algorithm(header: &str) -> Result<(String, PayloadForm), Unreadable> {
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
            assert_eq!(
                algorithm(&format!(r#"{{"typ":"JWT","alg":"{name}"}}"#)),
                Ok((name.to_owned(), PayloadForm::Encoded))
            );
        }
        let plain = algorithm(r#"{"alg":"RS256","b64":false,"crit":["b64"]}"#);
        assert_eq!(plain, Ok(("RS256".to_owned(), PayloadForm::Plain)));
        for bad in [
            r#"{"alg":"RS256","b64":false}"#,
            r#"{"alg":"RS256","b64":true,"crit":["b64"]}"#,
            r#"{"alg":"RS256","b64":false,"crit":["b64","exp"]}"#,
            r#"{"alg":"RS256","b64":false,"crit":[]}"#,
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
