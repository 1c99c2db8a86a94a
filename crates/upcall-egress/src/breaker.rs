//! When a target is better left alone.

use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerOptions {
    /// How many failures in a row open it.
    pub failures_max: NonZeroU32,
    /// How long it is open at first. Each trial that fails doubles it.
    pub open_min: Duration,
    /// The longest that it is open before the next trial.
    pub open_max: Duration,
}

impl Default for BreakerOptions {
    /// 5 failures in a row; 1 second, doubling up to 5 minutes.
    fn default() -> Self {
        const FAILURES_MAX: NonZeroU32 = NonZeroU32::new(5).expect("it is not zero");
        Self { failures_max: FAILURES_MAX, open_min: Duration::from_secs(1), open_max: Duration::from_secs(300) }
    }
}

/// Counts failures in a row. After too many it opens, and lets through one trial at a time, until one succeeds.
#[derive(Debug)]
pub struct Breaker {
    options: BreakerOptions,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, wait: Duration, is_tried: bool },
}

/// Whether a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The target is in order.
    Free,
    /// The target was out of order; this call tries it. Nobody else does meanwhile.
    Trial,
    /// The target is left alone.
    Refused {
        /// The next trial may be then.
        until: Instant,
    },
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(options: BreakerOptions) -> Self {
        Self { options, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Says whether a call may be made. A trial whose end is never reported is forgotten after as long as the breaker was
    /// open.
    pub fn admit(&self, now: Instant) -> Admission {
        let mut state = self.lock();
        match *state {
            State::Closed { .. } => Admission::Free,
            State::Open { until, .. } if now < until => Admission::Refused { until },
            State::Open { wait, .. } => {
                *state = State::Open { until: now + wait, wait, is_tried: true };
                Admission::Trial
            }
        }
    }

    /// Whether the target is in order, as far as is known.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(*self.lock(), State::Closed { .. })
    }

    /// When the next trial may be, if that is not now.
    #[must_use]
    pub fn open_until(&self, now: Instant) -> Option<Instant> {
        match *self.lock() {
            State::Open { until, .. } if now < until => Some(until),
            State::Open { .. } | State::Closed { .. } => None,
        }
    }

    /// Takes note that a call succeeded.
    pub fn succeeded(&self) {
        *self.lock() = State::Closed { failures: 0 };
    }

    /// Takes note that a call failed in a way that says something about the target.
    pub fn failed(&self, now: Instant) {
        let mut state = self.lock();
        *state = match *state {
            State::Closed { failures } if failures + 1 < self.options.failures_max.get() => {
                State::Closed { failures: failures + 1 }
            }
            state => self.opened(state, now),
        };
    }

    /// Takes note that the target can't be reached at all: opens at once.
    pub fn trip(&self, now: Instant) {
        let mut state = self.lock();
        *state = self.opened(*state, now);
    }

    /// Opens at once, until a moment that the target has asked for.
    pub fn hold(&self, until: Instant) {
        let mut state = self.lock();
        *state = match *state {
            State::Open { until: earlier, wait, .. } => {
                State::Open { until: until.max(earlier), wait, is_tried: false }
            }
            State::Closed { .. } => State::Open { until, wait: self.options.open_min, is_tried: false },
        };
    }

    fn opened(&self, state: State, now: Instant) -> State {
        match state {
            State::Closed { .. } => self.open(now, self.options.open_min),
            State::Open { wait, is_tried: true, .. } => self.open(now, wait.saturating_mul(2)),
            // It was under way when the breaker opened, and tells nothing new.
            open @ State::Open { is_tried: false, .. } => open,
        }
    }

    fn open(&self, now: Instant, wait: Duration) -> State {
        let wait = wait.min(self.options.open_max);
        State::Open { until: now + wait, wait, is_tried: false }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> Breaker {
        Breaker::new(BreakerOptions { failures_max: 3.try_into().unwrap(), open_min: SECOND, open_max: 4 * SECOND })
    }

    fn opened(now: Instant) -> Breaker {
        let breaker = breaker();
        (0..3).for_each(|_| breaker.failed(now));
        breaker
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let (breaker, now) = (breaker(), Instant::now());
        for _ in 0..10 {
            breaker.failed(now);
            breaker.failed(now);
            breaker.succeeded();
        }
        assert_eq!(breaker.admit(now), Admission::Free);
        assert_eq!(opened(now).admit(now), Admission::Refused { until: now + SECOND });
    }

    #[test]
    fn an_open_one_lets_one_through_at_a_time_at_growing_intervals() {
        let mut now = Instant::now();
        let breaker = opened(now);
        for wait in [1, 2, 4, 4] {
            assert_eq!(breaker.open_until(now), Some(now + wait * SECOND));
            now += wait * SECOND;
            assert_eq!(breaker.admit(now), Admission::Trial);
            assert!(matches!(breaker.admit(now), Admission::Refused { .. }));
            breaker.failed(now);
        }
        now += 4 * SECOND;
        assert_eq!(breaker.admit(now), Admission::Trial);
        breaker.succeeded();
        assert_eq!((breaker.admit(now), breaker.admit(now)), (Admission::Free, Admission::Free));
    }

    #[test]
    fn failures_of_before_it_opened_do_not_keep_it_open() {
        let now = Instant::now();
        let breaker = opened(now);
        breaker.failed(now + SECOND / 2);
        assert_eq!(breaker.admit(now + SECOND), Admission::Trial);
    }

    #[test]
    fn a_trial_that_never_ends_does_not_keep_it_open() {
        let now = Instant::now();
        let breaker = opened(now);
        assert_eq!(breaker.admit(now + SECOND), Admission::Trial);
        assert_eq!(breaker.admit(now + 2 * SECOND), Admission::Trial);
    }

    #[test]
    fn a_target_that_can_not_be_reached_opens_it_at_once() {
        let (breaker, now) = (breaker(), Instant::now());
        breaker.trip(now);
        breaker.trip(now);
        assert_eq!((breaker.is_closed(), breaker.open_until(now)), (false, Some(now + SECOND)));
    }

    #[test]
    fn a_target_that_asks_for_quiet_gets_it() {
        let (breaker, now) = (breaker(), Instant::now());
        breaker.hold(now + 60 * SECOND);
        breaker.hold(now + 30 * SECOND);
        assert_eq!(breaker.admit(now + 59 * SECOND), Admission::Refused { until: now + 60 * SECOND });
        assert_eq!(breaker.admit(now + 60 * SECOND), Admission::Trial);
    }
}
