//! What waits for the writer. Publications are bounded; settlements are, too, by what consumers hold at once.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use upcall_bus::{ConsumerSpec, PublishErrorKind, Receipt, SettleErrorKind, Settlement, SubscribeErrorKind};

use crate::error::{Cause, Fault};
use crate::index::Key;
use crate::quarantine::Row;
use crate::session::{Item, Lease, Session};

/// What the payloads of waiting publications take in memory at most.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// What one transaction takes at most: enough to make an fsync cheap, not so much that it makes others wait.
const GROUP_MAX: usize = 1_024;
const GROUP_BYTES_MAX: usize = 8 << 20;
/// How long a group that is smaller than the last one waits for the publishers whom the last one has just set free.
/// Two half groups would take two fsyncs: with 64 publishers on two cores, waiting so long halves their number. A
/// publisher who is alone never waits.
const GATHER: Duration = Duration::from_micros(1000);
/// How much of a reason is kept: enough for any message, not for a body that somebody put into one.
const REASON_BYTES_MAX: usize = 4 << 10;

/// An event on its way into the journal.
pub(crate) struct Publication {
    pub(crate) key: Key,
    pub(crate) subject: String,
    pub(crate) payload: String,
    pub(crate) deadline: Instant,
    pub(crate) done: oneshot::Sender<Result<Receipt, Fault<PublishErrorKind>>>,
}

/// Anything else that the writer does, in the order in which it was asked.
pub(crate) enum Request {
    Settle(SettleRequest),
    Subscribe {
        spec: ConsumerSpec,
        done: oneshot::Sender<Result<Lease, Fault<SubscribeErrorKind>>>,
    },
    /// The session has scanned past events that it need not settle one by one. Whoever asks is told when the floor is
    /// raised.
    Advance {
        session: Arc<Session>,
        done: Option<oneshot::Sender<Result<(), Fault<SettleErrorKind>>>>,
    },
    Release(Arc<Session>),
    /// Rejected callbacks.
    Quarantine {
        rows: Vec<Row>,
        done: oneshot::Sender<Result<(), Cause>>,
    },
    #[cfg(test)]
    Execute(String, oneshot::Sender<()>),
}

/// A delivery's settlement.
pub(crate) struct SettleRequest {
    pub(crate) session: Arc<Session>,
    pub(crate) item: Item,
    pub(crate) sequence: u64,
    pub(crate) attempt: u32,
    pub(crate) settlement: Settlement,
    /// For a retry: when, in milliseconds since 1970.
    pub(crate) due_at: i64,
    pub(crate) done: oneshot::Sender<Result<(), Fault<SettleErrorKind>>>,
}

impl SettleRequest {
    /// Why it failed, in bounds.
    pub(crate) fn reason(&self) -> &str {
        match &self.settlement {
            Settlement::Retry { reason, .. } | Settlement::DeadLetter { reason } => {
                &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
            }
            Settlement::Ack | Settlement::HandBack => "",
        }
    }
}

/// What the writer does next.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) publications: Vec<Publication>,
    pub(crate) requests: Vec<Request>,
    /// Nothing comes after this.
    pub(crate) closed: bool,
}

/// What waits for the writer.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    news: Condvar,
    publications_max: usize,
}

#[derive(Default)]
struct Waiting {
    publications: Vec<Publication>,
    bytes: usize,
    requests: Vec<Request>,
    /// The writer waits until there are this many; 0 while it is at work.
    wanted: usize,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(publications_max: usize) -> Self {
        Self { waiting: Mutex::default(), news: Condvar::new(), publications_max }
    }

    pub(crate) fn publish(&self, publication: Publication) -> Result<(), PublishErrorKind> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(PublishErrorKind::Unavailable);
        }
        let bytes = waiting.bytes + publication.payload.len();
        if waiting.publications.len() >= self.publications_max || bytes > QUEUE_BYTES_MAX {
            return Err(PublishErrorKind::Busy);
        }
        waiting.bytes = bytes;
        waiting.publications.push(publication);
        self.wake(waiting);
        Ok(())
    }

    /// Puts a request in the queue; gives it back once the queue is closed.
    pub(crate) fn request(&self, request: Request) -> Result<(), Request> {
        self.announce(request)?;
        self.hurry();
        Ok(())
    }

    /// Puts a request in the queue of which the writer takes note with the next one, or at [`Queue::hurry`].
    pub(crate) fn announce(&self, request: Request) -> Result<(), Request> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(request);
        }
        waiting.requests.push(request);
        Ok(())
    }

    /// Has the writer take what waits.
    pub(crate) fn hurry(&self) {
        self.wake(self.lock());
    }

    /// Takes nothing more. What is in it is still done.
    pub(crate) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        self.wake(waiting);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Takes what waits, or waits for this long until something does. `last` is how many publications the last group
    /// had.
    pub(crate) fn take(&self, work: &mut Work, wait: Duration, last: usize) {
        let mut waiting = self.lock();
        waiting = self.wait(waiting, 1, wait);
        // Most of those whom the last group has set free come again at once.
        if !waiting.publications.is_empty() {
            waiting = self.wait(waiting, last - last / 4, GATHER);
        }
        std::mem::swap(&mut work.requests, &mut waiting.requests);
        waiting.take_group(&mut work.publications);
        work.closed = waiting.closed && waiting.is_empty();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'q>(&self, mut waiting: MutexGuard<'q, Waiting>, wanted: usize, wait: Duration) -> MutexGuard<'q, Waiting> {
        if waiting.has(wanted) {
            return waiting;
        }
        waiting.wanted = wanted;
        let lacks = |waiting: &mut Waiting| !waiting.has(wanted);
        waiting = self.news.wait_timeout_while(waiting, wait, lacks).unwrap_or_else(PoisonError::into_inner).0;
        waiting.wanted = 0;
        waiting
    }

    /// A wake-up is a system call; a writer that is at work looks by itself.
    fn wake(&self, mut waiting: MutexGuard<'_, Waiting>) {
        let wake = waiting.wanted > 0 && waiting.has(waiting.wanted);
        if wake {
            waiting.wanted = 0;
        }
        drop(waiting);
        if wake {
            self.news.notify_one();
        }
    }
}

impl Waiting {
    fn has(&self, wanted: usize) -> bool {
        self.closed || self.publications.len() + self.requests.len() >= wanted
    }

    fn is_empty(&self) -> bool {
        self.publications.is_empty() && self.requests.is_empty()
    }

    fn take_group(&mut self, group: &mut Vec<Publication>) {
        if self.publications.len() <= GROUP_MAX && self.bytes <= GROUP_BYTES_MAX {
            self.bytes = 0;
            return std::mem::swap(group, &mut self.publications);
        }
        let mut bytes = 0;
        let fits = |publication: &&Publication| {
            bytes += publication.payload.len();
            bytes <= GROUP_BYTES_MAX
        };
        // A single one that is larger goes alone.
        let count = self.publications.iter().take(GROUP_MAX).take_while(fits).count().max(1);
        group.extend(self.publications.drain(..count));
        self.bytes -= group.iter().map(|publication| publication.payload.len()).sum::<usize>();
    }
}
