//! An Upcall that is started, killed, halted and started again.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};

use crate::conservation::Books;
use crate::executable::PATIENCE;
use crate::http::get;

const POLL: Duration = Duration::from_millis(5);

/// `upcall serve` with one configuration, through all of its lives. It is killed when this is dropped.
pub struct Process {
    name: String,
    executable: PathBuf,
    config: PathBuf,
    log: PathBuf,
    life: Mutex<Option<Life>>,
}

struct Life {
    child: Child,
    callbacks: SocketAddr,
    admin: SocketAddr,
}

impl Process {
    /// Starts it for the first time. What it logs goes to a file beside its configuration.
    ///
    /// # Errors
    /// If it does not say in time where it listens.
    pub fn start_new(name: &str, executable: &Path, config: PathBuf) -> anyhow::Result<Self> {
        let log = config.with_file_name("log");
        let process =
            Self { name: name.to_owned(), executable: executable.to_owned(), config, log, life: Mutex::new(None) };
        process.start()?;
        Ok(process)
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts it, if it does not run, and waits until it says where it listens.
    ///
    /// # Errors
    /// If it does not in time.
    pub fn start(&self) -> anyhow::Result<()> {
        if self.lock().is_some() {
            return Ok(());
        }
        let log = File::options().append(true).create(true).open(&self.log)?;
        let said_before = log.metadata()?.len();
        let mut child = Command::new(&self.executable)
            .arg("serve")
            .arg("-c")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} does not start", self.executable.display()))?;
        let end = Instant::now() + PATIENCE;
        loop {
            let said = self.said_since(said_before);
            if let (Some(callbacks), Some(admin)) = (address(&said, "callbacks="), address(&said, "admin=")) {
                *self.lock() = Some(Life { child, callbacks, admin });
                return Ok(());
            }
            if let Some(status) = child.try_wait()? {
                bail!("{} ended with {status}:\n{}", self.name, self.said_since(said_before));
            }
            if Instant::now() > end {
                child.kill()?;
                child.wait()?;
                bail!("{} does not say where it listens:\n{said}", self.name);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Where it takes callbacks, while it runs.
    pub fn callbacks(&self) -> Option<SocketAddr> {
        self.lock().as_ref().map(|life| life.callbacks)
    }

    /// Where it answers operators, while it runs.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.lock().as_ref().map(|life| life.admin)
    }

    /// What it is to be compared with at its end. Nothing is known of its journal at the start: its lives are many.
    pub fn books(&self) -> Books {
        Books::default()
    }

    /// The value of a metric without labels, if it runs and answers.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = get(self.admin()?, "/metrics").ok()?.text();
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Kills it at once (SIGKILL), if it runs.
    pub fn kill(&self) {
        if let Some(mut life) = self.lock().take() {
            // It may have ended by itself.
            let _ = life.child.kill();
            let _ = life.child.wait();
        }
    }

    /// Asks it to end (SIGTERM), and waits until it has.
    ///
    /// # Errors
    /// If it does not in time, or does not run, or reports a failure.
    pub fn terminate(&self) -> anyhow::Result<()> {
        if let Some(admin) = self.admin() {
            self.books().check(admin).map_err(|wrong| anyhow!("{}: {wrong}", self.name))?;
        }
        self.signal("-TERM")?;
        let Some(mut life) = self.lock().take() else { bail!("{} does not run", self.name) };
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = life.child.try_wait()? {
                ensure!(status.success(), "{} was asked to end, and ended with {status}:\n{}", self.name, self.tail());
                return Ok(());
            }
            if Instant::now() > end {
                life.child.kill()?;
                life.child.wait()?;
                bail!("{} was asked to end, and does not:\n{}", self.name, self.tail());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Halts it (SIGSTOP): connections stay, nothing answers.
    ///
    /// # Errors
    /// If it does not run.
    pub fn halt(&self) -> anyhow::Result<()> {
        self.signal("-STOP")
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// If it does not run.
    pub fn go_on(&self) -> anyhow::Result<()> {
        self.signal("-CONT")
    }

    /// Tells with what it ended, if it did by itself.
    pub fn has_failed(&self) -> Option<String> {
        let status = self.lock().as_mut()?.child.try_wait().ok()??;
        Some(format!("{} ended by itself with {status}:\n{}", self.name, self.tail()))
    }

    /// The last lines that it logged.
    pub fn tail(&self) -> String {
        let text = String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn said_since(&self, offset: u64) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        String::from_utf8_lossy(&bytes[offset..]).into_owned()
    }

    fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let life = self.lock();
        let Some(life) = life.as_ref() else { bail!("{} does not run", self.name) };
        let sent = Command::new("kill").args([signal, &life.child.id().to_string()]).status()?;
        ensure!(sent.success(), "{} is gone:\n{}", self.name, self.tail());
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Life>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The address that a line names so. The last line may be half written.
fn address(said: &str, name: &str) -> Option<SocketAddr> {
    let (said, _) = said.rsplit_once('\n')?;
    let line = said.lines().find(|line| line.contains("callbacks=") && line.contains("admin="))?;
    line.split(name).nth(1)?.split_whitespace().next()?.trim_matches('"').parse().ok()
}
