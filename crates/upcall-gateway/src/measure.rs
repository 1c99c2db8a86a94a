//! Counting, with every handle resolved once, so that a callback touches atomics only.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use upcall_bus::Receipt;
use upcall_event::Proof;
use upcall_responder::Responder;
use upcall_telemetry::metrics::{
    CallbackLabels, DurationBuckets, FieldLabels, Metrics, ProofLabels, PublishLabels, QuestionLabels, Sometimes,
    StageLabels,
};
use upcall_verifier::{Refusal, RefusalKind};

use crate::error::ErrorKind;
use crate::routes::RouteTable;

/// The counters of one route, or of requests without one.
pub(crate) struct Outcomes {
    route: String,
    family: Family<CallbackLabels, Counter>,
    accepted: OnceLock<Counter>,
    duplicate: OnceLock<Counter>,
    /// In the order of [`ErrorKind::index`].
    errors: Vec<(ErrorKind, OnceLock<Counter>)>,
    proofs: Family<ProofLabels, Counter>,
    signature: OnceLock<Counter>,
}

/// A stage that only some routes have. It shows once one has it.
pub(crate) struct Stage {
    family: Family<StageLabels, Histogram, DurationBuckets>,
    stage: &'static str,
    histogram: OnceLock<Histogram>,
}

impl Stage {
    fn new(metrics: &Metrics, stage: &'static str, is_shown: bool) -> Self {
        let new = Self { family: metrics.stage_duration.clone(), stage, histogram: OnceLock::new() };
        if is_shown {
            new.get();
        }
        new
    }

    pub(crate) fn get(&self) -> &Histogram {
        self.histogram.get_or_init(|| self.family.get_or_create_owned(&StageLabels { stage: self.stage }))
    }
}

/// What is measured of every callback.
pub(crate) struct Measures {
    pub(crate) without_route: Outcomes,
    pub(crate) read: Histogram,
    pub(crate) verify: Histogram,
    pub(crate) publish: Histogram,
    pub(crate) ask: Stage,
    pub(crate) respond: Stage,
    pub(crate) total: Histogram,
    accepted: Counter,
    published: Counter,
    spilled: Counter,
    duplicate: Counter,
    in_flight: Gauge,
    connections: Gauge,
    pub(crate) metrics: Metrics,
}

/// Counts one up for as long as it lives.
pub(crate) struct Counted<'g>(&'g Gauge);

impl Measures {
    /// Begins to count what can happen with these routes; nothing is shown where no callbacks are taken.
    pub(crate) fn new(metrics: Metrics, routes: &RouteTable) -> Self {
        let unseen = Metrics::new();
        let shown = if routes.is_empty() { &unseen } else { &metrics };
        let asks = |(_, responder): (&str, &Responder)| matches!(responder, Responder::Service(_));
        let stage = |stage| shown.stage_duration.get_or_create_owned(&StageLabels { stage });
        let publish = |outcome| shown.publishes.get_or_create_owned(&PublishLabels { outcome });
        for kind in [
            RefusalKind::BusBusy,
            RefusalKind::BusTimeout,
            RefusalKind::BusFull,
            RefusalKind::BusUnavailable,
            RefusalKind::BusRejected,
        ] {
            publish(kind.code());
        }
        let counter = |counter: &Sometimes<Counter>| counter.get().clone();
        counter(&shown.connections_refused);
        counter(&shown.rejections_unlogged);
        Self {
            without_route: Outcomes::new(shown, "", None),
            read: stage("read"),
            verify: stage("verify"),
            publish: stage("publish"),
            ask: Stage::new(shown, "ask", routes.answers().any(asks)),
            respond: Stage::new(shown, "respond", !routes.answers().all(asks)),
            total: stage("total"),
            accepted: counter(&shown.accepted),
            published: publish("published"),
            spilled: publish("spilled"),
            duplicate: publish("duplicate"),
            in_flight: shown.callbacks_in_flight.get().clone(),
            connections: shown.connections.get().clone(),
            metrics,
        }
    }

    /// Counts what became of an event that was given to the bus.
    pub(crate) fn count_published(&self, published: &Result<Receipt, Refusal>) {
        match published {
            Ok(Receipt::Stored) => self.published.inc(),
            Ok(Receipt::Spilled) => self.spilled.inc(),
            Ok(Receipt::Duplicate) => self.duplicate.inc(),
            Err(refusal) => {
                let labels = PublishLabels { outcome: refusal.kind().code() };
                self.metrics.publishes.get_or_create_owned(&labels).inc()
            }
        };
    }

    /// Counts a callback whose event is durable, whatever it is answered.
    pub(crate) fn count_accepted(&self) {
        self.accepted.inc();
    }

    /// Counts fields that were not of their type. Rare, so the handles are not resolved beforehand.
    pub(crate) fn count_unread(&self, route: &str, fields: &[&'static str]) {
        for field in fields {
            let labels = FieldLabels { route: route.to_owned(), field };
            self.metrics.fields_unread.get_or_create_owned(&labels).inc();
        }
    }

    /// Counts a question to a service. It costs far more than finding the handle.
    pub(crate) fn count_question(&self, route: &str, outcome: &'static str) {
        let labels = QuestionLabels { route: route.to_owned(), outcome };
        self.metrics.questions.get_or_create_owned(&labels).inc();
    }

    pub(crate) fn count_in_flight(&self) -> Counted<'_> {
        Counted::new(&self.in_flight)
    }

    pub(crate) fn count_connection(&self) -> Counted<'_> {
        Counted::new(&self.connections)
    }
}

impl Outcomes {
    /// Begins with zero of everything that can happen: of what can't, a series would only be in the way.
    pub(crate) fn new(metrics: &Metrics, route: &str, responder: Option<&Responder>) -> Self {
        let errors = ErrorKind::all().map(|kind| (kind, OnceLock::new())).collect();
        let outcomes = Self {
            route: route.to_owned(),
            family: metrics.callbacks.clone(),
            accepted: OnceLock::new(),
            duplicate: OnceLock::new(),
            errors,
            proofs: metrics.proofs.clone(),
            signature: OnceLock::new(),
        };
        if responder.is_some() {
            // No other can be given yet.
            outcomes.proof(Proof::Signature);
            outcomes.counter(&outcomes.accepted, "accepted");
            outcomes.counter(&outcomes.duplicate, "duplicate");
        }
        for (kind, counter) in outcomes.errors.iter().filter(|(kind, _)| kind.can_happen(responder)) {
            outcomes.counter(counter, kind.code());
        }
        outcomes
    }

    /// Counts a callback that is durable, and says what its outcome is called.
    pub(crate) fn count_receipt(&self, receipt: Receipt) -> &'static str {
        let (counter, outcome) = match receipt {
            Receipt::Stored | Receipt::Spilled => (&self.accepted, "accepted"),
            Receipt::Duplicate => (&self.duplicate, "duplicate"),
        };
        self.counter(counter, outcome).inc();
        outcome
    }

    pub(crate) fn count_error(&self, kind: ErrorKind) {
        if let Some((kind, counter)) = self.errors.get(kind.index()) {
            self.counter(counter, kind.code()).inc();
        }
    }

    /// Counts what was proved about an admitted callback.
    pub(crate) fn count_proofs(&self, proofs: &[Proof]) {
        for proof in proofs {
            match proof {
                Proof::Signature => self.signature.get_or_init(|| self.proof(*proof)).inc(),
                Proof::Grant | Proof::Confirmed => self.proof(*proof).inc(),
            };
        }
    }

    fn proof(&self, proof: Proof) -> Counter {
        self.proofs.get_or_create_owned(&ProofLabels { route: self.route.clone(), proof: proof.as_str() })
    }

    fn counter<'c>(&self, counter: &'c OnceLock<Counter>, outcome: &'static str) -> &'c Counter {
        counter.get_or_init(|| self.family.get_or_create_owned(&CallbackLabels { route: self.route.clone(), outcome }))
    }
}

impl<'g> Counted<'g> {
    fn new(gauge: &'g Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Measures stages that follow one another.
pub(crate) struct Stopwatch {
    began: Instant,
    stage: Instant,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self { began: now, stage: now }
    }

    /// Ends a stage.
    pub(crate) fn lap(&mut self, histogram: &Histogram) {
        let now = Instant::now();
        histogram.observe((now - self.stage).as_secs_f64());
        self.stage = now;
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}
