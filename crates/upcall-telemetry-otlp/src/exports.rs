//! What the thread does that exports.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::SystemTime;

use opentelemetry::Context;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_sdk::Resource;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use upcall_telemetry::metrics::Metrics;

use crate::body;
use crate::halves::Piece;
use crate::health::Health;
use crate::metrics;
use crate::options::Options;
use crate::processor::Line;
use crate::pump::{Courier, said};
use crate::queue::{Entry, Side, Wanted};
use crate::telemetry::{STOP_TIME, StartError};
use crate::text;
use crate::transport::{Kind, Transport};

/// What the thread does that exports.
pub(crate) struct Exports {
    pub(crate) options: Options,
    pub(crate) resource: Resource,
    pub(crate) sides: [Arc<Side>; Kind::ALL.len()],
    pub(crate) stopped: watch::Receiver<bool>,
    pub(crate) metrics: watch::Receiver<Option<Metrics>>,
    pub(crate) transport: watch::Receiver<Transport>,
}

/// The ends of the queues.
pub(crate) struct Outs {
    pub(crate) spans: Receiver<Entry<Span>>,
    pub(crate) lines: Receiver<Entry<Line>>,
    pub(crate) metrics: Receiver<Entry<Wanted>>,
}

impl Exports {
    /// Starts the thread. Whoever holds what it gives back is told when it ends.
    pub(crate) fn start(self, outs: Outs) -> Result<mpsc::Receiver<()>, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let (end, ended) = mpsc::channel();
        let work = move || {
            // What is logged about exporting must not be exported: it would never end.
            let _unseen = Context::enter_telemetry_suppressed_scope();
            runtime.block_on(self.run(outs));
            runtime.shutdown_background();
            // Nobody may wait for it.
            let _ = end.send(());
        };
        thread::Builder::new().name("telemetry".to_owned()).spawn(work).map_err(StartError::Thread)?;
        Ok(ended)
    }

    async fn run(self, outs: Outs) {
        let health = Arc::new(Health::new(&self.options.endpoint));
        let resource = ResourceAttributesWithSchema::from(&self.resource);
        let courier = |kind: Kind| Courier {
            transport: self.transport.clone(),
            kind,
            side: Arc::clone(&self.sides[kind as usize]),
            health: Arc::clone(&health),
            stop: self.stopped.clone(),
        };
        let (of_spans, of_metrics, of_lines) = (courier(Kind::Traces), courier(Kind::Metrics), courier(Kind::Logs));
        let all = async {
            tokio::join!(
                of_spans.run(outs.spans, |spans| body::of_spans(spans, &resource)),
                self.send_metrics(of_metrics, outs.metrics, &resource),
                of_lines.run(outs.lines, |lines| body::of_lines(lines, &resource)),
            )
        };
        let mut stopped = self.stopped.clone();
        let at_the_end = async {
            // A sender that is gone means the same.
            let _ = stopped.wait_for(|stop| *stop).await;
            tokio::time::sleep(STOP_TIME).await;
        };
        tokio::select! {
            _ = all => {}
            () = at_the_end => {}
        }
    }

    /// Sends metrics every interval, when somebody wants them, and once more at the end.
    async fn send_metrics(
        &self,
        mut courier: Courier,
        mut queue: Receiver<Entry<Wanted>>,
        resource: &ResourceAttributesWithSchema,
    ) {
        if !self.options.signals.metrics {
            return;
        }
        let started = SystemTime::now();
        let (mut metrics, mut stopped) = (self.metrics.clone(), self.stopped.clone());
        let ours = metrics.wait_for(Option::is_some);
        let ours = tokio::select! {
            ours = ours => ours.ok().and_then(|ours| ours.clone()),
            _ = stopped.wait_for(|stop| *stop) => None,
        };
        let Some(ours) = ours else { return };
        let mut ticks = interval(self.options.metrics_interval);
        // A process that was frozen has missed many.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (mut is_due, mut is_last, mut flushed) = (false, false, Vec::new());
            let first = tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => {
                    (is_due, is_last) = (true, true);
                    None
                }
                // Before whoever wants what is due to be sent.
                _ = ticks.tick() => {
                    is_due = true;
                    None
                }
                entry = queue.recv(), if !queue.is_closed() => entry,
            };
            // Several who want them at a time get them by one request.
            for entry in first.into_iter().chain(std::iter::from_fn(|| queue.try_recv().ok())) {
                match entry {
                    Entry::Item(Wanted) => is_due = true,
                    Entry::Flush(done) => flushed.push(done),
                }
            }
            if is_due {
                ticks.reset();
                // It may read files; and this thread has time.
                let metrics = metrics::metrics(text::families(&ours.encode()), started, SystemTime::now());
                let body = body::of_metrics(metrics, resource);
                // What is not taken now is told by the next one.
                let sent = timeout(self.options.metrics_interval, courier.deliver(Piece { body, number: 1 })).await;
                if sent.is_err() {
                    courier.side.counts.add_dropped(1);
                }
            }
            flushed.into_iter().for_each(said);
            if is_last {
                return;
            }
        }
    }
}
