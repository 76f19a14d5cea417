//! The words of a route: each is a key of the file, and where there is a flag for it, that too. Of one
//! route all flags are taken; of several, those that make sense for all.

#![allow(clippy::doc_markdown, reason = "doc comments are the help text, which shows no backticks")]

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use clap::builder::EnumValueParser;
use schemars::JsonSchema;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::values::Values;
use crate::config::Origin;
use crate::config::checks::Mode;
use crate::config::handshake;
use crate::config::list;
use crate::config::located::{FlagValue, Located, Locating, Overlay, overlay, read_by, read_by_from_str};
use crate::config::raw::{Answer, Events, Methods, RouteReplay, SchemeWords, Status};
use crate::config::units::{ByteSize, Moment, Rate, Senders, Span, display_as_value};
use crate::gate::identity;

overlay! {
    #[derive(Clone, Debug, Default, Args, Deserialize, JsonSchema)]
    #[command(next_help_heading = "The route")]
    #[serde(deny_unknown_fields, default)]
    #[schemars(rename = "Route")]
    pub struct RouteWords {
        /// The name in metrics and logs.
        #[arg(skip)]
        pub name: Option<Located<String>>,

        /// `true`: the application's other traffic. Whatever comes is passed on unverified, with `Hookgate-Verdict: observed`.
        #[arg(skip)]
        pub pass: Option<Located<bool>>,

        /// Who sends: the name of a preset [default: scalekit]
        #[arg(long, value_name = "NAME")]
        pub provider: Option<Located<String>>,

        /// Instead of a preset, in the words of one.
        #[arg(skip)]
        pub scheme: Option<Located<SchemeWords>>,

        /// Exact raw path; a trailing `*` makes a prefix [default: /webhooks]
        #[arg(long, value_name = "PATH")]
        pub path: Option<Located<String>>,

        /// Where deliveries name the tenant whose secrets judge them, if that is not `{tenant}` in the path.
        #[arg(skip)]
        pub tenant: Option<Located<Tenant>>,

        /// The URL that the provider was given, if it is one that signs it
        #[arg(long, value_name = "URL")]
        pub public_url: Option<Located<String>>,

        /// File with a signing secret; repeatable, newest first; its name is the key's id.
        /// For trials, HOOKGATE_SECRET may hold the secret itself
        #[arg(long = "secret-file", value_name = "PATH", value_delimiter = ',')]
        #[serde(deserialize_with = "list::of_keys")]
        #[schemars(schema_with = "list::schema_of_keys::<RouteSecret>")]
        pub secrets: Option<Vec<RouteSecret>>,

        /// Who answers the provider's handshakes: answer is the gate, confirm the gate also where it has to visit an address
        /// of the provider's for that, forward the application, off nobody [default: answer]
        #[arg(long, value_name = "WHO", ignore_case = true)]
        pub handshake: Option<Located<handshake::Words>>,

        /// File with the token that the provider proves itself with in a handshake (Meta's verify token)
        #[arg(long, value_name = "PATH")]
        pub handshake_token_file: Option<Located<PathBuf>>,

        /// Tell when no event has been accepted for so long, in hookgate_silence_seconds and in the log
        #[arg(long, value_name = "DURATION")]
        pub expect_every: Option<Located<Span>>,

        /// Network that may send, or published for the addresses that the provider publishes; repeatable [default: the
        /// networks that the provider's preset demands, else any]
        #[arg(long = "allow-ip", value_name = "CIDR", value_delimiter = ',', help_heading = "Checks")]
        #[serde(deserialize_with = "list::of_any")]
        pub allow_ips: Option<Vec<Located<Senders>>>,

        /// File with one network a line, added to --allow-ip; reloaded on change
        #[arg(long, value_name = "PATH", help_heading = "Checks")]
        pub allow_ip_file: Option<Located<PathBuf>>,

        /// How old an event may be [default: the provider's, else 5m]
        #[arg(long, value_name = "DURATION", help_heading = "Checks")]
        pub tolerance: Option<Located<Span>>,

        /// How far ahead the sender's clock may be [default: the provider's, else 5m]
        #[arg(long, value_name = "DURATION", help_heading = "Checks")]
        pub future_tolerance: Option<Located<Span>>,

        /// Requests per route and client address: N/PERIOD or off [default: 100/1m]
        #[arg(long, value_name = "RATE", help_heading = "Checks")]
        pub rate_limit: Option<Located<RateLimit>>,

        /// Failed signatures per route and client address, after which few are verified: N/PERIOD or off [default: 100/1m]
        #[arg(long, value_name = "RATE", help_heading = "Checks")]
        pub failure_limit: Option<Located<Rate>>,

        /// enforce refuses; observe forwards and records what would have been refused [default: enforce]
        #[arg(long, value_name = "MODE", help_heading = "Checks")]
        pub mode: Option<Located<Mode>>,

        /// Largest body [default: the provider's, else 1MiB]
        #[arg(long, value_name = "SIZE", help_heading = "Limits")]
        pub max_body: Option<Located<ByteSize>>,

        /// The methods that are taken; the provider's, else POST, if absent.
        #[arg(skip)]
        pub methods: Option<Located<Methods>>,

        /// What tells two events apart; the provider's, else `signed`, if absent.
        #[arg(skip)]
        pub identity: Option<Located<identity::Rule>>,

        /// How long its delivered events are remembered, if not as long as those of other routes.
        #[arg(skip)]
        pub replay: Option<RouteReplay>,

        /// Which of the verified events the application gets; all if absent.
        #[arg(skip)]
        pub events: Option<Located<Events>>,

        /// Answers instead of the usual ones.
        #[arg(skip)]
        pub status: Option<Status>,

        /// With providers whose keys are fetched: the topics of SNS that may send.
        #[arg(skip)]
        pub topic_arns: Option<Located<Values>>,

        /// The same: for whom a token was made.
        #[arg(skip)]
        pub audience: Option<Located<Values>>,

        /// The same: the account that a token was made for.
        #[arg(skip)]
        pub service_account: Option<Located<Values>>,

        /// The same: the webhook's id at PayPal.
        #[arg(skip)]
        pub webhook_id: Option<Located<Values>>,

        /// The same: the app's bundle id at Apple.
        #[arg(skip)]
        pub bundle_id: Option<Located<Values>>,

        /// The same: which of the provider's environments sends.
        #[arg(skip)]
        pub environment: Option<Located<Values>>,

        /// The same: the directory (tenant) id at Microsoft.
        #[arg(skip)]
        pub tenant_id: Option<Located<Values>>,

        /// The same: the client id that the provider has given to the application.
        #[arg(skip)]
        pub client_id: Option<Located<Values>>,

        /// The same: the application or skill that events are for.
        #[arg(skip)]
        pub application_id: Option<Located<Values>>,

        /// The same: the user or account at the provider.
        #[arg(skip)]
        pub user_id: Option<Located<Values>>,

        /// The same: the address of the API whose keys sign.
        #[arg(skip)]
        pub api_url: Option<Located<Values>>,

        /// The same: the address of the service whose keys sign.
        #[arg(skip)]
        pub auth_url: Option<Located<Values>>,

        /// The same: who makes the tokens.
        #[arg(skip)]
        pub issuer: Option<Located<Values>>,

        /// The same: files with what the provider's API demands before it gives a key.
        #[arg(skip)]
        pub credentials: Option<Located<BTreeMap<String, PathBuf>>>,

        /// How the application is shown that an event came through the gate; not at all if absent.
        #[arg(skip)]
        pub resign: Option<Resign>,

        /// How much of the route reaches the application, and how fast; without bounds if absent.
        #[command(flatten)]
        pub deliver: Deliver,

        /// What is stored and delivered later; nothing if absent.
        #[command(flatten)]
        pub inbox: Inbox,
    }
}

overlay! {
    /// How much of a route reaches the application at once, and how fast. What has to wait longer than its sender
    /// would is answered 503.
    #[derive(Clone, Debug, Default, Args, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    pub struct Deliver {
        /// Deliveries of one route to the application at once; more wait a moment, then get 503 [default: without bound]
        #[arg(long, value_name = "N", help_heading = "Limits")]
        pub max_concurrent: Option<Located<usize>>,

        /// Deliveries of the route in a time, such as `50/s`; more wait a moment, then get 503.
        #[arg(skip)]
        pub rate: Option<Located<Rate>>,
    }
}

overlay! {
    /// What is acknowledged before the application has taken it, and how it is delivered later.
    #[derive(Clone, Debug, Default, Args, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    #[group(skip)]
    #[schemars(rename = "RouteInbox")]
    pub struct Inbox {
        /// failure stores an event that the application fails on or is too slow with; always stores each before the
        /// application is asked; needs --state-dir or --replay-store [default: off]
        #[arg(long = "inbox", id = "inbox_on", value_name = "WHEN", ignore_case = true, help_heading = "Inbox")]
        pub on: Option<Located<StoreOn>>,

        /// How long the application may take before its event is stored; 0.6 of the time that the sender waits, if absent.
        #[arg(skip)]
        pub answer_within: Option<Located<Span>>,

        /// When a stored event is tried again.
        #[arg(skip)]
        pub retry: Option<Retry>,

        /// Statuses after which the application is not asked again; 400, 404, 410 and 422 if absent.
        #[arg(skip)]
        #[serde(deserialize_with = "list::of_any")]
        pub dead_on: Option<Vec<Located<u16>>>,

        /// What the sender of a stored event is answered: `202`, or `{ status: 200, text: Thanks }`; what the provider
        /// wants, if absent.
        #[arg(skip)]
        pub ack: Option<Located<Answer>>,
    }
}

impl Inbox {
    /// Where something is said of it, if anything is.
    fn place(&self) -> Option<Located<()>> {
        let Inbox { on, answer_within, retry, dead_on, ack } = self;
        let unplaced = || Located::new((), Origin::File);
        (on.as_ref().map(|on| on.clone().map(|_| ())))
            .or_else(|| answer_within.as_ref().map(|span| span.clone().map(|_| ())))
            .or_else(|| ack.as_ref().map(|ack| ack.clone().map(|_| ())))
            .or_else(|| (retry.is_some() || dead_on.is_some()).then(unplaced))
    }
}

/// When a stored event is tried again: the waits double, and each is drawn evenly below that.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// The longest first wait; 1s if absent.
    pub first: Option<Located<Span>>,
    /// The longest wait; 1h if absent.
    pub max: Option<Located<Span>>,
    /// How long after it came an event is given up; 24h if absent.
    pub give_up: Option<Located<Span>>,
}

/// When a route stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, clap::ValueEnum)]
#[schemars(rename_all = "lowercase")]
pub enum StoreOn {
    #[value(aliases = ["no", "false"])]
    Off,
    Failure,
    Always,
}

impl<'de> Deserialize<'de> for StoreOn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        clap::ValueEnum::from_str(&word, true).map_err(|_| {
            serde::de::Error::custom(format!("\"{word}\" is no time to store: write off, failure or always"))
        })
    }
}
display_as_value!(StoreOn);
read_by!(EnumValueParser<Self>: StoreOn);

impl RouteWords {
    /// A route of the file under the flags.
    #[must_use]
    pub fn of_file(&self, mut below: RouteWords) -> RouteWords {
        let mut flags = self.clone();
        if flags.provider.is_some() {
            below.scheme = None; // a preset instead of the route's own scheme
        }
        if let (Some(flag), Some(own)) = (&mut flags.rate_limit, &below.rate_limit) {
            flag.value.shared = own.value.shared; // who counts is no matter of how much
        }
        if below.passes() {
            // Of several routes these are for those that verify.
            (flags.tolerance, flags.future_tolerance) = (None, None);
            (flags.failure_limit, flags.mode, flags.inbox) = (None, None, Inbox::default());
        }
        flags.over(below)
    }

    /// Whether the route passes on what comes.
    pub fn passes(&self) -> bool {
        self.pass.as_ref().is_some_and(|pass| pass.value)
    }

    /// What the route says of itself, by its keys.
    pub fn of_itself(&self) -> [(&'static str, Option<&Located<Values>>); 13] {
        [
            ("topic_arns", self.topic_arns.as_ref()),
            ("audience", self.audience.as_ref()),
            ("service_account", self.service_account.as_ref()),
            ("webhook_id", self.webhook_id.as_ref()),
            ("bundle_id", self.bundle_id.as_ref()),
            ("environment", self.environment.as_ref()),
            ("tenant_id", self.tenant_id.as_ref()),
            ("client_id", self.client_id.as_ref()),
            ("application_id", self.application_id.as_ref()),
            ("user_id", self.user_id.as_ref()),
            ("api_url", self.api_url.as_ref()),
            ("auth_url", self.auth_url.as_ref()),
            ("issuer", self.issuer.as_ref()),
        ]
    }

    /// The keys that are given and speak of what is verified, and their places.
    pub fn of_verified(&self) -> Vec<(&'static str, Located<()>)> {
        fn place<T: Clone>(given: Option<&Located<T>>) -> Option<Located<()>> {
            Some(given?.clone().map(|_| ()))
        }

        let unplaced = || Located::new((), Origin::File);
        let secret = || self.secrets.iter().flatten().next().and_then(|secret| secret.file.as_ref());
        let secrets = self.secrets.as_ref().map(|_| place(secret()).unwrap_or_else(unplaced));
        let keys = [
            ("provider", place(self.provider.as_ref())),
            ("scheme", place(self.scheme.as_ref())),
            ("tenant", place(self.tenant.as_ref())),
            ("public_url", place(self.public_url.as_ref())),
            ("secrets", secrets),
            ("handshake", place(self.handshake.as_ref())),
            ("handshake_token_file", place(self.handshake_token_file.as_ref())),
            ("expect_every", place(self.expect_every.as_ref())),
            ("tolerance", place(self.tolerance.as_ref())),
            ("future_tolerance", place(self.future_tolerance.as_ref())),
            ("failure_limit", place(self.failure_limit.as_ref())),
            ("mode", place(self.mode.as_ref())),
            ("methods", place(self.methods.as_ref())),
            ("identity", place(self.identity.as_ref())),
            (
                "replay",
                self.replay.as_ref().map(|replay| place(replay.window.as_ref()).unwrap_or_else(unplaced)),
            ),
            ("events", place(self.events.as_ref())),
            ("status", self.status.as_ref().map(|_| unplaced())),
            ("credentials", place(self.credentials.as_ref())),
            ("inbox", self.inbox.place()),
            ("resign", place(self.resign.as_ref().map(|resign| &resign.manner))),
        ];
        let keys = keys.into_iter().chain(self.of_itself().map(|(key, given)| (key, place(given))));
        keys.filter_map(|(key, given)| Some((key, given?))).collect()
    }

    /// The flags that were given and speak of one route, by their names.
    pub fn of_one_route(&self) -> Vec<Arc<str>> {
        fn name<T>(given: Option<&Located<T>>) -> Option<Arc<str>> {
            given?.given_as.clone()
        }

        [
            name(self.provider.as_ref()),
            name(self.path.as_ref()),
            name(self.public_url.as_ref()),
            name(self.secrets.iter().flatten().next().and_then(|secret| secret.file.as_ref())),
            name(self.handshake.as_ref()),
            name(self.handshake_token_file.as_ref()),
            name(self.expect_every.as_ref()),
            name(self.allow_ips.iter().flatten().next()),
            name(self.allow_ip_file.as_ref()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// `100/1m`, or `{ limit: 100/1m, shared: true }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The provider's, if absent.
    pub limit: Option<Rate>,
    /// Counted together by all gates with the same replay store.
    pub shared: bool,
}

read_by_from_str!(RateLimit);

impl FromStr for RateLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(RateLimit { limit: Some(text.parse()?), shared: false })
    }
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
                value.parse().map_err(E::custom)
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

/// The signature that the application gets: `{ as: standard-webhooks, secrets: [{ file: … }] }`, or `{ as: same }`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resign {
    /// A preset whose way of signing is symmetric; or `same`: the provider's own, with its secret and a fresh time.
    #[serde(rename = "as")]
    pub manner: Located<String>,
    /// What gate and application share, newest first.
    #[serde(default, deserialize_with = "list::of_some_keys")]
    #[schemars(schema_with = "list::schema_of_keys::<SecretSource>")]
    pub secrets: Vec<SecretSource>,
}

/// Where deliveries name their tenant.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// `header:X-Name`, or `json:/pointer` in the body.
    pub from: Located<String>,
}

/// A secret that the gate signs with: for as long as it stands there.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretSource {
    /// The file's name, if absent.
    pub id: Option<Located<String>>,
    /// The file that holds the secret; one newline at its end is no part of it.
    pub file: Located<PathBuf>,
}

/// A provider's secret and the id that stands for it in logs and metrics; or where the secrets of tenants are
/// looked up.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteSecret {
    /// The file's name, if absent.
    pub id: Option<String>,
    /// The file that holds the secret; one newline at its end is no part of it.
    pub file: Option<Located<PathBuf>>,
    /// When it ceases to be valid: a date, which counts to its end in UTC, or a time.
    pub not_after: Option<Moment>,
    /// Of tenants: the folder that has a file of the tenant's name, or a folder of that name with a file for
    /// each secret.
    pub dir: Option<Located<PathBuf>>,
    /// Of tenants: a hash in the shared store, with a field for each tenant.
    pub store: Option<Located<String>>,
    /// Of tenants: a Unix socket that answers `GET /ROUTE/TENANT`.
    pub socket: Option<Located<PathBuf>>,
    /// How long what was looked up is used; `10s` for `dir` and `store`, `10m` for `socket`, if absent.
    pub cache: Option<Located<Span>>,
    /// How long it is believed that there is no such tenant, and no newer secret; `10s` if absent.
    pub negative: Option<Located<Span>>,
    /// How many tenants are kept in memory; `100000` if absent.
    pub max: Option<Located<usize>>,
}

/// As a flag it is the file alone.
impl From<Located<PathBuf>> for RouteSecret {
    fn from(file: Located<PathBuf>) -> Self {
        RouteSecret { file: Some(file), ..RouteSecret::default() }
    }
}

impl From<PathBuf> for RouteSecret {
    fn from(file: PathBuf) -> Self {
        Located::from(file).into()
    }
}

impl clap::builder::ValueParserFactory for RouteSecret {
    type Parser = Locating<<PathBuf as FlagValue>::Parser, RouteSecret>;

    fn value_parser() -> Self::Parser {
        Locating::new(PathBuf::parser())
    }
}
