//! The inbox: what every engine promises, whatever happens to the process or to the disk, and what a gate with
//! one does for its senders and its application.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "the same; `store` shows what nobody uses")]
#[path = "../support/redis.rs"]
mod redis_server;
#[allow(dead_code, reason = "a part of it; `faults` shows what nobody uses")]
#[path = "../support/rng.rs"]
mod rng;

#[allow(dead_code, unused_imports, reason = "a part of it; `attacks` shows what nobody uses")]
#[path = "../support/mod.rs"]
mod support;

// What an operator sees of it and does with it.
mod commands;
// A gate with an inbox, between a sender and an application that fails.
mod delivery;
// A disk that fails, tears what is written, and lies.
mod disk;
// An inbox in a folder of its own, and what the tests put into it.
mod fixture;
// Gates of a fleet with one store.
mod gates;
// Random histories over the table of states.
mod histories;
// A process that is killed while it writes.
mod kills;
// What a 2xx means, whatever is killed and whatever the disk does.
mod law;
// What it holds, keeps, refuses and saves.
mod promises;
// The inbox of a fleet: several gates, and what may become of their store.
mod fleet;
// What a gate refuses, and keeps for an operator.
mod refused;
// How fast it is, for `benches/README.md`.
mod speed;
