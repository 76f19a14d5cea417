//! A wire between two parties that fails as wires do: the fault proxy. It knows nothing
//! of HTTP; on the application's side it also writes down when calls begin and end.

use std::fmt;
use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::history::{Call, Entry};
use crate::rng::Rng;
use crate::support::{LIMIT, lock};

/// What can go wrong with a connection, once, at some byte of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing moves for a while.
    Delay,
    /// Nothing moves any more.
    Stall,
    /// From here on a few bytes at a time.
    Throttle,
    /// An orderly end of both directions.
    Cut,
    /// A reset of both directions.
    Reset,
    /// An end of this direction only.
    HalfClose,
    /// Bytes that nobody sent are put in.
    Garbage,
}

impl Kind {
    pub const ALL: [Kind; 7] =
        [Kind::Delay, Kind::Stall, Kind::Throttle, Kind::Cut, Kind::Reset, Kind::HalfClose, Kind::Garbage];
}

#[derive(Clone, Copy, Debug)]
struct Fault {
    kind: Kind,
    /// Of a request, as opposed to an answer.
    forth: bool,
    /// After so many bytes.
    at: usize,
    /// How long, how much: its meaning depends on the kind.
    much: usize,
}

/// The two wires of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Sender,
    Application,
}

/// How often each kind was injected on each side.
#[derive(Default)]
pub struct Injected([[AtomicU64; Kind::ALL.len()]; 2]);

impl Injected {
    fn count(&self, side: Side, kind: Kind) {
        self.0[side as usize][kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn of(&self, kind: Kind) -> [u64; 2] {
        [Side::Sender, Side::Application].map(|s| self.0[s as usize][kind as usize].load(Ordering::Relaxed))
    }

    pub fn total(&self) -> u64 {
        Kind::ALL.iter().flat_map(|kind| self.of(*kind)).sum()
    }
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} faults (sender's side + application's side):", self.total())?;
        for kind in Kind::ALL {
            let [sender, application] = self.of(kind);
            write!(f, " {kind:?} {sender}+{application}")?;
        }
        Ok(())
    }
}

/// What has happened since the run began, shared by all that write it down.
#[derive(Clone, Default)]
pub struct Diary(Arc<Mutex<Vec<Entry>>>);

impl Diary {
    pub fn note(&self, entry: Entry) {
        self.lock().push(entry);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        lock(&self.0)
    }

    pub fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut self.lock())
    }
}

/// Which faults the next connections have.
struct Plan {
    rng: Rng,
    faulty: bool,
}

impl Plan {
    /// Connections without a fault let things go on at all.
    fn next(&mut self, side: Side) -> Option<Fault> {
        let mut rng = self.rng.fork();
        if !self.faulty || rng.chance(45) {
            return None;
        }
        let forth = rng.chance(50);
        let kind = loop {
            // Nobody checks what the gate sends to the application once more, so there a
            // changed byte would be the wire's lie and not the gate's.
            let kind = *rng.pick(&Kind::ALL);
            if !(kind == Kind::Garbage && forth && side == Side::Application) {
                break kind;
            }
        };
        // Heads are where most of the meaning is, bodies are where most of the bytes are.
        let end = *rng.pick(&[1, 20, 400, 2000, 100_000]);
        Some(Fault { kind, forth, at: rng.below(end), much: rng.below(150) })
    }
}

struct Shared {
    side: Side,
    target: Mutex<SocketAddr>,
    plan: Mutex<Plan>,
    injected: Arc<Injected>,
    diary: Diary,
    links: Mutex<Vec<Weak<Link>>>,
    made: AtomicUsize,
    /// Ends every connection when it changes.
    end: watch::Sender<()>,
}

#[derive(Clone)]
pub struct Wire(Arc<Shared>);

/// A place at which a wire begins. It stops listening when dropped.
pub struct Mouth {
    pub address: SocketAddr,
    listening: JoinHandle<()>,
}

impl Mouth {
    /// Returns when nobody can connect any more.
    pub async fn close(mut self) {
        self.listening.abort();
        _ = (&mut self.listening).await; // it says that it was aborted
    }
}

impl Drop for Mouth {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Wire {
    pub fn new(side: Side, target: SocketAddr, diary: Diary, injected: Arc<Injected>) -> Self {
        Wire(Arc::new(Shared {
            side,
            target: Mutex::new(target),
            plan: Mutex::new(Plan { rng: Rng::new(0), faulty: false }),
            injected,
            diary,
            links: Mutex::default(),
            made: AtomicUsize::new(0),
            end: watch::Sender::default(),
        }))
    }

    /// Listens for connections of the party's `life`.
    pub async fn listen(&self, address: SocketAddr, life: usize) -> Mouth {
        let listener = bind(address).await;
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&self.0);
        let listening = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let fault = lock(&shared.plan).next(shared.side);
                tokio::spawn(Arc::clone(&shared).connect(near, life, fault));
            }
        });
        Mouth { address, listening }
    }

    pub fn lead_to(&self, target: SocketAddr) {
        *lock(&self.0.target) = target;
    }

    /// From now on with faults, on new connections.
    pub fn begin(&self, rng: Rng) {
        self.end_all();
        *lock(&self.0.plan) = Plan { rng, faulty: true };
    }

    /// From now on without.
    pub fn calm(&self) {
        lock(&self.0.plan).faulty = false;
        self.end_all();
    }

    pub fn end_all(&self) {
        self.0.end.send_replace(());
    }

    /// The connection that leaves the wire at that address.
    pub fn link(&self, far: SocketAddr) -> Option<Arc<Link>> {
        let links = lock(&self.0.links);
        links.iter().filter_map(Weak::upgrade).find(|link| link.address == far)
    }
}

impl Shared {
    async fn connect(self: Arc<Self>, near: TcpStream, life: usize, fault: Option<Fault>) {
        let mut end = self.end.subscribe();
        let target = *lock(&self.target);
        let Ok(far) = TcpStream::connect(target).await else { return reset(&near) };
        _ = near.set_nodelay(true).and(far.set_nodelay(true));
        let link = Arc::new(Link {
            id: self.made.fetch_add(1, Ordering::Relaxed),
            life,
            address: far.local_addr().unwrap(),
            near,
            far,
            book: Mutex::default(),
        });
        {
            let mut links = lock(&self.links);
            links.retain(|link| link.strong_count() > 0);
            links.push(Arc::downgrade(&link));
        }
        let (forth, back) = (fault.filter(|fault| fault.forth), fault.filter(|fault| !fault.forth));
        let both = async { tokio::try_join!(self.pump(&link, true, forth), self.pump(&link, false, back)) };
        let how = tokio::select! {
            ended = both => ended.err().unwrap_or(Over::Closed),
            _ = end.changed() => Over::Reset,
        };
        self.note_broken(&link);
        if how == Over::Reset {
            reset(&link.near);
            reset(&link.far);
        }
    }

    /// Moves one direction until it ends. An error ends the other one, too.
    async fn pump(&self, link: &Link, forth: bool, mut fault: Option<Fault>) -> Result<(), Over> {
        let mut moved = 0;
        loop {
            let piece = if forth { self.request(link).await } else { read(&link.far).await? };
            if piece.is_empty() {
                self.end_direction(link, forth);
                return Ok(());
            }
            let mut rest = &piece[..];
            if let Some(due) = fault.take_if(|fault| fault.at <= moved + piece.len()) {
                let (before, after) = piece.split_at(due.at - moved);
                rest = after;
                self.write(link, forth, before).await?;
                self.injected.count(self.side, due.kind);
                match due.kind {
                    Kind::Delay => sleep(Duration::from_millis(due.much as u64)).await,
                    Kind::Stall => std::future::pending().await,
                    Kind::Throttle => {
                        for byte in rest.split_off(..due.much.min(rest.len())).unwrap_or_default().chunks(1) {
                            self.write(link, forth, byte).await?;
                            sleep(Duration::from_millis(1)).await;
                        }
                    }
                    Kind::Cut => return Err(Over::Closed),
                    Kind::Reset => return Err(Over::Reset),
                    Kind::HalfClose => {
                        self.end_direction(link, forth);
                        return Ok(());
                    }
                    Kind::Garbage => {
                        if !forth {
                            self.note_broken(link);
                        }
                        // No byte of any HTTP: nobody can take it for another status.
                        let garbage = vec![0xf1; 1 + due.much];
                        write(if forth { &link.far } else { &link.near }, &garbage).await?;
                    }
                }
            }
            moved += piece.len();
            self.write(link, forth, rest).await?;
        }
    }

    async fn write(&self, link: &Link, forth: bool, bytes: &[u8]) -> Result<(), Over> {
        if forth {
            return write(&link.far, bytes).await;
        }
        self.pull(&mut self.diary.lock(), link); // what comes after it has left, it does not read
        let written = write(&link.near, bytes).await;
        match written {
            Ok(()) => link.book().passed += bytes.len() as u64,
            Err(_) => link.book().torn = true,
        }
        written
    }

    fn end_direction(&self, link: &Link, forth: bool) {
        if !forth {
            self.note_broken(link);
        }
        let stream = if forth { &link.far } else { &link.near };
        _ = SockRef::from(stream).shutdown(Shutdown::Write); // it may be gone
    }

    fn note_broken(&self, link: &Link) {
        if self.side == Side::Application {
            let mut diary = self.diary.lock();
            self.pull(&mut diary, link);
            let book = link.book();
            if !book.left {
                diary.push(Entry::Broken { link: link.id, read: book.read });
            }
        }
    }

    /// The next bytes of requests; none at the end.
    async fn request(&self, link: &Link) -> Vec<u8> {
        loop {
            if let Some(bytes) = self.take(link) {
                return bytes;
            }
            _ = link.near.readable().await;
            // Tells the runtime that everything was read, so that it waits for more.
            _ = link.near.try_io(Interest::READABLE, || {
                self.pull(&mut self.diary.lock(), link);
                Err::<(), _>(io::ErrorKind::WouldBlock.into())
            });
        }
    }

    /// What has been read, and whether a call begins with it.
    fn take(&self, link: &Link) -> Option<Vec<u8>> {
        let mut diary = self.diary.lock();
        self.pull(&mut diary, link);
        let begins = {
            let book = link.book();
            !book.inbox.is_empty() && book.begun == book.said
        };
        if begins && self.side == Side::Application {
            // Calls that the gate gave up before it made this one must be seen to be over.
            let others: Vec<_> = lock(&self.links).iter().filter_map(Weak::upgrade).collect();
            others.iter().filter(|other| other.id != link.id).for_each(|other| self.pull(&mut diary, other));
            let mut book = link.book();
            book.begun += 1;
            book.read = book.end;
            diary.push(Entry::Issued { call: Call { link: link.id, turn: book.begun }, life: link.life });
        }
        let mut book = link.book();
        (book.left || !book.inbox.is_empty()).then(|| std::mem::take(&mut book.inbox))
    }

    /// Reads what is there without waiting. The diary is locked meanwhile, so nothing can
    /// be written down between what happened and that it was seen.
    fn pull(&self, diary: &mut Vec<Entry>, link: &Link) {
        let mut book = link.book();
        let socket = SockRef::from(&link.near);
        let mut piece = [0; 16 * 1024];
        while !book.left {
            match (&*socket).read(&mut piece) {
                Ok(read) if read > 0 => book.inbox.extend_from_slice(&piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                ended => {
                    book.left = true;
                    // A party that closes with something unread resets the connection.
                    let clean = ended.is_ok() && !book.torn && matches!(socket.take_error(), Ok(None));
                    let read = if clean { book.passed } else { book.read };
                    if self.side == Side::Application {
                        diary.push(Entry::Left { link: link.id, read });
                    }
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Closed,
    Reset,
}

/// One connection through the wire, from the near party to the far one.
pub struct Link {
    pub id: usize,
    life: usize,
    /// Where it comes from, as the far party sees it.
    address: SocketAddr,
    near: TcpStream,
    far: TcpStream,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    /// Read from the near party, and not yet passed on.
    inbox: Vec<u8>,
    /// The near party has closed the connection.
    left: bool,
    /// What was written to the near party last came back as an error.
    torn: bool,
    /// Calls that have begun, and calls that the far party has answered.
    begun: usize,
    said: usize,
    /// Bytes of answers: made, let through, and surely read.
    end: u64,
    passed: u64,
    read: u64,
}

impl Link {
    /// The far party answers with so many bytes. Says where in the connection they end.
    pub fn says(&self, bytes: usize) -> u64 {
        let mut book = self.book();
        book.said += 1;
        book.end += bytes as u64;
        book.end
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }
}

/// A process that is just being started holds a copy of what its parent has closed for a
/// moment, so a port that was given up may have to be waited for.
async fn bind(address: SocketAddr) -> TcpListener {
    let started = Instant::now();
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => assert!(started.elapsed() < LIMIT, "{address}: {error}"),
        }
        sleep(Duration::from_millis(2)).await;
    }
}

async fn read(stream: &TcpStream) -> Result<Vec<u8>, Over> {
    let mut piece = vec![0; 16 * 1024];
    loop {
        stream.readable().await.map_err(|_| Over::Reset)?;
        match stream.try_read(&mut piece) {
            Ok(read) => {
                piece.truncate(read);
                return Ok(piece);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(Over::Reset),
        }
    }
}

async fn write(stream: &TcpStream, mut bytes: &[u8]) -> Result<(), Over> {
    while !bytes.is_empty() {
        stream.writable().await.map_err(|_| Over::Reset)?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(Over::Reset),
        }
    }
    Ok(())
}

/// When it is dropped next, the other side reads a reset instead of an end.
pub fn reset(stream: &TcpStream) {
    _ = SockRef::from(stream).set_linger(Some(Duration::ZERO)); // it may be gone
}
