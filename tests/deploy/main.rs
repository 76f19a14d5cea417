//! What is shipped beside the program: image, manifests, dashboard and alerts, each judged by the tool
//! that will read it. A tool that is not installed is skipped aloud.

#![allow(clippy::unwrap_used)]

#[path = "../support/kube.rs"]
mod kube;
#[path = "../support/prometheus.rs"]
mod prometheus;
#[allow(dead_code, reason = "a part of it")]
#[path = "../support/redis.rs"]
mod redis_server;
#[allow(dead_code, reason = "a part of it")]
#[path = "../support/rng.rs"]
mod rng;
#[allow(dead_code, unused_imports, reason = "a part of it; `attacks` shows what nobody uses")]
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "the same")]
#[path = "../support/tls.rs"]
mod tls;

// The alerts, each with a unit test in alerts/.
mod alerts;
// Grafana's dashboard.
mod dashboard;
// Manifests of others, with the gate put in; inject/ has charts and what compares them.
mod inject;
// The admission policies, evaluated.
mod policies;
// The recipes.
mod recipes;
// The image, built and run.
mod image;
// The manifests; kubernetes/ has what they are judged by.
mod kubernetes;
// What released versions left behind; upgrade/ has samples.
mod upgrade;
