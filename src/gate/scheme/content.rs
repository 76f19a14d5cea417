//! What is signed: a template, compiled once into segments, so that signing is a
//! walk over borrowed bytes. No string is built and the body need not be text.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use http::HeaderName;

use super::source::{Source, header_name};
use super::transform::Transform;

/// A compiled template such as `{header:webhook-id}.{header:webhook-timestamp}.{body}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    Literal(Vec<u8>),
    Piece(Piece, Option<Transform>),
    /// `{[before]piece[after]}`: nothing at all where there is nothing.
    Optional {
        before: Vec<u8>,
        piece: Piece,
        transform: Option<Transform>,
        after: Vec<u8>,
    },
}

/// What a placeholder stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The bytes as they came.
    Body,
    Value(Source),
    Method,
    /// The URL that the provider was given, with the query.
    Url,
    UrlWithoutQuery,
    /// Path and query of that URL.
    Path,
    /// The fields of a form, sorted by name and glued together: each name and value once, no separators.
    FormSorted,
    /// The parameters of the query as `name=value`, sorted and joined by `&`.
    QuerySorted,
    /// The same, but escaped as they came.
    RawQuerySorted,
    /// The parameters of query and form but `sig`, sorted, each as `&name=value`, with `_` for `&` and `=` within.
    Parameters,
    /// The headers that this header lists, sorted, as `name:value`, joined by `;`.
    ListedHeaders(HeaderName),
    /// The headers that this parameter of the token lists, each as `name: value` and a line feed.
    TokenHeaders(String),
    /// The secret itself, for digests that have no key.
    Secret,
    /// The signed part of the token: everything before the last `.`.
    Token,
}

impl Piece {
    /// Every byte of the body counts.
    fn holds_body(&self) -> bool {
        matches!(self, Piece::Body | Piece::FormSorted | Piece::Parameters)
    }

    pub fn is_of_url(&self) -> bool {
        matches!(self, Piece::Url | Piece::UrlWithoutQuery | Piece::Path)
    }

    pub fn lists_headers(&self) -> bool {
        matches!(self, Piece::ListedHeaders(_) | Piece::TokenHeaders(_))
    }

    pub fn reads_form(&self) -> bool {
        matches!(self, Piece::FormSorted | Piece::Parameters | Piece::Value(Source::Form(_)))
    }
}

impl Content {
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    pub fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.segments.iter().filter_map(|segment| match segment {
            // A value that may be absent is covered as a value; it is no piece of its own.
            Segment::Optional { piece: Piece::Value(_), .. } | Segment::Literal(_) => None,
            Segment::Piece(piece, _) | Segment::Optional { piece, .. } => Some(piece),
        })
    }

    /// The values that stand in it, each with its segment's number and whether it must be there.
    pub fn values(&self) -> impl Iterator<Item = (usize, &Source, bool)> {
        self.segments.iter().enumerate().filter_map(|(n, segment)| match segment {
            Segment::Piece(Piece::Value(source), _) => Some((n, source, true)),
            Segment::Optional { piece: Piece::Value(source), .. } => Some((n, source, false)),
            Segment::Literal(_) | Segment::Piece(..) | Segment::Optional { .. } => None,
        })
    }

    /// Whether a body that differs in one byte is another content.
    pub fn covers_body(&self) -> bool {
        self.pieces().any(Piece::holds_body)
    }

    /// Whether a signature over this content vouches for the value of `source`.
    pub fn covers(&self, source: &Source) -> bool {
        let in_url = |piece: &Piece| {
            matches!(
                piece,
                Piece::Url | Piece::Path | Piece::QuerySorted | Piece::RawQuerySorted | Piece::Parameters
            )
        };
        self.values().any(|(_, value, _)| value == source)
            || match source {
                Source::Json(_) => self.pieces().any(|piece| *piece == Piece::Body),
                Source::Form(_) => self.covers_body(),
                Source::Query(_) => self.pieces().any(in_url),
                Source::Claim(_) => self.pieces().any(|piece| *piece == Piece::Token),
                Source::Header(_) => self.pieces().any(Piece::lists_headers),
                Source::Field(_) => false,
            }
    }

    /// The byte that parts the value of segment `n` from what stands between it and the body.
    /// A value that contains it could be split in another way, so that two deliveries would
    /// share one signature.
    pub fn separator(&self, n: usize) -> Option<u8> {
        let is_body = |segment: &Segment| matches!(segment, Segment::Piece(piece, _) | Segment::Optional { piece, .. } if piece.holds_body());
        let body = self.segments.iter().position(is_body)?;
        match n.cmp(&body) {
            Ordering::Less => self.literal(n + 1)?.first().copied(),
            Ordering::Equal => None,
            Ordering::Greater => self.literal(n - 1)?.last().copied(),
        }
    }

    fn literal(&self, n: usize) -> Option<&[u8]> {
        match self.segments.get(n)? {
            Segment::Literal(text) => Some(text),
            Segment::Piece(..) | Segment::Optional { .. } => None,
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
            // A brace that opens no word, as in JSON, is text like any other.
            let opens_word =
                rest[open + 1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '[' || c == '}');
            let close = rest[open..].find('}').map(|n| open + n);
            if !opens_word && close.is_some() {
                push_text(&mut segments, &rest[..=open]);
                rest = &rest[open + 1..];
                continue;
            }
            push_text(&mut segments, &rest[..open]);
            let Some(close) = close.filter(|close| !rest[open + 1..*close].contains('{')) else {
                return Err(format!("\"{template}\" opens a '{{' that it does not close"));
            };
            segments.push(placeholder(&rest[open + 1..close])?);
            rest = &rest[close + 1..];
        }
        Ok(Content { segments })
    }
}

fn push_text(segments: &mut Vec<Segment>, text: &str) {
    match segments.last_mut() {
        _ if text.is_empty() => {}
        Some(Segment::Literal(before)) => before.extend_from_slice(text.as_bytes()),
        _ => segments.push(Segment::Literal(text.as_bytes().to_vec())),
    }
}

fn placeholder(word: &str) -> Result<Segment, String> {
    if let Some(rest) = word.strip_prefix('[') {
        return optional(rest).ok_or_else(|| {
            format!("{{{word}}} is no optional value: write {{[before]query:name[after]}}")
        })?;
    }
    let (name, transform) = transformed(word)?;
    Ok(Segment::Piece(piece(name, word)?, transform))
}

fn piece(name: &str, word: &str) -> Result<Piece, String> {
    Ok(match name.split_once(':') {
        None => match name {
            "body" => Piece::Body,
            "method" => Piece::Method,
            "url" => Piece::Url,
            "url_without_query" => Piece::UrlWithoutQuery,
            "path" => Piece::Path,
            "form_sorted" => Piece::FormSorted,
            "query_sorted" => Piece::QuerySorted,
            "raw_query_sorted" => Piece::RawQuerySorted,
            "parameters" => Piece::Parameters,
            "secret" => Piece::Secret,
            "token" => Piece::Token,
            _ => return Err(unknown(word)),
        },
        Some(("listed_headers", list)) => Piece::ListedHeaders(header_name(list)?),
        Some(("token_headers", parameter)) => Piece::TokenHeaders(parameter.to_owned()),
        Some(("header" | "kv" | "query" | "json" | "form" | "claim", _)) => Piece::Value(name.parse()?),
        Some(_) => return Err(unknown(word)),
    })
}

fn unknown(word: &str) -> String {
    format!(
        "{{{word}}} is unknown: use {{body}}, {{method}}, {{url}}, {{path}}, {{secret}}, or a value such as {{header:Name}}, {{kv:field}}, {{query:name}} or {{json:/pointer}}"
    )
}

fn optional(rest: &str) -> Option<Result<Segment, String>> {
    let (before, rest) = rest.split_once(']')?;
    let (word, after) = rest.strip_suffix(']')?.split_once('[')?;
    let parsed = transformed(word).and_then(|(name, transform)| Ok((piece(name, word)?, transform)));
    Some(parsed.map(|(piece, transform)| Segment::Optional {
        before: before.as_bytes().to_vec(),
        piece,
        transform,
        after: after.as_bytes().to_vec(),
    }))
}

fn transformed(word: &str) -> Result<(&str, Option<Transform>), String> {
    match word.split_once('|') {
        None => Ok((word, None)),
        Some((name, transform)) => Ok((name, Some(transform.parse()?))),
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Literal(text) => f.write_str(&String::from_utf8_lossy(text)),
            Segment::Piece(piece, None) => write!(f, "{{{piece}}}"),
            Segment::Piece(piece, Some(transform)) => write!(f, "{{{piece}|{transform}}}"),
            Segment::Optional { before, piece, transform, after } => {
                let transform = transform.map(|transform| format!("|{transform}")).unwrap_or_default();
                let (before, after) = (String::from_utf8_lossy(before), String::from_utf8_lossy(after));
                write!(f, "{{[{before}]{piece}{transform}[{after}]}}")
            }
        })
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Piece::Value(source) => return source.fmt(f),
            Piece::ListedHeaders(list) => return write!(f, "listed_headers:{list}"),
            Piece::TokenHeaders(parameter) => return write!(f, "token_headers:{parameter}"),
            Piece::Body => "body",
            Piece::Method => "method",
            Piece::Url => "url",
            Piece::UrlWithoutQuery => "url_without_query",
            Piece::Path => "path",
            Piece::FormSorted => "form_sorted",
            Piece::QuerySorted => "query_sorted",
            Piece::RawQuerySorted => "raw_query_sorted",
            Piece::Parameters => "parameters",
            Piece::Secret => "secret",
            Piece::Token => "token",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(template: &str) -> Content {
        template.parse().unwrap()
    }

    #[test]
    fn templates_compile_to_segments() {
        let signed = content("v0:{header:X-Time}:{body}");
        assert_eq!(signed.segments().len(), 4);
        assert_eq!(signed.to_string(), "v0:{header:x-time}:{body}");
        assert!(signed.covers(&"header:x-time".parse().unwrap()));
        assert!(signed.covers(&"json:/id".parse().unwrap()));
        assert!(!signed.covers(&"header:x-delivery".parse().unwrap()));
        for template in [
            "{\"Body\":{body|json},\"TimeStamp\":{kv:t}}",
            "{[id:]query:data.id|lower[;]}ts:{kv:ts};",
            "{[?]raw_query_sorted[.]}{[]body|sha256hex[]}",
            "{method}\n{path}\n{listed_headers:x-signed}\n{body}",
            "{url_without_query}?{query_sorted}.{form_sorted}{parameters}{secret}{token}",
        ] {
            assert_eq!(content(template).to_string(), template);
        }
    }

    #[test]
    fn a_value_ends_where_the_way_to_the_body_begins() {
        let separator = |template: &str, n| content(template).separator(n);
        assert_eq!(separator("v0:{header:X-Time}.|{body}", 1), Some(b'.'));
        assert_eq!(separator("{body}|.{header:X-Time}:v0", 2), Some(b'.'));
        assert_eq!(separator("{body}{header:X-Time}", 1), None, "nothing parts them");
    }

    #[test]
    fn what_is_signed_is_what_stands_in_the_template() {
        let covers = |template: &str, source: &str| content(template).covers(&source.parse().unwrap());
        assert!(covers("{url}{form_sorted}", "query:a"));
        assert!(covers("{url}{form_sorted}", "form:a"));
        assert!(!covers("{url}{form_sorted}", "json:/a"));
        assert!(!covers("{url_without_query}{body}", "query:a"));
        assert!(covers("{json:/a}{json:/b}", "json:/a"));
        assert!(!covers("{json:/a}{json:/b}", "json:/c"));
        assert!(covers("{token}", "claim:jti") && !covers("{token}", "json:/id"));
        assert!(content("{[]body|sha256hex[]}").covers_body() && !content("{[]header:a[]}").covers_body());
        assert!(content("{form_sorted}").covers_body() && !content("{form:a}").covers_body());
    }

    #[test]
    fn a_template_that_means_nothing_is_refused() {
        for (bad, says) in [
            ("{body", "does not close"),
            ("{kv:t.{body}.{body}", "does not close"),
            ("{bdoy}", "{bdoy} is unknown"),
            ("{}", "{} is unknown"),
            ("{header:X Time}{body}", "no header name"),
            ("{body|sha257}", "no transform"),
            ("{[id:]query:id}", "no optional value"),
        ] {
            let error = bad.parse::<Content>().unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }
}
