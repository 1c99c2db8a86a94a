//! Whether it is worth the time to try the broker.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// After so many publications in a row that got no answer, the next ones don't wait for one.
const TIMEOUTS_MAX: u32 = 3;
/// How often one publication tries again then.
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// Opens when the broker does not answer, and closes when it does. While it is open, one publication at a time tries.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    timeouts: u32,
    /// When the last one tried, while it is open.
    probed: Option<Instant>,
}

impl Breaker {
    /// Whether a publication may try the broker.
    pub(crate) fn admits(&self, now: Instant) -> bool {
        let mut state = self.lock();
        if state.timeouts < TIMEOUTS_MAX {
            return true;
        }
        let may = state.probed.is_none_or(|probed| now.saturating_duration_since(probed) >= PROBE_EVERY);
        if may {
            state.probed = Some(now);
        }
        may
    }

    /// The broker has answered, whatever it said.
    pub(crate) fn answered(&self) {
        *self.lock() = State::default();
    }

    /// The broker has not answered in time.
    pub(crate) fn timed_out(&self, now: Instant) {
        let mut state = self.lock();
        state.timeouts = state.timeouts.saturating_add(1);
        state.probed = Some(now);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_does_not_answer_is_tried_by_one_at_a_time_until_it_does() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..TIMEOUTS_MAX {
            assert!(breaker.admits(start));
            breaker.timed_out(start);
        }
        assert!(!breaker.admits(start));
        let later = start + PROBE_EVERY;
        assert!(breaker.admits(later));
        assert!(!breaker.admits(later), "one is trying");
        breaker.timed_out(later);
        assert!(!breaker.admits(later));
        assert!(breaker.admits(later + PROBE_EVERY));
        breaker.answered();
        assert!(breaker.admits(later) && breaker.admits(later));
    }
}
