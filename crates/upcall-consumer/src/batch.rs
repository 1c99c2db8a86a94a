//! One batch: to the sink, judged, and told to the bus.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::time::timeout;
use tracing::Instrument;
use upcall_bus::{Delivery, Settlement};
use upcall_telemetry::trace;

use crate::settle::{Taken, decide, hand_back_all, is_last, settle_all, skip_all};
use crate::{Item, Options, Sink, Source, Stats, Verdict, backoff};

/// What every batch of a consumer shares.
pub(crate) struct Work {
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) options: Options,
    pub(crate) stats: Stats,
}

/// A batch that the sink is done with.
#[derive(Debug)]
pub(crate) struct Judged {
    /// What it tells about the target.
    pub(crate) report: Report,
    /// Whether the bus took what it was told at once: of everything that is not done.
    pub(crate) taken: Taken,
    /// What is done. The bus is still to be told; nothing waits for that.
    pub(crate) done: Vec<Delivery>,
}

/// What a batch tells about the target.
#[derive(Debug)]
pub(crate) enum Report {
    /// It answers.
    Up,
    /// It is out of order, and why.
    Down(String),
}

impl Work {
    /// The consumer's name.
    pub(crate) fn name(&self) -> &str {
        self.options.spec.name.as_str()
    }

    /// Makes the target ready, within the time for a batch.
    pub(crate) async fn prepare(&self) -> Result<(), String> {
        match self.guarded(self.sink.prepare()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(chain(&error)),
            Err(whole) => Err(whole),
        }
    }

    /// Delivers a batch, and tells the bus of what is not done: it must know of an event that comes again before a later
    /// one of the same object is delivered.
    pub(crate) async fn process(&self, mut batch: Vec<Delivery>) -> Judged {
        for delivery in &mut batch {
            let (subject, event) = (delivery.subject().as_str(), delivery.event());
            let span = trace::process(self.name(), subject, event.id, delivery.attempt(), event.trace.as_ref());
            delivery.record_with(span);
        }
        match self.attempt(&items(&batch)).await {
            Ok(verdicts) => self.judge(batch, verdicts).await,
            Err(reason) => self.judge_failed(batch, reason).await,
        }
    }

    /// Tells the bus of what is done.
    pub(crate) async fn acknowledge(&self, done: Vec<Delivery>) -> Taken {
        let acks = done.into_iter().map(|delivery| (delivery, Settlement::Ack)).collect();
        settle_all(acks, self.name(), &self.stats).await
    }

    /// Gives deliveries back to the bus, uncounted.
    pub(crate) async fn hand_back(&self, deliveries: Vec<Delivery>) {
        hand_back_all(deliveries, self.name(), &self.stats).await;
    }

    /// Settles what the condition leaves out, and gives the rest; tells whether the bus takes that.
    pub(crate) async fn select(&self, deliveries: Vec<Delivery>) -> (Vec<Delivery>, Taken) {
        let condition = &self.options.condition;
        if condition.is_always() {
            return (deliveries, Taken::Nothing);
        }
        let (wanted, others) = deliveries.into_iter().partition(|delivery| condition.matches(delivery.event()));
        (wanted, skip_all(others, self.name(), &self.stats).await)
    }

    /// One call of the sink. The error is a failure of the whole batch.
    async fn attempt(&self, items: &[Item<'_>]) -> Result<Vec<Verdict>, String> {
        let _in_flight = self.stats.deliver(items.len() as u64);
        let span = trace::batch(self.name(), items.len(), items.iter().filter_map(|item| item.span));
        let mut verdicts = self.guarded(self.sink.deliver(items)).instrument(span).await?;
        let given = verdicts.len();
        if given != items.len() {
            tracing::error!(
                consumer = self.name(),
                given,
                events = items.len(),
                "the sink's verdicts are not one per event"
            );
            verdicts.resize_with(items.len(), || retry("the sink gave no verdict".to_owned()));
        }
        Ok(verdicts)
    }

    async fn judge(&self, batch: Vec<Delivery>, verdicts: Vec<Verdict>) -> Judged {
        let (mut report, mut done, mut others) = (Report::Up, Vec::new(), Vec::new());
        for (delivery, verdict) in batch.into_iter().zip(verdicts) {
            if let (Report::Up, Verdict::Unavailable { reason }) = (&report, &verdict) {
                report = Report::Down(reason.clone());
            }
            match self.decide(verdict, &delivery) {
                Settlement::Ack => done.push(delivery),
                other => others.push((delivery, other)),
            }
        }
        if let (Report::Up, false, Some(reason)) = (&report, others.is_empty(), self.sink.fault()) {
            report = Report::Down(reason);
        }
        let taken = settle_all(others, self.name(), &self.stats).await;
        Judged { report, taken, done }
    }

    /// Judges a batch that failed as a whole. Events that this would make dead letters are delivered once more, each
    /// by itself: one of them may be to blame, but not all.
    async fn judge_failed(&self, batch: Vec<Delivery>, reason: String) -> Judged {
        let alone = batch.len() == 1;
        let (last, others): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|delivery| !alone && is_last(delivery.attempt(), &self.options));
        let failed = vec![retry(reason); others.len()];
        let mut all = self.judge(others, failed).await;
        let mut last = last.into_iter();
        while let Some(delivery) = last.next() {
            let delivery = vec![delivery];
            let verdicts = self.attempt(&items(&delivery)).await.unwrap_or_else(|reason| vec![retry(reason)]);
            let one = self.judge(delivery, verdicts).await;
            all.taken = all.taken.and(one.taken);
            all.done.extend(one.done);
            if let Report::Down(_) = one.report {
                self.hand_back(last.collect()).await;
                return Judged { report: one.report, ..all };
            }
        }
        all
    }

    fn decide(&self, verdict: Verdict, delivery: &Delivery) -> Settlement {
        decide(verdict, delivery.attempt(), &self.options, backoff::chance())
    }

    /// Runs a call of the sink within its time; neither a panic nor a hang gets out of it.
    async fn guarded<T>(&self, call: impl Future<Output = T>) -> Result<T, String> {
        match timeout(self.options.deliver_timeout, AssertUnwindSafe(call).catch_unwind()).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(panic)) => Err(format!("the sink panicked: {}", message(&*panic))),
            Err(_) => Err(format!("the sink took longer than {:?}", self.options.deliver_timeout)),
        }
    }
}

fn items(batch: &[Delivery]) -> Vec<Item<'_>> {
    batch.iter().map(item).collect()
}

fn item(delivery: &Delivery) -> Item<'_> {
    Item {
        subject: delivery.subject(),
        event: delivery.event(),
        attempt: delivery.attempt(),
        sequence: delivery.sequence(),
        span: Some(delivery.span()),
    }
}

fn retry(reason: String) -> Verdict {
    Verdict::Retry { after: None, reason }
}

fn chain(error: &Source) -> String {
    upcall_telemetry::error_chain(&**error)
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
