//! The examples of `docs/consumers.md`, as they are printed there.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use upcall_tests::executable::{Running, workspace};

/// Where the examples are printed.
pub(crate) fn document() -> String {
    std::fs::read_to_string(workspace().join("docs/consumers.md")).unwrap()
}

/// The one block of the document that begins with this fence, and whose text has these words.
pub(crate) fn block(fence: &str, words: &str) -> String {
    let document = document();
    let mut blocks = document.split("\n```").skip(1).step_by(2);
    let found = blocks.find_map(|block| {
        let (info, text) = block.split_once('\n')?;
        (info == fence && text.contains(words)).then(|| format!("{text}\n"))
    });
    found.unwrap_or_else(|| panic!("docs/consumers.md has no block {fence:?} about {words:?}"))
}

/// A language that has an example.
pub(crate) struct Language {
    /// How its blocks begin in the document.
    pub(crate) fence: &'static str,
    file: &'static str,
    command: fn() -> Command,
    /// Succeeds where the example's libraries are installed.
    probe: &'static [&'static str],
    packages: Option<&'static str>,
}

pub(crate) const PYTHON: Language =
    Language { fence: "python", file: "usage.py", command: python, probe: &["-c", "import nats"], packages: None };

pub(crate) const NODE: Language = Language {
    fence: "js",
    file: "usage.mjs",
    command: node,
    probe: &["-e", "require('node:sqlite')"],
    packages: Some(".cache/node/node_modules"),
};

/// An example in a folder of its own, with its database.
pub(crate) struct Example {
    language: &'static Language,
    folder: TempDir,
}

impl Example {
    /// Writes the example down; `None` where what it needs is not installed.
    pub(crate) fn new(language: &'static Language) -> Option<Self> {
        let has_libraries = (language.command)().args(language.probe).output().is_ok_and(|said| said.status.success());
        let packages = language.packages.map(|path| workspace().join(path));
        if !has_libraries || packages.as_ref().is_some_and(|path| !path.is_dir()) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(language.file), block(language.fence, "usage")).unwrap();
        if let Some(packages) = packages {
            std::os::unix::fs::symlink(packages, folder.path().join("node_modules")).unwrap();
        }
        Some(Self { language, folder })
    }

    /// Starts it. `ack_wait` is in seconds.
    pub(crate) fn start(&self, url: &str, ack_wait: u32) -> Running {
        let mut command = (self.language.command)();
        command.arg(self.language.file).current_dir(self.folder.path());
        command.env("NATS_URL", url).env("DATABASE", self.database()).env("ACK_WAIT", ack_wait.to_string());
        // What it prints is for whoever reads a failure, and is not to stay in a buffer.
        Running::spawn(command.env("PYTHONUNBUFFERED", "1"))
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("usage.db")
    }
}

/// `UPCALL_TEST_PYTHON`, else the one of `tests/run`.
pub(crate) fn python() -> Command {
    Command::new(configured("UPCALL_TEST_PYTHON", ".cache/python/bin/python"))
}

/// `UPCALL_TEST_NODE`, else the one of `tests/run`.
pub(crate) fn node() -> Command {
    Command::new(configured("UPCALL_TEST_NODE", ".cache/node/bin/node"))
}

fn configured(variable: &str, default: impl AsRef<Path>) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| workspace().join(default), PathBuf::from)
}
