//! The providers' own SDKs against the gate: what they sign gets through, and what `hookgate`
//! signs they take. They are installed beside the build, in the versions that `sdk/` names; where
//! Node, Python or the registry cannot be reached, a test says that it skips.

#![allow(clippy::unwrap_used)]

mod resigned;
#[allow(dead_code, unused_imports, reason = "a part of it; `attacks` shows what nobody uses")]
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hookgate::config::provider::preset;
use hookgate::config::scheme::compile;
use hookgate::gate::scheme::sign::{Unsigned, lines};
use serde::{Deserialize, Serialize};
use support::{App, Gate, Request, sender};

/// A delivery as an SDK has signed it.
#[derive(Deserialize)]
struct Signed {
    provider: String,
    /// Its name, version and the call.
    sdk: String,
    secret: String,
    /// What the provider was given, if it signs that.
    url: Option<String>,
    query: Option<String>,
    headers: BTreeMap<String, String>,
    body: String,
    tampered: String,
}

/// A delivery for an SDK to judge.
#[derive(Serialize)]
struct Presented {
    provider: &'static str,
    secret: &'static str,
    url: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: String,
}

#[test]
fn what_an_sdk_signs_gets_through_once_and_only_as_it_was() {
    for sdks in Sdks::installed() {
        let seconds = (sender::now_ms() / 1000).to_string();
        let signed: Vec<Signed> = serde_json::from_str(&sdks.run("sign", &[&seconds], "")).unwrap();
        assert!(signed.len() > 5, "the script signs something");
        pass(&signed);
    }
}

fn pass(signed: &[Signed]) {
    let app = App::ok();
    let mut gate = Gate::before(&app);
    let mut routes = BTreeMap::new();
    for Signed { provider, secret, url, .. } in signed {
        gate.dir().write(provider, secret);
        let url = url.as_ref().map(|url| format!("    public_url: {url}\n")).unwrap_or_default();
        let route = format!(
            "  - name: {provider}\n    path: /hooks/{provider}\n    provider: {provider}\n{url}    identity: signed\n    \
             secrets: [{{ id: key, file: DIR/{provider} }}]\n"
        );
        routes.insert(provider, route);
    }
    gate = gate.config(&format!("routes:\n{}", routes.into_values().collect::<String>()));
    let gate = gate.start();

    for (n, signed) in signed.iter().enumerate() {
        let sdk = &signed.sdk;
        let refused = gate.send(&signed.request(&signed.tampered));
        let reason = gate.reason(&refused);
        assert!(reason.starts_with("signature_"), "{sdk}: a changed body is {reason}");
        assert_eq!(app.seen(), n, "{sdk}: a changed body reached the application");

        let accepted = gate.send(&signed.request(&signed.body));
        assert_eq!(gate.reason(&accepted), "accepted", "{sdk}");
        assert_eq!(app.requests()[n].body, signed.body.as_bytes(), "{sdk}");

        let repeated = gate.send(&signed.request(&signed.body));
        assert_eq!(gate.reason(&repeated), "duplicate", "{sdk}");
        assert_eq!(app.seen(), n + 1, "{sdk}: a repetition reached the application");
    }
    println!("{} deliveries, signed by {}", signed.len(), sdks_of(signed));
}

fn sdks_of(signed: &[Signed]) -> String {
    let names: Vec<_> = signed.iter().map(|signed| signed.sdk.as_str()).collect();
    names.join("; ")
}

impl Signed {
    fn request(&self, body: &str) -> Request {
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let headers = self.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
        Request {
            target: format!("/hooks/{}{query}", self.provider),
            headers: support::Headers(headers.collect()),
            body: body.as_bytes().to_vec(),
        }
    }
}

/// A body, and the same body changed.
const JSON: (&str, &str) = (r#"{"id":"evt_1","note":"genuine"}"#, r#"{"id":"evt_1","note":"altered"}"#);
const FORM: (&str, &str) = ("CallSid=CA1&Note=genuine+%26+so", "CallSid=CA1&Note=altered+%26+so");
/// Which SDK judges what: provider, scheme and body.
const BY_NODE: &[(&str, usize, (&str, &str))] = &[
    ("bird-messagebird", 0, JSON),
    ("bird-messagebird", 2, JSON),
    ("github", 0, JSON),
    ("line", 0, JSON),
    ("mailersend", 0, JSON),
    ("paddle", 0, JSON),
    ("standard-webhooks", 0, JSON),
    ("stripe", 0, JSON),
    ("svix", 0, JSON),
    ("twilio", 1, FORM),
];
const BY_PYTHON: &[(&str, usize, (&str, &str))] =
    &[("plivo-v3", 0, FORM), ("qstash", 0, JSON), ("razorpay", 0, JSON), ("slack", 0, JSON)];
/// These sign no body: another key must do for the changed body.
const UNSIGNED_BODY: &[(&str, usize)] = &[("mercado-pago", 0), ("plivo-v2", 0)];

#[test]
fn what_hookgate_signs_the_sdks_take() {
    let now_ms = sender::now_ms();
    for sdks in Sdks::installed() {
        let mut presented = Vec::new();
        for (provider, scheme, (body, changed)) in sdks.judges() {
            let genuine = Presented::new(provider, *scheme, body, now_ms);
            let tampered =
                Presented { body: (*changed).to_owned(), ..Presented::new(provider, *scheme, body, now_ms) };
            presented.extend([genuine, tampered]);
        }
        for (provider, scheme) in UNSIGNED_BODY.iter().filter(|(provider, _)| sdks.knows(provider)) {
            let genuine = Presented::new(provider, *scheme, JSON.0, now_ms);
            let forged = Presented {
                secret: "a key of somebody else",
                ..Presented::new(provider, *scheme, JSON.0, now_ms)
            };
            presented.extend([genuine, forged]);
        }
        let said =
            sdks.run("verify", &[&(now_ms / 1000).to_string()], &serde_json::to_string(&presented).unwrap());
        let taken: Vec<bool> = serde_json::from_str(&said).unwrap();
        assert_eq!(taken.len(), presented.len());
        for (pair, taken) in presented.chunks(2).zip(taken.chunks(2)) {
            assert_eq!(taken, [true, false], "{}: genuine, changed", pair[0].provider);
        }
    }
}

impl Presented {
    /// What the provider would send, as far as `hookgate` knows.
    fn new(provider: &'static str, scheme: usize, body: &str, time_ms: i64) -> Self {
        const SECRET: &str = "whsec_YSBrZXkgdGhhdCBvcGVucyBub3RoaW5nIGVsc2U=";
        let url = "https://hooks.example.com/hooks";
        let given = format!("{url}?data.id=Abc123").parse().unwrap();
        let recipe = compile(&preset(provider).unwrap().schemes[scheme], None, None).unwrap();
        // A query that the provider adds by itself is not part of what it was given.
        let signs_query = recipe.needs_url();
        let url_given = if signs_query { url.parse().unwrap() } else { given };
        let recipe = recipe.at(Some(&url_given));
        let key = recipe.signer(SECRET.as_bytes()).unwrap();
        // Digits, because some SDKs want a time where the recipe knows of none.
        let unsigned = Unsigned { id: "1700000000", time_ms, body: body.as_bytes() };
        let signed = recipe.sign(&key, unsigned).unwrap();
        Presented {
            provider,
            secret: SECRET,
            url: url.to_owned(),
            query: signed.query.clone().unwrap_or_default(),
            headers: lines(&signed.headers).map(|(n, v)| (n.to_string(), v.to_owned())).collect(),
            body: String::from_utf8(signed.body).unwrap(),
        }
    }
}

/// A folder with SDKs in it, and what runs scripts there.
struct Sdks {
    program: PathBuf,
    folder: PathBuf,
    extension: &'static str,
}

impl Sdks {
    /// Those that can be had.
    fn installed() -> impl Iterator<Item = &'static Sdks> {
        static NODE: OnceLock<Option<Sdks>> = OnceLock::new();
        static PYTHON: OnceLock<Option<Sdks>> = OnceLock::new();
        [NODE.get_or_init(Sdks::node), PYTHON.get_or_init(Sdks::python)].into_iter().flatten()
    }

    fn node() -> Option<Sdks> {
        let folder = folder("node");
        let sdks = Sdks { program: "node".into(), folder: folder.clone(), extension: "mjs" };
        let args = ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"];
        sdks.install("package.json", || run(Command::new("npm").args(args).current_dir(&folder), ""))
    }

    fn python() -> Option<Sdks> {
        let folder = folder("python");
        let program = folder.join("venv/bin/python");
        let sdks = Sdks { program: program.clone(), folder: folder.clone(), extension: "py" };
        sdks.install("requirements.txt", || {
            run(Command::new("python3").args(["-m", "venv", "venv"]).current_dir(&folder), "")?;
            let args =
                ["-m", "pip", "install", "--disable-pip-version-check", "-q", "-r", "requirements.txt"];
            run(Command::new(&program).args(args).current_dir(&folder), "")
        })
    }

    /// Installs what the list names, unless that was done before.
    fn install(self, list: &str, install: impl FnOnce() -> Option<String>) -> Option<Sdks> {
        let wanted = fs::read_to_string(Path::new("tests/sdk").join(list)).unwrap();
        let done = self.folder.join("installed");
        if fs::read_to_string(&done).ok().as_ref() != Some(&wanted) {
            fs::create_dir_all(&self.folder).unwrap();
            fs::write(self.folder.join(list), &wanted).unwrap();
            if install().is_none() {
                eprintln!("skipped: the SDKs in tests/sdk/{list} cannot be installed");
                return None;
            }
            fs::write(done, wanted).unwrap();
        }
        Some(self)
    }

    fn judges(&self) -> &'static [(&'static str, usize, (&'static str, &'static str))] {
        if self.extension == "py" { BY_PYTHON } else { BY_NODE }
    }

    fn knows(&self, provider: &str) -> bool {
        (self.extension == "py") == provider.starts_with("plivo")
    }

    /// What a script of ours says. It lies beside the SDKs, which is where Node looks for them.
    fn run(&self, script: &str, args: &[&str], input: &str) -> String {
        let name = format!("{script}.{}", self.extension);
        let path = self.folder.join(&name);
        fs::copy(Path::new("tests/sdk").join(&name), &path).unwrap();
        let said = run(Command::new(&self.program).arg(&path).args(args).current_dir(&self.folder), input);
        said.unwrap_or_else(|| panic!("tests/sdk/{name} failed"))
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("sdk").join(name)
}

/// What a program says, if it is there and ends well and in time. Its complaints are ours.
fn run(command: &mut Command, input: &str) -> Option<String> {
    const LIMIT: Duration = Duration::from_secs(300);
    let dir = support::Dir::new();
    let (input, output) = (dir.write("input", input), dir.join("output"));
    command.stdin(File::open(input).unwrap()).stdout(File::create(&output).unwrap()).stderr(Stdio::inherit());
    let mut child = command.spawn().ok()?;
    let started = Instant::now();
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status.success().then(|| fs::read_to_string(&output).unwrap()),
            None if started.elapsed() > LIMIT => {
                _ = child.kill();
                _ = child.wait();
                return None;
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
