//! The publisher that goes to NATS, and to the journal while NATS does not take events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tracing::debug;
use upcall_bus::{Deadline, Message, PublishError, PublishErrorKind, Publisher, Receipt};
use upcall_bus_journal::Journal;
use upcall_bus_nats::NatsBus;
use upcall_telemetry::error_chain;
use upcall_telemetry::trace;

use crate::SpillOptions;
use crate::breaker::Breaker;

/// A broker that has not answered for so long is slow.
const SHARE_THAT_TELLS: Duration = Duration::from_millis(250);

/// Publishes to NATS, and to the journal what NATS does not acknowledge in its share of the time. A clone is the same.
///
/// While there is no connection, or NATS has left the last publications without an answer, it goes to the journal at
/// once; one publication at a time finds out whether NATS is back.
#[derive(Clone)]
pub struct Spill {
    shared: Arc<Shared>,
}

struct Shared {
    bus: NatsBus,
    journal: Journal,
    options: SpillOptions,
    breaker: Breaker,
    spilled: AtomicU64,
}

impl Spill {
    /// A publisher to this bus that spills into this journal, which a [`Relay`](crate::Relay) with
    /// [`Options::spilled`](crate::Options::spilled) empties.
    #[must_use]
    pub fn new(bus: NatsBus, journal: Journal, options: SpillOptions) -> Self {
        let (breaker, spilled) = (Breaker::default(), AtomicU64::new(0));
        Self { shared: Arc::new(Shared { bus, journal, options, breaker, spilled }) }
    }

    /// How many events went to the journal so far. Cheap.
    #[must_use]
    pub fn spilled(&self) -> u64 {
        self.shared.spilled.load(Ordering::Relaxed)
    }

    /// Asks NATS: `None` if that is not worth the time, or it did not take the event and may later.
    async fn try_broker(&self, message: &Message, deadline: Deadline) -> Option<Result<Receipt, PublishError>> {
        let Shared { bus, options, breaker, .. } = &*self.shared;
        let left = deadline.remaining();
        let share = (left * options.broker_percent.min(100) / 100).min(left.saturating_sub(options.journal_min));
        if share.is_zero() || !bus.is_connected() || !breaker.admits(Instant::now()) {
            return None;
        }
        let published = bus.publish_ref(message, deadline.at_most(share)).await;
        match &published {
            Err(error) if error.kind == PublishErrorKind::Timeout => {
                // Less says more about what was left than about the broker.
                if share >= SHARE_THAT_TELLS {
                    breaker.timed_out(Instant::now());
                }
            }
            _ => breaker.answered(),
        }
        match published {
            Err(error) if error.kind.is_retryable() => {
                let (event, request_id) = (&message.event.id, message.event.data.request_id.as_deref());
                debug!(%event, request_id, error = error_chain(&error), "spilled");
                None
            }
            published => Some(published),
        }
    }
}

#[async_trait]
impl Publisher for Spill {
    async fn publish(&self, message: Message, deadline: Deadline) -> Result<Receipt, PublishError> {
        if let Some(published) = self.try_broker(&message, deadline).await {
            trace::published_on(trace::NATS, message.event.trace.as_ref());
            return published;
        }
        trace::spilled(message.event.trace.as_ref());
        let receipt = self.shared.journal.publish(message, deadline).await?;
        if receipt == Receipt::Duplicate {
            return Ok(receipt);
        }
        self.shared.spilled.fetch_add(1, Ordering::Relaxed);
        Ok(Receipt::Spilled)
    }
}
