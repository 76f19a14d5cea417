//! Which headers reach the application: those with plain names, those that the route's scheme
//! reads, and what only a proxy has to say if the proxy is trusted.

use crate::support::{self, Answer, App, Gate, Request, Signer};

#[test]
fn a_header_with_an_odd_name_ends_at_the_gate() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    let odd = [
        "X_Custom",
        "X.Custom",
        "X~Custom",
        "Hookgate.Verdict",
        "Hookgate~Assurance",
        "Transfer.Encoding",
        "Content.Length",
        "SCRIPT_NAME",
        "X-Hub-Signature.256",
    ];
    let event = odd.iter().fold(Signer::github().event(), |event, name| event.with(name, "odd"));
    assert_eq!(gate.send(&event.with("X-Custom-1", "plain")).status, 200);
    let seen = app.only_request();
    assert_eq!(seen.header("X-Custom-1"), Some("plain"));
    let passed: Vec<_> = seen.headers.0.iter().filter(|(_, value)| value == "odd").collect();
    assert!(passed.is_empty(), "{passed:?}");
}

/// A scheme that reads headers with odd names, and one with the name of a proxy's.
const ODD: &str = "
routes:
  - name: odd
    path: /webhooks
    secrets: [{ id: key, file: DIR/key-1 }]
    scheme:
      algorithm: hmac-sha256
      signature: { from: \"header:X_Signature\", encoding: hex }
      content: \"{header:X.Nonce}\\n{header:Client-IP}\\n{body}\"
      id: [\"header:X.Nonce\"]
";

#[test]
fn a_header_that_the_scheme_reads_reaches_the_application_whatever_its_name() {
    let app = App::ok();
    let gate = Gate::before(&app).config(ODD).start();
    let event = Request {
        target: "/webhooks".to_owned(),
        headers: support::Headers::default(),
        body: b"{}".to_vec(),
    };
    let event = event
        .with("X-Signature", "alike")
        .with("X-Nonce", "alike")
        .with("X_Nonce", "alike")
        .with("X_SIGNATURE", &Signer::github().tag("n1\n192.0.2.1\n{}"))
        .with("X.Nonce", "n1")
        .with("Client-IP", "192.0.2.1")
        .with("Client_IP", "alike")
        .with("X_Other", "alike");
    assert_eq!(gate.send(&event).status, 200);
    let seen = app.only_request();
    assert_eq!(seen.header("X_Signature"), event.headers.get("X_Signature"));
    assert_eq!(seen.header("X.Nonce"), Some("n1"));
    assert_eq!(seen.header("Client-IP"), Some("192.0.2.1"));
    assert!(!seen.headers.0.iter().any(|(_, value)| value == "alike"), "{:?}", seen.headers);
}

#[test]
fn what_a_proxy_says_is_believed_of_a_trusted_one_only() {
    let says = [
        "X-Forwarded-User",
        "X-Forwarded-Client-Cert",
        "X-Forwarded-Uri",
        "X-Forwarded-Ssl",
        "X-Client-IP",
        "Client-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
        "Fastly-Client-IP",
        "X-Cluster-Client-IP",
        "X-Original-Host",
        "X-Scheme",
        "Front-End-Https",
        "Remote-User",
        "X-Remote-User",
        "SSL-Client-Verify",
    ];
    // These would make another request of it, whoever says them.
    let overrides =
        ["X-Original-Method", "X-Original-URL", "X-HTTP-Method-Override", "X-Rewrite-URL", "Proxy"];
    let event = || {
        let event = Signer::github().event().with("X-Plain", "said");
        says.iter().chain(&overrides).fold(event, |event, name| event.with(name, "said"))
    };
    let app = App::ok();
    for (trusted, passing) in [("127.0.0.1/32", says.len() + 1), ("192.0.2.1/32", 1)] {
        let gate = Gate::before(&app).with("trusted-proxy", trusted).start();
        assert_eq!(gate.send(&event()).status, 200);
        let seen = app.requests().pop().unwrap();
        let said: Vec<_> = seen.headers.0.iter().filter(|(_, value)| value == "said").collect();
        assert_eq!(said.len(), passing, "{trusted} is trusted: {said:?}");
        for name in overrides {
            assert_eq!(seen.header(name), None, "{name}");
        }
    }
}

#[test]
fn a_request_without_a_host_gets_the_applications() {
    for app in [App::ok(), App::on_unix_socket(|_, _| Answer::ok())] {
        let gate = Gate::before(&app).start();
        let event = Signer::github().event();
        let head = event.head(&format!("Content-Length: {}\r\n", event.body.len()));
        let head = head.replacen("HTTP/1.1\r\nHost: hooks.example", "HTTP/1.0", 1);
        let mut sender = gate.connect();
        sender.send([head.as_bytes(), &event.body].concat());
        assert_eq!(sender.response().status, 200);
        let seen = app.only_request();
        assert!(seen.line.ends_with(" HTTP/1.1"), "{}", seen.line);
        let url = app.url();
        let authority = url.strip_prefix("http://").unwrap_or("localhost");
        assert_eq!(seen.header("Host"), Some(authority));
        assert_eq!(seen.header("X-Forwarded-Host"), None, "nobody named one");
    }
}

/// Three routes of which each is below the next.
const NESTED: &str = "
routes:
  - { name: exact, path: /hooks/gh/caf%C3%A9, provider: github, secrets: [{ file: DIR/key-1 }] }
  - { name: inner, path: /hooks/gh/*, provider: github, secrets: [{ file: DIR/key-1 }] }
  - { name: outer, path: /hooks/*, provider: github, secrets: [{ file: DIR/key-1 }] }
";

#[test]
fn no_escape_below_a_prefix_spells_the_path_of_another_route() {
    let app = App::ok();
    let gate = Gate::before(&app).config(NESTED).start();
    for (path, route) in [
        ("/hooks/gh/caf%C3%A9", Some("exact")),
        ("/hooks/gh/caf%c3%a9", None),
        ("/hooks/gh/%63af%C3%A9", None),
        ("/hooks/gh/caf%C3%A8", Some("inner")),
        ("/hooks/gh/%78", Some("inner")),
        ("/hooks/g%68/x", None),
        ("/hooks/g%69/x", Some("outer")),
    ] {
        let answer = gate.send(&Signer::github().event().to(path));
        assert_eq!(answer.status, if route.is_some() { 200 } else { 404 }, "{path}");
        assert_eq!(gate.decision(&answer)["hookgate.route"].as_str(), route, "{path}");
    }
}
