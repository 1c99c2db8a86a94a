//! The long form of the run under faults; see `docs/reliability.md`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use upcall_tests::chaos::fault::Rhythm;
use upcall_tests::chaos::{Ack, Plan, Setup, conserve};
use upcall_tests::{executable, nats};

const HELP: &str = "\
Runs gateways, a consumer and NATS servers under faults, and checks that nothing is lost, doubled or changed.

  cargo run --release -p upcall-tests --bin chaos -- --ack journal --minutes 30

  --ack broker|journal   when a callback is answered 200 (journal)
  --minutes N            for how long (30)
  --seed N               what decides the faults (the time)
  --rate N               uploads a second (60)
  --servers 1|3          NATS servers, and replicas of each event (3)
  --gateways N           gateways (2)
  --without-journal      with --ack broker: nothing to spill to
  --keep                 keep the files, also of a good run
  --executable PATH      the upcall to run (built from this checkout)

A full disk is among the faults where this may mount one, as root.
";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("upcall-chaos-").tempdir()?;
    let keep = std::env::args().any(|argument| argument == "--keep");
    let Some(plan) = plan(folder.path().to_owned())? else {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    if nats::is_missing("the run under faults") {
        bail!("there is no nats-server; tests/run installs one");
    }
    println!("seed {}, files in {}", plan.rhythm.seed, folder.path().display());
    let ran = conserve(plan);
    let is_good = ran.as_ref().is_ok_and(|ran| ran.verdict.findings.is_empty());
    if keep || !is_good {
        eprintln!("the files stay in {}", folder.keep().display());
    }
    let ran = ran?;
    println!("{}", ran.summary);
    for finding in &ran.verdict.findings {
        println!("FAILED: {finding}");
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `None` where help was asked for.
fn plan(folder: PathBuf) -> anyhow::Result<Option<Plan>> {
    let (mut ack, mut minutes, mut seed, mut per_second) = (Ack::Journal, 30, None, 60);
    let (mut servers, mut gateways, mut journal, mut program) = (3, 2, true, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} takes a value; see --help"));
        match argument.as_str() {
            "--ack" => {
                ack = match value()?.as_str() {
                    "broker" => Ack::Broker,
                    "journal" => Ack::Journal,
                    other => bail!("--ack takes broker or journal, not {other}"),
                }
            }
            "--minutes" => minutes = value()?.parse()?,
            "--seed" => seed = Some(value()?.parse()?),
            "--rate" => per_second = value()?.parse()?,
            "--servers" => servers = value()?.parse()?,
            "--gateways" => gateways = value()?.parse()?,
            "--keep" => {}
            "--without-journal" => journal = false,
            "--executable" => program = Some(PathBuf::from(value()?)),
            "--help" | "-h" => return Ok(None),
            other => bail!("unknown argument {other}; see --help"),
        }
    }
    let setup = Setup {
        folder,
        executable: program.unwrap_or_else(|| executable::path().to_owned()),
        ack,
        journal: journal || ack == Ack::Journal,
        servers,
        gateways,
        deadline: Duration::from_millis(4_500),
        sync_hold: Duration::from_secs(10),
        small_disks: true,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let rhythm = Rhythm {
        seed: seed.unwrap_or(now),
        duration: Duration::from_secs(60 * minutes),
        hold: Duration::from_secs(1)..Duration::from_secs(8),
        gap: Duration::from_secs(2)..Duration::from_secs(7),
    };
    Ok(Some(Plan { setup, rhythm, per_second, answered_min: 2_000 }))
}
