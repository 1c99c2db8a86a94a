use std::time::Instant;

use futures_util::future::join_all;
use rusqlite::{Connection, params};
use upcall_bus::{Message, Receipt};

use super::{PATIENCE, folder, open, publish, publish_all, upload};
use crate::index::{Index, Key};
use crate::statements::{Statements, Sync};
use crate::{clock, database};

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
async fn what_a_commit_has_left_that_seemed_to_fail_is_a_duplicate() {
    let folder = folder();
    let journal = open(folder.path());
    publish_all(&journal, 0..3).await;
    let Message { subject, event } = upload(7);
    let left = format!(
        "INSERT INTO event (sequence, id, epoch, subject, stored_at, payload)
         VALUES (4, x'{}', {}, '{subject}', {}, '{}')",
        event.id,
        Key::new(&event).epoch,
        clock::now_ms(),
        String::from_utf8(event.to_structured()).unwrap().replace('\'', "''"),
    );
    // A transaction that nobody ends has the connection replaced.
    journal.execute(&format!("{left}; BEGIN")).await;
    assert!(publish(&journal, upload(8)).await.is_err());
    let until = Instant::now() + PATIENCE;
    let receipt = loop {
        assert!(Instant::now() < until, "the journal does not heal");
        if let Ok(receipt) = publish(&journal, upload(7)).await {
            break receipt;
        }
    };
    assert_eq!(receipt, Receipt::Duplicate);
    assert_eq!(publish(&journal, upload(8)).await.unwrap(), Receipt::Stored);
}

#[test]
fn a_batch_that_a_transaction_took_back_goes_into_the_table_later() {
    let folder = folder();
    let db = database::open(folder.path()).unwrap();
    let (mut index, mut statements) = (Index::default(), Statements::prepare(&db).unwrap());
    let (mut sequence, mut failures) = (0, 0);
    for turn in 0..60 {
        let result = statements.transaction(Sync::Full, |statements| {
            for _ in 0..10 {
                sequence += 1;
                let key = Key::new(&upload(sequence).event);
                assert!(!index.knows(statements, key)?);
                statements.db.execute(
                    "INSERT INTO event (sequence, id, epoch, subject, stored_at, payload) VALUES (?1, ?2, ?3, '', 0, '')",
                    params![sequence, key.id.as_bytes(), key.epoch],
                )?;
                index.add(key, sequence);
            }
            index.move_on(statements)?;
            // The last thing that a transaction does may fail as well as the first.
            if turn % 3 == 2 { Err(rusqlite::Error::QueryReturnedNoRows) } else { Ok(()) }
        });
        if result.is_ok() {
            index.committed();
            index.tidy();
        } else {
            index.undone();
            (sequence, failures) = (sequence - 10, failures + 1);
        }
        let count = |sql: &str| db.query_row(sql, (), |row| row.get::<_, u64>(0)).unwrap();
        let lost = "SELECT count(*) FROM event
                    WHERE sequence <= (SELECT indexed_up_to FROM state) AND sequence NOT IN (SELECT sequence FROM event_id)";
        assert_eq!(count(lost), 0, "after turn {turn}");
    }
    assert_eq!((sequence, failures), (400, 20));
    for number in 1..=sequence {
        assert!(index.knows(&mut statements, Key::new(&upload(number).event)).unwrap(), "event {number}");
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
