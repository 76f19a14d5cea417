//! How a provider signs, as data. A [`Recipe`] is compiled from a preset or from
//! the user's own words; nothing in it is decided by a request.

pub mod algorithm;
pub mod content;
pub mod key;
pub mod presented;
pub mod public_key;
pub mod reading;
pub mod sign;
pub mod source;
pub mod timestamp;
pub mod transform;
pub mod verifier;

use http::HeaderName;
use http::header::CONTENT_TYPE;

use self::algorithm::{Algorithm, Encoding};
use self::content::{Content, Piece};
use self::key::KeyRule;
use self::source::Source;
use self::timestamp::TimestampRule;
pub use self::verifier::{Key, Verifier};
use super::fetched::KeyPlace;
use super::fetched::parameters::Parameters;
use super::parse::json::Pointer;
use super::parse::url::{PublicUrl, SignedQuery};

/// One way of signing. Fields are in the words of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    pub algorithm: Algorithm,
    pub key: KeyRule,
    pub signature: SignatureRule,
    pub content: Content,
    /// The same values in other text or other transforms, where senders differ in that.
    pub variants: Vec<Content>,
    /// What must hold besides the signature.
    pub also: Vec<Equality>,
    /// What must hold for a delivery to be of this recipe; judged before any key is looked for.
    pub given: Vec<Equality>,
    /// What the token must say; judged as that is.
    pub claims: Vec<Demand>,
    /// Where its keys are found, if they are no files of the route.
    pub keys: Option<KeyPlace>,
    /// Sources without which a delivery is not signed in this way.
    pub when: Vec<Source>,
    /// The field of a form or multipart body that holds the JSON.
    pub payload: Option<Payload>,
    /// The URL that the provider was given; only where the content holds it.
    pub url: Option<PublicUrl>,
    pub url_rule: UrlRule,
    pub timestamp: Option<TimestampRule>,
    /// Where the event's id stands; the first that is present names the event.
    pub id: Vec<Source>,
    /// What else tells two events apart that have the same id; signed.
    pub distinct: Vec<Source>,
    /// Where the event's type stands. For people and routing; decides nothing.
    pub event_type: Vec<Source>,
    /// Where stands what narrows the type, as an action does.
    pub action: Vec<Source>,
    /// What the route's choice of events looks at besides.
    pub looked_at: Vec<Source>,
    /// Whether nothing of a delivery can be changed under its signature.
    pub closed: bool,
    /// Whether the values that mean something in the body are signed one by one, each on its own line.
    pub by_fields: bool,
    /// How much a delivery under this recipe proves.
    pub assurance: Assurance,
}

/// Where signatures stand and how they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureRule {
    /// The places that may carry a signature; each may come once.
    pub from: Vec<Source>,
    pub format: SignatureFormat,
    /// How its sender writes the fields, where that is not one after the other: for a signer alone.
    pub written: Option<String>,
    pub encoding: Encoding,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureFormat {
    /// The whole value, or each element of a list, is `prefix` and a tag.
    Plain { prefix: Vec<u8>, split: Option<Separators> },
    /// `name=value` fields; those named in `keys` are tags.
    Fields { split: Separators, assign: Assign, keys: FieldNames },
    /// A signed token (RFC 7515) behind `prefix`.
    Token { prefix: Vec<u8>, payload: TokenPayload },
}

/// Bytes of which each one parts two elements.
pub type Separators = Vec<u8>;

/// How a field gets its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assign {
    /// It stands before this byte.
    Before(u8),
    /// It is the field's place in the list, counted from 0.
    Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldNames {
    Any,
    These(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenPayload {
    /// In the token.
    Inside,
    /// The content, which the token leaves out (RFC 7515, appendix F).
    Detached,
    /// The same, not encoded (RFC 7797).
    Plain,
}

/// Where the JSON is when it is not the body itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    Form(String),
    Multipart(String),
}

/// `source == template`, such as `query:bodySHA256 == {body|sha256hex}`. What is absent is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Equality {
    pub source: Source,
    /// One of these.
    pub contents: Vec<Content>,
}

/// A claim of the token that must be there: one of these texts, or a list that holds one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Where it may stand. Each that is there is held against the texts.
    pub claims: Vec<Pointer>,
    pub one_of: Vec<Content>,
}

/// In which form the URL is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UrlRule {
    pub query: SignedQuery,
    /// Some senders write the default port out, some leave it out: both are tried.
    pub either_port: bool,
}

/// Ids and other signed header values.
const MAX_VALUE: usize = 256;

impl Recipe {
    /// The same for a provider that was given this URL; as it was if there is none.
    #[must_use]
    pub fn at(mut self, url: Option<&PublicUrl>) -> Self {
        self.url = url.cloned().or(self.url);
        self
    }

    /// Whether a signature vouches for the value of `source`.
    pub fn covers(&self, source: &Source) -> bool {
        self.is_shown() || self.content.covers(source) || (source.is_in_body() && self.covers_body())
    }

    /// Whether the sender only shows who it is, so that nothing vouches for what it says.
    pub fn is_shown(&self) -> bool {
        self.algorithm == Algorithm::Token || self.assurance == Assurance::Authenticated
    }

    /// Whether the body is a token, or an object of which it is the only member.
    pub fn body_is_token(&self) -> bool {
        matches!(self.signature.format, SignatureFormat::Token { payload: TokenPayload::Inside, .. })
            && matches!(&*self.signature.from, [Source::Body | Source::Json(_)])
            && self.keys.is_some()
    }

    /// The same with the values of its route in it, where it names some. What has no value stays open, and
    /// nothing is taken under it.
    #[must_use]
    pub fn on(mut self, route: &Parameters) -> Self {
        let all = |contents: &[Content]| contents.iter().flat_map(|c| c.on(route)).collect::<Vec<_>>();
        let mut contents = self.content.on(route).into_iter();
        if let Some(first) = contents.next() {
            self.content = first;
        }
        self.variants = contents.chain(all(&self.variants)).collect();
        for equality in self.also.iter_mut().chain(&mut self.given) {
            equality.contents = all(&equality.contents);
        }
        for demand in &mut self.claims {
            demand.one_of = all(&demand.one_of);
        }
        self
    }

    /// Whether a signature vouches for every byte of the body.
    pub fn covers_body(&self) -> bool {
        let by_equality = |equality: &Equality| {
            equality.contents.iter().all(Content::covers_body) && self.content.covers(&equality.source)
        };
        self.content.covers_body() || self.body_is_token() || self.also.iter().any(by_equality)
    }

    /// Whether an id from there tells events apart. Not where the signature leaves something open: whoever
    /// puts that beside the id would make the genuine event a copy of it. And not where the Content-Type
    /// says how it is found: who changes that could hide the id, and the event would be another one.
    pub fn identifies(&self, source: &Source) -> bool {
        let by_type = match source {
            Source::Form(_) | Source::Multipart(_) => true,
            Source::Json(_) => self.payload.is_some(),
            _ => false,
        };
        (self.closed || self.is_shown() || (self.by_fields && self.content.keeps(source)))
            && self.covers(source)
            && (!by_type || self.content.keeps(&Source::Header(CONTENT_TYPE)))
    }

    /// Whether whoever has seen one delivery can put more behind what is signed: a plain digest
    /// continues where it stopped, unless the secret stands at the end. What is put there has to
    /// begin with the digest's own padding, which no text holds.
    pub fn is_extensible(&self) -> bool {
        self.algorithm.is_digest() && self.contents().any(|content| !content.ends_with_secret())
    }

    /// Each form in which the content may have been signed.
    pub fn contents(&self) -> impl Iterator<Item = &Content> {
        std::iter::once(&self.content).chain(&self.variants)
    }

    /// Whether a tag of the one has the shape of a tag of the other, so that only the code itself
    /// tells whose it is.
    pub fn shares_tags_with(&self, other: &Recipe) -> bool {
        self.signature == other.signature && self.algorithm.tag_len() == other.algorithm.tag_len()
    }

    /// Whether the URL that the provider was given must be known.
    pub fn needs_url(&self) -> bool {
        let equal = self.also.iter().flat_map(|equality| &equality.contents);
        self.contents()
            .chain(equal)
            .flat_map(Content::pieces)
            .any(|piece| matches!(piece, Piece::Url | Piece::UrlWithoutQuery))
    }

    /// Whether the query is part of what it reads.
    pub fn reads_query(&self) -> bool {
        self.needs_url() || self.sources().any(|source| matches!(source, Source::Query(_)))
    }

    /// Whether a form is signed by its fields, or equal to something that is signed.
    pub fn reads_form(&self) -> bool {
        let equal = self.also.iter().flat_map(|equality| &equality.contents);
        self.contents().chain(equal).flat_map(Content::pieces).any(Piece::reads_form)
    }

    /// Whether something that it reads is a field of a multipart body.
    pub fn reads_multipart(&self) -> bool {
        self.sources().any(|source| matches!(source, Source::Multipart(_)))
    }

    /// The pointers that this recipe reads from JSON, in the body or in its payload; each once.
    pub fn pointers(&self) -> Vec<Pointer> {
        distinct(self.sources().filter_map(|source| match source {
            Source::Json(pointer) | Source::Inner(pointer, _) => Some(pointer),
            _ => None,
        }))
    }

    /// The claims that this recipe reads from its token.
    pub fn claims(&self) -> Vec<Pointer> {
        let read = self.sources().filter_map(|source| match source {
            Source::Claim(pointer) => Some(pointer),
            _ => None,
        });
        distinct(read.chain(self.claims.iter().flat_map(|demand| &demand.claims)))
    }

    /// Whether each element of a list holds a signature, and every one of them must hold.
    pub fn is_of_each(&self) -> bool {
        matches!(&*self.signature.from, [Source::Each(..)])
    }

    /// A list that something is read from which must be one value.
    pub fn misplaced_each(&self) -> Option<&Source> {
        let is_each = |source: &&Source| matches!(source, Source::Each(..));
        self.sources().filter(is_each).nth(usize::from(self.is_of_each()))
    }

    /// The headers that mean something to this recipe.
    pub fn headers(&self) -> Vec<HeaderName> {
        let lists = self.content.pieces().filter_map(|piece| match piece {
            Piece::ListedHeaders(list) => Some(list.clone()),
            _ => None,
        });
        self.sources().filter_map(Source::header).cloned().chain(lists).collect()
    }

    /// Everything that this recipe reads.
    fn sources(&self) -> impl Iterator<Item = &Source> {
        let times = self.timestamp.iter().flat_map(|rule| rule.from.iter().chain(&rule.expires));
        let equal = self.also.iter().chain(&self.given).flat_map(|equality| {
            let values = equality.contents.iter().flat_map(Content::values);
            [&equality.source].into_iter().chain(values.map(|(_, source, _)| source))
        });
        self.signature
            .from
            .iter()
            .chain(self.content.values().map(|(_, source, _)| source))
            .chain(equal)
            .chain(&self.when)
            .chain(&self.id)
            .chain(&self.distinct)
            .chain(&self.event_type)
            .chain(&self.action)
            .chain(&self.looked_at)
            .chain(times)
            .chain(self.keys.iter().flat_map(KeyPlace::sources))
    }
}

fn distinct<'p>(pointers: impl Iterator<Item = &'p Pointer>) -> Vec<Pointer> {
    let mut all = Vec::new();
    for pointer in pointers {
        if !all.contains(pointer) {
            all.push(pointer.clone());
        }
    }
    all
}

/// What is known of a delivery that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assurance {
    /// Its sender signed every byte of the body.
    Verified,
    /// Its sender signed some values, or in a way that leaves open where one ends and the next
    /// begins: something could have been changed on the way.
    Partial,
    /// Its sender showed a secret that is the same every time, and signed nothing.
    Authenticated,
}

impl Assurance {
    pub const fn label(self) -> &'static str {
        match self {
            Assurance::Verified => "verified",
            Assurance::Partial => "partial",
            Assurance::Authenticated => "authenticated",
        }
    }
}

/// Visible ASCII of a sane length: what may be signed, logged and sent on as an id. Every byte is looked
/// at, which many instructions can do for several of them at once.
pub fn is_plain(value: &[u8]) -> bool {
    let sane = !value.is_empty() && value.len() <= MAX_VALUE;
    sane && value.iter().fold(true, |all, b| all & (0x20..=0x7e).contains(b))
}
