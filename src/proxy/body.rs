//! Reads a body: only with permission, up to the limit, within one deadline for the
//! whole of it, and within the budget of all requests together.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora_timeout::tokio_timeout;

use super::session::{BUFFER, Piece, Session};
use crate::budget::Share;
use crate::gate::filter::body_limit::Admitted;
use crate::gate::reason::Reason;

/// What a delivery takes beside its body: task, head, connection, a short answer.
const DELIVERY: usize = 16 * 1024;
/// Of a body of unknown length.
const LEAST_BLOCK: usize = 4096;
const MOST_BLOCK: usize = 64 * 1024;

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
    session: &mut Session,
    admitted: &Admitted,
    around: &mut Share,
    deadline: Duration,
) -> Result<Body, Reason> {
    let mut share = around.beside();
    let bytes = {
        let reading = pin!(async {
            around.take_room(admitted.declared().unwrap_or(BUFFER).min(BUFFER)).await?;
            share.take_room(DELIVERY).await?;
            // A sender that asks first has then passed every check of its head.
            session.ask_for_body().await?;
            collect(session, admitted, around, &mut share).await
        });
        // A short body comes with its head: this kind of timer costs nothing then.
        tokio_timeout(deadline, reading).await.unwrap_or(Err(Reason::BodyTimeout))?
    };
    Ok(Body { bytes, share })
}

async fn collect(
    session: &mut Session,
    admitted: &Admitted,
    around: &mut Share,
    share: &mut Share,
) -> Result<Bytes, Reason> {
    let mut first = Bytes::new();
    let mut pieces = Pieces::default();
    loop {
        let piece = match session.piece()? {
            Piece::Came(piece) => piece,
            Piece::End => break,
            Piece::Wait => {
                let is_first = first.is_empty() && pieces.0.is_empty();
                let Some(declared) = admitted.declared().filter(|_| !is_first) else {
                    sooner_or_later(around, share.room(), session.fill()).await?.map_err(broken_off)?;
                    continue;
                };
                // Where its length is known, what is still to come goes to its place at once.
                pieces.begin_with(&mut first, declared, share).await?;
                let block = pieces.0.last_mut().ok_or(Reason::FramingInvalid)?;
                let came = sooner_or_later(around, share.room(), session.fill_block(block)).await?;
                share.take_body(came.map_err(broken_off)?).await?;
                continue;
            }
        };
        if share.body() + piece.len() > admitted.limit() {
            return Err(Reason::BodyTooLarge);
        }
        share.take_body(piece.len()).await?;
        if first.is_empty() && pieces.0.is_empty() {
            share.take_room(piece.len()).await?;
            first = piece; // most bodies come in one piece, which is used as it is
            continue;
        }
        let size = admitted.declared().unwrap_or(first.len());
        pieces.begin_with(&mut first, size, share).await?;
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
    /// What came first is no longer alone.
    async fn begin_with(&mut self, first: &mut Bytes, size: usize, share: &mut Share) -> Result<(), Reason> {
        if self.0.is_empty() {
            self.begin(size, share).await?;
            self.push(first, share).await?;
            share.give_back_room(first.len());
            *first = Bytes::new();
        }
        Ok(())
    }

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
            self.begin(share.body().clamp(LEAST_BLOCK, MOST_BLOCK).max(piece.len()), share).await?;
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

/// What comes. Only a request that has to wait for it can be told to give way.
async fn sooner_or_later<T>(
    around: &mut Share,
    also: usize,
    sender: impl Future<Output = T>,
) -> Result<T, Reason> {
    let mut coming = pin!(sender);
    let there = poll_fn(|cx| match coming.as_mut().poll(cx) {
        Poll::Ready(came) => Poll::Ready(Some(came)),
        Poll::Pending => Poll::Ready(None),
    });
    match there.await {
        Some(came) => Ok(came),
        None => around.wait(also, coming).await,
    }
}

/// A body that broke off is no body; the application never hears of it.
fn broken_off(_: std::io::Error) -> Reason {
    Reason::FramingInvalid
}
