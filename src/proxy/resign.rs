//! The head of an event as the application gets it, signed anew. It works on the head as it would be sent,
//! so that an event that is delivered at once and one that was stored are signed in one and the same way.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::clock::{self, Now};
use crate::gate::keys::Keys;
use crate::gate::resign::{Outgoing, Resign};
use crate::gate::route::Route;

const END: &[u8] = b"\r\n";

/// The head with the signature of its route, if that asks for one and the event was accepted.
pub fn resigned(route: &Route, keys: &Keys, head: Vec<u8>, body: &[u8], arrived: Now) -> Vec<u8> {
    let Some(resign) = &route.resign else { return head };
    let time_ms = clock::after(arrived).wall_ms;
    let lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    let came: HeaderMap = lines.iter().skip(1).filter_map(|line| field(line)).collect();
    let set = if says(&came, "hookgate-verdict") == Some("accepted") {
        signed((resign, route, keys), &came, body, time_ms)
    } else {
        HeaderMap::new()
    };
    let mut out = Vec::with_capacity(head.len() + 256);
    for line in lines {
        let name = field(line).map(|(name, _)| name);
        if !name.is_some_and(|name| set.contains_key(&name) || resign.replaced().contains(&name)) {
            out.extend_from_slice(line);
            out.extend_from_slice(END);
        }
    }
    for (name, value) in &set {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), END] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(END);
    out
}

fn signed(
    (resign, route, keys): (&Resign, &Route, &Keys),
    came: &HeaderMap,
    body: &[u8],
    time_ms: i64,
) -> HeaderMap {
    // On routes that remember nothing each request is an event of its own.
    let id = says(came, "hookgate-idempotency-key").or(says(came, "hookgate-request-id"));
    let (id, key_id) = (id.unwrap_or_default(), says(came, "hookgate-key-id").unwrap_or_default());
    resign.headers(&route.signature, keys, came, Outgoing { id, key_id, time_ms, body })
}

/// The tenant of an event that was stored with this head.
pub fn tenant_in(head: &[u8]) -> Option<&str> {
    let lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let named = lines.skip(1).find_map(|line| line.strip_prefix(b"Hookgate-Tenant: "))?;
    std::str::from_utf8(named).ok()
}

/// What the gate says in its own headers.
fn says<'h>(came: &'h HeaderMap, name: &str) -> Option<&'h str> {
    came.get(name)?.to_str().ok()
}

/// Name and value of a line; the request line has none.
fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
    Some((name, value))
}
