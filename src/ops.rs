//! Health and metrics on a listener of their own: read-only, never logged, and never
//! asking anything outside the process.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use http::{Method, Response, StatusCode};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

use crate::clock::{self, Doubt};
use crate::proxy::Sidecar;

/// Answers probes and scrapes.
pub struct Ops {
    sidecar: Arc<Sidecar>,
    /// Every listener accepts.
    started: Arc<AtomicBool>,
}

/// One condition of readiness.
struct Check {
    name: &'static str,
    fine: bool,
}

impl Ops {
    pub fn new(sidecar: Arc<Sidecar>, started: Arc<AtomicBool>) -> Self {
        Ops { sidecar, started }
    }

    fn answer(&self, method: &Method, path: &str, query: &str) -> Response<Vec<u8>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed\n");
            response.headers_mut().insert(http::header::ALLOW, http::HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/startupz" => health(&[self.startup()], query),
            "/readyz" => health(&self.readiness(), query),
            "/metrics" => self.metrics(),
            "/version" => version(),
            _ => text(StatusCode::NOT_FOUND, "Not found\n"),
        }
    }

    fn startup(&self) -> Check {
        Check { name: "started", fine: self.started.load(Ordering::Acquire) }
    }

    fn readiness(&self) -> [Check; 4] {
        [
            self.startup(),
            Check { name: "clock believable", fine: clock_is_believable() },
            Check { name: "not draining", fine: !self.sidecar.under_way.is_draining() },
            Check { name: "replay store usable", fine: self.sidecar.store.is_usable() },
        ]
    }

    fn metrics(&self) -> Response<Vec<u8>> {
        let metrics = &self.sidecar.telemetry.metrics;
        metrics.ready.set(i64::from(self.readiness().iter().all(|check| check.fine)));
        metrics.draining.set(i64::from(self.sidecar.under_way.is_draining()));
        metrics.replay_entries.set(count(self.sidecar.store.entries()));
        metrics.replay_capacity.set(count(self.sidecar.store.capacity()));
        metrics.replay_store_up.set(i64::from(self.sidecar.store.is_up()));
        metrics.buffered_bytes.set(count(self.sidecar.budget.used()));
        respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics.text())
    }
}

/// A jump by seconds puts no delivery off; one by minutes does.
fn clock_is_believable() -> bool {
    let now = clock::now();
    match now.doubt {
        Doubt::None => true,
        Doubt::Unset => false,
        Doubt::Jumped { otherwise_ms } => (now.wall_ms - otherwise_ms).abs() < 60_000,
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// 200 if all is fine, else 503; with `?verbose` a line for each condition.
fn health(checks: &[Check], query: &str) -> Response<Vec<u8>> {
    let fine = checks.iter().all(|check| check.fine);
    let status = if fine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = String::new();
    if query.split('&').any(|part| part == "verbose" || part.starts_with("verbose=")) {
        for check in checks {
            _ = writeln!(body, "{} {}", if check.fine { "[ok]" } else { "[no]" }, check.name);
        }
    }
    body += if fine { "ok\n" } else { "not ready\n" };
    text(status, &body)
}

fn version() -> Response<Vec<u8>> {
    let json = serde_json::json!({
        "name": "hookgate",
        "version": env!("CARGO_PKG_VERSION"),
        "revision": env!("HOOKGATE_REVISION"),
        "pingora": env!("HOOKGATE_PINGORA"),
        "rustc": env!("HOOKGATE_RUSTC"),
    });
    respond(StatusCode::OK, "application/json", format!("{json}\n").into_bytes())
}

fn text(status: StatusCode, body: &str) -> Response<Vec<u8>> {
    respond(status, "text/plain; charset=utf-8", body.as_bytes().to_vec())
}

fn respond(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Vec<u8>> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let length = response.body().len();
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    headers.insert(http::header::CONTENT_LENGTH, length.into());
    response
}

#[async_trait]
impl ServeHttp for Ops {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let target = String::from_utf8_lossy(request.raw_path()).into_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        self.answer(&request.method, path, query)
    }
}
