//! What a collector says, and what is made of it.

use std::time::{Duration, Instant};

use upcall_tests::collector::{Behaviour, Collector};
use upcall_tests::conservation::sum;
use upcall_tests::http::{get, wait_until};

use crate::site::Site;

const PROTOCOLS: [&str; 2] = ["grpc", "http"];

/// What became of telemetry of a kind: what was sent, and what was dropped.
fn counted(site: &Site, signal: &str) -> [f64; 2] {
    let metrics = get(site.gateway.admin, "/metrics").unwrap().text();
    ["sent", "dropped"].map(|what| sum(&metrics, &format!("upcall_telemetry_{what}_total"), &[("signal", signal)]))
}

#[track_caller]
fn wait_for_line(site: &mut Site, expected: &[&str]) {
    wait_until(&format!("the log says {expected:?}"), || {
        let lines = site.gateway.lines();
        lines.iter().any(|line| expected.iter().all(|expected| line.contains(expected)))
    });
}

#[test]
fn a_collector_that_asks_for_time_gets_it() {
    const TIME: Duration = Duration::from_secs(3);
    for protocol in PROTOCOLS {
        let site = Site::with_a_collector(Behaviour::AsksFor(TIME), protocol, "sample = 1\nsignals = [\"traces\"]\n");
        site.upload("a.png", "");
        site.trace_of(|span| span.name == "POST /oss/test");
        let kept = site.collector.kept();
        let [(first, _), (second, _), ..] = kept.requests.as_slice() else { panic!("{:?}", kept.requests) };
        assert!(second.duration_since(*first) >= TIME, "{protocol}: {:?}", second.duration_since(*first));
    }
}

#[test]
fn a_collector_without_room_and_without_a_time_gets_what_comes_next_and_what_it_refuses_is_counted() {
    let mut site = Site::with_a_collector(Behaviour::HasNoRoom, "grpc", "sample = 1\n");
    for number in 0..3 {
        site.upload(&format!("{number}.png"), "");
        wait_until("it is dropped", || counted(&site, "traces")[1] > f64::from(number));
    }
    wait_until("the rest goes on", || counted(&site, "metrics")[0] > 0.0 && counted(&site, "logs")[0] > 0.0);
    assert_eq!(counted(&site, "traces")[0], 0.0);
    wait_for_line(&mut site, &["the collector does not take traces", "dropped and counted"]);
}

#[test]
fn what_a_collector_refuses_of_a_request_is_counted_and_its_reason_is_in_the_log() {
    for protocol in PROTOCOLS {
        let mut site = Site::with_a_collector(Behaviour::RefusesOne, protocol, "sample = 1\n");
        site.upload("a.png", "");
        wait_until("some are sent, and some are not", || {
            let [sent, dropped] = counted(&site, "traces");
            sent >= 2.0 && dropped >= 1.0
        });
        wait_for_line(&mut site, &["it refuses some: old"]);
    }
}

#[test]
fn a_collector_that_fails_for_a_request_again_and_again_gets_the_next_one() {
    for protocol in PROTOCOLS {
        let site = Site::with_a_collector(Behaviour::Fails, protocol, "sample = 1\nsignals = [\"traces\"]\n");
        site.upload("a.png", "");
        wait_until("it is given up", || counted(&site, "traces")[1] >= 1.0);
        assert!(site.collector.kept().requests.len() > 3, "it is tried more than once");
    }
}

#[test]
fn a_web_server_is_no_collector_and_nothing_counts_as_sent() {
    let mut site = Site::with_a_collector(Behaviour::IsAWebServer, "http", "sample = 1\n");
    site.upload("a.png", "");
    for signal in ["traces", "metrics", "logs"] {
        wait_until("it is counted", || counted(&site, signal)[1] >= 1.0);
        assert_eq!(counted(&site, signal)[0], 0.0, "{signal}");
    }
    wait_for_line(&mut site, &["what answers there is no collector", "status 200 OK", "application/json"]);
}

#[test]
fn a_redirect_is_not_followed_and_the_log_says_what_to_do() {
    let elsewhere = Collector::start(Behaviour::Works);
    let mut site = Site::with_a_collector(Behaviour::Redirects(elsewhere.address()), "http", "sample = 1\n");
    let began = Instant::now();
    site.upload("a.png", "");
    wait_for_line(&mut site, &["status 307", "name its own address in `endpoint`"]);
    wait_until("it is dropped", || counted(&site, "traces")[1] >= 1.0);
    assert!(elsewhere.kept().requests.is_empty(), "{:?} after {:?}", elsewhere.kept().requests, began.elapsed());
}
