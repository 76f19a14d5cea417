//! Health, metrics and what there is to see on a listener of their own: read-only, never
//! logged, and never asking anything outside the process.

pub mod control;
pub mod inbox;
pub mod keys;
pub mod page;
pub mod refused;
pub mod report;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, Response, StatusCode};
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;

use self::page::{Page, RouteView};
use self::report::{Report, RouteReport};
use crate::clock::{self, Doubt};
use crate::config::Startup;
use crate::config::units::HostName;
use crate::gate::delivery::Headers;
use crate::gate::route::Mode;
use crate::proxy::framing::RequestHead;
use crate::proxy::session::Session;
use crate::proxy::{Sidecar, respond};
use crate::telemetry::metrics::{InboxTotals, Levels};

/// Answers probes and scrapes.
pub struct Ops {
    sidecar: Arc<Sidecar>,
    /// Every listener accepts.
    started: Arc<AtomicBool>,
    /// How long events are remembered.
    replay_window: Duration,
    /// Names under which it may be asked.
    hosts: Vec<HostName>,
    /// Where senders come in.
    listeners: Vec<SocketAddr>,
    /// Whether the gate is ready while its store is away.
    ready_without_store: bool,
    connections: Box<dyn Fn() -> usize + Send + Sync>,
}

/// For a head, all in all.
const HEAD: Duration = Duration::from_secs(2);
/// Between two requests.
const IDLE: Duration = Duration::from_secs(5);

const MISDIRECTED: &str =
    "This listener is not known by that name: ask by address or as localhost, or name it in --ops-host\n";

/// One condition of readiness.
struct Check {
    name: &'static str,
    fine: bool,
    /// Whether it decides.
    counts: bool,
    /// What it means for traffic.
    means: Option<String>,
}

impl Check {
    fn new(name: &'static str, fine: bool) -> Self {
        Check { name, fine, counts: true, means: None }
    }
}

/// The page is not kept waiting by a disk or a store.
const OUTLOOK: Duration = Duration::from_millis(300);
/// More routes are not named.
const MOST_NAMED: usize = 20;

impl Ops {
    pub fn new(
        sidecar: Arc<Sidecar>,
        started: Arc<AtomicBool>,
        startup: &Startup,
        connections: Box<dyn Fn() -> usize + Send + Sync>,
    ) -> Self {
        let sockets = &startup.sockets;
        Ops {
            sidecar,
            started,
            replay_window: startup.replay.window(),
            hosts: sockets.ops_hosts.clone(),
            listeners: [&*sockets.listen, &sockets.listen_tls].concat(),
            ready_without_store: startup.ready_without_store,
            connections,
        }
    }

    /// A page in a browser can ask under any name whose address its owner sets (DNS rebinding),
    /// and would read the answer. It cannot choose an address, `localhost`, or a name of ours.
    fn is_asked_by_its_name(&self, headers: Headers<'_>) -> bool {
        headers.get_all("host").all(|host| {
            let Ok(host) = std::str::from_utf8(host) else { return false };
            let (name, port) = match host.rfind(':').filter(|_| !host.ends_with(']')) {
                Some(colon) => (&host[..colon], &host[colon + 1..]),
                None => (host, ""),
            };
            let name = name.strip_suffix('.').unwrap_or(name);
            let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
            let known = name.is_empty() // as good as no header
                || address.parse::<IpAddr>().is_ok()
                || name.eq_ignore_ascii_case("localhost")
                || self.hosts.iter().any(|host| host.0.eq_ignore_ascii_case(name));
            known && port.bytes().all(|b| b.is_ascii_digit())
        })
    }

    async fn answer(&self, request: &RequestHead) -> Response<Vec<u8>> {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed\n");
            response.headers_mut().insert(http::header::ALLOW, http::HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        if !self.is_asked_by_its_name(request.headers()) {
            return text(StatusCode::MISDIRECTED_REQUEST, MISDIRECTED);
        }
        let target = String::from_utf8_lossy(request.target());
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/" => self.page().await,
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/startupz" => health(&[self.startup()], &[], query),
            "/readyz" => health(&self.readiness(), &self.standing(), query),
            "/metrics" => self.metrics(),
            "/report" => json(&self.report(query)),
            "/version" => json(&version()),
            _ => text(StatusCode::NOT_FOUND, "Not found\n"),
        }
    }

    fn startup(&self) -> Check {
        Check::new("started", self.started.load(Ordering::Acquire))
    }

    fn readiness(&self) -> [Check; 4] {
        [
            self.startup(),
            Check::new("clock believable", clock_is_believable()),
            Check::new("not draining", !self.sidecar.in_flight.is_draining()),
            Check {
                counts: !self.ready_without_store,
                means: self.store_means(),
                ..Check::new("replay store usable", self.sidecar.store.is_usable())
            },
        ]
    }

    /// What is not as it was configured. The gate is ready all the same: taken out of its Service, it
    /// would serve nobody.
    fn standing(&self) -> Vec<String> {
        let (live, unapplied) = (self.sidecar.live.load(), self.sidecar.unapplied.load());
        let mut lines = Vec::new();
        if unapplied.failed {
            lines.push("the last reload failed: the log says why".to_owned());
        }
        if !unapplied.keys.is_empty() {
            lines.push(format!("restart pending: {}", unapplied.keys.join(", ")));
        }
        for (route, _) in live.routes() {
            let means = if route.signature.awaits_keys() { "answers 503" } else { "refuses what needs it" };
            for awaited in &route.awaits {
                lines
                    .push(format!("route {}: the secret {} is missing: it {means}", route.name, awaited.key));
            }
        }
        lines
    }

    /// Whose traffic a store that is away affects, and how.
    fn store_means(&self) -> Option<String> {
        let store = &self.sidecar.store;
        if store.is_up() && store.is_usable() {
            return None;
        }
        let live = self.sidecar.live.load();
        let enforcing = live.routes().filter(|(route, _)| route.mode == Mode::Enforce);
        let names: Vec<&str> = enforcing.map(|(route, _)| &*route.name).collect();
        let listeners: Vec<_> = self.listeners.iter().map(SocketAddr::to_string).collect();
        let mut told = names[..names.len().min(MOST_NAMED)].join(", ");
        if names.len() > MOST_NAMED {
            _ = write!(told, " and {} more", names.len() - MOST_NAMED);
        }
        let how = if store.is_usable() {
            "the store is away, and this gate remembers events by itself"
        } else {
            "verified events are answered 503"
        };
        Some(format!("{how}: routes {told} on {}", listeners.join(", ")))
    }

    fn report(&self, query: &str) -> Report {
        let live = self.sidecar.live.load();
        let mut report = Report::of(&self.sidecar, &live, self.replay_window, clock::now());
        if let Some(tenant) = query.strip_prefix("tenant=") {
            report.tenants = report::of_tenant(&live, &self.sidecar.telemetry.tenants, tenant);
        }
        report
    }

    async fn page(&self) -> Response<Vec<u8>> {
        let (now, live) = (clock::now(), self.sidecar.live.load_full());
        let report = Report::of(&self.sidecar, &live, self.replay_window, now);
        let some = |route: &&RouteReport| route.inbox.as_ref().is_some_and(|it| it.stored + it.dead > 0);
        let routes = report.routes.iter().filter(some).take(MOST_NAMED).map(|route| route.route.clone());
        let outlook = match &self.sidecar.inbox {
            Some(inbox) => inbox::outlook(inbox, routes.collect(), OUTLOOK).await,
            None => BTreeMap::new(),
        };
        let page = Page {
            now,
            readiness: self.readiness().iter().map(|check| (check.name, check.fine)).collect(),
            routes: RouteView::all(&live, report, outlook, now),
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
        let Sidecar { store, in_flight, budget, telemetry, .. } = &*self.sidecar;
        for endpoint in &self.sidecar.live.load().endpoints {
            endpoint.metrics.set_waiting(endpoint.lane.as_ref().map_or(0, |lane| lane.waiting()));
        }
        if let Some(inbox) = &self.sidecar.inbox {
            let live = self.sidecar.live.load();
            let routes: Vec<&str> = live.routes().map(|(route, _)| &*route.name).collect();
            let counted = inbox.totals();
            let totals = InboxTotals {
                bytes: inbox.bytes(),
                max_bytes: inbox.max_bytes(),
                set_aside: counted.set_aside,
                dead_dropped: counted.dead_dropped,
            };
            telemetry.metrics.set_inbox(&routes, &inbox.depths(), totals, clock::now().wall_ms);
        }
        if let Some(shelf) = &self.sidecar.shelf {
            telemetry.metrics.set_shelf(shelf.totals());
        }
        let exposition = telemetry.metrics.text(&Levels {
            ready: self.readiness().iter().all(|check| check.fine || !check.counts),
            draining: in_flight.is_draining(),
            connections: (self.connections)(),
            in_flight: in_flight.count(),
            buffered: budget.bodies(),
            replay_entries: store.entries(),
            replay_capacity: store.capacity(),
            replay_store_up: store.is_up(),
            restart_pending: !self.sidecar.unapplied.load().keys.is_empty(),
        });
        respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", exposition)
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

/// 200 if all is fine, else 503; with `?verbose` a line for each condition, and for what decides nothing.
fn health(checks: &[Check], standing: &[String], query: &str) -> Response<Vec<u8>> {
    let fine = checks.iter().all(|check| check.fine || !check.counts);
    let status = if fine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = String::new();
    if query.split('&').any(|part| part == "verbose" || part.starts_with("verbose=")) {
        for check in checks {
            _ = write!(body, "{} {}", if check.fine { "[ok]" } else { "[no]" }, check.name);
            if let Some(means) = &check.means {
                _ = write!(body, ": {means}");
            }
            body += if check.fine || check.counts {
                "\n"
            } else {
                "; it is ready all the same (ready_without_store)\n"
            };
        }
        for line in standing {
            _ = writeln!(body, "[--] {line}");
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
impl ServerApp for Ops {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let mut session = Session::new(stream);
        loop {
            let mut read = None;
            session.read_head(&mut read, IDLE, HEAD, || false).await;
            let Some(read) = read else { break };
            if *shutdown.borrow() {
                session.close();
            }
            let response = match read {
                Ok(request) => self.answer(&request).await,
                Err(_) => text(StatusCode::BAD_REQUEST, "Bad request\n"),
            };
            session.take_what_is_there().await;
            let mut head = respond::status_line(response.status().as_u16());
            for (name, value) in response.headers() {
                respond::line(&mut head, name.as_str(), value);
            }
            session.answer(head, response.body()).await;
            if !session.persists() {
                session.end().await;
                break;
            }
        }
        None
    }
}
