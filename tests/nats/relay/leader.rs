//! Streams of which another server becomes the leader.

use upcall_tests::nats;

use super::rig::{Rig, Setup, WINDOW, expected};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_leader_doubles_and_loses_nothing_though_the_stream_has_forgotten_the_ids() {
    if nats::is_missing("changing the leader") {
        return;
    }
    let mut rig = Rig::on_three(Setup::default()).await;
    rig.relay().await;
    rig.store(0..1_000).await;
    rig.wait("all is relayed", |status| status.relayed == 1_000).await;
    for round in 1..4 {
        // What was acknowledged is not recognised by its id any more.
        tokio::time::sleep(WINDOW * 2).await;
        rig.change_leader().await;
        let end = (round + 1) * 1_000;
        rig.store(end - 1_000..end).await;
        let end = usize::try_from(end).unwrap();
        rig.wait("the rest is relayed", |status| status.backlog == 0 && status.fault.is_none()).await;
        rig.wait_for_stream(end).await;
    }
    assert_eq!(rig.stream().await, expected(0..4_000), "each once, in the order of the journal");
    let status = rig.status();
    assert_eq!((status.losses, status.resent, status.set_aside), (0, 0, 0), "nothing was lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_may_change_while_events_flow() {
    if nats::is_missing("changing the leader while events flow") {
        return;
    }
    let mut rig = Rig::on_three(Setup::default()).await;
    rig.relay().await;
    for round in 0..5 {
        rig.store(round * 2_000..(round + 1) * 2_000).await;
        rig.change_leader().await;
    }
    rig.wait_for_stream(10_000).await;
    rig.wait("all is acknowledged", |status| status.backlog == 0).await;
    rig.assert_each_once(0..10_000).await;
    assert_eq!(rig.status().losses, 0);
}
