//! `hookgate healthcheck`: asks a probe endpoint and exits 0 or 1, for exec probes in an
//! image without a shell.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::config::units::Span;

#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// Which endpoint of the ops listener: /livez, /startupz or /readyz
    #[arg(default_value = "/readyz", value_name = "PATH")]
    path: String,

    /// Where the ops listener is
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:17090", env = "HOOKGATE_OPS_LISTEN")]
    ops_listen: SocketAddr,

    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    timeout: Span,
}

pub fn healthcheck(args: &HealthcheckArgs) -> ExitCode {
    match ask(args.ops_listen, &args.path, args.timeout.0) {
        Ok((200, _)) => ExitCode::SUCCESS,
        Ok((status, body)) => {
            eprintln!("{} answered {status}: {}", args.path, body.trim());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{} cannot be asked: {error}", args.ops_listen);
            ExitCode::FAILURE
        }
    }
}

fn ask(mut address: SocketAddr, path: &str, timeout: Duration) -> std::io::Result<(u16, String)> {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status.unwrap_or_default(), body.to_owned()))
}
