//! From a listening socket to Pingora's HTTP server: connection cap, handshake
//! deadline, and a stream that sends an answer in one piece.
//!
//! Pingora's own accept loop binds late, panics on a taken port in a background task,
//! has no cap, and closes its sockets at the first sign of a shutdown. This one is
//! handed a bound socket and does what the gate promises.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::apps::ServerApp;
use pingora::http::ResponseHeader;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::budget::{Budget, Cut, Intake, SHORT_HEAD, one_sender};
use crate::config::certificates::TlsMaterial;
use crate::lock::lock;
use crate::proxy::session::Carried;
use crate::server::handshake::{self, HANDSHAKE_TIMEOUT};
use crate::server::hello;
use crate::server::proxy_protocol::{self, Preamble, ProxyProtocol, Refused};
use crate::telemetry::dropped::Drop as Why;

/// What shakes hands with these certificates.
pub fn acceptor(material: &TlsMaterial) -> Acceptor {
    Acceptor::from_server_config(Arc::clone(material.config()))
}

/// The caps on connections, shared by all listeners of a server.
#[derive(Clone)]
pub struct Connections {
    most: usize,
    per_address: usize,
    /// Whether an address that has its share can exchange an idle connection for a new one.
    renews: bool,
    inside: Arc<Mutex<Inside>>,
    /// Those that gave way are open for a moment longer.
    open: Arc<AtomicUsize>,
}

impl Connections {
    /// `most` in all, `per_address` for each peer that is no trusted proxy.
    pub fn new(most: usize, per_address: usize) -> Self {
        Connections { most, per_address, renews: false, inside: Arc::default(), open: Arc::default() }
    }

    /// How many there are.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Who comes again is served, and its oldest idle connection gives way.
    #[must_use]
    pub fn renewing(self) -> Self {
        Connections { renews: true, ..self }
    }

    /// `peer` is `None` for a trusted proxy, which speaks for many senders. When all places are
    /// taken, the oldest idle connection of the peer that has most gives way to one that has
    /// fewer. What comes beside the permit resolves when this connection has to do so.
    fn enter(
        &self,
        peer: Option<IpAddr>,
        intake: &Arc<Intake>,
    ) -> Result<(Permit, oneshot::Receiver<()>), Why> {
        let mut inside = self.inside();
        let own = peer.map_or(0, |peer| inside.of(peer));
        let full = if peer.is_some() && own >= self.per_address {
            Some(peer.filter(|_| self.renews).ok_or(Why::AddressFull)?)
        } else if inside.places.len() >= self.most {
            Some(inside.fullest(if self.renews { own } else { own + 1 }).ok_or(Why::Full)?)
        } else {
            None
        };
        if let Some(peer) = full {
            // Where everybody is busy, one who reads no answer may be among them.
            let busy = || inside.oldest(peer, |_| self.renews);
            let oldest = inside.oldest(peer, Intake::is_idle).or_else(busy).ok_or(Why::Full)?;
            let place = inside.leave(oldest).ok_or(Why::Full)?;
            _ = place.give_way.send(()); // it may have ended just now
        }
        let (give_way, told) = oneshot::channel();
        let number = inside.enter(Place { peer, intake: Arc::clone(intake), give_way });
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok((Permit { connections: self.clone(), number }, told))
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        lock(&self.inside)
    }
}

/// Who is inside, in the order of arrival.
#[derive(Default)]
struct Inside {
    next: u64,
    places: BTreeMap<u64, Place>,
    by_peer: HashMap<IpAddr, usize>,
}

struct Place {
    peer: Option<IpAddr>,
    intake: Arc<Intake>,
    give_way: oneshot::Sender<()>,
}

impl Inside {
    fn of(&self, peer: IpAddr) -> usize {
        self.by_peer.get(&peer).copied().unwrap_or_default()
    }

    fn enter(&mut self, place: Place) -> u64 {
        self.next += 1;
        if let Some(peer) = place.peer {
            *self.by_peer.entry(peer).or_default() += 1;
        }
        self.places.insert(self.next, place);
        self.next
    }

    fn leave(&mut self, number: u64) -> Option<Place> {
        let place = self.places.remove(&number)?;
        if let Some(peer) = place.peer
            && let Entry::Occupied(mut count) = self.by_peer.entry(peer)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove(); // an address without any is forgotten
            }
        }
        Some(place)
    }

    /// The peer with most connections, if these are more than so many.
    fn fullest(&self, than: usize) -> Option<IpAddr> {
        let (peer, count) = self.by_peer.iter().max_by_key(|(_, count)| **count)?;
        (*count > than).then_some(*peer)
    }

    fn oldest(&self, peer: IpAddr, may_go: impl Fn(&Intake) -> bool) -> Option<u64> {
        let mut of_peer = self.places.iter().filter(|(_, place)| place.peer == Some(peer));
        of_peer.find(|(_, place)| may_go(&place.intake)).map(|(number, _)| *number)
    }
}

/// The right to be inside.
struct Permit {
    connections: Connections,
    number: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.connections.inside().leave(self.number);
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
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
    /// Whom the peer names, if it may.
    async fn preamble(&self, stream: &mut TcpStream, trusted: bool) -> Result<Preamble, Why> {
        let mode = match (self.proxy_protocol, trusted) {
            (ProxyProtocol::Required, false) => return Err(Why::ProxyUntrusted),
            (_, false) => ProxyProtocol::Off,
            (mode, true) => mode,
        };
        proxy_protocol::read(stream, mode, self.patience).await.map_err(|refused| match refused {
            Refused::Malformed => Why::ProxyMalformed,
            Refused::Missing => Why::ProxyMissing,
            Refused::Silent => Why::Nothing,
        })
    }
}

/// Tells why a connection of this peer ended, and what is known beside.
pub type TellDropped = dyn Fn(Why, SocketAddr, Option<&str>) + Send + Sync;

/// One listening socket and the application behind it.
pub struct Listener<A> {
    pub socket: TcpListener,
    pub tls: Option<Arc<ArcSwap<Acceptor>>>,
    pub app: Arc<A>,
    pub connections: Connections,
    /// What heads are charged to.
    pub budget: Arc<Budget>,
    pub trust: Trust,
    pub shutdown: ShutdownWatch,
    /// Called for each connection over the cap: what it is told before it is closed.
    pub full: Arc<dyn Fn(IpAddr) -> Vec<u8> + Send + Sync>,
    /// Called for each connection that ends before a request, with what is known beside the reason.
    pub dropped: Arc<TellDropped>,
    /// A descriptor from this one on is not for connections here.
    pub first_of_the_last: Option<RawFd>,
    /// Called when a connection cannot be accepted.
    pub starved: Arc<dyn Fn(&io::Error) + Send + Sync>,
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
                Err(error) => {
                    (self.starved)(&error);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn accept(&mut self, mut stream: TcpStream, peer: SocketAddr) {
        let trusted = (self.trust.trusts)(peer.ip());
        let free = if self.tls.is_some() { SHORT_HEAD + TLS_READ } else { SHORT_HEAD };
        let intake = Intake::new(&self.budget, free);
        let short = self.first_of_the_last.is_some_and(|first| stream.as_raw_fd() >= first);
        let entered = if short {
            Err(Why::NoDescriptor)
        } else {
            self.connections.enter((!trusted).then(|| one_sender(peer.ip())), &intake)
        };
        let (permit, told_to_leave) = match entered {
            Ok(entered) => entered,
            Err(why) => {
                (self.dropped)(why, peer, None);
                let answer = (self.full)(peer.ip());
                if self.tls.is_none() {
                    _ = stream.try_write(&answer); // it fits into the empty buffer of a new connection
                }
                return;
            }
        };
        let trust = self.trust.clone();
        let tls = self.tls.as_ref().map(|tls| tls.load_full());
        let app = Arc::clone(&self.app);
        let shutdown = self.shutdown.clone();
        let renews = self.connections.renews;
        let counts = Arc::clone(&intake);
        let dropped = Arc::clone(&self.dropped);
        let closing = self.shutdown.clone();
        // Boxed, because a future that is moved into another one takes its place twice.
        let mut served = Box::pin(async move {
            let preamble = trust.preamble(&mut stream, trusted).await.map_err(|why| (why, None))?;
            let mut stream = Accepted::new(stream, peer, preamble, intake);
            let stream: Stream = match tls {
                None => Box::new(stream),
                Some(tls) => {
                    let overheard = stream.overhear();
                    // On the heap, so that no connection keeps the room for it.
                    let shaking = Box::pin(tls.tls_handshake(stream));
                    let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, shaking).await;
                    let shaken = shaken.map_or_else(|_| Err(None), |shaken| shaken.map_err(Some));
                    Box::new(shaken.map_err(|error| handshake::why(error.as_deref(), &overheard.said()))?)
                }
            };
            app.process_new(stream, &shutdown).await;
            Ok(())
        });
        tokio::spawn(async move {
            let _permit = permit;
            let ended = tokio::select! {
                biased;
                ended = &mut served => ended,
                // A request that has just begun ends first.
                _ = told_to_leave => if renews || counts.is_idle() { Err((Why::GaveWay, None)) } else { served.await },
            };
            let cut = || counts.cut().filter(|_| !*closing.borrow());
            match ended {
                Err((why, more)) => dropped(why, peer, more.as_deref()),
                Ok(()) => match cut() {
                    Some(Cut::Left) => dropped(Why::HeadIncomplete, peer, None),
                    Some(Cut::Late) => dropped(Why::HeadTimeout, peer, None),
                    Some(Cut::Silent) => dropped(Why::Nothing, peer, None),
                    None => {}
                },
            }
        });
    }
}

/// What a sender said in a handshake, as far as it is kept.
struct Overheard(Arc<Mutex<Vec<u8>>>);

impl Overheard {
    fn said(&self) -> Vec<u8> {
        std::mem::take(&mut lock(&self.0))
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
    intake: Arc<Intake>,
    /// Where the handshake is written down while somebody listens.
    overheard: Weak<Mutex<Vec<u8>>>,
    /// Whether this is TLS.
    secure: bool,
    /// Whether the other side has closed.
    left: bool,
    /// Whether the last word is ours.
    answered: bool,
    /// How what we know reaches who reads the heads: the one thing that Pingora hands through.
    carrier: Option<Arc<ProxyDigest>>,
}

/// More is not gathered.
const MAX_PENDING: usize = 64 * 1024;
/// With TLS, who leaves politely says so in this many bytes at most.
const FAREWELL: usize = 64;
/// With TLS, a whole record is read at once.
const TLS_READ: usize = 20 * 1024;

impl Accepted {
    fn new(stream: TcpStream, peer: SocketAddr, preamble: Preamble, intake: Arc<Intake>) -> Self {
        let Preamble { sender, ahead } = preamble;
        let relay = sender.map(|_| peer.ip().to_canonical());
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        _ = digest.peer_addr.set(Some(sender.unwrap_or(peer).into())); // new, so it is empty
        let known = Carried { intake: Arc::clone(&intake), relay };
        let carrier = ResponseHeader::build(200, Some(0))
            .ok()
            .map(|unused| Arc::new(ProxyDigest::new(Box::new(unused), Some(Box::new(known)))));
        Accepted {
            stream,
            ahead,
            pending: BytesMut::new(),
            digest: Arc::new(digest),
            intake,
            overheard: Weak::new(),
            secure: false,
            left: false,
            answered: false,
            carrier,
        }
    }

    /// A handshake begins: what the sender says in it is kept for as long as what this returns.
    fn overhear(&mut self) -> Overheard {
        let overheard = Arc::new(Mutex::new(Vec::new()));
        (self.overheard, self.secure) = (Arc::downgrade(&overheard), true);
        Overheard(overheard)
    }

    fn write_down(&mut self, came: &[u8]) {
        if let Some(overheard) = self.overheard.upgrade() {
            let mut kept = lock(&overheard);
            let room = hello::KEPT.saturating_sub(kept.len()).min(came.len());
            kept.extend_from_slice(&came[..room]);
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.pending))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(sent);
        }
        if self.pending.capacity() > SHORT_HEAD {
            self.pending = BytesMut::new(); // an idle connection does not keep what a long answer took
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
        if !self.answered {
            self.intake.close(self.left, if self.secure { FAREWELL } else { 0 });
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
            let before = buf.filled().len();
            buf.put_slice(&self.ahead.split_to(taken));
            self.write_down(&buf.filled()[before..]);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        let bytes = buf.filled().len() - before;
        self.left = bytes == 0;
        read?;
        self.answered &= bytes == 0;
        if self.overheard.strong_count() > 0 {
            self.write_down(&buf.filled()[before..]);
        }
        let came = self.intake.came(bytes);
        Poll::Ready(came.map_err(|reason| io::Error::other(reason.label())))
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.pending.len() >= MAX_PENDING {
            ready!(self.poll_send(cx))?;
        }
        let taken = bytes.len().min(MAX_PENDING);
        self.pending.extend_from_slice(&bytes[..taken]);
        self.answered = true;
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
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.carrier.clone()
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
        let preamble = Preamble { sender: None, ahead: BytesMut::new() };
        let mut accepted = Accepted::new(stream, sender, preamble, Intake::new(&Budget::new(0), 0));
        accepted.write_all(b"alert").await.unwrap();
        drop(accepted);
        let mut came = Vec::new();
        other.read_to_end(&mut came).await.unwrap();
        assert_eq!(came, b"alert");
    }
}
