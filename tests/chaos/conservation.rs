//! Everything breaks that can, and nothing that was answered 200 is lost, doubled or changed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use upcall_tests::chaos::fault::Rhythm;
use upcall_tests::chaos::{Ack, Plan, Setup, conserve};
use upcall_tests::nats;

use crate::setup;

#[test]
fn nothing_is_lost_or_doubled_with_ack_journal() {
    conserved(Ack::Journal);
}

#[test]
fn nothing_is_lost_or_doubled_with_ack_broker_and_a_journal_to_spill_to() {
    conserved(Ack::Broker);
}

fn conserved(ack: Ack) {
    if nats::is_missing("the run under faults") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let seed = std::env::var("UPCALL_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    println!("UPCALL_TEST_SEED={seed}");
    let rhythm = Rhythm {
        seed,
        duration: Duration::from_secs(20),
        hold: Duration::from_millis(300)..Duration::from_millis(1_500),
        gap: Duration::from_millis(300)..Duration::from_millis(1_100),
    };
    let setup = Setup { small_disks: true, ..setup(folder.path(), ack) };
    let ran = conserve(Plan { setup, rhythm, per_second: 150, answered_min: 1_000 });
    let findings = match &ran {
        Ok(ran) => ran.verdict.findings.join("\n"),
        Err(error) => format!("{error:#}"),
    };
    if !findings.is_empty() {
        let figures = ran.as_ref().map(|ran| ran.summary.to_string()).unwrap_or_default();
        panic!("{findings}\n\n{figures}\nthe files stay in {}", folder.keep().display());
    }
    println!("{}", ran.unwrap().summary);
}
