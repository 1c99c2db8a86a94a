//! What things are called on NATS: streams, subjects and headers. `docs/consumers.md` tells others.

use upcall_bus::ConsumerName;
use upcall_event::escape_token;

/// The names of everything that belongs to one Upcall, derived from its stream's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    stream: String,
}

/// Where dead letters are published: this, and the consumer's name.
pub const DEAD_PREFIX: &str = "upcall.dead";
/// Where events are given to one consumer again: this, and the consumer's name.
pub const REDELIVERY_PREFIX: &str = "upcall.redelivery";
/// Where rejected callbacks are published: this, and the route's name, escaped; `_` where no route was found.
pub const QUARANTINE_PREFIX: &str = "upcall.quarantine";

/// The consumer with which a relay looks for ids, for a moment; no consumer of ours can have this name.
pub const RELAY_READER: &str = "upcall+relay";

/// The headers that dead letters and redeliveries have beside the event's own.
pub mod header {
    /// Which consumer could not take the event.
    pub const CONSUMER: &str = "Upcall-Consumer";
    /// The subject that the event was published on.
    pub const SUBJECT: &str = "Upcall-Subject";
    /// The event's sequence in the stream of uploads.
    pub const SEQUENCE: &str = "Upcall-Sequence";
    /// When the stream of uploads stored the event (RFC 3339).
    pub const STORED_AT: &str = "Upcall-Stored-At";
    /// Why the consumer could not take it, on one line.
    pub const REASON: &str = "Upcall-Reason";
    /// How many attempts there were.
    pub const ATTEMPTS: &str = "Upcall-Attempts";
    /// That the payload is not here, but in the stream of uploads, where the sequence says.
    pub const REFERENCE: &str = "Upcall-Reference";
    /// When it was given up (RFC 3339).
    pub const DIED_AT: &str = "Upcall-Died-At";
}

impl Names {
    /// The names for a stream of uploads that is called so.
    #[must_use]
    pub fn new(stream: impl Into<String>) -> Self {
        Self { stream: stream.into() }
    }

    /// The stream of uploads.
    #[must_use]
    pub fn uploads(&self) -> &str {
        &self.stream
    }

    /// The stream of dead letters.
    #[must_use]
    pub fn dead(&self) -> String {
        format!("{}_DEAD", self.stream)
    }

    /// The stream of events that one consumer gets again.
    #[must_use]
    pub fn redelivery(&self) -> String {
        format!("{}_REDELIVERY", self.stream)
    }

    /// The stream of rejected callbacks.
    #[must_use]
    pub fn quarantine(&self) -> String {
        format!("{}_QUARANTINE", self.stream)
    }

    /// The key-value bucket that counts attempts.
    #[must_use]
    pub fn attempts(&self) -> String {
        format!("{}_attempts", self.stream)
    }

    /// The stream under that bucket.
    pub(crate) fn bucket(&self) -> String {
        format!("KV_{}", self.attempts())
    }
}

/// The subject of a consumer's dead letters.
#[must_use]
pub fn dead_subject(consumer: &ConsumerName) -> String {
    format!("{DEAD_PREFIX}.{consumer}")
}

/// The subject of a route's rejected callbacks, or of those without a route: no route has an empty name.
#[must_use]
pub fn quarantine_subject(route: Option<&str>) -> String {
    format!("{QUARANTINE_PREFIX}.{}", escape_token(route.unwrap_or_default()))
}

/// The subject of what a consumer gets again.
#[must_use]
pub fn redelivery_subject(consumer: &ConsumerName) -> String {
    format!("{REDELIVERY_PREFIX}.{consumer}")
}
