//! The database of the shelf and its thread: requests that wait are written together, those that have no room any
//! more are taken away in the same transaction.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::share::{Over, Row, leaves};
use super::{
    Bounds, Drop, Facts, Kept, Listed, Observer, Opened, Refused, Selection, Settings, Shared, Told, Totals,
};
use crate::clock;
use crate::gate::filter::replay::ReplayKey;
use crate::inbox::database::{self, Fault};
use crate::inbox::seal::{Keys, Sealed, Unreadable};
use crate::lock::lock;

/// "hoor": what this database is, for `file` and for us.
const APPLICATION: i64 = 0x686f_6f72;
/// Which table it has.
const VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE refused(
  number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE CHECK(length(id) = 16),
  route TEXT NOT NULL, tenant TEXT, reason TEXT NOT NULL, client TEXT, received_ms INTEGER NOT NULL,
  held TEXT NOT NULL, size INTEGER NOT NULL, sealed_by INTEGER, checksum INTEGER NOT NULL, bytes BLOB NOT NULL
) STRICT;
";

/// Not confirmed by the disk at each commit, because nobody was promised anything; overwritten when it is taken
/// away, because of what strangers may have sent.
const PRAGMAS: &str = "
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA secure_delete = ON;
PRAGMA temp_store = MEMORY;
PRAGMA journal_size_limit = 4194304;
PRAGMA cache_size = -1024;
PRAGMA trusted_schema = OFF;
PRAGMA cell_size_check = ON;
";

/// How many requests are written together.
const BATCH: usize = 64;
/// The disk has others to serve: no more is written in a second.
const BYTES_A_SECOND: u64 = 4 << 20;
const REQUESTS_A_SECOND: u32 = 200;
/// How long a request is kept.
const KEEP: Duration = Duration::from_secs(7 * 24 * 3600);
/// Between two looks at what was kept for that long.
const LOOK: Duration = Duration::from_secs(60);

/// What the thread is told to do.
pub(super) enum Order {
    Keep(Box<Refused>),
    Do(Box<dyn FnOnce(&mut Tables) + Send>),
}

pub(super) struct Writer {
    tables: Tables,
    /// Held as long as the database is open.
    _lock: File,
    orders: Receiver<Order>,
    shared: Arc<Shared>,
    tell: Observer,
    in_trouble: bool,
}

pub(super) struct Tables {
    connection: Connection,
    pub(super) keys: Arc<Keys>,
    bounds: Bounds,
    /// Every record, in the order of their numbers.
    rows: Vec<Row>,
    bytes: u64,
}

impl Writer {
    pub(super) fn open(
        settings: Settings,
        orders: Receiver<Order>,
        shared: Arc<Shared>,
        now_ms: i64,
    ) -> std::result::Result<(Self, Opened), Fault> {
        let Settings { folder, bounds, keys, tell } = settings;
        database::make(&folder)?;
        let held = database::hold(&folder, "refused.lock")?;
        let path = folder.join("refused.db");
        let mut opened = Opened::default();
        let (connection, rows) = match load(&path) {
            Err(Fault::Database(error)) if database::is_damage(&error) => {
                let aside = path.with_extension("damaged");
                std::fs::rename(&path, &aside).map_err(Fault::Io)?;
                for beside in ["db-wal", "db-shm"] {
                    _ = std::fs::remove_file(path.with_extension(beside));
                }
                opened.aside = Some(aside);
                load(&path)?
            }
            loaded => loaded?,
        };
        let bytes = rows.iter().map(|row| row.size).sum();
        let tables = Tables { connection, keys, bounds, rows, bytes };
        let mut writer = Writer { tables, _lock: held, orders, shared, tell, in_trouble: false };
        writer.write(&[], now_ms);
        opened.kept = writer.tables.rows.len();
        Ok((writer, opened))
    }

    /// Until nobody can order any more.
    pub(super) fn run(mut self) {
        let mut looked = Instant::now();
        loop {
            let first = match self.orders.recv_timeout(LOOK) {
                Ok(first) => Some(first),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut batch = Vec::new();
            let mut orders = Vec::new();
            for order in first.into_iter().chain(self.orders.try_iter().take(BATCH - 1)) {
                match order {
                    Order::Keep(refused) => batch.push(*refused),
                    Order::Do(work) => orders.push(work),
                }
            }
            let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
            let size: u64 = batch.iter().map(Refused::size).sum();
            if count > 0 || looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.write(&batch, clock::now().wall_ms);
            }
            self.shared.waiting.fetch_sub(size, Ordering::Relaxed);
            for work in orders {
                work(&mut self.tables);
                self.publish();
            }
            let by_size = Duration::from_millis(size.saturating_mul(1000) / BYTES_A_SECOND);
            let by_count = Duration::from_secs(u64::from(count)) / REQUESTS_A_SECOND;
            std::thread::sleep(by_size.max(by_count));
        }
    }

    /// Writes what came, and takes away what has no room or was there for long enough.
    fn write(&mut self, batch: &[Refused], now_ms: i64) {
        match self.tables.write(batch, now_ms) {
            Ok(left) => {
                for refused in batch {
                    (self.tell)(Told::Kept { route: &refused.route, reason: refused.reason.label() });
                }
                for (route, why) in &left {
                    (self.tell)(Told::Dropped { route, why: *why });
                }
                if std::mem::take(&mut self.in_trouble) {
                    (self.tell)(Told::Mended);
                }
            }
            Err(error) => {
                for refused in batch {
                    (self.tell)(Told::Dropped { route: &refused.route, why: Drop::Unwritten });
                }
                if !std::mem::replace(&mut self.in_trouble, true) {
                    (self.tell)(Told::Trouble { message: &error.to_string() });
                }
            }
        }
        self.publish();
    }

    fn publish(&self) {
        *lock(&self.shared.totals) = Totals { requests: self.tables.rows.len(), bytes: self.tables.bytes };
    }
}

impl Tables {
    fn write(&mut self, batch: &[Refused], now_ms: i64) -> Result<Vec<(Arc<str>, Drop)>> {
        let before = (self.rows.clone(), self.bytes);
        let written = self.try_write(batch, now_ms);
        if written.is_err() {
            // Where `SQLite` has done it already there is nothing to roll back.
            _ = self.connection.execute_batch("ROLLBACK");
            (self.rows, self.bytes) = before;
        }
        written
    }

    fn try_write(&mut self, batch: &[Refused], now_ms: i64) -> Result<Vec<(Arc<str>, Drop)>> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        for refused in batch {
            self.put(refused)?;
        }
        let left = self.make_room(now_ms)?;
        self.connection.execute_batch("COMMIT")?;
        Ok(left)
    }

    fn put(&mut self, refused: &Refused) -> Result<()> {
        let Refused { id, route, reason, facts, head, body } = refused;
        let mut told = serde_json::to_vec(facts)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        told.push(b'\n');
        told.extend_from_slice(head);
        let sealed = self.keys.seal(*id, &told, body).ok_or(rusqlite::Error::InvalidQuery)?;
        let size = refused.size();
        let client = facts.client.map(|client| client.to_string());
        self.connection
            .prepare_cached(
                "INSERT INTO refused(id, route, tenant, reason, client, received_ms, held, size, sealed_by, checksum, \
                 bytes) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                &id.as_bytes()[..],
                &**route,
                facts.tenant,
                reason.label(),
                client,
                facts.received_ms,
                facts.held.label(),
                size,
                sealed.by,
                sealed.checksum,
                sealed.bytes,
            ])?;
        self.rows.push(Row {
            number: self.connection.last_insert_rowid(),
            route: Arc::clone(route),
            reason: reason.label().into(),
            client: facts.client,
            received_ms: facts.received_ms,
            size,
        });
        self.bytes += size;
        Ok(())
    }

    /// What had to leave, and why.
    fn make_room(&mut self, now_ms: i64) -> Result<Vec<(Arc<str>, Drop)>> {
        let mut left = Vec::new();
        let oldest = now_ms.saturating_sub(clock::millis(KEEP));
        while let Some(at) = self.rows.iter().position(|row| row.received_ms < oldest) {
            left.push((self.take_away(at)?, Drop::Expired));
        }
        loop {
            let over = if self.rows.len() > self.bounds.requests {
                Over::Requests
            } else if self.bytes > self.bounds.bytes {
                Over::Bytes
            } else {
                return Ok(left);
            };
            let Some(at) = leaves(&self.rows, over) else { return Ok(left) };
            left.push((self.take_away(at)?, Drop::Room));
        }
    }

    fn take_away(&mut self, at: usize) -> Result<Arc<str>> {
        let row = &self.rows[at];
        self.connection.prepare_cached("DELETE FROM refused WHERE number = ?1")?.execute([row.number])?;
        let row = self.rows.remove(at);
        self.bytes = self.bytes.saturating_sub(row.size);
        Ok(row.route)
    }

    pub(super) fn remove(&mut self, id: ReplayKey) -> Result<bool> {
        let number: Option<i64> = self
            .connection
            .prepare_cached("SELECT number FROM refused WHERE id = ?1")?
            .query_row([&id.as_bytes()[..]], |row| row.get(0))
            .optional()?;
        match number.and_then(|number| self.rows.iter().position(|row| row.number == number)) {
            Some(at) => self.take_away(at).map(|_| true),
            None => Ok(false),
        }
    }

    pub(super) fn list(&mut self, selection: &Selection) -> Result<Vec<Listed>> {
        let Selection { id, route, reason, since_ms } = selection;
        self.connection
            .prepare_cached(&format!(
                "SELECT {LISTED} FROM refused WHERE (?1 IS NULL OR id = ?1) AND (?2 IS NULL OR route = ?2) \
                 AND (?3 IS NULL OR reason = ?3) AND (?4 IS NULL OR received_ms >= ?4) ORDER BY number"
            ))?
            .query_map(params![id.map(|id| id.as_bytes().to_vec()), route, reason, since_ms], listed)?
            .collect()
    }

    pub(super) fn read(
        &mut self,
        id: ReplayKey,
    ) -> Result<Option<(Listed, std::result::Result<Kept, Unreadable>)>> {
        let found = self
            .connection
            .prepare_cached(&format!(
                "SELECT {LISTED}, sealed_by, checksum, bytes FROM refused WHERE id = ?1"
            ))?
            .query_row([&id.as_bytes()[..]], |row| {
                let sealed = Sealed { by: row.get(8)?, checksum: row.get(9)?, bytes: row.get(10)? };
                Ok((listed(row)?, sealed))
            })
            .optional()?;
        Ok(found.map(|(listed, sealed)| (listed, self.opened(id, sealed))))
    }

    fn opened(&self, id: ReplayKey, sealed: Sealed) -> std::result::Result<Kept, Unreadable> {
        let (mut head, body) = self.keys.open(id, sealed)?;
        let end = head.iter().position(|byte| *byte == b'\n').ok_or(Unreadable::Damaged)?;
        let facts: Bytes = head.split_to(end);
        let facts: Facts = serde_json::from_slice(&facts).map_err(|_| Unreadable::Damaged)?;
        Ok(Kept { id, facts, head: head.slice(1..), body })
    }
}

/// What a list tells, in the order in which it is read.
const LISTED: &str = "id, route, tenant, reason, client, received_ms, held, size";

fn listed(row: &rusqlite::Row<'_>) -> Result<Listed> {
    Ok(Listed {
        id: ReplayKey::from_bytes(row.get(0)?),
        route: row.get(1)?,
        tenant: row.get(2)?,
        reason: row.get(3)?,
        client: row.get(4)?,
        received_ms: row.get(5)?,
        held: row.get(6)?,
        bytes: row.get(7)?,
    })
}

fn load(path: &Path) -> std::result::Result<(Connection, Vec<Row>), Fault> {
    let connection = database::connect(path, PRAGMAS, (APPLICATION, VERSION), SCHEMA)?;
    let mut query = connection
        .prepare("SELECT number, route, reason, client, received_ms, size FROM refused ORDER BY number")?;
    let rows = query
        .query_map([], |row| {
            let client: Option<String> = row.get(3)?;
            Ok(Row {
                number: row.get(0)?,
                route: row.get::<_, String>(1)?.into(),
                reason: row.get::<_, String>(2)?.into(),
                client: client.and_then(|client| client.parse().ok()),
                received_ms: row.get(4)?,
                size: row.get(5)?,
            })
        })?
        .collect::<Result<Vec<_>>>()?;
    drop(query);
    Ok((connection, rows))
}
