//! A server in a process of its own, so that its memory and its time are its own.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// How long a server may take to accept connections.
const START_MAX: Duration = Duration::from_secs(10);

/// A running server; it ends when this is dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts a server and waits until it accepts connections.
    pub(crate) fn start(command: &mut Command, address: SocketAddr) -> anyhow::Result<Self> {
        let child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn();
        let mut server = Self { child: child.with_context(|| format!("{command:?} does not start"))?, address };
        let begin = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("{command:?} ended with {status}");
            }
            if begin.elapsed() > START_MAX {
                bail!("{command:?} does not listen on {address}");
            }
            std::thread::yield_now();
        }
        Ok(server)
    }

    /// The most memory that the process has had resident so far, in MB. Source: `VmHWM` of proc(5).
    pub(crate) fn peak_memory_mb(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(Path::new("/proc").join(self.child.id().to_string()).join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in proc")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024.0 / 1e6)
    }
}

/// Clock ticks per second in proc(5); the kernel's interface has had this value on every architecture for decades.
const TICKS_PER_SECOND: f64 = 100.0;

impl Server {
    /// The processor time that the process has used so far, in seconds. Source: `utime` and `stime` of proc(5).
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(Path::new("/proc").join(self.child.id().to_string()).join("stat"))?;
        // The name in parentheses may hold spaces; behind it, `utime` is the 12th field and `stime` the 13th.
        let fields = stat.rsplit_once(')').context("no name in proc")?.1.split_whitespace();
        let ticks: Vec<f64> = fields.skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended by itself; either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
