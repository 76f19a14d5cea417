//! Keys that providers publish: fetched before they are needed, kept, renewed in the background, and served for
//! a day after their host has gone away.
//!
//! A delivery never pays for that. What it may cause is one fetch a minute and source, when it names a key that
//! is not known, whether that fetch succeeds or not; its copies wait for the same one. Of several addresses that
//! are asked for, the one that most deliveries name goes first: genuine ones name the same, forged ones any.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::fetch::{Answer, Fault, Fetcher};
use crate::clock;
use crate::config::keys::{Published, Request, Settings};
use crate::gate::delivery::Head;
use crate::gate::fetched::document::{Document, Form};
use crate::gate::fetched::{KeyPlace, KeySource, Need, Wanted};
use crate::gate::keys::{KeyRing, Keys};
use crate::gate::route::Route;
use crate::telemetry::Telemetry;
use crate::telemetry::event::Event;

/// Between two fetches of a source that deliveries cause.
const COOLDOWN: Duration = Duration::from_secs(60);
/// How long a delivery waits for one that is under way.
const PATIENCE: Duration = Duration::from_millis(2500);
/// How long a document is good, if its server says nothing; and the bounds of what it may say.
const USUAL: Duration = Duration::from_secs(3600);
const SHORTEST: Duration = Duration::from_secs(300);
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// A mounted copy is read again after so long.
const OF_COPY: Duration = Duration::from_secs(10);
/// How long it serves when it cannot be renewed.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// After a failure, and twice as long after each other one, up to a minute.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Documents that are kept of one host, and addresses of it that are asked for.
const MAX_DOCUMENTS: usize = 128;
const MAX_ASKED: usize = 64;

/// All that is published and known.
pub struct Library {
    fetcher: Arc<Fetcher>,
    hosts: Mutex<HashMap<Arc<str>, Host>>,
    telemetry: Arc<Telemetry>,
}

/// A host that keys are fetched from.
struct Host {
    source: Arc<str>,
    documents: HashMap<Arc<str>, Held>,
    /// Addresses without a document, and how many deliveries named each.
    asked: HashMap<Arc<str>, u32>,
    /// When a delivery last caused a fetch, and what was asked for.
    caused: Option<Duration>,
    under_way: HashMap<Arc<str>, watch::Receiver<bool>>,
    failing: Option<Failing>,
}

/// Since when nothing comes, and whether that was told.
#[derive(Clone)]
struct Failing {
    since: Duration,
    fault: Fault,
    told: bool,
}

/// What is kept of an address.
#[derive(Clone)]
struct Held {
    document: Arc<Document>,
    form: Form,
    request: Arc<Request>,
    fetched_at: Duration,
    /// When it is to be renewed: before it ends.
    renew_at: Duration,
    ends_at: Duration,
    /// Whether it lies at an address that is known without a delivery.
    fixed: bool,
    failures: u32,
}

/// What a delivery learns.
enum Looked {
    Document(Arc<Document>),
    /// Nobody can say now which keys there are.
    Unavailable,
}

/// Where one route's keys are published.
pub struct Source {
    library: Arc<Library>,
    source: Arc<str>,
    /// Of each scheme.
    requests: Vec<Arc<Request>>,
}

/// What is known of an address, for an operator.
pub struct Known {
    pub source: Arc<str>,
    pub url: Arc<str>,
    pub fingerprints: Vec<(Option<Arc<str>>, String)>,
    pub age: Option<Duration>,
    pub next: Option<Duration>,
    pub fault: Option<String>,
}

impl Library {
    pub fn new(settings: Settings, telemetry: Arc<Telemetry>) -> Arc<Self> {
        Arc::new(Library { fetcher: Arc::new(Fetcher::new(settings)), hosts: Mutex::default(), telemetry })
    }

    /// The source of a route. What lies at addresses that are known is fetched now.
    pub fn source(self: &Arc<Self>, route: &Route, published: &Published) -> Source {
        let requests: Vec<_> = published.requests.iter().cloned().map(Arc::new).collect();
        let source = Arc::clone(&published.source);
        for (scheme, request) in route.signature.every_scheme().zip(&requests) {
            let Some(place) = &scheme.recipe().keys else { continue };
            for pinned in place.addresses() {
                let host = host_of(&pinned.address.to_string());
                self.with(&host, &source, |_| ());
                if let Some(url) = pinned.address.fixed() {
                    self.keep(&host, &source, url.into(), &place.form, request);
                }
            }
        }
        Source { library: Arc::clone(self), source, requests }
    }

    fn with<T>(&self, host: &Arc<str>, source: &Arc<str>, act: impl FnOnce(&mut Host) -> T) -> T {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Host {
            source: Arc::clone(source),
            documents: HashMap::new(),
            asked: HashMap::new(),
            caused: None,
            under_way: HashMap::new(),
            failing: None,
        };
        act(hosts.entry(Arc::clone(host)).or_insert_with(new))
    }

    /// Fetches what lies at a fixed address, if nobody has yet.
    fn keep(
        self: &Arc<Self>,
        host: &Arc<str>,
        source: &Arc<str>,
        url: Arc<str>,
        form: &Form,
        request: &Arc<Request>,
    ) {
        let now = clock::now().mono;
        let held = Held {
            document: Arc::default(),
            form: form.clone(),
            request: Arc::clone(request),
            fetched_at: now,
            renew_at: now,
            ends_at: now,
            fixed: true,
            failures: 0,
        };
        let is_new = self.with(host, source, |host| {
            let is_new = !host.documents.contains_key(&url);
            host.documents.entry(Arc::clone(&url)).or_insert(held);
            is_new
        });
        if is_new && tokio::runtime::Handle::try_current().is_ok() {
            self.start(host, source, &url, form, request);
        }
    }

    /// The document of an address: what is held, or after a fetch what has come.
    async fn look(
        self: &Arc<Self>,
        wanted: &Wanted,
        source: &Arc<str>,
        form: &Form,
        request: &Arc<Request>,
    ) -> Looked {
        let host = host_of(&wanted.url);
        let now = clock::now().mono;
        let satisfies = |document: &Document| {
            !document.keys.is_empty() && document.named(wanted.id.as_deref()).next().is_some()
        };
        enum Next {
            Serve(Arc<Document>),
            Wait(watch::Receiver<bool>),
            Start(Arc<str>),
            Refuse,
        }
        let next = self.with(&host, source, |host| {
            let held = host
                .documents
                .get(&wanted.url)
                .filter(|held| now < held.ends_at + STALE || held.ends_at == held.fetched_at);
            if let Some(held) = held.filter(|held| satisfies(&held.document)) {
                return Next::Serve(Arc::clone(&held.document));
            }
            if let Some(flight) = host.under_way.get(&wanted.url) {
                return Next::Wait(flight.clone());
            }
            let cooling = host.caused.is_some_and(|caused| now < caused + COOLDOWN);
            if cooling {
                // It was fetched since, and does not hold that key: there is none.
                let since = host.caused.unwrap_or_default();
                if let Some(held) =
                    held.filter(|held| !held.document.keys.is_empty() && held.fetched_at >= since)
                {
                    return Next::Serve(Arc::clone(&held.document));
                }
                host.ask(&wanted.url);
                return Next::Refuse;
            }
            host.ask(&wanted.url);
            host.caused = Some(now);
            Next::Start(host.most_asked(&wanted.url))
        });
        let flight = match next {
            Next::Serve(document) => return Looked::Document(document),
            Next::Refuse => return Looked::Unavailable,
            Next::Wait(flight) => flight,
            Next::Start(url) => {
                let flight = self.start(&host, source, &url, form, request);
                if url != wanted.url {
                    return Looked::Unavailable;
                }
                flight
            }
        };
        let mut flight = flight;
        _ = tokio::time::timeout(PATIENCE, flight.wait_for(|ended| *ended)).await;
        let now = clock::now().mono;
        let document = self.with(&host, source, |host| {
            let held = host.documents.get(&wanted.url)?;
            let is_there = !held.document.keys.is_empty() && now < held.ends_at + STALE;
            // A host that is away says nothing of a key that is not known.
            let says = held.failures == 0 || satisfies(&held.document);
            (is_there && says).then(|| Arc::clone(&held.document))
        });
        document.map_or(Looked::Unavailable, Looked::Document)
    }

    /// Starts a fetch, in a task of its own that outlives whoever waits.
    fn start(
        self: &Arc<Self>,
        host: &Arc<str>,
        source: &Arc<str>,
        url: &Arc<str>,
        form: &Form,
        request: &Arc<Request>,
    ) -> watch::Receiver<bool> {
        let (ended, flight) = watch::channel(false);
        let is_first = self.with(host, source, |host| match host.under_way.get(url) {
            Some(other) => Err(other.clone()),
            None => {
                host.under_way.insert(Arc::clone(url), flight.clone());
                Ok(())
            }
        });
        if let Err(other) = is_first {
            return other;
        }
        let (library, host, source) = (Arc::clone(self), Arc::clone(host), Arc::clone(source));
        let (url, form, request) = (Arc::clone(url), form.clone(), Arc::clone(request));
        tokio::spawn(async move {
            let answer = library.fetcher.fetch(&url, &request).await;
            library.settle(&host, &source, &url, answer, &form, &request);
            _ = ended.send(true);
        });
        flight
    }

    fn settle(
        &self,
        host: &Arc<str>,
        source: &Arc<str>,
        url: &Arc<str>,
        answer: Result<Answer, Fault>,
        form: &Form,
        request: &Arc<Request>,
    ) {
        let now = clock::now().mono;
        let read = answer.and_then(|answer| {
            let document = Document::read(&answer.body, form).ok_or(Fault::NoKeys)?;
            Ok((document, answer.max_age))
        });
        self.telemetry.metrics.keys_fetched(source, read.as_ref().map_or_else(Fault::label, |_| "success"));
        let copy = self.fetcher.settings().dir.is_some();
        let told = self.with(host, source, |host| {
            host.under_way.remove(url);
            host.asked.remove(url);
            match read {
                Ok((document, max_age)) => {
                    let lives = match max_age {
                        _ if copy => OF_COPY,
                        None => USUAL,
                        Some(max_age) => max_age.clamp(SHORTEST, LONGEST),
                    };
                    let fixed = host.documents.get(url).is_some_and(|held| held.fixed);
                    let held = Held {
                        document: Arc::new(document),
                        form: form.clone(),
                        request: Arc::clone(request),
                        fetched_at: now,
                        renew_at: now + lives / 2,
                        ends_at: now + lives,
                        fixed,
                        failures: 0,
                    };
                    host.hold(url, held);
                    host.failing.take().filter(|failing| failing.told).map(Err)
                }
                Err(fault) => {
                    if let Some(held) = host.documents.get_mut(url) {
                        let wait = FIRST_RETRY * 2u32.pow(held.failures.min(6));
                        held.failures += 1;
                        held.renew_at = now + wait.min(COOLDOWN);
                    }
                    let since = host.failing.as_ref().map_or(now, |failing| failing.since);
                    let told = host.failing.replace(Failing { since, fault: fault.clone(), told: true });
                    let again = told.is_some_and(|before| before.fault == fault);
                    (!again).then_some(Ok(fault))
                }
            }
        });
        match told {
            Some(Ok(fault)) => {
                self.telemetry.tell(Event::KeysUnavailable { source, url, fault: &fault.to_string() });
            }
            Some(Err(_)) => self.telemetry.tell(Event::KeysAgain { source, url }),
            None => {}
        }
    }

    /// Renews what is about to end; once a second.
    pub fn renew(self: &Arc<Self>) {
        let now = clock::now().mono;
        let mut due = Vec::new();
        let mut ages = HashMap::<Arc<str>, Duration>::new();
        {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, host) in hosts.iter_mut() {
                host.documents.retain(|_, held| held.fixed || now < held.ends_at + STALE);
                for (url, held) in
                    host.documents.iter().filter(|(_, held)| held.fixed || !held.document.keys.is_empty())
                {
                    let age = now.saturating_sub(held.fetched_at);
                    let oldest = ages.entry(Arc::clone(&host.source)).or_default();
                    *oldest = age.max(*oldest);
                    if held.renew_at <= now && !host.under_way.contains_key(url) {
                        due.push((
                            Arc::clone(name),
                            Arc::clone(&host.source),
                            Arc::clone(url),
                            held.form.clone(),
                            Arc::clone(&held.request),
                        ));
                    }
                }
            }
        }
        for (source, age) in ages {
            self.telemetry.metrics.keys_age(&source, age);
        }
        for (host, source, url, form, request) in due {
            self.start(&host, &source, &url, &form, &request);
        }
    }

    /// What is known, for an operator; no keys.
    pub fn known(&self) -> Vec<Known> {
        let now = clock::now().mono;
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::new();
        for host in hosts.values() {
            for (url, held) in &host.documents {
                let is_there = !held.document.keys.is_empty();
                let print = |key: &crate::gate::fetched::document::PublishedKey| {
                    (key.id.clone(), key.material.fingerprint())
                };
                all.push(Known {
                    source: Arc::clone(&host.source),
                    url: Arc::clone(url),
                    fingerprints: held.document.keys.iter().map(print).collect(),
                    age: is_there.then(|| now.saturating_sub(held.fetched_at)),
                    next: Some(held.renew_at.saturating_sub(now)),
                    fault: host
                        .failing
                        .as_ref()
                        .filter(|_| held.failures > 0)
                        .map(|failing| failing.fault.to_string()),
                });
            }
        }
        all.sort_by(|one, other| (&one.source, &one.url).cmp(&(&other.source, &other.url)));
        all
    }
}

impl Host {
    /// Notes that a delivery named it.
    fn ask(&mut self, url: &Arc<str>) {
        if self.asked.len() >= MAX_ASKED && !self.asked.contains_key(url) {
            let least = self.asked.iter().min_by_key(|(_, count)| **count).map(|(url, _)| Arc::clone(url));
            least.and_then(|url| self.asked.remove(&url));
        }
        *self.asked.entry(Arc::clone(url)).or_default() += 1;
    }

    fn most_asked(&self, usual: &Arc<str>) -> Arc<str> {
        let own = self.asked.get(usual).copied().unwrap_or_default();
        let most = self.asked.iter().max_by_key(|(_, count)| **count).filter(|(_, count)| **count > own);
        Arc::clone(most.map_or(usual, |(url, _)| url))
    }

    /// Keeps it; where there are too many, the one that is not fixed and has not been renewed for longest goes.
    fn hold(&mut self, url: &Arc<str>, held: Held) {
        if self.documents.len() >= MAX_DOCUMENTS && !self.documents.contains_key(url) {
            let old =
                self.documents.iter().filter(|(_, held)| !held.fixed).min_by_key(|(_, held)| held.fetched_at);
            let old = old.map(|(url, _)| Arc::clone(url));
            old.and_then(|url| self.documents.remove(&url));
        }
        self.documents.insert(Arc::clone(url), held);
    }
}

impl Source {
    /// The keys that judge this delivery.
    pub async fn look_up(&self, route: &Route, head: &Head<'_>, body: &[u8]) -> Keys {
        let schemes = route.signature.schemes();
        let mut ring = KeyRing { schemes: vec![Vec::new(); schemes.len()], ..KeyRing::default() };
        let needs = match route.signature.presented(head) {
            Ok(presented) => route.signature.needs(&presented, head, body),
            Err(_) => Vec::new(),
        };
        let now_ms = clock::now().wall_ms;
        let mut unavailable = false;
        for (n, need) in needs {
            let recipe = schemes[n].recipe();
            let wanted = match need {
                Need::Chain(chain) => {
                    ring.schemes[n] = route.signature.of_chain(n, &chain, now_ms);
                    continue;
                }
                Need::Documents(wanted) => wanted,
            };
            let Some(KeyPlace { form, .. }) = &recipe.keys else { continue };
            let Some(request) = self.requests.get(n) else { continue };
            for wanted in wanted {
                match self.library.look(&wanted, &self.source, form, request).await {
                    Looked::Document(document) => {
                        ring.schemes[n].extend(wanted.choose(&document, recipe.algorithm, now_ms));
                    }
                    Looked::Unavailable => unavailable = true,
                }
            }
        }
        if unavailable && ring.schemes.iter().all(Vec::is_empty) {
            Keys::Unavailable
        } else {
            Keys::Found(Arc::new(ring))
        }
    }
}

/// Whether a place is looked up at all, and not in the delivery itself.
pub fn is_elsewhere(place: &KeyPlace) -> bool {
    !matches!(place.source, KeySource::Token(_))
}

fn host_of(url: &str) -> Arc<str> {
    url.strip_prefix("https://").and_then(|rest| rest.split('/').next()).unwrap_or_default().into()
}
