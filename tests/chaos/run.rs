//! A whole run: load, faults, and the comparison in the end.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fault::{Fault, Happened, Rhythm, inject};
use super::load::send_one;
use super::summary::Summary;
use super::{Attempt, Evidence, Fleet, Load, Oracle, Recorder, Setup, Verdict, judge};

/// How soon after the last fault a fresh callback must have got through.
const RECOVERY_MAX: Duration = Duration::from_secs(60);
/// How long what is owed may then take to arrive.
const ARRIVAL_MAX: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(250);

/// What a run is to be like.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What runs.
    pub setup: Setup,
    /// What breaks, and when.
    pub rhythm: Rhythm,
    /// How many uploads there are in a second.
    pub per_second: u32,
    /// How many callbacks must be answered 200 for the run to mean something.
    pub answered_min: usize,
}

/// What came of a run.
#[derive(Debug)]
pub struct Conservation {
    /// What is not as it should be.
    pub verdict: Verdict,
    /// The figures.
    pub summary: Summary,
}

/// Runs load and faults, and compares what arrived with what is owed.
///
/// # Errors
/// If something does not start, or ends by itself.
pub fn conserve(plan: Plan) -> anyhow::Result<Conservation> {
    let Plan { setup, rhythm, per_second, answered_min } = plan;
    let fleet = Arc::new(Fleet::start(setup)?);
    let oracle = Arc::new(Oracle::new());
    let recorder = Recorder::start(fleet.urls())?;
    let load = Load::start(&fleet, &oracle, per_second);
    let injected = inject(&fleet, &oracle, &rhythm);
    if injected.is_err() {
        fleet.keep_logs()?;
    }
    let faults = injected?;
    let last_fault = Instant::now();
    fleet.heal()?;
    let recovery = recover(&fleet, &oracle, last_fault)?;
    load.stop();
    let evidence = Evidence::gather(&fleet, &oracle, Some(&recorder), ARRIVAL_MAX)?;

    let mut verdict = judge(&fleet, &oracle, &evidence, &faults);
    verdict.demand(recovery.is_some(), || {
        format!("no fresh callback got through every gateway within {RECOVERY_MAX:?} of the last fault")
    });
    let answered = oracle.obligations().len();
    verdict.demand(answered >= answered_min, || format!("only {answered} were answered 200: that proves little"));
    let is_again = evidence.redelivered > 0 || evidence.recorded_again > 0;
    verdict.demand(is_again, || "no consumer was delivered anything twice".to_owned());
    for kind in Fault::kinds(&fleet) {
        let happened = faults.iter().any(|happened| happened.fault.kind() == kind.kind());
        verdict.demand(happened, || format!("did not happen: {}", kind.kind()));
    }
    for process in fleet.processes() {
        let Some(admin) = process.admin() else { continue };
        if let Err(wrong) = process.books().check(admin) {
            verdict.demand(false, || format!("{}: {wrong}", process.name()));
        }
    }
    let summary = Summary::new(&fleet, &oracle, &evidence, &faults, rhythm.seed, recovery);
    fleet.keep_logs()?;
    keep_callbacks(&fleet.setup.folder, &oracle, &faults)?;
    Ok(Conservation { verdict, summary })
}

/// Writes down every callback and every fault, for whoever looks into a run afterwards.
fn keep_callbacks(folder: &Path, oracle: &Oracle, faults: &[Happened]) -> std::io::Result<()> {
    let mut callbacks = BufWriter::new(File::create(folder.join("callbacks.tsv"))?);
    for (upload, attempts) in oracle.attempts() {
        for Attempt { gateway, at, took, outcome } in attempts {
            let (at_s, took_ms) = (at.as_secs_f64(), took.as_millis());
            writeln!(callbacks, "{}\t{}\t{at_s:.3}\t{took_ms}\t{outcome:?}", upload.request_id(), gateway + 1)?;
        }
    }
    callbacks.flush()?;
    let lines: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
    std::fs::write(folder.join("faults.txt"), lines)
}

/// Sends fresh callbacks until one has got from every gateway into the table. Tells how long that took since the last
/// fault.
fn recover(fleet: &Fleet, oracle: &Oracle, last_fault: Instant) -> anyhow::Result<Option<Duration>> {
    for gateway in 0..fleet.gateways.len() {
        let mut fresh = Vec::new();
        loop {
            let (upload, attempt) = send_one(fleet, oracle, gateway);
            if attempt.is_success() {
                fresh.push(upload);
            }
            let arrived: anyhow::Result<Vec<bool>> = fresh.iter().map(|upload| fleet.catalog.has(*upload)).collect();
            if arrived?.contains(&true) {
                break;
            }
            if last_fault.elapsed() > RECOVERY_MAX {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }
    Ok(Some(last_fault.elapsed()))
}
