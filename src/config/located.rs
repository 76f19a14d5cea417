//! A value that knows where it came from. One field of this type is flag, environment variable and
//! file key at once: [`clap`] reads it from the command line and the environment, [`serde`] from
//! the file, and of both the upper one is taken.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::{
    BoolishValueParser, PathBufValueParser, StringValueParser, TypedValueParser, ValueParserFactory,
};
use clap::parser::ValueSource;
use clap::{Arg, Command};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};

use super::Origin;
use super::units::{ByteSize, Cidr, HostName, OtlpEndpoint, Rate, Senders, Span, UpstreamUrl};

/// A value, and where it came from.
#[derive(Clone, Debug)]
pub struct Located<T> {
    pub value: T,
    pub origin: Origin,
    /// Where it stands in the file; unknown if it comes from elsewhere.
    pub at: Location,
    /// The flag or the variable that it was given by, as it is written.
    pub given_as: Option<Arc<str>>,
}

impl<T> Located<T> {
    pub fn new(value: T, origin: Origin) -> Self {
        Located { value, origin, at: Location::UNKNOWN, given_as: None }
    }

    pub fn map<U>(self, map: impl FnOnce(T) -> U) -> Located<U> {
        Located { value: map(self.value), origin: self.origin, at: self.at, given_as: self.given_as }
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
        Ok(Located { value, origin: Origin::File, at, given_as: None })
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

impl<T: FlagValue + Clone + Send + Sync + 'static> ValueParserFactory for Located<T> {
    type Parser = Locating<T::Parser, Located<T>>;

    fn value_parser() -> Self::Parser {
        Locating::new(T::parser())
    }
}

/// Tells a flag from its environment twin, and keeps the name of the one that was used.
#[derive(Clone, Debug)]
pub struct Locating<P, V>(P, PhantomData<fn() -> V>);

impl<P, V> Locating<P, V> {
    pub fn new(parser: P) -> Self {
        Locating(parser, PhantomData)
    }
}

impl<P, V> TypedValueParser for Locating<P, V>
where
    P: TypedValueParser,
    V: From<Located<P::Value>> + Clone + Send + Sync + 'static,
{
    type Value = V;

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
        let (origin, given_as) = match source {
            ValueSource::EnvVariable => (Origin::Env, variable(arg)),
            _ => (Origin::Flag, flag(arg)),
        };
        // A variable holds a list as people write one: with spaces after the commas.
        let value = match value.to_str().filter(|_| origin == Origin::Env) {
            Some(text) => OsStr::new(text.trim()),
            None => value,
        };
        let value = self.0.parse_ref(cmd, arg, value)?;
        Ok(Located { given_as, ..Located::new(value, origin) }.into())
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = clap::builder::PossibleValue> + '_>> {
        self.0.possible_values()
    }
}

fn flag(arg: Option<&Arg>) -> Option<Arc<str>> {
    Some(format!("--{}", arg?.get_long()?).into())
}

fn variable(arg: Option<&Arg>) -> Option<Arc<str>> {
    Some(arg?.get_env()?.to_str()?.into())
}

/// A flag that holds values of these types is read by that parser of clap's.
macro_rules! read_by {
    ($parser:ty: $($type:ty),*) => {$(
        impl $crate::config::located::FlagValue for $type {
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
pub(super) use read_by;

/// A flag that holds values of these types is read as people write them.
macro_rules! read_by_from_str {
    ($($type:ty),*) => {$(
        impl $crate::config::located::FlagValue for $type {
            type Parser = fn(&str) -> Result<Self, <Self as std::str::FromStr>::Err>;

            fn parser() -> Self::Parser {
                <Self as std::str::FromStr>::from_str
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
pub(super) use read_by_from_str;

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
