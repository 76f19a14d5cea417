//! One call of the application for an event, live or from the inbox, and what follows from how it ended.

use std::time::Duration;

use smallvec::SmallVec;

use super::lane::Lane;
use super::upstream::{Reply, Undelivered, Upstream};
use crate::budget::Share;
use crate::clock::{self, Now};
use crate::gate::filter::replay::{Keep, ReplayKey};
use crate::gate::filter::signature::Authentic;
use crate::inbox::retry::{Next, Retry};
use crate::inbox::{Attempted, Due, Id, Inbox, Stored, chance};
use crate::store::ReplayStore;
use crate::telemetry::metrics::{RouteMetrics, UpstreamOutcome};

/// What an attempt's lease exceeds the longest possible exchange by.
pub const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// An attempt that was counted, and whose outcome the inbox waits for.
pub struct Attempt {
    id: Id,
    number: u32,
    names: SmallVec<[ReplayKey; 1]>,
    keep: Keep,
    since_ms: i64,
    /// Another attempt decides of it.
    is_ours: bool,
}

impl Attempt {
    /// The live one, of an event that was stored meanwhile.
    pub fn first(stored: &Stored, arrived: Now, authentic: &Authentic) -> Self {
        Attempt {
            id: stored.id,
            number: 1,
            names: authentic.names().into(),
            keep: authentic.keep(),
            since_ms: arrived.wall_ms,
            is_ours: !stored.copy,
        }
    }
}

impl From<&Due> for Attempt {
    fn from(due: &Due) -> Self {
        Attempt {
            id: due.id,
            number: due.attempt,
            names: due.names.clone(),
            keep: due.keep,
            since_ms: due.since_ms,
            is_ours: true,
        }
    }
}

/// Calls the application once it is the event's turn.
pub async fn called(
    upstream: &Upstream,
    lane: Option<&Lane>,
    head: &[u8],
    body: &[u8],
    limit: Duration,
    share: &mut Share,
) -> Result<Reply, Undelivered> {
    let _turn = match lane {
        Some(lane) => Some(lane.turn().await.map_err(Undelivered::Waited)?),
        None => None,
    };
    upstream.exchange(head, body, limit, share).await
}

/// Writes down what an attempt came to, and then tells the replay memory.
pub async fn settle(
    inbox: &Inbox,
    store: &ReplayStore,
    metrics: &RouteMetrics,
    attempt: &Attempt,
    retry: &Retry,
    result: &Result<Reply, Undelivered>,
) {
    if !attempt.is_ours {
        return;
    }
    let now = clock::now();
    let came_to = came_to(attempt, retry, result, now);
    // While it cannot be written the event stays leased: then it is tried again, which is better than lost.
    let mut settled = Err(crate::inbox::Refusal::Unavailable);
    for pause in [0, 50, 500, 2000] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        settled = inbox.settle(attempt.id, attempt.number, came_to.clone(), now.wall_ms).await;
        if settled.is_ok() {
            break;
        }
    }
    match (settled, came_to) {
        // Dropped, or tried again since its lease was over.
        (Ok(false), _) | (_, Attempted::Later { .. }) | (Err(_), Attempted::Dead { .. }) => {}
        (Ok(true), Attempted::Dead { .. }) => {
            metrics.given_up();
            store.left_inbox(&attempt.names, None, now);
        }
        (Ok(true) | Err(_), Attempted::Done) => store.left_inbox(&attempt.names, Some(attempt.keep), now),
    }
}

fn came_to(attempt: &Attempt, retry: &Retry, result: &Result<Reply, Undelivered>, now: Now) -> Attempted {
    let status = match result {
        Ok(Reply { status: 200..300, .. }) | Err(Undelivered::Cut { status: 200..300 }) => {
            return Attempted::Done;
        }
        Ok(reply) => Some(reply.status),
        Err(Undelivered::Cut { status }) => Some(*status),
        Err(_) => None,
    };
    let (outcome, asked) = (label(result), retry_after(result, now));
    match retry.next(attempt.number, status, asked, attempt.since_ms, now.wall_ms, chance()) {
        Next::At(due_ms) => Attempted::Later { due_ms, outcome },
        Next::Dead => Attempted::Dead { outcome },
    }
}

/// Whether the application itself is away or overwhelmed, whatever the event.
pub fn is_of_application(result: &Result<Reply, Undelivered>) -> bool {
    match result {
        Ok(reply) => matches!(reply.status, 429 | 500..),
        Err(Undelivered::Cut { status: 200..300 } | Undelivered::Unsigned) => false,
        Err(_) => true,
    }
}

/// What became of the call, if there was one.
pub fn outcome_of(result: &Result<Reply, Undelivered>) -> Option<UpstreamOutcome> {
    match result {
        Ok(reply) => Some(UpstreamOutcome::of_status(reply.status)),
        Err(undelivered) => undelivered.outcome(),
    }
}

/// What is shown of it.
pub fn label(result: &Result<Reply, Undelivered>) -> Box<str> {
    match result {
        Ok(reply) => reply.status.to_string().into(),
        Err(Undelivered::Waited(_)) => "busy".into(),
        Err(Undelivered::Unsigned) => "no keys".into(),
        Err(Undelivered::Unreachable(_)) => "unreachable".into(),
        Err(Undelivered::Broken | Undelivered::Lost(_)) => "broken".into(),
        Err(Undelivered::TimedOut) => "timeout".into(),
        Err(Undelivered::Cut { status }) => format!("{status} cut").into(),
    }
}

/// For how long the application asks not to be asked.
pub fn retry_after(result: &Result<Reply, Undelivered>, now: Now) -> Option<Duration> {
    let reply = match result {
        Ok(reply) if matches!(reply.status, 429 | 503) => reply,
        Err(Undelivered::Waited(busy)) => return Some(busy.retry_after),
        Ok(_) | Err(_) => return None,
    };
    let mut lines = reply.head.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(line.iter().position(|byte| *byte == b':')?)?;
        name.eq_ignore_ascii_case(b"retry-after").then(|| value[1..].trim_ascii())
    })?;
    let value = std::str::from_utf8(value).ok()?;
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    let now = std::time::UNIX_EPOCH + Duration::from_millis(u64::try_from(now.wall_ms).ok()?);
    at.duration_since(now).ok()
}
