//! The consumer: reads the bus, keeps batches under way, waits out outages, and drains.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use upcall_bus::{Bus, Delivery, SubscribeError, SubscribeErrorKind, Subscription};

use crate::batch::{Outcome, Report, Work};
use crate::path::Path;
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
        ending.ended(result.as_ref().err().map(|error| crate::error_chain(error)));
        result
    }
}

/// A consumer at work.
struct Run {
    bus: Arc<dyn Bus>,
    work: Arc<Work>,
    subscription: Option<Box<dyn Subscription>>,
    /// Taken off the bus, not yet in a batch. They stay here for a sink that is ordered by object, or while they linger.
    waiting: VecDeque<Delivery>,
    /// Since when the first of them waits for others.
    lingering: Option<Instant>,
    batches: JoinSet<(u64, Outcome)>,
    /// The objects of each batch under way, for a sink that is ordered by object.
    objects: HashMap<Id, HashSet<u64>>,
    target: Target,
    /// Why the target is out of order, if it is.
    target_fault: Option<String>,
    reading: Path,
    settling: Path,
}

impl Run {
    fn new(consumer: Consumer) -> Self {
        Self {
            bus: consumer.bus,
            work: consumer.work,
            subscription: None,
            waiting: VecDeque::new(),
            lingering: None,
            batches: JoinSet::new(),
            objects: HashMap::new(),
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

    /// Waits until the target is ready to be delivered to.
    async fn prepare(&mut self) {
        while let Some(failures) = self.target.down() {
            if failures > 0 {
                sleep(self.work.options.outage_backoff.draw(failures)).await;
            }
            let prepared = self.work.prepare().await;
            let change = self.target.prepared(prepared.is_ok());
            self.note(change, prepared.err().as_deref());
        }
    }

    /// Reads and delivers until the target is down.
    async fn flow(&mut self) -> Result<(), SubscribeError> {
        let batch_max = self.work.options.batch_max.get();
        while self.target.down().is_none() {
            if self.settling.pause().is_none() {
                self.dispatch();
            }
            let due = self.lingering.map(|since| since + self.work.options.linger).filter(|_| !self.is_due());
            let room = self.batches.len() < self.slots() && self.waiting.len() < batch_max;
            let is_left_alone = self.reading.pause().or(self.settling.pause()).is_some();
            let Some(subscription) = &mut self.subscription else { return Ok(()) };
            tokio::select! {
                Some(joined) = self.batches.join_next_with_id() => self.finished(joined),
                pulled = subscription.next(batch_max), if room && !is_left_alone => match pulled {
                    Ok(deliveries) => {
                        let (wanted, taken) = self.work.select(deliveries).await;
                        self.waiting.extend(wanted);
                        self.lingering = self.lingering.or_else(|| (!self.waiting.is_empty()).then(Instant::now));
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
        let waiting = self.waiting.drain(..).collect();
        self.lingering = None;
        self.work.hand_back(waiting).await;
        Ok(())
    }

    fn slots(&self) -> usize {
        self.target.slots(self.work.options.concurrency.get())
    }

    /// Whether what waits is to wait no longer for others.
    fn is_due(&self) -> bool {
        let options = &self.work.options;
        let is_over = self.lingering.is_none_or(|since| since.elapsed() >= options.linger);
        is_over || self.waiting.len() >= options.batch_max.get()
    }

    /// Puts batches under way as long as there is a slot and something to deliver.
    fn dispatch(&mut self) {
        while self.is_due() && self.batches.len() < self.slots() {
            let (batch, objects) = self.next_batch();
            self.lingering = (!self.waiting.is_empty()).then(Instant::now);
            if batch.is_empty() {
                return;
            }
            let (work, phase) = (self.work.clone(), self.target.phase());
            let task = self.batches.spawn(async move { (phase, work.process(batch).await) });
            self.objects.insert(task.id(), objects);
        }
    }

    /// Takes what may go now out of what waits, in order, and says which objects that holds up.
    fn next_batch(&mut self) -> (Vec<Delivery>, HashSet<u64>) {
        let batch_max = self.work.options.batch_max.get();
        if !self.work.sink.ordered_by_object() {
            let batch = self.waiting.drain(..batch_max.min(self.waiting.len())).collect();
            return (batch, HashSet::new());
        }
        let (mut batch, mut objects) = (Vec::new(), HashSet::new());
        for delivery in std::mem::take(&mut self.waiting) {
            let object = object_of(&delivery);
            if batch.len() < batch_max && !self.objects.values().any(|held| held.contains(&object)) {
                objects.insert(object);
                batch.push(delivery);
            } else {
                self.waiting.push_back(delivery);
            }
        }
        (batch, objects)
    }

    fn finished(&mut self, joined: Result<(Id, (u64, Outcome)), JoinError>) {
        match joined {
            Ok((id, (phase, Outcome { report, taken }))) => {
                self.objects.remove(&id);
                let change = self.target.reported(phase, &report);
                let reason = match &report {
                    Report::Down(reason) => Some(reason.as_str()),
                    Report::Up => None,
                };
                self.note(change, reason);
                self.is_told(taken);
            }
            // The batch's deliveries went back to the bus when it fell.
            Err(error) => {
                self.objects.remove(&error.id());
                tracing::error!(consumer = self.work.name(), %error, "a batch fell over; the bus will deliver it again");
            }
        }
    }

    /// Takes note of a failure to read the bus, which is left alone for a while.
    fn is_not_read(&mut self, error: SubscribeError) -> Result<(), SubscribeError> {
        match error.kind {
            SubscribeErrorKind::InUse | SubscribeErrorKind::Closed => return Err(error),
            SubscribeErrorKind::Unavailable => {}
        }
        let reason = crate::error_chain(&error);
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
        let waiting = self.waiting.drain(..).collect();
        let finish = async {
            let under_way = async { while self.batches.join_next().await.is_some() {} };
            tokio::join!(self.work.hand_back(waiting), under_way);
        };
        if timeout(self.work.options.drain_timeout, finish).await.is_err() {
            let (consumer, batches) = (self.work.name(), self.batches.len());
            tracing::warn!(consumer, batches, "out of time to drain: the bus will deliver again what was under way");
            // What is dropped unsettled goes back to the bus.
            drop(timeout(ABORT_TIMEOUT, self.batches.shutdown()).await);
        }
        // Only now: what is still to be settled is settled through the subscription's bus.
        drop(self.subscription);
        if timeout(CLOSE_TIMEOUT, std::panic::AssertUnwindSafe(self.work.sink.close()).catch_unwind()).await.is_err() {
            tracing::warn!(consumer = self.work.name(), "the sink took too long to close");
        }
    }
}

/// Stands for the event's object. Two objects that share a number only wait for each other.
fn object_of(delivery: &Delivery) -> u64 {
    let upload = &delivery.event().data;
    let mut hasher = DefaultHasher::new();
    (&upload.bucket, &upload.object).hash(&mut hasher);
    hasher.finish()
}
