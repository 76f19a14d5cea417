//! Searches that a seed repeats: what a gate makes of faults, kills and changed requests, as many of
//! them as there is time for.

#![allow(clippy::unwrap_used)]

#[path = "../support/rng.rs"]
mod rng;
#[allow(dead_code, unused_imports, reason = "a part of it; `attacks` shows what nobody uses")]
#[path = "../support/mod.rs"]
mod support;

// The application, which fails as it is told.
mod app;
// What happened, and the laws that it is held against.
mod history;
// Gates that are killed while they write their replay file.
mod kills;
// Signed requests that are changed on their way.
mod mutations;
// Everything fails that can, in thousands of short runs.
mod search;
// The wires on both sides, which fail as they are told.
mod wire;
// A gate between both, and one run of it.
mod world;

/// One search at a time: each takes what a machine can give, and is not to wait for another.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
