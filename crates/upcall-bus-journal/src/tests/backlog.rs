use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::timeout;
use upcall_bus::SubscribeErrorKind;
use upcall_event::Event;

use super::{PATIENCE, eventually, folder, message, message_of, open, publish, publish_all, subscribe};
use crate::{Backlog, Journal, Options, Reader, Retention};

async fn backlog(journal: &Journal) -> Backlog {
    journal.backlog(&"relay".parse().unwrap()).await.unwrap()
}

async fn sequences(backlog: &mut Backlog, after: u64, max: usize) -> Vec<u64> {
    backlog.read(after, max).await.unwrap().iter().map(|event| event.sequence).collect()
}

#[tokio::test]
async fn a_backlog_reads_what_was_published_any_number_of_times_in_its_order() {
    let folder = folder();
    let journal = open(folder.path());
    publish_all(&journal, 0..10).await;
    let mut backlog = backlog(&journal).await;
    for _ in 0..2 {
        let events = backlog.read(3, 100).await.unwrap();
        assert_eq!(events.len(), 7);
        for (event, number) in events.iter().zip(3..) {
            let message = message(number);
            assert_eq!(event.sequence, number + 1);
            assert_eq!((event.id, &*event.subject), (message.event.id, message.subject.as_str()));
            assert_eq!(Event::from_structured(event.payload.as_bytes()).unwrap(), message.event);
            assert!(event.stored_at_ms > 0);
        }
    }
    assert_eq!(sequences(&mut backlog, 0, 2).await, [1, 2]);
    assert!(backlog.read(10, 100).await.unwrap().is_empty());
    assert_eq!((backlog.floor(), backlog.last()), (0, 10));
}

#[tokio::test]
async fn what_was_released_stays_released_and_reads_go_on_across_a_reopen() {
    let folder = folder();
    let journal = open(folder.path());
    publish_all(&journal, 0..10).await;
    let mut first = backlog(&journal).await;
    first.release(4).await.unwrap();
    first.release(2).await.unwrap();
    assert_eq!(first.floor(), 4, "a floor never sinks");
    first.release(99).await.unwrap();
    assert_eq!(first.floor(), 10, "what is yet to come can't be released");
    publish_all(&journal, 10..13).await;
    journal.close().await;
    assert!(first.release(11).await.is_err());
    drop((first, journal));

    let journal = open(folder.path());
    let mut again = backlog(&journal).await;
    assert_eq!((again.floor(), again.last()), (10, 13));
    let floor = again.floor();
    assert_eq!(sequences(&mut again, floor, 100).await, [11, 12, 13]);
}

#[tokio::test]
async fn retention_keeps_what_is_not_released_and_status_tells_how_much_that_is() {
    let folder = folder();
    let retention = Retention { age: Duration::ZERO, ..Retention::default() };
    let journal = Journal::open(Options { retention, ..Options::new(folder.path()) }).unwrap();
    let mut backlog = backlog(&journal).await;
    publish_all(&journal, 0..20).await;
    let consumer = |journal: &Journal| journal.status().unwrap().consumers.remove(0);
    assert_eq!((&*consumer(&journal).name, consumer(&journal).lag), ("relay", 20));
    assert!(consumer(&journal).oldest_unsettled.is_some());

    backlog.release(15).await.unwrap();
    let oldest = || {
        let page = Reader::open(folder.path()).unwrap().events(0, &">".parse().unwrap(), 1).unwrap();
        page.events[0].sequence
    };
    eventually("retention", || oldest() == 16).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(sequences(&mut backlog, 0, 100).await, [16, 17, 18, 19, 20]);
    assert_eq!(consumer(&journal).lag, 5);
}

#[tokio::test]
async fn a_backlogs_name_is_in_use_while_it_is_open() {
    let folder = folder();
    let journal = open(folder.path());
    let name = "relay".parse().unwrap();
    let first = backlog(&journal).await;
    assert_eq!(journal.backlog(&name).await.unwrap_err().kind, SubscribeErrorKind::InUse);
    drop(first);
    let subscription = subscribe(&journal, "relay").await;
    assert_eq!(journal.backlog(&name).await.unwrap_err().kind, SubscribeErrorKind::InUse);
    drop(subscription);
    backlog(&journal).await;
}

#[tokio::test]
async fn a_backlog_is_told_of_news_and_of_the_end() {
    let folder = folder();
    let journal = open(folder.path());
    let mut backlog = backlog(&journal).await;
    publish_all(&journal, 0..2).await;
    timeout(PATIENCE, backlog.grown(1)).await.expect("what is there is news");
    assert!(timeout(Duration::from_millis(50), backlog.grown(2)).await.is_err(), "there is no news");
    let publishing = publish(&journal, message(2));
    let (published, told) = tokio::join!(publishing, timeout(PATIENCE, backlog.grown(2)));
    assert!(published.is_ok() && told.is_ok());
    let closing = journal.close();
    let ((), told) = tokio::join!(closing, timeout(PATIENCE, backlog.grown(3)));
    told.expect("the end is told");
}

#[tokio::test]
async fn one_read_is_bounded_in_bytes_and_gives_at_least_one_event() {
    let folder = folder();
    let journal = open(folder.path());
    publish(&journal, message_of(0, 6 << 20)).await.unwrap();
    for number in 1..8 {
        publish(&journal, message_of(number, 1 << 20)).await.unwrap();
    }
    let mut backlog = backlog(&journal).await;
    assert_eq!(sequences(&mut backlog, 0, 100).await, [1]);
    let next = sequences(&mut backlog, 1, 100).await;
    assert_eq!(next, [2, 3, 4, 5], "4 MiB and what crosses them");
    assert_eq!(sequences(&mut backlog, 5, 100).await, [6, 7, 8]);
}

#[tokio::test]
async fn a_read_that_was_given_up_loses_nothing() {
    let folder = folder();
    let journal = open(folder.path());
    publish_all(&journal, 0..50).await;
    let mut backlog = backlog(&journal).await;
    // A read may be done before it is looked at; most are not.
    let given_up = (0..48).cycle().take(10_000).filter(|after| backlog.read(*after, 1).now_or_never().is_none());
    assert_eq!(given_up.take(20).count(), 20, "too few were given up");
    assert_eq!(sequences(&mut backlog, 48, 10).await, [49, 50]);
}
