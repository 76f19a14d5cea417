//! The words for schemes and presets as they are written: a mirror for serde, nothing more.
//! Unknown keys are errors; values that others must be judged against keep their place.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::handshake;
use super::units::{ByteSize, Cidr, Moment, Rate, Span};
use crate::gate::parse::url::SignedQuery;
use crate::gate::scheme::algorithm::{Algorithm, Encoding};
use crate::gate::scheme::key::KeyRule;
use crate::gate::scheme::timestamp::TimeUnit;

/// Statuses instead of the usual ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Status {
    /// Instead of 401.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<u16>,
    /// Instead of 400.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u16>,
    /// Instead of 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<u16>,
}

/// One way of signing.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Scheme")]
pub struct SchemeWords {
    /// How a tag is computed over the content.
    pub algorithm: Algorithm,
    /// How the secret's text becomes the key.
    #[serde(default)]
    pub key: KeyRule,
    /// Where the tags stand, and in which form.
    pub signature: SignatureSource,
    /// What is signed: `{body}`, `{header:Name}`, `{kv:field}` and so on, other text as it stands.
    /// Not with `algorithm: token`. A list where senders write the same values in different ways.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "Vec<String>")]
    pub content: Vec<String>,
    /// What must hold besides the signature, such as `query:bodySHA256 == {body|sha256hex}`; ` or `
    /// stands between two templates of which one must hold.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "Vec<String>")]
    pub also: Vec<String>,
    /// Sources without which a delivery is not signed in this way.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "Vec<String>")]
    pub when: Vec<String>,
    /// Where the JSON is if it is not the whole body: `form:field` or `multipart:field`.
    pub payload: Option<String>,
    /// `false` if the provider leaves the body, or a part of it, unsigned.
    pub signs_body: Option<bool>,
    /// `partial` if the provider leaves open where one signed value ends and the next begins.
    pub assurance: Option<Claimed>,
    /// How the URL is signed, if the content holds it.
    #[serde(default)]
    pub url: Url,
    /// Where the signed time stands, and how it is judged.
    pub timestamp: Option<Timestamp>,
    /// Where the event's id stands: `header:Name`, `kv:field` or `json:/pointer`.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "Vec<String>")]
    pub id: Vec<String>,
    /// Where the event's type stands.
    #[serde(default, rename = "type", deserialize_with = "one_or_many")]
    #[schemars(with = "Vec<String>")]
    pub event_type: Vec<String>,
}

/// What a scheme may be said to prove: never more than what is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Claimed {
    /// Something could be changed on the way.
    Partial,
}

/// How the URL is signed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Url {
    /// Whose query is signed: the one that the provider was given, or the one that came.
    pub query: SignedQuery,
    /// Whether the sender may write the default port out or not.
    pub either_port: bool,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignatureSource {
    /// `header:Name`, `query:name`, `json:/pointer` or `form:field`, or a list of such.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "Vec<String>")]
    pub from: Vec<String>,
    /// Whether the value is a tag, a list of them, or a token.
    #[serde(default)]
    pub format: SignatureFormat,
    /// What stands before each tag, such as `sha256=` or `v1,`.
    #[serde(default)]
    pub prefix: String,
    /// The characters between the elements of a list; each of them parts two.
    pub split: Option<String>,
    /// With `format: kv`: the character between a field's name and its value.
    #[serde(default = "equals")]
    pub assign: char,
    /// With `format: kv`: the fields that hold tags; `*` for all.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Needless with tokens, which have one of their own.
    pub encoding: Option<Encoding>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureFormat {
    /// The header is a tag, or a list of tags.
    #[default]
    Plain,
    /// The header is a list of `name=value`.
    Kv,
    /// The header is a list in which the place tells the meaning; fields are named `0`, `1` and so on.
    Positional,
    /// A JSON Web Token; what it binds stands in `also`.
    Jwt,
    /// A JSON Web Signature whose payload is the content.
    JwsDetached,
}

const fn equals() -> char {
    '='
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timestamp {
    /// The first that is present decides.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "Vec<String>")]
    pub from: Vec<String>,
    /// How the time is written.
    pub unit: TimeUnit,
    /// Where the sender says until when the event is good.
    pub expires: Option<String>,
    /// How old an event may be.
    pub tolerance: Option<Span>,
    /// How far ahead the sender's clock may be.
    pub future_tolerance: Option<Span>,
}

/// A preset: `conf/providers/NAME.yaml`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// The provider's name as it writes it.
    pub title: String,
    /// Where the facts come from.
    pub source: String,
    pub evidence: Evidence,
    /// What the user should know.
    pub notes: Option<String>,
    /// The addresses that events must come from unless the route says otherwise.
    pub allow_ips: Option<Vec<Cidr>>,
    /// The addresses that the provider publishes and changes: in effect where a route asks for them.
    pub published_ips: Option<PublishedIps>,
    pub rate_limit: Option<Rate>,
    pub max_body: Option<ByteSize>,
    #[serde(default)]
    pub status: Status,
    /// The methods that it sends with, if not only POST.
    #[serde(default)]
    pub methods: Vec<String>,
    /// The first that fits is answered.
    #[serde(default)]
    pub handshake: Vec<handshake::Raw>,
    /// The first whose signature header is present decides alone.
    pub schemes: Vec<SchemeWords>,
}

/// A list of addresses, and how old it is.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishedIps {
    /// When the provider published it.
    pub as_of: Moment,
    /// Where the provider publishes the current one.
    pub source: String,
    pub networks: Vec<Cidr>,
}

/// How sure the facts of a preset are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// A signature published by the provider verifies.
    Published,
    /// A signature made by the provider's own SDK verifies.
    Sdk,
    /// Read in the provider's documentation or SDK source.
    Documented,
    /// Sources conflict or are second-hand.
    Unconfirmed,
}

/// A single value may stand for a list of one.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct OneOrMany;

    impl<'de> Visitor<'de> for OneOrMany {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a value or a list of values")
        }

        fn visit_str<E>(self, value: &str) -> Result<Vec<String>, E> {
            Ok(vec![value.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<String>, A::Error> {
            let mut values = Vec::new();
            while let Some(value) = seq.next_element()? {
                values.push(value);
            }
            Ok(values)
        }
    }

    deserializer.deserialize_any(OneOrMany)
}
