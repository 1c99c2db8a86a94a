//! What the streams hold, for those who operate the bus.
//!
//! What must be current is read from a stream's leader: another replica may not have heard of it yet.

mod given;
mod letters;
mod past;
mod redelivery;

use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::{DeleteMessageErrorKind, Info, Stream};
use async_nats::jetstream::{ErrorCode, message::StreamMessage};
use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use upcall_bus::{
    Archive, ArchiveError, ConsumerName, Letter, Page, Quarantined, RejectedCallback, Source, StoredEvent,
};
use upcall_event::SubjectFilter;

use crate::NatsBus;
use crate::stored::{Which, is_missing, stored};

#[async_trait]
impl Archive for NatsBus {
    /// Whose a letter is, its subject says.
    async fn letters(&self, after: u64, max: usize) -> Result<Vec<Letter>, ArchiveError> {
        letters::after(self, after, max).await.map_err(|source| self.failed(source))
    }

    async fn retry_dead_letter(&self, number: u64) -> Result<bool, ArchiveError> {
        letters::retry(self, number).await.map_err(|source| self.failed(source))
    }

    async fn drop_dead_letter(&self, number: u64) -> Result<bool, ArchiveError> {
        letters::forget(self, number).await.map_err(|source| self.failed(source))
    }

    async fn quarantined(&self, after: u64, max: usize) -> Result<Vec<Quarantined>, ArchiveError> {
        let quarantine = self.names().quarantine();
        scan(self, &quarantine, after, max, quarantined).await.map_err(|source| self.failed(source))
    }

    async fn drop_quarantined(&self, number: u64) -> Result<bool, ArchiveError> {
        let quarantine = self.names().quarantine();
        let dropped = async {
            match at(self, &quarantine, number).await?.as_ref().and_then(quarantined) {
                Some(_) => delete(self, &quarantine, number).await,
                None => Ok(false),
            }
        };
        dropped.await.map_err(|source| self.failed(source))
    }

    async fn last_sequence(&self) -> Result<u64, ArchiveError> {
        let info = self.uploads_info().await.map_err(|source| self.failed(source))?;
        Ok(info.state.last_sequence)
    }

    async fn sequence_before(&self, moment: Timestamp) -> Result<u64, ArchiveError> {
        past::sequence_before(self, moment).await.map_err(|source| self.failed(source))
    }

    async fn events(&self, after: u64, filter: &SubjectFilter, max: usize) -> Result<Page, ArchiveError> {
        past::events(self, after, filter, max).await.map_err(|source| self.failed(source))
    }

    /// As the trait says. What was given is remembered for 30 days, by the event and its place: a stream that is made
    /// anew has other events, which were not given. Where the process was killed before that was
    /// written down, the server recognises it within the redelivery stream's duplicate window, an hour.
    async fn redeliver(
        &self,
        consumer: &ConsumerName,
        replay: &str,
        events: &[StoredEvent],
    ) -> Result<u64, ArchiveError> {
        given::redeliver(self, consumer, replay, events).await.map_err(|source| self.failed(source))
    }

    /// The durable consumers of the stream of uploads.
    async fn consumers(&self) -> Result<Vec<ConsumerName>, ArchiveError> {
        self.durable_consumers().await.map_err(|source| self.failed(source))
    }
}

impl NatsBus {
    /// The filters that a consumer of the stream of uploads reads by, any of which is enough; `None` if there is no such
    /// consumer.
    ///
    /// # Errors
    /// If the server can't be asked, or a filter selects what no event of ours is published on.
    pub async fn filters_of(&self, consumer: &ConsumerName) -> Result<Option<Vec<SubjectFilter>>, ArchiveError> {
        self.read_filters(consumer).await.map_err(|source| self.failed(source))
    }

    async fn read_filters(&self, consumer: &ConsumerName) -> Result<Option<Vec<SubjectFilter>>, Source> {
        let stream = self.reach(self.names().uploads()).await?;
        let config = match stream.consumer_info(consumer.as_str()).await {
            Ok(info) => info.config,
            Err(error) => match error.kind() {
                ConsumerInfoErrorKind::NotFound => return Ok(None),
                ConsumerInfoErrorKind::StreamNotFound => return Err(missing(self.names().uploads()).into()),
                _ => return Err(error.into()),
            },
        };
        let named = std::iter::once(config.filter_subject).chain(config.filter_subjects);
        let filters: Vec<SubjectFilter> =
            named.filter(|filter| !filter.is_empty()).map(|filter| filter.parse()).collect::<Result<_, _>>()?;
        Ok(Some(if filters.is_empty() { vec![SubjectFilter::default()] } else { filters }))
    }

    async fn durable_consumers(&self) -> Result<Vec<ConsumerName>, Source> {
        let mut infos = self.reach(self.names().uploads()).await?.consumers();
        let mut consumers = Vec::new();
        while let Some(info) = infos.try_next().await? {
            consumers.extend(info.config.durable_name.and_then(|name| name.parse().ok()));
        }
        consumers.sort();
        Ok(consumers)
    }

    /// A handle of a stream, without asking the server.
    pub(crate) async fn reach(&self, name: impl AsRef<str>) -> Result<Stream<()>, Source> {
        Ok(self.shared.context.get_stream_no_info(name).await?)
    }

    /// What the server knows of the stream of uploads.
    pub(crate) async fn uploads_info(&self) -> Result<Info, Source> {
        let name = self.names().uploads();
        let info = self.stream_info(name).await.map_err(|error| error.source)?;
        Ok(info.ok_or_else(|| missing(name))?)
    }

    /// Says that there is no connection, where that is why nothing was answered.
    fn failed(&self, source: Source) -> ArchiveError {
        if self.is_connected() {
            return ArchiveError::new(source);
        }
        ArchiveError::new(self.why_disconnected())
    }
}

fn quarantined(message: &StreamMessage) -> Option<Quarantined> {
    // What is no JSON of ours somebody else has put there.
    let callback = RejectedCallback::from_json(&message.payload).ok()?;
    Some(Quarantined { number: message.sequence, callback })
}

/// What to do where a stream is not there.
pub(crate) fn missing(stream: &str) -> String {
    format!("the server has no stream {stream}; `upcall provision` makes it")
}

/// How many messages are asked for at once.
const AT_ONCE: usize = 32;

/// Reads up to `max` messages of a stream after a number, those of which `parse` makes something.
///
/// One by one from the leader: a consumer on another replica might still show one that is gone.
async fn scan<T>(
    bus: &NatsBus,
    name: &str,
    after: u64,
    max: usize,
    parse: impl Fn(&StreamMessage) -> Option<T>,
) -> Result<Vec<T>, Source> {
    let stream = bus.reach(name).await?;
    let mut found = Vec::new();
    let mut next = after + 1;
    while found.len() < max {
        let Some(first) = read(&stream, name, Which::From(next)).await? else { break };
        next = first.sequence + 1;
        found.extend(parse(&first));
        // Those behind it are likely to be there, too.
        let count = AT_ONCE.min(max - found.len()) as u64;
        let behind: Vec<_> = stream::iter(next..next + count)
            .map(|number| read(&stream, name, Which::At(number)))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        next += count;
        found.extend(behind.iter().flatten().filter_map(&parse));
    }
    Ok(found)
}

/// Reads the message of a number, if there is one.
async fn at(bus: &NatsBus, name: &str, number: u64) -> Result<Option<StreamMessage>, Source> {
    // The server takes 0 for no number at all.
    let message = read(&bus.reach(name).await?, name, Which::At(number.max(1))).await?;
    Ok(message.filter(|message| message.sequence == number))
}

/// Removes a message. False if somebody else was faster.
async fn delete(bus: &NatsBus, name: &str, number: u64) -> Result<bool, Source> {
    match bus.reach(name).await?.delete_message(number).await {
        Ok(deleted) => Ok(deleted),
        Err(error) => match error.kind() {
            DeleteMessageErrorKind::JetStream(error)
                if [ErrorCode::SEQUENCE_NOT_FOUND, ErrorCode::NO_MESSAGE_FOUND].contains(&error.error_code())
                    // What the server says of one that was deleted before; other failures have this code, too.
                    || error.error_code() == ErrorCode::STREAM_MESSAGE_DELETE_FAILED
                        && error.to_string().contains("no message found") =>
            {
                Ok(false)
            }
            _ => Err(error.into()),
        },
    }
}

/// Reads a message from the stream's leader; `None` if there is no such one.
async fn read(stream: &Stream<()>, name: &str, which: Which<'_>) -> Result<Option<StreamMessage>, Source> {
    stored(stream, which).await.map_err(|error| if is_missing(&error) { missing(name).into() } else { error.into() })
}
