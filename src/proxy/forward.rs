//! What the application receives: the sender's request as it was signed, without what
//! belongs to the sender's connection and without anything that an application could take
//! for our word or for a proxy's, and then our word.

use std::net::IpAddr;
use std::sync::LazyLock;

use crate::clock::write_rfc3339;
use crate::config::units::UpstreamUrl;
use crate::gate::delivery::{Client, Head};
use crate::gate::filter::signature::Authentic;
use crate::gate::reason::Reason;
use crate::gate::route::Route;
use crate::telemetry::log::{digits, write_address};
use crate::telemetry::trace::{Parent, TRACEPARENT, TRACESTATE, traceparent};
use crate::telemetry::{RequestId, hex};

/// A delivery that may go to the application.
pub struct Forward<'f> {
    pub head: &'f Head<'f>,
    pub peer: IpAddr,
    /// Whether the peer's forwarding headers are believed.
    pub trusted: bool,
    /// Whether its `X-Forwarded-For` is.
    pub list_believed: bool,
    pub route: &'f Route,
    pub upstream: &'f UpstreamUrl,
    pub authentic: Option<&'f Authentic>,
    /// The first objection of an observing route.
    pub observed: Option<Reason>,
    pub id: RequestId,
    /// What the sender says of its trace.
    pub trace: Option<Parent>,
    /// Whether requests become spans.
    pub exported: bool,
    pub body_len: usize,
}

impl Forward<'_> {
    /// The request head as it is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.head.headers.size() + OURS_SIZE);
        self.request_line(&mut out);
        for (name, value) in self.head.headers.iter() {
            if self.passes(name) {
                passed_on(&mut out, name, value);
            }
        }
        self.gate_headers(&mut out);
        out.extend_from_slice(b"\r\n");
        out
    }

    /// What the scheme reads is for the application as well. Of the rest passes what means one
    /// thing to every application, and is not for a proxy to say.
    fn passes(&self, name: &[u8]) -> bool {
        let speaker = Speaker::of(name);
        if speaker == Speaker::Gate {
            return false;
        }
        let read = self.route.headers.iter().map(|header| header.as_str().as_bytes());
        let mut alike = read.filter(|read| same(name, read)).peekable();
        if alike.peek().is_some() {
            return alike.any(|read| name.eq_ignore_ascii_case(read));
        }
        is_plain(name) && (self.trusted || speaker == Speaker::Anybody)
    }

    fn request_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.head.path);
        if let Some(query) = self.head.query {
            out.push(b'?');
            out.extend_from_slice(query);
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
    }

    fn gate_headers(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Content-Length: ");
        digits(out, self.body_len);
        out.extend_from_slice(b"\r\n");
        match (self.observed, self.authentic) {
            (None, Some(_)) => line(out, b"Hookgate-Verdict: ", b"accepted"),
            // Without a proof there is nothing that could be called accepted.
            (None, None) => line(out, b"Hookgate-Verdict: ", b"observed"),
            (Some(reason), _) => {
                line(out, b"Hookgate-Verdict: ", b"observed");
                line(out, b"Hookgate-Reason: ", reason.label().as_bytes());
            }
        }
        line(out, b"Hookgate-Route: ", self.route.name.as_bytes());
        line(out, b"Hookgate-Provider: ", self.route.provider.as_bytes());
        if let Some(authentic) = self.authentic {
            if let Some(tenant) = authentic.tenant() {
                line(out, b"Hookgate-Tenant: ", tenant.as_bytes());
            }
            line(out, b"Hookgate-Key-Id: ", authentic.key_id().as_bytes());
            line(out, b"Hookgate-Assurance: ", authentic.assurance().label().as_bytes());
            match authentic.event_id() {
                Some(id) if id.signed => line(out, b"Hookgate-Event-Id: ", id.text.as_bytes()),
                Some(id) => line(out, b"Hookgate-Unsigned-Event-Id: ", id.text.as_bytes()),
                None => {}
            }
            match authentic.event_type() {
                Some(kind) if kind.signed => line(out, b"Hookgate-Event-Type: ", kind.text.as_bytes()),
                Some(kind) => line(out, b"Hookgate-Unsigned-Event-Type: ", kind.text.as_bytes()),
                None => {}
            }
            if let Some(ms) = authentic.signed_at().and_then(|t| t.ms) {
                out.extend_from_slice(b"Hookgate-Event-Time: ");
                write_rfc3339(out, ms);
                out.extend_from_slice(b"\r\n");
            }
            if let Some(identity) = authentic.identity() {
                line(out, b"Hookgate-Idempotency-Key: ", &hex(identity.told().as_bytes()));
            }
        }
        line(out, b"Hookgate-Request-Id: ", &self.id.hex());
        self.forwarded(out);
        self.trace(out);
    }

    fn forwarded(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"X-Forwarded-For: ");
        if self.list_believed {
            let before = self.head.headers.get_all("x-forwarded-for");
            for value in before.filter(|value| value.iter().all(|b| matches!(b, b'\t' | 0x20..=0x7e))) {
                out.extend_from_slice(value);
                out.extend_from_slice(b", ");
            }
        } else if let Client::Known(client) = self.head.client
            && client != self.peer
        {
            write_address(out, client); // named in `Forwarded`, which ends here
            out.extend_from_slice(b", ");
        }
        write_address(out, self.peer);
        out.extend_from_slice(b"\r\n");
        line(out, b"X-Forwarded-Proto: ", if self.head.secure { b"https" } else { b"http" });
        let host = self.head.headers.get("host");
        if host.is_none() {
            // HTTP/1.0 goes without, HTTP/1.1 does not.
            line(out, b"Host: ", self.upstream.authority().as_bytes());
        }
        let forwarded = if self.trusted { self.head.headers.get("x-forwarded-host") } else { None };
        if let Some(host) = forwarded.or(host) {
            line(out, b"X-Forwarded-Host: ", host);
        }
    }

    /// Without a span of ours the sender's stays the parent of the application's work.
    fn trace(&self, out: &mut Vec<u8>) {
        let parent = self.trace;
        let exported = self.exported && parent.is_none_or(Parent::is_sampled);
        let sent = parent.filter(|_| !exported).and_then(|_| self.head.headers.get(TRACEPARENT));
        match sent {
            Some(sent) => line(out, b"traceparent: ", sent),
            None => line(out, b"traceparent: ", &traceparent(self.id, parent, exported)),
        }
        if parent.is_some() {
            for state in self.head.headers.get_all(TRACESTATE) {
                line(out, b"tracestate: ", state);
            }
        }
    }
}

/// What our lines take, about.
const OURS_SIZE: usize = 640;

fn passed_on(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    line(out, b": ", value);
}

/// A line of ours; it begins with its name and a colon. There are a dozen in each head.
#[expect(
    clippy::inline_always,
    reason = "so that the name is a literal here, and copied in a few instructions"
)]
#[inline(always)]
fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Headers by name, or with `*` by how the name begins; in lower case.
type Names = &'static [&'static str];

/// What ends at the gate, whoever says it.
const OURS: &[Names] = &[
    // The sender's connection (RFC 9110, section 7.6.1). To CGI `Proxy` is HTTP_PROXY.
    &["connection", "content-length", "expect", "http2-settings", "keep-alive", "proxy", "proxy-*", "te"],
    &["trailer", "transfer-encoding", "upgrade"],
    // What we say.
    &["forwarded", "hookgate-*", "traceparent", "tracestate", "x-forwarded-for", "x-forwarded-host"],
    &["x-forwarded-port", "x-forwarded-prefix", "x-forwarded-proto", "x-forwarded-server", "x-real-ip"],
    // What makes another request of it: method, host, path and the part of the path that is the
    // application's own.
    &["x-http-*", "x-method-override", "x-original-method", "x-original-uri", "x-original-url"],
    &["x-rewrite-*", "script-name", "x-script-name"],
];

/// What only a proxy has to say. A stranger's end here, and so does every name in `-ip`.
const PROXIES: &[Names] = &[
    // Address, scheme, host and path as the proxy saw them.
    &["x-forwarded", "x-forwarded-*", "forwarded-*", "x-original-*", "x-envoy-*", "x-host", "x-scheme"],
    &["x-url-scheme", "https", "front-end-https", "x-arr-*", "wl-proxy-*", "cf-visitor", "cloudfront-*"],
    // Who the proxy found the user to be, or what certificate was shown to it.
    &["remote-*", "x-remote-*", "auth-user", "x-auth-user", "x-auth-request-*", "x-authenticated-*"],
    &["x-webauth-*", "x-goog-authenticated-*", "x-ms-client-principal*", "x-amzn-oidc-*", "cf-access-*"],
    &["client-cert*", "x-client-cert*", "ssl-client-*", "x-ssl-*", "x-amzn-mtls-*"],
    // What a proxy asks a framework to do: where a file lies, which page is meant.
    &["x-accel-*", "x-sendfile-type", "x-middleware-*", "x-matched-path", "x-invoke-*"],
];

/// Who may say what a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaker {
    /// Nobody but us.
    Gate,
    Proxy,
    Anybody,
}

impl Speaker {
    fn of(name: &[u8]) -> Speaker {
        static KNOWN: LazyLock<Vec<Vec<Known>>> = LazyLock::new(known);
        let listed = letters(name).and_then(|letters| KNOWN[letters].iter().find(|known| known.is(name)));
        match (listed, name) {
            (Some(known), _) => known.speaker,
            (None, [_, .., mark, b'i' | b'I', b'p' | b'P']) if !mark.is_ascii_alphanumeric() => {
                Speaker::Proxy
            }
            (None, _) => Speaker::Anybody,
        }
    }
}

/// A name of the lists.
struct Known {
    name: &'static [u8],
    is_start: bool,
    speaker: Speaker,
}

impl Known {
    fn is(&self, name: &[u8]) -> bool {
        let start = if self.is_start { name.get(..self.name.len()) } else { Some(name) };
        start.is_some_and(|start| same(start, self.name))
    }
}

/// The lists by the letters that tell names apart, so that most headers are compared with none.
fn known() -> Vec<Vec<Known>> {
    let mut by_letters: Vec<_> = (0..26 * 26).map(|_| Vec::new()).collect();
    for (names, speaker) in [(OURS, Speaker::Gate), (PROXIES, Speaker::Proxy)] {
        for text in names.iter().copied().flatten() {
            let name = text.strip_suffix('*').unwrap_or(text);
            let known = Known { name: name.as_bytes(), is_start: name != *text, speaker };
            by_letters[letters(name.as_bytes()).expect("two letters")].push(known);
        }
    }
    by_letters
}

/// The first two letters, of an `X-` name those behind that.
fn letters(name: &[u8]) -> Option<usize> {
    let pair = match name {
        [b'x' | b'X', mark, pair @ ..] if !mark.is_ascii_alphanumeric() => pair,
        name => name,
    };
    let [first, second] = *pair.first_chunk()?;
    let nth = |letter: u8| usize::from(letter.to_ascii_lowercase() - b'a');
    (first.is_ascii_alphabetic() && second.is_ascii_alphabetic()).then(|| nth(first) * 26 + nth(second))
}

/// How a byte of a name is read by CGI-like applications: in any case, and what is no letter and
/// no digit as one mark, for which each of them takes another set. A table, because every byte of
/// every name is looked at.
const READ: [u8; 256] = {
    let mut read = [b'-'; 256];
    let mut byte = 0;
    while byte < u8::MAX {
        if byte.is_ascii_alphanumeric() {
            read[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    read
};

/// A mark that is not `-`.
const ODD: [bool; 256] = {
    let mut odd = [false; 256];
    let mut byte = 0;
    while byte < u8::MAX {
        odd[byte as usize] = READ[byte as usize] == b'-' && byte != b'-';
        byte += 1;
    }
    odd[255] = true;
    odd
};

/// Letters, digits and `-`.
fn is_plain(name: &[u8]) -> bool {
    !name.iter().fold(false, |odd, b| odd | ODD[usize::from(*b)])
}

/// Whether some application reads both names as one.
fn same(name: &[u8], known: &[u8]) -> bool {
    let alike = |(a, b): (&u8, &u8)| READ[usize::from(*a)] == READ[usize::from(*b)];
    name.len() == known.len() && name.iter().zip(known).all(alike)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_gate_headers_is_ours() {
        for name in
            ["Hookgate-Verdict", "hookgate_verdict", "HOOKGATE.x", "X_Forwarded~For", "Connection", "TE"]
        {
            assert_eq!(Speaker::of(name.as_bytes()), Speaker::Gate, "{name}");
        }
        for name in ["X-HTTP-Method-Override", "X-Rewrite-URI", "x-original-url", "Proxy", "Proxy-Connection"]
        {
            assert_eq!(Speaker::of(name.as_bytes()), Speaker::Gate, "{name}");
        }
        for name in ["X-Hookgate", "Hookgat", "Content-Type", "Host", "Tea", "X-Proxy", "", "x", "x-", "-"] {
            assert_ne!(Speaker::of(name.as_bytes()), Speaker::Gate, "{name}");
        }
    }

    #[test]
    fn names_that_proxies_use_are_known_by_their_kind() {
        for name in
            ["Client-IP", "True-Client-IP", "CF-Connecting-IP", "X-Forwarded-User", "X-Scheme", "Remote-User"]
        {
            assert_eq!(Speaker::of(name.as_bytes()), Speaker::Proxy, "{name}");
        }
        for name in ["X-Ship", "IP", "-ip", "X-Forward", "Remote", "X-GitHub-Event", "Via", "1-2"] {
            assert_eq!(Speaker::of(name.as_bytes()), Speaker::Anybody, "{name}");
        }
    }

    #[test]
    fn no_provider_of_the_catalogue_uses_a_name_of_ours_or_a_proxys() {
        use crate::config::{provider, scheme::compile};

        for (name, _) in provider::PRESETS {
            for scheme in &provider::preset(name).unwrap().schemes {
                for header in compile(scheme, None, None).unwrap().headers() {
                    let header = header.as_str().as_bytes();
                    assert!(is_plain(header) && Speaker::of(header) == Speaker::Anybody, "{name}");
                }
            }
        }
    }

    #[test]
    fn marks_are_one_mark() {
        for name in ["x-hub-signature", "X_Hub.Signature", "X~Hub!Signature"] {
            assert!(same(name.as_bytes(), b"x-hub-signature"), "{name}");
            assert!(same(b"x_hub_signature", name.as_bytes()), "{name}");
        }
        assert!(!same(b"x-hub-signaturee", b"x-hub-signature"));
        assert!(!same(b"x-hubs-ignature", b"x-hub-signature"));
    }
}
