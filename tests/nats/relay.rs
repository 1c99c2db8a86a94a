//! From the journal to the stream: every event once, whatever happens to the server and to the relay.

mod batches;
mod leader;
mod outage;
mod rig;
mod spill;
mod storage;

use std::time::Duration;

use rig::{Rig, Setup, WINDOW, expected};
use upcall_bus_journal::Reader;
use upcall_tests::nats;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_events_arrive_once_and_in_order() {
    if nats::is_missing("relaying in order") {
        return;
    }
    let mut rig = Rig::new(Setup::default()).await;
    rig.store(0..10_000).await;
    rig.relay().await;
    rig.store(10_000..20_000).await;
    rig.wait("all is relayed", |status| status.relayed == 20_000 && status.backlog == 0).await;
    assert_eq!(rig.stream().await, expected(0..20_000), "in the order of the journal");
    let status = rig.status();
    assert_eq!((status.fault, status.set_aside, status.losses), (None, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_stays_in_the_journal_until_the_stream_has_held_it_long_enough() {
    if nats::is_missing("confirming") {
        return;
    }
    let mut rig = Rig::new(Setup { sync_hold: Duration::from_secs(3), ..Setup::default() }).await;
    rig.store(0..100).await;
    rig.relay().await;
    rig.wait("all is relayed", |status| status.relayed == 100).await;
    let relayed = std::time::Instant::now();
    rig.wait("it is unconfirmed", |status| status.unconfirmed == 100).await;
    rig.wait("it is confirmed", |status| status.unconfirmed == 0).await;
    assert!(relayed.elapsed() > Duration::from_secs(2), "after {:?}", relayed.elapsed());
    assert_eq!(rig.floor(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_run_again_sends_nothing_twice_though_the_stream_has_forgotten_the_ids() {
    if nats::is_missing("restarting the relay") {
        return;
    }
    let mut rig = Rig::new(Setup::default()).await;
    rig.store(0..5_000).await;
    rig.relay().await;
    rig.wait("all is relayed", |status| status.relayed == 5_000).await;
    for kill in [false, true] {
        if kill {
            rig.kill_relay().await;
        } else {
            rig.stop_relay().await;
        }
        tokio::time::sleep(WINDOW * 2).await;
        rig.relay().await;
        let more = if kill { 5_010..5_020 } else { 5_000..5_010 };
        rig.store(more.clone()).await;
        // What was relayed before the end, and is found again, counts, too: the stream tells when the rest is there.
        rig.wait_for_stream(more.end.try_into().unwrap()).await;
        rig.wait("the rest is relayed", |status| status.backlog == 0 && status.relayed >= 10).await;
        assert_eq!(rig.stream().await, expected(0..more.end));
    }
    // Without its own word of how far it was, it looks.
    rig.stop_relay().await;
    std::fs::remove_file(rig.folder().join("relay.json")).unwrap();
    tokio::time::sleep(WINDOW * 2).await;
    rig.relay().await;
    rig.wait("all is found", |status| status.backlog == 0 && status.relayed == 5_020).await;
    assert_eq!(rig.stream().await, expected(0..5_020));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_is_restored_from_a_backup_puts_nothing_into_the_stream_twice() {
    if nats::is_missing("relaying a restored journal") {
        return;
    }
    let mut rig = Rig::new(Setup::default()).await;
    rig.store(0..1_000).await;
    rig.relay().await;
    rig.wait("some is relayed", |status| status.relayed > 100).await;
    let backups = tempfile::tempdir().unwrap();
    Reader::open(rig.folder()).unwrap().back_up(&backups.path().join("one")).unwrap();
    rig.store(1_000..2_000).await;
    rig.wait("all is relayed", |status| status.relayed == 2_000).await;
    tokio::time::sleep(WINDOW * 2).await;
    rig.restore(&backups.path().join("one")).await;
    rig.relay().await;
    // In the places of events that the backup did not have.
    rig.store(2_000..2_100).await;
    rig.wait("all is found or relayed", |status| status.backlog == 0 && status.relayed == 1_100).await;
    rig.assert_each_once(0..2_100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_killed_at_work_sends_nothing_twice_and_passes_nothing_over() {
    if nats::is_missing("killing the relay") {
        return;
    }
    let mut rig = Rig::new(Setup::default()).await;
    rig.store(0..20_000).await;
    for part in 1..=4 {
        rig.relay().await;
        rig.wait("some is relayed", |status| status.relayed > 1_000 || status.backlog == 0).await;
        rig.kill_relay().await;
        if part % 2 == 0 {
            tokio::time::sleep(WINDOW * 2).await;
        }
    }
    rig.relay().await;
    rig.wait("all is relayed", |status| status.backlog == 0).await;
    rig.assert_each_once(0..20_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_the_server_refuses_for_good_holds_nothing_up_and_goes_when_it_may() {
    if nats::is_missing("setting aside") {
        return;
    }
    let mut rig = Rig::new(Setup::default()).await;
    rig.change_stream(|config| config.max_message_size = 4_096).await;
    rig.store(0..10).await;
    rig.store_large(10, 10_000).await;
    rig.store(11..20).await;
    rig.relay().await;
    rig.wait("the others are relayed", |status| status.backlog == 0 && status.set_aside == 1).await;
    let others: Vec<_> = expected(0..20).into_iter().filter(|id| *id != expected(10..11)[0]).collect();
    assert_eq!(rig.stream().await, others);
    let files = std::fs::read_dir(rig.folder().join("set-aside")).unwrap();
    let kept: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(kept, [format!("{}.json", expected(10..11)[0])]);

    rig.stop_relay().await;
    rig.change_stream(|config| config.max_message_size = -1).await;
    rig.relay().await;
    rig.wait_for_stream(20).await;
    rig.wait("nothing is set aside", |status| status.set_aside == 0).await;
    rig.assert_each_once(0..20).await;
    assert_eq!(std::fs::read_dir(rig.folder().join("set-aside")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_whose_subject_the_stream_does_not_capture_any_more_hold_nothing_up_and_go_when_it_does() {
    if nats::is_missing("setting aside what is not captured") {
        return;
    }
    let mut rig = Rig::new(Setup::default()).await;
    // As before the configuration named another subject, and the stream was made anew.
    rig.store_on("before.uploads", 0..200).await;
    rig.store(200..1_000).await;
    rig.relay().await;
    rig.wait("the others are relayed", |status| status.backlog == 0 && status.set_aside == 200).await;
    assert_eq!(rig.status().fault, None);
    assert_eq!(rig.stream().await, expected(200..1_000));

    rig.stop_relay().await;
    rig.change_stream(|config| config.subjects.push("before.>".to_owned())).await;
    rig.relay().await;
    rig.wait_for_stream(1_000).await;
    rig.wait("nothing is set aside", |status| status.set_aside == 0).await;
    rig.assert_each_once(0..1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_without_a_server_says_which_one_it_waits_for() {
    if nats::is_missing("the relay's words") {
        return;
    }
    let mut rig = Rig::new(Setup::default()).await;
    let address = rig.server.address().to_string();
    rig.server.kill();
    rig.wait_until_disconnected().await;
    rig.store(0..3).await;
    rig.relay().await;
    let names_it = |status: &upcall_relay::RelayStatus| status.fault.as_ref().is_some_and(|why| why.contains(&address));
    rig.wait("it is named", names_it).await;
    rig.wait("it is said what is wrong", |status| status.fault.as_ref().is_some_and(|why| why.contains("refused")))
        .await;
}
