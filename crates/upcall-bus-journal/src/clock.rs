//! Time, as the tables hold it: milliseconds since 1970.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Now, by the wall's clock, which somebody may set.
pub(crate) fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// Now, by a clock that never goes back while the process lives: what waits is due by this one. It follows the wall's
/// clock forward, where that was set or the machine slept, and goes on at its own pace where that is set back.
pub(crate) fn steady_ms() -> i64 {
    static STEADY: Mutex<Option<Steady>> = Mutex::new(None);
    let (wall_ms, now) = (now_ms(), Instant::now());
    let mut steady = STEADY.lock().unwrap_or_else(PoisonError::into_inner);
    steady.get_or_insert(Steady { ms: wall_ms, at: now }).read(wall_ms, now)
}

/// This long from now, by the steady clock; the end of time if that is later.
pub(crate) fn after_ms(wait: Duration) -> i64 {
    // Rounded up: a delay is never shorter than what was asked for.
    let wait = i64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
    steady_ms().saturating_add(wait)
}

/// How long it is until a moment, by the steady clock; zero if it has passed.
pub(crate) fn until(moment_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(moment_ms.saturating_sub(steady_ms())).unwrap_or(0))
}

/// How long ago a moment was, by the wall's clock; zero if it is to come.
pub(crate) fn since(moment_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(now_ms().saturating_sub(moment_ms)).unwrap_or(0))
}

/// A moment by the steady clock, and the same by the machine's.
#[derive(Debug)]
struct Steady {
    ms: i64,
    at: Instant,
}

impl Steady {
    fn read(&mut self, wall_ms: i64, now: Instant) -> i64 {
        let passed = now.saturating_duration_since(self.at).as_millis();
        let steady_ms = self.ms.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX));
        if wall_ms > steady_ms {
            *self = Self { ms: wall_ms, at: now };
        }
        wall_ms.max(steady_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_wait_and_one_that_is_set_forward_is_followed() {
        let (begun, hour_ms) = (Instant::now(), 3_600_000);
        let mut steady = Steady { ms: 10 * hour_ms, at: begun };
        let mut read = |wall_ms, seconds| steady.read(wall_ms, begun + Duration::from_secs(seconds));
        assert_eq!(read(10 * hour_ms + 5_000, 5), 10 * hour_ms + 5_000);
        assert_eq!(read(2 * hour_ms, 6), 10 * hour_ms + 6_000, "set back: it goes on");
        assert_eq!(read(2 * hour_ms + 60_000, 66), 10 * hour_ms + 66_000);
        assert_eq!(read(20 * hour_ms, 67), 20 * hour_ms, "set forward, or after a sleep");
        assert_eq!(read(10 * hour_ms, 68), 20 * hour_ms + 1_000);
    }
}
