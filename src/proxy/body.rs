//! Reads a body: only with permission, up to the limit, within one deadline for the
//! whole of it, and within the budget of all requests together.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora::protocols::http::ServerSession;
use pingora_timeout::tokio_timeout;

use crate::budget::Share;
use crate::gate::answer::Reason;
use crate::gate::filter::body_limit::Admitted;

/// Into which Pingora reads a body of unknown length; one of a known length needs no more
/// than that. It lives as long as the request.
pub const BUFFER: usize = 64 * 1024;
/// What a delivery takes beside its body: task, head, connection, a short answer.
const DELIVERY: usize = 16 * 1024;
/// A body of unknown length grows by a quarter, and by this at least.
const LEAST_GROWTH: usize = 4096;

/// A complete body and its share of the budget, given back when it is dropped.
pub struct Body {
    pub bytes: Bytes,
    pub share: Share,
}

impl Body {
    pub fn size(&self) -> usize {
        self.share.body()
    }
}

/// Reads the body of an admitted request. `around` is what the request holds beside it.
pub async fn read(
    session: &mut ServerSession,
    admitted: &Admitted,
    around: &mut Share,
    deadline: Duration,
) -> Result<Body, Reason> {
    let mut share = around.beside();
    let reading = async {
        around.take_room(admitted.declared().unwrap_or(BUFFER).min(BUFFER)).await?;
        share.take_room(DELIVERY).await?;
        collect(session, admitted, around, &mut share).await
    };
    // A short body comes with its head: this kind of timer costs nothing then.
    let bytes = match tokio_timeout(deadline, reading).await {
        Ok(result) => result?,
        Err(_) => return Err(Reason::BodyTimeout),
    };
    Ok(Body { bytes, share })
}

async fn collect(
    session: &mut ServerSession,
    admitted: &Admitted,
    around: &mut Share,
    share: &mut Share,
) -> Result<Bytes, Reason> {
    continue_if_asked(session).await?;
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(piece) = next_piece(session, around, share).await? {
        if share.body() + piece.len() > admitted.limit() {
            return Err(Reason::BodyTooLarge);
        }
        share.take_body(piece.len()).await?;
        if first.is_empty() {
            share.take_room(piece.len()).await?;
            first = piece; // most bodies come in one piece, which is used as it is
            continue;
        }
        if rest.is_empty() {
            grow(&mut rest, admitted.declared().unwrap_or(first.len() + piece.len()), share).await?;
            rest.extend_from_slice(&first);
        }
        if rest.capacity() - rest.len() < piece.len() {
            let more = (rest.len() / 4).max(LEAST_GROWTH);
            let capacity = admitted.limit().min(rest.len() + more).max(rest.len() + piece.len());
            grow(&mut rest, capacity, share).await?;
        }
        rest.extend_from_slice(&piece);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// What comes next. Only a request that has to wait for it can be told to give way.
async fn next_piece(
    session: &mut ServerSession,
    around: &mut Share,
    share: &Share,
) -> Result<Option<Bytes>, Reason> {
    let mut reading = pin!(session.read_request_body());
    let there = poll_fn(|cx| match reading.as_mut().poll(cx) {
        Poll::Ready(piece) => Poll::Ready(Some(piece)),
        Poll::Pending => Poll::Ready(None),
    });
    let piece = match there.await {
        Some(piece) => piece,
        None => around.wait(share.room(), reading).await?,
    };
    piece.map_err(|e| unread(&e))
}

/// Moves what was collected into a larger buffer. Both are charged while both are there.
async fn grow(buffer: &mut BytesMut, capacity: usize, share: &mut Share) -> Result<(), Reason> {
    let before = buffer.capacity();
    share.take_room(capacity).await?;
    let mut larger = BytesMut::with_capacity(capacity);
    larger.extend_from_slice(buffer);
    *buffer = larger;
    share.give_back_room(before);
    Ok(())
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
