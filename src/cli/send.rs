//! `hookgate send URL`: sign as a provider does and deliver, also in the ways that a gate
//! must refuse.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::sign::{SignerArgs, Unable, read, with_query};
use super::{print, shown};
use crate::clock::to_rfc3339;
use crate::gate::scheme::sign::lines;

#[derive(Debug, Args)]
pub struct SendArgs {
    /// Where to, such as http://127.0.0.1:17080/webhooks
    url: String,

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
    let (authority, target) = split(&args.url)?;
    let request = request(args, authority, target)?;
    let mut fine = true;
    for _ in 0..args.repeat {
        let answer = ask(authority, &request)
            .map_err(|e| Unable::failed(format!("{authority} cannot be reached: {e}")))?;
        let status = answer.split(' ').nth(1).and_then(|s| s.parse::<u16>().ok()).unwrap_or_default();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        print(format_args!("{status} {}", shown(body.trim_end())));
        fine &= (200..300).contains(&status);
    }
    Ok(fine)
}

/// The authority and the target of a plain HTTP URL.
fn split(url: &str) -> Result<(&str, &str), Unable> {
    let rest = url.strip_prefix("http://").ok_or_else(|| {
        Unable::usage(format!("\"{url}\" is not plain HTTP: for HTTPS use curl $(hookgate sign --curl …)"))
    })?;
    if !rest.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Unable::usage(format!(
            "{url:?} is no URL: write what it holds beyond plain ASCII as %XX"
        )));
    }
    Ok(rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash)))
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
            event.to_string().into_bytes()
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
        "POST {target} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: hookgate\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n",
        body.len()
    );
    let ours = lines(&sent.headers).map(|(name, value)| format!("{name}: {value}"));
    for line in ours.chain(args.header.iter().cloned()) {
        head = head + &line + "\r\n";
    }
    head += "\r\n";
    Ok([head.into_bytes(), body].concat())
}

fn ask(authority: &str, request: &[u8]) -> std::io::Result<String> {
    let with_port = if authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    let mut stream = TcpStream::connect(with_port)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    // A gate may refuse and hang up before it has taken everything.
    _ = stream.write_all(request);
    let mut answer = Vec::new();
    stream.take(2 << 20).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn header_line(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some((name, _)) if !name.is_empty() && !text.contains(['\r', '\n']) => Ok(text.to_owned()),
        _ => Err(format!("\"{text}\" is no header: write 'Name: value'")),
    }
}
