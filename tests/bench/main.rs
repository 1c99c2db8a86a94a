//! The gateway beside what it costs at least: a bare axum handler, one that writes the same journal, and one that
//! publishes to the same NATS server.
//!
//! `cargo run --release -p upcall-tests --bin bench` builds everything, starts each server in a process of its own, loads it, and prints rates,
//! latencies, peak memory and ratios. Runs are interleaved and repeated, so that a noisy machine disturbs all alike.
//! The ratios are of runs in one round; their median is what counts.

#![allow(clippy::print_stdout, reason = "printing is its purpose")]

mod bare;
mod corpus;
mod load;
mod report;
mod server;
mod spread;
mod start;
mod usage;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use mimalloc::MiMalloc;
use upcall_tests::collector::{self, Behaviour, Collector};
use upcall_tests::nats::{NatsOptions, NatsServer};

use corpus::{Corpus, KEY_URL, PATH};
use load::Load;
use report::{Figures, Report};
use server::{Server, free_address};
use usage::Usage;

/// The same as the gateway's: what is compared is the gateway's own work.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const CONNECTIONS: usize = 64;
/// Enough that no run ends before its time on a machine several times as fast as a laptop.
const CALLBACKS: usize = 400_000;
/// How many streams a gateway makes on NATS.
const STREAMS: u64 = 5;
/// How long it may take over that.
const STREAMS_TIME: Duration = Duration::from_secs(10);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// (a)
    Constant,
    /// (b)
    Journal,
    /// (c)
    Gateway,
    /// (d)
    Nats(Sync),
    /// (d) with the gateway's event in the body's place
    Event,
    /// (e)
    Broker(Sync),
    /// (f)
    Relay(Sync),
    /// (c) once more: what the machine's noise makes of no difference
    Again,
    /// (c) with telemetry, to such a collector
    Traced(Receiver),
}

/// The collector that telemetry goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiver {
    Refuses,
    Hangs,
    Works,
}

/// When the NATS server syncs to the disk what it has acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    /// Every two minutes.
    Default,
    /// Before it acknowledges.
    Always,
}

/// Subjects that are compared, by their place in the first list.
struct Comparison {
    subjects: &'static [Subject],
    ratios: &'static [(usize, usize)],
    /// Whether it is made with a new connection for each callback, too.
    close: bool,
    /// Whether it is about latencies, too.
    p99: bool,
}

const ON_THE_JOURNAL: Comparison = Comparison {
    subjects: &[Subject::Constant, Subject::Journal, Subject::Gateway],
    ratios: &[(2, 1), (2, 0), (1, 0)],
    close: true,
    p99: false,
};

const ON_NATS: Comparison = Comparison {
    subjects: &[
        Subject::Nats(Sync::Default),
        Subject::Broker(Sync::Default),
        Subject::Relay(Sync::Default),
        Subject::Nats(Sync::Always),
        Subject::Broker(Sync::Always),
        Subject::Relay(Sync::Always),
        Subject::Event,
    ],
    ratios: &[(1, 0), (2, 0), (4, 3), (5, 3), (6, 0), (1, 6)],
    close: false,
    p99: false,
};

/// One trace in a hundred is recorded, as by default.
const WITH_TELEMETRY: Comparison = Comparison {
    subjects: &[
        Subject::Gateway,
        Subject::Traced(Receiver::Refuses),
        Subject::Traced(Receiver::Hangs),
        Subject::Traced(Receiver::Works),
        Subject::Again,
    ],
    ratios: &[(1, 0), (2, 0), (3, 0), (4, 0)],
    close: true,
    p99: true,
};

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Self::Constant => "(a) axum, constant answer",
            Self::Journal => "(b) axum, journal",
            Self::Gateway => "(c) gateway",
            Self::Nats(Sync::Default) => "(d) axum, JetStream",
            Self::Broker(Sync::Default) => "(e) gateway, ack = broker",
            Self::Relay(Sync::Default) => "(f) gateway, ack = journal",
            Self::Event => "(d) with the gateway's event",
            Self::Nats(Sync::Always) => "(d) with sync_interval: always",
            Self::Broker(Sync::Always) => "(e) with sync_interval: always",
            Self::Relay(Sync::Always) => "(f) with sync_interval: always",
            Self::Again => "(c) once more",
            Self::Traced(Receiver::Refuses) => "(c) with a collector that refuses",
            Self::Traced(Receiver::Hangs) => "(c) with a collector that hangs",
            Self::Traced(Receiver::Works) => "(c) with a collector",
        }
    }

    /// The NATS server that it needs.
    fn nats(self) -> Option<NatsServer> {
        let sync = match self {
            Self::Constant | Self::Journal | Self::Gateway | Self::Again | Self::Traced(_) => return None,
            Self::Event => Sync::Default,
            Self::Nats(sync) | Self::Broker(sync) | Self::Relay(sync) => sync,
        };
        let jetstream = match sync {
            Sync::Default => String::new(),
            Sync::Always => "sync_interval: always".to_owned(),
        };
        Some(NatsServer::start_with(&NatsOptions { jetstream, ..NatsOptions::default() }))
    }
}

/// The lines of a configuration that have telemetry exported, and the collector that it goes to.
fn telemetry(subject: Subject) -> anyhow::Result<(String, Option<Collector>)> {
    let behaviour = match subject {
        Subject::Traced(Receiver::Refuses) => return Ok((collector::configuration(free_address()?, "grpc"), None)),
        Subject::Traced(Receiver::Hangs) => Behaviour::Hangs,
        Subject::Traced(Receiver::Works) => Behaviour::Works,
        _ => return Ok((String::new(), None)),
    };
    let collector = Collector::start(behaviour);
    Ok((collector.configuration("grpc"), Some(collector)))
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve-constant", address] => bare::constant(address.parse()?),
        ["serve-journal", address, folder] => bare::journal(address.parse()?, Path::new(folder)),
        ["serve-nats", address, url] => bare::nats(address.parse()?, url),
        ["serve-event", address, url] => bare::event(address.parse()?, url),
        ["start"] => start::measure(30),
        // For a profiler to look at.
        ["alone", subject, seconds] => alone(subject, Duration::from_secs(seconds.parse()?)),
        [] => compare(&[ON_THE_JOURNAL, ON_NATS], 5, Duration::from_secs(4)),
        [rounds, seconds] => {
            compare(&[ON_THE_JOURNAL, ON_NATS], rounds.parse()?, Duration::from_secs(seconds.parse()?))
        }
        ["journal", rounds, seconds] => {
            compare(&[ON_THE_JOURNAL], rounds.parse()?, Duration::from_secs(seconds.parse()?))
        }
        ["telemetry", rounds, seconds] => {
            compare(&[WITH_TELEMETRY], rounds.parse()?, Duration::from_secs(seconds.parse()?))
        }
        ["nats", rounds, seconds] => compare(&[ON_NATS], rounds.parse()?, Duration::from_secs(seconds.parse()?)),
        _ => bail!(
            "usage: bench [[journal|nats|telemetry] ROUNDS SECONDS] (5 rounds of 4 seconds each), or: bench alone a|b|c|d|e|f SECONDS"
        ),
    }
}

/// Loads one subject alone.
fn alone(subject: &str, duration: Duration) -> anyhow::Result<()> {
    let subjects = [ON_THE_JOURNAL.subjects, &ON_NATS.subjects[..3]].concat();
    let named = |candidate: &&Subject| candidate.name().starts_with(&format!("({subject})"));
    let subject = *subjects.iter().find(named).with_context(|| format!("there is no ({subject})"))?;
    let folder = upcall_tests::executable::path().with_file_name("bench-data");
    let corpus = Corpus::load(&folder, CALLBACKS)?;
    let data = tempfile::tempdir_in(&folder)?;
    let nats = subject.nats();
    let server = start(subject, data.path(), &corpus, nats.as_ref(), "")?;
    let load = Load { target: server.address, connections: CONNECTIONS, close: false, duration };
    let idle = server.usage().cpu_seconds()?;
    let outcome = load::run(load, &corpus.requests(false))?;
    let cpu = (server.usage().cpu_seconds()? - idle) * 1e6 / outcome.answers() as f64;
    println!("{}: {:.0} answers/s, {cpu:.1} µs, {} failures", subject.name(), outcome.rate, outcome.failures);
    Ok(())
}

fn compare(comparisons: &[Comparison], rounds: usize, duration: Duration) -> anyhow::Result<()> {
    let upcall = upcall_tests::executable::path();
    let folder = upcall.with_file_name("bench-data");
    let corpus = Corpus::load(&folder, CALLBACKS)?;
    for comparison in comparisons {
        for close in [false, true] {
            if close && !comparison.close {
                continue;
            }
            let requests = corpus.requests(close);
            let mut report = Report::new(comparison.subjects.iter().map(|subject| subject.name()).collect());
            for round in 0..rounds {
                let mut figures = Vec::new();
                for at in order(comparison.subjects.len(), round) {
                    let subject = &comparison.subjects[at];
                    let data = tempfile::tempdir_in(&folder)?;
                    let nats = subject.nats();
                    let (telemetry, collector) = telemetry(*subject)?;
                    let server = start(*subject, data.path(), &corpus, nats.as_ref(), &telemetry)?;
                    let load = Load { target: server.address, connections: CONNECTIONS, close, duration };
                    let nats_usage = nats.as_ref().and_then(|nats| Some(Usage::of(&nats.process_id()?.to_string())));
                    let nats_cpu = || nats_usage.as_ref().map(Usage::cpu_seconds).transpose();
                    let (idle, nats_idle) = (server.usage().cpu_seconds()?, nats_cpu()?);
                    let outcome = load::run(load, &requests)?;
                    if outcome.failures > 0 {
                        bail!("{}: {} callbacks failed", subject.name(), outcome.failures);
                    }
                    let used = server.usage().cpu_seconds()? - idle;
                    let nats_used = nats_cpu()?.zip(nats_idle).map(|(now, idle)| now - idle);
                    if let Some(nats) = &nats {
                        let stored = nats.monitor("/jsz").and_then(|jsz| jsz["messages"].as_u64()).unwrap_or_default();
                        eprintln!("{}: {stored} of {} are in the stream", subject.name(), outcome.answers());
                    }
                    if let Some(collector) = &collector {
                        let spans = collector.kept().spans.len();
                        eprintln!("{}: {spans} spans of {} callbacks", subject.name(), outcome.answers());
                    }
                    figures.push((at, Figures::new(&outcome, used, nats_used, server.usage().peak_memory_mb()?)));
                }
                eprintln!("round {} of {rounds} is done", round + 1);
                figures.sort_unstable_by_key(|(at, _)| *at);
                report.add(figures.into_iter().map(|(_, figures)| figures).collect());
            }
            let kind = if close { "a new connection for each callback, as OSS has it" } else { "kept connections" };
            println!(
                "\n{CONNECTIONS} connections, {kind}; {rounds} rounds of {} s, medians (minimum–maximum)\n",
                duration.as_secs()
            );
            report.print(comparison.ratios);
            if comparison.p99 {
                report.print_p99(comparison.ratios);
            }
        }
    }
    Ok(())
}

/// The order of a round. Each begins with another subject, and every second one goes backwards: what a run leaves to the
/// next, such as writes to the disk, comes to all alike.
fn order(subjects: usize, round: usize) -> Vec<usize> {
    let turned = (0..subjects).map(|at| (at + round / 2) % subjects);
    if round.is_multiple_of(2) { turned.collect() } else { turned.rev().collect() }
}

fn start(
    subject: Subject,
    folder: &Path,
    corpus: &Corpus,
    nats: Option<&NatsServer>,
    telemetry: &str,
) -> anyhow::Result<Server> {
    let address = free_address()?;
    let url = nats.map(NatsServer::url).unwrap_or_default();
    let bus = match subject {
        Subject::Constant => return bare(&["serve-constant", &address.to_string()], address),
        Subject::Journal => {
            let folder = folder.to_str().context("the folder's name is text")?;
            return bare(&["serve-journal", &address.to_string(), folder], address);
        }
        Subject::Nats(_) => return bare(&["serve-nats", &address.to_string(), &url], address),
        Subject::Event => return bare(&["serve-event", &address.to_string(), &url], address),
        Subject::Gateway | Subject::Again | Subject::Traced(_) => "journal = \".\"".to_owned(),
        Subject::Broker(_) => format!("nats = {{ url = \"{url}\" }}"),
        Subject::Relay(_) => format!("journal = \".\"\nnats = {{ url = \"{url}\", ack = \"journal\" }}"),
    };
    let file = configuration(address, folder, corpus, &bus, telemetry)?;
    let mut command = Command::new(upcall_tests::executable::path());
    let server = Server::start(command.args(["serve", "-c"]).arg(file), address)?;
    if let Some(nats) = nats {
        wait_for_streams(nats)?;
    }
    Ok(server)
}

/// One of the servers in this program.
fn bare(arguments: &[&str], address: SocketAddr) -> anyhow::Result<Server> {
    Server::start(Command::new(std::env::current_exe()?).args(arguments), address)
}

/// Waits until a gateway has made its streams, and looked at them.
fn wait_for_streams(nats: &NatsServer) -> anyhow::Result<()> {
    let begin = Instant::now();
    while nats.monitor("/jsz").and_then(|jsz| jsz["streams"].as_u64()) < Some(STREAMS) {
        if begin.elapsed() > STREAMS_TIME {
            bail!("the gateway makes no streams");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn configuration(
    address: SocketAddr,
    folder: &Path,
    corpus: &Corpus,
    bus: &str,
    telemetry: &str,
) -> anyhow::Result<PathBuf> {
    let file = folder.join("upcall.toml");
    let text = format!(
        "[gateway]\nlisten = \"{address}\"\nadmin = \"127.0.0.1:0\"\n[bus]\n{bus}\n[log]\nfilter = \"warn\"\n\
         [[keys.trusted]]\nurl = \"{KEY_URL}\"\npem = '''\n{}'''\n[[route]]\nname = \"bench\"\npath = \"{PATH}\"\n{telemetry}",
        corpus.public_key_pem
    );
    std::fs::write(&file, text).context("the configuration is written")?;
    Ok(file)
}
