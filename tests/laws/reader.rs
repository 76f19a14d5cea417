//! Another reader of a delivery, which shares no code with the gate where it can: what was signed, value
//! by value, and an objection if something of that can be read in two ways or not at all.

use form_urlencoded::parse;
use hookgate::gate::parse::url::SignedQuery;
use hookgate::gate::parse::{jws, multipart};
use hookgate::gate::scheme::content::{Content, Piece, Segment};
use hookgate::gate::scheme::source::Source;
use hookgate::gate::scheme::{Assign, Payload, Recipe, SignatureFormat};
use serde_json::Value;

use super::pure::Delivery;

/// What a signature under the recipe vouches for, in each form in which it may have been signed.
#[derive(Debug, PartialEq, Eq)]
pub struct Said(Vec<Form>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Form {
    /// Each value by itself.
    values: Vec<Vec<u8>>,
    /// All of it in a row, for schemes that leave open where a value ends.
    row: Vec<u8>,
}

impl Said {
    pub fn has_values_of(&self, other: &Said) -> bool {
        self.0.iter().any(|form| other.0.iter().any(|known| form.values == known.values))
    }

    pub fn has_row_of(&self, other: &Said) -> bool {
        self.0.iter().any(|form| other.0.iter().any(|known| form.row == known.row))
    }
}

/// More fields than this are no form.
const FIELDS: usize = 1024;

pub fn read(recipe: &Recipe, delivery: &Delivery) -> Result<Said, String> {
    let reader = Reader { recipe, delivery };
    let forms = recipe.contents().map(|content| {
        let mut form = Form::default();
        if matches!(recipe.signature.format, SignatureFormat::Token { .. }) {
            let token = reader.token()?;
            form.values.push(token[..token.rfind('.').unwrap_or(0)].into());
        }
        reader.add(content, &mut form)?;
        // What a signed value is equal to is signed as well.
        for equality in recipe.also.iter().filter(|equality| recipe.covers(&equality.source)) {
            reader.add(&equality.contents[0], &mut form)?;
        }
        Ok(form)
    });
    Ok(Said(forms.collect::<Result<_, String>>()?))
}

struct Reader<'r> {
    recipe: &'r Recipe,
    delivery: &'r Delivery,
}

impl Reader<'_> {
    fn add(&self, content: &Content, said: &mut Form) -> Result<(), String> {
        for segment in content.segments() {
            match segment {
                Segment::Literal(text) => said.row.extend(text),
                Segment::Piece(piece, transform) => {
                    let value = self.piece(piece)?;
                    let value = match transform {
                        // In either way of writing it is one value.
                        Some(transform) if !transform.keeps_all() => {
                            transform.apply(&value).unwrap().into_owned()
                        }
                        _ => value,
                    };
                    said.row.extend(&value);
                    said.values.push(value);
                }
                Segment::Optional { before, piece, transform, after } => {
                    let value = self.piece(piece)?;
                    let value = match transform {
                        Some(transform) if !transform.keeps_all() => {
                            transform.apply(&value).unwrap().into_owned()
                        }
                        _ => value,
                    };
                    if !value.is_empty() {
                        said.row.extend([before, &value, after].into_iter().flatten());
                    }
                    said.values.push(value);
                }
            }
        }
        Ok(())
    }

    fn piece(&self, piece: &Piece) -> Result<Vec<u8>, String> {
        let Delivery { method, query, body, .. } = self.delivery;
        let as_received = self.recipe.url_rule.query == SignedQuery::AsReceived;
        let received = query.as_ref().filter(|_| as_received).map(|query| format!("?{query}"));
        Ok(match piece {
            Piece::Body => body.clone(),
            Piece::Value(source) => self.value(source)?,
            Piece::Method => method.as_str().into(),
            // The rest of the URL is known to the gate.
            Piece::Url | Piece::Path => received.unwrap_or_default().into_bytes(),
            Piece::UrlWithoutQuery | Piece::Secret | Piece::Token | Piece::Route(_) => Vec::new(),
            Piece::BodyCrc32 => crc32fast::hash(body).to_string().into_bytes(),
            Piece::QueryBefore(_) => {
                let pairs = fields(query.as_deref().unwrap_or_default().as_bytes())?;
                pairs.iter().map(|pair| pair.join(&b'=')).collect::<Vec<_>>().join(&b'&')
            }
            Piece::FormSorted => {
                let mut pairs = self.form()?;
                pairs.sort();
                pairs.dedup();
                pairs.concat().concat()
            }
            Piece::QuerySorted => {
                let mut pairs = fields(query.as_deref().unwrap_or_default().as_bytes())?;
                pairs.sort();
                pairs.iter().map(|pair| pair.join(&b'=')).collect::<Vec<_>>().join(&b'&')
            }
            Piece::RawQuerySorted => {
                let mut pairs: Vec<_> = query.as_deref().unwrap_or_default().split('&').collect();
                pairs.sort_by_key(|pair| pair.split('=').next());
                pairs.join("&").into()
            }
            Piece::Parameters => {
                let mut pairs = fields(query.as_deref().unwrap_or_default().as_bytes())?;
                pairs.extend(self.form()?);
                pairs.retain(|[name, _]| name != b"sig");
                pairs.sort();
                let written = pairs.iter().map(|[name, value]| {
                    let plain = value.iter().map(|b| if matches!(b, b'&' | b'=') { b'_' } else { *b });
                    [b"&", &name[..], b"=", &plain.collect::<Vec<_>>()].concat()
                });
                written.collect::<Vec<_>>().concat()
            }
            Piece::ListedHeaders(list) => {
                let list = String::from_utf8(self.header(list.as_str())?.unwrap_or_default())
                    .map_err(|_| "no text")?;
                let mut names: Vec<_> =
                    list.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
                names.sort();
                names.dedup();
                let mut lines = Vec::new();
                for name in names.iter().filter(|name| !name.is_empty()) {
                    if let Some(value) = self.header(name)? {
                        lines.push([name.as_bytes(), b":", &value].concat());
                    }
                }
                lines.join(&b';')
            }
            Piece::FieldHeaders(field) => {
                let list = String::from_utf8(self.field(field)?).map_err(|_| "no text")?;
                let names = list.split(' ').map(str::trim).filter(|name| !name.is_empty());
                let values =
                    names.map(|name| Ok(self.header(name)?.ok_or("a listed header is not there")?));
                values.collect::<Result<Vec<_>, String>>()?.join(&b'.')
            }
            Piece::TokenHeaders(parameter) => {
                let token = self.token()?;
                let header =
                    jws::decoded(token.split('.').next().unwrap().as_bytes()).map_err(|_| "no base64")?;
                let header: Value = serde_json::from_slice(&header).map_err(|_| "no JSON")?;
                let mut lines = Vec::new();
                for name in header[parameter].as_str().unwrap_or_default().split(',').map(str::trim) {
                    if !name.is_empty() {
                        lines.push(self.header(name)?.ok_or("a listed header is not there")?);
                    }
                }
                lines.join(&b'\n')
            }
        })
    }

    /// Nothing if it is absent.
    fn value(&self, source: &Source) -> Result<Vec<u8>, String> {
        match source {
            Source::Header(name) | Source::HeaderJson(name, _) => {
                Ok(self.header(name.as_str())?.unwrap_or_default())
            }
            Source::Query(name) => sole(self.delivery.query.as_deref().unwrap_or_default().as_bytes(), name),
            Source::Form(name) => sole(self.form_text()?, name),
            Source::Multipart(name) => self.multipart(name),
            Source::Json(pointer) | Source::Inner(pointer, _) => self.json(&pointer.to_string()),
            Source::Field(name) => self.field(name),
            Source::Body => Ok(self.delivery.body.clone()),
            Source::Claim(_) | Source::Each(..) | Source::Token(_) => Ok(Vec::new()),
        }
    }

    fn header(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let mut all = self.delivery.headers.get_all(name).iter();
        let first = all.next().map(|value| value.as_bytes().to_vec());
        if all.next().is_some() { Err(format!("{name} is there twice")) } else { Ok(first) }
    }

    fn signature_header(&self) -> Result<String, String> {
        for name in self.recipe.signature_headers() {
            if let Some(value) = self.header(name.as_str())? {
                return Ok(String::from_utf8_lossy(&value).into_owned());
            }
        }
        Ok(String::new())
    }

    fn token(&self) -> Result<String, String> {
        let value = self.signature_header()?;
        Ok(value.rsplit(' ').next().unwrap_or_default().to_owned())
    }

    fn field(&self, name: &str) -> Result<Vec<u8>, String> {
        let SignatureFormat::Fields { split, assign, .. } = &self.recipe.signature.format else {
            return Ok(Vec::new());
        };
        let header = self.signature_header()?;
        let fields: Vec<_> = header.split(|c| split.iter().any(|b| char::from(*b) == c)).collect();
        let mut found: Vec<&str> = match assign {
            Assign::Place => fields.into_iter().skip(name.parse().unwrap()).take(1).collect(),
            Assign::Before(byte) => {
                let pairs = fields.iter().filter_map(|field| field.split_once(char::from(*byte)));
                pairs.filter(|(key, _)| key.trim() == name).map(|(_, value)| value).collect()
            }
        };
        if split.len() > 1 {
            found.dedup(); // whole sets stand side by side
        }
        match found[..] {
            [] => Ok(Vec::new()),
            [value] => Ok(value.trim_start().into()),
            _ => Err(format!("{name} is there twice")),
        }
    }

    fn content_type(&self) -> Result<String, String> {
        let value = self.header("content-type")?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&value).to_ascii_lowercase())
    }

    fn form(&self) -> Result<Vec<[Vec<u8>; 2]>, String> {
        fields(self.form_text()?)
    }

    /// Empty if it is no form.
    fn form_text(&self) -> Result<&[u8], String> {
        let kind = self.content_type()?;
        Ok(if is_form(&kind) { &self.delivery.body } else { &[] })
    }

    fn multipart(&self, name: &str) -> Result<Vec<u8>, String> {
        let kind = self.header("content-type")?.unwrap_or_default();
        if !is_multipart(&kind) {
            return Ok(Vec::new());
        }
        let field = multipart::field(&kind, &self.delivery.body, name).map_err(|_| "no multipart")?;
        Ok(field.unwrap_or_default().to_vec())
    }

    fn json(&self, pointer: &str) -> Result<Vec<u8>, String> {
        let body = &self.delivery.body[..];
        let kind = if self.recipe.payload.is_some() { self.content_type()? } else { String::new() };
        let text = match &self.recipe.payload {
            Some(Payload::Form(name)) if is_form(&kind) => sole(self.form_text()?, name)?,
            Some(Payload::Multipart(name)) if is_multipart(kind.as_bytes()) => self.multipart(name)?,
            _ => body.to_vec(),
        };
        let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&text);
        if !matches!(text.trim_ascii_start().first(), Some(b'{' | b'[')) {
            return Ok(Vec::new());
        }
        let tree: Value = serde_json::from_str(&String::from_utf8_lossy(text)).map_err(|e| e.to_string())?;
        match tree.pointer(pointer) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Bool(b)) => Ok(b.to_string().into_bytes()),
            Some(Value::String(text)) => Ok(text.clone().into_bytes()),
            Some(Value::Number(n)) if n.is_i64() || n.is_u64() => Ok(n.to_string().into_bytes()),
            Some(other) => Err(format!("{pointer} is {other}")),
        }
    }
}

/// Decoded.
fn fields(text: &[u8]) -> Result<Vec<[Vec<u8>; 2]>, String> {
    let decoded = raw_fields(text)?.into_iter().map(|[name, value]| Ok([decode(name)?, decode(value)?]));
    decoded.collect()
}

/// The value of a name; nothing if it does not come. Other values are not asked for.
fn sole(text: &[u8], name: &str) -> Result<Vec<u8>, String> {
    let mut found = Vec::new();
    for [key, value] in raw_fields(text)? {
        if decode(key)? == name.as_bytes() {
            found.push(decode(value)?);
        }
    }
    if found.len() > 1 { Err(format!("{name} is there twice")) } else { Ok(found.pop().unwrap_or_default()) }
}

fn raw_fields(text: &[u8]) -> Result<Vec<[&[u8]; 2]>, String> {
    let fields = text.split(|b| *b == b'&').filter(|field| !field.is_empty());
    let pairs: Vec<_> = fields
        .map(|field| {
            let mut parts = field.splitn(2, |b| *b == b'=');
            [parts.next().unwrap_or_default(), parts.next().unwrap_or_default()]
        })
        .collect();
    if pairs.len() > FIELDS { Err("too many fields".to_owned()) } else { Ok(pairs) }
}

fn decode(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut escapes = text.split(|b| *b == b'%').skip(1);
    let odd = |escape: &[u8]| !escape.get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    if escapes.any(odd) {
        return Err("an escape that is none".to_owned());
    }
    // Parted by hand, so that nothing in it parts fields or names.
    let text: Vec<u8> = [b"x=", text].concat();
    Ok(parse(&text).next().map(|(_, value)| value.as_bytes().to_vec()).unwrap_or_default())
}

/// The names of media types are read in any case (RFC 9110, section 8.3.1).
fn is_form(kind: &str) -> bool {
    kind.split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn is_multipart(kind: &[u8]) -> bool {
    kind.get(..10).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/"))
}
