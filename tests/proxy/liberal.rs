//! What the gate takes although a stricter one would not, because nothing can be read in two ways:
//! real clients, proxies and applications do all of it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use crate::support::{Answer, App, Gate, Request, Signer};

const DELIVERED: u16 = 200;

/// A genuine event under another head.
fn text(change: impl FnOnce(String) -> String) -> String {
    change(String::from_utf8(Signer::github().event().bytes()).unwrap())
}

fn with(line: &'static str) -> impl FnOnce(String) -> String {
    move |text| text.replacen("Host:", &format!("{line}\r\nHost:"), 1)
}

fn old(text: &str) -> String {
    text.replacen("HTTP/1.1", "HTTP/1.0", 1)
}

fn without_host(text: &str) -> String {
    let (before, rest) = text.split_once("Host: ").unwrap();
    before.to_owned() + rest.split_once("\r\n").unwrap().1
}

#[test]
fn offers_expectations_and_forms_that_mean_nothing_are_passed_over() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    for (what, request) in [
        ("nginx with the lines for WebSocket", text(with("Connection: upgrade"))),
        (
            "Java's client, and curl --http2",
            text(with(
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB",
            )),
        ),
        ("LWP", text(with("Connection: TE, close\r\nTE: deflate,gzip;q=0.3"))),
        ("an empty Upgrade", text(with("Connection: upgrade\r\nUpgrade:"))),
        ("an empty Expect", text(with("Expect:"))),
        ("HTTP/1.0 with an Expect", text(|text| with("Expect: 100-continue")(old(&text)))),
        ("HTTP/1.0 without Host", text(|text| without_host(&old(&text)))),
        ("an empty line in front", text(|text| format!("\r\n{text}"))),
        (
            "a target with its host",
            text(|text| text.replacen(" /webhooks", " http://hooks.example/webhooks", 1)),
        ),
    ] {
        let seen = app.seen();
        let mut sender = gate.connect();
        sender.send(&request);
        assert_eq!(sender.response().status, DELIVERED, "{what}: {request}");
        let received = app.requests().swap_remove(seen);
        assert_eq!(received.line, "POST /webhooks HTTP/1.1", "{what}");
        assert!(received.header("Host").is_some(), "{what}: HTTP/1.1 has a Host");
        for name in ["Connection", "Upgrade", "HTTP2-Settings", "TE", "Expect"] {
            assert_eq!(received.header(name), None, "{what}: {name} is for the gate");
        }
    }
}

#[test]
fn an_empty_line_behind_a_body_is_no_request_and_what_else_comes_there_ends_the_connection() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    let mut sender = gate.connect();
    for _ in 0..3 {
        sender.send([&Signer::github().event().bytes()[..], b"\r\n"].concat());
        let answer = sender.response();
        assert_eq!((answer.status, answer.header("Connection")), (DELIVERED, Some("keep-alive")));
    }
    let two = [Signer::github().event().bytes(), Signer::github().event().bytes()].concat();
    sender.send(two);
    let answer = sender.response();
    assert_eq!((answer.status, answer.header("Connection")), (DELIVERED, Some("close")), "it says so");
    assert_eq!(sender.rest(), b"", "and does so");
    assert_eq!(app.seen(), 4);
}

#[test]
fn a_head_may_come_in_drops() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    let mut sender = gate.connect();
    for byte in Signer::github().sign("{}").bytes() {
        sender.send([byte]);
    }
    assert_eq!(sender.response().status, DELIVERED);
}

#[test]
fn what_is_refused_as_a_head_is_logged_with_method_and_path() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    let mut sender = gate.connect();
    sender.send("PUT /webhooks?secret=1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    let line = gate.decision(&sender.response());
    assert_eq!(line["hookgate.reason"], "framing_invalid");
    assert_eq!((&line["http.request.method"], &line["url.path"]), (&"PUT".into(), &"/webhooks".into()));
}

// The application

#[test]
fn any_number_of_interim_answers_is_borne() {
    let interim = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(40);
    let app = App::always(Answer::raw(interim + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    let gate = Gate::before(&app).start();
    assert_eq!(gate.send(&Signer::github().event()).said(), (DELIVERED, "ok".to_owned()));
}

#[test]
fn a_space_before_the_colon_of_an_answer_is_removed() {
    let app =
        App::always(Answer::raw("HTTP/1.1 200 OK\r\nX-Powered-By \t: a\r\nContent-Length : 2\r\n\r\nok"));
    let gate = Gate::before(&app).start();
    let answer = gate.send(&Signer::github().event());
    assert_eq!((answer.status, answer.header("X-Powered-By")), (DELIVERED, Some("a")));
}

/// More than any socket holds, so that writing it ends only if somebody reads.
fn large() -> Request {
    let name = crate::support::sender::unique("large");
    Signer::github().sign(name.bytes().cycle().take(900_000).collect::<Vec<_>>())
}

/// An application that does this with each connection.
fn application(serve: fn(UnixStream)) -> (String, crate::support::Dir) {
    let dir = crate::support::Dir::new();
    let path = dir.join("app");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    (format!("unix:{}", path.display()), dir)
}

fn read_head(stream: &mut UnixStream) -> Vec<u8> {
    let mut came = Vec::new();
    while !came.windows(4).any(|w| w == b"\r\n\r\n") {
        let mut piece = [0; 1000];
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0);
        came.extend_from_slice(&piece[..read]);
    }
    came.drain(..came.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4);
    came
}

#[test]
fn an_application_may_refuse_before_it_has_read_the_body() {
    let (url, _dir) = application(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\n\r\ntoo much").unwrap();
        std::thread::sleep(Duration::from_secs(60)); // it neither reads nor closes
    });
    let gate = crate::support::Builder::new(&url).start();
    for _ in 0..2 {
        assert_eq!(gate.send(&large()).said(), (413, "too much".to_owned()));
    }
}

#[test]
fn an_application_may_answer_while_it_reads() {
    let (url, _dir) = application(|mut stream| {
        let mut piece = read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\nConnection: close\r\n\r\n").unwrap();
        let mut echoed = 0;
        while echoed < 900_000 {
            stream.write_all(&piece).unwrap();
            echoed += piece.len();
            piece.resize(60_000, 0);
            let read = stream.read(&mut piece).unwrap();
            piece.truncate(read);
        }
    });
    let gate = crate::support::Builder::new(&url).start();
    for _ in 0..2 {
        let event = large();
        let answer = gate.send(&event);
        assert_eq!((answer.status, answer.body.len()), (DELIVERED, 900_000));
        assert!(answer.body == event.body, "it is the body that comes back");
    }
}

#[test]
fn the_log_tells_why_an_application_could_not_be_asked() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (upstream, kind, address) in [
        (format!("http://{free}"), "connection_refused", free.to_string()),
        ("unix:/nonexistent/app".to_owned(), "entity_not_found", "/nonexistent/app".to_owned()),
    ] {
        let gate = crate::support::Builder::new(&upstream).with("upstream-connect-timeout", "100ms").start();
        let line = gate.decision(&gate.send(&Signer::github().event()));
        assert_eq!((&line["error.type"], &line["server.address"]), (&kind.into(), &address.into()));
        assert!(line["error.message"].as_str().unwrap().contains("os error"), "{line}");
    }
    let app = App::script([Answer::raw("SSH-2.0\r\n\r\n")]);
    let gate = Gate::before(&app).start();
    let line = gate.decision(&gate.send(&Signer::github().event()));
    assert_eq!(line["error.type"], "answer_broken");
}

#[test]
fn each_address_of_a_name_is_tried() {
    // `localhost` has an IPv6 address first on many machines; nobody listens there.
    let app = App::ok();
    let port = app.url().rsplit(':').next().unwrap().to_owned();
    let gate = crate::support::Builder::new(&format!("http://localhost:{port}")).start();
    assert_eq!(gate.send(&Signer::github().event()).status, DELIVERED);
}
