//! Dead letters on their way to their stream.

use async_nats::HeaderMap;
use async_nats::jetstream::message::PublishMessage;
use jiff::Timestamp;
use tokio::time::timeout;
use upcall_bus::Source;

use crate::connection::REQUEST_TIME;
use crate::names::{dead_subject, header};
use crate::publish::event_headers;
use crate::session::{Arrived, Lane, Session};

/// How much of a reason goes into a header.
const REASON_BYTES_MAX: usize = 4 << 10;

/// Publishes a dead letter, and returns once the stream has it.
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
    let message = PublishMessage::build().headers(headers).payload(event.data.into());
    let publish = async { session.bus.shared.context.send_publish(dead_subject(&session.name), message).await?.await };
    timeout(REQUEST_TIME, publish).await??;
    Ok(())
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
