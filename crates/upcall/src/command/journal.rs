//! `upcall journal`: copies of the journal, what is in it, and for whom it is kept.

mod backup;
mod check;
mod forget;
mod restore;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use upcall_bus_journal::{Contents, Reader};

use super::operated::NO_JOURNAL;
use crate::config::{Bus, JOURNAL_FOLDER};
use crate::words::plural;

/// Back up the journal while it is written, restore it, check it, and forget a consumer
///
/// A backup is a journal in a folder of its own: every event that was answered before it began, how far each consumer
/// is, dead letters and rejected callbacks, in one moment's state. It is read through for faults before it counts.
///
/// Examples:
///   upcall journal backup -c upcall.toml /backup/2026-11-26        # also while `upcall serve` runs
///   upcall journal backup -c upcall.toml - >journal.db             # to standard output, as out of a container
///   upcall journal restore /backup/2026-11-26 /var/lib/upcall/journal   # a new folder, or an empty one
///   upcall journal restore - /var/lib/upcall/journal <journal.db
///   upcall journal check -c upcall.toml                            # what is in it, and whether its file is sound
///   upcall journal forget -c upcall.toml old-catalog               # keep nothing for a consumer that is no more
///
/// Exit status: 0 if it was done, and with `check` if the file and every event are sound; 1 if not. Nothing is left of a copy that failed.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Copy the journal, also while it is written
    ///
    /// Nobody waits for it. Until it is made the journal's write-ahead log grows: leave it room for what comes meanwhile.
    /// The copy takes about as much room as the journal's events. To standard output (`-`), it is made in the journal's
    /// folder first, and needs the room there.
    #[command(verbatim_doc_comment)]
    Backup(backup::Arguments),
    /// Make a journal of a backup
    ///
    /// Its consumers go on where they were when the backup was made: what they have had since comes once more, and a sink
    /// that goes by the event's id applies it once. Events that came after the backup are not in it.
    ///
    /// Of a folder that was copied name the folder: its `journal.db` alone lacks what its `journal.db-wal` has.
    #[command(verbatim_doc_comment)]
    Restore(restore::Arguments),
    /// Tell what the journal holds, and whether its file is sound
    ///
    /// Reads all of it, every event. Until that is done the write-ahead log of a journal that is written grows.
    #[command(verbatim_doc_comment)]
    Check(check::Arguments),
    /// Keep nothing any more for a consumer that is not configured
    ///
    /// What it has not settled goes with the retention of events then. Upcall has to be stopped. Its dead letters stay.
    #[command(verbatim_doc_comment)]
    Forget(forget::Arguments),
}

/// Which journal it is about.
#[derive(Args)]
struct JournalArguments {
    /// The configuration file that names the journal
    #[arg(short, long, value_name = "FILE", conflicts_with = "journal")]
    config: Option<PathBuf>,
    /// The folder of a journal, without a configuration file
    #[arg(short, long, value_name = "FOLDER", default_value = JOURNAL_FOLDER)]
    journal: PathBuf,
}

impl JournalArguments {
    fn folder(&self) -> anyhow::Result<PathBuf> {
        let Some(file) = &self.config else { return Ok(self.journal.clone()) };
        match Bus::load(file)?.journal {
            Some(journal) => Ok(journal.folder),
            None => bail!("{} names no journal", file.display()),
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.action {
        Action::Backup(arguments) => backup::run(arguments),
        Action::Restore(arguments) => restore::run(arguments),
        Action::Check(arguments) => check::run(arguments),
        Action::Forget(arguments) => forget::run(arguments),
    }
}

fn open(folder: &Path) -> anyhow::Result<Reader> {
    Reader::open(folder).context(NO_JOURNAL)
}

/// Says which events are none any more. They are copied as they are: whoever mends them needs them.
fn warn_of_unreadable(contents: &Contents) {
    if contents.unreadable == 0 {
        return;
    }
    let numbers: Vec<_> = contents.first_unreadable.iter().map(u64::to_string).collect();
    let more = if contents.unreadable > numbers.len() as u64 { ", …" } else { "" };
    eprintln!(
        "upcall: {} can't be read any more, number {}{more}: no consumer gets what somebody or a disk has overwritten",
        plural(contents.unreadable, "event"),
        numbers.join(", ")
    );
}

/// What a journal holds, in words.
fn summary(contents: &Contents) -> String {
    let size = bytesize::ByteSize(contents.size_bytes).display().iec();
    let letters = plural(contents.dead_letters, "dead letter");
    let Some((first, last)) = contents.sequences else { return format!("no events, {letters}, {size}") };
    let newest = contents.newest_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let newest = newest.map(|time| format!(", the newest of {time:.0}")).unwrap_or_default();
    format!("{}, numbers {first} to {last}{newest}, {letters}, {size}", plural(contents.events, "event"))
}
