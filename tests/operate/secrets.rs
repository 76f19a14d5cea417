//! What must stay inside stays inside: secrets that are easily recognised, and signatures,
//! bodies, query strings, cookies and credentials of all kinds of traffic, are searched for
//! in everything that the program prints and that its ops listener tells.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU8, Ordering};

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};

use crate::support::gate::{get, hookgate, run};
use crate::support::{self, Answer, App, Builder, Dir, Request, Sender, Signer, until};

const KEY: &[u8] = b"canary-key-that-sings-if-it-is-seen";
const BODY: &str = "canary-body";
const QUERY: &str = "canary-query";
const COOKIE: &str = "canary-cookie";
const AUTHORIZATION: &str = "canary-authorization";

/// The text of the secret, as a provider would show it.
fn secret() -> String {
    format!("whsec_{}", BASE64.encode(KEY))
}

/// What is looked for, in each form in which it might be printed.
#[derive(Default)]
struct Canaries(Vec<(String, Vec<u8>)>);

impl Canaries {
    /// What no output may hold, whatever was sent.
    fn new() -> Self {
        let mut canaries = Canaries::default();
        canaries.add("the secret", secret().as_bytes());
        canaries.add("the key", KEY);
        for (name, text) in
            [("body", BODY), ("query", QUERY), ("cookie", COOKIE), ("authorization", AUTHORIZATION)]
        {
            canaries.add(name, text.as_bytes());
        }
        canaries
    }

    fn add(&mut self, name: &str, bytes: &[u8]) {
        let encoded = |encode: &dyn Fn(&[u8]) -> String| encode(bytes).into_bytes();
        // The last group of base64 depends on what follows.
        let whole = &bytes[..bytes.len() / 3 * 3];
        for (form, text) in [
            ("as it is", bytes.to_vec()),
            ("in hex", encoded(&|b| HEXLOWER.encode(b))),
            ("in upper-case hex", encoded(&|b| HEXUPPER.encode(b))),
            ("in base64", BASE64_NOPAD.encode(whole).into_bytes()),
            ("in base64url", BASE64URL_NOPAD.encode(whole).into_bytes()),
            ("as a list of bytes", format!("{bytes:?}").trim_matches(['[', ']']).as_bytes().to_vec()),
        ] {
            self.0.push((format!("{name} {form}"), text));
        }
    }

    /// The signatures of a request, too.
    fn of(&mut self, request: &Request) {
        for (name, value) in &request.headers.0 {
            if name.contains("signature") {
                let tag = value.rsplit([',', '=']).find(|part| part.len() > 20);
                self.0.extend(tag.map(|tag| (format!("{name} {value}"), tag.as_bytes().to_vec())));
            }
        }
    }

    fn assert_absent(&self, place: &str, output: &[u8]) {
        for (name, needle) in &self.0 {
            let found = output.windows(needle.len()).position(|window| window == needle);
            if let Some(at) = found {
                let around = &output[at.saturating_sub(200)..output.len().min(at + 200)];
                panic!("{place} shows {name}: {}", String::from_utf8_lossy(around));
            }
        }
    }
}

/// A gate whose whole output is kept in files, so that nothing of it is missed.
struct Watched {
    dir: Dir,
    child: Child,
    traffic: SocketAddr,
    ops: SocketAddr,
}

impl Watched {
    fn start(builder: &Builder, upstream: &str, with: impl Fn(&mut Command)) -> Self {
        // A log that is almost silent names no ports, so they are known before.
        static COUNT: AtomicU8 = AtomicU8::new(1);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let host = [127, 128 | (high & 0x3f), low, COUNT.fetch_add(1, Ordering::Relaxed)];
        let (traffic, ops) = (SocketAddr::from((host, 17080)), SocketAddr::from((host, 17090)));
        let dir = Dir::new();
        let mut command = builder.command("run");
        command.args([
            format!("--listen={traffic}"),
            format!("--ops-listen={ops}"),
            format!("--upstream={upstream}"),
        ]);
        command.stdout(File::create(dir.join("out")).unwrap()).stderr(File::create(dir.join("err")).unwrap());
        with(&mut command);
        let child = command.spawn().unwrap();
        let gate = Watched { dir, child, traffic, ops };
        until("readiness", || TcpStream::connect(ops).is_ok() && get(ops, "/readyz").status == 200);
        gate
    }

    fn send(&self, bytes: &[u8]) -> Option<u16> {
        let mut sender = Sender::connect(self.traffic);
        sender.send(bytes);
        sender.half_close();
        sender.try_response().ok().map(|answer| answer.status)
    }

    /// Ends it, and gives all that it has printed.
    fn printed(mut self) -> Vec<(&'static str, Vec<u8>)> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        until("the end of the gate", || self.child.try_wait().unwrap().is_some());
        let read = |name: &str| fs::read(self.dir.join(name)).unwrap();
        vec![("stdout", read("out")), ("stderr", read("err"))]
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A genuine request with something private in every place.
fn private(signer: &Signer, n: usize) -> Request {
    let id = support::sender::unique("evt");
    let body = format!(r#"{{"id":"{id}","type":"t","n":{n},"data":"{BODY}"}}"#);
    signer
        .sign_at(support::sender::now_ms(), &id, body.as_bytes())
        .to(&format!("/webhooks?token={QUERY}"))
        .with("Cookie", COOKIE)
        .with("Authorization", &format!("Bearer {AUTHORIZATION}"))
        .with("Proxy-Authorization", &format!("Basic {AUTHORIZATION}"))
}

/// Good, bad and odd requests.
fn traffic(signer: &Signer) -> Vec<(Request, Vec<u8>)> {
    let event = |n| private(signer, n);
    let header = signer.header();
    let good = event(0);
    let mut all = vec![
        (good.clone(), good.bytes()),
        (good.clone(), good.bytes()),
        (event(1).tampered(), event(1).tampered().bytes()),
    ];
    let mut add = |request: Request, bytes: Vec<u8>| all.push((request, bytes));
    for request in
        [event(2).without(header), event(3).with(header, "v1,canary"), event(4).to("/elsewhere?canary-query")]
    {
        add(request.clone(), request.bytes());
    }
    let stale =
        signer.sign_at(1_000_000_000_000, "evt_old", format!(r#"{{"id":"x","d":"{BODY}"}}"#).as_bytes());
    add(stale.clone(), stale.bytes());
    let twice = signer.sign(format!(r#"{{"id":"a","id":"b","data":"{BODY}"}}"#));
    add(twice.clone(), twice.bytes());
    let whole = event(5);
    let bytes = whole.bytes();
    add(whole.clone(), bytes[..bytes.len() - 3].to_vec());
    add(whole.clone(), bytes[..bytes.len() / 2].to_vec());
    add(whole.clone(), [&bytes[..], &bytes].concat());
    add(whole.clone(), whole.bytes().iter().map(|b| if *b == b'\r' { b'\n' } else { *b }).collect());
    add(whole.clone(), whole.head("Content-Length: 5, 5\r\n").into_bytes());
    add(whole.clone(), whole.head("Content-Length: 99999999999\r\n").into_bytes());
    add(
        whole.clone(),
        [whole.head("Transfer-Encoding: chunked\r\n").as_bytes(), b"zz", &whole.body].concat(),
    );
    add(whole.clone(), whole.head(&format!("X-Big: {}\r\n", BODY.repeat(5000))).into_bytes());
    add(whole.clone(), [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BODY.as_bytes()].concat());
    add(whole, [b"\x16\x03\x01\x02\x00", BODY.as_bytes()].concat());
    all
}

/// Every kind of answer of the application, the last for good.
fn application() -> App {
    let broken = Answer::raw(format!("{BODY} is no HTTP\r\n\r\n"));
    App::script([Answer::ok(), Answer::status(500), Answer::reset(), broken, Answer::status(302)])
}

fn builder(provider: &str) -> Builder {
    let builder = Builder::new("http://127.0.0.1:9").with("provider", provider);
    let builder = builder.without("listen").without("ops-listen").without("upstream");
    builder.dir().write("canary", secret());
    let path = builder.dir().join("canary");
    builder.with("secret-file", path.display()).with("shutdown-timeout", "1s")
}

const OPS: [&str; 8] = [
    "/metrics",
    "/version",
    "/livez",
    "/startupz",
    "/readyz",
    "/readyz?verbose",
    "/?canary-query",
    "/config",
];

#[test]
fn no_log_and_no_probe_shows_what_is_private() {
    std::thread::scope(|scope| {
        for provider in ["github", "standard-webhooks", "stripe"] {
            scope.spawn(move || {
                for (level, format, from_environment) in [
                    ("error", "text", false),
                    ("warn", "json", true),
                    ("info", "text", true),
                    ("info", "json", false),
                    ("debug", "text", false),
                    ("debug", "json", true),
                ] {
                    is_discreet(provider, level, format, from_environment);
                }
            });
        }
    });
}

fn is_discreet(provider: &str, level: &str, format: &str, from_environment: bool) {
    let place = format!("{provider} at {level} in {format}, secret in environment {from_environment}");
    let app = application();
    let builder = builder(provider).with("log-level", level).with("log-format", format);
    let builder = if from_environment { builder.without("secret-file") } else { builder };
    let gate = Watched::start(&builder, &app.url(), |command| {
        if from_environment {
            command.env("HOOKGATE_SECRET", secret());
        }
    });
    let canaries = watch(&gate, &Signer::new(provider, 0, &secret()), &place, app);
    for (stream, text) in gate.printed() {
        canaries.assert_absent(&format!("{stream} of {place}"), &text);
        assert!(stream != "stdout" || level != "debug" || text.len() > 1000, "{place}: it does log");
    }
}

/// Sends everything, looks at the answers of the ops listener, and gives what to look for
/// in the rest.
fn watch(gate: &Watched, signer: &Signer, place: &str, mut app: App) -> Canaries {
    let mut canaries = Canaries::new();
    let mut seen = Vec::new();
    for (request, bytes) in traffic(signer) {
        canaries.of(&request);
        seen.extend(gate.send(&bytes));
    }
    for n in 90..93 {
        seen.extend(gate.send(&private(signer, n).bytes()));
    }
    app.stop();
    // A connection that was kept may be found broken first.
    until("the application to be missed", || gate.send(&private(signer, 99).bytes()) == Some(503));
    for expected in [200, 302, 400, 401, 404, 413, 431, 500, 502] {
        assert!(seen.contains(&expected), "{place}: no {expected} in {seen:?}");
    }
    for target in OPS {
        let answer = get(gate.ops, target);
        canaries.assert_absent(&format!("{target} of {place}"), answer.line.as_bytes());
        canaries.assert_absent(&format!("{target} of {place}"), &answer.body);
    }
    canaries
}

/// Everything that a command prints.
fn assert_discreet(place: &str, command: &mut Command) -> Option<i32> {
    let done = run(command);
    Canaries::new().assert_absent(&format!("stdout of {place}"), done.out.as_bytes());
    Canaries::new().assert_absent(&format!("stderr of {place}"), done.err.as_bytes());
    assert!(!done.out.is_empty() || !done.err.is_empty(), "{place} prints something");
    done.code
}

#[test]
fn a_check_shows_every_setting_but_no_secret() {
    for provider in ["github", "standard-webhooks", "stripe", "scalekit"] {
        let builder = builder(provider);
        for output in ["text", "json"] {
            let mut from_file = builder.command("check");
            from_file.args(["-o", output]);
            assert_eq!(assert_discreet("check", &mut from_file), Some(0));
            let mut from_environment = hookgate(&["check", "-o", output, "--provider", provider]);
            from_environment.env("HOOKGATE_SECRET", secret());
            assert_eq!(assert_discreet("check with HOOKGATE_SECRET", &mut from_environment), Some(0));
        }
    }
}

#[test]
fn help_and_mistakes_on_the_command_line_show_no_secret() {
    for (args, code) in [
        (&["--help"][..], 0),
        (&["run", "--help"], 0),
        (&["run", "--no-such-flag"], 2),
        (&["run", "--max-body=lots"], 2),
        (&["check", "--provider=nobody"], 78),
        (&["schema"], 0),
    ] {
        let mut command = hookgate(args);
        command.env("HOOKGATE_SECRET", secret());
        assert_eq!(assert_discreet(&format!("{args:?}"), &mut command), Some(code), "{args:?}");
    }
    let flag = format!("--secret={}", secret());
    assert_eq!(assert_discreet("--secret", &mut hookgate(&["run", &flag])), Some(2), "there is no such flag");
}

#[test]
fn a_broken_configuration_is_explained_without_its_secret() {
    let route = "routes: [{ name: a, path: /a, provider: PROVIDER, secrets: [SECRETS] }]\n";
    let file = "{ id: a, file: DIR/canary }";
    let own = |name: &str| format!("{{ id: {name}, file: DIR/{name} }}");
    for (what, provider, secrets, files) in [
        ("the same id twice", "github", format!("{file}, {file}"), vec![]),
        ("a secret that is no base64", "svix", own("odd"), vec![("odd", format!("whsec_!{}", secret()))]),
        ("a secret that is too short", "github", own("short"), vec![("short", "canary-key".to_owned())]),
        ("a secret in place of its file", "github", format!("{{ id: a, secret: {} }}", secret()), vec![]),
        ("a secret without a name", "github", secret(), vec![]),
        ("a secret in a string that does not end", "github", format!("\"{}", secret()), vec![]),
        (
            "a secret with bytes that are no text",
            "svix",
            own("odd"),
            vec![("odd", format!("{}\u{0}", secret()))],
        ),
    ] {
        let builder = builder(provider);
        for (name, content) in files {
            builder.dir().write(name, content);
        }
        let builder = builder.config(&route.replace("PROVIDER", provider).replace("SECRETS", &secrets));
        for command in ["check", "run"] {
            let place = format!("{command} with {what}");
            assert_eq!(assert_discreet(&place, &mut builder.command(command)), Some(78), "{place}");
        }
    }
}

#[test]
fn a_secret_that_fits_nothing_is_named_and_not_shown() {
    let builder = builder("svix");
    let odd = builder.dir().write("odd", format!("whsec_!{}", secret()));
    let builder = builder.and("secret-file", odd.display());
    assert_eq!(assert_discreet("check", &mut builder.command("check")), Some(0), "the other one works");
}

#[test]
fn a_reload_of_secrets_is_told_without_them() {
    let app = App::ok();
    let builder = builder("github").with("log-level", "debug").with("log-format", "json");
    let path = builder.dir().join("canary");
    let gate = Watched::start(&builder, &app.url(), |_| {});
    for (secret, result) in
        [(format!("{}\n", secret()), "success"), (String::new(), "failure"), ("canary-key".into(), "failure")]
    {
        let count = |result: &str| {
            let text = get(gate.ops, "/metrics").text();
            let line = |line: &&str| line.starts_with("hookgate_reloads_total") && line.contains(result);
            text.lines()
                .filter(line)
                .map(|l| l.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
                .sum::<f64>()
        };
        let before = count(result);
        fs::write(&path, secret).unwrap();
        assert!(
            Command::new("kill").args(["-HUP", &gate.child.id().to_string()]).status().unwrap().success()
        );
        until("the reload", || count(result) > before);
    }
    for (stream, text) in gate.printed() {
        let mut canaries = Canaries::new();
        canaries.add("the short secret", b"canary-key");
        canaries.assert_absent(stream, &text);
    }
}

#[test]
fn a_canary_that_sings_is_heard() {
    let shows = |text: &[u8]| {
        let text = text.to_vec();
        std::panic::catch_unwind(|| Canaries::new().assert_absent("a text", &text)).is_err()
    };
    assert!(!shows(b"nothing to see"));
    for form in [
        secret().into_bytes(),
        KEY.to_vec(),
        HEXLOWER.encode(KEY).into_bytes(),
        format!("{KEY:?}").into_bytes(),
    ] {
        assert!(shows(&[b"before ", &form[..], b" after"].concat()));
    }
    assert!(shows(format!("Basic {}", BASE64.encode(KEY)).as_bytes()));
}
