//! What must not stop a consumer.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::message::PublishMessage;
use futures_util::StreamExt;
use upcall_bus::conformance::message;
use upcall_bus::{Archive, Deadline, Delivery, Publisher, Settlement, Subscription};
use upcall_bus_nats::{NatsBus, Options};
use upcall_tests::executable::PATIENCE;
use upcall_tests::nats::{NatsServer, is_missing};

use crate::harness::{connect, in_time, subscribed};

async fn provisioned(server: &NatsServer) -> NatsBus {
    let mut options = Options::new(server.url());
    options.subjects = vec!["upcall.uploads.>".to_owned(), "a.>".to_owned()];
    let (bus, _) = connect(options).await;
    in_time(bus.provision(&[])).await.unwrap();
    bus
}

async fn next(subscription: &mut dyn Subscription) -> Delivery {
    in_time(subscription.next(1)).await.unwrap().pop().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_of_attempts_that_is_no_text_counts_as_none() {
    if is_missing("a spoilt count of attempts") {
        return;
    }
    let server = NatsServer::start();
    let bus = provisioned(&server).await;
    let sent = message(1);
    let id = sent.event.id;
    bus.publish(sent, Deadline::after(PATIENCE)).await.unwrap();
    let mut subscription = subscribed(&bus).await;
    let again = Settlement::Retry { after: Duration::from_millis(500), reason: "no".to_owned() };
    assert!(in_time(next(&mut *subscription).await.settle(again)).await.is_ok());
    let context = async_nats::jetstream::new(bus.client().clone());
    let key = format!("$KV.{}.c.uploads.1.{id}", bus.names().attempts());
    in_time(async { context.publish(key, b"\xff\xfe"[..].into()).await.unwrap().await }).await.unwrap();
    let delivery = next(&mut *subscription).await;
    assert_eq!((delivery.attempt(), delivery.event().id), (1, id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_that_is_too_large_refers_to_its_event_and_can_be_dropped() {
    if is_missing("large dead letters") {
        return;
    }
    let server = NatsServer::start();
    let bus = provisioned(&server).await;
    // As a relay publishes it, or somebody else does: as large as the server takes.
    let sent = message(1);
    let mut event = sent.event.to_binary();
    let mut headers = HeaderMap::new();
    for (name, value) in &event.headers {
        headers.insert(*name, value.as_str());
    }
    let room = bus.client().max_payload() - 1_024 - event.data.len();
    // White space in JSON means nothing.
    event.data.extend(std::iter::repeat_n(b' ', room));
    let large = PublishMessage::build().headers(headers).payload(event.data.into());
    let context = async_nats::jetstream::new(bus.client().clone());
    in_time(async { context.send_publish("upcall.uploads.a.PutObject", large).await.unwrap().await }).await.unwrap();

    let mut subscription = subscribed(&bus).await;
    let dead = Settlement::DeadLetter { reason: "x".repeat(1_024) };
    assert!(in_time(next(&mut *subscription).await.settle(dead)).await.is_ok(), "the consumer gets rid of it");
    let letters = in_time(bus.dead_letters(0, 10)).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].stored.event.id, letters[0].stored.sequence), (sent.event.id, 1));
    assert!(in_time(bus.drop_dead_letter(letters[0].number)).await.unwrap());
    assert!(!in_time(bus.drop_dead_letter(letters[0].number)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_send_to_a_readers_inbox_is_passed_over() {
    if is_missing("strangers' messages in a reader's inbox") {
        return;
    }
    let server = NatsServer::start();
    let bus = provisioned(&server).await;
    let client = bus.client();
    let mut requests = in_time(client.subscribe("$JS.API.CONSUMER.MSG.NEXT.>")).await.unwrap();
    in_time(client.flush()).await.unwrap();
    let mut subscription = subscribed(&bus).await;
    let sent = message(1);
    let id = sent.event.id;
    // A request for events goes out once somebody waits for them.
    let meanwhile = async {
        let inbox = in_time(requests.next()).await.unwrap().reply.unwrap();
        in_time(client.publish(inbox, "junk".into())).await.unwrap();
        in_time(client.flush()).await.unwrap();
        bus.publish(sent, Deadline::after(PATIENCE)).await.unwrap();
    };
    let (delivery, ()) = tokio::join!(next(&mut *subscription), meanwhile);
    assert_eq!(delivery.event().id, id);
}
