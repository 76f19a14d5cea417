//! The thread that writes the replay file.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::record::Record;
use super::{Fault, GATHER, Note, RETRY, ReplayFile, Report, Reporter, SMALL, SYNC, Snapshot, uptime_ms};
use crate::clock::{self, Stamp};

pub(super) struct Writer {
    file: ReplayFile,
    notes: Receiver<Note>,
    missed: Arc<AtomicU64>,
    snapshot: Snapshot,
    report: Reporter,
    state: State,
    /// How many records make the file worth making anew.
    enough: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// All that was written is on the disk.
    Synced,
    /// Something has been written since then.
    Written(Instant),
    /// The file lacks something. It was last tried to make it anew at that time.
    Behind(Option<Instant>),
}

impl Writer {
    pub fn new(
        file: ReplayFile,
        notes: Receiver<Note>,
        missed: Arc<AtomicU64>,
        snapshot: Snapshot,
        report: Reporter,
    ) -> Self {
        Writer { file, notes, missed, snapshot, report, state: State::Synced, enough: SMALL }
    }

    /// Makes the file ready to be appended to: a new one gets its header, and one that has mostly
    /// expired is made anew.
    pub fn prepare(&mut self, live: usize) -> Result<(), Fault> {
        self.enough = enough(live as u64);
        if self.file.records() == 0 || self.file.records() > self.enough {
            self.renew()?;
        } else {
            // What follows is written in another run of the machine, perhaps.
            self.file.sync(&clock::stamp())?;
        }
        Ok(())
    }

    /// Writes until the journal is closed or gone; `true` if the file holds everything then.
    pub fn run(mut self) -> bool {
        let mut notes = Vec::new();
        loop {
            let mut last = match self.notes.recv_timeout(self.patience()) {
                Ok(note) => {
                    notes.push(note);
                    std::thread::sleep(GATHER);
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            notes.extend(self.notes.try_iter());
            last |= notes.iter().any(|note| matches!(note, Note::Close));
            let worked = self.work(&notes, last);
            if let Err(error) = worked {
                self.fail(&error.to_string());
            }
            if last {
                return matches!(self.state, State::Synced);
            }
            notes.clear();
        }
    }

    /// How long to wait if nothing comes.
    fn patience(&self) -> Duration {
        match self.state {
            State::Synced => Duration::from_secs(60),
            State::Written(since) => SYNC.saturating_sub(since.elapsed()),
            State::Behind(_) => RETRY,
        }
    }

    fn work(&mut self, notes: &[Note], last: bool) -> io::Result<()> {
        let missed = self.missed.swap(0, Ordering::Relaxed);
        if missed > 0 {
            self.miss(missed);
        }
        if let State::Behind(tried) = self.state {
            return match tried {
                Some(tried) if tried.elapsed() < RETRY && !last => Ok(()),
                Some(_) | None => self.mend(),
            };
        }
        self.append(notes)?;
        match self.state {
            State::Written(since) if last || since.elapsed() >= SYNC => {
                self.file.sync(&clock::stamp())?;
                self.state = State::Synced;
            }
            State::Written(_) | State::Synced | State::Behind(_) => {}
        }
        if self.file.records() > self.enough { self.renew() } else { Ok(()) }
    }

    fn append(&mut self, notes: &[Note]) -> io::Result<()> {
        let stamp = clock::stamp();
        let records: Vec<_> = notes.iter().filter_map(|note| record(note, &stamp)).collect();
        if records.is_empty() {
            return Ok(());
        }
        self.file.append(&records)?;
        if let State::Synced = self.state {
            self.state = State::Written(Instant::now());
        }
        Ok(())
    }

    /// Writes down the whole memory. What is settled meanwhile comes through the queue as well.
    fn renew(&mut self) -> io::Result<()> {
        let stamp = clock::stamp();
        let Some(delivered) = (self.snapshot)() else { return Ok(()) };
        let written = |(key, keep, age)| Record::Done { key, keep, uptime_ms: uptime_ms(&stamp, age) };
        self.file.renew(&stamp, delivered.map(written))?;
        self.enough = enough(self.file.records());
        self.state = State::Synced;
        Ok(())
    }

    fn mend(&mut self) -> io::Result<()> {
        self.state = State::Behind(Some(Instant::now()));
        self.renew()?;
        (self.report)(Report::Mended);
        Ok(())
    }

    fn miss(&mut self, count: u64) {
        self.tell(count, "deliveries come faster than they can be written");
        if !matches!(self.state, State::Behind(_)) {
            self.state = State::Behind(None);
        }
    }

    fn fail(&mut self, error: &str) {
        self.tell(1, error);
        self.state = State::Behind(Some(Instant::now()));
    }

    /// Says once what is wrong, and counts it every time.
    fn tell(&self, count: u64, message: &str) {
        let known = matches!(self.state, State::Behind(Some(_)));
        let message = (!known).then(|| format!("{}: {message}", self.file.path().display()));
        (self.report)(Report::Trouble { count, message });
    }
}

/// Twice what is remembered, and never worth less than a few pages.
fn enough(live: u64) -> u64 {
    SMALL.max(live.saturating_mul(2))
}

fn record(note: &Note, stamp: &Stamp) -> Option<Record> {
    match *note {
        Note::Done { key, keep, at } => {
            let age = stamp.now.mono.saturating_sub(at);
            Some(Record::Done { key, keep, uptime_ms: uptime_ms(stamp, age) })
        }
        Note::Forgotten(key) => Some(Record::Forgotten { key }),
        Note::Close => None,
    }
}
