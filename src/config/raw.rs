//! The words for routes, schemes and presets as they are written: a mirror for serde, nothing more.
//! Unknown keys are errors; values that others must be judged against keep their place.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::checks::Mode;
use super::handshake;
use super::list;
use super::located::Located;
use super::units::{ByteSize, Cidr, Moment, Rate, Senders, Span};
use crate::gate::parse::url::SignedQuery;
use crate::gate::scheme::algorithm::{Algorithm, Encoding};
use crate::gate::scheme::key::KeyRule;
use crate::gate::scheme::timestamp::TimeUnit;

/// One endpoint.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// The name in metrics and logs.
    pub name: Option<Located<String>>,
    /// The exact raw path; a trailing `*` makes a prefix.
    pub path: Option<Located<String>>,
    /// The name of a preset.
    pub provider: Option<Located<String>>,
    /// Instead of a preset, in the words of one.
    pub scheme: Option<Located<SchemeWords>>,
    /// The URL that the provider was given; for providers that sign it.
    pub public_url: Option<Located<String>>,
    /// The signing secrets, newest first.
    #[serde(deserialize_with = "list::of_keys")]
    pub secrets: Vec<SecretSource>,
    /// Who may send: networks, or `published` for the list that the provider's preset holds. If
    /// absent, whom the preset demands, or anybody; nobody if empty.
    #[serde(deserialize_with = "list::of_any")]
    pub allow_ips: Option<Vec<Located<Senders>>>,
    /// One network a line, `#` starts a comment. Added to `allow_ips`.
    pub allow_ip_file: Option<Located<PathBuf>>,
    /// Requests per client address.
    pub rate_limit: Option<Located<RateLimit>>,
    /// Failed signatures per client address.
    pub failure_limit: Option<Located<Rate>>,
    /// Largest body; the provider's or `limits.max_body` if absent.
    pub max_body: Option<Located<ByteSize>>,
    /// How old an event may be; the provider's, else 5m, if absent.
    pub tolerance: Option<Located<Span>>,
    /// How far ahead the sender's clock may be; the provider's, else 5m, if absent.
    pub future_tolerance: Option<Located<Span>>,
    /// Whether it refuses, or forwards and records what would have been refused.
    pub mode: Option<Located<Mode>>,
    /// How long the route may go without accepting an event before that is worth telling.
    pub expect_every: Option<Located<Span>>,
    /// Statuses instead of the usual ones.
    pub status: Status,
    /// The questions that providers ask before or between events: who answers them, or the
    /// route's own instead of its provider's.
    pub handshake: Option<Located<handshake::Words>>,
    /// The token that a provider proves itself with in a handshake (Meta's `hub.verify_token`).
    pub handshake_token_file: Option<Located<PathBuf>>,
}

/// `100/1m`, or `{ limit: 100/1m, shared: true }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The provider's, if absent.
    pub limit: Option<Rate>,
    /// Counted together by all gates with the same replay store.
    pub shared: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SharedRateLimit {
    /// The provider's, if absent.
    limit: Option<Rate>,
    /// Counted together by all gates with the same replay store.
    #[serde(default)]
    shared: bool,
}

impl<'de> Deserialize<'de> for RateLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PlainOrShared;

        impl<'de> Visitor<'de> for PlainOrShared {
            type Value = RateLimit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rate such as 100/1m, or { limit: 100/1m, shared: true }")
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<RateLimit, E> {
                let limit = Some(value.parse().map_err(E::custom)?);
                Ok(RateLimit { limit, shared: false })
            }

            /// `off` without quotes is a boolean in YAML.
            fn visit_bool<E: serde::de::Error>(self, on: bool) -> Result<RateLimit, E> {
                self.visit_str(if on { "on" } else { "off" })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RateLimit, A::Error> {
                let SharedRateLimit { limit, shared } =
                    SharedRateLimit::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(RateLimit { limit, shared })
            }
        }

        deserializer.deserialize_any(PlainOrShared)
    }
}

impl JsonSchema for RateLimit {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RateLimit".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let plain = generator.subschema_for::<Rate>();
        let shared = generator.subschema_for::<SharedRateLimit>();
        schemars::json_schema!({ "anyOf": [plain, shared] })
    }
}

/// A secret and the id that stands for it in logs and metrics.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretSource {
    /// The file's name, if absent.
    pub id: Option<String>,
    /// The file that holds the secret; one newline at its end is no part of it.
    pub file: Located<PathBuf>,
    /// When it ceases to be valid: a date, which counts to its end in UTC, or a time.
    pub not_after: Option<Moment>,
}

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
