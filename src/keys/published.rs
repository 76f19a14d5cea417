//! Keys that providers publish: fetched before they are needed, kept, renewed in the background, and served for
//! a day after their host has gone away.
//!
//! A delivery never pays for that. What it may cause is one fetch a minute and source, when it names a key that
//! is not known, whether that fetch succeeds or not; its copies wait for the same one. Of several addresses that
//! are asked for, the one that most deliveries name goes first: genuine ones name the same, forged ones any.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::fetch::{Answer, Fault, Fetcher};
use crate::clock;
use crate::config::keys::{Published, Request, Settings};
use crate::gate::delivery::Head;
use crate::gate::fetched::document::{Document, Form};
use crate::gate::fetched::{KeyPlace, Need, Pinned};
use crate::gate::keys::{KeyRing, Keys};
use crate::gate::route::Route;
use crate::lock::lock;
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
/// How long it is believed that there is nothing at an address.
const ABSENT: Duration = Duration::from_secs(300);
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
    under_way: HashMap<Arc<str>, watch::Receiver<()>>,
    /// Addresses at which the host says that there is nothing, and until when that is believed.
    absent: HashMap<Arc<str>, Duration>,
    /// What was told to be wrong.
    failing: Option<Fault>,
}

/// What is kept of an address.
#[derive(Clone)]
struct Held {
    document: Arc<Document>,
    /// How it is fetched again.
    errand: Errand,
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

/// What is to be fetched, and how.
#[derive(Clone)]
struct Errand {
    url: Arc<str>,
    source: Arc<str>,
    form: Form,
    request: Arc<Request>,
    /// Whose certificate it must be, with a chain that leads to a root.
    chain_of: Option<Arc<str>>,
}

impl Errand {
    fn new(url: Arc<str>, source: &Arc<str>, form: &Form, request: &Arc<Request>, pinned: &Pinned) -> Self {
        let chain_of = pinned.name.as_deref().filter(|_| pinned.chain).map(Into::into);
        Errand { url, source: Arc::clone(source), form: form.clone(), request: Arc::clone(request), chain_of }
    }

    fn host(&self) -> Arc<str> {
        self.url.strip_prefix("https://").and_then(|rest| rest.split('/').next()).unwrap_or_default().into()
    }
}

/// What a host does for a delivery.
enum Next {
    Serve(Arc<Document>),
    Wait(watch::Receiver<()>),
    /// A fetch, of this address or of one that more deliveries name.
    Start(Arc<str>),
    Refuse,
}

/// What is to be told of a fetch.
enum Told {
    Fails(Fault),
    Again,
    /// There is nothing at the address.
    Absent,
    Nothing,
}

const SUCCESS: &str = "success";
const ABSENT_THERE: &str = "absent";

/// How a fetch can end, as metrics say it.
pub fn results() -> impl Iterator<Item = &'static str> {
    Fault::LABELS.into_iter().chain([ABSENT_THERE, SUCCESS])
}

/// Where one route's keys are published.
pub struct Source {
    library: Arc<Library>,
    provider: Arc<str>,
    /// Of each scheme.
    requests: Vec<Arc<Request>>,
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
                if let Some(url) = pinned.address.fixed() {
                    self.keep(&Errand::new(url.into(), &source, &place.form, request, pinned));
                }
            }
        }
        Source { library: Arc::clone(self), provider: source, requests }
    }

    fn with<T>(&self, errand: &Errand, act: impl FnOnce(&mut Host) -> T) -> T {
        let mut hosts = lock(&self.hosts);
        let new = || Host {
            source: Arc::clone(&errand.source),
            documents: HashMap::new(),
            asked: HashMap::new(),
            caused: None,
            under_way: HashMap::new(),
            absent: HashMap::new(),
            failing: None,
        };
        act(hosts.entry(errand.host()).or_insert_with(new))
    }

    /// Fetches what lies at a fixed address, if nobody has yet.
    fn keep(self: &Arc<Self>, errand: &Errand) {
        let now = clock::now().mono;
        let held = Held {
            document: Arc::default(),
            errand: errand.clone(),
            fetched_at: now,
            renew_at: now,
            ends_at: now,
            fixed: true,
            failures: 0,
        };
        let is_new = self.with(errand, |host| {
            let is_new = !host.documents.contains_key(&errand.url);
            // A reload may have brought other credentials.
            host.documents.entry(Arc::clone(&errand.url)).or_insert(held).errand = errand.clone();
            is_new
        });
        if is_new {
            self.start(errand);
        }
    }

    /// The document of an address: what is held, or after a fetch what has come.
    async fn look(self: &Arc<Self>, errand: &Errand, id: Option<&str>) -> Looked {
        let flight = match self.with(errand, |host| host.next(errand, id, clock::now().mono)) {
            Next::Serve(document) => return Looked::Document(document),
            Next::Refuse => return Looked::Unavailable,
            Next::Wait(flight) => Some(flight),
            Next::Start(url) => {
                let flight = self.start(&Errand { url: Arc::clone(&url), ..errand.clone() });
                (url == errand.url).then_some(flight)
            }
        };
        let Some(mut flight) = flight else { return Looked::Unavailable };
        _ = tokio::time::timeout(PATIENCE, flight.changed()).await;
        let document = self.with(errand, |host| host.answer(errand, id, clock::now().mono));
        document.map_or(Looked::Unavailable, Looked::Document)
    }

    /// Starts a fetch, in a task of its own that outlives whoever waits. One that is under way is joined.
    fn start(self: &Arc<Self>, errand: &Errand) -> watch::Receiver<()> {
        let (ended, flight) = watch::channel(());
        let other = self.with(errand, |host| match host.under_way.get(&errand.url) {
            Some(other) => Some(other.clone()),
            None => {
                host.under_way.insert(Arc::clone(&errand.url), flight.clone());
                None
            }
        });
        if let Some(other) = other {
            return other;
        }
        let fetch = Fetch { library: Arc::clone(self), errand: errand.clone(), _ended: ended };
        tokio::spawn(fetch.run());
        flight
    }

    fn settle(&self, errand: &Errand, answer: Result<Answer, Fault>) {
        let now = clock::now().mono;
        let read = answer.and_then(|answer| {
            let document = Document::read(&answer.body, &errand.form).ok_or(Fault::NoKeys)?;
            if let Some(name) = &errand.chain_of
                && !self.fetcher.is_rooted(&answer.body, name)
            {
                return Err(Fault::NotRooted);
            }
            let lives = match answer.max_age {
                _ if self.fetcher.settings().dir.is_some() => OF_COPY,
                None => USUAL,
                Some(max_age) => max_age.clamp(SHORTEST, LONGEST),
            };
            Ok((document, lives))
        });
        let Errand { source, url, .. } = errand;
        let mut result = read.as_ref().map_or_else(Fault::label, |_| SUCCESS);
        let told = self.with(errand, |host| host.settle(errand, read, now));
        if matches!(told, Told::Absent) {
            result = ABSENT_THERE;
        }
        self.telemetry.metrics.keys_fetched(source, result);
        match told {
            Told::Fails(fault) => {
                self.telemetry.tell(Event::KeysUnavailable { source, url, fault: &fault.to_string() });
            }
            Told::Again => self.telemetry.tell(Event::KeysAgain { source, url }),
            Told::Absent | Told::Nothing => {}
        }
    }

    /// What is known is served until it has come again.
    fn forget_age(&self) {
        let now = clock::now().mono;
        for host in lock(&self.hosts).values_mut() {
            host.caused = None;
            host.absent.clear();
            host.documents.values_mut().for_each(|held| held.renew_at = now);
        }
    }

    /// Renews what is about to end; once a second.
    pub fn renew(self: &Arc<Self>) {
        let now = clock::now().mono;
        let mut due = Vec::new();
        let mut ages = HashMap::<Arc<str>, Duration>::new();
        {
            let mut hosts = lock(&self.hosts);
            for host in hosts.values_mut() {
                host.documents.retain(|_, held| held.fixed || now < held.ends_at + STALE);
                for (url, held) in &host.documents {
                    let age = now.saturating_sub(held.fetched_at);
                    let oldest = ages.entry(Arc::clone(&host.source)).or_default();
                    *oldest = age.max(*oldest);
                    if held.renew_at <= now && !host.under_way.contains_key(url) {
                        due.push(held.errand.clone());
                    }
                }
            }
        }
        for (source, age) in ages {
            self.telemetry.metrics.keys_age(&source, age);
        }
        for errand in &due {
            self.start(errand);
        }
    }
}

/// A fetch that is under way. However it ends, those who wait are told, and the next one can begin.
struct Fetch {
    library: Arc<Library>,
    errand: Errand,
    /// Ends with it.
    _ended: watch::Sender<()>,
}

impl Fetch {
    async fn run(self) {
        let answer = self.library.fetcher.fetch(&self.errand.url, &self.errand.request).await;
        self.library.settle(&self.errand, answer);
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.library.with(&self.errand, |host| _ = host.under_way.remove(&self.errand.url));
    }
}

/// Whether a document holds that key, or any if none is named.
fn has(document: &Document, id: Option<&str>) -> bool {
    document.named(id).next().is_some()
}

impl Host {
    fn next(&mut self, errand: &Errand, id: Option<&str>, now: Duration) -> Next {
        let held = self.documents.get(&errand.url).filter(|held| now < held.ends_at + STALE);
        if let Some(held) = held.filter(|held| has(&held.document, id)) {
            return Next::Serve(Arc::clone(&held.document));
        }
        if self.is_absent(&errand.url, now) {
            return Next::Serve(Arc::default());
        }
        if let Some(flight) = self.under_way.get(&errand.url) {
            return Next::Wait(flight.clone());
        }
        if let Some(caused) = self.caused.filter(|caused| now < *caused + COOLDOWN) {
            // It was fetched since, and does not hold that key: there is none.
            let says = |held: &&Held| !held.document.keys.is_empty() && held.fetched_at >= caused;
            if let Some(held) = held.filter(says) {
                return Next::Serve(Arc::clone(&held.document));
            }
            self.ask(&errand.url);
            return Next::Refuse;
        }
        self.ask(&errand.url);
        self.caused = Some(now);
        Next::Start(self.most_asked(&errand.url))
    }

    /// What a fetch has brought. A host that is away says nothing of a key that is not known.
    fn answer(&self, errand: &Errand, id: Option<&str>, now: Duration) -> Option<Arc<Document>> {
        if self.is_absent(&errand.url, now) {
            return Some(Arc::default());
        }
        let held = self.documents.get(&errand.url).filter(|held| now < held.ends_at + STALE)?;
        let says = held.failures == 0 || has(&held.document, id);
        (says && !held.document.keys.is_empty()).then(|| Arc::clone(&held.document))
    }

    fn settle(&mut self, errand: &Errand, read: Result<(Document, Duration), Fault>, now: Duration) -> Told {
        let url = &errand.url;
        self.asked.remove(url);
        match read {
            Ok((document, lives)) => {
                let held = Held {
                    document: Arc::new(document),
                    errand: errand.clone(),
                    fetched_at: now,
                    renew_at: now + lives / 2,
                    ends_at: now + lives,
                    fixed: self.documents.get(url).is_some_and(|held| held.fixed),
                    failures: 0,
                };
                self.hold(url, held);
                if self.failing.take().is_some() { Told::Again } else { Told::Nothing }
            }
            Err(fault) => {
                match self.documents.get_mut(url) {
                    Some(held) => {
                        let wait = FIRST_RETRY * 2u32.pow(held.failures.min(6));
                        held.failures += 1;
                        held.renew_at = now + wait.min(COOLDOWN);
                    }
                    // What forgers name is not there: that says nothing of the host.
                    None if matches!(fault, Fault::Status(404 | 410)) => {
                        self.absent.retain(|_, until| now < *until);
                        if self.absent.len() < MAX_DOCUMENTS {
                            self.absent.insert(Arc::clone(url), now + ABSENT);
                        }
                        return Told::Absent;
                    }
                    None if matches!(fault, Fault::Status(_) | Fault::NoKeys) => return Told::Nothing,
                    None => {}
                }
                let before = self.failing.replace(fault.clone());
                if before.as_ref() == Some(&fault) { Told::Nothing } else { Told::Fails(fault) }
            }
        }
    }

    fn is_absent(&self, url: &Arc<str>, now: Duration) -> bool {
        self.absent.get(url).is_some_and(|until| now < *until)
    }

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
    /// What lies at known addresses is fetched again, and a delivery may cause a fetch at once.
    pub fn forget_age(&self) {
        self.library.forget_age();
    }

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
                let url = Arc::clone(&wanted.url);
                let errand = Errand::new(url, &self.provider, form, request, &wanted.pinned);
                match self.library.look(&errand, wanted.id.as_deref()).await {
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
