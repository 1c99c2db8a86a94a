//! The suite that every sink passes.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use sink_jsonl::JsonLines;
use tempfile::TempDir;
use upcall_consumer::Sink;
use upcall_consumer::conformance::{Abilities, Target};
use upcall_event::{Event, EventId};

struct Folder(TempDir);

impl Folder {
    fn lines(&self) -> PathBuf {
        self.0.path().join("lines")
    }

    fn aside(&self) -> PathBuf {
        self.0.path().join("aside")
    }
}

async fn folder() -> Folder {
    Folder(tempfile::tempdir().unwrap())
}

#[async_trait]
impl Target for Folder {
    async fn sink(&self) -> Arc<dyn Sink> {
        Arc::new(JsonLines::new(self.lines()))
    }

    async fn effects(&self) -> Vec<EventId> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.lines()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        text.lines().map(|line| Event::from_structured(line.as_bytes()).unwrap().id).collect()
    }

    fn abilities(&self) -> Abilities {
        // A file takes every line, and it takes no time worth a test.
        Abilities { poison: false, slow: false, ..Abilities::default() }
    }

    async fn stop(&self) {
        let _ = fs::rename(self.lines(), self.aside());
        fs::write(self.lines(), "no folder").unwrap();
    }

    async fn heal(&self) {
        if self.lines().is_file() {
            fs::remove_file(self.lines()).unwrap();
            let _ = fs::rename(self.aside(), self.lines());
        }
    }
}

upcall_consumer::conformance_tests!(folder);

#[tokio::test]
async fn a_line_that_was_torn_by_a_power_failure_is_written_anew() {
    use upcall_consumer::conformance::{deliver, upload};
    let folder = folder().await;
    let sink = folder.sink().await;
    sink.prepare().await.unwrap();
    deliver(&*sink, &[upload(1)]).await;
    let file = folder.lines().join("2026-01-01.jsonl");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, [&whole[..], &whole[..20]].concat()).unwrap();
    deliver(&*folder.sink().await, &[upload(1), upload(2)]).await;
    assert_eq!(folder.effects().await, [upload(1).event.id, upload(2).event.id]);
}
