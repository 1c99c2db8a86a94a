//! Publishing, and what an error means.

use std::time::Duration;

use async_nats::jetstream::context::{PublishError as NatsError, PublishErrorKind as NatsKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{HeaderMap, HeaderName, HeaderValue};
use async_trait::async_trait;
use tokio::time::{sleep, timeout_at};
use upcall_bus::{Deadline, Message, PublishError, PublishErrorKind, Publisher, Receipt};
use upcall_event::{BinaryEvent, Event, EventId, TraceContext};
use upcall_telemetry::trace;

use crate::NatsBus;

/// How long to wait before an id is offered again that another publisher is just storing.
const CONFLICT_WAIT: Duration = Duration::from_millis(5);

/// What is left free of the largest message that the server takes: a dead letter has headers beside the event's.
const LETTER_ROOM: usize = 8 << 10;

#[async_trait]
impl Publisher for NatsBus {
    async fn publish(&self, message: Message, deadline: Deadline) -> Result<Receipt, PublishError> {
        trace::published_on(trace::NATS, message.event.trace.as_ref());
        self.publish_until(&message, deadline).await
    }
}

impl NatsBus {
    /// Publishes an event that has somewhere else to go: what [`Publisher::publish`] would wait for is an error at once.
    ///
    /// # Errors
    /// As there.
    pub async fn publish_ref(&self, message: &Message, deadline: Deadline) -> Result<Receipt, PublishError> {
        if deadline.has_passed() {
            return Err(PublishErrorKind::Timeout.into());
        }
        if self.shared.options.freezes {
            return self.publish_until(message, deadline).await;
        }
        // The client would keep it until it is connected again, which may be long after the deadline.
        if !self.shared.is_connected() {
            return Err(self.unreachable());
        }
        let publish = self.publish_once(message);
        match timeout_at(deadline.instant().into(), publish).await {
            Ok(result) => result,
            Err(_) => Err(PublishErrorKind::Timeout.into()),
        }
    }

    pub(crate) async fn publish_once(&self, message: &Message) -> Result<Receipt, PublishError> {
        loop {
            let event = message.event.to_binary();
            self.leave_room(&event)?;
            let outgoing = outgoing(message.event.id, event, self.names().uploads());
            let sent = self.shared.context.send_publish(message.subject.as_str().to_owned(), outgoing).await;
            let error = match sent {
                Ok(ack) => match ack.await {
                    Ok(ack) if ack.duplicate => return Ok(Receipt::Duplicate),
                    Ok(_) => return Ok(Receipt::Stored),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if code(&error) != Some(ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT) {
                return Err(publish_error(error));
            }
            // Whether it was stored is known in a moment.
            sleep(CONFLICT_WAIT).await;
        }
    }

    /// Refuses an event of which the server would take no dead letter, nor take it a second time.
    fn leave_room(&self, event: &BinaryEvent) -> Result<(), PublishError> {
        let headers: usize = event.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let (size, max) = (headers + event.data.len(), self.client().max_payload());
        if size + LETTER_ROOM.min(max / 8) <= max {
            return Ok(());
        }
        let source = format!("the event takes {size} bytes, and with its dead letter's headers more than {max}");
        Err(PublishError { kind: PublishErrorKind::Rejected, source: Some(source.into()) })
    }

    pub(crate) fn unreachable(&self) -> PublishError {
        PublishError { kind: PublishErrorKind::Unavailable, source: Some(self.why_disconnected().into()) }
    }
}

/// An event as it goes to a stream, which recognises it by its id. Another stream than this refuses it.
pub(crate) fn outgoing(id: EventId, event: BinaryEvent, stream: &str) -> PublishMessage {
    PublishMessage::build().headers(stored_headers(id, event.headers, stream)).payload(event.data.into())
}

/// The headers of an event that goes to a stream. Readers there record what they like of what says nothing: so it says
/// that its trace is not recorded, where that is so.
pub(crate) fn stored_headers(id: EventId, pairs: Vec<(&'static str, String)>, stream: &str) -> HeaderMap {
    let carries_trace = pairs.iter().any(|(name, _)| *name == TraceContext::PARENT);
    let mut headers = event_headers(pairs);
    if !carries_trace && let Some(unrecorded) = trace::unrecorded(id) {
        unrecorded.headers().for_each(|(name, value)| headers.insert(HeaderName::from_static(name), value));
    }
    headers.insert(async_nats::header::NATS_MESSAGE_ID, id.to_string());
    headers.insert(async_nats::header::NATS_EXPECTED_STREAM, stream);
    headers
}

pub(crate) fn event_headers(pairs: Vec<(&'static str, String)>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        // A static name is not copied: this is done for every event.
        headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
    }
    headers
}

/// Reads an event that a stream holds.
pub(crate) fn read_event(headers: &HeaderMap, data: &[u8]) -> Result<Event, upcall_event::MalformedEvent> {
    Event::from_binary(|name| headers.get(name).map(HeaderValue::as_str), data)
}

pub(crate) fn publish_error(error: NatsError) -> PublishError {
    let kind = kind(&error);
    PublishError { kind, source: Some(error.into()) }
}

/// What to do about a failure. Only what is wrong with the event itself is final; whatever is wrong with the server or
/// its streams can be mended, and the event sent then.
fn kind(error: &NatsError) -> PublishErrorKind {
    match error.kind() {
        NatsKind::TimedOut => PublishErrorKind::Timeout,
        NatsKind::BrokenPipe | NatsKind::StreamNotFound => PublishErrorKind::Unavailable,
        NatsKind::MaxAckPending => PublishErrorKind::Busy,
        NatsKind::MaxPayloadExceeded => PublishErrorKind::Rejected,
        // We expect none; if the stream does, the event may go later.
        NatsKind::WrongLastMessageId | NatsKind::WrongLastSequence => PublishErrorKind::Busy,
        NatsKind::Other => match code(error) {
            Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM) => {
                PublishErrorKind::Rejected
            }
            Some(
                ErrorCode::STREAM_STORE_FAILED
                | ErrorCode::INSUFFICIENT_RESOURCES
                | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
                | ErrorCode::STORAGE_RESOURCES_EXCEEDED
                | ErrorCode::MEMORY_RESOURCES_EXCEEDED,
            ) => PublishErrorKind::Full,
            Some(
                ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT | ErrorCode::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE,
            ) => PublishErrorKind::Busy,
            // Sealed, captured by another stream, a cluster without a leader, and what later versions may add.
            Some(_) | None => PublishErrorKind::Unavailable,
        },
    }
}

/// The server's own code, where the failure is its answer.
pub(crate) fn code(error: &NatsError) -> Option<ErrorCode> {
    let source = std::error::Error::source(error)?;
    source.downcast_ref::<jetstream::Error>().map(jetstream::Error::error_code)
}
