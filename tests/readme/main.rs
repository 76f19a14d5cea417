//! The pages tell the truth: their tables are made from the code, their demo is what appears, the first
//! commands do what stands beside them, and every link leads somewhere. `UPDATE_README=1 cargo test
//! --test readme` renews what is made.

#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "the test is told by the environment whether to renew")]

mod links;
mod made;
mod pasted;

use std::fs;
use std::process::{Command, Output};

const README: &str = "README.md";
const CONFIGURATION: &str = "conf/README.md";
const PROVIDERS: &str = "conf/providers/README.md";
const POD: &str = "k8s/README.md";

fn read(page: &str) -> String {
    fs::read_to_string(page).unwrap()
}

/// What stands between the markers of `name`.
fn between(text: &str, name: &str) -> String {
    let after =
        text.split_once(&stands_after(name)).unwrap_or_else(|| panic!("there is a place for {name}")).1;
    after.split_once(&format!("<!-- end {name} -->")).unwrap().0.to_owned()
}

fn stands_after(name: &str) -> String {
    format!("<!-- begin {name} -->\n")
}

fn hookgate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hookgate")).args(args).output().unwrap()
}
