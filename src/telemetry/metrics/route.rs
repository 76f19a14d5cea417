//! What is counted of deliveries, for each route and of those that reach none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::{Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, Registry};

use super::inbox::{Inbox, InboxMetrics};
use super::register::{counters, gauges, histograms};
use super::seconds;
use crate::clock;
use crate::gate::filter::signature::Scheme;
use crate::gate::reason::{Reason, Verdict};
use crate::gate::route::{Mode, Route};
use crate::lock::lock;
use crate::telemetry::activity::Activity;

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

/// The route label of requests that reach no route. No route can have this name.
const NO_ROUTE: &str = "-";

const SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const VERIFY_SECONDS: &[f64] =
    &[0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05];
const AGE_SECONDS: &[f64] = &[0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

/// The series of all routes.
pub(super) struct Routes {
    requests: IntCounterVec,
    unrouted: [IntCounter; Reason::ALL.len()],
    request_duration: HistogramVec,
    verify_duration: HistogramVec,
    upstream_duration: HistogramVec,
    upstream_responses: IntCounterVec,
    event_age: HistogramVec,
    key_matches: IntCounterVec,
    key_last_match: GaugeVec,
    key_not_after: GaugeVec,
    last_accepted: GaugeVec,
    other_deliveries: IntCounterVec,
    observing: GaugeVec,
    never_repeated: GaugeVec,
    silence: GaugeVec,
    secrets_missing: GaugeVec,
    waiting: GaugeVec,
    pub(super) inbox: Inbox,
    /// The routes that are configured, and what is remembered of each over reloads.
    known: Mutex<HashMap<Arc<str>, Arc<Activity>>>,
}

impl Routes {
    pub fn new(r: &Registry) -> Self {
        let labels = &["route", "provider", "verdict", "reason"];
        let requests = counters(r, "hookgate_requests_total", "Requests, by what became of them.", labels);
        let (route, of_key) = (&["route"], &["route", "key_id"]);
        Routes {
            unrouted: Reason::ALL.map(|reason| {
                let labels = [NO_ROUTE, NO_ROUTE, reason.verdict().label(), reason.label()];
                requests.with_label_values(&labels)
            }),
            requests,
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
                of_key,
            ),
            key_last_match: gauges(
                r,
                "hookgate_key_last_match_timestamp_seconds",
                "When a signature last held under the key.",
                of_key,
            ),
            key_not_after: gauges(
                r,
                "hookgate_key_not_after_timestamp_seconds",
                "When the key ceases to be valid, if that is configured.",
                of_key,
            ),
            other_deliveries: counters(
                r,
                "hookgate_duplicates_of_other_deliveries_total",
                "Duplicates by their content that came under another delivery id.",
                route,
            ),
            last_accepted: gauges(
                r,
                "hookgate_last_accepted_timestamp_seconds",
                "When the route last accepted an event.",
                route,
            ),
            observing: gauges(r, "hookgate_route_observing", "1 if the route only observes.", route),
            never_repeated: gauges(
                r,
                "hookgate_route_never_repeated",
                "1 if the route's provider sends nothing again, so that what fails is lost.",
                route,
            ),
            silence: gauges(
                r,
                "hookgate_silence_seconds",
                "Since the last accepted event (or the start) once that is longer than expected, else 0.",
                route,
            ),
            secrets_missing: gauges(
                r,
                "hookgate_secrets_missing",
                "Secrets of the route that are configured and could not be read.",
                route,
            ),
            waiting: gauges(
                r,
                "hookgate_deliveries_waiting",
                "Deliveries that wait for their turn with the application.",
                route,
            ),
            inbox: Inbox::new(r),
            known: Mutex::default(),
        }
    }

    /// The series of the routes that there are. Of one that is gone, what could be taken for
    /// its present state goes too.
    pub fn keep_only<'n>(&self, names: impl Iterator<Item = &'n str>) {
        let names: Vec<_> = names.collect();
        let mut known = lock(&self.known);
        known.retain(|name, _| {
            let stays = names.contains(&&**name);
            if !stays {
                for state in [
                    &self.observing,
                    &self.never_repeated,
                    &self.silence,
                    &self.secrets_missing,
                    &self.waiting,
                ] {
                    _ = state.remove_label_values(&[name]);
                }
                self.inbox.remove(name);
            }
            stays
        });
    }

    fn activity(&self, route: &Route) -> Arc<Activity> {
        let mut known = lock(&self.known);
        let new = || Arc::new(Activity::new(clock::now()));
        Arc::clone(known.entry(Arc::clone(&route.name)).or_insert_with(new))
    }

    /// The series of a route, all at zero if the route is new.
    pub fn one(&self, route: &Route) -> Arc<RouteMetrics> {
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
        let published = (route.looks_keys_up && route.tenant.is_none()).then(|| Published {
            route: Arc::clone(&route.name),
            matches: self.key_matches.clone(),
            last_match: self.key_last_match.clone(),
            known: Mutex::default(),
        });
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
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        self.secrets_missing.with_label_values(&[name]).set(route.awaits.len() as f64);
        self.observing.with_label_values(&[name]).set(f64::from(u8::from(route.mode == Mode::Observe)));
        self.never_repeated.with_label_values(&[name]).set(f64::from(u8::from(route.never_repeated)));
        Arc::new(RouteMetrics {
            plain: Reason::ALL.map(|reason| requests(reason.verdict(), reason)),
            observed: Reason::ALL
                .map(|reason| can_be_observed(route, reason).then(|| requests(Verdict::Observed, reason))),
            request_duration: self.request_duration.with_label_values(&[name]),
            verify_duration: self.verify_duration.with_label_values(&[name]),
            upstream_duration: self.upstream_duration.with_label_values(&[name]),
            upstream: UpstreamOutcome::ALL
                .map(|outcome| self.upstream_responses.with_label_values(&[name, outcome.label()])),
            event_age: self.event_age.with_label_values(&[name]),
            keys,
            published,
            last_accepted: self.last_accepted.with_label_values(&[name]),
            other_deliveries: self.other_deliveries.with_label_values(&[name]),
            silence: route.expect_every.map(|_| self.silence.with_label_values(&[name])),
            waiting: self.waiting.with_label_values(&[name]),
            inbox: self.inbox.one(name),
            activity: self.activity(route),
        })
    }

    /// Counts a request that reached no route.
    pub fn unrouted(&self, reason: Reason) {
        self.unrouted[reason.index()].inc();
    }
}

/// Whether a request may go through in spite of this reason, or, on a route that judges nothing, with it.
fn can_be_observed(route: &Route, reason: Reason) -> bool {
    match route.mode {
        Mode::Pass => matches!(reason, Reason::Accepted | Reason::UpstreamStatus),
        Mode::Enforce | Mode::Observe => reason.observable(),
    }
}

/// One route's handles: no look-up on the way of a request.
pub struct RouteMetrics {
    plain: [IntCounter; Reason::ALL.len()],
    observed: [Option<IntCounter>; Reason::ALL.len()],
    pub(in crate::telemetry) request_duration: Histogram,
    pub(in crate::telemetry) verify_duration: Histogram,
    pub(in crate::telemetry) upstream_duration: Histogram,
    upstream: [IntCounter; UpstreamOutcome::ALL.len()],
    pub(in crate::telemetry) event_age: Histogram,
    keys: Vec<KeyMetrics>,
    /// Of a route whose keys are published.
    published: Option<Published>,
    pub(in crate::telemetry) last_accepted: Gauge,
    other_deliveries: IntCounter,
    /// Only of routes that expect something.
    silence: Option<Gauge>,
    waiting: Gauge,
    pub(super) inbox: InboxMetrics,
    pub activity: Arc<Activity>,
}

impl RouteMetrics {
    pub(in crate::telemetry) fn requests(&self, verdict: Verdict, reason: Reason) -> &IntCounter {
        let plain = &self.plain[reason.index()];
        match verdict {
            Verdict::Observed => self.observed[reason.index()].as_ref().unwrap_or(plain),
            Verdict::Accepted | Verdict::Stored | Verdict::Answered | Verdict::Refused | Verdict::Failed => {
                plain
            }
        }
    }

    pub(in crate::telemetry) fn upstream_responses(&self, outcome: UpstreamOutcome) -> &IntCounter {
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
        let taken = [Reason::Accepted, Reason::Stored, Reason::Filtered, Reason::Handshake];
        all.sum::<u64>() - taken.iter().map(|reason| self.plain[reason.index()].get()).sum::<u64>()
    }

    pub fn key_matched(&self, id: &Arc<str>, wall_ms: i64) {
        if let Some(key) = self.keys.iter().find(|key| key.id == *id) {
            key.matched(wall_ms);
        } else if let Some(published) = &self.published {
            published.matched(id, wall_ms);
        }
    }

    /// An event came again under another delivery id, and only its content says that it is the same.
    pub fn came_under_another_id(&self) {
        self.other_deliveries.inc();
    }

    /// How long the route has been silent, in seconds; zero while all is as expected.
    pub fn silence(&self) -> f64 {
        self.silence.as_ref().map_or(0.0, Gauge::get)
    }

    /// The same, of a route that expects something.
    pub(in crate::telemetry) fn set_silence(&self, lasts: Duration) {
        if let Some(gauge) = &self.silence {
            gauge.set(lasts.as_secs_f64());
        }
    }

    /// How many deliveries wait for their turn.
    pub fn set_waiting(&self, count: usize) {
        self.waiting.set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
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

impl KeyMetrics {
    fn matched(&self, wall_ms: i64) {
        self.matches.inc();
        self.last_match.set(seconds(wall_ms));
    }
}

/// Keys that providers publish get their series when they first match: who sends does not choose their names,
/// and a key that is gone is soon followed by others.
struct Published {
    route: Arc<str>,
    matches: IntCounterVec,
    last_match: GaugeVec,
    known: Mutex<Vec<KeyMetrics>>,
}

/// More are counted together.
const MOST_PUBLISHED: usize = 16;
const OTHERS: &str = "others";

impl Published {
    fn matched(&self, id: &Arc<str>, wall_ms: i64) {
        let mut known = lock(&self.known);
        if let Some(key) = known.iter().find(|key| key.id == *id) {
            return key.matched(wall_ms);
        }
        if known.len() >= MOST_PUBLISHED {
            let labels = [&*self.route, OTHERS];
            self.matches.with_label_values(&labels).inc();
            return self.last_match.with_label_values(&labels).set(seconds(wall_ms));
        }
        let labels = [&*self.route, &**id];
        let (matches, last_match) =
            (self.matches.with_label_values(&labels), self.last_match.with_label_values(&labels));
        let key = KeyMetrics { id: Arc::clone(id), matches, last_match };
        key.matched(wall_ms);
        known.push(key);
    }
}
