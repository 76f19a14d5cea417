//! The sender's side: the headers that a provider would send. For the demo, for tests,
//! and for people who test their own endpoint.

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::algorithm::KeyedMac;
use super::content::Segment;
use super::source::Source;
use super::{Recipe, SignatureFormat};
use crate::gate::delivery::{Client, Head};

/// What is to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Unsigned<'u> {
    pub id: &'u str,
    /// Milliseconds since the epoch.
    pub time_ms: i64,
    pub body: &'u [u8],
}

impl Recipe {
    /// Signs as the provider does. `None` if the id cannot stand in a header.
    pub fn sign(&self, key: &KeyedMac, unsigned: Unsigned<'_>) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        for source in self.signed_values() {
            if let Source::Header(name) = &source {
                headers.insert(name, HeaderValue::from_str(&self.value_of(&source, unsigned)).ok()?);
            }
        }
        // An id that is not signed is sent all the same.
        if let Some(Source::Header(name)) = self.id.first() {
            headers.insert(name, HeaderValue::from_str(unsigned.id).ok()?);
        }
        let name = self.signature.headers[0].clone();
        let fields = self.fields(unsigned);
        if !fields.is_empty() {
            headers.insert(&name, HeaderValue::from_str(&fields).ok()?);
        }
        let tag = self.tag(key, &headers, unsigned.body);
        let signature = match &self.signature.format {
            SignatureFormat::Plain { prefix, .. } => format!("{}{tag}", String::from_utf8_lossy(prefix)),
            SignatureFormat::Fields { keys, .. } if fields.is_empty() => format!("{}={tag}", keys[0]),
            SignatureFormat::Fields { split, keys } => {
                format!("{fields}{}{}={tag}", char::from(*split), keys[0])
            }
        };
        headers.insert(name, HeaderValue::from_str(&signature).ok()?);
        Some(headers)
    }

    fn tag(&self, key: &KeyedMac, headers: &HeaderMap, body: &[u8]) -> String {
        let head = Head {
            method: &Method::POST,
            path: b"/",
            headers,
            client: Client::Unknown,
            secure: true,
            content_length: None,
        };
        let mut mac = key.clone();
        self.content(&head, body, |bytes| mac.update(bytes));
        self.signature.encoding.encode(&mac.finish())
    }

    fn signed_values(&self) -> impl Iterator<Item = Source> {
        self.content.segments().iter().filter_map(Segment::source)
    }

    fn fields(&self, unsigned: Unsigned<'_>) -> String {
        let SignatureFormat::Fields { split, .. } = self.signature.format else { return String::new() };
        let fields: Vec<_> = self
            .signed_values()
            .filter_map(|source| match &source {
                Source::Field(name) => Some(format!("{name}={}", self.value_of(&source, unsigned))),
                Source::Header(_) | Source::Json(_) => None,
            })
            .collect();
        fields.join(&char::from(split).to_string())
    }

    fn value_of(&self, source: &Source, unsigned: Unsigned<'_>) -> String {
        match &self.timestamp {
            Some(rule) if rule.from.contains(source) => rule.unit.format(unsigned.time_ms),
            Some(_) | None => unsigned.id.to_owned(),
        }
    }
}

/// A signed header's name and value, as text.
pub fn lines(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &str)> {
    headers.iter().filter_map(|(name, value)| Some((name, value.to_str().ok()?)))
}
