//! A real redis-server of the test's own: on a free port of the loopback network, in a directory
//! of its own, and gone when its owner is.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The most that a start may take on a slow and loaded machine.
const LIMIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(5);

pub struct Server {
    child: Child,
    port: u16,
    args: Vec<String>,
    /// Where it leaves what it must, such as what it sends to a replica.
    dir: Dir,
}

/// A directory that is gone when its owner is.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("hookgate-redis-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether the program is there; said aloud if not.
pub fn installed() -> bool {
    let found = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
    let installed = found.is_ok_and(|status| status.success());
    if !installed {
        eprintln!("SKIPPED: redis-server is not on PATH");
    }
    installed
}

impl Server {
    /// `None`, and said aloud, where there is none.
    pub fn start() -> Option<Self> {
        Server::start_with(&[])
    }

    /// With more arguments. `None`, and said aloud, if this build does not take them.
    pub fn start_with(args: &[&str]) -> Option<Self> {
        let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
        // Between finding a port and taking it, another test may have taken it.
        let server = installed().then(|| (0..5).find_map(|_| Server::start_on(free_port(), &args)))?;
        if server.is_none() {
            eprintln!("SKIPPED: this redis-server does not run with {args:?}");
        }
        server
    }

    /// With a library in front of the one of C.
    #[allow(dead_code, reason = "the inbox alone needs a clock that differs")]
    pub fn start_before(library: &Path) -> Option<Self> {
        if !installed() {
            return None;
        }
        let (dir, port) = (Dir::new(), free_port());
        let mut args = words("--bind 127.0.0.1 --appendonly no --loglevel warning --save");
        args.extend([String::new(), "--port".to_owned(), port.to_string()]);
        let mut command = Command::new("redis-server");
        command.env("LD_PRELOAD", library);
        Server::run_in(command, dir, port, args)
    }

    /// `None` if it ends at once.
    pub fn start_on(port: u16, args: &[String]) -> Option<Self> {
        let secure =
            args.iter().any(|arg| arg == "--tls-cert-file") && !args.iter().any(|arg| arg == "--tls-port");
        let mut all = words("--bind 127.0.0.1 --appendonly no --loglevel warning --save");
        all.push(String::new());
        all.extend(words(&if secure {
            format!("--port 0 --tls-port {port}")
        } else {
            format!("--port {port}")
        }));
        all.extend_from_slice(args);
        Server::spawn(port, all)
    }

    /// Watches what the file names.
    pub fn sentinel(port: u16, conf: &str) -> Option<Self> {
        Server::spawn(port, words(&format!("{conf} --sentinel --bind 127.0.0.1 --port {port}")))
    }

    /// The same over TLS alone.
    pub fn secure_sentinel(port: u16, conf: &str, tls: &[String]) -> Option<Self> {
        let mut args = words(&format!("{conf} --sentinel --bind 127.0.0.1 --port 0 --tls-port {port}"));
        args.extend_from_slice(tls);
        Server::spawn(port, args)
    }

    fn spawn(port: u16, args: Vec<String>) -> Option<Self> {
        Server::spawn_in(Dir::new(), port, args)
    }

    fn spawn_in(dir: Dir, port: u16, args: Vec<String>) -> Option<Self> {
        Server::run_in(Command::new("redis-server"), dir, port, args)
    }

    fn run_in(mut command: Command, dir: Dir, port: u16, args: Vec<String>) -> Option<Self> {
        command.args(&args).current_dir(&dir.0).stdin(Stdio::null()).stdout(Stdio::null());
        let mut server = Server { child: command.spawn().unwrap(), port, args, dir };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if server.child.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(started.elapsed() < LIMIT, "redis-server does not listen");
            std::thread::sleep(LOOK);
        }
        server.child.try_wait().unwrap().is_none().then_some(server)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection of the test's own.
    pub fn connect(&self) -> redis::Connection {
        self.try_connect().unwrap()
    }

    /// Whether INFO tells that. A server that changes its role cuts connections.
    pub fn tells(&self, section: &str, what: &str) -> bool {
        let info =
            self.try_connect().and_then(|mut c| redis::cmd("INFO").arg(section).query::<String>(&mut c));
        info.is_ok_and(|info| info.contains(what))
    }

    fn try_connect(&self) -> redis::RedisResult<redis::Connection> {
        use redis::IntoConnectionInfo;

        let password = self.args.iter().skip_while(|arg| *arg != "--requirepass").nth(1);
        let access = redis::RedisConnectionInfo::default();
        let access = password.map_or(access.clone(), |password| access.set_password(password));
        let info = self.url().into_connection_info().unwrap().set_redis_settings(access);
        redis::Client::open(info)?.get_connection()
    }

    /// Runs one command, given as words.
    pub fn run<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        redis::cmd(words[0]).arg(&words[1..]).query(&mut self.connect()).unwrap()
    }

    /// Stops it without ending it, or lets it go on: connections are made, and nothing answers.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }

    /// Starts it again where it was, with what it wrote down there.
    pub fn revive(&mut self) {
        self.kill();
        let started = Instant::now();
        while TcpListener::bind(("127.0.0.1", self.port)).is_err() {
            assert!(started.elapsed() < LIMIT, "the port is not free again");
            std::thread::sleep(LOOK);
        }
        let dir = std::mem::replace(&mut self.dir, Dir::new());
        *self = Server::spawn_in(dir, self.port, self.args.clone()).expect("it ran before");
    }

    /// Where it keeps its files.
    pub fn dir(&self) -> &Path {
        &self.dir.0
    }

    /// Starts it again on its port, empty.
    pub fn restart(&mut self) {
        self.kill();
        let started = Instant::now();
        *self = loop {
            if let Some(server) = Server::spawn(self.port, self.args.clone()) {
                break server;
            }
            assert!(started.elapsed() < LIMIT, "the port is not free again");
        };
    }
}

/// A name that leads to one server or another: connections that are there stay where they are.
pub struct Relay {
    port: u16,
    to: Arc<AtomicU16>,
}

impl Relay {
    /// Each piece of what a server says passes `pause` first, with its number.
    pub fn start(to: u16, pause: impl Fn(usize) -> Duration + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay { port: listener.local_addr().unwrap().port(), to: Arc::new(AtomicU16::new(to)) };
        let (to, pause) = (Arc::clone(&relay.to), Arc::new(pause));
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(("127.0.0.1", to.load(Ordering::Relaxed))) else { continue };
                let (near_again, far_again) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let pause = Arc::clone(&pause);
                std::thread::spawn(move || copy(near, &far, |_| Duration::ZERO));
                std::thread::spawn(move || copy(far_again, &near_again, |n| pause(n)));
            }
        });
        relay
    }

    /// New connections go there from now on.
    pub fn lead_to(&self, port: u16) {
        self.to.store(port, Ordering::Relaxed);
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

fn copy(mut from: TcpStream, mut to: &TcpStream, pause: impl Fn(usize) -> Duration) {
    let mut buffer = [0; 16 * 1024];
    for number in 1.. {
        let read = from.read(&mut buffer).unwrap_or(0);
        std::thread::sleep(pause(number));
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
            return;
        }
    }
}

/// Three masters that know each other.
pub struct Cluster(pub Vec<Server>);

impl Cluster {
    /// `None`, and said aloud, where the programs are not there.
    pub fn start() -> Option<Self> {
        Cluster::start_with(&[])
    }

    /// With more arguments for each node. Nodes find out in a second that one is gone.
    pub fn start_with(args: &[&str]) -> Option<Self> {
        let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
        Cluster::start_from(|| args.clone())
    }

    /// With what more arguments each node gets.
    fn start_from(more: impl Fn() -> Vec<String>) -> Option<Self> {
        let tool = Command::new("redis-cli").arg("--version").stdout(Stdio::null()).status();
        if !tool.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: redis-cli is not on PATH");
            return None;
        }
        let node = |_| {
            let bus = free_port().to_string();
            let own = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", &bus];
            let more = more();
            Server::start_with(&own.into_iter().chain(more.iter().map(String::as_str)).collect::<Vec<_>>())
        };
        let nodes = (0..3).map(node).collect::<Option<Vec<_>>>()?;
        let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port()));
        let made = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(addresses)
            .arg("--cluster-yes")
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        let cluster = Cluster(nodes);
        let started = Instant::now();
        while !cluster.is_whole() {
            assert!(started.elapsed() < LIMIT, "the nodes do not agree");
            std::thread::sleep(LOOK);
        }
        Some(cluster)
    }

    /// Whether every node says that every slot is served by a node that it can reach.
    pub fn is_whole(&self) -> bool {
        self.0.iter().all(|node| {
            let info = node.run::<String>(&["CLUSTER", "INFO"]);
            ["cluster_state:ok", "cluster_slots_ok:16384"].iter().all(|fact| info.contains(fact))
        })
    }

    /// Each node has a second port, for TLS with these arguments.
    pub fn start_secure(tls: &[String]) -> Option<Self> {
        let tls: Vec<_> = tls.iter().map(String::as_str).collect();
        Cluster::start_from(|| {
            let port = free_port().to_string();
            [&["--tls-port", &port], &tls[..]].concat().into_iter().map(str::to_owned).collect()
        })
    }

    /// As [`Cluster::url`], over TLS.
    pub fn secure_url(&self) -> String {
        let port =
            |node: &Server| node.args.iter().skip_while(|arg| *arg != "--tls-port").nth(1).unwrap().clone();
        format!("rediss+cluster://127.0.0.1:{},127.0.0.1:{}", port(&self.0[0]), port(&self.0[1]))
    }

    /// Names two of the three; they tell of the third.
    pub fn url(&self) -> String {
        format!("redis+cluster://127.0.0.1:{},127.0.0.1:{}", self.0[0].port(), self.0[1].port())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
