//! The PROXY protocol, versions 1 and 2: a trusted load balancer names the sender before the
//! first byte of TLS or HTTP. Believed from trusted proxies only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

pub use crate::config::checks::ProxyProtocol;

/// A balancer sends its line at once; who dawdles is none.
const LINE_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest version 1 header there can be.
const MAX_LINE: usize = 107;
/// The longest version 2 header that makes sense: addresses and a few fields.
const MAX_BLOCK: usize = 4096;
const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The commands of version 2: the balancer's own connection, or one that it passes on.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// What stood in front of a connection.
#[derive(Debug)]
pub struct Preamble {
    /// The sender; `None` if the balancer speaks for itself or said nothing.
    pub sender: Option<SocketAddr>,
    /// What was read beyond it.
    pub ahead: BytesMut,
}

/// Why a connection is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It begins as a preamble does, and is none.
    Malformed,
    /// It begins with something else, and a preamble is required.
    Missing,
    /// Nothing came.
    Silent,
}

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
    let patience = if mode == ProxyProtocol::Required { LINE_TIMEOUT } else { patience };
    let first = tokio::time::timeout(patience, read_some(stream, &mut ahead)).await;
    first.unwrap_or(Err(Refused::Silent)).map_err(|_| Refused::Silent)?;
    if mode == ProxyProtocol::Optional && !could_be_preamble(&ahead) {
        return Ok(Preamble { sender: None, ahead });
    }
    let complete = async {
        loop {
            match parse(&ahead)? {
                Some((sender, length)) => return Ok((sender, length)),
                None => read_some(stream, &mut ahead).await?,
            }
        }
    };
    let (sender, length) =
        tokio::time::timeout(LINE_TIMEOUT, complete).await.unwrap_or(Err(Refused::Malformed))?;
    ahead.advance(length);
    Ok(Preamble { sender, ahead })
}

async fn read_some(stream: &mut (impl AsyncRead + Unpin), ahead: &mut BytesMut) -> Result<(), Refused> {
    match stream.read_buf(ahead).await {
        Ok(read) if read > 0 => Ok(()),
        Ok(_) | Err(_) => Err(Refused::Malformed),
    }
}

fn could_be_preamble(start: &[u8]) -> bool {
    [V1, V2].iter().any(|mark| start.starts_with(&mark[..mark.len().min(start.len())]))
}

/// The sender that the preamble names, and how long the preamble is.
type Parsed = (Option<SocketAddr>, usize);

/// `Ok(None)`: not complete yet.
fn parse(bytes: &[u8]) -> Result<Option<Parsed>, Refused> {
    if bytes.starts_with(V1) {
        line(bytes)
    } else if bytes.starts_with(V2) {
        block(bytes)
    } else if could_be_preamble(bytes) {
        Ok(None)
    } else {
        Err(Refused::Missing)
    }
}

/// Version 1: `PROXY TCP4 source destination port port` and CR LF.
fn line(bytes: &[u8]) -> Result<Option<Parsed>, Refused> {
    let Some(end) = bytes.iter().take(MAX_LINE).position(|b| *b == b'\n') else {
        return if bytes.len() < MAX_LINE { Ok(None) } else { Err(Refused::Malformed) };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(Refused::Malformed)?;
    let mut words = std::str::from_utf8(line).map_err(|_| Refused::Malformed)?.split(' ').skip(1);
    let sender = match words.next() {
        Some("UNKNOWN") => None, // whatever follows
        Some("TCP4") => Some(addresses::<Ipv4Addr>(words)?),
        Some("TCP6") => Some(addresses::<Ipv6Addr>(words)?),
        Some(_) | None => return Err(Refused::Malformed),
    };
    Ok(Some((sender, end + 1)))
}

/// The source, if all four words are what they should be.
fn addresses<'w, A: FromStr + Into<IpAddr>>(
    mut words: impl Iterator<Item = &'w str>,
) -> Result<SocketAddr, Refused> {
    let mut address = || words.next().and_then(|word| word.parse::<A>().ok()).ok_or(Refused::Malformed);
    let (source, _destination) = (address()?, address()?);
    let mut port = || {
        let word = words.next().filter(|word| word.bytes().all(|b| b.is_ascii_digit()));
        word.and_then(|word| word.parse::<u16>().ok()).ok_or(Refused::Malformed)
    };
    let (source_port, _destination_port) = (port()?, port()?);
    if words.next().is_some() {
        return Err(Refused::Malformed);
    }
    Ok(SocketAddr::new(source.into(), source_port))
}

/// Version 2: twelve bytes of mark, what it is, its length, addresses, and fields that are not ours.
fn block(bytes: &[u8]) -> Result<Option<Parsed>, Refused> {
    let Some(&[command, family, high, low]) = bytes.get(V2.len()..V2.len() + 4) else { return Ok(None) };
    let start = V2.len() + 4;
    let end = start + usize::from(u16::from_be_bytes([high, low]));
    if end > MAX_BLOCK {
        return Err(Refused::Malformed);
    }
    let Some(block) = bytes.get(start..end) else { return Ok(None) };
    let sender = match (command, family) {
        // The balancer's own, whatever the family; or unspecified, or from a Unix socket.
        (LOCAL, _) | (PROXY, 0x00 | 0x31) => None,
        (PROXY, 0x11) => Some(source::<4>(block)?),
        (PROXY, 0x21) => Some(source::<16>(block)?),
        _ => return Err(Refused::Malformed),
    };
    Ok(Some((sender, end)))
}

/// Two addresses and two ports; the first of each is the sender's.
fn source<const N: usize>(block: &[u8]) -> Result<SocketAddr, Refused>
where
    IpAddr: From<[u8; N]>,
{
    let ports = block.get(2 * N..2 * N + 4).ok_or(Refused::Malformed)?;
    let address = block.first_chunk::<N>().ok_or(Refused::Malformed)?;
    Ok(SocketAddr::new(IpAddr::from(*address), u16::from_be_bytes([ports[0], ports[1]])))
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
        // With fields behind the addresses.
        let fields =
            [V2, &[0x21, 0x11, 0, 16, 192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x67, 1, 0xbb, 4, 0, 1, 9], b"POST"];
        for bytes in [v1.as_slice(), &v2, &fields.concat()] {
            for mode in [ProxyProtocol::Required, ProxyProtocol::Optional] {
                let read = preamble(bytes, mode).await.unwrap();
                assert_eq!(read, (Some("192.0.2.1:4711".to_owned()), b"POST".to_vec()));
            }
        }
    }

    #[tokio::test]
    async fn a_preamble_may_be_so_long_and_no_longer() {
        let line = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16)).into_bytes();
        let block = |length: u16| {
            let addresses = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x67, 1, 0xbb];
            let mut bytes = [V2, &[PROXY, 0x11], &length.to_be_bytes(), &addresses].concat();
            bytes.resize(16 + usize::from(length), 0);
            bytes
        };
        for (bytes, taken) in
            [(line(107), true), (line(108), false), (block(4080), true), (block(4081), false)]
        {
            let read = preamble(&bytes, ProxyProtocol::Required).await;
            assert_eq!(read.is_ok(), taken, "{} bytes", bytes.len());
        }
    }

    #[tokio::test]
    async fn addresses_may_be_ipv6() {
        let v1 = b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\nPOST";
        let mut v2 = [V2, &[0x21, 0x21, 0, 36, 0x20, 1, 0xd, 0xb8]].concat();
        v2.extend([0; 11]);
        v2.extend([1, 0x20, 1, 0xd, 0xb8]);
        v2.extend([0; 11]);
        v2.extend([2, 0x12, 0x67, 1, 0xbb]);
        v2.extend(b"POST");
        for bytes in [v1.as_slice(), &v2] {
            let read = preamble(bytes, ProxyProtocol::Required).await;
            assert_eq!(read, Ok((Some("[2001:db8::1]:4711".to_owned()), b"POST".to_vec())));
        }
    }

    #[tokio::test]
    async fn a_balancer_may_speak_for_itself() {
        let mut local = V2.to_vec();
        local.extend([0x20, 0, 0, 0]);
        assert_eq!(preamble(&local, ProxyProtocol::Required).await, Ok((None, vec![])));
        let mut local_tcp4 = V2.to_vec();
        local_tcp4.extend([0x20, 0x11, 0, 0]);
        local_tcp4.extend(b"GET");
        assert_eq!(
            preamble(&local_tcp4, ProxyProtocol::Required).await,
            Ok((None, b"GET".to_vec())),
            "a family without its addresses"
        );
        assert_eq!(
            preamble(b"PROXY UNKNOWN\r\nGET", ProxyProtocol::Required).await,
            Ok((None, b"GET".to_vec()))
        );
    }

    #[tokio::test]
    async fn what_is_no_preamble_is_refused_where_one_is_required() {
        let v2 = |rest: &[u8]| [V2, rest, b"GET / HTTP/1.1\r\n\r\n"].concat();
        let endless = format!("PROXY UNKNOWN {}\r\n", "x".repeat(200));
        let other = b"POST / HTTP/1.1\r\n\r\n".as_slice();
        assert_eq!(preamble(other, ProxyProtocol::Required).await, Err(Refused::Missing));
        assert_eq!(preamble(b"", ProxyProtocol::Required).await, Err(Refused::Silent));
        for bad in [
            b"PROXY TCP4 not an address\r\n".as_slice(),
            b"PROXY TCP4 192.0.2.1",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 +1 443\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1 65536\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1 443 \r\n",
            b"PROXY TCP4 192.0.2.1  10.0.0.1 1 443\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1 443\n",
            b"PROXY TCP4 2001:db8::1 2001:db8::2 1 443\r\n",
            b"PROXY TCP6 192.0.2.1 10.0.0.1 1 443\r\n",
            b"PROXY UNKNOWNS\r\n",
            endless.as_bytes(),
            &v2(&[0x21, 0x11, 0xff, 0xff, 1, 2, 3]),
            &v2(&[0x21, 0x11, 0, 4, 1, 2, 3, 4]),
            &v2(&[0x21, 0x21, 0, 12, 192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x67, 1, 0xbb]),
            &v2(&[0x21, 0x12, 0, 12, 192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x67, 1, 0xbb]),
            &v2(&[0x22, 0x11, 0, 12, 192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x67, 1, 0xbb]),
            &v2(&[0x11, 0, 0, 0]),
        ] {
            assert_eq!(preamble(bad, ProxyProtocol::Required).await, Err(Refused::Malformed), "{bad:?}");
        }
        let request = b"POST / HTTP/1.1\r\n\r\n";
        assert_eq!(preamble(request, ProxyProtocol::Optional).await, Ok((None, request.to_vec())));
        assert_eq!(
            preamble(b"PROXY TCP4 garbage\r\n", ProxyProtocol::Optional).await,
            Err(Refused::Malformed)
        );
    }
}
