//! The faults, and how each is inflicted and mended.

use std::fmt;
use std::time::Duration;

use crate::chaos::random::Random;
use crate::chaos::{Fleet, Process};
use crate::disk::SmallDisk;
use crate::nats::NatsServer;
use crate::proxy::{Link, Proxy};

const LATENCY: Duration = Duration::from_millis(300);
const SLOW_BYTES_PER_SECOND: u32 = 8 * 1024;

/// What is done to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Breakage {
    /// SIGKILL, and a start some time later.
    Kill,
    /// SIGTERM, and a start at once.
    Restart,
    /// SIGSTOP, and SIGCONT some time later.
    Halt,
    /// Connections are reset.
    Cut,
    /// Packets are dropped.
    Blackhole,
    /// Everything takes longer.
    Latency,
    /// Little passes.
    Slow,
    /// The far end is gone without a word.
    HalfOpen,
    /// There is no room left.
    Full,
}

/// Where something breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A gateway.
    Gateway(usize),
    /// The consumer.
    Consumer,
    /// One NATS server.
    Server(usize),
    /// All NATS servers.
    Servers,
    /// A gateway's link to one server, or to all of them.
    GatewayLink(usize, Option<usize>),
    /// The consumer's link to one server, or to all of them.
    ConsumerLink(Option<usize>),
    /// The disk under the first gateway's journal.
    JournalDisk,
    /// The disk under the first server's store.
    StoreDisk,
}

/// Something that breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// What is done.
    pub breakage: Breakage,
    /// Where.
    pub place: Place,
}

impl Place {
    /// Whether two faults in these places would hide each other.
    pub(crate) fn collides(self, other: Self) -> bool {
        use Place::{Gateway, JournalDisk, Server, Servers, StoreDisk};
        match (self, other) {
            (Servers, Server(_) | StoreDisk) | (Server(_) | StoreDisk, Servers) => true,
            (Server(0), StoreDisk) | (StoreDisk, Server(0)) => true,
            (Gateway(0), JournalDisk) | (JournalDisk, Gateway(0)) => true,
            (Place::GatewayLink(one, _), Place::GatewayLink(two, _)) => one == two,
            (Place::ConsumerLink(_), Place::ConsumerLink(_)) => true,
            _ => self == other,
        }
    }
}

impl Fault {
    /// Every kind of fault that this fleet can have, each aimed at the first of its places.
    pub fn kinds(fleet: &Fleet) -> Vec<Self> {
        use Breakage::{Blackhole, Cut, Full, HalfOpen, Halt, Kill, Latency, Restart, Slow};
        let mut places = vec![Place::Gateway(0), Place::Consumer, Place::Server(0)];
        if fleet.servers().len() > 1 {
            places.push(Place::Servers);
        }
        let processes = places.into_iter().flat_map(|place| [Kill, Restart, Halt].map(|breakage| (breakage, place)));
        let links = [Place::GatewayLink(0, None), Place::ConsumerLink(None)];
        let links = links
            .into_iter()
            .flat_map(|place| [Cut, Blackhole, Latency, Slow, HalfOpen].map(|breakage| (breakage, place)));
        let journal = fleet.gateways.iter().any(|gateway| gateway.disk.is_some()).then_some((Full, Place::JournalDisk));
        let store = fleet.store_disk.as_ref().map(|_| (Full, Place::StoreDisk));
        let all = processes.chain(links).chain(journal).chain(store);
        all.map(|(breakage, place)| Self { breakage, place }).collect()
    }

    /// What kind of fault it is, wherever it strikes.
    #[must_use]
    pub fn kind(self) -> String {
        let place = match self.place {
            Place::Gateway(_) => "a gateway",
            Place::Consumer => "the consumer",
            Place::Server(_) => "one NATS server",
            Place::Servers => "all NATS servers",
            Place::GatewayLink(..) => "a gateway's link to NATS",
            Place::ConsumerLink(_) => "the consumer's link to NATS",
            Place::JournalDisk => "a journal's disk",
            Place::StoreDisk => "a NATS server's disk",
        };
        match self.breakage {
            Breakage::Kill => format!("kill -9 of {place}"),
            Breakage::Restart => format!("restart of {place}"),
            Breakage::Halt => format!("SIGSTOP of {place}"),
            Breakage::Cut => format!("{place} is cut"),
            Breakage::Blackhole => format!("{place} drops everything"),
            Breakage::Latency => format!("{place} takes {LATENCY:?} longer"),
            Breakage::Slow => format!("{place} passes {SLOW_BYTES_PER_SECOND} bytes/s"),
            Breakage::HalfOpen => format!("{place} is half open"),
            Breakage::Full => format!("{place} is full"),
        }
    }

    /// The same kind of fault, at one of the places where it can happen.
    pub(crate) fn aimed(self, fleet: &Fleet, random: &mut Random) -> Self {
        let servers = fleet.servers().len();
        let mut one_or_all = || (random.below(2) == 0 && servers > 1).then(|| random.below(servers));
        let place = match self.place {
            Place::GatewayLink(..) => {
                let link = one_or_all();
                Place::GatewayLink(random.below(fleet.gateways.len()), link)
            }
            Place::ConsumerLink(_) => Place::ConsumerLink(one_or_all()),
            Place::Gateway(_) => Place::Gateway(random.below(fleet.gateways.len())),
            Place::Server(_) => Place::Server(random.below(servers)),
            other => other,
        };
        Self { place, ..self }
    }

    /// Whether it is over as soon as it has happened.
    pub(crate) fn is_brief(self) -> bool {
        self.breakage == Breakage::Restart
    }

    /// Breaks it.
    pub(crate) fn inflict(self, fleet: &Fleet) -> anyhow::Result<()> {
        match self.breakage {
            // In the middle of its work: between two batches it would be delivered nothing twice.
            Breakage::Kill if self.place == Place::Consumer => {
                fleet.catalog.while_locked(|| self.processes(fleet).for_each(Process::kill))?;
            }
            Breakage::Kill => {
                self.processes(fleet).for_each(Process::kill);
                self.servers(fleet).iter().for_each(NatsServer::kill);
            }
            Breakage::Restart => {
                self.processes(fleet).try_for_each(Process::terminate)?;
                self.servers(fleet).iter().for_each(NatsServer::terminate);
            }
            Breakage::Halt => {
                self.processes(fleet).try_for_each(Process::halt)?;
                self.servers(fleet).iter().filter(|server| !server.has_ended()).for_each(NatsServer::stop);
            }
            Breakage::Cut => self.set(fleet, Link::Cut),
            Breakage::Blackhole => self.set(fleet, Link::Blackhole),
            Breakage::Latency => self.set(fleet, Link::Latency(LATENCY)),
            Breakage::Slow => self.set(fleet, Link::Slow(SLOW_BYTES_PER_SECOND)),
            Breakage::HalfOpen => self.set(fleet, Link::HalfOpen),
            Breakage::Full => self.disk(fleet, SmallDisk::fill),
        }
        Ok(())
    }

    /// Mends it.
    pub(crate) fn mend(self, fleet: &Fleet) -> anyhow::Result<()> {
        match self.breakage {
            Breakage::Kill | Breakage::Restart => {
                self.processes(fleet).try_for_each(Process::start)?;
                self.servers(fleet).iter().for_each(launch);
            }
            Breakage::Halt => {
                self.processes(fleet).try_for_each(Process::go_on)?;
                self.servers(fleet).iter().filter(|server| !server.has_ended()).for_each(NatsServer::cont);
            }
            Breakage::Full => {
                self.disk(fleet, SmallDisk::free);
                if self.place == Place::StoreDisk {
                    // A server that met a full disk turns JetStream off until it is started again.
                    let server = &fleet.servers()[0];
                    server.terminate();
                    launch(server);
                }
            }
            _ => self.set(fleet, Link::Whole),
        }
        Ok(())
    }

    /// Whether it is the reason that a server does not run.
    pub(crate) fn stops(self, server: usize) -> bool {
        let strikes = matches!(self.place, Place::Servers) || self.place == Place::Server(server);
        strikes && self.breakage == Breakage::Kill
    }

    fn processes(self, fleet: &Fleet) -> std::option::IntoIter<&Process> {
        let process = match self.place {
            Place::Gateway(gateway) => Some(&fleet.gateways[gateway].process),
            Place::Consumer => Some(&fleet.consumer),
            _ => None,
        };
        process.into_iter()
    }

    fn servers(self, fleet: &Fleet) -> &[NatsServer] {
        match self.place {
            Place::Server(server) => &fleet.servers()[server..=server],
            Place::Servers => fleet.servers(),
            _ => &[],
        }
    }

    fn set(self, fleet: &Fleet, link: Link) {
        let (links, one) = match self.place {
            Place::GatewayLink(gateway, one) => (&fleet.gateways[gateway].links, one),
            Place::ConsumerLink(one) => (&fleet.consumer_links, one),
            _ => return,
        };
        let is_meant = |(index, _): &(usize, &Proxy)| one.is_none_or(|one| one == *index);
        links.iter().enumerate().filter(is_meant).for_each(|(_, proxy)| proxy.set(link));
    }

    fn disk(self, fleet: &Fleet, change: impl Fn(&SmallDisk)) {
        let disk = match self.place {
            Place::JournalDisk => fleet.gateways.iter().find_map(|gateway| gateway.disk.as_ref()),
            Place::StoreDisk => fleet.store_disk.as_ref(),
            _ => None,
        };
        disk.into_iter().for_each(change);
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind())?;
        match self.place {
            Place::Gateway(index) | Place::GatewayLink(index, None) => write!(f, " ({})", index + 1),
            Place::GatewayLink(index, Some(server)) => write!(f, " ({}, to server {server})", index + 1),
            Place::Server(server) | Place::ConsumerLink(Some(server)) => write!(f, " (server {server})"),
            _ => Ok(()),
        }
    }
}

/// Starts a server that has ended, without waiting for it.
pub(crate) fn launch(server: &NatsServer) {
    // Takes note that it has.
    server.kill();
    server.launch();
}
