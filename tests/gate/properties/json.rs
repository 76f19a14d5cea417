//! A picked value is the one that every JSON reader sees. `serde_json` stands for them.

use hookgate::gate::parse::json::{Pointer, Scalar, pick};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value};

use super::kept;

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
