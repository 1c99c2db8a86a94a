//! Real SQL servers, PostgreSQL and MariaDB, on free ports of this machine.

mod engine;

use std::fs::Permissions;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub use engine::{Engine, SqlOptions};

use crate::executable::PATIENCE;

/// How often a server may find its free port taken after all.
const STARTS_MAX: u32 = 10;
const POLL: Duration = Duration::from_millis(20);
/// The user that has no rights: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65_534;

/// An SQL server in a process of its own, with a data folder of its own. It is stopped when this is dropped.
pub struct SqlServer {
    engine: Engine,
    program: PathBuf,
    folder: TempDir,
    address: SocketAddr,
    arguments: Vec<String>,
    process: Mutex<Option<Child>>,
}

impl SqlServer {
    /// Starts a server, and waits until it answers.
    ///
    /// # Panics
    /// If it does not within [`PATIENCE`].
    pub fn start(engine: Engine) -> Self {
        Self::start_with(engine, &SqlOptions::default())
    }

    /// Starts a server that differs from that.
    ///
    /// # Panics
    /// As [`SqlServer::start`].
    pub fn start_with(engine: Engine, options: &SqlOptions) -> Self {
        for _ in 0..STARTS_MAX {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
            let server = Self {
                engine,
                program: engine.program().expect("is_missing tells beforehand"),
                folder: tempfile::tempdir().expect("there is room for a folder"),
                address: listener.local_addr().expect("it is bound"),
                arguments: options.arguments.clone(),
                process: Mutex::default(),
            };
            server.make_data();
            options.files.iter().for_each(|(name, text)| server.write(name, text));
            drop(listener);
            server.launch();
            if server.is_ready_in_time() {
                return server;
            }
        }
        panic!("{engine:?} found its port taken {STARTS_MAX} times");
    }

    /// The server that tests share that run at the same time; it is stopped with the last of them.
    pub fn shared(engine: Engine) -> Arc<Self> {
        static POSTGRES: Mutex<Weak<SqlServer>> = Mutex::new(Weak::new());
        static MARIADB: Mutex<Weak<SqlServer>> = Mutex::new(Weak::new());
        let shared = match engine {
            Engine::Postgres => &POSTGRES,
            Engine::MariaDb => &MARIADB,
        };
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start(engine));
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// Where it listens, such as for a proxy in front of it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!("{}@{}/{database}", self.engine.scheme(), self.address)
    }

    /// The URL of the database that is always there.
    pub fn admin_url(&self) -> String {
        self.url(match self.engine {
            Engine::Postgres => "postgres",
            Engine::MariaDb => "mysql",
        })
    }

    /// Kills the server at once (SIGKILL), if it runs.
    pub fn kill(&self) {
        if let Some(mut child) = self.process().take() {
            child.kill().expect("it is ours to kill");
            child.wait().expect("it is ours to wait for");
        }
    }

    /// Starts a killed server again, and waits until it answers.
    ///
    /// # Panics
    /// If it does not within [`PATIENCE`].
    pub fn restart(&self) {
        self.kill();
        let end = Instant::now() + PATIENCE;
        // What is left of a killed PostgreSQL keeps the next from starting for a moment.
        loop {
            self.launch();
            if self.is_ready_in_time() {
                return;
            }
            assert!(Instant::now() < end, "{:?} does not start again:\n{}", self.engine, self.log());
            std::thread::sleep(POLL);
        }
    }

    /// Has a PostgreSQL server start again as a standby, which takes no writes, or as a primary.
    pub fn restart_as_standby(&self, standby: bool) {
        self.kill();
        let signal = self.data().join("standby.signal");
        if standby {
            self.write("standby.signal", "");
        } else {
            std::fs::remove_file(signal).expect("it was there");
        }
        self.restart();
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn make_data(&self) {
        let folder = self.folder.path();
        let mut make = match self.engine {
            Engine::Postgres => {
                if is_root() {
                    std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY)).expect("root may");
                }
                let mut make = self.as_nobody(&self.program.with_file_name("initdb"));
                make.args(["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"]);
                make.arg("-D").arg(self.data());
                make
            }
            Engine::MariaDb => {
                let mut make = Command::new("mariadb-install-db");
                make.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
                make.arg(format!("--datadir={}", self.data().display()));
                if is_root() {
                    make.arg("--user=root");
                }
                make
            }
        };
        let made = make.current_dir(folder).stdin(Stdio::null()).output().expect("it is installed");
        assert!(made.status.success(), "{make:?}: {}", String::from_utf8_lossy(&made.stderr));
    }

    /// Writes a file into the data folder, for the server alone: PostgreSQL takes no other for a key.
    fn write(&self, name: &str, text: &str) {
        let path = self.data().join(name);
        std::fs::write(&path, text).expect("its folder is writable");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
        if self.engine == Engine::Postgres && is_root() {
            std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).expect("root may");
        }
    }

    fn launch(&self) {
        let (folder, port) = (self.folder.path(), self.address.port());
        let log = std::fs::File::options().append(true).create(true).open(folder.join("log"));
        let log = log.expect("its folder is writable");
        let mut command = match self.engine {
            Engine::Postgres => {
                let mut command = self.as_nobody(&self.program);
                command.arg("-D").arg(self.data()).arg("-k").arg(folder);
                // A killed process loses nothing of what the system has; only a power cut would.
                command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-c", "fsync=off"]);
                command
            }
            Engine::MariaDb => {
                let mut command = Command::new(&self.program);
                command.args(["--no-defaults", "--bind-address=127.0.0.1", "--innodb-buffer-pool-size=64M"]);
                command.arg(format!("--datadir={}", self.data().display())).arg(format!("--port={port}"));
                command.arg(format!("--socket={}", folder.join("socket").display()));
                command.arg(format!("--pid-file={}", folder.join("pid").display()));
                if is_root() {
                    command.arg("--user=root");
                }
                command
            }
        };
        let command = command.args(&self.arguments).current_dir(folder).stdin(Stdio::null());
        let command = command.stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        *self.process() = Some(command.spawn().expect("the server starts"));
    }

    /// Waits until the server answers; false if it ended instead.
    fn is_ready_in_time(&self) -> bool {
        let end = Instant::now() + PATIENCE;
        while !self.answers() {
            let ended = self.process().as_mut().is_none_or(|child| child.try_wait().expect("it is ours").is_some());
            if ended {
                return false;
            }
            assert!(Instant::now() < end, "{:?} is not ready in time:\n{}", self.engine, self.log());
            std::thread::sleep(POLL);
        }
        true
    }

    fn answers(&self) -> bool {
        let port = self.address.port().to_string();
        let mut ask = match self.engine {
            Engine::Postgres => {
                let mut ask = Command::new(self.program.with_file_name("pg_isready"));
                ask.args(["-q", "-h", "127.0.0.1", "-p", &port]);
                ask
            }
            Engine::MariaDb => {
                let mut ask = Command::new("mariadb-admin");
                ask.args(["--no-defaults", "--user=root", "--host=127.0.0.1", "--port", &port, "--silent", "ping"]);
                ask
            }
        };
        ask.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it comes with the server").success()
    }

    fn as_nobody(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SqlServer {
    fn drop(&mut self) {
        let Some(mut child) = self.process().take() else { return };
        // PostgreSQL's processes end with it, and its shared memory goes. It may have ended by itself.
        let _ = Command::new("kill").args(["-QUIT", &child.id().to_string()]).status();
        if self.engine == Engine::MariaDb {
            let _ = child.kill();
        }
        let _ = child.wait();
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
