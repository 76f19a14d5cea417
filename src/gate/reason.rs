//! What hookgate says about a delivery: the closed list of reasons, and the one
//! place that gives each its status, its text, and its advice to retry.

use std::fmt;
use std::time::Duration;

/// Why a delivery ended as it did. The label is the metric label, the log value
/// and the anchor in conf/README.md; the sender never sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    Accepted,
    AddressDenied,
    BodyMalformed,
    BodyTimeout,
    BodyTooLarge,
    Duplicate,
    Filtered,
    FramingInvalid,
    Handshake,
    HandshakeRefused,
    HeadersTooLarge,
    HttpsRequired,
    InFlight,
    MethodNotAllowed,
    Overloaded,
    RateLimited,
    RouteUnmatched,
    SignatureMalformed,
    SignatureMismatch,
    SignatureMissing,
    StoreUnavailable,
    Stored,
    TimestampFuture,
    TimestampMissing,
    TimestampStale,
    UpstreamFailed,
    UpstreamStatus,
    UpstreamTimeout,
    UpstreamUnreachable,
}

/// The outcomes that a dashboard tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Delivered: the application said 2xx.
    Accepted,
    /// Genuine and durable in the inbox, which delivers it.
    Stored,
    /// Genuine, and answered by the gate as it should be: a duplicate, a handshake, an event that the
    /// route does not take.
    Answered,
    /// Answered by the gate; the application saw nothing.
    Refused,
    /// Would have been refused, but the route only observes.
    Observed,
    /// Genuine, but it could not be delivered, the application did not take it, or its outcome is unknown.
    Failed,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Verdict; 6] = [
        Verdict::Accepted,
        Verdict::Stored,
        Verdict::Answered,
        Verdict::Observed,
        Verdict::Refused,
        Verdict::Failed,
    ];

    pub const fn label(self) -> &'static str {
        match self {
            Verdict::Accepted => "accepted",
            Verdict::Stored => "stored",
            Verdict::Answered => "answered",
            Verdict::Refused => "refused",
            Verdict::Observed => "observed",
            Verdict::Failed => "failed",
        }
    }
}

impl Reason {
    /// Every reason, in the order of the table in conf/README.md.
    pub const ALL: [Reason; 29] = [
        Reason::Accepted,
        Reason::UpstreamStatus,
        Reason::Stored,
        Reason::Filtered,
        Reason::Handshake,
        Reason::FramingInvalid,
        Reason::RouteUnmatched,
        Reason::MethodNotAllowed,
        Reason::HttpsRequired,
        Reason::AddressDenied,
        Reason::RateLimited,
        Reason::HandshakeRefused,
        Reason::HeadersTooLarge,
        Reason::BodyTooLarge,
        Reason::BodyTimeout,
        Reason::SignatureMissing,
        Reason::SignatureMalformed,
        Reason::SignatureMismatch,
        Reason::TimestampMissing,
        Reason::TimestampStale,
        Reason::TimestampFuture,
        Reason::BodyMalformed,
        Reason::Duplicate,
        Reason::InFlight,
        Reason::Overloaded,
        Reason::StoreUnavailable,
        Reason::UpstreamUnreachable,
        Reason::UpstreamFailed,
        Reason::UpstreamTimeout,
    ];

    /// Its place in [`Reason::ALL`], for tables with a row for each.
    pub const fn index(self) -> usize {
        const PLACES: [usize; Reason::ALL.len()] = {
            let mut places = [0; Reason::ALL.len()];
            let mut n = 0;
            while n < places.len() {
                places[Reason::ALL[n] as usize] = n;
                n += 1;
            }
            places
        };
        PLACES[self as usize]
    }

    pub const fn label(self) -> &'static str {
        match self {
            Reason::Accepted => "accepted",
            Reason::AddressDenied => "address_denied",
            Reason::BodyMalformed => "body_malformed",
            Reason::BodyTimeout => "body_timeout",
            Reason::BodyTooLarge => "body_too_large",
            Reason::Duplicate => "duplicate",
            Reason::Filtered => "filtered",
            Reason::FramingInvalid => "framing_invalid",
            Reason::Handshake => "handshake",
            Reason::HandshakeRefused => "handshake_refused",
            Reason::HeadersTooLarge => "headers_too_large",
            Reason::HttpsRequired => "https_required",
            Reason::InFlight => "in_flight",
            Reason::MethodNotAllowed => "method_not_allowed",
            Reason::Overloaded => "overloaded",
            Reason::RateLimited => "rate_limited",
            Reason::RouteUnmatched => "route_unmatched",
            Reason::SignatureMalformed => "signature_malformed",
            Reason::SignatureMismatch => "signature_mismatch",
            Reason::SignatureMissing => "signature_missing",
            Reason::StoreUnavailable => "store_unavailable",
            Reason::Stored => "stored",
            Reason::TimestampFuture => "timestamp_future",
            Reason::TimestampMissing => "timestamp_missing",
            Reason::TimestampStale => "timestamp_stale",
            Reason::UpstreamFailed => "upstream_failed",
            Reason::UpstreamStatus => "upstream_status",
            Reason::UpstreamTimeout => "upstream_timeout",
            Reason::UpstreamUnreachable => "upstream_unreachable",
        }
    }

    /// The verdict that this reason leads to on an enforcing route.
    pub const fn verdict(self) -> Verdict {
        match self {
            Reason::Accepted => Verdict::Accepted,
            Reason::Stored => Verdict::Stored,
            Reason::Duplicate | Reason::Filtered | Reason::Handshake => Verdict::Answered,
            Reason::StoreUnavailable
            | Reason::UpstreamFailed
            | Reason::UpstreamStatus
            | Reason::UpstreamTimeout
            | Reason::UpstreamUnreachable => Verdict::Failed,
            Reason::AddressDenied
            | Reason::BodyMalformed
            | Reason::BodyTimeout
            | Reason::BodyTooLarge
            | Reason::FramingInvalid
            | Reason::HandshakeRefused
            | Reason::HeadersTooLarge
            | Reason::HttpsRequired
            | Reason::InFlight
            | Reason::MethodNotAllowed
            | Reason::Overloaded
            | Reason::RateLimited
            | Reason::RouteUnmatched
            | Reason::SignatureMalformed
            | Reason::SignatureMismatch
            | Reason::SignatureMissing
            | Reason::TimestampFuture
            | Reason::TimestampMissing
            | Reason::TimestampStale => Verdict::Refused,
        }
    }

    /// Whether a delivery may go through in spite of this reason: because the route only
    /// observes or, with a handshake, because the application is to answer it.
    /// The others are limits that protect the gate itself, or facts about the
    /// application; no mode lifts them.
    pub const fn observable(self) -> bool {
        matches!(
            self,
            Reason::AddressDenied
                | Reason::BodyMalformed
                | Reason::Duplicate
                | Reason::Filtered
                | Reason::Handshake
                | Reason::HttpsRequired
                | Reason::RateLimited
                | Reason::SignatureMalformed
                | Reason::SignatureMismatch
                | Reason::SignatureMissing
                | Reason::TimestampFuture
                | Reason::TimestampMissing
                | Reason::TimestampStale
        )
    }

    /// Whether no key of the route signed the delivery.
    pub const fn is_signature(self) -> bool {
        matches!(self, Reason::SignatureMalformed | Reason::SignatureMismatch | Reason::SignatureMissing)
    }

    /// The status that the sender reads. Never 3xx: senders count it as a failure.
    /// Never 410: some senders delete the endpoint. The application's own answer has its own.
    pub const fn status(self) -> u16 {
        match self {
            Reason::Filtered | Reason::Stored => 202,
            Reason::Accepted | Reason::Duplicate | Reason::Handshake => 200,
            Reason::BodyMalformed
            | Reason::FramingInvalid
            | Reason::TimestampFuture
            | Reason::TimestampMissing
            | Reason::TimestampStale => 400,
            Reason::SignatureMalformed | Reason::SignatureMismatch | Reason::SignatureMissing => 401,
            Reason::AddressDenied | Reason::HandshakeRefused | Reason::HttpsRequired => 403,
            Reason::RouteUnmatched => 404,
            Reason::MethodNotAllowed => 405,
            Reason::BodyTimeout => 408,
            Reason::BodyTooLarge => 413,
            Reason::RateLimited => 429,
            Reason::HeadersTooLarge => 431,
            Reason::UpstreamFailed | Reason::UpstreamStatus => 502,
            Reason::InFlight
            | Reason::Overloaded
            | Reason::StoreUnavailable
            | Reason::UpstreamUnreachable => 503,
            Reason::UpstreamTimeout => 504,
        }
    }

    /// The fixed text that the sender reads: enough to act on, nothing to attack with.
    pub const fn text(self) -> &'static str {
        match self {
            Reason::Accepted | Reason::Filtered | Reason::Handshake | Reason::Stored => "",
            Reason::AddressDenied | Reason::HandshakeRefused | Reason::HttpsRequired => "Forbidden",
            Reason::BodyMalformed | Reason::FramingInvalid => "Bad request",
            Reason::BodyTimeout => "Request timeout",
            Reason::BodyTooLarge => "Payload too large",
            Reason::Duplicate => "Already processed",
            Reason::HeadersTooLarge => "Request header fields too large",
            Reason::InFlight | Reason::Overloaded | Reason::StoreUnavailable => "Try again",
            Reason::MethodNotAllowed => "Method not allowed",
            Reason::RateLimited => "Too many webhook requests",
            Reason::RouteUnmatched => "Not found",
            Reason::SignatureMalformed | Reason::SignatureMismatch | Reason::SignatureMissing => {
                "Unauthorized"
            }
            Reason::TimestampFuture | Reason::TimestampMissing | Reason::TimestampStale => "Event too old",
            Reason::UpstreamFailed
            | Reason::UpstreamStatus
            | Reason::UpstreamTimeout
            | Reason::UpstreamUnreachable => "Processing failed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A check's objection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    pub reason: Reason,
    /// How long the sender should wait. Always set for 429 and 503.
    pub retry_after: Option<Duration>,
}

impl Reject {
    pub const fn new(reason: Reason) -> Self {
        let retry_after = match reason.status() {
            429 | 503 => Some(Duration::from_secs(1)),
            _ => None,
        };
        Reject { reason, retry_after }
    }

    pub const fn retry_after(reason: Reason, wait: Duration) -> Self {
        Reject { reason, retry_after: Some(wait) }
    }

    /// `Retry-After` counts whole seconds; rounding up keeps it true.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after.map(|d| (d.as_secs() + u64::from(d.subsec_nanos() > 0)).max(1))
    }
}

impl From<Reason> for Reject {
    fn from(reason: Reason) -> Self {
        Reject::new(reason)
    }
}

/// What a provider or a route demands to be answered instead of the usual (Xero, for instance, probes
/// for 401, and Dropbox Sign wants a sentence).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    pub signature: Answer,
    pub timestamp: Answer,
    pub duplicate: Answer,
    /// For an event that was taken and is not passed on at once, or not at all.
    pub ack: Answer,
    /// Statuses after which the sender does not try again.
    pub last: Vec<u16>,
}

/// One of them. What is not said is as usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: Option<u16>,
    pub text: Option<Box<str>>,
    /// The kind of the text: a media type.
    pub media: Option<Box<str>>,
}

/// What the sender reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said<'a> {
    pub status: u16,
    pub text: &'a str,
    pub media: &'a str,
}

const PLAIN: &str = "text/plain";

impl Reason {
    /// What the sender reads where nobody demands anything else.
    pub const fn said(self) -> Said<'static> {
        Said { status: self.status(), text: self.text(), media: PLAIN }
    }

    /// Whether the event may be genuine, and is to be sent again.
    const fn wants_another_attempt(self) -> bool {
        matches!(
            self,
            Reason::InFlight
                | Reason::StoreUnavailable
                | Reason::UpstreamFailed
                | Reason::UpstreamTimeout
                | Reason::UpstreamUnreachable
        )
    }
}

impl Answers {
    /// What the sender reads for this reason. What is to be sent again gets a status after which this
    /// sender does so.
    pub fn to(&self, reason: Reason) -> Said<'_> {
        const OTHERS: [u16; 5] = [503, 500, 429, 409, 408];

        let own = match reason {
            reason if reason.is_signature() => &self.signature,
            Reason::TimestampFuture | Reason::TimestampMissing | Reason::TimestampStale => &self.timestamp,
            Reason::Duplicate => &self.duplicate,
            Reason::Filtered | Reason::Stored => &self.ack,
            reason if reason.wants_another_attempt() && self.last.contains(&reason.status()) => {
                let other = OTHERS.into_iter().find(|status| !self.last.contains(status));
                return Said { status: other.unwrap_or(reason.status()), ..reason.said() };
            }
            _ => return reason.said(),
        };
        Said {
            status: own.status.unwrap_or(reason.status()),
            text: own.text.as_deref().unwrap_or(reason.text()),
            media: own.media.as_deref().unwrap_or(PLAIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_reason_is_listed_once() {
        let labels: HashSet<_> = Reason::ALL.iter().map(|r| r.label()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().enumerate().all(|(n, reason)| reason.index() == n));
    }

    #[test]
    fn the_gate_never_redirects_and_never_says_gone() {
        for r in Reason::ALL {
            assert!(!(300..400).contains(&r.status()) && r.status() != 410, "{r}");
        }
    }

    #[test]
    fn the_three_unauthorized_answers_are_the_same() {
        for r in [Reason::SignatureMalformed, Reason::SignatureMismatch, Reason::SignatureMissing] {
            assert_eq!((r.status(), r.text()), (401, "Unauthorized"));
        }
    }

    #[test]
    fn what_a_provider_demands_replaces_what_is_usual() {
        let twiml = Answer { status: None, text: Some("<Response/>".into()), media: Some("text/xml".into()) };
        let answers = Answers {
            duplicate: twiml,
            ack: Answer { status: Some(204), ..Answer::default() },
            last: vec![502, 503, 504],
            ..Answers::default()
        };
        let said = |reason| {
            let Said { status, text, media } = answers.to(reason);
            (status, text, media)
        };
        assert_eq!(said(Reason::Duplicate), (200, "<Response/>", "text/xml"));
        assert_eq!(said(Reason::Filtered), (204, "", "text/plain"));
        assert_eq!(said(Reason::SignatureMismatch), (401, "Unauthorized", "text/plain"));
        assert_eq!(
            said(Reason::UpstreamFailed),
            (500, "Processing failed", "text/plain"),
            "it repeats a 500"
        );
        assert_eq!(said(Reason::InFlight).0, 500);
        assert_eq!(said(Reason::Overloaded).0, 503, "nobody knows who it is");
        assert_eq!(Answers::default().to(Reason::UpstreamTimeout).status, 504);
    }

    #[test]
    fn retry_after_rounds_up_and_is_never_zero() {
        let after =
            |ms| Reject::retry_after(Reason::RateLimited, Duration::from_millis(ms)).retry_after_seconds();
        assert_eq!(after(1), Some(1));
        assert_eq!(after(1000), Some(1));
        assert_eq!(after(1001), Some(2));
        assert_eq!(after(0), Some(1));
    }
}
