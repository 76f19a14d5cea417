//! What goes on beside the deliveries, once a second: what has expired is forgotten, and what changes by
//! itself is told.

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::config::store::OnStoreError;
use crate::inbox::{Inbox, When};
use crate::proxy::Sidecar;
use crate::store::{Cause, Failures, Health, Trouble};
use crate::telemetry::Telemetry;
use crate::telemetry::event::Event;
use crate::telemetry::keys::KeyWatch;
use crate::telemetry::reminder::Reminder;
use crate::telemetry::silence::SilenceWatch;

/// Between two looks at what has expired.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
const SWEEP_EVERY: u32 = 5;
/// What a store fails to do while it is up is told once in so many looks, which take up to a second.
const TELL_FAILURES_EVERY: u32 = 10;
const LOOK_AT_KEYS_EVERY: u32 = 10;

/// Asks a store outside the process whether it is there, also while no event does, and tells
/// when that changes, and how many calls fail.
pub async fn watch_store(sidecar: Arc<Sidecar>, on_error: OnStoreError) {
    let Some(mut health) = sidecar.store.health() else { return };
    let mut lately = Failures::default();
    for tick in 0u32.. {
        sidecar.store.probe().await;
        if let Ok(Ok(())) = tokio::time::timeout(HOUSEKEEPING, health.changed()).await {
            let health = health.borrow_and_update().clone();
            tell_health(&sidecar.telemetry, &health, on_error);
        }
        let failures = sidecar.store.failures();
        for cause in Cause::ALL {
            sidecar.telemetry.metrics.store_failed(cause.label(), failures.of(cause));
        }
        lately.add(failures);
        if tick.is_multiple_of(TELL_FAILURES_EVERY) {
            tell_failures(&sidecar, &std::mem::take(&mut lately));
        }
    }
}

fn tell_health(telemetry: &Telemetry, health: &Health, on_error: OnStoreError) {
    match health {
        Health::Unknown => {}
        Health::Up => telemetry.tell(Event::StoreUp),
        Health::Down(Trouble { cause, reason }) => {
            let refuses = *cause == Cause::Refused;
            telemetry.tell(Event::StoreDown { refuses, reason, meanwhile: on_error });
        }
    }
}

/// A store that fails now and then is up, and its failures are refused events all the same.
fn tell_failures(sidecar: &Sidecar, failures: &Failures) {
    let calls: u64 = failures.calls.iter().sum();
    let Some(last) = failures.last.as_ref().filter(|_| sidecar.store.is_up()) else { return };
    sidecar.telemetry.tell(Event::StoreFails { calls, last: &last.reason });
}

/// Forgets what has been in the inbox for long enough, and tells when it cannot do its work.
pub async fn watch_inbox(sidecar: Arc<Sidecar>, window: Duration) {
    let Some(inbox) = sidecar.inbox.clone() else { return };
    let mut told = Told::default();
    for tick in 0u32.. {
        tokio::time::sleep(HOUSEKEEPING).await;
        let some_route_stores =
            sidecar.live.load().endpoints.iter().any(|endpoint| endpoint.policy.on != When::Never);
        if !inbox.is_wanted(some_route_stores).await {
            continue;
        }
        told.look(&sidecar, &inbox);
        told.durability(&sidecar, &inbox).await;
        if tick.is_multiple_of(SWEEP_EVERY) {
            let live = sidecar.live.load_full();
            // No wait is longer than a route's longest, and what an application asks for at most.
            let longest = live.endpoints.iter().map(|endpoint| endpoint.policy.retry.give_up).max();
            let tidied = inbox.tidy(clock::now().wall_ms, window, longest.unwrap_or_default()).await;
            _ = tidied; // a disk that takes nothing is told above
        }
    }
}

/// What was told of the inbox already.
#[derive(Default)]
struct Told {
    trouble: bool,
    full: bool,
    parked: String,
    durable: String,
}

impl Told {
    /// What the server of a fleet makes of what is stored, when that is known and when it changes.
    async fn durability(&mut self, sidecar: &Sidecar, inbox: &Inbox) {
        let Ok(Some(durability)) = inbox.durability().await else { return };
        let durable = durability.to_string();
        if durable != self.durable {
            let is_safe = durability.is_safe();
            sidecar.telemetry.tell(Event::InboxShared { durable: &durable, is_safe });
            self.durable = durable;
        }
    }

    fn look(&mut self, sidecar: &Sidecar, inbox: &Inbox) {
        let telemetry = &sidecar.telemetry;
        match inbox.totals().trouble {
            Some(message) if !self.trouble => telemetry.tell(Event::InboxTrouble { message: &message }),
            None if self.trouble => telemetry.tell(Event::InboxMended),
            Some(_) | None => {}
        }
        self.trouble = !inbox.is_usable();
        let full = inbox.is_full();
        if full && !self.full {
            telemetry.tell(Event::InboxFull { bytes: inbox.bytes() });
        }
        self.full = full;
        let live = sidecar.live.load();
        let depths = inbox.depths();
        let is_gone = |name: &str| !live.routes().any(|(route, _)| *route.name == *name);
        let gone: Vec<_> = depths.iter().filter(|(name, depth)| depth.stored > 0 && is_gone(name)).collect();
        let routes = gone.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        if !routes.is_empty() && routes != self.parked {
            let events = gone.iter().map(|(_, depth)| depth.stored).sum();
            telemetry.tell(Event::InboxParked { routes: &routes, events });
        }
        self.parked = routes;
    }
}

/// Forgets what has expired and closes connections that nobody uses.
pub async fn housekeeping(sidecar: Arc<Sidecar>) {
    let mut keys = KeyWatch::default();
    let mut silence = SilenceWatch::default();
    let mut reminder = Reminder::default();
    for tick in 1u32.. {
        tokio::time::sleep(HOUSEKEEPING).await;
        sidecar.upstream.prune();
        sidecar.rooms.renew();
        if let Some(ms) = clock::follow() {
            sidecar.telemetry.tell(Event::ClockJumped { ms });
        }
        let live = sidecar.live.load_full();
        for event in silence.look(live.routes(), clock::now()) {
            sidecar.telemetry.tell(event);
        }
        for keys in live.endpoints.iter().filter_map(|endpoint| endpoint.keys.as_ref()) {
            keys.news(|event| sidecar.telemetry.tell(event));
        }
        let now = clock::now().mono;
        for event in reminder.of_missing(live.routes().map(|(route, _)| route), now) {
            sidecar.telemetry.tell(event);
        }
        let unapplied = sidecar.unapplied.load();
        if reminder.of_restart(!unapplied.keys.is_empty(), now) {
            sidecar.telemetry.tell(Event::RestartNeeded { changes: &unapplied.changes });
        }
        drop(unapplied);
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
