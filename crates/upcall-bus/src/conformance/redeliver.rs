//! What operators may rely on when they give past events to a consumer again.

use std::time::Duration;

use super::{
    Harness, ack, ack_all, answer, consumer, consumer_of, number, numbers, publish_all, stored, subscribe, take,
    take_one,
};
use crate::{Archive, ConsumerName, Delivery, Start, StoredEvent, Subscription};

/// What is given again comes to one consumer, beside its other events, each with its own place and as a first attempt.
pub async fn a_replay_comes_to_one_consumer_beside_its_events<H: Harness>(harness: H) {
    let (bus, archive) = (harness.bus(), harness.archive());
    publish_all(&*bus, 0..20).await;
    let events = stored(&*archive, 20).await;
    let mut one = subscribe(&*bus, &consumer_of("one", ">", Start::New)).await;
    let mut two = subscribe(&*bus, &consumer_of("two", ">", Start::New)).await;
    give(&*archive, "one", "again", &events[5..15]).await;
    publish_all(&*bus, [20, 21]).await;
    let mut came = take(&mut *one, 12).await;
    came.sort_by_key(Delivery::sequence);
    assert_eq!(numbers(&came), [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 20, 21]);
    for (delivery, event) in came.iter().zip(&events[5..15]) {
        assert_eq!((delivery.sequence(), delivery.attempt()), (event.sequence, 1));
        assert_eq!((delivery.subject(), delivery.event()), (&event.subject, &event.event));
    }
    ack_all(came).await;
    let came = take(&mut *two, 2).await;
    assert_eq!(numbers(&came), [20, 21]);
    ack_all(came).await;
    for (name, subscription) in [("one", &mut one), ("two", &mut two)] {
        the_last_comes(&*archive, name, &mut **subscription, &events[0]).await;
    }
}

/// A replay that is resumed gives what it has not given, and says how much that is: nothing comes twice under one name, also where it has been
/// settled, and another name gives it again.
pub async fn a_replay_that_is_resumed_gives_nothing_twice<H: Harness>(harness: H) {
    let (bus, archive) = (harness.bus(), harness.archive());
    publish_all(&*bus, 0..10).await;
    let events = stored(&*archive, 10).await;
    let mut one = subscribe(&*bus, &consumer_of("one", ">", Start::New)).await;
    let mut two = subscribe(&*bus, &consumer_of("two", ">", Start::New)).await;
    assert_eq!(give(&*archive, "one", "replay", &events[4..7]).await, 3);
    let held = take(&mut *one, 3).await;
    assert_eq!(numbers(&held), [4, 5, 6]);
    // Once with those that are held, once with those that are settled; and earlier ones after later ones.
    assert_eq!(give(&*archive, "one", "replay", &events[..8]).await, 5);
    ack_all(held).await;
    assert_eq!(give(&*archive, "one", "replay", &events).await, 2);
    assert_eq!(give(&*archive, "one", "replay", &events).await, 0);
    let mut came = take(&mut *one, 7).await;
    came.sort_by_key(Delivery::sequence);
    assert_eq!(numbers(&came), [0, 1, 2, 3, 7, 8, 9]);
    ack_all(came).await;
    the_last_comes(&*archive, "one", &mut *one, &events[3]).await;
    // The other consumer, and another name, know nothing of it.
    give(&*archive, "two", "replay", &events[2..4]).await;
    assert_eq!(give(&*archive, "two", "another replay: since 10:00", &events[2..4]).await, 2);
    let came = take(&mut *two, 4).await;
    let mut came_numbers = numbers(&came);
    came_numbers.sort_unstable();
    assert_eq!(came_numbers, [2, 2, 3, 3]);
    ack_all(came).await;
    the_last_comes(&*archive, "two", &mut *two, &events[9]).await;
}

/// An event that is given again while the consumer holds it is settled on its own, each time.
pub async fn a_replay_of_an_unsettled_event_is_settled_on_its_own<H: Harness>(harness: H) {
    let (bus, archive) = (harness.bus(), harness.archive());
    publish_all(&*bus, [1]).await;
    let events = stored(&*archive, 1).await;
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    let ordinary = take_one(&mut *subscription).await;
    give(&*archive, "c", "replay", &events).await;
    let given = take_one(&mut *subscription).await;
    assert_eq!((given.sequence(), given.attempt()), (ordinary.sequence(), 1));
    given.retry(Duration::ZERO, "once").await.expect("taken");
    ack(ordinary).await;
    let given = take_one(&mut *subscription).await;
    assert_eq!((number(&given), given.attempt()), (1, 2));
    ack(given).await;
    the_last_comes(&*archive, "c", &mut *subscription, &events[0]).await;
}

/// After a crash exactly what was given and not settled comes again, with its attempts; what had been given under a
/// replay's name still counts as given.
pub async fn redeliveries_survive_a_crash<H: Harness>(mut harness: H) {
    let bus = harness.bus();
    publish_all(&*bus, 0..6).await;
    let events = stored(&*harness.archive(), 6).await;
    let mut subscription = subscribe(&*bus, &consumer_of("c", ">", Start::New)).await;
    give(&*harness.archive(), "c", "replay", &events).await;
    let mut held = Vec::new();
    for delivery in take(&mut *subscription, 5).await {
        match number(&delivery) {
            0 | 3 => ack(delivery).await,
            1 => delivery.retry(Duration::from_millis(20), "once").await.expect("taken"),
            _ => held.push(delivery),
        }
    }
    harness.crash().await;
    drop((held, subscription, bus));
    let bus = harness.bus();
    give(&*harness.archive(), "c", "replay", &events).await;
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    let mut came = take(&mut *subscription, 4).await;
    came.sort_by_key(Delivery::sequence);
    assert_eq!(numbers(&came), [1, 2, 4, 5]);
    assert!(came.iter().all(|delivery| delivery.attempt() == if number(delivery) == 1 { 2 } else { 1 }), "{came:?}");
    ack_all(came).await;
    harness.crash().await;
    let mut subscription = subscribe(&*harness.bus(), &consumer("c")).await;
    the_last_comes(&*harness.archive(), "c", &mut *subscription, &events[0]).await;
}

/// Returns how many were given.
async fn give(archive: &dyn Archive, name: &str, replay: &str, events: &[StoredEvent]) -> u64 {
    let name: ConsumerName = name.parse().expect("a name");
    answer(archive.redeliver(&name, replay, events)).await
}

/// Gives a consumer one more event: whatever it had been given before comes before that.
pub(super) async fn the_last_comes(
    archive: &dyn Archive,
    name: &str,
    subscription: &mut dyn Subscription,
    event: &StoredEvent,
) {
    give(archive, name, "the last", std::slice::from_ref(event)).await;
    let delivery = take_one(subscription).await;
    assert_eq!((delivery.sequence(), delivery.attempt()), (event.sequence, 1), "{delivery:?}");
    ack(delivery).await;
    super::nothing_comes(subscription).await;
}
