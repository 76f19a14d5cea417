//! The gate under test: the real binary on ports of its own, with its files in a
//! directory of its own, its log lines and its metrics. It ends with its owner.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::sender::{Response, SECRET, Sender};
use super::{App, Dir, LIMIT, eventually, lock, until};

/// A gate that is yet to start.
pub struct Builder {
    dir: Dir,
    flags: Vec<(String, String)>,
}

impl Builder {
    /// The smallest set-up for tests that are not about configuration: GitHub's way of
    /// signing, because it takes any body, over plain HTTP and without a rate limit.
    pub fn new(upstream: &str) -> Self {
        let dir = Dir::new();
        let secret = dir.write("key-1", SECRET);
        let flags = [
            ("listen", "127.0.0.1:0"),
            ("ops-listen", "127.0.0.1:0"),
            ("upstream", upstream),
            ("provider", "github"),
            ("secret-file", secret.to_str().unwrap()),
            ("insecure-allow-http", "true"),
            ("rate-limit", "off"),
            ("reload-interval", "0s"), // a test that wants a reload asks for it
            ("shutdown-delay", "0s"),
            ("idle-timeout", "300s"), // an end that comes within a test's time was meant
            ("log-format", "json"),
        ];
        let flags = flags.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Builder { dir, flags }
    }

    /// Sets a flag, whatever it was before.
    #[must_use]
    pub fn with(self, name: &str, value: impl fmt::Display) -> Self {
        self.without(name).and(name, value)
    }

    /// Gives a repeatable flag once more.
    #[must_use]
    pub fn and(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.flags.push((name.to_owned(), value.to_string()));
        self
    }

    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.flags.retain(|(flag, _)| flag != name);
        self
    }

    /// Writes a file into the gate's directory and gives its path as a flag.
    #[must_use]
    pub fn with_file(self, flag: &str, name: &str, content: &str) -> Self {
        let path = self.dir.write(name, content);
        self.with(flag, path.display())
    }

    /// Writes the configuration file. `DIR` in it stands for the gate's directory; the
    /// flags of the only route make room.
    #[must_use]
    pub fn config(self, yaml: &str) -> Self {
        let yaml = yaml.replace("DIR", self.dir.path().to_str().unwrap());
        self.with_file("config", "hookgate.yaml", &yaml).without("provider").without("secret-file")
    }

    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    pub fn command(&self, command: &str) -> Command {
        let mut program = hookgate(&[command]);
        program.args(self.flags.iter().map(|(name, value)| format!("--{name}={value}")));
        program
    }

    /// Starts it and waits until it is ready.
    pub fn start(self) -> Gate {
        let command = self.command("run");
        self.start_as(command)
    }

    /// The same by a command that runs the gate somewhere else.
    pub fn start_as(self, command: Command) -> Gate {
        let gate = self.launch_as(command);
        until("readiness", || gate.ops("/readyz").status == 200);
        gate
    }

    /// Waits only until it listens.
    pub fn launch_as(self, command: Command) -> Gate {
        self.launch_read_by(command, |_| true).0
    }

    /// The same, with a log that is read as long as its lines are wanted. What stays unread is
    /// given back, and is what the gate writes to as long as somebody keeps it.
    pub fn launch_read_by(
        self,
        mut command: Command,
        wanted: impl Fn(&str) -> bool + Send + 'static,
    ) -> (Gate, mpsc::Receiver<BufReader<ChildStdout>>) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (log, unread) = Log::of(child.stdout.take().unwrap(), wanted);
        let start = log.find("the start", |line| line["event.name"] == "hookgate.start");
        let addresses = Addresses::parse(start["body"].as_str().unwrap());
        (Gate { child: Mutex::new(child), dir: self.dir, log, addresses }, unread)
    }
}

/// The binary with nothing of our environment but where to find programs.
pub fn hookgate(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookgate"));
    command.env_clear().args(args).stdin(Stdio::null());
    command
}

pub struct Gate {
    child: Mutex<Child>,
    pub dir: Dir,
    pub log: Log,
    addresses: Addresses,
}

impl Gate {
    pub fn before(app: &App) -> Builder {
        Builder::new(&app.url())
    }

    /// For plain HTTP.
    pub fn address(&self) -> SocketAddr {
        self.addresses.plain[0]
    }

    pub fn tls_address(&self) -> SocketAddr {
        self.addresses.tls[0]
    }

    pub fn ops_address(&self) -> SocketAddr {
        self.addresses.ops
    }

    pub fn connect(&self) -> Sender {
        Sender::connect(self.address())
    }

    /// Sends one request on a connection of its own and reads the answer.
    pub fn send(&self, request: &super::Request) -> Response {
        self.connect().exchange(request)
    }

    /// GET on the ops listener.
    pub fn ops(&self, target: &str) -> Response {
        get(self.ops_address(), target)
    }

    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.ops("/metrics").text())
    }

    /// The log line of the request that got this answer.
    pub fn decision(&self, response: &Response) -> Value {
        let id = response.header("Hookgate-Request-Id").expect("every answer carries the request's id");
        let is =
            |line: &Value| line["event.name"] == "hookgate.decision" && line["hookgate.request_id"] == id;
        self.log.find("the decision", is)
    }

    /// Why the request was answered as it was.
    pub fn reason(&self, response: &Response) -> String {
        self.decision(response)["hookgate.reason"].as_str().unwrap().to_owned()
    }

    /// Waits until a gauge or counter without labels has that value.
    pub fn wait_for_metric(&self, name: &str, value: f64) {
        until(&format!("{name} to be {value}"), || same(self.metrics().value(name), value));
    }

    /// The process.
    pub fn id(&self) -> u32 {
        lock(&self.child).id()
    }

    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Waits for the process to end.
    pub fn ended(&self) -> ExitStatus {
        eventually("the end of the gate", || lock(&self.child).try_wait().unwrap())
    }

    pub fn is_running(&self) -> bool {
        lock(&self.child).try_wait().unwrap().is_none()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        _ = child.kill();
        _ = child.wait();
    }
}

/// A GET on a connection of its own.
pub fn get(address: SocketAddr, target: &str) -> Response {
    let mut sender = Sender::connect(address);
    sender.send(format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"));
    sender.response()
}

/// Where the gate listens, as its start line tells.
struct Addresses {
    plain: Vec<SocketAddr>,
    tls: Vec<SocketAddr>,
    ops: SocketAddr,
}

impl Addresses {
    fn parse(message: &str) -> Self {
        let (traffic, ops) = message.split_once("; health and metrics on ").unwrap();
        let (plain, tls) = traffic.split_once("with TLS on").unwrap_or((traffic, ""));
        let list = |text: &str| text.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
        Addresses { plain: list(plain), tls: list(tls), ops: ops.trim().parse().unwrap() }
    }
}

/// The lines that the gate has logged so far.
#[derive(Clone)]
pub struct Log(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Log {
    /// Reads as long as lines come that are wanted.
    fn of<R: Read + Send + 'static>(
        output: R,
        wanted: impl Fn(&str) -> bool + Send + 'static,
    ) -> (Self, mpsc::Receiver<BufReader<R>>) {
        let log = Log(Arc::default());
        let shared = Arc::clone(&log.0);
        let (rest, unread) = mpsc::channel();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            for line in output.by_ref().lines().map_while(Result::ok) {
                let go_on = wanted(&line);
                lock(&shared.0).push(line);
                shared.1.notify_all();
                if !go_on {
                    break;
                }
            }
            _ = rest.send(output);
        });
        (log, unread)
    }

    /// Waits for a line.
    pub fn find(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        let mut lines = lock(&self.0.0);
        let mut next = 0;
        loop {
            for line in &lines[next..] {
                let value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
                if wanted(&value) {
                    return value;
                }
            }
            next = lines.len();
            let left = LIMIT.checked_sub(started.elapsed());
            let left = left.unwrap_or_else(|| panic!("waited for {what} in the log:\n{}", lines.join("\n")));
            lines = self.0.1.wait_timeout(lines, left).unwrap().0;
        }
    }

    pub fn text(&self) -> String {
        lock(&self.0.0).join("\n")
    }

    pub fn count(&self, wanted: impl Fn(&Value) -> bool) -> usize {
        let lines = lock(&self.0.0);
        lines.iter().filter(|line| wanted(&serde_json::from_str(line).unwrap())).count()
    }
}

/// An exposition: each series as it is written, and its value.
pub struct Metrics(pub BTreeMap<String, f64>);

impl Metrics {
    fn parse(text: &str) -> Self {
        let series = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        Metrics(
            series
                .map(|line| {
                    let (name, value) = line.rsplit_once(' ').unwrap();
                    (name.to_owned(), value.parse().unwrap())
                })
                .collect(),
        )
    }

    pub fn value(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("there is no series {series}"))
    }

    /// The sum over all series of a metric that carry these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let carries = |series: &str| {
            labels.iter().all(|(label, value)| series.contains(&format!("{label}=\"{value}\"")))
        };
        let own = |series: &str| series.split('{').next() == Some(name);
        self.0.iter().filter(|(series, _)| own(series) && carries(series)).map(|(_, value)| value).sum()
    }

    /// How many requests ended for that reason.
    pub fn requests(&self, reason: &str) -> f64 {
        self.sum("hookgate_requests_total", &[("reason", reason)])
    }
}

/// Metrics are whole numbers here.
pub fn same(a: f64, b: f64) -> bool {
    (a - b).abs() < f64::EPSILON
}

/// A program's whole run, with its output.
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs a command to its end, which must come by itself.
pub fn run(command: &mut Command) -> Run {
    run_within(LIMIT, command)
}

/// The same for a program that may take longer than anything of ours.
pub fn run_within(limit: Duration, command: &mut Command) -> Run {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let read = |mut pipe: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut text = String::new();
            pipe.read_to_string(&mut text).unwrap();
            text
        })
    };
    let out = read(Box::new(child.stdout.take().unwrap()));
    let err = read(Box::new(child.stderr.take().unwrap()));
    let started = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if started.elapsed() > limit => {
                _ = child.kill();
                panic!("{command:?} does not end: {}", err.join().unwrap());
            }
            None => std::thread::sleep(super::LOOK),
        }
    };
    Run { code: status.code(), out: out.join().unwrap(), err: err.join().unwrap() }
}

/// Where a program is, if it is installed.
pub fn program(name: &str) -> Option<PathBuf> {
    let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).output().unwrap();
    let path = String::from_utf8(found.stdout).unwrap();
    found.status.success().then(|| PathBuf::from(path.trim()))
}
