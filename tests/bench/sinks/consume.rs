//! The built executable at work on events that wait.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use upcall_tests::http;

use crate::Run;
use crate::server::{Server, free_address};
use crate::target::Target;
use crate::usage::Usage;

/// How long it may take over all of them.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often it is asked how far it is: each answer costs processor time that is counted as its own.
const INTERVAL: Duration = Duration::from_millis(50);

/// A process whose only consumer takes what waits.
pub(crate) struct Consumer {
    server: Server,
    name: String,
}

impl Consumer {
    /// Starts it, under a new name: it begins with the first event. `bus` is what stands under `[bus]`.
    pub(crate) fn start(name: String, sink: &str, bus: &str, folder: &Path) -> anyhow::Result<Self> {
        let admin = free_address()?;
        let file = folder.join("upcall.toml");
        let text = format!(
            "[gateway]\nlisten = \"127.0.0.1:0\"\nadmin = \"{admin}\"\n[bus]\n{bus}\n[log]\nfilter = \"warn\"\n\
             [[route]]\nname = \"bench\"\npath = \"/oss/bench\"\n[[consumer]]\nname = \"{name}\"\n{sink}\n"
        );
        std::fs::write(&file, text).context("the configuration is written")?;
        let mut command = Command::new(upcall_tests::executable::path());
        Ok(Self { server: Server::start(command.args(["serve", "-c"]).arg(&file), admin)?, name })
    }

    /// What the process has used so far.
    pub(crate) fn usage(&self) -> Usage {
        self.server.usage()
    }

    /// Waits until so many events are done, and tells how many are, and when that was; and before, when some were.
    pub(crate) fn wait(&self, events: usize) -> anyhow::Result<Waited> {
        let begin = Instant::now();
        let mut before = None;
        loop {
            let metrics = http::get(self.server.address, "/metrics")?.text();
            let done = settled(&metrics, &self.name, "done");
            let seen = (done, Instant::now());
            if done >= events {
                return Ok(Waited { seen, before });
            }
            before = Some(seen).filter(|(done, _)| *done > 0);
            if settled(&metrics, &self.name, "dead") > 0 || begin.elapsed() > PATIENCE {
                bail!("only {done} of {events} events are done:\n{metrics}");
            }
            std::thread::sleep(INTERVAL);
        }
    }
}

/// How many events were done, and when.
pub(crate) struct Waited {
    pub(crate) seen: (usize, Instant),
    /// When it was asked the last time before; none if nothing was done then.
    pub(crate) before: Option<(usize, Instant)>,
}

/// Has a consumer take all that waits.
pub(crate) fn run(target: &Target, bus: &str, folder: &Path, round: usize, events: usize) -> anyhow::Result<Run> {
    let consumer = Consumer::start(format!("{}-{round}", target.kind()), &target.sink(round), bus, folder)?;
    let idle = consumer.usage().cpu_seconds()?;
    // The clock starts with the first events that are done: what it takes to start is not what is measured.
    let (first, begin) = consumer.wait(1)?.seen;
    let all = consumer.wait(events)?;
    // When all were done is not known to the moment, but how many were when it was asked before.
    let (last, end) = all.before.unwrap_or(all.seen);
    let rate = (last - first) as f64 / (end - begin).as_secs_f64();
    let cpu_us = (consumer.usage().cpu_seconds()? - idle) * 1e6 / events as f64;
    let run = Run { rate, cpu_us, memory_mb: consumer.usage().peak_memory_mb()? };
    target.check(round, events)?;
    Ok(run)
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
