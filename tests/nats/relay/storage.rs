//! Servers that come back with less than they had acknowledged.

use upcall_bus::conformance::message;
use upcall_bus::{Deadline, Publisher};
use upcall_tests::disk::copy_folder;
use upcall_tests::executable::PATIENCE;
use upcall_tests::nats;

use super::rig::{Rig, Setup, WINDOW};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_storage_is_set_back_gets_again_what_it_lost() {
    if nats::is_missing("setting the server's storage back") {
        return;
    }
    let mut rig = Rig::new(Setup::default()).await;
    rig.relay().await;
    rig.store(0..3_000).await;
    rig.wait("the first are relayed", |status| status.relayed == 3_000).await;
    let copy = tempfile::tempdir().unwrap();
    copy_folder(rig.server.store_dir(), copy.path());
    rig.store(3_000..8_000).await;
    rig.wait("all is relayed", |status| status.relayed == 8_000).await;

    rig.server.kill();
    rig.wait("it is known", |status| !status.connected).await;
    std::fs::remove_dir_all(rig.server.store_dir()).unwrap();
    copy_folder(copy.path(), rig.server.store_dir());
    // The ids in the copy are not recognised any more.
    tokio::time::sleep(WINDOW * 2).await;
    rig.server.launch();
    rig.wait("the loss is noticed", |status| status.losses == 1).await;
    rig.store(8_000..8_100).await;
    rig.wait("all is relayed again", |status| status.relayed == 8_100 && status.backlog == 0).await;
    rig.assert_each_once(0..8_100).await;
    assert!(rig.status().resent > 0);
    assert_eq!(rig.floor(), 0, "nothing has left the journal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_is_noticed_though_others_have_filled_its_place() {
    if nats::is_missing("setting the server's storage back, with other publishers") {
        return;
    }
    let mut rig = Rig::new(Setup::default()).await;
    rig.relay().await;
    rig.store(0..100).await;
    rig.wait("the first are relayed", |status| status.relayed == 100).await;
    let copy = tempfile::tempdir().unwrap();
    copy_folder(rig.server.store_dir(), copy.path());
    rig.store(100..200).await;
    rig.wait("all is relayed", |status| status.relayed == 200).await;
    rig.stop_relay().await;

    rig.server.kill();
    std::fs::remove_dir_all(rig.server.store_dir()).unwrap();
    copy_folder(copy.path(), rig.server.store_dir());
    rig.server.restart();
    rig.wait_until_connected().await;
    for number in 200..500 {
        rig.bus.publish(message(number), Deadline::after(PATIENCE)).await.unwrap();
    }
    rig.relay().await;
    rig.wait("the loss is made good", |status| status.losses == 1 && status.backlog == 0).await;
    rig.wait_for_stream(500).await;
    rig.assert_each_once(0..500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_made_anew_gets_everything_that_the_journal_holds() {
    if nats::is_missing("making the stream anew") {
        return;
    }
    let mut rig = Rig::new(Setup::default()).await;
    rig.relay().await;
    rig.store(0..2_000).await;
    rig.wait("all is relayed", |status| status.relayed == 2_000).await;
    rig.jetstream().delete_stream("UPCALL").await.unwrap();
    rig.bus.provision(&[]).await.unwrap();
    rig.wait("the loss is noticed", |status| status.losses == 1).await;
    rig.wait("all is relayed again", |status| status.backlog == 0 && status.resent == 2_000).await;
    rig.assert_each_once(0..2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_has_removed_its_oldest_events_has_lost_nothing() {
    if nats::is_missing("purging the stream") {
        return;
    }
    let mut rig = Rig::new(Setup::default()).await;
    rig.relay().await;
    rig.store(0..1_000).await;
    rig.wait("all is relayed", |status| status.relayed == 1_000).await;
    rig.jetstream().get_stream("UPCALL").await.unwrap().purge().await.unwrap();
    rig.server.restart();
    rig.store(1_000..1_100).await;
    rig.wait("the rest is relayed", |status| status.relayed == 1_100).await;
    rig.assert_each_once(1_000..1_100).await;
    assert_eq!(rig.status().losses, 0);
}
