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

use crate::batch::{Report, Work};
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
    batches: JoinSet<(u64, Report)>,
    /// The objects of each batch under way, for a sink that is ordered by object.
    objects: HashMap<Id, HashSet<u64>>,
    target: Target,
    bus_failures: u32,
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
            bus_failures: 0,
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
                    self.bus_answered();
                }
                Err(error) => sleep_until(self.bus_failed(error)?).await,
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
        let mut bus_wait: Option<Instant> = None;
        while self.target.down().is_none() {
            self.dispatch();
            let due = self.lingering.map(|since| since + self.work.options.linger).filter(|_| !self.is_due());
            let room = self.batches.len() < self.slots() && self.waiting.len() < batch_max;
            let Some(subscription) = &mut self.subscription else { return Ok(()) };
            tokio::select! {
                Some(joined) = self.batches.join_next_with_id() => self.finished(joined),
                pulled = subscription.next(batch_max), if room && bus_wait.is_none() => match pulled {
                    Ok(deliveries) => {
                        let wanted = self.work.select(deliveries).await;
                        self.waiting.extend(wanted);
                        self.lingering = self.lingering.or_else(|| (!self.waiting.is_empty()).then(Instant::now));
                        self.bus_answered();
                    }
                    Err(error) => bus_wait = Some(self.bus_failed(error)?),
                },
                () = sleep_until(bus_wait.unwrap_or_else(Instant::now)), if bus_wait.is_some() => bus_wait = None,
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

    fn finished(&mut self, joined: Result<(Id, (u64, Report)), JoinError>) {
        match joined {
            Ok((id, (phase, report))) => {
                self.objects.remove(&id);
                let change = self.target.reported(phase, &report);
                let reason = match &report {
                    Report::Down(reason) => Some(reason.as_str()),
                    Report::Up => None,
                };
                self.note(change, reason);
            }
            // The batch's deliveries went back to the bus when it fell.
            Err(error) => {
                self.objects.remove(&error.id());
                tracing::error!(consumer = self.work.name(), %error, "a batch fell over; the bus will deliver it again");
            }
        }
    }

    /// Takes note of a failure to read the bus, and says when to try again.
    fn bus_failed(&mut self, error: SubscribeError) -> Result<Instant, SubscribeError> {
        match error.kind {
            SubscribeErrorKind::InUse | SubscribeErrorKind::Closed => return Err(error),
            SubscribeErrorKind::Unavailable => {}
        }
        let reason = crate::error_chain(&error);
        if self.bus_failures == 0 {
            tracing::warn!(consumer = self.work.name(), reason, "the bus is out of order");
        }
        self.bus_failures = self.bus_failures.saturating_add(1);
        self.work.stats.failed(&reason);
        self.show();
        Ok(Instant::now() + self.work.options.outage_backoff.draw(self.bus_failures))
    }

    fn bus_answered(&mut self) {
        if self.bus_failures > 0 {
            self.bus_failures = 0;
            tracing::info!(consumer = self.work.name(), "the bus is back");
            self.show();
        }
    }

    fn note(&self, change: Option<Change>, reason: Option<&str>) {
        if let Some(reason) = reason {
            self.work.stats.failed(reason);
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
        self.work.stats.enter(match self.target.failures() {
            _ if self.bus_failures > 0 => State::BusDown,
            Some(0) => State::Starting,
            Some(_) => State::TargetDown,
            None => State::Ready,
        });
    }

    async fn drain(mut self) {
        self.work.stats.enter(State::Draining);
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
        self.work.stats.enter(State::Stopped);
    }
}

/// Stands for the event's object. Two objects that share a number only wait for each other.
fn object_of(delivery: &Delivery) -> u64 {
    let upload = &delivery.event().data;
    let mut hasher = DefaultHasher::new();
    (&upload.bucket, &upload.object).hash(&mut hasher);
    hasher.finish()
}
