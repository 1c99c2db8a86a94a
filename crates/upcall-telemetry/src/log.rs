//! Log lines, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people: one line of text, coloured on a terminal.
    #[default]
    Human,
    /// For machines: one JSON object a line.
    Json,
}

/// What is logged unless the configuration says otherwise.
pub const DEFAULT_FILTER: &str = "info";

/// Checks a filter such as `info` or `info,upcall_gateway=debug`.
///
/// # Errors
/// If it is none.
pub fn check_filter(filter: &str) -> Result<(), ParseError> {
    EnvFilter::try_new(filter).map(drop)
}

/// Starts logging for the whole process. Called once, by the executable; a second call changes nothing.
///
/// # Errors
/// If the filter is none.
pub fn start(format: Format, filter: &str) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(filter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An error means that logging was started before, as in a test: the first start holds.
    let _already_started = match format {
        Format::Human => lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        Format::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
    Ok(())
}
