//! Waiting for a service's rate, and for its word.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use upcall_egress::{Pace, Rate, TooLong};

/// All rates of one service. Each is kept.
#[derive(Debug)]
pub(crate) struct Turn {
    paces: Vec<Pace>,
    held: Mutex<Option<Held>>,
}

/// A pause that the service has asked for.
#[derive(Debug, Clone)]
struct Held {
    until: Instant,
    reason: String,
}

impl Turn {
    pub(crate) fn new(rates: &[Rate]) -> Self {
        Self { paces: rates.iter().copied().map(Pace::new).collect(), held: Mutex::new(None) }
    }

    /// Waits until the next message may be sent.
    ///
    /// # Errors
    /// If that is not before the deadline.
    pub(crate) async fn wait(&self, deadline: Instant) -> Result<(), TooLong> {
        if let Some((held, _)) = self.held(Instant::now()) {
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

    /// Lets no message go for so long, as the service has asked, and takes note of what it said.
    pub(crate) fn hold(&self, wait: Duration, reason: &str) {
        let until = Instant::now() + wait;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_none_or(|held| held.until < until) {
            *held = Some(Held { until, reason: reason.to_owned() });
        }
    }

    /// How long the service still wants to be left alone, and what it said.
    pub(crate) fn held(&self, now: Instant) -> Option<(Duration, String)> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let wait = held.until.saturating_duration_since(now);
        (!wait.is_zero()).then_some((wait, held.reason))
    }
}
