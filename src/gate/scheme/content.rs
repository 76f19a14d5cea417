//! What is signed: a template, compiled once into segments, so that signing is a
//! walk over borrowed bytes. No string is built and the body need not be text.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use http::HeaderName;

use super::source::{Source, header_name};

/// A compiled template such as `{header:webhook-id}.{header:webhook-timestamp}.{body}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    Literal(Vec<u8>),
    Body,
    Header(HeaderName),
    /// A `name=value` field of the signature header.
    Field(String),
}

impl Content {
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether a signature over this content vouches for the value of `source`.
    pub fn covers(&self, source: &Source) -> bool {
        self.segments.iter().any(|segment| match (segment, source) {
            (Segment::Header(a), Source::Header(b)) => a == b,
            (Segment::Field(a), Source::Field(b)) => a == b,
            (Segment::Body, Source::Json(_)) => true,
            _ => false,
        })
    }

    /// The byte that parts the value of segment `n` from what stands between it and the body.
    /// A value that contains it could be split in another way, so that two deliveries would
    /// share one signature.
    pub fn separator(&self, n: usize) -> Option<u8> {
        let body = self.segments.iter().position(|segment| *segment == Segment::Body)?;
        match n.cmp(&body) {
            Ordering::Less => self.literal(n + 1)?.first().copied(),
            Ordering::Equal => None,
            Ordering::Greater => self.literal(n - 1)?.last().copied(),
        }
    }

    fn literal(&self, n: usize) -> Option<&[u8]> {
        match self.segments.get(n)? {
            Segment::Literal(text) => Some(text),
            Segment::Body | Segment::Header(_) | Segment::Field(_) => None,
        }
    }
}

impl FromStr for Content {
    type Err = String;

    fn from_str(template: &str) -> Result<Self, String> {
        let mut segments = Vec::new();
        let mut rest = template;
        while !rest.is_empty() {
            let Some(open) = rest.find('{') else {
                segments.push(Segment::Literal(rest.as_bytes().to_vec()));
                break;
            };
            if open > 0 {
                segments.push(Segment::Literal(rest.as_bytes()[..open].to_vec()));
            }
            let Some(close) = rest[open..].find('}').map(|n| open + n) else {
                return Err(format!("\"{template}\" opens a '{{' that it does not close"));
            };
            segments.push(placeholder(&rest[open + 1..close])?);
            rest = &rest[close + 1..];
        }
        if !segments.contains(&Segment::Body) {
            return Err(format!("\"{template}\" does not sign the body: put {{body}} into it"));
        }
        Ok(Content { segments })
    }
}

fn placeholder(name: &str) -> Result<Segment, String> {
    match name.split_once(':') {
        None if name == "body" => Ok(Segment::Body),
        Some(("header", name)) => header_name(name).map(Segment::Header),
        Some(("kv", name)) if !name.is_empty() => Ok(Segment::Field(name.to_owned())),
        _ => Err(format!("{{{name}}} is unknown: use {{body}}, {{header:Name}} or {{kv:field}}")),
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Literal(text) => f.write_str(&String::from_utf8_lossy(text)),
            Segment::Body => f.write_str("{body}"),
            Segment::Header(name) => write!(f, "{{header:{name}}}"),
            Segment::Field(name) => write!(f, "{{kv:{name}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_compile_to_segments() {
        let content: Content = "v0:{header:X-Time}:{body}".parse().unwrap();
        assert_eq!(content.segments().len(), 4);
        assert_eq!(content.to_string(), "v0:{header:x-time}:{body}");
        assert!(content.covers(&"header:x-time".parse().unwrap()));
        assert!(content.covers(&"json:/id".parse().unwrap()));
        assert!(!content.covers(&"header:x-delivery".parse().unwrap()));
    }

    #[test]
    fn a_value_ends_where_the_way_to_the_body_begins() {
        let separator = |template: &str, n| template.parse::<Content>().unwrap().separator(n);
        assert_eq!(separator("v0:{header:X-Time}.|{body}", 1), Some(b'.'));
        assert_eq!(separator("{body}|.{header:X-Time}:v0", 2), Some(b'.'));
        assert_eq!(separator("{body}{header:X-Time}", 1), None, "nothing parts them");
    }

    #[test]
    fn a_template_that_proves_nothing_is_refused() {
        for (bad, says) in [
            ("{header:X-Time}", "does not sign the body"),
            ("", "does not sign the body"),
            ("{body", "does not close"),
            ("{bdoy}", "{bdoy} is unknown"),
            ("{header:X Time}{body}", "no header name"),
        ] {
            let error = bad.parse::<Content>().unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }
}
