//! `upcall check`: reads a configuration and reports every mistake.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use upcall_telemetry::error_chain;

use crate::config::Config;
use crate::terminal::printable_lines;

/// Check a configuration file, and report every mistake at once
///
/// Nothing is started, bound or written. The exit status is 0 if `upcall serve` would take the file, and 1 if not. A remark
/// is about this machine, such as that a consumer's program is not on it.
///
/// Example: upcall check -c upcall.toml
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match Config::load(&arguments.config) {
        Ok(config) => {
            println!("{}: valid. {}", arguments.config.display(), config.summary());
            for remark in config.remarks() {
                println!("  remark: {}", printable_lines(&remark));
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("{}", printable_lines(&error_chain(&error)));
            Ok(ExitCode::FAILURE)
        }
    }
}
