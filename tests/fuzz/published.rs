//! What llhttp's authors try their parser with, and what the session makes of it: the cases of its
//! `test/request` in our words, each with a host, without which all of them would be refused. Where llhttp
//! takes what the gate refuses, applications differ in what they make of it.

use super::targets::head::{head, ours};

/// What a connection begins with, and the body of the first request if that is taken.
type Case = (&'static str, &'static str, Option<&'static str>);

/// Behind `POST /url HTTP/1.1` and a host.
const LINES: &[Case] = &[
    // Lengths.
    ("zeroes in front of a length", "Content-Length: 003\r\n\r\nabc", None),
    ("a length", "Content-Length: 3\r\nOhai: world\r\n\r\nabc", Some("abc")),
    ("a length beyond 64 bits", "Content-Length: 1000000000000000000000\r\n\r\n", None),
    ("two lengths", "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", None),
    ("a length and identity", "Content-Length: 1\r\nTransfer-Encoding: identity\r\n\r\na", None),
    ("a space behind the name of a length", "Content-Length : 4\r\n\r\nabcd", None),
    ("spaces around a length", "Content-Length:  4 \r\n\r\nabcd", Some("abcd")),
    ("tabs around a length", "Content-Length:\t4\t\r\n\r\nabcd", Some("abcd")),
    ("a space in a length", "Content-Length: 4 2\r\n\r\nabcd", None),
    ("two numbers", "Content-Length: 13 37\r\n\r\nabcd", None),
    ("an empty length", "Content-Length:\r\n\r\nabcd", None),
    ("CR for the dash of a length", "Content\rLength: 3\r\n\r\nabc", None),
    ("capitals in the name of a length", "conTENT-Length: 5\r\n\r\nHELLO", Some("HELLO")),
    ("a body that is shorter than its length", "Content-Length: 123\r\n\r\nPOST /url HTTP/1.1\r\n\r\n", None),
    ("CR in front of the body", "Content-Length: 3\r\n\rabc", None),
    // Chunks.
    (
        "a size in small letters",
        "Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
        Some("0123456789"),
    ),
    (
        "a size in capitals",
        "Transfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
        Some("0123456789"),
    ),
    ("no chunk at all", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Some("")),
    ("several zeroes", "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n01\r\nb\r\n000\r\n\r\n", Some("ab")),
    (
        "trailers",
        "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nVary: *\r\nContent-Type: text/plain\r\n\r\n",
        Some("a"),
    ),
    (
        "extensions",
        "Transfer-Encoding: chunked\r\n\r\n1;ilove;so=much;and=more\r\na\r\n2;b\r\nbc\r\n0\r\n\r\n",
        Some("abc"),
    ),
    (
        "an extension without a semicolon",
        "Transfer-Encoding: chunked\r\n\r\n2 erf\r\naa\r\n0 rr\r\n\r\n",
        None,
    ),
    ("a semicolon without an extension", "Transfer-Encoding: chunked\r\n\r\n2;\r\naa\r\n0\r\n\r\n", None),
    (
        "quotes in an extension",
        "Transfer-Encoding: chunked\r\n\r\n1;a=\"I \\\"love\\\"; x\";b\r\na\r\n0\r\n\r\n",
        None,
    ),
    (
        "quotes that do not end",
        "Transfer-Encoding: chunked\r\n\r\n1;a=\"abc\";b=\"def; ghi\r\na\r\n0\r\n\r\n",
        None,
    ),
    ("pigeons", "Transfer-Encoding: pigeons\r\n\r\n", None),
    ("identity in front of a length", "Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nWorld", None),
    ("chunks behind a length", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", None),
    (
        "empty codings beside a length",
        "Content-Length: 10\r\nTransfer-Encoding:\r\nTransfer-Encoding:\r\n\r\n2\r\nAA\r\n0\r\n",
        None,
    ),
    ("chunked before another coding", "Transfer-Encoding: chunked, deflate\r\n\r\nWorld", None),
    ("the same in two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: deflate\r\n\r\nWorld", None),
    (
        "another coding before chunked",
        "Transfer-Encoding: deflate, chunked\r\n\r\n5\r\nWorld\r\n0\r\n\r\n",
        None,
    ),
    (
        "the same in two lines",
        "Transfer-Encoding: deflate\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nWorld\r\n0\r\n\r\n",
        None,
    ),
    ("chunkedchunked", "Transfer-Encoding: chunkedchunked\r\n\r\n5\r\nWorld\r\n0\r\n\r\n", None),
    ("no last chunk", "Transfer-Encoding: chunked\r\n\r\n3\r\nfoo\r\n\r\n", None),
    ("LF and spaces behind a size", "Transfer-Encoding: chunked\r\n\r\n3 \n  \r\nfoo\r\n0\r\n\r\n", None),
    ("a coding that is folded", "Transfer-Encoding: chunked\r\n  abc\r\n\r\n5\r\nWorld\r\n0\r\n\r\n", None),
    (
        "a size that ends in CR CR",
        "Transfer-Encoding: chunked\r\n\r\n5\r\r;ABCD\r\n34\r\nE\r\n0\r\n\r\n",
        None,
    ),
    ("no line end behind the data", "Transfer-Encoding: chunked\r\n\r\n5\r\nABCDE0\r\n\r\n", None),
    ("a space behind a size", "Transfer-Encoding: chunked\r\n\r\na \r\n0123456789\r\n0\r\n\r\n", None),
    // Connections.
    ("keep-alive", "Connection: keep-alive\r\n\r\n", Some("")),
    ("CR for the dash of keep-alive", "Connection: keep\ralive\r\n\r\n", None),
    ("close", "Connection: close\r\n\r\n", Some("")),
    ("close and a tab", "Connection: close\t\r\n\r\n", Some("")),
    ("options that nobody knows", "Connection: close, token, upgrade, token, keep-alive\r\n\r\n", None),
    ("folded options", "Connection: Something,\r\n Upgrade, ,Keep-Alive\r\n\r\n", None),
    ("a space behind the name of the options", "Connection : close\r\n\r\n", None),
    ("an upgrade", "Connection: upgrade\r\nUpgrade: ws\r\n\r\n", None),
    (
        "an upgrade with a body",
        "Connection: Upgrade\r\nUpgrade: HTTP/2.0\r\nContent-Length: 15\r\n\r\nsweet post bodyHot",
        None,
    ),
    (
        "an empty line and another request behind a body",
        "Content-Length: 4\r\n\r\nq=42\r\n\r\nGET / HTTP/1.1\r\n",
        Some("q=42"),
    ),
    (
        "the same behind close",
        "Content-Length: 4\r\nConnection: close\r\n\r\nq=42\r\n\r\nGET / HTTP/1.1\r\n",
        Some("q=42"),
    ),
    // Lines.
    ("lines parted by CR", "Foo: 1\rBar: 2\r\n\r\n", None),
    ("lines parted by LF", "x:x\nTransfer-Encoding: chunked\r\n\r\n1\r\nA\r\n0\r\n\r\n", None),
    (
        "CR and a letter behind the head",
        "Connection: close\r\n\rZGET /evil: HTTP/1.1\r\nHost: a\r\n\r\n",
        None,
    ),
    ("CR behind a colon", "x:\rTransfer-Encoding: chunked\r\n\r\n1\r\nA\r\n0\r\n\r\n", None),
    ("LF behind a colon", "x:\nTransfer-Encoding: chunked\r\n\r\n1\r\nA\r\n0\r\n\r\n", None),
    ("a name that is no token", "Fo@: Failure\r\n\r\n", None),
    ("a control in a name", "Foo\x01\test: Bar\r\n\r\n", None),
    ("no name", ": Bar\r\n\r\n", None),
    ("a name that is folded", "name\r\n : value\r\n\r\n", None),
    ("controls for the rest of a name", "Connection\r\x1b5\u{d5}eep-Alive\r\n\r\n", None),
    ("LF within a value", "Dummy: x\nContent-Length: 23\r\n\r\nGET / HTTP/1.1\r\nDummy: GET", None),
    ("a folded length", "Foo: bar\r\n Content-Length: 38\r\n\r\nGET /bye HTTP/1.1\r\n", None),
    ("values that are folded", "Line1:   abc\r\n\tdef\r\n ghi\r\nLine2: \t line2\t\r\n\r\n", None),
    ("a tab in front of a value", "Header1: Value1\r\nHeader2:\t Value2\r\n\r\n", Some("")),
    ("nothing but name and value", "aaaaaaaaaaaaa:++++++++++\r\n\r\n", Some("")),
    ("letters beyond ASCII", "Test: D\u{fc}sseldorf\r\n\r\n", Some("")),
    ("a head that does not end", "Content-Length: 3\r\n", None),
];

/// Whole.
const REQUESTS: &[Case] = &[
    ("no length", "GET /url HTTP/1.1\r\nHost: a\r\n\r\n", Some("")),
    ("HEAD", "HEAD /url HTTP/1.1\r\nHost: a\r\n\r\n", Some("")),
    ("HTTP/1.0, and another one", "PUT /url HTTP/1.0\r\n\r\nPUT /url HTTP/1.1\r\n\r\n", Some("")),
    ("HTTP/1.0 with a length", "GET /hello HTTP/1.0\r\nContent-Length: 5\r\n\r\nHELLO", Some("HELLO")),
    ("two requests", "PUT /url HTTP/1.1\r\nHost: a\r\n\r\nPUT /url HTTP/1.1\r\nHost: a\r\n\r\n", Some("")),
    ("an empty line in front", "\r\nGET /test HTTP/1.1\r\nHost: a\r\n\r\n", Some("")),
    ("ICE", "GET /music ICE/1.0\r\nHost: a\r\n\r\n", None),
    ("not quite HTTP", "GET /music IHTTP/1.0\r\nHost: a\r\n\r\n", None),
    ("RTSP", "PUT /music RTSP/1.0\r\nHost: a\r\n\r\n", None),
    ("HTTP/5.6", "GET / HTTP/5.6\r\nHost: a\r\n\r\n", None),
    ("no version", "GET /\r\n\r\n", None),
    ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None),
    ("a space in front of the first line", "GET / HTTP/1.1\r\n Host: foo\r\n\r\n", None),
    ("only LF", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n1\nA\n0\n\n", None),
    ("CR alone behind the version", "GET / HTTP/1.1\rLine: 1\r\n\r\n", None),
    (
        "quotes in a target",
        "GET /with_\"lovely\"_quotes?foo=\\\"bar\\\" HTTP/1.1\r\nHost: a\r\n\r\n",
        Some(""),
    ),
    ("two question marks", "GET /test.cgi?foo=bar?baz HTTP/1.1\r\nHost: a\r\n\r\n", Some("")),
    ("a bar in a query", "GET /test.cgi?query=| HTTP/1.1\r\nHost: a\r\n\r\n", Some("")),
    ("a host that a query ends", "GET http://a.example?hail=all HTTP/1.1\r\nHost: a.example\r\n\r\n", None),
    (
        "a host and a port without a path",
        "GET http://a.example:1234 HTTP/1.1\r\nHost: a.example:1234\r\n\r\n",
        None,
    ),
    ("a host and a path", "GET http://a.example/toto HTTP/1.1\r\nHost: a.example\r\n\r\n", Some("")),
    (
        "credentials",
        "GET http://a%12:b!&*$@a.example:1234/toto HTTP/1.1\r\nHost: a.example:1234\r\n\r\n",
        None,
    ),
    ("UTF-8 in a target", "GET /\u{3b4}/pope?q=1 HTTP/1.1\r\nHost: a\r\n\r\n", None),
    ("a fragment", "GET /forums/1?page=1#posts HTTP/1.1\r\nHost: a\r\n\r\n", None),
    ("a space in a target", "GET /foo bar/ HTTP/1.1\r\nHost: a\r\n\r\n", None),
    ("CONNECT", "CONNECT home_0.example:443 HTTP/1.0\r\nHost: a\r\n\r\n", None),
    ("a word that is no method anywhere", "MKCOLA / HTTP/1.1\r\nHost: a\r\n\r\n", Some("")), // routes name methods
];

#[test]
fn cases_that_llhttp_is_tried_with_are_taken_or_refused_as_they_should_be() {
    let lines = LINES
        .iter()
        .map(|(what, lines, taken)| (what, format!("POST /url HTTP/1.1\r\nHost: a\r\n{lines}"), taken));
    let requests = REQUESTS.iter().map(|(what, request, taken)| (what, (*request).to_owned(), taken));
    let mut wrong = Vec::new();
    for (what, request, taken) in lines.chain(requests) {
        let found = ours(request.as_bytes()).map(|(message, _)| message.body);
        if found.as_deref() != taken.map(str::as_bytes) {
            wrong.push(format!("{what}: {found:?}"));
        }
        head(request.as_bytes()); // what is taken, others read alike
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
