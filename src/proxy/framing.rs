//! One strict reading of a request's head. The grammar is httparse's; what RFC 9112 lets a server
//! overlook is refused here, because the application behind the gate might read the same bytes in
//! another way (request smuggling). Nothing is parsed twice: what is forwarded, looked up and
//! judged are the places that this one reading found.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::Method;
use smallvec::SmallVec;

use crate::gate::delivery::{Client, Head, Headers, Line, split_target};
use crate::gate::reason::Reason;

/// Larger heads are refused with 431. Every place in a head fits into the numbers of a [`Line`].
pub const MAX_HEAD: usize = 32 * 1024;
/// More header lines are refused with 431.
const MAX_HEADERS: usize = 100;

/// A head that can be read in one way only.
pub struct RequestHead {
    raw: Bytes,
    pub method: Method,
    /// Path and query, as they were sent.
    target: Range<usize>,
    lines: SmallVec<[Line; 24]>,
    pub body: BodyFraming,
    /// Whether the sender keeps the connection for another request.
    pub persists: bool,
    /// Whether it waits for `100 Continue` before it sends the body.
    pub asks_first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    Length(u64),
    Chunked,
}

/// A head that is refused, and what of it can be told.
#[derive(Debug, PartialEq, Eq)]
pub struct Unread {
    pub reason: Reason,
    pub method: Option<Method>,
    pub path: Bytes,
}

impl RequestHead {
    /// Takes a head from the start of what was read; `None` if it is not complete.
    pub fn take(buffer: &mut BytesMut) -> Result<Option<Self>, Unread> {
        let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut []);
        let parsed = match request.parse_with_uninit_headers(buffer, &mut slots) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => read(buffer, length, &request),
            Ok(httparse::Status::Partial) if bare_line_end(buffer) => Err(Reason::FramingInvalid),
            Ok(httparse::Status::Partial) if buffer.len() <= MAX_HEAD => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(Reason::HeadersTooLarge),
            Err(_) => Err(Reason::FramingInvalid),
        };
        let (length, found) = parsed.map_err(|reason| Unread {
            reason,
            method: request.method.and_then(|method| method.parse().ok()),
            path: Bytes::copy_from_slice(split_target(request.path.unwrap_or_default().as_bytes()).0),
        })?;
        Ok(Some(RequestHead { raw: buffer.split_to(length).freeze(), ..found }))
    }

    /// The length of the head as it was sent.
    pub fn size(&self) -> usize {
        self.raw.len()
    }

    pub fn target(&self) -> &[u8] {
        &self.raw[self.target.clone()]
    }

    /// The path as it was sent, without the query.
    pub fn path(&self) -> &[u8] {
        split_target(self.target()).0
    }

    /// The same, for longer.
    pub fn path_bytes(&self) -> Bytes {
        self.raw.slice_ref(self.path())
    }

    pub fn headers(&self) -> Headers<'_> {
        Headers::Read(&self.raw, &self.lines)
    }

    /// The facts, once it is known who sent it.
    pub fn facts(&self, client: Client, secure: bool) -> Head<'_> {
        let content_length = match self.body {
            BodyFraming::Length(length) => Some(length),
            BodyFraming::Chunked => None,
        };
        let (path, query) = split_target(self.target());
        Head {
            method: &self.method,
            path,
            query,
            headers: self.headers(),
            client,
            counted_as: client,
            tenant: None,
            secure,
            content_length,
        }
    }
}

/// Whether a head that is not complete has a line end that no complete one may have.
fn bare_line_end(raw: &[u8]) -> bool {
    let mut ends = raw.iter().enumerate().filter(|(_, b)| **b == b'\n');
    raw.starts_with(b"\r\n") || ends.any(|(at, _)| at == 0 || raw[at - 1] != b'\r')
}

/// Goes once along what httparse read, and finds the place of everything. Where a line does not end
/// where it should, a tolerance of the parser was used, and the head is refused.
fn read(
    raw: &[u8],
    length: usize,
    request: &httparse::Request<'_, '_>,
) -> Result<(usize, RequestHead), Reason> {
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(Reason::FramingInvalid);
    };
    let target_at = method.len() + 1;
    let mut place = Place { raw, at: target_at + target.len() + " HTTP/1.1".len() };
    place.line_end()?;
    let mut seen = Seen::default();
    let mut lines = SmallVec::new();
    for header in request.headers.iter() {
        let name = place.advance(header.name.len())?;
        place.at += 1; // the colon: httparse takes nothing between it and the name
        place.white_space();
        let value = place.advance(header.value.len())?;
        place.white_space();
        place.line_end()?;
        seen.header(header.name.as_bytes(), header.value)?;
        lines.push(Line { name, value });
    }
    place.line_end()?;
    if place.at != length {
        return Err(Reason::FramingInvalid);
    }
    let path_at = origin_form(method, target, &seen)?;
    let head = RequestHead {
        raw: Bytes::new(),
        method: method.parse().map_err(|_| Reason::FramingInvalid)?,
        target: target_at + path_at..target_at + target.len(),
        lines,
        body: seen.body(version)?,
        persists: seen.keeps.unwrap_or(version == 1),
        asks_first: seen.asks_first && version == 1, // HTTP/1.0 knows no interim answers
    };
    Ok((length, head))
}

/// Where a path begins in a target of visible ASCII. One that names its authority is taken if that
/// is the host (RFC 9112, section 3.2.2).
fn origin_form(method: &str, target: &str, seen: &Seen<'_>) -> Result<usize, Reason> {
    if !target.bytes().all(|b| matches!(b, 0x21..=0x7e) && b != b'#') {
        return Err(Reason::FramingInvalid);
    }
    if target.starts_with('/') {
        return Ok(0);
    }
    if method == "CONNECT" {
        return Err(Reason::MethodNotAllowed);
    }
    let scheme = ["http://", "https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let authority = scheme.ok_or(Reason::FramingInvalid)?.len();
    let path = target[authority..].find('/').ok_or(Reason::FramingInvalid)?;
    let named = &target.as_bytes()[authority..authority + path];
    match seen.host {
        Some(host) if named.eq_ignore_ascii_case(host) => Ok(authority + path),
        _ => Err(Reason::FramingInvalid),
    }
}

/// How far a head is read.
struct Place<'r> {
    raw: &'r [u8],
    at: usize,
}

impl Place<'_> {
    fn advance(&mut self, by: usize) -> Result<(u16, u16), Reason> {
        let start = self.at;
        self.at += by;
        match (u16::try_from(start), u16::try_from(self.at)) {
            (Ok(start), Ok(end)) => Ok((start, end)),
            _ => Err(Reason::HeadersTooLarge),
        }
    }

    fn white_space(&mut self) {
        while matches!(self.raw.get(self.at), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    fn line_end(&mut self) -> Result<(), Reason> {
        let end = self.raw.get(self.at..).is_some_and(|rest| rest.starts_with(b"\r\n"));
        self.at += 2;
        if end { Ok(()) } else { Err(Reason::FramingInvalid) }
    }
}

/// What the lines say about the connection and the body.
#[derive(Default)]
struct Seen<'r> {
    host: Option<&'r [u8]>,
    length: Option<u64>,
    chunked: bool,
    /// Whether the connection is to be kept, where that is said; `close` has the last word.
    keeps: Option<bool>,
    asks_first: bool,
    /// `Expect` with another meaning.
    expects: bool,
}

impl<'r> Seen<'r> {
    fn header(&mut self, name: &[u8], value: &'r [u8]) -> Result<(), Reason> {
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        let fine = match name.len() {
            4 if is(b"host") => self.host.replace(value).is_none() && is_host(value),
            6 if is(b"expect") => {
                let asks = value.eq_ignore_ascii_case(b"100-continue");
                self.asks_first |= asks;
                self.expects |= !asks && !value.is_empty();
                true
            }
            // An offer that needs no answer (RFC 9110, section 7.8). Whoever asks for another
            // protocol would go on in it, and is told that this is none.
            7 if is(b"upgrade") => value.is_empty() || value.eq_ignore_ascii_case(b"h2c"),
            10 if is(b"connection") => value.split(|b| *b == b',').all(|option| self.option(option)),
            14 if is(b"content-length") => {
                let length = number(value);
                self.length.replace(length.unwrap_or_default()).is_none() && length.is_some()
            }
            14 if is(b"content_length") => false,
            17 if is(b"transfer-encoding") => {
                !std::mem::replace(&mut self.chunked, true) && value.eq_ignore_ascii_case(b"chunked")
            }
            17 if is(b"transfer_encoding") => false,
            _ => true,
        };
        if fine { Ok(()) } else { Err(Reason::FramingInvalid) }
    }

    /// An option names a header that ends here. These do so anyway; any other one would take away
    /// what the application is to see.
    fn option(&mut self, option: &[u8]) -> bool {
        let option = option.trim_ascii();
        let is = |wanted: &[u8]| option.eq_ignore_ascii_case(wanted);
        if is(b"close") {
            self.keeps = Some(false);
        } else if is(b"keep-alive") {
            self.keeps.get_or_insert(true);
        }
        option.is_empty()
            || is(b"close")
            || is(b"keep-alive")
            || is(b"upgrade")
            || is(b"te")
            || is(b"http2-settings")
    }

    fn body(&self, version: u8) -> Result<BodyFraming, Reason> {
        let may = match version {
            1 => self.host.is_some() && !self.expects,
            _ => !self.chunked,
        };
        match (self.length, self.chunked) {
            _ if !may => Err(Reason::FramingInvalid),
            (Some(_), true) => Err(Reason::FramingInvalid),
            (None, true) => Ok(BodyFraming::Chunked),
            // Neither: there is no body (RFC 9112, section 6.3).
            (length, false) => Ok(BodyFraming::Length(length.unwrap_or_default())),
        }
    }
}

/// A host, perhaps with a port (RFC 9110, section 7.2).
fn is_host(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|b| OF_HOST[usize::from(*b)])
}

/// What stands in a host. Nothing that would begin a path or a query, end credentials, or separate two
/// hosts, wherever the application puts it.
static OF_HOST: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0u8;
    while b < 128 {
        table[b as usize] = b.is_ascii_alphanumeric()
            || matches!(b, b'!' | b'$'..=b'+' | b'-' | b'.' | b':' | b';' | b'=' | b'[' | b']' | b'_' | b'~');
        b += 1;
    }
    table
};

/// One plain number without sign or leading zero.
fn number(value: &[u8]) -> Option<u64> {
    let plain = matches!(value, [b'0'] | [b'1'..=b'9', ..])
        && value.len() <= 18
        && value.iter().all(u8::is_ascii_digit);
    plain.then(|| value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// The size of a chunk. Its extensions mean nothing here, and are words: where a quoted one ends
/// is read in several ways.
pub fn chunk_size(line: &[u8]) -> Result<u64, Reason> {
    let mut parts = line.split(|b| *b == b';');
    let digits = parts.next().filter(|digits| matches!(digits.len(), 1..=8)).unwrap_or_default();
    let is_word = |word: &[u8]| http::HeaderName::from_bytes(word).is_ok();
    let plain = parts.all(|part| part.splitn(2, |b| *b == b'=').all(is_word));
    let hex = digits.iter().all(u8::is_ascii_hexdigit);
    match std::str::from_utf8(digits).map(|digits| u64::from_str_radix(digits, 16)) {
        Ok(Ok(size)) if plain && hex => Ok(size),
        _ => Err(Reason::FramingInvalid),
    }
}

/// The line at the start of what was read, without its end; `None` if it is not complete. LF ends
/// none without CR, and CR stands nowhere else.
pub fn line(buffer: &[u8]) -> Result<Option<&[u8]>, Reason> {
    let end = buffer.iter().position(|b| matches!(b, b'\r' | b'\n'));
    match end.map(|end| (end, &buffer[end..])) {
        None | Some((_, b"\r")) => Ok(None),
        Some((end, [b'\r', b'\n', ..])) => Ok(Some(&buffer[..end])),
        Some(_) => Err(Reason::FramingInvalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(head: &str) -> Result<Option<RequestHead>, Unread> {
        RequestHead::take(&mut BytesMut::from(head))
    }

    fn judged(head: &str) -> Result<(), Reason> {
        taken(head).map(|head| drop(head.expect("a whole head"))).map_err(|unread| unread.reason)
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
            "Expect:\r\n",
            "Connection: Keep-Alive, close\r\n",
            "Connection: upgrade\r\n",
            "Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQ\r\nUpgrade: h2c\r\n",
            "Connection: TE, close\r\nTE: deflate,gzip;q=0.3\r\n",
            "Upgrade:\r\n",
            "X: \u{e9}\r\n",
        ] {
            assert_eq!(with(headers), Ok(()), "{headers:?}");
        }
        assert_eq!(judged("POST /hooks?a=1 HTTP/1.0\r\n\r\n"), Ok(()));
        assert_eq!(
            judged("POST /hooks HTTP/1.0\r\nExpect: a miracle\r\n\r\n"),
            Ok(()),
            "HTTP/1.0 has no Expect"
        );
        for host in ["a", "A", "b.example:8080", "[2001:db8::1]:80"] {
            let head =
                format!("POST http://{host}/hooks?a=1 HTTP/1.1\r\nHost: {}\r\n\r\n", host.to_lowercase());
            let head = taken(&head).unwrap().unwrap();
            assert_eq!(head.target(), b"/hooks?a=1", "{host}");
        }
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
            "POST http://b/hooks HTTP/1.1",
            "POST http://a:80/hooks HTTP/1.1",
            "POST http://u@a/hooks HTTP/1.1",
            "POST http://a HTTP/1.1",
            "POST http://a?/ HTTP/1.1",
            "POST ftp://a/hooks HTTP/1.1",
            "POST //a/hooks#b HTTP/1.1",
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
    }

    #[test]
    fn too_much_head_is_said_to_be_too_much() {
        assert_eq!(with(&"A: b\r\n".repeat(99)), Ok(()), "with Host that is a hundred");
        assert_eq!(with(&"A: b\r\n".repeat(100)), Err(Reason::HeadersTooLarge));
        assert_eq!(with(&format!("A: {}\r\n", "b".repeat(MAX_HEAD))), Err(Reason::HeadersTooLarge));
    }

    #[test]
    fn a_head_is_read_when_it_is_whole_and_refused_as_soon_as_it_is_none() {
        let whole = "POST /hooks HTTP/1.1\r\nHost: a\r\nX-A:  b:c \t\r\nContent-Length: 2\r\n\r\n{}";
        for end in 0..whole.len() - 2 {
            assert!(taken(&whole[..end]).unwrap().is_none(), "{:?}", &whole[..end]);
        }
        let mut buffer = BytesMut::from(whole);
        let head = RequestHead::take(&mut buffer).unwrap().unwrap();
        assert_eq!((&buffer[..], head.body), (&b"{}"[..], BodyFraming::Length(2)));
        let lines: Vec<_> = head.headers().iter().collect();
        assert_eq!(lines[..2], [(&b"Host"[..], &b"a"[..]), (b"X-A", b"b:c")]);
        assert_eq!((head.headers().get("x-a"), head.path()), (Some(&b"b:c"[..]), &b"/hooks"[..]));
        for no_head in ["\x16\x03\x01\x02", "GET / HTTP/1.1\nHost", "POST / HTTP/1.1\r\n Host", "\0"] {
            assert_eq!(taken(no_head).err().unwrap().reason, Reason::FramingInvalid, "{no_head:?}");
        }
    }

    #[test]
    fn what_is_refused_tells_its_method_and_path_where_they_can_be_read() {
        let unread = taken("PUT /hooks?a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").err().unwrap();
        assert_eq!((unread.method, &unread.path[..]), (Some(Method::PUT), &b"/hooks"[..]));
    }

    #[test]
    fn lines_end_in_cr_lf_and_chunk_sizes_are_plain_hex() {
        assert_eq!(line(b"1f\r\nrest"), Ok(Some(&b"1f"[..])));
        assert_eq!((line(b"1f"), line(b"1f\r"), line(b"")), (Ok(None), Ok(None), Ok(None)));
        for broken in ["1f\n", "1\rf\r\n", "\n"] {
            assert_eq!(line(broken.as_bytes()), Err(Reason::FramingInvalid), "{broken:?}");
        }
        for (text, size) in [("1f", 31), ("1F;ext=1", 31), ("0", 0), ("00000001;a;b=c", 1)] {
            assert_eq!(chunk_size(text.as_bytes()), Ok(size), "{text}");
        }
        for bad in [
            "",
            "0x3",
            "-1",
            "g",
            "123456789",
            "+1",
            " 1",
            "1 ",
            "1 2",
            "1;\u{7f}",
            "1;\u{e9}",
            "1;",
            "1;a=\"b\"",
        ] {
            assert_eq!(chunk_size(bad.as_bytes()), Err(Reason::FramingInvalid), "{bad:?}");
        }
    }
}
