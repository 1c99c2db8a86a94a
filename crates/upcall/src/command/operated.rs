//! The bus that an operator's command is about.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use upcall_bus::{Archive, ConsumerName};
use upcall_bus_journal::{JournalArchive, Reader};
use upcall_bus_nats::NatsBus;
use upcall_event::SubjectFilter;

use crate::config::{Bus, JOURNAL_FOLDER, Nats};

/// Which bus a command is about.
#[derive(Args)]
pub(crate) struct BusArguments {
    /// The configuration file that names the bus: NATS if it has [bus.nats], else its journal
    #[arg(short, long, value_name = "FILE", conflicts_with = "journal")]
    config: Option<PathBuf>,
    /// The folder of a journal, without a configuration file
    #[arg(short, long, value_name = "FOLDER", default_value = JOURNAL_FOLDER)]
    journal: PathBuf,
    /// How long to wait for a NATS server
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub(super) wait: Duration,
}

/// A bus as it was named.
pub(crate) enum Named {
    /// The journal in this folder.
    Journal(PathBuf),
    /// NATS.
    Nats(Box<Nats>),
}

/// A bus that is there.
pub(crate) enum Operated {
    /// The journal in a folder.
    Journal { folder: PathBuf, archive: Arc<JournalArchive> },
    /// NATS.
    Nats(NatsBus),
}

impl BusArguments {
    /// The configuration file, if one was named.
    pub(crate) fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// Finds out which bus was named, without looking for it.
    pub(crate) fn named(&self) -> anyhow::Result<Named> {
        let Some(file) = &self.config else { return Ok(Named::Journal(self.journal.clone())) };
        let bus = Bus::load(file)?;
        match (bus.nats, bus.journal) {
            (Some(nats), _) => Ok(Named::Nats(Box::new(nats))),
            (None, Some(journal)) => Ok(Named::Journal(journal.folder)),
            (None, None) => bail!("{} names neither a journal nor NATS", file.display()),
        }
    }

    /// Opens the journal, or waits for the server.
    pub(crate) async fn open(&self) -> anyhow::Result<Operated> {
        match self.named()? {
            Named::Journal(folder) => {
                let opened = tokio::task::spawn_blocking(move || (JournalArchive::open(&folder), folder)).await?;
                let archive = opened.0.context(NO_JOURNAL)?;
                Ok(Operated::Journal { folder: opened.1, archive: Arc::new(archive) })
            }
            Named::Nats(nats) => Ok(Operated::Nats(connect(&nats, self.wait).await?)),
        }
    }
}

/// What to do about a journal that can't be opened.
pub(crate) const NO_JOURNAL: &str =
    "the journal can't be opened; name another with --journal, or the bus with -c, or start `upcall serve` once";

impl Operated {
    /// What the bus holds.
    pub(crate) fn archive(&self) -> Arc<dyn Archive> {
        match self {
            Self::Journal { archive, .. } => Arc::clone(archive) as Arc<dyn Archive>,
            Self::Nats(bus) => Arc::new(bus.clone()),
        }
    }

    /// The filters that a consumer reads by, any of which is enough; an error that says which there are, if it is not
    /// one of them.
    pub(crate) async fn filters_of(&self, consumer: &ConsumerName) -> anyhow::Result<Vec<SubjectFilter>> {
        let filters = match self {
            Self::Journal { folder, .. } => {
                let folder = folder.clone();
                let read = move || anyhow::Ok(Reader::open(&folder)?.consumers()?);
                let consumers = tokio::task::spawn_blocking(read).await??;
                let found = consumers.into_iter().find(|found| found.name == consumer.as_str());
                found.map(|found| found.filter.parse().map(|filter| vec![filter])).transpose()?
            }
            Self::Nats(bus) => bus.filters_of(consumer).await?,
        };
        if let Some(filters) = filters {
            return Ok(filters);
        }
        let known = self.archive().consumers().await?;
        if known.is_empty() {
            bail!("the bus has no consumer {consumer}, and no other yet; a consumer is there once it has been started");
        }
        let known: Vec<&str> = known.iter().map(ConsumerName::as_str).collect();
        bail!("the bus has no consumer {consumer}; there are: {}", known.join(", "));
    }
}

/// Connects, and waits for as long until it has.
///
/// # Errors
/// If no server has answered by then, or none lets us in.
pub(crate) async fn connect(nats: &Nats, wait: Duration) -> anyhow::Result<NatsBus> {
    let bus = NatsBus::connect(nats.options.clone()).await.context("bus.nats can't be used")?;
    let Err(why) = bus.connected_within(wait).await else { return Ok(bus) };
    if bus.link().borrow().refused {
        bail!(why);
    }
    let wait = humantime::format_duration(wait);
    bail!("no NATS server has answered within {wait}: {why}; is `url` of [bus.nats] right, and the server up?")
}
