//! A running gate between a sender and an application: what each of them gets to see.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, unused_imports, reason = "a part of it; `attacks` shows what nobody uses")]
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "the same")]
#[path = "../support/tls.rs"]
mod tls;

// The first promise of the project, row by row.
mod contract;
// Bytes and answers on their way, and whatever breaks on either side.
mod delivery;
// What is told of those that come to no request.
mod endings;
// Which verified events reach it.
mod events;
// Which headers reach the application.
mod forwarding;
// What providers ask before they send events.
mod handshake;
// The listener with TLS.
mod https;
// How much reaches it at once, and how fast.
mod lane;
// What is taken although it could be refused.
mod liberal;
// What is no webhook.
mod other_traffic;
// The signature that it gets.
mod resign;
// One route, a secret for each tenant.
mod tenants;
// Whose word is believed about the sender's address.
mod trust;
