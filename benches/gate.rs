//! What each step of the gate costs, without network: `cargo bench`.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::pin::pin;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use data_encoding::BASE64URL_NOPAD;
use hookgate::clock::Now;
use hookgate::clock::to_rfc3339;
use hookgate::config::flags::{Given, RunArgs};
use hookgate::config::provider;
use hookgate::config::route::words::{RateLimit, RouteWords};
use hookgate::config::scheme::compile_on;
use hookgate::config::secret::Secret;
use hookgate::config::{Config, units};
use hookgate::gate::chain::{Admission, Findings};
use hookgate::gate::delivery::{Client, Head, Headers};
use hookgate::gate::fetched::Need;
use hookgate::gate::fetched::document::Document;
use hookgate::gate::fetched::parameters::Parameters;
use hookgate::gate::filter::body_limit::Admitted;
use hookgate::gate::filter::freshness::Fresh;
use hookgate::gate::filter::signature::{Scheme, Signature};
use hookgate::gate::keys::{KeyRing, Keys};
use hookgate::gate::reason::{Reason, Reject, Verdict};
use hookgate::gate::route::{Mode, Route};
use hookgate::gate::scheme::Assurance;
use hookgate::gate::scheme::algorithm::Algorithm;
use hookgate::gate::scheme::sign::Unsigned;
use hookgate::store::{Memory, Outcome, ReplayStore, Reservation};
use hookgate::telemetry::activity::Recent;
use hookgate::telemetry::metrics::Metrics;
use hookgate::telemetry::{Proof, Record};
use http::{HeaderMap, HeaderValue, Method};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};

/// Read as base64 by one scheme of the preset and as it stands by the other.
const SECRET: &[u8] = b"whsec_YSBzZWNyZXQgb2YgdGhpcnR5LXR3byBieXRlcyE=";
/// The schemes of the preset, in its order.
const SCHEMES: [&str; 2] = ["standard-webhooks", "body-hex"];
const NOW: Now = Now::at(1_700_000_000, 1);

/// The preset's route, with every check on and limits that nobody reaches.
fn config() -> Config {
    const VALID: &str = "a valid value";
    const RATE: &str = "1000000000/1m";
    let network = |text: &str| text.parse::<units::Senders>().expect(VALID).into();
    let args = RunArgs {
        route: RouteWords {
            allow_ips: Some(["127.0.0.0/8", "192.0.2.0/24"].map(network).into()),
            rate_limit: Some(RATE.parse::<RateLimit>().expect(VALID).into()),
            failure_limit: Some(RATE.parse::<units::Rate>().expect(VALID).into()),
            max_body: Some(units::ByteSize(4 << 20).into()),
            ..RouteWords::default()
        },
        ..RunArgs::default()
    };
    let secret = Some(Secret::from_bytes(SECRET.to_vec()).0);
    Config::load(&Given { secret, ..Given::flags(args) }).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A request as the gate sees it.
struct Delivery {
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Delivery {
    /// Signed under one scheme of the route, with a body of that size.
    fn signed(route: &Route, scheme: usize, id: &str, size: usize) -> Self {
        Delivery::with(route, scheme, id, size, "")
    }

    /// The same with more members.
    fn with(route: &Route, scheme: usize, id: &str, size: usize, members: &str) -> Self {
        let scheme = &route.signature.schemes()[scheme];
        let time = to_rfc3339(NOW.wall_ms);
        let event = format!(r#"{{"id":"{id}","type":"user.created","created":"{time}",{members}"data":""#);
        let filling = "x".repeat(size.saturating_sub(event.len() + 2));
        let body = format!("{event}{filling}\"}}").into_bytes();
        let unsigned = Unsigned { id, time_ms: NOW.wall_ms, body: &body };
        let key = scheme.recipe().signer(SECRET).expect("a secret that fits");
        let headers = scheme.recipe().sign(&key, unsigned).expect("a plain id").headers;
        Delivery { headers, body }
    }

    /// Everything is right but the body.
    fn forged(mut self) -> Self {
        let last = self.body.len() - 3;
        self.body[last] = b'y';
        self
    }

    fn head(&self) -> Head<'_> {
        Head {
            method: &Method::POST,
            path: b"/webhooks",
            query: None,
            headers: Headers::Made(&self.headers),
            client: Client::Known([127, 0, 0, 1].into()),
            counted_as: Client::Known([127, 0, 0, 1].into()),
            tenant: None,
            secure: true,
            content_length: Some(self.body.len() as u64),
        }
    }

    fn admit(&self, route: &Route) -> Result<Admitted, Reject> {
        match route.admit(&self.head(), NOW, &mut Findings::new(Mode::Enforce))? {
            Admission::Read(admitted) => Ok(admitted),
            Admission::Answer(_) => unreachable!("no handshake is measured"),
        }
    }

    /// All that the gate does before it asks the replay memory.
    fn judge(&self, route: &Route) -> Result<Option<Fresh>, Reject> {
        let mut findings = Findings::new(Mode::Enforce);
        let admitted = self.admit(route)?;
        let authentic =
            route.authenticate(&admitted, &self.head(), &self.body, &Keys::OfRoute, NOW, &mut findings)?;
        route.freshen(authentic, NOW, &mut findings)
    }
}

fn admit(c: &mut Criterion) {
    let route = &config().routes[0].route;
    let mut delivery = Delivery::signed(route, 1, "evt_1", 1024);
    for (name, value) in
        [("host", "app.example"), ("user-agent", "sender"), ("content-type", "application/json")]
    {
        delivery.headers.insert(name, HeaderValue::from_static(value));
    }
    c.bench_function("admit", |b| b.iter(|| delivery.admit(route)));
}

fn authenticate(c: &mut Criterion) {
    let route = &config().routes[0].route;
    let mut group = c.benchmark_group("authenticate");
    for (scheme, name) in SCHEMES.iter().enumerate() {
        for size in [256, 1024, 64 * 1024, 1024 * 1024] {
            let delivery = Delivery::signed(route, scheme, "evt_1", size);
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new(*name, size), |b| {
                b.iter_batched(
                    || delivery.admit(route).expect("a genuine delivery"),
                    |admitted| {
                        let mut findings = Findings::new(Mode::Enforce);
                        route.authenticate(
                            &admitted,
                            &delivery.head(),
                            &delivery.body,
                            &Keys::OfRoute,
                            NOW,
                            &mut findings,
                        )
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
}

/// A flood of forgeries must cost less than the traffic it imitates.
fn judge(c: &mut Criterion) {
    let route = &config().routes[0].route;
    let mut group = c.benchmark_group("judge");
    for (name, delivery) in [
        ("genuine", Delivery::signed(route, 1, "evt_1", 1024)),
        ("forged", Delivery::signed(route, 1, "evt_1", 1024).forged()),
    ] {
        let refused = delivery.judge(route).err().map(|reject| reject.reason);
        assert_eq!(refused, (name == "forged").then_some(Reason::SignatureMismatch));
        group.bench_function(name, |b| b.iter(|| delivery.judge(route)));
    }
}

/// What it costs to choose among events, by the number of conditions: each reads a value of its own.
fn choose(c: &mut Criterion) {
    let folder = std::env::temp_dir().join(format!("hookgate-bench-events-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("secret"), SECRET).expect("a file");
    let mut group = c.benchmark_group("judge with conditions");
    for count in [0, 1, 16] {
        let when: Vec<_> = (0..count).map(|n| format!("{{ 'json:/a{n}': ['no*', 'yes-*-{n}'] }}")).collect();
        let events = format!("events: {{ when: [{}] }}", when.join(", "));
        let events = if count > 0 { events.as_str() } else { "" };
        let secrets = format!("secrets: [{{ file: {}/secret }}]", folder.display());
        let route = format!(
            "{{ name: a, path: /a, provider: scalekit, allow_ips: [127.0.0.0/8], rate_limit: off, {secrets}, {events} }}"
        );
        let config = folder.join("hookgate.yaml");
        std::fs::write(&config, format!("insecure_allow_http: true\nroutes: [{route}]\n")).expect("a file");
        let args = RunArgs { config: Some(config.into()), ..RunArgs::default() };
        let config = Config::load(&Given::flags(args)).unwrap_or_else(|problems| panic!("{problems}"));
        let route = &config.routes[0].route;
        let members = (0..16).map(|n| format!(r#""a{n}":"yes-and-{n}","#)).collect::<Vec<_>>().concat();
        let delivery = Delivery::with(route, 1, "evt_1", 1024, &members);
        assert!(
            delivery.judge(route).is_ok_and(|fresh| fresh.is_some_and(|fresh| fresh.authentic().is_taken()))
        );
        group.bench_function(BenchmarkId::from_parameter(count), |b| b.iter(|| delivery.judge(route)));
    }
    _ = std::fs::remove_dir_all(&folder);
}

/// What a signature with a published key costs, beside the library's bare verification of the same: a delivery that
/// Saleor has signed (RS256, 2048 bits), whose key set is at hand.
fn published(c: &mut Criterion) {
    #[derive(serde::Deserialize)]
    struct Vector {
        id: String,
        headers: BTreeMap<String, String>,
        body: Option<String>,
        keys: BTreeMap<String, String>,
    }
    #[derive(serde::Deserialize)]
    struct Set {
        keys: Vec<BTreeMap<String, serde_json::Value>>,
    }
    let all: Vec<Vector> =
        serde_json::from_str(include_str!("../tests/gate/fetched.json")).expect("the vectors");
    let signed = all.into_iter().find(|vector| vector.id == "saleor-webhook").expect("one of them");
    let headers = signed.headers.iter().map(|(name, value)| {
        (name.parse::<http::HeaderName>().expect("a name"), value.parse::<HeaderValue>().expect("a value"))
    });
    let delivery = Delivery { headers: headers.collect(), body: signed.body.expect("text").into_bytes() };

    let mut parameters = Parameters::default();
    parameters.set("api_url", vec![signed.headers["Saleor-Api-Url"].clone()]);
    let schemes = provider::preset("saleor").expect("a preset").schemes;
    let recipe = compile_on(&schemes[0], None, None, &parameters).unwrap_or_else(|e| panic!("{}", e.message));
    let form = recipe.keys.as_ref().expect("published keys").form.clone();
    let signature = Signature::new(vec![Scheme::new(recipe, Vec::new())]);
    let text = signed.keys.values().next().expect("a key set");
    let document = Document::read(text.as_bytes(), &form).expect("a key set");
    let verify = || {
        let head = delivery.head();
        let presented = signature.presented(&head)?;
        let mut ring = KeyRing { schemes: vec![Vec::new()], ..KeyRing::default() };
        for (n, need) in signature.needs(&presented, &head, &delivery.body) {
            let Need::Documents(wanted) = need else { continue };
            for wanted in wanted {
                ring.schemes[n].extend(wanted.choose(&document, Algorithm::RsaSha256, NOW.wall_ms));
            }
        }
        let keys = Keys::Found(Arc::new(ring));
        signature.verify_by(&keys, &presented, "route", &head, &delivery.body, |_| true)
    };
    assert!(verify().is_ok());

    let set: Set = serde_json::from_str(text).expect("a key set");
    let member = |name: &str| BASE64URL_NOPAD.decode(set.keys[0][name].as_str().expect("text").as_bytes());
    let (n, e) = (member("n").expect("base64"), member("e").expect("base64"));
    let (head, tag) = signed.headers["Saleor-Signature"].split_once("..").expect("a detached signature");
    let tag = BASE64URL_NOPAD.decode(tag.as_bytes()).expect("base64");
    let message = [head.as_bytes(), b".", &delivery.body].concat();
    let key = RsaPublicKeyComponents { n, e };
    let bare = || key.verify(&RSA_PKCS1_2048_8192_SHA256, black_box(&message), black_box(&tag));
    assert!(bare().is_ok());

    let mut group = c.benchmark_group("RS256");
    group.bench_function("bare", |b| b.iter(bare));
    group.bench_function("gate", |b| b.iter(verify));
}

/// Events that go through the replay memory again and again. Each time a day has passed,
/// so that they are forgotten and lead anew.
fn store(c: &mut Criterion) {
    const EVENTS: usize = 65_536;
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let config = config();
    let route = &config.routes[0].route;
    let events: Vec<Fresh> = (0..EVENTS)
        .map(|n| {
            let delivery = Delivery::signed(route, 0, &format!("evt_{n}"), 128);
            delivery.judge(route).expect("a genuine delivery").expect("an enforcing route")
        })
        .collect();
    let startup = &config.startup;
    let memory =
        || ReplayStore::Memory(Memory::new(startup.replay, startup.stale_after, startup.replay_capacity));
    let deliver = |store: &ReplayStore, events: &[Fresh], times: u64| {
        let mut now = NOW;
        for (n, event) in (0..times).zip(events.iter().cycle()) {
            if n % events.len() as u64 == 0 {
                now.mono += DAY;
            }
            match at_once(store.reserve(black_box(event), now)) {
                Ok(Reservation::Lead(claim)) => at_once(claim.settle(Outcome::Delivered, now)),
                Ok(Reservation::Follow(_) | Reservation::Done) | Err(_) => panic!("every event leads"),
            }
        }
    };

    let mut group = c.benchmark_group("reserve and settle");
    for threads in [1, 2] {
        group.throughput(Throughput::Elements(threads));
        group.bench_function(BenchmarkId::new("threads", threads), |b| {
            b.iter_custom(|times| {
                let store = memory();
                let start = Barrier::new(usize::try_from(threads).unwrap_or_default());
                std::thread::scope(|scope| {
                    let running: Vec<_> = events
                        .chunks(EVENTS / 2)
                        .zip(0..threads)
                        .map(|(share, _)| {
                            scope.spawn(|| {
                                start.wait();
                                let started = Instant::now();
                                deliver(&store, share, times);
                                started.elapsed()
                            })
                        })
                        .collect();
                    running.into_iter().map(|thread| thread.join().expect("no panic")).max()
                })
                .unwrap_or_default()
            });
        });
    }
}

/// The embedded store never waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("this waits for nothing"),
    }
}

/// What a delivery adds to the memory for people, alone and beside another.
fn remember(c: &mut Criterion) {
    const ROUND: u64 = 1000;
    let route = Arc::new(config().routes.remove(0).route);
    let metrics = Metrics::new().route(&route);
    let record = Record {
        route: Some((Arc::clone(&route), Arc::clone(&metrics))),
        proof: Some(Proof {
            key: None,
            key_id: "2026-11".into(),
            assurance: Assurance::Verified,
            event_id: Some("evt_32315241358".into()),
            event_type: Some("user.created".into()),
            event_time_ms: Some(NOW.wall_ms),
        }),
        ..Record::without_head(None, Reason::Accepted)
    };
    let recent = Recent::default();
    let add = |times: u64| {
        let started = Instant::now();
        for _ in 0..times {
            metrics.activity.add(&record, Verdict::Accepted, Reason::Accepted, NOW);
            recent.add(&record, Verdict::Accepted, Reason::Accepted, Duration::ZERO);
        }
        started.elapsed()
    };
    let mut group = c.benchmark_group("remember");
    group.throughput(Throughput::Elements(ROUND));
    for threads in [1, 2] {
        group.bench_function(BenchmarkId::new("threads", threads), |b| {
            b.iter_custom(|times| {
                std::thread::scope(|scope| {
                    let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| add(times * ROUND))).collect();
                    running.into_iter().map(|thread| thread.join().expect("no panic")).max()
                })
                .unwrap_or_default()
            });
        });
    }
}

criterion_group! {
    name = gate;
    // Short by default; `cargo bench -- --measurement-time 10` takes longer and knows more.
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = admit, authenticate, judge, choose, published, store, remember
}
criterion_main!(gate);
