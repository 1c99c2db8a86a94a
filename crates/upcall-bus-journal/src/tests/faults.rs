use std::time::Duration;

use futures_util::future::join_all;
use upcall_bus::{Deadline, PublishErrorKind, Publisher, Receipt};

use super::{PATIENCE, eventually, folder, message, message_of, open, publish, publish_all, subscribe, take};
use crate::{Journal, OpenError, Options, Reader};

#[tokio::test]
async fn a_full_disk_refuses_whole_groups_and_room_heals_it() {
    let folder = folder();
    let journal = open(folder.path());
    publish_all(&journal, 0..10).await;
    let mut subscription = subscribe(&journal, "c").await;
    let deliveries = take(&mut *subscription, 10).await;
    // SQLite takes the file's size for its bound then, without the pages that are free.
    journal.execute("VACUUM; PRAGMA max_page_count = 1").await;

    let tried = join_all((100..200).map(|number| publish(&journal, message_of(number, 2_000)))).await;
    let (mut stored, mut refused) = (Vec::new(), Vec::new());
    for (number, result) in (100..200).zip(tried) {
        match result {
            Ok(receipt) => stored.push((number, receipt)),
            Err(error) => refused.push((number, error.kind)),
        }
    }
    assert!(refused.len() > 50, "the disk was not full");
    assert!(refused.iter().all(|(_, kind)| *kind == PublishErrorKind::Full), "{refused:?}");
    assert!(journal.fault().is_some_and(|fault| fault.contains("full")), "{:?}", journal.fault());
    let last = Reader::open(folder.path()).unwrap().last_sequence().unwrap();
    assert_eq!(last, 10 + stored.len() as u64, "something refused is there, or something stored is not");

    for delivery in deliveries {
        delivery.ack().await.expect("settlements need next to no room");
    }
    journal.execute("PRAGMA max_page_count = 1000000").await;
    eventually("the journal that has room again", || journal.fault().is_none()).await;
    for (number, _) in &refused {
        assert_eq!(publish(&journal, message(*number)).await.unwrap(), Receipt::Stored);
    }
    for (number, _) in stored {
        assert_eq!(publish(&journal, message(number)).await.unwrap(), Receipt::Duplicate);
    }
}

#[tokio::test]
async fn a_connection_in_an_uncertain_state_is_replaced() {
    let folder = folder();
    let journal = open(folder.path());
    publish_all(&journal, 0..5).await;
    let mut subscription = subscribe(&journal, "c").await;
    let deliveries = take(&mut *subscription, 5).await;
    // A transaction that nobody ends makes every `BEGIN` of this connection fail.
    journal.execute("BEGIN").await;
    let error = publish(&journal, message(7)).await.unwrap_err();
    assert_eq!(error.kind, PublishErrorKind::Unavailable);
    let until = std::time::Instant::now() + PATIENCE;
    while publish(&journal, message(8)).await.is_err() {
        assert!(std::time::Instant::now() < until, "the journal does not heal");
    }
    for delivery in deliveries {
        delivery.ack().await.expect("the consumer's deliveries are still its own");
    }
    assert_eq!(take(&mut *subscription, 1).await[0].event(), &message(8).event);
    eventually("no fault", || journal.fault().is_none()).await;
}

#[tokio::test]
async fn files_that_are_taken_away_refuse_events_until_they_are_back() {
    let (folder, elsewhere) = (folder(), folder());
    let journal = open(folder.path());
    publish_all(&journal, 0..5).await;
    let mut subscription = subscribe(&journal, "c").await;
    for name in ["journal.db", "journal.db-wal"] {
        let [place, aside] = [folder.path(), elsewhere.path()].map(|folder| folder.join(name));
        std::fs::rename(&place, &aside).unwrap();
        let error = publish(&journal, message(7)).await.unwrap_err();
        assert_eq!(error.kind, PublishErrorKind::Unavailable);
        let cause = error.source.unwrap().to_string();
        assert!(cause.contains("was removed, moved or replaced") && cause.contains(name), "{cause}");
        // Another file in its place is not it.
        std::fs::write(&place, "").unwrap();
        assert!(publish(&journal, message(7)).await.is_err());
        std::fs::rename(&aside, &place).unwrap();
        assert!(journal.fault().is_some());
        eventually("the journal whose files are back", || journal.fault().is_none()).await;
    }
    assert_eq!(publish(&journal, message(7)).await.unwrap(), Receipt::Stored);

    // Noticed where nobody publishes, and what was there is still given to consumers.
    std::fs::remove_file(folder.path().join("journal.db")).unwrap();
    eventually("the journal that says what is wrong", || journal.fault().is_some()).await;
    for delivery in take(&mut *subscription, 6).await {
        delivery.ack().await.unwrap();
    }
    journal.close().await;
    assert!(!folder.path().join("journal.db").exists(), "nobody began another journal");
}

#[tokio::test]
async fn a_lock_that_was_removed_is_taken_again_or_leaves_the_journal_to_who_has_it_now() {
    let folder = folder();
    let journal = open(folder.path());
    let lock = folder.path().join("journal.lock");
    publish_all(&journal, 0..5).await;
    std::fs::remove_file(&lock).unwrap();
    assert_eq!(publish(&journal, message(5)).await.unwrap(), Receipt::Stored);
    assert!(matches!(Journal::open(Options::new(folder.path())), Err(OpenError::Locked { .. })), "it is locked again");

    let other = loop {
        std::fs::remove_file(&lock).unwrap();
        // The first may be quicker.
        if let Ok(other) = Journal::open(Options::new(folder.path())) {
            break other;
        }
    };
    let error = publish(&journal, message(6)).await.unwrap_err();
    assert_eq!(error.kind, PublishErrorKind::Unavailable);
    assert!(error.source.unwrap().to_string().contains("another process has locked the journal"));
    publish_all(&other, 6..60).await;
    other.close().await;
    assert!(publish(&journal, message(60)).await.is_err(), "it does not know what the other one has written");
    journal.close().await;
    let journal = open(folder.path());
    assert_eq!(publish(&journal, message(59)).await.unwrap(), Receipt::Duplicate);
    assert_eq!(publish(&journal, message(60)).await.unwrap(), Receipt::Stored);
}

#[tokio::test]
async fn more_than_the_queue_takes_is_refused_at_once() {
    let folder = folder();
    let journal = Journal::open(Options { queue_max: 4, ..Options::new(folder.path()) }).unwrap();
    let tried = join_all((0..64).map(|number| publish(&journal, message(number)))).await;
    let (stored, refused): (Vec<_>, Vec<_>) = tried.into_iter().partition(Result::is_ok);
    assert!(stored.len() >= 4);
    assert!(!refused.is_empty());
    for error in refused {
        assert_eq!(error.unwrap_err().kind, PublishErrorKind::Busy);
    }
    let last = Reader::open(folder.path()).unwrap().last_sequence().unwrap();
    assert_eq!(last, stored.len() as u64);
}

#[tokio::test]
async fn what_waits_past_its_deadline_is_late_and_not_stored() {
    let folder = folder();
    let journal = open(folder.path());
    // Whoever writes in a shell holds the writer up.
    let shell = rusqlite::Connection::open(folder.path().join("journal.db")).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let first = journal.publish(message(1), Deadline::after(PATIENCE));
    let late = journal.publish(message(2), Deadline::after(Duration::from_millis(20)));
    let late = async {
        let late = late.await;
        shell.execute_batch("ROLLBACK").unwrap();
        late
    };
    let (first, late) = tokio::join!(first, late);
    assert_eq!(first.unwrap(), Receipt::Stored, "a lock is waited out");
    assert_eq!(late.unwrap_err().kind, PublishErrorKind::Timeout);
    assert_eq!(publish(&journal, message(2)).await.unwrap(), Receipt::Stored, "the late one is there");
}

#[tokio::test]
async fn a_closed_journal_has_stored_what_it_took_and_takes_no_more() {
    let folder = folder();
    let journal = open(folder.path());
    let publishing = join_all((0..50).map(|number| publish(&journal, message(number))));
    let closing = async {
        tokio::task::yield_now().await;
        journal.close().await;
    };
    let (published, ()) = tokio::join!(publishing, closing);
    assert!(published.iter().all(Result::is_ok), "{published:?}");
    assert_eq!(publish(&journal, message(99)).await.unwrap_err().kind, PublishErrorKind::Unavailable);
    assert!(journal.fault().is_some());
    let journal = open(folder.path());
    assert_eq!(journal.status().unwrap().last_sequence, 50);
}
