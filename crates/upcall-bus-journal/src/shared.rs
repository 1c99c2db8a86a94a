//! What the handles, the subscriptions and the writer share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{info, warn};

use crate::error::Cause;
use crate::queue::Queue;
use crate::{Options, Overdue};

/// What the handles, the subscriptions and the writer share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) queue: Arc<Queue>,
    /// The newest sequence that is durable.
    pub(crate) committed: watch::Sender<u64>,
    /// Changes when this process has given a consumer something again.
    pub(crate) given: watch::Sender<()>,
    /// Turns true when the writer is gone and the files are free.
    pub(crate) finished: watch::Sender<bool>,
    fault: Mutex<Option<Cause>>,
    overdue: Mutex<Option<Overdue>>,
    /// How many events were dropped that a consumer had not settled, by its name.
    dropped: Mutex<BTreeMap<String, u64>>,
    /// Since when the writer has been at one and the same turn.
    turn: Mutex<Option<Instant>>,
}

/// How long one turn of the writer may take before the journal counts as out of order: a disk that hangs reports no
/// error, and a callback has less time than twice this.
const TURN_MAX: Duration = Duration::from_secs(2);

impl Shared {
    pub(crate) fn new(options: Options, last: u64) -> Self {
        Self {
            queue: Arc::new(Queue::new(options.queue_max)),
            options,
            committed: watch::Sender::new(last),
            given: watch::Sender::new(()),
            finished: watch::Sender::new(false),
            fault: Mutex::default(),
            overdue: Mutex::default(),
            dropped: Mutex::default(),
            turn: Mutex::default(),
        }
    }

    pub(crate) fn fault(&self) -> Option<Cause> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn overdue(&self) -> Option<Overdue> {
        self.overdue.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_overdue(&self, overdue: Option<Overdue>) {
        *self.overdue.lock().unwrap_or_else(PoisonError::into_inner) = overdue;
    }

    pub(crate) fn dropped(&self) -> BTreeMap<String, u64> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn add_dropped(&self, events: &[(String, u64)]) {
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        for (consumer, count) in events {
            *dropped.entry(consumer.clone()).or_default() += count;
        }
    }

    /// Notes that the writer begins a turn, or has ended it.
    pub(crate) fn set_turn(&self, began: Option<Instant>) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = began;
    }

    /// How long the writer has been at its turn, if that is too long.
    pub(crate) fn stuck(&self) -> Option<Duration> {
        let began = *self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        began.map(|began| began.elapsed()).filter(|elapsed| *elapsed > TURN_MAX)
    }

    pub(crate) fn set_fault(&self, fault: Option<Cause>) {
        let mut now = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*now, &fault) {
            (None, Some(cause)) => warn!(cause = %cause, "the journal can't write; publishers are refused"),
            (Some(_), None) => info!("the journal writes again"),
            _ => {}
        }
        *now = fault;
    }
}
