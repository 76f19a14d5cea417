//! One span for each delivery, sent to a collector by OTLP over HTTP with JSON bodies. A
//! thread of its own composes and sends; a delivery only puts its record into a queue that
//! is bounded, and what does not fit or does not arrive is dropped and counted.
//!
//! The collector is on this machine or node, so the connection is plain HTTP.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::IntCounter;
use serde_json::{Value, json};

use super::Record;
use super::event::Event;
use super::log::{MAX_FIELD, Sink};
use super::metrics::{Metrics, SpanCounters};
use super::trace::Parent;
use super::worker::{Output, Queue, Worker};
use crate::config::units::OtlpEndpoint;
use crate::gate::delivery::Client;
use crate::gate::reason::{Reason, Verdict};

/// Spans that wait, at most.
const QUEUE: usize = 4096;
/// Spans in one request, at most.
const BATCH: usize = 512;
/// What one request to the collector may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// No answer of a collector needs more.
const MAX_ANSWER: u64 = 64 * 1024;

/// A delivery that has ended.
pub struct Span {
    pub record: Record,
    pub verdict: Verdict,
    pub reason: Reason,
    pub took: Duration,
}

/// Takes spans from any thread without blocking it on the collector.
pub struct Exporter {
    worker: Worker<Spans>,
}

#[derive(Default)]
struct Spans(VecDeque<Span>);

impl Queue for Spans {
    const GATHER: Duration = Duration::from_millis(500);

    fn count(&self) -> u64 {
        self.0.len() as u64
    }

    fn is_full(&self) -> bool {
        self.0.len() == QUEUE
    }

    fn is_a_batch(&self) -> bool {
        self.0.len() >= BATCH
    }

    fn take(&mut self, batch: &mut Self) {
        let count = self.0.len().min(BATCH);
        batch.0.extend(self.0.drain(..count));
    }
}

impl Exporter {
    pub fn new(endpoint: OtlpEndpoint, metrics: &Metrics, log: Arc<Sink>) -> Self {
        let SpanCounters { exported, dropped } = metrics.spans();
        let collector = Collector { endpoint, exported, log, complained: false };
        Exporter { worker: Worker::new("otlp", collector, dropped) }
    }

    /// Has the delivery sent, unless its sender traces without recording.
    pub fn add(&self, span: Span) {
        if span.record.trace.is_none_or(Parent::is_sampled) {
            self.worker.add(|spans| spans.0.push_back(span));
        }
    }

    /// Sends what waits, as long as the collector takes it and no longer than `patience`, and stops.
    pub fn close(&self, patience: Duration) {
        self.worker.close(patience);
    }
}

struct Collector {
    endpoint: OtlpEndpoint,
    exported: IntCounter,
    log: Arc<Sink>,
    /// Whether it was said that spans do not arrive.
    complained: bool,
}

impl Output<Spans> for Collector {
    /// Sends a batch, and says once that the collector takes none, and once that it does again.
    fn write(&mut self, batch: &mut Spans) -> Result<(), u64> {
        let (count, collector) = (batch.count(), &self.endpoint);
        let sent = self.post(&document(&batch.0).to_string());
        batch.0.clear();
        match &sent {
            Ok(()) => {
                self.exported.inc_by(count);
                if self.complained {
                    self.log.tell(Event::SpansArrive { collector });
                }
            }
            Err(error) if !self.complained => self.log.tell(Event::SpansLost { collector, error }),
            Err(_) => {}
        }
        self.complained = sent.is_err();
        sent.map_err(|_| count)
    }
}

impl Collector {
    fn post(&self, body: &str) -> std::io::Result<()> {
        let OtlpEndpoint { host, port, path } = &self.endpoint;
        let deadline = Instant::now() + TIMEOUT;
        let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let mut last = std::io::Error::other("it has no address");
        let mut connected = None;
        for address in (host.trim_matches(['[', ']']), *port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left()) {
                Ok(stream) => {
                    connected = Some(stream);
                    break;
                }
                Err(error) => last = error,
            }
        }
        let Some(mut stream) = connected else { return Err(last) };
        stream.set_write_timeout(Some(left()))?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nUser-Agent: hookgate/{}\r\nConnection: close\r\n\r\n",
            body.len(),
            env!("CARGO_PKG_VERSION")
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        stream.set_read_timeout(Some(left()))?;
        let mut answer = Vec::new();
        let mut piece = [0; 1024];
        while !answer.contains(&b'\n') && (answer.len() as u64) < MAX_ANSWER {
            match stream.read(&mut piece)? {
                0 => break,
                n => answer.extend_from_slice(&piece[..n]),
            }
            stream.set_read_timeout(Some(left()))?;
        }
        let line = String::from_utf8_lossy(&answer);
        let line = line.lines().next().unwrap_or_default();
        match line.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()) {
            Some(200..300) => Ok(()),
            Some(status) => Err(std::io::Error::other(format!("it answers {status}"))),
            None => Err(std::io::Error::other("it answers no HTTP")),
        }
    }
}

/// An `ExportTraceServiceRequest` in the JSON mapping of OTLP.
fn document(batch: &VecDeque<Span>) -> Value {
    let version = env!("CARGO_PKG_VERSION");
    json!({ "resourceSpans": [{
        "resource": { "attributes": [text("service.name", "hookgate"), text("service.version", version)] },
        "scopeSpans": [{
            "scope": { "name": "hookgate", "version": version },
            "spans": batch.iter().map(span).collect::<Vec<_>>(),
        }],
    }] })
}

fn span(span: &Span) -> Value {
    const SERVER: u8 = 2;
    const ERROR: u8 = 2;
    let record = &span.record;
    let own = record.request_id.hex();
    let trace = record.trace.map_or(own, |parent| parent.trace);
    let start = i128::from(record.arrived.wall_ms) * 1_000_000;
    let end = start + i128::try_from(span.took.as_nanos()).unwrap_or_default();
    let mut value = json!({
        "traceId": ascii(&trace),
        "spanId": ascii(&record.request_id.span_hex()),
        "flags": 1,
        "name": name(record),
        "kind": SERVER,
        "startTimeUnixNano": start.to_string(),
        "endTimeUnixNano": end.to_string(),
        "attributes": attributes(span),
    });
    if let Some(parent) = record.trace {
        value["parentSpanId"] = ascii(&parent.span).into();
    }
    // A refusal is the gate's work done well; only what the gate or the application owes is an error.
    if record.status >= 500 {
        value["status"] = json!({ "code": ERROR });
    }
    value
}

/// The method and the route's path: both come from a closed list.
fn name(record: &Record) -> String {
    match &record.route {
        Some((route, _)) => format!("{} {}", known_method(record), route.path),
        None => known_method(record).to_owned(),
    }
}

/// As the conventions for HTTP spans have it.
fn known_method(record: &Record) -> &str {
    match record.method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE" | "PATCH") => {
            known
        }
        _ => "HTTP",
    }
}

fn attributes(span: &Span) -> Vec<Value> {
    let Span { record, verdict, reason, .. } = span;
    let method = if known_method(record) == "HTTP" { "_OTHER" } else { known_method(record) };
    let mut list = vec![
        text("http.request.method", method),
        text("url.path", &String::from_utf8_lossy(&record.path[..record.path.len().min(MAX_FIELD)])),
        number("http.response.status_code", record.status.into()),
        number("http.request.body.size", record.body_size as u64),
        text("hookgate.verdict", verdict.label()),
        text("hookgate.reason", reason.label()),
        text("hookgate.request_id", ascii(&record.request_id.hex())),
        millis("hookgate.duration.verify_ms", record.verify),
    ];
    if matches!(verdict, Verdict::Refused | Verdict::Failed) {
        list.push(text("error.type", reason.label()));
    }
    match record.client {
        Some(Client::Known(client)) => list.push(text("client.address", &client.to_string())),
        Some(Client::Unknown) | None => {}
    }
    if let Some(peer) = record.peer {
        list.push(text("network.peer.address", &peer.to_string()));
    }
    if let Some((route, _)) = &record.route {
        list.push(text("http.route", &route.path.to_string()));
        list.push(text("hookgate.route", &route.name));
        list.push(text("hookgate.provider", &route.provider));
    }
    if let Some(proof) = &record.proof {
        list.push(text("hookgate.key_id", &proof.key_id));
        list.push(text("hookgate.assurance", proof.assurance.label()));
        for (key, value) in
            [("hookgate.event.id", &proof.event_id), ("hookgate.event.type", &proof.event_type)]
        {
            list.extend(value.as_deref().map(|value| text(key, value)));
        }
    }
    if let Some((_, took)) = record.upstream {
        list.push(millis("hookgate.duration.upstream_ms", took));
    }
    list
}

fn text(key: &str, value: &str) -> Value {
    let end = value.char_indices().map(|(at, _)| at).find(|at| *at >= MAX_FIELD).unwrap_or(value.len());
    json!({ "key": key, "value": { "stringValue": &value[..end] } })
}

/// Whole numbers are strings in the JSON mapping.
fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn millis(key: &str, value: Duration) -> Value {
    json!({ "key": key, "value": { "doubleValue": value.as_secs_f64() * 1000.0 } })
}

fn ascii(digits: &[u8]) -> &str {
    std::str::from_utf8(digits).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::log::{Format, Severity};
    use super::*;

    /// And how many spans were exported and dropped.
    fn exporter(endpoint: &str) -> (Exporter, impl Fn() -> (u64, u64) + use<>) {
        let metrics = Metrics::new();
        let log = Sink::new(Box::new(std::io::sink()), Format::Json, Severity::Error, &metrics);
        let sending = Exporter::new(endpoint.parse().unwrap(), &metrics, log);
        let SpanCounters { exported, dropped } = metrics.spans();
        (sending, move || (exported.get(), dropped.get()))
    }

    fn span() -> Span {
        let record = Record::without_head(None, Reason::FramingInvalid);
        Span { record, verdict: Verdict::Refused, reason: Reason::FramingInvalid, took: Duration::ZERO }
    }

    #[test]
    fn a_collector_that_never_answers_costs_spans_and_no_time() {
        // It accepts by its backlog, and says nothing.
        let stuck = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (sending, counted) = exporter(&format!("http://{}", stuck.local_addr().unwrap()));
        let many = 3 * QUEUE as u64;
        for _ in 0..many {
            sending.add(span());
        }
        let dropped = counted().1;
        assert!(dropped >= many - (QUEUE + BATCH) as u64, "the queue is bounded: {dropped}");
        sending.close(2 * TIMEOUT);
        assert_eq!(counted(), (0, many), "every span is accounted for");
        sending.add(span());
        assert_eq!(counted(), (0, many + 1), "what comes after the end");
    }

    #[test]
    fn values_of_strangers_are_cut() {
        let cut = text("k", &"ü".repeat(1000));
        assert_eq!(cut["value"]["stringValue"].as_str().unwrap().len(), MAX_FIELD);
        assert_eq!(text("k", "short")["value"]["stringValue"], "short");
    }
}
