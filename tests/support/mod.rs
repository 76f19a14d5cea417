//! A real gate between a raw sender and a scripted application: what the black-box tests
//! are written in. Nothing here sleeps for luck; every wait ends as soon as it can and
//! fails aloud after [`LIMIT`].

pub mod app;
pub mod gate;
pub mod sender;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use app::{Answer, App, Received};
pub use gate::{Builder, Gate};
pub use sender::{Request, Response, Sender, Signer};

/// The most that anything may take on a slow and loaded machine.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Between two looks at something that cannot tell when it changes.
const LOOK: Duration = Duration::from_millis(5);

/// Waits until `look` finds something.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(LIMIT, what, look)
}

/// The same for what takes as long as there is much of it.
pub fn within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(LOOK);
    }
}

/// Waits until `holds` is true.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || holds().then_some(()));
}

/// A test that fails in one thread must not hide behind a poisoned lock in another.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds others up until it is opened.
#[derive(Clone, Default)]
pub struct Latch(Arc<(Mutex<bool>, Condvar)>);

impl Latch {
    pub fn open(&self) {
        *lock(&self.0.0) = true;
        self.0.1.notify_all();
    }

    #[allow(dead_code, reason = "for the tests of `inbox` alone")]
    pub fn is_open(&self) -> bool {
        *lock(&self.0.0)
    }

    /// Waits until it is open; goes on after [`LIMIT`], so that no thread stays behind.
    pub fn pass(&self) {
        drop(self.0.1.wait_timeout_while(lock(&self.0.0), LIMIT, |open| !*open));
    }
}

/// A directory that is gone when its owner is. Its path is short, because a Unix
/// socket's must be.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("hookgate-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Replaces a file in one step, so that no reader sees half of it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let (path, draft) = (self.join(name), self.join(&format!("{name}.draft")));
        fs::write(&draft, content).unwrap();
        fs::rename(&draft, &path).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// The start line and the headers of an HTTP/1 message, and how long its head is.
pub struct Head {
    pub line: String,
    pub headers: Headers,
    pub length: usize,
}

impl Head {
    /// `None` if the head is not complete.
    pub fn parse(bytes: &[u8]) -> Option<Head> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Some(Head { line, headers: Headers(headers), length: end + 4 })
    }
}

/// Headers in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// The value of a header that came at most once.
    pub fn get(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() < 2, "{name} came {} times", values.len());
        values.first().copied()
    }
}
