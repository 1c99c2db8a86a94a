use std::process::Command;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use upcall_bus::{Archive, Bus, ConsumerName, ConsumerSpec, DeadLetter, Letter, Start, StoredEvent, Subscription};
use upcall_event::SubjectFilter;

use super::{PATIENCE, eventually, folder, message, open, publish, publish_all, subscribe, take};
use crate::{Journal, JournalArchive, OpenError, Options, Reader};

/// Tells the other process where the journal is; without it that process has nothing to do.
const FOLDER: &str = "UPCALL_TEST_JOURNAL_TO_GIVE_FROM";

fn consumer() -> ConsumerName {
    "c".parse().unwrap()
}

async fn events(archive: &JournalArchive) -> Vec<StoredEvent> {
    archive.events(0, &SubjectFilter::default(), 10_000).await.unwrap().events
}

async fn letters(archive: &JournalArchive) -> Vec<DeadLetter> {
    archive.dead_letters(0, 10_000).await.unwrap()
}

async fn kill_all(subscription: &mut dyn Subscription, count: usize) {
    for delivery in take(subscription, count).await {
        delivery.dead_letter("no such table").await.unwrap();
    }
}

/// What `sqlite3` would say.
fn ask(folder: &std::path::Path, sql: &str) -> i64 {
    Connection::open(folder.join("journal.db")).unwrap().query_row(sql, (), |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_process_gives_comes_to_a_subscription_that_waits() {
    let folder = folder();
    let journal = open(folder.path());
    publish_all(&journal, [1, 2]).await;
    let mut subscription = subscribe(&journal, "c").await;
    kill_all(&mut *subscription, 2).await;
    let waiting = tokio::spawn(async move {
        let came = take(&mut *subscription, 2).await;
        (came, subscription)
    });
    let path = folder.path().to_owned();
    let other = tokio::task::spawn_blocking(move || {
        Command::new(std::env::current_exe().unwrap())
            .args(["tests::archive::the_other_process", "--exact"])
            .env(FOLDER, path)
            .output()
            .unwrap()
    });
    let output = other.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let (came, _subscription) = waiting.await.unwrap();
    let numbers: Vec<_> = came.iter().map(|delivery| (delivery.sequence(), delivery.attempt())).collect();
    assert_eq!(numbers, [(1, 1), (2, 1)]);
    // It has taken neither the log nor the lock with it when it ended.
    for delivery in came {
        delivery.ack().await.unwrap();
    }
    publish_all(&journal, [3]).await;
    assert_eq!(ask(folder.path(), "SELECT count(*) FROM redelivery"), 0);
    assert_eq!(ask(folder.path(), "SELECT count(*) FROM event"), 3);
}

#[tokio::test]
async fn the_other_process() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    assert!(matches!(Journal::open(Options::new(&folder)), Err(OpenError::Locked { .. })), "this is no other process");
    let archive = JournalArchive::open(folder.as_ref()).unwrap();
    for letter in letters(&archive).await {
        assert!(archive.retry_dead_letter(letter.number).await.unwrap());
    }
}

#[tokio::test]
async fn what_this_process_gives_comes_at_once() {
    let folder = folder();
    let journal = open(folder.path());
    let archive = journal.archive().unwrap();
    publish_all(&journal, [1]).await;
    let mut subscription = subscribe(&journal, "c").await;
    kill_all(&mut *subscription, 1).await;
    let mut waits = Vec::new();
    for _ in 0..9 {
        let letter = letters(&archive).await.remove(0);
        let given = async {
            assert!(archive.retry_dead_letter(letter.number).await.unwrap());
            Instant::now()
        };
        let (given, mut came) = tokio::join!(given, take(&mut *subscription, 1));
        waits.push(given.elapsed());
        came.remove(0).dead_letter("again").await.unwrap();
    }
    waits.sort_unstable();
    // Somebody who looks every half second would be late more often than not.
    assert!(waits[4] < Duration::from_millis(100), "{waits:?}");
}

#[tokio::test]
async fn a_journal_that_nobody_has_open_is_given_from_and_left_in_order() {
    let folder = folder();
    let journal = open(folder.path());
    publish_all(&journal, 0..5).await;
    let mut subscription = subscribe(&journal, "c").await;
    kill_all(&mut *subscription, 3).await;
    drop(subscription);
    journal.close().await;
    drop(journal);

    let archive = JournalArchive::open(folder.path()).unwrap();
    let dead = letters(&archive).await;
    assert!(archive.retry_dead_letter(dead[0].number).await.unwrap());
    assert!(archive.drop_dead_letter(dead[1].number).await.unwrap());
    archive.redeliver(&consumer(), "replay", &events(&archive).await[..1]).await.unwrap();
    drop(archive);
    assert!(!folder.path().join("journal.db-wal").exists(), "the log is left behind");

    let journal = open(folder.path());
    let mut subscription = subscribe(&journal, "c").await;
    let mut came: Vec<_> = take(&mut *subscription, 4).await.iter().map(upcall_bus::Delivery::sequence).collect();
    came.sort_unstable();
    assert_eq!(came, [1, 1, 4, 5]);
    assert_eq!(letters(&journal.archive().unwrap()).await.len(), 1);
}

#[tokio::test]
async fn a_dead_letter_that_was_spoilt_by_hand_is_listed_and_can_be_dropped() {
    let folder = folder();
    let journal = open(folder.path());
    publish_all(&journal, 0..3).await;
    let mut subscription = subscribe(&journal, "c").await;
    kill_all(&mut *subscription, 3).await;
    let archive = JournalArchive::open(folder.path()).unwrap();
    let dead = letters(&archive).await;
    let db = Connection::open(folder.path().join("journal.db")).unwrap();
    db.execute("UPDATE dead_letter SET payload = '{}' WHERE number = ?1", [dead[1].number]).unwrap();
    let all = archive.letters(0, 10).await.unwrap();
    let [Letter::Readable(_), Letter::Unreadable(spoilt), Letter::Readable(_)] = &all[..] else { panic!("{all:?}") };
    assert_eq!((spoilt.number, &*spoilt.consumer, spoilt.died_at), (dead[1].number, "c", dead[1].died_at));
    assert!(!spoilt.fault.is_empty() && spoilt.reason.as_deref() == Some("no such table"), "{spoilt:?}");
    assert_eq!(letters(&archive).await, [dead[0].clone(), dead[2].clone()]);
    let error = archive.retry_dead_letter(spoilt.number).await.unwrap_err();
    assert!(error.source.to_string().contains(&spoilt.fault), "{}", error.source);
    assert_eq!(ask(folder.path(), "SELECT count(*) FROM redelivery"), 0);
    assert!(archive.drop_dead_letter(spoilt.number).await.unwrap());
    assert_eq!(archive.letters(0, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn redeliveries_and_new_events_take_turns() {
    let folder = folder();
    let journal = open(folder.path());
    publish_all(&journal, 0..40).await;
    let archive = journal.archive().unwrap();
    let spec = ConsumerSpec { name: consumer(), filter: SubjectFilter::default(), start: Start::New };
    let mut subscription = journal.subscribe(&spec).await.unwrap();
    archive.redeliver(&consumer(), "replay", &events(&archive).await).await.unwrap();
    publish_all(&journal, 40..80).await;
    let mut new = 0;
    for _ in 0..40 {
        let delivery = take(&mut *subscription, 1).await.remove(0);
        new += usize::from(delivery.sequence() > 40);
        delivery.ack().await.unwrap();
    }
    assert!((15..=25).contains(&new), "{new} of 40 were new");
}

#[tokio::test]
async fn no_more_redeliveries_are_in_flight_than_a_consumer_may_hold() {
    let folder = folder();
    let journal = Journal::open(Options { in_flight_max: 4, ..Options::new(folder.path()) }).unwrap();
    publish_all(&journal, 0..10).await;
    let archive = journal.archive().unwrap();
    let spec = ConsumerSpec { name: consumer(), filter: SubjectFilter::default(), start: Start::New };
    let mut subscription = journal.subscribe(&spec).await.unwrap();
    archive.redeliver(&consumer(), "replay", &events(&archive).await).await.unwrap();
    let mut held = take(&mut *subscription, 4).await;
    let more = tokio::time::timeout(Duration::from_millis(700), subscription.next(8)).await;
    assert!(more.is_err(), "{more:?} came");
    let mut sequences = Vec::new();
    while let Some(delivery) = held.pop() {
        sequences.push(delivery.sequence());
        delivery.ack().await.unwrap();
        if sequences.len() + held.len() < 10 {
            held.extend(take(&mut *subscription, 1).await);
        }
    }
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_given_needs_neither_the_event_nor_the_floor() {
    let folder = folder();
    let retention = crate::Retention { age: Duration::ZERO, ..crate::Retention::default() };
    let journal = Journal::open(Options { retention, ..Options::new(folder.path()) }).unwrap();
    let mut subscription = subscribe(&journal, "c").await;
    publish_all(&journal, [1]).await;
    kill_all(&mut *subscription, 1).await;
    eventually("retention", || ask(folder.path(), "SELECT count(*) FROM event") == 0).await;
    let archive = journal.archive().unwrap();
    let letter = letters(&archive).await.remove(0);
    assert!(archive.retry_dead_letter(letter.number).await.unwrap());
    let delivery = take(&mut *subscription, 1).await.remove(0);
    assert_eq!((delivery.sequence(), delivery.event()), (1, &message(1).event));
    // Others are settled, and forgotten, beside it.
    publish_all(&journal, [2]).await;
    take(&mut *subscription, 1).await.remove(0).ack().await.unwrap();
    eventually("retention", || ask(folder.path(), "SELECT count(*) FROM event") == 0).await;
    let [state] = &Reader::open(folder.path()).unwrap().consumers().unwrap()[..] else { panic!("one consumer") };
    assert_eq!((state.floor, state.lag), (2, 0));
    delivery.ack().await.unwrap();
}

#[tokio::test]
async fn dead_letters_and_replays_go_when_their_time_is_up() {
    let folder = folder();
    let journal = Journal::open(Options::new(folder.path())).unwrap();
    publish_all(&journal, 0..600).await;
    let mut subscription = subscribe(&journal, "c").await;
    kill_all(&mut *subscription, 600).await;
    let archive = JournalArchive::open(folder.path()).unwrap();
    archive.redeliver(&consumer(), "old", &events(&archive).await[..300]).await.unwrap();
    archive.redeliver(&consumer(), "new", &events(&archive).await[..10]).await.unwrap();
    drop(subscription);
    journal.close().await;
    let db = Connection::open(folder.path().join("journal.db")).unwrap();
    let day: i64 = 24 * 60 * 60 * 1_000;
    db.execute("UPDATE dead_letter SET died_at = died_at - ?1 WHERE sequence > 10", [31 * day]).unwrap();
    db.execute("UPDATE dead_letter SET died_at = died_at - ?1 WHERE sequence <= 10", [29 * day]).unwrap();
    db.execute("UPDATE replay SET given_at = given_at - ?1 WHERE name = 'old'", [31 * day]).unwrap();
    db.execute("UPDATE replay SET given_at = given_at - ?1 WHERE name = 'new'", [29 * day]).unwrap();
    drop(db);
    let _journal = open(folder.path());
    let count = |what: &str| ask(folder.path(), &format!("SELECT count(*) FROM {what}"));
    eventually("the last batch", || count("dead_letter") == 10 && count("replay") == 1).await;
    assert_eq!((count("replayed"), count("redelivery")), (10, 310), "what was given is still to be taken");
}

#[tokio::test]
async fn an_older_journal_is_brought_up_to_date_unless_somebody_has_it_open() {
    let folder = folder();
    let journal = open(folder.path());
    publish_all(&journal, [1]).await;
    let mut subscription = subscribe(&journal, "c").await;
    kill_all(&mut *subscription, 1).await;
    drop(subscription);
    journal.close().await;
    drop(journal);
    let db = Connection::open(folder.path().join("journal.db")).unwrap();
    db.execute_batch(
        "DROP TABLE quarantine; DROP INDEX dead_letter_died_at; DROP TABLE redelivery; DROP TABLE replay; DROP TABLE replayed;
         PRAGMA user_version = 2",
    )
    .unwrap();
    drop(db);

    let archive = JournalArchive::open(folder.path()).unwrap();
    let letter = letters(&archive).await.remove(0);
    let lock = crate::lock::lock(folder.path()).unwrap();
    let error = archive.retry_dead_letter(letter.number).await.unwrap_err();
    assert!(error.source.to_string().contains("is open in another process"), "{}", error.source);
    assert_eq!(ask(folder.path(), "PRAGMA user_version"), 2);
    drop(lock);
    assert!(archive.retry_dead_letter(letter.number).await.unwrap());
    let journal = open(folder.path());
    assert_eq!(take(&mut *subscribe(&journal, "c").await, 1).await[0].sequence(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_and_publishers_share_the_journal() {
    let folder = folder();
    let journal = open(folder.path());
    publish_all(&journal, 0..20).await;
    let archive = JournalArchive::open(folder.path()).unwrap();
    let example = events(&archive).await.remove(0);
    let replay: Vec<_> = (1..=3_000).map(|sequence| StoredEvent { sequence, ..example.clone() }).collect();
    let publishers: Vec<_> = (0..8)
        .map(|publisher| {
            let journal = journal.clone();
            tokio::spawn(async move {
                let mut slowest = Duration::ZERO;
                for number in 0..150 {
                    let began = Instant::now();
                    publish(&journal, message(1_000 + publisher * 1_000 + number)).await.unwrap();
                    slowest = slowest.max(began.elapsed());
                }
                slowest
            })
        })
        .collect();
    tokio::time::timeout(PATIENCE, archive.redeliver(&consumer(), "replay", &replay)).await.unwrap().unwrap();
    for publisher in publishers {
        let slowest = publisher.await.unwrap();
        assert!(slowest < Duration::from_secs(2), "a publisher waited {slowest:?}");
    }
    assert_eq!(ask(folder.path(), "SELECT count(*) FROM redelivery"), 3_000);
}
