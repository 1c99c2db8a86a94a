//! What a relay knows between its passes over the backlog.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tracing::{error, info};
use upcall_bus::{Archive, error_chain};
use upcall_bus_journal::{Backlog, RawEvent};
use upcall_bus_nats::{NatsBus, StreamState};

use crate::aside::Aside;
use crate::checkpoint::{Checkpoint, Ledger, Verdict, verify};
use crate::doubt::{Doubt, From, Moment};
use crate::memory::{Memory, Store};
use crate::relay::End;
use crate::{Options, RelayHandle, RelayStatus};

/// How many ids a look has in memory: some 10 MB.
const LOOK_MAX: usize = 262_144;
/// How far ahead it is written down that events were sent: every few seconds at the highest rate, since that is synced.
const CLAIM: u64 = 262_144;
/// How many events are read from the journal at a time.
const READ_MAX: usize = 8_192;
/// How often the status is told while there is something to wait for.
pub(crate) const TICK: Duration = Duration::from_millis(250);

pub(crate) struct Worker {
    pub(crate) backlog: Backlog,
    pub(crate) bus: NatsBus,
    pub(crate) options: Options,
    pub(crate) ledger: Ledger,
    pub(crate) doubt: Doubt,
    pub(crate) status: RelayStatus,
    pub(crate) stopped: watch::Receiver<bool>,
    pub(crate) aside: Aside,
    /// The stream has acknowledged all events up to this one.
    pub(crate) acked: u64,
    /// The newest event that was acknowledged before the stream lost some.
    pub(crate) lost_up_to: u64,
    /// The newest sequence that the stream is known to have given out.
    pub(crate) stream_last: u64,
    /// How long the stream recognises an id for sure.
    pub(crate) recognised: Duration,
    pub(crate) stream: Option<StreamState>,
    handle: RelayHandle,
    store: Store,
    saved: Memory,
    /// What was remembered is to be compared with the stream before it is relied on.
    acked_ever: u64,
    deleted: Option<(u64, u64)>,
}

impl Worker {
    pub(crate) async fn new(
        backlog: Backlog,
        bus: NatsBus,
        options: Options,
        handle: RelayHandle,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let (store, aside) = (Store::new(&options.folder), Aside::new(&options.folder));
        let (floor, last) = (backlog.floor(), backlog.last());
        let mut worker = Self {
            ledger: Ledger::default(),
            doubt: Doubt::new(options.spilled),
            status: RelayStatus::default(),
            aside,
            acked: floor,
            lost_up_to: 0,
            stream_last: 0,
            recognised: Duration::ZERO,
            stream: None,
            saved: Memory::default(),
            acked_ever: floor,
            deleted: None,
            backlog,
            bus,
            options,
            stopped,
            handle,
            store,
        };
        let store = worker.store.clone();
        match blocking(move || Ok(store.load())).await.ok().flatten() {
            Some(memory) => worker.remember(memory).await,
            // Nobody knows what was sent.
            None => worker.doubt.suspect(last),
        }
        worker
    }

    /// Grows with each event that the stream acknowledges for the first time.
    pub(crate) fn progress(&self) -> u64 {
        self.acked_ever
    }

    /// Goes on where an earlier life was, if what it has written down belongs to this journal.
    async fn remember(&mut self, memory: Memory) {
        let (floor, last) = (self.backlog.floor(), self.backlog.last());
        let mut acked = memory.acked.filter(|acked| (floor..=last).contains(&acked.journal));
        if let Some(at) = acked.filter(|at| at.stream != 0) {
            let event = self.backlog.read(at.journal.saturating_sub(1), 1).await.unwrap_or_default();
            acked = acked.filter(|_| event.first().is_some_and(|event| event.sequence == at.journal));
        }
        match acked {
            Some(acked) => {
                // What is stored from now on was sent by nobody.
                let sent = memory.sent_up_to.min(last);
                self.doubt.suspect(sent);
                if let Some(after) = memory.after {
                    self.doubt.remember(acked.journal + 1, sent, after);
                }
                self.ledger.note(acked, Instant::now());
                (self.acked, self.acked_ever) = (acked.journal, acked.journal);
                self.saved = memory;
            }
            None => self.doubt.suspect(last),
        }
    }

    /// Takes note that the stream has acknowledged all events up to one of the journal, which it holds at a sequence.
    pub(crate) fn acknowledged(&mut self, journal: u64, stream: Option<u64>, event: upcall_event::EventId) {
        let Some(state) = &self.stream else { return };
        let previous = self.ledger.newest().filter(|_| stream.is_none());
        let checkpoint = match (stream, previous) {
            (Some(stream), _) => Checkpoint { journal, stream, id: event, created: state.created },
            // Not in the stream, but the one before is.
            (None, Some(previous)) => Checkpoint { journal, ..previous },
            (None, None) => Checkpoint { journal, stream: 0, id: event, created: state.created },
        };
        self.ledger.note(checkpoint, Instant::now());
        self.acked = journal;
        self.status.relayed += journal.saturating_sub(self.acked_ever);
        self.acked_ever = self.acked_ever.max(journal);
        self.doubt.acknowledged(journal);
        self.status.fault = None;
    }

    /// Compares the newest acknowledgement with what the stream holds, and goes back to the floor if that is less.
    pub(crate) async fn compare(&mut self, state: StreamState) -> Result<(), String> {
        if let Some(newest) = self.ledger.newest() {
            let verdict = verify(&self.bus, &newest).await.map_err(|error| error_chain(&error))?;
            let holes = self.deleted.map_or(0, |(_, deleted)| state.deleted.saturating_sub(deleted));
            if let Verdict::Lost(why) = verdict {
                self.lost(&why);
            } else if holes > 0 && self.deleted.is_some_and(|(generation, _)| generation != self.generation()) {
                self.lost(&format!("{holes} events in the midst of the stream are not there any more"));
            }
        }
        self.deleted = Some((self.generation(), state.deleted));
        self.recognised = state.duplicate_window - state.duplicate_window / 4;
        self.stream_last = state.last;
        self.stream = Some(state);
        Ok(())
    }

    /// The server has come back with less than it had acknowledged: all that the journal holds is to be sent again.
    pub(crate) fn lost(&mut self, why: &str) {
        let floor = self.backlog.floor();
        error!(
            events = self.acked - floor,
            "NATS has lost events that it had acknowledged; they are sent again from the journal: {why}"
        );
        self.lost_up_to = self.lost_up_to.max(self.acked);
        self.status.losses += 1;
        self.ledger.clear();
        self.doubt.lost();
        self.acked = floor;
    }

    /// Lets what the stream has held for long enough leave the journal.
    pub(crate) async fn release(&mut self, up_to: u64) -> Result<(), String> {
        self.backlog.release(up_to).await.map_err(|error| error_chain(&error))?;
        self.ledger.release(up_to);
        self.doubt.release(up_to);
        Ok(())
    }

    /// Writes down that events up to this one may be sent, durably, before they are.
    pub(crate) async fn claim(&mut self, journal: u64) -> Result<(), String> {
        if self.options.spilled || journal <= self.saved.sent_up_to {
            return Ok(());
        }
        let memory = Memory { sent_up_to: journal + CLAIM, ..self.memory() };
        self.save(memory, true).await
    }

    /// Writes down how far the stream has acknowledged.
    pub(crate) async fn note_progress(&mut self) -> Result<(), String> {
        let memory = self.memory();
        if memory.acked == self.saved.acked { Ok(()) } else { self.save(memory, false).await }
    }

    fn memory(&self) -> Memory {
        let unsent = || (self.doubt.tried() <= self.acked).then(|| (self.stream_last, Moment::now().wall_ms()));
        Memory {
            acked: self.ledger.newest(),
            sent_up_to: self.saved.sent_up_to.max(self.doubt.tried()),
            after: self.doubt.known_after(self.acked).or_else(unsent),
        }
    }

    async fn save(&mut self, memory: Memory, durable: bool) -> Result<(), String> {
        let (store, written) = (self.store.clone(), memory.clone());
        let saved = blocking(move || store.save(&written, durable)).await;
        saved.map_err(|error| format!("the relay can't write down how far it is: {error}"))?;
        self.saved = memory;
        Ok(())
    }

    /// Reads the next events of the journal.
    pub(crate) async fn read(&mut self, after: u64) -> Result<Vec<RawEvent>, String> {
        self.backlog.read(after, READ_MAX).await.map_err(|error| error_chain(&error))
    }

    /// Finds out which of the events from `first` on are in the stream, as many as memory allows.
    pub(crate) async fn look(&mut self, first: &RawEvent) -> Result<(), String> {
        let since = Moment::now();
        let (event, first) = (first, first.sequence);
        let end = if self.options.spilled { self.backlog.last() } else { self.doubt.tried() };
        let (mut wanted, mut last) = (HashMap::new(), first.saturating_sub(1));
        while last < end && wanted.len() < LOOK_MAX {
            let events = self.read(last).await?;
            let Some(newest) = events.last() else { break };
            last = newest.sequence;
            wanted.extend(events.iter().filter(|event| event.sequence <= end).map(|event| (event.id, event.sequence)));
        }
        let last = last.min(end).max(first);
        let asked = wanted.len();
        let after = match self.doubt.earliest(event, last) {
            From::Sequence(after) => after,
            From::Time(moment) => {
                let behind = self.stream.as_ref().map_or(SignedDuration::ZERO, |state| clock_ahead(state.now));
                let moment = moment.checked_sub(behind).unwrap_or(moment);
                self.bus.sequence_before(moment).await.map_err(|error| error_chain(&error))?
            }
        };
        let mut scan = self.bus.scan_ids(after).await.map_err(|error| error_chain(&error))?;
        let mut found = BTreeMap::new();
        while !wanted.is_empty() {
            let Some((stream, id)) = scan.next().await.map_err(|error| error_chain(&error))? else { break };
            if let Some(journal) = id.and_then(|id| wanted.remove(&id)) {
                found.insert(journal, stream);
            }
        }
        info!(events = asked, found = found.len(), after, "looked in the stream for events that may be there already");
        self.doubt.looked(first, last, found, scan.last(), since);
        Ok(())
    }

    /// Tells how it is going.
    pub(crate) fn report(&mut self, oldest_ms: Option<i64>) {
        self.status.connected = self.bus.is_connected();
        self.status.backlog = self.backlog.last().saturating_sub(self.acked);
        self.status.unconfirmed = self.acked.saturating_sub(self.backlog.floor());
        let oldest_ms = oldest_ms.filter(|_| self.status.backlog > 0);
        self.handle.report(&self.status, oldest_ms);
    }

    /// Takes note of why events do not flow.
    pub(crate) async fn failed(&mut self, why: &str) {
        self.status.fault = Some(why.to_owned());
        let oldest =
            self.backlog.read(self.acked, 1).await.ok().and_then(|events| events.first().map(|e| e.stored_at_ms));
        self.report(oldest);
    }

    /// Waits for something, for as long as it is not stopped, and goes on telling how it is going.
    pub(crate) async fn wait<T>(&mut self, for_what: impl Future<Output = T> + Send) -> Result<T, End> {
        let mut stopped = self.stopped.clone();
        let mut tick = tokio::time::interval(TICK);
        tokio::pin!(for_what);
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return Err(End::Stopped),
                done = &mut for_what => return Ok(done),
                _ = tick.tick() => {
                    let first = self.backlog.read(self.acked, 1).await.ok();
                    self.report(first.and_then(|events| events.first().map(|event| event.stored_at_ms)));
                }
            }
        }
    }

    /// Writes down how far it came.
    pub(crate) async fn finish(&mut self) {
        if let Err(why) = self.note_progress().await {
            error!("{why}");
        }
        self.report(None);
    }

    fn generation(&self) -> u64 {
        self.bus.link().borrow().generation
    }
}

/// How far our clock is ahead of the server's; nothing where it is behind.
fn clock_ahead(server: Timestamp) -> SignedDuration {
    Timestamp::now().duration_since(server).max(SignedDuration::ZERO)
}

/// Runs what reads or writes files.
pub(crate) async fn blocking<T: Send + 'static>(
    what: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(what).await.map_err(std::io::Error::other)?
}
