//! A bus on NATS that can crash.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_trait::async_trait;
use tokio::runtime::Runtime;
use upcall_bus::conformance::{Harness, message};
use upcall_bus::{Archive, Bus, ConsumerSpec, Deadline, Delivery, Publisher, Quarantine, Receipt, Start, Subscription};
use upcall_bus_nats::{NatsBus, Options};
use upcall_event::SubjectFilter;
use upcall_tests::executable::PATIENCE;
use upcall_tests::nats::{NatsCluster, NatsServer};

/// What keeps the servers alive for as long as the test runs.
pub(crate) enum Servers {
    One(NatsServer),
    Three(NatsCluster),
}

/// A bus on NATS, with a runtime of its own: what runs on that ends with it, as in a process that is killed.
pub(crate) struct NatsHarness {
    options: Options,
    bus: NatsBus,
    runtime: Option<Runtime>,
    _servers: Servers,
}

impl NatsHarness {
    pub(crate) async fn new(servers: Servers) -> Self {
        let (urls, replicas) = match &servers {
            Servers::One(server) => (vec![server.url()], 1),
            Servers::Three(cluster) => (cluster.urls(), 3),
        };
        let mut options = Options::new("");
        options.urls = urls;
        options.subjects = vec!["upcall.uploads.>".to_owned(), "a.>".to_owned()];
        options.streams.replicas = replicas;
        // What a crash leaves unsettled comes again after this.
        options.ack_wait = Duration::from_secs(1);
        let (runtime, bus) = open(options.clone()).await;
        // A cluster that has just started may still be choosing its leaders.
        let patience = Deadline::after(PATIENCE);
        while let Err(error) = bus.provision(&[]).await {
            assert!(!patience.has_passed(), "the streams can't be made: {error:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // Nor has each server heard yet that the stream takes these subjects: it says then that nobody listens. One that
        // has, refuses what is meant for another stream.
        let context = async_nats::jetstream::new(bus.client().clone());
        loop {
            let probe = PublishMessage::build().expected_stream("ANOTHER");
            let sent = context.send_publish("a.probe", probe).await.expect("it is sent");
            match sent.await {
                Err(error) if error.kind() == PublishErrorKind::StreamNotFound => {}
                _ => break,
            }
            assert!(!patience.has_passed(), "nobody takes events");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { options, bus, runtime: Some(runtime), _servers: servers }
    }

    pub(crate) fn nats(&self) -> &NatsBus {
        &self.bus
    }
}

/// Waits for an answer, under a bound that is never reached unless the bus is at fault.
pub(crate) async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("an answer in time")
}

/// A bus that is connected.
pub(crate) async fn connect(options: Options) -> (NatsBus, Context) {
    let bus = NatsBus::connect(options).await.unwrap();
    in_time(bus.link().wait_for(|link| link.connected)).await.unwrap();
    let context = async_nats::jetstream::new(bus.client().clone());
    (bus, context)
}

/// A subscription of consumer `c`, which gets everything from the first event on.
pub(crate) async fn subscribed(bus: &NatsBus) -> Box<dyn Subscription> {
    let spec = ConsumerSpec { name: "c".parse().unwrap(), filter: SubjectFilter::default(), start: Start::Oldest };
    in_time(bus.subscribe(&spec)).await.unwrap()
}

/// Publishes events that are not there yet.
pub(crate) async fn publish(bus: &NatsBus, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        assert_eq!(bus.publish(message(number), Deadline::after(PATIENCE)).await.unwrap(), Receipt::Stored, "{number}");
    }
}

/// The next deliveries. A consumer that is gone is opened anew, and a server that has just come back may still be choosing
/// who leads.
pub(crate) async fn next(subscription: &mut dyn Subscription, max: usize) -> Vec<Delivery> {
    let patience = Deadline::after(PATIENCE);
    loop {
        match in_time(subscription.next(max)).await {
            Ok(deliveries) => return deliveries,
            Err(error) => assert!(!patience.has_passed(), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The next delivery, in the same way.
pub(crate) async fn next_one(subscription: &mut dyn Subscription) -> Delivery {
    next(subscription, 1).await.remove(0)
}

async fn open(options: Options) -> (Runtime, NatsBus) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let bus = runtime.spawn(NatsBus::connect(options)).await.expect("no panic").expect("good options");
    bus.link().wait_for(|link| link.connected).await.expect("the bus lives");
    (runtime, bus)
}

#[async_trait]
impl Harness for NatsHarness {
    fn bus(&self) -> Arc<dyn Bus> {
        Arc::new(self.bus.clone())
    }

    fn archive(&self) -> Arc<dyn Archive> {
        Arc::new(self.bus.clone())
    }

    fn quarantine(&self) -> Arc<dyn Quarantine> {
        Arc::new(self.bus.clone())
    }

    async fn crash(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        let (runtime, bus) = open(self.options.clone()).await;
        self.runtime = Some(runtime);
        self.bus = bus;
    }
}

impl Drop for NatsHarness {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
