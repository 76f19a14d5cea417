//! The scripts, each one transaction over what the store knows of one route.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use super::Shared;
use super::record::{Number, decimal, hex};
use crate::clock;
use crate::inbox::state::State;
use crate::inbox::{Depth, Refusal};
use crate::store::redis::{Failure, Script, Token};

macro_rules! script {
    ($name:ident, $file:literal) => {
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::repeatable(concat!(include_str!("route.lua"), include_str!($file))));
    };
}

script!(PUT, "put.lua");
script!(HOLD, "hold.lua");
script!(LEASE, "lease.lua");
script!(SETTLE, "settle.lua");
script!(CHANGE, "change.lua");
script!(READ, "read.lua");
script!(LIST, "list.lua");
script!(TIDY, "tidy.lua");
script!(LOOK, "look.lua");
script!(PAUSE, "pause.lua");
script!(OVERTAKEN, "overtaken.lua");
static ROUTES: LazyLock<Script> = LazyLock::new(|| Script::repeatable(include_str!("routes.lua")));

/// What a script told.
pub(super) struct Told {
    /// What it did: `+` if it wrote.
    pub status: Vec<u8>,
    pub parts: Vec<Vec<u8>>,
    pub next_due_ms: Option<i64>,
}

/// What every answer tells of the route, before what the script was asked.
const OF_ROUTE: usize = 9;

impl Told {
    pub fn is(&self, status: &[u8]) -> bool {
        self.status == status
    }

    pub fn has_written(&self) -> bool {
        self.is(b"+")
    }

    pub fn part(&self, place: usize) -> &[u8] {
        self.parts.get(place).map(Vec::as_slice).unwrap_or_default()
    }
}

/// How much there is of a route, and when the next attempt is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Level {
    pub depth: Depth,
    pub dead_bytes: u64,
    pub next_due_ms: Option<i64>,
}

impl Level {
    fn of(parts: &[Vec<u8>]) -> Option<Self> {
        let number = |place: usize| decimal::<u64>(parts.get(place)?);
        let bytes = |place: usize| decimal::<i64>(parts.get(place)?)?.try_into().ok().or(Some(0));
        let time = |place: usize| parts.get(place).and_then(|text| decimal::<i64>(text));
        let dead_bytes: u64 = bytes(4)?;
        Some(Level {
            depth: Depth {
                stored: number(1)?,
                dead: number(3)?,
                damaged: number(5)?,
                bytes: bytes(2)? + dead_bytes + bytes(6)?,
                oldest_ms: time(7),
            },
            dead_bytes,
            next_due_ms: time(8),
        })
    }
}

/// The names of a route's keys.
pub(super) struct RouteKeys(Vec<String>);

/// What of a route the scripts know, in the order of `route.lua`.
const KEYS: [&str; 8] = ["due", "live", "dead", "damaged", "names", "named", "counts", "paused"];

impl RouteKeys {
    pub fn of(prefix: &str, route: &str) -> Self {
        RouteKeys(KEYS.iter().map(|key| format!("{prefix}{{inbox:{route}}}:{key}")).collect())
    }

    /// With the record of one event.
    fn with(&self, prefix: &str, route: &str, number: Option<&Number>) -> Vec<String> {
        let mut keys = self.0.clone();
        if let Some(number) = number.map(hex) {
            keys.extend(["event", "sealed"].map(|key| format!("{prefix}{{inbox:{route}}}:{key}:{number}")));
        }
        keys
    }
}

impl Shared {
    /// Asks about a route, and keeps in mind how much it tells there is.
    pub(super) async fn ask(
        &self,
        script: &Script,
        route: &str,
        number: Option<&Number>,
        args: &[&[u8]],
    ) -> Result<Told, Failure> {
        let prefix = &self.redis.link().settings().prefix;
        let keys = RouteKeys::of(prefix, route).with(prefix, route, number);
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let word = Token::random().map_err(|_| Failure::Unasked)?;
        let wall = clock::now().wall_ms.to_string();
        let mut all: Vec<&[u8]> = vec![word.as_str().as_bytes(), wall.as_bytes()];
        all.extend(number.map(|number| &number[..]));
        all.extend_from_slice(args);
        let asked = Instant::now();
        let answered = self.redis.link().ask_parts(script, &keys, &all).await;
        let told = answered.and_then(|mut parts| {
            let level = Level::of(&parts).ok_or(Failure::Unanswered)?;
            if self.learn(route, level) {
                self.wake.notify_one();
            }
            let rest = parts.split_off(OF_ROUTE.min(parts.len()));
            let status = parts.into_iter().next().unwrap_or_default();
            Ok(Told { status, parts: rest, next_due_ms: level.next_due_ms })
        });
        let mut totals = self.totals();
        match &told {
            Ok(told) if told.has_written() => {
                totals.commits += 1;
                totals.commit_time += asked.elapsed();
            }
            Ok(_) => {}
            Err(_) => totals.failed += 1,
        }
        drop(totals);
        told
    }

    /// Whether any route has had something stored.
    pub(super) async fn has_routes(&self) -> bool {
        let key = format!("{}{{inbox}}:routes", self.redis.link().settings().prefix);
        self.redis.link().has(&key).await.unwrap_or(false)
    }

    /// The routes that have had something stored, by whichever gate, and `another` with them.
    pub(super) async fn ask_routes(&self, another: Option<&str>) -> Result<Vec<Arc<str>>, Failure> {
        let key = format!("{}{{inbox}}:routes", self.redis.link().settings().prefix);
        let word = Token::random().map_err(|_| Failure::Unasked)?;
        let args = [word.as_str().as_bytes(), another.unwrap_or_default().as_bytes()];
        let parts = self.redis.link().ask_parts(&ROUTES, &[&key], &args).await?;
        Ok(parts[1..].iter().filter_map(|route| std::str::from_utf8(route).ok()).map(Arc::from).collect())
    }
}

impl From<Failure> for Refusal {
    fn from(_: Failure) -> Self {
        Refusal::Unavailable
    }
}

/// The states from which something may follow, as scripts look them up.
pub(super) fn labels(states: &[State]) -> String {
    states.iter().map(|state| state.label()).collect::<Vec<_>>().join(" ")
}
