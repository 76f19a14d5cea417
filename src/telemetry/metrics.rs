//! Every metric, declared once. Labels come from the configuration and from closed
//! lists, and every series exists from the start, so that an alert works before the
//! first event and nobody can make series by sending strange requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    Opts, Registry, TextEncoder,
};

use super::activity::Activity;
use super::dropped::Drop;
use super::lock;
use crate::clock;
use crate::gate::filter::signature::Scheme;
use crate::gate::reason::{Reason, Verdict};
use crate::gate::route::{Mode, Route};
use crate::store::Cause;

/// What became of a call to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamOutcome {
    Status2xx,
    Status3xx,
    Status4xx,
    Status5xx,
    ConnectError,
    Timeout,
    Broken,
}

impl UpstreamOutcome {
    pub const ALL: [UpstreamOutcome; 7] = [
        UpstreamOutcome::Status2xx,
        UpstreamOutcome::Status3xx,
        UpstreamOutcome::Status4xx,
        UpstreamOutcome::Status5xx,
        UpstreamOutcome::ConnectError,
        UpstreamOutcome::Timeout,
        UpstreamOutcome::Broken,
    ];

    pub fn of_status(status: u16) -> Self {
        match status {
            ..300 => UpstreamOutcome::Status2xx,
            300..400 => UpstreamOutcome::Status3xx,
            400..500 => UpstreamOutcome::Status4xx,
            500.. => UpstreamOutcome::Status5xx,
        }
    }

    pub const fn label(self) -> &'static str {
        match self {
            UpstreamOutcome::Status2xx => "2xx",
            UpstreamOutcome::Status3xx => "3xx",
            UpstreamOutcome::Status4xx => "4xx",
            UpstreamOutcome::Status5xx => "5xx",
            UpstreamOutcome::ConnectError => "connect_error",
            UpstreamOutcome::Timeout => "timeout",
            UpstreamOutcome::Broken => "broken",
        }
    }
}

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

/// The route label of requests that reach no route. No route can have this name.
const NO_ROUTE: &str = "-";

const SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const VERIFY_SECONDS: &[f64] =
    &[0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05];
const AGE_SECONDS: &[f64] = &[0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_duration: HistogramVec,
    verify_duration: HistogramVec,
    upstream_duration: HistogramVec,
    upstream_responses: IntCounterVec,
    event_age: HistogramVec,
    key_matches: IntCounterVec,
    key_last_match: GaugeVec,
    key_not_after: GaugeVec,
    last_accepted: GaugeVec,
    observing: GaugeVec,
    silence: GaugeVec,
    /// The routes that are configured, and what is remembered of each over reloads.
    routes: Mutex<HashMap<Arc<str>, Arc<Activity>>>,
    pub in_flight: IntGauge,
    pub buffered_bytes: IntGauge,
    pub connections: IntGauge,
    pub replay_entries: IntGauge,
    pub replay_capacity: IntGauge,
    pub replay_store_up: IntGauge,
    store_failures: IntCounterVec,
    connections_dropped: IntCounterVec,
    accept_failures: IntCounterVec,
    replay_evictions: IntCounterVec,
    pub replay_file_errors: IntCounter,
    reloads: IntCounterVec,
    pub last_reload_successful: IntGauge,
    pub last_reload_success: Gauge,
    certificate_not_after: GaugeVec,
    pub ready: IntGauge,
    pub draining: IntGauge,
    pub panics: IntCounter,
    pub log_dropped: IntCounter,
    unrouted: Vec<IntCounter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    #[expect(clippy::too_many_lines, reason = "one entry for each metric")]
    pub fn new() -> Self {
        let r = &Registry::new();
        let requests = counters(
            r,
            "hookgate_requests_total",
            "Requests, by what became of them.",
            &["route", "provider", "verdict", "reason"],
        );
        let unrouted = Reason::ALL
            .map(|reason| {
                requests.with_label_values(&[NO_ROUTE, NO_ROUTE, reason.verdict().label(), reason.label()])
            })
            .to_vec();
        let metrics = Metrics {
            requests,
            unrouted,
            request_duration: histograms(
                r,
                "hookgate_request_duration_seconds",
                "From the complete head to the answer.",
                SECONDS,
            ),
            verify_duration: histograms(
                r,
                "hookgate_verify_duration_seconds",
                "The gate's own work, without waiting for the body or the application.",
                VERIFY_SECONDS,
            ),
            upstream_duration: histograms(
                r,
                "hookgate_upstream_duration_seconds",
                "From the call of the application to its complete answer.",
                SECONDS,
            ),
            upstream_responses: counters(
                r,
                "hookgate_upstream_responses_total",
                "What became of calls to the application.",
                &["route", "outcome"],
            ),
            event_age: histograms(
                r,
                "hookgate_event_age_seconds",
                "Arrival minus the signed time of genuine events.",
                AGE_SECONDS,
            ),
            key_matches: counters(
                r,
                "hookgate_key_matches_total",
                "Signatures that held, by the key that made them.",
                &["route", "key_id"],
            ),
            key_last_match: gauges(
                r,
                "hookgate_key_last_match_timestamp_seconds",
                "When a signature last held under the key.",
                &["route", "key_id"],
            ),
            key_not_after: gauges(
                r,
                "hookgate_key_not_after_timestamp_seconds",
                "When the key ceases to be valid, if that is configured.",
                &["route", "key_id"],
            ),
            last_accepted: gauges(
                r,
                "hookgate_last_accepted_timestamp_seconds",
                "When the route last accepted an event.",
                &["route"],
            ),
            observing: gauges(r, "hookgate_route_observing", "1 if the route only observes.", &["route"]),
            silence: gauges(
                r,
                "hookgate_silence_seconds",
                "Since the last accepted event (or the start) once that is longer than expected, else 0.",
                &["route"],
            ),
            routes: Mutex::default(),
            in_flight: gauge(r, "hookgate_requests_in_flight", "Requests and deliveries under way."),
            buffered_bytes: gauge(r, "hookgate_buffered_body_bytes", "Bytes of bodies that are held."),
            connections: gauge(r, "hookgate_connections", "Open connections of senders."),
            replay_entries: gauge(r, "hookgate_replay_entries", "Events that are remembered."),
            replay_capacity: gauge(r, "hookgate_replay_capacity", "Events that can be remembered."),
            replay_store_up: gauge(r, "hookgate_replay_store_up", "1 if the replay store answers."),
            connections_dropped: counters(
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
            store_failures: counters(
                r,
                "hookgate_replay_store_failures_total",
                "Calls of a shared replay store that failed, by cause.",
                &["cause"],
            ),
            replay_evictions: counters(
                r,
                "hookgate_replay_evictions_total",
                "Events that were forgotten, by cause.",
                &["cause"],
            ),
            replay_file_errors: counter(
                r,
                "hookgate_replay_file_errors_total",
                "Deliveries that were not written down at once, and failed attempts to write.",
            ),
            reloads: counters(
                r,
                "hookgate_reloads_total",
                "Reloads, by who asked and how they ended.",
                &["source", "result"],
            ),
            last_reload_successful: gauge(
                r,
                "hookgate_last_reload_successful",
                "1 if the last reload succeeded.",
            ),
            last_reload_success: register(
                r,
                Gauge::new(
                    "hookgate_last_reload_success_timestamp_seconds",
                    "When configuration was last loaded.",
                ),
            ),
            certificate_not_after: gauges(
                r,
                "hookgate_certificate_not_after_timestamp_seconds",
                "When the certificate in use expires.",
                &["listener"],
            ),
            ready: gauge(r, "hookgate_ready", "1 if ready for traffic."),
            draining: gauge(r, "hookgate_draining", "1 if shutting down."),
            panics: counter(r, "hookgate_panics_total", "Panics that were caught."),
            log_dropped: counter(
                r,
                "hookgate_log_events_dropped_total",
                "Log lines that were dropped rather than wait for.",
            ),
            registry: r.clone(),
        };
        for cause in ["expired", "capacity"] {
            metrics.evicted(cause, 0);
        }
        for cause in Cause::ALL {
            metrics.store_failed(cause, 0);
        }
        for source in [ReloadSource::File, ReloadSource::Signal] {
            for result in ["success", "failure"] {
                metrics.reloads.with_label_values(&[source.label(), result]);
            }
        }
        build_info(r);
        process_info(r);
        metrics
    }

    /// The series of the routes that there are. Of one that is gone, what could be taken for
    /// its present state goes too.
    pub fn routes(&self, routes: &[Arc<Route>]) -> Vec<Arc<RouteMetrics>> {
        let mut known = lock(&self.routes);
        known.retain(|name, _| {
            let stays = routes.iter().any(|route| route.name == *name);
            if !stays {
                for state in [&self.observing, &self.silence] {
                    _ = state.remove_label_values(&[name]);
                }
            }
            stays
        });
        drop(known);
        routes.iter().map(|route| self.route(route)).collect()
    }

    fn activity(&self, route: &Route) -> Arc<Activity> {
        let mut known = lock(&self.routes);
        let new = || Arc::new(Activity::new(clock::now()));
        Arc::clone(known.entry(Arc::clone(&route.name)).or_insert_with(new))
    }

    /// The series of a route, all at zero if the route is new.
    pub fn route(&self, route: &Route) -> Arc<RouteMetrics> {
        let name: &str = &route.name;
        let requests = |verdict: Verdict, reason: Reason| {
            self.requests.with_label_values(&[name, &route.provider, verdict.label(), reason.label()])
        };
        let key_ids = route.signature.schemes().iter().flat_map(Scheme::keys).map(|k| Arc::clone(&k.id));
        let mut keys: Vec<KeyMetrics> = Vec::new();
        for id in key_ids {
            if !keys.iter().any(|known| known.id == id) {
                let labels = [name, &*id];
                let matches = self.key_matches.with_label_values(&labels);
                let last_match = self.key_last_match.with_label_values(&labels);
                keys.push(KeyMetrics { id, matches, last_match });
            }
        }
        for key in route.rotation.keys() {
            let labels = [name, &*key.id];
            match key.not_after_ms {
                Some(end) => self.key_not_after.with_label_values(&labels).set(seconds(end)),
                // It may have had an end before the reload.
                None => _ = self.key_not_after.remove_label_values(&labels),
            }
        }
        if route.expect_every.is_none() {
            // It may have expected something before the reload.
            _ = self.silence.remove_label_values(&[name]);
        }
        self.observing.with_label_values(&[name]).set(f64::from(u8::from(route.mode == Mode::Observe)));
        Arc::new(RouteMetrics {
            plain: Reason::ALL.map(|reason| requests(reason.verdict(), reason)),
            observed: Reason::ALL
                .map(|reason| reason.observable().then(|| requests(Verdict::Observed, reason))),
            request_duration: self.request_duration.with_label_values(&[name]),
            verify_duration: self.verify_duration.with_label_values(&[name]),
            upstream_duration: self.upstream_duration.with_label_values(&[name]),
            upstream: UpstreamOutcome::ALL
                .map(|outcome| self.upstream_responses.with_label_values(&[name, outcome.label()])),
            event_age: self.event_age.with_label_values(&[name]),
            keys,
            last_accepted: self.last_accepted.with_label_values(&[name]),
            silence: route.expect_every.map(|_| self.silence.with_label_values(&[name])),
            activity: self.activity(route),
        })
    }

    /// Counts a request that reached no route.
    pub fn unrouted(&self, reason: Reason) {
        self.unrouted[reason.index()].inc();
    }

    pub fn evicted(&self, cause: &str, count: usize) {
        self.replay_evictions.with_label_values(&[cause]).inc_by(count as u64);
    }

    /// The series of a listener, all at zero.
    pub fn listens(&self, listener: &str) {
        for drop in Drop::ALL {
            self.connections_dropped.with_label_values(&[listener, drop.label()]);
        }
        self.accept_failures.with_label_values(&[listener]);
    }

    pub fn dropped(&self, listener: &str, drop: Drop) {
        self.connections_dropped.with_label_values(&[listener, drop.label()]).inc();
    }

    /// It could not accept a connection.
    pub fn starved(&self, listener: &str) {
        self.accept_failures.with_label_values(&[listener]).inc();
    }

    pub fn store_failed(&self, cause: Cause, calls: u64) {
        self.store_failures.with_label_values(&[cause.label()]).inc_by(calls);
    }

    pub fn reloaded(&self, source: ReloadSource, success: bool, wall_ms: i64) {
        let result = if success { "success" } else { "failure" };
        self.reloads.with_label_values(&[source.label(), result]).inc();
        if success {
            self.loaded(wall_ms);
        } else {
            self.last_reload_successful.set(0);
        }
    }

    /// The configuration in effect was loaded at that time. The start is the first load: an
    /// alert on a failed one must not fire before there was any.
    pub fn loaded(&self, wall_ms: i64) {
        self.last_reload_successful.set(1);
        #[expect(clippy::cast_precision_loss, reason = "a time in seconds")]
        self.last_reload_success.set(wall_ms as f64 / 1000.0);
    }

    pub fn certificate_expires(&self, listener: &str, unix_seconds: i64) {
        #[expect(clippy::cast_precision_loss, reason = "a time in seconds")]
        self.certificate_not_after.with_label_values(&[listener]).set(unix_seconds as f64);
    }

    /// Only where spans are exported. Called once.
    #[cfg(feature = "otel")]
    pub fn spans(&self) -> super::otlp::SpanCounters {
        let r = &self.registry;
        super::otlp::SpanCounters {
            exported: counter(r, "hookgate_spans_exported_total", "Spans that the collector took."),
            dropped: counter(
                r,
                "hookgate_spans_dropped_total",
                "Spans that were dropped rather than waited for.",
            ),
        }
    }

    /// The exposition in the classic text format, version 0.0.4.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(16 * 1024);
        // Writing to memory does not fail; what is gathered was checked at registration.
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("metrics encode");
        text
    }
}

/// One route's handles: no look-up on the way of a request.
pub struct RouteMetrics {
    plain: [IntCounter; Reason::ALL.len()],
    observed: [Option<IntCounter>; Reason::ALL.len()],
    pub request_duration: Histogram,
    pub verify_duration: Histogram,
    pub upstream_duration: Histogram,
    upstream: [IntCounter; UpstreamOutcome::ALL.len()],
    pub event_age: Histogram,
    keys: Vec<KeyMetrics>,
    pub last_accepted: Gauge,
    /// Only of routes that expect something.
    pub silence: Option<Gauge>,
    pub activity: Arc<Activity>,
}

impl RouteMetrics {
    pub fn requests(&self, verdict: Verdict, reason: Reason) -> &IntCounter {
        let plain = &self.plain[reason.index()];
        match verdict {
            Verdict::Observed => self.observed[reason.index()].as_ref().unwrap_or(plain),
            Verdict::Accepted | Verdict::Refused | Verdict::Failed => plain,
        }
    }

    pub fn upstream_responses(&self, outcome: UpstreamOutcome) -> &IntCounter {
        let index = UpstreamOutcome::ALL.iter().position(|o| *o == outcome);
        &self.upstream[index.expect("ALL lists every outcome")]
    }

    /// Events that were accepted, in whatever way the application then answered.
    pub fn accepted(&self) -> u64 {
        self.plain[Reason::Accepted.index()].get()
    }

    /// Deliveries that were refused, failed, or went through although they would have been refused.
    pub fn objected(&self) -> u64 {
        let all = self.plain.iter().chain(self.observed.iter().flatten()).map(IntCounter::get);
        all.sum::<u64>() - self.accepted() - self.plain[Reason::Handshake.index()].get()
    }

    pub fn key_matched(&self, id: &Arc<str>, wall_ms: i64) {
        if let Some(key) = self.keys.iter().find(|key| key.id == *id) {
            key.matches.inc();
            key.last_match.set(seconds(wall_ms));
        }
    }

    /// When a signature last held under the key.
    pub fn last_match_ms(&self, id: &str) -> Option<i64> {
        let seconds = self.keys.iter().find(|key| *key.id == *id)?.last_match.get();
        #[expect(clippy::cast_possible_truncation, reason = "a time that was milliseconds before")]
        (seconds > 0.0).then_some((seconds * 1000.0) as i64)
    }
}

/// What is counted of one key.
struct KeyMetrics {
    id: Arc<str>,
    matches: IntCounter,
    last_match: Gauge,
}

#[expect(clippy::cast_precision_loss, reason = "exact until the year 287396")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

fn register<M: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<M>) -> M {
    let metric = metric.expect("metric names and labels are constants");
    registry.register(Box::new(metric.clone())).expect("each metric is registered once");
    metric
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    register(registry, GaugeVec::new(Opts::new(name, help), labels))
}

fn histograms(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> HistogramVec {
    let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    register(registry, HistogramVec::new(opts, &["route"]))
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
