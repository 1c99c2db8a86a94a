//! A rolling restart: gateways on NATS behind nginx, restarted one after the other under load.

mod fleet;
mod load;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::executable;
use fleet::Fleet;

pub use fleet::is_missing;

/// What is done.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Callbacks a second.
    pub per_second: u32,
    /// For how long.
    pub duration: Duration,
    /// How many restarts, evenly spread.
    pub restarts: u32,
    /// Whether one of the gateways hangs for the second third of the time.
    pub hangs: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Findings {
    /// How many callbacks were sent.
    pub sent: usize,
    /// What became of those that were not answered 200 within OSS's patience.
    pub failed: Vec<String>,
    /// How many restarts there were while callbacks were sent.
    pub restarts: u32,
    /// Answered uploads of which there is no event.
    pub lost: usize,
    /// Events of an upload that has one already.
    pub doubled: usize,
    /// How many were answered after a second only, or not at all.
    pub slow: usize,
    /// The latency that this share of the answers stayed within.
    pub median: Duration,
    /// As well.
    pub p99: Duration,
    /// The longest.
    pub longest: Duration,
}

/// Carries a plan out.
///
/// # Panics
/// If a process does not start or end as it should.
pub fn run(plan: Plan) -> Findings {
    let mut fleet = Fleet::start();
    let load = load::Load::start(&fleet, plan);
    let (begin, pause) = (Instant::now(), plan.duration / (plan.restarts + 1));
    let mut restarts = 0;
    if plan.hangs {
        std::thread::sleep(plan.duration / 3);
        fleet.hang(0);
        std::thread::sleep(plan.duration / 3);
        fleet.go_on(0);
    }
    for restart in 1..=plan.restarts {
        std::thread::sleep((pause * restart).saturating_sub(begin.elapsed()));
        fleet.restart(restart as usize);
        restarts += u32::from(begin.elapsed() < plan.duration);
    }
    let answers = load.end();
    let events = objects(&fleet);
    let distinct: BTreeSet<&String> = events.iter().collect();
    let lost = answers.iter().filter(|answer| answer.failure.is_none() && !distinct.contains(&answer.object)).count();
    let mut times: Vec<Duration> = answers.iter().map(|answer| answer.took).collect();
    times.sort_unstable();
    let within =
        |percent: usize| times.get((times.len() * percent / 100).min(times.len() - 1)).copied().unwrap_or_default();
    Findings {
        sent: answers.len(),
        restarts,
        lost,
        slow: times.iter().filter(|time| **time >= Duration::from_secs(1)).count(),
        doubled: events.len() - distinct.len(),
        median: within(50),
        p99: within(99),
        longest: within(100),
        failed: answers.into_iter().filter_map(|answer| answer.failure).collect(),
    }
}

/// The objects of the events on the bus, each as often as there are events of it.
fn objects(fleet: &Fleet) -> Vec<String> {
    let output = Command::new(executable::path())
        .args(["tail", "-n", "1000000", "--no-follow", "--json", "-c"])
        .arg(fleet.configuration(0))
        .output()
        .expect("the executable starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("events are text");
    let object = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).expect("an event is JSON");
        event["data"]["object"].as_str().expect("an event has an object").to_owned()
    };
    lines.lines().map(object).collect()
}
