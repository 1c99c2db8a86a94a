//! What `check` finds, and `provision` mends.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream;
use upcall_bus::conformance::message;
use upcall_bus::{Bus, ConsumerSpec, Deadline, Publisher, Start};
use upcall_bus_nats::examine::Questions;
use upcall_bus_nats::{NatsBus, Options, Severity};
use upcall_tests::executable::PATIENCE;
use upcall_tests::nats::{self, NatsCluster, NatsServer};

use crate::harness::{connect, in_time};

fn catalog() -> ConsumerSpec {
    let filter = "upcall.uploads.a.>".parse().unwrap();
    ConsumerSpec { name: "catalog".parse().unwrap(), filter, start: Start::Oldest }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_configured_wrong_is_found_and_mended_where_it_is() {
    if nats::is_missing("consumers that differ") {
        return;
    }
    let server = NatsServer::start();
    let (bus, context) = connect(Options::new(server.url())).await;
    let consumers = [catalog()];
    bus.provision(&consumers).await.unwrap();
    assert_eq!(bus.check(&consumers).await.unwrap(), []);
    for number in 1..=2 {
        bus.publish(message(number), Deadline::after(PATIENCE)).await.unwrap();
    }
    let mut subscription = in_time(bus.subscribe(&catalog())).await.unwrap();
    let mut taken = in_time(subscription.next(2)).await.unwrap();
    taken.remove(0).ack().await.unwrap();
    drop((taken, subscription));

    let stream = context.get_stream("UPCALL").await.unwrap();
    let good = pull::Config {
        durable_name: Some("catalog".to_owned()),
        filter_subject: "upcall.uploads.a.>".to_owned(),
        ack_wait: Duration::from_secs(30),
        max_deliver: -1,
        max_ack_pending: 4_096,
        max_waiting: 512,
        ..pull::Config::default()
    };
    let several = vec!["upcall.uploads.b.>".to_owned(), "upcall.uploads.c.>".to_owned()];
    let cases = [
        ("headers_only", Some("consumer-headers-only"), pull::Config { headers_only: true, ..good.clone() }),
        ("max_deliver", Some("consumer-gives-up"), pull::Config { max_deliver: 3, ..good.clone() }),
        (
            "selects upcall.uploads.b.>, upcall.uploads.c.>, not upcall.uploads.a.>",
            Some("consumer-filter"),
            pull::Config { filter_subject: String::new(), filter_subjects: several, ..good.clone() },
        ),
        (
            "is deleted when nobody reads it for 3600s",
            Some("consumer-expires"),
            pull::Config { inactive_threshold: Duration::from_secs(3_600), ..good.clone() },
        ),
        ("backoff", None, pull::Config { backoff: vec![Duration::from_secs(1)], ..good.clone() }),
        ("its ack policy is All", Some("consumer-no-ack"), pull::Config { ack_policy: AckPolicy::All, ..good.clone() }),
    ];
    let questions = Questions { consumers: consumers.to_vec(), ..Questions::default() };
    for (problem, kind, wrong) in cases {
        if wrong.ack_policy == AckPolicy::Explicit {
            context.update_consumer_on_stream(wrong, "UPCALL").await.unwrap();
        } else {
            stream.delete_consumer("catalog").await.unwrap();
            stream.create_consumer(wrong).await.unwrap();
        }
        let mut found = bus.check(&consumers).await.unwrap();
        // The server makes the first of `backoff` the `ack_wait`.
        found.retain(|difference| difference.severity > Severity::Differs);
        assert_eq!(found.len(), 1, "{problem}: {found:?}");
        assert_eq!(found[0].what, "consumer catalog of stream UPCALL");
        assert!(found[0].problem.contains(problem) && found[0].severity == Severity::Risky, "{found:?}");
        let findings = bus.examine(&questions).await.unwrap();
        let has = |kind: &str| findings.iter().any(|finding| finding.kind.name == kind);
        assert!(kind.is_none_or(has), "{kind:?} is not among {findings:#?}");

        assert_eq!(bus.provision(&consumers).await.unwrap(), ["mended consumer catalog of stream UPCALL"], "{problem}");
        assert_eq!(bus.check(&consumers).await.unwrap(), [], "{problem}");
        assert_eq!(bus.provision(&consumers).await.unwrap(), [""; 0], "{problem}");
    }
    // What it had settled stays settled but for the one that was made anew by hand, with all.
    let mut subscription = in_time(bus.subscribe(&catalog())).await.unwrap();
    assert_eq!(in_time(subscription.next(1)).await.unwrap()[0].sequence(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_is_mended_where_it_is() {
    if nats::is_missing("consumers that are mended") {
        return;
    }
    let server = NatsServer::start();
    let (bus, context) = connect(Options::new(server.url())).await;
    let consumers = [catalog()];
    bus.provision(&[]).await.unwrap();
    let stream = context.get_stream("UPCALL").await.unwrap();
    let wrong = pull::Config {
        durable_name: Some("catalog".to_owned()),
        filter_subject: "upcall.uploads.a.>".to_owned(),
        ack_policy: AckPolicy::All,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(wrong).await.unwrap();
    for number in 1..=3 {
        let mut message = message(number);
        message.subject = "upcall.uploads.a.PutObject".parse().unwrap();
        bus.publish(message, Deadline::after(PATIENCE)).await.unwrap();
    }
    let mut batch = consumer.fetch().max_messages(2).messages().await.unwrap();
    while let Some(message) = futures_util::StreamExt::next(&mut batch).await {
        message.unwrap().double_ack().await.unwrap();
    }
    bus.provision(&consumers).await.unwrap();
    let mut subscription = in_time(bus.subscribe(&catalog())).await.unwrap();
    assert_eq!(in_time(subscription.next(9)).await.unwrap()[0].sequence(), 3, "it goes on where it was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_can_t_be_read_directly_is_found_and_mended() {
    if nats::is_missing("streams without direct reads") {
        return;
    }
    let server = NatsServer::start();
    let (bus, context) = connect(Options::new(server.url())).await;
    bus.provision(&[]).await.unwrap();
    for name in ["UPCALL", "UPCALL_DEAD"] {
        let good = context.get_stream(name).await.unwrap().cached_info().config.clone();
        context.update_stream(stream::Config { allow_direct: false, ..good.clone() }).await.unwrap();
        let found = bus.check(&[]).await.unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].what.clone(), found[0].severity), (format!("stream {name}"), Severity::Risky));
        assert!(found[0].problem.contains("allow_direct"), "{found:?}");
        assert_eq!(bus.provision(&[]).await.unwrap(), [format!("mended stream {name}")]);
        assert_eq!(bus.check(&[]).await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_with_too_few_replicas_get_them() {
    if nats::is_missing("streams with too few replicas") {
        return;
    }
    let cluster = NatsCluster::start(3);
    let mut options = Options { urls: cluster.urls(), ..Options::new("") };
    let made = async |bus: &NatsBus| {
        let patience = Deadline::after(PATIENCE);
        loop {
            match bus.provision(&[]).await {
                Ok(done) => return done,
                Err(error) => assert!(!patience.has_passed(), "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (bus, _) = connect(options.clone()).await;
    made(&bus).await;
    options.streams.replicas = 3;
    let (bus, _) = connect(options).await;
    let found = bus.check(&[]).await.unwrap();
    assert!(found.iter().any(|found| found.problem == "has 1 replica, not 3" && found.severity == Severity::Risky));
    made(&bus).await;
    assert_eq!(in_time(bus.check(&[])).await.unwrap(), []);
}
