//! Forgetting a consumer that is not configured any more.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use upcall_bus::ConsumerName;

use super::{JournalArguments, open};
use crate::bus::RELAY;
use crate::config::Outline;
use crate::words::plural;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    journal: JournalArguments,
    /// The consumer's name
    #[arg(value_name = "CONSUMER")]
    consumer: ConsumerName,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { journal, consumer } = arguments;
    if let Some(file) = &journal.config {
        refuse_configured(consumer, &Outline::load(file)?)?;
    }
    let folder = journal.folder()?;
    let known = open(&folder)?.consumers()?;
    let Some(found) = known.iter().find(|known| known.name == consumer.as_str()) else {
        let names: Vec<&str> = known.iter().map(|known| known.name.as_str()).collect();
        bail!("the journal has no consumer {consumer}; there are: {}", names.join(", "));
    };
    upcall_bus_journal::forget(&folder, consumer)?;
    println!("Consumer {consumer} is forgotten, with {} that it had not settled.", plural(found.lag, "event"));
    if found.dead_letters > 0 {
        println!("Its {} stay: `upcall dead drop --consumer {consumer}`.", plural(found.dead_letters, "dead letter"));
    }
    Ok(ExitCode::SUCCESS)
}

/// One that is configured would begin anew at the next start, with the oldest event.
fn refuse_configured(consumer: &ConsumerName, config: &Outline) -> anyhow::Result<()> {
    let mut names = config.consumers.iter().map(|configured| &configured.name);
    if config.bus.nats.is_none() && names.any(|name| name == consumer) {
        bail!("consumer {consumer} is configured: take it out of the configuration first");
    }
    if config.bus.nats.is_some() && consumer.as_str() == RELAY {
        bail!("events go to NATS by the {RELAY}: those that it has not relayed would be lost to everybody");
    }
    Ok(())
}
