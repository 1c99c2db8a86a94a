//! The one thread that writes.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, params};
use tokio::sync::watch;
use tracing::{info, warn};
use upcall_bus::{ConsumerSpec, PublishErrorKind, Receipt, Start, SubscribeErrorKind};

use crate::checkpointer::{Checkpointer, Step};
use crate::database::{self, Checkpoint};
use crate::error::{Cause, Fault, publish_kind};
use crate::plan::Plan;
use crate::queue::{Queue, Request, Work};
use crate::reader::last_sequence;
use crate::retention;
use crate::session::{Lease, Session};
use crate::statements::{Statements, Sync};
use crate::{OpenError, Options, clock};

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

/// What the handles, the subscriptions and the writer share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) queue: Arc<Queue>,
    /// The newest sequence that is durable.
    pub(crate) committed: watch::Sender<u64>,
    /// Turns true when the writer is gone and the files are free.
    pub(crate) finished: watch::Sender<bool>,
    fault: Mutex<Option<Cause>>,
}

impl Shared {
    pub(crate) fn new(options: Options, last: u64) -> Self {
        Self {
            queue: Arc::new(Queue::new(options.queue_max)),
            options,
            committed: watch::Sender::new(last),
            finished: watch::Sender::new(false),
            fault: Mutex::default(),
        }
    }

    pub(crate) fn fault(&self) -> Option<Cause> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_fault(&self, fault: Option<Cause>) {
        let mut now = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*now, &fault) {
            (None, Some(cause)) => warn!(cause = %cause, "the journal can't write; publishers are refused"),
            (Some(_), None) => info!("the journal writes again"),
            _ => {}
        }
        *now = fault;
    }
}

/// The one thread that writes.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    lock: Option<File>,
    checkpointer: Option<Checkpointer>,
    sessions: HashMap<String, Arc<Session>>,
    next_sequence: u64,
    faulty: bool,
    retention: retention::Schedule,
    checkpoint_at: u64,
    receipts: Vec<Receipt>,
}

/// Why a connection is given up.
enum End {
    Closed,
    Uncertain,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, lock: File, checkpointer: Checkpointer, last: u64) -> Self {
        Self {
            shared,
            lock: Some(lock),
            checkpointer: Some(checkpointer),
            sessions: HashMap::new(),
            next_sequence: last + 1,
            faulty: false,
            retention: retention::Schedule::new(RETENTION_EVERY),
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
            self.shared.queue.take(&mut work, wait, last_group);
            last_group = work.publications.len();
            let idle = work.publications.is_empty() && work.requests.is_empty();
            if self.requests(&mut statements, &mut work).is_err() {
                return Ok(End::Uncertain);
            }
            if work.closed {
                return Ok(End::Closed);
            }
            if self.faulty && last_probe.elapsed() >= PROBE_EVERY {
                last_probe = Instant::now();
                self.probe(&mut statements)?;
            }
            if let Err(error) = self.retention.run(&mut statements, &self.shared.options.retention, &self.sessions) {
                if !leaves_certainty(&error) || !statements.is_clean() {
                    return Err(error);
                }
                // Publishers go on for as long as there is room for them.
                warn!(cause = %Cause::new(&error), "events past their retention could not be removed");
            }
            self.checkpoint(db, idle && !self.retention.has_more());
        }
    }

    /// Does the requests in their order and, with the settlements that come last among them, the publications.
    fn requests(&mut self, statements: &mut Statements<'_>, work: &mut Work) -> Result<(), Uncertain> {
        let mut plans: Vec<Plan> = Vec::new();
        for request in work.requests.drain(..) {
            match request {
                Request::Settle(settle) => plan_of(&mut plans, &settle.session).push(settle),
                Request::Advance(session) => drop(plan_of(&mut plans, &session)),
                Request::Release(session) => {
                    self.group(statements, &mut Vec::new(), std::mem::take(&mut plans))?;
                    session.lock().released = true;
                    if self.sessions.get(&session.name).is_some_and(|now| Arc::ptr_eq(now, &session)) {
                        self.sessions.remove(&session.name);
                    }
                }
                Request::Subscribe { spec, done } => {
                    self.group(statements, &mut Vec::new(), std::mem::take(&mut plans))?;
                    let lease = self.subscribe(statements, &spec);
                    // A lease that nobody takes is given back by being dropped.
                    drop(done.send(lease));
                }
                #[cfg(test)]
                Request::Execute(sql, done) => {
                    statements.db.execute_batch(&sql).unwrap();
                    let _ = done.send(());
                }
            }
        }
        self.group(statements, &mut work.publications, plans)
    }

    /// One transaction.
    fn group(
        &mut self,
        statements: &mut Statements<'_>,
        publications: &mut Vec<crate::queue::Publication>,
        mut plans: Vec<Plan>,
    ) -> Result<(), Uncertain> {
        let now = Instant::now();
        // Who has given up is not stored: the sender was told, or is gone.
        publications.retain(|publication| !publication.done.is_closed() && publication.deadline > now);
        plans.retain_mut(Plan::admit);
        if publications.is_empty() && plans.is_empty() {
            return Ok(());
        }
        let sync = if publications.is_empty() { Sync::Lazy } else { Sync::Full };
        let before = self.next_sequence;
        let result = statements.transaction(sync, |statements| {
            let now = clock::now_ms();
            self.receipts.clear();
            for publication in publications.iter() {
                let stored = statements.store(self.next_sequence, now, publication)?;
                self.next_sequence += u64::from(stored);
                self.receipts.push(if stored { Receipt::Stored } else { Receipt::Duplicate });
            }
            plans.iter_mut().try_for_each(|plan| plan.write(statements))
        });
        let Err(error) = result else {
            for (publication, receipt) in publications.drain(..).zip(&self.receipts) {
                let _ = publication.done.send(Ok(*receipt));
            }
            plans.into_iter().for_each(Plan::finish);
            if self.next_sequence > before {
                self.shared.committed.send_replace(self.next_sequence - 1);
                self.set_fault(None);
            }
            return Ok(());
        };
        self.next_sequence = before;
        let (kind, cause) = (publish_kind(&error), Cause::new(&error));
        self.set_fault(Some(cause.clone()));
        let certain = statements.is_clean() && leaves_certainty(&error);
        if certain && !publications.is_empty() && !plans.is_empty() {
            self.refuse(std::mem::take(publications), Vec::new(), kind, &cause);
            // Settlements need little room: where the disk is full they may go without the events.
            return self.group(statements, publications, plans);
        }
        self.refuse(std::mem::take(publications), Vec::new(), kind, &cause);
        plans.into_iter().for_each(|plan| plan.fail(&cause));
        if certain { Ok(()) } else { Err(Uncertain) }
    }

    fn subscribe(
        &mut self,
        statements: &mut Statements<'_>,
        spec: &ConsumerSpec,
    ) -> Result<Lease, Fault<SubscribeErrorKind>> {
        let name = spec.name.as_str();
        if self.sessions.contains_key(name) {
            return Err(SubscribeErrorKind::InUse.into());
        }
        let last = self.next_sequence - 1;
        let opened = statements.transaction(Sync::Full, |statements| {
            let floor = match spec.start {
                Start::New => last,
                Start::Oldest => {
                    statements
                        .db
                        .query_row("SELECT coalesce(min(sequence) - 1, ?1) FROM event", [last], |row| row.get(0))?
                }
            };
            statements.db.execute(
                "INSERT INTO consumer (name, filter, floor, created_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (name) DO UPDATE SET filter = ?2 WHERE filter <> ?2",
                params![name, spec.filter.as_str(), floor, clock::now_ms()],
            )?;
            let in_flight_max = self.shared.options.in_flight_max.max(1);
            let queue = Arc::clone(&self.shared.queue);
            Session::load(statements.db, name.to_owned(), spec.filter.clone(), in_flight_max, queue)
        });
        match opened {
            Ok(session) => {
                let session = Arc::new(session);
                self.sessions.insert(name.to_owned(), Arc::clone(&session));
                Ok(Lease(session))
            }
            Err(error) => Err(Fault::new(SubscribeErrorKind::Unavailable, Cause::new(&error))),
        }
    }

    /// Finds out whether there is room again when no publisher comes to try.
    fn probe(&mut self, statements: &mut Statements<'_>) -> rusqlite::Result<()> {
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
        let db = database::open(folder)?;
        if database::checkpoint(&db).map_err(failed)? == Checkpoint::Held {
            return Err(failed(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
                Some("a reader keeps the write-ahead log from being copied".to_owned()),
            )));
        }
        let last = last_sequence(&db).map_err(failed)?;
        self.next_sequence = last + 1;
        for session in self.sessions.values() {
            session.lock().retry_rows_uncertain = true;
        }
        self.shared.committed.send_replace(last);
        Ok(db)
    }

    fn refuse(
        &mut self,
        publications: Vec<crate::queue::Publication>,
        requests: Vec<Request>,
        kind: PublishErrorKind,
        cause: &Cause,
    ) {
        for publication in publications {
            let _ = publication.done.send(Err(Fault::new(kind, cause.clone())));
        }
        for request in requests {
            match request {
                Request::Settle(settle) => {
                    let mut plan = Plan::new(Arc::clone(&settle.session));
                    plan.push(settle);
                    plan.fail(cause);
                }
                Request::Subscribe { done, .. } => {
                    drop(done.send(Err(Fault::new(SubscribeErrorKind::Unavailable, cause.clone()))));
                }
                Request::Release(session) => {
                    session.lock().released = true;
                    self.sessions.remove(&session.name);
                }
                _ => {}
            }
        }
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

/// It is not known whether a transaction is there: the connection can't be trusted any more.
struct Uncertain;

/// Whether SQLite has undone a transaction that failed so, and the connection may go on.
fn leaves_certainty(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::TooBig)
    )
}

fn plan_of<'p>(plans: &'p mut Vec<Plan>, session: &Arc<Session>) -> &'p mut Plan {
    let at = plans.iter().position(|plan| Arc::ptr_eq(&plan.session, session)).unwrap_or_else(|| {
        plans.push(Plan::new(Arc::clone(session)));
        plans.len() - 1
    });
    &mut plans[at]
}
