//! The log: lines are formatted into a shared buffer and written by a thread of their
//! own, so that no request ever waits for a slow pipe. What does not fit is dropped
//! and counted.

use std::io::Write;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus::IntCounter;

use super::trace::Parent;
use super::{Proof, Record, RequestId, lock};
use crate::clock::to_rfc3339;
use crate::clock::{self, Now};
use crate::gate::delivery::Client;
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

/// What waits to be written, at most.
const MAX_PENDING: usize = 1 << 20;
/// How long the writer gathers lines before it writes them in one call.
const GATHER: Duration = Duration::from_millis(10);

/// Takes lines from any thread without blocking it on the output.
pub struct Sink {
    format: Format,
    least: Severity,
    shared: Arc<Shared>,
    dropped: IntCounter,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    pending: Mutex<Pending>,
    wake: Condvar,
}

#[derive(Default)]
struct Pending {
    text: Vec<u8>,
    closed: bool,
    /// The current second, formatted once.
    second: (i64, String),
}

impl Sink {
    pub fn new(
        output: Box<dyn Write + Send>,
        format: Format,
        least: Severity,
        dropped: IntCounter,
    ) -> Arc<Self> {
        let shared = Arc::new(Shared { pending: Mutex::default(), wake: Condvar::new() });
        let writer = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.write_to(output)
            })
            .ok();
        Arc::new(Sink { format, least, shared, dropped, writer: Mutex::new(writer) })
    }

    /// A decision line, composed only if it is wanted.
    pub(super) fn decision(&self, severity: Severity, now: Now, compose: impl FnOnce(&mut Line<'_>)) {
        self.line(severity, now, "hookgate.decision", compose);
    }

    /// An event of the program itself, such as a reload.
    pub fn event(&self, severity: Severity, name: &'static str, message: &str) {
        self.line(severity, clock::now(), name, |line| line.text("body", message));
    }

    /// What would have made a signature hold.
    pub fn hints(&self, route: &str, id: RequestId, hints: &[String]) {
        self.line(Severity::Warn, clock::now(), "hookgate.hints", |line| {
            line.word("hookgate.request_id", std::str::from_utf8(&id.hex()).unwrap_or_default());
            line.word("hookgate.route", route);
            line.text("hookgate.hints", &hints.join("; "));
        });
    }

    /// An operator let an event be delivered again, or tried to.
    pub fn forget(&self, audit: &Forget<'_>) {
        self.line(Severity::Warn, clock::now(), "hookgate.forget", |line| {
            if let Some(route) = audit.route {
                line.bytes("hookgate.route", route.as_bytes());
            }
            if let Some(id) = audit.event_id {
                line.bytes("hookgate.event.id", id.as_bytes());
            }
            if let Some(key) = audit.key {
                line.bytes("hookgate.event.key", key.as_bytes());
            }
            line.word("hookgate.forget.outcome", audit.outcome);
            if let Some(uid) = audit.uid {
                line.number("user.id", uid as usize);
            }
        });
    }

    fn line(&self, severity: Severity, now: Now, event: &'static str, compose: impl FnOnce(&mut Line<'_>)) {
        if severity < self.least {
            return;
        }
        let mut pending = lock(&self.shared.pending);
        if pending.text.len() >= MAX_PENDING || pending.closed {
            self.dropped.inc();
            return;
        }
        let was_empty = pending.text.is_empty();
        let mut line = Line::begin(&mut pending, now, self.format, severity, event);
        compose(&mut line);
        line.end();
        drop(pending);
        if was_empty {
            self.shared.wake.notify_one();
        }
    }

    /// Writes what is pending and stops. Lines that come later are dropped.
    pub fn close(&self) {
        lock(&self.shared.pending).closed = true;
        self.shared.wake.notify_one();
        if let Some(writer) = lock(&self.writer).take() {
            _ = writer.join();
        }
    }
}

impl Shared {
    fn write_to(&self, mut output: Box<dyn Write + Send>) {
        let mut batch = Vec::new();
        loop {
            let mut pending = lock(&self.pending);
            while pending.text.is_empty() && !pending.closed {
                pending = self.wake.wait(pending).unwrap_or_else(PoisonError::into_inner);
            }
            if !pending.closed {
                drop(pending);
                std::thread::sleep(GATHER);
                pending = lock(&self.pending);
            }
            std::mem::swap(&mut pending.text, &mut batch);
            let last = pending.closed;
            drop(pending);
            // Nobody is left to tell if the output is gone; the next batch is tried anew.
            _ = output.write_all(&batch).and_then(|()| output.flush());
            batch.clear();
            if last {
                return;
            }
        }
    }
}

/// One line under construction. Values of strangers are escaped and cut.
pub(super) struct Line<'l> {
    out: &'l mut Vec<u8>,
    format: Format,
}

/// No field of a line is longer.
pub(super) const MAX_FIELD: usize = 256;
const DIGITS: &[u8; 10] = b"0123456789";

impl<'l> Line<'l> {
    fn begin(pending: &'l mut Pending, now: Now, format: Format, severity: Severity, event: &str) -> Self {
        let ms = now.wall_ms;
        let second = ms.div_euclid(1000);
        if pending.second.0 != second {
            pending.second = (second, to_rfc3339(second * 1000).trim_end_matches('Z').to_owned());
        }
        let mut line = Line { out: &mut pending.text, format };
        let millis = usize::try_from(ms.rem_euclid(1000)).unwrap_or_default();
        match format {
            Format::Json => {
                line.push("{\"timestamp\":\"");
                line.push(&pending.second.1);
                line.thousandths(millis);
                line.push("Z\"");
                line.word("severity_text", severity.label());
                line.word("event.name", event);
            }
            Format::Text => {
                let time = pending.second.1.split_once('T').map_or("", |(_, time)| time);
                line.push(time);
                line.thousandths(millis);
                line.write(format_args!(" {:5} {event}", severity.label()));
            }
        }
        line
    }

    fn end(self) {
        if self.format == Format::Json {
            self.out.push(b'}');
        }
        self.out.push(b'\n');
    }

    fn write(&mut self, args: std::fmt::Arguments<'_>) {
        _ = self.out.write_fmt(args); // writing to memory does not fail
    }

    fn push(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn quote(&mut self) {
        if self.format == Format::Json {
            self.out.push(b'"');
        }
    }

    fn key(&mut self, key: &str) {
        match self.format {
            Format::Json => {
                self.push(",\"");
                self.push(key);
                self.push("\":");
            }
            Format::Text => {
                self.push(" ");
                if key != "body" {
                    self.push(key.rsplit("hookgate.").next().unwrap_or(key));
                    self.push("=");
                }
            }
        }
    }

    fn number(&mut self, key: &str, value: usize) {
        self.key(key);
        self.digits(value);
    }

    fn millis(&mut self, key: &str, value: Duration) {
        let micros = usize::try_from(value.as_micros()).unwrap_or(usize::MAX);
        self.key(key);
        self.digits(micros / 1000);
        self.thousandths(micros % 1000);
    }

    /// A dozen numbers stand in each line: through `fmt` they would cost as much as all
    /// the rest of it.
    fn digits(&mut self, mut number: usize) {
        let mut text = [0; 20]; // what the greatest number takes
        let mut start = text.len();
        loop {
            start -= 1;
            text[start] = DIGITS[number % 10];
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&text[start..]);
    }

    fn thousandths(&mut self, number: usize) {
        self.out.extend([b'.', DIGITS[number / 100 % 10], DIGITS[number / 10 % 10], DIGITS[number % 10]]);
    }

    fn address(&mut self, key: &str, address: IpAddr) {
        self.key(key);
        self.quote();
        match address {
            IpAddr::V4(v4) => {
                for (n, octet) in v4.octets().into_iter().enumerate() {
                    if n > 0 {
                        self.push(".");
                    }
                    self.digits(octet.into());
                }
            }
            IpAddr::V6(v6) => self.write(format_args!("{v6}")),
        }
        self.quote();
    }

    /// A word of ours: needs no escaping.
    fn word(&mut self, key: &str, value: &str) {
        self.key(key);
        self.quote();
        self.push(value);
        self.quote();
    }

    /// A text of whatever origin. In a line for people it stands between quotes unless it is
    /// plainly one value; what a line tells is prose, as long as nothing in it looks like a field.
    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        let is_plain = match key {
            "body" => !value.contains(['=', '"']),
            _ => !value.is_empty() && value.bytes().all(is_plain),
        };
        let quotes = self.format == Format::Json || !is_plain;
        // For readers who do not know quotes, and cut a line at its spaces.
        let hides_fields = self.format == Format::Text && value.contains(' ');
        if quotes {
            self.push("\"");
        }
        for c in value.chars() {
            match c {
                '"' | '\\' if quotes => self.out.extend_from_slice(&[b'\\', c as u8]),
                '=' if hides_fields => self.push("\\u003d"),
                c => self.escaped(c),
            }
        }
        if quotes {
            self.push("\"");
        }
    }

    /// Bytes of a stranger: not necessarily UTF-8, and not longer than [`MAX_FIELD`].
    fn bytes(&mut self, key: &str, value: &[u8]) {
        let cut = &value[..value.len().min(MAX_FIELD)];
        match std::str::from_utf8(cut) {
            Ok(text) if !cut.is_empty() && cut.iter().copied().all(is_plain) => self.word(key, text),
            Ok(text) => self.text(key, text),
            Err(_) => self.text(key, &String::from_utf8_lossy(cut)),
        }
    }

    fn escaped(&mut self, c: char) {
        if is_active(c) {
            self.write(format_args!("\\u{:04x}", u32::from(c)));
        } else {
            let mut utf8 = [0; 4];
            self.out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
        }
    }

    pub(super) fn decision(&mut self, record: &Record, verdict: Verdict, reason: Reason, total: Duration) {
        self.word("hookgate.verdict", verdict.label());
        self.word("hookgate.reason", reason.label());
        if !record.observed.is_empty() {
            let observed: Vec<_> = record.observed.iter().map(|r| r.label()).collect();
            self.text("hookgate.observed", &observed.join(" "));
        }
        self.bytes("http.request.method", record.method.as_str().as_bytes());
        self.bytes("url.path", &record.path);
        self.number("http.response.status_code", record.status.into());
        self.number("http.request.body.size", record.body_size);
        match record.client {
            Some(Client::Known(client)) => self.address("client.address", client),
            Some(Client::Unknown) => self.word("client.address", "unknown"),
            None => {}
        }
        if let Some(peer) = record.peer {
            self.address("network.peer.address", peer);
        }
        let id = record.request_id.hex();
        let id = std::str::from_utf8(&id).unwrap_or_default();
        self.word("trace_id", record.trace.as_ref().map_or(id, Parent::trace_id));
        self.word("hookgate.request_id", id);
        if let Some((route, _)) = &record.route {
            self.word("hookgate.route", &route.name);
            self.word("hookgate.provider", &route.provider);
        }
        if let Some(proof) = &record.proof {
            self.proof(proof);
        }
        self.millis("hookgate.duration.total_ms", total);
        self.millis("hookgate.duration.verify_ms", record.verify);
        if let Some((_, took)) = record.upstream {
            self.millis("hookgate.duration.upstream_ms", took);
        }
    }

    fn proof(&mut self, proof: &Proof) {
        self.bytes("hookgate.key_id", proof.key_id.as_bytes());
        self.word("hookgate.assurance", proof.assurance.label());
        if let Some(id) = &proof.event_id {
            self.bytes("hookgate.event.id", id.as_bytes());
        }
        if let Some(event_type) = &proof.event_type {
            self.bytes("hookgate.event.type", event_type.as_bytes());
        }
        if let Some(ms) = proof.event_time_ms {
            self.word("hookgate.event.time", &to_rfc3339(ms));
        }
    }
}

/// Stands for itself in both formats, and is one value without quotes.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'=')
}

/// What a terminal or a reader of lines might act on: controls, ends of lines, and what hides or
/// turns around the text beside it. All have four hex digits.
pub fn is_active(c: char) -> bool {
    matches!(c, '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Passes warnings of the libraries underneath on. Their lower levels print request
/// heads, which hold signatures: they stay silent at every log level. So does rustls, which
/// warns of whatever name a stranger asks for: a handshake that fails is told by ourselves.
pub fn adopt_library_logs(sink: Arc<Sink>) {
    struct Libraries(Arc<Sink>);

    impl ::log::Log for Libraries {
        fn enabled(&self, metadata: &::log::Metadata<'_>) -> bool {
            metadata.level() <= ::log::Level::Warn && !metadata.target().starts_with("rustls")
        }

        fn log(&self, record: &::log::Record<'_>) {
            if self.enabled(record.metadata()) {
                let severity =
                    if record.level() == ::log::Level::Error { Severity::Error } else { Severity::Warn };
                self.0.event(severity, "hookgate.library", &record.args().to_string());
            }
        }

        fn flush(&self) {}
    }

    if ::log::set_boxed_logger(Box::new(Libraries(sink))).is_ok() {
        ::log::set_max_level(::log::LevelFilter::Warn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Passes what is written on to the test.
    struct Output(mpsc::Sender<Vec<u8>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            _ = self.0.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn composed(format: Format, compose: impl FnOnce(&mut Line<'_>)) -> String {
        let mut pending = Pending::default();
        let mut line = Line::begin(&mut pending, clock::now(), format, Severity::Info, "hookgate.test");
        compose(&mut line);
        line.end();
        String::from_utf8(pending.text).unwrap()
    }

    fn logged(format: Format, message: &str) -> String {
        let (sender, receiver) = mpsc::channel();
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        let sink = Sink::new(Box::new(Output(sender)), format, Severity::Info, dropped);
        sink.event(Severity::Debug, "hookgate.test", "too quiet");
        sink.event(Severity::Info, "hookgate.test", message);
        sink.close();
        String::from_utf8(receiver.iter().flatten().collect()).unwrap()
    }

    #[test]
    fn a_line_stays_one_line_whatever_is_in_it() {
        for nasty in
            ["a\r\nb", "\u{1b}[31mred", "quote\" back\\slash", "\u{2028}", "\u{202e}", "\u{0}", "ünï"]
        {
            for format in [Format::Json, Format::Text] {
                let text = logged(format, nasty);
                assert_eq!(text.lines().count(), 1, "{text:?}");
                assert!(!text.trim_end().contains(|c: char| c.is_control()), "{text:?}");
            }
            let line: serde_json::Value = serde_json::from_str(&logged(Format::Json, nasty)).unwrap();
            assert_eq!(line["body"], nasty);
            assert_eq!(line["event.name"], "hookgate.test");
        }
    }

    /// A reader of `name=value` that knows quotes, as people's tools do.
    fn fields(line: &str) -> Vec<(String, String)> {
        let (mut fields, mut rest) = (Vec::new(), line);
        while let Some((name, value)) = rest.split_once('=') {
            let name = name.rsplit(' ').next().unwrap().to_owned();
            let mut value = value.chars();
            let mut read = String::new();
            if value.as_str().starts_with('"') {
                value.next();
                while let Some(c) = value.next().filter(|c| *c != '"') {
                    let escaped = if c == '\\' { value.next().unwrap() } else { c };
                    read.push(match (c, escaped) {
                        ('\\', 'u') => {
                            let digits: String = value.by_ref().take(4).collect();
                            char::from_u32(u32::from_str_radix(&digits, 16).unwrap()).unwrap()
                        }
                        (_, escaped) => escaped,
                    });
                }
            } else {
                read = value.by_ref().take_while(|c| *c != ' ').collect();
            }
            rest = value.as_str();
            fields.push((name, read));
        }
        fields
    }

    #[test]
    fn a_strangers_value_is_one_field_of_a_line_for_people() {
        let values = [
            "",
            " ",
            "a b",
            "1 verdict=accepted",
            "a=b",
            "\"",
            "\" verdict=accepted",
            "\\\" x=y",
            "/a?b",
            "é=1",
        ];
        for value in values {
            let line = composed(Format::Text, |line| {
                line.bytes("hookgate.event.id", value.as_bytes());
                line.text("hookgate.event.type", value);
                line.word("hookgate.verdict", "refused");
            });
            let found = fields(line.trim_end());
            let told = [("event.id", value), ("event.type", value), ("verdict", "refused")];
            let told = told.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(found, told, "{line:?}");
            assert_eq!(line.matches(" verdict=").count(), 1, "nor for whoever knows no quotes: {line:?}");
        }
        for prose in ["listens on 127.0.0.1:80", "it's fine"] {
            assert!(logged(Format::Text, prose).ends_with(&format!("hookgate.test {prose}\n")));
        }
        let forged = logged(Format::Text, "no answer verdict=accepted");
        assert!(forged.contains("\"no answer verdict\\u003daccepted\""), "{forged}");
    }

    #[test]
    fn a_full_buffer_drops_and_counts() {
        struct Stuck(mpsc::Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (release, stuck) = mpsc::channel();
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        let sink = Sink::new(Box::new(Stuck(stuck)), Format::Json, Severity::Info, dropped.clone());
        let line = "x".repeat(1000);
        for _ in 0..4 * MAX_PENDING / 1000 {
            sink.event(Severity::Info, "hookgate.test", &line);
        }
        assert!(dropped.get() > 0, "a pipe that nobody reads costs lines, not requests");
        drop(release);
        sink.close();
    }
}
