use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use proptest::prelude::*;
use rusqlite::{Connection, params};
use tempfile::TempDir;
use upcall_bus::{Message, Receipt};
use upcall_event::EventId;

use super::{PATIENCE, eventually, folder, message, open, publish, publish_all};
use crate::{Backlog, Journal, Options, Retention, clock};

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

/// An event whose id has a time, except for some.
fn upload(number: u64) -> Message {
    let mut message = message(number);
    let digits = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let request_id = match number % 8 {
        0 => format!("no-{number}"),
        // Not in the order of publishing.
        time => format!("{:08X}{digits:016X}", 0x5CF3_E782 + time),
    };
    message.event.id = EventId::from_request(&message.event.data.bucket, &message.event.data.object, &request_id);
    message.event.data.request_id = Some(request_id);
    message
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

#[tokio::test]
async fn ids_of_one_time_lie_together_and_others_are_recognised_too() {
    let folder = folder();
    let journal = open(folder.path());
    for wave in 0..20 {
        let results = join_all((0..100).map(|number| publish(&journal, upload(wave * 100 + number)))).await;
        assert!(results.into_iter().all(|result| result.unwrap() == Receipt::Stored));
    }
    let shell = Connection::open(folder.path().join("journal.db")).unwrap();
    let times: Vec<(u64, u64)> = shell
        .prepare("SELECT epoch, count(*) FROM event GROUP BY epoch")
        .unwrap()
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let first = 0x5CF3_E782;
    assert_eq!(times[0], (0, 250));
    assert_eq!(times[1..], (1..8).map(|time| (first + time, 250)).collect::<Vec<_>>());
    let indexed: u64 = shell.query_row("SELECT count(*) FROM event_id", (), |row| row.get(0)).unwrap();
    assert!((1_700..=2_000).contains(&indexed), "{indexed}");
    for number in 0..2_000 {
        assert_eq!(publish(&journal, upload(number)).await.unwrap(), Receipt::Duplicate);
    }
}

#[tokio::test]
async fn a_journal_of_the_first_schema_is_taken_over_with_its_ids() {
    let folder = folder();
    let shell = Connection::open(folder.path().join("journal.db")).unwrap();
    shell.execute_batch(include_str!("../schema/1.sql")).unwrap();
    shell.execute_batch("PRAGMA application_id = 0x5550434A; PRAGMA user_version = 1; BEGIN").unwrap();
    let mut insert = shell
        .prepare("INSERT INTO event (sequence, id, subject, stored_at, payload) VALUES (?1, ?2, ?3, ?4, ?5)")
        .unwrap();
    let stored_at = clock::now_ms();
    for number in 0..1_000_u64 {
        let Message { subject, event } = upload(number);
        let payload = String::from_utf8(event.to_structured()).unwrap();
        insert.execute(params![number + 11, event.id.as_bytes(), subject.as_str(), stored_at, payload]).unwrap();
    }
    insert.execute(params![2_000, [7_u8; 16], "spoilt by hand", 1, "{}"]).unwrap();
    drop(insert);
    shell
        .execute_batch(
            "UPDATE state SET sequence_removed = 10;
             INSERT INTO consumer (name, filter, floor, created_at) VALUES ('relay', '>', 500, 0); COMMIT",
        )
        .unwrap();
    drop(shell);

    let journal = open(folder.path());
    for number in 0..1_000 {
        assert_eq!(publish(&journal, upload(number)).await.unwrap(), Receipt::Duplicate, "event {number} is lost");
    }
    let mut backlog = journal.backlog(&"relay".parse().unwrap()).await.unwrap();
    assert_eq!((backlog.floor(), backlog.last()), (500, 2_000));
    let read = backlog.read(500, 10_000).await.unwrap();
    assert_eq!(read.len(), 511);
    assert_eq!((read[0].sequence, read[0].stored_at_ms), (501, stored_at));
    assert_eq!(read[0].payload.as_bytes(), upload(490).event.to_structured());
    assert_eq!((read[510].sequence, &*read[510].subject, &*read[510].payload), (2_000, "spoilt by hand", "{}"));
    publish_all(&journal, [5_000]).await;
    assert_eq!(backlog.last(), 2_001);
}
