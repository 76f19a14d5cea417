//! A value that knows where it came from. One field of this type is flag, environment variable and
//! file key at once: [`clap`] reads it from the command line and the environment, [`serde`] from
//! the file, and of both the upper one is taken.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{
    BoolishValueParser, EnumValueParser, PathBufValueParser, StringValueParser, TypedValueParser,
    ValueParserFactory,
};
use clap::parser::ValueSource;
use clap::{Arg, Command};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};

use super::checks::{Mode, ProxyProtocol, RealIpHeader};
use super::process::{LogFormat, LogLevel};
use super::store::OnStoreError;
use super::units::{ByteSize, Cidr, HostName, OtlpEndpoint, Rate, Senders, Span, UpstreamUrl};
use super::{Origin, handshake};

/// A value, and where it came from.
#[derive(Clone, Debug)]
pub struct Located<T> {
    pub value: T,
    pub origin: Origin,
    /// Where it stands in the file; unknown if it comes from elsewhere.
    pub at: Location,
}

impl<T> Located<T> {
    pub fn new(value: T, origin: Origin) -> Self {
        Located { value, origin, at: Location::UNKNOWN }
    }

    pub fn map<U>(self, map: impl FnOnce(T) -> U) -> Located<U> {
        Located { value: map(self.value), origin: self.origin, at: self.at }
    }
}

/// As if a flag had been given: the demo and tests do so.
impl<T> From<T> for Located<T> {
    fn from(value: T) -> Self {
        Located::new(value, Origin::Flag)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced: at, .. } = Spanned::deserialize(deserializer)?;
        Ok(Located { value, origin: Origin::File, at })
    }
}

/// In the schema it is what its value is.
impl<T: JsonSchema> JsonSchema for Located<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// What a flag can hold, and how it is read.
pub trait FlagValue: Sized {
    type Parser: TypedValueParser<Value = Self>;

    fn parser() -> Self::Parser;
}

impl<T: FlagValue> ValueParserFactory for Located<T> {
    type Parser = Locating<T::Parser>;

    fn value_parser() -> Self::Parser {
        Locating(T::parser())
    }
}

/// Tells a flag from its environment twin.
#[derive(Clone, Debug)]
pub struct Locating<P>(P);

impl<P: TypedValueParser> TypedValueParser for Locating<P> {
    type Value = Located<P::Value>;

    fn parse_ref(&self, cmd: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Self::Value, clap::Error> {
        self.parse_ref_(cmd, arg, value, ValueSource::CommandLine)
    }

    fn parse_ref_(
        &self,
        cmd: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
        source: ValueSource,
    ) -> Result<Self::Value, clap::Error> {
        let origin = if source == ValueSource::EnvVariable { Origin::Env } else { Origin::Flag };
        // A variable holds a list as people write one: with spaces after the commas.
        let value = match value.to_str().filter(|_| origin == Origin::Env) {
            Some(text) => OsStr::new(text.trim()),
            None => value,
        };
        Ok(Located::new(self.0.parse_ref(cmd, arg, value)?, origin))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = clap::builder::PossibleValue> + '_>> {
        self.0.possible_values()
    }
}

macro_rules! read_by {
    ($parser:ty: $($type:ty),*) => {$(
        impl FlagValue for $type {
            type Parser = $parser;

            fn parser() -> Self::Parser {
                <$parser>::new()
            }
        }
    )*};
}
read_by!(BoolishValueParser: bool);
read_by!(PathBufValueParser: PathBuf);
read_by!(StringValueParser: String);
read_by!(EnumValueParser<Self>: handshake::Mode, LogFormat, LogLevel, Mode, OnStoreError, ProxyProtocol, RealIpHeader);

macro_rules! read_by_from_str {
    ($($type:ty),*) => {$(
        impl FlagValue for $type {
            type Parser = fn(&str) -> Result<Self, <Self as FromStr>::Err>;

            fn parser() -> Self::Parser {
                <Self as FromStr>::from_str
            }
        }
    )*};
}
read_by_from_str!(
    usize,
    ByteSize,
    Cidr,
    HostName,
    OtlpEndpoint,
    Rate,
    Senders,
    SocketAddr,
    Span,
    UpstreamUrl
);

/// Of what was said twice, the upper one.
pub trait Overlay {
    #[must_use]
    fn over(self, below: Self) -> Self;
}

impl<T> Overlay for Option<T> {
    fn over(self, below: Self) -> Self {
        self.or(below)
    }
}

/// A struct whose fields are laid over another's one by one: flags over the file.
macro_rules! overlay {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$of_field:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        pub struct $name { $($(#[$of_field])* pub $field: $type,)* }

        impl $crate::config::located::Overlay for $name {
            fn over(self, below: Self) -> Self {
                $name { $($field: $crate::config::located::Overlay::over(self.$field, below.$field),)* }
            }
        }
    };
}
pub(super) use overlay;
