//! An inbox in a folder of its own, and what the tests put into it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use hookgate::gate::filter::replay::{Keep, ReplayKey};
use hookgate::inbox::database::{Fault, Kept, Opened, Settings};
use hookgate::inbox::seal::Keys;
use hookgate::inbox::{Bounds, Event, Inbox};
use smallvec::smallvec;

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
    for _ in 0..500 {
        match try_open(folder, ROOMY, Keys::default(), 0) {
            Err(Fault::InUse(_)) => std::thread::sleep(std::time::Duration::from_millis(10)),
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
