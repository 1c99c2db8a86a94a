//! A broker that is down, and one that hangs: every callback is answered in time, and what was answered 200 is there.

use std::sync::Arc;
use std::time::Duration;

use upcall_tests::chaos::{Ack, Attempt, Evidence, Fleet, Load, Oracle, Outcome, Setup, judge, send_one};
use upcall_tests::executable::PATIENCE;
use upcall_tests::http::wait_until;
use upcall_tests::nats;
use upcall_tests::nats::NatsServer;

use crate::setup;

const DEADLINE: Duration = Duration::from_millis(1_500);
/// What a busy machine may add: OSS waits half a second longer than our default deadline.
const SLACK: Duration = Duration::from_millis(500);
const PER_SECOND: u32 = 50;
/// Callbacks in one outage: some seconds of them.
const UPLOADS: usize = 200;

/// How a broker fails, and how it comes back.
#[derive(Debug, Clone, Copy)]
enum Outage {
    Down,
    Hanging,
}

impl Outage {
    const ALL: [Self; 2] = [Self::Down, Self::Hanging];

    fn begin(self, server: &NatsServer) {
        match self {
            Self::Down => server.kill(),
            Self::Hanging => server.stop(),
        }
    }

    fn end(self, server: &NatsServer) {
        match self {
            Self::Down => server.heal(),
            Self::Hanging => server.cont(),
        }
    }
}

#[test]
fn without_a_journal_a_broker_that_is_down_or_hangs_means_503_before_the_deadline() {
    if nats::is_missing("the broker that is down") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(Setup { journal: false, ..one_gateway(setup(folder.path(), Ack::Broker)) });
    let (fleet, oracle) = (Arc::new(fleet.unwrap()), Arc::new(Oracle::new()));
    take_one(&fleet, &oracle);
    for outage in Outage::ALL {
        outage.begin(&fleet.servers()[0]);
        for attempt in upload(&fleet, &oracle) {
            let is_right = matches!(&attempt.outcome, Outcome::Answered(503, _)) && attempt.took <= DEADLINE + SLACK;
            assert!(is_right, "{outage:?}: {attempt:?}");
        }
        outage.end(&fleet.servers()[0]);
        take_one(&fleet, &oracle);
    }
}

#[test]
fn with_a_journal_a_broker_that_is_down_or_hangs_means_200_and_the_relay_empties_the_spill() {
    if nats::is_missing("the spill") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let spilling = Setup { sync_hold: Duration::from_secs(1), ..one_gateway(setup(folder.path(), Ack::Broker)) };
    let (fleet, oracle) = (Arc::new(Fleet::start(spilling).unwrap()), Arc::new(Oracle::new()));
    take_one(&fleet, &oracle);
    let gateway = &fleet.gateways[0].process;
    for outage in Outage::ALL {
        let spilled = gateway.metric("upcall_spilled_events_total").unwrap();
        outage.begin(&fleet.servers()[0]);
        for attempt in upload(&fleet, &oracle) {
            assert!(attempt.is_success() && attempt.took <= DEADLINE + SLACK, "{outage:?}: {attempt:?}");
        }
        assert!(gateway.metric("upcall_spilled_events_total").unwrap() > spilled, "{outage:?}: nothing spilled");
        outage.end(&fleet.servers()[0]);
        wait_until("the relay has emptied the spill", || {
            ["upcall_relay_backlog_events", "upcall_relay_unconfirmed_events"]
                .iter()
                .all(|name| gateway.metric(name) == Some(0.0))
        });
    }
    let evidence = Evidence::gather(&fleet, &oracle, None, PATIENCE).unwrap();
    let findings = judge(&fleet, &oracle, &evidence, &[]).findings;
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

/// Sends callbacks at a steady rate, and returns what came of them.
fn upload(fleet: &Arc<Fleet>, oracle: &Arc<Oracle>) -> Vec<Attempt> {
    let begin = oracle.now();
    let load = Load::start(fleet, oracle, PER_SECOND);
    let attempts = || -> Vec<Attempt> {
        oracle.attempts().into_values().flatten().filter(|attempt| attempt.at >= begin).collect()
    };
    wait_until("the callbacks are answered", || attempts().len() >= UPLOADS);
    load.stop();
    attempts()
}

/// Waits until a callback is answered 200.
fn take_one(fleet: &Fleet, oracle: &Oracle) {
    wait_until("a callback is taken", || send_one(fleet, oracle, 0).1.is_success());
}

fn one_gateway(setup: Setup) -> Setup {
    Setup { gateways: 1, deadline: DEADLINE, ..setup }
}
