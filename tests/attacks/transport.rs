//! Section 2.5: who sends, over what, and who says so.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use super::fixture::*;
use crate::support::gate::run;
use crate::support::{App, Gate, Request, Sender, Signer};
use crate::tls::{self, Authority};

/// The loopback addresses that senders here connect from. The first is trusted.
const PROXY: &str = "127.0.0.1";
const STRANGER: &str = "127.0.0.2";
/// In the documentation's networks (RFC 5737).
const ALLOWED: &str = "203.0.113.7";
const OTHER: &str = "198.51.100.9";

const TRUSTING: &str = "
trusted_proxies: [127.0.0.1/32, 10.0.0.0/8]
routes:
  - { name: gh, path: /hooks/gh, provider: github, allow_ips: [203.0.113.0/24], secrets: [{ file: DIR/github }] }
  - { name: st, path: /hooks/st, provider: stripe, secrets: [{ file: DIR/stripe }] }
";

static GATE: Shared = Shared::new(|| Fixture::configured(TRUSTING, |builder| builder));

/// An event that names its sender in these lines.
fn forwarded(lines: &[&str]) -> Request {
    lines.iter().fold(github().event(), |event, line| event.with("X-Forwarded-For", line))
}

/// The gate hangs up without a word, and nobody sees anything.
fn dropped(fixture: &Fixture, what: &str, mut sender: Sender, bytes: impl AsRef<[u8]>) {
    let seen = fixture.app.seen();
    sender.send(bytes);
    assert!(sender.rest().is_empty(), "{what}: it was answered");
    assert_eq!(fixture.app.seen(), seen, "{what}");
}

#[test]
fn a97_who_is_not_trusted_speaks_for_nobody() {
    let gate = GATE.enter();
    let event = forwarded(&[ALLOWED]);
    for header in ["X-Forwarded-For", "X-Real-IP", "Forwarded", "True-Client-IP", "CF-Connecting-IP"] {
        let attack = github().event().with(header, ALLOWED);
        gate.expect_from(STRANGER, header, attack.bytes(), DENIED);
    }
    gate.expect_from(STRANGER, "the event itself", event.bytes(), DENIED);
    gate.expect_from(PROXY, "through the proxy", event.bytes(), DELIVERED);
}

#[test]
fn a98_the_list_is_counted_from_the_right() {
    let gate = GATE.enter();
    for line in ["203.0.113.7, 198.51.100.9", "203.0.113.7,198.51.100.9, 10.0.0.5", "10.0.0.5, 198.51.100.9"]
    {
        gate.expect_from(PROXY, line, forwarded(&[line]).bytes(), DENIED);
    }
    for line in ["198.51.100.9, 203.0.113.7", "198.51.100.9, 203.0.113.7, 10.0.0.5"] {
        gate.expect_from(PROXY, line, forwarded(&[line]).bytes(), DELIVERED);
    }
}

#[test]
fn a99_several_lines_are_one_list_in_their_order() {
    let gate = GATE.enter();
    gate.expect_from(PROXY, "allowed, other", forwarded(&[ALLOWED, OTHER]).bytes(), DENIED);
    gate.expect_from(PROXY, "three lines", forwarded(&[ALLOWED, OTHER, "10.0.0.5"]).bytes(), DENIED);
    gate.expect_from(PROXY, "other, allowed", forwarded(&[OTHER, ALLOWED]).bytes(), DELIVERED);
}

#[test]
fn a100_what_is_no_address_names_nobody() {
    let gate = GATE.enter();
    let endless = vec!["10.0.0.5"; 1000].join(",");
    for line in [
        "unknown",
        "_hidden",
        "203.0.113.7:",
        "203.0.113.7:http",
        "203.0.113.7:4711:4711",
        "[2001:db8::1]:4711",
        "[203.0.113.7]",
        "[203.0.113.7]:4711",
        "fe80::1%eth0",
        "203.0.113",
        "203.0.113.007",
        "203.0.113.7;",
        "\"203.0.113.7\"",
        "",
        ",",
        "203.0.113.7, 198.51.100.9:4711,",
        "203.0.113.7:4711, , 198.51.100.9",
        &endless,
        "10.0.0.5",
    ] {
        gate.expect_from(PROXY, line, forwarded(&[line]).bytes(), DENIED);
    }
    gate.expect_from(PROXY, "no list at all", github().event().bytes(), DENIED);
    for line in ["unknown, 203.0.113.7", "203.0.113.7:4711", "203.0.113.7,", "203.0.113.7, , 10.0.0.5:80,"] {
        gate.expect_from(PROXY, line, forwarded(&[line]).bytes(), DELIVERED);
    }
}

#[test]
fn a101_ipv4_in_the_form_of_ipv6_is_ipv4() {
    let gate = GATE.enter();
    gate.expect_from(PROXY, "allowed", forwarded(&["::ffff:203.0.113.7"]).bytes(), DELIVERED);
    gate.expect_from(PROXY, "other", forwarded(&["::ffff:198.51.100.9"]).bytes(), DENIED);
    // A socket for both families shows IPv4 peers in that form.
    let routes = TRUSTING.replace("203.0.113.0/24", "127.0.0.2/32");
    let fixture = Fixture::configured(&routes, |builder| builder.with("listen", "[::]:0"));
    let plain = SocketAddr::from((Ipv4Addr::LOCALHOST, fixture.gate.address().port()));
    let send = |peer| Sender::connect_from(peer, plain).exchange(&github().event()).status;
    assert_eq!((send("127.0.0.2"), send("127.0.0.3")), (200, 403));
    assert_eq!(fixture.app.seen(), 1);
}

#[test]
fn a102_a_rule_that_is_no_network_is_no_start() {
    for rule in [
        "10.0.0.0/33",
        "10.0.0.1/8",
        "010.0.0.1",
        "10.1",
        "10.0.0.0/-1",
        "2001:db8::/129",
        "*",
        "localhost",
        "",
    ] {
        let routes = TRUSTING.replace("203.0.113.0/24", &format!("\"{rule}\""));
        let run = run(&mut builder("http://127.0.0.1:1", &routes).command("check"));
        assert_eq!(run.code, Some(78), "{rule}: {}", run.err);
        assert!(run.err.contains("hookgate.yaml:4:"), "{rule}: {}", run.err);
    }
    let nobody = TRUSTING.replace("203.0.113.0/24", "");
    let fixture = Fixture::configured(&nobody, |builder| builder);
    fixture.expect("an empty list", forwarded(&[ALLOWED]).bytes(), DENIED);
}

/// Version 2 of the PROXY protocol: version and command, family, the length that it claims, addresses.
fn proxy_v2(command: u8, family: u8, claimed: u16, addresses: &[u8]) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &claimed.to_be_bytes(), addresses].concat()
}

/// From 203.0.113.7, port 4711, to 10.0.0.1, port 443.
const V2_ADDRESSES: [u8; 12] = [203, 0, 113, 7, 10, 0, 0, 1, 0x12, 0x67, 1, 0xbb];
const V1: &[u8] = b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n";

#[test]
fn a104_a_preamble_is_believed_from_the_proxy_and_whole_or_not_at_all() {
    let routes = TRUSTING.replace(", 10.0.0.0/8", "");
    let fixture = Fixture::configured(&routes, |builder| builder.with("proxy-protocol", "required"));
    let connect = |peer| Sender::connect_from(peer, fixture.gate.address());
    let event = || github().event().bytes();
    dropped(&fixture, "from a stranger", connect(STRANGER), [V1, &event()].concat());
    for (what, preamble) in [
        ("none", vec![]),
        ("half a line", b"PROXY TCP4 203.0.113.7 10.0".to_vec()),
        ("no addresses", b"PROXY TCP4 all your base 1 2\r\n".to_vec()),
        ("a line without end", [b"PROXY TCP4 ".to_vec(), vec![b'1'; 5000]].concat()),
        ("a length that lies", proxy_v2(0x21, 0x11, 0xffff, &V2_ADDRESSES)),
        ("a length that is too short", proxy_v2(0x21, 0x11, 4, &V2_ADDRESSES)),
        ("another version", proxy_v2(0x31, 0x11, 12, &V2_ADDRESSES)),
    ] {
        dropped(&fixture, what, connect(PROXY), [preamble, event()].concat());
    }
    for preamble in [V1.to_vec(), proxy_v2(0x21, 0x11, 12, &V2_ADDRESSES)] {
        let mut sender = connect(PROXY);
        sender.send(&preamble);
        fixture.expect_on(&mut sender, "whole", event(), DELIVERED);
    }
    // The balancer speaks for itself, and its own address is not on the list.
    let mut sender = connect(PROXY);
    sender.send(proxy_v2(0x20, 0, 0, &[]));
    fixture.expect_on(&mut sender, "LOCAL", event(), DENIED);
}

#[test]
fn a105_plain_http_is_refused_and_only_a_trusted_proxy_says_https() {
    let fixture = Fixture::configured(TRUSTING, |builder| builder.without("insecure-allow-http"));
    let event = stripe().event();
    let said = |proto: &str| event.clone().with("X-Forwarded-Proto", proto).bytes();
    for (peer, bytes) in [
        (PROXY, event.bytes()),
        (PROXY, said("http")),
        (PROXY, said("https, http")),
        (PROXY, said("http, https, http")),
        (PROXY, event.clone().with("Forwarded", "for=203.0.113.7;proto=https").bytes()),
        (STRANGER, said("https")),
    ] {
        let answer = fixture.expect_from(peer, "plain HTTP", bytes, INSECURE);
        assert_eq!(answer.header("Location"), None, "never a redirect");
    }
    fixture.expect_from(PROXY, "HTTPS", said("https"), DELIVERED);
}

#[test]
fn a106_only_the_gate_speaks_for_the_gate() {
    let gate = GATE.enter();
    let forged = [
        "Hookgate-Verdict",
        "hookgate-verdict",
        "HOOKGATE_VERDICT",
        "Hookgate_Key_Id",
        "Hookgate-Event-Id",
        "Hookgate-Idempotency-Key",
        "Hookgate-Anything",
    ];
    let event = forged.iter().fold(stripe().event(), |event, name| event.with(name, "forged"));
    let seen = gate.delivers("forged headers", &event.with("X-Webhook-Verified", "true"));
    assert!(!seen.headers.0.iter().any(|(_, value)| value == "forged"), "{:?}", seen.headers);
    assert_eq!(seen.headers.all("Hookgate-Verdict"), ["accepted"]);
    assert_eq!(seen.headers.all("Hookgate-Key-Id"), ["stripe"]);
    assert_eq!(seen.header("X-Webhook-Verified"), Some("true"), "a word of nobody's is nobody's business");
}

#[test]
fn a107_a_sender_cannot_name_headers_away() {
    let gate = GATE.enter();
    let event = stripe().event();
    for named in ["Hookgate-Verdict", "close, Stripe-Signature", "keep-alive, x", "Host", "X-Our-Verified"] {
        gate.expect(named, event.clone().with("Connection", named).bytes(), FRAMING);
    }
    gate.delivers("keep-alive", &event.with("Connection", "Keep-Alive"));
}

#[test]
fn a108_what_names_another_sender_or_target_ends_at_the_gate() {
    let gate = GATE.enter();
    let names = [
        "Forwarded",
        "X-Real-IP",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Prefix",
        "X-Forwarded-Port",
        "X-Forwarded-Server",
        "x_real_ip",
        "X_Forwarded_Host",
    ];
    let event = names.iter().fold(stripe().event(), |event, name| event.with(name, "forged"));
    let forged = event
        .with("X-Forwarded-For", ALLOWED)
        .with("X-Forwarded-Host", "forged")
        .with("X-Forwarded-Proto", "https");
    gate.expect_from(STRANGER, "from a stranger", forged.bytes(), DELIVERED);
    let seen = gate.app.requests().pop().unwrap();
    assert!(!seen.headers.0.iter().any(|(_, value)| value == "forged"), "{:?}", seen.headers);
    for (name, ours) in
        [("X-Forwarded-For", STRANGER), ("X-Forwarded-Host", "hooks.example"), ("X-Forwarded-Proto", "http")]
    {
        assert_eq!(seen.headers.all(name), [ours], "{name}");
    }
}

#[test]
fn a109_a_client_certificate_is_demanded_where_it_is_configured() {
    let (Some(authority), Some(other)) = (Authority::new(), Authority::new()) else { return };
    let app = App::ok();
    let gate = tls::gate(&app, &authority.issue("gate", 30))
        .with("tls-client-ca-file", authority.root().display())
        .start();
    let strange = other.issue("partner", 30);
    let expired = authority.issue("expired", -1);
    for (what, own) in [("none", None), ("another authority's", Some(&strange)), ("expired", Some(&expired))]
    {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            // Under TLS 1.3 a client learns only after its handshake that it was refused.
            let refused =
                tls::connect(&gate, authority.client(&[version], own)).and_then(|(mut sender, _)| {
                    sender.send(Signer::github().event().bytes());
                    sender.try_response()
                });
            assert!(refused.is_err(), "{what}, {version:?}: {refused:?}");
        }
    }
    app.assert_untouched("no good certificate");
    let good = authority.issue("partner", 30);
    let (mut sender, _) = tls::connect(&gate, authority.client(rustls::ALL_VERSIONS, Some(&good))).unwrap();
    assert_eq!(sender.exchange(&Signer::github().event()).status, 200);
}

/// A `ClientHello` (RFC 5246, section 7.4.1.2) of that version with these cipher suites.
fn hello(version: u16, suites: &[u16]) -> Vec<u8> {
    let suites: Vec<u8> = suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
    let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
    let body = [&version.to_be_bytes()[..], &[7; 32], &[0], &length(&suites), &suites, &[1, 0]].concat();
    let message = [&[1, 0][..], &length(&body), &body].concat();
    [&[0x16, 3, 1][..], &length(&message), &message].concat()
}

/// What a scanner such as testssl finds beyond this is not looked for here.
#[test]
fn a110_old_versions_and_weak_ciphers_are_refused_with_an_alert() {
    let Some(authority) = Authority::new() else { return };
    let app = App::ok();
    let gate = tls::gate(&app, &authority.issue("gate", 30)).start();
    for (what, hello) in [
        ("SSL 3.0", hello(0x0300, &[0xc02b, 0x002f])),
        ("TLS 1.0", hello(0x0301, &[0xc02b, 0xc009, 0x002f])),
        ("TLS 1.1", hello(0x0302, &[0xc02b, 0xc009, 0x002f])),
        ("RC4", hello(0x0303, &[0x0004, 0x0005, 0xc007])),
        ("export and NULL", hello(0x0303, &[0x0001, 0x0002, 0x0003, 0x0008])),
        ("CBC and 3DES", hello(0x0303, &[0x000a, 0xc009, 0xc013])),
    ] {
        let mut sender = Sender::connect(gate.tls_address());
        sender.send(hello);
        let came = sender.rest();
        // A fatal alert: no protocol version or no cipher suite in common.
        let fatal = came.first() == Some(&0x15) && matches!(came.get(5..), Some([2, 40 | 70]));
        assert!(fatal, "{what}: {came:?}");
    }
    app.assert_untouched("no handshake");
}

/// The gate has one certificate and no rule about hosts, so the name that a client asks for
/// changes nothing; the catalogue's 404 would need such a rule.
#[test]
fn a111_the_name_that_a_client_asks_for_opens_nothing() {
    let Some(authority) = Authority::new() else { return };
    let app = App::ok();
    let gate = tls::gate(&app, &authority.issue("gate", 30)).start();
    for name in [&["-noservername"][..], &["-servername", "elsewhere.example"], &["-servername", tls::NAME]] {
        let event = Signer::github().event().with("Connection", "close");
        assert!(s_client(&gate, name, &event.clone().tampered()).contains("HTTP/1.1 401 "), "{name:?}");
        assert!(s_client(&gate, name, &event).contains("HTTP/1.1 200 "), "{name:?}");
    }
    assert_eq!(app.seen(), 3);
}

/// What `openssl s_client` reads after sending the request.
fn s_client(gate: &Gate, name: &[&str], request: &Request) -> String {
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-ign_eof", "-connect", &gate.tls_address().to_string()])
        .args(name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    client.stdin.take().unwrap().write_all(&request.bytes()).unwrap();
    String::from_utf8(client.wait_with_output().unwrap().stdout).unwrap()
}
