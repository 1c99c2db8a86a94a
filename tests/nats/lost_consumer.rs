//! Consumers that are lost, and made again.

use std::time::Duration;

use async_nats::jetstream::Context;
use upcall_bus::{Bus, ConsumerSpec, Deadline, Start, Subscription};
use upcall_bus_nats::Options;
use upcall_tests::executable::PATIENCE;
use upcall_tests::nats::{self, NatsServer};

use crate::harness::{connect, in_time, publish};

/// A consumer that is told to begin with what is new.
fn catalog() -> ConsumerSpec {
    ConsumerSpec { name: "catalog".parse().unwrap(), filter: ">".parse().unwrap(), start: Start::New }
}

/// Takes and acks so many events. A consumer that is gone is opened anew.
async fn take(subscription: &mut dyn Subscription, count: usize) -> Vec<u64> {
    let (mut taken, patience) = (Vec::new(), Deadline::after(PATIENCE));
    while taken.len() < count {
        match in_time(subscription.next(count - taken.len())).await {
            Ok(deliveries) => {
                for delivery in deliveries {
                    taken.push(delivery.event().data.size.unwrap());
                    delivery.ack().await.unwrap();
                }
            }
            Err(error) => assert!(!patience.has_passed(), "{error:?} after {taken:?}"),
        }
    }
    taken
}

/// What the bucket has written down of the consumer.
async fn written(context: &Context) -> String {
    let bucket = context.get_key_value("UPCALL_attempts").await.unwrap();
    let value = bucket.get("catalog.floor").await.unwrap().unwrap_or_default();
    String::from_utf8(value.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_consumer_goes_on_where_it_was() {
    if nats::is_missing("a deleted consumer") {
        return;
    }
    let server = NatsServer::start();
    let (bus, context) = connect(Options::new(server.url())).await;
    bus.provision(&[]).await.unwrap();
    publish(&bus, 1..=3).await;
    // What was there before a new consumer is not for it, also when it is lost before it was read.
    bus.provision(&[catalog()]).await.unwrap();
    publish(&bus, 4..=6).await;
    context.delete_consumer_from_stream("catalog", "UPCALL").await.unwrap();
    let mut subscription = in_time(bus.subscribe(&catalog())).await.unwrap();
    assert_eq!(take(&mut *subscription, 3).await, [4, 5, 6]);
    assert!(written(&context).await.ends_with("\"settled\":3}"), "{}", written(&context).await);

    // How far it is, is written down again while it is looked after.
    bus.keep(false, vec![catalog()]);
    let patience = Deadline::after(PATIENCE);
    while !written(&context).await.ends_with("\"settled\":6}") {
        assert!(!patience.has_passed(), "{}", written(&context).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Nobody reads while the consumer is away; another process makes it again.
    drop(subscription);
    context.delete_consumer_from_stream("catalog", "UPCALL").await.unwrap();
    publish(&bus, 7..=9).await;
    let (other, _) = connect(Options::new(server.url())).await;
    other.provision(&[catalog()]).await.unwrap();
    let mut subscription = in_time(other.subscribe(&catalog())).await.unwrap();
    assert_eq!(take(&mut *subscription, 3).await, [7, 8, 9]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_of_a_stream_that_is_made_anew_gets_all_of_it() {
    if nats::is_missing("a stream that is made anew") {
        return;
    }
    let server = NatsServer::start();
    let (bus, context) = connect(Options::new(server.url())).await;
    bus.provision(&[catalog()]).await.unwrap();
    publish(&bus, 1..=3).await;
    let mut subscription = in_time(bus.subscribe(&catalog())).await.unwrap();
    assert_eq!(take(&mut *subscription, 3).await, [1, 2, 3]);
    drop(subscription);
    context.delete_stream("UPCALL").await.unwrap();
    bus.provision(&[]).await.unwrap();
    publish(&bus, 4..=5).await;
    let mut subscription = in_time(bus.subscribe(&catalog())).await.unwrap();
    assert_eq!(take(&mut *subscription, 2).await, [4, 5]);
    // While a process lives it knows that by itself, also where all that the server had is gone.
    for stream in ["UPCALL", "KV_UPCALL_attempts"] {
        context.delete_stream(stream).await.unwrap();
    }
    bus.provision(&[]).await.unwrap();
    publish(&bus, 6..=7).await;
    assert_eq!(take(&mut *subscription, 2).await, [6, 7]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_begins_anew_when_its_record_is_deleted_with_it() {
    if nats::is_missing("a consumer that begins anew") {
        return;
    }
    let server = NatsServer::start();
    let (bus, context) = connect(Options::new(server.url())).await;
    bus.provision(&[catalog()]).await.unwrap();
    publish(&bus, 1..=3).await;
    context.delete_consumer_from_stream("catalog", "UPCALL").await.unwrap();
    context.get_key_value("UPCALL_attempts").await.unwrap().delete("catalog.floor").await.unwrap();
    let mut subscription = in_time(bus.subscribe(&catalog())).await.unwrap();
    publish(&bus, [4]).await;
    assert_eq!(take(&mut *subscription, 1).await, [4]);
}
