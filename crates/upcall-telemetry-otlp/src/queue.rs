//! The queue that everything to be exported goes through: bounded, and never waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot;

use crate::patience::Patience;

/// What is in a queue.
pub(crate) enum Entry<T> {
    /// Something to be exported.
    Item(T),
    /// Is told when everything before it has been exported, or given up.
    Flush(oneshot::Sender<()>),
}

/// Where things are put. A clone is the same queue.
pub(crate) struct Queue<T> {
    entries: Sender<Entry<T>>,
    side: Arc<Side>,
}

/// What both ends of a queue share.
#[derive(Debug, Default)]
pub(crate) struct Side {
    pub(crate) counts: Counts,
    pub(crate) patience: Patience,
}

/// What became of things of one kind.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    sent: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    pub(crate) fn add_sent(&self, number: usize) {
        self.sent.fetch_add(number as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_dropped(&self, number: usize) {
        self.dropped.fetch_add(number as u64, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl<T> Queue<T> {
    /// A queue with room for so many, and its other end.
    pub(crate) fn new(room: usize, side: &Arc<Side>) -> (Self, Receiver<Entry<T>>) {
        let (entries, receiver) = mpsc::channel(room);
        (Self { entries, side: Arc::clone(side) }, receiver)
    }

    /// Puts something in, or drops it. `thing` is called only where there is room for what it makes.
    pub(crate) fn put(&self, thing: impl FnOnce() -> T) {
        match self.entries.try_reserve() {
            Ok(place) => place.send(Entry::Item(thing())),
            Err(TrySendError::Full(()) | TrySendError::Closed(())) => self.side.counts.add_dropped(1),
        }
    }

    /// Waits until what is in the queue now has been exported, or given up; as [`Patience::wait`] does.
    pub(crate) async fn flush(&self, limit: Duration, insists: bool) {
        let flushed = async {
            let (done, flushed) = oneshot::channel();
            if self.entries.send(Entry::Flush(done)).await.is_ok() {
                // A sender that is gone means the same.
                let _ = flushed.await;
            }
        };
        self.side.patience.wait(flushed, limit, insists).await;
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone(), side: Arc::clone(&self.side) }
    }
}

impl<T> std::fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("counts", &self.side.counts).finish_non_exhaustive()
    }
}
