//! What can be refused before the first connection is taken: addresses, the replay file, the control
//! socket.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};

use crate::config::Startup;
use crate::config::store::OnStoreError;
use crate::store::journal::{Fault, Report};
use crate::store::{Memory, Redis, ReplayStore};
use crate::telemetry::Telemetry;
use crate::telemetry::event::Event;

/// Why a server cannot start.
#[derive(Debug)]
pub enum StartError {
    Address(BindError),
    ReplayFile(PathBuf, Fault),
    Control(PathBuf, io::Error),
}

impl StartError {
    /// Whether the configuration has to be changed, or else the machine's state.
    pub fn is_of_configuration(&self) -> bool {
        matches!(self, StartError::ReplayFile(_, fault) if fault.is_of_configuration())
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
            StartError::ReplayFile(path, fault) => write!(f, "replay.file: {}: {fault}", path.display()),
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

/// `[::]` takes IPv4 as well, unless an address that is `named` beside it does on the same port.
pub fn bind(address: SocketAddr, what: &'static str, named: &[SocketAddr]) -> Result<TcpListener, BindError> {
    let has_v4 = |other: &SocketAddr| other.is_ipv4() && other.port() == address.port() && other.port() != 0;
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if address.is_ipv6() && named.iter().any(has_v4) {
            rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
        }
        socket.set_reuseaddr(true)?; // a restart need not wait for old connections to fade
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|error| BindError { what, address, error })
}

/// The replay memory: this process's own, with what its file holds, or one that gates share.
pub fn store(startup: &Startup, telemetry: &Arc<Telemetry>) -> Result<ReplayStore, StartError> {
    let memory = || Memory::new(startup.replay, startup.stale_after, startup.replay_capacity);
    if let Some(settings) = &startup.shared_store {
        let fallback = (startup.on_store_error == OnStoreError::Local).then(memory);
        return Ok(ReplayStore::Redis(Redis::new(settings.clone(), startup.replay, fallback)));
    }
    let memory = memory();
    if let Some(path) = &startup.replay_file {
        let teller = Arc::clone(telemetry);
        let report = Box::new(move |report| tell_of_replay_file(&teller, report));
        let fault = |fault| StartError::ReplayFile(path.clone(), fault);
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
