//! The tenants of a route: where deliveries name theirs, and where its secrets are looked up.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::Endpoint;
use super::words::RouteSecret;
use crate::config::application::LONGEST_SOCKET;
use crate::config::located::Located;
use crate::config::units::Span;
use crate::gate::route::{Awaited, PathPattern};
use crate::gate::scheme::Recipe;
use crate::gate::tenant::TenantPlace;

/// Where the secrets of tenants are looked up, and how long they are remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantSecrets {
    pub place: Where,
    /// How long what was found is used without asking again.
    pub cache: Duration,
    /// How long it is believed that there is no such tenant, and no newer secret.
    pub negative: Duration,
    /// How many tenants are kept in memory.
    pub max: usize,
    /// Whether keys may be of any length.
    pub short_allowed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    Dir(PathBuf),
    /// A hash in the store that gates share.
    Store(String),
    Socket(PathBuf),
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Where::Dir(path) | Where::Socket(path) => path.display().fmt(f),
            Where::Store(hash) => write!(f, "the store\'s hash {hash}"),
        }
    }
}

/// Files and the store are near, and what is removed there is to be refused soon.
const NEAR: Duration = Duration::from_secs(10);
const FAR: Duration = Duration::from_secs(600);
const NEGATIVE: Duration = Duration::from_secs(10);
const MAX: usize = 100_000;
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Some 200 bytes each: two gigabytes.
const MOST: usize = 10_000_000;

impl Endpoint<'_> {
    /// Where the route's deliveries name their tenant, if it has some.
    pub(super) fn tenant(&mut self, path: Option<&PathPattern>, recipes: &[Recipe]) -> Option<TenantPlace> {
        let key = self.key("tenant.from");
        let in_path = matches!(path, Some(PathPattern::Tenant(..)));
        let words = self.raw.tenant.as_ref();
        let place = match words.map(|words| &words.value.from) {
            None => in_path.then_some(TenantPlace::Path),
            Some(from) if in_path => {
                let message = "the path holds {tenant}: leave one of them out, a delivery has one tenant";
                self.loader.located_problem(&key, from, message);
                None
            }
            Some(from) => match from.value.parse::<TenantPlace>() {
                Ok(place) => {
                    self.loader.given(&key, &place, from);
                    if place.is_in_body() && !recipes.iter().all(is_json) {
                        let message = "this provider's body is not JSON by itself, so nothing in it can name the tenant \
                                       before it is verified: write {tenant} in the path, or header:…";
                        self.loader.located_problem(&key, from, message);
                    }
                    Some(place)
                }
                Err(message) => {
                    self.loader.located_problem(&key, from, message);
                    None
                }
            },
        };
        match (self.looks_keys_up, in_path || words.is_some()) {
            (false, true) if !self.raw.secrets.iter().flatten().any(is_of_tenants) => {
                let message = "tenants have secrets of their own: write secrets: { dir: … }, { store: … } or { socket: … }";
                self.problem("secrets", message);
            }
            (true, false) => {
                let message = "whose secrets? write {tenant} as a segment of the path, as in /hooks/stripe/{tenant}, or \
                               tenant: { from: \"header:X-Name\" }";
                self.problem("secrets", message);
            }
            _ => {}
        }
        place
    }

    /// Where its tenants' secrets are looked up; `None` if they are files of the route.
    pub(super) fn tenant_secrets(&mut self) -> Option<TenantSecrets> {
        let sources = self.raw.secrets.as_deref().unwrap_or_default();
        if !sources.iter().any(is_of_tenants) {
            return None;
        }
        let [source] = sources else {
            self.problem(
                "secrets",
                "tenants have one source: write one of dir, store and socket, and no list",
            );
            return None;
        };
        let RouteSecret { id, file, not_after, dir, store, socket, cache, negative, max } = source;
        if id.is_some() || file.is_some() || not_after.is_some() {
            let message =
                "id, file and not_after are of a single secret: leave them out beside dir, store or socket";
            self.problem("secrets", message);
        }
        let place = match (dir, store, socket) {
            (Some(dir), None, None) => self.tenants_dir(dir),
            (None, Some(hash), None) => self.tenants_hash(hash),
            (None, None, Some(socket)) => self.tenants_socket(socket),
            (None, None, None) => {
                let message =
                    "cache, negative and max are of tenants: name dir, store or socket, or leave them out";
                self.problem("secrets", message);
                return None;
            }
            _ => {
                self.problem("secrets", "tenants have one source: write one of dir, store and socket");
                return None;
            }
        };
        let near = if self.all.reload_interval.is_zero() { NEAR } else { self.all.reload_interval };
        let usual = if socket.is_some() { FAR } else { near.clamp(SHORTEST, LONGEST) };
        let cache = self.tenants_span("cache", cache.as_ref(), usual);
        let negative = self.tenants_span("negative", negative.as_ref(), NEGATIVE.min(cache));
        let key = self.key("secrets.max");
        let most = self.loader.pick(&key, max.as_ref(), MAX);
        if let Some(max) = max.as_ref().filter(|max| !(1..=MOST).contains(&max.value)) {
            let message = format!("{} is out of range: write at least 1 and at most {MOST}", max.value);
            self.loader.located_problem(&key, max, message);
        }
        let short_allowed = self.all.short_secret;
        Some(TenantSecrets { place, cache, negative, max: most, short_allowed })
    }

    fn tenants_span(&mut self, name: &str, given: Option<&Located<Span>>, usual: Duration) -> Duration {
        let key = self.key(&format!("secrets.{name}"));
        let Span(span) = self.loader.pick(&key, given, Span(usual));
        if let Some(given) = given.filter(|_| !(SHORTEST..=LONGEST).contains(&span)) {
            let (least, most) = (Span(SHORTEST), Span(LONGEST));
            let message =
                format!("{} is out of range: write at least {least} and at most {most}", given.value);
            self.loader.located_problem(&key, given, message);
        }
        span
    }

    /// A folder that is not there is as a file that is not: it may be mounted later.
    fn tenants_dir(&mut self, dir: &Located<PathBuf>) -> Where {
        let (key, shown) = (self.key("secrets.dir"), dir.value.display().to_string());
        self.loader.given(&key, &shown, dir);
        if !dir.value.is_absolute() && self.loader.is_for_elsewhere() {
            self.loader.located_problem(
                &key,
                dir,
                format!("{shown}: name the folder from the root, as the pod has it"),
            );
        } else if let Err(why) = self.loader.folder(&dir.value) {
            self.awaits.push(Awaited { key: "tenants".into(), why: why.as_str().into() });
            let problem = self.loader.problem_of(&key, dir, why);
            self.loader.missing(problem);
        }
        Where::Dir(dir.value.clone())
    }

    fn tenants_hash(&mut self, hash: &Located<String>) -> Where {
        let key = self.key("secrets.store");
        self.loader.given(&key, &hash.value, hash);
        if !self.all.may_share {
            let message = "is a hash in the store that gates share, and there is none: write replay: { store: redis://…, \
                           prefix: … }, or use dir or socket";
            self.loader.located_problem(&key, hash, message);
        }
        let plain = |c: char| c.is_ascii_graphic();
        if hash.value.is_empty() || hash.value.len() > 256 || !hash.value.chars().all(plain) {
            let message = "is no name of a hash: write up to 256 plain characters, such as tenants:stripe";
            self.loader.located_problem(&key, hash, message);
        }
        if hash.value.contains("://") {
            let message =
                "is the name of a hash, such as tenants:stripe; where the store is, replay.store says";
            self.loader.located_problem(&key, hash, message);
        }
        Where::Store(hash.value.clone())
    }

    fn tenants_socket(&mut self, socket: &Located<PathBuf>) -> Where {
        let (key, path) = (self.key("secrets.socket"), &socket.value);
        self.loader.given(&key, path.display(), socket);
        let text = path.as_os_str().as_encoded_bytes();
        if text.starts_with(b"unix:") {
            self.loader.located_problem(&key, socket, "is a path: leave out unix:");
        } else if !path.is_absolute() || text.len() > LONGEST_SOCKET || path.file_name().is_none() {
            let message =
                format!("is no path of a socket: name it from the root, in at most {LONGEST_SOCKET} bytes");
            self.loader.located_problem(&key, socket, message);
        }
        Where::Socket(path.clone())
    }
}

fn is_of_tenants(source: &RouteSecret) -> bool {
    let RouteSecret { id: _, file: _, not_after: _, dir, store, socket, cache, negative, max } = source;
    let place = dir.is_some() || store.is_some() || socket.is_some();
    place || cache.is_some() || negative.is_some() || max.is_some()
}

/// Whether bodies are JSON, as far as the scheme tells.
fn is_json(recipe: &Recipe) -> bool {
    recipe.payload.is_none() && !recipe.reads_form() && !recipe.reads_multipart()
}
