//! A gate in the hands of its operators: how it starts, tells, takes changes and ends.

#![allow(clippy::unwrap_used)]

#[path = "../support/prometheus.rs"]
mod prometheus;
#[allow(dead_code, reason = "a part of it; `faults` shows what nobody uses")]
#[path = "../support/rng.rs"]
mod rng;
#[allow(dead_code, unused_imports, reason = "a part of it; `attacks` shows what nobody uses")]
#[path = "../support/mod.rs"]
mod support;

// Lists of addresses, and how they are read again.
mod addresses;
// How many files it may have open.
mod descriptors;
// A secret that is not there stops its own route only.
mod missing;
// Every series, and what none of them tells.
mod metrics;
// A route that says what it would refuse, and forwards it.
mod observe;
// Probes, version and metrics, apart from the traffic.
mod ops;
// Spans for a collector; the program has them with the feature `otel`.
#[cfg(feature = "otel")]
mod otlp;
// The page for people, in a browser.
mod page;
// What was read at the start is read again.
mod reload;
// `hookgate report`.
mod report;
// A key takes another's place.
mod rotation;
// What must stay inside is in nothing that the program prints or tells.
mod secrets;
// The end, with and without deliveries under way.
mod shutdown;
// A route that expects events and gets none.
mod silence;
// How a start fails.
mod start;
