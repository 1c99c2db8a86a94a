//! Upcall: turns OSS upload callbacks into events that applications can trust.

mod cli;
mod command;
mod config;
mod gauges;
mod node;
mod runtime;
mod signals;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
