//! Giving events to a consumer again, each at most once under one name.
//!
//! What was given is a mark in the bucket: a key holds the marks of as many sequences as fit into [`SPAN`], so that a
//! million events take a thousand small keys, and any selection of events, in any order, is remembered. A mark is made of
//! the event and of when it was stored: a stream that was made anew, or that lost its end in a power failure, gives the
//! same sequences to other events, which were not given.

use std::collections::{BTreeMap, VecDeque};

use async_nats::HeaderMap;
use async_nats::jetstream::context::{PublishAckFuture, PublishErrorKind};
use tokio::time::sleep;
use upcall_bus::{ConsumerName, Source, StoredEvent};
use upcall_event::{SUBJECT_BYTES_MAX, escape_token};

use super::read;
use super::redelivery::{CONFLICT_WAIT, Redelivery, TRIES};
use crate::NatsBus;
use crate::stored::Which;

/// How many sequences share a key.
const SPAN: u64 = MARKS as u64;
const MARKS: usize = 1 << 10;
/// How many events are on their way at once.
const UNDER_WAY_MAX: usize = 256;

/// Gives what was not given under this name, and counts it.
pub(super) async fn redeliver(
    bus: &NatsBus,
    consumer: &ConsumerName,
    replay: &str,
    events: &[StoredEvent],
) -> Result<u64, Source> {
    // A bucket's keys take no `%`.
    let replay = Replay { bus, consumer, name: escape_token(replay).replace('%', "=") };
    let mut count = 0;
    for events in events.chunk_by(|one, next| one.sequence / SPAN == next.sequence / SPAN) {
        let span = events.first().map_or(0, |first| first.sequence / SPAN);
        let key = format!("$KV.{}.replay.{consumer}.{}.{span}", bus.names().attempts(), replay.name);
        if key.len() > SUBJECT_BYTES_MAX {
            return Err(format!("the replay's name is too long: with it a key has {} bytes", key.len()).into());
        }
        let mut given = Given::load(bus, &key).await?;
        let outcome = replay.give(events, &mut given).await;
        count += given.count;
        // Also after a failure: what was given until then was given.
        given.save(bus, &key).await?;
        outcome?;
    }
    Ok(count)
}

struct Replay<'r> {
    bus: &'r NatsBus,
    consumer: &'r ConsumerName,
    name: String,
}

impl Replay<'_> {
    /// Gives events of one span, in their order.
    async fn give(&self, events: &[StoredEvent], given: &mut Given) -> Result<(), Source> {
        let Self { bus, consumer, name } = self;
        let mut under_way = VecDeque::with_capacity(UNDER_WAY_MAX);
        let mut outcome = Ok(());
        for event in events {
            if given.has(event) {
                continue;
            }
            if under_way.len() == UNDER_WAY_MAX
                && let Some((redelivery, ack)) = under_way.pop_front()
            {
                arrive(redelivery, ack, given).await?;
            }
            let id = format!("replay:{consumer}:{name}:{}:{:08x}", event.sequence, mark(event));
            let redelivery = Redelivery { bus, consumer, stored: event, id };
            match redelivery.send().await {
                Ok(ack) => under_way.push_back((redelivery, ack)),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        for (redelivery, ack) in under_way {
            arrive(redelivery, ack, given).await?;
        }
        outcome
    }
}

/// Waits for the word that an event is stored.
async fn arrive(redelivery: Redelivery<'_>, ack: PublishAckFuture, given: &mut Given) -> Result<(), Source> {
    let before = redelivery.arrive(ack).await?;
    given.note(redelivery.stored, before);
    Ok(())
}

/// Which events of one span were given.
struct Given {
    marks: Vec<u32>,
    /// What is not written down yet, by its place among the marks.
    new: BTreeMap<usize, u32>,
    /// Where the bucket has them; 0 for nowhere.
    revision: u64,
    /// How many were given now.
    count: u64,
}

impl Given {
    async fn load(bus: &NatsBus, key: &str) -> Result<Self, Source> {
        let name = bus.names().bucket();
        let message = read(&bus.reach(&name).await?, &name, Which::Last(key)).await?;
        let (bytes, revision) = message.map_or((Vec::new(), 0), |found| (found.payload.to_vec(), found.sequence));
        let (written, _) = bytes.as_chunks::<4>();
        let mut marks: Vec<u32> = written.iter().map(|bytes| u32::from_be_bytes(*bytes)).collect();
        if marks.len() != MARKS {
            // Nobody of ours has written that.
            marks = vec![0; MARKS];
        }
        Ok(Self { marks, new: BTreeMap::new(), revision, count: 0 })
    }

    fn has(&self, event: &StoredEvent) -> bool {
        self.marks[place(event)] == mark(event)
    }

    /// Notes that an event was given: now, or before that was written down.
    fn note(&mut self, event: &StoredEvent, before: bool) {
        self.marks[place(event)] = mark(event);
        self.new.insert(place(event), mark(event));
        self.count += u64::from(!before);
    }

    /// Writes the marks down; those that another process wrote meanwhile stay.
    async fn save(mut self, bus: &NatsBus, key: &str) -> Result<(), Source> {
        if self.new.is_empty() {
            return Ok(());
        }
        for _ in 0..TRIES {
            let mut headers = HeaderMap::new();
            headers.insert(async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, self.revision.to_string());
            let marks: Vec<u8> = self.marks.iter().flat_map(|mark| mark.to_be_bytes()).collect();
            let context = &bus.shared.context;
            match context.publish_with_headers(key.to_owned(), headers, marks.into()).await?.await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {}
                Err(error) => return Err(error.into()),
            }
            sleep(CONFLICT_WAIT).await;
            let other = Self::load(bus, key).await?;
            (self.revision, self.marks) = (other.revision, other.marks);
            self.new.iter().for_each(|(place, mark)| self.marks[*place] = *mark);
        }
        Err("other processes replay under the same name all the time".into())
    }
}

/// Where an event's mark is among those of its span.
fn place(event: &StoredEvent) -> usize {
    (event.sequence % SPAN) as usize
}

/// Tells an event from another one that a stream has had, or will have, in its place; never 0.
fn mark(event: &StoredEvent) -> u32 {
    // The golden ratio's part of 2⁶⁴: spreads what differs over the upper half.
    const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
    // An id is a hash; a part of it is one, too.
    let mixed = lower(*event.event.id.as_bytes()) ^ lower(event.stored_at.as_nanosecond().to_be_bytes());
    ((mixed.wrapping_mul(SPREAD) >> 32) as u32).max(1)
}

fn lower([_, _, _, _, _, _, _, _, lower @ ..]: [u8; 16]) -> u64 {
    u64::from_be_bytes(lower)
}
