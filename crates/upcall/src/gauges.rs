//! Metrics that are known elsewhere, and brought up to date when they are read.

use std::sync::atomic::Ordering;

use crate::fleet::Members;
use prometheus_client::metrics::counter::Counter;
use upcall_bus_journal::Journal;
use upcall_bus_nats::NatsBus;
use upcall_consumer::Stats;
use upcall_relay::{RelayHandle, Spill};
use upcall_telemetry::metrics::{ConsumerLabels, DeliveryLabels, Metrics};

/// Shows how the journal is, and how far its consumers are, where it is what they read.
pub(crate) fn of_journal(metrics: &Metrics, journal: &Journal, is_consumed: bool, drops_unsettled: bool) {
    let journal = journal.clone();
    metrics.before_scrape(move |metrics| {
        metrics.journal_writable.get().set(i64::from(journal.fault().is_none()));
        for (consumer, count) in journal.dropped_unsettled() {
            store(&metrics.journal_dropped.get_or_create_owned(&ConsumerLabels { consumer }), count);
        }
        let overdue = journal.overdue().map_or_else(Vec::new, |overdue| overdue.consumers);
        // A journal that can't be read shows its last figures; that it is out of order shows elsewhere.
        let Ok(status) = journal.status() else { return };
        metrics.journal_sequence.get().set(signed(status.last_sequence));
        metrics.journal_size.get().set(signed(status.size_bytes));
        for consumer in status.consumers {
            let labels = ConsumerLabels { consumer: consumer.name };
            let oldest = consumer.oldest_unsettled.map_or(0, |age| age.as_secs());
            let is_overdue = overdue.contains(&labels.consumer);
            metrics.consumer_overdue.get_or_create_owned(&labels).set(i64::from(is_overdue));
            if drops_unsettled {
                // Begins with zero.
                let _ = metrics.journal_dropped.get_or_create_owned(&labels);
            }
            if !is_consumed {
                // How far the relay is has figures of its own.
                continue;
            }
            metrics.consumer_lag.get_or_create_owned(&labels).set(signed(consumer.lag));
            metrics.consumer_oldest.get_or_create_owned(&labels).set(signed(oldest));
            metrics.consumer_dead.get_or_create_owned(&labels).set(signed(consumer.dead_letters));
        }
    });
}

/// Shows whether NATS takes events.
pub(crate) fn of_nats(metrics: &Metrics, nats: &NatsBus) {
    let nats = nats.clone();
    metrics.before_scrape(move |metrics| {
        metrics.nats_ready.get().set(i64::from(nats.fault().is_none()));
    });
}

/// Shows how far the relay is.
pub(crate) fn of_relay(metrics: &Metrics, relay: RelayHandle) {
    metrics.before_scrape(move |metrics| {
        let status = relay.status();
        metrics.relay_backlog.get().set(signed(status.backlog));
        metrics.relay_backlog_age.get().set(signed(status.backlog_age.map_or(0, |age| age.as_secs())));
        metrics.relay_unconfirmed.get().set(signed(status.unconfirmed));
        store(metrics.relay_relayed.get(), status.relayed);
        store(metrics.relay_losses.get(), status.losses);
        store(metrics.relay_resent.get(), status.resent);
        metrics.relay_set_aside.get().set(signed(status.set_aside));
    });
}

/// Shows how much was spilled.
pub(crate) fn of_spill(metrics: &Metrics, spill: Spill) {
    metrics.before_scrape(move |metrics| store(metrics.spilled.get(), spill.spilled()));
}

/// Shows what consumers did, whichever there are when it is asked.
pub(crate) fn of_consumers(metrics: &Metrics, members: Members) {
    metrics.before_scrape(move |metrics| {
        members.stats().into_iter().for_each(|(name, stats)| show_consumer(metrics, name, &stats));
    });
}

/// Forgets the figures of a consumer that there is no more; what was counted stays.
pub(crate) fn forget_consumer(metrics: &Metrics, name: &str) {
    let labels = ConsumerLabels { consumer: name.to_owned() };
    let Metrics { consumer_ready, consumer_in_flight, consumer_lag, consumer_oldest, consumer_dead, .. } = metrics;
    for gauge in [consumer_ready, consumer_in_flight, consumer_lag, consumer_oldest, consumer_dead] {
        gauge.remove(&labels);
    }
}

fn show_consumer(metrics: &Metrics, consumer: String, stats: &Stats) {
    let numbers = stats.snapshot();
    for (outcome, count) in [
        ("done", numbers.done),
        ("skipped", numbers.skipped),
        ("retried", numbers.retried),
        ("dead", numbers.dead),
        ("handed_back", numbers.handed_back),
        ("unsettled", numbers.unsettled),
    ] {
        let labels = DeliveryLabels { consumer: consumer.clone(), outcome };
        store(&metrics.deliveries.get_or_create_owned(&labels), count);
    }
    let labels = ConsumerLabels { consumer };
    metrics.consumer_in_flight.get_or_create_owned(&labels).set(signed(numbers.in_flight));
    metrics.consumer_ready.get_or_create_owned(&labels).set(i64::from(stats.is_ready()));
}

/// Shows a count that is kept elsewhere.
fn store(counter: &Counter, count: u64) {
    counter.inner().store(count, Ordering::Relaxed);
}

pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
