//! Making a journal of a backup.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::backup::into_folder;
use super::summary;

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
        upcall_bus_journal::restore(io::stdin().lock(), into)?
    } else if from.is_dir() {
        into_folder(from, into)?.0
    } else {
        let file = File::open(from).with_context(|| format!("{} can't be opened", from.display()))?;
        upcall_bus_journal::restore(file, into)?
    };
    println!("{} has {}.", into.display(), summary(&contents));
    Ok(ExitCode::SUCCESS)
}
