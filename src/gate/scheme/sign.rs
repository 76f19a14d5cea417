//! The sender's side: what a provider would send for a body. For the demo, for tests,
//! and for people who test their own endpoint.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Map, Value};

use super::algorithm::{Algorithm, KeyedMac};
use super::content::{Content, Piece};
use super::key::KeyError;
use super::reading::Reading;
use super::source::Source;
use super::timestamp::TimeUnit;
use super::{Assign, Equality, FieldNames, Recipe, SignatureFormat, TokenPayload};
use crate::gate::delivery::Head;
use crate::gate::parse::jws;

/// What is to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Unsigned<'u> {
    pub id: &'u str,
    /// Milliseconds since the epoch.
    pub time_ms: i64,
    pub body: &'u [u8],
}

/// What a sender would send. Query and body differ from what was to be signed only where
/// the provider puts something of its own into them.
#[derive(Clone, Debug, Default)]
pub struct Signed {
    pub headers: HeaderMap,
    pub query: Option<String>,
    pub body: Vec<u8>,
}

impl Signed {
    fn head<'s>(&'s self, method: &'s Method, path: &'s [u8]) -> Head<'s> {
        Head::offline(method, (path, self.query.as_deref().map(str::as_bytes)), &self.headers)
    }

    /// Writes a value where a source says. `None` if it cannot stand there.
    fn set(&mut self, source: &Source, value: &str) -> Option<()> {
        match source {
            Source::Header(name) => {
                self.headers.insert(name, HeaderValue::from_str(value).ok()?);
            }
            Source::Query(name) => {
                let query = self.query.take().map(|query| query + "&").unwrap_or_default();
                self.query = Some(format!("{query}{}={}", escaped(name), escaped(value)));
            }
            Source::Form(name) => {
                if !self.body.is_empty() {
                    self.body.push(b'&');
                }
                self.body.extend_from_slice(format!("{}={}", escaped(name), escaped(value)).as_bytes());
            }
            Source::Multipart(name) => {
                let rest = self.body.strip_suffix(END.as_bytes()).unwrap_or_default();
                self.body = [rest, part(name, value.as_bytes()).as_slice(), END.as_bytes()].concat();
            }
            Source::Json(pointer) => {
                let mut document = serde_json::from_slice(&self.body).unwrap_or(Value::Object(Map::new()));
                *member(&mut document, pointer.tokens())? = value.into();
                self.body = document.to_string().into_bytes();
            }
            Source::Each(list, inner) => {
                let mut document = serde_json::from_slice(&self.body).unwrap_or(Value::Object(Map::new()));
                let list = member(&mut document, list.tokens())?;
                if list.as_array().is_none_or(Vec::is_empty) {
                    *list = Value::Array(vec![Value::Null]);
                }
                for element in list.as_array_mut()? {
                    *member(element, inner)? = value.into();
                }
                self.body = document.to_string().into_bytes();
            }
            // These are parts of the signature itself.
            Source::Field(_)
            | Source::Claim(_)
            | Source::Inner(..)
            | Source::HeaderJson(..)
            | Source::Token(_) => {}
            Source::Body => self.body = value.as_bytes().to_vec(),
        }
        Some(())
    }
}

/// What ends a multipart body of ours.
const END: &str = "--hookgate--\r\n";

/// A field of one (RFC 7578).
fn part(name: &str, value: &[u8]) -> Vec<u8> {
    let head = format!("--hookgate\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
    [head.as_bytes(), value, b"\r\n"].concat()
}

impl Recipe {
    /// What signs with this secret, as the sender would.
    pub fn signer(&self, secret: &[u8]) -> Result<KeyedMac, KeyError> {
        self.algorithm.keyed(&self.key.decode(secret)?).ok_or(KeyError::NothingToSignWith)
    }

    /// Signs as the provider does. `None` if the id cannot stand where the provider puts it, or if
    /// the provider alone can sign.
    pub fn sign(&self, key: &KeyedMac, unsigned: Unsigned<'_>) -> Option<Signed> {
        self.sign_with(std::slice::from_ref(key), unsigned)
    }

    /// The same with several keys, as far as a signature takes more than one; else with the first.
    pub fn sign_with(&self, keys: &[KeyedMac], unsigned: Unsigned<'_>) -> Option<Signed> {
        let mut signed = Signed {
            headers: HeaderMap::new(),
            query: self.url.as_ref().and_then(|url| url.query()).map(str::to_owned),
            body: unsigned.body.to_vec(),
        };
        if self.content.pieces().any(Piece::reads_form) {
            signed
                .headers
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        }
        if self.reads_multipart() {
            let multipart = HeaderValue::from_static("multipart/form-data; boundary=hookgate");
            signed.headers.insert(CONTENT_TYPE, multipart);
            if !signed.body.ends_with(END.as_bytes()) {
                let body = std::mem::take(&mut signed.body);
                signed.body = [part("body", &body).as_slice(), END.as_bytes()].concat();
            }
        }
        for source in self.placed_values(&signed) {
            signed.set(&source, &self.value_of(&source, unsigned))?;
        }
        self.list_headers(&mut signed)?;
        let place = self.signature.from.first()?;
        let fields = self.fields(unsigned, &signed.headers);
        if !fields.is_empty() {
            signed.set(place, &fields)?;
        }
        // What must hold besides is made to hold.
        for equality in &self.also {
            let value = self.written(equality, &signed)?;
            signed.set(&equality.source, &String::from_utf8_lossy(&value))?;
        }
        if let SignatureFormat::Token { prefix, payload } = &self.signature.format {
            let token = self.token_for(keys.first()?, *payload, &mut signed, unsigned)?;
            signed.set(place, &format!("{}{token}", String::from_utf8_lossy(prefix)))?;
            return Some(signed);
        }
        self.set_signature(keys, fields, &mut signed)?;
        Some(signed)
    }

    /// Signs what was signed before as its sender would sign it at another time: `sent` are the headers that
    /// this recipe reads, and of them only time and signature change. `None` if it was not
    /// [such](Self::can_be_renewed).
    pub fn renew(&self, key: &KeyedMac, sent: HeaderMap, time_ms: i64, body: &[u8]) -> Option<Signed> {
        let unsigned = Unsigned { id: "", time_ms, body };
        let mut signed = Signed { headers: sent, query: None, body: body.to_vec() };
        for source in self.timestamp.iter().flat_map(|rule| &rule.from) {
            if matches!(source, Source::Header(name) if signed.headers.contains_key(name)) {
                signed.set(source, &self.value_of(source, unsigned))?;
            }
        }
        let fields = self.fields(unsigned, &signed.headers);
        if !fields.is_empty() {
            signed.set(self.signature.from.first()?, &fields)?;
        }
        self.set_signature(std::slice::from_ref(key), fields, &mut signed)?;
        Some(signed)
    }

    /// Writes what the keys make of the content behind the fields that stand there already.
    fn set_signature(&self, keys: &[KeyedMac], fields: String, signed: &mut Signed) -> Option<()> {
        if let (Some(written), Some(key)) = (&self.signature.written, keys.first()) {
            let header = self.as_written(written, &fields, &self.tag(key, signed)?);
            return signed.set(self.signature.from.first()?, &header);
        }
        let mut elements = Vec::from_iter((!fields.is_empty()).then_some(fields));
        let tags = keys.iter().map(|key| self.tag(key, signed)).collect::<Option<Vec<_>>>()?;
        let mut tags = tags.into_iter();
        let split = match &self.signature.format {
            SignatureFormat::Plain { prefix, split } => {
                elements.extend(tags.map(|tag| format!("{}{tag}", String::from_utf8_lossy(prefix))));
                split.as_ref().and_then(|split| split.first())
            }
            SignatureFormat::Fields { split, assign: Assign::Before(byte), keys } => {
                let name = match keys {
                    FieldNames::These(names) => names.first()?.as_str(),
                    FieldNames::Any => "key",
                };
                elements.extend(tags.map(|tag| format!("{name}{}{tag}", char::from(*byte))));
                split.first()
            }
            SignatureFormat::Fields { split, assign: Assign::Place, .. } => {
                elements.extend(tags.next());
                split.first()
            }
            SignatureFormat::Token { .. } => return None,
        };
        let signature = match split {
            Some(split) => elements.join(&char::from(*split).to_string()),
            None => elements.into_iter().next()?,
        };
        signed.set(self.signature.from.first()?, &signature)
    }

    /// The fields and the tag in the order, and with what is between them, in which their sender writes them.
    fn as_written(&self, written: &str, fields: &str, tag: &str) -> String {
        let SignatureFormat::Fields { split, assign: Assign::Before(byte), .. } = &self.signature.format
        else {
            return tag.to_owned();
        };
        let parts = fields.split(|c: char| split.iter().any(|byte| char::from(*byte) == c));
        let named = parts.filter_map(|part| part.split_once(char::from(*byte)));
        let header = named
            .fold(written.to_owned(), |header, (name, value)| header.replace(&format!("{{{name}}}"), value));
        header.replace("{tag}", tag)
    }

    /// Whether all that it signs and writes is the body and headers: then anybody who has a key can sign
    /// an event in this way that came in another one. If not, what stands against it.
    pub fn can_be_signed_anew(&self) -> Result<(), &'static str> {
        let in_head =
            |source: &Source| matches!(source, Source::Header(_) | Source::Field(_) | Source::Claim(_));
        let equal = || self.also.iter().flat_map(|equality| &equality.contents);
        let pieces = || [&self.content].into_iter().chain(equal()).flat_map(Content::pieces);
        let known = |piece: &Piece| match piece {
            Piece::Body | Piece::Secret | Piece::Token => true,
            Piece::Value(source) => in_head(source),
            _ => false,
        };
        if self.algorithm.keyed(&[0; 32]).is_none() {
            return Err("only the provider can sign so: its key has a half that it keeps");
        }
        if !matches!(self.signature.from.first(), Some(Source::Header(_))) {
            return Err("its signature stands in the URL or in the body");
        }
        if self.payload.is_some() || !pieces().all(known) {
            return Err("it signs the URL, the method or parts of the body");
        }
        if !self.also.iter().map(|equality| &equality.source).chain(&self.when).all(in_head) {
            return Err("it needs something in the URL or in the body");
        }
        Ok(())
    }

    /// Whether an event that was signed so can be [signed again](Self::renew) with another time. If not,
    /// what stands against it.
    pub fn can_be_renewed(&self) -> Result<(), &'static str> {
        self.can_be_signed_anew()?;
        let times = self.timestamp.as_ref().map(|rule| rule.from.as_slice()).unwrap_or_default();
        let in_head = |source: &Source| matches!(source, Source::Header(_) | Source::Field(_));
        if !times.iter().any(in_head) || !times.iter().any(|time| self.content.covers(time)) {
            return Err(
                "it signs no time beside the body, so its signature does not age, or cannot be given another time",
            );
        }
        let kept = |(_, source, _): (usize, &Source, bool)| {
            matches!(source, Source::Header(_)) || times.contains(source)
        };
        let expires = self.timestamp.as_ref().is_some_and(|rule| rule.expires.is_some());
        if expires || !self.also.is_empty() || !self.content.values().all(kept) {
            return Err("it signs values beside time and body that nobody but the provider writes");
        }
        if self.content.pieces().any(|piece| *piece == Piece::Token) {
            return Err("its signature is a token of the provider's");
        }
        Ok(())
    }

    /// The values that the sender puts somewhere: those that are signed, and an id that is not.
    /// A body that has a value already keeps it.
    fn placed_values(&self, signed: &Signed) -> Vec<Source> {
        let (method, path) = (Method::POST, b"/");
        let head = signed.head(&method, path);
        let reading = Reading::new(self, &head, &signed.body);
        let is_open = |source: &Source| match source {
            Source::Header(_) | Source::Query(_) => true,
            Source::Json(_) | Source::Form(_) | Source::Multipart(_) => {
                matches!(reading.value(source), Ok(None))
            }
            Source::Field(_)
            | Source::Claim(_)
            | Source::Inner(..)
            | Source::Each(..)
            | Source::HeaderJson(..)
            | Source::Token(_)
            | Source::Body => false,
        };
        let times = self.timestamp.iter().filter_map(|rule| rule.from.first());
        let in_head = |source: &&Source| !source.is_in_body();
        let mut open = Vec::new();
        let values = self.content.values().filter(|(_, _, required)| *required).map(|(_, source, _)| source);
        let beside = self.id.first().into_iter().chain(times).filter(in_head);
        for source in values.chain(beside).chain(&self.when) {
            let made_equal = self.also.iter().any(|equality| equality.source == *source);
            if is_open(source) && !made_equal && !open.contains(source) {
                open.push(source.clone());
            }
        }
        open
    }

    fn list_headers(&self, signed: &mut Signed) -> Option<()> {
        for piece in self.content.pieces() {
            if let Piece::ListedHeaders(list) = piece {
                // Sorted: Contentful's SDK checks no other order.
                let mut names: Vec<_> = signed.headers.keys().chain([list]).map(HeaderName::as_str).collect();
                names.sort_unstable();
                let names = HeaderValue::from_str(&names.join(",")).ok()?;
                signed.headers.insert(list, names);
            }
        }
        Some(())
    }

    fn token_for(
        &self,
        key: &KeyedMac,
        payload: TokenPayload,
        signed: &mut Signed,
        unsigned: Unsigned<'_>,
    ) -> Option<String> {
        let header = serde_json::json!({ "alg": self.algorithm.of_token()?, "typ": "JWT" }).to_string();
        let mut claims = Map::new();
        for equality in &self.also {
            if let Source::Claim(name) = &equality.source {
                let value = self.written(equality, signed)?;
                *member_of(&mut claims, name.tokens())? = String::from_utf8(value).ok()?.into();
            }
        }
        if let Some(rule) = &self.timestamp {
            let lasts = i64::try_from(rule.tolerance.as_millis()).ok()?;
            let ends = rule.expires.iter().map(|source| (source, unsigned.time_ms + lasts));
            for (source, ms) in rule.from.iter().map(|source| (source, unsigned.time_ms)).chain(ends) {
                if let Source::Claim(name) = source {
                    let time: i64 = rule.unit.format(ms).parse().ok()?;
                    *member_of(&mut claims, name.tokens())? = time.into();
                }
            }
        }
        if let Some(Source::Claim(name)) = self.id.first() {
            *member_of(&mut claims, name.tokens())? = unsigned.id.into();
        }
        let claims = Value::Object(claims).to_string();
        let claims =
            if payload == TokenPayload::Inside { jws::encoded(claims.as_bytes()) } else { String::new() };
        let mut mac = key.clone();
        mac.update(format!("{}.{claims}", jws::encoded(header.as_bytes())).as_bytes());
        let tag = jws::encoded(mac.finish().as_bytes());
        Some(format!("{}.{claims}.{tag}", jws::encoded(header.as_bytes())))
    }

    fn tag(&self, key: &KeyedMac, signed: &Signed) -> Option<String> {
        if self.algorithm == Algorithm::Token {
            return Some(self.signature.encoding.encode(key.secret()));
        }
        let (method, path) = (Method::POST, b"/");
        let head = signed.head(&method, path);
        let mut mac = key.clone();
        let reading = Reading::new(self, &head, &signed.body);
        reading.signed(reading.variants().next()?, key.secret(), |bytes| mac.update(bytes)).ok()?;
        Some(self.signature.encoding.encode(mac.finish()))
    }

    /// What the source must be equal to.
    fn written(&self, equality: &Equality, signed: &Signed) -> Option<Vec<u8>> {
        let (method, path) = (Method::POST, b"/");
        let head = signed.head(&method, path);
        let mut written = Vec::new();
        let reading = Reading::new(self, &head, &signed.body);
        reading.template(equality.contents.first()?, |bytes| written.extend_from_slice(bytes)).ok()?;
        Some(written)
    }

    fn fields(&self, unsigned: Unsigned<'_>, headers: &HeaderMap) -> String {
        let SignatureFormat::Fields { split, assign, .. } = &self.signature.format else {
            return String::new();
        };
        let lists = |field: &str| {
            self.content.pieces().any(|piece| matches!(piece, Piece::FieldHeaders(list) if list == field))
        };
        let headers = headers.keys().map(HeaderName::as_str).collect::<Vec<_>>().join(" ");
        let fields: Vec<_> = self
            .content
            .values()
            .filter_map(|(_, source, _)| match (source, assign) {
                (Source::Field(name), Assign::Before(byte)) if lists(name) => {
                    Some(format!("{name}{}{headers}", char::from(*byte)))
                }
                (Source::Field(name), Assign::Before(byte)) => {
                    Some(format!("{name}{}{}", char::from(*byte), self.value_of(source, unsigned)))
                }
                (Source::Field(_), Assign::Place) => Some(self.value_of(source, unsigned)),
                _ => None,
            })
            .collect();
        fields.join(&split.first().map_or(String::new(), |byte| char::from(*byte).to_string()))
    }

    fn value_of(&self, source: &Source, unsigned: Unsigned<'_>) -> String {
        match &self.timestamp {
            Some(rule) if rule.from.contains(source) => rule.unit.format(unsigned.time_ms),
            Some(_) | None if self.content.is_unix(source) => TimeUnit::S.format(unsigned.time_ms),
            Some(_) | None => unsigned.id.to_owned(),
        }
    }
}

/// The member at a path, made where it is missing; `None` if something that is no object is in the way.
fn member<'d>(document: &'d mut Value, path: &[String]) -> Option<&'d mut Value> {
    path.iter().try_fold(document, |inner, token| match inner {
        Value::Array(elements) => {
            let n: usize = token.parse().ok()?;
            if n == elements.len() {
                elements.push(Value::Object(Map::new()));
            }
            elements.get_mut(n)
        }
        Value::Null => {
            *inner = Value::Object(Map::new());
            Some(inner.as_object_mut()?.entry(token).or_insert(Value::Null))
        }
        Value::Object(members) => Some(members.entry(token).or_insert(Value::Null)),
        _ => None,
    })
}

fn member_of<'m>(members: &'m mut Map<String, Value>, path: &[String]) -> Option<&'m mut Value> {
    let (first, rest) = path.split_first()?;
    member(members.entry(first).or_insert(Value::Null), rest)
}

/// Everything but letters, digits and `-._~` as percent-escapes (RFC 3986, section 2.3).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.extend(['%', hex_digit(byte >> 4), hex_digit(byte & 15)]),
        }
    }
    out
}

fn hex_digit(value: u8) -> char {
    char::from_digit(value.into(), 16).unwrap_or_default().to_ascii_uppercase()
}

/// A signed header's name and value, as text.
pub fn lines(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &str)> {
    headers.iter().filter_map(|(name, value)| Some((name, value.to_str().ok()?)))
}
