use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;
use upcall_bus::{Archive, Quarantine, Receipt, RejectedBody, RejectedCallback};

use super::{eventually, folder, message, open, publish};
use crate::{Journal, JournalArchive, Options, QuarantineBounds};

fn callback(number: usize) -> RejectedCallback {
    RejectedCallback {
        time: Timestamp::now(),
        code: "signature_missing".to_owned(),
        reason: "it has no signature".to_owned(),
        route: None,
        request_id: number.to_string(),
        peer: "203.0.113.7:443".to_owned(),
        method: "POST".to_owned(),
        target: "/oss/test".to_owned(),
        headers: [].into(),
        body: Some(RejectedBody { bytes: vec![b'x'; 1_000], length: 1_000 }),
    }
}

async fn kept(folder: &Path) -> Vec<usize> {
    let kept = JournalArchive::open(folder).unwrap().quarantined(0, 10_000).await.unwrap();
    kept.iter().map(|kept| kept.callback.request_id.parse().unwrap()).collect()
}

/// What is kept of 700 callbacks of which the first 100 are 29 days old, and the 10 before these 31.
async fn kept_within(bounds: QuarantineBounds, expected: std::ops::Range<usize>) {
    let folder = folder();
    let options = Options { quarantine: bounds, ..Options::new(folder.path()) };
    let journal = Journal::open(options).unwrap();
    let age = |number: usize| {
        Duration::from_hours(
            24 * if number < 10 {
                31
            } else if number < 110 {
                29
            } else {
                0
            },
        )
    };
    let callbacks = (0..710).map(|number| {
        let time = Timestamp::now() - jiff::SignedDuration::try_from(age(number)).unwrap();
        RejectedCallback { time, ..callback(number) }
    });
    journal.quarantine(&callbacks.collect::<Vec<_>>()).await.unwrap();
    let expected: Vec<usize> = expected.collect();
    let until = std::time::Instant::now() + super::PATIENCE;
    loop {
        let kept = kept(folder.path()).await;
        if kept == expected {
            return;
        }
        assert!(std::time::Instant::now() < until, "{} are kept, from {:?} on", kept.len(), kept.first());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quarantine_keeps_to_each_of_its_bounds() {
    let bounds = QuarantineBounds::default();
    // About: a moment may have fewer digits than another.
    let one = callback(700).to_json().len() as u64;
    tokio::join!(
        kept_within(bounds.clone(), 10..710),
        kept_within(QuarantineBounds { rows: 30, ..bounds.clone() }, 680..710),
        kept_within(QuarantineBounds { size_bytes: one * 50 + one / 2, ..bounds.clone() }, 660..710),
        kept_within(QuarantineBounds { age: Duration::from_hours(24), ..bounds.clone() }, 110..710),
        kept_within(QuarantineBounds { rows: 0, ..bounds }, 0..0),
    );
}

#[tokio::test]
async fn a_journal_of_an_earlier_schema_gets_a_quarantine() {
    let folder = folder();
    let journal = open(folder.path());
    publish(&journal, message(1)).await.unwrap();
    journal.close().await;
    drop(journal);
    let db = Connection::open(folder.path().join("journal.db")).unwrap();
    db.execute_batch("DROP TABLE quarantine; PRAGMA user_version = 3").unwrap();
    drop(db);

    assert!(kept(folder.path()).await.is_empty(), "it can be looked at as it is");
    let journal = open(folder.path());
    journal.quarantine(&[callback(7)]).await.unwrap();
    assert_eq!(kept(folder.path()).await, [7]);
    assert_eq!(publish(&journal, message(1)).await.unwrap(), Receipt::Duplicate, "the events are still there");
}

#[tokio::test]
async fn a_quarantine_that_cannot_be_written_concerns_no_publisher() {
    let folder = folder();
    let journal = open(folder.path());
    journal.execute("ALTER TABLE quarantine RENAME TO somewhere_else").await;
    journal.quarantine(&[callback(1)]).await.unwrap_err();
    assert_eq!(publish(&journal, message(1)).await.unwrap(), Receipt::Stored);
    journal.execute("ALTER TABLE somewhere_else RENAME TO quarantine").await;
    eventually("the journal is in order", || journal.fault().is_none()).await;
    journal.quarantine(&[callback(2)]).await.unwrap();
    assert_eq!(kept(folder.path()).await, [2]);
}
