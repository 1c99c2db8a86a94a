//! A rolling restart under load, at length: `cargo run --release -p upcall-tests --bin rollout`.
//!
//! By default 1,000 callbacks a second for two minutes, and four restarts. Arguments: the rate, the seconds, the restarts.
//! Exits with 1 where a callback failed, an event was lost, or one was doubled.

#![allow(clippy::print_stdout, reason = "printing is its purpose")]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use upcall_tests::rollout::{Findings, Plan, is_missing, run};

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<u32> =
        std::env::args().skip(1).map(|text| text.parse().context("a number is expected")).collect::<Result<_, _>>()?;
    let number = |place: usize, default| arguments.get(place).copied().unwrap_or(default);
    let plan = Plan {
        per_second: number(0, 1000),
        duration: Duration::from_secs(number(1, 120).into()),
        restarts: number(2, 4),
        hangs: false,
    };
    if is_missing("a rolling restart") {
        return Ok(ExitCode::FAILURE);
    }
    let Findings { sent, failed, restarts, lost, doubled, median, p99, longest, .. } = run(plan);
    for failure in failed.iter().take(20) {
        println!("{failure}");
    }
    println!(
        "{sent} callbacks at {} a second, {restarts} restarts: {} failed, {lost} lost, {doubled} doubled; answered within \
         {:.1} ms (median), {:.1} ms (99 %), {:.1} ms (all)",
        plan.per_second,
        failed.len(),
        median.as_secs_f64() * 1000.0,
        p99.as_secs_f64() * 1000.0,
        longest.as_secs_f64() * 1000.0,
    );
    let is_well = failed.is_empty() && lost == 0 && doubled == 0 && restarts == plan.restarts;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
