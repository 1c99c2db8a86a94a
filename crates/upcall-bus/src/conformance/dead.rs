//! What operators see of dead letters, and do with them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    Harness, ack, ack_all, answer, consumer, dead_letters, message_on, next, nothing_comes, number, numbers, publish,
    publish_all, stored, subscribe, take, take_one,
};
use crate::{Archive, DeadLetter, Subscription};

/// How far a bus's clock may be from ours.
const CLOCKS_APART: SignedDuration = SignedDuration::from_secs(1);
/// A number that no dead letter has.
const UNKNOWN: u64 = 1 << 40;

/// A dead letter says who could not take what, why, after how many attempts, and when.
pub async fn a_dead_letter_tells_what_died_and_why<H: Harness>(harness: H) {
    let (bus, archive) = (harness.bus(), harness.archive());
    let began = Timestamp::now();
    assert_eq!(dead_letters(&*archive, 0).await, []);
    let message = message_on(1, "upcall.uploads.b.PostObject");
    publish(&*bus, message.clone()).await;
    for (name, attempts) in [("one", 3), ("two", 1)] {
        let mut subscription = subscribe(&*bus, &consumer(name)).await;
        for _ in 1..attempts {
            take_one(&mut *subscription).await.retry(Duration::ZERO, "not yet").await.expect("taken");
        }
        let delivery = take_one(&mut *subscription).await;
        delivery.dead_letter(format!("{name}: no such table")).await.expect("taken");
    }
    let letters = dead_letters(&*archive, 2).await;
    let event = stored(&*archive, 1).await.remove(0);
    let (earliest, latest) = (began - CLOCKS_APART, Timestamp::now() + CLOCKS_APART);
    for (letter, (name, attempts)) in letters.iter().zip([("one", 3), ("two", 1)]) {
        assert_eq!((letter.consumer.as_str(), letter.attempts), (name, attempts));
        assert_eq!(letter.reason, format!("{name}: no such table"));
        assert_eq!(letter.stored, event);
        assert_eq!((&letter.stored.subject, &letter.stored.event), (&message.subject, &message.event));
        assert!((earliest..=latest).contains(&letter.died_at), "{}", letter.died_at);
    }
    assert!(letters[0].number < letters[1].number);
    assert_eq!(answer(archive.dead_letters(0, 1)).await, letters[..1]);
    assert_eq!(answer(archive.dead_letters(letters[0].number, 10)).await, letters[1..]);
    assert_eq!(answer(archive.dead_letters(letters[1].number, 10)).await, []);
}

/// A dead letter that is retried comes to its consumer as at the first time, also where a subscription waits at that
/// moment, and to nobody else. It is no dead letter any more.
pub async fn a_retried_dead_letter_comes_to_its_consumer_only<H: Harness>(harness: H) {
    let (bus, archive) = (harness.bus(), harness.archive());
    let mut two = subscribe(&*bus, &consumer("two")).await;
    for round in 0..3 {
        publish_all(&*bus, [round]).await;
        ack(take_one(&mut *two).await).await;
        let mut one = subscribe(&*bus, &consumer("one")).await;
        let letter = die(&*archive, &mut *one, 2).await;
        let waiting = tokio::spawn(async move {
            let delivery = take_one(&mut *one).await;
            (delivery, one)
        });
        assert!(answer(archive.retry_dead_letter(letter.number)).await);
        let (delivery, mut one) = waiting.await.expect("no panic");
        assert_eq!((delivery.attempt(), delivery.sequence()), (1, letter.stored.sequence));
        assert_eq!((delivery.subject(), delivery.event()), (&letter.stored.subject, &letter.stored.event));
        ack(delivery).await;
        dead_letters(&*archive, 0).await;
        nothing_comes(&mut *one).await;
    }
    // Whatever was given to the other before this comes before it.
    let last = stored(&*archive, 3).await.remove(2);
    answer(archive.redeliver(&"two".parse().expect("a name"), "last", &[last])).await;
    let came = next(&mut *two, 9).await;
    assert_eq!(numbers(&came), [2]);
    ack_all(came).await;
}

/// What is given again is settled as any delivery is: it waits for a retry, is handed back, dropped, and may die again,
/// while other events come beside it.
pub async fn a_retried_dead_letter_may_die_again<H: Harness>(harness: H) {
    const DELAY: Duration = Duration::from_millis(300);
    let (bus, archive) = (harness.bus(), harness.archive());
    publish_all(&*bus, [1]).await;
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    let first = die(&*archive, &mut *subscription, 1).await;
    assert!(answer(archive.retry_dead_letter(first.number)).await);
    let delivery = take_one(&mut *subscription).await;
    let began = std::time::Instant::now();
    delivery.retry(DELAY, "not now").await.expect("taken");
    publish_all(&*bus, [2]).await;
    let other = take_one(&mut *subscription).await;
    assert_eq!((number(&other), other.attempt()), (2, 1));
    ack(other).await;
    let delivery = take_one(&mut *subscription).await;
    assert!(began.elapsed() >= DELAY, "after {:?}", began.elapsed());
    assert_eq!((number(&delivery), delivery.attempt()), (1, 2));
    drop(delivery);
    for _ in 0..2 {
        let delivery = take_one(&mut *subscription).await;
        assert_eq!((number(&delivery), delivery.attempt()), (1, 2));
        delivery.hand_back().await.expect("taken");
    }
    let again = die(&*archive, &mut *subscription, 1).await;
    assert_eq!((again.attempts, &again.stored, &again.consumer), (2, &first.stored, &first.consumer));
    assert!(again.number != first.number && again.died_at >= first.died_at, "{again:?} after {first:?}");
    assert!(!answer(archive.retry_dead_letter(first.number)).await, "that one is no more");
    assert!(answer(archive.retry_dead_letter(again.number)).await);
    let delivery = take_one(&mut *subscription).await;
    assert_eq!((number(&delivery), delivery.attempt()), (1, 1));
    ack(delivery).await;
    drop(subscription);
    nothing_comes(&mut *subscribe(&*bus, &consumer("c")).await).await;
}

/// A dead letter that is dropped is gone for good, alone; a number that is none is told.
pub async fn a_dropped_dead_letter_is_gone<H: Harness>(harness: H) {
    let (bus, archive) = (harness.bus(), harness.archive());
    publish_all(&*bus, 0..3).await;
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    for delivery in take(&mut *subscription, 3).await {
        delivery.dead_letter("never").await.expect("taken");
    }
    let letters = dead_letters(&*archive, 3).await;
    assert!(answer(archive.drop_dead_letter(letters[1].number)).await);
    assert_eq!(dead_letters(&*archive, 2).await, [letters[0].clone(), letters[2].clone()]);
    for number in [letters[1].number, UNKNOWN] {
        assert!(!answer(archive.drop_dead_letter(number)).await, "{number} is unknown");
        assert!(!answer(archive.retry_dead_letter(number)).await, "{number} is unknown");
    }
    for number in [letters[0].number, letters[2].number] {
        assert!(answer(archive.retry_dead_letter(number)).await);
        assert!(!answer(archive.drop_dead_letter(number)).await, "{number} was given again");
    }
    let came = take(&mut *subscription, 2).await;
    assert_eq!(numbers(&came), [0, 2]);
    ack_all(came).await;
    nothing_comes(&mut *subscription).await;
}

/// However many retry a dead letter at once, it is given once.
pub async fn several_who_retry_one_dead_letter_give_it_once<H: Harness>(harness: H) {
    const AT_ONCE: usize = 4;
    let (bus, archive) = (harness.bus(), harness.archive());
    let mut subscription = subscribe(&*bus, &consumer("c")).await;
    for round in 0..5 {
        publish_all(&*bus, [round]).await;
        let letter = die(&*archive, &mut *subscription, 1).await;
        let retries: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let archive = harness.archive();
                tokio::spawn(async move { answer(archive.retry_dead_letter(letter.number)).await })
            })
            .collect();
        let mut given = 0;
        for retry in retries {
            given += usize::from(retry.await.expect("no panic"));
        }
        assert_eq!(given, 1, "so many say that they have given it");
        let delivery = take_one(&mut *subscription).await;
        assert_eq!((number(&delivery), delivery.attempt()), (round, 1));
        ack(delivery).await;
        dead_letters(&*archive, 0).await;
        nothing_comes(&mut *subscription).await;
    }
}

/// Dead letters, and what became of them, survive a crash.
pub async fn dead_letters_survive_a_crash<H: Harness>(mut harness: H) {
    publish_all(&*harness.bus(), 0..3).await;
    let mut subscription = subscribe(&*harness.bus(), &consumer("c")).await;
    for delivery in take(&mut *subscription, 3).await {
        delivery.dead_letter("never").await.expect("taken");
    }
    let letters = dead_letters(&*harness.archive(), 3).await;
    harness.crash().await;
    drop(subscription);
    assert_eq!(dead_letters(&*harness.archive(), 3).await, letters);
    assert!(answer(harness.archive().drop_dead_letter(letters[0].number)).await);
    assert!(answer(harness.archive().retry_dead_letter(letters[1].number)).await);
    harness.crash().await;
    assert_eq!(dead_letters(&*harness.archive(), 1).await, letters[2..]);
    let mut subscription = subscribe(&*harness.bus(), &consumer("c")).await;
    let delivery = take_one(&mut *subscription).await;
    assert_eq!((number(&delivery), delivery.attempt()), (1, 1));
    ack(delivery).await;
    nothing_comes(&mut *subscription).await;
}

/// Has the next event die at its `attempts`th attempt from now, as the only dead letter.
async fn die(archive: &dyn Archive, subscription: &mut dyn Subscription, attempts: u32) -> DeadLetter {
    for _ in 1..attempts {
        take_one(subscription).await.retry(Duration::ZERO, "not yet").await.expect("taken");
    }
    take_one(subscription).await.dead_letter("never").await.expect("taken");
    dead_letters(archive, 1).await.remove(0)
}
