//! Laws of the pure core, tried with inputs that nobody thought of.
//!
//! | module | law |
//! |---|---|
//! | [`signing`] | whatever the recipe: what was signed is accepted, and nothing else is |
//! | [`parsing`] | no text and no bytes make a parser panic; what is printed reads back the same |
//! | [`json`] | a picked value is the one that every JSON reader sees |
//! | [`limiting`] | no more than the burst and the rate get through; whoever waits as told does |
//! | [`replaying`] | between two leads of an event stands a failure or the end of its time |
//!
//! What once failed is kept in `*.regressions` beside each module and tried first.

mod json;
mod limiting;
mod parsing;
mod replaying;
mod signing;

use proptest::test_runner::{Config, FileFailurePersistence};

/// As many cases as usual (`PROPTEST_CASES` changes that), failures kept beside their test.
fn kept() -> Config {
    let beside = FileFailurePersistence::WithSource("regressions");
    Config { failure_persistence: Some(Box::new(beside)), ..Config::default() }
}
