//! Putting an event on the bus.

use async_trait::async_trait;
use upcall_event::{Event, Subject};

use crate::{Deadline, Source};

/// An event and the subject that it is published on.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Where on the bus.
    pub subject: Subject,
    /// What.
    pub event: Event,
}

/// What the bus did with an event. Either way it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// It is new on the bus.
    Stored,
    /// It is new, and durable beside the bus, which did not take it in time. The bus gets it later.
    Spilled,
    /// An event with this id was on the bus already; that one stays, this one is dropped.
    Duplicate,
}

/// Puts events on a bus.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Publishes an event.
    ///
    /// `Ok` means durable: the event survives whatever the bus promises to survive. An error means that it is
    /// not known to be durable; it may be there all the same, so publishing it again is right, and harmless.
    ///
    /// # Errors
    /// When the event could not be made durable before the deadline.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the event published or not, never half.
    async fn publish(&self, message: Message, deadline: Deadline) -> Result<Receipt, PublishError>;
}

/// Why an event could not be published.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct PublishError {
    /// What to do about it.
    pub kind: PublishErrorKind,
    /// What was underneath.
    #[source]
    pub source: Option<Source>,
}

/// The kinds of failure to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PublishErrorKind {
    /// More is being published than the bus takes. Nothing was stored; later it may go.
    #[error("the bus has more to do than it takes on")]
    Busy,
    /// The deadline passed before the bus had answered.
    #[error("the bus did not make the event durable in time")]
    Timeout,
    /// There is no room: the disk or the stream is full. Once there is, it goes.
    #[error("the bus has no room left")]
    Full,
    /// The bus is out of order or shutting down. Later it may go.
    #[error("the bus is not available")]
    Unavailable,
    /// The bus refuses this event for good.
    #[error("the bus refuses this event")]
    Rejected,
}

impl PublishErrorKind {
    /// Whether the same event may be published later.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Busy | Self::Timeout | Self::Full | Self::Unavailable => true,
            Self::Rejected => false,
        }
    }
}

impl From<PublishErrorKind> for PublishError {
    fn from(kind: PublishErrorKind) -> Self {
        Self { kind, source: None }
    }
}
