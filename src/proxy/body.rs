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
use crate::gate::filter::body_limit::Admitted;
use crate::gate::reason::Reason;

/// Into which Pingora reads a body of unknown length; one of a known length needs no more
/// than that. It lives as long as the request.
pub const BUFFER: usize = 64 * 1024;
/// What a delivery takes beside its body: task, head, connection, a short answer.
const DELIVERY: usize = 16 * 1024;
/// Of a body of unknown length.
const LEAST_BLOCK: usize = 4096;

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
    let mut pieces = Pieces::default();
    while let Some(piece) = next_piece(session, around, share).await? {
        if share.body() + piece.len() > admitted.limit() {
            return Err(Reason::BodyTooLarge);
        }
        share.take_body(piece.len()).await?;
        if first.is_empty() && pieces.0.is_empty() {
            share.take_room(piece.len()).await?;
            first = piece; // most bodies come in one piece, which is used as it is
            continue;
        }
        if pieces.0.is_empty() {
            pieces.begin(admitted.declared().unwrap_or(first.len()), share).await?;
            pieces.push(&first, share).await?;
            share.give_back_room(first.len());
            first = Bytes::new();
        }
        pieces.push(&piece, share).await?;
    }
    if pieces.0.is_empty() { Ok(first) } else { pieces.whole(share).await }
}

/// A body that comes in pieces. One whose length was declared is a single block; another one
/// is put together when it is complete, as a buffer that grows would be there twice and leave
/// holes behind.
#[derive(Default)]
struct Pieces(Vec<BytesMut>);

impl Pieces {
    async fn begin(&mut self, size: usize, share: &mut Share) -> Result<(), Reason> {
        share.take_room(size).await?;
        self.0.push(BytesMut::with_capacity(size));
        Ok(())
    }

    async fn push(&mut self, mut piece: &[u8], share: &mut Share) -> Result<(), Reason> {
        if let Some(block) = self.0.last_mut() {
            let fits = piece.len().min(block.capacity() - block.len());
            block.extend_from_slice(&piece[..fits]);
            piece = &piece[fits..];
        }
        if !piece.is_empty() {
            self.begin(share.body().clamp(LEAST_BLOCK, BUFFER).max(piece.len()), share).await?;
            if let Some(block) = self.0.last_mut() {
                block.extend_from_slice(piece);
            }
        }
        Ok(())
    }

    async fn whole(mut self, share: &mut Share) -> Result<Bytes, Reason> {
        if self.0.len() == 1 {
            return Ok(self.0.remove(0).freeze());
        }
        share.take_room(share.body()).await?;
        let mut whole = BytesMut::with_capacity(share.body());
        for block in self.0 {
            whole.extend_from_slice(&block);
            share.give_back_room(block.capacity());
        }
        Ok(whole.freeze())
    }
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
