//! Section 2.8: reloads, ends, and what is told to whom.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::fixture::*;
use crate::support::gate::{get, run, same};
use crate::support::sender::unique;
use crate::support::{Answer, App, Gate, Latch, Response, Sender, Signer, until};
use crate::tls::{self, Authority};

static GATE: Shared = Shared::new(Fixture::new);

fn reloads(gate: &Gate, result: &str) -> f64 {
    gate.metrics().sum("hookgate_reloads_total", &[("result", result)])
}

#[test]
fn a152_a_broken_secret_file_leaves_the_last_good_secret() {
    let fixture = Fixture::with(|builder| builder.with("reload-interval", "50ms"));
    let dir = &fixture.gate.dir;
    let path = dir.join("github");
    let broken: [(&str, &dyn Fn()); 4] = [
        ("empty", &|| _ = dir.write("github", "")),
        ("half written", &|| _ = dir.write("github", &GITHUB[..12])),
        ("a link that leads nowhere", &|| {
            fs::remove_file(&path).unwrap();
            symlink("nowhere", &path).unwrap();
        }),
        ("a directory", &|| {
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
        }),
    ];
    for (what, break_it) in broken {
        let failed = reloads(&fixture.gate, "failure");
        break_it();
        until(what, || reloads(&fixture.gate, "failure") > failed);
        assert!(same(fixture.gate.metrics().value("hookgate_last_reload_successful"), 0.0), "{what}");
        fixture.delivers(what, &github().event());
        if path.is_dir() {
            fs::remove_dir(&path).unwrap();
        }
        dir.write("github", GITHUB);
        until("the recovery", || same(fixture.gate.metrics().value("hookgate_last_reload_successful"), 1.0));
    }
}

/// Each valid request is answered 200 while S0 gives way to S1 and both are known between.
#[test]
fn a153_a_rotation_under_load_refuses_nobody() {
    let old =
        ROUTES.replace("[{ id: S1, file: DIR/s1 }, { id: S0, file: DIR/s0 }]", "[{ id: S0, file: DIR/s0 }]");
    let fixture = Fixture::configured(&old, |builder| builder);
    let (stop, sent, rotated) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let senders: Vec<_> = (0..2)
        .map(|_| {
            let (stop, sent, rotated) = (Arc::clone(&stop), Arc::clone(&sent), Arc::clone(&rotated));
            let mut sender = fixture.gate.connect();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let secret = if rotated.load(Ordering::Relaxed) { S1 } else { S0 };
                    let event = Hook::new("standard-webhooks", "/hooks/std", secret).event();
                    assert_eq!(sender.exchange(&event).status, 200);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let more = || {
        let now = sent.load(Ordering::Relaxed);
        until("load", || sent.load(Ordering::Relaxed) > now + 20);
    };
    let reload = |yaml: &str, count: f64| {
        let yaml = yaml.replace("DIR", fixture.gate.dir.path().to_str().unwrap());
        fixture.gate.dir.write("hookgate.yaml", yaml);
        fixture.gate.signal("HUP");
        until("the reload", || same(reloads(&fixture.gate, "success"), count));
        more();
    };
    more();
    reload(ROUTES, 1.0); // both are known
    rotated.store(true, Ordering::Relaxed);
    more();
    reload(&old.replace("{ id: S0, file: DIR/s0 }", "{ id: S1, file: DIR/s1 }"), 2.0);
    stop.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.join().unwrap();
    }
    fixture.wait_for_in_flight(0);
    assert_eq!(fixture.app.seen(), sent.load(Ordering::Relaxed), "each was delivered once");
    let old = Hook::new("standard-webhooks", "/hooks/std", S0);
    fixture.expect("the secret that is gone", old.event().bytes(), MISMATCH);
}

#[test]
fn a154_a_broken_certificate_leaves_the_last_good_one() {
    let Some(authority) = Authority::new() else { return };
    let app = App::ok();
    let (first, second) = (authority.issue("first", 30), authority.issue("second", 30));
    let gate = tls::gate(&app, &first).start();
    for (what, file, content) in [
        ("rubbish", "tls.pem", b"-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n".to_vec()),
        ("nothing", "tls.pem", vec![]),
        ("another's key", "tls.key", fs::read(&second.key).unwrap()),
    ] {
        let failed = reloads(&gate, "failure");
        gate.dir.write(file, content);
        gate.signal("HUP");
        until(what, || reloads(&gate, "failure") > failed);
        let client = authority.client(rustls::ALL_VERSIONS, None);
        let (mut sender, shown) = tls::connect(&gate, client).unwrap();
        assert_eq!(shown, tls::certificate(&first.cert), "{what}");
        assert_eq!(sender.exchange(&Signer::github().event()).status, 200, "{what}");
        tls::install(&gate.dir, &first);
    }
}

/// A core dump is not looked into.
#[test]
fn a155_a_secret_is_told_to_nobody() {
    let gate = GATE.enter();
    for hook in [standard(), github(), stripe(), slack()] {
        gate.delivers("genuine", &hook.event());
        gate.expect("forged", hook.event().tampered().bytes(), MISMATCH);
    }
    gate.gate.dir.write("github", "short");
    gate.gate.signal("HUP");
    let failed = |line: &serde_json::Value| line["severity_text"] == "ERROR";
    gate.gate.log.find("the complaint", failed);
    gate.gate.dir.write("github", GITHUB);
    gate.gate.signal("HUP");
    until("the recovery", || same(gate.gate.metrics().value("hookgate_last_reload_successful"), 1.0));

    let process = |file: &str| {
        let bytes = fs::read(format!("/proc/{}/{file}", gate.gate.id())).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let check = |args: &[&str]| {
        let run = run(builder("http://127.0.0.1:1", ROUTES).command("check").args(args));
        run.out + &run.err
    };
    for (place, text) in [
        ("the log", gate.gate.log.text()),
        ("the metrics", gate.gate.ops("/metrics").text()),
        ("the version", gate.gate.ops("/version").text()),
        ("readiness", gate.gate.ops("/readyz?verbose").text()),
        ("the environment", process("environ")),
        ("the arguments", process("cmdline")),
        ("check", check(&[])),
        ("check as JSON", check(&["-o", "json"])),
    ] {
        for secret in [S1, S0, GITHUB, STRIPE, SLACK, SHOPIFY] {
            let secret = secret.trim_start_matches("whsec_");
            assert!(!text.contains(secret), "{place} holds a secret");
        }
    }
}

#[test]
fn a156_a_request_is_one_line_of_the_log() {
    let gate = GATE.enter();
    let decisions = || gate.gate.log.count(|line| line["event.name"] == "hookgate.decision");
    let mut answers = Vec::new();
    for path in ["/a%0d%0a{\"event.name\":\"forged\"}", "/\"quoted\"\\", "/<script>", "/%1b[31m", "/a\tb"] {
        answers.push(gate.gate.send(&github().event().to(path)));
    }
    let long = gate.gate.send(&github().event().to(&format!("/{}", "x".repeat(5000))));
    assert!(gate.gate.decision(&long)["url.path"].as_str().unwrap().len() <= 256);
    for (name, value) in [
        ("User-Agent", "\u{1b}[31mred\u{2028}"),
        ("X-Forwarded-For", "\"}{"),
        ("traceparent", "00-\"-x-01"),
        ("X-GitHub-Event", "a\"b\\c\u{2028}"),
        ("X-GitHub-Delivery", "\u{1b}"),
    ] {
        answers.push(gate.gate.send(&github().event().with(name, value)));
    }
    let id = stripe().sign(format!(r#"{{"id":"\"}} {}","type":"a\"b\\c"}}"#, unique("evt")));
    answers.push(gate.gate.send(&id));
    // A megabyte of path is not even parsed.
    answers.push(gate.gate.send(&github().event().to(&format!("/{}", "y".repeat(1 << 20)))));
    for answer in &answers {
        let line = gate.gate.decision(answer);
        for value in line.as_object().unwrap().values().filter_map(serde_json::Value::as_str) {
            assert!(value.len() <= 256, "{value}");
        }
    }
    let before = decisions();
    gate.delivers("one more", &github().event());
    let text = gate.gate.log.text(); // each line is JSON, or counting would have failed
    assert!(decisions() > before && !text.contains(['\u{1b}', '\u{2028}', '\t']), "{text:?}");
    assert_eq!(gate.gate.log.count(|line| line["event.name"] == "forged"), 0);
}

#[test]
fn a157_no_body_and_no_signature_is_logged_at_any_level() {
    let fixture = Fixture::with(|builder| builder.with("log-level", "debug"));
    for hook in [standard(), github(), stripe(), slack()] {
        let event = hook.sign(format!(r#"{{"id":"{}","note":"canary-in-the-body"}}"#, unique("evt")));
        let event = event.with("Authorization", "Bearer canary-bearer").with("Cookie", "c=canary-cookie");
        let signature = event.headers.get(hook.header()).unwrap().to_owned();
        let target = format!("{}?canary=query", event.target);
        fixture.delivers("genuine", &event.clone().to(&target));
        fixture.expect("forged", event.clone().tampered().bytes(), MISMATCH);
        let malformed = fixture.gate.send(&set(&event, hook.header(), "canary-signature"));
        assert_eq!(malformed.status, 401);
        fixture.wait_for_in_flight(0);
        fixture.expect("broken", event.head("Content-Length: canary\r\n"), FRAMING);
        let told = fixture.gate.log.text() + &fixture.gate.ops("/metrics").text();
        assert!(!told.contains("canary"), "{told}");
        assert!(!told.contains(&signature[signature.len() - 16..]), "{told}");
    }
}

/// The contract puts the ops listener on all addresses, so that a cluster's probes reach it;
/// what it tells is read-only and holds no secret.
#[test]
fn a158_the_ops_listener_tells_and_takes_nothing() {
    let gate = GATE.enter();
    let address = gate.gate.ops_address();
    // The same paths may have been tried on the traffic listener, which logs them.
    let logged = || gate.gate.log.count(|line| line["url.path"] == "/metrics");
    let before = logged();
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        for path in ["/metrics", "/readyz", "/livez", "/"] {
            let mut sender = Sender::connect(address);
            sender.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
            assert_eq!(sender.response().status, 405, "{method} {path}");
        }
    }
    let page = get(address, "/").text();
    assert!(page.contains("<html") && !page.contains("form"), "a page to look at, with nothing to send");
    for path in ["/config", "/reload", "/quit", "/debug/pprof", "/metrics/../config", "/hooks/gh"] {
        assert_eq!(get(address, path).status, 404, "{path}");
    }
    let event = github().event();
    let mut sender = Sender::connect(address);
    assert_eq!(sender.exchange(&event).status, 405, "it is no way to the application");
    gate.delivers("where it belongs", &event);
    assert_eq!(logged(), before, "it is not logged");
}

#[test]
fn a159_the_traffic_listener_has_no_admin_paths() {
    let gate = GATE.enter();
    for path in ["/metrics", "/livez", "/readyz", "/startupz", "/version", "/healthz", "/"] {
        for method in ["GET", "POST"] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
            gate.expect(&format!("{method} {path}"), request, NOT_FOUND);
        }
    }
}

#[test]
fn a160_no_request_makes_a_series() {
    let gate = GATE.enter();
    let series = || gate.gate.metrics().0.into_keys().collect::<Vec<_>>();
    gate.delivers("a plain one", &github().event());
    let before = series();
    for n in 0..50 {
        let odd = format!("odd-{n}\"}} 1");
        let event = github().event().with("X-GitHub-Event", &odd).with("User-Agent", &odd);
        gate.gate.send(&set(&event, "X-GitHub-Delivery", &odd));
        let body = format!(r#"{{"id":"{}","type":"odd-{n}"}}"#, unique("evt"));
        gate.gate.send(&stripe().sign(body));
        gate.gate.send(&github().event().to(&format!("/odd/{n}")));
        gate.gate.send(&github().event().to(&format!("/public/{n}")));
    }
    assert_eq!(series(), before);
}

/// What a sender reads of a refusal, without its id and date.
fn read(answer: Response) -> (String, Vec<(String, String)>, Vec<u8>) {
    let mut headers = answer.headers.0;
    headers.retain(|(name, _)| !["hookgate-request-id", "date"].contains(&name.to_lowercase().as_str()));
    (answer.line, headers, answer.body)
}

/// Age is judged only after the signature, so its own answer tells a forger nothing: a stale
/// forgery is a forgery. Times are compared elsewhere.
#[test]
fn a161_all_forgeries_are_answered_alike() {
    let gate = GATE.enter();
    for hook in [standard(), stripe(), slack()] {
        let event = hook.event();
        gate.wait_for_in_flight(0);
        gate.delivers("the known one", &event);
        let mut wrong = event.headers.get(hook.header()).unwrap().to_owned();
        let digit = wrong.len() - 10;
        let other = if &wrong[digit..=digit] == "0" { "1" } else { "0" };
        wrong.replace_range(digit..=digit, other);
        let answers = [
            ("no signature", event.clone().without(hook.header())),
            ("no digest", set(&event, hook.header(), "v1,")),
            ("another body", event.clone().tampered()),
            (
                "another's signature",
                set(&event, hook.header(), hook.event().headers.get(hook.header()).unwrap()),
            ),
            ("one digit wrong", set(&event, hook.header(), &wrong)),
            ("stale and forged", hook.aged(9999).tampered()),
            ("from the future and forged", hook.aged(-9999).tampered()),
            ("never seen and forged", hook.event().tampered()),
        ]
        .map(|(what, attack)| (what, read(gate.gate.send(&attack))));
        for (what, answer) in &answers {
            assert_eq!(*answer, answers[0].1, "{what}");
            assert_eq!(
                (answer.0.as_str(), &answer.2[..]),
                ("HTTP/1.1 401 Unauthorized", &b"Unauthorized"[..])
            );
        }
    }
}

/// Overlapping prefixes are no error: the longest one decides. The gate knows no CORS.
#[test]
fn a162_a_configuration_with_a_fault_is_no_start() {
    let route = "  - { name: a, path: /a, provider: github, secrets: [{ file: DIR/github }] }\n";
    for (what, yaml, says) in [
        ("an unknown key", format!("colour: blue\nroutes:\n{route}"), "hookgate.yaml:1:"),
        (
            "an unknown key of a route",
            format!("routes:\n{}", route.replace("path:", "paht: /b, path:")),
            "hookgate.yaml:2:",
        ),
        ("a wildcard for CORS", format!("cors: '*'\nroutes:\n{route}"), "hookgate.yaml:1:"),
        ("one name for two routes", format!("routes:\n{route}{}", route.replace("/a", "/b")), "two routes"),
        (
            "one path for two routes",
            format!("routes:\n{route}{}", route.replace("name: a", "name: b")),
            "two routes",
        ),
        (
            "one prefix for two routes",
            format!(
                "routes:\n{}{}",
                route.replace("/a", "/a*"),
                route.replace("/a", "/a*").replace("name: a", "name: b")
            ),
            "two routes",
        ),
        ("a star inside", format!("routes:\n{}", route.replace("/a", "/*/a")), "hookgate.yaml:2:"),
        ("no connections", format!("limits: {{ max_connections: 0 }}\nroutes:\n{route}"), "max_connections"),
        ("no body", format!("limits: {{ max_body: 0B }}\nroutes:\n{route}"), "hookgate.yaml:1:"),
        ("no memory", format!("replay: {{ capacity: 0 }}\nroutes:\n{route}"), "capacity"),
        (
            "no rate",
            format!("routes:\n{}", route.replace("path:", "rate_limit: 0/1m, path:")),
            "hookgate.yaml:2:",
        ),
        ("no time", format!("header_timeout: 0s\nroutes:\n{route}"), "header_timeout"),
        (
            "a redirect",
            format!("routes:\n{}", route.replace("path:", "status: { signature: 302 }, path:")),
            "status.signature",
        ),
        (
            "gone",
            format!("routes:\n{}", route.replace("path:", "status: { signature: 410 }, path:")),
            "status.signature",
        ),
        ("no YAML", "routes: [".to_owned(), "hookgate.yaml:1:"),
    ] {
        for command in ["run", "check"] {
            let run = run(&mut builder("http://127.0.0.1:1", &yaml).command(command));
            assert_eq!(run.code, Some(78), "{what}, {command}: {}{}", run.out, run.err);
            assert!(run.err.contains(says), "{what}, {command}: {}", run.err);
        }
    }
    let nested = format!(
        "routes:\n{}{}",
        route.replace("/a", "/a/*"),
        route.replace("/a", "/a/b/*").replace("name: a", "name: b")
    );
    let fixture = Fixture::configured(&nested, |builder| builder);
    for (path, name) in [("/a/x", "a"), ("/a/b/x", "b")] {
        assert_eq!(fixture.delivers(path, &github().event().to(path)).header("Hookgate-Route"), Some(name));
    }
}

/// Scaled down: two senders at full speed, and calls of 20 ms and one that outlasts the delay.
#[test]
fn a163_a_termination_under_load_fails_nobody() {
    let latch = Latch::default();
    let (slow, is_slow) = (latch.clone(), Arc::new(AtomicBool::new(false)));
    let holds = Arc::clone(&is_slow);
    let app = App::new(move |_, _| {
        if holds.load(Ordering::Relaxed) {
            Answer::ok().when(&slow)
        } else {
            Answer::ok().after(Duration::from_millis(20))
        }
    });
    let gate =
        builder(&app.url(), ROUTES).with("shutdown-delay", "3s").with("shutdown-timeout", "60s").start();
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let senders: Vec<_> = (0..2)
        .map(|_| {
            let (stop, sent, address) = (Arc::clone(&stop), Arc::clone(&sent), gate.address());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(Sender::connect(address).exchange(&github().event()).status, 200);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    until("load", || sent.load(Ordering::Relaxed) > 10);
    gate.signal("TERM");
    until("readiness to end", || gate.ops("/readyz").status == 503);
    let at_term = sent.load(Ordering::Relaxed);
    until("service during the delay", || sent.load(Ordering::Relaxed) > at_term + 10);
    stop.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.join().unwrap();
    }
    is_slow.store(true, Ordering::Relaxed);
    let mut last = gate.connect();
    last.send(github().event().bytes());
    app.wait_for(sent.load(Ordering::Relaxed) + 1);
    until("the listener to close", || TcpStream::connect(gate.address()).is_err());
    latch.open();
    assert_eq!(last.response().said(), (200, "app".to_owned()));
    assert_eq!(gate.ended().code(), Some(0));
    assert_eq!(app.seen(), sent.load(Ordering::Relaxed) + 1);
}

#[test]
fn a164_a_drain_that_is_cut_short_loses_nothing() {
    for second in ["TERM", "KILL"] {
        let fixture = Fixture::with(|builder| builder.with("shutdown-delay", "60s"));
        fixture.plan([Answer::never()]);
        let event = github().event();
        let mut sender = fixture.begin(&event);
        fixture.app.wait_for(1);
        fixture.gate.signal("TERM");
        fixture.gate.log.find("the drain", |line| line["event.name"] == "hookgate.drain");
        fixture.gate.signal(second);
        let code = fixture.gate.ended().code();
        assert_eq!(code, (second == "TERM").then_some(143), "{second}");
        assert!(sender.try_response().is_err(), "{second}: nothing was confirmed");
        let restarted = builder(&fixture.app.url(), ROUTES).start();
        assert_eq!(
            restarted.send(&event).said(),
            (200, "app".to_owned()),
            "{second}: the retry is delivered"
        );
        assert_eq!(fixture.app.seen(), 2);
    }
}

/// The contract: readiness never asks the application. An unsure clock cannot be made here.
#[test]
fn a166_readiness_tells_its_own_reasons_and_liveness_stays() {
    let mut fixture =
        Fixture::with(|builder| builder.with("replay-capacity", 1).with("upstream-connect-timeout", "100ms"));
    let ready = |fixture: &Fixture| {
        let answer = fixture.gate.ops("/readyz?verbose");
        (answer.status, answer.text())
    };
    fixture.app.stop();
    assert_eq!(fixture.gate.send(&github().event()).status, 503);
    assert_eq!(ready(&fixture).0, 200, "the application is down, and the gate is ready");
    fixture.app.start();
    fixture.delivers("the only one", &github().event());
    let (status, text) = ready(&fixture);
    assert_eq!(status, 503);
    assert!(text.contains("[no] replay store usable") && text.contains("[ok] not draining"), "{text}");
    assert_eq!((fixture.gate.ops("/livez").status, fixture.gate.ops("/startupz").status), (200, 200));
    assert!(same(fixture.gate.metrics().value("hookgate_ready"), 0.0));
}
