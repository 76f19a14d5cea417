//! The rules of the house that a compiler does not hold: who may import whom.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

/// Folder or file under `src/`, and what no line of code in it may mention.
const BANS: &[(&str, &[&str], &str)] = &[
    (
        "gate",
        &[
            "pingora",
            "tokio",
            "prometheus",
            "tracing",
            "log::",
            "std::env",
            "std::fs",
            "SystemTime::now",
            "Instant",
            "println!",
            "eprintln!",
            "crate::proxy",
            "crate::store",
            "crate::telemetry",
            "crate::config",
            "crate::server",
            "clock::now",
        ],
        "the core is pure: facts in, proof or answer out",
    ),
    (
        "config",
        &["pingora", "tokio", "prometheus", "crate::proxy", "crate::server", "println!"],
        "checking reads files and builds values, and never acts",
    ),
    (
        "store",
        &["pingora", "crate::proxy", "crate::telemetry", "crate::config", "println!"],
        "a store remembers, and knows nothing of requests",
    ),
    (
        "telemetry",
        &["pingora::", "tokio", "crate::proxy", "crate::store", "println!"],
        "telemetry is told, and asks nobody",
    ),
    ("clock.rs", &["pingora", "tokio", "crate::"], "the clock reads time and nothing else"),
];

/// Only these may name Pingora's types.
const MAY_NAME_PINGORA: &[&str] =
    &["proxy", "listener.rs", "tls.rs", "ops", "reload.rs", "server.rs", "build.rs"];

#[test]
fn no_module_reaches_where_it_must_not() {
    let mut broken = Vec::new();
    for (place, words, why) in BANS {
        for (file, number, line) in code(&Path::new("src").join(place)) {
            broken.extend(
                words
                    .iter()
                    .filter(|word| line.contains(**word))
                    .map(|word| format!("{}:{number}: mentions {word}: {why}\n    {line}", file.display())),
            );
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn pingora_is_named_by_its_adapters_only() {
    let mut broken = Vec::new();
    for (file, number, line) in code(Path::new("src")) {
        let place = file.strip_prefix("src").unwrap();
        let allowed = MAY_NAME_PINGORA.iter().any(|may| place.starts_with(may));
        if !allowed && (line.contains("pingora::") || line.contains("pingora_timeout::")) {
            broken.push(format!("{}:{number}: {line}", file.display()));
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_file_begins_by_saying_what_it_is() {
    for file in rust_files(Path::new("src")).into_iter().chain(rust_files(Path::new("tests"))) {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//! "), "{} starts with a sentence of its own", file.display());
    }
}

/// The lines of code, without comments and without the unit tests at the bottom of a file.
fn code(place: &Path) -> Vec<(PathBuf, usize, String)> {
    let mut lines = Vec::new();
    for file in rust_files(place) {
        let text = std::fs::read_to_string(&file).unwrap();
        let body = text.split("#[cfg(test)]").next().unwrap();
        for (number, line) in (1..).zip(body.lines()) {
            let line = line.split("//").next().unwrap().trim();
            if !line.is_empty() {
                lines.push((file.clone(), number, line.to_owned()));
            }
        }
    }
    assert!(!lines.is_empty(), "{} holds code", place.display());
    lines
}

fn rust_files(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let entries = std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .collect()
}
