//! JSON as other programs write it: the same values in other white space, with other characters
//! escaped, in another order.

use std::fmt::Write;

/// Larger bodies are not tried in every combination.
const SMALL: usize = 16 * 1024;

/// White space between tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum White {
    None,
    /// A space after `:` and `,`.
    Spaced,
    /// A line for each member, so many of this a level.
    Lines(char, usize),
}

/// Which characters of a text are written as escapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escapes {
    AsReceived,
    /// Only those that must be.
    Fewest,
    /// `\/`, and everything beyond ASCII.
    Php,
    Slash,
    /// Everything beyond ASCII.
    Ascii,
    /// `<`, `>` and `&`.
    Html,
    /// `<`, `>`, `&`, quotes, `+` and everything beyond ASCII, in upper case.
    DotNet,
}

const WHITE: [(White, &str); 5] = [
    (White::None, "without spaces"),
    (White::Spaced, "with a space after ':' and ','"),
    (White::Lines(' ', 2), "indented"),
    (White::Lines(' ', 4), "indented by four spaces"),
    (White::Lines('\t', 1), "indented by tabs"),
];

const ESCAPES: [(Escapes, &str); 7] = [
    (Escapes::AsReceived, ""),
    (Escapes::Fewest, "without \\u and \\/ escapes"),
    (Escapes::Slash, "with \\/ for each slash"),
    (Escapes::Ascii, "with \\u escapes"),
    (Escapes::Html, "with \\u003c, \\u003e and \\u0026 for <, > and &"),
    (Escapes::Php, "with \\/ for each slash and \\u escapes"),
    (Escapes::DotNet, "with \\u escapes in upper case, as .NET writes them"),
];

/// The body in every spelling that differs from the one that arrived, and what is said of it.
pub fn spellings(body: &[u8]) -> impl Iterator<Item = (Vec<u8>, String)> {
    let tree = Node::parse(body);
    let sorted = tree.clone().and_then(|mut tree| tree.sort().then_some(tree));
    // In the order in which it came: another order says nothing of its white space.
    let as_received =
        |white: &White| tree.as_ref().is_some_and(|tree| tree.written(*white, Escapes::AsReceived) == body);
    let as_it_was = WHITE.into_iter().map(|(white, _)| white).find(as_received);
    let both = [(tree, ""), (sorted, "with sorted keys")];
    let received = both.into_iter().filter_map(|(tree, order)| Some((tree?, order)));
    let small = body.len() <= SMALL;
    received.flat_map(move |(tree, order)| {
        let all =
            ESCAPES.into_iter().flat_map(|escapes| WHITE.into_iter().map(move |white| (escapes, white)));
        let tried = all.filter(move |((escapes, _), (white, _))| {
            small || *escapes == Escapes::AsReceived || *white == White::None
        });
        tried.map(move |((escapes, said), (white, spaces))| {
            let spaces = if as_it_was == Some(white) { "" } else { spaces };
            let words: Vec<_> = [spaces, said, order].into_iter().filter(|word| !word.is_empty()).collect();
            (tree.written(white, escapes), words.join(" and "))
        })
    })
}

/// A value, with its leaves as they were written.
#[derive(Clone)]
enum Node {
    /// Between its quotes.
    Text(Vec<u8>),
    /// A number or a word.
    Plain(Vec<u8>),
    Array(Vec<Node>),
    Object(Vec<(Vec<u8>, Node)>),
}

impl Node {
    /// `None` if it is no JSON, or goes too deep.
    fn parse(body: &[u8]) -> Option<Node> {
        serde_json::from_slice::<serde::de::IgnoredAny>(body).ok()?;
        Reader(body).value()
    }

    /// Sorts the members of every object; whether that changed their order.
    fn sort(&mut self) -> bool {
        match self {
            Node::Text(_) | Node::Plain(_) => false,
            Node::Array(values) => values.iter_mut().fold(false, |changed, value| value.sort() | changed),
            Node::Object(members) => {
                let sorted = members.is_sorted_by(|(one, _), (other, _)| one <= other);
                members.sort_by(|(one, _), (other, _)| one.cmp(other));
                members.iter_mut().fold(!sorted, |changed, (_, value)| value.sort() | changed)
            }
        }
    }

    fn written(&self, white: White, escapes: Escapes) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(white, escapes, 0, &mut out);
        out
    }

    fn write(&self, white: White, escapes: Escapes, level: usize, out: &mut Vec<u8>) {
        match self {
            Node::Text(text) => write_text(text, escapes, out),
            Node::Plain(word) => out.extend_from_slice(word),
            Node::Array(values) => {
                out.push(b'[');
                for (n, value) in values.iter().enumerate() {
                    between(white, n == 0, level + 1, out);
                    value.write(white, escapes, level + 1, out);
                }
                end(white, values.is_empty(), level, out);
                out.push(b']');
            }
            Node::Object(members) => {
                out.push(b'{');
                for (n, (name, value)) in members.iter().enumerate() {
                    between(white, n == 0, level + 1, out);
                    write_text(name, escapes, out);
                    out.extend_from_slice(if white == White::None { b":" } else { b": " });
                    value.write(white, escapes, level + 1, out);
                }
                end(white, members.is_empty(), level, out);
                out.push(b'}');
            }
        }
    }
}

fn between(white: White, first: bool, level: usize, out: &mut Vec<u8>) {
    if !first {
        out.push(b',');
    }
    match white {
        White::Spaced if !first => out.push(b' '),
        White::None | White::Spaced => {}
        White::Lines(..) => new_line(white, level, out),
    }
}

fn end(white: White, empty: bool, level: usize, out: &mut Vec<u8>) {
    if !empty {
        new_line(white, level, out);
    }
}

fn new_line(white: White, level: usize, out: &mut Vec<u8>) {
    if let White::Lines(indent, times) = white {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(indent as u8, level * times));
    }
}

fn write_text(raw: &[u8], escapes: Escapes, out: &mut Vec<u8>) {
    let quoted = [b"\"", raw, b"\""].concat();
    let text = serde_json::from_slice::<String>(&quoted).ok().filter(|_| escapes != Escapes::AsReceived);
    let Some(text) = text else { return out.extend_from_slice(&quoted) };
    let mut written = String::with_capacity(text.len() + 2);
    for c in text.chars() {
        let unicode = match escapes {
            Escapes::AsReceived | Escapes::Fewest | Escapes::Slash => false,
            Escapes::Php | Escapes::Ascii => !c.is_ascii(),
            Escapes::Html => matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}'),
            Escapes::DotNet => !c.is_ascii() || matches!(c, '<' | '>' | '&' | '\'' | '"' | '+' | '`'),
        };
        let mut units = [0; 2];
        match c {
            _ if unicode => {
                for unit in c.encode_utf16(&mut units) {
                    _ = match escapes {
                        Escapes::DotNet => write!(written, "\\u{unit:04X}"),
                        _ => write!(written, "\\u{unit:04x}"),
                    };
                }
            }
            '/' if matches!(escapes, Escapes::Slash | Escapes::Php) => written.push_str("\\/"),
            '"' => written.push_str("\\\""),
            '\\' => written.push_str("\\\\"),
            '\u{8}' => written.push_str("\\b"),
            '\u{c}' => written.push_str("\\f"),
            '\n' => written.push_str("\\n"),
            '\r' => written.push_str("\\r"),
            '\t' => written.push_str("\\t"),
            c if c < ' ' => _ = write!(written, "\\u{:04x}", u32::from(c)),
            c => written.push(c),
        }
    }
    out.push(b'"');
    out.extend_from_slice(written.as_bytes());
    out.push(b'"');
}

/// Reads what is known to be JSON.
struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn value(&mut self) -> Option<Node> {
        match self.next_token()? {
            b'"' => self.text().map(Node::Text),
            b'[' => {
                let mut values = Vec::new();
                while self.peek()? != b']' {
                    if self.peek()? == b',' {
                        self.next_token();
                    }
                    values.push(self.value()?);
                }
                self.next_token();
                Some(Node::Array(values))
            }
            b'{' => {
                let mut members = Vec::new();
                while self.peek()? != b'}' {
                    if self.peek()? == b',' {
                        self.next_token();
                    }
                    self.next_token().filter(|byte| *byte == b'"')?;
                    let name = self.text()?;
                    self.next_token().filter(|byte| *byte == b':')?;
                    members.push((name, self.value()?));
                }
                self.next_token();
                Some(Node::Object(members))
            }
            first => {
                let ends = |b: &u8| b.is_ascii_whitespace() || matches!(b, b',' | b']' | b'}');
                let end = self.0.iter().position(ends).unwrap_or(self.0.len());
                let (word, rest) = self.0.split_at(end);
                self.0 = rest;
                Some(Node::Plain([&[first], word].concat()))
            }
        }
    }

    fn peek(&mut self) -> Option<u8> {
        self.0 = self.0.trim_ascii_start();
        self.0.first().copied()
    }

    fn next_token(&mut self) -> Option<u8> {
        let first = self.peek()?;
        self.0 = &self.0[1..];
        Some(first)
    }

    /// The rest of a text whose opening quote has been read.
    fn text(&mut self) -> Option<Vec<u8>> {
        let mut escaped = false;
        let end = self.0.iter().position(|byte| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        })?;
        let text = self.0[..end].to_vec();
        self.0 = &self.0[end + 1..];
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of the one body, if the other one arrived.
    fn told(signed: &str, arrived: &str) -> Option<String> {
        spellings(arrived.as_bytes())
            .filter(|(body, _)| body != arrived.as_bytes())
            .find(|(body, _)| body == signed.as_bytes())
            .map(|(_, how)| how)
    }

    #[test]
    fn each_spelling_is_told_by_what_differs() {
        for (signed, arrived, how) in [
            (r#"{"a":"x"}"#, r#"{ "a" : "x" }"#, "without spaces"),
            (r#"{"a": [1, {}], "b": 1.50}"#, r#"{"a":[1,{}],"b":1.50}"#, "with a space after ':' and ','"),
            ("{\n  \"a\": [\n    1\n  ]\n}", r#"{"a":[1]}"#, "indented"),
            ("{\n\t\"a\": []\n}", r#"{"a":[]}"#, "indented by tabs"),
            (r#"{"a":"\/"}"#, r#"{"a":"/"}"#, "with \\/ for each slash"),
            (r#"{"a":"/"}"#, r#"{"a":"\/"}"#, "without \\u and \\/ escapes"),
            (r#"{"a":"\u00e9"}"#, r#"{"a":"é"}"#, "with \\u escapes"),
            (r#"{"a":"é"}"#, r#"{"a":"\u00e9"}"#, "without \\u and \\/ escapes"),
            (
                r#"{"a":"\u003cb\u003e"}"#,
                r#"{"a":"<b>"}"#,
                "with \\u003c, \\u003e and \\u0026 for <, > and &",
            ),
            (r#"{"a":"\u00e9\/"}"#, r#"{"a":"é/"}"#, "with \\/ for each slash and \\u escapes"),
            (
                r#"{"a":"\u00E9\u002B"}"#,
                r#"{"a":"é+"}"#,
                "with \\u escapes in upper case, as .NET writes them",
            ),
            (r#"{"a":1,"b":{"c":2,"d":3}}"#, r#"{"b":{"d":3,"c":2},"a":1}"#, "with sorted keys"),
            (r#"{"a": "\/"}"#, r#"{"a":"/"}"#, "with a space after ':' and ',' and with \\/ for each slash"),
        ] {
            assert_eq!(told(signed, arrived).as_deref(), Some(how), "{signed} from {arrived}");
        }
    }

    #[test]
    fn keys_that_are_sorted_already_are_not_said_to_be() {
        for arrived in [r#"{"b":"\u00e9"}"#, r#"{"a":1,"b":2}"#, "[1,2]", "1", "\"a\""] {
            assert!(spellings(arrived.as_bytes()).all(|(_, how)| !how.contains("sorted")), "{arrived}");
        }
        assert_eq!(spellings(b"no json").count(), 0);
        assert_eq!(spellings("[".repeat(100_000).as_bytes()).count(), 0);
    }
}
