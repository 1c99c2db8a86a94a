//! Reading a journal from outside, while another process writes it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use upcall_bus::Quarantined;
use upcall_event::{Event, EventId, Subject, SubjectFilter};

use crate::schema::{self, DATABASE};
use crate::{ConsumerState, OpenError, ReadError, clock, quarantine};

/// How many rows one step reads at most, so that a filter that selects little holds no snapshot for long.
const SCAN_MAX: usize = 4_096;
/// How far the oldest unsettled event is looked for behind a consumer's floor.
const OLDEST_SCAN_MAX: u32 = 1_024;
/// A reader's own memory for pages, in KiB.
const CACHE_KIB: i64 = 512;
/// How long a reader waits for a lock, as while another process recovers the file after a crash.
const BUSY_WAIT: Duration = Duration::from_secs(2);

/// Reads a journal's folder, also while another process writes it. It writes nothing.
#[derive(Debug)]
pub struct Reader {
    db: Connection,
    folder: PathBuf,
    seen: Option<i64>,
}

/// An event as the journal holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    /// Its place: larger is later.
    pub sequence: u64,
    /// When it was stored, in milliseconds since 1970.
    pub stored_at_ms: i64,
    /// The subject that it was published on.
    pub subject: Subject,
    /// The event.
    pub event: Event,
}

/// A part of the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The events that the filter selected, oldest first.
    pub events: Vec<StoredEvent>,
    /// Where to go on: everything up to here was looked at.
    pub scanned: u64,
    /// Whether this was the end, for now.
    pub end: bool,
}

/// An event that a consumer could not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number: larger is later.
    pub number: u64,
    /// Who could not take it.
    pub consumer: String,
    /// The event's place in the journal.
    pub sequence: u64,
    /// The event's id.
    pub id: EventId,
    /// The subject that it was published on.
    pub subject: String,
    /// When it was stored, in milliseconds since 1970.
    pub stored_at_ms: i64,
    /// The event as JSON.
    pub payload: String,
    /// Why.
    pub reason: String,
    /// How many attempts there were.
    pub attempts: u32,
    /// When it was given up, in milliseconds since 1970.
    pub died_at_ms: i64,
}

impl Reader {
    /// Opens the journal in a folder for reading.
    ///
    /// # Errors
    /// If there is none, or it is foreign, newer or damaged.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let file = folder.join(DATABASE);
        if !file.exists() {
            return Err(OpenError::Missing { folder: folder.to_owned() });
        }
        let error = |source| OpenError::database(file.clone(), source);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&file, flags).map_err(error)?;
        db.busy_timeout(BUSY_WAIT).map_err(error)?;
        db.pragma_update(None, "cache_size", -CACHE_KIB).map_err(error)?;
        if schema::check(&db, &file)? == 0 {
            return Err(OpenError::Missing { folder: folder.to_owned() });
        }
        Ok(Self { db, folder: folder.to_owned(), seen: None })
    }

    /// Tells whether anybody has written since the last call; true at first. Reads one page of shared memory.
    ///
    /// # Errors
    /// If the journal can't be read.
    pub fn changed(&mut self) -> Result<bool, ReadError> {
        let version = self.db.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0))?;
        Ok(self.seen.replace(version) != Some(version))
    }

    /// The newest event's sequence; 0 before the first.
    ///
    /// # Errors
    /// If the journal can't be read.
    pub fn last_sequence(&self) -> Result<u64, ReadError> {
        Ok(last_sequence(&self.db)?)
    }

    /// The sequence before the first event that was stored at or after a moment, in milliseconds since 1970.
    pub(crate) fn sequence_before(&self, moment_ms: i64) -> Result<u64, ReadError> {
        let last = self.last_sequence()?;
        let first: Option<u64> = self.db.query_row("SELECT min(sequence) FROM event", (), |row| row.get(0))?;
        let Some(first) = first else { return Ok(last) };
        let mut at_or_after =
            self.db.prepare("SELECT sequence, stored_at FROM event WHERE sequence >= ?1 ORDER BY sequence LIMIT 1")?;
        // Everything before `low` was stored earlier, `high` and everything after it was not.
        let (mut low, mut high) = (first, last + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let found = at_or_after.query_row([middle], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, i64>(1)?)));
            match found.optional()? {
                Some((sequence, stored_at)) if stored_at < moment_ms => low = sequence + 1,
                _ => high = middle,
            }
        }
        Ok(low - 1)
    }

    /// Reads up to `max` events after a sequence that a filter selects.
    ///
    /// # Errors
    /// If the journal can't be read. An event that is no event (somebody changed it by hand) is passed over.
    pub fn events(&self, after: u64, filter: &SubjectFilter, max: usize) -> Result<Page, ReadError> {
        let mut statement = self.db.prepare(
            "SELECT sequence, stored_at, subject, payload FROM event WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
        )?;
        let mut rows = statement.query(params![after, SCAN_MAX])?;
        let mut page = Page { events: Vec::new(), scanned: after, end: false };
        let mut seen = 0;
        while page.events.len() < max {
            let Some(row) = rows.next()? else {
                page.end = seen < SCAN_MAX;
                break;
            };
            seen += 1;
            page.scanned = row.get(0)?;
            if let Some(event) = select(row, filter)? {
                page.events.push(event);
            }
        }
        Ok(page)
    }

    /// Reads up to `max` dead letters after a number, of one consumer or of all, oldest first.
    ///
    /// # Errors
    /// If the journal can't be read.
    pub fn dead_letters(&self, consumer: Option<&str>, after: u64, max: usize) -> Result<Vec<DeadLetter>, ReadError> {
        let mut statement = self.db.prepare(
            "SELECT number, consumer, sequence, id, subject, stored_at, payload, reason, attempts, died_at
             FROM dead_letter WHERE number > ?1 AND (?2 IS NULL OR consumer = ?2) ORDER BY number LIMIT ?3",
        )?;
        let letters = statement.query_map(params![after, consumer, max], dead_letter)?;
        Ok(letters.collect::<Result<_, _>>()?)
    }

    /// Reads up to `max` rejected callbacks after a number. A journal of an earlier schema has none.
    pub(crate) fn quarantined(&self, after: u64, max: usize) -> Result<Vec<Quarantined>, ReadError> {
        let exists = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'quarantine')";
        if !self.db.query_row(exists, (), |row| row.get::<_, bool>(0))? {
            return Ok(Vec::new());
        }
        quarantine::read(&self.db, after, max)
    }

    /// Tells how far every consumer is.
    ///
    /// # Errors
    /// If the journal can't be read.
    pub fn consumers(&self) -> Result<Vec<ConsumerState>, ReadError> {
        let last = self.last_sequence()?;
        let mut statement = self.db.prepare(
            "SELECT name, filter, floor,
                    (SELECT count(*) FROM settled WHERE settled.consumer = name),
                    (SELECT count(*) FROM retry WHERE retry.consumer = name),
                    (SELECT count(*) FROM dead_letter WHERE dead_letter.consumer = name)
             FROM consumer ORDER BY name",
        )?;
        let mut rows = statement.query(())?;
        let mut consumers = Vec::new();
        while let Some(row) = rows.next()? {
            let (name, filter): (String, String) = (row.get(0)?, row.get(1)?);
            let (floor, settled, retries): (u64, u64, u64) = (row.get(2)?, row.get(3)?, row.get(4)?);
            let oldest = self.oldest_unsettled(&name, &filter, floor)?;
            consumers.push(ConsumerState {
                name,
                filter,
                floor,
                lag: last.saturating_sub(floor).saturating_sub(settled) + retries,
                retries,
                dead_letters: row.get(5)?,
                oldest_unsettled: oldest.map(clock::since),
            });
        }
        Ok(consumers)
    }

    pub(crate) fn consumer_names(&self) -> Result<Vec<String>, ReadError> {
        let mut statement = self.db.prepare("SELECT name FROM consumer ORDER BY name")?;
        let names = statement.query_map((), |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    /// What the journal's files take on disk.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        ["journal.db", "journal.db-wal", "journal.db-shm"]
            .iter()
            .filter_map(|file| std::fs::metadata(self.folder.join(file)).ok())
            .map(|metadata| metadata.len())
            .sum()
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.db
    }

    pub(crate) fn into_connection(self) -> Connection {
        self.db
    }

    fn oldest_unsettled(&self, consumer: &str, filter: &str, floor: u64) -> Result<Option<i64>, ReadError> {
        let retried: Option<i64> = self
            .db
            .query_row(
                "SELECT stored_at FROM event WHERE sequence = (SELECT min(sequence) FROM retry WHERE consumer = ?1)",
                [consumer],
                |row| row.get(0),
            )
            .optional()?;
        if retried.is_some() {
            return Ok(retried);
        }
        let filter: SubjectFilter = filter.parse().unwrap_or_default();
        let mut statement = self.db.prepare(
            "SELECT stored_at, subject FROM event WHERE sequence > ?1
             AND NOT EXISTS (SELECT 1 FROM settled WHERE consumer = ?2 AND settled.sequence = event.sequence)
             ORDER BY sequence LIMIT ?3",
        )?;
        let mut rows = statement.query(params![floor, consumer, OLDEST_SCAN_MAX])?;
        while let Some(row) = rows.next()? {
            if row.get_ref(1)?.as_str().is_ok_and(|text| text.parse().is_ok_and(|subject| filter.matches(&subject))) {
                return Ok(Some(row.get(0)?));
            }
        }
        Ok(None)
    }
}

/// Follows a journal as it is written.
#[derive(Debug)]
pub struct Tail {
    reader: Reader,
    filter: SubjectFilter,
    after: u64,
    behind: bool,
}

/// How often a tail looks for news: quick to the eye, and next to no work.
const TAIL_POLL: Duration = Duration::from_millis(50);

impl Tail {
    /// Follows what a filter selects, from after a sequence on.
    #[must_use]
    pub fn new(reader: Reader, after: u64, filter: SubjectFilter) -> Self {
        Self { reader, filter, after, behind: true }
    }

    /// Waits for up to this long until there are events, and returns up to `max` of them. Blocks its thread.
    ///
    /// # Errors
    /// If the journal can't be read.
    pub fn next(&mut self, max: usize, wait: Duration) -> Result<Vec<StoredEvent>, ReadError> {
        let until = std::time::Instant::now() + wait;
        loop {
            if self.reader.changed()? || self.behind {
                let page = self.reader.events(self.after, &self.filter, max)?;
                (self.after, self.behind) = (page.scanned, !page.end);
                if !page.events.is_empty() {
                    return Ok(page.events);
                }
                continue;
            }
            let left = until.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Ok(Vec::new());
            }
            std::thread::sleep(left.min(TAIL_POLL));
        }
    }
}

/// The newest sequence that was ever given out, whether its event is still there or not.
pub(crate) fn last_sequence(db: &Connection) -> rusqlite::Result<u64> {
    db.query_row("SELECT max(sequence_removed, coalesce((SELECT max(sequence) FROM event), 0)) FROM state", (), |row| {
        row.get(0)
    })
}

fn select(row: &Row<'_>, filter: &SubjectFilter) -> rusqlite::Result<Option<StoredEvent>> {
    let Ok(subject) = row.get_ref(2)?.as_str().unwrap_or_default().parse::<Subject>() else { return Ok(None) };
    if !filter.matches(&subject) {
        return Ok(None);
    }
    let Ok(event) = Event::from_structured(row.get_ref(3)?.as_bytes().unwrap_or_default()) else { return Ok(None) };
    Ok(Some(StoredEvent { sequence: row.get(0)?, stored_at_ms: row.get(1)?, subject, event }))
}

fn dead_letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    Ok(DeadLetter {
        number: row.get(0)?,
        consumer: row.get(1)?,
        sequence: row.get(2)?,
        id: EventId::from_bytes(row.get(3)?),
        subject: row.get(4)?,
        stored_at_ms: row.get(5)?,
        payload: row.get(6)?,
        reason: row.get(7)?,
        attempts: row.get(8)?,
        died_at_ms: row.get(9)?,
    })
}
