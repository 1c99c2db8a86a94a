//! Spans of a callback's way: what they are called, what they carry, and who begins and follows a trace.
//!
//! A span exists only where its trace is recorded. Everything else costs a look at a flag: whoever begins a trace
//! decides, and everybody after it goes by the flag in the event's [`TraceContext`]. An event without one is not recorded.

use std::sync::OnceLock;

use tracing::field::Empty;
use tracing::{Span, info_span};
use upcall_event::{EventId, TraceContext};

/// The target of every span that is recorded. Log lines have others.
pub const TARGET: &str = "upcall::trace";

/// What `messaging.system` is for the journal. The conventions have a name for NATS only.
pub const JOURNAL: &str = "upcall_journal";
/// What `messaging.system` is for NATS.
pub const NATS: &str = "nats";
/// How many spans of a batch a batch's own span refers to. A collector takes about so many.
const LINKS_MAX: usize = 128;

/// Who records spans.
pub trait Recorder: Send + Sync {
    /// Decides whether a trace that begins here is recorded.
    fn samples(&self) -> bool;

    /// Makes a span part of the trace that another one, elsewhere, belongs to. Before anything else is done with it.
    fn follow(&self, span: &Span, parent: &TraceContext);

    /// Has a span refer to another one.
    fn link(&self, span: &Span, to: &Span);

    /// Gives a span another name, once it is known.
    fn rename(&self, span: &Span, name: String);

    /// Where a span is, for those elsewhere that follow it. None of a span that is not recorded.
    fn context(&self, span: &Span) -> Option<TraceContext>;
}

static RECORDER: OnceLock<Box<dyn Recorder>> = OnceLock::new();

/// Has spans recorded from now on. Called once, by the executable; a second call changes nothing.
pub fn record_with(recorder: impl Recorder + 'static) {
    // An error means that there is one already, as in a test: the first one stays.
    let _already_there = RECORDER.set(Box::new(recorder));
}

/// Whether spans are recorded at all.
#[must_use]
pub fn is_on() -> bool {
    RECORDER.get().is_some()
}

/// The trace of one callback, which may not be recorded, or not be at all.
#[derive(Debug, Default)]
pub struct CallbackTrace {
    span: Option<Span>,
    /// What somebody else has begun, and does not record.
    unrecorded: Option<TraceContext>,
}

impl CallbackTrace {
    /// Begins a trace, or goes on with one that came from somebody who is trusted to know.
    #[must_use]
    pub fn begin(incoming: Option<TraceContext>) -> Self {
        let Some(recorder) = RECORDER.get() else { return Self::default() };
        if !incoming.as_ref().map_or_else(|| recorder.samples(), TraceContext::is_sampled) {
            return Self { span: None, unrecorded: incoming };
        }
        let span = info_span!(
            target: TARGET, parent: None, "callback", otel.kind = "server",
            http.request.method = Empty, http.route = Empty, http.response.status_code = Empty,
            upcall.route = Empty, upcall.outcome = Empty, upcall.reason = Empty, upcall.request_id = Empty,
            otel.status_code = Empty,
        );
        if let Some(incoming) = &incoming {
            recorder.follow(&span, incoming);
        }
        Self { span: Some(span), unrecorded: None }
    }

    /// The callback's span; the one that is none where it is not recorded.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span.clone().unwrap_or_else(Span::none)
    }

    /// Begins the span of what establishes that the callback is genuine, and what it reports.
    #[must_use]
    pub fn verify(&self) -> Span {
        self.span.as_ref().map_or_else(Span::none, |span| info_span!(target: TARGET, parent: span, "verify"))
    }

    /// Begins the span of what fills in the answer.
    #[must_use]
    pub fn respond(&self) -> Span {
        self.span.as_ref().map_or_else(Span::none, |span| info_span!(target: TARGET, parent: span, "respond"))
    }

    /// Begins the span of a question to a service.
    #[must_use]
    pub fn ask(&self) -> Span {
        let Some(span) = &self.span else { return Span::none() };
        info_span!(target: TARGET, parent: span, "ask", otel.kind = "client", otel.status_code = Empty, upcall.outcome = Empty)
    }

    /// Begins the span of an event's publishing, and says what the event is to carry. Of a trace that begins here and is
    /// not recorded that is nothing: most are not, and it would be a tenth of what is stored of an event.
    #[must_use]
    pub fn publish(&self, subject: &str, id: EventId) -> (Span, Option<TraceContext>) {
        let Some(span) = &self.span else { return (Span::none(), self.unrecorded.clone()) };
        let span = info_span!(
            target: TARGET, parent: span, "publish", otel.name = format!("publish {subject}"), otel.kind = "producer",
            messaging.system = Empty, messaging.operation.type = "send", messaging.operation.name = "publish",
            messaging.destination.name = subject, messaging.message.id = %id,
            upcall.spilled = Empty, upcall.receipt = Empty, otel.status_code = Empty,
        );
        let context = context(&span);
        (span, context)
    }

    /// Says what became of the callback.
    pub fn answered(&self, answered: &Answered<'_>) {
        let Some(span) = &self.span else { return };
        let Answered { method, path, route, request_id, status, outcome, reason } = *answered;
        let (method, name) = known_method(method);
        if let Some(recorder) = RECORDER.get() {
            recorder.rename(span, format!("{name} {}", path.unwrap_or_default()).trim_end().to_owned());
        }
        span.record("http.request.method", method).record("http.route", path).record("upcall.route", route);
        span.record("http.response.status_code", status).record("upcall.outcome", outcome);
        span.record("upcall.request_id", request_id).record("upcall.reason", reason);
        if status >= 500 {
            span.record("otel.status_code", "ERROR");
        }
    }
}

/// A method as the conventions have it, and as it is called in a span's name. Anybody may invent methods, which must not
/// become names.
fn known_method(method: &str) -> (&'static str, &'static str) {
    const KNOWN: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
    let known = KNOWN.into_iter().find(|known| *known == method);
    known.map_or(("_OTHER", "HTTP"), |known| (known, known))
}

/// What became of a callback.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// The request's method.
    pub method: &'a str,
    /// The path of its route.
    pub path: Option<&'a str>,
    /// The route's name.
    pub route: Option<&'a str>,
    /// The upload's request id at OSS.
    pub request_id: Option<&'a str>,
    /// The answer's status.
    pub status: u16,
    /// `accepted`, `duplicate`, or the error's code.
    pub outcome: &'a str,
    /// Why it was refused.
    pub reason: Option<&'a str>,
}

/// Says of the span that publishes an event which bus it goes to.
pub fn published_on(system: &'static str, trace: Option<&TraceContext>) {
    if is_recorded(trace) {
        Span::current().record("messaging.system", system);
    }
}

/// Says of the span that publishes an event that NATS did not take it in time.
pub fn spilled(trace: Option<&TraceContext>) {
    if is_recorded(trace) {
        Span::current().record("upcall.spilled", true);
    }
}

/// Says of a span whether it was in vain.
pub fn ended(span: &Span, field: &'static str, outcome: &str, is_failure: bool) {
    span.record(field, outcome);
    if is_failure {
        span.record("otel.status_code", "ERROR");
    }
}

/// Begins the span of an event's way from the journal to NATS.
#[must_use]
pub fn relay(subject: &str, id: EventId, trace: Option<&TraceContext>) -> Span {
    followed(trace, || {
        info_span!(
            target: TARGET, parent: None, "relay", otel.name = format!("relay {subject}"), otel.kind = "producer",
            messaging.system = NATS, messaging.operation.type = "send", messaging.operation.name = "relay",
            messaging.destination.name = subject, messaging.message.id = %id,
        )
    })
}

/// Begins the span of one delivery to a consumer, which ends when the delivery is settled.
#[must_use]
pub fn process(consumer: &str, subject: &str, id: EventId, attempt: u32, trace: Option<&TraceContext>) -> Span {
    followed(trace, || {
        info_span!(
            target: TARGET, parent: None, "process", otel.name = format!("process {consumer}"), otel.kind = "consumer",
            messaging.operation.type = "process", messaging.operation.name = "process",
            messaging.destination.name = subject, messaging.message.id = %id,
            messaging.consumer.group.name = consumer, upcall.attempt = attempt, upcall.outcome = Empty,
            otel.status_code = Empty,
        )
    })
}

/// Begins the span of a batch: a trace of its own, which refers to the deliveries in it that are recorded. A batch of one
/// has none but that delivery's.
#[must_use]
pub fn batch<'s>(consumer: &str, events: usize, deliveries: impl Iterator<Item = &'s Span>) -> Span {
    let mut recorded = deliveries.filter(|span| !span.is_disabled()).take(LINKS_MAX).peekable();
    let (Some(recorder), Some(first)) = (RECORDER.get(), recorded.peek()) else { return Span::none() };
    if events == 1 {
        return (*first).clone();
    }
    let span = info_span!(
        target: TARGET, parent: None, "batch", otel.name = format!("batch {consumer}"), otel.kind = "consumer",
        messaging.operation.type = "process", messaging.operation.name = "batch",
        messaging.consumer.group.name = consumer, messaging.batch.message_count = events,
    );
    recorded.for_each(|delivery| recorder.link(&span, delivery));
    span
}

/// Begins the span of what a database does with an event.
#[must_use]
pub fn statement(parent: Option<&Span>, system: &'static str, operation: &'static str, table: &str) -> Span {
    let Some(parent) = recorded(parent) else { return Span::none() };
    info_span!(
        target: TARGET, parent: parent, "sql", otel.name = format!("{operation} {table}").trim_end(), otel.kind = "client",
        db.system.name = system, db.operation.name = operation, db.collection.name = table,
        upcall.outcome = Empty, otel.status_code = Empty,
    )
}

/// Begins the span of a request that hands an event on.
#[must_use]
pub fn post(parent: Option<&Span>, host: &str) -> Span {
    let Some(parent) = recorded(parent) else { return Span::none() };
    info_span!(
        target: TARGET, parent: parent, "POST", otel.kind = "client", http.request.method = "POST",
        server.address = host, http.response.status_code = Empty, upcall.outcome = Empty, otel.status_code = Empty,
    )
}

/// Begins the span of something else that a sink does with an event.
#[must_use]
pub fn sink(parent: Option<&Span>, name: &'static str) -> Span {
    let Some(parent) = recorded(parent) else { return Span::none() };
    info_span!(
        target: TARGET, parent: parent, "sink", otel.name = name, otel.kind = "client",
        upcall.outcome = Empty, otel.status_code = Empty,
    )
}

/// What others are told of an event that carries no trace: where spans are recorded, that its are not.
#[must_use]
pub fn unrecorded(id: EventId) -> Option<TraceContext> {
    RECORDER.get().and_then(|_| TraceContext::unrecorded(id))
}

/// Where a span is, for those elsewhere that follow it.
#[must_use]
pub fn context(span: &Span) -> Option<TraceContext> {
    if span.is_disabled() {
        return None;
    }
    RECORDER.get()?.context(span)
}

/// The current span's context, for a header of a request that is made within it.
#[must_use]
pub fn current() -> Option<TraceContext> {
    let recorder = RECORDER.get()?;
    recorder.context(&Span::current())
}

/// Begins a span that follows an event, if the event's trace is recorded.
fn followed(trace: Option<&TraceContext>, span: impl FnOnce() -> Span) -> Span {
    let (Some(trace), Some(recorder)) = (trace, RECORDER.get()) else { return Span::none() };
    if !trace.is_sampled() {
        return Span::none();
    }
    let span = span();
    recorder.follow(&span, trace);
    span
}

fn is_recorded(trace: Option<&TraceContext>) -> bool {
    trace.is_some_and(TraceContext::is_sampled) && RECORDER.get().is_some()
}

fn recorded(parent: Option<&Span>) -> Option<&Span> {
    parent.filter(|parent| !parent.is_disabled())
}

#[cfg(test)]
mod tests {
    use super::known_method;

    #[test]
    fn a_method_that_somebody_invents_is_not_a_spans_name() {
        assert_eq!(known_method("POST"), ("POST", "POST"));
        for invented in ["post", "PO ST", "", &"A".repeat(15_000)] {
            assert_eq!(known_method(invented), ("_OTHER", "HTTP"));
        }
    }
}
