//! What one tenant signed is never another one's: whatever somebody changes on the way, a delivery is accepted
//! under the name of the tenant that signed it, or not at all.

use std::fs::{create_dir_all, remove_dir_all, write};
use std::sync::Arc;

use hookgate::clock::Now;
use hookgate::config::Config;
use hookgate::config::flags::{Given, RunArgs};
use hookgate::config::route::Elsewhere;
use hookgate::gate::chain::{Admission, Findings};
use hookgate::gate::filter::signature::Authentic;
use hookgate::gate::keys::Keys;
use hookgate::gate::route::{Mode, Route};
use hookgate::gate::scheme::sign::Unsigned;
use hookgate::keys::tenants::Tenants;
use hookgate::store::{Memory, ReplayStore};
use hookgate::telemetry::metrics::Metrics;
use tokio::runtime::{Builder, Runtime};

use super::changes::changed;
use super::pure::{Delivery, NOW};
use super::rng::{Rng, given};
use super::senders::Sender;
use super::{CHANGED, REQUESTS, of_the_clock, shown};

/// Of several kinds: with a header, with several schemes, with the time in the signature, with tokens.
const PRESETS: [&str; 5] = ["github", "standard-webhooks", "stripe", "slack", "bearer-token"];
const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// Whom a changed delivery may name.
const NAMED: [&str; 6] = ["acme", "globex", "initech", "nobody", "Acme", "acme."];

/// Text for some schemes and base64 for others.
fn secret(tenant: &str) -> String {
    let text = format!("a secret of {tenant:8}, and nobody else's");
    format!("whsec_{}", data_encoding::BASE64.encode(text.as_bytes()))
}

struct Gate {
    runtime: Runtime,
    route: Route,
    tenants: Arc<Tenants>,
}

impl Gate {
    fn new(preset: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("hookgate-law-tenants-{preset}-{}", std::process::id()));
        create_dir_all(folder.join("tenants")).unwrap();
        for tenant in TENANTS {
            write(folder.join("tenants").join(tenant), secret(tenant)).unwrap();
        }
        let file = folder.join("hookgate.yaml");
        let at = folder.display();
        write(
            &file,
            format!(
                "insecure_allow_http: true\nroutes:\n  - {{ name: t, path: '/t/{{tenant}}', provider: {preset}, \
                 failure_limit: off, rate_limit: off, secrets: {{ dir: {at}/tenants, cache: 24h, negative: 24h }} }}\n"
            ),
        )
        .unwrap();
        let args = RunArgs { config: Some(file.into()), ..RunArgs::default() };
        let mut config = Config::load(&Given::flags(args)).unwrap_or_else(|problems| panic!("{problems}"));
        let keyed = config.routes.remove(0);
        let Some(Elsewhere::Tenants(from)) = keyed.elsewhere else { panic!("the route has tenants") };
        let store = ReplayStore::Memory(Memory::new(config.startup.replay, config.startup.stale_after, 1));
        let counters = Metrics::new().tenants("t");
        let tenants = Arc::new(Tenants::new(&keyed.route, from, store, counters));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let gate = Gate { runtime, route: keyed.route, tenants };
        for name in NAMED {
            gate.runtime.block_on(gate.tenants.look_up(&gate.route, Some(name)));
        }
        remove_dir_all(folder).unwrap(); // what is remembered is all that judges
        gate
    }

    /// As a delivery goes.
    fn judge(&self, delivery: &Delivery) -> Option<Authentic> {
        let (now, mut findings) = (Now::at(NOW, 0), Findings::new(Mode::Enforce));
        let head = self.route.named(delivery.head());
        let Ok(Admission::Read(admitted)) = self.route.admit(&head, now, &mut findings) else { return None };
        let keys = self.runtime.block_on(self.tenants.look_up(&self.route, head.tenant));
        assert!(matches!(keys, Keys::Found(_)), "everything that is named was looked up");
        self.route.authenticate(&admitted, &head, &delivery.body, &keys, now, &mut findings).ok().flatten()
    }
}

#[test]
fn a_delivery_is_accepted_for_the_tenant_that_signed_it_or_not_at_all() {
    let requests = given("HOOKGATE_LAWS").map_or(REQUESTS, |n| usize::try_from(n).unwrap());
    let seed = given("HOOKGATE_LAW_SEED").unwrap_or_else(of_the_clock);
    println!("tenants: HOOKGATE_LAW_SEED={seed} HOOKGATE_LAWS={requests}");
    let mut rng = Rng::new(seed);
    let gates: Vec<_> = PRESETS.iter().map(|preset| (Gate::new(preset), Sender::preset(preset))).collect();
    let (mut tried, mut accepted, mut of_others) = (0, 0, 0);
    while tried < requests {
        let (gate, sender) = rng.pick(&gates);
        let owner = *rng.pick(&TENANTS);
        let recipe = rng.pick(&sender.recipes);
        let key = recipe.signer(secret(owner).as_bytes()).unwrap();
        let id = format!("evt_{:x}", rng.next());
        let body = format!(r#"{{"id":"{id}","type":"a.b","n":{}}}"#, rng.below(1000)).into_bytes();
        let signed = recipe.sign(&key, Unsigned { id: &id, time_ms: NOW * 1000, body: &body }).unwrap();
        let genuine = Delivery { path: format!("/t/{owner}"), ..Delivery::sent(signed) };
        let found = gate.judge(&genuine).unwrap_or_else(|| panic!("genuine: {}", shown(&genuine)));
        assert_eq!(found.tenant().map(|tenant| &**tenant), Some(owner));
        for _ in 0..CHANGED {
            let named = *rng.pick(&NAMED);
            // Half of them are as they were signed, and only sent elsewhere.
            let delivery = if rng.chance(50) { genuine.clone() } else { changed(&genuine, sender, &mut rng) };
            let delivery = Delivery { path: format!("/t/{named}"), ..delivery };
            tried += 1;
            of_others += usize::from(named != owner);
            if let Some(authentic) = gate.judge(&delivery) {
                accepted += 1;
                let tenant = authentic.tenant().map(|tenant| &**tenant);
                assert_eq!((named, tenant), (owner, Some(owner)), "{owner} signed: {}", shown(&delivery));
            }
        }
    }
    println!("tenants: {tried} requests, {of_others} for others, {accepted} accepted, the law holds");
    assert!(accepted * 20 > tried && of_others * 2 > tried, "a search in which little happens finds little");
}
