//! A picked value is the one that every JSON reader sees, and a body that is refused is no JSON to
//! them. `serde_json` stands for them.

use hookgate::gate::parse::json::{Pointer, Scalar, pick};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value};

use super::kept;
use crate::second_opinion::picked;

proptest! {
    #![proptest_config(kept())]

    /// Documents without duplicate keys: where keys are ambiguous, a pick is refused.
    #[test]
    fn a_pick_agrees_with_the_whole_document(
        document in document(),
        pretty: bool,
        pointers in vec(pointer(), 1..6),
    ) {
        let text = if pretty { format!("{document:#}") } else { format!("{document}") };
        let parsed: Vec<Pointer> = pointers.iter().map(|pointer| pointer.parse().unwrap()).collect();
        let expected: Vec<_> = pointers.iter().map(|pointer| document.pointer(pointer).and_then(scalar)).collect();
        prop_assert_eq!(pick(text.as_bytes(), &parsed.iter().collect::<Vec<_>>()), Ok(expected), "{:?} in {}", pointers, text);
    }

    /// Documents, and what is left of them when pieces are put in and taken out.
    #[test]
    fn two_readers_take_and_refuse_the_same_bytes(
        document in document(),
        pretty: bool,
        changes in vec((any::<Index>(), 0usize..4, piece()), 0..6),
        pointers in vec(pointer(), 0..6),
    ) {
        let text = if pretty { format!("{document:#}") } else { format!("{document}") };
        let mut body = text.into_bytes();
        for (at, taken, put) in changes {
            let at = at.index(body.len() + 1);
            let end = (at + taken).min(body.len());
            body.splice(at..end, put.iter().copied());
        }
        let parsed: Vec<Pointer> = pointers.iter().map(|pointer| pointer.parse().unwrap()).collect();
        let parsed: Vec<&Pointer> = parsed.iter().collect();
        let shown = String::from_utf8_lossy(&body);
        prop_assert_eq!(pick(&body, &parsed), picked(&body, &parsed), "{:?} in {}", pointers, shown);
    }
}

/// What makes another document of one, or none.
fn piece() -> impl Strategy<Value = &'static [u8]> {
    let syntax =
        select(vec![&b""[..], b"{", b"}", b"[", b"]", b",", b":", b" ", b"\t", b"\n", b"\x0c", b"\0"]);
    let strings = select(vec![
        &b"\""[..],
        b"\\",
        b"\"a\":1,",
        b"\"\\u0061\":2,",
        b"\"\\ud800\":3,",
        b"\\u00",
        b"\\ud83d\\ude00",
        b"\\n",
        b"\\x",
        b"\xff",
        b"\x7f",
        "\u{e9}".as_bytes(),
        "\u{feff}".as_bytes(),
        b"a text that is longer than every block of bytes that is looked at as one",
    ]);
    let scalars = select(vec![
        &b"0"[..],
        b"-",
        b"-0",
        b"01",
        b".5",
        b"e",
        b"E+1",
        b"1e309",
        b"0e999999999999",
        b"9223372036854775808",
        b"-9223372036854775808",
        b"18446744073709551616",
        b"true",
        b"null",
        b"fals",
        b"NaN",
    ]);
    prop_oneof![syntax, strings, scalars]
}

/// `null` is no value.
fn scalar(value: &Value) -> Option<Scalar<'_>> {
    Some(match value {
        Value::Null => return None,
        Value::String(text) => Scalar::Text(text.into()),
        Value::Number(number) => {
            let integer = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
            integer.map_or(Scalar::Other, Scalar::Integer)
        }
        Value::Bool(b) => Scalar::Bool(*b),
        Value::Array(_) | Value::Object(_) => Scalar::Other,
    })
}

/// An object or an array, which is what a body must be to be read as JSON.
fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 40, 4, container);
    container(value)
}

fn container(value: impl Strategy<Value = Value> + Clone + 'static) -> impl Strategy<Value = Value> {
    let members =
        vec((token(), value.clone()), 0..4).prop_map(|members| Value::Object(Map::from_iter(members)));
    prop_oneof![members, vec(value, 0..4).prop_map(Value::Array)]
}

fn pointer() -> impl Strategy<Value = String> {
    let escaped = token().prop_map(|token| format!("/{}", token.replace('~', "~0").replace('/', "~1")));
    vec(escaped, 1..4).prop_map(|tokens| tokens.concat())
}

/// Few different ones, so that pointers meet keys; some that are an index, or almost one.
fn token() -> impl Strategy<Value = String> {
    select(vec!["a", "b", "", "0", "1", "00", "01", "+1", "-", "/", "~", "~1", "\"", "é", "\\u0061"])
        .prop_map(str::to_owned)
}
