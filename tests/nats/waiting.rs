//! Events that wait: behind a sink that is busy, and for a server that is away.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{Context, consumer::Info};
use futures_util::future::join_all;
use upcall_bus::conformance::message;
use upcall_bus::{Deadline, SettleErrorKind, SubscribeErrorKind};
use upcall_bus_nats::Options;
use upcall_tests::executable::PATIENCE;
use upcall_tests::nats::{self, NatsCluster, NatsServer};

use crate::harness::{NatsHarness, Servers, connect, in_time, next, publish, subscribed};

/// What the server knows of the consumer, once it has delivered so many events.
async fn delivered(context: &Context, at_least: u64) -> Info {
    let patience = Deadline::after(PATIENCE);
    loop {
        let stream = context.get_stream("UPCALL").await.unwrap();
        let info = stream.consumer_info("c").await.unwrap();
        if info.delivered.stream_sequence >= at_least {
            return info;
        }
        assert!(!patience.has_passed(), "{info:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_behind_a_busy_sink_is_not_delivered_to_another() {
    if nats::is_missing("events that wait behind a busy sink") {
        return;
    }
    let server = NatsServer::start();
    let options = Options { ack_wait: Duration::from_secs(1), ..Options::new(server.url()) };
    let (bus, context) = connect(options.clone()).await;
    bus.provision(&[]).await.unwrap();
    publish(&bus, [1]).await;
    let mut subscription = subscribed(&bus).await;
    let busy = next(&mut *subscription, 1).await.remove(0);
    // They were asked for, and nobody reads them.
    publish(&bus, 2..=20).await;
    delivered(&context, 20).await;
    // Another process would take over whatever the server has lost patience with.
    let (other, _) = connect(options).await;
    let mut others = subscribed(&other).await;
    let came = tokio::time::timeout(Duration::from_secs(4), others.next(1)).await;
    assert!(came.is_err(), "{came:?} came to the other process");
    let info = delivered(&context, 20).await;
    assert_eq!((info.num_redelivered, info.delivered.consumer_sequence), (0, 20), "{info:?}");
    busy.ack().await.unwrap();
    let mut left = 19;
    while left > 0 {
        for delivery in next(&mut *subscription, 7).await {
            assert_eq!(delivery.sequence(), 21 - left);
            delivery.ack().await.unwrap();
            left -= 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_on_three_servers_is_delivered_once() {
    if nats::is_missing("a backlog on three servers") {
        return;
    }
    // Several times what is asked for at once.
    const COUNT: u64 = 2_000;
    let harness = NatsHarness::new(Servers::Three(NatsCluster::start(3))).await;
    let bus = harness.nats();
    publish(bus, 1..=COUNT).await;
    let mut subscription = subscribed(bus).await;
    let mut done = 0;
    while done < COUNT {
        let deliveries = next(&mut *subscription, 500).await;
        done += deliveries.len() as u64;
        for acked in join_all(deliveries.into_iter().map(upcall_bus::Delivery::ack)).await {
            acked.unwrap();
        }
    }
    let context = async_nats::jetstream::new(bus.client().clone());
    let info = delivered(&context, COUNT).await;
    assert_eq!((info.delivered.stream_sequence, info.delivered.consumer_sequence), (COUNT, COUNT), "{info:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_events_are_asked_for_by_their_size() {
    if nats::is_missing("the size of what is asked for") {
        return;
    }
    const COUNT: u64 = 64;
    const BYTES: usize = 500_000;
    let server = NatsServer::start();
    let (bus, context) = connect(Options::new(server.url())).await;
    bus.provision(&[]).await.unwrap();
    for number in 1..=COUNT {
        let mut event = message(number).event.to_binary();
        let mut headers = HeaderMap::new();
        event.headers.iter().for_each(|(name, value)| headers.insert(*name, value.as_str()));
        // White space in JSON means nothing.
        event.data.resize(BYTES, b' ');
        let large = PublishMessage::build().headers(headers).payload(event.data.into());
        context.send_publish("upcall.uploads.a.PutObject", large).await.unwrap().await.unwrap();
    }
    let mut subscription = subscribed(&bus).await;
    let first = next(&mut *subscription, 1).await;
    // Whatever was asked for is on its way before this comes back.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let held = delivered(&context, 1).await.num_ack_pending * BYTES;
    assert!(held <= 17 << 20, "{held} bytes are held for one event that is being delivered");
    let mut taken = first;
    while taken.len() < usize::try_from(COUNT).unwrap() {
        taken.extend(next(&mut *subscription, 16).await);
    }
    let numbers: Vec<_> = taken.iter().map(|delivery| delivery.event().data.size.unwrap()).collect();
    assert_eq!(numbers, (1..=COUNT).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_delivered_while_the_server_is_away() {
    if nats::is_missing("a server that is away") {
        return;
    }
    let server = NatsServer::start();
    let (bus, _) = connect(Options::new(server.url())).await;
    bus.provision(&[]).await.unwrap();
    publish(&bus, 1..=3).await;
    let mut subscription = subscribed(&bus).await;
    let mut taken = Vec::new();
    while taken.len() < 3 {
        taken.extend(next(&mut *subscription, 3).await);
    }
    let (done, untried) = (taken.remove(0), taken.remove(0));
    server.kill();
    let mut link = bus.link();
    in_time(link.wait_for(|link| !link.connected)).await.unwrap();
    let (done, error) = in_time(done.ack()).await.unwrap_err();
    assert_eq!(error.kind, SettleErrorKind::Unavailable);
    untried.hand_back().await.unwrap();
    // What it has at hand could not be settled.
    let error = in_time(subscription.next(1)).await.unwrap_err();
    assert_eq!(error.kind, SubscribeErrorKind::Unavailable);

    server.restart();
    in_time(link.wait_for(|link| link.connected)).await.unwrap();
    let again = next(&mut *subscription, 1).await.remove(0);
    assert_eq!((again.sequence(), again.attempt()), (2, 1));
    // The same offer, once more.
    for mut delivery in [done, again, taken.remove(0)] {
        let patience = Deadline::after(PATIENCE);
        while let Err((unsettled, error)) = in_time(delivery.ack()).await {
            assert!(error.kind == SettleErrorKind::Unavailable && !patience.has_passed(), "{error:?}");
            delivery = unsettled;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    // A server that was killed may have forgotten more than it was told since.
    publish(&bus, [4]).await;
    let mut last = 0;
    while last < 4 {
        for delivery in next(&mut *subscription, 9).await {
            last = delivery.sequence();
            delivery.ack().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_gone_with_its_stream_is_lost_and_not_offered_for_ever() {
    if nats::is_missing("an event that is gone") {
        return;
    }
    let server = NatsServer::start();
    let (bus, context) = connect(Options::new(server.url())).await;
    bus.provision(&[]).await.unwrap();
    publish(&bus, 1..=2).await;
    let mut subscription = subscribed(&bus).await;
    let mut taken = next(&mut *subscription, 2).await;
    while taken.len() < 2 {
        taken.extend(next(&mut *subscription, 1).await);
    }
    context.delete_stream("UPCALL").await.unwrap();
    let (_, error) = in_time(taken.remove(0).ack()).await.unwrap_err();
    assert_eq!(error.kind, SettleErrorKind::Lost, "{error:?}");
    // Also where another consumer has its name by now.
    bus.provision(&[]).await.unwrap();
    drop(tokio::time::timeout(Duration::from_millis(500), subscription.next(1)).await);
    let (_, error) = in_time(taken.remove(0).ack()).await.unwrap_err();
    assert_eq!(error.kind, SettleErrorKind::Lost, "{error:?}");
}
