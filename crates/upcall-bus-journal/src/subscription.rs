//! A consumer's end of the journal.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use upcall_bus::{
    Delivery, SettleError, SettleErrorKind, Settlement, Settler, SubscribeError, SubscribeErrorKind, Subscription,
};

use crate::clock;
use crate::error::Fault;
use crate::fetch::{Fetched, Wanted, fetch};
use crate::journal::Handle;
use crate::queue::{Request, SettleRequest};
use crate::session::{AHEAD_MAX, Item, Lease, Session};

/// How long a consumer whose filter passed over events waits before it has its floor raised: often enough for
/// metrics and retention, too seldom to be work.
const ADVANCE_EVERY: Duration = Duration::from_millis(200);
/// How often is looked for what another process gives the consumer again: soon enough for somebody who waits for it,
/// and next to no work.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A wait that nothing is expected to end.
const LONG: Duration = Duration::from_secs(3_600);

type Fetching = JoinHandle<(Connection, rusqlite::Result<Vec<Fetched>>)>;

/// A consumer's end of the journal.
pub(crate) struct JournalSubscription {
    buffer: VecDeque<Fetched>,
    /// Kept while a fetch that was begun is not finished, so that dropping a `next` loses nothing.
    fetching: Option<Fetching>,
    reader: Option<Connection>,
    committed: watch::Receiver<u64>,
    given: watch::Receiver<()>,
    finished: watch::Receiver<bool>,
    advance_at: Option<Instant>,
    look_at: Instant,
    lease: Lease,
    /// The journal stays open for as long as somebody reads.
    _journal: Arc<Handle>,
}

impl JournalSubscription {
    pub(crate) fn new(journal: Arc<Handle>, lease: Lease, reader: Connection) -> Self {
        Self {
            buffer: VecDeque::new(),
            fetching: None,
            reader: Some(reader),
            committed: journal.shared.committed.subscribe(),
            given: journal.shared.given.subscribe(),
            finished: journal.shared.finished.subscribe(),
            advance_at: None,
            look_at: Instant::now(),
            lease,
            _journal: journal,
        }
    }

    fn deliver(&mut self, max: usize) -> Vec<Delivery> {
        let count = max.min(self.buffer.len());
        let deliver = |fetched: Fetched| {
            let settler = JournalSettler {
                session: Arc::clone(&self.lease.0),
                item: fetched.item,
                sequence: fetched.sequence,
                attempt: fetched.attempt,
                sent: None,
            };
            Delivery::new(fetched.subject, fetched.event, fetched.attempt, fetched.sequence, Box::new(settler))
        };
        self.buffer.drain(..count).map(deliver).collect()
    }

    /// Whether a fetch would find anything, or else how long until something is due.
    fn due(&mut self) -> Result<(), Duration> {
        let session = &self.lease.0;
        let mut state = session.lock();
        if self.given.has_changed().unwrap_or(false) {
            self.given.mark_unchanged();
            state.redelivered.look();
        }
        let room = state.in_flight() < session.in_flight_max;
        let last = *self.committed.borrow_and_update();
        let retry_at = [state.next_due, state.redelivered.next_due].into_iter().flatten().min();
        let look_in = self.look_at.saturating_duration_since(Instant::now());
        let retry_in = retry_at.map_or(LONG, clock::until).min(look_in);
        if !state.returned.is_empty()
            || !state.redelivered.returned.is_empty()
            || room && (retry_in.is_zero() || state.scanned < last && state.ahead.len() < AHEAD_MAX)
        {
            return Ok(());
        }
        let behind = state.fresh.is_empty() && state.floor < state.scanned;
        drop(state);
        if !behind {
            self.advance_at = None;
            return Err(if room { retry_in } else { LONG });
        }
        let advance_at = *self.advance_at.get_or_insert_with(|| Instant::now() + ADVANCE_EVERY);
        let advance_in = advance_at.saturating_duration_since(Instant::now());
        if advance_in.is_zero() {
            self.advance_at = None;
            // A journal that is closed raises it when it is opened again.
            let _ = session.queue.request(Request::Advance { session: Arc::clone(session), done: None });
            return Err(retry_in.min(ADVANCE_EVERY));
        }
        Err(retry_in.min(advance_in))
    }
}

#[async_trait]
impl Subscription for JournalSubscription {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, SubscribeError> {
        let max = max.max(1);
        loop {
            if !self.buffer.is_empty() {
                return Ok(self.deliver(max));
            }
            if let Some(fetching) = &mut self.fetching {
                let fetched = fetching.await;
                self.fetching = None;
                let (reader, fetched) = fetched.map_err(|_| SubscribeErrorKind::Closed)?;
                self.reader = Some(reader);
                let unavailable = |source: rusqlite::Error| SubscribeError {
                    kind: SubscribeErrorKind::Unavailable,
                    source: Some(source.into()),
                };
                self.buffer.extend(fetched.map_err(unavailable)?);
                continue;
            }
            if *self.finished.borrow() {
                return Err(SubscribeErrorKind::Closed.into());
            }
            let wait = match self.due() {
                Ok(()) => {
                    let (session, last) = (Arc::clone(&self.lease.0), *self.committed.borrow());
                    let reader = self.reader.take().ok_or(SubscribeErrorKind::Closed)?;
                    let now = Instant::now();
                    let look = self.look_at <= now;
                    if look {
                        self.look_at = now + LOOK_EVERY;
                    }
                    let wanted = Wanted { last, max, look };
                    self.fetching = Some(tokio::task::spawn_blocking(move || {
                        let fetched = fetch(&reader, &session, wanted);
                        (reader, fetched)
                    }));
                    continue;
                }
                Err(wait) => wait,
            };
            // Whichever it is, the loop looks anew. A millisecond is what the clock of the retries counts in.
            tokio::select! {
                _ = self.committed.changed() => {}
                _ = self.given.changed() => self.lease.0.lock().redelivered.look(),
                _ = self.finished.changed() => {}
                () = self.lease.0.wake.notified() => {}
                () = tokio::time::sleep(wait.max(Duration::from_millis(1))) => {}
            }
        }
    }
}

/// The way back for one delivery.
struct JournalSettler {
    session: Arc<Session>,
    item: Item,
    sequence: u64,
    attempt: u32,
    /// A settlement that was sent and not answered.
    sent: Option<oneshot::Receiver<Result<(), Fault<SettleErrorKind>>>>,
}

impl JournalSettler {
    /// Has a settlement wait for the writer. Fails once the journal is closed.
    fn send(&mut self, settlement: &Settlement) -> Result<(), SettleError> {
        let due_at = if let Settlement::Retry { after, .. } = settlement { clock::after_ms(*after) } else { 0 };
        let (done, answer) = oneshot::channel();
        let request = SettleRequest {
            session: Arc::clone(&self.session),
            item: self.item,
            sequence: self.sequence,
            attempt: self.attempt,
            settlement: settlement.clone(),
            due_at,
            done,
        };
        self.session.queue.announce(Request::Settle(request)).map_err(|_| SettleErrorKind::Unavailable)?;
        self.sent = Some(answer);
        Ok(())
    }
}

#[async_trait]
impl Settler for JournalSettler {
    async fn settle(&mut self, settlement: &Settlement) -> Result<(), SettleError> {
        if *settlement == Settlement::HandBack {
            self.session.hand_back(self.item, self.sequence, self.attempt);
            return Ok(());
        }
        if self.sent.is_none() {
            self.send(settlement)?;
        }
        self.session.queue.hurry();
        let Some(answer) = &mut self.sent else { return Err(SettleErrorKind::Unavailable.into()) };
        let answer = answer.await;
        self.sent = None;
        match answer {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fault)) => Err(SettleError { kind: fault.kind, source: fault.source() }),
            Err(_) => Err(SettleErrorKind::Unavailable.into()),
        }
    }

    fn announce(&mut self, settlement: &Settlement) {
        if *settlement != Settlement::HandBack && self.sent.is_none() {
            // A journal that is closed says so when it is settled.
            let _ = self.send(settlement);
        }
    }

    fn hand_back(&mut self) {
        if let Some(mut answer) = self.sent.take() {
            // The settlement is the writer's: it stands, or the writer hands the delivery back, unless it has
            // told us already that it failed.
            self.session.queue.hurry();
            answer.close();
            match answer.try_recv() {
                Ok(Err(_)) => {}
                Ok(Ok(())) | Err(_) => return,
            }
        }
        self.session.hand_back(self.item, self.sequence, self.attempt);
    }
}
