//! How far consumers are, as a collector is told.

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use upcall_tests::collector::{Behaviour, Collector, attribute};
use upcall_tests::conservation::sum;
use upcall_tests::http::{exchange, get, wait_until};
use upcall_tests::nats::{NatsServer, is_missing};
use upcall_tests::signer::Signer;

use crate::serve::Served;

/// A gauge of the consumer, as it was told last.
fn told(collector: &Collector, name: &str) -> Option<f64> {
    let kept = collector.kept();
    let metric = kept.metrics.iter().rfind(|metric| metric.item.name == name)?;
    let Some(Data::Gauge(gauge)) = &metric.item.data else { panic!("{metric:?}") };
    let point = gauge.data_points.iter().find(|point| attribute(&point.attributes, "consumer") == Some("stuck"))?;
    match point.value {
        Some(Value::AsDouble(value)) => Some(value),
        _ => panic!("{point:?}"),
    }
}

#[test]
fn how_far_a_consumer_on_nats_is_is_asked_for_the_collector_as_for_a_scraper() {
    if is_missing("the lag of a consumer by OTLP") {
        return;
    }
    let (server, collector, signer) = (NatsServer::start(), Collector::start(Behaviour::Works), Signer::new());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("upcall.toml");
    // Nobody takes the events, and nobody scrapes.
    let text = format!(
        "[gateway]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[bus.nats]\nurl = {:?}\n{}\
         [[route]]\nname = \"test\"\npath = \"/oss/test\"\n\
         [[consumer]]\nname = \"stuck\"\nstart = \"oldest\"\n[consumer.webhook]\nurl = \"http://localhost:1/hook\"\n\
         secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]\nallow_networks = [\"127.0.0.0/8\", \"::1/128\"]\n{}",
        server.url(),
        signer.configuration(),
        collector.configuration("grpc"),
    );
    std::fs::write(&file, text).unwrap();
    let served = Served::start(&file);
    for number in 0..3 {
        let request =
            signer.upload("/oss/test", "examplebucket", &format!("{number}.png"), &format!("5CF3E782-{number}"));
        wait_until("it is taken", || exchange(served.callbacks, &request).unwrap().status == 200);
    }
    wait_until("the collector has the lag", || told(&collector, "upcall_consumer_lag_events") == Some(3.0));
    wait_until("the collector has the age", || {
        told(&collector, "upcall_consumer_oldest_unsettled_age_seconds").is_some_and(|age| age >= 1.0)
    });
    let scraped = get(served.admin, "/metrics").unwrap().text();
    assert_eq!(sum(&scraped, "upcall_consumer_lag_events", &[("consumer", "stuck")]), 3.0);
}
