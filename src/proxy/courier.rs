//! Delivers what is stored: whatever is due, of each route as much at once as its application takes. While
//! that is away, one event asks in a while whether it is back. Live deliveries have the way: the courier
//! takes no turn that one of them waits for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Sidecar;
use super::attempt::{
    Attempt, LEASE_MARGIN, called, is_of_application, label, outcome_of, retry_after, settle,
};
use super::lane::Lane;
use super::live::Endpoint;
use super::resign::{resigned, tenant_in};
use super::upstream::{Reply, Undelivered};
use crate::budget::Share;
use crate::clock::{self, to_rfc3339};
use crate::gate::keys::Keys;
use crate::gate::resign::Resign;
use crate::gate::route::{Mode, Route};
use crate::inbox::breaker::{Breaker, Room};
use crate::inbox::{Due, Inbox, Policy, chance};
use crate::keys::KeySource;
use crate::lock::lock;
use crate::telemetry::log::Attempted;
use crate::telemetry::metrics::{RouteMetrics, UpstreamOutcome};

/// When the event came.
const RECEIVED_AT: &str = "Hookgate-Received-At:";
/// The longest nap: routes come and go with reloads.
const NAP: Duration = Duration::from_secs(1);

/// What is known of each route's application.
#[derive(Default)]
pub struct Breakers(Mutex<HashMap<Arc<str>, Arc<Mutex<Breaker>>>>);

impl Breakers {
    fn of(&self, route: &Arc<str>) -> Arc<Mutex<Breaker>> {
        Arc::clone(lock(&self.0).entry(Arc::clone(route)).or_default())
    }

    /// An operator wants what is stored to be tried now.
    pub fn open(&self, route: &str) {
        if let Some(breaker) = lock(&self.0).get(route) {
            lock(breaker).opens();
        }
    }

    /// Whether the route's application is taken to be away.
    pub fn is_away(&self, route: &str) -> bool {
        lock(&self.0).get(route).is_some_and(|breaker| lock(breaker).is_away())
    }
}

/// Until the gate drains.
pub async fn run(sidecar: Arc<Sidecar>, inbox: Inbox) {
    while !sidecar.in_flight.is_draining() {
        let next_ms = round(&sidecar, &inbox).await;
        let until = u64::try_from(next_ms - clock::now().wall_ms).unwrap_or_default();
        tokio::select! {
            () = inbox.wake().notified() => {}
            () = tokio::time::sleep(Duration::from_millis(until.max(1)).min(NAP)) => {}
        }
    }
}

/// Sends out what is due and has room; when to look again, if nothing happens before.
async fn round(sidecar: &Arc<Sidecar>, inbox: &Inbox) -> i64 {
    let live = sidecar.live.load_full();
    let depths = inbox.depths();
    let mut next_ms = i64::MAX;
    for endpoint in live.endpoints.iter().filter(|endpoint| endpoint.route.mode != Mode::Pass) {
        let name = &endpoint.route.name;
        if depths.get(&**name).is_none_or(|depth| depth.stored == 0) {
            continue;
        }
        let breaker = sidecar.breakers.of(name);
        let now_ms = clock::now().wall_ms;
        let free = match lock(&breaker).room(now_ms) {
            Room::For(free) => free,
            Room::NoneUntil(at) => {
                next_ms = next_ms.min(at);
                continue;
            }
            Room::Full => continue,
        };
        let free = endpoint.lane.as_ref().map_or(free, |lane| lane.spare().min(free));
        if free == 0 {
            next_ms = next_ms.min(now_ms + 20); // live deliveries have the way
            continue;
        }
        let lease = sidecar.timeouts.call + LEASE_MARGIN + endpoint.route.deliver.wait;
        let Ok(due) = inbox.claim(name, now_ms, lease, free).await else {
            next_ms = next_ms.min(now_ms + 500); // the disk does not take the count of the attempt
            continue;
        };
        let is_all = due.len() < free;
        for due in due {
            lock(&breaker).begins();
            let delivery = Late::new(sidecar, inbox, endpoint, Arc::clone(&breaker));
            tokio::spawn(delivery.deliver(due));
        }
        if is_all && let Ok(Some(at)) = inbox.next_due(name).await {
            next_ms = next_ms.min(at);
        }
    }
    next_ms
}

/// What one delivery from the inbox needs.
struct Late {
    sidecar: Arc<Sidecar>,
    inbox: Inbox,
    policy: Arc<Policy>,
    route: Arc<Route>,
    metrics: Arc<RouteMetrics>,
    lane: Option<Arc<Lane>>,
    keys: Option<Arc<KeySource>>,
    breaker: Arc<Mutex<Breaker>>,
    _in_flight: super::Guard,
}

impl Late {
    fn new(sidecar: &Arc<Sidecar>, inbox: &Inbox, endpoint: &Endpoint, breaker: Arc<Mutex<Breaker>>) -> Self {
        Late {
            sidecar: Arc::clone(sidecar),
            inbox: inbox.clone(),
            policy: Arc::clone(&endpoint.policy),
            route: Arc::clone(&endpoint.route),
            metrics: Arc::clone(&endpoint.metrics),
            lane: endpoint.lane.clone(),
            keys: endpoint.keys.clone(),
            breaker,
            _in_flight: sidecar.in_flight.enter(),
        }
    }

    async fn deliver(self, due: Due) {
        let Sidecar { upstream, timeouts, budget, store, telemetry, .. } = &*self.sidecar;
        let head = with_attempt(&due.head, due.attempt, due.received_ms);
        // What was signed when it came is old by now.
        let keys = self.keys(&head).await;
        let head = resigned(&self.route, &keys, head, &due.body, clock::now());
        let mut share = Share::new(budget);
        let started = Instant::now();
        let limit = timeouts.call;
        let result = if matches!(keys, Keys::Unavailable) {
            Err(Undelivered::Unsigned) // with its old signature the application would refuse it for good
        } else {
            called(upstream, self.lane.as_deref(), &head, &due.body, limit, &mut share).await
        };
        let took = started.elapsed();
        self.learn(&result);
        let outcome = outcome_of(&result);
        if let Some(outcome) = outcome {
            self.metrics.attempted(outcome);
        }
        settle(&self.inbox, store, &self.metrics, &Attempt::from(&due), &self.policy.retry, &result).await;
        telemetry.log.attempted(&Attempted {
            route: &self.route.name,
            key: due.key,
            attempt: due.attempt,
            outcome: &label(&result),
            delivered: matches!(outcome, Some(UpstreamOutcome::Status2xx)),
            age: Duration::from_millis(
                u64::try_from(clock::now().wall_ms - due.received_ms).unwrap_or_default(),
            ),
            took,
        });
    }

    /// The keys that the event is signed with anew: where tenants have their own, those of its tenant.
    async fn keys(&self, head: &[u8]) -> Keys {
        match (&self.keys, &self.route.resign) {
            (Some(source), Some(Resign::Same)) => {
                source.of_tenant(&self.route, tenant_in(head)).await.unwrap_or(Keys::OfRoute)
            }
            _ => Keys::OfRoute,
        }
    }

    fn learn(&self, result: &Result<Reply, Undelivered>) {
        let mut breaker = lock(&self.breaker);
        if is_of_application(result) {
            let now = clock::now();
            let asked = retry_after(result, now).map(|asked| asked.min(self.policy.retry.max));
            breaker.failed(now.wall_ms, asked, chance());
        } else {
            breaker.is_there();
        }
    }
}

/// The head as it was stored, with which attempt this is and when the event came.
fn with_attempt(head: &Bytes, attempt: u32, received_ms: i64) -> Vec<u8> {
    // What was refused first came before it was stored.
    let is_said = head.split(|byte| *byte == b'\n').any(|line| line.starts_with(RECEIVED_AT.as_bytes()));
    let received = if is_said { String::new() } else { received_at(received_ms) };
    with_lines(head, &format!("Hookgate-Attempt: {attempt}\r\n{received}"))
}

/// The line that tells when the event came.
pub(super) fn received_at(ms: i64) -> String {
    format!("{RECEIVED_AT} {}\r\n", to_rfc3339(ms))
}

/// The head with more lines at its end.
pub(super) fn with_lines(head: &[u8], lines: &str) -> Vec<u8> {
    let before = head.strip_suffix(b"\r\n").unwrap_or(head);
    [before, lines.as_bytes(), b"\r\n"].concat()
}
