//! A value of every element of a list in a JSON body. As strict as [`pick`](super::json::pick): what occurs twice
//! on the way to it could be read in two ways, and is refused.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Unreadable;
use super::json::Pointer;

/// A longer list is refused.
const MAX_ELEMENTS: usize = 1024;

/// The texts at `inner` of each element of the list at `list`, each once; `None` if there is no such list.
/// Unreadable if an element has none.
pub fn texts(body: &[u8], list: &Pointer, inner: &[String]) -> Result<Option<Vec<String>>, Unreadable> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let mut json = serde_json::Deserializer::from_slice(body);
    let found = At { path: list.tokens(), then: List { inner } }.deserialize(&mut json);
    let found = found.and_then(|found| json.end().map(|()| found)).map_err(|_| Unreadable)?;
    let Some(all) = found else { return Ok(None) };
    let mut distinct = Vec::new();
    for text in all {
        if !distinct.contains(&text) {
            distinct.push(text);
        }
    }
    Ok(Some(distinct))
}

/// Reads with `then` what lies at a path of members; nothing if nothing does.
#[derive(Clone, Copy)]
struct At<'p, S> {
    path: &'p [String],
    then: S,
}

impl<'de, S: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for At<'_, S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.path {
            [] => self.then.deserialize(deserializer).map(Some),
            [..] => deserializer.deserialize_map(self),
        }
    }
}

impl<'de, S: DeserializeSeed<'de> + Copy> Visitor<'de> for At<'_, S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let [name, rest @ ..] = self.path else { return Ok(None) };
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key != *name {
                map.next_value::<IgnoredAny>()?;
            } else if found.replace(map.next_value_seed(At { path: rest, ..self })?).is_some() {
                return Err(A::Error::custom("it stands there twice"));
            }
        }
        Ok(found.flatten())
    }
}

/// Reads a list, of each element the text at a path.
#[derive(Clone, Copy)]
struct List<'p> {
    inner: &'p [String],
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(text) = seq.next_element_seed(At { path: self.inner, then: Text })? {
            let text = text.ok_or_else(|| A::Error::custom("an element has none"))?;
            all.push(text);
            if all.len() > MAX_ELEMENTS {
                return Err(A::Error::custom("the list is too long"));
            }
        }
        Ok(all)
    }
}

#[derive(Clone, Copy)]
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        serde::Deserialize::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str, list: &str, inner: &[&str]) -> Result<Option<Vec<String>>, Unreadable> {
        let inner: Vec<_> = inner.iter().map(|&token| token.to_owned()).collect();
        texts(body.as_bytes(), &list.parse().unwrap(), &inner)
    }

    #[test]
    fn every_element_has_its_text_or_none_is_taken() {
        let some = |texts: &[&str]| Ok(Some(texts.iter().map(|&text| text.to_owned()).collect()));
        assert_eq!(of(r#"{"a":["x","y","x"],"b":1}"#, "/a", &[]), some(&["x", "y"]));
        assert_eq!(of(r#"{"v":[{"c":"x","d":{}},{"c":"\u0079"}]}"#, "/v", &["c"]), some(&["x", "y"]));
        assert_eq!(of(r#"{"o":{"v":[{"c":{"d":"x"}}]}}"#, "/o/v", &["c", "d"]), some(&["x"]));
        assert_eq!(of(r#"{"a":[]}"#, "/a", &[]), some(&[]));
        assert_eq!(of(r#"{"b":["x"]}"#, "/a", &[]), Ok(None));
        let long = format!("{{\"a\":[{}\"x\"]}}", "\"x\",".repeat(MAX_ELEMENTS));
        for unreadable in [
            r#"{"a":["x"],"a":[]}"#,
            r#"{"a":["x"],"\u0061":["y"]}"#,
            r#"{"a":["x",1]}"#,
            r#"{"a":["x",null]}"#,
            r#"{"a":["x",["y"]]}"#,
            r#"{"a":"x"}"#,
            r#"{"a":null}"#,
            r#"{"a":{"0":"x"}}"#,
            r#"{"a":["x"]} x"#,
            r#"{"a":["x""#,
            r#"["x"]"#,
            "",
            "a=x",
            &long,
        ] {
            assert_eq!(of(unreadable, "/a", &[]), Err(Unreadable), "{unreadable}");
        }
        for unreadable in [
            r#"{"v":[{"c":"x"},{}]}"#,
            r#"{"v":[{"c":"x"},{"c":"y","c":"x"}]}"#,
            r#"{"v":[{"c":"x"},"x"]}"#,
            r#"{"v":[{"c":"x"},{"c":null}]}"#,
        ] {
            assert_eq!(of(unreadable, "/v", &["c"]), Err(Unreadable), "{unreadable}");
        }
    }
}
