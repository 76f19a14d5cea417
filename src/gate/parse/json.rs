//! Picks a few scalars out of a JSON body in one pass, without keeping the rest.
//!
//! Strict where it matters: a key that occurs twice on the way to a picked value
//! is refused, because the gate and the application might each take another one
//! (RFC 8259, section 4, leaves the choice open).

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A JSON pointer (RFC 6901), such as `/data/id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    tokens: Vec<String>,
    /// Which element of an array each token names, if it names one.
    indices: Vec<Option<usize>>,
}

impl Pointer {
    /// To a member of the outermost object, whatever its name.
    pub fn key(name: &str) -> Self {
        Pointer::new(vec![name.to_owned()])
    }

    fn new(tokens: Vec<String>) -> Self {
        Pointer { indices: tokens.iter().map(|token| index(token)).collect(), tokens }
    }

    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }
}

impl FromStr for Pointer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix('/') else {
            return Err(format!("a JSON pointer starts with '/': write json:/{text}"));
        };
        Ok(Pointer::new(path.split('/').map(|t| t.replace("~1", "/").replace("~0", "~")).collect()))
    }
}

/// An index has neither sign nor leading zero (RFC 6901, section 4).
fn index(token: &str) -> Option<usize> {
    token.parse().ok().filter(|_| token == "0" || !token.starts_with(['0', '+']))
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tokens.iter().try_for_each(|t| write!(f, "/{}", t.replace('~', "~0").replace('/', "~1")))
    }
}

/// A picked value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scalar<'b> {
    Text(Cow<'b, str>),
    Integer(i128),
    Bool(bool),
    /// There, but none of these: an object, an array, or a number whose digits readers take apart.
    Other,
}

impl Scalar<'_> {
    pub fn into_owned(self) -> Scalar<'static> {
        match self {
            Scalar::Text(text) => Scalar::Text(Cow::Owned(text.into_owned())),
            Scalar::Integer(n) => Scalar::Integer(n),
            Scalar::Bool(b) => Scalar::Bool(b),
            Scalar::Other => Scalar::Other,
        }
    }
}

/// The body starts like JSON and is not, or is ambiguous on the way to a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The most pointers one recipe may have: they are tracked in one word.
pub const MAX_POINTERS: usize = 32;

/// The values at `pointers`, in their order.
///
/// A body that does not start as an object or array is not JSON: it holds none of
/// the values, which is no error (forms and plain text are signed as well). A byte order mark before
/// it is passed over, as RFC 8259, section 8.1, allows: some senders write one.
pub fn pick<'b>(body: &'b [u8], pointers: &[&Pointer]) -> Result<Vec<Option<Scalar<'b>>>, Malformed> {
    let mut found = vec![None; pointers.len()];
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    match body.iter().find(|b| !b.is_ascii_whitespace()) {
        Some(b'{' | b'[') => {}
        _ => return Ok(found),
    }
    let unused = u32::try_from(MAX_POINTERS.saturating_sub(pointers.len())).unwrap_or_default();
    let active = u32::MAX.checked_shr(unused).unwrap_or(0);
    let mut json = serde_json::Deserializer::from_slice(body);
    let odd_key = Cell::new(false);
    let walk = Walk { pointers, active, depth: 0, found: &mut found, odd_key: &odd_key };
    walk.deserialize(&mut json).and_then(|()| json.end()).map_err(|_| Malformed)?;
    if odd_key.get() && !is_json(body) {
        return Err(Malformed);
    }
    Ok(found)
}

fn is_json(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// One place in the document: the pointers in `active` agree with the path so far.
struct Walk<'w, 'b> {
    pointers: &'w [&'w Pointer],
    active: u32,
    depth: usize,
    found: &'w mut [Option<Scalar<'b>>],
    /// Whether a key was met that is no plain text: then the body is judged once more.
    odd_key: &'w Cell<bool>,
}

impl<'b> Walk<'_, 'b> {
    /// Stores the value for the pointers that end here.
    fn leaf(&mut self, value: &Scalar<'b>) {
        for (n, pointer) in self.pointers.iter().enumerate() {
            if self.active & (1 << n) != 0 && pointer.tokens.len() == self.depth {
                self.found[n] = Some(value.clone());
            }
        }
    }

    /// The active pointers that go on from here and satisfy `matches`.
    fn next(&self, matches: impl Fn(&Pointer) -> bool) -> u32 {
        let mut mask = 0;
        for (n, pointer) in self.pointers.iter().enumerate() {
            let goes_on = self.active & (1 << n) != 0 && pointer.tokens.len() > self.depth;
            if goes_on && matches(pointer) {
                mask |= 1 << n;
            }
        }
        mask
    }

    /// The first element from `from` on that a pointer names.
    fn next_index(&self, from: usize) -> Option<usize> {
        let active = |n: &usize| self.active & (1 << n) != 0;
        let named = self.pointers.iter().enumerate().filter(|(n, _)| active(n));
        named.filter_map(|(_, pointer)| *pointer.indices.get(self.depth)?).filter(|i| *i >= from).min()
    }

    fn child(&mut self, active: u32) -> Walk<'_, 'b> {
        Walk { active, depth: self.depth + 1, found: self.found, ..*self }
    }
}

impl<'b> DeserializeSeed<'b> for Walk<'_, 'b> {
    type Value = ();

    fn deserialize<D: Deserializer<'b>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'b> Visitor<'b> for Walk<'_, 'b> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_borrowed_str<E>(mut self, v: &'b str) -> Result<(), E> {
        self.leaf(&Scalar::Text(Cow::Borrowed(v)));
        Ok(())
    }

    fn visit_str<E>(mut self, v: &str) -> Result<(), E> {
        self.leaf(&Scalar::Text(Cow::Owned(v.to_owned())));
        Ok(())
    }

    fn visit_i64<E>(mut self, v: i64) -> Result<(), E> {
        self.leaf(&Scalar::Integer(v.into()));
        Ok(())
    }

    fn visit_u64<E>(mut self, v: u64) -> Result<(), E> {
        self.leaf(&Scalar::Integer(v.into()));
        Ok(())
    }

    fn visit_f64<E>(mut self, _: f64) -> Result<(), E> {
        self.leaf(&Scalar::Other);
        Ok(())
    }

    fn visit_bool<E>(mut self, v: bool) -> Result<(), E> {
        self.leaf(&Scalar::Bool(v));
        Ok(())
    }

    /// `null` says that there is no value.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'b>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.leaf(&Scalar::Other);
        let mut seen = 0;
        while let Some(mask) = map.next_key_seed(Key(&self))? {
            if mask == 0 {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if seen & mask != 0 {
                return Err(serde::de::Error::custom("duplicate key"));
            }
            seen |= mask;
            map.next_value_seed(self.child(mask))?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'b>>(mut self, mut seq: A) -> Result<(), A::Error> {
        self.leaf(&Scalar::Other);
        let mut wanted = self.next_index(0);
        for index in 0usize.. {
            let more = if wanted == Some(index) {
                let mask = self.next(|pointer| pointer.indices[self.depth] == wanted);
                wanted = self.next_index(index + 1);
                seq.next_element_seed(self.child(mask))?.is_some()
            } else {
                seq.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                break;
            }
        }
        Ok(())
    }
}

/// Compares an object's key, after unescaping, with the tokens that are wanted next.
///
/// It is read as bytes: as text, the reader would refuse one that holds half a surrogate pair,
/// which other readers take. In exchange it lets bytes pass that no JSON has: such a key is odd.
struct Key<'k, 'w, 'b>(&'k Walk<'w, 'b>);

impl<'b> DeserializeSeed<'b> for Key<'_, '_, 'b> {
    type Value = u32;

    fn deserialize<D: Deserializer<'b>>(self, deserializer: D) -> Result<u32, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl<'b> Visitor<'b> for Key<'_, '_, 'b> {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object key")
    }

    fn visit_bytes<E>(self, key: &[u8]) -> Result<u32, E> {
        let walk = self.0;
        if key.iter().any(|b| *b < b' ') || std::str::from_utf8(key).is_err() {
            walk.odd_key.set(true);
        }
        Ok(walk.next(|pointer| pointer.tokens[walk.depth].as_bytes() == key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(body: &str, pointer: &str) -> Result<Option<Scalar<'static>>, Malformed> {
        let found = pick(body.as_bytes(), &[&pointer.parse().unwrap()])?;
        Ok(found.into_iter().next().flatten().map(Scalar::into_owned))
    }

    fn text(s: &str) -> Scalar<'static> {
        Scalar::Text(Cow::Owned(s.to_string()))
    }

    #[test]
    fn picks_scalars_by_pointer() {
        assert_eq!(at(r#"{"id":"a"}"#, "/id"), Ok(Some(text("a"))));
        assert_eq!(at(r#"{"x":{"id":"no"},"id":"a"}"#, "/id"), Ok(Some(text("a"))));
        assert_eq!(at(r#"{"event":{"id":"a"}}"#, "/event/id"), Ok(Some(text("a"))));
        assert_eq!(at(r#"[{"id":"a"},{"id":"b"}]"#, "/1/id"), Ok(Some(text("b"))));
        assert_eq!(at(r#"[{"id":"a"},{"id":"b"}]"#, "/01/id"), Ok(None), "no index");
        assert_eq!(at(r#"{"01":{"id":"c"}}"#, "/01/id"), Ok(Some(text("c"))), "but a key");
        let (zero, two) = ("/0".parse().unwrap(), "/2".parse().unwrap());
        let both = Ok(vec![Some(Scalar::Integer(7)), Some(Scalar::Integer(5))]);
        assert_eq!(pick(b"[5,6,7]", &[&two, &zero]), both, "in any order");
        assert_eq!(at(r#"{"a/b":{"~":"x"}}"#, "/a~1b/~0"), Ok(Some(text("x"))));
        assert_eq!(at(r#"{"n":-5}"#, "/n"), Ok(Some(Scalar::Integer(-5))));
        assert_eq!(at(r#"{"n":1.5}"#, "/n"), Ok(Some(Scalar::Other)));
        assert_eq!(at(r#"{"n":{"m":1}}"#, "/n"), Ok(Some(Scalar::Other)));
        assert_eq!(at(r#"{"n":null}"#, "/n"), Ok(None), "null is no value");
        assert_eq!(at(r#"{"n":true}"#, "/n"), Ok(Some(Scalar::Bool(true))));
        assert_eq!(at(r#"{"n":18446744073709551615}"#, "/n"), Ok(Some(Scalar::Integer(u64::MAX.into()))));
        assert_eq!(at(r#"{"n":18446744073709551616}"#, "/n"), Ok(Some(Scalar::Other)), "readers differ");
        assert_eq!(at(r#"{"n":-0}"#, "/n"), Ok(Some(Scalar::Other)));
        assert_eq!(at(r#"{"m":1}"#, "/n"), Ok(None));
    }

    #[test]
    fn an_escaped_key_is_the_same_key() {
        assert_eq!(at("{\"\\u0069d\":\"a\"}", "/id"), Ok(Some(text("a"))));
        assert_eq!(at("{\"id\":\"a\",\"\\u0069d\":\"b\"}", "/id"), Err(Malformed));
    }

    #[test]
    fn half_a_surrogate_pair_refuses_only_where_it_is_picked() {
        for other in [r#""\ud800id":1"#, r#""\udc00":{"\ud800":"\ud800"}"#, r#""x":"\ud800""#, r#""\n":1"#] {
            assert_eq!(at(&format!(r#"{{{other},"id":"a"}}"#), "/id"), Ok(Some(text("a"))), "{other}");
            assert_eq!(at(&format!(r#"{{"id":"a",{other}}}"#), "/id"), Ok(Some(text("a"))), "{other}");
        }
        assert_eq!(at(r#"{"id":"\ud800"}"#, "/id"), Err(Malformed), "nobody knows what it is");
        assert_eq!(at(r#"{"\ud800":1,"id":"a","id":"b"}"#, "/id"), Err(Malformed), "twice");
    }

    #[test]
    fn a_key_that_no_json_has_refuses() {
        for key in ["\n", "a\u{1f}", "\\u0061\u{0}"] {
            assert_eq!(at(&format!("{{\"{key}\":1,\"id\":\"a\"}}"), "/id"), Err(Malformed), "{key:?}");
        }
        let id: Pointer = "/id".parse().unwrap();
        for body in [b"{\"\xff\":1,\"id\":\"a\"}".as_slice(), b"{\"\\ud800\xff\":1,\"id\":\"a\"}"] {
            assert_eq!(pick(body, &[&id]), Err(Malformed), "no UTF-8");
        }
    }

    /// Compared with an array at which no pointer looks, in one process: the machine does not count.
    #[test]
    fn an_array_on_the_way_costs_about_what_any_array_does() {
        let ones = format!("[{}1]", "1,".repeat(1 << 18));
        let took = |body: &str, pointer: &str| {
            let pointer: Pointer = pointer.parse().unwrap();
            let once = || {
                let start = std::time::Instant::now();
                _ = std::hint::black_box(pick(body.as_bytes(), &[&pointer]));
                start.elapsed()
            };
            (0..5).map(|_| once()).min().unwrap()
        };
        let skipped = took(&format!("{{\"x\":{ones}}}"), "/id/0/id");
        for pointer in ["/id", "/0/id", "/9/id", "/99999999/id"] {
            let walked = took(&ones, pointer);
            assert!(walked < skipped * 8, "{pointer}: {walked:?}, but skipped in {skipped:?}");
        }
    }

    #[test]
    fn a_duplicate_key_on_the_way_is_refused_elsewhere_it_is_not_ours() {
        assert_eq!(at(r#"{"id":"a","id":"a"}"#, "/id"), Err(Malformed));
        assert_eq!(at(r#"{"e":{"id":"a"},"e":{"id":"b"}}"#, "/e/id"), Err(Malformed));
        assert_eq!(at(r#"{"id":"a","x":1,"x":2}"#, "/id"), Ok(Some(text("a"))));
    }

    #[test]
    fn what_starts_like_json_must_be_json() {
        for bad in
            [r#"{"id":"a"} x"#, r#"{"id":"a""#, r#"{"id":"a","n":NaN}"#, "\u{feff}{\"id\":\"a\"", "{id:1}"]
        {
            assert_eq!(at(bad, "/id"), Err(Malformed), "{bad}");
        }
        assert_eq!(at("\u{feff}{\"id\":\"a\"}", "/id"), Ok(Some(text("a"))), "behind a mark");
        assert_eq!(at("\u{feff}\u{feff}{\"id\":\"a\"}", "/id"), Ok(None), "one mark");
        assert_eq!(pick(b"{}", &[]), Ok(vec![]), "nothing is asked for");
        for other in ["", "hello", "a=1&b=2", "<x/>", "5", "\u{ff08}{}"] {
            assert_eq!(at(other, "/id"), Ok(None), "{other}");
        }
    }

    #[test]
    fn depth_is_survived() {
        let deep = format!("{{\"x\":{}{},\"id\":\"a\"}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(at(&deep, "/id"), Ok(Some(text("a"))));
    }
}
