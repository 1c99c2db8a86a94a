//! Servers that sync each publication: events go in batches.

use std::time::Duration;

use upcall_bus::conformance::message;
use upcall_bus::{Deadline, Publisher};
use upcall_tests::executable::PATIENCE;
use upcall_tests::nats;

use super::rig::{Rig, Setup, WINDOW, expected};

fn setup() -> Setup {
    // Such a server takes a while to get to what was sent.
    Setup { jetstream: "sync_interval: always", window: WINDOW * 4, ..Setup::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_syncs_each_publication_gets_batches_in_order() {
    if nats::is_missing("relaying in batches") {
        return;
    }
    let mut rig = Rig::new(Setup { window: PATIENCE, ..setup() }).await;
    rig.store(0..30_000).await;
    rig.relay().await;
    rig.wait("all is relayed", |status| status.backlog == 0).await;
    assert_eq!(rig.stream().await, expected(0..30_000));
    // How soon, and for how long, depends on how fast the machine is at the moment.
    let mut batched = 0;
    for number in (500..30_000).step_by(500) {
        batched += u32::from(in_batches(&rig, number).await);
    }
    assert!(batched > 0, "all came alone");
    assert!(!in_batches(&rig, 1).await, "the first came in a batch, before anything was measured");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_with_an_event_that_the_stream_has_already_is_sent_one_by_one() {
    if nats::is_missing("batches with known events") {
        return;
    }
    let mut rig = Rig::new(setup()).await;
    rig.change_stream(|config| config.duplicate_window = PATIENCE).await;
    for number in [9_000, 15_500] {
        rig.bus.publish(message(number), Deadline::after(PATIENCE)).await.unwrap();
    }
    rig.store(0..20_000).await;
    rig.relay().await;
    rig.wait("all is relayed", |status| status.backlog == 0).await;
    rig.assert_each_once(0..20_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_larger_than_the_server_takes_stops_no_other() {
    if nats::is_missing("an event too large amid batches") {
        return;
    }
    let mut rig = Rig::new(Setup { window: PATIENCE, ..setup() }).await;
    rig.store(0..20_000).await;
    rig.store_large(20_000, 2 << 20).await;
    rig.store(20_001..30_000).await;
    rig.relay().await;
    rig.wait("all is relayed", |status| status.backlog == 0).await;
    assert_eq!(rig.status().set_aside, 1);
    let others: Vec<_> = [expected(0..20_000), expected(20_001..30_000)].concat();
    assert_eq!(rig.stream().await, others);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_amid_batches_gets_everything_once() {
    if nats::is_missing("killing the server amid batches") {
        return;
    }
    let mut rig = Rig::new(setup()).await;
    rig.store(0..40_000).await;
    rig.relay().await;
    for (done, pause) in [(6_000, Duration::ZERO), (12_000, WINDOW * 6), (20_000, Duration::ZERO)] {
        rig.wait("some is relayed", |status| status.relayed > done).await;
        rig.server.kill();
        rig.wait("it is known", |status| !status.connected).await;
        tokio::time::sleep(pause).await;
        rig.server.launch();
    }
    rig.wait("all is relayed", |status| status.backlog == 0).await;
    rig.assert_each_once(0..40_000).await;
}

/// Whether the event at a sequence of the stream came in a batch.
async fn in_batches(rig: &Rig, sequence: u64) -> bool {
    let stream = rig.jetstream().get_stream("UPCALL").await.unwrap();
    stream.get_raw_message(sequence).await.unwrap().headers.get("Nats-Batch-Id").is_some()
}
