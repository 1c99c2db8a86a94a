//! How often an event was tried. The server's own count would have hand-backs, outages and crashes in it.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use tokio::time::timeout;
use upcall_bus::Source;
use upcall_event::EventId;

use crate::connection::REQUEST_TIME;
use crate::session::{Key, Lane, Session};

impl Session {
    /// The attempts before this delivery. Asked only for what the server has delivered before.
    pub(crate) async fn attempts(&self, key: Key, id: EventId) -> Result<u32, Source> {
        let subject = self.attempts_subject(key, id);
        let stream = self.bus.shared.context.get_stream_no_info(format!("KV_{}", self.bus.names().attempts())).await?;
        // Asked of the leader: another replica may not have heard of the last attempt yet.
        match timeout(REQUEST_TIME, stream.get_last_raw_message_by_subject(&subject)).await? {
            // What is no number somebody else has put there.
            Ok(message) => Ok(str::from_utf8(&message.payload).ok().and_then(|count| count.parse().ok()).unwrap_or(0)),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes down that so many attempts were made.
    pub(crate) async fn count_attempts(&self, key: Key, id: EventId, attempts: u32) -> Result<(), Source> {
        self.put(key, id, attempts.to_string(), REQUEST_TIME).await
    }

    async fn put(&self, key: Key, id: EventId, value: String, limit: Duration) -> Result<(), Source> {
        let subject = self.attempts_subject(key, id);
        let publish = async {
            let context = &self.bus.shared.context;
            context.publish_with_headers(subject, HeaderMap::new(), value.into()).await?.await
        };
        timeout(limit, publish).await??;
        Ok(())
    }

    fn attempts_subject(&self, (lane, sequence, _): Key, id: EventId) -> String {
        let lane = match lane {
            Lane::Uploads => "uploads",
            Lane::Again => "again",
        };
        format!("$KV.{}.{}.{lane}.{sequence}.{id}", self.bus.names().attempts(), self.name)
    }
}
