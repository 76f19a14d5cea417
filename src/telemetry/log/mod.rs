//! The log: lines are formatted into a shared buffer and written by a thread of their
//! own, so that no request ever waits for a slow pipe. What does not fit or cannot be
//! written is dropped and counted.

mod library;
mod line;

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::time::Duration;

pub use self::library::adopt_library_logs;
#[cfg(feature = "otel")]
pub(super) use self::line::MAX_FIELD;
pub use self::line::is_active;
use self::line::{Key, Line, Second, key};
pub use self::line::{digits, write_address};
use super::event::Event;
use super::metrics::Metrics;
use super::worker::{Output, Queue, Worker};
use super::{Record, RequestId};
use crate::clock::{self, Now};
use crate::gate::filter::replay::ReplayKey;
use crate::gate::reason::{Reason, Verdict};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Debug,
    Info,
    Warn,
    Error,
}

impl Severity {
    const fn label(self) -> &'static str {
        match self {
            Severity::Debug => "DEBUG",
            Severity::Info => "INFO",
            Severity::Warn => "WARN",
            Severity::Error => "ERROR",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Text,
}

/// What an operator asked for, and what came of it.
#[derive(Clone, Copy, Debug)]
pub struct Forget<'f> {
    pub route: Option<&'f str>,
    pub event_id: Option<&'f str>,
    pub key: Option<&'f str>,
    pub outcome: &'static str,
    /// The user on the other end of the socket.
    pub uid: Option<u32>,
}

/// A delivery from the inbox has ended.
#[derive(Clone, Copy, Debug)]
pub struct Attempted<'a> {
    pub route: &'a str,
    pub key: ReplayKey,
    pub attempt: u32,
    /// The status, or why there is none.
    pub outcome: &'a str,
    pub delivered: bool,
    /// Since it came.
    pub age: Duration,
    pub took: Duration,
}

/// What an operator had done to the inbox.
#[derive(Clone, Copy, Debug)]
pub struct InboxOrder<'o> {
    pub what: &'static str,
    /// Which events were meant.
    pub selection: &'o str,
    pub count: u64,
    pub uid: Option<u32>,
}

/// What an operator had done with a refused request.
#[derive(Clone, Copy, Debug)]
pub struct RefusedOrder<'o> {
    /// The id under which it was refused.
    pub request_id: &'o str,
    pub route: &'o str,
    pub key: Option<ReplayKey>,
    pub key_id: Option<&'o str>,
    pub outcome: &'o str,
    pub uid: Option<u32>,
}

/// What waits to be written, at most.
const MAX_PENDING: usize = 1 << 20;

/// Takes lines from any thread without blocking it on the output.
pub struct Sink {
    format: Format,
    least: Severity,
    worker: Worker<Lines>,
}

impl Sink {
    /// What is lost counts in `metrics`. `output` is written to in whole batches: it keeps
    /// nothing back.
    pub fn new(
        output: Box<dyn Write + Send>,
        format: Format,
        least: Severity,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let writer = Writer { output, torn: false };
        Arc::new(Sink { format, least, worker: Worker::new("log", writer, metrics.log_dropped()) })
    }

    /// A delivery has ended.
    pub(super) fn decision(
        &self,
        severity: Severity,
        now: Now,
        record: &Record,
        (verdict, reason): (Verdict, Reason),
        total: Duration,
    ) {
        self.line(("hookgate.decision", severity), now, |line| line.decision(record, verdict, reason, total));
    }

    /// Something that the program does or meets.
    pub fn tell(&self, event: Event<'_>) {
        let (name, severity, prose) = event.told();
        self.line((name, severity), clock::now(), |line| line.text(key!("body"), &prose));
    }

    /// What would have made a signature hold.
    pub fn hints(&self, route: &str, id: RequestId, hints: &[String]) {
        self.line(("hookgate.hints", Severity::Warn), clock::now(), |line| {
            line.word(key!("hookgate.request_id"), std::str::from_utf8(&id.hex()).unwrap_or_default());
            line.word(key!("hookgate.route"), route);
            line.text(key!("hookgate.hints"), &hints.join("; "));
        });
    }

    /// An operator let an event be delivered again, or tried to.
    pub fn forget(&self, audit: &Forget<'_>) {
        self.line(("hookgate.forget", Severity::Warn), clock::now(), |line| {
            if let Some(route) = audit.route {
                line.bytes(key!("hookgate.route"), route.as_bytes());
            }
            if let Some(id) = audit.event_id {
                line.bytes(key!("hookgate.event.id"), id.as_bytes());
            }
            if let Some(key) = audit.key {
                line.bytes(key!("hookgate.event.key"), key.as_bytes());
            }
            line.word(key!("hookgate.forget.outcome"), audit.outcome);
            if let Some(uid) = audit.uid {
                line.number(key!("user.id"), uid as usize);
            }
        });
    }

    /// A delivery from the inbox has ended.
    pub fn attempted(&self, attempt: &Attempted<'_>) {
        let severity = if attempt.delivered { Severity::Info } else { Severity::Warn };
        self.line(("hookgate.attempt", severity), clock::now(), |line| {
            line.word(key!("hookgate.route"), attempt.route);
            let key = super::hex(attempt.key.as_bytes());
            line.word(key!("hookgate.idempotency_key"), std::str::from_utf8(&key).unwrap_or_default());
            line.number(key!("hookgate.attempt"), attempt.attempt as usize);
            line.text(key!("hookgate.attempt.outcome"), attempt.outcome);
            line.millis(key!("hookgate.event.age_ms"), attempt.age);
            line.millis(key!("hookgate.duration.upstream_ms"), attempt.took);
        });
    }

    /// An operator has changed what is in the inbox.
    pub fn inbox_order(&self, order: &InboxOrder<'_>) {
        self.line(("hookgate.inbox.order", Severity::Warn), clock::now(), |line| {
            line.word(key!("hookgate.inbox.order"), order.what);
            line.text(key!("hookgate.inbox.selection"), order.selection);
            line.number(key!("hookgate.inbox.count"), usize::try_from(order.count).unwrap_or(usize::MAX));
            if let Some(uid) = order.uid {
                line.number(key!("user.id"), uid as usize);
            }
        });
    }

    /// An operator had a refused request delivered, or tried to.
    pub fn refused_order(&self, order: &RefusedOrder<'_>) {
        self.line(("hookgate.refused.order", Severity::Warn), clock::now(), |line| {
            line.word(key!("hookgate.request_id"), order.request_id);
            line.text(key!("hookgate.route"), order.route);
            if let Some(key) = order.key {
                let key = super::hex(key.as_bytes());
                line.word(key!("hookgate.idempotency_key"), std::str::from_utf8(&key).unwrap_or_default());
            }
            if let Some(key_id) = order.key_id {
                line.text(key!("hookgate.key_id"), key_id);
            }
            line.text(key!("hookgate.refused.outcome"), order.outcome);
            if let Some(uid) = order.uid {
                line.number(key!("user.id"), uid as usize);
            }
        });
    }

    fn line(&self, event: (&'static str, Severity), now: Now, compose: impl FnOnce(&mut Line<'_>)) {
        if event.1 < self.least {
            return;
        }
        self.worker.add(|lines| {
            let mut line = Line::begin(&mut lines.text, &mut lines.second, now, self.format, event);
            compose(&mut line);
            line.end();
            lines.count += 1;
        });
    }

    /// Writes what is pending, as long as the output takes it and no longer than `patience`, and
    /// stops. Lines that come later are dropped.
    pub fn close(&self, patience: Duration) {
        self.worker.close(patience);
    }
}

/// Whole lines, one after the other.
#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    count: u64,
    second: Second,
}

impl Queue for Lines {
    const GATHER: Duration = Duration::from_millis(10);

    fn count(&self) -> u64 {
        self.count
    }

    fn is_full(&self) -> bool {
        self.text.len() >= MAX_PENDING
    }

    fn is_a_batch(&self) -> bool {
        false
    }

    fn take(&mut self, batch: &mut Self) {
        std::mem::swap(&mut self.text, &mut batch.text);
        std::mem::swap(&mut self.count, &mut batch.count);
    }
}

struct Writer {
    output: Box<dyn Write + Send>,
    /// The last line that was written is not whole: the disk was full, say.
    torn: bool,
}

/// Until an output that does not block is asked again.
const AGAIN: Duration = Duration::from_millis(10);

impl Output<Lines> for Writer {
    fn write(&mut self, batch: &mut Lines) -> Result<(), u64> {
        let mut left = batch.text.as_slice();
        let end_of_line = if self.torn { self.write_on(&mut b"\n".as_slice()) } else { Ok(()) };
        let written = end_of_line.and_then(|()| self.write_on(&mut left));
        let lost = left.split(|byte| *byte == b'\n').skip(1).count() as u64;
        batch.text.clear();
        batch.count = 0;
        written.map_err(|_| lost)
    }
}

impl Writer {
    /// Writes all of `left`, or leaves what the output did not take.
    fn write_on(&mut self, left: &mut &[u8]) -> io::Result<()> {
        while !left.is_empty() {
            match self.output.write(left) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    self.torn = left[taken - 1] != b'\n';
                    *left = &left[taken..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(AGAIN),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn sink(output: impl Write + Send + 'static) -> (Arc<Sink>, Metrics) {
        let metrics = Metrics::new();
        (Sink::new(Box::new(output), Format::Json, Severity::Info, &metrics), metrics)
    }

    /// The write of a test.
    struct Output<F>(F);

    impl<F: FnMut(&[u8]) -> io::Result<usize>> Write for Output<F> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_too_quiet_is_not_told() {
        let (sender, receiver) = mpsc::channel();
        let (sink, _) = sink(Output(move |bytes: &[u8]| {
            _ = sender.send(bytes.to_vec());
            Ok(bytes.len())
        }));
        sink.tell(Event::Library { severity: Severity::Debug, message: "too quiet" });
        sink.tell(Event::Notice("loud"));
        sink.close(LONG);
        let text = String::from_utf8(receiver.iter().flatten().collect()).unwrap();
        assert!(text.lines().count() == 1 && text.contains(r#""body":"loud""#), "{text}");
    }

    #[test]
    fn a_pipe_that_nobody_reads_costs_lines_and_no_time() {
        let (release, stuck) = mpsc::channel::<()>();
        let (sink, metrics) = sink(Output(move |bytes: &[u8]| {
            _ = stuck.recv();
            Ok(bytes.len())
        }));
        let line = "x".repeat(1000);
        for _ in 0..4 * MAX_PENDING / 1000 {
            sink.tell(Event::Notice(&line));
        }
        assert!(metrics.log_dropped().get() > 0);
        let begun = std::time::Instant::now();
        sink.close(Duration::from_millis(50));
        assert!(begun.elapsed() < LONG, "who stops is not held");
        drop(release);
    }

    #[test]
    fn lines_that_could_not_be_written_are_counted_and_the_next_one_begins_anew() {
        let (sender, receiver) = mpsc::channel();
        let mut room = 20;
        let (sink, metrics) = sink(Output(move |bytes: &[u8]| {
            if room == 0 {
                room = usize::MAX; // somebody makes room
                return Err(ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(room);
            room -= taken;
            sender.send(bytes[..taken].to_vec()).map_err(io::Error::other)?;
            Ok(taken)
        }));
        sink.tell(Event::Notice("one"));
        sink.tell(Event::Notice("two"));
        let dropped = || metrics.log_dropped().get();
        while dropped() == 0 {
            std::thread::yield_now();
        }
        let lost = dropped();
        sink.tell(Event::Notice("three"));
        sink.close(LONG);
        let text = String::from_utf8(receiver.iter().flatten().collect()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("{\"timestamp") && lines[0].len() == 20, "{text}");
        assert!(lines.last().is_some_and(|last| last.contains("three")), "{text}");
        let whole = lines.iter().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
        assert_eq!((whole.count() as u64, dropped()), (3 - lost, lost), "{text}");
    }

    #[test]
    fn an_output_that_does_not_block_is_asked_again() {
        let (sender, receiver) = mpsc::channel();
        let mut asked = 0;
        let (sink, metrics) = sink(Output(move |bytes: &[u8]| {
            asked += 1;
            if asked < 3 {
                return Err(ErrorKind::WouldBlock.into());
            }
            _ = sender.send(bytes.to_vec());
            Ok(bytes.len())
        }));
        sink.tell(Event::Ready);
        sink.close(LONG);
        assert!(receiver.iter().flatten().count() > 0 && metrics.log_dropped().get() == 0);
    }
}
