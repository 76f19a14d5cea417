//! The way to a Redis: one connection that all calls share, a deadline for each call, and a
//! breaker for all of them.
//!
//! Only an answer by which something was written shows that the store is well: a replica, or a
//! store that is full, answers whoever reads. A cluster is watched in parts, so that the loss of
//! one node shows although the others answer.
//!
//! The connection is made when it is first needed, by a task of its own, because a call's
//! deadline is shorter than a TLS handshake may take. Addresses, password and authorities are
//! looked up each time, so that a failover or a rotated password needs no restart. (The
//! connection manager of the library does none of the three: it knows a single server, and
//! stays with the first answer to its password.)

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind, TlsCertificates, TlsMode, Value,
};
use sha1::{Digest, Sha1};
use smallvec::SmallVec;
use tokio::sync::watch;
use tokio::time::timeout;

use super::address::{Address, Server, Servers};
use super::parts::{Part, Parts, slot};
use crate::clock;
use crate::files;
use crate::lock::lock;

/// How a store is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub address: Address,
    /// What all keys begin with.
    pub prefix: String,
    /// Read at each connection.
    pub password_file: Option<PathBuf>,
    /// Authorities to believe instead of the system's (PEM); read at each connection.
    pub ca_file: Option<PathBuf>,
    /// For each call.
    pub timeout: Duration,
}

/// What is known of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It was not asked yet.
    Unknown,
    Up,
    /// Calls fail, and why the last one did.
    Down(Trouble),
}

/// Why a call failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    pub cause: Cause,
    /// In the words of whoever knows.
    pub reason: String,
}

/// The closed list of what can be wrong with a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// There is no connection, or it broke.
    #[default]
    Connection,
    /// What answers is no Redis.
    Nonsense,
    /// It answers, and does not do what it is asked.
    Refused,
    /// It did not answer in time.
    Timeout,
}

impl Cause {
    pub const ALL: [Cause; 4] = [Cause::Connection, Cause::Nonsense, Cause::Refused, Cause::Timeout];

    pub const fn label(self) -> &'static str {
        match self {
            Cause::Connection => "connection",
            Cause::Nonsense => "nonsense",
            Cause::Refused => "refused",
            Cause::Timeout => "timeout",
        }
    }
}

impl Trouble {
    fn new(cause: Cause, reason: impl Into<String>) -> Self {
        Trouble { cause, reason: reason.into() }
    }

    fn of(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension => {
                let (code, detail) = (error.code().unwrap_or("ERR"), error.detail().unwrap_or_default());
                Trouble::new(Cause::Refused, format!("{code} {detail}"))
            }
            ErrorKind::AuthenticationFailed => Trouble::new(Cause::Refused, error.to_string()),
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
                Trouble::new(Cause::Nonsense, error.to_string())
            }
            _ => Trouble::new(Cause::Connection, error.to_string()),
        }
    }
}

/// The calls that failed since they were last looked at, by [`Cause`], and what the last one met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    pub calls: [u64; Cause::ALL.len()],
    pub last: Option<Trouble>,
}

impl Failures {
    pub fn of(&self, cause: Cause) -> u64 {
        self.calls[cause as usize]
    }

    pub fn add(&mut self, more: Failures) {
        for (calls, more) in self.calls.iter_mut().zip(more.calls) {
            *calls += more;
        }
        self.last = more.last.or(self.last.take());
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The store was not asked.
    Unasked,
    /// It may have done what it was asked.
    Unanswered,
}

/// A script, and the digest by which a server knows it.
pub struct Script {
    code: &'static str,
    digest: String,
    /// Whether it does no more when it runs twice with the same arguments.
    repeatable: bool,
}

impl Script {
    /// One that may have run before: its first argument names the call.
    pub fn repeatable(code: &'static str) -> Self {
        Script { repeatable: true, ..Script::once(code) }
    }

    pub fn once(code: &'static str) -> Self {
        let digest = data_encoding::HEXLOWER.encode(&Sha1::digest(code));
        Script { code, digest, repeatable: false }
    }

    fn command(&self, how: &str, keys: &[&str], args: &[&[u8]]) -> Cmd {
        let mut command = redis::cmd(how);
        command.arg(if how == "EVAL" { self.code } else { &self.digest }).arg(keys.len()).arg(keys).arg(args);
        command
    }
}

pub struct Link {
    settings: Settings,
    line: watch::Sender<Line>,
    parts: Parts,
    health: watch::Sender<Health>,
    failures: Mutex<Failures>,
}

/// What the answers of scripts begin with that have written something.
const WRITTEN: &[u8] = b"+";

/// How long a connection may take, with its handshakes; longer than any call waits.
const CONNECT: Duration = Duration::from_secs(2);
/// What is kept of a reason: it may be a stranger's words.
const MAX_REASON: usize = 200;

#[derive(Clone)]
enum Line {
    Closed(Trouble),
    Opening,
    Open(Connection, u64),
}

#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    pub fn new(settings: Settings) -> Arc<Self> {
        let parts = Parts::of(&settings.address.servers);
        Arc::new(Link {
            settings,
            line: watch::Sender::new(Line::Closed(Trouble::default())),
            parts,
            health: watch::Sender::new(Health::Unknown),
            failures: Mutex::default(),
        })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn is_up(&self) -> bool {
        *self.health.borrow() == Health::Up
    }

    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// What failed since this was last asked.
    pub fn failures(&self) -> Failures {
        std::mem::take(&mut self.lock_failures())
    }

    /// Whether calls about this key are held back, but for those that try.
    pub fn holds_back(&self, key: &str) -> bool {
        self.parts.with(key).breaker.is_open()
    }

    /// What to ask to learn whether the store takes writes, where none was taken for so long.
    pub fn unproven(&self, since: Duration) -> Vec<String> {
        let now = clock::now().mono;
        let unproven = self.parts.unproven(now, since, !self.is_up());
        unproven.map(|probe| format!("{}probe{probe}", self.settings.prefix)).collect()
    }

    /// Runs a script within the deadline. Its answer begins with its first argument, which no
    /// other call has: so neither nonsense nor the answer to another call is taken for it.
    pub async fn ask(
        self: &Arc<Self>,
        script: &Script,
        keys: &[&str],
        args: &[&str],
    ) -> Result<Vec<u8>, Failure> {
        let args: SmallVec<[&[u8]; 8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        self.judged(script, keys, &args, |answer| match answer {
            Value::BulkString(answer) => told(&answer, args[0]).map(|told| (told.starts_with(WRITTEN), told)),
            _ => None,
        })
        .await
    }

    /// The same for a script whose answer has several parts, each a text; the first of them begins so.
    pub async fn ask_parts(
        self: &Arc<Self>,
        script: &Script,
        keys: &[&str],
        args: &[&[u8]],
    ) -> Result<Vec<Vec<u8>>, Failure> {
        self.judged(script, keys, args, |answer| {
            let Value::Array(parts) = answer else { return None };
            let texts = parts.into_iter().map(|part| match part {
                Value::BulkString(text) => Some(text),
                _ => None,
            });
            let mut texts = texts.collect::<Option<Vec<_>>>()?;
            let first = texts.first_mut()?;
            *first = told(first, args[0])?;
            Some((first.starts_with(WRITTEN), texts))
        })
        .await
    }

    /// Runs one command, on the server of that key where there are several. An error that the server
    /// answers is no failure of the link.
    pub async fn try_command(
        self: &Arc<Self>,
        command: Cmd,
        beside: Option<&str>,
        longer: Duration,
    ) -> Result<Result<Value, RedisError>, Failure> {
        let run = async {
            let (mut connection, number) = self.connection().await?;
            let answer = connection.send_beside(command, beside).await;
            match answer {
                Err(error) if connection.is_lost_by(&error) => {
                    self.hang_up(|open| open == number, &Trouble::of(&error));
                    Err(Trouble::of(&error))
                }
                answer => Ok(answer),
            }
        };
        match timeout(self.settings.timeout + longer, run).await {
            Ok(answer) => answer.map_err(|_| Failure::Unanswered),
            Err(_) => {
                // Where one waits, all do: they begin anew elsewhere.
                self.hang_up(|_| true, &Trouble::new(Cause::Timeout, "no answer"));
                Err(Failure::Unanswered)
            }
        }
    }

    /// The same where an error is a failure.
    pub async fn command(self: &Arc<Self>, command: Cmd, beside: Option<&str>) -> Result<Value, Failure> {
        self.try_command(command, beside, Duration::ZERO).await?.map_err(|_| Failure::Unanswered)
    }

    /// Whether there is such a key; a server that does not tell has none for us.
    pub async fn has(self: &Arc<Self>, key: &str) -> Result<bool, Failure> {
        let mut exists = redis::cmd("EXISTS");
        exists.arg(key);
        let answer = self.try_command(exists, Some(key), Duration::ZERO).await?;
        Ok(matches!(answer, Ok(Value::Int(1..))))
    }

    /// What `read` makes of the answer, and whether something was written.
    async fn judged<T>(
        self: &Arc<Self>,
        script: &Script,
        keys: &[&str],
        args: &[&[u8]],
        read: impl FnOnce(Value) -> Option<(bool, T)>,
    ) -> Result<T, Failure> {
        let part = self.parts.with(keys[0]);
        if !part.breaker.lets_through(clock::now().mono) {
            return Err(Failure::Unasked);
        }
        let trouble = match timeout(self.settings.timeout, self.run(script, keys, args)).await {
            Ok(Ok(answer)) => match read(answer) {
                Some((has_written, told)) => {
                    if has_written {
                        self.wrote(part);
                    }
                    return Ok(told);
                }
                None => Trouble::new(Cause::Nonsense, "what answers there is no Redis"),
            },
            Ok(Err(trouble)) => trouble,
            Err(_) => {
                let reason = format!("no answer within {} ms", self.settings.timeout.as_millis());
                Trouble::new(Cause::Timeout, reason)
            }
        };
        self.failed(part, trouble);
        Err(Failure::Unanswered)
    }

    /// Asks, and asks once more on a new connection where the one there was led nowhere.
    async fn run(self: &Arc<Self>, script: &Script, keys: &[&str], args: &[&[u8]]) -> Result<Value, Trouble> {
        let mut once_more = script.repeatable;
        loop {
            let (mut connection, number) = self.connection().await?;
            let mut result = connection.send(&script.command("EVALSHA", keys, args)).await;
            if result.as_ref().is_err_and(|e| e.kind() == ErrorKind::Server(ServerErrorKind::NoScript)) {
                result = connection.send(&script.command("EVAL", keys, args)).await;
            }
            let error = match result {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let lost = connection.is_lost_by(&error);
            if lost {
                self.hang_up(|open| open == number, &Trouble::of(&error));
            }
            if !(lost && once_more) {
                return Err(Trouble::of(&error));
            }
            once_more = false;
        }
    }

    fn wrote(&self, part: &Part) {
        part.wrote(clock::now().mono);
        if !self.is_up() && !self.parts.any_open() {
            self.health.send_replace(Health::Up);
        }
    }

    fn failed(&self, part: &Part, mut trouble: Trouble) {
        trouble.reason = trouble.reason.chars().take(MAX_REASON).collect();
        part.breaker.failed(clock::now().mono);
        if self.parts.all_open() {
            // Another server may have taken over, and a connection may be dead without a word.
            self.hang_up(|_| true, &trouble);
        }
        let mut failures = self.lock_failures();
        failures.calls[trouble.cause as usize] += 1;
        failures.last = Some(trouble.clone());
        drop(failures);
        self.health.send_if_modified(|health| {
            let changes = match health {
                Health::Unknown => true,
                Health::Up => part.breaker.is_open(),
                Health::Down(_) => false,
            };
            if changes {
                *health = Health::Down(trouble);
            }
            changes
        });
    }

    fn lock_failures(&self) -> MutexGuard<'_, Failures> {
        lock(&self.failures)
    }

    fn hang_up(&self, which: impl Fn(u64) -> bool, why: &Trouble) {
        self.line.send_if_modified(|line| {
            let ours = matches!(line, Line::Open(_, number) if which(*number));
            if ours {
                *line = Line::Closed(why.clone());
            }
            ours
        });
    }

    /// The connection, and its number. Whoever finds none has one made; all wait for it.
    async fn connection(self: &Arc<Self>) -> Result<(Connection, u64), Trouble> {
        let mut line = self.line.subscribe();
        let closed = self.line.send_if_modified(|line| {
            let closed = matches!(line, Line::Closed(_));
            if closed {
                *line = Line::Opening;
            }
            closed
        });
        if closed {
            tokio::spawn(Arc::clone(self).open());
        }
        let line = line.wait_for(|line| !matches!(line, Line::Opening)).await;
        match line.as_deref() {
            Ok(Line::Open(connection, number)) => Ok((connection.clone(), *number)),
            Ok(Line::Closed(trouble)) => Err(trouble.clone()),
            Ok(Line::Opening) | Err(_) => Err(Trouble::new(Cause::Connection, "the store is closed")),
        }
    }

    async fn open(self: Arc<Self>) {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let line = match timeout(CONNECT, connect(&self.settings)).await {
            Ok(Ok(connection)) => Line::Open(connection, NUMBER.fetch_add(1, Ordering::Relaxed)),
            Ok(Err(trouble)) => Line::Closed(trouble),
            Err(_) => {
                let reason = format!("no connection within {} s", CONNECT.as_secs());
                Line::Closed(Trouble::new(Cause::Connection, reason))
            }
        };
        self.line.send_replace(line);
    }
}

/// What stands behind the word by which an answer is told.
fn told(answer: &[u8], word: &[u8]) -> Option<Vec<u8>> {
    answer.strip_prefix(word).map(<[u8]>::to_vec)
}

impl Connection {
    async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Connection::One(one) => command.query_async(one).await,
            Connection::Cluster(cluster) => command.query_async(cluster).await,
        }
    }

    /// Sends a command that names no key to the server that has this one.
    async fn send_beside(&mut self, command: Cmd, key: Option<&str>) -> RedisResult<Value> {
        match (self, key) {
            (Connection::Cluster(cluster), Some(key)) => {
                let node = SingleNodeRoutingInfo::SpecificNode(Route::new(slot(key), SlotAddr::Master));
                cluster.route_command(command, RoutingInfo::SingleNode(node)).await
            }
            (connection, _) => connection.send(&command).await,
        }
    }

    /// Whether it is broken, or leads to a server that cannot help: a replica, one that still reads
    /// its disk, one that does not know us any more. Another one may have taken over under its name.
    fn is_lost_by(&self, error: &RedisError) -> bool {
        let leads_astray = match error.kind() {
            ErrorKind::Server(kind) => match kind {
                ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown | ServerErrorKind::ReadOnly => {
                    true
                }
                // What stopped a script, in the words of servers before 7.
                ServerErrorKind::ResponseError => error.detail().is_some_and(|d| d.contains("-READONLY ")),
                _ => false,
            },
            _ => error.code() == Some("NOAUTH"),
        };
        // A cluster's connection is many, and mends those that broke.
        leads_astray || matches!(self, Connection::One(_)) && error.is_unrecoverable_error()
    }
}

async fn connect(settings: &Settings) -> Result<Connection, Trouble> {
    let access = Access::read(settings).map_err(|reason| Trouble::new(Cause::Connection, reason))?;
    let connection = match &settings.address.servers {
        Servers::One(server) => access.one(server).await.map(Connection::One),
        Servers::Cluster(nodes) => access.cluster(nodes).await.map(Connection::Cluster),
        Servers::Sentinel { sentinels, master } => {
            access.sentinel(sentinels, master).await.map(Connection::One)
        }
    };
    connection.map_err(|error| Trouble::of(&error))
}

/// What servers demand before they take commands.
struct Access<'a> {
    address: &'a Address,
    password: Option<String>,
    authorities: Option<Vec<u8>>,
}

impl<'a> Access<'a> {
    fn read(settings: &'a Settings) -> Result<Self, String> {
        let read =
            |path: &Path| files::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()));
        let password = match &settings.password_file {
            Some(path) => Some(password(&read(path)?)?),
            None => None,
        };
        let authorities = settings.ca_file.as_deref().map(read).transpose()?;
        Ok(Access { address: &settings.address, password, authorities })
    }

    async fn one(&self, server: &Server) -> RedisResult<MultiplexedConnection> {
        let client = match self.certificates() {
            Some(certificates) => Client::build_with_tls(self.info(server)?, certificates)?,
            None => Client::open(self.info(server)?)?,
        };
        client.get_multiplexed_async_connection_with_config(&config()).await
    }

    async fn cluster(&self, nodes: &[Server]) -> RedisResult<ClusterConnection> {
        let nodes = nodes.iter().map(|node| self.info(node)).collect::<RedisResult<Vec<_>>>()?;
        let mut builder = ClusterClient::builder(nodes)
            .connection_timeout(CONNECT)
            .overall_response_timeout(None)
            .retries(CLUSTER_RETRIES);
        if let Some(certificates) = self.certificates() {
            builder = builder.certs(certificates);
        }
        builder.build()?.get_async_connection().await
    }

    /// Sentinels have a password of their own or none: the store's is tried, then none.
    async fn sentinel(&self, sentinels: &[Server], master: &str) -> RedisResult<MultiplexedConnection> {
        if let Some(password) = &self.password
            && let Ok(connection) = self.sentinel_with(Some(password), sentinels, master).await
        {
            return Ok(connection);
        }
        self.sentinel_with(None, sentinels, master).await
    }

    async fn sentinel_with(
        &self,
        password: Option<&str>,
        sentinels: &[Server],
        master: &str,
    ) -> RedisResult<MultiplexedConnection> {
        let sentinels = sentinels.iter().map(|server| self.place(server)).collect::<Vec<_>>();
        let mut builder = SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)?
            .set_client_to_redis_db(self.address.database);
        if let Some(user) = &self.address.user {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = &self.password {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(password) = password {
            builder = builder.set_client_to_sentinel_password(password);
        }
        if self.address.tls {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        if let Some(certificates) = self.certificates() {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates);
        }
        builder.build()?.get_async_connection_with_config(&config()).await
    }

    fn info(&self, server: &Server) -> RedisResult<ConnectionInfo> {
        let mut redis = RedisConnectionInfo::default().set_db(self.address.database);
        if let Some(user) = &self.address.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &self.password {
            redis = redis.set_password(password);
        }
        Ok(self.place(server).into_connection_info()?.set_redis_settings(redis))
    }

    fn place(&self, server: &Server) -> ConnectionAddr {
        let (host, port) = (server.host.clone(), server.port);
        if self.address.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        }
    }

    fn certificates(&self) -> Option<TlsCertificates> {
        let root_cert = Some(self.authorities.clone()?);
        self.address.tls.then_some(TlsCertificates { client_tls: None, root_cert })
    }
}

/// A redirection or two; the call's deadline ends it in any case.
const CLUSTER_RETRIES: u32 = 3;

/// Each call has its own deadline.
fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(None)
}

/// A password as it stands in its file, but for a newline at the end.
pub fn password(bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "the password is no text".to_owned())?;
    let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() {
        return Err("the password file is empty: put the store's password into it".to_owned());
    }
    Ok(text.to_owned())
}
