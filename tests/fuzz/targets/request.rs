//! A whole request, or several on one connection: through the session and every check, to an application that takes nothing for granted.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use hmac::{Hmac, KeyInit, Mac};
use hookgate::clock::{self, Now};
use hookgate::config::Config;
use hookgate::config::application::Application;
use hookgate::config::checks::Checks;
use hookgate::config::flags::{Given, RunArgs};
use hookgate::config::route::words::{RateLimit, RouteWords};
use hookgate::config::units::{ByteSize, Rate, Senders};
use hookgate::keys::Rooms;
use hookgate::proxy::Sidecar;
use hookgate::proxy::live::Live;
use hookgate::server::sidecar;
use hookgate::store::{Memory, ReplayStore};
use hookgate::telemetry::Telemetry;
use hookgate::telemetry::log::{Format, Severity, Sink};
use hookgate::telemetry::metrics::Metrics;
use pingora::apps::ServerApp;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::upstream::application;
use super::{block_on, folder};

const SECRET: &[u8] = b"a key for the fuzzers alone";
/// Where these stand in an input, the signature of what follows the first head is put.
const SIGN: &[u8] = b"{sig}";
const PATH: &str = "/hooks";

/// The application sees whole requests with one reading, each signed, each once; the sender sees
/// nothing but answers.
pub fn request(data: &[u8]) {
    let data = signed(data);
    SEEN.lock().unwrap().clear();
    let said = serve(data);
    answers(&said);
    let mut bodies = Vec::new();
    for bytes in SEEN.lock().unwrap().drain(..) {
        let body = delivered(&bytes);
        assert!(!bodies.contains(&body), "an event is delivered twice");
        bodies.push(body);
    }
}

fn signed(data: &[u8]) -> Vec<u8> {
    let Some(at) = data.windows(SIGN.len()).position(|w| w == SIGN) else { return data.to_vec() };
    let head = data.windows(4).position(|w| w == b"\r\n\r\n").map_or(data.len(), |end| end + 4);
    [&data[..at], tag(&data[head..]).as_bytes(), &data[at + SIGN.len()..]].concat()
}

fn tag(body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
    mac.update(body);
    data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes())
}

/// What the application read on its connections, request by request.
static SEEN: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Judges a request as the application reads it, and gives its body.
fn delivered(bytes: &[u8]) -> Vec<u8> {
    let mut slots = [httparse::EMPTY_HEADER; 200];
    let mut request = httparse::Request::new(&mut slots);
    let head = request.parse(bytes).expect("a head").unwrap();
    let headers = |name: &str| {
        let found = request.headers.iter().filter(|h| h.name.replace('_', "-").eq_ignore_ascii_case(name));
        found.map(|h| h.value).collect::<Vec<_>>()
    };
    let body = &bytes[head..];
    assert_eq!(headers("content-length"), [body.len().to_string().as_bytes()]);
    assert!(headers("transfer-encoding").is_empty());
    assert_eq!(request.method, Some("POST"));
    assert_eq!(request.path.unwrap().split('?').next(), Some(PATH));
    assert_eq!(headers("hookgate-verdict"), [b"accepted"]);
    assert_eq!(headers("hookgate-key-id"), [b"key"]);
    assert_eq!(headers("x-forwarded-for"), [b"192.0.2.9"]);
    for header in request.headers.iter() {
        let plain = header.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        assert!(plain && !header.name.to_ascii_lowercase().ends_with("-ip"), "{}", header.name);
    }
    for name in ["connection", "upgrade", "te", "trailer", "expect", "x-http-method-override"] {
        assert!(headers(name).is_empty(), "{name} reaches the application");
    }
    let signature = headers("x-hub-signature-256");
    assert_eq!(signature.len(), 1);
    assert_eq!(signature[0].to_ascii_lowercase(), format!("sha256={}", tag(body)).as_bytes());
    body.to_vec()
}

/// Judges all that the sender was told.
fn answers(mut said: &[u8]) {
    while !said.is_empty() {
        let mut slots = [httparse::EMPTY_HEADER; 50];
        let mut answer = httparse::Response::new(&mut slots);
        let head = answer.parse(said).expect("an answer").unwrap();
        let code = answer.code.unwrap();
        let header = |name: &str| answer.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
        assert!(header("server").is_none());
        said.advance(head);
        if code == 100 {
            continue;
        }
        assert!([200, 400, 401, 403, 404, 405, 408, 413, 431].contains(&code), "{code}");
        let length = header("content-length").expect("a length").value;
        let length: usize = std::str::from_utf8(length).unwrap().parse().unwrap();
        assert!(header("hookgate-request-id").is_some());
        said.advance(length);
    }
}

/// Serves one connection, and gives all that the gate said on it.
fn serve(data: Vec<u8>) -> Vec<u8> {
    thread_local! {
        static GATE: Arc<Sidecar> = gate();
    }
    GATE.with(|gate| {
        let said = Arc::new(Mutex::new(Vec::new()));
        let wire = Wire { said: Arc::clone(&said), ..wire(data) };
        let (_close, closing) = watch::channel(false);
        block_on(async { ServerApp::process_new(gate, Box::new(wire), &closing).await });
        // The next input may hold the same event.
        gate.store.sweep(Now { mono: Duration::from_secs(u64::from(u32::MAX)), ..clock::now() });
        assert_eq!(gate.store.entries(), 0);
        let said = said.lock().unwrap();
        said.clone()
    })
}

fn gate() -> Arc<Sidecar> {
    let key = folder().join("key");
    std::fs::write(&key, SECRET).unwrap();
    let args = RunArgs {
        application: Application {
            upstream: Some(application("reads", read).into()),
            ..Application::default()
        },
        route: RouteWords {
            provider: Some("github".to_owned().into()),
            path: Some(PATH.to_owned().into()),
            secrets: Some(vec![key.into()]),
            allow_ips: Some(vec!["192.0.2.0/24".parse::<Senders>().unwrap().into()]),
            rate_limit: Some("off".parse::<RateLimit>().unwrap().into()),
            failure_limit: Some(Rate::Off.into()),
            max_body: Some(ByteSize(1 << 10).into()),
            ..RouteWords::default()
        },
        checks: Checks { insecure_allow_http: Some(true.into()), ..Checks::default() },
        ..RunArgs::default()
    };
    let Config { startup, routes, trusted_proxies, .. } = Config::load(&Given::flags(args)).unwrap();
    let metrics = Metrics::new();
    let log = Sink::new(Box::new(io::sink()), Format::Json, Severity::Debug, &metrics);
    let telemetry = Telemetry::new(metrics, log);
    let memory = Memory::new(startup.replay, startup.stale_after, startup.replay_capacity);
    let store = ReplayStore::Memory(memory);
    let rooms = Rooms::new(store.clone(), startup.keys.clone(), &telemetry);
    let live = Live::new(routes, trusted_proxies, &telemetry, &rooms);
    sidecar(&startup, live, (store, None, None), rooms, &telemetry)
}

/// Notes each request that comes, and whatever is none, and thanks for it.
async fn read(mut stream: UnixStream) {
    let mut bytes = Vec::new();
    while stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
        if length(&bytes).is_some_and(|length| bytes.len() < length) {
            continue;
        }
        SEEN.lock().unwrap().push(std::mem::take(&mut bytes));
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
    if !bytes.is_empty() {
        SEEN.lock().unwrap().push(bytes);
    }
}

/// How long a request is by its `Content-Length`.
fn length(bytes: &[u8]) -> Option<usize> {
    let mut slots = [httparse::EMPTY_HEADER; 200];
    let mut request = httparse::Request::new(&mut slots);
    let httparse::Status::Complete(head) = request.parse(bytes).ok()? else { return Some(usize::MAX) };
    let length = request.headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"))?.value;
    Some(head + std::str::from_utf8(length).ok()?.parse::<usize>().ok()?)
}

fn peer() -> Arc<SocketDigest> {
    let digest = SocketDigest::from_raw_fd(-1);
    _ = digest.peer_addr.set(Some("192.0.2.9:4711".parse::<SocketAddr>().unwrap().into()));
    Arc::new(digest)
}

/// A connection whose sender has sent everything and listens.
#[derive(Debug)]
pub struct Wire {
    data: Bytes,
    said: Arc<Mutex<Vec<u8>>>,
    digest: Arc<SocketDigest>,
}

pub fn wire(data: Vec<u8>) -> Wire {
    Wire { data: data.into(), said: Arc::default(), digest: peer() }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let now = self.data.len().min(buffer.remaining());
        buffer.put_slice(&self.data.split_to(now));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.said.lock().unwrap().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Shutdown for Wire {
    async fn shutdown(&mut self) {}
}

impl UniqueID for Wire {
    fn id(&self) -> UniqueIDType {
        0
    }
}

impl Ssl for Wire {}

impl Peek for Wire {}

impl GetTimingDigest for Wire {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Wire {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Wire {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }
}
