//! A stream that comes back with less than it had, and gives the same sequences to other events.

use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use futures_util::StreamExt;
use upcall_bus::conformance::message;
use upcall_bus::{Bus, ConsumerSpec, Deadline, Publisher, SettleErrorKind, Start};
use upcall_bus_nats::Options;
use upcall_tests::disk::copy_folder;
use upcall_tests::executable::PATIENCE;
use upcall_tests::nats;
use upcall_tests::nats::NatsServer;

use crate::harness::{connect, in_time, next_one};

#[tokio::test]
async fn an_event_in_the_place_of_a_lost_one_is_delivered_while_that_is_unsettled() {
    if nats::is_missing("the stream that lost its end") {
        return;
    }
    let server = NatsServer::start();
    let (bus, context) = connect(Options::new(server.url())).await;
    let spec = ConsumerSpec { name: "catalog".parse().unwrap(), filter: ">".parse().unwrap(), start: Start::Oldest };
    bus.provision(std::slice::from_ref(&spec)).await.unwrap();
    let mut subscription = bus.subscribe(&spec).await.unwrap();
    let (lost, later) = (message(1), message(2));
    bus.publish(lost.clone(), Deadline::after(PATIENCE)).await.unwrap();
    let unsettled = next_one(&mut *subscription).await;
    assert_eq!(unsettled.event().id, lost.event.id);

    // The sequences begin anew, as they do behind the last event that a power failure left.
    context.delete_stream(bus.names().uploads()).await.unwrap();
    bus.provision(std::slice::from_ref(&spec)).await.unwrap();
    bus.publish(later.clone(), Deadline::after(PATIENCE)).await.unwrap();
    let delivery = next_one(&mut *subscription).await;
    assert_eq!((delivery.event().id, delivery.sequence()), (later.event.id, unsettled.sequence()));
    assert!(unsettled.ack().await.is_err(), "what is lost can't be settled in the name of another event");
    delivery.ack().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_on_a_lost_event_does_not_settle_the_one_in_its_place() {
    if nats::is_missing("the stream that lost its end") {
        return;
    }
    let server = NatsServer::start();
    let options = Options { ack_wait: Duration::from_secs(1), ..Options::new(server.url()) };
    let (bus, _) = connect(options.clone()).await;
    let spec = ConsumerSpec { name: "catalog".parse().unwrap(), filter: ">".parse().unwrap(), start: Start::Oldest };
    bus.provision(std::slice::from_ref(&spec)).await.unwrap();
    let (store, copy) = (server.store_dir().to_owned(), tempfile::tempdir().unwrap());
    server.stop();
    copy_folder(&store, &copy.path().join("store"));
    server.cont();
    bus.publish(message(1), Deadline::after(PATIENCE)).await.unwrap();
    let mut subscription = bus.subscribe(&spec).await.unwrap();
    let lost = next_one(&mut *subscription).await;
    assert_eq!(lost.event().id, message(1).event.id);

    // What the server had not synced is gone. Another event gets the place; it is delivered, and lost on the way.
    let before = bus.link().borrow().generation;
    server.kill();
    std::fs::remove_dir_all(&store).unwrap();
    copy_folder(&copy.path().join("store"), &store);
    server.launch();
    in_time(bus.link().wait_for(|link| link.connected && link.generation > before)).await.unwrap();
    let (other, context) = connect(options).await;
    in_time(async {
        loop {
            // The stream is not there at once.
            if other.publish(message(2), Deadline::after(PATIENCE)).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let consumer: PullConsumer = context.get_consumer_from_stream("catalog", "UPCALL").await.unwrap();
    let mut delivered = consumer.fetch().max_messages(1).messages().await.unwrap();
    let in_its_place = in_time(delivered.next()).await.unwrap().unwrap();
    assert_eq!(in_its_place.info().unwrap().stream_sequence, lost.sequence());

    let settled = lost.ack().await;
    assert!(settled.is_err_and(|(_, error)| error.kind == SettleErrorKind::Lost), "it settles another event");
    let delivery = next_one(&mut *subscription).await;
    assert_eq!(delivery.event().id, message(2).event.id);
    delivery.ack().await.unwrap();
}
