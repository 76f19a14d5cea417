//! The control socket (`--control-socket`): where an operator on the same machine changes
//! something in a running gate. The ops listener only tells, so this is a door of its own: a Unix
//! socket that only the gate's user can open. One line of JSON is asked, one is answered.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::{inbox, keys, refused};
use crate::clock;
use crate::gate::filter::replay::{Forgotten, ReplayKey};
use crate::gate::identity::Scope;
use crate::gate::scheme::is_plain;
use crate::proxy::Sidecar;
use crate::telemetry::log::Forget;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Forget(Event),
    Inbox(inbox::Request),
    Keys(keys::Request),
    Refused(refused::Request),
}

/// Which event is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Event {
    ById {
        route: String,
        event: String,
        /// Whose event it is, on a route that has tenants.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<String>,
    },
    /// By what the application was told as its idempotency key.
    ByKey { key: String },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Answer {
    /// The event will be delivered again when it is sent again.
    Forgotten,
    /// It is being delivered, which is not touched.
    Held,
    /// It is not remembered.
    NotFound,
    /// Nothing was done.
    Refused { message: String },
}

impl Answer {
    fn label(&self) -> &'static str {
        match self {
            Answer::Forgotten => "forgotten",
            Answer::Held => "held",
            Answer::NotFound => "not_found",
            Answer::Refused { .. } => "refused",
        }
    }

    fn refused(message: impl Into<String>) -> Self {
        Answer::Refused { message: message.into() }
    }
}

/// Longer than any request.
const LONGEST: u64 = 16 * 1024;
/// For the whole of a conversation, beside what a delivery takes.
const PATIENCE: Duration = Duration::from_secs(5);
/// A delivery may have to wait for its turn with the application.
const LONGEST_TURN: Duration = Duration::from_secs(60);
/// Conversations at once. An operator needs one.
const CONVERSATIONS: usize = 4;
const BACKLOG: u32 = 16;

/// The socket, which is gone with its owner.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Makes the socket aside and moves it to its place when nobody else can open it. One that a
    /// killed gate has left behind makes room.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if let Ok(there) = std::fs::symlink_metadata(path) {
            if !there.file_type().is_socket() {
                return Err(io::Error::other("something else is there: move it away, or name another path"));
            }
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::other("another process has it: stop it, or name another path"));
            }
        }
        let mut draft = path.as_os_str().to_owned();
        draft.push(".new");
        let draft = PathBuf::from(draft);
        _ = std::fs::remove_file(&draft);
        let socket = UnixSocket::new_stream()?;
        socket.bind(&draft)?;
        let listener = std::fs::set_permissions(&draft, Permissions::from_mode(0o600))
            .and_then(|()| socket.listen(BACKLOG))
            .and_then(|listener| std::fs::rename(&draft, path).map(|()| listener));
        match listener {
            Ok(listener) => Ok(Socket { listener, path: path.to_owned() }),
            Err(error) => {
                _ = std::fs::remove_file(&draft);
                Err(error)
            }
        }
    }

    /// Answers until the gate ends.
    pub async fn serve(self, sidecar: Arc<Sidecar>, mut closing: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(CONVERSATIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = closing.wait_for(|closing| *closing) => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let sidecar = Arc::clone(&sidecar);
                    tokio::spawn(async move {
                        let _place = place;
                        _ = converse(stream, &sidecar).await;
                    });
                }
                // No descriptors, for example: others need the time too.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.path);
    }
}

async fn converse(stream: UnixStream, sidecar: &Sidecar) -> io::Result<()> {
    let uid = stream.peer_cred().ok().map(|peer| peer.uid());
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    timeout(PATIENCE, BufReader::new(read.take(LONGEST)).read_line(&mut line)).await??;
    let request = serde_json::from_str(&line);
    let patience = match &request {
        Ok(Request::Refused(refused::Request::Deliver { .. })) => sidecar.timeouts.call + LONGEST_TURN,
        _ => PATIENCE,
    };
    let mut text = timeout(patience, answered(request, sidecar, uid)).await??;
    text.push(b'\n');
    // The longest answers are events with large bodies.
    timeout(PATIENCE, write.write_all(&text)).await?
}

/// What is answered to a line.
async fn answered(
    request: serde_json::Result<Request>,
    sidecar: &Sidecar,
    uid: Option<u32>,
) -> serde_json::Result<Vec<u8>> {
    match request {
        Ok(Request::Forget(event)) => serde_json::to_vec(&forget(sidecar, &event, uid).await),
        Ok(Request::Keys(request)) => serde_json::to_vec(&keys::answer(sidecar, &request)),
        Ok(Request::Inbox(request)) => serde_json::to_vec(&inbox::answer(sidecar, request, uid).await),
        Ok(Request::Refused(request)) => serde_json::to_vec(&refused::answer(sidecar, request, uid).await),
        Err(error) => serde_json::to_vec(&Answer::refused(format!("this is no request: {error}"))),
    }
}

/// Lets an event be delivered again, and puts that on record.
async fn forget(sidecar: &Sidecar, event: &Event, uid: Option<u32>) -> Answer {
    let answer = match key(sidecar, event) {
        Err(message) => Answer::refused(message),
        Ok(key) => match sidecar.store.forget(key, clock::now()).await {
            Ok(Forgotten::Done) => {
                // What was delivered from the inbox is remembered there too.
                if let Some(inbox) = &sidecar.inbox
                    && inbox.forget(key).await.is_err()
                {
                    return Answer::refused("it is forgotten until a restart: the inbox cannot write");
                }
                Answer::Forgotten
            }
            Ok(Forgotten::Held) => Answer::Held,
            Ok(Forgotten::Nothing) => Answer::NotFound,
            Err(_) => Answer::refused("the replay store does not answer: try again"),
        },
    };
    let (route, event_id, key) = match event {
        Event::ById { route, event, .. } => (Some(&**route), Some(&**event), None),
        Event::ByKey { key } => (None, None, Some(&**key)),
    };
    sidecar.telemetry.log.forget(&Forget { route, event_id, key, outcome: answer.label(), uid });
    answer
}

/// The key by which the event is remembered.
fn key(sidecar: &Sidecar, event: &Event) -> Result<ReplayKey, String> {
    match event {
        Event::ByKey { key } => parse_key(key).ok_or_else(|| "a key is 32 hex digits".to_owned()),
        Event::ById { event, .. } if !is_plain(event.as_bytes()) => {
            Err("an event's id is plain text of at most 256 characters".to_owned())
        }
        Event::ById { route: name, event, tenant } => {
            let live = sidecar.live.load();
            let Some((route, _)) = live.routes().find(|(route, _)| *route.name == **name) else {
                return Err(live.no_such_route());
            };
            match (&route.tenant, tenant) {
                (Some(_), None) => {
                    return Err(format!(
                        "the route {name} has tenants: say whose event it is, with --tenant"
                    ));
                }
                (None, Some(_)) => {
                    return Err(format!("the route {name} has no tenants: leave --tenant out"));
                }
                _ => {}
            }
            let scope = Scope { route: &route.name, tenant: tenant.as_deref() };
            let by_id = route.signature.key_of(scope, event);
            by_id.or_else(|| sidecar.deliveries.key_of(scope, event)).ok_or_else(|| {
                let message = "events of this route are told apart by more than their id, and this gate has seen \
                               none of that id lately: name the event by --key, with the \
                               Hookgate-Idempotency-Key that the application was sent, which the log has too \
                               (hookgate.idempotency_key)";
                message.to_owned()
            })
        }
    }
}

pub fn parse_key(hex: &str) -> Option<ReplayKey> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok()?;
    Some(ReplayKey::from_bytes(bytes.try_into().ok()?))
}
