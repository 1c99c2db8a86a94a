//! What runs: NATS servers, gateways, a consumer, and a proxy on each link between them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::{Catalog, Process, facts};
use crate::disk::SmallDisk;
use crate::nats::{NatsCluster, NatsOptions, NatsServer};
use crate::proxy::{Link, Proxy};
use crate::signer::Signer;

/// Room for what a run has in a journal at a time, several times over.
const JOURNAL_MIB: u32 = 96;
/// Room for what a run of an hour stores on one server, several times over.
const STORE_MIB: u32 = 768;
/// What a consumer that died held goes to its next life after this, not after half a minute.
const ACK_WAIT: &str = "3s";

/// When a callback is answered 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// When the stream has acknowledged the event.
    Broker,
    /// When the journal has it on disk.
    Journal,
}

impl fmt::Display for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broker => "broker",
            Self::Journal => "journal",
        })
    }
}

/// What is to run.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where everything has its files.
    pub folder: PathBuf,
    /// The `upcall` to run.
    pub executable: PathBuf,
    /// When a callback is answered 200.
    pub ack: Ack,
    /// Whether the gateways have a journal.
    pub journal: bool,
    /// How many NATS servers there are, and how many replicas of each event.
    pub servers: usize,
    /// How many gateways there are.
    pub gateways: usize,
    /// The gateways' deadline.
    pub deadline: Duration,
    /// How long the stream must have held an event before it leaves the journal.
    pub sync_hold: Duration,
    /// Whether a journal and a server's store lie on disks that can be filled, where that is allowed.
    pub small_disks: bool,
}

/// A gateway, with what it depends on.
pub struct Gateway {
    /// The process.
    pub process: Process,
    /// Its links to the servers, in their order.
    pub links: Vec<Proxy>,
    /// What its journal lies on, if that can be filled.
    pub disk: Option<SmallDisk>,
    /// Its journal's database, if it has one.
    pub journal: Option<PathBuf>,
}

/// Everything that runs. It ends when this is dropped; its files stay.
pub struct Fleet {
    /// The gateways.
    pub gateways: Vec<Gateway>,
    /// The consumer with a table.
    pub consumer: Process,
    /// The consumer's links to the servers.
    pub consumer_links: Vec<Proxy>,
    /// What the consumer did.
    pub catalog: Catalog,
    /// What the callbacks are signed with.
    pub signer: Signer,
    /// What it was to be.
    pub setup: Setup,
    servers: Servers,
    /// What the first server's store lies on, if that can be filled. After the servers, since it goes after them.
    pub store_disk: Option<SmallDisk>,
}

enum Servers {
    One(NatsServer),
    Several(NatsCluster),
}

impl Fleet {
    /// Starts everything, and waits until an event can go all the way.
    ///
    /// # Errors
    /// If something does not start.
    pub fn start(setup: Setup) -> anyhow::Result<Self> {
        let stores = setup.folder.join("nats");
        let first_store = if setup.servers == 1 { stores.clone() } else { stores.join("0") };
        let store_disk = setup.small_disks.then(|| SmallDisk::mount(&first_store, STORE_MIB)).flatten();
        // Clients that heard of the servers' own addresses would go round the proxies.
        let options =
            NatsOptions { store_dir: Some(stores), cluster: "no_advertise: true".to_owned(), ..NatsOptions::default() };
        let servers = match setup.servers {
            1 => Servers::One(NatsServer::start_with(&options)),
            size => Servers::Several(NatsCluster::start_with(size, &options)),
        };
        let signer = Signer::new();
        let gateways: anyhow::Result<Vec<_>> =
            (1..=setup.gateways).map(|number| start_gateway(number, &setup, &servers, &signer)).collect();
        let gateways = gateways?;

        let consumer_links = proxies(&servers);
        let folder = setup.folder.join("consumer");
        std::fs::create_dir_all(&folder)?;
        let sink = "[[consumer]]\nname = \"catalog\"\nsql = { url = \"sqlite://catalog.db\", table = \"uploads\" }\n";
        let text = configuration(&setup, &consumer_links, &signer, None, sink);
        let consumer = start("consumer", &folder, &setup.executable, &text)?;
        let catalog = Catalog::watch(folder.join("catalog.db")).context("the catalog can't be watched")?;
        Ok(Self { gateways, consumer, consumer_links, catalog, signer, setup, servers, store_disk })
    }

    /// The NATS servers.
    pub fn servers(&self) -> &[NatsServer] {
        self.servers.all()
    }

    /// The servers' own URLs.
    pub fn urls(&self) -> Vec<String> {
        self.servers().iter().map(NatsServer::url).collect()
    }

    /// Makes whole what is still broken, and starts what does not run.
    ///
    /// # Errors
    /// If a process does not start.
    pub fn heal(&self) -> anyhow::Result<()> {
        let disks = self.gateways.iter().filter_map(|gateway| gateway.disk.as_ref()).chain(&self.store_disk);
        disks.for_each(SmallDisk::free);
        let links = self.gateways.iter().flat_map(|gateway| &gateway.links).chain(&self.consumer_links);
        links.for_each(|link| link.set(Link::Whole));
        // A cluster needs most of them to be ready, so all of them are started before one is waited for.
        self.servers().iter().filter(|server| server.has_ended()).for_each(|server| {
            server.kill();
            server.launch();
        });
        self.servers().iter().for_each(NatsServer::heal);
        self.processes().try_for_each(Process::start)
    }

    /// The gateways and the consumer.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.gateways.iter().map(|gateway| &gateway.process).chain([&self.consumer])
    }

    /// Copies what the servers logged into the run's folder.
    ///
    /// # Errors
    /// If it can't be written there.
    pub fn keep_logs(&self) -> std::io::Result<()> {
        let keep = |(index, server): (usize, &NatsServer)| {
            std::fs::write(self.setup.folder.join(format!("nats-{index}.log")), server.log())
        };
        self.servers().iter().enumerate().try_for_each(keep)
    }
}

impl Servers {
    fn all(&self) -> &[NatsServer] {
        match self {
            Self::One(server) => std::slice::from_ref(server),
            Self::Several(cluster) => cluster.servers(),
        }
    }
}

fn proxies(servers: &Servers) -> Vec<Proxy> {
    servers.all().iter().map(|server| Proxy::start(server.address())).collect()
}

fn start_gateway(number: usize, setup: &Setup, servers: &Servers, signer: &Signer) -> anyhow::Result<Gateway> {
    let name = format!("gateway-{number}");
    let folder = setup.folder.join(&name);
    let journal = folder.join("journal");
    let disk = (setup.small_disks && setup.journal && number == 1).then(|| SmallDisk::mount(&journal, JOURNAL_MIB));
    std::fs::create_dir_all(&folder)?;
    let links = proxies(servers);
    let journal = setup.journal.then_some(journal);
    let text = configuration(setup, &links, signer, journal.as_deref(), "");
    let process = start(&name, &folder, &setup.executable, &text)?;
    let journal = journal.map(|folder| folder.join("journal.db"));
    Ok(Gateway { process, links, disk: disk.flatten(), journal })
}

fn start(name: &str, folder: &Path, executable: &Path, text: &str) -> anyhow::Result<Process> {
    let file = folder.join("upcall.toml");
    std::fs::write(&file, text)?;
    Process::start_new(name, executable, file)
}

fn configuration(setup: &Setup, links: &[Proxy], signer: &Signer, journal: Option<&Path>, more: &str) -> String {
    let urls: Vec<String> = links.iter().map(|link| format!("\"nats://{}\"", link.address())).collect();
    // Whoever has no journal publishes to the stream, if at all.
    let ack = if journal.is_some() { setup.ack } else { Ack::Broker };
    let journal = journal.map(|folder| format!("journal = {:?}\n", folder.display().to_string())).unwrap_or_default();
    format!(
        "[gateway]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\ndeadline = \"{deadline}ms\"\n\n\
         [bus]\n{journal}\n\
         [bus.nats]\nurl = [{urls}]\nack = \"{ack}\"\nack_wait = \"{ACK_WAIT}\"\nsync_hold = \"{hold}ms\"\n\n\
         [bus.nats.streams]\nreplicas = {replicas}\n\n{keys}\n\
         [[route]]\nname = \"{route}\"\npath = \"/oss/uploads\"\n\n{more}",
        deadline = setup.deadline.as_millis(),
        urls = urls.join(", "),
        hold = setup.sync_hold.as_millis(),
        replicas = setup.servers,
        keys = signer.configuration(),
        route = facts::ROUTE,
    )
}
