//! What a consumer does with events: one table of `[[consumer]]`, named like the sink.

mod command;
mod notify;
mod sql;
mod webhook;

use std::time::Duration;

use super::consumer::Given;
use super::reader::Section;
pub(super) use sql::report_shared_ids;

/// A sink's options.
#[derive(Debug, Clone)]
pub(crate) enum Sink {
    Sql(upcall_sink_sql::Options),
    Webhook(Box<upcall_sink_webhook::Options>),
    Notify(Box<upcall_sink_notify::Options>),
    Command(upcall_sink_command::Options),
}

/// What the tables of sinks are called.
pub(super) const NAMES: [&str; 4] = ["sql", "webhook", "notify", "command"];

impl Sink {
    /// Reads the one sink of a `[[consumer]]`. `None` where mistakes leave none; they are on record.
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        // One entry for each sink. Each is read, so that every mistake is reported.
        let is_named = NAMES.iter().any(|sink| section.has(sink));
        let sinks = [
            section
                .optional_section("sql", "Keeps a table of uploads in a SQL database.")
                .map(|sql| sql::read(sql).map(Self::Sql)),
            section
                .optional_section("webhook", "Posts each event to an endpoint, signed.")
                .map(|webhook| webhook::read(webhook).map(Box::new).map(Self::Webhook)),
            section
                .optional_section("notify", "Tells people, by mail or in a chat.")
                .map(|notify| notify::read(notify).map(Box::new).map(Self::Notify)),
            section
                .optional_section("command", "Runs a program with each event.")
                .map(|command| command::read(command).map(Self::Command)),
        ];
        let named: Vec<Option<Self>> = sinks.into_iter().flatten().collect();
        match <[_; 1]>::try_from(named) {
            Ok([sink]) => sink,
            // What is said of it already explains that there is none.
            Err(none) if none.is_empty() && (is_named || section.has_unknown_table()) => None,
            Err(none) if none.is_empty() => {
                section.mistake_here("has no sink: add `sql = { url = \"sqlite://catalog.db\", table = \"uploads\" }`");
                None
            }
            Err(_) => {
                section.mistake_here(
                    "has several sinks: give each a consumer of its own, since each goes at its own pace",
                );
                None
            }
        }
    }

    /// Reports what does not go with the rest of its consumer.
    pub(super) fn check(&self, section: &Section<'_>, deliver_timeout: Duration, events_kept: Option<Duration>) {
        match self {
            Self::Sql(options) => sql::check(options, section, deliver_timeout, events_kept),
            Self::Webhook(_) | Self::Notify(_) | Self::Command(_) => {}
        }
    }

    /// Makes the consumer go with its sink where nothing else was given, and reports what does not.
    pub(super) fn fit(
        &mut self,
        section: &Section<'_>,
        given: Given,
        events_kept: Option<Duration>,
        consumer: &mut upcall_consumer::Options,
    ) {
        match self {
            Self::Sql(options) => sql::fit(options, given, consumer),
            Self::Webhook(options) => webhook::fit(options, section, given, events_kept, consumer),
            Self::Notify(options) => notify::fit(options, section, given, consumer),
            Self::Command(options) => command::fit(options, section, given, consumer),
        }
    }
}
