//! What a bus keeps under numbers, listed for people and for programs.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use super::table;
use crate::terminal::{printable, printable_json};

/// How something is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// A line in a table.
    Table,
    /// All of it, for people.
    Whole,
    /// All of it, as JSON on one line.
    Json,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Go {
    On,
    Enough,
}

/// How many columns a table has.
const COLUMNS: usize = 6;

/// Something that a bus keeps under a number. Its texts are as they came; the list makes them fit for a terminal.
pub(super) trait Kept {
    /// What it is called.
    const NOUN: &str;
    const HEADINGS: [&str; COLUMNS];

    fn row(&self) -> [String; COLUMNS];

    /// Lines that say everything.
    fn whole(&self) -> Vec<String>;

    /// JSON on one line.
    fn to_json(&self) -> String;
}

/// A list on its way to standard output.
pub(super) struct Listing {
    style: Style,
    count: usize,
}

impl Listing {
    pub(super) fn new(style: Style) -> Self {
        Self { style, count: 0 }
    }

    /// Shows some more.
    pub(super) fn show<K: Kept>(&mut self, kept: &[K]) -> anyhow::Result<Go> {
        let mut out = std::io::stdout().lock();
        let first = self.count == 0;
        self.count += kept.len();
        match print(&mut out, kept, self.style, first).and_then(|()| out.flush()) {
            Ok(()) => Ok(Go::On),
            // Whoever read has seen enough, as `head` does.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Go::Enough),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether nothing has been shown.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Says where there was nothing, of all or of what was `selected`, and of which numbers there is none.
    pub(super) fn end<K: Kept>(self, missing: &[u64], selected: bool) -> ExitCode {
        if self.count == 0 && missing.is_empty() {
            match selected {
                true => eprintln!("There is no {} like that.", K::NOUN),
                false => eprintln!("There are no {}s.", K::NOUN),
            }
        }
        report::<K>(missing)
    }
}

/// Says of numbers that there is nothing under them.
pub(super) fn report<K: Kept>(missing: &[u64]) -> ExitCode {
    for number in missing {
        eprintln!("upcall: there is no {} {number}", K::NOUN);
    }
    if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print<K: Kept>(out: &mut impl Write, kept: &[K], style: Style, first: bool) -> std::io::Result<()> {
    match style {
        Style::Table => {
            let fit = |row: [String; COLUMNS]| row.map(|cell| printable(&cell).into_owned());
            let headings = first.then(|| K::HEADINGS.map(str::to_owned));
            let rows: Vec<_> = headings.into_iter().chain(kept.iter().map(|kept| fit(kept.row()))).collect();
            table::write(out, &rows)
        }
        Style::Whole => kept.iter().enumerate().try_for_each(|(at, kept)| {
            if at > 0 || !first {
                writeln!(out)?;
            }
            kept.whole().iter().try_for_each(|line| writeln!(out, "{}", printable(line)))
        }),
        Style::Json => kept.iter().try_for_each(|kept| writeln!(out, "{}", printable_json(&kept.to_json()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Strange(&'static str);

    impl Kept for Strange {
        const NOUN: &str = "thing";
        const HEADINGS: [&str; COLUMNS] = ["A", "B", "C", "D", "E", "F"];

        fn row(&self) -> [String; COLUMNS] {
            std::array::from_fn(|_| self.0.to_owned())
        }

        fn whole(&self) -> Vec<String> {
            vec![self.0.to_owned()]
        }

        fn to_json(&self) -> String {
            serde_json::json!(self.0).to_string()
        }
    }

    #[test]
    fn what_is_kept_of_strangers_cannot_steer_the_terminal() {
        let strange = "a\u{1b}[2J\u{9b}\u{7f}\u{202e}\nb";
        for style in [Style::Table, Style::Whole, Style::Json] {
            let mut out = Vec::new();
            print(&mut out, &[Strange(strange), Strange("second")], style, true).unwrap();
            let out = String::from_utf8(out).unwrap();
            assert!(out.contains("second") && !out.contains(['\u{1b}', '\u{9b}', '\u{7f}', '\u{202e}']), "{out:?}");
            if style == Style::Json {
                assert_eq!(serde_json::from_str::<String>(out.lines().next().unwrap()).unwrap(), strange);
            }
        }
    }
}
