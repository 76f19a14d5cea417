//! What every row of the catalogue needs: a gate with one route for each way of signing,
//! the application behind it, providers who know the secrets, and one assertion that looks
//! at everything an attack could have touched.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use data_encoding::{BASE64, HEXLOWER};
use hookgate::gate::scheme::algorithm::Algorithm;

use crate::support::gate::{Metrics, same};
use crate::support::sender::{now_ms, unique};
use crate::support::{
    Answer, App, Builder, Gate, Headers, Received, Request, Response, Sender, Signer, lock, until,
};

/// The secrets of the routes. `S0` is what `S1` replaces.
pub const S1: &str = "whsec_dGhlIGtleSB0aGF0IGlzIHZhbGlkIG5vdywgMzIgYnl0ZXM=";
pub const S0: &str = "whsec_dGhlIGtleSB0aGF0IHdhcyB2YWxpZCBiZWZvcmUgaXQuLi4=";
pub const GITHUB: &str = "the secret that GitHub signs with";
pub const STRIPE: &str = "whsec_the_secret_that_Stripe_signs_with";
pub const SLACK: &str = "the secret that Slack signs with";
pub const SHOPIFY: &str = "the secret that Shopify signs with";

/// `twin` shares its secret with `gh`, as careless people do; `public` is a prefix.
pub const ROUTES: &str = "
routes:
  - { name: std, path: /hooks/std, provider: standard-webhooks,
      secrets: [{ id: S1, file: DIR/s1 }, { id: S0, file: DIR/s0 }] }
  - { name: gh, path: /hooks/gh, provider: github, max_body: 1MiB, secrets: [{ file: DIR/github }] }
  - { name: twin, path: /hooks/twin, provider: github, max_body: 1MiB, secrets: [{ file: DIR/github }] }
  - { name: st, path: /hooks/st, provider: stripe, secrets: [{ file: DIR/stripe }] }
  - { name: sl, path: /hooks/sl, provider: slack, secrets: [{ file: DIR/slack }] }
  - { name: shop, path: /hooks/shop, provider: shopify, identity: signed, secrets: [{ file: DIR/shopify }] }
  - { name: public, path: /public/*, provider: github, max_body: 1MiB, secrets: [{ file: DIR/github }] }
";

/// Where a provider sends to, and how it signs.
pub struct Hook {
    path: &'static str,
    signer: Signer,
}

impl Hook {
    pub fn new(preset: &str, path: &'static str, secret: &str) -> Self {
        Hook { path, signer: Signer::new(preset, 0, secret) }
    }

    /// An event that nobody has sent before.
    pub fn event(&self) -> Request {
        self.aged(0)
    }

    /// The same, signed so many seconds ago.
    pub fn aged(&self, seconds: i64) -> Request {
        let id = unique("evt");
        // Stripe and Shopify call it `id`, Slack `event_id`.
        let body = format!(r#"{{"id":"{id}","event_id":"{id}","n":1}}"#);
        self.sign_at(now_ms() - seconds * 1000, &id, body.as_bytes())
    }

    /// An event with this body. What is not in the body is new.
    pub fn sign(&self, body: impl AsRef<[u8]>) -> Request {
        self.sign_at(now_ms(), &unique("evt"), body.as_ref())
    }

    pub fn sign_at(&self, time_ms: i64, id: &str, body: &[u8]) -> Request {
        self.signer.sign_at(time_ms, id, body).to(self.path)
    }

    /// The name of the header that holds the signature.
    pub fn header(&self) -> &str {
        self.signer.header()
    }

    /// An event whose signature header is rewritten.
    pub fn resigned(&self, event: &Request, change: impl FnOnce(&str) -> String) -> Request {
        let signature = change(event.headers.get(self.header()).unwrap());
        set(event, self.header(), &signature)
    }
}

pub fn standard() -> Hook {
    Hook::new("standard-webhooks", "/hooks/std", S1)
}

pub fn github() -> Hook {
    Hook::new("github", "/hooks/gh", GITHUB)
}

pub fn stripe() -> Hook {
    Hook::new("stripe", "/hooks/st", STRIPE)
}

pub fn slack() -> Hook {
    Hook::new("slack", "/hooks/sl", SLACK)
}

pub fn shopify() -> Hook {
    Hook::new("shopify", "/hooks/shop", SHOPIFY)
}

/// The routes that sign a time.
pub fn timed() -> [Hook; 3] {
    [standard(), stripe(), slack()]
}

/// The request with this header, and no other of its name.
pub fn set(request: &Request, name: &str, value: &str) -> Request {
    request.clone().without(name).with(name, value)
}

pub fn hmac(algorithm: Algorithm, key: &[u8], content: &[u8]) -> Vec<u8> {
    let mut mac = algorithm.keyed(key).unwrap();
    mac.update(content);
    mac.finish().as_bytes().to_vec()
}

pub fn hex_tag(key: &str, content: &[u8]) -> String {
    HEXLOWER.encode(&hmac(Algorithm::HmacSha256, key.as_bytes(), content))
}

/// A POST with nothing but these headers and this body.
pub fn bare(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Request {
    let none = Request { target: path.to_owned(), headers: Headers::default(), body: body.to_vec() };
    headers.iter().fold(none, |request, (name, value)| request.with(name, value))
}

/// Signed for `/hooks/std` over an id and a time that are whatever they are.
pub fn standard_signed(id: &str, time: &str, body: &[u8]) -> Request {
    let key = BASE64.decode(S1.trim_start_matches("whsec_").as_bytes()).unwrap();
    let content = [id.as_bytes(), b".", time.as_bytes(), b".", body].concat();
    let tag = BASE64.encode(&hmac(Algorithm::HmacSha256, &key, &content));
    let headers =
        [("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", &format!("v1,{tag}"))];
    bare("/hooks/std", &headers, body)
}

/// Signed for `/hooks/st` over a time that is whatever it is.
pub fn stripe_signed(time: &str, body: &[u8]) -> Request {
    let tag = hex_tag(STRIPE, &[time.as_bytes(), b".", body].concat());
    bare("/hooks/st", &[("Stripe-Signature", &format!("t={time},v1={tag}"))], body)
}

/// Signed for `/hooks/sl` over a time that is whatever it is.
pub fn slack_signed(time: &str, body: &[u8]) -> Request {
    let tag = hex_tag(SLACK, &[b"v0:", time.as_bytes(), b":", body].concat());
    let headers = [("X-Slack-Request-Timestamp", time), ("X-Slack-Signature", &format!("v0={tag}"))];
    bare("/hooks/sl", &headers, body)
}

/// All that an attack may change, as the catalogue and the contract have it.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    pub status: u16,
    pub text: &'static str,
    pub reason: &'static str,
    /// How many requests the application sees.
    pub forwarded: usize,
    /// Whether the connection serves another request.
    pub kept: bool,
}

impl Verdict {
    const fn refused(status: u16, text: &'static str, reason: &'static str) -> Self {
        Verdict { status, text, reason, forwarded: 0, kept: true }
    }

    pub const fn closing(self) -> Self {
        Verdict { kept: false, ..self }
    }

    /// The application answers with this status.
    pub const fn answered(status: u16) -> Self {
        Verdict {
            status,
            reason: if status / 100 == 2 { "accepted" } else { "upstream_status" },
            ..DELIVERED
        }
    }
}

pub const DELIVERED: Verdict = Verdict { forwarded: 1, ..Verdict::refused(200, "app", "accepted") };
pub const DUPLICATE: Verdict = Verdict::refused(200, "Already processed", "duplicate");
pub const MISSING: Verdict = Verdict::refused(401, "Unauthorized", "signature_missing");
pub const MALFORMED: Verdict = Verdict::refused(401, "Unauthorized", "signature_malformed");
pub const MISMATCH: Verdict = Verdict::refused(401, "Unauthorized", "signature_mismatch");
pub const STALE: Verdict = Verdict::refused(400, "Event too old", "timestamp_stale");
pub const FUTURE: Verdict = Verdict::refused(400, "Event too old", "timestamp_future");
pub const AMBIGUOUS: Verdict = Verdict::refused(400, "Bad request", "body_malformed");
pub const FRAMING: Verdict = Verdict::refused(400, "Bad request", "framing_invalid").closing();
pub const NOT_FOUND: Verdict = Verdict::refused(404, "Not found", "route_unmatched");
pub const NOT_ALLOWED: Verdict = Verdict::refused(405, "Method not allowed", "method_not_allowed");
pub const DENIED: Verdict = Verdict::refused(403, "Forbidden", "address_denied");
pub const INSECURE: Verdict = Verdict::refused(403, "Forbidden", "https_required");
pub const BODY_TIMEOUT: Verdict = Verdict::refused(408, "Request timeout", "body_timeout").closing();
pub const TOO_LARGE: Verdict = Verdict::refused(413, "Payload too large", "body_too_large").closing();
pub const LIMITED: Verdict = Verdict::refused(429, "Too many webhook requests", "rate_limited");
pub const HEAD_TOO_LARGE: Verdict =
    Verdict::refused(431, "Request header fields too large", "headers_too_large");
pub const OVERLOADED: Verdict = Verdict::refused(503, "Try again", "overloaded");
pub const IN_FLIGHT: Verdict = Verdict::refused(503, "Try again", "in_flight");
pub const STORE_FULL: Verdict = Verdict::refused(503, "Try again", "store_unavailable");
pub const UNREACHABLE: Verdict = Verdict::refused(503, "Processing failed", "upstream_unreachable");
pub const FAILED: Verdict =
    Verdict { forwarded: 1, ..Verdict::refused(502, "Processing failed", "upstream_failed") };
pub const TIMED_OUT: Verdict =
    Verdict { forwarded: 1, ..Verdict::refused(504, "Processing failed", "upstream_timeout") };

/// A gate and its application.
pub struct Fixture {
    pub gate: Gate,
    pub app: App,
    plan: Arc<Mutex<VecDeque<Answer>>>,
}

impl Fixture {
    /// With the routes of the catalogue.
    pub fn new() -> Self {
        Fixture::with(|builder| builder)
    }

    /// The same, with something changed.
    pub fn with(change: impl FnOnce(Builder) -> Builder) -> Self {
        Fixture::configured(ROUTES, change)
    }

    pub fn configured(routes: &str, change: impl FnOnce(Builder) -> Builder) -> Self {
        let plan = Arc::<Mutex<VecDeque<Answer>>>::default();
        let planned = Arc::clone(&plan);
        let app = App::new(move |_, _| lock(&planned).pop_front().unwrap_or_else(Answer::ok));
        let gate = change(builder(&app.url(), routes)).start();
        Fixture { gate, app, plan }
    }

    /// What the application answers to the next requests; after them it says 200.
    pub fn plan<const N: usize>(&self, answers: [Answer; N]) {
        lock(&self.plan).extend(answers);
    }

    /// Waits until that many requests and deliveries are under way. What has ended is counted.
    pub fn wait_for_in_flight(&self, count: u32) {
        self.gate.wait_for_metric("hookgate_requests_in_flight", count.into());
    }

    /// Sends a request and does not wait for its answer.
    pub fn begin(&self, request: &Request) -> Sender {
        let mut sender = self.gate.connect();
        sender.send(request.bytes());
        sender
    }

    /// Sends these bytes on a connection of their own and judges what came of it.
    pub fn expect(&self, what: &str, bytes: impl AsRef<[u8]>, verdict: Verdict) -> Response {
        self.expect_on(&mut self.gate.connect(), what, bytes, verdict)
    }

    /// The same on a connection from one of the loopback network's other addresses.
    pub fn expect_from(&self, peer: &str, what: &str, bytes: impl AsRef<[u8]>, verdict: Verdict) -> Response {
        self.expect_on(&mut Sender::connect_from(peer, self.gate.address()), what, bytes, verdict)
    }

    /// Sends the last bytes of a request, and judges what came of it.
    pub fn expect_on(
        &self,
        sender: &mut Sender,
        what: &str,
        bytes: impl AsRef<[u8]>,
        verdict: Verdict,
    ) -> Response {
        let before = self.look();
        sender.send(bytes);
        self.judge(sender, what, &before, verdict)
    }

    /// Sends these bytes and the end, so that what follows cannot complete them.
    pub fn expect_cut(&self, what: &str, bytes: impl AsRef<[u8]>, verdict: Verdict) {
        let before = self.look();
        let mut sender = self.gate.connect();
        sender.send(bytes);
        sender.half_close();
        self.judge(&mut sender, what, &before, verdict);
    }

    /// What an attack could change, before it.
    pub fn look(&self) -> Before {
        Before { metrics: self.gate.metrics(), seen: self.app.seen(), fragments: self.app.fragments() }
    }

    /// Asserts the answer, what the application saw, the counter, and the fate of the connection.
    pub fn judge(&self, sender: &mut Sender, what: &str, before: &Before, verdict: Verdict) -> Response {
        let answer = sender.try_response().unwrap_or_else(|e| panic!("{what}: {e} instead of an answer"));
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (verdict.status, verdict.text),
            "{what}, which is {}",
            self.gate.reason(&answer)
        );
        assert_eq!(self.app.seen() - before.seen, verdict.forwarded, "{what}: what the application saw");
        assert_eq!(self.app.fragments(), before.fragments, "{what}: the application saw half a request");
        if matches!(verdict.status, 429 | 503) && verdict.forwarded == 0 {
            let after = answer.header("Retry-After").unwrap_or_else(|| panic!("{what}: no Retry-After"));
            assert!(after.parse::<u64>().unwrap() >= 1, "{what}: {after}");
        }
        let counted = self.counted(what, &before.metrics, verdict.reason, 1.0);
        self.judge_connection(sender, what, &counted, verdict.kept);
        answer
    }

    /// Exactly so many requests were counted since, all for that reason. Gives what is counted now.
    fn counted(&self, what: &str, before: &Metrics, reason: &str, count: f64) -> Metrics {
        let all = |metrics: &Metrics| metrics.sum("hookgate_requests_total", &[]);
        let mut now = self.gate.metrics();
        until(&format!("{what} to be counted"), || {
            now = self.gate.metrics();
            all(&now) - all(before) >= count
        });
        let rose = (all(&now) - all(before), now.requests(reason) - before.requests(reason));
        assert!(same(rose.0, count) && same(rose.1, count), "{what}: {rose:?} counted for {reason}");
        now
    }

    /// Whether a second request on the connection is answered. It goes nowhere, and what
    /// follows an attack must in no case be taken for a request if the connection ends.
    fn judge_connection(&self, sender: &mut Sender, what: &str, before: &Metrics, kept: bool) {
        sender.send(b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        if kept {
            let second = sender.try_response().unwrap_or_else(|e| panic!("{what}: {e}, and not kept"));
            assert_eq!(second.status, 404, "{what}: the connection is out of step");
            self.counted(what, before, NOT_FOUND.reason, 1.0);
        } else {
            sender.half_close();
            let rest = sender.rest();
            assert!(rest.is_empty(), "{what}: not closed: {}", String::from_utf8_lossy(&rest));
        }
    }

    /// The request is delivered, as it was signed.
    pub fn delivers(&self, what: &str, request: &Request) -> Received {
        self.expect(what, request.bytes(), DELIVERED);
        let seen = self.app.requests().pop().unwrap();
        assert_eq!(seen.line, format!("POST {} HTTP/1.1", request.target), "{what}");
        assert!(seen.body == request.body, "{what}: the bytes differ");
        assert_eq!(seen.headers.all("Content-Length"), [request.body.len().to_string()], "{what}");
        seen
    }

    /// An attack on an event is refused, and it leaves no trace: the genuine delivery that
    /// follows is the first.
    pub fn refuses(&self, what: &str, genuine: &Request, attack: impl AsRef<[u8]>, verdict: Verdict) {
        self.expect(what, attack, verdict);
        self.delivers(&format!("genuine after {what}"), genuine);
    }

    /// The event has been delivered.
    pub fn remembers(&self, what: &str, event: &Request) {
        self.expect(&format!("again after {what}"), event.bytes(), DUPLICATE);
    }
}

/// See [`Fixture::look`].
pub struct Before {
    pub metrics: Metrics,
    pub seen: usize,
    fragments: Vec<u8>,
}

/// A gate that is yet to start, with its secrets in files.
pub fn builder(upstream: &str, routes: &str) -> Builder {
    let builder = Builder::new(upstream).with("failure-limit", "off");
    for (name, secret) in [
        ("s1", S1),
        ("s0", S0),
        ("github", GITHUB),
        ("stripe", STRIPE),
        ("slack", SLACK),
        ("shopify", SHOPIFY),
    ] {
        builder.dir().write(name, secret);
    }
    builder.config(routes)
}

/// A fixture that the tests of a module take turns with. It lives as long as one of them
/// wants it, because nobody would end a process that a static variable owns.
pub struct Shared {
    start: fn() -> Fixture,
    fixture: Mutex<Weak<Fixture>>,
    turn: Mutex<()>,
}

/// A test's turn.
pub struct Turn {
    _turn: MutexGuard<'static, ()>,
    fixture: Arc<Fixture>,
}

impl Shared {
    pub const fn new(start: fn() -> Fixture) -> Self {
        Shared { start, fixture: Mutex::new(Weak::new()), turn: Mutex::new(()) }
    }

    pub fn enter(&'static self) -> Turn {
        let fixture = {
            let mut shared = lock(&self.fixture);
            shared.upgrade().unwrap_or_else(|| {
                let fixture = Arc::new((self.start)());
                *shared = Arc::downgrade(&fixture);
                fixture
            })
        };
        let turn = lock(&self.turn);
        // What another test has left behind is not this one's.
        lock(&fixture.plan).clear();
        fixture.wait_for_in_flight(0);
        Turn { _turn: turn, fixture }
    }
}

impl Deref for Turn {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.fixture
    }
}
