//! From a listening socket to Pingora's HTTP server: connection cap, handshake
//! deadline, and a stream that sends an answer in one piece.
//!
//! Pingora's own accept loop binds late, panics on a taken port in a background task,
//! has no cap, and closes its sockets at the first sign of a shutdown. This one is
//! handed a bound socket and does what the gate promises.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use dashmap::DashMap;
use pingora::apps::ServerApp;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use pingora::server::ShutdownWatch;
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::proxy_protocol::{self, ProxyProtocol};

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The caps on connections, shared by all listeners of a server.
#[derive(Clone)]
pub struct Connections {
    permits: Arc<Semaphore>,
    per_address: usize,
    by_address: Arc<DashMap<IpAddr, usize>>,
    gauge: IntGauge,
}

impl Connections {
    /// `most` in all, `per_address` for each peer that is no trusted proxy.
    pub fn new(most: usize, per_address: usize, gauge: IntGauge) -> Self {
        let permits = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Connections { permits, per_address, by_address: Arc::default(), gauge }
    }

    /// `peer` is `None` for a trusted proxy, which speaks for many senders.
    fn enter(&self, peer: Option<IpAddr>) -> Option<Permit> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        let counted = match peer {
            Some(peer) => Some(Counted::enter(&self.by_address, peer, self.per_address)?),
            None => None,
        };
        self.gauge.inc();
        Some(Permit { _of_all: permit, _of_peer: counted, gauge: self.gauge.clone() })
    }
}

struct Permit {
    _of_all: OwnedSemaphorePermit,
    _of_peer: Option<Counted>,
    gauge: IntGauge,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// One of the connections of an address. An address without any is forgotten.
struct Counted {
    by_address: Arc<DashMap<IpAddr, usize>>,
    peer: IpAddr,
}

impl Counted {
    fn enter(by_address: &Arc<DashMap<IpAddr, usize>>, peer: IpAddr, most: usize) -> Option<Self> {
        let mut count = by_address.entry(peer).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Counted { by_address: Arc::clone(by_address), peer })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.by_address.remove_if_mut(&self.peer, |_, count| {
            *count -= 1;
            *count == 0
        });
    }
}

/// What a listener asks about its peers.
#[derive(Clone)]
pub struct Trust {
    pub trusts: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
    pub proxy_protocol: ProxyProtocol,
    /// How long a peer may keep silent.
    pub patience: Duration,
}

impl Trust {
    /// Who sends, and what was read to find out. `None` drops the connection.
    async fn preamble(
        &self,
        stream: &mut TcpStream,
        peer: SocketAddr,
        trusted: bool,
    ) -> Option<(SocketAddr, BytesMut)> {
        let mode = match (self.proxy_protocol, trusted) {
            (ProxyProtocol::Required, false) => return None,
            (_, false) => ProxyProtocol::Off,
            (mode, true) => mode,
        };
        let preamble = proxy_protocol::read(stream, mode, self.patience).await.ok()?;
        Some((preamble.sender.unwrap_or(peer), preamble.ahead))
    }
}

/// One listening socket and the application behind it.
pub struct Listener<A> {
    pub socket: TcpListener,
    pub tls: Option<Arc<ArcSwap<Acceptor>>>,
    pub app: Arc<A>,
    pub connections: Connections,
    pub trust: Trust,
    pub shutdown: ShutdownWatch,
    /// Called for each connection over the cap: what it is told before it is closed.
    pub full: Arc<dyn Fn(IpAddr) -> Vec<u8> + Send + Sync>,
}

impl<A: ServerApp + Send + Sync + 'static> Listener<A> {
    /// Accepts until the shutdown begins; connections live on in their own tasks.
    pub async fn serve(mut self) {
        let mut stop = self.shutdown.clone();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match accepted {
                Ok((stream, peer)) => self.accept(stream, peer),
                // Out of descriptors or memory: let others finish first.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn accept(&mut self, mut stream: TcpStream, peer: SocketAddr) {
        let trusted = (self.trust.trusts)(peer.ip());
        let Some(permit) = self.connections.enter((!trusted).then_some(peer.ip())) else {
            let answer = (self.full)(peer.ip());
            if self.tls.is_none() {
                _ = stream.try_write(&answer); // it fits into the empty buffer of a new connection
            }
            return;
        };
        _ = stream.set_nodelay(true); // fails only on a connection that is gone
        let trust = self.trust.clone();
        let tls = self.tls.as_ref().map(|tls| tls.load_full());
        let app = Arc::clone(&self.app);
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let Some((sender, ahead)) = trust.preamble(&mut stream, peer, trusted).await else { return };
            let stream = Accepted::new(stream, sender, ahead);
            let stream: Stream = match tls {
                None => Box::new(stream),
                Some(tls) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.tls_handshake(stream)).await {
                    Ok(Ok(stream)) => Box::new(stream),
                    Ok(Err(_)) | Err(_) => return,
                },
            };
            app.process_new(stream, &shutdown).await;
        });
    }
}

/// An accepted connection. What is written is gathered until it is flushed, so that the
/// head and the body of an answer leave together.
pub struct Accepted {
    stream: TcpStream,
    /// Read already, in front of what the stream holds.
    ahead: BytesMut,
    pending: BytesMut,
    digest: Arc<SocketDigest>,
}

/// More is not gathered.
const MAX_PENDING: usize = 64 * 1024;

impl Accepted {
    fn new(stream: TcpStream, sender: SocketAddr, ahead: BytesMut) -> Self {
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        _ = digest.peer_addr.set(Some(sender.into())); // new, so it is empty
        Accepted { stream, ahead, pending: BytesMut::new(), digest: Arc::new(digest) }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.pending))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Accepted {
    /// A handshake that fails writes its alert and leaves it unflushed; the other side
    /// should learn why it is turned away.
    fn drop(&mut self) {
        if !self.pending.is_empty() {
            _ = self.stream.try_write(&self.pending);
        }
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let taken = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(taken));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.pending.len() >= MAX_PENDING {
            ready!(self.poll_send(cx))?;
        }
        let taken = bytes.len().min(MAX_PENDING);
        self.pending.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl std::fmt::Debug for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accepted").field("peer", &self.digest.peer_addr()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Shutdown for Accepted {
    async fn shutdown(&mut self) {
        _ = AsyncWriteExt::shutdown(self).await; // the other side may have gone first
    }
}

impl UniqueID for Accepted {
    fn id(&self) -> UniqueIDType {
        self.stream.as_raw_fd()
    }
}

impl Ssl for Accepted {}

impl Peek for Accepted {}

impl GetTimingDigest for Accepted {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Accepted {
    fn get_proxy_digest(&self) -> Option<Arc<pingora::protocols::raw_connect::ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Accepted {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn what_was_written_last_is_sent_even_if_nobody_flushes() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let mut other = TcpStream::connect(address).await.unwrap();
        let (stream, sender) = socket.accept().await.unwrap();
        let mut accepted = Accepted::new(stream, sender, BytesMut::new());
        accepted.write_all(b"alert").await.unwrap();
        drop(accepted);
        let mut came = Vec::new();
        other.read_to_end(&mut came).await.unwrap();
        assert_eq!(came, b"alert");
    }
}
