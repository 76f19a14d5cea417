//! Where the keys of a configuration file stand. A value that was read has its own place; what is
//! wrong may also be a key that nobody knows, or a value that only others make wrong.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

#[derive(Default)]
pub struct Outline {
    /// The keys of the file itself.
    pub top: Vec<(String, Location)>,
    /// The place of each key, by its path such as `replay.window` or `routes[1].name`.
    places: HashMap<String, Location>,
    /// Where keys and values begin, and of which path they are.
    starts: Vec<Start>,
}

struct Start {
    /// Line and column.
    at: (u64, u64),
    path: String,
    is_key: bool,
}

impl Outline {
    pub fn of(text: &str) -> Result<Self, serde_saphyr::Error> {
        let mut outline = Outline::default();
        let Some(Root(entries)) = serde_saphyr::from_str(text)? else { return Ok(outline) };
        outline.top = entries.iter().map(|(key, _)| (key.value.clone(), key.referenced)).collect();
        outline.add("", Tree::Map(entries));
        Ok(outline)
    }

    /// Where the key stands. Without one, where that stands which it is missing in.
    pub fn find(&self, path: &str) -> Option<Location> {
        let mut path = path;
        loop {
            if let Some(at) = self.places.get(path) {
                return Some(*at);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// Whose key or value begins there, or the last that begins before: of several the innermost. `whole` if it is
    /// a value that lacks something, and not the first key in it.
    pub fn at(&self, at: Location, whole: bool) -> Option<&str> {
        let place = (at.line(), at.column());
        let before = self.starts.iter().filter(|start| start.at <= place);
        let start = before.max_by_key(|start| (start.at, !(whole && start.is_key), start.path.len()))?;
        let is_part = whole && start.is_key;
        let end = if is_part { start.path.rfind('.').unwrap_or(0) } else { start.path.len() };
        Some(&start.path[..end])
    }

    fn add(&mut self, path: &str, tree: Tree) {
        match tree {
            Tree::Scalar => {}
            Tree::Map(entries) => {
                for (key, value) in entries {
                    let dot = if path.is_empty() { "" } else { "." };
                    let path = format!("{path}{dot}{}", key.value);
                    self.add(&path, value.value);
                    self.start(&path, key.referenced, true);
                    self.start(&path, value.referenced, false);
                    self.places.insert(path, key.referenced);
                }
            }
            Tree::List(elements) => {
                for (n, element) in elements.into_iter().enumerate() {
                    let path = format!("{path}[{n}]");
                    self.add(&path, element.value);
                    self.start(&path, element.referenced, false);
                    self.places.insert(path, element.referenced);
                }
            }
        }
    }

    fn start(&mut self, path: &str, at: Location, is_key: bool) {
        self.starts.push(Start { at: (at.line(), at.column()), path: path.to_owned(), is_key });
    }
}

type Entries = Vec<(Spanned<String>, Spanned<Tree>)>;

/// A file is a map.
struct Root(Entries);

/// Any YAML, of which only keys matter.
enum Tree {
    Scalar,
    Map(Entries),
    List(Vec<Spanned<Tree>>),
}

fn entries<'de, A: MapAccess<'de>>(mut map: A) -> Result<Entries, A::Error> {
    let mut entries = Vec::new();
    while let Some(entry) = map.next_entry()? {
        entries.push(entry);
    }
    Ok(entries)
}

impl<'de> Deserialize<'de> for Root {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = Root;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("keys and their values")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Root, A::Error> {
                entries(map).map(Root)
            }
        }

        deserializer.deserialize_map(Keys)
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
                Ok(Tree::Scalar)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
                Ok(Tree::Scalar)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
                Ok(Tree::Scalar)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
                Ok(Tree::Scalar)
            }

            fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
                Ok(Tree::Scalar)
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Scalar)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Tree, A::Error> {
                entries(map).map(Tree::Map)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element()? {
                    elements.push(element);
                }
                Ok(Tree::List(elements))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_at_its_path_and_not_where_its_word_stands_first() {
        let text = "\
# threads: in a comment
log_level: \"threads: 1\"
limits: { max_body: 1MiB }
list:
  - &one { name: a, threads: 1 }
  - { <<: *one, name: b }
  - 1.5
threads: 0
1: ~
";
        let outline = Outline::of(text).unwrap();
        for (path, place) in [
            ("threads", Some((8, 1))),
            ("limits.max_body", Some((3, 11))),
            ("list[0].threads", Some((5, 21))),
            ("list[1].name", Some((6, 17))),
            ("list[1].nowhere.at.all", Some((6, 5))),
            ("list[9]", Some((4, 1))),
            ("1", Some((9, 1))),
            ("max_body", None),
        ] {
            let found = outline.find(path).map(|at| (at.line(), at.column()));
            assert_eq!(found, place, "{path}");
        }
        assert!(Outline::of("").unwrap().find("threads").is_none());
        assert!(Outline::of("a: [").is_err());
    }
}
