//! Waiting for a service's rate, and for its word.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use upcall_egress::{Pace, Rate, TooLong};

/// All rates of one service. Each is kept.
#[derive(Debug)]
pub(crate) struct Turn {
    paces: Vec<Pace>,
    held_until: Mutex<Option<Instant>>,
}

impl Turn {
    pub(crate) fn new(rates: &[Rate]) -> Self {
        Self { paces: rates.iter().copied().map(Pace::new).collect(), held_until: Mutex::new(None) }
    }

    /// Waits until the next message may be sent.
    ///
    /// # Errors
    /// If that is not before the deadline.
    pub(crate) async fn wait(&self, deadline: Instant) -> Result<(), TooLong> {
        if let Some(held) = self.held(Instant::now()) {
            if Instant::now() + held > deadline {
                return Err(TooLong(held));
            }
            tokio::time::sleep(held).await;
        }
        for pace in &self.paces {
            pace.turn(deadline.saturating_duration_since(Instant::now())).await?;
        }
        Ok(())
    }

    /// Lets no message go for so long, as the service has asked.
    pub(crate) fn hold(&self, wait: Duration) {
        let mut held_until = self.held_until.lock().unwrap_or_else(PoisonError::into_inner);
        *held_until = (*held_until).max(Some(Instant::now() + wait));
    }

    /// How long the service still wants to be left alone.
    pub(crate) fn held(&self, now: Instant) -> Option<Duration> {
        let held_until = *self.held_until.lock().unwrap_or_else(PoisonError::into_inner);
        held_until.map(|until| until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }
}
