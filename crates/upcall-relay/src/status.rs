//! How a relay is doing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How a relay is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayStatus {
    /// Whether NATS can be reached.
    pub connected: bool,
    /// Events in the journal that the stream has not acknowledged.
    pub backlog: u64,
    /// How long ago the oldest of them was stored; `None` when there is none.
    pub backlog_age: Option<Duration>,
    /// Events that the stream has acknowledged, and may not have synced yet. They are still in the journal.
    pub unconfirmed: u64,
    /// Events that the stream has acknowledged, since the relay was started.
    pub relayed: u64,
    /// Events that were sent again because the server had come back without them, since the relay was started.
    pub resent: u64,
    /// Events that the server refuses for good, set aside in the relay's folder.
    pub set_aside: u64,
    /// Why events do not flow now, in words; `None` while they do.
    pub fault: Option<String>,
}

/// Tells how a relay is doing, for as long as somebody asks. A clone asks the same relay.
#[derive(Debug, Clone, Default)]
pub struct RelayHandle {
    shared: Arc<Mutex<RelayStatus>>,
}

impl RelayHandle {
    /// How the relay is doing. Cheap.
    #[must_use]
    pub fn status(&self) -> RelayStatus {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
