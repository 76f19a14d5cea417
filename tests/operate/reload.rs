//! Reload: what was read at the start is read again and swapped in whole, or not at
//! all; and nobody who is in the right notices.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::gate::same;
use crate::support::sender::{SECRET, other_secret};
use crate::support::{self, App, Builder, Gate, Request, Response, Sender, Signer, until};

fn watching(builder: Builder) -> Builder {
    builder.with("reload-interval", "50ms")
}

fn signer(secret: &str) -> Signer {
    Signer::new("github", 0, secret)
}

fn status(gate: &Gate, secret: &str) -> u16 {
    gate.send(&signer(secret).event()).status
}

fn successes(gate: &Gate) -> f64 {
    gate.metrics().sum("hookgate_reloads_total", &[("result", "success")])
}

fn failures(gate: &Gate) -> f64 {
    gate.metrics().sum("hookgate_reloads_total", &[("result", "failure")])
}

fn is_successful(gate: &Gate) -> bool {
    same(gate.metrics().value("hookgate_last_reload_successful"), 1.0)
}

#[test]
fn a_secret_is_replaced_when_its_file_is() {
    let app = App::ok();
    let gate = watching(Gate::before(&app)).start();
    let other = other_secret();
    assert_eq!((status(&gate, SECRET), status(&gate, &other)), (200, 401));
    gate.dir.write("key-1", &other);
    until("the new secret", || status(&gate, &other) == 200);
    assert_eq!(status(&gate, SECRET), 401, "the old one is gone");
    assert!(same(
        gate.metrics().sum("hookgate_reloads_total", &[("source", "file"), ("result", "success")]),
        1.0
    ));
}

#[test]
fn without_an_interval_only_a_signal_reloads() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    let other = other_secret();
    gate.dir.write("key-1", &other);
    assert_eq!(status(&gate, &other), 401);
    gate.signal("HUP");
    until("the new secret", || status(&gate, &other) == 200);
    let by_signal = [("source", "signal"), ("result", "success")];
    assert!(same(gate.metrics().sum("hookgate_reloads_total", &by_signal), 1.0));
    assert!(gate.is_running(), "a hang-up ends nothing");
}

/// Kubernetes replaces a directory behind a symbolic link; the file's own path, inode
/// and link stay what they were.
#[test]
fn a_kubernetes_volume_is_noticed() {
    fn publish(volume: &Path, version: &str, secret: &str) {
        fs::create_dir(volume.join(version)).unwrap();
        fs::write(volume.join(version).join("key"), secret).unwrap();
        symlink(version, volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    }
    let app = App::ok();
    let builder = watching(Gate::before(&app));
    let volume = builder.dir().join("volume");
    fs::create_dir(&volume).unwrap();
    publish(&volume, "..2026_1", SECRET);
    symlink("..data/key", volume.join("key")).unwrap();
    let gate = builder.with("secret-file", volume.join("key").display()).start();
    assert_eq!(status(&gate, SECRET), 200);
    let other = other_secret();
    publish(&volume, "..2026_2", &other);
    until("the new secret", || status(&gate, &other) == 200);
    assert_eq!(status(&gate, SECRET), 401);
}

#[test]
fn a_file_that_is_written_again_unchanged_is_no_reload() {
    let app = App::ok();
    let gate = watching(Gate::before(&app)).start();
    gate.dir.write("key-1", SECRET);
    gate.dir.write("unrelated", "x");
    // What follows in time is noticed, so what came before was looked at.
    gate.dir.write("key-1", format!("{SECRET}\n"));
    until("the reload", || successes(&gate) > 0.0);
    assert!(same(successes(&gate), 1.0));
}

#[test]
fn whatever_is_broken_changes_nothing_and_is_said_once() {
    let app = App::ok();
    let config = "routes:\n  - { name: a, provider: github, secrets: [{ file: DIR/key-1 }], allow_ip_file: DIR/addresses }\n";
    let builder = watching(Gate::before(&app));
    builder.dir().write("addresses", "127.0.0.0/8\n");
    let gate = builder.config(config).start();
    let good = config.replace("DIR", gate.dir.path().to_str().unwrap());
    for (what, file, broken, whole) in [
        ("an empty secret", "key-1", "", SECRET),
        ("a secret cut short", "key-1", "whs", SECRET),
        ("a configuration that is no YAML", "hookgate.yaml", "routes: [", &good),
        ("an unknown key", "hookgate.yaml", "colour: blue", &good),
        ("a list that is no list", "addresses", "127.0.0.1\nnonsense", "127.0.0.0/8\n"),
    ] {
        let (failed, told) = (failures(&gate), complaints(&gate));
        gate.dir.write(file, broken);
        until(what, || failures(&gate) > failed);
        assert!(!is_successful(&gate), "{what}");
        assert_eq!(status(&gate, SECRET), 200, "{what}: the last good state stays");
        // Several looks later it is still one complaint.
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(complaints(&gate) - told, 1, "{what}: {}", gate.log.text());
        assert!(same(failures(&gate) - failed, 1.0), "{what}");
        gate.dir.write(file, whole);
        until("the recovery", || is_successful(&gate));
        assert_eq!(status(&gate, SECRET), 200, "{what}");
    }
    fs::remove_file(gate.dir.join("key-1")).unwrap();
    until("the missing file", || !is_successful(&gate));
    assert_eq!(status(&gate, SECRET), 200, "a file that is gone takes nothing with it");
    assert!(!gate.log.text().contains(SECRET));
}

fn complaints(gate: &Gate) -> usize {
    gate.log.count(|line| line["event.name"] == "hookgate.reload" && line["severity_text"] == "ERROR")
}

#[test]
fn routes_come_and_go_with_the_file() {
    let app = App::ok();
    let route = |name: &str| {
        format!("  - {{ name: {name}, path: /{name}, provider: github, secrets: [{{ file: DIR/key-1 }}] }}\n")
    };
    let gate = Gate::before(&app).config(&format!("routes:\n{}", route("one"))).start();
    let send = |path: &str| gate.send(&Signer::github().event().to(path)).status;
    assert_eq!((send("/one"), send("/two")), (200, 404));
    let two = format!("routes:\n{}", route("two")).replace("DIR", gate.dir.path().to_str().unwrap());
    gate.dir.write("hookgate.yaml", two);
    gate.signal("HUP");
    until("the new route", || send("/two") == 200);
    assert_eq!(send("/one"), 404);
    let series = "hookgate_requests_total{provider=\"github\",reason=\"duplicate\",route=\"two\",verdict=\"answered\"}";
    assert!(same(gate.metrics().value(series), 0.0), "a new route's series are there at once");
}

#[test]
fn what_needs_a_restart_is_said_and_the_rest_is_applied() {
    let app = App::ok();
    let config = "routes:\n  - { name: a, provider: github, secrets: [{ file: DIR/key-1 }] }\n";
    let gate = Gate::before(&app).config(config).start();
    let other = other_secret();
    gate.dir.write("key-1", &other);
    let changed = format!("header_timeout: 3s\n{config}").replace("DIR", gate.dir.path().to_str().unwrap());
    gate.dir.write("hookgate.yaml", changed);
    gate.signal("HUP");
    let warning = gate.log.find("the warning", |line| {
        line["severity_text"] == "WARN" && line["body"].as_str().is_some_and(|body| body.contains("restart"))
    });
    assert!(warning["body"].as_str().unwrap().contains("header_timeout: 10s → 3s"), "{warning}");
    until("the new secret", || status(&gate, &other) == 200);
    let [before, now] = [SECRET, &other].map(|secret| {
        let secret = hookgate::config::secret::Secret::from_bytes(secret.into()).0;
        secret.fingerprint()
    });
    gate.log.find("the rotation", |line| {
        line["body"].as_str().is_some_and(|body| {
            let told = |print: &str| body.contains(&format!(", {print})"));
            body.starts_with("reloaded: route a: key key-1: key-1 (") && told(&before) && told(&now)
        })
    });

    let pending = || gate.metrics().value("hookgate_restart_pending");
    assert!(same(pending(), 1.0));
    let ready = gate.ops("/readyz?verbose");
    assert_eq!(ready.status, 200);
    assert!(ready.text().contains("restart pending: header_timeout\n"), "{}", ready.text());
    gate.dir.write("hookgate.yaml", config.replace("DIR", gate.dir.path().to_str().unwrap()));
    gate.signal("HUP");
    until("that it is taken back", || same(pending(), 0.0));
    assert!(!gate.ops("/readyz?verbose").text().contains("pending"));
}

/// Each key above the routes of which the reference says that a reload takes it up, and one of a route
/// for each way in which it takes effect, really does so.
#[test]
fn what_is_live_takes_effect_and_is_told_by_its_key() {
    let app = App::ok();
    let route = |words: &str| {
        format!(
            "routes:\n  - {{ name: a, path: /a, provider: github, secrets: [{{ file: DIR/key-1 }}], {words} }}\n"
        )
    };
    let plain = format!("insecure_allow_http: true\n{}", route("rate_limit: off"));
    let gate = Gate::before(&app).without("insecure-allow-http").without("rate-limit").config(&plain).start();
    let answer = |headers: &[(&str, &str)]| {
        let event = Signer::github().event().to("/a");
        gate.send(&headers.iter().fold(event, |event, (name, value)| event.with(name, value))).status
    };
    let load = |text: &str| {
        let before = successes(&gate);
        gate.dir.write("hookgate.yaml", text.replace("DIR", gate.dir.path().to_str().unwrap()));
        gate.signal("HUP");
        until("the reload", || successes(&gate) > before);
    };
    gate.dir.write("short", "ten bytes.");
    let https: &[(&str, &str)] = &[("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "192.0.2.7")];
    let proxy = "trusted_proxies: [127.0.0.0/8]\n";
    let http = "insecure_allow_http: true\n";
    for (key, text, headers, expected) in [
        ("insecure_allow_http", route("rate_limit: off"), &[][..], 403),
        ("trusted_proxies", format!("{proxy}{}", route("rate_limit: off")), https, 200),
        (
            "real_ip_header",
            format!("{proxy}real_ip_header: x-real-ip\n{}", route("rate_limit: off, allow_ips: [192.0.2.9]")),
            &[("X-Forwarded-Proto", "https"), ("X-Real-IP", "192.0.2.9")],
            200,
        ),
        (
            "insecure_short_secret",
            format!(
                "{http}insecure_short_secret: true\n{}",
                route("rate_limit: off").replace("key-1", "short")
            ),
            &[],
            401,
        ),
        ("strict_start", format!("{http}strict_start: true\n{}", route("rate_limit: off")), &[], 200),
        (
            "route a: allow_ips",
            format!("{http}{}", route("rate_limit: off, allow_ips: [192.0.2.1]")),
            &[],
            403,
        ),
        ("route a: max_body", format!("{http}{}", route("rate_limit: off, max_body: 10B")), &[], 413),
        (
            "route a: path",
            format!("{http}{}", route("rate_limit: off").replace("path: /a", "path: /b")),
            &[],
            404,
        ),
        (
            "route a: provider",
            format!("{http}{}", route("rate_limit: off").replace("github", "bitbucket")),
            &[],
            401,
        ),
        (
            "route a: mode",
            format!("{http}{}", route("rate_limit: off, allow_ips: [192.0.2.1], mode: observe")),
            &[],
            200,
        ),
        ("route a: methods", format!("{http}{}", route("rate_limit: off, methods: PUT")), &[], 405),
        (
            "route a: status",
            format!(
                "{http}{}",
                route("rate_limit: off, status: { signature: 444 }").replace("github", "bitbucket")
            ),
            &[],
            444,
        ),
        (
            "route b added",
            format!("{http}{}", route("rate_limit: off").replace("name: a", "name: b")),
            &[],
            200,
        ),
    ] {
        load(&plain);
        assert_eq!(answer(&[]), 200, "before {key}");
        load(&text);
        assert_eq!(answer(headers), expected, "{key}");
        gate.log.find(key, |line| {
            line["body"].as_str().is_some_and(|body| {
                body.strip_prefix("reloaded: ")
                    .is_some_and(|told| told.split("; ").any(|change| change.starts_with(key)))
            })
        });
        assert!(same(gate.metrics().value("hookgate_restart_pending"), 0.0), "{key} needs no restart");
    }
    load(&format!("{http}{}", route("rate_limit: 1/1h")));
    assert_eq!((answer(&[]), answer(&[])), (200, 429), "rate_limit");
}

/// Who is believed changes at once, and nobody is told that it does not.
#[test]
fn balancers_that_speak_the_proxy_protocol_are_live() {
    let app = App::ok();
    let config = |network: &str| {
        format!(
            "proxy_protocol: required\nproxy_protocol_from: [{network}]\nroutes:\n  \
             - {{ path: /webhooks, provider: github, secrets: [{{ file: DIR/key-1 }}] }}\n"
        )
    };
    let gate = Gate::before(&app).config(&config("10.0.0.0/8")).start();
    let status = || {
        let mut sender = Sender::connect(gate.address());
        let line = b"PROXY TCP4 192.0.2.9 192.0.2.1 51008 443\r\n".to_vec();
        sender.send([line, Signer::github().event().bytes()].concat());
        sender.try_response().map(|answer| answer.status).ok()
    };
    assert_eq!(status(), None, "a stranger is not heard");
    let before = successes(&gate);
    let yaml = config("127.0.0.0/8").replace("DIR", gate.dir.path().to_str().unwrap());
    gate.dir.write("hookgate.yaml", yaml);
    gate.signal("HUP");
    until("the reload", || successes(&gate) > before);
    assert_eq!(status(), Some(200));
    assert!(same(gate.metrics().value("hookgate_restart_pending"), 0.0));
    gate.log.find("what it took up", |line| {
        line["body"] == "reloaded: proxy_protocol_from: 10.0.0.0/8 → 127.0.0.0/8"
    });
}

/// What was delivered before is kept for as long as the route had then.
#[test]
fn no_reload_lets_an_event_be_fresh_for_longer_than_it_is_kept() {
    const ROUTES: &str = "
routes:
  - { name: a, path: /a, provider: stripe, secrets: [{ file: DIR/key-1 }], replay: { window: 2h } }
  - { name: b, path: /b, provider: stripe, secrets: [{ file: DIR/key-1 }] }
";
    let app = App::ok();
    let gate = Gate::before(&app).config(ROUTES).start();
    let dir = gate.dir.path().to_str().unwrap().to_owned();
    let reload = |from: &str, to: &str| {
        let (before, bad) = (successes(&gate), failures(&gate));
        gate.dir.write("hookgate.yaml", ROUTES.replace(from, to).replace("DIR", &dir));
        gate.signal("HUP");
        until("a reload", || successes(&gate) > before || failures(&gate) > bad);
        successes(&gate) > before
    };
    assert!(reload("window: 2h", "window: 90m"), "a shorter window that is long enough");
    assert!(
        reload("window: 2h }", "window: 3h }, tolerance: 10m"),
        "a tolerance within the window of before"
    );
    assert!(!reload("window: 2h }", "window: 5h }, tolerance: 4h"), "beyond the window of before");
    assert!(!reload("/b,", "/b, replay: { window: 5h }, tolerance: 4h,"), "beyond what all routes had");
    assert!(
        reload("name: b, path: /b,", "name: c, path: /c, replay: { window: 5h }, tolerance: 4h,"),
        "a new route"
    );
}

#[test]
fn what_was_delivered_and_who_has_sent_how_much_is_remembered() {
    let app = App::ok();
    let gate = Gate::before(&app).with("rate-limit", "4/1h").start();
    let event = Signer::github().event();
    assert_eq!(gate.send(&event).text(), "app");
    for n in 1..=2_u8 {
        gate.dir.write("allow", "");
        gate.signal("HUP");
        until("the reload", || same(successes(&gate), f64::from(n)));
        assert_eq!(gate.send(&event).text(), "Already processed", "after reload {n}");
    }
    assert_eq!(gate.send(&Signer::github().event()).status, 200);
    assert_eq!(gate.send(&Signer::github().event()).status, 429, "the fifth of four");
    assert_eq!(app.seen(), 2);
}

/// A new secret may fit a scheme of the preset that the old one did not fit.
#[test]
fn what_was_delivered_is_remembered_when_another_scheme_comes_into_use() {
    let app = App::ok();
    let text = "text that is no base64, and long enough";
    let builder = Gate::before(&app).with("provider", "scalekit").with("allow-ip", "127.0.0.0/8");
    let spare = builder.dir().write("key-2", "more text that is no base64");
    builder.dir().write("key-1", text);
    let gate = builder.and("secret-file", spare.display()).start();
    let event = Signer::new("scalekit", 1, text).event();
    assert_eq!(gate.send(&event).text(), "app");
    gate.dir.write("key-2", SECRET);
    gate.signal("HUP");
    let standard = Signer::new("scalekit", 0, SECRET);
    until("the new scheme", || gate.send(&standard.event()).status == 200);
    assert_eq!(gate.send(&event).text(), "Already processed");
}

#[test]
fn no_valid_request_is_refused_while_secrets_rotate() {
    let app = Arc::new(App::ok());
    let second = other_secret();
    let third = "a third key that is long enough";
    let builder = Gate::before(&app).with("reload-interval", "10ms");
    let spare = builder.dir().write("key-2", &second);
    let gate = builder.and("secret-file", spare.display()).start();

    // Key 2 always holds; key 1 is replaced again and again, sometimes by rubbish.
    let stop = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..3)
        .map(|n| {
            let (stop, address, signer) = (Arc::clone(&stop), gate.address(), signer(&second));
            std::thread::spawn(move || {
                let mut sent = 0;
                let mut sender = Sender::connect(address);
                while !stop.load(Ordering::Relaxed) {
                    let answer: Response = match n {
                        0 => Sender::connect(address).exchange(&signer.event()),
                        _ => sender.exchange(&signer.event()),
                    };
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    for round in 0..30 {
        let done = successes(&gate) + failures(&gate);
        let secret = [third, "", SECRET, "short"][round % 4];
        gate.dir.write("key-1", secret);
        gate.signal("HUP");
        until("the reload", || successes(&gate) + failures(&gate) > done);
    }
    stop.store(true, Ordering::Relaxed);
    let sent: usize = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
    assert!(sent > 0);
    assert_eq!(app.seen(), sent, "each was delivered once");
    assert!(successes(&gate) > 0.0);
}

#[test]
fn a_delivery_keeps_the_policy_that_it_began_with() {
    let latch = support::Latch::default();
    let app = App::always(support::Answer::ok().when(&latch));
    let gate = Gate::before(&app).start();
    let request: Request = Signer::github().event();
    let mut sender = gate.connect();
    sender.send(request.head(&format!("Content-Length: {}\r\n", request.body.len())));
    gate.wait_for_metric("hookgate_requests_in_flight", 1.0);
    gate.dir.write("key-1", other_secret());
    gate.signal("HUP");
    until("the reload", || successes(&gate) > 0.0);
    sender.send(&request.body);
    latch.open();
    assert_eq!(sender.response().status, 200, "its head was judged under the old secret");
    assert_eq!(status(&gate, SECRET), 401);
}
