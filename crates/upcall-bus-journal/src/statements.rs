//! The writer's SQL.

use rusqlite::{Connection, Statement, params};

use crate::clock;
use crate::index::{self, Key};
use crate::queue::Publication;

/// What the writer does again and again, prepared once for a connection.
pub(crate) struct Statements<'c> {
    pub(crate) db: &'c Connection,
    begin: Statement<'c>,
    commit: Statement<'c>,
    insert: Statement<'c>,
    has_id: Statement<'c>,
    put_id: Statement<'c>,
    set_indexed: Statement<'c>,
    floor: Statement<'c>,
    put_settled: Statement<'c>,
    prune_settled: Statement<'c>,
    put_retry: Statement<'c>,
    drop_retry: Statement<'c>,
    put_dead_letter: Statement<'c>,
    /// What `synchronous` is set to.
    full: bool,
}

/// Whether a transaction waits for the disk when it is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// It does, with all that came before it.
    Full,
    /// It does not: losing it in a power cut only means that something is done again.
    Lazy,
}

impl<'c> Statements<'c> {
    pub(crate) fn prepare(db: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            db,
            begin: db.prepare("BEGIN IMMEDIATE")?,
            commit: db.prepare("COMMIT")?,
            insert: db.prepare(
                "INSERT INTO event (sequence, id, epoch, subject, stored_at, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?,
            has_id: db.prepare("SELECT 1 FROM event_id WHERE epoch = ?1 AND id = ?2")?,
            put_id: db.prepare(index::PUT)?,
            set_indexed: db.prepare(index::INDEXED)?,
            floor: db.prepare("UPDATE consumer SET floor = ?2 WHERE name = ?1")?,
            put_settled: db
                .prepare("INSERT INTO settled (consumer, sequence) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?,
            prune_settled: db.prepare("DELETE FROM settled WHERE consumer = ?1 AND sequence <= ?2")?,
            // An event that retention has taken has nothing to come back for.
            put_retry: db.prepare(
                "INSERT INTO retry (consumer, sequence, set_at, due_at, attempts, reason)
                 SELECT ?1, sequence, ?3, ?4, ?5, ?6 FROM event WHERE sequence = ?2
                 ON CONFLICT DO UPDATE SET set_at = ?3, due_at = ?4, attempts = ?5, reason = ?6",
            )?,
            drop_retry: db.prepare("DELETE FROM retry WHERE consumer = ?1 AND sequence = ?2")?,
            put_dead_letter: db.prepare(
                "INSERT OR REPLACE INTO dead_letter
                     (consumer, sequence, id, subject, stored_at, payload, reason, attempts, died_at)
                 SELECT ?1, sequence, id, subject, stored_at, payload, ?3, ?4, ?5 FROM event WHERE sequence = ?2",
            )?,
            full: true,
        })
    }

    /// Runs a transaction. After an error nothing of it is there, and [`Statements::is_clean`] tells whether the
    /// connection may go on.
    pub(crate) fn transaction<T>(
        &mut self,
        sync: Sync,
        work: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.set_sync(sync)?;
        self.begin.execute(())?;
        let result = work(self).and_then(|value| self.commit.execute(()).map(|_| value));
        // Some errors have rolled back already.
        if result.is_err() && !self.db.is_autocommit() {
            let _is_seen_by_is_clean = self.db.execute_batch("ROLLBACK");
        }
        result
    }

    /// Whether no transaction is left open.
    pub(crate) fn is_clean(&self) -> bool {
        self.db.is_autocommit()
    }

    pub(crate) fn store(&mut self, sequence: u64, now: i64, event: &Publication) -> rusqlite::Result<()> {
        let Key { epoch, id } = event.key;
        self.insert.execute(params![sequence, id.as_bytes(), epoch, event.subject, now, event.payload]).map(drop)
    }

    /// Whether an id is in the table.
    pub(crate) fn has_id(&mut self, key: Key) -> rusqlite::Result<bool> {
        self.has_id.exists(params![key.epoch, key.id.as_bytes()])
    }

    pub(crate) fn put_id(&mut self, key: Key, sequence: u64) -> rusqlite::Result<()> {
        self.put_id.execute(params![key.epoch, key.id.as_bytes(), sequence]).map(drop)
    }

    pub(crate) fn set_indexed(&mut self, up_to: u64) -> rusqlite::Result<()> {
        self.set_indexed.execute([up_to]).map(drop)
    }

    pub(crate) fn raise_floor(&mut self, consumer: &str, floor: u64) -> rusqlite::Result<()> {
        self.floor.execute(params![consumer, floor]).map(drop)
    }

    pub(crate) fn put_settled(&mut self, consumer: &str, sequence: u64) -> rusqlite::Result<()> {
        self.put_settled.execute(params![consumer, sequence]).map(drop)
    }

    pub(crate) fn prune_settled(&mut self, consumer: &str, floor: u64) -> rusqlite::Result<()> {
        self.prune_settled.execute(params![consumer, floor]).map(drop)
    }

    pub(crate) fn put_retry(
        &mut self,
        consumer: &str,
        sequence: u64,
        due_at: i64,
        attempts: u32,
        reason: &str,
    ) -> rusqlite::Result<()> {
        let set_at = clock::steady_ms();
        self.put_retry.execute(params![consumer, sequence, set_at, due_at, attempts, reason]).map(drop)
    }

    pub(crate) fn drop_retry(&mut self, consumer: &str, sequence: u64) -> rusqlite::Result<()> {
        self.drop_retry.execute(params![consumer, sequence]).map(drop)
    }

    pub(crate) fn put_dead_letter(
        &mut self,
        consumer: &str,
        sequence: u64,
        reason: &str,
        attempts: u32,
    ) -> rusqlite::Result<()> {
        self.put_dead_letter.execute(params![consumer, sequence, reason, attempts, clock::now_ms()]).map(drop)
    }

    fn set_sync(&mut self, sync: Sync) -> rusqlite::Result<()> {
        let full = sync == Sync::Full;
        if self.full != full {
            self.db.execute_batch(if full { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" })?;
            self.full = full;
        }
        Ok(())
    }
}
