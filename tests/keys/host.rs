//! A host that publishes keys, under whatever name: a proxy that takes CONNECT and answers as the server itself.
//! It counts what it is asked for, and answers as a test tells it to.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::crypto::ring::default_provider;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::{Builder, LIMIT, lock};
use crate::tls::{Authority, Pair};

/// What is answered for a URL.
#[derive(Clone)]
pub enum Reply {
    Document(String),
    /// The same, to be kept for so many seconds.
    Kept(String, u64),
    /// The same document as long as it has that tag.
    Tagged(String, &'static str),
    Status(u16, String),
    /// After so long.
    Late(Duration, String),
    /// More bytes than any document has.
    Endless,
    /// The connection ends in the middle.
    Cut,
}

pub struct KeyHost {
    pub authority: Authority,
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    replies: Mutex<HashMap<String, Reply>>,
    asked: Mutex<Vec<String>>,
    said: Mutex<Vec<String>>,
    tls: Mutex<Arc<ServerConfig>>,
    away: Mutex<bool>,
}

/// Every name that the tests' keys are published under.
const NAMES: &str = "DNS:sns.us-east-1.amazonaws.com,DNS:sns.eu-west-1.amazonaws.com,DNS:www.googleapis.com,DNS:issuer.example,\
    DNS:api.circle.com,DNS:api.ebay.com,DNS:production.plaid.com,DNS:api.paypal.com,DNS:api.sandbox.paypal.com,DNS:localhost,DNS:api.github.com,\
    DNS:keys.fireblocks.io,DNS:rest.fal.ai,DNS:static.adobeioevents.com,DNS:s3.amazonaws.com,DNS:example.kinde.com,\
    DNS:login.microsoftonline.com,DNS:login.botframework.com,DNS:developer.constantcontact.com,DNS:api.travis-ci.com,DNS:secure.tpay.com,DNS:webhooks.truelayer.com,DNS:api.turnkey.com,IP:127.0.0.1";

impl KeyHost {
    /// `None`, and said aloud, where there is no openssl.
    pub fn new() -> Option<Self> {
        let authority = Authority::new()?;
        let pair = authority.issue_for("host", 30, NAMES);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            replies: Mutex::default(),
            asked: Mutex::default(),
            said: Mutex::default(),
            tls: Mutex::new(config(&pair)),
            away: Mutex::default(),
        });
        let serving = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&serving);
                thread::spawn(move || _ = state.serve(stream));
            }
        });
        Some(KeyHost { authority, address, state })
    }

    /// A gate that fetches from here, whatever it fetches.
    pub fn before(&self, upstream: &str, routes: &str) -> Builder {
        self.gate(upstream, &format!("keys: {{ ca_file: CA, proxy: 'http://{}' }}\n{routes}", self.address))
    }

    pub fn gate(&self, upstream: &str, yaml: &str) -> Builder {
        let yaml = yaml.replace("CA", self.authority.root().to_str().unwrap());
        Builder::new(upstream).config(&yaml)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn publish(&self, url: &str, reply: Reply) {
        lock(&self.state.replies).insert(url.to_owned(), reply);
    }

    /// From now on no connection comes about, or again.
    pub fn away(&self, away: bool) {
        *lock(&self.state.away) = away;
    }

    pub fn show(&self, pair: &Pair) {
        *lock(&self.state.tls) = config(pair);
    }

    /// How often a URL was asked for.
    pub fn asked(&self, url: &str) -> usize {
        lock(&self.state.asked).iter().filter(|asked| *asked == url).count()
    }

    pub fn asked_in_all(&self) -> usize {
        lock(&self.state.asked).len()
    }

    /// The heads and bodies of all requests.
    pub fn said(&self) -> Vec<String> {
        lock(&self.state.said).clone()
    }
}

fn config(pair: &Pair) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(&pair.cert).unwrap();
    let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    Arc::new(builder.with_single_cert(vec![certificate], key).unwrap())
}

impl State {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(LIMIT))?;
        let mut first = [0];
        // A TLS record begins with 22: somebody came without the proxy.
        stream.peek(&mut first)?;
        let mut authority = "localhost".to_owned();
        if first != [22] {
            let head = head_of(&mut stream)?;
            head.split(' ').nth(1).unwrap_or_default().clone_into(&mut authority);
            lock(&self.said).push(head);
            if *lock(&self.away) {
                stream.write_all(b"HTTP/1.1 502 Bad gateway\r\n\r\n")?;
                return Ok(());
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        }
        let tls = ServerConnection::new(Arc::clone(&lock(&self.tls))).unwrap();
        let mut tls = StreamOwned::new(tls, stream);
        let mut reader = BufReader::new(&mut tls);
        let (mut head, mut line) = (String::new(), String::new());
        while reader.read_line(&mut line)? > 2 {
            head.push_str(&line);
            line.clear();
        }
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body)?;
        let path = head.split(' ').nth(1).unwrap_or_default();
        let url = format!("https://{}{path}", authority.strip_suffix(":443").unwrap_or(&authority));
        lock(&self.said).push(format!("{head}\r\n{}", String::from_utf8_lossy(&body)));
        let reply = lock(&self.replies).get(&url).cloned();
        lock(&self.asked).push(url);
        answer(&mut tls, reply, &head)?;
        tls.conn.send_close_notify();
        tls.flush()
    }
}

fn answer(tls: &mut impl Write, reply: Option<Reply>, head: &str) -> std::io::Result<()> {
    let mut say = |status: u16, more: &str, text: &str| {
        write!(tls, "HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n{more}\r\n{text}", text.len())
    };
    match reply {
        None => say(404, "", "nothing here"),
        Some(Reply::Document(text)) => say(200, "", &text),
        Some(Reply::Kept(text, seconds)) => {
            say(200, &format!("Cache-Control: public, max-age={seconds}\r\n"), &text)
        }
        Some(Reply::Tagged(_, tag)) if head.contains(&format!("If-None-Match: {tag}\r\n")) => {
            write!(tls, "HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n\r\n")
        }
        Some(Reply::Tagged(text, tag)) => say(200, &format!("ETag: {tag}\r\n"), &text),
        Some(Reply::Status(status, more)) => say(status, &more, "{}"),
        Some(Reply::Late(wait, text)) => {
            thread::sleep(wait);
            say(200, "", &text)
        }
        Some(Reply::Cut) => write!(tls, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{{"),
        Some(Reply::Endless) => {
            write!(tls, "HTTP/1.1 200 OK\r\n\r\n")?;
            for _ in 0..1024 {
                tls.write_all(&[b' '; 1024])?;
            }
            Ok(())
        }
    }
}

fn head_of(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// A pair of keys that signs as providers do.
pub enum Signer {
    Rsa(Box<RsaKeyPair>),
    P256(Box<EcdsaKeyPair>),
}

impl Signer {
    /// RSA of 2048 bits, and its certificate for a name, in PEM.
    pub fn certified(authority: &Authority, file: &str, name: &str) -> (Self, String) {
        authority.openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -keyout {file}.key -out {file}.crt -days 30 -subj /CN={name} -addext subjectAltName=DNS:{name}"
        ));
        let at = authority.root().with_file_name(format!("{file}.key"));
        let key = PrivateKeyDer::from_pem_file(&at).unwrap();
        let pair = RsaKeyPair::from_pkcs8(key.secret_der()).unwrap();
        let pem = std::fs::read_to_string(authority.root().with_file_name(format!("{file}.crt"))).unwrap();
        (Signer::Rsa(Box::new(pair)), pem)
    }

    pub fn p256() -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random);
        Signer::P256(Box::new(pair.unwrap()))
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Signer::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Signer::P256(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
        }
    }

    /// As a JSON Web Key.
    pub fn jwk(&self, kid: &str) -> String {
        let b64 = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
        match self {
            Signer::Rsa(pair) => {
                let public: ring::rsa::PublicKeyComponents<Vec<u8>> = pair.public().into();
                format!(
                    r#"{{"kty":"RSA","use":"sig","kid":"{kid}","n":"{}","e":"{}"}}"#,
                    b64(&public.n),
                    b64(&public.e)
                )
            }
            Signer::P256(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = (b64(&point[1..33]), b64(&point[33..65]));
                format!(r#"{{"kty":"EC","crv":"P-256","kid":"{kid}","x":"{x}","y":"{y}"}}"#)
            }
        }
    }

    /// A signed token.
    pub fn token(&self, kid: &str, claims: &serde_json::Value) -> String {
        let b64 = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
        let alg = match self {
            Signer::Rsa(_) => "RS256",
            Signer::P256(_) => "ES256",
        };
        let header = serde_json::json!({ "alg": alg, "kid": kid, "typ": "JWT" }).to_string();
        let signed = format!("{}.{}", b64(header.as_bytes()), b64(claims.to_string().as_bytes()));
        let signature = self.sign(signed.as_bytes());
        format!("{signed}.{}", b64(&signature))
    }
}

pub fn set(keys: &[String]) -> String {
    format!("{{\"keys\":[{}]}}", keys.join(","))
}
