//! Secrets of tenants behind a Unix socket that speaks HTTP: `GET /ROUTE/TENANT`. What is behind it, a
//! database or a vault, is its own affair.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use super::{Trouble, answer};
use crate::config::provider::NamedSecret;

pub struct Socket {
    path: PathBuf,
}

/// For the whole of a question.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest answer, with its head.
const LONGEST: usize = 64 * 1024;

impl Socket {
    pub fn new(path: PathBuf) -> Self {
        Socket { path }
    }

    pub async fn secrets(&self, route: &str, tenant: &str) -> Result<Option<Vec<NamedSecret>>, Trouble> {
        let asked = tokio::time::timeout(PATIENCE, ask(&self.path, route, tenant)).await;
        let told = match asked {
            Ok(Ok(told)) => told,
            Ok(Err(why)) => return Err(self.away(&why)),
            Err(_) => return Err(self.away(&format!("no answer within {} s", PATIENCE.as_secs()))),
        };
        match told.status {
            200 => answer::secrets(&told.bytes[told.body..])
                .map_err(|why| Trouble::Tenant(format!("{}: {why}", self.path.display()))),
            404 => Ok(None),
            // The server is well, and finds fault with the question.
            status @ 400..500 => {
                Err(Trouble::Tenant(format!("{}: it answers {status}", self.path.display())))
            }
            status => Err(self.away(&format!("it answers {status}"))),
        }
    }

    fn away(&self, why: &str) -> Trouble {
        Trouble::Source(format!("{}: {why}", self.path.display()))
    }
}

struct Told {
    status: u16,
    bytes: Zeroizing<Vec<u8>>,
    /// Where the body begins.
    body: usize,
}

/// In HTTP/1.0: what answers ends where it says, or with the connection.
async fn ask(path: &Path, route: &str, tenant: &str) -> Result<Told, String> {
    let mut stream = UnixStream::connect(path).await.map_err(|error| error.to_string())?;
    let question = format!(
        "GET /{route}/{tenant} HTTP/1.0\r\nHost: hookgate\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(question.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST)); // it never grows, so no copy is left
    loop {
        let ended = stream.read_buf(&mut *bytes).await.map_err(|error| error.to_string())? == 0;
        if let Some((status, body, length)) = head(&bytes)? {
            let has = bytes.len() - body;
            match length {
                Some(length) if has >= length => {
                    bytes.truncate(body + length);
                    return Ok(Told { status, bytes, body });
                }
                Some(_) if ended => return Err("the answer is cut off".to_owned()),
                None if ended => return Ok(Told { status, bytes, body }),
                Some(_) | None => {}
            }
        } else if ended {
            return Err("what answers there speaks no HTTP".to_owned());
        }
        if bytes.len() >= LONGEST {
            return Err(format!("the answer is longer than {} KiB", LONGEST >> 10));
        }
    }
}

/// Status, where the body begins, and how long it is said to be; `None` if the head is not complete.
fn head(bytes: &[u8]) -> Result<Option<(u16, usize, Option<usize>)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let nonsense = |_| "what answers there speaks no HTTP".to_owned();
    let httparse::Status::Complete(body) = response.parse(bytes).map_err(nonsense)? else { return Ok(None) };
    let mut length = None;
    for header in &*response.headers {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("it answers in chunks, and was asked in HTTP/1.0".to_owned());
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let said = std::str::from_utf8(header.value).ok().and_then(|text| text.trim().parse().ok());
            length = Some(said.ok_or("its Content-Length is no number")?);
        }
    }
    Ok(Some((response.code.unwrap_or_default(), body, length)))
}
