//! What is done now and then during a pass: checkpoints, and a look at what the stream still holds.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tracing::debug;
use upcall_bus::ArchiveError;
use upcall_bus_nats::StreamState;
use upcall_telemetry::error_chain;

use super::Pipeline;
use crate::aside;
use crate::checkpoint::{Checkpoint, Verdict, verify};
use crate::relay::End;
use crate::worker::Worker;

/// How often a checkpoint is made, and progress written down.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// How often the newest acknowledgement is compared with what the stream holds, while nothing else is.
const VERIFY_EVERY: Duration = Duration::from_secs(5);
/// How often events that were set aside are offered again.
const OFFER_EVERY: Duration = Duration::from_secs(60);
/// A checkpoint, whether it may leave the journal then, and what the stream says of it.
pub(super) type Verified = (Checkpoint, bool, Result<(Verdict, StreamState), ArchiveError>);

impl Pipeline {
    /// Does what is to be done now and then.
    pub(super) async fn tick(&mut self, worker: &mut Worker) -> Result<(), End> {
        // A server that is slow has many to answer before the last of them.
        let since = self.sent.front().map(|sent| sent.at.max(self.heard).elapsed());
        if since.is_some_and(|since| since > worker.options.ack_timeout) {
            return Err("NATS does not acknowledge events in time".into());
        }
        if self.closed.elapsed() >= CHECKPOINT_EVERY {
            self.closed = Instant::now();
            worker.ledger.close();
            worker.pace.measure(worker.progress(), Instant::now());
            worker.note_progress().await?;
        }
        self.verify(worker).await?;
        self.offer(worker);
        let oldest = self.sent.front().map(|sent| sent.stored_at_ms);
        let oldest = oldest.or(self.ready.front().map(|event| event.stored_at_ms));
        if oldest.is_none() && worker.backlog.last() <= worker.acked {
            worker.status.fault = None;
        }
        worker.report(oldest);
        Ok(())
    }

    /// Compares checkpoints with what the stream holds, and releases those that it has held for long enough.
    async fn verify(&mut self, worker: &mut Worker) -> Result<(), End> {
        if self.verifying.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(Ok((checkpoint, is_due, verdict))) = self.verifying.take().and_then(JoinHandle::now_or_never)
        {
            match verdict {
                Ok((Verdict::Held, state)) => {
                    if worker.has_another_leader(&state) {
                        return Err(End::Again("the stream is led by another server now".to_owned()));
                    }
                    worker.still_holds(checkpoint, &state);
                    // After a reconnect it is all looked at anew.
                    if is_due && worker.generation() == self.generation {
                        worker.release(checkpoint.journal).await?;
                    }
                }
                Ok((Verdict::Lost(why), _)) => {
                    worker.lost(&why);
                    return Err(End::Again(why));
                }
                // To be asked again, or the connection is gone.
                Err(error) => debug!(error = error_chain(&error), "the stream can't be asked"),
            }
        }
        if self.verifying.is_none() {
            let due = worker.ledger.due(worker.options.sync_hold, Instant::now());
            let newest = || worker.ledger.newest().filter(|_| self.verified.elapsed() >= VERIFY_EVERY);
            if let Some(checkpoint) = due.or_else(newest) {
                let bus = worker.bus.clone();
                self.verified = Instant::now();
                self.verifying = Some(tokio::spawn(async move {
                    let verdict = verify(&bus, &checkpoint).await;
                    (checkpoint, due.is_some(), verdict)
                }));
            }
        }
        Ok(())
    }

    /// Offers what was set aside again, now and then.
    fn offer(&mut self, worker: &Worker) {
        if self.offering.as_ref().is_none_or(JoinHandle::is_finished) && self.offered.elapsed() >= OFFER_EVERY {
            self.offered = Instant::now();
            self.offering = Some(tokio::spawn(aside::offer(worker.aside.clone(), worker.bus.clone())));
        }
    }
}
