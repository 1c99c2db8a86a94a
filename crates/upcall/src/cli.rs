//! The command line: which commands there are, and what their help says.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::command::{check, dead, dev, doctor, health, journal, provision, quarantine, replay, serve, sign, tail};
use crate::terminal::complain;

/// Turns OSS upload callbacks into events that applications can trust.
///
/// When a file has been uploaded to Alibaba Cloud OSS, OSS can call your server and relay its JSON answer to the
/// uploader. Upcall is that server: it authenticates the callback, makes it durable as an event, answers, and hands
/// the event to your consumers.
///
/// New here? Run `upcall dev` and upload a file as it says.
#[derive(Parser)]
#[command(
    name = "upcall",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Dev(dev::Arguments),
    Serve(serve::Arguments),
    Check(check::Arguments),
    Doctor(doctor::Arguments),
    Health(health::Arguments),
    Provision(provision::Arguments),
    Tail(tail::Arguments),
    Dead(dead::Arguments),
    Replay(replay::Arguments),
    Quarantine(quarantine::Arguments),
    Journal(journal::Arguments),
    Sign(sign::Arguments),
}

/// Parses the command line, runs the command, and reports its failure.
pub(crate) fn run() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Dev(arguments) => dev::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Health(arguments) => health::run(&arguments),
        Command::Provision(arguments) => provision::run(&arguments),
        Command::Tail(arguments) => tail::run(&arguments),
        Command::Dead(arguments) => dead::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Quarantine(arguments) => quarantine::run(&arguments),
        Command::Journal(arguments) => journal::run(&arguments),
        Command::Sign(arguments) => sign::run(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Arguments::command().debug_assert();
    }
}
