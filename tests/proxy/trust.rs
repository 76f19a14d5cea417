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
        ("with a port", &["203.0.113.7:1234"], 403),
        ("no address", &["unknown"], 403),
        ("an empty element", &["203.0.113.7,"], 403),
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
