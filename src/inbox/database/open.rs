//! Opening the database: whose it is, what it holds, and what can be saved of a damaged one.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, OpenFlags, params};

use super::tables::Tables;
use crate::files::WITHOUT_WAITING;
use crate::gate::filter::replay::{Keep, ReplayKey};
use crate::inbox::Bounds;
use crate::inbox::keep::{OWN_WINDOW, keep_of};
use crate::inbox::seal::Keys;

/// "hook": what this database is, for `file` and for us.
const APPLICATION: i64 = 0x686f_6f6b;
/// Which tables it has.
const VERSION: i64 = 1;

/// The tables. A record's small fields stand apart from its bytes, so that a start reads the first only.
const SCHEMA: &str = "
CREATE TABLE event(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  key BLOB NOT NULL, names BLOB NOT NULL, keep INTEGER NOT NULL,
  route TEXT NOT NULL, tenant TEXT, event_id TEXT, event_type TEXT,
  state TEXT NOT NULL CHECK(state IN ('stored', 'dead', 'damaged')),
  received_ms INTEGER NOT NULL, since_ms INTEGER NOT NULL, due_ms INTEGER NOT NULL,
  attempts INTEGER NOT NULL, leased INTEGER NOT NULL, last_outcome TEXT, died_ms INTEGER,
  size INTEGER NOT NULL, sealed_by INTEGER, checksum INTEGER NOT NULL
) STRICT;
CREATE TABLE body(event INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
CREATE TABLE name(key BLOB PRIMARY KEY, event INTEGER NOT NULL, keep INTEGER NOT NULL, live INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE done(key BLOB PRIMARY KEY, keep INTEGER NOT NULL, at_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE paused(route TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE INDEX event_due ON event(route, due_ms) WHERE state = 'stored';
CREATE INDEX event_oldest ON event(route, received_ms) WHERE state = 'stored';
CREATE INDEX event_leased ON event(id) WHERE leased = 1;
CREATE INDEX event_died ON event(died_ms) WHERE state = 'dead';
CREATE INDEX done_at ON done(at_ms);
";

/// Durable at each commit, one process alone, and no memory shared with anybody: a full disk is an error
/// and not a fault of memory.
const PRAGMAS: &str = "
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA temp_store = MEMORY;
PRAGMA wal_autocheckpoint = 4000;
PRAGMA journal_size_limit = 67108864;
PRAGMA cache_size = -8192;
PRAGMA trusted_schema = OFF;
PRAGMA cell_size_check = ON;
";

/// What a copy must not be delivered of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is stored.
    Stored(Keep),
    /// It was delivered from the inbox at that time.
    Done { keep: Keep, at_ms: i64 },
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    pub stored: u64,
    pub dead: u64,
    /// Attempts that were under way when the process ended.
    pub interrupted: u64,
    /// Sealed with a key that is not there: they wait for it.
    pub without_key: u64,
    /// The damaged database was put aside under this name, and so many records were saved and lost.
    pub salvaged: Option<Salvaged>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvaged {
    pub aside: PathBuf,
    pub saved: u64,
    pub lost: u64,
}

/// Why the inbox cannot be opened.
#[derive(Debug)]
pub enum Fault {
    Io(io::Error),
    /// Another process has it.
    InUse(PathBuf),
    /// It is something else than a folder.
    NoFolder(PathBuf),
    /// A database of something else.
    Foreign(PathBuf),
    /// Made by a version that came later.
    Later(PathBuf, i64),
    Database(rusqlite::Error),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Io(error) => {
                write!(f, "{error}; let the user that hookgate runs as write the folder")
            }
            Fault::InUse(path) => {
                write!(
                    f,
                    "{} is used by another process: stop it, or name a folder for each gate",
                    path.display()
                )
            }
            Fault::NoFolder(path) => write!(f, "{} is no folder: name one", path.display()),
            Fault::Foreign(path) => {
                write!(f, "{} is a database of something else: name another folder", path.display())
            }
            Fault::Later(path, version) => write!(
                f,
                "{} is of format {version}, which this version does not know: start the version that wrote it, \
                 or name another folder",
                path.display()
            ),
            Fault::Database(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                write!(f, "{error}; make room on the disk")
            }
            Fault::Database(error) => write!(f, "{error}; restore the folder, or name another one"),
        }
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// Whether another folder, or none, has to be named; else it is the machine's fault.
    pub fn is_of_configuration(&self) -> bool {
        matches!(self, Fault::NoFolder(_) | Fault::Foreign(_) | Fault::Later(..))
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Fault::Database(error)
    }
}

pub(super) fn open(
    folder: PathBuf,
    bounds: Bounds,
    keys: Arc<Keys>,
    now_ms: i64,
    kept: &mut dyn FnMut(ReplayKey, Kept),
) -> Result<(Tables, File, Opened), Fault> {
    make(&folder)?;
    let lock = hold(&folder, "lock")?;
    let path = folder.join("inbox.db");
    let mut opened = Opened::default();
    let found = connect_inbox(&path).and_then(|connection| {
        let mut found = Vec::new();
        read(&connection, &mut |key, what| found.push((key, what)))?;
        Ok((connection, found))
    });
    let (connection, found) = match found {
        Err(Fault::Database(error)) if is_damage(&error) => {
            let (connection, salvaged) = salvage(&path, now_ms)?;
            opened.salvaged = Some(salvaged);
            let mut found = Vec::new();
            read(&connection, &mut |key, what| found.push((key, what)))?;
            (connection, found)
        }
        found => found?,
    };
    for (key, what) in found {
        kept(key, what);
    }
    // What is under way at each crash may be what causes them: it waits longer each time.
    opened.interrupted = connection
        .execute(
            "UPDATE event SET leased = 0, due_ms = ?1 + CASE WHEN attempts < 3 THEN 0 \
             ELSE 1000 << min(attempts - 3, 11) END WHERE leased = 1",
            [now_ms],
        )
        .map(|count| count as u64)?;
    let tables = Tables::new(connection, bounds, keys, folder)?;
    for depth in tables.depths().values() {
        opened.stored += depth.stored;
        opened.dead += depth.dead;
    }
    opened.without_key = tables.without_key()?;
    Ok((tables, lock, opened))
}

/// The folder, for its owner alone.
pub fn make(folder: &Path) -> Result<(), Fault> {
    match folder.metadata() {
        Ok(there) if there.is_dir() => Ok(()),
        Ok(_) => Err(Fault::NoFolder(folder.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(Fault::Io)
        }
        Err(error) => Err(Fault::Io(error)),
    }
}

/// Of a file beside the database, because `SQLite`'s own lock ends whenever the process closes the file.
pub fn hold(folder: &Path, name: &str) -> Result<File, Fault> {
    let file = private().open(folder.join(name)).map_err(Fault::Io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Fault::InUse(folder.to_owned())),
        Err(TryLockError::Error(error)) => Err(Fault::Io(error)),
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(WITHOUT_WAITING);
    options
}

fn connect_inbox(path: &Path) -> Result<Connection, Fault> {
    let connection = connect(path, PRAGMAS, (APPLICATION, VERSION), SCHEMA)?;
    connection.execute_batch(&format!(
        "CREATE INDEX IF NOT EXISTS done_own ON done(at_ms + keep) WHERE keep >= {OWN_WINDOW};"
    ))?;
    // What a sync that failed may have left in the memory of the machine alone is made durable now.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))?;
    Ok(connection)
}

/// Opens a database of that application and version, or makes it with these tables.
pub fn connect(
    path: &Path,
    pragmas: &str,
    (its_application, its_version): (i64, i64),
    schema: &str,
) -> Result<Connection, Fault> {
    // Made here, so that nobody else can read it from the first moment; `SQLite` gives the same to its log.
    private().open(path).map_err(Fault::Io)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.execute_batch(pragmas)?;
    let number = |what: &str| connection.pragma_query_value(None, what, |row| row.get::<_, i64>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (application, version, tables) {
        (0, 0, 0) => {
            let made = format!(
                "BEGIN IMMEDIATE; {schema} PRAGMA application_id = {its_application}; PRAGMA user_version = {its_version}; \
                 COMMIT;"
            );
            connection.execute_batch(&made)?;
            // The folder's entry is as durable as what is in the file.
            if let Some(folder) = path.parent() {
                File::open(folder).and_then(|folder| folder.sync_all()).map_err(Fault::Io)?;
            }
        }
        (application, version, _) if (application, version) == (its_application, its_version) => {}
        (application, later, _) if application == its_application => {
            return Err(Fault::Later(path.to_owned(), later));
        }
        _ => return Err(Fault::Foreign(path.to_owned())),
    }
    Ok(connection)
}

/// Every name that a copy must not be delivered of.
fn read(connection: &Connection, kept: &mut dyn FnMut(ReplayKey, Kept)) -> Result<(), Fault> {
    let mut names = connection.prepare("SELECT key, keep FROM name WHERE live = 1")?;
    let mut rows = names.query([])?;
    while let Some(row) = rows.next()? {
        kept(ReplayKey::from_bytes(row.get(0)?), Kept::Stored(keep_of(row.get(1)?)));
    }
    let mut done = connection.prepare("SELECT key, keep, at_ms FROM done")?;
    let mut rows = done.query([])?;
    while let Some(row) = rows.next()? {
        let (keep, at_ms) = (keep_of(row.get(1)?), row.get(2)?);
        kept(ReplayKey::from_bytes(row.get(0)?), Kept::Done { keep, at_ms });
    }
    // Read through, so that damage is found now and not when an event is due.
    let mut events = connection.prepare("SELECT id, length(names), state, size FROM event NOT INDEXED")?;
    let mut rows = events.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

pub fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        || matches!(
            error,
            rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
        )
}

/// Puts a damaged database aside, and brings over each record that can still be read.
fn salvage(path: &Path, now_ms: i64) -> Result<(Connection, Salvaged), Fault> {
    let aside = path.with_extension(format!("damaged-{now_ms}"));
    let beside = |path: &Path, suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    std::fs::rename(path, &aside).map_err(Fault::Io)?;
    match std::fs::rename(beside(path, "-wal"), beside(&aside, "-wal")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Fault::Io(error)),
        Ok(()) | Err(_) => {}
    }
    let connection = connect_inbox(path)?;
    let (mut saved, mut lost) = (0, 0);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if let Ok(old) = Connection::open_with_flags(&aside, flags) {
        _ = old.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA writable_schema = ON;");
        connection.execute_batch("BEGIN IMMEDIATE")?;
        (saved, lost) = copy(&old, &connection)?;
        connection.execute_batch("COMMIT")?;
    }
    Ok((connection, Salvaged { aside, saved, lost }))
}

/// Row by row, by number: a page that cannot be read costs the records on it and no other.
fn copy(old: &Connection, new: &Connection) -> Result<(u64, u64), Fault> {
    const COLUMNS: &str = "id, key, names, keep, route, tenant, event_id, event_type, state, received_ms, \
                           since_ms, due_ms, attempts, leased, last_outcome, died_ms, size, sealed_by, checksum";
    let end = |table: &str, column: &str, way: &str| {
        old.query_row(&format!("SELECT {column} FROM {table} ORDER BY {column} {way} LIMIT 1"), [], |row| {
            row.get::<_, i64>(0)
        })
    };
    // The ends of either table bound the numbers, if one of them can be read.
    let ends = |way: &str| [end("event", "id", way), end("body", "event", way)].into_iter().flatten();
    let first = ends("ASC").min().unwrap_or(1).max(1);
    let furthest = ends("DESC").max().unwrap_or(0).min(first.saturating_add(50_000_000));
    let (mut saved, mut lost) = (0, 0);
    let Ok(mut event) = old.prepare(&format!("SELECT {COLUMNS} FROM event NOT INDEXED WHERE id = ?1")) else {
        return Ok((0, 0));
    };
    let mut body = old.prepare("SELECT bytes FROM body WHERE event = ?1")?;
    let marks = vec!["?"; COLUMNS.split(',').count()].join(", ");
    let mut put = new.prepare(&format!("INSERT INTO event({COLUMNS}) VALUES({marks})"))?;
    let mut put_body = new.prepare("INSERT INTO body(event, bytes) VALUES(?1, ?2)")?;
    let mut put_name =
        new.prepare("INSERT OR REPLACE INTO name(key, event, keep, live) VALUES(?1, ?2, ?3, ?4)")?;
    for id in first..=furthest {
        let read = event.query_row([id], |row| {
            (0..19).map(|at| row.get::<_, rusqlite::types::Value>(at)).collect::<Result<Vec<_>, _>>()
        });
        let fields = match read {
            Ok(fields) => fields,
            Err(rusqlite::Error::QueryReturnedNoRows) => continue,
            Err(_) => {
                lost += 1;
                continue;
            }
        };
        let bytes = body.query_row([id], |row| row.get::<_, Vec<u8>>(0));
        let (Ok(bytes), Ok(_)) = (bytes, put.execute(rusqlite::params_from_iter(fields.iter()))) else {
            lost += 1;
            continue;
        };
        put_body.execute(params![id, bytes])?;
        let (names, keep, live) =
            new.query_row("SELECT names, keep, state = 'stored' FROM event WHERE id = ?1", [id], |row| {
                Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?, row.get::<_, bool>(2)?))
            })?;
        for key in names.chunks_exact(16) {
            put_name.execute(params![key, id, keep, live])?;
        }
        saved += 1;
    }
    for (table, columns) in [("done", "key, keep, at_ms"), ("paused", "route")] {
        let Ok(mut rows) = old.prepare(&format!("SELECT {columns} FROM {table}")) else { continue };
        let width = rows.column_count();
        let marks = vec!["?"; width].join(", ");
        let mut put = new.prepare(&format!("INSERT OR IGNORE INTO {table}({columns}) VALUES({marks})"))?;
        let Ok(mut rows) = rows.query([]) else { continue };
        while let Ok(Some(row)) = rows.next() {
            let fields: Result<Vec<rusqlite::types::Value>, _> = (0..width).map(|at| row.get(at)).collect();
            if let Ok(fields) = fields {
                _ = put.execute(rusqlite::params_from_iter(fields));
            }
        }
    }
    Ok((saved, lost))
}
