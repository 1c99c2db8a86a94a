//! How a journal is doing.

use std::time::Duration;

/// How a journal is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Why the last attempt to write failed; `None` while the journal takes events.
    pub fault: Option<String>,
    /// The newest event's sequence; 0 before the first.
    pub last_sequence: u64,
    /// What the journal's files take on disk.
    pub size_bytes: u64,
    /// Every consumer that the journal knows, by name.
    pub consumers: Vec<ConsumerState>,
}

/// How far a consumer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerState {
    /// The consumer's name.
    pub name: String,
    /// The subjects that it wants.
    pub filter: String,
    /// Everything up to this sequence is settled, waits for another attempt, or is nothing that the filter selects.
    pub floor: u64,
    /// Events that it has not settled. Those that its filter has not looked at yet count as selected.
    pub lag: u64,
    /// Of these, those that wait for another attempt.
    pub retries: u64,
    /// Events that it could not take.
    pub dead_letters: u64,
    /// How long ago the oldest event was stored that it has not settled; `None` when there is none.
    pub oldest_unsettled: Option<Duration>,
}
