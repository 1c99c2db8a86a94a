//! How often an event was tried. The server's own count would have hand-backs, outages and crashes in it.

use async_nats::jetstream::message::StreamMessage;
use bytes::Bytes;
use tokio::time::timeout;
use upcall_bus::Source;
use upcall_event::EventId;

use crate::NatsBus;
use crate::connection::REQUEST_TIME;
use crate::session::{Key, Session};
use crate::stored::{Which, stored};

impl Session {
    /// The attempts before this delivery. Asked only for what the server has delivered before.
    pub(crate) async fn attempts(&self, key: Key, id: EventId) -> Result<u32, Source> {
        let subject = self.attempts_subject(key, id);
        let bucket = self.bus.reach(self.bus.names().bucket()).await?;
        let found = timeout(REQUEST_TIME, stored(&bucket, Which::Last(&subject))).await??;
        // What is no number somebody else has put there.
        let count = |message: StreamMessage| str::from_utf8(&message.payload).ok()?.parse().ok();
        Ok(found.and_then(count).unwrap_or(0))
    }

    /// Writes down that so many attempts were made.
    pub(crate) async fn count_attempts(&self, key: Key, id: EventId, attempts: u32) -> Result<(), Source> {
        self.bus.write_down(self.attempts_subject(key, id), attempts.to_string()).await
    }

    fn attempts_subject(&self, (lane, sequence, _): Key, id: EventId) -> String {
        format!("$KV.{}.{}.{}.{sequence}.{id}", self.bus.names().attempts(), self.name, lane.as_str())
    }
}

impl NatsBus {
    /// Writes a value into the bucket.
    pub(crate) async fn write_down(&self, subject: String, value: impl Into<Bytes>) -> Result<(), Source> {
        let publish = async { self.shared.context.publish(subject, value.into()).await?.await };
        timeout(REQUEST_TIME, publish).await??;
        Ok(())
    }
}
