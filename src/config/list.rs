//! Lists in the file. Where there is one element only, people write it without the brackets.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::Origin;
use super::located::Located;

/// A list of plain values, or one of them.
pub fn of_any<'de, D, T>(deserializer: D) -> Result<Option<Vec<Located<T>>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let Spanned { value, referenced: at, .. } = Spanned::<OneOrMany<T>>::deserialize(deserializer)?;
    Ok(Some(match value {
        OneOrMany::Many(values) => values,
        OneOrMany::One(value) => vec![Located { at, ..Located::new(value, Origin::File) }],
    }))
}

enum OneOrMany<T> {
    One(T),
    Many(Vec<Located<T>>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list, such as [ … ]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(OneOrMany::Many)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(text.into_deserializer()).map(OneOrMany::One)
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
                let as_number: Result<T, E> = T::deserialize(number.into_deserializer());
                as_number.map(OneOrMany::One).or_else(|_| self.visit_str(&number.to_string()))
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// The schema of what [`of_keys`] reads.
pub fn schema_of_keys<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let one = generator.subschema_for::<T>();
    schemars::json_schema!({ "anyOf": [{ "type": "array", "items": one }, one, { "type": "null" }] })
}

/// A list of elements with keys of their own, or one of them.
pub fn of_keys<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Either<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list, such as [{ file: /etc/hookgate/secrets/github }]")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Vec<T>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(seq))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(|one| vec![one])
        }
    }

    deserializer.deserialize_any(Either(PhantomData)).map(Some)
}

/// The same; none if the key is not there.
pub fn of_some_keys<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    of_keys(deserializer).map(Option::unwrap_or_default)
}
