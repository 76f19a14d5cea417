//! The providers' own SDKs against the gate: what they sign gets through, and what `hookgate`
//! signs they take. They are installed beside the build, in the versions that `sdk/` names; where
//! Node, Python or the registry cannot be reached, a test says that it skips.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "a part of it; `keys` shows what nobody uses")]
#[path = "../keys/host.rs"]
mod host;
mod judged;
mod published;
mod resigned;
#[allow(dead_code, unused_imports, reason = "a part of it; `attacks` shows what nobody uses")]
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "the same")]
#[path = "../support/tls.rs"]
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hookgate::config::provider::preset;
use hookgate::config::scheme::compile;
use hookgate::gate::scheme::sign::{Unsigned, lines};
use serde::{Deserialize, Serialize};
use support::{Answer, App, Gate, Request, sender};

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
#[derive(Clone, Serialize)]
struct Presented {
    sdk: &'static str,
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
        let signed = sdks.sign(sender::now_ms() / 1000, 1);
        assert!(signed.len() > 5, "the script signs something");
        pass(&signed);
    }
}

/// A gate with a route for each provider.
fn routed(app: &App, signed: &[Signed], more: &str) -> Gate {
    let gate = Gate::before(app);
    let mut routes = BTreeMap::new();
    for Signed { provider, secret, url, .. } in signed {
        gate.dir().write(provider, secret);
        let url = url.as_ref().map(|url| format!("    public_url: {url}\n")).unwrap_or_default();
        let route = format!(
            "  - name: {provider}\n    path: /hooks/{provider}\n    provider: {provider}\n{url}{more}    \
             secrets: [{{ id: key, file: DIR/{provider} }}]\n"
        );
        routes.insert(provider, route);
    }
    gate.config(&format!("routes:\n{}", routes.into_values().collect::<String>())).start()
}

fn pass(signed: &[Signed]) {
    let app = App::ok();
    let gate = routed(&app, signed, "    identity: signed\n");
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

/// What a provider's third attempt is, after the application failed on the first and took the second. The
/// signed time is that of each attempt; what else a provider changes, the scripts say.
const RETRIES: &[(&str, &str)] = &[
    // An id is signed.
    ("box", "duplicate"),
    ("livekit", "duplicate"),
    ("mollie", "duplicate"),
    ("notion", "duplicate"),
    ("slack", "duplicate"),
    ("standard-webhooks", "duplicate"),
    ("stripe", "duplicate"),
    ("svix", "duplicate"),
    ("workos", "duplicate"),
    // No time is signed, and the bytes are the same.
    ("adyen-payments", "duplicate"),
    ("adyen-platform", "duplicate"),
    ("github", "duplicate"),
    ("modern-treasury", "duplicate"),
    // No id is signed, and the time is another: what was taken comes once more.
    ("contentful", "accepted"),
    ("hubspot-v2", "accepted"),
    ("hubspot-v3", "accepted"),
    ("hygraph", "accepted"),
    ("messagebird", "accepted"),
    ("retell", "accepted"),
    // Nothing tells its events apart.
    ("twilio", "accepted"),
];

#[test]
fn a_retry_is_delivered_after_a_failure_and_known_afterwards_where_its_sender_names_the_event() {
    let mut tried = BTreeSet::new();
    for sdks in Sdks::installed() {
        let now = sender::now_ms() / 1000;
        let attempts = [1, 2, 3].map(|attempt| sdks.sign(now - 9 + 3 * attempt, attempt));
        let fails = Arc::new(AtomicBool::new(false));
        let failing = Arc::clone(&fails);
        let app =
            App::new(move |_, _| Answer::status(if failing.load(Ordering::SeqCst) { 500 } else { 200 }));
        let gate = routed(&app, &attempts[0], "");
        for (n, first) in attempts[0].iter().enumerate() {
            let Some((provider, third)) = RETRIES.iter().find(|(name, _)| *name == first.provider) else {
                continue;
            };
            let reasons = [0, 1, 2].map(|attempt| {
                fails.store(attempt == 0, Ordering::SeqCst);
                let sent = &attempts[attempt][n];
                gate.reason(&gate.send(&sent.request(&sent.body)))
            });
            assert_eq!(reasons, ["upstream_status", "accepted", *third], "{}", first.sdk);
            tried.insert(*provider);
        }
    }
    if Sdks::installed().count() == 2 {
        assert_eq!(tried.len(), RETRIES.len(), "of each there is an SDK that signs");
    }
    println!("{} providers' retries: {}", tried.len(), Vec::from_iter(tried).join(", "));
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

/// An SDK that judges.
struct Judge {
    /// The package, by whose name the script knows it.
    sdk: &'static str,
    provider: &'static str,
    scheme: usize,
    body: &'static str,
    /// Whether it looks at the body; else another key must do for what is forged.
    reads_body: bool,
}

/// What the provider was given.
const URL: &str = "https://hooks.example.com/hooks";
/// It holds what one SDK or another insists on. `genuine` is what somebody on the way changes.
const JSON: &str = r#"{"id":"evt_1","type":"order.created","apiVersion":"v1","webhookTimestamp":NOW_MS,"event":{"id":"evt_1"},"note":"genuine"}"#;
const ROOM: &str = r#"{"id":"EV_1","event":"room_started","room":{"name":"genuine"}}"#;
const FORM: &str = "CallSid=CA1&Note=genuine+%26+so";
const PARTS: &str = "--hookgate\r\nContent-Disposition: form-data; name=\"transloadit\"\r\n\r\n{\"ok\":\"genuine\"}\r\n--hookgate--\r\n";

const fn judge(sdk: &'static str, provider: &'static str, scheme: usize, body: &'static str) -> Judge {
    Judge { sdk, provider, scheme, body, reads_body: true }
}

const fn of_head(sdk: &'static str, provider: &'static str) -> Judge {
    Judge { sdk, provider, scheme: 0, body: JSON, reads_body: false }
}

const BY_NODE: &[Judge] = &[
    judge("@adyen/api-library", "adyen-platform", 0, JSON),
    judge("@anthropic-ai/sdk", "anthropic", 0, JSON),
    judge("@clerk/backend", "clerk", 0, JSON),
    judge("@contentful/node-apps-toolkit", "contentful", 0, JSON),
    judge("@easypost/api", "easypost", 0, JSON),
    judge("@hubspot/api-client", "hubspot-v3", 0, JSON),
    judge("@hygraph/utils", "hygraph", 0, JSON),
    judge("@line/bot-sdk", "line", 0, JSON),
    judge("@linear/sdk", "linear", 0, JSON),
    judge("@mux/mux-node", "mux", 0, JSON),
    judge("@notionhq/client", "notion", 0, JSON),
    judge("@octokit/webhooks-methods", "github", 0, JSON),
    judge("@onfido/api", "onfido", 0, JSON),
    judge("@paddle/paddle-node-sdk", "paddle", 0, JSON),
    judge("@polar-sh/sdk", "polar", 0, JSON),
    judge("@polar-sh/sdk", "polar", 1, JSON),
    judge("@sanity/webhook", "sanity", 0, JSON),
    judge("@scalekit-sdk/node", "scalekit", 0, JSON),
    judge("@scalekit-sdk/node", "scalekit-interceptor", 0, JSON),
    judge("@shopify/shopify-api", "shopify", 0, JSON),
    judge("@shopify/shopify-api", "shopify", 1, JSON),
    judge("@transloadit/utils", "transloadit", 0, PARTS),
    judge("@tryfinch/finch-api", "finch", 0, JSON),
    of_head("@vonage/jwt", "vonage"),
    judge("@whop/sdk", "standard-webhooks", 0, JSON),
    judge("@workos-inc/node", "workos", 0, JSON),
    judge("cloudinary", "cloudinary", 0, JSON),
    judge("coinbase-commerce-node", "coinbase-commerce", 0, JSON),
    judge("connect-sdk-nodejs", "worldline", 0, JSON),
    judge("crisp-api", "crisp", 0, JSON),
    judge("dodopayments", "standard-webhooks", 0, JSON),
    judge("gocardless-nodejs", "gocardless", 0, JSON),
    judge("lithic", "lithic", 0, JSON),
    judge("livekit-server-sdk", "livekit", 0, ROOM),
    judge("mailersend", "mailersend", 0, JSON),
    judge("mailtrap", "mailtrap", 0, JSON),
    of_head("mercadopago", "mercado-pago"),
    judge("messagebird", "bird-messagebird", 0, JSON),
    judge("messagebird", "bird-messagebird", 2, JSON),
    judge("messagebird", "messagebird", 0, JSON),
    judge("openai", "openai", 0, JSON),
    judge("orb-billing", "orb", 0, JSON),
    judge("pusher", "pusher", 0, JSON),
    judge("replicate", "replicate", 0, JSON),
    judge("resend", "resend", 0, JSON),
    judge("retell-sdk", "retell", 0, JSON),
    judge("standardwebhooks", "standard-webhooks", 0, JSON),
    judge("stream-chat", "stream", 0, JSON),
    judge("stripe", "stripe", 0, JSON),
    judge("svix", "svix", 0, JSON),
    judge("twilio", "twilio", 1, FORM),
    judge("webflow-api", "webflow", 0, JSON),
];
const BY_PYTHON: &[Judge] = &[
    of_head("plivo", "plivo-v2"),
    judge("plivo", "plivo-v3", 0, FORM),
    judge("qstash", "qstash", 0, JSON),
    judge("razorpay", "razorpay", 0, JSON),
    judge("slack_sdk", "slack", 0, JSON),
];

#[test]
fn what_hookgate_signs_the_sdks_take() {
    let now_ms = sender::now_ms() / 1000 * 1000;
    for sdks in Sdks::installed() {
        let judges = sdks.judges();
        let presented: Vec<_> = judges
            .iter()
            .flat_map(|judge| {
                let genuine = judge.presents(secret(judge.provider), now_ms);
                let forged = if judge.reads_body {
                    Presented { body: genuine.body.replace("genuine", "altered"), ..genuine.clone() }
                } else {
                    Presented { secret: genuine.secret, ..judge.presents("a key of somebody else", now_ms) }
                };
                [genuine, forged]
            })
            .collect();
        let said =
            sdks.run("verify", &[&(now_ms / 1000).to_string()], &serde_json::to_string(&presented).unwrap());
        let taken: Vec<bool> = serde_json::from_str(&said).unwrap();
        assert_eq!(taken.len(), presented.len());
        let wrong: Vec<_> = (judges.iter().zip(taken.chunks(2)))
            .filter(|(_, taken)| *taken != [true, false])
            .map(|(judge, taken)| {
                format!("{} of {}: {taken:?} for genuine, forged", judge.sdk, judge.provider)
            })
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let names: BTreeSet<_> = judges.iter().map(|judge| judge.sdk).collect();
        println!("{} SDKs take what is signed: {}", names.len(), Vec::from_iter(names).join(", "));
    }
}

/// A secret that is good for a provider.
fn secret(provider: &str) -> &'static str {
    match provider {
        "adyen-platform" => "6120736563726574207468617420697320676f6f6420666f7220746573747331",
        "contentful" => "a secret that is good for tests only, of sixty-four characters .",
        "finch" => "YSBrZXkgdGhhdCBvcGVucyBub3RoaW5nIGVsc2U=",
        _ => "whsec_YSBrZXkgdGhhdCBvcGVucyBub3RoaW5nIGVsc2U=",
    }
}

impl Judge {
    fn body_at(&self, time_ms: i64) -> String {
        self.body.replace("NOW_MS", &time_ms.to_string())
    }

    /// What the provider would send, as far as `hookgate` knows.
    fn presents(&self, secret: &'static str, time_ms: i64) -> Presented {
        let given = format!("{URL}?data.id=Abc123").parse().unwrap();
        let recipe = compile(&preset(self.provider).unwrap().schemes[self.scheme], None, None).unwrap();
        // A query that the provider adds by itself is not part of what it was given.
        let signs_query = recipe.needs_url();
        let url_given = if signs_query { URL.parse().unwrap() } else { given };
        let recipe = recipe.at(Some(&url_given));
        let key = recipe.signer(secret.as_bytes()).unwrap();
        let body = self.body_at(time_ms);
        // Digits, because some SDKs want a time where the recipe knows of none.
        let unsigned = Unsigned { id: "1700000000", time_ms, body: body.as_bytes() };
        let signed = recipe.sign(&key, unsigned).unwrap();
        Presented {
            sdk: self.sdk,
            provider: self.provider,
            secret,
            url: URL.to_owned(),
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
        // Scripts of ours lie beside the SDKs, which is where Node looks for them.
        for script in
            ["sign", "verify", "published", "judged"].map(|name| format!("{name}.{}", self.extension))
        {
            let ours = Path::new("tests/sdk").join(&script);
            if ours.exists() {
                fs::copy(ours, self.folder.join(&script)).unwrap();
            }
        }
        Some(self)
    }

    /// What they sign at that moment, as that attempt.
    fn sign(&self, seconds: i64, attempt: i64) -> Vec<Signed> {
        let args = [&seconds.to_string(), "https://hooks.example.com", &attempt.to_string()];
        serde_json::from_str(&self.run("sign", &args, "")).unwrap()
    }

    fn judges(&self) -> &'static [Judge] {
        if self.extension == "py" { BY_PYTHON } else { BY_NODE }
    }

    /// What a script of ours says.
    fn run(&self, script: &str, args: &[&str], input: &str) -> String {
        let name = format!("{script}.{}", self.extension);
        let path = self.folder.join(&name);
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
