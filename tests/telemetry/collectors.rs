//! A collector that is gone or hangs changes nothing for a callback.

use std::time::{Duration, Instant};

use upcall_tests::collector::{self, Behaviour, Collector};
use upcall_tests::executable::Running;
use upcall_tests::http::{exchange, get, wait_until};
use upcall_tests::signer::Signer;

/// How long a callback may take: far longer than one does, and far shorter than a collector is waited for.
const LONG: Duration = Duration::from_secs(2);
/// How long the process may take to end: what waits for the collector may take two seconds of it.
const END: Duration = Duration::from_secs(8);

#[test]
fn a_collector_that_refuses_changes_nothing() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for protocol in ["grpc", "http"] {
        check(&collector::configuration(address, protocol));
    }
}

#[test]
fn a_collector_that_hangs_changes_nothing() {
    let collector = Collector::start(Behaviour::Hangs);
    for protocol in ["grpc", "http"] {
        check(&format!("{}timeout = \"1s\"\n", collector.configuration(protocol)));
    }
}

#[track_caller]
fn check(telemetry: &str) {
    let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new());
    let file = crate::serve::configuration(folder.path(), &signer, &format!("{telemetry}sample = 1\n"));
    let mut process = Running::start(&["serve", "-c", file.to_str().unwrap()]);
    let [callbacks, admin] = process.wait_for("line with its addresses", |line| {
        let address = |name: &str| line.split(name).nth(1)?.split_whitespace().next()?.trim_matches('"').parse().ok();
        Some([address("callbacks=")?, address("admin=")?])
    });
    wait_until("the gateway is ready", || get(admin, "/ready").unwrap().status == 200);
    let upload = |number: usize| {
        let request =
            signer.upload("/oss/test", "examplebucket", &format!("{number}.png"), &format!("5CF3E782-{number}"));
        let began = Instant::now();
        assert_eq!(exchange(callbacks, &request).unwrap().status, 200);
        assert!(began.elapsed() < LONG, "it took {:?}", began.elapsed());
    };
    // More than the queue has room for: a callback has several spans.
    (0..200).for_each(&upload);
    // It may have been there before the addresses were.
    let is_told = |line: &&String| line.contains("the collector does not take");
    wait_until("the log has word of the collector", || process.rest().iter().any(|line| is_told(&line)));
    (200..3_000).for_each(upload);
    wait_until("what has no room is counted", || {
        let metrics = get(admin, "/metrics").unwrap().text();
        let dropped =
            metrics.lines().find_map(|line| line.strip_prefix("upcall_telemetry_dropped_total{signal=\"traces\"} "));
        dropped.is_some_and(|dropped| dropped.parse::<u64>().unwrap() > 0)
    });
    let began = Instant::now();
    assert!(process.terminate().success());
    assert!(began.elapsed() < END, "it took {:?} to end", began.elapsed());
    let warnings = process.rest().iter().filter(is_told).count();
    assert_eq!(warnings, 1, "{:?}", process.rest());
}
