//! Picks a few scalars out of a JSON body in one pass, without keeping the rest.
//!
//! Strict where it matters: a key that occurs twice on the way to a picked value
//! is refused, because the gate and the application might each take another one
//! (RFC 8259, section 4, leaves the choice open).

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::str::FromStr;

use serde_json::Number;
use smallvec::SmallVec;

/// A JSON pointer (RFC 6901), such as `/data/id`.
#[derive(Clone, Debug)]
pub struct Pointer {
    /// As it is written: what tells it from others.
    text: String,
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
        let text = tokens.iter().map(|token| format!("/{}", token.replace('~', "~0").replace('/', "~1")));
        let indices = tokens.iter().map(|token| index(token)).collect();
        Pointer { text: text.collect(), indices, tokens }
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
        f.write_str(&self.text)
    }
}

impl PartialEq for Pointer {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pointer {}

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
/// No pointer leads deeper.
const MAX_DEPTH: usize = 127;

/// The values at `pointers`, in their order.
///
/// A body that does not start as an object or array is not JSON: it holds none of
/// the values, which is no error (forms and plain text are signed as well). A byte order mark before
/// it is passed over, as RFC 8259, section 8.1, allows: some senders write one.
pub fn pick<'b, P: Borrow<Pointer>>(
    body: &'b [u8],
    pointers: &[P],
) -> Result<Vec<Option<Scalar<'b>>>, Malformed> {
    let mut found = vec![None; pointers.len()];
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    match body.iter().find(|b| !b.is_ascii_whitespace()) {
        Some(b'{' | b'[') => {}
        _ => return Ok(found),
    }
    let unused = u32::try_from(MAX_POINTERS.saturating_sub(pointers.len())).unwrap_or_default();
    let active = u32::MAX.checked_shr(unused).unwrap_or(0);
    let text = Text { bytes: body, at: 0 };
    let mut walk = Walk { text, pointers, found: &mut found, odd_key: false };
    walk.value(active, 0)?;
    walk.text.white_space();
    let whole = walk.text.at == body.len();
    if whole && (!walk.odd_key || std::str::from_utf8(body).is_ok()) { Ok(found) } else { Err(Malformed) }
}

/// Reads the places of a document that a pointer leads to or through, and passes over the others.
struct Walk<'w, 'b, P> {
    text: Text<'b>,
    pointers: &'w [P],
    found: &'w mut [Option<Scalar<'b>>],
    /// Whether a key was met that is no plain text: then the whole body must be UTF-8.
    odd_key: bool,
}

impl<P: Borrow<Pointer>> Walk<'_, '_, P> {
    /// The pointers in `active` agree with the path so far, which has `depth` tokens.
    fn value(&mut self, active: u32, depth: usize) -> Result<(), Malformed> {
        let value = match self.text.next()? {
            b'{' | b'[' if depth == MAX_DEPTH => return Err(Malformed),
            b'{' => {
                self.object(active, depth)?;
                Scalar::Other
            }
            b'[' => {
                self.array(active, depth)?;
                Scalar::Other
            }
            b'"' => Scalar::Text(self.text.string()?.read().ok_or(Malformed)?),
            b't' => self.text.word(b"true").map(|()| Scalar::Bool(true))?,
            b'f' => self.text.word(b"false").map(|()| Scalar::Bool(false))?,
            b'n' => return self.text.word(b"null"), // says that there is no value
            _ => {
                let number: Number = serde_json::from_slice(self.text.number()?).map_err(|_| Malformed)?;
                number.as_i128().map_or(Scalar::Other, Scalar::Integer)
            }
        };
        for (n, pointer) in self.pointers.iter().enumerate() {
            if active & (1 << n) != 0 && pointer.borrow().tokens.len() == depth {
                self.found[n] = Some(value.clone());
            }
        }
        Ok(())
    }

    fn object(&mut self, active: u32, depth: usize) -> Result<(), Malformed> {
        let mut seen = 0;
        let mut more = self.text.opens(b'}')?;
        while more {
            let key = self.text.key()?;
            let mask = self.named(&key, active, depth);
            if seen & mask != 0 {
                return Err(Malformed);
            }
            seen |= mask;
            self.child(mask, depth)?;
            more = self.text.goes_on(b'}')?;
        }
        Ok(())
    }

    /// The active pointers that this key continues.
    fn named(&mut self, key: &Literal<'_>, active: u32, depth: usize) -> u32 {
        if key.is_plain() {
            return self.next(active, depth, |pointer| pointer.tokens[depth].as_bytes() == key.between());
        }
        let Some(name) = key.read() else {
            // Half a surrogate pair, which other readers take: no token is spelled like that.
            self.odd_key = true;
            return 0;
        };
        self.odd_key |= name.bytes().any(|b| b < b' ');
        self.next(active, depth, |pointer| pointer.tokens[depth] == name)
    }

    fn array(&mut self, active: u32, depth: usize) -> Result<(), Malformed> {
        let mut wanted = self.next_index(active, depth, 0);
        let mut more = self.text.opens(b']')?;
        for index in 0usize.. {
            if !more {
                break;
            }
            let mut mask = 0;
            if wanted == Some(index) {
                mask = self.next(active, depth, |pointer| pointer.indices[depth] == wanted);
                wanted = self.next_index(active, depth, index + 1);
            }
            self.child(mask, depth)?;
            more = self.text.goes_on(b']')?;
        }
        Ok(())
    }

    fn child(&mut self, active: u32, depth: usize) -> Result<(), Malformed> {
        if active == 0 { self.text.pass_over() } else { self.value(active, depth + 1) }
    }

    /// The active pointers that go on from here and satisfy `matches`.
    fn next(&self, active: u32, depth: usize, matches: impl Fn(&Pointer) -> bool) -> u32 {
        let mut mask = 0;
        for (n, pointer) in self.pointers.iter().map(Borrow::borrow).enumerate() {
            if active & (1 << n) != 0 && pointer.tokens.len() > depth && matches(pointer) {
                mask |= 1 << n;
            }
        }
        mask
    }

    /// The first element from `from` on that a pointer names.
    fn next_index(&self, active: u32, depth: usize, from: usize) -> Option<usize> {
        let named = self.pointers.iter().enumerate().filter(|(n, _)| active & (1 << n) != 0);
        named.filter_map(|(_, pointer)| *pointer.borrow().indices.get(depth)?).filter(|i| *i >= from).min()
    }
}

/// A JSON text, and how far it is read. Everything is judged by the grammar of RFC 8259, also what is
/// passed over; but of the strings there it is not asked whether they are UTF-8.
struct Text<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Text<'b> {
    fn white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// The next byte behind white space, not taken.
    fn next(&mut self) -> Result<u8, Malformed> {
        self.white_space();
        self.bytes.get(self.at).copied().ok_or(Malformed)
    }

    fn takes(&mut self, byte: u8) -> bool {
        let is_there = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(is_there);
        is_there
    }

    /// Enters an object or an array; tells whether there is anything in it.
    fn opens(&mut self, end: u8) -> Result<bool, Malformed> {
        self.at += 1;
        self.next()?;
        Ok(!self.takes(end))
    }

    /// Behind one of its values: whether another one follows.
    fn goes_on(&mut self, end: u8) -> Result<bool, Malformed> {
        self.next()?;
        let more = self.takes(b',');
        if more || self.takes(end) { Ok(more) } else { Err(Malformed) }
    }

    /// The key of a member, and its colon.
    fn key(&mut self) -> Result<Literal<'b>, Malformed> {
        if self.next()? != b'"' {
            return Err(Malformed);
        }
        let key = self.string()?;
        self.next()?;
        if self.takes(b':') { Ok(key) } else { Err(Malformed) }
    }

    /// A string, from quote to quote.
    fn string(&mut self) -> Result<Literal<'b>, Malformed> {
        let start = self.at;
        let mut escapes = false;
        self.at += 1;
        loop {
            self.at += plain(&self.bytes[self.at..]);
            if self.takes(b'"') {
                return Ok(Literal { quoted: &self.bytes[start..self.at], escapes });
            }
            match &self.bytes[self.at..] {
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 2,
                [b'\\', b'u', digits @ ..]
                    if digits.len() >= 4 && digits[..4].iter().all(u8::is_ascii_hexdigit) =>
                {
                    self.at += 6;
                }
                _ => return Err(Malformed),
            }
            escapes = true;
        }
    }

    fn number(&mut self) -> Result<&'b [u8], Malformed> {
        let start = self.at;
        self.takes(b'-');
        let leading_zero = self.bytes.get(self.at) == Some(&b'0');
        if self.digits()? > 1 && leading_zero {
            return Err(Malformed);
        }
        if self.takes(b'.') {
            self.digits()?;
        }
        if self.takes(b'e') || self.takes(b'E') {
            _ = self.takes(b'+') || self.takes(b'-');
            self.digits()?;
        }
        Ok(&self.bytes[start..self.at])
    }

    /// How many there are; at least one.
    fn digits(&mut self) -> Result<usize, Malformed> {
        let digits = self.bytes[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += digits;
        if digits > 0 { Ok(digits) } else { Err(Malformed) }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Malformed> {
        let is_there = self.bytes[self.at..].starts_with(word);
        self.at += word.len();
        if is_there { Ok(()) } else { Err(Malformed) }
    }

    /// A value that nobody asks for, however deep it is.
    fn pass_over(&mut self) -> Result<(), Malformed> {
        // How those end that are open.
        let mut ends = SmallVec::<[u8; 32]>::new();
        loop {
            let first = self.next()?;
            let mut opened = false;
            match first {
                b'{' | b'[' => {
                    let end = if first == b'{' { b'}' } else { b']' };
                    opened = self.opens(end)?;
                    ends.extend(opened.then_some(end));
                }
                b'"' => _ = self.string()?,
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => _ = self.number()?,
            }
            // Behind a value others end, as long as none follows.
            while !opened {
                let Some(end) = ends.last() else { return Ok(()) };
                opened = self.goes_on(*end)?;
                if !opened {
                    ends.pop();
                }
            }
            if ends.last() == Some(&b'}') {
                self.key()?;
            }
        }
    }
}

/// A string as it is written.
struct Literal<'b> {
    quoted: &'b [u8],
    escapes: bool,
}

impl<'b> Literal<'b> {
    fn between(&self) -> &'b [u8] {
        &self.quoted[1..self.quoted.len() - 1]
    }

    /// Whether it says what stands between the quotes, which is ASCII.
    fn is_plain(&self) -> bool {
        !self.escapes && self.quoted.is_ascii()
    }

    /// What it says; `None` if that is no text.
    fn read(&self) -> Option<Cow<'b, str>> {
        if self.escapes {
            return serde_json::from_slice(self.quoted).ok().map(Cow::Owned);
        }
        std::str::from_utf8(self.between()).ok().map(Cow::Borrowed)
    }
}

/// How many bytes of a string stand for themselves, before a quote, an escape, or what must not be
/// there. Most of a body is such text, so it is looked at by eight bytes at once, and a long one by
/// sixty-four, for which the compiler has wider instructions.
fn plain(text: &[u8]) -> usize {
    const NEAR: usize = 48; // most names, ids and words are shorter
    let mut at = 0;
    while let Some(word) = text[at..].first_chunk() {
        let special = special(u64::from_le_bytes(*word));
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
        while at % 64 == NEAR && text[at..].first_chunk::<64>().is_some_and(is_plain) {
            at += 64;
        }
    }
    at + text[at..].iter().take_while(|b| is_plain(&[**b])).count()
}

fn is_plain<const N: usize>(block: &[u8; N]) -> bool {
    // Without branches, as a loop that is to become wide must be.
    let special = |b: u8| u8::from(b < b' ') | u8::from(b == b'"') | u8::from(b == b'\\');
    block.iter().fold(0, |any, b| any | special(*b)) == 0
}

/// The high bit of the first byte that does not stand for itself, and perhaps others above it.
fn special(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let less = |word: u64, than: u8| word.wrapping_sub(ONES * u64::from(than)) & !word;
    let is = |byte: u8| less(word ^ (ONES * u64::from(byte)), 1);
    (less(word, b' ') | is(b'"') | is(b'\\')) & (ONES << 7)
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
        assert_eq!(pick(b"{}", &[] as &[Pointer]), Ok(vec![]), "nothing is asked for");
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
