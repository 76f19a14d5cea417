//! The life of a delivery, top to bottom: [`Sidecar::handle`].
//!
//! The gate is an application on Pingora's HTTP server, not a set of its proxy hooks.
//! Pingora's proxy contacts the application before it has the body, cuts the
//! application's call when the sender hangs up, and answers heads that its parser
//! refuses by itself, under its own name and out of reach of every counter. One
//! straight function on the server below has none of these limits and is shorter.

pub mod body;
pub mod facts;
pub mod forward;
pub mod framing;
pub mod in_flight;
pub mod live;
pub mod respond;
pub mod upstream;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use pingora_timeout::timeout;

use self::body::Body;
use self::forward::Forward;
use self::in_flight::{Guard, InFlight};
use self::live::{Endpoint, Live};
use self::upstream::{Reply, Undelivered, Upstream};
use crate::budget::{Budget, SHORT_HEAD, Share};
use crate::clock;
use crate::config::Timeouts;
use crate::config::provider::NamedSecret;
use crate::diagnosis::task::{self, Diagnosis, Suspect};
use crate::gate::chain::{Admission, Findings};
use crate::gate::delivery::Head;
use crate::gate::filter::freshness::Fresh;
use crate::gate::handshake::HandshakeReply;
use crate::gate::reason::{Reason, Reject};
use crate::gate::route::Route;
use crate::store::{Claim, Outcome, ReplayStore, Reservation};
use crate::telemetry::metrics::UpstreamOutcome;
use crate::telemetry::{Proof, Record, RequestId, Telemetry};

/// The gate as Pingora sees it.
pub struct Sidecar {
    pub live: ArcSwap<Live>,
    pub store: ReplayStore,
    pub upstream: Arc<Upstream>,
    pub budget: Arc<Budget>,
    pub telemetry: Arc<Telemetry>,
    pub timeouts: Timeouts,
    pub in_flight: Arc<InFlight>,
    pub diagnosis: Diagnosis,
}

/// Why a delivery ends without the application's answer.
enum Ending {
    /// We answer.
    Refused(Reject),
    /// As our follower's leader was answered.
    As(Reason, u16),
    /// It is a handshake, and we answer.
    Handshake(Box<HandshakeReply>),
}

impl<T: Into<Reject>> From<T> for Ending {
    fn from(reject: T) -> Self {
        Ending::Refused(reject.into())
    }
}

impl Sidecar {
    /// One delivery.
    async fn handle(
        &self,
        session: &mut ServerSession,
        record: &mut Record,
        around: &mut Share,
    ) -> Result<Reply, Ending> {
        // Look at the head, and find who speaks to whom.
        let raw_head = session.to_h1_raw();
        framing::check(&raw_head)?;
        let live = self.live.load_full();
        let Endpoint { route, metrics, secrets } = live.endpoint(facts::path(session.req_header()))?;
        record.route = Some((Arc::clone(route), Arc::clone(metrics)));
        let peer = facts::peer(session).ok_or(Reason::AddressDenied)?;
        let (client, secure) = live.trusted_proxies.resolve(peer, &session.req_header().headers);
        record.client = Some(client);
        around.belongs_to(client);
        around.take_room(head_room(&raw_head, session.req_header().headers.len())).await?;
        if let Some(intake) = facts::intake(session) {
            intake.release();
        }

        // Judge the head; only then read the body.
        let mut findings = Findings::new(route.mode);
        let head = facts::head(session.req_header(), client, secure);
        let admission = route.admit(&head, record.arrived, &mut findings);
        record.verify = clock::since(record.arrived);
        let mut admitted = match admission? {
            Admission::Read(admitted) => admitted,
            Admission::Answer(said) => return Err(Ending::Handshake(said)),
        };
        self.shared_rate_limit(route, &head, &mut findings).await?;
        let body = body::read(session, &admitted, around, self.timeouts.body).await?;
        record.body_size = body.size();

        // Judge the body: is it genuine, fresh, first-seen?
        let now = clock::now();
        let head = facts::head(session.req_header(), client, secure);
        if let Some(said) = route.hear(&mut admitted, &head, &body.bytes, now, &mut findings)? {
            return Err(Ending::Handshake(said));
        }
        let authentic = route.authenticate(admitted, &head, &body.bytes, now, &mut findings);
        record.verify += clock::since(now);
        let refused = matches!(authentic, Err(Reject { reason: Reason::SignatureMismatch, .. }));
        if refused || findings.noted().contains(&Reason::SignatureMismatch) {
            self.suspect(route, secrets, &head, &body, record.request_id);
        }
        let authentic = authentic?;
        record.proof = authentic.as_ref().map(Proof::from);
        let fresh = route.freshen(authentic, now, &mut findings)?;
        record.observed = findings.noted().to_vec();
        if let Some(said) = route.answer_signed(fresh.as_ref(), &head, &body.bytes)? {
            return Err(Ending::Handshake(said));
        }
        route.choose(fresh.as_ref(), &mut findings)?;
        let claim = self.claim(fresh.as_ref(), &mut findings, record).await?;
        record.observed = findings.into_noted();

        // Deliver it, in a task of its own that outlives the sender.
        let forward = Forward {
            raw_head: &raw_head,
            head: &head,
            peer: peer.address,
            trusted: live.trusted_proxies.trusts(peer.address),
            route,
            upstream: self.upstream.url(),
            authentic: fresh.as_ref().map(Fresh::authentic),
            observed: record.observed.first().copied(),
            id: record.request_id,
            exported: self.telemetry.exports(),
            body_len: body.size(),
        };
        let delivery = Delivery {
            upstream: Arc::clone(&self.upstream),
            head: forward.to_bytes(),
            body,
            claim,
            limit: self.timeouts.call,
            _in_flight: self.in_flight.enter(),
        };
        let patience = route.patience.unwrap_or(self.timeouts.upstream);
        self.deliver(delivery, patience, record).await
    }

    /// Counts the request together with what other gates let through, on routes that ask for
    /// that. Their own limits have judged already, and stand if the store does not answer.
    async fn shared_rate_limit(
        &self,
        route: &Route,
        head: &Head<'_>,
        findings: &mut Findings,
    ) -> Result<(), Reject> {
        let Some(cell) = route.shared_rate(head) else { return Ok(()) };
        let judged = match self.store.excess(&cell).await {
            Some(early) => Err(Reject::retry_after(Reason::RateLimited, early)),
            None => Ok(()),
        };
        findings.note(judged).map(drop)
    }

    /// Has a delivery whose signature does not hold looked at, if there is time.
    fn suspect(
        &self,
        route: &Arc<Route>,
        secrets: &Arc<[NamedSecret]>,
        head: &Head<'_>,
        body: &Body,
        id: RequestId,
    ) {
        let ours = route.handshakes.could_have_signed(&body.bytes);
        if !ours && body.size() <= task::MAX_BODY && self.diagnosis.has_time(clock::now()) {
            let suspect = Suspect {
                route: Arc::clone(route),
                secrets: Arc::clone(secrets),
                method: head.method.clone(),
                target: match head.query {
                    Some(query) => [head.path, b"?", query].concat().into(),
                    None => Bytes::copy_from_slice(head.path),
                },
                headers: head.headers.clone(),
                body: body.bytes.clone(),
                id,
            };
            suspect.diagnose(Arc::clone(&self.telemetry));
        }
    }

    /// The right to deliver the event. `None` where there is no proof, because the route only observes
    /// or the application answers an unsigned question; or where an observing route would have refused.
    async fn claim(
        &self,
        fresh: Option<&Fresh>,
        findings: &mut Findings,
        record: &mut Record,
    ) -> Result<Option<Claim>, Ending> {
        let Some(fresh) = fresh else { return Ok(None) };
        let now = clock::now();
        let reserved = self.store.reserve(fresh, now).await;
        record.verify += clock::since(now);
        let refusal = match reserved {
            Ok(Reservation::Lead(claim)) => return Ok(Some(claim)),
            Ok(Reservation::Done) => Reason::Duplicate,
            Ok(Reservation::Follow(_)) if findings.only_notes() => return Ok(None),
            Ok(Reservation::Follow(waiting)) => match waiting.outcome().await {
                Some(Outcome::Delivered) => Reason::Duplicate,
                Some(Outcome::Failed { reason, status }) => return Err(Ending::As(reason, status)),
                None => Reason::InFlight,
            },
            Err(_) => Reason::StoreUnavailable,
        };
        Ok(findings.note(Err(refusal))?)
    }

    /// Waits for the delivery as long as a sender should have to.
    async fn deliver(
        &self,
        delivery: Delivery,
        patience: Duration,
        record: &mut Record,
    ) -> Result<Reply, Ending> {
        let started = Instant::now();
        let task = tokio::spawn(delivery.run());
        let ended = timeout(patience, task).await;
        let took = started.elapsed();
        let (outcome, result) = match ended {
            Ok(Ok(Ok(reply))) => (UpstreamOutcome::of_status(reply.header.status.as_u16()), Ok(reply)),
            Ok(Ok(Err(undelivered))) => (undelivered.outcome(), Err(undelivered.reason())),
            Ok(Err(_panicked)) => (UpstreamOutcome::Broken, Err(Reason::UpstreamFailed)),
            Err(_) => (UpstreamOutcome::Timeout, Err(Reason::UpstreamTimeout)),
        };
        record.upstream = Some((outcome, took));
        Ok(result?)
    }

    /// Answers, and tells what happened.
    async fn conclude(
        &self,
        session: &mut ServerSession,
        mut record: Record,
        ended: Result<Reply, Ending>,
        around: &mut Share,
    ) {
        match ended {
            Ok(reply) => {
                record.status = reply.header.status.as_u16();
                if !reply.header.status.is_success() {
                    record.reason = Reason::UpstreamStatus;
                }
                respond::reply(session, reply, record.request_id).await;
            }
            Err(Ending::Handshake(said)) => {
                record.reason = Reason::Handshake;
                record.status = said.status;
                respond::handshake(session, said, record.request_id).await;
            }
            Err(Ending::Refused(reject)) => {
                record.status = record.said(reject.reason).status;
                self.refuse(session, reject, &mut record, around).await;
            }
            Err(Ending::As(reason, status)) => {
                record.status = status;
                self.refuse(session, reason.into(), &mut record, around).await;
            }
        }
        self.telemetry.finish(record);
    }

    async fn refuse(
        &self,
        session: &mut ServerSession,
        reject: Reject,
        record: &mut Record,
        around: &mut Share,
    ) {
        record.reason = reject.reason;
        // To take in the rest of a body needs room; who gives way to somebody has none.
        if around.gives_way() || !session.is_body_done() && !around.try_room(body::BUFFER) {
            let refusal = respond::refuse_unread(session, reject, record.request_id);
            _ = timeout(respond::FINISH, refusal).await;
            return;
        }
        if reject.reason == Reason::FramingInvalid || self.in_flight.is_draining() {
            session.set_keepalive(None);
        }
        let route = record.route.as_ref().map(|(route, _)| &**route);
        respond::refuse(session, reject, record.status, record.request_id, route).await;
    }

    /// A connection over the cap: it is counted, told, and given this answer.
    pub fn refuse_connection(&self, peer: IpAddr) -> Vec<u8> {
        let record = Record::without_head(Some(peer), Reason::Overloaded);
        let answer = respond::raw_refusal(record.reason, record.request_id);
        self.telemetry.finish(record);
        answer
    }

    /// Reads a head within its deadline. `None` ends the connection: the sender has gone,
    /// was too slow, or sent what Pingora's parser refuses, which is answered here.
    async fn read_head(&self, session: &mut ServerSession) -> Option<()> {
        let reused = session.take_connection_user_context().is_some();
        let deadline = if reused { self.timeouts.idle + self.timeouts.header } else { self.timeouts.header };
        session.set_keepalive(Some(self.timeouts.idle.as_secs().max(1)));
        let intake = facts::intake(session).cloned();
        if let Some(intake) = &intake {
            intake.begin();
        }
        let read = tokio::select! {
            biased;
            read = timeout(deadline, session.read_request()) => read,
            // A connection without a request is closed when the gate shuts down.
            () = self.in_flight.closing() => return None,
        };
        let reason = match read {
            Ok(Ok(true)) => {
                if let Some(intake) = &intake {
                    intake.end();
                }
                return Some(());
            }
            Ok(Err(error)) if *error.etype() == pingora::ErrorType::InvalidHTTPHeader => {
                framing::unparsed(&error)
            }
            Ok(Err(_)) => intake?.fault()?,
            Ok(Ok(false)) | Err(_) => return None,
        };
        let peer = facts::peer(session).map(|peer| peer.address);
        let record = Record::without_head(peer, reason);
        respond::refuse_unread(session, reason.into(), record.request_id).await;
        self.telemetry.finish(record);
        None
    }
}

#[async_trait]
impl HttpServerApp for Sidecar {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        _shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.read_head(&mut session).await?;
        let _in_flight = self.in_flight.enter();
        let mut record = facts::record(&session);
        let idle = self.timeouts.idle.as_secs().max(1);
        // HTTP/1.0 ends the connection after the answer unless it asked for more.
        let reusable = session.get_keepalive().is_some() && !self.in_flight.is_draining();
        session.set_keepalive(reusable.then_some(idle));

        // Dropped after the session: only then is the memory free.
        let mut around = Share::new(&self.budget);
        let ended = self.handle(&mut session, &mut record, &mut around).await;
        self.conclude(&mut session, record, ended, &mut around).await;

        let mut settings = HttpPersistentSettings::for_session(&session);
        settings.set_user_context(Box::new(Reused));
        let finished = timeout(respond::FINISH, session.finish()).await;
        let stream = finished.ok()?.ok().flatten()?;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }
}

/// What a head takes beyond what every connection takes: its bytes, a copy of the path, and an
/// entry in two maps for each line.
fn head_room(raw: &[u8], lines: usize) -> usize {
    const FEW_LINES: usize = 16;
    const LINE: usize = 320;
    let long = if raw.len() > SHORT_HEAD { raw.len().next_power_of_two() + raw.len() } else { 0 };
    long + lines.saturating_sub(FEW_LINES) * LINE
}

/// Marks a connection that has served a request.
struct Reused;

/// One call of the application. It settles its claim before anybody is told.
struct Delivery {
    upstream: Arc<Upstream>,
    head: Vec<u8>,
    body: Body,
    claim: Option<Claim>,
    limit: Duration,
    _in_flight: Guard,
}

impl Delivery {
    async fn run(self) -> Result<Reply, Undelivered> {
        let Body { bytes, mut share } = self.body;
        let mut result = self.upstream.exchange(&self.head, &bytes, self.limit, &mut share).await;
        if let Some(claim) = self.claim {
            claim.settle(outcome(&result), clock::now()).await;
        }
        if let Ok(reply) = &mut result {
            reply.share = Some(share);
        }
        result
    }
}

/// Only a 2xx of the application is a delivery. It is one even if the rest of the answer
/// cannot be passed on: an application that always answers wrongly would otherwise get the
/// event again at each retry.
fn outcome(result: &Result<Reply, Undelivered>) -> Outcome {
    match result {
        Ok(reply) => match reply.header.status.as_u16() {
            200..300 => Outcome::Delivered,
            status => Outcome::Failed { reason: Reason::UpstreamStatus, status },
        },
        Err(Undelivered::Cut { status: 200..300 }) => Outcome::Delivered,
        Err(undelivered) => {
            let reason = undelivered.reason();
            Outcome::Failed { reason, status: reason.status() }
        }
    }
}

impl Undelivered {
    fn reason(&self) -> Reason {
        match self {
            Undelivered::Unreachable => Reason::UpstreamUnreachable,
            Undelivered::Broken | Undelivered::Cut { .. } => Reason::UpstreamFailed,
            Undelivered::TimedOut => Reason::UpstreamTimeout,
        }
    }

    fn outcome(&self) -> UpstreamOutcome {
        match self {
            Undelivered::Unreachable => UpstreamOutcome::ConnectError,
            Undelivered::Broken => UpstreamOutcome::Broken,
            Undelivered::TimedOut => UpstreamOutcome::Timeout,
            Undelivered::Cut { status } => UpstreamOutcome::of_status(*status),
        }
    }
}
