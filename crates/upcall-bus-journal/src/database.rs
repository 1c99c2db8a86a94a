//! The writer's connection: how it is opened, made durable, and checkpointed.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::OpenError;
use crate::schema::{self, DATABASE, LOG};

/// The writer's memory for pages, in KiB. The index of ids is touched in random order: what does not fit here comes
/// out of the system's cache.
const CACHE_KIB: i64 = 8 << 10;
/// Somebody may have the file open in a shell; that must not hold up publishers for long.
const BUSY_WAIT: Duration = Duration::from_millis(200);
/// What the write-ahead log may keep on disk when it starts again from its beginning.
const WAL_BYTES_KEPT: i64 = 64 << 20;

thread_local! {
    static WAL_PAGES: Cell<u64> = const { Cell::new(0) };
}

/// What became of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checkpoint {
    /// All of the write-ahead log is in the database.
    Whole,
    /// A reader still needs a part of it.
    Held,
}

/// Opens the database for writing, and makes whatever it holds durable: after a crash, an event may be in the
/// system's cache only, and a publisher who brings it again must not be told that it is on disk.
pub(crate) fn open(folder: &Path) -> Result<Connection, OpenError> {
    let file = folder.join(DATABASE);
    let error = |source| OpenError::database(file.clone(), source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(&file, flags).map_err(error)?;
    db.busy_timeout(BUSY_WAIT).map_err(error)?;
    schema::check(&db, &file)?;
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).map_err(error)?;
    db.execute_batch(&format!(
        "PRAGMA synchronous = FULL; PRAGMA cache_size = -{CACHE_KIB}; PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = {WAL_BYTES_KEPT}; PRAGMA temp_store = MEMORY;"
    ))
    .map_err(error)?;
    db.wal_hook(Some(|_, pages| {
        WAL_PAGES.set(u64::try_from(pages).unwrap_or(0));
        Ok(())
    }));
    schema::migrate(&mut db, &file)?;
    // Not the database itself: closing any descriptor of it would drop the locks that SQLite holds on it for the whole
    // process (POSIX has them so), and another process would then take the log away from under us. Nor is there need:
    // SQLite syncs the database before it reuses the log.
    for name in [LOG, "."] {
        let path = folder.join(name);
        match File::open(&path).and_then(|file| file.sync_all()) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(OpenError::Io { path, source }),
            _ => {}
        }
    }
    Ok(db)
}

/// How many pages the write-ahead log had after the last commit of this thread.
pub(crate) fn wal_pages() -> u64 {
    WAL_PAGES.get()
}

/// Copies the write-ahead log into the database, as far as no reader needs it. Blocks nobody.
pub(crate) fn checkpoint(db: &Connection) -> rusqlite::Result<Checkpoint> {
    run_checkpoint(db, "PRAGMA wal_checkpoint(PASSIVE)")
}

/// The same, and gives the log's space back if nobody reads just now.
pub(crate) fn checkpoint_and_truncate(db: &Connection) -> rusqlite::Result<Checkpoint> {
    db.busy_timeout(Duration::ZERO)?;
    let result = run_checkpoint(db, "PRAGMA wal_checkpoint(TRUNCATE)");
    db.busy_timeout(BUSY_WAIT)?;
    result
}

/// Opens the database a second time, for checkpoints beside the writer.
pub(crate) fn open_beside(folder: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(folder.join(DATABASE), flags)?;
    db.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0")?;
    Ok(db)
}

/// Copies the write-ahead log as it is now, and tells how many pages could not be copied: they came meanwhile, or a
/// reader needs them.
pub(crate) fn pages_left(db: &Connection) -> rusqlite::Result<i64> {
    copy_log(db, "PRAGMA wal_checkpoint(PASSIVE)")?;
    let now = copy_log(db, "PRAGMA wal_checkpoint(NOOP)")?;
    Ok(now.pages - now.copied)
}

struct Copied {
    busy: bool,
    pages: i64,
    copied: i64,
}

fn copy_log(db: &Connection, pragma: &str) -> rusqlite::Result<Copied> {
    db.query_row(pragma, (), |row| {
        Ok(Copied { busy: row.get::<_, i64>(0)? != 0, pages: row.get(1)?, copied: row.get(2)? })
    })
}

fn run_checkpoint(db: &Connection, pragma: &str) -> rusqlite::Result<Checkpoint> {
    let log = copy_log(db, pragma)?;
    if !log.busy && log.pages == log.copied {
        WAL_PAGES.set(0);
        return Ok(Checkpoint::Whole);
    }
    Ok(Checkpoint::Held)
}
