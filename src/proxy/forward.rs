//! What the application receives: the sender's request as it was signed, without what
//! belongs to the sender's connection and without anything that looks like our word,
//! and then our word.

use std::fmt::Display;
use std::io::Write;
use std::net::IpAddr;

use http::HeaderName;

use super::framing;
use crate::gate::answer::Reason;
use crate::gate::chain::Route;
use crate::gate::delivery::Head;
use crate::gate::filter::signature::Authentic;
use crate::gate::scheme::timestamp::to_rfc3339;
use crate::telemetry::trace::{Parent, TRACEPARENT, TRACESTATE, traceparent};
use crate::telemetry::{RequestId, hex};

/// A delivery that may go to the application.
pub struct Forward<'f> {
    pub raw_head: &'f [u8],
    pub head: &'f Head<'f>,
    pub peer: IpAddr,
    /// Whether the peer's forwarding headers are believed.
    pub trusted: bool,
    pub route: &'f Route,
    pub authentic: Option<&'f Authentic>,
    /// The first objection of an observing route.
    pub observed: Option<Reason>,
    pub id: RequestId,
    /// Whether requests become spans.
    pub exported: bool,
    pub body_len: usize,
}

impl Forward<'_> {
    /// The request head as it is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.raw_head.len() + 768);
        self.request_line(&mut out);
        for (name, value) in framing::headers(self.raw_head) {
            if !is_ours(name) && !looks_like(name, &self.route.headers) {
                line(&mut out, name, value);
            }
        }
        self.our_word(&mut out);
        out.extend_from_slice(b"\r\n");
        out
    }

    fn request_line(&self, out: &mut Vec<u8>) {
        let raw = self.raw_head.strip_prefix(b"\r\n").unwrap_or(self.raw_head);
        let end = raw.iter().position(|b| *b == b'\r').unwrap_or(raw.len());
        let target_end = raw[..end].iter().rposition(|b| *b == b' ').unwrap_or(end);
        out.extend_from_slice(&raw[..target_end]);
        out.extend_from_slice(b" HTTP/1.1\r\n");
    }

    fn our_word(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Content-Length: ");
        end(out, self.body_len);
        match self.observed {
            None => line(out, b"Hookgate-Verdict", b"accepted"),
            Some(reason) => {
                line(out, b"Hookgate-Verdict", b"observed");
                line(out, b"Hookgate-Reason", reason.label().as_bytes());
            }
        }
        line(out, b"Hookgate-Route", self.route.name.as_bytes());
        line(out, b"Hookgate-Provider", self.route.provider.as_bytes());
        if let Some(authentic) = self.authentic {
            line(out, b"Hookgate-Key-Id", authentic.key_id().as_bytes());
            line(out, b"Hookgate-Assurance", authentic.assurance().label().as_bytes());
            for (named, signed, unsigned) in [
                (authentic.event_id(), "Hookgate-Event-Id", "Hookgate-Unsigned-Event-Id"),
                (authentic.event_type(), "Hookgate-Event-Type", "Hookgate-Unsigned-Event-Type"),
            ] {
                let Some(named) = named else { continue };
                let name = if named.signed { signed } else { unsigned };
                line(out, name.as_bytes(), named.text.as_bytes());
            }
            if let Some(ms) = authentic.signed_at().and_then(|t| t.ms) {
                line(out, b"Hookgate-Event-Time", to_rfc3339(ms).as_bytes());
            }
            line(out, b"Hookgate-Idempotency-Key", &hex(authentic.identity().told().as_bytes()));
        }
        line(out, b"Hookgate-Request-Id", &self.id.hex());
        self.forwarded(out);
        self.trace(out);
    }

    fn forwarded(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"X-Forwarded-For: ");
        if self.trusted {
            let before = self.head.headers.get_all("x-forwarded-for");
            for value in before.iter().filter_map(|value| value.to_str().ok()) {
                out.extend_from_slice(value.as_bytes());
                out.extend_from_slice(b", ");
            }
        }
        end(out, self.peer);
        line(out, b"X-Forwarded-Proto", if self.head.secure { b"https" } else { b"http" });
        let forwarded = self.head.headers.get("x-forwarded-host").filter(|_| self.trusted);
        if let Some(host) = forwarded.or_else(|| self.head.headers.get(http::header::HOST)) {
            line(out, b"X-Forwarded-Host", host.as_bytes());
        }
    }

    /// Without a span of ours the sender's stays the parent of the application's work.
    fn trace(&self, out: &mut Vec<u8>) {
        let parent = Parent::of(self.head.headers);
        let exported = self.exported && parent.is_none_or(Parent::is_sampled);
        match self.head.headers.get(TRACEPARENT) {
            Some(sent) if parent.is_some() && !exported => {
                line(out, TRACEPARENT.as_bytes(), sent.as_bytes());
            }
            Some(_) | None => {
                line(out, TRACEPARENT.as_bytes(), &traceparent(self.id, parent, exported));
            }
        }
        if parent.is_some() {
            for state in self.head.headers.get_all(TRACESTATE) {
                line(out, TRACESTATE.as_bytes(), state.as_bytes());
            }
        }
    }
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The value that a line ends with.
fn end(out: &mut Vec<u8>, value: impl Display) {
    _ = write!(out, "{value}\r\n"); // writing to memory does not fail
}

/// What ends at the gate: the sender's connection (RFC 9110, section 7.6.1), who it says
/// it is, what would override the request, and every spelling of what we say ourselves.
const OURS: [&[u8]; 27] = [
    b"connection",
    b"content-length",
    b"expect",
    b"forwarded",
    b"http2-settings",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"traceparent",
    b"tracestate",
    b"transfer-encoding",
    b"upgrade",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-prefix",
    b"x-forwarded-proto",
    b"x-forwarded-server",
    b"x-http-method",
    b"x-http-method-override",
    b"x-method-override",
    b"x-original-url",
    b"x-real-ip",
    b"x-rewrite-url",
];

fn is_ours(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"hookgate-";
    let starts = name.len() >= PREFIX.len() && same(&name[..PREFIX.len()], PREFIX);
    starts || OURS.iter().any(|ours| same(name, ours))
}

/// A name with `_` that an application could take for one of the route's own headers.
fn looks_like(name: &[u8], headers: &[HeaderName]) -> bool {
    name.contains(&b'_') && headers.iter().any(|header| same(name, header.as_str().as_bytes()))
}

/// Alike in any case, and with `_` for `-`: CGI-like applications do not tell them apart.
fn same(name: &[u8], lower: &[u8]) -> bool {
    let plain = |b: u8| if b == b'_' { b'-' } else { b.to_ascii_lowercase() };
    name.len() == lower.len() && name.iter().zip(lower).all(|(a, b)| plain(*a) == *b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_our_word_is_ours() {
        for name in
            ["Hookgate-Verdict", "hookgate_verdict", "HOOKGATE-x", "X_Forwarded_For", "Connection", "TE"]
        {
            assert!(is_ours(name.as_bytes()), "{name}");
        }
        for name in ["X-Hookgate", "Hookgat", "Content-Type", "Host", "Tea"] {
            assert!(!is_ours(name.as_bytes()), "{name}");
        }
        let route = [HeaderName::from_static("x-hub-signature-256")];
        assert!(looks_like(b"X_Hub_Signature_256", &route));
        assert!(!looks_like(b"X-Hub-Signature-256", &route), "the header itself is forwarded");
        assert!(!looks_like(b"X_Other", &route));
    }
}
