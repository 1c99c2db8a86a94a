//! How long anybody waits for the collector: not at all for a while, where it has just been waited for in vain.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// For how long nobody waits once somebody has waited in vain, at first and at most. An instance that answers a callback a
/// second waits in every sixtieth at most.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long somebody must have waited for the collector to count as one that takes nothing.
const LIMIT_THAT_TELLS: Duration = Duration::from_millis(100);

/// Between those who wait until something is sent, and whoever sends it.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// Counts those who wait.
    wanted: watch::Sender<u64>,
    /// Counts what was tried for them in vain.
    failed: watch::Sender<u64>,
    pause: Mutex<Pause>,
}

#[derive(Debug, Default)]
struct Pause {
    until: Option<Instant>,
    length: Duration,
}

impl Patience {
    /// Waits until something is `flushed`, or has been tried in vain; not for longer than `limit`. What has failed before
    /// is tried again at once. Where somebody has just waited in vain nobody waits, unless he `insists`.
    ///
    /// Whoever gives up before that has not waited in vain.
    pub(crate) async fn wait(&self, flushed: impl Future<Output = ()>, limit: Duration, insists: bool) {
        if !insists && self.lock().until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let began = Instant::now();
        let mut failed = self.failed.subscribe();
        self.wanted.send_modify(|wanted| *wanted += 1);
        let flushed = async {
            tokio::select! {
                biased;
                () = flushed => true,
                // It can't be gone: it is ours.
                _ = failed.changed() => false,
            }
        };
        // Who had hardly any time says nothing about the collector.
        if !timeout(limit, flushed).await.unwrap_or(limit < LIMIT_THAT_TELLS) {
            let mut pause = self.lock();
            // Several who waited at a time are one.
            if pause.until.is_none_or(|until| until <= began) {
                pause.length = (pause.length * 2).clamp(PAUSE_FIRST, PAUSE_MAX);
                pause.until = Some(Instant::now() + pause.length);
            }
        }
    }

    /// Tells whoever sends of those who wait.
    pub(crate) fn wanted(&self) -> watch::Receiver<u64> {
        self.wanted.subscribe()
    }

    /// Something was tried in vain.
    pub(crate) fn failed(&self) {
        self.failed.send_modify(|failed| *failed += 1);
    }

    /// Something was sent: it is worth waiting again.
    pub(crate) fn sent(&self) {
        *self.lock() = Pause::default();
    }

    fn lock(&self) -> MutexGuard<'_, Pause> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(300);

    async fn waited(patience: &Patience, insists: bool) -> Duration {
        let began = Instant::now();
        patience.wait(pending(), LIMIT, insists).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_in_vain_is_the_only_one_for_longer_and_longer() {
        let patience = Patience::default();
        let mut waits = 0;
        // Ten minutes, with a callback a second.
        for _ in 0..600 {
            waits += usize::from(waited(&patience, false).await == LIMIT);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!((10..=16).contains(&waits), "{waits}");
        assert_eq!(waited(&patience, true).await, LIMIT, "but for who insists");
        patience.sent();
        assert_eq!(waited(&patience, false).await, LIMIT);
        assert_eq!(waited(&patience, false).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_tried_in_vain_is_not_waited_for_any_longer() {
        let patience = Patience::default();
        let mut wanted = patience.wanted();
        let began = Instant::now();
        tokio::join!(patience.wait(pending(), LIMIT, false), async {
            wanted.changed().await.unwrap();
            patience.failed();
        });
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(waited(&patience, false).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_early_or_has_no_time_spoils_nothing() {
        let patience = Patience::default();
        assert!(timeout(LIMIT / 2, patience.wait(pending(), LIMIT, false)).await.is_err());
        patience.wait(pending(), Duration::from_millis(5), false).await;
        patience.wait(ready(()), LIMIT, false).await;
        assert_eq!(waited(&patience, false).await, LIMIT);
    }
}
