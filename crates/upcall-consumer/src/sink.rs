//! What a sink is, and what it says of the events that it was handed.

use std::time::Duration;

use async_trait::async_trait;
use tracing::Span;
use upcall_bus::Source;
use upcall_event::{Event, Subject};

/// Does something with events: keeps a table, calls a webhook, sends a mail.
///
/// # What a sink may rely on
/// - **At least once.** Every event that the consumer selects is delivered until the sink has said [`Verdict::Done`] or
///   [`Verdict::Dead`], or the attempts are used up. The same event may come again even after `Done`: the process can
///   die before the bus has heard of it. [`Event::id`] is the idempotency key: the effect of an id is to happen once.
/// - **Order.** Events come in the order of publishing, but an event that is retried comes after later ones, and
///   several batches may be under way at once. A sink that can't bear two batches with events of one object at
///   once asks for [`Sink::ordered_by_object`]; one that must not go back in time compares [`Event::time`].
/// - **One verdict for each event**, in the order of the batch. An event without one is tried again, as a failure.
/// - **Time.** A call that takes longer than the consumer's `deliver_timeout` is dropped, as is every call when the
///   consumer is out of time to shut down. What was dropped counts as a failure of each event of the batch. A sink
///   that can tell a slow target from a slow event has a shorter limit of its own and says [`Verdict::Unavailable`].
/// - **Panics.** A panic counts as a failure of each event of the batch, not of the process. An event is never given
///   up for a failure that it shared with others: before that it is delivered once more by itself.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Makes the target ready: connects, creates what is missing. Called before the first delivery, and again after
    /// an outage; so it does no harm when everything is in place.
    ///
    /// # Errors
    /// When the target is not ready. The consumer waits, shows itself as not ready, and calls again.
    async fn prepare(&self) -> Result<(), Source> {
        Ok(())
    }

    /// Takes a batch of at least one event, and says of each what became of it.
    async fn deliver(&self, batch: &[Item<'_>]) -> Vec<Verdict>;

    /// Says what is wrong with the target, where deliveries have shown that it is out of order, though each event was
    /// judged by itself. The consumer then waits as after [`Verdict::Unavailable`]. Asked after a delivery.
    fn fault(&self) -> Option<String> {
        None
    }

    /// Hears that the consumer shuts down, and that deliveries under way are dropped in so long. A sink whose work is better
    /// ended than dropped ends it in time, and says [`Verdict::Unavailable`].
    fn drain(&self, _time: Duration) {}

    /// Lets go of the target. Called once, after the last delivery.
    async fn close(&self) {}

    /// Whether two batches that are under way at once must not hold events of the same object (bucket and key).
    fn ordered_by_object(&self) -> bool {
        false
    }
}

/// One event of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// The subject that the event was published on.
    pub subject: &'a Subject,
    /// The event.
    pub event: &'a Event,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The event's place on the bus: larger is later. Comparable within one bus only.
    pub sequence: u64,
    /// What is recorded of the delivery, if anything is: the parent of what a sink records.
    pub span: Option<&'a Span>,
}

impl Verdict {
    /// The name in what is recorded.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retry { .. } => "retry",
            Self::Dead { .. } => "dead",
            Self::Unavailable { .. } => "unavailable",
        }
    }

    /// Why the event is not done, if it is not.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Done => None,
            Self::Retry { reason, .. } | Self::Dead { reason } | Self::Unavailable { reason } => Some(reason),
        }
    }
}

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Its effect is in place.
    Done,
    /// This event failed, and may succeed later. Counts as an attempt; after the last it is a dead letter.
    Retry {
        /// How long the target wants to be left alone about this event; by default the consumer's back-off decides.
        after: Option<Duration>,
        /// Why, for whoever reads the dead letter.
        reason: String,
    },
    /// This event will never succeed: it becomes a dead letter now.
    Dead {
        /// Why, for whoever reads the dead letter.
        reason: String,
    },
    /// The target is out of order, whatever the event. Counts as no attempt: the consumer pauses, calls
    /// [`Sink::prepare`] until that works, and delivers the event again.
    Unavailable {
        /// What is wrong with the target.
        reason: String,
    },
}
