//! The answer to the sender: the application's, or our own short one.

use std::io::Write;

use http::{Method, StatusCode};

use super::session::Session;
use super::upstream::Reply;
use crate::gate::handshake::HandshakeReply;
use crate::gate::reason::{Reason, Reject, Said};
use crate::gate::route::Route;
use crate::telemetry::RequestId;
use crate::telemetry::log::digits;

pub const REQUEST_ID: &str = "Hookgate-Request-Id";

/// Returns the application's answer.
pub async fn reply(session: &mut Session, reply: &mut Reply, id: RequestId) {
    let mut head = std::mem::take(&mut reply.head);
    named(&mut head, id);
    session.answer(head, &reply.body).await;
}

/// Refuses, in the words of the contract.
pub async fn refuse(
    session: &mut Session,
    reject: Reject,
    said: Said<'_>,
    id: RequestId,
    route: Option<&Route>,
) {
    // A body that came with the head is taken in, so that the connection can be used
    // again; for one that is still under way nobody waits.
    session.take_what_is_there().await;
    session.answer(refusal(reject, said, id, route), text(said).as_bytes()).await;
}

/// Answers a handshake. What a stranger chose stands in it, so nobody is to guess what it is.
pub async fn handshake(session: &mut Session, said: &HandshakeReply, id: RequestId) {
    session.take_what_is_there().await;
    let mut head = status_line(said.status);
    if let Some(media) = said.media {
        line(&mut head, "Content-Type", media.name());
    }
    if let Some((name, value)) = &said.header {
        line(&mut head, name.as_str(), value.as_bytes());
    }
    line(&mut head, "X-Content-Type-Options", "nosniff");
    length_under(said.status, &mut head, said.body.len());
    named(&mut head, id);
    session.answer(head, said.body.as_ref()).await;
}

/// The answer to a connection that is not served at all.
pub fn raw_refusal(reason: Reason, id: RequestId) -> Vec<u8> {
    let reject = Reject::new(reason);
    let mut answer = refusal(reject, reason.said(), id, None);
    answer.extend_from_slice(b"Connection: close\r\n\r\n");
    answer.extend_from_slice(reason.text().as_bytes());
    answer
}

/// What is said to a sender, under a status that allows it: a route may call a duplicate 204, and
/// an application's 304 or 205 is passed on to those who waited for it.
fn text(said: Said<'_>) -> &str {
    if matches!(said.status, 204 | 205 | 304) { "" } else { said.text }
}

fn refusal(reject: Reject, said: Said<'_>, id: RequestId, route: Option<&Route>) -> Vec<u8> {
    let mut head = status_line(said.status);
    let text = text(said);
    if !text.is_empty() {
        line(&mut head, "Content-Type", said.media);
    }
    length_under(said.status, &mut head, text.len());
    named(&mut head, id);
    // Whoever is to come again is told when, also where a provider wants another status for that.
    let again = matches!(said.status, 429 | 503).then_some(1);
    if let Some(seconds) = reject.retry_after_seconds().or(again) {
        _ = write!(head, "Retry-After: {seconds}\r\n"); // writing to memory does not fail
    }
    if said.status == 405 {
        let methods = route.map(|route| route.methods.iter().map(Method::as_str).collect::<Vec<_>>());
        line(&mut head, "Allow", methods.map_or("POST".to_owned(), |methods| methods.join(", ")));
    }
    head
}

/// The beginning of an answer of ours.
pub fn status_line(status: u16) -> Vec<u8> {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let mut head = Vec::with_capacity(512);
    _ = write!(head, "HTTP/1.1 {status} {}\r\n", reason.unwrap_or_default());
    head
}

/// Where there can be no body, no length may be told (RFC 9110, section 8.6).
fn length_under(status: u16, head: &mut Vec<u8>, told: usize) {
    if !matches!(status, 204 | 304) {
        length(head, told);
    }
}

pub fn length(head: &mut Vec<u8>, length: usize) {
    head.extend_from_slice(b"Content-Length: ");
    digits(head, length);
    head.extend_from_slice(b"\r\n");
}

fn named(head: &mut Vec<u8>, id: RequestId) {
    line(head, REQUEST_ID, id.hex());
}

pub fn line(head: &mut Vec<u8>, name: &str, value: impl AsRef<[u8]>) {
    head.extend_from_slice(name.as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value.as_ref());
    head.extend_from_slice(b"\r\n");
}
