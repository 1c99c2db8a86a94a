//! `upcall serve` with a configuration of the test's own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use upcall_tests::conservation::Books;
use upcall_tests::executable::Running;
use upcall_tests::signer::Signer;

/// A gateway that serves, with its addresses.
pub(crate) struct Served {
    process: Running,
    books: Books,
    ended: bool,
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
        Self { process, books: Books::open(admin).unwrap(), ended: false, callbacks, admin }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Every line that it has written so far.
    pub(crate) fn lines(&mut self) -> &[String] {
        self.process.rest()
    }

    pub(crate) fn kill(&mut self) {
        self.ended = true;
        self.process.kill();
    }

    /// Asks it to end, after its books were checked.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.ended = true;
        self.books.check(self.admin).unwrap_or_else(|wrong| panic!("{wrong}"));
        self.process.terminate()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // A test that fails already is to say why.
        if !self.ended && !std::thread::panicking() {
            self.books.check(self.admin).unwrap_or_else(|wrong| panic!("{wrong}"));
        }
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
