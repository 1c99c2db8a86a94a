//! What publishers may rely on.

use std::time::{Duration, Instant};

use super::{
    Harness, PATIENCE, ack_all, consumer, message, nothing_comes, publish, publish_all, subscribe, take, take_one,
};
use crate::{Deadline, PublishErrorKind, Receipt};

/// An event that is new is `Stored`, the same again is a `Duplicate`, and one delivery comes of it.
pub async fn a_new_event_is_stored_and_a_known_one_is_a_duplicate<H: Harness>(harness: H) {
    let bus = harness.bus();
    assert_eq!(publish(&*bus, message(1)).await, Receipt::Stored);
    assert_eq!(publish(&*bus, message(1)).await, Receipt::Duplicate);
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    let delivery = take_one(&mut *subscription).await;
    assert_eq!(delivery.event(), &message(1).event);
    assert_eq!(delivery.subject(), &message(1).subject);
    nothing_comes(&mut *subscription).await;
}

/// A different event under a known id changes nothing.
pub async fn of_two_events_with_one_id_the_first_stays<H: Harness>(harness: H) {
    let bus = harness.bus();
    let (first, mut second) = (message(1), message(2));
    second.event.id = first.event.id;
    assert_eq!(publish(&*bus, first.clone()).await, Receipt::Stored);
    assert_eq!(publish(&*bus, second).await, Receipt::Duplicate);
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    let delivery = take_one(&mut *subscription).await;
    assert_eq!(delivery.event(), &first.event);
    nothing_comes(&mut *subscription).await;
}

/// However many publish an id at once, exactly one is told `Stored`.
pub async fn of_many_publishers_of_one_id_one_stores_it<H: Harness>(harness: H) {
    let bus = harness.bus();
    for number in 0..8 {
        let publishers: Vec<_> = (0..16)
            .map(|_| {
                let bus = bus.clone();
                tokio::spawn(async move { publish(&*bus, message(number)).await })
            })
            .collect();
        let mut stored = 0;
        for publisher in publishers {
            stored += usize::from(publisher.await.expect("no panic") == Receipt::Stored);
        }
        assert_eq!(stored, 1, "of event {number}");
    }
}

/// After its deadline an event is refused as late, and is not there.
pub async fn a_deadline_that_has_passed_stores_nothing<H: Harness>(harness: H) {
    let bus = harness.bus();
    let error = bus.publish(message(1), Deadline::after(Duration::ZERO)).await.expect_err("too late");
    assert_eq!(error.kind, PublishErrorKind::Timeout);
    publish_all(&*bus, [2]).await;
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    assert_eq!(take_one(&mut *subscription).await.event(), &message(2).event);
}

/// An event of hundreds of kilobytes is an event.
pub async fn large_events_come_through<H: Harness>(harness: H) {
    let bus = harness.bus();
    let mut large = message(1);
    large.event.data.vars.insert("large".to_owned(), "ä\"\n".repeat(100_000));
    assert_eq!(publish(&*bus, large.clone()).await, Receipt::Stored);
    publish_all(&*bus, [2]).await;
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    let deliveries = take(&mut *subscription, 2).await;
    assert!(deliveries[0].event() == &large.event, "it came through changed");
    ack_all(deliveries).await;
}

/// Somebody who settles nothing does not slow publishing down to a halt.
pub async fn a_slow_consumer_does_not_hold_publishers_up<H: Harness>(harness: H) {
    let bus = harness.bus();
    let mut slow = subscribe(&*bus, &consumer("slow")).await;
    publish_all(&*bus, [0]).await;
    let held = take_one(&mut *slow).await;
    let started = Instant::now();
    publish_all(&*bus, 1..=200).await;
    assert!(started.elapsed() < PATIENCE);
    ack_all(vec![held]).await;
    assert_eq!(take(&mut *slow, 200).await.len(), 200);
}
