//! What somebody outside sees of a gate with tenants: a real one, over the loopback.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::{scope, sleep, spawn};
use std::time::{Duration, Instant};

use hookgate::clock;
use hookgate::gate::route::Route;
use hookgate::gate::scheme::sign::Unsigned;

/// A gate, gone with its owner.
pub struct Gate {
    process: Child,
    port: u16,
}

impl Gate {
    /// With these routes, in front of an application that takes everything.
    pub fn start(folder: &Path, routes: &str) -> Self {
        let application = application();
        let config = folder.join("served.yaml");
        fs::write(&config, format!("insecure_allow_http: true\nroutes:\n{routes}")).unwrap();
        let [port, ops] = [(), ()].map(|()| free_port());
        let process = Command::new(env!("CARGO_BIN_EXE_hookgate"))
            .env_clear()
            .arg("run")
            .arg(format!("--config={}", config.display()))
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg(format!("--ops-listen=127.0.0.1:{ops}"))
            .arg(format!("--upstream=http://127.0.0.1:{application}"))
            .args(["--reload-interval=0s", "--idle-timeout=300s", "--log-format=json"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let gate = Gate { process, port };
        let limit = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", gate.port)).is_err() {
            assert!(Instant::now() < limit, "the gate does not start");
            sleep(Duration::from_millis(50));
        }
        gate
    }

    pub fn connect(&self) -> Sender {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Sender { stream: BufReader::new(stream), answer: Vec::new() }
    }

    /// What it takes of memory, in MiB.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// One connection.
pub struct Sender {
    stream: BufReader<TcpStream>,
    answer: Vec<u8>,
}

impl Sender {
    /// The status of the answer.
    pub fn send(&mut self, request: &[u8]) -> u16 {
        self.stream.get_mut().write_all(request).unwrap();
        self.read()
    }

    fn read(&mut self) -> u16 {
        self.answer.clear();
        let mut length = 0;
        loop {
            let begins = self.answer.len();
            assert!(self.stream.read_until(b'\n', &mut self.answer).unwrap() > 0, "the gate hung up");
            let line = self.answer[begins..].trim_ascii().to_ascii_lowercase();
            if let Some(said) = line.strip_prefix(b"content-length:") {
                length = std::str::from_utf8(said).unwrap().trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        std::str::from_utf8(&self.answer[9..12]).unwrap().parse().unwrap()
    }
}

/// A request for that path, signed by the route's first scheme with that secret.
pub fn request(route: &Route, path: &str, secret: &str, id: &str) -> Vec<u8> {
    let recipe = route.signature.schemes()[0].recipe();
    let key = recipe.signer(secret.as_bytes()).unwrap();
    let body = format!(r#"{{"id":"{id}","type":"invoice.paid","data":"{}"}}"#, "x".repeat(900)).into_bytes();
    let time_ms = clock::now().wall_ms;
    let signed = recipe.sign(&key, Unsigned { id, time_ms, body: &body }).unwrap();
    let request = format!("POST {path} HTTP/1.1\r\nHost: app.example\r\nContent-Length: {}\r\n", body.len());
    let mut request = request.into_bytes();
    for (name, value) in &signed.headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            request.extend_from_slice(part);
        }
    }
    [&*request, b"\r\n", &body].concat()
}

/// Makes the request of that number.
pub type Flood<'f> = &'f (dyn Fn(u64) -> Vec<u8> + Sync);

/// How long good deliveries take while nothing else comes, and beside each flood: p50 and p99 in microseconds,
/// and how many of each flood came. The phases alternate, so that what else the machine does meets all of them.
pub fn beside_floods(
    gate: &Gate,
    phases: usize,
    good: impl Fn(u64) -> Vec<u8> + Sync,
    floods: &[Flood<'_>],
) -> (Vec<[f64; 2]>, Vec<u64>) {
    const PHASE: Duration = Duration::from_millis(500);
    const SENDERS: u32 = 8;
    const PACE: Duration = Duration::from_micros(500).saturating_mul(SENDERS);
    const OVER: u8 = u8::MAX;
    let now = AtomicU8::new(0);
    let sent: Vec<_> = floods.iter().map(|_| AtomicU64::new(0)).collect();
    let mut times = vec![Vec::new(); floods.len() + 1];
    scope(|threads| {
        // Several, because each waits for its answer.
        for _ in 0..SENDERS {
            threads.spawn(|| {
                let mut sender = gate.connect();
                loop {
                    match now.load(Ordering::Relaxed) {
                        OVER => return,
                        0 => sleep(PACE),
                        n => {
                            let n = usize::from(n) - 1;
                            let due = Instant::now() + PACE;
                            let status = sender.send(&floods[n](sent[n].fetch_add(1, Ordering::Relaxed)));
                            assert!(matches!(status, 401 | 429), "{status}");
                            sleep(due.saturating_duration_since(Instant::now()));
                        }
                    }
                }
            });
        }
        let (mut sender, mut number) = (gate.connect(), 0);
        for phase in 0..phases * times.len() {
            let n = phase % times.len();
            now.store(u8::try_from(n).unwrap(), Ordering::Relaxed);
            sleep(Duration::from_millis(20));
            let ends = Instant::now() + PHASE;
            while Instant::now() < ends {
                let request = good(number);
                number += 1;
                let started = Instant::now();
                let status = sender.send(&request);
                times[n].push(started.elapsed().as_secs_f64() * 1e6);
                assert_eq!(status, 200);
                sleep(Duration::from_millis(1));
            }
        }
        now.store(OVER, Ordering::Relaxed);
    });
    let quantiles = times.iter_mut().map(|times| {
        times.sort_unstable_by(f64::total_cmp);
        [50, 99].map(|percent| times[times.len() * percent / 100])
    });
    (quantiles.collect(), sent.into_iter().map(AtomicU64::into_inner).collect())
}

/// Takes everything, on a port of its own.
fn application() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    spawn(move || {
        for stream in listener.incoming().flatten() {
            spawn(move || {
                stream.set_nodelay(true).unwrap();
                let mut stream = BufReader::new(stream);
                while let Some(length) = head(&mut stream) {
                    let mut body = vec![0; length];
                    if stream.read_exact(&mut body).is_err()
                        || stream
                            .get_mut()
                            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                            .is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// How long the body is that follows.
fn head(stream: &mut BufReader<TcpStream>) -> Option<usize> {
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(said) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = said.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            return Some(length);
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
