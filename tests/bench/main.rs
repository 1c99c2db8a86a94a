//! The gateway beside what it costs at least: a bare axum handler, and one that writes the same journal.
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

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

use mimalloc::MiMalloc;

use corpus::{Corpus, KEY_URL, PATH};
use load::Load;
use report::{Figures, Report};
use server::Server;

/// The same as the gateway's: what is compared is the gateway's own work.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const CONNECTIONS: usize = 64;
/// Enough that no run ends before its time on a machine several times as fast as a laptop.
const CALLBACKS: usize = 400_000;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// (a)
    Constant,
    /// (b)
    Journal,
    /// (c)
    Gateway,
}

impl Subject {
    const ALL: [Self; 3] = [Self::Constant, Self::Journal, Self::Gateway];

    fn name(self) -> &'static str {
        match self {
            Self::Constant => "(a) axum, constant answer",
            Self::Journal => "(b) axum, journal",
            Self::Gateway => "(c) gateway",
        }
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve-constant", address] => bare::constant(address.parse()?),
        ["serve-journal", address, folder] => bare::journal(address.parse()?, Path::new(folder)),
        [] => compare(5, Duration::from_secs(4)),
        // For a profiler to look at.
        ["gateway", seconds] => gateway(Duration::from_secs(seconds.parse()?)),
        [rounds, seconds] => compare(rounds.parse()?, Duration::from_secs(seconds.parse()?)),
        _ => bail!("usage: bench [ROUNDS SECONDS] (5 rounds of 4 seconds each), or: bench gateway SECONDS"),
    }
}

/// Loads the gateway alone.
fn gateway(duration: Duration) -> anyhow::Result<()> {
    let folder = upcall_tests::executable::path().with_file_name("bench-data");
    let corpus = Corpus::load(&folder, CALLBACKS)?;
    let data = tempfile::tempdir_in(&folder)?;
    let server = start(Subject::Gateway, data.path(), &corpus)?;
    let load = Load { target: server.address, connections: CONNECTIONS, close: false, duration };
    let outcome = load::run(load, &corpus.requests(false))?;
    println!("{:.0} answers/s, {} failures", outcome.rate, outcome.failures);
    Ok(())
}

fn compare(rounds: usize, duration: Duration) -> anyhow::Result<()> {
    let upcall = upcall_tests::executable::path();
    let folder = upcall.with_file_name("bench-data");
    let corpus = Corpus::load(&folder, CALLBACKS)?;
    for close in [false, true] {
        let requests = corpus.requests(close);
        let mut report = Report::new(Subject::ALL.map(Subject::name).to_vec());
        for round in 0..rounds {
            let mut figures = Vec::new();
            for subject in Subject::ALL {
                let data = tempfile::tempdir_in(&folder)?;
                let server = start(subject, data.path(), &corpus)?;
                let load = Load { target: server.address, connections: CONNECTIONS, close, duration };
                let idle = server.cpu_seconds()?;
                let outcome = load::run(load, &requests)?;
                if outcome.failures > 0 {
                    bail!("{}: {} callbacks failed", subject.name(), outcome.failures);
                }
                figures.push(Figures::new(&outcome, server.cpu_seconds()? - idle, server.peak_memory_mb()?));
            }
            eprintln!("round {} of {rounds} is done", round + 1);
            report.add(figures);
        }
        let kind = if close { "a new connection for each callback, as OSS has it" } else { "kept connections" };
        println!(
            "\n{CONNECTIONS} connections, {kind}; {rounds} rounds of {} s, medians (minimum–maximum)\n",
            duration.as_secs()
        );
        report.print(&[(2, 1), (2, 0), (1, 0)]);
    }
    Ok(())
}

fn start(subject: Subject, folder: &Path, corpus: &Corpus) -> anyhow::Result<Server> {
    let address = free_address()?;
    let myself = std::env::current_exe()?;
    let mut command = match subject {
        Subject::Constant => Command::new(myself),
        Subject::Journal => Command::new(myself),
        Subject::Gateway => Command::new(upcall_tests::executable::path()),
    };
    match subject {
        Subject::Constant => command.args(["serve-constant", &address.to_string()]),
        Subject::Journal => command.args(["serve-journal", &address.to_string()]).arg(folder),
        Subject::Gateway => command.args(["serve", "-c"]).arg(configuration(address, folder, corpus)?),
    };
    Server::start(&mut command, address)
}

fn configuration(address: SocketAddr, folder: &Path, corpus: &Corpus) -> anyhow::Result<PathBuf> {
    let file = folder.join("upcall.toml");
    let text = format!(
        "[gateway]\nlisten = \"{address}\"\nadmin = \"127.0.0.1:0\"\n[bus]\njournal = \".\"\n[log]\nfilter = \"warn\"\n\
         [[keys.trusted]]\nurl = \"{KEY_URL}\"\npem = '''\n{}'''\n[[route]]\nname = \"bench\"\npath = \"{PATH}\"\n",
        corpus.public_key_pem
    );
    std::fs::write(&file, text).context("the configuration is written")?;
    Ok(file)
}

/// An address that nobody listens on at the moment.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
