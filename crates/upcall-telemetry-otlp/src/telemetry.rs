//! The exporter at work: one thread, and the queues that lead to it.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::TracerProvider;
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{SdkLogRecord, SdkLoggerProvider};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, Sampler, SdkTracerProvider, SpanData};
use tokio::sync::watch;
use tokio::time::{interval, timeout};
use upcall_telemetry::log::{BoxedLayer, Layers};
use upcall_telemetry::metrics::{Metrics, TelemetryLabels};
use upcall_telemetry::trace;

use crate::body::{self, SCOPE};
use crate::health::Health;
use crate::metrics;
use crate::options::Options;
use crate::processor::{Lines, Spans};
use crate::pump::Courier;
use crate::queue::{Counts, Entry, Queue};
use crate::recorder::OtelRecorder;
use crate::text;
use crate::transport::{Kind, Transport};

/// How many spans may wait for the collector: some seconds of them, in some MiB of memory.
const SPANS_MAX: usize = 8192;
/// How many log lines may.
const LINES_MAX: usize = 2048;
/// How long what waits at the end may take.
const STOP_TIME: Duration = Duration::from_secs(2);
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

/// A way to telemetry from elsewhere. A clone is the same.
#[derive(Debug, Clone)]
pub struct Handle {
    spans: Queue<SpanData>,
    lines: Queue<(SdkLogRecord, InstrumentationScope)>,
    counts: [Arc<Counts>; Kind::ALL.len()],
}

/// Why telemetry can't be exported.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The client can't be made.
    #[error("the client for the collector can't be made")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
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
        let counts = Kind::ALL.map(|_| Arc::new(Counts::default()));
        let [of_spans, _, of_lines] = &counts;
        let (spans, spans_out) = Queue::new(SPANS_MAX, of_spans);
        let (lines, lines_out) = Queue::new(LINES_MAX, of_lines);
        let (stop, stopped) = watch::channel(false);
        let (metrics, metrics_in) = watch::channel(None);
        let resource = resource(&options.resource);

        let signals = options.signals;
        let (layers, logger) = layers(&options, &resource, &spans, &lines);
        if signals.traces {
            trace::record_with(OtelRecorder::new(options.sample));
        }
        let exports = Exports { options, resource, counts: counts.clone(), stopped, metrics: metrics_in };
        let ended = exports.start(spans_out, lines_out)?;
        let handle = Handle { spans, lines, counts };
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

impl Handle {
    /// Waits until the spans and lines that there are now have been sent, or given up; as long as the caller waits.
    pub async fn flush(&self) {
        tokio::join!(self.spans.flush(), self.lines.flush());
    }

    fn count(&self, metrics: &Metrics) {
        for (kind, counts) in Kind::ALL.into_iter().zip(&self.counts) {
            let labels = TelemetryLabels { signal: kind.name() };
            let set = |family: &upcall_telemetry::metrics::TelemetryFamily, number| {
                family.get_or_create_owned(&labels).inner().store(number, std::sync::atomic::Ordering::Relaxed);
            };
            set(&metrics.telemetry_sent, counts.sent());
            set(&metrics.telemetry_dropped, counts.dropped());
        }
    }
}

/// What the thread does.
struct Exports {
    options: Options,
    resource: Resource,
    counts: [Arc<Counts>; Kind::ALL.len()],
    stopped: watch::Receiver<bool>,
    metrics: watch::Receiver<Option<Metrics>>,
}

type Out<T> = tokio::sync::mpsc::Receiver<Entry<T>>;

impl Exports {
    /// Starts the thread. Whoever holds what it gives back is told when it ends.
    fn start(
        self,
        spans: Out<SpanData>,
        lines: Out<(SdkLogRecord, InstrumentationScope)>,
    ) -> Result<mpsc::Receiver<()>, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let transport = {
            let _within = runtime.enter();
            Transport::new(&self.options)?
        };
        let (end, ended) = mpsc::channel();
        let work = move || {
            // What is logged about exporting must not be exported: it would never end.
            let _unseen = Context::enter_telemetry_suppressed_scope();
            runtime.block_on(self.run(transport, spans, lines));
            runtime.shutdown_background();
            // Nobody may wait for it.
            let _ = end.send(());
        };
        thread::Builder::new().name("telemetry".to_owned()).spawn(work).map_err(StartError::Thread)?;
        Ok(ended)
    }

    async fn run(self, transport: Transport, spans: Out<SpanData>, lines: Out<(SdkLogRecord, InstrumentationScope)>) {
        let health = Arc::new(Health::default());
        let resource = ResourceAttributesWithSchema::from(&self.resource);
        let courier = |kind: Kind| Courier {
            transport: transport.clone(),
            kind,
            counts: Arc::clone(&self.counts[kind as usize]),
            health: Arc::clone(&health),
            stop: self.stopped.clone(),
        };
        let (of_spans, of_metrics, of_lines) = (courier(Kind::Traces), courier(Kind::Metrics), courier(Kind::Logs));
        let all = async {
            tokio::join!(
                of_spans.run(spans, |spans| body::of_spans(spans, &resource)),
                self.send_metrics(of_metrics, &resource),
                of_lines.run(lines, |lines| body::of_lines(lines, &resource)),
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

    /// Sends metrics every interval, and once more at the end.
    async fn send_metrics(&self, mut courier: Courier, resource: &ResourceAttributesWithSchema) {
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
        loop {
            let is_last = tokio::select! {
                _ = ticks.tick() => false,
                _ = stopped.wait_for(|stop| *stop) => true,
            };
            // It may read files; and this thread has time.
            let metrics = metrics::metrics(text::families(&ours.encode()), started, SystemTime::now());
            let body = body::of_metrics(metrics, resource);
            // What is not taken now is told by the next one.
            let sent = timeout(self.options.metrics_interval, courier.deliver(body, 1)).await;
            if sent.is_err() {
                courier.counts.add_dropped(1);
            }
            if is_last {
                return;
            }
        }
    }
}

/// What sees spans and lines, and puts them into the queues.
fn layers(
    options: &Options,
    resource: &Resource,
    spans: &Queue<SpanData>,
    lines: &Queue<(SdkLogRecord, InstrumentationScope)>,
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
