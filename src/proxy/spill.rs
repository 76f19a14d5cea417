//! A delivery on a route with an inbox: what the application does not take, or not in time, is stored, and its
//! sender is told only when that is durable. The courier delivers it later.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use pingora_timeout::timeout;
use tokio::sync::oneshot;

use super::attempt::{Attempt, called, label, outcome_of, retry_after, settle};
use super::upstream::{Reply, Undelivered};
use super::{Body, Delivery, outcome};
use crate::clock::{self, Now};
use crate::gate::filter::signature::{Authentic, Named};
use crate::gate::identity::Identity;
use crate::gate::reason::{Reason, Reject};
use crate::inbox::retry::Next;
use crate::inbox::{Cause, Event, Inbox, Policy, Refusal, Stored, When, chance};
use crate::lock::lock;
use crate::store::{Claim, Outcome, ReplayStore};
use crate::telemetry::RequestId;
use crate::telemetry::metrics::{RouteMetrics, UpstreamOutcome};

/// What of a route's settings and state a delivery needs that may be stored.
pub struct Spill {
    pub inbox: Inbox,
    pub policy: Arc<Policy>,
    pub store: ReplayStore,
    pub metrics: Arc<RouteMetrics>,
    pub shaped: Arc<Shaped>,
    pub route: Arc<str>,
    pub authentic: Authentic,
    pub id: RequestId,
    /// By how much it came too early, if its client is over the limit.
    pub early: Option<Duration>,
    /// The time from one event to the next, as the limit has it.
    pub pace: Duration,
}

/// How it ended for its sender.
pub enum Kept {
    Answered(Result<Reply, Undelivered>),
    /// And what became of the call, if there was one.
    Stored(Stored, Option<UpstreamOutcome>),
    /// It is to come again.
    Refused(Reject),
}

/// When events over the limit are due: one after the other, as the limit has it. Of the last one, in
/// microseconds: a limit may have many in a millisecond.
#[derive(Debug, Default)]
pub struct Shaped(Mutex<i64>);

impl Shaped {
    /// Milliseconds since the epoch.
    fn next(&self, now_ms: i64, early: Duration, pace: Duration) -> i64 {
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let conforms = now_ms.saturating_mul(1000).saturating_add(micros(early));
        let mut last = lock(&self.0);
        *last = last.saturating_add(micros(pace)).max(conforms);
        *last / 1000
    }
}

/// What was done for an event before it is stored.
struct Before {
    cause: Cause,
    attempts: u32,
    outcome: Option<Box<str>>,
    due_ms: i64,
    leased: bool,
}

impl Spill {
    /// Tells as soon as the sender can be answered; the call of the application may take longer.
    pub(super) async fn run(self: Box<Self>, mut delivery: Box<Delivery>, tell: oneshot::Sender<Kept>) {
        let Delivery { upstream, head, body, claim, lane, limit, arrived, .. } = &mut *delivery;
        let Body { bytes: body, share } = body;
        let (limit, arrived) = (*limit, *arrived);
        // Whoever waited may have gone: what was decided is decided.
        let tell = |kept| _ = tell.send(kept);

        if let Some(before) = self.before_it_is_asked() {
            let limited = before.cause == Cause::RateLimited;
            match self.keep(before, arrived, head, body).await {
                Ok(stored) => {
                    settle_claim(claim, Outcome::Stored, arrived).await;
                    return tell(Kept::Stored(stored, None));
                }
                Err(_) if self.policy.repeats => {
                    let too_early = |early| Reject::retry_after(Reason::RateLimited, early);
                    let reject = self.early.filter(|_| limited).map(too_early);
                    let reject = reject.unwrap_or(Reject::new(Reason::StoreUnavailable));
                    let failed = Outcome::Failed { reason: reject.reason, status: reject.reason.status() };
                    settle_claim(claim, failed, arrived).await;
                    return tell(Kept::Refused(reject));
                }
                Err(_) => {} // its sender will not come again: it is delivered as without an inbox
            }
        }
        let result = {
            let mut call = pin!(called(upstream, lane.as_deref(), head, body, limit, share));
            match timeout(self.policy.answer_within, &mut call).await {
                Ok(result) => result,
                Err(_) => match self.keep(Before::under_way(limit), arrived, head, body).await {
                    Ok(stored) => return Box::pin(self.follow(stored, claim, arrived, tell, call)).await,
                    Err(_) => call.await,
                },
            }
        };
        if let Some(before) = self.after_it_failed(&result, arrived)
            && let Ok(stored) = self.keep(before, arrived, head, body).await
        {
            settle_claim(claim, Outcome::Stored, arrived).await;
            return tell(Kept::Stored(stored, outcome_of(&result)));
        }
        let came_to = outcome(&result);
        settle_claim(claim, came_to, arrived).await;
        if came_to == Outcome::Delivered {
            _ = self.inbox.overtaken(self.authentic.names()).await;
        }
        let share = Some(delivery.body.share);
        tell(Kept::Answered(result.map(|reply| Reply { share, ..reply })));
    }

    /// Sees a call to its end whose event was stored meanwhile.
    async fn follow(
        &self,
        stored: Stored,
        claim: &mut Option<Claim>,
        arrived: Now,
        tell: impl FnOnce(Kept),
        call: Pin<&mut impl Future<Output = Result<Reply, Undelivered>>>,
    ) {
        let attempt = Attempt::first(&stored, arrived, &self.authentic);
        settle_claim(claim, Outcome::Stored, arrived).await;
        tell(Kept::Stored(stored, Some(UpstreamOutcome::Timeout)));
        let result = call.await;
        settle(&self.inbox, &self.store, &self.metrics, &attempt, &self.policy.retry, &result).await;
    }

    /// Why it is stored first, if it is.
    fn before_it_is_asked(&self) -> Option<Before> {
        let now_ms = || clock::now().wall_ms;
        let (cause, due_ms) = match (self.early, self.policy.on) {
            (Some(early), _) => (Cause::RateLimited, self.shaped.next(now_ms(), early, self.pace)),
            (None, When::Always) => (Cause::Always, now_ms()),
            (None, When::Failure | When::Never) => return None,
        };
        Some(Before { cause, attempts: 0, outcome: None, due_ms, leased: false })
    }

    /// Why it is stored now, if it is: what the application says otherwise is its answer.
    fn after_it_failed(&self, result: &Result<Reply, Undelivered>, arrived: Now) -> Option<Before> {
        let (cause, status) = match result {
            Ok(Reply { status: status @ (429 | 500..), .. }) => (Cause::Status, Some(*status)),
            Ok(_) | Err(Undelivered::Cut { status: 200..300 }) => return None,
            Err(Undelivered::Cut { .. } | Undelivered::Broken | Undelivered::Lost(_)) => {
                (Cause::Broken, None)
            }
            Err(Undelivered::TimedOut) => (Cause::Slow, None),
            Err(Undelivered::Unreachable(_)) => (Cause::Unreachable, None),
            Err(Undelivered::Waited(_) | Undelivered::Unsigned) => (Cause::Busy, None),
        };
        let attempts = u32::from(cause != Cause::Busy);
        let now = clock::after(arrived);
        let asked = retry_after(result, now);
        match self.policy.retry.next(1, status, asked, now.wall_ms, now.wall_ms, chance()) {
            Next::At(due_ms) => {
                Some(Before { cause, attempts, outcome: Some(label(result)), due_ms, leased: false })
            }
            Next::Dead => None, // the route says that this answer is final
        }
    }

    /// Has the event made durable.
    async fn keep(&self, before: Before, arrived: Now, head: &[u8], body: &Bytes) -> Result<Stored, Refusal> {
        let Before { cause, attempts, outcome, due_ms, leased } = before;
        let named = |named: Option<&Named>| named.map(|named| (*named.text).into());
        let event = Event {
            key: self.authentic.identity().map_or(self.id.as_key(), Identity::told),
            names: self.authentic.names().into(),
            keep: self.authentic.keep(),
            route: Arc::clone(&self.route),
            tenant: self.authentic.tenant().cloned(),
            event_id: named(self.authentic.event_id()),
            event_type: named(self.authentic.event_type()),
            received_ms: arrived.wall_ms,
            attempts,
            last_outcome: outcome,
            due_ms,
            leased,
            head: Bytes::copy_from_slice(head),
            body: body.clone(),
        };
        // On the heap, as all that a delivery which is taken does not need: its own future is moved when it starts.
        let stored = Box::pin(self.inbox.store(event)).await;
        match &stored {
            Ok(_) => self.metrics.stored(cause),
            Err(refusal) => self.metrics.not_stored(*refusal),
        }
        stored
    }
}

impl Before {
    /// It is with the application, which may still take it within that time.
    fn under_way(limit: Duration) -> Self {
        let lease = clock::millis(limit + super::attempt::LEASE_MARGIN);
        let due_ms = clock::now().wall_ms.saturating_add(lease);
        Before { cause: Cause::Slow, attempts: 1, outcome: Some("slow".into()), due_ms, leased: true }
    }
}

async fn settle_claim(claim: &mut Option<Claim>, outcome: Outcome, arrived: Now) {
    if let Some(claim) = claim.take() {
        claim.settle(outcome, clock::after(arrived)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_limit_is_due_no_faster_than_the_limit_allows() {
        let (shaped, pace) = (Shaped::default(), Duration::from_millis(250));
        // Each comes later, and so by less too early.
        let due = [(1000, 250), (1050, 200), (1100, 150), (1150, 100), (1200, 50)]
            .map(|(now, early)| shaped.next(now, Duration::from_millis(early), pace));
        assert_eq!(due, [1250, 1500, 1750, 2000, 2250]);
        assert_eq!(shaped.next(9000, Duration::from_millis(20), pace), 9020, "it had stood still");
        let (shaped, pace) = (Shaped::default(), Duration::from_micros(200));
        let due = (0..11).map(|_| shaped.next(1, Duration::ZERO, pace)).last();
        assert_eq!(due, Some(3), "ten in two milliseconds");
    }
}
