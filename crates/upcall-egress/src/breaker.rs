//! When a target is better left alone, and why.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::rounded;

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
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// How many calls have failed since one succeeded, and why the last of them did.
    failures: u32,
    reason: String,
    /// Whether the target has asked for the quiet itself.
    asked: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, wait: Duration, is_tried: bool },
}

/// Why a target is left alone, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resting {
    /// What was said of the last call that failed.
    pub reason: String,
    /// How many have failed in a row.
    pub failures: u32,
    /// How long it is left alone from now on.
    pub wait: Duration,
    /// Whether it has asked for that.
    pub asked: bool,
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
        let inner = Inner { state: CLOSED, failures: 0, reason: String::new(), asked: false };
        Self { options, inner: Mutex::new(inner) }
    }

    /// Says whether a call may be made. A trial whose end is never reported is forgotten after as long as the breaker was
    /// open.
    pub fn admit(&self, now: Instant) -> Admission {
        let state = &mut self.lock().state;
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
        matches!(self.lock().state, State::Closed { .. })
    }

    /// When the next trial may be, if that is not now.
    #[must_use]
    pub fn open_until(&self, now: Instant) -> Option<Instant> {
        match self.lock().state {
            State::Open { until, .. } if now < until => Some(until),
            State::Open { .. } | State::Closed { .. } => None,
        }
    }

    /// Why no call may be made, if that is so.
    #[must_use]
    pub fn resting(&self, now: Instant) -> Option<Resting> {
        let wait = self.open_until(now)? - now;
        let inner = self.lock();
        Some(Resting { reason: inner.reason.clone(), failures: inner.failures, wait, asked: inner.asked })
    }

    /// Takes note that a call succeeded. One that was under way when the breaker opened tells nothing new, and does not end a
    /// pause that the target has asked for since.
    pub fn succeeded(&self) {
        let mut inner = self.lock();
        if !matches!(inner.state, State::Open { is_tried: false, .. }) {
            (inner.state, inner.failures) = (CLOSED, 0);
        }
    }

    /// Takes note that a call failed in a way that says something about the target, and what.
    pub fn failed(&self, now: Instant, reason: &str) {
        let mut inner = self.lock();
        inner.note(reason, false);
        inner.state = match inner.state {
            State::Closed { failures } if failures + 1 < self.options.failures_max.get() => {
                State::Closed { failures: failures + 1 }
            }
            state => self.opened(state, now),
        };
    }

    /// Takes note that the target can't be reached at all, and why: opens at once.
    pub fn trip(&self, now: Instant, reason: &str) {
        let mut inner = self.lock();
        inner.note(reason, false);
        inner.state = self.opened(inner.state, now);
    }

    /// Opens at once, until a moment that the target has asked for in its answer.
    pub fn hold(&self, until: Instant, reason: &str) {
        let mut inner = self.lock();
        inner.note(reason, true);
        inner.state = match inner.state {
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

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As it begins, and after each success.
const CLOSED: State = State::Closed { failures: 0 };

impl Inner {
    fn note(&mut self, reason: &str, asked: bool) {
        self.failures = self.failures.saturating_add(1);
        reason.clone_into(&mut self.reason);
        self.asked = asked;
    }
}

impl fmt::Display for Resting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if self.failures > 1 {
            write!(f, " ({} in a row)", self.failures)?;
        }
        if self.asked {
            f.write_str("; it has asked by Retry-After to be left alone")?;
        }
        write!(f, "; one event tries again in {}", rounded(self.wait))
    }
}

impl std::error::Error for Resting {}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> Breaker {
        Breaker::new(BreakerOptions { failures_max: 3.try_into().unwrap(), open_min: SECOND, open_max: 4 * SECOND })
    }

    fn opened(now: Instant) -> Breaker {
        let breaker = breaker();
        (0..3).for_each(|_| breaker.failed(now, "no"));
        breaker
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let (breaker, now) = (breaker(), Instant::now());
        for _ in 0..10 {
            breaker.failed(now, "no");
            breaker.failed(now, "no");
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
            breaker.failed(now, "no");
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
        breaker.failed(now + SECOND / 2, "no");
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
        breaker.trip(now, "no route");
        breaker.trip(now, "no route");
        assert_eq!((breaker.is_closed(), breaker.open_until(now)), (false, Some(now + SECOND)));
    }

    #[test]
    fn a_target_that_asks_for_quiet_gets_it() {
        let (breaker, now) = (breaker(), Instant::now());
        breaker.hold(now + 60 * SECOND, "busy");
        breaker.hold(now + 30 * SECOND, "busy");
        assert_eq!(breaker.admit(now + 59 * SECOND), Admission::Refused { until: now + 60 * SECOND });
        // One that began before succeeds meanwhile.
        breaker.succeeded();
        assert_eq!(breaker.admit(now + 59 * SECOND), Admission::Refused { until: now + 60 * SECOND });
        assert_eq!(breaker.admit(now + 60 * SECOND), Admission::Trial);
        breaker.succeeded();
        assert!(breaker.is_closed());
    }

    #[test]
    fn whoever_is_refused_learns_what_went_wrong_and_when_the_next_trial_is() {
        let (breaker, now) = (breaker(), Instant::now());
        assert_eq!(breaker.resting(now), None);
        (0..3).for_each(|_| breaker.failed(now, "status 401 Unauthorized"));
        let said = |after: Duration| breaker.resting(now + after).map(|resting| resting.to_string());
        let expected = "status 401 Unauthorized (3 in a row); one event tries again in 1 s";
        assert_eq!(said(SECOND / 3).as_deref(), Some(expected));
        assert_eq!(said(SECOND), None, "one may try");
        assert_eq!(breaker.admit(now + SECOND), Admission::Trial);
        breaker.succeeded();
        breaker.hold(now + 8 * SECOND, "status 429 Too Many Requests");
        let expected =
            "status 429 Too Many Requests; it has asked by Retry-After to be left alone; one event tries again in 8 s";
        assert_eq!(said(Duration::ZERO).as_deref(), Some(expected));
    }
}
