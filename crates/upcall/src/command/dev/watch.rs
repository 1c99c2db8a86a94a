//! One line for each callback, as it passes.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use upcall_gateway::{Observed, Observer};

use crate::terminal::printable;

/// Prints each callback as one line on standard output.
pub(super) fn observer() -> Observer {
    let colour = std::io::stdout().is_terminal();
    Arc::new(move |observed| {
        let mut out = std::io::stdout().lock();
        // Who does not read any more does not want to know.
        let _ = writeln!(out, "{}", line(observed, colour)).and_then(|()| out.flush());
    })
}

fn line(observed: &Observed<'_>, colour: bool) -> String {
    let (mark, colour_code, status) = match observed.outcome {
        "accepted" => ("✓", 32, "200 accepted"),
        "duplicate" => ("=", 33, "200 duplicate"),
        refused => ("✗", 31, refused),
    };
    let mark = if colour { format!("\x1b[{colour_code}m{mark}\x1b[0m") } else { mark.to_owned() };
    let mut line = format!("  {mark} {status:<14}");
    if let (Some(bucket), Some(object)) = (observed.bucket, observed.object) {
        line.push_str(&format!("  {}/{}", printable(bucket), printable(object)));
    }
    line.push_str(&format!("  {:.1} ms", observed.elapsed.as_secs_f64() * 1000.0));
    if let Some(id) = observed.event {
        line.push_str(&format!("  id={id}"));
    }
    if let Some(reason) = observed.reason {
        line.push_str(&format!("  {}", printable(reason)));
    }
    line
}
