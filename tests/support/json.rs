//! The second opinion on what is picked out of a JSON body: `serde_json` reads it, and says what is JSON.

use std::cell::Cell;
use std::fmt;

use hookgate::gate::parse::json::{Malformed, Pointer, Scalar};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The values at the pointers, as [`pick`](hookgate::gate::parse::json::pick) is to find them.
pub fn picked(body: &[u8], pointers: &[&Pointer]) -> Result<Vec<Option<Scalar<'static>>>, Malformed> {
    let mut found = vec![None; pointers.len()];
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    if !matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) {
        return Ok(found);
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let odd_key = Cell::new(false);
    let walk = Walk {
        pointers: pointers.iter().copied().enumerate().collect(),
        depth: 0,
        found: &mut found,
        odd_key: &odd_key,
    };
    walk.deserialize(&mut json).and_then(|()| json.end()).map_err(|_| Malformed)?;
    // As bytes a key may hold what is no JSON.
    let text =
        || std::str::from_utf8(body).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    if odd_key.get() && !text() { Err(Malformed) } else { Ok(found) }
}

/// One place in the document, and the pointers that lead to or through it.
struct Walk<'w> {
    pointers: Vec<(usize, &'w Pointer)>,
    depth: usize,
    found: &'w mut Vec<Option<Scalar<'static>>>,
    odd_key: &'w Cell<bool>,
}

impl Walk<'_> {
    #[expect(clippy::unnecessary_wraps, reason = "a visitor gives it back as it is")]
    fn leaf<E>(&mut self, value: &Scalar<'static>) -> Result<(), E> {
        for (n, pointer) in &self.pointers {
            if pointer.tokens().len() == self.depth {
                self.found[*n] = Some(value.clone());
            }
        }
        Ok(())
    }

    fn child(&mut self, is_named: impl Fn(&str) -> bool) -> Option<Walk<'_>> {
        let named = |(_, pointer): &&(usize, &Pointer)| {
            pointer.tokens().get(self.depth).is_some_and(|token| is_named(token))
        };
        let pointers: Vec<_> = self.pointers.iter().filter(named).copied().collect();
        let child = Walk { depth: self.depth + 1, found: self.found, odd_key: self.odd_key, pointers };
        (!child.pointers.is_empty()).then_some(child)
    }
}

impl<'b> DeserializeSeed<'b> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'b>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'b> Visitor<'b> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_str<E>(mut self, v: &str) -> Result<(), E> {
        self.leaf(&Scalar::Text(v.to_owned().into()))
    }

    fn visit_i64<E>(mut self, v: i64) -> Result<(), E> {
        self.leaf(&Scalar::Integer(v.into()))
    }

    fn visit_u64<E>(mut self, v: u64) -> Result<(), E> {
        self.leaf(&Scalar::Integer(v.into()))
    }

    fn visit_f64<E>(mut self, _: f64) -> Result<(), E> {
        self.leaf(&Scalar::Other)
    }

    fn visit_bool<E>(mut self, v: bool) -> Result<(), E> {
        self.leaf(&Scalar::Bool(v))
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'b>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.leaf::<A::Error>(&Scalar::Other)?;
        let mut seen = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            self.odd_key.set(
                self.odd_key.get() || key.iter().any(|b| *b < b' ') || std::str::from_utf8(&key).is_err(),
            );
            match self.child(|token| token.as_bytes() == key) {
                None => _ = map.next_value::<IgnoredAny>()?,
                Some(_) if seen.contains(&key) => return Err(Error::custom("twice")),
                Some(child) => {
                    map.next_value_seed(child)?;
                    seen.push(key);
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'b>>(mut self, mut seq: A) -> Result<(), A::Error> {
        self.leaf::<A::Error>(&Scalar::Other)?;
        for index in 0usize.. {
            let more = match self.child(|token| token == index.to_string()) {
                None => seq.next_element::<IgnoredAny>()?.is_some(),
                Some(child) => seq.next_element_seed(child)?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }
}

/// Read as bytes: as text, one that holds half a surrogate pair would be refused.
struct Key(Vec<u8>);

impl<'b> serde::Deserialize<'b> for Key {
    fn deserialize<D: Deserializer<'b>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_bytes<E>(self, key: &[u8]) -> Result<Key, E> {
                Ok(Key(key.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}
