//! The queue that everything to be exported goes through: bounded, and never waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot;

use crate::patience::Patience;

/// What may wait in one queue, in bytes as they are sent; in memory it is some times as much.
const BYTES_MAX: usize = 8 << 20;

/// Something that takes room.
pub(crate) trait Load {
    /// How many bytes it is when it is sent.
    fn bytes(&self) -> usize;
}

/// Somebody wants metrics to be sent now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted;

impl Load for Wanted {
    fn bytes(&self) -> usize {
        0
    }
}

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
    /// What waits, in bytes.
    waiting: AtomicUsize,
}

impl Side {
    /// Takes note that something waits, if it may.
    fn begin(&self, bytes: usize) -> bool {
        let more = |waiting: usize| waiting.checked_add(bytes).filter(|waiting| *waiting <= BYTES_MAX);
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Takes note that something does not wait any longer.
    pub(crate) fn end(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }
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

impl<T: Load> Queue<T> {
    /// A queue with room for so many, and its other end.
    pub(crate) fn new(room: usize, side: &Arc<Side>) -> (Self, Receiver<Entry<T>>) {
        let (entries, receiver) = mpsc::channel(room);
        (Self { entries, side: Arc::clone(side) }, receiver)
    }

    /// Puts something in, or drops it. `thing` is called only where there is a place for what it makes.
    pub(crate) fn put(&self, thing: impl FnOnce() -> T) {
        match self.entries.try_reserve() {
            Ok(place) => {
                let thing = thing();
                if self.side.begin(thing.bytes()) {
                    return place.send(Entry::Item(thing));
                }
            }
            Err(TrySendError::Full(()) | TrySendError::Closed(())) => {}
        }
        self.side.counts.add_dropped(1);
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Stone(usize);

    impl Load for Stone {
        fn bytes(&self) -> usize {
            self.0
        }
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_number_and_in_bytes_and_the_rest_is_counted() {
        let side = Arc::<Side>::default();
        let (queue, mut out) = Queue::new(3, &side);
        queue.put(|| Stone(BYTES_MAX - 10));
        queue.put(|| Stone(11));
        assert_eq!(side.counts.dropped(), 1, "it is too heavy");
        queue.put(|| Stone(10));
        queue.put(|| Stone(0));
        queue.put(|| Stone(0));
        assert_eq!(side.counts.dropped(), 2, "there are too many");
        let Some(Entry::Item(Stone(bytes))) = out.recv().await else { panic!("it is gone") };
        side.end(bytes);
        queue.put(|| Stone(BYTES_MAX - 10));
        assert_eq!(side.counts.dropped(), 2, "there is room again");
    }
}
