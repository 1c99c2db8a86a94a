//! What a journal is told when it is opened.

use std::path::PathBuf;
use std::time::Duration;

/// How a journal is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The folder of the journal's files. It is made when it is not there.
    pub folder: PathBuf,
    /// How many publications may wait for the disk before more are refused as `Busy`.
    pub queue_max: usize,
    /// How many events a consumer may hold at once without settling them.
    pub in_flight_max: usize,
    /// How long events stay.
    pub retention: Retention,
    /// How long dead letters stay, from when they died.
    pub dead_letter_age: Duration,
    /// How much is kept of rejected callbacks.
    pub quarantine: QuarantineBounds,
}

/// How much is kept of rejected callbacks. Whichever limit is reached first holds, within a few seconds; the oldest go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineBounds {
    /// How many are kept.
    pub rows: usize,
    /// What they take together, as JSON.
    pub size_bytes: u64,
    /// How long they are kept.
    pub age: Duration,
}

/// How long events stay in the journal. Whichever limit is reached first holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Events older than this go.
    pub age: Duration,
    /// The oldest events go while the journal holds more than this.
    pub size_bytes: u64,
    /// Whether that holds for events, too, that a consumer has not settled. Unless it does, they stay, and the
    /// journal grows.
    pub drop_unsettled: bool,
}

/// A few thousand events of 700 bytes are a few MB, and a tenth of a second's work for the disk.
const QUEUE_MAX: usize = 8_192;
/// Enough to keep a consumer busy across a commit, few enough to be held in memory.
const IN_FLIGHT_MAX: usize = 2_048;
const RETENTION_AGE: Duration = Duration::from_hours(7 * 24);
const RETENTION_SIZE_BYTES: u64 = 10 << 30;
/// A month: long enough for somebody to come back and look.
const DEAD_LETTER_AGE: Duration = Duration::from_hours(30 * 24);

/// More than anybody reads; at a callback's usual size 20 MB.
const QUARANTINE_ROWS: usize = 10_000;
const QUARANTINE_SIZE_BYTES: u64 = 64 << 20;

impl Options {
    /// The defaults, for a journal in this folder.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            queue_max: QUEUE_MAX,
            in_flight_max: IN_FLIGHT_MAX,
            retention: Retention::default(),
            dead_letter_age: DEAD_LETTER_AGE,
            quarantine: QuarantineBounds::default(),
        }
    }
}

impl Default for QuarantineBounds {
    /// 10,000, which take 64 MiB at most, for 30 days.
    fn default() -> Self {
        Self { rows: QUARANTINE_ROWS, size_bytes: QUARANTINE_SIZE_BYTES, age: DEAD_LETTER_AGE }
    }
}

impl Default for Retention {
    /// Seven days or 10 GiB, and nothing that a consumer has not settled.
    fn default() -> Self {
        Self { age: RETENTION_AGE, size_bytes: RETENTION_SIZE_BYTES, drop_unsettled: false }
    }
}
