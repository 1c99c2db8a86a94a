//! Publishing in spite of what passes: a leader that is being chosen, a connection that is made anew, an answer that is
//! lost with the server that owed it.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishError as NatsError, PublishErrorKind as NatsKind};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};
use upcall_bus::{Deadline, Message, PublishError, PublishErrorKind, Receipt};

use crate::NatsBus;
use crate::publish::code;

/// How long to wait before an event is offered again that nobody took; twice as long each time.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// How long an acknowledgement is waited for before the event is sent once more. A server that is merely slow answers the
/// first time, too, so that one stays awaited.
const RESEND_AFTER: Duration = Duration::from_secs(1);

/// Whether an event may be stored though nobody said so.
#[derive(Debug, Default)]
pub(crate) struct Doubt(AtomicBool);

impl Doubt {
    pub(crate) fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// What we stored ourselves is no duplicate.
    fn settle(&self, receipt: Receipt) -> Receipt {
        match receipt {
            Receipt::Duplicate if self.0.load(Ordering::Relaxed) => Receipt::Stored,
            receipt => receipt,
        }
    }
}

impl NatsBus {
    /// Publishes an event, again and again until the deadline while what is in the way may pass. It has the same id each
    /// time, so the stream holds it once.
    pub(crate) async fn publish_until(&self, message: &Message, deadline: Deadline) -> Result<Receipt, PublishError> {
        if deadline.has_passed() {
            return Err(PublishErrorKind::Timeout.into());
        }
        let (doubt, end) = (Doubt::default(), deadline.instant().into());
        let (mut attempts, mut failure, mut pause) = (FuturesUnordered::new(), None, PAUSE_MIN);
        let mut again_at = Instant::now();
        loop {
            tokio::select! {
                biased;
                Some(published) = attempts.next() => match published {
                    Ok(receipt) => return Ok(doubt.settle(receipt)),
                    Err(error) if !self.may_pass(&error) => return Err(error),
                    Err(error) => {
                        if cause(&error).is_some_and(|cause| cause.kind() == NatsKind::BrokenPipe) {
                            doubt.raise();
                        }
                        failure = Some(error);
                        if attempts.is_empty() {
                            again_at = Instant::now() + pause;
                            pause = (pause * 2).min(PAUSE_MAX);
                        }
                    }
                },
                () = sleep_until(end) => {
                    return Err(failure.unwrap_or_else(|| self.too_late()));
                }
                () = sleep_until(again_at) => {
                    if !attempts.is_empty() {
                        doubt.raise();
                    }
                    attempts.push(self.attempt(message, deadline, &doubt));
                    again_at = Instant::now() + RESEND_AFTER;
                }
            }
        }
    }

    async fn attempt(&self, message: &Message, deadline: Deadline, doubt: &Doubt) -> Result<Receipt, PublishError> {
        if self.shared.options.freezes {
            return self.publish_thawed(message, deadline, doubt).await;
        }
        let generation = self.connected_by(deadline).await?;
        tokio::select! {
            // What has been answered has been, whatever became of the connection.
            biased;
            published = self.publish_once(message) => published,
            () = self.lost(generation) => {
                doubt.raise();
                Err(self.unreachable())
            }
        }
    }

    /// Whether the same event may be taken a moment later.
    fn may_pass(&self, error: &PublishError) -> bool {
        let is_refused = || self.shared.link.borrow().refused;
        match error.kind {
            PublishErrorKind::Unavailable => !is_refused() && cause(error).is_none_or(passes),
            _ => false,
        }
    }

    fn too_late(&self) -> PublishError {
        if self.is_connected() { PublishErrorKind::Timeout.into() } else { self.unreachable() }
    }
}

fn cause(error: &PublishError) -> Option<&NatsError> {
    let source: &(dyn Error + 'static) = error.source.as_deref()?;
    source.downcast_ref()
}

/// Nobody listens at the subject of a stream that has no leader, as at that of one that is gone.
fn passes(error: &NatsError) -> bool {
    let is_electing = || {
        matches!(
            code(error),
            Some(ErrorCode::CLUSTER_NOT_AVAILABLE | ErrorCode::CLUSTER_NOT_LEADER | ErrorCode::CLUSTER_INCOMPLETE)
        )
    };
    matches!(error.kind(), NatsKind::StreamNotFound | NatsKind::BrokenPipe) || is_electing()
}
