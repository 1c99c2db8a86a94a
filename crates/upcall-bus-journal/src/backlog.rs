//! What a relay to another bus reads: the events in their order, as they are stored, without a word about each.

use std::fmt;
use std::sync::Arc;

use rusqlite::{Connection, params};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use upcall_bus::{SettleError, SettleErrorKind};
use upcall_event::EventId;

use crate::ReadError;
use crate::journal::Handle;
use crate::queue::Request;
use crate::session::Lease;

/// What the events of one call take in memory, about: some thousands, so that a call's own cost does not show.
const READ_BYTES_MAX: usize = 4 << 20;

/// A durable place in the journal, the *floor*, behind which nothing is removed. Ahead of it the events are read in
/// their order, any number of times, and nothing is noted about any of them.
///
/// The journal stays open for as long as a backlog is.
pub struct Backlog {
    reader: Option<Connection>,
    /// Kept while a read that was begun is not finished: it has the connection.
    reading: Option<JoinHandle<(Connection, rusqlite::Result<Vec<RawEvent>>)>>,
    committed: watch::Receiver<u64>,
    finished: watch::Receiver<bool>,
    lease: Lease,
    _journal: Arc<Handle>,
}

/// An event as the journal holds it, unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawEvent {
    /// Its place: larger is later.
    pub sequence: u64,
    /// When it was stored, in milliseconds since 1970.
    pub stored_at_ms: i64,
    /// The subject that it was published on. Not parsed: somebody may have changed it by hand.
    pub subject: String,
    /// The event's id.
    pub id: EventId,
    /// The event, a CloudEvent in structured mode. Not parsed: somebody may have changed it by hand.
    pub payload: String,
}

impl Backlog {
    pub(crate) fn new(journal: Arc<Handle>, lease: Lease, reader: Connection) -> Self {
        Self {
            reader: Some(reader),
            reading: None,
            committed: journal.shared.committed.subscribe(),
            finished: journal.shared.finished.subscribe(),
            lease,
            _journal: journal,
        }
    }

    /// Everything up to this sequence has been released.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.lease.0.lock().floor
    }

    /// The newest sequence that is durable. Cheap.
    #[must_use]
    pub fn last(&self) -> u64 {
        *self.committed.borrow()
    }

    /// Reads the events after a sequence, in their order: at most `max` (at least one), and not more than about 4 MiB
    /// of them. None when there is nothing newer, for now.
    ///
    /// # Errors
    /// If the journal can't be read. The next call may succeed.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped; the next call waits for what it had begun.
    pub async fn read(&mut self, after: u64, max: usize) -> Result<Vec<RawEvent>, ReadError> {
        if let Some(dropped) = &mut self.reading {
            let (reader, _unwanted) = dropped.await.map_err(|error| ReadError { source: error.into() })?;
            (self.reading, self.reader) = (None, Some(reader));
        }
        let last = self.last();
        if after >= last {
            return Ok(Vec::new());
        }
        let reader = self.reader.take().ok_or_else(|| ReadError { source: "an earlier read has panicked".into() })?;
        let reading = self.reading.insert(tokio::task::spawn_blocking(move || {
            let events = read(&reader, after, last, max.max(1));
            (reader, events)
        }));
        let read = reading.await;
        self.reading = None;
        let (reader, events) = read.map_err(|error| ReadError { source: error.into() })?;
        self.reader = Some(reader);
        Ok(events?)
    }

    /// Returns once an event with a larger sequence is durable, or the journal is closed.
    ///
    /// # Cancel safety
    /// Dropping the future only stops the waiting.
    pub async fn grown(&mut self, beyond: u64) {
        tokio::select! {
            _ = self.committed.wait_for(|last| *last > beyond) => {}
            _ = self.finished.wait_for(|finished| *finished) => {}
        }
    }

    /// Raises the floor: what is not above this sequence is not read again after a restart, and may be removed. It is
    /// not waited for the disk. A power cut may undo the last ones, and nothing else does.
    ///
    /// # Errors
    /// If the journal can't be written, or is closed.
    ///
    /// # Cancel safety
    /// Dropping the future only stops the waiting: the floor is raised, unless that fails.
    pub async fn release(&mut self, up_to: u64) -> Result<(), SettleError> {
        let unavailable = || SettleError::from(SettleErrorKind::Unavailable);
        let session = Arc::clone(&self.lease.0);
        // What is not yet there can't have been relayed, and must not be passed over when it comes.
        let up_to = up_to.min(self.last());
        session.scan_to(up_to);
        let (done, answer) = oneshot::channel();
        self.lease.0.queue.request(Request::Advance { session, done: Some(done) }).map_err(|_| unavailable())?;
        match answer.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fault)) => Err(SettleError { kind: fault.kind, source: fault.source() }),
            Err(_) => Err(unavailable()),
        }
    }
}

impl fmt::Debug for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backlog")
            .field("name", &self.lease.0.name)
            .field("floor", &self.floor())
            .finish_non_exhaustive()
    }
}

fn read(db: &Connection, after: u64, last: u64, max: usize) -> rusqlite::Result<Vec<RawEvent>> {
    let mut statement = db.prepare(
        "SELECT sequence, stored_at, subject, id, payload FROM event
         WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence LIMIT ?3",
    )?;
    let mut rows = statement.query(params![after, last, max])?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    while bytes < READ_BYTES_MAX {
        let Some(row) = rows.next()? else { break };
        let event = RawEvent {
            sequence: row.get(0)?,
            stored_at_ms: row.get(1)?,
            subject: row.get(2)?,
            id: EventId::from_bytes(row.get(3)?),
            payload: row.get(4)?,
        };
        bytes += size_of::<RawEvent>() + event.subject.len() + event.payload.len();
        events.push(event);
    }
    Ok(events)
}
