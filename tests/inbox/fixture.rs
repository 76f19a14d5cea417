//! An inbox in a folder or a store of its own, and what the tests put into it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hookgate::gate::filter::replay::{Keep, ReplayKey, ReplayPolicy};
use hookgate::inbox::database::{Fault, Kept, Opened, Settings};
use hookgate::inbox::redis;
use hookgate::inbox::seal::Keys;
use hookgate::inbox::{Bounds, Event, Id, Inbox, Listed, Selection};
use smallvec::smallvec;

use crate::redis_server::Server;

/// A folder that is gone when the test is.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("hookgate-inbox-{}-{number}", std::process::id()));
        _ = std::fs::remove_dir_all(&path);
        Folder(path)
    }

    pub fn database(&self) -> PathBuf {
        self.0.join("inbox.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

pub const ROOMY: Bounds =
    Bounds { max_bytes: 1 << 30, min_free: 1 << 20, keep_dead_ms: 7 * 24 * 3600 * 1000 };
pub const ROUTE: &str = "github";

pub type Names = Vec<(ReplayKey, Kept)>;

pub fn try_open(
    folder: &Path,
    bounds: Bounds,
    keys: Keys,
    now_ms: i64,
) -> Result<(Inbox, Opened, Names), Fault> {
    let mut names = Vec::new();
    let wrote = Box::new(|_, _| ());
    let settings = Settings { folder: folder.to_owned(), bounds, keys: Arc::new(keys), wrote };
    let (inbox, opened) = Inbox::open(settings, now_ms, &mut |key, kept| names.push((key, kept)))?;
    Ok((inbox, opened, names))
}

/// Waits for the one before it: its thread ends when its last handle has gone.
pub fn open(folder: &Path) -> (Inbox, Opened, Names) {
    reopen(folder, ROOMY, &[], 0)
}

/// The same with its settings.
pub fn reopen(folder: &Path, bounds: Bounds, lines: &Lines, now_ms: i64) -> (Inbox, Opened, Names) {
    for _ in 0..500 {
        match try_open(folder, bounds, keys(lines), now_ms) {
            Err(Fault::InUse(_)) => std::thread::sleep(Duration::from_millis(10)),
            opened => return opened.unwrap(),
        }
    }
    panic!("the inbox before it does not end");
}

pub fn key(number: u64) -> ReplayKey {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    ReplayKey::from_bytes(key)
}

pub fn event(number: u64) -> Event {
    Event {
        key: key(number),
        names: smallvec![key(number)],
        keep: Keep::UntilStale,
        route: ROUTE.into(),
        tenant: None,
        event_id: Some(format!("evt_{number}").into()),
        event_type: Some("push".into()),
        received_ms: 1000 + i64::try_from(number).unwrap(),
        attempts: 0,
        last_outcome: None,
        due_ms: 0,
        leased: false,
        head: Bytes::from_static(b"POST /hooks/github HTTP/1.1\r\nhost: example.com\r\n"),
        body: Bytes::from(format!("{{\"id\":{number}}}").repeat(1 + usize::try_from(number % 90).unwrap())),
    }
}

/// What the keys of the tests begin with.
pub const PREFIX: &str = "shop:";
pub const WINDOW: Duration = Duration::from_secs(24 * 3600);

/// An engine with a place of its own.
pub enum World {
    Embedded(Folder),
    Shared(Server),
}

impl World {
    /// Of each engine one, where it can be had; said aloud where not.
    pub fn each() -> impl Iterator<Item = World> {
        let embedded = || Some(World::Embedded(Folder::new()));
        let shared = || Server::start().map(World::Shared);
        [embedded(), shared()].into_iter().flatten()
    }

    /// As a start finds it.
    pub fn open_with(&self, bounds: Bounds, keys: &Lines) -> Inbox {
        match self {
            World::Embedded(folder) => reopen(&folder.0, bounds, keys, 0).0,
            World::Shared(server) => at(&server.url(), bounds, keys),
        }
    }

    pub fn open(&self) -> Inbox {
        self.open_with(ROOMY, &[])
    }

    /// All that was written down.
    pub fn written(&self) -> Vec<Vec<u8>> {
        match self {
            World::Embedded(folder) => {
                ["inbox.db", "inbox.db-wal"].map(|file| std::fs::read(folder.0.join(file)).unwrap()).into()
            }
            World::Shared(server) => {
                server.run::<()>(&["SAVE"]);
                vec![std::fs::read(server.dir().join("dump.rdb")).unwrap()]
            }
        }
    }

    pub fn is_shared(&self) -> bool {
        matches!(self, World::Shared(_))
    }
}

/// The lines of a key file.
pub type Lines = [&'static [u8]];

pub fn keys(lines: &Lines) -> Keys {
    if lines.is_empty() { Keys::default() } else { Keys::parse(&lines.join(&b'\n')).unwrap() }
}

/// A gate of the fleet.
pub fn at(url: &str, bounds: Bounds, lines: &Lines) -> Inbox {
    at_with(url, bounds, lines, None)
}

/// One with a password.
pub fn at_with(url: &str, bounds: Bounds, lines: &Lines, password_file: Option<PathBuf>) -> Inbox {
    Inbox::shared(redis::Settings {
        store: hookgate::store::redis::Settings {
            address: url.parse().unwrap(),
            prefix: PREFIX.to_owned(),
            password_file,
            ca_file: None,
            timeout: Duration::from_secs(10),
        },
        policy: policy(),
        bounds,
        keys: keys(lines).into(),
        wrote: Box::new(|_, _| ()),
    })
}

pub fn policy() -> ReplayPolicy {
    let (exchange, wait) = (Duration::from_secs(10), Duration::from_secs(10));
    ReplayPolicy::new(WINDOW, Duration::from_secs(600), exchange, wait).unwrap()
}

/// What the replay memory says of an event.
pub fn said_of(server: &Server, name: ReplayKey) -> String {
    server.run::<Option<String>>(&["GET", &format!("{PREFIX}{{{name}}}")]).unwrap_or_default()
}

/// What is listed, part by part.
pub async fn all(inbox: &Inbox) -> Vec<Listed> {
    let (mut all, mut after) = (Vec::new(), Id::default());
    loop {
        let (listed, next) = inbox.list(Selection::default(), after).await.unwrap();
        all.extend(listed);
        let Some(next) = next else { return all };
        after = next;
    }
}
