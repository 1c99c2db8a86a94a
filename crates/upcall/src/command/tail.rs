//! `upcall tail`: shows events as they reach the bus.

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use upcall_bus::{Archive, ArchiveError, Page};
use upcall_bus_journal::{Reader, Tail};
use upcall_bus_nats::{NatsBus, StreamState};
use upcall_event::{Event, SubjectFilter};
use upcall_telemetry::error_chain;

use super::operated::{self, NO_JOURNAL, Named};
use crate::runtime;
use crate::terminal::{printable, printable_json};

/// Show events as they reach the bus
///
/// Shows the last events and follows the bus, be it a journal, also while `upcall serve` or `upcall dev` writes it, or
/// NATS. It reads only: no consumer notices.
///
/// Examples:
///   upcall tail                                     # the journal in ./upcall-data
///   upcall tail -c upcall.toml -n 100 --no-follow   # the last 100 events, and out
///   upcall tail --filter 'upcall.uploads.photos.>' --json | jq .data.object
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(flatten)]
    bus: operated::BusArguments,
    /// The subjects to show; `*` is one token, a final `>` one or more
    #[arg(long, default_value = ">")]
    filter: SubjectFilter,
    /// How many of the events that are there to show first
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 10)]
    last: u64,
    /// End after the events that are there
    #[arg(long)]
    no_follow: bool,
    /// Show each event whole, as CloudEvents JSON on one line
    #[arg(long)]
    json: bool,
}

/// How many events are read at once.
const PAGE: usize = 256;
/// How long one look into the journal for news lasts. Ctrl-C ends it at once.
const WAIT: Duration = Duration::from_secs(3600);
/// How often NATS is asked for news: quick to the eye, and next to no work.
const POLL: Duration = Duration::from_millis(200);

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match arguments.bus.named()? {
        Named::Journal(folder) => of_journal(arguments, &folder)?,
        Named::Nats(nats) => runtime::block_on(async {
            let bus = operated::connect(&nats, arguments.bus.wait).await?;
            of_nats(arguments, &bus).await
        })?,
    }
    Ok(ExitCode::SUCCESS)
}

fn of_journal(arguments: &Arguments, folder: &Path) -> anyhow::Result<()> {
    let reader = Reader::open(folder).context(NO_JOURNAL)?;
    let last = reader.last_sequence()?;
    tell_of_none(arguments, last);
    let after = last.saturating_sub(arguments.last);
    let mut tail = Tail::new(reader, after, arguments.filter.clone());
    loop {
        let events = tail.next(PAGE, if arguments.no_follow { Duration::ZERO } else { WAIT })?;
        let is_end = events.is_empty() && arguments.no_follow;
        if is_end || !show_all(arguments, events.iter().map(|stored| &stored.event))? {
            return Ok(());
        }
    }
}

async fn of_nats(arguments: &Arguments, bus: &NatsBus) -> anyhow::Result<()> {
    let mut state = bus.stream_state().await?;
    tell_of_none(arguments, state.last);
    let mut after = state.last.saturating_sub(arguments.last);
    let mut told = None;
    loop {
        let page = match bus.events(after, &arguments.filter, PAGE).await {
            Ok(page) => page,
            Err(error) if arguments.no_follow => return Err(error.into()),
            Err(error) => {
                wait_out(error, &mut told).await;
                Page { events: Vec::new(), scanned: after, end: true }
            }
        };
        let is_end = page.end && arguments.no_follow;
        after = page.scanned;
        if !show_all(arguments, page.events.iter().map(|stored| &stored.event))? || is_end {
            return Ok(());
        }
        if page.end {
            let before = state;
            state = news(bus, &before, after, &mut told).await;
            after = resume(&before, &state, after);
        }
    }
}

/// Waits until the stream holds more than was read, or is no longer the one that was read.
async fn news(bus: &NatsBus, before: &StreamState, after: u64, told: &mut Option<String>) -> StreamState {
    loop {
        match bus.stream_state().await {
            Ok(state) if state.created != before.created || state.last != after => return state,
            Ok(_) => {
                *told = None;
                tokio::time::sleep(POLL).await;
            }
            Err(error) => wait_out(error, told).await,
        }
    }
}

/// Where to read on: from the beginning of a stream that was made anew, or behind the end of one that has lost its own.
fn resume(before: &StreamState, now: &StreamState, after: u64) -> u64 {
    if now.created != before.created {
        eprintln!("upcall: the stream was made anew; going on with the new one");
        return 0;
    }
    if now.last < after {
        eprintln!("upcall: the stream has lost events from its end; going on behind number {}", now.last);
    }
    after.min(now.last)
}

/// Says what is wrong, once, and gives the servers time: they may be choosing a leader, or come back.
async fn wait_out(error: ArchiveError, told: &mut Option<String>) {
    let text = error_chain(&error);
    if told.as_ref() != Some(&text) {
        eprintln!("upcall: {}; going on as soon as that is over", printable(&text));
        *told = Some(text);
    }
    tokio::time::sleep(AGAIN).await;
}

/// Says why nothing is shown, beside what a program may read.
fn tell_of_none(arguments: &Arguments, last: u64) {
    if last == 0 && arguments.no_follow {
        eprintln!("No events yet.");
    }
}

/// How soon NATS is asked again that could not be.
const AGAIN: Duration = Duration::from_secs(1);

/// False if whoever reads has seen enough, as `head` does.
fn show_all<'e>(arguments: &Arguments, mut events: impl Iterator<Item = &'e Event>) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    let colour = out.is_terminal();
    let written = events.try_for_each(|event| show(&mut out, event, arguments.json, colour));
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        result => Ok(result.map(|()| true)?),
    }
}

fn show(out: &mut impl Write, event: &Event, json: bool, colour: bool) -> std::io::Result<()> {
    if json {
        return writeln!(out, "{}", printable_json(&String::from_utf8_lossy(&event.to_structured())));
    }
    let data = &event.data;
    let (bold, plain) = if colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    write!(
        out,
        "{time:.3}  {bold}{bucket}/{object}{plain}",
        time = event.time,
        bucket = printable(&data.bucket),
        object = printable(&data.object)
    )?;
    if let Some(size) = data.size {
        write!(out, "  {}", bytesize::ByteSize(size).display().si())?;
    }
    for detail in [&data.mime_type, &data.operation].into_iter().flatten() {
        write!(out, "  {}", printable(detail))?;
    }
    writeln!(out, "  route={}  id={}", printable(&data.route), event.id)
}
