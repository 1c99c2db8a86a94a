//! One event on its way to a consumer that gets it again.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishAckFuture, PublishError};
use async_nats::jetstream::message::PublishMessage;
use tokio::time::sleep;
use upcall_bus::{ConsumerName, Source, StoredEvent};
use upcall_telemetry::error_chain;

use crate::NatsBus;
use crate::dead::{is_too_large, place};
use crate::names::redelivery_subject;
use crate::publish::{code, event_headers};

/// How often something is tried again that another process is just doing, too.
pub(super) const TRIES: u32 = 100;
/// How long to wait before that.
pub(super) const CONFLICT_WAIT: Duration = Duration::from_millis(10);

/// An event for a consumer. The stream recognises it by the id.
pub(super) struct Redelivery<'r> {
    pub(super) bus: &'r NatsBus,
    pub(super) consumer: &'r ConsumerName,
    pub(super) stored: &'r StoredEvent,
    pub(super) id: String,
}

impl Redelivery<'_> {
    pub(super) async fn send(&self) -> Result<PublishAckFuture, Source> {
        let subject = redelivery_subject(self.consumer);
        let sent = self.bus.shared.context.send_publish(subject, self.message()).await;
        sent.map_err(|error| self.refusal(error))
    }

    /// Waits for the word that it is stored. Whether the stream had it already.
    pub(super) async fn arrive(&self, ack: PublishAckFuture) -> Result<bool, Source> {
        let mut outcome = ack.await;
        for _ in 0..TRIES {
            // Another process, perhaps one that was just killed, sent it, too; in a moment it is stored or not.
            let Err(error) = &outcome else { break };
            if code(error) != Some(ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT) {
                break;
            }
            sleep(CONFLICT_WAIT).await;
            outcome = self.send().await?.await;
        }
        Ok(outcome.map_err(|error| self.refusal(error))?.duplicate)
    }

    fn message(&self) -> PublishMessage {
        let event = self.stored.event.to_binary();
        let mut headers = event_headers(event.headers);
        let StoredEvent { subject, sequence, stored_at, .. } = self.stored;
        place(&mut headers, subject.as_str(), *sequence, &stored_at.to_string());
        headers.insert(async_nats::header::NATS_MESSAGE_ID, self.id.as_str());
        headers.insert(async_nats::header::NATS_EXPECTED_STREAM, self.bus.names().redelivery());
        PublishMessage::build().headers(headers).payload(event.data.into())
    }

    /// Why it was not given, with what to do where it is too large for that.
    fn refusal(&self, error: PublishError) -> Source {
        if !is_too_large(&error) {
            return error.into();
        }
        format!(
            "event {} (number {}) is too large to be given again, since a redelivery has headers beside the event's: \
             {}. Raise `max_payload` of the servers, which is {} bytes, or the stream's `max_msg_size`, and do this again",
            self.stored.event.id,
            self.stored.sequence,
            error_chain(&error),
            self.bus.client().max_payload(),
        )
        .into()
    }
}
