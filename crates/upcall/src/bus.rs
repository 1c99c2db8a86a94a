//! The bus that a configuration names: a journal, NATS, or both with a relay between them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::warn;
use upcall_bus::{ConsumerName, Publisher, Quarantine};
use upcall_bus_journal::Journal;
use upcall_bus_nats::NatsBus;
use upcall_gateway::{Health, ReadyCheck};
use upcall_relay::{Relay, RelayHandle, RelayStatus, Spill, SpillOptions};
use upcall_telemetry::metrics::Metrics;

use crate::config::{self, Ack};
use crate::fleet::Members;
use crate::gauges;
use crate::lag;
use crate::words::plural;

/// The name under which the relay's progress is kept in the journal.
pub(crate) const RELAY: &str = "relay";
/// How long the journal may take to close. A disk that hangs must not keep the process from ending.
const CLOSE_TIME: Duration = Duration::from_secs(10);

/// How long consumers leave a server alone that is just being connected to.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// What events are published on, and what consumers read.
pub(crate) struct Bus {
    publisher: Arc<dyn Publisher>,
    consumed: Arc<dyn upcall_bus::Bus>,
    journal: Option<Journal>,
    nats: Option<NatsBus>,
    /// Whether events go to NATS first, and to the journal what it does not take.
    spills: bool,
    relay: Option<RunningRelay>,
}

impl Bus {
    /// Opens the journal, and begins to connect to NATS, which need not be there yet. Where there are both, a relay
    /// runs from now on.
    pub(crate) async fn open(config: config::Bus, members: &Members, metrics: &Metrics) -> anyhow::Result<Self> {
        let folder = config.journal.as_ref().map(|journal| journal.folder.clone());
        let journal = match config.journal {
            Some(options) => {
                let drops_unsettled = options.retention.drop_unsettled;
                let opened = tokio::task::spawn_blocking(|| Journal::open(options)).await?;
                let journal = opened.context("the journal can't be opened")?;
                gauges::of_journal(metrics, &journal, config.nats.is_none(), drops_unsettled);
                Some(journal)
            }
            None => None,
        };
        let Some(config) = config.nats else {
            let journal = journal.context("there is neither a journal nor NATS")?;
            let (publisher, consumed) = (Arc::new(journal.clone()), Arc::new(journal.clone()));
            return Ok(Self { publisher, consumed, journal: Some(journal), nats: None, spills: false, relay: None });
        };

        let nats = NatsBus::connect(config.options.clone()).await.context("bus.nats can't be used")?;
        nats.keep(config.provision, members.specs());
        gauges::of_nats(metrics, &nats);
        lag::of_nats(metrics, &nats, members.clone());
        let relay = match (&journal, folder) {
            (Some(journal), Some(folder)) => Some(RunningRelay::start(journal, &nats, &config, folder, metrics).await?),
            _ => None,
        };
        let publisher: Arc<dyn Publisher> = match (&journal, config.ack) {
            (Some(journal), Ack::Journal) => Arc::new(journal.clone()),
            (Some(journal), Ack::Broker) => {
                let spill = Spill::new(nats.clone(), journal.clone(), SpillOptions::default());
                gauges::of_spill(metrics, spill.clone());
                Arc::new(spill)
            }
            (None, _) => Arc::new(nats.clone()),
        };
        let spills = config.ack == Ack::Broker && journal.is_some();
        Ok(Self { publisher, consumed: Arc::new(nats.clone()), journal, nats: Some(nats), spills, relay })
    }

    /// Where events are published.
    pub(crate) fn publisher(&self) -> Arc<dyn Publisher> {
        Arc::clone(&self.publisher)
    }

    /// What consumers read.
    pub(crate) fn consumed(&self) -> Arc<dyn upcall_bus::Bus> {
        Arc::clone(&self.consumed)
    }

    /// Where rejected callbacks are kept: where operators look for them.
    pub(crate) fn quarantine(&self) -> Option<Arc<dyn Quarantine>> {
        let nats = self.nats.clone().map(|nats| Arc::new(nats) as Arc<dyn Quarantine>);
        nats.or_else(|| self.journal.clone().map(|journal| Arc::new(journal) as Arc<dyn Quarantine>))
    }

    /// The connection to NATS, if there is one.
    pub(crate) fn nats(&self) -> Option<&NatsBus> {
        self.nats.as_ref()
    }

    /// Waits a moment for a server that is just being connected to, and for its streams: so that who reads it does not
    /// begin with a failure.
    pub(crate) fn settled(&self) -> Settled {
        Settled(self.nats.clone())
    }

    /// What `/ready` tells about the bus. Where there is a journal, callbacks are taken without NATS.
    pub(crate) fn ready_checks(&self) -> Vec<ReadyCheck> {
        let mut checks = Vec::new();
        if let Some(journal) = self.journal.clone() {
            let first = self.nats.clone().filter(|_| self.spills);
            let is_spare = move || first.as_ref().is_some_and(|nats| nats.fault().is_none());
            let health = move || match (journal.fault(), journal.overdue()) {
                (Some(fault), _) if is_spare() => Health::Remark(format!("{fault}; NATS takes events")),
                (Some(fault), _) => Health::Unready(fault),
                (None, Some(overdue)) => Health::Remark(overdue.to_string()),
                (None, None) => Health::Fine,
            };
            checks.push(ReadyCheck::new("journal", health));
        }
        if let Some(nats) = self.nats.clone() {
            let is_needed = self.journal.is_none();
            let health = move || match nats.fault() {
                None => nats.remark().map_or(Health::Fine, Health::Remark),
                Some(fault) if is_needed => Health::Unready(fault),
                Some(fault) => Health::Remark(format!("{fault}; until it is back, events are kept in the journal")),
            };
            checks.push(ReadyCheck::new("nats", health));
        }
        if let Some(relay) = &self.relay {
            let handle = relay.handle.clone();
            checks.push(ReadyCheck::new("relay", move || in_words(&handle.status())));
        }
        checks
    }

    /// Makes durable what was taken, and lets go of files and connections.
    pub(crate) async fn close(self) {
        if let Some(relay) = self.relay {
            relay.stop().await;
        }
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

/// A bus that settles after the start.
#[derive(Clone)]
pub(crate) struct Settled(Option<NatsBus>);

impl Settled {
    /// Waits until it has.
    pub(crate) async fn wait(&self) {
        if let Some(nats) = &self.0 {
            // Whatever is wrong then shows when it is read.
            let _ = timeout(SETTLE_TIME, nats.first_look()).await;
        }
    }
}

/// The relay from the journal to NATS, at work.
struct RunningRelay {
    handle: RelayHandle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl RunningRelay {
    async fn start(
        journal: &Journal,
        nats: &NatsBus,
        config: &config::Nats,
        folder: PathBuf,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let name: ConsumerName = RELAY.parse()?;
        let backlog = journal.backlog(&name).await.context("the journal can't be relayed")?;
        let options = upcall_relay::Options {
            sync_hold: config.sync_hold,
            spilled: config.ack == Ack::Broker,
            ..upcall_relay::Options::new(folder)
        };
        let relay = Relay::new(backlog, nats.clone(), options);
        let handle = relay.handle();
        gauges::of_relay(metrics, handle.clone());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(relay.run(async move {
            // A sender that is gone means the same.
            let _ = stopped.await;
        }));
        Ok(Self { handle, stop, task })
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        if timeout(CLOSE_TIME, self.task).await.is_err() {
            warn!("the relay does not end; the next start goes on from where it was");
        }
    }
}

/// What an operator wants to know of a relay: nothing while it keeps up.
fn in_words(status: &RelayStatus) -> Health {
    let mut remarks = Vec::new();
    if let Some(age) = status.backlog_age {
        remarks.push(format!("{} to go, the oldest waits for {} s", plural(status.backlog, "event"), age.as_secs()));
    }
    if status.set_aside > 0 {
        let events = plural(status.set_aside, "event");
        remarks.push(format!("{events} set aside in the journal's folder, which NATS does not take; each says why"));
    }
    remarks.extend(status.fault.clone());
    if remarks.is_empty() { Health::Fine } else { Health::Remark(remarks.join("; ")) }
}
