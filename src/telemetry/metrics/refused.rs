//! What is counted of the shelf of refused requests. How much there is on it is asked at each scrape.

use prometheus::{IntCounterVec, IntGauge, Registry};

use super::register::{counters, gauge};
use crate::inbox::shelf::{Drop, Shelf, Told, Totals};

pub(super) struct Refused {
    kept: IntCounterVec,
    dropped: IntCounterVec,
    delivered: IntCounterVec,
    requests: IntGauge,
    bytes: IntGauge,
}

/// What became of a request that an operator had delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateDelivery {
    /// The application said 2xx.
    Accepted,
    /// It did not, or could not be asked.
    Failed,
    /// The inbox has it.
    Stored,
}

impl LateDelivery {
    pub const ALL: [LateDelivery; 3] = [LateDelivery::Accepted, LateDelivery::Failed, LateDelivery::Stored];

    pub const fn label(self) -> &'static str {
        match self {
            LateDelivery::Accepted => "accepted",
            LateDelivery::Failed => "failed",
            LateDelivery::Stored => "stored",
        }
    }
}

impl Refused {
    pub fn new(r: &Registry) -> Self {
        Refused {
            kept: counters(
                r,
                "hookgate_refused_kept_total",
                "Refused requests that were put on the shelf.",
                &["route", "reason"],
            ),
            dropped: counters(
                r,
                "hookgate_refused_dropped_total",
                "Refused requests that were not put on the shelf, or had to leave it, by cause.",
                &["route", "cause"],
            ),
            delivered: counters(
                r,
                "hookgate_refused_deliveries_total",
                "Requests that an operator had delivered from the shelf, by what became of them.",
                &["route", "outcome"],
            ),
            requests: gauge(r, "hookgate_refused_requests", "Requests on the shelf."),
            bytes: gauge(r, "hookgate_refused_bytes", "What they take."),
        }
    }

    /// The series of a route, all at zero if it is new.
    pub fn one(&self, route: &str) {
        for reason in Shelf::REASONS {
            self.kept.with_label_values(&[route, reason.label()]);
        }
        for cause in Drop::ALL {
            self.dropped.with_label_values(&[route, cause.label()]);
        }
        for outcome in LateDelivery::ALL {
            self.delivered.with_label_values(&[route, outcome.label()]);
        }
    }
}

impl super::Metrics {
    /// A refused request is not kept.
    pub fn not_kept(&self, route: &str, why: Drop) {
        self.refused.dropped.with_label_values(&[route, why.label()]).inc();
    }

    /// What the thread of the shelf tells.
    pub fn shelf_told(&self, told: Told<'_>) {
        match told {
            Told::Kept { route, reason } => self.refused.kept.with_label_values(&[route, reason]).inc(),
            Told::Dropped { route, why } => self.not_kept(route, why),
            Told::Trouble { .. } | Told::Mended => {}
        }
    }

    /// An operator had a request delivered from the shelf.
    pub fn delivered_late(&self, route: &str, outcome: LateDelivery) {
        self.refused.delivered.with_label_values(&[route, outcome.label()]).inc();
    }

    /// How much there is on the shelf.
    pub fn set_shelf(&self, totals: Totals) {
        self.refused.requests.set(i64::try_from(totals.requests).unwrap_or(i64::MAX));
        self.refused.bytes.set(i64::try_from(totals.bytes).unwrap_or(i64::MAX));
    }
}
