//! `upcall serve` with a configuration of the test's own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use upcall_tests::executable::Running;
use upcall_tests::signer::Signer;

/// A gateway that serves, with its addresses.
pub(crate) struct Served {
    process: Running,
    /// Where it takes callbacks.
    pub(crate) callbacks: SocketAddr,
    /// Where it answers operators.
    pub(crate) admin: SocketAddr,
}

impl Served {
    /// Starts `upcall serve -c FILE` and waits until it is ready.
    pub(crate) fn start(file: &Path) -> Self {
        let mut process = Running::start(&["serve", "-c", file.to_str().unwrap()]);
        let [callbacks, admin] = process.wait_for("line with its addresses", |line| {
            let address =
                |name: &str| line.split(name).nth(1)?.split_whitespace().next()?.trim_matches('"').parse().ok();
            Some([address("callbacks=")?, address("admin=")?])
        });
        Self { process, callbacks, admin }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.process.terminate()
    }
}

/// Writes a configuration with one route and one SQLite consumer into a folder; `more` is added at its end.
pub(crate) fn configuration(folder: &Path, signer: &Signer, more: &str) -> PathBuf {
    let file = folder.join("upcall.toml");
    let text = format!(
        "[gateway]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\n[bus]\njournal = \"./journal\"\n\n{keys}\n\
         [[route]]\nname = \"test\"\npath = \"/oss/test\"\n\n\
         [[consumer]]\nname = \"catalog\"\nsql = {{ url = \"sqlite://catalog.db\", table = \"uploads\" }}\n\n{more}\n",
        keys = signer.configuration(),
    );
    std::fs::write(&file, text).unwrap();
    file
}
