//! One delivery, read under one recipe: its values, and the content that must have been signed.

use std::borrow::Cow;
use std::cell::OnceCell;

use http::header::CONTENT_TYPE;
use subtle::ConstantTimeEq;

use super::algorithm::Tag;
use super::content::{Content, Piece, Segment};
use super::form::Form;
use super::json::{self, Pointer, Scalar};
use super::jws;
use super::presented::Tags;
use super::source::Source;
use super::timestamp::TimestampRule;
use super::url::{Port, SignedQuery};
use super::{Assurance, Payload, Recipe, SignatureFormat, TokenPayload, is_plain, multipart};
use crate::gate::answer::Reason;
use crate::gate::delivery::Head;

/// Head and body under a recipe. The body is parsed once, and only if something in it is asked for.
pub struct Reading<'r> {
    recipe: &'r Recipe,
    head: &'r Head<'r>,
    body: &'r [u8],
    port: Port,
    json: OnceCell<Result<Picked<'r>, json::Malformed>>,
    claims: OnceCell<Picked<'r>>,
    form: OnceCell<Form<'r>>,
}

/// The values at some pointers.
struct Picked<'r> {
    pointers: Vec<&'r Pointer>,
    values: Vec<Option<Scalar<'static>>>,
}

impl<'r> Picked<'r> {
    fn of(text: &[u8], pointers: Vec<&'r Pointer>) -> Result<Self, json::Malformed> {
        let values = json::pick(text, &pointers)?.into_iter().map(|v| v.map(Scalar::into_owned)).collect();
        Ok(Picked { pointers, values })
    }

    fn at(&self, pointer: &Pointer) -> Option<&Scalar<'static>> {
        let n = self.pointers.iter().position(|known| *known == pointer)?;
        self.values[n].as_ref()
    }
}

impl<'r> Reading<'r> {
    pub fn new(recipe: &'r Recipe, head: &'r Head<'r>, body: &'r [u8]) -> Self {
        Reading {
            recipe,
            head,
            body,
            port: Port::default(),
            json: OnceCell::new(),
            claims: OnceCell::new(),
            form: OnceCell::new(),
        }
    }

    /// The same delivery, with the default port of its URL written the other way; `None` if
    /// the recipe knows one way only.
    pub fn with_other_port(&self) -> Option<Self> {
        let other = Reading { port: Port::OtherWay, ..Reading::new(self.recipe, self.head, self.body) };
        self.recipe.url_rule.either_port.then_some(other)
    }

    /// The tags that the body holds.
    pub fn tags(&self) -> Result<Vec<Tag>, Reason> {
        let mut found = Tags::default();
        for source in self.recipe.signature.from.iter().filter(|source| source.is_in_body()) {
            let Some(value) = self.value(source)? else { continue };
            self.recipe.take_tags(&value, &mut found)?;
        }
        found.into_tags()
    }

    /// What must hold besides the signature, and can be judged only with the body.
    pub fn check(&self) -> Result<(), Reason> {
        let recipe = self.recipe;
        if let Some(url) = recipe.url.as_ref().filter(|_| recipe.content.pieces().any(Piece::is_of_url))
            && recipe.url_rule.query == SignedQuery::AsGiven
            && url.query().map(str::as_bytes) != self.head.query
        {
            return Err(Reason::SignatureMismatch);
        }
        // A body that is no form would not be covered.
        if recipe.content.pieces().any(Piece::reads_form) && !self.body.is_empty() && !self.is_form() {
            return Err(Reason::SignatureMalformed);
        }
        // What stands in the content must be readable, and may be absent only in the body.
        for (_, source, _) in recipe.content.values().filter(|(_, source, _)| source.is_in_body()) {
            self.value(source)?;
        }
        for equality in &recipe.also {
            let value = self.value(&equality.source)?.unwrap_or_default();
            let mut wanted = Vec::new();
            self.write(&equality.content, &[], &mut |bytes| wanted.extend_from_slice(bytes));
            if !bool::from(value.ct_eq(&wanted)) {
                return Err(Reason::SignatureMismatch);
            }
        }
        Ok(())
    }

    /// The bytes of a value; `Ok(None)` if it is absent.
    pub fn value(&self, source: &Source) -> Result<Option<Cow<'_, [u8]>>, Reason> {
        match source {
            Source::Header(_) | Source::Field(_) | Source::Query(_) => self.recipe.value(source, self.head),
            Source::Form(name) => {
                let value = self.form().single(name).map_err(|_| Reason::SignatureMalformed)?;
                Ok(value.map(Cow::Borrowed))
            }
            Source::Json(_) | Source::Claim(_) => match self.scalar(source)? {
                None => Ok(None),
                Some(Scalar::Text(text)) => Ok(Some(Cow::Borrowed(text.as_bytes()))),
                Some(Scalar::Integer(n)) => Ok(Some(Cow::Owned(n.to_string().into_bytes()))),
                Some(Scalar::Other) => Err(Reason::BodyMalformed),
            },
        }
    }

    fn scalar(&self, source: &Source) -> Result<Option<&Scalar<'static>>, Reason> {
        match source {
            Source::Json(pointer) => {
                let picked = self.json.get_or_init(|| Picked::of(&self.payload(), self.recipe.pointers()));
                Ok(picked.as_ref().map_err(|_| Reason::BodyMalformed)?.at(pointer))
            }
            Source::Claim(pointer) => Ok(self.claims.get_or_init(|| self.read_claims()).at(pointer)),
            _ => Ok(None),
        }
    }

    /// Nothing, if there is no token or it holds no claims.
    fn read_claims(&self) -> Picked<'r> {
        let token = self.recipe.token(self.head);
        let payload = token.and_then(|token| jws::decoded(token.payload)).unwrap_or_default();
        let nothing = Picked { pointers: Vec::new(), values: Vec::new() };
        Picked::of(&payload, self.recipe.claims()).unwrap_or(nothing)
    }

    /// The JSON, wherever in the body it is.
    fn payload(&self) -> Cow<'_, [u8]> {
        let content_type = self.content_type();
        match &self.recipe.payload {
            Some(Payload::Form(name)) if self.is_form() => {
                Cow::Borrowed(self.form().single(name).ok().flatten().unwrap_or_default())
            }
            Some(Payload::Multipart(name)) if starts_with(content_type, b"multipart/") => {
                Cow::Borrowed(multipart::field(content_type, self.body, name).unwrap_or_default())
            }
            Some(Payload::Form(_) | Payload::Multipart(_)) | None => Cow::Borrowed(self.body),
        }
    }

    fn form(&self) -> &Form<'r> {
        self.form.get_or_init(|| {
            let body = if self.is_form() { self.body } else { &[] };
            Form::parse(body).unwrap_or_default()
        })
    }

    fn is_form(&self) -> bool {
        let content_type = self.content_type();
        let media = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        media.eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
    }

    fn content_type(&self) -> &'r [u8] {
        self.head.single(&CONTENT_TYPE).ok().flatten().unwrap_or_default()
    }

    /// Passes what must have been signed to `sink`, piece by piece. Values that [`check`](Self::check)
    /// or the head's check would refuse count as empty.
    pub fn content(&self, secret: &[u8], mut sink: impl FnMut(&[u8])) {
        let content = &self.recipe.content;
        match &self.recipe.signature.format {
            SignatureFormat::Token { payload: TokenPayload::Detached, .. } => {
                let mut payload = Vec::new();
                self.write(content, secret, &mut |bytes| payload.extend_from_slice(bytes));
                sink(self.recipe.token(self.head).map_or(&[][..], |token| token.header));
                sink(b".");
                sink(jws::encoded(&payload).as_bytes());
            }
            _ => self.write(content, secret, &mut sink),
        }
    }

    /// Passes what tells this event from every other one to `sink`: what is signed, or where nothing
    /// is, the body.
    pub fn identity(&self, mut sink: impl FnMut(&[u8])) {
        match self.recipe.assurance() {
            Assurance::Authenticated => sink(self.body),
            Assurance::Verified | Assurance::Partial => self.content(&[], sink),
        }
    }

    /// The content's template as it stands, whatever wraps it before it is signed.
    pub fn template(&self, mut sink: impl FnMut(&[u8])) {
        self.write(&self.recipe.content, &[], &mut sink);
    }

    fn write(&self, content: &Content, secret: &[u8], sink: &mut impl FnMut(&[u8])) {
        let value = |source: &Source| self.value(source).ok().flatten().unwrap_or_default();
        for segment in content.segments() {
            match segment {
                Segment::Literal(text) => sink(text),
                Segment::Piece(Piece::Body, Some(transform)) => sink(&transform.apply(self.body)),
                Segment::Piece(Piece::Value(source), None) => sink(&value(source)),
                Segment::Piece(piece, None) => self.piece(piece, secret, sink),
                Segment::Piece(piece, Some(transform)) => {
                    let mut whole = Vec::new();
                    self.piece(piece, secret, &mut |bytes| whole.extend_from_slice(bytes));
                    sink(&transform.apply(&whole));
                }
                Segment::Optional { before, piece, transform, after } => {
                    let mut value = Vec::new();
                    self.piece(piece, secret, &mut |bytes| value.extend_from_slice(bytes));
                    if !value.is_empty() {
                        sink(before);
                        sink(
                            &transform
                                .map_or(Cow::Borrowed(value.as_slice()), |transform| transform.apply(&value)),
                        );
                        sink(after);
                    }
                }
            }
        }
    }

    fn piece(&self, piece: &Piece, secret: &[u8], sink: &mut dyn FnMut(&[u8])) {
        match piece {
            Piece::Body => sink(self.body),
            Piece::Value(source) => sink(&self.value(source).ok().flatten().unwrap_or_default()),
            Piece::Method => sink(self.head.method.as_str().as_bytes()),
            Piece::Url => self.url(self.signed_query(), sink),
            Piece::UrlWithoutQuery => self.url(None, sink),
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
                let mut sorted = self.form().sorted();
                sorted.dedup();
                for (name, value) in sorted {
                    sink(name);
                    sink(value);
                }
            }
            Piece::QuerySorted => {
                let query = self.head.query.and_then(Form::parse).unwrap_or_default();
                for (n, (name, value)) in query.sorted().into_iter().enumerate() {
                    if n > 0 {
                        sink(b"&");
                    }
                    sink(name);
                    sink(b"=");
                    sink(value);
                }
            }
            Piece::RawQuerySorted => {
                let mut pairs: Vec<_> = self.head.query.unwrap_or_default().split(|b| *b == b'&').collect();
                pairs.sort_by_key(|pair| pair.split(|b| *b == b'=').next());
                sink(&pairs.join(&b'&'));
            }
            Piece::Parameters => self.parameters(sink),
            Piece::ListedHeaders(_) => {
                let mut names = self.recipe.listed(piece, self.head);
                for name in &mut names {
                    name.make_ascii_lowercase();
                }
                names.sort();
                names.dedup();
                names.retain(|name| self.head.headers.contains_key(name));
                for (n, name) in names.iter().enumerate() {
                    if n > 0 {
                        sink(b";");
                    }
                    sink(name.as_bytes());
                    sink(b":");
                    sink(self.header(name));
                }
            }
            Piece::TokenHeaders(_) => {
                for name in self.recipe.listed(piece, self.head) {
                    sink(name.as_bytes());
                    sink(b": ");
                    sink(self.header(&name));
                    sink(b"\n");
                }
            }
            Piece::Secret => sink(secret),
            Piece::Token => sink(self.recipe.token(self.head).map_or(&[][..], |token| token.signed)),
        }
    }

    fn url(&self, query: Option<&[u8]>, sink: &mut dyn FnMut(&[u8])) {
        if let Some(url) = &self.recipe.url {
            url.write(self.port, self.head.path, query, sink);
        }
    }

    fn signed_query(&self) -> Option<&[u8]> {
        match (self.recipe.url_rule.query, &self.recipe.url) {
            (SignedQuery::AsGiven, Some(url)) => url.query().map(str::as_bytes),
            (SignedQuery::AsGiven, None) | (SignedQuery::AsReceived, _) => self.head.query,
        }
    }

    fn parameters(&self, sink: &mut dyn FnMut(&[u8])) {
        let query = self.head.query.and_then(Form::parse).unwrap_or_default();
        let mut all: Vec<_> = query.pairs().iter().chain(self.form().pairs()).collect();
        all.retain(|(name, _)| **name != *b"sig");
        all.sort();
        for (name, value) in all {
            sink(b"&");
            sink(name);
            sink(b"=");
            let plain = |b: &u8| if matches!(b, b'&' | b'=') { b'_' } else { *b };
            sink(&value.iter().map(plain).collect::<Vec<_>>());
        }
    }

    fn header(&self, name: &str) -> &'r [u8] {
        let name = name.parse().ok();
        name.and_then(|name| self.head.single(&name).ok().flatten()).unwrap_or_default()
    }

    /// The signed time, in milliseconds since the epoch.
    pub fn time(&self, rule: &TimestampRule) -> Result<Option<i64>, Reason> {
        for source in &rule.from {
            if self.is_there(source)? {
                return self.moment(source, rule);
            }
        }
        Ok(None)
    }

    /// When the event expires, in milliseconds since the epoch, if the sender says so.
    pub fn expiry(&self, rule: &TimestampRule) -> Result<Option<i64>, Reason> {
        let Some(source) = &rule.expires else { return Ok(None) };
        self.moment(source, rule)
    }

    /// `None` if what is there is no time.
    fn moment(&self, source: &Source, rule: &TimestampRule) -> Result<Option<i64>, Reason> {
        if let Source::Json(_) | Source::Claim(_) = source {
            return Ok(match self.scalar(source)? {
                Some(Scalar::Text(text)) => rule.unit.parse(text.as_bytes()),
                Some(Scalar::Integer(n)) => rule.unit.from_integer(*n),
                Some(Scalar::Other) | None => None,
            });
        }
        let value = self.value(source)?.filter(|value| is_plain(value));
        Ok(value.and_then(|value| rule.unit.parse(&value)))
    }

    fn is_there(&self, source: &Source) -> Result<bool, Reason> {
        Ok(match source {
            Source::Json(_) | Source::Claim(_) => self.scalar(source)?.is_some(),
            _ => self.value(source)?.is_some(),
        })
    }

    /// An id must be text of a sane length; anything else under its name in the body is refused,
    /// because the application might take it for an id all the same.
    pub fn id(&self, source: &Source) -> Result<Option<String>, Reason> {
        if let Source::Json(_) = source {
            return match self.scalar(source)? {
                None => Ok(None),
                Some(Scalar::Text(text)) if is_plain(text.as_bytes()) => Ok(Some(text.to_string())),
                Some(_) => Err(Reason::BodyMalformed),
            };
        }
        Ok(self.value(source)?.and_then(plain))
    }

    pub fn text(&self, source: &Source) -> Option<String> {
        if let Some(Scalar::Integer(_) | Scalar::Other) = self.scalar(source).ok()? {
            return None;
        }
        self.value(source).ok()?.and_then(plain)
    }
}

fn plain(value: Cow<'_, [u8]>) -> Option<String> {
    Some(value).filter(|value| is_plain(value)).and_then(|value| String::from_utf8(value.into_owned()).ok())
}

fn starts_with(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
