//! The PROXY protocol, versions 1 and 2: a trusted load balancer names the sender before the
//! first byte of TLS or HTTP. Believed from trusted proxies only.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use proxy_header::{Error, ParseConfig, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

pub use crate::config::raw::ProxyProtocol;

/// A balancer sends its line at once; who dawdles is none.
const LINE_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest version 2 header that makes sense: addresses and a few fields.
const MAX_LINE: usize = 4096;
const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What stood in front of a connection.
#[derive(Debug)]
pub struct Preamble {
    /// The sender; `None` if the balancer speaks for itself or said nothing.
    pub sender: Option<SocketAddr>,
    /// What was read beyond it.
    pub ahead: BytesMut,
}

/// There is no preamble where one is required, or it is malformed: drop the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// Reads the preamble of a connection from a trusted proxy. `patience` is for the first byte.
pub async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    mode: ProxyProtocol,
    patience: Duration,
) -> Result<Preamble, Refused> {
    let mut ahead = BytesMut::with_capacity(256);
    if mode == ProxyProtocol::Off {
        return Ok(Preamble { sender: None, ahead });
    }
    more(stream, &mut ahead, if mode == ProxyProtocol::Required { LINE_TIMEOUT } else { patience }).await?;
    if mode == ProxyProtocol::Optional && !could_be_preamble(&ahead) {
        return Ok(Preamble { sender: None, ahead });
    }
    let complete = async {
        loop {
            match parse(&ahead)? {
                Some((sender, length)) => return Ok((sender, length)),
                None if ahead.len() > MAX_LINE => return Err(Refused),
                None => read_some(stream, &mut ahead).await?,
            }
        }
    };
    let (sender, length) = tokio::time::timeout(LINE_TIMEOUT, complete).await.unwrap_or(Err(Refused))?;
    ahead.advance(length);
    Ok(Preamble { sender, ahead })
}

async fn more(
    stream: &mut (impl AsyncRead + Unpin),
    ahead: &mut BytesMut,
    patience: Duration,
) -> Result<(), Refused> {
    tokio::time::timeout(patience, read_some(stream, ahead)).await.unwrap_or(Err(Refused))
}

async fn read_some(stream: &mut (impl AsyncRead + Unpin), ahead: &mut BytesMut) -> Result<(), Refused> {
    match stream.read_buf(ahead).await {
        Ok(read) if read > 0 => Ok(()),
        Ok(_) | Err(_) => Err(Refused),
    }
}

fn could_be_preamble(start: &[u8]) -> bool {
    [V1, V2].iter().any(|mark| start.starts_with(&mark[..mark.len().min(start.len())]))
}

/// `Ok(None)`: not complete yet.
fn parse(bytes: &[u8]) -> Result<Option<(Option<SocketAddr>, usize)>, Refused> {
    if !could_be_preamble(bytes) {
        return Err(Refused);
    }
    match ProxyHeader::parse(bytes, ParseConfig::default()) {
        Ok((header, length)) => Ok(Some((header.proxied_address().map(|a| a.source), length))),
        Err(Error::BufferTooShort) => Ok(None),
        Err(_) => Err(Refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn preamble(bytes: &[u8], mode: ProxyProtocol) -> Result<(Option<String>, Vec<u8>), Refused> {
        let mut stream = bytes;
        let read = read(&mut stream, mode, Duration::from_secs(1)).await?;
        let mut rest = read.ahead.to_vec();
        rest.extend_from_slice(stream);
        Ok((read.sender.map(|s| s.to_string()), rest))
    }

    #[tokio::test]
    async fn both_versions_name_the_sender_and_leave_the_rest() {
        let v1 = b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\nPOST";
        let mut v2 = V2.to_vec();
        v2.extend([0x21, 0x11, 0, 12, 192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x67, 1, 0xbb]);
        v2.extend(b"POST");
        for bytes in [v1.as_slice(), &v2] {
            for mode in [ProxyProtocol::Required, ProxyProtocol::Optional] {
                let read = preamble(bytes, mode).await.unwrap();
                assert_eq!(read, (Some("192.0.2.1:4711".to_owned()), b"POST".to_vec()));
            }
        }
    }

    #[tokio::test]
    async fn a_balancer_may_speak_for_itself() {
        let mut local = V2.to_vec();
        local.extend([0x20, 0, 0, 0]);
        assert_eq!(preamble(&local, ProxyProtocol::Required).await, Ok((None, vec![])));
        assert_eq!(
            preamble(b"PROXY UNKNOWN\r\nGET", ProxyProtocol::Required).await,
            Ok((None, b"GET".to_vec()))
        );
    }

    #[tokio::test]
    async fn what_is_no_preamble_is_refused_where_one_is_required() {
        let mut lies = V2.to_vec();
        lies.extend([0x21, 0x11, 0xff, 0xff, 1, 2, 3]);
        for bad in [
            b"POST / HTTP/1.1\r\n\r\n".as_slice(),
            b"PROXY TCP4 not an address\r\n",
            b"PROXY TCP4 192.0.2.1",
            &lies,
            b"",
        ] {
            assert_eq!(preamble(bad, ProxyProtocol::Required).await, Err(Refused), "{bad:?}");
        }
        let request = b"POST / HTTP/1.1\r\n\r\n";
        assert_eq!(preamble(request, ProxyProtocol::Optional).await, Ok((None, request.to_vec())));
        assert_eq!(preamble(b"PROXY TCP4 garbage\r\n", ProxyProtocol::Optional).await, Err(Refused));
    }
}
