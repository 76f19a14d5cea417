//! What is signed: a template, compiled once into segments, so that signing is a
//! walk over borrowed bytes. No string is built and the body need not be text.

use std::fmt;
use std::str::FromStr;

use http::HeaderName;

use super::source::{Source, header_name};
use super::transform::Transform;
use crate::gate::fetched::parameters::Parameters;

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
    /// The values of the headers that this field of the signature lists, joined by `.`.
    FieldHeaders(String),
    /// The headers that this parameter of the token lists, each as `name: value` and a line feed.
    TokenHeaders(String),
    /// The secret itself, for digests that have no key.
    Secret,
    /// The signed part of the token: everything before the last `.`.
    Token,
    /// The CRC-32 of the body (ISO 3309), in decimal: it proves nothing of it.
    BodyCrc32,
    /// The query before these parameters, which are its last ones, without percent-escapes.
    QueryBefore(Vec<String>),
    /// What the route says of itself; nothing is signed as long as it says nothing.
    Route(String),
}

impl Piece {
    /// Every byte of the body counts.
    fn holds_body(&self) -> bool {
        matches!(self, Piece::Body | Piece::FormSorted | Piece::Parameters)
    }

    /// Two forms or queries may be written in the same way: what parts their fields is left out, or
    /// can stand in a field as well.
    fn is_lossy(&self) -> bool {
        matches!(self, Piece::FormSorted | Piece::QuerySorted | Piece::Parameters | Piece::QueryBefore(_))
    }

    pub fn is_of_url(&self) -> bool {
        matches!(self, Piece::Url | Piece::UrlWithoutQuery | Piece::Path)
    }

    pub fn lists_headers(&self) -> bool {
        matches!(self, Piece::ListedHeaders(_) | Piece::FieldHeaders(_) | Piece::TokenHeaders(_))
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

    /// The content on a route: once for each value that it has for a name in it.
    pub fn on(&self, route: &Parameters) -> Vec<Content> {
        let name = |segment: &Segment| match segment {
            Segment::Piece(Piece::Route(name), None) => route.values(name),
            _ => None,
        };
        let Some((n, values)) = self.segments.iter().enumerate().find_map(|(n, s)| Some((n, name(s)?)))
        else {
            return vec![self.clone()];
        };
        let with = |value: String| {
            let mut segments = self.segments.clone();
            segments[n] = Segment::Literal(value.into_bytes());
            Content { segments }
        };
        values.into_iter().map(with).flat_map(|content| content.on(route)).collect()
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

    /// Whether nothing but fixed text stands behind the secret.
    pub fn ends_with_secret(&self) -> bool {
        let last = self.segments.iter().rfind(|segment| !matches!(segment, Segment::Literal(_)));
        matches!(last, Some(Segment::Piece(Piece::Secret, _)))
    }

    /// Whether each value but the first has a line feed before it and one behind it.
    pub fn has_a_value_a_line(&self) -> bool {
        let parted = |n: usize| {
            let (own_before, own_after): (&[u8], &[u8]) = match &self.segments[n] {
                Segment::Optional { before, after, .. } => (before, after),
                Segment::Literal(_) | Segment::Piece(..) => (b"", b""),
            };
            let line = |text: &[u8], other: Option<&Segment>, last: bool| {
                let text = match other {
                    _ if !text.is_empty() => text,
                    Some(Segment::Literal(text)) => text,
                    _ => return false,
                };
                (if last { text.last() } else { text.first() }) == Some(&b'\n')
            };
            line(own_before, n.checked_sub(1).and_then(|n| self.segments.get(n)), true)
                && line(own_after, self.segments.get(n + 1), false)
        };
        self.values().skip(1).all(|(n, _, _)| parted(n))
    }

    /// Whether two bodies, forms or queries may be one content, wherever its values end.
    pub fn is_lossy(&self) -> bool {
        self.pieces().any(Piece::is_lossy)
    }

    /// Whether a body that differs in one byte is another content.
    pub fn covers_body(&self) -> bool {
        self.pieces().any(Piece::holds_body)
    }

    /// Whether a body in other bytes is another content, also one that says the same in them, as a form
    /// in another spelling does.
    pub fn keeps_body(&self) -> bool {
        self.pieces().any(|piece| *piece == Piece::Body)
    }

    /// Whether a signature over this content vouches for the value of `source`.
    pub fn covers(&self, source: &Source) -> bool {
        let in_url = |piece: &Piece| {
            matches!(
                piece,
                Piece::Url
                    | Piece::Path
                    | Piece::QuerySorted
                    | Piece::QueryBefore(_)
                    | Piece::RawQuerySorted
                    | Piece::Parameters
            )
        };
        self.keeps(source)
            || match source {
                Source::Json(_) | Source::Multipart(_) | Source::Body => self.keeps_body(),
                Source::Inner(outer, _) => self.covers(&Source::Json(outer.clone())),
                Source::Form(_) => self.covers_body(),
                Source::Query(_) => self.pieces().any(in_url),
                Source::Claim(_) => self.pieces().any(|piece| *piece == Piece::Token),
                Source::Header(_) => self.pieces().any(Piece::lists_headers),
                Source::Each(..) | Source::Field(_) | Source::HeaderJson(..) | Source::Token(_) => false,
            }
    }

    /// Whether the value stands in it so that another value would be another content.
    pub fn keeps(&self, source: &Source) -> bool {
        self.segments.iter().any(|segment| match segment {
            Segment::Piece(Piece::Value(value), transform)
            | Segment::Optional { piece: Piece::Value(value), transform, .. } => {
                value == source && transform.is_none_or(Transform::keeps_all)
            }
            Segment::Literal(_) | Segment::Piece(..) | Segment::Optional { .. } => false,
        })
    }

    /// Whether the value can be a Unix time only.
    pub fn is_unix(&self, source: &Source) -> bool {
        let unix = |segment: &Segment| matches!(segment, Segment::Piece(Piece::Value(value), Some(Transform::Unix)) if value == source);
        self.segments.iter().any(unix)
    }

    /// A transform of the body under which two bodies are one content.
    pub fn lossy_body(&self) -> Option<Transform> {
        self.segments.iter().find_map(|segment| match segment {
            Segment::Piece(piece, Some(transform))
            | Segment::Optional { piece, transform: Some(transform), .. } => {
                (piece.holds_body() && !transform.keeps_all()).then_some(*transform)
            }
            Segment::Literal(_) | Segment::Piece(..) | Segment::Optional { .. } => None,
        })
    }

    /// The byte that parts the value of segment `n` from what stands between it and the
    /// [anchor](Self::anchor). A value that contains it could be split in another way, so that two
    /// deliveries would share one signature.
    pub fn separator(&self, n: usize) -> Option<u8> {
        let anchor = self.anchor()?;
        match self.segments.get(n)? {
            Segment::Literal(_) => None,
            _ if n == anchor => None,
            Segment::Optional { after, .. } if n < anchor && !after.is_empty() => after.first().copied(),
            Segment::Optional { before, .. } if n > anchor && !before.is_empty() => before.last().copied(),
            Segment::Piece(..) | Segment::Optional { .. } if n < anchor => {
                self.literal(n + 1)?.first().copied()
            }
            Segment::Piece(..) | Segment::Optional { .. } => self.literal(n.checked_sub(1)?)?.last().copied(),
        }
    }

    /// Where a reader of the content ends, who comes from both sides: the body, else the last piece.
    fn anchor(&self) -> Option<usize> {
        let piece = |n: &usize| self.piece(*n).is_some();
        let body = (0..self.segments.len()).find(|n| self.piece(*n).is_some_and(Piece::holds_body));
        body.or_else(|| (0..self.segments.len()).rfind(piece))
    }

    fn piece(&self, n: usize) -> Option<&Piece> {
        match self.segments.get(n)? {
            Segment::Literal(_) => None,
            Segment::Piece(piece, _) | Segment::Optional { piece, .. } => Some(piece),
        }
    }

    fn literal(&self, n: usize) -> Option<&[u8]> {
        match self.segments.get(n)? {
            Segment::Literal(text) => Some(text),
            Segment::Piece(..) | Segment::Optional { .. } => None,
        }
    }

    /// A piece between which and its neighbour bytes could move without a change of the content, if
    /// there is one. `shows_its_end` tells of values that no byte can be added to or taken from, such
    /// as times; `fixed_url` that the whole URL is known from the configuration.
    pub fn open_end(&self, shows_its_end: impl Fn(&Source) -> bool, fixed_url: bool) -> Option<&Piece> {
        let anchor = self.anchor()?;
        let shows = |piece: &Piece| matches!(piece, Piece::Value(source) if shows_its_end(source));
        let is_open = |n: &usize| {
            let (Some(piece), transform) = (self.piece(*n), self.transform(*n)) else { return false };
            let neighbour = if *n < anchor { self.piece(n + 1) } else { self.piece(n - 1) };
            let separator = self.separator(*n);
            let parted = match piece {
                _ if transform.is_some_and(Transform::shows_its_end) || shows(piece) => true,
                Piece::Secret | Piece::UrlWithoutQuery | Piece::TokenHeaders(_) | Piece::Route(_) => true,
                Piece::Url if fixed_url => true,
                // Letters, and then a slash or a colon.
                Piece::Method => separator.is_some() || neighbour.is_some_and(Piece::is_of_url),
                Piece::Value(_) | Piece::Token | Piece::BodyCrc32 => separator.is_some(),
                // Every visible character may stand in them.
                Piece::Url
                | Piece::Path
                | Piece::RawQuerySorted
                | Piece::ListedHeaders(_)
                | Piece::FieldHeaders(_) => separator.is_some_and(|byte| !byte.is_ascii_graphic()),
                Piece::Body
                | Piece::FormSorted
                | Piece::QuerySorted
                | Piece::QueryBefore(_)
                | Piece::Parameters => false,
            };
            // Nobody but the provider knows the secret, so nobody finds it in a value.
            let parted = parted || neighbour.is_some_and(|next| shows(next) || *next == Piece::Secret);
            !parted || !self.shows_absence(*n, anchor)
        };
        let open = (0..self.segments.len()).filter(|n| *n != anchor).find(is_open)?;
        self.piece(open)
    }

    /// Whether a segment that may be absent cannot be: or what stands in its place then, on the way to
    /// the anchor, begins with another byte. Else it could have moved into that.
    fn shows_absence(&self, n: usize, anchor: usize) -> bool {
        let first = |before: &[u8], after: &[u8]| {
            if n < anchor { before.first().copied() } else { after.last().copied() }
        };
        let Segment::Optional { before, after, .. } = &self.segments[n] else { return true };
        let Some(own) = first(before, after) else { return false };
        let forward = (n + 1..=anchor).map(|n| &self.segments[n]);
        let backward = (anchor..n).rev().map(|n| &self.segments[n]);
        for segment in forward.chain(backward) {
            match segment {
                Segment::Literal(text) => return first(text, text) != Some(own),
                Segment::Optional { before, after, .. } => match first(before, after) {
                    Some(other) if other != own => {}
                    _ => return false,
                },
                Segment::Piece(..) => return false,
            }
        }
        true
    }

    fn transform(&self, n: usize) -> Option<Transform> {
        match self.segments.get(n)? {
            Segment::Literal(_) => None,
            Segment::Piece(_, transform) | Segment::Optional { transform, .. } => *transform,
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
            "body_crc32" => Piece::BodyCrc32,
            _ => return Err(unknown(word)),
        },
        Some(("listed_headers", list)) => Piece::ListedHeaders(header_name(list)?),
        Some(("field_headers", field)) => Piece::FieldHeaders(field.to_owned()),
        Some(("token_headers", parameter)) => Piece::TokenHeaders(parameter.to_owned()),
        Some(("query_before", names)) => Piece::QueryBefore(names.split('&').map(str::to_owned).collect()),
        Some(("route" | "region" | "origin", _)) => Piece::Route(name.to_owned()),
        Some(("header" | "kv" | "query" | "json" | "form" | "multipart" | "claim", _)) => {
            Piece::Value(name.parse()?)
        }
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
            Piece::FieldHeaders(field) => return write!(f, "field_headers:{field}"),
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
            Piece::BodyCrc32 => "body_crc32",
            Piece::Route(name) => name,
            Piece::QueryBefore(names) => return write!(f, "query_before:{}", names.join("&")),
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
    fn bytes_move_where_nothing_parts_two_pieces() {
        let open = |template: &str| {
            let time = |source: &Source| source.to_string() == "header:x-time";
            content(template).open_end(time, false).map(ToString::to_string)
        };
        for parted in [
            "{body}",
            "{header:A}.{body}",
            "{body}.{header:A}",
            "{header:X-Time}{body}",
            "{body}{header:X-Time}",
            "{header:A}{header:X-Time}{body}",
            "{header:X-Time}{header:A}{secret}{body}",
            "{body|sha256hex}",
            "{body|json}{header:X-Time}",
            "{url}\n{body}",
            "{method}{path}\n{body}",
            "{method} {path}\n{token_headers:tl_headers}{body}",
            "{url_without_query}{header:A}",
            "{[id:]query:id[;]}{[request:]header:A[;]}ts:{kv:ts};",
        ] {
            assert_eq!(open(parted), None, "{parted}");
        }
        for (template, end) in [
            ("{header:A}{body}", "header:a"),
            ("{body}{header:A}", "header:a"),
            ("{header:A}{header:B}.{body}", "header:a"),
            ("{header:A}{header:B}", "header:a"),
            ("{header:A}{[.]header:B[]}{body}", "header:a"),
            ("{header:A}.{[]header:B[]}{body}", "header:b"),
            ("{header:A|lower}{body}", "header:a"),
            ("{url}{body}", "url"),
            ("{url}.{body}", "url"),
            ("{body}{url}", "url"),
            ("{path}|{body}", "path"),
            ("{method}{body}", "method"),
            ("{query_sorted}\n{form_sorted}", "query_sorted"),
        ] {
            assert_eq!(open(template).as_deref(), Some(end), "{template}");
        }
        assert_eq!(content("{url}{body}").open_end(|_| false, true), None, "the URL is known");
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
        assert!(!covers("{header:A|lower}.{body}", "header:a"), "in either case it is the same content");
        assert!(covers("{header:A|sha256hex}.{body}", "header:a"));
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
