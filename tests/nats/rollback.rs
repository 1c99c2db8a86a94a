//! A stream that comes back with less than it had, and gives the same sequences to other events.

use upcall_bus::conformance::message;
use upcall_bus::{Bus, ConsumerSpec, Deadline, Publisher, Start, Subscription};
use upcall_bus_nats::{NatsBus, Options};
use upcall_tests::executable::PATIENCE;
use upcall_tests::nats;
use upcall_tests::nats::NatsServer;

#[tokio::test]
async fn an_event_in_the_place_of_a_lost_one_is_delivered_while_that_is_unsettled() {
    if nats::is_missing("the stream that lost its end") {
        return;
    }
    let server = NatsServer::start();
    let bus = NatsBus::connect(Options::new(server.url())).await.unwrap();
    tokio::time::timeout(PATIENCE, bus.link().wait_for(|link| link.connected)).await.unwrap().unwrap();
    let spec = ConsumerSpec { name: "catalog".parse().unwrap(), filter: ">".parse().unwrap(), start: Start::Oldest };
    bus.provision(std::slice::from_ref(&spec)).await.unwrap();
    let mut subscription = bus.subscribe(&spec).await.unwrap();
    let (lost, later) = (message(1), message(2));
    bus.publish(lost.clone(), Deadline::after(PATIENCE)).await.unwrap();
    let unsettled = next(&mut *subscription).await;
    assert_eq!(unsettled.event().id, lost.event.id);

    // The sequences begin anew, as they do behind the last event that a power failure left.
    let context = async_nats::jetstream::new(bus.client().clone());
    context.delete_stream(bus.names().uploads()).await.unwrap();
    bus.provision(std::slice::from_ref(&spec)).await.unwrap();
    bus.publish(later.clone(), Deadline::after(PATIENCE)).await.unwrap();
    let delivery = next(&mut *subscription).await;
    assert_eq!((delivery.event().id, delivery.sequence()), (later.event.id, unsettled.sequence()));
    assert!(unsettled.ack().await.is_err(), "what is lost can't be settled in the name of another event");
    delivery.ack().await.unwrap();
}

async fn next(subscription: &mut dyn Subscription) -> upcall_bus::Delivery {
    let patience = Deadline::after(PATIENCE);
    loop {
        match tokio::time::timeout(PATIENCE, subscription.next(1)).await.expect("nothing is delivered") {
            Ok(mut deliveries) => return deliveries.remove(0),
            // A consumer whose stream is gone is opened anew.
            Err(error) => assert!(!patience.has_passed(), "{error:?}"),
        }
    }
}
