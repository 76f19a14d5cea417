//! Section 2.7: requests that two readers could read in two ways, and paths around a route.

use super::fixture::*;
use crate::support::{Answer, Request};

static GATE: Shared = Shared::new(Fixture::new);

/// A genuine request as text, to be changed in one place. Its framing is `Content-Length`.
fn genuine() -> (Request, String) {
    let event = github().event();
    let text = String::from_utf8(event.bytes()).unwrap();
    (event, text)
}

/// Each of these changes to a genuine request is a framing error, after which the event
/// itself is still new.
fn refused(cases: &[(&str, &str, &str)]) {
    let gate = GATE.enter();
    let (event, text) = genuine();
    let length = format!("Content-Length: {}", event.body.len());
    for (what, from, to) in cases {
        let from = from.replace("LENGTH", &length);
        let to = to.replace("LENGTH", &length).replace("SIZE", &event.body.len().to_string());
        assert!(text.contains(&from), "{what}: there is no {from}");
        gate.expect(what, text.replacen(&from, &to, 1), FRAMING);
    }
    gate.delivers("genuine after all", &event);
}

const LINE: &str = "POST /hooks/gh HTTP/1.1\r\n";
const HOST: &str = "Host: hooks.example\r\n";

#[test]
fn a132_length_and_chunks_together_or_twice_are_refused() {
    refused(&[
        ("CL.TE", "LENGTH\r\n", "LENGTH\r\nTransfer-Encoding: chunked\r\n"),
        ("TE.CL", "LENGTH\r\n", "Transfer-Encoding: chunked\r\nLENGTH\r\n"),
        ("CL.TE, one of them zero", "LENGTH\r\n", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
        ("twice", "LENGTH\r\n", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("chunked, identity", "LENGTH\r\n", "Transfer-Encoding: chunked, identity\r\n"),
        ("identity, chunked", "LENGTH\r\n", "Transfer-Encoding: identity, chunked\r\n"),
        ("xchunked", "LENGTH\r\n", "Transfer-Encoding: xchunked\r\n"),
        ("a quoted coding", "LENGTH\r\n", "Transfer-Encoding: \"chunked\"\r\n"),
        ("a vertical tab", "LENGTH\r\n", "Transfer-Encoding: \u{b}chunked\r\n"),
        ("a tab inside", "LENGTH\r\n", "Transfer-Encoding: chun\tked\r\n"),
        ("a space before the colon", "LENGTH\r\n", "Transfer-Encoding : chunked\r\n"),
        ("a tab before the colon", "LENGTH\r\n", "LENGTH\r\nTransfer-Encoding\t: chunked\r\n"),
        ("folded", "LENGTH\r\n", "LENGTH\r\nTransfer-Encoding:\r\n chunked\r\n"),
        ("an underscore in one", "LENGTH\r\n", "LENGTH\r\nTransfer_Encoding: chunked\r\n"),
        ("an underscore in the other", "LENGTH\r\n", "Content_Length: SIZE\r\n"),
        ("beside a real one", "LENGTH\r\n", "LENGTH\r\nContent_Length: 3\r\n"),
        ("empty", "LENGTH\r\n", "LENGTH\r\nTransfer-Encoding:\r\n"),
    ]);
    let gate = GATE.enter();
    for spelled in
        ["Transfer-Encoding: chunked", "transfer-encoding:\tChunked", "TRANSFER-ENCODING:CHUNKED  "]
    {
        let event = github().event();
        let head = event.head(&format!("{spelled}\r\n")).into_bytes();
        gate.expect(spelled, [head, event.chunks(7)].concat(), DELIVERED);
    }
}

#[test]
fn a133_a_length_is_one_plain_number() {
    refused(&[
        ("twice, equal", "LENGTH", "LENGTH\r\nLENGTH"),
        ("twice, different", "LENGTH", "LENGTH\r\nContent-Length: 3"),
        ("a list", "LENGTH", "Content-Length: SIZE, SIZE"),
        ("plus", "LENGTH", "Content-Length: +SIZE"),
        ("minus", "LENGTH", "Content-Length: -SIZE"),
        ("a leading zero", "LENGTH", "Content-Length: 0SIZE"),
        ("hexadecimal", "LENGTH", "Content-Length: 0x10"),
        ("a fraction", "LENGTH", "Content-Length: SIZE.0"),
        ("nothing", "LENGTH", "Content-Length:"),
        ("two numbers", "LENGTH", "Content-Length: 1 SIZE"),
        ("2^64", "LENGTH", "Content-Length: 18446744073709551616"),
    ]);
    let gate = GATE.enter();
    let event = github().event();
    let head = event.head(&format!("Content-Length: \t {} \t\r\n", event.body.len())).into_bytes();
    gate.expect("white space around it", [head, event.body].concat(), DELIVERED);
}

#[test]
fn a134_a_line_ends_in_cr_lf() {
    refused(&[
        ("a bare LF after the request line", LINE, "POST /hooks/gh HTTP/1.1\n"),
        ("a bare LF after a header", HOST, "Host: hooks.example\n"),
        ("a bare LF before the body", "\r\n\r\n", "\r\n\n"),
        ("a bare CR", HOST, "Host: hooks.example\r"),
        ("a CR in a value", HOST, "Host: hooks.example\r\nX: a\rb\r\n"),
        ("two empty lines in front", LINE, "\r\n\r\nPOST /hooks/gh HTTP/1.1\r\n"),
        ("a NUL", HOST, "Host: hooks.example\r\nX: a\0b\r\n"),
        ("a header without a name", HOST, "Host: hooks.example\r\n: x\r\n"),
        ("a header without a colon", HOST, "Host: hooks.example\r\nnothing\r\n"),
    ]);
    let gate = GATE.enter();
    let (_, text) = genuine();
    let bare = text.replace("\r\n", "\n");
    gate.expect("nothing but bare LFs", bare, FRAMING);
    let (_, text) = genuine();
    gate.expect("one empty line in front (RFC 9112, section 2.2)", format!("\r\n{text}"), DELIVERED);
}

#[test]
fn a135_a_chunk_is_what_it_says_it_is() {
    let gate = GATE.enter();
    let event = github().sign(b"0123456789 of A135");
    let head = event.head("Transfer-Encoding: chunked\r\n");
    for (what, body) in [
        ("a line end in an extension", "12;a=\"\r\n\"\r\n0123456789 of A135\r\n0\r\n\r\n"),
        ("a length in a trailer", "12\r\n0123456789 of A135\r\n0\r\nContent-Length: 1\r\n\r\n"),
        ("a folded trailer", "12\r\n0123456789 of A135\r\n0\r\nX: a\r\n b\r\n\r\n"),
        ("a space behind the size", "12 \r\n0123456789 of A135\r\n0\r\n\r\n"),
        ("no size", "\r\n0123456789 of A135\r\n0\r\n\r\n"),
        ("a prefix", "0x12\r\n0123456789 of A135\r\n0\r\n\r\n"),
        ("a sign", "-12\r\n0123456789 of A135\r\n0\r\n\r\n"),
        ("another sign", "+12\r\n0123456789 of A135\r\n0\r\n\r\n"),
        ("seventeen digits", "00000000000000012\r\n0123456789 of A135\r\n0\r\n\r\n"),
        ("more than a word holds", "10000000000000012\r\n0123456789 of A135\r\n0\r\n\r\n"),
        ("LF alone", "12\n0123456789 of A135\n0\n\n"),
        ("LF alone after the size", "12\n0123456789 of A135\r\n0\r\n\r\n"),
        ("nothing after the data", "12\r\n0123456789 of A1350\r\n\r\n"),
        ("more data than its size", "11\r\n0123456789 of A135\r\n0\r\n\r\n"),
        ("less data than its size", "13\r\n0123456789 of A135\r\n0\r\n\r\n"),
    ] {
        gate.expect_cut(what, head.clone() + body, FRAMING);
    }
    gate.delivers("genuine after all", &event);
}

#[test]
fn a136_another_method_is_refused_whatever_its_body() {
    let gate = GATE.enter();
    let (_, text) = genuine();
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = gate.expect(method, text.replacen("POST", method, 1), NOT_ALLOWED);
        assert_eq!(answer.header("Allow"), Some("POST"), "{method}");
    }
    // The answer to HEAD is a head: more would be taken for the next answer.
    let before = gate.gate.metrics();
    let mut sender = gate.gate.connect();
    sender.send(text.replacen("POST", "HEAD", 1));
    sender.send("POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    sender.half_close();
    let came = String::from_utf8(sender.rest()).unwrap();
    let (head, rest) = came.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 405 "), "{came}");
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 404 "), "{came}");
    gate.wait_for_in_flight(0);
    assert!(gate.gate.metrics().requests("method_not_allowed") > before.requests("method_not_allowed"));
}

#[test]
fn a137_a_second_request_in_the_packet_is_not_taken() {
    let gate = GATE.enter();
    let (_, text) = genuine();
    let (_, second) = genuine();
    for smuggled in [
        "POST /admin HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\n\r\n",
        "GET /admin HTTP/1.1\r\nHost: app\r\n\r\n",
        &second.replace("/hooks/gh", "/admin"),
    ] {
        let (event, text) = genuine();
        let seen = gate.app.seen();
        let mut sender = gate.gate.connect();
        sender.send(text + smuggled);
        assert_eq!(sender.response().said(), (200, "app".to_owned()));
        sender.half_close();
        let rest = String::from_utf8(sender.rest()).unwrap();
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 404 "), "{rest}");
        let requests = gate.app.requests();
        assert_eq!(requests.len() - seen, 1);
        assert_eq!(requests[seen].body, event.body);
        assert_eq!(gate.app.fragments(), b"");
    }
    gate.wait_for_in_flight(0);
    gate.expect("the first one alone", text, DELIVERED);
}

#[test]
fn a138_what_follows_the_body_is_no_part_of_it() {
    let gate = GATE.enter();
    for surplus in ["x", "\r\n\r\n", "0\r\n\r\n", "trailing garbage without end"] {
        let (event, text) = genuine();
        let seen = gate.app.seen();
        let mut sender = gate.gate.connect();
        sender.send(text + surplus);
        sender.half_close();
        assert_eq!(sender.response().said(), (200, "app".to_owned()), "{surplus:?}");
        sender.rest();
        let requests = gate.app.requests();
        assert_eq!((requests.len() - seen, &requests[seen].body), (1, &event.body), "{surplus:?}");
        assert_eq!(gate.app.fragments(), b"", "{surplus:?}");
    }
}

#[test]
fn a139_a_body_that_breaks_off_is_never_verified() {
    let gate = GATE.enter();
    let event = github().sign(b"0123456789 of A139");
    let declared = event.head("Content-Length: 18\r\n");
    let chunked = event.head("Transfer-Encoding: chunked\r\n");
    for (what, head, body) in [
        ("three bytes of eighteen", &declared, "012"),
        ("none", &declared, ""),
        ("no last chunk", &chunked, "12\r\n0123456789 of A139\r\n"),
        ("half a last chunk", &chunked, "12\r\n0123456789 of A139\r\n0\r\n"),
        ("half a chunk", &chunked, "12\r\n01234"),
        ("half a size", &chunked, "1"),
    ] {
        gate.expect_cut(what, head.clone() + body, FRAMING);
    }
    gate.delivers("genuine after all", &event);
}

#[test]
fn a140_no_upgrade_is_negotiated() {
    refused(&[
        (
            "WebSocket",
            HOST,
            "Host: hooks.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        ),
        ("without Connection", HOST, "Host: hooks.example\r\nUpgrade: websocket\r\n"),
        ("one of two", HOST, "Host: hooks.example\r\nConnection: Upgrade\r\nUpgrade: h2c, websocket\r\n"),
    ]);
    // The catalogue refuses an offer of h2c and the option alone as well. Common clients and proxies
    // send these with every request, and a server may pass them over (RFC 9110, section 7.8): the
    // answer is HTTP/1.1, and none of it reaches the application.
    let gate = GATE.enter();
    for (what, lines) in [
        ("h2c", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"),
        ("the option alone", "Connection: Upgrade\r\n"),
    ] {
        let (_, text) = genuine();
        let seen = gate.app.seen();
        gate.expect(what, text.replace(HOST, &format!("{HOST}{lines}")), DELIVERED);
        let request = &gate.app.requests()[seen];
        for name in ["Connection", "Upgrade", "HTTP2-Settings"] {
            assert_eq!(request.header(name), None, "{what}: {name}");
        }
    }
    // What was smuggled behind it is not read, whatever the protocol.
    let attack = "POST /hooks/gh HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n\
                  POST /admin HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    gate.expect("smuggled behind an upgrade", attack, FRAMING);
}

#[test]
fn a141_there_is_no_proxy_no_echo_and_no_server_wide_target() {
    let gate = GATE.enter();
    let (_, text) = genuine();
    let instead = |line: &str| text.replacen(LINE.trim_end(), line, 1);
    let connect = instead("CONNECT app:8080 HTTP/1.1");
    gate.expect("CONNECT", connect.replace(HOST, "Host: app:8080\r\n"), NOT_ALLOWED.closing());
    gate.expect("CONNECT elsewhere than its host", connect, NOT_ALLOWED.closing());
    gate.expect("CONNECT to a path", instead("CONNECT /hooks/gh HTTP/1.1"), NOT_ALLOWED);
    let traced = gate.expect("TRACE", instead("TRACE /hooks/gh HTTP/1.1"), NOT_ALLOWED);
    assert!(!traced.text().contains("hooks.example"), "nothing is echoed");
    gate.expect("OPTIONS *", instead("OPTIONS * HTTP/1.1"), FRAMING);
    for method in ["FROBNICATE", "post", "POSTPOST", "P"] {
        gate.expect(method, instead(&format!("{method} /hooks/gh HTTP/1.1")), NOT_ALLOWED);
    }
}

#[test]
fn a142_http_1_0_is_served_and_has_no_chunks() {
    let gate = GATE.enter();
    let old = |text: &str| text.replacen("HTTP/1.1", "HTTP/1.0", 1);
    let (_, text) = genuine();
    gate.expect("HTTP/1.0", old(&text), DELIVERED.closing());
    let (_, text) = genuine();
    gate.expect("HTTP/1.0 without a host", old(&text).replace(HOST, ""), DELIVERED.closing());
    let (_, text) = genuine();
    // The catalogue closes this one as well; a sender that asks for more gets it.
    gate.expect(
        "keep-alive",
        old(&text).replace(HOST, &format!("{HOST}Connection: keep-alive\r\n")),
        DELIVERED,
    );
    let event = github().event();
    let head = old(&event.head("Transfer-Encoding: chunked\r\n")).into_bytes();
    gate.refuses("chunks", &event, [head, event.chunks(10)].concat(), FRAMING);
    for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/11", "http/1.1", "HTTP/1.1 x"] {
        gate.expect(version, text.replacen("HTTP/1.1", version, 1), FRAMING);
    }
}

#[test]
fn a143_a_target_begins_with_a_slash() {
    refused(&[
        ("relative", LINE, "POST hooks/gh HTTP/1.1\r\n"),
        ("a Unix socket", LINE, "POST unix:/hooks/gh HTTP/1.1\r\n"),
        ("an authority", LINE, "POST hooks.example:443 HTTP/1.1\r\n"),
        ("a query alone", LINE, "POST ?x HTTP/1.1\r\n"),
        ("nothing", LINE, "POST  HTTP/1.1\r\n"),
    ]);
}

#[test]
fn a144_an_absolute_target_names_the_host_or_is_refused() {
    refused(&[
        ("another host", LINE, "POST http://other.example/hooks/gh HTTP/1.1\r\n"),
        ("another port", LINE, "POST http://hooks.example:81/hooks/gh HTTP/1.1\r\n"),
        ("a user", LINE, "POST http://a@hooks.example/hooks/gh HTTP/1.1\r\n"),
        ("another scheme", LINE, "POST ftp://hooks.example/hooks/gh HTTP/1.1\r\n"),
        ("no path", LINE, "POST http://hooks.example HTTP/1.1\r\n"),
    ]);
    // The catalogue refuses its own host too; a server must take that (RFC 9112, section 3.2.2). The
    // application gets the path alone, so nothing can be read in two ways.
    let gate = GATE.enter();
    for target in ["http://hooks.example/hooks/gh", "HTTPS://Hooks.Example/hooks/gh"] {
        let (_, text) = genuine();
        let seen = gate.app.seen();
        gate.expect(target, text.replacen("/hooks/gh", target, 1), DELIVERED);
        assert_eq!(gate.app.requests()[seen].line, "POST /hooks/gh HTTP/1.1");
    }
}

#[test]
fn a145_only_the_exact_path_is_the_route() {
    let gate = GATE.enter();
    let (event, text) = genuine();
    for path in [
        "//hooks/gh",
        "/hooks//gh",
        "/hooks/./gh",
        "/x/../hooks/gh",
        "/hooks/gh/",
        "/hooks/gh/..",
        "/hooks/gh;x",
        "/hooks/gh%2f",
        "/hooks%2fgh",
        "/HOOKS/GH",
        "/hooks/gh%00",
        "/hooks\\gh",
        "/hooks/g%68",
        "/hooks/gh%20",
        "/hooks/gh%3f",
        "/",
    ] {
        gate.expect(path, text.replacen("/hooks/gh", path, 1), NOT_FOUND);
    }
    gate.expect("a query is not the path", text.replacen("/hooks/gh", "/hooks/gh?a=/../..", 1), DELIVERED);
    gate.remembers("with a query", &event);
}

/// 404 where the catalogue has 400: a path that could lead out of a prefix is not under it.
#[test]
fn a146_a_prefix_cannot_be_left() {
    let gate = GATE.enter();
    for path in [
        "/public/../hooks/gh",
        "/public/%2e%2e/hooks/gh",
        "/public/.%2E/hooks/gh",
        "/public//../hooks/gh",
        "/public//x",
        "/public/./x",
        "/public/x/..",
        "/public/%2fx",
        "/public/..%2fhooks/gh",
        "/public/%5c..%5chooks",
        "/public/\\..\\hooks",
        "/public/x%00",
        "/public/..;/hooks/gh",
        "/public/..%3b/hooks/gh",
        "/public/%252e%252e/hooks/gh",
        "/public/%c0%ae%c0%ae/hooks/gh",
        "/public/%u002e%u002e/hooks/gh",
        "/public/..%09/hooks/gh",
        "/public/a/b%20c",
        "/public/x%0d%0a",
        "/public/x%23",
        "/public/x%3f",
        "/public/x%7f",
        "/public/x%zz",
        "/public",
    ] {
        gate.expect(path, github().event().to(path).bytes(), NOT_FOUND);
    }
    let event = github().event().to("/public/a/caf%C3%A9");
    assert_eq!(gate.delivers("under it", &event).header("Hookgate-Route"), Some("public"));
}

/// The gate has no rule about hosts: another one is served, and only the route decides.
#[test]
fn a147_a_host_is_named_once_and_plainly() {
    refused(&[
        ("missing", HOST, ""),
        ("twice", HOST, "Host: hooks.example\r\nHost: other.example\r\n"),
        ("twice, equal", HOST, "Host: hooks.example\r\nHost: hooks.example\r\n"),
        ("empty", HOST, "Host:\r\n"),
        ("userinfo", HOST, "Host: user@hooks.example\r\n"),
        ("a path", HOST, "Host: hooks.example/admin\r\n"),
        ("a space", HOST, "Host: hooks.example other.example\r\n"),
    ]);
    let gate = GATE.enter();
    let (_, text) = genuine();
    gate.expect("another", text.replace("hooks.example", "other.example:8443"), DELIVERED);
}

#[test]
fn a148_only_the_standard_expectation_is_met() {
    let gate = GATE.enter();
    let event = github().event();
    let ask = |what: &str| event.head(&format!("Content-Length: {}\r\nExpect: {what}\r\n", event.body.len()));
    // The contract has no 417.
    for expectation in ["x", "100-continue, x", "200-ok"] {
        gate.expect(expectation, ask(expectation) + std::str::from_utf8(&event.body).unwrap(), FRAMING);
    }
    let whole = |event: &Request, expect: &str, version: &str| {
        let head = event.head(&format!("Content-Length: {}\r\nExpect: {expect}\r\n", event.body.len()));
        head.replacen("HTTP/1.1", version, 1) + std::str::from_utf8(&event.body).unwrap()
    };
    gate.expect("an empty one expects nothing", whole(&github().event(), "", "HTTP/1.1"), DELIVERED);
    for expectation in ["100-continue", "x"] {
        // HTTP/1.0 has no expectations, and no interim answers (RFC 9110, section 10.1.1).
        let old = whole(&github().event(), expectation, "HTTP/1.0");
        gate.expect(expectation, old, DELIVERED.closing());
    }
    let mut sender = gate.gate.connect();
    sender.send(ask("100-continue"));
    sender.send(&event.body);
    assert_eq!(sender.response().line, "HTTP/1.1 100 Continue");
    assert_eq!(sender.response().said(), (200, "app".to_owned()), "it need not have waited");
    drop(sender);
    gate.wait_for_in_flight(0);
    drop(gate);

    let fixture = Fixture::with(|builder| builder.with("body-timeout", "1s"));
    let mut sender = fixture.gate.connect();
    sender.send(ask("100-continue"));
    assert_eq!(sender.response().status, 100);
    fixture.expect_on(&mut sender, "asked and never sent", "", BODY_TIMEOUT);
    fixture.delivers("genuine after all", &event);
}

#[test]
fn a149_a_path_is_visible_ascii_and_well_formed() {
    refused(&[
        ("a fragment", LINE, "POST /hooks/gh#x HTTP/1.1\r\n"),
        ("a letter beyond ASCII", LINE, "POST /hooks/\u{fc} HTTP/1.1\r\n"),
        ("a letter beyond ASCII in the query", LINE, "POST /hooks/gh?\u{fc} HTTP/1.1\r\n"),
    ]);
    let gate = GATE.enter();
    let (_, text) = genuine();
    let mut bytes = text.into_bytes();
    bytes[6] = 0xff;
    gate.expect("no UTF-8", bytes, FRAMING);
    for path in
        ["/hooks/gh x", "/hooks/gh ", "/hooks/gh\tx", "/hooks/gh\u{7f}", "/hooks/gh\u{1}", "/public/a b"]
    {
        gate.expect(path, github().event().to(path).bytes(), FRAMING);
    }
    // A route's path is compared, never decoded: a stray `%` is another path.
    gate.expect("a percent sign alone", github().event().to("/hooks/gh%").bytes(), NOT_FOUND);
    gate.expect("no hex digits", github().event().to("/hooks/gh%zz").bytes(), NOT_FOUND);
}

#[test]
fn a150_garbage_from_the_application_is_passed_on_to_nobody() {
    let gate = GATE.enter();
    let head = "HTTP/1.1 200 OK\r\n";
    for (what, garbage) in [
        (
            "length and chunks",
            format!("{head}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        ("two lengths", format!("{head}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd")),
        ("a signed length", format!("{head}Content-Length: +3\r\n\r\nabc")),
        ("a folded header", format!("{head}X: a\r\n b\r\nContent-Length: 0\r\n\r\n")),
        ("101", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_owned()),
        ("a CR in a header", format!("{head}X: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n")),
        ("a NUL in a header", format!("{head}X: a\0b\r\nContent-Length: 0\r\n\r\n")),
        (
            "a coding that nobody asked for",
            format!("{head}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ),
        ("another protocol", "RTSP/1.0 200 OK\r\n\r\n".to_owned()),
        ("a status of two digits", "HTTP/1.1 20 OK\r\n\r\n".to_owned()),
    ] {
        let event = github().event();
        gate.plan([Answer::raw(garbage).then_close()]);
        gate.expect(what, event.bytes(), FAILED);
        gate.delivers("the retry", &event);
    }
    // A line end injected into a header makes another header; never a second answer.
    let (event, next) = (github().event(), github().event());
    gate.plan([Answer::raw(format!("{head}Content-Length: 3\r\n\r\nappHTTP/1.1 200 OK\r\n\r\n"))]);
    gate.expect("an answer behind the answer", event.bytes(), DELIVERED);
    let mut sender = gate.gate.connect();
    assert_eq!(sender.exchange(&next).said(), (200, "app".to_owned()));
    assert!(sender.is_silent(), "it went with its connection");
}
