//! The keys of tenants: looked up by the name that a delivery gives, in a [folder](directory), in a hash of
//! the shared store, or behind a [socket], and [remembered](cache).
//!
//! - A name that is no tenant's is judged with the same work, by keys that nobody has, and gets the same answer,
//!   which waits for [its time](even).
//! - What is older than `cache` is looked up before it is used. If the source is away, the keys that are
//!   remembered go on; where there are none, nobody can say, which is a 503 and no refusal.
//! - A signature that no key made has the source asked again, at most once in `negative`: a secret or a tenant
//!   that is new is found at once, and a forgery costs the same for every name.
//! - One question at a time is asked for a name, and it outlives who asked.

mod answer;
mod cache;
mod directory;
mod ring;
mod socket;
mod survey;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use self::cache::{Cache, Remembered};
pub use self::directory::Directory;
use self::socket::Socket;
pub use self::survey::{Seen, Survey, survey};
use super::told::{self, Whence};
use crate::clock::{self, Now};
use crate::config::provider::NamedSecret;
use crate::config::route::{TenantSecrets, Where};
use crate::config::secret::Secret;
use crate::gate::keys::{KeyRing, Keys};
use crate::gate::route::Route;
use crate::gate::scheme::Recipe;
use crate::lock::lock;
use crate::store::ReplayStore;
use crate::store::redis::Breaker;
use crate::telemetry::event::Event;
use crate::telemetry::metrics::{Lookup, TenantMetrics};

/// Secrets of one tenant.
const MOST_SECRETS: usize = 16;
/// The longest of them: a public key of RSA has half a kilobyte.
const MOST_TEXT: usize = 16 * 1024;
/// New names that are asked for at the same time; others are told to come again. As many of those that were asked
/// for lately have room beside them.
const MOST_ASKED: usize = 4096;
/// Questions to the source at the same time.
const AT_ONCE: usize = 64;
/// For a question to a folder or the store; a socket has its own.
const PATIENCE: Duration = Duration::from_secs(2);

/// The tenants of one route.
pub struct Tenants {
    from: TenantSecrets,
    route: Arc<str>,
    source: Source,
    cache: Cache,
    /// What is older than that, in seconds of the monotonic clock, is looked up again.
    since: AtomicU32,
    asking: Mutex<HashMap<Arc<str>, watch::Receiver<Option<bool>>>>,
    /// For names that were asked for lately, and for others: who invents names holds up only those who are new.
    places: [Arc<Semaphore>; 2],
    breaker: Breaker,
    /// Why the source is away, or what it said of a tenant that could not be understood.
    trouble: Mutex<Option<String>>,
    told_away: AtomicBool,
    metrics: Arc<TenantMetrics>,
    /// Secrets that nobody has, like those that were found last.
    decoys: Mutex<Vec<NamedSecret>>,
    recipes: Vec<Recipe>,
}

enum Source {
    Directory(Arc<Directory>),
    Store(ReplayStore, String),
    Socket(Socket),
}

/// Microseconds from one moment at which an answer may go out to who signed wrongly, to the next. It is longer than
/// the work for it, and a second is a multiple of it.
const BEAT: u32 = 2000;

/// Waits for the next of these moments, counted from when the delivery arrived. Equal work takes equal time but for
/// where its data lies, in memory and on the disk, and that depends on whether there is such a tenant. So who signed
/// wrongly is not told how long the work took.
pub async fn even(arrived: Now) {
    let into = clock::since(arrived).subsec_micros() % BEAT;
    tokio::time::sleep(Duration::from_micros((BEAT - into).into())).await;
}

/// Why nobody can say what a tenant's secrets are.
pub enum Trouble {
    /// The source is away.
    Source(String),
    /// It is there, and what it holds of this tenant cannot be read.
    Tenant(String),
}

impl Trouble {
    fn into_words(self) -> String {
        match self {
            Trouble::Source(why) | Trouble::Tenant(why) => why,
        }
    }
}

impl Tenants {
    pub fn new(route: &Route, from: TenantSecrets, store: ReplayStore, metrics: Arc<TenantMetrics>) -> Self {
        let source = Source::new(&from.place, store);
        let recipes = ring::recipes(route);
        Tenants {
            cache: Cache::new(from.max),
            from,
            route: Arc::clone(&route.name),
            source,
            since: AtomicU32::new(0),
            asking: Mutex::default(),
            places: [(), ()].map(|()| Arc::new(Semaphore::new(AT_ONCE))),
            breaker: Breaker::default(),
            trouble: Mutex::default(),
            told_away: AtomicBool::new(false),
            metrics,
            decoys: Mutex::new(ring::decoys(&recipes, &[])),
            recipes,
        }
    }

    /// Whether it would be made anew as it is.
    pub fn is_as(&self, route: &Route, from: &TenantSecrets) -> bool {
        self.from == *from && self.route == route.name && self.recipes == ring::recipes(route)
    }

    /// The keys of the tenant; of one that does not exist, some that nobody has.
    pub async fn look_up(self: &Arc<Self>, route: &Route, tenant: Option<&str>) -> Keys {
        self.look_up_at(route, tenant, clock::now().mono).await
    }

    async fn look_up_at(self: &Arc<Self>, route: &Route, tenant: Option<&str>, now: Duration) -> Keys {
        let Some(name) = tenant else {
            let decoys = lock(&self.decoys).clone();
            return Keys::Found(Arc::new(ring::ring(route, None, &decoys, self.from.short_allowed)));
        };
        let remembered = self.cache.get(name, now);
        if let Some(remembered) = remembered.as_ref().filter(|found| self.is_good(found)) {
            return self.keys(route, name, remembered);
        }
        if self.ask(name, remembered.is_none(), now).await {
            return self.remembered(route, name, now);
        }
        match remembered {
            Some(stale) if stale.is_known => {
                self.metrics.served_stale();
                self.keys(route, name, &stale)
            }
            Some(_) | None => Keys::Unavailable,
        }
    }

    /// The keys of the tenant as they are now, if they were not looked up just now.
    pub async fn newer(self: &Arc<Self>, route: &Route, name: &str) -> Option<Keys> {
        let now = clock::now().mono;
        let found = self.cache.get(name, now);
        if found.as_ref().is_some_and(|found| found.age < self.from.negative) {
            return None;
        }
        Some(if self.ask(name, found.is_none(), now).await {
            self.remembered(route, name, now)
        } else {
            Keys::Unavailable
        })
    }

    /// The secrets that are remembered of the tenant, and what is to be said if it has none. Of a name that is no
    /// tenant's that is as much work: the answer is not given yet.
    pub fn told(&self, tenant: Option<&str>) -> (Vec<NamedSecret>, Option<String>) {
        let Some(name) = tenant else {
            let hint =
                "the delivery names no tenant, or what it names cannot be one: [A-Za-z0-9._-], at most 128";
            return (Vec::new(), Some(hint.to_owned()));
        };
        let found = self.cache.get(name, clock::now().mono);
        let nobody = format!("there is no tenant {name} in {}", self.from.place);
        let is_known = found.as_ref().is_some_and(|found| found.is_known);
        (found.map(|found| found.secrets()).unwrap_or_default(), (!is_known).then_some(nobody))
    }

    /// What an operator is told: of one tenant what is remembered, without asking for it.
    pub fn shown(&self, tenant: Option<&str>) -> Whence {
        let found = tenant.and_then(|name| Some((name, self.cache.get(name, clock::now().mono)?)));
        Whence::Tenants {
            place: self.from.place.to_string(),
            up: !self.breaker.is_open(),
            remembered: self.cache.tenants(),
            tenant: found.map(|(name, found)| told::Tenant {
                name: name.to_owned(),
                exists: found.is_known,
                age_seconds: found.age.as_secs(),
                keys: if found.is_known { told::named(&found.secrets()) } else { Vec::new() },
            }),
        }
    }

    /// Tells when the source is away, and when it is back; and what could not be understood.
    pub fn news(&self, tell: impl FnOnce(Event<'_>)) {
        self.metrics.set(self.cache.tenants(), !self.breaker.is_open());
        let trouble = lock(&self.trouble).take();
        let (route, was_away) = (&*self.route, self.told_away.load(Ordering::Relaxed));
        let is_away = self.breaker.is_open();
        if is_away != was_away {
            self.told_away.store(is_away, Ordering::Relaxed);
        }
        match trouble {
            Some(why) if is_away && !was_away => tell(Event::TenantsAway { route, why: &why }),
            Some(why) if !is_away => tell(Event::TenantUnreadable { route, why: &why }),
            _ if was_away && !is_away => tell(Event::TenantsBack { route }),
            _ => {}
        }
    }

    pub fn forget_age(&self) {
        let now = u32::try_from(clock::now().mono.as_secs()).unwrap_or(u32::MAX);
        self.since.store(now.saturating_add(1), Ordering::Relaxed);
    }

    /// What was just looked up.
    fn remembered(&self, route: &Route, name: &str, now: Duration) -> Keys {
        self.cache.get(name, now).map_or(Keys::Unavailable, |found| self.keys(route, name, &found))
    }

    /// Whether it is used without asking. Of a name that is no tenant's that is so for as long as of one that is:
    /// if its signature does not hold, which it never does, the source is asked again.
    fn is_good(&self, found: &Remembered) -> bool {
        found.age < self.from.cache && found.at >= self.since.load(Ordering::Relaxed)
    }

    fn keys(&self, route: &Route, name: &str, found: &Remembered) -> Keys {
        let tenant = Some(Arc::from(name));
        let ring = ring::ring(route, tenant, &found.secrets(), self.from.short_allowed);
        Keys::Found(Arc::new(KeyRing { is_decoy: !found.is_known, ..ring }))
    }

    /// Asks the source, and remembers what it says; `false` if it cannot say. Who asks for a name that is
    /// asked for already waits for that answer.
    async fn ask(self: &Arc<Self>, name: &str, is_new: bool, now: Duration) -> bool {
        let mut answered = {
            let mut asking = lock(&self.asking);
            match asking.get(name) {
                Some(answered) => answered.clone(),
                None => {
                    let most = if is_new { MOST_ASKED } else { 2 * MOST_ASKED };
                    if asking.len() >= most || !self.breaker.lets_through(now) {
                        self.metrics.looked_up(Lookup::Failed);
                        return false;
                    }
                    let (tell, answered) = watch::channel(None);
                    let name = Arc::<str>::from(name);
                    asking.insert(Arc::clone(&name), answered.clone());
                    let tenants = Arc::clone(self);
                    let question = Question { tenants, name, is_new, now, tell, is_answered: false };
                    tokio::spawn(question.ask());
                    answered
                }
            }
        };
        let answer = answered.wait_for(Option::is_some).await;
        answer.is_ok_and(|answer| *answer == Some(true))
    }

    /// A name that is no tenant's takes the same steps: there are as many secrets to it as there were before, or as
    /// the tenant had that was found last.
    fn remember(&self, name: &str, found: Result<Option<Vec<NamedSecret>>, Trouble>, now: Duration) -> bool {
        match found {
            Ok(found) => {
                self.breaker.succeeded();
                let is_known = found.is_some();
                self.metrics.looked_up(if is_known { Lookup::Found } else { Lookup::Unknown });
                let before = self.cache.get(name, now).map(|before| before.secrets());
                let last = lock(&self.decoys).clone();
                let like = found.unwrap_or(before.unwrap_or(last));
                let decoys = ring::decoys(&self.recipes, &like);
                let (secrets, decoys) = if is_known { (like, decoys) } else { (decoys, like) };
                self.cache.put(name, &secrets, is_known, now);
                if is_known {
                    *lock(&self.decoys) = decoys;
                }
                true
            }
            Err(trouble) => {
                self.metrics.looked_up(Lookup::Failed);
                let why = match trouble {
                    Trouble::Source(why) => {
                        self.breaker.failed(now);
                        why
                    }
                    Trouble::Tenant(why) => {
                        self.breaker.succeeded();
                        why
                    }
                };
                *lock(&self.trouble) = Some(why);
                false
            }
        }
    }
}

impl Source {
    fn new(place: &Where, store: ReplayStore) -> Self {
        match place {
            Where::Dir(path) => Source::Directory(Arc::new(Directory::new(path.clone()))),
            Where::Store(hash) => Source::Store(store, hash.clone()),
            Where::Socket(path) => Source::Socket(Socket::new(path.clone())),
        }
    }

    async fn secrets(
        &self,
        route: &str,
        name: &str,
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<Option<Vec<NamedSecret>>, Trouble> {
        match self {
            Source::Socket(socket) => socket.secrets(route, name).await,
            Source::Store(store, hash) => {
                let value = store.field(hash, name).await.map_err(Trouble::Source)?;
                value.map_or(Ok(None), |value| of_field(hash, name, &value))
            }
            Source::Directory(directory) => {
                let (directory, name) = (Arc::clone(directory), name.to_owned());
                // Files of a slow volume must not hold up deliveries.
                let read = tokio::task::spawn_blocking(move || {
                    let _place = place; // a thread that hangs keeps it, so that few of them hang
                    directory.secrets_evenly(&name)
                });
                match tokio::time::timeout(PATIENCE, read).await {
                    Ok(Ok(found)) => found,
                    Ok(Err(_)) | Err(_) => Err(Trouble::Source("the folder does not answer".to_owned())),
                }
            }
        }
    }
}

/// Looks the secrets of one tenant up, once and by itself; empty if there is no such tenant. It blocks.
pub fn ask_now(
    route: &str,
    from: &TenantSecrets,
    store: ReplayStore,
    tenant: &str,
) -> Result<Vec<NamedSecret>, String> {
    let asked = at_once(async { Source::new(&from.place, store).secrets(route, tenant, None).await })?;
    asked.map(Option::unwrap_or_default).map_err(Trouble::into_words)
}

/// Waits for it, outside of a gate.
pub fn at_once<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    Ok(runtime.map_err(|error| error.to_string())?.block_on(work))
}

/// A field of the hash: the secret itself, or what a socket would answer.
fn of_field(hash: &str, name: &str, value: &[u8]) -> Result<Option<Vec<NamedSecret>>, Trouble> {
    if value.trim_ascii_start().starts_with(b"{") {
        return answer::secrets(value).map_err(|why| Trouble::Tenant(format!("{name} in {hash}: {why}")));
    }
    if value.len() > MOST_TEXT {
        return Err(Trouble::Tenant(format!("{name} in {hash} is larger than {} KiB", MOST_TEXT >> 10)));
    }
    let (secret, _) = Secret::from_bytes(value.to_vec());
    let named = NamedSecret { id: name.into(), secret, not_after_ms: None };
    Ok((!named.secret.is_empty()).then(|| vec![named]))
}

/// A question that is under way. However it ends, those who wait are told.
struct Question {
    tenants: Arc<Tenants>,
    name: Arc<str>,
    /// Nothing is remembered of it.
    is_new: bool,
    /// When it was asked.
    now: Duration,
    tell: watch::Sender<Option<bool>>,
    is_answered: bool,
}

impl Question {
    async fn ask(mut self) {
        let places = Arc::clone(&self.tenants.places[usize::from(self.is_new)]);
        // Who has waited for so long in vain is told to come again.
        let Ok(Ok(place)) = tokio::time::timeout(PATIENCE, places.acquire_owned()).await else {
            return self.tenants.metrics.looked_up(Lookup::Failed);
        };
        let found = self.tenants.source.secrets(&self.tenants.route, &self.name, Some(place)).await;
        self.is_answered = self.tenants.remember(&self.name, found, self.now);
    }
}

impl Drop for Question {
    /// Who asks from now on is not told what was found before.
    fn drop(&mut self) {
        lock(&self.tenants.asking).remove(&self.name);
        self.tell.send_replace(Some(self.is_answered));
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::Config;
    use crate::config::flags::{Given, RunArgs};
    use crate::config::provider;
    use crate::config::raw::SchemeWords;
    use crate::config::route::{Elsewhere, KeyedRoute};
    use crate::gate::scheme::key::KeyDecoding;
    use crate::store::Memory;
    use crate::telemetry::metrics::Metrics;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("hookgate-of-tenants-{name}-{}", std::process::id()));
            _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(path.join("in")).unwrap();
            Folder(path)
        }

        fn put(&self, tenant: &str) {
            std::fs::write(
                self.0.join("in").join(tenant),
                format!("a secret of {tenant}, and nobody else's"),
            )
            .unwrap();
        }

        /// The route, and its tenants with these settings.
        fn tenants(&self, provider: &str, settings: &str) -> (Route, Arc<Tenants>) {
            let file = self.0.join("hookgate.yaml");
            let dir = self.0.join("in");
            let route = format!("name: t, path: '/t/{{tenant}}', provider: {provider}");
            let secrets = format!("{{ dir: {}, {settings} }}", dir.display());
            std::fs::write(
                &file,
                format!("insecure_allow_http: true\nroutes:\n  - {{ {route}, secrets: {secrets} }}\n"),
            )
            .unwrap();
            let args = RunArgs { config: Some(file.into()), ..RunArgs::default() };
            let mut config =
                Config::load(&Given::flags(args)).unwrap_or_else(|problems| panic!("{problems}"));
            let KeyedRoute { route, elsewhere, .. } = config.routes.remove(0);
            let Some(Elsewhere::Tenants(from)) = elsewhere else { panic!("it has tenants") };
            let store =
                ReplayStore::Memory(Memory::new(config.startup.replay, config.startup.stale_after, 1));
            let counters = Metrics::new().tenants("t");
            let tenants = Arc::new(Tenants::new(&route, from, store, counters));
            (route, tenants)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn told(keys: &Keys) -> &str {
        match keys {
            Keys::Found(ring) if ring.is_decoy => "a decoy",
            Keys::Found(ring) => ring.tenant.as_deref().unwrap_or("whose?"),
            Keys::OfRoute => "the route's own",
            Keys::Unavailable => "nobody can say",
        }
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn while_the_source_is_away_for_an_hour_known_tenants_go_on() {
        let folder = Folder::new("hour");
        folder.put("acme");
        let (route, tenants) = folder.tenants("github", "cache: 10s, negative: 10s");
        let at = Duration::from_secs;
        run(async {
            let start = at(1000);
            assert_eq!(told(&tenants.look_up_at(&route, Some("acme"), start).await), "acme");
            assert_eq!(told(&tenants.look_up_at(&route, Some("initech"), start).await), "a decoy");
            std::fs::rename(folder.0.join("in"), folder.0.join("away")).unwrap();
            for second in (0..=3600).step_by(5) {
                let now = start + at(second);
                assert_eq!(told(&tenants.look_up_at(&route, Some("acme"), now).await), "acme", "{second}");
                let unknown = tenants.look_up_at(&route, Some("initech"), now).await;
                let expected = if second < 10 { "a decoy" } else { "nobody can say" };
                assert_eq!(told(&unknown), expected, "{second}");
                let never = tenants.look_up_at(&route, Some("globex"), now).await;
                assert_eq!(told(&never), "nobody can say", "{second}");
            }
            std::fs::rename(folder.0.join("away"), folder.0.join("in")).unwrap();
            std::fs::remove_file(folder.0.join("in").join("acme")).unwrap();
            let later = start + at(3700);
            assert_eq!(told(&tenants.look_up_at(&route, Some("acme"), later).await), "a decoy", "it is gone");
        });
    }

    #[test]
    fn a_removed_key_is_used_for_as_long_as_the_cache_says_and_no_longer() {
        let folder = Folder::new("removed");
        folder.put("acme");
        let (route, tenants) = folder.tenants("github", "cache: 60s");
        run(async {
            let look = |second| tenants.look_up_at(&route, Some("acme"), Duration::from_secs(second));
            assert_eq!(told(&look(100).await), "acme");
            std::fs::remove_file(folder.0.join("in").join("acme")).unwrap();
            assert_eq!(told(&look(159).await), "acme");
            assert_eq!(told(&look(160).await), "a decoy");
        });
    }

    /// For every preset, and secrets of every form: keys that nobody has fit the same schemes, and are as many and
    /// as long as those of a tenant.
    #[test]
    fn keys_that_nobody_has_are_like_those_of_a_tenant() {
        use crate::gate::scheme::Recipe;
        const FORMS: [&str; 14] = [
            "plain words, and more than enough of them",
            "a-secret-of-at-least-sixteen-bytes",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_YSBrZXkgdGhhdCBvcGVucyBub3RoaW5nIGVsc2U=",
            "YSBrZXkgdGhhdCBvcGVucyBub3RoaW5nIGU",
            "YSBrZXkgdGhhdCBvcGVucyBub3RoaW5nIGVs+/==",
            "0123456789abcdef0123456789abcdef",
            "0123456789ABCDEF0123456789ABCDEF01",
            "0123456789abcdef0123456789abcdef0",
            "8f2b.plain",
            "short",
            "\u{e9}\u{fb01} is not ASCII, \u{2460}",
            "a key that is longer than a block of SHA-256 has bytes, so it is hashed before it is used",
            "-----BEGIN",
        ];
        for (name, _) in provider::PRESETS {
            let preset = provider::preset(name).unwrap();
            // A route with files instead of published keys is an error, where those are not written as files are.
            let takes_files =
                |scheme: &SchemeWords| scheme.keys.is_none() || scheme.key.decode == KeyDecoding::Spki;
            if !preset.schemes.iter().all(takes_files) {
                continue;
            }
            let recipes: Vec<_> = (preset.schemes.iter())
                .map(|scheme| crate::config::scheme::compile(scheme, None, None).unwrap())
                .collect();
            let keys =
                |secrets: &[NamedSecret], recipe: &Recipe| provider::keys(recipe, secrets, false).0.len();
            let first = ring::decoys(&recipes, &[]);
            assert!(recipes.iter().any(|recipe| keys(&first, recipe) == 1), "{name}");
            let forms = FORMS.map(|form| {
                vec![NamedSecret {
                    id: "k".into(),
                    secret: Secret::exact(form.as_bytes()),
                    not_after_ms: Some(7),
                }]
            });
            for like in forms.iter().chain([&first]) {
                let told = String::from_utf8_lossy(like[0].secret.expose());
                let decoys = ring::decoys(&recipes, like);
                let [decoy] = &*decoys else { panic!("{name}: one for one") };
                assert_eq!((&*decoy.id, decoy.not_after_ms), (&*like[0].id, like[0].not_after_ms));
                let is_shared = !recipes.iter().any(|recipe| recipe.algorithm.is_public());
                assert!(!is_shared || decoy.secret.expose() != like[0].secret.expose(), "{name}: {told}");
                for recipe in &recipes {
                    let length =
                        |secret: &NamedSecret| recipe.key.decode(secret.secret.expose()).map(|key| key.len());
                    assert_eq!(keys(&decoys, recipe), keys(like, recipe), "{name}: {told}");
                    assert!(!is_shared || length(decoy) == length(&like[0]), "{name}: {told}");
                }
            }
        }
    }
}
