//! Making the streams, and finding out what is wrong with those that are there.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, FromConsumer, pull};
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use async_nats::jetstream::{ErrorCode, kv};
use upcall_bus::{ArchiveError, ConsumerSpec, Source, Start};

use crate::difference::{compare, compare_consumer, mended, mended_consumer};
use crate::names::{DEAD_PREFIX, QUARANTINE_PREFIX, REDELIVERY_PREFIX, redelivery_subject};
use crate::off::Off;
use crate::session::Lane;
use crate::{Difference, NatsBus, Options, Severity};

/// For how long a redelivery is recognised that is asked for again: an interrupted command is repeated within the hour.
const REDELIVERY_WINDOW: Duration = Duration::from_secs(3_600);
/// How long the count of an event's attempts is kept after the last of them.
const ATTEMPTS_AGE: Duration = Duration::from_hours(30 * 24);
/// How many unanswered pulls a consumer takes: two for each of a few hundred processes.
const WAITING_MAX: i64 = 512;

impl NatsBus {
    /// Compares the streams, the bucket and the consumers with what they should be.
    ///
    /// # Errors
    /// If the server can't be asked.
    pub async fn check(&self, consumers: &[ConsumerSpec]) -> Result<Vec<Difference>, ArchiveError> {
        let mut differences = Vec::new();
        for wanted in self.wanted() {
            match self.stream_info(&wanted.name).await? {
                Some(info) => compare(&wanted, &info, &mut differences),
                None if self.is_of_others(&wanted) => differences.push(Difference::missing_of_others(&wanted.name)),
                None => differences.push(Difference::missing(format!("stream {}", wanted.name))),
            }
        }
        for consumer in consumers {
            for (stream, config) in self.consumers_of(consumer) {
                match self.consumer(&stream, consumer.name.as_str()).await? {
                    Some(found) => differences.extend(compare_consumer(&stream, &config, found.cached_info())),
                    None => {
                        differences.push(Difference::missing(format!("consumer {} of stream {stream}", consumer.name)));
                    }
                }
            }
        }
        Ok(differences)
    }

    /// Makes what is missing, and mends what is harmful or risky. Other differences stay. Returns what was done, in
    /// words. Done again it does nothing.
    ///
    /// # Errors
    /// If the server refuses; what was done until then stays.
    pub async fn provision(&self, consumers: &[ConsumerSpec]) -> Result<Vec<String>, ArchiveError> {
        // Boxed: what these keep while they wait is large.
        let mut done = Box::pin(self.make_missing(consumers)).await?;
        for wanted in self.wanted() {
            let Some(info) = self.stream_info(&wanted.name).await? else { continue };
            let mut differences = Vec::new();
            compare(&wanted, &info, &mut differences);
            if differences.iter().any(|difference| difference.severity >= Severity::Risky) {
                let update = self.shared.context.update_stream(mended(&wanted, info.config));
                Box::pin(update).await.map_err(ArchiveError::new)?;
                done.push(format!("mended stream {}", wanted.name));
            }
        }
        Box::pin(self.mend_consumers(consumers, &mut done)).await?;
        Ok(done)
    }

    async fn mend_consumers(&self, consumers: &[ConsumerSpec], done: &mut Vec<String>) -> Result<(), ArchiveError> {
        for consumer in consumers {
            for (stream, wanted) in self.consumers_of(consumer) {
                let Some(found) = self.consumer(&stream, consumer.name.as_str()).await? else { continue };
                let differences = compare_consumer(&stream, &wanted, found.cached_info());
                if differences.iter().any(|difference| difference.severity >= Severity::Risky) {
                    let mended = self.mend_consumer(&stream, &wanted, &found);
                    Box::pin(mended).await.map_err(ArchiveError::new)?;
                    done.push(format!("mended consumer {} of stream {stream}", consumer.name));
                }
            }
        }
        Ok(())
    }

    /// Makes a consumer as it should be. It goes on where it is.
    pub(crate) async fn mend_consumer(
        &self,
        stream: &str,
        wanted: &pull::Config,
        found: &Consumer<pull::Config>,
    ) -> Result<Consumer<pull::Config>, Source> {
        let (context, info) = (&self.shared.context, found.cached_info());
        if info.config.ack_policy == wanted.ack_policy {
            let config = pull::Config::try_from_consumer_config(info.config.clone())?;
            return Ok(context.update_consumer_on_stream(mended_consumer(wanted, config), stream).await?);
        }
        // That can't be changed in place.
        self.note_floor(stream, info).await?;
        context.delete_consumer_from_stream(&info.name, stream).await?;
        self.make_consumer(stream, wanted.clone()).await
    }

    /// Makes what is missing, and touches nothing that is there.
    pub(crate) async fn make_missing(&self, consumers: &[ConsumerSpec]) -> Result<Vec<String>, ArchiveError> {
        let mut done = Vec::new();
        for wanted in self.wanted() {
            if self.stream_info(&wanted.name).await?.is_none() {
                if self.is_of_others(&wanted) {
                    // Nor can it have consumers.
                    return Ok(done);
                }
                self.shared.context.create_stream(wanted.clone()).await.map_err(ArchiveError::new)?;
                done.push(format!("made stream {}", wanted.name));
            }
        }
        for consumer in consumers {
            for (stream, config) in self.consumers_of(consumer) {
                let name = consumer.name.as_str();
                if self.consumer(&stream, name).await?.is_none() {
                    Box::pin(self.make_consumer(&stream, config)).await.map_err(ArchiveError::new)?;
                    done.push(format!("made consumer {name} of stream {stream}"));
                }
            }
        }
        Ok(done)
    }

    /// Whether a stream is left to those who publish: only they know its subjects.
    fn is_of_others(&self, wanted: &Config) -> bool {
        wanted.name == self.names().uploads() && wanted.subjects.is_empty()
    }

    /// The streams as they should be. A bucket is a stream, too.
    pub(crate) fn wanted(&self) -> Vec<Config> {
        let (options, names) = (&self.shared.options, self.names());
        let Options { streams, .. } = options;
        let base = |name: String, subjects: Vec<String>| Config {
            name,
            subjects,
            storage: StorageType::File,
            num_replicas: streams.replicas,
            discard: DiscardPolicy::New,
            retention: RetentionPolicy::Limits,
            max_bytes: -1,
            max_messages: -1,
            max_messages_per_subject: -1,
            max_message_size: -1,
            max_consumers: -1,
            duplicate_window: streams.duplicate_window,
            allow_direct: true,
            ..Config::default()
        };
        let attempts = kv::Config {
            bucket: names.attempts(),
            max_age: ATTEMPTS_AGE,
            history: 1,
            num_replicas: streams.replicas,
            storage: StorageType::File,
            ..kv::Config::default()
        };
        vec![
            Config {
                max_age: streams.age,
                max_bytes: streams.size_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
                description: Some("Upcall: completed uploads".to_owned()),
                // A relay uses it where the server syncs each publication.
                allow_atomic_publish: true,
                ..base(names.uploads().to_owned(), options.subjects.clone())
            },
            Config {
                max_age: streams.dead_age,
                description: Some("Upcall: events that a consumer could not take".to_owned()),
                ..base(names.dead(), vec![format!("{DEAD_PREFIX}.>")])
            },
            Config {
                max_age: streams.dead_age,
                retention: RetentionPolicy::WorkQueue,
                duplicate_window: REDELIVERY_WINDOW.min(streams.dead_age),
                description: Some("Upcall: events that one consumer gets again".to_owned()),
                ..base(names.redelivery(), vec![format!("{REDELIVERY_PREFIX}.>")])
            },
            Config {
                max_age: streams.dead_age,
                max_bytes: i64::try_from(streams.quarantine_bytes).unwrap_or(i64::MAX),
                discard: DiscardPolicy::Old,
                description: Some("Upcall: rejected callbacks".to_owned()),
                ..base(names.quarantine(), vec![format!("{QUARANTINE_PREFIX}.>")])
            },
            bucket_stream(&attempts),
        ]
    }

    /// The consumers that one of ours reads with, each with its stream.
    pub(crate) fn consumers_of(&self, spec: &ConsumerSpec) -> [(String, pull::Config); 2] {
        let options = &self.shared.options;
        let config = pull::Config {
            durable_name: Some(spec.name.to_string()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: options.ack_wait,
            // We count attempts ourselves: the server would count hand-backs and crashes, too.
            max_deliver: -1,
            max_ack_pending: i64::from(options.ack_pending_max),
            max_waiting: WAITING_MAX,
            ..pull::Config::default()
        };
        let deliver_policy = match spec.start {
            Start::Oldest => DeliverPolicy::All,
            Start::New => DeliverPolicy::New,
        };
        let filter = if spec.filter.as_str() == ">" { String::new() } else { spec.filter.as_str().to_owned() };
        [
            (
                self.names().uploads().to_owned(),
                pull::Config { filter_subject: filter, deliver_policy, ..config.clone() },
            ),
            (self.names().redelivery(), pull::Config { filter_subject: redelivery_subject(&spec.name), ..config }),
        ]
    }

    /// The stream that a consumer reads in a lane.
    pub(crate) fn stream_of(&self, lane: Lane) -> String {
        match lane {
            Lane::Uploads => self.names().uploads().to_owned(),
            Lane::Again => self.names().redelivery(),
        }
    }

    pub(crate) async fn stream_info(&self, name: &str) -> Result<Option<Info>, ArchiveError> {
        match self.shared.context.get_stream(name).await {
            Ok(stream) => Ok(Some(stream.cached_info().clone())),
            Err(error) if is_unknown(&error) => Ok(None),
            Err(error) => Err(self.explained(Off::of_stream(&error), error)),
        }
    }

    pub(crate) async fn consumer(
        &self,
        stream: &str,
        name: &str,
    ) -> Result<Option<Consumer<pull::Config>>, ArchiveError> {
        use async_nats::jetstream::stream::ConsumerErrorKind::JetStream;
        match self.shared.context.get_consumer_from_stream(name, stream).await {
            Ok(found) => Ok(Some(found)),
            Err(error) => match error.kind() {
                JetStream(error)
                    if [ErrorCode::CONSUMER_NOT_FOUND, ErrorCode::STREAM_NOT_FOUND].contains(&error.error_code()) =>
                {
                    Ok(None)
                }
                _ => Err(ArchiveError::new(error)),
            },
        }
    }
}

pub(crate) fn is_unknown(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// The stream under a key-value bucket, as the client library would make it.
fn bucket_stream(bucket: &kv::Config) -> Config {
    Config {
        name: format!("KV_{}", bucket.bucket),
        subjects: vec![format!("$KV.{}.>", bucket.bucket)],
        description: Some("Upcall: how often an event was tried".to_owned()),
        max_messages_per_subject: bucket.history,
        max_messages: -1,
        max_bytes: -1,
        max_message_size: -1,
        max_consumers: -1,
        max_age: bucket.max_age,
        storage: bucket.storage,
        num_replicas: bucket.num_replicas,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        discard: DiscardPolicy::New,
        retention: RetentionPolicy::Limits,
        duplicate_window: Duration::from_secs(120),
        ..Config::default()
    }
}
