//! What relay and spill are told.

use std::path::PathBuf;
use std::time::Duration;

/// How a relay works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where the relay keeps what it has to know after a restart, and the events that the server refuses for good: the
    /// journal's folder.
    pub folder: PathBuf,
    /// How long the stream has to have held an event before it leaves the journal: longer than the server may take to
    /// sync. Zero for a server with `sync_interval: always`.
    pub sync_hold: Duration,
    /// Whether the journal's events may have been sent to NATS before they were stored: they are spills.
    pub spilled: bool,
    /// How many publications may wait for their acknowledgement.
    pub outstanding_max: usize,
    /// How long the server may acknowledge nothing of what is under way before that is sent again.
    pub ack_timeout: Duration,
}

/// How a spill works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpillOptions {
    /// How much of the time that is left for a publication NATS may take, in percent.
    pub broker_percent: u32,
    /// What is left for the journal at least, whatever NATS's share.
    pub journal_min: Duration,
}

/// Twice the two minutes in which a default server syncs, and a margin.
const SYNC_HOLD: Duration = Duration::from_secs(5 * 60);
/// At 40,000/s a tenth of a second: many round trips, and a few MB in memory.
const OUTSTANDING_MAX: usize = 4_096;
/// Far longer than a server at work takes, and sooner than a connection is given up.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// An fsync that takes this long is a disk in trouble.
const JOURNAL_MIN: Duration = Duration::from_millis(250);

impl Options {
    /// The defaults, for a journal in this folder.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            sync_hold: SYNC_HOLD,
            spilled: false,
            outstanding_max: OUTSTANDING_MAX,
            ack_timeout: ACK_TIMEOUT,
        }
    }
}

impl Default for SpillOptions {
    /// Half of what is left, and 250 ms for the journal.
    fn default() -> Self {
        Self { broker_percent: 50, journal_min: JOURNAL_MIN }
    }
}
