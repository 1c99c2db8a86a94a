//! `[[consumer]]`: who reads the events, and what is done with them.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use toml::Value;
use upcall_bus::{ConsumerName, ConsumerSpec, Start};
use upcall_consumer::Backoff;
use upcall_event::SubjectFilter;

use crate::bus::RELAY;

use super::condition;
use super::reader::{Section, kind_of};
use super::setting::{Count, Setting, word};
use super::sink::Sink;

/// A consumer and its sink.
#[derive(Debug, Clone)]
pub(crate) struct Consumer {
    pub(crate) options: upcall_consumer::Options,
    pub(crate) sink: Sink,
}

impl Consumer {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.options.spec.name.as_str()
    }
}

/// Which of a consumer's keys were given. A sink may have better defaults for the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given {
    pub(super) batch_max: bool,
    pub(super) concurrency: bool,
    pub(super) attempts_max: bool,
    pub(super) deliver_timeout: bool,
    pub(super) backoff: bool,
}

impl Given {
    fn of(section: &Section<'_>) -> Self {
        Self {
            batch_max: section.has("batch_max"),
            concurrency: section.has("concurrency"),
            attempts_max: section.has("attempts_max"),
            deliver_timeout: section.has("deliver_timeout"),
            backoff: section.has("backoff"),
        }
    }
}

impl Setting for ConsumerName {
    const KIND: &'static str = "a name of letters, digits, `_` and `-`";

    fn read(value: &Value) -> Result<Self, String> {
        parse(value, Self::KIND)
    }
}

impl Setting for SubjectFilter {
    const KIND: &'static str = "a subject filter, such as \"upcall.uploads.examplebucket.>\"";

    fn read(value: &Value) -> Result<Self, String> {
        parse(value, Self::KIND)
    }
}

impl Setting for Start {
    const KIND: &'static str = "\"oldest\" or \"new\"";

    fn read(value: &Value) -> Result<Self, String> {
        word(value, &[("oldest", Self::Oldest), ("new", Self::New)])
    }
}

/// Reads a type that knows how to read itself from text, and what to say of text that it does not take.
pub(super) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(value: &Value, kind: &str) -> Result<T, String> {
    let text = value.as_str().ok_or_else(|| format!("takes {kind}, not {}", kind_of(value)))?;
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// Reads one `[[consumer]]`. `None` where mistakes leave no consumer; they are on record.
pub(super) fn read(mut section: Section<'_>, events_kept: Option<Duration>) -> Option<Consumer> {
    let given = Given::of(&section);
    let spec = read_spec(&mut section);
    let batch_max = section.or(
        "batch_max",
        500,
        "The most events that are handed over at once, of 2 MiB together unless one is larger. A webhook has smaller \
         batches, by its `concurrency`; a message to people is a batch by itself, unless there is a `digest`; so is a \
         program's event.",
    );
    let concurrency = section.or(
        "concurrency",
        2,
        "The most batches that are under way at once. By default one for messages to people, and for a \
         `statement` of yours, since two of these may wait for each other's rows.",
    );
    let attempts_max = section.or(
        "attempts_max",
        20,
        "How often an event may fail before it becomes a dead letter. An outage of the target counts as no attempt. A \
         webhook has `retry` instead.",
    );
    let deliver_timeout: Duration = section.or(
        "deliver_timeout",
        "30s",
        "How long one batch may take. For a webhook by default as long as its requests may, for messages to people as long \
         as the service's rate may make them wait.",
    );
    let drain_timeout =
        section.or("drain_timeout", "10s", "How long batches under way may take to finish at shutdown.");
    let condition = section.optional_section(
        "where",
        "What the events have to be like, beside their subject. All that is named has to hold; a field that an event does \
         not have is never what was asked for. The other events count as done, and cost no attempt.",
    );
    let condition = condition.map(condition::read).unwrap_or_default();
    let backoff = read_backoff(section.section("backoff", "How long an event waits after it failed."));
    let mut sink = Sink::read(&mut section);
    if let Some(sink) = &sink {
        sink.check(&section, deliver_timeout, events_kept);
    }
    let defaults = upcall_consumer::Options::new(spec?);
    let mut options = upcall_consumer::Options {
        condition,
        batch_max: size(batch_max),
        concurrency: size(concurrency),
        attempts_max: NonZeroU32::new(Count::get(attempts_max)),
        deliver_timeout,
        drain_timeout,
        backoff,
        ..defaults
    };
    if let Some(sink) = &mut sink {
        sink.fit(&section, given, events_kept, &mut options);
    }
    Some(Consumer { options, sink: sink? })
}

/// The keys that [`read_spec`] reads.
pub(super) const SPEC_KEYS: [&str; 3] = ["name", "filter", "start"];

/// Reads what a consumer is to the bus.
pub(super) fn read_spec(section: &mut Section<'_>) -> Option<ConsumerSpec> {
    let name: Option<ConsumerName> =
        section.required("name", "Its name, under which its progress is kept: letters, digits, `_` and `-`.");
    if name.as_ref().is_some_and(|name| name.as_str() == RELAY) {
        section.mistake("name", "is taken by the relay from the journal to NATS; choose another");
    }
    let filter = section.or("filter", ">", "The subjects that it wants. `*` is one token, a final `>` one or more.");
    let start = section.or(
        "start",
        "oldest",
        "Where a consumer begins whose name is new: with the `oldest` event that is kept, or with the first `new` one.",
    );
    Some(ConsumerSpec { name: name?, filter, start })
}

fn size(count: Count) -> NonZeroUsize {
    NonZeroUsize::new(count.as_usize()).unwrap_or(NonZeroUsize::MIN)
}

fn read_backoff(mut section: Section<'_>) -> Backoff {
    let defaults = Backoff::default();
    let text = |duration: Duration| humantime::format_duration(duration).to_string();
    let first =
        section.or("first", text(defaults.first), "The wait after the first failure; each further one is longer.");
    let max: Duration = section.or("max", text(defaults.max), "The longest wait.");
    if max < first {
        section.mistake("max", "is shorter than the first wait");
    }
    Backoff { first, max, ..defaults }
}
