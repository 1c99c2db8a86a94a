//! How long to wait after a failure.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Waits that grow by a factor up to a limit, each shortened at random, so that those who failed together do not
/// come back together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
    /// How much longer each wait is than the one before; anything below 1 counts as 1.
    pub factor: f64,
    /// The largest part of a wait that chance may take away, from 0 to 1.
    pub jitter: f64,
}

impl Default for Backoff {
    /// 1 second, doubling up to 5 minutes, up to half of it taken away.
    fn default() -> Self {
        Self { first: Duration::from_secs(1), max: Duration::from_secs(300), factor: 2.0, jitter: 0.5 }
    }
}

impl Backoff {
    /// The wait after so many failures (1 is the first), where `chance` is from 0 (the longest wait) to 1.
    #[must_use]
    pub fn delay(&self, failures: u32, chance: f64) -> Duration {
        let max = self.max.as_secs_f64();
        let exponent = f64::from(failures.saturating_sub(1));
        let full = (self.first.as_secs_f64() * self.factor.max(1.0).powf(exponent)).min(max);
        let taken = self.jitter.clamp(0.0, 1.0) * chance.clamp(0.0, 1.0);
        // Strange settings (a NaN) come to the longest wait.
        Duration::try_from_secs_f64(full * (1.0 - taken)).unwrap_or(self.max)
    }

    /// The wait after so many failures, with fresh chance.
    #[must_use]
    pub fn draw(&self, failures: u32) -> Duration {
        self.delay(failures, chance())
    }
}

/// A number from 0 to 1. The standard library's hasher is keyed at random, which is chance enough for jitter.
pub(crate) fn chance() -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "jitter needs no 64 bits")]
    let chance = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
    chance
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn duration() -> impl Strategy<Value = Duration> {
        (0_u64..100_000_000).prop_map(Duration::from_micros)
    }

    proptest! {
        #[test]
        fn a_wait_grows_and_stays_within_its_bounds(first in duration(), max in duration(), factor in 0.0..10.0_f64, jitter in 0.0..=1.0_f64,
                                                    failures in 1_u32..100, chance in 0.0..=1.0_f64) {
            let backoff = Backoff { first, max, factor, jitter };
            let (longest, drawn, shortest) = (backoff.delay(failures, 0.0), backoff.delay(failures, chance), backoff.delay(failures, 1.0));
            prop_assert!(shortest <= drawn && drawn <= longest && longest <= max);
            prop_assert!(backoff.delay(failures + 1, 0.0) >= longest);
            let expected = longest.as_secs_f64() * (1.0 - jitter);
            prop_assert!((shortest.as_secs_f64() - expected).abs() < 1e-6);
        }

        #[test]
        fn no_setting_makes_a_wait_beyond_the_limit(first in any::<u64>(), factor in any::<f64>(), jitter in any::<f64>(), failures in any::<u32>(), chance in any::<f64>()) {
            let backoff = Backoff { first: Duration::from_secs(first), max: Duration::from_secs(60), factor, jitter };
            prop_assert!(backoff.delay(failures, chance) <= Duration::from_secs(60));
        }
    }

    #[test]
    fn waits_double_and_chance_differs() {
        let backoff = Backoff::default();
        let seconds: Vec<u64> = (1..=10).map(|failures| backoff.delay(failures, 0.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        let drawn: std::collections::BTreeSet<Duration> = (0..100).map(|_| backoff.draw(10)).collect();
        assert!(drawn.len() > 90, "only {} different waits in 100", drawn.len());
    }
}
