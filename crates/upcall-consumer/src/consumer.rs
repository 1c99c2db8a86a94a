//! The consumer: reads the bus, keeps batches under way, waits out outages, and drains.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use upcall_bus::{Bus, Delivery, SubscribeError, SubscribeErrorKind, Subscription};

use crate::batch::{Judged, Report, Work};
use crate::path::Path;
use crate::queue::Queue;
use crate::settle::Taken;
use crate::stats::{Ending, not_taken};
use crate::target::{Change, Target};
use crate::{Options, Sink, State, Stats};

/// How long batches that were told to stop may take to do so: they stop at their next wait.
const ABORT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a sink may take to let go of its target.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A consumer: what it reads, and the sink that it feeds.
pub struct Consumer {
    bus: Arc<dyn Bus>,
    work: Arc<Work>,
}

impl Consumer {
    /// Puts a consumer together. Nothing happens before [`Consumer::run`].
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>, sink: Arc<dyn Sink>, options: Options) -> Self {
        Self { bus, work: Arc::new(Work { sink, options, stats: Stats::default() }) }
    }

    /// A handle to the consumer's numbers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.work.stats.clone()
    }

    /// Feeds the sink until `shutdown` is ready; then stops reading, lets batches under way finish within the drain
    /// timeout, hands the rest back, and closes the sink.
    ///
    /// # Errors
    /// When somebody else reads this consumer, or the bus is closed for good. Whatever passes is waited out. The
    /// consumer has drained in either case.
    ///
    /// # Cancel safety
    /// Dropping the future drops the batches under way: the bus delivers their events again.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), SubscribeError> {
        let mut ending = Ending::new(self.stats());
        let mut run = Run::new(self);
        let result = {
            let mut shutdown = pin!(shutdown);
            tokio::select! {
                biased;
                () = &mut shutdown => Ok(()),
                result = run.work() => result,
            }
        };
        run.drain().await;
        ending.ended(result.as_ref().err().map(|error| upcall_telemetry::error_chain(error)));
        result
    }
}

/// A consumer at work.
struct Run {
    bus: Arc<dyn Bus>,
    work: Arc<Work>,
    subscription: Option<Box<dyn Subscription>>,
    /// Taken off the bus, not yet in a batch.
    queue: Queue,
    /// At the sink, each with the phase of the target that it began in.
    batches: JoinSet<(u64, Judged)>,
    /// Batches that are done and of which the bus is being told. They hold up none at the sink: the bus writes down
    /// those of several at once.
    acknowledgements: JoinSet<Taken>,
    target: Target,
    /// Why the target is out of order, if it is.
    target_fault: Option<String>,
    reading: Path,
    settling: Path,
}

impl Run {
    fn new(consumer: Consumer) -> Self {
        Self {
            queue: Queue::new(consumer.work.sink.ordered_by_object()),
            bus: consumer.bus,
            work: consumer.work,
            subscription: None,
            batches: JoinSet::new(),
            acknowledgements: JoinSet::new(),
            target: Target::new(),
            target_fault: None,
            reading: Path::default(),
            settling: Path::default(),
        }
    }

    /// Feeds the sink until the bus is closed. May be dropped at any wait: what is needed to drain is in `self`.
    async fn work(&mut self) -> Result<(), SubscribeError> {
        // The subscription comes first: a new consumer's events count from here, whether the target is up or not.
        self.subscribe().await?;
        loop {
            self.prepare().await;
            self.flow().await?;
        }
    }

    async fn subscribe(&mut self) -> Result<(), SubscribeError> {
        while self.subscription.is_none() {
            match self.bus.subscribe(&self.work.options.spec).await {
                Ok(subscription) => {
                    self.subscription = Some(subscription);
                    self.is_read();
                }
                Err(error) => {
                    self.is_not_read(error)?;
                    self.reading.paused().await;
                }
            }
        }
        Ok(())
    }

    /// Waits until the target is ready to be delivered to. The bus is told meanwhile of what was under way and is done:
    /// it would be done again after a crash.
    async fn prepare(&mut self) {
        let work = Arc::clone(&self.work);
        while let Some(failures) = self.target.down() {
            let prepared = self.meanwhile(async {
                if failures > 0 {
                    sleep(work.options.outage_backoff.draw(failures)).await;
                }
                work.prepare().await
            });
            let prepared = prepared.await;
            let change = self.target.prepared(prepared.is_ok());
            self.note(change, prepared.err().as_deref());
        }
    }

    /// Takes note of batches and acknowledgements that end before something else does.
    async fn meanwhile<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = pin!(other);
        loop {
            tokio::select! {
                Some(joined) = self.batches.join_next_with_id() => self.finished(joined),
                Some(joined) = self.acknowledgements.join_next() => self.acknowledged(joined),
                done = &mut other => return done,
            }
        }
    }

    /// Reads and delivers until the target is down.
    async fn flow(&mut self) -> Result<(), SubscribeError> {
        let work = Arc::clone(&self.work);
        let options = &work.options;
        while self.target.down().is_none() {
            if self.settling.pause().is_none() {
                self.dispatch();
            }
            let due = self.queue.due_at(options);
            let room = self.queue.room(options);
            let is_left_alone = self.reading.pause().or(self.settling.pause()).is_some();
            let Some(subscription) = &mut self.subscription else { return Ok(()) };
            tokio::select! {
                Some(joined) = self.batches.join_next_with_id() => self.finished(joined),
                Some(joined) = self.acknowledgements.join_next() => self.acknowledged(joined),
                pulled = subscription.next(room.unwrap_or_default()), if room.is_some() && !is_left_alone => match pulled {
                    Ok(deliveries) => {
                        let (wanted, taken) = work.select(deliveries).await;
                        self.queue.extend(wanted);
                        self.is_read();
                        self.is_told(taken);
                    }
                    Err(error) => self.is_not_read(error)?,
                },
                () = self.reading.paused(), if self.reading.pause().is_some() => self.reading.resume(),
                () = self.settling.paused(), if self.settling.pause().is_some() => self.settling.resume(),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
        work.hand_back(self.queue.take_all()).await;
        Ok(())
    }

    fn slots(&self) -> usize {
        self.target.slots(self.work.options.concurrency.get())
    }

    /// Puts batches under way as long as there is a slot and something to deliver. As many as may be at the sink may
    /// be acknowledged meanwhile: what is done and not known to the bus is done again after a crash.
    fn dispatch(&mut self) {
        let options = &self.work.options;
        let under_way_max = options.concurrency.get().saturating_mul(2);
        while self.batches.len() < self.slots()
            && self.batches.len() + self.acknowledgements.len() < under_way_max
            && self.queue.is_due(options)
        {
            let Some((batch, objects)) = self.queue.next_batch(options) else { return };
            let (work, phase) = (self.work.clone(), self.target.phase());
            let task = self.batches.spawn(async move { (phase, work.process(batch).await) });
            self.queue.hold(task.id(), objects);
        }
    }

    fn finished(&mut self, joined: Result<(Id, (u64, Judged)), JoinError>) {
        match joined {
            Ok((id, (phase, Judged { report, taken, done }))) => {
                self.queue.release(id);
                let change = self.target.reported(phase, &report);
                let reason = match &report {
                    Report::Down(reason) => Some(reason.as_str()),
                    Report::Up => None,
                };
                self.note(change, reason);
                self.is_told(taken);
                self.acknowledge(done);
            }
            Err(error) => {
                self.queue.release(error.id());
                self.fell_over(&error);
            }
        }
    }

    fn acknowledge(&mut self, done: Vec<Delivery>) {
        if !done.is_empty() {
            let work = Arc::clone(&self.work);
            self.acknowledgements.spawn(async move { work.acknowledge(done).await });
        }
    }

    fn acknowledged(&mut self, joined: Result<Taken, JoinError>) {
        match joined {
            Ok(taken) => self.is_told(taken),
            Err(error) => self.fell_over(&error),
        }
    }

    /// A batch's deliveries went back to the bus when it fell.
    fn fell_over(&self, error: &JoinError) {
        tracing::error!(consumer = self.work.name(), %error, "a batch fell over; the bus will deliver it again");
    }

    /// Takes note of a failure to read the bus, which is left alone for a while.
    fn is_not_read(&mut self, error: SubscribeError) -> Result<(), SubscribeError> {
        match error.kind {
            SubscribeErrorKind::InUse | SubscribeErrorKind::Closed => return Err(error),
            SubscribeErrorKind::Unavailable => {}
        }
        let reason = upcall_telemetry::error_chain(&error);
        self.work.stats.failed(&reason);
        if self.reading.failed(reason.clone(), &self.work.options.outage_backoff) {
            tracing::warn!(consumer = self.work.name(), reason, "the bus is out of order");
        }
        self.show();
        Ok(())
    }

    fn is_read(&mut self) {
        if self.reading.succeeded() {
            tracing::info!(consumer = self.work.name(), "the bus is back");
            self.show();
        }
    }

    /// Takes note of whether the bus takes what became of events. Where it does not they come again: so it is left
    /// alone for a while, that their effects are not brought about over and over.
    fn is_told(&mut self, taken: Taken) {
        match taken {
            Taken::No(reason) => {
                self.settling.failed(not_taken(&reason), &self.work.options.outage_backoff);
            }
            Taken::All if self.settling.succeeded() => {
                tracing::info!(consumer = self.work.name(), "the bus takes again what became of events");
            }
            Taken::All | Taken::Nothing => return,
        }
        self.show();
    }

    fn note(&mut self, change: Option<Change>, reason: Option<&str>) {
        if let Some(reason) = reason {
            self.work.stats.failed(reason);
            self.target_fault = Some(reason.to_owned());
        }
        let consumer = self.work.name();
        match change {
            Some(Change::WentDown) => {
                tracing::warn!(consumer, reason, "the target is out of order: the consumer waits");
            }
            Some(Change::CameUp) => tracing::info!(consumer, "the target is back"),
            None => {}
        }
        self.show();
    }

    fn show(&self) {
        let (state, fault) = match (self.reading.fault().or(self.settling.fault()), self.target.failures()) {
            (Some(fault), _) => (State::BusDown, Some(fault)),
            (None, Some(0)) => (State::Starting, None),
            (None, Some(_)) => (State::TargetDown, self.target_fault.as_deref()),
            (None, None) => (State::Ready, None),
        };
        self.work.stats.enter(state, fault);
    }

    async fn drain(mut self) {
        self.work.stats.enter(State::Draining, None);
        let work = Arc::clone(&self.work);
        work.sink.drain(work.options.drain_timeout);
        let waiting = self.queue.take_all();
        let finish = async {
            let under_way = async {
                while let Some(joined) = self.batches.join_next().await {
                    self.acknowledge(joined.map(|(_, judged)| judged.done).unwrap_or_default());
                }
                while self.acknowledgements.join_next().await.is_some() {}
            };
            tokio::join!(work.hand_back(waiting), under_way);
        };
        if timeout(work.options.drain_timeout, finish).await.is_err() {
            let batches = self.batches.len() + self.acknowledgements.len();
            tracing::warn!(
                consumer = work.name(),
                batches,
                "out of time to drain: the bus will deliver again what was under way"
            );
            // What is dropped unsettled goes back to the bus.
            let all = async { tokio::join!(self.batches.shutdown(), self.acknowledgements.shutdown()) };
            drop(timeout(ABORT_TIMEOUT, all).await);
        }
        // Only now: what is still to be settled is settled through the subscription's bus.
        drop(self.subscription);
        if timeout(CLOSE_TIMEOUT, std::panic::AssertUnwindSafe(self.work.sink.close()).catch_unwind()).await.is_err() {
            tracing::warn!(consumer = self.work.name(), "the sink took too long to close");
        }
    }
}
