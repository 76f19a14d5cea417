//! What is counted of the inbox. How much there is of it is asked at each scrape.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::{Gauge, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, Registry};

use super::register::{counter, counters, gauge, gauges, histogram, number};
use super::route::UpstreamOutcome;
use crate::inbox::state::State;
use crate::inbox::{Cause, Depth, Refusal};

/// The series of all routes.
pub(super) struct Inbox {
    events: GaugeVec,
    parked: Gauge,
    bytes: IntGauge,
    max_bytes: IntGauge,
    oldest: GaugeVec,
    stored: IntCounterVec,
    refused: IntCounterVec,
    attempts: IntCounterVec,
    dead: IntCounterVec,
    write_seconds: Histogram,
    write_failures: IntCounter,
    set_aside: IntGauge,
    dead_dropped: IntGauge,
}

/// How long a disk takes to confirm.
const WRITE_SECONDS: &[f64] = &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// What there is in the inbox, as its owner knows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct InboxTotals {
    pub bytes: u64,
    pub max_bytes: u64,
    pub set_aside: u64,
    pub dead_dropped: u64,
}

impl Inbox {
    pub fn new(r: &Registry) -> Self {
        let route = &["route"];
        Inbox {
            events: gauges(
                r,
                "hookgate_inbox_events",
                "Events in the inbox, by their state.",
                &["route", "state"],
            ),
            parked: number(r, "hookgate_inbox_parked", "Events in the inbox whose route is not configured."),
            bytes: gauge(r, "hookgate_inbox_bytes", "What the inbox holds."),
            max_bytes: gauge(r, "hookgate_inbox_max_bytes", "What it may hold; 0 without an inbox."),
            oldest: gauges(
                r,
                "hookgate_inbox_oldest_seconds",
                "Age of the oldest event that is stored and not delivered; 0 if there is none.",
                route,
            ),
            stored: counters(
                r,
                "hookgate_inbox_stored_total",
                "Events that were stored, by cause.",
                &["route", "cause"],
            ),
            refused: counters(
                r,
                "hookgate_inbox_refused_total",
                "Events that the inbox could not take.",
                &["route", "cause"],
            ),
            attempts: counters(
                r,
                "hookgate_inbox_attempts_total",
                "Deliveries from the inbox, by what became of them.",
                &["route", "outcome"],
            ),
            dead: counters(r, "hookgate_inbox_dead_total", "Events that the inbox gave up.", route),
            write_seconds: histogram(
                r,
                "hookgate_inbox_write_seconds",
                "From the begin of a commit to the disk's confirmation.",
                WRITE_SECONDS,
            ),
            write_failures: counter(r, "hookgate_inbox_write_failures_total", "Commits that failed."),
            set_aside: gauge(
                r,
                "hookgate_inbox_set_aside",
                "Records that could not be read since the start, and were set aside.",
            ),
            dead_dropped: gauge(
                r,
                "hookgate_inbox_dead_dropped",
                "Dead events that were dropped since the start, because their time or their room was over.",
            ),
        }
    }

    pub fn one(&self, route: &str) -> InboxMetrics {
        for state in State::ALL {
            self.events.with_label_values(&[route, state.label()]);
        }
        self.oldest.with_label_values(&[route]);
        InboxMetrics {
            stored: Cause::ALL.map(|cause| self.stored.with_label_values(&[route, cause.label()])),
            refused: Refusal::ALL.map(|refusal| self.refused.with_label_values(&[route, refusal.label()])),
            attempts: UpstreamOutcome::ALL
                .map(|outcome| self.attempts.with_label_values(&[route, outcome.label()])),
            dead: self.dead.with_label_values(&[route]),
        }
    }

    /// Of a route that is gone.
    pub fn remove(&self, route: &str) {
        for state in State::ALL {
            _ = self.events.remove_label_values(&[route, state.label()]);
        }
        _ = self.oldest.remove_label_values(&[route]);
    }

    pub fn wrote(&self, took: Duration, is_durable: bool) {
        self.write_seconds.observe(took.as_secs_f64());
        self.write_failures.inc_by(u64::from(!is_durable));
    }

    #[expect(clippy::cast_precision_loss, reason = "counts and ages")]
    pub fn set(&self, routes: &[&str], depths: &BTreeMap<String, Depth>, totals: InboxTotals, now_ms: i64) {
        for route in routes {
            let depth = depths.get(*route).copied().unwrap_or_default();
            for (state, count) in
                [(State::Stored, depth.stored), (State::Dead, depth.dead), (State::Damaged, depth.damaged)]
            {
                self.events.with_label_values(&[*route, state.label()]).set(count as f64);
            }
            let age = depth.oldest_ms.map_or(0, |oldest| (now_ms - oldest).max(0));
            self.oldest.with_label_values(&[*route]).set(age as f64 / 1000.0);
        }
        let gone = depths.iter().filter(|(route, _)| !routes.contains(&route.as_str()));
        self.parked.set(gone.map(|(_, depth)| depth.stored).sum::<u64>() as f64);
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.bytes.set(whole(totals.bytes));
        self.max_bytes.set(whole(totals.max_bytes));
        self.set_aside.set(whole(totals.set_aside));
        self.dead_dropped.set(whole(totals.dead_dropped));
    }
}

/// One route's.
pub(super) struct InboxMetrics {
    stored: [IntCounter; Cause::ALL.len()],
    refused: [IntCounter; Refusal::ALL.len()],
    attempts: [IntCounter; UpstreamOutcome::ALL.len()],
    dead: IntCounter,
}

impl super::RouteMetrics {
    pub fn stored(&self, cause: Cause) {
        self.inbox.stored[cause as usize].inc();
    }

    pub fn not_stored(&self, refusal: Refusal) {
        self.inbox.refused[refusal as usize].inc();
    }

    /// A delivery from the inbox has ended.
    pub fn attempted(&self, outcome: UpstreamOutcome) {
        self.inbox.attempts[outcome as usize].inc();
    }

    pub fn given_up(&self) {
        self.inbox.dead.inc();
    }
}
