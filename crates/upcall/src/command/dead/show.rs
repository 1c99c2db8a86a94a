//! Dead letters for people and for programs.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::{Value, json};
use upcall_bus::DeadLetter;

use super::super::operated::Operated;
use super::super::table;
use super::select::{Go, Selection, report};
use crate::terminal::printable;
use crate::words::plural;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Table,
    Whole,
    Json,
}

/// Prints what was selected.
pub(super) async fn run(bus: &Operated, selection: &Selection, style: Style) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let mut count = 0;
    let selected = selection.at(Timestamp::now())?;
    let missing = selected
        .each(&*bus.archive(), |letters| {
            let first = count == 0;
            count += letters.len();
            match print(&mut out, &letters, style, first).and_then(|()| out.flush()) {
                Ok(()) => Ok(Go::On),
                // Whoever read has seen enough, as `head` does.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Go::Enough),
                Err(error) => Err(error.into()),
            }
        })
        .await?;
    report(&missing);
    if count == 0 && missing.is_empty() {
        eprintln!("No dead letter{}.", if selection.demand().is_ok() { " is so" } else { "s" });
    }
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(out: &mut impl Write, letters: &[DeadLetter], style: Style, first: bool) -> std::io::Result<()> {
    match style {
        Style::Table => rows(out, letters, first),
        Style::Whole => letters.iter().enumerate().try_for_each(|(at, letter)| {
            if at > 0 || !first {
                writeln!(out)?;
            }
            whole(out, letter)
        }),
        Style::Json => letters.iter().try_for_each(|letter| writeln!(out, "{}", to_json(letter))),
    }
}

fn rows(out: &mut impl Write, letters: &[DeadLetter], first: bool) -> std::io::Result<()> {
    let row = |letter: &DeadLetter| {
        let data = &letter.stored.event.data;
        [
            letter.number.to_string(),
            letter.consumer.to_string(),
            format!("{:.0}", letter.died_at),
            letter.attempts.to_string(),
            printable(&format!("{}/{}", data.bucket, data.object)).into_owned(),
            printable(&letter.reason).into_owned(),
        ]
    };
    let mut rows: Vec<[String; 6]> = letters.iter().map(row).collect();
    if first {
        rows.insert(0, ["NUMBER", "CONSUMER", "DIED", "ATTEMPTS", "OBJECT", "REASON"].map(str::to_owned));
    }
    table::write(out, &rows)
}

fn whole(out: &mut impl Write, letter: &DeadLetter) -> std::io::Result<()> {
    let DeadLetter { number, consumer, stored, reason, attempts, died_at } = letter;
    writeln!(out, "dead letter {number} of consumer {consumer}")?;
    writeln!(out, "  reason    {}", printable(reason))?;
    writeln!(out, "  died at   {died_at}, after {}", plural(*attempts, "attempt"))?;
    writeln!(out, "  stored at {}, as number {} on {}", stored.stored_at, stored.sequence, stored.subject)?;
    let event = serde_json::to_string_pretty(&event_of(letter)).unwrap_or_default();
    // What is text in it may steer a terminal; its line breaks are JSON's own.
    event.lines().try_for_each(|line| writeln!(out, "  {}", printable(line)))
}

fn to_json(letter: &DeadLetter) -> Value {
    json!({
        "number": letter.number,
        "consumer": letter.consumer.as_str(),
        "reason": letter.reason,
        "attempts": letter.attempts,
        "died_at": letter.died_at.to_string(),
        "sequence": letter.stored.sequence,
        "stored_at": letter.stored.stored_at.to_string(),
        "subject": letter.stored.subject.as_str(),
        "event": event_of(letter),
    })
}

fn event_of(letter: &DeadLetter) -> Value {
    serde_json::from_slice(&letter.stored.event.to_structured()).unwrap_or_default()
}
