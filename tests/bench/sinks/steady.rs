//! Whether a long backlog is consumed at a steady rate, in memory that does not grow.

use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use upcall_tests::nats::NatsServer;

use crate::consume::Consumer;
use crate::events::{JOURNAL, fill_journal, fill_nats};
use crate::target::{Kind, Target};

/// After how many events there is a line.
const STEP: usize = 100_000;

/// Where events wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bus {
    Journal,
    Nats,
}

impl FromStr for Bus {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text {
            "journal" => Ok(Self::Journal),
            "nats" => Ok(Self::Nats),
            _ => bail!("there is no bus {text:?}"),
        }
    }
}

/// Fills a bus, has it consumed, and prints the rate and the memory for each step.
pub(crate) fn run(kind: Kind, bus: Bus, events: usize, folder: &Path) -> anyhow::Result<()> {
    let target = Target::start(kind, folder)?;
    eprintln!("filling the bus with {events} events");
    let server = match bus {
        Bus::Journal => fill_journal(folder, events).map(|()| None)?,
        Bus::Nats => {
            let server = NatsServer::start();
            fill_nats(&server.url(), events)?;
            Some(server)
        }
    };
    let bus = match &server {
        None => format!("journal = \"{JOURNAL}\""),
        Some(server) => format!("nats = {{ url = \"{}\" }}", server.url()),
    };
    println!("| events done | events/s since the line before | memory MB |\n|---|---|---|");
    let consumer = Consumer::start(format!("{kind}-steady"), &target.sink(0), &bus, folder)?;
    let start = consumer.wait(1)?.seen;
    let mut before = start;
    for wanted in (STEP..=events).step_by(STEP) {
        let now = consumer.wait(wanted)?.seen;
        println!("| {} | {:.0} | {:.1} |", now.0, rate(before, now), consumer.usage().status_mb("VmRSS:")?);
        before = now;
    }
    let usage = consumer.usage();
    println!(
        "\n{:.0} events/s in all, {:.1} µs of processor time an event, at most {:.1} MB",
        rate(start, before),
        usage.cpu_seconds()? * 1e6 / before.0 as f64,
        usage.peak_memory_mb()?
    );
    target.check(0, events).context("what has arrived is counted")
}

fn rate(from: (usize, Instant), to: (usize, Instant)) -> f64 {
    (to.0 - from.0) as f64 / (to.1 - from.1).max(Duration::from_millis(1)).as_secs_f64()
}
