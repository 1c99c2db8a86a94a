use std::time::Duration;

use upcall_bus::Receipt;

use super::{eventually, folder, message, message_of, open, publish, publish_all, subscribe, take};
use crate::{Journal, OpenError, Options, Reader, Retention, forget};

fn keeping(folder: &std::path::Path, retention: Retention) -> Journal {
    Journal::open(Options { retention, ..Options::new(folder) }).unwrap()
}

fn count(folder: &std::path::Path) -> usize {
    Reader::open(folder).unwrap().events(0, &">".parse().unwrap(), 10_000).unwrap().events.len()
}

#[tokio::test]
async fn nothing_is_kept_for_a_consumer_that_is_forgotten() {
    let folder = folder();
    let name = "gone".parse().unwrap();
    let keep = || keeping(folder.path(), Retention { age: Duration::ZERO, ..Retention::default() });
    let journal = keep();
    let mut subscription = subscribe(&journal, "gone").await;
    publish_all(&journal, 0..20).await;
    let mut deliveries = take(&mut *subscription, 5).await.into_iter();
    deliveries.next().unwrap().dead_letter("no such table").await.unwrap();
    deliveries.next().unwrap().retry(Duration::from_secs(60), "later").await.unwrap();
    drop((deliveries, subscription));
    assert!(matches!(forget(folder.path(), &name), Err(OpenError::Locked { .. })), "it is open");
    journal.close().await;
    assert!(count(folder.path()) >= 19, "all but the dead letter, at least");

    assert!(forget(folder.path(), &name).unwrap());
    assert!(!forget(folder.path(), &name).unwrap(), "there is none any more");
    assert!(matches!(forget(&folder.path().join("nowhere"), &name), Err(OpenError::Missing { .. })));
    let journal = keep();
    eventually("retention", || count(folder.path()) == 0).await;
    assert_eq!(Reader::open(folder.path()).unwrap().dead_letters(Some("gone"), 0, 10).unwrap().len(), 1);
    assert!(journal.status().unwrap().consumers.is_empty());
}

#[tokio::test]
async fn retention_takes_what_is_settled_and_keeps_what_is_not() {
    let folder = folder();
    let journal = keeping(folder.path(), Retention { age: Duration::ZERO, ..Retention::default() });
    let mut subscription = subscribe(&journal, "c").await;
    publish_all(&journal, 0..20).await;
    let mut deliveries = take(&mut *subscription, 20).await;
    let (held, waiting) = (deliveries.split_off(12), deliveries.remove(5));
    for delivery in deliveries {
        delivery.ack().await.unwrap();
    }
    waiting.retry(Duration::from_secs(60), "later").await.unwrap();
    eventually("retention", || count(folder.path()) == 9).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(count(folder.path()), 9, "eight that are held and one that waits");
    for delivery in held {
        delivery.ack().await.unwrap();
    }
    eventually("retention", || count(folder.path()) == 1).await;
    assert_eq!(journal.status().unwrap().consumers[0].lag, 1);
}

#[tokio::test]
async fn size_is_bounded_and_unsettled_events_go_only_when_told_so() {
    for drop_unsettled in [false, true] {
        let folder = folder();
        let retention = Retention { size_bytes: 1_000_000, drop_unsettled, ..Retention::default() };
        let journal = keeping(folder.path(), retention);
        let mut subscription = subscribe(&journal, "c").await;
        for number in 0..600 {
            publish(&journal, message_of(number, 2_000)).await.unwrap();
        }
        if drop_unsettled {
            eventually("retention", || count(folder.path()) < 400).await;
            let first = take(&mut *subscription, 1).await.remove(0);
            assert!(first.sequence() > 1 || journal.status().unwrap().consumers[0].floor > 0);
            assert!(count(folder.path()) > 0);
            drop(first);
            // None of what is gone had been settled.
            let gone = || 600 - u64::try_from(count(folder.path())).unwrap();
            let dropped = || journal.dropped_unsettled().get("c").copied().unwrap_or_default();
            eventually("what was dropped is counted", || dropped() == gone()).await;
        } else {
            tokio::time::sleep(Duration::from_millis(1_200)).await;
            assert_eq!(count(folder.path()), 600);
        }
    }
}

#[tokio::test]
async fn no_event_goes_for_the_room_of_dead_letters() {
    let folder = folder();
    // Each takes a page, of 4 KiB.
    let retention = Retention { size_bytes: 2_300_000, ..Retention::default() };
    let journal = keeping(folder.path(), retention.clone());
    let mut subscription = subscribe(&journal, "c").await;
    for number in 0..400 {
        publish(&journal, message_of(number, 2_000)).await.unwrap();
    }
    for delivery in take(&mut *subscription, 400).await {
        delivery.dead_letter("never").await.unwrap();
    }
    assert!(Reader::open(folder.path()).unwrap().size_bytes() > retention.size_bytes, "with the dead letters");
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(count(folder.path()), 400, "the events alone are small enough");
    for number in 400..800 {
        publish(&journal, message_of(number, 2_000)).await.unwrap();
    }
    for delivery in take(&mut *subscription, 400).await {
        delivery.ack().await.unwrap();
    }
    eventually("retention", || count(folder.path()) < 750).await;
    assert!(count(folder.path()) > 0);
}

#[tokio::test]
async fn what_stays_beyond_its_retention_is_told_with_whose_it_is() {
    let folder = folder();
    let journal = keeping(folder.path(), Retention { age: Duration::ZERO, ..Retention::default() });
    let (mut stuck, mut quick) = (subscribe(&journal, "stuck").await, subscribe(&journal, "quick").await);
    publish_all(&journal, 0..3).await;
    for delivery in take(&mut *quick, 3).await {
        delivery.ack().await.unwrap();
    }
    let mut held = take(&mut *stuck, 3).await;
    eventually("it is told", || journal.overdue().is_some()).await;
    let overdue = journal.overdue().unwrap();
    assert_eq!(overdue.consumers, ["stuck"]);
    assert!(overdue.to_string().contains("since consumer stuck has not settled them: the oldest is "), "{overdue}");
    // So it is with one that waits for another attempt, while others come and go.
    held.remove(0).retry(Duration::from_secs(60), "later").await.unwrap();
    for delivery in held {
        delivery.ack().await.unwrap();
    }
    eventually("the others go", || count(folder.path()) == 1).await;
    assert_eq!(journal.overdue().unwrap().consumers, ["stuck"]);
    journal.execute("UPDATE retry SET due_at = 0").await;
    drop(stuck);
    let mut stuck = subscribe(&journal, "stuck").await;
    take(&mut *stuck, 1).await.remove(0).ack().await.unwrap();
    eventually("all is well", || journal.overdue().is_none()).await;
    assert_eq!(count(folder.path()), 0);
}

#[tokio::test]
async fn no_sequence_is_used_twice() {
    let folder = folder();
    let journal = keeping(folder.path(), Retention { age: Duration::ZERO, ..Retention::default() });
    publish_all(&journal, 0..3).await;
    eventually("retention", || count(folder.path()) == 0).await;
    journal.close().await;
    let journal = open(folder.path());
    assert_eq!(publish(&journal, message(9)).await.unwrap(), Receipt::Stored);
    assert_eq!(journal.status().unwrap().last_sequence, 4);
    let mut subscription = subscribe(&journal, "c").await;
    assert_eq!(take(&mut *subscription, 1).await[0].sequence(), 4);
}

#[tokio::test]
async fn a_consumer_in_order_costs_one_row() {
    let folder = folder();
    let journal = open(folder.path());
    publish_all(&journal, 0..50).await;
    let mut subscription = subscribe(&journal, "c").await;
    let deliveries = take(&mut *subscription, 50).await;
    let acks = deliveries.into_iter().map(upcall_bus::Delivery::ack);
    assert!(futures_util::future::join_all(acks).await.iter().all(Result::is_ok));
    let db = rusqlite::Connection::open(folder.path().join("journal.db")).unwrap();
    let rows = "SELECT (SELECT count(*) FROM settled) + (SELECT count(*) FROM retry), (SELECT floor FROM consumer)";
    let (exceptions, floor): (u64, u64) = db.query_row(rows, (), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!((exceptions, floor), (0, 50));
}

#[tokio::test]
async fn a_filter_that_selects_nothing_holds_nothing_back() {
    let folder = folder();
    let journal = open(folder.path());
    let spec = upcall_bus::ConsumerSpec {
        name: "c".parse().unwrap(),
        filter: "other.>".parse().unwrap(),
        start: upcall_bus::Start::Oldest,
    };
    let mut subscription = upcall_bus::Bus::subscribe(&journal, &spec).await.unwrap();
    let reading = tokio::spawn(async move { subscription.next(1).await.map(drop) });
    publish_all(&journal, 0..10).await;
    eventually("a raised floor", || journal.status().unwrap().consumers[0].lag == 0).await;
    reading.abort();
}
