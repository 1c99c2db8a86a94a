//! The built executable, started as a user starts it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long anything may take that a test waits for. Long, so that a busy machine does not fail it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The path of the executable. Builds it first, so that a test never meets an old one, unless `UPCALL_TEST_EXECUTABLE`
/// names one.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Some(named) = std::env::var_os("UPCALL_TEST_EXECUTABLE") {
            return named.into();
        }
        let mut build = Command::new(env!("CARGO"));
        // Of the whole workspace, so that dependencies have the features that they have in its tests: they would else be
        // built twice.
        build.args(["build", "--quiet", "--locked", "--workspace", "--bin", "upcall"]).current_dir(workspace());
        // Cargo tells this test about its package. Told to another cargo, some build scripts (ring's) take it for a change,
        // and half of the dependencies are built anew, here and then by whoever builds next.
        for (name, _) in std::env::vars_os() {
            if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|told| name.to_string_lossy().starts_with(told)) {
                build.env_remove(name);
            }
        }
        // A test lies in `target/PROFILE/deps`, a benchmark in `target/PROFILE`.
        let own = std::env::current_exe().expect("a process has a path");
        let folder = own.parent().expect("an executable lies in a folder");
        let profile =
            if folder.ends_with("deps") { folder.parent().expect("it lies in the profile's") } else { folder };
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo starts").success(), "the executable can't be built");
        profile.join("upcall")
    })
}

/// The root of the checkout.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the workspace")
}

/// A running command whose output is read line by line. It is killed when this is dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    /// Starts the executable with these arguments.
    pub fn start(arguments: &[&str]) -> Self {
        Self::spawn(Command::new(path()).args(arguments))
    }

    /// Starts `upcall dev` with its data in this folder, on free ports.
    pub fn start_dev(data: &Path) -> Self {
        let mut command = Command::new(path());
        command.arg("dev").arg("--data").arg(data);
        for listener in ["--oss", "--listen", "--admin"] {
            command.args([listener, "127.0.0.1:0"]);
        }
        Self::spawn(&mut command)
    }

    /// Starts a command; both of its outputs are read.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let (sender, lines) = channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("it is piped")), Box::new(child.stderr.take().expect("it is piped"))];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    // Nobody listens once the test is over.
                    let _ = sender.send(line);
                }
            });
        }
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line that `pick` makes something of.
    ///
    /// # Panics
    /// If the process ends, or [`PATIENCE`] does, without such a line.
    pub fn wait_for<T>(&mut self, what: &str, mut pick: impl FnMut(&str) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let picked = pick(&line);
                    self.seen.push(line);
                    if let Some(picked) = picked {
                        return picked;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {what} in time; it said:\n{}", self.seen.join("\n")),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended without {what}:\n{}", self.seen.join("\n")),
            }
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process at once (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is ours to kill");
        self.child.wait().expect("it is ours to wait for");
    }

    /// Asks the process to end (SIGTERM), and waits until it has.
    ///
    /// # Panics
    /// If it has not ended within [`PATIENCE`].
    pub fn terminate(&mut self) -> ExitStatus {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(sent.expect("kill(1) starts").success());
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is ours to wait for") {
                return status;
            }
            assert!(Instant::now() < end, "it does not end; it said:\n{}", self.rest().join("\n"));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Every line so far, and those that are still to be read.
    pub fn rest(&mut self) -> &[String] {
        self.seen.extend(self.lines.try_iter());
        &self.seen
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
