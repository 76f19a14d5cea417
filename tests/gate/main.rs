//! The core as a library: what it decides about a delivery, without a process or a socket.

#![allow(clippy::unwrap_used)]

#[path = "../support/pure.rs"]
mod pure;
#[allow(dead_code, reason = "a part of it; `faults` shows what nobody uses")]
#[path = "../support/rng.rs"]
mod rng;
#[path = "../support/json.rs"]
mod second_opinion;

// Who may import whom in src/.
mod architecture;
// Which check comes first where several would refuse.
mod chain_order;
// Deliveries whose keys are published, and what lies at the addresses of these.
mod fetched;
// Signatures and signed values in other places than a header.
mod places;
// Laws, tried with inputs that nobody thought of.
mod properties;
// The statistics that benches/timing.rs judges with.
mod timing;
// What providers and their SDKs have signed.
mod vectors;
// The algorithms, against Project Wycheproof's vectors.
mod wycheproof;
