//! Which ids the stream of uploads holds.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::ConsumerCreateStrictErrorKind;
use futures_util::StreamExt;
use tokio::time::{sleep, timeout};
use upcall_bus::{ArchiveError, Source};
use upcall_event::EventId;

use super::message_id;
use crate::NatsBus;
use crate::connection::REQUEST_TIME;
use crate::names::RELAY_READER;
use crate::stored::{Which, stored};

/// How many messages the server may send ahead: headers only, a few hundred bytes each.
const AHEAD: usize = 8_192;
/// How long the server keeps the reader of a process that was killed. The next one waits as long.
const IDLE_TIME: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long to wait for the relay of another process, which is reading.
const READ_AGAIN: Duration = Duration::from_millis(100);

/// The ids in the stream of uploads, from some sequence to what was its end when the scan began.
pub struct IdScan {
    bus: NatsBus,
    /// None where there is nothing to read.
    reader: Option<pull::Stream>,
    scanned: u64,
    last: u64,
    come: u64,
}

impl NatsBus {
    /// Begins to read the ids of what the stream of uploads holds after a sequence. One at a time does so: a reader has a
    /// name of its own, so that no more than that needs to be permitted.
    ///
    /// # Errors
    /// If the server can't be asked, or another process is reading for long.
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
        let newest = stored(&self.reach(self.names().uploads()).await?, Which::Last(">")).await?;
        Ok(newest.map_or(0, |message| message.sequence))
    }

    async fn reader(&self, after: u64) -> Result<pull::Stream, Source> {
        // Whoever asks for the same reader would share it; so none is the same.
        let number = self.shared.client.new_inbox();
        let config = pull::Config {
            name: Some(RELAY_READER.to_owned()),
            description: Some(format!("Upcall: a relay looks for ids ({number})")),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: after + 1 },
            ack_policy: AckPolicy::None,
            headers_only: true,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: IDLE_TIME,
            ..pull::Config::default()
        };
        let stream = self.names().uploads();
        let consumer = loop {
            match self.shared.context.create_consumer_strict_on_stream(config.clone(), stream).await {
                Ok(consumer) => break consumer,
                Err(error) if error.kind() == ConsumerCreateStrictErrorKind::AlreadyExists => sleep(READ_AGAIN).await,
                Err(error) => return Err(error.into()),
            }
        };
        Ok(consumer.stream().max_messages_per_batch(AHEAD).heartbeat(HEARTBEAT).messages().await?)
    }

    async fn remove_reader(&self) {
        // The server does it in the end.
        let removal = self.shared.context.delete_consumer_from_stream(RELAY_READER, self.names().uploads());
        let _ = timeout(REQUEST_TIME, removal).await;
    }
}

impl IdScan {
    /// What was the newest message's sequence when the scan began.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Ends the scan, and returns once another can be begun.
    pub async fn close(mut self) {
        if self.reader.take().is_some() {
            self.bus.remove_reader().await;
        }
    }

    /// The next message's sequence and id, which is `None` where it is none of ours; `None` at the end.
    ///
    /// # Errors
    /// If the server does not go on. The scan is to be begun again then.
    pub async fn next(&mut self) -> Result<Option<(u64, Option<EventId>)>, ArchiveError> {
        if self.scanned >= self.last {
            return Ok(None);
        }
        let Some(messages) = &mut self.reader else { return Ok(None) };
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
        if self.reader.take().is_some() {
            let bus = self.bus.clone();
            self.bus.shared.runtime.spawn(async move { bus.remove_reader().await });
        }
    }
}
