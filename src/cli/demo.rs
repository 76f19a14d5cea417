//! `hookgate demo`: a sample application, the gate and real signed traffic in one process
//! on ephemeral ports. Every verdict is checked; the exit status is honest.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::print;
use crate::clock;
use crate::config::application::Application;
use crate::config::checks::Checks;
use crate::config::flags::{Given, RunArgs};
use crate::config::listeners::Listeners;
use crate::config::secret::Secret;
use crate::config::units::{Cidr, UpstreamUrl};
use crate::config::{Config, provider, scheme};
use crate::gate::scheme::Recipe;
use crate::gate::scheme::algorithm::KeyedMac;
use crate::gate::scheme::sign::{Unsigned, lines};
use crate::lock::lock;
use crate::server::{Server, Stop};
use crate::telemetry::Telemetry;
use crate::telemetry::log::{Format, Severity, Sink};
use crate::telemetry::metrics::Metrics;

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Leave it running and print commands to try
    #[arg(long)]
    keep: bool,
}

pub fn demo(args: &DemoArgs) -> ExitCode {
    let played = super::run::runtime(2).map_err(|e| e.to_string()).and_then(|r| r.block_on(play(args.keep)));
    match played {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the demo cannot run: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the scenes and tells whether all went as expected.
async fn play(keep: bool) -> Result<bool, String> {
    let app = App::start().await.map_err(|e| e.to_string())?;
    let (stage, server) = Stage::set(app)?;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let serving = tokio::spawn(server.run(async {
        _ = stopped.await;
        Stop::WithoutDelay
    }));

    print(
        "\nProvider: scalekit. The gate stands at its defaults; a trusted proxy in front of it is played as well.\n",
    );
    let mut fine = true;
    heading();
    for scene in SCENES {
        fine &= stage.play(scene).await.map_err(|e| format!("{}: {e}", scene.sent))?;
    }
    stage.show_metrics().await.map_err(|e| e.to_string())?;
    if keep {
        stage.invite();
        _ = tokio::signal::ctrl_c().await;
    }
    _ = stop.send(());
    _ = serving.await;
    stage.telemetry.close(LOG_TAKES);
    stage.show_log_line();
    print(format_args!(
        "\n{}",
        if fine { "Every verdict was the expected one." } else { "Not every verdict was the expected one." }
    ));
    Ok(fine)
}

/// One thing that is sent, and what must come of it.
struct Scene {
    sent: &'static str,
    how: How,
    status: u16,
    text: &'static str,
    /// How many times the application must see it.
    seen: usize,
}

/// In which way a delivery differs from a genuine, new one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Genuine,
    Again,
    CopiesAtOnce,
    Tampered,
    Unsigned,
    OtherSecret,
    Stale,
    OtherAddress,
    PlainHttp,
    TooBig,
    TooOften,
    ApplicationFails,
    RetryOfThat,
}

const SCENES: &[Scene] = &[
    Scene { sent: "a genuine event", how: How::Genuine, status: 200, text: "thank you", seen: 1 },
    Scene { sent: "the same event again", how: How::Again, status: 200, text: "Already processed", seen: 0 },
    Scene {
        sent: "eight copies of one event at once",
        how: How::CopiesAtOnce,
        status: 200,
        text: "",
        seen: 1,
    },
    Scene {
        sent: "an event with one byte changed",
        how: How::Tampered,
        status: 401,
        text: "Unauthorized",
        seen: 0,
    },
    Scene {
        sent: "an event without a signature",
        how: How::Unsigned,
        status: 401,
        text: "Unauthorized",
        seen: 0,
    },
    Scene {
        sent: "an event signed with another secret",
        how: How::OtherSecret,
        status: 401,
        text: "Unauthorized",
        seen: 0,
    },
    Scene {
        sent: "a genuine event, ten minutes old",
        how: How::Stale,
        status: 400,
        text: "Event too old",
        seen: 0,
    },
    Scene {
        sent: "a genuine event from another address",
        how: How::OtherAddress,
        status: 403,
        text: "Forbidden",
        seen: 0,
    },
    Scene {
        sent: "a genuine event over plain HTTP",
        how: How::PlainHttp,
        status: 403,
        text: "Forbidden",
        seen: 0,
    },
    Scene { sent: "two megabytes", how: How::TooBig, status: 413, text: "Payload too large", seen: 0 },
    Scene {
        sent: "the 101st request in a minute",
        how: How::TooOften,
        status: 429,
        text: "Too many webhook requests",
        seen: 0,
    },
    Scene {
        sent: "an event that the application fails on",
        how: How::ApplicationFails,
        status: 500,
        text: "sorry",
        seen: 1,
    },
    Scene { sent: "that event, sent again", how: How::RetryOfThat, status: 200, text: "thank you", seen: 1 },
];

/// Memory is quick.
const LOG_TAKES: Duration = Duration::from_secs(1);

/// Scalekit sends from here; both stand in its preset.
const SENDER: &str = "52.206.68.10";
const EAGER_SENDER: &str = "54.236.0.10";
const STRANGER: &str = "203.0.113.9";

/// The gate, the application and the sender's key.
struct Stage {
    app: App,
    gate: SocketAddr,
    ops: SocketAddr,
    secret: String,
    recipe: Recipe,
    key: KeyedMac,
    telemetry: Arc<Telemetry>,
    log: Memo,
}

impl Stage {
    fn set(app: App) -> Result<(Self, Server), String> {
        let secret = random_secret();
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let upstream = UpstreamUrl::Tcp { host: "127.0.0.1".into(), port: app.address.port() };
        let given = Given {
            secret: Some(Secret::from_bytes(secret.clone().into_bytes()).0),
            ..Given::flags(RunArgs {
                listeners: Listeners {
                    listen: Some(vec![loopback(0).into()]),
                    ops_listen: Some(loopback(0).into()),
                    ..Listeners::default()
                },
                application: Application { upstream: Some(upstream.into()), ..Application::default() },
                checks: Checks {
                    trusted_proxies: Some(vec!["127.0.0.1/32".parse::<Cidr>()?.into()]),
                    ..Checks::default()
                },
                ..RunArgs::default()
            })
        };
        let config = Config::load(&given).map_err(|problems| problems.to_string())?;

        let log = Memo::default();
        let metrics = Metrics::new();
        let sink = Sink::new(Box::new(log.clone()), Format::Json, Severity::Info, &metrics);
        let telemetry = Telemetry::new(metrics, sink);
        let server = Server::bind(config, given, Arc::clone(&telemetry)).map_err(|e| e.to_string())?;

        let preset = provider::preset("scalekit").ok_or("no preset")?;
        let recipe = scheme::compile(&preset.schemes[0], None, None).map_err(|fault| fault.message)?;
        let key = recipe.signer(secret.as_bytes()).map_err(|e| e.to_string())?;
        let gate = *server.addresses().first().ok_or("no listener")?;
        let ops = server.ops_address().ok_or("no ops listener")?;
        Ok((Stage { app, gate, ops, secret, recipe, key, telemetry, log }, server))
    }

    async fn play(&self, scene: &Scene) -> std::io::Result<bool> {
        let before = self.app.seen.load(Ordering::SeqCst);
        if scene.how == How::TooOften {
            // More than a hundred, because the limit lets one more through every 0.6 seconds, and a slow
            // machine takes seconds for all.
            let request = Arc::new(self.request(How::Unsigned, EAGER_SENDER));
            self.send_at_once(200, &request).await?;
        }
        let from = match scene.how {
            How::TooOften => EAGER_SENDER,
            How::OtherAddress => STRANGER,
            _ => SENDER,
        };
        let (status, text) = if scene.how == How::CopiesAtOnce {
            self.send_copies(from).await?
        } else {
            self.send(scene.how, from).await?
        };
        let seen = self.app.seen.load(Ordering::SeqCst) - before;
        let fine =
            status == scene.status && (scene.text.is_empty() || text == scene.text) && seen == scene.seen;
        row(scene.sent, &format!("{status} {text}"), seen, fine);
        Ok(fine)
    }

    async fn send(&self, how: How, from: &str) -> std::io::Result<(u16, String)> {
        ask(self.gate, &self.request(how, from)).await
    }

    /// The same bytes on eight connections. The application is slow, so that they meet.
    async fn send_copies(&self, from: &str) -> std::io::Result<(u16, String)> {
        let request = Arc::new(self.request(How::CopiesAtOnce, from));
        let worst = self.send_at_once(8, &request).await?;
        Ok((worst, "to each of them".to_owned()))
    }

    /// So many copies on connections of their own; the highest status of the answers.
    async fn send_at_once(&self, copies: usize, request: &Arc<Vec<u8>>) -> std::io::Result<u16> {
        let gate = self.gate;
        let send = |_| {
            let request = Arc::clone(request);
            tokio::spawn(async move { ask(gate, &request).await })
        };
        let mut worst = 0;
        for copy in (0..copies).map(send).collect::<Vec<_>>() {
            worst = worst.max(copy.await??.0);
        }
        Ok(worst)
    }

    /// A whole request, as a proxy would pass it on that took it over HTTPS.
    fn request(&self, how: How, from: &str) -> Vec<u8> {
        let id = match how {
            How::Genuine | How::Again => "evt_genuine",
            How::ApplicationFails | How::RetryOfThat => "evt_fails_once",
            How::CopiesAtOnce => "evt_slow",
            _ => "evt_other",
        };
        let mut body = format!(r#"{{"id":"{id}","type":"organization.created","data":{{}}}}"#).into_bytes();
        if how == How::TooBig {
            body.resize(2 << 20, b' ');
        }
        let age = if how == How::Stale { 600_000 } else { 0 };
        let time_ms = clock::now().wall_ms - age;
        let other = self.recipe.signer(random_secret().as_bytes());
        let key = match &other {
            Ok(other) if how == How::OtherSecret => other,
            _ => &self.key,
        };
        let signed = self.recipe.sign(key, Unsigned { id, time_ms, body: &body }).unwrap_or_default();
        if how == How::Tampered {
            body[2] ^= 1;
        }
        let mut head = format!(
            "POST /webhooks HTTP/1.1\r\nHost: app.example\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nX-Forwarded-For: {from}\r\nConnection: close\r\n",
            body.len()
        );
        if how != How::PlainHttp {
            head += "X-Forwarded-Proto: https\r\n";
        }
        if how != How::Unsigned {
            lines(&signed.headers)
                .for_each(|(name, value)| head += &[name.as_str(), ": ", value, "\r\n"].concat());
        }
        head += "\r\n";
        [head.into_bytes(), body].concat()
    }

    async fn show_metrics(&self) -> std::io::Result<()> {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.ops);
        let (status, text) = ask(self.ops, request.as_bytes()).await?;
        if status != 200 {
            return Err(std::io::Error::other(format!("the ops listener answered {status}: {text}")));
        }
        print("\nFrom GET /metrics on the ops listener:\n");
        let told = |line: &&str| line.starts_with("hookgate_requests_total") && !line.ends_with(" 0");
        text.lines().filter(told).for_each(|line| print(format_args!("  {line}")));
        Ok(())
    }

    fn show_log_line(&self) {
        let log = self.log.text();
        if let Some(line) = log.lines().find(|line| line.contains("hookgate.decision")) {
            print(format_args!("\nThe log line of the first delivery:\n\n  {line}"));
        }
    }

    fn invite(&self) {
        let Stage { gate, ops, secret, .. } = self;
        print(format_args!(
            r#"
It goes on running; Ctrl-C ends it. Try:

  SECRET='{secret}'
  BODY='{{"id":"evt_mine","type":"test","created":"'$(date -u +%Y-%m-%dT%H:%M:%SZ)'"}}'
  SIGNATURE=$(printf %s "$BODY" | openssl dgst -sha256 -hmac "$SECRET" | sed 's/^.* //')
  curl -i http://{gate}/webhooks -d "$BODY" -H "X-Scalekit-Signature: sha256=$SIGNATURE" \
    -H 'X-Forwarded-Proto: https' -H 'X-Forwarded-For: {SENDER}'
  curl http://{ops}/metrics"#
        ));
    }
}

/// Sends a request on a connection of its own and reads the whole answer.
async fn ask(address: SocketAddr, request: &[u8]) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    // The gate may answer and hang up before it has taken all of a request that it refuses.
    _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_default();
    Ok((status, answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned()))
}

/// The sample application: counts what it sees, fails once on one event, is slow on another.
struct App {
    address: SocketAddr,
    seen: Arc<AtomicUsize>,
}

impl App {
    async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let app = App { address: listener.local_addr()?, seen: Arc::default() };
        let seen = Arc::clone(&app.seen);
        tokio::spawn(async move {
            let failures = Arc::new(AtomicUsize::new(0));
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Self::serve(stream, Arc::clone(&seen), Arc::clone(&failures)));
            }
        });
        Ok(app)
    }

    async fn serve(mut stream: TcpStream, seen: Arc<AtomicUsize>, failures: Arc<AtomicUsize>) {
        let mut request = String::new();
        let mut piece = [0; 4096];
        // The demo's bodies are single JSON objects: the request ends with the last brace.
        while !request.ends_with("}}") {
            match stream.read(&mut piece).await {
                Ok(read) if read > 0 => request.push_str(&String::from_utf8_lossy(&piece[..read])),
                Ok(_) | Err(_) => return,
            }
        }
        seen.fetch_add(1, Ordering::SeqCst);
        if request.contains("evt_slow") {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let fails = request.contains("evt_fails_once") && failures.fetch_add(1, Ordering::SeqCst) == 0;
        let answer = if fails {
            "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 5\r\nConnection: close\r\n\r\nsorry"
        } else {
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nthank you"
        };
        _ = stream.write_all(answer.as_bytes()).await;
    }
}

fn random_secret() -> String {
    use std::hash::{BuildHasher, RandomState};
    let bytes: Vec<u8> = (0..3).flat_map(|n| RandomState::new().hash_one(n).to_be_bytes()).collect();
    format!("whsec_{}", data_encoding::BASE64.encode(&bytes))
}

fn heading() {
    print(format_args!("  {:38}  {:34}  application saw it", "sent", "answer"));
    print(format_args!("  {:-<38}  {:-<34}  {:-<18}", "", "", ""));
}

fn row(sent: &str, answer: &str, seen: usize, fine: bool) {
    let seen = match seen {
        0 => "no".to_owned(),
        1 => "yes, once".to_owned(),
        n => format!("{n} times"),
    };
    let mark = if fine { "" } else { "  NOT AS EXPECTED" };
    let (colour, plain) = match (std::io::stdout().is_terminal(), fine) {
        (false, _) => ("", ""),
        (true, true) => ("\u{1b}[32m", "\u{1b}[0m"),
        (true, false) => ("\u{1b}[31m", "\u{1b}[0m"),
    };
    print(format_args!("  {sent:38}  {colour}{answer:34}{plain}  {seen}{mark}"));
}

/// A log that is kept in memory.
#[derive(Clone, Default)]
struct Memo(Arc<Mutex<Vec<u8>>>);

impl Memo {
    fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.0)).into_owned()
    }
}

impl Write for Memo {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
