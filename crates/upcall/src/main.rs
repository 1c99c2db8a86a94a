//! Upcall: turns OSS upload callbacks into events that applications can trust.

#![allow(rustdoc::bare_urls, reason = "help texts show URLs as they are typed")]

mod answer;
mod bus;
mod cli;
mod command;
mod config;
mod fleet;
mod function;
mod gauges;
mod lag;
mod node;
mod ready;
mod reload;
mod runtime;
mod signals;
mod sink;
mod terminal;
mod whereabouts;
mod words;

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Events are freed on another thread than they are made on; the system's allocator spends a tenth of the time there.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    use_small_pages();
    cli::run()
}

/// Has memory come in small pages. In huge ones, what lies free between events took as much again, and no less time was
/// spent. Programs that a sink starts inherit it.
fn use_small_pages() {
    #[cfg(target_os = "linux")]
    // A kernel without huge pages need not be told.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}
