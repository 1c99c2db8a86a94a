//! Publishing to NATS, and to the journal while NATS does not take events.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use upcall_bus::conformance::message;
use upcall_bus::{Deadline, PublishErrorKind, Publisher, Receipt};
use upcall_relay::{Spill, SpillOptions};
use upcall_tests::nats;

use super::rig::{Rig, Setup, WINDOW};

/// What is left of a callback's time when it is published.
const BUDGET: Duration = Duration::from_secs(2);

fn setup() -> Setup {
    Setup { spilled: true, sync_hold: Duration::ZERO, ..Setup::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_away_the_journal_answers_at_once_and_is_emptied_afterwards() {
    if nats::is_missing("spilling while the server is away") {
        return;
    }
    let mut rig = Rig::new(setup()).await;
    rig.relay().await;
    let spill = Spill::new(rig.bus.clone(), rig.journal.clone(), SpillOptions::default());
    let publish = async |number| spill.publish(message(number), Deadline::after(BUDGET)).await.unwrap();
    for number in 0..10 {
        assert_eq!(publish(number).await, Receipt::Stored);
    }
    assert_eq!(spill.spilled(), 0);
    rig.server.kill();
    rig.wait_until_disconnected().await;
    for number in 10..200 {
        let begun = Instant::now();
        assert_eq!(publish(number).await, Receipt::Spilled);
        assert!(begun.elapsed() < BUDGET / 2, "{:?}", begun.elapsed());
    }
    assert_eq!(spill.spilled(), 190);
    assert_eq!(publish(50).await, Receipt::Duplicate, "it is in the journal");
    rig.wait("the backlog is known", |status| status.backlog == 190 && status.backlog_age.is_some()).await;

    tokio::time::sleep(WINDOW * 2).await;
    rig.server.launch();
    rig.wait_until_connected().await;
    // Reported again meanwhile, by another way.
    assert_ne!(publish(60).await, Receipt::Duplicate);
    rig.wait("the spill is empty", |status| status.backlog == 0 && status.unconfirmed == 0).await;
    rig.assert_each_once(0..200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_delays_nobody_beyond_the_deadline_and_most_not_at_all() {
    if nats::is_missing("spilling while the server hangs") {
        return;
    }
    let mut rig = Rig::new(setup()).await;
    rig.relay().await;
    let spill = Spill::new(rig.bus.clone(), rig.journal.clone(), SpillOptions::default());
    let publish = async |number| {
        let begun = Instant::now();
        spill.publish(message(number), Deadline::after(BUDGET)).await.unwrap();
        begun.elapsed()
    };
    publish(0).await;
    rig.server.stop();
    for took in join_all((1..50).map(publish)).await {
        assert!(took < BUDGET, "{took:?}");
    }
    let took = join_all((50..100).map(publish)).await;
    let at_once = took.iter().filter(|took| **took < BUDGET / 4).count();
    assert!(at_once >= 49, "one at a time finds out whether the server is back: {took:?}");

    tokio::time::sleep(WINDOW * 2).await;
    rig.server.cont();
    rig.wait("the spill is empty", |status| status.backlog == 0 && status.unconfirmed == 0).await;
    rig.wait_for_stream(100).await;
    rig.assert_each_once(0..100).await;
    let spilled = spill.spilled();
    let mut number = 100;
    loop {
        publish(number).await;
        number += 1;
        if spill.spilled() == spilled {
            break;
        }
        assert!(number < 1_000, "it never goes to NATS again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_reached_the_stream_before_it_was_spilled_is_not_stored_again() {
    if nats::is_missing("spilling what the stream has") {
        return;
    }
    let mut rig = Rig::new(setup()).await;
    // As when the stream's answer was lost.
    for number in (0..100).step_by(3) {
        rig.bus.publish(message(number), Deadline::after(BUDGET)).await.unwrap();
    }
    rig.store(0..100).await;
    tokio::time::sleep(WINDOW * 2).await;
    rig.relay().await;
    rig.wait("the spill is empty", |status| status.relayed == 100 && status.unconfirmed == 0).await;
    rig.assert_each_once(0..100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_the_server_refuses_for_good_is_refused_and_not_spilled() {
    if nats::is_missing("refusing instead of spilling") {
        return;
    }
    let rig = Rig::new(setup()).await;
    rig.change_stream(|config| config.max_message_size = 4_096).await;
    let spill = Spill::new(rig.bus.clone(), rig.journal.clone(), SpillOptions::default());
    let mut large = message(1);
    large.event.data.vars.insert("large".to_owned(), "x".repeat(10_000));
    let refused = spill.publish(large, Deadline::after(BUDGET)).await.unwrap_err();
    assert_eq!(refused.kind, PublishErrorKind::Rejected);
    assert_eq!(spill.spilled(), 0);
}
