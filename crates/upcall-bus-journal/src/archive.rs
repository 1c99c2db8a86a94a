//! The journal for its operators, also while another process writes it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;
use upcall_bus::{
    Archive, ArchiveError, ConsumerName, DeadLetter, Letter, Page, Quarantined, Source, StoredEvent, UnreadableLetter,
};
use upcall_event::{Event, SubjectFilter};
use upcall_telemetry::error_chain;

use crate::giver::{Given, Giver};
use crate::reader::{self, Reader};
use crate::{OpenError, ReadError};

/// The journal for its operators: past events, dead letters, and giving either to a consumer again.
///
/// It needs nobody who has the journal open, and disturbs nobody: it reads beside the writer, and writes in short
/// transactions between which it rests. A subscription in another process notices within a second what it was given,
/// one of this process at once, if the archive was got by [`Journal::archive`](crate::Journal::archive).
///
/// What is given is durable as events are: `Ok` comes after the fsync.
///
/// ```
/// # use upcall_bus::Archive;
/// # use upcall_bus_journal::{Journal, JournalArchive, Options};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// # let _serving = Journal::open(Options::new(folder))?;
/// // Gives every dead letter whose target was missing to its consumer again.
/// let archive = JournalArchive::open(folder)?;
/// let mut after = 0;
/// loop {
///     let letters = archive.dead_letters(after, 100).await?;
///     let Some(last) = letters.last() else { break };
///     after = last.number;
///     for letter in letters.iter().filter(|letter| letter.reason.contains("no such table")) {
///         archive.retry_dead_letter(letter.number).await?;
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct JournalArchive {
    folder: PathBuf,
    // Closed before the other: whoever is last to have the files open copies the log, which a reader can't.
    reader: Arc<Mutex<Reader>>,
    /// Opened when something is written for the first time.
    giver: Arc<Mutex<Option<Giver>>>,
    /// Tells the subscriptions of this process, where it has the journal open.
    given: Option<watch::Sender<()>>,
}

impl JournalArchive {
    /// Opens the journal in a folder, whether another process has it open or not. Reads files: may block for a while.
    ///
    /// # Errors
    /// If there is none, or it is foreign, newer or damaged.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        Self::open_beside(folder, None)
    }

    pub(crate) fn open_beside(folder: &Path, given: Option<watch::Sender<()>>) -> Result<Self, OpenError> {
        let reader = Arc::new(Mutex::new(Reader::open(folder)?));
        Ok(Self { folder: folder.to_owned(), reader, giver: Arc::default(), given })
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ArchiveError> {
        let reader = Arc::clone(&self.reader);
        let work = move || work(&reader.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(work).await.map_err(ArchiveError::new)?.map_err(ArchiveError::new)
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Giver) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ArchiveError> {
        let (giver, folder, given) = (Arc::clone(&self.giver), self.folder.clone(), self.given.clone());
        let work = move || {
            let mut giver = giver.lock().unwrap_or_else(PoisonError::into_inner);
            let giver = match &mut *giver {
                Some(giver) => giver,
                none => none.insert(Giver::open(&folder).map_err(ArchiveError::new)?),
            };
            let written = work(giver).map_err(ArchiveError::new)?;
            if let Some(given) = given {
                given.send_replace(());
            }
            Ok(written)
        };
        tokio::task::spawn_blocking(work).await.map_err(ArchiveError::new)?
    }
}

#[async_trait]
impl Archive for JournalArchive {
    /// One that somebody has spoilt by hand can't be read.
    async fn letters(&self, after: u64, max: usize) -> Result<Vec<Letter>, ArchiveError> {
        let rows = self.read(move |reader| reader.dead_letters(None, after, max)).await?;
        Ok(rows.into_iter().map(letter).collect())
    }

    async fn retry_dead_letter(&self, number: u64) -> Result<bool, ArchiveError> {
        let found = self.letters(number.saturating_sub(1), 1).await?;
        if let Some(Letter::Unreadable(letter)) = found.into_iter().find(|letter| letter.number() == number) {
            return Err(ArchiveError::new(format!("dead letter {number} can't be read: {}", letter.fault)));
        }
        self.write(move |giver| giver.retry_dead_letter(number)).await
    }

    async fn drop_dead_letter(&self, number: u64) -> Result<bool, ArchiveError> {
        self.write(move |giver| giver.drop_dead_letter(number)).await
    }

    /// A journal of an earlier version has none, until it is opened for writing.
    async fn quarantined(&self, after: u64, max: usize) -> Result<Vec<Quarantined>, ArchiveError> {
        self.read(move |reader| reader.quarantined(after, max)).await
    }

    async fn drop_quarantined(&self, number: u64) -> Result<bool, ArchiveError> {
        self.write(move |giver| giver.drop_quarantined(number)).await
    }

    async fn last_sequence(&self) -> Result<u64, ArchiveError> {
        self.read(Reader::last_sequence).await
    }

    /// Where the clock was set back between two events, it goes by either of its times.
    async fn sequence_before(&self, moment: Timestamp) -> Result<u64, ArchiveError> {
        // The same as of a stored event's time, so that none is missed that came within the millisecond.
        let moment_ms = moment.as_millisecond();
        self.read(move |reader| reader.sequence_before(moment_ms)).await
    }

    async fn events(&self, after: u64, filter: &SubjectFilter, max: usize) -> Result<Page, ArchiveError> {
        let filter = filter.clone();
        let page = self.read(move |reader| reader.events(after, &filter, max)).await?;
        Ok(Page { events: page.events.into_iter().map(stored).collect(), scanned: page.scanned, end: page.end })
    }

    async fn redeliver(
        &self,
        consumer: &ConsumerName,
        replay: &str,
        events: &[StoredEvent],
    ) -> Result<u64, ArchiveError> {
        let mut given = 0;
        for part in Given::parts(events) {
            let (consumer, replay) = (consumer.as_str().to_owned(), replay.to_owned());
            given += self.write(move |giver| giver.give(&consumer, &replay, &part)).await?;
        }
        Ok(given)
    }

    async fn consumers(&self) -> Result<Vec<ConsumerName>, ArchiveError> {
        let names = self.read(Reader::consumer_names).await?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }
}

fn stored(event: reader::StoredEvent) -> StoredEvent {
    let reader::StoredEvent { sequence, stored_at_ms, subject, event } = event;
    StoredEvent { sequence, stored_at: moment(stored_at_ms), subject, event }
}

fn letter(row: reader::DeadLetter) -> Letter {
    match dead_letter(&row) {
        Ok(letter) => Letter::Readable(Box::new(letter)),
        Err(fault) => Letter::Unreadable(UnreadableLetter {
            number: row.number,
            consumer: row.consumer,
            fault: error_chain(&*fault),
            reason: Some(row.reason),
            died_at: moment(row.died_at_ms),
        }),
    }
}

fn dead_letter(row: &reader::DeadLetter) -> Result<DeadLetter, Source> {
    Ok(DeadLetter {
        number: row.number,
        consumer: row.consumer.parse()?,
        stored: StoredEvent {
            sequence: row.sequence,
            stored_at: moment(row.stored_at_ms),
            subject: row.subject.parse()?,
            event: Event::from_structured(row.payload.as_bytes())?,
        },
        reason: row.reason.clone(),
        attempts: row.attempts,
        died_at: moment(row.died_at_ms),
    })
}

/// A moment that only a hand can have written is the epoch.
fn moment(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or_default()
}
