//! What a relay knows between its passes over the backlog.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{error, warn};
use upcall_bus_journal::{Backlog, RawEvent};
use upcall_bus_nats::{NatsBus, StreamState, covers};
use upcall_event::EventId;
use upcall_telemetry::error_chain;

use crate::aside::{Aside, request_id};
use crate::checkpoint::{Checkpoint, Ledger};
use crate::doubt::{Doubt, Moment};
use crate::memory::{Memory, Store};
use crate::pace::Pace;
use crate::relay::End;
use crate::{Options, RelayHandle, RelayStatus};

/// How far ahead it is written down that events were sent: every few seconds at the highest rate, since that is synced.
const CLAIM: u64 = 262_144;
/// How many events are read from the journal at a time.
const READ_MAX: usize = 8_192;
/// How often the status is told while there is something to wait for.
pub(crate) const TICK: Duration = Duration::from_millis(250);
/// How often is said that events are set aside.
const SAY_EVERY: Duration = Duration::from_secs(10);

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
    /// The newest event that was ever acknowledged.
    acked_ever: u64,
    /// What is known about `acked`: where the stream has it, and which event it is.
    pub(crate) newest: Option<(Checkpoint, EventId)>,
    /// How many events were missing in the midst of the stream, and on which connection that was asked.
    pub(crate) deleted: Option<(u64, u64)>,
    /// What the stream was last found to hold.
    pub(crate) held: Option<Checkpoint>,
    pub(crate) pace: Pace,
    /// Events up to this one go in no batch.
    pub(crate) alone_up_to: u64,
    /// When it was last said that an event is set aside.
    said_set_aside: Option<Instant>,
}

impl Worker {
    pub(crate) async fn new(
        backlog: Backlog,
        bus: NatsBus,
        options: Options,
        handle: RelayHandle,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let store = Store::new(&options.folder);
        let folder = options.folder.clone();
        let aside = blocking(move || Ok(Aside::open(&folder))).await.unwrap_or_else(|_| Aside::none(&options.folder));
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
            newest: None,
            deleted: None,
            held: None,
            pace: Pace::new(Instant::now()),
            alone_up_to: 0,
            said_set_aside: None,
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
        let acked = memory.acked.filter(|acked| (floor.max(1)..=last).contains(&acked.journal));
        let event = match acked {
            Some(acked) => self.backlog.read(acked.journal - 1, 1).await.unwrap_or_default().pop(),
            None => None,
        };
        match acked.zip(event) {
            Some((acked, event)) if event.sequence == acked.journal && Some(event.id) == memory.event => {
                // What is stored from now on was sent by nobody.
                let sent = memory.sent_up_to.min(last);
                self.doubt.suspect(sent);
                if let Some(after) = memory.after {
                    self.doubt.remember(acked.journal + 1, sent, after);
                }
                if acked.journal > floor {
                    self.ledger.note(acked, Instant::now());
                }
                (self.acked, self.acked_ever) = (acked.journal, acked.journal);
                self.newest = Some((acked, event.id));
                self.saved = memory;
            }
            // It says nothing about this journal, or is too old.
            _ => self.doubt.suspect(last),
        }
    }

    /// Takes note that the stream has acknowledged all events up to one of the journal, which it holds at a sequence.
    pub(crate) fn acknowledged(&mut self, journal: u64, stream: Option<u64>, event: EventId) {
        let Some(state) = &self.stream else { return };
        let checkpoint = match (stream, self.newest) {
            (Some(stream), _) => Checkpoint { journal, stream, id: event, created: state.created },
            // Not in the stream, but the one before is.
            (None, Some((previous, _))) => Checkpoint { journal, ..previous },
            (None, None) => Checkpoint { journal, stream: 0, id: event, created: state.created },
        };
        self.ledger.note(checkpoint, Instant::now());
        (self.acked, self.newest) = (journal, Some((checkpoint, event)));
        self.status.relayed += journal.saturating_sub(self.acked_ever);
        self.acked_ever = self.acked_ever.max(journal);
        self.doubt.acknowledged(journal);
        self.status.fault = None;
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
            acked: self.newest.map(|(checkpoint, _)| checkpoint),
            event: self.newest.map(|(_, event)| event),
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

    /// Tells how it is going.
    pub(crate) fn report(&mut self, oldest_ms: Option<i64>) {
        self.status.connected = self.bus.is_connected();
        self.status.set_aside = self.aside.events();
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
                () = asked(&mut stopped) => return Err(End::Stopped),
                done = &mut for_what => return Ok(done),
                _ = tick.tick() => {
                    if !self.bus.is_connected() {
                        // What is wrong becomes known while it is waited for.
                        self.status.fault = Some(self.bus.why_disconnected());
                    }
                    let first = self.backlog.read(self.acked, 1).await.ok();
                    self.report(first.and_then(|events| events.first().map(|event| event.stored_at_ms)));
                }
            }
        }
    }

    /// Why an event can't go on this subject: the stream does not capture it. `None` where it does.
    pub(crate) fn uncaptured(&self, subject: &str) -> Option<String> {
        let captured = &self.stream.as_ref()?.subjects;
        let is_captured = captured.iter().any(|filter| covers(filter, subject));
        (!is_captured).then(|| {
            let (stream, captured) = (self.bus.names().uploads(), captured.join(", "));
            format!("the stream {stream} captures {captured}, and not the subject {subject}: add it to the stream")
        })
    }

    /// Says that an event is set aside: not each time where there are many.
    pub(crate) fn say_set_aside(&mut self, event: &RawEvent, why: &str) {
        if self.said_set_aside.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            self.said_set_aside = Some(Instant::now());
            let (id, sequence, before) = (event.id, event.sequence, self.aside.events());
            let request_id = request_id(&event.payload);
            warn!(event = %id, request_id, sequence, before, "NATS does not take an event, which is set aside and offered again: {why}");
        }
    }

    /// Writes down how far it came.
    pub(crate) async fn finish(&mut self) {
        if let Err(why) = self.note_progress().await {
            error!("{why}");
        }
        self.report(None);
    }

    pub(crate) fn generation(&self) -> u64 {
        self.bus.link().borrow().generation
    }
}

/// Returns once the relay is asked to stop.
pub(crate) async fn asked(stopped: &mut watch::Receiver<bool>) {
    // Nobody is left to ask only where the relay's own future is gone.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Runs what reads or writes files.
pub(crate) async fn blocking<T: Send + 'static>(
    what: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(what).await.map_err(std::io::Error::other)?
}
