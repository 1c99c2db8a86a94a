//! The time that a shutdown leaves.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// What is left of a shutdown's time when the last program has to be gone: its event is still to be handed back.
const SETTLING: Duration = Duration::from_millis(500);

/// By when every program has to be gone, once that is known.
pub(crate) struct Closing(watch::Sender<Option<Instant>>);

impl Closing {
    /// Nobody shuts down.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Takes note that the consumer shuts down and waits for so long.
    pub(crate) fn begin(&self, time: Duration) {
        let settling = SETTLING.min(time / 4);
        self.0.send_replace(Some(Instant::now() + time - settling));
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Waits until a program that needs so long to end has to be told to, and says by when it has to be gone. Never, as
    /// long as nobody shuts down.
    pub(crate) async fn last_call(&self, needed: Duration) -> Instant {
        let mut known = self.0.subscribe();
        let end = known.wait_for(Option::is_some).await.ok().and_then(|end| *end);
        match end {
            Some(end) => {
                if let Some(at) = end.checked_sub(needed) {
                    sleep_until(at).await;
                }
                end
            }
            None => std::future::pending().await,
        }
    }
}
