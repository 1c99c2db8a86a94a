//! How far something is, on one line of the terminal, or a line now and then where there is none.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the line on a terminal is written anew.
const ON_TERMINAL: Duration = Duration::from_millis(100);
/// How often a line is written to a file or a pipe.
const ELSEWHERE: Duration = Duration::from_secs(5);
const BAR_WIDTH: usize = 24;

/// A line on standard error that tells how far something is.
pub(crate) struct Progress {
    began: Instant,
    last: Option<Instant>,
    terminal: bool,
}

impl Progress {
    /// Begins to count the time.
    pub(crate) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        // A file needs no line about what takes no time.
        let last = (!terminal).then(Instant::now);
        Self { began: Instant::now(), last, terminal }
    }

    /// Tells that this part is done, of 1, and how many things that is; not more often than anybody could read.
    pub(crate) fn tell(&mut self, part: f64, count: u64, things: &str) {
        let every = if self.terminal { ON_TERMINAL } else { ELSEWHERE };
        if self.last.is_some_and(|last| last.elapsed() < every) {
            return;
        }
        self.last = Some(Instant::now());
        let line = line(part, count, things, self.began.elapsed());
        let mut out = std::io::stderr().lock();
        // That nobody can read it is no reason to stop.
        let _ = match self.terminal {
            true => write!(out, "\r\x1b[2K{} {line}", bar(part)),
            false => writeln!(out, "{line}"),
        };
        let _ = out.flush();
    }

    /// Takes the line away, for what is written next.
    pub(crate) fn end(self) {
        if self.terminal && self.last.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}

fn bar(part: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and the width")]
    let done = (part.clamp(0.0, 1.0) * BAR_WIDTH as f64) as usize;
    format!("[{}{}]", "=".repeat(done), " ".repeat(BAR_WIDTH - done))
}

fn line(part: f64, count: u64, things: &str, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let rate = count as f64 / seconds;
    let mut line = format!("{:3.0} %  {count} {things}, {rate:.0}/s", part.clamp(0.0, 1.0) * 100.0);
    // An estimate after a moment is none.
    if part > 0.01 && elapsed > Duration::from_secs(1) {
        let left = Duration::from_secs_f64((seconds / part - seconds).clamp(0.0, 1e9));
        line.push_str(&format!(", {} left", humantime::format_duration(Duration::from_secs(left.as_secs()))));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_the_rate_and_the_time_left() {
        assert_eq!(
            line(0.25, 1000, "events given", Duration::from_secs(20)),
            " 25 %  1000 events given, 50/s, 1m left"
        );
        assert_eq!(line(0.0, 0, "events given", Duration::ZERO), "  0 %  0 events given, 0/s");
        assert_eq!(bar(0.5), "[============            ]");
        assert_eq!(bar(7.0).len(), bar(0.0).len());
    }
}
