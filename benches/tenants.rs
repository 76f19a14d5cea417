//! A hundred thousand tenants: when the gate is ready for them, what one takes in memory, what it costs to
//! look one up, and whether the time taken tells which tenants there are.
//!
//! `cargo bench --bench tenants`; `HOOKGATE_TIMING_SAMPLES` sets how many samples it takes. It fails if one of the
//! bounds is passed. On a busy machine a time is worth a second look.

#![allow(clippy::unwrap_used)]

mod dudect;
#[allow(dead_code, reason = "a part of it")]
#[path = "../tests/support/rng.rs"]
mod rng;

use std::alloc::System;
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
use rng::{Rng, given};

#[global_allocator]
static ALLOCATED: Cap<System> = Cap::new(System, usize::MAX);

const TENANTS: usize = 100_000;
const SAMPLES: usize = 1_000_000;
/// So many tenants that there are, and as many that there are not.
const NAMES: usize = 256;
const NOW: Now = Now::at(1_700_000_000, 1);
/// The bounds.
const READY: Duration = Duration::from_secs(1);
const BYTES: usize = 200;
const HIT_NS: f64 = 1000.0;
/// Where things lie in memory makes some nanoseconds, which this finds and no network shows. Work that is done for
/// one kind only would be a hundred or more.
const APART_NS: f64 = 30.0;

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
    let mut failed = Vec::new();

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
    failed.extend((ready > READY).then_some("ready"));

    runtime.block_on(tenants.look_up(&route, Some(&name(0))));
    let (before, started) = (ALLOCATED.allocated(), Instant::now());
    for n in 0..TENANTS {
        let keys = runtime.block_on(tenants.look_up(&route, Some(&name(n))));
        assert!(matches!(keys, Keys::Found(_)));
    }
    let bytes = (ALLOCATED.allocated() - before) / TENANTS;
    let each = started.elapsed() / u32::try_from(TENANTS).unwrap();
    println!("a remembered tenant takes {bytes} bytes; its first look-up takes {:.1} µs", micros(each));
    failed.extend((bytes > BYTES).then_some("bytes"));

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
    failed.extend((found - own > HIT_NS).then_some("hit"));

    // A wrong signature for tenants that there are, and for some that there are not, of each kind several that
    // were looked up one after another: who asks again and again for one name finds it near, whatever it is.
    let known = |n: usize| name(TENANTS / 2 + n);
    let unknown = |n: usize| name(TENANTS + n);
    for n in 0..NAMES {
        runtime.block_on(tenants.look_up(&route, Some(&unknown(n))));
    }
    let forged = Delivery::signed(&fixed, 8);
    let mut rng = Rng::new(0x7e4a);
    for (what, is_known) in [("known against known", true), ("known against unknown", false)] {
        let make = |kind: usize, rng: &mut Rng| {
            let n = rng.below(NAMES);
            format!("/t/{}", if kind == 0 || is_known { known(n) } else { unknown(n) })
        };
        let samples = Samples::take(samples, &mut rng, make, |path| {
            let head = route.named(forged.head(path));
            let admitted = admitted(&route, &head);
            let keys = at_once(tenants.look_up(&route, head.tenant));
            let verified = route.verify(&admitted, &head, &forged.body, &keys, NOW);
            let newer = at_once(tenants.newer(&route, head.tenant.unwrap()));
            black_box((verified.is_mismatch(), newer.is_some()));
        });
        let (t, [a, b]) = (samples.t(), samples.means());
        println!("{what}: t = {t:+.2} ({a:.0} ns, {b:.0} ns)");
        failed.extend((t.abs() > LIMIT && (a - b).abs() > APART_NS).then_some(what));
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("beyond the bounds: {}", failed.join(", "));
    ExitCode::FAILURE
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
