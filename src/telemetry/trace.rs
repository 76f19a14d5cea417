//! Where a delivery stands in a trace: W3C Trace Context, as it came and as it goes on.

use super::RequestId;
use crate::gate::delivery::Headers;

/// W3C Trace Context, section 3.2.
pub const TRACEPARENT: &str = "traceparent";
/// Section 3.3: means nothing without the other.
pub const TRACESTATE: &str = "tracestate";

/// A valid `traceparent`. Kept as the digits that it was sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    pub trace: [u8; 32],
    pub span: [u8; 16],
    flags: u8,
}

/// Whether somebody records the trace.
const SAMPLED: u8 = 0b01;
/// Sampled, and "the trace id is random" (level 2); the others mean nothing yet.
const KNOWN: u8 = 0b11;

impl Parent {
    /// What the sender says. One that came twice says nothing.
    pub fn of(headers: Headers<'_>) -> Option<Parent> {
        Parent::parse(headers.single(TRACEPARENT).ok()??)
    }

    fn parse(value: &[u8]) -> Option<Parent> {
        let text = std::str::from_utf8(value).ok()?;
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let some = |part: &str| part.bytes().any(|b| b != b'0');
        // A later version may have more parts.
        let whole = version.len() == 2 && version != "ff" && (version != "00" || parts.next().is_none());
        let valid = whole && flags.len() == 2 && [version, trace, span, flags].into_iter().all(hex);
        (valid && some(trace) && some(span)).then_some(())?;
        Some(Parent {
            trace: trace.as_bytes().try_into().ok()?,
            span: span.as_bytes().try_into().ok()?,
            flags: u8::from_str_radix(flags, 16).ok()?,
        })
    }

    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    pub fn trace_id(&self) -> &str {
        std::str::from_utf8(&self.trace).unwrap_or_default()
    }
}

/// The `traceparent` that names a request of ours as what the application's work is part of.
/// A trace that begins here is sampled if its spans are exported.
pub fn traceparent(id: RequestId, parent: Option<Parent>, exported: bool) -> [u8; 55] {
    let trace = parent.map_or(id.hex(), |parent| parent.trace);
    let flags = parent.map_or(u8::from(exported), |parent| parent.flags & KNOWN);
    let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
    out[3..35].copy_from_slice(&trace);
    out[36..52].copy_from_slice(&id.span_hex());
    out[54] = b'0' + flags;
    out
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn parent(values: &[&str]) -> Option<Parent> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, value.parse().unwrap());
        }
        Parent::of(Headers::Made(&headers))
    }

    #[test]
    fn only_a_valid_parent_is_believed() {
        let parent_of = |text: &str| parent(&[text]);
        let valid = parent_of(VALID).unwrap();
        assert_eq!(valid.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(&valid.span, b"b7ad6b7169203331");
        assert!(valid.is_sampled());
        assert!(!parent_of(&VALID.replace("-01", "-02")).unwrap().is_sampled());
        let later = parent_of("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more");
        assert!(later.is_some(), "a later version may say more");
        for bad in [
            "",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-+1",
        ] {
            assert_eq!(parent_of(bad), None, "{bad}");
        }
        assert_eq!(parent(&[VALID, VALID]), None, "which of the two?");
        assert_eq!(parent(&[]), None);
    }

    #[test]
    fn what_goes_on_is_part_of_the_trace_and_names_our_span() {
        let id = RequestId::next();
        let text = |parent, exported| String::from_utf8(traceparent(id, parent, exported).to_vec()).unwrap();
        let (own, span) = (id.hex(), id.span_hex());
        let (own, span) = (std::str::from_utf8(&own).unwrap(), std::str::from_utf8(&span).unwrap());
        assert_eq!(text(None, false), format!("00-{own}-{span}-00"), "nobody records it");
        assert_eq!(text(None, true), format!("00-{own}-{span}-01"));
        let trace = "0af7651916cd43dd8448eb211c80319c";
        for (sent, on) in [("00", "00"), ("01", "01"), ("03", "03"), ("fd", "01")] {
            let sent = parent(&[&VALID.replace("-01", &format!("-{sent}"))]);
            assert_eq!(text(sent, true), format!("00-{trace}-{span}-{on}"), "the sender's choice stays");
        }
        let made = text(None, false);
        assert!(parent(&[&made]).is_some(), "what is made is valid");
    }
}
