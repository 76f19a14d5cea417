//! What can be refused before the first connection is taken: addresses, the replay file, the control
//! socket.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};

use crate::clock;
use crate::config::Startup;
use crate::config::inbox::StateDir;
use crate::config::store::OnStoreError;
use crate::inbox::database::{self, Kept, Settings};
use crate::inbox::seal::Keys;
use crate::inbox::shelf::{self, Shelf, Told};
use crate::inbox::{self, Inbox};
use crate::store::journal::{Fault, Report};
use crate::store::{Memory, Redis, ReplayStore};
use crate::telemetry::Telemetry;
use crate::telemetry::event::Event;

/// Why a server cannot start.
#[derive(Debug)]
pub enum StartError {
    Address(BindError),
    /// The key that named it.
    ReplayFile(&'static str, PathBuf, Fault),
    State(PathBuf, database::Fault),
    Control(PathBuf, io::Error),
}

impl StartError {
    /// Whether the configuration has to be changed, or else the machine's state.
    pub fn is_of_configuration(&self) -> bool {
        match self {
            StartError::ReplayFile(_, _, fault) => fault.is_of_configuration(),
            StartError::State(_, fault) => fault.is_of_configuration(),
            StartError::Address(_) | StartError::Control(..) => false,
        }
    }
}

impl From<BindError> for StartError {
    fn from(error: BindError) -> Self {
        StartError::Address(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Address(error) => error.fmt(f),
            StartError::ReplayFile(key, path, fault) => write!(f, "{key}: {}: {fault}", path.display()),
            StartError::State(path, fault) => write!(f, "state_dir: {}: {fault}", path.display()),
            StartError::Control(path, error) => {
                write!(f, "cannot listen on {} (control_socket): {error}", path.display())
            }
        }
    }
}

impl std::error::Error for StartError {}

/// An address on which nobody can listen.
#[derive(Debug)]
pub struct BindError {
    what: &'static str,
    address: SocketAddr,
    error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BindError { what, address, error } = self;
        write!(f, "cannot listen on {address} ({what}): {error}; ")?;
        f.write_str(match error.kind() {
            io::ErrorKind::AddrInUse => "another process has the port: stop it, or choose another address",
            io::ErrorKind::PermissionDenied => "choose a port above 1023, or grant the right to bind it",
            io::ErrorKind::AddrNotAvailable => "this machine does not have that address",
            _ => "choose another address",
        })
    }
}

const BACKLOG: u32 = 4096;
/// Within the state, unless a file is named.
const REPLAY_FILE: &str = "delivered";

/// `[::]` takes IPv4 as well, unless an address that is `named` beside it does on the same port.
pub fn bind(address: SocketAddr, what: &'static str, named: &[SocketAddr]) -> Result<TcpListener, BindError> {
    let has_v4 = |other: &SocketAddr| other.is_ipv4() && other.port() == address.port() && other.port() != 0;
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if address.is_ipv6() && named.iter().any(has_v4) {
            rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
        }
        socket.set_reuseaddr(true)?; // a restart need not wait for old connections to fade
        socket.set_nodelay(true)?; // the connections have it from here
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|error| BindError { what, address, error })
}

/// What outlives the process: the inbox, and the names by which copies of its events are known. The memory
/// of what was delivered live is a file beside it, which costs a delivery a tenth of what a row would. Gates
/// that share a store have their inbox in it.
pub fn state(
    startup: &Startup,
    keys: &Arc<Keys>,
    store: &ReplayStore,
    telemetry: &Arc<Telemetry>,
) -> Result<Option<Inbox>, StartError> {
    let teller = Arc::clone(telemetry);
    let wrote = move |took, is_durable| teller.metrics.inbox_wrote(took, is_durable);
    let (bounds, keys) = (startup.inbox_bounds, Arc::clone(keys));
    if let Some(shared) = &startup.shared_store {
        let (store, policy, wrote) = (shared.clone(), startup.replay, Box::new(wrote));
        return Ok(Some(Inbox::shared(inbox::redis::Settings { store, policy, bounds, keys, wrote })));
    }
    let Some(StateDir { path }) = &startup.state_dir else { return Ok(None) };
    let settings = Settings { folder: path.clone(), bounds, keys, wrote: Box::new(wrote) };
    let now = clock::now();
    let mut remember = |key, kept| match kept {
        Kept::Stored(_) => store.stored(&[key], now),
        Kept::Done { keep, at_ms } => store.restore_done(key, keep, now.wall_ms - at_ms),
    };
    let opened = Inbox::open(settings, now.wall_ms, &mut remember);
    let (inbox, opened) = opened.map_err(|fault| StartError::State(path.clone(), fault))?;
    telemetry.tell(Event::StateRead { path, opened: &opened });
    Ok(Some(inbox))
}

/// What was refused and is kept, if anything is: in a database of its own beside the inbox.
pub fn shelf(
    startup: &Startup,
    keys: &Arc<Keys>,
    telemetry: &Arc<Telemetry>,
) -> Result<Option<Shelf>, StartError> {
    let (Some(bounds), Some(StateDir { path })) = (startup.shelf_bounds, &startup.state_dir) else {
        return Ok(None);
    };
    let teller = Arc::clone(telemetry);
    let tell = Box::new(move |told: Told<'_>| {
        teller.metrics.shelf_told(told);
        match told {
            Told::Trouble { message } => teller.tell(Event::ShelfTrouble { message }),
            Told::Mended => teller.tell(Event::ShelfMended),
            Told::Kept { .. } | Told::Dropped { .. } => {}
        }
    });
    let settings = shelf::Settings { folder: path.clone(), bounds, keys: Arc::clone(keys), tell };
    let opened = Shelf::open(settings, clock::now().wall_ms);
    let (shelf, opened) = opened.map_err(|fault| StartError::State(path.clone(), fault))?;
    telemetry.tell(Event::ShelfRead { kept: opened.kept, aside: opened.aside.as_deref() });
    Ok(Some(shelf))
}

/// The replay memory: this process's own, with what its file holds, or one that gates share.
pub fn store(startup: &Startup, telemetry: &Arc<Telemetry>) -> Result<ReplayStore, StartError> {
    let memory = || Memory::new(startup.replay, startup.stale_after, startup.replay_capacity);
    if let Some(settings) = &startup.shared_store {
        let fallback = (startup.on_store_error == OnStoreError::Local).then(memory);
        return Ok(ReplayStore::Redis(Redis::new(settings.clone(), startup.replay, fallback)));
    }
    let memory = memory();
    let of_state = startup.state_dir.as_ref().map(|state| state.path.join(REPLAY_FILE));
    if let Some(state) = &startup.state_dir {
        let fault = |fault| StartError::State(state.path.clone(), fault);
        database::make(&state.path).map_err(fault)?;
    }
    if let Some(path) = startup.replay_file.as_ref().or(of_state.as_ref()) {
        let teller = Arc::clone(telemetry);
        let report = Box::new(move |report| tell_of_replay_file(&teller, report));
        let key = if startup.replay_file.is_some() { "replay.file" } else { "state_dir" };
        let fault = |fault| StartError::ReplayFile(key, path.clone(), fault);
        let judged = memory.keep_in(path, report).map_err(fault)?;
        let told = &judged.told(memory.entries());
        telemetry.tell(Event::ReplayFileRead { path, told, torn: judged.torn > 0 });
    }
    Ok(ReplayStore::Memory(memory))
}

fn tell_of_replay_file(telemetry: &Telemetry, report: Report) {
    match report {
        Report::Trouble { count, message } => {
            telemetry.metrics.replay_file_failed(count);
            if let Some(message) = &message {
                telemetry.tell(Event::ReplayFileTrouble { message });
            }
        }
        Report::Mended => telemetry.tell(Event::ReplayFileMended),
    }
}
