//! `upcall dead`: looks at dead letters, gives them to their consumers again, or forgets them.

mod act;
mod select;
mod show;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::kept::Style;
use super::operated;
use crate::runtime;
use select::Selection;

/// Look at events that a consumer could not take, and give them to it again
///
/// An event is a dead letter when its consumer said that it can't be taken, or failed too often. It is kept with the
/// reason until it is retried or dropped (on NATS for `streams.dead_age`, 30 days by default). One that can't be read, as
/// where its event was too large to go with it and is gone, is listed with what is wrong with it, and can be dropped.
///
/// Examples:
///   upcall dead list -c upcall.toml                        # what is there, and why
///   upcall dead list --consumer catalog --reason "no such column" --json
///   upcall dead show 7                                     # one of them, whole
///   upcall dead retry 7 8                                  # after the cause is mended
///   upcall dead retry --consumer catalog --newer-than 2h
///   upcall dead drop --older-than 30d --yes
///
/// Exit status: 0 if it was done, also where nothing was selected; 1 if not, as where a number is that of no dead letter,
/// or one that was to be retried can't be read.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List dead letters, oldest first
    List(List),
    /// Show dead letters whole: the reason, the times and the event
    Show(Show),
    /// Give dead letters to their consumers again
    ///
    /// Each comes to its own consumer only, beside its other events, with attempts counted from 1, and is no dead letter
    /// any more. Whether anybody runs the consumer now does not matter. A sink that goes by the event's id, as the SQL
    /// sink does, has an event that it had applied already once.
    #[command(verbatim_doc_comment)]
    Retry(act::Arguments),
    /// Forget dead letters for good
    Drop(act::Arguments),
}

#[derive(Args)]
struct List {
    #[command(flatten)]
    selection: Selection,
    /// Print each dead letter whole, as JSON on one line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: operated::BusArguments,
}

#[derive(Args)]
struct Show {
    #[command(flatten)]
    selection: Selection,
    /// Print as JSON on one line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: operated::BusArguments,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    runtime::block_on(async {
        match &arguments.action {
            Action::List(list) => {
                let style = if list.json { Style::Json } else { Style::Table };
                show::run(&list.bus.open().await?, &list.selection, style).await
            }
            Action::Show(show) => {
                show.selection.demand()?;
                let style = if show.json { Style::Json } else { Style::Whole };
                show::run(&show.bus.open().await?, &show.selection, style).await
            }
            Action::Retry(arguments) => act::run(act::Act::Retry, arguments).await,
            Action::Drop(arguments) => act::run(act::Act::Drop, arguments).await,
        }
    })
}
