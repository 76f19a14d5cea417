//! `hookgate send URL`: sign as a provider does and deliver, also in the ways that a gate
//! must refuse.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http::header::CONTENT_TYPE;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use super::sign::{SignerArgs, Unable, read, with_query};
use super::{print, shown};
use crate::clock::to_rfc3339;
use crate::files;
use crate::gate::scheme::sign::lines;

#[derive(Debug, Args)]
pub struct SendArgs {
    /// Where to, such as http://127.0.0.1:17080/webhooks or https://hooks.example/webhooks
    url: String,

    /// Certificates (PEM) of those who may vouch for an HTTPS server [default: the system's]
    #[arg(long, value_name = "PATH")]
    ca_file: Option<PathBuf>,

    /// The URL that the provider was given, if it signs that [default: the one above]
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,

    #[command(flatten)]
    signer: SignerArgs,

    /// File with the body; `-` is standard input [default: a small JSON event]
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,

    /// One more header, such as 'X-Forwarded-Proto: https'; repeatable
    #[arg(long, value_name = "LINE", value_parser = header_line)]
    header: Vec<String>,

    /// Change a byte of the body after signing
    #[arg(long)]
    tamper: bool,

    /// Sign as of an hour ago
    #[arg(long)]
    stale: bool,

    /// Send the same bytes so many times
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeat: u32,
}

/// More than any gate takes to answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Exit 0 if every answer is a 2xx, 1 if one is not.
pub fn send(args: &SendArgs) -> ExitCode {
    match delivered(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(unable) => unable.exit(),
    }
}

fn delivered(args: &SendArgs) -> Result<bool, Unable> {
    let Target { tls, authority, path: target } = Target::of(&args.url)?;
    let tls = if tls { Some(trusting(args.ca_file.as_deref())?) } else { None };
    let request = request(args, authority, target)?;
    let mut fine = true;
    for _ in 0..args.repeat {
        let answer = ask(authority, tls.as_ref(), &request)
            .map_err(|e| Unable::failed(format!("{authority} cannot be reached: {e}")))?;
        let status = answer.split(' ').nth(1).and_then(|s| s.parse::<u16>().ok()).unwrap_or_default();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        print(format_args!("{status} {}", shown(body.trim_end())));
        fine &= (200..300).contains(&status);
    }
    Ok(fine)
}

/// What a URL is made of.
struct Target<'u> {
    tls: bool,
    authority: &'u str,
    /// Path and query.
    path: &'u str,
}

impl<'u> Target<'u> {
    fn of(url: &'u str) -> Result<Self, Unable> {
        let (tls, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => {
                return Err(Unable::usage(format!("\"{url}\" is not a URL: write http://… or https://…")));
            }
        };
        if !rest.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Unable::usage(format!(
                "{url:?} is not a URL: write what it holds beyond plain ASCII as %XX"
            )));
        }
        let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        Ok(Target { tls, authority, path })
    }
}

/// Whom a server's certificate is believed to be signed by.
fn trusting(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, Unable> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let refused =
                |why: &dyn std::fmt::Display| Unable::configuration(format!("{}: {why}", path.display()));
            let pem = files::read(path).map_err(|e| refused(&format_args!("cannot be read: {e}")))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(|e| refused(&format_args!("is not PEM: {e}")))?;
                roots.add(certificate).map_err(|e| refused(&e))?;
            }
            if roots.is_empty() {
                return Err(refused(&"holds no certificate: it begins with -----BEGIN CERTIFICATE-----"));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(Unable::configuration("this system has no list of authorities: give --ca-file"));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Unable::failed(e.to_string()))?;
    Ok(Arc::new(versions.with_root_certificates(roots).with_no_client_auth()))
}

fn request(args: &SendArgs, authority: &str, target: &str) -> Result<Vec<u8>, Unable> {
    const HOUR_MS: i64 = 3_600_000;
    let age_ms = if args.stale { HOUR_MS } else { 0 };
    let signer = &args.signer;
    let mut body = match &args.body {
        Some(path) => read(path)?,
        None => {
            let time = signer.now.unwrap_or_else(|| crate::clock::now().wall_ms) - age_ms;
            let event = serde_json::json!({ "id": signer.id(), "type": "hookgate.test", "created": to_rfc3339(time) });
            signer.timed(event, time)?.to_string().into_bytes()
        }
    };
    let sent = signer.sign(&body, age_ms, Some(args.public_url.as_ref().unwrap_or(&args.url)))?;
    let target = with_query(target, sent.query.as_deref());
    body = sent.body;
    if args.tamper {
        match body.last_mut() {
            Some(byte) => *byte ^= 1,
            None => body.push(b' '),
        }
    }
    let mut head = format!(
        "POST {target} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: hookgate\r\nContent-Length: {}\r\n\
         Connection: close\r\n",
        body.len()
    );
    if !sent.headers.contains_key(CONTENT_TYPE) {
        head += "Content-Type: application/json\r\n";
    }
    let ours = lines(&sent.headers).map(|(name, value)| format!("{name}: {value}"));
    for line in ours.chain(args.header.iter().cloned()) {
        head = head + &line + "\r\n";
    }
    head += "\r\n";
    Ok([head.into_bytes(), body].concat())
}

fn ask(authority: &str, tls: Option<&Arc<ClientConfig>>, request: &[u8]) -> std::io::Result<String> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => (host, port),
        _ => (authority, if tls.is_some() { "443" } else { "80" }),
    };
    let stream = TcpStream::connect(format!("{host}:{port}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    match tls {
        None => exchange(stream, request),
        Some(config) => {
            let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let name = ServerName::try_from(name).map_err(std::io::Error::other)?;
            let connection =
                ClientConnection::new(Arc::clone(config), name).map_err(std::io::Error::other)?;
            let mut stream = StreamOwned::new(connection, stream);
            // A certificate that nobody vouches for is told as such, before anything is sent.
            while stream.conn.is_handshaking() {
                stream.conn.complete_io(&mut stream.sock)?;
            }
            exchange(stream, request)
        }
    }
}

fn exchange(mut stream: impl Read + Write, request: &[u8]) -> std::io::Result<String> {
    // A gate may refuse and hang up before it has taken everything.
    _ = stream.write_all(request).and_then(|()| stream.flush());
    let mut answer = Vec::new();
    match stream.take(2 << 20).read_to_end(&mut answer) {
        // Who ends TLS without saying so has answered all the same.
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof || answer.is_empty() => Err(error),
        Ok(_) | Err(_) => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}

fn header_line(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some((name, _)) if !name.is_empty() && !text.contains(['\r', '\n']) => Ok(text.to_owned()),
        _ => Err(format!("\"{text}\" is not a header: write 'Name: value'")),
    }
}
