//! Rejected callbacks: how they are kept, and how they go.

use async_trait::async_trait;
use rusqlite::{Connection, params};
use tokio::sync::oneshot;
use upcall_bus::{ArchiveError, Quarantine, Quarantined, RejectedCallback};

use crate::clock;
use crate::error::Cause;
use crate::options::QuarantineBounds;
use crate::queue::Request;
use crate::statements::{Statements, Sync};
use crate::{Journal, ReadError};

/// How many rows go in one transaction: few enough that publishers hardly notice.
pub(crate) const BATCH: usize = 256;

/// A rejected callback as it is written.
pub(crate) struct Row {
    rejected_at: i64,
    code: String,
    route: Option<String>,
    callback: String,
}

#[async_trait]
impl Quarantine for Journal {
    /// Goes through the writer, behind what waits for it, and waits for no disk of its own.
    async fn quarantine(&self, rejected: &[RejectedCallback]) -> Result<(), ArchiveError> {
        for rejected in rejected.chunks(BATCH) {
            let (done, answer) = oneshot::channel();
            let request = Request::Quarantine { rows: rejected.iter().map(Row::new).collect(), done };
            let closed = || ArchiveError::new("the journal is closed");
            self.shared().queue.request(request).map_err(|_| closed())?;
            answer.await.map_err(|_| closed())?.map_err(|cause| ArchiveError::new(cause.to_string()))?;
        }
        Ok(())
    }
}

impl Row {
    fn new(rejected: &RejectedCallback) -> Self {
        Self {
            rejected_at: rejected.time.as_millisecond(),
            code: rejected.code.clone(),
            route: rejected.route.clone(),
            callback: rejected.to_json(),
        }
    }
}

/// Keeps rows. A power cut may undo it.
pub(crate) fn put(statements: &mut Statements<'_>, rows: &[Row]) -> rusqlite::Result<()> {
    statements.transaction(Sync::Lazy, |statements| {
        let mut put = statements.db.prepare(
            "INSERT INTO quarantine (rejected_at, code, route, size_bytes, callback) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        rows.iter().try_for_each(|Row { rejected_at, code, route, callback }| {
            put.execute(params![rejected_at, code, route, callback.len(), callback]).map(drop)
        })
    })
}

/// The number up to which rows are beyond what is kept; 0 if none is.
pub(crate) fn beyond(db: &Connection, bounds: &QuarantineBounds) -> rusqlite::Result<u64> {
    let age = i64::try_from(bounds.age.as_millis()).unwrap_or(i64::MAX);
    let size = i64::try_from(bounds.size_bytes).unwrap_or(i64::MAX);
    let oldest = clock::now_ms().saturating_sub(age);
    let within = "SELECT coalesce(min(rejected_at) >= ?1 AND count(*) <= ?2 AND sum(size_bytes) <= ?3, 1)
                  FROM quarantine INDEXED BY quarantine_bounds";
    // The usual case, which costs little.
    if db.query_row(within, params![oldest, bounds.rows, size], |row| row.get(0))? {
        return Ok(0);
    }
    db.prepare(
        "SELECT coalesce(max(number), 0) FROM (
             SELECT number, rejected_at, row_number() OVER newest AS place, sum(size_bytes) OVER newest AS bytes
             FROM quarantine INDEXED BY quarantine_bounds WINDOW newest AS (ORDER BY number DESC)
         ) WHERE rejected_at < ?1 OR place > ?2 OR bytes > ?3",
    )?
    .query_row(params![oldest, bounds.rows, size], |row| row.get(0))
}

/// Removes one batch of the rows up to a number, and tells how many it were.
pub(crate) fn remove(db: &Connection, up_to: u64) -> rusqlite::Result<usize> {
    db.prepare(
        "DELETE FROM quarantine WHERE number IN (SELECT number FROM quarantine WHERE number <= ?1 ORDER BY number LIMIT ?2)",
    )?
    .execute(params![up_to, BATCH])
}

/// Reads rows after a number. One that somebody has spoilt by hand is passed over.
pub(crate) fn read(db: &Connection, after: u64, max: usize) -> Result<Vec<Quarantined>, ReadError> {
    let mut statement = db.prepare("SELECT number, callback FROM quarantine WHERE number > ?1 ORDER BY number")?;
    let mut rows = statement.query([after])?;
    let mut kept = Vec::new();
    while kept.len() < max {
        let Some(row) = rows.next()? else { break };
        if let Ok(callback) = RejectedCallback::from_json(row.get_ref(1)?.as_bytes().unwrap_or_default()) {
            kept.push(Quarantined { number: row.get(0)?, callback });
        }
    }
    Ok(kept)
}

/// What became of rows that were to be kept.
pub(crate) type Kept = Result<(), Cause>;
