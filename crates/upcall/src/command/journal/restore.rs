//! Making a journal of a backup.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use upcall_bus_journal::Contents;

use super::backup::into_folder;
use super::{summary, warn_of_unreadable};

/// What SQLite keeps a part of a database in, beside it.
const LOGS: [&str; 2] = ["-wal", "-journal"];
/// Where a database's head says how it is written: by 2, with a log beside it.
const WRITE_VERSION: usize = 18;

#[derive(Args)]
pub(super) struct Arguments {
    /// The folder of a backup, or its file `journal.db`; `-` is standard input
    #[arg(value_name = "BACKUP")]
    from: PathBuf,
    /// The folder that the journal goes to, new or empty: that of `[bus] journal`
    #[arg(value_name = "FOLDER")]
    into: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { from, into } = arguments;
    let contents = if from.as_os_str() == "-" {
        restore(io::stdin().lock(), into)?
    } else if from.is_dir() {
        into_folder(from, into)?.0
    } else {
        refuse_a_part(from)?;
        let file = File::open(from).with_context(|| format!("{} can't be opened", from.display()))?;
        restore(file, into)?
    };
    println!("{} has {}.", into.display(), summary(&contents));
    warn_of_unreadable(&contents);
    Ok(ExitCode::SUCCESS)
}

/// A database without its log lacks its newest events, and nothing in it says so.
fn refuse_a_part(file: &Path) -> anyhow::Result<()> {
    for ending in LOGS {
        let mut log = OsString::from(file);
        log.push(ending);
        let log = PathBuf::from(log);
        if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            bail!(
                "{} has the newest events of {}: name their folder, {}, where they are called journal.db and journal.db{ending}",
                log.display(),
                file.display(),
                folder.display()
            );
        }
    }
    Ok(())
}

/// A copy that Upcall made is complete by itself, and says so in its head. Of one that was copied as a file nobody can tell
/// whether it had a log.
fn restore(mut database: impl Read, into: &Path) -> anyhow::Result<Contents> {
    let mut head = Vec::new();
    database.by_ref().take(WRITE_VERSION as u64 + 1).read_to_end(&mut head)?;
    let has_a_log = head.get(WRITE_VERSION) == Some(&2);
    let contents = upcall_bus_journal::restore(Cursor::new(head).chain(database), into)?;
    if has_a_log {
        eprintln!(
            "upcall: this is no copy by `upcall journal backup`, but a journal's own file. If there was a journal.db-wal beside \
             it, its newest events are missing here: restore the folder instead"
        );
    }
    Ok(contents)
}
