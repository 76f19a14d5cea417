//! Whom the gate believes: the other end of the socket, and beyond it only what a
//! trusted proxy says.

use crate::support::{App, Gate, Request, Response, Sender, Signer, until};

const ALLOWED: &str = "203.0.113.7";
const OTHER: &str = "198.51.100.9";
/// The loopback addresses that senders here connect from.
const PROXY: &str = "127.0.0.1";
const STRANGER: &str = "127.0.0.2";

fn send_from(peer: &str, gate: &Gate, request: &Request) -> Response {
    Sender::connect_from(peer, gate.address()).exchange(request)
}

fn forwarded(lines: &[&str]) -> Request {
    lines.iter().fold(Signer::github().event(), |event, line| event.with("X-Forwarded-For", line))
}

#[test]
fn the_forwarded_list_is_read_from_the_right() {
    let app = App::ok();
    let gate = Gate::before(&app)
        .with("allow-ip", format!("{ALLOWED}/32"))
        .and("allow-ip", "2001:db8::/32")
        .with("trusted-proxy", "127.0.0.1/32")
        .and("trusted-proxy", "10.0.0.0/8")
        .start();
    let many = vec!["10.0.0.1"; 60].join(", ");
    for (what, lines, status) in [
        ("the sender alone", &[ALLOWED][..], 200),
        ("through a second trusted proxy", &["203.0.113.7, 10.0.0.5"], 200),
        ("in several lines", &[OTHER, ALLOWED, "10.0.0.5"], 200),
        ("what the sender wrote itself stands further left", &["garbage, 203.0.113.7"], 200),
        ("IPv4 in the form of IPv6", &["::ffff:203.0.113.7"], 200),
        ("spaces", &["  203.0.113.7  "], 200),
        ("nobody", &[], 403),
        ("another", &[OTHER], 403),
        ("spoofed on the left", &["203.0.113.7, 198.51.100.9"], 403),
        ("spoofed in an earlier line", &[ALLOWED, OTHER], 403),
        ("spoofed behind a trusted proxy", &["203.0.113.7, 198.51.100.9, 10.0.0.5"], 403),
        ("with a port", &["203.0.113.7:1234"], 200),
        ("IPv6 with a port", &["198.51.100.9, [2001:db8::7]:1234, [::ffff:10.0.0.5]:80"], 200),
        ("IPv6 in brackets", &["[2001:db8::7]"], 200),
        ("an empty element", &["203.0.113.7,"], 200),
        ("empty elements", &[" , 203.0.113.7, , 10.0.0.3"], 200),
        ("an empty line", &[ALLOWED, ""], 200),
        ("no address", &["unknown"], 403),
        ("spoofed with a port", &["203.0.113.7:1234, 198.51.100.9:1234"], 403),
        ("spoofed in front of an empty element", &["203.0.113.7, , 198.51.100.9,"], 403),
        ("brackets that do not close", &["[2001:db8::7"], 403),
        ("nothing but proxies", &["10.0.0.1"], 403),
        ("more hops than there are", &[&many], 403),
    ] {
        let before = app.seen();
        let answer = send_from(PROXY, &gate, &forwarded(lines));
        assert_eq!(answer.status, status, "{what}");
        assert_eq!(app.seen() - before, usize::from(status == 200), "{what}");
        if status == 403 {
            assert_eq!(answer.text(), "Forbidden", "{what}");
            assert_eq!(gate.reason(&answer), "address_denied", "{what}");
        }
    }
}

#[test]
fn nobody_else_can_speak_for_a_sender() {
    let app = App::ok();
    let gate = Gate::before(&app)
        .with("allow-ip", format!("{ALLOWED}/32"))
        .with("trusted-proxy", "127.0.0.1/32")
        .start();
    let answer = send_from(STRANGER, &gate, &forwarded(&[ALLOWED]));
    assert_eq!(answer.status, 403);
    let line = gate.decision(&answer);
    assert_eq!(
        (&line["client.address"], &line["network.peer.address"]),
        (&STRANGER.into(), &STRANGER.into())
    );
    for header in ["X-Real-IP", "Forwarded", "X_Forwarded_For", "True-Client-IP", "CF-Connecting-IP"] {
        let answer = send_from(PROXY, &gate, &Signer::github().event().with(header, ALLOWED));
        assert_eq!(answer.status, 403, "{header}");
    }
    app.assert_untouched("spoofed");
    let answer = send_from(PROXY, &gate, &forwarded(&[ALLOWED]));
    assert_eq!(answer.status, 200);
    assert_eq!(gate.decision(&answer)["client.address"], ALLOWED);
}

#[test]
fn without_trusted_proxies_the_socket_alone_counts() {
    let app = App::ok();
    let gate = Gate::before(&app).with("allow-ip", "127.0.0.2/32").start();
    assert_eq!(send_from(PROXY, &gate, &forwarded(&["127.0.0.2"])).status, 403);
    assert_eq!(send_from(STRANGER, &gate, &forwarded(&[OTHER])).status, 200);
    assert_eq!(app.only_request().header("X-Forwarded-For"), Some(STRANGER), "what it claimed is dropped");
}

#[test]
fn only_a_trusted_proxy_can_say_https() {
    let app = App::ok();
    let gate =
        Gate::before(&app).without("insecure-allow-http").with("trusted-proxy", "127.0.0.1/32").start();
    for (peer, said, status) in [
        (PROXY, Some("https"), 200),
        (PROXY, Some("HTTPS"), 200),
        (PROXY, Some("https, https"), 200),
        (PROXY, Some("http, https"), 200),
        (PROXY, Some("http"), 403),
        (PROXY, Some("https, http"), 403),
        (PROXY, Some(""), 403),
        (PROXY, None, 403),
        (STRANGER, Some("https"), 403),
    ] {
        let event = forwarded(&[ALLOWED]);
        let event = said.map_or(event.clone(), |said| event.with("X-Forwarded-Proto", said));
        let before = app.seen();
        let answer = send_from(peer, &gate, &event);
        assert_eq!(answer.status, status, "{peer} says {said:?}");
        assert_eq!(app.seen() - before, usize::from(status == 200), "{peer} says {said:?}");
        if status == 403 {
            assert_eq!(gate.reason(&answer), "https_required");
        }
    }
    for request in app.requests() {
        assert_eq!(request.header("X-Forwarded-Proto"), Some("https"));
    }
}

/// TLS ends at the first of two proxies, and both write down how they were spoken to.
#[test]
fn the_scheme_is_what_the_proxy_says_that_saw_the_sender() {
    let app = App::ok();
    let gate = Gate::before(&app)
        .without("insecure-allow-http")
        .with("trusted-proxy", "127.0.0.1/32")
        .and("trusted-proxy", "10.0.0.0/8")
        .start();
    for (list, said, status) in [
        ("203.0.113.7, 10.0.0.5", "https, http", 200),
        ("203.0.113.7, 10.0.0.5", "http, https", 403),
        ("203.0.113.7, 10.0.0.5", "https, http, https", 403),
        ("10.0.0.5, 203.0.113.7", "https, http", 403),
    ] {
        let event = forwarded(&[list]).with("X-Forwarded-Proto", said);
        assert_eq!(send_from(PROXY, &gate, &event).status, status, "{list}: {said}");
        assert_eq!(send_from(STRANGER, &gate, &event).status, 403, "{list}: {said}");
    }
}

#[test]
fn forwarded_is_read_where_it_is_asked_for_and_nothing_else_then() {
    let app = App::ok();
    let gate = Gate::before(&app)
        .without("insecure-allow-http")
        .with("allow-ip", format!("{ALLOWED}/32"))
        .with("trusted-proxy", "127.0.0.1/32")
        .and("trusted-proxy", "10.0.0.0/8")
        .with("real-ip-header", "forwarded")
        .start();
    for (line, reason) in [
        ("for=203.0.113.7;proto=https", None),
        ("for=198.51.100.9;proto=http, For=\"203.0.113.7:51008\";Proto=HTTPS;by=_gate", None),
        ("for=203.0.113.7;proto=https;host=\"a, b\", for=\"10.0.0.5:_x\";proto=http,", None),
        ("for=203.0.113.7;proto=http", Some("https_required")),
        ("for=203.0.113.7", Some("https_required")),
        ("for=203.0.113.7;proto=http, for=10.0.0.5;proto=https", Some("https_required")),
        ("for=203.0.113.7;proto=https, for=198.51.100.9;proto=https", Some("address_denied")),
        ("for=203.0.113.7;proto=https, for=unknown;proto=https", Some("address_denied")),
        ("for=203.0.113.7;proto=https, for=_hidden;proto=https", Some("address_denied")),
        ("for=203.0.113.7;proto=https, proto=https", Some("address_denied")),
        ("for=\"203.0.113.7\";proto=https;x=\", for=198.51.100.9", Some("https_required")),
    ] {
        let before = app.seen();
        let answer = send_from(PROXY, &gate, &Signer::github().event().with("Forwarded", line));
        assert_eq!(answer.status, if reason.is_some() { 403 } else { 200 }, "{line}");
        match reason {
            Some(reason) => assert_eq!(gate.reason(&answer), reason, "{line}"),
            None => assert_eq!(gate.decision(&answer)["client.address"], ALLOWED, "{line}"),
        }
        assert_eq!(app.seen() - before, usize::from(reason.is_none()), "{line}");
    }
    for request in app.requests() {
        assert_eq!(request.header("X-Forwarded-For"), Some("203.0.113.7, 127.0.0.1"));
        assert_eq!(request.header("Forwarded"), None);
    }
    // What a proxy does not set, it passes on from the sender.
    let event = forwarded(&[ALLOWED]).with("X-Forwarded-Proto", "https");
    assert_eq!(gate.reason(&send_from(PROXY, &gate, &event)), "https_required");
    let event = event.with("Forwarded", "for=198.51.100.9;proto=https");
    assert_eq!(gate.reason(&send_from(PROXY, &gate, &event)), "address_denied");
    let event = Signer::github().event().with("Forwarded", "for=203.0.113.7;proto=https");
    assert_eq!(send_from(STRANGER, &gate, &event).status, 403);
}

/// TLS ends at a balancer that names the sender before the first byte, and the scheme in a header.
#[test]
fn a_balancer_that_ends_tls_may_speak_the_proxy_protocol_as_well() {
    let app = App::ok();
    let before = |from: &str| {
        let gate = Gate::before(&app)
            .without("insecure-allow-http")
            .with("allow-ip", format!("{ALLOWED}/32"))
            .with("proxy-protocol", "required")
            .with("trusted-proxy", "127.0.0.3/32");
        gate.and(from, "127.0.0.1/32").start()
    };
    let send = |gate: &Gate, line: &str, request: &Request| {
        let mut sender = Sender::connect_from(PROXY, gate.address());
        sender.send(line);
        sender.exchange(request)
    };
    let (named, other) =
        ("PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n", "PROXY TCP4 198.51.100.9 10.0.0.1 4711 443\r\n");
    let event = || Signer::github().event();
    let https = || event().with("X-Forwarded-Proto", "https");

    let gate = before("trusted-proxy");
    assert_eq!(send(&gate, named, &https()).status, 200);
    assert_eq!(app.requests().last().unwrap().header("X-Forwarded-Proto"), Some("https"));
    assert_eq!(send(&gate, named, &event().with("X-Forwarded-Proto", "http, https")).status, 200);
    for (what, line, request, reason) in [
        ("nobody says HTTPS", named, event(), "https_required"),
        ("the balancer says HTTP", named, event().with("X-Forwarded-Proto", "https, http"), "https_required"),
        ("a list names nobody here", other, https().with("X-Forwarded-For", ALLOWED), "address_denied"),
    ] {
        let answer = send(&gate, line, &request);
        assert_eq!((answer.status, gate.reason(&answer).as_str()), (403, reason), "{what}");
    }

    // A balancer that passes bytes on has said nothing of what is in them.
    let gate = before("proxy-protocol-from");
    assert_eq!(gate.reason(&send(&gate, named, &https())), "https_required");
    let behind = "PROXY TCP4 127.0.0.3 10.0.0.1 4711 443\r\n";
    assert_eq!(send(&gate, behind, &https().with("X-Forwarded-For", ALLOWED)).status, 200);
}

#[test]
fn the_application_learns_the_chain_that_was_believed() {
    let app = App::ok();
    let gate = Gate::before(&app).with("trusted-proxy", "127.0.0.1/32").start();
    let event = forwarded(&["203.0.113.7, 198.51.100.9"]).with("X-Forwarded-Host", "hooks.public.example");
    assert_eq!(send_from(PROXY, &gate, &event).status, 200);
    let seen = app.only_request();
    assert_eq!(seen.header("X-Forwarded-For"), Some("203.0.113.7, 198.51.100.9, 127.0.0.1"));
    assert_eq!(seen.header("X-Forwarded-Host"), Some("hooks.public.example"));
}

#[test]
fn the_rate_is_counted_for_the_sender_not_for_the_proxy() {
    let app = App::ok();
    let gate = Gate::before(&app).with("rate-limit", "2/1h").with("trusted-proxy", "127.0.0.1/32").start();
    for (client, status) in
        [(ALLOWED, 200), (ALLOWED, 200), (ALLOWED, 429), (OTHER, 200), (OTHER, 200), (OTHER, 429)]
    {
        assert_eq!(send_from(PROXY, &gate, &forwarded(&[client])).status, status, "{client}");
    }
    // What a sender writes on the left buys it nothing.
    assert_eq!(send_from(PROXY, &gate, &forwarded(&["192.0.2.55, 198.51.100.9"])).status, 429);
}

#[test]
fn a_file_of_addresses_adds_to_the_list_and_is_read_again() {
    let app = App::ok();
    let list = "# published today\n127.0.0.2/32 # the first\n\n192.0.2.0/24\n";
    let gate = Gate::before(&app)
        .with("allow-ip", "127.0.0.3/32")
        .with_file("allow-ip-file", "addresses", list)
        .start();
    let status = |peer: &str| send_from(peer, &gate, &Signer::github().event()).status;
    assert_eq!(["127.0.0.2", "127.0.0.3", "127.0.0.4"].map(status), [200, 200, 403]);
    gate.dir.write("addresses", "127.0.0.4\n");
    gate.signal("HUP");
    until("the new list", || status("127.0.0.4") == 200);
    assert_eq!(["127.0.0.2", "127.0.0.3", "127.0.0.4"].map(status), [403, 200, 200]);
}

#[test]
fn an_empty_list_lets_nobody_in() {
    let app = App::ok();
    let gate = Gate::before(&app).with_file("allow-ip-file", "addresses", "# nobody yet\n").start();
    assert_eq!(gate.send(&Signer::github().event()).status, 403);
    app.assert_untouched("nobody may send");
}
