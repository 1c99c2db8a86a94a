//! `[[consumer]] sql`: a table in a database.

use std::path::Path;
use std::time::Duration;

use toml::Value;
use upcall_sink_sql::{Options, TableName};

use crate::config::consumer::parse;
use crate::config::reader::Section;
use crate::config::secret;
use crate::config::setting::Setting;

impl Setting for TableName {
    const KIND: &'static str = "a table's name";

    fn read(value: &Value) -> Result<Self, String> {
        parse(value, Self::KIND)
    }
}

/// Reads `sql`. `None` where mistakes leave no sink; they are on record.
pub(super) fn read(mut section: Section<'_>) -> Option<Options> {
    let url = secret::required(
        &mut section,
        "url",
        "The database: `sqlite://PATH`, relative to this file. May be `{ env = \"NAME\" }` or `{ file = \"PATH\" }`.",
    );
    let table = section.or("table", "uploads", "The table; it is created at first use.");
    let statement_timeout = section.or(
        "statement_timeout",
        "10s",
        "How long one transaction may take before the database counts as out of order.",
    );
    let applied_kept = section.or(
        "applied_kept",
        "90d",
        "How long the ids of applied events are kept. Keep it above the time that the bus keeps events.",
    );
    let url = match url?.split_once("://") {
        Some(("sqlite", path)) => format!("sqlite://{}", section.resolve(Path::new(path)).display()),
        _ => {
            section.mistake("url", "is no database that this version knows: write `sqlite://PATH`");
            return None;
        }
    };
    Some(Options { statement_timeout, applied_kept, ..Options::new(url, table) })
}

/// Reports what does not go with the consumer.
pub(super) fn check(
    options: &Options,
    section: &Section<'_>,
    deliver_timeout: Duration,
    events_kept: Option<Duration>,
) {
    if events_kept.is_some_and(|events_kept| options.applied_kept <= events_kept) {
        section.mistake(
            "sql.applied_kept",
            "is not above the time that the bus keeps events (`bus.journal.retention.age` and `dead_letter_age`, `bus.nats.streams.age` and `dead_age`): an event that comes again later would be applied again",
        );
    }
    if options.statement_timeout >= deliver_timeout {
        section.mistake(
            "sql.statement_timeout",
            "is not below the consumer's `deliver_timeout`: a slow database would cost events their attempts",
        );
    }
}
