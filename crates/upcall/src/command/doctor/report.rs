//! What the doctor says, to people and to programs.

use std::cmp::Reverse;
use std::fmt;

use serde_json::json;
use upcall_bus_nats::examine::{Finding, Severity};

use crate::terminal::printable;

/// What was found in one place, or why nothing could be.
#[derive(Default)]
pub(super) struct Part {
    findings: Vec<Finding>,
    unseen: Vec<String>,
}

/// Everything that was found.
pub(super) struct Report {
    about: String,
    findings: Vec<Finding>,
    unseen: Vec<String>,
}

impl Part {
    pub(super) fn add(&mut self, findings: Vec<Finding>) {
        self.findings.extend(findings);
        self.findings.sort_by_key(|finding| Reverse(finding.kind.severity));
    }

    pub(super) fn could_not_look(&mut self, at: String) {
        self.unseen.push(at);
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for unseen in &self.unseen {
            writeln!(f, "could not look at {}\n", printable(unseen))?;
        }
        for Finding { kind, what } in &self.findings {
            writeln!(f, "{}  {}: {}", kind.severity, kind.name, printable(what))?;
            writeln!(f, "      {}", kind.why)?;
            writeln!(f, "      Remedy: {}\n", kind.remedy)?;
        }
        Ok(())
    }
}

impl Report {
    pub(super) fn new(about: String) -> Self {
        Self { about, findings: Vec::new(), unseen: Vec::new() }
    }

    pub(super) fn add(&mut self, part: Part) {
        self.unseen.extend(part.unseen);
        self.findings.extend(part.findings);
        self.findings.sort_by_key(|finding| Reverse(finding.kind.severity));
    }

    /// Whether everything could be looked at.
    pub(super) fn is_whole(&self) -> bool {
        self.unseen.is_empty()
    }

    /// Whether nothing is worse than a note.
    pub(super) fn is_well(&self) -> bool {
        self.count(Severity::Risk) + self.count(Severity::Harm) == 0
    }

    /// A without risk or harm, B with one risk, C with more, D with one harm, F with more. None where something could
    /// not be looked at.
    fn grade(&self) -> Option<char> {
        let grade = match (self.count(Severity::Harm), self.count(Severity::Risk)) {
            (0, 0) => 'A',
            (0, 1) => 'B',
            (0, _) => 'C',
            (1, _) => 'D',
            _ => 'F',
        };
        self.is_whole().then_some(grade)
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.kind.severity == severity).count()
    }

    /// One line: the grade, and how much there is of what.
    pub(super) fn summary(&self) -> String {
        let counted = |severity| format!("{} {severity}", self.count(severity));
        let counts = [Severity::Harm, Severity::Risk, Severity::Note].map(counted).join(", ");
        match self.grade() {
            Some(grade) => format!("{}: grade {grade} ({counts})", self.about),
            None => format!("{}: no grade, since not everything could be looked at ({counts})", self.about),
        }
    }

    pub(super) fn to_json(&self) -> String {
        let finding = |finding: &Finding| {
            json!({
                "severity": finding.kind.severity.as_str(),
                "name": finding.kind.name,
                "what": finding.what,
                "why": finding.kind.why,
                "remedy": finding.kind.remedy,
            })
        };
        let findings: Vec<_> = self.findings.iter().map(finding).collect();
        json!({ "grade": self.grade(), "findings": findings, "unseen": self.unseen }).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::kinds;
    use super::*;

    #[test]
    fn the_grade_goes_by_the_worst_and_by_how_many_there_are() {
        let (note, risk, harm) = (&kinds::KEYS_FETCHED, &kinds::ADMIN_OPEN, &kinds::DISK_FULL);
        for (found, grade) in [
            (vec![], 'A'),
            (vec![note, note], 'A'),
            (vec![note, risk], 'B'),
            (vec![risk, risk], 'C'),
            (vec![risk, harm], 'D'),
            (vec![harm, harm], 'F'),
        ] {
            let mut report = Report::new("upcall.toml".to_owned());
            let mut part = Part::default();
            part.add(found.iter().map(|kind| kind.found("so it is")).collect());
            report.add(part);
            assert_eq!(report.grade(), Some(grade), "{found:?}");
            assert_eq!(report.is_well(), grade == 'A');
            assert!(report.findings.is_sorted_by_key(|finding| Reverse(finding.kind.severity)));
            let mut unseen = Part::default();
            unseen.could_not_look("NATS".to_owned());
            report.add(unseen);
            assert_eq!(report.grade(), None);
        }
    }
}
