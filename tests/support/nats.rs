//! Real NATS servers: one, or a cluster, on free ports of this machine.

mod cluster;
mod ending;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub use cluster::NatsCluster;

use crate::executable::{PATIENCE, workspace};
use crate::http::exchange;

/// How often a server may find its free port taken after all.
const STARTS_MAX: u32 = 10;
const POLL: Duration = Duration::from_millis(10);

/// Says that NATS tests can't run here, and skips `what`: `if nats::is_missing("the relay") { return; }`.
pub fn is_missing(what: &str) -> bool {
    let missing = executable().is_none();
    if missing {
        crate::skip(&format!("{what}: nats-server is not installed (tests/run installs it)"));
    }
    missing
}

/// The path of nats-server: `UPCALL_TEST_NATS_SERVER`, else where `tests/run` puts it.
fn executable() -> Option<PathBuf> {
    let named = std::env::var_os("UPCALL_TEST_NATS_SERVER").map(PathBuf::from);
    let path = named.unwrap_or_else(|| workspace().join(".cache/python/bin/nats-server"));
    path.is_file().then_some(path)
}

/// How a server differs from a default one.
#[derive(Debug, Clone, Default)]
pub struct NatsOptions {
    /// Lines of configuration, at the top level: accounts, TLS, limits.
    pub config: String,
    /// Lines of configuration inside `jetstream { … }`: `sync_interval: always`.
    pub jetstream: String,
    /// Lines of configuration inside `cluster { … }`, where there is one: `no_advertise: true`.
    pub cluster: String,
    /// Where JetStream stores; without it, a folder that goes with the server.
    pub store_dir: Option<PathBuf>,
}

/// A NATS server with JetStream, in a process of its own. It is killed when this is dropped.
pub struct NatsServer {
    name: String,
    folder: TempDir,
    store_dir: PathBuf,
    client: SocketAddr,
    monitor: SocketAddr,
    clustered: bool,
    process: Mutex<Process>,
}

enum Process {
    Running(Child),
    Gone,
}

impl NatsServer {
    /// Starts a server, and waits until JetStream answers.
    ///
    /// # Panics
    /// If it does not start within [`PATIENCE`].
    pub fn start() -> Self {
        Self::start_with(&NatsOptions::default())
    }

    /// Starts a server that differs from the default.
    ///
    /// # Panics
    /// As [`NatsServer::start`].
    pub fn start_with(options: &NatsOptions) -> Self {
        for _ in 0..STARTS_MAX {
            let server = Self::launch_new(options, &FreePorts::new(2), None);
            if server.wait_until_ready().is_ok() {
                return server;
            }
        }
        panic!("nats-server found its ports taken {STARTS_MAX} times");
    }

    /// The URL for clients.
    pub fn url(&self) -> String {
        format!("nats://{}", self.client)
    }

    /// The address for clients, such as a proxy in front of the server.
    pub fn address(&self) -> SocketAddr {
        self.client
    }

    /// The URL of the monitoring port (`/varz`, `/jsz`, …).
    pub fn monitor_url(&self) -> String {
        format!("http://{}", self.monitor)
    }

    /// The folder that JetStream stores in.
    pub fn store_dir(&self) -> &Path {
        &self.store_dir
    }

    /// The server's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Asks the monitoring port, such as for `/jsz?streams=true`; `None` if it does not answer with 200.
    pub fn monitor(&self, target: &str) -> Option<Value> {
        // Of HTTP/1.0, since it answers 1.1 in chunks.
        let request = format!("GET {target} HTTP/1.0\r\n\r\n");
        let answer = exchange(self.monitor, request.as_bytes()).ok().filter(|answer| answer.status == 200)?;
        Some(answer.json())
    }

    /// The process's id, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        match &*self.process() {
            Process::Running(child) => Some(child.id()),
            _ => None,
        }
    }

    /// Kills the server at once (SIGKILL), if it runs.
    pub fn kill(&self) {
        let mut process = self.process();
        if let Process::Running(child) = &mut *process {
            child.kill().expect("it is ours to kill");
            child.wait().expect("it is ours to wait for");
            *process = Process::Gone;
        }
    }

    /// Halts the server (SIGSTOP): connections stay, nothing answers. Returns when it has come to a halt.
    pub fn stop(&self) {
        let pid = self.signal("-STOP");
        let is_halted = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('T'))
        };
        let end = Instant::now() + PATIENCE;
        while !is_halted() {
            assert!(Instant::now() < end, "nats-server does not halt");
            std::thread::sleep(POLL);
        }
    }

    /// Lets a halted server go on (SIGCONT).
    pub fn cont(&self) {
        self.signal("-CONT");
    }

    /// Kills the server if it runs, starts it with the same ports and store, and waits until JetStream answers.
    ///
    /// # Panics
    /// If it does not within [`PATIENCE`]: in a cluster without a quorum it can't, see [`NatsServer::launch`].
    pub fn restart(&self) {
        self.kill();
        self.launch();
        self.wait_until_ready().unwrap_or_else(|PortTaken| panic!("a port of {} was taken meanwhile", self.name));
    }

    /// Starts a killed server again, without waiting for it.
    ///
    /// # Panics
    /// If it runs.
    pub fn launch(&self) {
        let mut process = self.process();
        assert!(matches!(*process, Process::Gone), "{} runs already", self.name);
        let log = std::fs::File::options().append(true).create(true).open(self.folder.path().join("log"));
        let log = log.expect("its folder is writable");
        let child = Command::new(executable().expect("is_missing tells beforehand"))
            .arg("--config")
            .arg(self.folder.path().join("config"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("nats-server starts");
        *process = Process::Running(child);
    }

    /// Waits until JetStream answers; in a cluster, until it has a leader and is not behind.
    ///
    /// # Errors
    /// If the server ended because one of its ports is taken.
    ///
    /// # Panics
    /// If it is not ready within [`PATIENCE`], or ended for another reason.
    pub fn wait_until_ready(&self) -> Result<(), PortTaken> {
        let end = Instant::now() + PATIENCE;
        while !self.is_ready() {
            if let Process::Running(child) = &mut *self.process()
                && let Some(status) = child.try_wait().expect("it is ours to wait for")
            {
                let log = self.log();
                assert!(log.contains("address already in use"), "{} ended with {status}:\n{log}", self.name);
                return Err(PortTaken);
            }
            assert!(Instant::now() < end, "{} is not ready in time:\n{}", self.name, self.log());
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Tells whether JetStream answers, and this very server does.
    pub fn is_ready(&self) -> bool {
        let is_this = || self.monitor("/varz").is_some_and(|vars| vars["server_name"] == *self.name);
        let has_leader = || {
            let leader = self.monitor("/jsz").map(|jetstream| jetstream["meta_cluster"]["leader"].clone());
            leader.is_some_and(|leader| leader.as_str().is_some_and(|name| !name.is_empty()))
        };
        is_this() && self.monitor("/healthz").is_some() && (!self.clustered || has_leader())
    }

    fn launch_new(options: &NatsOptions, ports: &FreePorts, routes: Option<&str>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let server = Self {
            name: format!("upcall-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)),
            store_dir: options.store_dir.clone().unwrap_or_else(|| folder.path().join("store")),
            client: ports.address(0),
            monitor: ports.address(1),
            clustered: routes.is_some(),
            folder,
            process: Mutex::new(Process::Gone),
        };
        let config = server.config(options, routes.unwrap_or_default());
        std::fs::write(server.folder.path().join("config"), config).expect("its folder is writable");
        ports.release();
        server.launch();
        server
    }

    fn config(&self, options: &NatsOptions, routes: &str) -> String {
        let NatsOptions { config, jetstream, .. } = options;
        let Self { name, client, monitor, store_dir, .. } = self;
        let store_dir = store_dir.display();
        format!(
            "server_name: {name:?}\nlisten: \"{client}\"\nhttp: \"{monitor}\"\n\
             jetstream {{\nstore_dir: \"{store_dir}\"\n{jetstream}\n}}\n{routes}\n{config}\n"
        )
    }

    fn signal(&self, signal: &str) -> u32 {
        let Process::Running(child) = &*self.process() else { panic!("{} does not run", self.name) };
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(sent.expect("kill(1) starts").success());
        child.id()
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if let Process::Running(child) = &mut *self.process() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Another process has a port that was free a moment before.
#[derive(Debug, Clone, Copy)]
pub struct PortTaken;

/// Ports that nobody else has; they are kept until a server is about to take them.
struct FreePorts {
    addresses: Vec<SocketAddr>,
    kept: Mutex<Vec<TcpListener>>,
}

impl FreePorts {
    fn new(count: usize) -> Self {
        let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let kept: Vec<_> = (0..count).map(bind).collect();
        let addresses = kept.iter().map(|listener| listener.local_addr().expect("it is bound")).collect();
        Self { addresses, kept: Mutex::new(kept) }
    }

    fn address(&self, index: usize) -> SocketAddr {
        self.addresses[index]
    }

    fn release(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
