//! Dead letters that are not as they should be, and events that are as large as a server takes.

use async_nats::HeaderMap;
use async_nats::jetstream::message::PublishMessage;
use futures_util::TryStreamExt;
use upcall_bus::conformance::message;
use upcall_bus::{
    Archive, ConsumerName, DeadLetter, Deadline, Letter, Message, PublishErrorKind, Publisher, Receipt, Settlement,
    UnreadableLetter,
};
use upcall_bus_nats::names::header;
use upcall_bus_nats::{NatsBus, Options};
use upcall_event::Event;
use upcall_telemetry::error_chain;
use upcall_tests::executable::PATIENCE;
use upcall_tests::nats::{NatsServer, is_missing};

use crate::harness::{connect, in_time, publish, subscribed};

/// What a server takes unless it is configured.
const MAX_PAYLOAD: usize = 1 << 20;
/// What the bus leaves free of it for a dead letter's headers.
const ROOM: usize = 8 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_is_that_of_the_consumer_on_whose_subject_it_came() {
    let Some((_server, bus)) = provisioned("forged letters").await else { return };
    let forged = [(header::CONSUMER, "victim")];
    send(&bus, "upcall.dead.own", letter(&message(1), &forged), message(1).event.to_binary().data).await;
    let letters = in_time(bus.dead_letters(0, 10)).await.unwrap();
    let consumers: Vec<&str> = letters.iter().map(|letter| letter.consumer.as_str()).collect();
    assert_eq!(consumers, ["own"]);
    assert!(in_time(bus.retry_dead_letter(letters[0].number)).await.unwrap());
    assert_eq!((given(&bus, "own").await, given(&bus, "victim").await), (1, 0));
}

/// Nothing vanishes: what is no letter of ours, and a letter whose event is gone, can be seen and dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_that_cannot_be_read_is_listed_with_what_is_wrong_and_can_be_dropped() {
    let Some((_server, bus)) = provisioned("unreadable letters").await else { return };
    publish(&bus, 1..=2).await;
    let context = async_nats::jetstream::new(bus.client().clone());
    let uploads = in_time(context.get_stream(bus.names().uploads())).await.unwrap();
    assert!(in_time(uploads.delete_message(2)).await.unwrap());
    let refers_to = |sequence: &'static str| [(header::REFERENCE, "event"), (header::SEQUENCE, sequence)];
    let data = || message(1).event.to_binary().data;
    let cases = [
        ("upcall.dead.c", HeaderMap::new(), b"no event".to_vec(), "c", "ce-"),
        ("upcall.dead.c.d", letter(&message(1), &[]), data(), "c.d", "can't name a consumer"),
        ("upcall.dead.c", letter(&message(1), &[(header::ATTEMPTS, "many")]), data(), "c", "invalid digit"),
        ("upcall.dead.c", letter(&message(1), &[]), b"{".to_vec(), "c", ""),
        (
            "upcall.dead.d",
            letter(&message(2), &refers_to("2")),
            Vec::new(),
            "d",
            "event 2 of stream UPCALL, and that is no",
        ),
        ("upcall.dead.d", letter(&message(2), &refers_to("1")), Vec::new(), "d", "is another one now"),
        ("upcall.dead.d", letter(&message(2), &refers_to("0")), Vec::new(), "d", "does not say which"),
    ];
    for (subject, headers, data, ..) in &cases {
        send(&bus, subject, headers.clone(), data.clone()).await;
    }
    send(&bus, "upcall.dead.c", letter(&message(1), &refers_to("1")), Vec::new()).await;
    let listed = in_time(bus.letters(0, 20)).await.unwrap();
    assert_eq!(listed.len(), 8);
    for (listed, (.., consumer, wrong)) in listed.iter().zip(&cases) {
        let Letter::Unreadable(UnreadableLetter { consumer: found, fault, .. }) = listed else { panic!("{listed:?}") };
        assert!(found == consumer && fault.contains(wrong) && !fault.is_empty(), "{found}: {fault}");
        let error = in_time(bus.retry_dead_letter(listed.number())).await.unwrap_err();
        assert!(error_chain(&error).contains(fault), "{}", error_chain(&error));
    }
    assert_eq!(in_time(bus.dead_letters(0, 20)).await.unwrap().len(), 1, "the last one can be read");
    assert_eq!(in_time(bus.letters(3, 2)).await.unwrap(), listed[3..5]);
    // Also where the whole stream is gone.
    in_time(context.delete_stream(bus.names().uploads())).await.unwrap();
    assert!(matches!(in_time(bus.letters(7, 20)).await.unwrap()[..], [Letter::Unreadable(_)]));
    for listed in &listed {
        assert!(in_time(bus.drop_dead_letter(listed.number())).await.unwrap());
        assert!(!in_time(bus.drop_dead_letter(listed.number())).await.unwrap());
    }
    assert_eq!(in_time(bus.letters(0, 20)).await.unwrap(), []);
}

/// An event of the largest size that is taken dies whole, with the longest reason, and is given again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_leaves_no_room_for_a_dead_letter_is_refused() {
    let Some((_server, bus)) = provisioned("the room for a dead letter").await else { return };
    let too_large = sized(1, MAX_PAYLOAD - ROOM + 1);
    let error = bus.publish(too_large, Deadline::after(PATIENCE)).await.unwrap_err();
    assert!(error.kind == PublishErrorKind::Rejected && error_chain(&error).contains("dead letter"), "{error:?}");
    let largest = sized(2, MAX_PAYLOAD - ROOM);
    assert_eq!(bus.publish(largest.clone(), Deadline::after(PATIENCE)).await.unwrap(), Receipt::Stored);
    let letter = dies(&bus, &"x".repeat(4 << 10)).await;
    assert_eq!((letter.stored.event, letter.reason.len()), (largest.event, 4 << 10));
    let stored = in_time(bus.letters(0, 10)).await.unwrap();
    assert!(!is_reference(&bus, letter.number).await, "it is whole: {stored:?}");
    assert!(in_time(bus.retry_dead_letter(letter.number)).await.unwrap());
    assert_eq!(given(&bus, "c").await, 1);
}

/// One that a relay published, or somebody else, may be larger than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_too_large_to_be_given_again_says_so_and_stays() {
    let Some((_server, bus)) = provisioned("events that are too large to be given again").await else { return };
    let Message { event, .. } = sized(1, MAX_PAYLOAD - 128);
    let mut headers = HeaderMap::new();
    let binary = event.to_binary();
    binary.headers.iter().for_each(|(name, value)| headers.insert(*name, value.as_str()));
    send(&bus, "upcall.uploads.a.PutObject", headers, binary.data).await;
    let died = dies(&bus, "never").await;
    assert!(is_reference(&bus, died.number).await);
    assert_eq!(died.stored.event, event);
    let error = error_chain(&in_time(bus.retry_dead_letter(died.number)).await.unwrap_err());
    assert!(error.contains("too large to be given again") && error.contains("`max_payload`"), "{error}");
    assert_eq!(in_time(bus.dead_letters(0, 10)).await.unwrap(), std::slice::from_ref(&died));
    let replayed = in_time(bus.redeliver(&died.consumer, "replay", std::slice::from_ref(&died.stored))).await;
    let error = error_chain(&replayed.unwrap_err());
    assert!(error.contains("(number 1)") && error.contains("`max_payload`"), "{error}");
    assert_eq!(given(&bus, "c").await, 0);
}

/// A letter's headers, with some of them otherwise.
fn letter(Message { subject, event }: &Message, other: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    event.to_binary().headers.iter().for_each(|(name, value)| headers.insert(*name, value.as_str()));
    for (name, value) in [
        (header::CONSUMER, "c"),
        (header::SUBJECT, subject.as_str()),
        (header::SEQUENCE, "1"),
        (header::STORED_AT, "2026-01-01T00:00:00Z"),
        (header::REASON, "never"),
        (header::ATTEMPTS, "1"),
        (header::DIED_AT, "2026-01-01T01:00:00Z"),
    ] {
        headers.insert(name, value);
    }
    other.iter().for_each(|(name, value)| headers.insert(*name, *value));
    headers
}

/// An event that takes so many bytes, headers and all, as the bus counts them.
fn sized(number: u64, bytes: usize) -> Message {
    let mut message = message(number);
    let size = |event: &Event| {
        let binary = event.to_binary();
        binary.data.len() + binary.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    };
    message.event.data.vars = [("filling".to_owned(), String::new())].into();
    let room = bytes - size(&message.event);
    message.event.data.vars = [("filling".to_owned(), "x".repeat(room))].into();
    assert_eq!(size(&message.event), bytes);
    message
}

/// Has the next event of consumer `c` die.
async fn dies(bus: &NatsBus, reason: &str) -> DeadLetter {
    let mut subscription = subscribed(bus).await;
    let delivery = in_time(subscription.next(1)).await.unwrap().remove(0);
    assert!(in_time(delivery.settle(Settlement::DeadLetter { reason: reason.to_owned() })).await.is_ok());
    in_time(bus.dead_letters(0, 10)).await.unwrap().remove(0)
}

async fn is_reference(bus: &NatsBus, number: u64) -> bool {
    let context = async_nats::jetstream::new(bus.client().clone());
    let stream = in_time(context.get_stream(bus.names().dead())).await.unwrap();
    in_time(stream.get_raw_message(number)).await.unwrap().headers.get(header::REFERENCE).is_some()
}

async fn send(bus: &NatsBus, subject: &str, headers: HeaderMap, data: Vec<u8>) {
    let message = PublishMessage::build().headers(headers).payload(data.into());
    let context = async_nats::jetstream::new(bus.client().clone());
    in_time(async { context.send_publish(subject.to_owned(), message).await?.await }).await.unwrap();
}

/// How many events wait to be read by a consumer again.
async fn given(bus: &NatsBus, consumer: &str) -> usize {
    let consumer: ConsumerName = consumer.parse().unwrap();
    let context = async_nats::jetstream::new(bus.client().clone());
    let stream = in_time(context.get_stream(bus.names().redelivery())).await.unwrap();
    let mut counts =
        in_time(stream.info_builder().subjects(format!("upcall.redelivery.{consumer}")).fetch()).await.unwrap();
    in_time(counts.try_next()).await.unwrap().map_or(0, |(_, count)| count)
}

async fn provisioned(what: &str) -> Option<(NatsServer, NatsBus)> {
    if is_missing(what) {
        return None;
    }
    let server = NatsServer::start();
    let mut options = Options::new(server.url());
    options.subjects = vec!["upcall.uploads.>".to_owned()];
    let (bus, _) = connect(options).await;
    in_time(bus.provision(&[])).await.unwrap();
    Some((server, bus))
}
