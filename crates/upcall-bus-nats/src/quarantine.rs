//! Rejected callbacks, on their way to their stream and at rest. The stream bounds them.

use async_nats::HeaderMap;
use async_nats::jetstream::message::PublishMessage;
use async_trait::async_trait;
use tokio::time::timeout;
use upcall_bus::{ArchiveError, Quarantine, RejectedCallback, Source};
use upcall_event::escape_token;

use crate::NatsBus;
use crate::connection::REQUEST_TIME;
use crate::names::quarantine_subject;

/// How many are sent before the first is acknowledged.
const AT_ONCE: usize = 32;

#[async_trait]
impl Quarantine for NatsBus {
    /// Each is JSON, on a subject that names its route. One that is sent again after a failure is recognised.
    async fn quarantine(&self, rejected: &[RejectedCallback]) -> Result<(), ArchiveError> {
        if !self.is_connected() {
            let unreachable = self.unreachable();
            return Err(ArchiveError { source: unreachable.into() });
        }
        let kept = async {
            for rejected in rejected.chunks(AT_ONCE) {
                let mut acks = Vec::new();
                for rejected in rejected {
                    let message = self.outgoing_rejected(rejected);
                    let subject = quarantine_subject(rejected.route.as_deref());
                    acks.push(self.shared.context.send_publish(subject, message).await?);
                }
                for ack in acks {
                    ack.await?;
                }
            }
            Ok::<_, Source>(())
        };
        match timeout(REQUEST_TIME, kept).await {
            Ok(kept) => kept.map_err(ArchiveError::new),
            Err(late) => Err(ArchiveError::new(late)),
        }
    }
}

impl NatsBus {
    fn outgoing_rejected(&self, rejected: &RejectedCallback) -> PublishMessage {
        let RejectedCallback { time, peer, request_id, .. } = rejected;
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/json");
        let id = escape_token(&format!("{time} {peer} {request_id}"));
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
        headers.insert(async_nats::header::NATS_EXPECTED_STREAM, self.names().quarantine());
        PublishMessage::build().headers(headers).payload(rejected.to_json().into())
    }
}
