//! Dead letters, at rest.

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::DeleteMessageErrorKind;
use futures_util::{StreamExt, TryStreamExt, stream};
use tracing::debug;
use upcall_bus::{DeadLetter, Source, StoredEvent};

use super::{Which, read};
use crate::NatsBus;
use crate::connection::text;
use crate::dead::place;
use crate::names::{header, redelivery_subject};
use crate::publish::{event_headers, read_event};

/// How many letters are asked for at once.
const AT_ONCE: usize = 32;

/// Reads up to `max` letters after a number.
///
/// One by one from the leader: a consumer on another replica might still show one that is gone.
pub(super) async fn after(bus: &NatsBus, after: u64, max: usize) -> Result<Vec<DeadLetter>, Source> {
    let name = bus.names().dead();
    let stream = bus.reach(&name).await?;
    let mut letters = Vec::new();
    let mut next = after + 1;
    while letters.len() < max {
        let Some(found) = read(&stream, &name, Which::From(next)).await? else { break };
        next = found.sequence + 1;
        letters.extend(letter(&found));
        // Those behind it are likely to be there, too.
        let count = AT_ONCE.min(max - letters.len()) as u64;
        let behind: Vec<_> = stream::iter(next..next + count)
            .map(|number| read(&stream, &name, Which::At(number)))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        next += count;
        letters.extend(behind.iter().flatten().filter_map(letter));
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
    delete(bus, number).await?;
    Ok(true)
}

/// Forgets a letter.
pub(super) async fn forget(bus: &NatsBus, number: u64) -> Result<bool, Source> {
    match find(bus, number).await? {
        Some(_) => delete(bus, number).await,
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
    let name = bus.names().dead();
    // The server takes 0 for no number at all.
    let which = Which::At(number.max(1));
    let message = read(&bus.reach(&name).await?, &name, which).await?;
    Ok(message.filter(|message| message.sequence == number).as_ref().and_then(letter))
}

/// False if somebody else was faster.
async fn delete(bus: &NatsBus, number: u64) -> Result<bool, Source> {
    match bus.reach(bus.names().dead()).await?.delete_message(number).await {
        Ok(deleted) => Ok(deleted),
        Err(error) => match error.kind() {
            DeleteMessageErrorKind::JetStream(error)
                if [ErrorCode::SEQUENCE_NOT_FOUND, ErrorCode::NO_MESSAGE_FOUND].contains(&error.error_code()) =>
            {
                Ok(false)
            }
            _ => Err(error.into()),
        },
    }
}

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
