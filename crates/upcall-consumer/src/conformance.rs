//! The suite that every sink passes.
//!
//! A sink's author puts it into the sink's own tests with [`conformance_tests!`](crate::conformance_tests), which makes
//! a test of each property, and a [`Target`]: something that the sink writes to, that the suite may break, and whose
//! effects it may look at.

mod fail;
mod once;
mod take;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout};
use upcall_event::{BucketSource, Event, EventId, Image, Origin, Proof, Subject, UploadCompleted};

use crate::{Item, Sink, Verdict};

pub use fail::{
    a_poisonous_event_fails_alone, a_sink_that_starts_before_its_target_waits_for_it, a_slow_target_loses_nothing,
    a_target_that_is_away_costs_no_event_and_is_found_again,
};
pub use once::{
    a_crash_between_effect_and_ack_has_no_second_effect, a_delivery_that_is_dropped_midway_may_come_again,
    an_event_delivered_twice_has_one_effect, an_event_twice_in_a_batch_has_one_effect,
};
pub use take::{
    an_objects_events_take_effect_in_their_order, any_event_arrives, batches_at_once_all_arrive,
    preparing_and_closing_do_no_harm,
};

/// Makes a test of every property, for what an async function or closure without arguments makes: a [`Target`].
#[macro_export]
macro_rules! conformance_tests {
    ($factory:expr) => {
        $crate::conformance_tests!(@each $factory;
            a_crash_between_effect_and_ack_has_no_second_effect,
            a_delivery_that_is_dropped_midway_may_come_again,
            a_poisonous_event_fails_alone,
            a_sink_that_starts_before_its_target_waits_for_it,
            a_slow_target_loses_nothing,
            a_target_that_is_away_costs_no_event_and_is_found_again,
            an_event_delivered_twice_has_one_effect,
            an_event_twice_in_a_batch_has_one_effect,
            an_objects_events_take_effect_in_their_order,
            any_event_arrives,
            batches_at_once_all_arrive,
            preparing_and_closing_do_no_harm,
        );
    };
    (@each $factory:expr; $($property:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $property() {
                $crate::conformance::$property(&$factory().await).await;
            }
        )+
    };
}

/// What a sink under test writes to; in order and empty at first.
///
/// The sinks that it makes should have short limits of their own (a second, not thirty), so that a target that is slow
/// or away does not hold the tests up: no call of a sink may take longer than 20 seconds.
#[async_trait]
pub trait Target: Send + Sync {
    /// A new sink over the target, as a process has that has just started.
    async fn sink(&self) -> Arc<dyn Sink>;

    /// The effects that the target shows: the id of the event of each, in the order in which they came about. An event
    /// that had two effects is there twice.
    async fn effects(&self) -> Vec<EventId>;

    /// What the target and its sink can do. A property about something that they can't do is passed over.
    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    /// Takes the target out of order: it refuses connections, or answers that it is not available.
    async fn stop(&self) {}

    /// Makes the target slow: slower than the sink has patience for, or nearly.
    async fn slow_down(&self) {}

    /// Has the target refuse this event, and no other, from now on.
    async fn refuse(&self, _event: &Event) {}

    /// Puts the target back in order: it is there, it is fast, and it refuses nothing. Its effects stay.
    async fn heal(&self) {}
}

/// What a target and its sink can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// An event has one effect however often it is delivered. Without it every event still has at least one: so it is
    /// with a target that is told an event's id and is itself to look whether it knows it.
    pub once: bool,
    /// The events of one object take effect in their order. Of several in one batch only the last has to.
    pub order: bool,
    /// The target can be away: [`Target::stop`].
    pub outage: bool,
    /// The target can be slow: [`Target::slow_down`].
    pub slow: bool,
    /// The target can refuse one event: [`Target::refuse`].
    pub poison: bool,
}

impl Default for Abilities {
    /// All of them.
    fn default() -> Self {
        Self { once: true, order: true, outage: true, slow: true, poison: true }
    }
}

/// An event as a bus delivers it.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// The event.
    pub event: Event,
    /// Its place on the bus.
    pub sequence: u64,
}

/// How long a call of a sink may take, and whatever must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often is looked for what must come.
const POLL: Duration = Duration::from_millis(20);

/// An event of the suite's, about an object of its own, for tests beside it. The number makes its id, and its place.
#[must_use]
pub fn upload(number: u64) -> Published {
    upload_of(number, &format!("users/42/{number}.jpg"))
}

/// The same, about an object of one's choice.
#[must_use]
pub fn upload_of(number: u64, object: &str) -> Published {
    let time = format!("2026-01-01T00:00:00.{number:06}Z");
    let data = UploadCompleted {
        bucket: "examplebucket".into(),
        object: object.into(),
        etag: Some(format!("ETAG{number}")),
        size: Some(1024),
        mime_type: Some("image/jpeg".into()),
        crc64: Some("17834398232350201234".into()),
        content_md5: None,
        image: Some(Image { width: Some(200), height: Some(278), format: Some("jpg".into()) }),
        operation: Some("PutObject".into()),
        request_id: Some(number.to_string()),
        client_ip: Some("203.0.113.7".into()),
        vpc_id: None,
        vars: [("user".to_owned(), "42".to_owned())].into(),
        extra: [("anything".to_owned(), 1.into())].into(),
        route: "conformance".into(),
        bucket_from: BucketSource::Body,
        proof: vec![Proof::Signature],
        origin: Origin::Callback,
    };
    let id = EventId::from_request("examplebucket", object, &number.to_string());
    Published { event: Event { id, time: time.parse().expect("a moment"), data, trace: None }, sequence: number }
}

/// Delivers a batch as the consumer does, and gives the verdicts, which are one for each event.
pub async fn deliver(sink: &dyn Sink, batch: &[Published]) -> Vec<Verdict> {
    let subject = subject();
    let items = items(&subject, batch);
    let verdicts = timeout(PATIENCE, sink.deliver(&items)).await.expect("the sink took too long over a batch");
    assert_eq!(verdicts.len(), batch.len(), "one verdict for each event: {verdicts:?}");
    verdicts
}

fn subject() -> Subject {
    "upcall.uploads.examplebucket.PutObject".parse().expect("a subject")
}

fn items<'a>(subject: &'a Subject, batch: &'a [Published]) -> Vec<Item<'a>> {
    let item = |published: &'a Published| Item {
        subject,
        event: &published.event,
        attempt: 1,
        sequence: published.sequence,
        span: None,
    };
    batch.iter().map(item).collect()
}

fn uploads(numbers: impl IntoIterator<Item = u64>) -> Vec<Published> {
    numbers.into_iter().map(upload).collect()
}

async fn ready_sink(target: &dyn Target) -> Arc<dyn Sink> {
    let sink = target.sink().await;
    until_prepared(&*sink).await;
    sink
}

/// Prepares a sink as the consumer does: again and again.
async fn until_prepared(sink: &dyn Sink) {
    let until = Instant::now() + PATIENCE;
    while let Err(error) = timeout(PATIENCE, sink.prepare()).await.expect("the sink took too long to prepare") {
        assert!(Instant::now() < until, "the sink never was ready: {error}");
        sleep(POLL).await;
    }
}

/// Delivers a batch that has to go well at once.
async fn apply(sink: &dyn Sink, batch: &[Published]) {
    let verdicts = deliver(sink, batch).await;
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Done), "every event is done: {verdicts:?}");
}

/// Delivers what is not done again and again, preparing as the consumer does, until everything is.
async fn apply_in_the_end(sink: &dyn Sink, batch: &[Published]) {
    let until = Instant::now() + PATIENCE;
    let mut left = batch.to_vec();
    loop {
        let verdicts = deliver(sink, &left).await;
        no_event_dies(&verdicts);
        left = left.into_iter().zip(&verdicts).filter(|(_, v)| **v != Verdict::Done).map(|(event, _)| event).collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "some events never were done: {verdicts:?}");
        until_prepared(sink).await;
        sleep(POLL).await;
    }
}

fn no_event_dies(verdicts: &[Verdict]) {
    let dead = verdicts.iter().any(|verdict| matches!(verdict, Verdict::Dead { .. }));
    assert!(!dead, "no event dies of what is no fault of its own: {verdicts:?}");
}

/// How many effects an event has.
async fn effects_of(target: &dyn Target, published: &Published) -> usize {
    target.effects().await.iter().filter(|id| **id == published.event.id).count()
}

/// Sees to it that every event has its effect, and one only where that can be.
async fn each_had_its_effect(target: &dyn Target, batch: &[Published]) {
    let (once, effects) = (target.abilities().once, target.effects().await);
    for published in batch {
        let count = effects.iter().filter(|id| **id == published.event.id).count();
        let object = &published.event.data.object;
        assert!(count > 0, "the upload of {object} is done and has no effect");
        assert!(!once || count == 1, "the upload of {object} has {count} effects");
    }
}
