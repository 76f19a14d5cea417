//! With the feature `otel`: one span for each delivery reaches a collector, part of the
//! sender's trace and parent of the application's work; and a collector that is ill costs spans only.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::gate::{run, same};
use crate::support::sender::SECRET;
use crate::support::{self, App, Gate, Signer, eventually, lock, until};

/// Takes what an exporter posts, and answers with that status.
#[derive(Clone)]
struct Collector {
    address: SocketAddr,
    status: Arc<Mutex<u16>>,
    requests: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let collector = Collector {
            address: listener.local_addr().unwrap(),
            status: Arc::new(Mutex::new(200)),
            requests: Arc::default(),
        };
        let shared = collector.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    assert_ne!(reader.read_line(&mut head).unwrap(), 0, "a whole head: {head}");
                }
                let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
                let mut body = vec![0; length.unwrap().parse().unwrap()];
                reader.read_exact(&mut body).unwrap();
                let status = *lock(&shared.status);
                if status == 200 {
                    lock(&shared.requests).push((head, serde_json::from_slice(&body).unwrap()));
                }
                let answer =
                    format!("HTTP/1.1 {status} Said\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}");
                (&stream).write_all(answer.as_bytes()).unwrap();
            }
        });
        collector
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn answer(&self, status: u16) {
        *lock(&self.status) = status;
    }

    fn spans(&self) -> Vec<Value> {
        let requests = lock(&self.requests);
        let resources = requests.iter().flat_map(|(_, body)| body["resourceSpans"].as_array().unwrap());
        let scopes = resources.flat_map(|resource| resource["scopeSpans"].as_array().unwrap());
        scopes.flat_map(|scope| scope["spans"].as_array().unwrap()).cloned().collect()
    }

    /// Waits for the span of the request with that id.
    fn span(&self, id: &str) -> Value {
        eventually("the span", || {
            self.spans().into_iter().find(|span| attribute(span, "hookgate.request_id") == Some(id.into()))
        })
    }
}

fn attribute(span: &Value, key: &str) -> Option<Value> {
    let found = span["attributes"].as_array().unwrap().iter().find(|a| a["key"] == key)?;
    found["value"].as_object().unwrap().values().next().cloned()
}

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn a_delivery_is_a_span_in_the_senders_trace_and_the_applications_parent() {
    let (app, collector) = (App::ok(), Collector::start());
    let gate = Gate::before(&app).with("otlp-endpoint", collector.url()).start();
    let event = Signer::github().event().to("/webhooks?token=query-canary");
    let event = event.with("X-GitHub-Event", "push").with("Authorization", "Bearer auth-canary");
    let answer = gate.send(&event.clone().with("traceparent", PARENT).with("tracestate", "a=1"));
    let id = answer.header("Hookgate-Request-Id").unwrap();
    let span = collector.span(id);
    assert_eq!(span["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(span["parentSpanId"], "b7ad6b7169203331");
    assert_eq!((&span["name"], &span["kind"]), (&"POST /webhooks".into(), &2.into()));
    assert!(span["status"].is_null(), "{span}");
    let to_app = app.only_request();
    let on = format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", span["spanId"].as_str().unwrap());
    assert_eq!(to_app.header("traceparent"), Some(on.as_str()));
    assert_eq!(to_app.header("tracestate"), Some("a=1"));
    for (key, value) in [
        ("http.request.method", "POST".into()),
        ("http.route", "/webhooks".into()),
        ("url.path", "/webhooks".into()),
        ("http.response.status_code", "200".into()),
        ("http.request.body.size", event.body.len().to_string().into()),
        ("client.address", "127.0.0.1".into()),
        ("network.peer.address", "127.0.0.1".into()),
        ("hookgate.route", "default".into()),
        ("hookgate.provider", "github".into()),
        ("hookgate.verdict", "accepted".into()),
        ("hookgate.reason", "accepted".into()),
        ("hookgate.key_id", "key-1".into()),
    ] {
        assert_eq!(attribute(&span, key), Some(value), "{key}");
    }
    assert_eq!(attribute(&span, "error.type"), None);
    let nanos = |key: &str| span[key].as_str().unwrap().parse::<i64>().unwrap();
    assert!(nanos("startTimeUnixNano") <= nanos("endTimeUnixNano"));
    assert!((nanos("startTimeUnixNano") / 1_000_000 - support::sender::now_ms()).abs() < 60_000);

    let (head, body) = lock(&collector.requests)[0].clone();
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Content-Type: application/json\r\n"), "{head}");
    let resource = &body["resourceSpans"][0]["resource"];
    assert_eq!(attribute(resource, "service.name"), Some("hookgate".into()));
    let told = body.to_string();
    let signature = event.headers.get("x-hub-signature-256").unwrap();
    for canary in ["canary", SECRET, &signature[7..], &signature[7..23], "user.created"] {
        assert!(!told.contains(canary), "{canary} was told");
    }
}

#[test]
fn refusals_are_spans_too_and_only_failures_are_errors() {
    let (mut app, collector) = (App::ok(), Collector::start());
    let gate = Gate::before(&app).with("otlp-endpoint", collector.url()).start();
    let forged = gate.send(&Signer::github().event().tampered());
    let span = collector.span(forged.header("Hookgate-Request-Id").unwrap());
    assert_eq!(attribute(&span, "error.type"), Some("signature_mismatch".into()));
    assert_eq!(attribute(&span, "hookgate.event.id"), None, "it is not known before the signature holds");
    assert!(span["status"].is_null(), "the gate did its work");
    assert!(span["parentSpanId"].is_null(), "a trace begins here");
    assert_eq!(span["traceId"], forged.header("Hookgate-Request-Id").unwrap());

    let lost = gate.send(&Signer::github().event().to("/elsewhere"));
    assert_eq!(collector.span(lost.header("Hookgate-Request-Id").unwrap())["name"], "POST");
    app.stop();
    let failed = gate.send(&Signer::github().event());
    assert_eq!(failed.status, 503);
    let span = collector.span(failed.header("Hookgate-Request-Id").unwrap());
    assert_eq!(span["status"]["code"], 2);
}

#[test]
fn a_trace_that_nobody_records_is_not_recorded_here() {
    let (app, collector) = (App::ok(), Collector::start());
    let gate = Gate::before(&app).with("otlp-endpoint", collector.url()).start();
    let unsampled = PARENT.replace("-01", "-00");
    gate.send(&Signer::github().event().with("traceparent", &unsampled));
    let to_app = app.only_request();
    assert_eq!(to_app.header("traceparent"), Some(unsampled.as_str()), "no span comes in between");
    let sampled = gate.send(&Signer::github().event());
    assert!(app.requests()[1].header("traceparent").unwrap().ends_with("-01"));
    collector.span(sampled.header("Hookgate-Request-Id").unwrap());
    assert_eq!(collector.spans().len(), 1);
}

#[test]
fn an_ill_collector_costs_spans_only_and_is_told_of_once() {
    let (app, collector) = (App::ok(), Collector::start());
    collector.answer(503);
    let gate = Gate::before(&app).with("otlp-endpoint", collector.url()).start();
    let said = |words: &str| {
        gate.log.count(|line| {
            line["event.name"] == "hookgate.otlp" && line["body"].as_str().unwrap().contains(words)
        })
    };
    let dropped = || gate.metrics().value("hookgate_spans_dropped_total");
    assert!(same(dropped(), 0.0));
    for n in 1..=2 {
        assert_eq!(gate.send(&Signer::github().event()).status, 200);
        until("the loss", || same(dropped(), f64::from(n)));
    }
    assert_eq!(said("it answers 503; they are dropped and counted"), 1, "{}", gate.log.text());
    collector.answer(200);
    let answer = gate.send(&Signer::github().event());
    collector.span(answer.header("Hookgate-Request-Id").unwrap());
    until("the good news", || said("again") == 1);
    until("the count", || same(gate.metrics().value("hookgate_spans_exported_total"), 1.0));
}

#[test]
fn what_waits_at_the_end_is_sent() {
    let (app, collector) = (App::ok(), Collector::start());
    let gate = Gate::before(&app).with("otlp-endpoint", collector.url()).start();
    for _ in 0..20 {
        gate.send(&Signer::github().event());
    }
    gate.signal("TERM");
    assert!(gate.ended().success());
    assert_eq!(collector.spans().len(), 20);
}

#[test]
fn an_endpoint_that_is_none_is_refused_with_its_remedy() {
    let app = App::ok();
    for (url, says) in [
        ("https://collector:4318", "write http://, and let it speak TLS"),
        ("collector:4318", "is no collector: write http://127.0.0.1:4318"),
        ("http://user@collector", "leave out names"),
        ("http://", "is no collector"),
    ] {
        let told = run(&mut Gate::before(&app).with("otlp-endpoint", url).command("check"));
        assert_eq!(told.code, Some(2), "{url}");
        assert!(told.err.contains(says), "{url}: {}", told.err);
    }
    for (url, shown) in [
        ("http://collector", "http://collector:4318/v1/traces"),
        ("http://[::1]:9/base/", "http://[::1]:9/base/v1/traces"),
        ("http://collector:1/v1/traces", "http://collector:1/v1/traces"),
    ] {
        let told = run(&mut Gate::before(&app).with("otlp-endpoint", url).command("check"));
        assert!(told.out.contains(shown), "{url}: {}{}", told.out, told.err);
    }
}

#[test]
fn the_file_knows_it_too() {
    let app = App::ok();
    let routes = "routes: [{ provider: github, path: /webhooks, secrets: [{ file: DIR/key-1 }] }]\n";
    let check = |value: &str| {
        run(&mut Gate::before(&app).config(&format!("otlp_endpoint: {value}\n{routes}")).command("check"))
    };
    let good = check("http://collector");
    assert!(good.out.contains("http://collector:4318/v1/traces  [file]"), "{}{}", good.out, good.err);
    let bad = check("https://collector");
    assert_eq!(bad.code, Some(78));
    assert!(bad.err.contains("hookgate.yaml:1:") && bad.err.contains("let it speak TLS"), "{}", bad.err);
}

#[test]
fn without_an_endpoint_nothing_changes() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    gate.send(&Signer::github().event().with("traceparent", PARENT));
    assert_eq!(app.only_request().header("traceparent"), Some(PARENT));
    assert!(!gate.ops("/metrics").text().contains("hookgate_spans_"));
}
