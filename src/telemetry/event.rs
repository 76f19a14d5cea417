//! What the program tells of itself, apart from deliveries: every event with its facts, and
//! the one place that gives it a name, a severity and words.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::SocketAddr;
use std::panic::Location;
use std::path::Path;
use std::time::Duration;

use super::log::Severity;
use crate::config::store::OnStoreError;
#[cfg(feature = "otel")]
use crate::config::units::OtlpEndpoint;
use crate::gate::rotation::Advice;
use crate::gate::route::Awaited;
use crate::inbox::database::{Opened, Salvaged};

/// What is said before how durable an event is in the store that gates share.
pub const IN_THE_STORE: &str = "the inbox is in the shared store: an event that was acknowledged is";

#[derive(Clone, Copy, Debug)]
pub enum Event<'e> {
    /// The configuration says something that its author may not have meant.
    Notice(&'e str),
    /// Every address is bound.
    Start {
        plain: &'e [SocketAddr],
        tls: &'e [SocketAddr],
        ops: Option<SocketAddr>,
    },
    /// A route, in the words of the configuration.
    Route(&'e str),
    Ready,
    /// A stop was asked for.
    Drain,
    /// All deliveries have ended.
    Idle,
    /// Deliveries were cut by the end.
    Cut,
    /// What of the new is in effect.
    Reloaded {
        changes: &'e str,
    },
    ReloadFailed {
        problems: &'e str,
    },
    /// What was read anew differs in what a reload cannot change.
    RestartNeeded {
        changes: &'e str,
    },
    /// A secret that is configured is not there.
    SecretMissing {
        route: &'e str,
        awaited: &'e Awaited,
        /// The route has other keys.
        serves: bool,
    },
    /// `told` is what the file says of itself; `torn` if its end was no whole record.
    ReplayFileRead {
        path: &'e Path,
        told: &'e str,
        torn: bool,
    },
    ReplayFileTrouble {
        message: &'e str,
    },
    ReplayFileMended,
    /// The file lacked something at the end.
    ReplayFileIncomplete,
    /// Where the secrets of tenants are looked up cannot be asked.
    TenantsAway {
        route: &'e str,
        why: &'e str,
    },
    TenantsBack {
        route: &'e str,
    },
    /// It can, and what it holds of a tenant cannot be read.
    TenantUnreadable {
        route: &'e str,
        why: &'e str,
    },
    /// What the state holds at the start.
    StateRead {
        path: &'e Path,
        opened: &'e Opened,
    },
    /// Where the inbox of the fleet has what it took, in words.
    InboxShared {
        durable: &'e str,
        is_safe: bool,
    },
    /// The inbox cannot write.
    InboxTrouble {
        message: &'e str,
    },
    InboxMended,
    /// It takes nothing more.
    InboxFull {
        bytes: u64,
    },
    /// Events of routes that are not configured.
    InboxParked {
        routes: &'e str,
        events: u64,
    },
    /// What the shelf of refused requests holds at the start.
    ShelfRead {
        kept: usize,
        aside: Option<&'e Path>,
    },
    /// It cannot be written.
    ShelfTrouble {
        message: &'e str,
    },
    ShelfMended,
    /// What is there at the end.
    InboxLeft {
        stored: u64,
        dead: u64,
    },
    StoreUp,
    StoreDown {
        /// Whether it answers, and does not do what it is asked.
        refuses: bool,
        reason: &'e str,
        meanwhile: OnStoreError,
    },
    /// It is up, and some calls fail.
    StoreFails {
        calls: u64,
        last: &'e str,
    },
    /// Fewer connections are taken than were asked for.
    FewFiles {
        asked: usize,
        may_have: u64,
        most: usize,
    },
    /// A connection ended before a request.
    Dropped(&'e str),
    /// No connection can be accepted.
    Starved {
        listener: &'e str,
        error: &'e std::io::Error,
    },
    ClockJumped {
        ms: i64,
    },
    Silence {
        route: &'e str,
        lasts: Duration,
        expected: Duration,
        objected: u64,
    },
    SilenceOver {
        route: &'e str,
        lasted: Duration,
    },
    Key {
        route: &'e str,
        key: &'e str,
        advice: Advice,
    },
    /// Keys are fetched, from these hosts.
    KeysFetched {
        hosts: &'e str,
    },
    /// Nothing could be had from an address of keys.
    KeysUnavailable {
        source: &'e str,
        url: &'e str,
        fault: &'e str,
    },
    KeysAgain {
        source: &'e str,
        url: &'e str,
    },
    /// What was fetched cannot be kept there, or what lies there is not believed.
    KeysNotKept {
        path: &'e Path,
        why: &'e str,
    },
    /// What a provider asked a route for was confirmed at that address.
    Confirmed {
        route: &'e str,
        url: &'e str,
    },
    NotConfirmed {
        route: &'e str,
        url: &'e str,
        fault: &'e str,
    },
    Panic {
        at: Option<&'e Location<'e>>,
    },
    /// A library underneath warns.
    Library {
        severity: Severity,
        message: &'e str,
    },
    #[cfg(feature = "otel")]
    SpansLost {
        collector: &'e OtlpEndpoint,
        error: &'e std::io::Error,
    },
    #[cfg(feature = "otel")]
    SpansArrive {
        collector: &'e OtlpEndpoint,
    },
}

impl Event<'_> {
    /// Its name, its severity, and what it says to people.
    #[expect(clippy::too_many_lines, reason = "one entry for each event")]
    pub(super) fn told(&self) -> (&'static str, Severity, Cow<'_, str>) {
        use Severity::{Error, Info, Warn};
        match *self {
            Event::Notice(notice) => ("hookgate.notice", Warn, notice.into()),
            Event::Start { plain, tls, ops } => ("hookgate.start", Info, listens(plain, tls, ops).into()),
            Event::Route(words) => ("hookgate.route", Info, words.into()),
            Event::TenantsAway { route, why } => (
                "hookgate.tenants",
                Error,
                format!(
                    "route {route}: the secrets of tenants cannot be looked up: those that are remembered go on, \
                     for others it answers 503; {why}"
                )
                .into(),
            ),
            Event::TenantsBack { route } => {
                ("hookgate.tenants", Info, format!("route {route}: the secrets of tenants can be looked up").into())
            }
            Event::TenantUnreadable { route, why } => (
                "hookgate.tenants",
                Error,
                format!("route {route}: the secrets of a tenant cannot be read: it answers 503 for it; {why}").into(),
            ),
            Event::Ready => ("hookgate.ready", Info, "every listener accepts".into()),
            Event::Drain => ("hookgate.drain", Info, "shutting down".into()),
            Event::Idle => ("hookgate.stop", Info, "idle, nothing was cut".into()),
            Event::Cut => (
                "hookgate.stop",
                Error,
                "the shutdown timeout passed with deliveries under way: they were cut, and come again only from \
                 providers that repeat"
                    .into(),
            ),
            Event::Reloaded { changes: "" } => {
                ("hookgate.reload", Info, "reloaded: nothing that is in effect has changed".into())
            }
            Event::Reloaded { changes } => ("hookgate.reload", Info, format!("reloaded: {changes}").into()),
            Event::ReloadFailed { problems } => (
                "hookgate.reload",
                Error,
                format!("reload failed, the last good state stays: {problems}").into(),
            ),
            Event::RestartNeeded { changes } => (
                "hookgate.reload",
                Warn,
                format!("a restart is needed, and the former values are in effect until then: {changes}").into(),
            ),
            Event::SecretMissing { route, awaited, serves } => {
                ("hookgate.secret", Error, awaited.in_words(route, serves).into())
            }
            Event::ReplayFileRead { path, told, torn } => (
                "hookgate.replay_file",
                if torn { Warn } else { Info },
                format!("{}: {told}", path.display()).into(),
            ),
            Event::ReplayFileTrouble { message } => (
                "hookgate.replay_file",
                Error,
                format!("{message}; a crash now would forget deliveries, requests go on").into(),
            ),
            Event::ReplayFileMended => (
                "hookgate.replay_file",
                Info,
                "the replay file was made anew and holds everything again".into(),
            ),
            Event::ReplayFileIncomplete => (
                "hookgate.replay_file",
                Error,
                "the replay file does not have all that was delivered: the disk did not take it".into(),
            ),
            Event::StateRead { path, opened } => state_read(path, opened),
            Event::InboxShared { durable, is_safe } => (
                "hookgate.inbox",
                if is_safe { Info } else { Warn },
                format!("{IN_THE_STORE} {durable}").into(),
            ),
            Event::InboxTrouble { message } => (
                "hookgate.inbox",
                Error,
                format!("the inbox cannot write: {message}; until it can, events are answered as without an inbox").into(),
            ),
            Event::InboxMended => ("hookgate.inbox", Info, "the inbox writes again".into()),
            Event::InboxFull { bytes } => (
                "hookgate.inbox",
                Error,
                format!(
                    "the inbox is full at {bytes} bytes, or the disk has too little room: events are answered as without \
                     an inbox; bring the application back, raise inbox.max_bytes, or drop what is dead (hookgate inbox drop)"
                )
                .into(),
            ),
            Event::InboxParked { routes, events } => (
                "hookgate.inbox",
                Warn,
                format!(
                    "{events} events wait for routes that are not configured: {routes}; configure them again, or drop the \
                     events with hookgate inbox drop --route"
                )
                .into(),
            ),
            Event::ShelfRead { kept, aside: None } => {
                ("hookgate.refused", Info, format!("{kept} refused requests are kept").into())
            }
            Event::ShelfRead { kept, aside: Some(aside) } => (
                "hookgate.refused",
                Error,
                format!(
                    "the refused requests that were kept could not be read: the database is in {}, and {kept} are kept",
                    aside.display()
                )
                .into(),
            ),
            Event::ShelfTrouble { message } => (
                "hookgate.refused",
                Error,
                format!("refused requests cannot be kept: {message}; until they can, they are dropped and counted").into(),
            ),
            Event::ShelfMended => ("hookgate.refused", Info, "refused requests are kept again".into()),
            Event::InboxLeft { stored: 0, dead: 0 } => ("hookgate.inbox", Info, "the inbox is empty".into()),
            Event::InboxLeft { stored, dead } => (
                "hookgate.inbox",
                Warn,
                format!("{stored} events stay in the inbox for the next start, and {dead} that were given up").into(),
            ),
            Event::StoreUp => ("hookgate.store", Info, "the replay store answers".into()),
            Event::StoreDown { refuses, reason, meanwhile } => {
                let what = if refuses { "does not take what it is told" } else { "does not answer" };
                let meanwhile = match meanwhile {
                    OnStoreError::Refuse => "events are answered 503 until it does, and lost unless they are sent again",
                    OnStoreError::Local => {
                        "until it does, this gate is on its own: events are remembered in this process alone"
                    }
                };
                ("hookgate.store", Error, format!("the replay store {what}: {meanwhile}: {reason}").into())
            }
            Event::StoreFails { calls, last } => {
                let message = format!(
                    "the replay store is there, and {calls} calls failed lately, the last one: {last}"
                );
                ("hookgate.store", Warn, message.into())
            }
            Event::FewFiles { asked, may_have, most } => {
                let message = format!(
                    "limits.max_connections is {asked}, and this process may have {may_have} open files: {most} \
                     connections are taken at once, so that health checks, the application and the store are reached; \
                     raise the limit (ulimit -Hn, LimitNOFILE) or lower max_connections"
                );
                ("hookgate.notice", Warn, message.into())
            }
            Event::Dropped(message) => ("hookgate.connection", Warn, message.into()),
            Event::Starved { listener, error } => {
                let message = format!(
                    "{listener} accepts no connection: {error}; senders wait until others have ended: raise the limit \
                     of open files, or lower limits.max_connections"
                );
                ("hookgate.connection", Error, message.into())
            }
            Event::ClockJumped { ms } => (
                "hookgate.clock",
                Error,
                format!("the wall clock jumped by {ms} ms: events whose freshness depends on it are put off")
                    .into(),
            ),
            Event::Silence { route, lasts, expected, objected } => {
                let meanwhile = match objected {
                    0 => "nothing came".to_owned(),
                    n => format!("{n} were refused or failed"),
                };
                let (lasts, expected) = (people(lasts), people(expected));
                let message = format!(
                    "route {route}: no event accepted for {lasts}, and one is expected every {expected}; meanwhile {meanwhile}"
                );
                ("hookgate.silence", Warn, message.into())
            }
            Event::SilenceOver { route, lasted } => (
                "hookgate.silence",
                Info,
                format!("route {route}: the silence is over, it lasted for {}", people(lasted)).into(),
            ),
            Event::Key { route, key, advice } => (
                "hookgate.key",
                if advice.is_warning() { Warn } else { Info },
                advice.text(route, key).into(),
            ),
            Event::KeysFetched { hosts } => {
                ("hookgate.keys", Info, format!("keys that providers publish are fetched from {hosts}").into())
            }
            Event::KeysUnavailable { source, url, fault } => (
                "hookgate.keys",
                Warn,
                format!("the keys of {source} cannot be had from {url}: {fault}; those that are known serve for a day").into(),
            ),
            Event::KeysAgain { source, url } => {
                ("hookgate.keys", Info, format!("the keys of {source} can be had from {url} again").into())
            }
            Event::KeysNotKept { path, why } => (
                "hookgate.keys",
                Warn,
                format!("keys that were fetched do not outlive a restart in {}: {why}; they are fetched again", path.display())
                    .into(),
            ),
            Event::Confirmed { route, url } => (
                "hookgate.confirmation",
                Info,
                format!("route {route}: what its provider asked for is confirmed at {url}").into(),
            ),
            Event::NotConfirmed { route, url, fault } => (
                "hookgate.confirmation",
                Warn,
                format!("route {route}: what its provider asked for is not confirmed at {url}: {fault}; it was answered 503, so that it asks again").into(),
            ),
            Event::Panic { at } => {
                let place = at.map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
                ("hookgate.panic", Error, format!("a panic was caught at {place}").into())
            }
            Event::Library { severity, message } => ("hookgate.library", severity, message.into()),
            #[cfg(feature = "otel")]
            Event::SpansLost { collector, error } => (
                "hookgate.otlp",
                Warn,
                format!("spans do not reach {collector}: {error}; they are dropped and counted").into(),
            ),
            #[cfg(feature = "otel")]
            Event::SpansArrive { collector } => {
                ("hookgate.otlp", Info, format!("spans reach {collector} again").into())
            }
        }
    }
}

fn state_read(path: &Path, opened: &Opened) -> (&'static str, Severity, Cow<'static, str>) {
    let Opened { stored, dead, interrupted, without_key, salvaged } = opened;
    let mut message = format!("{}: {stored} events are stored, and {dead} were given up", path.display());
    let mut severity = Severity::Info;
    if *interrupted > 0 {
        _ = write!(
            message,
            "; {interrupted} were being delivered when the last gate ended: that counts as an attempt"
        );
    }
    if *without_key > 0 {
        severity = Severity::Error;
        _ = write!(
            message,
            "; {without_key} were sealed with a key that is not there: they wait until inbox.encryption_key_file holds it"
        );
    }
    if let Some(Salvaged { aside, saved, lost }) = salvaged {
        severity = Severity::Error;
        _ = write!(
            message,
            "; the database was damaged: {saved} events were saved, {lost} could not be read, and what it was is in {}",
            aside.display()
        );
    }
    ("hookgate.inbox", severity, message.into())
}

fn listens(plain: &[SocketAddr], tls: &[SocketAddr], ops: Option<SocketAddr>) -> String {
    let mut message = format!("hookgate {} listens", env!("CARGO_PKG_VERSION"));
    for (how, addresses) in [(" on", plain), (" with TLS on", tls)] {
        for (n, address) in addresses.iter().enumerate() {
            _ = write!(message, "{} {address}", if n == 0 { how } else { "," });
        }
    }
    if let Some(ops) = ops {
        _ = write!(message, "; health and metrics on {ops}");
    }
    message
}

/// In whole seconds.
fn people(span: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(span.as_secs()))
}
