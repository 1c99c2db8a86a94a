//! The suite that every sink passes, with a program whose effect is a file.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;
use upcall_consumer::Sink;
use upcall_consumer::conformance::{Abilities, Target};
use upcall_event::{Event, EventId};

use super::script;
use crate::{CommandSink, Options};

/// Makes a file of each event's id, once; the log says in which order. Starts no other program, to be fast.
const PROGRAM: &str = r#"
[ -e away ] && { echo "the target is away" >&2; exit 69; }
[ -e "refused-$UPCALL_EVENT_ID" ] && { echo "no" >&2; exit 1; }
[ -e slow ] && sleep 0.2
[ -e "effects/$UPCALL_EVENT_ID" ] && exit 0
echo "$UPCALL_EVENT_ID" >>log && : >"effects/$UPCALL_EVENT_ID"
"#;

struct Folder(TempDir);

async fn folder() -> Folder {
    let folder = tempfile::tempdir().unwrap();
    script(folder.path(), PROGRAM);
    fs::create_dir(folder.path().join("effects")).unwrap();
    fs::write(folder.path().join("log"), "").unwrap();
    Folder(folder)
}

#[async_trait]
impl Target for Folder {
    async fn sink(&self) -> Arc<dyn Sink> {
        let program = self.0.path().join("program");
        Arc::new(CommandSink::new(Options { folder: Some(self.0.path().into()), ..Options::new(program) }))
    }

    async fn effects(&self) -> Vec<EventId> {
        // Where a program was killed between its two steps the log has a line twice; the file is the effect.
        let mut seen = BTreeSet::new();
        let log = fs::read_to_string(self.0.path().join("log")).unwrap();
        let done = log.lines().filter(|id| self.0.path().join("effects").join(id).exists() && seen.insert(*id));
        done.map(|id| id.parse().unwrap()).collect()
    }

    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    async fn stop(&self) {
        fs::write(self.0.path().join("away"), "").unwrap();
    }

    async fn slow_down(&self) {
        fs::write(self.0.path().join("slow"), "").unwrap();
    }

    async fn refuse(&self, event: &Event) {
        fs::write(self.0.path().join(format!("refused-{}", event.id)), "").unwrap();
    }

    async fn heal(&self) {
        for entry in fs::read_dir(self.0.path()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if name == "away" || name == "slow" || name.starts_with("refused-") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

upcall_consumer::conformance_tests!(folder);
