//! Log lines, on standard error.

mod control;
mod filter;
mod json;

use std::io::IsTerminal;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

pub use control::{Control, Shown};
pub use filter::{FilterError, check_filter};

use crate::trace;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people: one line of text, coloured on a terminal.
    #[default]
    Human,
    /// For machines: one JSON object a line.
    Json,
}

/// When a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Written {
    /// By a thread of its own: a reader that does not read holds up nobody else.
    #[default]
    Aside,
    /// Before whoever logs goes on, where the process may be stopped at any moment.
    AtOnce,
}

/// What is logged unless the configuration says otherwise. The NATS client says of its connections what the bus says, too,
/// in more words, and at each attempt. The SQL client says without the consumer what the consumer says with it.
pub const DEFAULT_FILTER: &str = "info,async_nats=error,async_nats::connector=off,sqlx=off";

/// How many lines may wait for a reader of standard error. Beyond it lines are lost, and callbacks are not.
const LINES_WAITING_MAX: usize = 8192;

/// Whoever sees spans and lines beside standard error.
#[derive(Default)]
pub struct Layers {
    /// Sees the spans that are recorded.
    pub spans: Option<BoxedLayer>,
    /// Sees the lines that are written.
    pub lines: Option<BoxedLayer>,
    /// When lines are written on standard error.
    pub written: Written,
}

/// Somebody who sees spans and lines.
pub type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Logging that has been started. Lines that still wait are written when it is dropped.
#[derive(Debug)]
#[must_use = "lines that still wait are written when it is dropped"]
pub struct Logging {
    _writer: Option<WorkerGuard>,
    control: Control,
}

impl Logging {
    /// A handle to change what is logged.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }
}

/// Starts logging for the whole process. Called once, by the executable; a second call changes nothing.
///
/// # Errors
/// If the filter is none.
pub fn start(format: Format, filter: &str, layers: Layers) -> Result<Logging, FilterError> {
    let (reloaded, handle) = reload::Layer::new(filter::parse(filter)?);
    let control = Control::new(filter, move |filter| {
        // It is gone where another logging was started before, as in a test.
        let _ = handle.reload(filter);
    });
    let (writer, guard) = match layers.written {
        Written::Aside => {
            let writer = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_WAITING_MAX);
            let (writer, guard) = writer.thread_name("log").finish(std::io::stderr());
            (BoxMakeWriter::new(writer), Some(guard))
        }
        Written::AtOnce => (BoxMakeWriter::new(std::io::stderr), None),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        Format::Human => lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).boxed(),
        Format::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            lines.map_event_format(json::Printable).boxed()
        }
    };
    // One filter for all who see lines. What is recorded of traces is none of them.
    let lines: Vec<_> = layers.lines.into_iter().chain([lines]).collect();
    let may_be_told = filter_fn(|metadata| {
        metadata.target() != trace::TARGET && *metadata.level() <= filter::most_of(metadata.target())
    });
    let lines = lines.with_filter(reloaded.and(may_be_told));
    let spans = layers.spans.map(|spans| spans.with_filter(filter_fn(|metadata| metadata.target() == trace::TARGET)));
    let layers: Vec<_> = spans.map(Layer::boxed).into_iter().chain([lines.boxed()]).collect();
    // An error means that logging was started before, as in a test: the first start holds.
    let _already_started = tracing_subscriber::registry().with(layers).try_init();
    Ok(Logging { _writer: guard, control })
}
