//! Keeping to a rate by waiting.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::{Rate, rounded};

/// Lets no more begin in any stretch of the rate's time than the rate says. Who comes too early waits.
#[derive(Debug)]
pub struct Pace {
    rate: Rate,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the last ones began or will begin, as many as the rate's count.
    starts: VecDeque<Instant>,
    /// Nothing begins earlier.
    held_until: Option<Instant>,
}

/// The next one's turn is later than somebody wants to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the next turn is in {}", rounded(*.0))]
pub struct TooLong(pub Duration);

impl Pace {
    /// A pace at which nothing has begun.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, state: Mutex::default() }
    }

    /// Waits until the next may begin.
    ///
    /// # Errors
    /// If that takes longer than `patience`; nothing has begun then.
    ///
    /// # Cancel safety
    /// Dropping the future wastes a turn, and breaks nothing.
    pub async fn turn(&self, patience: Duration) -> Result<(), TooLong> {
        let latest = Instant::now() + patience;
        loop {
            let now = Instant::now();
            let start = self.reserve(now, latest.saturating_duration_since(now))?;
            sleep_until(start).await;
            // Whoever was waiting when the target asked for quiet takes another turn.
            if self.lock().held_until.is_none_or(|until| until <= start) {
                return Ok(());
            }
        }
    }

    /// Takes the next turn, and says when it is.
    ///
    /// # Errors
    /// If that is later than in `patience`; no turn is taken then.
    pub fn reserve(&self, now: Instant, patience: Duration) -> Result<Instant, TooLong> {
        let mut state = self.lock();
        let is_full = state.starts.len() >= self.rate.count.get() as usize;
        let free = state.starts.front().filter(|_| is_full).map(|first| *first + self.rate.period);
        let start = [free, state.held_until].into_iter().flatten().fold(now, Instant::max);
        let wait = start - now;
        if wait > patience {
            return Err(TooLong(wait));
        }
        if is_full {
            state.starts.pop_front();
        }
        state.starts.push_back(start);
        Ok(start)
    }

    /// Lets nothing begin before a moment, as a target has asked.
    pub fn hold(&self, until: Instant) {
        let mut state = self.lock();
        state.held_until = state.held_until.max(Some(until));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONG: Duration = Duration::from_secs(100_000);

    proptest! {
        #[test]
        fn no_stretch_of_time_sees_more_than_the_rate_says(
            count in 1_u32..20, arrivals in proptest::collection::vec(0_u64..3_000, 1..200), hold in proptest::option::of(0_u64..5_000)
        ) {
            let rate = Rate { count: count.try_into().unwrap(), period: Duration::from_secs(1) };
            let (pace, begin) = (Pace::new(rate), Instant::now());
            let mut now = begin;
            let mut starts = Vec::new();
            for (place, arrival) in arrivals.iter().enumerate() {
                now += Duration::from_millis(arrival / 10);
                if place == 5 && let Some(hold) = hold {
                    pace.hold(now + Duration::from_millis(hold));
                }
                let start = pace.reserve(now, LONG).unwrap();
                prop_assert!(start >= now);
                starts.push(start);
            }
            for pair in starts.windows(count as usize + 1) {
                prop_assert!(pair[count as usize] - pair[0] >= rate.period, "{pair:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_too_early_waits_and_who_is_impatient_is_told_how_long() {
        let pace = Pace::new("2/s".parse().unwrap());
        let begin = Instant::now();
        for _ in 0..5 {
            pace.turn(LONG).await.unwrap();
        }
        assert_eq!(begin.elapsed().as_millis() / 100, 20, "two at once, two a second later, and one");
        pace.turn(LONG).await.unwrap();
        let wait = pace.turn(Duration::from_millis(10)).await.unwrap_err();
        assert!(wait.0 > Duration::from_millis(900), "{wait}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_asks_for_quiet_gets_it_from_those_who_wait_too() {
        let pace = Pace::new("1/s".parse().unwrap());
        pace.turn(LONG).await.unwrap();
        let begin = Instant::now();
        let waiting = async { pace.turn(LONG).await.unwrap() };
        let asking = async { pace.hold(begin + Duration::from_secs(30)) };
        tokio::join!(waiting, asking);
        assert!(begin.elapsed() >= Duration::from_secs(30), "{:?}", begin.elapsed());
    }
}
