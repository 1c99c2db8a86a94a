//! Past events, a page at a time.

use std::time::Duration;

use async_nats::header::NATS_LAST_SEQUENCE;
use async_nats::jetstream::message::StreamMessage;
use async_nats::{Message, StatusCode};
use futures_util::StreamExt;
use jiff::Timestamp;
use serde_json::json;
use tokio::time::{sleep, timeout};
use tracing::debug;
use upcall_bus::{Deadline, Page, Source, StoredEvent};
use upcall_event::SubjectFilter;

use super::{Which, read};
use crate::NatsBus;
use crate::connection::{REQUEST_TIME, text};
use crate::publish::read_event;

/// How many events a page holds at most, whatever is asked for, and how large they are: it is held in memory.
const PAGE_MAX: usize = 4_096;
const PAGE_BYTES_MAX: usize = 16 << 20;
/// How soon a replica that is behind is asked again.
const AGAIN: Duration = Duration::from_millis(20);

/// Reads events after a sequence that a filter selects.
pub(super) async fn events(bus: &NatsBus, after: u64, filter: &SubjectFilter, max: usize) -> Result<Page, Source> {
    let name = bus.names().uploads();
    let newest = bus.uploads_info().await?.state.last_sequence;
    // How far there is to read only the leader knows; the replica that answers may be behind.
    let last = read(&bus.reach(name).await?, name, Which::Last(filter.as_str())).await?;
    let last = last.map_or(0, |message| message.sequence);
    let mut page = Page { events: Vec::new(), scanned: after, end: false };
    let patience = Deadline::after(REQUEST_TIME);
    while page.scanned < last {
        fill(bus, &mut page, filter, max.clamp(1, PAGE_MAX)).await?;
        if page.scanned > after {
            break;
        }
        if patience.has_passed() {
            return Err("the replicas of the stream of uploads are behind their leader".into());
        }
        sleep(AGAIN).await;
    }
    if page.scanned >= last {
        page.end = true;
        page.scanned = page.scanned.max(newest);
    }
    Ok(page)
}

/// Looks for the first event that was stored at or after a moment, halving what is left.
pub(super) async fn sequence_before(bus: &NatsBus, moment: Timestamp) -> Result<u64, Source> {
    let (name, moment) = (bus.names().uploads(), moment.as_nanosecond());
    let state = bus.uploads_info().await?.state;
    let stream = bus.reach(name).await?;
    let (mut low, mut high) = (state.first_sequence.max(1), state.last_sequence + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        match read(&stream, name, Which::From(middle)).await? {
            Some(message) if message.time.unix_timestamp_nanos() < moment => low = message.sequence + 1,
            _ => high = middle,
        }
    }
    Ok(low - 1)
}

/// Reads one batch of direct gets: a request, as many answers as there are, and a word that it was all.
async fn fill(bus: &NatsBus, page: &mut Page, filter: &SubjectFilter, max: usize) -> Result<(), Source> {
    let (client, name) = (&bus.shared.client, bus.names().uploads());
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await?;
    let request = json!({
        "seq": page.scanned + 1,
        "next_by_subj": filter.as_str(),
        "batch": max,
        "max_bytes": PAGE_BYTES_MAX,
    });
    client.publish_with_reply(format!("$JS.API.DIRECT.GET.{name}"), inbox, request.to_string().into()).await?;
    let mut previous = 0;
    loop {
        let answer = timeout(REQUEST_TIME, answers.next()).await?.ok_or("the connection was closed")?;
        match answer.status {
            None => {}
            Some(StatusCode::NOT_FOUND) => return Ok(()),
            Some(StatusCode::NO_RESPONDERS) => {
                return Err(format!("stream {name} can't be read directly: set `allow_direct` on it").into());
            }
            // The end of the batch.
            Some(status) if status.as_u16() == 204 => return Ok(()),
            Some(status) => return Err(format!("the server says {status}").into()),
        }
        // Where one was lost on the way the next page goes on.
        if told_previous(&answer) != Some(previous) {
            return Ok(());
        }
        let message = StreamMessage::try_from(answer)?;
        previous = message.sequence;
        page.scanned = message.sequence;
        match stored(&message) {
            Ok(event) => page.events.push(event),
            Err(error) => debug!(sequence = message.sequence, %error, "passed over: it is no event of ours"),
        }
    }
}

/// The sequence that went before an answer of the same batch.
fn told_previous(answer: &Message) -> Option<u64> {
    text(answer.headers.as_ref()?, NATS_LAST_SEQUENCE.as_ref())?.parse().ok()
}

fn stored(message: &StreamMessage) -> Result<StoredEvent, Source> {
    Ok(StoredEvent {
        sequence: message.sequence,
        stored_at: Timestamp::from_nanosecond(message.time.unix_timestamp_nanos())?,
        subject: message.subject.as_str().parse()?,
        event: read_event(&message.headers, &message.payload)?,
    })
}
