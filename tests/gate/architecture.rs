//! The rules of the house that a compiler does not hold: who may import whom.

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
const MAY_NAME_PINGORA: &[&str] = &["proxy", "ops", "server", "keys/fetch.rs", "build.rs"];
/// Only these may name the client of the shared store.
const MAY_NAME_REDIS: &[&str] = &["store/redis"];
/// Only these may name what metrics are made of: others are asked at a scrape, or tell.
const MAY_NAME_PROMETHEUS: &[&str] = &["telemetry"];

/// The rooms from the ground up. Each may use those before it and none behind it, so that there is no
/// circle between two of them; nobody but `main` uses the last one.
const FLOORS: &[&str] = &[
    "clock",
    "lock",
    "gate",
    "budget",
    "files",
    "store",
    "inbox",
    "config",
    "telemetry",
    "keys",
    "diagnosis",
    "proxy",
    "ops",
    "server",
    "inject",
    "cli",
];

#[test]
fn every_room_stands_on_those_below_it() {
    let mut broken = Vec::new();
    for (file, number, line) in code(Path::new("src")) {
        let place = file.strip_prefix("src").unwrap();
        let room = place.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if matches!(room, "main" | "lib" | "build") {
            continue;
        }
        let floor = |room: &str| FLOORS.iter().position(|known| *known == room);
        let own = floor(room).unwrap_or_else(|| panic!("{room} has no floor"));
        for used in line.split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if floor(&used).is_some_and(|floor| floor > own) {
                broken.push(format!("{}:{number}: {room} uses {used}\n    {line}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

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
fn pingora_the_store_and_metrics_are_named_by_their_adapters_only() {
    let mut broken = Vec::new();
    for (file, number, line) in code(Path::new("src")) {
        let place = file.strip_prefix("src").unwrap();
        let may = |rooms: &[&str]| rooms.iter().any(|may| place.starts_with(may));
        let pingora = line.contains("pingora::") || line.contains("pingora_timeout::");
        let redis = line.contains("use redis::");
        let prometheus = line.contains("prometheus");
        if (pingora && !may(MAY_NAME_PINGORA))
            || (redis && !may(MAY_NAME_REDIS))
            || (prometheus && !may(MAY_NAME_PROMETHEUS))
        {
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
