//! Copying a journal while it is written.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use upcall_bus_journal::Contents;

use super::{JournalArguments, open, summary, warn_of_unreadable};
use crate::words::plural;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    journal: JournalArguments,
    /// The folder that the copy goes to, new or empty; `-` is standard output
    #[arg(value_name = "FOLDER")]
    into: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let from = arguments.journal.folder()?;
    if arguments.into.as_os_str() == "-" {
        to_standard_output(&from)?;
    } else {
        let (contents, set_aside) = into_folder(&from, &arguments.into)?;
        print!("{} has {}", arguments.into.display(), summary(&contents));
        println!(
            "{}.",
            if set_aside > 0 { format!(", {} set aside", plural(set_aside, "event")) } else { String::new() }
        );
        warn_of_unreadable(&contents);
    }
    Ok(ExitCode::SUCCESS)
}

/// Copies a journal with all that belongs to it. Returns what it holds, and how many events are set aside.
pub(super) fn into_folder(from: &Path, into: &Path) -> anyhow::Result<(Contents, u64)> {
    let contents = open(from)?.back_up(into)?;
    let set_aside = upcall_relay::copy_set_aside(from, into)
        .with_context(|| format!("the journal is in {}, but not what the relay has set aside", into.display()))?;
    Ok((contents, set_aside))
}

fn to_standard_output(from: &Path) -> anyhow::Result<()> {
    let (contents, mut file) = open(from)?.back_up_unnamed()?;
    io::copy(&mut file, &mut io::stdout().lock()).context("the copy can't be written to standard output")?;
    eprintln!("It has {}.", summary(&contents));
    warn_of_unreadable(&contents);
    let set_aside = fs::read_dir(from.join("set-aside")).map_or(0, Iterator::count);
    if set_aside > 0 {
        eprintln!("What the relay has set aside is not in it: copy {}, too.", from.join("set-aside").display());
    }
    Ok(())
}
