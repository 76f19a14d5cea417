//! What is done within a transaction. Every change of a state is one of [`state`](super::super::state)'s.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use smallvec::SmallVec;

use crate::gate::filter::replay::{Keep, ReplayKey};
use crate::inbox::keep::{OWN_WINDOW, keep_of, keep_to};
use crate::inbox::seal::{KeyId, Keys, Sealed, Unreadable};
use crate::inbox::state::{Happens, State};
use crate::inbox::{self, Attempted, Bounds, Depth, Due, Event, Listed, Refusal, Selection, Stored};

pub(super) struct Tables {
    connection: Connection,
    pub(super) keys: Arc<Keys>,
    bounds: Bounds,
    folder: PathBuf,
    depths: BTreeMap<String, Depth>,
    /// As they were when the transaction began, of the routes that it changes.
    before: BTreeMap<String, Option<Depth>>,
    has_changed: bool,
    free: Option<(Instant, u64)>,
    pub(super) set_aside: u64,
    pub(super) dead_dropped: u64,
}

/// The number of a row.
type Id = i64;

/// How long what is known of the disk's room is good.
const FREE_FOR: Duration = Duration::from_millis(500);
/// A list is read in parts of so many numbers, and of so many records, so that it holds up no store.
const PART: i64 = 20_000;
const PAGE: usize = 200;
/// How many records are tidied away by one order.
const TIDIED: i64 = 500;
/// How long an event waits for a key that is not there.
const FOR_A_KEY_MS: i64 = 60_000;

impl Tables {
    pub(super) fn new(
        connection: Connection,
        bounds: Bounds,
        keys: Arc<Keys>,
        folder: PathBuf,
    ) -> Result<Self> {
        let mut tables = Tables {
            connection,
            keys,
            bounds,
            folder,
            depths: BTreeMap::new(),
            before: BTreeMap::new(),
            has_changed: false,
            free: None,
            set_aside: 0,
            dead_dropped: 0,
        };
        tables.count()?;
        Ok(tables)
    }

    fn count(&mut self) -> Result<()> {
        let mut counts = BTreeMap::<String, Depth>::new();
        let mut query = self.connection.prepare(
            "SELECT route, state, count(*), sum(size), min(received_ms) FROM event GROUP BY route, state",
        )?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let depth = counts.entry(row.get(0)?).or_default();
            let state = state_of(&row.get::<_, String>(1)?);
            *number(depth, state) = row.get(2)?;
            depth.bytes += row.get::<_, u64>(3)?;
            if state == State::Stored {
                depth.oldest_ms = row.get(4)?;
            }
        }
        drop(rows);
        drop(query);
        self.depths = counts;
        Ok(())
    }

    pub(super) fn depths(&self) -> &BTreeMap<String, Depth> {
        &self.depths
    }

    pub(super) fn bytes(&self) -> u64 {
        self.depths.values().map(|depth| depth.bytes).sum()
    }

    /// Whether any event is dead or damaged.
    pub(super) fn has_dead(&self) -> bool {
        self.depths.values().any(|depth| depth.dead + depth.damaged > 0)
    }

    /// The depths, if they have changed since they were asked for.
    pub(super) fn changed(&mut self) -> Option<&BTreeMap<String, Depth>> {
        std::mem::take(&mut self.has_changed).then_some(&self.depths)
    }

    /// Records whose key is not there.
    pub(super) fn without_key(&self) -> Result<u64> {
        let known: Vec<KeyId> = self.keys.ids().collect();
        let mut query = self.connection.prepare(
            "SELECT sealed_by, count(*) FROM event WHERE sealed_by IS NOT NULL GROUP BY sealed_by",
        )?;
        let rows = query.query_map([], |row| Ok((row.get::<_, KeyId>(0)?, row.get::<_, u64>(1)?)))?;
        let mut without = 0;
        for row in rows {
            let (key, count) = row?;
            without += if known.contains(&key) { 0 } else { count };
        }
        Ok(without)
    }

    pub(super) fn begin(&mut self) -> Result<()> {
        self.before.clear();
        self.connection.execute_batch("BEGIN IMMEDIATE")
    }

    pub(super) fn commit(&mut self) -> Result<()> {
        // Only what changed has another oldest event.
        let changed: Vec<String> = self.before.keys().cloned().collect();
        for route in changed {
            let oldest = self
                .connection
                .prepare_cached("SELECT min(received_ms) FROM event WHERE state = 'stored' AND route = ?1")?
                .query_row([&route], |row| row.get(0))?;
            if let Some(depth) = self.depths.get_mut(&route) {
                depth.oldest_ms = oldest;
            }
        }
        self.connection.execute_batch("COMMIT")?;
        self.has_changed |= !self.before.is_empty();
        Ok(())
    }

    pub(super) fn roll_back(&mut self) {
        // Where `SQLite` has done it already there is nothing to roll back.
        _ = self.connection.execute_batch("ROLLBACK");
        for (route, before) in std::mem::take(&mut self.before) {
            match before {
                Some(depth) => _ = self.depths.insert(route, depth),
                None => _ = self.depths.remove(&route),
            }
        }
    }

    /// Counts a record in or out.
    fn moved(&mut self, route: &str, from: Option<State>, to: Option<State>, size: u64) {
        if !self.before.contains_key(route) {
            self.before.insert(route.to_owned(), self.depths.get(route).copied());
        }
        let depth = self.depths.entry(route.to_owned()).or_default();
        if let Some(from) = from {
            *number(depth, from) = number(depth, from).saturating_sub(1);
            depth.bytes = depth.bytes.saturating_sub(size);
        }
        if let Some(to) = to {
            *number(depth, to) += 1;
            depth.bytes += size;
        }
    }

    pub(super) fn store(&mut self, event: &Event) -> Result<std::result::Result<Stored, Refusal>> {
        for name in &event.names {
            let Some((id, is_live)) = self.named(*name)? else { continue };
            if is_live {
                return Ok(Ok(Stored { id: told(id), copy: true, _durable: () }));
            }
            self.remove(id, Happens::Overtaken)?;
        }
        if self.bytes() + event.size() > self.bounds.max_bytes || self.is_disk_full(event.size()) {
            return Ok(Err(Refusal::Full));
        }
        let Some(sealed) = self.keys.seal(event.key, &event.head, &event.body) else {
            return Ok(Err(Refusal::Unavailable));
        };
        let names: Vec<u8> = event.names.iter().flat_map(|name| *name.as_bytes()).collect();
        let keep = keep_to(event.keep);
        self.connection
            .prepare_cached(
                "INSERT INTO event(key, names, keep, route, tenant, event_id, event_type, state, received_ms, \
                 since_ms, due_ms, attempts, leased, last_outcome, size, sealed_by, checksum) \
                 VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, 'stored', ?8, ?8, ?9, ?10, ?15, ?11, ?12, ?13, ?14)",
            )?
            .execute(params![
                &event.key.as_bytes()[..],
                names,
                keep,
                &*event.route,
                event.tenant.as_deref(),
                event.event_id.as_deref(),
                event.event_type.as_deref(),
                event.received_ms,
                event.due_ms,
                event.attempts,
                event.last_outcome.as_deref(),
                event.size(),
                sealed.by,
                sealed.checksum,
                event.leased,
            ])?;
        let id = self.connection.last_insert_rowid();
        self.connection
            .prepare_cached("INSERT INTO body(event, bytes) VALUES(?1, ?2)")?
            .execute(params![id, sealed.bytes])?;
        for name in &event.names {
            self.connection
                .prepare_cached("INSERT INTO name(key, event, keep, live) VALUES(?1, ?2, ?3, 1)")?
                .execute(params![&name.as_bytes()[..], id, keep])?;
        }
        self.moved(&event.route, None, State::after(None, Happens::Store), event.size());
        Ok(Ok(Stored { id: told(id), copy: false, _durable: () }))
    }

    /// The event of that name, and whether a copy must not be delivered.
    fn named(&self, name: ReplayKey) -> Result<Option<(Id, bool)>> {
        self.connection
            .prepare_cached("SELECT event, live FROM name WHERE key = ?1")?
            .query_row([&name.as_bytes()[..]], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
    }

    /// Asked before it is written: what `SQLite` has begun to write and cannot end, it has to take back.
    fn is_disk_full(&mut self, size: u64) -> bool {
        let (asked, free) = match self.free {
            Some((asked, free)) if asked.elapsed() < FREE_FOR => (asked, free),
            _ => match rustix::fs::statvfs(&self.folder) {
                Ok(disk) => (Instant::now(), disk.f_bavail.saturating_mul(disk.f_frsize)),
                // Whoever cannot ask finds out by writing.
                Err(_) => return false,
            },
        };
        // The log, then the tables: twice.
        let left = free.saturating_sub(size.saturating_mul(2));
        let is_full = left < self.bounds.min_free;
        self.free = Some((asked, if is_full { free } else { left }));
        is_full
    }

    pub(super) fn claim(&mut self, route: &str, now_ms: i64, lease_ms: i64, most: usize) -> Result<Vec<Due>> {
        let paused =
            self.connection.prepare_cached("SELECT 1 FROM paused WHERE route = ?1")?.exists([route])?;
        if paused {
            return Ok(Vec::new());
        }
        let found: Vec<Id> = self
            .connection
            .prepare_cached(
                "SELECT id FROM event WHERE state = 'stored' AND route = ?1 AND due_ms <= ?2 \
                 ORDER BY due_ms LIMIT ?3",
            )?
            .query_map(params![route, now_ms, i64::try_from(most).unwrap_or(i64::MAX)], |row| row.get(0))?
            .collect::<Result<_>>()?;
        let mut due = Vec::with_capacity(found.len());
        for id in found {
            match self.read(id)? {
                Ok(mut event) => {
                    event.attempt += 1;
                    self.connection
                        .prepare_cached(
                            "UPDATE event SET attempts = attempts + 1, leased = 1, due_ms = ?2 WHERE id = ?1",
                        )?
                        .execute(params![id, now_ms.saturating_add(lease_ms)])?;
                    due.push(event);
                }
                Err(Unreadable::Damaged) => self.set_aside(id)?,
                Err(Unreadable::KeyMissing(key)) => {
                    self.connection
                        .prepare_cached("UPDATE event SET due_ms = ?2, last_outcome = ?3 WHERE id = ?1")?
                        .execute(params![
                            id,
                            now_ms.saturating_add(FOR_A_KEY_MS),
                            format!("key_missing {key:08x}")
                        ])?;
                }
            }
        }
        Ok(due)
    }

    /// A record, with the attempts that were made so far.
    fn read(&self, id: Id) -> Result<std::result::Result<Due, Unreadable>> {
        let mut query = self.connection.prepare_cached(
            "SELECT key, attempts, received_ms, since_ms, sealed_by, checksum, names, keep FROM event WHERE id = ?1",
        )?;
        let (mut due, by, checksum) = query.query_row([id], |row| {
            let due = Due {
                id: told(id),
                key: ReplayKey::from_bytes(row.get(0)?),
                names: names_of(&row.get::<_, Vec<u8>>(6)?),
                keep: keep_of(row.get(7)?),
                attempt: row.get(1)?,
                received_ms: row.get(2)?,
                since_ms: row.get(3)?,
                head: bytes::Bytes::new(),
                body: bytes::Bytes::new(),
            };
            Ok((due, row.get::<_, Option<KeyId>>(4)?, row.get::<_, u32>(5)?))
        })?;
        let bytes = self
            .connection
            .prepare_cached("SELECT bytes FROM body WHERE event = ?1")?
            .query_row([id], |row| row.get::<_, Vec<u8>>(0));
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) if is_of_record(&error) => return Ok(Err(Unreadable::Damaged)),
            Err(error) => return Err(error),
        };
        Ok(self.keys.open(due.key, Sealed { bytes, by, checksum }).map(|(head, body)| {
            (due.head, due.body) = (head, body);
            due
        }))
    }

    fn set_aside(&mut self, id: Id) -> Result<()> {
        self.change(id, Happens::Unreadable, "damaged", 0)?;
        self.set_aside += 1;
        Ok(())
    }

    pub(super) fn settle(&mut self, id: Id, attempt: u32, came_to: &Attempted, now_ms: i64) -> Result<bool> {
        let is_ours = self
            .connection
            .prepare_cached(
                "SELECT 1 FROM event WHERE id = ?1 AND attempts = ?2 AND leased = 1 AND state = 'stored'",
            )?
            .exists(params![id, attempt])?;
        if !is_ours {
            return Ok(false);
        }
        match came_to {
            Attempted::Done => {
                for (name, keep) in self.names(id)? {
                    self.connection
                        .prepare_cached("INSERT OR REPLACE INTO done(key, keep, at_ms) VALUES(?1, ?2, ?3)")?
                        .execute(params![&name.as_bytes()[..], keep_to(keep), now_ms])?;
                }
                self.remove(id, Happens::Done)?;
            }
            Attempted::Later { due_ms, outcome } => {
                self.connection
                    .prepare_cached(
                        "UPDATE event SET leased = 0, due_ms = ?2, last_outcome = ?3 WHERE id = ?1",
                    )?
                    .execute(params![id, due_ms, &**outcome])?;
            }
            Attempted::Dead { outcome } => self.change(id, Happens::GivenUp, outcome, now_ms)?,
        }
        Ok(true)
    }

    /// Brings an event into the state that follows, with what it was last told.
    fn change(&mut self, id: Id, happens: Happens, outcome: &str, now_ms: i64) -> Result<()> {
        let Some((route, state, size)) = self.place(id)? else { return Ok(()) };
        let Some(after) = State::after(Some(state), happens) else { return self.remove(id, happens) };
        self.connection
            .prepare_cached(
                "UPDATE event SET state = ?2, leased = 0, last_outcome = ?3, \
                 died_ms = CASE ?2 WHEN 'dead' THEN ?4 END WHERE id = ?1",
            )?
            .execute(params![id, after.label(), outcome, now_ms])?;
        self.connection.prepare_cached("UPDATE name SET live = ?2 WHERE event = ?3 AND key = ?1").and_then(
            |mut update| {
                let live = after == State::Stored;
                self.names(id)?.iter().try_for_each(|(name, _)| {
                    update.execute(params![&name.as_bytes()[..], live, id]).map(drop)
                })
            },
        )?;
        self.moved(&route, Some(state), Some(after), size);
        Ok(())
    }

    fn place(&self, id: Id) -> Result<Option<(String, State, u64)>> {
        self.connection
            .prepare_cached("SELECT route, state, size FROM event WHERE id = ?1")?
            .query_row([id], |row| Ok((row.get(0)?, state_of(&row.get::<_, String>(1)?), row.get(2)?)))
            .optional()
    }

    fn names(&self, id: Id) -> Result<SmallVec<[(ReplayKey, Keep); 1]>> {
        let found = self
            .connection
            .prepare_cached("SELECT names, keep FROM event WHERE id = ?1")?
            .query_row([id], |row| Ok((row.get::<_, Vec<u8>>(0)?, keep_of(row.get(1)?))))
            .optional()?;
        let Some((names, keep)) = found else { return Ok(SmallVec::new()) };
        Ok(names_of(&names).into_iter().map(|name| (name, keep)).collect())
    }

    /// Takes a record away, if that follows from its state.
    fn remove(&mut self, id: Id, happens: Happens) -> Result<()> {
        let Some((route, state, size)) = self.place(id)? else { return Ok(()) };
        if State::after(Some(state), happens).is_some() {
            return Ok(());
        }
        for (name, _) in self.names(id)? {
            self.connection
                .prepare_cached("DELETE FROM name WHERE key = ?1 AND event = ?2")?
                .execute(params![&name.as_bytes()[..], id])?;
        }
        for statement in ["DELETE FROM body WHERE event = ?1", "DELETE FROM event WHERE id = ?1"] {
            self.connection.prepare_cached(statement)?.execute([id])?;
        }
        self.moved(&route, Some(state), None, size);
        Ok(())
    }

    pub(super) fn overtaken(&mut self, names: &[ReplayKey]) -> Result<()> {
        for name in names {
            if let Some((id, _)) = self.named(*name)? {
                self.remove(id, Happens::Overtaken)?;
            }
        }
        Ok(())
    }

    /// A copy of what was delivered from here may be delivered again.
    pub(super) fn forget(&mut self, name: ReplayKey) -> Result<()> {
        self.connection
            .prepare_cached("DELETE FROM done WHERE key = ?1")?
            .execute([&name.as_bytes()[..]])
            .map(drop)
    }

    pub(super) fn next_due(&mut self, route: &str) -> Result<Option<i64>> {
        self.connection
            .prepare_cached(
                "SELECT min(due_ms) FROM event WHERE state = 'stored' AND route = ?1 \
                 AND NOT EXISTS (SELECT 1 FROM paused WHERE paused.route = ?1)",
            )?
            .query_row([route], |row| row.get(0))
    }

    pub(super) fn list(
        &mut self,
        selection: &Selection,
        after: Id,
    ) -> Result<(Vec<Listed>, Option<inbox::Id>)> {
        let Selection { route, state, event, since_ms } = selection;
        let end = after.saturating_add(PART);
        let key = event.as_deref().and_then(|text| {
            data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok().filter(|key| key.len() == 16)
        });
        let mut query = self.connection.prepare_cached(
            "SELECT id, key, route, tenant, state, event_id, event_type, received_ms, attempts, due_ms, \
             last_outcome, size FROM event WHERE id > ?1 AND id <= ?2 \
             AND (?3 IS NULL OR route = ?3) AND (?4 IS NULL OR state = ?4) \
             AND (?5 IS NULL OR event_id = ?5 OR key = ?6) AND (?7 IS NULL OR received_ms >= ?7) \
             ORDER BY id LIMIT ?8",
        )?;
        let found: Vec<Listed> = query
            .query_map(
                params![
                    after,
                    end,
                    route.as_deref(),
                    state.map(State::label),
                    event.as_deref(),
                    key,
                    since_ms,
                    i64::try_from(PAGE).unwrap_or(i64::MAX)
                ],
                listed,
            )?
            .collect::<Result<_>>()?;
        let next = match found.last() {
            Some(last) if found.len() == PAGE => Some(last.id),
            _ => {
                let last: Option<Id> =
                    self.connection.query_row("SELECT max(id) FROM event", [], |row| row.get(0))?;
                last.filter(|last| *last > end).map(|_| told(end))
            }
        };
        Ok((found, next))
    }

    pub(super) fn show(&mut self, id: Id) -> Result<Option<(Listed, Option<Due>)>> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT id, key, route, tenant, state, event_id, event_type, received_ms, attempts, due_ms, \
                 last_outcome, size FROM event WHERE id = ?1",
            )?
            .query_row([id], listed)
            .optional()?;
        let Some(found) = found else { return Ok(None) };
        Ok(Some((found, self.read(id)?.ok())))
    }

    pub(super) fn replay(&mut self, id: Id, now_ms: i64, due_ms: i64) -> Result<Option<Vec<ReplayKey>>> {
        let Some((_, state, _)) = self.place(id)? else { return Ok(None) };
        if State::after(Some(state), Happens::Replay) != Some(State::Stored) {
            return Ok(None);
        }
        if state == State::Dead {
            self.change(id, Happens::Replay, "replayed", now_ms)?;
        }
        // One that is under way is left to its attempt.
        self.connection
            .prepare_cached("UPDATE event SET due_ms = ?2, since_ms = ?3 WHERE id = ?1 AND leased = 0")?
            .execute(params![id, due_ms, now_ms])?;
        Ok(Some(self.names(id)?.into_iter().map(|(name, _)| name).collect()))
    }

    pub(super) fn discard(&mut self, id: Id) -> Result<Option<Vec<ReplayKey>>> {
        if self.place(id)?.is_none() {
            return Ok(None);
        }
        let names = self.names(id)?.into_iter().map(|(name, _)| name).collect();
        self.remove(id, Happens::Drop)?;
        Ok(Some(names))
    }

    pub(super) fn pause(&mut self, route: &str, is_paused: bool) -> Result<()> {
        let statement = if is_paused {
            "INSERT OR IGNORE INTO paused(route) VALUES(?1)"
        } else {
            "DELETE FROM paused WHERE route = ?1"
        };
        self.connection.prepare_cached(statement)?.execute([route]).map(drop)
    }

    pub(super) fn paused(&mut self) -> Result<Vec<String>> {
        self.connection
            .prepare_cached("SELECT route FROM paused ORDER BY route")?
            .query_map([], |row| row.get(0))?
            .collect()
    }

    pub(super) fn tidy(&mut self, now_ms: i64, window_ms: i64, longest_ms: i64) -> Result<()> {
        // Each by an index of its own: nothing that is stored meanwhile waits for a look at all of them.
        let of_window =
            format!("SELECT key FROM done WHERE keep < {OWN_WINDOW} AND at_ms < ?1 ORDER BY at_ms");
        let of_own = format!("SELECT key FROM done WHERE keep >= {OWN_WINDOW} AND at_ms + keep < ?1");
        for (expired, before) in [(of_window, now_ms.saturating_sub(window_ms)), (of_own, now_ms)] {
            self.connection
                .prepare_cached(&format!("DELETE FROM done WHERE key IN ({expired} LIMIT ?2)"))?
                .execute(params![before, TIDIED * 10])?;
        }
        let furthest = now_ms.saturating_add(longest_ms);
        self.connection
            .prepare_cached(
                "UPDATE event SET due_ms = ?1 WHERE id IN (SELECT id FROM event WHERE state = 'stored' \
                 AND leased = 0 AND due_ms > ?2 LIMIT ?3)",
            )?
            .execute(params![now_ms, furthest, TIDIED])?;
        // The oldest of the dead go first: those kept for too long, and those over their share.
        let mut dead = self
            .connection
            .prepare_cached(
                "SELECT id, died_ms, size FROM event WHERE state = 'dead' ORDER BY died_ms LIMIT ?1",
            )?
            .query_map([TIDIED], |row| {
                Ok((row.get::<_, Id>(0)?, row.get::<_, i64>(1)?, row.get::<_, u64>(2)?))
            })?
            .collect::<Result<Vec<_>>>()?
            .into_iter();
        let total: Option<u64> = self
            .connection
            .prepare_cached("SELECT sum(size) FROM event WHERE state = 'dead'")?
            .query_row([], |row| row.get(0))?;
        let mut over = total.unwrap_or(0).saturating_sub(self.bounds.max_bytes / 4);
        let oldest = now_ms.saturating_sub(self.bounds.keep_dead_ms);
        for (id, _, size) in dead.by_ref().take_while(|(_, died_ms, _)| *died_ms < oldest) {
            self.remove(id, Happens::Drop)?;
            self.dead_dropped += 1;
            over = over.saturating_sub(size);
        }
        for (id, _, size) in dead {
            if over == 0 {
                break;
            }
            self.remove(id, Happens::Drop)?;
            self.dead_dropped += 1;
            over = over.saturating_sub(size);
        }
        Ok(())
    }
}

fn names_of(bytes: &[u8]) -> SmallVec<[ReplayKey; 1]> {
    let (names, _) = bytes.as_chunks::<16>();
    names.iter().map(|name| ReplayKey::from_bytes(*name)).collect()
}

/// As others know a row.
fn told(id: Id) -> inbox::Id {
    inbox::Id(id.unsigned_abs().into())
}

fn listed(row: &Row<'_>) -> Result<Listed> {
    let state = state_of(&row.get::<_, String>(4)?);
    Ok(Listed {
        id: told(row.get(0)?),
        key: ReplayKey::from_bytes(row.get(1)?),
        route: row.get(2)?,
        tenant: row.get(3)?,
        state,
        event_id: row.get(5)?,
        event_type: row.get(6)?,
        received_ms: row.get(7)?,
        attempts: row.get(8)?,
        next_attempt_ms: Some(row.get(9)?).filter(|_| state == State::Stored),
        last_outcome: row.get(10)?,
        bytes: row.get(11)?,
    })
}

/// Whether one record cannot be read, and not the database.
fn is_of_record(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::QueryReturnedNoRows | rusqlite::Error::InvalidColumnType(..))
        || error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseCorrupt)
}

fn number(depth: &mut Depth, state: State) -> &mut u64 {
    match state {
        State::Dead => &mut depth.dead,
        State::Damaged => &mut depth.damaged,
        State::Stored => &mut depth.stored,
    }
}

/// The table allows no other text; should one stand there, the record is not to be delivered.
fn state_of(text: &str) -> State {
    text.parse().unwrap_or(State::Damaged)
}
