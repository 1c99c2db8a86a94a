//! A power failure of every NATS server at once: what they had not synced is gone, and the journal has it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use upcall_tests::chaos::{Ack, Evidence, Fleet, Load, Oracle, Setup, judge, stored};
use upcall_tests::disk::copy_folder;
use upcall_tests::executable::PATIENCE;
use upcall_tests::http::wait_until;
use upcall_tests::nats;
use upcall_tests::nats::NatsServer;
use upcall_tests::proxy::Link;

use crate::setup;

const PER_SECOND: u32 = 100;
/// How many uploads there are before, and between the copy and the failure: some seconds of them.
const UPLOADS: usize = 300;
/// Far longer than the time from the copy to the failure.
const SYNC_HOLD: Duration = Duration::from_secs(30);

#[test]
fn a_power_failure_of_a_whole_cluster_loses_nothing_with_ack_journal() {
    survives_a_power_failure(3, |_, _| ());
}

#[test]
fn a_power_failure_of_the_only_server_loses_nothing_with_ack_journal() {
    survives_a_power_failure(1, |_, _| ());
}

/// What is synced first is the file system's choice: consumers may remember more than the stream.
#[test]
fn consumers_that_are_ahead_of_their_stream_miss_nothing_with_ack_journal() {
    survives_a_power_failure(1, |stores, copy| {
        let consumers = "jetstream/$G/streams/UPCALL/obs";
        std::fs::remove_dir_all(copy.join(consumers)).unwrap();
        std::fs::rename(stores.join(consumers), copy.join(consumers)).unwrap();
    });
}

/// `also_survives` may take into the copy what the failure left.
fn survives_a_power_failure(servers: usize, also_survives: impl Fn(&Path, &Path)) {
    if nats::is_missing("the power failure") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup { servers, sync_hold: SYNC_HOLD, ..setup(folder.path(), Ack::Journal) };
    let (fleet, oracle) = (Arc::new(Fleet::start(setup).unwrap()), Arc::new(Oracle::new()));
    let load = Load::start(&fleet, &oracle, PER_SECOND);
    let events = || stored(&fleet.urls()).unwrap().len();
    wait_until("events are in the stream", || events() >= UPLOADS);

    let (stores, copy) = (folder.path().join("nats"), folder.path().join("copy"));
    fleet.servers().iter().for_each(NatsServer::stop);
    copy_folder(&stores, &copy);
    fleet.servers().iter().for_each(NatsServer::cont);
    let copied = events();
    wait_until("more events are in the stream", || events() >= copied + UPLOADS);

    let before = events();
    fleet.servers().iter().for_each(NatsServer::kill);
    // So that what came back is counted before anything is sent again.
    let links = || fleet.gateways.iter().flat_map(|gateway| &gateway.links);
    links().for_each(|link| link.set(Link::Cut));
    also_survives(&stores, &copy);
    std::fs::remove_dir_all(&stores).unwrap();
    std::fs::rename(&copy, &stores).unwrap();
    fleet.servers().iter().for_each(NatsServer::launch);
    fleet.servers().iter().for_each(NatsServer::heal);
    let after = events();
    assert!(after < before, "{before} events before the failure and {after} after it: nothing was lost to make good");
    links().for_each(|link| link.set(Link::Whole));

    wait_until("new events are in the stream", || events() >= before + UPLOADS);
    load.stop();
    let evidence = Evidence::gather(&fleet, &oracle, None, PATIENCE).unwrap();
    let findings = judge(&fleet, &oracle, &evidence, &[]).findings;
    if !findings.is_empty() {
        fleet.keep_logs().unwrap();
        panic!("{}\nthe files stay in {}", findings.join("\n"), folder.keep().display());
    }
    let resent: f64 = fleet.gateways.iter().filter_map(|gateway| gateway.process.metric(RESENT)).sum();
    assert!(resent > 0.0, "what came again was not counted");
}

const RESENT: &str = "upcall_relay_resent_events_total";
