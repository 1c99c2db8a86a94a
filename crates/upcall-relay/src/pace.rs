//! Whether events go one by one or in batches.

use std::time::{Duration, Instant};

/// A server that takes fewer single events than this in a second may sync each: those that do took up to 6,500, those
/// that don't some tens of thousands. To try batches in vain costs a second.
const SLOW: u64 = 20_000;
/// How long batches are used before it is measured again whether they are worth it.
const TRUST: Duration = Duration::from_secs(30);
/// How long they are not tried again after they were refused, or brought nothing.
const DISTRUST: Duration = Duration::from_secs(60);

/// Measures how fast the server takes events while there are more than it takes, and chooses what is faster. A server
/// that syncs each publication syncs a batch once, and takes twenty times as many events so; others are twice as fast
/// with single ones.
#[derive(Debug)]
pub(crate) struct Pace {
    batching: bool,
    /// What the server took one by one, in a second.
    single: u64,
    /// Not before this is it thought about again.
    not_before: Instant,
    measured: (u64, Instant),
    /// There was less to send than the server takes: its rate says nothing.
    starved: bool,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { batching: false, single: 0, not_before: now, measured: (0, now), starved: false }
    }

    pub(crate) fn is_batching(&self) -> bool {
        self.batching
    }

    /// Takes note that there is nothing more to send.
    pub(crate) fn starve(&mut self) {
        self.starved = true;
    }

    /// Takes note that the server does not take a batch.
    pub(crate) fn refused(&mut self, now: Instant) {
        (self.batching, self.not_before) = (false, now + DISTRUST);
    }

    /// Measures, once in a while: so many events were acknowledged so far.
    pub(crate) fn measure(&mut self, acked: u64, now: Instant) {
        let (before, since) = std::mem::replace(&mut self.measured, (acked, now));
        if std::mem::take(&mut self.starved) {
            return;
        }
        let ms = u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = acked.saturating_sub(before).saturating_mul(1_000) / ms;
        if self.batching && rate < self.single {
            self.refused(now);
        } else if now >= self.not_before {
            if self.batching {
                self.batching = false;
            } else if rate < SLOW {
                (self.batching, self.single, self.not_before) = (true, rate, now + TRUST);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What is used in each second, by a server that takes so many single events, and so many in batches.
    fn run(single: u64, batched: u64, seconds: u32) -> Vec<bool> {
        let start = Instant::now();
        let (mut pace, mut acked) = (Pace::new(start), 0);
        (1..=seconds)
            .map(|second| {
                let used = pace.is_batching();
                acked += if used { batched } else { single };
                pace.measure(acked, start + SECOND * second);
                used
            })
            .collect()
    }

    #[test]
    fn batches_are_used_where_they_are_faster_and_now_and_then_measured_again() {
        let used = run(900, 18_000, 100);
        assert!(!used[0] && used[1]);
        assert!((90..100).contains(&used.iter().filter(|batching| **batching).count()), "{used:?}");
    }

    #[test]
    fn a_server_that_takes_single_events_fast_gets_no_batches() {
        assert!(run(40_000, 60_000, 100).iter().all(|batching| !batching));
    }

    #[test]
    fn batches_that_bring_nothing_are_rarely_tried() {
        assert!(run(2_000, 1_000, 100).iter().filter(|batching| **batching).count() <= 2);
    }

    #[test]
    fn a_server_without_enough_to_do_says_nothing() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for second in 1..50 {
            pace.starve();
            pace.measure(u64::from(second), start + SECOND * second);
            assert!(!pace.is_batching());
        }
    }
}
