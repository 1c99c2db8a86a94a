//! One pass over the backlog: events on their way to the stream, until something goes wrong.

mod batch;
mod watch;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::Span;
use upcall_bus::{PublishError, PublishErrorKind};
use upcall_bus_journal::RawEvent;
use upcall_bus_nats::{Ack, Link, Outbox};
use upcall_event::EventId;
use upcall_telemetry::error_chain;

use batch::outgoing;

use crate::aside;
use crate::doubt::{Advice, Moment};
use crate::relay::End;
use crate::worker::{TICK, Worker, asked, blocking};

/// How many events may be under way that may be in the stream already: a slow server has to get to each of them before
/// it forgets the id.
const IN_DOUBT_MAX: usize = 512;
/// How many bytes of events may be under way: the connection holds them while the server does not take them.
const OUTSTANDING_BYTES_MAX: usize = 16 << 20;
/// How often it is looked for answers and for new events while some are under way. Both come in small groups, and to
/// wake for each of them costs more than what is done then; 97,500 events a second need some 500 under way.
const BEAT: Duration = Duration::from_millis(5);
/// How long acknowledgements are waited for at the end.
const STOP_TIME: Duration = Duration::from_secs(1);

/// Events on their way to the stream.
struct Pipeline {
    outbox: Outbox,
    /// Sent and not yet behind the last contiguous acknowledgement, in order. The first has the number `base`.
    sent: VecDeque<Sent>,
    base: u64,
    /// What those that were sent have in bytes.
    sent_bytes: usize,
    /// Read and not yet sent.
    ready: VecDeque<RawEvent>,
    /// The last event that was read.
    read: u64,
    /// When the last answer came.
    heard: Instant,
    /// The sequence that the stream has given out last, of those that are settled.
    given_out: u64,
    verifying: Option<JoinHandle<watch::Verified>>,
    verified: Instant,
    closed: Instant,
    offering: Option<JoinHandle<()>>,
    offered: Instant,
    /// Which connection this is.
    generation: u64,
    /// When it was asked to stop.
    stopping: Option<Instant>,
}

struct Sent {
    journal: u64,
    id: EventId,
    stored_at_ms: i64,
    bytes: usize,
    at: Instant,
    /// How many events the answer is for: this one and those before it, of one batch.
    batch: usize,
    /// Once it is answered: whether the stream did not have it before.
    fresh: bool,
    /// Once it is answered: where the stream holds it, `None` if it was set aside.
    answer: Option<Option<u64>>,
    /// What is recorded of its way, until it is answered.
    span: Span,
    /// The last of the events directly behind it that need not be sent, and where the stream holds that.
    then: Option<(u64, Option<u64>, EventId)>,
}

impl Worker {
    /// Relays until it is stopped or something goes wrong.
    pub(crate) async fn pass(&mut self) -> End {
        let mut link = self.bus.link();
        let begun = self.begin(&mut link).await;
        let (outbox, generation) = match begun {
            Ok(begun) => begun,
            Err(end) => return end,
        };
        let now = Instant::now();
        let offering = Some(tokio::spawn(aside::offer(self.aside.clone(), self.bus.clone())));
        let mut pipeline = Pipeline {
            outbox,
            sent: VecDeque::new(),
            base: 0,
            sent_bytes: 0,
            ready: VecDeque::new(),
            read: self.acked,
            heard: now,
            given_out: self.stream_last,
            verifying: None,
            verified: now,
            closed: now,
            offering,
            offered: now,
            generation,
            stopping: None,
        };
        match pipeline.run(self, &mut link).await {
            Ok(()) => End::Stopped,
            Err(end) => end,
        }
    }

    /// Waits for a connection, and compares what the stream holds with what it has acknowledged. That it answers also
    /// means that nothing which was sent before is still on its way.
    async fn begin(&mut self, link: &mut Receiver<Link>) -> Result<(Outbox, u64), End> {
        if !self.bus.is_connected() {
            self.failed(&self.bus.why_disconnected()).await;
        }
        let mut connection = link.clone();
        let connected = async move { connection.wait_for(|link| link.connected).await.map(|link| link.generation) };
        let generation = self.wait(connected).await?.map_err(|_| End::Failed("the bus is closed".to_owned()))?;
        let bus = self.bus.clone();
        // Whoever looks after the streams may be about to make them.
        let looked = bus.clone();
        self.wait(async move { looked.first_look().await }).await?;
        let state = self.wait(async move { bus.stream_state().await }).await?;
        let state = state.map_err(|error| End::Failed(error_chain(&error)))?;
        self.compare(state).await?;
        let outbox = self.bus.outbox().await.map_err(|error| End::Failed(error_chain(&error)))?;
        Ok((outbox, generation))
    }
}

impl Sent {
    fn new(event: &RawEvent, span: Span) -> Self {
        let RawEvent { sequence: journal, id, stored_at_ms, .. } = *event;
        let (at, bytes) = (Instant::now(), event.payload.len());
        Self { journal, id, stored_at_ms, bytes, at, batch: 1, fresh: false, answer: None, span, then: None }
    }
}

impl Pipeline {
    async fn run(&mut self, worker: &mut Worker, link: &mut Receiver<Link>) -> Result<(), End> {
        let mut stopped = worker.stopped.clone();
        let mut tick = tokio::time::interval(TICK);
        loop {
            while let Some(answer) = self.outbox.answer().now_or_never() {
                self.answered(worker, answer.ok_or("the bus is closed")?).await?;
            }
            self.settle(worker)?;
            let (connected, is_same) = {
                let link = link.borrow_and_update();
                (link.connected, link.generation == self.generation)
            };
            if !connected || !is_same {
                return Err("the connection to NATS was interrupted".into());
            }
            if let Some(since) = self.stopping {
                if self.sent.is_empty() || since.elapsed() > STOP_TIME {
                    return Ok(());
                }
            } else if self.has_room(worker) {
                tokio::select! {
                    filled = self.fill(worker) => filled?,
                    () = asked(&mut stopped) => return Ok(()),
                }
            }
            let is_idle = self.sent.is_empty() && self.ready.is_empty();
            tokio::select! {
                () = sleep(BEAT), if !is_idle => {}
                () = worker.backlog.grown(self.read), if is_idle => {
                    if worker.backlog.last() <= self.read {
                        return Err("the journal is closed".into());
                    }
                }
                _ = tick.tick() => self.tick(worker).await?,
                changed = link.changed() => changed.map_err(|_| "the bus is closed")?,
                () = asked(&mut stopped), if self.stopping.is_none() => {
                    self.stopping = Some(Instant::now());
                }
            }
        }
    }

    /// Whether some more may be sent: not one at a time while many are under way.
    fn has_room(&self, worker: &Worker) -> bool {
        let max = worker.options.outstanding_max.max(1);
        self.sent.len() <= max - max.div_ceil(8) && self.sent_bytes < OUTSTANDING_BYTES_MAX
    }

    /// How many events may be under way, with the next one.
    fn limit(&self, worker: &Worker) -> usize {
        let max = worker.options.outstanding_max.max(1);
        let is_in_doubt = |event: &RawEvent| worker.options.spilled || event.sequence <= worker.doubt.tried();
        if self.ready.front().is_some_and(is_in_doubt) { max.min(IN_DOUBT_MAX) } else { max }
    }

    /// Sends what there is, as much as may be under way.
    async fn fill(&mut self, worker: &mut Worker) -> Result<(), End> {
        let mut now = Moment::now();
        while self.sent.len() < self.limit(worker) && self.sent_bytes < OUTSTANDING_BYTES_MAX {
            let Some(event) = self.ready.front() else {
                if worker.backlog.last() <= self.read {
                    worker.pace.starve();
                    break;
                }
                let events = worker.read(self.read).await?;
                let Some(last) = events.last() else { break };
                self.read = last.sequence;
                self.ready.extend(events);
                continue;
            };
            match worker.doubt.advise(event, worker.recognised, now) {
                Advice::Look => {
                    worker.look(event).await?;
                    now = Moment::now();
                }
                Advice::Skip(stream) => {
                    let (journal, id) = (event.sequence, event.id);
                    self.ready.pop_front();
                    self.pass_over(worker, journal, Some(stream), id);
                }
                Advice::Send if self.is_for_batches(worker) => self.send_batch(worker, now).await?,
                Advice::Send => {
                    worker.claim(event.sequence).await?;
                    worker.doubt.sending(event.sequence, worker.stream_last, now);
                    if let Some(event) = self.ready.pop_front() {
                        self.send(worker, event).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, worker: &mut Worker, event: RawEvent) -> Result<(), End> {
        let outgoing = match outgoing(&event) {
            Ok(outgoing) => outgoing,
            Err(why) => return self.set_aside(worker, event, why).await,
        };
        let span = batch::span(&outgoing);
        match self.outbox.send(outgoing).await {
            Ok(_) => {
                self.is_sent(Sent::new(&event, span));
                Ok(())
            }
            Err(error) if !error.kind.is_retryable() => self.set_aside(worker, event, error_chain(&error)).await,
            Err(error) => Err(error_chain(&error).into()),
        }
    }

    fn is_sent(&mut self, sent: Sent) {
        self.sent_bytes += sent.bytes;
        self.sent.push_back(sent);
    }

    /// Sets an event aside before it was sent.
    async fn set_aside(&mut self, worker: &mut Worker, event: RawEvent, why: String) -> Result<(), End> {
        let (journal, id) = (event.sequence, event.id);
        keep(worker, event, why).await?;
        self.pass_over(worker, journal, None, id);
        Ok(())
    }

    /// Counts an event as acknowledged as soon as those before it are.
    fn pass_over(&mut self, worker: &mut Worker, journal: u64, stream: Option<u64>, id: EventId) {
        match self.sent.back_mut() {
            Some(last) => last.then = Some((journal, stream, id)),
            None => worker.acknowledged(journal, stream, id),
        }
    }

    async fn answered(
        &mut self,
        worker: &mut Worker,
        (number, answer): (u64, Result<Ack, PublishError>),
    ) -> Result<(), End> {
        self.heard = Instant::now();
        let index = number.checked_sub(self.base).and_then(|index| usize::try_from(index).ok());
        let Some(sent) = index.and_then(|index| self.sent.get_mut(index)) else { return Ok(()) };
        match answer {
            Ok(ack) => {
                worker.stream_last = worker.stream_last.max(ack.sequence);
                let (index, batch) = (index.unwrap_or_default(), sent.batch);
                for (back, sent) in self.sent.range_mut(..=index).rev().take(batch).enumerate() {
                    sent.answer = Some(Some(ack.sequence.saturating_sub(back as u64)));
                    sent.span = Span::none();
                    sent.fresh = !ack.duplicate;
                }
            }
            Err(error) if sent.batch > 1 => {
                // Until then they go alone: the stream knows one of them.
                worker.alone_up_to = worker.doubt.tried();
                if error.kind != PublishErrorKind::Busy {
                    worker.pace.refused(Instant::now());
                }
                return Err(End::Again(format!("a batch is not taken: {}", error_chain(&error))));
            }
            Err(error) => {
                let journal = sent.journal;
                if ![PublishErrorKind::Rejected, PublishErrorKind::Unavailable].contains(&error.kind) {
                    return Err(error_chain(&error).into());
                }
                let event = worker.backlog.read(journal - 1, 1).await.map_err(|error| error_chain(&error))?;
                let event = event.into_iter().find(|event| event.sequence == journal);
                let event = event.ok_or("an event that was sent is not in the journal any more")?;
                let why = match error.kind {
                    PublishErrorKind::Rejected => error_chain(&error),
                    _ => worker.uncaptured(&event.subject).ok_or_else(|| error_chain(&error))?,
                };
                keep(worker, event, why).await?;
                sent.answer = Some(None);
            }
        }
        Ok(())
    }

    /// Moves on behind what the stream has acknowledged without a gap.
    fn settle(&mut self, worker: &mut Worker) -> Result<(), End> {
        while let Some(Sent { journal, id, bytes, fresh, answer: Some(stream), then, .. }) = self.sent.front() {
            if let Some(sequence) = stream.filter(|_| *fresh) {
                if sequence <= self.given_out {
                    let why = format!("the stream had given out {}, and gives out {sequence} again", self.given_out);
                    worker.lost(&why);
                    return Err(End::Again(why));
                }
                self.given_out = sequence;
                worker.status.resent += u64::from(*journal <= worker.lost_up_to);
            }
            worker.acknowledged(*journal, *stream, *id);
            if let Some((journal, stream, id)) = then {
                worker.acknowledged(*journal, *stream, *id);
            }
            self.sent_bytes -= bytes;
            self.sent.pop_front();
            self.base += 1;
        }
        Ok(())
    }
}

async fn keep(worker: &mut Worker, event: RawEvent, why: String) -> Result<(), End> {
    worker.say_set_aside(&event, &why);
    let aside = worker.aside.clone();
    let kept = blocking(move || aside.put(event, why)).await;
    Ok(kept.map_err(|error| format!("an event that NATS does not take can't be set aside: {error}"))?)
}
