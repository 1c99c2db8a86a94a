//! One way of dealing with the bus: whether it fails, and how long it is left alone then.

use tokio::time::{Instant, sleep_until};

use crate::Backoff;

/// Reading the bus, or telling it what became of events.
#[derive(Debug, Default)]
pub(crate) struct Path {
    failures: u32,
    /// Why the last attempt failed; none after one that succeeded.
    fault: Option<String>,
    pause: Option<Instant>,
}

impl Path {
    /// Takes note of a failure, and has the bus left alone for a while. True if it is the first in a row.
    pub(crate) fn failed(&mut self, fault: String, backoff: &Backoff) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.fault = Some(fault);
        self.pause = Some(Instant::now() + backoff.draw(self.failures));
        self.failures == 1
    }

    /// Takes note that it goes. True if it did not before.
    pub(crate) fn succeeded(&mut self) -> bool {
        std::mem::take(self).failures > 0
    }

    /// Why the last attempt failed, if it did.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Until when the bus is left alone.
    pub(crate) fn pause(&self) -> Option<Instant> {
        self.pause
    }

    /// Waits until the bus is to be left alone no longer.
    pub(crate) async fn paused(&self) {
        sleep_until(self.pause.unwrap_or_else(Instant::now)).await;
    }

    /// Takes note that the pause is over.
    pub(crate) fn resume(&mut self) {
        self.pause = None;
    }
}
