//! What goes on beside the deliveries, once a second: what has expired is forgotten, and what changes by
//! itself is told.

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::config::store::OnStoreError;
use crate::proxy::Sidecar;
use crate::store::Health;
use crate::telemetry::Telemetry;
use crate::telemetry::event::Event;
use crate::telemetry::keys::KeyWatch;
use crate::telemetry::silence::SilenceWatch;

/// Between two looks at what has expired.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
const SWEEP_EVERY: u32 = 5;
const LOOK_AT_KEYS_EVERY: u32 = 10;

/// Asks a store outside the process whether it is there, also while no event does, and tells
/// when that changes.
pub async fn watch_store(sidecar: Arc<Sidecar>, on_error: OnStoreError) {
    let Some(mut health) = sidecar.store.health() else { return };
    loop {
        sidecar.store.probe().await;
        if let Ok(Ok(())) = tokio::time::timeout(HOUSEKEEPING, health.changed()).await {
            let health = health.borrow_and_update().clone();
            tell_health(&sidecar.telemetry, &health, on_error);
        }
    }
}

fn tell_health(telemetry: &Telemetry, health: &Health, on_error: OnStoreError) {
    match health {
        Health::Unknown => {}
        Health::Up => telemetry.tell(Event::StoreUp),
        Health::Down(reason) => telemetry.tell(Event::StoreDown { reason, meanwhile: on_error }),
    }
}

/// Forgets what has expired and closes connections that nobody uses.
pub async fn housekeeping(sidecar: Arc<Sidecar>) {
    let mut keys = KeyWatch::default();
    let mut silence = SilenceWatch::default();
    for tick in 1u32.. {
        tokio::time::sleep(HOUSEKEEPING).await;
        sidecar.upstream.prune();
        if let Some(ms) = clock::follow() {
            sidecar.telemetry.tell(Event::ClockJumped { ms });
        }
        let live = sidecar.live.load_full();
        for event in silence.look(live.routes(), clock::now()) {
            sidecar.telemetry.tell(event);
        }
        if tick.is_multiple_of(LOOK_AT_KEYS_EVERY) {
            for event in keys.look(live.routes(), clock::now()) {
                sidecar.telemetry.tell(event);
            }
        }
        if tick.is_multiple_of(SWEEP_EVERY) || !sidecar.store.is_usable() {
            let store = sidecar.store.clone();
            // A million entries take milliseconds, which belong to no request.
            let sweep = tokio::task::spawn_blocking(move || store.sweep(clock::now()));
            if let Ok(swept) = sweep.await {
                sidecar.telemetry.metrics.evicted("expired", swept.expired);
                sidecar.telemetry.metrics.evicted("capacity", swept.capacity);
            }
        }
    }
}
