//! Dead letters on their way to their stream.

use async_nats::HeaderMap;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use jiff::Timestamp;
use tokio::time::timeout;
use tracing::warn;
use upcall_bus::Source;

use crate::connection::REQUEST_TIME;
use crate::names::{dead_subject, header};
use crate::publish::{code, event_headers};
use crate::session::{Arrived, Lane, Session};

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
    headers.insert(header::CONSUMER, session.name.as_str());
    headers.insert(header::REASON, one_line(reason));
    headers.insert(header::ATTEMPTS, arrived.attempt.to_string());
    headers.insert(header::DIED_AT, now.to_string());
    // The same death is one dead letter, also if the process dies before the event is settled.
    let lane = if arrived.key.0 == Lane::Again { "again" } else { "uploads" };
    let id = format!("{}:{lane}:{}:{}", session.name, arrived.key.1, arrived.event.id);
    headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
    headers.insert(async_nats::header::NATS_EXPECTED_STREAM, session.bus.names().dead());
    let message = PublishMessage::build().headers(headers.clone()).payload(event.data.into());
    let Err(error) = timeout(REQUEST_TIME, send(session, message)).await? else { return Ok(()) };
    if !is_too_large(&error) {
        return Err(error.into());
    }
    warn!(consumer = %session.name, sequence = arrived.sequence, "the dead letter is too large, and refers to the event");
    headers.insert(header::REASON, one_line(&reason[..reason.floor_char_boundary(REASON_BYTES_SHORT)]));
    headers.insert(header::REFERENCE, "event");
    let message = PublishMessage::build().headers(headers);
    Ok(timeout(REQUEST_TIME, send(session, message)).await??)
}

async fn send(session: &Session, message: PublishMessage) -> Result<(), PublishError> {
    session.bus.shared.context.send_publish(dead_subject(&session.name), message).await?.await?;
    Ok(())
}

fn is_too_large(error: &PublishError) -> bool {
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
