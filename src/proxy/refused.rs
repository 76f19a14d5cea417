//! Requests that are refused, and one that was: [`Sidecar::shelve`] hands it over to the shelf, and
//! [`Sidecar::reconsider`] and [`Sidecar::deliver_refused`] judge it anew when an operator asks.
//!
//! What an attacker has of it. Whatever is kept was refused when it came, and its time is judged as of then: an
//! event that was captured long ago and sent again was stale, and stays so. What verifies now verifies by a key
//! that the operator has put there, so who takes a key away because it leaked must not put it back to have
//! requests delivered: forgeries of that time verify as well. A copy may have been accepted meanwhile; the replay
//! memory tells, as far as it reaches. Beyond that an operator has to say that a second delivery does no harm.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use super::attempt::label;
use super::body::Body;
use super::courier::{received_at, with_lines};
use super::forward::Forward;
use super::framing::{BodyFraming, RequestHead};
use super::live::{Endpoint, Live};
use super::resign::resigned;
use super::session::{Piece, Session};
use super::spill::Kept as Ended;
use super::{Delivery, Sidecar};
use crate::budget::Share;
use crate::clock::{self, Doubt, Now};
use crate::gate::chain::Findings;
use crate::gate::delivery::{Client, Head};
use crate::gate::filter::freshness::Fresh;
use crate::gate::filter::replay::ReplayKey;
use crate::gate::filter::signature::Authentic;
use crate::gate::identity::Identity;
use crate::gate::keys::Keys;
use crate::gate::reason::{Reason, Reject};
use crate::gate::route::{Mode, Route};
use crate::gate::withhold::without_blanks;
use crate::inbox::When;
use crate::inbox::shelf::{Facts, Held, Kept, Refused, Shelf};
use crate::store::Reservation;
use crate::telemetry::Record;
use crate::telemetry::metrics::LateDelivery;

/// What a request that was refused comes to now.
pub struct Judged {
    pub reason: Reason,
    /// Its proof, if it is genuine.
    pub authentic: Option<Authentic>,
}

/// What became of one that an operator wants delivered.
pub enum Delivered {
    /// The application has it.
    Accepted,
    /// The inbox has it.
    Stored,
    /// It was delivered before, or is in the inbox.
    Before,
    /// It is still refused.
    Refused(Reason),
    /// It verifies, and what came of it, in words as well.
    Failed(Reason, String),
    /// Why it was not delivered.
    Not(String),
}

impl Sidecar {
    /// Has a request kept that was refused by its head: with its body, if that is there already. Nobody waits
    /// for the rest of it.
    #[cold]
    pub(super) fn shelve_unread(
        &self,
        reject: Reject,
        session: &mut Session,
        route: &Route,
        head: &Head<'_>,
        record: &Record,
    ) -> Reject {
        if self.shelf.is_none() || !Shelf::takes(reject.reason) {
            return reject;
        }
        let most = route.max_body;
        let declared = head.content_length.unwrap_or(0);
        let waits = session.waits() || usize::try_from(declared).map_or(true, |declared| declared > most);
        let body = if waits { None } else { what_is_there(session, most) };
        self.put(reject.reason, route, head, body.as_ref(), record);
        reject
    }

    /// Has a request kept that was refused by what it is.
    #[cold]
    pub(super) fn shelve(
        &self,
        reject: Reject,
        route: &Route,
        head: &Head<'_>,
        body: &Body,
        record: &Record,
    ) -> Reject {
        self.put(reject.reason, route, head, Some(&body.bytes), record);
        reject
    }

    fn put(&self, reason: Reason, route: &Route, request: &Head<'_>, body: Option<&Bytes>, record: &Record) {
        let Some(keeper) = self.shelf.as_ref().filter(|_| Shelf::takes(reason) && route.mode != Mode::Pass)
        else {
            return;
        };
        let metrics = &self.telemetry.metrics;
        let length = body.map_or(0, Bytes::len);
        if let Err(why) = keeper.has_room(request.client, length, record.arrived) {
            return metrics.not_kept(&route.name, why);
        }
        let withheld = route.withheld(request, length);
        let held = match body {
            _ if withheld.of_proof => Held::Withheld,
            None => Held::Head,
            Some(_) => Held::Whole,
        };
        let body = body.filter(|_| !withheld.in_body).map_or(&[][..], |body| body);
        let refused = Refused {
            id: record.request_id.as_key(),
            route: Arc::clone(&route.name),
            reason,
            facts: Facts {
                received_ms: record.arrived.wall_ms,
                is_time_certain: record.arrived.doubt == Doubt::None,
                peer: record.peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
                client: match request.client {
                    Client::Known(address) => Some(address),
                    Client::Unknown => None,
                },
                secure: request.secure,
                tenant: request.tenant.map(str::to_owned),
                held,
            },
            head: withheld.head,
            // Of the buffer that it was read into nothing stays.
            body: Bytes::copy_from_slice(body),
        };
        if let Err(why) = keeper.keep(refused) {
            metrics.not_kept(&route.name, why);
        }
    }

    /// What a request that was refused would come to now; in words why that cannot be said.
    pub async fn reconsider(&self, kept: &Kept) -> Result<Judged, String> {
        let head = read_again(kept)?;
        let live = self.live.load_full();
        Ok(match self.judged_again(&live, &head, kept).await? {
            Ok((_, _, fresh)) => Judged { reason: Reason::Accepted, authentic: Some(fresh.into_authentic()) },
            Err(reason) => Judged { reason, authentic: None },
        })
    }

    async fn judged_again<'l>(
        &self,
        live: &'l Live,
        head: &RequestHead,
        kept: &Kept,
    ) -> Result<Result<(&'l Endpoint, Keys, Fresh), Reason>, String> {
        let endpoint = match live.endpoint(head.path()) {
            Ok(endpoint) => endpoint,
            Err(reason) => return Ok(Err(reason)),
        };
        let Endpoint { route, keys: source, .. } = endpoint;
        if route.mode == Mode::Pass {
            return Err(format!("route {} passes on what comes: there is nothing to verify", route.name));
        }
        let named = route.named_in(&kept.body);
        let head = facts(head, kept, route, named.as_deref());
        let received = Now { wall_ms: kept.facts.received_ms, mono: Duration::ZERO, doubt: Doubt::None };
        let mut keys = match source {
            Some(source) => source.look_up(route, &head, &kept.body).await,
            None => Keys::OfRoute,
        };
        let mut judged = route.rejudge(&head, &kept.body, &keys, (received, clock::now()));
        if matches!(judged, Err(Reason::SignatureMismatch))
            && let Some(source) = source
            && let Some(newer) = source.newer(route, &head).await
        {
            keys = newer;
            judged = route.rejudge(&head, &kept.body, &keys, (received, clock::now()));
        }
        let fresh = match judged {
            Ok(fresh) => fresh,
            Err(reason) => return Ok(Err(reason)),
        };
        if !kept.facts.is_time_certain && fresh.authentic().signed_at().is_some() {
            return Err(
                "the clock of the gate could not be believed when it came: nobody can say whether it was \
                        fresh"
                    .to_owned(),
            );
        }
        if !matches!(route.answer_signed(Some(&fresh), &head, &kept.body, &keys), Ok(None)) {
            return Ok(Err(Reason::Handshake));
        }
        if route.choose(Some(&fresh), &mut Findings::new(Mode::Enforce)).is_err() {
            return Ok(Err(Reason::Filtered));
        }
        Ok(Ok((endpoint, keys, fresh)))
    }

    /// Delivers a request that was refused, if it verifies now, as any other event. Within the reach of the replay
    /// memory it is delivered once; beyond it only if that `may_be_twice`.
    pub async fn deliver_refused(&self, kept: &Kept, may_be_twice: bool) -> (Delivered, Option<Authentic>) {
        let head = match read_again(kept) {
            Ok(head) => head,
            Err(why) => return (Delivered::Not(why), None),
        };
        let live = self.live.load_full();
        let (endpoint, keys, fresh) = match self.judged_again(&live, &head, kept).await {
            Ok(Ok(judged)) => judged,
            Ok(Err(reason)) => return (Delivered::Refused(reason), None),
            Err(why) => return (Delivered::Not(why), None),
        };
        let authentic = fresh.authentic().clone();
        let delivered = self.deliver_again(endpoint, &live, (&head, kept), (keys, fresh), may_be_twice).await;
        let outcome = match &delivered {
            Delivered::Accepted => Some(LateDelivery::Accepted),
            Delivered::Stored => Some(LateDelivery::Stored),
            Delivered::Failed(..) | Delivered::Not(_) => Some(LateDelivery::Failed),
            Delivered::Before | Delivered::Refused(_) => None,
        };
        if let Some(outcome) = outcome {
            self.telemetry.metrics.delivered_late(&endpoint.route.name, outcome);
        }
        (delivered, Some(authentic))
    }

    async fn deliver_again(
        &self,
        endpoint: &Endpoint,
        live: &Live,
        (head, kept): (&RequestHead, &Kept),
        (keys, fresh): (Keys, Fresh),
        may_be_twice: bool,
    ) -> Delivered {
        let now = clock::now();
        if self.in_flight.is_draining() {
            return Delivered::Not("the gate is shutting down".to_owned());
        }
        if !may_be_twice && !self.is_within_reach(fresh.authentic(), kept.facts.received_ms, now.wall_ms) {
            return Delivered::Not(
                "it came longer ago than events are remembered (replay.window): nobody can say whether a copy of it \
                 was delivered; if a second delivery does no harm, say --may-be-twice"
                    .to_owned(),
            );
        }
        let claim = match self.store.reserve(&fresh, now).await {
            Ok(Reservation::Lead(claim)) => claim,
            Ok(Reservation::Done) => return Delivered::Before,
            Ok(Reservation::Follow(_)) => {
                let told = "a copy of it is being delivered: ask again".to_owned();
                return Delivered::Failed(Reason::InFlight, told);
            }
            Err(_) => {
                let told = "the replay store does not answer: try again".to_owned();
                return Delivered::Failed(Reason::StoreUnavailable, told);
            }
        };
        let route = &endpoint.route;
        let record = Record::without_head(Some(kept.facts.peer), Reason::Accepted);
        let named = route.named_in(&kept.body);
        let facts = facts(head, kept, route, named.as_deref());
        let forward = Forward {
            head: &facts,
            peer: kept.facts.peer,
            trusted: live.trusted_proxies.trusts(kept.facts.peer),
            list_believed: live.trusted_proxies.believes_list(kept.facts.peer),
            route,
            upstream: self.upstream.url(),
            authentic: Some(fresh.authentic()),
            observed: None,
            id: record.request_id,
            trace: None,
            exported: false,
            body_len: kept.body.len(),
        };
        let forwarded = with_lines(&forward.to_bytes(), &received_at(kept.facts.received_ms));
        let delivery = Box::new(Delivery {
            upstream: Arc::clone(&self.upstream),
            head: resigned(route, &keys, forwarded, &kept.body, now),
            body: Body { bytes: kept.body.clone(), share: Share::new(&self.budget) },
            claim: Some(claim),
            lane: endpoint.lane.clone(),
            limit: self.timeouts.call,
            arrived: now,
            _in_flight: self.in_flight.enter(),
        });
        // In a task of its own, which outlives whoever asked.
        let ended = match &self.inbox {
            Some(inbox) if endpoint.policy.on != When::Never => {
                let spill = self.spill(inbox, endpoint, fresh.into_authentic(), None, &record);
                let (tell, told) = oneshot::channel();
                tokio::spawn(spill.run(delivery, tell));
                told.await.ok()
            }
            _ => tokio::spawn(Box::pin(delivery.run())).await.ok().map(Ended::Answered),
        };
        match ended {
            Some(Ended::Answered(Ok(reply))) if (200..300).contains(&reply.status) => Delivered::Accepted,
            Some(Ended::Answered(result)) => {
                let told =
                    format!("the application did not take it ({}): it stays on the shelf", label(&result));
                let reason = result.err().map_or(Reason::UpstreamStatus, |undelivered| undelivered.reason());
                Delivered::Failed(reason, told)
            }
            Some(Ended::Stored(..)) => Delivered::Stored,
            Some(Ended::Refused(reject)) => {
                Delivered::Failed(reject.reason, "it cannot be taken now: it stays on the shelf".to_owned())
            }
            None => Delivered::Not("the delivery broke off: it stays on the shelf".to_owned()),
        }
    }

    /// Whether the replay memory would know of a copy that was accepted at any time.
    fn is_within_reach(&self, authentic: &Authentic, received_ms: i64, now_ms: i64) -> bool {
        if authentic.identity().is_none() {
            return true; // the route remembers nothing, and says so
        }
        // No copy was fresh before it was signed.
        let signed = authentic.signed_at().and_then(|time| Some(time.ms? - time.future_tolerance_ms));
        let earliest = signed.map_or(received_ms, |signed| signed.min(received_ms));
        let remembered = clock::millis(authentic.keep().span(self.replay_window));
        now_ms < earliest.saturating_add(remembered)
    }
}

/// The event's key, by which the application knows it.
pub fn key_of(authentic: &Authentic) -> Option<ReplayKey> {
    authentic.identity().map(Identity::told)
}

/// The whole body, if all of it has come.
fn what_is_there(session: &mut Session, most: usize) -> Option<Bytes> {
    let mut body = BytesMut::new();
    loop {
        match session.piece() {
            Ok(Piece::Came(piece)) if body.len() + piece.len() <= most => body.extend_from_slice(&piece),
            Ok(Piece::End) => return Some(body.freeze()),
            Ok(Piece::Came(_) | Piece::Wait) | Err(_) => return None,
        }
    }
}

/// The head as it came, without what was blanked in it.
fn read_again(kept: &Kept) -> Result<RequestHead, String> {
    match kept.facts.held {
        Held::Whole => {}
        Held::Head => {
            return Err("its body had not come when it was refused: only its head was kept".to_owned());
        }
        Held::Withheld => {
            return Err(
                "what judges it is a secret that it shows, which is not written down: it cannot be verified"
                    .to_owned(),
            );
        }
    }
    let mut head = BytesMut::from(&*without_blanks(&kept.head));
    match RequestHead::take(&mut head) {
        Ok(Some(head)) => Ok(head),
        Ok(None) | Err(_) => Err("what was kept of it is no request".to_owned()),
    }
}

fn facts<'r>(head: &'r RequestHead, kept: &Kept, route: &Route, named: Option<&'r str>) -> Head<'r> {
    debug_assert!(matches!(head.body, BodyFraming::Length(_)));
    let client = kept.facts.client.map_or(Client::Unknown, Client::Known);
    let head = route.named(head.facts(client, kept.facts.secure));
    Head { tenant: named.or(head.tenant), ..head }
}
