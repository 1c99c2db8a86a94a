//! The suite that every bus passes.
//!
//! A bus puts it into its own tests with [`conformance_tests!`](crate::conformance_tests) and
//! [`archive_conformance_tests!`](crate::archive_conformance_tests), which make a test of each property, and a
//! [`Harness`] that knows how to open and crash it.

mod consume;
mod dead;
mod model;
mod operate;
mod past;
mod publish;
mod quarantine;
mod redeliver;
mod survive;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::time::timeout;
use upcall_event::{BucketSource, Event, EventId, Origin, SubjectFilter, UploadCompleted};

use crate::{
    Archive, ArchiveError, Bus, ConsumerSpec, DeadLetter, Deadline, Delivery, Message, Quarantine, Receipt, Start,
    StoredEvent, Subscription,
};

pub use consume::{
    a_consumer_that_is_being_read_is_in_use, a_dead_letter_is_not_delivered_again, a_dropped_delivery_comes_again,
    a_dropped_subscription_gives_everything_back, a_filter_selects,
    a_hand_back_comes_again_at_once_as_the_same_attempt, a_retry_waits_its_delay_and_counts_the_attempt,
    a_subscription_waits_for_what_is_published_later, acks_may_come_out_of_order,
    events_come_in_the_order_of_publishing, every_consumer_gets_every_event_once,
    new_consumers_begin_where_they_were_told, what_takes_long_comes_once, what_was_announced_is_settled_once,
};
pub use dead::{
    a_dead_letter_tells_what_died_and_why, a_dropped_dead_letter_is_gone,
    a_retried_dead_letter_comes_to_its_consumer_only, a_retried_dead_letter_may_die_again,
    dead_letters_survive_a_crash, several_who_retry_one_dead_letter_give_it_once,
};
pub use model::any_run_of_operations_is_as_the_model_says;
pub use operate::any_run_of_an_operator_is_as_the_model_says;
pub use past::{
    a_moment_leads_to_the_events_since, consumers_are_known_by_name, past_events_are_what_was_published,
    past_events_come_in_pages_and_by_filter,
};
pub use publish::{
    a_deadline_that_has_passed_stores_nothing, a_new_event_is_stored_and_a_known_one_is_a_duplicate,
    a_slow_consumer_does_not_hold_publishers_up, large_events_come_through, of_many_publishers_of_one_id_one_stores_it,
    of_two_events_with_one_id_the_first_stays,
};
pub use quarantine::{
    a_dropped_rejected_callback_is_gone, a_rejected_callback_is_kept_as_it_was, rejected_callback,
    the_quarantine_survives_a_crash,
};
pub use redeliver::{
    a_replay_comes_to_one_consumer_beside_its_events, a_replay_of_an_unsettled_event_is_settled_on_its_own,
    a_replay_that_is_resumed_gives_nothing_twice, redeliveries_survive_a_crash,
};
pub use survive::{a_crash_loses_no_settlement_and_no_event, attempts_survive_a_crash, what_was_published_survives};

/// Makes a test of every property, for what an async function or closure without arguments makes: a [`Harness`].
#[macro_export]
macro_rules! conformance_tests {
    ($factory:expr) => {
        $crate::conformance_tests!(@each $factory;
            a_consumer_that_is_being_read_is_in_use,
            a_crash_loses_no_settlement_and_no_event,
            a_dead_letter_is_not_delivered_again,
            a_deadline_that_has_passed_stores_nothing,
            a_dropped_delivery_comes_again,
            a_dropped_subscription_gives_everything_back,
            a_filter_selects,
            a_hand_back_comes_again_at_once_as_the_same_attempt,
            a_new_event_is_stored_and_a_known_one_is_a_duplicate,
            a_retry_waits_its_delay_and_counts_the_attempt,
            a_slow_consumer_does_not_hold_publishers_up,
            a_subscription_waits_for_what_is_published_later,
            acks_may_come_out_of_order,
            any_run_of_operations_is_as_the_model_says,
            attempts_survive_a_crash,
            events_come_in_the_order_of_publishing,
            every_consumer_gets_every_event_once,
            large_events_come_through,
            new_consumers_begin_where_they_were_told,
            of_many_publishers_of_one_id_one_stores_it,
            of_two_events_with_one_id_the_first_stays,
            what_takes_long_comes_once,
            what_was_announced_is_settled_once,
            what_was_published_survives,
        );
    };
    (@each $factory:expr; $($property:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $property() {
                $crate::conformance::$property($factory().await).await;
            }
        )+
    };
}

/// The same for what operators do with a bus: a test of every property of its [`Archive`].
#[macro_export]
macro_rules! archive_conformance_tests {
    ($factory:expr) => {
        $crate::conformance_tests!(@each $factory;
            a_dead_letter_tells_what_died_and_why,
            a_dropped_dead_letter_is_gone,
            a_dropped_rejected_callback_is_gone,
            a_moment_leads_to_the_events_since,
            a_rejected_callback_is_kept_as_it_was,
            a_replay_comes_to_one_consumer_beside_its_events,
            a_replay_of_an_unsettled_event_is_settled_on_its_own,
            a_replay_that_is_resumed_gives_nothing_twice,
            a_retried_dead_letter_comes_to_its_consumer_only,
            a_retried_dead_letter_may_die_again,
            any_run_of_an_operator_is_as_the_model_says,
            consumers_are_known_by_name,
            dead_letters_survive_a_crash,
            past_events_are_what_was_published,
            past_events_come_in_pages_and_by_filter,
            redeliveries_survive_a_crash,
            several_who_retry_one_dead_letter_give_it_once,
            the_quarantine_survives_a_crash,
        );
    };
}

/// A bus under test, empty at first.
#[async_trait]
pub trait Harness: Send {
    /// The bus as it is now.
    fn bus(&self) -> Arc<dyn Bus>;

    /// What operators do with it, as from another process.
    fn archive(&self) -> Arc<dyn Archive>;

    /// Where it keeps rejected callbacks.
    fn quarantine(&self) -> Arc<dyn Quarantine>;

    /// Stops the bus without a farewell, as when its process is killed, and opens it anew over what it left.
    /// What was got from the old one is of no use any more.
    async fn crash(&mut self);
}

/// How long something may take that must come. Never reached unless the bus is at fault.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long is watched for what must not come.
const QUIET: Duration = Duration::from_millis(150);
/// How often is looked for a state that comes.
const POLL: Duration = Duration::from_millis(10);

/// An event of the suite's, for tests beside it.
#[must_use]
pub fn message(number: u64) -> Message {
    message_on(number, "upcall.uploads.a.PutObject")
}

fn message_on(number: u64, subject: &str) -> Message {
    let event = Event {
        id: EventId::from_request("examplebucket", "object", &number.to_string()),
        time: "2026-01-01T00:00:00.123456Z".parse().expect("a moment"),
        data: UploadCompleted {
            bucket: "examplebucket".into(),
            object: number.to_string(),
            etag: None,
            size: Some(number),
            mime_type: None,
            crc64: None,
            content_md5: None,
            image: None,
            operation: Some("PutObject".into()),
            request_id: Some(number.to_string()),
            client_ip: None,
            vpc_id: None,
            vars: [("name".to_owned(), "välue \0 🦀".to_owned())].into(),
            extra: [].into(),
            route: "conformance".into(),
            bucket_from: BucketSource::Body,
            proof: Vec::new(),
            origin: Origin::Callback,
        },
        trace: None,
    };
    Message { subject: subject.parse().expect("a subject"), event }
}

fn consumer(name: &str) -> ConsumerSpec {
    consumer_of(name, ">", Start::Oldest)
}

fn consumer_of(name: &str, filter: &str, start: Start) -> ConsumerSpec {
    ConsumerSpec { name: name.parse().expect("a name"), filter: filter.parse().expect("a filter"), start }
}

async fn publish(bus: &dyn Bus, message: Message) -> Receipt {
    bus.publish(message, Deadline::after(PATIENCE)).await.expect("published")
}

async fn publish_all(bus: &dyn Bus, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        assert_eq!(publish(bus, message(number)).await, Receipt::Stored, "{number}");
    }
}

/// Opens a consumer. One that was just dropped may still be giving itself up.
async fn subscribe(bus: &dyn Bus, spec: &ConsumerSpec) -> Box<dyn Subscription> {
    timeout(PATIENCE, bus.subscribe(spec)).await.expect("an answer in time").expect("a subscription")
}

async fn next(subscription: &mut dyn Subscription, max: usize) -> Vec<Delivery> {
    let deliveries = timeout(PATIENCE, subscription.next(max)).await.expect("deliveries in time").expect("deliveries");
    assert!((1..=max).contains(&deliveries.len()), "{} of at most {max} deliveries", deliveries.len());
    deliveries
}

/// Waits for exactly so many deliveries.
async fn take(subscription: &mut dyn Subscription, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.extend(next(subscription, count - taken.len()).await);
    }
    taken
}

async fn take_one(subscription: &mut dyn Subscription) -> Delivery {
    take(subscription, 1).await.pop().expect("one")
}

async fn nothing_comes(subscription: &mut dyn Subscription) {
    if let Ok(came) = timeout(QUIET, subscription.next(16)).await {
        panic!("{came:?} came");
    }
}

fn number(delivery: &Delivery) -> u64 {
    delivery.event().data.size.expect("our events have one")
}

fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(number).collect()
}

async fn ack(delivery: Delivery) {
    delivery.ack().await.expect("taken");
}

async fn ack_all(deliveries: Vec<Delivery>) {
    for delivery in deliveries {
        ack(delivery).await;
    }
}

/// What an archive answers, in time.
async fn answer<T>(asked: impl Future<Output = Result<T, ArchiveError>>) -> T {
    timeout(PATIENCE, asked).await.expect("an answer in time").expect("an answer")
}

/// Waits for what an archive says in the end: an answer may be a moment old.
async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < until, "{what} does not come");
        tokio::time::sleep(POLL).await;
    }
}

/// All events, once there are so many.
async fn stored(archive: &dyn Archive, count: usize) -> Vec<StoredEvent> {
    eventually("that many events", async || {
        let page = answer(archive.events(0, &SubjectFilter::default(), count + 1)).await;
        (page.events.len() == count).then_some(page.events)
    })
    .await
}

/// All dead letters, once there are exactly so many.
async fn dead_letters(archive: &dyn Archive, count: usize) -> Vec<DeadLetter> {
    eventually("that number of dead letters", async || {
        let letters = answer(archive.dead_letters(0, count + 1)).await;
        (letters.len() == count).then_some(letters)
    })
    .await
}
