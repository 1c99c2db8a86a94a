//! How a consumer behaves.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use upcall_bus::ConsumerSpec;
use upcall_event::Condition;

use crate::Backoff;

/// How a consumer behaves. [`Options::new`] has the defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// What to read.
    pub spec: ConsumerSpec,
    /// Which of those events the sink is handed; the others count as done.
    pub condition: Condition,
    /// The most events that the sink is handed at once. They take 2 MiB together at most, unless one is larger.
    pub batch_max: NonZeroUsize,
    /// The most batches that are under way at once.
    pub concurrency: NonZeroUsize,
    /// How long events may wait for others to fill their batch; zero delivers what there is at once. They wait outside
    /// of the sink: neither `deliver_timeout` nor a shutdown counts against them.
    pub linger: Duration,
    /// How often an event may fail before it is a dead letter; `None` for ever.
    pub attempts_max: Option<NonZeroU32>,
    /// How long an event waits after it failed.
    pub backoff: Backoff,
    /// How long the target is left alone when it is out of order.
    pub outage_backoff: Backoff,
    /// How long the sink may take over one batch.
    pub deliver_timeout: Duration,
    /// How long batches under way may take to finish when the consumer shuts down.
    pub drain_timeout: Duration,
}

impl Options {
    /// Batches of up to 500 that wait for nobody, two at once, 20 attempts in about an hour, 30 seconds for a batch, 10 to drain.
    #[must_use]
    pub fn new(spec: ConsumerSpec) -> Self {
        const BATCH_MAX: NonZeroUsize = NonZeroUsize::new(500).expect("it is not zero");
        const CONCURRENCY: NonZeroUsize = NonZeroUsize::new(2).expect("it is not zero");
        Self {
            spec,
            condition: Condition::default(),
            batch_max: BATCH_MAX,
            concurrency: CONCURRENCY,
            linger: Duration::ZERO,
            attempts_max: NonZeroU32::new(20),
            backoff: Backoff::default(),
            // Shorter than for one event: the whole consumer waits, and a target that is back should be seen soon.
            outage_backoff: Backoff { max: Duration::from_secs(30), ..Backoff::default() },
            deliver_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
        }
    }
}
