//! The life of a delivery, top to bottom: [`Sidecar::handle`].
//!
//! The gate is an application on Pingora's streams, with a [`session`] of its own, not a set of
//! hooks in Pingora's proxy. That one contacts the application before it has the body, cuts the
//! application's call when the sender hangs up, and answers heads that its parser refuses by
//! itself, under its own name and out of reach of every counter. One straight function has none of
//! these limits and is shorter.

pub mod attempt;
pub mod body;
pub mod courier;
pub mod deadline;
pub mod forward;
pub mod framing;
pub mod in_flight;
pub mod lane;
pub mod live;
pub mod refused;
pub mod resign;
pub mod respond;
pub mod session;
pub mod spill;
pub mod upstream;

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use tokio::sync::oneshot;

use self::attempt::{called, outcome_of};
use self::body::Body;
use self::courier::Breakers;
use self::deadline::Deadline;
use self::forward::Forward;
use self::framing::{RequestHead, Unread};
use self::in_flight::{Guard, InFlight};
use self::lane::{Busy, Lane};
use self::live::{Endpoint, Live, Unapplied};
use self::session::Session;
use self::spill::{Kept, Spill};
use self::upstream::{Reply, Undelivered, Upstream};
use crate::budget::{Budget, SHORT_HEAD, Share};
use crate::clock::{self, Now};
use crate::config::Timeouts;
use crate::config::units::UpstreamUrl;
use crate::diagnosis::task::{self, Diagnosis, Suspect};
use crate::diagnosis::trust;
use crate::gate::chain::{Admission, Findings};
use crate::gate::delivery::Head;
use crate::gate::filter::body_limit::Admitted;
use crate::gate::filter::freshness::Fresh;
use crate::gate::filter::signature::Authentic;
use crate::gate::handshake::HandshakeReply;
use crate::gate::keys::Keys;
use crate::gate::reason::{Reason, Reject, Said};
use crate::gate::route::Route;
use crate::inbox::shelf::Shelf;
use crate::inbox::{Inbox, Stored, When};
use crate::keys::{Rooms, tenants};
use crate::store::deliveries::Deliveries;
use crate::store::{Claim, Outcome, ReplayStore, Reservation};
use crate::telemetry::metrics::UpstreamOutcome;
use crate::telemetry::trace::Parent;
use crate::telemetry::{Fault, Proof, Record, RequestId, Telemetry};

/// The gate as Pingora sees it.
pub struct Sidecar {
    pub live: ArcSwap<Live>,
    pub unapplied: ArcSwap<Unapplied>,
    pub store: ReplayStore,
    /// What is proved and not delivered yet, if anything is kept.
    pub inbox: Option<Inbox>,
    /// What was refused, if anything of it is kept.
    pub shelf: Option<Shelf>,
    pub breakers: Breakers,
    pub deliveries: Deliveries,
    pub upstream: Arc<Upstream>,
    pub budget: Arc<Budget>,
    pub telemetry: Arc<Telemetry>,
    pub timeouts: Timeouts,
    /// How long events are remembered, on routes that have no window of their own.
    pub replay_window: Duration,
    pub in_flight: Arc<InFlight>,
    pub diagnosis: Diagnosis,
    /// Where keys come from that are not files of a route.
    pub rooms: Rooms,
}

/// Why a delivery ends without the application's answer.
enum Ending {
    /// We answer.
    Refused(Reject),
    /// As our follower's leader was answered.
    As(Reason, u16),
    /// It is a handshake, and we answer.
    Handshake(Box<HandshakeReply>),
    /// It is in the inbox.
    Stored(Stored),
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
        session: &mut Session,
        head: &RequestHead,
        record: &mut Record,
        around: &mut Share,
    ) -> Result<Reply, Ending> {
        // Find who speaks to whom.
        let live = self.live.load_full();
        let endpoint = live.endpoint(head.path())?;
        let Endpoint { route, metrics, lane, .. } = endpoint;
        record.route = Some((Arc::clone(route), Arc::clone(metrics)));
        let peer = session.peer().ok_or(Reason::AddressDenied)?;
        let (client, secure) = live.trusted_proxies.resolve(peer, head.headers());
        record.client = Some(client);
        around.belongs_to(client);
        around.take_room(head_room(head)).await?;
        session.release_head();

        // Judge the head; only then read the body.
        let mut findings = Findings::new(route.mode);
        let head = route.named(head.facts(client, secure));
        record.tenant = head.tenant.map(Into::into);
        let admission = route.admit(&head, record.arrived, &mut findings);
        record.verify = clock::since(record.arrived);
        if let Err(reject) = &admission {
            self.doubt(*reject, session, (&live, route), &head, record);
        }
        let mut admitted = match admission? {
            Admission::Read(admitted) => admitted,
            Admission::Answer(said) => return Err(Ending::Handshake(said)),
        };
        let limited = self.shared_rate_limit(route, &head, &admitted, &mut findings).await;
        limited.map_err(|reject| self.shelve_unread(reject, session, route, &head, record))?;
        let body = body::read(session, &admitted, around, self.timeouts.body).await?;
        record.body_size = body.size();

        // Judge the body: is it genuine, fresh, first-seen?
        let named = route.named_in(&body.bytes);
        let head = Head { tenant: named.as_deref().or(head.tenant), ..head };
        if let Some(named) = &named {
            record.tenant = Some(named.as_str().into());
        }
        let mut keys = self.keys(endpoint, &admitted, &head, &body).await;
        let now = clock::after(record.arrived);
        let said = route.hear(&mut admitted, &head, &body.bytes, &keys, now, &mut findings);
        if let Some(said) = said.map_err(|reject| self.shelve(reject, route, &head, &body, record))? {
            return Err(Ending::Handshake(said));
        }
        let mut verified = route.verify(&admitted, &head, &body.bytes, &keys, now);
        let mut judged = clock::after(record.arrived);
        record.verify += judged.mono.saturating_sub(now.mono);
        if verified.is_mismatch()
            && let Some(newer) = self.newer_keys(endpoint, &head).await
        {
            keys = newer;
            let again = clock::after(record.arrived);
            verified = route.verify(&admitted, &head, &body.bytes, &keys, now);
            judged = clock::after(record.arrived);
            record.verify += judged.mono.saturating_sub(again.mono);
        }
        let authentic = route.believe(verified, &head, now, &mut findings);
        let refused = matches!(authentic, Err(Reject { reason: Reason::SignatureMismatch, .. }));
        if refused || findings.noted().contains(&Reason::SignatureMismatch) {
            self.suspect(&live, endpoint, &head, &body, record.request_id);
        }
        let authentic = authentic.map_err(|reject| self.shelve(reject, route, &head, &body, record))?;
        record.proof = authentic.as_ref().map(Proof::from);
        let fresh = route.freshen(authentic, now, &mut findings);
        let fresh = fresh.map_err(|reject| self.shelve(reject, route, &head, &body, record))?;
        record.observed = findings.noted().to_vec();
        if let Some(said) = route.answer_signed(fresh.as_ref(), &head, &body.bytes, &keys)? {
            return Err(self.prepared(said, route).await);
        }
        route.choose(fresh.as_ref(), &mut findings)?;
        let claim = self.claim(fresh.as_ref(), judged, &mut findings, record).await?;
        let early = findings.too_early();
        record.observed = findings.into_noted();

        // Deliver it, in a task of its own that outlives the sender.
        let forward = Forward {
            head: &head,
            peer: peer.address,
            trusted: live.trusted_proxies.trusts(peer.address),
            list_believed: live.trusted_proxies.believes_list(peer.address),
            route,
            upstream: self.upstream.url(),
            authentic: fresh.as_ref().map(Fresh::authentic),
            observed: record.observed.first().copied(),
            id: record.request_id,
            trace: record.trace,
            exported: self.telemetry.exports(),
            body_len: body.size(),
        };
        let delivery = Box::new(Delivery {
            upstream: Arc::clone(&self.upstream),
            head: resign::resigned(route, &keys, forward.to_bytes(), &body.bytes, record.arrived),
            body,
            claim,
            lane: lane.clone(),
            limit: self.timeouts.call,
            arrived: record.arrived,
            _in_flight: self.in_flight.enter(),
        });
        let patience = route.patience.unwrap_or(self.timeouts.upstream);
        match (&self.inbox, fresh) {
            (Some(inbox), Some(fresh)) if endpoint.policy.on != When::Never => {
                let spill = self.spill(inbox, endpoint, fresh.into_authentic(), early, record);
                Box::pin(self.deliver_or_store(&session.deadline(), delivery, spill, patience, record)).await
            }
            _ => self.deliver(&session.deadline(), delivery, patience, record).await,
        }
    }

    /// The keys that judge the delivery. Where the route holds them, that is all there is to say.
    async fn keys(&self, endpoint: &Endpoint, admitted: &Admitted, head: &Head<'_>, body: &Body) -> Keys {
        match &endpoint.keys {
            Some(source) if endpoint.route.needs_keys(admitted) => {
                // On the heap, so that every other delivery's future stays small.
                Box::pin(source.look_up(&endpoint.route, head, &body.bytes)).await
            }
            Some(_) | None => Keys::OfRoute,
        }
    }

    /// The keys that there are by now, where those that were looked up before did not sign it.
    async fn newer_keys(&self, endpoint: &Endpoint, head: &Head<'_>) -> Option<Keys> {
        Box::pin(endpoint.keys.as_ref()?.newer(&endpoint.route, head)).await
    }

    /// A request is refused by its head. Tells why a sender was not believed, now and then.
    fn doubt(
        &self,
        reject: Reject,
        session: &mut Session,
        (live, route): (&Live, &Route),
        head: &Head<'_>,
        record: &mut Record,
    ) {
        let told =
            record.peer.map(|peer| trust::hint(reject.reason, peer, &live.trusted_proxies, head.headers));
        record.hint = told.flatten().filter(|_| self.diagnosis.has_line(record.arrived));
        self.shelve_unread(reject, session, route, head, record);
    }

    /// Counts the request together with what other gates let through, on routes that ask for
    /// that. Their own limits have judged already, and stand if the store does not answer.
    async fn shared_rate_limit(
        &self,
        route: &Route,
        head: &Head<'_>,
        admitted: &Admitted,
        findings: &mut Findings,
    ) -> Result<(), Reject> {
        let Some(cell) = route.shared_rate(head) else { return Ok(()) };
        let Some(early) = self.store.excess(&cell).await else { return Ok(()) };
        route.share_limit(Err(Reject::retry_after(Reason::RateLimited, early)), admitted, findings)
    }

    /// Has a delivery whose signature does not hold looked at, if there is time.
    fn suspect(&self, live: &Live, endpoint: &Endpoint, head: &Head<'_>, body: &Body, id: RequestId) {
        let Endpoint { route, secrets, keys, .. } = endpoint;
        let ours = route.handshakes.could_have_signed(&body.bytes);
        if !ours && body.size() <= task::MAX_BODY && self.diagnosis.has_time(clock::now()) {
            let (secrets, found) = match keys {
                None => (Arc::clone(secrets), None),
                Some(keys) => {
                    let (secrets, found) = keys.told(head);
                    (secrets.into(), found)
                }
            };
            let suspect = Suspect {
                route: Arc::clone(route),
                secrets,
                found,
                others: live.others(route),
                method: head.method.clone(),
                target: match head.query {
                    Some(query) => [head.path, b"?", query].concat().into(),
                    None => Bytes::copy_from_slice(head.path),
                },
                headers: head.headers.to_map(),
                body: body.bytes.clone(),
                id,
            };
            suspect.diagnose(Arc::clone(&self.telemetry));
        }
    }

    /// The answer to a question, once what has to be done before is done.
    async fn prepared(&self, said: Box<HandshakeReply>, route: &Route) -> Ending {
        // On the heap, so that every other delivery's future stays small.
        match Box::pin(self.rooms.prepare(&said, route)).await {
            Ok(()) => Ending::Handshake(said),
            Err(reason) => reason.into(),
        }
    }

    /// The right to deliver the event. `None` where there is no proof, because the route only observes
    /// or the application answers an unsigned question; or where an observing route would have refused.
    async fn claim(
        &self,
        fresh: Option<&Fresh>,
        now: Now,
        findings: &mut Findings,
        record: &mut Record,
    ) -> Result<Option<Claim>, Ending> {
        let Some(fresh) = fresh else { return Ok(None) };
        let reserved = self.store.reserve(fresh, now).await;
        record.verify += clock::since(now);
        let refusal = match reserved {
            Ok(Reservation::Lead(claim)) => {
                self.called(fresh.authentic(), record, true);
                return Ok(Some(claim));
            }
            Ok(Reservation::Done) => Reason::Duplicate,
            Ok(Reservation::Follow(_)) if findings.only_notes() => return Ok(None),
            // On the heap, so that every other delivery's future stays small.
            Ok(Reservation::Follow(waiting)) => match Box::pin(waiting.outcome()).await {
                Some(Outcome::Delivered | Outcome::Stored) => Reason::Duplicate,
                Some(Outcome::Failed { reason, status }) => return Err(Ending::As(reason, status)),
                None => Reason::InFlight,
            },
            Err(_) => Reason::StoreUnavailable,
        };
        if refusal == Reason::Duplicate {
            self.called(fresh.authentic(), record, false);
        }
        Ok(findings.note(Err(refusal))?)
    }

    /// Keeps how the provider calls this delivery where that is not what the event goes by. If the event
    /// is known under another such name, only its content says that it is the same: that is told.
    fn called(&self, authentic: &Authentic, record: &mut Record, first: bool) {
        let (Some(identity), Some(id), Some((route, metrics))) =
            (authentic.identity(), authentic.event_id(), &record.route)
        else {
            return;
        };
        if id.signed && authentic.goes_by_id() {
            return;
        }
        if first {
            return self.deliveries.add(&route.name, authentic.tenant(), identity.told(), &id.text);
        }
        if self.deliveries.had_another(identity.told(), &id.text) {
            metrics.came_under_another_id();
            if self.diagnosis.has_line(record.arrived) {
                let (id, name) = (&id.text, &route.name);
                record.hint = Some(format!(
                    "an event with the same content was delivered under another delivery id than {id}: if it was \
                     sent again on purpose, let it through with hookgate forget --route {name} --event and that \
                     id; if two events of this provider can be equal, say identity: delivery on the route"
                ));
            }
        }
    }

    /// Waits for the delivery as long as a sender should have to.
    async fn deliver(
        &self,
        deadline: &Deadline,
        delivery: Box<Delivery>,
        patience: Duration,
        record: &mut Record,
    ) -> Result<Reply, Ending> {
        let started = Instant::now();
        // Boxed, because the runtime moves a task and its result about.
        let task = pin!(tokio::spawn(Box::pin(delivery.run())));
        let ended = deadline.within(patience, task, || false).await;
        let took = started.elapsed();
        let (outcome, reason) = match ended {
            Ok(Ok(result)) => return self.answered(result, took, record),
            Ok(Err(_panicked)) => (UpstreamOutcome::Broken, Reason::UpstreamFailed),
            Err(_) => (UpstreamOutcome::Timeout, Reason::UpstreamTimeout),
        };
        record.upstream = Some((outcome, took));
        Err(reason.into())
    }

    /// What a delivery needs that may be stored.
    fn spill(
        &self,
        inbox: &Inbox,
        endpoint: &Endpoint,
        authentic: Authentic,
        early: Option<Duration>,
        record: &Record,
    ) -> Box<Spill> {
        Box::new(Spill {
            inbox: inbox.clone(),
            policy: Arc::clone(&endpoint.policy),
            store: self.store.clone(),
            metrics: Arc::clone(&endpoint.metrics),
            shaped: Arc::clone(&endpoint.shaped),
            route: Arc::clone(&endpoint.route.name),
            authentic,
            id: record.request_id,
            early,
            pace: endpoint.route.pace(),
        })
    }

    /// Waits for the delivery, or until its event is durable.
    async fn deliver_or_store(
        &self,
        deadline: &Deadline,
        delivery: Box<Delivery>,
        spill: Box<Spill>,
        patience: Duration,
        record: &mut Record,
    ) -> Result<Reply, Ending> {
        let started = Instant::now();
        let patience = patience.max(spill.policy.answer_within + STORING);
        let (tell, told) = oneshot::channel();
        tokio::spawn(Box::pin(spill.run(delivery, tell))); // boxed as above
        let ended = deadline.within(patience, pin!(told), || false).await;
        let took = started.elapsed();
        let (outcome, result) = match ended {
            Ok(Ok(Kept::Answered(result))) => return self.answered(result, took, record),
            Ok(Ok(Kept::Stored(stored, outcome))) => (outcome, Err(Ending::Stored(stored))),
            Ok(Ok(Kept::Refused(reject))) => (None, Err(reject.into())),
            Ok(Err(_panicked)) => (Some(UpstreamOutcome::Broken), Err(Reason::UpstreamFailed.into())),
            Err(_) => (Some(UpstreamOutcome::Timeout), Err(Reason::UpstreamTimeout.into())),
        };
        record.upstream = outcome.map(|outcome| (outcome, took));
        result
    }

    /// What the application's answer, or that there is none, means to the sender.
    fn answered(
        &self,
        result: Result<Reply, Undelivered>,
        took: Duration,
        record: &mut Record,
    ) -> Result<Reply, Ending> {
        record.upstream = outcome_of(&result).map(|outcome| (outcome, took));
        Ok(result.map_err(|undelivered| {
            record.fault = undelivered.fault(self.upstream.url());
            undelivered.reject()
        })?)
    }

    /// Answers.
    async fn conclude(
        session: &mut Session,
        record: &mut Record,
        ended: &mut Result<Reply, Ending>,
        around: &Share,
    ) {
        match ended {
            Ok(reply) => {
                record.status = reply.status;
                if !(200..300).contains(&reply.status) {
                    record.reason = Reason::UpstreamStatus;
                }
                respond::reply(session, reply, record.request_id).await;
            }
            Err(Ending::Handshake(said)) => {
                record.reason = Reason::Handshake;
                record.status = said.status;
                respond::handshake(session, said, record.request_id).await;
            }
            Err(Ending::Stored(Stored { .. })) => {
                Self::refuse(session, Reason::Stored.into(), None, record, around).await;
            }
            Err(Ending::Refused(reject)) => {
                Self::refuse(session, *reject, None, record, around).await;
            }
            Err(Ending::As(reason, status)) => {
                Self::refuse(session, (*reason).into(), Some(*status), record, around).await;
            }
        }
    }

    /// Refuses in the words of route and provider, or with the `status` that another copy of the event got.
    async fn refuse(
        session: &mut Session,
        reject: Reject,
        status: Option<u16>,
        record: &mut Record,
        around: &Share,
    ) {
        record.reason = reject.reason;
        if around.gives_way() {
            session.hurry(); // somebody waits for what it holds
        }
        if reject.reason == Reason::FramingInvalid {
            session.close();
        }
        let route = record.route.as_ref().map(|(route, _)| Arc::clone(route));
        if reject.reason == Reason::SignatureMismatch && route.as_ref().is_some_and(|r| r.tenant.is_some()) {
            Box::pin(tenants::even(record.arrived)).await;
        }
        let said = route.as_ref().map_or(reject.reason.said(), |route| route.answers.to(reject.reason));
        record.status = status.unwrap_or(said.status);
        let said = Said { status: record.status, ..said };
        respond::refuse(session, reject, said, record.request_id, route.as_deref()).await;
    }

    /// A connection over the cap: it is counted, told, and given this answer.
    pub fn refuse_connection(&self, peer: IpAddr) -> Vec<u8> {
        let record = Record::without_head(Some(peer), Reason::Overloaded);
        let answer = respond::raw_refusal(record.reason, record.request_id);
        self.telemetry.finish(&record);
        answer
    }

    /// One request, from its head to its answer. Tells whether another one may follow.
    async fn serve(&self, session: &mut Session) -> bool {
        // A connection without a request is closed when the gate shuts down.
        let ends = || self.in_flight.is_closing();
        let mut read = None;
        session.read_head(&mut read, self.timeouts.idle, self.timeouts.header, ends).await;
        let Some(read) = &mut read else { return false };
        let _in_flight = self.in_flight.enter();
        match read {
            Ok(head) => self.answer(session, head).await,
            Err(unread) => Box::pin(self.refuse_unread(session, unread)).await,
        }
        if !session.persists() {
            session.end().await;
        }
        session.persists()
    }

    async fn answer(&self, session: &mut Session, head: &RequestHead) {
        let mut record = Record::without_head(session.peer().map(|peer| peer.address), Reason::Accepted);
        record.method = head.method.clone();
        record.path = head.path_bytes();
        record.trace = Parent::of(head.headers());
        if self.in_flight.is_draining() {
            session.close();
        }
        let mut around = Share::new(&self.budget);
        let mut ended = self.handle(session, head, &mut record, &mut around).await;
        Self::conclude(session, &mut record, &mut ended, &around).await;
        self.telemetry.finish(&record);
    }

    async fn refuse_unread(&self, session: &mut Session, unread: &mut Unread) {
        let reason = unread.reason;
        let peer = session.peer().map(|peer| peer.address);
        let mut record = Record::without_head(peer, reason);
        record.method = unread.method.take().unwrap_or_default();
        record.path = std::mem::take(&mut unread.path);
        respond::refuse(session, reason.into(), reason.said(), record.request_id, None).await;
        self.telemetry.finish(&record);
    }
}

#[async_trait]
impl ServerApp for Sidecar {
    async fn process_new(self: &Arc<Self>, stream: Stream, _: &ShutdownWatch) -> Option<Stream> {
        let mut session = Session::new(stream);
        while self.serve(&mut session).await {}
        None
    }
}

/// What a head takes beyond what every connection takes: its bytes, and a place for each line.
fn head_room(head: &RequestHead) -> usize {
    if head.size() > SHORT_HEAD { head.size().next_power_of_two() + head.size() } else { 0 }
}

/// How long the disk may take to confirm an event.
const STORING: Duration = Duration::from_secs(5);

/// One call of the application. It settles its claim before anybody is told.
struct Delivery {
    upstream: Arc<Upstream>,
    head: Vec<u8>,
    body: Body,
    claim: Option<Claim>,
    lane: Option<Arc<Lane>>,
    limit: Duration,
    arrived: Now,
    _in_flight: Guard,
}

impl Delivery {
    async fn run(mut self: Box<Self>) -> Result<Reply, Undelivered> {
        let Delivery { upstream, head, body: Body { bytes, share }, lane, limit, .. } = &mut *self;
        let mut result = called(upstream, lane.as_deref(), head, bytes, *limit, share).await;
        if let Some(claim) = self.claim {
            claim.settle(outcome(&result), clock::after(self.arrived)).await;
        }
        if let Ok(reply) = &mut result {
            reply.share = Some(self.body.share);
        }
        result
    }
}

/// Only a 2xx of the application is a delivery. It is one even if the rest of the answer
/// cannot be passed on: an application that always answers wrongly would otherwise get the
/// event again at each retry.
fn outcome(result: &Result<Reply, Undelivered>) -> Outcome {
    match result {
        Ok(reply) => match reply.status {
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
            Undelivered::Unreachable(_) => Reason::UpstreamUnreachable,
            Undelivered::Waited(_) => Reason::Overloaded,
            Undelivered::Unsigned => Reason::StoreUnavailable,
            Undelivered::Broken | Undelivered::Lost(_) | Undelivered::Cut { .. } => Reason::UpstreamFailed,
            Undelivered::TimedOut => Reason::UpstreamTimeout,
        }
    }

    fn reject(&self) -> Reject {
        match self {
            Undelivered::Waited(Busy { retry_after }) => Reject::retry_after(self.reason(), *retry_after),
            _ => self.reason().into(),
        }
    }

    /// What an operator needs to find the cause, if that is with the application.
    fn fault(&self, url: &UpstreamUrl) -> Option<Fault> {
        let (server, error) = match self {
            Undelivered::Waited(_) | Undelivered::Unsigned => return None,
            Undelivered::Unreachable(Some((address, error))) => (address.clone(), Some(error)),
            Undelivered::Lost(error) => (url.address(), Some(error)),
            _ => (url.address(), None),
        };
        let kind = match self {
            Undelivered::Unreachable(None) | Undelivered::Waited(_) | Undelivered::Unsigned => {
                "connection_closed".to_owned()
            }
            Undelivered::Broken => "answer_broken".to_owned(),
            Undelivered::Cut { .. } => "answer_cut".to_owned(),
            Undelivered::TimedOut => "timed_out".to_owned(),
            Undelivered::Unreachable(Some((_, error))) | Undelivered::Lost(error) => {
                error.kind().to_string().replace(' ', "_")
            }
        };
        Some(Fault { server, kind, message: error.map(ToString::to_string) })
    }

    /// What became of the call, if there was one.
    fn outcome(&self) -> Option<UpstreamOutcome> {
        match self {
            Undelivered::Waited(_) | Undelivered::Unsigned => None,
            Undelivered::Unreachable(_) => Some(UpstreamOutcome::ConnectError),
            Undelivered::Broken | Undelivered::Lost(_) => Some(UpstreamOutcome::Broken),
            Undelivered::TimedOut => Some(UpstreamOutcome::Timeout),
            Undelivered::Cut { status } => Some(UpstreamOutcome::of_status(*status)),
        }
    }
}
