//! What has become of each route's deliveries, check by check, and whether a route that
//! observes could enforce without losing anything. Read as JSON by `hookgate report`, and
//! by the page.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Now;
use crate::clock::to_rfc3339;
use crate::config::units::{ByteSize, Rate, Span, distinct};
use crate::gate::filter::https::Https;
use crate::gate::filter::ip_allowlist::IpAllowlist;
use crate::gate::filter::rate_limit::Quota;
use crate::gate::filter::signature::Scheme;
use crate::gate::identity;
use crate::gate::reason::{Reason, Verdict};
use crate::gate::route::{Mode, Route, Stops};
use crate::gate::scheme::timestamp::TimestampRule;
use crate::inbox::{Depth, Inbox};
use crate::proxy::Sidecar;
use crate::proxy::live::Live;
use crate::telemetry::activity::{Activity, Counts, Tally};
use crate::telemetry::tenants::Tenants;

/// The answer of `/report`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When it was made.
    pub at: String,
    pub routes: Vec<RouteReport>,
    /// What has become of the last deliveries of the tenant that was asked for, on each route that it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<TenantReport>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantReport {
    pub route: String,
    pub tenant: String,
    pub ends: Vec<End>,
}

/// How deliveries ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub verdict: String,
    pub reason: String,
    pub count: u64,
    pub first: String,
    pub last: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteReport {
    pub route: String,
    pub provider: String,
    pub path: String,
    /// `enforce`, `observe` or `pass`.
    pub mode: String,
    /// When the counting began: the start, or when the route came.
    pub since: String,
    pub seen: u64,
    /// Deliveries that passed every check.
    pub accepted: u64,
    /// When one last did.
    pub last_accepted: Option<String>,
    /// Deliveries that were refused: by their checks, or by a limit that holds in either mode.
    pub refused: u64,
    /// Deliveries that went through and would have been refused. A duplicate is none: the
    /// application has had it.
    pub would_refuse: u64,
    /// Only of a route that observes.
    pub safe_to_enforce: Option<bool>,
    pub verdict: String,
    /// What its sender does not repeat, and when it stops sending, and how far that is; absent where no page of it
    /// says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// What of it is in the inbox; only where something is, or could be.
    #[serde(default)]
    pub inbox: Option<InboxReport>,
    /// In the order in which they are made.
    pub checks: Vec<Check>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub check: String,
    /// What it demands of this route.
    pub demands: String,
    /// Whether it can refuse anything.
    pub in_force: bool,
    pub refused: u64,
    pub would_refuse: u64,
    /// Only those that came.
    pub reasons: Vec<Objection>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objection {
    pub reason: String,
    pub refused: u64,
    pub would_refuse: u64,
    pub first: String,
    pub last: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxReport {
    /// To be delivered.
    pub stored: u64,
    /// Given up.
    pub dead: u64,
    /// Cannot be read.
    pub damaged: u64,
    pub bytes: u64,
    /// When the oldest of those came that are to be delivered.
    pub oldest: Option<String>,
    /// The application is taken to be away: one event in a while asks whether it is back.
    pub waits: bool,
}

impl InboxReport {
    fn of(sidecar: &Sidecar, route: &Route, depths: &BTreeMap<String, Depth>) -> Option<Self> {
        let depth = depths.get(&*route.name);
        let Depth { stored, dead, damaged, bytes, oldest_ms } =
            depth.copied().or_else(|| route.stores.then(Depth::default))?;
        let oldest = oldest_ms.map(moment);
        Some(InboxReport {
            stored,
            dead,
            damaged,
            bytes,
            oldest,
            waits: sidecar.breakers.is_away(&route.name),
        })
    }

    pub fn in_words(&self) -> String {
        let InboxReport { stored, dead, damaged, oldest, waits, .. } = self;
        let mut words = format!("{stored} stored");
        if let Some(oldest) = oldest {
            _ = write!(words, " (the oldest came {oldest})");
        }
        _ = write!(words, ", {dead} given up");
        if *damaged > 0 {
            _ = write!(words, ", {damaged} that cannot be read");
        }
        if *waits && *stored > 0 {
            words += "; the application does not take them: one asks in a while whether it is back";
        }
        words
    }
}

/// The checks that a route makes, as people tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Method,
    Https,
    Address,
    Rate,
    Handshake,
    Body,
    Signature,
    Freshness,
    Events,
    Replay,
}

impl Step {
    const ALL: [Step; 10] = [
        Step::Method,
        Step::Https,
        Step::Address,
        Step::Rate,
        Step::Handshake,
        Step::Body,
        Step::Signature,
        Step::Freshness,
        Step::Events,
        Step::Replay,
    ];

    const fn name(self) -> &'static str {
        match self {
            Step::Method => "method",
            Step::Https => "https",
            Step::Address => "address",
            Step::Rate => "rate",
            Step::Handshake => "handshake",
            Step::Body => "body",
            Step::Signature => "signature",
            Step::Freshness => "freshness",
            Step::Events => "events",
            Step::Replay => "replay",
        }
    }

    /// The check that refuses for this reason; `None` if none of a route's does.
    const fn of(reason: Reason) -> Option<Step> {
        Some(match reason {
            Reason::MethodNotAllowed => Step::Method,
            Reason::HttpsRequired => Step::Https,
            Reason::AddressDenied => Step::Address,
            Reason::RateLimited => Step::Rate,
            Reason::HandshakeRefused => Step::Handshake,
            Reason::BodyTooLarge | Reason::BodyTimeout | Reason::BodyMalformed => Step::Body,
            Reason::SignatureMissing | Reason::SignatureMalformed | Reason::SignatureMismatch => {
                Step::Signature
            }
            Reason::TimestampMissing | Reason::TimestampStale | Reason::TimestampFuture => Step::Freshness,
            Reason::Filtered => Step::Events,
            Reason::Duplicate | Reason::InFlight => Step::Replay,
            Reason::Accepted
            | Reason::Handshake
            | Reason::FramingInvalid
            | Reason::HeadersTooLarge
            | Reason::RouteUnmatched
            | Reason::Overloaded
            | Reason::StoreUnavailable
            | Reason::Stored
            | Reason::UpstreamFailed
            | Reason::UpstreamStatus
            | Reason::UpstreamTimeout
            | Reason::UpstreamUnreachable => return None,
        })
    }

    /// What the check demands, and whether it can refuse anything.
    fn demands(self, route: &Route, replay_window: Duration) -> (String, bool) {
        let passes = route.mode == Mode::Pass;
        match self {
            Step::Signature | Step::Freshness | Step::Events | Step::Replay if passes => {
                ("off: what comes is passed on".to_owned(), false)
            }
            Step::Method if passes => ("off: any method".to_owned(), false),
            Step::Method => (words(route.methods.iter().map(http::Method::as_str)), true),
            Step::Https => match route.https {
                Https::Required => ("HTTPS".to_owned(), true),
                Https::Optional => ("off: plain HTTP is taken".to_owned(), false),
            },
            Step::Address => match &route.allowlist {
                IpAllowlist::Any => ("off: any address".to_owned(), false),
                IpAllowlist::Networks(list) => (several(list.len(), "network"), true),
            },
            Step::Rate => {
                let requests = route.rate_limit.as_ref().map(|limit| rate(limit.quota()));
                let failures = route.failure_budget.as_ref().map(|budget| rate(budget.quota()));
                let limits = [
                    requests.map(|rate| format!("{rate} per address")),
                    failures.map(|rate| format!("{rate} failed signatures")),
                ];
                let limits: Vec<_> = limits.into_iter().flatten().collect();
                if limits.is_empty() { ("off".to_owned(), false) } else { (limits.join(", "), true) }
            }
            Step::Handshake if route.handshakes.is_empty() => ("none".to_owned(), false),
            Step::Handshake => ("what the provider asks".to_owned(), true),
            Step::Body => (format!("at most {}", ByteSize(route.max_body)), true),
            Step::Signature if route.signature.awaits_keys() => {
                ("its secret is missing: everything is answered 503".to_owned(), true)
            }
            Step::Signature => {
                let schemes = route.signature.schemes().iter().map(|scheme| scheme_in_words(route, scheme));
                (words(schemes.collect::<Vec<_>>().iter().map(String::as_str)), true)
            }
            Step::Freshness => {
                let schemes = route.signature.every_scheme().map(Scheme::recipe);
                let each = distinct(schemes.map(|recipe| match &recipe.timestamp {
                    None => "off: the provider signs no time".to_owned(),
                    Some(TimestampRule { tolerance, future_tolerance, .. }) => {
                        format!("at most {} old, {} ahead", Span(*tolerance), Span(*future_tolerance))
                    }
                }));
                (each.join(" or "), route.freshness_window().is_some())
            }
            Step::Events => match route.signature.events() {
                None => ("all".to_owned(), false),
                Some(events) => (events.to_string(), true),
            },
            Step::Replay if route.signature.identity() == identity::Rule::None => {
                ("off: nothing is remembered".to_owned(), false)
            }
            Step::Replay => {
                let window = route.signature.window().unwrap_or(replay_window);
                (format!("first seen within {}", Span(window)), true)
            }
        }
    }
}

fn scheme_in_words(route: &Route, scheme: &Scheme) -> String {
    let recipe = scheme.recipe();
    let algorithm = serde_json::to_value(recipe.algorithm).ok();
    let algorithm = algorithm.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default();
    let places = recipe.signature.from.iter().map(ToString::to_string);
    let places: Vec<_> =
        places.map(|place| place.strip_prefix("header:").unwrap_or(&place).to_owned()).collect();
    let places = places.join(" or ");
    let fitting = |id: &str| scheme.keys().iter().any(|key| *key.id == *id);
    let keys = route.rotation.keys().iter().filter(|key| fitting(&key.id)).count();
    format!("{algorithm} in {places} ({})", several(keys, "key"))
}

fn rate(quota: Quota) -> Rate {
    let (count, period) = quota.limit();
    // What the quota has rounded up is less than anybody configures.
    let period = Duration::from_millis(u64::try_from(period.as_millis()).unwrap_or(u64::MAX));
    Rate::Limit { count: u32::try_from(count).unwrap_or(u32::MAX), period }
}

/// To the second.
fn moment(ms: i64) -> String {
    to_rfc3339(ms.div_euclid(1000) * 1000)
}

fn words<'w>(list: impl Iterator<Item = &'w str>) -> String {
    list.collect::<Vec<_>>().join(", ")
}

fn several(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

impl Report {
    pub fn of(sidecar: &Sidecar, live: &Live, replay_window: Duration, now: Now) -> Report {
        let depths = sidecar.inbox.as_ref().map(Inbox::depths).unwrap_or_default();
        let routes = live.routes().map(|(route, metrics)| RouteReport {
            inbox: InboxReport::of(sidecar, route, &depths),
            ..RouteReport::of(route, &metrics.activity, replay_window, now)
        });
        Report { at: moment(now.wall_ms), routes: routes.collect(), tenants: Vec::new() }
    }
}

/// What is known of a tenant, on each route that has it.
pub fn of_tenant(live: &Live, known: &Tenants, tenant: &str) -> Vec<TenantReport> {
    let of_route = |route: &Route| {
        let ends = known.of(&route.name, tenant).into_iter().map(|(verdict, reason, tally)| End {
            verdict: verdict.label().to_owned(),
            reason: reason.label().to_owned(),
            count: tally.count,
            first: moment(tally.first_ms),
            last: moment(tally.last_ms),
        });
        let ends: Vec<_> = ends.collect();
        let named = || TenantReport { route: route.name.to_string(), tenant: tenant.to_owned(), ends };
        (route.tenant.is_some()).then(named).filter(|report| !report.ends.is_empty())
    };
    live.routes().filter_map(|(route, _)| of_route(route)).collect()
}

impl RouteReport {
    fn of(route: &Route, activity: &Activity, replay_window: Duration, now: Now) -> RouteReport {
        let counts = activity.counts();
        let checks = Step::ALL.map(|step| check(step, route, replay_window, &counts));
        // A handshake or anything else that this route does not make is left out, unless it came.
        let always = |c: &Check| !matches!(&*c.check, "handshake" | "events");
        let checks = checks.into_iter().filter(|c| always(c) || c.in_force || c.refused > 0);
        let ended = Reason::ALL.iter().zip(&counts.ended);
        let mut report = RouteReport {
            route: route.name.to_string(),
            provider: route.provider.to_string(),
            path: route.path.to_string(),
            mode: mode(route.mode).to_owned(),
            since: moment(activity.since_ms),
            seen: counts.seen(),
            accepted: counts.clean.count,
            last_accepted: (counts.clean.count > 0).then(|| moment(counts.clean.last_ms)),
            refused: ended.filter(|(r, _)| r.verdict() == Verdict::Refused).map(|(_, t)| t.count).sum(),
            would_refuse: counts.unsafe_to_refuse,
            safe_to_enforce: None,
            verdict: String::new(),
            sender: of_sender(route, &counts, now),
            inbox: None,
            checks: checks.collect(),
        };
        (report.safe_to_enforce, report.verdict) = judge(route.mode, &report, &counts);
        report
    }
}

fn of_sender(route: &Route, counts: &Counts, now: Now) -> Option<String> {
    let once = route.never_repeated.then(|| {
        let ended = Reason::ALL.iter().zip(&counts.ended);
        let failed: u64 = ended.filter(|(r, _)| r.verdict() == Verdict::Failed).map(|(_, t)| t.count).sum();
        let lost = match failed {
            0 => String::new(),
            1 => ": of those that came, 1 is lost".to_owned(),
            n => format!(": of those that came, {n} are lost"),
        };
        format!("the provider does not repeat what fails{lost}")
    });
    let stops = route.stops.as_ref().map(|stops| patience(stops, &counts.failing, now));
    let told: Vec<_> = once.into_iter().chain(stops).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// When the sender stops sending, and how much of that is used up. It may count more than the gate knows of.
fn patience(stops: &Stops, failing: &Tally, now: Now) -> String {
    let mut told = format!("the provider stops sending {}", stops.when);
    if failing.count > 0 {
        let of = stops.failures.map(|most| format!(" of {most}")).unwrap_or_default();
        let seconds = u64::try_from((now.wall_ms - failing.first_ms) / 1000).unwrap_or_default();
        let lasts = Span(Duration::from_secs(seconds));
        let within = stops.after.map(|after| format!(" of {}", Span(after))).unwrap_or_default();
        _ = write!(told, "; failed in a row by now: {}{of}, for {lasts}{within}", failing.count);
    }
    told
}

/// Whether the gate answers for this reason as the application would have: nothing is refused.
pub fn is_answered(label: &str) -> bool {
    Reason::ALL.iter().any(|reason| reason.label() == label && reason.verdict() == Verdict::Answered)
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
        Mode::Pass => "pass",
    }
}

fn check(step: Step, route: &Route, replay_window: Duration, counts: &Counts) -> Check {
    let (demands, in_force) = step.demands(route, replay_window);
    let all = Reason::ALL.iter().zip(&counts.ended).zip(&counts.objections);
    let reasons: Vec<Objection> = all
        .filter(|((reason, _), _)| Step::of(**reason) == Some(step))
        .filter_map(|((reason, ended), objections)| objection(*reason, ended, objections))
        .collect();
    Check {
        check: step.name().to_owned(),
        demands,
        in_force,
        refused: reasons.iter().map(|r| r.refused).sum(),
        would_refuse: reasons.iter().map(|r| r.would_refuse).sum(),
        reasons,
    }
}

fn objection(reason: Reason, ended: &Tally, objections: &Tally) -> Option<Objection> {
    let came = [ended, objections].into_iter().filter(|tally| tally.count > 0);
    let first = came.clone().map(|tally| tally.first_ms).min()?;
    let last = came.map(|tally| tally.last_ms).max()?;
    Some(Objection {
        reason: reason.label().to_owned(),
        refused: ended.count,
        would_refuse: objections.count,
        first: moment(first),
        last: moment(last),
    })
}

/// Whether the route could enforce, and why.
fn judge(mode: Mode, report: &RouteReport, counts: &Counts) -> (Option<bool>, String) {
    match mode {
        Mode::Enforce => return (None, "it enforces".to_owned()),
        Mode::Pass => return (None, "it passes on what comes, unverified".to_owned()),
        Mode::Observe => {}
    }
    if report.seen == 0 {
        return (Some(false), "not safe to enforce yet: nothing has been seen".to_owned());
    }
    let deliveries = if report.seen == 1 { "delivery" } else { "deliveries" };
    if report.would_refuse > 0 {
        let for_what = report
            .checks
            .iter()
            .flat_map(|check| &check.reasons)
            .filter(|objection| objection.would_refuse > 0 && !is_answered(&objection.reason));
        let for_what: Vec<_> = for_what
            .map(|o| match o.would_refuse {
                1 => format!("{} once ({})", o.reason, o.last),
                n => format!("{} {n} times (last {})", o.reason, o.last),
            })
            .collect();
        let verdict = format!(
            "not safe to enforce: {} of {} {deliveries} would have been refused: {}",
            report.would_refuse,
            report.seen,
            for_what.join(", ")
        );
        return (Some(false), verdict);
    }
    if report.accepted == 0 {
        let verdict = format!(
            "not safe to enforce yet: of {} {deliveries} none was accepted, so nothing is known of genuine ones",
            report.seen
        );
        return (Some(false), verdict);
    }
    let mut verdict = format!(
        "safe to enforce: none of {} {deliveries} would have been kept from the application",
        report.seen
    );
    let place = Reason::ALL.iter().position(|reason| *reason == Reason::Duplicate);
    let duplicates = place.map_or(0, |place| counts.objections[place].count);
    if duplicates > 0 {
        _ = write!(verdict, "; duplicates that the gate would have answered itself: {duplicates}");
    }
    (Some(true), verdict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::flags::{Given, RunArgs};
    use crate::config::route::words::RouteWords;
    use crate::gate::filter::signature::Signature;

    fn route_of(provider: &str) -> Route {
        let args = RunArgs {
            route: RouteWords {
                provider: Some(provider.to_owned().into()),
                secrets: Some(vec![std::path::PathBuf::from("tests/config/secret").into()]),
                ..RouteWords::default()
            },
            ..RunArgs::default()
        };
        Config::load(&Given::flags(args))
            .unwrap_or_else(|problems| panic!("{problems}"))
            .routes
            .remove(0)
            .route
    }

    #[test]
    fn what_the_schemes_of_a_route_demand_is_told_of_each() {
        let mut route = route_of("clerk");
        let (schemes, window) = (route.signature.schemes().to_vec(), Duration::from_secs(3600));
        let told = |route: &Route| Step::Freshness.demands(route, window);
        assert_eq!(told(&route), ("at most 5m old, 5m ahead".to_owned(), true), "alike is told once");
        for (of_second, shown) in [
            (Some(2), "at most 5m old, 5m ahead or at most 2h old, 5m ahead"),
            (None, "at most 5m old, 5m ahead or off: the provider signs no time"),
        ] {
            let mut second = schemes[1].recipe().clone();
            second.timestamp = of_second.and_then(|hours| {
                let tolerance = Duration::from_secs(hours * 3600);
                Some(TimestampRule { tolerance, ..second.timestamp.clone()? })
            });
            let second = Scheme::new(second, schemes[1].keys().to_vec());
            route.signature = Signature::new(vec![schemes[0].clone(), second]);
            assert_eq!(told(&route), (shown.to_owned(), true));
        }
        let (signed, _) = Step::Signature.demands(&route_of("box"), window);
        assert!(signed.contains(" in box-signature-primary or box-signature-secondary ("), "{signed}");
    }

    #[test]
    fn what_an_observing_route_may_let_through_belongs_to_a_check() {
        for reason in Reason::ALL.into_iter().filter(|r| r.observable() && *r != Reason::Handshake) {
            assert!(Step::of(reason).is_some(), "{reason}");
        }
    }

    #[test]
    fn a_rate_is_told_as_it_was_configured() {
        for text in ["100/1m", "7/1m", "3/1s", "1/24h", "1000000/1s"] {
            let Rate::Limit { count, period } = text.parse().unwrap() else { panic!("a limit") };
            assert_eq!(rate(Quota::new(count, period).unwrap()).to_string(), text);
        }
    }
}
