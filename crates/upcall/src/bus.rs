//! The bus that a configuration names: a journal, NATS, or both with a relay between them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::time::timeout;
use tracing::warn;
use upcall_bus::{ConsumerSpec, Publisher};
use upcall_bus_journal::Journal;
use upcall_bus_nats::NatsBus;
use upcall_gateway::ReadyCheck;
use upcall_telemetry::metrics::Metrics;

use crate::config;
use crate::gauges;

/// How long the journal may take to close. A disk that hangs must not keep the process from ending.
const CLOSE_TIME: Duration = Duration::from_secs(10);

/// What events are published on, and what consumers read.
pub(crate) struct Bus {
    publisher: Arc<dyn Publisher>,
    consumed: Arc<dyn upcall_bus::Bus>,
    journal: Option<Journal>,
    nats: Option<NatsBus>,
}

impl Bus {
    /// Opens the journal, and begins to connect to NATS, which need not be there yet.
    pub(crate) async fn open(
        config: config::Bus,
        consumers: Vec<ConsumerSpec>,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let journal = match config.journal {
            Some(options) => {
                let opened = tokio::task::spawn_blocking(|| Journal::open(options)).await?;
                let journal = opened.context("the journal can't be opened")?;
                gauges::of_journal(metrics, &journal);
                Some(journal)
            }
            None => None,
        };
        let nats = match &config.nats {
            Some(nats) => {
                let bus = NatsBus::connect(nats.options.clone()).await.context("bus.nats can't be used")?;
                bus.keep(nats.provision, consumers);
                Some(bus)
            }
            None => None,
        };
        let (publisher, consumed): (Arc<dyn Publisher>, Arc<dyn upcall_bus::Bus>) = match (&journal, &nats) {
            (_, Some(nats)) => (Arc::new(nats.clone()), Arc::new(nats.clone())),
            (Some(journal), None) => (Arc::new(journal.clone()), Arc::new(journal.clone())),
            (None, None) => anyhow::bail!("there is neither a journal nor NATS"),
        };
        Ok(Self { publisher, consumed, journal, nats })
    }

    /// Where events are published.
    pub(crate) fn publisher(&self) -> Arc<dyn Publisher> {
        Arc::clone(&self.publisher)
    }

    /// What consumers read.
    pub(crate) fn consumed(&self) -> Arc<dyn upcall_bus::Bus> {
        Arc::clone(&self.consumed)
    }

    /// The connection to NATS, if there is one.
    pub(crate) fn nats(&self) -> Option<&NatsBus> {
        self.nats.as_ref()
    }

    /// What `/ready` tells about the bus.
    pub(crate) fn ready_checks(&self) -> Vec<ReadyCheck> {
        let journal =
            self.journal.clone().map(|journal| ReadyCheck::new("journal", move || journal.fault().map_or(Ok(()), Err)));
        let nats = self.nats.clone().map(|nats| ReadyCheck::new("nats", move || nats.fault().map_or(Ok(()), Err)));
        journal.into_iter().chain(nats).collect()
    }

    /// Makes durable what was taken, and lets go of files and connections.
    pub(crate) async fn close(self) {
        if let Some(nats) = self.nats {
            nats.close().await;
        }
        if let Some(journal) = self.journal
            && timeout(CLOSE_TIME, journal.close()).await.is_err()
        {
            warn!(
                "the journal's disk does not answer; what was answered 200 is on it, and the next start goes on from there"
            );
        }
    }
}
