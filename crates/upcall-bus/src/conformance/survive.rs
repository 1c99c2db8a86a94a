//! What a crash leaves.

use std::time::Duration;

use super::{
    Harness, ack, ack_all, consumer, message, nothing_comes, number, numbers, publish, publish_all, subscribe, take,
    take_one,
};
use crate::Receipt;

/// Whatever a publisher was told is there after a crash, and is recognised.
pub async fn what_was_published_survives<H: Harness>(mut harness: H) {
    for round in 0..3 {
        publish_all(&*harness.bus(), round * 10..round * 10 + 10).await;
        harness.crash().await;
        let bus = harness.bus();
        for number in 0..(round + 1) * 10 {
            assert_eq!(publish(&*bus, message(number)).await, Receipt::Duplicate, "{number}");
        }
    }
    let mut subscription = subscribe(&*harness.bus(), &consumer("c")).await;
    assert_eq!(numbers(&take(&mut *subscription, 30).await), (0..30).collect::<Vec<_>>());
}

/// After a crash exactly what was not settled comes again.
pub async fn a_crash_loses_no_settlement_and_no_event<H: Harness>(mut harness: H) {
    let bus = harness.bus();
    publish_all(&*bus, 0..10).await;
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    let deliveries = take(&mut *subscription, 8).await;
    let mut held = Vec::new();
    for delivery in deliveries {
        match number(&delivery) {
            0 | 1 | 5 => ack(delivery).await,
            3 => delivery.dead_letter("never").await.expect("taken"),
            _ => held.push(delivery),
        }
    }
    harness.crash().await;
    drop((held, subscription, bus));
    let bus = harness.bus();
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    let again = take(&mut *subscription, 6).await;
    // What is delivered once more may come behind what is delivered for the first time.
    let mut come = numbers(&again);
    come.sort_unstable();
    assert_eq!(come, [2, 4, 6, 7, 8, 9]);
    ack_all(again).await;
    nothing_comes(&mut *subscription).await;
}

/// The number of attempts, and the wait for the next one, survive a crash.
pub async fn attempts_survive_a_crash<H: Harness>(mut harness: H) {
    publish_all(&*harness.bus(), [1, 2]).await;
    for attempt in 1..=3 {
        let bus = harness.bus();
        let mut subscription = subscribe(&*bus, &consumer("c")).await;
        let delivery = take_one(&mut *subscription).await;
        assert_eq!((number(&delivery), delivery.attempt()), (1, attempt));
        delivery.retry(Duration::from_millis(20), "again").await.expect("taken");
        if attempt == 1 {
            ack(take_one(&mut *subscription).await).await;
        }
        harness.crash().await;
    }
}
