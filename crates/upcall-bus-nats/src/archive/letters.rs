//! Dead letters, at rest.

use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use tracing::{debug, warn};
use upcall_bus::{DeadLetter, Source, StoredEvent};

use super::{Which, at, delete, read, scan};
use crate::NatsBus;
use crate::connection::text;
use crate::dead::place;
use crate::names::{header, redelivery_subject};
use crate::publish::{event_headers, read_event};

/// Reads up to `max` letters after a number.
pub(super) async fn after(bus: &NatsBus, after: u64, max: usize) -> Result<Vec<DeadLetter>, Source> {
    let found = scan(bus, &bus.names().dead(), after, max, Found::of).await?;
    let mut letters = Vec::with_capacity(found.len());
    for found in found {
        letters.extend(found.resolve(bus).await?);
    }
    Ok(letters)
}

/// Gives a letter's event to its consumer, then forgets the letter.
pub(super) async fn retry(bus: &NatsBus, number: u64) -> Result<bool, Source> {
    let Some(letter) = find(bus, number).await? else { return Ok(false) };
    // With the event's id, since the numbers of a stream that was made anew begin anew.
    let id = format!("dead:{number}:{}", letter.stored.event.id);
    let message = again(bus, &letter.stored, &id);
    bus.shared.context.send_publish(redelivery_subject(&letter.consumer), message).await?.await?;
    delete(bus, &bus.names().dead(), number).await
}

/// Forgets a letter.
pub(super) async fn forget(bus: &NatsBus, number: u64) -> Result<bool, Source> {
    match find(bus, number).await? {
        Some(_) => delete(bus, &bus.names().dead(), number).await,
        None => Ok(false),
    }
}

/// An event as one consumer gets it again; the stream recognises it by `id`.
pub(super) fn again(bus: &NatsBus, stored: &StoredEvent, id: &str) -> PublishMessage {
    let event = stored.event.to_binary();
    let mut headers = event_headers(event.headers);
    place(&mut headers, stored.subject.as_str(), stored.sequence, &stored.stored_at.to_string());
    headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
    headers.insert(async_nats::header::NATS_EXPECTED_STREAM, bus.names().redelivery());
    PublishMessage::build().headers(headers).payload(event.data.into())
}

async fn find(bus: &NatsBus, number: u64) -> Result<Option<DeadLetter>, Source> {
    match at(bus, &bus.names().dead(), number).await?.as_ref().and_then(Found::of) {
        Some(found) => found.resolve(bus).await,
        None => Ok(None),
    }
}

/// A dead letter as its stream has it.
enum Found {
    Whole(Box<DeadLetter>),
    /// Its event was too large to go with it.
    Reference(StreamMessage),
}

impl Found {
    fn of(message: &StreamMessage) -> Option<Self> {
        match text(&message.headers, header::REFERENCE) {
            Some(_) => Some(Self::Reference(message.clone())),
            None => letter(message).map(|letter| Self::Whole(Box::new(letter))),
        }
    }

    /// Gets the event where it is elsewhere; `None` if it is gone.
    async fn resolve(self, bus: &NatsBus) -> Result<Option<DeadLetter>, Source> {
        let mut message = match self {
            Self::Whole(letter) => return Ok(Some(*letter)),
            Self::Reference(message) => message,
        };
        let name = bus.names().uploads();
        let sequence = text(&message.headers, header::SEQUENCE).and_then(|sequence| sequence.parse().ok()).unwrap_or(0);
        let original = match sequence {
            0 => None,
            sequence => read(&bus.reach(name).await?, name, Which::At(sequence)).await?,
        };
        // A stream that was made anew has another event there.
        let is_same = |original: &StreamMessage| text(&original.headers, EVENT_ID) == text(&message.headers, EVENT_ID);
        let Some(original) = original.filter(is_same) else {
            warn!(
                number = message.sequence,
                sequence, "passed over: the dead letter's event is no longer in the stream"
            );
            return Ok(None);
        };
        message.payload = original.payload;
        Ok(letter(&message))
    }
}

/// The header with an event's id, by which CloudEvents has it.
const EVENT_ID: &str = "ce-id";

fn letter(message: &StreamMessage) -> Option<DeadLetter> {
    parse(message)
        .inspect_err(|error| debug!(number = message.sequence, %error, "passed over: it is no dead letter of ours"))
        .ok()
}

fn parse(message: &StreamMessage) -> Result<DeadLetter, Source> {
    let header = |name: &'static str| text(&message.headers, name).ok_or_else(|| format!("it has no header {name}"));
    let event = read_event(&message.headers, &message.payload)?;
    Ok(DeadLetter {
        number: message.sequence,
        consumer: header(header::CONSUMER)?.parse()?,
        reason: header(header::REASON)?.to_owned(),
        attempts: header(header::ATTEMPTS)?.parse()?,
        died_at: header(header::DIED_AT)?.parse()?,
        stored: StoredEvent {
            sequence: header(header::SEQUENCE)?.parse()?,
            stored_at: header(header::STORED_AT)?.parse()?,
            subject: header(header::SUBJECT)?.parse()?,
            event,
        },
    })
}
