//! The journal is a bus.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;
use upcall_bus::conformance::Harness;
use upcall_bus::{Archive, Bus, conformance_tests};
use upcall_bus_journal::{Journal, Options};

/// A journal whose crash is a copy of its files as they are, without a farewell of the writer.
struct JournalHarness {
    folder: TempDir,
    journal: Journal,
}

#[async_trait]
impl Harness for JournalHarness {
    fn bus(&self) -> Arc<dyn Bus> {
        Arc::new(self.journal.clone())
    }

    #[expect(clippy::unimplemented, reason = "it comes next")]
    fn archive(&self) -> Arc<dyn Archive> {
        unimplemented!("follows, with `archive_conformance_tests!`")
    }

    async fn crash(&mut self) {
        let folder = TempDir::new().expect("a folder");
        // The log first: what a checkpoint moves meanwhile is then there twice, and not never.
        for name in ["journal.db-wal", "journal.db"] {
            std::fs::copy(self.folder.path().join(name), folder.path().join(name)).expect("copied");
        }
        self.journal = open(folder.path());
        self.folder = folder;
    }
}

fn open(folder: &Path) -> Journal {
    Journal::open(Options::new(folder)).expect("a journal")
}

conformance_tests!(async || {
    let folder = TempDir::new().expect("a folder");
    let journal = open(folder.path());
    JournalHarness { folder, journal }
});
