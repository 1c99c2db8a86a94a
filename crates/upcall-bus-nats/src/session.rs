//! What a subscription and its deliveries share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::{Client, Subject as Reply};
use tokio::sync::Notify;
use upcall_bus::ConsumerName;
use upcall_event::{Event, Subject};

use crate::NatsBus;

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

/// What a subscription and its deliveries share.
pub(crate) struct Session {
    pub(crate) bus: NatsBus,
    pub(crate) name: ConsumerName,
    /// Something was given back.
    pub(crate) wake: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    /// Where to answer for each event that the server waits for, whoever has it now.
    replies: BTreeMap<Key, Reply>,
    /// What was handed back, to be delivered again as the same attempt.
    pub(crate) returned: BTreeMap<Key, Arrived>,
    /// The subscription is gone: what is unsettled belongs to the server again.
    closed: bool,
}

impl Session {
    pub(crate) fn new(bus: NatsBus, name: ConsumerName) -> Arc<Self> {
        let session = Arc::new(Self { bus, name, wake: Notify::new(), state: Mutex::default() });
        let (watched, every) = (Arc::downgrade(&session), session.bus.shared.options.ack_wait / 3);
        session.bus.shared.runtime.spawn(async move {
            let mut tick = tokio::time::interval(every.max(Duration::from_millis(10)));
            loop {
                tick.tick().await;
                let Some(session) = watched.upgrade() else { return };
                session.extend().await;
            }
        });
        session
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a message. False if it is here already: the server has lost patience and sent it once more, and
    /// is answered where it asked last.
    pub(crate) fn arrive(&self, key: Key, reply: Reply) -> bool {
        let mut state = self.lock();
        let (lane, sequence, _) = key;
        let same_place = (lane, sequence, i128::MIN)..=(lane, sequence, i128::MAX);
        let other = state.replies.range(same_place).map(|(other, _)| *other).find(|other| *other != key);
        if let Some(other) = other {
            // The stream has lost that one, and would take its settlement for this one's.
            state.replies.remove(&other);
        }
        state.replies.insert(key, reply).is_none()
    }

    /// Whether an event is still ours to settle.
    pub(crate) fn holds(&self, key: Key) -> bool {
        let state = self.lock();
        !state.closed && state.replies.contains_key(&key)
    }

    /// Takes an event out, to be settled: the server may deliver it again before its answer has arrived. Returns where
    /// to answer; `None` once it is settled or no longer ours.
    pub(crate) fn take_out(&self, key: Key) -> Option<Reply> {
        let mut state = self.lock();
        if state.closed { None } else { state.replies.remove(&key) }
    }

    /// Puts an event back that could not be settled.
    pub(crate) fn put_back(&self, key: Key, reply: Reply) {
        self.lock().replies.entry(key).or_insert(reply);
    }

    /// Puts an event back, to be delivered again as the same attempt. The server does not hear of it: it would count.
    pub(crate) fn hand_back(&self, arrived: Arrived) {
        let mut state = self.lock();
        if state.replies.contains_key(&arrived.key) && !state.closed {
            state.returned.insert(arrived.key, arrived);
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Gives everything to the server again, in order, so that another subscription gets it at once.
    pub(crate) async fn close(&self) {
        let replies = {
            let mut state = self.lock();
            state.closed = true;
            state.returned.clear();
            std::mem::take(&mut state.replies)
        };
        tell(self.client(), replies.into_values(), AckKind::Nak(Some(RETURN_WAIT))).await;
        // So that whoever subscribes next asks the server after this has reached it.
        let _ = tokio::time::timeout(crate::connection::REQUEST_TIME, self.client().flush()).await;
    }

    /// Tells the server that all of it is being worked on.
    async fn extend(&self) {
        let replies: Vec<Reply> = self.lock().replies.values().cloned().collect();
        if self.bus.is_connected() {
            tell(self.client(), replies, AckKind::Progress).await;
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.bus.shared.client
    }
}

async fn tell(client: &Client, replies: impl IntoIterator<Item = Reply>, kind: AckKind) {
    let payload: bytes::Bytes = kind.into();
    for reply in replies {
        // What does not reach the server is delivered again when its patience ends.
        let _ = client.publish(reply, payload.clone()).await;
    }
}
