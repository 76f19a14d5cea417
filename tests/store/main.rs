//! The replay memory: what every store promises, and what becomes of a file, of a shared store
//! and of an event that an operator wants again.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "a part of it; `gate` shows what nobody uses")]
#[path = "../support/pure.rs"]
mod pure;
#[path = "../support/redis.rs"]
mod redis_server;
#[allow(dead_code, unused_imports, reason = "a part of it; `attacks` shows what nobody uses")]
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "the same")]
#[path = "../support/tls.rs"]
mod tls;

// What every store promises, without a gate.
mod contract;
// `hookgate forget`.
mod forget;
// The replay file of running gates.
mod replay_file;
// Several gates and one Redis.
mod shared;
// Secrets of tenants in the shared store.
mod tenants;
