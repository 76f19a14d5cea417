//! Several gates and one Redis: real processes, real connections. Each part says aloud that it
//! is skipped where there is no redis-server.

mod faults;
mod outages;
mod reaching;
mod replicas;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::redis_server::Server;
use crate::support::{App, Builder, Gate};

const PREFIX: &str = "shop:";

/// A gate before this application, with this store. Its deadline is generous, because a slow
/// machine must not look like a slow store where a test is not about that.
fn with_store(app: &App, server: &Server) -> Builder {
    with_store_at(app, &server.url()).with("replay-store-timeout", "2s")
}

fn with_store_at(app: &App, url: &str) -> Builder {
    Gate::before(app).with("replay-store", url).with("replay-store-prefix", PREFIX)
}

/// Starts a gate that need not be ready.
fn launch(builder: Builder) -> Gate {
    let command = builder.command("run");
    builder.launch_as(command)
}

/// Where the store keeps the only event that the application has seen.
fn key_of_event(app: &App) -> String {
    let application = HEXLOWER.encode(&Sha256::digest(app.url())[..8]);
    let event = app.only_request().header("Hookgate-Idempotency-Key").unwrap().to_owned();
    format!("{PREFIX}{application}:{{{event}}}")
}

/// An event that was delivered before.
fn duplicate() -> (u16, String) {
    (200, "Already processed".to_owned())
}

fn delivered() -> (u16, String) {
    (200, "app".to_owned())
}

fn unavailable() -> (u16, String) {
    (503, "Try again".to_owned())
}
