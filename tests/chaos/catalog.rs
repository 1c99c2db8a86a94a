//! The consumer's table, watched: a trigger writes down every effect, so that one that happens twice shows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::facts::Upload;
use crate::executable::PATIENCE;

/// How long the consumer may hold the database's lock.
const LOCK_WAIT: Duration = Duration::from_secs(20);
/// Long enough for some uploads to arrive, whatever their rate.
const LOCKED_FOR: Duration = Duration::from_millis(400);
const POLL: Duration = Duration::from_millis(50);

const WATCH: &str = "
CREATE TABLE effect (request_id TEXT NOT NULL, what TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX effect_request_id ON effect (request_id);
CREATE TRIGGER effect_insert AFTER INSERT ON uploads BEGIN
  INSERT INTO effect VALUES (NEW.request_id, 'inserted', unixepoch('subsec'));
END;
CREATE TRIGGER effect_update AFTER UPDATE ON uploads BEGIN
  INSERT INTO effect VALUES (NEW.request_id, 'updated', unixepoch('subsec'));
END;
CREATE TRIGGER effect_delete AFTER DELETE ON uploads BEGIN
  INSERT INTO effect VALUES (OLD.request_id, 'deleted', unixepoch('subsec'));
END;";

/// A row, in the shape of the event's data.
const ROWS: &str = "
SELECT event_id, json_object(
  'bucket', bucket, 'object', object, 'etag', etag, 'size', size, 'mime_type', mime_type, 'crc64', crc64,
  'content_md5', content_md5,
  'image', json_object('width', image_width, 'height', image_height, 'format', image_format),
  'operation', operation, 'request_id', request_id, 'client_ip', client_ip, 'vpc_id', vpc_id, 'vars', json(vars),
  'extra', json(extra), 'route', route, 'bucket_from', bucket_from, 'proof', json(proof), 'origin', origin)
FROM uploads";

/// The consumer's database.
pub struct Catalog {
    path: PathBuf,
}

/// One effect: what was done, and when (Unix time in seconds).
pub(crate) type Effect = (String, f64);

impl Catalog {
    /// Waits until the consumer has made its table, and begins to watch it.
    ///
    /// # Errors
    /// If there is no table in time.
    pub(crate) fn watch(path: PathBuf) -> anyhow::Result<Self> {
        let end = Instant::now() + PATIENCE;
        loop {
            let tables = "SELECT count(*) FROM sqlite_schema WHERE name IN ('uploads', 'uploads_applied')";
            let made = open(&path).and_then(|db| Ok(db.query_row(tables, [], |row| row.get::<_, u32>(0))?));
            if made.as_ref().is_ok_and(|tables| *tables == 2) {
                break;
            }
            ensure!(Instant::now() < end, "the consumer makes no table: {made:?}");
            std::thread::sleep(POLL);
        }
        open(&path)?.execute_batch(WATCH)?;
        Ok(Self { path })
    }

    /// Whether the consumer has applied an upload.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn has(&self, upload: Upload) -> anyhow::Result<bool> {
        let query = "SELECT count(*) FROM effect WHERE request_id = ?";
        let effects: u32 = open(&self.path)?.query_row(query, [upload.request_id()], |row| row.get(0))?;
        Ok(effects > 0)
    }

    /// Does something after the consumer could not write for a moment: it holds what it was delivered meanwhile.
    ///
    /// # Errors
    /// If the database can't be locked.
    pub(crate) fn while_locked(&self, act: impl FnOnce()) -> anyhow::Result<()> {
        let db = open(&self.path)?;
        db.execute_batch("BEGIN IMMEDIATE")?;
        std::thread::sleep(LOCKED_FOR);
        act();
        Ok(db.execute_batch("ROLLBACK")?)
    }

    /// Every effect by request id, in the order in which they happened.
    ///
    /// # Errors
    /// If the database can't be read.
    pub(crate) fn effects(&self) -> anyhow::Result<BTreeMap<String, Vec<Effect>>> {
        let db = open(&self.path)?;
        let mut statement = db.prepare("SELECT request_id, what, at FROM effect ORDER BY rowid")?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, (row.get(1)?, row.get(2)?))))?;
        let mut effects = BTreeMap::<String, Vec<Effect>>::new();
        for row in rows {
            let (request_id, effect) = row?;
            effects.entry(request_id).or_default().push(effect);
        }
        Ok(effects)
    }

    /// Every row's event id, and what it says in the shape of an event's data.
    ///
    /// # Errors
    /// If the database can't be read.
    pub(crate) fn rows(&self) -> anyhow::Result<Vec<(String, Value)>> {
        let db = open(&self.path)?;
        let mut statement = db.prepare(ROWS)?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        rows.map(|row| row.map_err(Into::into).and_then(|(id, json)| Ok((id, serde_json::from_str(&json)?)))).collect()
    }
}

fn open(path: &Path) -> anyhow::Result<Connection> {
    // It is the consumer's to make.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).with_context(|| path.display().to_string())?;
    db.busy_timeout(LOCK_WAIT)?;
    Ok(db)
}
