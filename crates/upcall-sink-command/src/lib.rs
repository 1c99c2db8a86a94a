//! The sink that runs a program for each event, for whoever needs what no other sink does.
//!
//! The program gets the event as one line of JSON (a structured CloudEvent) on its standard input. Its exit status is
//! the verdict, and the end of its standard error the reason. No shell is involved, and nothing of the event is on
//! the command line.

mod closing;
mod group;
mod options;
mod program;
mod sink;
mod tail;
mod verdict;

#[cfg(test)]
mod tests;

pub use group::kill_all;
pub use options::Options;
pub use program::Unfit;
pub use sink::CommandSink;
