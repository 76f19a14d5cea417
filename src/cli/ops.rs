//! How a command asks a running gate: the address of its ops listener, and one GET.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use clap::Args;

use crate::config::units::Span;

#[derive(Debug, Args)]
pub struct OpsArgs {
    /// Where the ops listener is
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:17090", env = "HOOKGATE_OPS_LISTEN")]
    pub ops_listen: SocketAddr,

    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    pub timeout: Span,
}

/// No answer is longer.
const LONGEST: u64 = 64 << 20;

impl OpsArgs {
    /// Status and body of a GET.
    pub fn ask(&self, path: &str) -> std::io::Result<(u16, String)> {
        let (mut address, timeout) = (self.ops_listen, self.timeout.0);
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
        stream.take(LONGEST).read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok((status.unwrap_or_default(), body.to_owned()))
    }
}
