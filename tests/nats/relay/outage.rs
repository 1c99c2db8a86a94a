//! Servers that are away, hang, or have no room.

use std::time::Duration;

use upcall_tests::nats;

use super::rig::{Rig, Setup, WINDOW, expected};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_comes_back_gets_everything_once() {
    if nats::is_missing("killing the server under the relay") {
        return;
    }
    let mut rig = Rig::new(Setup::default()).await;
    rig.store(0..30_000).await;
    rig.relay().await;
    // One outage shorter than the duplicate window, one longer.
    for (done, pause) in [(2_000, Duration::ZERO), (12_000, WINDOW * 3)] {
        rig.wait("some is relayed", |status| status.relayed > done).await;
        rig.server.kill();
        rig.wait("it is known", |status| !status.connected && status.fault.is_some()).await;
        tokio::time::sleep(pause).await;
        rig.server.launch();
    }
    rig.wait("all is relayed", |status| status.backlog == 0 && status.fault.is_none()).await;
    rig.assert_each_once(0..30_000).await;
    assert_eq!(rig.status().relayed, 30_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_for_longer_than_it_recognises_ids_gets_everything_once() {
    if nats::is_missing("halting the server under the relay") {
        return;
    }
    let mut rig = Rig::new(Setup::default()).await;
    rig.store(0..30_000).await;
    rig.relay().await;
    for done in [1_000, 12_000] {
        rig.wait("some is relayed", |status| status.relayed > done).await;
        rig.server.stop();
        rig.wait("it is known", |status| status.fault.is_some()).await;
        tokio::time::sleep(WINDOW * 3).await;
        rig.server.cont();
    }
    rig.wait("all is relayed", |status| status.backlog == 0 && status.fault.is_none()).await;
    rig.assert_each_once(0..30_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_full_gets_the_rest_when_it_has_room() {
    if nats::is_missing("a full stream") {
        return;
    }
    let mut rig = Rig::new(Setup { size_bytes: Some(1 << 20), ..Setup::default() }).await;
    rig.store(0..5_000).await;
    rig.relay().await;
    rig.wait("it is full", |status| status.fault.is_some() && status.relayed > 0).await;
    let status = rig.status();
    assert!(status.backlog > 0 && status.backlog_age.is_some(), "{status:?}");
    tokio::time::sleep(WINDOW * 2).await;
    rig.change_stream(|config| config.max_bytes = -1).await;
    rig.wait("all is relayed", |status| status.backlog == 0 && status.fault.is_none()).await;
    assert_eq!(rig.stream().await, expected(0..5_000));
    assert_eq!(rig.status().backlog_age, None);
}
