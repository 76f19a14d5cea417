//! What one endpoint demands, and which endpoint a path leads to. [`chain`](super::chain) says in which
//! order its demands are judged.

use std::borrow::Borrow;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};

use super::delivery::Head;
use super::filter::failure_budget::FailureBudget;
use super::filter::https::Https;
use super::filter::ip_allowlist::IpAllowlist;
use super::filter::rate_limit::{Quota, RateLimit};
use super::filter::signature::Signature;
use super::handshake::Handshakes;
use super::identity::Rule;
use super::reason::{Answers, Reason};
use super::resign::Resign;
use super::rotation::Rotation;
use super::tenant::{TenantPlace, is_tenant};

/// What one endpoint demands. Immutable; a reload makes a new one.
pub struct Route {
    pub name: Arc<str>,
    pub provider: Arc<str>,
    pub path: PathPattern,
    /// Where deliveries name the tenant whose keys judge them, if customers share the route.
    pub tenant: Option<TenantPlace>,
    pub methods: Vec<Method>,
    pub https: Https,
    pub allowlist: IpAllowlist,
    pub rate_limit: Option<RateLimit>,
    pub failure_budget: Option<FailureBudget>,
    pub max_body: usize,
    pub signature: Signature,
    pub rotation: Rotation,
    /// Whether its schemes hold no keys, because they are looked up for each delivery.
    pub looks_keys_up: bool,
    pub handshakes: Handshakes,
    pub mode: Mode,
    /// How long may pass between two accepted events; judged by whoever watches, not by the chain.
    pub expect_every: Option<Duration>,
    pub answers: Answers,
    /// How long the sender waits, if that is less than the application may take.
    pub patience: Option<Duration>,
    pub deliver: Deliver,
    /// Whether what is proved and cannot be delivered is stored.
    pub stores: bool,
    /// How its events are signed for the application, if they are.
    pub resign: Option<Resign>,
    /// Whether the sender is known to send nothing again, so that what fails is lost.
    pub never_repeated: bool,
    /// When the sender stops sending to an endpoint that fails; judged by whoever watches.
    pub stops: Option<Stops>,
    /// Headers that this route gives a meaning to; spellings that look like them are removed.
    pub headers: Vec<HeaderName>,
    /// Secrets that could not be read yet. What needs them is refused until a reload brings them.
    pub awaits: Vec<Awaited>,
}

/// How much of a route reaches the application at once, and how fast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deliver {
    pub max_concurrent: Option<NonZeroUsize>,
    pub rate: Option<Quota>,
    /// How long a delivery may wait for its turn.
    pub wait: Duration,
}

impl Deliver {
    pub fn is_bounded(&self) -> bool {
        self.max_concurrent.is_some() || self.rate.is_some()
    }
}

/// When a sender stops sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stops {
    /// In words, to be read after "stops sending".
    pub when: Arc<str>,
    /// After so many failures in a row.
    pub failures: Option<u64>,
    /// After so long without a success.
    pub after: Option<Duration>,
}

/// A secret that is configured and not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// The key's id.
    pub key: Arc<str>,
    /// What was found instead.
    pub why: Arc<str>,
}

impl Awaited {
    /// What that means; `serves` if the route has other keys.
    pub fn in_words(&self, route: &str, serves: bool) -> String {
        let Awaited { key, why } = self;
        let means = if serves { "what needs it is refused" } else { "the route answers 503" };
        format!(
            "route {route}: the secret {key} is missing: {means} until it comes and a reload reads it; {why}"
        )
    }
}

/// Whether a route refuses, only says what it would have refused, or has nothing to do with webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Enforce,
    Observe,
    /// The application's other traffic: nothing is verified, and nothing is said to be. It names no
    /// methods and no schemes, so whoever forgets to ask for the mode refuses.
    Pass,
}

impl Route {
    /// The longest time for which a delivery stays fresh; `None` if no time is signed
    /// under one of the route's schemes.
    pub fn freshness_window(&self) -> Option<Duration> {
        self.signature.freshness_window()
    }

    /// How long its deliveries stay fresh, if the window of all routes is all that it has.
    pub fn fresh_within_window(&self) -> Option<Duration> {
        self.freshness_window().filter(|_| self.remembers() && self.signature.window().is_none())
    }

    /// Whether an event that it has delivered is known when it comes again.
    pub fn remembers(&self) -> bool {
        self.signature.identity() != Rule::None
    }

    /// The head, with the tenant that it names.
    pub fn named<'r>(&self, head: Head<'r>) -> Head<'r> {
        let Some(place) = &self.tenant else { return head };
        let tenant = place.in_head(&head, &self.path);
        let counted_as = tenant.map_or(head.client, |tenant| head.client.of_tenant(tenant));
        Head { counted_as, tenant, ..head }
    }

    /// The tenant that the body names. Limits have counted by then, and only by the client.
    pub fn named_in(&self, body: &[u8]) -> Option<String> {
        self.tenant.as_ref()?.in_body(body)
    }

    /// The route as it is demanded now, with what its limiters remembered before. State is no demand.
    #[must_use]
    pub fn adopting(mut self, before: &Route) -> Route {
        if let (Some(limit), Some(before)) = (&mut self.rate_limit, &before.rate_limit) {
            *limit = limit.adopting(before);
        }
        if let (Some(budget), Some(before)) = (&mut self.failure_budget, &before.failure_budget) {
            *budget = budget.adopting(before);
        }
        self
    }
}

/// The route of a raw path, or what stands for it: an exact match, else the longest prefix. The path is
/// compared as it was sent; nothing is decoded or normalised.
pub fn of_path<'e, E: Borrow<Route>>(all: &'e [E], path: &[u8]) -> Result<&'e E, Reason> {
    let pattern = |one: &'e E| &one.borrow().path;
    let fitting = all.iter().filter_map(|one| Some((pattern(one).matches(path)?, one)));
    let (rank, best) = fitting.max_by_key(|(rank, _)| *rank).ok_or(Reason::RouteUnmatched)?;
    if rank < usize::MAX && best.borrow().mode == Mode::Pass && is_shadowed(all, path, rank) {
        return Err(Reason::RouteUnmatched);
    }
    // Below a prefix an escape could spell the path of a route that demands another secret.
    let read = if rank < usize::MAX && path.contains(&b'%') { decoded(path) } else { None };
    if read.is_some_and(|read| all.iter().any(|other| pattern(other).is_read_in(&read, rank))) {
        return Err(Reason::RouteUnmatched);
    }
    Ok(best)
}

/// Whether an application that reads paths loosely would take this one, which no route verifies, for one
/// that a more special route does.
fn is_shadowed<E: Borrow<Route>>(all: &[E], path: &[u8], rank: usize) -> bool {
    let verified = all.iter().map(Borrow::borrow).filter(|other| other.mode != Mode::Pass);
    verified.map(|other| &other.path).any(|other| other.length() > rank && other.is_loosely(path))
}

/// A raw path; a trailing `*` makes it a prefix, a segment `{tenant}` stands for the name of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    Exact(String),
    Prefix(String),
    /// What stands before the name, and behind it.
    Tenant(String, String),
}

/// The segment that names a tenant.
const OPEN: &str = "{tenant}";
/// A pattern with an open segment beats every prefix, and no exact path.
const OPEN_RANK: usize = usize::MAX / 2;

impl PathPattern {
    /// How well the path fits: an exact match beats every prefix.
    fn matches(&self, path: &[u8]) -> Option<usize> {
        match self {
            PathPattern::Exact(exact) => (path == exact.as_bytes()).then_some(usize::MAX),
            PathPattern::Prefix(prefix) => {
                (path.starts_with(prefix.as_bytes()) && is_unambiguous(path)).then_some(prefix.len())
            }
            PathPattern::Tenant(before, _) => {
                self.open_segment(path).filter(|_| is_unambiguous(path)).map(|_| OPEN_RANK + before.len())
            }
        }
    }

    fn length(&self) -> usize {
        match self {
            PathPattern::Exact(path) | PathPattern::Prefix(path) => path.len(),
            PathPattern::Tenant(before, after) => before.len() + 1 + after.len(),
        }
    }

    /// What stands in the segment that is open. What can be no tenant fits no pattern.
    pub fn open_segment<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let PathPattern::Tenant(before, after) = self else { return None };
        let name = path.strip_prefix(before.as_bytes())?.strip_suffix(after.as_bytes())?;
        is_tenant(name).then_some(name)
    }

    /// Whether some application could read the path as one of this pattern. Frameworks drop a slash at the
    /// end, take capitals for small letters, and cut off what looks like a suffix (`.json`).
    pub fn is_loosely(&self, path: &[u8]) -> bool {
        let loosely = |path: &[u8]| Some(String::from_utf8(decoded(path)?).ok()?.to_lowercase());
        let Some(path) = loosely(path) else { return true };
        let begins = |pattern: &str| Some(path.strip_prefix(&loosely(pattern.as_bytes())?)?.to_owned());
        let ends_a_word =
            |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '-' | '_'));
        match self {
            PathPattern::Exact(exact) => {
                begins(exact.trim_end_matches('/')).is_some_and(|rest| ends_a_word(&rest))
            }
            PathPattern::Prefix(prefix) => match prefix.strip_suffix('/') {
                Some(folder) => begins(folder).is_some_and(|rest| ends_a_word(&rest)),
                None => begins(prefix).is_some(),
            },
            // Whatever an application takes for the name of a tenant.
            PathPattern::Tenant(before, after) => begins(before).is_some_and(|rest| {
                let name = rest.find(['/', ';']).unwrap_or(rest.len());
                let after = after.trim_end_matches('/').to_lowercase();
                name > 0 && rest[name..].strip_prefix(&after).is_some_and(ends_a_word)
            }),
        }
    }

    /// Whether a path that was decoded fits, and better than with that rank.
    fn is_read_in(&self, path: &[u8], rank: usize) -> bool {
        let is = |pattern: &str, fits: fn(&[u8], &[u8]) -> bool| {
            decoded(pattern.as_bytes()).is_some_and(|pattern| fits(path, &pattern))
        };
        match self {
            PathPattern::Exact(exact) => is(exact, <[u8]>::eq),
            PathPattern::Prefix(prefix) => prefix.len() > rank && is(prefix, <[u8]>::starts_with),
            PathPattern::Tenant(..) => rank < OPEN_RANK && self.open_segment(path).is_some(),
        }
    }
}

/// A path that every application reads alike, so that none is led out of a prefix: no segment is
/// empty or made of dots, and no character could be taken for the end of one.
fn is_unambiguous(path: &[u8]) -> bool {
    let mut segments = path.split(|b| *b == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let only_dots = segment.iter().all(|b| *b == b'.');
        let last_and_empty = segment.is_empty() && segments.peek().is_none();
        if only_dots && !last_and_empty {
            return false;
        }
    }
    // White space and controls are cut off or taken for an end somewhere. What only looks like a
    // dot or a slash (`%EF%BC%8F`) is a letter like others to every server of tests/servers.
    let plain = |text: &str| !text.contains(|c: char| c.is_control() || c.is_whitespace());
    decoded(path).is_some_and(|bytes| std::str::from_utf8(&bytes).is_ok_and(plain))
}

/// The path without its escapes. `None` if it holds what some servers give a meaning to: `;`
/// begins a segment's parameters, `\` is a slash, an escape may hide a mark that has a meaning as
/// it stands, or be none, and `%25` begins what may be decoded a second time.
fn decoded(path: &[u8]) -> Option<Vec<u8>> {
    const MARKS: &[u8] = b"./\\;?#%";
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.iter();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b';' | b'\\' => return None,
            b'%' => {
                let mut digit = || char::from(*bytes.next()?).to_digit(16);
                let escaped = u8::try_from(digit()? << 4 | digit()?).ok()?;
                (!MARKS.contains(&escaped)).then_some(escaped)?
            }
            plain => *plain,
        });
    }
    Some(decoded)
}

impl std::str::FromStr for PathPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("a path starts with '/': write /{text}"));
        }
        if text.contains(['?', '#', ' ']) {
            return Err(format!("\"{text}\" is more than a path: leave out '?', '#' and spaces"));
        }
        if text.contains(['{', '}']) {
            return open(text);
        }
        match text.strip_suffix('*') {
            // Something follows a prefix, so it may end with a dot, but not within an escape.
            Some(prefix) if !is_unambiguous(format!("{prefix}-").as_bytes()) => Err(format!(
                "\"{text}\" would fit nothing: below a prefix no path is taken that applications read in \
                 different ways; leave out '//', dot segments, ';', '\\' and their escapes"
            )),
            Some(prefix) if !prefix.contains('*') => Ok(PathPattern::Prefix(prefix.to_owned())),
            None if !text.contains('*') => Ok(PathPattern::Exact(text.to_owned())),
            _ => Err(format!("\"{text}\": '*' may stand at the end only")),
        }
    }
}

/// A path with an open segment.
fn open(text: &str) -> Result<PathPattern, String> {
    let pattern = text.split_once(OPEN).filter(|(before, after)| {
        before.ends_with('/')
            && (after.is_empty() || after.starts_with('/'))
            && !format!("{before}{after}").contains(['{', '}', '*'])
            && is_unambiguous(format!("{before}x{after}").as_bytes())
    });
    let (before, after) = pattern.ok_or_else(|| {
        format!(
            "\"{text}\" is no path with tenants: write {OPEN} once, as a whole segment between slashes and without '*', \
             as in /hooks/stripe/{OPEN}"
        )
    })?;
    Ok(PathPattern::Tenant(before.to_owned(), after.to_owned()))
}

impl std::fmt::Display for PathPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PathPattern::Exact(path) => f.write_str(path),
            PathPattern::Prefix(prefix) => write!(f, "{prefix}*"),
            PathPattern::Tenant(before, after) => write!(f, "{before}{OPEN}{after}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, path: &str) -> bool {
        pattern.parse::<PathPattern>().unwrap().matches(path.as_bytes()).is_some()
    }

    #[test]
    fn paths_are_compared_as_they_were_sent() {
        assert!(fits("/hooks/gh", "/hooks/gh"));
        for other in [
            "//hooks/gh",
            "/hooks//gh",
            "/hooks/./gh",
            "/x/../hooks/gh",
            "/hooks/gh/",
            "/hooks/gh;x",
            "/hooks/gh%2f",
            "/HOOKS/GH",
            "/hooks/gh%00",
            "/hooks\\gh",
            "/hooks/g%68",
        ] {
            assert!(!fits("/hooks/gh", other), "{other}");
        }
    }

    #[test]
    fn a_prefix_cannot_be_left() {
        assert!(fits("/public/*", "/public/a/b"));
        assert!(fits("/*", "/"));
        for out in [
            "/public/../hooks/gh",
            "/public/%2e%2e/hooks",
            "/public//x",
            "/public/%2Fx",
            "/public/\\x",
            "/public/.",
            "/public/%5cx",
            "/public/..;/admin",
            "/public/..;x=1/admin",
            "/public/.;/..;/admin",
            "/public/x;y",
            "/public/...",
            "/public/..%3b/admin",
            "/public/%252e%252e/admin",
            "/public/..%09",
            "/public/..%20/admin",
            "/public/x%0d%0a",
            "/public/x%7F",
            "/public/x%23",
            "/public/x%3F",
            "/public/%u002e%u002e/admin",
            "/public/%c0%ae%c0%ae/admin",
            "/public/%e0%80%ae",
            "/public/%ed%a0%80",
            "/public/%C3",
            "/public/%A9",
            "/public/%C3/%A9",
            "/public/..%C2%85/admin",
            "/public/..%E2%80%83/admin",
            "/public/%",
            "/public/%2",
            "/public/%+2",
            "/public/%zz",
        ] {
            assert!(!fits("/public/*", out), "{out}");
        }
        assert!(!fits("/a.*", "/a./../b"), "a segment begins within the prefix");
        assert!(!fits("/public/.*", "/public/../b"));
        assert!(fits("/public/.*", "/public/.well-known"));
    }

    #[test]
    fn below_a_prefix_names_of_every_language_fit() {
        for path in [
            "/public/",
            "/public/a/",
            "/public/a.b/c..d/..e",
            "/public/a-b_c~d!$&'()*+,=:@",
            "/public/%C3%A9",
            "/public/%c3%a9",
            "/public/%E6%97%A5%E6%9C%AC",
            "/public/%F0%9F%90%99",
            "/public/%40user%2B1",
            "/public/%EF%BC%8F%EF%BC%8E",
        ] {
            assert!(fits("/public/*", path), "{path}");
        }
    }

    #[test]
    fn an_open_segment_takes_one_name_and_nothing_else() {
        let tenant = |pattern: &str, path: &str| {
            let pattern = pattern.parse::<PathPattern>().unwrap();
            let fits = pattern.matches(path.as_bytes()).is_some();
            let name =
                pattern.open_segment(path.as_bytes()).map(|name| String::from_utf8_lossy(name).into_owned());
            assert_eq!(fits, name.is_some(), "{path}");
            name
        };
        for name in ["acme", "acct_1A2b", "shop.example.com", "-"] {
            let path = format!("/hooks/stripe/{name}");
            let expected = Some(name.to_owned());
            assert_eq!(tenant("/hooks/stripe/{tenant}", &path), expected, "{path}");
            assert_eq!(tenant("/t/{tenant}/stripe", &format!("/t/{name}/stripe")), expected);
        }
        for none in [
            "/hooks/stripe/",
            "/hooks/stripe",
            "/hooks/stripe/a/b",
            "/hooks/stripe/a/",
            "/hooks/stripe/.",
            "/hooks/stripe/..",
            "/hooks/stripe/...",
            "/hooks/stripe/..data",
            "/hooks/stripe/a%2fb",
            "/hooks/stripe/%61",
            "/hooks/stripe/a;b",
            "/hooks/stripe/a?b",
            "/HOOKS/stripe/a",
            "/hooks//stripe/a",
            "/x/../hooks/stripe/a",
            "/hooks/stripe/{tenant}",
            "/hooks/stripe/a\\b",
        ] {
            assert_eq!(tenant("/hooks/stripe/{tenant}", none), None, "{none}");
        }
        let shown = "/t/{tenant}/stripe".parse::<PathPattern>().unwrap();
        assert_eq!(shown.to_string(), "/t/{tenant}/stripe");
    }

    #[test]
    fn what_an_application_could_take_for_a_tenants_path_is_known() {
        let pattern: PathPattern = "/hooks/stripe/{tenant}".parse().unwrap();
        for like in [
            "/hooks/stripe/acme",
            "/HOOKS/Stripe/acme",
            "/hooks/stripe/acme/",
            "/hooks/stripe/%61cme",
            "/hooks/stripe/a.json",
        ] {
            assert!(pattern.is_loosely(like.as_bytes()), "{like}");
        }
        for other in ["/hooks/stripe", "/hooks/stripe/", "/hooks", "/"] {
            assert!(!pattern.is_loosely(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn patterns_that_cannot_match_are_refused() {
        for bad in [
            "hooks",
            "",
            "/a?b",
            "/a#b",
            "/a b",
            "/*/b",
            "/a**",
            "/a//*",
            "/../*",
            "/a;b/*",
            "/a%2f*",
            "/a%2*",
            "/{tenant}x",
            "/x{tenant}",
            "/{tenant}/{tenant}",
            "/{name}",
            "/{tenant}/*",
            "/a/{tenant",
            "/a//{tenant}",
        ] {
            assert!(bad.parse::<PathPattern>().is_err(), "{bad}");
        }
    }
}
