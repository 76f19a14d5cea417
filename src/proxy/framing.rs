//! Strict framing, judged on the raw head. Pingora's parser is tolerant where RFC 9112
//! allows it; a gate must not be, because the application behind it might read the
//! same bytes in another way (request smuggling).

use crate::gate::reason::Reason;

/// Larger heads are refused with 431.
pub const MAX_HEAD: usize = 32 * 1024;
/// More header lines are refused with 431.
const MAX_HEADERS: usize = 100;

/// Refuses a head that two readers might read in two ways.
pub fn check(raw: &[u8]) -> Result<(), Reason> {
    if raw.len() > MAX_HEAD {
        return Err(Reason::HeadersTooLarge);
    }
    // One empty line before the request is tolerated (RFC 9112, section 2.2).
    let raw = raw.strip_prefix(b"\r\n").unwrap_or(raw);
    let mut lines = Lines(raw);
    let version = request_line(lines.next().ok_or(Reason::FramingInvalid)??)?;
    let mut seen = Seen::default();
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        seen.header(line)?;
    }
    seen.judge(version)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// Lines that end in CR LF. A bare LF or CR is an error.
struct Lines<'r>(&'r [u8]);

impl<'r> Iterator for Lines<'r> {
    type Item = Result<&'r [u8], Reason>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().position(|b| *b == b'\n')?;
        let (line, rest) = (&self.0[..end], &self.0[end + 1..]);
        self.0 = rest;
        Some(match line.split_last() {
            Some((b'\r', line)) if !line.contains(&b'\r') => Ok(line),
            _ => Err(Reason::FramingInvalid),
        })
    }
}

/// `METHOD SP /target SP HTTP/1.x`, with single spaces, in origin form, visible ASCII only.
fn request_line(line: &[u8]) -> Result<Version, Reason> {
    let mut parts = line.split(|b| *b == b' ');
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    let (Some(method), Some(target), Some(version), None) = (method, target, version, parts.next()) else {
        return Err(Reason::FramingInvalid);
    };
    let visible = target.iter().all(|b| matches!(b, 0x21..=0x7e) && *b != b'#');
    if method.is_empty() || !visible {
        return Err(Reason::FramingInvalid);
    }
    if !target.starts_with(b"/") {
        return Err(match method {
            b"CONNECT" => Reason::MethodNotAllowed,
            _ => Reason::FramingInvalid,
        });
    }
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        _ => Err(Reason::FramingInvalid),
    }
}

#[derive(Default)]
struct Seen {
    headers: usize,
    hosts: usize,
    length: bool,
    chunked: bool,
}

impl Seen {
    fn header(&mut self, line: &[u8]) -> Result<(), Reason> {
        self.headers += 1;
        if self.headers > MAX_HEADERS {
            return Err(Reason::HeadersTooLarge);
        }
        let colon = line.iter().position(|b| *b == b':').ok_or(Reason::FramingInvalid)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || name.iter().any(|b| matches!(b, b' ' | b'\t')) {
            return Err(Reason::FramingInvalid); // a folded line, or a space before the colon
        }
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        let fine = match name.len() {
            4 if is(b"host") => {
                self.hosts += 1;
                is_host(value)
            }
            6 if is(b"expect") => value.eq_ignore_ascii_case(b"100-continue"),
            7 if is(b"upgrade") => false,
            10 if is(b"connection") => value.split(|b| *b == b',').all(|token| {
                let token = token.trim_ascii();
                token.is_empty()
                    || token.eq_ignore_ascii_case(b"keep-alive")
                    || token.eq_ignore_ascii_case(b"close")
            }),
            14 if is(b"content-length") => !std::mem::replace(&mut self.length, true) && is_length(value),
            14 if is(b"content_length") => false,
            17 if is(b"transfer-encoding") => {
                !std::mem::replace(&mut self.chunked, true) && value.eq_ignore_ascii_case(b"chunked")
            }
            17 if is(b"transfer_encoding") => false,
            _ => true,
        };
        if fine { Ok(()) } else { Err(Reason::FramingInvalid) }
    }

    fn judge(&self, version: Version) -> Result<(), Reason> {
        let host = match version {
            Version::Http11 => self.hosts == 1,
            Version::Http10 => self.hosts <= 1,
        };
        let chunked_1_0 = self.chunked && version == Version::Http10;
        if host && !chunked_1_0 && !(self.length && self.chunked) {
            Ok(())
        } else {
            Err(Reason::FramingInvalid)
        }
    }
}

/// A host, perhaps with a port (RFC 9110, section 7.2). Nothing that would begin a path or a
/// query, end credentials, or separate two hosts, wherever the application puts it.
fn is_host(value: &[u8]) -> bool {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(b);
    !value.is_empty() && value.iter().all(plain)
}

/// One plain number without sign or leading zero.
fn is_length(value: &[u8]) -> bool {
    matches!(value, [b'0'] | [b'1'..=b'9', ..]) && value.len() <= 18 && value.iter().all(u8::is_ascii_digit)
}

/// Why Pingora's parser took no head out of what was sent: too much of it, or no HTTP.
pub fn unparsed(error: &pingora::Error) -> Reason {
    let too_many = error.root_cause().downcast_ref() == Some(&httparse::Error::TooManyHeaders);
    let too_large = error.context.as_ref().is_some_and(|context| context.as_str().contains("larger than"));
    if too_many || too_large { Reason::HeadersTooLarge } else { Reason::FramingInvalid }
}

/// The lines of a head that passed [`check`]: name and value of each header, as sent.
pub fn headers(raw: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let raw = raw.strip_prefix(b"\r\n").unwrap_or(raw);
    Lines(raw).skip(1).map_while(|line| {
        let line = line.ok()?;
        let colon = line.iter().position(|b| *b == b':')?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(head: &str) -> Result<(), Reason> {
        check(head.as_bytes())
    }

    fn with(headers: &str) -> Result<(), Reason> {
        judged(&format!("POST /hooks HTTP/1.1\r\nHost: a\r\n{headers}\r\n"))
    }

    #[test]
    fn plain_requests_pass() {
        for headers in [
            "",
            "Content-Length: 0\r\n",
            "Content-Length:  12 \r\n",
            "Transfer-Encoding: Chunked\r\n",
            "Expect: 100-Continue\r\n",
            "Connection: Keep-Alive, close\r\n",
            "X: \u{e9}\r\n",
        ] {
            assert_eq!(with(headers), Ok(()), "{headers:?}");
        }
        assert_eq!(judged("POST /hooks?a=1 HTTP/1.0\r\n\r\n"), Ok(()));
        assert_eq!(judged("\r\nPOST / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(()), "one empty line before");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for headers in [
            "Content-Length: 3\r\nContent-Length: 3\r\n",
            "Content-Length: 3, 3\r\n",
            "Content-Length: +3\r\n",
            "Content-Length: 03\r\n",
            "Content-Length: 0x3\r\n",
            "Content-Length: \r\n",
            "Content-Length: -3\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content_Length: 3\r\n",
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer_Encoding: chunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Host: b\r\n",
            "Upgrade: websocket\r\n",
            "Expect: x\r\n",
            "Connection: X-Hub-Signature-256\r\n",
            " folded\r\n",
            "A: b\r\n\tfolded\r\n",
            "A: b\nC: d\r\n",
            "A: b\rC: d\r\n",
            "no colon\r\n",
            ": x\r\n",
        ] {
            assert_eq!(with(headers), Err(Reason::FramingInvalid), "{headers:?}");
        }
        for line in [
            "POST  /hooks HTTP/1.1",
            "POST /a b HTTP/1.1",
            "POST /a#b HTTP/1.1",
            "POST hooks HTTP/1.1",
            "POST http://a/hooks HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "POST /\u{e9} HTTP/1.1",
            "POST /hooks HTTP/1.2",
            "POST /hooks",
            "POST /hooks HTTP/1.1 ",
            " POST /hooks HTTP/1.1",
        ] {
            assert_eq!(
                judged(&format!("{line}\r\nHost: a\r\n\r\n")),
                Err(Reason::FramingInvalid),
                "{line:?}"
            );
        }
        assert_eq!(judged("POST / HTTP/1.1\r\n\r\n"), Err(Reason::FramingInvalid), "no host");
        for host in ["", "a/admin", "a?b", "a#b", "a b", "a, b", "user@a", "a\\b", "\"a\"", "\u{e4}"] {
            let head = format!("POST / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(judged(&head), Err(Reason::FramingInvalid), "{host:?}");
        }
        for host in ["a", "a.example:8443", "192.0.2.1", "[2001:db8::1]:80", "xn--mller-kva.example", "a_b"] {
            assert_eq!(judged(&format!("POST / HTTP/1.1\r\nHost: {host}\r\n\r\n")), Ok(()), "{host:?}");
        }
        assert_eq!(
            judged("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Err(Reason::FramingInvalid)
        );
        assert_eq!(judged("\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\n\r\n"), Err(Reason::FramingInvalid));
    }

    #[test]
    fn too_much_head_is_said_to_be_too_much() {
        assert_eq!(with(&"A: b\r\n".repeat(99)), Ok(()), "with Host that is a hundred");
        assert_eq!(with(&"A: b\r\n".repeat(100)), Err(Reason::HeadersTooLarge));
        assert_eq!(with(&format!("A: {}\r\n", "b".repeat(MAX_HEAD))), Err(Reason::HeadersTooLarge));
    }

    #[test]
    fn headers_come_out_as_they_were_sent() {
        let raw = b"POST / HTTP/1.1\r\nHost: a\r\nX-A:  b:c \r\n\r\n";
        let lines: Vec<_> = headers(raw).collect();
        assert_eq!(lines, [(&b"Host"[..], &b"a"[..]), (b"X-A", b"b:c")]);
    }
}
