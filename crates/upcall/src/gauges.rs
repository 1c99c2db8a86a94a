//! Metrics that are known elsewhere, and brought up to date when they are read.

use std::sync::atomic::Ordering;

use upcall_bus_journal::Journal;
use upcall_bus_nats::NatsBus;
use upcall_consumer::Stats;
use upcall_relay::{RelayHandle, Spill};
use upcall_telemetry::metrics::{ConsumerLabels, DeliveryLabels, Metrics};

/// Shows how the journal is, and how far its consumers are.
pub(crate) fn of_journal(metrics: &Metrics, journal: &Journal) {
    let journal = journal.clone();
    metrics.before_scrape(move |metrics| {
        metrics.journal_writable.set(i64::from(journal.fault().is_none()));
        let overdue = journal.overdue().map_or_else(Vec::new, |overdue| overdue.consumers);
        // A journal that can't be read shows its last figures; that it is out of order shows elsewhere.
        let Ok(status) = journal.status() else { return };
        metrics.journal_sequence.set(signed(status.last_sequence));
        metrics.journal_size.set(signed(status.size_bytes));
        for consumer in status.consumers {
            let labels = ConsumerLabels { consumer: consumer.name };
            let oldest = consumer.oldest_unsettled.map_or(0, |age| age.as_secs());
            let is_overdue = overdue.contains(&labels.consumer);
            metrics.consumer_overdue.get_or_create_owned(&labels).set(i64::from(is_overdue));
            metrics.consumer_lag.get_or_create_owned(&labels).set(signed(consumer.lag));
            metrics.consumer_oldest.get_or_create_owned(&labels).set(signed(oldest));
        }
    });
}

/// Shows whether NATS takes events.
pub(crate) fn of_nats(metrics: &Metrics, nats: &NatsBus) {
    let nats = nats.clone();
    metrics.before_scrape(move |metrics| {
        metrics.nats_ready.set(i64::from(nats.fault().is_none()));
    });
}

/// Shows how far the relay is.
pub(crate) fn of_relay(metrics: &Metrics, relay: RelayHandle) {
    metrics.before_scrape(move |metrics| {
        let status = relay.status();
        metrics.relay_backlog.set(signed(status.backlog));
        metrics.relay_backlog_age.set(signed(status.backlog_age.map_or(0, |age| age.as_secs())));
        metrics.relay_unconfirmed.set(signed(status.unconfirmed));
        metrics.relay_relayed.inner().store(status.relayed, Ordering::Relaxed);
        metrics.relay_losses.inner().store(status.losses, Ordering::Relaxed);
        metrics.relay_resent.inner().store(status.resent, Ordering::Relaxed);
        metrics.relay_set_aside.set(signed(status.set_aside));
    });
}

/// Shows how much was spilled.
pub(crate) fn of_spill(metrics: &Metrics, spill: Spill) {
    metrics.before_scrape(move |metrics| metrics.spilled.inner().store(spill.spilled(), Ordering::Relaxed));
}

/// Shows what a consumer did.
pub(crate) fn of_consumer(metrics: &Metrics, name: &str, stats: Stats) {
    let consumer = name.to_owned();
    metrics.before_scrape(move |metrics| {
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
            metrics.deliveries.get_or_create_owned(&labels).inner().store(count, Ordering::Relaxed);
        }
        let labels = ConsumerLabels { consumer: consumer.clone() };
        metrics.consumer_ready.get_or_create_owned(&labels).set(i64::from(stats.is_ready()));
    });
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
