//! Rejected callbacks for people and for programs.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use jiff::Timestamp;
use upcall_bus::{Quarantined, RejectedBody};

use super::super::operated::Operated;
use super::super::table;
use super::select::{Go, Selection, report};
use crate::terminal::printable;

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
        .each(&*bus.archive(), |kept| {
            let first = count == 0;
            count += kept.len();
            match print(&mut out, &kept, style, first).and_then(|()| out.flush()) {
                Ok(()) => Ok(Go::On),
                // Whoever read has seen enough, as `head` does.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Go::Enough),
                Err(error) => Err(error.into()),
            }
        })
        .await?;
    report(&missing);
    if count == 0 && missing.is_empty() {
        eprintln!("No rejected callback{}.", if selection.demand().is_ok() { " is so" } else { "s" });
    }
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(out: &mut impl Write, kept: &[Quarantined], style: Style, first: bool) -> std::io::Result<()> {
    match style {
        Style::Table => rows(out, kept, first),
        Style::Whole => kept.iter().enumerate().try_for_each(|(at, kept)| {
            if at > 0 || !first {
                writeln!(out)?;
            }
            whole(out, kept)
        }),
        Style::Json => kept.iter().try_for_each(|kept| writeln!(out, "{}", to_json(kept))),
    }
}

fn rows(out: &mut impl Write, kept: &[Quarantined], first: bool) -> std::io::Result<()> {
    let row = |Quarantined { number, callback }: &Quarantined| {
        [
            number.to_string(),
            format!("{:.0}", callback.time),
            printable(callback.route.as_deref().unwrap_or("-")).into_owned(),
            printable(&callback.code).into_owned(),
            printable(&callback.peer).into_owned(),
            printable(&callback.reason).into_owned(),
        ]
    };
    let mut rows: Vec<[String; 6]> = kept.iter().map(row).collect();
    if first {
        rows.insert(0, ["NUMBER", "REJECTED", "ROUTE", "CODE", "FROM", "REASON"].map(str::to_owned));
    }
    table::write(out, &rows)
}

fn whole(out: &mut impl Write, Quarantined { number, callback }: &Quarantined) -> std::io::Result<()> {
    writeln!(out, "rejected callback {number}: {}", printable(&callback.code))?;
    writeln!(out, "  reason     {}", printable(&callback.reason))?;
    writeln!(out, "  time       {}, from {}", callback.time, printable(&callback.peer))?;
    writeln!(out, "  request id {}", printable(&callback.request_id))?;
    writeln!(out, "  route      {}", printable(callback.route.as_deref().unwrap_or("none")))?;
    writeln!(out, "  {} {}", printable(&callback.method), printable(&callback.target))?;
    for (name, value) in &callback.headers {
        writeln!(out, "  {}: {}", printable(name), printable(value))?;
    }
    let Some(RejectedBody { bytes, length }) = &callback.body else {
        return writeln!(out, "  (rejected before its body was read)");
    };
    writeln!(out)?;
    String::from_utf8_lossy(bytes).lines().try_for_each(|line| writeln!(out, "  {}", printable(line)))?;
    if *length > bytes.len() as u64 {
        writeln!(out, "  (the first {} of {length} bytes)", bytes.len())?;
    }
    Ok(())
}

fn to_json(Quarantined { number, callback }: &Quarantined) -> String {
    // The number first, as the table has it.
    let json = callback.to_json();
    format!("{{\"number\":{number},{}", json.strip_prefix('{').unwrap_or_default())
}
