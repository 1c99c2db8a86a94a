//! The journal, read from outside, and the disk under it.

use std::time::Duration;

use upcall_bus_journal::{ConsumerState, OpenError, Options, Reader};
use upcall_bus_nats::examine::Finding;

use super::disk::Disk;
use super::kinds;
use crate::bus::RELAY;
use crate::config::Outline;
use crate::words::plural;

pub(super) fn examine(options: &Options, config: &Outline, behind: Duration) -> anyhow::Result<Vec<Finding>> {
    let mut found = Vec::new();
    if options.retention.drop_unsettled {
        found.push(kinds::JOURNAL_DROPS_UNSETTLED.found("`bus.journal.retention.drop_unsettled` is on"));
    }
    let reader = match Reader::open(&options.folder) {
        Ok(reader) => Some(reader),
        Err(OpenError::Missing { folder }) => {
            found.push(kinds::JOURNAL_MISSING.found(format!("{} holds no journal", folder.display())));
            None
        }
        Err(error) => return Err(error.into()),
    };
    let used = reader.as_ref().map_or(0, Reader::size_bytes);
    found.extend(Disk::of(&options.folder)?.judge(&options.folder, used, options.retention.size_bytes));
    let Some(reader) = reader else { return Ok(found) };
    for consumer in reader.consumers()? {
        examine_consumer(&consumer, config, behind, &mut found);
    }
    Ok(found)
}

fn examine_consumer(consumer: &ConsumerState, config: &Outline, behind: Duration, found: &mut Vec<Finding>) {
    let name = &consumer.name;
    if consumer.dead_letters > 0 {
        let what = format!("{} of consumer {name}", plural(consumer.dead_letters, "dead letter"));
        found.push(kinds::JOURNAL_DEAD_LETTERS.found(what));
    }
    let age = consumer.oldest_unsettled.unwrap_or_default();
    let words = format!("the oldest of {} is {} s old", plural(consumer.lag, "unsettled event"), age.as_secs());
    if let (RELAY, Some(nats)) = (name.as_str(), &config.bus.nats) {
        // So long they stay in any case, until the server has surely synced them.
        if age > nats.sync_hold + behind {
            found.push(kinds::RELAY_BEHIND.found(format!("the relay: {words}")));
        }
        return;
    }
    let is_configured =
        config.bus.nats.is_none() && config.consumers.iter().any(|configured| configured.name.as_str() == name);
    if !is_configured {
        let what = format!("consumer {name} is not configured, and has {}", plural(consumer.lag, "unsettled event"));
        found.push(kinds::JOURNAL_CONSUMER_FORGOTTEN.found(what));
    } else if age > behind {
        found.push(kinds::JOURNAL_CONSUMER_BEHIND.found(format!("consumer {name}: {words}")));
    }
}
