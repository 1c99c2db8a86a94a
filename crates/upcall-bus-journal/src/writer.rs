//! The one thread that writes.

mod group;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use tracing::warn;
use upcall_bus::{PublishErrorKind, Receipt};

use crate::aging::Aging;
use crate::checkpointer::{Checkpointer, Step};
use crate::database::{self, Checkpoint};
use crate::error::Cause;
use crate::index::Index;
use crate::lock::Lock;
use crate::place::Place;
use crate::queue::Work;
use crate::reader::last_sequence;
use crate::session::Session;
use crate::shared::Shared;
use crate::statements::{Statements, Sync};
use crate::{OpenError, retention};

/// How large the write-ahead log gets before it is copied into the database: 32 MiB. Small enough for any disk,
/// large enough that pages which change often are copied once.
const CHECKPOINT_PAGES: u64 = 8_192;
/// How large it gets while it is being copied before publishers wait for that: 128 MiB, where the disk is too slow.
const WAL_PAGES_MAX: u64 = 32_768;
/// How much further it grows before another attempt, where a reader held the last one up.
const CHECKPOINT_PAGES_AGAIN: u64 = 2_048;
/// How long nothing has happened before the log's space is given back.
const IDLE: Duration = Duration::from_secs(1);
/// How often a journal that could not write tries again by itself.
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// What such an attempt writes: room for this much is room for events.
const PROBE_BYTES: u32 = 64 << 10;
/// How often events are looked for that are past their time.
const RETENTION_EVERY: Duration = Duration::from_secs(1);

/// The one thread that writes.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    lock: Option<Lock>,
    checkpointer: Option<Checkpointer>,
    sessions: HashMap<String, Arc<Session>>,
    index: Index,
    place: Place,
    next_sequence: u64,
    faulty: bool,
    retention: retention::Schedule,
    aging: Aging,
    checkpoint_at: u64,
    /// What became of each publication of a group; nothing of one that is late.
    receipts: Vec<Option<Receipt>>,
}

/// Why a connection is given up.
enum End {
    Closed,
    Uncertain,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, lock: Lock, checkpointer: Checkpointer, index: Index, last: u64) -> Self {
        Self {
            place: Place::of(&shared.options.folder),
            shared,
            lock: Some(lock),
            checkpointer: Some(checkpointer),
            sessions: HashMap::new(),
            index,
            next_sequence: last + 1,
            faulty: false,
            retention: retention::Schedule::new(RETENTION_EVERY),
            aging: Aging::new(),
            checkpoint_at: CHECKPOINT_PAGES,
            receipts: Vec::new(),
        }
    }

    /// Writes until the queue is closed and empty. After a failure that leaves a transaction's fate uncertain it
    /// opens the files anew, however often it takes.
    pub(crate) fn run(mut self, db: Connection) {
        let mut db = Some(db);
        loop {
            if let Some(db) = db.take() {
                match self.serve(&db) {
                    Ok(End::Closed) => break self.last_checkpoint(&db),
                    Ok(End::Uncertain) => {}
                    Err(error) => self.failed(&error),
                }
                continue;
            }
            match self.reopen() {
                Ok(opened) => db = Some(opened),
                Err(error) => {
                    let cause = Cause::new(&error);
                    let mut work = Work::default();
                    self.shared.queue.take(&mut work, PROBE_EVERY, 0);
                    self.refuse(work.publications, work.requests, PublishErrorKind::Unavailable, &cause);
                    self.set_fault(Some(cause));
                    if work.closed {
                        break;
                    }
                }
            }
        }
    }

    fn serve(&mut self, db: &Connection) -> rusqlite::Result<End> {
        let mut statements = Statements::prepare(db)?;
        let mut work = Work::default();
        let (mut last_probe, mut last_group) = (Instant::now(), 0);
        loop {
            let wait = match (self.retention.has_more(), self.faulty) {
                (true, _) => Duration::ZERO,
                (_, true) => PROBE_EVERY,
                _ => IDLE,
            };
            self.shared.set_turn(None);
            self.shared.queue.take(&mut work, wait, last_group);
            self.shared.set_turn(Some(Instant::now()));
            last_group = work.publications.len();
            let idle = work.publications.is_empty() && work.requests.is_empty();
            if self.requests(&mut statements, &mut work).is_err() {
                return Ok(End::Uncertain);
            }
            if work.closed {
                return Ok(End::Closed);
            }
            if idle && let Some(cause) = self.lost() {
                self.set_fault(Some(cause));
            }
            if self.faulty && last_probe.elapsed() >= PROBE_EVERY {
                last_probe = Instant::now();
                self.probe(&mut statements)?;
            }
            self.index.tidy();
            let keep = &self.shared.options;
            let removed = self.retention.run(&mut statements, &self.shared, &self.sessions, &mut self.index);
            if let Err(error) = removed.and_then(|()| self.aging.run(&mut statements, keep)) {
                if !leaves_certainty(&error) || !statements.is_clean() {
                    return Err(error);
                }
                // Publishers go on for as long as there is room for them.
                warn!(cause = %Cause::new(&error), "events past their retention could not be removed");
            }
            self.checkpoint(db, idle && !self.retention.has_more());
        }
    }

    /// Says why nothing that is written would be where the next start finds it, or alone there.
    fn lost(&mut self) -> Option<Cause> {
        self.place.lost().or_else(|| self.lock.as_mut().and_then(Lock::lost))
    }

    /// Finds out whether there is room again when no publisher comes to try.
    fn probe(&mut self, statements: &mut Statements<'_>) -> rusqlite::Result<()> {
        if self.lost().is_some() {
            return Ok(());
        }
        let written = statements
            .transaction(Sync::Full, |statements| {
                statements.db.execute("UPDATE state SET probe = zeroblob(?1)", [PROBE_BYTES])
            })
            .and_then(|_| {
                statements
                    .transaction(Sync::Full, |statements| statements.db.execute("UPDATE state SET probe = NULL", ()))
            });
        match written {
            Ok(_) => self.set_fault(None),
            Err(error) if leaves_certainty(&error) && statements.is_clean() => self.failed(&error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Has the write-ahead log copied into the database when it is large, and its space given back when nothing else
    /// is to be done. A failure is no publisher's business: the events are safe in the log.
    fn checkpoint(&mut self, db: &Connection, idle: bool) {
        let pages = database::wal_pages();
        let Some(checkpointer) = &self.checkpointer else { return };
        let result = match checkpointer.step() {
            Step::Running if pages < WAL_PAGES_MAX => return,
            Step::Running | Step::Done => {
                checkpointer.wait();
                checkpointer.set(Step::Idle);
                // The log starts again from its beginning only if nothing was written since.
                database::checkpoint(db)
            }
            _ if idle && pages > 0 => database::checkpoint_and_truncate(db),
            _ if pages >= self.checkpoint_at => return checkpointer.set(Step::Running),
            _ => return,
        };
        match result {
            Ok(Checkpoint::Whole) => self.checkpoint_at = CHECKPOINT_PAGES,
            Ok(Checkpoint::Held) => self.checkpoint_at = pages + CHECKPOINT_PAGES_AGAIN,
            Err(error) => {
                self.checkpoint_at = pages + CHECKPOINT_PAGES_AGAIN;
                warn!(cause = %Cause::new(&error), "the journal's write-ahead log could not be copied into the database");
            }
        }
    }

    fn last_checkpoint(&mut self, db: &Connection) {
        // Whoever closes last copies and removes the log.
        self.checkpointer = None;
        if let Err(error) = database::checkpoint_and_truncate(db) {
            warn!(cause = %Cause::new(&error), "the journal was closed without a last checkpoint; nothing is lost");
        }
    }

    /// Opens the files anew. What a failed fsync left in the system's cache counts as written there, so that it is
    /// written once more, into the database, before anything is acknowledged.
    fn reopen(&mut self) -> Result<Connection, OpenError> {
        let folder = &self.shared.options.folder;
        let failed = |source| OpenError::database(folder.join(crate::schema::DATABASE), source);
        if let Some(checkpointer) = &self.checkpointer {
            checkpointer.wait();
            checkpointer.set(Step::Idle);
        }
        // Another journal would begin its sequences anew, and consumers are read from this one.
        if let Some(cause) = self.place.lost_database() {
            return Err(OpenError::Lost { cause: Box::new(cause) });
        }
        let db = database::open(folder)?;
        self.place = Place::of(folder);
        if database::checkpoint(&db).map_err(failed)? == Checkpoint::Held {
            return Err(failed(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
                Some("a reader keeps the write-ahead log from being copied".to_owned()),
            )));
        }
        let last = last_sequence(&db).map_err(failed)?;
        self.index = Index::load(&db).map_err(failed)?;
        self.next_sequence = last + 1;
        for session in self.sessions.values() {
            session.lock().retry_rows_uncertain = true;
        }
        self.shared.committed.send_replace(last);
        Ok(db)
    }

    fn failed(&mut self, error: &rusqlite::Error) {
        self.set_fault(Some(Cause::new(error)));
    }

    fn set_fault(&mut self, fault: Option<Cause>) {
        if fault.is_some() || self.faulty {
            self.faulty = fault.is_some();
            self.shared.set_fault(fault);
        }
    }
}

impl Drop for Writer {
    /// However the thread ends, nobody waits for it in vain.
    fn drop(&mut self) {
        self.shared.queue.close();
        let mut left = Work::default();
        self.shared.queue.take(&mut left, Duration::ZERO, 0);
        drop(left);
        self.checkpointer = None;
        self.lock = None;
        self.shared.finished.send_replace(true);
    }
}

/// Whether SQLite has undone a transaction that failed so, and the connection may go on.
fn leaves_certainty(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::TooBig)
    )
}
