//! Dead letters on their way to their stream.

use async_nats::HeaderMap;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{ErrorCode, Message};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::timeout;
use tracing::warn;
use upcall_bus::Source;
use upcall_event::EventId;

use crate::connection::REQUEST_TIME;
use crate::names::{dead_subject, header};
use crate::outbox::message_id;
use crate::publish::{code, event_headers};
use crate::session::{Arrived, Key, Lane, Session};
use crate::stored::{Which, stored};

/// What a dead letter has to have, whatever its event has.
const OURS: [&str; 8] = [
    header::CONSUMER,
    header::SUBJECT,
    header::SEQUENCE,
    header::STORED_AT,
    header::REASON,
    header::ATTEMPTS,
    header::REFERENCE,
    header::DIED_AT,
];
/// Where an event was; what is given again has it already.
const PLACE: [&str; 3] = [header::SUBJECT, header::SEQUENCE, header::STORED_AT];
/// How often an event may die within the duplicate window of the dead letters.
const DEATHS_MAX: u32 = 100;
/// How much of a reason goes into a header.
const REASON_BYTES_MAX: usize = 4 << 10;
/// How much of it where the dead letter would else be too large for the server.
const REASON_BYTES_SHORT: usize = 128;

/// Publishes a dead letter, and returns once the stream has it.
///
/// One that is too large for the server has no payload: it refers to the event in the stream of uploads.
pub(crate) async fn publish(session: &Session, arrived: &Arrived, reason: &str, now: Timestamp) -> Result<(), Source> {
    let event = arrived.event.to_binary();
    let mut headers = event_headers(event.headers);
    place(&mut headers, arrived.subject.as_str(), arrived.sequence, &arrived.stored_at);
    headers.insert(header::ATTEMPTS, arrived.attempt.to_string());
    let id = format!("{}:{}", death(session, arrived.key), arrived.event.id);
    let (event_id, request_id) = (arrived.event.id, arrived.event.data.request_id.as_deref());
    Letter { session, id, event: Some(event_id), request_id, headers, payload: event.data.into() }
        .publish(reason, now)
        .await
}

/// Publishes a message that can't be read, as it is, as a dead letter that nobody has tried.
pub(crate) async fn publish_unreadable(
    session: &Session,
    key: Key,
    message: &Message,
    reason: &str,
    now: Timestamp,
) -> Result<(), Source> {
    let (lane, sequence, stored_ns) = key;
    let mut headers = HeaderMap::new();
    for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
        let name: &str = name.as_ref();
        // The server's, and what only we say of a letter.
        let is_ours = OURS.contains(&name) && (lane == Lane::Uploads || !PLACE.contains(&name));
        if !name.starts_with("Nats-") && !is_ours {
            values.iter().for_each(|value| headers.append(name, value.clone()));
        }
    }
    // What is given again has its place with it.
    if lane == Lane::Uploads || headers.get(header::SEQUENCE).is_none() {
        place(&mut headers, &message.subject, sequence, &Timestamp::from_nanosecond(stored_ns)?.to_string());
    }
    headers.insert(header::ATTEMPTS, "0");
    let id = format!("{}:{stored_ns}", death(session, key));
    Letter { session, id, event: None, request_id: None, headers, payload: message.payload.clone() }
        .publish(reason, now)
        .await
}

/// The same death is one dead letter, also if the process dies before the event is settled.
fn death(session: &Session, (lane, sequence, _): Key) -> String {
    format!("{}:{}:{sequence}", session.name, lane.as_str())
}

struct Letter<'s> {
    session: &'s Session,
    /// By which the stream recognises it.
    id: String,
    /// What it is a letter about, where that is known.
    event: Option<EventId>,
    request_id: Option<&'s str>,
    headers: HeaderMap,
    payload: Bytes,
}

impl Letter<'_> {
    async fn publish(mut self, reason: &str, now: Timestamp) -> Result<(), Source> {
        self.headers.insert(header::CONSUMER, self.session.name.as_str());
        self.headers.insert(header::REASON, one_line(reason));
        self.headers.insert(header::DIED_AT, now.to_string());
        let Err(error) = self.send(&self.headers, self.payload.clone()).await else { return Ok(()) };
        if !error.downcast_ref().is_some_and(is_too_large) {
            return Err(error);
        }
        let (event, request_id) = (self.event.map(tracing::field::display), self.request_id);
        warn!(consumer = %self.session.name, event, request_id, letter = self.id, "the dead letter is too large, and refers to the event");
        self.headers.insert(header::REASON, one_line(&reason[..reason.floor_char_boundary(REASON_BYTES_SHORT)]));
        self.headers.insert(header::REFERENCE, "event");
        match self.send(&self.headers, Bytes::new()).await {
            // A stranger's headers can be as large as anything.
            Err(error) if error.downcast_ref().is_some_and(is_too_large) => {
                let mut ours = HeaderMap::new();
                for name in OURS {
                    self.headers.get(name).into_iter().for_each(|value| ours.insert(name, value.clone()));
                }
                self.send(&ours, Bytes::new()).await
            }
            sent => sent,
        }
    }

    /// Sends it until the stream has it. What died a while ago may have been sent again or dropped since; then the stream
    /// still recognises the id, and this is another death.
    async fn send(&self, headers: &HeaderMap, payload: Bytes) -> Result<(), Source> {
        let bus = &self.session.bus;
        for death in 1..=DEATHS_MAX {
            let id = if death == 1 { self.id.clone() } else { format!("{}:{death}", self.id) };
            let mut headers = headers.clone();
            headers.insert(async_nats::header::NATS_MESSAGE_ID, id.as_str());
            headers.insert(async_nats::header::NATS_EXPECTED_STREAM, bus.names().dead());
            let message = PublishMessage::build().headers(headers).payload(payload.clone());
            let subject = dead_subject(&self.session.name);
            let sent = async { bus.shared.context.send_publish(subject, message).await?.await };
            let ack = timeout(REQUEST_TIME, sent).await??;
            if !ack.duplicate || self.is_there(ack.sequence, &id).await? {
                return Ok(());
            }
        }
        Err(format!("the event has died {DEATHS_MAX} times within the duplicate window of its dead letters").into())
    }

    async fn is_there(&self, sequence: u64, id: &str) -> Result<bool, Source> {
        let bus = &self.session.bus;
        let letter = stored(&bus.reach(bus.names().dead()).await?, Which::At(sequence)).await?;
        Ok(letter.is_some_and(|letter| message_id(&letter.headers) == Some(id)))
    }
}

/// Whether the server does not take a message because of its size.
pub(crate) fn is_too_large(error: &PublishError) -> bool {
    error.kind() == PublishErrorKind::MaxPayloadExceeded
        || matches!(
            code(error),
            Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM)
        )
}

/// Writes down where an event was, for when it is elsewhere.
pub(crate) fn place(headers: &mut HeaderMap, subject: &str, sequence: u64, stored_at: &str) {
    headers.insert(header::SUBJECT, subject);
    headers.insert(header::SEQUENCE, sequence.to_string());
    headers.insert(header::STORED_AT, stored_at);
}

/// A header is one line of text.
fn one_line(reason: &str) -> String {
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}
