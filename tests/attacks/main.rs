//! The attack catalogue, one test for each row: what a stranger tries, what the gate
//! answers, what the application sees, and what is remembered and counted afterwards.
//!
//! A name begins with its row's id. Rows that are tested elsewhere, or cannot be, stand in
//! `NOT_HERE.md` with the reason. Where the contract gives a situation another status than
//! the catalogue, the contract stands.
//!
//! This binary uses all of `support` and is compiled without an allowance for dead code: a helper
//! that no test uses any more is a warning here.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tls.rs"]
mod tls;

// A signature is for one route, one body and one event.
mod binding;
// The gate that all rows share, and what is asserted after each.
mod fixture;
// Requests that two servers may read in two ways.
mod framing;
// Besides the catalogue: what is almost right, and senders that take their time.
mod hostile;
// What strangers try with what operators use.
mod operation;
// Besides the catalogue: routes that verify nothing.
mod pass;
// The same event again.
mod replay;
// Whoever wants all of the memory, the time or the connections.
mod resources;
// Signatures that nobody made.
mod signature;
// Times that are not now.
mod time;
// Below HTTP, and what proxies say.
mod transport;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const ROWS: usize = 167;

/// `a14` of `fn a14_two_…` and `A32` of `| A32 | …`, as numbers.
fn row(line: &str) -> Option<usize> {
    let id = line.strip_prefix("fn a").or_else(|| line.strip_prefix("| A"))?;
    let digits = id.find(|c: char| !c.is_ascii_digit())?;
    matches!(id.as_bytes()[digits], b'_' | b' ').then(|| id[..digits].parse().ok()).flatten()
}

#[test]
fn every_row_of_the_catalogue_is_here_or_accounted_for() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attacks");
    let mut found = BTreeMap::<usize, usize>::new();
    for entry in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for row in text.lines().filter_map(row) {
            *found.entry(row).or_default() += 1;
        }
    }
    let odd: Vec<_> = (1..=ROWS).filter(|row| found.get(row) != Some(&1)).collect();
    assert!(odd.is_empty(), "not exactly once: {odd:?}");
    assert_eq!(found.len(), ROWS, "{:?}", found.keys().filter(|row| **row > ROWS).collect::<Vec<_>>());
}
