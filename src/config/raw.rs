//! The words for schemes and presets as they are written: a mirror for serde, nothing more.
//! Unknown keys are errors; values that others must be judged against keep their place.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::handshake;
use super::list;
use super::located::Located;
use super::units::{ByteSize, Cidr, Moment, Rate, Span};
use crate::gate::identity;
use crate::gate::parse::url::SignedQuery;
use crate::gate::scheme::algorithm::{Algorithm, Encoding};
use crate::gate::scheme::key::KeyRule;
use crate::gate::scheme::timestamp::TimeUnit;

/// One method, or a list of them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Methods(
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "Vec<String>")]
    pub Vec<String>,
);

/// Which of the verified events a route takes. The others are answered and counted, and not remembered.
/// `*` in a text stands for any characters.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// The types that are taken, such as `push`, `pull_request.*` or `*.paid`; all if absent.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "Vec<String>")]
    pub take: Vec<String>,
    /// The types that are not taken, whatever else is said.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "Vec<String>")]
    pub drop: Vec<String>,
    /// Values that have to be one of these: `json:/ref: [refs/heads/main, "refs/tags/*"]`. All must
    /// hold; an event that does not have the value is not judged by it.
    #[serde(deserialize_with = "list::of_some_keys")]
    #[schemars(schema_with = "list::schema_of_keys::<BTreeMap<String, Texts>>")]
    pub when: Vec<BTreeMap<String, Texts>>,
}

/// One text, or a list of them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Texts(
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "Vec<String>")]
    pub Vec<String>,
);

/// What tells a provider's events apart, and why if that is not what it signs.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub by: identity::Rule,
    /// What two of its events can have in common.
    pub because: String,
}

/// What is remembered of a route's events.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteReplay {
    /// How long a delivered event is remembered; `replay.window` of the file if absent.
    pub window: Option<Located<Span>>,
}

/// Answers instead of the usual ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Status {
    /// Instead of 401.
    pub signature: Option<Answer>,
    /// Instead of 400.
    pub timestamp: Option<Answer>,
    /// Instead of 200 `Already processed`.
    pub duplicate: Option<Answer>,
    /// Instead of 202, for an event that is taken and not passed on at once, or not at all.
    pub ack: Option<Answer>,
}

/// A status, or `{ status: 200, text: Thanks, type: text/plain }`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: Option<u16>,
    pub text: Option<String>,
    pub media: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FullAnswer {
    /// As usual if absent.
    status: Option<u16>,
    /// The body; as usual if absent.
    text: Option<String>,
    /// The media type of the text; `text/plain` if absent.
    #[serde(rename = "type")]
    media: Option<String>,
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StatusOrMore;

        impl<'de> Visitor<'de> for StatusOrMore {
            type Value = Answer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status such as 200, or { status: 200, text: Thanks, type: text/plain }")
            }

            fn visit_u64<E: serde::de::Error>(self, status: u64) -> Result<Answer, E> {
                let status = u16::try_from(status).map_err(|_| E::custom("no HTTP status"))?;
                Ok(Answer { status: Some(status), ..Answer::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Answer, A::Error> {
                let full = FullAnswer::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Answer { status: full.status, text: full.text, media: full.media })
            }
        }

        deserializer.deserialize_any(StatusOrMore)
    }
}

impl JsonSchema for Answer {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Answer".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let status = generator.subschema_for::<u16>();
        let full = generator.subschema_for::<FullAnswer>();
        schemars::json_schema!({ "anyOf": [status, full] })
    }
}

/// How a provider's sender behaves after it has sent something.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sender {
    /// How long it waits for the answer.
    pub waits: Option<Span>,
    /// How long it waits for the connection.
    pub connect: Option<Span>,
    /// How often it sends again what failed.
    pub retries: Option<Retries>,
    /// When it does, in words.
    pub schedule: Option<String>,
    /// How long after the first attempt the last one comes.
    pub span: Option<Span>,
    /// The statuses after which it does not: `410`, or a class such as `4xx`.
    #[serde(rename = "final")]
    pub last: Vec<Statuses>,
    /// The statuses after which it does in spite of that.
    pub again: Vec<Statuses>,
    /// Whether a signed time is that of the attempt or that of the event.
    pub stamp: Option<Stamp>,
    /// When it stops sending to an endpoint that fails.
    pub disables: Option<Disables>,
    /// What it wants to read when an event was taken.
    pub ack: Option<Answer>,
    /// What it wants to read when it sends a known event again.
    pub duplicate: Option<Answer>,
    /// Whether it does something with the answer's body.
    pub answer: Option<Meaning>,
    /// Where these facts come from.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "Vec<String>")]
    pub source: Vec<String>,
}

/// When a sender stops sending.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Disables {
    /// In words, to be read after "stops sending".
    pub when: String,
    /// After so many failures in a row.
    pub failures: Option<u64>,
    /// After so long without a success.
    pub after: Option<Span>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Retries {
    None,
    /// Some attempts within some minutes.
    Few,
    /// For hours or days.
    Many,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stamp {
    /// Each attempt is signed anew.
    Attempt,
    /// A retry carries the time of the first attempt.
    Event,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Meaning {
    Ignored,
    /// The sender acts on it, so that nobody but the application can answer.
    Meaningful,
}

/// A status, or all of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(pub std::ops::Range<u16>);

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrClass;

        impl Visitor<'_> for OneOrClass {
            type Value = Statuses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status such as 410, or a class such as 4xx")
            }

            fn visit_u64<E: serde::de::Error>(self, status: u64) -> Result<Statuses, E> {
                match u16::try_from(status) {
                    Ok(status @ 100..600) => Ok(Statuses(status..status + 1)),
                    Ok(_) | Err(_) => Err(E::invalid_value(serde::de::Unexpected::Unsigned(status), &self)),
                }
            }

            fn visit_str<E: serde::de::Error>(self, class: &str) -> Result<Statuses, E> {
                let first = match class.as_bytes() {
                    [digit @ b'1'..=b'5', b'x', b'x'] => u16::from(digit - b'0') * 100,
                    _ => return Err(E::invalid_value(serde::de::Unexpected::Str(class), &self)),
                };
                Ok(Statuses(first..first + 100))
            }
        }

        deserializer.deserialize_any(OneOrClass)
    }
}

impl JsonSchema for Statuses {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Statuses".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let status = generator.subschema_for::<u16>();
        schemars::json_schema!({ "anyOf": [status, { "type": "string", "pattern": "^[1-5]xx$" }] })
    }
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
    /// What must hold for a delivery to be of this scheme, such as `json:/SignatureVersion == 2`: it is looked
    /// at first, before any key is.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "Vec<String>")]
    pub given: Vec<String>,
    /// What the token must say: the name of a claim, and the value or values of which it has one, such as
    /// `iss: https://accounts.google.com`. Looked at as `given` is.
    #[serde(default)]
    pub claims: BTreeMap<String, Texts>,
    /// Where the provider publishes its keys, if they are fetched. Then the route has no `secrets`.
    pub keys: Option<KeysWords>,
    /// `false` if the provider leaves the body, or a part of it, unsigned; `fields` if it signs those of its
    /// values that mean something, each on a line.
    pub signs_body: Option<SignsBody>,
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
    /// What else tells two events apart that have the same id; signed, as the id is.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "Vec<String>")]
    pub distinct: Vec<String>,
    /// Where the event's type stands.
    #[serde(default, rename = "type", deserialize_with = "one_or_many")]
    #[schemars(with = "Vec<String>")]
    pub event_type: Vec<String>,
    /// Where stands what narrows the type, so that `pull_request` is `pull_request.opened` as well for
    /// the route's choice of events.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "Vec<String>")]
    pub action: Vec<String>,
}

/// How much of the body is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignsBody {
    All,
    Fields,
    No,
}

impl<'de> Deserialize<'de> for SignsBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;

        impl Visitor<'_> for Word {
            type Value = SignsBody;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or fields")
            }

            fn visit_bool<E>(self, all: bool) -> Result<SignsBody, E> {
                Ok(if all { SignsBody::All } else { SignsBody::No })
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<SignsBody, E> {
                match word {
                    "fields" => Ok(SignsBody::Fields),
                    "true" => Ok(SignsBody::All),
                    "false" => Ok(SignsBody::No),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
                }
            }
        }

        deserializer.deserialize_any(Word)
    }
}

impl JsonSchema for SignsBody {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SignsBody".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "enum": [true, false, "fields"] })
    }
}

/// Where keys are found that are no files of the route: `{ jwks: "https://…" }`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeysWords {
    /// The address of a JSON Web Key Set (RFC 7517), or of several.
    #[serde(deserialize_with = "one_or_many_addresses")]
    #[schemars(with = "Vec<AddressWords>")]
    pub jwks: Vec<AddressWords>,
    /// The address of another document, or of several: a list of keys of the provider's own, one key in PEM, a
    /// certificate. A hole such as `{uuid}` takes the key's id, or what the delivery names.
    #[serde(deserialize_with = "one_or_many_addresses")]
    #[schemars(with = "Vec<AddressWords>")]
    pub url: Vec<AddressWords>,
    /// Where the delivery names the address; it must be one of `url`.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "Vec<String>")]
    pub named_by: Vec<String>,
    /// Where the delivery names the key; the `kid` of a token if absent.
    pub id: Option<String>,
    /// Where in the document the keys stand, as a JSON pointer; `/keys` if absent.
    pub at: Option<String>,
    /// The member of a key that names it; `kid` if absent.
    pub id_member: Option<String>,
    /// The member of a key that holds it, in PEM or as the base64 of its DER; a JSON Web Key if absent.
    pub key_member: Option<String>,
    /// What the request for the keys carries, where that is more than an address.
    pub with: Option<RequestWords>,
    /// The key is in the token, as a chain of three certificates, instead.
    pub chain: Option<ChainWords>,
}

impl KeysWords {
    pub fn addresses(&self) -> impl Iterator<Item = &AddressWords> {
        self.jwks.iter().chain(&self.url)
    }
}

/// An address to fetch keys from, or `{ url: …, name: … }`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AddressWords {
    /// The address, over HTTPS.
    pub url: String,
    /// The name that a certificate which is found there must have been given to.
    pub name: Option<String>,
    /// Whether the certificate must lead to one of the roots that are believed.
    pub chain: bool,
    /// Only for some values of the route: their name, such as `route:environment`.
    pub of: Option<String>,
    /// These values.
    pub is: Vec<String>,
}

/// What a request for keys carries. Names in it are those of the route's `credentials`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequestWords {
    /// The credential that is sent as `Authorization: Bearer`.
    pub bearer: Option<String>,
    /// A body that is posted, with `{id}` for the key's id and `{NAME}` for a credential.
    pub post: Option<String>,
    /// Where a token is had for the credentials `client_id` and `client_secret` (RFC 6749, section 4.4).
    pub oauth: Option<OauthWords>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OauthWords {
    /// The address that gives tokens.
    #[serde(deserialize_with = "one_or_many_addresses")]
    #[schemars(with = "Vec<AddressWords>")]
    pub url: Vec<AddressWords>,
    /// What the token is to be good for.
    pub scope: String,
}

/// A chain of certificates up to a root that is pinned.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChainWords {
    /// The root, in PEM.
    pub root: String,
    /// The extension that the leaf must carry, as an object identifier.
    pub leaf: String,
    /// The extension that its issuer must carry.
    pub issuer: String,
}

/// What a route must say of itself for a provider.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NeedWords {
    /// What it is, and where it is found, in the words that follow "write NAME: …, ".
    pub says: String,
    /// An example of a value.
    pub example: String,
    /// The values that there are, if others make no sense.
    #[serde(default)]
    pub one_of: Vec<String>,
    /// The form of the value, if it has one.
    pub form: Option<ValueForm>,
    /// What a route has that says nothing.
    pub default: Option<String>,
    /// What it means that a route says nothing, where it need not; then nothing is compared.
    pub without: Option<String>,
}

impl NeedWords {
    /// Whether a request cannot be judged without it. Credentials are for whoever fetches.
    pub fn is_demanded(&self) -> bool {
        self.default.is_none() && self.without.is_none() && self.form != Some(ValueForm::File)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ValueForm {
    /// The resource name of an SNS topic.
    TopicArn,
    /// `https://…`.
    Url,
    Email,
    Uuid,
    Digits,
    /// A file with a secret, such as an API key.
    File,
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
    /// `header:Name`, `query:name`, `json:/pointer`, `form:field` or `multipart:field`, or a list of such;
    /// `json:/list/*` for a list of which every element must hold.
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
    /// With `format: kv`: how the sender writes the whole, where its own SDK reads no other order or blanks:
    /// `{tag}` and a `{name}` for each field. The gate reads them in any order; `sign` writes them so.
    pub written: Option<String>,
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
    /// The same, and the payload is signed as it is (RFC 7797).
    JwsUnencoded,
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
    /// Whether the sender leaves the time out now and then. It must be signed as a part of something else.
    #[serde(default)]
    pub optional: bool,
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
    /// How the provider's API keys begin, where they are mistaken for the secret of its webhooks.
    #[serde(default)]
    pub api_keys: Vec<String>,
    /// The addresses that events must come from unless the route says otherwise.
    pub allow_ips: Option<PublishedIps>,
    /// The addresses that the provider publishes and changes: in effect where a route asks for them.
    pub published_ips: Option<PublishedIps>,
    pub rate_limit: Option<Rate>,
    pub max_body: Option<ByteSize>,
    #[serde(default)]
    pub status: Status,
    /// How its sender behaves.
    pub sender: Option<Sender>,
    /// What tells its events apart, if that is not what it signs.
    pub identity: Option<Identity>,
    /// How long its events are remembered at least: what it sends later is still fresh.
    #[serde(default)]
    pub replay: RouteReplay,
    /// The methods that it sends with, if not only POST.
    #[serde(default)]
    pub methods: Vec<String>,
    /// What a route must say of itself, by its key.
    #[serde(default)]
    pub needs: BTreeMap<String, NeedWords>,
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

/// A single address may stand for a list of one, and a URL for an address.
pub(super) fn one_or_many_addresses<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<AddressWords>, D::Error> {
    struct OneOrMany;

    fn plain(url: &str) -> AddressWords {
        AddressWords { url: url.to_owned(), ..AddressWords::default() }
    }

    impl<'de> Visitor<'de> for OneOrMany {
        type Value = Vec<AddressWords>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an address such as https://issuer.example/jwks.json, or a list of addresses")
        }

        fn visit_str<E>(self, url: &str) -> Result<Self::Value, E> {
            Ok(vec![plain(url)])
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            let full = serde::de::value::MapAccessDeserializer::new(map);
            Ok(vec![AddressWords::deserialize(full)?])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            struct One(Vec<AddressWords>);

            impl<'de> Deserialize<'de> for One {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    deserializer.deserialize_any(OneOrMany).map(One)
                }
            }

            let mut all = Vec::new();
            while let Some(One(some)) = seq.next_element()? {
                all.extend(some);
            }
            Ok(all)
        }
    }

    deserializer.deserialize_any(OneOrMany)
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

        /// Without quotes it is no text, but what is compared with it is.
        fn visit_bool<E>(self, value: bool) -> Result<Vec<String>, E> {
            Ok(vec![value.to_string()])
        }

        fn visit_i64<E>(self, value: i64) -> Result<Vec<String>, E> {
            Ok(vec![value.to_string()])
        }

        fn visit_u64<E>(self, value: u64) -> Result<Vec<String>, E> {
            Ok(vec![value.to_string()])
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
