//! What the handles, the subscriptions and the writer share.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tracing::{info, warn};

use crate::Options;
use crate::error::Cause;
use crate::queue::Queue;

/// What the handles, the subscriptions and the writer share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) queue: Arc<Queue>,
    /// The newest sequence that is durable.
    pub(crate) committed: watch::Sender<u64>,
    /// Turns true when the writer is gone and the files are free.
    pub(crate) finished: watch::Sender<bool>,
    fault: Mutex<Option<Cause>>,
}

impl Shared {
    pub(crate) fn new(options: Options, last: u64) -> Self {
        Self {
            queue: Arc::new(Queue::new(options.queue_max)),
            options,
            committed: watch::Sender::new(last),
            finished: watch::Sender::new(false),
            fault: Mutex::default(),
        }
    }

    pub(crate) fn fault(&self) -> Option<Cause> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
