//! The figures of a run, as the documentation has them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::facts::Upload;
use super::fault::{Happened, Place};
use super::verdict::is_explained;
use super::{Attempt, Evidence, Fleet, Oracle, Outcome};

/// The figures of a run. Its `Display` is Markdown.
#[derive(Debug, Clone)]
pub struct Summary {
    title: String,
    rows: Vec<(&'static str, String)>,
    faults: BTreeMap<String, Recoveries>,
}

/// How soon after each fault of one kind things worked again.
#[derive(Debug, Clone, Default)]
struct Recoveries {
    count: usize,
    answered: Vec<Duration>,
    arrived: Vec<Duration>,
}

impl Summary {
    pub(crate) fn new(
        fleet: &Fleet,
        oracle: &Oracle,
        evidence: &Evidence,
        faults: &[Happened],
        seed: u64,
        recovery: Option<Duration>,
    ) -> Self {
        let attempts = oracle.attempts();
        let all: Vec<&Attempt> = attempts.values().flatten().collect();
        let mut latencies: Vec<Duration> = all
            .iter()
            .filter(|attempt| matches!(attempt.outcome, Outcome::Answered(..)) && !is_explained(attempt, faults))
            .map(|attempt| attempt.took)
            .collect();
        latencies.sort_unstable();
        let obligations = oracle.obligations();
        let repeated = attempts.values().filter(|sent| sent.iter().filter(|sent| sent.is_success()).count() > 1);
        let doubled = evidence.stream.values().filter(|sequences| sequences.len() > 1).count();
        let seconds = oracle.now().as_secs();
        let rows = vec![
            ("ran for", format!("{} min {} s", seconds / 60, seconds % 60)),
            ("faults", faults.len().to_string()),
            ("uploads", oracle.issued().to_string()),
            ("callbacks", all.len().to_string()),
            ("outcomes", outcomes(&all)),
            ("uploads answered 200", obligations.len().to_string()),
            ("… of them more than once", repeated.count().to_string()),
            (
                "time to an answer, p50 / p99 / max",
                format!("{} / {} / {}", at(&latencies, 0.5), at(&latencies, 0.99), at(&latencies, 1.0)),
            ),
            ("events in the stream", evidence.stream.len().to_string()),
            ("… of them stored twice", doubled.to_string()),
            ("deliveries to the consumer that were repeated", evidence.redelivered.to_string()),
            ("events that the recorder was delivered twice", evidence.recorded_again.to_string()),
            ("effects in the consumer's table", evidence.effects.values().map(Vec::len).sum::<usize>().to_string()),
            ("a fresh callback through, after the last fault", recovery.map_or("never".to_owned(), seconds_of)),
        ];
        let mut kinds = BTreeMap::<String, Recoveries>::new();
        for fault in faults {
            let recoveries = kinds.entry(fault.fault.kind()).or_default();
            recoveries.count += 1;
            recoveries.answered.extend(answered_after(fault, &attempts, fleet.gateways.len()));
            recoveries.arrived.extend(arrived_after(fault, &attempts, evidence));
        }
        for recoveries in kinds.values_mut() {
            recoveries.answered.sort_unstable();
            recoveries.arrived.sort_unstable();
        }
        let setup = &fleet.setup;
        let title = format!(
            "`ack = \"{}\"`, {} NATS server{}, {} gateways, seed {seed}",
            setup.ack,
            setup.servers,
            if setup.servers == 1 { "" } else { "s" },
            setup.gateways,
        );
        Self { title, rows, faults: kinds }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n\n| | |\n|---|---|", self.title)?;
        for (name, value) in &self.rows {
            writeln!(f, "| {name} | {value} |")?;
        }
        writeln!(
            f,
            "\n| fault | times | a fresh callback answered 200 after (p50 / max) | a fresh event in the table after (p50 / max) |\n\
             |---|---|---|---|"
        )?;
        for (kind, Recoveries { count, answered, arrived }) in &self.faults {
            let pair = |times: &[Duration]| format!("{} / {}", at(times, 0.5), at(times, 1.0));
            writeln!(f, "| {kind} | {count} | {} | {} |", pair(answered), pair(arrived))?;
        }
        Ok(())
    }
}

/// How many callbacks came out how.
fn outcomes(all: &[&Attempt]) -> String {
    let mut counts = BTreeMap::<String, usize>::new();
    for attempt in all {
        let outcome = match &attempt.outcome {
            Outcome::Answered(200, _) => "200".to_owned(),
            Outcome::Answered(status, code) => format!("{status} `{code}`"),
            Outcome::Broken(_) => "no connection, or a broken one".to_owned(),
            Outcome::Late => "no answer in 5 s".to_owned(),
        };
        *counts.entry(outcome).or_default() += 1;
    }
    counts.iter().map(|(outcome, count)| format!("{outcome}: {count}")).collect::<Vec<_>>().join(", ")
}

/// How soon after a fault every gateway that it can have struck answered a fresh callback.
fn answered_after(fault: &Happened, attempts: &BTreeMap<Upload, Vec<Attempt>>, gateways: usize) -> Option<Duration> {
    let struck = match fault.fault.place {
        Place::Gateway(one) | Place::GatewayLink(one, _) => one..one + 1,
        Place::JournalDisk => 0..1,
        _ => 0..gateways,
    };
    let first = |gateway: usize| {
        let fresh = attempts.values().flatten().filter(|attempt| attempt.gateway == gateway && attempt.at >= fault.to);
        fresh.filter(|attempt| attempt.is_success()).map(|attempt| attempt.at + attempt.took - fault.to).min()
    };
    struck.map(first).collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// How soon after a fault the consumer applied an event that was sent after it.
fn arrived_after(fault: &Happened, attempts: &BTreeMap<Upload, Vec<Attempt>>, evidence: &Evidence) -> Option<Duration> {
    let is_fresh = |attempts: &[Attempt]| attempts.iter().all(|attempt| attempt.at >= fault.to);
    let fresh = attempts.iter().filter(|(_, attempts)| is_fresh(attempts));
    fresh.filter_map(|(upload, _)| Some(evidence.effects.get(upload)?.first()?.1.saturating_sub(fault.to))).min()
}

/// What this share of the times stayed within.
fn at(times: &[Duration], share: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index below the length")]
    let index = (times.len().saturating_sub(1) as f64 * share).round() as usize;
    match times.get(index) {
        Some(time) if *time < Duration::from_secs(1) => format!("{:.1} ms", time.as_secs_f64() * 1_000.0),
        Some(time) => seconds_of(*time),
        None => "–".to_owned(),
    }
}

fn seconds_of(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
