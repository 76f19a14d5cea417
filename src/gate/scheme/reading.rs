//! One delivery, read under one recipe: its values, and the content that must have been signed.
//! Whatever is asked for and cannot be read is an error, never an empty value.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;

use http::HeaderName;
use http::header::CONTENT_TYPE;
use serde_json::Value;
use subtle::ConstantTimeEq;

use super::algorithm::Tag;
use super::content::{Content, Piece, Segment};
use super::presented::Tags;
use super::source::Source;
use super::timestamp::TimestampRule;
use super::{Equality, Payload, Recipe, SignatureFormat, TokenPayload, is_plain};
use crate::gate::delivery::Head;
use crate::gate::fetched::document;
use crate::gate::parse::form::Form;
use crate::gate::parse::json::{self, Pointer, Scalar};
use crate::gate::parse::jws::Token;
use crate::gate::parse::url::{Port, SignedQuery};
use crate::gate::parse::{Unreadable, each, form, jws, multipart};
use crate::gate::reason::Reason;

/// Different signatures in a list; no sender has more.
const MAX_EACH: usize = 16;

/// Head and body under a recipe. Each is parsed once, and only if something in it is asked for.
pub struct Reading<'r> {
    recipe: &'r Recipe,
    head: &'r Head<'r>,
    body: &'r [u8],
    /// What the recipe reads from JSON, where that is known already.
    pointers: Option<&'r [Pointer]>,
    /// The signature that is judged, of several that stand in a list.
    one: Option<&'r str>,
    json: OnceCell<Result<Picked<'r>, Unreadable>>,
    claims: OnceCell<Result<Picked<'r>, Unreadable>>,
    token_text: OnceCell<Result<Vec<u8>, Unreadable>>,
    form: OnceCell<Result<Form<'r>, Unreadable>>,
    query: OnceCell<Result<Form<'r>, Unreadable>>,
}

/// A form in which the sender may have signed.
#[derive(Clone, Copy)]
pub struct Variant<'r> {
    content: &'r Content,
    port: Port,
}

/// The values at some pointers.
struct Picked<'r> {
    pointers: Cow<'r, [Pointer]>,
    values: Vec<Option<Scalar<'r>>>,
}

impl<'r> Picked<'r> {
    fn of(text: Cow<'r, [u8]>, pointers: Cow<'r, [Pointer]>) -> Result<Self, Unreadable> {
        let values = match text {
            Cow::Borrowed(text) => json::pick(text, &pointers).map_err(|_| Unreadable)?,
            Cow::Owned(text) => {
                let values = json::pick(&text, &pointers).map_err(|_| Unreadable)?;
                values.into_iter().map(|value| value.map(Scalar::into_owned)).collect()
            }
        };
        Ok(Picked { pointers, values })
    }

    fn at(&self, pointer: &Pointer) -> Option<&Scalar<'r>> {
        let n = self.pointers.iter().position(|known| known == pointer)?;
        self.values[n].as_ref()
    }
}

impl<'r> Reading<'r> {
    pub fn new(recipe: &'r Recipe, head: &'r Head<'r>, body: &'r [u8]) -> Self {
        Reading {
            recipe,
            head,
            body,
            pointers: None,
            one: None,
            json: OnceCell::new(),
            claims: OnceCell::new(),
            token_text: OnceCell::new(),
            form: OnceCell::new(),
            query: OnceCell::new(),
        }
    }

    /// The same, where it is known for every delivery which [pointers](Recipe::pointers) the recipe reads.
    #[must_use]
    pub fn at(self, pointers: &'r [Pointer]) -> Self {
        Reading { pointers: Some(pointers), ..self }
    }

    /// The same, of which this element of a list is judged.
    #[must_use]
    pub fn of_one(self, one: &'r str) -> Self {
        Reading { one: Some(one), ..self }
    }

    /// Each of the signatures in a list, as far as there may be some.
    pub fn each(&self) -> Result<Vec<String>, Reason> {
        let [Source::Each(list, inner)] = &*self.recipe.signature.from else { return Ok(Vec::new()) };
        let texts = each::texts(self.body, list, inner).map_err(Reason::from)?.unwrap_or_default();
        match texts.len() {
            0 => Err(Reason::SignatureMissing),
            1..=MAX_EACH => Ok(texts),
            _ => Err(Reason::SignatureMalformed),
        }
    }

    /// In which forms the content may have been signed, the usual one first.
    pub fn variants(&self) -> impl Iterator<Item = Variant<'r>> + use<'r> {
        let either = self.recipe.url_rule.either_port.then_some(Port::OtherWay);
        let ports = [Some(Port::AsGiven), either].into_iter().flatten();
        let recipe = self.recipe;
        ports.flat_map(move |port| recipe.contents().map(move |content| Variant { content, port }))
    }

    /// The tags that the body holds.
    pub fn tags(&self) -> Result<Vec<Tag>, Reason> {
        let mut found = Tags::default();
        for source in self.recipe.signature.from.iter().filter(|source| source.is_in_body()) {
            let Some(value) = self.value(source).map_err(Reason::from)? else { continue };
            self.recipe.take_tags(&value, &mut found)?;
        }
        found.into_tags()
    }

    /// Whether the delivery can be one that was signed under this recipe, whoever signed it.
    pub fn check(&self) -> Result<(), Reason> {
        let recipe = self.recipe;
        if let Some(url) = recipe.url.as_ref().filter(|_| recipe.content.pieces().any(Piece::is_of_url))
            && recipe.url_rule.query == SignedQuery::AsGiven
            && url.query().map(str::as_bytes) != self.head.query
        {
            return Err(Reason::SignatureMismatch);
        }
        // A body that is no form would not be covered.
        if !self.body.is_empty() && recipe.reads_form() && !self.is_form().map_err(Reason::from)? {
            return Err(Reason::SignatureMalformed);
        }
        // Values beside the body that stand in it were not there yet when the head was judged.
        if recipe.by_fields && !self.fields_end().map_err(Reason::from)? {
            return Err(Reason::SignatureMalformed);
        }
        if recipe.content.covers_body() && !self.body_values_end().map_err(Reason::from)? {
            return Err(Reason::SignatureMalformed);
        }
        // What continues a digest holds its padding, which is no text.
        let is_text = || !self.body.contains(&0) && std::str::from_utf8(self.body).is_ok();
        if recipe.is_extensible() && !is_text() {
            return Err(Reason::SignatureMalformed);
        }
        Ok(())
    }

    /// Where values are signed line by line, none but the first may hold what ends a line: else what was
    /// signed as one could be read as several.
    fn fields_end(&self) -> Result<bool, Unreadable> {
        for content in self.recipe.contents() {
            for (_, source, _) in content.values().skip(1) {
                let is_line = |value: Cow<'_, [u8]>| !value.iter().any(u8::is_ascii_control);
                if !self.value(source)?.is_none_or(is_line) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn body_values_end(&self) -> Result<bool, Unreadable> {
        for content in self.recipe.contents() {
            for (n, source, _) in content.values().filter(|(_, source, _)| source.is_in_body()) {
                let ends = |value: Cow<'_, [u8]>| self.recipe.is_unambiguous(content, n, source, &value);
                if !self.value(source)?.is_none_or(ends) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Whether what must hold besides the signature does.
    pub fn holds_besides(&self) -> Result<bool, Unreadable> {
        self.holds(&self.recipe.also)
    }

    /// Whether the delivery is of this recipe, as far as it says itself: nothing of it is proved yet.
    pub fn is_of_recipe(&self) -> Result<bool, Unreadable> {
        if !self.holds(&self.recipe.given)? || !self.is_sole_member()? {
            return Ok(false);
        }
        for demand in &self.recipe.claims {
            let mut wanted = Vec::new();
            for content in &demand.one_of {
                let (mut text, port) = (Vec::new(), Port::AsGiven);
                self.write(Variant { content, port }, &[], &mut |bytes| text.extend_from_slice(bytes))?;
                wanted.push(text);
            }
            let mut holds = false;
            for claim in &demand.claims {
                let Some(said) = self.claimed(claim)? else { continue };
                holds = said.iter().any(|said| wanted.iter().any(|wanted| said.as_bytes() == wanted));
                if !holds {
                    return Ok(false);
                }
            }
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A body that holds a token holds nothing else: the rest would be unsigned.
    fn is_sole_member(&self) -> Result<bool, Unreadable> {
        match &*self.recipe.signature.from {
            [Source::Json(_)] if self.recipe.body_is_token() => {
                let members: HashMap<String, Value> =
                    serde_json::from_slice(self.body).map_err(|_| Unreadable)?;
                Ok(members.len() == 1)
            }
            _ => Ok(true),
        }
    }

    /// What a claim says: one text, or each of a list (as `aud` may be one, RFC 7519, section 4.1.3).
    fn claimed(&self, claim: &Pointer) -> Result<Option<Vec<String>>, Unreadable> {
        let claims = self.claims.get_or_init(|| self.read_claims());
        Ok(Some(match claims.as_ref().map_err(|unreadable| *unreadable)?.at(claim) {
            None => return Ok(None),
            Some(Scalar::Text(text)) => vec![text.to_string()],
            Some(Scalar::Integer(n)) => vec![n.to_string()],
            Some(Scalar::Bool(b)) => vec![b.to_string()],
            Some(Scalar::Other) => {
                let claims: Value =
                    serde_json::from_slice(&jws::decoded(self.token()?.payload)?).map_err(|_| Unreadable)?;
                let list = claims.pointer(&claim.to_string()).and_then(Value::as_array).ok_or(Unreadable)?;
                list.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()
            }
        }))
    }

    /// The token, wherever it stands.
    pub fn token(&self) -> Result<Token<'_>, Unreadable> {
        match &*self.recipe.signature.from {
            [source] if source.is_in_body() => {
                let read = || Ok(self.value(source)?.ok_or(Unreadable)?.into_owned());
                let text = self.token_text.get_or_init(read).as_ref().map_err(|unreadable| *unreadable)?;
                self.recipe.token_in(text).ok_or(Unreadable)
            }
            _ => self.recipe.token(self.head),
        }
    }

    /// A parameter of the token's own header.
    pub fn token_parameter(&self, name: &str) -> Result<Option<String>, Unreadable> {
        self.token()?.parameter(name)
    }

    /// The certificates in the token's own header.
    pub fn token_chain(&self) -> Result<Vec<Vec<u8>>, Unreadable> {
        document::chain(&self.token()?.certificates()?).ok_or(Unreadable)
    }

    fn holds(&self, equalities: &[Equality]) -> Result<bool, Unreadable> {
        for equality in equalities {
            // What is absent is empty: so it is defined.
            let value = self.value(&equality.source)?.unwrap_or_default();
            let mut holds = false;
            for content in &equality.contents {
                let mut wanted = Vec::new();
                let port = Port::AsGiven;
                self.write(Variant { content, port }, &[], &mut |bytes| wanted.extend_from_slice(bytes))?;
                holds |= bool::from(value.ct_eq(&wanted));
            }
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The bytes of a value; `Ok(None)` if it is absent.
    pub fn value(&self, source: &Source) -> Result<Option<Cow<'_, [u8]>>, Unreadable> {
        match source {
            Source::Query(name) => self.query()?.single(name),
            Source::Header(_) | Source::HeaderJson(..) | Source::Field(_) => {
                self.recipe.value(source, self.head)
            }
            Source::Inner(outer, inner) => {
                let outer = Source::Json(outer.clone());
                let Some(Scalar::Text(text)) = self.scalar(&outer)? else { return Ok(None) };
                let picked = json::pick(text.as_bytes(), &[inner]).map_err(|_| Unreadable)?;
                match picked.into_iter().next().flatten() {
                    Some(Scalar::Text(text)) => Ok(Some(Cow::Owned(text.into_owned().into_bytes()))),
                    Some(_) | None => Ok(None),
                }
            }
            Source::Form(name) => self.form()?.single(name),
            Source::Multipart(name) => Ok(self.multipart(name)?.map(Cow::Borrowed)),
            Source::Token(name) => {
                Ok(self.token()?.parameter(name)?.map(|text| Cow::Owned(text.into_bytes())))
            }
            Source::Body => Ok(Some(Cow::Borrowed(self.body))),
            Source::Each(..) => Ok(self.one.map(|one| Cow::Borrowed(one.as_bytes()))),
            Source::Json(_) | Source::Claim(_) => match self.scalar(source)? {
                None => Ok(None),
                Some(Scalar::Text(text)) => Ok(Some(Cow::Borrowed(text.as_bytes()))),
                Some(Scalar::Integer(n)) => Ok(Some(Cow::Owned(n.to_string().into_bytes()))),
                Some(Scalar::Bool(b)) => Ok(Some(Cow::Borrowed(if *b { b"true" } else { b"false" }))),
                Some(Scalar::Other) => Err(Unreadable),
            },
        }
    }

    fn scalar(&self, source: &Source) -> Result<Option<&Scalar<'r>>, Unreadable> {
        let (picked, pointer) = match source {
            Source::Json(pointer) => {
                let pointers = || self.pointers.map_or_else(|| self.recipe.pointers().into(), Cow::Borrowed);
                let read = || Picked::of(self.payload()?, pointers());
                (self.json.get_or_init(read), pointer)
            }
            Source::Claim(pointer) => (self.claims.get_or_init(|| self.read_claims()), pointer),
            _ => return Ok(None),
        };
        Ok(picked.as_ref().map_err(|unreadable| *unreadable)?.at(pointer))
    }

    fn read_claims(&self) -> Result<Picked<'r>, Unreadable> {
        let token = self.token()?;
        Picked::of(jws::decoded(token.payload)?.into(), self.recipe.claims().into())
    }

    /// The JSON, wherever in the body it is; empty if it is not there.
    fn payload(&self) -> Result<Cow<'r, [u8]>, Unreadable> {
        match &self.recipe.payload {
            Some(Payload::Form(name)) if self.is_form()? => {
                Ok(self.form()?.single(name)?.unwrap_or_default())
            }
            Some(Payload::Multipart(name)) if self.is_multipart()? => {
                Ok(Cow::Borrowed(self.multipart(name)?.unwrap_or_default()))
            }
            Some(Payload::Form(_) | Payload::Multipart(_)) | None => Ok(Cow::Borrowed(self.body)),
        }
    }

    /// The form that the body is; an empty one if it is none.
    fn form(&self) -> Result<&Form<'r>, Unreadable> {
        let read = || if self.is_form()? { Form::parse(self.body) } else { Ok(Form::default()) };
        self.form.get_or_init(read).as_ref().map_err(|unreadable| *unreadable)
    }

    /// A field of the multipart body that it is; `None` if it is none.
    fn multipart(&self, name: &str) -> Result<Option<&'r [u8]>, Unreadable> {
        if self.is_multipart()? { multipart::field(self.content_type()?, self.body, name) } else { Ok(None) }
    }

    fn is_multipart(&self) -> Result<bool, Unreadable> {
        Ok(starts_with(self.content_type()?, b"multipart/"))
    }

    fn query(&self) -> Result<&Form<'r>, Unreadable> {
        self.query.get_or_init(|| self.head.query()).as_ref().map_err(|unreadable| *unreadable)
    }

    fn is_form(&self) -> Result<bool, Unreadable> {
        is_form(self.head)
    }

    fn content_type(&self) -> Result<&'r [u8], Unreadable> {
        content_type(self.head)
    }

    /// Passes what must have been signed to `sink`, piece by piece.
    pub fn signed(
        &self,
        variant: Variant<'_>,
        secret: &[u8],
        mut sink: impl FnMut(&[u8]),
    ) -> Result<(), Unreadable> {
        match &self.recipe.signature.format {
            SignatureFormat::Token { payload: TokenPayload::Plain, .. } => {
                sink(self.token()?.header);
                sink(b".");
                self.write(variant, secret, &mut sink)
            }
            SignatureFormat::Token { payload: TokenPayload::Detached, .. } => {
                let mut payload = Vec::new();
                self.write(variant, secret, &mut |bytes| payload.extend_from_slice(bytes))?;
                sink(self.recipe.token(self.head)?.header);
                sink(b".");
                sink(jws::encoded(&payload).as_bytes());
                Ok(())
            }
            _ => self.write(variant, secret, &mut sink),
        }
    }

    /// Passes what tells this delivery from every other one under the recipe to `sink`: each value
    /// that is signed, and its length, so that none can lose a byte to its neighbour. The secret is
    /// not among them, and the URL's port counts as it was given. Of a query that can be signed like
    /// another one it is the parameters.
    pub fn told_apart(&self, variant: Variant<'_>, mut sink: impl FnMut(&[u8])) -> Result<(), Unreadable> {
        for segment in variant.content.segments() {
            let mut length = 0;
            let mut count = |bytes: &[u8]| {
                length += bytes.len() as u64;
                sink(bytes);
            };
            match segment {
                Segment::Literal(_) | Segment::Piece(Piece::Secret, _) => continue,
                // The form among the parameters is the body, which counts as well.
                Segment::Piece(Piece::QuerySorted | Piece::Parameters, _)
                | Segment::Optional { piece: Piece::QuerySorted | Piece::Parameters, .. } => {
                    for (name, value) in self.query()?.sorted()?.iter().filter(|(name, _)| **name != *b"sig")
                    {
                        count(&(name.len() as u64).to_be_bytes());
                        count(name);
                        count(&(value.len() as u64).to_be_bytes());
                        count(value);
                    }
                }
                _ => self.segment(segment, Port::AsGiven, &[], &mut count)?,
            }
            sink(&length.to_be_bytes());
        }
        Ok(())
    }

    pub fn body(&self) -> &'r [u8] {
        self.body
    }

    /// The template of a content as it stands, whatever wraps it before it is signed.
    pub fn template(&self, content: &Content, mut sink: impl FnMut(&[u8])) -> Result<(), Unreadable> {
        self.write(Variant { content, port: Port::AsGiven }, &[], &mut sink)
    }

    fn write(
        &self,
        variant: Variant<'_>,
        secret: &[u8],
        sink: &mut impl FnMut(&[u8]),
    ) -> Result<(), Unreadable> {
        variant
            .content
            .segments()
            .iter()
            .try_for_each(|segment| self.segment(segment, variant.port, secret, sink))
    }

    fn segment(
        &self,
        segment: &Segment,
        port: Port,
        secret: &[u8],
        sink: &mut impl FnMut(&[u8]),
    ) -> Result<(), Unreadable> {
        match segment {
            Segment::Literal(text) => sink(text),
            Segment::Piece(Piece::Body, None) => sink(self.body),
            Segment::Piece(Piece::Body, Some(transform)) => sink(&transform.apply(self.body)?),
            Segment::Piece(piece, None) => self.piece(piece, port, secret, sink)?,
            Segment::Piece(piece, Some(transform)) => {
                let mut whole = Vec::new();
                self.piece(piece, port, secret, &mut |bytes| whole.extend_from_slice(bytes))?;
                sink(&transform.apply(&whole)?);
            }
            Segment::Optional { before, piece, transform, after } => {
                let mut value = Vec::new();
                self.piece(piece, port, secret, &mut |bytes| value.extend_from_slice(bytes))?;
                if !value.is_empty() {
                    sink(before);
                    match transform {
                        None => sink(&value),
                        Some(transform) => sink(&transform.apply(&value)?),
                    }
                    sink(after);
                }
            }
        }
        Ok(())
    }

    fn piece(
        &self,
        piece: &Piece,
        port: Port,
        secret: &[u8],
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Unreadable> {
        match piece {
            Piece::Body => sink(self.body),
            // A value in the head that must be there was found there when the head was judged; one
            // that may be absent, or that the body lacks, signs as nothing.
            Piece::Value(source) => sink(&self.value(source)?.unwrap_or_default()),
            Piece::Method => sink(self.head.method.as_str().as_bytes()),
            Piece::Url => self.url(port, self.signed_query(), sink),
            Piece::UrlWithoutQuery => self.url(port, None, sink),
            Piece::Path => match &self.recipe.url {
                Some(url) => url.target(self.head.path, self.signed_query(), sink),
                None => {
                    sink(self.head.path);
                    if let Some(query) = self.head.query {
                        sink(b"?");
                        sink(query);
                    }
                }
            },
            Piece::FormSorted => {
                let mut sorted = self.form()?.sorted()?;
                sorted.dedup();
                for (name, value) in sorted {
                    sink(&name);
                    sink(&value);
                }
            }
            Piece::QuerySorted => {
                for (n, (name, value)) in self.query()?.sorted()?.into_iter().enumerate() {
                    if n > 0 {
                        sink(b"&");
                    }
                    sink(&name);
                    sink(b"=");
                    sink(&value);
                }
            }
            Piece::RawQuerySorted => {
                // No query signs as an empty one.
                let mut pairs: Vec<_> = self.head.query.unwrap_or_default().split(|b| *b == b'&').collect();
                pairs.sort_by_key(|pair| pair.split(|b| *b == b'=').next());
                sink(&pairs.join(&b'&'));
            }
            Piece::Parameters => self.parameters(sink)?,
            Piece::ListedHeaders(_) => self.listed_headers(piece, sink)?,
            Piece::FieldHeaders(_) => {
                for (n, name) in self.recipe.listed_as_written(piece, self.head)?.iter().enumerate() {
                    sink(if n == 0 { b"" } else { b"." });
                    sink(self.header(name)?.ok_or(Unreadable)?);
                }
            }
            Piece::TokenHeaders(_) => {
                for name in self.recipe.listed_as_written(piece, self.head)? {
                    sink(name.as_bytes());
                    sink(b": ");
                    sink(self.header(&name)?.ok_or(Unreadable)?);
                    sink(b"\n");
                }
            }
            Piece::Secret => sink(secret),
            Piece::Token => sink(self.token()?.signed),
            Piece::BodyCrc32 => {
                let mut crc = crc32fast::Hasher::new();
                crc.update(self.body);
                sink(crc.finalize().to_string().as_bytes());
            }
            Piece::QueryBefore(names) => sink(&query_before(self.head.query.unwrap_or_default(), names)?),
            // The route says nothing of it: nothing can have been signed.
            Piece::Route(_) => return Err(Unreadable),
        }
        Ok(())
    }

    fn url(&self, port: Port, query: Option<&[u8]>, sink: &mut dyn FnMut(&[u8])) {
        if let Some(url) = &self.recipe.url {
            url.write(port, self.head.path, query, sink);
        }
    }

    fn signed_query(&self) -> Option<&[u8]> {
        match (self.recipe.url_rule.query, &self.recipe.url) {
            (SignedQuery::AsGiven, Some(url)) => url.query().map(str::as_bytes),
            (SignedQuery::AsGiven, None) | (SignedQuery::AsReceived, _) => self.head.query,
        }
    }

    /// Sorted and in lower case; what is listed and was not sent is not signed either.
    fn listed_headers(&self, piece: &Piece, sink: &mut dyn FnMut(&[u8])) -> Result<(), Unreadable> {
        let mut names = self.recipe.listed_as_written(piece, self.head)?;
        for name in &mut names {
            name.make_ascii_lowercase();
        }
        names.sort();
        names.dedup();
        let mut first = true;
        for name in names {
            let Some(value) = self.header(&name)? else { continue };
            if !std::mem::take(&mut first) {
                sink(b";");
            }
            sink(name.as_bytes());
            sink(b":");
            sink(value);
        }
        Ok(())
    }

    fn header(&self, name: &str) -> Result<Option<&'r [u8]>, Unreadable> {
        let name: HeaderName = name.parse().map_err(|_| Unreadable)?;
        self.head.single(&name)
    }

    fn parameters(&self, sink: &mut dyn FnMut(&[u8])) -> Result<(), Unreadable> {
        let mut all = self.query()?.pairs()?;
        all.extend(self.form()?.pairs()?);
        all.retain(|(name, _)| **name != *b"sig");
        all.sort();
        for (name, value) in all {
            sink(b"&");
            sink(&name);
            sink(b"=");
            let plain = |b: &u8| if matches!(b, b'&' | b'=') { b'_' } else { *b };
            sink(&value.iter().map(plain).collect::<Vec<_>>());
        }
        Ok(())
    }

    /// The signed time, in milliseconds since the epoch.
    pub fn time(&self, rule: &TimestampRule) -> Result<Option<i64>, Unreadable> {
        for source in &rule.from {
            if let Some(moment) = self.moment(source, rule)? {
                return Ok(moment.ok());
            }
        }
        Ok(None)
    }

    /// Whether something stands where the time does.
    pub fn has_time(&self, rule: &TimestampRule) -> Result<bool, Unreadable> {
        for source in &rule.from {
            if self.moment(source, rule)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// When the event expires, in milliseconds since the epoch, if the sender says so. An end that
    /// is no time is not "never".
    pub fn expiry(&self, rule: &TimestampRule) -> Result<Option<i64>, Unreadable> {
        let Some(source) = &rule.expires else { return Ok(None) };
        self.moment(source, rule)?.transpose()
    }

    /// What is there, if anything is; an error in it if that is no time.
    fn moment(
        &self,
        source: &Source,
        rule: &TimestampRule,
    ) -> Result<Option<Result<i64, Unreadable>>, Unreadable> {
        let time = |time: Option<i64>| time.ok_or(Unreadable);
        if let Source::Json(_) | Source::Claim(_) = source {
            return Ok(self.scalar(source)?.map(|said| match said {
                Scalar::Text(text) => time(rule.unit.parse(text.as_bytes())),
                Scalar::Integer(n) => time(i64::try_from(*n).ok().and_then(|n| rule.unit.from_integer(n))),
                Scalar::Bool(_) | Scalar::Other => Err(Unreadable),
            }));
        }
        let said = self.value(source)?;
        Ok(said
            .map(|value| time(Some(&value).filter(|value| is_plain(value)).and_then(|v| rule.unit.parse(v)))))
    }

    /// An id is text of a sane length or an integer; anything else under its name in the body, or under a name
    /// that tells events apart, is refused, because the application might take it for an id all the same.
    pub fn id(&self, source: &Source) -> Result<Option<Cow<'_, str>>, Unreadable> {
        if let Source::Json(_) = source {
            return match self.scalar(source)? {
                None => Ok(None),
                Some(Scalar::Text(text)) if is_plain(text.as_bytes()) => Ok(Some(Cow::Borrowed(text))),
                Some(Scalar::Integer(n)) => Ok(Some(Cow::Owned(n.to_string()))),
                Some(_) => Err(Unreadable),
            };
        }
        match self.value(source)? {
            None => Ok(None),
            Some(value) => match plain(value) {
                None if self.recipe.identifies(source) => Err(Unreadable),
                id => Ok(id),
            },
        }
    }

    /// The event's type is for people: it decides nothing, and what cannot be read names none.
    pub fn text(&self, source: &Source) -> Option<Cow<'_, str>> {
        if let Some(Scalar::Integer(_) | Scalar::Bool(_) | Scalar::Other) = self.scalar(source).ok()? {
            return None;
        }
        self.value(source).ok()?.and_then(plain)
    }
}

/// The query up to these parameters, which must be its last ones, without percent-escapes.
fn query_before(query: &[u8], names: &[String]) -> Result<Vec<u8>, Unreadable> {
    let mut parts: Vec<_> = query.split(|b| *b == b'&').collect();
    let last = parts.len().checked_sub(names.len()).ok_or(Unreadable)?;
    for (part, name) in parts.drain(last..).zip(names) {
        let value =
            part.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")).ok_or(Unreadable)?;
        let plain = value.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if value.is_empty() || !plain {
            return Err(Unreadable);
        }
    }
    let mut decoded = Vec::with_capacity(query.len());
    let joined = parts.join(&b'&');
    let mut rest = &*joined;
    while let Some((&byte, after)) = rest.split_first() {
        (decoded, rest) = match byte {
            b'%' => {
                decoded.push(form::hex_byte(after).ok_or(Unreadable)?);
                (decoded, &after[2..])
            }
            other => {
                decoded.push(other);
                (decoded, after)
            }
        };
    }
    Ok(decoded)
}

fn plain(value: Cow<'_, [u8]>) -> Option<Cow<'_, str>> {
    match value {
        _ if !is_plain(&value) => None,
        Cow::Borrowed(value) => std::str::from_utf8(value).ok().map(Cow::Borrowed),
        Cow::Owned(value) => String::from_utf8(value).ok().map(Cow::Owned),
    }
}

/// Whether the head says that the body is a form.
pub(super) fn is_form(head: &Head<'_>) -> Result<bool, Unreadable> {
    let content_type = content_type(head)?;
    let end = content_type.iter().position(|b| *b == b';').unwrap_or(content_type.len());
    let media = content_type[..end].trim_ascii();
    Ok(media.eq_ignore_ascii_case(b"application/x-www-form-urlencoded"))
}

/// Empty if there is none.
fn content_type<'r>(head: &Head<'r>) -> Result<&'r [u8], Unreadable> {
    Ok(head.single(&CONTENT_TYPE)?.unwrap_or_default())
}

fn starts_with(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
