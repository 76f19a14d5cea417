//! The replay file (`--replay-file`): keeps the embedded memory over a restart.
//!
//! A delivered event costs its request one send into a bounded queue. A thread of its own
//! gathers what comes for [`GATHER`], appends it, and has the disk confirm it every [`SYNC`].
//! So a killed process loses what was delivered in its last few hundredths of a second, a
//! machine that loses its power what was delivered in its last few tenths; such events are
//! delivered once more if their provider sends them again. Nothing is ever in the file that was
//! not delivered: an event is written down after the application's 2xx, and held events are not
//! written at all, so that a retry of what a crash cut off gets through.
//!
//! When the file cannot be written, requests go on. It is then behind, nothing is appended any
//! more, and once a second it is tried to make it anew from the memory, which heals it wholly.
//! It is also made anew when more than half of it has expired: it holds at most twice the
//! capacity.
//!
//! Times are the machine's uptime, so a wall clock that is set while gates run changes nothing.
//! The wall clock is asked only after the machine itself has restarted, or on another machine.

mod file;
pub mod record;
mod writer;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use self::file::{Fault, Judged, Kept, ReplayFile, inspect};
use self::writer::Writer;
use crate::clock::{self, Stamp};
use crate::gate::filter::replay::{Keep, ReplayKey};
use crate::lock::lock;

/// How long the thread gathers before it writes.
pub const GATHER: Duration = Duration::from_millis(20);
/// How long what is written may wait until the disk confirms it.
pub const SYNC: Duration = Duration::from_millis(100);
/// Between two attempts to make the file anew after a fault.
const RETRY: Duration = Duration::from_secs(1);
/// What waits to be written, at most.
const QUEUE: usize = 32 * 1024;
/// A file with fewer records is not worth making anew.
const SMALL: u64 = 4096;
/// How long the end of a drain waits for the disk.
const CLOSING: Duration = Duration::from_secs(5);

/// What the owner of a journal is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// So many deliveries or attempts to write failed; what to tell, if it is new.
    Trouble { count: u64, message: Option<String> },
    /// The file is whole again.
    Mended,
}

pub type Reporter = Box<dyn Fn(Report) + Send>;

/// The delivered events that are remembered, each with its age.
pub type Delivered = Box<dyn Iterator<Item = (ReplayKey, Keep, Duration)>>;

/// Asks the memory for them; `None` once it is gone.
pub type Snapshot = Box<dyn Fn() -> Option<Delivered> + Send>;

/// Writes down what is delivered. Nobody waits for it.
#[derive(Debug)]
pub struct Journal {
    queue: SyncSender<Note>,
    /// What did not fit into the queue.
    missed: Arc<AtomicU64>,
    /// Told at the end of the thread whether the file holds everything.
    ended: Mutex<Receiver<bool>>,
}

/// What the queue takes. Times are the process's own.
#[derive(Clone, Copy, Debug)]
enum Note {
    Done { key: ReplayKey, keep: Keep, at: Duration },
    Forgotten(ReplayKey),
    Close,
}

impl Journal {
    /// Starts the thread that writes. `live` is how many events of the file are remembered.
    pub fn start(file: ReplayFile, live: usize, snapshot: Snapshot, report: Reporter) -> Result<Self, Fault> {
        let (queue, notes) = sync_channel(QUEUE);
        let (end, ended) = sync_channel(1);
        let missed = Arc::new(AtomicU64::new(0));
        let mut writer = Writer::new(file, notes, Arc::clone(&missed), snapshot, report);
        writer.prepare(live)?;
        let thread = std::thread::Builder::new().name("replay-file".to_owned());
        thread.spawn(move || _ = end.send(writer.run()))?;
        Ok(Journal { queue, missed, ended: Mutex::new(ended) })
    }

    pub fn done(&self, key: ReplayKey, keep: Keep, at: Duration) {
        self.send(Note::Done { key, keep, at });
    }

    pub fn forgotten(&self, key: ReplayKey) {
        self.send(Note::Forgotten(key));
    }

    fn send(&self, note: Note) {
        if self.queue.try_send(note).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes what is left and ends; `false` if the disk does not take it, or not in time.
    pub fn close(&self) -> bool {
        let started = Instant::now();
        while matches!(self.queue.try_send(Note::Close), Err(TrySendError::Full(_))) {
            if started.elapsed() > CLOSING {
                return false;
            }
            std::thread::sleep(GATHER);
        }
        let ended = lock(&self.ended);
        ended.recv_timeout(CLOSING).unwrap_or(false)
    }
}

/// A reading of the process's clock as the machine's uptime.
fn uptime_ms(stamp: &Stamp, age: Duration) -> i64 {
    stamp.uptime_ms - clock::millis(age)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::path::{Path, PathBuf};
    use std::sync::mpsc::channel;

    fn fresh(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("hookgate-journal-{name}-{}", std::process::id()));
        _ = std::fs::remove_file(&path);
        path
    }

    fn key(n: u32) -> ReplayKey {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&n.to_be_bytes());
        ReplayKey::from_bytes(key)
    }

    fn events(path: &Path) -> usize {
        let mut keys = std::collections::HashSet::new();
        inspect(path, &clock::stamp(), |kept| match kept {
            Kept::Done { key, .. } => _ = keys.insert(key),
            Kept::Forgotten(key) => _ = keys.remove(&key),
        })
        .unwrap();
        keys.len()
    }

    /// A memory that remembers so many events, or is gone.
    fn memory(remembered: Option<u32>) -> Snapshot {
        Box::new(move || {
            let age = Duration::ZERO;
            Some(Box::new((0..remembered?).map(move |n| (key(n), Keep::WholeWindow, age))) as Delivered)
        })
    }

    fn open(path: &Path) -> ReplayFile {
        ReplayFile::open(path, &clock::stamp(), |_| ()).unwrap().0
    }

    #[test]
    fn what_does_not_fit_into_the_queue_is_told_and_mended() {
        let path = fresh("overflow");
        let (told, reports) = channel();
        let report = Box::new(move |report| _ = told.send(report));
        // The thread is not there yet, so nobody takes anything out of the queue.
        let ((queue, notes), missed) = (sync_channel(2), Arc::default());
        let mut writer = Writer::new(open(&path), notes, Arc::clone(&missed), memory(Some(10)), report);
        writer.prepare(0).unwrap();
        let journal = Journal { queue, missed, ended: Mutex::new(sync_channel(0).1) };
        for n in 0..10 {
            journal.done(key(n), Keep::WholeWindow, clock::now().mono);
        }
        drop(journal);
        assert!(writer.run(), "in the end the file holds everything");
        let Report::Trouble { count, message } = reports.recv().unwrap() else { panic!("it is trouble") };
        assert_eq!(count, 8);
        assert!(message.unwrap().contains("faster than they can be written"));
        assert_eq!(reports.recv(), Ok(Report::Mended));
        assert_eq!(events(&path), 10);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_memory_that_is_gone_wipes_no_file() {
        const MANY: u32 = 5000; // enough to make the file anew
        let path = fresh("gone");
        assert!(Journal::start(open(&path), 0, memory(Some(MANY)), Box::new(|_| ())).unwrap().close());
        let journal = Journal::start(open(&path), 0, memory(None), Box::new(|_| ())).unwrap();
        journal.done(key(u32::MAX), Keep::WholeWindow, clock::now().mono);
        assert!(journal.close());
        assert_eq!(events(&path), MANY as usize + 1);
        std::fs::remove_file(&path).unwrap();
    }
}
