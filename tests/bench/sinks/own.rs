//! What a loop in this program came to.

use std::time::Instant;

use crate::usage::Usage;

/// When the work began, and what the process had used by then: it had the events to make.
pub(crate) struct Started {
    at: Instant,
    cpu_s: f64,
}

impl Started {
    pub(crate) fn now() -> anyhow::Result<Self> {
        Ok(Self { cpu_s: Usage::of("self").cpu_seconds()?, at: Instant::now() })
    }

    /// Prints the rate, the processor time of an event in µs, and the most memory in MB.
    pub(crate) fn print(self, events: usize) -> anyhow::Result<()> {
        let rate = events as f64 / self.at.elapsed().as_secs_f64();
        let own = Usage::of("self");
        println!("{rate} {} {}", (own.cpu_seconds()? - self.cpu_s) * 1e6 / events as f64, own.peak_memory_mb()?);
        Ok(())
    }
}
