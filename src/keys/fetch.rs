//! One request for keys, over Pingora's client: HTTPS only, to an address that was looked at, answered at once
//! and briefly, or not at all. Redirects, other statuses and whatever is too long are failures.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use data_encoding::BASE64;
use pingora::connectors::{ConnectorOptions, L4Connect, TransportConnector};
use pingora::http::RequestHeader;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::tls::ALPN;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{WrappedX509, parse_x509};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::address::is_public;
use crate::config::keys::{Request, Settings};
use crate::gate::fetched::certificate;
use crate::lock::lock;

/// How long all of it may take.
pub const LIMIT: Duration = Duration::from_secs(2);
/// Of that, one address of several.
const CONNECT: Duration = Duration::from_secs(1);
/// The longest document.
pub const MAX_BODY: usize = 64 * 1024;
const MAX_ADDRESSES: usize = 3;
/// A longer one is not remembered.
const MAX_ETAG: usize = 256;

/// What was found at an address.
#[derive(Debug)]
pub struct Answer {
    /// `None` if it is what the gate has already.
    pub body: Option<Vec<u8>>,
    /// How long it may be kept, as the server says.
    pub max_age: Option<Duration>,
    /// By which the server tells this document from others (RFC 9110, section 8.8.3).
    pub etag: Option<String>,
}

/// Why nothing was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The name does not resolve.
    Name(String),
    /// It resolves to an address that is somebody's own.
    Private(IpAddr),
    Connection(String),
    /// A status other than 200. What it says of a key is that it is not there, where it is 404 or 410.
    Status(u16),
    TooLong,
    TooLate,
    /// The answer holds no key.
    NoKeys,
    /// A certificate that leads to no root.
    NotRooted,
    /// The mounted copy cannot be read.
    File(String),
}

impl Fault {
    /// In metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Fault::Name(_) => "name",
            Fault::Private(_) => "private_address",
            Fault::Connection(_) => "connection",
            Fault::Status(_) => "status",
            Fault::TooLong => "too_long",
            Fault::TooLate => "timeout",
            Fault::NoKeys => "no_keys",
            Fault::NotRooted => "not_rooted",
            Fault::File(_) => "file",
        }
    }

    pub const LABELS: [&'static str; 9] = [
        "name",
        "private_address",
        "connection",
        "status",
        "too_long",
        "timeout",
        "no_keys",
        "not_rooted",
        "file",
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Name(error) => write!(f, "its name does not resolve: {error}"),
            Fault::Private(address) => write!(
                f,
                "its name resolves to {address}, which is no public address: keys.allow_private lets that pass"
            ),
            Fault::Connection(error) => write!(f, "no connection: {error}"),
            Fault::Status(status @ 300..400) => write!(f, "it answered {status}: redirects are not followed"),
            Fault::Status(status) => write!(f, "it answered {status}"),
            Fault::TooLong => write!(f, "its answer is longer than {} KiB", MAX_BODY / 1024),
            Fault::TooLate => write!(f, "no answer within {} s", LIMIT.as_secs()),
            Fault::NoKeys => f.write_str("its answer holds no key"),
            Fault::NotRooted => f.write_str("its certificate leads to no root that is believed"),
            Fault::File(error) => write!(f, "its copy cannot be read: {error}"),
        }
    }
}

/// Fetches.
pub struct Fetcher {
    connector: TransportConnector,
    authorities: OnceLock<Vec<Vec<u8>>>,
    roots: OnceLock<Arc<[WrappedX509]>>,
    settings: Settings,
    /// What a token of an API is had for, the token, and until when it is good.
    tokens: Mutex<Vec<(Request, String, Instant)>>,
}

/// `https://host[:port]/path` in its parts.
struct Target<'u> {
    host: &'u str,
    port: u16,
    path: &'u str,
}

impl<'u> Target<'u> {
    fn of(url: &'u str) -> Option<Self> {
        let url = url.split('#').next()?;
        let rest = url.strip_prefix("https://")?;
        let (authority, path) = rest.split_at(rest.find('/')?);
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (authority, 443),
        };
        Some(Target { host, port, path })
    }

    fn authority(&self) -> String {
        if self.port == 443 { self.host.to_owned() } else { format!("{}:{}", self.host, self.port) }
    }
}

impl Fetcher {
    pub fn new(settings: Settings) -> Self {
        // The roots come with each peer; those of the system, which this would read, are among the settings.
        let options = ConnectorOptions { ca_file: Some("/dev/null".to_owned()), ..ConnectorOptions::new(1) };
        Fetcher {
            connector: TransportConnector::new(Some(options)),
            authorities: OnceLock::new(),
            roots: OnceLock::new(),
            settings,
            tokens: Mutex::default(),
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What lies at a URL that the gate has put together itself. `etag` is that of what it has already.
    pub async fn fetch(&self, url: &str, request: &Request, etag: Option<String>) -> Result<Answer, Fault> {
        if let Some(dir) = &self.settings.dir {
            let path = dir.join(file_name(url));
            let shown = path.display().to_string();
            // A volume can be slow: nothing else waits for it.
            let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
            let read = read.map_err(std::io::Error::other).flatten();
            let body = read.map_err(|error| Fault::File(format!("{shown}: {error}")))?;
            let max_age = Some(Duration::ZERO);
            if body.len() > MAX_BODY {
                return Err(Fault::TooLong);
            }
            return Ok(Answer { body: Some(body), max_age, etag: None });
        }
        timeout(LIMIT, self.fetch_at_leisure(url, request, etag)).await.unwrap_or(Err(Fault::TooLate))
    }

    /// Asks for a URL that the gate has put together itself, and wants nothing but that it is well.
    pub async fn visit(&self, url: &str) -> Result<(), Fault> {
        let visited = timeout(LIMIT, self.exchange(url, Said::default())).await;
        visited.unwrap_or(Err(Fault::TooLate)).map(|_| ())
    }

    async fn fetch_at_leisure(
        &self,
        url: &str,
        request: &Request,
        etag: Option<String>,
    ) -> Result<Answer, Fault> {
        match request {
            Request::Plain => self.exchange(url, Said { etag, ..Said::default() }).await,
            Request::Bearer(key) => {
                let authorization = Some(format!("Bearer {}", String::from_utf8_lossy(key.expose())));
                self.exchange(url, Said { authorization, etag, ..Said::default() }).await
            }
            Request::Post { template, credentials } => {
                let id = url.split_once('#').map(|(_, id)| id).unwrap_or_default();
                let mut body = template.replace("{id}", id);
                for (name, secret) in credentials {
                    body = body.replace(&format!("{{{name}}}"), &String::from_utf8_lossy(secret.expose()));
                }
                let posted = Some(("application/json", body));
                self.exchange(url, Said { posted, ..Said::default() }).await
            }
            Request::Oauth { url: token_url, scope, id, secret } => {
                let token = match self.known_token(request) {
                    Some(token) => token,
                    None => self.new_token(request, token_url, scope, (id.expose(), secret.expose())).await?,
                };
                let authorization = Some(format!("Bearer {token}"));
                self.exchange(url, Said { authorization, etag, ..Said::default() }).await
            }
        }
    }

    fn known_token(&self, of: &Request) -> Option<String> {
        let tokens = lock(&self.tokens);
        let known = tokens.iter().find(|(known, _, until)| known == of && Instant::now() < *until);
        known.map(|(_, token, _)| token.clone())
    }

    /// RFC 6749, section 4.4.
    async fn new_token(
        &self,
        of: &Request,
        url: &str,
        scope: &str,
        (id, secret): (&[u8], &[u8]),
    ) -> Result<String, Fault> {
        #[derive(serde::Deserialize)]
        struct Token {
            access_token: String,
            #[serde(default)]
            expires_in: u64,
        }
        let basic = BASE64.encode(&[id, b":", secret].concat());
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("scope", scope)
            .finish();
        let said = Said {
            authorization: Some(format!("Basic {basic}")),
            posted: Some(("application/x-www-form-urlencoded", form)),
            etag: None,
        };
        let answer = self.exchange(url, said).await?;
        let token: Token =
            serde_json::from_slice(&answer.body.unwrap_or_default()).map_err(|_| Fault::NoKeys)?;
        if !token.access_token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Fault::NoKeys);
        }
        let until = Instant::now() + Duration::from_secs(token.expires_in.min(24 * 3600) / 2);
        let mut tokens = lock(&self.tokens);
        tokens.retain(|(known, _, until)| known != of && Instant::now() < *until);
        tokens.push((of.clone(), token.access_token.clone(), until));
        Ok(token.access_token)
    }

    async fn exchange(&self, url: &str, said: Said) -> Result<Answer, Fault> {
        let target = Target::of(url).ok_or_else(|| Fault::Connection("no address".to_owned()))?;
        let mut last = Fault::Name("it has no address".to_owned());
        for peer in self.peers(&target).await? {
            match timeout(CONNECT, self.connector.new_stream(&peer)).await {
                Ok(Ok(stream)) => return talk(HttpSession::new(stream), &target, said).await,
                Ok(Err(error)) => last = fault(&error),
                Err(_) => last = Fault::TooLate,
            }
        }
        Err(last)
    }

    /// In DER; those of the settings, else the machine's.
    fn authorities(&self) -> &[Vec<u8>] {
        let own = || self.settings.roots.as_ref().map_or_else(authorities, |own| own.to_vec());
        self.authorities.get_or_init(own)
    }

    /// Whether a chain of certificates was given to that name by an authority that is believed.
    pub fn is_rooted(&self, pem: &[u8], name: &str) -> bool {
        let Ok(chain) = certificate::blocks(pem) else { return false };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.authorities().iter().cloned().map(CertificateDer::from));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let chain: Vec<_> = chain.into_iter().map(CertificateDer::from).collect();
        let (Ok(verifier), Some((leaf, issuers))) = (verifier, chain.split_first()) else { return false };
        let Ok(name) = ServerName::try_from(name) else { return false };
        let now = UnixTime::since_unix_epoch(Duration::from_millis(
            u64::try_from(crate::clock::now().wall_ms).unwrap_or_default(),
        ));
        verifier.verify_server_cert(leaf, issuers, &name, &[], now).is_ok()
    }

    /// Where to connect. The name is resolved once, and what it resolves to is what is dialled. A proxy resolves
    /// it itself.
    async fn peers(&self, target: &Target<'_>) -> Result<Vec<HttpPeer>, Fault> {
        let addresses = match &self.settings.proxy {
            Some(_) => vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), target.port)],
            None => {
                let found = lookup_host((target.host, target.port)).await;
                let found: Vec<_> = found.map_err(|error| Fault::Name(error.to_string()))?.collect();
                let own = found.iter().find(|address| !is_public(address.ip()));
                if let Some(own) = own.filter(|_| !self.settings.allow_private) {
                    return Err(Fault::Private(own.ip()));
                }
                found
            }
        };
        let wrap = |der: &Vec<u8>| WrappedX509::new(der.clone(), parse_x509);
        let roots = self.roots.get_or_init(|| self.authorities().iter().map(wrap).collect());
        let peer = |address: SocketAddr| {
            let mut peer = HttpPeer::new(address, true, target.host.to_owned());
            peer.options.ca = Some(Arc::clone(roots));
            peer.options.alpn = ALPN::H1;
            if let Some((host, port)) = &self.settings.proxy {
                let (proxy, authority) = ((host.clone(), *port), format!("{}:{}", target.host, target.port));
                peer.options.custom_l4 = Some(Arc::new(Tunnel { proxy, authority }));
            }
            peer
        };
        Ok(addresses.into_iter().take(MAX_ADDRESSES).map(peer).collect())
    }
}

/// Those of the machine; where it has none, as in an image of one program, those that browsers believe.
fn authorities() -> Vec<Vec<u8>> {
    let native = rustls_native_certs::load_native_certs().certs;
    let all = if native.is_empty() { webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec() } else { native };
    let is_certificate = |der: &Vec<u8>| matches!(X509Certificate::from_der(der), Ok(([], _)));
    all.into_iter().map(|one| one.to_vec()).filter(is_certificate).collect()
}

/// What a request carries.
#[derive(Default)]
struct Said {
    authorization: Option<String>,
    /// The media type and the body.
    posted: Option<(&'static str, String)>,
    /// Of what is here already: only something else is to be sent.
    etag: Option<String>,
}

async fn talk(mut session: HttpSession, target: &Target<'_>, said: Said) -> Result<Answer, Fault> {
    let method = if said.posted.is_some() { "POST" } else { "GET" };
    let broken = |error: Box<pingora::Error>| fault(&error);
    let mut head = RequestHeader::build(method, target.path.as_bytes(), Some(8)).map_err(broken)?;
    let agent = concat!("hookgate/", env!("CARGO_PKG_VERSION"));
    let mut set = |name: &'static str, value: &str| head.insert_header(name, value).map_err(broken);
    set("Host", &target.authority())?;
    set("User-Agent", agent)?;
    set("Accept", "*/*")?;
    set("Accept-Encoding", "identity")?;
    set("Connection", "close")?;
    if let Some(authorization) = &said.authorization {
        set("Authorization", authorization)?;
    }
    if let Some(etag) = &said.etag {
        set("If-None-Match", etag)?;
    }
    if let Some((media, body)) = &said.posted {
        set("Content-Type", media)?;
        set("Content-Length", &body.len().to_string())?;
    }
    session.write_request_header(Box::new(head)).await.map_err(broken)?;
    if let Some((_, body)) = &said.posted {
        session.write_body(body.as_bytes()).await.map_err(broken)?;
    }
    session.finish_body().await.map_err(broken)?;
    session.read_response().await.map_err(broken)?;
    let status = session.get_status().map_or(0, |status| status.as_u16());
    let unchanged = status == 304 && said.etag.is_some();
    if status != 200 && !unchanged {
        return Err(Fault::Status(status));
    }
    let header = |name: &str| session.get_header(name).and_then(|value| value.to_str().ok());
    if header("content-encoding").is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        return Err(Fault::NoKeys);
    }
    let number = |text: &str| text.trim().parse().ok().map(Duration::from_secs);
    let age = header("age").and_then(number).unwrap_or_default();
    let max_age = header("cache-control").and_then(|control| {
        control.split(',').find_map(|word| number(word.trim().strip_prefix("max-age=")?))
    });
    let max_age = max_age.map(|max_age| max_age.saturating_sub(age));
    let plain = |etag: &&str| etag.len() <= MAX_ETAG && etag.bytes().all(|b| b.is_ascii_graphic());
    let etag = header("etag").filter(plain).map(str::to_owned);
    if unchanged {
        return Ok(Answer { body: None, max_age, etag: said.etag });
    }
    let mut body = Vec::new();
    while let Some(part) = session.read_body_bytes().await.map_err(broken)? {
        if body.len() + part.len() > MAX_BODY {
            return Err(Fault::TooLong);
        }
        body.extend_from_slice(&part);
    }
    Ok(Answer { body: Some(body), max_age, etag })
}

fn fault(error: &pingora::Error) -> Fault {
    let text = error.to_string();
    Fault::Connection(text.split(" context:").next().unwrap_or_default().trim().to_owned())
}

/// A way to a server through a proxy (RFC 9110, section 9.3.6).
#[derive(Debug)]
struct Tunnel {
    proxy: (String, u16),
    authority: String,
}

/// More is no answer to CONNECT.
const MAX_TUNNEL_HEAD: usize = 4096;

#[async_trait]
impl L4Connect for Tunnel {
    async fn connect(&self, _: &PingoraAddr) -> pingora::Result<L4Stream> {
        let failed = |what: String| pingora::Error::explain(pingora::ErrorType::ConnectProxyFailure, what);
        let (host, port) = &self.proxy;
        let io = |error: std::io::Error| failed(format!("the proxy {host}:{port}: {error}"));
        let mut stream = TcpStream::connect((host.as_str(), *port)).await.map_err(io)?;
        let authority = &self.authority;
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.map_err(io)?;
        // Byte by byte: what follows the head is the server's.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() == MAX_TUNNEL_HEAD {
                return Err(failed(format!("the proxy {host}:{port} answers no CONNECT")));
            }
            head.push(stream.read_u8().await.map_err(io)?);
        }
        let status = head.split(|b| *b == b' ').nth(1).unwrap_or_default();
        match status {
            [b'2', _, _] => Ok(stream.into()),
            _ => Err(failed(format!("the proxy {host}:{port} answered {}", String::from_utf8_lossy(status)))),
        }
    }
}

/// The file of a mounted copy that stands for a URL: its text without the scheme, and `_` for whatever a
/// file's name does better without.
pub fn file_name(url: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
    url.strip_prefix("https://").unwrap_or(url).chars().map(plain).collect()
}
