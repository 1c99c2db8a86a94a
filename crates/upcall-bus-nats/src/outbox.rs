//! What a relay needs of the stream of uploads: many publications under way at once, and certainty about what is there.

mod scan;

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishError as NatsError, PublishErrorKind as NatsKind};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::{HeaderMap, Message, PublishErrorKind as ClientKind, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::timeout;
use upcall_bus::{ArchiveError, PublishError, PublishErrorKind, Source};
use upcall_event::{BinaryEvent, EventId};

pub use scan::IdScan;

use crate::NatsBus;
use crate::archive::missing;
use crate::connection::{REQUEST_TIME, text};
use crate::off::Off;
use crate::publish::{publish_error, stored_headers};
use crate::stored::{Which, stored_if_there};

/// Publications to the stream of uploads, one after another on one connection, whose acknowledgements come later.
///
/// What is sent on a connection that breaks is never answered; it may be stored all the same, even when the connection
/// is there again. An outbox that is dropped forgets what is under way.
pub struct Outbox {
    bus: NatsBus,
    inbox: String,
    answers: Subscriber,
    sent: u64,
    /// What the names of this outbox's batches begin with.
    batches: String,
}

/// An event on its way to the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The subject to publish it on.
    pub subject: String,
    /// The event.
    pub event: BinaryEvent,
    /// The id that the stream recognises it by: the event's.
    pub id: EventId,
}

/// The stream's answer to a publication that it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Where the stream holds the event.
    pub sequence: u64,
    /// Whether the stream held it already.
    pub duplicate: bool,
}

/// The stream of uploads as its leader knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// When the stream was made: another moment is another stream.
    pub created: Timestamp,
    /// The oldest event's sequence; with an empty stream the next one's.
    pub first: u64,
    /// The newest event's sequence. It stays when the event is removed.
    pub last: u64,
    /// How many events between first and last are not there.
    pub deleted: u64,
    /// For how long the stream recognises an id.
    pub duplicate_window: Duration,
    /// The server's clock.
    pub now: Timestamp,
    /// The server that leads the stream, where it is in a cluster.
    pub leader: Option<String>,
    /// The subjects that the stream captures.
    pub subjects: Vec<String>,
    /// Whether the stream takes batches that are stored all or none.
    pub takes_batches: bool,
}

impl Outbox {
    /// Sends an event, and returns its number: the first is 0, and each is one more. It is under way then, behind the
    /// ones before. Waits while the connection takes no more.
    ///
    /// # Errors
    /// If it can't be sent: there is no connection, it is stuck, or the event is too large for the server.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the event sent or not, and its number unused or not: the outbox is to be dropped, too.
    pub async fn send(&mut self, event: Outgoing) -> Result<u64, PublishError> {
        let (subject, headers, data) = self.message(event);
        self.publish(subject, headers, data, true).await
    }

    /// Sends events as one batch, of which the stream stores all in their order, or none. It takes 1,000 at most, and
    /// none that it recognises by its id: the answer is `Busy` then. Each has a number; returns the last one's, which alone is answered, with the
    /// last event's sequence. The stream must allow it ([`StreamState::takes_batches`]).
    ///
    /// # Errors
    /// As [`Outbox::send`]. Nothing of it is stored then.
    ///
    /// # Cancel safety
    /// As [`Outbox::send`].
    pub async fn send_batch(&mut self, events: Vec<Outgoing>) -> Result<u64, PublishError> {
        let (batch, count) = (format!("{}-{}", self.batches, self.sent), events.len());
        for (index, event) in events.into_iter().enumerate() {
            let (subject, mut headers, data) = self.message(event);
            let is_last = index + 1 == count;
            headers.insert("Nats-Batch-Id", batch.as_str());
            headers.insert("Nats-Batch-Sequence", (index + 1).to_string());
            if is_last {
                headers.insert("Nats-Batch-Commit", "1");
            }
            self.publish(subject, headers, data, is_last).await?;
        }
        Ok(self.sent.saturating_sub(1))
    }

    fn message(&self, event: Outgoing) -> (String, HeaderMap, Bytes) {
        let headers = stored_headers(event.id, event.event.headers, self.bus.names().uploads());
        (event.subject, headers, event.event.data.into())
    }

    async fn publish(
        &mut self,
        subject: String,
        headers: HeaderMap,
        data: Bytes,
        is_answered: bool,
    ) -> Result<u64, PublishError> {
        if !self.bus.shared.is_connected() {
            return Err(self.bus.unreachable());
        }
        let client = &self.bus.shared.client;
        let publish = async {
            if is_answered {
                let reply = format!("{}.{}", self.inbox, self.sent);
                client.publish_with_reply_and_headers(subject, reply, headers, data).await
            } else {
                client.publish_with_headers(subject, headers, data).await
            }
        };
        match timeout(REQUEST_TIME, publish).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let kind = match error.kind() {
                    ClientKind::MaxPayloadExceeded | ClientKind::InvalidSubject => PublishErrorKind::Rejected,
                    ClientKind::Send => PublishErrorKind::Unavailable,
                };
                return Err(PublishError { kind, source: Some(error.into()) });
            }
            Err(_) => return Err(PublishErrorKind::Timeout.into()),
        }
        self.sent += 1;
        Ok(self.sent - 1)
    }

    /// Waits for an answer to any of the events that were sent, and returns that one's number. `None` when there will
    /// be no more, since the bus is closed.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn answer(&mut self) -> Option<(u64, Result<Ack, PublishError>)> {
        loop {
            let message = self.answers.next().await?;
            // Whatever else somebody sends here is no answer.
            let Some(number) = message.subject.rsplit('.').next().and_then(|number| number.parse().ok()) else {
                continue;
            };
            return Some((number, read_answer(&message)));
        }
    }
}

impl NatsBus {
    /// Opens a pipeline of publications to the stream of uploads.
    ///
    /// # Errors
    /// If the bus is closed.
    pub async fn outbox(&self) -> Result<Outbox, ArchiveError> {
        let client = &self.shared.client;
        let inbox = client.new_inbox();
        let answers = client.subscribe(format!("{inbox}.*")).await.map_err(ArchiveError::new)?;
        let batches = inbox.rsplit('.').next().unwrap_or_default().to_owned();
        Ok(Outbox { bus: self.clone(), inbox, answers, sent: 0, batches })
    }

    /// Asks the stream's leader what it holds. An answer also means that whatever was sent before on this connection
    /// has reached the server.
    ///
    /// # Errors
    /// If there is no connection, no such stream, or no answer in time.
    pub async fn stream_state(&self) -> Result<StreamState, ArchiveError> {
        if !self.is_connected() {
            return Err(ArchiveError::new(self.unreachable()));
        }
        let asked = self.shared.context.request(format!("STREAM.INFO.{}", self.names().uploads()), &());
        let answer: Response<Value> = match timeout(REQUEST_TIME, asked).await {
            Ok(answer) => answer.map_err(|error| self.explained(Off::of_request(&error), error))?,
            Err(elapsed) => return Err(ArchiveError::new(elapsed)),
        };
        match answer {
            Response::Ok(info) => state(&info).map_err(ArchiveError::new),
            Response::Err { error } if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                Err(ArchiveError::new(missing(self.names().uploads())))
            }
            Response::Err { error } => Err(self.explained(Off::of_code(error.error_code()), error)),
        }
    }

    /// The id of the message that the stream of uploads holds at a sequence, as its leader knows it: `None` if it holds
    /// no message there, an empty one if that has no id.
    ///
    /// # Errors
    /// If the server can't be asked.
    pub async fn id_at(&self, sequence: u64) -> Result<Option<String>, ArchiveError> {
        let message = self.message_at(self.names().uploads(), sequence).await.map_err(ArchiveError::new)?;
        Ok(message.map(|message| message_id(&message.headers).unwrap_or_default().to_owned()))
    }

    /// When a stream stored the message that it holds at a sequence, as its leader knows it (nanoseconds since 1970).
    pub(crate) async fn stored_ns(&self, stream: &str, sequence: u64) -> Result<Option<i128>, Source> {
        let message = self.message_at(stream, sequence).await?;
        Ok(message.map(|message| message.time.unix_timestamp_nanos()))
    }

    /// `None` also where there is no such stream.
    async fn message_at(&self, stream: &str, sequence: u64) -> Result<Option<StreamMessage>, Source> {
        let ask = async { Ok(stored_if_there(&self.reach(stream).await?, Which::At(sequence)).await?) };
        timeout(REQUEST_TIME, ask).await?
    }
}

pub(crate) fn message_id(headers: &HeaderMap) -> Option<&str> {
    text(headers, async_nats::header::NATS_MESSAGE_ID.as_ref())
}

fn read_answer(message: &Message) -> Result<Ack, PublishError> {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(publish_error(NatsError::new(NatsKind::StreamNotFound)));
    }
    match serde_json::from_slice::<Response<PublishAck>>(&message.payload) {
        Ok(Response::Ok(ack)) => Ok(Ack { sequence: ack.sequence, duplicate: ack.duplicate }),
        Ok(Response::Err { error }) => Err(publish_error(NatsError::with_source(NatsKind::Other, error))),
        Err(error) => Err(publish_error(NatsError::with_source(NatsKind::Other, error))),
    }
}

fn subjects(config: &Value) -> Vec<String> {
    config.as_array().into_iter().flatten().filter_map(|subject| Some(subject.as_str()?.to_owned())).collect()
}

fn state(info: &Value) -> Result<StreamState, Source> {
    let number = |value: &Value| value.as_u64();
    let moment = |value: &Value| value.as_str().unwrap_or_default().parse::<Timestamp>();
    let state = &info["state"];
    Ok(StreamState {
        created: moment(&info["created"])?,
        first: number(&state["first_seq"]).ok_or("the server does not say where the stream begins")?,
        last: number(&state["last_seq"]).ok_or("the server does not say where the stream ends")?,
        deleted: number(&state["num_deleted"]).unwrap_or_default(),
        duplicate_window: Duration::from_nanos(number(&info["config"]["duplicate_window"]).unwrap_or_default()),
        // Servers before 2.10 do not say.
        now: moment(&info["ts"]).unwrap_or_else(|_| Timestamp::now()),
        leader: info["cluster"]["leader"].as_str().map(str::to_owned),
        subjects: subjects(&info["config"]["subjects"]),
        takes_batches: info["config"]["allow_atomic"].as_bool().unwrap_or_default(),
    })
}
