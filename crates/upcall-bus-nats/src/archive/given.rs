//! Giving events to a consumer again, each at most once under one name.
//!
//! What was given is a bit in the bucket: a key holds the bits of as many sequences as fit into [`SPAN`], so that a
//! million events take 250 small keys, and any selection of events, in any order, is remembered exactly.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use tokio::time::sleep;
use upcall_bus::{ConsumerName, Source, StoredEvent};
use upcall_event::escape_token;

use super::letters::again;
use super::{Which, read};
use crate::NatsBus;
use crate::names::redelivery_subject;
use crate::publish::code;

/// How many sequences share a key.
const SPAN: u64 = SPAN_BYTES as u64 * 8;
const SPAN_BYTES: usize = 512;
/// How many events are on their way at once.
const UNDER_WAY_MAX: usize = 256;
/// How often something is tried again that another process is just doing, too.
const TRIES: u32 = 100;
/// How long to wait before that.
const CONFLICT_WAIT: Duration = Duration::from_millis(10);

/// Gives what was not given under this name.
pub(super) async fn redeliver(
    bus: &NatsBus,
    consumer: &ConsumerName,
    replay: &str,
    events: &[StoredEvent],
) -> Result<(), Source> {
    // A bucket's keys take no `%`.
    let replay = Replay { bus, consumer, name: escape_token(replay).replace('%', "=") };
    for events in events.chunk_by(|one, next| one.sequence / SPAN == next.sequence / SPAN) {
        let span = events.first().map_or(0, |first| first.sequence / SPAN);
        let key = format!("$KV.{}.replay.{consumer}.{}.{span}", bus.names().attempts(), replay.name);
        let mut given = Given::load(bus, &key).await?;
        let outcome = replay.give(events, &mut given).await;
        // Also after a failure: what was given until then was given.
        given.save(bus, &key).await?;
        outcome?;
    }
    Ok(())
}

struct Replay<'r> {
    bus: &'r NatsBus,
    consumer: &'r ConsumerName,
    name: String,
}

impl Replay<'_> {
    /// Gives events of one span, in their order.
    async fn give(&self, events: &[StoredEvent], given: &mut Given) -> Result<(), Source> {
        let mut under_way = VecDeque::with_capacity(UNDER_WAY_MAX);
        for event in events {
            if given.has(event.sequence) {
                continue;
            }
            if under_way.len() == UNDER_WAY_MAX
                && let Some((event, ack)) = under_way.pop_front()
            {
                self.arrive(event, ack, given).await?;
            }
            under_way.push_back((event, self.send(event).await?));
        }
        for (event, ack) in under_way {
            self.arrive(event, ack, given).await?;
        }
        Ok(())
    }

    async fn send(&self, event: &StoredEvent) -> Result<PublishAckFuture, PublishError> {
        let Self { bus, consumer, name } = self;
        let id = format!("replay:{consumer}:{name}:{}", event.sequence);
        bus.shared.context.send_publish(redelivery_subject(consumer), again(bus, event, &id)).await
    }

    /// Waits for the word that an event is stored.
    async fn arrive(&self, event: &StoredEvent, ack: PublishAckFuture, given: &mut Given) -> Result<(), Source> {
        let mut outcome = ack.await;
        for _ in 0..TRIES {
            // Another process, perhaps one that was just killed, sent it, too; in a moment it is stored or not.
            let Err(error) = &outcome else { break };
            if code(error) != Some(ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT) {
                break;
            }
            sleep(CONFLICT_WAIT).await;
            outcome = self.send(event).await?.await;
        }
        outcome?;
        given.set(event.sequence);
        Ok(())
    }
}

/// Which events of one span were given.
struct Given {
    bits: Vec<u8>,
    /// Where the bucket has them; 0 for nowhere.
    revision: u64,
    changed: bool,
}

impl Given {
    async fn load(bus: &NatsBus, key: &str) -> Result<Self, Source> {
        let name = format!("KV_{}", bus.names().attempts());
        let message = read(&bus.reach(&name).await?, &name, Which::Last(key)).await?;
        let (mut bits, revision) = message.map_or((Vec::new(), 0), |found| (found.payload.to_vec(), found.sequence));
        bits.resize(SPAN_BYTES, 0);
        Ok(Self { bits, revision, changed: false })
    }

    fn has(&self, sequence: u64) -> bool {
        let (byte, bit) = place(sequence);
        self.bits[byte] & bit != 0
    }

    fn set(&mut self, sequence: u64) {
        let (byte, bit) = place(sequence);
        self.bits[byte] |= bit;
        self.changed = true;
    }

    /// Writes the bits down; those that another process wrote meanwhile stay.
    async fn save(mut self, bus: &NatsBus, key: &str) -> Result<(), Source> {
        if !self.changed {
            return Ok(());
        }
        for _ in 0..TRIES {
            let mut headers = HeaderMap::new();
            headers.insert(async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, self.revision.to_string());
            let context = &bus.shared.context;
            let sent = context.publish_with_headers(key.to_owned(), headers, self.bits.clone().into()).await?;
            match sent.await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {}
                Err(error) => return Err(error.into()),
            }
            sleep(CONFLICT_WAIT).await;
            let other = Self::load(bus, key).await?;
            self.revision = other.revision;
            self.bits.iter_mut().zip(other.bits).for_each(|(byte, other)| *byte |= other);
        }
        Err("other processes replay under the same name all the time".into())
    }
}

fn place(sequence: u64) -> (usize, u8) {
    let within = sequence % SPAN;
    ((within / 8) as usize, 1 << (within % 8))
}
