//! Reads a body: only with permission, up to the limit, within one deadline for the
//! whole of it, and within a budget for all bodies together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora::protocols::http::ServerSession;
use pingora_timeout::tokio_timeout;

use crate::gate::filter::body_limit::Admitted;
use crate::gate::reason::Reason;

/// The sum of all bodies that are held.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Budget { limit, used: AtomicUsize::new(0) })
    }

    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> Result<(), Reason> {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(()),
            Err(_) => Err(Reason::Overloaded),
        }
    }
}

/// A complete body and its share of the budget, given back when it is dropped.
pub struct Body {
    pub bytes: Bytes,
    share: Share,
}

struct Share {
    budget: Arc<Budget>,
    taken: usize,
}

impl Share {
    /// Taken as bytes arrive: who only announces a body reserves nothing.
    fn take(&mut self, bytes: usize) -> Result<(), Reason> {
        self.budget.take(bytes)?;
        self.taken += bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

impl Body {
    pub fn size(&self) -> usize {
        self.share.taken
    }
}

/// Reads the body of an admitted request.
pub async fn read(
    session: &mut ServerSession,
    admitted: &Admitted,
    budget: &Arc<Budget>,
    deadline: Duration,
) -> Result<Body, Reason> {
    let mut share = Share { budget: Arc::clone(budget), taken: 0 };
    // A short body comes with its head: this kind of timer costs nothing then.
    let bytes = match tokio_timeout(deadline, collect(session, admitted, &mut share)).await {
        Ok(result) => result?,
        Err(_) => return Err(Reason::BodyTimeout),
    };
    Ok(Body { bytes, share })
}

async fn collect(
    session: &mut ServerSession,
    admitted: &Admitted,
    share: &mut Share,
) -> Result<Bytes, Reason> {
    continue_if_asked(session).await?;
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(piece) = session.read_request_body().await.map_err(|e| unread(&e))? {
        if share.taken + piece.len() > admitted.limit() {
            return Err(Reason::BodyTooLarge);
        }
        share.take(piece.len())?;
        if first.is_empty() {
            first = piece; // most bodies come in one piece, which is used as it is
            continue;
        }
        if rest.is_empty() {
            rest.reserve(admitted.declared().unwrap_or_default().max(first.len() + piece.len()));
            rest.extend_from_slice(&first);
        }
        rest.extend_from_slice(&piece);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// `100 Continue` is said here and not earlier: a sender that asks first has then
/// passed every check of its head.
async fn continue_if_asked(session: &mut ServerSession) -> Result<(), Reason> {
    if !expects_continue(session) {
        return Ok(());
    }
    let keepalive = session.get_keepalive();
    session.write_continue_response().await.map_err(|e| unread(&e))?;
    // Pingora gives up reuse when it writes before the body is read; here that is in order.
    session.set_keepalive(keepalive);
    Ok(())
}

pub fn expects_continue(session: &ServerSession) -> bool {
    session.req_header().headers.contains_key(http::header::EXPECT)
}

/// A body that broke off or is wrongly framed is no body; the application never hears of it.
fn unread(error: &pingora::Error) -> Reason {
    match error.etype() {
        pingora::ErrorType::ReadTimedout => Reason::BodyTimeout,
        _ => Reason::FramingInvalid,
    }
}
