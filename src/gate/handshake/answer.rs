//! What is said to a question: the value that came with it, bounded, in one of a few forms; and, where
//! the provider wants that, a signature over the value.

use std::fmt;

use http::{HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use crate::gate::fetched::address::Address;
use crate::gate::parse::url::{Port, PublicUrl};
use crate::gate::scheme::algorithm::{Encoding, KeyedMac};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This status, and nothing else.
    Status(u16),
    /// What only the application can tell.
    Application,
    /// The value as plain text.
    Text,
    /// The value in this header.
    Header(HeaderName),
    /// A flat JSON object.
    Json(Vec<(String, Part)>),
    /// Nothing but 200, once the gate has visited this address, with the value in its hole.
    Visit(Address),
}

/// A member of the JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Integer(i64),
    Text(Vec<Piece>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Literal(String),
    /// The value.
    Value,
    /// HMAC-SHA256 of the value under a key of the route.
    Hmac(Encoding),
    /// SHA-256 of the value, and of what was registered with the provider.
    Digest(Encoding, Registered),
}

/// What the operator has told the provider: a token, and the URL of the endpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct Registered {
    token: Box<[u8]>,
    url: PublicUrl,
}

impl Registered {
    pub fn new(token: &[u8], url: &PublicUrl) -> Self {
        Registered { token: token.into(), url: url.clone() }
    }

    /// Of a request to this path; the URL counts as it was registered.
    fn digest(&self, value: &str, path: &[u8]) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(value.as_bytes());
        digest.update(&self.token);
        let query = self.url.query().map(str::as_bytes);
        self.url.write(Port::AsGiven, path, query, |part| digest.update(part));
        digest.finalize().into()
    }
}

/// The token is told to nobody.
impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registered({})", self.url)
    }
}

/// What the gate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeReply {
    pub status: u16,
    pub media: Option<Media>,
    pub header: Option<(HeaderName, HeaderValue)>,
    pub body: String,
    /// What is to be done before it is said.
    pub visit: Option<Visit>,
}

/// An address that is asked for a provider, so that it knows the endpoint for one that wants its events. It is
/// put together from what the operator has configured: of the delivery it has the value in its hole alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    pub url: String,
    /// Without the value, which is good for whoever has it.
    pub shown: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    Text,
    Json,
}

impl Media {
    pub const fn name(self) -> &'static str {
        match self {
            Media::Text => "text/plain",
            Media::Json => "application/json",
        }
    }
}

/// It is a question of the provider's, but its token is wrong, or what it wants sent back is
/// not what the provider sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswerable;

impl Answer {
    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        let members: &[(String, Part)] = match self {
            Answer::Json(members) => members,
            Answer::Status(_) | Answer::Application | Answer::Text | Answer::Header(_) | Answer::Visit(_) => {
                &[]
            }
        };
        members.iter().flat_map(|(_, part)| match part {
            Part::Text(pieces) => pieces.as_slice(),
            Part::Integer(_) => &[],
        })
    }

    /// Whether it gives a signature away.
    pub fn signs(&self) -> bool {
        self.pieces().any(|piece| matches!(piece, Piece::Hmac(_)))
    }

    /// Whether it says anything of the value.
    pub fn tells_value(&self) -> bool {
        matches!(self, Answer::Text | Answer::Header(_) | Answer::Visit(_))
            || self.pieces().any(|piece| !matches!(piece, Piece::Literal(_)))
    }

    pub(super) fn compose(
        &self,
        value: &[u8],
        path: &[u8],
        key: Option<&KeyedMac>,
    ) -> Result<HandshakeReply, Unanswerable> {
        let value = if self.tells_value() { self.bounded(value)? } else { "" };
        let (mut status, mut visit) = (200, None);
        let (media, header, body) = match self {
            Answer::Status(other) => {
                status = *other;
                (None, None, String::new())
            }
            Answer::Visit(address) => {
                let url = address.of(value).ok_or(Unanswerable)?;
                visit = Some(Visit { url, shown: address.to_string() });
                (None, None, String::new())
            }
            Answer::Application => return Err(Unanswerable),
            Answer::Text => (Some(Media::Text), None, value.to_owned()),
            Answer::Header(name) => {
                let value = HeaderValue::from_str(value).map_err(|_| Unanswerable)?;
                (None, Some((name.clone(), value)), String::new())
            }
            Answer::Json(members) => {
                let mut object = serde_json::Map::new();
                for (name, part) in members {
                    let told = match part {
                        Part::Integer(n) => (*n).into(),
                        Part::Text(pieces) => text(pieces, value, path, key)?.into(),
                    };
                    object.insert(name.clone(), told);
                }
                (Some(Media::Json), None, serde_json::Value::Object(object).to_string())
            }
        };
        Ok(HandshakeReply { status, media, header, body, visit })
    }

    /// The value, if it may be sent back in this answer.
    pub(super) fn bounded<'v>(&self, value: &'v [u8]) -> Result<&'v str, Unanswerable> {
        let allowed = if self.signs() { is_token_byte } else { is_harmless_byte };
        let plain = (1..=MAX_VALUE).contains(&value.len()) && value.iter().all(|byte| allowed(*byte));
        std::str::from_utf8(value).ok().filter(|_| plain).ok_or(Unanswerable)
    }
}

fn text(pieces: &[Piece], value: &str, path: &[u8], key: Option<&KeyedMac>) -> Result<String, Unanswerable> {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => text.push_str(literal),
            Piece::Value => text.push_str(value),
            Piece::Digest(encoding, registered) => {
                text.push_str(&encoding.encode(registered.digest(value, path)));
            }
            Piece::Hmac(encoding) => {
                let mut mac = key.ok_or(Unanswerable)?.clone();
                mac.update(value.as_bytes());
                text.push_str(&encoding.encode(mac.finish()));
            }
        }
    }
    Ok(text)
}

/// The longest value that is sent back; the longest known is Microsoft's, of some 200.
pub(super) const MAX_VALUE: usize = 512;

/// Characters of tokens: random text, hexadecimal, base64 in either alphabet, UUIDs. None of
/// them can begin a JSON object, an array or a string, or an XML document.
pub(super) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=')
}

/// What may be sent back as it came: nothing that a browser or a shell gives a meaning to.
const fn is_harmless_byte(byte: u8) -> bool {
    is_token_byte(byte) || matches!(byte, b' ' | b':' | b',' | b'@')
}
