//! The journal is a bus.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;
use upcall_bus::conformance::Harness;
use upcall_bus::{Archive, Bus, Quarantine, archive_conformance_tests, conformance_tests};
use upcall_bus_journal::{Journal, JournalArchive, Options};

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

    fn archive(&self) -> Arc<dyn Archive> {
        Arc::new(JournalArchive::open(self.folder.path()).expect("an archive"))
    }

    fn quarantine(&self) -> Arc<dyn Quarantine> {
        Arc::new(self.journal.clone())
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

async fn harness() -> JournalHarness {
    let folder = TempDir::new().expect("a folder");
    let journal = open(folder.path());
    JournalHarness { folder, journal }
}

conformance_tests!(harness);
archive_conformance_tests!(harness);
