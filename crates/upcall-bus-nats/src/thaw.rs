//! Publishing from a process that may have been frozen: the server may have given its connection up meanwhile, and
//! nothing on this side tells.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout_at};
use tracing::info;
use upcall_bus::{Deadline, Message, PublishError, PublishErrorKind, Receipt};

use crate::NatsBus;
use crate::connection::Shared;
use crate::persist::Doubt;

/// How long a server may say nothing at all, to this event and to all others, before the connection is taken for dead. A
/// live one in the same region answers in milliseconds, and a callback has 4.5 seconds in all.
const SILENCE_MAX: Duration = Duration::from_secs(1);

impl NatsBus {
    /// Publishes over a connection that may be dead. One that ends, or stays silent, is made anew, and the event is sent
    /// again: it has the same id, so the stream holds it once.
    pub(crate) async fn publish_thawed(
        &self,
        message: &Message,
        deadline: Deadline,
        doubt: &Doubt,
    ) -> Result<Receipt, PublishError> {
        let mut may_doubt = true;
        loop {
            let generation = self.connected_by(deadline).await?;
            let sent_at = Instant::now();
            let silence = async {
                sleep(SILENCE_MAX).await;
                if may_doubt && !self.shared.was_heard_since(sent_at) {
                    return;
                }
                // Once is enough: a server that is slow must not be left again and again.
                std::future::pending::<()>().await;
            };
            tokio::select! {
                // What has been answered has been, whatever became of the connection.
                biased;
                published = self.publish_once(message) => match published {
                    Err(error) if error.kind == PublishErrorKind::Unavailable && !self.is_still(generation) => doubt.raise(),
                    published => {
                        self.shared.note_heard();
                        return published;
                    }
                },
                () = self.lost(generation) => doubt.raise(),
                () = silence => {
                    may_doubt = false;
                    doubt.raise();
                    self.shared.give_up(generation).await;
                    let _ = timeout_at(deadline.instant().into(), self.lost(generation)).await;
                }
                () = tokio::time::sleep_until(deadline.instant().into()) => return Err(PublishErrorKind::Timeout.into()),
            }
        }
    }

    /// Waits for a connection, and says which it is.
    pub(crate) async fn connected_by(&self, deadline: Deadline) -> Result<u64, PublishError> {
        let mut link = self.link();
        let connected = timeout_at(deadline.instant().into(), link.wait_for(|link| link.connected)).await;
        match connected {
            Ok(Ok(link)) => Ok(link.generation),
            Ok(Err(_)) | Err(_) => Err(self.unreachable()),
        }
    }

    /// Waits until a connection is no more.
    pub(crate) async fn lost(&self, generation: u64) {
        // A sender that is gone means that the bus is, too.
        let _ = self.link().wait_for(|link| !link.connected || link.generation != generation).await;
    }

    fn is_still(&self, generation: u64) -> bool {
        let link = self.link();
        let link = link.borrow();
        link.connected && link.generation == generation
    }
}

impl Shared {
    /// Notes that the server has answered.
    fn note_heard(&self) {
        *self.heard_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Instant::now());
    }

    fn was_heard_since(&self, moment: Instant) -> bool {
        self.heard_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_some_and(|heard| heard > moment)
    }

    /// Makes the connection anew, once, however many publications wait on it.
    async fn give_up(&self, generation: u64) {
        if self.given_up.fetch_max(generation, std::sync::atomic::Ordering::Relaxed) < generation {
            info!("NATS says nothing over a connection that was made before; it is made anew");
            // A client that takes no commands is closing.
            let _ = self.client.force_reconnect().await;
        }
    }
}
