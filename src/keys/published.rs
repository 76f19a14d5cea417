//! Keys that providers publish: fetched before they are needed, kept, renewed in the background, and served for
//! a day after their host has gone away.
//!
//! They outlive a restart, where there is a folder for [what was fetched](super::kept).
//!
//! A delivery never pays for that. What it may cause is one fetch a minute and source, when it names a key that
//! is not known, whether that fetch succeeds or not; its copies wait for the same one. Of several addresses that
//! are asked for, the one that most deliveries name goes first: genuine ones name the same, forged ones any.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use super::fetch::{Answer, Fault, Fetcher};
use super::kept::{self, Cache, Kept};
use super::told::{self, Whence};
use crate::clock;
use crate::config::keys::{Published, Request, Settings};
use crate::gate::delivery::Head;
use crate::gate::fetched::address::Address;
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
    /// What was fetched before the start, and where what is fetched now is put; opened when a route needs it.
    cache: OnceLock<Option<Cache>>,
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
    etag: Option<String>,
    fetched_at: Duration,
    /// How old it was then; zero, unless it was fetched before the start.
    was_old: Duration,
    /// When it is to be renewed: before it ends.
    renew_at: Duration,
    /// It has ended a day before, and could not be renewed.
    serves_until: Duration,
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
pub(super) struct Errand {
    pub url: Arc<str>,
    source: Arc<str>,
    form: Form,
    pub request: Arc<Request>,
    /// Whose certificate it must be, with a chain that leads to a root.
    chain_of: Option<Arc<str>>,
}

impl Errand {
    pub fn new(
        url: Arc<str>,
        source: &Arc<str>,
        form: &Form,
        request: &Arc<Request>,
        pinned: &Pinned,
    ) -> Self {
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
    Start(Arc<str>, Flight),
    Refuse,
}

/// A fetch that is under way from this moment on, so that there is no time in which a copy finds it neither
/// begun nor ended.
struct Flight {
    ends: watch::Receiver<()>,
    /// For whoever has to make it; `None` if it was under way before.
    begun: Option<watch::Sender<()>>,
}

/// What a fetch has brought.
struct Come {
    /// `None` if it is what is held.
    document: Option<Document>,
    etag: Option<String>,
    lives: Duration,
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
const UNCHANGED: &str = "unchanged";
const ABSENT_THERE: &str = "absent";

/// How a fetch can end, as metrics say it.
pub fn results() -> impl Iterator<Item = &'static str> {
    Fault::LABELS.into_iter().chain([ABSENT_THERE, SUCCESS, UNCHANGED])
}

/// Where one route's keys are published.
pub struct Source {
    library: Arc<Library>,
    provider: Arc<str>,
    /// Of each scheme.
    requests: Vec<Arc<Request>>,
    addresses: Vec<Address>,
}

impl Library {
    pub fn new(settings: Settings, telemetry: Arc<Telemetry>) -> Arc<Self> {
        let fetcher = Arc::new(Fetcher::new(settings));
        Arc::new(Library { fetcher, hosts: Mutex::default(), cache: OnceLock::new(), telemetry })
    }

    pub fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    /// The source of a route. What lies at addresses that are known is fetched now.
    pub fn source(self: &Arc<Self>, route: &Route, published: &Published) -> Source {
        self.open_cellar();
        let Published { source, requests } = published;
        let mut addresses = Vec::new();
        for (place, request, pinned) in places(route, published) {
            if !addresses.contains(&pinned.address) {
                addresses.push(pinned.address.clone());
            }
            if let Some(url) = pinned.address.fixed() {
                self.keep(&Errand::new(url.into(), source, &place.form, request, pinned));
            }
        }
        let (provider, requests) = (Arc::clone(source), requests.clone());
        Source { library: Arc::clone(self), provider, requests, addresses }
    }

    fn open_cellar(&self) {
        self.cache.get_or_init(|| {
            let folder = self.fetcher.settings().kept.as_ref()?;
            let tell = |path: &Path, why: &str| self.telemetry.tell(Event::KeysNotKept { path, why });
            let oldest_ms = clock::now().wall_ms.saturating_sub(clock::millis(STALE));
            let (opened, refused) =
                Cache::open(folder, oldest_ms).inspect_err(|error| tell(folder, &error.to_string())).ok()?;
            for refused in &refused {
                tell(&refused.path, &refused.why);
            }
            Some(opened)
        });
    }

    fn cache(&self) -> Option<&Cache> {
        self.cache.get()?.as_ref()
    }

    fn with<T>(&self, errand: &Errand, act: impl FnOnce(&mut Host) -> T) -> T {
        let mut hosts = lock(&self.hosts);
        act(hosts.entry(errand.host()).or_insert_with(|| Host::new(&errand.source)))
    }

    /// Fetches what lies at a fixed address, if nobody has yet.
    fn keep(self: &Arc<Self>, errand: &Errand) {
        let now = clock::now().mono;
        let held = Held {
            document: Arc::default(),
            errand: errand.clone(),
            etag: None,
            fetched_at: now,
            was_old: Duration::ZERO,
            renew_at: now,
            serves_until: now + STALE,
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
        if self.cache().is_some_and(|cache| cache.has(&errand.url)) {
            join(&mut self.start(errand)).await;
        }
        let flight = match self.with(errand, |host| host.next(errand, id, clock::now().mono)) {
            Next::Serve(document) => return Looked::Document(document),
            Next::Refuse => return Looked::Unavailable,
            Next::Wait(flight) => Some(flight),
            Next::Start(url, flight) => {
                let is_this = url == errand.url;
                let ends = self.make(&Errand { url, ..errand.clone() }, flight);
                is_this.then_some(ends)
            }
        };
        let Some(mut flight) = flight else { return Looked::Unavailable };
        join(&mut flight).await;
        let document = self.with(errand, |host| host.answer(errand, id, clock::now().mono));
        document.map_or(Looked::Unavailable, Looked::Document)
    }

    /// Starts a fetch. One that is under way is joined.
    fn start(self: &Arc<Self>, errand: &Errand) -> watch::Receiver<()> {
        let flight = self.with(errand, |host| host.flight(&errand.url));
        self.make(errand, flight)
    }

    /// Makes the fetch, in a task of its own that outlives whoever waits, if it is not under way.
    fn make(self: &Arc<Self>, errand: &Errand, Flight { ends, begun }: Flight) -> watch::Receiver<()> {
        if let Some(begun) = begun {
            let fetch = Fetch { library: Arc::clone(self), errand: errand.clone(), _ends: begun };
            tokio::spawn(fetch.run());
        }
        ends
    }

    /// Takes what was fetched before the start. What is no good is fetched when it is asked for again.
    fn take_from_cellar(&self, errand: &Errand) {
        let Some(folder) = self.cache() else { return };
        let Some(taken) = folder.take(&errand.url) else { return };
        let tell = |path: &Path, why: &str| self.telemetry.tell(Event::KeysNotKept { path, why });
        match taken {
            Ok(kept) => {
                if let Err(fault) = self.take_up(errand, kept) {
                    tell(folder.folder(), &format!("what came from {}: {fault}", errand.url));
                }
            }
            Err(refused) => tell(&refused.path, &refused.why),
        }
    }

    fn put_on_cellar(&self, head: kept::Head, body: Option<Vec<u8>>) {
        let Some(folder) = self.cache() else { return };
        if let Err(error) = folder.put(head, body) {
            self.telemetry.tell(Event::KeysNotKept { path: folder.folder(), why: &error.to_string() });
        }
    }

    /// As old as it is.
    fn take_up(&self, errand: &Errand, Kept { head, body }: Kept) -> Result<(), Fault> {
        let document = read(&self.fetcher, errand, &body)?;
        let clock::Now { wall_ms, mono: now, .. } = clock::now();
        let span = |from: i64, to: i64| Duration::from_millis(u64::try_from(to - from).unwrap_or_default());
        let lives = span(head.fetched_ms, head.ends_ms).min(LONGEST);
        let was_old = span(head.fetched_ms, wall_ms);
        let held = |fixed| Held {
            document: Arc::new(document),
            errand: errand.clone(),
            etag: head.etag,
            fetched_at: now,
            was_old,
            renew_at: now + (lives / 2).saturating_sub(was_old),
            serves_until: now + (lives + STALE).saturating_sub(was_old),
            fixed,
            failures: 0,
        };
        self.with(errand, |host| {
            let fixed = host.documents.get(&errand.url).is_some_and(|held| held.fixed);
            host.hold(&errand.url, held(fixed));
        });
        Ok(())
    }

    /// Notes how a fetch has ended; says what of it is to be kept, if anything is.
    fn settle(
        &self,
        errand: &Errand,
        answer: Result<Answer, Fault>,
    ) -> Option<(kept::Head, Option<Vec<u8>>)> {
        let now = clock::now();
        let mut to_keep = None;
        let read = answer.and_then(|Answer { body, max_age, etag }| {
            let lives = match max_age {
                _ if self.fetcher.settings().dir.is_some() => OF_COPY,
                None => USUAL,
                Some(max_age) => max_age.clamp(SHORTEST, LONGEST),
            };
            let document = body.as_ref().map(|body| read(&self.fetcher, errand, body)).transpose()?;
            let ends_ms = now.wall_ms.saturating_add(clock::millis(lives));
            to_keep = Some((kept::Head::new(&errand.url, etag.clone(), now.wall_ms, ends_ms), body));
            Ok(Come { document, etag, lives })
        });
        let now = now.mono;
        let Errand { source, url, .. } = errand;
        let mut result = match &read {
            Ok(Come { document: Some(_), .. }) => SUCCESS,
            Ok(Come { document: None, .. }) => UNCHANGED,
            Err(fault) => fault.label(),
        };
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
        to_keep
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
                host.documents.retain(|_, held| held.fixed || now < held.serves_until);
                for (url, held) in &host.documents {
                    let age = held.age(now);
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
    _ends: watch::Sender<()>,
}

impl Fetch {
    async fn run(self) {
        let Fetch { library, errand, .. } = &self;
        let url = &errand.url;
        if library.cache().is_some_and(|cache| cache.has(url)) {
            let (library, errand) = (Arc::clone(library), errand.clone());
            _ = tokio::task::spawn_blocking(move || library.take_from_cellar(&errand)).await;
            return;
        }
        let etag = library.with(errand, |host| host.documents.get(url).and_then(|held| held.etag.clone()));
        let answer = library.fetcher.fetch(url, &errand.request, etag).await;
        let to_keep = library.settle(errand, answer);
        let library = Arc::clone(library);
        // Nobody waits for the disk.
        drop(self);
        if let Some((head, body)) = to_keep {
            tokio::task::spawn_blocking(move || library.put_on_cellar(head, body));
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.library.with(&self.errand, |host| _ = host.under_way.remove(&self.errand.url));
    }
}

/// Every address at which keys of the route may lie, with how they are written there and asked for.
pub(super) fn places<'r>(
    route: &'r Route,
    published: &'r Published,
) -> impl Iterator<Item = (&'r KeyPlace, &'r Arc<Request>, &'r Pinned)> {
    let schemes = route.signature.every_scheme().zip(&published.requests);
    let places = schemes.filter_map(|(scheme, request)| Some((scheme.recipe().keys.as_ref()?, request)));
    places.flat_map(|(place, request)| place.addresses().iter().map(move |pinned| (place, request, pinned)))
}

/// The keys of a document that has come.
pub(super) fn read(fetcher: &Fetcher, errand: &Errand, body: &[u8]) -> Result<Document, Fault> {
    let document = Document::read(body, &errand.form).ok_or(Fault::NoKeys)?;
    match &errand.chain_of {
        Some(name) if !fetcher.is_rooted(body, name) => Err(Fault::NotRooted),
        _ => Ok(document),
    }
}

/// Waits for a fetch to end, as long as a delivery waits.
async fn join(flight: &mut watch::Receiver<()>) {
    _ = tokio::time::timeout(PATIENCE, flight.changed()).await;
}

/// Whether a document holds that key, or any if none is named.
fn has(document: &Document, id: Option<&str>) -> bool {
    document.named(id).next().is_some()
}

impl Host {
    fn new(source: &Arc<str>) -> Self {
        Host {
            source: Arc::clone(source),
            documents: HashMap::new(),
            asked: HashMap::new(),
            caused: None,
            under_way: HashMap::new(),
            absent: HashMap::new(),
            failing: None,
        }
    }

    fn next(&mut self, errand: &Errand, id: Option<&str>, now: Duration) -> Next {
        let held = self.documents.get(&errand.url).filter(|held| now < held.serves_until);
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
            let says = |held: &&Held| !held.document.keys.is_empty() && held.came_after(caused);
            if let Some(held) = held.filter(says) {
                return Next::Serve(Arc::clone(&held.document));
            }
            self.ask(&errand.url);
            return Next::Refuse;
        }
        self.ask(&errand.url);
        self.caused = Some(now);
        let url = self.most_asked(&errand.url);
        let flight = self.flight(&url);
        Next::Start(url, flight)
    }

    /// The fetch of an address that is under way, or one that is from now on.
    fn flight(&mut self, url: &Arc<str>) -> Flight {
        if let Some(ends) = self.under_way.get(url) {
            return Flight { ends: ends.clone(), begun: None };
        }
        let (begun, ends) = watch::channel(());
        self.under_way.insert(Arc::clone(url), ends.clone());
        Flight { ends, begun: Some(begun) }
    }

    /// What a fetch has brought. A host that is away says nothing of a key that is not known.
    fn answer(&self, errand: &Errand, id: Option<&str>, now: Duration) -> Option<Arc<Document>> {
        if self.is_absent(&errand.url, now) {
            return Some(Arc::default());
        }
        let held = self.documents.get(&errand.url).filter(|held| now < held.serves_until)?;
        let says = (held.failures == 0 && held.was_old.is_zero()) || has(&held.document, id);
        (says && !held.document.keys.is_empty()).then(|| Arc::clone(&held.document))
    }

    fn settle(&mut self, errand: &Errand, read: Result<Come, Fault>, now: Duration) -> Told {
        let url = &errand.url;
        self.asked.remove(url);
        match read {
            Ok(Come { document, etag, lives }) => {
                let before = self.documents.get(url);
                let same = || before.map(|held| Arc::clone(&held.document)).unwrap_or_default();
                let held = Held {
                    document: document.map_or_else(same, Arc::new),
                    errand: errand.clone(),
                    etag,
                    fetched_at: now,
                    was_old: Duration::ZERO,
                    renew_at: now + lives / 2,
                    serves_until: now + lives + STALE,
                    fixed: before.is_some_and(|held| held.fixed),
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

impl Held {
    fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.fetched_at) + self.was_old
    }

    /// Whether it was fetched then or later. What was fetched before the start was not.
    fn came_after(&self, then: Duration) -> bool {
        self.was_old.is_zero() && self.fetched_at >= then
    }
}

impl Host {
    /// What an operator is told of what lies at one of these addresses.
    fn shown(&self, addresses: &[Address], now: Duration) -> Vec<told::Document> {
        let ours = |url: &str| addresses.iter().any(|address| address.matching(url).is_some());
        let documents = self.documents.iter().filter(|(url, _)| ours(url));
        let shown = documents.map(|(url, held)| told::Document {
            url: url.to_string(),
            age_seconds: (!held.document.keys.is_empty()).then(|| held.age(now).as_secs()),
            next_fetch_seconds: held.renew_at.saturating_sub(now).as_secs(),
            serves_seconds: held.serves_until.saturating_sub(now).as_secs(),
            fault: self.failing.as_ref().filter(|_| held.failures > 0).map(Fault::to_string),
            keys: held.document.keys.iter().map(told::published).collect(),
        });
        shown.collect()
    }
}

impl Source {
    pub fn shown(&self) -> Whence {
        let now = clock::now().mono;
        let hosts = lock(&self.library.hosts);
        let mut documents: Vec<_> =
            hosts.values().flat_map(|host| host.shown(&self.addresses, now)).collect();
        documents.sort_by(|a, b| a.url.cmp(&b.url));
        Whence::Published { addresses: self.addresses.iter().map(Address::to_string).collect(), documents }
    }

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
        // Where every one of several has to hold, a key for some of them is not enough.
        let of_each = schemes.iter().any(|scheme| scheme.recipe().is_of_each());
        if unavailable && (of_each || ring.schemes.iter().all(Vec::is_empty)) {
            Keys::Unavailable
        } else {
            Keys::Found(Arc::new(ring))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A copy that comes before the task of the fetch has run waits all the same.
    #[test]
    fn a_fetch_is_under_way_from_the_moment_it_is_caused() {
        let url = Arc::<str>::from("https://keys.example/a");
        let form = Form::default();
        let errand =
            Errand { url, source: "some".into(), form, request: Arc::new(Request::Plain), chain_of: None };
        let (mut host, now) = (Host::new(&errand.source), Duration::from_secs(1));
        assert!(matches!(host.next(&errand, None, now), Next::Start(_, Flight { begun: Some(_), .. })));
        assert!(matches!(host.next(&errand, None, now), Next::Wait(_)));
        host.under_way.clear();
        assert!(matches!(host.next(&errand, None, now), Next::Refuse), "once in a minute");
        let later = now + COOLDOWN;
        assert!(matches!(host.next(&errand, None, later), Next::Start(_, Flight { begun: Some(_), .. })));
    }
}
