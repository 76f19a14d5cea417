//! Where a value comes from: a header, a field of the signature header, or the body.

use std::fmt;
use std::str::FromStr;

use http::HeaderName;

use super::json::Pointer;

/// Written as `header:X-Name`, `kv:name` or `json:/pointer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Header(HeaderName),
    /// A `name=value` field of the signature header.
    Field(String),
    Json(Pointer),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "header" => header_name(rest).map(Source::Header),
            "kv" if !rest.is_empty() => Ok(Source::Field(rest.to_owned())),
            "json" => rest.parse().map(Source::Json),
            _ => Err(format!("\"{text}\" names no source: write header:Name, kv:field or json:/pointer")),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Header(name) => write!(f, "header:{name}"),
            Source::Field(name) => write!(f, "kv:{name}"),
            Source::Json(pointer) => write!(f, "json:{pointer}"),
        }
    }
}

pub fn header_name(text: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| format!("\"{text}\" is no header name: letters, digits and hyphens, no spaces"))
}
