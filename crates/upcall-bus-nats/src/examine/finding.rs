//! What an examination finds.

use std::fmt;

/// Something that was found, with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing it is: how bad, why, and the remedy.
    pub kind: &'static Kind,
    /// What was seen, and where, as a sentence without its end.
    pub what: String,
}

/// A kind of finding. All of them are listed in the documentation.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// A name for scripts, such as `stream-in-memory`. Names stay.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is, for the list.
    pub title: &'static str,
    /// What may come of it.
    pub why: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Good to know; no event is in danger.
    Note,
    /// Events are lost or refused when something else goes wrong, too.
    Risk,
    /// Events are being lost or refused, or one ordinary fault is enough.
    Harm,
}

impl Kind {
    /// Makes a finding of this kind.
    #[must_use]
    pub fn found(&'static self, what: impl Into<String>) -> Finding {
        Finding { kind: self, what: what.into() }
    }
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Risk => "risk",
            Self::Harm => "harm",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
