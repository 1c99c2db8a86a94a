//! Retrying and dropping dead letters.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use jiff::Timestamp;
use upcall_bus::{Archive, Letter};

use super::super::kept::{Go, report};
use super::super::operated;
use super::super::progress::Progress;
use super::select::Selection;
use crate::terminal::{self, printable};
use crate::words::plural;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    /// Do it without asking. Needed where nobody can be asked, unless each dead letter is named
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    bus: operated::BusArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Retry,
    Drop,
}

impl Act {
    fn question(self, what: &str) -> String {
        match self {
            Self::Retry => format!("Give {what} to its consumer again?"),
            Self::Drop => format!("Forget {what} for good?"),
        }
    }

    fn outcome(self) -> &'static str {
        match self {
            Self::Retry => "given again",
            Self::Drop => "dropped",
        }
    }
}

/// Does it to what was selected.
pub(super) async fn run(act: Act, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { selection, yes, bus } = arguments;
    selection.demand()?;
    let can_ask = terminal::can_ask();
    if !(*yes || can_ask || selection.is_exact()) {
        bail!("nobody can be asked whether that is meant: add --yes, or name each dead letter by its number");
    }
    let archive = bus.open().await?.archive();
    let (mut numbers, mut unreadable) = (Vec::new(), Vec::new());
    let mut consumers: BTreeMap<String, u64> = BTreeMap::new();
    let selected = selection.at(Timestamp::now())?;
    let missing = selected
        .each(&*archive, |letters| {
            for letter in letters {
                if let (Act::Retry, Letter::Unreadable(letter)) = (act, &letter) {
                    unreadable.push((letter.number, letter.fault.clone()));
                    continue;
                }
                numbers.push(letter.number());
                *consumers.entry(printable(letter.consumer()).into_owned()).or_default() += 1;
            }
            Ok(Go::On)
        })
        .await?;
    let (mut status, is_spoilt) = (report::<Letter>(&missing), !unreadable.is_empty());
    for (number, fault) in unreadable {
        eprintln!("upcall: dead letter {number} can't be given again: {}; `dead drop` forgets it", printable(&fault));
        status = ExitCode::FAILURE;
    }
    if numbers.is_empty() {
        println!("No {}dead letters were selected; nothing was done.", if is_spoilt { "readable " } else { "" });
        return Ok(status);
    }
    let what = describe(numbers.len(), &consumers);
    if !*yes && can_ask && !terminal::asked(&act.question(&what))? {
        println!("Nothing was done.");
        return Ok(ExitCode::FAILURE);
    }
    let done = each(act, &*archive, &numbers).await?;
    print!("{}", plural(done, "dead letter"));
    println!(" {}.", act.outcome());
    let gone = numbers.len() - done;
    if gone > 0 {
        println!("{} gone meanwhile: somebody else did something about it.", plural(gone, "dead letter"));
    }
    Ok(status)
}

/// Returns how many it was done to; the others were gone.
async fn each(act: Act, archive: &dyn Archive, numbers: &[u64]) -> anyhow::Result<usize> {
    let mut done = 0;
    let mut progress = Progress::new();
    for (at, number) in numbers.iter().enumerate() {
        let outcome = match act {
            Act::Retry => archive.retry_dead_letter(*number).await,
            Act::Drop => archive.drop_dead_letter(*number).await,
        };
        let outcome = outcome.with_context(|| {
            format!("dead letter {number}: {} were {} before it; the same command goes on", done, act.outcome())
        });
        match outcome {
            Ok(there) => done += usize::from(there),
            Err(error) => {
                progress.end();
                return Err(error);
            }
        }
        progress.tell((at + 1) as f64 / numbers.len() as f64, done as u64, act.outcome());
    }
    progress.end();
    Ok(done)
}

fn describe(count: usize, consumers: &BTreeMap<String, u64>) -> String {
    let of = match consumers.len() {
        1 => consumers.keys().next().cloned().unwrap_or_default(),
        _ => consumers.iter().map(|(name, count)| format!("{name} ({count})")).collect::<Vec<_>>().join(", "),
    };
    format!("{} of {of}", plural(count, "dead letter"))
}
