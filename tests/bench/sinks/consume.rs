//! The built executable at work on the backlog.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use upcall_tests::http;

use crate::Run;
use crate::backlog::JOURNAL;
use crate::server::Server;
use crate::target::Target;

/// How long it may take over the backlog.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often it is asked how far it is.
const INTERVAL: Duration = Duration::from_millis(10);

/// Has a consumer of a new name take the whole backlog.
pub(crate) fn run(target: &Target, folder: &Path, round: usize, events: usize) -> anyhow::Result<Run> {
    let admin = free_address()?;
    let name = format!("{}-{round}", target.kind());
    let file = folder.join("upcall.toml");
    let text = format!(
        "[gateway]\nlisten = \"127.0.0.1:0\"\nadmin = \"{admin}\"\n[bus]\njournal = \"{JOURNAL}\"\n[log]\nfilter = \"warn\"\n\
         [[route]]\nname = \"bench\"\npath = \"/oss/bench\"\n[[consumer]]\nname = \"{name}\"\n{}\n",
        target.sink(round)
    );
    std::fs::write(&file, text).context("the configuration is written")?;
    let server = Server::start(Command::new(upcall_tests::executable::path()).args(["serve", "-c"]).arg(&file), admin)?;
    let idle = server.usage().cpu_seconds()?;
    // The clock starts with the first events that are done: what it takes to start is not what is measured.
    let (first, begin) = wait(admin, &name, 1)?;
    let (last, end) = wait(admin, &name, events)?;
    let rate = (last - first) as f64 / (end - begin).as_secs_f64();
    let cpu_us = (server.usage().cpu_seconds()? - idle) * 1e6 / events as f64;
    let run = Run { rate, cpu_us, memory_mb: server.usage().peak_memory_mb()? };
    target.check(round, events)?;
    Ok(run)
}

/// Waits until so many events are done, and tells how many are, and when that was.
fn wait(admin: SocketAddr, consumer: &str, events: usize) -> anyhow::Result<(usize, Instant)> {
    let begin = Instant::now();
    loop {
        let metrics = http::get(admin, "/metrics")?.text();
        let done = settled(&metrics, consumer, "done");
        if done >= events {
            return Ok((done, Instant::now()));
        }
        if settled(&metrics, consumer, "dead") > 0 || begin.elapsed() > PATIENCE {
            bail!("{done} of {events} events are done:\n{metrics}");
        }
        std::thread::sleep(INTERVAL);
    }
}

/// How many events of a consumer were settled in one way.
fn settled(metrics: &str, consumer: &str, outcome: &str) -> usize {
    let consumer = format!("consumer=\"{consumer}\"");
    let outcome = format!("outcome=\"{outcome}\"");
    let of = |line: &&str| {
        line.starts_with("upcall_consumer_deliveries_total{") && line.contains(&consumer) && line.contains(&outcome)
    };
    metrics.lines().find(of).and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
}

/// An address that nobody listens on at the moment.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
