//! What a process has used, by proc(5).

use std::path::{Path, PathBuf};

use anyhow::Context;

/// Clock ticks per second in proc(5); the kernel's interface has had this value on every architecture for decades.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process's folder in proc.
pub(crate) struct Usage(PathBuf);

impl Usage {
    /// Of a process, by its id or `self`.
    pub(crate) fn of(process: &str) -> Self {
        Self(Path::new("/proc").join(process))
    }

    /// The most memory that the process has had resident so far, in MB. Source: `VmHWM` of proc(5).
    pub(crate) fn peak_memory_mb(&self) -> anyhow::Result<f64> {
        self.status_mb("VmHWM:")
    }

    /// A size in proc(5)'s `status`, in MB.
    pub(crate) fn status_mb(&self, name: &str) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(self.0.join("status"))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name} in proc"))?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024.0 / 1e6)
    }

    /// The processor time that the process has used so far, in seconds. Source: `utime` and `stime` of proc(5).
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(self.0.join("stat"))?;
        // The name in parentheses may hold spaces; behind it, `utime` is the 12th field and `stime` the 13th.
        let fields = stat.rsplit_once(')').context("no name in proc")?.1.split_whitespace();
        let ticks: Vec<f64> = fields.skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
    }
}
