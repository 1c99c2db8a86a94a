//! The whole trace of a callback, from HTTP to the row in the database.

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use upcall_tests::collector::attribute;
use upcall_tests::http::{exchange, wait_until};

use crate::site::{PATH, Site};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn a_callback_on_nats_is_one_trace_across_processes() {
    let site = Site::on_nats("broker", "grpc");
    check(&site, &["POST /oss/test", "publish upcall.uploads.", "process catalog", "UPSERT uploads"], "nats");
    let kept = site.collector.kept();
    assert!(
        kept.content_types.iter().all(|content_type| content_type == "application/grpc"),
        "{:?}",
        kept.content_types
    );
}

#[test]
fn a_callback_in_the_journal_that_is_relayed_to_nats_is_one_trace_across_processes() {
    let site = Site::on_nats("journal", "http");
    check(&site, &["POST /oss/test", "publish upcall.uploads.", "process catalog", "UPSERT uploads"], "upcall_journal");
    let trace = site.trace_of(|span| span.name.starts_with("relay "));
    trace.check_chain(&["publish upcall.uploads.", "relay upcall.uploads."]);
    assert_eq!(attribute(&trace.span("relay ").item.attributes, "messaging.system"), Some("nats"));
    let kept = site.collector.kept();
    assert!(kept.content_types.iter().all(|content_type| content_type == "application/x-protobuf"));
}

#[test]
fn a_callback_in_the_journal_of_one_process_is_one_trace() {
    let mut site = Site::on_the_journal("http", "sample = 1\n");
    site.upload("a.png", "");
    site.wait_for_row("a.png");
    let trace = site.trace_of(|span| span.name == "process catalog");
    trace.check_chain(&["POST /oss/test", "publish upcall.uploads.", "process catalog", "UPSERT uploads"]);
    // What waits is sent before the process ends.
    site.upload("b.png", "");
    site.end();
    let last = site.collector.kept().spans.iter().filter(|span| span.item.name == "POST /oss/test").count();
    assert_eq!(last, 2);
}

/// Uploads, and looks at everything that the collector gets.
#[track_caller]
fn check(site: &Site, chain: &[&str], system: &str) {
    site.upload("a.png", &format!("traceparent: {PARENT}\r\n"));
    site.wait_for_row("a.png");
    let trace_id = site.trace_of(|span| span.name == "UPSERT uploads").0[0].item.trace_id.clone();
    wait_until("every span is there", || {
        let spans = site.spans(&trace_id);
        ["POST /oss/test", "verify", "respond"]
            .iter()
            .chain(chain)
            .all(|name| spans.iter().any(|span| span.item.name.starts_with(name)))
    });
    let trace = crate::site::Trace(site.spans(&trace_id));
    trace.check_chain(chain);
    trace.check_chain(&["POST /oss/test", "verify"]);
    trace.check_chain(&["POST /oss/test", "respond"]);

    let server = &trace.span("POST /oss/test");
    assert!(server.item.parent_span_id.is_empty(), "nobody is believed who begins a trace elsewhere");
    assert_ne!(server.item.trace_id[..2], [0x0a, 0xf7]);
    let kind = |name: &str| SpanKind::try_from(trace.span(name).item.kind).unwrap();
    assert_eq!(kind("POST /oss/test"), SpanKind::Server);
    assert_eq!(kind("publish "), SpanKind::Producer);
    assert_eq!(kind("process "), SpanKind::Consumer);
    assert_eq!(kind("UPSERT "), SpanKind::Client);
    let said = |span: &str, name: &str| attribute(&trace.span(span).item.attributes, name).map(str::to_owned);
    assert_eq!(said("POST /oss/test", "upcall.outcome").as_deref(), Some("accepted"));
    assert_eq!(said("POST /oss/test", "upcall.request_id").as_deref(), Some("5CF3E7821AB22D0FDB86704D"));
    assert_eq!(said("publish ", "messaging.system").as_deref(), Some(system));
    assert_eq!(said("publish ", "messaging.operation.type").as_deref(), Some("send"));
    let destination = said("publish ", "messaging.destination.name");
    assert!(destination.is_some_and(|subject| subject.starts_with("upcall.uploads.examplebucket")));
    assert_eq!(said("process ", "messaging.operation.type").as_deref(), Some("process"));
    assert_eq!(said("process ", "messaging.consumer.group.name").as_deref(), Some("catalog"));
    assert_eq!(said("process ", "upcall.outcome").as_deref(), Some("done"));
    assert_eq!(said("process ", "messaging.message.id"), said("publish ", "messaging.message.id"));
    assert_eq!(said("UPSERT ", "db.system.name").as_deref(), Some("sqlite"));
    let process = |span: &str, name: &str| trace.span(span).resource.get(name).cloned();
    assert_eq!(process("publish ", "service.name").as_deref(), Some("gateway"));
    assert_eq!(process("UPSERT ", "service.name").as_deref(), Some("consumers"));
    assert_ne!(process("publish ", "service.instance.id"), process("UPSERT ", "service.instance.id"));
    check_lines_and_metrics(site);
}

/// A refusal's line has the trace that it belongs to, and what was counted comes to the collector.
fn check_lines_and_metrics(site: &Site) {
    let mut request = site.signer.upload(PATH, "examplebucket", "refused.png", "5CF3E782-refused");
    *request.last_mut().unwrap() ^= 1;
    assert_eq!(exchange(site.gateway.callbacks, &request).unwrap().error_code(), "signature_mismatch");
    let refused = site.trace_of(|span| attribute(&span.attributes, "upcall.outcome") == Some("signature_mismatch"));
    let span = refused.span("POST /oss/test").item.clone();
    wait_until("the line is with the collector", || {
        let kept = site.collector.kept();
        let line = kept.lines.iter().find(|line| line.item.span_id == span.span_id);
        line.is_some_and(|line| {
            line.item.trace_id == span.trace_id
                && attribute(&line.item.attributes, "request_id") == Some("5CF3E7821AB22D0FDB86704D")
        })
    });
    wait_until("the metrics are with the collector", || {
        let kept = site.collector.kept();
        let mut accepted =
            kept.metrics.iter().filter(|metric| metric.item.name == "upcall_callbacks").flat_map(|metric| {
                let Some(Data::Sum(sum)) = &metric.item.data else { panic!("{metric:?}") };
                sum.data_points.clone()
            });
        accepted.any(|point| attribute(&point.attributes, "outcome") == Some("accepted"))
    });
    let kept = site.collector.kept();
    assert!(kept.keys.iter().all(|key| *key == std::env::var("PATH").unwrap()), "every request has the header");
    assert!(kept.metrics.iter().any(|metric| metric.item.name == "upcall_callback_stage_duration_seconds"));
}

#[test]
fn a_trace_is_gone_on_with_where_who_began_it_is_believed() {
    let site = Site::on_the_journal("http", "sample = 0\nparents_from = [\"127.0.0.1/32\"]\n");
    site.upload("recorded.png", &format!("traceparent: {PARENT}\r\ntracestate: vendor=1\r\n"));
    let trace = site.trace_of(|span| span.name == "POST /oss/test");
    let span = &trace.span("POST /oss/test").item;
    assert_eq!((hex(&span.trace_id).as_str(), hex(&span.parent_span_id).as_str()), (&PARENT[3..35], &PARENT[36..52]));
    let stored = site.stored("recorded.png");
    let parent = stored["traceparent"].as_str().unwrap();
    assert!(parent.starts_with(&PARENT[..35]) && parent.ends_with("-01") && parent != PARENT, "{stored}");
    assert_eq!(stored["tracestate"], "vendor=1");

    // Who does not record says so, and who says nothing leaves it to us.
    let unrecorded = PARENT.replace("-01", "-00");
    site.upload("unrecorded.png", &format!("traceparent: {unrecorded}\r\n"));
    assert_eq!(site.stored("unrecorded.png")["traceparent"].as_str(), Some(unrecorded.as_str()));
    site.upload("ours.png", "traceparent: 00-nonsense\r\n");
    assert_eq!(site.stored("ours.png")["traceparent"], serde_json::Value::Null, "nothing is stored for most events");
}

#[test]
fn readers_of_a_stream_are_told_that_a_trace_is_not_recorded() {
    for ack in ["broker", "journal"] {
        let site = Site::sampled_on_nats(ack, "grpc", 0);
        site.upload("a.png", "");
        site.wait_for_row("a.png");
        let stored = site.stored("a.png");
        let parent = stored["traceparent"].as_str().unwrap();
        assert_eq!((&parent[3..35], &parent[52..]), (stored["id"].as_str().unwrap(), "-00"), "its ids are the event's");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
