//! What happened to a delivery, told once: one [`Record`], filled from top to bottom,
//! becomes one log line and all counters in [`Telemetry::finish`]. There are no other
//! request-level emissions in the tree.

pub mod activity;
pub mod dropped;
pub mod event;
pub mod keys;
pub mod log;
pub mod metrics;
#[cfg(feature = "otel")]
pub mod otlp;
pub mod reminder;
pub mod silence;
pub mod tenants;
pub mod trace;
mod worker;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::activity::Recent;
use self::event::Event;
use self::log::{Severity, Sink};
use self::metrics::{Metrics, RouteMetrics, UpstreamOutcome};
use self::tenants::Tenants;
use self::trace::Parent;
use crate::clock::{self, Now};
use crate::gate::delivery::Client;
use crate::gate::filter::replay::ReplayKey;
use crate::gate::filter::signature::Authentic;
use crate::gate::identity::Identity;
use crate::gate::reason::{Reason, Verdict};
use crate::gate::route::Route;
use crate::gate::scheme::Assurance;

/// Where logs and metrics go. One for each server.
pub struct Telemetry {
    pub metrics: Metrics,
    pub log: Arc<Sink>,
    pub recent: Recent,
    pub tenants: Tenants,
    #[cfg(feature = "otel")]
    pub spans: Option<otlp::Exporter>,
}

/// One delivery, as far as it came.
#[derive(Clone)]
pub struct Record {
    /// When its head was complete.
    pub arrived: Now,
    pub request_id: RequestId,
    pub method: http::Method,
    /// As it was sent, without the query.
    pub path: Bytes,
    pub peer: Option<IpAddr>,
    pub client: Option<Client>,
    /// The sender's; without one, the request's id is sent on as the trace id.
    pub trace: Option<Parent>,
    pub route: Option<(Arc<Route>, Arc<RouteMetrics>)>,
    /// The tenant that it names, on a route that has some: proven only where there is a proof.
    pub tenant: Option<Box<str>>,
    pub reason: Reason,
    pub status: u16,
    /// What an observing route would have refused it for, in the order of the checks.
    pub observed: Vec<Reason>,
    pub proof: Option<Proof>,
    /// What the operator may want to do about it; told after the delivery itself.
    pub hint: Option<String>,
    pub body_size: usize,
    /// The gate's own work, without waiting for the body or the application.
    pub verify: Duration,
    pub upstream: Option<(UpstreamOutcome, Duration)>,
    /// Why the application's answer could not be passed on.
    pub fault: Option<Fault>,
}

/// What became of a call of the application that failed.
#[derive(Clone)]
pub struct Fault {
    /// Where it was looked for.
    pub server: String,
    pub kind: String,
    /// What the operating system said.
    pub message: Option<String>,
}

/// What may be told of a delivery once its signature holds.
#[derive(Clone)]
pub struct Proof {
    pub key_id: Arc<str>,
    pub assurance: Assurance,
    /// By which the event is remembered; `None` on routes that remember nothing.
    pub key: Option<ReplayKey>,
    pub event_id: Option<Arc<str>>,
    pub event_type: Option<Arc<str>>,
    pub event_time_ms: Option<i64>,
}

impl From<&Authentic> for Proof {
    fn from(authentic: &Authentic) -> Self {
        Proof {
            key_id: Arc::clone(authentic.key_id()),
            assurance: authentic.assurance(),
            key: authentic.identity().map(Identity::told),
            event_id: authentic.event_id().map(|id| Arc::clone(&id.text)),
            event_type: authentic.event_type().map(|name| Arc::clone(&name.text)),
            event_time_ms: authentic.signed_at().and_then(|t| t.ms),
        }
    }
}

impl Record {
    /// The record of a request without a head that could be believed.
    pub fn without_head(peer: Option<IpAddr>, reason: Reason) -> Self {
        Record {
            peer,
            arrived: clock::now(),
            request_id: RequestId::next(),
            method: http::Method::default(),
            path: Bytes::new(),
            client: None,
            trace: None,
            route: None,
            tenant: None,
            reason,
            status: reason.status(),
            observed: Vec::new(),
            proof: None,
            hint: None,
            body_size: 0,
            verify: Duration::ZERO,
            upstream: None,
            fault: None,
        }
    }

    /// The verdict: an observing route's objections show only if the delivery went through. What went through
    /// without a proof and without an objection was not judged: it was observed, whatever the application said.
    fn verdict(&self) -> (Verdict, Reason) {
        match (self.reason, self.observed.first()) {
            (Reason::Accepted, Some(first)) => (Verdict::Observed, *first),
            (reason @ (Reason::Accepted | Reason::UpstreamStatus), None) if self.proof.is_none() => {
                (Verdict::Observed, reason)
            }
            (reason, _) => (reason.verdict(), reason),
        }
    }
}

impl Telemetry {
    pub fn new(metrics: Metrics, log: Arc<Sink>) -> Arc<Self> {
        let recent = Recent::default();
        Arc::new(Telemetry {
            metrics,
            log,
            recent,
            tenants: Tenants::default(),
            #[cfg(feature = "otel")]
            spans: None,
        })
    }

    /// The same, with a span for each delivery.
    #[cfg(feature = "otel")]
    pub fn exporting(
        metrics: Metrics,
        log: Arc<Sink>,
        endpoint: crate::config::units::OtlpEndpoint,
    ) -> Arc<Self> {
        let spans = Some(otlp::Exporter::new(endpoint, &metrics, Arc::clone(&log)));
        Arc::new(Telemetry { metrics, log, recent: Recent::default(), tenants: Tenants::default(), spans })
    }

    /// Whether deliveries become spans.
    pub fn exports(&self) -> bool {
        #[cfg(feature = "otel")]
        return self.spans.is_some();
        #[cfg(not(feature = "otel"))]
        false
    }

    /// Something that the program does or meets.
    pub fn tell(&self, event: Event<'_>) {
        self.log.tell(event);
    }

    /// Sends and writes what waits, and waits for that no longer than `patience`, or a moment if
    /// that is less. What comes later is dropped.
    pub fn close(&self, patience: Duration) {
        const MOMENT: Duration = Duration::from_millis(250);
        let begun = clock::now().mono;
        #[cfg(feature = "otel")]
        if let Some(spans) = &self.spans {
            spans.close(patience);
        }
        let spent = clock::now().mono.saturating_sub(begun);
        self.log.close(patience.saturating_sub(spent).max(MOMENT));
    }

    /// The one emission for a delivery.
    pub fn finish(&self, record: &Record) {
        let now = clock::after(record.arrived);
        let total = now.mono.saturating_sub(record.arrived.mono);
        let (verdict, reason) = record.verdict();
        self.count(record, verdict, reason, now);
        self.recent.add(record, verdict, reason, total);
        self.tenants.add(record, verdict, reason, now);
        let severity = match verdict {
            Verdict::Accepted | Verdict::Stored | Verdict::Answered => Severity::Info,
            Verdict::Observed if record.observed.is_empty() => Severity::Info, // nobody objected
            Verdict::Refused | Verdict::Observed => Severity::Warn,
            // The application did not want the event, which is not yet a fault of anybody's.
            Verdict::Failed if record.reason == Reason::UpstreamStatus && record.status < 500 => {
                Severity::Warn
            }
            Verdict::Failed => Severity::Error,
        };
        self.log.decision(severity, now, record, (verdict, reason), total);
        if let (Some(hint), Some((route, _))) = (&record.hint, &record.route) {
            self.log.hints(&route.name, record.request_id, std::slice::from_ref(hint));
        }
        #[cfg(feature = "otel")]
        if let Some(spans) = &self.spans {
            spans.add(otlp::Span { record: record.clone(), verdict, reason, took: total });
        }
    }

    fn count(&self, record: &Record, verdict: Verdict, reason: Reason, now: Now) {
        let Some((_, route)) = &record.route else {
            return self.metrics.unrouted(reason);
        };
        route.requests(verdict, reason).inc();
        route.activity.add(record, verdict, reason, now);
        let total = now.mono.saturating_sub(record.arrived.mono);
        route.request_duration.observe(total.as_secs_f64());
        route.verify_duration.observe(record.verify.as_secs_f64());
        if let Some((outcome, took)) = record.upstream {
            route.upstream_responses(outcome).inc();
            route.upstream_duration.observe(took.as_secs_f64());
        }
        if let Some(proof) = &record.proof {
            route.key_matched(&proof.key_id, record.arrived.wall_ms);
            if let Some(time) = proof.event_time_ms {
                #[expect(clippy::cast_precision_loss, reason = "an age in seconds")]
                let age = (record.arrived.wall_ms - time) as f64 / 1000.0;
                route.event_age.observe(age.max(0.0));
            }
        }
        if (verdict, reason) == (Verdict::Accepted, Reason::Accepted) {
            #[expect(clippy::cast_precision_loss, reason = "exact until the year 287396")]
            route.last_accepted.set(record.arrived.wall_ms as f64 / 1000.0);
        }
    }
}

/// Names one request in logs, in our headers and, if the sender brings no trace, as a trace id.
/// It is the text, 32 lower-case hex digits: each delivery writes it four times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId([u8; 32]);

impl RequestId {
    /// Unique: a random half for the process, and a counter that is mixed so that ids
    /// spread evenly.
    pub fn next() -> Self {
        use std::hash::{BuildHasher, RandomState};
        use std::sync::LazyLock;
        use std::sync::atomic::{AtomicU64, Ordering};

        static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one("process") | 1);
        static COUNT: LazyLock<AtomicU64> =
            LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one("count")));

        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = u128::from(*PROCESS) << 64 | u128::from(mix(count));
        RequestId(hex(&id.to_be_bytes()))
    }

    /// 32 lower-case hex digits.
    pub fn hex(self) -> [u8; 32] {
        self.0
    }

    /// For an event that nothing else names.
    pub fn as_key(self) -> ReplayKey {
        let mut bytes = [0; 16];
        _ = faster_hex::hex_decode(&self.0, &mut bytes); // it is hex
        ReplayKey::from_bytes(bytes)
    }

    /// Half of it, as a span id: 16 lower-case hex digits.
    pub fn span_hex(self) -> [u8; 16] {
        let mut out = [b'0'; 16];
        out.copy_from_slice(&self.0[16..]);
        out
    }
}

/// A bijection of 64-bit words (the finaliser of `SplitMix64`).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)).max(1)
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8; 16]) -> [u8; 32] {
    let mut out = [0; 32];
    _ = faster_hex::hex_encode(bytes, &mut out); // it fits
    out
}
