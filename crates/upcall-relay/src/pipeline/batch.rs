//! Events as the stream gets them, alone and in batches.

use tracing::Span;
use upcall_bus_journal::RawEvent;
use upcall_bus_nats::Outgoing;
use upcall_event::{BinaryEvent, Subject};
use upcall_telemetry::error_chain;
use upcall_telemetry::trace;

use super::{Pipeline, Sent};
use crate::doubt::Moment;
use crate::relay::End;
use crate::worker::Worker;

/// What the server takes in one batch.
const BATCH_MAX: usize = 1_000;
/// Fewer are not worth one.
const BATCH_MIN: usize = 100;
/// What a batch may be in bytes, about: it is held in memory here and there.
const BATCH_BYTES_MAX: usize = 4 << 20;

impl Pipeline {
    /// Whether the next event is to go in a batch.
    pub(super) fn is_for_batches(&self, worker: &Worker) -> bool {
        worker.pace.is_batching()
            && self.ready.len() >= BATCH_MIN
            && !worker.options.spilled
            && self.ready.front().is_some_and(|event| event.sequence > worker.alone_up_to)
            && worker.stream.as_ref().is_some_and(|stream| stream.takes_batches)
    }

    /// Sends the next events in a batch, or alone the next one, where that is not one for a batch.
    pub(super) async fn send_batch(&mut self, worker: &mut Worker, now: Moment) -> Result<(), End> {
        let (mut batch, mut sent, mut bytes) = (Vec::new(), Vec::new(), 0);
        while batch.len() < BATCH_MAX
            && let Some(event) = self.ready.front()
        {
            bytes += event.payload.len();
            let outgoing = match outgoing(event) {
                Ok(outgoing) if bytes <= BATCH_BYTES_MAX => outgoing,
                _ => break,
            };
            sent.push(Sent::new(event, span(&outgoing)));
            self.ready.pop_front();
            batch.push(outgoing);
        }
        let Some(last) = sent.last_mut() else {
            let Some(event) = self.ready.pop_front() else { return Ok(()) };
            worker.claim(event.sequence).await?;
            worker.doubt.sending(event.sequence, worker.stream_last, now);
            return self.send(worker, event).await;
        };
        last.batch = batch.len();
        worker.claim(last.journal).await?;
        for sent in &sent {
            worker.doubt.sending(sent.journal, worker.stream_last, now);
        }
        if let Err(error) = self.outbox.send_batch(batch).await {
            if !error.kind.is_retryable() {
                // One of them is not for this server. Which one shows when they go alone.
                worker.alone_up_to = worker.doubt.tried();
            }
            return Err(End::Failed(format!("a batch can't be sent: {}", error_chain(&error))));
        }
        for sent in sent {
            self.is_sent(sent);
        }
        Ok(())
    }
}

/// What is recorded of an event's way to the stream.
pub(super) fn span(outgoing: &Outgoing) -> Span {
    if !trace::is_on() {
        return Span::none();
    }
    trace::relay(&outgoing.subject, outgoing.id, outgoing.event.trace().as_ref())
}

/// An event as it goes to the stream.
///
/// # Errors
/// Why it can't.
pub(super) fn outgoing(event: &RawEvent) -> Result<Outgoing, String> {
    let binary = BinaryEvent::from_structured(&event.payload).map_err(|error| error_chain(&error))?;
    let subject = event.subject.parse::<Subject>().map_err(|error| error_chain(&error))?;
    Ok(Outgoing { subject: subject.as_str().to_owned(), event: binary, id: event.id })
}
