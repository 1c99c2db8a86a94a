//! `[log]`: what is logged, and how it looks.

use toml::Value;
use upcall_telemetry::log::{DEFAULT_FILTER, Format, check_filter};

use super::reader::Section;
use super::setting::{Setting, word};

/// How to log.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) format: Format,
    pub(crate) filter: String,
}

impl Setting for Format {
    const KIND: &'static str = "\"human\" or \"json\"";

    fn read(value: &Value) -> Result<Self, String> {
        word(value, &[("human", Self::Human), ("json", Self::Json)])
    }
}

/// Reads `[log]`.
pub(super) fn read(mut section: Section<'_>) -> Log {
    let format = section.or(
        "format",
        "human",
        "How a line looks: for people (`human`) or as JSON (`json`). Lines go to standard error.",
    );
    let filter: String = section.or(
        "filter",
        DEFAULT_FILTER,
        "What is logged: a level, or levels by crate, such as `info,upcall_gateway=debug`.",
    );
    if let Err(error) = check_filter(&filter) {
        section.mistake("filter", format!("is no filter: {error}"));
    }
    Log { format, filter }
}
