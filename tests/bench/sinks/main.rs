//! Consumers beside the least that could do their work: events per second from a journal into a database or to a
//! webhook, and the same events by a plain loop.
//!
//! `cargo run --release -p upcall-tests --bin bench-sinks` builds everything, fills a journal once, and for each target
//! and round has the built `upcall` consume all of it, and a loop in a process of its own write the same. The two of one
//! round are compared, so that a noisy machine disturbs both alike.

#![allow(clippy::print_stdout, reason = "printing is its purpose")]

mod consume;
mod events;
mod insert;
mod own;
mod post;
#[path = "../server.rs"]
mod server;
#[path = "../spread.rs"]
mod spread;
mod steady;
mod target;
#[path = "../usage.rs"]
mod usage;

use std::process::Command;

use anyhow::{Context, bail};
use mimalloc::MiMalloc;
use tempfile::TempDir;

use spread::Spread;
use target::{Kind, Target};

/// The same as the executable's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const HELP: &str = "\
Measures how many events a second consumers take, beside a plain loop that does the same.

  cargo run --release -p upcall-tests --bin bench-sinks -- [ROUNDS [EVENTS [TARGET...]]]

  ROUNDS   how often each is measured (5)
  EVENTS   how many events each time (100000)
  TARGET   sqlite, postgres, mariadb, webhook (all)

Or whether a long backlog is consumed at a steady rate, in memory that does not grow:

  cargo run --release -p upcall-tests --bin bench-sinks -- backlog TARGET BUS EVENTS

  BUS      journal, nats
";

/// What one run came to.
#[derive(Debug, Clone, Copy)]
struct Run {
    rate: f64,
    cpu_us: f64,
    memory_mb: f64,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        ["write", url, table, events] => insert::run(url, table, events.parse()?),
        ["post", url, events] => post::run(url, events.parse()?),
        ["receive", address] => post::receive(address.parse()?),
        ["backlog", target, bus, events] => {
            steady::run(target.parse()?, bus.parse()?, events.parse()?, folder()?.path())
        }
        arguments => {
            let number = |at: usize, default: usize| arguments.get(at).map_or(Ok(default), |text| text.parse());
            let (rounds, events) = (number(0, 5)?, number(1, 100_000)?);
            let kinds: Vec<Kind> = arguments.iter().skip(2).map(|name| name.parse()).collect::<anyhow::Result<_>>()?;
            compare(rounds, events, if kinds.is_empty() { &Kind::ALL } else { &kinds })
        }
    }
}

fn compare(rounds: usize, events: usize, kinds: &[Kind]) -> anyhow::Result<()> {
    let folder = folder()?;
    eprintln!("filling a journal with {events} events");
    events::fill_journal(folder.path(), events)?;
    let bus = format!("journal = \"{}\"", events::JOURNAL);
    println!("{events} events a run, {rounds} rounds, medians (minimum–maximum)\n");
    println!(
        "| target | upcall, events/s | plain loop, events/s | ratio | upcall, CPU µs/event | plain loop | upcall, peak memory MB | plain loop |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for kind in kinds {
        let target = Target::start(*kind, folder.path())?;
        let consume = |round| {
            consume::run(&target, &bus, folder.path(), round, events)
                .with_context(|| format!("upcall consumes into {kind}"))
        };
        let plain = |round| plain(&target, round, events).with_context(|| format!("a plain loop writes to {kind}"));
        // Not counted: what is done once, such as files that grow, is done then. Its table is what the loop's are made like.
        consume(target::WARM_UP)?;
        plain(target::WARM_UP)?;
        let mut runs = Vec::new();
        for round in target::WARM_UP + 1..=rounds {
            // What one leaves to the other, such as writes to the disk, falls on both in turn.
            let (upcall, plain) = if round.is_multiple_of(2) {
                let plain = plain(round)?;
                (consume(round)?, plain)
            } else {
                (consume(round)?, plain(round)?)
            };
            eprintln!("{kind}, round {round} of {rounds}: {:.0} and {:.0} events/s", upcall.rate, plain.rate);
            runs.push((upcall, plain));
            target.clear(round)?;
        }
        let spread = |digits, pick: fn(&(Run, Run)) -> f64| Spread::of(runs.iter().map(pick)).to_string(digits);
        println!(
            "| {kind} | {} | {} | {} | {} | {} | {} | {} |",
            spread(0, |run| run.0.rate),
            spread(0, |run| run.1.rate),
            Spread::of(runs.iter().map(|run| run.0.rate / run.1.rate)).to_sure_string(3),
            spread(1, |run| run.0.cpu_us),
            spread(1, |run| run.1.cpu_us),
            spread(1, |run| run.0.memory_mb),
            spread(1, |run| run.1.memory_mb),
        );
    }
    Ok(())
}

/// A folder on the disk that this program is on, since `/tmp` may be in memory.
fn folder() -> anyhow::Result<TempDir> {
    let folder = std::env::current_exe()?.with_file_name("bench-data");
    std::fs::create_dir_all(&folder)?;
    Ok(tempfile::tempdir_in(&folder)?)
}

/// Has a process of its own do the work in the plainest way; it prints its figures.
fn plain(target: &Target, round: usize, events: usize) -> anyhow::Result<Run> {
    let output = Command::new(std::env::current_exe()?).args(target.plain(round)?).arg(events.to_string()).output()?;
    if !output.status.success() {
        bail!("it ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let figures: Vec<f64> =
        str::from_utf8(&output.stdout)?.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [rate, cpu_us, memory_mb] = figures[..] else { bail!("it printed {figures:?}") };
    Ok(Run { rate, cpu_us, memory_mb })
}
