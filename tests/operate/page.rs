//! The page for people: what it tells, what it keeps to itself, and that a browser shows it,
//! with script and without, narrow and wide, light and dark.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::gate::{program, run_within};
use crate::support::sender::SECRET;
use crate::support::{self, App, Gate, Request, Sender, Signer, eventually, until};

/// What a browser may take on a slow and loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

const ROUTES: &str = "
routes:
  - { name: payments, path: /hooks/stripe, provider: stripe, mode: observe, secrets: [{ id: live-key, file: DIR/key-1 }] }
  - name: code
    path: /hooks/github/*
    provider: github
    expect_every: 1h
    secrets: [{ id: new-key, file: DIR/key-1, not_after: 2999-12-31 }, { id: old-key, file: DIR/key-2, not_after: 2026-01-31 }]
";

/// A gate that has seen a little of everything.
fn gate(app: &App) -> Gate {
    let builder = Gate::before(app);
    builder.dir().write("key-2", support::sender::other_secret());
    let gate = builder.config(ROUTES).start();
    let stripe = Signer::stripe();
    let hostile = stripe.sign_at(
        support::sender::now_ms(),
        "x",
        br#"{"id":"<img/src=x>\"'&<b>","type":"body-canary"}"#,
    );
    let github = Signer::github().event();
    for request in [
        hostile.to("/hooks/stripe?token=query-canary"),
        stripe.event_aged(Duration::from_secs(600)).to("/hooks/stripe"),
        github.clone().to("/hooks/github/path-canary"),
        github.clone().to("/hooks/github/path-canary"),
        github.tampered().to("/hooks/github/path-canary"),
        stripe.event().to("/elsewhere/path-canary"),
    ] {
        send(&gate, &request);
    }
    gate
}

/// Sends, and waits until it is told.
fn send(gate: &Gate, request: &Request) {
    let answer = gate.send(request);
    gate.decision(&answer);
}

/// What any form of the page tells.
fn tells_it_all(html: &str, how: &str) {
    for text in [
        "payments",
        "/hooks/github/*",
        "new-key",
        "2999-12-31",
        "ended 2026-01-31",
        "signature_mismatch",
        "observed: timestamp_stale",
        "answered: duplicate",
        "route_unmatched",
        "not safe to enforce: 1 of 2 deliveries would have been refused",
        "hmac-sha256 in x-hub-signature-256 (2 keys)",
        env!("CARGO_PKG_VERSION"),
    ] {
        assert!(html.contains(text), "{how}: {text} is missing in\n{html}");
    }
    assert!(html.contains("&lt;img/src=x&gt;"), "{how}: an event's id is shown as it is");
    assert!(!html.contains("<img"), "{how}: and is nothing but text");
}

#[test]
fn it_tells_what_is_to_be_seen_and_nothing_that_is_not() {
    let app = App::ok();
    let gate = gate(&app);
    let answer = gate.ops("/");
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("text/html; charset=utf-8")));
    let html = answer.text();
    tells_it_all(&html, "the source");
    let policy = answer.header("Content-Security-Policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
    let place = gate.dir.path().to_str().unwrap();
    for canary in [SECRET, "canary", "sha256=", "127.0.0.1", place] {
        assert!(!html.contains(canary), "{canary} is shown");
    }
    for outside in ["http:", "https:", "//", "url(", "@import"] {
        let own = html.replace("// Takes the page anew", "");
        assert!(!own.contains(outside), "it needs nothing from {outside}");
    }
}

#[test]
fn only_the_last_decisions_are_kept_however_many_come() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    let decisions = |gate: &Gate| {
        let html = gate.ops("/").text();
        html.split("id=\"decisions\"").nth(1).unwrap().matches("<tr>").count()
    };
    for n in 0..60 {
        if n == 30 {
            assert_eq!(decisions(&gate), 30 + 1, "and the head of the table");
        }
        send(&gate, &Signer::github().event());
    }
    assert_eq!(decisions(&gate), 50 + 1);
    let short = gate.ops("/").text().len();
    for n in 0..200 {
        send(&gate, &Signer::github().event().to(&format!("/{n}/{}", "x".repeat(1000))));
    }
    assert!(gate.ops("/").text().len() < short + 1000, "strange requests do not make it longer");
}

#[test]
fn it_says_what_keeps_the_gate_from_being_ready() {
    let app = App::ok();
    let gate = Gate::before(&app).with("replay-capacity", 1).start();
    assert!(gate.ops("/").text().contains("<title>Ready "));
    send(&gate, &Signer::github().event());
    send(&gate, &Signer::github().event());
    let html = gate.ops("/").text();
    assert!(html.contains("<title>Not ready "), "{html}");
    assert!(html.contains("not: replay store usable"), "{html}");
    assert!(html.contains("failed: store_unavailable"), "{html}");
}

/// Headless Chromium with a profile of its own.
fn chromium(program: &Path, profile: &support::Dir, args: &[&str], address: SocketAddr) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--enable-logging=stderr", "--v=0"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(args)
        .arg(format!("http://{address}/"));
    command
}

/// What the page has become after that many milliseconds of the browser's own time.
fn dump(program: &Path, address: SocketAddr, args: &[&str], after_ms: u32) -> String {
    let (profile, budget) = (support::Dir::new(), format!("--virtual-time-budget={after_ms}"));
    let mut command = chromium(program, &profile, args, address);
    command.args([&budget, "--dump-dom"]);
    let ended = run_within(PATIENCE, &mut command);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let complaints: Vec<_> = ended.err.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(complaints.is_empty(), "the browser complains: {complaints:#?}");
    ended.out
}

#[test]
fn a_browser_shows_it() {
    let Some(program) = program("chromium") else {
        eprintln!("SKIPPED: chromium is not on PATH");
        return;
    };
    let app = App::ok();
    let gate = gate(&app);
    let wide = dump(&program, gate.ops_address(), &["--window-size=1280,1000"], 1000);
    tells_it_all(&wide, "wide");
    assert!(wide.contains("Refreshed every five seconds."), "the script runs");

    let dark = ["--window-size=500,1000", "--blink-settings=preferredColorScheme=0"];
    let narrow = dump(&program, gate.ops_address(), &dark, 12_000);
    tells_it_all(&narrow, "narrow and dark");
    assert!(narrow.contains("data-times=\"2\""), "it was refreshed twice in twelve seconds:\n{narrow}");
}

/// Answers as the gate does, and counts how often a browser loads the page as such.
fn relay(gate: SocketAddr, loads: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move |mut stream: TcpStream| {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        if head.iter().any(|line| line.eq_ignore_ascii_case("sec-fetch-dest: document")) {
            loads.fetch_add(1, Ordering::SeqCst);
        }
        let mut upstream = TcpStream::connect(gate).unwrap();
        let target = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("/");
        write!(upstream, "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        _ = std::io::copy(&mut upstream, &mut stream);
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// A browser that goes on until it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Dumping a page takes script, so here the browser is left alone and asked from outside.
#[test]
fn it_needs_no_script() {
    let Some(program) = program("chromium") else {
        eprintln!("SKIPPED: chromium is not on PATH");
        return;
    };
    let app = App::ok();
    let gate = gate(&app);
    let (profile, loads) = (support::Dir::new(), Arc::new(AtomicUsize::new(0)));
    let address = relay(gate.ops_address(), Arc::clone(&loads));
    let args = ["--blink-settings=scriptEnabled=false", "--remote-debugging-port=0"];
    let mut command = chromium(&program, &profile, &args, address);
    let browser = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let started = Instant::now();
    while loads.load(Ordering::SeqCst) < 2 {
        assert!(started.elapsed() < PATIENCE, "without script the browser loads the page anew by itself");
        std::thread::sleep(Duration::from_millis(50));
    }
    let debugger = eventually("the debugger's port", || {
        let port = std::fs::read_to_string(profile.join("DevToolsActivePort")).ok()?;
        port.lines().next()?.parse::<u16>().ok()
    });
    until("the title", || {
        let mut sender = Sender::connect(([127, 0, 0, 1], debugger).into());
        sender.send("GET /json/list HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let pages: serde_json::Value = serde_json::from_slice(&sender.response().body).unwrap();
        pages[0]["title"] == "Ready \u{2013} hookgate"
    });
    drop(browser);
}
