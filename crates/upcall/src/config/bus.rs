//! `[bus]`: where events are made durable.

use std::path::PathBuf;
use std::time::Duration;

use upcall_bus_journal::{Options, QuarantineBounds, Retention};

use super::nats::{self, Ack, Nats};
use super::reader::Section;
use super::setting::{Bytes, Count};

/// Where the journal is, unless the configuration says otherwise; relative to the configuration file.
pub(crate) const JOURNAL_FOLDER: &str = "./upcall-data";

/// Where events are made durable: in a journal, on NATS, or in both.
#[derive(Debug, Clone)]
pub(crate) struct Bus {
    pub(crate) journal: Option<Options>,
    pub(crate) nats: Option<Nats>,
}

impl Bus {
    /// For how long consumers may be given an event again; `None` if for ever.
    pub(super) fn events_kept(&self) -> Option<Duration> {
        match &self.nats {
            Some(nats) => {
                let streams = &nats.options.streams;
                Some(streams.age.max(streams.dead_age))
                    .filter(|_| !streams.age.is_zero() && !streams.dead_age.is_zero())
            }
            None => self.journal.as_ref().map(|journal| journal.retention.age.max(journal.dead_letter_age)),
        }
    }
}

/// Reads `[bus]`.
pub(super) fn read(mut section: Section<'_>) -> Bus {
    let named = section.has("journal");
    let journal = read_journal(&mut section);
    let Some(table) = section.optional_section("nats", "NATS JetStream, where one machine is not enough.") else {
        return Bus { journal: Some(journal), nats: None };
    };
    let nats = nats::read(table);
    if nats.as_ref().is_some_and(|nats| nats.ack == Ack::Journal) && !named {
        section.mistake("journal", "is missing: with `nats.ack = \"journal\"` name the folder that events are kept in");
    }
    Bus { journal: named.then_some(journal), nats }
}

fn read_journal(section: &mut Section<'_>) -> Options {
    if section.has("journal") && !section.is_table("journal") {
        let folder: PathBuf =
            section.or("journal", JOURNAL_FOLDER, "The journal's folder, or a table with the keys of `[bus.journal]`.");
        return Options::new(section.resolve(&folder));
    }
    let mut journal = section.section(
        "journal",
        "The embedded journal; `journal = \"FOLDER\"` is short for its folder alone. Beside `[bus.nats]` there is one \
         only if it is named.",
    );
    let folder: PathBuf = journal.or(
        "folder",
        JOURNAL_FOLDER,
        "The folder of its files, relative to this file. It is made when it is not there.",
    );
    let defaults = Options::new(journal.resolve(&folder));
    let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let queue_max: Count = journal.or(
        "queue_max",
        number(defaults.queue_max),
        "How many callbacks may wait for the disk before more are refused with 503.",
    );
    let in_flight_max: Count =
        journal.or("in_flight_max", number(defaults.in_flight_max), "How many events a consumer may hold at once.");
    let dead_letter_age = journal.or(
        "dead_letter_age",
        "30d",
        "How long events are kept that a consumer could not take, for somebody to retry them; rejected callbacks, too.",
    );
    let Bytes(size_bytes) =
        journal.or("quarantine_size", "64MiB", "How much rejected callbacks may take; the oldest go first.");
    let retention =
        read_retention(journal.section("retention", "How long events stay. Whichever limit is reached first holds."));
    Options {
        queue_max: queue_max.as_usize(),
        in_flight_max: in_flight_max.as_usize(),
        retention,
        dead_letter_age,
        quarantine: QuarantineBounds { size_bytes, age: dead_letter_age, ..defaults.quarantine },
        ..defaults
    }
}

fn read_retention(mut section: Section<'_>) -> Retention {
    let age =
        section.or("age", "7d", "Events older than this go. A callback that is repeated later makes a new event.");
    let Bytes(size_bytes) =
        section.or("size", "10GiB", "The oldest events go while the journal takes more than this on disk.");
    let drop_unsettled = section.or(
        "drop_unsettled",
        false,
        "Whether events go, too, that a consumer has not settled. Unless they do, they stay, and the journal grows.",
    );
    Retention { age, size_bytes, drop_unsettled }
}
