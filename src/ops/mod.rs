//! Health, metrics and what there is to see on a listener of their own: read-only, never
//! logged, and never asking anything outside the process.

pub mod page;
pub mod report;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, Response, StatusCode};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

use self::page::{Page, RouteView};
use self::report::Report;
use crate::clock::{self, Doubt};
use crate::proxy::Sidecar;

/// Answers probes and scrapes.
pub struct Ops {
    sidecar: Arc<Sidecar>,
    /// Every listener accepts.
    started: Arc<AtomicBool>,
    /// How long events are remembered.
    replay_window: Duration,
}

/// One condition of readiness.
struct Check {
    name: &'static str,
    fine: bool,
}

impl Ops {
    pub fn new(sidecar: Arc<Sidecar>, started: Arc<AtomicBool>, replay_window: Duration) -> Self {
        Ops { sidecar, started, replay_window }
    }

    fn answer(&self, method: &Method, path: &str, query: &str) -> Response<Vec<u8>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed\n");
            response.headers_mut().insert(http::header::ALLOW, http::HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/" => self.page(),
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/startupz" => health(&[self.startup()], query),
            "/readyz" => health(&self.readiness(), query),
            "/metrics" => self.metrics(),
            "/report" => json(&self.report()),
            "/version" => json(&version()),
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

    fn report(&self) -> Report {
        Report::of(&self.sidecar.live.load(), self.replay_window, clock::now())
    }

    fn page(&self) -> Response<Vec<u8>> {
        let (now, live) = (clock::now(), self.sidecar.live.load());
        let page = Page {
            now,
            readiness: self.readiness().iter().map(|check| (check.name, check.fine)).collect(),
            routes: RouteView::all(&live, Report::of(&live, self.replay_window, now), now),
            decisions: self.sidecar.telemetry.recent.decisions(),
        };
        let mut response = respond(StatusCode::OK, "text/html; charset=utf-8", page.html().into_bytes());
        let headers = response.headers_mut();
        for (name, value) in [
            (http::header::CONTENT_SECURITY_POLICY, page::POLICY.as_str()),
            (http::header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (http::header::REFERRER_POLICY, "no-referrer"),
            (http::header::CACHE_CONTROL, "no-store"),
        ] {
            headers.insert(name, http::HeaderValue::from_str(value).expect("printable constants"));
        }
        response
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

fn version() -> serde_json::Value {
    serde_json::json!({
        "name": "hookgate",
        "version": env!("CARGO_PKG_VERSION"),
        "revision": env!("HOOKGATE_REVISION"),
        "pingora": env!("HOOKGATE_PINGORA"),
        "rustc": env!("HOOKGATE_RUSTC"),
    })
}

fn json(value: &impl serde::Serialize) -> Response<Vec<u8>> {
    let mut body = serde_json::to_vec(value).expect("these values have JSON forms");
    body.push(b'\n');
    respond(StatusCode::OK, "application/json", body)
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
