//! Keys that providers publish: a host that the tests run stands behind every pinned name, reached through a proxy
//! that leads there, and deliveries are signed with keys of the tests' own.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "a part of it; `inbox` shows what nobody uses")]
#[path = "../support/rng.rs"]
mod rng;
#[allow(dead_code, unused_imports, reason = "a part of it; `attacks` shows what nobody uses")]
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "the same")]
#[path = "../support/tls.rs"]
mod tls;

// What an operator is told, and the copy for gates without a way out.
mod commands;
// Subscriptions that the gate confirms.
mod confirming;
// The providers, end to end.
mod delivered;
// What a host does wrong, and what forgers try with it.
mod fetching;
// The host of keys.
mod host;
// What a restart leaves.
mod kept;
// What a route must say of itself.
mod said;
