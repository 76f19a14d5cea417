//! One route, a secret for each tenant: whose keys judge a delivery, what the application is told, and what
//! happens while the keys cannot be looked up.

use std::fs::{create_dir, create_dir_all, remove_file, rename, write};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::gate::{hookgate, program, run};
use crate::support::{App, Builder, Dir, Gate, Request, Response, Signer, eventually, lock, until};

/// The secret of a tenant.
fn secret(tenant: &str) -> String {
    format!("the secret of {tenant}, which nobody else has")
}

fn signer(secret: &str) -> Signer {
    Signer::new("github", 0, secret)
}

/// An event for one tenant, signed with the secret of another or the same.
fn event(path_of: &str, signed_by: &str) -> Request {
    signer(&secret(signed_by)).event().to(&format!("/hooks/github/{path_of}"))
}

const DIR: &str = "
routes:
  - name: github
    path: /hooks/github/{tenant}
    provider: github
    secrets: { dir: DIR/tenants, cache: 1s, negative: 1s }
";

struct World {
    app: App,
    gate: Gate,
}

impl World {
    /// With these tenants' files, and more flags.
    fn new(config: &str, tenants: &[&str], more: impl FnOnce(Builder) -> Builder) -> Self {
        let app = App::ok();
        let builder = Gate::before(&app).config(config);
        let folder = builder.dir().join("tenants");
        create_dir_all(&folder).unwrap();
        for tenant in tenants {
            write(folder.join(tenant), secret(tenant)).unwrap();
        }
        let gate = more(builder).start();
        World { app, gate }
    }

    fn of_dir(tenants: &[&str]) -> Self {
        World::new(DIR, tenants, |builder| builder)
    }

    fn folder(&self) -> PathBuf {
        self.gate.dir.join("tenants")
    }

    /// Status and reason.
    fn told(&self, request: &Request) -> (u16, String) {
        let answer = self.gate.send(request);
        (answer.status, self.gate.reason(&answer))
    }

    fn accepted(&self, request: &Request) {
        assert_eq!(self.told(request), (200, "accepted".to_owned()));
    }

    fn refused(&self, request: &Request) {
        assert_eq!(self.told(request), (401, "signature_mismatch".to_owned()));
    }
}

#[test]
fn a_tenants_key_judges_its_deliveries_and_nobody_elses() {
    let world = World::of_dir(&["acme", "globex"]);
    for (path_of, signed_by, reason) in [
        ("acme", "acme", "accepted"),
        ("globex", "globex", "accepted"),
        ("acme", "globex", "signature_mismatch"),
        ("globex", "acme", "signature_mismatch"),
        ("initech", "acme", "signature_mismatch"),
        ("initech", "initech", "signature_mismatch"),
    ] {
        assert_eq!(world.told(&event(path_of, signed_by)).1, reason, "{signed_by} to {path_of}");
    }
    for path in ["", "a/b", "acme/", "..", ".", "..data", "acme%2f", "%61cme", "ac me", "acme;x"] {
        let request = event("acme", "acme").to(&format!("/hooks/github/{path}"));
        let answer = world.gate.send(&request);
        assert!(matches!(answer.status, 404 | 400), "{path}: {}", answer.status);
    }
    assert_eq!(world.app.requests().len(), 2);
}

#[test]
fn the_application_is_told_whose_event_it_is_and_nobody_else_can_say_so() {
    let world = World::of_dir(&["acme"]);
    let request = event("acme", "acme")
        .with("Hookgate-Tenant", "globex")
        .with("hookgate_tenant", "globex")
        .with("HOOKGATE.Tenant", "globex");
    let answer = world.gate.send(&request);
    assert_eq!(answer.status, 200);
    let received = world.app.requests().remove(0);
    assert_eq!(received.headers.get("Hookgate-Tenant"), Some("acme"));
    assert!(
        received.headers.0.iter().filter(|(name, _)| name.to_lowercase().contains("tenant")).count() == 1
    );
    assert_eq!(received.headers.get("Hookgate-Key-Id"), Some("acme"));
    let line = world.gate.decision(&answer);
    assert_eq!(line["hookgate.tenant"], "acme");
    let refused = world.gate.send(&event("initech", "acme"));
    assert_eq!(world.gate.decision(&refused)["hookgate.tenant"], "initech", "as the sender named it");
    let text = world.gate.ops("/metrics").text();
    for name in ["acme", "initech", "globex"] {
        assert!(!text.contains(name), "no metric holds a tenant: {name}");
    }
}

#[test]
fn an_unknown_tenant_reads_as_a_wrong_signature() {
    let world = World::of_dir(&["acme"]);
    let plain = |answer: Response| {
        let mut headers = answer.headers.0.clone();
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("hookgate-request-id"));
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("date"));
        (answer.status, headers, answer.body)
    };
    let wrong = plain(world.gate.send(&event("acme", "globex")));
    assert_eq!(wrong.0, 401);
    for path_of in ["globex", "initech", "a"] {
        assert_eq!(plain(world.gate.send(&event(path_of, "acme"))), wrong, "{path_of}");
    }
}

#[test]
fn a_wrong_signature_waits_for_its_moment_whoevers_it_is() {
    let world = World::of_dir(&["acme"]);
    for path_of in ["acme", "initech"] {
        let took = (0..20).map(|_| {
            let started = Instant::now();
            world.refused(&event(path_of, "globex"));
            started.elapsed()
        });
        assert!(took.min() >= Some(Duration::from_millis(2)), "{path_of}");
    }
}

#[test]
fn the_same_event_of_two_tenants_is_two_events() {
    let app = App::ok();
    let builder = Gate::before(&app).config(
        "
routes:
  - name: standard
    path: /hooks/{tenant}
    provider: standard-webhooks
    secrets: { dir: DIR/tenants }
",
    );
    let text = "whsec_YSBrZXkgdGhhdCBvcGVucyBub3RoaW5nIGVsc2U=";
    create_dir_all(builder.dir().join("tenants")).unwrap();
    for tenant in ["acme", "globex"] {
        write(builder.dir().join("tenants").join(tenant), text).unwrap();
    }
    let gate = builder.start();
    let event = Signer::new("standard-webhooks", 0, text).event();
    let told = |tenant: &str| {
        let answer = gate.send(&event.clone().to(&format!("/hooks/{tenant}")));
        gate.reason(&answer)
    };
    assert_eq!(
        ["acme", "acme", "globex", "globex"].map(told),
        ["accepted", "duplicate", "accepted", "duplicate"]
    );
    let keys: Vec<_> = app
        .requests()
        .iter()
        .map(|r| r.headers.get("Hookgate-Idempotency-Key").unwrap().to_owned())
        .collect();
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn a_key_that_is_new_counts_at_once_and_one_that_is_removed_is_refused_soon() {
    let world = World::of_dir(&["acme"]);
    world.accepted(&event("acme", "acme"));
    world.refused(&event("initech", "initech"));
    write(world.folder().join("initech"), secret("initech")).unwrap();
    write(world.folder().join("acme"), secret("acme, newer")).unwrap();
    // Within a second or so, which is what the route says.
    let started = Instant::now();
    until("the new tenant", || world.gate.send(&event("initech", "initech")).status == 200);
    until("the new secret", || world.gate.send(&event("acme", "acme, newer")).status == 200);
    until("the old secret to go", || world.gate.send(&event("acme", "acme")).status == 401);
    remove_file(world.folder().join("acme")).unwrap();
    until("the tenant to go", || world.gate.send(&event("acme", "acme, newer")).status == 401);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    world.accepted(&event("initech", "initech"));
}

#[test]
fn a_new_secret_is_looked_for_when_the_old_one_does_not_fit() {
    let config = DIR.replace("cache: 1s", "cache: 1h");
    let world = World::new(&config, &["acme"], |builder| builder);
    world.accepted(&event("acme", "acme"));
    write(world.folder().join("acme"), secret("acme, newer")).unwrap();
    until("the new secret, long before the cache ends", || {
        world.gate.send(&event("acme", "acme, newer")).status == 200
    });
    world.refused(&event("acme", "acme"));
}

#[test]
fn a_signal_makes_it_look_again() {
    let config = DIR.replace("cache: 1s", "cache: 1h");
    let world = World::new(&config, &["acme"], |builder| builder);
    world.accepted(&event("acme", "acme"));
    remove_file(world.folder().join("acme")).unwrap();
    world.accepted(&event("acme", "acme"));
    world.gate.signal("HUP");
    until("the removed tenant to go", || world.gate.send(&event("acme", "acme")).status == 401);
}

#[test]
fn a_tenant_rotates_with_two_files_and_the_log_says_which_key_it_was() {
    let world = World::of_dir(&[]);
    create_dir(world.folder().join("acme")).unwrap();
    for id in ["2026-05", "2026-11"] {
        write(world.folder().join("acme").join(id), secret(id)).unwrap();
    }
    for id in ["2026-05", "2026-11"] {
        let answer = world.gate.send(&event("acme", id));
        assert_eq!(answer.status, 200);
        assert_eq!(world.gate.decision(&answer)["hookgate.key_id"], id);
    }
    let told: Vec<_> =
        world.app.requests().iter().map(|r| r.headers.get("Hookgate-Key-Id").unwrap().to_owned()).collect();
    assert_eq!(told, ["2026-05", "2026-11"]);
}

#[test]
fn a_mounted_secret_is_swapped_and_no_link_leads_out_of_it() {
    let world = World::of_dir(&[]);
    let folder = world.folder();
    write(world.gate.dir.join("outside"), secret("outside")).unwrap();
    for (version, of) in [("..2026_1", "first"), ("..2026_2", "second")] {
        create_dir(folder.join(version)).unwrap();
        write(folder.join(version).join("acme"), secret(of)).unwrap();
    }
    symlink("..2026_1", folder.join("..data")).unwrap();
    symlink("..data/acme", folder.join("acme")).unwrap();
    symlink("../outside", folder.join("out")).unwrap();
    symlink("/etc/hostname", folder.join("absolute")).unwrap();
    world.accepted(&event("acme", "first"));
    symlink("..2026_2", folder.join("..next")).unwrap();
    rename(folder.join("..next"), folder.join("..data")).unwrap();
    until("the swapped secret", || world.gate.send(&event("acme", "second")).status == 200);
    for out in ["out", "absolute"] {
        let (status, reason) = world.told(&event(out, "outside"));
        assert_eq!((status, &*reason), (503, "store_unavailable"), "{out}: it is there and is not read");
    }
    world.gate.log.find("what cannot be read", |line| {
        line["event.name"] == "hookgate.tenants" && line["body"].as_str().unwrap().contains("leads out")
    });
    let hidden = event("acme", "second").to("/hooks/github/..data");
    assert_eq!(world.gate.send(&hidden).status, 404, "what a mount keeps for itself is no tenant");
}

#[test]
fn a_folder_that_is_away_leaves_known_tenants_alone_and_refuses_nobody() {
    let world = World::of_dir(&["acme", "globex"]);
    world.accepted(&event("acme", "acme"));
    let away = world.gate.dir.join("away");
    rename(world.folder(), &away).unwrap();
    std::thread::sleep(Duration::from_millis(2100)); // older than the cache
    for _ in 0..5 {
        world.accepted(&event("acme", "acme"));
        let answer = world.gate.send(&event("globex", "globex"));
        assert_eq!((answer.status, &*world.gate.reason(&answer)), (503, "store_unavailable"));
        assert!(answer.header("Retry-After").is_some());
        assert_eq!(world.told(&event("initech", "initech")).1, "store_unavailable", "nobody can say");
    }
    let metrics = world.gate.metrics();
    assert!(metrics.value("hookgate_tenant_stale_keys_total{route=\"github\"}") >= 4.0);
    until("the metric", || {
        world.gate.metrics().value("hookgate_tenant_source_up{route=\"github\"}").abs() < f64::EPSILON
    });
    world.gate.log.find("that it is told", |line| {
        line["event.name"] == "hookgate.tenants" && line["severity_text"] == "ERROR"
    });
    rename(&away, world.folder()).unwrap();
    until("the folder to be back", || world.gate.send(&event("globex", "globex")).status == 200);
    world.gate.log.find("that it is told", |line| {
        line["event.name"] == "hookgate.tenants" && line["severity_text"] == "INFO"
    });
}

/// From what is asked for to the whole answer.
type Answering = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// What answers on a socket, and how often it was asked for whom.
struct Keys {
    path: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<Answering>>,
    open: Arc<AtomicUsize>,
}

impl Keys {
    fn at(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let answer: Arc<Mutex<Answering>> = Arc::new(Mutex::new(Arc::new(found)));
        let open = Arc::new(AtomicUsize::new(0));
        let (log, says, now) = (Arc::clone(&asked), Arc::clone(&answer), Arc::clone(&open));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (log, says, now) = (Arc::clone(&log), Arc::clone(&says), Arc::clone(&now));
                std::thread::spawn(move || {
                    now.fetch_add(1, Ordering::SeqCst);
                    let mut bytes = [0; 4096];
                    let read = stream.read(&mut bytes).unwrap_or_default();
                    let line =
                        String::from_utf8_lossy(&bytes[..read]).lines().next().unwrap_or_default().to_owned();
                    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
                    lock(&log).push(target.clone());
                    let answer = Arc::clone(&lock(&says)); // others are answered meanwhile
                    let said = answer(&target);
                    now.fetch_sub(1, Ordering::SeqCst);
                    _ = stream.write_all(said.as_bytes());
                });
            }
        });
        Keys { path: path.to_owned(), asked, answer, open }
    }

    fn says(&self, answer: impl Fn(&str) -> String + Send + Sync + 'static) {
        *lock(&self.answer) = Arc::new(answer);
    }

    fn asked(&self) -> Vec<String> {
        lock(&self.asked).clone()
    }
}

fn json(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

/// Every tenant whose name begins with `known`.
fn found(target: &str) -> String {
    match target.strip_prefix("/github/") {
        Some(tenant) if tenant.starts_with("known") => {
            json(&format!(r#"{{"secrets":[{{"id":"k1","secret":"{}"}}]}}"#, secret(tenant)))
        }
        _ => NOT_FOUND.to_owned(),
    }
}

fn of_socket(settings: &str) -> (World, Keys) {
    let app = App::ok();
    let config = format!(
        "
routes:
  - name: github
    path: /hooks/github/{{tenant}}
    provider: github
    secrets: {{ socket: DIR/keys.sock, {settings} }}
"
    );
    let builder = Gate::before(&app).config(&config);
    let keys = Keys::at(&builder.dir().join("keys.sock"));
    (World { app, gate: builder.start() }, keys)
}

#[test]
fn a_socket_is_asked_once_for_each_tenant_and_its_word_is_kept() {
    let (world, keys) = of_socket("cache: 10m, negative: 10s, max: 100");
    for _ in 0..3 {
        world.accepted(&event("known1", "known1"));
        world.refused(&event("nobody", "known1"));
        world.refused(&event("known1", "nobody"));
    }
    assert_eq!(keys.asked(), ["/github/known1", "/github/nobody"]);
    assert_eq!(world.app.requests()[0].headers.get("Hookgate-Key-Id"), Some("k1"));
}

#[test]
fn many_deliveries_for_one_tenant_ask_once() {
    let (world, keys) = of_socket("cache: 10m");
    keys.says(|target| {
        std::thread::sleep(Duration::from_millis(300));
        found(target)
    });
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(world.gate.send(&event("known1", "known1")).status, 200));
        }
    });
    assert_eq!(keys.asked(), ["/github/known1"]);
}

#[test]
fn what_a_socket_answers_badly_is_no_refusal() {
    let (world, keys) = of_socket("cache: 10m");
    for (n, answer) in [
        json("{}"),
        json("nonsense"),
        json(r#"{"secrets":[{"id":"a b","secret":"x"}]}"#),
        "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{".to_owned(),
        "SSH-2.0-x\r\n".to_owned(),
        String::new(),
    ]
    .into_iter()
    .enumerate()
    {
        keys.says(move |_| answer.clone());
        let tenant = format!("known{n}");
        // After some failures in a row it is asked once a second.
        eventually("an answer of its own", || {
            let before = keys.asked().len();
            let told = world.told(&event(&tenant, &tenant));
            assert_eq!(told, (503, "store_unavailable".to_owned()), "{n}");
            (keys.asked().len() > before).then_some(())
        });
    }
    keys.says(found);
    until("a good answer", || world.gate.send(&event("known9", "known9")).status == 200);
    assert!(!world.gate.log.text().contains(&secret("known")), "no secret is told");
}

#[test]
fn an_end_that_a_source_names_is_kept_to() {
    let (world, keys) = of_socket("cache: 10m");
    keys.says(|_| {
        json(&format!(
            r#"{{"secrets":[{{"id":"new","secret":"{}"}},{{"id":"old","secret":"{}","not_after":"2026-01-01"}}]}}"#,
            secret("new"),
            secret("old")
        ))
    });
    world.accepted(&event("known", "new"));
    world.refused(&event("known", "old"));
    let hint = |what: &str| {
        world
            .gate
            .log
            .find(what, |line| line["event.name"] == "hookgate.hints" && line.to_string().contains(what))
    };
    hint("not_after has passed");
    keys.says(|_| NOT_FOUND.to_owned());
    world.refused(&event("somebody", "new"));
    hint("there is no tenant somebody");
}

#[test]
fn known_tenants_go_on_while_a_flood_of_names_asks_a_slow_source() {
    let (world, keys) = of_socket("cache: 10m, negative: 1s");
    world.accepted(&event("known1", "known1"));
    keys.says(|target| {
        std::thread::sleep(Duration::from_secs(1));
        found(target)
    });
    std::thread::scope(|scope| {
        for n in 0..30 {
            let world = &world;
            scope.spawn(move || {
                for m in 0..3 {
                    world.gate.send(&event(&format!("flood{n}-{m}"), "flood"));
                }
            });
        }
        until("the flood", || keys.open.load(Ordering::SeqCst) > 10);
        // The machine is busy as well; a source that is waited for takes longer than anything else.
        let took = |_| {
            let started = Instant::now();
            world.accepted(&event("known1", "known1"));
            started.elapsed()
        };
        let slow = (0..30).map(took).filter(|took| *took >= Duration::from_millis(950)).count();
        assert!(slow < 5, "{slow} of 30 waited");
    });
    _ = &keys.path;
}

#[test]
fn what_a_socket_says_of_one_name_does_not_make_it_away() {
    let (world, keys) = of_socket("cache: 10m");
    let bad = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    keys.says(move |target| if target.ends_with("odd") { bad.to_owned() } else { found(target) });
    for _ in 0..6 {
        assert_eq!(world.told(&event("odd", "odd")), (503, "store_unavailable".to_owned()));
    }
    world.accepted(&event("known1", "known1"));
    assert_eq!(keys.asked().len(), 7, "it was asked each time");
}

#[test]
fn a_header_or_the_body_names_the_tenant_and_a_wrong_one_is_an_unknown_tenant() {
    let config = "
routes:
  - name: by-header
    path: /by-header
    provider: github
    tenant: { from: \"header:X-Shop-Domain\" }
    secrets: { dir: DIR/tenants }
  - name: by-body
    path: /by-body
    provider: github
    tenant: { from: \"json:/account/id\" }
    secrets: { dir: DIR/tenants }
";
    let world = World::new(config, &["shop.example", "17"], |builder| builder);
    let by_header = |value: Option<&str>, signed_by: &str| {
        let event = signer(&secret(signed_by)).event().to("/by-header");
        let event = match value {
            Some(value) => event.with("X-Shop-Domain", value),
            None => event,
        };
        world.told(&event).1
    };
    assert_eq!(by_header(Some("shop.example"), "shop.example"), "accepted");
    for wrong in [None, Some(""), Some("../tenants/shop.example"), Some(".."), Some("17")] {
        assert_eq!(by_header(wrong, "shop.example"), "signature_mismatch", "{wrong:?}");
    }
    let twice = signer(&secret("shop.example")).event().to("/by-header");
    let twice = twice.with("X-Shop-Domain", "shop.example").with("x-shop-domain", "shop.example");
    assert_eq!(world.told(&twice).1, "signature_mismatch", "who is it?");
    let unlike = signer(&secret("shop.example")).event().to("/by-header");
    let unlike = unlike.with("X-Shop-Domain", "shop.example").with("X_Shop_Domain", "17");
    world.accepted(&unlike);
    let received = world.app.requests().pop().unwrap();
    assert!(received.headers.0.iter().all(|(name, _)| name != "X_Shop_Domain"), "look-alikes are removed");
    let by_body =
        |body: &str, signed_by: &str| world.told(&signer(&secret(signed_by)).sign(body).to("/by-body")).1;
    assert_eq!(by_body(r#"{"account":{"id":"17"},"n":1}"#, "17"), "accepted");
    assert_eq!(by_body(r#"{"account":{"id":17},"n":2}"#, "17"), "accepted");
    assert_eq!(world.app.requests().pop().unwrap().headers.get("Hookgate-Tenant"), Some("17"));
    for wrong in [
        r#"{"account":{"id":"shop.example"}}"#,
        r#"{"account":{"id":"17","id":"17"}}"#,
        r#"{"account":{}}"#,
        "account=17",
        "",
    ] {
        assert_eq!(by_body(wrong, "17"), "signature_mismatch", "{wrong}");
    }
}

#[test]
fn failures_for_one_tenant_do_not_use_up_what_others_have() {
    let config = format!("{DIR}    failure_limit: 5/1m\n");
    let world = World::new(&config, &["acme", "globex"], |builder| builder);
    let reasons = |path_of: &str, times: usize| {
        let mut reasons: Vec<_> = (0..times).map(|_| world.told(&event(path_of, "wrong")).1).collect();
        reasons.dedup();
        reasons
    };
    assert_eq!(reasons("acme", 5), ["signature_mismatch"]);
    // As fast as they come: what is over the budget is let through now and then.
    let is_limited = |name: &str| world.gate.send(&event(name, "wrong")).status == 429;
    assert!((0..100).any(|_| is_limited("acme")), "the budget is spent");
    world.accepted(&event("globex", "globex"));
    assert_eq!(reasons("globex", 4), ["signature_mismatch"], "another tenant of the same sender");
    assert!((0..200).any(|n| is_limited(&format!("invented{n}"))), "names are no new budget");
}

#[test]
fn an_observing_route_passes_on_what_an_unknown_tenant_sends_and_says_so() {
    let config = format!("{DIR}    mode: observe\n");
    let world = World::new(&config, &["acme"], |builder| builder);
    assert_eq!(world.told(&event("initech", "initech")), (200, "signature_mismatch".to_owned()));
    let received = world.app.requests().remove(0);
    assert_eq!(received.headers.get("Hookgate-Verdict"), Some("observed"));
    assert_eq!(received.headers.get("Hookgate-Tenant"), None, "nobody has proven it");
    world.accepted(&event("acme", "acme"));
    assert_eq!(world.app.requests()[1].headers.get("Hookgate-Tenant"), Some("acme"));
}

#[test]
fn a_handshake_is_answered_with_the_key_of_its_tenant() {
    let config = "
routes:
  - name: x
    path: /hooks/x/{tenant}
    provider: x-twitter
    secrets: { dir: DIR/tenants }
";
    let world = World::new(config, &["acme"], |builder| builder);
    let ask = |tenant: &str| {
        let mut sender = world.gate.connect();
        sender.send(format!(
            "GET /hooks/x/{tenant}?crc_token=abc123 HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n"
        ));
        sender.response()
    };
    let answer = ask("acme");
    assert_eq!(answer.status, 200);
    let signer = Signer::new("x-twitter", 0, &secret("acme"));
    let expected =
        data_encoding::BASE64.encode(&data_encoding::BASE64.decode(signer.tag("abc123").as_bytes()).unwrap());
    assert!(answer.text().contains(&expected), "{} {expected}", answer.text());
    let other = ask("initech");
    assert!(!other.text().contains(&expected));
}

#[test]
fn what_can_be_no_configuration_of_tenants_is_told_with_its_place_and_remedy() {
    let app = App::ok();
    for (route, key, says) in [
        (
            "path: /a/{tenant}\n    secrets: [{ file: DIR/key-1 }]",
            "secrets",
            "dir: … }, { store: … } or { socket",
        ),
        ("path: /a\n    secrets: { dir: DIR }", "secrets", "whose secrets? write {tenant}"),
        ("path: /a/{tenant}x\n    secrets: { dir: DIR }", "path", "write {tenant} once"),
        ("path: /a/{tenant}/*\n    secrets: { dir: DIR }", "path", "write {tenant} once"),
        ("path: /a/{customer}\n    secrets: { dir: DIR }", "path", "write {tenant} once"),
        (
            "path: /a/{tenant}\n    tenant: { from: \"header:X-Shop\" }\n    secrets: { dir: DIR }",
            "tenant.from",
            "leave one",
        ),
        (
            "path: /a\n    tenant: { from: \"query:shop\" }\n    secrets: { dir: DIR }",
            "tenant.from",
            "write header:X-Name",
        ),
        (
            "path: /a\n    tenant: { from: \"header:X Shop\" }\n    secrets: { dir: DIR }",
            "tenant.from",
            "no header name",
        ),
        ("path: /a/{tenant}\n    secrets: { dir: DIR/nothing }", "secrets.dir", "mount the folder"),
        ("path: /a/{tenant}\n    secrets: { dir: DIR/key-1 }", "secrets.dir", "mount the folder"),
        (
            "path: /a/{tenant}\n    secrets: { dir: DIR, socket: /run/x }",
            "secrets",
            "write one of dir, store and socket",
        ),
        ("path: /a/{tenant}\n    secrets: [{ dir: DIR }, { file: DIR/key-1 }]", "secrets", "no list"),
        ("path: /a/{tenant}\n    secrets: { dir: DIR, id: a }", "secrets", "leave them out"),
        ("path: /a/{tenant}\n    secrets: { cache: 10m }", "secrets", "name dir, store or socket"),
        ("path: /a/{tenant}\n    secrets: { store: \"tenants:a\" }", "secrets.store", "replay: { store"),
        ("path: /a/{tenant}\n    secrets: { socket: keys.sock }", "secrets.socket", "from the root"),
        ("path: /a/{tenant}\n    secrets: { socket: \"unix:/run/x\" }", "secrets.socket", "leave out unix:"),
        ("path: /a/{tenant}\n    secrets: { dir: DIR, cache: 0s }", "secrets.cache", "at least 1s"),
        ("path: /a/{tenant}\n    secrets: { dir: DIR, negative: 48h }", "secrets.negative", "at most 24h"),
        ("path: /a/{tenant}\n    secrets: { dir: DIR, max: 0 }", "secrets.max", "at least 1"),
        ("path: /a\n    secrets: [{ id: a }]", "secrets[0].file", "name the file"),
    ] {
        let builder =
            Gate::before(&app).config(&format!("routes:\n  - name: a\n    provider: github\n    {route}\n"));
        let told = run(&mut builder.command("check"));
        assert_eq!(told.code, Some(78), "{route}: {}", told.err);
        let place = told.err.lines().any(|line| line.contains("hookgate.yaml:") && line.contains(key));
        assert!(place && told.err.contains(says), "{route}: {}", told.err);
    }
}

#[test]
fn check_counts_tenants_and_names_those_whose_secrets_cannot_be_used() {
    let app = App::ok();
    let builder = Gate::before(&app).config(DIR);
    let folder = builder.dir().join("tenants");
    create_dir_all(folder.join("globex")).unwrap();
    for (name, text) in [
        ("acme", "a secret that is long enough"),
        ("globex/2026-11", "another secret that is long enough"),
        ("initech", "short"),
        ("umbrella", ""),
        ("bad name", "a third secret that is long enough"),
        ("twin", "a secret that is long enough"),
    ] {
        write(folder.join(name), text).unwrap();
    }
    symlink("/etc/hostname", folder.join("out")).unwrap();
    let told = run(&mut builder.command("check"));
    assert_eq!(told.code, Some(0), "{}", told.err);
    for says in [
        "4 tenants in",
        "(acme, globex, initech, …)",
        "initech: the secret initech cannot be used: the key has 5 bytes",
        "umbrella is empty",
        "\"bad name\" can be no tenant",
        "acme and twin share a secret",
        "leads out of the folder",
    ] {
        assert!(told.out.contains(says), "{says}: {}", told.out);
    }
    assert!(!told.out.contains("long enough"), "no secret is told");
}

#[test]
fn check_asks_whether_the_socket_answers_and_is_content_if_it_does_not() {
    let app = App::ok();
    let builder = Gate::before(&app).config(
        "routes: [{ name: github, path: '/hooks/github/{tenant}', provider: github, secrets: { socket: DIR/keys.sock } }]\n",
    );
    let told = || {
        let told = run(&mut builder.command("check"));
        assert_eq!(told.code, Some(0), "{}", told.err);
        told.out
    };
    let socket = builder.dir().join("keys.sock");
    let away = told();
    let says =
        format!("route github: tenants cannot be looked up from here: {}: No such file", socket.display());
    assert!(away.contains(&says) && away.contains("it answers 503"), "{away}");
    let keys = Keys::at(&socket);
    let answers = told();
    let says = format!("route github: tenants are asked for in {}, which answers", socket.display());
    assert!(answers.contains(&says) && !answers.contains("does it answer 404"), "{answers}");
    assert_eq!(keys.asked().len(), 1);
    keys.says(|_| json(&format!(r#"{{"secrets":[{{"secret":"{}"}}]}}"#, secret("everybody"))));
    let everybody = told();
    assert!(everybody.contains("does it answer 404 for one that there is not?"), "{everybody}");
    assert!(!everybody.contains("nobody else has"), "no secret is told");
    for (answer, says) in [
        ("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_owned(), "it answers 500"),
        (json("nonsense"), "what it answers is not"),
        ("SSH-2.0-x\r\n".to_owned(), "speaks no HTTP"),
    ] {
        keys.says(move |_| answer.clone());
        let told = told();
        assert!(
            told.contains("tenants cannot be looked up from here") && told.contains(says),
            "{says}: {told}"
        );
    }
}

#[test]
fn the_commands_know_tenants() {
    let config = format!("{DIR}    identity: delivery\n");
    let socket_dir = Dir::new();
    let socket = socket_dir.join("control.sock");
    let world =
        World::new(&config, &["acme", "globex"], |builder| builder.with("control-socket", socket.display()));
    let request = event("acme", "acme");
    world.accepted(&request);
    world.refused(&event("acme", "globex"));
    let ops = format!("--ops-listen={}", world.gate.ops_address());
    let report = |args: &[&str]| run(hookgate(&["report", &ops]).args(args));
    let told = report(&["--tenant", "acme"]);
    assert!(told.out.contains("acme on github") && told.out.contains("signature_mismatch"), "{}", told.out);
    assert_eq!(report(&["--tenant", "initech"]).code, Some(1));
    let json: serde_json::Value =
        serde_json::from_str(&report(&["--tenant", "acme", "-o", "json"]).out).unwrap();
    assert_eq!(json["tenants"][0]["ends"][0]["reason"], "accepted");

    let file = format!("--config={}", world.gate.dir.join("hookgate.yaml").display());
    let capture = world.gate.dir.write("capture", request.bytes());
    let verify =
        |args: &[&str]| run(hookgate(&["verify", &file, "-o", "json", capture.to_str().unwrap()]).args(args));
    let told: serde_json::Value = serde_json::from_str(&verify(&[]).out).unwrap();
    assert_eq!((&told["verdict"], &told["tenant"]), (&"accepted".into(), &"acme".into()));
    let told: serde_json::Value = serde_json::from_str(&verify(&["--tenant", "globex"]).out).unwrap();
    assert_eq!((&told["reason"], &told["tenant"]), (&"signature_mismatch".into(), &"globex".into()));
    let told = verify(&["--tenant", "initech"]);
    assert_eq!(told.code, Some(1), "{}", told.err);
    let told: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!((&told["verdict"], &told["reason"]), (&"refused".into(), &"signature_mismatch".into()));
    assert!(told["hints"].to_string().contains("there is no tenant initech"), "{told}");
    let signed = run(hookgate(&["sign", &file, "--tenant", "acme"]).stdin(std::process::Stdio::null()));
    assert!(signed.out.to_lowercase().contains("x-hub-signature-256"), "{}", signed.err);

    let id = request.headers.get("X-GitHub-Delivery").expect("an id").to_owned();
    let forget = |args: &[&str]| {
        let socket = format!("--control-socket={}", socket.display());
        run(hookgate(&["forget", &socket, "--route", "github", "--event", &id]).args(args))
    };
    assert!(forget(&[]).err.contains("--tenant"));
    assert_eq!(forget(&["--tenant", "globex"]).code, Some(1), "it was not theirs");
    let told = forget(&["--tenant", "acme"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    world.accepted(&request);
}

/// The example that stands beside the documentation, with a database of its own.
#[test]
fn the_example_of_a_socket_server_serves_a_gate() {
    let Some(python) = program("python3") else { return eprintln!("SKIPPED: python3 is not on PATH") };
    let app = App::ok();
    let builder = Gate::before(&app).config(
        "routes: [{ name: github, path: '/hooks/github/{tenant}', provider: github, secrets: { socket: DIR/keys.sock, cache: 1s } }]\n",
    );
    let (socket, database) = (builder.dir().join("keys.sock"), builder.dir().join("keys.db"));
    let make = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
                c.execute('CREATE TABLE secrets (route TEXT, tenant TEXT, id TEXT, secret TEXT, not_after TEXT, since TEXT)'); \
                c.execute('INSERT INTO secrets VALUES (?, ?, ?, ?, NULL, ?)', ('github', 'acme', '2026-11', sys.argv[2], '2026-11-01')); \
                c.commit()";
    assert_eq!(
        run(Command::new(&python).args(["-c", make]).arg(&database).arg(secret("acme"))).code,
        Some(0)
    );
    let mut server =
        Command::new(&python).arg("conf/examples/tenants.py").arg(&socket).arg(&database).spawn().unwrap();
    until("the example to listen", || socket.exists());
    let world = World { app, gate: builder.start() };
    world.accepted(&event("acme", "acme"));
    assert_eq!(world.app.requests()[0].headers.get("Hookgate-Key-Id"), Some("2026-11"));
    world.refused(&event("globex", "acme"));
    remove_file(&database).unwrap();
    std::thread::sleep(Duration::from_millis(2100)); // older than the cache
    world.accepted(&event("acme", "acme"));
    assert_eq!(world.told(&event("initech", "acme")), (503, "store_unavailable".to_owned()), "it cannot say");
    server.kill().unwrap();
    server.wait().unwrap();
}
