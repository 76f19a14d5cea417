//! Where a value comes from: the head, the signature header, a token, or the body.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64_NOPAD;
use http::HeaderName;

use crate::gate::delivery::Head;
use crate::gate::parse::Unreadable;
use crate::gate::parse::json::{self, Pointer, Scalar};

/// Where a value that a scheme or a handshake reads stands. Written as `header:X-Name`, `kv:name`,
/// `query:name`, `json:/pointer`, `form:name`, `multipart:name`, `claim:name` or `body`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Header(HeaderName),
    /// A field of the signature header: `name=value`, or a place in a list, counted from 0.
    Field(String),
    /// A parameter of the query, decoded; one that comes twice is refused.
    Query(String),
    /// A scalar in a JSON body.
    Json(Pointer),
    /// A scalar in JSON that is itself a text in a JSON body, written `json:/Message#/eventType`.
    Inner(Pointer, Pointer),
    /// A text of each element of a list in a JSON body, written `json:/value/*/clientState`. Where signatures stand,
    /// each of them must be one.
    Each(Pointer, Vec<String>),
    /// A scalar in JSON that is the base64 of a header, written `header64:Name#/kid`.
    HeaderJson(HeaderName, Pointer),
    /// A field of an `application/x-www-form-urlencoded` body, decoded.
    Form(String),
    /// A field of a `multipart/form-data` body (RFC 7578).
    Multipart(String),
    /// A claim of the signed token (RFC 7519, section 4).
    Claim(Pointer),
    /// A parameter of the token's own header (RFC 7515, section 4), written `token:jku`.
    Token(String),
    /// The whole body.
    Body,
}

impl Source {
    /// The header that it is.
    pub fn header(&self) -> Option<&HeaderName> {
        match self {
            Source::Header(name) => Some(name),
            _ => None,
        }
    }

    /// The value, if it stands in the head by itself; `Ok(None)` if it is absent or elsewhere.
    pub fn in_head<'r>(&self, head: &Head<'r>) -> Result<Option<Cow<'r, [u8]>>, Unreadable> {
        match self {
            Source::Header(name) => Ok(head.single(name)?.map(Cow::Borrowed)),
            Source::Query(name) => head.query()?.single(name),
            Source::Field(_)
            | Source::Json(_)
            | Source::Form(_)
            | Source::Multipart(_)
            | Source::Claim(_)
            | Source::Inner(..)
            | Source::Each(..)
            | Source::Token(_)
            | Source::Body => Ok(None),
            Source::HeaderJson(name, pointer) => match head.single(name)? {
                None => Ok(None),
                Some(value) => Ok(Some(Cow::Owned(in_header(value, pointer)?.into_bytes()))),
            },
        }
    }

    /// Where in a JSON body, if it is there.
    pub fn pointer(&self) -> Option<&Pointer> {
        match self {
            Source::Json(pointer) => Some(pointer),
            _ => None,
        }
    }

    /// Whether only the body tells.
    pub fn is_in_body(&self) -> bool {
        matches!(
            self,
            Source::Json(_)
                | Source::Inner(..)
                | Source::Each(..)
                | Source::Form(_)
                | Source::Multipart(_)
                | Source::Body
        )
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "body" => Ok(Source::Body),
            Some(("header", name)) => Ok(Source::Header(header_name(name)?)),
            Some(("kv", name)) if !name.is_empty() => Ok(Source::Field(name.to_owned())),
            Some(("query", name)) if !name.is_empty() => Ok(Source::Query(name.to_owned())),
            Some(("json", pointer)) if pointer.contains('#') => {
                let (outer, inner) = pointer.split_once('#').unwrap_or_default();
                Ok(Source::Inner(outer.parse()?, inner.parse()?))
            }
            Some(("header64", place)) if place.contains('#') => {
                let (name, pointer) = place.split_once('#').unwrap_or_default();
                Ok(Source::HeaderJson(header_name(name)?, pointer.parse()?))
            }
            Some(("json", pointer)) if pointer.split('/').any(|token| token == "*") => {
                let (list, inner) = pointer.split_once("/*").unwrap_or_default();
                let inner = match inner {
                    "" => Vec::new(),
                    inner => inner.parse::<Pointer>()?.tokens().to_vec(),
                };
                Ok(Source::Each(list.parse()?, inner))
            }
            Some(("json", pointer)) => Ok(Source::Json(pointer.parse()?)),
            Some(("form", name)) if !name.is_empty() => Ok(Source::Form(name.to_owned())),
            Some(("multipart", name)) if !name.is_empty() => Ok(Source::Multipart(name.to_owned())),
            // One claim within another is written as a pointer.
            Some(("token", name)) if !name.is_empty() => Ok(Source::Token(name.to_owned())),
            Some(("claim", pointer)) if pointer.starts_with('/') => Ok(Source::Claim(pointer.parse()?)),
            Some(("claim", name)) if !name.is_empty() => Ok(Source::Claim(Pointer::key(name))),
            _ => Err(format!(
                "\"{text}\" names no source: write header:Name, kv:field, query:name, json:/pointer, form:name, \
                 multipart:name or claim:name"
            )),
        }
    }
}

/// A text in the JSON that a header holds in base64, with its padding or without.
fn in_header(value: &[u8], pointer: &Pointer) -> Result<String, Unreadable> {
    let bare = value.strip_suffix(b"==").or_else(|| value.strip_suffix(b"=")).unwrap_or(value);
    let document = BASE64_NOPAD.decode(bare).map_err(|_| Unreadable)?;
    match json::pick(&document, &[pointer]).map_err(|_| Unreadable)?.into_iter().next().flatten() {
        Some(Scalar::Text(text)) => Ok(text.into_owned()),
        Some(_) | None => Err(Unreadable),
    }
}

pub fn header_name(name: &str) -> Result<HeaderName, String> {
    name.parse().map_err(|_| format!("\"{name}\" is no header name"))
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Header(name) => write!(f, "header:{name}"),
            Source::Field(name) => write!(f, "kv:{name}"),
            Source::Query(name) => write!(f, "query:{name}"),
            Source::Json(pointer) => write!(f, "json:{pointer}"),
            Source::Form(name) => write!(f, "form:{name}"),
            Source::Multipart(name) => write!(f, "multipart:{name}"),
            Source::Claim(pointer) => match pointer.tokens() {
                [name] => write!(f, "claim:{name}"),
                _ => write!(f, "claim:{pointer}"),
            },
            Source::Inner(outer, inner) => write!(f, "json:{outer}#{inner}"),
            Source::Each(list, inner) => {
                write!(f, "json:{list}/*")?;
                inner.iter().try_for_each(|token| write!(f, "/{token}"))
            }
            Source::HeaderJson(name, pointer) => write!(f, "header64:{name}#{pointer}"),
            Source::Token(name) => write!(f, "token:{name}"),
            Source::Body => f.write_str("body"),
        }
    }
}
