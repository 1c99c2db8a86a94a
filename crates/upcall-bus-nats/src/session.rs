//! What a subscription and its deliveries share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_nats::jetstream::{AckKind, Message};
use async_nats::{Client, Subject as Reply};
use tokio::sync::Notify;
use tracing::warn;
use upcall_bus::{ConsumerName, Source};
use upcall_event::{Event, Subject};

use crate::NatsBus;
use crate::intake::{Intake, Origin};

/// How long the server keeps what it gets back from a subscription that ends: until it has forgotten the requests of
/// that one. It would else take the first event out of its queue for them, and put it back at the end.
const RETURN_WAIT: Duration = Duration::from_millis(50);

/// Which of a consumer's two streams a delivery came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Lane {
    /// The stream of uploads.
    Uploads,
    /// What this consumer gets again.
    Again,
}

impl Lane {
    /// Its name in what is written down about its events.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Uploads => "uploads",
            Self::Again => "again",
        }
    }
}

/// A delivery's name in its session: its lane, its sequence there, and when the stream stored it (nanoseconds since
/// 1970). A stream that lost its end in a power failure gives the same sequences to other events.
pub(crate) type Key = (Lane, u64, i128);

/// An event as it was read, ready to be delivered.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) key: Key,
    pub(crate) subject: Subject,
    pub(crate) event: Event,
    /// Its place in the stream of uploads.
    pub(crate) sequence: u64,
    /// When the stream of uploads stored it (RFC 3339).
    pub(crate) stored_at: String,
    pub(crate) attempt: u32,
}

/// An event that the server waits for.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// Where to answer.
    pub(crate) reply: Reply,
    /// When the consumer was made that it came from (nanoseconds since 1970): another one of its name knows nothing of it.
    pub(crate) consumer_made: i128,
    /// The connection on which the stream is known to have it; none where that is in doubt.
    pub(crate) stands_on: Option<u64>,
}

/// What a subscription and its deliveries share.
pub(crate) struct Session {
    pub(crate) bus: NatsBus,
    pub(crate) name: ConsumerName,
    /// Something was given back.
    pub(crate) wake: Notify,
    state: Mutex<State>,
    intake: Mutex<Intake>,
}

#[derive(Default)]
pub(crate) struct State {
    /// Each event that the server waits for, whoever has it now.
    held: BTreeMap<Key, Held>,
    /// What was handed back, to be delivered again as the same attempt.
    pub(crate) returned: BTreeMap<Key, Arrived>,
    /// The subscription is gone: what is unsettled belongs to the server again.
    closed: bool,
}

impl Session {
    pub(crate) fn new(bus: NatsBus, name: ConsumerName) -> Arc<Self> {
        let intake = Mutex::new(Intake::new());
        let session = Arc::new(Self { bus, name, wake: Notify::new(), state: Mutex::default(), intake });
        let (watched, every) = (Arc::downgrade(&session), session.bus.shared.options.ack_wait / 3);
        session.bus.shared.runtime.spawn(async move {
            let mut tick = tokio::time::interval(every.max(Duration::from_millis(10)));
            loop {
                tick.tick().await;
                let Some(session) = watched.upgrade() else { return };
                // Also what waits here unread, while nobody asks for more.
                session.collect();
                // It is not woken any more by what comes now, and has to look by itself.
                session.wake.notify_one();
                session.extend().await;
            }
        });
        session
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn intake(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up what has come. Ready when there is something new, or a stream can't be read.
    pub(crate) fn poll_intake(&self, context: &mut Context<'_>) -> Poll<()> {
        self.intake().poll(context, |lane, origin, message| self.accept(lane, origin, message))
    }

    /// Takes up what has come until now.
    pub(crate) fn collect(&self) {
        let _ = self.poll_intake(&mut Context::from_waker(Waker::noop()));
    }

    /// Takes note of a message. None if it is not to be delivered.
    fn accept(&self, lane: Lane, origin: Origin, message: &Message) -> Option<(Key, i64)> {
        let info = message.info().ok().filter(|info| info.consumer == self.name.as_str());
        let Some((info, reply)) = info.zip(message.reply.clone()) else {
            // Anybody who may publish to our inbox can send such a thing. Nobody waits for an answer to it.
            warn!(consumer = %self.name, subject = %message.subject, "passed over: no stream has sent it");
            return None;
        };
        let key = (lane, info.stream_sequence, info.published.unix_timestamp_nanos());
        let Origin { consumer_made, connection } = origin;
        let held = Held { reply, consumer_made, stands_on: Some(connection) };
        self.arrive(key, held).then_some((key, info.delivered))
    }

    /// Takes note of a message. False if it is here already: the server has lost patience and sent it once more, and
    /// is answered where it asked last.
    fn arrive(&self, key: Key, held: Held) -> bool {
        let mut state = self.lock();
        if let Some(other) = state.in_its_place(key) {
            // The stream has lost that one, and would take its settlement for this one's.
            state.held.remove(&other);
        }
        state.held.insert(key, held).is_none()
    }

    /// Whether the stream still has an event where it was delivered from. A server that came back with less than it had
    /// gives the place to another event, and would take this one's settlement for that one's. So it is asked on each new
    /// connection, and where it has not answered. An event that is not there is given up.
    ///
    /// # Errors
    /// If the server can't be asked.
    pub(crate) async fn stands(&self, key: Key) -> Result<bool, Source> {
        let connection = self.bus.link().borrow().generation;
        match self.lock().held.get(&key) {
            None => return Ok(false),
            Some(held) if held.stands_on == Some(connection) => return Ok(true),
            Some(_) => {}
        }
        let (lane, sequence, stored_ns) = key;
        let stands = self.bus.stored_ns(&self.bus.stream_of(lane), sequence).await? == Some(stored_ns);
        let mut state = self.lock();
        if !stands {
            state.held.remove(&key);
        } else if let Some(held) = state.held.get_mut(&key) {
            held.stands_on = Some(connection);
        }
        Ok(stands)
    }

    /// Whether an event is still ours to settle.
    pub(crate) fn holds(&self, key: Key) -> bool {
        let state = self.lock();
        !state.closed && state.held.contains_key(&key)
    }

    /// Takes an event out, to be settled: the server may deliver it again before its answer has arrived. Returns where
    /// to answer; `None` once it is settled or no longer ours.
    pub(crate) fn take_out(&self, key: Key) -> Option<Held> {
        let mut state = self.lock();
        if state.closed { None } else { state.held.remove(&key) }
    }

    /// Puts an event back of whose settlement is not known whether it has reached the server.
    pub(crate) fn put_back(&self, key: Key, held: Held) {
        let mut state = self.lock();
        if state.in_its_place(key).is_none() {
            state.held.entry(key).or_insert(Held { stands_on: None, ..held });
        }
    }

    /// Gives an event up, unless it has come again from another consumer of the name. True if it was given up.
    pub(crate) fn forget(&self, key: Key, held: &Held) -> bool {
        let mut state = self.lock();
        let is_same = state.held.get(&key).is_none_or(|found| found.consumer_made == held.consumer_made);
        if is_same {
            state.held.remove(&key);
        }
        is_same
    }

    /// Puts an event back, to be delivered again as the same attempt. The server does not hear of it: it would count.
    pub(crate) fn hand_back(&self, arrived: Arrived) {
        let mut state = self.lock();
        if state.held.contains_key(&arrived.key) && !state.closed {
            state.returned.insert(arrived.key, arrived);
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Gives everything to the server again, in order, so that another subscription gets it at once.
    pub(crate) async fn close(&self) {
        let held = {
            let mut state = self.lock();
            state.closed = true;
            state.returned.clear();
            std::mem::take(&mut state.held)
        };
        let replies = held.into_values().map(|held| held.reply);
        tell(self.client(), replies, AckKind::Nak(Some(RETURN_WAIT))).await;
        // So that whoever subscribes next asks the server after this has reached it.
        let _ = tokio::time::timeout(crate::connection::REQUEST_TIME, self.client().flush()).await;
    }

    /// Tells the server that all of it is being worked on.
    async fn extend(&self) {
        let replies: Vec<Reply> = self.lock().held.values().map(|held| held.reply.clone()).collect();
        if self.bus.is_connected() {
            tell(self.client(), replies, AckKind::Progress).await;
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.bus.shared.client
    }
}

impl State {
    /// The event that has another one's place in its stream.
    fn in_its_place(&self, key: Key) -> Option<Key> {
        let (lane, sequence, _) = key;
        let same_place = (lane, sequence, i128::MIN)..=(lane, sequence, i128::MAX);
        self.held.range(same_place).map(|(other, _)| *other).find(|other| *other != key)
    }
}

async fn tell(client: &Client, replies: impl IntoIterator<Item = Reply>, kind: AckKind) {
    let payload: bytes::Bytes = kind.into();
    for reply in replies {
        // What does not reach the server is delivered again when its patience ends.
        let _ = client.publish(reply, payload.clone()).await;
    }
}
