//! `upcall doctor`: says what would lose events.

mod configuration;
mod disk;
mod journal;
mod kinds;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use upcall_bus_nats::NatsBus;
use upcall_bus_nats::examine::{Finding, Questions};
use upcall_telemetry::error_chain;

use crate::config::{Ack, Nats, Outline};
use crate::runtime;
use crate::terminal::{complain, printable_json};
use report::{Part, Report};

/// Say in plain words what would lose events, and what to do about it
///
/// Looks at the configuration, the journal and NATS, as they are; changes nothing. Each finding is harm (events are
/// being lost or refused, or one ordinary fault is enough), a risk (it takes something else that goes wrong, too), or a
/// note. All of them are listed in docs/reference/doctor.md.
///
/// Grade: A without risk or harm, B with one risk, C with more, D with one harm, F with more.
/// The exit status is 0 if nothing is worse than a note, 1 if something is, and 2 if something could not be looked at.
///
/// The worst comes first, the grade last. A NATS server that is not up yet is waited for, and what was found on this
/// machine is shown meanwhile. One that does not let us in is not waited for.
///
/// Examples:
///   upcall doctor -c upcall.toml
///   upcall doctor -c upcall.toml --wait 2m    # NATS is just being started
///   upcall doctor -c upcall.toml --json | jq -r '.findings[] | select(.severity == "harm") | .what'
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// How old a consumer's oldest unsettled event may be
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    behind: Duration,
    /// How long to wait for a NATS server
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// Show the findings as JSON
    #[arg(long)]
    json: bool,
}

/// How long NATS is waited for before it is said that it is.
const SILENCE: Duration = Duration::from_secs(1);
/// The exit status where something could not be looked at.
const COULD_NOT_LOOK: u8 = 2;

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let report = match examine(arguments) {
        Ok(report) => report,
        Err(error) => {
            complain(&error);
            return Ok(ExitCode::from(COULD_NOT_LOOK));
        }
    };
    if arguments.json {
        println!("{}", printable_json(&report.to_json()));
    } else {
        println!("{}", report.summary());
    }
    Ok(match (report.is_whole(), report.is_well()) {
        (false, _) => ExitCode::from(COULD_NOT_LOOK),
        (true, true) => ExitCode::SUCCESS,
        (true, false) => ExitCode::FAILURE,
    })
}

/// Looks at everything, and shows what it finds as it goes, unless that is to be one JSON object.
fn examine(arguments: &Arguments) -> anyhow::Result<Report> {
    let config = Outline::load(&arguments.config)?;
    let mut local = Part::default();
    local.add(configuration::examine(&config));
    if let Some(options) = &config.bus.journal {
        match journal::examine(options, &config, arguments.behind) {
            Ok(found) => local.add(found),
            Err(error) => local.could_not_look(format!("the journal: {error:#}")),
        }
    }
    let mut report = Report::new(arguments.config.display().to_string());
    let mut show = |part: Part| {
        if !arguments.json {
            print!("{part}");
        }
        report.add(part);
    };
    let Some(nats) = &config.bus.nats else {
        show(local);
        return Ok(report);
    };
    // Shown together with NATS's, unless that takes a while.
    let mut kept_back = Some(local);
    let mut meanwhile = || kept_back.take().into_iter().for_each(&mut show);
    let found = runtime::block_on(examine_nats(nats, &config, arguments, &mut meanwhile));
    let mut rest = kept_back.unwrap_or_default();
    match found {
        Ok(found) => rest.add(found),
        Err(error) => rest.could_not_look(format!("NATS: {error:#}")),
    }
    show(rest);
    Ok(report)
}

/// Looks at NATS, and does something else `meanwhile` where it has to be waited for.
async fn examine_nats(
    nats: &Nats,
    config: &Outline,
    arguments: &Arguments,
    meanwhile: &mut dyn FnMut(),
) -> anyhow::Result<Vec<Finding>> {
    let bus = NatsBus::connect(nats.options.clone()).await.context("bus.nats can't be used")?;
    connect(&bus, arguments.wait, meanwhile).await?;
    let questions = Questions {
        consumers: config.consumers.clone(),
        monitor: nats.monitor.clone(),
        journal_hold: (nats.ack == Ack::Journal).then_some(nats.sync_hold),
        behind: arguments.behind,
        ..Questions::default()
    };
    let found = bus.examine(&questions).await.map_err(|error| anyhow::anyhow!(error_chain(&error)));
    bus.close().await;
    found
}

/// Waits for a connection, and says so if that takes a while.
async fn connect(bus: &NatsBus, wait: Duration, meanwhile: &mut dyn FnMut()) -> anyhow::Result<()> {
    let begun = Instant::now();
    if bus.connected_within(SILENCE.min(wait)).await.is_err() && !bus.link().borrow().refused {
        let wait = humantime::format_duration(wait);
        meanwhile();
        eprintln!("upcall: waiting for NATS, {wait} at most: {}", bus.why_disconnected());
    }
    bus.connected_within(wait.saturating_sub(begun.elapsed())).await.map_err(|why| anyhow::anyhow!(why))
}
