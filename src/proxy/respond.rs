//! The answer to the sender: the application's, or our own short one.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora_timeout::tokio_timeout;

use super::upstream::Reply;
use crate::gate::handshake::HandshakeReply;
use crate::gate::reason::{Reason, Reject};
use crate::gate::route::Route;
use crate::telemetry::RequestId;

/// How long a sender may take to read its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a sender that was refused early may go on sending before we hang up.
const DRAIN: Duration = Duration::from_secs(1);
/// How long the end of an answer may take that was sent or given up. What a sender does not
/// read cannot be flushed; without a limit it would hold its connection for ever.
pub const FINISH: Duration = Duration::from_secs(1);
pub const REQUEST_ID: &str = "Hookgate-Request-Id";

/// Returns the application's answer.
pub async fn reply(session: &mut ServerSession, reply: Reply, id: RequestId) {
    let Reply { mut header, body, share: _held } = reply;
    let named = header.insert_header(REQUEST_ID, id_text(&id));
    if named.is_ok() {
        send(session, header, body).await;
    }
}

/// Refuses, in the words of the contract.
pub async fn refuse(
    session: &mut ServerSession,
    reject: Reject,
    status: u16,
    id: RequestId,
    route: Option<&Route>,
) {
    if let Ok(header) = refusal(reject, status, &id, route) {
        // A body that came with the head is taken in, so that the connection can be used
        // again; for one that is still under way nobody waits.
        if !super::body::expects_continue(session) {
            take_what_is_there(session).await;
        }
        send(session, Box::new(header), Bytes::from_static(text(reject, status).as_bytes())).await;
        drain(session).await;
    }
}

/// Answers a handshake. What a stranger chose stands in it, so nobody is to guess what it is.
pub async fn handshake(session: &mut ServerSession, said: Box<HandshakeReply>, id: RequestId) {
    if let Ok(header) = handshake_head(&said, &id) {
        if !super::body::expects_continue(session) {
            take_what_is_there(session).await;
        }
        send(session, Box::new(header), Bytes::from(said.body)).await;
        drain(session).await;
    }
}

fn handshake_head(said: &HandshakeReply, id: &RequestId) -> Result<ResponseHeader> {
    let mut header = ResponseHeader::build(said.status, Some(6))?;
    if let Some(media) = said.media {
        header.insert_header(CONTENT_TYPE, media.name())?;
    }
    if let Some((name, value)) = &said.header {
        header.insert_header(name, value)?;
    }
    header.insert_header(X_CONTENT_TYPE_OPTIONS, "nosniff")?;
    if said.status != 204 {
        header.insert_header(CONTENT_LENGTH, said.body.len())?;
    }
    header.insert_header(REQUEST_ID, id_text(id))?;
    Ok(header)
}

/// Refuses a request whose head was not understood; the connection ends with it.
pub async fn refuse_unread(session: &mut ServerSession, reject: Reject, id: RequestId) {
    session.set_keepalive(None);
    if let Ok(header) = refusal(reject, reject.reason.status(), &id, None) {
        send(session, Box::new(header), Bytes::from_static(reject.reason.text().as_bytes())).await;
    }
    _ = tokio_timeout(FINISH, session.shutdown()).await;
}

/// The answer to a connection that is not served at all.
pub fn raw_refusal(reason: Reason, id: RequestId) -> Vec<u8> {
    let text = reason.text();
    let retry = Reject::new(reason).retry_after_seconds().unwrap_or(1);
    format!(
        "HTTP/1.1 {} Refused\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nRetry-After: {retry}\r\n\
         {REQUEST_ID}: {}\r\nConnection: close\r\n\r\n{text}",
        reason.status(),
        text.len(),
        id_text(&id)
    )
    .into_bytes()
}

/// What is said to a sender, under a status that allows it: a route may call a duplicate 204, and
/// an application's 304 or 205 is passed on to those who waited for it.
fn text(reject: Reject, status: u16) -> &'static str {
    if matches!(status, 204 | 205 | 304) { "" } else { reject.reason.text() }
}

fn refusal(reject: Reject, status: u16, id: &RequestId, route: Option<&Route>) -> Result<ResponseHeader> {
    let mut header = ResponseHeader::build(status, Some(6))?;
    let text = text(reject, status);
    if !text.is_empty() {
        header.insert_header(CONTENT_TYPE, "text/plain")?;
    }
    // Where there can be no body, no length may be told (RFC 9110, section 8.6).
    if !matches!(status, 204 | 304) {
        header.insert_header(CONTENT_LENGTH, text.len())?;
    }
    header.insert_header(REQUEST_ID, id_text(id))?;
    if let Some(seconds) = reject.retry_after_seconds() {
        header.insert_header(RETRY_AFTER, seconds)?;
    }
    if status == 405 {
        let methods = route.map(|route| route.methods.iter().map(Method::as_str).collect::<Vec<_>>());
        header.insert_header(ALLOW, methods.map_or("POST".to_owned(), |methods| methods.join(", ")))?;
    }
    Ok(header)
}

fn id_text(id: &RequestId) -> String {
    String::from_utf8_lossy(&id.hex()).into_owned()
}

/// Writes in one go. If the sender has gone, there is nobody to tell.
async fn send(session: &mut ServerSession, header: Box<ResponseHeader>, body: Bytes) {
    let write = async {
        session.write_response_header(header).await?;
        session.write_response_body(body, true).await
    };
    // Nearly always there is room for all of it at once: this kind of timer costs nothing then.
    if !matches!(tokio_timeout(WRITE_TIMEOUT, write).await, Ok(Ok(()))) {
        session.set_keepalive(None);
    }
}

async fn take_what_is_there(session: &mut ServerSession) {
    const AT_ONCE: Duration = Duration::from_millis(1);
    const MOST: usize = 64 * 1024;
    let declared =
        session.req_header().headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    if !session.is_body_done() && declared.is_none_or(|length: usize| length <= MOST) {
        let mut taken = 0;
        let take = async {
            while let Ok(Some(piece)) = session.read_request_body().await {
                taken += piece.len();
                if taken > MOST {
                    break;
                }
            }
        };
        _ = tokio::time::timeout(AT_ONCE, take).await;
    }
}

/// Lets a sender that is still sending read its answer: closing at once would reset the
/// connection and take the answer with it.
async fn drain(session: &mut ServerSession) {
    if !session.is_body_done() {
        session.set_keepalive(None);
        _ = tokio::time::timeout(DRAIN, session.drain_request_body()).await;
    }
}
