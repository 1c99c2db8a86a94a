//! Publications while nobody leads the stream, or nobody answers.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use upcall_bus::conformance::message;
use upcall_bus::{Deadline, PublishErrorKind, Publisher, Receipt};
use upcall_bus_nats::{NatsBus, Options};
use upcall_tests::executable::PATIENCE;
use upcall_tests::nats::{self, NatsCluster, NatsOptions, NatsServer};

use crate::harness::{connect, in_time, publish};

/// What a callback has.
const BUDGET: Duration = Duration::from_millis(4_500);
const EVERY: Duration = Duration::from_millis(50);
const COUNT: u32 = 300;
/// When the leader dies.
const KILLED_AT: u32 = 40;

async fn three() -> (NatsCluster, NatsBus, async_nats::jetstream::Context) {
    let jetstream = "sync_interval: always".to_owned();
    let cluster = NatsCluster::start_with(3, &NatsOptions { jetstream, ..NatsOptions::default() });
    let mut options = Options { urls: cluster.urls(), ..Options::new("") };
    options.streams.replicas = 3;
    let (bus, context) = connect(options).await;
    let patience = Deadline::after(PATIENCE);
    while let Err(error) = bus.provision(&[]).await {
        assert!(!patience.has_passed(), "the streams can't be made: {error:?}");
        sleep(Duration::from_millis(100)).await;
    }
    (cluster, bus, context)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_time_left_when_another_server_leads_is_stored() {
    if nats::is_missing("the death of the leader") {
        return;
    }
    let (cluster, bus, context) = three().await;
    publish(&bus, [u64::from(COUNT)]).await;
    let leader = context.get_stream("UPCALL").await.unwrap().cached_info().cluster.clone().unwrap().leader.unwrap();
    let leader = cluster.servers().iter().find(|server| server.name() == leader).unwrap();
    let start = Instant::now();
    let publications: Vec<_> = (0..COUNT)
        .map(|n| {
            let bus = bus.clone();
            tokio::spawn(async move {
                let begun = start + EVERY * n;
                sleep_until(begun).await;
                let published = bus.publish(message(u64::from(n)), Deadline::after(BUDGET)).await;
                (begun, Instant::now(), published)
            })
        })
        .collect();
    sleep_until(start + EVERY * KILLED_AT).await;
    leader.kill();
    let killed_at = Instant::now();
    let mut results = Vec::new();
    for publication in publications {
        results.push(publication.await.unwrap());
    }
    let stored = results.iter().filter(|(.., published)| published.is_ok());
    let led_at =
        stored.filter(|(begun, ended, _)| *begun > killed_at && *ended > killed_at).map(|(_, ended, _)| *ended);
    let led_at = led_at.min().expect("another server leads at last");
    let failed: Vec<_> = results.iter().filter(|(.., published)| published.is_err()).collect();
    println!("{} of {COUNT} failed; another server led after {:?}", failed.len(), led_at - killed_at);
    for (begun, ended, published) in &failed {
        assert!(*ended >= *begun + BUDGET, "it was given up before its deadline: {published:?}");
        assert!(*begun + BUDGET < led_at + Duration::from_secs(1), "there was a leader in time: {published:?}");
    }
    for (.., published) in &results {
        assert!(!matches!(published, Ok(Receipt::Duplicate)), "nobody else sent it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_waits_for_a_server_that_comes_back_and_no_longer_than_its_deadline() {
    if nats::is_missing("publishing to a server that is away") {
        return;
    }
    let server = NatsServer::start();
    let (bus, _) = connect(Options::new(server.url())).await;
    bus.provision(&[]).await.unwrap();
    server.kill();
    in_time(bus.link().wait_for(|link| !link.connected)).await.unwrap();
    let begun = Instant::now();
    let error = bus.publish(message(1), Deadline::after(Duration::from_millis(500))).await.unwrap_err();
    assert_eq!(error.kind, PublishErrorKind::Unavailable, "{error:?}");
    assert!(begun.elapsed() >= Duration::from_millis(500), "it waited");
    let waiting = {
        let bus = bus.clone();
        tokio::spawn(async move { bus.publish(message(2), Deadline::after(PATIENCE)).await })
    };
    server.restart();
    assert_eq!(in_time(waiting).await.unwrap().unwrap(), Receipt::Stored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_gone_is_named_at_the_deadline_and_one_that_comes_takes_the_event() {
    if nats::is_missing("publishing without a stream") {
        return;
    }
    let server = NatsServer::start();
    let (bus, context) = connect(Options::new(server.url())).await;
    bus.provision(&[]).await.unwrap();
    context.delete_stream("UPCALL").await.unwrap();
    let error = bus.publish(message(1), Deadline::after(Duration::from_millis(300))).await.unwrap_err();
    assert_eq!(error.kind, PublishErrorKind::Unavailable);
    assert!(error.source.unwrap().to_string().contains("no stream found"));
    let waiting = {
        let bus = bus.clone();
        tokio::spawn(async move { bus.publish(message(2), Deadline::after(PATIENCE)).await })
    };
    bus.provision(&[]).await.unwrap();
    assert_eq!(in_time(waiting).await.unwrap().unwrap(), Receipt::Stored);
    // A real duplicate still is one.
    assert_eq!(bus.publish(message(2), Deadline::after(PATIENCE)).await.unwrap(), Receipt::Duplicate);
}
