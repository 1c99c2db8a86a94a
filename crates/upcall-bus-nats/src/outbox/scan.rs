//! Which ids the stream of uploads holds.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use futures_util::StreamExt;
use tokio::time::timeout;
use upcall_bus::{ArchiveError, Source};
use upcall_event::EventId;

use super::message_id;
use crate::NatsBus;
use crate::connection::REQUEST_TIME;

/// How many messages the server may send ahead: headers only, a few hundred bytes each.
const AHEAD: usize = 8_192;
/// How long the server keeps the reader of a process that was killed.
const IDLE_TIME: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(2);

/// The ids in the stream of uploads, from some sequence to what was its end when the scan began.
pub struct IdScan {
    bus: NatsBus,
    /// None where there is nothing to read.
    reader: Option<(String, pull::Stream)>,
    scanned: u64,
    last: u64,
    come: u64,
}

impl NatsBus {
    /// Begins to read the ids of what the stream of uploads holds after a sequence.
    ///
    /// # Errors
    /// If the server can't be asked.
    pub async fn scan_ids(&self, after: u64) -> Result<IdScan, ArchiveError> {
        let begin = async {
            let last = self.newest().await?;
            let reader = if last > after { Some(self.reader(after).await?) } else { None };
            Ok::<_, Source>(IdScan { bus: self.clone(), reader, scanned: after, last, come: 0 })
        };
        timeout(REQUEST_TIME, begin).await.map_err(ArchiveError::new)?.map_err(ArchiveError::new)
    }

    /// The newest message that is there: the reader may be on a server that is behind.
    async fn newest(&self) -> Result<u64, Source> {
        let stream = self.shared.context.get_stream_no_info(self.names().uploads()).await?;
        match stream.get_last_raw_message_by_subject(">").await {
            Ok(message) => Ok(message.sequence),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    async fn reader(&self, after: u64) -> Result<(String, pull::Stream), Source> {
        let config = pull::Config {
            description: Some("Upcall: a relay looks for ids".to_owned()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: after + 1 },
            ack_policy: AckPolicy::None,
            headers_only: true,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: IDLE_TIME,
            ..pull::Config::default()
        };
        let consumer = self.shared.context.create_consumer_on_stream(config, self.names().uploads()).await?;
        let messages = consumer.stream().max_messages_per_batch(AHEAD).heartbeat(HEARTBEAT).messages().await?;
        Ok((consumer.cached_info().name.clone(), messages))
    }
}

impl IdScan {
    /// What was the newest message's sequence when the scan began.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The next message's sequence and id, which is `None` where it is none of ours; `None` at the end.
    ///
    /// # Errors
    /// If the server does not go on. The scan is to be begun again then.
    pub async fn next(&mut self) -> Result<Option<(u64, Option<EventId>)>, ArchiveError> {
        if self.scanned >= self.last {
            return Ok(None);
        }
        let Some((_, messages)) = &mut self.reader else { return Ok(None) };
        let message = match timeout(REQUEST_TIME, messages.next()).await {
            Ok(Some(message)) => message.map_err(ArchiveError::new)?,
            Ok(None) => return Err(ArchiveError::new("the server has ended the scan")),
            Err(elapsed) => return Err(ArchiveError::new(elapsed)),
        };
        let info = message.info().map_err(ArchiveError::new)?;
        self.come += 1;
        if info.consumer_sequence != self.come {
            return Err(ArchiveError::new("messages were lost on the way from the server"));
        }
        self.scanned = info.stream_sequence;
        let id = message.headers.as_ref().and_then(message_id).and_then(|id| id.parse().ok());
        Ok(Some((self.scanned, id)))
    }
}

impl Drop for IdScan {
    fn drop(&mut self) {
        // In the background: nobody waits for it, and the server does it in the end.
        if let Some((name, _)) = self.reader.take() {
            let bus = self.bus.clone();
            self.bus.shared.runtime.spawn(async move {
                let stream = bus.names().uploads().to_owned();
                let _ = bus.shared.context.delete_consumer_from_stream(name, stream).await;
            });
        }
    }
}
