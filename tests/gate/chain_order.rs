//! The order of the checks. One delivery violates everything; the check that comes first in
//! the contract refuses it. Repair that, and the next one does, down to the application.

use std::time::Duration;

use hookgate::clock::Now;
use hookgate::gate::chain::{Admission, Findings};
use hookgate::gate::delivery::Client;
use hookgate::gate::filter::https::Https;
use hookgate::gate::filter::ip_allowlist::IpAllowlist;
use hookgate::gate::filter::rate_limit::{Quota, RateLimit};
use hookgate::gate::filter::replay::ReplayPolicy;
use hookgate::gate::handshake::Handshakes;
use hookgate::gate::keys::Keys;
use hookgate::gate::reason::{Answers, Reason, Reject};
use hookgate::gate::rotation::Rotation;
use hookgate::gate::route::{Deliver, Mode, Route, of_path};
use hookgate::store::{Memory, Outcome, ReplayStore, Reservation};
use http::{HeaderMap, HeaderValue, Method};

use crate::pure::{Delivery, NOW, Provider, at_once};

/// The reason that it leads to, in words, and how it is committed.
type Fault = (Reason, &'static str, fn(&mut Attempt));

/// What can be wrong with a delivery, outermost check first.
const FAULTS: &[Fault] = &[
    (Reason::RouteUnmatched, "no route has its path", |a| a.path = "/elsewhere"),
    (Reason::MethodNotAllowed, "it is no POST", |a| a.method = Method::GET),
    (Reason::HttpsRequired, "it came in the clear", |a| a.secure = false),
    (Reason::AddressDenied, "a stranger sent it", |a| a.client = "203.0.113.1"),
    (Reason::RateLimited, "its sender has just sent another", |a| a.hurried = true),
    (Reason::SignatureMissing, "it has no signature", |a| a.proof = Proof::Missing),
    (Reason::SignatureMalformed, "its signature is no tag", |a| a.proof = Proof::Malformed),
    (Reason::BodyTooLarge, "it declares a byte too many", |a| a.declared = Some(MAX_BODY as u64 + 1)),
    (Reason::SignatureMismatch, "its signature is of another body", |a| a.proof = Proof::Forged),
    (Reason::BodyMalformed, "its body has two ids", |a| a.ids = &["seen", "seen"]),
    (Reason::TimestampMissing, "its body has no time", |a| a.time = None),
    (Reason::TimestampStale, "it is a second too old", |a| a.time = Some(NOW - TOLERANCE - 1)),
    (Reason::TimestampFuture, "it is a second too early", |a| a.time = Some(NOW + TOLERANCE + 1)),
    (Reason::Duplicate, "its event was delivered before", |a| a.ids = &["seen"]),
];

const MAX_BODY: usize = 100;
const TOLERANCE: i64 = 300;

#[test]
fn a_delivery_without_fault_is_accepted() {
    for mode in [Mode::Enforce, Mode::Observe] {
        assert_eq!(judge(mode, &Attempt::FAULTLESS), (Ok(()), vec![]), "{mode:?}");
    }
}

#[test]
fn what_just_keeps_a_limit_is_accepted() {
    let faultless = Attempt::FAULTLESS;
    for (that, attempt) in [
        ("it declares the longest body", Attempt { declared: Some(MAX_BODY as u64), ..faultless.clone() }),
        ("it is as old as it may be", Attempt { time: Some(NOW - TOLERANCE), ..faultless.clone() }),
        ("it is as early as it may be", Attempt { time: Some(NOW + TOLERANCE), ..faultless }),
    ] {
        assert_eq!(judge(Mode::Enforce, &attempt).0, Ok(()), "{that}");
    }
}

#[test]
fn each_fault_alone_is_found() {
    for fault @ (reason, that, _) in FAULTS {
        let (judged, _) = judge(Mode::Enforce, &Attempt::with(&[*fault]));
        assert_eq!(judged, Err(*reason), "all that is wrong is that {that}");
    }
}

#[test]
fn the_outermost_fault_decides() {
    for (n, (reason, that, _)) in FAULTS.iter().enumerate() {
        let (judged, noted) = judge(Mode::Enforce, &Attempt::with(&FAULTS[n..]));
        assert_eq!(judged, Err(*reason), "with all before it repaired, the first fault is that {that}");
        assert_eq!(noted, [], "an enforcing route refuses, it does not note");
    }
}

#[test]
fn an_observing_route_notes_in_the_same_order_and_refuses_nothing() {
    let observable: Vec<Fault> = FAULTS.iter().filter(|(reason, ..)| reason.observable()).copied().collect();
    let proof = observable.iter().position(|(reason, ..)| *reason == Reason::SignatureMissing).unwrap();
    let (before, proof) = observable.split_at(proof);
    for n in 0..proof.len() {
        // The later checks ask for the proof of the earlier, so only the first of these faults is found.
        let faults = [before, &proof[n..]].concat();
        let found: Vec<_> = faults[..=before.len()].iter().map(|(reason, ..)| *reason).collect();
        let that = proof[n].1;
        assert_eq!(judge(Mode::Observe, &Attempt::with(&faults)), (Ok(()), found), "among others, {that}");
    }
}

#[test]
fn what_protects_the_gate_itself_is_refused_even_when_observing() {
    for (n, (reason, that, _)) in FAULTS.iter().enumerate() {
        if !reason.observable() {
            let (judged, _) = judge(Mode::Observe, &Attempt::with(&FAULTS[n..]));
            assert_eq!(judged, Err(*reason), "no mode lifts a limit, and {that}");
        }
    }
    for reason in Reason::ALL {
        let noted = Findings::new(Mode::Observe).note::<(), _>(Err(reason));
        assert_eq!(noted.is_ok(), reason.observable(), "{reason}");
    }
}

#[test]
fn a_route_whose_keys_are_not_there_judges_who_sends_and_then_says_try_again() {
    for mode in [Mode::Enforce, Mode::Observe] {
        let mut gate = Gate::new(mode, &provider());
        let [route] = &mut gate.routes;
        route.signature = route.signature.clone().awaiting_keys();
        let judge = |attempt: &Attempt| {
            gate.judge(&attempt.delivery(&provider()), &mut Findings::new(mode)).map_err(|r| r.reason)
        };
        for proof in [Proof::Missing, Proof::Malformed, Proof::Forged, Proof::Genuine] {
            let client = ["192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"][proof as usize];
            let attempt = Attempt { client, proof, ..Attempt::FAULTLESS };
            assert_eq!(judge(&attempt), Err(Reason::Overloaded), "{mode:?}");
        }
        for (reason, that, commit) in FAULTS.iter().take_while(|(reason, ..)| !reason.is_signature()) {
            let mut attempt = Attempt { client: "192.0.2.7", ..Attempt::FAULTLESS };
            commit(&mut attempt);
            let noted = mode == Mode::Observe && reason.observable();
            let expected = if noted { Reason::Overloaded } else { *reason };
            if *reason != Reason::RateLimited {
                assert_eq!(judge(&attempt), Err(expected), "{mode:?}, {that}");
            }
        }
        assert!(gate.routes[0].freshness_window().is_some(), "the replay memory is made for what is to come");
    }
}

/// The facts of one delivery, before it is signed.
#[derive(Clone)]
struct Attempt {
    path: &'static str,
    method: Method,
    secure: bool,
    client: &'static str,
    hurried: bool,
    proof: Proof,
    declared: Option<u64>,
    ids: &'static [&'static str],
    time: Option<i64>,
}

#[derive(Clone, Copy)]
enum Proof {
    Missing,
    Malformed,
    Forged,
    Genuine,
}

impl Attempt {
    const FAULTLESS: Attempt = Attempt {
        path: "/hooks",
        method: Method::POST,
        secure: true,
        client: "192.0.2.2",
        hurried: false,
        proof: Proof::Genuine,
        declared: None,
        ids: &["new"],
        time: Some(NOW),
    };

    /// The innermost fault is committed first, so that an outer one of the same part hides it.
    fn with(faults: &[Fault]) -> Self {
        let mut attempt = Attempt::FAULTLESS;
        faults.iter().rev().for_each(|(.., commit)| commit(&mut attempt));
        attempt
    }

    fn client(&self) -> Client {
        Client::Known(self.client.parse().unwrap())
    }

    fn body(&self) -> String {
        let time = self.time.map(|time| format!(r#""time":{time}"#));
        let ids = self.ids.iter().map(|id| format!(r#""id":"{id}""#));
        let members: Vec<_> = time.into_iter().chain(ids).collect();
        format!("{{{}}}", members.join(","))
    }

    fn delivery(&self, provider: &Provider) -> Delivery {
        let body = self.body();
        let headers = match self.proof {
            Proof::Missing => HeaderMap::new(),
            Proof::Malformed => {
                [("x-signature".parse().unwrap(), HeaderValue::from_static("none"))].into_iter().collect()
            }
            Proof::Forged => provider.delivery("", b"another body").headers,
            Proof::Genuine => provider.delivery("", body.as_bytes()).headers,
        };
        Delivery {
            method: self.method.clone(),
            path: self.path.to_owned(),
            client: self.client(),
            secure: self.secure,
            content_length: self.declared,
            ..Delivery::new(headers, body.as_bytes())
        }
    }
}

fn provider() -> Provider {
    Provider::new(
        "{ algorithm: hmac-sha256, signature: { from: 'header:x-signature', encoding: hex },
           content: '{body}', id: 'json:/id',
           timestamp: { from: 'json:/time', unit: s, tolerance: 5m, future_tolerance: 5m } }",
    )
}

/// Judges a delivery as the proxy does, by a gate that has let one event through before.
fn judge(mode: Mode, attempt: &Attempt) -> (Result<(), Reason>, Vec<Reason>) {
    let provider = provider();
    let gate = Gate::new(mode, &provider);
    let earlier = Attempt { ids: &["seen"], client: "192.0.2.1", ..Attempt::FAULTLESS };
    gate.judge(&earlier.delivery(&provider), &mut Findings::new(mode)).unwrap();
    if attempt.hurried {
        gate.rate_limit.check(attempt.client(), Gate::NOW).unwrap();
    }
    let mut findings = Findings::new(mode);
    let judged = gate.judge(&attempt.delivery(&provider), &mut findings);
    (judged.map_err(|reject| reject.reason), findings.into_noted())
}

struct Gate {
    routes: [Route; 1],
    rate_limit: RateLimit,
    store: ReplayStore,
}

impl Gate {
    const NOW: Now = Now::at(NOW, 0);

    fn new(mode: Mode, provider: &Provider) -> Self {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        let rate_limit = RateLimit::new(Quota::new(1, minutes(1)).unwrap());
        let route = Route {
            name: "hooks".into(),
            provider: "test".into(),
            path: "/hooks".parse().unwrap(),
            tenant: None,
            methods: vec![Method::POST],
            https: Https::Required,
            allowlist: IpAllowlist::networks(&["192.0.2.0/24".parse().unwrap()]),
            rate_limit: Some(rate_limit.clone()),
            failure_budget: None,
            max_body: MAX_BODY,
            signature: provider.signature.clone(),
            rotation: Rotation::default(),
            looks_keys_up: false,
            handshakes: Handshakes::default(),
            mode,
            expect_every: None,
            answers: Answers::default(),
            patience: None,
            never_repeated: false,
            stops: None,
            deliver: Deliver::default(),
            stores: false,
            resign: None,
            awaits: Vec::new(),
            headers: vec![],
        };
        let replay = ReplayPolicy::new(minutes(60), minutes(10), minutes(2), minutes(1)).unwrap();
        Gate {
            routes: [route],
            rate_limit,
            store: ReplayStore::Memory(Memory::new(replay, minutes(11), 100)),
        }
    }

    /// To the application, which says 200, or to the first objection.
    fn judge(&self, delivery: &Delivery, findings: &mut Findings) -> Result<(), Reject> {
        let head = delivery.head();
        let route = of_path(&self.routes, head.path)?;
        let Admission::Read(admitted) = route.admit(&head, Gate::NOW, findings)? else {
            panic!("the route answers no handshakes")
        };
        let authentic =
            route.authenticate(&admitted, &head, &delivery.body, &Keys::OfRoute, Gate::NOW, findings)?;
        let Some(fresh) = route.freshen(authentic, Gate::NOW, findings)? else { return Ok(()) };
        match at_once(self.store.reserve(&fresh, Gate::NOW)) {
            Ok(Reservation::Lead(claim)) => at_once(claim.settle(Outcome::Delivered, Gate::NOW)),
            Ok(Reservation::Done) => _ = findings.note::<(), _>(Err(Reason::Duplicate))?,
            Ok(Reservation::Follow(_)) | Err(_) => panic!("nothing else is under way, and there is room"),
        }
        Ok(())
    }
}
