//! What is shown to people at a terminal, and asked of them.

use std::io::{IsTerminal, Write};

use upcall_telemetry::error_chain;
pub(crate) use upcall_telemetry::printable::{printable, printable_json, printable_lines};

/// Whether somebody can be asked.
pub(crate) fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks, and tells whether the answer was yes.
pub(crate) fn asked(question: &str) -> anyhow::Result<bool> {
    let mut err = std::io::stderr().lock();
    write!(err, "{question} [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

/// Says on standard error why a command has failed.
pub(crate) fn complain(error: &anyhow::Error) {
    eprintln!("upcall: {}", printable_lines(&error_chain(error.as_ref())));
}
