//! One attempt to hand an event to a consumer.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tracing::Span;
use upcall_event::{Event, Subject};

use crate::Source;

/// One attempt to hand an event to a consumer. It is settled once, by value.
///
/// Dropped unsettled it goes back to the bus, which delivers the event again.
pub struct Delivery(Box<Content>);

/// What is in a delivery. It goes from hand to hand, so that it had better be small itself.
struct Content {
    subject: Subject,
    event: Event,
    attempt: u32,
    sequence: u64,
    span: Span,
    settler: Option<Box<dyn Settler>>,
}

/// What a consumer says of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// Done; never again.
    Ack,
    /// Not now: again after this long, counted as a failed attempt.
    Retry {
        /// How long to wait.
        after: Duration,
        /// Why, for whoever looks at the bus.
        reason: String,
    },
    /// Never: keep the event aside, with the reason.
    DeadLetter {
        /// Why.
        reason: String,
    },
    /// Not tried: again as soon as may be, not counted as an attempt.
    HandBack,
}

/// A bus's side of a delivery.
#[async_trait]
pub trait Settler: Send {
    /// Makes the settlement known to the bus. Returns once the bus has taken it.
    async fn settle(&mut self, settlement: &Settlement) -> Result<(), SettleError>;

    /// Says beforehand, without waiting, what [`Settler::settle`] is about to: a bus may take several together then.
    fn announce(&mut self, _settlement: &Settlement) {}

    /// Gives the delivery back without waiting, when it is dropped. May come after a [`Settler::settle`] that was
    /// dropped half-way; where that one reached the bus, it stands.
    fn hand_back(&mut self);
}

impl Delivery {
    /// Made by a bus: an event, the number of this attempt (from 1), the event's place on the bus, and the way back.
    #[must_use]
    pub fn new(subject: Subject, event: Event, attempt: u32, sequence: u64, settler: Box<dyn Settler>) -> Self {
        let (span, settler) = (Span::none(), Some(settler));
        Self(Box::new(Content { subject, event, attempt, sequence, span, settler }))
    }

    /// The subject that the event was published on.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.0.subject
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.0.event
    }

    /// Which attempt this is, from 1. A crash of the process is not counted by every bus.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// The event's place on the bus: larger is later. Comparable within one bus only.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.0.sequence
    }

    /// What is recorded of the delivery, if anything is.
    #[must_use]
    pub fn span(&self) -> &Span {
        &self.0.span
    }

    /// Has this recorded of the delivery. It ends when the delivery does.
    pub fn record_with(&mut self, span: Span) {
        self.0.span = span;
    }

    /// Says that the event's effect is in place. It is not delivered to this consumer again.
    ///
    /// # Errors
    /// With the delivery itself, when the bus did not take it: it may be settled again, and is handed back if dropped.
    pub async fn ack(self) -> Result<(), (Self, SettleError)> {
        self.settle(Settlement::Ack).await
    }

    /// Asks for the event again, after this long.
    ///
    /// # Errors
    /// As for [`Delivery::ack`].
    pub async fn retry(self, after: Duration, reason: impl Into<String>) -> Result<(), (Self, SettleError)> {
        self.settle(Settlement::Retry { after, reason: reason.into() }).await
    }

    /// Puts the event among the dead letters, with its payload and the reason.
    ///
    /// # Errors
    /// As for [`Delivery::ack`].
    pub async fn dead_letter(self, reason: impl Into<String>) -> Result<(), (Self, SettleError)> {
        self.settle(Settlement::DeadLetter { reason: reason.into() }).await
    }

    /// Gives the event back untried, as when shutting down.
    ///
    /// # Errors
    /// As for [`Delivery::ack`].
    pub async fn hand_back(self) -> Result<(), (Self, SettleError)> {
        self.settle(Settlement::HandBack).await
    }

    /// Says beforehand what [`Delivery::settle`] is about to. Whoever settles several announces all of them first: a bus
    /// may take them together then. It may take what was announced even if the delivery is dropped.
    pub fn announce(&mut self, settlement: &Settlement) {
        if let Some(settler) = &mut self.0.settler {
            settler.announce(settlement);
        }
    }

    /// Settles the delivery.
    ///
    /// # Errors
    /// As for [`Delivery::ack`].
    pub async fn settle(mut self, settlement: Settlement) -> Result<(), (Self, SettleError)> {
        // The settler stays in place while it works: if this future is dropped, the delivery is handed back.
        let Some(settler) = &mut self.0.settler else { return Ok(()) };
        match settler.settle(&settlement).await {
            Ok(()) => {
                self.0.settler = None;
                Ok(())
            }
            Err(error) => Err((self, error)),
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(settler) = &mut self.0.settler {
            settler.hand_back();
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("subject", &self.0.subject)
            .field("event", &self.0.event.id)
            .field("attempt", &self.0.attempt)
            .field("sequence", &self.0.sequence)
            .finish_non_exhaustive()
    }
}

/// Why a settlement did not reach the bus.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct SettleError {
    /// What to do about it.
    pub kind: SettleErrorKind,
    /// What was underneath.
    #[source]
    pub source: Option<Source>,
}

/// The kinds of failure to settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettleErrorKind {
    /// The bus is out of order; the same settlement may go later.
    #[error("the bus could not take the settlement")]
    Unavailable,
    /// The bus has meanwhile given the event to somebody else, or forgotten it.
    #[error("the delivery is no longer this consumer's to settle")]
    Lost,
}

impl From<SettleErrorKind> for SettleError {
    fn from(kind: SettleErrorKind) -> Self {
        Self { kind, source: None }
    }
}
