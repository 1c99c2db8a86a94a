//! Dead letters of what can't be read, and of what dies twice.

use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use upcall_bus::conformance::message;
use upcall_bus::{Archive, Deadline, Publisher};
use upcall_bus_nats::{NatsBus, Options};
use upcall_tests::executable::PATIENCE;
use upcall_tests::nats::{self, NatsServer};

use crate::harness::{connect, in_time, next_one, subscribed};

async fn provisioned(server: &NatsServer) -> (NatsBus, Context) {
    let (bus, context) = connect(Options::new(server.url())).await;
    in_time(bus.provision(&[])).await.unwrap();
    (bus, context)
}

async fn send(context: &Context, headers: &[(&str, &str)], payload: Vec<u8>) {
    let mut all = HeaderMap::new();
    headers.iter().for_each(|(name, value)| all.append(*name, *value));
    let message = PublishMessage::build().headers(all).payload(payload.into());
    context.send_publish("upcall.uploads.a.PutObject", message).await.unwrap().await.unwrap();
}

async fn letters(context: &Context) -> Vec<StreamMessage> {
    let mut stream = context.get_stream("UPCALL_DEAD").await.unwrap();
    let state = stream.info().await.unwrap().state.clone();
    let mut letters = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        letters.extend(stream.get_raw_message(sequence).await.ok());
    }
    letters
}

fn header<'m>(message: &'m StreamMessage, name: &str) -> &'m str {
    message.headers.get(name).map(|value| value.as_str()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_t_be_read_is_a_dead_letter_with_all_that_it_was() {
    if nats::is_missing("dead letters of what can't be read") {
        return;
    }
    let server = NatsServer::start();
    let (bus, context) = provisioned(&server).await;
    send(&context, &[("X-Theirs", "1"), ("Upcall-Reference", "event"), ("Nats-Msg-Id", "theirs")], b"no event".into())
        .await;
    bus.publish(message(2), Deadline::after(PATIENCE)).await.unwrap();
    let large = vec![b'x'; bus.client().max_payload() - 200];
    send(&context, &[], large).await;
    // The server takes 64 KiB of headers, and a letter has more of them.
    let long = "y".repeat(65_300);
    send(&context, &[("X-Theirs", &long)], Vec::new()).await;
    bus.publish(message(5), Deadline::after(PATIENCE)).await.unwrap();

    let mut subscription = subscribed(&bus).await;
    for sequence in [2, 5] {
        let delivery = next_one(&mut *subscription).await;
        assert_eq!(delivery.sequence(), sequence, "those behind do not wait");
        delivery.ack().await.unwrap();
    }
    let letters = letters(&context).await;
    assert_eq!(letters.len(), 3);
    for (letter, sequence) in letters.iter().zip(["1", "3", "4"]) {
        assert_eq!((letter.subject.as_str(), header(letter, "Upcall-Consumer")), ("upcall.dead.c", "c"));
        assert_eq!(header(letter, "Upcall-Sequence"), sequence);
        assert_eq!(header(letter, "Upcall-Subject"), "upcall.uploads.a.PutObject");
        assert!(header(letter, "Upcall-Reason").starts_with("it is no event of ours: "), "{:?}", letter.headers);
        assert!(header(letter, "Upcall-Stored-At").ends_with('Z') && header(letter, "Upcall-Died-At").ends_with('Z'));
    }
    assert_eq!((&letters[0].payload[..], header(&letters[0], "X-Theirs")), (&b"no event"[..], "1"));
    assert_eq!(header(&letters[0], "Upcall-Reference"), "", "it is whole, whatever they say");
    for letter in &letters[1..] {
        assert_eq!((letter.payload.len(), header(letter, "Upcall-Reference")), (0, "event"));
    }
    // They are settled, and do not come again.
    drop(subscription);
    let mut subscription = subscribed(&bus).await;
    bus.publish(message(6), Deadline::after(PATIENCE)).await.unwrap();
    assert_eq!(next_one(&mut *subscription).await.sequence(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_t_be_a_dead_letter_yet_holds_nobody_up_and_is_one_later() {
    if nats::is_missing("dead letters that can't be stored") {
        return;
    }
    let server = NatsServer::start();
    let options = Options { ack_wait: std::time::Duration::from_secs(1), ..Options::new(server.url()) };
    let (bus, context) = connect(options).await;
    bus.provision(&[]).await.unwrap();
    context.delete_stream("UPCALL_DEAD").await.unwrap();
    send(&context, &[], b"no event".into()).await;
    bus.publish(message(2), Deadline::after(PATIENCE)).await.unwrap();
    let mut subscription = subscribed(&bus).await;
    let delivery = next_one(&mut *subscription).await;
    assert_eq!(delivery.sequence(), 2);
    delivery.ack().await.unwrap();
    bus.provision(&[]).await.unwrap();
    let reading = tokio::spawn(async move { subscription.next(1).await.map(|deliveries| deliveries.len()) });
    let patience = Deadline::after(PATIENCE);
    while letters(&context).await.is_empty() {
        assert!(!patience.has_passed(), "there is no dead letter");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    reading.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_dies_again_is_a_dead_letter_again() {
    if nats::is_missing("a second death") {
        return;
    }
    let server = NatsServer::start();
    let (bus, context) = provisioned(&server).await;
    bus.publish(message(1), Deadline::after(PATIENCE)).await.unwrap();
    let mut subscription = subscribed(&bus).await;
    for round in 1..=3 {
        next_one(&mut *subscription).await.dead_letter("never").await.unwrap();
        let letters = in_time(bus.dead_letters(0, 10)).await.unwrap();
        assert_eq!(letters.len(), 1, "the {round}. time");
        // Somebody has it begin anew, as after a mistake; the letter is still there, or was dropped.
        if round < 3 {
            assert!(in_time(bus.drop_dead_letter(letters[0].number)).await.unwrap());
        }
        begin_anew(&context).await;
    }
    next_one(&mut *subscription).await.dead_letter("never").await.unwrap();
    assert_eq!(in_time(bus.dead_letters(0, 10)).await.unwrap().len(), 1, "the same death is one dead letter");
}

/// Deletes the consumer and the record of it.
async fn begin_anew(context: &Context) {
    context.get_key_value("UPCALL_attempts").await.unwrap().delete("c.floor").await.unwrap();
    context.delete_consumer_from_stream("c", "UPCALL").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_come_without_their_data_are_no_dead_letters() {
    if nats::is_missing("a consumer of headers only") {
        return;
    }
    let server = NatsServer::start();
    let options = Options { ack_wait: std::time::Duration::from_secs(1), ..Options::new(server.url()) };
    let (bus, context) = connect(options).await;
    bus.provision(&[]).await.unwrap();
    let mut subscription = subscribed(&bus).await;
    let stream = context.get_stream("UPCALL").await.unwrap();
    let found = stream.get_consumer::<pull::Config>("c").await.unwrap().cached_info().config.clone();
    let config = pull::Config {
        durable_name: Some("c".to_owned()),
        headers_only: true,
        ack_wait: found.ack_wait,
        max_deliver: -1,
        max_ack_pending: found.max_ack_pending,
        max_waiting: found.max_waiting,
        ..pull::Config::default()
    };
    context.update_consumer_on_stream(config, "UPCALL").await.unwrap();
    bus.publish(message(1), Deadline::after(PATIENCE)).await.unwrap();
    let delivery = next_one(&mut *subscription).await;
    assert_eq!(delivery.event().data, message(1).event.data);
    delivery.ack().await.unwrap();
    assert_eq!(letters(&context).await.len(), 0);
}
