//! How a relay is doing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// How a relay is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayStatus {
    /// Whether NATS can be reached.
    pub connected: bool,
    /// Events in the journal that the stream has not acknowledged, about.
    pub backlog: u64,
    /// How long ago the oldest of them was stored; `None` when there is none.
    pub backlog_age: Option<Duration>,
    /// Events that the stream has acknowledged, and may not have synced yet. They are still in the journal.
    pub unconfirmed: u64,
    /// Events that the stream has acknowledged, since the relay was started.
    pub relayed: u64,
    /// How often the server came back with less than it had acknowledged, since the relay was started.
    pub losses: u64,
    /// Events that the stream had acknowledged and lost, and was given again, since the relay was started.
    pub resent: u64,
    /// Events that the server refuses for good, or whose subject the stream does not capture, set aside in the relay's
    /// folder.
    pub set_aside: u64,
    /// Why events do not flow now, in words; `None` while they do.
    pub fault: Option<String>,
}

/// Tells how a relay is doing, for as long as somebody asks. A clone asks the same relay.
#[derive(Debug, Clone, Default)]
pub struct RelayHandle {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    status: RelayStatus,
    oldest_ms: Option<i64>,
}

impl RelayHandle {
    /// How the relay is doing: as of half a second ago at most, while it runs. Cheap.
    #[must_use]
    pub fn status(&self) -> RelayStatus {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |stored_at_ms| Timestamp::now().as_millisecond().saturating_sub(stored_at_ms);
        let backlog_age = shared.oldest_ms.map(|stored| Duration::from_millis(u64::try_from(age(stored)).unwrap_or(0)));
        RelayStatus { backlog_age, ..shared.status.clone() }
    }

    /// Tells how the relay is doing, and when the oldest event was stored that the stream has not acknowledged.
    pub(crate) fn report(&self, status: &RelayStatus, oldest_ms: Option<i64>) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.status.clone_from(status);
        shared.oldest_ms = oldest_ms;
    }
}
