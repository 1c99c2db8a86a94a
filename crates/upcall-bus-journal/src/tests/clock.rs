use std::time::{Duration, Instant};

use rusqlite::Connection;
use upcall_bus::Archive;

use super::{folder, open, publish_all, subscribe, take};
use crate::JournalArchive;

/// As long as nothing waits by itself.
const DAY_MS: i64 = 24 * 3_600_000;

#[tokio::test]
async fn what_a_clock_that_was_ahead_has_written_waits_for_its_own_delay_and_no_longer() {
    const DELAY: Duration = Duration::from_millis(300);
    let folder = folder();
    let journal = open(folder.path());
    publish_all(&journal, 0..3).await;
    let mut subscription = subscribe(&journal, "c").await;
    let mut deliveries = take(&mut *subscription, 3).await.into_iter();
    deliveries.next().unwrap().retry(DELAY, "later").await.unwrap();
    deliveries.next().unwrap().dead_letter("never").await.unwrap();
    deliveries.next().unwrap().ack().await.unwrap();
    drop(subscription);
    let archive = JournalArchive::open(folder.path()).unwrap();
    let letter = archive.dead_letters(0, 1).await.unwrap().remove(0);
    journal.close().await;
    archive.retry_dead_letter(letter.number).await.unwrap();
    drop((journal, archive));

    let db = Connection::open(folder.path().join("journal.db")).unwrap();
    for table in ["retry", "redelivery"] {
        let ahead = format!("UPDATE {table} SET set_at = set_at + {DAY_MS}, due_at = due_at + {DAY_MS}");
        assert_eq!(db.execute(&ahead, ()).unwrap(), 1, "{table}");
    }
    drop(db);
    let (journal, opened) = (open(folder.path()), Instant::now());
    let mut subscription = subscribe(&journal, "c").await;
    let mut came = Vec::new();
    while came.len() < 2 {
        for delivery in take(&mut *subscription, 1).await {
            came.push((delivery.sequence(), delivery.attempt(), opened.elapsed()));
            delivery.ack().await.unwrap();
        }
    }
    let [(2, 1, _), (1, 2, waited)] = came[..] else { panic!("{came:?}") };
    assert!(waited >= DELAY - Duration::from_millis(50), "{waited:?}");
}
