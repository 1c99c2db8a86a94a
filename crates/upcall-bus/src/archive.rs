//! What a bus holds, for those who operate it: past events, dead letters, and giving either to a consumer again.

use async_trait::async_trait;
use jiff::Timestamp;
use upcall_event::{Event, Subject, SubjectFilter};

use crate::{ConsumerName, Quarantined, Source};

/// What a bus holds. It is used beside the processes that publish and consume, and needs none of them.
///
/// # Redelivery
/// What is given to a consumer again comes to that consumer only, beside its other events, with attempts counted from
/// 1. It is an event that the consumer may have applied already: a sink that goes by the event's id does it once.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Returns up to `max` dead letters with numbers after `after`, in order of their numbers, also those that can't be
    /// read.
    ///
    /// # Errors
    /// If the bus can't be read.
    async fn letters(&self, after: u64, max: usize) -> Result<Vec<Letter>, ArchiveError>;

    /// The same without those that can't be read.
    ///
    /// # Errors
    /// If the bus can't be read.
    async fn dead_letters(&self, after: u64, max: usize) -> Result<Vec<DeadLetter>, ArchiveError> {
        let (mut readable, mut after) = (Vec::new(), after);
        while readable.len() < max {
            let letters = self.letters(after, max - readable.len()).await?;
            let Some(last) = letters.last() else { break };
            after = last.number();
            readable.extend(letters.into_iter().filter_map(Letter::readable));
        }
        Ok(readable)
    }

    /// Gives a dead letter's event to its consumer again, and takes it from the dead letters. False if there is no
    /// dead letter of that number. Once this has returned, the redelivery is durable; after a failure half-way the
    /// dead letter may still be there, and doing it again gives the event once.
    ///
    /// # Errors
    /// If the bus can't be written, or there is nothing that could be given: the letter can't be read, or its event has
    /// become too large.
    async fn retry_dead_letter(&self, number: u64) -> Result<bool, ArchiveError>;

    /// Forgets a dead letter, also one that can't be read. False if there is no dead letter of that number.
    ///
    /// # Errors
    /// If the bus can't be written.
    async fn drop_dead_letter(&self, number: u64) -> Result<bool, ArchiveError>;

    /// Returns up to `max` rejected callbacks with numbers after `after`, in order of their numbers.
    ///
    /// # Errors
    /// If the bus can't be read.
    async fn quarantined(&self, after: u64, max: usize) -> Result<Vec<Quarantined>, ArchiveError>;

    /// Forgets a rejected callback. False if there is none of that number.
    ///
    /// # Errors
    /// If the bus can't be written.
    async fn drop_quarantined(&self, number: u64) -> Result<bool, ArchiveError>;

    /// The newest event's sequence; 0 before the first.
    ///
    /// # Errors
    /// If the bus can't be read.
    async fn last_sequence(&self) -> Result<u64, ArchiveError>;

    /// The sequence before the first event that was stored at or after a moment: where to begin with
    /// [`Archive::events`].
    ///
    /// # Errors
    /// If the bus can't be read.
    async fn sequence_before(&self, moment: Timestamp) -> Result<u64, ArchiveError>;

    /// Returns events after a sequence that a filter selects: at most `max`, in their order.
    ///
    /// # Errors
    /// If the bus can't be read. An event that is no event (somebody else put it there) is passed over.
    async fn events(&self, after: u64, filter: &SubjectFilter, max: usize) -> Result<Page, ArchiveError>;

    /// Gives events to one consumer again. `replay` names what they are given for: an event that was given under that
    /// name to that consumer is not given once more, so that a replay which was interrupted can be resumed. Returns how
    /// many were given now; the others had been given before.
    ///
    /// # Errors
    /// If the bus can't be written; some of the events may have been given.
    async fn redeliver(
        &self,
        consumer: &ConsumerName,
        replay: &str,
        events: &[StoredEvent],
    ) -> Result<u64, ArchiveError>;

    /// The consumers that the bus knows.
    ///
    /// # Errors
    /// If the bus can't be read.
    async fn consumers(&self) -> Result<Vec<ConsumerName>, ArchiveError>;
}

/// An event as a bus holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    /// Its place: larger is later. Comparable within one bus only.
    pub sequence: u64,
    /// When the bus stored it.
    pub stored_at: Timestamp,
    /// The subject that it was published on.
    pub subject: Subject,
    /// The event.
    pub event: Event,
}

/// Some of a bus's events.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The events that the filter selected, oldest first.
    pub events: Vec<StoredEvent>,
    /// Where to go on: everything up to here was looked at.
    pub scanned: u64,
    /// Whether this was the end, for now.
    pub end: bool,
}

/// A dead letter as a bus has it.
#[derive(Debug, Clone, PartialEq)]
pub enum Letter {
    /// One with everything in it.
    Readable(Box<DeadLetter>),
    /// One of which the event can't be had.
    Unreadable(UnreadableLetter),
}

impl Letter {
    /// Its number on this bus.
    #[must_use]
    pub fn number(&self) -> u64 {
        match self {
            Self::Readable(letter) => letter.number,
            Self::Unreadable(letter) => letter.number,
        }
    }

    /// Who could not take the event.
    #[must_use]
    pub fn consumer(&self) -> &str {
        match self {
            Self::Readable(letter) => letter.consumer.as_str(),
            Self::Unreadable(letter) => &letter.consumer,
        }
    }

    /// When the event was given up.
    #[must_use]
    pub fn died_at(&self) -> Timestamp {
        match self {
            Self::Readable(letter) => letter.died_at,
            Self::Unreadable(letter) => letter.died_at,
        }
    }

    /// The whole letter, if it can be read.
    #[must_use]
    pub fn readable(self) -> Option<DeadLetter> {
        match self {
            Self::Readable(letter) => Some(*letter),
            Self::Unreadable(_) => None,
        }
    }
}

/// A dead letter of which the event can't be had: it is no event, or it was elsewhere and is gone. It can be dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableLetter {
    /// Its number on this bus.
    pub number: u64,
    /// Who could not take the event, as the bus has it: it may be no consumer's name.
    pub consumer: String,
    /// What is wrong with the letter.
    pub fault: String,
    /// Why the consumer could not take the event, where the letter says so.
    pub reason: Option<String>,
    /// When it was given up, as far as is known.
    pub died_at: Timestamp,
}

/// An event that a consumer could not take.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Its number on this bus: larger is later.
    pub number: u64,
    /// Who could not take it.
    pub consumer: ConsumerName,
    /// The event, and its place on the bus.
    pub stored: StoredEvent,
    /// Why.
    pub reason: String,
    /// How many attempts there were.
    pub attempts: u32,
    /// When it was given up.
    pub died_at: Timestamp,
}

/// Why a bus can't be looked at, or not be changed. What to do about it is in the source.
#[derive(Debug, thiserror::Error)]
#[error("the bus did not do what was asked of it")]
pub struct ArchiveError {
    /// What was underneath.
    #[source]
    pub source: Source,
}

impl ArchiveError {
    /// Wraps what was underneath.
    #[must_use]
    pub fn new(source: impl Into<Source>) -> Self {
        Self { source: source.into() }
    }
}
