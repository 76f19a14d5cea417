//! The engine of a fleet: the shared store that the gates have already, Redis or what speaks its protocol. Any
//! gate delivers what another stored.
//!
//! All that is known of a route's events lies under one hash tag, `PREFIX{inbox:ROUTE}`, so in one slot of a
//! cluster, and every change of a state is one script: record, index and counts change together or not at all.
//! The names by which copies are known are keys of the replay memory, each in a slot of its own, and say
//! `s` and the record's number (`store/redis/stored.lua`). Between the two there is always an order in which a
//! crash loses nothing:
//!
//! | step | first | then | a crash between costs |
//! |---|---|---|---|
//! | store | the record | the names | nobody was told; the event may be delivered twice |
//! | delivered | the record is gone | the names say done | nothing: copies are known for longer |
//! | given up, dropped | the names are free | the record changes | a copy is delivered as well |
//! | replayed | the record is stored | the names say so | a copy is delivered as well |
//!
//! A gate that claims holds the first events that are due for a few seconds, then leases each: the attempt is
//! counted and its number is what settles it. Times are the server's: gates whose clocks differ agree.
//!
//! What differs from the embedded engine: an attempt that was under way when a gate died is due when its
//! lease ends, not at the gate's next start; how much there is, is known as of the last second; and how
//! durable an event is, the store decides ([`durable`]).

pub mod durable;
mod record;
mod steps;
mod watch;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::join_all;
use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::durable::{Durability, Durable};
use self::record::{Cursor, Number, Raw, Shown};
use self::steps::{Level, Told};
use super::database::Totals;
use super::seal::{Keys, Unreadable};
use super::state::{Happens, State};
use super::{Attempted, Bounds, Depth, Due, Event, Id, Listed, Refusal, Selection, Stored};
use crate::clock;
use crate::gate::filter::replay::{Keep, ReplayKey, ReplayPolicy};
use crate::lock::lock;
use crate::store::redis::{self as store, Health, InInbox};

/// Cloning shares it.
#[derive(Clone)]
pub struct Inbox {
    shared: Arc<Shared>,
}

/// Where the store is, and how much of it may be filled.
pub struct Settings {
    pub store: store::Settings,
    /// How long what was delivered is remembered.
    pub policy: ReplayPolicy,
    /// Of all gates together; nothing is known of the server's disk.
    pub bounds: Bounds,
    pub keys: Arc<Keys>,
    pub wrote: Observer,
}

/// Told how long it took to store an event, and whether it is durable.
pub type Observer = Box<dyn Fn(Duration, bool) + Send + Sync>;

type Names = SmallVec<[ReplayKey; 1]>;

struct Shared {
    /// A connection of its own: a large body holds up no look at the replay memory.
    redis: store::Redis,
    bounds: Bounds,
    wrote: Observer,
    keys: Mutex<Arc<Keys>>,
    /// The routes that this gate has heard of; their places stand in ids.
    routes: Mutex<Vec<Arc<str>>>,
    levels: Mutex<BTreeMap<Arc<str>, Level>>,
    durable: Durable,
    /// Up to where it was said again of each route's events that they are here.
    said: Mutex<BTreeMap<Arc<str>, Cursor>>,
    totals: Mutex<Totals>,
    wake: Notify,
    /// When it was last asked whether anything is stored, while no route stores.
    asked: tokio::sync::Mutex<Option<Instant>>,
    is_full: AtomicBool,
    is_watched: AtomicBool,
}

/// The least that a call may take: an event is larger than a look at the replay memory.
const CALL: Duration = Duration::from_secs(2);
/// For how long events are held that are about to be leased: longer than both calls take.
const HOLD_MS: i64 = 5_000;
/// How long an event waits for a key that is not there.
const FOR_A_KEY_MS: i64 = 60_000;
/// Between two questions of a gate that stores nothing whether others have.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// A list is read in parts of so many records.
const PAGE: usize = 200;
/// A list looks through so many parts of which nothing is meant, before it tells where it is.
const EMPTY_PARTS: usize = 16;
/// How many records of a route are tidied away at once.
const TIDIED: usize = 500;

impl Inbox {
    /// Connects when it is first asked.
    pub fn open(settings: Settings) -> Inbox {
        let Settings { mut store, policy, bounds, keys, wrote } = settings;
        store.timeout = store.timeout.max(CALL);
        Inbox {
            shared: Arc::new(Shared {
                durable: Durable::new(store.clone()),
                redis: store::Redis::new(store, policy, None),
                bounds,
                wrote,
                keys: Mutex::new(keys),
                routes: Mutex::default(),
                levels: Mutex::default(),
                said: Mutex::default(),
                totals: Mutex::default(),
                wake: Notify::new(),
                asked: tokio::sync::Mutex::default(),
                is_full: AtomicBool::new(false),
                is_watched: AtomicBool::new(false),
            }),
        }
    }

    /// Writes the event down. Only then may its sender be told that it was taken.
    pub async fn store(&self, event: Event) -> Result<Stored, Refusal> {
        let shared = self.watched();
        let started = Instant::now();
        let stored = shared.store(&event).await;
        let is_full = matches!(stored, Err(Refusal::Full));
        shared.is_full.store(is_full, Ordering::Relaxed);
        if !is_full {
            (shared.wrote)(started.elapsed(), stored.is_ok());
        }
        stored
    }

    /// Up to so many of the route's events whose attempt is due. Each attempt is counted, and the event is
    /// nobody else's until it is settled or `lease` has passed.
    pub async fn claim(
        &self,
        route: &str,
        now_ms: i64,
        lease: Duration,
        most: usize,
    ) -> Result<Vec<Due>, Refusal> {
        let shared = self.watched();
        let after = |wait: i64| now_ms.saturating_add(wait).to_string();
        let (now, until, most) = (now_ms.to_string(), after(HOLD_MS), most.to_string());
        let args = [now.as_bytes(), until.as_bytes(), most.as_bytes()];
        let held = shared.ask(&steps::HOLD, route, None, &args).await?;
        let (end, for_key) = (after(clock::millis(lease)), after(FOR_A_KEY_MS));
        let keys = shared.keys();
        let known = record::known(&keys);
        let args = [held.part(0), end.as_bytes(), for_key.as_bytes(), known.as_bytes()];
        let numbers = held.parts.iter().skip(1).filter_map(|part| record::number(part));
        let leased = numbers.map(|number| shared.lease(route, number, &args, &keys));
        // Who is not heard of now is due when the hold is over.
        Ok(join_all(leased).await.into_iter().flatten().collect())
    }

    /// What an attempt came to. `false` if the event was claimed again or dropped meanwhile: then this
    /// attempt decides nothing.
    pub async fn settle(
        &self,
        id: Id,
        attempt: u32,
        came_to: Attempted,
        now_ms: i64,
    ) -> Result<bool, Refusal> {
        let shared = self.watched();
        let Some((route, number)) = shared.place(id) else { return Ok(false) };
        let settle = async |came_to: &str, time: i64, outcome: &str| {
            let (attempt, time) = (attempt.to_string(), time.to_string());
            let args = [attempt.as_bytes(), came_to.as_bytes(), time.as_bytes(), outcome.as_bytes()];
            shared.ask(&steps::SETTLE, &route, Some(&number), &args).await
        };
        let settled = match came_to {
            Attempted::Done => {
                let settled = settle("done", now_ms, "").await?;
                if settled.has_written() {
                    let keep = record::keep_from(settled.part(1));
                    let names = record::split(settled.part(0));
                    shared.note(&names, keep, &number, InInbox::Delivered).await;
                }
                settled
            }
            Attempted::Later { due_ms, outcome } => settle("later", due_ms, &outcome).await?,
            Attempted::Dead { outcome } => {
                // Its names first: a copy of what is dead must be delivered, whatever happens now.
                let ours = settle("look", now_ms, "").await?;
                if !ours.is(b"=") {
                    return Ok(false);
                }
                shared.free(&record::split(ours.part(0)), &number).await?;
                settle("dead", now_ms, &outcome).await?
            }
        };
        shared.wake.notify_one();
        Ok(settled.has_written())
    }

    /// A copy was delivered past the inbox: a dead event of that name needs nobody any more.
    pub async fn overtaken(&self, names: &[ReplayKey]) -> Result<(), Refusal> {
        let shared = self.watched();
        let routes: Vec<Arc<str>> = (shared.levels().iter())
            .filter(|(_, level)| level.depth.dead + level.depth.damaged > 0)
            .map(|(route, _)| Arc::clone(route))
            .collect();
        for route in &routes {
            // On the heap: every delivery asks, and nearly none finds anything here.
            Box::pin(shared.overtaken(route, names)).await?;
        }
        Ok(())
    }

    /// A copy of what was delivered may be delivered again: the replay memory alone knows of that.
    #[expect(clippy::unused_async, reason = "as of the other engine")]
    pub async fn forget(&self, _name: ReplayKey) -> Result<(), Refusal> {
        Ok(())
    }

    /// When the next attempt of the route is due.
    pub async fn next_due(&self, route: &str) -> Result<Option<i64>, Refusal> {
        Ok(self.watched().ask(&steps::LOOK, route, None, &[]).await?.next_due_ms)
    }

    /// The records that are meant, a part at a time: those behind `after`, and where the next part begins.
    pub async fn list(&self, selection: Selection, after: Id) -> Result<(Vec<Listed>, Option<Id>), Refusal> {
        let shared = self.watched();
        shared.hear_of_routes().await?;
        let mut part = shared.list(&selection, Cursor::of(after)).await?;
        for _ in 0..EMPTY_PARTS {
            match part {
                (listed, Some(next)) if listed.is_empty() => {
                    part = shared.list(&selection, Cursor::of(next)).await?;
                }
                part => return Ok(part),
            }
        }
        Ok(part)
    }

    /// Head and body of one record; `None` if there is none of that id, or it cannot be read.
    pub async fn show(&self, id: Id) -> Result<Option<(Listed, Option<Due>)>, Refusal> {
        let shared = self.watched();
        let Some((route, number)) = shared.place(id) else { return Ok(None) };
        let told = shared.read(&route, &number, true).await?;
        let shown = Shown(&told.parts);
        Ok(shown.listed(id, &route).map(|listed| (listed, shown.due(id, &shared.keys()).ok())))
    }

    /// Makes one event due at that time, also if it is dead; the names by which its copies are known
    /// from now on. `None` if there is none, or it cannot be read.
    pub async fn replay(&self, id: Id, now_ms: i64, due_ms: i64) -> Result<Option<Vec<ReplayKey>>, Refusal> {
        let shared = self.watched();
        let Some((route, number)) = shared.place(id) else { return Ok(None) };
        let told =
            shared.change(&route, &number, "replay", &[State::Stored, State::Dead], now_ms, due_ms).await?;
        if !told.has_written() {
            return Ok(None);
        }
        let names = record::split(told.part(0)).into_vec();
        shared.note(&names, record::keep_from(told.part(1)), &number, InInbox::Has).await;
        shared.wake.notify_one();
        Ok(Some(names))
    }

    /// Forgets one event; the names by which its copies were known. `None` if there is none.
    pub async fn discard(&self, id: Id) -> Result<Option<Vec<ReplayKey>>, Refusal> {
        let shared = self.watched();
        let Some((route, number)) = shared.place(id) else { return Ok(None) };
        shared.remove(&route, &number, Happens::Drop).await
    }

    /// Holds a route's events back at every gate, or lets them go on; over restarts.
    pub async fn pause(&self, route: &str, is_paused: bool) -> Result<(), Refusal> {
        let shared = self.watched();
        shared.register(route).await?;
        shared.ask(&steps::PAUSE, route, None, &[if is_paused { b"on" } else { b"off" }]).await?;
        shared.wake.notify_one();
        Ok(())
    }

    pub async fn paused(&self) -> Result<Vec<String>, Refusal> {
        let shared = self.watched();
        let mut routes = shared.hear_of_routes().await?;
        routes.sort_unstable();
        let mut paused = Vec::new();
        for route in routes {
            if shared.ask(&steps::PAUSE, &route, None, &[b""]).await?.part(0) == b"1" {
                paused.push(route.to_string());
            }
        }
        Ok(paused)
    }

    /// Forgets what has been kept for long enough, and heals due times after a jump of a clock: none is
    /// further away than the longest wait.
    pub async fn tidy(&self, now_ms: i64, _window: Duration, longest: Duration) -> Result<(), Refusal> {
        let shared = self.watched();
        let routes = shared.hear_of_routes().await?;
        let furthest = now_ms.saturating_add(clock::millis(longest));
        let mut dead = Vec::new();
        for route in &routes {
            let (now, furthest, most) = (now_ms.to_string(), furthest.to_string(), TIDIED.to_string());
            let args = [now.as_bytes(), furthest.as_bytes(), most.as_bytes()];
            let told = shared.ask(&steps::TIDY, route, None, &args).await?;
            let far = record::decimal::<usize>(told.part(0)).unwrap_or_default();
            let rest = told.parts.get(1..).unwrap_or_default();
            let (far, oldest) = rest.split_at(far.min(rest.len()));
            for number in far.iter().filter_map(|number| record::number(number)) {
                // One that is under way is left to its attempt.
                shared.change(route, &number, "heal", &[State::Stored], now_ms, now_ms).await?;
            }
            dead.extend(oldest.chunks_exact(2).filter_map(|pair| {
                Some((record::decimal::<f64>(&pair[1])?, Arc::clone(route), record::number(&pair[0])?))
            }));
        }
        for route in &routes {
            shared.say_again(route).await?;
        }
        shared.drop_dead(dead, now_ms).await
    }

    /// Seals what comes from now on with other keys.
    #[expect(clippy::unused_async, reason = "as of the other engine")]
    pub async fn set_keys(&self, keys: Arc<Keys>) -> Result<(), Refusal> {
        *lock(&self.shared.keys) = keys;
        Ok(())
    }

    /// Whether a route stores, or something is stored: asked seldom, and in a way that a store which lets
    /// nobody ask does not mind.
    pub async fn is_wanted(&self, some_route_stores: bool) -> bool {
        if some_route_stores || self.shared.is_watched.load(Ordering::Relaxed) {
            return true;
        }
        let mut asked = self.shared.asked.lock().await;
        if asked.is_none_or(|asked| asked.elapsed() >= ASK_AGAIN) {
            *asked = Some(Instant::now());
            return self.shared.has_routes().await;
        }
        false
    }

    /// How durable an event is before its sender is told.
    pub async fn durability(&self) -> Result<Durability, Refusal> {
        self.watched().durability().await
    }

    /// How much there is, by route.
    pub fn depths(&self) -> BTreeMap<String, Depth> {
        self.shared.levels().iter().map(|(route, level)| (route.to_string(), level.depth)).collect()
    }

    /// What all gates hold together, in bytes.
    pub fn bytes(&self) -> u64 {
        self.shared.levels().values().map(|level| level.depth.bytes).sum()
    }

    pub fn max_bytes(&self) -> u64 {
        self.shared.bounds.max_bytes
    }

    /// Whether the last event that came had no room.
    pub fn is_full(&self) -> bool {
        self.shared.is_full.load(Ordering::Relaxed)
    }

    pub fn totals(&self) -> Totals {
        let mut totals = self.shared.totals().clone();
        totals.writes = self.is_usable();
        totals.trouble = match &*self.shared.redis.health().borrow() {
            Health::Down(trouble) => Some(trouble.reason.clone()),
            Health::Unknown | Health::Up => None,
        };
        totals
    }

    /// Told when there may be something due earlier than was known.
    pub fn wake(&self) -> &Notify {
        &self.shared.wake
    }

    /// Whether an event could be stored now, as far as anybody knows.
    pub fn is_usable(&self) -> bool {
        !matches!(&*self.shared.redis.health().borrow(), Health::Down(_))
    }

    /// What is shared, which is looked after from now on.
    fn watched(&self) -> &Shared {
        if !self.shared.is_watched.swap(true, Ordering::Relaxed) {
            watch::start(&self.shared);
        }
        &self.shared
    }
}

impl Shared {
    async fn overtaken(&self, route: &Arc<str>, names: &[ReplayKey]) -> Result<(), Refusal> {
        for name in names {
            let told = self.ask(&steps::OVERTAKEN, route, None, &[name.as_bytes()]).await?;
            if let Some(number) = record::number(told.part(0)) {
                self.remove(route, &number, Happens::Overtaken).await?;
            }
        }
        Ok(())
    }

    async fn store(&self, event: &Event) -> Result<Stored, Refusal> {
        let Some(number) = record::new_number(event.size()) else { return Err(Refusal::Full) };
        let keys = self.keys();
        let sealed = keys.seal(event.key, &event.head, &event.body).ok_or(Refusal::Unavailable)?;
        self.register(&event.route).await?;
        let names = record::join(&event.names);
        let (due, received) = (event.due_ms.to_string(), event.received_ms.to_string());
        let room = self.room(&event.route).to_string();
        let fields = record::fields(event, &sealed);
        let mut args = vec![room.as_bytes(), due.as_bytes(), received.as_bytes(), &names, &sealed.bytes];
        args.extend(fields.iter().map(Vec::as_slice));
        let told = loop {
            let told = self.ask(&steps::PUT, &event.route, Some(&number), &args).await?;
            match (told.status.as_slice(), record::number(told.part(0))) {
                (b"~", Some(given_up)) => {
                    self.remove(&event.route, &given_up, Happens::Overtaken).await?;
                }
                (b"#", _) => return Err(Refusal::Full),
                (b"+" | b"=", Some(_)) => break told,
                _ => return Err(Refusal::Unavailable),
            }
        };
        let copy = !told.has_written();
        let Some(number) = record::number(told.part(0)) else { return Err(Refusal::Unavailable) };
        let id = self.id_of(&event.route, &number).ok_or(Refusal::Unavailable)?;
        // Also of a copy: it is told what the first one is.
        self.make_durable(&event.route).await?;
        // The record is there: that copies of it are not known, if the store fails now, costs one more
        // delivery at most.
        let noted = self.note(&event.names, event.keep, &number, InInbox::Takes).await;
        if noted.contains(&Ok(false)) && !copy {
            // It was delivered while we were about it.
            self.remove(&event.route, &number, Happens::Drop).await?;
            return Ok(Stored { id, copy: true, _durable: () });
        }
        self.wake.notify_one();
        Ok(Stored { id, copy, _durable: () })
    }

    /// What is listed from one place on, of one route and one state.
    async fn list(&self, selection: &Selection, from: Cursor) -> Result<(Vec<Listed>, Option<Id>), Refusal> {
        let Some(route) = self.routes().get(usize::from(from.route)).cloned() else {
            return Ok((Vec::new(), None));
        };
        let Some(state) = State::ALL.get(from.state).copied() else { return Ok((Vec::new(), None)) };
        let behind = match from.state + 1 {
            next if next < State::ALL.len() => Cursor { route: from.route, state: next, ..Cursor::default() },
            _ => Cursor { route: from.route + 1, ..Cursor::default() },
        };
        let behind = (usize::from(behind.route) < self.routes().len()).then(|| behind.id());
        let is_meant = selection.route.as_deref().is_none_or(|wanted| wanted == &*route)
            && selection.state.is_none_or(|wanted| wanted == state);
        if !is_meant {
            return Ok((Vec::new(), behind));
        }
        let (found, next) = self.part(&route, state, from).await?;
        let read = join_all(found.iter().map(|(number, _)| self.read(&route, number, false))).await;
        let mut listed = Vec::with_capacity(found.len());
        for ((number, _), told) in found.iter().zip(read) {
            let shown = Shown(&told?.parts).listed(record::id(from.route, number), &route);
            listed.extend(shown.filter(|record| is_selected(record, selection)));
        }
        let next = next.map_or(behind, |next| Some(next.id()));
        Ok((listed, next))
    }

    /// Numbers and names of events of one state, and the place of the last one; none if there is nothing behind.
    async fn part(
        &self,
        route: &str,
        state: State,
        from: Cursor,
    ) -> Result<(Vec<(Number, Names)>, Option<Cursor>), Refusal> {
        let (score, most) = (from.score.to_string(), PAGE.to_string());
        let args = [state.label().as_bytes(), score.as_bytes(), &from.number, most.as_bytes()];
        let told = self.ask(&steps::LIST, route, None, &args).await?;
        let (all, _) = told.parts.as_chunks::<3>();
        let found: Vec<_> = (all.iter())
            .filter_map(|[id, _, names]| Some((record::number(id)?, record::split(names))))
            .collect();
        let next = all.last().zip(found.last()).map(|([_, score, _], (last, _))| {
            let mut next = from;
            next.score = record::decimal::<f64>(score).map_or(from.score, whole);
            next.number.copy_from_slice(&last[..7]);
            next
        });
        Ok((found, next))
    }

    /// Says again of some of the route's events that they are here: what waits for long is known for as long.
    async fn say_again(&self, route: &Arc<str>) -> Result<(), Refusal> {
        let from = lock(&self.said).get(route).copied();
        let (found, next) = self.part(route, State::Stored, from.unwrap_or_default()).await?;
        // Who has a window of his own is known for that already.
        let said =
            found.iter().map(|(number, names)| self.note(names, Keep::WholeWindow, number, InInbox::Has));
        join_all(said).await;
        let mut said = lock(&self.said);
        said.insert(Arc::clone(route), next.unwrap_or_default());
        Ok(())
    }

    async fn lease(&self, route: &str, number: Number, args: &[&[u8]], keys: &Keys) -> Option<Due> {
        let told = self.ask(&steps::LEASE, route, Some(&number), args).await.ok()?;
        if told.is(b"!") {
            self.totals().set_aside += 1;
            // Its sender's copy takes its place.
            _ = self.free(&record::split(told.part(0)), &number).await;
            return None;
        }
        if !told.has_written() {
            return None;
        }
        let raw = Raw {
            names: told.part(0),
            bytes: told.part(1),
            key: told.part(2),
            by: told.part(4),
            attempts: told.part(5),
            keep: told.part(6),
            received: told.part(7),
            since: told.part(8),
            sum: told.part(9),
        };
        match raw.due(self.id_of(route, &number)?, keys) {
            Ok(due) => {
                self.note(&due.names, due.keep, &number, InInbox::Has).await;
                Some(due)
            }
            Err(Unreadable::Damaged | Unreadable::KeyMissing(_)) => {
                let aside = self.change(route, &number, "aside", &[State::Stored], 0, 0).await.ok()?;
                if aside.has_written() {
                    self.totals().set_aside += 1;
                    _ = self.free(&record::split(aside.part(0)), &number).await;
                }
                None
            }
        }
    }

    /// Changes an event that is in one of these states.
    async fn change(
        &self,
        route: &str,
        number: &Number,
        happens: &str,
        from: &[State],
        now_ms: i64,
        due_ms: i64,
    ) -> Result<Told, Refusal> {
        let (from, now, due) = (steps::labels(from), now_ms.to_string(), due_ms.to_string());
        let args = [happens.as_bytes(), from.as_bytes(), now.as_bytes(), due.as_bytes()];
        Ok(self.ask(&steps::CHANGE, route, Some(number), &args).await?)
    }

    /// Takes a record away, if that follows from its state; its names.
    async fn remove(
        &self,
        route: &str,
        number: &Number,
        happens: Happens,
    ) -> Result<Option<Vec<ReplayKey>>, Refusal> {
        let from: Vec<State> =
            State::ALL.into_iter().filter(|state| State::after(Some(*state), happens).is_none()).collect();
        let ours = self.change(route, number, "look", &from, 0, 0).await?;
        if !ours.is(b"=") {
            return Ok(None);
        }
        let names = record::split(ours.part(0));
        // The names first: what is gone holds up no copy, whatever happens now.
        self.free(&names, number).await?;
        self.change(route, number, "remove", &from, 0, 0).await?;
        Ok(Some(names.into_vec()))
    }

    async fn read(&self, route: &str, number: &Number, with_bytes: bool) -> Result<Told, Refusal> {
        Ok(self.ask(&steps::READ, route, Some(number), &[if with_bytes { b"1" } else { b"0" }]).await?)
    }

    /// What the names of an event say from now on; for each whether the event had not been delivered.
    async fn note(
        &self,
        names: &[ReplayKey],
        keep: Keep,
        number: &Number,
        what: InInbox,
    ) -> Vec<Result<bool, crate::store::redis::Failure>> {
        let mark = record::hex(number);
        join_all(names.iter().map(|name| self.redis.note(*name, keep, &mark, what))).await
    }

    /// The names no longer stand for the event.
    async fn free(&self, names: &[ReplayKey], number: &Number) -> Result<(), Refusal> {
        let freed = self.note(names, Keep::UntilStale, number, InInbox::Leaves).await;
        freed.into_iter().find_map(Result::err).map_or(Ok(()), |failure| Err(failure.into()))
    }

    /// Of the dead those go that were kept for too long, and the oldest of those over their share.
    async fn drop_dead(&self, mut dead: Vec<(f64, Arc<str>, Number)>, now_ms: i64) -> Result<(), Refusal> {
        dead.sort_by(|(one, ..), (other, ..)| one.total_cmp(other));
        let total: u64 = self.levels().values().map(|level| level.dead_bytes).sum();
        let mut over = total.saturating_sub(self.bounds.max_bytes / 4);
        let oldest = now_ms.saturating_sub(self.bounds.keep_dead_ms);
        for (died, route, number) in dead {
            #[expect(clippy::cast_possible_truncation, reason = "milliseconds since the epoch fit")]
            let is_old = (died as i64) < oldest;
            if !is_old && over == 0 {
                break;
            }
            let told = self.change(&route, &number, "remove", &[State::Dead], now_ms, now_ms).await?;
            if told.has_written() {
                self.totals().dead_dropped += 1;
                over = over.saturating_sub(record::size(&number));
            }
        }
        Ok(())
    }

    /// The room that the other routes leave this one, as of the last look.
    fn room(&self, route: &str) -> u64 {
        let others =
            self.levels().iter().filter(|(other, _)| &***other != route).map(|(_, l)| l.depth.bytes).sum();
        self.bounds.max_bytes.saturating_sub(others)
    }

    /// Has every gate look after the route.
    async fn register(&self, route: &str) -> Result<(), Refusal> {
        if self.index_of(route).is_none() {
            let routes = self.ask_routes(Some(route)).await?;
            self.keep_in_mind(routes);
        }
        Ok(())
    }

    /// All routes that anybody knows. A store that has lost some is told of them again.
    async fn hear_of_routes(&self) -> Result<Vec<Arc<str>>, Refusal> {
        let heard = self.ask_routes(None).await?;
        let unheard: Vec<_> =
            (self.routes().iter()).filter(|route| !heard.contains(route)).cloned().collect();
        for route in unheard {
            self.ask_routes(Some(&route)).await?;
        }
        self.keep_in_mind(heard);
        Ok(self.routes().clone())
    }

    fn keep_in_mind(&self, heard: Vec<Arc<str>>) {
        let mut routes = self.routes();
        for route in heard {
            // Ids have no room for more.
            if !routes.contains(&route) && routes.len() < usize::from(u16::MAX) {
                routes.push(route);
            }
        }
    }

    fn index_of(&self, route: &str) -> Option<u16> {
        let place = self.routes().iter().position(|known| &**known == route)?;
        u16::try_from(place).ok()
    }

    fn id_of(&self, route: &str, number: &Number) -> Option<Id> {
        self.keep_in_mind(vec![Arc::from(route)]);
        Some(record::id(self.index_of(route)?, number))
    }

    fn place(&self, id: Id) -> Option<(Arc<str>, Number)> {
        let (route, number) = record::parts(id);
        Some((self.routes().get(usize::from(route)).cloned()?, number))
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&lock(&self.keys))
    }

    fn routes(&self) -> MutexGuard<'_, Vec<Arc<str>>> {
        lock(&self.routes)
    }

    fn levels(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Level>> {
        lock(&self.levels)
    }

    fn totals(&self) -> MutexGuard<'_, Totals> {
        lock(&self.totals)
    }

    /// Whether something is due earlier than was known.
    fn learn(&self, route: &str, level: Level) -> bool {
        let mut levels = self.levels();
        let before = match levels.get_mut(route) {
            Some(known) => Some(std::mem::replace(known, level)),
            None => {
                levels.insert(Arc::from(route), level);
                None
            }
        };
        let known = before.and_then(|level| level.next_due_ms);
        level.next_due_ms.is_some_and(|next| known.is_none_or(|known| next < known))
    }
}

fn is_selected(record: &Listed, selection: &Selection) -> bool {
    let Selection { route: _, state: _, event, since_ms } = selection;
    let is_it = |event: &String| {
        record.event_id.as_ref() == Some(event) || record.key.to_string().eq_ignore_ascii_case(event)
    };
    event.as_ref().is_none_or(is_it) && since_ms.is_none_or(|since| record.received_ms >= since)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "milliseconds since the epoch fit"
)]
fn whole(score: f64) -> u64 {
    score.max(0.0) as u64
}
