//! Every metric, declared once. Labels come from the configuration and from closed
//! lists, and every series exists from the start, so that an alert works before the
//! first event and nobody can make series by sending strange requests.

mod inbox;
mod levels;
mod refused;
mod register;
mod route;
mod tenants;

use std::collections::BTreeMap;
use std::sync::Arc;
#[cfg(feature = "otel")]
use std::sync::OnceLock;
use std::time::Duration;

use prometheus::{Encoder, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, Registry, TextEncoder};

pub use self::inbox::InboxTotals;
use self::levels::LevelGauges;
pub use self::levels::Levels;
pub use self::refused::LateDelivery;
use self::refused::Refused;
use self::register::{counter, counters, gauge, gauges, number};
use self::route::Routes;
pub use self::route::{RouteMetrics, UpstreamOutcome};
use self::tenants::Tenants;
pub use self::tenants::{Lookup, TenantMetrics};
use super::dropped::Drop;
use crate::gate::reason::Reason;
use crate::gate::route::Route;
use crate::inbox::Depth;

/// Who asked for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadSource {
    /// A file changed.
    File,
    /// SIGHUP.
    Signal,
}

impl ReloadSource {
    pub const fn label(self) -> &'static str {
        match self {
            ReloadSource::File => "file",
            ReloadSource::Signal => "signal",
        }
    }
}

pub struct Metrics {
    registry: Registry,
    routes: Routes,
    tenants: Tenants,
    refused: Refused,
    levels: LevelGauges,
    replay: Replay,
    connections: Connections,
    reloads: Reloads,
    keys: PublishedKeys,
    certificate_not_after: GaugeVec,
    panics: IntCounter,
    log_dropped: IntCounter,
    #[cfg(feature = "otel")]
    spans: OnceLock<SpanCounters>,
}

struct Replay {
    evictions: IntCounterVec,
    file_errors: IntCounter,
    store_failures: IntCounterVec,
}

/// Those that come to no request.
struct Connections {
    dropped: IntCounterVec,
    accept_failures: IntCounterVec,
}

/// Keys that are fetched.
struct PublishedKeys {
    fetches: IntCounterVec,
    age: GaugeVec,
    confirmations: IntCounterVec,
}

struct Reloads {
    ended: IntCounterVec,
    last_successful: IntGauge,
    last_success: Gauge,
}

/// What became of spans.
#[cfg(feature = "otel")]
#[derive(Clone)]
pub(super) struct SpanCounters {
    pub exported: IntCounter,
    pub dropped: IntCounter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let r = &Registry::new();
        build_info(r);
        process_info(r);
        Metrics {
            routes: Routes::new(r),
            tenants: Tenants::new(r),
            refused: Refused::new(r),
            levels: LevelGauges::new(r),
            replay: Replay::new(r),
            connections: Connections::new(r),
            reloads: Reloads::new(r),
            keys: PublishedKeys::new(r),
            certificate_not_after: gauges(
                r,
                "hookgate_certificate_not_after_timestamp_seconds",
                "When the certificate in use expires.",
                &["listener"],
            ),
            panics: counter(r, "hookgate_panics_total", "Panics that were caught."),
            log_dropped: counter(
                r,
                "hookgate_log_events_dropped_total",
                "Log lines that were dropped rather than waited for, or could not be written.",
            ),
            #[cfg(feature = "otel")]
            spans: OnceLock::new(),
            registry: r.clone(),
        }
    }

    /// Of routes that are gone, what could be taken for their present state goes too.
    pub fn keep_only<'n>(&self, names: impl Iterator<Item = &'n str>) {
        self.routes.keep_only(names);
    }

    /// The series of a route, all at zero if the route is new.
    pub fn route(&self, route: &Route) -> Arc<RouteMetrics> {
        self.refused.one(&route.name);
        self.routes.one(route)
    }

    /// The series of a route that has tenants, all at zero if it is new.
    pub fn tenants(&self, route: &str) -> Arc<TenantMetrics> {
        self.tenants.one(route)
    }

    /// Of routes that are gone or have tenants no more, what could be taken for their present state goes.
    pub fn keep_tenants_of<'n>(&self, routes: impl Iterator<Item = &'n str>) {
        self.tenants.keep_only(routes);
    }

    /// The inbox has written, or tried to.
    pub fn inbox_wrote(&self, took: Duration, is_durable: bool) {
        self.routes.inbox.wrote(took, is_durable);
    }

    /// How much the inbox holds, of these routes and of those that are gone.
    pub fn set_inbox(
        &self,
        routes: &[&str],
        depths: &BTreeMap<String, Depth>,
        totals: InboxTotals,
        now_ms: i64,
    ) {
        self.routes.inbox.set(routes, depths, totals, now_ms);
    }

    /// Counts a request that reached no route.
    pub(super) fn unrouted(&self, reason: Reason) {
        self.routes.unrouted(reason);
    }

    pub fn evicted(&self, cause: &str, count: usize) {
        self.replay.evictions.with_label_values(&[cause]).inc_by(count as u64);
    }

    /// So many deliveries were not written down at once, or attempts to write failed.
    pub fn replay_file_failed(&self, count: u64) {
        self.replay.file_errors.inc_by(count);
    }

    /// So many calls of a shared store failed.
    pub fn store_failed(&self, cause: &str, calls: u64) {
        self.replay.store_failures.with_label_values(&[cause]).inc_by(calls);
    }

    /// The series of a listener, all at zero.
    pub(super) fn listens(&self, listener: &str) {
        for drop in Drop::ALL {
            self.connections.dropped.with_label_values(&[listener, drop.label()]);
        }
        self.connections.accept_failures.with_label_values(&[listener]);
    }

    pub(super) fn dropped(&self, listener: &str, drop: Drop) {
        self.connections.dropped.with_label_values(&[listener, drop.label()]).inc();
    }

    /// It could not accept a connection.
    pub(super) fn starved(&self, listener: &str) {
        self.connections.accept_failures.with_label_values(&[listener]).inc();
    }

    pub fn reloaded(&self, source: ReloadSource, success: bool, wall_ms: i64) {
        let result = if success { "success" } else { "failure" };
        self.reloads.ended.with_label_values(&[source.label(), result]).inc();
        if success {
            self.loaded(wall_ms);
        } else {
            self.reloads.last_successful.set(0);
        }
    }

    /// The configuration in effect was loaded at that time. The start is the first load: an
    /// alert on a failed one must not fire before there was any.
    pub fn loaded(&self, wall_ms: i64) {
        self.reloads.last_successful.set(1);
        self.reloads.last_success.set(seconds(wall_ms));
    }

    pub fn certificate_expires(&self, listener: &str, unix_seconds: i64) {
        #[expect(clippy::cast_precision_loss, reason = "a time in seconds")]
        self.certificate_not_after.with_label_values(&[listener]).set(unix_seconds as f64);
    }

    /// The series of a provider whose keys are fetched, all at zero.
    pub fn fetches_keys(&self, source: &str, results: impl Iterator<Item = &'static str>) {
        for result in results {
            self.keys.fetches.with_label_values(&[source, result]);
        }
        self.keys.age.with_label_values(&[source]);
    }

    /// A fetch of keys ended.
    pub fn keys_fetched(&self, source: &str, result: &str) {
        self.keys.fetches.with_label_values(&[source, result]).inc();
    }

    /// How long ago the oldest document of a provider's keys was fetched.
    pub fn keys_age(&self, source: &str, age: Duration) {
        self.keys.age.with_label_values(&[source]).set(age.as_secs_f64());
    }

    /// The series of a provider for which addresses are visited, all at zero.
    pub fn confirms(&self, source: &str, results: impl Iterator<Item = &'static str>) {
        for result in results {
            self.keys.confirmations.with_label_values(&[source, result]);
        }
    }

    /// A visit ended.
    pub fn confirmed(&self, source: &str, result: &str) {
        self.keys.confirmations.with_label_values(&[source, result]).inc();
    }

    pub fn panicked(&self) {
        self.panics.inc();
    }

    pub(super) fn log_dropped(&self) -> IntCounter {
        self.log_dropped.clone()
    }

    /// Exposed only where spans are exported.
    #[cfg(feature = "otel")]
    pub(super) fn spans(&self) -> SpanCounters {
        let r = &self.registry;
        let new = || SpanCounters {
            exported: counter(r, "hookgate_spans_exported_total", "Spans that the collector took."),
            dropped: counter(
                r,
                "hookgate_spans_dropped_total",
                "Spans that were dropped rather than waited for.",
            ),
        };
        self.spans.get_or_init(new).clone()
    }

    /// The exposition in the classic text format, version 0.0.4.
    pub fn text(&self, levels: &Levels) -> Vec<u8> {
        self.levels.set(levels);
        let mut text = Vec::with_capacity(16 * 1024);
        // Writing to memory does not fail; what is gathered was checked at registration.
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("metrics encode");
        text
    }
}

impl Replay {
    fn new(r: &Registry) -> Self {
        let evictions = counters(
            r,
            "hookgate_replay_evictions_total",
            "Events that were forgotten, by cause.",
            &["cause"],
        );
        for cause in ["expired", "capacity"] {
            evictions.with_label_values(&[cause]);
        }
        let file_errors = counter(
            r,
            "hookgate_replay_file_errors_total",
            "Deliveries that were not written down at once, and failed attempts to write.",
        );
        let store_failures = counters(
            r,
            "hookgate_replay_store_failures_total",
            "Calls of a shared replay store that failed, by cause.",
            &["cause"],
        );
        for cause in ["connection", "nonsense", "refused", "timeout"] {
            store_failures.with_label_values(&[cause]);
        }
        Replay { evictions, file_errors, store_failures }
    }
}

impl PublishedKeys {
    fn new(r: &Registry) -> Self {
        PublishedKeys {
            fetches: counters(
                r,
                "hookgate_key_fetches_total",
                "Fetches of keys that providers publish, by provider and how they ended.",
                &["source", "result"],
            ),
            age: gauges(
                r,
                "hookgate_key_age_seconds",
                "How long ago the oldest document of a provider's keys was fetched.",
                &["source"],
            ),
            confirmations: counters(
                r,
                "hookgate_confirmations_total",
                "Visits that confirm what a provider asks for, by provider and how they ended.",
                &["source", "result"],
            ),
        }
    }
}

impl Connections {
    fn new(r: &Registry) -> Self {
        Connections {
            dropped: counters(
                r,
                "hookgate_connections_dropped_total",
                "Connections that ended before a request, by reason.",
                &["listener", "reason"],
            ),
            accept_failures: counters(
                r,
                "hookgate_accept_failures_total",
                "Connections that had to wait because none could be accepted.",
                &["listener"],
            ),
        }
    }
}

impl Reloads {
    fn new(r: &Registry) -> Self {
        let ended = counters(
            r,
            "hookgate_reloads_total",
            "Reloads, by who asked and how they ended.",
            &["source", "result"],
        );
        for source in [ReloadSource::File, ReloadSource::Signal] {
            for result in ["success", "failure"] {
                ended.with_label_values(&[source.label(), result]);
            }
        }
        Reloads {
            ended,
            last_successful: gauge(r, "hookgate_last_reload_successful", "1 if the last reload succeeded."),
            last_success: number(
                r,
                "hookgate_last_reload_success_timestamp_seconds",
                "When configuration was last loaded.",
            ),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact until the year 287396")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

fn build_info(registry: &Registry) {
    let labels = ["version", "revision", "pingora", "rustc"];
    let values = [
        env!("CARGO_PKG_VERSION"),
        env!("HOOKGATE_REVISION"),
        env!("HOOKGATE_PINGORA"),
        env!("HOOKGATE_RUSTC"),
    ];
    gauges(registry, "hookgate_build_info", "What was built from what.", &labels)
        .with_label_values(&values)
        .set(1.0);
}

/// `process_*`: CPU, memory, descriptors, start time.
fn process_info(registry: &Registry) {
    let process = prometheus::process_collector::ProcessCollector::for_self();
    registry.register(Box::new(process)).expect("registered once");
}
