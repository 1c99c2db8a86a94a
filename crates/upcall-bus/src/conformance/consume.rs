//! What consumers may rely on.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::{
    Harness, PATIENCE, QUIET, ack, ack_all, consumer, consumer_of, message_on, next, nothing_comes, number, numbers,
    publish, publish_all, subscribe, take, take_one,
};
use crate::{Settlement, Start, SubscribeErrorKind};

/// Longer than a harness lets its bus wait for a consumer's word.
const LONG: Duration = Duration::from_secs(3);

/// A consumer may take its time: what it holds, and what waits behind that, does not come twice.
pub async fn what_takes_long_comes_once<H: Harness>(harness: H) {
    let bus = harness.bus();
    publish_all(&*bus, [0]).await;
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    let mut taken = take(&mut *subscription, 1).await;
    publish_all(&*bus, 1..5).await;
    tokio::time::sleep(LONG).await;
    taken.extend(take(&mut *subscription, 4).await);
    assert_eq!(numbers(&taken), [0, 1, 2, 3, 4]);
    assert!(taken.iter().all(|delivery| delivery.attempt() == 1), "{taken:?}");
    ack_all(taken).await;
    nothing_comes(&mut *subscription).await;
    drop(subscription);
    nothing_comes(&mut *subscribe(&*bus, &consumer("c")).await).await;
}

/// Two consumers both get everything, and what they acked does not come again, also not to a new subscription.
pub async fn every_consumer_gets_every_event_once<H: Harness>(harness: H) {
    let bus = harness.bus();
    publish_all(&*bus, 0..10).await;
    for name in ["one", "two"] {
        let mut subscription = subscribe(&*bus, &consumer(name)).await;
        let deliveries = take(&mut *subscription, 10).await;
        assert_eq!(numbers(&deliveries), (0..10).collect::<Vec<_>>());
        assert!(deliveries.iter().all(|delivery| delivery.attempt() == 1));
        ack_all(deliveries).await;
        nothing_comes(&mut *subscription).await;
        drop(subscription);
        nothing_comes(&mut *subscribe(&*bus, &consumer(name)).await).await;
    }
}

/// Only subjects that the filter selects are delivered; others don't hold the consumer up.
pub async fn a_filter_selects<H: Harness>(harness: H) {
    let bus = harness.bus();
    for number in 0..30 {
        let subject = ["a.one.x", "a.two", "a.two.x"][usize::try_from(number % 3).unwrap_or_default()];
        publish(&*bus, message_on(number, subject)).await;
    }
    for (filter, kept) in [("a.*.x", [0, 2]), ("a.two.>", [2, 2]), ("a.>", [0, 1]), ("a.two", [1, 1])] {
        let wanted: Vec<u64> = match filter {
            "a.>" => (0..30).collect(),
            _ => (0..30).filter(|number| kept.contains(&(number % 3))).collect(),
        };
        let name = format!("c{}", filter.len() + filter.matches('*').count() * 10);
        let mut subscription = subscribe(&*bus, &consumer_of(&name, filter, Start::Oldest)).await;
        let deliveries = take(&mut *subscription, wanted.len()).await;
        assert_eq!(numbers(&deliveries), wanted, "{filter}");
        ack_all(deliveries).await;
        nothing_comes(&mut *subscription).await;
    }
}

/// First deliveries come in the order in which publishers were told that their events are stored.
pub async fn events_come_in_the_order_of_publishing<H: Harness>(harness: H) {
    let bus = harness.bus();
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    publish_all(&*bus, (0..100).rev()).await;
    let deliveries = take(&mut *subscription, 100).await;
    assert_eq!(numbers(&deliveries), (0..100).rev().collect::<Vec<_>>());
    assert!(deliveries.is_sorted_by(|a, b| a.sequence() < b.sequence()));
    ack_all(deliveries).await;
}

/// A subscription that has nothing to deliver waits, and goes on when something is published.
pub async fn a_subscription_waits_for_what_is_published_later<H: Harness>(harness: H) {
    let bus = harness.bus();
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    for round in 0..20 {
        // The wait that is given up here loses nothing.
        if round % 4 == 0 {
            nothing_comes(&mut *subscription).await;
        }
        let reading = tokio::spawn(async move {
            let delivery = take_one(&mut *subscription).await;
            (delivery, subscription)
        });
        publish_all(&*bus, [round]).await;
        let (delivery, reader) = reading.await.expect("no panic");
        assert_eq!(number(&delivery), round);
        ack(delivery).await;
        subscription = reader;
    }
}

/// Events may be settled in any order; exactly those that were not come again.
pub async fn acks_may_come_out_of_order<H: Harness>(harness: H) {
    let bus = harness.bus();
    publish_all(&*bus, 0..20).await;
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    let deliveries = take(&mut *subscription, 20).await;
    let (odd, even): (Vec<_>, Vec<_>) = deliveries.into_iter().rev().partition(|delivery| number(delivery) % 2 == 1);
    ack_all(odd).await;
    drop((even, subscription));
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    let again = take(&mut *subscription, 10).await;
    assert_eq!(numbers(&again), (0..20).step_by(2).collect::<Vec<_>>());
    ack_all(again).await;
    nothing_comes(&mut *subscription).await;
}

/// A retry comes no sooner than asked for, as the next attempt, and does not hold others up.
pub async fn a_retry_waits_its_delay_and_counts_the_attempt<H: Harness>(harness: H) {
    const DELAY: Duration = Duration::from_millis(300);
    let bus = harness.bus();
    publish_all(&*bus, [1, 2]).await;
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    let mut delivery = take_one(&mut *subscription).await;
    for attempt in 1..=3 {
        assert_eq!((number(&delivery), delivery.attempt()), (1, attempt));
        let started = Instant::now();
        delivery.retry(DELAY, "not now").await.expect("taken");
        if attempt == 1 {
            let other = take_one(&mut *subscription).await;
            assert_eq!((number(&other), other.attempt()), (2, 1));
            ack(other).await;
        }
        delivery = take_one(&mut *subscription).await;
        assert!(started.elapsed() >= DELAY, "after {:?}", started.elapsed());
    }
    assert_eq!(delivery.attempt(), 4);
    ack(delivery).await;
    nothing_comes(&mut *subscription).await;
}

/// A dead letter is settled, for this consumer only.
pub async fn a_dead_letter_is_not_delivered_again<H: Harness>(harness: H) {
    let bus = harness.bus();
    publish_all(&*bus, [1, 2]).await;
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    take_one(&mut *subscription).await.dead_letter("never").await.expect("taken");
    let delivery = take_one(&mut *subscription).await;
    assert_eq!(number(&delivery), 2);
    ack(delivery).await;
    drop(subscription);
    nothing_comes(&mut *subscribe(&*bus, &consumer("c")).await).await;
    assert_eq!(take(&mut *subscribe(&*bus, &consumer("other")).await, 2).await.len(), 2);
}

/// What is handed back comes again at once, and was no attempt.
pub async fn a_hand_back_comes_again_at_once_as_the_same_attempt<H: Harness>(harness: H) {
    let bus = harness.bus();
    publish_all(&*bus, [1]).await;
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    take_one(&mut *subscription).await.retry(Duration::ZERO, "once").await.expect("taken");
    for _ in 0..3 {
        let delivery = take_one(&mut *subscription).await;
        assert_eq!(delivery.attempt(), 2);
        delivery.hand_back().await.expect("taken");
    }
    ack(take_one(&mut *subscription).await).await;
    nothing_comes(&mut *subscription).await;
}

/// A delivery that is dropped is handed back.
pub async fn a_dropped_delivery_comes_again<H: Harness>(harness: H) {
    let bus = harness.bus();
    publish_all(&*bus, [1, 2]).await;
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    let deliveries = take(&mut *subscription, 2).await;
    drop(deliveries);
    let again = take(&mut *subscription, 2).await;
    assert_eq!(numbers(&again), [1, 2]);
    assert!(again.iter().all(|delivery| delivery.attempt() == 1));
    ack_all(again).await;
}

/// What was announced is settled as anything else is. Where it is dropped it may be settled or not, and is lost in
/// neither case.
pub async fn what_was_announced_is_settled_once<H: Harness>(harness: H) {
    let bus = harness.bus();
    publish_all(&*bus, 0..20).await;
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    let mut deliveries = take(&mut *subscription, 20).await;
    for delivery in &mut deliveries {
        delivery.announce(&Settlement::Ack);
    }
    let dropped = deliveries.split_off(10);
    ack_all(deliveries).await;
    drop(dropped);
    while let Ok(again) = timeout(QUIET, subscription.next(16)).await {
        let again = again.expect("deliveries");
        assert!(numbers(&again).iter().all(|number| *number >= 10), "{again:?} came");
        ack_all(again).await;
    }
    publish_all(&*bus, [20]).await;
    assert_eq!(number(&take_one(&mut *subscription).await), 20);
}

/// What a subscription held when it was dropped comes to the next one, also where the deliveries outlive it.
pub async fn a_dropped_subscription_gives_everything_back<H: Harness>(harness: H) {
    let bus = harness.bus();
    publish_all(&*bus, 0..6).await;
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    let mut held = take(&mut *subscription, 4).await;
    ack(held.remove(0)).await;
    drop(subscription);
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    let deliveries = take(&mut *subscription, 5).await;
    assert_eq!(numbers(&deliveries), [1, 2, 3, 4, 5]);
    drop(held);
    ack_all(deliveries).await;
    nothing_comes(&mut *subscription).await;
}

/// `Oldest` begins with all that is there, `New` with what comes; one that exists goes on where it was.
pub async fn new_consumers_begin_where_they_were_told<H: Harness>(harness: H) {
    let bus = harness.bus();
    publish_all(&*bus, [1, 2]).await;
    let mut oldest = subscribe(&*bus, &consumer_of("oldest", ">", Start::Oldest)).await;
    let mut new = subscribe(&*bus, &consumer_of("new", ">", Start::New)).await;
    nothing_comes(&mut *new).await;
    publish_all(&*bus, [3]).await;
    let delivery = take_one(&mut *new).await;
    assert_eq!(number(&delivery), 3);
    ack(delivery).await;
    ack_all(take(&mut *oldest, 3).await).await;
    drop((new, oldest));
    publish_all(&*bus, [4]).await;
    for name in ["new", "oldest"] {
        let mut subscription = subscribe(&*bus, &consumer_of(name, ">", Start::New)).await;
        assert_eq!(numbers(&next(&mut *subscription, 9).await), [4], "{name} goes on");
    }
}

/// A consumer is read by one subscription at a time, and is free again once that is dropped.
pub async fn a_consumer_that_is_being_read_is_in_use<H: Harness>(harness: H) {
    let bus = harness.bus();
    for _ in 0..5 {
        let subscription = subscribe(&*bus, &consumer("c")).await;
        let second = timeout(PATIENCE, bus.subscribe(&consumer("c"))).await.expect("an answer in time");
        assert_eq!(second.err().map(|error| error.kind), Some(SubscribeErrorKind::InUse));
        drop(subscription);
    }
}
