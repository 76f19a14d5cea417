//! From Pingora's request to the gate's facts. Looking costs nothing, so the facts are
//! looked at anew whenever they are needed instead of being carried along.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;

use crate::budget::Intake;
use crate::gate::delivery::{Client, Head, Peer, split_target};
use crate::gate::reason::Reason;
use crate::telemetry::Record;
use crate::telemetry::trace::Parent;

/// The other end of the connection; `None` if it has no address.
pub fn peer(session: &ServerSession) -> Option<Peer> {
    let digest = session.digest()?;
    let address = digest.socket_digest.as_ref()?.peer_addr()?.as_inet()?.ip();
    let relay = carried(session).and_then(|carried| carried.relay);
    Some(Peer { address: address.to_canonical(), relay, tls: digest.ssl_digest.is_some() })
}

/// What counts the bytes of the connection's heads.
pub fn intake(session: &ServerSession) -> Option<&Arc<Intake>> {
    carried(session).map(|carried| &carried.intake)
}

/// What the listener knows of a connection, beside what Pingora asks for.
pub struct Carried {
    pub intake: Arc<Intake>,
    /// The other end of the socket, where it named another sender.
    pub relay: Option<IpAddr>,
}

fn carried(session: &ServerSession) -> Option<&Carried> {
    let carrier = session.digest()?.proxy_digest.as_ref()?;
    carrier.user_data.as_ref()?.downcast_ref()
}

/// The path as it was sent, without the query.
pub fn path(request: &RequestHeader) -> &[u8] {
    target(request).0
}

/// Path and query as they were sent.
fn target(request: &RequestHeader) -> (&[u8], Option<&[u8]>) {
    split_target(request.raw_path())
}

/// The head, once it is known who sent it. `Content-Length` was checked with the framing.
pub fn head(request: &RequestHeader, client: Client, secure: bool) -> Head<'_> {
    let declared = request.headers.get(CONTENT_LENGTH);
    let chunked = request.headers.contains_key(http::header::TRANSFER_ENCODING);
    let content_length = match declared {
        Some(length) => length.to_str().ok().and_then(|l| l.trim().parse().ok()),
        None if chunked => None,
        None => Some(0), // neither: there is no body (RFC 9112, section 6.3)
    };
    let (path, query) = target(request);
    Head { method: &request.method, path, query, headers: &request.headers, client, secure, content_length }
}

/// The record of a request that has just arrived.
pub fn record(session: &ServerSession) -> Record {
    let request = session.req_header();
    Record {
        method: request.method.clone(),
        path: Bytes::copy_from_slice(path(request)),
        trace: Parent::of(&request.headers),
        ..Record::without_head(peer(session).map(|peer| peer.address), Reason::Accepted)
    }
}
