//! A hundred thousand tenants: when the gate is ready for them, what one takes in memory, what it costs to
//! look one up, and whether the time taken tells which tenants there are; the last also as somebody outside sees
//! it, and what a flood of names does to the others.
//!
//! `cargo bench --bench tenants`; `HOOKGATE_TIMING_SAMPLES` sets how many samples it takes. It fails if one of the
//! bounds is passed. On a busy machine a time is worth a second look.

#![allow(clippy::unwrap_used)]

mod dudect;
mod outside;
#[allow(dead_code, reason = "a part of it")]
#[path = "../tests/support/rng.rs"]
mod rng;

use std::alloc::System;
use std::cell::{Cell, RefCell};
use std::fs;
use std::hint::black_box;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use cap::Cap;
use dudect::{LIMIT, Samples};
use hookgate::clock::Now;
use hookgate::config::Config;
use hookgate::config::flags::{Given, RunArgs};
use hookgate::config::route::{Elsewhere, KeyedRoute};
use hookgate::gate::chain::{Admission, Findings};
use hookgate::gate::delivery::{Client, Head, Headers};
use hookgate::gate::filter::body_limit::Admitted;
use hookgate::gate::keys::Keys;
use hookgate::gate::route::{Mode, Route};
use hookgate::gate::scheme::sign::Unsigned;
use hookgate::keys::tenants::Tenants;
use hookgate::store::{Memory, ReplayStore};
use hookgate::telemetry::metrics::Metrics;
use http::{HeaderMap, Method};
use outside::{Flood, Gate, beside_floods, request};
use rng::{Rng, given};

#[global_allocator]
static ALLOCATED: Cap<System> = Cap::new(System, usize::MAX);

const TENANTS: usize = 100_000;
const SAMPLES: usize = 1_000_000;
/// Names whose times are compared, of each kind: two lots of tenants, and names that are nobody's. Each lies
/// somewhere else in memory, which makes more of a difference than any kind does; so there are many.
const NAMES: usize = 5000;
const KINDS: [&str; 3] = ["some tenants", "other tenants", "nobody"];
/// Names that nobody asked for before, of each kind.
const NEW_NAMES: usize = 30_000;
const NOW: Now = Now::at(1_700_000_000, 1);
/// The bounds.
const READY: Duration = Duration::from_secs(1);
const BYTES: usize = 200;
const HIT_NS: f64 = 1000.0;
/// So often each flood is on.
const FLOODS: usize = 20;
/// Who sends wrong signatures from outside at the same time.
const SENDERS: usize = 8;

/// A folder of tenants, gone with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("hookgate-bench-tenants-{}", std::process::id()));
        fs::create_dir_all(path.join("tenants")).unwrap();
        for n in 0..TENANTS {
            fs::write(path.join("tenants").join(name(n)), secret(n)).unwrap();
        }
        fs::write(path.join("fixed"), secret(7)).unwrap();
        let (at, line) = (path.display(), "provider: stripe, rate_limit: off, failure_limit: off");
        let config = format!(
            "insecure_allow_http: true\nroutes:\n  - {{ name: fixed, path: /fixed, {line}, secrets: [{{ file: {at}/fixed }}] }}\n  \
             - {{ name: tenants, path: '/t/{{tenant}}', {line}, secrets: {{ dir: {at}/tenants, cache: 24h, negative: 24h, max: {} }} }}\n",
            2 * TENANTS // parts are filled by chance
        );
        fs::write(path.join("hookgate.yaml"), config).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn name(n: usize) -> String {
    format!("acct_{n:011}")
}

/// As Stripe's are: 38 characters.
fn secret(n: usize) -> String {
    format!("whsec_{n:032}")
}

fn main() -> ExitCode {
    let samples = given("HOOKGATE_TIMING_SAMPLES").map_or(SAMPLES, |n| usize::try_from(n).unwrap());
    let folder = Folder::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut failed = Vec::<String>::new();

    let started = Instant::now();
    let args = RunArgs { config: Some(folder.0.join("hookgate.yaml").into()), ..RunArgs::default() };
    let mut config = Config::load(&Given::flags(args)).unwrap_or_else(|problems| panic!("{problems}"));
    let KeyedRoute { route, elsewhere, .. } = config.routes.remove(1);
    let fixed = config.routes.remove(0).route;
    let Some(Elsewhere::Tenants(from)) = elsewhere else { panic!("the second route has tenants") };
    let memory = Memory::new(config.startup.replay, config.startup.stale_after, 1);
    let counters = Metrics::new().tenants(&route.name);
    let tenants = Arc::new(Tenants::new(&route, from, ReplayStore::Memory(memory), counters));
    let ready = started.elapsed();
    println!("ready for {TENANTS} tenants after {:.1} ms", ready.as_secs_f64() * 1e3);
    failed.extend((ready > READY).then_some("ready".to_owned()));

    runtime.block_on(tenants.look_up(&route, Some(&name(0))));
    let remembered = TENANTS - 2 * NAMES;
    let (before, started) = (ALLOCATED.allocated(), Instant::now());
    for n in 0..remembered {
        let keys = runtime.block_on(tenants.look_up(&route, Some(&name(n))));
        assert!(matches!(keys, Keys::Found(_)));
    }
    let bytes = (ALLOCATED.allocated() - before) / remembered;
    let each = started.elapsed() / u32::try_from(remembered).unwrap();
    println!("a remembered tenant takes {bytes} bytes; its first look-up takes {:.1} µs", micros(each));
    failed.extend((bytes > BYTES).then_some("bytes".to_owned()));

    // A hit against a key that the route holds.
    let genuine = Delivery::signed(&fixed, 7);
    let judge = |route: &Route, path: &str, known: bool| {
        let head = genuine.head(path);
        let head = route.named(head);
        let admitted = admitted(route, &head);
        let started = Instant::now();
        let keys = if known { at_once(tenants.look_up(route, head.tenant)) } else { Keys::OfRoute };
        let verified = route.verify(&admitted, &head, &genuine.body, &keys, NOW);
        let took = started.elapsed();
        assert!(matches!(
            route.believe(verified, &head, NOW, &mut Findings::new(Mode::Enforce)),
            Ok(Some(_))
        ));
        took
    };
    let path = format!("/t/{}", name(7));
    let (mut own, mut found) = (Vec::new(), Vec::new());
    for _ in 0..100_000 {
        own.push(judge(&fixed, "/fixed", false).as_secs_f64() * 1e9);
        found.push(judge(&route, &path, true).as_secs_f64() * 1e9);
    }
    let (own, found) = (median(own), median(found));
    println!(
        "verified with a fixed key in {own:.0} ns, with a remembered tenant's in {found:.0} ns: {:+.0} ns",
        found - own
    );
    failed.extend((found - own > HIT_NS).then_some("hit".to_owned()));

    // A wrong signature for names of each kind. They are looked up for the first time here, in an order that
    // chance decides, so that where they lie in memory tells nothing of their kind.
    let mut rng = Rng::new(0x7e4a);
    for n in shuffled(KINDS.len() * NAMES, &mut rng) {
        runtime.block_on(tenants.look_up(&route, Some(&name(remembered + n))));
    }
    let forged = Delivery::signed(&fixed, 8);
    for other in [1, 2] {
        let what = format!("{} against {}", KINDS[0], KINDS[other]);
        let make = |kind: usize, rng: &mut Rng| {
            let lot = [0, other][kind];
            format!("/t/{}", name(remembered + lot * NAMES + rng.below(NAMES)))
        };
        let samples = Samples::take(samples, &mut rng, make, |path| {
            let head = route.named(forged.head(path));
            let admitted = admitted(&route, &head);
            let keys = at_once(tenants.look_up(&route, head.tenant));
            let verified = route.verify(&admitted, &head, &forged.body, &keys, NOW);
            let newer = at_once(tenants.newer(&route, head.tenant.unwrap()));
            black_box((verified.is_mismatch(), newer.is_some()));
        });
        failed.extend(told(&format!("within the gate, {what}"), &samples).then_some(what));
    }
    drop(tenants);
    outside(&folder, &route, samples, &mut rng, &mut failed);

    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("beyond the bounds: {}", failed.join(", "));
    ExitCode::FAILURE
}

/// The same as somebody outside sees it, and what a flood does to the tenants that there are.
fn outside(folder: &Folder, route: &Route, samples: usize, rng: &mut Rng, failed: &mut Vec<String>) {
    let dir = folder.0.join("tenants");
    let line = |name: &str, limit: &str| {
        format!(
            "  - {{ name: {name}, path: '/{name}/{{tenant}}', provider: stripe, rate_limit: off, failure_limit: {limit}, \
             secrets: {{ dir: {}, cache: 24h, negative: 24h, max: {} }} }}\n",
            dir.display(),
            2 * TENANTS
        )
    };
    let routes = line("t", "off") + &line("limited", "100/1m");
    let gate = Gate::start(&folder.0, &routes);
    let mut sender = gate.connect();
    let remembered = TENANTS - 2 * NAMES;
    for n in shuffled(KINDS.len() * NAMES, rng) {
        // Tenants are those that have sent something before.
        let known = remembered + n < TENANTS;
        let by = secret(if known { remembered + n } else { 0 });
        let sent = request(route, &format!("/t/{}", name(remembered + n)), &by, &format!("evt_first_{n}"));
        assert_eq!(sender.send(&sent), if known { 200 } else { 401 });
    }
    let forged = |n: usize| request(route, &format!("/t/{}", name(n)), &secret(TENANTS), "evt_1");
    for other in [1, 2] {
        let what = format!("{} against {}", KINDS[0], KINDS[other]);
        let make =
            |kind: usize, rng: &mut Rng| forged(remembered + [0, other][kind] * NAMES + rng.below(NAMES));
        let seen = by_senders(&gate, samples / 4, rng, make);
        failed.extend(told(&format!("from outside, {what}"), &seen).then_some(format!("outside: {what}")));
    }
    // Each name is asked for once.
    let sender = RefCell::new(gate.connect());
    let refused = |sent: &Vec<u8>| assert_eq!(sender.borrow_mut().send(sent), 401);
    for (other, at) in [(1, 0), (2, TENANTS + NAMES)] {
        let what = format!("new names: {} against {}", KINDS[0], KINDS[other]);
        let next =
            Cell::new([if other == 1 { 0 } else { NEW_NAMES }, if other == 1 { 2 * NEW_NAMES } else { at }]);
        let make = |kind: usize, _: &mut Rng| {
            let mut numbers = next.get();
            let n = numbers[kind];
            numbers[kind] += 1;
            next.set(numbers);
            forged(n)
        };
        let seen = Samples::take(NEW_NAMES, rng, make, refused);
        failed.extend(told(&format!("from outside, {what}"), &seen).then_some(format!("outside: {what}")));
    }

    let before = gate.resident();
    let good = |n: u64| {
        request(route, &format!("/t/{}", name(TENANTS - 1)), &secret(TENANTS - 1), &format!("evt_{n}"))
    };
    let floods: [(&str, Flood<'_>); 3] = [
        ("wrong signatures for one tenant", &|_| forged(TENANTS - 2)),
        ("invented names", &|n| request(route, &format!("/t/flood{n}"), &secret(0), "evt_1")),
        ("invented names, over the failure limit", &|n| {
            request(route, &format!("/limited/flood{n}"), &secret(0), "evt_1")
        }),
    ];
    let (times, sent) = beside_floods(&gate, FLOODS, good, &floods.map(|(_, flood)| flood));
    let [p50, quiet] = times[0];
    println!("good deliveries: p50 {p50:.0} µs, p99 {quiet:.0} µs with nothing beside them");
    for ((what, _), ([p50, p99], sent)) in floods.iter().zip(times[1..].iter().zip(sent)) {
        println!("  beside {sent} {what}: p50 {p50:.0} µs, p99 {p99:.0} µs");
    }
    println!("memory of the gate: {before} MiB before the floods, {} MiB after them", gate.resident());
}

/// Samples of several senders at once: each of them waits most of the time.
fn by_senders(
    gate: &Gate,
    samples: usize,
    rng: &mut Rng,
    make: impl Fn(usize, &mut Rng) -> Vec<u8> + Sync,
) -> Samples {
    let seeds = [(); SENDERS].map(|()| rng.next());
    std::thread::scope(|scope| {
        let taken = seeds.map(|seed| {
            let make = &make;
            scope.spawn(move || {
                let sender = RefCell::new(gate.connect());
                let refused = |sent: &Vec<u8>| assert_eq!(sender.borrow_mut().send(sent), 401);
                Samples::take(samples / SENDERS, &mut Rng::new(seed), make, refused)
            })
        });
        let taken = taken.map(|samples| samples.join().expect("no panic"));
        Samples([0, 1].map(|kind| taken.iter().flat_map(|samples| &samples.0[kind]).copied().collect()))
    })
}

/// Tells what was found; whether it is beyond the bound.
fn told(what: &str, samples: &Samples) -> bool {
    let (t, [a, b]) = (samples.t(), samples.means());
    println!("{what}: t = {t:+.2} ({a:.0} ns, {b:.0} ns)");
    t.abs() > LIMIT
}

fn shuffled(count: usize, rng: &mut Rng) -> Vec<usize> {
    let mut numbers: Vec<_> = (0..count).collect();
    for n in (1..count).rev() {
        numbers.swap(n, rng.below(n + 1));
    }
    numbers
}

struct Delivery {
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Delivery {
    fn signed(route: &Route, by: usize) -> Self {
        let body =
            format!(r#"{{"id":"evt_1","type":"invoice.paid","data":"{}"}}"#, "x".repeat(900)).into_bytes();
        let recipe = route.signature.schemes()[0].recipe();
        let key = recipe.signer(secret(by).as_bytes()).unwrap();
        let unsigned = Unsigned { id: "evt_1", time_ms: NOW.wall_ms, body: &body };
        Delivery { headers: recipe.sign(&key, unsigned).unwrap().headers, body }
    }

    fn head<'d>(&'d self, path: &'d str) -> Head<'d> {
        let client = Client::Known([127, 0, 0, 1].into());
        Head {
            method: &Method::POST,
            path: path.as_bytes(),
            query: None,
            headers: Headers::Made(&self.headers),
            client,
            counted_as: client,
            tenant: None,
            secure: true,
            content_length: Some(self.body.len() as u64),
        }
    }
}

fn admitted(route: &Route, head: &Head<'_>) -> Admitted {
    match route.admit(head, NOW, &mut Findings::new(Mode::Enforce)) {
        Ok(Admission::Read(admitted)) => admitted,
        Ok(Admission::Answer(_)) | Err(_) => panic!("a delivery with a signature"),
    }
}

/// What is remembered waits for nothing.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("this waits for nothing"),
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
