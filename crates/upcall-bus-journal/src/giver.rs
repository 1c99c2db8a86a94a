//! Writing beside the writer: what operators give to a consumer again.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, params};
use upcall_bus::StoredEvent;
use upcall_event::EventId;

use crate::schema::{self, DATABASE};
use crate::{OpenError, clock, database, lock};

/// How many events go in one transaction, and what their payloads take: publishers wait a few milliseconds for it.
const PART_MAX: usize = 256;
const PART_BYTES_MAX: usize = 1 << 20;
/// How often is tried to get the lock, and how many times: the writer frees it for a moment only where many publish,
/// and a shell may hold it.
const TRY_EVERY: Duration = Duration::from_millis(1);
const TRIES_MAX: i32 = 20_000;
/// After a transaction the lock is left to the writer for so many times as long as it was held.
const REST: u32 = 2;
const REST_MAX: Duration = Duration::from_millis(200);

/// A connection that writes beside the writer.
#[derive(Debug)]
pub(crate) struct Giver {
    db: Connection,
    rest_until: Instant,
}

/// An event to be given, as it is written.
pub(crate) struct Given {
    sequence: u64,
    id: EventId,
    subject: String,
    stored_at: i64,
    payload: String,
}

impl Given {
    /// Makes rows of events, in parts of which each goes in one transaction.
    pub(crate) fn parts(mut events: &[StoredEvent]) -> impl Iterator<Item = Vec<Self>> {
        std::iter::from_fn(move || {
            let (mut part, mut bytes) = (Vec::new(), 0);
            while let Some((event, rest)) = events.split_first() {
                if part.len() == PART_MAX || bytes >= PART_BYTES_MAX {
                    break;
                }
                let given = Self::new(event);
                bytes += given.payload.len();
                part.push(given);
                events = rest;
            }
            (!part.is_empty()).then_some(part)
        })
    }

    fn new(stored: &StoredEvent) -> Self {
        Self {
            sequence: stored.sequence,
            id: stored.event.id,
            subject: stored.subject.as_str().to_owned(),
            stored_at: stored.stored_at.as_millisecond(),
            payload: String::from_utf8_lossy(&stored.event.to_structured()).into_owned(),
        }
    }
}

impl Giver {
    /// Opens a journal, bringing an older one that nobody has open up to date.
    pub(crate) fn open(folder: &Path) -> Result<Self, OpenError> {
        let file = folder.join(DATABASE);
        let error = |source| OpenError::database(file.clone(), source);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&file, flags).map_err(error)?;
        if schema::check(&db, &file)? < schema::version() {
            let _lock = lock::lock(folder)?;
            drop(database::open(folder)?);
        }
        let again = |tries| {
            thread::sleep(TRY_EVERY);
            tries < TRIES_MAX
        };
        db.busy_handler(Some(again)).map_err(error)?;
        db.pragma_update(None, "synchronous", "FULL").map_err(error)?;
        Ok(Self { db, rest_until: Instant::now() })
    }

    pub(crate) fn retry_dead_letter(&mut self, number: u64) -> rusqlite::Result<bool> {
        self.transaction(|db| {
            let given = db.execute(
                "INSERT INTO redelivery
                     (consumer, sequence, id, subject, stored_at, payload, set_at, due_at, attempts, reason)
                 SELECT consumer, sequence, id, subject, stored_at, payload, ?2, ?2, 0, reason
                 FROM dead_letter WHERE number = ?1",
                params![number, clock::now_ms()],
            )?;
            db.execute("DELETE FROM dead_letter WHERE number = ?1", [number])?;
            Ok(given > 0)
        })
    }

    pub(crate) fn drop_dead_letter(&mut self, number: u64) -> rusqlite::Result<bool> {
        self.transaction(|db| Ok(db.execute("DELETE FROM dead_letter WHERE number = ?1", [number])? > 0))
    }

    pub(crate) fn drop_quarantined(&mut self, number: u64) -> rusqlite::Result<bool> {
        self.transaction(|db| Ok(db.execute("DELETE FROM quarantine WHERE number = ?1", [number])? > 0))
    }

    /// Gives events to a consumer, but for those that it was given under this name. Returns how many were given.
    pub(crate) fn give(&mut self, consumer: &str, replay: &str, events: &[Given]) -> rusqlite::Result<u64> {
        self.transaction(|db| {
            let now = clock::now_ms();
            let number: i64 = db.query_row(
                "INSERT INTO replay (consumer, name, given_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT (consumer, name) DO UPDATE SET given_at = ?3 RETURNING number",
                params![consumer, replay, now],
                |row| row.get(0),
            )?;
            let mut note =
                db.prepare("INSERT INTO replayed (replay, sequence) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?;
            let mut give = db.prepare(
                "INSERT INTO redelivery
                     (consumer, replay, sequence, id, subject, stored_at, payload, set_at, due_at, attempts, reason)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, 0, '')",
            )?;
            let mut given = 0;
            for Given { sequence, id, subject, stored_at, payload } in events {
                if note.execute(params![number, sequence])? == 1 {
                    let id = id.as_bytes();
                    give.execute(params![consumer, replay, sequence, id, subject, stored_at, payload, now])?;
                    given += 1;
                }
            }
            Ok(given)
        })
    }

    fn transaction<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        thread::sleep(self.rest_until.saturating_duration_since(Instant::now()));
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let began = Instant::now();
        let result = work(&transaction).and_then(|value| transaction.commit().map(|()| value));
        self.rest_until = Instant::now() + (began.elapsed() * REST).min(REST_MAX);
        result
    }
}
