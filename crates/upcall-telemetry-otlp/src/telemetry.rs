//! The exporter at work: one thread, and the queues that lead to it.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, Sampler, SdkTracerProvider};
use tokio::sync::watch;
use upcall_telemetry::log::{BoxedLayer, Layers};
use upcall_telemetry::metrics::Metrics;
use upcall_telemetry::trace;

use crate::body::SCOPE;
use crate::exports::{Exports, Outs};
use crate::handle::Handle;
use crate::options::Options;
use crate::processor::{Line, Lines, Spans};
use crate::queue::{Queue, Side};
use crate::recorder::OtelRecorder;
use crate::transport::{Kind, Transport};

/// How many spans may wait for the collector: some seconds of them, in some MiB of memory.
const SPANS_MAX: usize = 8192;
/// How many log lines may.
const LINES_MAX: usize = 2048;
/// How many may wait for metrics: more than a process answers callbacks at a time.
const WANTED_MAX: usize = 4096;
/// How long what waits at the end may take.
pub(crate) const STOP_TIME: Duration = Duration::from_secs(2);
/// How much of a span's links is kept, and of its attributes.
const LINKS_MAX: u32 = 128;
const ATTRIBUTES_MAX: u32 = 64;

/// Telemetry that is being exported. What waits is sent when it is dropped, for 2 seconds at most.
#[must_use = "what waits is sent when it is dropped"]
pub struct Telemetry {
    handle: Handle,
    stop: watch::Sender<bool>,
    metrics: watch::Sender<Option<Metrics>>,
    ended: mpsc::Receiver<()>,
    // It holds the way to the queue.
    _lines: Option<SdkLoggerProvider>,
}

/// Why telemetry can't be exported.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The client can't be made.
    #[error("the client for the collector can't be made")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The machine has no certificates of authorities, and none were given.
    #[error("no certificates of authorities were found on this machine: name one in `ca` of [telemetry.otlp]")]
    NoAuthorities,
    /// There is no thread or no runtime to be had.
    #[error("the thread that exports telemetry can't be started")]
    Thread(#[source] std::io::Error),
}

impl Telemetry {
    /// Begins to export. Has spans recorded from now on; the layers are for whoever starts logging. No collector need be
    /// there.
    ///
    /// # Errors
    /// If TLS can't be set up, or a thread can't be started.
    pub fn start(options: Options) -> Result<(Self, Layers), StartError> {
        let sides = Kind::ALL.map(|_| Arc::new(Side::default()));
        let [of_spans, of_metrics, of_lines] = &sides;
        let (spans, spans_out) = Queue::new(SPANS_MAX, of_spans);
        let (wanted, metrics_out) = Queue::new(WANTED_MAX, of_metrics);
        let (lines, lines_out) = Queue::new(LINES_MAX, of_lines);
        let (stop, stopped) = watch::channel(false);
        let (metrics, metrics_in) = watch::channel(None);
        let resource = resource(&options.resource);

        let signals = options.signals;
        let (layers, logger) = layers(&options, &resource, &spans, &lines);
        if signals.traces {
            trace::record_with(OtelRecorder::new(options.sample));
        }
        let (transport, transport_in) = watch::channel(Transport::new(&options)?);
        let sides_in = sides.clone();
        let exports =
            Exports { options, resource, sides: sides_in, stopped, metrics: metrics_in, transport: transport_in };
        let ended = exports.start(Outs { spans: spans_out, lines: lines_out, metrics: metrics_out })?;
        let handle = Handle { spans, lines, metrics: wanted, sides, transport };
        Ok((Self { handle, stop, metrics, ended, _lines: logger }, layers))
    }

    /// Exports these metrics from now on, and counts in them what becomes of telemetry.
    pub fn export(&self, metrics: &Metrics) {
        let handle = self.handle.clone();
        metrics.before_scrape(move |metrics| handle.count(metrics));
        self.metrics.send_replace(Some(metrics.clone()));
    }

    /// A way to it from elsewhere.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        match self.ended.recv_timeout(STOP_TIME) {
            Ok(()) | Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => {}
        }
    }
}

/// What sees spans and lines, and puts them into the queues.
fn layers(
    options: &Options,
    resource: &Resource,
    spans: &Queue<Span>,
    lines: &Queue<Line>,
) -> (Layers, Option<SdkLoggerProvider>) {
    let mut layers = Layers::default();
    if options.signals.traces {
        let provider = SdkTracerProvider::builder()
            // Whether a trace is recorded was decided before there is a span of it.
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource.clone())
            .with_max_links_per_span(LINKS_MAX)
            .with_max_attributes_per_span(ATTRIBUTES_MAX)
            .with_span_processor(Spans(spans.clone()))
            .build();
        let scope = InstrumentationScope::builder(SCOPE).with_version(env!("CARGO_PKG_VERSION")).build();
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer_with_scope(scope))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false);
        let layer: BoxedLayer = Box::new(layer);
        layers.spans = Some(layer);
    }
    let logger = options.signals.logs.then(|| {
        let lines = Lines(lines.clone());
        SdkLoggerProvider::builder().with_resource(resource.clone()).with_log_processor(lines).build()
    });
    layers.lines = logger.as_ref().map(|logger| Box::new(OpenTelemetryTracingBridge::new(logger)) as BoxedLayer);
    (layers, logger)
}

/// What is said of this process: what the environment says (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`), and over it
/// what is configured.
fn resource(configured: &[(String, String)]) -> Resource {
    const SERVICE_NAME: &str = "service.name";
    let instance = RandomIdGenerator::default().new_trace_id().to_string();
    let environment = Resource::builder().build();
    let is_named =
        environment.get(&SERVICE_NAME.into()).is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let mut builder = Resource::builder();
    if !is_named {
        builder = builder.with_service_name("upcall");
    }
    let own = [("service.version", env!("CARGO_PKG_VERSION").to_owned()), ("service.instance.id", instance)];
    let own = own.into_iter().filter(|(key, _)| environment.get(&(*key).into()).is_none());
    builder = builder.with_attributes(own.map(|(key, value)| KeyValue::new(key, value)));
    let configured = configured.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    builder.with_attributes(configured).build()
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}
