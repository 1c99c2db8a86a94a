//! `upcall quarantine`: looks at rejected callbacks, or forgets them.

mod select;
mod show;

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use jiff::Timestamp;

use upcall_bus::Quarantined;

use super::kept::{Go, Style, report};
use super::operated;
use crate::words::plural;
use crate::{runtime, terminal};
use select::Selection;

/// Look at callbacks that were rejected, and why
///
/// A callback that the gateway did not answer with 200 is kept with the reason, its target, headers and body: on NATS
/// where there is NATS, else in the journal. What is kept is bounded, and the oldest go first. Of a flood only a part
/// is kept; `upcall_quarantine_callbacks_total` in /metrics counts the rest. Nothing of it is proved: anybody can
/// send what is not genuine.
///
/// Examples:
///   upcall quarantine list -c upcall.toml                  # what is there, and why
///   upcall quarantine list --code signature_mismatch --newer-than 2h --json
///   upcall quarantine show 7                               # one of them, whole
///   upcall quarantine drop --older-than 7d --yes
///
/// Exit status: 0 if it was done, also where nothing was selected; 1 if not, as where a number is that of no callback.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List rejected callbacks, oldest first
    List(Look),
    /// Show rejected callbacks whole: the reason and the request
    Show(Look),
    /// Forget rejected callbacks for good
    Drop(Drop),
}

#[derive(Args)]
struct Look {
    #[command(flatten)]
    selection: Selection,
    /// Print each callback whole, as JSON on one line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: operated::BusArguments,
}

#[derive(Args)]
struct Drop {
    #[command(flatten)]
    selection: Selection,
    /// Do it without asking. Needed where nobody can be asked, unless each callback is named
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    bus: operated::BusArguments,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    runtime::block_on(async {
        let style = |json, other| if json { Style::Json } else { other };
        match &arguments.action {
            Action::List(list) => {
                show::run(&list.bus.open().await?, &list.selection, style(list.json, Style::Table)).await
            }
            Action::Show(show) => {
                show.selection.demand()?;
                show::run(&show.bus.open().await?, &show.selection, style(show.json, Style::Whole)).await
            }
            Action::Drop(arguments) => drop(arguments).await,
        }
    })
}

async fn drop(arguments: &Drop) -> anyhow::Result<ExitCode> {
    let Drop { selection, yes, bus } = arguments;
    selection.demand()?;
    if !(*yes || terminal::can_ask() || selection.is_exact()) {
        bail!("nobody can be asked whether that is meant: add --yes, or name each callback by its number");
    }
    let archive = bus.open().await?.archive();
    let mut numbers = Vec::new();
    let selected = selection.at(Timestamp::now())?;
    let missing = selected
        .each(&*archive, |kept| {
            numbers.extend(kept.iter().map(|kept| kept.number));
            Ok(Go::On)
        })
        .await?;
    let status = report::<Quarantined>(&missing);
    if numbers.is_empty() {
        println!("No rejected callbacks were selected; nothing was done.");
        return Ok(status);
    }
    let what = |count: usize| plural(count, "rejected callback");
    if !*yes && terminal::can_ask() && !terminal::asked(&format!("Forget {} for good?", what(numbers.len())))? {
        println!("Nothing was done.");
        return Ok(ExitCode::FAILURE);
    }
    let mut done = 0;
    for number in numbers {
        // One that is gone meanwhile is what was wanted.
        done += usize::from(archive.drop_quarantined(number).await?);
    }
    println!("{} dropped.", what(done));
    Ok(status)
}
