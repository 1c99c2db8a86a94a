//! Where a consumer goes on that has to be made again.
//!
//! The server forgets how far a consumer was when somebody deletes it, or the stream. The bucket has a record of it, so
//! that nothing is skipped which nobody has delivered yet, whatever a new consumer is to begin with (ADR 11).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{self, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::stream::Info;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tracing::{info, warn};
use upcall_bus::{ConsumerSpec, Source};
use upcall_telemetry::error_chain;

use crate::NatsBus;
use crate::connection::REQUEST_TIME;
use crate::stored::{Which, stored_if_there};

/// How often a record is written again that has not changed: the bucket forgets what is older than 30 days.
const WRITE_AGAIN: Duration = Duration::from_hours(24);

/// How far a consumer is in the stream of uploads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Floor {
    /// When the stream was made: another one under the same name gives the same sequences to other events.
    stream_created: Timestamp,
    /// Everything up to this sequence is settled.
    settled: u64,
}

/// What this process knows of its consumers, and when that was written down.
#[derive(Default)]
pub(crate) struct Floors(Mutex<HashMap<String, (Floor, Option<Instant>)>>);

impl NatsBus {
    /// Makes a consumer. On the stream of uploads one that was there before goes on where that one stopped.
    pub(crate) async fn make_consumer(
        &self,
        stream: &str,
        mut config: pull::Config,
    ) -> Result<Consumer<pull::Config>, Source> {
        let name = config.durable_name.clone().unwrap_or_default();
        if stream != self.names().uploads() {
            return self.create(stream, &name, config).await;
        }
        let info = self.uploads_info().await?;
        if let Some(floor) = self.floor(&name).await? {
            config.deliver_policy = floor.goes_on(created(&info)?, info.state.last_sequence);
            info!(consumer = name, from = ?config.deliver_policy, "the consumer was lost, and is made again");
        }
        let consumer = self.create(stream, &name, config).await?;
        let floor = Floor::new(&info, consumer.cached_info())?;
        if let Err(error) = self.write_floor(&name, floor).await {
            // It is tried again when the streams are looked at.
            warn!(consumer = name, error = error_chain(&*error), "how far the consumer is can't be written down");
        }
        Ok(consumer)
    }

    /// Writes down how far consumers are, where that has changed.
    pub(crate) async fn note_floors(&self, consumers: &[ConsumerSpec]) -> Result<(), Source> {
        if consumers.is_empty() {
            return Ok(());
        }
        // Before the consumers: of a stream that is made anew meanwhile, all is delivered.
        let uploads = self.names().uploads();
        let Some(info) = self.stream_info(uploads).await.map_err(|error| error.source)? else { return Ok(()) };
        for consumer in consumers {
            let name = consumer.name.as_str();
            let found = self.consumer(uploads, name).await.map_err(|error| error.source)?;
            let Some(found) = found else { continue };
            let floor = Floor::new(&info, found.cached_info())?;
            if !self.shared.floors.is_written(name, &floor) {
                self.write_floor(name, floor).await?;
            }
        }
        Ok(())
    }

    /// Writes down how far a consumer is that is about to be made anew.
    pub(crate) async fn note_floor(&self, stream: &str, consumer: &consumer::Info) -> Result<(), Source> {
        if stream != self.names().uploads() {
            return Ok(());
        }
        let info = self.uploads_info().await?;
        self.write_floor(&consumer.name, Floor::new(&info, consumer)?).await
    }

    /// Makes a consumer, unless another process has just done it.
    async fn create(&self, stream: &str, name: &str, config: pull::Config) -> Result<Consumer<pull::Config>, Source> {
        let context = &self.shared.context;
        match context.create_consumer_strict_on_stream(config, stream).await {
            Ok(consumer) => Ok(consumer),
            Err(error) => context.get_consumer_from_stream(name, stream).await.map_err(|_| error.into()),
        }
    }

    /// How far a consumer of this name was; `None` if there was none.
    async fn floor(&self, consumer: &str) -> Result<Option<Floor>, Source> {
        let bucket = self.reach(self.names().bucket()).await?;
        let subject = self.floor_subject(consumer);
        match timeout(REQUEST_TIME, stored_if_there(&bucket, Which::Last(&subject))).await?? {
            // What is none an operator has deleted, so that the consumer begins anew.
            Some(message) => Ok(serde_json::from_slice(&message.payload).ok()),
            // The bucket may have been lost with the stream.
            None => Ok(self.shared.floors.of(consumer)),
        }
    }

    async fn write_floor(&self, consumer: &str, floor: Floor) -> Result<(), Source> {
        let value = serde_json::to_vec(&floor)?;
        // First here: while the bucket is away, this process goes by it.
        self.shared.floors.note(consumer, floor.clone(), None);
        self.write_down(self.floor_subject(consumer), value).await?;
        self.shared.floors.note(consumer, floor, Some(Instant::now()));
        Ok(())
    }

    fn floor_subject(&self, consumer: &str) -> String {
        format!("$KV.{}.{consumer}.floor", self.names().attempts())
    }
}

impl Floor {
    fn new(stream: &Info, consumer: &consumer::Info) -> Result<Self, Source> {
        Ok(Self { stream_created: created(stream)?, settled: consumer.ack_floor.stream_sequence })
    }

    /// Where a consumer goes on that was so far, in a stream that was made then and has given sequences up to this one.
    fn goes_on(&self, stream_created: Timestamp, last_sequence: u64) -> DeliverPolicy {
        // A power failure may have taken the stream's end, whose sequences other events get now.
        if self.stream_created == stream_created && self.settled <= last_sequence {
            DeliverPolicy::ByStartSequence { start_sequence: self.settled + 1 }
        } else {
            DeliverPolicy::All
        }
    }
}

fn created(stream: &Info) -> Result<Timestamp, Source> {
    Ok(Timestamp::from_nanosecond(stream.created.unix_timestamp_nanos())?)
}

impl Floors {
    fn of(&self, consumer: &str) -> Option<Floor> {
        self.lock().get(consumer).map(|(floor, _)| floor.clone())
    }

    fn is_written(&self, consumer: &str, floor: &Floor) -> bool {
        let known = self.lock();
        let Some((known, Some(written))) = known.get(consumer) else { return false };
        known == floor && written.elapsed() < WRITE_AGAIN
    }

    fn note(&self, consumer: &str, floor: Floor, written: Option<Instant>) {
        self.lock().insert(consumer.to_owned(), (floor, written));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Floor, Option<Instant>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_goes_on_where_it_was_or_begins_with_all_of_another_stream() {
        let [made, made_anew] =
            ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000000001Z"].map(|time| time.parse().unwrap());
        let floor = Floor { stream_created: made, settled: 7 };
        for (created, last_sequence, expected) in [
            (made, 9, DeliverPolicy::ByStartSequence { start_sequence: 8 }),
            (made, 7, DeliverPolicy::ByStartSequence { start_sequence: 8 }),
            (made, 6, DeliverPolicy::All),
            (made_anew, 9, DeliverPolicy::All),
        ] {
            assert_eq!(floor.goes_on(created, last_sequence), expected, "{created} {last_sequence}");
        }
    }
}
