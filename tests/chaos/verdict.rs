//! Whether what arrived is what is owed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::facts::Upload;
use super::fault::{Happened, Place};
use super::load::OSS_PATIENCE;
use super::{Attempt, Evidence, Fleet, Oracle, Outcome};

/// A gateway that was halted or killed explains a late answer for so long afterwards.
const AFTERMATH: Duration = Duration::from_secs(1);
/// How many of a kind of finding are told whole.
const TOLD_MAX: usize = 10;

/// What is not as it should be; empty if all is well.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Each finding, with all that is known about it.
    pub findings: Vec<String>,
}

impl Verdict {
    /// Adds a finding unless something is so.
    pub fn demand(&mut self, is_so: bool, finding: impl FnOnce() -> String) {
        if !is_so {
            self.findings.push(finding());
        }
    }
}

/// Compares what arrived with what is owed.
pub fn judge(fleet: &Fleet, oracle: &Oracle, evidence: &Evidence, faults: &[Happened]) -> Verdict {
    let mut verdict = Verdict::default();
    let attempts = oracle.attempts();
    let about = |upload: Upload| describe(fleet, upload, &attempts, evidence, faults);
    let owed = oracle.obligations();
    let told = |verdict: &mut Verdict, what: &str, uploads: Vec<Upload>| {
        verdict.demand(uploads.is_empty(), || {
            let told: Vec<String> = uploads.iter().take(TOLD_MAX).map(|upload| about(*upload)).collect();
            format!("{} {what}:\n{}", uploads.len(), told.join("\n"))
        });
    };
    let missing = |has: &dyn Fn(&Upload) -> bool| owed.iter().filter(|upload| !has(upload)).copied().collect();
    let stream: Vec<_> = missing(&|upload| evidence.stream.contains_key(upload));
    told(&mut verdict, "answered 200 and missing from the stream", stream);
    let table: Vec<_> = missing(&|upload| evidence.effects.contains_key(upload));
    told(&mut verdict, "answered 200 and missing from the consumer's table", table);
    let untabled = evidence.stream.keys().filter(|upload| !evidence.effects.contains_key(upload)).copied().collect();
    told(&mut verdict, "in the stream and missing from the consumer's table", untabled);
    let stored_twice = evidence.stream.iter().filter(|(_, sequences)| sequences.len() > 1).map(|(upload, _)| *upload);
    told(&mut verdict, "stored more than once in the stream", stored_twice.collect());
    let is_once = |effects: &Vec<(String, Duration)>| matches!(effects.as_slice(), [(what, _)] if what == "inserted");
    let doubled = evidence.effects.iter().filter(|(_, effects)| !is_once(effects)).map(|(upload, _)| *upload);
    told(&mut verdict, "had not one effect", doubled.collect());
    verdict.demand(evidence.wrong.is_empty(), || {
        let told: Vec<&str> = evidence.wrong.iter().take(TOLD_MAX).map(String::as_str).collect();
        format!("{} arrived wrong:\n{}", evidence.wrong.len(), told.join("\n"))
    });
    verdict.demand(evidence.dead == 0, || format!("{} dead letters, and nothing called for one", evidence.dead));

    let unexpected = |attempt: &Attempt| match &attempt.outcome {
        Outcome::Answered(200 | 503, _) => false,
        Outcome::Answered(..) => true,
        // A gateway that is itself up answers in time, whatever is broken behind it.
        Outcome::Late | Outcome::Broken(_) => !is_explained(attempt, faults),
    };
    let unexpected = attempts.iter().filter(|(_, attempts)| attempts.iter().any(unexpected)).map(|(upload, _)| *upload);
    told(&mut verdict, "answered in a way that no fault explains", unexpected.collect());
    verdict
}

/// Whether the gateway that was asked was itself killed, halted or started again meanwhile.
pub(crate) fn is_explained(attempt: &Attempt, faults: &[Happened]) -> bool {
    let struck = |fault: &&Happened| fault.fault.place == Place::Gateway(attempt.gateway);
    let until = attempt.at + attempt.took.min(OSS_PATIENCE);
    faults.iter().filter(struck).any(|fault| fault.overlaps(attempt.at, until, AFTERMATH))
}

/// All that is known about one upload.
fn describe(
    fleet: &Fleet,
    upload: Upload,
    attempts: &BTreeMap<Upload, Vec<Attempt>>,
    evidence: &Evidence,
    faults: &[Happened],
) -> String {
    let mut text = format!("  {} (event {}):\n", upload.request_id(), upload.event_id());
    for Attempt { gateway, at, took, outcome } in attempts.get(&upload).into_iter().flatten() {
        let (at_s, took_ms) = (at.as_secs_f64(), took.as_millis());
        let _ = writeln!(text, "    at {at_s:.2} s to gateway {}: {outcome:?} after {took_ms} ms", gateway + 1);
        for fault in faults.iter().filter(|fault| fault.overlaps(*at, *at + *took, Duration::from_secs(10))) {
            let _ = writeln!(text, "      then or shortly before: {fault}");
        }
    }
    for (index, gateway) in fleet.gateways.iter().enumerate() {
        if let Some(journal) = &gateway.journal {
            let row = journal_row(journal, upload).unwrap_or_else(|error| error.to_string());
            let _ = writeln!(text, "    journal {}: {row}", index + 1);
        }
    }
    let _ = writeln!(text, "    stream: {:?}", evidence.stream.get(&upload));
    let _ = write!(text, "    effects: {:?}", evidence.effects.get(&upload));
    text
}

fn journal_row(journal: &Path, upload: Upload) -> rusqlite::Result<String> {
    let db = Connection::open_with_flags(journal, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let query = "SELECT sequence, stored_at FROM event WHERE json_extract(payload, '$.data.request_id') = ?";
    let mut statement = db.prepare(query)?;
    let mut rows = statement.query([upload.request_id()])?;
    let Some(row) = rows.next()? else { return Ok("no row".to_owned()) };
    Ok(format!("sequence {}, stored at {}", row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
}
