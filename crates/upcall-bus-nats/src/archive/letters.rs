//! Dead letters, at rest.

use async_nats::jetstream::message::StreamMessage;
use jiff::Timestamp;
use upcall_bus::{DeadLetter, Letter, Source, StoredEvent, UnreadableLetter};
use upcall_telemetry::error_chain;

use super::redelivery::Redelivery;
use super::{at, delete, scan};
use crate::NatsBus;
use crate::connection::text;
use crate::names::{DEAD_PREFIX, header};
use crate::publish::read_event;
use crate::stored::{Which, stored_if_there};

/// Reads up to `max` letters after a number.
pub(super) async fn after(bus: &NatsBus, after: u64, max: usize) -> Result<Vec<Letter>, Source> {
    let found = scan(bus, &bus.names().dead(), after, max, |message| Some(message.clone())).await?;
    let mut letters = Vec::with_capacity(found.len());
    for message in found {
        letters.push(letter(bus, message).await?);
    }
    Ok(letters)
}

/// Gives a letter's event to its consumer, then forgets the letter.
pub(super) async fn retry(bus: &NatsBus, number: u64) -> Result<bool, Source> {
    let dead = bus.names().dead();
    let Some(message) = at(bus, &dead, number).await? else { return Ok(false) };
    let letter = match letter(bus, message).await? {
        Letter::Readable(letter) => *letter,
        Letter::Unreadable(letter) => {
            return Err(format!("dead letter {number} can't be read: {}", letter.fault).into());
        }
    };
    // With the death, since the numbers of a stream that was made anew begin anew.
    let id = format!("dead:{number}:{}:{}", letter.stored.event.id, letter.died_at);
    let redelivery = Redelivery { bus, consumer: &letter.consumer, stored: &letter.stored, id };
    redelivery.arrive(redelivery.send().await?).await?;
    delete(bus, &dead, number).await
}

/// Forgets a letter, whatever is in it.
pub(super) async fn forget(bus: &NatsBus, number: u64) -> Result<bool, Source> {
    let dead = bus.names().dead();
    match at(bus, &dead, number).await? {
        Some(_) => delete(bus, &dead, number).await,
        None => Ok(false),
    }
}

/// Reads a letter, and its event where that is elsewhere.
async fn letter(bus: &NatsBus, message: StreamMessage) -> Result<Letter, Source> {
    let data = match text(&message.headers, header::REFERENCE) {
        None => Ok(message.payload.clone()),
        Some(_) => original(bus, &message).await?.map(|original| original.payload),
    };
    let read = data.map_err(Source::from).and_then(|data| parse(&message, &data));
    Ok(match read {
        Ok(letter) => Letter::Readable(Box::new(letter)),
        Err(fault) => Letter::Unreadable(UnreadableLetter {
            number: message.sequence,
            consumer: consumer(&message).to_owned(),
            fault: error_chain(&*fault),
            reason: text(&message.headers, header::REASON).map(str::to_owned),
            died_at: Timestamp::from_nanosecond(message.time.unix_timestamp_nanos()).unwrap_or_default(),
        }),
    })
}

/// The header with an event's id, by which CloudEvents has it.
const EVENT_ID: &str = "ce-id";

/// Reads the event that a letter refers to; where that can't be had, says why.
async fn original(bus: &NatsBus, message: &StreamMessage) -> Result<Result<StreamMessage, String>, Source> {
    let name = bus.names().uploads();
    let sequence = text(&message.headers, header::SEQUENCE).and_then(|sequence| sequence.parse().ok()).unwrap_or(0);
    // The server takes 0 for no number at all.
    if sequence == 0 {
        return Ok(Err(format!("it refers to an event, and does not say which ({})", header::SEQUENCE)));
    }
    let original = stored_if_there(&bus.reach(name).await?, Which::At(sequence)).await?;
    Ok(match original {
        // A stream that was made anew has another event there.
        Some(original) if text(&original.headers, EVENT_ID) == text(&message.headers, EVENT_ID) => Ok(original),
        Some(_) => Err(format!("it refers to event {sequence} of stream {name}, and that is another one now")),
        None => Err(format!("it refers to event {sequence} of stream {name}, and that is no longer there")),
    })
}

/// Whose letter it is. The subject says so, and not a header: who may publish on one subject need not be believed about
/// another.
fn consumer(message: &StreamMessage) -> &str {
    let subject = message.subject.as_str();
    subject.strip_prefix(DEAD_PREFIX).and_then(|name| name.strip_prefix('.')).unwrap_or(subject)
}

fn parse(message: &StreamMessage, data: &[u8]) -> Result<DeadLetter, Source> {
    let header = |name: &'static str| text(&message.headers, name).ok_or_else(|| format!("it has no header {name}"));
    let event = read_event(&message.headers, data)?;
    Ok(DeadLetter {
        number: message.sequence,
        consumer: consumer(message).parse()?,
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
