//! Kubernetes objects, and the metric names in queries.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::support::Gate;

/// The documents of a YAML file.
pub fn read(path: &str) -> Vec<Value> {
    parse(&fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}")))
}

pub fn parse(text: &str) -> Vec<Value> {
    let parse = |text: &str| serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    text.split("\n---\n").map(parse).collect()
}

/// Every name in a text that looks like one of our metrics, or like one of the process's.
pub fn metrics_in(text: &str) -> BTreeSet<String> {
    let ours = |word: &&str| word.starts_with("hookgate_") || word.starts_with("process_");
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(ours).map(str::to_owned).collect()
}

/// Every name that a query may use: of each series, and of each family as a whole.
pub fn names(gate: &Gate) -> BTreeSet<String> {
    let text = gate.ops("/metrics").text();
    let name = |line: &str| line.trim_start_matches("# TYPE ").split([' ', '{']).next().unwrap().to_owned();
    text.lines().filter(|line| !line.starts_with("# HELP ")).map(name).collect()
}

/// The elements of a list, or none.
pub fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}
