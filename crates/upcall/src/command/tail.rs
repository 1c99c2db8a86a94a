//! `upcall tail`: shows events as they reach the journal.

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use upcall_bus_journal::{Reader, StoredEvent, Tail};
use upcall_event::SubjectFilter;

use crate::config::{Config, JOURNAL_FOLDER};
use crate::terminal::printable;

/// Show events as they reach the journal
///
/// Shows the last events and follows the journal, also while `upcall serve` or `upcall dev` writes it. It reads only:
/// no consumer notices.
///
/// Examples:
///   upcall tail                                     # the journal in ./upcall-data
///   upcall tail -c upcall.toml -n 100 --no-follow   # the last 100 events, and out
///   upcall tail --filter 'upcall.uploads.photos.>' --json | jq .data.object
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// The configuration file that names the journal
    #[arg(short, long, value_name = "FILE", conflicts_with = "journal")]
    config: Option<PathBuf>,
    /// The journal's folder
    #[arg(short, long, value_name = "FOLDER", default_value = JOURNAL_FOLDER)]
    journal: PathBuf,
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
/// How long one look for news lasts. Ctrl-C ends it at once.
const WAIT: Duration = Duration::from_secs(3600);

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let folder = match &arguments.config {
        Some(file) => Config::load(file)?.bus.journal.context("the configuration names no journal")?.folder,
        None => arguments.journal.clone(),
    };
    let reader = Reader::open(&folder).context("start `upcall dev` or `upcall serve` first, or name its journal")?;
    let after = reader.last_sequence()?.saturating_sub(arguments.last);
    let mut tail = Tail::new(reader, after, arguments.filter.clone());
    let mut out = std::io::stdout().lock();
    let colour = out.is_terminal();
    loop {
        let events = tail.next(PAGE, if arguments.no_follow { Duration::ZERO } else { WAIT })?;
        if events.is_empty() && arguments.no_follow {
            return Ok(ExitCode::SUCCESS);
        }
        let written = events.iter().try_for_each(|event| show(&mut out, event, arguments.json, colour));
        match written.and_then(|()| out.flush()) {
            // Whoever read has seen enough, as `head` does.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            result => result?,
        }
    }
}

fn show(out: &mut impl Write, stored: &StoredEvent, json: bool, colour: bool) -> std::io::Result<()> {
    let event = &stored.event;
    if json {
        out.write_all(&event.to_structured())?;
        return out.write_all(b"\n");
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
    writeln!(out, "  route={}  id={}", data.route, event.id)
}
