//! What a journal holds, and whether its file is sound.

use std::process::ExitCode;

use clap::Args;
use upcall_bus_journal::ConsumerState;

use super::{JournalArguments, open, summary, warn_of_unreadable};
use crate::terminal::printable;
use crate::words::plural;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    journal: JournalArguments,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let folder = arguments.journal.folder()?;
    let reader = open(&folder)?;
    let contents = reader.examine()?;
    println!("{} has {}.", folder.display(), summary(&contents));
    warn_of_unreadable(&contents);
    if contents.faults.is_empty() && contents.unreadable > 0 {
        eprintln!("upcall: its file is sound otherwise; a backup from before may have them");
        return Ok(ExitCode::FAILURE);
    }
    if contents.faults.is_empty() {
        reader.consumers()?.iter().for_each(|consumer| println!("{}", describe(consumer)));
        println!("Its file is sound.");
        return Ok(ExitCode::SUCCESS);
    }
    contents.faults.iter().for_each(|fault| eprintln!("upcall: {}", printable(fault)));
    eprintln!("upcall: its file is damaged; stop Upcall, keep a copy of the folder, and restore a backup");
    Ok(ExitCode::FAILURE)
}

fn describe(consumer: &ConsumerState) -> String {
    let name = printable(&consumer.name);
    match consumer.lag {
        0 => format!("Consumer {name} has settled every event."),
        lag => format!("Consumer {name} has {} before it.", plural(lag, "event")),
    }
}
