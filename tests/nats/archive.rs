//! What operators do, where it is peculiar to NATS.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::message::PublishMessage;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use upcall_bus::{Archive, Bus, ConsumerName, ConsumerSpec, Deadline, Message, Publisher, Start, StoredEvent};
use upcall_bus_nats::{NatsBus, Options};
use upcall_event::{Event, EventId, SubjectFilter};
use upcall_telemetry::error_chain;
use upcall_tests::executable::PATIENCE;
use upcall_tests::nats::{NatsServer, is_missing};

use crate::harness::{connect, in_time};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_event_of_ours_is_passed_over() {
    let Some((_server, bus)) = provisioned("foreign messages").await else { return };
    let events = publish(&bus, 3).await;
    for subject in ["upcall.uploads.a.b", "upcall.uploads.a$.b"] {
        raw(&bus, subject, None).await;
    }
    publish(&bus, 4).await;
    let page = in_time(bus.events(0, &SubjectFilter::default(), 100)).await.unwrap();
    assert_eq!(page.events.len(), 4);
    assert_eq!(page.events[..3], events);
    assert!(page.end && page.scanned == 6, "{page:?}");
    let page = in_time(bus.events(3, &SubjectFilter::default(), 1)).await.unwrap();
    assert!(page.events.is_empty() && !page.end && page.scanned == 4, "a page of strangers only: {page:?}");
    assert!(!in_time(bus.retry_dead_letter(0)).await.unwrap());
    assert!(!in_time(bus.drop_dead_letter(0)).await.unwrap());
}

/// An interrupted replay may be resumed the next day.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_is_remembered_for_longer_than_the_server_knows_its_ids() {
    let Some((_server, bus)) = provisioned("the memory of a replay").await else { return };
    let context = async_nats::jetstream::new(bus.client().clone());
    let mut redelivery = context.get_stream(bus.names().redelivery()).await.unwrap();
    let mut config = redelivery.info().await.unwrap().config.clone();
    config.duplicate_window = Duration::from_millis(100);
    context.update_stream(config).await.unwrap();
    let events = publish(&bus, 10).await;
    let consumer: ConsumerName = "c".parse().unwrap();
    assert_eq!(in_time(bus.redeliver(&consumer, "name", &events[..6])).await.unwrap(), 6);
    let probe = "upcall.redelivery.probe";
    raw(&bus, probe, Some("probe")).await;
    let patience = Deadline::after(PATIENCE);
    // What was published before the probe is forgotten before the probe is.
    while raw(&bus, probe, Some("probe")).await {
        assert!(!patience.has_passed(), "the window does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(in_time(bus.redeliver(&consumer, "name", &events)).await.unwrap(), 4);
    assert_eq!(given(&context, &bus).await, 10);
    assert_eq!(in_time(bus.redeliver(&consumer, "another", &events)).await.unwrap(), 10);
    assert_eq!(given(&context, &bus).await, 20);
}

/// Its events are other ones, though they have the numbers of those that were given.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_of_a_stream_that_was_made_anew_gives_its_events() {
    let Some((_server, bus)) = provisioned("a replay of a stream that was made anew").await else { return };
    let context = async_nats::jetstream::new(bus.client().clone());
    let consumer: ConsumerName = "c".parse().unwrap();
    for round in 1..=3 {
        let events = publish(&bus, 10).await;
        assert_eq!((events[0].sequence, events[9].sequence), (1, 10));
        assert_eq!(in_time(bus.redeliver(&consumer, "name", &events)).await.unwrap(), 10);
        assert_eq!(in_time(bus.redeliver(&consumer, "name", &events)).await.unwrap(), 0);
        assert_eq!(given(&context, &bus).await, 10 * round);
        in_time(context.delete_stream(bus.names().uploads())).await.unwrap();
        in_time(bus.provision(&[])).await.unwrap();
    }
    // The same where a stream has lost its end: another event has its number.
    let events = publish(&bus, 1).await;
    assert_eq!(in_time(bus.redeliver(&consumer, "name", &events)).await.unwrap(), 1);
    let mut other = events[0].clone();
    other.event.id = EventId::from_request("a", "o", "another");
    assert_eq!(in_time(bus.redeliver(&consumer, "name", &[other])).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_takes_any_name_that_is_short_enough() {
    let Some((_server, bus)) = provisioned("the names of replays").await else { return };
    let events = publish(&bus, 2).await;
    let consumer: ConsumerName = "x".repeat(64).parse().unwrap();
    let longest = "ü".repeat(256);
    for name in ["", "_", "%5F", "a.b *.>", "since=2h object='x'", "\u{9b}", &longest] {
        assert_eq!(in_time(bus.redeliver(&consumer, name, &events)).await.unwrap(), 2, "{name}");
        assert_eq!(in_time(bus.redeliver(&consumer, name, &events)).await.unwrap(), 0, "{name}");
    }
    let error = in_time(bus.redeliver(&consumer, &"ü".repeat(2_000), &events)).await.unwrap_err();
    assert!(error_chain(&error).contains("name is too long"), "{}", error_chain(&error));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_replay_under_one_name_at_once_give_each_event_once() {
    let Some((_server, bus)) = provisioned("two replays at once").await else { return };
    let events = publish(&bus, 600).await;
    let consumer: ConsumerName = "c".parse().unwrap();
    let others: Vec<_> = (0..4)
        .map(|_| {
            let (bus, consumer, events) = (bus.clone(), consumer.clone(), events.clone());
            tokio::spawn(async move { in_time(bus.redeliver(&consumer, "name", &events)).await })
        })
        .collect();
    let mut count = 0;
    for other in others {
        count += other.await.unwrap().unwrap();
    }
    assert_eq!(count, 600, "each was given by one of them");
    let context = async_nats::jetstream::new(bus.client().clone());
    assert_eq!(given(&context, &bus).await, 600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_is_told_what_a_consumer_reads_by() {
    let Some((_server, bus)) = provisioned("the filters of consumers").await else { return };
    for (name, filter) in [("one", ">"), ("two", "upcall.uploads.a.>")] {
        let spec = ConsumerSpec { name: name.parse().unwrap(), filter: filter.parse().unwrap(), ..spec() };
        drop(in_time(bus.subscribe(&spec)).await.unwrap());
        let filters = in_time(bus.filters_of(&spec.name)).await.unwrap();
        assert_eq!(filters, Some(vec![spec.filter]));
    }
    assert_eq!(in_time(bus.filters_of(&"three".parse().unwrap())).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_streams_an_operator_is_told_how_to_make_them() {
    if is_missing("a server without streams") {
        return;
    }
    let server = NatsServer::start();
    let bus = connected(&server).await;
    let (consumer, filter): (ConsumerName, _) = ("c".parse().unwrap(), SubjectFilter::default());
    for error in [
        in_time(bus.events(0, &filter, 1)).await.unwrap_err(),
        in_time(bus.last_sequence()).await.unwrap_err(),
        in_time(bus.dead_letters(0, 1)).await.unwrap_err(),
        in_time(bus.retry_dead_letter(1)).await.unwrap_err(),
        in_time(bus.filters_of(&consumer)).await.unwrap_err(),
    ] {
        assert!(error_chain(&error).contains("`upcall provision` makes it"), "{}", error_chain(&error));
    }
}

async fn provisioned(what: &str) -> Option<(NatsServer, NatsBus)> {
    if is_missing(what) {
        return None;
    }
    let server = NatsServer::start();
    let bus = connected(&server).await;
    in_time(bus.provision(&[])).await.unwrap();
    Some((server, bus))
}

async fn connected(server: &NatsServer) -> NatsBus {
    connect(Options::new(server.url())).await.0
}

fn spec() -> ConsumerSpec {
    ConsumerSpec { name: "c".parse().unwrap(), filter: SubjectFilter::default(), start: Start::default() }
}

/// Publishes events 1 to `count`, those that are there already as duplicates, and returns them as they are stored.
async fn publish(bus: &NatsBus, count: u64) -> Vec<StoredEvent> {
    let begun = Timestamp::now();
    for number in 1..=count {
        let json = serde_json::json!({
            "specversion": "1.0", "id": EventId::from_request("a", "o", &number.to_string()).to_string(),
            "type": "upcall.upload.completed.v1", "source": "/oss/a", "subject": "o", "time": "2026-01-01T00:00:00Z",
            "datacontenttype": "application/json",
            "data": { "bucket": "a", "object": "o", "route": "r", "bucket_from": "body", "proof": [],
                      "origin": "callback" },
        });
        let event = Event::from_structured(json.to_string().as_bytes()).unwrap();
        let message = Message { subject: "upcall.uploads.a.PutObject".parse().unwrap(), event };
        bus.publish(message, Deadline::after(PATIENCE)).await.unwrap();
    }
    let patience = Deadline::after(PATIENCE);
    loop {
        let events = in_time(bus.events(0, &SubjectFilter::default(), 4_000)).await.unwrap().events;
        // A stream that was deleted a moment ago may be the one that answers.
        if events.last().is_some_and(|last| last.stored_at >= begun) {
            return events;
        }
        assert!(!patience.has_passed(), "what was published is not there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Publishes what is no event. Whether it was known already.
async fn raw(bus: &NatsBus, subject: &'static str, id: Option<&str>) -> bool {
    let mut headers = HeaderMap::new();
    if let Some(id) = id {
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
    }
    let message = PublishMessage::build().headers(headers).payload("no event".into());
    let context = async_nats::jetstream::new(bus.client().clone());
    in_time(async { context.send_publish(subject, message).await?.await }).await.unwrap().duplicate
}

/// How many events wait to be read by the consumer again.
async fn given(context: &async_nats::jetstream::Context, bus: &NatsBus) -> usize {
    let stream = in_time(context.get_stream(bus.names().redelivery())).await.unwrap();
    let mut counts = in_time(stream.info_builder().subjects("upcall.redelivery.c").fetch()).await.unwrap();
    in_time(counts.try_next()).await.unwrap().map_or(0, |(_, count)| count)
}
