//! The configuration file as it is written: a mirror for serde, nothing more.
//! Unknown keys are errors; values that others must be judged against keep their place.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_saphyr::Spanned;

use super::handshake;
use super::units::{ByteSize, Cidr, HostName, Moment, Rate, Senders, Span, UpstreamUrl};
use crate::gate::parse::url::SignedQuery;
use crate::gate::scheme::algorithm::{Algorithm, Encoding};
use crate::gate::scheme::key::KeyRule;
use crate::gate::scheme::timestamp::TimeUnit;

/// The whole file. Every key has a flag of the same name, with `-` for `_`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Addresses for plain HTTP.
    #[schemars(with = "Option<Vec<String>>")]
    pub listen: Option<Vec<SocketAddr>>,
    /// Addresses for HTTPS.
    #[schemars(with = "Option<Vec<String>>")]
    pub listen_tls: Option<Vec<SocketAddr>>,
    #[schemars(with = "Option<PathBuf>")]
    pub tls_cert_file: Option<Spanned<PathBuf>>,
    #[schemars(with = "Option<PathBuf>")]
    pub tls_key_file: Option<Spanned<PathBuf>>,
    #[schemars(with = "Option<PathBuf>")]
    pub tls_client_ca_file: Option<Spanned<PathBuf>>,
    /// Address for health and metrics.
    #[schemars(with = "Option<String>")]
    pub ops_listen: Option<SocketAddr>,
    /// Names under which health and metrics may be asked, beside addresses and `localhost`.
    pub ops_hosts: Option<Vec<HostName>>,
    pub upstream: Option<UpstreamUrl>,
    pub upstream_timeout: Option<Span>,
    pub upstream_connect_timeout: Option<Span>,
    /// Networks whose forwarding headers count.
    pub trusted_proxies: Option<Vec<Cidr>>,
    pub real_ip_header: Option<RealIpHeader>,
    pub proxy_protocol: Option<ProxyProtocol>,
    pub insecure_allow_http: Option<bool>,
    pub insecure_short_secret: Option<bool>,
    pub limits: Limits,
    pub header_timeout: Option<Span>,
    pub body_timeout: Option<Span>,
    pub idle_timeout: Option<Span>,
    pub replay: Replay,
    /// Unix socket on which `hookgate forget` reaches the gate.
    #[schemars(with = "Option<PathBuf>")]
    pub control_socket: Option<Spanned<PathBuf>>,
    pub shutdown_delay: Option<Span>,
    pub shutdown_timeout: Option<Span>,
    pub reload_interval: Option<Span>,
    pub threads: Option<usize>,
    #[cfg(feature = "otel")]
    pub otlp_endpoint: Option<super::units::OtlpEndpoint>,
    pub log_format: Option<LogFormat>,
    pub log_level: Option<LogLevel>,
    #[schemars(with = "Vec<Route>")]
    pub routes: Vec<Spanned<Route>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// For routes that set none and whose provider sets none.
    pub max_body: Option<ByteSize>,
    /// Sum of the bodies that are held at once.
    pub max_buffered: Option<ByteSize>,
    pub max_connections: Option<usize>,
    /// For each peer that is no trusted proxy.
    pub max_connections_per_address: Option<usize>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Replay {
    /// `memory`, or a `redis://` URL for several gates.
    #[schemars(with = "Option<String>")]
    pub store: Option<Spanned<String>>,
    /// What all keys in a shared store begin with: one for each application, the same for its
    /// replicas. Required with a shared store.
    #[schemars(with = "Option<String>")]
    pub prefix: Option<Spanned<String>>,
    /// The shared store's password.
    #[schemars(with = "Option<PathBuf>")]
    pub password_file: Option<Spanned<PathBuf>>,
    /// Authorities of the shared store's certificate, instead of the system's (PEM).
    #[schemars(with = "Option<PathBuf>")]
    pub ca_file: Option<Spanned<PathBuf>>,
    /// For each call of a shared store.
    #[schemars(with = "Option<Span>")]
    pub timeout: Option<Spanned<Span>>,
    /// When a shared store does not answer.
    pub on_store_error: Option<OnStoreError>,
    #[schemars(with = "Option<Span>")]
    pub window: Option<Spanned<Span>>,
    pub capacity: Option<usize>,
    /// Keeps the memory over a restart.
    #[schemars(with = "Option<PathBuf>")]
    pub file: Option<Spanned<PathBuf>>,
}

/// One endpoint.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// The name in metrics and logs.
    pub name: Option<String>,
    /// The exact raw path; a trailing `*` makes a prefix.
    #[schemars(with = "Option<String>")]
    pub path: Option<Spanned<String>>,
    /// A preset.
    #[schemars(with = "Option<String>")]
    pub provider: Option<Spanned<String>>,
    /// Instead of a preset, in the words of one.
    #[schemars(with = "Option<Scheme>")]
    pub scheme: Option<Spanned<Scheme>>,
    /// The URL that the provider was given; for providers that sign it.
    #[schemars(with = "Option<String>")]
    pub public_url: Option<Spanned<String>>,
    /// Newest first.
    pub secrets: Vec<SecretSource>,
    /// Who may send: networks, or `published` for the list that the provider's preset holds. If
    /// absent, whom the preset demands, or anybody; nobody if empty.
    pub allow_ips: Option<Vec<Senders>>,
    /// One network a line, `#` starts a comment. Added to `allow_ips`.
    #[schemars(with = "Option<PathBuf>")]
    pub allow_ip_file: Option<Spanned<PathBuf>>,
    /// Per client address.
    pub rate_limit: Option<RateLimit>,
    /// Failed signatures per client address.
    pub failure_limit: Option<Rate>,
    pub max_body: Option<ByteSize>,
    pub tolerance: Option<Span>,
    pub future_tolerance: Option<Span>,
    pub mode: Option<Mode>,
    /// How long the route may go without accepting an event before that is worth telling.
    #[schemars(with = "Option<Span>")]
    pub expect_every: Option<Spanned<Span>>,
    pub status: Status,
    /// The questions that providers ask before or between events: who answers them, or the
    /// route's own instead of its provider's.
    #[schemars(with = "Option<handshake::Words>")]
    pub handshake: Option<Spanned<handshake::Words>>,
    /// The token that a provider proves itself with in a handshake (Meta's `hub.verify_token`).
    #[schemars(with = "Option<PathBuf>")]
    pub handshake_token_file: Option<Spanned<PathBuf>>,
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
    limit: Option<Rate>,
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
    #[schemars(with = "PathBuf")]
    pub file: Spanned<PathBuf>,
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
pub struct Scheme {
    pub algorithm: Algorithm,
    #[serde(default)]
    pub key: KeyRule,
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
    #[serde(default)]
    pub url: Url,
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
    pub schemes: Vec<Scheme>,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Refuse what fails a check.
    Enforce,
    /// Forward it, and record what would have been refused.
    Observe,
}

/// What a gate does while its shared store does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OnStoreError {
    /// Answers 503: the provider sends the event again.
    Refuse,
    /// Remembers events by itself for the time: another gate may deliver them again.
    Local,
}

/// The header in which trusted proxies name the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum RealIpHeader {
    /// A list, walked from the right.
    XForwardedFor,
    XRealIp,
    CfConnectingIp,
    TrueClientIp,
}

/// Whether trusted proxies name the sender before the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, clap::ValueEnum)]
#[schemars(rename_all = "lowercase")]
pub enum ProxyProtocol {
    #[value(aliases = ["no", "false"])]
    Off,
    Optional,
    Required,
}

impl<'de> Deserialize<'de> for ProxyProtocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        clap::ValueEnum::from_str(&word, true).map_err(|_| {
            serde::de::Error::custom(format!(
                "\"{word}\" is no way to take the PROXY protocol: write off, optional or required"
            ))
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Json,
    Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

macro_rules! display_as_value {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let value = clap::ValueEnum::to_possible_value(self);
                f.write_str(value.as_ref().map_or("", clap::builder::PossibleValue::get_name))
            }
        }
    )*};
}
display_as_value!(Mode, OnStoreError, RealIpHeader, ProxyProtocol, LogFormat, LogLevel);

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
