//! `upcall provision`: makes the streams and consumers on NATS, or compares them with the configuration.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep};
use upcall_bus::{ArchiveError, ConsumerSpec};
use upcall_bus_nats::{Difference, NatsBus, Severity};
use upcall_telemetry::error_chain;

use super::operated;
use crate::config::Outline;
use crate::runtime;
use crate::terminal::{complain, printable};
use crate::words::plural;

/// Make the streams and consumers on NATS, or compare them with the configuration
///
/// Makes what is missing and mends what would lose, double or refuse events; it removes nothing, and may be repeated at
/// any time. `upcall serve` makes what is missing by itself, unless `provision = false` in [bus.nats], as where it may not:
/// then this is run once with a user who may.
///
/// Examples:
///   upcall provision -c upcall.toml
///   upcall provision -c upcall.toml --check    # changes nothing
///
/// Exit status: 0 if everything is as configured; 1 if something differs, or with --check would be changed; 2 if the
/// server could not be asked.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Only compare, change nothing
    #[arg(long)]
    check: bool,
    /// How long to wait for a server
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    wait: Duration,
}

/// The exit status if the server could not be asked.
const NOT_ASKED: u8 = 2;
/// How soon a server is asked again whose JetStream is not there yet.
const AGAIN: Duration = Duration::from_millis(250);

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let outcome = runtime::block_on(provision(arguments));
    Ok(outcome.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::from(NOT_ASKED)
    }))
}

async fn provision(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = Outline::load(&arguments.config)?;
    let Some(nats) = config.bus.nats else {
        println!("There is nothing to make: the configuration has no [bus.nats], and a journal makes itself.");
        return Ok(ExitCode::SUCCESS);
    };
    let consumers = config.consumers;
    let until = Instant::now() + arguments.wait;
    let bus = operated::connect(&nats, arguments.wait).await?;
    let mut differences = compared(&bus, &consumers, until).await?;
    if !arguments.check && !differences.is_empty() {
        match bus.provision(&consumers).await {
            Ok(done) => done.iter().for_each(|done| println!("{}", printable(done))),
            Err(error) => {
                // What is left is told below.
                eprintln!("upcall: the server refuses: {}", printable(&error_chain(&error)));
            }
        }
        differences = compared(&bus, &consumers, until.max(Instant::now() + arguments.wait)).await?;
    }
    report(&differences, nats.options.stream.as_str(), consumers.len());
    // A difference that does no harm is left as somebody made it.
    let bound = if arguments.check { Severity::Differs } else { Severity::Missing };
    let is_fine = differences.iter().all(|difference| difference.severity < bound);
    bus.close().await;
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks until there is an answer or no time left: a cluster that has just started has no leader yet.
async fn compared(bus: &NatsBus, consumers: &[ConsumerSpec], until: Instant) -> anyhow::Result<Vec<Difference>> {
    loop {
        match bus.check(consumers).await {
            Ok(differences) => return Ok(differences),
            Err(error) if Instant::now() >= until => return Err(not_asked(error)),
            Err(_) => sleep(AGAIN).await,
        }
    }
}

fn not_asked(error: ArchiveError) -> anyhow::Error {
    anyhow::Error::new(error).context("the server can't be asked; is JetStream on, and may this user use its API?")
}

fn report(differences: &[Difference], stream: &str, consumers: usize) {
    for difference in differences {
        let severity = match difference.severity {
            Severity::Harmful => "HARMFUL",
            Severity::Missing => "missing",
            Severity::Risky => "risky",
            Severity::Differs => "differs",
        };
        println!("{severity}: {}", printable(&difference.to_string()));
    }
    if differences.is_empty() {
        let consumers = plural(consumers, "consumer");
        println!("Everything is as configured: stream {stream}, those beside it, and {consumers}.");
    }
}
