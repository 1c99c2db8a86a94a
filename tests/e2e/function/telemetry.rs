//! Telemetry of an instance, which is frozen as soon as it has answered.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use upcall_tests::collector::{self, Behaviour, Collector, attribute};
use upcall_tests::http::{exchange, wait_until};
use upcall_tests::nats::{NatsServer, is_missing};
use upcall_tests::proxy::{Link, Proxy};

use super::events::{EVENTS, NOTIFIED, of_oss};
use super::{Instance, with_headers};

const PROTOCOLS: [&str; 2] = ["grpc", "http"];
const REQUEST_ID: &str = "5CF3E7821AB22D0FDB86704D";
/// How long an answer waits for the collector.
const FLUSH_TIME: Duration = Duration::from_millis(300);
/// How long an answer may take where the collector hangs: far less than OSS waits.
const LONG: Duration = Duration::from_secs(2);
/// How many callbacks an instance takes at a time in a test.
const AT_A_TIME: usize = 20;
/// Longer than an unused connection is trusted, and than nobody waits for a collector that was away once.
const FROZEN: Duration = Duration::from_secs(5);

/// Every trace is recorded, and metrics are sent when the process starts, and then in an hour.
fn telemetry(collector: SocketAddr, protocol: &str) -> String {
    let configuration = collector::configuration(collector, protocol);
    format!("{}sample = 1\n", configuration.replace("metrics_interval = \"1s\"", "metrics_interval = \"1h\""))
}

impl Instance {
    /// Sends a callback, and freezes as soon as it is answered.
    fn answer_and_freeze(&mut self, object: &str, request_id: &str) {
        let answer = self.pass_on(&self.callback(object, request_id), "/http-invoke");
        self.signal("-STOP");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// The names of each trace's spans, as they came.
fn traces(collector: &Collector) -> Vec<Vec<String>> {
    let kept = collector.kept();
    let mut traces: Vec<(Vec<u8>, Vec<String>)> = Vec::new();
    for span in kept.spans.iter().map(|span| &span.item) {
        let name = span.name.clone();
        match traces.iter_mut().find(|(id, _)| *id == span.trace_id) {
            Some((_, names)) => names.push(name),
            None => traces.push((span.trace_id.clone(), vec![name])),
        }
    }
    traces.into_iter().map(|(_, names)| names).collect()
}

#[track_caller]
fn check_traces(collector: &Collector, number: usize) {
    let traces = traces(collector);
    assert_eq!(traces.len(), number, "{traces:?}");
    for names in traces {
        for expected in ["verify", "respond", "publish ", "POST /oss/test"] {
            assert!(names.iter().any(|name| name.starts_with(expected)), "{expected} in {names:?}");
        }
    }
}

#[test]
fn the_trace_of_a_callback_is_with_the_collector_before_it_is_answered() {
    if is_missing("an instance that exports traces") {
        return;
    }
    for protocol in PROTOCOLS {
        let (server, collector) = (NatsServer::start(), Collector::start(Behaviour::Works));
        let mut instance = Instance::start(server.address(), "", &telemetry(collector.address(), protocol));
        instance.answer_and_freeze("a.png", REQUEST_ID);
        check_traces(&collector, 1);
        instance.signal("-CONT");
        instance.answer_and_freeze("b.png", "5CF3E7821AB22D0FDB86704E");
        check_traces(&collector, 2);
        instance.signal("-CONT");
    }
}

#[test]
fn what_is_logged_of_a_rejected_callback_is_with_the_collector_before_it_is_answered() {
    if is_missing("an instance that exports log lines") {
        return;
    }
    let (server, collector) = (NatsServer::start(), Collector::start(Behaviour::Works));
    let mut instance = Instance::start(server.address(), "", &telemetry(collector.address(), "grpc"));
    let mut request = instance.callback("a.png", REQUEST_ID);
    *request.last_mut().unwrap() = b'E';
    let answer = instance.pass_on(&request, "/http-invoke");
    instance.signal("-STOP");
    assert_eq!(answer.error_code(), "signature_mismatch");
    let kept = collector.kept();
    let outcome = kept.spans.iter().find_map(|span| attribute(&span.item.attributes, "upcall.outcome"));
    assert_eq!(outcome, Some("signature_mismatch"));
    let has_line = kept.lines.iter().any(|line| attribute(&line.item.attributes, "request_id") == Some(REQUEST_ID));
    assert!(has_line, "{:?}", kept.lines);
    drop(kept);
    instance.signal("-CONT");
}

#[test]
fn the_trace_of_a_notification_is_with_the_collector_before_it_is_answered() {
    if is_missing("an instance that exports traces of notifications") {
        return;
    }
    let (server, collector) = (NatsServer::start(), Collector::start(Behaviour::Works));
    let route = format!("{NOTIFIED}\n{}", telemetry(collector.address(), "grpc"));
    let mut instance = Instance::start(server.address(), EVENTS, &route);
    let answer = instance.invoke(&of_oss("examplebucket", "a.png", REQUEST_ID));
    instance.signal("-STOP");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let traces = traces(&collector);
    assert!(traces.iter().flatten().any(|name| name.starts_with("publish ")), "{traces:?}");
    instance.signal("-CONT");
}

#[test]
fn what_was_counted_is_with_the_collector_before_an_instance_is_frozen_or_ends() {
    if is_missing("an instance that exports metrics") {
        return;
    }
    for (protocol, last) in [("grpc", "/pre-freeze"), ("http", "/pre-stop")] {
        let (server, collector) = (NatsServer::start(), Collector::start(Behaviour::Works));
        let mut instance = Instance::start(server.address(), "", &telemetry(collector.address(), protocol));
        let answer = instance.pass_on(&instance.callback("a.png", REQUEST_ID), "/http-invoke");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(instance.control(last).status, 200);
        instance.signal("-STOP");
        let kept = collector.kept();
        let counts = kept.metrics.iter().rfind(|metric| metric.item.name == "upcall_callbacks").unwrap();
        let Some(Data::Sum(sum)) = &counts.item.data else { panic!("{counts:?}") };
        let accepted = sum.data_points.iter().find(|point| attribute(&point.attributes, "outcome") == Some("accepted"));
        assert_eq!(accepted.unwrap().value, Some(Value::AsDouble(1.0)), "{last}");
        drop(kept);
        instance.signal("-CONT");
    }
}

#[test]
fn a_collector_that_hangs_costs_one_wait_and_not_one_for_each_callback() {
    if is_missing("an instance whose collector hangs") {
        return;
    }
    for protocol in PROTOCOLS {
        let (server, collector) = (NatsServer::start(), Collector::start(Behaviour::Hangs));
        let mut instance = Instance::start(server.address(), "", &telemetry(collector.address(), protocol));
        let took: Vec<Duration> = (0..20)
            .map(|number| {
                let callback = instance.callback(&format!("{number}.png"), &format!("5CF3E7821AB22D0F{number:08X}"));
                let began = Instant::now();
                assert_eq!(instance.pass_on(&callback, "/http-invoke").status, 200);
                began.elapsed()
            })
            .collect();
        assert!(took.iter().all(|took| *took < LONG), "{protocol}: {took:?}");
        let waited = took.iter().filter(|took| **took >= FLUSH_TIME).count();
        assert!((1..10).contains(&waited), "{protocol}: {took:?}");
        assert!(took[0] >= FLUSH_TIME, "the first waits: {protocol}: {took:?}");
    }
}

#[test]
fn callbacks_that_are_answered_at_a_time_share_a_request_to_the_collector() {
    if is_missing("an instance with a slow collector") {
        return;
    }
    let server = NatsServer::start();
    let collector = Collector::start(Behaviour::Slow(FLUSH_TIME / 6));
    let instance = Instance::start(server.address(), "", &telemetry(collector.address(), "grpc"));
    std::thread::scope(|scope| {
        for number in 0..AT_A_TIME {
            let request = instance.callback(&format!("{number}.png"), &format!("5CF3E7821AB22D0F{number:08X}"));
            let address = instance.address;
            scope.spawn(move || {
                let answer = exchange(address, &with_headers(&request, "/http-invoke")).unwrap();
                assert_eq!(answer.status, 200, "{}", answer.text());
            });
        }
    });
    wait_until("every trace is with the collector", || traces(&collector).len() == AT_A_TIME);
    let requests = collector.kept().span_requests;
    assert!(requests <= AT_A_TIME / 2, "{requests}");
}

#[test]
fn a_connection_to_the_collector_that_died_while_the_instance_was_frozen_is_not_used() {
    if is_missing("an instance whose connection to the collector is half open") {
        return;
    }
    for protocol in PROTOCOLS {
        let (server, collector) = (NatsServer::start(), Collector::start(Behaviour::Works));
        let proxy = Proxy::start(collector.address());
        let mut instance = Instance::start(server.address(), "", &telemetry(proxy.address(), protocol));
        instance.answer_and_freeze("a.png", REQUEST_ID);
        check_traces(&collector, 1);
        proxy.set(Link::HalfOpen);
        std::thread::sleep(FROZEN);
        proxy.set(Link::Whole);
        instance.signal("-CONT");
        instance.answer_and_freeze("b.png", "5CF3E7821AB22D0FDB86704E");
        check_traces(&collector, 2);
        instance.signal("-CONT");
    }
}

#[test]
fn what_could_not_be_sent_before_an_instance_was_frozen_is_sent_with_its_next_callback() {
    if is_missing("an instance whose collector is away until it is thawed") {
        return;
    }
    for protocol in PROTOCOLS {
        let (server, collector) = (NatsServer::start(), Collector::start(Behaviour::Works));
        let proxy = Proxy::start(collector.address());
        let mut instance = Instance::start(server.address(), "", &telemetry(proxy.address(), protocol));
        proxy.set(Link::Blackhole);
        instance.answer_and_freeze("a.png", REQUEST_ID);
        check_traces(&collector, 0);
        proxy.set(Link::Cut);
        // Until a collector is waited for again.
        std::thread::sleep(FROZEN);
        proxy.set(Link::Whole);
        instance.signal("-CONT");
        instance.answer_and_freeze("b.png", "5CF3E7821AB22D0FDB86704E");
        check_traces(&collector, 2);
        instance.signal("-CONT");
    }
}
