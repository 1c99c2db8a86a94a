//! What strangers send is exported in bounds, and is in nobody's way.

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use upcall_tests::collector::{Behaviour, attribute};
use upcall_tests::conservation::sum;
use upcall_tests::http::{exchange, get, wait_until};

use crate::site::Site;

/// What collectors take at a time unless they are told otherwise.
const USUAL_MAX: usize = 4 << 20;
/// The longest text of a span.
const TEXT_MAX: usize = 256;

fn longest(attributes: &[KeyValue]) -> usize {
    let text = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.len()),
        _ => None,
    };
    attributes.iter().filter_map(text).max().unwrap_or_default()
}

#[test]
fn methods_and_ids_that_strangers_invent_stop_no_export() {
    for protocol in ["grpc", "http"] {
        let site = Site::with_a_collector(Behaviour::Takes(USUAL_MAX), protocol, "sample = 1\n");
        let long = "A".repeat(15_000);
        for number in 0..700 {
            let request = match number % 2 {
                0 => format!("{long} /oss/test HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"),
                _ => format!(
                    "POST /oss/test HTTP/1.1\r\nhost: x\r\nx-oss-request-id: {long}\r\ncontent-length: 0\r\n\r\n"
                ),
            };
            assert!(exchange(site.gateway.callbacks, request.as_bytes()).unwrap().status >= 400);
        }
        site.upload("genuine.png", "");
        site.trace_of(|span| attribute(&span.attributes, "upcall.outcome") == Some("accepted"));
        let kept = site.collector.kept();
        for span in &kept.spans {
            assert!(span.item.name.len() <= TEXT_MAX && longest(&span.item.attributes) <= TEXT_MAX, "{:?}", span.item);
        }
        let invented = kept.spans.iter().find(|span| span.item.name == "HTTP /oss/test").unwrap();
        assert_eq!(attribute(&invented.item.attributes, "http.request.method"), Some("_OTHER"));
        let dropped = sum(&get(site.gateway.admin, "/metrics").unwrap().text(), "upcall_telemetry_dropped_total", &[]);
        assert_eq!(dropped, 0.0);
    }
}

#[test]
fn a_collector_that_takes_less_than_a_batch_gets_it_in_pieces() {
    const BYTES_MAX: usize = 40 << 10;
    for protocol in ["grpc", "http"] {
        let site = Site::with_a_collector(Behaviour::Takes(BYTES_MAX), protocol, "sample = 1\n");
        for number in 0..300 {
            site.upload(&format!("{number}.png"), "");
        }
        wait_until("every callback is with the collector", || {
            let kept = site.collector.kept();
            kept.spans.iter().filter(|span| span.item.name == "POST /oss/test").count() == 300
        });
        let halved = site.collector.kept().requests.iter().filter(|(_, bytes)| *bytes > BYTES_MAX).count();
        assert!(halved > 0, "nothing was too long");
    }
}
