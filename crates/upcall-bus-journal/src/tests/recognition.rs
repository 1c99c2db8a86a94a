use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use proptest::prelude::*;
use rusqlite::Connection;
use tempfile::TempDir;
use upcall_bus::Receipt;

use super::{PATIENCE, eventually, folder, publish, upload};
use crate::{Backlog, Journal, Options, Retention};

/// What happens to a journal.
#[derive(Debug, Clone)]
enum Step {
    /// Events of these numbers are published at once.
    Publish(Vec<u64>),
    /// The same, on a disk that is full.
    PublishWithoutRoom(Vec<u64>),
    /// The connection is left in a state that can't be trusted.
    Confuse,
    Reopen,
    /// The process is killed: what is left is the files as they are.
    Crash,
    /// So many of the oldest events go: this part of a hundred of those that are there.
    Remove(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let numbers = || prop::collection::vec(0..2_000_u64, 1..200);
    let step = prop_oneof![
        10 => numbers().prop_map(Step::Publish),
        1 => numbers().prop_map(Step::PublishWithoutRoom),
        1 => Just(Step::Confuse),
        2 => Just(Step::Reopen),
        2 => Just(Step::Crash),
        2 => (0..=100_usize).prop_map(Step::Remove),
    ];
    prop::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_known_id_is_a_duplicate_after_whatever_happens_until_its_event_is_removed(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut model = Model::new().await;
            for step in steps {
                model.take(step).await;
                model.check();
            }
            let known: Vec<_> = model.known.keys().copied().collect();
            model.publish(&known).await;
        });
    }
}

struct Model {
    folder: TempDir,
    journal: Journal,
    backlog: Backlog,
    /// The events that are there, with their places.
    known: BTreeMap<u64, u64>,
    last: u64,
}

impl Model {
    async fn new() -> Self {
        let folder = folder();
        let (journal, backlog) = Self::open(folder.path()).await;
        Self { folder, journal, backlog, known: BTreeMap::new(), last: 0 }
    }

    /// Whatever is released is past its time.
    async fn open(folder: &Path) -> (Journal, Backlog) {
        let retention = Retention { age: Duration::ZERO, ..Retention::default() };
        let journal = Journal::open(Options { retention, ..Options::new(folder) }).unwrap();
        let backlog = journal.backlog(&"relay".parse().unwrap()).await.unwrap();
        (journal, backlog)
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Publish(numbers) => self.publish(&numbers).await,
            Step::PublishWithoutRoom(numbers) => {
                self.journal.execute("PRAGMA max_page_count = 1").await;
                let results = self.try_publish(&numbers).await;
                self.journal.execute("PRAGMA max_page_count = 1000000").await;
                self.note(&numbers, results);
            }
            Step::Confuse => {
                self.journal.execute("BEGIN").await;
                let mut results = self.try_publish(&[1_000]).await;
                assert_eq!(results, [None]);
                let until = Instant::now() + PATIENCE;
                while results == [None] {
                    assert!(Instant::now() < until, "the journal does not heal");
                    results = self.try_publish(&[1_000]).await;
                }
                self.note(&[1_000], results);
            }
            Step::Reopen => {
                self.journal.close().await;
                self.begin_anew().await;
            }
            Step::Crash => {
                let folder = folder();
                for name in ["journal.db-wal", "journal.db"] {
                    std::fs::copy(self.folder.path().join(name), folder.path().join(name)).unwrap();
                }
                self.folder = folder;
                self.begin_anew().await;
            }
            Step::Remove(part) => {
                let mut sequences: Vec<_> = self.known.values().copied().collect();
                sequences.sort_unstable();
                sequences.truncate(sequences.len() * part / 100);
                let Some(up_to) = sequences.last().copied() else { return };
                self.backlog.release(up_to).await.unwrap();
                self.known.retain(|_, sequence| *sequence > up_to);
                // Retention looks once a second, and when a journal is opened.
                self.journal.close().await;
                self.begin_anew().await;
                let shell = self.shell();
                let oldest = || {
                    shell.query_row("SELECT coalesce(min(sequence), ?1 + 1) FROM event", [up_to], |row| {
                        row.get::<_, u64>(0)
                    })
                };
                eventually("retention", || oldest().unwrap() > up_to).await;
            }
        }
    }

    async fn begin_anew(&mut self) {
        (self.journal, self.backlog) = Self::open(self.folder.path()).await;
    }

    async fn publish(&mut self, numbers: &[u64]) {
        let results = self.try_publish(numbers).await;
        assert!(results.iter().all(Option::is_some), "some were refused");
        self.note(numbers, results);
    }

    async fn try_publish(&self, numbers: &[u64]) -> Vec<Option<Receipt>> {
        join_all(numbers.iter().map(async |number| publish(&self.journal, upload(*number)).await.ok())).await
    }

    /// Compares what publishers were told with what is known.
    fn note(&mut self, numbers: &[u64], results: Vec<Option<Receipt>>) {
        for (number, result) in numbers.iter().zip(results) {
            let Some(receipt) = result else { continue };
            let expected = if self.known.contains_key(number) { Receipt::Duplicate } else { Receipt::Stored };
            assert_eq!(receipt, expected, "event {number}");
            if receipt == Receipt::Stored {
                self.last += 1;
                self.known.insert(*number, self.last);
            }
        }
    }

    /// The tables agree with the model, and the ids with the events.
    fn check(&self) {
        let shell = self.shell();
        let count = |sql: &str| shell.query_row(sql, (), |row| row.get::<_, u64>(0)).unwrap();
        let mut events = shell.prepare("SELECT sequence, id FROM event").unwrap();
        let events: BTreeMap<u64, [u8; 16]> =
            events.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<Result<_, _>>().unwrap();
        let known = self.known.iter().map(|(number, sequence)| (*sequence, *upload(*number).event.id.as_bytes()));
        assert_eq!(events, known.collect());
        let found = "SELECT count(*) FROM event_id JOIN event USING (sequence, id, epoch)";
        assert_eq!(count("SELECT count(*) FROM event_id"), count(found), "ids without an event");
        let lost = "SELECT count(*) FROM event
                    WHERE sequence <= (SELECT indexed_up_to FROM state) AND sequence NOT IN (SELECT sequence FROM event_id)";
        assert_eq!(count(lost), 0, "events that are not found");
    }

    fn shell(&self) -> Connection {
        Connection::open(self.folder.path().join("journal.db")).unwrap()
    }
}
